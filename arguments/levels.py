# SPDX-License-Identifier: Apache-2.0
"""The options of commands that look at objects at a level."""

from __future__ import annotations

import re
from dataclasses import dataclass

from arguments.opening import OpeningParams
from arguments.options import option, require

LEVEL_NAMES = {"groups": -1, "objects": 0, "parts": 1, "subparts": 2}
LEVEL_SOURCES = ("splats", "masks")
STATES = ("auto", "edited", "trained")


@dataclass(frozen=True)
class LevelParams(OpeningParams):
    """How finely a run is looked at."""

    level: str = option(
        "",
        "0: objects; 1, 2: their parts (`parts`, `subparts`); -1, -2: groups of neighbours "
        "(`groups`); empty: objects, and the parts that edit.py made",
    )
    level_source: str = option(
        "splats",
        "what tells parts and groups apart: which splats share pixels, or overlapping masks of the "
        "scene (OBJECT_PATH_layers, or -o itself)",
        choices=LEVEL_SOURCES,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        known = not self.level or self.level in LEVEL_NAMES
        rule = f"a whole number, or one of {', '.join(LEVEL_NAMES)}"
        require(known or bool(re.fullmatch(r"[-+]?\d{1,3}", self.level)), "level", self.level, rule)

    @property
    def wanted_level(self) -> int | None:
        """The level as a number; None: as training and edits left the objects."""
        if not self.level:
            return None
        return LEVEL_NAMES[self.level] if self.level in LEVEL_NAMES else int(self.level)
