# SPDX-License-Identifier: Apache-2.0
"""What the tests put in place of a GPU: torch's events and counters, and gsplat's kernels.

Everything of the GPU benchmark but the CUDA calls then runs on any machine: gsplat's own Python,
with its checks of shapes, calls these kernels, which are its torch mathematics.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.benchmarks import gsplat_torch


class PlayedEvent:
    """A CUDA event on the host's clock."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing, "elapsed_time needs it"
        self.at: float | None = None

    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        assert self.at is not None, "waited for before it was recorded"

    def elapsed_time(self, last: PlayedEvent) -> float:
        assert self.at is not None and last.at is not None
        return 1000 * (last.at - self.at)


class PlayedCuda:
    """The part of `torch.cuda` that the benchmarks use. Memory: 10 MiB held, 30 at the peak."""

    Event = PlayedEvent

    def __init__(self) -> None:
        self.waits = self.resets = 0

    def synchronize(self) -> None:
        self.waits += 1

    def reset_peak_memory_stats(self) -> None:
        self.resets += 1

    def memory_allocated(self) -> int:
        return 10 << 20

    def max_memory_allocated(self) -> int:
        return 30 << 20

    def get_device_name(self) -> str:
        return "Played GPU"


def _projection(*inputs: Any) -> tuple[Tensor, ...]:
    """(means, quats, scales, viewmats, Ks, width, height, eps2d, near, far, radius_clip)."""
    torch_2dgs = importlib.import_module("gsplat.cuda._torch_impl_2dgs")
    *tensors, width, height, _, near, far, _ = inputs
    return torch_2dgs._fully_fused_projection_2dgs(*tensors, width, height, near, far)


def _projection_backward(*inputs: Any) -> tuple[Tensor | None, ...]:
    """Gradients of means, quats, scales and none of the camera."""
    means, quats, scales, viewmats, intrinsics, width, height = inputs[:7]
    means2d_grad, depths_grad, normals_grad, transforms_grad, of_camera = inputs[9:]
    assert not of_camera
    leaves = [t.detach().requires_grad_() for t in (means, quats, scales)]
    with torch.enable_grad():
        _, means2d, depths, transforms, normals = _projection(
            *leaves, viewmats, intrinsics, width, height, 0.3, 0.01, 1e10, 0.0
        )
        images = [means2d, depths, transforms, normals]
        upstream = [means2d_grad, depths_grad, transforms_grad, normals_grad]
        gradients = torch.autograd.grad(images, leaves, upstream)
    return (*gradients, None)


def _tiles(*inputs: Any) -> tuple[Tensor, ...]:
    """(means2d, radii, depths, image_ids, gaussian_ids, I, tile, columns, rows, sort, segmented)"""
    means2d, radii, depths, _, _, _, *rest, segmented = inputs
    assert not segmented
    torch_impl = importlib.import_module("gsplat.cuda._torch_impl")
    return torch_impl._isect_tiles(means2d, radii, depths, *rest)


def _tile_starts(*inputs: Any) -> Tensor:
    torch_impl = importlib.import_module("gsplat.cuda._torch_impl")
    starts: Tensor = torch_impl._isect_offset_encode(*inputs)
    return starts


def _pairs(width: int, height: int, tile: int, starts: Tensor, splats: Tensor) -> list[Tensor]:
    """(splat, pixel) of every splat of a tile with every pixel of it, by pixel, front to back."""
    ends = torch.cat([starts.flatten()[1:], torch.tensor([len(splats)])])
    found: list[tuple[Tensor, Tensor]] = []
    for pixel in range(width * height):
        y, x = divmod(pixel, width)
        index = (y // tile) * starts.shape[-1] + x // tile
        mine = splats[int(starts.flatten()[index]) : int(ends[index])].long()
        found.append((mine, torch.full_like(mine, pixel)))
    return [torch.cat(part) for part in zip(*found, strict=True)]


def _accumulate(tensors: list[Tensor], *layout: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Colours, alphas and normals by gsplat's torch mathematics."""
    means2d, transforms, colors, opacities, normals = tensors
    width, height, tile, starts, splats = layout
    torch_2dgs = gsplat_torch.load()
    assert torch_2dgs is not None
    splat, pixel = _pairs(width, height, tile, starts, splats)
    return torch_2dgs.accumulate_2dgs(
        means2d, transforms, opacities, colors, normals, splat, pixel, 0 * pixel, width, height
    )


def _blend(*inputs: Any) -> tuple[Tensor, ...]:
    """The five splat tensors, backgrounds, masks, and the layout of tiles."""
    assert inputs[5] is None and inputs[6] is None
    colors, alphas, normals = _accumulate(list(inputs[:5]), *inputs[7:])
    ids = torch.zeros_like(alphas[..., 0], dtype=torch.int32)
    return colors, alphas, normals, 0 * alphas, 0 * alphas, ids, ids


def _blend_backward(*inputs: Any) -> tuple[Tensor | None, ...]:
    """Gradients of the five tensors, and of the carrier of the screen gradient."""
    carrier, layout = inputs[5], inputs[8:13]
    leaves = [t.detach().requires_grad_() for t in inputs[:5]]
    upstream = list(inputs[17:20])
    with torch.enable_grad():
        images = _accumulate(leaves, *layout)
        gradients = torch.autograd.grad(images, leaves, upstream)
    return (None, *gradients, torch.zeros_like(carrier))


KERNELS: dict[str, Callable[..., Any]] = {
    "projection_2dgs_fused_fwd": _projection,
    "projection_2dgs_fused_bwd": _projection_backward,
    "intersect_tile": _tiles,
    "intersect_offset": _tile_starts,
    "rasterize_to_pixels_2dgs_fwd": _blend,
    "rasterize_to_pixels_2dgs_bwd": _blend_backward,
}


def play_gsplat(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The installed gsplat with these kernels; skips the test where it is not installed."""
    gsplat = pytest.importorskip(
        "gsplat", reason="pip install --no-deps -r tests/benchmarks/requirements.txt"
    )
    wrapper = importlib.import_module("gsplat.cuda._wrapper")
    zeros_like = torch.zeros_like

    def on_the_cpu(tensor: Tensor, **options: Any) -> Tensor:
        options.pop("device", None)
        return zeros_like(tensor, **options)

    monkeypatch.setattr(wrapper, "_make_lazy_cuda_func", KERNELS.__getitem__)
    monkeypatch.setattr(torch, "zeros_like", on_the_cpu)  # gsplat asks for device="cuda"
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return gsplat
