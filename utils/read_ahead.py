# SPDX-License-Identifier: Apache-2.0
"""Reading the next item while the one before is worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from utils.shortage import has_room_for_threads

T = TypeVar("T")
U = TypeVar("U")


def read_ahead(items: Iterable[T], read: Callable[[T], U]) -> Iterator[U]:
    """`read(item)` of all items in their order, each begun while its predecessor is in use.

    Reads happen in one thread of their own, one at a time; what `read` raises is raised here, at
    the item's turn. Worth it where reading waits for a disk or runs without the interpreter's lock.
    Where memory is too short for a thread, each is read at its turn.
    """
    if not has_room_for_threads(1):
        yield from map(read, items)
        return
    with ThreadPoolExecutor(1) as reader:
        ahead: Future[U] | None = None
        for item in items:
            coming = reader.submit(read, item)
            if ahead is not None:
                yield ahead.result()
            ahead = coming
        if ahead is not None:
            yield ahead.result()
