# SPDX-License-Identifier: Apache-2.0
"""No step of training makes a tensor of N_q x H x W, whatever the route."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from arguments import RunConfig
from arguments.evaluation import EvaluationParams
from iqgs.engine.opening import begin_run, open_run
from iqgs.engine.scoring.run_scores import evaluate_run
from iqgs.engine.settings import resolve_run
from iqgs.engine.stages.joint import JointTraining
from iqgs.engine.stages.protocol import take_step
from iqgs.engine.training import learn_instances, train
from iqgs.methods.iqgs.criterion import QueryPrediction
from iqgs.methods.iqgs.decoder import sample_keys
from iqgs.methods.iqgs.matching import Matching
from iqgs.methods.protocol import Batch, total_loss
from tests.iqgs.toy import OPTIONS, build

from .blobs import HEIGHT, WIDTH, write_blobs
from .conftest import SHORT


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation gave back."""

    largest = 0
    shape: tuple[int, ...] = ()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.numel() > self.largest:
                self.largest, self.shape = leaf.numel(), tuple(leaf.shape)
        return out


class LiveTensors(TorchDispatchMode):
    """Bytes of all storages that are alive at once, and of the largest."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.peak, self.largest = 0, 0, 0
        self._seen: set[int] = set()

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.alive -= size

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if not isinstance(leaf, torch.Tensor):
                continue
            storage = leaf.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key in self._seen:
                continue
            self._seen.add(key)
            weakref.finalize(storage, self._gone, key, size)
            self.alive += size
            self.peak, self.largest = max(self.peak, self.alive), max(self.largest, size)
        return out


class PixelsOf(torch.autograd.Function):
    """A stand-in for Eq. 1 that keeps nothing, as the cached weights do."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, pixels: int) -> torch.Tensor:
        ctx.splats = len(values)
        return values.new_empty(pixels, values.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient.new_empty(ctx.splats, gradient.shape[1]), None


@pytest.mark.parametrize("route", ["two-stage", "joint"])
@pytest.mark.parametrize("matching", ["id", "hungarian"])
def test_300_queries_never_meet_all_pixels(
    make_config: Callable[..., RunConfig], tmp_path: Path, route: str, matching: str
) -> None:
    training = begin_run(
        make_config("run", route=route, matching=matching, num_queries=300),
        tmp_path,
        torch.device("cpu"),
    )
    stage = learn_instances(training) if route == "two-stage" else JointTraining(training)
    with LargestTensor() as seen:
        for iteration in range(stage.first, stage.first + 3):
            take_step(stage, iteration)
    assert seen.largest > 0
    assert seen.largest < 300 * HEIGHT * WIDTH / 4, seen.shape


def test_a_whole_view_of_the_papers_size_needs_less_than_12_gb() -> None:
    """1558 x 1039, 300 queries, a million splats, `--pixels_per_step 0`: every tensor that is alive
    is counted at its full size, on the meta device where none takes memory."""
    pixels, splats, objects = 1558 * 1039, 1_000_000, 120
    options = replace(OPTIONS, num_queries=300, num_ids=299, attention_keys="pooled")
    with LiveTensors() as seen, torch.device("meta"):
        method = build(options).to("meta")
        instance = torch.empty(splats, 16, requires_grad=True)
        step = Batch(
            features=PixelsOf.apply(instance, pixels),
            labels=torch.empty(pixels, dtype=torch.int64),
            instance=instance,
            touched=torch.empty(splats, dtype=torch.int64),
            splat=lambda values: PixelsOf.apply(values, pixels),
            pairs=torch.empty(5000, 2, dtype=torch.int64),
            alpha=torch.empty(pixels),
            pixels=torch.empty(pixels, dtype=torch.int64),
            view=0,
        )
        ids = torch.arange(objects, device="meta")
        features = method.projection(step.features)
        keys = sample_keys(features, options.attention_pixels, True)
        queries = method.decoder(keys)
        prediction = QueryPrediction(queries, features, range(300))
        terms = method.criterion(step, prediction, Matching(ids, ids), None, method.projection)
        total_loss(terms, method.weights).backward()
    adam = 2 * splats * 16 * 4
    cached = 30 * pixels * 3  # a view's weights, 30 entries of about 3 bytes a pixel, as measured
    peak = seen.peak + adam + cached
    assert instance.grad is not None
    assert 4 * 300 * pixels > 1.9e9, "one map of all queries is what must not be there"
    assert seen.largest < 4 * 64 * pixels, "nor anything near it"
    assert peak < 12e9, f"{peak / 1e9:.1f} GB"


def test_scoring_more_views_takes_no_more_memory(tmp_path: Path) -> None:
    """A view is forgotten before the next: what is alive at once does not grow with their number.

    A megapixel view needs about 25 such maps of floats (100 MB); 200 of them kept would be 20 GB.
    """
    peaks = {}
    for views in (9, 33):
        scene = write_blobs(tmp_path / f"scene{views}", views=views)
        config = resolve_run(
            {**SHORT, "source_path": str(scene), "model_path": str(tmp_path / f"run{views}")},
            {"iterations": 10, "instance_iterations": 10, "repair_masks": "off"},
        )
        assert train(config) == 0
        run = open_run(config.model.model_path)
        params = EvaluationParams(model_paths=("run",), split="train", quiet=True)
        with LiveTensors() as seen:
            ours, vote = evaluate_run(run, params)
        assert ours.values["views"] == vote.values["views"] == views - -(-views // 8)
        peaks[views] = seen.peak
    assert peaks[33] < 1.1 * peaks[9], peaks
    # Maps of floats, int64 labels and weights of one view, for both ways to segment it.
    assert peaks[33] < 200 * 4 * HEIGHT * WIDTH + 4 * 2**20
