# SPDX-License-Identifier: Apache-2.0
"""What the tests of wild pixels share: image gradients that are infinite or no number, as a
renderer that divides by alpha leaves them, and which splats they may reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from diff_surfel_rasterization import RasterOutput, RasterSettings, Splats, blend_weights
from diff_surfel_rasterization.constants import MEDIAN_TRANSMITTANCE
from diff_surfel_rasterization.reference import rasterize_reference
from tests.rasterizer.cpu_cases import uncertain_pixels
from tests.rasterizer.quad_cases import dense_rows
from tests.rasterizer.scenes import IMAGES, detached, make_view, map_tensors, random_surfels

NAN, INF = float("nan"), float("inf")

Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Renderer:
    """A backend, and the tensors that it takes."""

    render: Callable[[Splats, RasterSettings], RasterOutput]
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    make: Callable[..., Splats] = random_surfels

    def take(self, surfels: Splats) -> Splats:
        """A copy that records gradients."""
        copy = map_tensors(detached(surfels, self.dtype), lambda t: t.to(self.device))
        return map_tensors(copy, lambda t: t.requires_grad_())


def scattered(
    channels: int = 5, make: Callable[..., Splats] = random_surfels
) -> tuple[Splats, RasterSettings]:
    """Sixty small splats, some of the pixels empty; the sides are no multiple of a tile."""
    surfels = make(60, seed=71, log_scale=(-3.2, -2.0), channels=channels)
    return surfels, make_view(45, 35)


def reached(surfels: Splats, view: RasterSettings) -> Tensor:
    """Which splats contribute to which pixels, [H W, N] bool, by the reference in float64."""
    return dense_rows(blend_weights(detached(surfels), view, backend="reference")) > 0


def median_splat(surfels: Splats, view: RasterSettings, pixel: int) -> int:
    """The splat that gives the median depth of a pixel."""
    table = blend_weights(detached(surfels), view, backend="reference")
    entries = slice(int(table.row_start[pixel]), int(table.row_start[pixel + 1]))
    weight = table.weight[entries].double()
    before = 1 - (torch.cumsum(weight, 0) - weight)
    return int(table.splat[entries][before > MEDIAN_TRANSMITTANCE][-1])


def crowded_pixels(surfels: Splats, view: RasterSettings, count: int) -> list[int]:
    """Pixels with two contributors and more, whose decisions no rounding can turn, of different
    tiles if possible; each has a splat in its tile that misses it."""
    certain = ~uncertain_pixels(detached(surfels), view).reshape(-1)
    found = torch.nonzero(certain & (reached(surfels, view).sum(1) > 1))[:, 0]
    return found[torch.linspace(0, len(found) - 1, count).long()].tolist()


def random_gradients(renderer: Renderer, channels: int, view: RasterSettings) -> Gradients:
    """One for each image, normal random numbers."""
    generator = torch.Generator().manual_seed(72)
    planes = {"color": 3, "features": channels, "normal": 3}
    return {
        name: torch.randn(
            planes.get(name, 1), view.height, view.width, generator=generator, dtype=torch.float64
        ).to(renderer.device, renderer.dtype)
        for name in IMAGES
    }


def differentiate(
    renderer: Renderer, surfels: Splats, view: RasterSettings, images: Gradients
) -> Gradients:
    """Gradients of all tensors of the splats from those of some images, on the CPU."""
    copy = renderer.take(surfels)
    output = renderer.render(copy, view)
    torch.autograd.backward([getattr(output, name) for name in images], list(images.values()))
    return {
        f.name: getattr(copy, f.name).grad.cpu()
        for f in fields(copy)
        if getattr(copy, f.name) is not None and getattr(copy, f.name).grad is not None
    }


def wild_splats(gradients: Gradients) -> Tensor:
    """Which splats have a gradient that is not finite, [N] bool."""
    return torch.stack(
        [~torch.isfinite(g).reshape(len(g), -1).all(dim=1) for g in gradients.values()]
    ).any(dim=0)


def with_value(image: Tensor, pixels: Tensor | int, value: float, channel: int = -1) -> Tensor:
    """The image [C, H, W] with `value` at pixels, in one channel or all."""
    changed = image.clone().flatten(1)
    rows = slice(None) if channel < 0 else slice(channel, channel + 1)
    changed[rows, pixels] = value
    return changed.view_as(image)


def assert_same(found: Gradients, expected: Gradients, splats: Tensor) -> None:
    """Bit by bit for float32, closely for the reference, whose matrix products may be blocked."""
    for name, want in expected.items():
        got = found[name]
        if want.dtype == torch.float32:
            assert torch.equal(got[splats], want[splats]), name
        else:
            torch.testing.assert_close(got[splats], want[splats], rtol=1e-9, atol=1e-9)


def check_empty_pixels(renderer: Renderer, value: float, channels: int = 5) -> None:
    """Whatever gradients stand in empty pixels, the splats' are as if there were none."""
    surfels, view = scattered(channels, renderer.make)
    covered = reached(surfels, view).any(dim=1)
    empty = (~covered & ~uncertain_pixels(detached(surfels), view).reshape(-1)).nonzero()[:, 0]
    assert 200 < len(empty) < len(covered) - 300
    empty = empty.to(renderer.device)
    images = random_gradients(renderer, channels, view)
    clean = {name: with_value(image, empty, 0.0) for name, image in images.items()}
    wild = {name: with_value(image, empty, value) for name, image in images.items()}
    expected = differentiate(renderer, surfels, view, clean)
    found = differentiate(renderer, surfels, view, wild)
    assert not wild_splats(expected).any() and expected["means"].abs().max() > 0
    assert_same(found, expected, torch.ones(60, dtype=torch.bool))


