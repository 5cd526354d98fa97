# SPDX-License-Identifier: Apache-2.0
"""How close a rendered image is to a photo: L1, SSIM, PSNR, and PSNR's exposure-corrected input.

Images are float tensors [C, H, W] with values 0..1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diff_surfel_rasterization.losses import ssim_map


def l1(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference, scalar."""
    _check_pair(image, target)
    return (image - target).abs().mean()


def ssim(image: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean structural similarity of two [C, H, W] images, scalar, differentiable in both.

    Gaussian window, zeros outside the image, population covariance, mean over channels and pixels.
    With `valid` [H, W] the mean is over these pixels, and all others count as outside the image.
    In plain torch whatever is compiled: a score must not depend on the kernel that training used.
    """
    _check_pair(image, target)
    if valid is None:
        return ssim_map(image, target).mean()
    nothing = torch.zeros((), dtype=image.dtype, device=image.device)
    inside = (torch.where(valid, picture, nothing) for picture in (image, target))
    return ssim_map(*inside)[:, valid].mean()


def only_valid(image: Tensor, valid: Tensor | None) -> Tensor:
    """The pixels [C, 1, n] of an image [C, H, W] where `valid` [H, W]; the image itself for None.

    For the measures here that do not look at neighbours.
    """
    return image if valid is None else image[:, valid][:, None]


def psnr(image: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for a peak of 1, scalar; inf for equal images."""
    _check_pair(image, target)
    return -10.0 * torch.log10((image - target).square().mean())


def affine_corrected(image: Tensor, target: Tensor) -> Tensor:
    """The image under the per-channel gain and offset that bring it closest to the target.

    Least squares over the whole image: undoes auto-exposure and white balance. Not clamped.
    """
    _check_pair(image, target)
    mean, target_mean = image.mean((1, 2), keepdim=True), target.mean((1, 2), keepdim=True)
    centred = image - mean
    variance = centred.square().mean((1, 2), keepdim=True)
    covariance = (centred * (target - target_mean)).mean((1, 2), keepdim=True)
    # A channel of one value has no gain; its best fit is the target's mean.
    gain = covariance / variance.clamp_min(torch.finfo(image.dtype).tiny)
    return gain * centred + target_mean


def _check_pair(image: Tensor, target: Tensor) -> None:
    if image.ndim != 3 or image.shape != target.shape:
        raise ValueError(
            f"expected two images [C, H, W], got {tuple(image.shape)} and {tuple(target.shape)}"
        )
