# SPDX-License-Identifier: Apache-2.0
"""Structural similarity in torch against its definition, another library, finite differences."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity

from diff_surfel_rasterization.losses import ssim_map
from tests.rasterizer.losses.image_cases import make_pair, ssim_by_definition


def doubles(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    image, target = make_pair(height, width)
    return image.double(), target.double()


def test_ssim_equals_skimage_away_from_the_border() -> None:
    image, target = doubles(40, 53)
    _, reference = structural_similarity(
        image.numpy(),
        target.numpy(),
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        full=True,
    )
    inside = (slice(None), slice(5, -5), slice(5, -5))
    torch.testing.assert_close(
        ssim_map(image, target)[inside], torch.from_numpy(reference)[inside], rtol=0, atol=1e-10
    )


def test_ssim_and_its_gradient_equal_the_definition_with_zeros_outside() -> None:
    image, target = doubles(9, 14)  # smaller than the window in one direction
    leaves = [x.clone().requires_grad_() for x in (image, target, image, target)]
    ours, plain = ssim_map(*leaves[:2]), ssim_by_definition(*leaves[2:])
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-10)
    upstream = torch.linspace(-1, 2, ours.numel(), dtype=ours.dtype).view_as(ours)
    ours.backward(upstream)
    plain.backward(upstream)
    for mine, reference in zip(leaves[:2], leaves[2:], strict=True):
        torch.testing.assert_close(mine.grad, reference.grad, rtol=0, atol=1e-9)


@pytest.mark.parametrize("which", ["image", "target", "both"])
def test_ssim_gradient_by_finite_differences(which: str) -> None:
    image, target = doubles(6, 7)
    image.requires_grad_(which != "target")
    target.requires_grad_(which != "image")
    assert torch.autograd.gradcheck(ssim_map, (image, target))
