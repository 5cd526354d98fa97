# SPDX-License-Identifier: Apache-2.0
"""The vote against a loop over pixels, and as a method on the toy world."""

from __future__ import annotations

import pytest
import torch

from diff_surfel_rasterization.types import BlendWeights
from iqgs.baselines.vote import SPLAT_CHANNELS, VoteAccumulator, VoteMethod
from tests.iqgs.toy import SIZE, ToyWorld, make_world, mean_iou


def random_weights(seed: int, pixels: int, n_splats: int) -> BlendWeights:
    generator = torch.Generator().manual_seed(seed)
    count = torch.randint(0, 4, (pixels,), generator=generator)
    start = torch.cat([torch.zeros(1, dtype=torch.int64), count.cumsum(0)])
    total = int(start[-1])
    splat = torch.randint(0, n_splats, (total,), generator=generator).int()
    return BlendWeights(start, splat, torch.rand(total, generator=generator), n_splats)


@pytest.mark.parametrize("lowest", [0, -1])
@pytest.mark.parametrize("background", [True, False])
def test_votes_are_the_loop_over_pixels(background: bool, lowest: int) -> None:
    votes = VoteAccumulator(9, 3, background)
    slow = torch.zeros(9, 4)
    for seed in range(3):
        weights = random_weights(seed, 20, 8)
        weights = BlendWeights(weights.row_start, weights.splat, weights.weight, 9)
        generator = torch.Generator().manual_seed(seed + 50)
        labels = torch.randint(lowest, 4, (4, 5), generator=generator)
        votes.add(weights, labels.int())
        for pixel, label in enumerate(labels.flatten().tolist()):
            for entry in range(int(weights.row_start[pixel]), int(weights.row_start[pixel + 1])):
                if label > 0 or (background and label == 0):  # -1 is no target
                    slow[int(weights.splat[entry]), label] += weights.weight[entry]
    torch.testing.assert_close(votes.votes, slow)
    assert torch.equal(votes.labels(), slow.argmax(1))
    share = slow.amax(1) / slow.sum(1)
    torch.testing.assert_close(votes.confidence()[:8], share[:8])
    assert votes.labels()[8] == 0  # never seen
    assert votes.confidence()[8] == 0


def test_wrong_sizes_and_labels_are_refused() -> None:
    votes = VoteAccumulator(8, 3)
    weights = random_weights(0, 20, 8)
    with pytest.raises(ValueError, match="20 pixels"):
        votes.add(weights, torch.zeros(3, 3, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"0\.\.3"):
        votes.add(weights, torch.full((4, 5), 4))
    with pytest.raises(ValueError, match=r"0\.\.3"):
        votes.add(weights, torch.full((4, 5), -2))
    with pytest.raises(ValueError, match="7 splats"):
        VoteAccumulator(7, 3).add(weights, torch.zeros(4, 5, dtype=torch.int32))


@pytest.fixture(scope="module")
def world() -> ToyWorld:
    return make_world()


def test_the_vote_segments_the_toy_world(world: ToyWorld) -> None:
    n_splats = len(world.labels)
    votes = VoteAccumulator(n_splats, world.num_ids)
    for view in world.views[:-2]:
        votes.add(view.blend_weights(n_splats), view.labels.view(SIZE, SIZE))
    method = VoteMethod.from_votes(votes)
    one_hot = method.one_hot(torch.arange(world.num_ids + 1))
    maps = [method.segment(v.render(one_hot)) for v in world.views[-2:]]
    true = [v.labels for v in world.views[-2:]]
    assert mean_iou([m.label_map.flatten() for m in maps], true) > 0.9
    seen = votes.confidence() > 0.9
    assert (method.labels[seen] == world.labels[seen]).float().mean() > 0.97
    points = method.segment_points(torch.zeros(n_splats, 16))
    assert torch.equal(points.labels, votes.labels())
    assert method.terms is not None
    other = VoteMethod(torch.zeros(0), torch.zeros(0), 1)
    other.load_state_dict(method.state_dict())
    again = other.segment(world.views[-1].render(one_hot))
    assert torch.equal(again.label_map, maps[-1].label_map)


@pytest.mark.parametrize("panoptic", [True, False])
def test_rendering_a_few_ids_at_a_time_changes_nothing(world: ToyWorld, panoptic: bool) -> None:
    """40 small random regions, so that several chunks are needed and slivers are dropped."""
    generator = torch.Generator().manual_seed(0)
    cell = (world.positions * 7).long()
    labels = torch.randperm(49, generator=generator)[cell[:, 0] * 7 + cell[:, 1]]
    confidence = torch.ones(len(labels))
    confidence[::11] = 0.0
    method = VoteMethod(labels, confidence, 48)
    view = world.views[0]
    whole = method.segment(view.render(method.one_hot(torch.arange(49))), panoptic)
    widest = 0

    def splat(values: torch.Tensor) -> torch.Tensor:
        nonlocal widest
        widest = max(widest, values.shape[1])
        return view.render(values)

    parts = method.segment_view(splat, SIZE, panoptic)
    assert widest == SPLAT_CHANNELS
    assert torch.equal(parts.label_map, whole.label_map)
    assert parts.scores == pytest.approx(whole.scores)
    assert len(whole.scores) > SPLAT_CHANNELS


def test_ignored_zero_label_never_wins(world: ToyWorld) -> None:
    n_splats = len(world.labels)
    votes = VoteAccumulator(n_splats, world.num_ids, background=False)
    for view in world.views:
        votes.add(view.blend_weights(n_splats), view.labels.view(SIZE, SIZE))
    method = VoteMethod.from_votes(votes)
    view = world.views[0]
    result = method.segment(view.render(method.one_hot(torch.arange(7))), panoptic=False)
    covered = result.label_map.flatten()[view.labels > 0]
    assert (covered > 0).float().mean() > 0.99
