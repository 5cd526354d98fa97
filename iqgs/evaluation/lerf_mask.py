# SPDX-License-Identifier: Apache-2.0
"""The LERF-Mask protocol of Gaussian Grouping: one binary mask per view and text prompt.

Differs from the script that introduced it where that inflates a score: a prompt without a
prediction counts 0 instead of being skipped, and two empty masks agree (1) instead of giving 0/0.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from iqgs.evaluation.overlap import boundary_width, outline_pixels
from utils.errors import DataError

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class MaskScore:
    """One ground-truth mask: IoU and boundary IoU of its prediction, both 0 if that is missing."""

    view: str
    prompt: str
    iou: float
    boundary_iou: float
    missing: bool


@dataclass(frozen=True)
class LerfMaskScores:
    """Scores of a scene.

    values: mIoU and mBIoU (means over prompts of the mean over views), mIoU_masks and mBIoU_masks
    (means over all masks), masks, prompts, views, missing, unused (counts); prompts: prompt ->
    (IoU, boundary IoU); masks: every ground-truth mask; unused: predictions `<view>/<prompt>` that
    no ground truth asks for, most often misspelt names.
    """

    values: dict[str, float | int]
    prompts: dict[str, tuple[float, float]]
    masks: tuple[MaskScore, ...]
    unused: tuple[str, ...]


def lerf_mask_scores(
    gt_folder: PathLike, prediction_folder: PathLike, threshold: float = 128 / 255
) -> LerfMaskScores:
    """Score the folders' `<view>/<prompt>.png`; predictions are resized by nearest neighbour.

    threshold: foreground is above this share of full scale (the protocol's 128 of 255); images of
    only 0 and 1 are taken as they are. DataError on a folder without masks or a damaged image.
    """
    truth_root, prediction_root = Path(gt_folder), Path(prediction_folder)
    truths = {path.relative_to(truth_root).as_posix(): path for path in truth_root.glob("*/*.png")}
    if not truths:
        raise DataError(f"{truth_root} holds no <view>/<prompt>.png: check the ground-truth folder")
    if not prediction_root.is_dir():
        raise DataError(f"{prediction_root} is not a folder: check the prediction folder")
    masks = tuple(
        _score_mask(truths[name], prediction_root / name, threshold) for name in sorted(truths)
    )
    predicted = {p.relative_to(prediction_root).as_posix() for p in prediction_root.glob("*/*.png")}
    unused = sorted(predicted - set(truths))
    prompts = {
        prompt: _means([mask for mask in masks if mask.prompt == prompt])
        for prompt in sorted({mask.prompt for mask in masks})
    }
    iou, boundary_iou = np.mean(list(prompts.values()), axis=0)
    iou_masks, boundary_iou_masks = _means(masks)
    values: dict[str, float | int] = {
        "mIoU": float(iou),
        "mBIoU": float(boundary_iou),
        "mIoU_masks": iou_masks,
        "mBIoU_masks": boundary_iou_masks,
        "masks": len(masks),
        "prompts": len(prompts),
        "views": len({mask.view for mask in masks}),
        "missing": sum(mask.missing for mask in masks),
        "unused": len(unused),
    }
    return LerfMaskScores(values, prompts, masks, tuple(unused))


def _means(masks: list[MaskScore] | tuple[MaskScore, ...]) -> tuple[float, float]:
    return (
        float(np.mean([mask.iou for mask in masks])),
        float(np.mean([mask.boundary_iou for mask in masks])),
    )


def _score_mask(truth_path: Path, prediction_path: Path, threshold: float) -> MaskScore:
    view, prompt = truth_path.parent.name, truth_path.stem
    truth = read_binary_mask(truth_path, threshold)
    if not prediction_path.is_file():
        return MaskScore(view, prompt, 0.0, 0.0, True)
    prediction = resize_nearest(read_binary_mask(prediction_path, threshold), truth.shape)
    return MaskScore(view, prompt, *binary_scores(prediction, truth), False)


def binary_scores(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """IoU and boundary IoU of two bool masks [H, W]; 1 where both are empty."""
    width = boundary_width(*truth.shape)
    edges = [mask & outline_pixels(mask, width) for mask in (prediction, truth)]
    return _iou(prediction, truth), _iou(*edges)


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0


def read_binary_mask(path: PathLike, threshold: float) -> np.ndarray:
    """A mask image as bool [H, W]: above `threshold` of full scale, or 1 in an image of 0 and 1."""
    try:
        with Image.open(path) as image:
            grey = image.mode in ("1", "L", "I;16", "I")
            pixels = np.asarray(image if grey else image.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a readable mask image: {error}") from error
    if pixels.dtype == bool or pixels.max(initial=0) <= 1:
        return pixels > 0
    full_scale = 255 if pixels.dtype == np.uint8 else 65535
    return pixels > threshold * full_scale


def resize_nearest(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`mask` [h, w] at another [H, W]: each pixel takes the one under its centre."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(shape, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]
