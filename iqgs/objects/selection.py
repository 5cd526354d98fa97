# SPDX-License-Identifier: Apache-2.0
"""Which objects are meant: by number or name, by a box, by a pixel."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import torch

from diff_surfel_rasterization import BlendWeights
from iqgs.objects.edits import Box
from iqgs.objects.labelled import LabelledSplats
from iqgs.objects.parts import inside_box

EVERY = "all"  # --id: every object
NAMED = 12  # how many objects a message lists
MOSTLY = 0.5  # of an object's splats in a box: it is meant


def number_of(objects: LabelledSplats, wanted: str) -> int:
    """The number of an object with splats, from that number or its name.

    ValueError, in words for the user, where there is none or more than one.
    """
    present, names = objects.numbers(), objects.names
    if wanted.isdigit():
        if int(wanted) in present:
            return int(wanted)
        raise ValueError(f"no splat belongs to it; there are {listed(objects)}")
    found = [number for number in present if names.get(number) == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"objects {found} have this name; give a number")
    known = {names[number].lower(): names[number] for number in present if names.get(number)}
    near = difflib.get_close_matches(wanted.lower(), known, n=1)
    meant = f"did you mean {known[near[0]]!r}? " if near else ""
    raise ValueError(f"no object has this name; {meant}there are {listed(objects)}")


def objects_in_box(objects: LabelledSplats, box: Box) -> list[int]:
    """The objects with more than half of their splats in a box, ascending."""
    inside = inside_box(objects.splats.means.detach().cpu(), box)
    numbers, index = torch.unique(objects.labels, return_inverse=True)
    total = torch.bincount(index, minlength=len(numbers))
    within = torch.bincount(index[inside], minlength=len(numbers))
    chosen = (within > MOSTLY * total) & (numbers > 0)
    return [int(number) for number in numbers[chosen]]


def object_at(weights: BlendWeights, pixel: int, objects: LabelledSplats) -> int:
    """The object that a pixel (y * width + x) shows: the one with most blending weight there; 0
    where no object has any. What is in front has most, unless it is see-through.
    """
    first, last = (int(v) for v in weights.row_start[pixel : pixel + 2])
    splat = weights.splat[first:last].long().cpu()
    numbers, index = torch.unique(objects.labels[splat], return_inverse=True)
    share = torch.zeros(len(numbers)).index_add_(0, index, weights.weight[first:last].cpu())
    share[numbers == 0] = 0
    return int(numbers[share.argmax()]) if bool((share > 0).any()) else 0


def next_numbers(taken: Sequence[int], count: int) -> tuple[int, ...]:
    """So many numbers that no object has."""
    first = max(taken, default=0) + 1
    return tuple(range(first, first + count))


def listed(objects: LabelledSplats) -> str:
    """The objects with their names, for a message: not more than one reads."""
    present = objects.numbers()
    known = [f"{n} {objects.names.get(n, '')!r}".replace(" ''", "") for n in present[:NAMED]]
    more = len(present) - len(known)
    return (", ".join(known) or "none") + (f" and {more} more (`list` shows them)" if more else "")


def name_problem(name: str) -> str | None:
    """Why an object cannot be called so; None where it can. An empty name takes one away."""
    if name.isdigit():
        return "would be taken for a number"
    if name == EVERY:
        return "would be taken for every object"
    if not name.isprintable():
        return "holds characters that nobody can type"
    return "begins or ends with a space" if name != name.strip() else None
