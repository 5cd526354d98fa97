# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from utils.image_quality import affine_corrected, l1, psnr, ssim, ssim_map


def image_pair(height: int, width: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth picture and a disturbed copy, [3, H, W]."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 4, 5, generator=generator, dtype=dtype)
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    noise = 0.1 * torch.randn(image.shape, generator=generator, dtype=dtype)
    return image, (image + noise).clamp(0, 1)


def ssim_by_definition(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Windows gathered one by one, variances from deviations; [C, H, W], zeros outside."""
    offsets = torch.arange(-5, 6, dtype=image.dtype)
    bell = torch.exp(-offsets.square() / (2 * 1.5**2))
    weight = torch.outer(bell, bell).flatten()
    weight = weight / weight.sum()

    def windows(x: torch.Tensor) -> torch.Tensor:
        columns = torch.nn.functional.unfold(x[:, None], 11, padding=5)
        return columns.view(x.shape[0], 121, *x.shape[1:])

    def average(x: torch.Tensor) -> torch.Tensor:
        return (weight[None, :, None, None] * x).sum(1)

    x, y = windows(image), windows(target)
    m, n = average(x), average(y)
    dx, dy = x - m[:, None], y - n[:, None]
    covariance = average(dx * dy)
    similarity = (2 * m * n + 1e-4) * (2 * covariance + 9e-4)
    return similarity / ((m * m + n * n + 1e-4) * (average(dx * dx) + average(dy * dy) + 9e-4))


def test_ssim_equals_skimage_away_from_the_border() -> None:
    image, target = image_pair(40, 53, torch.float64)
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
    image, target = image_pair(9, 14, torch.float64)  # smaller than the window in one direction
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
    image, target = image_pair(6, 7, torch.float64)
    image.requires_grad_(which != "target")
    target.requires_grad_(which != "image")
    assert torch.autograd.gradcheck(ssim_map, (image, target))


def test_ssim_in_float32_and_of_equal_images() -> None:
    image, target = image_pair(48, 64, torch.float32)
    exact = ssim(image.double(), target.double()).item()
    assert ssim(image, target).item() == pytest.approx(exact, abs=1e-5)
    assert 0.1 < exact < 0.95
    assert ssim(image, image).item() == pytest.approx(1.0, abs=1e-6)


def test_ssim_is_fast_enough_for_every_training_step() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    image, target = image_pair(240, 320, torch.float32)
    image.requires_grad_()
    seconds = []
    for _ in range(8):
        start = time.process_time()
        ssim(image, target).backward()
        seconds.append(time.process_time() - start)
    torch.set_num_threads(threads)
    # 7 ms on the development machine; a detour through autograd or dense windows costs > 100.
    assert min(seconds) < 0.06


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
