# SPDX-License-Identifier: Apache-2.0
"""What somebody who looks at objects did: chose, hid, named; all but choosing can be undone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from utils.errors import UserError


@dataclass(frozen=True)
class DeskState:
    """What can be undone."""

    hidden: frozenset[int] = frozenset()
    names: Mapping[int, str] = field(default_factory=dict)


class Desk:
    """The objects on the table, each by its number; 0 is what belongs to no object."""

    def __init__(
        self, numbers: Iterable[int], names: Mapping[int, str], hidden: frozenset[int] = frozenset()
    ) -> None:
        self.numbers = tuple(sorted(numbers))
        self.state = DeskState(hidden, dict(names))
        self.chosen: int | None = None
        self._before: list[tuple[str, DeskState]] = []

    @property
    def shown(self) -> tuple[int, ...]:
        """The numbers that are not hidden."""
        return tuple(number for number in self.numbers if number not in self.state.hidden)

    def label(self, number: int) -> str:
        """What an object is called in lists."""
        return f"{number} {self.state.names.get(number, '')}".strip() if number else "0 no object"

    def choose(self, number: int | None) -> None:
        """Make an object the one that commands are about; None: none."""
        self.chosen = number if number in self.numbers else None

    def hide(self) -> str:
        """Hide the chosen object."""
        number = self._needed()
        return self._do(f"hide {self.label(number)}", hidden=self.state.hidden | {number})

    def isolate(self) -> str:
        """Hide all others."""
        number = self._needed()
        others = frozenset(self.numbers) - {number}
        return self._do(f"isolate {self.label(number)}", hidden=others)

    def show_all(self) -> str:
        """Hide nothing."""
        return self._do("show all", hidden=frozenset())

    def name(self, text: str) -> str:
        """Call the chosen object something; nothing takes its name away. UserError for 0."""
        number = self._needed()
        if number == 0:
            raise UserError("what belongs to no object has no name")
        names = {**self.state.names, number: text.strip()}
        names = {key: name for key, name in names.items() if name}
        return self._do(f"name {self.label(number)}", names=names)

    def undo(self) -> str:
        """Take back the last change; says which. UserError without one."""
        if not self._before:
            raise UserError("there is nothing to undo")
        what, self.state = self._before.pop()
        return f"undone: {what}"

    def _needed(self) -> int:
        if self.chosen is None:
            raise UserError("choose an object first: click it, or take it from the list")
        return self.chosen

    def _do(self, what: str, **changes: object) -> str:
        after = replace(self.state, **changes)  # type: ignore[arg-type]
        if after != self.state:
            self._before.append((what, self.state))
            self.state = after
        return what
