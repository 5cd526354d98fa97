# SPDX-License-Identifier: Apache-2.0
"""How far views agree with labels: against sums of weights, in one pass and in many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import LABEL_WEIGHT_PARTS
from gaussian_renderer import MIN_WEIGHT
from iqgs.engine import agreement
from iqgs.engine.agreement import ShownIds, shown_ids
from iqgs.engine.opening import open_run
from iqgs.engine.run import splat_labels, spread_cameras
from iqgs.methods.protocol import SplatLabels


class WeightLens:
    """A view of dense weights [N, H, W] and of what a method shows in it [H, W]."""

    def __init__(self, weights: Tensor, shown: Tensor) -> None:
        self.weights, self.shown = weights, shown
        self.camera = SimpleNamespace(height=shown.shape[0], width=shown.shape[1])

    def add_label_weights(self, label_maps: Tensor, sums: Tensor) -> None:
        """Whole parts, as the rasterizer adds them."""
        parts = (self.weights.double() * LABEL_WEIGHT_PARTS).round().long()
        for label in label_maps.unique().tolist():
            if label >= 0:
                sums[:, label] += (parts * (label_maps[0] == label)).sum((1, 2))


class Shows:
    """A method that shows what the lens says."""

    def segment(self, lens: Any, panoptic: bool = True) -> Any:
        """The lens's map."""
        return SimpleNamespace(label_map=lens.shown)


def shown(lenses: list[WeightLens], labels: Tensor) -> ShownIds:
    def again() -> Iterator[Any]:
        return iter(lenses)

    method: Any = Shows()
    return shown_ids(again, method, labels)


def test_a_splat_at_a_boundary_by_hand() -> None:
    """Weights 3, 1 and .5 for objects 2, 1 and 4; the splat that no view shows; one that is 0."""
    maps = torch.tensor([[2, 1], [4, 0]])
    weights = torch.tensor([[[3.0, 1.0], [0.5, 0.0]], [[0, 0], [0, 0]], [[0, 0.25], [0, 0.75]]])
    labels = torch.tensor([2, 2, 0])
    found = shown([WeightLens(weights, maps)], labels)
    assert found.winner.tolist() == [2, 0, 0]
    assert found.seen.tolist() == [True, False, True]
    assert found.agreement(labels).tolist() == [0.75, 0.0, 0.75]
    counted = shown([WeightLens(weights, maps)], torch.tensor([1, 1, 1]))
    assert counted.agreement(counted.labels).tolist() == [0.25, 0.0, 0.25]
    assert counted.agreement(counted.winner).tolist() == [0.75, 0.0, 0.75]
    assert counted.agreement(torch.tensor([4, 0, 4])).tolist() == [0.0, 0.0, 0.0]  # never counted


@pytest.mark.parametrize("columns", [1, 2, 3, 100])
def test_it_is_the_sums_however_many_ids_are_counted_at_a_time(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(columns)
    n, ids = 50, 7
    monkeypatch.setattr(agreement, "MOST_BYTES", 8 * n * columns)
    maps = torch.randint(ids, (3, 4, 5), generator=generator)
    weights = torch.rand(3, n, 4, 5, generator=generator)
    weights *= torch.rand(3, n, 4, 5, generator=generator) < 0.2
    labels = torch.randint(ids + 2, (n,), generator=generator)  # two that nothing shows
    found = shown([WeightLens(w, m) for w, m in zip(weights, maps, strict=True)], labels)
    votes = torch.stack(
        [(weights * (maps == k)[:, None]).sum((0, 2, 3)) for k in range(ids + 2)], 1
    )
    others = votes.clone()
    others[torch.arange(n), labels] = 0
    own = votes[torch.arange(n), labels]
    expected = own / (own + others.amax(1)).clamp_min(1e-9)
    torch.testing.assert_close(found.agreement(labels), expected, atol=1e-5, rtol=0)
    assert torch.equal(found.winner, votes.argmax(1))
    assert torch.equal(found.seen, votes.sum(1) > 0)


def test_saved_labels_agree_as_the_views_say_and_may_be_theirs(trained: tuple[Path, Path]) -> None:
    """Of a learned run, against its own pictures and the weights of every pixel."""
    run = open_run(trained[1])
    saved = run.saved_labels
    assert saved is not None and run.method is not None and run.ids is not None
    votes = torch.zeros(len(run.gaussians), len(run.ids) + 1, dtype=torch.float64)
    for camera in spread_cameras(run):
        lens = run.lens(camera)
        shown = run.method.segment(lens).label_map.flatten()
        weights = lens.weights(MIN_WEIGHT)
        pixel = torch.repeat_interleave(torch.arange(len(shown)), weights.row_start.diff())
        at = weights.splat.long() * votes.shape[1] + shown[pixel]
        votes.view(-1).index_add_(0, at, weights.weight.double())
    compact = torch.from_numpy(run.ids.to_compact(saved.labels.numpy().astype("int32"))).long()
    own = votes.gather(1, compact[:, None])[:, 0]
    others = votes.scatter(1, compact[:, None], 0.0).amax(1)
    expected = (own / (own + others).clamp_min(1e-9)).float()
    sure = (own > 0.01) & (votes.sum(1) > 0.1)
    assert sure.sum() > 300
    torch.testing.assert_close(saved.confidence[sure], expected[sure], atol=1e-3, rtol=0)

    def labelled(by: str) -> SplatLabels:
        run.saved_labels = None
        segmentation = replace(run.config.segmentation, splat_labels=by)
        run.config = replace(run.config, segmentation=segmentation)
        return splat_labels(run)

    found = labelled("views")
    clear = votes.amax(1) > 1.1 * votes.scatter(1, votes.argmax(1)[:, None], 0.0).amax(1) + 0.1
    numbers = torch.from_numpy(run.file_ids(votes.argmax(1), "global")).long()
    assert torch.equal(found.labels[clear], numbers[clear])
    assert torch.equal(found.labels, saved.labels)  # the default
    assert (found.labels != labelled("method").labels).any()
    assert (found.confidence[clear] > 0.5).all()
