# SPDX-License-Identifier: Apache-2.0
"""An audit hook that tells what a program executes, and what it touches outside its folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

EXECUTES = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty")
EXECUTES = (*EXECUTES, "pty.spawn", "subprocess.Popen", "socket.connect", "ctypes.dlopen")
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
CHANGES = (*CHANGES, "os.chmod", "os.chown", "os.utime", "shutil.rmtree", "shutil.move")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Guard:
    """An audit hook: notes what executes something, writes outside `writable` or opens `secret`."""

    def __init__(self, writable: tuple[Path, ...], secret: Path, notes: Path) -> None:
        self.writable = tuple(os.path.realpath(path) for path in writable)
        self.secret = os.path.realpath(secret)
        self.notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def __call__(self, event: str, values: tuple[Any, ...]) -> None:
        if event == "ctypes.dlopen" and str(values[0]).endswith("/_native.so"):
            pass  # the rasterizer, at its first use
        elif event in EXECUTES or (event == "pickle.find_class" and values[0] in ("os", "posix")):
            self._note(event, values)
        elif isinstance(values[0] if values else None, int | None):
            pass  # an open file: it was looked at when it was opened
        elif event == "open":
            self._look(event, values[0], isinstance(values[2], int) and bool(values[2] & WRITES))
        elif event in CHANGES:
            two = event in ("os.rename", "os.link", "shutil.move")
            folder = values[-1] if event in ("os.remove", "os.rmdir") else -1
            place = f"/proc/self/fd/{folder}" if folder not in (-1, None) else ""
            for path in values[: 2 if two else 1]:
                self._look(event, os.path.join(place, os.fsdecode(path)), True)

    def _look(self, event: str, path: Any, writes: bool) -> None:
        # A link that is replaced or removed is not followed: its folder counts.
        name = os.fsdecode(path)
        real = os.path.realpath(name) if event == "open" else self._place(name)
        if writes and not any(self._below(real, place) for place in (*self.writable, "/dev/null")):
            self._note(f"{event} for writing", (name, real))
        elif self._below(real, self.secret):
            self._note(event, (name, real))

    @staticmethod
    def _place(name: str) -> str:
        return os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))

    @staticmethod
    def _below(path: str, folder: str) -> bool:
        return path == folder or path.startswith(folder + os.sep)

    def _note(self, event: str, values: tuple[Any, ...]) -> None:
        os.write(self.notes, f"{event} {values!r}\n"[:500].encode())
