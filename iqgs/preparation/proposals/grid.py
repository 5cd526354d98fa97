# SPDX-License-Identifier: Apache-2.0
"""All masks of an image by a grid of points, for models that answer points and nothing else.

The procedure is that of SAM's automatic generator (Kirillov et al. 2023, appendix B): each point of
a grid gives masks of several extents; those that the model itself doubts, and those that another
threshold would change, are dropped; of boxes that overlap much the best stays. Crops of the image
are asked in the same way, and masks that a crop's border cuts are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from arguments.masks import GridParams
from iqgs.preparation.proposals.boxes import mask_boxes, suppress
from iqgs.preparation.proposals.protocol import Photograph
from scene.masks import MaskLayers

CROP_MARGIN = 20.0  # pixels: a box that is nearer to the border of a crop is cut by it

Answer = tuple[Tensor, Tensor]


class PointModel(Protocol):
    """A promptable model that looks at one image."""

    def look(self, image: Photograph) -> None:
        """Encode an image [H, W, 3]; points are about it from now on."""
        ...

    def answer(self, points: Tensor) -> Answer:
        """Masks at points [P, 2] of (x, y) in shares of the image, each 0..1.

        Returns logits [P, K, h, w] of K masks a point that cover the whole image at a size of the
        model's own (0 is the threshold), and estimates of their IoU [P, K].
        """
        ...


@dataclass(frozen=True)
class Crop:
    """A part of an image (left, top, right, bottom in pixels) of a layer of crops."""

    box: tuple[int, int, int, int]
    layer: int


@dataclass(frozen=True)
class Found:
    """N masks of one crop, pasted into the image."""

    packed: NDArray[np.uint8]  # [N, ceil(H * W / 8)]
    score: Tensor  # [N]
    boxes: Tensor  # [N, 4] in the image

    def select(self, keep: Tensor) -> Found:
        """Those at these positions."""
        return Found(self.packed[keep.cpu().numpy()], self.score[keep], self.boxes[keep])


def grid_points(per_side: int) -> Tensor:
    """Points [per_side^2, 2] of (x, y) in shares of the image, in the middles of equal cells."""
    middles = (torch.arange(per_side, dtype=torch.float32) + 0.5) / per_side
    rows, columns = torch.meshgrid(middles, middles, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()], dim=1)


def crops_of(width: int, height: int, params: GridParams) -> list[Crop]:
    """The whole image, and for each layer n = 1, 2, ... 2^n by 2^n crops that overlap."""
    crops = [Crop((0, 0, width, height), 0)]
    for layer in range(1, params.crop_layers + 1):
        count = 2**layer
        overlap = int(params.crop_overlap * min(width, height) * 2 / count)
        wide, high = (-(-(overlap * (count - 1) + side) // count) for side in (width, height))
        for row in range(count):
            for column in range(count):
                left, top = (wide - overlap) * column, (high - overlap) * row
                box = (left, top, min(left + wide, width), min(top + high, height))
                crops.append(Crop(box, layer))
    return crops


def all_masks(model: PointModel, image: Photograph, params: GridParams) -> MaskLayers:
    """Masks of an image [H, W, 3] over all crops, the best first; masks of small crops win."""
    height, width = image.shape[:2]
    found, sizes = [], []
    for crop in crops_of(width, height, params):
        left, top, right, bottom = crop.box
        model.look(np.ascontiguousarray(image[top:bottom, left:right]))
        part = masks_of_crop(model, crop, (height, width), params)
        found.append(part)
        sizes += [(right - left) * (bottom - top)] * len(part.score)
    joined = _joined(found)
    if len(found) > 1:
        preference = -torch.tensor(sizes, dtype=torch.float32, device=joined.score.device)
        joined = joined.select(suppress(joined.boxes, preference, params.crop_nms_threshold))
    order = torch.argsort(joined.score, descending=True, stable=True)
    joined = joined.select(order)
    score = joined.score.float().cpu().numpy()
    return MaskLayers.from_bits((height, width), joined.packed, score=score)


def masks_of_crop(
    model: PointModel,
    crop: Crop,
    size: tuple[int, int],
    params: GridParams,
    points: Tensor | None = None,
) -> Found:
    """Masks of a crop that the model looks at, in an image of `size` (height, width).

    points [P, 2]: in shares of the crop; None: the grid of the crop's layer.
    """
    if points is None:
        per_side = int(params.points_per_side / params.crop_points_downscale**crop.layer)
        points = grid_points(max(per_side, 1))
    parts = [_kept(model.answer(some), crop, size, params) for some in _batches(points, params)]
    found = _joined(parts)
    return found.select(suppress(found.boxes, found.score, params.box_nms_threshold))


def _batches(points: Tensor, params: GridParams) -> Iterator[Tensor]:
    yield from torch.split(points, params.points_per_batch)


def _kept(answer: Answer, crop: Crop, size: tuple[int, int], params: GridParams) -> Found:
    """The good masks of an answer, pasted into the image."""
    logits, scores = answer[0].flatten(0, 1), answer[1].flatten()
    good = scores > params.pred_iou_threshold
    logits, scores = logits[good], scores[good]
    left, top, right, bottom = crop.box
    height, width = bottom - top, right - left
    packed, kept, boxes = [], [], []
    for logit, score in zip(logits, scores, strict=True):  # one by one: full size is large
        full = interpolate(logit[None, None].float(), (height, width), mode="bilinear")[0, 0]
        if stability(full, params.stability_offset) < params.stability_threshold:
            continue
        mask = full > 0
        box = mask_boxes(mask[None])[0]
        if box[2] <= box[0] or is_cut(box, crop, size):
            continue
        whole = torch.zeros(size, dtype=torch.bool)
        whole[top:bottom, left:right] = mask.cpu()
        packed.append(np.packbits(whole.numpy()))
        kept.append(score)
        boxes.append(box + torch.tensor([left, top, left, top], device=box.device))
    if not packed:
        nothing = np.zeros((0, -(-size[0] * size[1] // 8)), np.uint8)
        return Found(nothing, scores[:0], torch.zeros((0, 4), device=scores.device))
    return Found(np.array(packed), torch.stack(kept), torch.stack(boxes))


def stability(logits: Tensor, offset: float) -> float:
    """IoU of the masks of logits [H, W] at thresholds above and below 0; 1 where both are empty."""
    low = int((logits > -offset).sum())
    return int((logits > offset).sum()) / low if low else 1.0


def is_cut(box: Tensor, crop: Crop, size: tuple[int, int]) -> bool:
    """Whether a mask's box (in the crop) reaches a border of the crop that is none of the image."""
    left, top, right, bottom = crop.box
    placed = box.cpu() + torch.tensor([left, top, left, top])
    border = torch.tensor([left, top, right, bottom], dtype=torch.float32)
    image = torch.tensor([0, 0, size[1], size[0]], dtype=torch.float32)
    near = (placed - border).abs() <= CROP_MARGIN
    at_edge = (placed - image).abs() <= CROP_MARGIN
    return bool((near & ~at_edge).any())


def _joined(parts: list[Found]) -> Found:
    return Found(
        np.concatenate([part.packed for part in parts]),
        torch.cat([part.score for part in parts]),
        torch.cat([part.boxes for part in parts]),
    )
