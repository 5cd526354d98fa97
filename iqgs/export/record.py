# SPDX-License-Identifier: Apache-2.0
"""What every writer takes: splats as arrays, and which rows are which object."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iqgs.objects.labelled import LabelledSplats
from scene.frame import SceneFrame
from scene.splat_files.columns import CONFIDENCE_COLUMN, VIEWER_LOG_SCALE, Arrays
from scene.splat_files.frames import stated_up
from scene.splat_files.splat_file import read_splats

logger = logging.getLogger(__name__)

NO_OBJECT = "no object"  # name of the splats of label 0


@dataclass(frozen=True)
class ObjectRows:
    """One object of a file and its rows, which follow one another."""

    number: int  # 0: the splats of no object
    name: str  # no two of a file are the same
    first: int
    count: int

    @property
    def rows(self) -> slice:
        return slice(self.first, self.first + self.count)


@dataclass(frozen=True, eq=False)
class SplatArrays:
    """N splats in the coordinates of their run; `raw` as in `GaussianModel.params`."""

    raw: Arrays
    labels: NDArray[np.int64]  # [N], 0 = no object
    confidence: NDArray[np.float32]  # [N] in 0..1
    frame: SceneFrame = field(default_factory=SceneFrame)
    names: Mapping[int, str] = field(default_factory=dict)
    extra: Arrays = field(default_factory=dict)  # columns [N] of a file that nobody here knows

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def flat(self) -> bool:
        """Discs, with two scales; else ellipsoids."""
        return self.raw["log_scales"].shape[1] == 2

    @property
    def log_scales(self) -> NDArray[np.float32]:
        """Three scales [N, 3]; discs have the thickness that viewers of 3D Gaussians need."""
        scales = self.raw["log_scales"]
        if not self.flat:
            return scales
        return np.pad(scales, ((0, 0), (0, 1)), constant_values=np.float32(VIEWER_LOG_SCALE))

    def rows(self, chosen: NDArray[np.integer] | NDArray[np.bool_]) -> SplatArrays:
        """The rows that a mask or indices [M] select."""
        return replace(
            self,
            raw={name: array[chosen] for name, array in self.raw.items()},
            labels=self.labels[chosen],
            confidence=self.confidence[chosen],
            extra={name: array[chosen] for name, array in self.extra.items()},
        )

    def only(self, numbers: Sequence[int]) -> SplatArrays:
        """The splats of these objects."""
        return self.rows(np.isin(self.labels, list(numbers)))

    def name_of(self, number: int) -> str:
        """What an object is called: its name, else its number."""
        return self.names.get(number) or (f"object {number}" if number else NO_OBJECT)

    def by_object(self) -> tuple[SplatArrays, list[ObjectRows]]:
        """The splats in the order of their objects (those of none last), and the rows of each."""
        order = np.argsort(
            np.where(self.labels == 0, np.iinfo(np.int64).max, self.labels), kind="stable"
        )
        ordered = self if bool((np.diff(order) == 1).all()) else self.rows(order)
        numbers, first, counts = np.unique(ordered.labels, return_index=True, return_counts=True)
        groups, taken = [], set[str]()
        for number, start, count in sorted(
            zip(numbers.tolist(), first.tolist(), counts.tolist(), strict=True), key=lambda g: g[1]
        ):
            name = self.name_of(number)
            name = f"{name} ({number})" if name in taken else name
            taken.add(name)
            groups.append(ObjectRows(number, name, start, count))
        return ordered, groups


def from_objects(objects: LabelledSplats) -> SplatArrays:
    """The arrays of labelled splats, copied to the CPU where they are elsewhere."""
    raw = {name: p.detach().cpu().numpy() for name, p in objects.splats.params.items()}
    return SplatArrays(
        raw,
        objects.labels.cpu().numpy().astype(np.int64),
        objects.confidence.cpu().numpy().astype(np.float32),
        objects.frame,
        dict(objects.names),
    )


def from_file(path: Path) -> SplatArrays:
    """The splats of a PLY of any dialect, with its labels and whatever else it holds.

    Without a column `instance` no splat has an object; without `instance_conf` all labels are sure.
    Raises FormatError, DataError.
    """
    file = read_splats(path)
    for notice in file.notices:
        logger.warning("%s", notice)
    extra = dict(file.extra)
    sure = extra.pop(CONFIDENCE_COLUMN, None)
    n = len(file)
    labels = np.zeros(n, np.int64) if file.labels is None else file.labels.astype(np.int64)
    confidence = np.ones(n, np.float32) if sure is None else sure.astype(np.float32)
    origin = file.frame.origin if file.frame is not None else SceneFrame().origin
    frame = SceneFrame(origin, stated_up(file.comments, str(path)))
    return SplatArrays(file.raw, labels, confidence, frame, {}, extra)
