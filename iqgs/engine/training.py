# SPDX-License-Identifier: Apache-2.0
"""The training loop of every route: step, log, test, save, checkpoint, stop cleanly."""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from arguments import RunConfig
from arguments.groups import TrainParams
from iqgs.engine.association.repair import agree_on_masks
from iqgs.engine.checkpoint import (
    SavedMethod,
    save_exposures,
    save_iteration,
    save_training,
    state_to_go_on_from,
)
from iqgs.engine.memory import memory_sentence
from iqgs.engine.monitor import Monitor
from iqgs.engine.opening import begin_run
from iqgs.engine.ranks import Ranks, joined_ranks
from iqgs.engine.run import MOST_VIEWS, Run, choose_device, own_device, splat_labels, spread
from iqgs.engine.run_folder import DUMP_FILE, claimed_folder, write_beginning
from iqgs.engine.signals import SIGNAL_EXIT, StopRequest
from iqgs.engine.stages.finite import check_splats
from iqgs.engine.stages.fitting import Fitting
from iqgs.engine.stages.instances import InstanceLearning
from iqgs.engine.stages.joint import JointTraining
from iqgs.engine.stages.protocol import Stage, StepLoss
from iqgs.engine.stages.reconstruction import Reconstruction
from iqgs.engine.tolerance import Tolerance
from iqgs.methods import METHODS
from utils.errors import UserError
from utils.place import place_of
from utils.progress import tqdm
from utils.reproducibility import peak_memory_bytes, seed_everything, set_threads

logger = logging.getLogger(__name__)

MIB = 2**20
ECHO_SECONDS = 5.0  # in which torchrun passes on a signal that its processes have got already

StageMaker = Callable[[Run], Stage]


def reconstruct(run: Run) -> Stage:
    """First stage of the two-stage route."""
    return Reconstruction(run.config, run.scene, run.gaussians, run.renderer, run.exposures)


def learn_instances(run: Run) -> Stage:
    """Second stage, or the only one after --start_ply."""
    first = 1 if run.config.train.start_ply else run.config.optimization.iterations + 1
    cache = agree_on_masks(run)
    if METHODS[run.config.segmentation.method].closed_form:
        return Fitting(run, first)
    return InstanceLearning(run, first, cache)


def plan_stages(run: Run) -> list[StageMaker]:
    """Which stages a run goes through."""
    config = run.config
    if config.train.start_ply:
        return [learn_instances]
    if run.method is None:
        return [reconstruct]
    closed = METHODS[config.segmentation.method].closed_form
    if config.segmentation.route == "joint" and not closed:
        if config.segmentation.repair_masks == "auto":
            logger.info("the joint route learns from the masks as they are (no --repair_masks)")
        return [JointTraining]
    if config.segmentation.instance_iterations == 0 and not closed:
        return [reconstruct]
    return [reconstruct, learn_instances]


def check_route(config: RunConfig) -> None:
    """UserError where the method cannot learn on the route that is asked for."""
    name = config.segmentation.method
    if config.segmentation.route == "joint" and METHODS[name].frozen:
        raise UserError(
            f"--route joint: --method {name} learns on splats that do not move; leave --route out"
        )


def train(config: RunConfig) -> int:
    """Train a run to its end, or until a signal asks to stop. Returns the exit code."""
    check_route(config)
    place = place_of()
    check_batch(config, place.world)
    device = own_device(_prepare_torch(config.train), place)
    with joined_ranks(place, device) as ranks, claimed_folder(config, ranks) as (folder, config):
        if not ranks.first:
            config = replace(config, train=replace(config.train, quiet=True))
        set_threads(ranks.threads(config.train.threads))
        with ranks.together():
            state = state_to_go_on_from(config, folder)
            check_same_start(state, folder, ranks)
            run = begin_run(config, folder, device, state, ranks)
            check_view_count(run)
        with ranks.together():
            if ranks.first:
                write_beginning(folder, config, run.scene, anew=state is None)
        logger.info("Optimizing %s\nOutput folder: %s", config.model.source_path, folder)
        echo = ECHO_SECONDS if ranks.world > 1 else 0.0
        with StopRequest(echo) as stop, memory_sentence(run):
            return Loop(run, stop).run(state)


