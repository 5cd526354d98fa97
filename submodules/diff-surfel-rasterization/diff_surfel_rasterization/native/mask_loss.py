# SPDX-License-Identifier: Apache-2.0
"""The mask losses of the compiled library, on the device of their tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def operators() -> Any:
    """The compiled operators; the dispatcher chooses by the tensors' device."""
    return torch.ops.iqgs_surfel


def _stream(tensor: Tensor) -> int:
    """Address of the CUDA stream to work on; 0 on the CPU."""
    if tensor.device.type != "cuda":
        return 0
    return int(torch.cuda.current_stream(tensor.device).cuda_stream)


class _MaskLoss(torch.autograd.Function):
    """Focal and dice of every query; first derivatives only."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, features: Tensor, owner: Tensor, gamma: float, alpha: float
    ) -> tuple[Tensor, Tensor]:
        focal, dice, overlap = operators().mask_loss(
            queries, features, owner, gamma, alpha, _stream(queries)
        )
        ctx.save_for_backward(queries, features, owner, overlap)
        ctx.options = gamma, alpha
        return focal, dice

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, focal: Tensor, dice: Tensor) -> tuple[Tensor | None, ...]:
        queries, features, owner, overlap = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        gradients = operators().mask_loss_backward(
            queries, features, owner, *ctx.options, overlap, focal, dice,
            [int(w) for w in wanted], _stream(queries),
        )  # fmt: skip
        kept = (g if w else None for g, w in zip(gradients, wanted, strict=True))
        return (*kept, None, None, None)


def mask_loss_cpu(
    queries: Tensor, features: Tensor, owner: Tensor, gamma: float, alpha: float | None
) -> tuple[Tensor, Tensor]:
    """Focal [M] and dice [M] in float32; see `mask_loss`."""
    owner = owner.to(torch.int32).contiguous()
    balance = -1.0 if alpha is None else alpha
    focal, dice = _MaskLoss.apply(
        queries.contiguous(), features.contiguous(), owner, gamma, balance
    )
    return focal, dice


# The operators are told apart by the tensors' device.
mask_loss_cuda = mask_loss_cpu
