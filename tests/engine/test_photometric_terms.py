# SPDX-License-Identifier: Apache-2.0
"""What reconstruction minimises is what the scores measure: L1 and 1 - SSIM, value and gradient."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from iqgs.engine.stages.reconstruction import photometric_terms
from utils.image_quality import l1, ssim


def terms_of_scores(image: Tensor, target: Tensor) -> dict[str, Tensor]:
    return {"l1": l1(image, target), "dssim": 1 - ssim(image, target)}


@pytest.mark.parametrize("lambda_dssim", [0.0, 0.2, 1.0])
def test_terms_are_those_of_the_scores(lambda_dssim: float) -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(3, 30, 44, generator=generator)
    noisy = target + 0.1 * torch.randn(target.shape, generator=generator)
    leaves = [noisy.clone().requires_grad_() for _ in range(2)]
    rendered: object = SimpleNamespace(color=leaves[0])
    found = photometric_terms(rendered, target)  # type: ignore[arg-type]
    expected = terms_of_scores(leaves[1], target)
    assert found.keys() == expected.keys()
    for terms in (found, expected):
        torch.testing.assert_close(terms["l1"], expected["l1"])
        torch.testing.assert_close(terms["dssim"], expected["dssim"], rtol=1e-5, atol=1e-6)
        ((1 - lambda_dssim) * terms["l1"] + lambda_dssim * terms["dssim"]).backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-4, atol=1e-9)
