# SPDX-License-Identifier: Apache-2.0
"""The progress bar of all commands."""

from __future__ import annotations

from typing import Any

from tqdm import std


class tqdm(std.tqdm):  # noqa: N801 (its name everywhere)
    """tqdm without its thread.

    The thread, one for all bars and hidden ones too, only looks after bars that guess how often to
    look at the clock; these look at every step. Where memory is short, starting it can wait forever
    (python/cpython#140746).
    """

    monitor_interval = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"miniters": 1, **options})
