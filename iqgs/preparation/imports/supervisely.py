# SPDX-License-Identifier: Apache-2.0
"""Exports of Supervisely: one JSON an image, with bitmaps (PNG, deflated, in base64) or polygons.

A project is meta.json beside folders of data sets, each with ann/<image>.json (and img/<image>).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from iqgs.preparation.imports.records import AnnotatedImage, Annotation, Export
from iqgs.preparation.imports.shapes import Draw, bitmap, polygon
from scene.masks.formats.documents import TRACK_KEYS
from utils.errors import DataError, FormatError
from utils.json_files import read_json

TRACK_TAGS = (*TRACK_KEYS, "instance")


def find_folder(path: Path) -> Path | None:
    """The folder of a project, of a data set or of its annotations; or one annotation's file."""
    if path.is_file():
        return path if path.suffix.lower() == ".json" and _is_annotation(path) else None
    if not path.is_dir():
        return None
    files = _annotation_files(path)
    return path if files and _is_annotation(files[0]) else None


def _annotation_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    nested = sorted(path.rglob("ann/**/*.json"))
    return nested or (sorted(path.glob("*.json")) if path.name == "ann" else [])


def _is_annotation(path: Path) -> bool:
    try:
        record = read_json(path)
    except (DataError, FormatError):
        return False
    size = record.get("size")
    return isinstance(size, dict) and "height" in size and isinstance(record.get("objects"), list)


def read_folder(path: Path) -> Export:
    """All annotations of a project. Raises DataError, FormatError."""
    skipped: Counter[str] = Counter()
    images = []
    for file in _annotation_files(path):
        record = read_json(file)
        try:
            size = int(record["size"]["height"]), int(record["size"]["width"])
            shapes = [_annotation(item, skipped) for item in record["objects"]]
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise FormatError(f"{file}: not annotations of Supervisely ({error!r})") from error
        images.append(AnnotatedImage(_image_name(file), size, tuple(filter(None, shapes))))
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(skipped.items()))
    notices = (f"shapes that are no masks were left out: {kinds}",) if skipped else ()
    return Export("Supervisely", path, tuple(images), notices)


def _image_name(file: Path) -> str:
    """000.jpg of .../ann/000.jpg.json, with its sub-folders below ann/."""
    parts = file.parts
    start = len(parts) - parts[::-1].index("ann") if "ann" in parts else len(parts) - 1
    return "/".join(parts[start:]).removesuffix(".json")


def _annotation(item: dict[str, Any], skipped: Counter[str]) -> Annotation | None:
    kind = str(item.get("geometryType"))
    draw: Draw
    if kind == "bitmap":
        left, top = (int(value) for value in item["bitmap"]["origin"])
        draw = bitmap(str(item["bitmap"]["data"]), (left, top))
    elif kind == "polygon":
        points = item["points"]
        draw = polygon(points["exterior"], points.get("interior") or ())
    else:
        skipped[kind] += 1
        return None
    return Annotation(draw, str(item.get("classTitle", "")), _track(item))


def _track(item: dict[str, Any]) -> str:
    """What a tag says about the object; "" where there is none."""
    for tag in item.get("tags") or ():
        named = isinstance(tag, dict) and str(tag.get("name", "")).lower() in TRACK_TAGS
        if named and tag.get("value") not in (None, ""):
            return str(tag["value"])
    return ""
