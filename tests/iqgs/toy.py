# SPDX-License-Identifier: Apache-2.0
"""A flat toy world with cached blending weights: enough to train a method in a second or two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from torch import Tensor

from diff_surfel_rasterization.types import BlendWeights
from iqgs.methods import build_method
from iqgs.methods.iqgs.method import IQGS
from iqgs.methods.iqgs.params import HungarianParams, IQGSParams
from iqgs.methods.protocol import Batch, SceneFacts, total_loss

SIZE = 40  # pixels on a side of a view
BLEND = 4  # splats that share a pixel

TERM_NAMES = ("mask", "dice", "reg3d", "consistency")  # in the order of Eq. 15


@dataclass(frozen=True)
class Options:
    """What builds a method in these tests: settings and facts in one record, for `replace`."""

    matching: str = "id"
    num_queries: int = 7
    feature_dim: int = 16
    instance_dim: int = 16
    num_ids: int = 6
    zero_label: str = "background"
    lambda_mask: float = 20.0
    lambda_dice: float = 1.0
    lambda_reg: float = 1.0
    lambda_geom: float = 1.0
    focal_gamma: float = 2.0
    focal_alpha: float = -1.0
    correction_iou: float = 0.0
    reg_target: str = "probability"
    attention_pixels: int = 4096
    attention_keys: str = "strided"
    literal_attention: bool = False
    steady_matching: bool = False
    usage_cost: float = 0.0
    matching_pixels: int = 12_544
    seed: int = 0


OPTIONS = Options()


def build(options: Options) -> IQGS:
    """IQGS or IQGS-H of these options."""
    record = IQGSParams if options.matching == "id" else HungarianParams
    names = {field.name for field in fields(record)} & set(vars(options))
    params = record(**{name: getattr(options, name) for name in names})
    background = options.zero_label == "background"
    facts = SceneFacts(options.num_ids, 0, background, options.instance_dim, options.seed)
    method = build_method("iqgs" if options.matching == "id" else "iqgs-h", params, facts)
    assert isinstance(method, IQGS)
    return method


def learn(method: IQGS, batch: Batch) -> dict[str, Tensor]:
    """The terms of a step that is made: in training mode the method remembers it."""
    made = method.terms(batch)
    if method.training:
        method.observe(made.seen)
    return made.terms


class MapLens:
    """A lens of a rendered map [D_obj, H, W], solid everywhere unless alpha says otherwise."""

    def __init__(self, features: Tensor, alpha: Tensor | None = None) -> None:
        self.features = features
        self.alpha = torch.ones_like(features[:1]) if alpha is None else alpha

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """Nothing is kept."""
        return make()


class SplatHolder:
    """Splats of which nothing but the attribute [N, D_obj] is known."""

    def __init__(self, instance: Tensor) -> None:
        self.instance = instance

    def __len__(self) -> int:
        return len(self.instance)


@dataclass(frozen=True)
class ToyView:
    splat: Tensor  # [H*W, BLEND] int64
    weight: Tensor  # [H*W, BLEND]
    labels: Tensor  # [H*W] int64

    def render(self, values: Tensor) -> Tensor:
        """Values [N, C] -> [C, H, W]."""
        blended = (values[self.splat] * self.weight[..., None]).sum(1)
        return blended.T.reshape(-1, SIZE, SIZE)

    def blend_weights(self, n_splats: int) -> BlendWeights:
        start = torch.arange(0, self.splat.numel() + 1, BLEND)
        return BlendWeights(start, self.splat.reshape(-1).int(), self.weight.reshape(-1), n_splats)

    def step(self, instance: Tensor, pixels: Tensor, pairs: Tensor, labels: Tensor) -> Batch:
        touched, local = torch.unique(self.splat[pixels], return_inverse=True)
        weight = self.weight[pixels][..., None]

        def splat(values: Tensor) -> Tensor:
            return (values[local] * weight).sum(1)

        features = splat(instance[touched])
        alpha = weight.sum((1, 2))
        return Batch(features, labels, instance, touched, splat, pairs, alpha, pixels, 0)


@dataclass(frozen=True)
class ToyWorld:
    positions: Tensor  # [N, 2] in the unit square
    labels: Tensor  # [N] 0..num_ids
    views: list[ToyView]
    num_ids: int
    pairs: Tensor  # all neighbour pairs [3N, 2]


def make_world(
    n_splats: int = 2500, num_ids: int = 6, views: int = 14, seed: int = 0, window: float = 0.7
) -> ToyWorld:
    """Voronoi cells as objects, one of them id 0; each view is a window of the unit square."""
    rng = np.random.default_rng(seed)
    grid = np.linspace(0.15, 0.85, 3)
    centres = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)[: num_ids + 1]
    centres = centres + rng.normal(0, 0.03, centres.shape)
    positions = rng.random((n_splats, 2))
    cells, tree = cKDTree(centres), cKDTree(positions)
    spacing = n_splats**-0.5
    made = []
    for _ in range(views):
        corner = rng.random(2) * (1 - window)
        side = (np.arange(SIZE) + 0.5) / SIZE * window
        points = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2) + corner
        distance, splat = tree.query(points, k=BLEND)
        weight = np.exp(-((distance / spacing) ** 2)) * rng.uniform(0.5, 1.0, distance.shape)
        weight = weight / weight.sum(1, keepdims=True) * 0.95
        made.append(
            ToyView(
                torch.as_tensor(splat, dtype=torch.int64),
                torch.as_tensor(weight, dtype=torch.float32),
                torch.as_tensor(cells.query(points)[1], dtype=torch.int64),
            )
        )
    near = tree.query(positions, k=4)[1][:, 1:]
    pairs = np.stack([np.repeat(np.arange(n_splats), 3), near.reshape(-1)], 1)
    labels = torch.as_tensor(cells.query(positions)[1], dtype=torch.int64)
    return ToyWorld(
        torch.as_tensor(positions), labels, made, num_ids, torch.as_tensor(pairs, dtype=torch.int64)
    )


def shuffle_ids(view: ToyView, rng: np.random.Generator, num_ids: int) -> ToyView:
    """Fresh ids in this view, as unassociated masks have; id 0 stays."""
    fresh = torch.as_tensor(np.concatenate([[0], 1 + rng.permutation(num_ids)]))
    return replace(view, labels=fresh[view.labels])


def train(
    method: IQGS, world: ToyWorld, views: list[ToyView], steps: int, scale: float = 0.1
) -> Tensor:
    """Learn attributes [N, D_obj] and the method; returns the attributes."""
    generator = torch.Generator().manual_seed(1)
    dim = method.projection.weight.shape[1]
    instance = torch.randn(len(world.labels), dim, generator=generator) * scale
    instance.requires_grad_(True)
    groups = [{"params": [instance], "lr": 3e-2}]
    groups += [{**group, "lr": 5e-3} for group in method.parameter_groups()]
    optimizer = torch.optim.Adam(groups, eps=1e-15)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for number in range(steps):
        view = views[number % len(views)]
        pixels = torch.randperm(SIZE * SIZE, generator=generator)[:512]
        chosen = torch.randint(len(world.pairs), (200,), generator=generator)
        step = view.step(instance, pixels, world.pairs[chosen], view.labels[pixels])
        total_loss(learn(method, step), method.weights).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return instance.detach()


def mean_iou(predicted: list[Tensor], true: list[Tensor]) -> float:
    """IoU of every true object > 0 over all views together, mean; ids must agree."""
    prediction, truth = torch.cat(predicted), torch.cat(true)
    scores = []
    for number in torch.unique(truth[truth > 0]).tolist():
        p, t = prediction == number, truth == number
        scores.append(float((p & t).sum()) / float((p | t).sum()))
    return float(np.mean(scores))


def assign_once(predicted: list[Tensor], true: list[Tensor]) -> list[Tensor]:
    """Rename query numbers to ids by one assignment for the whole scene; the rest become 0."""
    prediction, truth = torch.cat(predicted), torch.cat(true)
    count = torch.zeros(int(prediction.max()) + 1, int(truth.max()) + 1)
    count.index_put_((prediction, truth), torch.ones(len(truth)), accumulate=True)
    rows, columns = linear_sum_assignment(-count[1:, 1:].numpy())
    names = torch.zeros(len(count), dtype=torch.int64)
    names[torch.as_tensor(rows) + 1] = torch.as_tensor(columns) + 1
    return [names[p] for p in predicted]
