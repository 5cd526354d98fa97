# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM as a flag that the training loop reads between two steps."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class StopRequest:
    """Within this context the first signal sets `number`; a second one acts at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._request)
        return self

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for name, handler in self._previous.items():
            signal.signal(name, handler)  # type: ignore[arg-type]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells expect: 130 for SIGINT, 143 for SIGTERM."""
        return 0 if self.number is None else 128 + self.number
