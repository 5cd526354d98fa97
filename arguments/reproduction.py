# SPDX-License-Identifier: Apache-2.0
"""The options of `scripts/reproduce/run.py`."""

from __future__ import annotations

from dataclasses import dataclass

from arguments.options import OneLineParser, option, parse_record, require, require_at_least

TABLES = ("table1", "table2", "table3", "table4", "table5", "fig1d")
MASKS = ("exact", "degraded-raw", "degraded-repaired", "fresh")


@dataclass(frozen=True)
class ReproductionParams:
    """Which cells of a table of the paper are run, on what, and where they go."""

    table: str = option("table1", "table of the paper", choices=TABLES)
    data: str = option(
        "synthetic", "synthetic (ray-cast here), lerf, 360_v2, or a folder of scene folders"
    )
    output: str = option("output/reproduce", "folder of runs and tables", short="o")
    scenes: tuple[str, ...] = option((), "names of scenes; synthetic: seeds of rooms; empty: all")
    methods: tuple[str, ...] = option((), "only these rows; empty: all of the table")
    masks: tuple[str, ...] = option((), f"of {', '.join(MASKS)}; empty: all")
    seeds: int = option(1, "training seeds, from 0")
    primitive: str = option("2dgs", "what a splat is", choices=("2dgs", "3dgs"))
    iterations: int = option(0, "steps of the reconstruction; 0: as train.py")
    instance_iterations: int = option(0, "steps that learn instances; 0: as train.py")
    resolution: int = option(-1, "of the photographs, as train.py -r", short="r")
    quick: bool = option(False, "a small room and a few steps: does it run, not how good is it")
    report: bool = option(False, "run nothing: the table of the cells that are finished")
    jobs: int = option(0, "cells at once; 0: one a GPU, or without any one a processor core")
    slurm: tuple[str, ...] = option(
        (), "a Slurm job a cell, through submitit: its settings, as timeout_min=60 gpus_per_node=1"
    )
    limit_minutes: float = option(0.0, "end a cell that takes longer, as FAILED; 0: no limit")
    limit_memory_gb: float = option(
        0.0, "end a cell whose processes need more host memory, as FAILED; 0: no limit"
    )
    threads: int = option(0, "CPU threads of a cell; 0: all, or one without a GPU")

    def __post_init__(self) -> None:
        require_at_least(self, 1, "seeds")
        require_at_least(self, 0, "iterations", "instance_iterations", "threads", "jobs")
        require_at_least(self, 0, "limit_minutes", "limit_memory_gb")
        for name in self.masks:
            require(name in MASKS, "masks", name, f"of {', '.join(MASKS)}")


def parse_reproduction_arguments(arguments: list[str] | None = None) -> ReproductionParams:
    """The command line of `run.py`. A wrong one is a `UserError`."""
    parser = OneLineParser(
        prog="run.py", description="Run the cells of a table of the paper and write the table."
    )
    params: ReproductionParams = parse_record(parser, ReproductionParams, arguments)
    return params
