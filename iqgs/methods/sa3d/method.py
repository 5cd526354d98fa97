# SPDX-License-Identifier: Apache-2.0
"""SA3D as one method: all objects of the scene, view after view, by inverse rendering of masks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from diff_surfel_rasterization import BlendWeights
from gaussian_renderer import MIN_WEIGHT, Lens
from iqgs.methods.hard_labels import ClosedForm
from iqgs.methods.protocol import (
    FitView,
    IdKind,
    SceneFacts,
)
from iqgs.methods.sa3d.params import SA3DParams
from iqgs.methods.sa3d.prompts import EVEN, self_prompts
from iqgs.methods.sa3d.scores import ObjectScores, score_gradient
from iqgs.methods.sa3d.segmenters import PromptableSegmenter, make_segmenter

logger = logging.getLogger(__name__)

OBJECTS_AT_ONCE = 32  # rendered together: bounds the memory of a view
CLICK_WINDOW = 11  # pixels: a click is where most of such a square around it is the region


def build(params: SA3DParams, facts: SceneFacts, generator: torch.Generator) -> SA3D:
    """No object is known yet."""
    return SA3D(params)


class SA3D(ClosedForm):
    """Every object is a score for each splat; in each view it prompts the segmenter, whose answer
    moves the scores.

    The published method segments one object from a user's click. Here the clicks are made: in the
    first round through the views, a region of a view's label map that no object claims yet starts a
    new one with a click in its middle. The numbers of the regions are not looked at. In later
    rounds the splats that an object turned down are out of it; unlike in the released code they
    still hide what is behind them, because masks show what is visible.
    """

    ids: IdKind = "clusters"

    def __init__(self, params: SA3DParams) -> None:
        super().__init__()
        self.params = params
        self.segmenter: PromptableSegmenter | None = None
        self.scores: ObjectScores | None = None  # None: not begun, or finished
        self.round = 0

    @torch.no_grad()
    def fit(self, views: Iterable[FitView]) -> None:
        """Let all objects see these views, one after the other."""
        for view in views:
            if self.segmenter is None:
                self.segmenter = make_segmenter(self.params, view.labels.device)
                logger.info("sa3d: prompts are answered by %s", self.segmenter.name)
            if self.scores is None:
                self.scores = ObjectScores(len(view.lens.gaussians), view.labels.device)
            if view.round > self.round:
                self.scores.drop_doubtful()
                self.round = view.round
            self.segmenter.look_at(view)
            weights = view.lens.weights(MIN_WEIGHT)
            depth = view.lens.render(with_surface=False).depth[0]
            claimed = self._teach_known(weights, depth, view.labels)
            if view.round == 0:
                self._find_new(weights, claimed, view.labels)

    def _teach_known(self, weights: BlendWeights, depth: Tensor, labels: Tensor) -> Tensor:
        """Prompt with every known object, and move those that agree with the answer. Returns the
        pixels [H, W] that objects claim."""
        assert self.scores is not None
        claimed = torch.zeros_like(labels, dtype=torch.bool)
        everything = torch.arange(len(self.scores), device=labels.device)
        for rows in everything.split(OBJECTS_AT_ONCE):
            rendered = self.scores.render(weights, rows).reshape(-1, *labels.shape)
            agreed, wanted = [], []
            for row, score in zip(rows.tolist(), rendered, strict=True):
                shown = score > EVEN
                if not bool(shown.any()):
                    continue
                claimed |= shown
                answer = self._answer(score, shown, depth)
                if answer is not None:
                    agreed.append(row)
                    wanted.append(answer)
            self._move(weights, agreed, wanted, labels)
        return claimed

    def _answer(self, score: Tensor, shown: Tensor, depth: Tensor) -> Tensor | None:
        """The segmenter's mask for an object; None where there is none or it is another thing."""
        assert self.segmenter is not None
        points = self_prompts(score, depth, self.params.prompts)
        mask = self.segmenter.mask(points)
        if mask is None:
            return None
        agreement = (mask & shown).sum() / (mask | shown).sum()
        return mask if float(agreement) >= self.params.least_agreement else None

    def _find_new(self, weights: BlendWeights, claimed: Tensor, labels: Tensor) -> None:
        """Start objects where the label map [H, W] has regions that nobody claims."""
        assert self.scores is not None and self.segmenter is not None
        found = []
        for number in torch.unique(labels[labels > 0]).tolist():
            region = labels == number
            if not self._is_new(region, claimed):
                continue
            mask = self.segmenter.mask(click_in(region))
            if mask is not None and self._is_new(mask, claimed):
                found.append(mask)
                claimed = claimed | mask
        rows = self.scores.add(len(found)).tolist()
        for start in range(0, len(rows), OBJECTS_AT_ONCE):
            part = slice(start, start + OBJECTS_AT_ONCE)
            self._move(weights, rows[part], found[part], labels)

    def _is_new(self, mask: Tensor, claimed: Tensor) -> bool:
        size = int(mask.sum())
        share = int((mask & claimed).sum()) / max(size, 1)
        return size >= self.params.new_object_pixels and share < self.params.new_object_share

    def _move(
        self, weights: BlendWeights, rows: list[int], masks: list[Tensor], labels: Tensor
    ) -> None:
        """One step of the scores of these objects towards their masks [H, W]."""
        assert self.scores is not None
        if not rows:
            return
        wanted = torch.stack(masks).reshape(len(rows), -1)
        known = labels.reshape(-1) >= 0
        gradient = score_gradient(weights, wanted, known, self.params.lambda_outside)
        at = torch.tensor(rows, device=labels.device)
        self.scores.step(at, gradient, self.params.score_rate)

    @torch.no_grad()
    def finish(self, lenses: Iterable[Lens]) -> None:
        """Give every splat to the object that scores it highest."""
        if self.scores is None:
            return
        self.labels, self.confidence = self.scores.owners()
        logger.info("sa3d: %d objects", int(self.labels.max()) if len(self.labels) else 0)
        self.scores = None

    def state_dict(self) -> dict[str, Any]:
        """Labels, and while views are being seen the scores too."""
        state = {**super().state_dict(), "round": self.round}
        return state if self.scores is None else {**state, "scores": self.scores.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        super().load_state_dict(state)
        self.round = int(state["round"])
        found = state.get("scores")
        self.scores = None if found is None else ObjectScores.from_state(found, self.labels.device)


def click_in(region: Tensor) -> Tensor:
    """A point [1, 2] (x, y) well inside a region [H, W] bool, where a user would click."""
    inside = region[None, None].float()
    around = avg_pool2d(inside, CLICK_WINDOW, stride=1, padding=CLICK_WINDOW // 2)
    best = int((around * inside).argmax())
    y, x = divmod(best, region.shape[1])
    return torch.tensor([[x, y]], device=region.device)
