# SPDX-License-Identifier: Apache-2.0
"""The rows of the paper's tables, and the numbers that the paper prints beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from iqgs.methods import METHODS

SCENES = ("ramen", "figurines", "teatime", "bonsai", "counter", "kitchen", "room")

# mIoU in percent on the paper's data (its Table 1), in the order of SCENES.
_TABLE1: Mapping[tuple[str, str], tuple[float, ...]] = {
    ("sa3d", "3dgs"): (33.01, 27.89, 25.03, 33.98, 28.19, 34.09, 25.15),
    ("omniseg3d", "3dgs"): (35.67, 29.60, 31.59, 34.70, 30.03, 35.14, 26.68),
    ("saga", "3dgs"): (43.81, 35.47, 37.80, 44.98, 40.25, 46.03, 49.27),
    ("gaussian-grouping", "3dgs"): (61.76, 42.81, 53.21, 60.33, 60.99, 59.79, 61.32),
    ("gaussian-grouping", "2dgs"): (40.97, 31.22, 33.65, 40.30, 35.62, 37.42, 35.23),
    ("omegas", "2dgs"): (48.63, 40.83, 41.51, 46.66, 46.57, 39.45, 42.34),
    ("iqgs", "2dgs"): (63.73, 61.76, 52.60, 76.50, 74.96, 69.71, 66.91),
}
# The same of Table 5, on LERF and on 360_v2.
_TABLE5: Mapping[str, tuple[float, ...]] = {
    "iqgs": (59.36, 72.02),
    "iqgs-h": (49.36, 58.21),
    "id-map": (40.02, 49.27),
}


def methods_of(table: str) -> tuple[str, ...]:
    """The methods that are the rows of a table."""
    return tuple(METHODS) if table == "table1" else tuple(_TABLE5)


def paper_numbers(table: str, method: str, primitive: str) -> dict[str, float]:
    """{scene or data set: mIoU in percent} that the paper prints; empty without such a row."""
    if table == "table1":
        return dict(zip(SCENES, _TABLE1.get((method, primitive), ()), strict=False))
    if primitive != "2dgs":
        return {}
    return dict(zip(("LERF", "360_v2"), _TABLE5.get(method, ()), strict=False))


@dataclass(frozen=True)
class Cell:
    """One run: a method on the masks of a scene, with a seed."""

    scene: str
    method: str
    masks: str  # of arguments.reproduction.MASKS
    seed: int
    primitive: str

    @property
    def name(self) -> str:
        return f"{self.scene}/{self.primitive}/seed{self.seed}/{self.method}-{self.masks}"
