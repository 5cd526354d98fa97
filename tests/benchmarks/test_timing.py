# SPDX-License-Identifier: Apache-2.0
"""Clocks, medians, ratios, goals and results of the benchmarks, for function and not for time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.benchmarks import ceiling, records
from tests.benchmarks.played_gpu import PlayedCuda
from tests.benchmarks.scenes import SceneSize, make_scene
from tests.benchmarks.tables import Goal, Table, timing_table
from tests.benchmarks.timing import (
    Candidate,
    CpuMeter,
    CudaMeter,
    Row,
    leaves_of,
    time_candidates,
    time_renderer,
)


class ScriptedMeter:
    """Says the times that it is told to: forward and backward in turns."""

    kind, name, device, backend, warm_ups = "cpu", "script", "cpu", "reference", 1

    def __init__(self, times: list[float]) -> None:
        self.times = times

    def measure(self, work: Callable[[], Any]) -> tuple[Any, float, float]:
        found = self.times.pop(0)
        return work(), found, 10 * found

    def start_peak(self) -> None:
        pass

    def peak_mib(self) -> float | None:
        return None


def test_candidates_take_turns_and_rows_hold_medians() -> None:
    order: list[tuple[str, int]] = []
    leaf = torch.ones(3, requires_grad=True)

    def make(name: str, threads: int, repeats: int) -> Candidate:
        def render() -> tuple[Tensor, ...]:
            order.append((name, torch.get_num_threads()))
            return (2 * leaf, torch.empty(0), torch.ones(2))

        return Candidate(name, render, [leaf], threads, repeats)

    warm_ups = [99.0, 99.0, 99.0, 99.0]
    turns = [1.0, 2.0, 5.0, 6.0, 7.0, 8.0, 3.0, 4.0]  # a, b, a, a: forward and backward
    before = torch.get_num_threads()
    rows = time_candidates([make("a", 1, 3), make("b", 2, 1)], ScriptedMeter(warm_ups + turns))
    assert order == [("a", 1), ("b", 2), ("a", 1), ("b", 2), ("a", 1), ("a", 1)]
    assert torch.get_num_threads() == before
    assert rows[0] == Row("a", 1, 3, 3.0, 4.0, 30.0, 40.0)
    assert rows[1] == Row("b", 2, 1, 5.0, 6.0, 50.0, 60.0)
    assert leaf.grad is None


def test_backward_reaches_the_leaves_under_the_same_gradients_every_time() -> None:
    surfels = make_scene(SceneSize("few", 8, 8, 5, 1.0), features=2)
    seen: list[Tensor] = []

    def render(splats: Any) -> tuple[Tensor, ...]:
        assert splats.means.grad is None, "gradients of the run before"
        image = 3 * splats.means
        image.register_hook(seen.append)
        return (image,)

    row = time_renderer("x", render, surfels, 1, 2)
    assert row.repeats == 2 and len(seen) == 3
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[1], seen[2])
    assert len(leaves_of(surfels)) == 6


def test_what_has_no_gradient_costs_no_backward() -> None:
    (row,) = time_candidates([Candidate("x", lambda: (torch.ones(2),), [])], CpuMeter())
    assert row.backward_ms == 0.0 == row.backward_cpu_ms


def test_processor_time_is_not_wall_time() -> None:
    _, wall, processor = CpuMeter().measure(lambda: time.sleep(0.05))
    assert wall >= 50 and processor < wall


def test_the_gpu_is_waited_for_and_its_memory_counted_from_what_is_held() -> None:
    cuda = PlayedCuda()
    meter = CudaMeter("cpu", "reference", cuda)
    meter.start_peak()
    result, between, host = meter.measure(lambda: time.sleep(0.01) or "done")
    assert result == "done" and between >= 10 and host < between
    assert cuda.waits == 2 and cuda.resets == 1
    assert meter.peak_mib() == 20.0


def test_ratios_are_over_processor_time_or_time_on_the_gpu() -> None:
    rows = [Row("ours", 1, 5, 1.0, 2.0, 10.0, 10.0), Row("theirs", 2, 5, 4.0, 4.0, 30.0, 10.0)]
    on_cpu = timing_table("t", rows).rows[1]
    assert (on_cpu["ratio_forward"], on_cpu["ratio_backward"], on_cpu["ratio"]) == (3.0, 1.0, 2.0)
    assert "peak_mib" not in on_cpu and "device" not in on_cpu
    cuda = [Row(r.name, 1, 5, r.forward_ms, r.backward_ms, 9, 9, "cuda", 7.0) for r in rows]
    on_gpu = timing_table("t", cuda).rows[1]
    assert (on_gpu["ratio_forward"], on_gpu["ratio_backward"]) == (4.0, 2.0)
    assert on_gpu["ratio"] == pytest.approx(8 / 3) and on_gpu["peak_mib"] == 7.0
    both = timing_table("t", [rows[0], cuda[1]])
    assert [row["device"] for row in both.rows] == ["cpu", "cuda"]


def test_goals_have_a_side() -> None:
    assert Goal("a", 40.0, 40.0).reached and not Goal("a", 39.9, 40.0).reached
    assert Goal("a", 2.5, 2.5, at_least=False).reached
    assert not Goal("a", 2.6, 2.5, at_least=False).reached
    assert str(Goal("a", 2.6, 2.5, at_least=False)) == "a: 2.60 (goal ≤ 2.50, NOT reached)"


def test_tables_as_text_markdown_and_record() -> None:
    rows = [
        {"name": "ours", "forward_ms": 1.234, "x": None},
        {"name": "b", "forward_ms": 123.4, "x": 2},
    ]
    table = Table("Title", rows, ["a note"], [Goal("g", 1.0, 2.0)])
    assert table.as_text().splitlines() == [
        "Title",
        "        fwd ms  x",
        "  ours    1.23  –",
        "  b        123  2",
        "  a note",
        "  g: 1.00 (goal ≥ 2.00, NOT reached)",
    ]
    assert "|  | fwd ms | x |\n|---|---|---|\n| ours | 1.23 | – |" in table.as_markdown()
    record = json.loads(json.dumps(table.as_record()))
    assert record["rows"] == rows and record["goals"][0]["reached"] is False


def test_results_keep_other_sections_and_drop_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "machine.json"
    run = {"hardware": "A Processor"}
    records.write_section(path, "first", run, [Table("one", [])])
    records.write_section(path, "second", run, [Table("two", [])])
    records.write_section(path, "first", run, [Table("three", [])])
    found = records.read_results(path)
    titles = {key: section["tables"][0]["title"] for key, section in found["sections"].items()}
    assert titles == {"first": "three", "second": "two"}
    path.write_text('{"a scene": {"rows": []}}')
    records.write_section(path, "first", run, [Table("four", [])])
    assert list(records.read_results(path)["sections"]) == ["first"]


def test_the_file_is_named_after_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "hardware_name", lambda: "AMD EPYC (TM), 2 processors")
    monkeypatch.setattr(records, "gpu_name", lambda: "NVIDIA H200")
    path = records.results_path(records.machine_name())
    assert path == records.RESULTS / "amd-epyc-tm-2-processors-nvidia-h200.json"


def test_what_others_use_is_told_from_what_we_use(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    now = {"busy": 100, "own": 7.0, "wall": 50.0}

    def line() -> str:  # user nice system idle iowait irq softirq steal ...
        return f"cpu {now['busy'] * ticks} {ticks} {ticks} 999999 999999 {ticks} {ticks} 0 0 0"

    monkeypatch.setattr(records, "_processor_times", line)
    monkeypatch.setattr(records, "own_seconds", lambda: now["own"])
    monkeypatch.setattr(records.time, "monotonic", lambda: now["wall"])
    neighbours = records.Neighbours()
    now.update(busy=116, own=13.0, wall=60.0)  # 16 s of work in 10 s, 6 s of them ours
    assert neighbours.processors() == pytest.approx(1.0)
    monkeypatch.setattr(records, "_processor_times", lambda: "of another system")
    assert neighbours.processors() is None


def test_gains_are_those_of_threads_over_one(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [3.0, 4.0, 4.0, 5.0, 5.0, 6.0, 1.0, 9.0, 8.0, 2.0]  # alone, together, ...
    monkeypatch.setattr(ceiling, "CpuMeter", lambda: ScriptedMeter(turns))
    ran: list[str] = []
    monkeypatch.setattr(ceiling, "LOOPS", {"loop": lambda scale: lambda: ran.append("x")})
    found = ceiling.gains([1, 2], quick=False)
    assert found == {"loop": {1: 1.0, 2: 2 * 4.0 / 5.0}}  # medians 4 and 5
    assert len(ran) == 2 + 5 * (1 + 2)


def test_the_loops_run() -> None:
    for name, by_threads in ceiling.gains([2], quick=True).items():
        assert by_threads[2] > 0, name
