# SPDX-License-Identifier: Apache-2.0
"""What a training step does to splats beside rendering them, each in one pass over memory.

In plain torch these are a dozen maps with as many temporaries; `reference.py` holds that version:
the judge of the kernels, and their stand-in where nothing is compiled.
"""

from __future__ import annotations

from .records import AdamRows, AdamStep, CatchUp
from .rows import look_at_rows, step_rows
from .splats import activate_splats, add_screen_signal

__all__ = [
    "AdamRows",
    "AdamStep",
    "CatchUp",
    "activate_splats",
    "add_screen_signal",
    "look_at_rows",
    "step_rows",
]
