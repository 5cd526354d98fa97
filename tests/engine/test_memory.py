# SPDX-License-Identifier: Apache-2.0
"""No step of training makes a tensor of N_q x H x W, whatever the route."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from arguments import RunConfig
from iqgs.engine.setup import prepare
from iqgs.engine.training import learn_instances, train_jointly

from .blobs import HEIGHT, WIDTH


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


@pytest.mark.parametrize("route", ["two-stage", "joint"])
@pytest.mark.parametrize("matching", ["id", "hungarian"])
def test_300_queries_never_meet_all_pixels(
    make_config: Callable[..., RunConfig], route: str, matching: str
) -> None:
    training = prepare(make_config("run", route=route, matching=matching, num_queries=300))
    assert training.options is not None and training.options.num_queries == 300
    stage = learn_instances(training) if route == "two-stage" else train_jointly(training)
    with LargestTensor() as seen:
        for iteration in range(stage.first, stage.first + 3):
            stage.step(iteration)
    assert seen.largest > 0
    assert seen.largest < 300 * HEIGHT * WIDTH / 4, seen.shape
