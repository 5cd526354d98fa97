# SPDX-License-Identifier: Apache-2.0
"""A camera together with what was seen through it; pixels are read when first asked for."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from scene.cameras import Camera
from scene.masks import (
    IdTable,
    InstanceMasks,
    MaskPatches,
    ReadMask,
    connected_regions,
    read_layers,
    read_mask_file,
    read_masks,
)
from scene.pictures import StoredPicture
from utils.images import read_image, resize_image


class View:
    """One photograph of the scene with its camera and, if there are any, its instance masks.

    Everything has the camera's size. With `data_cache` pixels stay in memory after the first use
    (8 bits a channel); without, every access reads the files again.
    """

    def __init__(
        self,
        camera: Camera,
        image_path: Path,
        mask: Path | ReadMask | None,
        id_table: IdTable | None,
        background: float = 0.0,
        data_cache: bool = True,
        *,
        picture: StoredPicture | None = None,
    ) -> None:
        """`mask`: its file, or what was read of it before, so that it is not read again."""
        self.camera = camera
        self.image_path = image_path
        self.mask_path = mask.path if isinstance(mask, ReadMask) else mask
        self.picture = picture  # how the files' pixels become the camera's; None: resampled
        self._id_table = id_table
        self._background = background
        self._data_cache = data_cache
        self._pixels: Tensor | None = None
        self._read_mask = mask if isinstance(mask, ReadMask) else None
        self._mask_picture = picture  # the same of the mask's file
        self._masks: InstanceMasks | None = None
        self._labels: Tensor | None = None
        self._regions: Tensor | None = None
        self._layered = mask.is_list if isinstance(mask, ReadMask) else None  # None: not known yet
        self._patches: MaskPatches | None = None
        self._valid: Tensor | None = None  # of no elements where all pixels are valid

    def __repr__(self) -> str:
        return f"View({self.name!r}, {self.camera.width}x{self.camera.height})"

    @property
    def name(self) -> str:
        """The image's name with its sub-path."""
        return self.camera.name

    @property
    def image_id(self) -> int | None:
        """COLMAP's number of the image, for tracks and observations; None without a model."""
        return None if self.picture is None else self.picture.image_id

    @property
    def image(self) -> Tensor:
        """The photograph, float32 [3, H, W] in 0..1, transparent pixels over the background.

        Raises DataError if the file is damaged.
        """
        return self.image_on(torch.device("cpu"))

    def image_on(self, device: torch.device) -> Tensor:
        """`image` on a device. Bytes are moved and kept there: a GPU then needs no copy a step."""
        pixels = self._read_pixels() if self._pixels is None else self._pixels
        pixels = pixels.to(device)
        if self._data_cache:
            self._pixels = pixels
        return pixels.to(torch.float32) / 255.0

    def valid_on(self, device: torch.device) -> Tensor | None:
        """Pixels [H, W] bool that the photograph shows, on a device; None if it shows them all.

        Others enter no loss and no score. There are some where a lens and the frame of its pinhole
        do not fit exactly.
        """
        if self._valid is None:
            valid = None if self.picture is None else self.picture.valid(self.camera)
            self._valid = torch.empty(0) if valid is None else torch.from_numpy(valid)
        if not self._valid.numel():
            return None
        self._valid = self._valid.to(device)
        return self._valid

    def label_map_on(self, device: torch.device) -> Tensor:
        """The label map of `masks` on a device, [H, W] int32; kept there like the photograph.

        Raises ValueError for a view without masks.
        """
        if self._labels is not None and self._labels.device == device:
            return self._labels
        if self.masks is None:
            raise ValueError(f"view {self.name} has no masks")
        labels = torch.from_numpy(self.masks.label_map).to(device)
        if self._data_cache:
            self._labels = labels
        return labels

    def regions_on(self, device: torch.device) -> Tensor:
        """The connected regions of the label map on a device, [H, W] int32 numbers; 0 and -1 are
        those of the map. Kept there. Raises ValueError for a view without masks.
        """
        if self._regions is not None and self._regions.device == device:
            return self._regions
        if self.masks is None:
            raise ValueError(f"view {self.name} has no masks")
        regions = torch.from_numpy(connected_regions(self.masks.label_map)).to(device)
        if self._data_cache:
            self._regions = regions
        return regions

    @property
    def masks(self) -> InstanceMasks | None:
        """The instance masks with compact ids, or None: such a view trains colour only."""
        if self.mask_path is None or self._id_table is None:
            return None
        if self._masks is not None:
            return self._masks
        masks = read_masks(
            self.mask_path, self.camera, self._id_table, self._mask_picture, read=self._read_mask
        )
        if self._data_cache:
            self._masks, self._read_mask = masks, None
        return masks

    def with_masks(self, path: Path, table: IdTable) -> View:
        """This view with other masks: a file of ids whose pixels are the camera's own."""
        other = copy.copy(self)
        other.mask_path, other._id_table = path, table
        other._mask_picture = other._read_mask = other._masks = other._labels = None
        other._regions = other._patches = None
        other._layered = False
        return other

    def patches_on(self, device: torch.device) -> MaskPatches:
        """The masks on a device, overlapping ones where the file holds such; kept there.

        Raises ValueError for a view without masks, DataError as `masks`.
        """
        if self._patches is not None:
            self._patches = self._patches.to(device)
            return self._patches
        if self.masks is None or self.mask_path is None:
            raise ValueError(f"view {self.name} has no masks")
        if self._layered is None:
            self._layered = read_mask_file(self.mask_path).layers is not None
        if self._layered:
            layers = read_layers(self.mask_path, self.camera, self._mask_picture)
            patches = MaskPatches.from_layers(layers).to(device)
        else:  # compact ids: what the settings say of the file's numbers holds
            patches = MaskPatches.from_label_map(self.masks.label_map).to(device)
        if self._data_cache:
            self._patches = patches
        return patches

    def forget(self) -> None:
        """Let go of pixels and masks; the next access reads the files again."""
        self._pixels = self._masks = self._labels = self._regions = self._patches = None

    def _read_pixels(self) -> Tensor:
        image = read_image(self.image_path)
        if image.shape[0] == 4:
            alpha = image[3:]
            image = image[:3] * alpha + self._background * (1 - alpha)
        if self.picture is None:
            image = resize_image(image, self.camera.width, self.camera.height)
        else:
            image = self.picture.photograph(image, self.camera)
        return (image.clamp(0, 1) * 255.0 + 0.5).to(torch.uint8)
