# SPDX-License-Identifier: Apache-2.0
"""Run cells as subprocesses: what is finished is skipped, what fails does not stop the rest."""

from __future__ import annotations

import datetime
import functools
import json
import logging
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from iqgs.engine.reproduction.launching import (
    ROOT,
    Executor,
    Limited,
    Outcome,
    Promised,
    Runner,
)
from iqgs.engine.reproduction.limits import NO_LIMIT, Limit
from iqgs.engine.reproduction.mask_folders import FOLDERS, TRUTH
from iqgs.engine.reproduction.rows import Cell
from iqgs.engine.scoring.run_scores import SWAPPED
from iqgs.methods import METHODS
from utils.errors import IQGSError, RunError
from utils.json_files import read_json
from utils.storage import write_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What all cells share. `train` and `evaluate` are further flags of these commands.

    `threads` are flags of both that change no result, so that finished cells stay finished.
    """

    output: Path
    scenes: Mapping[str, Path]
    reconstruct: tuple[str, ...]  # flags that only the reconstruction gets
    instances: tuple[str, ...]  # flags that only the cells get
    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    threads: tuple[str, ...] = ()
    limit: Limit = NO_LIMIT


def revision() -> str:
    """The revision of the code, marked where files differ from it; `unknown` without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@functools.cache
def machine() -> str:
    """Processor, cores, GPU and Python of this machine."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        named = (
            x.split(":", 1)[1] for x in information.read_text().splitlines() if "model name" in x
        )
        model = next(named, model).strip()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{model}, {os.cpu_count()} virtual cores, {gpu}, Python {platform.python_version()}"


def _must(run: Runner, command: list[str], log_file: Path) -> Outcome:
    outcome = run(command, log_file)
    if outcome.code and outcome.ended:
        raise RunError(f"{Path(command[0]).name} was ended: {outcome.ended}")
    if outcome.code:
        words = outcome.words.removeprefix("error: ")
        raise RunError(f"{Path(command[0]).name} ended with {outcome.code}: {words}")
    return outcome


def finished(path: Path, command: list[str]) -> dict[str, Any] | None:
    """The record of a finished run of the same command."""
    try:
        record = read_json(path)
    except IQGSError:
        return None
    return record if record.get("state") == "done" and record.get("command") == command else None


def write_record(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Complete and write a record."""
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    content = {**content, "revision": revision(), "machine": machine(), "date": today}
    write_text(path, json.dumps(content, indent=1) + "\n")
    return content


def _reconstruction(plan: Plan, cell: Cell) -> tuple[Path, list[str]]:
    """The record's file of the splats that all cells of a scene, primitive and seed share, and the
    command that makes them.
    """
    folder = plan.output / "runs" / cell.scene / cell.primitive / f"seed{cell.seed}"
    source, model = str(plan.scenes[cell.scene]), str(folder / "reconstruction")
    command = ["train.py", "-s", source, "-m", model, "--no_masks", "--overwrite"]
    command += ["--primitive", cell.primitive, "--seed", str(cell.seed)]
    return folder / "reconstruction.json", [*command, *plan.train, *plan.reconstruct]


def finished_splats(plan: Plan, cell: Cell) -> Path | None:
    """The shared splats where they are there already."""
    record = finished(*_reconstruction(plan, cell))
    return Path(record["splats"]) if record else None


def shared_splats(plan: Plan, cell: Cell, run: Runner) -> Path | str:
    """The splats that all cells of a scene, primitive and seed share, reconstructed where they are
    missing; or the sentence that says why there are none.
    """
    found = finished_splats(plan, cell)
    if found is not None:
        return found
    path, command = _reconstruction(plan, cell)
    model = path.with_suffix("")
    try:
        took = _must(Limited(run, plan.limit), [*command, *plan.threads], path.with_suffix(".log"))
    except RunError as error:
        return f"no reconstruction: {error}"
    plies = sorted(model.glob("point_cloud/iteration_*/point_cloud.ply"), key=_iteration)
    if not plies:
        return f"no reconstruction: {model} holds no splats after it"
    content = {"state": "done", "command": command, "splats": str(plies[-1])}
    write_record(path, {**content, "minutes": took.seconds / 60})
    return plies[-1]


def _iteration(path: Path) -> int:
    return int(path.parent.name.rsplit("_", 1)[1])


