# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from utils.image_quality import affine_corrected, l1, psnr, ssim


def image_pair(height: int, width: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth picture and a disturbed copy, [3, H, W]."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 4, 5, generator=generator, dtype=dtype)
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    noise = 0.1 * torch.randn(image.shape, generator=generator, dtype=dtype)
    return image, (image + noise).clamp(0, 1)


def test_ssim_in_float32_and_of_equal_images() -> None:
    image, target = image_pair(48, 64, torch.float32)
    exact = ssim(image.double(), target.double()).item()
    assert ssim(image, target).item() == pytest.approx(exact, abs=1e-5)
    assert 0.1 < exact < 0.95
    assert ssim(image, image).item() == pytest.approx(1.0, abs=1e-6)


def test_l1_and_psnr() -> None:
    image, target = image_pair(20, 30, torch.float64)
    assert l1(image, target).item() == pytest.approx(abs(image - target).numpy().mean())
    reference = peak_signal_noise_ratio(target.numpy(), image.numpy(), data_range=1.0)
    assert psnr(image, target).item() == pytest.approx(reference)
    assert psnr(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.1)).item() == pytest.approx(20.0)
    assert psnr(image, image).item() == float("inf")


def test_affine_correction_undoes_exposure_and_is_least_squares() -> None:
    image, target = image_pair(20, 30, torch.float64)
    gain = torch.tensor([0.5, 1.5, 0.9], dtype=torch.float64)[:, None, None]
    exposed = gain * image + 0.07
    torch.testing.assert_close(affine_corrected(exposed, image), image)
    best = affine_corrected(exposed, target)
    assert torch.allclose((best - target).mean((1, 2)), torch.zeros(3, dtype=torch.float64))
    for wrong in (best * 1.01, best + 0.01):
        assert psnr(best, target) > psnr(wrong, target)


def test_affine_correction_of_a_channel_without_contrast() -> None:
    _, target = image_pair(20, 30, torch.float32)
    corrected = affine_corrected(torch.full_like(target, 0.3), target)
    torch.testing.assert_close(
        corrected, target.mean((1, 2), keepdim=True).expand_as(target), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("measure", [l1, ssim, psnr, affine_corrected])
def test_images_of_other_sizes_are_refused(measure: Callable[..., torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"\(3, 4, 5\) and \(3, 4, 6\)"):
        measure(torch.zeros(3, 4, 5), torch.zeros(3, 4, 6))
