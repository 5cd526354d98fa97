# SPDX-License-Identifier: Apache-2.0
"""Projection in pairs of floats: their arithmetic against exact numbers, and scenes at the extremes
against the float64 reference and against the same kernels in double precision."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import isqrt, log
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import RasterSettings, Splats, available_backends, times
from tests.rasterizer import cuda_host
from tests.rasterizer.cuda_cases import CASES
from tests.rasterizer.scenes import detached, make_view, random_ellipsoids, random_surfels

if "cpu" not in available_backends():
    pytest.skip("the native library is not built", allow_module_level=True)
if cuda_host.compiler() is None:
    pytest.skip("no host compiler: apt install g++", allow_module_level=True)

from diff_surfel_rasterization import native  # noqa: E402
from tests.rasterizer.cpu_cases import assert_agrees, compare  # noqa: E402
from tests.rasterizer.test_cuda_host import results  # noqa: E402

PROGRAM = """
#include "cuda/twofold.h"
using iqgs::Twofold;
extern "C" void compute(int what, int count, const double* a, const double* b, float* hi,
                        float* lo) {
  for (int i = 0; i < count; ++i) {
    const Twofold x(a[i]), y(b[i]);
    const Twofold r = what == 0 ? x + y : what == 1 ? x - y : what == 2 ? x * y : what == 3 ? x / y
                      : what == 4 ? root(x) : what == 5 ? natural_log(x) : fused(x, y, -x);
    hi[i] = r.hi, lo[i] = r.lo;
  }
}
"""
ADD, SUBTRACT, MULTIPLY, DIVIDE, ROOT, LOG, FUSED = range(7)


@pytest.fixture(scope="module")
def compute(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Fraction]]:
    """Results of an operation on pairs that stand for numbers a and b, exactly."""
    folder: Path = tmp_path_factory.mktemp("twofold")
    (folder / "probe.cpp").write_text(PROGRAM)
    command = [cuda_host.compiler() or "", "-std=c++17", *cuda_host.KERNEL_FLAGS, "-shared"]
    command += [f"-I{cuda_host.SOURCES}", str(folder / "probe.cpp"), "-o", str(folder / "probe.so")]
    cuda_host.run(command)
    library = ctypes.CDLL(str(folder / "probe.so"))

    def call(what: int, a: np.ndarray, b: np.ndarray) -> list[Fraction]:
        hi, lo = (np.empty(len(a), np.float32) for _ in range(2))
        pointers = [x.ctypes.data_as(ctypes.c_void_p) for x in (a, b, hi, lo)]
        library.compute(what, len(a), *pointers)
        assert (np.abs(lo) <= np.spacing(np.abs(hi)) / 2).all(), "a pair that is not normalised"
        return [Fraction(float(h)) + Fraction(float(x)) for h, x in zip(hi, lo, strict=True)]

    return call


def pairs(count: int, seed: int) -> np.ndarray:
    """Numbers of both signs and many sizes that a pair of floats holds exactly."""
    rng = np.random.default_rng(seed)
    values = rng.choice([-1.0, 1.0], count) * 10.0 ** rng.uniform(-6, 6, count)
    high = values.astype(np.float32).astype(np.float64)
    return high + (values - high).astype(np.float32).astype(np.float64)


def exact(what: int, a: float, b: float) -> Fraction:
    x, y = Fraction(a), Fraction(b)
    if what == ROOT:
        scale = 1 << 120
        return Fraction(isqrt(abs(x) * scale * scale // 1), scale)
    if what == FUSED:
        return x * y - x
    return {ADD: x + y, SUBTRACT: x - y, MULTIPLY: x * y, DIVIDE: x / y}[what]


@pytest.mark.parametrize("what", [ADD, SUBTRACT, MULTIPLY, DIVIDE, ROOT])
def test_operations_are_right_to_44_bits(compute, what):
    a, b = pairs(3000, 1), pairs(3000, 2)
    near = 1 + 1e-9 * np.random.default_rng(3).standard_normal(1000)
    # Digits that cancel: b next to a, and next to its opposite.
    a, b = np.concatenate([a, a[:2000]]), np.concatenate([b, a[:1000] * near, -a[1000:2000] * near])
    if what == ROOT:
        a = np.abs(a)
    high = b.astype(np.float32).astype(np.float64)
    b = high + (b - high).astype(np.float32).astype(np.float64)
    found = compute(what, a, b)
    for got, x, y in zip(found, a.tolist(), b.tolist(), strict=True):
        want = exact(what, x, y)
        assert abs(got - want) <= abs(want) * Fraction(1, 2**44), (x, y)


def test_logarithms_are_those_of_floats_and_have_the_right_sign(compute):
    a = np.concatenate([np.abs(pairs(1000, 4)), 1 + np.array([-3e-13, 3e-13, -1e-10, 1e-10, 0.0])])
    for got, x in zip(compute(LOG, a, a), a.tolist(), strict=True):
        assert float(got) == pytest.approx(log(x), rel=3e-7, abs=2e-14)
        if abs(x - 1) > 1e-13:
            assert (got > 0) == (x > 1)


def test_edges_of_the_numbers(compute):
    zero, ones = np.zeros(3), np.ones(3)
    assert compute(ROOT, zero, zero) == [0, 0, 0]
    assert compute(ADD, zero, zero) == [0, 0, 0] and compute(MULTIPLY, zero, ones) == [0, 0, 0]
    assert compute(FUSED, ones, ones) == [0, 0, 0]


def shifted(make: Callable[..., Splats], unit: float, to: tuple[float, float, float]) -> tuple:
    """A scene of another unit around a far place, as maps have it; the camera is there too."""
    splats, view = detached(make(150, seed=21)), make_view(40, 30)
    place = torch.tensor(to, dtype=torch.float64)
    means = (splats.means * unit + place).float().double()
    pose = view.world_to_view.clone()
    pose[:3, 3] = pose[:3, 3] * unit - pose[:3, :3] @ place
    splats = replace(splats, means=means, scales=(splats.scales * unit).float().double())
    return splats, replace(view, world_to_view=pose, near=0.2 * unit, far=100.0 * unit)


def turned_away(cosine: float) -> tuple[Splats, RasterSettings]:
    """Discs seen from their edges: the normal's angle to the ray is all but a right one."""
    splats, view = detached(random_surfels(150, seed=22, log_scale=(-2.0, 0.0))), make_view(40, 30)
    pose = view.world_to_view
    center = -pose[:3, :3].T @ pose[:3, 3]
    ray = torch.nn.functional.normalize(splats.means - center, dim=1)
    side = torch.nn.functional.normalize(
        torch.linalg.cross(
            ray, torch.tensor([[0.3, 1.0, 0.2]], dtype=torch.float64).expand_as(ray)
        ),
        dim=1,
    )
    normal = torch.nn.functional.normalize(side + cosine * ray, dim=1)
    axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(normal)
    w = 1 + (axis * normal).sum(1, keepdim=True)
    rotations = torch.nn.functional.normalize(
        torch.cat([w, torch.linalg.cross(axis, normal)], 1), dim=1
    )
    return replace(splats, rotations=rotations.float().double()), view


