# SPDX-License-Identifier: Apache-2.0
"""Writers of small exports, one for each annotation tool, from masks that are known.

Written after the tools' documentation, by other means than the readers: pycocotools for run-length
codes, loops for CVAT's, Pillow for bitmaps.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from PIL import Image

Polygon = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Thing:
    """One object of one image."""

    mask: np.ndarray  # [H, W]
    label: str
    track: int = 0  # 0: none


Scene = Mapping[str, Sequence[Thing]]


def runs(bits: Sequence[int]) -> list[int]:
    """Lengths of runs, zeros first."""
    counts, value = [0], 0
    for bit in bits:
        if bit != value:
            counts.append(0)
            value = bit
        counts[-1] += 1
    return counts


def corners(mask: np.ndarray) -> Polygon:
    """Of a rectangle."""
    rows, columns = np.nonzero(mask)
    left, right = float(columns.min()), float(columns.max() + 1)
    top, bottom = float(rows.min()), float(rows.max() + 1)
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def cvat_images(folder: Path, scene: Scene, as_masks: bool) -> Path:
    """CVAT for images 1.1."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations><version>1.1</version>"]
    for number, (name, things) in enumerate(scene.items()):
        height, width = things[0].mask.shape
        lines.append(
            f'<image id="{number}" name={quoteattr(name)} width="{width}" height="{height}">'
        )
        for thing in things:
            inner = ""
            if thing.track:
                inner = f'<attribute name="track_id">{thing.track}</attribute>'
            if as_masks:
                rows, columns = np.nonzero(thing.mask)
                left, top = columns.min(), rows.min()
                part = thing.mask[top : rows.max() + 1, left : columns.max() + 1]
                rle = ", ".join(str(count) for count in runs(part.astype(int).ravel().tolist()))
                shape = (
                    f'<mask label={quoteattr(thing.label)} source="manual" occluded="0" '
                    f'rle="{rle}" left="{left}" top="{top}" width="{part.shape[1]}" '
                    f'height="{part.shape[0]}" z_order="0">{inner}</mask>'
                )
            else:
                points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners(thing.mask))
                shape = (
                    f"<polygon label={quoteattr(thing.label)} occluded='0' points='{points}' "
                    f"z_order='0'>{inner}</polygon>"
                )
            lines.append(shape)
        lines.append('<box label="x" xtl="0" ytl="0" xbr="3" ybr="3"></box></image>')
    path = folder / "annotations.xml"
    path.write_text("\n".join([*lines, "</annotations>"]))
    return path


def cvat_video(folder: Path, scene: Scene) -> Path:
    """CVAT for video 1.1: tracks with a shape in every frame, outside where they are not seen."""
    frames = list(scene.values())
    lines = [f"<annotations><meta><task><size>{len(frames)}</size></task></meta>"]
    for track in sorted({thing.track for things in frames for thing in things}):
        shapes, label, last = [], "", "0,0;1,0;1,1"
        for number, things in enumerate(frames):
            found = [thing for thing in things if thing.track == track]
            if found:
                label = found[0].label
                last = ";".join(f"{x},{y}" for x, y in corners(found[0].mask))
            shapes.append(
                f'<polygon frame="{number}" keyframe="1" outside="{int(not found)}" '
                f'occluded="0" points="{last}"></polygon>'
            )
        lines.append(f'<track id="{track - 1}" label="{label}">{"".join(shapes)}</track>')
    path = folder / "annotations.xml"
    path.write_text("\n".join([*lines, "</annotations>"]))
    return path


def cvat_pictures(folder: Path, scene: Scene) -> Path:
    """Segmentation mask 1.1: colours of classes and of objects, and their list."""
    colors = {"background": (0, 0, 0)}
    for things in scene.values():
        for thing in things:
            colors.setdefault(thing.label, (17 * len(colors), 200, 30))
    lines = [f"{label}:{red},{green},{blue}::" for label, (red, green, blue) in colors.items()]
    (folder / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "\n".join(lines))
    for name, things in scene.items():
        classes = np.zeros((*things[0].mask.shape, 3), np.uint8)
        objects = classes.copy()
        for number, thing in enumerate(things):
            classes[thing.mask] = colors[thing.label]
            objects[thing.mask] = (128, 40 * number, 7)
        for kind, pixels in (("SegmentationClass", classes), ("SegmentationObject", objects)):
            path = folder / kind / Path(name).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


