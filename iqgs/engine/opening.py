# SPDX-License-Identifier: Apache-2.0
"""Putting a run together: nowhere else is a run begun or opened."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arguments import RunConfig
from arguments.opening import OpeningParams
from gaussian_renderer import PRIMITIVES, Primitive
from iqgs.engine.association.masks_folder import AssociatedMasks
from iqgs.engine.checkpoint import find_method, load_method
from iqgs.engine.ranks import ALONE, Ranks
from iqgs.engine.run import Run, choose_device
from iqgs.engine.run_folder import (
    RunCameras,
    iteration_folder,
    pick_iteration,
    read_cameras,
    read_ids,
)
from iqgs.engine.settings import resolve_run, saved_settings, scene_of
from iqgs.engine.transfer import fixed_decoder
from iqgs.methods import METHODS, build_method
from iqgs.methods.protocol import IdKind, SceneFacts, SplatLabels
from scene.dataset import Scene
from scene.exposure import EXPOSURE_FILE, Exposures
from scene.frame import FRAME_FILE, SceneFrame
from scene.gaussian_model import GaussianModel, random_instance
from scene.parameters import INSTANCE_OPACITY
from scene.points import background_seeds
from scene.splat_files.columns import CONFIDENCE_COLUMN
from scene.splat_files.splat_file import SplatFile, read_kind, read_splats
from utils.errors import DataError, UserError
from utils.links import refuse_links_out
from utils.reproducibility import set_threads

logger = logging.getLogger(__name__)

NOISY = 0.01  # share of the pixels that a repair changed: boundaries are not to be trusted either
LEARNING = ("instances", "joint", "fitting")  # stages of older checkpoints with masks as they are
AUTOMATIC_SEEDS = 12_000  # background seeds when the point cloud leaves the surroundings empty
# Settings that move the scene or choose among its pixels; all others decide on the cameras.
ELSEWHERE = {
    *("source_path", "model_path", "images", "object_path", "data_device", "data_cache"),
    *("pair_by_order", "mask_orientation", "random_points", "max_points"),
}


def open_run(
    model_path: str | Path,
    iteration: int = -1,
    overrides: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Run:
    """Open a trained run from its own folder: settings, cameras, splats and method of one
    iteration (-1: the highest). The scene is read when it is first asked for.
    """
    folder, changed = Path(model_path), dict(overrides or {})
    refuse_links_out(folder)
    settings = saved_settings(folder)
    chosen = pick_iteration(folder, iteration)
    saved = iteration_folder(folder, chosen)
    path = saved / "point_cloud.ply"
    if not (folder / "config.json").exists():  # of another program: its splats tell what they are
        settings["primitive"] = read_splats(path).kind
    config = resolve_run(settings, changed)
    file = read_kind(path, primitive_in(config).name)
    for notice in file.notices:
        logger.warning("%s", notice)
    run = Run(
        config=config,
        folder=folder,
        cameras=RunCameras((), ()),
        gaussians=GaussianModel.from_splats(file, str(path)).to(device),
        ids=read_ids(folder),
        frame=SceneFrame.read(folder / FRAME_FILE),
        iteration=chosen,
    )
    run.repaired = AssociatedMasks.read(folder / AssociatedMasks.IN_RUN)
    _take_cameras(run, reread=bool(set(changed) & _decide_on_cameras(config)))
    if (saved / EXPOSURE_FILE).is_file():
        run.exposures = Exposures.load(saved / EXPOSURE_FILE, torch.device(device))
    method_path = find_method(saved)
    if method_path is not None:
        opened = load_method(method_path)
        run.method, run.facts = opened.method.to(device), opened.facts
        run.saved_labels = _labels_of(file, run.method.ids)
    return run


def _labels_of(file: SplatFile, ids: IdKind) -> SplatLabels | None:
    """The labels that were saved with the splats; None for runs of older versions."""
    sure = file.extra.get(CONFIDENCE_COLUMN)
    if file.labels is None or sure is None:
        return None
    numbers = torch.from_numpy(file.labels.astype(np.int64))
    return SplatLabels(numbers, torch.from_numpy(np.ascontiguousarray(sure, np.float32)), ids)


def open_for(
    model_path: str | Path, params: OpeningParams, overrides: Mapping[str, Any] | None = None
) -> Run:
    """Open a run as the options of a command ask for."""
    set_threads(params.threads)
    device = str(choose_device(params.device))
    return open_run(model_path, params.iteration, overrides, device)


def _decide_on_cameras(config: RunConfig) -> set[str]:
    return set(vars(config.model)) - ELSEWHERE


def _take_cameras(run: Run, reread: bool) -> None:
    """The cameras of the run's own files; of the scene where other settings ask for others."""
    found = None if reread else read_cameras(run.folder)
    if found is not None:
        run.cameras = found
        return
    run.loaded_scene = scene_of(run.config, run.frame)
    run.cameras = RunCameras.of_scene(run.loaded_scene)
    run.ids = run.ids or run.loaded_scene.id_table


