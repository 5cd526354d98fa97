# SPDX-License-Identifier: Apache-2.0
"""What the tests of weights by quads share: scenes, and the same weights as a dense matrix."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diff_surfel_rasterization import BlendWeights, QuadWeights, RasterSettings, Splats
from tests.rasterizer.scenes import detached, make_view, random_ellipsoids, random_surfels

HALF_ERROR = 2.0**-11  # of a number in half precision, relative
LEAST_HALF = 2.0**-25  # absolute, of the smallest ones

Case = tuple[Splats, RasterSettings]


def _tall() -> Case:
    """Splats that reach over several bands of quads."""
    surfels = random_surfels(120, seed=62, log_scale=(-2.5, 0.3))
    return surfels, make_view(45, 150)


CASES: dict[str, Callable[[], Case]] = {
    "small": lambda: (random_surfels(300, seed=41), make_view(37, 29)),
    "bands": _tall,
    "ragged": lambda: (random_surfels(200, seed=4, log_scale=(-2.0, 0.0)), make_view(17, 33)),
    "one_pixel": lambda: (random_surfels(200, seed=4, log_scale=(-2.0, 0.0)), make_view(1, 1)),
    "ellipsoids": lambda: (random_ellipsoids(300, seed=41), make_view(37, 29)),
    "tall_ellipsoids": lambda: (
        random_ellipsoids(120, seed=62, log_scale=(-2.5, 0.3)),
        make_view(45, 150),
    ),
    "saturated": lambda: (random_surfels(400, seed=5, log_scale=(-1.0, 0.5)), make_view(32, 64)),
}


def case_of(name: str, dtype: torch.dtype = torch.float32) -> Case:
    surfels, view = CASES[name]()
    return detached(surfels, dtype), view


def dense_rows(weights: BlendWeights) -> Tensor:
    """Weights by pixel and splat, [P, N] float64."""
    pixel = torch.repeat_interleave(
        torch.arange(len(weights.row_start) - 1), weights.row_start.diff()
    )
    matrix = torch.zeros(len(weights.row_start) - 1, weights.n_splats, dtype=torch.float64)
    return matrix.index_put((pixel, weights.splat.long()), weights.weight.double())


def dense_quads(weights: QuadWeights) -> Tensor:
    """The same, slowly, from the table's definition."""
    matrix = torch.zeros(weights.width * weights.height, weights.n_splats, dtype=torch.float64)
    rows = -(-weights.height // 2)
    quad = 0
    for above in range(0, rows, 16):
        for column in range(-(-weights.width // 2)):
            for line in range(above, min(above + 16, rows)):
                for entry in range(
                    int(weights.quad_start[quad]), int(weights.quad_start[quad + 1])
                ):
                    row = int(weights.row[entry])
                    splat = row
                    if row >= weights.n_splats:
                        splat = int(weights.extra[row - weights.n_splats])
                    for corner, weight in enumerate(weights.weight[entry].tolist()):
                        x, y = 2 * column + corner % 2, 2 * line + corner // 2
                        if x < weights.width and y < weights.height:
                            matrix[y * weights.width + x, splat] = weight
                        else:
                            assert weight == 0, "a weight outside the image"
                quad += 1
    assert quad == len(weights.quad_start) - 1
    return matrix


def assert_rounded(found: Tensor, exact: Tensor) -> None:
    """Every weight is within half a unit of its last place in half precision."""
    assert bool(((found - exact).abs() <= HALF_ERROR * exact + LEAST_HALF).all())
