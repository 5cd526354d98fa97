# SPDX-License-Identifier: Apache-2.0
"""Which of several processes on one run this is, as torchrun and programs like it tell.

Imports nothing that may be missing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from utils.errors import UserError


@dataclass(frozen=True)
class Place:
    """The number of a process among all, and among those of its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def speaks_for_all(self) -> bool:
        """Whether this one tells what all processes of its machine find out: a wrong flag."""
        return self.local_rank == 0


def place_of(environment: Mapping[str, str] | None = None) -> Place:
    """The place that the variables RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE name; a
    process alone where RANK is missing. UserError where they hold no such numbers.
    """
    given = os.environ if environment is None else environment
    if "RANK" not in given:
        return Place()
    rank, world = _number(given, "RANK", 0), _number(given, "WORLD_SIZE", 1)
    local_rank = _number(given, "LOCAL_RANK", 0)
    local_world = _number(given, "LOCAL_WORLD_SIZE", 1)
    if not (rank < world and local_rank < local_world <= world):
        raise UserError(
            f"RANK={rank} WORLD_SIZE={world} LOCAL_RANK={local_rank} LOCAL_WORLD_SIZE="
            f"{local_world} name no process; start with torchrun, which sets them, or unset RANK"
        )
    return Place(rank, world, local_rank, local_world)


def _number(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name, str(default))
    if not text.isdecimal():
        raise UserError(f"the variable {name} must be a number, got {text!r}; torchrun sets it")
    return int(text)
