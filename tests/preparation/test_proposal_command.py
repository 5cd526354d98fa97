# SPDX-License-Identifier: Apache-2.0
"""Masks of any other program: what it is told, what it may write, and what it may not."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from iqgs.preparation.proposals.command import CommandProposer
from utils.errors import DataError, IQGSError, RunError, UserError

from .shapes import box

FAKE = Path(__file__).with_name("fake_segmenter.py")


def photograph() -> np.ndarray:
    image = np.zeros((30, 40, 3), np.uint8)
    image[4:14, 4:16] = 200
    image[16:26, 20:36] = 120
    return image


def proposer(kind: str, timeout: float = 60.0) -> CommandProposer:
    program = f"{shlex.quote(sys.executable)} {shlex.quote(str(FAKE))}"
    return CommandProposer(f"{program} {{image}} {{output}} {kind}", timeout)


@pytest.mark.parametrize("kind", ["png", "bare", "npz", "folder", "json"])
def test_masks_in_any_format_are_read(kind: str) -> None:
    layers = proposer(kind).propose(photograph())
    assert layers.source.tolist() == [1, 2]
    found = {mask.tobytes() for mask in layers.unpack()}
    assert found == {box(4, 4, 16, 14).tobytes(), box(20, 16, 36, 26).tobytes()}
    assert layers.score.tolist() == ([0.5, 0.5] if kind == "json" else [1.0, 1.0])


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("fail", RunError, "failed with exit code 3: no weights here"),
        ("nothing", DataError, "wrote nothing; expected one file or folder"),
        ("two", DataError, "wrote masks.bmp, masks.png; expected one"),
        ("text", DataError, "masks.txt"),
    ],
)
def test_what_goes_wrong_is_one_sentence(kind: str, error: type[IQGSError], said: str) -> None:
    with pytest.raises(error) as caught:
        proposer(kind).propose(photograph())
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(RunError, match=r"took more than 0\.2 s.*--command_timeout"):
        proposer("hang", 0.2).propose(photograph())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no_such_program_anywhere {image} {output}", "was not found"),
        ("{image} {output}", "--command"),
    ],
)
def test_a_program_that_is_none(command: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        CommandProposer(command, 5.0).propose(photograph())


def test_quotes_must_match() -> None:
    with pytest.raises(UserError, match="--command .*quotation"):
        CommandProposer("prog '{image} {output}", 5.0)


def test_no_shell_sees_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be commands of a shell is handed on as it is."""
    folder = tmp_path / "a b; touch hacked"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    assert len(proposer("png").propose(photograph())) == 2
    with pytest.raises(RunError):
        CommandProposer("false {image} {output} ; touch hacked", 5.0).propose(photograph())
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name]
