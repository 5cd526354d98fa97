# SPDX-License-Identifier: Apache-2.0
"""What a training step does to all splats, against the same by definition."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import available_backends
from diff_surfel_rasterization.training import activate_splats, add_screen_signal
from tests.rasterizer.training.splat_cases import (
    COUNTS,
    assert_agree,
    leaves,
    make_raw,
    plain,
    with_gradients,
)

NATIVE = "cpu" in available_backends()
needs_native = pytest.mark.skipif(
    not NATIVE, reason="the native library is not built: bash scripts/setup.sh"
)
BACKENDS = ["reference", *(["cpu"] if NATIVE else [])]


def found(count: int, degree: int, scales: int = 2, backend: str = "auto") -> list[Tensor]:
    leaf = leaves(make_raw(count, scales), torch.float32)
    return with_gradients(activate_splats(*leaf, degree, backend=backend), leaf)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("scales", [2, 3])
@pytest.mark.parametrize("count", COUNTS)
def test_values_and_gradients(count, scales, degree, backend):
    double = leaves(make_raw(count, scales), torch.float64)
    expected = with_gradients(plain(double, (degree + 1) ** 2), double)
    assert_agree(found(count, degree, scales, backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_that_are_none_stay_none(backend):
    raw = make_raw(40)
    raw["log_scales"][20, 1] = raw["opacity_logits"][21, 0] = float("nan")
    scales, opacities, _ = activate_splats(
        *leaves(raw, torch.float32), sh_degree=1, backend=backend
    )
    assert bool(scales[20, 1].isnan()) and int(scales.isnan().sum()) == 1
    assert bool(opacities[21, 0].isnan()) and int(opacities.isnan().sum()) == 1


@needs_native
def test_only_what_learns_gets_a_gradient():
    leaf = leaves(make_raw(30), torch.float32)
    frozen = [leaf[0].detach(), leaf[1], leaf[2].detach(), leaf[3]]
    scales, opacities, sh = activate_splats(*frozen, sh_degree=1)
    (scales.sum() + opacities.sum() + sh.sum()).backward()
    assert leaf[0].grad is None and leaf[2].grad is None
    assert leaf[1].grad is not None and leaf[3].grad is not None
    assert bool((leaf[3].grad[:, :3] == 1).all()) and not bool(leaf[3].grad[:, 3:].any())


@needs_native
def test_same_bits_for_any_number_of_threads():
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 16, 1):
            torch.set_num_threads(threads)
            results.append([*found(5003, 2), *signals(5003)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def signals(count: int, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """Sums after two views."""
    g = torch.Generator().manual_seed(count)
    total, seen = torch.zeros(count), torch.zeros(count)
    for _ in range(2):
        radii = torch.randint(-1, 3, (count,), generator=g, dtype=torch.int32)
        signal = torch.randn(count, 3, generator=g)
        signal[radii <= 0] = float("nan")  # nobody made it
        add_screen_signal(total, seen, radii, signal, backend=backend)
    return total, seen


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", COUNTS)
def test_signals_add_up_where_splats_are_visible(count, backend):
    total, seen = signals(count, backend)
    g = torch.Generator().manual_seed(count)
    expected, times = torch.zeros(count, dtype=torch.float64), torch.zeros(count)
    for _ in range(2):
        radii = torch.randint(-1, 3, (count,), generator=g, dtype=torch.int32)
        signal = torch.randn(count, 3, generator=g).double()
        for n in range(count):
            if radii[n] > 0:
                expected[n] += float(signal[n, 0] ** 2 + signal[n, 1] ** 2) ** 0.5
                times[n] += 1
    assert torch.equal(seen, times)
    torch.testing.assert_close(total.double(), expected, rtol=3e-7, atol=0)


def results_of_counts() -> dict[str, Tensor]:
    parts = {f"{n} {d} {i}": t for n in COUNTS for d in (0, 3) for i, t in enumerate(found(n, d))}
    return parts | {f"{n} signal {i}": t for n in COUNTS for i, t in enumerate(signals(n))}


@needs_native
@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_instruction_sets_agree(isa, tmp_path: Path):
    from tests.rasterizer.instruction_sets import results_under

    others, expected = results_under(isa, results_of_counts, tmp_path), results_of_counts()
    for name, value in expected.items():
        torch.testing.assert_close(others[name], value, rtol=4e-7, atol=2e-38, msg=name)


def test_the_reference_passes_gradcheck():
    raw = make_raw(5, degree=1)
    leaf = leaves(raw, torch.float64)
    assert torch.autograd.gradcheck(lambda *x: tuple(activate_splats(*x, sh_degree=1)), leaf)


def test_messages():
    leaf = leaves(make_raw(4, degree=1), torch.float32)
    with pytest.raises(ValueError, match="sh_degree 2 needs 9 coefficients, got 4 coefficients"):
        activate_splats(*leaf, sh_degree=2)
    with pytest.raises(ValueError, match=r"opacity_logits must be \[4, 1\], got \[4\]"):
        activate_splats(leaf[0], leaf[1][:, 0], *leaf[2:], sh_degree=1)
    with pytest.raises(ValueError, match=r"sh_rest must be \[4, K - 1, 3\], got \[3, 3, 3\]"):
        activate_splats(*leaf[:3], leaf[3][:3], sh_degree=1)
    total, radii = torch.zeros(4), torch.ones(4, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"signal must be \[4, 3\], got \[4, 2\]"):
        add_screen_signal(total, total.clone(), radii, torch.zeros(4, 2))
