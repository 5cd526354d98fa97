# SPDX-License-Identifier: Apache-2.0
"""The normal loss against its definition in float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import available_backends
from diff_surfel_rasterization.losses import normal_loss, reference
from tests.rasterizer.build_tools import PACKAGE
from tests.rasterizer.losses.normal_cases import (
    SIZES,
    assert_agree,
    by_definition,
    leaves,
    make_images,
    make_settings,
    with_gradients,
)

NATIVE = "cpu" in available_backends()
needs_native = pytest.mark.skipif(
    not NATIVE, reason="the native library is not built: bash scripts/setup.sh"
)
BACKENDS = ["reference", *(["cpu"] if NATIVE else [])]
RATIOS = (0.0, 0.3, 1.0)


def found(size: tuple[int, int], ratio: float, backend: str = "auto") -> list[Tensor]:
    images = leaves(make_images(*size))
    loss = normal_loss(images, make_settings(*size), ratio, backend)
    return with_gradients(loss, images, ratio)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("size", SIZES[:-1])
def test_value_and_gradients(size, ratio, backend):
    double = leaves(make_images(*size), torch.float64)
    expected = with_gradients(by_definition(double, make_settings(*size), ratio), double, ratio)
    assert_agree(found(size, ratio, backend), expected)


@needs_native
@pytest.mark.parametrize("ratio", RATIOS)
def test_a_larger_image_rounds_about_as_plain_torch_does(ratio):
    """Differences of neighbouring depths leave little of single precision: pixels are small."""
    size = (170, 530)
    double = leaves(make_images(*size), torch.float64)
    exact = with_gradients(normal_loss(double, make_settings(*size), ratio), double, ratio)
    native, plain = (
        [(got.double() - want).norm() for got, want in zip(results, exact, strict=True)]
        for results in (found(size, ratio, "cpu"), found(size, ratio, "reference"))
    )
    for own, others, want in zip(native, plain, exact, strict=True):
        assert own <= 2 * others + 1e-7 * want.norm()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_plane_and_its_own_normal_agree(backend):
    """Whatever the pinhole: what is left is the border, which has no normal."""
    height, width = 20, 30
    settings, images = make_settings(height, width), make_images(height, width)
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.2, -1.0]), dim=0)
    x = (torch.arange(width) + 0.5 - settings.cx) / settings.fx
    y = (torch.arange(height) + 0.5 - settings.cy) / settings.fy
    depth = -3.0 / (normal[0] * x[None] + normal[1] * y[:, None] + normal[2])[None]
    ones = torch.ones(1, height, width)
    flat = replace(
        images, depth=depth, alpha=ones, normal=normal[:, None, None].expand(3, height, width)
    )
    inside = (height - 2) * (width - 2) / (height * width)
    assert float(normal_loss(flat, settings, backend=backend)) == pytest.approx(
        1 - inside, abs=1e-5
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_where_nothing_is_hit_nothing_flows(backend):
    images = make_images(12, 20)
    nothing = {
        name: torch.zeros_like(getattr(images, name)) for name in ("normal", "depth", "alpha")
    }
    empty = leaves(replace(images, **nothing))
    loss, *grads = with_gradients(
        normal_loss(empty, make_settings(12, 20), backend=backend), empty, 0.0
    )
    assert float(loss) == 1.0 and not any(bool(g.any()) for g in grads)


@needs_native
def test_only_what_learns_gets_a_gradient():
    settings, images = make_settings(20, 30), leaves(make_images(20, 30))
    frozen = replace(
        images, normal=images.normal.detach(), median_depth=images.median_depth.detach()
    )
    normal_loss(frozen, settings, 0.5).backward()
    assert frozen.normal.grad is None and frozen.median_depth.grad is None
    assert images.depth.grad is not None and bool(images.depth.grad.any())
    with torch.no_grad():
        silent = normal_loss(images, settings, 0.5)
    assert not silent.requires_grad
    assert torch.equal(silent, normal_loss(images, settings, 0.5).detach())


@needs_native
@pytest.mark.parametrize("size", [(200, 70), (61, 1300)])
def test_same_bits_for_any_number_of_threads(size):
    made, settings = make_images(*size), make_settings(*size)  # torch's own bits depend on threads
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 16, 1):
            torch.set_num_threads(threads)
            images = leaves(made)
            results.append(with_gradients(normal_loss(images, settings, 0.3), images, 0.3))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def results_of_sizes() -> dict[str, Tensor]:
    return {
        f"{size} {ratio} {i}": part
        for size in SIZES
        for ratio in RATIOS
        for i, part in enumerate(found(size, ratio))
    }


@needs_native
@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_instruction_sets_agree(isa, tmp_path: Path):
    from tests.rasterizer.instruction_sets import results_under

    others, expected = results_under(isa, results_of_sizes, tmp_path), results_of_sizes()
    for name, value in expected.items():
        error = (others[name] - value).double().norm()
        assert error <= 2e-5 * value.double().norm() + 1e-7, name


def test_the_reference_passes_gradcheck():
    images, settings = leaves(make_images(5, 6), torch.float64), make_settings(5, 6)
    solid = images.alpha.detach().clamp_min(0.2)

    def loss(normal: Tensor, depth: Tensor, median: Tensor) -> Tensor:
        changed = replace(images, normal=normal, depth=depth, median_depth=median, alpha=solid)
        return normal_loss(changed, settings, 0.3)

    assert torch.autograd.gradcheck(loss, (images.normal, images.depth, images.median_depth))


def test_constants_are_those_of_the_reference():
    text = (PACKAGE / "csrc" / "losses" / "normal_math.h").read_text()
    assert f"LEAST_NORMAL = {reference.LEAST_NORMAL**2:.0e}f" in text
    assert "LEAST_ALPHA = 1.1920929e-07f" in text
    assert torch.finfo(torch.float32).eps == pytest.approx(1.1920929e-07, rel=1e-7)


def test_messages():
    images, settings = make_images(6, 8), make_settings(6, 8)
    for changes, sentence in (
        (
            {"depth": images.depth[:, :5]},
            r"normal_loss: depth must be \[1, 6, 8\], got \[1, 5, 8\]",
        ),
        ({"normal": images.normal[:2]}, r"normal must be \[3, 6, 8\], got \[2, 6, 8\]"),
        ({"alpha": images.alpha.double()}, "alpha must be torch.float32 on cpu like normal, got"),
    ):
        with pytest.raises(ValueError, match=sentence):
            normal_loss(replace(images, **changes), settings)
    with pytest.raises(ValueError, match=r"normal must be \[3, 6, 9\]"):
        normal_loss(images, make_settings(6, 9))
    with pytest.raises(ValueError, match=r"depth_ratio must be in 0\.\.1, got 1\.5"):
        normal_loss(images, settings, 1.5)
    with pytest.raises(ValueError, match="fx, fy must be positive"):
        normal_loss(images, replace(settings, fx=0.0))
    with pytest.raises(ValueError, match="normal_loss: backend must be one of"):
        normal_loss(images, settings, backend="gpu")
