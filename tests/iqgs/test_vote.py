# SPDX-License-Identifier: Apache-2.0
"""The vote against a loop over pixels, and as a method on the toy world."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diff_surfel_rasterization import LABEL_WEIGHT_PARTS
from diff_surfel_rasterization.types import BlendWeights
from iqgs.methods.protocol import FitView
from iqgs.methods.vote import VoteMethod, VoteSums
from tests.iqgs.toy import SIZE, SplatHolder, ToyView, ToyWorld, make_world, mean_iou


def random_weights(seed: int, pixels: int, n_splats: int) -> BlendWeights:
    generator = torch.Generator().manual_seed(seed)
    count = torch.randint(0, 4, (pixels,), generator=generator)
    start = torch.cat([torch.zeros(1, dtype=torch.int64), count.cumsum(0)])
    total = int(start[-1])
    splat = torch.randint(0, n_splats, (total,), generator=generator).int()
    return BlendWeights(start, splat, torch.rand(total, generator=generator), n_splats)


class TableLens:
    """A lens of given blending weights: sums them by the definition, entry by entry."""

    def __init__(self, weights: BlendWeights, height: int, width: int) -> None:
        self.table = weights
        self.gaussians = range(weights.n_splats)
        self.camera = SimpleNamespace(height=height, width=width)

    def add_label_weights(self, labels: torch.Tensor, sums: torch.Tensor) -> None:
        start = self.table.row_start.tolist()
        parts = (self.table.weight.double() * LABEL_WEIGHT_PARTS).round().long()
        for columns in labels.flatten(1).tolist():
            for pixel, column in enumerate(columns):
                for entry in range(start[pixel], start[pixel + 1]):
                    if column >= 0:
                        sums[int(self.table.splat[entry]), column] += parts[entry]


@pytest.mark.parametrize("lowest", [0, -1])
@pytest.mark.parametrize("background", [True, False])
def test_votes_are_the_loop_over_pixels(background: bool, lowest: int) -> None:
    method = VoteMethod(3, background)
    slow = torch.zeros(9, 4)
    for seed in range(3):
        weights = random_weights(seed, 20, 8)
        weights = BlendWeights(weights.row_start, weights.splat, weights.weight, 9)
        generator = torch.Generator().manual_seed(seed + 50)
        labels = torch.randint(lowest, 4, (4, 5), generator=generator)
        method.fit([FitView(TableLens(weights, 4, 5), labels.int())])
        for pixel, label in enumerate(labels.flatten().tolist()):
            for entry in range(int(weights.row_start[pixel]), int(weights.row_start[pixel + 1])):
                if label > 0 or (background and label == 0):  # -1 is no target
                    slow[int(weights.splat[entry]), label] += weights.weight[entry]
    assert method.sums is not None
    torch.testing.assert_close(method.sums.votes(0).double() / LABEL_WEIGHT_PARTS, slow.double())
    method.finish([])
    assert torch.equal(method.labels, slow.argmax(1))
    share = slow.amax(1) / slow.sum(1)
    torch.testing.assert_close(method.confidence[:8], share[:8])
    assert method.labels[8] == 0  # never seen
    assert method.confidence[8] == 0


def test_several_maps_are_counted_in_one_pass_as_each_alone() -> None:
    generator = torch.Generator().manual_seed(7)
    maps = [torch.randint(-1, n + 1, (4, 5), generator=generator) for n in (3, 1, 6)]
    lens = TableLens(random_weights(1, 20, 8), 4, 5)
    together = VoteSums(8, [3, 1, 6])
    together.add(lens, maps)
    together.add(lens, maps)
    for number, (n, labels) in enumerate(zip((3, 1, 6), maps, strict=True)):
        alone = VoteSums(8, [n])
        alone.add(lens, [labels])
        assert torch.equal(together.votes(number), 2 * alone.votes(0))


def test_wrong_sizes_and_labels_are_refused() -> None:
    votes = VoteSums(8, [3])
    lens = TableLens(random_weights(0, 20, 8), 4, 5)
    with pytest.raises(ValueError, match=r"a label map of \(4, 5\), got \(3, 3\)"):
        votes.add(lens, [torch.zeros(3, 3, dtype=torch.int32)])
    with pytest.raises(ValueError, match=r"-1\.\.3"):
        votes.add(lens, [torch.full((4, 5), 4)])
    with pytest.raises(ValueError, match=r"-1\.\.3"):
        votes.add(lens, [torch.full((4, 5), -2)])


@pytest.fixture(scope="module")
def world() -> ToyWorld:
    return make_world()


class WeightsLens:
    """A lens of a toy view: blending weights, and how many rows the view has."""

    def __init__(self, view: ToyView, n_splats: int) -> None:
        self.view, self.gaussians = view, range(n_splats)
        self.camera = SimpleNamespace(height=SIZE, width=SIZE)
        self.by_color = self  # nothing is rendered with opacities of its own

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        return make()

    def weights(self, min_weight: float) -> BlendWeights:
        return self.view.blend_weights(len(self.gaussians))

    def add_label_weights(self, labels: torch.Tensor, sums: torch.Tensor) -> None:
        weights = self.weights(0.0)
        pixel = torch.repeat_interleave(weights.row_start.diff())
        parts = (weights.weight.double() * LABEL_WEIGHT_PARTS).round().long()
        for label_map in labels.flatten(1):
            said = label_map[pixel] >= 0
            at = weights.splat.long()[said], label_map[pixel].long()[said]
            sums.index_put_(at, parts[said], accumulate=True)

    def splat(self, values: torch.Tensor) -> torch.Tensor:
        weights = self.weights(0.0)
        pixel = torch.repeat_interleave(weights.row_start.diff())
        blended = torch.zeros(SIZE * SIZE, values.shape[1])
        blended.index_add_(0, pixel, weights.weight[:, None] * values[weights.splat.long()])
        return blended.T.reshape(-1, SIZE, SIZE)

    @property
    def alpha(self) -> torch.Tensor:
        return self.splat(torch.ones(len(self.gaussians), 1))


def vote_of(
    world: ToyWorld, views: list[ToyView], background: bool = True, finish: bool = True
) -> VoteMethod:
    method = VoteMethod(world.num_ids, background)
    for view in views:
        lens = WeightsLens(view, len(world.labels))
        method.fit([FitView(lens, view.labels.view(SIZE, SIZE))])
    if finish:
        method.finish([])
    return method


def of_labels(labels: torch.Tensor, confidence: torch.Tensor, n_ids: int) -> VoteMethod:
    method = VoteMethod(n_ids, True)
    method.load_state_dict({"labels": labels, "confidence": confidence})
    return method


def test_the_vote_segments_the_toy_world(world: ToyWorld) -> None:
    method = vote_of(world, world.views[:-2])
    n_splats = len(world.labels)
    maps = [method.segment(WeightsLens(v, n_splats)) for v in world.views[-2:]]
    true = [v.labels for v in world.views[-2:]]
    assert mean_iou([m.label_map.flatten() for m in maps], true) > 0.9
    seen = method.confidence > 0.9
    assert (method.labels[seen] == world.labels[seen]).float().mean() > 0.97
    points = method.label_splats(SplatHolder(torch.zeros(n_splats, 0)))
    assert torch.equal(points.labels, method.labels)
    other = VoteMethod(world.num_ids, True)
    other.load_state_dict(method.state_dict())
    again = other.segment(WeightsLens(world.views[-1], n_splats))
    assert torch.equal(again.label_map, maps[-1].label_map)


def test_a_vote_that_was_interrupted_goes_on(world: ToyWorld) -> None:
    whole = vote_of(world, world.views)
    first = VoteMethod(world.num_ids, True)
    second = VoteMethod(world.num_ids, True)
    for number, view in enumerate(world.views):
        if number == 5:
            second.load_state_dict(first.state_dict())
            first = second
        lens = WeightsLens(view, len(world.labels))
        first.fit([FitView(lens, view.labels.view(SIZE, SIZE))])
    first.finish([])
    assert torch.equal(first.labels, whole.labels)
    assert torch.equal(first.confidence, whole.confidence)


def one_hot_segmentation(
    method: VoteMethod, view: ToyView, panoptic: bool
) -> tuple[torch.Tensor, dict[int, float]]:
    """The definition: one-hot attributes of all ids rendered (Eq. 1), argmax, filter, argmax."""
    ids = torch.unique(method.labels)
    chosen = (method.labels[:, None] == ids[None]) & (method.confidence[:, None] > 0)
    shares = view.render(chosen.float()).flatten(1)
    if panoptic:
        row = shares.argmax(0)
        sure = torch.stack([((row == i) & (shares[i] > 0.5)).sum() for i in range(len(ids))])
        own = (shares > 0.5).sum(1)
        keep = ((sure / own.clamp_min(1) > 0.6) & (sure >= 4)) | (ids == 0)
        ids, shares = ids[keep], shares[keep]
    value, row = shares.max(0)
    labels = torch.where(value > 0, ids[row], 0)
    means = {int(i): float(value[labels == i].mean()) for i in torch.unique(labels) if i > 0}
    return labels.view(SIZE, SIZE), means


@pytest.mark.parametrize("panoptic", [True, False])
def test_shares_from_weights_are_rendered_one_hot_attributes(
    world: ToyWorld, panoptic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 small random regions, several chunks of pixels, slivers that are dropped."""
    monkeypatch.setattr("iqgs.methods.winners.CHUNK_ELEMENTS", 3000)
    generator = torch.Generator().manual_seed(0)
    cell = (world.positions * 7).long()
    labels = torch.randperm(49, generator=generator)[cell[:, 0] * 7 + cell[:, 1]]
    confidence = torch.ones(len(labels))
    confidence[::11] = 0.0
    method = of_labels(labels, confidence, 48)
    found = method.segment(WeightsLens(world.views[0], len(labels)), panoptic)
    label_map, scores = one_hot_segmentation(method, world.views[0], panoptic)
    assert torch.equal(found.label_map, label_map)
    assert found.scores == pytest.approx(scores, abs=1e-6)
    assert len(found.scores) > 10


