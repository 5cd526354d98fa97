# SPDX-License-Identifier: Apache-2.0
"""What the fuzzers have in common: how much, and the limits that each case must keep."""

from __future__ import annotations

import gc
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# IQGS_FUZZ=100 tries a hundred times as many cases, as scripts/nightly.sh does.
LONGER = int(os.environ.get("IQGS_FUZZ", "1"))
MEMORY_GROWTH = 2 << 30  # bytes of address space that a reader may add: a bomb wants far more
SECONDS = 5  # of the processor; no case may take longer: a reader that hangs


@contextmanager
def garbage_of_others_aside() -> Iterator[None]:
    """Inside, no search for garbage walks what the process held before: in the middle of a whole
    test run one takes half a second, which is not the case's whose time is taken."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def limited_memory() -> Iterator[None]:
    """Inside, the process can hardly grow: what allocates by a false header fails at once."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # another system than Linux
        with garbage_of_others_aside():
            yield
        return
    size = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_GROWTH
    most = size if before[1] == resource.RLIM_INFINITY else min(size, before[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        with garbage_of_others_aside():
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def alarm() -> Iterator[None]:
    """TimeoutError for one case that takes too long."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"a case took longer than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of this process: others may run beside it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
