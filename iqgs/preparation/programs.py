# SPDX-License-Identifier: Apache-2.0
"""Other people's programs: started without a shell, so that no name can become anything else."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence

from utils.errors import RunError, UserError

_TAIL = 300  # characters of what the program said


def command_words(command: str, expected: str) -> list[str]:
    """The words of --command. UserError where there are none; `expected` says what should be."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"--command {command!r}: {error}") from error
    if not words:
        raise UserError(f"--command is empty; expected {expected}")
    return words


def run_program(words: Sequence[str], places: Mapping[str, str], timeout: float) -> None:
    """Run --command with its places filled in, within `timeout` seconds.

    Raises UserError for a program that cannot be started, RunError for one that fails or takes too
    long; both say what it said.
    """
    filled = []
    for word in words:
        for place, name in places.items():
            word = word.replace(place, name)
        filled.append(word)
    program = words[0]
    try:
        done = subprocess.run(
            filled,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise UserError(f"--command: the program {program!r} was not found") from error
    except OSError as error:
        raise UserError(f"--command: {program!r} cannot be started ({error})") from error
    except subprocess.TimeoutExpired as error:
        raise RunError(
            f"--command: {program!r} took more than {timeout:g} s for one photograph; "
            "--command_timeout allows more"
        ) from error
    if done.returncode:
        said = " ".join(done.stdout.decode("utf-8", "replace").split())[-_TAIL:]
        raise RunError(
            f"--command: {program!r} failed with exit code {done.returncode}"
            + (f": {said}" if said else "")
        )
