# SPDX-License-Identifier: Apache-2.0
"""Exports of CVAT: "CVAT for images 1.1" and "for video 1.1" (XML), and "Segmentation mask 1.1".

Facts are from CVAT's documentation of its formats. In the XML a mask's `rle` runs along the rows of
its box and begins with zeros; a video's shapes are given for every frame, `outside` where the
object is not seen. The picture format has one colour a class, in labelmap.txt and
SegmentationClass/, and one colour an object of an image in SegmentationObject/.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from iqgs.preparation.imports.archives import read_text
from iqgs.preparation.imports.records import AnnotatedImage, Annotation, Export
from iqgs.preparation.imports.shapes import (
    Draw,
    picture_codes,
    picture_values,
    polygon,
    row_runs,
)
from scene.masks.formats.documents import TRACK_KEYS
from utils.errors import DataError, FormatError

MOST_BYTES = 1_000_000_000  # of an XML file
XML = "annotations.xml"
LABEL_MAP = "labelmap.txt"
OBJECTS, CLASSES = "SegmentationObject", "SegmentationClass"


def find_xml(path: Path) -> Path | None:
    """The XML file of an export: the file itself, or annotations.xml in its folder."""
    file = path / XML if path.is_dir() else path
    if file.suffix.lower() != ".xml" or not file.is_file():
        return None
    with file.open("rb") as stream:
        return file if b"<annotations" in stream.read(4096) else None


def read_xml(path: Path) -> Export:
    """The annotations of an XML file. Raises FormatError."""
    root = _parsed(path)
    skipped: Counter[str] = Counter()
    try:
        images = tuple(_images(root, skipped))
        frames = () if images else tuple(_frames(root, skipped))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise FormatError(f"{path}: not annotations of CVAT ({error!r})") from error
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(skipped.items()))
    notices = (f"shapes that are no masks were left out: {kinds}",) if skipped else ()
    return Export("CVAT", path, images or frames, notices, in_order=not images)


def _parsed(path: Path) -> ElementTree.Element:
    if path.stat().st_size > MOST_BYTES:
        raise FormatError(f"{path}: larger than {MOST_BYTES} bytes")
    data = path.read_bytes()
    if (
        b"<!DOCTYPE" in data or b"<!ENTITY" in data
    ):  # CVAT writes none, and they can grow without end
        raise FormatError(f"{path}: declares entities, which annotations of CVAT never do")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # also unknown encodings
        raise FormatError(f"{path}: not valid XML ({error})") from error


def _images(root: ElementTree.Element, skipped: Counter[str]) -> Iterator[AnnotatedImage]:
    for image in root.iter("image"):
        size = int(image.attrib["height"]), int(image.attrib["width"])
        shapes = []
        for shape in image:
            draw = _draw(shape)
            if draw is None:
                skipped[shape.tag] += shape.tag != "tag"
                continue
            label, group = shape.get("label", ""), shape.get("group_id", "")
            shapes.append(Annotation(draw, label, _track(shape), "" if group == "0" else group))
        yield AnnotatedImage(image.attrib["name"], size, tuple(shapes))


def _draw(shape: ElementTree.Element) -> Draw | None:
    """What draws a shape; None for one that is no mask."""
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.attrib["points"].split(";")]
        return polygon([[float(value) for value in pair] for pair in pairs])
    if shape.tag == "mask":
        left, top, width, height = (
            int(float(shape.attrib[name])) for name in ("left", "top", "width", "height")
        )
        counts = [int(count) for count in shape.attrib["rle"].split(",")]
        return row_runs(counts, (left, top, width, height))
    return None


def _track(shape: ElementTree.Element) -> str:
    """What an attribute of the user's says about the object; "" where there is none."""
    for attribute in shape.iter("attribute"):
        if attribute.get("name", "").lower() in TRACK_KEYS and attribute.text:
            return attribute.text.strip()
    return ""


def _frames(root: ElementTree.Element, skipped: Counter[str]) -> Iterator[AnnotatedImage]:
    """The frames of a video with the tracks that are seen in them."""
    shapes: dict[int, list[Annotation]] = {}
    last = int(root.findtext("meta/task/size") or root.findtext("meta/job/size") or 0) - 1
    for track in root.iter("track"):
        number = str(int(track.attrib["id"]) + 1)  # they count from 0, which is no object here
        for shape in track:
            frame, draw = int(shape.attrib["frame"]), _draw(shape)
            if draw is None:
                skipped[shape.tag] += 1
                continue
            last = max(last, frame)
            if shape.get("outside") != "1":
                item = Annotation(draw, track.get("label", ""), number)
                shapes.setdefault(frame, []).append(item)
    if last > 10_000_000:
        raise ValueError(f"frame {last}")
    for frame in range(last + 1):
        yield AnnotatedImage(f"frame_{frame:06d}", _video_size(root), tuple(shapes.get(frame, ())))


def _video_size(root: ElementTree.Element) -> tuple[int, int] | None:
    for place in ("meta/task/original_size", "meta/job/original_size", "meta/original_size"):
        width, height = root.findtext(f"{place}/width"), root.findtext(f"{place}/height")
        if width and height:
            return int(height), int(width)
    return None


# --- pictures


def find_pictures(path: Path) -> Path | None:
    """The folder of a "Segmentation mask" export."""
    folder = path.parent if path.name == LABEL_MAP else path
    has_masks = (folder / OBJECTS).is_dir() or (folder / CLASSES).is_dir()
    return folder if has_masks and (folder / LABEL_MAP).is_file() else None


def read_pictures(folder: Path) -> Export:
    """The masks of a "Segmentation mask" export. Raises DataError, FormatError."""
    labels = _label_map(folder / LABEL_MAP)
    classes, objects = _pictures(folder / CLASSES), _pictures(folder / OBJECTS)
    images = []
    for key in sorted(classes.keys() | objects.keys()):
        read = functools.partial(_picture_image, key, classes.get(key), objects.get(key))
        images.append(read(labels))
    if not images:
        raise DataError(f"{folder}: {OBJECTS} and {CLASSES} hold no pictures")
    return Export("CVAT", folder, tuple(images))


def _label_map(path: Path) -> dict[int, str]:
    """Colour 0xRRGGBB -> label, from lines `label:r,g,b:parts:actions`."""
    labels = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, color, *_ = line.split(":")
            red, green, blue = (int(value) for value in color.split(","))
        except ValueError as error:
            raise FormatError(f"{path}: line {number} is no label:r,g,b ({line!r})") from error
        labels[red << 16 | green << 8 | blue] = name
    return labels


def _pictures(folder: Path) -> dict[str, Path]:
    """Name without suffix -> file."""
    found = sorted(folder.rglob("*.png")) if folder.is_dir() else []
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}


def _picture_image(
    key: str, classes: Path | None, objects: Path | None, labels: dict[int, str]
) -> AnnotatedImage:
    """The objects of one image; its classes are the objects where there is no other picture."""
    path = objects or classes
    assert path is not None
    codes = picture_codes(path)
    of_class = codes if classes is None else picture_codes(classes)
    if codes.shape != of_class.shape:
        raise DataError(f"{path}: another size than {classes}")
    annotations = []
    for code in np.unique(codes[codes != 0]):
        inside = of_class[codes == code]
        values, counts = np.unique(inside, return_counts=True)
        label = labels.get(int(values[counts.argmax()]), "") if classes is not None else ""
        if label.lower() == "background":
            continue
        annotations.append(Annotation(picture_values(path, int(code)), label))
    return AnnotatedImage(key, (codes.shape[0], codes.shape[1]), tuple(annotations))
