# SPDX-License-Identifier: Apache-2.0
"""What the program has to know of a kind of splats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from diff_surfel_rasterization import Splats
from diff_surfel_rasterization.training import activate_splats
from scene.gaussian_model import GaussianModel
from scene.parameters import Kind


@dataclass(frozen=True)
class Primitive:
    """One kind of splats: how it is handed to the rasterizer and what its images can teach."""

    name: Kind  # of --primitive
    splats: type[Splats]  # the rasterizer's record
    terms: frozenset[str]  # loss terms of its geometry: `normal`, `distortion`
    area: Callable[[Tensor], Tensor]  # of scales [N, scale_dims]: surface [N], up to a factor

    @property
    def scale_dims(self) -> int:
        """Scales of a splat."""
        return self.splats.SCALES

    def pack(self, gaussians: GaussianModel, detach: bool = False, **carried: Tensor) -> Splats:
        """The splats as the rasterizer takes them, with what they carry (`sh`, `features`, ..).

        Without `sh` they are black. `detach` keeps gradients from the geometry. Raises ValueError
        for splats of another kind.
        """
        self._check(gaussians)
        geometry = {
            "means": gaussians.means,
            "scales": gaussians.scales,
            "rotations": gaussians.rotations,
            "opacities": gaussians.opacities,
        }
        if detach:
            geometry = {name: tensor.detach() for name, tensor in geometry.items()}
        if "sh" not in carried:
            carried["colors"] = gaussians.means.new_zeros(gaussians.means.shape)
        return self.splats(**geometry, **carried)

    def pack_colored(
        self, gaussians: GaussianModel, backend: str = "auto", **carried: Tensor
    ) -> Splats:
        """The splats with the colours of their active bands, differentiable in all that they are.

        As `pack` with `sh`, by one pass over memory: what a training step needs. Raises ValueError
        for splats of another kind.
        """
        self._check(gaussians)
        raw = gaussians.params
        active = activate_splats(
            raw["log_scales"],
            raw["opacity_logits"],
            raw["sh_dc"],
            raw["sh_rest"],
            gaussians.active_sh_degree,
            backend,
        )
        return self.splats(
            means=raw["means"],
            scales=active.scales,
            rotations=raw["quaternions"],  # the rasterizer normalises them
            opacities=active.opacities,
            sh=active.sh,
            **carried,
        )

    def _check(self, gaussians: GaussianModel) -> None:
        if gaussians.kind != self.name:
            raise ValueError(f"expected splats of kind {self.name}, got {gaussians.kind}")
