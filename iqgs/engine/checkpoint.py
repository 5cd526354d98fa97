# SPDX-License-Identifier: Apache-2.0
"""Saving a run. An iteration folder holds what inference needs; a checkpoint what the next step
needs.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from arguments import RunConfig, config_to_json, harmless_settings
from iqgs.engine.run_folder import checkpoint_files, iteration_folder
from iqgs.methods import METHODS, build_method
from iqgs.methods.protocol import Method, SceneFacts, SplatLabels
from scene.exposure import EXPOSURE_FILE, Exposures
from scene.frame import SceneFrame
from scene.gaussian_model import GaussianModel
from utils.checkpoints import load_checkpoint, newest_good, save_checkpoint
from utils.errors import DataError, UserError
from utils.storage import atomic_folder

logger = logging.getLogger(__name__)

FORMAT = "iqgs-checkpoint-1"
METHOD_FORMAT = "iqgs-method-2"


@dataclasses.dataclass(frozen=True)
class SavedMethod:
    """A method with all that builds it again."""

    name: str
    params: Any
    facts: SceneFacts
    method: Method


def save_iteration(
    folder: Path,
    iteration: int,
    gaussians: GaussianModel,
    saved: SavedMethod | None,
    labels: SplatLabels | None,
    frame: SceneFrame,
) -> Path:
    """Write point_cloud/iteration_N whole or not at all; `labels`: original id of each splat.

    `frame` tells where up is: the file for viewers stands upright by it.
    """
    target = iteration_folder(folder, iteration)
    ids, sure = (None, None) if labels is None else (labels.labels, labels.confidence)
    with atomic_folder(target) as temporary:
        main, viewer = (temporary / f"point_cloud{kind}.ply" for kind in ("", "_viewer"))
        gaussians.save_ply(main, instance=ids, confidence=sure, frame=frame)
        gaussians.save_ply(viewer, viewer=True, instance=ids, frame=frame)
        if saved is not None:
            state = {
                "format": METHOD_FORMAT,
                "name": saved.name,
                "params": dataclasses.asdict(saved.params),
                "facts": dataclasses.asdict(saved.facts),
                "state": saved.method.state_dict(),
            }
            save_checkpoint(temporary / METHODS[saved.name].file, state)
    return target


def save_exposures(folder: Path, iteration: int, exposures: Exposures | None) -> None:
    """Write exposure.json beside the splats of an iteration, and in the run's folder, where other
    programs look for it; nothing where there are none.
    """
    if exposures is None:
        return
    for place in (iteration_folder(folder, iteration), folder):
        exposures.save(place / EXPOSURE_FILE)


def find_method(folder: Path) -> Path | None:
    """The file of the method in an iteration's folder; None where there is none."""
    names = dict.fromkeys(entry.file for entry in METHODS.values())
    return next((folder / name for name in names if (folder / name).is_file()), None)


def load_method(path: Path) -> SavedMethod:
    """A method from its file, ready to be read."""
    saved = load_checkpoint(path)
    try:
        saved = _of_version_1(saved) if "options" in saved else saved
        name = saved["name"]
        params = METHODS[name].params(**saved["params"])
        facts = SceneFacts(**saved["facts"])
        method = build_method(name, params, facts)
        method.load_state_dict(saved["state"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())  # torch tells a line for every tensor that does not fit
        raise DataError(f"{path} does not hold a method of this program: {why}") from error
    method.train(False)
    return SavedMethod(name, params, facts, method)


def _of_version_1(saved: dict[str, Any]) -> dict[str, Any]:
    """The file of a program that knew IQGS only, whose options were one flat record."""
    options = dict(saved["options"])
    name = {"id": "iqgs", "hungarian": "iqgs-h"}[options.pop("matching")]
    facts = {
        "num_ids": options.pop("num_ids"),
        "densest_view": 0,
        "zero_is_background": options.pop("zero_label") == "background",
        "instance_dim": options.pop("instance_dim"),
        "seed": options.pop("seed"),
    }
    alpha = options.pop("focal_alpha")
    options["focal_alpha"] = -1.0 if alpha is None else alpha
    options["literal_attention"] = not options.pop("residual", True)
    known = {field.name for field in dataclasses.fields(METHODS[name].params)}
    params = {key: value for key, value in options.items() if key in known}
    return {"name": name, "params": params, "facts": facts, "state": saved["state"]}


def save_training(path: Path, iteration: int, config: RunConfig, parts: dict[str, Any]) -> None:
    """Write a checkpoint that holds everything the next step depends on."""
    save_checkpoint(
        path,
        {
            "format": FORMAT,
            "iteration": iteration,
            "config": config_to_json(config),
            "versions": {"torch": str(torch.__version__)},
            **parts,
        },
    )


def state_to_go_on_from(config: RunConfig, folder: Path) -> dict[str, Any] | None:
    """The checkpoint that `--start_checkpoint` or `--resume` asks for, made with these settings."""
    state = None
    if config.train.start_checkpoint:
        state = read_training(Path(config.train.start_checkpoint))
    elif config.train.resume == "auto":
        path = find_resumable(folder)
        if path is not None:
            logger.info("going on from %s", path)
            state = read_training(path)
    if state is not None:
        check_same_settings(state["config"], config)
    return state


def find_resumable(folder: Path) -> Path | None:
    """Newest good checkpoint of a run; damaged ones are named. None where there never was one."""
    files = checkpoint_files(folder)
    if not files:
        return None
    good, bad = newest_good(files)
    if bad:
        logger.warning("damaged, passed over: %s", ", ".join(str(path) for path in bad))
    if good is None:
        names = ", ".join(str(path) for path in files)
        raise DataError(f"no checkpoint of the run can be read: {names}")
    return good


def read_training(path: Path) -> dict[str, Any]:
    """A checkpoint of ours; DataError for anything else."""
    state = load_checkpoint(path)
    if state.get("format") != FORMAT:
        raise DataError(
            f"{path} is not a checkpoint of this program; to start from other splats "
            "pass their point_cloud.ply with --start_ply"
        )
    return state


def check_same_settings(saved: dict[str, dict[str, Any]], config: RunConfig) -> None:
    """Refuse to go on with settings that would change the run; list the harmless changes."""
    now = config_to_json(config)
    changed = {
        key: (saved[group][key], value)
        for group, values in now.items()
        for key, value in values.items()
        if key in saved.get(group, {}) and saved[group][key] != value
    }
    harmless = harmless_settings(config)
    harmful = {key: pair for key, pair in changed.items() if key not in harmless}
    if harmful:
        what = "; ".join(f"--{key} was {old!r}, now {new!r}" for key, (old, new) in harmful.items())
        raise UserError(f"the run cannot go on with other settings: {what}")
    for key, (old, new) in changed.items():
        logger.info("going on with --%s %r (was %r)", key, new, old)
