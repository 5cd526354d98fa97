# SPDX-License-Identifier: Apache-2.0
"""From the pixels of a bent photograph, and of its masks, to those of a pinhole."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from scene.lenses.lens import Lens, Pinhole, inside_picture
from utils.images import resize_image

_FINER = 2.0  # how much finer than the pinhole photographs are straightened, at most


@lru_cache(maxsize=6)
def _places(lens: Lens, pinhole: Pinhole) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where the pinhole's pixel centres lie in the lens's picture [H, W, 2], and whether in it."""
    x = (np.arange(pinhole.width, dtype=np.float64) + (0.5 - pinhole.cx)) / pinhole.fx
    y = (np.arange(pinhole.height, dtype=np.float64) + (0.5 - pinhole.cy)) / pinhole.fy
    places = np.empty((pinhole.height, pinhole.width, 2), np.float32)
    seen = np.empty((pinhole.height, pinhole.width), bool)
    for row in range(pinhole.height):  # a row at a time: the formula's float64 parts stay small
        u, v = lens.project(x, np.full(pinhole.width, y[row]))
        seen[row] = inside_picture(u, v, lens.width, lens.height)
        places[row, :, 0], places[row, :, 1] = u, v
    places[~seen] = -1.0
    return places, seen


def valid_pixels(lens: Lens, pinhole: Pinhole) -> NDArray[np.bool_] | None:
    """Pixels [H, W] of the pinhole that the lens's picture shows; None if it shows them all."""
    seen = _places(lens, pinhole)[1]
    return None if seen.all() else seen


def sampled_image(image: Tensor, lens: Lens, pinhole: Pinhole) -> Tensor:
    """The pinhole's picture [C, h, w] of a photograph [C, H, W] of any size; empty pixels are 0.

    Cubic interpolation between pixel centres, in single precision. Interpolation blurs a little, so
    it is done at the photograph's own scale and averaged down; a photograph more than twice as fine
    as the pinhole is first averaged down to twice.
    """
    lens = lens.resized(image.shape[2], image.shape[1])
    finer = max(1.0, min(lens.fx / pinhole.fx, lens.fy / pinhole.fy))
    if finer > _FINER:
        width, height = (max(1, round(side * _FINER / finer)) for side in (lens.width, lens.height))
        image, lens = resize_image(image, width, height), lens.resized(width, height)
        finer = _FINER
    work = pinhole.resized(round(pinhole.width * finer), round(pinhole.height * finer))
    places, seen = _places(lens, work)
    size = torch.tensor([lens.width, lens.height], dtype=torch.float32)
    grid = torch.from_numpy(places) * (2.0 / size) - 1.0
    sampled = grid_sample(
        image[None], grid[None], mode="bicubic", padding_mode="border", align_corners=False
    )[0]
    shown = torch.from_numpy(seen).to(sampled.dtype)[None]
    resized = resize_image(sampled.clamp(0.0, 1.0) * shown, pinhole.width, pinhole.height)
    if seen.all():
        return resized
    # Pixels at the rim are means over the part of them that is seen.
    share = resize_image(shown, pinhole.width, pinhole.height)
    valid = torch.from_numpy(_places(lens, pinhole)[1])
    return torch.where(valid, resized / share.clamp_min(1e-6), torch.zeros_like(resized))


def sampled_ids(ids: NDArray[np.int32], lens: Lens, pinhole: Pinhole) -> NDArray[np.int32]:
    """The pinhole's label map of one [H, W] of any size; -1 where it shows none.

    No new id can appear: of the nearest labels at a pixel's centre and at four places around it,
    the one that is there most often, which halves the jitter that outlines get from the nearest
    label alone.
    """
    lens = lens.resized(ids.shape[1], ids.shape[0])
    middle, seen = _nearest(ids, lens, pinhole)
    finer, finer_seen = _nearest(ids, lens, pinhole.resized(2 * pinhole.width, 2 * pinhole.height))
    candidates = [middle]
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        part = (slice(row, None, 2), slice(column, None, 2))
        candidates.append(np.where(finer_seen[part], finer[part], middle))
    labels = np.stack(candidates)
    votes = np.stack([(labels == label).sum(axis=0) for label in labels])
    winner = votes.argmax(axis=0)  # the first of equals: the centre's, if it is among them
    chosen = np.take_along_axis(labels, winner[None], axis=0)[0]
    return np.where(seen, chosen, np.int32(-1))


def _nearest(
    ids: NDArray[np.int32], lens: Lens, pinhole: Pinhole
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The label nearest to each of the pinhole's pixel centres, and whether there is one."""
    places, seen = _places(lens, pinhole)
    columns = np.clip(places[..., 0].astype(np.int64), 0, lens.width - 1)
    rows = np.clip(places[..., 1].astype(np.int64), 0, lens.height - 1)
    return ids[rows, columns], seen
