# SPDX-License-Identifier: Apache-2.0
"""What can go wrong on the user's side, as types that the command lines turn into exit codes.

A message is one sentence that names the file or flag at fault and says what to do.
"""

from __future__ import annotations


class IQGSError(Exception):
    """Base of the errors that a command line reports without a traceback."""

    exit_code = 1


class UserError(IQGSError):
    """A wrong flag, or input that cannot be used (exit code 2)."""

    exit_code = 2


class DataError(UserError):
    """A file of the scene or the run is missing, damaged or inconsistent."""


class MaskError(DataError):
    """A mask file cannot be used; `kind` is the fault in one word, as `scene.masks.check` lists."""

    def __init__(self, sentence: str, kind: str) -> None:
        super().__init__(sentence)
        self.kind = kind


class FormatError(DataError):
    """A file does not follow its format; the message names the file and where."""


class RunError(IQGSError):
    """The run itself failed: disk full, out of memory, non-finite loss (exit code 1)."""

    exit_code = 1


class NotFiniteError(RunError):
    """A training step whose numbers are not finite. It was not made: no parameter has changed."""
