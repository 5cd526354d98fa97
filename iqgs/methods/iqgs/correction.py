# SPDX-License-Identifier: Apache-2.0
"""Ids that the scene contradicts, corrected while it is learned from them (label correction).

A tracker gives parts of an object ids of their own, swaps ids, and loses masks. In its own view
such a mask looks like any other, but the splats behind it were also taught by all other views. So
what the queries answer already, blended from these splats, says which of them it belongs to:

    p_k(x) = softmax_k <q_k, F(x)>   q_k averaged over recent views: none speaks for itself alone
    overlap(m, k) = sum_{x in m} p_k(x)
    IoU(m, k) = overlap / (|m| + sum_x p_k(x) - overlap)     precision(m, k) = overlap / |m|

A mask m is a connected region of an id: where two things of a view have one id, each is judged
alone. It goes to the object of best IoU, from a least IoU on, where that answers for most of it, or
where no view shows both ids: different objects meet somewhere, the two halves of a broken track
nowhere. A part, whose IoU with everything is small, goes to the object of best precision, where
that is high. Any other keeps its id: so do all masks at the beginning, when p is flat, and thin
objects on large ones. It is the refinement of `iqgs.association` on the pixels of one step, with
what is being learned in the place of a vote.

Q' queries that may be asked, P pixels of one view, M regions among them, K ids of the scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from iqgs.methods.iqgs.decoder import score
from iqgs.methods.winners import CHUNK_ELEMENTS
from scene.masks import NO_TARGET

# An object must answer for more than this of a mask that it takes, if a view shows both. With less,
# rare objects that are still being learned are lost to others that they resemble, on exact masks.
MOST_OF_MASK = 0.5
PART_PRECISION = 0.7  # a part lies in its object with more than this, as in the association
LOST_SHARE = 0.5  # an object has no mask in a view where id 0 covers more of it than this


@dataclass(frozen=True)
class Answers:
    """What queries answer at the pixels of a view, beside its masks."""

    overlap: Tensor  # [Q', M] summed probability of each query in each mask
    claimed: Tensor  # [Q'] summed probability in all pixels that have an id
    winner: Tensor  # [P] int64 row of the most probable query


@dataclass(frozen=True)
class GivenMasks:
    """What the files say of the pixels of a view, and of the ids of all views."""

    labels: Tensor  # [P] int64 ids, 0 = no instance, -1 = no target
    regions: Tensor  # [P] int of the connected regions of the ids; 0 and -1 where the labels are
    together: Tensor  # [K + 1, K + 1] bool, ids that some view shows both


@torch.no_grad()
def corrected(
    given: GivenMasks, queries: Tensor, numbers: Tensor, features: Tensor, least_iou: float
) -> Tensor:
    """The labels [P] of a view, with the ids of other queries where these answer for a mask.

    Pixels of id 0 that most probably show an object of which id 0 covers more than LOST_SHARE in
    this view get no target (-1): its mask is missing.

    Args:
        given: the masks.
        queries: [Q', D] of the objects that were taught so far, and of id 0.
        numbers: [Q'] int64 ids that these own.
        features: [P, D] of the pixels.
        least_iou: IoU above 0 from which a mask goes to the query of best IoU.
    """
    labels = given.labels
    if len(numbers) == 0 or len(labels) == 0:
        return labels
    regions, position = torch.unique(given.regions, return_inverse=True)
    ids = labels.new_zeros(len(regions)).scatter_(0, position, labels)
    found = answers(queries, features, position, ids)
    met = given.together[numbers][:, ids.clamp_min(0)]
    owner = mask_owners(found, ids, numbers, met, least_iou)
    return torch.where(lost_pixels(found, labels, numbers), NO_TARGET, owner[position])


def answers(queries: Tensor, features: Tensor, position: Tensor, ids: Tensor) -> Answers:
    """Answers of queries [Q', D] at pixels with features [P, D], in masks with ids [M]; some
    pixels at a time, so that nothing of size Q' x P is kept.
    """
    overlap = features.new_zeros(len(queries), len(ids))
    winners = []
    for part in torch.arange(len(position), device=position.device).split(
        max(1, CHUNK_ELEMENTS // max(len(queries), len(ids)))
    ):
        probability = torch.softmax(score(queries, features[part]), dim=0)
        inside = position[part, None] == torch.arange(len(ids), device=ids.device)
        overlap += probability @ inside.to(probability.dtype)
        winners.append(probability.argmax(dim=0))
    return Answers(overlap, overlap[:, ids >= 0].sum(1), torch.cat(winners))


def mask_owners(
    found: Answers, ids: Tensor, numbers: Tensor, met: Tensor, least_iou: float
) -> Tensor:
    """The id [M] of the object that each mask shows, of masks with ids [M]; 0 and -1 stay.

    met: [Q', M] bool, whether a view shows both the query's id and the mask's.
    """
    inside = found.overlap.sum(0)  # [M] pixels of each mask
    union = inside + found.claimed[:, None] - found.overlap
    objects = (numbers > 0)[:, None]
    iou, nearest = (found.overlap / union.clamp_min(1e-6) * objects).max(dim=0)
    precision = found.overlap / inside.clamp_min(1e-6) * objects
    most, holder = precision.max(dim=0)
    shown = precision.gather(0, nearest[None])[0] > MOST_OF_MASK
    shown |= ~met.gather(0, nearest[None])[0]
    by_iou = torch.where(shown, numbers[nearest], ids)
    by_precision = torch.where(most > PART_PRECISION, numbers[holder], ids)
    owner = torch.where(iou >= least_iou, by_iou, by_precision)
    return torch.where(ids > 0, owner, ids)


def lost_pixels(found: Answers, labels: Tensor, numbers: Tensor) -> Tensor:
    """Pixels [P] bool of id 0 that show objects without a mask."""
    known = labels >= 0
    empty = (labels == 0) & (numbers > 0)[found.winner]
    won = torch.bincount(found.winner[known], minlength=len(numbers))
    bare = torch.bincount(found.winner[empty], minlength=len(numbers))
    return empty & (bare > LOST_SHARE * won)[found.winner]
