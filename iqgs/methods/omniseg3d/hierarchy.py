# SPDX-License-Identifier: Apache-2.0
"""The hierarchy among the masks of one view: parts, wholes, and how near patches are in it.

M masks, S patches of the view, Q patches of the hierarchy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scene.masks import MaskPatches


@dataclass(frozen=True)
class Hierarchy:
    """Patches of one view that differ once every whole has all of its parts."""

    patch: Tensor  # [S] int64, which of them a patch of the view is in; -1: in no mask
    shared: Tensor  # [Q, Q] int64, masks that both lie in


def with_parts(members: Tensor, size: Tensor, containment: float) -> Tensor:
    """Members [S, M] bool of the masks after every mask took in its parts.

    From small to large: where at least `containment` of a mask's pixels lie in a larger mask, that
    one gets the rest of them too. `size` [S]: pixels of the patches.
    """
    members = members.clone()
    weights = size.double()
    order = (members * weights[:, None]).sum(dim=0).argsort(stable=True)
    for place, number in enumerate(order[:-1].tolist()):
        larger = order[place + 1 :]
        part = members[:, number]
        overlap = (weights * part) @ members[:, larger].double()
        wholes = larger[overlap >= containment * (weights * part).sum()]
        members[:, wholes] |= part[:, None]
    return members


def hierarchy_of(masks: MaskPatches, containment: float) -> Hierarchy:
    """The hierarchy of a view's masks."""
    members = with_parts(masks.members, masks.size, containment)
    kinds, kind = torch.unique(members, dim=0, return_inverse=True)
    inside = kinds.any(dim=1)
    number = torch.where(inside, inside.cumsum(0) - 1, -1)
    kinds = kinds[inside].double()
    return Hierarchy(number[kind], (kinds @ kinds.T).long())


def levels_of(shared: Tensor) -> Tensor:
    """Level [Q, Q] of each patch as one sees it: 0 for those that share most masks with it, then
    1, ... for each smaller number of shared masks; -1 for those that share none."""
    top = int(shared.max()) if shared.numel() else 0
    occurs = torch.zeros(len(shared), top + 1, dtype=torch.int64, device=shared.device)
    occurs.scatter_(1, shared, 1)
    above = occurs.flip(1).cumsum(1).flip(1) - occurs  # numbers greater than this one that occur
    return torch.where(shared > 0, above.gather(1, shared), -1)
