# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.benchmarks`: its sections run, and its files are what they should be."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import growth, memory, rasterizer
from tests.benchmarks.options import Options, choose_meters
from tests.benchmarks.played_gpu import PlayedCuda
from tests.benchmarks.scenes import QUICK, SceneSize
from tests.benchmarks.sections import SECTIONS, Section
from tests.benchmarks.tables import Table
from tests.benchmarks.timing import CudaMeter, Row
from tests.benchmarks.training_scene import ROUTES

ROOT = Path(__file__).resolve().parents[2]
TINY = SceneSize("24x16, 60", 24, 16, 60, 2.0)


@pytest.fixture
def quick_options() -> Options:
    return Options(True, 1, choose_meters("cpu"))


def check_tables(tables: Sequence[Table]) -> None:
    assert tables
    for table in tables:
        assert len({tuple(row) for row in table.rows}) <= 1, "rows have the same columns"
        json.dumps(table.as_record(), allow_nan=False)
        assert table.title in table.as_text() and table.title in table.as_markdown()


def test_the_command_as_a_shell_sees_it(tmp_path: Path) -> None:
    output, markdown = tmp_path / "results.json", tmp_path / "tables.md"
    words = ["--quick", "--repeats", "1", "--only", "rasterizer,rasterizer-cuda", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *words]
        + ["--output", str(output), "--markdown", str(markdown)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert list(found["sections"]) == ["rasterizer"], "without a GPU there is nothing of it"
    section = found["sections"]["rasterizer"]
    for key in ("hardware", "torch", "cuda", "load_average_before", "revision", "repeats"):
        assert key in section
    rows = section["tables"][0]["rows"]
    assert rows[0]["name"] == "ours" and rows[0]["ratio"] == 1.0
    assert rows[-1]["name"] == "tile-loop torch" and rows[-1]["ratio_forward"] > 0
    assert f"written to {output}" in done.stdout
    assert markdown.read_text().count("| ours |") == 2


def test_growth_has_a_table_for_everything_that_grows(
    quick_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "QUICK", TINY)
    tables = growth.run(quick_options)
    check_tables(tables)
    assert [table.title.split(" (")[0] for table in tables] == [*growth.AXES, "threads"]
    pixels, splats, contributions, channels, threads = (table.rows for table in tables)
    assert [row["name"] for row in channels] == ["3", "8", "19", "35", "67"]
    assert [row["ratio"] for row in channels][2] == 1.0
    assert [row["name"] for row in pixels] == ["12x8", "24x16", "48x32"]
    assert [row["name"] for row in splats] == ["6", "15", "60", "150"]
    per_pixel = [row["contributions_per_pixel"] for row in contributions]
    assert per_pixel == sorted(per_pixel) and per_pixel[0] > 0
    assert threads[0]["name"] == "1" and threads[0]["forward_gain"] == 1.0


def test_growth_runs_on_a_played_gpu(
    quick_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "QUICK", TINY)
    backend = quick_options.meters[0].backend
    options = replace(quick_options, meters=(CudaMeter("cpu", backend, PlayedCuda()),))
    tables = growth.run(options)
    check_tables(tables)
    assert len(tables) == len(growth.AXES), "threads are a matter of the CPU"
    assert all(row["peak_mib"] == 20.0 for table in tables for row in table.rows)
    assert all("Played GPU" in table.title for table in tables)


@pytest.mark.parametrize("counter", [memory.ResidentSize(), memory.Allocated(PlayedCuda())])
def test_memory_of_one_route(counter: memory.Counter) -> None:
    usage = memory.measure_steps("instances, 4096 pixels, 300 queries", QUICK, "cpu", counter)
    assert 0 < usage.before_mib <= usage.peak_mib
    if isinstance(counter, memory.Allocated):
        assert asdict(usage) == {"before_mib": 10.0, "peak_mib": 30.0}


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK),
    reason="elsewhere the peak is that of the whole process: run it on Linux with /proc",
)
def test_memory_sees_what_a_step_takes_and_gives_back() -> None:
    counter = memory.ResidentSize()
    before = counter.held()
    with mmap.mmap(-1, 64 << 20) as block:  # pages that nobody has freed before
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
    assert counter.peak() >= before + 60


