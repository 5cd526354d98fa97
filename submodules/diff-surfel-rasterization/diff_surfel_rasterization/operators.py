# SPDX-License-Identifier: Apache-2.0
"""The way to the compiled operators, for all that calls them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def operators() -> Any:
    """The compiled operators; the dispatcher chooses by the tensors' device."""
    return torch.ops.iqgs_surfel


def stream_of(tensor: Tensor) -> int:
    """Address of the CUDA stream to work on; 0 on the CPU."""
    if tensor.device.type != "cuda":
        return 0
    return int(torch.cuda.current_stream(tensor.device).cuda_stream)
