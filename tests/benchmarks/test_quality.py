# SPDX-License-Identifier: Apache-2.0
"""The curve of quality: what is trained, and that it is drawn. Nothing is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from iqgs.engine.settings import parse_training_arguments
from tests.benchmarks.quality import Point, Setting, draw, settings


def test_every_point_is_a_training_that_the_command_line_takes() -> None:
    points = settings(quick=False)
    assert len(points) == len(set(points)) and points[0].method == "vote"
    for setting in points:
        config = parse_training_arguments("about", ["-s", "scene", *setting.flags])
        assert config.segmentation.method == setting.method
        if setting.method == "iqgs":
            found = config.segmentation
            assert (found.instance_iterations, found.pixels_per_step) == (
                setting.steps,
                setting.pixels,
            )


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    points = [Point(s, 5.0 + s.steps / 70, 9.0, {"mIoU_gt": 0.5}) for s in settings(False)]
    points.append(Point(Setting("vote"), 6.0, 9.0, {"mIoU_gt": 0.93}))
    draw(points, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5000
