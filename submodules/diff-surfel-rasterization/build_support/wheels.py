# SPDX-License-Identifier: Apache-2.0
"""What a wheel of the rasterizer is called: any Python's, one platform's, one torch's.

The library is found by torch, not by the interpreter (`torch.ops.load_library`), and uses none of
its symbols, so one wheel serves every Python 3. It is bound to the release of torch whose headers
it was compiled with: a wheel that is handed on says so in its version and asks for that torch.
"""

from __future__ import annotations

import importlib
import os
import re

SWITCH = "IQGS_WHEEL"  # 1: the wheel leaves this machine


def _command() -> type:
    """setuptools' own command (from 70.1 on), or that of the package wheel."""
    for name in ("setuptools.command.bdist_wheel", "wheel.bdist_wheel"):
        try:
            command: type = importlib.import_module(name).bdist_wheel
        except ImportError:
            continue
        return command
    raise SystemExit("building a wheel needs setuptools 70.1 or later, or the package wheel")


class _AnyPython:
    """Of a command that would tag the wheel with this interpreter: keeps its platform alone."""

    def get_tag(self) -> tuple[str, str, str]:
        platform: str = super().get_tag()[2]  # type: ignore[misc]
        return "py3", "none", platform


def wheel_command() -> type:
    """The class for `cmdclass["bdist_wheel"]`."""
    return type("bdist_wheel", (_AnyPython, _command()), {})


def leaves_this_machine() -> bool:
    """Whether IQGS_WHEEL=1 is set."""
    return os.environ.get(SWITCH, "0") == "1"


def version_of(version: str, torch: str) -> str:
    """0.1.0 for torch 2.13.0+cpu -> 0.1.0+torch2.13.0.cpu, so that wheels can lie side by side."""
    return f"{version}+torch{re.sub('[^0-9a-z]+', '.', torch.lower())}"


def requirement_of(torch: str) -> str:
    """2.13.0+cpu -> torch==2.13.0: pip takes what is there, whichever its label."""
    return f"torch=={torch.split('+')[0]}"
