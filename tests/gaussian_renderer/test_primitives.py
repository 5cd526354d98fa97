# SPDX-License-Identifier: Apache-2.0
"""The records of the kinds of splats agree with what the other floors call them."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from arguments.groups import PipelineParams
from arguments.options import options_of
from arguments.presets import OF_PRIMITIVE
from diff_surfel_rasterization import Ellipsoids, Surfels
from gaussian_renderer.primitives import ELLIPSOID, PRIMITIVES, SURFEL, primitive_of
from scene.parameters import SCALE_COUNTS, Kind
from tests.gaussian_renderer.test_renderer import make_splats


def test_the_kinds_are_the_same_everywhere() -> None:
    flag = next(field for field in options_of(PipelineParams) if field.name == "primitive")
    assert tuple(PRIMITIVES) == get_args(Kind) == flag.metadata["choices"]
    assert {record.scale_dims: name for name, record in PRIMITIVES.items()} == SCALE_COUNTS


def test_no_preset_asks_for_a_term_that_a_primitive_does_not_have() -> None:
    for name, record in PRIMITIVES.items():
        switched_off = {"normal", "distortion"} - record.terms
        zeros = {key for key, value in OF_PRIMITIVE.get(name, {}).items() if value == 0}
        assert {f"lambda_{term}" for term in switched_off} == zeros


@pytest.mark.parametrize(("record", "kind"), [(SURFEL, Surfels), (ELLIPSOID, Ellipsoids)])
def test_splats_are_packed_as_the_rasterizers_record(record: object, kind: type) -> None:
    splats = make_splats(kind.SCALES)
    assert primitive_of(splats) is record
    packed = record.pack(splats, features=splats.instance)
    assert type(packed) is kind and packed.sh is None and not bool(packed.colors.any())
    assert packed.means.requires_grad and torch.equal(packed.scales, splats.scales)
    frozen = record.pack(splats, detach=True, sh=splats.sh)
    assert not frozen.means.requires_grad and frozen.sh.requires_grad and frozen.colors is None


def test_splats_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="expected splats of kind 3dgs, got 2dgs"):
        ELLIPSOID.pack(make_splats(2))


def test_areas_of_flat_ellipsoids_are_those_of_discs_and_of_others_larger() -> None:
    discs = torch.tensor([[0.3, 0.2], [1.0, 4.0]], dtype=torch.float64)
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        flat = torch.cat([discs, torch.full((2, 1), 1e-12)], dim=1)[:, order]
        torch.testing.assert_close(ELLIPSOID.area(flat), SURFEL.area(discs))
    cubes = torch.tensor([[0.5, 0.5, 0.5]])
    assert float(ELLIPSOID.area(cubes)) == 0.75  # three faces of a quarter each
