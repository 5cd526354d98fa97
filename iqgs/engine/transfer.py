# SPDX-License-Identifier: Apache-2.0
"""The decoder of one run read through the splats of another (Table 2 of the paper)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from iqgs.engine.checkpoint import SavedMethod, find_method, load_method
from iqgs.engine.run import Run, spread_cameras
from iqgs.engine.run_folder import iteration_folder, pick_iteration
from iqgs.methods import METHODS
from iqgs.methods.protocol import SceneFacts
from utils.errors import UserError


def with_decoder_of(run: Run, other: str) -> Run:
    """The splats of a run, segmented by another run's decoder. UserError where that cannot be.

    Its ids are numbers of queries then: they name no object of this scene.
    """
    found = read_decoder(other)
    wanted, width = found.facts.instance_dim, run.gaussians.instance_dim
    if wanted != width:
        raise UserError(f"--decoder {other} reads {wanted} channels, {run.folder} has {width}")
    method = found.method.to(run.gaussians.device)
    method.ids = "queries"
    facts = replace(found.facts, tracks=True)
    swapped = replace(run, method=method, facts=facts, saved_labels=None)
    method.finish(swapped.lenses(spread_cameras(swapped)))
    return swapped


def read_decoder(other: str) -> SavedMethod:
    """The method of a run. UserError where its answer is one of splats, not of their attribute."""
    folder = Path(other)
    path = find_method(iteration_folder(folder, pick_iteration(folder, -1)))
    if path is None:
        raise UserError(f"--decoder {other}: this run was trained without masks")
    found = load_method(path)
    if not METHODS[found.name].attribute:
        raise UserError(f"--decoder {other}: {found.name} knows its own splats only")
    return found


def fixed_decoder(other: str, method: str, facts: SceneFacts) -> SavedMethod:
    """The decoder that a run's attribute is learned for. UserError where it does not fit."""
    found = read_decoder(other)
    if found.name != method:
        raise UserError(f"--decoder {other} is of --method {found.name}, not {method}")
    if found.facts.num_ids < facts.num_ids or found.facts.instance_dim != facts.instance_dim:
        raise UserError(
            f"--decoder {other} knows {found.facts.num_ids} ids and {found.facts.instance_dim} "
            f"channels; the scene has {facts.num_ids} and {facts.instance_dim}"
        )
    return found
