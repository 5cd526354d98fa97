# SPDX-License-Identifier: Apache-2.0
"""The GPU benchmark with everything real but the CUDA calls."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import RasterSettings, Surfels, available_backends, rasterize
from tests.benchmarks import gsplat_cuda, rasterizer_cuda
from tests.benchmarks.options import Options
from tests.benchmarks.played_gpu import PlayedCuda, play_gsplat
from tests.benchmarks.scenes import SceneSize, make_scene, make_settings
from tests.benchmarks.timing import CudaMeter, Row

TINY = SceneSize("40x24, 60", 40, 24, 60, 3.0)
WAYS = {"kernels": gsplat_cuda.render_kernels, "whole": gsplat_cuda.render_whole}


@pytest.fixture
def gsplat(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return play_gsplat(monkeypatch)


def scene_like_gsplats() -> tuple[Surfels, RasterSettings]:
    """Discs turned in their plane and tilted a little: seen from the side they would show where
    gsplat's low-pass disc lies, which is not where ours does."""
    settings, surfels = make_settings(TINY), make_scene(TINY, features=4)
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([0.1, -0.05, 0.4])
    settings = replace(settings, low_pass_anchor="aabb", cx=21.5, cy=11.0, world_to_view=pose)
    turned = surfels.rotations.detach() * torch.tensor([1.0, 0.15, 0.15, 1.0])
    return replace(surfels, rotations=turned.requires_grad_()), settings


def share_that_differs(found: Tensor, expected: Tensor) -> float:
    """Share of values that are further apart than the two low-pass discs explain."""
    return float(((found - expected).abs() > 0.02 + 0.01 * expected.abs()).float().mean())


@pytest.mark.parametrize("way", WAYS)
def test_gsplat_is_asked_for_the_picture_that_we_render(way: str, gsplat: ModuleType) -> None:
    surfels, settings = scene_like_gsplats()
    depth = (surfels.means[:, 2:] + 0.4).detach()  # gsplat's: that of the centres
    everything = torch.cat([surfels.features.detach(), depth], 1)
    ours = rasterize(replace(surfels, features=everything), settings, "reference")
    expected = torch.cat([ours.color, ours.features]).permute(1, 2, 0)
    inputs = gsplat_cuda.to_inputs(surfels, settings)
    colors, alpha, _, distortion = WAYS[way](gsplat, inputs)
    assert colors.shape == (1, 24, 40, 3 + 4 + 1) and distortion.shape == (1, 24, 40, 1)
    assert share_that_differs(colors[0], expected) < 0.01
    assert share_that_differs(alpha[0, ..., 0], ours.alpha[0]) < 0.01
    for name, wrong in (("scales", inputs.scales.flip(1)), ("quats", inputs.quats.roll(1, 1))):
        other = WAYS[way](gsplat, replace(inputs, **{name: wrong}))[0]
        assert share_that_differs(other[0], expected) > 0.1, name


@pytest.mark.parametrize("way", WAYS)
def test_gradients_reach_every_leaf_of_gsplat(way: str, gsplat: ModuleType) -> None:
    surfels, settings = scene_like_gsplats()
    scene = gsplat_cuda.to_inputs(surfels, settings)
    colors, alpha, normal, distortion = WAYS[way](gsplat, scene)
    (colors[..., :7].sum() + 2 * alpha.sum() + 0 * normal.sum() + 0 * distortion.sum()).backward()
    ours = rasterize(surfels, settings, "reference")
    (ours.color.sum() + ours.features.sum() + 2 * ours.alpha.sum()).backward()
    pairs = {
        "means": (scene.means.grad, surfels.means.grad),
        "scales": (scene.scales.grad[:, :2], surfels.scales.grad),
        "opacities": (scene.opacities.grad, surfels.opacities.grad[:, 0]),
        "colors": (scene.colors.grad[0, :, :3], surfels.colors.grad),
        "features": (scene.colors.grad[0, :, 3:], surfels.features.grad),
    }
    for name, (theirs, mine) in pairs.items():
        likeness = torch.nn.functional.cosine_similarity(theirs.flatten(), mine.flatten(), 0)
        assert likeness > 0.95, name
    assert scene.quats.grad.abs().sum() > 0


