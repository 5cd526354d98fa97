# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM as a flag that the training loop reads between two steps."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType

SIGNAL_EXIT = 128  # plus the signal's number, as shells expect: 130 for SIGINT, 143 for SIGTERM


class StopRequest:
    """Within this context the first signal sets `number`; a second one acts at once, unless it is
    the first one's echo, within `echo_seconds`.
    """

    def __init__(self, echo_seconds: float = 0.0) -> None:
        self.number: int | None = None
        self._echo_seconds, self._asked_at = echo_seconds, 0.0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._request)
        return self

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number, self._asked_at = number, time.monotonic()
        elif time.monotonic() - self._asked_at >= self._echo_seconds:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()
