# SPDX-License-Identifier: Apache-2.0
"""What the stages hand to a method beside ids: overlapping masks, neighbours, rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from arguments import RunConfig
from iqgs.engine.opening import begin_run
from iqgs.engine.run import Run
from iqgs.engine.stages.fitting import Fitting
from iqgs.engine.stages.instances import InstanceLearning, RowNumbering
from iqgs.engine.stages.joint import JointTraining
from iqgs.engine.stages.protocol import take_step
from iqgs.engine.training import train
from iqgs.methods import METHODS
from iqgs.methods.protocol import ALL_TOUCHED, Batch, FitView, StepTerms
from scene.masks import connected_regions
from utils.errors import UserError

K = 3


class Spy:
    """A method that remembers what it was given."""

    neighbors = (K, ALL_TOUCHED, 1)

    def __init__(self, method: Any) -> None:
        self.method = method
        self.batches: list[Batch] = []
        self.views: list[FitView] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def terms(self, batch: Batch) -> StepTerms:
        self.batches.append(batch)
        return self.method.terms(replace(batch, pairs=batch.pairs[:0]))

    def fit(self, views: Iterable[FitView]) -> None:
        self.views.extend(views)


@pytest.fixture
def run(make_config: Callable[..., RunConfig], tmp_path: Path) -> Run:
    run = begin_run(make_config("inputs"), tmp_path, torch.device("cpu"))
    run.method = Spy(run.learning_method)
    return run


def test_rows_and_their_places_are_those_of_sorting_and_looking_up() -> None:
    numbering = RowNumbering(50, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    for touched, pairs in ((12, 9), (5, 0), (0, 3), (0, 0), (50, 40)):
        rows = torch.randperm(50, generator=generator)[:touched]
        ends = torch.randint(50, (pairs, 2), generator=generator)
        found = numbering.rows_of(rows, ends)
        assert torch.equal(found, torch.unique(torch.cat([rows, ends.flatten()])))
        for part in (rows, ends):
            assert torch.equal(numbering.place[part], torch.searchsorted(found, part))


def test_a_trained_method_sees_all_views_once(run: Run) -> None:
    stage = InstanceLearning(run, 1)
    for iteration in (1, 2, 3):
        take_step(stage, iteration)
    views = run.learning_method.views
    assert [view.number for view in views] == list(range(len(run.masked_views())))
    for seen, view in zip(views, run.masked_views(), strict=True):
        assert seen.lens.camera is view.camera
        assert torch.equal(seen.image(), view.image)
        label_map, layers = view.label_map_on(torch.device("cpu")), seen.layers()
        # Blobs do not overlap: a pixel is in as many masks as ids.
        assert torch.equal(layers.members[layers.patch].sum(-1) > 0, label_map > 0)


def test_a_step_knows_the_masks_and_the_neighbors_of_its_pixels(run: Run) -> None:
    stage = InstanceLearning(run, 1)
    take_step(stage, 1)
    (batch,) = run.learning_method.batches
    view = stage.views[batch.view]
    layers = batch.layers()
    assert torch.equal(layers.patch, view.patches_on(torch.device("cpu")).patch[
        batch.pixels // view.camera.width, batch.pixels % view.camera.width
    ])  # fmt: skip
    pairs = batch.pairs.view(len(batch.touched), K, 2)
    assert torch.equal(pairs[..., 0], batch.touched[:, None].expand(-1, K))
    # The rows of the step stand for splats; their distances are those of the K nearest.
    step = stage.loss(2, *stage.draw(2))
    means = run.gaussians.means.detach()[step.carried.rows]
    batch = run.learning_method.batches[-1]
    pairs = batch.pairs.view(len(batch.touched), K, 2)
    found = (means[pairs[..., 0]] - means[pairs[..., 1]]).norm(dim=-1)
    all_means = run.gaussians.means.detach()
    distances = torch.cdist(means[batch.touched].double(), all_means.double())
    expected = distances.topk(K + 1, largest=False).values[:, 1:]
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)


def test_a_step_brings_its_own_dice(run: Run) -> None:
    """The same at the same step of another stage, other at the next."""
    stage, again = InstanceLearning(run, 1), InstanceLearning(run, 1)
    draws = []
    for iteration, of in ((1, stage), (2, stage), (1, again)):
        of.loss(iteration, *of.draw(iteration))
        draws.append(torch.rand(5, generator=run.learning_method.batches[-1].generator))
    assert torch.equal(draws[0], draws[2]) and not torch.equal(draws[0], draws[1])


def test_a_closed_form_may_ask_for_several_rounds(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = METHODS[run.config.segmentation.method]
    monkeypatch.setitem(METHODS, "iqgs", replace(entry, rounds=lambda params: 2))
    stage = Fitting(run, 1)
    for iteration in range(stage.first, stage.last + 1):
        take_step(stage, iteration)
    views, count = run.learning_method.views, len(run.masked_views())
    assert [(v.round, v.number) for v in views] == [(r, n) for r in (0, 1) for n in range(count)]


def test_a_method_of_resting_splats_refuses_the_joint_route(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(METHODS, "iqgs", replace(METHODS["iqgs"], frozen=True))
    config = make_config("joint", route="joint")
    with pytest.raises(UserError, match="--route joint: --method iqgs"):
        train(config)
    assert not Path(config.model.model_path).exists()


@pytest.mark.parametrize("kind", [InstanceLearning, JointTraining])
def test_a_step_knows_the_regions_of_its_masks(run: Run, kind: type) -> None:
    """One id stands in two places of every view."""
    for view in run.masked_views():
        labels = view.label_map_on(torch.device("cpu"))
        labels[:2, :2] = labels.max()
    run.learning_method.neighbors = (K, 10, 1)
    take_step(kind(run, 1) if kind is InstanceLearning else kind(run), 1)
    (batch,) = run.learning_method.batches
    names = {view.camera.uid: view for view in run.scene.train}
    view = run.masked_views()[batch.view] if kind is InstanceLearning else names[batch.view]
    assert batch.regions is not None
    whole = torch.from_numpy(connected_regions(view.masks.label_map)).flatten()
    assert torch.equal(batch.regions(), whole[batch.pixels])
    assert len(whole.unique()) > len(view.label_map_on(torch.device("cpu")).unique())
    view.forget()
    assert len(view.regions_on(torch.device("cpu")).unique()) < len(whole.unique())  # read again
