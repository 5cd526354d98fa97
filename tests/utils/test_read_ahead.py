# SPDX-License-Identifier: Apache-2.0
"""The order of what is read ahead, and what happens when a reading fails."""

from __future__ import annotations

import threading

import pytest

from utils import read_ahead as module
from utils.read_ahead import read_ahead


def test_items_come_in_order_and_the_next_is_read_meanwhile() -> None:
    begun = [threading.Event() for _ in range(4)]

    def read(item: int) -> int:
        begun[item].set()
        return item * item

    found = []
    for item, value in enumerate(read_ahead(range(4), read)):
        if item < 3:
            assert begun[item + 1].wait(10)
        found.append(value)
    assert found == [0, 1, 4, 9]
    assert list(read_ahead([], read)) == []


def test_a_failure_is_raised_at_its_turn() -> None:
    def read(item: int) -> int:
        if item == 2:
            raise ValueError("item 2")
        return item

    found = []
    with pytest.raises(ValueError, match="item 2"):
        for value in read_ahead(range(5), read):
            found.append(value)
    assert found == [0, 1]


def test_without_memory_no_thread_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that dies at its start would be waited for forever (python/cpython#140746)."""
    monkeypatch.setattr(module, "has_room_for_threads", lambda count: False)
    here = threading.get_ident()
    read = list(read_ahead(range(4), lambda item: (item, threading.get_ident())))
    assert read == [(item, here) for item in range(4)]
