# SPDX-License-Identifier: Apache-2.0
"""The splats of a pixel against the dense weights of the reference, pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import (
    BlendWeights,
    blend_weights,
    contributing_splats,
    rasterize,
    top_splats,
)
from diff_surfel_rasterization.contributors import largest_of_rows
from tests.rasterizer.quad_cases import case_of, dense_rows
from tests.rasterizer.scenes import map_tensors


def in_order(dense: Tensor, depth_order: list[int], count: int) -> list[tuple[int, float]]:
    """The largest weights of one pixel by a plain sort."""
    found = [(-float(dense[i]), place, i) for place, i in enumerate(depth_order) if dense[i] > 0]
    return [(i, -w) for w, _, i in sorted(found)[:count]]


@pytest.mark.parametrize("name", ["small", "ellipsoids", "saturated"])
def test_the_largest_weights_of_every_pixel(host_backend: str, name: str) -> None:
    splats, view = case_of(name)
    dense = dense_rows(blend_weights(splats, view, 0.0, "reference"))
    shown = contributing_splats(splats, view, backend=host_backend)
    top = top_splats(splats, view, 3, backend=host_backend)
    assert top.splat.shape == top.weight.shape == (view.height, view.width, 3)
    assert top.splat.dtype == torch.int32 and top.weight.dtype == torch.float32
    clear = crowded = 0
    for y in range(0, view.height, 3):
        for x in range(0, view.width, 2):
            listed, row = shown.at(x, y).tolist(), y * view.width + x
            assert sorted(listed) == dense[row].nonzero().flatten().tolist()
            expected = in_order(dense[row], listed, 4)
            crowded += len(expected) == 4
            gaps = [a[1] - b[1] for a, b in zip(expected, expected[1:], strict=False)]
            expected = [*expected[:3], *[(-1, 0.0)] * (3 - len(expected))]
            wanted = torch.tensor([w for _, w in expected])
            torch.testing.assert_close(top.weight[y, x], wanted, rtol=1e-4, atol=1e-5)
            if all(gap > 1e-4 for gap in gaps):  # else two backends may differ in the order
                clear += 1
                assert top.splat[y, x].tolist() == [i for i, _ in expected]
    assert clear > 50 and crowded > 20


def test_all_of_them_sum_to_alpha(host_backend: str) -> None:
    splats, view = case_of("small")
    shown = contributing_splats(splats, view, backend=host_backend)
    most = int(shown.row_start.diff().max())
    top = top_splats(splats, view, most, backend=host_backend)
    alpha = rasterize(splats, view, host_backend).alpha[0]
    torch.testing.assert_close(top.weight.sum(-1).to(alpha), alpha, rtol=1e-5, atol=1e-5)
    assert bool((top.weight.diff(dim=-1) <= 0).all())
    assert torch.equal((top.splat >= 0).sum(-1).flatten(), shown.row_start.diff())


def test_the_nearer_of_equals_comes_first() -> None:
    table = BlendWeights(
        torch.tensor([0, 4, 4, 5]),
        torch.tensor([7, 3, 9, 1, 2], dtype=torch.int32),
        torch.tensor([0.2, 0.5, 0.2, 0.2, 0.9]),
        10,
    )
    splat, weight = largest_of_rows(table, 3)
    assert splat.tolist() == [[3, 7, 9], [-1, -1, -1], [2, -1, -1]]
    torch.testing.assert_close(
        weight, torch.tensor([[0.5, 0.2, 0.2], [0.0, 0.0, 0.0], [0.9, 0.0, 0.0]])
    )


def test_no_splats_and_no_count(host_backend: str) -> None:
    splats, view = case_of("small")
    with pytest.raises(ValueError, match="top_splats: count must be at least 1, got 0"):
        top_splats(splats, view, 0, backend=host_backend)
    empty = map_tensors(splats, lambda t: t[:0])
    top = top_splats(empty, view, 2, backend=host_backend)
    assert bool((top.splat == -1).all()) and not bool(top.weight.any())
    assert len(contributing_splats(empty, view, backend=host_backend).splat) == 0
