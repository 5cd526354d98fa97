# SPDX-License-Identifier: Apache-2.0
"""Other formats are named, with the way out."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from scene.splat_files.splat_file import read_splats
from utils.errors import DataError, FormatError


def zipped(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, b"RIFF" * 9)
    return stream.getvalue()


NGSP = b"NGSP\x03\x00\x00\x00" + b"\x00" * 60
FILES = {
    "a.spz": (gzip.compress(NGSP), "SPZ"),
    "new.spz": (NGSP, "SPZ"),
    "wrong name.ply": (gzip.compress(NGSP), "SPZ"),
    "a.sog": (zipped("means_l.webp"), "SOG"),
    "a.zip": (zipped("meta.json"), "SOG"),
    "meta.json": (b'{"version": 2}', "SOG"),
    "a.ksplat": (b"\x00\x01" + b"\x00" * 60, "KSPLAT"),
    "a.splat": (b"\x00" * 64, "SPLAT"),
}


@pytest.mark.parametrize("name", FILES)
def test_formats_that_the_converter_reads(tmp_path: Path, name: str) -> None:
    content, said = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=f"not a PLY but {said};") as caught:
        read_splats(tmp_path / name)
    assert f"npx @playcanvas/splat-transform {name}" in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


OTHERS = {
    "a.glb": (b"glTF\x02\x00\x00\x00", "glTF"),
    "a.usdc": (b"PXR-USDC" + b"\x00" * 8, "USD"),
    "a.usdz": (zipped("a.usdc"), "USD"),
    "a.ply.gz": (gzip.compress(b"ply\n"), "gzip"),
    "damaged.gz": (b"\x1f\x8bxxxxxxxxxxxxxxxxxxxx", "gzip"),
    "other.zip": (zipped("a.txt"), "zip"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_formats_that_it_does_not_read(tmp_path: Path, name: str) -> None:
    content, said = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=f"not a PLY but {said};") as caught:
        read_splats(tmp_path / name)
    assert "save the splats as PLY" in str(caught.value) and "npx" not in str(caught.value)


def test_what_is_no_format_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_bytes(b"solid teapot\n" * 9)
    with pytest.raises(FormatError, match="not a PLY"):
        read_splats(tmp_path / "a.ply")
    with pytest.raises(DataError, match=r"none.ply: cannot be read"):
        read_splats(tmp_path / "none.ply")
