# SPDX-License-Identifier: Apache-2.0
"""What `scripts/reproduce/run.py` does: scenes, masks, cells, tables."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from arguments.reproduction import MASKS, ReproductionParams
from iqgs.engine.reproduction.launching import (
    Executor,
    Runner,
    default_runner,
    run_subprocess,
    slurm_executor,
)
from iqgs.engine.reproduction.mask_folders import link_scene, write_masks
from iqgs.engine.reproduction.rows import ROWS, cells_of
from iqgs.engine.reproduction.running import Plan, run_cells
from iqgs.engine.reproduction.tables import write_tables
from iqgs.engine.reproduction.transfer import METHODS_OF_TABLE, run_transfers
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
    """Run what is missing of a table; its Markdown, and the exit code (1 where a cell failed)."""
    known = [row.name for row in ROWS[params.table]] if params.table in ROWS else METHODS_OF_TABLE
    for name in params.methods:
        if name not in known:
            raise UserError(f"--methods of {params.table} are {', '.join(known)}, got {name!r}")
    output = Path(params.output).resolve()
    executor: Executor
    if params.slurm:
        executor, run = slurm_executor(output / "slurm", params.slurm), run or run_subprocess
    else:
        executor, run = ThreadPoolExecutor(params.jobs), run or default_runner(params.jobs)
    scenes, train, evaluate = _scenes(params, output, run)
    masks = params.masks or MASKS_OF.get(params.table, MASKS)
    for folder in scenes.values():
        write_masks(folder, masks)
    steps = {name: getattr(params, name) for name in QUICK_STEPS}
    if params.quick:
        steps = {name: steps[name] or QUICK_STEPS[name] for name in steps}
    flags = {name: (f"--{name}", str(value)) if value else () for name, value in steps.items()}
    train += ("--quiet",)
    train += ("-r", str(params.resolution)) if params.resolution != -1 else ()
    threads = params.threads or int(params.jobs > 1)
    plan = Plan(
        *(output, scenes, flags["iterations"], flags["instance_iterations"], train, evaluate),
        ("--threads", str(threads)) if threads else (),
    )
    if params.table == TRANSFER:
        if len(scenes) < 2:
            raise UserError("table2 carries decoders from scene to scene: name two --scenes")
        records = run_transfers(plan, params, executor, run)
    else:
        cells = cells_of(params, scenes, masks)
        log.info("%s: %d cells in %s", params.table, len(cells), output)
        records = run_cells(plan, cells, executor, run)
    data = f"{params.data}{' (quick)' if params.quick else ''}: {', '.join(scenes)}"
    kind = f"{Path(params.data).name}-{params.primitive}{'-quick' if params.quick else ''}"
    page = write_tables(records, output / kind, params.table, data)
    return page, int(any(record["state"] != "done" for record in records))


def _scenes(
    params: ReproductionParams, output: Path, run: Runner
) -> tuple[dict[str, Path], tuple[str, ...], tuple[str, ...]]:
    """{name: scene folder} and the flags of train.py and evaluate.py for this data."""
    if params.data == "synthetic":
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
        return scenes, ("--eval",), ()
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
    return linked, train, evaluate


def _prepare(command: list[str], output: Path, run: Runner) -> None:
    outcome = run(command, output / "preparation.log")
    if outcome.code:
        raise RunError(f"{Path(command[0]).name} failed: {outcome.words.removeprefix('error: ')}")
