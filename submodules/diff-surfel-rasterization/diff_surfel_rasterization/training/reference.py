# SPDX-License-Identifier: Apache-2.0
"""The same in plain torch: any floating type, any device, autograd as their backward."""

from __future__ import annotations

import torch
from torch import Tensor


def activate_reference(
    log_scales: Tensor, opacity_logits: Tensor, sh_dc: Tensor, sh_rest: Tensor, used: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Scales, opacities, coefficients; see `activate_splats`."""
    sh = torch.cat([sh_dc, sh_rest[:, : used - 1]], dim=1)
    return log_scales.exp(), opacity_logits.sigmoid(), sh


def add_signal_reference(total: Tensor, seen: Tensor, radii: Tensor, signal: Tensor) -> None:
    """See `add_screen_signal`."""
    visible = radii > 0
    total += torch.where(visible, signal[:, :2].norm(dim=-1), 0.0)
    seen += visible
