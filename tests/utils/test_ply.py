# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from scene.splat_files import columns as splat_columns
from utils.errors import DataError, FormatError, RunError
from utils.ply import read_ply, write_ply
from utils.storage import atomic_write

HEADER = "ply\nformat {form} 1.0\nelement vertex {count}\n"


def _columns(n: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=n).astype(np.float32) for name in ("x", "y", "z")}
    return {**columns, "instance": np.arange(n), "red": np.arange(n, dtype=np.uint8)}


def _structured(columns: dict[str, np.ndarray]) -> np.ndarray:
    rows = np.empty(
        len(next(iter(columns.values()))), dtype=[(k, v.dtype) for k, v in columns.items()]
    )
    for name, column in columns.items():
        rows[name] = column
    return rows


def test_bytes_on_disk_are_the_stated_layout(tmp_path: Path) -> None:
    columns = _columns()
    write_ply(tmp_path / "a.ply", columns)
    expected = (
        b"ply\nformat binary_little_endian 1.0\nelement vertex 5\nproperty float x\n"
        b"property float y\nproperty float z\nproperty int instance\nproperty uchar red\n"
        b"end_header\n"
    )
    packed = np.dtype([("p", "<f4", 3), ("i", "<i4"), ("r", "u1")])
    rows = np.empty(5, packed)
    rows["p"] = np.stack([columns[c] for c in "xyz"], axis=1)
    rows["i"], rows["r"] = columns["instance"], columns["red"]
    assert (tmp_path / "a.ply").read_bytes() == expected + rows.tobytes()
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]  # no temporary left


def test_round_trip_and_foreign_reader(tmp_path: Path) -> None:
    columns = _columns()
    write_ply(tmp_path / "a.ply", columns)
    ours, foreign = read_ply(tmp_path / "a.ply"), PlyData.read(tmp_path / "a.ply")["vertex"]
    assert list(ours) == list(columns)
    for name, column in columns.items():
        assert np.array_equal(ours[name], column) and np.array_equal(foreign[name], column)


@pytest.mark.parametrize(("text", "order"), [(True, "="), (False, ">"), (False, "<")])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_every_form_of_the_format_is_read(
    tmp_path: Path, text: bool, order: str, newline: bytes
) -> None:
    columns = {"x": np.array([1.5, -2.0]), "n": np.array([3, 4], np.int16)}
    path = tmp_path / "a.ply"
    PlyData([PlyElement.describe(_structured(columns), "vertex")], text, order).write(path)
    head, body = path.read_bytes().split(b"end_header\n")
    path.write_bytes(head.replace(b"\n", newline) + b"end_header" + newline + body)
    result = read_ply(path)
    assert result["x"].tolist() == [1.5, -2.0] and result["n"].tolist() == [3, 4]
    assert all(column.dtype.isnative for column in result.values())


@pytest.mark.parametrize("text", [True, False])
def test_a_meshs_faces_are_passed_over(tmp_path: Path, text: bool) -> None:
    """Even a face list whose length would exhaust the memory: it is never read."""
    faces = np.array([([0, 1, 2],)], dtype=[("vertex_indices", "O")])
    lists = PlyElement.describe(faces, "face", len_types={"vertex_indices": "u4"})
    columns = {name: _columns()[name] for name in "xyz"}
    vertices = PlyElement.describe(_structured(columns), "vertex")
    path = tmp_path / "mesh.ply"
    PlyData([vertices, lists], text, "<").write(path)
    if not text:
        path.write_bytes(path.read_bytes()[:-16] + b"\xff\xff\xff\xff")
    np.testing.assert_allclose(read_ply(path)["x"], _columns()["x"], rtol=1e-6)


def _file(form: str, count: object, properties: str, body: bytes) -> bytes:
    head = HEADER.format(form=form, count=count) + properties + "end_header\n"
    return head.encode() + body