def begin_run(
    config: RunConfig,
    folder: Path,
    device: torch.device,
    state: Mapping[str, Any] | None = None,
    ranks: Ranks = ALONE,
) -> Run:
    """A run before its next step: the scene is read; splats and method are those of a checkpoint's
    `state`, or the first splats and a fresh method. Each of several processes does all of it.
    """
    frame = None
    if state is not None:  # the run keeps its coordinates
        before = Path(config.train.start_checkpoint or folder / FRAME_FILE).parent
        frame = SceneFrame.read(before / FRAME_FILE)
    scene = scene_of(config, frame)
    for notice in scene.notices:
        logger.info("%s", notice)
    if config.train.start_ply and scene.id_table is None:
        raise UserError("--start_ply learns instances, but the scene has no masks; check -o")
    generator = torch.Generator().manual_seed(config.train.seed)
    if state is not None:
        gaussians = GaussianModel.from_state_dict(state["gaussians"])
        _check_kind(config, gaussians)
    elif config.train.start_ply:
        gaussians = given_splats(config, scene, generator)
    else:
        gaussians = _first_splats(config, scene, generator)
    run = Run(
        config=config,
        folder=folder,
        cameras=RunCameras.of_scene(scene),
        gaussians=gaussians.to(device),
        ids=scene.id_table,
        frame=scene.frame,
        loaded_scene=scene,
        ranks=ranks,
    )
    run.exposures = _exposures(run, state)
    if state is not None:
        _take_masks_of(run, state)
    if scene.id_table is not None:
        give_method(run)
        assert run.method is not None
        if state is not None and state.get("method") is not None:
            run.method.load_state_dict(state["method"])
    return run


def _exposures(run: Run, state: Mapping[str, Any] | None) -> Exposures | None:
    """Identities for the training views, or what a checkpoint's run has made of them."""
    if not run.config.optimization.exposure or run.config.train.start_ply:
        return None
    names = [view.name for view in run.scene.train]
    exposures = Exposures(names, run.gaussians.device)
    if state is not None:
        exposures.load_state_dict(state["exposures"])
    return exposures


def _take_masks_of(run: Run, state: Mapping[str, Any]) -> None:
    """The masks that a checkpoint's run learned from."""
    run.masks_settled = bool(state.get("masks_settled", state["stage"] in LEARNING))
    if not state.get("repaired"):
        return
    target = run.folder / AssociatedMasks.IN_RUN
    other = run.config.train.start_checkpoint
    source = Path(other).parent / AssociatedMasks.IN_RUN if other else target
    with run.ranks.together():
        if run.ranks.first and source != target and source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
    run.repaired = AssociatedMasks.read(target)
    if run.repaired is None:
        raise DataError(f"{source} is missing: the run learns from the masks that were there")
    run.ids = run.repaired.table


def give_method(run: Run) -> None:
    """A fresh method for the masks that the run learns from."""
    run.facts = scene_facts(run)
    if run.config.train.decoder:
        found = fixed_decoder(run.config.train.decoder, run.config.segmentation.method, run.facts)
        run.method, run.facts = found.method.to(run.gaussians.device), found.facts
        run.config = replace(run.config, method=found.params)
        return
    method = build_method(run.config.segmentation.method, run.config.method, run.facts)
    run.method = method.to(run.gaussians.device)


def scene_facts(run: Run, *, raw: bool = False) -> SceneFacts:
    """What a method has to know of the scene; with `raw` of its masks as they are in the scene."""
    masks = None if raw else run.repaired
    table = run.scene.id_table if masks is None else masks.table
    shown = (len(view.masks.ids) for view in run.masked_views(raw=raw) if view.masks is not None)
    return SceneFacts(
        num_ids=max(0 if table is None else len(table), 1),
        densest_view=max(shown, default=0),
        zero_is_background=run.config.model.zero_label == "background",
        instance_dim=attribute_width(run.config),
        seed=run.config.train.seed,
        tracks=masks is not None and masks.tracks,
        noisy=masks is not None and masks.changed > NOISY,
    )


def attribute_width(config: RunConfig) -> int:
    """Channels of the attribute that the splats of a run carry; 0 where its method has none."""
    entry = METHODS[config.segmentation.method]
    return config.segmentation.instance_dim if entry.attribute else 0


def _first_splats(config: RunConfig, scene: Scene, generator: torch.Generator) -> GaussianModel:
    """Splats from the point cloud, with background seeds where asked or needed."""
    points = scene.points
    wanted = config.model.background_seeds
    if wanted and scene.kind != "blender" and not config.model.random_init:
        cameras = [view.camera for view in scene.train]
        count = AUTOMATIC_SEEDS if wanted == -1 else wanted
        seeds = background_seeds(cameras, points, count, generator, scene.train)
        if len(seeds):
            logger.info("%d background seeds beyond the cameras", len(seeds))
        points = points.joined(seeds)
    return GaussianModel.from_points(
        points,
        config.model.sh_degree,
        attribute_width(config),
        generator,
        config.segmentation.instance_std,
        primitive_in(config).scale_dims,
    )


def primitive_in(config: RunConfig) -> Primitive:
    """What the splats of a run are."""
    return PRIMITIVES[config.pipeline.primitive]


def _check_kind(config: RunConfig, gaussians: GaussianModel) -> None:
    """A checkpoint of a version that knew discs only does not say so."""
    wanted = config.pipeline.primitive
    if gaussians.kind != wanted:
        raise UserError(
            f"--primitive {wanted}: the checkpoint holds splats of kind {gaussians.kind}; "
            "start anew, or leave the flag out"
        )


def given_splats(config: RunConfig, scene: Scene, generator: torch.Generator) -> GaussianModel:
    """The geometry of --start_ply with a fresh instance attribute."""
    gaussians = GaussianModel.load_ply(
        config.train.start_ply,
        flatten=config.train.flatten_ply,
        frame=scene.frame,
        kind=primitive_in(config).name,
    )
    width, std = attribute_width(config), config.segmentation.instance_std
    fresh = random_instance(len(gaussians), width, generator, std)
    gaussians.params["instance"] = torch.nn.Parameter(fresh)
    gaussians.params.pop(INSTANCE_OPACITY, None)  # learned with the attribute that goes
    return gaussians
