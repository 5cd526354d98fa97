# SPDX-License-Identifier: Apache-2.0
"""A trained run scored by the protocols of NVOS, SPIn-NeRF and ScanNet++, in folders of theirs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.detection import PanopticQuality

from arguments import ModelParams
from arguments.evaluation import EvaluationParams, parse_evaluation_arguments
from iqgs.engine.opening import open_run
from iqgs.engine.scoring.point_instances import carried_labels
from iqgs.engine.scoring.results import evaluate_runs
from iqgs.engine.scoring.single_objects import seen_mask
from scene.dataset import load_scene
from scene.frame import SceneFrame
from tests.scene.balls import cast, write_balls
from utils.errors import DataError, UserError
from utils.images import write_pixels

from .blobs import IDS, SPHERES

Row = dict[str, Any]


@pytest.fixture
def copied(trained: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """(scene, run) that a test may write into."""
    return (
        shutil.copytree(trained[0], tmp_path / "scene"),
        shutil.copytree(trained[1], tmp_path / "run"),
    )


def rows(folders: tuple[Path, Path], protocol: str, **options: Any) -> list[Row]:
    params = EvaluationParams(
        model_paths=(str(folders[1]),), protocol=protocol, format="json", **options
    )
    text, code = evaluate_runs(params, {"source_path": str(folders[0])})
    found: list[Row] = json.loads(text)["rows"]
    assert code == 0, found
    return found


def true_mask(scene: Path, view: str, number: int) -> np.ndarray:
    return np.asarray(Image.open(scene / "object_mask" / view)).astype(np.int64) == number


def save(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pixels(path, mask.astype(np.uint8) * np.uint8(255))


def our_label_map(folders: tuple[Path, Path], view: str) -> np.ndarray:
    run = open_run(folders[1], overrides={"source_path": str(folders[0])})
    camera = next(v.camera for v in run.views() if v.name == view)
    found = run.learning_method.segment(run.lens(camera), panoptic=True)
    return run.file_ids(found.label_map, found.ids)


def write_nvos(scene: Path, name: str, target: str, reference: str, number: int) -> None:
    """An object of NVOS: scribbles of a quarter of the size, the mask at the double."""
    root = scene / "nvos"
    mask = true_mask(scene, target, number)
    save(root / f"masks/{name}/{Path(target).stem}_mask.png", mask.repeat(2, 0).repeat(2, 1))
    save(root / f"reference_image/{name}/{Path(reference).stem}.JPG", mask)
    inside = true_mask(scene, reference, number)[2::4, 2::4]
    outside = true_mask(scene, reference, 0)[2::4, 2::4]
    save(root / f"scribbles/{name}/pos_0_{name}.png", inside)
    save(root / f"scribbles/{name}/neg_0_{name}.png", outside)


def test_nvos_scores_what_the_scribbles_point_at(copied: tuple[Path, Path]) -> None:
    scene, run = copied
    write_nvos(scene, "scene_left", target="008.png", reference="003.png", number=3)
    write_nvos(scene, "scene_right", target="003.png", reference="008.png", number=300)
    left, right = rows(copied, "nvos", vote=False)
    assert (left["instance"], right["instance"]) == ("3", "300")
    assert (left["split"], right["split"]) == ("test", "train")  # 003 was trained on, and it says
    assert (left["matching"], left["ground_truth"], left["views"]) == ("scribbles", "human", 1)
    ours, true = our_label_map(copied, "008.png") == 3, true_mask(scene, "008.png", 3)
    assert left["IoU"] == pytest.approx((ours & true).sum() / (ours | true).sum())
    assert left["accuracy"] == pytest.approx((ours == true).mean())
    assert left["IoU"] > 0.7 and left["reference_covered"] > 0.8 and left["reference_wrong"] < 0.1
    stored = json.loads((run / "results.json").read_text())
    assert stored["nvos:ours_1100:scene_left"]["test"]["IoU"] == left["IoU"]
    (only,) = rows(copied, "nvos", vote=False, object="scene_right")
    assert only["object"] == "scene_right"


def test_given_objects_are_scored_together(copied: tuple[Path, Path]) -> None:
    write_nvos(copied[0], "scene", target="008.png", reference="003.png", number=3)
    (wrong,) = rows(copied, "nvos", vote=False, id=("7",))
    assert (wrong["IoU"], wrong["instance"], wrong["matching"]) == (pytest.approx(0), "7", "--id")
    (both,) = rows(copied, "nvos", vote=False, id=("3", "7"))
    labels, true = our_label_map(copied, "008.png"), true_mask(copied[0], "008.png", 3)
    ours = np.isin(labels, (3, 7))
    assert both["IoU"] == pytest.approx((ours & true).sum() / (ours | true).sum())


def test_the_vote_stands_beside_it(copied: tuple[Path, Path]) -> None:
    write_nvos(copied[0], "scene", target="008.png", reference="003.png", number=3)
    ours, vote = rows(copied, "nvos")
    assert vote["run"] == f"{ours['run']} (vote)"
    assert vote["IoU"] > 0.7


def test_spin_nerf_scores_every_annotated_view(copied: tuple[Path, Path]) -> None:
    scene, run = copied
    views = {"image000": "000.png", "image003": "003.png", "image008": "008.png"}
    for name, view in views.items():
        save(scene / f"spin-nerf/{name}.png", true_mask(scene, view, 7))
        save(scene / f"spin-nerf/{name}_pseudo.png", true_mask(scene, view, 3))
    (row,) = rows(copied, "spin-nerf", vote=False)
    expected = []
    for view in views.values():
        ours, true = our_label_map(copied, view) == 7, true_mask(scene, view, 7)
        expected.append((ours & true).sum() / (ours | true).sum())
    assert row["IoU"] == pytest.approx(np.mean(expected))
    assert row["IoU_others"] == pytest.approx(np.mean(expected[1:]))
    assert (row["reference"], row["instance"], row["views"]) == ("000.png", "7", 3)
    assert row["split"] == "train+test"
    per_view = json.loads((run / "per_view.json").read_text())
    stored = per_view["spin-nerf:ours_1100:scene"]["train+test"]["IoU"]
    assert stored == {
        view: pytest.approx(iou) for view, iou in zip(views.values(), expected, strict=True)
    }


def test_a_reference_on_nothing_scores_nothing(copied: tuple[Path, Path]) -> None:
    scene = copied[0]
    save(scene / "spin-nerf/000.png", np.eye(36, 48) * (np.arange(48) < 2) > 0)  # a corner
    save(scene / "spin-nerf/008.png", true_mask(scene, "008.png", 7))
    (row,) = rows(copied, "spin-nerf", vote=False)
    assert (row["IoU"], row["instance"], row["reference_covered"]) == (0, "none", 0)


def sphere_points(count: int) -> np.ndarray:
    """Points on the unit sphere [count, 3], evenly spread."""
    k = np.arange(count) + 0.5
    height, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1)


def test_scannetpp_scores_the_labels_of_the_splats(copied: tuple[Path, Path]) -> None:
    scene, run = copied
    positions = [np.array(s[:3]) + s[3] * sphere_points(200) for s in SPHERES]
    labels = np.repeat([1, 2, 3], 200)  # any numbers: ids of the masks are not needed
    np.savez(scene / "points3d_labels.npz", positions=np.concatenate(positions), labels=labels)
    (row,) = rows(copied, "scannetpp")
    assert row["AP25"] == 1.0 and row["AP50"] == 1.0 and 0.3 < row["AP"] <= 1.0
    assert (row["gt_instances"], row["points"], row["ground_truth"]) == (3, 600, "synthetic")
    assert row["labelled"] > 0.8
    assert json.loads((run / "results.json").read_text())["scannetpp:ours_1100:points"]["points"]
    merged = np.repeat([1, 1, 1], 200)  # one object where there are three
    np.savez(scene / "points3d_labels.npz", positions=np.concatenate(positions), labels=merged)
    (row,) = rows(copied, "scannetpp")
    assert (row["AP50"], row["gt_instances"]) == (0.0, 1)


def test_points_are_in_the_coordinates_of_the_files(trained: tuple[Path, Path]) -> None:
    run = open_run(trained[1])
    points = np.concatenate([np.array(s[:3]) + s[3] * sphere_points(50) for s in SPHERES])
    labels, confidence = carried_labels(run, points)
    assert set(confidence) == set(IDS) and all(0.5 < sure <= 1 for sure in confidence.values())
    run.frame = SceneFrame((400.0, 0.0, -70.0))
    moved, _ = carried_labels(run, points + [400.0, 0.0, -70.0])
    np.testing.assert_array_equal(moved, labels)


def test_points_in_other_coordinates_are_said_to_be(
    copied: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    far = 50 + sphere_points(200)
    np.savez(copied[0] / "points3d_labels.npz", positions=far, labels=np.ones(200, int))
    rows(copied, "scannetpp")
    assert "are they in the coordinates of the scene's poses?" in caplog.text


def test_what_cannot_be_scored_is_one_sentence(copied: tuple[Path, Path]) -> None:
    scene, run = copied
    np.savez(scene / "points3d_labels.npz", positions=np.zeros((9, 3)), labels=np.ones(9, int))
    save(scene / "empty/000.png", np.zeros((36, 48), bool))
    for protocol, gt_path, words in (
        ("nvos", "", "no labels of NVOS"),
        ("nvos", "nowhere", "--gt_path nowhere: no such folder"),
        ("spin-nerf", "empty", "empty: it points at no object; pass --id"),
        ("scannetpp", "", "no instance of at least 100 points"),
    ):
        params = EvaluationParams(model_paths=(str(run),), protocol=protocol, gt_path=gt_path)
        text, code = evaluate_runs(params, {"source_path": str(scene)})
        assert code == 1 and words in text, text
    params = EvaluationParams(model_paths=(str(run),), protocol="nvos", id=("8",))
    write_nvos(scene, "scene", target="008.png", reference="003.png", number=3)
    text, _ = evaluate_runs(params, {"source_path": str(scene)})
    assert "--id 8: no splat belongs to it; there are 3, 7, 300" in text


def test_flags_that_mean_nothing_to_a_protocol_are_refused() -> None:
    params, _ = parse_evaluation_arguments(
        ["-m", "run", "--protocol", "nvos", "--id", "3", "cup", "--object", "horns_left"]
    )
    assert (params.id, params.object) == (("3", "cup"), "horns_left")
    for arguments in (
        ["--id", "3"],
        ["--object", "a"],
        ["--min_points", "0"],
        ["--split", "train", "--protocol", "scannetpp"],
        ["--matching", "id", "--protocol", "nvos"],
    ):
        with pytest.raises(UserError, match=arguments[0]):
            parse_evaluation_arguments(["-m", "run", *arguments])


def test_panoptic_lifting_scores_stuff_but_not_what_nobody_labelled(
    copied: tuple[Path, Path],
) -> None:
    """As its data has it: rs_instance, 0 = stuff or nothing; rs_semantics, 0 = nothing."""
    scene = copied[0]
    shutil.copytree(scene / "object_mask", scene / "rs_instance")
    (plain,) = rows(copied, "panoptic-lifting", vote=False)
    assert (plain["zero_label"], plain["ground_truth"]) == ("ignore", "human")
    for path in (scene / "rs_instance").glob("*.png"):
        ids = np.asarray(Image.open(path)).astype(np.int64)
        classes = np.where(ids > 0, 2, 1)
        classes[:, :16] = 0
        (scene / "rs_semantics").mkdir(exist_ok=True)
        write_pixels(scene / "rs_semantics" / path.name, classes.astype(np.uint8))
    (row,) = rows(copied, "panoptic-lifting", vote=False)
    assert row["zero_label"] == "background"
    true, ours = [], []
    for view in ("000.png", "008.png", "016.png"):
        ids = np.asarray(Image.open(scene / "rs_instance" / view)).astype(np.int64)[:, 16:]
        true.append(ids)
        ours.append(our_label_map(copied, view)[:, 16:])
    metric = PanopticQuality(things={1}, stuffs={0}, return_per_class=True)
    pair = [
        torch.from_numpy(np.stack([labels > 0, labels], -1).astype(np.int64))[None]
        for labels in (np.concatenate(ours), np.concatenate(true))
    ]
    assert row["PQ_scene"] == pytest.approx(float(metric(*pair)[0, 0]), abs=1e-6)
    assert 0.5 < row["PQ_scene"] < plain["PQ_scene"]
    (scene / "rs_semantics/008.png").unlink()
    params = EvaluationParams(model_paths=(str(copied[1]),), protocol="panoptic-lifting")
    text, code = evaluate_runs(params, {"source_path": str(scene)})
    assert code == 1 and "no semantic classes of 1 views, 008.png first" in text


def test_a_mask_of_a_bent_photograph_is_straightened_like_it(tmp_path: Path) -> None:
    """Photographs as the cameras took them: the masks of both benchmarks may be drawn on such."""
    bend = (0.2, 0.05, 0.002, -0.003)

    def inverse(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = np.stack([x.ravel(), y.ravel()], axis=1)[:, None]
        found = cv2.undistortPoints(points, np.eye(3), np.array(bend))[:, 0].T
        return found[0].reshape(x.shape), found[1].reshape(x.shape)

    write_balls(tmp_path, 2, "OPENCV", (80.0, 82.0, 47.0, 37.0, *bend), inverse)
    view = load_scene(ModelParams(str(tmp_path), random_points=50), seed=0).train[0]
    ids = np.asarray(Image.open(tmp_path / "object_mask/000.png"))
    save(tmp_path / "one.png", ids == 1)
    c = view.camera
    _, straight = cast(c.world_to_view.numpy(), (c.fx, c.fy, c.cx, c.cy), (c.width, c.height))
    found = seen_mask(tmp_path / "one.png", view, 0.5)
    assert found.shape == straight.shape
    assert ((found == 1) == (straight == 1)).mean() > 0.985
    size = min(ids.shape[0], straight.shape[0]), min(ids.shape[1], straight.shape[1])
    unbent = (ids[: size[0], : size[1]] == 1) == (straight[: size[0], : size[1]] == 1)
    assert unbent.mean() < 0.985  # it would show
    save(tmp_path / "square.png", ids[:, :72] == 1)
    with pytest.raises(DataError, match=r"square.png.*the aspect ratios differ"):
        seen_mask(tmp_path / "square.png", view, 0.5)
