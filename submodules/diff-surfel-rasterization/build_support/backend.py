# SPDX-License-Identifier: Apache-2.0
"""The hooks that pip and its like call: those of setuptools, after saying what is missing."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping
from types import ModuleType
from typing import Any

Config = Mapping[str, Any] | None

MISSING_TOOLS = (
    "building needs {missing} in this environment when build isolation is off; run: "
    "pip install setuptools wheel"
)
PATIENCE = "compiling the rasterizer takes a minute or two, in silence\n"


def _is_there(module: str) -> bool:
    with contextlib.suppress(ModuleNotFoundError):  # of its parent
        return importlib.util.find_spec(module) is not None
    return False


def setuptools_hooks() -> ModuleType:
    """setuptools' own backend. SystemExit where it cannot make a wheel."""
    if not _is_there("setuptools"):
        raise SystemExit(MISSING_TOOLS.format(missing="setuptools"))
    if not (_is_there("wheel") or _is_there("setuptools.command.bdist_wheel")):
        raise SystemExit(MISSING_TOOLS.format(missing="wheel (or setuptools 70.1 and later)"))
    return importlib.import_module("setuptools.build_meta")


def ask_for_patience() -> None:
    """A line on the terminal where there is one: pip keeps what a build says to itself."""
    with contextlib.suppress(OSError), open("/dev/tty", "w", encoding="utf-8") as terminal:
        terminal.write(PATIENCE)


def get_requires_for_build_wheel(config_settings: Config = None) -> list[str]:
    """Nothing beyond pyproject.toml."""
    return []


get_requires_for_build_editable = get_requires_for_build_sdist = get_requires_for_build_wheel


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: Config = None
) -> str:
    """PEP 517."""
    hooks = setuptools_hooks()
    return str(hooks.prepare_metadata_for_build_wheel(metadata_directory, config_settings))


def prepare_metadata_for_build_editable(
    metadata_directory: str, config_settings: Config = None
) -> str:
    """PEP 660."""
    hooks = setuptools_hooks()
    return str(hooks.prepare_metadata_for_build_editable(metadata_directory, config_settings))


def build_wheel(
    wheel_directory: str, config_settings: Config = None, metadata_directory: str | None = None
) -> str:
    """PEP 517."""
    hooks = setuptools_hooks()
    ask_for_patience()
    return str(hooks.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_editable(
    wheel_directory: str, config_settings: Config = None, metadata_directory: str | None = None
) -> str:
    """PEP 660."""
    hooks = setuptools_hooks()
    ask_for_patience()
    return str(hooks.build_editable(wheel_directory, config_settings, metadata_directory))


def build_sdist(sdist_directory: str, config_settings: Config = None) -> str:
    """PEP 517."""
    return str(setuptools_hooks().build_sdist(sdist_directory, config_settings))
