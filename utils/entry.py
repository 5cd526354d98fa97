# SPDX-License-Identifier: Apache-2.0
"""What every command line has around it: messages, exit codes, and what must be installed.

Imports nothing that may be missing, and runs on any Python 3.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

OLDEST_PYTHON = (3, 10)
SIGINT_EXIT = 130
USAGE_EXIT = 2


def configure_logging(verbose: bool = False) -> None:
    """Plain messages on stderr; called once, by a command."""
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)


def run_command(main: Callable[[], int]) -> int:
    """Run a command line: an expected error becomes one sentence and its exit code.

    `main` imports what it needs itself, so that a missing package is such an error too.
    """
    configure_logging()
    if sys.version_info < OLDEST_PYTHON:
        running = ".".join(str(part) for part in sys.version_info[:2])
        return _refuse(f"Python 3.10 or newer is needed, this is {running} ({sys.executable})")
    from utils.errors import IQGSError
    from utils.shortage import keep_reserve

    keep_reserve()
    try:
        return main()
    except IQGSError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("iqgs", "scene", "utils", "arguments", "gaussian_renderer", ""):
            raise
        return _refuse(
            f"the package {package!r} is not installed for {sys.executable}; run "
            "bash scripts/setup.sh, then: source .venv/bin/activate"
        )
    except Exception as error:  # what torch, OpenCV and C++ raise has no common class
        sentence = _shortage(error)
        if sentence is None:
            raise
        sys.stderr.write(f"error: {sentence}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return SIGINT_EXIT


def _refuse(sentence: str) -> int:
    sys.stderr.write(f"error: {sentence}\n")
    return USAGE_EXIT


def _shortage(error: Exception) -> str | None:
    """The sentence about memory or disk that ran out; None for any other error."""
    from utils.shortage import disk_sentence, is_out_of_memory

    if is_out_of_memory(error):
        return (
            "out of memory; lower the resolution (-r), --splat_cap, --sh_degree or --cache_gb; "
            "what was written before is intact"
        )
    return disk_sentence(error) if isinstance(error, OSError) else None
