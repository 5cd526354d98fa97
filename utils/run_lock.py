# SPDX-License-Identifier: Apache-2.0
"""One process at a time in the folder of a run."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from utils.errors import UserError
from utils.storage import process_exists

LOCK_NAME = ".lock"


class RunLock:
    """Context manager that holds `<folder>/.lock`, which names the holder's process id.

    The kernel's lock on the open file decides, not the number in it: it ends with the process,
    however that dies, so a file that a dead process left is simply taken over. Where the file
    system has no locks, the number decides.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder) / LOCK_NAME
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, making the folder where missing; raises UserError where it is held."""
        while self._descriptor is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise UserError(f"cannot write {self.path}: {error.strerror or error}") from None
            if not self._try_lock(descriptor):
                holder = self._holder(descriptor)
                os.close(descriptor)
                raise UserError(
                    f"{self.path.parent} is in use by process {holder or 'unknown'}; "
                    "wait for it or give another --model_path"
                )
            if _same_file(descriptor, self.path):
                self._descriptor = descriptor
            else:  # the holder removed the file between our open and our lock
                os.close(descriptor)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

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
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # no locks on this file system
            holder = self._holder(descriptor)
            return holder is None or holder == os.getpid() or not process_exists(holder)
        return True

    @staticmethod
    def _holder(descriptor: int) -> int | None:
        text = os.pread(descriptor, 32, 0).strip()
        return int(text) if text.isdigit() else None


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
