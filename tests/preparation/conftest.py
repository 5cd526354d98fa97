# SPDX-License-Identifier: Apache-2.0
"""A small scene, and a folder for an export of its masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from .import_cases import NAMES
from .shapes import write_scene


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene", NAMES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "export").mkdir()
    return tmp_path / "export"
