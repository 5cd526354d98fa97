# SPDX-License-Identifier: Apache-2.0
"""Errors that mean that memory or disk ran out, whoever raises them. Imports nothing heavy."""

from __future__ import annotations

import errno
import sys
import threading

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# The file system, a limit of the process or the device takes no more; not the user's permissions.
DISK_FAILS = (*DISK_FULL, errno.EFBIG, errno.EIO, errno.EROFS)
RESERVE = 4 << 20  # bytes; large enough that free() gives them back to the system
THREAD = 8 << 20  # bytes of the stack of a thread
STACK = 1 << 20  # bytes; training stays within the 132 KiB of the start, imports do not
LITTLE = 16 << 20  # bytes; with less than that left, odd errors are those of a shortage
_reserve: list[bytearray] = []
_WORDS = (
    "out of memory",
    "can't allocate",
    "cannot allocate memory",
    "failed to allocate",
    "insufficient memory",
    "bad_alloc",
    "failed to map segment",
    "unable to mmap",
    "can't start new thread",
)


def keep_reserve() -> None:
    """Set memory aside for the sentence that says that there is none left; once a process."""
    if not _reserve:
        _grow_stack()
        _reserve.append(bytearray(RESERVE))


def _grow_stack() -> None:
    """Have the stack that a command needs now.

    Linux grows the stack of the first thread where it is first used, and never shrinks it. Where a
    limit forbids the page, there is no error to catch: the process gets SIGSEGV.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return
    import ctypes
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_STACK)
    if most != resource.RLIM_INFINITY and most < 4 * STACK:
        return

    class Frame(ctypes.Structure):
        _fields_ = (("content", ctypes.c_char * STACK),)

    ctypes.pythonapi.Py_IsInitialized(Frame())  # by value: it is copied to the stack


def has_room(size: int = LITTLE) -> bool:
    """Whether the system grants so many bytes now; none of them is touched."""
    try:
        bytes(size)
    except MemoryError:
        return False
    return True


def has_room_for_threads(count: int) -> bool:
    """Whether memory is there to start so many threads. One that dies of it at its very start
    leaves the thread that started it waiting forever (python/cpython#140746).
    """
    return has_room(LITTLE + count * THREAD)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, torch's on either device, OpenCV's, C++'s or the loader's.

    torch.OutOfMemoryError is a RuntimeError, that of OpenCV a plain Exception. Where it did, the
    reserve is given back.
    """
    found = _means_memory(error)
    if found:
        _reserve.clear()
    return found


def _means_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno is not None:  # Pillow's has none
        return error.errno == errno.ENOMEM
    if isinstance(error, SystemError):  # "returned NULL without setting an exception", of imports
        return not has_room()
    return any(word in str(error).lower() for word in _WORDS)


def disk_sentence(error: OSError) -> str | None:
    """One sentence for an OSError of a disk that is full or fails; None for any other."""
    if error.errno not in DISK_FAILS:
        return None
    what = "disk full" if error.errno in DISK_FULL else f"cannot write: {error.strerror}"
    return f"{what}: {error.filename}" if error.filename else what
