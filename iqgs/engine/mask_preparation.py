# SPDX-License-Identifier: Apache-2.0
"""From photographs to masks to train on: propose, join over all views, check."""

from __future__ import annotations

from pathlib import Path

import torch

from arguments.mask_commands import GenerationParams
from iqgs.preparation.proposals import make_proposer
from iqgs.preparation.proposals.generation import generate_masks
from utils.errors import UserError
from utils.reproducibility import set_threads


def torch_device(wanted: str) -> torch.device:
    """`auto` takes a GPU where torch has one; the rasterizer is not asked. UserError for `cuda`
    where there is none."""
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise UserError("--device cuda cannot be used: torch sees no GPU; use --device cpu")
    return torch.device("cuda" if has_gpu and wanted != "cpu" else "cpu")


def propose_masks(params: GenerationParams) -> Path:
    """`generate_masks.py`: the folder of the id maps. Raises UserError, DataError, RunError."""
    device = torch_device(params.proposals.device)
    set_threads(params.proposals.threads)
    return generate_masks(params, lambda: make_proposer(params, device))
