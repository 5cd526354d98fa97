# SPDX-License-Identifier: Apache-2.0
"""Same bits for any number of threads; the instruction sets agree with each other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import Splats, available_backends
from tests.rasterizer.scenes import (
    detached,
    make_view,
    map_tensors,
    random_ellipsoids,
    random_loss,
    random_surfels,
)

if "cpu" not in available_backends():
    pytest.skip("the native library is not built", allow_module_level=True)

from diff_surfel_rasterization.native import (  # noqa: E402
    blend_weights_cpu,
    rasterize_cpu,
    splat_weights_cpu,
)
from tests.rasterizer.instruction_sets import results_under  # noqa: E402
from tests.rasterizer.scenes import IMAGES  # noqa: E402

# More splats than a chunk of the projection, more tiles than a chunk of the blending.
COUNT = 5000


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def results(threads: int, make: Callable[..., Splats] = random_surfels) -> dict[str, Tensor]:
    """Every image, gradient and weight of one scene."""
    torch.set_num_threads(threads)
    surfels = map_tensors(
        detached(make(COUNT, seed=31, sh_degree=1, channels=5), torch.float32),
        lambda t: t.requires_grad_(),
    )
    view = make_view(100, 70, sh_degree=1)
    output = rasterize_cpu(surfels, view)
    random_loss(output, 0).backward()
    found = {name: getattr(output, name).detach() for name in IMAGES}
    found |= {f"d_{k}": v.grad for k, v in vars(surfels).items() if v is not None}
    weights = blend_weights_cpu(detached(surfels, torch.float32), view, 0.01)
    values = surfels.features.detach().clone().requires_grad_()
    rows = torch.arange(0, 7000, 3)
    image = splat_weights_cpu(weights, rows, values)
    image.square().sum().backward()
    found |= {"splat": weights.splat, "weight": weights.weight, "start": weights.row_start}
    return found | {"blended": image.detach(), "d_values": values.grad}


@pytest.mark.fault(row=39)
@pytest.mark.parametrize("make", [random_surfels, random_ellipsoids])
def test_thread_count_changes_no_bit(threads, make):
    expected = results(1, make)
    for count in (2, 3, 8):
        for name, tensor in results(count, make).items():
            assert torch.equal(tensor, expected[name]), f"{name} with {count} threads"


def test_repetition_changes_no_bit(threads):
    first, second = results(2), results(2)
    assert all(torch.equal(first[name], second[name]) for name in first)


def results_of_one_thread() -> dict[str, Tensor]:
    """Of both kinds."""
    kinds = {"surfels": random_surfels, "ellipsoids": random_ellipsoids}
    return {
        f"{kind} {name}": tensor
        for kind, make in kinds.items()
        for name, tensor in results(1, make).items()
    }


@pytest.mark.parametrize("isa", ["avx2", "baseline"])
def test_instruction_sets_agree(isa, tmp_path, threads):
    found = results_under(isa, results_of_one_thread, tmp_path)
    expected = results_of_one_thread()
    for name in found:
        if name.endswith("start"):
            changed = (found[name] != expected[name]).sum()
            assert changed <= 0.01 * len(expected[name])  # a weight next to the threshold
        elif not name.endswith(("splat", "weight")):
            error = (found[name] - expected[name]).double().norm()
            assert error <= 1e-3 * expected[name].double().norm(), name


def test_an_unknown_instruction_set_is_refused():
    script = "from diff_surfel_rasterization.native import build_info; build_info()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "IQGS_ISA": "mmx", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0
    assert "IQGS_ISA=mmx: expected avx512, avx2 or baseline" in done.stderr
