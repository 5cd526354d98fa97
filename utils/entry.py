# SPDX-License-Identifier: Apache-2.0
"""What every command line has around it: messages, exit codes, and what must be installed.

Imports nothing that may be missing, and runs on any Python 3.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from utils.place import Place

OLDEST_PYTHON = (3, 10)
SIGINT_EXIT = 130
USAGE_EXIT = 2
SILENT_SECONDS = 10.0  # in which another process says the same, and torchrun ends this one


def configure_logging(level: int = logging.INFO) -> None:
    """Plain messages on stderr; called once, by a command."""
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)


def for_many_processes(main: Callable[[], int]) -> Callable[[], int]:
    """Mark the `main` of a command that torchrun may start in several processes."""
    main.for_many = True  # type: ignore[attr-defined]
    return main


@contextmanager
def quick_imports() -> Iterator[None]:
    """Around a command's imports: no search for garbage among modules, now or later.

    They are a million objects that all stay; the searches cost a fifth of the imports' time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def run_command(main: Callable[[], int]) -> int:
    """Run a command line: an expected error becomes one sentence and its exit code.

    `main` imports what it needs itself, so that a missing package is such an error too.
    """
    configure_logging()
    if sys.version_info < OLDEST_PYTHON:
        running = ".".join(str(part) for part in sys.version_info[:2])
        return _refuse(f"Python 3.10 or newer is needed, this is {running} ({sys.executable})")
    from utils.errors import IQGSError, UserError
    from utils.place import Place, place_of
    from utils.shortage import keep_reserve

    keep_reserve()
    place = Place()
    try:
        place = place_of()
        _check_place(place, main)
        return main()
    except IQGSError as error:
        # A wrong flag is found out by all processes of a machine. One of them says it, and torchrun
        # then ends the others, which speak only where it does not.
        if not place.speaks_for_all and isinstance(error, UserError):
            time.sleep(SILENT_SECONDS)
        whose = f"process {place.rank}: " if place.rank else ""
        sys.stderr.write(f"{whose}error: {error}\n")
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


def _check_place(place: Place, main: Callable[[], int]) -> None:
    """The first process speaks for all. UserError where there must not be others."""
    from utils.errors import UserError

    if place.rank:
        configure_logging(logging.ERROR)
    if place.world > 1 and not hasattr(main, "for_many"):
        raise UserError(
            f"{PurePath(sys.argv[0]).name} is one process, and torchrun has started "
            f"{place.world}; start it without torchrun"
        )


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
