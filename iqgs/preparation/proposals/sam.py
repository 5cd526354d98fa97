# SPDX-License-Identifier: Apache-2.0
"""Masks of Segment Anything (Kirillov et al. 2023), by its own automatic generator.

The paper changes the parameters of that generator for whole scenes, without naming the values; here
all of them are options.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arguments.masks import GridParams
from iqgs.preparation.proposals.protocol import Photograph
from iqgs.preparation.proposals.torchvision_stand_in import torchvision_for_imports
from scene.masks import MaskLayers
from utils.errors import DataError, UserError

README = "https://github.com/facebookresearch/segment-anything#model-checkpoints"
WIDTHS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}  # of the image encoder's tokens
WEIGHTS = (
    "sam_vit_b_01ec64.pth (375 MB), sam_vit_l_0b3195.pth (1.2 GB), sam_vit_h_4b8939.pth (2.6 GB), "
    f"linked in {README}"
)
_DAMAGED = (RuntimeError, EOFError, ValueError, KeyError, OSError, pickle.UnpicklingError)


class SamProposer:
    """SAM's automatic mask generator around a model of segment-anything."""

    coding = "view"

    def __init__(self, model: Any, params: GridParams) -> None:
        library = import_library()
        self.generator = library.SamAutomaticMaskGenerator(
            model,
            points_per_side=params.points_per_side,
            points_per_batch=params.points_per_batch,
            pred_iou_thresh=params.pred_iou_threshold,
            stability_score_thresh=params.stability_threshold,
            stability_score_offset=params.stability_offset,
            box_nms_thresh=params.box_nms_threshold,
            crop_n_layers=params.crop_layers,
            crop_nms_thresh=params.crop_nms_threshold,
            crop_overlap_ratio=params.crop_overlap,
            crop_n_points_downscale_factor=params.crop_points_downscale,
            output_mode="uncompressed_rle",  # binary masks of all at once would fill the memory
        )

    def propose(self, image: Photograph) -> MaskLayers:
        """Masks of an RGB image [H, W, 3]; SAM's own estimate of their IoU is the score."""
        height, width = image.shape[:2]
        try:
            records = self.generator.generate(image)
        except IndexError:  # of SAM 1.0, where it asks in crops and finds nothing in any of them
            if not self.generator.crop_n_layers:
                raise
            records = []
        packed = np.zeros((len(records), -(-height * width // 8)), np.uint8)
        for row, record in enumerate(records):
            packed[row] = np.packbits(_decoded(record["segmentation"]["counts"], height, width))
        score = np.array([record["predicted_iou"] for record in records], np.float32)
        return MaskLayers.from_bits((height, width), packed, score=score)

    def go_on(self, image: Photograph, label_map: NDArray[np.int32], used: int) -> None:
        """Nothing is kept from one photograph to the next."""


def _decoded(counts: list[int], height: int, width: int) -> NDArray[np.bool_]:
    """Mask [height, width] of lengths of runs down the columns, zeros first."""
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def import_library() -> Any:
    """The package segment-anything, whether torchvision works or not. UserError where it is not."""
    loaded = sys.modules.get("segment_anything")
    if loaded is not None:
        return loaded
    with torchvision_for_imports():
        try:
            import segment_anything
        except ModuleNotFoundError as error:
            raise UserError(
                "--method sam needs the package segment-anything: pip install segment-anything"
            ) from error
    return segment_anything


def load_sam(checkpoint: str, device: torch.device) -> Any:
    """SAM with the weights of a file, its size found out from them.

    Raises UserError where no file is named, DataError where it holds no SAM.
    """
    if not checkpoint:
        raise UserError(f"--checkpoint must name the weights of SAM: download {WEIGHTS}")
    path = Path(checkpoint)
    if not path.is_file():
        raise DataError(f"--checkpoint {path}: no such file; weights of SAM are {WEIGHTS}")
    state = _state_of(path)
    library = import_library()
    model = library.sam_model_registry[model_kind(path, state)](checkpoint=None)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise DataError(
            f"{path}: not the weights of a plain SAM ({lines[1].strip() if lines[1:] else error}); "
            f"they are {WEIGHTS}"
        ) from error
    return model.to(device).eval()


def _state_of(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint; nothing else in it is unpickled."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise DataError(
            f"{path}: not a readable checkpoint of torch, or one that holds more than tensors "
            f"({type(error).__name__}); download it again from {README}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise DataError(f"{path}: no weights of SAM; they are {WEIGHTS}")
    return state


def model_kind(path: Path, state: dict[str, Any]) -> str:
    """vit_b, vit_l or vit_h, by the width of the tokens. Raises DataError for other weights."""
    if "model" in state and isinstance(state["model"], dict):
        raise DataError(
            f"{path}: holds weights under 'model', as SAM 2 does; SAM 2 is --method sam2 with a "
            "folder of the Hugging Face format"
        )
    positions = state.get("image_encoder.pos_embed")
    width = positions.shape[-1] if isinstance(positions, torch.Tensor) else 0
    if width not in WIDTHS:
        raise DataError(
            f"{path}: no weights of SAM's ViT-B, ViT-L or ViT-H (MobileSAM, FastSAM and others "
            f"have networks of their own: --method command runs their programs); {README}"
        )
    return WIDTHS[width]
