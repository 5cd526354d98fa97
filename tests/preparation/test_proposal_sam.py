# SPDX-License-Identifier: Apache-2.0
"""Segment Anything's own classes with random weights: its masks, its files, and no torchvision."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arguments.masks import GridParams
from iqgs.preparation.proposals import sam as sam_module
from iqgs.preparation.proposals.grid import all_masks
from iqgs.preparation.proposals.sam import SamProposer, import_library, load_sam, model_kind
from iqgs.preparation.proposals.torchvision_stand_in import (
    torchvision_for_imports,
    torchvision_hidden,
    works,
)
from utils.errors import DataError, UserError

from .tiny_models import SIDE, tiny_sam

ROOT = Path(__file__).resolve().parents[2]
HAS_SAM = importlib.util.find_spec("segment_anything") is not None
needs_sam = pytest.mark.skipif(not HAS_SAM, reason="segment-anything is not installed")
CPU = torch.device("cpu")
# Random weights doubt everything and are sure of nothing.
ANY = GridParams(
    points_per_side=6, pred_iou_threshold=0.01, stability_threshold=0.3, box_nms_threshold=1.0
)


def hopeful(seed: int = 0) -> Any:
    """A tiny Sam that thinks well of its masks."""
    model = tiny_sam(import_library(), seed)
    with torch.no_grad():  # its logits are near 0, where any threshold changes the masks
        for network in model.mask_decoder.output_hypernetworks_mlps:
            network.layers[-1].weight *= 100
            network.layers[-1].bias *= 100
    return model


def photograph(height: int = SIDE, width: int = SIDE) -> np.ndarray:
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3))
    return np.kron(coarse, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8)


class SamPoints:
    """A Sam that answers points, for our own grid."""

    def __init__(self, model: Any) -> None:
        self.predictor = import_library().SamPredictor(model)

    def look(self, image: np.ndarray) -> None:
        self.predictor.set_image(image)

    def answer(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.ones((len(points), 1), dtype=torch.int)
        _, scores, logits = self.predictor.predict_torch(
            (points * SIDE)[:, None].double(), labels, return_logits=True
        )
        return logits, scores


@needs_sam
@pytest.mark.parametrize("size", [(SIDE, SIDE), (48, 90)])
@pytest.mark.parametrize("crops", [0, 1])
def test_masks_are_those_of_its_own_generator(size: tuple[int, int], crops: int) -> None:
    model, image = hopeful(), photograph(*size)
    params = GridParams(**{**vars(ANY), "crop_layers": crops})
    layers = SamProposer(model, params).propose(image)
    expected = import_library().SamAutomaticMaskGenerator(
        model,
        points_per_side=6,
        pred_iou_thresh=0.01,
        stability_score_thresh=0.3,
        box_nms_thresh=1.0,
        crop_n_layers=crops,
    )
    records = expected.generate(image)
    assert len(records) > (1 - crops) and len(layers) == len(records)
    for index, record in enumerate(records):
        np.testing.assert_array_equal(layers.mask(index), record["segmentation"])
        assert layers.score[index] == np.float32(record["predicted_iou"])


@needs_sam
@pytest.mark.parametrize("seed", range(3))
def test_our_grid_finds_what_sams_generator_finds(seed: int) -> None:
    """Two implementations of one procedure; the sizes are such that both resize alike."""
    model, image = hopeful(seed), photograph()
    theirs = SamProposer(model, ANY).propose(image)
    ours = all_masks(SamPoints(model), image, ANY)
    assert len(theirs) > 1
    order = np.argsort(-theirs.score, kind="stable")
    np.testing.assert_array_equal(ours.packed, theirs.packed[order])
    np.testing.assert_allclose(ours.score, theirs.score[order], rtol=1e-6)


@needs_sam
@pytest.mark.parametrize("crops", [0, 1])
def test_a_photograph_without_any_mask_is_no_fault(crops: int) -> None:
    sure = GridParams(points_per_side=2, pred_iou_threshold=1.0, crop_layers=crops)
    assert len(SamProposer(hopeful(), sure).propose(photograph())) == 0


@needs_sam
def test_the_channels_are_in_the_order_of_the_photograph() -> None:
    model, image = hopeful(), photograph()
    seen: list[torch.Tensor] = []
    model.image_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    SamProposer(model, ANY).propose(image)
    values = seen[0] * model.pixel_std + model.pixel_mean
    np.testing.assert_allclose(values[0].permute(1, 2, 0).numpy(), image, atol=1e-3)


# --- files


@needs_sam
def test_weights_are_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = import_library()
    path = tmp_path / "tiny.pth"
    torch.save(hopeful(1).state_dict(), path)
    monkeypatch.setitem(sam_module.WIDTHS, 8, "tiny")
    monkeypatch.setitem(library.sam_model_registry, "tiny", lambda checkpoint: tiny_sam(library, 5))
    read, written = load_sam(str(path), CPU).state_dict(), hopeful(1).state_dict()
    assert all(torch.equal(read[key], written[key]) for key in written)
    lacking = dict(list(written.items())[:-1])
    torch.save(lacking, path)
    with pytest.raises(DataError, match=r"tiny\.pth: not the weights of a plain SAM \(Missing"):
        load_sam(str(path), CPU)


@pytest.mark.parametrize(("width", "kind"), [(768, "vit_b"), (1024, "vit_l"), (1280, "vit_h")])
def test_the_kind_of_sam_is_seen_in_the_weights(width: int, kind: str) -> None:
    state = {"image_encoder.pos_embed": torch.zeros(1, 2, 2, width)}
    assert model_kind(Path("x.pth"), state) == kind


def test_other_weights_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"under 'model'.*--method sam2"):
        model_kind(Path("x.pth"), {"model": {}})
    with pytest.raises(DataError, match="MobileSAM.*--method command"):
        model_kind(Path("x.pth"), {"image_encoder.patch_embed.seq.0.c.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"--checkpoint must name.*sam_vit_b_01ec64\.pth \(375 MB"):
        load_sam("", CPU)
    with pytest.raises(DataError, match="no such file"):
        load_sam(str(tmp_path / "gone.pth"), CPU)
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match=r"damaged\.pth: not a readable checkpoint"):
        load_sam(str(damaged), CPU)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "hacked"),)

    path = tmp_path / "evil.pth"
    torch.save({"weights": Evil()}, path)
    with pytest.raises(DataError, match="more than tensors"):
        load_sam(str(path), CPU)
    assert not (tmp_path / "hacked").exists()


# --- torchvision


def test_the_stand_in_is_gone_afterwards() -> None:
    if works():
        pytest.skip("torchvision works here")
    before = dict(sys.modules)
    with torchvision_for_imports():
        from torchvision.ops.boxes import batched_nms  # type: ignore[import-not-found]

        boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4.1]])
        assert batched_nms(boxes, torch.ones(2), torch.zeros(2), iou_threshold=0.5).tolist() == [0]
    assert "torchvision" not in sys.modules
    with torchvision_hidden(), pytest.raises(ImportError):
        import torchvision  # noqa: F401
    assert sys.modules.keys() - before.keys() == set()


@needs_sam
def test_sam_works_beside_a_broken_torchvision(tmp_path: Path) -> None:
    """As the torchvision of PyPI beside a CPU torch: the import fails halfway."""
    broken = tmp_path / "torchvision"
    broken.mkdir()
    (broken / "__init__.py").write_text("from . import ops\n")
    (broken / "ops.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    code = (
        "from tests.preparation.test_proposal_sam import *\n"
        "assert len(SamProposer(hopeful(), ANY).propose(photograph())) > 1\n"
    )
    paths = [str(tmp_path), str(ROOT), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    with pytest.raises(UserError, match="pip install"):
        import_library()
