# SPDX-License-Identifier: Apache-2.0
"""What `scripts/reproduce/run.py` does: scenes, masks, cells, tables."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from arguments.reproduction import MASKS, ReproductionParams
from iqgs.engine.reproduction.launching import (
    Executor,
    Runner,
    default_runner,
    run_subprocess,
    slurm_executor,
)
from iqgs.engine.reproduction.limits import Limit, can_measure_memory
from iqgs.engine.reproduction.mask_folders import link_scene, write_masks
from iqgs.engine.reproduction.rows import ROWS, cells_of
from iqgs.engine.reproduction.running import Plan, finished_cells, run_cells
from iqgs.engine.reproduction.tables import write_tables
from iqgs.engine.reproduction.transfer import METHODS_OF_TABLE, finished_transfers, run_transfers
from utils.errors import DataError, RunError, UserError

log = logging.getLogger(__name__)
ROOMS = ("0", "1", "2")  # seeds of the embedded scenes
# Folder, flags of train.py and of evaluate.py, as in scripts/train_*.sh.
DATA_SETS = {
    "lerf": ("data/lerf_mask", ("-r", "1", "--train_split"), ("--split", "train")),
    "360_v2": ("data/360_v2", ("--images", "images_2", "--eval"), ("--split", "test")),
}
QUICK_ROOM = ("--width", "96", "--height", "72", "--views", "15", "--objects", "12")
QUICK_STEPS = {"iterations": 300, "instance_iterations": 200}
# What a table is about; others are run on all kinds of masks.
TRANSFER = "table2"
ABLATIONS = ("exact", "degraded-repaired")
MASKS_OF = {TRANSFER: ("exact",), **dict.fromkeys(("table3", "table4", "fig1d"), ABLATIONS)}


def reproduce(params: ReproductionParams, run: Runner | None = None) -> tuple[str, int]:
    """Run what is missing of a table; its Markdown, and the exit code (1 where a cell failed).

    run: what runs a command; None: processes of this machine, or jobs with `--slurm`.
    """
    known = [row.name for row in ROWS[params.table]] if params.table in ROWS else METHODS_OF_TABLE
    for name in params.methods:
        if name not in known:
            raise UserError(f"--methods of {params.table} are {', '.join(known)}, got {name!r}")
    if params.limit_memory_gb and not can_measure_memory():
        raise UserError("--limit_memory_gb needs Linux, whose /proc tells what a process uses")
    output = Path(params.output).resolve()
    jobs = params.jobs or torch.cuda.device_count() or os.cpu_count() or 1
    run = run or (run_subprocess if params.slurm else default_runner(jobs))
    masks = params.masks or MASKS_OF.get(params.table, MASKS)
    plan = _plan(params, _data(params, output, run), output)
    if params.table == TRANSFER and len(plan.scenes) < 2:
        raise UserError("table2 carries decoders from scene to scene: name two --scenes")
    cells = [] if params.table == TRANSFER else cells_of(params, plan.scenes, masks)
    if params.report:
        transfers = params.table == TRANSFER
        records = finished_transfers(plan, params) if transfers else finished_cells(plan, cells)
    else:
        for folder in plan.scenes.values():
            write_masks(folder, masks)
        with _executor(params, jobs, output) as executor:
            if params.table == TRANSFER:
                records = run_transfers(plan, params, executor, run)
            else:
                log.info("%s: %d cells in %s", params.table, len(cells), output)
                records = run_cells(plan, cells, executor, run)
    name = f"{Path(params.data).name}{' (quick)' if params.quick else ''}"
    kind = f"{Path(params.data).name}-{params.primitive}{'-quick' if params.quick else ''}"
    data = f"{name}: {', '.join(plan.scenes)}"
    page = write_tables(records, output / kind, params.table, data, output)
    return page, int(any(record["state"] != "done" for record in records))


@contextmanager
def _executor(params: ReproductionParams, jobs: int, output: Path) -> Iterator[Executor]:
    if params.slurm:
        yield slurm_executor(output / "slurm", params.slurm)
    else:
        with ThreadPoolExecutor(jobs) as pool:
            yield pool


def _plan(params: ReproductionParams, data: Data, output: Path) -> Plan:
    steps = {name: getattr(params, name) for name in QUICK_STEPS}
    if params.quick:
        steps = {name: steps[name] or QUICK_STEPS[name] for name in steps}
    flags = {name: (f"--{name}", str(value)) if value else () for name, value in steps.items()}
    size = ("-r", str(params.resolution)) if params.resolution != -1 else ()
    threads = params.threads or int(not params.slurm and not torch.cuda.is_available())
    return Plan(
        output=output,
        scenes=data.scenes,
        reconstruct=flags["iterations"],
        instances=flags["instance_iterations"],
        train=(*data.train, "--quiet", *size),
        evaluate=data.evaluate,
        threads=("--threads", str(threads)) if threads else (),
        limit=Limit(params.limit_minutes, params.limit_memory_gb),
    )


@dataclass(frozen=True)
class Data:
    """Scenes by name, and what train.py and evaluate.py are told about them."""

    scenes: Mapping[str, Path]
    train: tuple[str, ...] = ("--eval",)
    evaluate: tuple[str, ...] = ()


def _rooms(params: ReproductionParams, output: Path, run: Runner) -> Data:
    """Rooms that are ray-cast where they are not there yet."""
    some = ROOMS[: 2 if params.table == TRANSFER else 1] if params.quick else ROOMS
    rooms = params.scenes or some
    scenes = {}
    for seed in rooms:
        if not seed.isdigit():
            raise UserError(f"--scenes of synthetic data are seeds of rooms, got {seed!r}")
        name = f"{'quick-' if params.quick else ''}room-{seed}"
        scenes[name] = output / "scenes" / name
        command = ["scripts/make_synthetic_scene.py", str(scenes[name]), "--seed", seed]
        command += QUICK_ROOM if params.quick else ()
        if not (scenes[name] / "sparse").is_dir():
            _prepare(command, output, run)
    return Data(scenes)


def _data(params: ReproductionParams, output: Path, run: Runner) -> Data:
    """What `--data` names; no file of it is changed."""
    if params.data == "synthetic":
        return _rooms(params, output, run)
    usual = (params.data, ("--eval",), ())
    root, train, evaluate = DATA_SETS.get(params.data, usual)
    folder = Path(root).resolve()
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: --data takes the folder that holds the scenes")
    names = params.scenes or tuple(
        path.name for path in sorted(folder.iterdir()) if (path / "object_mask").is_dir()
    )
    if not names:
        raise DataError(f"{folder} holds no scene with a folder object_mask")
    for name in names:
        if not (folder / name / "object_mask").is_dir():
            raise DataError(f"no folder {folder / name / 'object_mask'}: see --scenes")
    linked = {name: link_scene(folder / name, output / "scenes" / name) for name in names}
    return Data(linked, train, evaluate)


def _prepare(command: list[str], output: Path, run: Runner) -> None:
    outcome = run(command, output / "preparation.log")
    if outcome.code:
        raise RunError(f"{Path(command[0]).name} failed: {outcome.words.removeprefix('error: ')}")
