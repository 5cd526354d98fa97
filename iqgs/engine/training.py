# SPDX-License-Identifier: Apache-2.0
"""The training loop of every route: step, log, test, save, checkpoint, stop cleanly."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from arguments import RunConfig
from iqgs.engine.checkpoint import (
    check_same_run,
    find_resumable,
    read_training,
    save_iteration,
    save_training,
    scene_frame,
)
from iqgs.engine.instances import InstanceLearning
from iqgs.engine.joint import JointTraining
from iqgs.engine.monitor import Monitor
from iqgs.engine.reconstruction import Reconstruction
from iqgs.engine.run_folder import (
    choose_folder,
    open_folder,
    remove_results,
    with_absolute_paths,
    write_config,
    write_scene_files,
)
from iqgs.engine.setup import Training, prepare, restore
from iqgs.engine.signals import StopRequest
from iqgs.engine.splat_labels import original_splat_labels, refresh_mean_queries
from iqgs.engine.stages import Stage
from utils.errors import UserError
from utils.reproducibility import peak_memory_bytes, set_threads
from utils.run_lock import RunLock

logger = logging.getLogger(__name__)

MIB = 2**20
FEW_PIXELS = 16_384  # with fewer a step, torch's second thread costs more than it brings

StageMaker = Callable[[Training], Stage]


def reconstruct(training: Training) -> Stage:
    """First stage of the two-stage route."""
    return Reconstruction(training.config, training.scene, training.gaussians, training.background)


def learn_instances(training: Training) -> Stage:
    """Second stage, or the only one after --start_ply."""
    first = 1 if training.config.train.start_ply else training.config.optimization.iterations + 1
    assert training.method is not None
    return InstanceLearning(
        training.config, training.scene, training.gaussians, training.method, first
    )


def train_jointly(training: Training) -> Stage:
    """The only stage of the joint route."""
    assert training.method is not None
    return JointTraining(
        training.config, training.scene, training.gaussians, training.background, training.method
    )


def plan_stages(training: Training) -> list[StageMaker]:
    """Which stages a run goes through."""
    config = training.config
    if config.train.start_ply:
        return [learn_instances]
    if not training.learns_instances:
        return [reconstruct]
    if config.segmentation.route == "joint":
        return [train_jointly]
    if config.segmentation.instance_iterations == 0:
        return [reconstruct]
    return [reconstruct, learn_instances]


def train(config: RunConfig) -> int:
    """Train a run to its end, or until a signal asks to stop. Returns the exit code."""
    folder = choose_folder(config.model.model_path)
    going_on = bool(config.train.resume or config.train.start_checkpoint)
    if not config.model.source_path:
        raise UserError("-s/--source_path is missing: name the scene folder")
    if not Path(config.model.source_path).is_dir():
        raise UserError(f"-s {config.model.source_path}: no such folder")
    config = with_absolute_paths(config)
    open_folder(folder, may_exist=going_on or config.train.overwrite)
    with RunLock(folder):
        state = _state_to_go_on_from(config, folder)
        if state is not None:
            check_same_run(state["config"], config)
        elif config.train.overwrite:
            remove_results(folder)
        training = prepare(config)
        if state is not None:
            restore(training, state)
        write_config(folder, config)
        write_scene_files(folder, training.scene)
        logger.info("Optimizing %s\nOutput folder: %s", config.model.source_path, folder)
        with StopRequest() as stop:
            return Loop(training, folder, stop).run(state)


def _state_to_go_on_from(config: RunConfig, folder: Path) -> dict[str, Any] | None:
    if config.train.start_checkpoint:
        return read_training(Path(config.train.start_checkpoint))
    if config.train.resume == "auto":
        path = find_resumable(folder)
        if path is not None:
            logger.info("going on from %s", path)
            return read_training(path)
    return None


class Loop:
    """One run through its stages."""

    def __init__(self, training: Training, folder: Path, stop: StopRequest) -> None:
        self.training, self.folder, self.stop = training, folder, stop
        self.options = training.config.train
        self.monitor = Monitor(training, folder)
        self.started = time.monotonic()

    def run(self, state: dict[str, Any] | None) -> int:
        """All stages that are not done yet, from a checkpoint's state if there is one."""
        try:
            for make in plan_stages(self.training):
                stage = make(self.training)
                done = 0 if state is None else int(state["iteration"])
                if done >= stage.last:
                    continue
                if state is not None and state["stage"] == stage.name:
                    stage.load_state_dict(state["stage_state"])
                self._run_stage(stage, max(stage.first, done + 1))
                if self.stop.number is not None:
                    return self.stop.exit_code
        finally:
            self.monitor.close()
        minutes = (time.monotonic() - self.started) / 60
        logger.info(
            "Training complete: %.1f min, peak memory %.0f MiB, %d splats",
            minutes,
            peak_memory_bytes() / MIB,
            len(self.training.gaussians),
        )
        return 0

    def _run_stage(self, stage: Stage, first: int) -> None:
        self._choose_threads(stage)
        if self.training.method is not None:
            self.training.method.train(stage.name != Reconstruction.name)
        began = time.monotonic()
        with tqdm(
            total=stage.last,
            initial=first - 1,
            desc=f"Training {stage.name}",
            disable=self.options.quiet,
            mininterval=0.5,
        ) as bar:
            for iteration in range(first, stage.last + 1):
                report = stage.step(iteration)
                self.monitor.step(iteration, report, bar)
                ends = iteration == stage.last
                stopping = self.stop.number is not None
                if ends or stopping or self._due(self.options.save_iterations, iteration):
                    self._save(iteration, stage)
                if ends or stopping or self._checkpoint_due(iteration):
                    self._checkpoint(iteration, stage)
                if stopping:
                    logger.info("stopped at step %d; --resume auto goes on from here", iteration)
                    return
                if self._test_due(iteration, ends):
                    self.monitor.test(iteration)
        set_threads(self.options.threads)
        self.monitor.stage_done(stage, time.monotonic() - began, peak_memory_bytes())

    def _choose_threads(self, stage: Stage) -> None:
        pixels = self.training.config.segmentation.pixels_per_step
        if stage.name == InstanceLearning.name and 0 < pixels < FEW_PIXELS:
            torch.set_num_threads(1)

    def _due(self, iterations: list[int], iteration: int) -> bool:
        return iteration in iterations

    def _checkpoint_due(self, iteration: int) -> bool:
        interval = self.options.checkpoint_interval
        return self._due(self.options.checkpoint_iterations, iteration) or bool(
            interval and iteration % interval == 0
        )

    def _test_due(self, iteration: int, ends: bool) -> bool:
        wanted = self.options.test_iterations
        return ends if not wanted else self._due(wanted, iteration)

    def _save(self, iteration: int, stage: Stage) -> None:
        training = self.training
        has_method = stage.name != Reconstruction.name
        method = training.method if has_method else None
        frame = scene_frame(training.scene)
        if method is None:
            save_iteration(self.folder, iteration, training.gaussians, None, None, None, frame)
        else:
            running = copy.deepcopy(method.state_dict())
            refresh_mean_queries(training)
            save_iteration(
                self.folder,
                iteration,
                training.gaussians,
                method,
                training.options,
                original_splat_labels(training),
                frame,
            )
            method.load_state_dict(running)  # saving must not change what comes after
        logger.info("[ITER %d] Saving Gaussians", iteration)

    def _checkpoint(self, iteration: int, stage: Stage) -> None:
        training = self.training
        method = None if training.method is None else training.method.state_dict()
        save_training(
            self.folder / f"chkpnt{iteration}.pth",
            iteration,
            training.config,
            {
                "stage": stage.name,
                "stage_state": stage.state_dict(),
                "gaussians": training.gaussians.state_dict(),
                "method": method,
            },
        )