def test_memory_of_all_routes(quick_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def play(route: str, size: SceneSize, meter: object) -> memory.Usage:
        asked.append((route, size.name))
        return memory.Usage(100.0, 150.0)

    monkeypatch.setattr(memory, "in_own_process", play)
    tables = memory.run(replace(quick_options, quick=False))
    check_tables(tables)
    assert {size for _, size in asked} == {"640x426, 200k", "1558x1039, 1M"}
    assert tables[0].goals == () and tables[1].goals[0].value == pytest.approx(150 / 1024)
    assert [row["above_mib"] for row in tables[0].rows] == [50.0] * len(ROUTES)


def test_a_child_measures_and_a_failing_child_says_why(quick_options: Options) -> None:
    meter = quick_options.meters[0]
    usage = memory.in_own_process("reconstruction", QUICK, meter)
    assert 50 < usage.before_mib <= usage.peak_mib
    with pytest.raises(RuntimeError, match=r"a step of no such route .*KeyError"):
        memory.in_own_process("no such route", QUICK, meter)


def test_goals_of_the_gate() -> None:
    rows = [
        Row("ours", 1, 9, 50, 90, 50, 90),
        Row("ours", 2, 9, 30, 50, 55, 95),
        Row("ours, colour only", 1, 9, 47, 70, 47, 70),
        Row("gsplat's torch 2DGS, pairs given free", 1, 3, 1, 1, 2800, 4200),
        Row("tile-loop torch", 1, 3, 1, 1, 5000, 5000),
    ]
    gsplat, loop, forward, backward, threads = rasterizer.goals(rows)
    assert gsplat.value == 50.0 and gsplat.reached
    assert loop.value == pytest.approx(71.43, abs=0.01) and not loop.reached
    assert forward.value == pytest.approx(100 * 3 / 47) and forward.reached
    assert backward.value == pytest.approx(100 * 20 / 70) and not backward.reached
    assert threads.value == pytest.approx(140 / 80) and not threads.reached


def stub(monkeypatch: pytest.MonkeyPatch, **runs: object) -> None:
    found = {name: Section(name, run) for name, run in runs.items()}
    monkeypatch.setattr(command, "SECTIONS", found)


def test_a_section_that_fails_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: Options) -> list[Table]:
        raise RuntimeError("out of memory")

    stub(monkeypatch, bad=fail, good=lambda options: [Table("fine", [{"name": "x"}])])
    output = tmp_path / "r.json"
    assert command.main(["--quick", "--output", str(output)]) == 1
    assert "FAILED: RuntimeError: out of memory" in capsys.readouterr().out
    assert list(json.loads(output.read_text())["sections"]) == ["bad", "good"]


def test_figures_in_passing_are_not_kept_unless_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written: list[Path] = []
    monkeypatch.setattr(command, "write_section", lambda path, *rest: written.append(path))
    monkeypatch.setattr(command, "results_path", lambda machine: tmp_path / "machine.json")
    stub(monkeypatch, good=lambda options: [Table("fine", [])])
    assert command.main(["--quick"]) == 0 and written == []
    (tmp_path / "train.py").touch()
    assert command.main(["--other", str(tmp_path)]) == 0 and written == []
    assert command.main([]) == 0 and written == [tmp_path / "machine.json"]


def test_wrong_words_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, sentence in (
        (["--only", "rasterizer,nonsense"], "no section nonsense; there are rasterizer"),
        (["--repeats", "0"], "--repeats must be at least 1, got 0"),
    ):
        with pytest.raises(SystemExit) as stopped:
            command.main(words)
        assert stopped.value.code == 2 and sentence in capsys.readouterr().err
    monkeypatch.setattr("tests.benchmarks.options.available_backends", lambda: ("cpu", "reference"))
    assert command.main(["--device", "cuda"]) == 2
    assert "needs an NVIDIA GPU and a build with CUDA" in capsys.readouterr().err


def test_only_keeps_the_order_of_the_sections() -> None:
    assert command.section_names(" memory,rasterizer") == ["rasterizer", "memory"]
    assert all(section.title for section in SECTIONS.values())


def test_meters_follow_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.benchmarks import options

    monkeypatch.setattr(options, "CudaMeter", lambda: CudaMeter("cpu", "cuda", PlayedCuda()))
    kinds = {}
    for built in (("cuda", "cpu", "reference"), ("cpu", "reference"), ("reference",)):
        monkeypatch.setattr(options, "available_backends", lambda built=built: built)
        kinds[built] = [(meter.kind, meter.backend) for meter in choose_meters("auto")]
    assert list(kinds.values()) == [
        [("cpu", "cpu"), ("cuda", "cuda")],
        [("cpu", "cpu")],
        [("cpu", "reference")],
    ]
