# SPDX-License-Identifier: Apache-2.0
"""Messages, scalars and exit codes of the command lines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from utils.errors import IQGSError

logger = logging.getLogger(__name__)

SIGINT_EXIT = 130


def configure_logging(verbose: bool = False) -> None:
    """Plain messages on stderr; called once, by a door."""
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)


def run_door(main: Callable[[], int]) -> int:
    """Run a command line: an expected error becomes one sentence and its exit code."""
    configure_logging()
    try:
        return main()
    except IQGSError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        sys.stderr.write(
            "error: out of memory; lower the resolution (-r), --splat_cap, "
            "--sh_degree or --cache_gb; the last checkpoint is intact\n"
        )
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return SIGINT_EXIT


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate" in text


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
