# SPDX-License-Identifier: Apache-2.0
"""Splats that know which object they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scene.frame import SceneFrame
from scene.gaussian_model import GaussianModel


@dataclass(frozen=True, eq=False)
class LabelledSplats:
    """N splats with the number of their object, as the mask files number objects."""

    splats: GaussianModel
    labels: Tensor  # [N] int64 on the CPU, 0 = no object
    confidence: Tensor  # [N] float32 on the CPU in 0..1: how sure the label is
    frame: SceneFrame = field(default_factory=SceneFrame)
    names: Mapping[int, str] = field(default_factory=dict)
    parents: Mapping[int, int] = field(default_factory=dict)  # part -> the object it belongs to
    # [N] int64 on the CPU: of splats of no object that no view shows, the object that hides them
    # (0: none). They are not part of it, but would come to light where it was. None: not known.
    hidden: Tensor | None = None

    def __post_init__(self) -> None:
        n = len(self.splats)
        if self.labels.shape != (n,) or self.confidence.shape != (n,):
            raise ValueError(
                f"{n} splats need as many labels and confidences, got {tuple(self.labels.shape)} "
                f"and {tuple(self.confidence.shape)}"
            )
        if self.hidden is not None and self.hidden.shape != (n,):
            raise ValueError(f"{n} splats, but hidden ones are told of {tuple(self.hidden.shape)}")

    def __len__(self) -> int:
        return len(self.splats)

    def numbers(self) -> list[int]:
        """The objects that have splats, ascending, without 0."""
        return [int(number) for number in torch.unique(self.labels).tolist() if number]

    def rows(self, mask: Tensor) -> LabelledSplats:
        """Those rows that boolean `mask` [N] (or an index tensor) selects."""
        return LabelledSplats(
            self.splats.subset(mask.to(self.splats.device)),
            self.labels[mask],
            self.confidence[mask],
            self.frame,
            self.names,
            self.parents,
            None if self.hidden is None else self.hidden[mask],
        )

    def of(self, number: int) -> LabelledSplats:
        """The splats of one object; without rows where it has none."""
        return self.rows(self.labels == number)
