# SPDX-License-Identifier: Apache-2.0
"""The frame of a run: recorded to the last bit, and up as the cameras hold it."""

from __future__ import annotations

import math

import pytest
import torch

from scene.cameras import Camera
from scene.frame import SceneFrame, up_direction
from utils.errors import FormatError


def camera(rotation: torch.Tensor) -> Camera:
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotation
    return Camera(pose, 10.0, 10.0, 5.0, 5.0, 10, 10, "a.png", 0)


def rolled(angle: float) -> torch.Tensor:
    """World to view of a camera that looks along +z, rolled about its axis."""
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, s, 0], [-s, c, 0], [0, 0, 1]], dtype=torch.float64)


def test_a_frame_is_read_back_to_the_last_bit(tmp_path):
    frame = SceneFrame((512345.678901234, 5412345.1, -1 / 3), (0.0, 0.6, 0.8))
    frame.write(tmp_path / "frame.json")
    assert SceneFrame.read(tmp_path / "frame.json") == frame
    assert SceneFrame.read(tmp_path / "missing.json") == SceneFrame()


@pytest.mark.parametrize("text", ['{"origin": [1, 2]}', '{"origin": "abc"}', '{"up": [1, 2, NaN]}'])
def test_a_damaged_frame_is_named(tmp_path, text):
    (tmp_path / "frame.json").write_text(text)
    with pytest.raises(FormatError, match="frame.json"):
        SceneFrame.read(tmp_path / "frame.json")


def test_up_is_the_mean_of_what_the_cameras_call_up():
    level = [camera(rolled(a)) for a in (-0.3, 0.3)]
    assert up_direction(level) == pytest.approx((0.0, -1.0, 0.0))
    assert up_direction([camera(rolled(a)) for a in (0.0, math.pi)]) is None
    assert up_direction([]) is None
