# SPDX-License-Identifier: Apache-2.0
"""What the machine can do at best: the arithmetic of rates, stand-ins, and where it is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import peak
from tests.benchmarks.peak import COMPILED, STAND_IN, Peak, best_rate, peak_of
from tests.benchmarks.played_gpu import PlayedCuda
from tests.benchmarks.sections import Section
from tests.benchmarks.tables import Table
from tests.benchmarks.timing import CpuMeter, CudaMeter, processor_name
from tests.rasterizer.build_tools import toolkit


class ScriptedMeter(CpuMeter):
    """Says (wall, processor) milliseconds that it is told to."""

    def __init__(self, kind: str, times: list[tuple[float, float]]) -> None:
        super().__init__()
        self.kind, self.times = kind, times

    def measure(self, work: Callable[[], Any]) -> tuple[Any, float, float]:
        return (work(), *self.times.pop(0))


def test_a_rate_is_of_the_best_turn() -> None:
    times = [(4.0, 9.0), (2.0, 8.0), (3.0, 5.0)]
    assert best_rate(ScriptedMeter("cpu", list(times)), list, 10.0, 3) == pytest.approx(2000.0)
    assert best_rate(ScriptedMeter("cuda", list(times)), list, 10.0, 3) == pytest.approx(5000.0)


@pytest.mark.skipif(toolkit.find_compiler() is None, reason="no C++ compiler: apt install g++")
def test_loops_are_compiled_for_the_processor() -> None:
    found, loops = peak_of(CpuMeter(), quick=True), peak.native_loops()
    assert found.measured_by == COMPILED and loops is not None
    assert loops.vector_lanes() in (4, 8, 16)
    assert found.gflops > 0 and found.copy_gib_per_s > 0
    assert loops.copy_gib(1 << 62, 1) == 0.0, "no memory for that is no rate, and no crash"


def test_without_a_compiler_torch_stands_in_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "native_loops", lambda: None)
    monkeypatch.setattr(peak, "CPU_SIDE", 32)
    found = peak_of(CpuMeter(), quick=True)
    assert found.measured_by == STAND_IN and found.gflops > 0 and found.copy_gib_per_s > 0


def test_a_compiler_that_refuses_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "FLAGS", ["--no-such-flag"])
    assert peak.native_loops.__wrapped__() is None


def test_a_gpu_is_measured_by_torch() -> None:
    found = peak_of(CudaMeter("cpu", "cpu", PlayedCuda()), quick=True)
    assert found.measured_by == STAND_IN and found.name == "Played GPU"
    assert found.gflops > 0 and found.copy_gib_per_s > 0


def test_it_stands_above_every_table_and_in_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Peak("one thread", 80.0, 9.4, COMPILED)
    monkeypatch.setattr(command, "peak_of", lambda meter, quick: made)
    tables = [Table("first", [{"name": "x"}]), Table("second", [])]
    monkeypatch.setattr(command, "SECTIONS", {"some": Section("some", lambda options: tables)})
    output, markdown = tmp_path / "r.json", tmp_path / "t.md"
    words = ["--quick", "--device", "cpu", "--output", str(output), "--markdown", str(markdown)]
    assert command.main(words) == 0
    line = "one thread at best: 80 GFLOP/s in float32, 9.4 GiB/s copying"
    assert capsys.readouterr().out.count(line) == 2 and markdown.read_text().count(line) == 2
    section = json.loads(output.read_text())["sections"]["some"]
    assert section["peaks"] == [made.as_record()]
    assert [table["machine"] for table in section["tables"]] == [[str(made)]] * 2


def test_processors_of_one_name_are_told_apart() -> None:
    text = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\nstepping\t: 1\n"
    assert processor_name(text) == "AMD EPYC family 25 model 1"
    assert processor_name("model name\t: Some ARM\n") == "Some ARM"
    assert processor_name("") is None
