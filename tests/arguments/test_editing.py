# SPDX-License-Identifier: Apache-2.0
"""The command line of edit.py."""

from __future__ import annotations

import pytest

from arguments.editing import COMMANDS, MoveParams, RecolorParams, parse_edit_arguments
from utils.errors import UserError

RUN = ["-m", "run"]


def test_numbers_below_zero_are_values_and_no_flags() -> None:
    typed = ["move", *RUN, "--id", "a", "b", "--by", "-1,0,-2", "--degrees", "-30"]
    command, params = parse_edit_arguments(typed)
    assert command == "move" and isinstance(params, MoveParams)
    assert (params.by, params.degrees, params.id) == ("-1,0,-2", -30.0, ("a", "b"))
    _, boxed = parse_edit_arguments(["remove", *RUN, "--box", "-1,-1,-1,1,1,1", "--hull"])
    assert vars(boxed)["box"] == "-1,-1,-1,1,1,1" and vars(boxed)["hull"]


@pytest.mark.parametrize("text", ["#ff8000", "ff8000", "255,128,0"])
def test_a_colour_is_written_in_either_way(text: str) -> None:
    _, params = parse_edit_arguments(["recolor", *RUN, "--id", "1", "--color", text])
    assert isinstance(params, RecolorParams)
    assert params.rgb == pytest.approx((1.0, 128 / 255, 0.0))


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ([], "COMMAND"),
        (["paint", *RUN], "paint"),
        (["list"], "--model_path"),
        (["remove", *RUN], "--id"),
        (["remove", *RUN, "--pixel", "3,4"], "--view"),
        (["remove", *RUN, "--pixel", "3.5,4", "--view", "a"], "--pixel"),
        (["remove", *RUN, "--pixel", "-3,4", "--view", "a"], "--pixel"),
        (["remove", *RUN, "--box", "0,0,0,1,1"], "--box"),
        (["remove", *RUN, "--box", "0,0,0,1,1,0"], "--box"),
        (["remove", *RUN, "--box", "0,0,0,1,1,nan"], "--box"),
        (["recolor", *RUN, "--id", "1"], "--color"),
        (["recolor", *RUN, "--id", "1", "--color", "256,0,0"], "--color"),
        (["recolor", *RUN, "--id", "1", "--color", "red"], "--color"),
        (["move", *RUN, "--id", "1", "--scale", "0"], "--scale"),
        (["move", *RUN, "--id", "1", "--axis", "0,0,0"], "--axis"),
        (["move", *RUN, "--id", "1", "--degrees", "inf"], "--degrees"),
        (["split", *RUN], "--id"),
        (["split", *RUN, "--id", "0"], "--id"),
        (["split", *RUN, "--id", "1", "--box", "0,0,0,1,1,1", "--plane", "0,0,0,1,1,1"], "--plane"),
        (["clean", *RUN, "--rounds", "9"], "--rounds"),
        (["clean", *RUN, "--views", "0"], "--views"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_one_sentence_that_names_the_flag(
    typed: list[str], names: str
) -> None:
    with pytest.raises(UserError) as refused:
        parse_edit_arguments(typed)
    assert names in str(refused.value) and "\n" not in str(refused.value)


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as left:
            parse_edit_arguments([command, "--help"])
        assert left.value.code == 0 and command in capsys.readouterr().out