def far_away(make: Callable[..., Splats]) -> tuple[Splats, RasterSettings]:
    """A hundred thousand units away, some pixels large."""
    splats, view = detached(make(150, seed=23)), make_view(40, 30)
    far = 2e4
    means = (splats.means * far).float().double()
    scales = (splats.scales * far * 0.5).float().double()
    return replace(splats, means=means, scales=scales), replace(view, far=1e6)


def tiny(make: Callable[..., Splats]) -> tuple[Splats, RasterSettings]:
    """A millionth of a unit."""
    return random_like(make, (-16.0, -13.0)), make_view(40, 30)


def random_like(make: Callable[..., Splats], log_scale: tuple[float, float]) -> Splats:
    return detached(make(150, seed=24, log_scale=log_scale))


EXTREMES: dict[str, Callable[[], tuple[Splats, RasterSettings]]] = {
    "maps": lambda: shifted(random_surfels, 1000.0, (4.5e5, 5.3e6, 300.0)),
    "maps, ellipsoids": lambda: shifted(random_ellipsoids, 1000.0, (4.5e5, 5.3e6, 300.0)),
    "millimetres": lambda: shifted(random_surfels, 1e-3, (3.0, -2.0, 1.0)),
    "far": lambda: far_away(random_surfels),
    "far, ellipsoids": lambda: far_away(random_ellipsoids),
    "tiny": lambda: tiny(random_surfels),
    "tiny, ellipsoids": lambda: tiny(random_ellipsoids),
    "edge-on": lambda: turned_away(3e-3),
    "from the very edge": lambda: turned_away(2e-5),
    "crossing": CASES["thin_across_the_camera"],
    "box anchors": CASES["both_branches"],
    "ellipsoids": CASES["ellipsoids"],
}


@pytest.fixture(params=["slow", "fast"])
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The CUDA sources, in pairs of floats or in double precision."""
    operators = cuda_host.load_host_operators()
    monkeypatch.setattr(native, "_operators", lambda function, tensor: operators)
    monkeypatch.setenv("IQGS_FLOAT64", request.param)
    choice: str = request.param
    return choice


# What follows in float32 is not exact to 1e-5 of these, whatever the projection was computed in.
BEYOND_BLENDING = ("edge-on", "from the very edge", "tiny")


@pytest.mark.parametrize("case", [name for name in EXTREMES if name not in BEYOND_BLENDING])
def test_extremes_agree_with_the_reference(precision, case):
    assert_agrees(compare(*EXTREMES[case]()))


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp_min(1e-6))


@pytest.mark.parametrize("case", EXTREMES)
def test_pairs_of_floats_equal_doubles(case, monkeypatch):
    operators = cuda_host.load_host_operators()
    monkeypatch.setattr(native, "_operators", lambda function, tensor: operators)
    found = {}
    for choice in ("slow", "fast"):
        monkeypatch.setenv("IQGS_FLOAT64", choice)
        found[choice] = results(*EXTREMES[case]())
    assert found["fast"]["alpha"].max() > 0
    assert torch.equal(found["slow"].pop("radii"), found["fast"].pop("radii"))
    for name, value in found["slow"].items():
        assert relative(value, found["fast"][name]) < (1e-5 if name.startswith("d_") else 1e-6), (
            name
        )


@pytest.mark.parametrize(("wish", "suffix"), [("slow", "_pairs"), ("fast", ""), (None, "_pairs")])
def test_the_device_decides_where_nobody_does(wish, suffix, monkeypatch):
    """The shim plays a device of slow doubles; kernels in pairs of floats have their own names."""
    operators = cuda_host.load_host_operators()
    monkeypatch.setattr(native, "_operators", lambda function, tensor: operators)
    monkeypatch.setattr(times, "operators", lambda: operators)
    if wish is None:
        monkeypatch.delenv("IQGS_FLOAT64", raising=False)
    else:
        monkeypatch.setenv("IQGS_FLOAT64", wish)
    with times.timed_kernels() as found:
        results(*EXTREMES["ellipsoids"]())
    names = {time.name for time in found if time.name.startswith("project")}
    assert names == {f"project{suffix}", f"project_backward{suffix}"}
