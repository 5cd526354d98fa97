# SPDX-License-Identifier: Apache-2.0
"""Saving a run and putting it together again: nowhere else is a run opened.

An iteration folder holds what inference needs; a checkpoint holds what the next step needs.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arguments import RunConfig, SegmentationParams, config_to_json, read_config_file, resolve
from iqgs.engine.run_folder import CHECKPOINT_FILE, checkpoint_files, pick_iteration, request_fields
from iqgs.methods import build_method
from iqgs.model import IQGS
from iqgs.types import MethodOptions
from scene.dataset import Scene, SceneRequest, load_scene
from scene.frame import SceneFrame, up_direction
from scene.gaussian_model import GaussianModel
from scene.masks import IdTable
from utils.cfg_args import parse_cfg_args
from utils.errors import DataError, UserError
from utils.storage import atomic_folder, load_checkpoint, newest_good, save_checkpoint

logger = logging.getLogger(__name__)

FORMAT = "iqgs-checkpoint-1"
# Settings that may differ when a run goes on: they change no step of it.
HARMLESS = {
    "model_path",
    "test_iterations",
    "save_iterations",
    "checkpoint_iterations",
    "checkpoint_interval",
    "start_checkpoint",
    "resume",
    "overwrite",
    "quiet",
    "threads",
    "device",
    "config_file",
    "detect_anomaly",
    "deterministic",
    "data_device",
    "ip",
    "port",
    "debug",
    "debug_from",
    "use_wandb",
    "backend",
    "cache_path",
}


@dataclass
class Run:
    """A trained run, opened for rendering, evaluation or export."""

    model_path: Path
    config: RunConfig
    scene: Scene
    gaussians: GaussianModel
    method: IQGS | None  # None: reconstructed only
    iteration: int
    background: Tensor  # [3]

    @property
    def id_table(self) -> IdTable | None:
        """Original ids of the compact ones; None without masks."""
        return self.scene.id_table


def background_color(config: RunConfig) -> Tensor:
    """White or black [3], as `--white_background` says. On the CPU, as cameras are: the rasterizer
    takes both as numbers, and reading them from a GPU would wait for it."""
    return torch.full((3,), 1.0 if config.model.white_background else 0.0)


def scene_of(config: RunConfig) -> Scene:
    """Read the scene that the settings name."""
    return load_scene(SceneRequest(**request_fields(config.model), seed=config.train.seed))


def scene_frame(scene: Scene) -> SceneFrame:
    """What the coordinates of the scene's splats mean: up is where the training cameras have it."""
    return SceneFrame(up=up_direction([view.camera for view in scene.train]))


def most_objects_in_a_view(scene: Scene) -> int:
    """The largest number of ids that one training view shows."""
    return max((len(view.masks.ids) for view in scene.train if view.masks is not None), default=0)


def method_options(
    options: SegmentationParams, scene: Scene, zero_label: str, seed: int
) -> MethodOptions:
    """Settings and scene -> what builds the method; `--num_queries 0` is decided here."""
    known = len(scene.id_table) if scene.id_table is not None else 0
    queries = options.num_queries
    if queries == 0:
        # about twice the objects of the densest view (DETR's habit), or one query an id
        by_view = 2 * most_objects_in_a_view(scene) + 1
        queries = by_view if options.matching == "hungarian" else known + 1
    return MethodOptions(
        matching=options.matching,
        num_queries=max(queries, 2),
        feature_dim=options.feature_dim,
        instance_dim=options.instance_dim,
        num_ids=max(known, 1),
        zero_label=zero_label,
        lambda_mask=options.lambda_mask,
        lambda_dice=options.lambda_dice,
        lambda_reg=options.lambda_reg,
        lambda_geom=options.lambda_geom,
        focal_gamma=options.focal_gamma,
        focal_alpha=None if options.focal_alpha == -1 else options.focal_alpha,
        steady_matching=options.steady_matching,
        usage_cost=options.usage_cost,
        reg_target=options.reg_target,
        attention_pixels=options.attention_pixels,
        attention_keys=options.attention_keys,
        matching_pixels=options.matching_pixels,
        seed=seed,
    )


