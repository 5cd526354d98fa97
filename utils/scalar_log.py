# SPDX-License-Identifier: Apache-2.0
"""Scalars over time: log.jsonl, and TensorBoard where it is installed."""

from __future__ import annotations

import json
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.shortage import has_room_for_threads
from utils.storage import write_error

logger = logging.getLogger(__name__)


class ScalarLog:
    """Scalars to `log.jsonl`, one line a record, and to TensorBoard where it is installed.

    A log that cannot be written ends the run (RunError, UserError). TensorBoard is an extra: where
    it fails, one notice says so, and the run goes on without it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.jsonl"
        with self._translated(0):
            # Unbuffered: what a full disk refuses is not tried again at the end.
            self._file = open(self._path, "a+b", buffering=0)  # noqa: SIM115
            self._end_torn_line()
        self._board = _tensorboard_writer(folder)

    def _end_torn_line(self) -> None:
        """A line that a kill or a full disk cut off must not swallow the next record."""
        if self._file.seek(0, 2) == 0:
            return
        self._file.seek(-1, 2)
        if self._file.read(1) != b"\n":
            self._file.write(b"\n")

    @contextmanager
    def _translated(self, size: int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(self._path, error, size) from None

    def write(self, iteration: int, values: dict[str, Any]) -> None:
        """One record; numbers also go to TensorBoard under their names."""
        line = (json.dumps({"iteration": iteration, **values}) + "\n").encode()
        with self._translated(len(line)):
            written = self._file.write(line)
            if written < len(line):  # the disk took a part: the rest tells why
                self._file.write(line[written:])
        for name, value in values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._to_board("add_scalar", name, value, iteration)

    def image(self, iteration: int, name: str, image: Any) -> None:
        """One picture [3, H, W] in 0..1 to TensorBoard."""
        self._to_board("add_image", name, image, iteration)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        self._to_board("close")

    def _to_board(self, method: str, *values: Any) -> None:
        if self._board is None:
            return
        call: Callable[..., None] = getattr(self._board, method)
        try:
            call(*values)
        except (OSError, RuntimeError, ValueError) as error:
            self._board = None
            logger.warning("TensorBoard stops here (%s): scalars go to log.jsonl only", error)


def _tensorboard_writer(folder: Path) -> Any:
    if not has_room_for_threads(1):  # without room its imports fail in odd ways, too
        raise MemoryError("no memory for TensorBoard")
    try:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(folder))
        _say_nothing_of_its_thread(writer)
        return writer
    except (ImportError, OSError, UnicodeError) as error:  # the last: its paths are UTF-8
        logger.info("no TensorBoard (%s): scalars go to log.jsonl only", error)
        return None


def _say_nothing_of_its_thread(writer: Any) -> None:
    """TensorBoard's own thread dies of a full disk with a traceback; the next call raises the same,
    and that is told in a sentence."""
    before = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if not type(failure.thread).__module__.startswith("tensorboard"):
            before(failure)

    threading.excepthook = hook
    weakref.finalize(writer, setattr, threading, "excepthook", before)
