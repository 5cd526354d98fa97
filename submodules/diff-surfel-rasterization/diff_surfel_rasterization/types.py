# SPDX-License-Identifier: Apache-2.0
"""The records that go into and come out of the rasterizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class RasterSettings:
    """One pinhole view. Pixels follow COLMAP: the centre of the first pixel is at (0.5, 0.5).

    The two tensors are best on the CPU: native backends read them as numbers, and reading from a
    GPU waits for it.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    world_to_view: Tensor  # [4, 4], x right, y down, z forward
    background: Tensor  # [3]
    scale_modifier: float = 1.0
    sh_degree: int = 0  # active degree of the spherical harmonics
    near: float = 0.2  # splats and intersections nearer than this are dropped
    far: float = 100.0  # only the depth mapping of the distortion uses it
    # Of surfels alone: ellipsoids have no low-pass disc.
    low_pass_depth: str = "exact"  # exact (ray-plane depth) | center (depth of the splat's centre)
    low_pass_anchor: str = "projected"  # projected (centre) | aabb (centre of the 3 sigma box)


@dataclass(frozen=True)
class Splats:
    """N splats with whatever they carry: `Surfels` or `Ellipsoids`, never this class itself.

    Exactly one of `colors`, `sh` is given.
    """

    SCALES: ClassVar[int]  # standard deviations of a splat
    NAME: ClassVar[str]  # in messages

    means: Tensor  # [N, 3] world
    scales: Tensor  # [N, SCALES] standard deviations along the first axes of the rotation, > 0
    rotations: Tensor  # [N, 4] quaternions (w, x, y, z), normalised inside
    opacities: Tensor  # [N, 1] in (0, 1)
    colors: Tensor | None = None  # [N, 3]
    sh: Tensor | None = None  # [N, K, 3]
    features: Tensor | None = None  # [N, C], any C
    screen_grad: Tensor | None = None  # [N, 3] zeros; its .grad is the signed densification signal
    screen_grad_abs: Tensor | None = None  # [N, 3] zeros; the same over absolute pixel terms


@dataclass(frozen=True)
class Surfels(Splats):
    """Flat Gaussians (2DGS): discs that pixels meet in a plane. Two scales; the third axis of the
    rotation is the normal."""

    SCALES = 2
    NAME = "surfels"


@dataclass(frozen=True)
class Ellipsoids(Splats):
    """3D Gaussians (3DGS): EWA splatting. Three scales; all pixels of one see the depth of its
    centre, and its shortest axis as its normal."""

    SCALES = 3
    NAME = "ellipsoids"


@dataclass(frozen=True)
class RasterOutput:
    """Images of one view; sums over splats i of w_i times the quantity (Eq. 1 of the paper)."""

    color: Tensor  # [3, H, W], background blended in
    features: Tensor  # [C, H, W]
    alpha: Tensor  # [1, H, W] accumulated opacity
    depth: Tensor  # [1, H, W] sum of w z, not divided by alpha
    median_depth: Tensor  # [1, H, W] depth of the last splat reached while T > 0.5, 0 if none
    normal: Tensor  # [3, H, W] sum of w n, camera frame, facing the camera
    distortion: Tensor  # [1, H, W]
    radii: Tensor  # [N] int32, pixels; 0 = not visible


@dataclass(frozen=True)
class BlendWeights:
    """The weights w_i of one view, pixel by pixel, front to back (CSR, row = y * width + x)."""

    row_start: Tensor  # [H*W + 1] int64
    splat: Tensor  # [nnz] int32
    weight: Tensor  # [nnz] float32
    n_splats: int


@dataclass(frozen=True)
class ContributingSplats:
    """Which splats the pixels of a view show, front to back (CSR, row = y * width + x)."""

    row_start: Tensor  # [H*W + 1] int64
    splat: Tensor  # [nnz] int32
    width: int
    height: int

    def at(self, x: int, y: int) -> Tensor:
        """The splats [n] int32 of the pixel in column x and row y."""
        row = y * self.width + x
        return self.splat[int(self.row_start[row]) : int(self.row_start[row + 1])]


@dataclass(frozen=True)
class TopSplats:
    """The splats with the largest weights at every pixel, largest first."""

    splat: Tensor  # [H, W, K] int32, -1 where the pixel shows fewer
    weight: Tensor  # [H, W, K] float32, there 0


@dataclass(frozen=True)
class QuadWeights:
    """The weights w_i of one view by quads of 2 x 2 pixels, in half precision, front to back.

    Quads lie in bands of 16 rows of quads, within a band column by column (`quads.quad_pixels`
    says where). Row r < n_splats is splat r; row n_splats + k is one more row of splat extra[k]:
    no two even bands share a row, nor two odd ones, so they can be summed side by side. A weight
    is 0 where the splat does not reach the pixel or its weight was too small; an entry has at
    least one other.
    """

    quad_start: Tensor  # [Q + 1] int64, first entry of each quad
    row: Tensor  # [E] int32
    weight: Tensor  # [E, 4] float16: pixels (0, 0), (1, 0), (0, 1), (1, 1) of the quad
    extra: Tensor  # [S] int32
    width: int
    height: int
    n_splats: int

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the view's weights consist of, in the order of the fields."""
        return self.quad_start, self.row, self.weight, self.extra

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors; `by_splat` is not among them."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)

    @property
    def splat(self) -> Tensor:
        """The splat of each entry, [E] int32."""
        own = torch.arange(self.n_splats, dtype=torch.int32, device=self.row.device)
        return torch.cat([own, self.extra])[self.row.long()]

    @cached_property
    def by_splat(self) -> tuple[Tensor, Tensor]:
        """The order of the entries by splat, made at first use and kept: for GPUs' backward pass.

        start [N + 1] int64, the first place of each splat; place [E, 2] int32, the entry in each
        place and the first pixel y * width + x of its quad. Eight bytes an entry.
        """
        from .quads import order_by_splat  # which needs these records

        return order_by_splat(self)


@dataclass(frozen=True)
class SampledWeights:
    """The weights of P chosen pixels, over the U splats that they touch."""

    weights: BlendWeights  # rows P, splats renumbered 0..U-1
    touched: Tensor  # [U] int64, ascending: which splats these are