def scores_of(plan: Plan, model: Path, flags: tuple[str, ...], run: Runner) -> dict[str, float]:
    """The scores of a run against the true masks; `flags` of evaluate.py say how. Raises RunError,
    LookupError.
    """
    command = ["evaluate.py", "-m", str(model), "--gt_path", TRUTH, "--no-vote", "--quiet"]
    log_file = model.with_suffix(".log")
    _must(run, [*command, *flags, *plan.evaluate, *plan.threads], log_file)
    results = read_json(model / "results.json")
    if "--decoder" in flags:
        entry = results[SWAPPED + Path(flags[flags.index("--decoder") + 1]).name]
    else:
        kind = "oracle_" if "--oracle" in flags else "ours_"
        found = [name for name in results if name.startswith(kind)]
        entry = results[max(found, key=lambda name: int(name.rsplit("_", 1)[1]))]
    scores = next(iter(entry.values()))
    return {key: value for key, value in scores.items() if isinstance(value, int | float)}


def _command(plan: Plan, cell: Cell, splats: Path) -> tuple[Path, list[str]]:
    """The record's file of a cell, and its command of train.py."""
    path = plan.output / "runs" / f"{cell.name}.json"
    masks, repair = FOLDERS[cell.masks]
    command = ["train.py", "-s", str(plan.scenes[cell.scene]), "-m", str(path.with_suffix(""))]
    command += ["--overwrite", "-o", masks, "--method", cell.row.method, "--repair_masks", repair]
    command += ["--primitive", cell.primitive, "--seed", str(cell.seed)]
    command += ["--start_ply", str(splats), *plan.train, *plan.instances, *cell.row.flags]
    return path, command


def finished_cell(plan: Plan, cell: Cell, splats: Path | str) -> dict[str, Any] | None:
    """The record of a cell that ended well with the same flags."""
    if isinstance(splats, str):
        return None
    path, command = _command(plan, cell, splats)
    return finished(path, [*command, *plan.evaluate])


def run_cell(plan: Plan, cell: Cell, splats: Path | str, run: Runner) -> dict[str, Any]:
    """Train and score one cell; its record. A failure is a record with its reason.

    `splats`: the shared reconstruction, or the sentence that says why there is none.
    """
    content: dict[str, Any] = {**cell.about, "repair_masks": FOLDERS[cell.masks][1]}
    if isinstance(splats, str):
        path = plan.output / "runs" / f"{cell.name}.json"
        return write_record(path, {**content, "state": "failed", "reason": splats})
    path, command = _command(plan, cell, splats)
    model = path.with_suffix("")
    content["command"] = [*command, *plan.evaluate]
    run = Limited(run, plan.limit)
    try:
        took = _must(run, [*command, *plan.threads], path.with_suffix(".log"))
        content |= {"minutes": took.seconds / 60, "peak_MiB": took.peak}
        content["cpu_minutes"] = took.cpu / 60
        by_id = cell.masks != "fresh" and not METHODS[cell.row.method].per_view_ids
        wanted = ("id", "scene") if by_id else ("scene",)
        more = ("--oracle",) if cell.row.oracle else ()
        content["scores"] = {
            name: scores_of(plan, model, ("--matching", name, *more), run) for name in wanted
        }
        content["state"] = "done"
    except (IQGSError, ValueError, LookupError) as error:
        content |= {"state": "failed", "reason": str(error)}
        log.warning("%s: FAILED: %s", cell.name, error)
    return write_record(path, content)


def run_cells(
    plan: Plan, cells: list[Cell], executor: Executor, run: Runner
) -> list[dict[str, Any]]:
    """All cells, reconstructions first; records in the order of `cells`."""
    shared = {cell.splats: cell for cell in cells}
    begun = {
        key: finished_splats(plan, cell) or executor.submit(shared_splats, plan, cell, run)
        for key, cell in shared.items()
    }
    splats = {
        key: found if isinstance(found, Path) else found.result() for key, found in begun.items()
    }
    work: list[Promised | dict[str, Any]] = [
        finished_cell(plan, cell, splats[cell.splats])
        or executor.submit(run_cell, plan, cell, splats[cell.splats], run)
        for cell in cells
    ]
    return [found if isinstance(found, dict) else found.result() for found in work]


def finished_cells(plan: Plan, cells: list[Cell]) -> list[dict[str, Any]]:
    """Records of those cells that are finished."""
    found = [
        finished_cell(plan, cell, splats)
        for cell in cells
        if (splats := finished_splats(plan, cell)) is not None
    ]
    return [record for record in found if record is not None]
