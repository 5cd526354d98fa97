# SPDX-License-Identifier: Apache-2.0
"""The small scene and short runs of the engine's tests."""

from __future__ import annotations

from tests.engine.conftest import blobs, make_config

__all__ = ["blobs", "make_config"]
