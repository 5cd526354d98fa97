# SPDX-License-Identifier: Apache-2.0
"""The mask losses by the CUDA kernels on the host shim, against float64 torch and the CPU."""

from __future__ import annotations

import pytest
import torch

from diff_surfel_rasterization.losses import mask_loss
from tests.rasterizer import cuda_host
from tests.rasterizer.losses.test_mask_loss import leaves, make, plain, with_gradients


def found(size: tuple[int, ...], gamma: float, alpha: float | None) -> tuple[torch.Tensor, ...]:
    queries, features, owner = make(*size)
    single = leaves(queries, features, dtype=torch.float32)
    return with_gradients(mask_loss(*single, owner, gamma, alpha), *single)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, None), (2.0, 0.25), (0.0, None), (1.5, 0.7)])
@pytest.mark.parametrize(
    "size",
    [
        *((1, 1, 16), (5, 333, 16), (30, 2048, 16), (9, 1500, 35), (3, 200, 12), (3, 90, 20)),
        (17, 9300, 4),  # more blocks than warps that share their sums
    ],
)
def test_values_and_gradients(kernels, size, gamma, alpha):
    queries, features, owner = make(*size)
    double = leaves(queries, features, dtype=torch.float64)
    expected = with_gradients(plain(*double, owner, gamma, alpha), *double)
    forward = found(size, gamma, alpha)
    for got, want in zip(forward, expected, strict=True):
        assert (got.double() - want).norm() <= 2e-6 * want.norm().clamp_min(1e-3)
    with cuda_host.reversed_schedule():
        again = found(size, gamma, alpha)
    assert all(torch.equal(a, b) for a, b in zip(forward, again, strict=True))


@pytest.mark.parametrize("size", [(9, 1100, 16), (4, 300, 20)])
def test_each_gradient_alone_has_the_bits_of_both(kernels, size):
    queries, features, owner = make(*size)

    def gradients(learned: tuple[bool, bool]) -> list[torch.Tensor | None]:
        q, f = (
            t.clone().requires_grad_(wish)
            for t, wish in zip((queries, features), learned, strict=True)
        )
        focal, dice = mask_loss(q, f, owner, 2.0, None)
        (focal.sum() + 3 * dice.sum()).backward()
        return [q.grad, f.grad]

    of_queries, of_features = gradients((True, True))
    alone, nothing = gradients((True, False))
    assert torch.equal(alone, of_queries) and nothing is None
    nothing, alone = gradients((False, True))
    assert torch.equal(alone, of_features) and nothing is None


def test_memory_that_does_not_begin_where_four_floats_do(kernels):
    """A contiguous view from the second number of its storage on: same numbers, another address."""
    queries, features, owner = make(5, 300)

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        storage = torch.empty(tensor.numel() + 1)
        return storage[1:].view_as(tensor).copy_(tensor).requires_grad_()

    results = []
    for pair in (leaves(queries, features, dtype=torch.float32), [moved(queries), moved(features)]):
        results.append(with_gradients(mask_loss(*pair, owner, 2.0, None), *pair))
    assert pair[1].data_ptr() % 16 == 4 and pair[1].is_contiguous()
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(("queries", "pixels"), [(0, 10), (4, 0)])
def test_nothing_to_compare(kernels, queries, pixels):
    q, f = leaves(*make(queries, pixels)[:2], dtype=torch.float32)
    owner = torch.zeros(pixels, dtype=torch.int64)
    focal, dice = mask_loss(q, f, owner, 2.0, None)
    assert focal.shape == dice.shape == (queries,)
    assert not focal.any() and not dice.any()
    (focal.sum() + dice.sum()).backward()
    assert q.grad is not None and not q.grad.any()
    assert f.grad is not None and not f.grad.any()
