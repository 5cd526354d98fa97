# SPDX-License-Identifier: Apache-2.0
"""Memory that runs out: one sentence with sizes and options, and the last checkpoint is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from arguments import RunConfig
from iqgs.engine.association import weighing
from iqgs.engine.settings import going_on_settings, resolve_run
from iqgs.engine.stages.instances import InstanceLearning
from iqgs.engine.stages.reconstruction import Reconstruction
from iqgs.engine.training import train
from tests.engine.test_training import assert_same_state
from utils import scalar_log, shortage
from utils.entry import run_command
from utils.errors import RunError
from utils.images import read_image
from utils.shortage import is_out_of_memory

MakeConfig = Callable[..., RunConfig]
ROOT = Path(__file__).parents[2]
TERABYTES = 10**13


def of_torch() -> object:
    return torch.empty(TERABYTES)


def of_python() -> object:
    return bytearray(100 * TERABYTES)


def of_numpy() -> object:
    return np.empty(100 * TERABYTES)


def of_opencv() -> object:
    return cv2.resize(np.zeros((4, 4), np.uint8), (2**31 - 1, 2**31 - 1))


def of_a_gpu() -> object:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def of_cpp() -> object:
    raise MemoryError("std::bad_alloc")  # what torch makes of it


@pytest.mark.fault(row=37)
@pytest.mark.parametrize("fail", [of_torch, of_python, of_numpy, of_opencv, of_a_gpu, of_cpp])
def test_whoever_it_is_that_runs_out(fail: Callable[[], object]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (no common class: that is the point)
        fail()
    assert is_out_of_memory(caught.value), repr(caught.value)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shape mismatch"), OSError(2, "no such file"), ValueError("memory"), KeyError()],
)
def test_other_errors_are_not_mistaken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.fault(row=37)
@pytest.mark.parametrize(
    ("stage", "step", "fail"),
    [
        (Reconstruction, 14, of_torch),
        (Reconstruction, 14, of_a_gpu),
        (Reconstruction, 14, of_cpp),
        (InstanceLearning, 27, of_python),
    ],
)
def test_the_sentence_tells_sizes_options_and_what_is_kept(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: Any,
    step: int,
    fail: Callable[[], object],
) -> None:
    plain = stage.loss

    def loss(self: Any, iteration: int, view: int, slot: int = 0) -> Any:
        if iteration == step:
            fail()
        return plain(self, iteration, view, slot)

    assert train(make_config("whole")) == 0
    monkeypatch.setattr(stage, "loss", loss)
    with pytest.raises(RunError) as stopped:
        train(make_config("run", checkpoint_iterations=[12, 25]))
    said = str(stopped.value)
    kept = 12 if step == 14 else 25
    assert stopped.value.exit_code == 1 and "48 x 36 pixels" in said
    splats = int(said.split("with ")[1].split(" splats")[0])
    assert 100 < splats <= 260
    for option in ("-r 2", "--splat_cap", "--densify_grad_threshold", "--sh_degree", "--cache_gb"):
        assert option in said
    assert f"chkpnt{kept}.pth is kept" in said and "--resume auto" in said
    monkeypatch.undo()
    typed = {"resume": "auto", "model_path": str(tmp_path / "run"), "quiet": True}
    assert train(resolve_run(going_on_settings(typed), typed)) == 0
    assert_same_state(tmp_path / "run", tmp_path / "whole", 40)


LIMITED = """
import resource, sys, torch
from diff_surfel_rasterization import rasterize
from tests.rasterizer.scenes import detached, make_view, random_surfels
from utils.shortage import is_out_of_memory
surfels = detached(random_surfels(50, seed=0), torch.float32)
rasterize(surfels, make_view(40, 30), "cpu")
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (100 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for threads in (1, 2):
    torch.set_num_threads(threads)
    try:
        rasterize(surfels, make_view(6000, 6000), "cpu")
    except Exception as error:
        print(is_out_of_memory(error), type(error).__name__)
rasterize(surfels, make_view(40, 30), "cpu")
print("alive")
"""


@pytest.mark.fault(row=37)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_rasterizer_throws_and_goes_on() -> None:
    """A real limit on the address space: images of 6000 x 6000 pixels do not fit."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    words = [line.split()[0] for line in done.stdout.splitlines()]
    assert words == ["True", "True", "alive"], done.stdout + done.stderr


LATE = """
import os, resource, sys, torch
from diff_surfel_rasterization import rasterize
from tests.rasterizer.scenes import detached, make_view, random_surfels
surfels = detached(random_surfels(50, seed=0), torch.float32)
for extra in range(0, 48 << 20, 2 << 20):
    child = os.fork()
    if not child:
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + extra
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            rasterize(surfels, make_view(40, 30))
        except MemoryError:
            os._exit(3)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.fault(row=37)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_rasterizer_that_cannot_be_loaded_now_is_not_replaced_by_the_reference() -> None:
    """It has other bits. Half way through loading, a process may be aborted for lack of memory."""
    done = subprocess.run(
        [sys.executable, "-c", LATE], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    codes = [int(line) for line in done.stdout.split()]
    assert len(codes) == 24 and codes == sorted(codes, reverse=True), done.stdout + done.stderr
    assert set(codes) == {3, 0} and not done.stderr, done.stderr


@pytest.fixture(scope="session")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/faults/shortage.cpp with the pool and the threads of the CPU backend."""
    compiler = os.environ.get("CXX", "g++")
    if sys.platform != "linux" or shutil.which(compiler) is None:
        pytest.skip("needs Linux and a C++ compiler")
    sources = ROOT / "submodules/diff-surfel-rasterization/csrc"
    program = tmp_path_factory.mktemp("shortage") / "shortage"
    files = [Path(__file__).with_name("shortage.cpp")]
    files += [sources / "cpu/memory_pool.cpp", sources / "cpu/parallel.cpp"]
    command = [compiler, "-std=c++17", "-O1", f"-I{sources}", *map(str, files), "-pthread"]
    subprocess.run([*command, "-o", str(program)], check=True)
    return program


@pytest.mark.fault(row=37)
@pytest.mark.parametrize("what", ["pool", "threads", "idle"])
def test_no_allocation_that_fails_ends_the_process(harness: Path, what: str) -> None:
    """The first of its kind, the second, ...; and blocks that lie idle make room."""
    done = subprocess.run([harness, what], capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    assert what == "idle" or 0 < int(done.stdout.split()[0]) < 999, done.stdout


DEEP = """
import resource
from utils import shortage
shortage.keep_reserve()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
one, two = [], []
for _ in range(900):
    one, two = [one], [two]
pages = int(open("/proc/self/statm").read().split()[0])
limit = (pages + 4) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
print(one == two, int(status["VmStk"].split()[0]) * 1024 >= shortage.STACK)
"""


@pytest.mark.fault(row=37)
@pytest.mark.skipif(sys.platform != "linux", reason="stacks of other systems have their size")
def test_a_stack_that_cannot_grow_is_no_crash() -> None:
    """A call that is deeper than all before it, where the limit grants no page more. How much a
    stack has from its start depends on the system, so its size is asked for, too."""
    done = subprocess.run([sys.executable, "-c", DEEP], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"True True\n"), done.stderr


class NoBrackets(np.ndarray):
    """An array that is not to be indexed by brackets."""

    def __getitem__(self, index: object) -> Any:
        raise AssertionError("indexed by brackets")


@pytest.mark.fault(row=37)
def test_columns_of_weights_are_taken_in_the_way_that_is_safe_without_memory() -> None:
    """numpy's brackets with indices of int32 read a buffer that was not granted, and crash."""
    weights = SimpleNamespace(
        splat=torch.tensor([2, 0, 1], dtype=torch.int32),
        weight=torch.ones(3),
        row_start=torch.tensor([0, 2, 3]),
    )
    splats = np.array([4, 3, 0]).view(NoBrackets)
    found = weighing._matrix(weights, splats, weighing.SplatChoice(5, None))  # type: ignore[arg-type]
    assert found.toarray().tolist() == [[1, 0, 0, 0, 1], [0, 0, 0, 1, 0]]


@pytest.mark.fault(row=37)
def test_odd_errors_mean_memory_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports lose the MemoryError on their way."""
    odd = SystemError("error return without exception set")
    assert not is_out_of_memory(odd)
    assert not shortage.has_room(100 * TERABYTES) and shortage.has_room(1 << 20)
    monkeypatch.setattr(shortage, "has_room", lambda: False)
    assert is_out_of_memory(odd)


@pytest.mark.fault(row=37)
def test_tensorboard_is_not_started_without_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its imports break in their own ways, and a thread that dies at its start hangs the run."""
    monkeypatch.setattr(scalar_log, "has_room_for_threads", lambda count: False)
    with pytest.raises(MemoryError):
        scalar_log.ScalarLog(tmp_path)


@pytest.mark.fault(row=37)
def test_every_command_has_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: bytearray(100 * TERABYTES) and 0) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory; lower") and said.count("\n") == 1


@pytest.mark.fault(row=37)
def test_a_picture_for_which_there_is_no_memory_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")

    def load(self: Image.Image) -> None:
        raise OSError("out of memory when reading image file")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(MemoryError, match=r"a\.png: no memory for 8x6 pixels"):
        read_image(tmp_path / "a.png")
