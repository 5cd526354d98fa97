# SPDX-License-Identifier: Apache-2.0
"""What the tests of the native backends share: comparisons with the float64 reference.

Pixels where a decision (support, saturation, median, near plane, low-pass or intersection) could
fall the other way in float32 are found from the reference's own numbers, left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diff_surfel_rasterization import (
    Ellipsoids,
    RasterOutput,
    RasterSettings,
    Splats,
    Surfels,
    blend_weights,
)
from diff_surfel_rasterization.constants import (
    LOW_PASS_PRECISION,
    MEDIAN_TRANSMITTANCE,
    PARALLEL_RATIO,
    STOP_TRANSMITTANCE,
    SUPPORT_ALPHA,
)
from diff_surfel_rasterization.native import rasterize_native
from diff_surfel_rasterization.reference import rasterize_reference
from diff_surfel_rasterization.reference.rasterize import kind_of
from diff_surfel_rasterization.reference.surfels import (
    Projected,
    anchors,
    project,
    projected_centers,
)
from tests.rasterizer.scenes import IMAGES, crossing_splats, detached, make_view, map_tensors

# Losses that leave out some images: the kernels skip what nobody asks for.
SOME_IMAGES = (*((name,) for name in IMAGES), ("color", "alpha"), ("color", "normal"))

EDGE_ON = 0.087  # sine of 5 degrees
# Relative distance to a threshold below which float32 may decide otherwise.
BRANCH_MARGIN = 2e-5


@dataclass(frozen=True)
class Agreement:
    """Largest deviations from the reference, per image and per gradient, and what was left out."""

    images: dict[str, float]  # absolute, relative above 1
    gradients: dict[str, float]  # relative to the norm of the reference's gradient
    edge_on_rotations: float  # the same, rotations of splats within 5 degrees of edge-on
    excluded: int
    pixels: int
    radii: int  # splats whose radius or visibility differs


def uncertain_pixels(splats: Splats, settings: RasterSettings) -> Tensor:
    """Mask [H, W] of pixels with a decision too close to call; dense, for small scenes."""
    projected = kind_of(splats).project(splats, settings)
    order = torch.argsort(projected.depth, stable=True)
    alive = projected.alive[order]
    rho3, rho2, ratio, depth = (
        _ellipsoid_meetings(splats, settings)
        if isinstance(splats, Ellipsoids)
        else _meetings(projected, settings)
    )
    rho3, rho2, ratio, depth = (t[:, order] for t in (rho3, rho2, ratio, depth))
    meets = (ratio > PARALLEL_RATIO) & (depth >= settings.near) & alive
    rho = torch.minimum(rho3, rho2)
    alpha = (projected.opacity[order] * torch.exp(-0.5 * rho)).clamp_max(0.99)
    used = torch.where(meets & (alpha >= SUPPORT_ALPHA), alpha, torch.zeros_like(alpha))
    passed = torch.cumprod(1 - used, dim=1)
    before = torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], dim=1)
    reached = alive & (before >= STOP_TRANSMITTANCE)

    def close(value: Tensor, limit: float | Tensor, margin: float = BRANCH_MARGIN) -> Tensor:
        return (value - limit).abs() <= margin * torch.as_tensor(limit).abs()

    near = close(alpha, SUPPORT_ALPHA, 1e-4) & meets
    near |= (close(ratio, PARALLEL_RATIO, 1e-1) | close(depth, settings.near)) & (
        alpha > SUPPORT_ALPHA
    )
    near |= close(rho3, rho2, 1e-4) & (alpha > 0.5 * SUPPORT_ALPHA)
    near |= close(passed, STOP_TRANSMITTANCE, 1e-3) | close(passed, MEDIAN_TRANSMITTANCE)
    return (near & reached).any(dim=1).reshape(settings.height, settings.width)


def _pixels(settings: RasterSettings) -> tuple[Tensor, Tensor]:
    """x and y of all pixels, [H W, 1] each."""
    y, x = torch.meshgrid(
        torch.arange(settings.height, dtype=torch.float64) + 0.5,
        torch.arange(settings.width, dtype=torch.float64) + 0.5,
        indexing="ij",
    )
    return x.reshape(-1, 1), y.reshape(-1, 1)


def _ellipsoid_meetings(
    splats: Splats, settings: RasterSettings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same numbers of 3D Gaussians, which meet every pixel, without a low-pass disc."""
    projected = kind_of(splats).project(splats, settings)
    x, y = _pixels(settings)
    dx, dy = x - projected.center[:, 0], y - projected.center[:, 1]
    xx, xy, yy = projected.covariance.unbind(1)
    rho = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / (xx * yy - xy * xy)
    depth = projected.depth.expand_as(rho)
    return rho, torch.full_like(rho, 1e30), torch.ones_like(rho), depth


