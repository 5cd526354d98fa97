# SPDX-License-Identifier: Apache-2.0
"""How far a long step of another program is: it works in the background, its rows are counted."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from utils.progress import tqdm

LOOK_EVERY = 0.5  # seconds between two looks


def rows(database: Path, table: str) -> int:
    """How many rows a table of COLMAP's database has; 0 while it cannot be read."""
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=0.1)
    except sqlite3.Error:
        return 0
    try:
        return int(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])
    except sqlite3.Error:
        return 0
    finally:
        connection.close()


def watch(
    title: str,
    work: Callable[[], None],
    cancel: Callable[[], None],
    counted: Callable[[], int],
    total: int,
    quiet: bool,
) -> None:
    """Run `work` in the background and show `counted` of `total`; Ctrl-C asks it to stop."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 (raised again in the main thread)
            failures.append(error)

    thread = threading.Thread(target=run)
    with tqdm(total=total, desc=title, disable=quiet) as bar:
        thread.start()
        try:
            while thread.is_alive():
                thread.join(LOOK_EVERY)
                bar.update(min(counted(), total) - bar.n)
        except KeyboardInterrupt:
            cancel()
            thread.join()
            raise
    if failures:
        raise failures[0]
