# SPDX-License-Identifier: Apache-2.0
"""A linear classifier of the rendered identity encoding: how it is read and remembered.

Gaussian Grouping and what followed it differ in their losses and in where ids come from; a method
adds these.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gaussian_renderer import Lens
from iqgs.methods.classes import LinearClassifier, decide, segment_by_softmax, taught
from iqgs.methods.protocol import FitView, IdKind, SceneFacts, Segmentation, SplatLabels
from scene.gaussian_model import GaussianModel


class IdentityClassifier(nn.Module):
    """Classes of pixels from the rendered attribute, of splats from their own.

    Beside the classifier the state holds `seen`, the classes that training ever taught: only they
    may win.
    """

    seen: Tensor

    def __init__(self, classes: int, facts: SceneFacts, generator: torch.Generator) -> None:
        super().__init__()
        self.classifier = LinearClassifier(facts.instance_dim, classes, generator)
        self.zero_is_background = facts.zero_is_background
        self.ids: IdKind = "clusters" if facts.tracks else "global"
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.bool))

    def taught(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [P', C] and classes [P'] of the pixels [P] that have a target."""
        keep = taught(labels, self.zero_is_background)
        if not bool(keep.all()):
            features, labels = features[keep], labels[keep]
        return self.classifier(features), labels

    @torch.no_grad()
    def observe(self, seen: Tensor) -> None:
        """Note the classes [P'] that a step taught."""
        self.seen[seen] = True

    def fit(self, views: Iterable[FitView]) -> None:
        """Nothing: classes are trained."""

    def finish(self, lenses: Iterable[Lens]) -> None:
        """Nothing: a classifier is always up to date."""

    @torch.no_grad()
    def segment(self, lens: Lens, panoptic: bool = True) -> Segmentation:
        """Instances of a view: the most probable class of each pixel."""
        numbers = self.seen.nonzero().flatten()
        logits = self.classifier.scores(numbers, lens.features.flatten(1))
        return segment_by_softmax(lens, numbers, logits, panoptic, self.ids)

    @torch.no_grad()
    def label_splats(self, gaussians: GaussianModel) -> SplatLabels:
        """The most probable class of each splat's own attribute."""
        numbers, columns = self.seen.nonzero().flatten(), gaussians.instance.detach().T
        all_of_them = torch.ones(len(gaussians), dtype=torch.bool, device=columns.device)
        logits = self.classifier.scores(numbers, columns)
        labels, sure = decide(numbers, logits, all_of_them, panoptic=False)
        return SplatLabels(labels, sure, self.ids)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer; the learning rates are the engine's."""
        return [{"name": "classifier", "params": list(self.classifier.parameters())}]