def _meetings(
    projected: Projected, settings: RasterSettings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """rho3, rho2, (centre depth) / (hit depth) and hit depth, [H W, N], by solving a 2x2 system."""
    x, y = _pixels(settings)
    rows = projected.transform
    k = [x * rows[:, 2, i] - rows[:, 0, i] for i in range(3)]
    m = [y * rows[:, 2, i] - rows[:, 1, i] for i in range(3)]
    determinant = k[0] * m[1] - k[1] * m[0]
    u = (k[1] * m[2] - k[2] * m[1]) / determinant
    v = (k[2] * m[0] - k[0] * m[2]) / determinant
    depth = rows[:, 2, 0] * u + rows[:, 2, 1] * v + rows[:, 2, 2]
    anchor = anchors(projected, settings.low_pass_anchor)
    rho2 = LOW_PASS_PRECISION * ((x - anchor[:, 0]) ** 2 + (y - anchor[:, 1]) ** 2)
    return u * u + v * v, rho2, projected.depth / depth, depth


def edge_on(splats: Splats, settings: RasterSettings) -> Tensor:
    """Mask [N] of splats whose plane is within 5 degrees of the ray through their centre."""
    if isinstance(splats, Ellipsoids):
        return torch.zeros(len(splats.means), dtype=torch.bool)
    projected = project(splats, settings)
    center = projected_centers(projected)
    ray = torch.stack(
        [
            (center[:, 0] - settings.cx) / settings.fx,
            (center[:, 1] - settings.cy) / settings.fy,
            torch.ones_like(projected.depth),
        ],
        dim=1,
    )
    return (projected.normal * torch.nn.functional.normalize(ray, dim=1)).sum(1).abs() < EDGE_ON


def compare(
    splats: Splats,
    settings: RasterSettings,
    seed: int = 0,
    device: str = "cpu",
    names: tuple[str, ...] = IMAGES,
) -> Agreement:
    """Render and differentiate with both backends under one random loss of the named images."""
    settings = replace(settings, background=settings.background.double())
    exact = map_tensors(detached(splats), lambda t: t.requires_grad_())
    native = map_tensors(detached(splats, torch.float32), lambda t: t.to(device).requires_grad_())
    plain = detached(splats)
    skip = uncertain_pixels(plain, settings)
    expected, found = rasterize_reference(exact, settings), rasterize_native(native, settings)
    keep = ~skip
    _masked_loss(expected, keep, seed, names).backward()
    _masked_loss(found, keep, seed, names).backward()

    images = {}
    for name in IMAGES:
        want, got = getattr(expected, name).detach(), getattr(found, name).detach().cpu()
        error = (got - want).abs() / want.abs().clamp_min(1.0)
        images[name] = float((error * keep).amax()) if error.numel() else 0.0
    tilted = edge_on(plain, settings)
    gradients, apart = {}, 0.0
    for name, want in vars(exact).items():
        if want is None or want.grad is None or want.grad.numel() == 0:
            continue
        grad = getattr(native, name).grad
        got = torch.zeros_like(want.grad) if grad is None else grad.cpu().double()
        error = got - want.grad
        size = want.grad.norm().clamp_min(1e-5)  # some are zero by construction
        if name == "rotations":
            apart = float(error[tilted].norm() / size)
            error = error[~tilted]
        gradients[name] = float(error.norm() / size)
    # A radius is rounded up: float32 may end on the other side of an integer.
    off = (expected.radii - found.radii.cpu()).abs()
    off[(expected.radii > 0) == (found.radii.cpu() > 0)] -= 1
    radii = int((off > 0).sum())
    return Agreement(images, gradients, apart, int(skip.sum()), skip.numel(), radii)


def _masked_loss(output: RasterOutput, keep: Tensor, seed: int, names: tuple[str, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    total = output.alpha.new_zeros(())
    for name in names:
        image = getattr(output, name)
        weight = torch.randn(image.shape, generator=generator, dtype=torch.float64) * keep
        total = total + (image * weight.to(image)).sum()
    return total


def assert_agrees(found: Agreement) -> None:
    """Outputs to 1e-5, gradients to 1e-4, edge-on rotations to 1e-3; few pixels left out."""
    assert found.excluded <= 0.2 * found.pixels, f"{found.excluded} of {found.pixels} left out"
    assert max(found.images.values()) <= 1e-5, found
    assert max(found.gradients.values(), default=0.0) <= 1e-4, found
    assert found.edge_on_rotations <= 1e-3, found
    assert found.radii == 0, found


def assert_listed_where_they_show(
    render: Callable[[Surfels, RasterSettings], RasterOutput],
) -> None:
    """Of splats across the camera plane, under the camera as a floor is, most tiles stay free."""
    surfels, view = crossing_splats(1, 0.5), make_view(320, 224)
    floor = replace(surfels, means=surfels.means + torch.tensor([0.0, 1.5, 0.0]))
    output = render(map_tensors(floor, lambda t: t.requires_grad_()), view)
    assert output.color.grad_fn is not None
    saved = output.color.grad_fn.saved_tensors  # type: ignore[attr-defined]
    pairs = max(len(t) for t in saved if t.dtype == torch.int32 and t.dim() == 1)
    table = blend_weights(detached(floor, torch.float32), view, backend="reference")
    pixel = torch.repeat_interleave(torch.arange(320 * 224), table.row_start.diff())
    tile = pixel // 320 // 16 * 20 + pixel % 320 // 16
    needed = len(torch.unique(tile * 150 + table.splat))
    everywhere = int((output.radii > 0).sum()) * 20 * 14
    assert needed <= pairs < 0.5 * everywhere
