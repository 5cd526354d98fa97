# SPDX-License-Identifier: Apache-2.0
"""What is worth knowing of every object, from its splats alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iqgs.objects.applying import mean_color
from iqgs.objects.labelled import LabelledSplats
from scene.gaussian_model import GaussianModel

FORMAT = 1  # of objects.json
BOX_SHARE = 0.01  # of an object's opacity may lie outside each face of its box


@dataclass(frozen=True)
class ObjectEntry:
    """One object, in the run's coordinates and the units of the scene's files."""

    id: int
    name: str  # "" where it has none
    parent: int | None
    splats: int
    low: tuple[float, float, float]  # corners of its box, see `robust_box`
    high: tuple[float, float, float]
    color: tuple[float, float, float]  # mean RGB in 0..1
    confidence: float  # mean of how sure its labels are, weighted by opacity

    @property
    def size(self) -> tuple[float, float, float]:
        """Extent along x, y and z."""
        x, y, z = (b - a for a, b in zip(self.low, self.high, strict=True))
        return (x, y, z)

    @property
    def center(self) -> tuple[float, float, float]:
        """Middle of the box."""
        x, y, z = ((a + b) / 2 for a, b in zip(self.low, self.high, strict=True))
        return (x, y, z)

    @property
    def title(self) -> str:
        """Name and number, or the number alone."""
        return f"{self.name} ({self.id})" if self.name else f"object {self.id}"

    def to_record(self) -> dict[str, Any]:
        """As it stands in objects.json."""
        return {
            "id": self.id,
            "name": self.name,
            "parent": self.parent,
            "splats": self.splats,
            "box": [list(self.low), list(self.high)],
            "center": list(self.center),
            "size": list(self.size),
            "color": list(self.color),
            "confidence": self.confidence,
        }


def entry_of(objects: LabelledSplats, number: int) -> ObjectEntry:
    """The entry of one object. ValueError where it has no splats."""
    return _entry(objects.of(number), number)


def catalog(objects: LabelledSplats) -> list[ObjectEntry]:
    """An entry for each object, by number."""
    return [_entry(part, number) for number, part in by_object(objects) if number]


def by_object(objects: LabelledSplats) -> Iterator[tuple[int, LabelledSplats]]:
    """Each number, 0 too where there are such splats, with its splats in their order.

    Sorted once: picking rows object by object would read all splats for each of them.
    """
    order = torch.argsort(objects.labels, stable=True)
    numbers, counts = torch.unique_consecutive(objects.labels[order], return_counts=True)
    for number, rows in zip(numbers.tolist(), order.split(counts.tolist()), strict=True):
        yield int(number), objects.rows(rows)


def robust_box(splats: GaussianModel) -> tuple[Tensor, Tensor]:
    """Corners [3] of a box that stray splats do not stretch: of the splats' opacity 1 % may lie
    beyond each face, a splat reaching one standard deviation from its centre.
    """
    scales = splats.scales.detach()
    reach = (splats.axes().detach() * scales[:, None, :]).square().sum(dim=2).sqrt()
    means, weight = splats.means.detach(), splats.opacities.detach()[:, 0].double()
    low = torch.stack([_quantile(c, weight, BOX_SHARE) for c in (means - reach).unbind(1)])
    high = torch.stack([_quantile(c, weight, 1 - BOX_SHARE) for c in (means + reach).unbind(1)])
    return low, high


def _quantile(values: Tensor, weight: Tensor, share: float) -> Tensor:
    """The smallest of `values` [N] below or at which `share` of the weight lies."""
    order = values.argsort()
    total = weight[order].cumsum(0)
    at = torch.searchsorted(total, share * total[-1]).clamp_max(len(values) - 1)
    return values[order[at]]


def _entry(part: LabelledSplats, number: int) -> ObjectEntry:
    if not len(part):
        raise ValueError(f"object {number} has no splats")
    low, high = robust_box(part.splats)
    weight = part.splats.opacities.detach()[:, 0].cpu()
    sure = (part.confidence * weight).sum() / weight.sum()
    return ObjectEntry(
        id=number,
        name=part.names.get(number, ""),
        parent=part.parents.get(number),
        splats=len(part),
        low=_triple(low),
        high=_triple(high),
        color=_triple(mean_color(part.splats)),
        confidence=float(sure),
    )


def _triple(values: Tensor) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return (x, y, z)