def check_one_pixel(renderer: Renderer, name: str, value: float, channels: int = 5) -> None:
    """A gradient that is no number reaches exactly the splats that the pixel sees."""
    surfels, view = scattered(channels, renderer.make)
    sees = reached(surfels, view)
    images = random_gradients(renderer, channels, view)
    channel = len(images[name]) - 1
    for pixel in crowded_pixels(surfels, view, 4):
        wild = {**images, name: with_value(images[name], pixel, value, channel)}
        clean = {**images, name: with_value(images[name], pixel, 0.0, channel)}
        found = differentiate(renderer, surfels, view, wild)
        expected = sees[pixel]
        if name == "median_depth":
            expected = torch.arange(60) == median_splat(surfels, view, pixel)
        assert torch.equal(wild_splats(found), expected), f"pixel {pixel}"
        kept = differentiate(renderer, surfels, view, clean)
        assert_same(found, kept, ~sees[pixel])
        others = sees[pixel] & ~expected  # their sums have the pixel at another place
        for kind, gradient in kept.items():
            torch.testing.assert_close(found[kind][others], gradient[others], rtol=1e-4, atol=1e-5)
        for kind, image in (("colors", "color"), ("features", "features")):
            gone = ~torch.isfinite(found[kind])
            hit = torch.zeros_like(gone)
            if image == name:
                hit[expected, channel] = True
            assert torch.equal(gone, hit), kind


def check_nothing_but_wild(renderer: Renderer) -> None:
    """Gradients that are zero or no number are not taken for nothing."""
    surfels, view = scattered(make=renderer.make)
    copy = renderer.take(surfels)
    output = renderer.render(copy, view)
    weight = torch.where(output.alpha > 0, NAN, 0.0)
    (output.color * weight).sum().backward()
    used = {k: t for k, t in vars(copy).items() if t is not None and k != "features"}
    gradients = {k: t.grad.cpu() for k, t in used.items()}
    assert torch.equal(wild_splats(gradients), reached(surfels, view).any(dim=0))


