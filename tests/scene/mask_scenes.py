# SPDX-License-Identifier: Apache-2.0
"""Loading and changing the masks of the small scene of these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scene.dataset import Scene, SceneRequest, load_scene
from scene.masks import MaskCollection, MaskRequest, collect_masks

COLORS = {3: (250, 10, 20), 7: (64, 64, 64), 9: (3, 220, 91)}


def load(source: Path, **changes: Any) -> Scene:
    return load_scene(SceneRequest(source, random_points=200, **changes))


def collect(source: Path, **changes: Any) -> MaskCollection:
    """The masks of a scene without refusing anything."""
    cameras = [view.camera for view in load(source, no_masks=True).train]
    settings = {"zero_label": "background", "ignore_label": -1, "keep": False, "colors": {}}
    folder = source / changes.pop("object_path", "object_mask")
    return collect_masks(
        MaskRequest(folder, source / "labels.json", **{**settings, **changes}), cameras
    )


def kinds(found: MaskCollection) -> list[str]:
    return [finding.kind for finding in found.findings]


def each_mask(source: Path) -> list[Path]:
    return sorted((source / "object_mask").rglob("*.png"))


def recolor(path: Path, folder: str = "object_mask") -> None:
    """The id map as a picture of colours."""
    ids = np.asarray(Image.open(path))
    pixels = np.zeros((*ids.shape, 3), np.uint8)
    for number, color in COLORS.items():
        pixels[ids == number] = color
    target = path.parents[1] / folder / path.name
    target.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(target)
