# SPDX-License-Identifier: Apache-2.0
"""Random and extreme splats: the native backend gives finite numbers or a sentence, and what the
reference gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diff_surfel_rasterization import available_backends, rasterize
from tests.fuzzing import LONGER
from tests.rasterizer.scenes import detached, make_view, random_surfels

CASES = 150 * LONGER
EXTREMES = (
    0.0,
    -0.0,
    1e-45,
    1e-20,
    1e7,
    -1e7,
    1e20,
    3e38,
    float("inf"),
    -float("inf"),
    float("nan"),
)
IMAGES = ("color", "features", "alpha", "depth", "normal")

pytestmark = pytest.mark.skipif(
    "cpu" not in available_backends(), reason="the native library is not built"
)


def drawn(case: int, wild: bool):
    """Splats and a view of a case: 0 to 200 splats, sides 1 to 70; some entries wild."""
    generator = torch.Generator().manual_seed(case)
    count, width, height = (
        int(torch.randint(low, high, (1,), generator=generator))
        for low, high in ((0, 201), (1, 71), (1, 71))
    )
    surfels = detached(random_surfels(max(count, 1), seed=case), torch.float32)
    names = ("means", "scales", "rotations", "opacities", "features")
    tensors = {k: v for k, v in vars(surfels).items() if isinstance(v, torch.Tensor)}
    changed = {name: values[:count].clone() for name, values in tensors.items()}
    if wild and count:
        for name in names[: 1 + case % 5]:
            values = changed[name]
            place = torch.rand(values.shape, generator=generator) < 0.05
            picks = torch.randint(len(EXTREMES), values.shape, generator=generator)
            changed[name] = torch.where(place, torch.tensor(EXTREMES)[picks], values)
    return replace(surfels, **changed), make_view(width, height)


def wild_rows(surfels) -> torch.Tensor:
    """Splats with an entry that is not finite, or whose square overflows."""
    names = ("means", "scales", "rotations", "opacities", "colors", "features")
    parts = [getattr(surfels, name).flatten(1) for name in names]
    return ~torch.cat(parts, 1).square().isfinite().all(1)


def test_extreme_splats_do_not_end_the_program() -> None:
    """Images are made, or one sentence says why not; a finite input gives finite images."""
    outcomes = {"finite": 0, "not finite": 0, "refused": 0}
    for case in range(CASES):
        surfels, view = drawn(case, wild=True)
        leaves = {n: getattr(surfels, n).requires_grad_() for n in ("means", "scales", "opacities")}
        try:
            out = rasterize(replace(surfels, **leaves), view, "cpu")
        except (ValueError, RuntimeError) as error:
            assert str(error) and "\n" not in str(error)
            outcomes["refused"] += 1
            continue
        images = [getattr(out, name) for name in IMAGES]
        if len(surfels.means):
            torch.stack(
                [image.nan_to_num().clamp(-1e3, 1e3).sum() for image in images]
            ).sum().backward()
        finite = all(bool(image.isfinite().all()) for image in images)
        assert finite or bool(wild_rows(surfels).any()), case
        outcomes["finite" if finite else "not finite"] += 1
    assert outcomes["finite"] > CASES / 10, outcomes


def test_ordinary_splats_are_those_of_the_reference() -> None:
    """Pixels next to a threshold may differ: few, and counted."""
    pixels = differing = 0
    for case in range(CASES // 10):
        surfels, view = drawn(case, wild=False)
        one, two = (rasterize(surfels, view, backend) for backend in ("cpu", "reference"))
        error = (one.color - two.color).abs().amax(0)
        pixels += error.numel()
        differing += int((error > 1e-4).sum())
    assert differing <= 1e-4 * pixels, (differing, pixels)
