# SPDX-License-Identifier: Apache-2.0
"""Table 2: decoders of source scenes read through the splats of a target scene, three ways.

The paper does not say how its models were joined. A decoder reads an attribute that was learned
together with another decoder; how much it can read depends on whether both began from the same
random numbers, and whether the attribute was learned for it. So each way is a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arguments.reproduction import ReproductionParams
from iqgs.engine.reproduction.launching import Executor, Limited, Runner
from iqgs.engine.reproduction.rows import Cell, Row
from iqgs.engine.reproduction.running import (
    Plan,
    finished,
    run_cell,
    run_cells,
    scores_of,
    shared_splats,
    write_record,
)
from utils.errors import IQGSError

METHODS_OF_TABLE = ("gaussian-grouping", "iqgs", "iqgs-h")
OWN, SHARED, FROZEN, CHANCE = "own seeds", "shared seed", "frozen decoder", "random decoder"


@dataclass(frozen=True)
class Transfer:
    """A source's decoder on a target's splats."""

    method: str
    way: str
    target: Cell  # a run of the target scene
    source: Cell  # the run whose decoder is taken

    @property
    def about(self) -> dict[str, Any]:
        """As its record tells it."""
        name = f"{self.method}, {self.way}"
        scene = f"{self.source.scene} to {self.target.scene}"
        return {**self.target.about, "row": name, "scene": scene, "repair_masks": "off"}


def transfers(params: ReproductionParams, scenes: list[str]) -> Iterator[Transfer]:
    """All cells of Table 2: the first scene is the target, the others are sources."""
    target, *sources = scenes
    methods = [name for name in METHODS_OF_TABLE if not params.methods or name in params.methods]
    for source in sources:
        for method in methods:
            for seed in range(params.seeds):
                here = Cell(target, Row(method, method), "exact", seed, params.primitive)
                there = replace(here, scene=source)
                yield Transfer(method, SHARED, here, there)
                yield Transfer(method, OWN, here, replace(there, seed=seed + 1))
                yield Transfer(method, FROZEN, here, there)
                untrained = Row(f"{method}-untrained", method, ("--instance_iterations", "1"))
                yield Transfer(method, CHANCE, here, replace(there, row=untrained, seed=seed + 1))


def run_transfers(
    plan: Plan, params: ReproductionParams, executor: Executor, run: Runner
) -> list[dict[str, Any]]:
    """Records of all transfers; the runs that they need are trained first."""
    wanted = list(transfers(params, list(plan.scenes)))
    cells = list(dict.fromkeys(cell for t in wanted for cell in (t.target, t.source)))
    trained = dict(zip(cells, run_cells(plan, cells, executor, run), strict=True))
    return [_transferred(plan, transfer, trained, run) for transfer in wanted]


def finished_transfers(plan: Plan, params: ReproductionParams) -> list[dict[str, Any]]:
    """Records of those transfers that are finished."""
    found = (
        finished(_path(plan, transfer), _flags(plan, transfer))
        for transfer in transfers(params, list(plan.scenes))
    )
    return [record for record in found if record is not None]


def _path(plan: Plan, transfer: Transfer) -> Path:
    name = f"{transfer.method}-{transfer.way}-from-{transfer.source.scene}".replace(" ", "-")
    return (plan.output / "runs" / transfer.target.name).with_name(f"transfer-{name}.json")


def _flags(plan: Plan, transfer: Transfer) -> list[str]:
    """What the record of a transfer is about: its decoder, and how it and the splats were made."""
    other = str(plan.output / "runs" / transfer.source.name)
    return ["--decoder", other, "--matching", "scene", *plan.train, *plan.instances, *plan.evaluate]


def _transferred(
    plan: Plan, transfer: Transfer, trained: dict[Cell, dict[str, Any]], run: Runner
) -> dict[str, Any]:
    target, source = transfer.target, transfer.source
    path, flags = _path(plan, transfer), _flags(plan, transfer)
    done = finished(path, flags)
    if done is not None:
        return done
    content = {**transfer.about, "command": flags, "minutes": 0.0, "peak_MiB": 0.0}
    broken = [trained[cell] for cell in (target, source) if trained[cell]["state"] != "done"]
    if broken:
        return write_record(path, {**content, "state": "failed", "reason": broken[0]["reason"]})
    model, other = (plan.output / "runs" / cell.name for cell in (target, source))
    try:
        if transfer.way == FROZEN:
            row = Row(
                f"{transfer.method}-for-{source.scene}", transfer.method, ("--decoder", str(other))
            )
            splats = shared_splats(plan, target, run)
            learned = run_cell(plan, replace(target, row=row), splats, run)
            told = ("state", "reason", "scores", "minutes", "cpu_minutes", "peak_MiB")
            content |= {key: learned[key] for key in told if key in learned}
        else:
            matching = ("--decoder", str(other), "--matching", "scene")
            found = scores_of(plan, model, matching, Limited(run, plan.limit))
            content |= {"state": "done", "scores": {"scene": found}}
    except (IQGSError, ValueError, LookupError) as error:
        content |= {"state": "failed", "reason": str(error)}
    return write_record(path, content)
