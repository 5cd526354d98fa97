# SPDX-License-Identifier: Apache-2.0
"""Edits applied to labelled splats. The splats that come in stay as they are."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from scipy.spatial import Delaunay, QhullError, cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from iqgs.objects.colors import recolored
from iqgs.objects.edits import (
    Copy,
    Edit,
    Isolate,
    Merge,
    Motion,
    Move,
    Name,
    Parts,
    Recolor,
    Remove,
    Split,
)
from iqgs.objects.labelled import LabelledSplats
from iqgs.objects.levels import lineage
from iqgs.objects.parts import beyond_plane, connected_pieces, inside_box
from iqgs.objects.selection import listed
from scene.gaussian_model import GaussianModel
from scene.parameters import names_in
from scene.splat_files.similarity import transformed

FARTHEST = 1e9  # what float32 squares still tell apart from infinity, with much room


def apply_edit(objects: LabelledSplats, edit: Edit) -> LabelledSplats:
    """The splats after one edit; those that have a file (`Clean`, `Parts`) are applied with what it
    holds, by `cleaning.apply_cleaning` and `with_parts`.

    Raises ValueError, in words for the user, where an object is missing or a number is taken.
    """
    verb: Callable[[LabelledSplats, Any], LabelledSplats] | None = _VERBS.get(type(edit))
    if verb is None:
        raise ValueError(f"{type(edit).__name__.lower()} is not applied here")
    return verb(objects, edit)


def with_parts(objects: LabelledSplats, edit: Parts, piece: Tensor) -> LabelledSplats:
    """The splats with `piece` [n] as parts of the n of an object. ValueError where they do not fit.

    What the object hides is hidden by the nearest part.
    """
    check_present(objects, [edit.object])
    count = len(edit.numbers)
    mine = objects.labels == edit.object
    if len(piece) != int(mine.sum()) or sorted(set(piece.tolist())) != list(range(count)):
        raise ValueError(f"the parts are not those of object {edit.object}")
    _check_free(objects, edit.numbers, count)
    labels, hidden = objects.labels.clone(), objects.hidden
    labels[mine] = torch.tensor(edit.numbers)[piece]
    if hidden is not None and bool((hidden == edit.object).any()):
        means = objects.splats.means.detach().cpu()
        inside = hidden == edit.object
        _, nearest = cKDTree(means[mine].numpy()).query(means[inside].numpy())
        hidden = hidden.clone()
        hidden[inside] = labels[mine][torch.from_numpy(nearest)]
    names = dict(objects.names)
    whole = names.get(edit.object, f"object {edit.object}")
    names.update({new: f"{whole} part {k}" for k, new in enumerate(edit.numbers, 1)})
    parents = {**objects.parents, **dict.fromkeys(edit.numbers, edit.object)}
    return dataclasses.replace(objects, labels=labels, names=names, parents=parents, hidden=hidden)


def check_present(objects: LabelledSplats, wanted: Iterable[int]) -> None:
    """ValueError that names the first of these objects without splats."""
    present = objects.numbers()
    for number in wanted:
        if number not in present:
            raise ValueError(f"there is no object {number}; there are {listed(objects)}")


def _remove(objects: LabelledSplats, edit: Remove) -> LabelledSplats:
    check_present(objects, edit.objects)
    gone = _with_hidden(objects, edit.objects)
    if edit.hull:
        means = objects.splats.means.detach().cpu().numpy()
        for number in edit.objects:
            gone |= _inside_hull(means, (objects.labels == number).numpy())
    if bool(gone.all()):
        raise ValueError("no splat would be left; leave something of the scene")
    return _without_strangers(objects.rows(~gone))


def _isolate(objects: LabelledSplats, edit: Isolate) -> LabelledSplats:
    check_present(objects, edit.objects)
    kept = torch.isin(objects.labels, torch.tensor(edit.objects))
    return _without_strangers(objects.rows(kept))


def _recolor(objects: LabelledSplats, edit: Recolor) -> LabelledSplats:
    check_present(objects, edit.objects)
    for number in edit.objects:
        mine = objects.labels == number
        objects = _with_rows(objects, mine, lambda part: recolored(part, edit.color))
    return objects


def _move(objects: LabelledSplats, edit: Move) -> LabelledSplats:
    check_present(objects, edit.objects)
    mine = _with_hidden(objects, edit.objects)
    return _with_rows(objects, mine, lambda part: moved(part, edit.motion))


def _copy(objects: LabelledSplats, edit: Copy) -> LabelledSplats:
    check_present(objects, edit.objects)
    _check_free(objects, edit.numbers, len(edit.objects))
    parts, names = [objects], dict(objects.names)
    for number, new in zip(edit.objects, edit.numbers, strict=True):
        part = objects.of(number)
        labels = torch.full_like(part.labels, new)
        splats = moved(part.splats, edit.motion)
        parts.append(dataclasses.replace(part, splats=splats, labels=labels))
        if number in names:
            names[new] = _free_name(names, f"{names[number]} copy")
    return dataclasses.replace(joined(parts), names=names)


def _merge(objects: LabelledSplats, edit: Merge) -> LabelledSplats:
    check_present(objects, {*edit.objects, edit.into})
    mine = torch.isin(objects.labels, torch.tensor(edit.objects))
    into = torch.tensor(edit.into)
    labels = torch.where(mine, into, objects.labels)
    hidden = objects.hidden
    if hidden is not None:
        hidden = torch.where(torch.isin(hidden, torch.tensor(edit.objects)), into, hidden)
    gone = set(edit.objects) - {edit.into}
    names = {n: name for n, name in objects.names.items() if n not in gone}
    parents = {
        part: edit.into if whole in gone else whole
        for part, whole in objects.parents.items()
        if part not in gone and (whole not in gone or part != edit.into)
    }
    return dataclasses.replace(objects, labels=labels, names=names, parents=parents, hidden=hidden)


def _split(objects: LabelledSplats, edit: Split) -> LabelledSplats:
    if edit.object:
        check_present(objects, [edit.object])
    rows = (objects.labels == edit.object).nonzero()[:, 0]
    piece = split_pieces(objects.rows(rows).splats, edit)
    _check_free(objects, edit.numbers, int(piece.max()) if len(piece) else 0)
    labels = objects.labels.clone()
    labels[rows] = torch.tensor((edit.object, *edit.numbers))[piece]
    names = dict(objects.names)
    for new in edit.numbers:
        if edit.object in names:
            names[new] = _free_name(names, names[edit.object])
    return dataclasses.replace(objects, labels=labels, names=names)


def _name(objects: LabelledSplats, edit: Name) -> LabelledSplats:
    check_present(objects, [edit.object])
    names = {**objects.names, edit.object: edit.name}
    return dataclasses.replace(objects, names={n: name for n, name in names.items() if name})


_VERBS: dict[type, Callable[[LabelledSplats, Any], LabelledSplats]] = {
    Remove: _remove,
    Isolate: _isolate,
    Recolor: _recolor,
    Move: _move,
    Copy: _copy,
    Merge: _merge,
    Split: _split,
    Name: _name,
}


def split_pieces(splats: GaussianModel, edit: Split) -> Tensor:
    """Which piece [n] of a split each splat of the object goes to: 0 keeps the old number.

    ValueError where the object would stay whole, or nothing of it would be left.
    """
    if edit.box is not None:
        piece = inside_box(splats.means.detach(), edit.box).long()
    elif edit.plane is not None:
        piece = beyond_plane(splats.means.detach(), edit.plane).long()
    else:
        piece = connected_pieces(splats)
    piece = piece.cpu()
    if len(piece) and not bool((piece > 0).any()):
        where = "in the box" if edit.box else "beyond the plane" if edit.plane else ""
        what = f"no splat of it lies {where}" if where else "all of it is connected"
        raise ValueError(f"object {edit.object} stays in one piece: {what}")
    if not bool((piece == 0).any()):
        raise ValueError(f"all of object {edit.object} would go into the new one")
    return piece


def moved(splats: GaussianModel, motion: Motion) -> GaussianModel:
    """All these splats under one motion; colours that depend on the direction turn along."""
    axis = np.asarray(motion.axis, np.float64) / np.linalg.norm(motion.axis)
    turn = Rotation.from_rotvec(np.radians(motion.degrees) * axis).as_matrix()
    center = np.asarray(motion.center, np.float64)
    offset = center + np.asarray(motion.by) - motion.scale * turn @ center
    raw = {name: values.detach().cpu().numpy() for name, values in splats.params.items()}
    with np.errstate(over="ignore"):
        after = transformed(raw, turn if motion.degrees else None, motion.scale, offset)
    reach = [np.abs(after["means"]), np.exp(after["log_scales"].astype(np.float64))]
    if not all(bool((values < FARTHEST).all()) for values in reach):  # neither are NaNs
        raise ValueError(f"splats would lie farther than {FARTHEST:g} from the origin")
    values = {name: torch.from_numpy(array).to(splats.device) for name, array in after.items()}
    return GaussianModel(values, splats.active_sh_degree)


def joined(parts: Iterable[LabelledSplats]) -> LabelledSplats:
    """One after the other; names, parents and frame are those of the first. ValueError for none."""
    listed = list(parts)
    if not listed:
        raise ValueError("expected something to join")
    models = [part.splats for part in listed]
    hidden = None
    if any(part.hidden is not None for part in listed):
        known = [torch.zeros_like(p.labels) if p.hidden is None else p.hidden for p in listed]
        hidden = torch.cat(known)
    values = {
        name: torch.cat([model.params[name].detach() for model in models])
        for name in names_in(models[0].params)
    }
    return dataclasses.replace(
        listed[0],
        splats=GaussianModel(values, models[0].active_sh_degree),
        labels=torch.cat([part.labels for part in listed]),
        confidence=torch.cat([part.confidence for part in listed]),
        hidden=hidden,
    )


def _with_rows(
    objects: LabelledSplats, mine: Tensor, change: Callable[[GaussianModel], GaussianModel]
) -> LabelledSplats:
    """The same splats in the same order, those of boolean `mine` [N] changed."""
    model = objects.splats
    at = mine.to(model.device)
    part = change(model.subset(at))
    values = {}
    for name, parameter in model.params.items():
        values[name] = parameter.detach().clone()
        values[name][at] = part.params[name].detach()
    return dataclasses.replace(objects, splats=GaussianModel(values, model.active_sh_degree))


def _with_hidden(objects: LabelledSplats, numbers: tuple[int, ...]) -> Tensor:
    """The splats [N] bool of some objects with those that they hide."""
    wanted = torch.tensor(numbers)
    mine = torch.isin(objects.labels, wanted)
    return mine if objects.hidden is None else mine | torch.isin(objects.hidden, wanted)


def _without_strangers(objects: LabelledSplats) -> LabelledSplats:
    """Names and parents of objects that are still there, in part or whole."""
    present = {number for n in objects.numbers() for number in lineage(objects, n)}
    return dataclasses.replace(
        objects,
        names={n: name for n, name in objects.names.items() if n in present},
        parents={a: b for a, b in objects.parents.items() if a in present},
    )


def _free_name(names: Mapping[int, str], wanted: str) -> str:
    """A name that no object has: the wanted one, else with the first free number from 2."""
    taken = set(names.values())
    numbered = (f"{wanted} {k}" for k in itertools.count(2))
    return next(name for name in itertools.chain([wanted], numbered) if name not in taken)


def _check_free(objects: LabelledSplats, numbers: tuple[int, ...], count: int) -> None:
    taken = {*objects.numbers(), *objects.names, *objects.parents.values()}
    if len(numbers) != count or len(set(numbers)) != count:
        raise ValueError(f"{count} different new numbers are needed, got {list(numbers)}")
    for number in numbers:
        if number in taken or number <= 0:
            raise ValueError(f"number {number} cannot be that of a new object")


def _inside_hull(means: np.ndarray, mine: np.ndarray) -> Tensor:
    """Which points [N] lie in the convex hull of those of boolean `mine`; a flat one has none."""
    try:
        hull = Delaunay(means[mine].astype(np.float64))
    except (QhullError, ValueError):  # fewer than four points, or all in a plane
        return torch.from_numpy(mine)
    return torch.from_numpy(hull.find_simplex(means.astype(np.float64)) >= 0)