BAD = {
    "empty": b"",
    "not ply": b"solid teapot\n" * 100,
    "no end of header": b"ply\nformat ascii 1.0\n" + b"comment x\n" * 50_000,
    "truncated": _file("binary_little_endian", 4, "property float x\n", b"\0" * 15),
    "bomb": _file("binary_little_endian", 99999999999, "property float x\n", b"\0" * 16),
    "ascii bomb": _file("ascii", 99999999999, "property float x\n", b"1 2 3"),
    "bomb before": (
        b"ply\nformat ascii 1.0\nelement a 99999999999\nproperty float x\n"
        b"element vertex 1\nproperty float x\nend_header\n1\n1\n"
    ),
    "underscored count": _file("ascii", "1_0", "property float x\n", b"1\n" * 10),
    "negative count": _file("ascii", -1, "property float x\n", b"1\n"),
    "20 digits": _file("ascii", "9" * 20, "property float x\n", b"1\n"),
    "list of a vertex": _file("ascii", 1, "property list uchar int x\n", b"1 1\n"),
    "no properties": _file("ascii", 10**15, "", b""),
    "unknown type": _file("ascii", 1, "property quad x\n", b"1\n"),
    "same name twice": _file("ascii", 1, "property float x\n" * 2, b"1 1\n"),
    "letters": _file("ascii", 1, "property float x\n", b"abc\n"),
    "not a number": _file("ascii", 3, "property float x\n", b"1 \nnan\n2 \n"),
    "infinite": _file("binary_little_endian", 1, "property float x\n", b"\x00\x00\x80\x7f"),
    "no vertices": b"ply\nformat ascii 1.0\nelement face 1\nproperty float x\nend_header\n1\n",
    "two vertices": _file("ascii", 1, "property float x\n", b"1\n").replace(
        b"end_header", b"element vertex 1\nproperty float x\nend_header"
    ),
    "unknown format": _file("binary_middle_endian", 1, "property float x\n", b"1\n"),
    "lone carriage return": _file("ascii", 1, "property float x\n", b"1\n").replace(
        b"vertex 1\n", b"vertex 1\relement vertex 99999999999\n"
    ),
    "bytes in header": _file("ascii", 1, "property float x\n", b"1\n").replace(
        b"end_", b"comment \xff\nend_"
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_damaged_files_are_refused(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "bad.ply"
    path.write_bytes(BAD[fault])
    with pytest.raises(FormatError, match="bad.ply"):
        read_ply(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    write_ply(path, _columns(2))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            read_ply(path)


def test_message_names_column_and_row(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", {"x": np.array([0, np.nan, np.inf]), "nx": np.full(3, np.nan)})
    with pytest.raises(FormatError, match=r"'x' is not finite in 2 rows, first in row 1"):
        read_ply(tmp_path / "a.ply")


def test_undefined_normals_are_accepted(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", {"x": np.zeros(2), "nx": np.full(2, np.nan)})
    assert read_ply(tmp_path / "a.ply")["x"].tolist() == [0, 0]


@pytest.mark.parametrize("name", ["absent.ply", ""])
def test_missing_file_and_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_ply(tmp_path / name)


def test_writer_refuses_what_would_not_come_back(tmp_path: Path) -> None:
    for columns in ({}, {"x": np.zeros(2), "y": np.zeros(3)}, {"x": np.zeros((2, 2))}):
        with pytest.raises(ValueError, match="common length"):
            write_ply(tmp_path / "a.ply", columns)
    with pytest.raises(ValueError, match="32-bit"):
        write_ply(tmp_path / "a.ply", {"x": np.array([2**40])})
    assert not any(tmp_path.iterdir())


def test_disk_full_keeps_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real ENOSPC, from the device that is always full."""

    monkeypatch.setattr("utils.storage._open_temporary", lambda _: io.FileIO("/dev/full", "w"))
    with pytest.raises(RunError, match=r"disk full: need 0\.4 MB, free \d.* MB in "):
        splat_columns.write(tmp_path / "a.ply", {"x": np.zeros(100_000)})
    with pytest.raises(RunError, match="disk full"):
        atomic_write(tmp_path / "b", lambda stream: stream.write(b"0" * 100_000))
    assert not any(tmp_path.iterdir())
