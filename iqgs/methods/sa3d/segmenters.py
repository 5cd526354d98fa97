# SPDX-License-Identifier: Apache-2.0
"""Who answers prompts: SAM, or the masks that the views have already."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from iqgs.methods.protocol import FitView
from iqgs.methods.sa3d.params import SA3DParams
from scene.masks import MaskPatches
from utils.errors import UserError


class PromptableSegmenter(Protocol):
    """Gives a mask for points of a view."""

    name: str

    def look_at(self, view: FitView) -> None:
        """Which view the next prompts are about."""

    def mask(self, points: Tensor) -> Tensor | None:
        """The mask [H, W] bool of the thing at points [n, 2] (x, y), n >= 1; None: nothing."""


class MaskSegmenter:
    """Answers with the view's own masks: the one that most of the points lie in, of several the
    smallest."""

    name = "the masks of the views"

    def __init__(self) -> None:
        self.masks: MaskPatches | None = None

    def look_at(self, view: FitView) -> None:
        """Read the view's masks."""
        if view.layers is None:
            raise ValueError("SA3D needs the masks of its views")
        self.masks = view.layers()
        self.areas = self.masks.areas.double()

    def mask(self, points: Tensor) -> Tensor | None:
        """See PromptableSegmenter."""
        assert self.masks is not None
        patch = self.masks.patch
        at = patch[points[:, 1], points[:, 0]]
        hits = self.masks.members[at[at >= 0]].sum(dim=0)
        if not bool((hits > 0).any()):
            return None
        best = int((hits - self.areas / (patch.numel() + 1.0)).argmax())
        return self.masks.members[patch.clamp_min(0), best] & (patch >= 0)


class SAMSegmenter:
    """Segment Anything (Kirillov et al., 2023) on the photographs, one mask for all points."""

    def __init__(self, predictor: Any, name: str) -> None:
        """`predictor`: as segment_anything's SamPredictor."""
        self.predictor, self.name = predictor, name

    @torch.no_grad()
    def look_at(self, view: FitView) -> None:
        """Encode the photograph, which is RGB as SAM was trained."""
        if view.image is None:
            raise ValueError("SAM needs the photographs of the views")
        pixels = (view.image().permute(1, 2, 0) * 255.0).round().byte().cpu().numpy()
        self.predictor.set_image(pixels, image_format="RGB")
        self.device = view.labels.device

    @torch.no_grad()
    def mask(self, points: Tensor) -> Tensor | None:
        """See PromptableSegmenter."""
        masks, _, _ = self.predictor.predict(
            point_coords=points.cpu().numpy(),
            point_labels=torch.ones(len(points), dtype=torch.int64).numpy(),
            multimask_output=False,
        )
        found = torch.from_numpy(masks[0]).bool().to(self.device)
        return found if bool(found.any()) else None


def make_segmenter(params: SA3DParams, device: torch.device) -> PromptableSegmenter:
    """SAM where its weights are named, else the views' masks. UserError where SAM cannot be had."""
    if not params.sam_checkpoint:
        return MaskSegmenter()
    path = Path(params.sam_checkpoint)
    if not path.is_file():
        raise UserError(f"--sam_checkpoint {path}: no such file; name SAM's weights (a .pth file)")
    try:
        from segment_anything import SamPredictor, sam_model_registry
    except (ImportError, RuntimeError) as error:  # the latter: a torchvision of another torch
        raise UserError(
            f"--sam_checkpoint needs segment-anything, which cannot be loaded ({error}): pip "
            "install segment-anything and the torchvision that belongs to the installed torch"
        ) from None
    try:
        model = sam_model_registry[params.sam_model](checkpoint=str(path)).to(device).eval()
    except (RuntimeError, KeyError, ValueError, OSError, EOFError, pickle.PickleError):
        raise UserError(
            f"--sam_checkpoint {path} holds no weights of SAM {params.sam_model}; "
            "check the file and --sam_model"
        ) from None
    return SAMSegmenter(SamPredictor(model), f"SAM {params.sam_model} ({path.name})")
