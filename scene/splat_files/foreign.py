# SPDX-License-Identifier: Apache-2.0
"""Files of splats that are not read here, by their first bytes: what each is and what to do."""

from __future__ import annotations

import zlib
from pathlib import Path

from utils.errors import DataError, FormatError

_CONVERTER = "npx @playcanvas/splat-transform"
_CONVERTED = {"SPZ", "SOG", "KSPLAT", "SPLAT", "LCC"}  # what the converter reads
_BY_SUFFIX = {".ksplat": "KSPLAT", ".splat": "SPLAT", ".lcc": "LCC", ".lcc2": "LCC"}


def refuse_foreign(path: Path) -> None:
    """Raise a FormatError that names the format and the way out; nothing for a PLY or an unknown.

    Raises DataError where the file cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    name = _format_of(head, path.suffix.lower(), path.name.lower())
    if name in _CONVERTED:
        target = f"{path.name.split('.')[0]}.ply"
        raise FormatError(
            f"{path}: is not a PLY but {name}; convert it first: {_CONVERTER} {path.name} {target}"
        )
    if name is not None:
        raise FormatError(
            f"{path}: is not a PLY but {name}; save the splats as PLY in the program that made it"
        )


def _format_of(head: bytes, suffix: str, name: str) -> str | None:
    if head.startswith(b"ply"):
        return None
    if head.startswith(b"NGSP"):
        return "SPZ"
    if head.startswith(b"\x1f\x8b"):
        return "SPZ" if _unzipped(head).startswith(b"NGSP") else "gzip"
    if head.startswith(b"PK\x03\x04"):
        is_sog = suffix == ".sog" or b".webp" in head or b"meta.json" in head
        return "SOG" if is_sog else "USD" if suffix == ".usdz" else "zip"
    if name == "meta.json":
        return "SOG"
    if head.startswith(b"glTF"):
        return "glTF"
    if head.startswith((b"PXR-USDC", b"#usda")):
        return "USD"
    return _BY_SUFFIX.get(suffix)


def _unzipped(head: bytes) -> bytes:
    """The first bytes of a gzip stream whose beginning is `head`; none where it is damaged."""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 16)
    except zlib.error:
        return b""
