# SPDX-License-Identifier: Apache-2.0
"""Several views a step: the mean of what single views give, in the memory of one."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from arguments import RunConfig
from iqgs.engine.opening import begin_run
from iqgs.engine.ranks import ALONE, Ranks
from iqgs.engine.run import Run, own_device
from iqgs.engine.signals import StopRequest
from iqgs.engine.stages.instances import InstanceLearning
from iqgs.engine.stages.joint import JointTraining
from iqgs.engine.stages.protocol import Stage, step_generator, take_step
from iqgs.engine.stages.reconstruction import Reconstruction
from iqgs.engine.training import check_view_count, reconstruct, train
from utils.errors import UserError
from utils.place import Place

from .blobs import HEIGHT, WIDTH
from .test_memory import LiveTensors

MakeConfig = Callable[..., RunConfig]
CPU = torch.device("cpu")


def begin(make_config: MakeConfig, folder: Path, **changes: object) -> Run:
    config = make_config(folder.name, repair_masks="off", seed=3, **changes)
    return begin_run(config, folder, CPU)


def gradients(stage: Stage, parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of one step, before the optimizer forgets them."""
    found: list[torch.Tensor] = []
    update = stage.update

    def look(iteration: int, seen: list[object]) -> None:
        found.extend(torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters)
        update(iteration, seen)

    stage.update = look  # type: ignore[method-assign]
    take_step(stage, 1)
    return found


@pytest.mark.parametrize("kind", [Reconstruction, JointTraining, InstanceLearning])
def test_the_gradient_of_a_step_is_the_mean_over_its_views(
    make_config: MakeConfig, tmp_path: Path, kind: type
) -> None:
    def stage(size: int) -> tuple[Run, Stage]:
        run = begin(make_config, tmp_path / f"of{size}", batch_size=size, pixels_per_step=0)
        if kind is Reconstruction:
            return run, reconstruct(run)
        return run, JointTraining(run) if kind is JointTraining else InstanceLearning(run, 1)

    def learned(run: Run) -> list[torch.Tensor]:
        assert isinstance(run.method, torch.nn.Module)
        own = list(run.method.parameters())
        return own if kind is InstanceLearning else [*own, *run.gaussians.params.values()]

    together = gradients((both := stage(3))[1], learned(both[0]))
    views = stage(3)[1].draw(1)
    assert len(set(views)) == 3
    total = [torch.zeros_like(gradient) for gradient in together]
    sizes = [torch.zeros_like(gradient) for gradient in together]
    for slot, view in enumerate(views):
        run, alone = stage(1)
        alone.draw = lambda _, view=view: [view]  # type: ignore[method-assign, misc]
        alone.loss = lambda i, v, _, slot=slot, loss=alone.loss: loss(i, v, slot)  # type: ignore
        if kind is JointTraining:
            alone._refresh_neighbors(1)
            alone.color.draw(1)
        found = gradients(alone, learned(run))
        for of, size, gradient in zip(total, sizes, found, strict=True):
            of += gradient / 3
            size += gradient.abs() / 3
    assert any(bool((of != 0).any()) for of in total)
    for of, size, gradient in zip(total, sizes, together, strict=True):
        # Relative to what was added up: views cancel, their rounding does not.
        assert bool(((gradient - of).abs() <= 1e-4 * size + 1e-7).all())


