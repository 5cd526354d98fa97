# SPDX-License-Identifier: Apache-2.0
"""Which process this is, and which commands may be several."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest

from utils import entry
from utils.entry import for_many_processes, run_command
from utils.errors import RunError, UserError
from utils.place import Place, place_of

SECOND = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


def test_a_place_is_read_from_what_torchrun_sets() -> None:
    assert place_of({}) == Place(0, 1, 0, 1)
    assert place_of({"WORLD_SIZE": "8"}) == Place(), "of a cluster's own, not torchrun's"
    assert place_of(SECOND) == Place(3, 4, 1, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE must be a number, got 'many'"),
        ({"RANK": "-1"}, "RANK must be a number, got '-1'"),
        ({"RANK": "4"}, "RANK=4 WORLD_SIZE=4"),
        ({"LOCAL_WORLD_SIZE": "1"}, "LOCAL_RANK=1 LOCAL_WORLD_SIZE=1"),
    ],
)
def test_variables_that_name_no_process_are_refused(changes: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        place_of({**SECOND, **changes})


def start(
    monkeypatch: pytest.MonkeyPatch, rank: str, main: entry.Callable[[], int]
) -> tuple[int, list[float]]:
    """Exit code of process `rank` of two on one machine, and how long it has waited."""
    for name, value in {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(sys, "argv", ["scripts/render.py"])
    waited: list[float] = []
    monkeypatch.setattr(entry.time, "sleep", waited.append)
    return run_command(main), waited


def test_a_command_that_is_one_process_refuses_torchrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        raise AssertionError("it ran")

    assert start(monkeypatch, "0", main) == (2, [])
    said = capsys.readouterr().err
    assert said == (
        "error: render.py is one process, and torchrun has started 2; start it without torchrun\n"
    )


@pytest.mark.parametrize("error", [UserError("no such flag"), RunError("no disk")])
def test_one_process_of_a_machine_speaks_of_wrong_flags_and_each_of_failures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    @for_many_processes
    def main() -> int:
        raise error

    code = 2 if isinstance(error, UserError) else 1
    assert start(monkeypatch, "0", main) == (code, [])
    assert capsys.readouterr().err == f"error: {error}\n"
    waited = [entry.SILENT_SECONDS] if code == 2 else []
    assert start(monkeypatch, "1", main) == (code, waited)
    assert capsys.readouterr().err == f"process 1: error: {error}\n"


def test_only_the_first_process_reports(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @for_many_processes
    def main() -> int:
        logging.getLogger("iqgs").warning("a notice")
        return 0

    for rank, said in (("0", "a notice\n"), ("1", "")):
        assert start(monkeypatch, rank, main) == (0, [])
        assert capsys.readouterr().err == said
