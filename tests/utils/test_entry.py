# SPDX-License-Identifier: Apache-2.0
"""What a command has around it."""

from __future__ import annotations

import gc

import pytest

from utils.entry import quick_imports


def test_garbage_is_collected_again_after_the_imports() -> None:
    try:
        with quick_imports():
            assert not gc.isenabled()
        assert gc.isenabled() and gc.get_freeze_count() > 0
        with pytest.raises(ImportError), quick_imports():
            import no_such_module_anywhere  # noqa: F401
        assert gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
