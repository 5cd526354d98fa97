# SPDX-License-Identifier: Apache-2.0
"""The fused mask losses against the plain ones of `iqgs.methods.iqgs.losses` in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import available_backends
from diff_surfel_rasterization.losses import DICE_SMOOTHING, mask_loss, reference
from iqgs.methods.iqgs.losses import dice_loss, focal_loss, mask_losses
from tests.rasterizer.build_tools import PACKAGE

NATIVE = "cpu" in available_backends()
BACKENDS = ["reference", *(["cpu"] if NATIVE else [])]


def make(
    queries: int, pixels: int, channels: int = 16, seed: int = 0, spread: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q = spread * torch.randn(queries, channels, generator=generator)
    f = torch.randn(pixels, channels, generator=generator)
    # Patches, as label maps have them, and pixels that nobody owns.
    owner = torch.randint(-1, max(queries, 1), (pixels // 50 + 1,), generator=generator)
    return q, f, owner.repeat_interleave(50)[:pixels]


def plain(
    queries: Tensor, features: Tensor, owner: Tensor, gamma: float, alpha: float | None
) -> tuple[Tensor, Tensor]:
    logits = queries @ features.T
    masks = owner[None] == torch.arange(len(queries))[:, None]
    return focal_loss(logits, masks, gamma, alpha), dice_loss(logits, masks)


def with_gradients(
    losses: tuple[Tensor, Tensor], queries: Tensor, features: Tensor
) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(9)
    weights = torch.randn(2, len(queries), generator=generator, dtype=torch.float64)
    total = (losses[0] * weights[0].to(losses[0])).sum() + (
        losses[1] * weights[1].to(losses[1])
    ).sum()
    return (*losses, *torch.autograd.grad(total, (queries, features)))


def leaves(*tensors: Tensor, dtype: torch.dtype) -> list[Tensor]:
    return [t.detach().to(dtype).requires_grad_() for t in tensors]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, None), (2.0, 0.25), (0.0, None), (1.5, 0.7)])
@pytest.mark.parametrize(
    "size", [(1, 1, 16), (5, 333, 16), (30, 2048, 16), (7, 1000, 5), (9, 130, 35)]
)
def test_values_and_gradients(size, gamma, alpha, backend):
    queries, features, owner = make(*size)
    single, double = (leaves(queries, features, dtype=d) for d in (torch.float32, torch.float64))
    found = mask_loss(*single, owner, gamma, alpha, backend=backend)
    expected = with_gradients(plain(*double, owner, gamma, alpha), *double)
    for got, want in zip(with_gradients(found, *single), expected, strict=True):
        error = (got.double() - want).norm()
        assert error <= 1e-6 * want.norm().clamp_min(1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_logits_stay_finite(backend):
    queries, features, owner = make(6, 400, spread=100.0)
    single, double = (leaves(queries, features, dtype=d) for d in (torch.float32, torch.float64))
    found = with_gradients(mask_loss(*single, owner, 2.0, None, backend=backend), *single)
    expected = with_gradients(plain(*double, owner, 2.0, None), *double)
    for got, want in zip(found, expected, strict=True):
        assert torch.isfinite(got).all()
        assert (got.double() - want).norm() <= 1e-4 * want.norm().clamp_min(1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("queries", "pixels"), [(0, 10), (4, 0), (0, 0)])
def test_nothing_to_compare(queries, pixels, backend):
    q, f = leaves(*make(queries, pixels)[:2], dtype=torch.float32)
    owner = torch.zeros(pixels, dtype=torch.int64)
    focal, dice = mask_loss(q, f, owner, 2.0, None, backend=backend)
    assert focal.shape == dice.shape == (queries,)
    assert not focal.any() and not dice.any()
    (focal.sum() + dice.sum()).backward()
    assert q.grad is not None and not q.grad.any()


@pytest.mark.skipif(not NATIVE, reason="the native library is not built: bash scripts/setup.sh")
def test_forty_million_terms_lose_nothing():
    queries, features, owner = make(60, 700_000, spread=0.3)
    focal, dice = mask_loss(queries, features, owner, 2.0, None)
    exact = [torch.empty(60, dtype=torch.float64) for _ in range(2)]
    wide = features.double()
    for m in range(60):  # a query at a time: all logits in float64 would be 336 MB
        losses = plain(queries[m : m + 1].double(), wide, torch.where(owner == m, 0, -1), 2.0, None)
        exact[0][m], exact[1][m] = losses[0][0], losses[1][0]
    assert float((focal.double() - exact[0]).abs().max() / exact[0].mean()) < 5e-7
    assert float((dice.double() - exact[1]).abs().max()) < 5e-7


@pytest.mark.skipif(not NATIVE, reason="the native library is not built: bash scripts/setup.sh")
def test_same_bits_for_any_number_of_threads():
    queries, features, owner = make(11, 70_001)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            leaf = leaves(queries, features, dtype=torch.float32)
            results.append(with_gradients(mask_loss(*leaf, owner, 2.0, 0.25), *leaf))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def small_results() -> dict[str, Tensor]:
    queries, features, owner = make(13, 1003)
    leaf = leaves(queries, features, dtype=torch.float32)
    found = with_gradients(mask_loss(*leaf, owner, 2.0, 0.25), *leaf)
    names = ("focal", "dice", "d_queries", "d_features")
    return {name: t.detach() for name, t in zip(names, found, strict=True)}


@pytest.mark.skipif(not NATIVE, reason="the native library is not built: bash scripts/setup.sh")
@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_instruction_sets_agree(isa, tmp_path):
    from tests.rasterizer.instruction_sets import results_under

    found, expected = results_under(isa, small_results, tmp_path), small_results()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)


def test_reference_passes_gradcheck_in_chunks(monkeypatch):
    monkeypatch.setattr(reference, "CELLS_PER_CHUNK", 9)
    q, f, owner = make(3, 10, channels=4)
    inputs = leaves(q, f, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda a, b: reference.mask_loss_reference(a, b, owner, 1.5, 0.25), inputs, fast_mode=True
    )


def test_the_smoothing_is_that_of_the_kernels():
    text = (PACKAGE / "csrc" / "losses" / "mask_math.h").read_text()
    assert f"constexpr double DICE_SMOOTHING = {DICE_SMOOTHING};" in text


def test_what_is_trained_is_this_loss():
    """What names the equations adds nothing to the kernel and leaves nothing out."""
    queries, features, owner = make(5, 200)
    losses = mask_losses(queries, features, owner, 1.5, 0.25)
    for got, want in zip(losses, plain(queries, features, owner, 1.5, 0.25), strict=True):
        torch.testing.assert_close(got, want)


def test_messages():
    q, f, owner = make(3, 10)
    with pytest.raises(ValueError, match=r"mask_loss: features must be \[P, 16\], got \[10, 5\]"):
        mask_loss(q, f[:, :5], owner, 2.0, None)
    with pytest.raises(ValueError, match="owner must be int32 or int64"):
        mask_loss(q, f, owner.float(), 2.0, None)
    with pytest.raises(ValueError, match="gamma"):
        mask_loss(q, f, owner, -1.0, None)
    with pytest.raises(ValueError, match="alpha"):
        mask_loss(q, f, owner, 2.0, 1.5)