def check_same_start(state: dict[str, Any] | None, folder: Path, ranks: Ranks) -> None:
    """UserError where the processes do not go on from the same step."""
    steps = ranks.gathered(None if state is None else int(state["iteration"]))
    if len(set(steps)) > 1:
        raise UserError(
            f"the processes find other checkpoints in {folder} (steps {steps}); all machines of a "
            "run must see the same folder"
        )


def check_batch(config: RunConfig, processes: int) -> None:
    """UserError where some process would have no view in a step."""
    size = config.optimization.batch_size
    if size < processes:
        raise UserError(
            f"--batch_size {size} is smaller than the {processes} processes that torchrun has "
            f"started; pass --batch_size {processes} or more"
        )
    if processes > 1 and config.train.skip_nonfinite:
        raise UserError(
            f"--skip_nonfinite {config.train.skip_nonfinite} works in one process, and torchrun "
            f"has started {processes}; leave it out, or train without torchrun"
        )


def check_view_count(run: Run) -> None:
    """UserError where a step would look at a view twice."""
    size, views = run.config.optimization.batch_size, len(run.scene.train)
    learns = run.method is not None and run.config.segmentation.instance_iterations > 0
    if learns and not METHODS[run.config.segmentation.method].closed_form:
        views = min(views, len(run.masked_views()))
    if size > max(views, 1):
        most = f", so at most {views} processes" if run.ranks.world > views else ""
        raise UserError(
            f"--batch_size {size} is more than the {views} views that there are to learn from; "
            f"pass --batch_size {views} or less{most}"
        )


def _prepare_torch(options: TrainParams) -> torch.device:
    """Seeds and modes of the process; returns where to compute."""
    seed_everything(options.seed)
    torch.autograd.set_detect_anomaly(options.detect_anomaly)
    if options.deterministic:  # cuBLAS reads this when a GPU is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Not `use_deterministic_algorithms`: the same, but it imports torch's compiler, for a second.
    torch.set_deterministic_debug_mode("error" if options.deterministic else "default")
    return choose_device(options.device)