def played_meter() -> CudaMeter:
    backend = "cpu" if "cpu" in available_backends() else "reference"
    return CudaMeter("cpu", backend, PlayedCuda())


def run_tiny(monkeypatch: pytest.MonkeyPatch, load: Callable[[], object]) -> dict[str, object]:
    monkeypatch.setattr(rasterizer_cuda, "QUICK", TINY)
    monkeypatch.setattr(rasterizer_cuda.gsplat_cuda, "load", load)
    (table,) = rasterizer_cuda.run(Options(True, 2, (played_meter(),)))
    return table.as_record()


def test_the_section_runs_on_a_played_gpu(
    gsplat: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run_tiny(monkeypatch, lambda: (gsplat, ""))
    names = [row["name"] for row in record["rows"]]
    assert names == [
        "ours",
        "gsplat kernels",
        "gsplat rasterization_2dgs",
        "ours, colour only",
        "gsplat kernels, colour only",
        "gsplat rasterization_2dgs, colour only",
    ]
    assert "Played GPU" in record["title"]
    for row in record["rows"]:
        assert row["repeats"] == 2 and row["peak_mib"] == 20.0
        assert row["forward_ms"] > 0 and row["backward_ms"] > 0
        assert row["ratio"] == pytest.approx(
            (row["forward_ms"] + row["backward_ms"])
            / (record["rows"][0]["forward_ms"] + record["rows"][0]["backward_ms"])
        )


def test_the_section_goes_on_without_gsplat(monkeypatch: pytest.MonkeyPatch) -> None:
    record = run_tiny(monkeypatch, lambda: (None, "gsplat cannot be used: no compiler"))
    assert [row["name"] for row in record["rows"]] == ["ours", "ours, colour only"]
    assert "gsplat cannot be used: no compiler" in record["notes"]


def test_another_picture_is_not_compared(
    gsplat: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = gsplat_cuda.to_inputs

    def wrong(surfels: Surfels, settings: RasterSettings) -> gsplat_cuda.Inputs:
        return right(surfels, replace(settings, cx=settings.cx + 8))

    monkeypatch.setattr(gsplat_cuda, "to_inputs", wrong)
    with pytest.raises(RuntimeError, match="another picture"):
        run_tiny(monkeypatch, lambda: (gsplat, ""))


@pytest.mark.parametrize("kernels", [None, object()], ids=["no toolkit", "compiled"])
def test_why_gsplat_cannot_be_used(kernels: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", ModuleType("gsplat"))
    backend = SimpleNamespace(_C=kernels)
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", backend)
    module, reason = gsplat_cuda.load()
    if kernels is None:
        assert module is None and "CUDA toolkit" in reason
    else:
        assert module is sys.modules["gsplat"] and reason == ""


def test_a_failed_compilation_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> ModuleType:
        raise RuntimeError("Error building extension 'gsplat_cuda'\nninja: build stopped")

    monkeypatch.setattr(gsplat_cuda.importlib, "import_module", fail)
    module, reason = gsplat_cuda.load()
    assert module is None
    assert "Error building extension" in reason and "ninja: build" not in reason


def row(name: str, forward: float, backward: float) -> Row:
    return Row(name, 1, 5, forward, backward, 9.0, 9.0, device="cuda")


def test_goals_are_judged_against_the_kernels_alone() -> None:
    rows = [
        row("ours", 1.0, 1.4),
        row("gsplat kernels", 1.6, 2.7),
        row("gsplat rasterization_2dgs", 90.0, 90.0),
    ]
    forward, backward, both = rasterizer_cuda.goals(rows, "NVIDIA H200")
    assert forward.value == pytest.approx(1.6) and forward.reached
    assert backward.value == pytest.approx(2.7 / 1.4) and not backward.reached
    assert both.value == pytest.approx(2.4) and both.reached and "this is an H200" in both.what
    (alone,) = rasterizer_cuda.goals(rows[:1], "NVIDIA A100")
    assert "not an H200" in alone.what
