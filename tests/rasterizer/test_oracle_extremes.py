# SPDX-License-Identifier: Apache-2.0
"""Values that optimisation runs into: every image and gradient stays finite."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from diff_surfel_rasterization import Splats, rasterize
from tests.rasterizer.scenes import (
    IMAGES,
    detached,
    make_view,
    map_tensors,
    random_ellipsoids,
    random_loss,
    random_surfels,
)

both_kinds = pytest.mark.parametrize(
    "make", [random_surfels, random_ellipsoids], ids=["surfels", "ellipsoids"]
)


def assert_finite(surfels: Splats, backend: str, device: str, **changes: object) -> Splats:
    """Render and differentiate in float32, where trouble shows first."""
    leaves = map_tensors(
        surfels, lambda t: t.detach().to(device=device, dtype=torch.float32).requires_grad_()
    )
    settings = make_view(33, 20, **changes)
    settings = replace(
        settings,
        world_to_view=settings.world_to_view.to(device),
        background=settings.background.to(device),
    )
    output = rasterize(leaves, settings, backend)
    for name in IMAGES:
        assert bool(torch.isfinite(getattr(output, name)).all()), name
    random_loss(output, 0).backward()
    for name, tensor in vars(leaves).items():
        if tensor is not None and tensor.grad is not None:
            assert bool(torch.isfinite(tensor.grad).all()), f"gradient of {name}"
    return leaves


@both_kinds
@pytest.mark.parametrize("depth", ["exact", "center"])
@pytest.mark.parametrize("log_scale", [(-28.0, -20.0), (-12.0, 4.0), (6.0, 9.0)])
def test_scales_from_nothing_to_everything(make, backend, backend_type, log_scale, depth):
    surfels = make(60, seed=81, log_scale=log_scale)
    assert_finite(surfels, backend, backend_type[1], low_pass_depth=depth)


@both_kinds
def test_opacities_at_their_ends(make, backend, backend_type):
    surfels = detached(make(12, seed=82, log_scale=(-2, 0)))
    ends = torch.tensor([0.0, 1e-30, 1 / 255, 0.004, 0.99, 1.0] * 2, dtype=torch.float64)
    leaves = assert_finite(replace(surfels, opacities=ends[:, None]), backend, backend_type[1])
    assert float(leaves.opacities.grad[:2].abs().max()) == 0.0


@both_kinds
def test_positions_at_and_around_the_camera(make, backend, backend_type):
    surfels = detached(make(9, seed=83, log_scale=(-2, 0)))
    view = make_view().world_to_view
    center = -view[:3, :3].T @ view[:3, 3]
    forward = view[2, :3]
    steps = torch.tensor([0.0, 1e-7, 0.2, 0.2000001, 0.21, 1e4, 1e7, -1e-7, -5.0]).double()
    means = center + steps[:, None] * forward
    assert_finite(replace(surfels, means=means), backend, backend_type[1])


@both_kinds
def test_quaternions_of_any_length(make, backend, backend_type):
    surfels = detached(make(8, seed=84, log_scale=(-2, 0)))
    lengths = torch.tensor([1e-6, 1e-3, 1.0, 1e3, 1e6, 0.0, 1.0, 1.0]).double()
    unit = surfels.rotations / surfels.rotations.norm(dim=1, keepdim=True)
    leaves = assert_finite(
        replace(surfels, rotations=unit * lengths[:, None]), backend, backend_type[1]
    )
    # The length has no effect, so the gradient has no part along it.
    given = leaves.rotations.detach()[1:5]
    along = (leaves.rotations.grad[1:5] * given).sum(dim=1)
    size = leaves.rotations.grad[1:5].norm(dim=1) * given.norm(dim=1)
    assert float((along.abs() / (size + 1e-12)).max()) < 1e-3


def test_splats_near_edge_on(backend, backend_type):
    surfels = detached(random_surfels(24, seed=85, log_scale=(-1.5, -0.5)))
    view = make_view().world_to_view
    center = -view[:3, :3].T @ view[:3, 3]
    tilts = torch.logspace(-7, -1, 24, dtype=torch.float64)
    quaternions = []
    for mean, tilt in zip(surfels.means, tilts, strict=True):
        ray = torch.nn.functional.normalize(mean - center, dim=0)
        side = torch.nn.functional.normalize(ray.cross(forward_of(ray), dim=0), dim=0)
        normal = side * math.cos(float(tilt)) + ray * math.sin(float(tilt))
        quaternions.append(turn_z_to(normal))
    tilted = replace(surfels, rotations=torch.stack(quaternions))
    assert_finite(tilted, backend, backend_type[1])


def forward_of(ray: torch.Tensor) -> torch.Tensor:
    """Some direction that is not `ray`."""
    return torch.tensor([0.3, 0.9, 0.1], dtype=ray.dtype)


def turn_z_to(normal: torch.Tensor) -> torch.Tensor:
    """A quaternion that turns the z axis to a unit vector."""
    x, y, z = normal.tolist()
    return torch.tensor([1 + z, -y, x, 0.0], dtype=normal.dtype)
