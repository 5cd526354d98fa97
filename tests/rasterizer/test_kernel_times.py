# SPDX-License-Identifier: Apache-2.0
"""Times of the CUDA kernels: what is timed, on the host shim, and what is made of it."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from diff_surfel_rasterization import available_backends, times
from diff_surfel_rasterization.times import KernelTime, as_text, obey_switch, timed_kernels
from tests.rasterizer import cuda_host
from tests.rasterizer.scenes import detached, make_view, map_tensors, random_loss, random_surfels


class Played:
    """Operators that have timed two kernels."""

    def __init__(self) -> None:
        self.wanted = False

    def time_kernels(self, wanted: bool) -> None:
        self.wanted = wanted

    def take_kernel_times(self) -> tuple[list[str], list[torch.Tensor]]:
        return ["short", "long"], [torch.tensor([1.0, 9.0, 2.0]), torch.tensor([20.0])]


def test_medians_the_longest_first() -> None:
    found = times.take_times(Played())
    assert found == [KernelTime("long", 1, 20, 20, 20), KernelTime("short", 3, 2, 1, 12)]
    head, first, second = as_text(found).splitlines()
    assert first.split() == ["long", "1", "20.0000", "20.0000", "20.00"]
    assert second.split()[0] == "short" and head.split()[:2] == ["kernel", "launches"]


def test_the_switch(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    played, ends = Played(), []
    monkeypatch.setattr(atexit, "register", lambda *call: ends.append(call))
    monkeypatch.setattr(times, "operators", lambda: played)
    for off in ({}, {"IQGS_TIMES": "0"}, {"IQGS_TIMES": ""}):
        obey_switch(off)
    assert not played.wanted and not ends
    obey_switch({"IQGS_TIMES": "1"})
    assert played.wanted
    ((report, *arguments),) = ends
    report(*arguments)
    assert "long" in capsys.readouterr().err
    monkeypatch.setattr(times, "operators", lambda: object())
    with caplog.at_level(logging.WARNING):
        obey_switch({"IQGS_TIMES": "1"})
    assert "built without CUDA kernels" in caplog.text and len(ends) == 1
    with pytest.raises(RuntimeError, match="without CUDA kernels"), timed_kernels():
        pass


@pytest.fixture
def shim(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The operators of the host shim, those of the times among them."""
    if "cpu" not in available_backends():
        pytest.skip("the native library is not built: bash scripts/setup.sh")
    if cuda_host.compiler() is None:
        pytest.skip("no host compiler: apt install g++")
    from diff_surfel_rasterization import native

    loaded = cuda_host.load_host_operators()
    monkeypatch.setattr(times, "operators", lambda: loaded)
    monkeypatch.setattr(native, "_operators", lambda function, tensor: loaded)
    return loaded


@pytest.fixture
def render() -> Callable[[], None]:
    """A view forward and backward."""
    from diff_surfel_rasterization import native

    surfels, view = detached(random_surfels(60, seed=3), torch.float32), make_view(20, 18)

    def work() -> None:
        copy = map_tensors(surfels, lambda t: t.clone().requires_grad_())
        random_loss(native.rasterize_native(copy, view), 0).backward()

    return work


def test_every_kernel_of_a_view_is_timed(shim: Any, render: Callable[[], None]) -> None:
    with timed_kernels() as found:
        for _ in range(3):
            render()
    by_name = {time.name: time for time in found}
    once = {
        *("project_pairs", "tighten", "number", "reorder", "emit", "list", "clear_pairs"),
        *("sort_pairs", "sort_pairs_wide", "blend_forward", "blend_backward"),
        *("sum_rows", "project_backward_pairs"),  # the shim plays a device of slow doubles
    }
    assert set(by_name) == once | {"exclusive_scan"}
    assert {by_name[name].launches for name in once} == {3}
    assert by_name["exclusive_scan"].launches == 6
    for time in found:
        assert 0 < time.least_ms <= time.median_ms <= time.total_ms
    assert [time.total_ms for time in found] == sorted((t.total_ms for t in found), reverse=True)


def test_nothing_is_timed_outside(shim: Any, render: Callable[[], None]) -> None:
    with timed_kernels() as found:
        pass
    render()
    assert found == [] and times.take_times(shim) == []


def test_more_launches_than_are_kept_as_events(shim: Any) -> None:
    value, mean, square = (torch.zeros(1, 1) for _ in range(3))
    last, rows, gradient = torch.zeros(1, dtype=torch.int64), torch.tensor([0]), torch.ones(1, 1)
    with timed_kernels() as found:
        for step in range(2500):
            numbers = [0.9, 0.999, 0.1, 1.0, 1e-8]
            shim.step_rows(value, mean, square, last, rows, gradient, numbers, step, 0)
    assert {time.name: time.launches for time in found} == {"step_rows": 2500, "date_rows": 2500}
