# SPDX-License-Identifier: Apache-2.0
"""One process at a time in the folder of a run."""

from __future__ import annotations

import fcntl
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from utils.errors import UserError
from utils.storage import process_exists, write_error

LOCK_NAME = ".lock"


@dataclass(frozen=True)
class Holder:
    """A process; files of older versions do not name the host."""

    number: int
    host: str

    def __str__(self) -> str:
        return f"process {self.number}" + (f" on {self.host}" if self.host else "")

    def is_here(self) -> bool:
        """Whether its number is one of this host's."""
        return self.host in ("", platform.node())

    def is_this_process(self) -> bool:
        """Whether the file is our own."""
        return self.is_here() and self.number == os.getpid()

    def is_gone(self) -> bool:
        """Whether it is known to have ended; of another host nothing is known."""
        return self.is_here() and not process_exists(self.number)


class RunLock:
    """Context manager that holds `<folder>/.lock`, which names the holder's process id and host.

    The kernel's lock on the open file decides, not the number in it: it ends with the process,
    however that dies, so a file that a dead process left is simply taken over. Where the file
    system has no locks, the number decides; that of another host counts as alive.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder) / LOCK_NAME
        self._descriptor: int | None = None
        self._remedy = ""  # what else to do where only the number in the file decides

    def acquire(self) -> None:
        """Take the lock, making the folder where missing; raises UserError where it is held."""
        while self._descriptor is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise write_error(self.path, error, 0) from None
            if not self._try_lock(descriptor):
                holder = self._holder(descriptor)
                os.close(descriptor)
                raise UserError(
                    f"{self.path.parent} is in use by {holder or 'an unknown process'}; wait for "
                    f"it or give another --model_path{self._remedy}"
                )
            if _same_file(descriptor, self.path):
                self._descriptor = descriptor
            else:  # the holder removed the file between our open and our lock
                os.close(descriptor)
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()} {platform.node()}\n".encode(), 0)
        except OSError as error:
            self.release()
            raise write_error(self.path, error, 0) from None

    def release(self) -> None:
        """Give the lock back and remove the file; harmless where it is not held."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _try_lock(self, descriptor: int) -> bool:
        self._remedy = ""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # no locks on this file system
            self._remedy = f"; where that process is gone, remove {self.path}"
            holder = self._holder(descriptor)
            return holder is None or holder.is_this_process() or holder.is_gone()
        return True

    @staticmethod
    def _holder(descriptor: int) -> Holder | None:
        """Who wrote the file; None where nobody has."""
        number, _, host = os.pread(descriptor, 300, 0).decode(errors="replace").partition(" ")
        return Holder(int(number), host.strip()) if number.strip().isdecimal() else None


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
