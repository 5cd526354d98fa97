# SPDX-License-Identifier: Apache-2.0
"""The CUDA backend on a GPU: `pytest -m cuda`. Needs an NVIDIA GPU and a build with CUDA
(`bash scripts/setup.sh` on a machine that has nvcc and a torch with CUDA).

The same scenes run on any machine through the host shim (test_cuda_host.py). What only a GPU can
show is here: its arithmetic, streams, devices, and that nothing on the way waits for it.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import (
    RasterSettings,
    Surfels,
    blend_weights,
    rasterize,
)
from tests.rasterizer.cuda_cases import CASES, ON_A_GPU
from tests.rasterizer.scenes import (
    IMAGES,
    detached,
    make_view,
    map_tensors,
    random_loss,
    random_surfels,
)

pytestmark = ON_A_GPU


def on_gpu(surfels: Surfels, device: str = "cuda") -> Surfels:
    moved = map_tensors(detached(surfels, torch.float32), lambda t: t.to(device))
    return map_tensors(moved, lambda t: t.requires_grad_())


def results(surfels: Surfels, view: RasterSettings, device: str = "cuda") -> dict[str, Tensor]:
    """Every image and every gradient under a fixed loss."""
    copy = on_gpu(surfels, device)
    output = rasterize(copy, view)
    random_loss(output, 0).backward()
    found = {name: getattr(output, name).detach() for name in (*IMAGES, "radii")}
    gradients = {name: t.grad for name, t in vars(copy).items() if t is not None}
    return found | {f"d_{name}": g for name, g in gradients.items() if g is not None}


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference(case):
    from tests.rasterizer.cpu_cases import assert_agrees, compare

    assert_agrees(compare(*CASES[case](), device="cuda"))


@pytest.mark.parametrize("names", [("color",), ("features",), ("color", "normal"), ("depth",)])
def test_losses_of_some_images_alone(names):
    from tests.rasterizer.cpu_cases import assert_agrees, compare

    assert_agrees(compare(*CASES["both_branches"](), device="cuda", names=names))


@pytest.mark.parametrize("case", ["both_branches", "saturated", "long_tiles", "channels_43"])
def test_same_bits_on_every_run(case):
    first, second = results(*CASES[case]()), results(*CASES[case]())
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_equals_the_cpu_backend_on_a_large_scene():
    surfels = random_surfels(20_000, seed=21, log_scale=(-5.0, -3.0), channels=16)
    view = make_view(320, 240)
    found, expected = results(surfels, view), results(surfels, view, "cpu")
    for name, value in found.items():
        error = (value.cpu().double() - expected[name].double()).norm()
        assert error <= 1e-4 * expected[name].double().norm().clamp_min(1e-6), name


def test_works_on_a_stream_of_the_callers():
    surfels, view = CASES["both_branches"]()
    expected = results(surfels, view)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)  # what another stream got by mistake overtakes it
        found = results(surfels, view)
    stream.synchronize()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_works_on_a_device_that_is_not_current():
    surfels, view = CASES["both_branches"]()
    expected = results(surfels, view)
    with torch.cuda.device(0):
        found = results(surfels, view, "cuda:1")
    for name, value in found.items():
        assert value.device.index == 1 and torch.equal(value.cpu(), expected[name].cpu()), name


def test_nothing_of_torch_waits_for_the_gpu():
    surfels, view = CASES["both_branches"]()
    copy = on_gpu(surfels)
    random_loss(rasterize(copy, view), 0).backward()
    weights = [torch.ones_like(getattr(rasterize(copy, view), name)) for name in IMAGES]
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        output = rasterize(copy, view)
        images = [getattr(output, name) for name in IMAGES]
        torch.autograd.backward(images, weights)
    finally:
        torch.cuda.set_sync_debug_mode(before)


def test_stored_weights_equal_those_of_the_cpu():
    surfels, view = detached(random_surfels(300, seed=41), torch.float32), make_view(37, 29)
    expected = blend_weights(surfels, view, 0.02)
    found = blend_weights(map_tensors(surfels, lambda t: t.cuda()), view, 0.02)
    assert torch.equal(found.row_start.cpu(), expected.row_start)
    assert torch.equal(found.splat.cpu(), expected.splat)
    torch.testing.assert_close(found.weight.cpu(), expected.weight, rtol=1e-5, atol=1e-6)
