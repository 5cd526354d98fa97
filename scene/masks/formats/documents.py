# SPDX-License-Identifier: Apache-2.0
"""Masks of one image as JSON: what SAM gives (sam_list), SA-1B (sa1b) and COCO (coco_rle).

An annotation's `segmentation` is a run-length code {"size": [height, width], "counts": ...},
compressed or not; polygons; or rows of booleans. Such files number their masks by annotation: that
says nothing about other views, unless each annotation has one of TRACK_KEYS. COCO's crowd regions
(`iscrowd`) become pixels without a target. `level` and `scale` mean what they do in MaskLayers and
are in files of ours only. One file with the annotations of many images is an export of a data set,
and not read here.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scene.masks.formats.arrays import MOST_LAYER_PIXELS, MOST_LAYERS
from scene.masks.formats.content import MaskContent
from scene.masks.formats.rle import decode_rle, encode_rle, polygon_mask
from scene.masks.records import LARGEST_ID, MaskLayers
from utils.errors import MaskError
from utils.images import MAX_PIXELS
from utils.json_files import read_json_value
from utils.storage import write_text

MOST_BYTES = 64_000_000  # of a file
TRACK_KEYS = ("track_id", "instance_id", "object_id")  # ids that mean the same in all views
SCORE_KEYS = ("predicted_iou", "score", "stability_score")

Size = tuple[int, int]  # (height, width)


def read_document(path: Path) -> Any:
    """The JSON value of a mask file. Raises DataError, FormatError."""
    return read_json_value(path, MOST_BYTES)


def is_sam_list(document: Any) -> bool:
    """A list of SAM's dictionaries."""
    return isinstance(document, list) and all(
        isinstance(item, dict) and "segmentation" in item and "image_id" not in item
        for item in document
    )


def is_sa1b(document: Any) -> bool:
    """One image of SA-1B with its annotations."""
    return _is_object(document, "annotations", list) and _is_object(document, "image", dict)


def is_coco(document: Any) -> bool:
    """COCO's annotations, its results, or bare run-length codes."""
    if _is_object(document, "annotations", list):
        return not is_sa1b(document)
    items = document if isinstance(document, list) else [document]
    return bool(items) and all(
        isinstance(item, dict) and ("counts" in item or {"segmentation", "image_id"} <= set(item))
        for item in items
    )


def _is_object(document: Any, key: str, kind: type) -> bool:
    return isinstance(document, dict) and isinstance(document.get(key), kind)


def read_sam_list(path: Path, document: Any) -> MaskContent:
    """SAM's list of masks. Raises MaskError."""
    return _masks(path, document, None)


def read_sa1b(path: Path, document: Any) -> MaskContent:
    """One image of SA-1B. Raises MaskError."""
    return _masks(path, document["annotations"], _declared_size(document["image"]))


def read_coco(path: Path, document: Any) -> MaskContent:
    """COCO's annotations of one image. Raises MaskError."""
    size = None
    if _is_object(document, "annotations", list):
        items, images = document["annotations"], document.get("images", [])
        if isinstance(images, list) and len(images) == 1 and isinstance(images[0], dict):
            size = _declared_size(images[0])
    else:
        items, images = document if isinstance(document, list) else [document], []
    owners = {str(item.get("image_id")) for item in items if isinstance(item, dict)}
    several = max(len(owners), len(images) if isinstance(images, list) else 0)
    if several > 1:
        raise MaskError(
            f"{path}: holds the masks of {several} images; expected one mask file an image",
            "data set",
        )
    plain = [
        {"segmentation": item} if isinstance(item, dict) and "counts" in item else item
        for item in items
    ]
    return _masks(path, plain, size)


def _declared_size(image: dict[str, Any]) -> Size | None:
    height, width = image.get("height"), image.get("width")
    return (height, width) if type(height) is int and type(width) is int else None


