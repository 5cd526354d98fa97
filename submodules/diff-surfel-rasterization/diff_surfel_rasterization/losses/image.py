# SPDX-License-Identifier: Apache-2.0
"""L1 and SSIM of a rendered image against a photograph, with the gradient in the same pass."""

from __future__ import annotations

from torch import Tensor

from ..backends import choose_backend
from .checks import check_image_loss
from .native import image_loss_native
from .reference import image_loss_reference


def image_loss(
    image: Tensor, target: Tensor, weight: Tensor | None = None, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """L1 and 1 - SSIM between an image and its target, the two terms of the photometric loss.

    SSIM as Wang et al. (2004) and every Gaussian-splatting trainer: Gaussian window of 11 pixels,
    sigma 1.5, zeros outside the image, population covariance, K1 = 0.01, K2 = 0.03 at a range of 1.

    A pixel of weight 0 lies *outside the image*: there both images count as zero, as they do beyond
    the border, and its difference and its similarity enter no mean. So the loss of an image whose
    margin has weight 0 is that of the image cropped to the rest, whatever stands in the margin,
    which no gradient reaches either. All other weights only weigh the two means:

        l1 = sum_p w_p sum_c |x - y| / (C sum_p w_p),   dssim = the same with 1 - SSIM.

    The gradient of SSIM is made with its value (where one is wanted); the backward pass scales it
    and adds that of L1, so the two terms can be weighed by whoever adds them up. Sums over pixels
    end in float64; same bits on every run and, on the CPU, for any number of threads.

    Args:
        image: [C, H, W] floating, values 0..1 by convention.
        target: [C, H, W] of the same type, on the same device; gets no gradient.
        weight: [H, W] bool or floating, 0 or more (less counts as 0); None: 1 everywhere.
        backend: As in `rasterize`.

    Returns:
        l1 and dssim = 1 - SSIM, scalars, differentiable once in the image; 0 where no pixel counts.

    Raises:
        ValueError: an argument has a wrong shape, type or device, or target wants a gradient.
        RuntimeError: the requested backend is not built.
    """
    check_image_loss(image, target, weight)
    chosen = choose_backend("image_loss", backend, image)
    compute = image_loss_reference if chosen == "reference" else image_loss_native
    return compute(image, target, weight)