def edge_pixels(weights: Tensor, empty: bool) -> Tensor:
    """Pixels of the scattered scene that miss a splat which another pixel of their quad sees, and
    that see none at all or some."""
    width = scattered()[1].width
    sees, number = weights > 0, torch.arange(len(weights))
    left = (number // width % 2 == 0) & (number % width % 2 == 0) & (number % width < width - 1)
    missing = (sees.roll(-1, 0) & ~sees).any(dim=1)
    found = torch.nonzero(left & missing & (~sees.any(dim=1) == empty))[:, 0]
    assert len(found) >= 2
    return found


def check_product(
    multiply: Callable[[Tensor], Tensor], weights: Tensor, values: Tensor, value: float
) -> None:
    """The product of stored weights [P, N] with values [N, C]: a gradient that is no number reaches
    the splats of its own pixel, and one channel alone."""
    generator = torch.Generator().manual_seed(73)
    wild = torch.cat([edge_pixels(weights, empty=True)[:2], edge_pixels(weights, empty=False)[:2]])
    gradient = torch.randn(len(weights), values.shape[1], generator=generator)
    gradient = gradient.to(values)
    found = []
    for number in (0.0, value):
        given = values.clone().requires_grad_()
        gradient[wild, -1] = number
        multiply(given).backward(gradient)
        assert given.grad is not None
        found.append(given.grad.cpu())
    clean, got = found
    gone = torch.zeros(got.shape, dtype=torch.bool)
    gone[weights[wild].amax(0) > 0, -1] = True
    assert gone.any() and torch.equal(~torch.isfinite(got), gone)
    assert torch.equal(got[~gone], clean[~gone])


def surface_normals(depth: Tensor, view: RasterSettings) -> Tensor:
    """Normals [3, H, W] of a depth map [1, H, W] by central differences, a border of zeros."""
    y, x = torch.meshgrid(torch.arange(view.height), torch.arange(view.width), indexing="ij")
    rays = torch.stack(
        [(x + 0.5 - view.cx) / view.fx, (y + 0.5 - view.cy) / view.fy, torch.ones_like(x)], dim=-1
    )
    points = rays.to(depth) * depth[0, :, :, None]
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    inner = F.normalize(torch.cross(down, across, dim=-1), dim=-1)
    return F.pad(inner, (0, 0, 1, 1, 1, 1)).permute(2, 0, 1)


def divide_2dgs(image: Tensor, alpha: Tensor) -> Tensor:
    """As renderers of the family write it: 0 / 0 where nothing was drawn."""
    return torch.nan_to_num(image / alpha, 0, 0)


def divide_masked(image: Tensor, alpha: Tensor) -> Tensor:
    """The same image without a division by zero."""
    covered = alpha > 0
    return torch.where(covered, image / torch.where(covered, alpha, 1.0), 0.0)


def loss_2dgs(
    output: RasterOutput,
    view: RasterSettings,
    keep: Tensor,
    divide: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Colour, normal consistency, distortion and mean features at the pixels [H, W] to keep."""
    keep = keep.to(output.color.device)
    inner = -F.max_pool2d(-keep[None, None].float(), 3, 1, 1)[0, 0] > 0
    depth = 0.7 * divide(output.depth, output.alpha) + 0.3 * output.median_depth
    normals = surface_normals(depth, view) * output.alpha.detach()
    color = (output.color - 0.4).abs() * keep
    consistency = (1 - (output.normal * normals).sum(0)) * inner
    features = divide(output.features, output.alpha).square() * keep
    distortion = output.distortion * keep
    return color.mean() + consistency.mean() + 30 * distortion.mean() + 0.1 * features.mean()


def check_renderer_of_2dgs(renderer: Renderer, tolerance: float) -> None:
    """Gradients of the family's very expressions are those of the masked ones in float64."""
    surfels, view = scattered()
    keep = ~uncertain_pixels(detached(surfels), view)
    assert float(keep.float().mean()) > 0.8
    exact = Renderer(rasterize_reference, torch.float64)
    gradients = []
    for by, divide in ((exact, divide_masked), (renderer, divide_2dgs)):
        copy = by.take(surfels)
        loss_2dgs(by.render(copy, view), view, keep, divide).backward()
        gradients.append({k: t.grad.cpu() for k, t in vars(copy).items() if t is not None})
    expected, found = gradients
    assert not wild_splats(found).any()
    for name, want in expected.items():
        error = (found[name].double() - want).norm() / want.norm()
        assert want.norm() > 0 and error < tolerance, f"{name}: {error:.1e}"
