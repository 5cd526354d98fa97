# SPDX-License-Identifier: Apache-2.0
"""The losses on a GPU: `pytest -m cuda`. The same kernels run on any machine through the host shim
(test_cuda_host_mask_loss.py, test_cuda_host_image_loss.py).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization.losses import image_loss, mask_loss
from tests.rasterizer.cuda_cases import ON_A_GPU
from tests.rasterizer.losses import image_cases
from tests.rasterizer.losses.image_cases import make_pair, make_weight, with_gradient
from tests.rasterizer.losses.test_mask_loss import leaves, make, plain, with_gradients

pytestmark = ON_A_GPU

DEVICE = "cuda"


def assert_close_and_repeatable(found: list, again: list, expected: list, tolerance: float) -> None:
    for got, repeated, want in zip(found, again, expected, strict=True):
        assert torch.equal(got, repeated), "other bits on another run"
        error = (got.cpu().double() - want.double()).norm()
        assert error <= tolerance * want.double().norm().clamp_min(1e-3)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, None), (2.0, 0.25), (0.0, None)])
@pytest.mark.parametrize("size", [(1, 1, 16), (30, 2048, 16), (9, 1500, 35), (300, 40_000, 16)])
def test_mask_losses(size, gamma, alpha):
    queries, features, owner = make(*size)
    double = leaves(queries, features, dtype=torch.float64)
    expected = with_gradients(plain(*double, owner, gamma, alpha), *double)
    runs = []
    for _ in range(2):
        there = leaves(queries.to(DEVICE), features.to(DEVICE), dtype=torch.float32)
        losses = mask_loss(*there, owner.to(DEVICE), gamma, alpha)
        runs.append([t.detach() for t in with_gradients(losses, *there)])
    assert_close_and_repeatable(*runs, [t.detach() for t in expected], 2e-6)


def image_results(size: tuple[int, int], weighted: bool) -> list[Tensor]:
    image, target = (t.to(DEVICE) for t in make_pair(*size))
    weight = make_weight(*size).to(DEVICE) if weighted else None
    x = image.requires_grad_()
    return [t.detach() for t in with_gradient(image_loss(x, target, weight), x)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (33, 47), (200, 300)])
def test_image_losses(size, weighted):
    image, target = make_pair(*size)
    double = image.double().requires_grad_()
    weight = make_weight(*size) if weighted else None
    expected = with_gradient(image_cases.plain(double, target.double(), weight), double)
    runs = [image_results(size, weighted) for _ in range(2)]
    assert_close_and_repeatable(*runs, [t.detach() for t in expected], 2e-5)


def test_losses_on_a_stream_of_the_callers():
    queries, features, owner = (t.to(DEVICE) for t in make(9, 1500))

    def everything() -> list[Tensor]:
        there = leaves(queries, features, dtype=torch.float32)
        masks = with_gradients(mask_loss(*there, owner, 2.0, None), *there)
        return [*masks, *image_results((200, 300), True)]

    expected = everything()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = everything()
    stream.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_image_loss_can_be_captured_in_a_graph():
    """Nothing is read back by the host, so the step can be replayed."""
    image, target = (t.to(DEVICE) for t in make_pair(60, 80))
    x = image.requires_grad_()
    expected = with_gradient(image_loss(x, target), x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = with_gradient(image_loss(x, target), x)
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
