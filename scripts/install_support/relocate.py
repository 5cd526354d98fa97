# SPDX-License-Identifier: Apache-2.0
"""Rewrites a module of the repository so that it works below the package `iqgs`.

Only what stands in the syntax tree is touched, everything else stays byte by byte: imports of the
packages that move, the lines by which scripts find the repository, the names that programs give
themselves, and the command that builds the rasterizer again.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

HOME = "iqgs"
MOVED = ("arguments", "diff_surfel_rasterization", "gaussian_renderer", "scene", "utils")
LOADERS = ("import_module", "__import__")
REINSTALL = "pip install --force-reinstall --no-deps ."  # in the folder of the repository


class RelocationError(Exception):
    """A module does something that cannot be rewritten."""


@dataclass(frozen=True)
class Edit:
    """Bytes begin .. end of a line become `text`. Lines count from 1."""

    line: int
    begin: int
    end: int
    text: str


def moves(name: str | None) -> bool:
    """Whether a dotted name lies in a package that moves."""
    return name is not None and name.split(".")[0] in MOVED


def relocate(source: str, where: str, programs: Mapping[str, str]) -> str:
    """The module's text below `iqgs`. `programs`: names of programs -> those of commands.

    Raises:
        RelocationError: naming `where` and the line, and what to write instead.
    """
    lines = [line.encode() for line in source.splitlines(keepends=True)]
    tree = ast.parse(source)
    edits = list(_edits(tree, lines, where, programs))
    for edit in sorted(edits, key=lambda e: (e.line, e.begin), reverse=True):
        line = lines[edit.line - 1]
        lines[edit.line - 1] = line[: edit.begin] + edit.text.encode() + line[edit.end :]
    return b"".join(lines).decode()


def _edits(
    tree: ast.Module, lines: list[bytes], where: str, programs: Mapping[str, str]
) -> Iterator[Edit]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and moves(node.module):
            found = re.match(rb"from\s+", lines[node.lineno - 1][node.col_offset :])
            assert found is not None
            yield _insert(node.lineno, node.col_offset + found.end())
        elif isinstance(node, ast.Import):
            yield from _imports(node, where)
        elif isinstance(node, ast.Call):
            _refuse_loaders(node, where)
            yield from _program_names(node, programs)
        elif isinstance(node, ast.Expr) and ast.unparse(node).startswith("sys.path.insert("):
            yield from _blank(node, lines)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REBUILD":
            yield _replace(node.value, REINSTALL)


def _insert(line: int, column: int) -> Edit:
    return Edit(line, column, column, f"{HOME}.")


def _replace(node: ast.expr, text: str) -> Edit:
    assert node.end_col_offset is not None and node.lineno == node.end_lineno
    return Edit(node.lineno, node.col_offset, node.end_col_offset, f'"{text}"')


def _imports(node: ast.Import, where: str) -> Iterator[Edit]:
    for alias in node.names:
        if not moves(alias.name):
            continue
        if alias.asname is None:  # binds a name that no longer exists
            raise RelocationError(
                f"{where}:{alias.lineno}: `import {alias.name}` cannot be installed below {HOME}; "
                "write `from ... import ...`"
            )
        yield _insert(alias.lineno, alias.col_offset)


def _refuse_loaders(node: ast.Call, where: str) -> None:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
    if called not in LOADERS or not node.args:
        return
    first = node.args[0]
    if isinstance(first, ast.JoinedStr) and first.values:
        first = first.values[0]
    if isinstance(first, ast.Constant) and moves(str(first.value)):
        raise RelocationError(
            f"{where}:{node.lineno}: a package is loaded by its name {first.value!r}; begin with "
            "__name__ or __package__"
        )


def _program_names(node: ast.Call, programs: Mapping[str, str]) -> Iterator[Edit]:
    for word in node.keywords:
        if word.arg == "prog" and isinstance(word.value, ast.Constant):
            name = programs.get(str(word.value.value))
            if name is not None:
                yield _replace(word.value, name)


def _blank(node: ast.Expr, lines: list[bytes]) -> Iterator[Edit]:
    """`pass` in place of a statement, so that what it stood in keeps a body."""
    assert node.end_lineno is not None and node.end_col_offset is not None
    for line in range(node.lineno, node.end_lineno + 1):
        begin = node.col_offset if line == node.lineno else 0
        end = node.end_col_offset if line == node.end_lineno else len(lines[line - 1].rstrip())
        yield Edit(line, begin, end, "pass" if line == node.lineno else "")
