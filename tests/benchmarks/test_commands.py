# SPDX-License-Identifier: Apache-2.0
"""Whole commands: pairs take turns, failures say why, and the words still fit the programs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as command_line
from tests.benchmarks import commands
from tests.benchmarks.checkouts import Checkout, CommandFailed, Spent
from tests.benchmarks.commands import Command, Series, measure, ratio, record
from tests.benchmarks.options import Options, choose_meters


@pytest.fixture
def pair(tmp_path: Path) -> list[tuple[Checkout, Path]]:
    """Two checkouts that each note their turns in one common file."""
    places = []
    for name in ("this", "other"):
        root = tmp_path / name
        root.mkdir()
        (root / "own.py").write_text(f"NAME = {name!r}\n")
        (root / "turn.py").write_text(
            "import sys, own\n"
            "open(sys.argv[1] + '/../turns', 'a').write(own.NAME + ' ')\n"
            "sys.exit('it broke' if own.NAME == sys.argv[2] else 0)\n"
        )
        places.append((Checkout(name, root, sys.executable), tmp_path / f"run_{name}"))
        places[-1][1].mkdir()
    return places


def turn(failing: str) -> Command:
    return Command("turn", ("turn.py", "{run}", failing))


def test_checkouts_take_turns_with_their_own_modules_and_runs(pair, tmp_path: Path) -> None:
    ((first, second),) = measure([turn("nobody")], pair, repeats=2, warm_ups=1)
    said = (tmp_path / "turns").read_text().split()
    assert said == ["other", "this", "this", "other", "other", "this"]
    assert len(first.spent) == len(second.spent) == 2, "the first turn does not count"
    assert all(spent.wall_ms > 0 and spent.cpu_ms > 0 for spent in first.spent)


def test_what_fails_in_the_other_is_noted_and_not_tried_again(pair, tmp_path: Path) -> None:
    found = measure([turn("other")], pair, repeats=3, warm_ups=0)
    assert (tmp_path / "turns").read_text().split().count("other") == 1
    row = record(turn("other"), found[0])
    assert row["wall_ms"] and row["other_wall_ms"] is None and row["other_times_cpu"] is None
    said = commands.notes([checkout for checkout, _ in pair], found)
    assert any("in other: it broke" in note for note in said)
    with pytest.raises(CommandFailed, match="in this: it broke"):
        measure([turn("this")], pair, repeats=1, warm_ups=0)


def test_the_ratio_is_the_median_over_pairs() -> None:
    ours = Series([Spent(10, 4), Spent(20, 4), Spent(30, 4)])
    theirs = Series([Spent(20, 2), Spent(60, 4), Spent(30, 8)])
    assert ratio(ours, theirs, "wall_ms") == 2.0  # of 2, 3, 1; that of the medians is 1.5
    assert ratio(ours, theirs, "cpu_ms") == 1.0
    row = record(Command("x", ()), [ours, theirs])
    assert row["min_wall_ms"] == 10 and row["wall_ms"] == 20 and row["other_min_cpu_ms"] == 2
    assert "other_wall_ms" not in record(Command("x", ()), [ours])


def test_time_of_the_programs_that_a_program_starts_counts(tmp_path: Path) -> None:
    work = "sum(i * i for i in range(1_000_000))"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    checkout = Checkout("this", tmp_path, sys.executable)
    nested, bare = checkout.run(["-c", child]), checkout.run(["-c", "pass"])
    assert nested.cpu_ms > 2 * bare.cpu_ms  # two interpreters and the work, against one


def test_another_checkout_brings_its_python_where_it_has_one(tmp_path: Path) -> None:
    assert Checkout.other(tmp_path).python == sys.executable
    own = tmp_path / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert Checkout.other(tmp_path).python == str(own)


def test_other_must_be_a_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command_line.main(["--other", str(tmp_path)])
    assert stopped.value.code == 2
    assert "holds no train.py: name the root of a checkout" in capsys.readouterr().err


@pytest.mark.slow
def test_the_words_fit_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scene and run are made; what is started on them ends well."""
    monkeypatch.setattr(commands, "START_UP", commands.START_UP[:1])
    start_up, on_a_run = commands.run(Options(True, 1, choose_meters("cpu")))
    assert [row["name"] for row in start_up.rows] == ["python"]
    assert [row["name"] for row in on_a_run.rows] == [c.name for c in commands.ON_A_RUN]
    for row in (*start_up.rows, *on_a_run.rows):
        assert row["repeats"] == 1 and row["min_wall_ms"] == row["wall_ms"] is not None
