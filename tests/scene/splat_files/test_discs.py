# SPDX-License-Identifier: Apache-2.0
"""Which three-scale splats are discs, and that dropping an axis keeps the shape."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scene.splat_files.discs import normal_axes, thickness, without_axis
from tests.scene.splat_files.formula import discs


def thickened(raw: dict[str, np.ndarray], axes: np.ndarray, log_scale: np.ndarray) -> dict:
    """The discs as 3D Gaussians whose axis `axes` [N] is the normal, of the given thickness."""
    turns = Rotation.from_quat(raw["quaternions"][:, [1, 2, 3, 0]].astype(np.float64)).as_matrix()
    count = len(axes)
    scales = np.empty((count, 3), np.float32)
    frames = np.empty_like(turns)
    for row, axis in enumerate(axes):
        # a right-handed frame in which the old third axis stands at place `axis`
        order = np.roll([0, 1, 2], axis - 2)
        frames[row] = turns[row][:, order]
        scales[row] = np.append(raw["log_scales"][row], log_scale[row])[order]
    quaternions = Rotation.from_matrix(frames).as_quat()[:, [3, 0, 1, 2]].astype(np.float32)
    return {**raw, "log_scales": scales, "quaternions": quaternions}


def ellipses(raw: dict[str, np.ndarray]) -> np.ndarray:
    turns = Rotation.from_quat(raw["quaternions"][:, [1, 2, 3, 0]].astype(np.float64)).as_matrix()
    axes = turns[:, :, :2] * np.exp(raw["log_scales"].astype(np.float64))[:, None, :]
    return axes @ axes.transpose(0, 2, 1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_flat_axis_may_be_any(axis: int) -> None:
    raw = discs()
    axes = np.full(len(raw["means"]), axis)
    thick = thickened(raw, axes, np.full(len(axes), np.log(1e-6)))
    found = normal_axes(thick["log_scales"])
    assert found is not None and np.array_equal(found, axes)
    flat = without_axis(thick, found)
    assert flat["log_scales"].shape == (len(axes), 2)
    np.testing.assert_allclose(ellipses(flat), ellipses(raw), atol=1e-7)
    if axis == 2:
        assert np.array_equal(flat["quaternions"], thick["quaternions"])


def test_the_flat_axis_may_differ_from_splat_to_splat() -> None:
    raw = discs()
    axes = np.arange(len(raw["means"])) % 3
    thick = thickened(raw, axes, raw["log_scales"].min(axis=1) - 6)
    found = normal_axes(thick["log_scales"])
    assert found is not None and np.array_equal(found, axes)
    np.testing.assert_allclose(ellipses(without_axis(thick, found)), ellipses(raw), atol=1e-7)


@pytest.mark.parametrize("axis", [1, 2])
def test_tiny_discs_do_not_hide_the_thickness_of_the_others(axis: int) -> None:
    """A tenth of the discs is as small as the thickness that viewers got."""
    scales = np.full((100, 3), -4.0)
    scales[:, axis] = np.log(1e-6)
    scales[:10, 0] = -14.5
    assert normal_axes(scales).tolist() == [axis] * 100


@pytest.mark.parametrize(
    "scales",
    [
        np.random.default_rng(0).normal(-4, 1, (200, 3)),  # ordinary 3D Gaussians
        np.full((200, 3), -3.0),  # all alike, no axis shorter
        np.array([[-3.0, -3.0, -5.5]]).repeat(200, 0),  # flattened, but a twelfth thick
        np.array([[-3.0, -3.0, -9.0]] * 90 + [[-3.0, -3.1, -3.2]] * 10),  # some are not
    ],
)
def test_gaussians_with_three_axes_are_no_discs(scales: np.ndarray) -> None:
    assert normal_axes(scales) is None


def test_one_splat() -> None:
    assert normal_axes(np.array([[-3.0, -20.0, -4.0]])).tolist() == [1]
    assert normal_axes(np.array([[-3.0, -3.5, -4.0]])) is None


def test_thickness_is_shortest_over_middle() -> None:
    assert thickness(np.log([[4.0, 0.2, 2.0], [0.3, 5.0, 3.0]])) == pytest.approx(0.1)
