# SPDX-License-Identifier: Apache-2.0
"""The splats through one camera: what every method reads through."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from diff_surfel_rasterization import BlendWeights, QuadWeights
from gaussian_renderer.output import RenderOutput
from gaussian_renderer.renderer import (
    add_view_labels,
    rasterize_values,
    render,
    splat,
    view_quads,
    view_weights,
)
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel

T = TypeVar("T")

# Weights below one grey level are not listed: a quarter of the entries, about 1 % of the weight.
MIN_WEIGHT = 1 / 255


@dataclass(frozen=True)
class Renderer:
    """How views are rendered: everything but the splats and the camera."""

    background: Tensor  # [3], on the CPU
    backend: str  # auto | cuda | cpu | reference
    depth_ratio: float  # surface depth: 0 expected, 1 median, or between

    def lens(self, camera: Camera, gaussians: GaussianModel) -> Lens:
        """These splats through this camera, without gradients."""
        return Lens(camera, gaussians, self)

    def render(
        self,
        camera: Camera,
        gaussians: GaussianModel,
        *,
        with_surface: bool,
        with_instance: bool = True,
        screen_signal: str = "signed",
    ) -> RenderOutput:
        """All images of a view, differentiable; see `render`. Surface normals cost a third."""
        return render(
            camera,
            gaussians,
            self.background,
            depth_ratio=self.depth_ratio if with_surface else None,
            with_instance=with_instance,
            screen_signal=screen_signal,
            backend=self.backend,
        )

    def splat(
        self, camera: Camera, gaussians: GaussianModel, values: Tensor, detach_geometry: bool
    ) -> Tensor:
        """Eq. 1 for values [N, C] -> [C, H, W], differentiable in them (and in the splats)."""
        return splat(
            camera, gaussians, values, detach_geometry=detach_geometry, backend=self.backend
        )


class Lens:
    """These splats through this camera. Nothing has a gradient; what was made once is kept.

    Where splats have opacities of their own for instances, `features`, `alpha` and `splat` are
    rendered with those, and images and weights with the colours'.
    """

    def __init__(self, camera: Camera, gaussians: GaussianModel, renderer: Renderer) -> None:
        self.camera = camera
        self.gaussians = gaussians
        self.renderer = renderer
        self._weights: dict[float, BlendWeights] = {}
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gave under this key when it was first asked for through this lens."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    @cached_property
    def image(self) -> RenderOutput:
        """All images of the view, with surface normals."""
        return self.render(with_surface=True)

    @torch.no_grad()
    def render(self, *, with_surface: bool) -> RenderOutput:
        """All images of the view; without surface normals where nobody needs them."""
        together = self._instances is self.gaussians
        rendered = self.renderer.render(
            self.camera, self.gaussians, with_surface=with_surface, with_instance=together
        )
        if together:
            self.__dict__["_attribute"] = (rendered.instance, rendered.alpha)
        return rendered

    @cached_property
    def _instances(self) -> GaussianModel:
        return self.gaussians.for_instances()

    @cached_property
    def _attribute(self) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            splats = self._instances
            return rasterize_values(self.camera, splats, splats.instance, self.renderer.backend)

    @cached_property
    def by_color(self) -> Lens:
        """The same, with the colours' opacities for everything: what closed forms are read by."""
        plain = self.gaussians.for_colors()
        return self if plain is self.gaussians else Lens(self.camera, plain, self.renderer)

    @property
    def features(self) -> Tensor:
        """Rendered instance attribute [D_obj, H, W] (Eq. 3 before P)."""
        return self._attribute[0]

    @property
    def alpha(self) -> Tensor:
        """Accumulated opacity [1, H, W] of what instances are read from."""
        return self._attribute[1]

    @torch.no_grad()
    def splat(self, values: Tensor) -> Tensor:
        """Eq. 1 for any values [N, C] of the splats -> [C, H, W]."""
        return rasterize_values(self.camera, self._instances, values, self.renderer.backend)[0]

    def weights(self, min_weight: float) -> BlendWeights:
        """The blending weights of at least `min_weight`, pixel by pixel, front to back."""
        if min_weight not in self._weights:
            self._weights[min_weight] = view_weights(
                self.camera, self.gaussians, min_weight, backend=self.renderer.backend
            )
        return self._weights[min_weight]

    def add_label_weights(self, labels: Tensor, sums: Tensor) -> None:
        """Add to `sums` [N, C] int64 the weights that every splat has in the pixels of each label.

        The weights are those of `weights(MIN_WEIGHT)`, which are not listed; `labels` [L, H, W]
        int32 are columns of `sums`, negative for none; see `LABEL_WEIGHT_PARTS`.
        """
        add_view_labels(
            self.camera,
            self.gaussians,
            labels,
            sums,
            MIN_WEIGHT,
            backend=self.renderer.backend,
        )

    def quads(self) -> QuadWeights:
        """The same by quads of pixels in half precision: what is kept while splats do not move."""
        return view_quads(self.camera, self.gaussians, MIN_WEIGHT, backend=self.renderer.backend)
