# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels on the host shim: against the float64 reference and the CPU backend, their
blocks, warps and lanes taken in both orders."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import RasterSettings, Splats, Surfels, available_backends
from diff_surfel_rasterization.reference import splat_weights_reference
from tests.rasterizer import cuda_host
from tests.rasterizer.cuda_cases import CASES
from tests.rasterizer.scenes import (
    IMAGES,
    detached,
    make_view,
    map_tensors,
    random_ellipsoids,
    random_loss,
    random_surfels,
)

if "cpu" not in available_backends():
    pytest.skip("the native library is not built", allow_module_level=True)
if cuda_host.compiler() is None:
    pytest.skip("no host compiler: apt install g++", allow_module_level=True)

from diff_surfel_rasterization import native  # noqa: E402
from tests.rasterizer.cpu_cases import (  # noqa: E402
    SOME_IMAGES,
    assert_agrees,
    assert_listed_where_they_show,
    compare,
)

TRAINABLE = ("means", "scales", "rotations", "opacities", "colors", "sh", "features")


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The native functions run the CUDA sources."""
    operators = cuda_host.load_host_operators()
    monkeypatch.setattr(native, "_operators", lambda function, tensor: operators)
    yield


def results(surfels: Splats, view: RasterSettings) -> dict[str, Tensor]:
    """Every image and every gradient under a fixed loss."""
    copy = map_tensors(detached(surfels, torch.float32), lambda t: t.requires_grad_())
    output = native.rasterize_native(copy, view)
    random_loss(output, 0).backward()
    found = {name: getattr(output, name).detach() for name in (*IMAGES, "radii")}
    for name, tensor in vars(copy).items():
        if tensor is not None and tensor.grad is not None:
            found[f"d_{name}"] = tensor.grad
    return found


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference(kernels, case):
    assert_agrees(compare(*CASES[case]()))


@pytest.mark.parametrize("case", ["both_branches", "ellipsoids"])
@pytest.mark.parametrize("names", SOME_IMAGES, ids="-".join)
def test_losses_of_some_images_alone(kernels, case, names):
    assert_agrees(compare(*CASES[case](), names=names))


@pytest.mark.parametrize(
    "case",
    [
        *("both_branches", "saturated", "long_tiles", "channels_43"),
        *("ellipsoids", "ellipsoids_saturated"),
    ],
)
def test_the_order_of_threads_changes_no_bit(kernels, case):
    forward = results(*CASES[case]())
    with cuda_host.reversed_schedule():
        backward = results(*CASES[case]())
    for name, value in forward.items():
        assert torch.equal(value, backward[name]), name


@pytest.mark.parametrize("name", ["both_branches", "ellipsoids", "needles"])
def test_equals_the_cpu_backend_closely(name, monkeypatch):
    case = CASES[name]()
    expected = results(*case)
    operators = cuda_host.load_host_operators()
    monkeypatch.setattr(native, "_operators", lambda function, tensor: operators)
    for name, value in results(*case).items():
        if name == "radii":
            assert torch.equal(value, expected[name])
        else:
            error = (value - expected[name]).norm() / expected[name].norm().clamp_min(1e-6)
            assert error < (2e-5 if name.startswith("d_") else 2e-6), name


def test_too_little_room_for_pairs_is_made_good(kernels):
    # Few splats, many tiles: far more pairs than the first estimate has room for.
    surfels = random_surfels(30, seed=7, log_scale=(0.5, 1.5), depth=(1.5, 3.0))
    view = make_view(250, 220)
    copy = map_tensors(detached(surfels, torch.float32), lambda t: t.requires_grad_())
    saved = native.rasterize_native(copy, view).color.grad_fn.saved_tensors
    pairs = max(len(t) for t in saved if t.dtype == torch.int32 and t.dim() == 1)
    assert pairs > 4 * 30 + 4096
    for name, value in results(surfels, view).items():
        assert torch.isfinite(value).all(), name
    weights = native.blend_weights_native(detached(surfels, torch.float32), view)
    image = splat_weights_reference(weights, None, surfels.features.detach().float())
    expected = results(surfels, view)["features"]
    torch.testing.assert_close(image.T.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


def test_splats_across_the_camera_are_listed_near_where_they_show(kernels):
    assert_listed_where_they_show(native.rasterize_native)


@pytest.mark.parametrize("make", [random_surfels, random_ellipsoids])
@pytest.mark.parametrize("min_weight", [0.0, 0.02, 0.3])
def test_stored_weights_equal_those_of_the_cpu(make, min_weight, monkeypatch):
    surfels, view = detached(make(300, seed=41), torch.float32), make_view(37, 29)
    expected = native.blend_weights_cpu(surfels, view, min_weight)
    operators = cuda_host.load_host_operators()
    monkeypatch.setattr(native, "_operators", lambda function, tensor: operators)
    found = native.blend_weights_cuda(surfels, view, min_weight)
    assert torch.equal(found.row_start, expected.row_start)
    assert torch.equal(found.splat, expected.splat)
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "images", [("features",), ("color", "normal"), ("depth",), ("distortion",)]
)
@pytest.mark.parametrize("wanted", [("features",), ("sh",), ("opacities",), ("means", "sh")])
@pytest.mark.parametrize("make", [random_surfels, random_ellipsoids])
def test_gradients_do_not_depend_on_what_else_is_wanted(kernels, make, wanted, images):
    surfels = detached(make(150, seed=12, sh_degree=2, channels=19), torch.float32)
    view = make_view(30, 21, sh_degree=2)

    def gradients(names: tuple[str, ...]) -> dict[str, Tensor]:
        copy = map_tensors(surfels, torch.clone)
        for name in names:
            getattr(copy, name).requires_grad_()
        random_loss(native.rasterize_native(copy, view), 0, images).backward()
        return {name: getattr(copy, name).grad for name in names}

    every = gradients(("means", "scales", "rotations", "opacities", "sh", "features"))
    for name, gradient in gradients(wanted).items():
        torch.testing.assert_close(gradient, every[name], rtol=1e-5, atol=1e-6)


def test_messages_name_function_argument_and_expectation(kernels):
    surfels = detached(random_surfels(4, seed=51), torch.float32)
    wrong = Surfels(**{**vars(surfels), "scales": torch.ones(4, 3)})
    with pytest.raises(ValueError, match="rasterize: scales must have shape .4, 2., got .4, 3."):
        native.rasterize_native(wrong, make_view())
