# SPDX-License-Identifier: Apache-2.0
"""Damaged checkpoints and methods: refused in a sentence, or with the digest read as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from iqgs.engine.checkpoint import load_method, read_training
from iqgs.engine.settings import resolve_run
from iqgs.engine.training import train
from tests.engine.blobs import write_blobs
from tests.engine.conftest import SHORT
from tests.engine.test_training import assert_same
from tests.fuzzing import LONGER, alarm, limited_memory
from tests.scene.test_reader_fuzz import mutate
from utils.checkpoints import load_checkpoint, save_checkpoint
from utils.errors import DataError

CASES = 150 * LONGER


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = {"source_path": str(write_blobs(folder / "scene")), "model_path": str(folder / "r")}
    assert train(resolve_run({**SHORT, "iterations": 3, "instance_iterations": 3}, settings)) == 0
    return folder / "r"


@pytest.mark.fault(row=11)
@pytest.mark.fault(row=12)
@pytest.mark.parametrize(
    ("name", "read"),
    [("chkpnt6.pth", read_training), ("point_cloud/iteration_6/iqgs.pth", load_method)],
)
def test_damage_is_refused(run: Path, tmp_path: Path, name: str, read) -> None:
    """With the digest nothing but the file itself is taken; without, nothing but what fits."""
    good, whole = (run / name).read_bytes(), load_checkpoint(run / name)
    path, side = tmp_path / "a.pth", (run / f"{name}.sha256").read_text()
    rng, taken = np.random.default_rng(4), 0
    for case in range(CASES):
        data = good
        for _ in range(int(rng.integers(1, 4))):
            data = mutate(data, rng)
        path.write_bytes(data)
        sidecar = path.with_name("a.pth.sha256")
        sidecar.unlink(missing_ok=True)
        if case % 3 == 0:
            sidecar.write_text(side)
        try:
            with limited_memory(), alarm():
                read(path)
            assert case % 3 or data == good
            taken += 1
        except DataError as error:
            assert "a.pth" in str(error) and "\n" not in str(error)
    assert taken < CASES  # some damage lies in the values: that is what the digest is for
    path.write_bytes(good)
    sidecar.write_text(side)
    assert_same(load_checkpoint(path), whole)
    torch.set_num_threads(1)


def test_tensors_under_other_names_are_one_sentence(run: Path, tmp_path: Path) -> None:
    """Found by a long run: torch's own words have a line for each of them."""
    state = load_checkpoint(run / "point_cloud/iteration_6/iqgs.pth")
    state["state"] = {name.replace("decoder", "decodur"): v for name, v in state["state"].items()}
    save_checkpoint(tmp_path / "a.pth", state)
    with pytest.raises(DataError, match=r"a\.pth does not hold a method .*decodur") as refused:
        load_method(tmp_path / "a.pth")
    assert "\n" not in str(refused.value)
