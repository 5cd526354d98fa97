# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from utils import ply
from utils.errors import DataError, FormatError, RunError
from utils.ply import all_finite, dump_ply, read_ply, read_ply_file, stacked, write_ply
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


@pytest.mark.fault(row=31)
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
    "bytes in a name": _file("ascii", 1, "property float x\n", b"1\n").replace(b" x", b" \xff"),
    "unknown keyword": _file("ascii", 1, "property float x\n", b"1\n").replace(
        b"end_", b"elements face 3\nend_"
    ),
    "property of nothing": b"ply\nformat ascii 1.0\nproperty float x\nend_header\n1\n",
    "list without a name": _file("ascii", 1, "property list uchar int\n", b"1\n"),
    "version": _file("ascii", 1, "property float x\n", b"1\n").replace(b"1.0", b"2.0"),
    "empty rows": _file("ascii", 1, "property float x\n", b"\n\n"),
    "more values than properties": _file("ascii", 2, "property float x\n", b"1 2\n3 4\n"),
    "rows of two lengths": _file("ascii", 2, "property float x\n", b"1\n3 4\n"),
    "fraction of a whole number": _file("ascii", 1, "property int x\n", b"1.5\n"),
    "beyond its type": _file("ascii", 1, "property uchar x\n", b"256\n"),
    "not a number among whole ones": _file("ascii", 1, "property int x\n", b"nan\n"),
    "ascii beyond float": _file("ascii", 1, "property float x\n", b"1e39\n"),
    "underscored value": _file("ascii", 1, "property float x\n", b"1_0\n"),
}


@pytest.mark.fault(row=31)
@pytest.mark.parametrize("fault", BAD)
def test_damaged_files_are_refused(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "bad.ply"
    path.write_bytes(BAD[fault])
    with pytest.raises(FormatError, match="bad.ply"):
        read_ply(path)


@pytest.mark.fault(row=31)
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


def test_comments_in_any_language_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    write_ply(path, {"x": np.arange(3.0)}, ["made here", "up: -y"])
    assert read_ply_file(path).comments == ("made here", "up: -y")
    assert PlyData.read(path).comments == ["made here", "up: -y"]
    path.write_bytes(path.read_bytes().replace(b"made here", "größer".encode()))
    assert read_ply_file(path).comments[0] == "größer"
    assert read_ply(path)["x"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="one line"):
        write_ply(path, {"x": np.zeros(1)}, ["a\nelement vertex 99"])


@pytest.mark.parametrize("code", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"])
def test_every_type_comes_back_as_it_was(tmp_path: Path, code: str) -> None:
    limits = np.finfo(code) if code[0] == "f" else np.iinfo(code)
    column = np.array([limits.min, 0, limits.max], code)
    write_ply(tmp_path / "a.ply", {"flag": np.array([True, False, True]), "x": column})
    ours, foreign = read_ply(tmp_path / "a.ply"), PlyData.read(tmp_path / "a.ply")["vertex"]
    for rows in (ours, foreign):
        assert rows["x"].dtype == code and np.array_equal(rows["x"], column)
        assert rows["flag"].tolist() == [1, 0, 1]


@pytest.mark.parametrize("text", [True, False])
def test_elements_before_and_after_the_vertices(tmp_path: Path, text: bool) -> None:
    """Those asked for are read, those before are passed over, what follows is never looked at."""
    tables = {
        "camera": {"fx": np.array([2.5, 3.5])},
        "vertex": {"x": np.arange(4.0), "n": np.arange(4, dtype=np.uint16)},
        "sh": {"c": np.array([7, 9, 200], np.uint8)},
        "late": {"t": np.arange(1000.0)},
    }
    elements = [PlyElement.describe(_structured(t), name) for name, t in tables.items()]
    path = tmp_path / "a.ply"
    PlyData(elements, text, "<").write(path)
    path.write_bytes(path.read_bytes()[:-100])
    file = read_ply_file(path, also=("sh", "chunk"))
    assert list(file.elements) == ["vertex", "sh"]
    for name, columns in file.elements.items():
        assert list(columns) == list(tables[name])
        assert all(np.array_equal(columns[key], tables[name][key]) for key in columns)
    with pytest.raises(FormatError, match="'late'"):
        read_ply_file(path, also=("late",))


def test_a_file_that_shrinks_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ply(tmp_path / "a.ply", _columns())
    whole = (tmp_path / "a.ply").stat()
    (tmp_path / "a.ply").write_bytes((tmp_path / "a.ply").read_bytes()[:-3])
    monkeypatch.setattr(ply.os, "fstat", lambda _: whole)
    with pytest.raises(FormatError, match="shorter while"):
        read_ply(tmp_path / "a.ply")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ply, "BLOCK_ROWS", 7)


@pytest.mark.usefixtures("small_blocks")
def test_columns_side_by_side_in_every_arrangement() -> None:
    rows = np.zeros(40, [("a", "f4"), ("b", "f4"), ("i", "i4"), ("c", "f4"), ("d", "f8")])
    rng = np.random.default_rng(0)
    for name in rows.dtype.names:
        rows[name] = rng.integers(-99, 99, 40)
    apart = rng.normal(size=40)
    for names in ("ab", "abc", "ba", "aa", "dcab", "iab", "d"):
        columns = [*(rows[name] for name in names), apart, apart[::-1], rows["a"]]
        expected = np.stack([column.astype(np.float32) for column in columns], axis=1)
        assert np.array_equal(stacked(columns), expected), names
        assert all_finite(columns)
    assert np.isinf(stacked([np.full(3, 1e300)])).all()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 6, 7, 39])
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_one_value_that_is_not_finite_is_found(name: str, row: int, value: float) -> None:
    rows = np.zeros(40, [("a", "f4"), ("b", "f4"), ("i", "i4"), ("c", "f8")])
    rows["a"] = rows["b"] = 3e38
    columns = [rows[key] for key in "abic"]
    assert all_finite(columns)  # although their sum is infinite in float32
    rows[name][row] = value
    assert not all_finite(columns)


