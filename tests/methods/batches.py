# SPDX-License-Identifier: Apache-2.0
"""Steps by hand: splats, pixels and blending weights in a few numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from iqgs.methods import build_method
from iqgs.methods.protocol import Batch, SceneFacts

LN2, LN3 = math.log(2), math.log(3)


def matrix(rows: Sequence[Sequence[float]]) -> Tensor:
    """A tensor of rows."""
    return torch.tensor(rows, dtype=torch.float32)


def make_batch(
    instance: Tensor,
    labels: Sequence[int],
    blend: Tensor | None = None,
    pairs: Sequence[tuple[int, int]] = (),
    view: int = 0,
) -> Batch:
    """Pixels with these labels that show splats [N, D] with blending weights [P, N].

    Without weights pixel i shows splat i and nothing else.
    """
    count = len(labels)
    weights = torch.eye(count, len(instance)) if blend is None else blend
    return Batch(
        features=weights @ instance,
        labels=torch.tensor(labels, dtype=torch.int64),
        instance=instance,
        touched=torch.arange(len(instance)),
        splat=lambda values: weights @ values,
        pairs=torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        alpha=weights.sum(dim=1),
        pixels=torch.arange(count),
        view=view,
    )


def make_facts(ids: int, dim: int = 2, background: bool = True, **more: Any) -> SceneFacts:
    """Facts of a scene with so many ids."""
    return SceneFacts(ids, ids, background, dim, 0, **more)


def make_method(name: str, params: Any, facts: SceneFacts) -> Any:
    """A fresh method; Any, because tests look inside."""
    return build_method(name, params, facts)


def set_classifier(method: Any, weight: Tensor, bias: Tensor | None = None) -> None:
    """Give a linear classifier these numbers; no bias: zeros."""
    with torch.no_grad():
        method.classifier.weight.copy_(weight)
        method.classifier.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
