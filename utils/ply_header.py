# SPDX-License-Identifier: Apache-2.0
"""The header of a PLY file: what its elements are, and how a row of each is laid out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from utils.errors import FormatError

MAX_HEADER = 1 << 16  # bytes; 77 properties take about 2 000
_FORMS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"float": "f4", "double": "f8"},
}
_ALIASES = {
    **{f"int{8 * size}": f"i{size}" for size in (1, 2, 4)},
    **{f"uint{8 * size}": f"u{size}" for size in (1, 2, 4)},
    **{"float32": "f4", "float64": "f8"},
}
_NUMPY = {**_TYPES, **_ALIASES}
_NAMES = {code: name for name, code in _TYPES.items()}
_HEADER_END = re.compile(rb"(?:^|\n)end_header\r?\n")


@dataclass
class PlyElement:
    """One element; `types` are numpy codes by the name of each scalar property, in file order."""

    name: str
    count: int
    types: dict[str, str] = field(default_factory=dict)
    has_list: bool = False  # then its rows have no fixed size

    def row_type(self, order: str = "=") -> np.dtype:
        """Layout of one row in byte order `order` (numpy's sign)."""
        return np.dtype([(name, order + code) for name, code in self.types.items()])


@dataclass(frozen=True)
class PlyHeader:
    """A header that follows the grammar."""

    length: int  # bytes up to and including end_header
    is_ascii: bool
    byte_order: str  # numpy's sign
    elements: tuple[PlyElement, ...]
    comments: tuple[str, ...]


def read_header(stream: BinaryIO, path: Path) -> PlyHeader:
    """Read and check the header at the beginning of `stream`; raises FormatError naming `path`.

    Nothing is said about the counts: whether the file can hold them is for the reader to check.
    """
    start = stream.read(MAX_HEADER)
    end = _HEADER_END.search(start)
    if not start.startswith((b"ply\n", b"ply\r\n")) or end is None:
        raise FormatError(f"{path}: not a PLY file (no 'ply' ... 'end_header' in its beginning)")
    # Comments may be in any language; what matters below is compared with ASCII words.
    text = start[: end.end()].decode("utf-8", errors="replace").replace("\r\n", "\n")
    lines = text.split("\n")
    form = lines[1].split()
    if "\r" in text or len(form) != 3 or form[0] != "format":
        raise FormatError(f"{path}: the PLY header must give its format in the second line")
    if form[1] not in _FORMS or form[2] != "1.0":
        raise FormatError(f"{path}: unknown PLY format {' '.join(form[1:])!r}")
    elements: list[PlyElement] = []
    comments: list[str] = []
    for number, line in enumerate(lines[2:-2], start=3):
        keyword, rest = (*line.split(None, 1), "", "")[:2]
        if keyword in ("comment", "obj_info"):
            comments += [rest.strip()] if keyword == "comment" else []
        elif keyword == "element":
            elements.append(_element(rest.split(), elements, f"{path}: header line {number}"))
        elif keyword == "property" and elements:
            _add_property(elements[-1], rest.split(), f"{path}: header line {number}")
        else:
            raise FormatError(
                f"{path}: header line {number} is neither an element, a property of one, "
                "nor a comment"
            )
    return PlyHeader(
        end.end(), form[1] == "ascii", _FORMS[form[1]], tuple(elements), tuple(comments)
    )


def header_text(count: int, types: Mapping[str, str], comments: Sequence[str] = ()) -> bytes:
    """The header of a little-endian file of `count` vertices; `types` are numpy codes by name."""
    lines = ["ply", "format binary_little_endian 1.0"]
    if any("\n" in comment or "\r" in comment for comment in comments):
        raise ValueError("a comment of a PLY header is one line")
    lines += [f"comment {comment}" for comment in comments]
    lines += [f"element vertex {count}"]
    lines += [f"property {_NAMES[code]} {name}" for name, code in types.items()]
    return "\n".join([*lines, "end_header", ""]).encode("ascii", errors="backslashreplace")


def _element(words: list[str], known: list[PlyElement], place: str) -> PlyElement:
    if len(words) != 2 or not re.fullmatch(r"[0-9]{1,18}", words[1]):
        raise FormatError(f"{place} is not 'element NAME COUNT'")
    if any(element.name == words[0] for element in known):
        raise FormatError(f"{place} declares element {words[0]!r} again")
    return PlyElement(words[0], int(words[1]))


def _add_property(element: PlyElement, words: list[str], place: str) -> None:
    is_list = words[:1] == ["list"]
    types = words[1:3] if is_list else words[:1]
    if len(words) != (4 if is_list else 2) or not words[-1].isascii():
        raise FormatError(f"{place} is not 'property TYPE NAME' or 'property list TYPE TYPE NAME'")
    unknown = [name for name in types if name not in _NUMPY]
    if unknown:
        raise FormatError(f"{place} has the unknown PLY type {unknown[0]!r}")
    if words[-1] in element.types:
        raise FormatError(f"{place} declares property {words[-1]!r} again")
    if is_list:
        element.has_list = True
    else:
        element.types[words[-1]] = _NUMPY[types[0]]
