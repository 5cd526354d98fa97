# SPDX-License-Identifier: Apache-2.0
"""Building, loading and refusing: setup.py, the build record, messages, and the shared headers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import diff_surfel_rasterization
from diff_surfel_rasterization import (
    available_backends,
    backend_problem,
    constants,
    library,
)
from tests.rasterizer.build_tools import toolkit
from tests.rasterizer.scenes import detached, make_view, random_surfels

PACKAGE = Path(__file__).resolve().parents[2] / "submodules" / "diff-surfel-rasterization"
needs_native = pytest.mark.skipif(
    "cpu" not in available_backends(), reason="the native library is not built"
)


def run_setup(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", "--quiet", *arguments],
        cwd=PACKAGE,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_where_there_is_a_compiler_there_is_a_library():
    """Tests of the native backend are skipped where it is missing: that must not go unnoticed."""
    problem = backend_problem("cpu")
    assert problem is None or toolkit.find_compiler() is None, problem


def test_without_a_compiler_the_python_part_is_built(tmp_path):
    fake = tmp_path / "bin"
    fake.mkdir()
    built = tmp_path / "lib"
    done = run_setup(
        "build", f"--build-lib={built}", f"--build-base={tmp_path}", PATH=str(fake), CXX="no-cxx"
    )
    assert done.returncode == 0, done.stderr
    assert "no C++ compiler found" in done.stdout
    names = {path.name for path in (built / "diff_surfel_rasterization").iterdir()}
    assert "native" in names and library.LIBRARY not in names
    assert library.load_library(built / "diff_surfel_rasterization") is None


def test_constants_are_those_of_the_reference():
    text = (PACKAGE / "csrc" / "common" / "constants.h").read_text()
    for name in (n for n in vars(constants) if n.isupper()):
        found = re.search(rf"constexpr float {name} = ([^;]+);", text)
        assert found, name
        numbers = [float(part.strip().rstrip("f")) for part in found[1].split("/")]
        value = numbers[0] if len(numbers) == 1 else numbers[0] / numbers[1]
        assert value == pytest.approx(getattr(constants, name), rel=1e-6), name


@needs_native
def test_messages_name_function_argument_and_expectation():
    native = sys.modules[f"{diff_surfel_rasterization.__name__}.native"]
    surfels, view = detached(random_surfels(4, seed=51), torch.float32), make_view()
    with pytest.raises(ValueError, match="rasterize: scales must have shape .4, 2., got .4, 3."):
        native.rasterize_cpu(replace(surfels, scales=torch.ones(4, 3)), view)
    with pytest.raises(ValueError, match="compute in float32, got torch.float64"):
        native.rasterize_cpu(detached(surfels), view)
    with pytest.raises(RuntimeError, match="on meta, but the native backends serve CPU and CUDA"):
        native.rasterize_cpu(replace(surfels, means=surfels.means.to("meta")), view)


@needs_native
def test_too_many_pairs_are_refused():
    native = sys.modules[f"{diff_surfel_rasterization.__name__}.native"]
    surfels = detached(random_surfels(40000, seed=52), torch.float32)
    surfels = replace(surfels, scales=torch.full_like(surfels.scales, 1e4))
    with pytest.raises(RuntimeError, match="pairs; are the scales far too large"):
        native.rasterize_cpu(surfels, make_view(6000, 4000))


HEADER_PROGRAM = """
#include "ellipsoid_projection_vjp.h"
#include "sh_math.h"
#include "surfel_projection_vjp.h"
template <class R> struct Same {{ {qualifier} R operator()(R x) const {{ return x; }} }};
template <class Projection, class R>
{qualifier} R probe_kind(const iqgs::Camera& cam, const iqgs::SplatRecord& s, R x) {{
  using Pixels = typename Projection::Pixels;
  iqgs::SplatInput<R, Projection::SCALES> in = {{}};
  const auto f = iqgs::splat_frame(cam, in);
  const auto v = Projection::view(cam, f, x);
  R m[iqgs::MOMENTS] = {{}};
  const auto g = iqgs::frame_grad(Projection(), cam, f, v, m, f.center);
  const iqgs::PixelOptions o = iqgs::pixel_options(cam, s);
  const auto h = Pixels::intersect(s, o, x, x);
  if (!Pixels::inside(s, h, o)) return iqgs::frame_vjp(cam, f, g).qw;
  const R alpha = iqgs::splat_alpha(s, Pixels::rho(h));
  return Pixels::template vjp<true>(s, h, o, x, alpha).u + Pixels::depth(s, h, o) +
         Projection::bounds(cam, f, v, Same<R>()).radius +
         (Projection::alive(cam, f, v) ? x : alpha);
}}
template <class R> {qualifier} R probe(const iqgs::Camera& cam, const iqgs::SplatRecord& s, R x) {{
  R basis[16];
  const iqgs::Vec3<R> direction = {{x, x, x}};
  iqgs::sh_basis(direction, 3, basis);
  return probe_kind<iqgs::SurfelProjection>(cam, s, x) +
         probe_kind<iqgs::EllipsoidProjection>(cam, s, x) +
         iqgs::sh_basis_vjp(direction, 3, basis).x;
}}
{entry}
"""


@pytest.mark.parametrize("compiler", ["g++", "nvcc"])
def test_shared_headers_compile_without_torch(compiler, tmp_path):
    command = shutil.which(compiler)
    if command is None:
        pytest.skip(f"no {compiler}")
    cuda = compiler == "nvcc"
    entry = (
        "__global__ void kernel(iqgs::Camera c, iqgs::SplatRecord s, float* x)"
        " { *x = probe<float>(c, s, *x); }"
        if cuda
        else "double (*use)(const iqgs::Camera&, const iqgs::SplatRecord&, double) = probe<double>;"
    )
    source = tmp_path / ("probe.cu" if cuda else "probe.cpp")
    source.write_text(
        HEADER_PROGRAM.format(qualifier="__device__" if cuda else "inline", entry=entry)
    )
    strict = ["-Werror=all-warnings"] if cuda else ["-Wall", "-Wextra", "-Werror"]
    include = f"-I{PACKAGE / 'csrc' / 'common'}"
    subprocess.run(
        [command, "-std=c++17", *strict, include, "-c", str(source), "-o", str(tmp_path / "o")],
        check=True,
        timeout=300,
    )
