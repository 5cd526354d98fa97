# SPDX-License-Identifier: Apache-2.0
"""Mutated files: a reader either refuses with a FormatError or returns something sound."""

from __future__ import annotations

import json
import random
import resource
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from plyfile import PlyData, PlyElement

from arguments import config_to_json, read_config_file
from iqgs.engine.settings import resolve_run
from iqgs.methods import METHODS
from scene.frame import SceneFrame
from scene.gaussian_model import GaussianModel
from tests.fuzzing import LONGER, alarm, limited_memory
from utils.cfg_args import parse_cfg_args
from utils.errors import FormatError, UserError
from utils.ply import read_ply, read_ply_file

SPECIAL_INTEGERS = (0, 1, 0x7F, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1)
SPECIAL_FLOATS = (0.0, -0.0, float("nan"), float("inf"), -float("inf"), 3.4e38, 1e-45, -1e30)
CASES = 3000 * LONGER
SECONDS_A_CASE = 1.0
MEMORY_GROWTH = 200 << 20


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _special_integer(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    data[at : at + 8] = struct.pack("<Q", rng.choice(SPECIAL_INTEGERS))


def _delete(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randint(1, 20)]


def _insert(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    start = rng.randrange(len(data))
    data[at:at] = data[start : start + rng.randint(1, 40)]


def _header_byte(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(min(len(data), 300))] = rng.choice(b"0123456789 -\nefpvx([{'=,)")


def _special_float(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    data[at : at + 4] = struct.pack("<f", rng.choice(SPECIAL_FLOATS))


OPERATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_truncate, _flip_bits, _special_integer, _delete, _insert, _header_byte, _special_float),
)


def mutated(seed_bytes: bytes, rng: random.Random) -> bytes:
    """A copy of `seed_bytes` after one to three of the seven operations."""
    data = bytearray(seed_bytes)
    for _ in range(rng.randint(1, 3)):
        if data:
            rng.choice(OPERATIONS)(data, rng)
    return bytes(data)


@pytest.fixture
def limits() -> Iterator[None]:
    """Little memory to grow into."""
    with limited_memory():
        yield


COMPRESSED = Path(__file__).parents[1] / "scene/splat_files/discs.compressed.ply"


def _ply_seeds(folder: Path) -> list[bytes]:
    """Two and three scales, each little-endian, big-endian and ascii, and a compressed file."""
    names = {
        "means": (60, 3), "log_scales": (60, 2), "quaternions": (60, 4), "opacity_logits": (60, 1),
        "sh_dc": (60, 1, 3), "sh_rest": (60, 3, 3), "instance": (60, 2),
    }  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    values = {n: torch.randn(shape, generator=generator) for n, shape in names.items()}
    seeds = []
    for viewer in (False, True):
        path = folder / "seed.ply"
        GaussianModel(values).save_ply(path, viewer=viewer, frame=SceneFrame((1, 2, 3), (0, 0, 1)))
        seeds.append(path.read_bytes())
        rows = PlyData.read(path)["vertex"].data
        for text, order in ((False, ">"), (True, "=")):
            other = rows.astype(rows.dtype.newbyteorder(order))
            PlyData([PlyElement.describe(other, "vertex")], text, order).write(path)
            seeds.append(path.read_bytes())
    return [*seeds, COMPRESSED.read_bytes()]


def test_ply_reader(tmp_path: Path, limits: None) -> None:
    seeds, rng = _ply_seeds(tmp_path), random.Random(0)
    path, results = tmp_path / "case.ply", {"read": 0, "refused": 0, "loaded": 0}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(CASES):
        path.unlink(missing_ok=True)  # rewriting the same file waits for the disk
        path.write_bytes(mutated(seeds[case % len(seeds)], rng))
        start = time.process_time()
        try:
            with alarm():
                columns = read_ply_file(path).elements["vertex"]
            results["read"] += 1
            assert len({column.shape for column in columns.values()}) == 1
            model = GaussianModel.load_ply(path)
            read_ply(path)
            results["loaded"] += 1
            assert all(bool(p.isfinite().all()) for p in model.params.values())
            assert bool(model.scales.isfinite().all()) and bool(model.opacities.isfinite().all())
            lengths = model.rotations.detach().norm(dim=1)
            assert float((lengths - 1).abs().max()) < 1e-5
        except FormatError:
            results["refused"] += 1
        assert time.process_time() - start < SECONDS_A_CASE
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert growth * 1024 < MEMORY_GROWTH
    assert min(results.values()) > 100, results  # the mutations reach every outcome


CFG_SEEDS = (
    b"Namespace(data_device='cuda', eval=True, images='images_2', render_items=['RGB', 'Depth'],"
    b" resolution=-1, sh_degree=3, source_path='/data/it\\'s', white_background=False)",
    b"Namespace(a=(1, 2.5e-06, None), b={'k': [True, -inf]}, c=\"x'y\", d=())",
)
PLAIN = (str, int, float, bool, type(None), list, tuple, dict)


def test_cfg_args_reader(limits: None) -> None:
    rng, read, refused = random.Random(1), 0, 0
    for case in range(CASES):
        text = mutated(CFG_SEEDS[case % 2], rng).decode("latin-1")
        start = time.process_time()
        try:
            with alarm():
                values = parse_cfg_args(text)
            read += 1
            assert all(type(value) in PLAIN for value in values.values())
        except FormatError:
            refused += 1
        assert time.process_time() - start < SECONDS_A_CASE
    assert min(read, refused) > 100


def test_config_file_reader(tmp_path: Path, limits: None) -> None:
    """config.json of a run: what is read is of the types that the settings have."""
    seed = json.dumps(config_to_json(resolve_run({}))).encode()
    path, rng, read, refused = tmp_path / "config.json", random.Random(3), 0, 0
    for _ in range(2000 * LONGER):
        path.write_bytes(mutated(seed, rng))
        start = time.process_time()
        try:
            with alarm():
                values = read_config_file(path, METHODS)
            read += 1
            assert all(type(value) in PLAIN for value in values.values())
        except UserError as error:
            assert str(path) in str(error)
            refused += 1
        assert time.process_time() - start < SECONDS_A_CASE
    assert min(read, refused) > 5 * LONGER


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: op.__name__)
def test_each_operation_changes_bytes(operation: Callable) -> None:
    data = bytearray(CFG_SEEDS[0])
    rng = random.Random(2)
    for _ in range(3):
        operation(data, rng)
    assert bytes(data) != CFG_SEEDS[0]
