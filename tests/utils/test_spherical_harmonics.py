# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch

from utils.spherical_harmonics import (
    basis,
    coefficient_count,
    evaluate,
    rgb_to_sh_dc,
    rotation_matrix,
    sh_dc_to_rgb,
)


def _directions(count: int) -> torch.Tensor:
    rows = torch.randn(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=-1)


def _complex_harmonic(degree: int, order: int, polar: np.ndarray, azimuth: np.ndarray):
    if hasattr(scipy.special, "sph_harm_y"):
        return scipy.special.sph_harm_y(degree, order, polar, azimuth)
    return scipy.special.sph_harm(order, degree, azimuth, polar)  # before scipy 1.15


def test_basis_equals_scipys_harmonics() -> None:
    """Real form of scipy's: with its sign (-1)^m, Y_l^m = sqrt2 Re for m > 0, and
    Y_l^-m = sqrt2 Im of the same order."""
    directions = _directions(200)
    x, y, z = directions.numpy().T
    polar, azimuth = np.arccos(z), np.arctan2(y, x)
    ours = basis(directions, 3).numpy()
    for degree in range(4):
        for order in range(-degree, degree + 1):
            value = _complex_harmonic(degree, abs(order), polar, azimuth)
            part = value.real if order >= 0 else value.imag
            expected = part * (np.sqrt(2) if order else 1)
            column = degree * (degree + 1) + order
            np.testing.assert_allclose(ours[:, column], expected, atol=1e-12)


def test_basis_is_orthonormal() -> None:
    """Gauss-Legendre in z times a uniform azimuth integrates degree 6 exactly."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    azimuth = np.arange(16) * 2 * np.pi / 16
    z, phi = map(np.ravel, np.meshgrid(nodes, azimuth, indexing="ij"))
    ring = np.sqrt(1 - z**2)
    directions = torch.from_numpy(np.stack([ring * np.cos(phi), ring * np.sin(phi), z], axis=1))
    values = basis(directions, 3)
    area = torch.from_numpy(np.repeat(weights * 2 * np.pi / 16, 16))
    gram = values.T @ (values * area[:, None])
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), atol=1e-12, rtol=0)


def test_constant_colour_round_trip() -> None:
    rgb = torch.rand(7, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(sh_dc_to_rgb(rgb_to_sh_dc(rgb)), rgb)
    sh = torch.zeros(7, 16, 3)
    sh[:, 0] = rgb_to_sh_dc(rgb)
    torch.testing.assert_close(evaluate(sh, torch.randn(7, 3), 3), rgb)


def test_evaluate_uses_only_the_active_degree_and_any_length() -> None:
    directions = _directions(5)
    sh = torch.randn(5, 16, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    lower = sh.clone()
    lower[:, 4:] = 0
    torch.testing.assert_close(evaluate(sh, directions, 1), evaluate(lower, directions * 7, 3))
    with pytest.raises(ValueError, match="needs 16 coefficients"):
        evaluate(sh[:, :9], directions, 3)


def test_counts() -> None:
    assert [coefficient_count(d) for d in range(4)] == [1, 4, 9, 16]
    with pytest.raises(ValueError, match="degree"):
        coefficient_count(4)


def _rotation(seed: int) -> torch.Tensor:
    from scipy.spatial.transform import Rotation

    return torch.from_numpy(Rotation.random(random_state=seed).as_matrix())


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_turned_coefficients_show_the_same_colours_along_turned_directions(degree: int) -> None:
    turn, directions = _rotation(3), _directions(100)
    generator = torch.Generator().manual_seed(1)
    sh = torch.randn(100, coefficient_count(degree), 3, generator=generator, dtype=torch.float64)
    turned = rotation_matrix(turn, degree) @ sh
    expected = evaluate(sh, directions, degree)
    torch.testing.assert_close(evaluate(turned, directions @ turn.T, degree), expected)
    if degree:  # the directions that were not turned show something else
        assert (evaluate(turned, directions, degree) - expected).abs().max() > 0.1


def test_rotation_matrices_are_orthogonal_and_follow_each_other() -> None:
    first, second = _rotation(1), _rotation(2)
    both = rotation_matrix(second @ first, 3)
    torch.testing.assert_close(both, rotation_matrix(second, 3) @ rotation_matrix(first, 3))
    torch.testing.assert_close(both @ both.T, torch.eye(16, dtype=torch.float64))
    for degree in range(4):  # harmonics of other degrees do not mix in
        block = slice(degree * degree, (degree + 1) ** 2)
        assert both[block, : block.start].abs().sum() == 0
        assert both[block, block.stop :].abs().sum() == 0
