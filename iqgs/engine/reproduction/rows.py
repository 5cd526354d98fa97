# SPDX-License-Identifier: Apache-2.0
"""The rows of the paper's tables, and the numbers that the paper prints beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from arguments.reproduction import ReproductionParams
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
# The same of its Table 2, onto ramen from these.
_SOURCES = ("teatime", "figurines", "bonsai", "room", "kitchen", "counter")
_TABLE2: Mapping[str, tuple[float, ...]] = {
    "gaussian-grouping": (1.56, 1.70, 1.10, 0.82, 1.55, 2.65),
    "iqgs": (10.11, 11.72, 9.86, 12.78, 10.56, 12.56),
    "iqgs-h": (31.09, 41.78, 39.92, 33.67, 28.45, 30.17),
}
# The same of Tables 3 to 5, on LERF and on 360_v2, by row.
_AVERAGES: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "table3": {
        "N_q=50 D=16": (46.21, 57.13),
        "N_q=150 D=16": (50.34, 63.46),
        "N_q=300 D=16": (59.36, 72.02),
        "N_q=300 D=8": (52.68, 64.62),
        "N_q=300 D=32": (53.57, 66.59),
    },
    "table4": {
        "all losses": (59.36, 72.02),
        "without focal": (33.91, 48.69),
        "without dice": (49.43, 59.34),
        "without reg3D": (51.75, 60.08),
        "without consist": (54.33, 66.17),
        "lambda_mask=10": (51.15, 63.31),
        "lambda_dice=2": (56.52, 69.95),
        "lambda_reg=0.5": (56.85, 70.34),
        "lambda_geom=0.5": (58.44, 71.49),
    },
    "table5": {"iqgs": (59.36, 72.02), "iqgs-h": (49.36, 58.21), "id-map": (40.02, 49.27)},
}


@dataclass(frozen=True)
class Row:
    """One way to train, by the name that a table prints."""

    name: str
    method: str
    flags: tuple[str, ...] = ()  # of train.py, after all others
    primitive: str = ""  # empty: what the command asks for
    oracle: bool = False  # scored by the labels that the truth gives to the splats
    masks: tuple[str, ...] = ()  # the only kinds of masks that it makes sense on; empty: all


def _queries(number: int, width: int) -> Row:
    flags = ("--num_queries", str(number), "--feature_dim", str(width))
    return Row(f"N_q={number} D={width}", "iqgs", flags)


def _weights(name: str, flag: str, value: str) -> Row:
    return Row(name, "iqgs", (flag, value))


ROWS: Mapping[str, tuple[Row, ...]] = {
    "table1": (
        *(Row(name, name) for name in METHODS),
        Row("iqgs-paper", "iqgs", ("--preset", "paper")),
        Row("iqgs-h-paper", "iqgs-h", ("--preset", "paper")),
        Row("omegas-released", "omegas", ("--variant", "released")),
        Row("random-decoder", "iqgs", ("--instance_iterations", "1"), masks=("exact",)),
        Row("oracle", "vote", oracle=True, masks=("exact",)),
    ),
    "table3": tuple(
        _queries(*pair) for pair in ((50, 16), (150, 16), (300, 16), (300, 8), (300, 32))
    ),
    "table4": (
        Row("all losses", "iqgs"),
        _weights("without focal", "--lambda_mask", "0"),
        _weights("without dice", "--lambda_dice", "0"),
        _weights("without reg3D", "--lambda_reg", "0"),
        _weights("without consist", "--lambda_geom", "0"),
        _weights("lambda_mask=10", "--lambda_mask", "10"),
        _weights("lambda_dice=2", "--lambda_dice", "2"),
        _weights("lambda_reg=0.5", "--lambda_reg", "0.5"),
        _weights("lambda_geom=0.5", "--lambda_geom", "0.5"),
    ),
    "table5": tuple(Row(name, name) for name in ("iqgs", "iqgs-h", "id-map")),
    "fig1d": tuple(
        Row(f"{name} on {primitive}", name, primitive=primitive)
        for name in ("gaussian-grouping", "iqgs")
        for primitive in ("3dgs", "2dgs")
    ),
}


def paper_numbers(table: str, row: str, primitive: str) -> dict[str, float]:
    """{scene or data set: mIoU in percent} that the paper prints; empty without such a row."""
    if table in ("table1", "fig1d"):
        method = row.split(" ")[0]
        for suffix in ("-paper", "-released"):
            method = method.removesuffix(suffix)
        return dict(zip(SCENES, _TABLE1.get((method, primitive), ()), strict=False))
    if primitive != "2dgs":
        return {}
    if table == "table2":
        return dict(zip(_SOURCES, _TABLE2.get(row.split(",")[0], ()), strict=False))
    averages = _AVERAGES.get(table, {}).get(row, ())
    return dict(zip(("LERF", "360_v2"), averages, strict=False))


@dataclass(frozen=True)
class Cell:
    """One run: a row of a table on the masks of a scene, with a seed."""

    scene: str
    row: Row
    masks: str  # of arguments.reproduction.MASKS
    seed: int
    primitive: str

    @property
    def name(self) -> str:
        word = re.sub("[^A-Za-z0-9.]+", "-", self.row.name)
        return f"{self.scene}/{self.primitive}/seed{self.seed}/{word}-{self.masks}"

    @property
    def splats(self) -> tuple[str, str, int]:
        """Cells of which this is the same learn on the same splats."""
        return self.scene, self.primitive, self.seed

    @property
    def about(self) -> dict[str, str | int]:
        """As its record tells it."""
        return {
            **{"scene": self.scene, "row": self.row.name, "method": self.row.method},
            **{"primitive": self.primitive, "masks": self.masks, "seed": self.seed},
        }


def cells_of(
    params: ReproductionParams, scenes: Iterable[str], masks: tuple[str, ...]
) -> list[Cell]:
    """The cells of a table."""
    asked = params.methods
    rows = [row for row in ROWS[params.table] if not asked or row.name in asked]
    return [
        Cell(scene, row, name, seed, row.primitive or params.primitive)
        for scene in scenes
        for seed in range(params.seeds)
        for row in rows
        for name in row.masks or masks
    ]