def save_iteration(
    folder: Path,
    iteration: int,
    gaussians: GaussianModel,
    method: IQGS | None,
    options: MethodOptions | None,
    labels: Tensor | None,
    frame: SceneFrame | None = None,
) -> Path:
    """Write point_cloud/iteration_N whole or not at all; `labels` [N]: original id of a splat.

    `frame` tells where up is: the file for viewers stands upright by it.
    """
    target = folder / "point_cloud" / f"iteration_{iteration}"
    with atomic_folder(target) as temporary:
        gaussians.save_ply(temporary / "point_cloud.ply", frame=frame)
        gaussians.save_ply(
            temporary / "point_cloud_viewer.ply", viewer=True, instance=labels, frame=frame
        )
        if method is not None and options is not None:
            state = {
                "format": FORMAT,
                "options": dataclasses.asdict(options),
                "state": method.state_dict(),
            }
            save_checkpoint(temporary / "iqgs.pth", state)
    return target


def load_method(path: Path) -> IQGS:
    """A method from its iqgs.pth."""
    saved = load_checkpoint(path)
    try:
        method = build_method(MethodOptions(**saved["options"]))
        method.load_state_dict(saved["state"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"{path} is not a query decoder of this program: {error}") from error
    method.eval()
    return method


def saved_settings(folder: Path) -> dict[str, Any]:
    """Settings of a run: config.json, or cfg_args of a run of 2DGS or Gaussian Grouping."""
    if (folder / "config.json").exists():
        return read_config_file(folder / "config.json")
    if (folder / "cfg_args").exists():
        names = {field.name for field in dataclasses.fields(SceneRequest)}
        text = (folder / "cfg_args").read_text(encoding="utf-8", errors="replace")
        values = parse_cfg_args(text)
        foreign = sorted(set(values) - names)
        logger.info("%s/cfg_args: settings without meaning here: %s", folder, foreign)
        return {
            key: value for key, value in values.items() if key in names and value is not None
        } | {"preset": "2dgs"}
    raise UserError(f"{folder} holds no run (no config.json); check -m")


def load_run(
    model_path: str | Path,
    iteration: int = -1,
    overrides: dict[str, Any] | None = None,
    device: str = "cpu",
) -> Run:
    """Open a run: settings, scene, splats and method of one iteration (-1: the highest)."""
    folder = Path(model_path)
    config = resolve(saved_settings(folder), overrides or {})
    chosen = pick_iteration(folder, iteration)
    saved = folder / "point_cloud" / f"iteration_{chosen}"
    gaussians = GaussianModel.load_ply(
        saved / "point_cloud.ply",
        config.segmentation.instance_dim,
        torch.Generator().manual_seed(config.train.seed),
    ).to(device)
    has_method = (saved / "iqgs.pth").is_file()
    method = load_method(saved / "iqgs.pth").to(device) if has_method else None
    return Run(
        folder,
        config,
        scene_of(config),
        gaussians,
        method,
        chosen,
        background_color(config),
    )


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


def check_same_run(saved: dict[str, dict[str, Any]], config: RunConfig) -> None:
    """Refuse to go on with settings that would change the run; list the harmless changes."""
    now = config_to_json(config)
    changed = {
        key: (saved[group].get(key), value)
        for group, values in now.items()
        for key, value in values.items()
        if group in saved and saved[group].get(key, value) != value
    }
    harmful = {key: pair for key, pair in changed.items() if key not in HARMLESS}
    if harmful:
        what = "; ".join(f"--{key} was {old!r}, now {new!r}" for key, (old, new) in harmful.items())
        raise UserError(f"the run cannot go on with other settings: {what}")
    for key, (old, new) in changed.items():
        logger.info("going on with --%s %r (was %r)", key, new, old)


def checkpoint_iteration(path: Path) -> int:
    """N of chkpntN.pth, -1 for another name."""
    match = CHECKPOINT_FILE.fullmatch(path.name)
    return int(match[1]) if match else -1


def going_on_settings(typed: dict[str, Any]) -> dict[str, Any]:
    """Settings of the run that the command line goes on from; none for a new run."""
    if typed.get("start_checkpoint"):
        groups = read_training(Path(typed["start_checkpoint"]))["config"]
        settings = {key: value for values in groups.values() for key, value in values.items()}
    else:
        folder = Path(typed.get("model_path", ""))
        if not typed.get("resume") or not (folder / "config.json").exists():
            return {}
        settings = read_config_file(folder / "config.json")
    one_time = ("start_checkpoint", "resume", "overwrite", "config_file")
    return {key: value for key, value in settings.items() if key not in one_time}
