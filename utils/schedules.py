# SPDX-License-Identifier: Apache-2.0
"""How a scalar moves over a run: pure functions of the step."""

from __future__ import annotations

import math


def progress(step: int, steps: int) -> float:
    """Fraction of the run that is behind us, clamped to [0, 1]; 1 where `steps` is not positive."""
    return min(max(step / steps, 0.0), 1.0) if steps > 0 else 1.0


def log_linear(step: int, start: float, end: float, steps: int) -> float:
    """Interpolate from `start` to `end` so that the logarithm is linear in the step.

    Holds its end values outside [0, steps]. Both ends must be positive, or both zero (constant 0).
    """
    if start == end:
        return start
    if start <= 0 or end <= 0:
        raise ValueError(f"log_linear needs positive ends, got {start} and {end}")
    t = progress(step, steps)
    return math.exp((1 - t) * math.log(start) + t * math.log(end))


def cosine(step: int, start: float, final_fraction: float, steps: int) -> float:
    """Half a cosine from `start` down to `start * final_fraction` at `steps`, constant after it."""
    weight = 0.5 * (1 + math.cos(math.pi * progress(step, steps)))
    return start * (final_fraction + (1 - final_fraction) * weight)


def warm_up(step: int, steps: int) -> float:
    """Factor that rises linearly from 0 to 1 at `steps` and stays there; 1 where there are none."""
    return progress(step, steps)