@pytest.mark.usefixtures("small_blocks")
def test_files_of_many_blocks(tmp_path: Path) -> None:
    for n in (0, 6, 7, 8, 50):
        columns = _columns(n)
        write_ply(tmp_path / "a.ply", columns)
        ours, foreign = read_ply(tmp_path / "a.ply"), PlyData.read(tmp_path / "a.ply")["vertex"]
        assert all(np.array_equal(ours[key], columns[key]) for key in columns)
        assert all(np.array_equal(foreign[key], columns[key]) for key in columns)


def test_writer_refuses_what_would_not_come_back(tmp_path: Path) -> None:
    for columns in ({}, {"x": np.zeros(2), "y": np.zeros(3)}, {"x": np.zeros((2, 2))}):
        with pytest.raises(ValueError, match="common length"):
            write_ply(tmp_path / "a.ply", columns)
    with pytest.raises(ValueError, match="no place"):
        write_ply(tmp_path / "a.ply", {"x": np.array(["a"])})
    with pytest.raises(ValueError, match="32-bit"):
        write_ply(tmp_path / "a.ply", {"x": np.array([2**40])})
    assert not any(tmp_path.iterdir())


def test_disk_full_keeps_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real ENOSPC, from the device that is always full."""

    monkeypatch.setattr("utils.storage._open_temporary", lambda _: io.FileIO("/dev/full", "w"))
    with pytest.raises(RunError, match=r"disk full: need 0\.4 MB, free \d.* MB in "):
        columns = {"x": np.zeros(100_000, np.float32)}
        atomic_write(tmp_path / "a.ply", lambda stream: dump_ply(stream, columns), 400_000)
    with pytest.raises(RunError, match="disk full"):
        atomic_write(tmp_path / "b", lambda stream: stream.write(b"0" * 100_000))
    assert not any(tmp_path.iterdir())
