# SPDX-License-Identifier: Apache-2.0
"""Weights summed by the labels of the pixels on every backend: the table's, entry by entry."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import (
    LABEL_WEIGHT_PARTS,
    BlendWeights,
    add_label_weights,
    available_backends,
    blend_weights,
)
from tests.rasterizer import cuda_host
from tests.rasterizer.quad_cases import CASES, case_of
from tests.rasterizer.scenes import map_tensors

COLUMNS = 9


def label_maps(height: int, width: int) -> Tensor:
    """Regions, noise, and a map that is silent but for a stripe; each has columns of its own."""
    generator = torch.Generator().manual_seed(3)
    x, y = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
    regions = (x // 11 + y // 7) % 4
    noise = torch.randint(-1, 3, (height, width), generator=generator)
    noise = torch.where(noise < 0, noise, noise + 4)
    stripe = torch.where(y % 13 == 5, 8, -7)
    return torch.stack([regions, noise, stripe]).int()


def expected_sums(table: BlendWeights, labels: Tensor) -> Tensor:
    """The definition, in double precision."""
    pixel = torch.repeat_interleave(table.row_start.diff())
    sums = torch.zeros(table.n_splats, COLUMNS, dtype=torch.float64)
    for columns in labels.flatten(1):
        column = columns[pixel].long()
        said = column >= 0
        at = table.splat.long()[said], column[said]
        sums.index_put_(at, table.weight.double()[said], accumulate=True)
    return sums


@pytest.mark.parametrize("min_weight", [0.0, 1 / 255])
@pytest.mark.parametrize("name", CASES)
def test_sums_are_those_of_the_table(host_backend: str, name: str, min_weight: float) -> None:
    splats, view = case_of(name)
    labels = label_maps(view.height, view.width)
    expected = expected_sums(blend_weights(splats, view, min_weight, host_backend), labels)
    before = torch.arange(expected.numel()).view(expected.shape)
    sums = before.clone()
    add_label_weights(splats, view, labels, sums, min_weight, host_backend)
    found = (sums - before).double() / LABEL_WEIGHT_PARTS
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert float(expected.sum()) > 0.5
    assert torch.equal(found == 0, expected == 0)


@pytest.mark.parametrize("name", ["bands", "ellipsoids"])
def test_the_same_bits_for_any_number_of_threads(name: str) -> None:
    splats, view = case_of(name)
    labels, before = label_maps(view.height, view.width), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            sums = torch.zeros(len(splats.means), COLUMNS, dtype=torch.int64)
            add_label_weights(splats, view, labels, sums)
            found.append(sums)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("name", ["small", "bands", "ellipsoids", "saturated"])
def test_the_kernels_of_cuda_give_the_same_sums(name: str, monkeypatch) -> None:
    if cuda_host.compiler() is None or "cpu" not in available_backends():
        pytest.skip("no host compiler: apt install g++")
    from diff_surfel_rasterization import native

    operators = cuda_host.load_host_operators()
    monkeypatch.setattr(native, "_operators", lambda function, tensor: operators)
    splats, view = case_of(name)
    labels = label_maps(view.height, view.width)
    sums = torch.zeros(len(splats.means), COLUMNS, dtype=torch.int64)
    native.add_label_weights_native(splats, view, labels, sums, 1 / 255)
    expected = expected_sums(native.blend_weights_native(splats, view, 1 / 255), labels)
    torch.testing.assert_close(sums.double() / LABEL_WEIGHT_PARTS, expected, rtol=1e-6, atol=1e-6)
    again = torch.zeros_like(sums)
    native.add_label_weights_native(splats, view, labels, again, 1 / 255)
    assert torch.equal(again, sums)


def test_more_maps_than_labels_of_a_tile_can_be_counted_on_fingers(host_backend: str) -> None:
    """Every pixel of every map has a label of its own."""
    splats, view = case_of("small")
    pixels = view.width * view.height
    maps = torch.arange(16 * pixels, dtype=torch.int32).view(16, view.height, view.width)
    sums = torch.zeros(len(splats.means), 16 * pixels, dtype=torch.int64)
    add_label_weights(splats, view, maps, sums, backend=host_backend)
    table = blend_weights(splats, view, backend=host_backend)
    dense = torch.zeros(len(splats.means), pixels, dtype=torch.float64)
    pixel = torch.repeat_interleave(table.row_start.diff())
    dense[table.splat.long(), pixel] = table.weight.double()
    found = sums.view(-1, 16, pixels).double() / LABEL_WEIGHT_PARTS
    torch.testing.assert_close(found, dense[:, None].expand_as(found), rtol=0, atol=1e-7)


def test_no_splats_at_all(host_backend: str) -> None:
    splats, view = case_of("small")
    empty = map_tensors(splats, lambda t: t[:0])
    sums = torch.zeros(0, COLUMNS, dtype=torch.int64)
    add_label_weights(empty, view, label_maps(view.height, view.width), sums, 0.0, host_backend)
    assert sums.shape == (0, COLUMNS)


def test_arguments_are_checked(host_backend: str) -> None:
    splats, view = case_of("small")
    labels = label_maps(view.height, view.width)
    sums = torch.zeros(len(splats.means), COLUMNS, dtype=torch.int64)

    def add(some: Tensor, to: Tensor) -> None:
        add_label_weights(splats, view, some, to, backend=host_backend)

    with pytest.raises(ValueError, match="add_label_weights: labels must be a tensor"):
        add_label_weights(splats, view, None, sums)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"labels must be \[L, 29, 37\]"):
        add(labels[0], sums)
    with pytest.raises(ValueError, match="labels must be torch.int32, got torch.int64"):
        add(labels.long(), sums)
    with pytest.raises(ValueError, match="sums must be torch.int64, got torch.float32"):
        add(labels, sums.float())
    with pytest.raises(ValueError, match="labels must be of 1 to 16 maps, got 18"):
        add(labels.repeat(6, 1, 1), sums)
    with pytest.raises(ValueError, match="labels must be below 8, the columns, got 8"):
        add(labels, sums[:, :8].contiguous())
    with pytest.raises(ValueError, match="sums must be contiguous"):
        add(labels, sums.T.contiguous().T)
    assert not bool(sums.any())