def test_the_signal_of_densification_does_not_shrink_with_the_batch(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    run = begin(make_config, tmp_path / "four", batch_size=4)
    stage = reconstruct(run)
    views = reconstruct(begin(make_config, tmp_path / "again", batch_size=4)).draw(1)
    expected, count = torch.zeros(len(run.gaussians)), torch.zeros(len(run.gaussians))
    for view in views:
        other = reconstruct(begin(make_config, tmp_path / "one"))
        other.draw(1)
        step = other.loss(1, view)
        step.total.backward()
        rendered = step.carried.rendered
        visible = rendered.radii > 0
        expected += rendered.screen_grad.grad[:, :2].norm(dim=1) * visible
        count += visible
    take_step(stage, 1)
    torch.testing.assert_close(stage.densifier.gradient_sum, expected, rtol=1e-4, atol=1e-9)
    assert torch.equal(stage.densifier.view_count, count) and count.max() > 1


def test_every_view_of_a_step_has_dice_of_its_own() -> None:
    draws = {
        (iteration, purpose, slot): torch.rand(
            3, generator=step_generator(0, iteration, purpose, slot)
        )
        for iteration in range(1, 40)
        for purpose in (1, 2, 3)
        for slot in range(4)
    }
    assert len({tuple(draw.tolist()) for draw in draws.values()}) == len(draws)
    same = torch.rand(3, generator=step_generator(0, 7, 2, 3))
    assert torch.equal(same, draws[7, 2, 3])


def test_more_views_a_step_take_no_more_memory(make_config: MakeConfig, tmp_path: Path) -> None:
    """A view's graph is gone before the next: maps of it are not kept."""
    peaks = {}
    for size in (2, 6):
        run = begin(make_config, tmp_path / f"of{size}", batch_size=size)
        stage = reconstruct(run)
        take_step(stage, 1)  # moments and photographs are there after it
        for view in run.scene.train:
            view.image_on(CPU)
        with LiveTensors() as seen:
            take_step(stage, 2)
        peaks[size] = seen.peak
    assert peaks[6] < peaks[2] + 4 * HEIGHT * WIDTH, peaks


def test_a_batch_of_more_views_than_there_are_is_refused(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="--batch_size 9 is more than the 7 views that there are"):
        train(make_config("run", batch_size=9))
    with pytest.raises(UserError, match="--batch_size must be at least 1, got 0"):
        make_config("run", batch_size=0)


def test_views_with_masks_count_where_instances_are_learned(
    make_config: MakeConfig, tmp_path: Path, blobs: Path
) -> None:
    scene = tmp_path / "scene"
    shutil.copytree(blobs, scene)
    for path in sorted((scene / "object_mask").iterdir())[3:]:  # views 0 and 8 are held out
        path.unlink()
    with pytest.raises(UserError, match="--batch_size 4 is more than the 2 views"):
        train(make_config("run", source_path=str(scene), batch_size=4))
    changes = {"iterations": 2, "method": "vote", "source_path": str(scene)}
    assert train(make_config("vote", **changes, batch_size=4)) == 0


def test_each_process_of_a_machine_needs_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    gpu = torch.device("cuda")
    assert own_device(CPU, Place(1, 8, 1, 8)) == CPU
    assert own_device(gpu, Place()) == gpu
    assert own_device(gpu, Place(3, 4, 1, 2)) == torch.device("cuda", 1) and chosen == [1]
    with pytest.raises(UserError, match="starts 3 processes on a machine with 2 GPU"):
        own_device(gpu, Place(0, 3, 0, 3))


def test_every_process_needs_a_view(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="--batch_size 2 is smaller than the 3 processes"):
        train(make_config("few", batch_size=2))
    assert not (tmp_path / "few").exists()
    run = begin(make_config, tmp_path / "many", batch_size=9)
    run.ranks = Ranks(Place(0, 9, 0, 9))
    with pytest.raises(UserError, match="than the 7 views .* or less, so at most 7 processes"):
        check_view_count(run)


class Doubled(Ranks):
    """Two processes with the same gradients."""

    def sum_(self, tensor: torch.Tensor) -> None:
        tensor *= 2


def test_gradients_are_summed_in_place_of_themselves() -> None:
    """One more copy of them for a moment; a parameter that nobody taught stays without."""
    learned, taught_nothing, more = torch.ones(50_000, 3), torch.ones(7), torch.ones(50_000, 1)
    learned.grad, more.grad = torch.full((50_000, 3), 1.5), torch.ones(50_000, 1)
    beside = torch.arange(5.0)
    with LiveTensors() as seen:
        Doubled(Place(0, 2, 0, 2)).sum_gradients([learned, taught_nothing, more], [beside])
    assert torch.equal(learned.grad, torch.full((50_000, 3), 3.0))
    assert torch.equal(more.grad, torch.full((50_000, 1), 2.0))
    assert taught_nothing.grad is None and torch.equal(beside, 2 * torch.arange(5.0))
    assert seen.peak < 2.1 * 4 * 4 * 50_000, "the gradients, and their copy"


def test_the_echo_of_a_signal_is_no_second_one() -> None:
    acted: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: acted.append(number))
    try:
        with StopRequest(echo_seconds=60.0) as stop:
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
                signal.raise_signal(number)
            assert stop.number == signal.SIGTERM and not acted
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.number == signal.SIGTERM and not acted
            signal.raise_signal(signal.SIGTERM)
            assert acted == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_processes_share_the_cores_of_their_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert [Ranks(Place(0, 8, 0, n)).threads(0) for n in (1, 4, 8)] == [12, 3, 1]
    assert Ranks(Place(0, 8, 0, 8)).threads(5) == 5
    assert ALONE.threads(0) == 0, "torch's own choice, as ever"
