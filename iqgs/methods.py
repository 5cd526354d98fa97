# SPDX-License-Identifier: Apache-2.0
"""The methods by name; the only place that sees a whole set of options."""

from __future__ import annotations

from collections.abc import Callable

import torch

from iqgs.criterion import SegmentationCriterion
from iqgs.decoder import InstanceProjection, QueryDecoder
from iqgs.matching import HungarianMatcher, IDMatcher, MatchingCost
from iqgs.model import IQGS
from iqgs.types import TERM_NAMES, MethodOptions
from utils.errors import UserError

ZERO_LABELS = ("background", "ignore")
REG_TARGETS = ("probability", "feature")
ATTENTION_KEYS = ("strided", "pooled")


def _id_matcher(options: MethodOptions) -> IDMatcher:
    background = options.zero_label == "background"
    return IDMatcher(options.num_queries, options.num_ids, background)


def _hungarian_matcher(options: MethodOptions) -> HungarianMatcher:
    cost = MatchingCost(
        options.lambda_mask, options.lambda_dice, options.focal_gamma, options.focal_alpha
    )
    background = options.zero_label == "background"
    return HungarianMatcher(options.num_queries, background, cost, options.usage_cost)


METHODS: dict[str, Callable[[MethodOptions], IDMatcher | HungarianMatcher]] = {
    "id": _id_matcher,
    "hungarian": _hungarian_matcher,
}


def _check(options: MethodOptions) -> None:
    choices = {
        "matching": tuple(METHODS), "zero_label": ZERO_LABELS, "reg_target": REG_TARGETS,
        "attention_keys": ATTENTION_KEYS,
    }  # fmt: skip
    for name, allowed in choices.items():
        if getattr(options, name) not in allowed:
            value = getattr(options, name)
            raise UserError(f"--{name} {value!r} is unknown; choose one of {', '.join(allowed)}.")
    for name in (
        "num_queries",
        "feature_dim",
        "instance_dim",
        "num_ids",
        "attention_pixels",
        "matching_pixels",
    ):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(options, name)}.")
    if options.num_queries < 2:
        raise UserError("--num_queries must be at least 2: query 0 stands for no instance.")
    if options.focal_alpha is not None and not 0.0 <= options.focal_alpha <= 1.0:
        raise UserError(f"--focal_alpha must lie in 0..1, got {options.focal_alpha}.")


def build_method(options: MethodOptions) -> IQGS:
    """A fresh method on the CPU; the same seed gives the same weights. Raises UserError."""
    _check(options)
    generator = torch.Generator().manual_seed(options.seed)
    weights = dict(
        zip(
            TERM_NAMES,
            (options.lambda_mask, options.lambda_dice, options.lambda_reg, options.lambda_geom),
            strict=True,
        )
    )
    criterion = SegmentationCriterion(
        gamma=options.focal_gamma,
        alpha=options.focal_alpha,
        names=frozenset(name for name, weight in weights.items() if weight != 0.0),
        reg_target=options.reg_target,
    )
    dim = options.feature_dim
    return IQGS(
        InstanceProjection(options.instance_dim, dim, generator),
        QueryDecoder(options.num_queries, dim, generator, options.residual),
        METHODS[options.matching](options),
        criterion,
        weights=weights,
        background=options.zero_label == "background",
        attention_pixels=options.attention_pixels,
        pooled_keys=options.attention_keys == "pooled",
        matching_pixels=options.matching_pixels,
        steady_matching=options.steady_matching,
    )
