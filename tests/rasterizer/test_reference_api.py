# SPDX-License-Identifier: Apache-2.0
"""Dispatch, messages and the constants that two languages share."""

from __future__ import annotations

import logging
import re
from dataclasses import replace

import pytest
import torch

from diff_surfel_rasterization import available_backends, backends, constants, rasterize
from tests.rasterizer.build_tools import PACKAGE
from tests.rasterizer.scenes import detached, make_view, random_surfels

HEADER = PACKAGE / "csrc" / "common" / "constants.h"


@pytest.fixture
def surfels():
    return detached(random_surfels(4, seed=71), torch.float32)


@pytest.fixture
def no_native(monkeypatch):
    """A machine on which nothing was compiled."""
    monkeypatch.setattr(backends, "_load_native", lambda: (None, backends.NOT_BUILT))
    backends._warn_slow.cache_clear()
    yield
    backends._warn_slow.cache_clear()


def test_constants_agree_with_the_header():
    pattern = re.compile(r"constexpr (?:float|int) (\w+) = ([^;]+);")
    header = {name: value.replace("f", "") for name, value in pattern.findall(HEADER.read_text())}
    shared = [name for name in vars(constants) if name.isupper()]
    assert len(shared) >= 9
    for name in shared:
        numerator, _, denominator = header[name].partition("/")
        value = float(numerator) / float(denominator or 1)
        assert value == pytest.approx(getattr(constants, name), rel=1e-7), name


def test_without_a_build_auto_warns_once_and_uses_the_reference(surfels, no_native, caplog):
    with caplog.at_level(logging.WARNING):
        first = rasterize(surfels, make_view())
        rasterize(surfels, make_view())
    expected = rasterize(surfels, make_view(), backend="reference")
    assert torch.equal(first.color, expected.color)
    assert available_backends() == ("reference",)
    messages = [r.getMessage() for r in caplog.records]
    assert len(messages) == 1 and backends.REBUILD in messages[0] and "\n" not in messages[0]


@pytest.mark.parametrize("name", ["cuda", "cpu"])
def test_a_backend_that_is_not_built_names_the_command(surfels, no_native, name):
    expected = f"'{name}' cannot be used: .* is not built; build it: {backends.REBUILD}"
    with pytest.raises(RuntimeError, match=expected):
        rasterize(surfels, make_view(), backend=name)


def test_unknown_backend(surfels):
    with pytest.raises(ValueError, match="auto, cpu, cuda, reference, got 'tpu'"):
        rasterize(surfels, make_view(), backend="tpu")


def test_float64_goes_to_the_reference_unless_told_otherwise(surfels):
    exact = detached(surfels)
    assert rasterize(exact, make_view()).color.dtype == torch.float64
    if "cpu" in available_backends():
        with pytest.raises(ValueError, match="needs float32 tensors on cpu, got torch.float64"):
            rasterize(exact, make_view(), backend="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": torch.zeros(4, 3)}, r"surfels.scales must be \[4, 2\], got \[4, 3\]"),
        ({"opacities": torch.zeros(4)}, r"surfels.opacities must be \[4, 1\], got \[4\]"),
        ({"rotations": [1]}, r"surfels.rotations must be a tensor \[4, 4\], got list"),
        ({"sh": torch.zeros(4, 1, 3)}, "exactly one of surfels.colors, surfels.sh .* got both"),
        ({"colors": None}, "exactly one of surfels.colors, surfels.sh .* got neither"),
        ({"colors": None, "sh": torch.zeros(4, 3, 3)}, r"K >= 4, 3\] for sh_degree 1, got"),
        ({"features": torch.zeros(5, 2)}, r"surfels.features must be \[4, C\], got \[5, 2\]"),
        ({"screen_grad": torch.zeros(4, 2)}, r"surfels.screen_grad must be \[4, 3\]"),
        ({"colors": torch.zeros(4, 3).double()}, "surfels.colors must be torch.float32 like"),
        ({"means": torch.zeros(4, 3).int()}, "surfels.means must be of a floating type"),
        ({"scales": torch.zeros(4, 2, device="meta")}, "surfels.scales must be on cpu like means"),
    ],
)
def test_messages_about_splats(surfels, change, message):
    with pytest.raises(ValueError, match=f"rasterize: .*{message}"):
        rasterize(replace(surfels, **change), make_view(sh_degree=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "settings.width x settings.height must be at least 1 x 1, got 0 x 18"),
        ({"fx": -1.0}, "settings.fx, settings.fy must be > 0"),
        ({"near": 100.0}, "must be 0 < near < far"),
        ({"sh_degree": 4}, "settings.sh_degree must be 0 to 3, got 4"),
        ({"low_pass_depth": "plane"}, "low_pass_depth must be exact or center, got plane"),
        ({"low_pass_anchor": "box"}, "low_pass_anchor must be projected or aabb, got box"),
        ({"world_to_view": torch.eye(3)}, r"world_to_view must be \[4, 4\], got \[3, 3\]"),
        ({"background": torch.zeros(4)}, r"settings.background must be \[3\], got \[4\]"),
    ],
)
def test_messages_about_the_view(surfels, change, message):
    with pytest.raises(ValueError, match=message):
        rasterize(surfels, make_view(**change))
