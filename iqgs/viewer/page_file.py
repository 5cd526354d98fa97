# SPDX-License-Identifier: Apache-2.0
"""One HTML file that shows labelled splats: no server, no other file, no request to anywhere."""

from __future__ import annotations

import base64
import html
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import torch

from iqgs.objects.granularity import Granularity
from iqgs.objects.labelled import LabelledSplats
from iqgs.viewer.packed import list_entry, pack
from scene.cameras import Camera
from scene.frame import Vector, up_direction

PARTS = Path(__file__).with_name("page")
SCRIPTS = ("unpack", "shaders", "renderer", "orbit", "panel", "controls", "main")  # in this order
MOST_VIEWS = 100  # photographs' views in the page's list
NEAR_SHARE = 0.01  # nearest that a free camera sees, of the scene's size, where that is less
LEVEL_WORDS = {-1: "groups", 0: "objects", 1: "parts", 2: "subparts"}
_COUNTED = 20_000  # splats that decide on the first view


@dataclass(frozen=True)
class PageFacts:
    """What a page says and shows beside the splats."""

    title: str
    cameras: Sequence[Camera] = ()  # of the photographs
    background: Vector = (0.0, 0.0, 0.0)
    levels: Granularity | None = None  # of the objects; None: they are all that the page lists
    level: int = 0  # of these, that the page opens at


def page_text(objects: LabelledSplats, facts: PageFacts) -> str:
    """The page. ValueError without splats."""
    if not len(objects):
        raise ValueError("a page needs splats")
    levels = facts.levels
    units = objects if levels is None else levels.at(objects, max(levels.labels))
    packed = pack(units)
    cameras = facts.cameras[:: max(1, -(-len(facts.cameras) // MOST_VIEWS))]
    size = scene_size(objects)
    header = {
        **packed.header,
        "title": facts.title,
        "background": list(facts.background),
        "up": list(objects.frame.up or up_direction(facts.cameras) or (0.0, -1.0, 0.0)),
        "size": size,
        "near": min([NEAR_SHARE * size, *(camera.near for camera in cameras)]),
        "views": [view_entry(camera) for camera in cameras],
        "start": first_view(objects, cameras),
    }
    if levels is not None:
        header |= {"levels": level_entries(objects, units, levels), "level": facts.level}
    parts = {
        "title": html.escape(facts.title),
        "style": _part("style.css"),
        "header": _inert(header),
        "data": base64.b64encode(zlib.compress(packed.data, 9)).decode(),
        "worker": _part("worker.js"),
        "scripts": "\n".join(_part(f"{name}.js") for name in SCRIPTS),
    }
    return Template(_part("page.html")).substitute(parts)


def level_entries(
    objects: LabelledSplats, units: LabelledSplats, levels: Granularity
) -> list[dict[str, Any]]:
    """What the page lists at each level, coarsest first. `of`: for each of the units, the sets of
    splats that the page knows, by number, the place of the entry that it is in.
    """
    numbers, index = torch.unique(units.labels, return_inverse=True)
    first = torch.zeros(len(numbers), dtype=torch.int64)
    first[index] = torch.arange(len(index))
    found = []
    for level in sorted(levels.labels):
        seen = levels.at(objects, level)
        present, of = torch.unique(seen.labels[first], return_inverse=True)
        counts = torch.bincount(torch.searchsorted(present, seen.labels), minlength=len(present))
        rows = zip(present.tolist(), counts.tolist(), strict=True)
        entries = [list_entry(seen, number, count) for number, count in rows]
        name = LEVEL_WORDS.get(level, "parts" if level > 0 else "groups")
        found.append({"level": level, "name": name, "entries": entries, "of": of.tolist()})
    return found


def view_entry(camera: Camera) -> dict[str, Any]:
    """A camera as the page's scripts take it; `view`: the first three rows of world to view."""
    return {
        "name": camera.name,
        "view": camera.world_to_view[:3].flatten().tolist(),
        **{key: getattr(camera, key) for key in ("fx", "fy", "cx", "cy", "width", "height")},
    }


def scene_size(objects: LabelledSplats) -> float:
    """Diagonal of the box of the middle 90 % of all splats."""
    means = objects.splats.means.detach().cpu()
    means = means[:: max(1, len(means) // _COUNTED)]
    low, high = torch.quantile(means, torch.tensor([0.05, 0.95]), dim=0)
    return max(float((high - low).norm()), 1e-6)


def first_view(objects: LabelledSplats, cameras: Sequence[Camera]) -> int:
    """The camera before which most objects lie (of equals most splats, then the first)."""
    step = max(1, len(objects) // _COUNTED)
    means = objects.splats.means.detach().cpu()[::step]
    labels = objects.labels[::step]
    found = []
    for camera in cameras:
        pixels, depth = camera.project(means)
        inside = (depth > camera.near) & (pixels >= 0).all(1)
        inside &= (pixels[:, 0] < camera.width) & (pixels[:, 1] < camera.height)
        found.append((len(torch.unique(labels[inside])), int(inside.sum())))
    return found.index(max(found)) if found else 0


def _part(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")


def _inert(value: Any) -> str:
    """JSON that ends no element of HTML, whatever the names in it are."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
