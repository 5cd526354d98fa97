# SPDX-License-Identifier: Apache-2.0
"""Adam over chosen rows, by every backend and by the CUDA kernels on the host shim; what it is good
for, that it is Adam, stands in tests/scene/test_lazy_adam.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import available_backends
from diff_surfel_rasterization.training import (
    AdamRows,
    AdamStep,
    CatchUp,
    look_at_rows,
    native,
    step_rows,
)
from tests.rasterizer import cuda_host

NATIVE = "cpu" in available_backends()
needs_native = pytest.mark.skipif(
    not NATIVE, reason="the native library is not built: bash scripts/setup.sh"
)
BETAS = (0.9, 0.999)


def make(count: int, channels: int, dtype: torch.dtype, step: int = 7) -> tuple[AdamRows, CatchUp]:
    """State in the middle of a training; some rows have never learned."""
    g = torch.Generator().manual_seed(count + channels)
    single = [torch.randn(count, channels, generator=g) for _ in range(3)]
    single[2] = single[2].square()
    single[1][: count // 4] = single[2][: count // 4] = 0.0
    last = torch.randint(step + 1, (count,), generator=g)
    glide = torch.rand(step + 1, generator=g, dtype=torch.float64)
    powers = torch.arange(step + 3, dtype=torch.float64)
    decay = torch.stack([beta**powers for beta in BETAS]).to(dtype)
    return AdamRows(*(t.to(dtype) for t in single), last), CatchUp(glide, decay, step)


def moved(count: int, channels: int, dtype: torch.dtype, backend: str = "auto") -> list[Tensor]:
    """What a look and a step make of half the rows, and what they leave of the others."""
    state, due = make(count, channels, dtype)
    g = torch.Generator().manual_seed(1)
    rows = torch.randperm(count, generator=g)[: (count + 1) // 2]
    seen = look_at_rows(state, rows, due, backend)
    between = [t.clone() for t in state]
    gradient = torch.randn(len(rows), channels, generator=g).to(dtype)
    step_rows(state, rows, gradient, AdamStep(BETAS, 0.05, 0.08, 1e-15, due.step + 1), backend)
    return [seen, *between, *state]


def by_hand(count: int, channels: int) -> list[Tensor]:
    """One row after another, in float64, by the formulas."""
    state, due = make(count, channels, torch.float64)
    g = torch.Generator().manual_seed(1)
    rows = torch.randperm(count, generator=g)[: (count + 1) // 2].tolist()
    value, mean, square, last = state
    for row in rows:
        since = int(last[row])
        root = square[row].sqrt()
        owed = torch.where(root > 0, mean[row] / root.clamp_min(1e-300), 0.0)
        value[row] -= due.glide[since] * owed
        mean[row] *= BETAS[0] ** (due.step - since)
        square[row] *= BETAS[1] ** (due.step - since)
        last[row] = due.step
    seen, between = value[rows].clone(), [t.clone() for t in state]
    gradient = torch.randn(len(rows), channels, generator=g).double()
    for row, slope in zip(rows, gradient, strict=True):
        mean[row] = BETAS[0] * mean[row] + (1 - BETAS[0]) * slope
        square[row] = BETAS[1] * square[row] + (1 - BETAS[1]) * slope**2
        value[row] -= 0.05 * mean[row] / (square[row].sqrt() / 0.08 + 1e-15)
        last[row] = due.step + 1
    return [seen, *between, *state]


def assert_agree(found: list[Tensor], expected: list[Tensor]) -> None:
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got.double(), want.double(), rtol=2e-6, atol=1e-6)


SIZES = [(1, 1), (9, 3), (1100, 16), (40, 35)]
BACKENDS = ["reference", *(["cpu"] if NATIVE else [])]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", SIZES)
def test_rows_move_by_the_formulas_and_others_rest(size, backend):
    assert_agree(moved(*size, torch.float32, backend), by_hand(*size))


@needs_native
def test_no_row_is_no_work():
    state, due = make(5, 4, torch.float32)
    before = [t.clone() for t in state]
    assert look_at_rows(state, torch.empty(0, dtype=torch.int64), due).shape == (0, 4)
    assert all(torch.equal(a, b) for a, b in zip(before, state, strict=True))


@needs_native
@pytest.mark.skipif(cuda_host.compiler() is None, reason="no host compiler: apt install g++")
@pytest.mark.parametrize("size", SIZES)
def test_the_cuda_kernels(size, monkeypatch: pytest.MonkeyPatch):
    loaded = cuda_host.load_host_operators()
    monkeypatch.setattr(native, "operators", lambda: loaded)
    assert_agree(moved(*size, torch.float32), by_hand(*size))


@needs_native
def test_same_bits_for_any_number_of_threads():
    def under(threads: int, work: Callable[[], list[Tensor]]) -> list[Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return work()
        finally:
            torch.set_num_threads(before)

    first, *others = (under(n, lambda: moved(4000, 16, torch.float32)) for n in (1, 2, 16))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_messages():
    state, due = make(6, 4, torch.float32)
    rows = torch.tensor([1])
    with pytest.raises(ValueError, match=r"mean must be \[6, 4\], got \[6, 3\]"):
        look_at_rows(state._replace(mean=state.mean[:, :3]), rows, due)
    with pytest.raises(ValueError, match=r"step_rows: gradient must be \[1, 4\], got \[2, 4\]"):
        step_rows(state, rows, torch.ones(2, 4), AdamStep(BETAS, 0.1, 0.1, 1e-15, 8))
