# SPDX-License-Identifier: Apache-2.0
"""Objects are made anew exactly when something that they depend on has changed."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.rasterizer.build_tools import compiling, fake_toolkit, toolkit, write_program

COMPILER = toolkit.find_compiler()
needs_compiler = pytest.mark.skipif(
    COMPILER is None, reason="no C++ compiler: apt install g++, or name one with CXX"
)


@pytest.fixture
def job(tmp_path: Path) -> compiling.Job:
    """a.cpp includes a.h, in a folder whose name has a blank."""
    folder = tmp_path / "two words"
    folder.mkdir()
    (folder / "a.h").write_text("constexpr int A = 1;\n")
    (folder / "a.cpp").write_text('#include "a.h"\nint a() { return A; }\n')
    for path in folder.iterdir():
        set_age(path, 100)
    return compiling.Job(folder / "a.cpp", (*(COMPILER or []), "-O1"), tmp_path / "a.o", "gcc 1")


def set_age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


@needs_compiler
def test_nothing_is_compiled_twice(job):
    assert compiling.compile_one(job)
    assert not compiling.compile_one(job)
    assert sorted(p.name for p in job.target.parent.glob("a.o*")) == ["a.o", "a.o.d", "a.o.key"]


@needs_compiler
@pytest.mark.parametrize("changed", ["a.cpp", "a.h"])
def test_a_newer_source_or_header_is_compiled(job, changed):
    compiling.compile_one(job)
    os.utime(job.source.parent / changed)
    assert compiling.compile_one(job)
    set_age(job.source.parent / changed, 100)
    assert not compiling.compile_one(job)


@needs_compiler
def test_a_header_that_went_away_or_moved_is_noticed(job):
    compiling.compile_one(job)
    (job.source.parent / "a.h").unlink()
    assert job in compiling.compile_all([job], 1)  # the include fails, and says so
    assert "a.h" in compiling.compile_all([job], 1)[job].report


@needs_compiler
def test_other_flags_or_another_compiler_compile_anew(job):
    compiling.compile_one(job)
    for other in (
        replace(job, command=(*job.command, "-DX")),
        replace(job, identity="gcc 2"),
        job,
    ):
        assert compiling.compile_one(other)
        assert not compiling.compile_one(other)


@needs_compiler
def test_a_source_that_is_saved_while_it_compiles_is_compiled_again(job, monkeypatch):
    run = compiling.run_tool

    def edited_meanwhile(command):
        run(command)
        os.utime(job.source)

    monkeypatch.setattr(compiling, "run_tool", edited_meanwhile)
    compiling.compile_one(job)
    monkeypatch.undo()
    assert compiling.compile_one(job)


@needs_compiler
def test_a_failure_leaves_no_object_and_the_old_one_does_not_count(job):
    compiling.compile_one(job)
    job.source.write_text("int a( {\n")
    failed = compiling.compile_all([job], 2)
    assert "a.cpp" in str(failed[job]) and "error" in failed[job].report
    assert not compiling.up_to_date(job)
    assert not list(job.target.parent.glob("*.[0-9]*.*"))


@pytest.mark.parametrize("damage", ["a.o.d", "a.o.key"])
@needs_compiler
def test_a_lost_record_compiles_anew(job, damage):
    compiling.compile_one(job)
    (job.target.parent / damage).unlink()
    assert compiling.compile_one(job)


@pytest.mark.skipif(
    not any(os.access(path, os.X_OK) for path in toolkit.nvcc_candidates()),
    reason="no nvcc: install a CUDA toolkit, or name its folder with CUDA_HOME",
)
def test_nvcc_writes_the_same_records(job):
    nvcc = toolkit.find_nvccs()[0]
    source = job.source.with_suffix(".cu")
    shutil.copy(job.source, source)
    set_age(source, 100)
    cuda = replace(job, source=source, command=(nvcc.command, "-std=c++17", "-arch=sm_80"))
    assert compiling.compile_one(cuda)
    assert not compiling.compile_one(cuda)
    os.utime(job.source.parent / "a.h")
    assert compiling.compile_one(cuda)


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("a.o: a.cpp a.h\n", ["a.cpp", "a.h"]),
        ("a.o: a.cpp \\\n  /x/b.h \\\n c.h\n\n/x/b.h:\n", ["a.cpp", "/x/b.h", "c.h"]),
        (
            "a.o: two\\ words/a.cpp cash$$.h sharp\\#.h\n",
            ["two words/a.cpp", "cash$.h", "sharp#.h"],
        ),
        ("", []),
    ],
)
def test_reading_what_compilers_write_for_make(text, files):
    assert compiling.listed_files(text) == [Path(name) for name in files]


def test_compilers_are_asked_what_they_are(tmp_path, monkeypatch):
    command = fake_toolkit(tmp_path / "cuda-12.4", "12.4")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda-12.4"))
    found = toolkit.find_nvccs()[0]
    assert (found.command, found.version, found.archs) == (command, (12, 4), (80, 90))
    assert found.library_folder == (tmp_path / "cuda-12.4" / "lib64").resolve()
    assert found.newest_gcc == 13


def test_an_nvcc_that_does_not_run_is_passed_over(tmp_path, monkeypatch):
    write_program(tmp_path / "bin" / "nvcc", "exit 1")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert all(str(tmp_path) not in nvcc.command for nvcc in toolkit.find_nvccs())


def test_host_compilers_are_looked_for_by_number(tmp_path, monkeypatch):
    for name, version in (("g++", "15.1.0"), ("g++-13", "13.2.0"), ("g++-11", "11.4.0")):
        write_program(
            tmp_path / name,
            f'case "$1" in --version) echo "{name} (GCC) {version}";; *) echo {version};; esac',
        )
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("CUDAHOSTCXX", "NVCC_CCBIN"):
        monkeypatch.delenv(name, raising=False)
    found = [host.version[0] for host in toolkit.find_hosts(["ccache", "g++", "-pthread"])]
    assert [number for number in found if number in (15, 13, 11)] == [15, 13, 11]
    monkeypatch.setenv("CUDAHOSTCXX", "g++-11")
    assert [host.version for host in toolkit.find_hosts(["g++"])] == [(11, 4, 0)]


def test_the_number_of_jobs_can_be_set(monkeypatch):
    monkeypatch.setenv("MAX_JOBS", "3")
    assert compiling.count_jobs() == 3
    monkeypatch.setenv("MAX_JOBS", "many")
    assert compiling.count_jobs() >= 1
