# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest

from utils.schedules import cosine, log_linear


def test_log_linear_multiplies_by_equal_factors() -> None:
    values = [log_linear(step, 1.6e-4, 1.6e-6, 10) for step in range(11)]
    factors = [b / a for a, b in zip(values, values[1:], strict=False)]
    assert values[0] == pytest.approx(1.6e-4) and values[-1] == pytest.approx(1.6e-6)
    assert factors == pytest.approx([0.01**0.1] * 10)


def test_log_linear_holds_its_ends_and_constants() -> None:
    assert log_linear(99, 2.0, 1.0, 10) == pytest.approx(1.0)
    assert log_linear(-5, 2.0, 1.0, 10) == pytest.approx(2.0)
    assert log_linear(3, 0.5, 0.5, 10) == 0.5
    assert log_linear(0, 2.0, 1.0, 0) == pytest.approx(1.0)  # a run of no steps is at its end
    with pytest.raises(ValueError, match="positive"):
        log_linear(1, 1.0, 0.0, 10)


def test_cosine_passes_the_known_points() -> None:
    assert cosine(0, 3.0, 0.1, 100) == pytest.approx(3.0)
    assert cosine(50, 3.0, 0.1, 100) == pytest.approx(3.0 * 0.55)
    assert cosine(100, 3.0, 0.1, 100) == cosine(500, 3.0, 0.1, 100) == pytest.approx(0.3)
    quarter = 0.5 * (1 + math.cos(math.pi / 4))
    assert cosine(25, 1.0, 0.0, 100) == pytest.approx(quarter)
