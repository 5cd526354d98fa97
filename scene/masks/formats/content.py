# SPDX-License-Identifier: Apache-2.0
"""What one mask file holds, before anybody decides what its numbers mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from scene.masks.records import MaskLayers
from utils.images import resize_id_map

Numbers = NDArray[np.int64]
_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class IdPixels:
    """A map [H, W] of K different numbers as R runs of equal pixels, row after row.

    Id maps have few runs: this is some hundred times smaller than the map, and quick to renumber.
    """

    width: int
    height: int
    values: Numbers  # [K] ascending
    areas: Numbers  # [K] pixels of each
    which: NDArray[np.unsignedinteger]  # [R] positions in `values`, of the narrowest type
    length: NDArray[np.int32]  # [R]

    @classmethod
    def from_map(cls, numbers: NDArray[np.generic]) -> IdPixels:
        """From whole numbers [H, W]."""
        flat = numbers.ravel()
        start = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        length = np.diff(start, append=flat.size)
        values, which = np.unique(flat[start], return_inverse=True)
        if values.dtype == np.uint64:  # numbers that nobody can mean stay large and positive
            values = np.minimum(values, np.uint64(2**63 - 1))
        areas = np.bincount(which, length, minlength=len(values)).astype(np.int64)
        narrow = which.astype(np.min_scalar_type(len(values)))
        height, width = numbers.shape
        return cls(width, height, values.astype(np.int64), areas, narrow, length.astype(np.int32))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height

    def renumbered(self, numbers: NDArray[_Number], width: int, height: int) -> NDArray[_Number]:
        """The map at a size, by the nearest pixel, with numbers [K] in the place of `values`."""
        dense = np.repeat(numbers[self.which], self.length).reshape(self.height, self.width)
        return resize_id_map(dense, width, height)

    def map(self) -> Numbers:
        """The numbers themselves, [H, W] int64."""
        return self.renumbered(self.values, *self.size)


@dataclass(frozen=True, eq=False)
class MaskContent:
    """One file's masks: a map of numbers, or layers that may overlap.

    coding says what the numbers are: "ids" mean the same in all views, "colors" are 0xRRGGBB and
    do so too, "view" counts the masks of this view and means nothing in another.
    """

    pixels: IdPixels | None
    layers: MaskLayers | None
    coding: str  # ids | colors | view
    palette: NDArray[np.uint8] | None = None  # [K, 3] colours that the file gives its numbers

    @classmethod
    def of_map(cls, numbers: NDArray[np.generic], coding: str = "ids") -> MaskContent:
        """A map of whole numbers [H, W]."""
        return cls(IdPixels.from_map(numbers), None, coding)

    @classmethod
    def of_layers(cls, layers: MaskLayers, coding: str) -> MaskContent:
        """Masks that may overlap."""
        return cls(None, layers, coding)

    def flat(self, rule: str = "small") -> IdPixels:
        """One number for each pixel: where masks overlap, `rule` of MaskLayers.to_label_map."""
        if self.pixels is not None:
            return self.pixels
        assert self.layers is not None
        counted = np.arange(1, len(self.layers) + 1) if self.coding == "view" else None
        return IdPixels.from_map(self.layers.to_label_map(rule, counted))

    def as_layers(self) -> MaskLayers:
        """The masks as layers; a map has one for each id."""
        if self.layers is not None:
            return self.layers
        assert self.pixels is not None
        return MaskLayers.from_label_map(self.pixels.map())