def _masks(path: Path, items: list[Any], size: Size | None) -> MaskContent:
    """Layers of a list of annotations, all for images of one size."""
    if len(items) > MOST_LAYERS:
        raise MaskError(f"{path}: {len(items)} masks in one file", "unreadable")
    size = _common_size(path, items, size)
    if not 0 < size[0] * size[1] <= MAX_PIXELS or len(items) * size[0] * size[1] > (
        MOST_LAYER_PIXELS
    ):
        raise MaskError(f"{path}: too many pixels ({len(items)} of {size[1]}x{size[0]})", "ids")
    packed, kept = [], []
    ignored: NDArray[np.bool_] | None = None
    for place, item in enumerate(items):
        try:
            mask = mask_of(item["segmentation"], size)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise MaskError(f"{path}: mask {place + 1}: {error}", "unreadable") from error
        if item.get("iscrowd") == 1:
            ignored = mask if ignored is None else ignored | mask
        else:
            packed.append(np.packbits(mask))
            kept.append(item)
    bits = np.array(packed, np.uint8).reshape(len(packed), -(-size[0] * size[1] // 8))
    tracks = _tracks(kept)
    layers = MaskLayers.from_bits(
        size,
        bits,
        _sources(kept) if tracks is None else tracks,
        np.array([_score(item) for item in kept], np.float32),
        np.array([_level(item) for item in kept], np.int32),
        np.array([_scale(item) for item in kept], np.float32),
        ignored=None if ignored is None else np.packbits(ignored),
    )
    return MaskContent.of_layers(layers, "view" if tracks is None else "ids")


def _common_size(path: Path, items: list[Any], size: Size | None) -> Size:
    """The size of the image that all masks are about."""
    found = {size} if size is not None else set()
    for place, item in enumerate(items):
        segmentation = item.get("segmentation") if isinstance(item, dict) else None
        if segmentation is None:
            raise MaskError(f"{path}: mask {place + 1} has no segmentation", "unreadable")
        if isinstance(segmentation, dict):
            sides = segmentation.get("size")
            if not (isinstance(sides, list) and [type(side) for side in sides] == [int, int]):
                raise MaskError(f"{path}: mask {place + 1}: no size [height, width]", "unreadable")
            found.add((sides[0], sides[1]))
        elif _is_rows(segmentation):
            found.add((len(segmentation), len(segmentation[0])))
    if len(found) != 1:
        sizes = ", ".join(f"{width}x{height}" for height, width in sorted(found)) or "no size"
        raise MaskError(
            f"{path}: expected masks of one size, found {sizes}"
            + ("; an image without masks needs no file" if not items else ""),
            "unreadable",
        )
    return found.pop()


def _is_rows(segmentation: Any) -> bool:
    """Rows of booleans or of 0 and 1, and no polygons (whose numbers come in pairs, in one row)."""
    if not isinstance(segmentation, list) or not segmentation:
        return False
    first = segmentation[0]
    return isinstance(first, list) and bool(first) and all(v in (0, 1) for v in first)


def mask_of(segmentation: Any, size: Size) -> NDArray[np.bool_]:
    """One mask [height, width]. ValueError and its like where it is none."""
    height, width = size
    if isinstance(segmentation, dict):
        return decode_rle(segmentation["counts"], height, width)
    if _is_rows(segmentation):
        rows = np.array(segmentation)  # ValueError for rows of different lengths
        if rows.shape != size or rows.dtype.kind not in "bi" or not np.isin(rows, (0, 1)).all():
            raise ValueError(f"rows that are not {height} times {width} of 0 and 1")
        return rows.astype(bool)
    if not isinstance(segmentation, list):
        raise ValueError("the segmentation is no run-length code, polygons or rows")
    polygons = [np.array(polygon, np.float64) for polygon in segmentation]
    for polygon in polygons:
        if polygon.ndim != 1 or polygon.size < 6 or polygon.size % 2:
            raise ValueError("a polygon needs three corners x, y or more")
        if not (np.abs(polygon) < 1e7).all():
            raise ValueError("a polygon's corner is no position in an image")
    return polygon_mask([polygon.reshape(-1, 2) for polygon in polygons], height, width)


def _tracks(items: list[Any]) -> NDArray[np.int64] | None:
    """Ids of the objects where every annotation has one."""
    for key in TRACK_KEYS:
        for place in (lambda item: item, lambda item: item.get("attributes")):
            found = [_positive(place(item), key) for item in items]
            if found and all(found):
                return np.array(found, np.int64)
    return None


def _sources(items: list[Any]) -> NDArray[np.int64] | None:
    """The annotations' own numbers where all have one."""
    found = [item.get("id") for item in items]
    whole = all(type(number) is int and abs(number) < 2**63 for number in found)
    return np.array(found, np.int64) if found and whole else None


def _positive(record: Any, key: str) -> int:
    """A whole number 1 or more under a key; 0 where there is none."""
    value = record.get(key) if isinstance(record, dict) else None
    return value if type(value) is int and 0 < value <= LARGEST_ID else 0


def _score(item: dict[str, Any]) -> float:
    """The first of SCORE_KEYS that is a finite number, else 1 (unknown)."""
    for key in SCORE_KEYS:
        value = item.get(key)
        if isinstance(value, float | int) and math.isfinite(value):
            return float(np.clip(value, -1e6, 1e6))
    return 1.0


def _level(item: dict[str, Any]) -> int:
    """Of a hierarchy; 0 where the annotation does not say."""
    value = item.get("level")
    return value if type(value) is int and 0 <= value <= LARGEST_ID else 0


def _scale(item: dict[str, Any]) -> float:
    """Extent in the scene's units; nan where the annotation does not say."""
    value = item.get("scale")
    if isinstance(value, float | int) and 0 <= value < 1e30:
        return float(value)
    return math.nan


def _annotations(content: MaskContent) -> list[dict[str, Any]]:
    """The masks as SAM's dictionaries."""
    layers, items = content.as_layers(), []
    for index, area in enumerate(layers.areas().tolist()):
        mask = layers.mask(index)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = [0, 0, 0, 0]
        if area:
            left, top = int(columns[0]), int(rows[0])
            box = [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
        item = {
            "id": int(layers.source[index]),
            "segmentation": encode_rle(mask),
            "area": area,
            "bbox": box,
            "predicted_iou": float(layers.score[index]),
            "level": int(layers.level[index]),
        }
        if np.isfinite(layers.scale[index]):
            item["scale"] = float(layers.scale[index])
        if content.coding != "view":
            item["track_id"] = item["id"]
        items.append(item)
    if layers.ignored is not None:
        crowd = layers.ignored_mask()
        items.append({"id": 0, "segmentation": encode_rle(crowd), "iscrowd": 1})
    return items


def write_sam_list(path: Path, content: MaskContent) -> None:
    """SAM's list with compressed run-length codes. RunError."""
    write_text(path, json.dumps(_annotations(content)) + "\n")


def write_sa1b(path: Path, content: MaskContent) -> None:
    """An image of SA-1B, named after the file. RunError."""
    layers = content.as_layers()
    image = {"file_name": path.stem, "height": layers.height, "width": layers.width}
    write_text(path, json.dumps({"image": image, "annotations": _annotations(content)}) + "\n")


def write_coco(path: Path, content: MaskContent) -> None:
    """COCO's annotations of one image, all of one category. RunError."""
    layers = content.as_layers()
    image = {"id": 1, "file_name": path.stem, "height": layers.height, "width": layers.width}
    common = {"image_id": 1, "category_id": 1, "iscrowd": 0}
    document = {
        "images": [image],
        "annotations": [{**common, **item} for item in _annotations(content)],
        "categories": [{"id": 1, "name": "object"}],
    }
    write_text(path, json.dumps(document) + "\n")