class Loop:
    """One run through its stages."""

    def __init__(self, run: Run, stop: StopRequest) -> None:
        self.training, self.stop = run, stop
        self.options, self.ranks = run.config.train, run.ranks
        self.monitor = Monitor(run)
        self.tolerance = Tolerance(self.options.skip_nonfinite, self.options.detect_anomaly)
        self.started = time.monotonic()
        self.asked = 0  # number of the signal that any process got

    def run(self, state: dict[str, Any] | None) -> int:
        """All stages that are not done yet, from a checkpoint's state if there is one."""
        self.tolerance.skipped = 0 if state is None else int(state.get("skipped", 0))
        try:
            for make in plan_stages(self.training):
                stage = make(self.training)
                done = 0 if state is None else int(state["iteration"])
                if done >= stage.last:
                    continue
                if state is not None and state["stage"] == stage.name:
                    stage.load_state_dict(state["stage_state"])
                self._run_stage(stage, max(stage.first, done + 1))
                if self._is_asked_to_stop():
                    return SIGNAL_EXIT + self.asked
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
        if stage.cheap_steps:
            torch.set_num_threads(1)
        if self.training.method is not None:
            self.training.method.train(stage.learns_instances)
        began = time.monotonic()
        with tqdm(
            total=stage.last,
            initial=first - 1,
            desc=f"Training {stage.name}",
            disable=self.options.quiet,
            mininterval=0.5,
        ) as bar:
            self._check_same(first - 1)
            for iteration in range(first, stage.last + 1):
                self.monitor.step(iteration, self._step(stage, iteration), bar)
                if self._after_step(stage, iteration):
                    return
        set_threads(self.ranks.threads(self.options.threads))
        self.monitor.stage_done(stage, time.monotonic() - began, peak_memory_bytes())

    def _step(self, stage: Stage, iteration: int) -> StepLoss:
        path = self.training.folder / DUMP_FILE

        def dump(path: Path, stage: Stage) -> None:
            self._write_state(path, iteration - 1, stage)

        return self.tolerance.step(stage, iteration, path, dump, self.ranks)

    def _after_step(self, stage: Stage, iteration: int) -> bool:
        """Save, checkpoint and test where that is due; returns whether to stop here.

        Of several processes the first does it, while the others wait; all stop where one is asked.
        """
        ends, stopping = iteration == stage.last, self._is_asked_to_stop()
        interval = self.training.config.optimization.densification_interval
        if ends or stopping or iteration % interval == 0:
            self._check_same(iteration)
        save = ends or stopping or iteration in self.options.save_iterations
        keep = ends or stopping or self._checkpoint_due(iteration)
        wanted = self.options.test_iterations
        test = not stopping and (iteration in wanted if wanted else ends)
        if save or keep or self.tolerance.looks_at(iteration):
            check_splats(self.training.gaussians.params, iteration)
        if save or keep or test:
            with self.ranks.together():
                if self.ranks.first:
                    self._write(iteration, stage, save, keep, test)
        if stopping:
            whose = "" if self.stop.number else ", as another process was asked to"
            logger.info("stopped at step %d%s; --resume auto goes on from here", iteration, whose)
        return stopping

    def _is_asked_to_stop(self) -> bool:
        self.asked = self.ranks.largest(self.stop.number or 0)
        return self.asked > 0

    def _check_same(self, iteration: int) -> None:
        """Stop where several processes have not the same parameters any more."""
        run = self.training
        fitted = METHODS[run.config.segmentation.method].closed_form  # by the first alone
        state = {} if run.method is None or fitted else run.method.state_dict()
        tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
        self.ranks.check_same([*run.gaussians.params.values(), *tensors], iteration)

    def _write(self, iteration: int, stage: Stage, save: bool, keep: bool, test: bool) -> None:
        if save:
            with stage.up_to_date():
                self._save(iteration, stage)
        if keep:
            path = self.training.folder / f"chkpnt{iteration}.pth"
            self._write_state(path, iteration, stage)
        if test:
            with stage.up_to_date():
                self.monitor.test(iteration, stage.learns_instances)

    def _checkpoint_due(self, iteration: int) -> bool:
        interval = self.options.checkpoint_interval
        return iteration in self.options.checkpoint_iterations or bool(
            interval and iteration % interval == 0
        )

    def _save(self, iteration: int, stage: Stage) -> None:
        run = self.training
        run.iteration = iteration
        if not stage.learns_instances or run.method is None:
            save_iteration(run.folder, iteration, run.gaussians, None, None, run.frame)
        else:
            assert run.facts is not None
            running = copy.deepcopy(run.method.state_dict())
            shown = spread(run.masked_views(), MOST_VIEWS)
            run.method.finish(run.lens(view.camera) for view in shown)
            name = run.config.segmentation.method
            saved = SavedMethod(name, run.config.method, run.facts, run.method)
            labels = splat_labels(run, stage.seen())
            save_iteration(run.folder, iteration, run.gaussians, saved, labels, run.frame)
            if iteration < stage.last:  # saving must not change what comes after
                run.method.load_state_dict(running)
        save_exposures(run.folder, iteration, run.exposures)
        logger.info("[ITER %d] Saving Gaussians", iteration)

    def _write_state(self, path: Path, iteration: int, stage: Stage) -> None:
        run = self.training
        save_training(
            path,
            iteration,
            run.config,
            {
                "stage": stage.name,
                "stage_state": stage.state_dict(),
                "gaussians": run.gaussians.state_dict(),
                "exposures": None if run.exposures is None else run.exposures.state_dict(),
                "skipped": self.tolerance.skipped,
                "masks_settled": run.masks_settled,
                "repaired": run.repaired is not None,
                "method": None if run.method is None else run.method.state_dict(),
            },
        )
