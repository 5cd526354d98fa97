# SPDX-License-Identifier: Apache-2.0
"""What a training step does to all splats beside rendering them, each in one pass over memory.

In plain torch these are a dozen maps with as many temporaries; `reference.py` holds that version:
the judge of the kernels, and their stand-in where nothing is compiled.
"""

from __future__ import annotations

from .splats import activate_splats, add_screen_signal

__all__ = ["activate_splats", "add_screen_signal"]
