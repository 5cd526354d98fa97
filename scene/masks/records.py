# SPDX-License-Identifier: Apache-2.0
"""The masks of one view in memory: one id for each pixel, or a pile of masks that may overlap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from utils.images import nearest_positions

NO_TARGET = -1  # the label of a pixel of which nothing is known: it enters no loss and no score
LARGEST_ID = 2**31 - 1
RULES = ("small", "score")  # which of several masks owns a pixel
_BITS = np.array([value.bit_count() for value in range(256)], np.uint8)

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class InstanceMasks:
    """All masks of one view in one map."""

    label_map: NDArray[np.int32]  # [H, W], 0 = no instance, -1 = no target here
    ids: tuple[int, ...]  # those present, ascending, without 0 and -1

    @classmethod
    def from_label_map(cls, label_map: NDArray[np.int32]) -> InstanceMasks:
        """Masks of a map, with its ids looked up."""
        return cls(label_map=label_map, ids=present_ids(label_map))


def present_ids(label_map: NDArray[np.int32]) -> tuple[int, ...]:
    """The positive values of an id map, ascending."""
    top = int(label_map.max()) if label_map.size else 0
    # Counting is some thirty times faster than sorting, as long as the ids are small.
    if top < 1 << 20:
        found = np.flatnonzero(np.bincount(label_map.ravel() - NO_TARGET)) + NO_TARGET
    else:
        found = np.unique(label_map)
    return tuple(int(value) for value in found if value > 0)


@dataclass(frozen=True, eq=False)
class MaskLayers:
    """M masks of one view that may overlap, a bit for each pixel (numpy's `packbits` of the rows).

    `source` numbers the masks as their file does; several masks may be parts of one object.
    """

    height: int
    width: int
    packed: Bytes  # [M, ceil(H * W / 8)]
    score: NDArray[np.float32]  # [M] quality as the maker of the masks judged it, 1 = unknown
    level: NDArray[np.int32]  # [M] of a hierarchy, 0 = the only one or the coarsest
    scale: NDArray[np.float32]  # [M] extent in the scene's units, nan = unknown
    source: NDArray[np.int64]  # [M] number in the file
    ignored: Bytes | None = None  # [ceil(H * W / 8)] the pixels without a target; None: none

    def __post_init__(self) -> None:
        count, row = len(self.packed), -(-self.height * self.width // 8)
        if self.height < 1 or self.width < 1 or self.packed.shape != (count, row):
            raise ValueError(
                f"masks of {self.width}x{self.height} need [M, {row}] bytes, got "
                f"{list(self.packed.shape)}"
            )
        for name in ("score", "level", "scale", "source"):
            if getattr(self, name).shape != (count,):
                raise ValueError(f"{name} must be [{count}], got {getattr(self, name).shape}")
        if self.ignored is not None and self.ignored.shape != (row,):
            raise ValueError(f"ignored must be [{row}], got {list(self.ignored.shape)}")
        for bits in (self.packed, self.ignored):
            if bits is not None and bits.dtype != np.uint8:
                raise ValueError(f"packed bits must be uint8, got {bits.dtype}")
        spare = (1 << (8 * row - self.height * self.width)) - 1
        if (self.packed[:, -1] & spare).any():
            raise ValueError("bits beyond the last pixel are set")

    def __len__(self) -> int:
        return len(self.packed)

    @classmethod
    def from_bits(
        cls,
        size: tuple[int, int],
        packed: Bytes,
        source: NDArray[np.integer] | None = None,
        score: NDArray[np.floating] | None = None,
        level: NDArray[np.integer] | None = None,
        scale: NDArray[np.floating] | None = None,
        ignored: Bytes | None = None,
    ) -> MaskLayers:
        """Layers of packed bits [M, ceil(H * W / 8)] for `size` (height, width).

        What is not given is unknown; sources are 1..M then.
        """
        count = len(packed)
        if source is None:
            source = np.arange(1, count + 1)
        return cls(
            *size,
            packed,
            np.ones(count, np.float32) if score is None else score.astype(np.float32),
            np.zeros(count, np.int32) if level is None else level.astype(np.int32),
            np.full(count, np.nan, np.float32) if scale is None else scale.astype(np.float32),
            source.astype(np.int64),
            ignored,
        )

    @classmethod
    def from_label_map(cls, label_map: NDArray[np.integer]) -> MaskLayers:
        """One layer for each id > 0 of a map [H, W]; ids become the sources, -1 the ignored."""
        ids = np.array(present_ids(label_map.astype(np.int32, copy=False)), np.int64)
        height, width = label_map.shape
        packed = np.zeros((len(ids), -(-label_map.size // 8)), np.uint8)
        for row, number in enumerate(ids):
            packed[row] = np.packbits(label_map == number)
        unknown = label_map < 0
        ignored = np.packbits(unknown) if unknown.any() else None
        return cls.from_bits((height, width), packed, source=ids, ignored=ignored)

    def mask(self, index: int) -> Bools:
        """One mask as bool [H, W]."""
        return _unpacked(self.packed[index], self.height, self.width)

    def unpack(self) -> Bools:
        """All masks as bool [M, H, W]: eight times the memory of the packed ones."""
        flat = np.unpackbits(self.packed, axis=1, count=self.height * self.width)
        return flat.reshape(len(self), self.height, self.width).view(bool)

    def ignored_mask(self) -> Bools:
        """The pixels without a target, bool [H, W]."""
        if self.ignored is None:
            return np.zeros((self.height, self.width), bool)
        return _unpacked(self.ignored, self.height, self.width)

    def areas(self) -> NDArray[np.int64]:
        """Pixels of each mask [M]."""
        return _BITS[self.packed].sum(axis=1, dtype=np.int64)

    def select(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> MaskLayers:
        """The masks of these rows, by position or by a bool [M], in that order."""
        return replace(
            self,
            packed=self.packed[rows],
            score=self.score[rows],
            level=self.level[rows],
            scale=self.scale[rows],
            source=self.source[rows],
        )

    def to_label_map(
        self, rule: str, numbers: NDArray[np.integer] | None = None
    ) -> NDArray[np.int32]:
        """One number for each pixel, [H, W]: 0 where no mask is, -1 where nothing is known.

        rule: "small" gives a pixel to the smallest of its masks, "score" to the best; among equals
        the earlier wins. numbers [M]: of the masks, positive; None: their sources.
        ValueError for another rule, and for numbers that are not positive 32-bit integers.
        """
        if rule not in RULES:
            raise ValueError(f"rule must be one of {RULES}, got {rule!r}")
        numbers = self.source if numbers is None else numbers
        if len(numbers) != len(self):
            raise ValueError(f"expected {len(self)} numbers, got {len(numbers)}")
        if len(numbers) and not 0 < numbers.min() <= numbers.max() <= LARGEST_ID:
            raise ValueError(f"numbers of masks must be 1..{LARGEST_ID}")
        # What is painted last is on top.
        order = np.argsort(self.areas() if rule == "small" else -self.score, kind="stable")[::-1]
        label_map = np.zeros((self.height, self.width), np.int32)
        for index in order:
            label_map[self.mask(int(index))] = numbers[index]
        label_map[self.ignored_mask()] = NO_TARGET
        return label_map

    def resized(self, width: int, height: int) -> MaskLayers:
        """The same masks at another size by the nearest pixel, centre to centre."""
        if (width, height) == (self.width, self.height):
            return self
        rows = nearest_positions(self.height, height)[:, None]
        columns = nearest_positions(self.width, width)
        return self.mapped(lambda mask, _: mask[rows, columns], width, height)

    def mapped(self, place: Callable[[Bools, bool], Bools], width: int, height: int) -> MaskLayers:
        """The same masks, each bool [h, w] sent through `place` to [height, width].

        `place` is told whether it is given the pixels without a target, to which those belong
        that no mask reaches.
        """
        packed = np.zeros((len(self), -(-height * width // 8)), np.uint8)
        for index in range(len(self)):
            packed[index] = np.packbits(place(self.mask(index), False))
        hidden = place(self.ignored_mask(), True)
        ignored = np.packbits(hidden) if hidden.any() else None
        known = (self.source, self.score, self.level, self.scale)
        return MaskLayers.from_bits((height, width), packed, *known, ignored)


def _unpacked(bits: Bytes, height: int, width: int) -> Bools:
    return np.unpackbits(bits, count=height * width).reshape(height, width).view(bool)
