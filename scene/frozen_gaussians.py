# SPDX-License-Identifier: Apache-2.0
"""Splats that nothing changes any more."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from scene.gaussian_model import GaussianModel


class FrozenGaussians(GaussianModel):
    """Shares the parameters of a model, without gradients; what its activations give is made once.

    A view of a million splats spends a tenth of its time on them.
    """

    MADE_ONCE = ("scales", "rotations", "opacities", "sh", "_instances", "_colors")

    def __init__(self, model: GaussianModel) -> None:
        """The parameters stay those of `model`, which must not be trained meanwhile."""
        self._take({n: p.detach() for n, p in model.params.items()}, model.active_sh_degree)

    def _take(self, values: dict[str, Tensor], active_sh_degree: int) -> None:
        super()._take(values, active_sh_degree)
        self.params = {n: nn.Parameter(p.detach(), False) for n, p in self.params.items()}
        self._forget()

    def _forget(self) -> None:
        for name in self.MADE_ONCE:
            self.__dict__.pop(name, None)

    def to(self, device: str | torch.device) -> FrozenGaussians:
        """Move all parameters in place; returns self."""
        super().to(device)
        self.params = {n: nn.Parameter(p.detach(), False) for n, p in self.params.items()}
        self._forget()
        return self

    def for_instances(self) -> GaussianModel:
        """The same, with the opacities of their instances; made once."""
        return self._instances

    def for_colors(self) -> GaussianModel:
        """The same, without opacities of instances; made once."""
        return self._colors

    @cached_property
    def _instances(self) -> GaussianModel:
        return super().for_instances()

    @cached_property
    def _colors(self) -> GaussianModel:
        return super().for_colors()

    @classmethod
    def _of(cls, values: dict[str, Tensor], active_sh_degree: int) -> GaussianModel:
        return cls(GaussianModel(values, active_sh_degree))

    @cached_property
    def scales(self) -> Tensor:
        """Standard deviations [N, scale_dims] along `axes`."""
        return super().scales

    @cached_property
    def rotations(self) -> Tensor:
        """Unit quaternions [N, 4], wxyz, splat to world."""
        return super().rotations

    @cached_property
    def opacities(self) -> Tensor:
        """Opacities [N, 1] in (0, 1)."""
        return super().opacities

    @cached_property
    def sh(self) -> Tensor:
        """All SH coefficients [N, K, 3]; the renderer uses those up to `active_sh_degree`."""
        return super().sh
