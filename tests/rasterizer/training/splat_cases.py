# SPDX-License-Identifier: Apache-2.0
"""Raw parameters of splats, also at the ends of the range, and what float64 makes of them."""

from __future__ import annotations

import torch
from torch import Tensor

NAMES = ("log_scales", "opacity_logits", "sh_dc", "sh_rest")
# Splats: none, one, less than a vector, a piece and a rest.
COUNTS = (0, 1, 7, 16, 1061)
# Where single precision over- and underflows, and the whole numbers of log 2.
ENDS = [-104.0, -103.0, -88.0, -87.3, -1e-8, 0.0, 1e-8, 0.3465736, 0.6931472, 20.0]
ENDS += [88.0, 88.7, 90.0]


def make_raw(count: int, scales: int = 2, degree: int = 3) -> dict[str, Tensor]:
    """float32; the first splats have numbers of `ENDS`."""
    g = torch.Generator().manual_seed(count)
    raw = {
        "log_scales": 3 * torch.randn(count, scales, generator=g) - 4,
        "opacity_logits": 4 * torch.randn(count, 1, generator=g),
        "sh_dc": torch.randn(count, 1, 3, generator=g),
        "sh_rest": torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=g),
    }
    if count > len(ENDS):
        raw["log_scales"][: len(ENDS), 0] = torch.tensor(ENDS)
        raw["opacity_logits"][: len(ENDS), 0] = torch.tensor(ENDS)
    return raw


def leaves(raw: dict[str, Tensor], dtype: torch.dtype, device: str = "cpu") -> list[Tensor]:
    return [raw[name].to(device, dtype, copy=True).requires_grad_() for name in NAMES]


def plain(leaf: list[Tensor], used: int) -> tuple[Tensor, ...]:
    log_scales, logits, dc, rest = leaf
    return log_scales.exp(), 1 / (1 + (-logits).exp()), torch.cat([dc, rest], 1)[:, :used]


def with_gradients(results: tuple[Tensor, ...], leaf: list[Tensor]) -> list[Tensor]:
    """The results, and the gradients of a sum with weights that differ everywhere."""
    total = sum((r * torch.linspace(0.5, 1.5, r.numel()).to(r).view_as(r)).sum() for r in results)
    assert isinstance(total, Tensor)
    grads = torch.autograd.grad(total, leaf, allow_unused=True)
    filled = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, leaf, strict=True)]
    return [*(r.detach() for r in results), *filled]


OF_OPACITY = 4  # of `with_gradients`: near 1 the slope o (1 - o) has lost what o had beyond 1


def assert_agree(found: list[Tensor], expected: list[Tensor]) -> None:
    """To a few units in the last place of each number, also where float32 ends."""
    for index, (got, want) in enumerate(zip(found, expected, strict=True)):
        least = 3e-7 if index == OF_OPACITY else torch.finfo(torch.float32).tiny
        single = want.float()
        assert torch.equal(got.cpu().isinf(), single.isinf())
        there = ~single.isinf()
        error = (got.cpu().double() - want.double())[there].abs()
        assert bool((error <= 4e-7 * want.double()[there].abs() + least).all()), index
