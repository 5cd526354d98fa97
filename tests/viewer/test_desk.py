# SPDX-License-Identifier: Apache-2.0
"""What is done to objects on the desk, and taken back."""

from __future__ import annotations

import pytest

from iqgs.viewer.desk import Desk
from utils.errors import UserError


def test_hiding_and_isolating_are_undone_in_turn() -> None:
    desk = Desk([5, 0, 3], {3: "cup"})
    desk.choose(3)
    desk.hide()
    assert desk.shown == (0, 5)
    desk.isolate()
    assert desk.shown == (3,)
    desk.show_all()
    assert desk.shown == (0, 3, 5)
    assert desk.undo() == "undone: show all" and desk.shown == (3,)
    assert desk.undo() == "undone: isolate 3 cup" and desk.shown == (0, 5)
    assert desk.undo() == "undone: hide 3 cup" and desk.shown == (0, 3, 5)
    with pytest.raises(UserError, match="nothing to undo"):
        desk.undo()


def test_names_are_given_taken_and_undone() -> None:
    desk = Desk([3, 5], {3: "cup"})
    desk.choose(5)
    assert desk.label(5) == "5"
    desk.name("  saucer ")
    assert desk.state.names == {3: "cup", 5: "saucer"} and desk.label(5) == "5 saucer"
    desk.choose(3)
    desk.name("")
    assert desk.state.names == {5: "saucer"}
    desk.undo()
    assert desk.state.names == {3: "cup", 5: "saucer"}


def test_what_changes_nothing_is_not_undone() -> None:
    desk = Desk([3, 5], {})
    desk.choose(3)
    desk.show_all()
    desk.hide()
    desk.hide()
    desk.undo()
    assert desk.shown == (3, 5)
    with pytest.raises(UserError):
        desk.undo()


def test_nothing_is_done_to_nothing() -> None:
    desk = Desk([0, 3], {})
    for action in (desk.hide, desk.isolate, lambda: desk.name("x")):
        with pytest.raises(UserError, match="choose an object first"):
            action()
    desk.choose(77)  # is not there
    assert desk.chosen is None
    desk.choose(0)
    desk.hide()
    assert desk.shown == (3,)
    with pytest.raises(UserError, match="no name"):
        desk.name("dust")
