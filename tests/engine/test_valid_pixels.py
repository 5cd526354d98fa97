# SPDX-License-Identifier: Apache-2.0
"""Pixels that a straightened photograph does not show enter no loss and no score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

import scene.pictures as pictures
from arguments import RunConfig
from arguments.evaluation import EvaluationParams
from diff_surfel_rasterization import LABEL_WEIGHT_PARTS
from diff_surfel_rasterization.losses import ssim_map
from diff_surfel_rasterization.types import BlendWeights
from iqgs.engine.opening import open_run
from iqgs.engine.scoring.run_scores import evaluate_run
from iqgs.engine.stages.reconstruction import photometric_terms
from iqgs.engine.training import train
from iqgs.evaluation.scorer import SceneScorer
from iqgs.methods.vote import VoteSums
from scene.lenses import Lens, Pinhole, sampled_image, valid_pixels
from tests.iqgs.test_vote import TableLens

from .blobs import FOCAL, HEIGHT, WIDTH, write_blobs


def test_the_loss_is_a_mean_over_valid_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    image, target = torch.rand(2, 3, 20, 24, generator=generator).unbind()
    valid = torch.rand(20, 24, generator=generator) > 0.3
    image.requires_grad_()
    terms = photometric_terms(SimpleNamespace(color=image), target, valid)  # type: ignore[arg-type]
    off, similar, count = 0.0, 0.0, 0
    seen = ssim_map((image * valid).detach(), target * valid)
    difference = (image.detach() - target).abs()
    for row, column in valid.nonzero().tolist():
        off += float(difference[:, row, column].sum())
        similar += float(seen[:, row, column].sum())
        count += 3
    assert terms["l1"].item() == pytest.approx(off / count, rel=1e-5)
    assert terms["dssim"].item() == pytest.approx(1 - similar / count, rel=1e-5)
    (terms["l1"] + terms["dssim"]).backward()
    assert image.grad is not None
    assert float(image.grad[:, ~valid].abs().max()) == 0
    assert float(image.grad[:, valid].abs().min()) > 0
    everything = photometric_terms(SimpleNamespace(color=image), target)  # type: ignore[arg-type]
    all_valid = photometric_terms(
        SimpleNamespace(color=image),  # type: ignore[arg-type]
        target,
        torch.ones_like(valid),
    )
    for name, value in everything.items():
        torch.testing.assert_close(all_valid[name], value)


def test_unknown_pixels_are_not_scored() -> None:
    truth = np.zeros((20, 20), np.int32)
    truth[:, :10], truth[5:, 10:] = 1, -1
    prediction = np.where(truth == -1, 7, truth)  # claims all that is unknown
    scorer = SceneScorer("id", "background")
    scorer.add_view("a", prediction, truth)
    values = scorer.result().values
    assert values["mIoU_pred"] == values["mIoU_gt"] == values["PQ"] == 1.0
    strict = SceneScorer("id", "background")
    strict.add_view("a", prediction, np.maximum(truth, 0))
    assert strict.result().values["mIoU_pred"] == 0.5


def test_unknown_pixels_do_not_vote() -> None:
    start = torch.tensor([0, 2, 3, 4])
    weights = BlendWeights(start, torch.tensor([0, 1, 0, 1]).int(), torch.ones(4), 2)
    votes = VoteSums(2, [2])
    votes.add(TableLens(weights, 1, 3), [torch.tensor([[2, -1, 1]])])
    assert (votes.sums / LABEL_WEIGHT_PARTS).tolist() == [[0, 0, 1], [0, 1, 1]]


@pytest.fixture
def bent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The three spheres under a lens whose pinhole shows a rim that the photographs lack."""
    folder = write_blobs(tmp_path / "bent", views=9)
    (folder / "sparse/0/cameras.bin").unlink()
    images = folder / "sparse/0/images.bin"
    from scene.readers.colmap import read_colmap_model
    from scene.readers.colmap.binary import read_images_binary
    from scene.readers.colmap.text import write_images_text

    write_images_text(folder / "sparse/0/images.txt", list(read_images_binary(images)))
    images.unlink()
    numbers = f"{FOCAL} {WIDTH / 2} {HEIGHT / 2} -0.05"
    (folder / "sparse/0/cameras.txt").write_text(f"1 SIMPLE_RADIAL {WIDTH} {HEIGHT} {numbers}\n")
    assert read_colmap_model(folder / "sparse/0").cameras[1].lens is not None
    wide = Pinhole(FOCAL, FOCAL, WIDTH / 2 + 4, HEIGHT / 2 + 3, WIDTH + 8, HEIGHT + 6)
    monkeypatch.setattr(Lens, "pinhole", lambda self: wide)
    return folder


def test_what_lies_outside_the_photograph_changes_no_run(
    bent: Path,
    make_config: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(name: str, fill: float) -> tuple[bytes, dict[str, object]]:
        def filled(image: Tensor, lens: Lens, pinhole: Pinhole) -> Tensor:
            seen = valid_pixels(lens, pinhole)
            assert seen is not None and 0.1 < (~seen).mean() < 0.5
            shown = sampled_image(image, lens, pinhole)
            return torch.where(torch.from_numpy(seen), shown, torch.full_like(shown, fill))

        monkeypatch.setattr(pictures, "sampled_image", filled)
        assert train(make_config(name, source_path=str(bent), repair_masks="off")) == 0
        (folder,) = (tmp_path / name / "point_cloud").glob("iteration_40")
        ours, vote = evaluate_run(open_run(tmp_path / name), EvaluationParams(model_paths=(name,)))
        values = {key: ours.values[key] for key in ("PSNR", "SSIM", "PSNR_affine", "mIoU_gt", "PQ")}
        return (folder / "point_cloud.ply").read_bytes(), {**values, "vote": vote.values["PQ"]}

    dark, bright = run("dark", 0.0), run("bright", 1.0)
    assert dark[0] == bright[0]
    assert json.dumps(dark[1]) == json.dumps(bright[1])
    assert 5 < float(str(dark[1]["PSNR"])) < 60
