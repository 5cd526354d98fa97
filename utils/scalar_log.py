# SPDX-License-Identifier: Apache-2.0
"""Scalars over time: log.jsonl, and TensorBoard where it is installed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, TextIO

logger = logging.getLogger(__name__)


class ScalarLog:
    """Scalars to `log.jsonl`, one line a record, and to TensorBoard where it is installed."""

    def __init__(self, folder: Path) -> None:
        self._file: TextIO = open(folder / "log.jsonl", "a", encoding="utf-8")  # noqa: SIM115
        self._board = _tensorboard_writer(folder)

    def write(self, iteration: int, values: dict[str, Any]) -> None:
        """One record; numbers also go to TensorBoard under their names."""
        self._file.write(json.dumps({"iteration": iteration, **values}) + "\n")
        self._file.flush()
        if self._board is None:
            return
        for name, value in values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._board.add_scalar(name, value, iteration)

    def image(self, iteration: int, name: str, image: Any) -> None:
        """One picture [3, H, W] in 0..1 to TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, image, iteration)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder))
    except (ImportError, OSError) as error:
        logger.info("no TensorBoard (%s): scalars go to log.jsonl only", error)
        return None
