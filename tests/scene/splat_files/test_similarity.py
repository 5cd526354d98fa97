# SPDX-License-Identifier: Apache-2.0
"""Splats moved as a whole: the same picture from the moved camera, and back again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from gaussian_renderer import render
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel
from scene.splat_files.similarity import transformed
from tests.scene.splat_files.formula import discs

TURN = Rotation.from_rotvec([0.9, -1.7, 0.4]).as_matrix()
SHIFT = np.array([3.0, -20.0, 7.5])


def covariances(raw: dict[str, np.ndarray]) -> np.ndarray:
    """[N, 3, 3] of R S S^T R^T by scipy, wxyz quaternions."""
    turns = Rotation.from_quat(raw["quaternions"][:, [1, 2, 3, 0]].astype(np.float64)).as_matrix()
    scales = np.exp(raw["log_scales"].astype(np.float64))
    axes = turns[:, :, : scales.shape[1]] * scales[:, None, :]
    return axes @ axes.transpose(0, 2, 1)


@pytest.mark.parametrize("scales", [2, 3])
def test_places_and_shapes_follow_the_formula(scales: int) -> None:
    raw = discs(scales=scales, instance=3)
    kept = {name: array.copy() for name, array in raw.items()}
    moved = transformed(raw, TURN, 2.5, SHIFT)
    expected = np.einsum("ij,nj->ni", 2.5 * TURN, raw["means"].astype(np.float64)) + SHIFT
    np.testing.assert_allclose(moved["means"], expected, rtol=1e-6, atol=2e-6)
    shape = 2.5**2 * TURN @ covariances(raw) @ TURN.T
    np.testing.assert_allclose(covariances(moved), shape, rtol=1e-4, atol=1e-6 * shape.max())
    for name in ("opacity_logits", "sh_dc", "instance"):
        assert np.array_equal(moved[name], raw[name])
    assert all(np.array_equal(raw[name], kept[name]) for name in raw)
    assert all(array.dtype == np.float32 for array in moved.values())


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_moved_camera_sees_the_same_picture(degree: int) -> None:
    """Colours that change with the direction included: the rasterizer is the judge."""
    raw = discs(count=200, degree=degree)
    raw["opacity_logits"] /= 8
    pose = torch.eye(4, dtype=torch.float64)
    pose[2, 3] = 9.0
    camera = Camera(pose, 60.0, 60.0, 32.0, 24.0, 64, 48, "a.png", 0)
    scale = 1.75
    moved_pose = torch.eye(4, dtype=torch.float64)
    # x_view = scale * (R0 x + t0) for x = R^T (x' - t) / scale: depths are scaled, pixels stay.
    moved_pose[:3, :3] = torch.from_numpy(TURN.T)
    moved_pose[:3, 3] = torch.tensor([0, 0, 9.0 * scale]) - torch.from_numpy(TURN.T @ SHIFT)
    moved_camera = dataclasses.replace(camera, world_to_view=moved_pose)
    background = torch.zeros(3)
    pictures = []
    for values, view in ((raw, camera), (transformed(raw, TURN, scale, SHIFT), moved_camera)):
        tensors = {name: torch.from_numpy(array.copy()) for name, array in values.items()}
        model = GaussianModel(tensors, active_sh_degree=degree)
        pictures.append(render(view, model, background=background).color.detach())
    assert float(pictures[0].std()) > 0.05
    torch.testing.assert_close(pictures[0], pictures[1], atol=5e-4, rtol=0)


def test_the_inverse_brings_everything_back() -> None:
    raw = discs(degree=3)
    back = transformed(transformed(raw, TURN, 0.3, SHIFT), TURN.T, 1 / 0.3, -TURN.T @ SHIFT / 0.3)
    for name in raw:
        reach = np.abs(SHIFT).max() if name == "means" else 1.0
        np.testing.assert_allclose(back[name], raw[name], atol=4e-6 * reach, rtol=0)


def test_a_shift_alone_leaves_directions_to_the_bit() -> None:
    raw = discs(degree=2)
    moved = transformed(raw, translation=SHIFT)
    assert all(np.array_equal(moved[name], raw[name]) for name in raw if name != "means")


@pytest.mark.parametrize(
    "rotation", [np.diag([1, 1, -1]), 2 * np.eye(3), np.eye(2), np.full((3, 3), np.nan)]
)
def test_what_is_no_rotation_is_refused(rotation: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected a rotation"):
        transformed(discs(3), rotation)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_what_is_no_scale_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="positive scale"):
        transformed(discs(3), scale=scale)
