# SPDX-License-Identifier: Apache-2.0
"""The sections on stored weights and losses compare like with like, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from diff_surfel_rasterization.times import KernelTime
from tests.benchmarks import cached_weights, image_loss, kernel_times, mask_loss, step_kernels
from tests.benchmarks.options import Options, choose_meters
from tests.benchmarks.played_gpu import PlayedCuda
from tests.benchmarks.scenes import SceneSize
from tests.benchmarks.timing import CudaMeter, Row

TINY = SceneSize("24x16, 60", 24, 16, 60, 2.0)


@pytest.fixture(params=["cpu", "played gpu"])
def options(request: pytest.FixtureRequest) -> Options:
    meters = choose_meters("cpu")
    if request.param == "played gpu":
        meters = (CudaMeter("cpu", meters[0].backend, PlayedCuda()),)
    return Options(True, 1, meters)


def test_stored_weights(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_weights, "QUICK", TINY)
    (table,) = cached_weights.run(options)
    names = [row["name"] for row in table.rows]
    assert names == ["full path", "quads, half precision", "by pixels, single precision"]
    assert table.goals == (), "goals are for the gate's scene"
    assert any("MiB by quads" in note for note in table.notes)


def test_mask_losses(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_loss, "PIXELS", 5000)
    compared, growth = mask_loss.run(options)
    assert [row["name"] for row in compared.rows] == ["fused", "plain torch, logits stored"]
    assert [row["name"] for row in growth.rows] == ["15 queries", "60 queries", "300 queries"]
    assert compared.goals == ()


def test_image_losses(options: Options) -> None:
    (table,) = image_loss.run(options)
    assert [row["name"] for row in table.rows] == list(image_loss.ROWS)
    assert all(row["forward_ms"] > 0 and row["backward_ms"] > 0 for row in table.rows)
    assert table.goals == (), "goals are for larger images"


def test_all_image_losses_are_of_the_same_thing() -> None:
    found = []
    for losses in image_loss.ROWS.values():
        image, target = image_loss.make_pair(40, 30, "cpu")
        l1, dssim = losses(image, target)
        (l1 + dssim).backward()
        found.append([l1, dssim, image.grad])
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=1e-4, atol=1e-7)


def test_both_losses_are_of_the_same_thing() -> None:
    results = []
    for losses in (mask_loss.fused, mask_loss.plain):
        made = mask_loss.candidate("x", losses, 7, 3000, "cpu", 1)
        focal, dice = made.render()
        (focal.sum() + dice.sum()).backward()
        results.append([focal, dice, *(leaf.grad for leaf in made.leaves)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=1e-5)


def test_goals() -> None:
    rows = [Row("full path", 1, 9, 1, 1, 40, 60), Row("quads, half precision", 1, 9, 1, 1, 5, 5)]
    (goal,) = cached_weights.goals(rows)
    assert goal.value == 10.0 and goal.bound == 7.0
    rows = [Row("fused", 1, 9, 1, 1, 40, 60), Row("plain torch", 1, 3, 1, 1, 900, 1000)]
    (goal,) = mask_loss.goals(rows)
    assert image_loss.goals((640, 426), rows)[0].value == 19.0
    assert image_loss.goals((1600, 1060), rows) == []
    assert goal.value == 19.0 and not goal.reached


def test_kernels_of_a_step(options: Options) -> None:
    normals, activations = step_kernels.run(options)
    for table in (normals, activations):
        assert [row["name"] for row in table.rows] == ["kernel", "torch"]
        assert all(row["forward_ms"] > 0 and row["backward_ms"] > 0 for row in table.rows)


def test_every_kernel_alone(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def timed() -> Iterator[list[KernelTime]]:
        yield [KernelTime("once", 3, 2.0, 1.0, 9.0), KernelTime("twice", 6, 0.5, 0.25, 3.0)]

    monkeypatch.setattr(kernel_times, "QUICK", TINY)
    monkeypatch.setattr(mask_loss, "PIXELS", 50_000)
    monkeypatch.setattr(kernel_times, "timed_kernels", timed)
    tables = kernel_times.run(Options(True, 3, options.meters))
    if options.meter("cuda") is None:
        assert tables == []
        return
    assert len(tables) == 6 and "Played GPU" in tables[0].title
    for table in tables:
        once, twice = table.rows
        assert (once["launches_a_step"], once["ms_a_step"]) == (1.0, 3.0)
        assert (twice["launches_a_step"], twice["ms_a_step"]) == (2.0, 1.0)
        assert table.notes[0].startswith("all kernels: 4.000 ms")