def test_pixels_without_a_target_add_no_vote() -> None:
    lens = TableLens(random_weights(0, 20, 8), 4, 5)
    labels = torch.randint(0, 4, (4, 5), generator=torch.Generator().manual_seed(3))
    silent = labels.clone()
    silent.view(-1)[::3] = -1
    kept, full, dropped = VoteSums(8, [3]), VoteSums(8, [3]), VoteSums(8, [3])
    kept.add(lens, [silent])
    full.add(lens, [labels])
    dropped.add(lens, [torch.where(silent == -1, labels, -1)])
    assert torch.equal(kept.sums + dropped.sums, full.sums)


def test_a_checkpoint_of_float_votes_goes_on(world: ToyWorld) -> None:
    """Checkpoints of versions that summed floats hold them as weights."""
    method = vote_of(world, world.views[:1], finish=False)
    state = method.state_dict()
    older = {**state, "votes": (state["votes"].double() / LABEL_WEIGHT_PARTS).float()}
    again = VoteMethod(world.num_ids, True)
    again.load_state_dict(older)
    again.finish([])
    method.finish([])
    assert torch.equal(again.labels, method.labels)
    torch.testing.assert_close(again.confidence, method.confidence)


def test_ignored_zero_label_never_wins(world: ToyWorld) -> None:
    method = vote_of(world, world.views, background=False)
    view = world.views[0]
    result = method.segment(WeightsLens(view, len(world.labels)), panoptic=False)
    covered = result.label_map.flatten()[view.labels > 0]
    assert (covered > 0).float().mean() > 0.99
