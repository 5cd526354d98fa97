# SPDX-License-Identifier: Apache-2.0
"""The image loss against its definition in float64, and what a weight of zero means."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import available_backends
from diff_surfel_rasterization.losses import image_loss, similarity
from tests.rasterizer.build_tools import PACKAGE
from tests.rasterizer.losses.image_cases import (
    SIZES,
    make_pair,
    make_weight,
    plain,
    with_gradient,
)

NATIVE = "cpu" in available_backends()
needs_native = pytest.mark.skipif(
    not NATIVE, reason="the native library is not built: bash scripts/setup.sh"
)
BACKENDS = ["reference", *(["cpu"] if NATIVE else [])]


def leaf(image: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return image.detach().to(dtype, copy=True).requires_grad_()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients(size, weighted, backend):
    image, target = make_pair(*size)
    weight = make_weight(*size) if weighted else None
    single, double = leaf(image), leaf(image, torch.float64)
    found = with_gradient(image_loss(single, target, weight, backend=backend), single)
    expected = with_gradient(plain(double, target.double(), weight), double)
    for got, want in zip(found[:2], expected[:2], strict=True):
        assert got.item() == pytest.approx(want.item(), abs=3e-7)
    for got, want in zip(found[2:], expected[2:], strict=True):
        # SSIM's variances are differences of larger numbers: single precision leaves 1e-5.
        assert (got.double() - want).norm() <= 2e-5 * want.norm()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [torch.bool, torch.float32, torch.float64])
def test_a_margin_of_weight_zero_is_a_crop(kind, backend):
    """Whatever stands in it: undistorted photographs have black there, others anything."""
    image, target = make_pair(38, 51)
    rows, columns = slice(4, 31), slice(9, 44)
    weight = torch.zeros(38, 51, dtype=kind)
    weight[rows, columns] = 1
    outside = weight == 0
    image, target = image.clone(), target.clone()
    image[:, outside], target[:, outside] = float("inf"), float("nan")
    whole, part = leaf(image), leaf(image[:, rows, columns])
    found = image_loss(whole, target, weight, backend=backend)
    expected = image_loss(part, target[:, rows, columns], backend=backend)
    for got, want in zip(found, expected, strict=True):
        assert got.item() == pytest.approx(want.item(), abs=2e-7)
    for got, want in zip(found, expected, strict=True):
        (grad,) = torch.autograd.grad(got, whole, retain_graph=True)
        (crop,) = torch.autograd.grad(want, part, retain_graph=True)
        assert not grad[:, outside].any()
        torch.testing.assert_close(grad[:, rows, columns], crop, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_weight_weighs_the_means(backend):
    """Twice the weight is the pixel twice; all weights times a number are the same weights."""
    image, target = make_pair(24, 30)
    weight = make_weight(24, 30)
    first = image_loss(image, target, weight, backend=backend)
    scaled = image_loss(image, target, 7.5 * weight, backend=backend)
    torch.testing.assert_close(first, scaled)
    ones = image_loss(image, target, torch.ones(24, 30), backend=backend)
    torch.testing.assert_close(ones, image_loss(image, target, backend=backend))
    negative = torch.where(weight > 0, weight, -3.0)
    torch.testing.assert_close(first, image_loss(image, target, negative, backend=backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_where_no_pixel_counts_there_is_no_loss(backend):
    image, target = make_pair(9, 20)
    x = leaf(image)
    l1, dssim = image_loss(x, target, torch.zeros(9, 20), backend=backend)
    assert l1.item() == dssim.item() == 0.0
    (l1 + dssim).backward()
    assert x.grad is not None and not x.grad.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_images_and_numbers_that_are_none(backend):
    image, _ = make_pair(30, 40)
    l1, dssim = image_loss(image, image.clone(), backend=backend)
    assert float(l1) == 0.0 and float(dssim) == pytest.approx(0.0, abs=1e-6)
    broken = image.clone()
    broken[1, 17, 22] = float("nan")
    assert all(torch.isnan(loss) for loss in image_loss(broken, image, backend=backend))


@needs_native
def test_any_layout_of_memory_and_number_of_channels():
    for channels in (1, 4):
        image, target = make_pair(19, 23, channels)
        turned = leaf(image).permute(1, 2, 0).contiguous().permute(2, 0, 1)
        found = image_loss(turned, target.expand(channels, 19, 23).mT.contiguous().mT)
        torch.testing.assert_close(found, image_loss(image, target, backend="reference"))


@needs_native
def test_without_a_gradient_the_values_are_the_same_bits():
    image, target = make_pair(35, 600)
    x = leaf(image)
    learning = image_loss(x, target)
    with torch.no_grad():
        silent = image_loss(x, target)
    for a, b, c in zip(learning, silent, image_loss(image, target), strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)
        assert a.requires_grad and not b.requires_grad and not c.requires_grad


@needs_native
def test_a_large_image_loses_nothing():
    image, target = make_pair(1060, 1600)
    l1, dssim = image_loss(image, target)
    exact = image_loss(image.double(), target.double())
    assert float(l1) == pytest.approx(float(exact[0]), rel=1e-7)
    # The rounding of each pixel's own value: in sum it is far smaller than that of one.
    assert float(dssim) == pytest.approx(float(exact[1]), rel=1e-6)


@needs_native
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [(200, 70), (61, 1300)])
def test_same_bits_for_any_number_of_threads(size, weighted):
    image, target = make_pair(*size)
    weight = make_weight(*size) if weighted else None
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 16, 1):
            torch.set_num_threads(threads)
            x = leaf(image)
            results.append(with_gradient(image_loss(x, target, weight), x))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def results_of_sizes() -> dict[str, Tensor]:
    found = {}
    for height, width in SIZES:
        image, target = make_pair(height, width)
        weight = make_weight(height, width)
        for name, shares in (("all", None), ("weighted", weight)):
            x = leaf(image)
            parts = with_gradient(image_loss(x, target, shares), x)
            found |= {f"{height}x{width} {name} {i}": part.detach() for i, part in enumerate(parts)}
    return found


@needs_native
@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_instruction_sets_agree(isa, tmp_path: Path):
    from tests.rasterizer.instruction_sets import results_under

    found, expected = results_under(isa, results_of_sizes, tmp_path), results_of_sizes()
    for name, value in expected.items():
        error = (found[name] - value).double().norm()
        assert error <= 2e-5 * value.double().norm() + 1e-7, name


def test_the_reference_passes_gradcheck():
    image, target = make_pair(6, 7, channels=2)
    x, weight = leaf(image, torch.float64), make_weight(6, 7)
    assert torch.autograd.gradcheck(lambda a: image_loss(a, target.double(), weight), (x,))


def test_constants_are_those_of_the_reference():
    text = (PACKAGE / "csrc" / "losses" / "image_math.h").read_text()
    function = text[text.index("ssim_weight(") : text.index("struct ImageLossParams")]
    weights = [float(number) for number in re.findall(r"[?:] (0\.\d+)f", function)]
    middle = similarity.SSIM_RADIUS
    assert weights == pytest.approx(similarity.SSIM_WINDOW[middle:], rel=1e-7)
    assert int(re.findall(r"SSIM_RADIUS = (\d+);", text)[0]) == middle
    pair = re.search(r"SSIM_C1 = ([\d.]+)f, SSIM_C2 = ([\d.]+)f", text)
    assert pair is not None
    expected = (similarity.SSIM_C1, similarity.SSIM_C2)
    assert [float(number) for number in pair.groups()] == pytest.approx(expected)


def test_messages():
    image, target = make_pair(6, 8)
    for wrong, sentence in (
        ((image, target[:, :5]), r"image_loss: target must be \[3, 6, 8\], got \[3, 5, 8\]"),
        ((image[0], target), r"image_loss: image must be \[C, H, W\], got \[6, 8\]"),
        ((image, target.double()), "target must be torch.float32 like image, got torch.float64"),
        ((image.int(), target.int()), "image must be of a floating type, got torch.int32"),
        ((image, leaf(target)), "target must be without requires_grad .only the image learns."),
        ((image, target, torch.ones(8, 6)), r"weight must be \[6, 8\], got \[8, 6\]"),
        ((image, target, torch.ones(6, 8).int()), "weight must be bool or of a floating type"),
        ((image, target, torch.ones(6, 8, device="meta")), "weight must be on cpu like image"),
        ((image[:, :0], target[:, :0]), r"image must be of at least one pixel, got \[3, 0, 8\]"),
    ):
        with pytest.raises(ValueError, match=sentence):
            image_loss(*wrong)
    with pytest.raises(ValueError, match="image_loss: backend must be one of"):
        image_loss(image, target, backend="gpu")
