# SPDX-License-Identifier: Apache-2.0
"""Exports of annotation tools that hold the masks of many images, read into id maps.

Each kind recognises a file or folder and reads it into annotations (`records`); which of them are
one object, and what becomes of the files, is decided in one place (`number_objects`, `writing`).
Folders with one file of masks an image (Gaussian Grouping's object_mask, SA-1B) are read by
`scene.masks` as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iqgs.preparation.imports import coco, cvat, lerf, sam_folders, supervisely, yolo
from iqgs.preparation.imports.records import Export
from scene.masks import match_mask_files
from utils.errors import DataError

__all__ = ["IMPORTERS", "Importer", "find_export"]


@dataclass(frozen=True)
class Importer:
    """One kind of export. `find` gives what `read` wants, None where it is not of this kind."""

    title: str
    find: Callable[[Path], Path | None]
    read: Callable[[Path], Export]


# In the order in which they are asked: the surest signs first, LERF-Mask last.
IMPORTERS = {
    "cvat_xml": Importer("CVAT XML 1.1", cvat.find_xml, cvat.read_xml),
    "cvat_masks": Importer("CVAT segmentation masks 1.1", cvat.find_pictures, cvat.read_pictures),
    "supervisely": Importer("Supervisely", supervisely.find_folder, supervisely.read_folder),
    "coco": Importer("COCO instances.json", coco.find_file, coco.read_file),
    "yolo": Importer("YOLO segmentation", yolo.find_folder, yolo.read_folder),
    "sam_folders": Importer("SAM's amg.py", sam_folders.find_folder, sam_folders.read_folder),
    "lerf_mask": Importer("LERF-Mask test_mask", lerf.find_folder, lerf.read_folder),
}
PLAIN_FOLDERS = ("object_mask", "masks")  # looked for in a folder that is none of these


def find_export(path: Path, names: list[str]) -> tuple[Importer, Path] | Path:
    """Who reads an export and from where; or the folder of one mask file an image.

    names: of the photographs. Raises DataError where the path is neither.
    """
    if not path.exists():
        raise DataError(f"--import_path {path}: no such file or folder")
    for importer in IMPORTERS.values():
        if importer is IMPORTERS["lerf_mask"]:  # any folder of folders of pictures looks like it
            folder = _plain_folder(path, names)
            if folder is not None:
                return folder
        found = importer.find(path)
        if found is not None:
            return importer, found
    known = ", ".join(importer.title for importer in IMPORTERS.values())
    raise DataError(
        f"--import_path {path}: no export in a known format ({known}), and no folder of mask files "
        f"named after the photographs, as {names[0] if names else '<image>'}"
    )


def _plain_folder(path: Path, names: list[str]) -> Path | None:
    """The folder with one mask file an image: itself, or a usual name in it."""
    places = [path, *(path / name for name in PLAIN_FOLDERS)]
    folders = [place for place in places if place.is_dir()]
    return next((place for place in folders if match_mask_files(place, names).chosen), None)
