# SPDX-License-Identifier: Apache-2.0
"""COCO's instances.json: the annotations of all images in one file, polygons or run-length codes.

`iscrowd` marks regions that are no single object: their pixels have no target. Exports of CVAT and
Datumaro mark every mask so that is no polygon (https://github.com/cvat-ai/cvat/issues/7030): where
annotations have the `attributes` of these, or all are marked, the mark means nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from iqgs.preparation.imports.records import AnnotatedImage, Annotation, Export
from iqgs.preparation.imports.shapes import coco_segmentation
from scene.masks.formats.documents import TRACK_KEYS
from utils.errors import DataError, FormatError
from utils.json_files import read_json_value

MOST_BYTES = 1_000_000_000  # of a file


def find_file(path: Path) -> Path | None:
    """The file of the instances: itself, or in a folder or its annotations/."""
    if path.is_file():
        return path if path.suffix.lower() == ".json" and _is_instances(path) else None
    files = sorted([*path.glob("annotations/*.json"), *path.glob("*.json")])
    named = [file for file in files if "instances" in file.name] or files
    return next((file for file in named[:8] if _is_instances(file)), None)


def _is_instances(path: Path) -> bool:
    try:
        record = read_json_value(path, MOST_BYTES)
    except (DataError, FormatError):
        return False
    lists = isinstance(record, dict) and all(
        isinstance(record.get(key), list) for key in ("images", "annotations")
    )
    return lists and bool(record["images"])


def read_file(path: Path) -> Export:
    """All annotations of a file. Raises DataError, FormatError."""
    record = read_json_value(path, MOST_BYTES)
    try:
        names = {item["id"]: str(item["name"]) for item in record.get("categories") or ()}
        shapes: dict[Any, list[Annotation]] = {item["id"]: [] for item in record["images"]}
        drawn = [item for item in record["annotations"] if item.get("segmentation")]
        marked = [item for item in drawn if item.get("iscrowd") == 1]
        crowds = len(marked) < len(drawn) and not any("attributes" in item for item in drawn)
        for item in drawn:
            shapes[item["image_id"]].append(_annotation(item, names, crowds))
        images = tuple(
            AnnotatedImage(str(image["file_name"]), _size(image), tuple(shapes[image["id"]]))
            for image in record["images"]
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{path}: not COCO's instances ({error!r})") from error
    empty = len(record["annotations"]) - len(drawn)
    notices = []
    if empty:
        notices.append(f"{empty} annotations without a segmentation were left out")
    if marked and not crowds:
        notices.append(
            f"{len(marked)} masks are marked iscrowd, as CVAT marks them: taken as objects"
        )
    return Export("COCO", path, images, tuple(notices))


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    return (int(height), int(width)) if height and width else None


def _annotation(item: dict[str, Any], names: dict[Any, str], crowds: bool) -> Annotation:
    return Annotation(
        coco_segmentation(item["segmentation"]),
        names.get(item.get("category_id"), ""),
        _track(item),
        is_crowd=crowds and item.get("iscrowd") == 1,
    )


def _track(item: dict[str, Any]) -> str:
    for place in (item, item.get("attributes")):
        for key in TRACK_KEYS:
            value = place.get(key) if isinstance(place, dict) else None
            if value not in (None, ""):
                return str(value)
    return ""
