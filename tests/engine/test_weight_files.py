# SPDX-License-Identifier: Apache-2.0
"""Cached views on disk: a round trip changes nothing; foreign and damaged files are replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from arguments import RunConfig
from diff_surfel_rasterization import QuadWeights, splat_weights
from gaussian_renderer import MIN_WEIGHT, splat, view_weights
from iqgs.engine.lifting.weight_cache import WeightCache, fit_view, sample_pixels
from iqgs.engine.lifting.weight_files import (
    CachedView,
    Choice,
    WeightFiles,
    geometry_digest,
    view_fingerprint,
)
from iqgs.engine.opening import begin_run
from iqgs.engine.run import Run
from iqgs.engine.stages.protocol import Stage, take_step
from iqgs.engine.training import learn_instances
from utils.errors import UserError

from .test_weight_cache import make_weights

CPU = torch.device("cpu")
PLENTY = Choice(1e9, 0)


def files_in(folder: Path, fingerprint: str = "a") -> WeightFiles:
    return WeightFiles(folder, lambda index: f"{fingerprint}{index}", CPU)


def whole_view(seed: int = 0) -> CachedView:
    return fit_view(make_weights(seed), PLENTY.share, 0)


def same(first: CachedView | None, second: CachedView) -> bool:
    if first is None or (first.pixels is None) != (second.pixels is None):
        return False
    pairs = [*zip(first.weights.tensors, second.weights.tensors, strict=True)]
    pairs += [(first.touched, second.touched), (first.shown, second.shown)]
    if first.pixels is not None and second.pixels is not None:
        pairs.append((first.pixels, second.pixels))
    sizes = replace(
        first.weights,
        **dict(zip(("quad_start", "row", "weight", "extra"), second.weights.tensors, strict=True)),
    )
    return sizes == second.weights and all(
        torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs
    )


def test_a_round_trip_changes_nothing(tmp_path: Path) -> None:
    files, view = files_in(tmp_path / "new" / "folder"), whole_view()
    assert files.read(3, PLENTY) is None
    files.write(3, view, PLENTY)
    found = files.read(3, PLENTY)
    assert same(found, view)
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["00003.weights"]
    assert found is not None and found.nbytes == view.nbytes
    assert (tmp_path / "new/folder/00003.weights").stat().st_size < view.nbytes + 2000


def test_a_subset_comes_back_for_the_same_budget_and_seed_only(tmp_path: Path) -> None:
    share = 0.5 * whole_view().nbytes
    choice = Choice(share, 7)
    view = fit_view(make_weights(), choice.share, choice.seed)
    assert view.pixels is not None
    files = files_in(tmp_path)
    files.write(0, view, choice)
    assert same(files.read(0, choice), view)
    assert files.read(0, Choice(share, 8)) is None
    assert files.read(0, Choice(2 * share, 7)) is None


def test_a_whole_view_serves_every_budget_that_it_fits(tmp_path: Path) -> None:
    files, view = files_in(tmp_path), whole_view()
    files.write(0, view, PLENTY)
    assert same(files.read(0, Choice(view.nbytes, 5)), view)
    assert files.read(0, Choice(view.nbytes - 1, 5)) is None


def test_nothing_that_is_done_to_the_tensors_reaches_the_file(tmp_path: Path) -> None:
    files, view = files_in(tmp_path), whole_view()
    files.write(0, view, PLENTY)
    found = files.read(0, PLENTY)
    assert found is not None
    found.weights.weight.fill_(1.0)
    assert same(files.read(0, PLENTY), view)


def test_an_empty_view_is_kept_too(tmp_path: Path) -> None:
    weights = make_weights()
    nothing = QuadWeights(
        torch.zeros_like(weights.quad_start),
        weights.row[:0],
        weights.weight[:0],
        weights.extra[:0],
        weights.width,
        weights.height,
        weights.n_splats,
    )
    view, files = fit_view(nothing, PLENTY.share, 0), files_in(tmp_path)
    files.write(0, view, PLENTY)
    assert same(files.read(0, PLENTY), view)
    sampled = sample_pixels(view, 5, torch.Generator().manual_seed(0))
    assert torch.equal(sampled.splat(torch.ones(0, 3)), torch.zeros(5, 3))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[:-100],
    "longer": lambda data: data + bytes(64),
    "empty": lambda data: b"",
    "only the first line": lambda data: data[: data.index(b"\n") + 1],
    "another format": lambda data: b"IQGX" + data[4:],
    "one bit of a weight": lambda data: data[:-4000] + bytes([data[-4000] ^ 1]) + data[-3999:],
    "no JSON": lambda data: data.replace(b'{"', b'["', 1),
    "no object": lambda data: data[: data.index(b"\n") + 1] + b"[1]\n" + data[1000:],
    "a size is missing": lambda data: data.replace(b'"width"', b'"broad"', 1),
    "a shape is wrong": lambda data: data.replace(b'"shapes": [[', b'"shapes": [[9', 1),
    "no shape at all": lambda data: data.replace(b'"shapes": [[', b'"shapes": 3,"s":[[', 1),
    "noise": lambda data: np.random.default_rng(0).bytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_noticed_and_replaced(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files, view = files_in(tmp_path), whole_view()
    files.write(0, view, PLENTY)
    path = files.path(0)
    changed = DAMAGES[damage](path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    assert files.read(0, PLENTY) is None
    assert f"{path} is damaged" in caplog.text
    cache = WeightCache(1, lambda index: make_weights(), 1e9, 0, files)
    assert same(cache.view(0), view)
    assert same(files.read(0, PLENTY), view)


def test_weights_that_point_outside_themselves_are_refused(tmp_path: Path) -> None:
    view = whole_view()
    wrong = replace(view, weights=replace(view.weights, row=view.weights.row + 1000))
    files = files_in(tmp_path)
    files.write(0, wrong, PLENTY)
    assert files.read(0, PLENTY) is None


def test_a_file_of_other_splats_is_replaced(tmp_path: Path) -> None:
    files_in(tmp_path, "a").write(0, whole_view(0), PLENTY)
    files = files_in(tmp_path, "b")
    assert files.read(0, PLENTY) is None
    calls: list[int] = []

    def compute(index: int) -> QuadWeights:
        calls.append(index)
        return make_weights(1)

    for _ in range(2):
        cache = WeightCache(2, compute, 2e9, 0, files)
        assert same(cache.view(0), whole_view(1))
        assert same(cache.view(0), whole_view(1))
    assert calls == [0], "the second cache should have found the file"


def test_the_budget_bounds_the_disk(tmp_path: Path) -> None:
    whole = whole_view().nbytes
    cache = WeightCache(3, make_weights, 1.8 * whole, 0, files_in(tmp_path))
    in_memory = WeightCache(3, make_weights, 1.8 * whole, 0)
    for index in range(3):
        assert same(cache.view(index), in_memory.view(index))
    assert cache.subsampled == 3 and cache.stored_bytes == in_memory.stored_bytes
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size < 1.8 * whole + 3 * 2000  # headers and gaps


def test_a_folder_that_cannot_be_used_names_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--cache_path .*/file: .*; name a folder"):
        files_in(tmp_path / "file")


def test_leftovers_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    left = tmp_path / ".00000.weights.999999999.0.tmp"
    left.touch()
    files_in(tmp_path)
    assert not left.exists()


def begin(config: RunConfig) -> Run:
    return begin_run(config, Path(config.model.model_path), CPU)


def totals_of(stage: Stage, steps: int) -> list[float]:
    return [take_step(stage, i).total.item() for i in range(stage.first, stage.first + steps)]


@pytest.fixture
def training(make_config: Callable[..., RunConfig]) -> Run:
    return begin(make_config("run"))


def test_every_splat_camera_and_threshold_counts(training: Run) -> None:
    camera = training.scene.train[0].camera
    splats = geometry_digest(training.gaussians)
    fingerprint = view_fingerprint(splats, camera, 0.004)
    assert fingerprint == view_fingerprint(splats, replace(camera, name="other", uid=9), 0.004)
    turned = camera.world_to_view.clone()
    turned[0, 3] += 1e-9
    others = {
        view_fingerprint(splats, replace(camera, fx=camera.fx + 1e-9), 0.004),
        view_fingerprint(splats, replace(camera, width=camera.width + 1), 0.004),
        view_fingerprint(splats, replace(camera, world_to_view=turned), 0.004),
        view_fingerprint(splats, camera, 0.005),
    }
    for name in ("means", "log_scales", "quaternions", "opacity_logits"):
        with torch.no_grad():
            training.gaussians.params[name][5, 0] += 1e-3
        others.add(view_fingerprint(geometry_digest(training.gaussians), camera, 0.004))
    assert len(others) == 8 and fingerprint not in others
    with torch.no_grad():
        training.gaussians.params["instance"].fill_(2.0)
    assert view_fingerprint(geometry_digest(training.gaussians), camera, 0.004) in others


def losses(config: RunConfig, steps: int = 6) -> list[float]:
    stage = learn_instances(begin(config))
    return totals_of(stage, steps)


def test_learning_from_disk_is_learning_from_memory(
    make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    expected = losses(make_config("run"))
    folder = str(tmp_path / "cache")
    assert losses(make_config("run", cache_path=folder)) == expected
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert losses(make_config("run", cache_path=folder)) == expected
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").iterdir()} == written


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.detach() - expected.detach()).norm() / expected.detach().norm())


@pytest.mark.parametrize("cache_gb", [4.0, 0.00005, 0.0])
def test_steps_on_whole_views_see_the_rendered_features(
    cache_gb: float, make_config: Callable[..., RunConfig]
) -> None:
    training = begin(make_config("run", pixels_per_step=0, cache_gb=cache_gb))
    stage = learn_instances(training)
    view = training.scene.train[0]
    sampled = sample_pixels(stage.cache.view(0), 0, torch.Generator())
    instance = training.gaussians.instance
    found = sampled.splat(instance[sampled.touched])
    rows = view_weights(view.camera, training.gaussians, MIN_WEIGHT)
    kept = splat_weights(rows, sampled.pixels, instance)
    full = splat(view.camera, training.gaussians, instance).flatten(1).T[sampled.pixels]
    assert (len(found) < view.camera.width * view.camera.height) == (cache_gb == 0.00005)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(0))
    # Halves change little; what was under a grey level is more here, the splats are still faint.
    for expected, tolerance in ((kept, 1e-3), (full, 0.05)):
        assert error(found, expected) < tolerance
        (ours,) = torch.autograd.grad(found, instance, upstream, retain_graph=True)
        (theirs,) = torch.autograd.grad(expected, instance, upstream)
        assert error(ours, theirs) < tolerance
    totals = totals_of(stage, 3)
    assert all(np.isfinite(totals)) and len(set(totals)) == 3
