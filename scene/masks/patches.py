# SPDX-License-Identifier: Apache-2.0
"""Masks of one view that may overlap, as patches: the pixels that lie in the same masks.

What a method that compares pixels wants to know of overlapping masks, in far less room than a bit
for each mask and pixel: one number a pixel and a small table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scene.masks.records import MaskLayers, present_ids

_BITS_AT_ONCE = 31  # masks that one pass over the pixels tells apart: numbers stay within 64 bits


@dataclass(frozen=True, eq=False)
class MaskPatches:
    """M masks of one view as S patches. Pixels in no mask form a patch too."""

    patch: Tensor  # [H, W], or [P] of chosen pixels: int64 row of `members`, -1 = no target
    members: Tensor  # [S, M] bool, whether a patch lies in a mask
    size: Tensor  # [S] int64 pixels of each patch in the whole view
    level: Tensor  # [M] int64 of a hierarchy, 0 = the only one or the coarsest
    scale: Tensor  # [M] float32 extent in the scene's units, nan = unknown

    @classmethod
    def from_layers(cls, layers: MaskLayers) -> MaskPatches:
        """Patches of a pile of masks."""
        pixels, count = layers.height * layers.width, len(layers)
        patch = np.zeros(pixels, np.int64)
        for start in range(0, count, _BITS_AT_ONCE):
            key = patch << _BITS_AT_ONCE
            for bit, row in enumerate(layers.packed[start : start + _BITS_AT_ONCE]):
                key |= np.unpackbits(row, count=pixels).astype(np.int64) << bit
            patch = np.unique(key, return_inverse=True)[1].reshape(-1)
        _, first = np.unique(patch, return_index=True)
        bits = layers.packed[:, first // 8] >> (7 - first % 8).astype(np.uint8) & 1
        patch[layers.ignored_mask().reshape(-1)] = -1
        return cls._of_numpy(
            patch.reshape(layers.height, layers.width), bits.T.astype(bool), layers
        )

    @classmethod
    def from_label_map(cls, label_map: NDArray[np.integer]) -> MaskPatches:
        """One mask and one patch for each id > 0 of a map [H, W]; -1 is no target."""
        ids = present_ids(label_map.astype(np.int32, copy=False))
        values = np.array([*([0] if (label_map == 0).any() else []), *ids], label_map.dtype)
        patch = np.searchsorted(values, label_map).astype(np.int64)
        patch[label_map < 0] = -1
        members = values[:, None] == np.array(ids, label_map.dtype)[None]
        return cls._of_numpy(patch, members, None)

    @classmethod
    def _of_numpy(
        cls, patch: NDArray[np.int64], members: NDArray[np.bool_], layers: MaskLayers | None
    ) -> MaskPatches:
        size = np.bincount(patch[patch >= 0], minlength=len(members))
        count = members.shape[1]
        level = np.zeros(count) if layers is None else layers.level
        scale = np.full(count, np.nan) if layers is None else layers.scale
        return cls(
            torch.from_numpy(patch),
            torch.from_numpy(members),
            torch.from_numpy(size),
            torch.from_numpy(level.astype(np.int64)),
            torch.from_numpy(scale.astype(np.float32)),
        )

    @property
    def areas(self) -> Tensor:
        """Pixels of each mask in the whole view [M] int64."""
        return (self.members * self.size[:, None]).sum(dim=0)

    def at(self, pixels: Tensor) -> MaskPatches:
        """The same for chosen pixels [P] int64, y * width + x."""
        return replace(self, patch=self.patch.reshape(-1)[pixels])

    def to(self, device: torch.device) -> MaskPatches:
        """The same on a device."""
        tensors = (self.patch, self.members, self.size, self.level, self.scale)
        return MaskPatches(*(tensor.to(device) for tensor in tensors))

    def with_rest(self) -> MaskPatches:
        """With one more mask, the last: the pixels that lie in no other. The same if there are
        none."""
        rest = ~self.members.any(dim=1)
        if not bool((self.size[rest] > 0).any()):
            return self
        return replace(
            self,
            members=torch.cat([self.members, rest[:, None]], dim=1),
            level=torch.cat([self.level, self.level.new_zeros(1)]),
            scale=torch.cat([self.scale, self.scale.new_full((1,), float("nan"))]),
        )
