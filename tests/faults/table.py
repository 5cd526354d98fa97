# SPDX-License-Identifier: Apache-2.0
"""Which test shows which row of the fault table: read from the marks in the tests' sources.

`python -m tests.faults.table` prints docs/faults.md anew; a test holds that file to the marks.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/faults.md"
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \| (.*?) \|$")


def rows_of(node: ast.FunctionDef) -> list[int]:
    """The rows that a test is marked with, `@pytest.mark.fault(row=N)` each."""
    found = []
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.fault":
            [keyword] = decorator.keywords
            assert keyword.arg == "row" and isinstance(keyword.value, ast.Constant)
            found.append(int(keyword.value.value))
    return found


def marked_tests() -> dict[int, list[str]]:
    """Row -> tests, as paths below tests/ with the test's name."""
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        if "fault(" not in path.read_text():
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                for row in rows_of(node):
                    name = f"{path.relative_to(TESTS).as_posix()}::{node.name}"
                    found.setdefault(row, []).append(name)
    return found


def written_page(text: str) -> str:
    """The page with the tests of each row as the marks say."""
    tests, lines = marked_tests(), []
    for line in text.splitlines():
        match = ROW.match(line)
        if match:
            cells = "<br>".join(f"`{name}`" for name in tests.get(int(match[1]), []))
            line = f"| {match[1]} | {match[2]} | {match[3]} | {cells} |"
        lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(written_page(PAGE.read_text()))
