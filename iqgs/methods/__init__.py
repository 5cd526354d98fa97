# SPDX-License-Identifier: Apache-2.0
"""The segmentation methods by name. A method is one file (or folder) that owns its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from iqgs.methods import decision, gaga, gaussian_grouping, id_map, omegas, unified_lift, vote
from iqgs.methods.iqgs.method import build as build_iqgs
from iqgs.methods.iqgs.params import HungarianParams, IQGSParams
from iqgs.methods.omniseg3d.method import build as build_omniseg
from iqgs.methods.omniseg3d.params import OmniSegParams
from iqgs.methods.protocol import Method, SceneFacts
from iqgs.methods.sa3d.method import build as build_sa3d
from iqgs.methods.sa3d.params import SA3DParams
from iqgs.methods.saga.method import build as build_saga
from iqgs.methods.saga.params import SAGAParams


@dataclass(frozen=True)
class Entry:
    """One row of the table of methods."""

    summary: str
    params: type  # frozen dataclass: its group of flags and its constructor's argument
    build: Callable[[Any, SceneFacts, torch.Generator], Method]
    file: str  # of a saved iteration
    attribute: bool = True  # splats carry a learned attribute of `instance_dim` channels
    per_view_ids: bool = False  # it does not trust that equal ids of two views are one object
    closed_form: bool = False  # it is fitted view by view instead of trained
    rounds: Callable[[Any], int] = lambda params: 1  # of a closed form through all views
    frozen: bool = False  # it needs splats that do not move: no joint route
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_SHORT_QUERIES: dict[str, Any] = {
    **{"num_queries": 0, "attention_pixels": 2048},
    **{"lr_instance_opacity": 0.05, "edge_pixels": 0.3},
}
_SHORT: dict[str, Any] = {**_SHORT_QUERIES, "focal_gamma": -1.0, "correction_iou": -1.0}
_PAPER: dict[str, Any] = {"focal_alpha": 0.25}

# Methods that need no common ids, and whose masks may overlap, learn from the masks as they are.
_AS_THEY_ARE: dict[str, Any] = {"repair_masks": "off"}

# The gate has to learn in some hundred steps; hard pairs alone are mostly the faults of the masks.
_SAGA: dict[str, Any] = {
    **_AS_THEY_ARE,
    **{"instance_dim": 32, "instance_iterations": 800, "lr_iqgs": 0.05, "pixels_per_step": 512},
    **{"mask_scales": 3, "random_pairs": 20000, "cluster_splats": 12000, "cluster_epsilon": 0.5},
}
_SAGA_PAPER: dict[str, Any] = {
    **{"instance_dim": 32, "instance_std": 0.01, "instance_iterations": 10000},
    **{"lr_instance": 0.0025, "lr_iqgs": 0.0025, "pixels_per_step": 1000},
}

# At the released temperatures small neighbours never come apart.
_OMNISEG: dict[str, Any] = {
    **_AS_THEY_ARE,
    **{"instance_std": 0.25, "instance_iterations": 1000, "pixels_per_step": 4096},
    **{"patch_pixels": 3, "temperature_low": 0.1, "temperature_high": 0.2, "cluster_min_size": 20},
}
_OMNISEG_PAPER: dict[str, Any] = {
    **{"instance_std": 0.25, "instance_iterations": 10000, "lr_instance": 0.01},
    **{"pixels_per_step": 32768},
}

METHODS: dict[str, Entry] = {
    "iqgs": Entry(
        "queries own global ids (the paper's method)",
        IQGSParams,
        build_iqgs,
        "iqgs.pth",
        presets={"default": _SHORT, "paper": _PAPER, "paper-literal": _PAPER},
    ),
    "iqgs-h": Entry(
        "ids may be fresh in each view: tracks found in 3D, or a matching in every view",
        HungarianParams,
        build_iqgs,
        "iqgs.pth",
        per_view_ids=True,
        presets={
            "default": {**_SHORT, "steady_matching": True, "usage_cost": 0.3},
            "paper": _PAPER,
            "paper-literal": _PAPER,
        },
    ),
    "gaussian-grouping": Entry(
        "a linear classifier of the rendered attribute, one class an id",
        gaussian_grouping.GroupingParams,
        gaussian_grouping.build,
        "gaussian-grouping.pth",
        presets={"paper": {"classes": 256, "instance_std": 1.02}},
    ),
    "omegas": Entry(
        "gaussian-grouping with cosines between neighbouring splats",
        omegas.OmegasParams,
        omegas.build,
        "omegas.pth",
        presets={
            "paper": {"variant": "released", "classes": 256, "instance_dim": 8},
        },
    ),
    "gaga": Entry(
        "gaussian-grouping on ids that a memory bank of splats found (fresh in each view)",
        gaga.GagaParams,
        gaga.build,
        "gaga.pth",
        per_view_ids=True,
        frozen=True,
        presets={
            "default": {"repair_masks": "off"},
            "paper": {"bank_members": "front", "instance_std": 1.02},
        },
    ),
    "unified-lift": Entry(
        "contrastive features and a codebook; ids may be fresh in each view",
        unified_lift.UnifiedLiftParams,
        unified_lift.build,
        "unified-lift.pth",
        per_view_ids=True,
        presets={"default": {"repair_masks": "off"}, "paper": {"codes": 256, "temperature": 1.0}},
    ),
    "id-map": Entry(
        "the queries of iqgs learn from maps of ids instead of masks (the paper's ablation)",
        id_map.IdMapParams,
        id_map.build,
        "id-map.pth",
        presets={"default": {**_SHORT_QUERIES, "lambda_reg": 0.3, "lambda_geom": 0.3}},
    ),
    "decision": Entry(
        "splats carry distributions over ids, which are blended along the ray",
        decision.DecisionParams,
        decision.build,
        "decision.pth",
    ),
    "vote": Entry(
        "every splat takes the id with most blending weight; closed form",
        vote.VoteParams,
        vote.build,
        "vote.pth",
        attribute=False,
        closed_form=True,
    ),
    "saga": Entry(
        "contrastive features gated by scale, clustered (ids may be fresh in each view)",
        SAGAParams,
        build_saga,
        "saga.pth",
        per_view_ids=True,
        frozen=True,
        presets={"default": _SAGA, "paper": _SAGA_PAPER},
    ),
    "omniseg3d": Entry(
        "hierarchical contrastive features, clustered (ids may be fresh in each view)",
        OmniSegParams,
        build_omniseg,
        "omniseg3d.pth",
        per_view_ids=True,
        frozen=True,
        presets={"default": _OMNISEG, "paper": _OMNISEG_PAPER},
    ),
    "sa3d": Entry(
        "objects prompt a segmenter from view to view; closed form (ids may be fresh in each view)",
        SA3DParams,
        build_sa3d,
        "sa3d.pth",
        attribute=False,
        per_view_ids=True,
        closed_form=True,
        rounds=lambda params: params.passes,
        presets={"default": _AS_THEY_ARE},
    ),
}


def build_method(name: str, params: Any, facts: SceneFacts) -> Method:
    """A fresh method on the CPU; the same seed gives the same weights. Raises UserError."""
    generator = torch.Generator().manual_seed(facts.seed)
    return METHODS[name].build(params, facts, generator)
