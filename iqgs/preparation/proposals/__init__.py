# SPDX-License-Identifier: Apache-2.0
"""Masks for photographs that have none: proposed by models of the SAM family or any other program.

A proposer turns one photograph into masks that may overlap (`protocol`). `merging` filters them and
makes one id for each pixel, `generation` does so for all photographs of a scene. Nothing here needs
torchvision, and packages of a method are imported when that method is asked for.
"""

from __future__ import annotations

import torch

from arguments.mask_commands import GenerationParams
from iqgs.preparation.proposals.command import CommandProposer
from iqgs.preparation.proposals.protocol import Photograph, Proposer

__all__ = ["Photograph", "Proposer", "make_proposer"]


def make_proposer(params: GenerationParams, device: torch.device) -> Proposer:
    """The proposer that --method names, with its weights on the device.

    Raises UserError where a package or the weights are missing, DataError where they are damaged.
    """
    chosen = params.proposals
    if chosen.method == "command":
        return CommandProposer(chosen.command, chosen.command_timeout)
    if chosen.method == "sam":
        from iqgs.preparation.proposals.sam import SamProposer, load_sam

        return SamProposer(load_sam(chosen.checkpoint, device), params.grid)
    from iqgs.preparation.proposals import segment_anything_2 as family
    from iqgs.preparation.proposals.tracking import VideoProposer, session_maker

    model = family.load_model(
        chosen.method, chosen.checkpoint, chosen.allow_download, chosen.video
    ).to(device)
    prompted = family.PromptedImage(model, *family.normalisation(chosen.method, chosen.checkpoint))
    if chosen.video:
        return VideoProposer(prompted, session_maker(chosen.method, prompted), params)
    return family.ImageProposer(prompted, params.grid)