def supervisely(folder: Path, scene: Scene, as_bitmaps: bool) -> Path:
    """A project with one data set."""
    (folder / "meta.json").write_text(json.dumps({"classes": [], "tags": []}))
    for name, things in scene.items():
        height, width = things[0].mask.shape
        objects = []
        for thing in things:
            tags = [{"name": "track_id", "value": thing.track}] if thing.track else []
            item = {"classTitle": thing.label, "tags": tags}
            if as_bitmaps:
                rows, columns = np.nonzero(thing.mask)
                top, left = int(rows.min()), int(columns.min())
                part = thing.mask[top : rows.max() + 1, left : columns.max() + 1]
                stream = io.BytesIO()
                Image.fromarray(part).save(stream, "PNG")
                data = base64.b64encode(zlib.compress(stream.getvalue())).decode()
                item |= {
                    "geometryType": "bitmap",
                    "bitmap": {"data": data, "origin": [left, top]},
                }
            else:
                item |= {
                    "geometryType": "polygon",
                    "points": {"exterior": corners(thing.mask), "interior": []},
                }
            objects.append(item)
        objects.append({"geometryType": "rectangle", "points": {}, "classTitle": "x"})
        record = {"size": {"height": height, "width": width}, "objects": objects}
        path = folder / "data set 1/ann" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
    return folder


def coco_segmentation(mask: np.ndarray, kind: str) -> object:
    """Polygons, or run-length codes down the columns."""
    if kind == "polygons":
        return [[value for corner in corners(mask) for value in corner]]
    if kind == "plain":
        return {"size": list(mask.shape), "counts": runs(mask.astype(int).T.ravel().tolist())}
    tools = pytest.importorskip("pycocotools.mask")
    code = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": code["size"], "counts": code["counts"].decode()}


def coco(folder: Path, scene: Scene, kind: str, track_place: str = "track_id") -> Path:
    """instances_default.json with polygons, compressed or plain run-length codes."""
    images, items = [], []
    labels = sorted({thing.label for things in scene.values() for thing in things})
    for number, (name, things) in enumerate(scene.items(), 10):
        height, width = things[0].mask.shape
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for thing in things:
            segmentation = coco_segmentation(thing.mask, kind)
            item = {
                "id": len(items) + 1,
                "image_id": number,
                "category_id": labels.index(thing.label) + 1,
                "segmentation": segmentation,
                "iscrowd": 0,
            }
            if thing.track and track_place == "attributes":
                item["attributes"] = {"occluded": False, "track_id": thing.track}
            elif thing.track:
                item["track_id"] = thing.track
            items.append(item)
    categories = [{"id": k, "name": label} for k, label in enumerate(labels, 1)]
    path = folder / "annotations/instances_default.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"images": images, "annotations": items, "categories": categories}
    path.write_text(json.dumps(record))
    return path


def yolo(folder: Path, scene: Scene) -> Path:
    """labels/ with polygons in shares of the image, and data.yaml."""
    labels = sorted({thing.label for things in scene.values() for thing in things})
    for name, things in scene.items():
        height, width = things[0].mask.shape
        lines = ["0 0.5 0.5 0.1 0.1"] if name.startswith("b") else []
        for thing in things:
            shares = " ".join(f"{x / width:.6f} {y / height:.6f}" for x, y in corners(thing.mask))
            lines.insert(0, f"{labels.index(thing.label)} {shares}")
        path = folder / "labels" / Path(name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    names = "".join(f"  {number}: {label}\n" for number, label in enumerate(labels))
    (folder / "data.yaml").write_text(f"path: .\ntrain: images\nnames:\n{names}")
    return folder


def lerf_mask(folder: Path, scene: Scene) -> Path:
    """test_mask/<view>/<prompt>.png, as edited pictures: 0 and 255, some gray on the outline."""
    for name, things in scene.items():
        for thing in things:
            pixels = thing.mask.astype(np.uint8) * 255
            pixels[0, 0] = 90
            path = folder / "test_mask" / Path(name).stem / f"{thing.label}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


def sam_folders(folder: Path, scene: Scene) -> Path:
    """As segment-anything's scripts/amg.py writes."""
    for name, things in scene.items():
        place = folder / Path(name).stem
        place.mkdir(parents=True)
        for number, thing in enumerate(things):
            Image.fromarray(thing.mask.astype(np.uint8) * 255).save(place / f"{number}.png")
        (place / "metadata.csv").write_text("id,area,bbox_x0\n")
    return folder
