# SPDX-License-Identifier: Apache-2.0
"""What runs on the same splats have in common: pictures, distances, and one pass for their votes.

Runs that learn instances on one reconstruction (`--start_ply`) differ in masks and method alone.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from diff_surfel_rasterization import MOST_LABEL_MAPS
from iqgs.engine.lifting.weight_files import geometry_digest, view_fingerprint
from iqgs.engine.opening import scene_facts
from iqgs.engine.run import Run
from iqgs.methods import METHODS, build_method
from iqgs.methods.vote import VoteMethod, VoteSums
from scene.cameras import Camera
from scene.frozen_gaussians import FrozenGaussians
from scene.parameters import OF_INSTANCES
from utils.errors import IQGSError
from utils.read_ahead import read_ahead

logger = logging.getLogger(__name__)
T = TypeVar("T")

MOST_BYTES = 1 << 30  # of the votes that are counted in one pass, and of their masks
MASK_BYTES = 8  # a pixel
# Settings that say nothing of cameras, photographs and splats.
OF_MASKS: dict[str, Any] = {
    **{"model_path": "", "object_path": "", "mask_orientation": "", "zero_label": ""},
    **{"ignore_label": -1, "no_masks": False},
}


@dataclass
class Shared:
    """What was made for one run and serves the others on the same splats."""

    runs: list[Run] = field(default_factory=list)
    _made: dict[Hashable, Any] = field(default_factory=dict)
    _votes: dict[tuple[Path, bool], VoteMethod] = field(default_factory=dict)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gave under this key when it was first asked for."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found

    def votes(self, run: Run, wanted: Callable[[Run], Sequence[bool]]) -> list[VoteMethod]:
        """A vote for each of `wanted(run)`: of the masks that the run learned from, or, True, of
        those that the scene has.

        The first run that asks has all of them counted, the other runs' too: they share the
        blending weights of a view.
        """
        asked = [(run, raw) for raw in wanted(run)]
        missing = [pair for pair in asked if (pair[0].folder, pair[1]) not in self._votes]
        if missing:
            others = [(one, raw) for one in self.runs if one is not run for raw in wanted(one)]
            together = [*missing, *(p for p in others if (p[0].folder, p[1]) not in self._votes)]
            if _bytes(together) > MOST_BYTES or len(together) > MOST_LABEL_MAPS:
                together = missing
            with suppress(IQGSError):  # another run's masks are damaged: that run will say so
                self._count(together)
                missing = []
            if missing:
                self._count(missing)
        return [self._votes[one.folder, raw] for one, raw in asked]

    def _count(self, pairs: Sequence[tuple[Run, bool]]) -> None:
        for (run, raw), vote in zip(pairs, _counted(pairs), strict=True):
            self._votes[run.folder, raw] = vote


def _bytes(pairs: Sequence[tuple[Run, bool]]) -> int:
    """Of the votes, and of the masks that are read before the first is counted."""
    classes = sum(run.facts.num_ids + 1 for run, _ in pairs if run.facts is not None)
    pixels = sum(camera.width * camera.height for run, _ in pairs for camera in run.cameras.train)
    return 8 * classes * max(len(run.gaussians) for run, _ in pairs) + MASK_BYTES * pixels


@torch.no_grad()
def _counted(pairs: Sequence[tuple[Run, bool]]) -> list[VoteMethod]:
    """The votes of runs on the same splats, in one pass over their training views."""
    run = pairs[0][0]
    device, params = run.gaussians.device, METHODS["vote"].params()
    facts = [scene_facts(one, raw=raw) for one, raw in pairs]
    votes = [build_method("vote", params, about).to(device) for about in facts]
    sums = VoteSums(len(run.gaussians), [about.num_ids for about in facts], device)
    given = [{view.name: view for view in one.masked_views(raw=raw)} for one, raw in pairs]
    names = list(dict.fromkeys(name for views in given for name in views))

    def maps_of(name: str) -> tuple[Camera, list[Tensor]]:
        camera = next(views[name].camera for views in given if name in views)
        maps = []
        for views, vote in zip(given, votes, strict=True):
            if name in views:
                maps.append(vote.voters(views[name].label_map_on(device)))
                views[name].forget()
            else:
                shape = camera.height, camera.width
                maps.append(torch.full(shape, -1, dtype=torch.int32, device=device))
        return camera, maps

    for camera, maps in read_ahead(names, maps_of):
        sums.add(run.lens(camera), maps)
    for number, vote in enumerate(votes):
        vote.decide(sums.votes(number))
    return votes


def in_groups(runs: Iterator[Run]) -> Iterator[Shared]:
    """Runs in their order, those that follow each other on the same splats together.

    A run is taken from `runs` when it is needed: at most one more than a group is open.
    """
    group, before = Shared(), ""
    for run in runs:
        found = fingerprint(run)
        if group.runs and found != before:
            yield group
            group = Shared()
        if group.runs:  # one copy of what they have in common
            first = group.runs[0].gaussians.params
            run.gaussians.params |= {n: p for n, p in first.items() if n not in OF_INSTANCES}
        run.gaussians = FrozenGaussians(run.gaussians)
        before = found
        group.runs.append(run)
    if group.runs:
        yield group


def fingerprint(run: Run) -> str:
    """Digest of splats, cameras and photographs: of all that masks and instances leave alone."""
    digest = hashlib.sha256(geometry_digest(run.gaussians).encode())
    for name in ("sh_dc", "sh_rest"):
        values = run.gaussians.params[name].detach().cpu().numpy()
        digest.update(np.ascontiguousarray(values).data)
    model = replace(run.config.model, **OF_MASKS)
    text = repr((model, run.config.pipeline, run.gaussians.active_sh_degree, run.frame))
    cameras = (*run.cameras.train, *run.cameras.test)
    text += repr([(camera.name, view_fingerprint("", camera, 0.0)) for camera in cameras])
    digest.update(text.encode())
    return digest.hexdigest()
