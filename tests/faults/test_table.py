# SPDX-License-Identifier: Apache-2.0
"""Every row of the fault table has a test, and docs/faults.md names the tests that there are."""

from __future__ import annotations

import ast

from tests.faults.table import PAGE, ROW, marked_tests, rows_of, written_page

ROWS = range(1, 49)


def test_every_row_has_a_test() -> None:
    found = marked_tests()
    assert sorted(found) == list(ROWS), sorted(set(ROWS) ^ set(found))


def test_the_page_has_every_row_and_names_its_tests() -> None:
    """Mended by: python -m tests.faults.table > page && mv page docs/faults.md"""
    text = PAGE.read_text()
    numbers = [int(match[1]) for line in text.splitlines() if (match := ROW.match(line))]
    assert numbers == list(ROWS)
    assert written_page(text) == text


def test_marks_are_read_from_the_source() -> None:
    source = "@pytest.mark.slow\n@pytest.mark.fault(row=3)\n@pytest.mark.fault(row=9)\ndef f(): ..."
    [node] = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef) and rows_of(node) == [3, 9]
