# SPDX-License-Identifier: Apache-2.0
"""The formats of masks that lie beside one image: how each is recognised, read and written.

Exports of whole data sets (CVAT, Supervisely, one COCO file for all images) are no formats here:
an import tool turns them into files of these formats, one an image, with what lies in this package
(`documents`, `rle`, and `FORMATS[...].write`). Its place is `iqgs/preparation/`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scene.masks.formats import arrays, documents, folder, pictures
from scene.masks.formats.content import IdPixels, MaskContent
from utils.errors import MaskError

__all__ = [
    "FORMATS",
    "PICTURE_SUFFIXES",
    "SUFFIXES",
    "IdPixels",
    "MaskContent",
    "MaskFormat",
    "Probe",
    "recognise",
    "read_mask_file",
]

EXACT_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".webp")
LOSSY_SUFFIXES = (".jpg", ".jpeg")  # found only to be refused
PICTURE_SUFFIXES = (*EXACT_SUFFIXES, *LOSSY_SUFFIXES)
# In the order in which the files of one image are preferred.
SUFFIXES = (*EXACT_SUFFIXES, ".npy", ".npz", ".json", *LOSSY_SUFFIXES)


class Probe:
    """A file of masks, looked into no more often than needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.suffix = path.suffix.lower()

    @cached_property
    def mode(self) -> str:
        """Pillow's mode of a picture, from its header; DataError where it is damaged."""
        return pictures.picture_mode(self.path)

    @cached_property
    def document(self) -> Any:
        """The value of a JSON file; DataError where it is damaged."""
        return documents.read_document(self.path)

    @property
    def is_picture(self) -> bool:
        return self.suffix in PICTURE_SUFFIXES

    @property
    def is_document(self) -> bool:
        return self.suffix == ".json"


@dataclass(frozen=True)
class MaskFormat:
    """One way in which the masks of an image are filed. `read` and `write` raise DataError, and
    `write` RunError."""

    layered: bool  # masks may overlap
    recognise: Callable[[Probe], bool]
    read: Callable[[Probe], MaskContent]
    write: Callable[[Path, MaskContent], None]


FORMATS = {
    "binary_folder": MaskFormat(
        True,
        lambda probe: bool(folder.numbered_files(probe.path)),
        lambda probe: folder.read_folder(probe.path),
        folder.write_folder,
    ),
    "rgb_ids": MaskFormat(
        False,
        lambda probe: probe.is_picture and probe.mode in ("RGB", "RGBA"),
        lambda probe: pictures.read_picture(probe.path),
        pictures.write_colors,
    ),
    "id_png": MaskFormat(
        False,
        lambda probe: probe.is_picture,
        lambda probe: pictures.read_picture(probe.path),
        pictures.write_ids,
    ),
    "id_npy": MaskFormat(
        True,
        lambda probe: probe.suffix in (".npy", ".npz"),
        lambda probe: arrays.read_array(probe.path),
        arrays.write_array,
    ),
    "sam_list": MaskFormat(
        True,
        lambda probe: probe.is_document and documents.is_sam_list(probe.document),
        lambda probe: documents.read_sam_list(probe.path, probe.document),
        documents.write_sam_list,
    ),
    "sa1b": MaskFormat(
        True,
        lambda probe: probe.is_document and documents.is_sa1b(probe.document),
        lambda probe: documents.read_sa1b(probe.path, probe.document),
        documents.write_sa1b,
    ),
    "coco_rle": MaskFormat(
        True,
        lambda probe: probe.is_document and documents.is_coco(probe.document),
        lambda probe: documents.read_coco(probe.path, probe.document),
        documents.write_coco,
    ),
}


def recognise(probe: Probe) -> str:
    """The name of a file's format. Raises DataError where it has none of FORMATS."""
    for name, kind in FORMATS.items():
        if kind.recognise(probe):
            return name
    raise MaskError(
        f"{probe.path}: not masks in a known format ({', '.join(FORMATS)})", "unreadable"
    )


def read_mask_file(path: Path) -> MaskContent:
    """The masks of one image in any of FORMATS. Raises DataError."""
    probe = Probe(path)
    if probe.is_picture:  # whether colours or ids is seen in its pixels
        return pictures.read_picture(path)
    return FORMATS[recognise(probe)].read(probe)
