# SPDX-License-Identifier: Apache-2.0
"""Runs: that they learn, that a stop loses nothing, and that going on changes nothing."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from arguments import RunConfig
from gaussian_renderer import Renderer
from iqgs.engine.opening import given_splats, open_run
from iqgs.engine.settings import going_on_settings, resolve_run, scene_of
from iqgs.engine.stages.reconstruction import Reconstruction
from iqgs.engine.training import train
from scene.gaussian_model import GaussianModel
from scene.splat_files.splat_file import write_splats
from tests.scene.splat_files.formula import discs
from utils.checkpoints import load_checkpoint
from utils.errors import DataError, UserError
from utils.ply import read_ply, read_ply_file

MakeConfig = Callable[..., RunConfig]


def assert_same(first: object, second: object, where: str = "") -> None:
    """Equal to the last bit, through containers."""
    if isinstance(first, torch.Tensor):
        assert isinstance(second, torch.Tensor) and torch.equal(first, second), where
    elif isinstance(first, dict):
        assert isinstance(second, dict) and first.keys() == second.keys(), where
        for key, value in first.items():
            assert_same(value, second[key], f"{where}/{key}")
    elif isinstance(first, (list, tuple)):
        assert isinstance(second, (list, tuple)) and len(first) == len(second), where
        for index, value in enumerate(first):
            assert_same(value, second[index], f"{where}/{index}")
    else:
        assert first == second, where


def assert_same_state(first: Path, second: Path, iteration: int) -> None:
    one, two = (load_checkpoint(folder / f"chkpnt{iteration}.pth") for folder in (first, second))
    for key in ("iteration", "stage", "gaussians", "method", "stage_state"):
        assert_same(one[key], two[key], key)


def test_a_scene_that_cannot_be_read_leaves_the_older_run(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(tmp_path / "run", iterations=3, instance_iterations=2)
    assert train(config) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    faulty = {"overwrite": True, "object_path": "nowhere"}
    with pytest.raises(DataError, match="nowhere: no such folder of masks"):
        train(resolve_run(_flat(config), faulty))
    after = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.fault(row=5)
@pytest.mark.parametrize(
    ("route", "primitive", "stop_at"),
    [
        ("two-stage", "2dgs", 12),
        ("two-stage", "2dgs", 27),
        ("joint", "2dgs", 12),
        ("joint", "2dgs", 15),
        ("two-stage", "3dgs", 12),
        ("joint", "3dgs", 15),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    make_config: MakeConfig, tmp_path: Path, route: str, primitive: str, stop_at: int
) -> None:
    last = 40 if route == "two-stage" else 20
    changes = {"route": route, "primitive": primitive, "checkpoint_iterations": [stop_at]}
    assert train(make_config("whole", **changes)) == 0
    checkpoint = str(tmp_path / "whole" / f"chkpnt{stop_at}.pth")
    typed = {
        "start_checkpoint": checkpoint,
        "model_path": str(tmp_path / "second"),
        "quiet": True,
        "test_iterations": [-1],
    }
    assert train(resolve_run(going_on_settings(typed), typed)) == 0
    assert_same_state(tmp_path / "whole", tmp_path / "second", last)
    folder = f"point_cloud/iteration_{last}"
    for name in ("point_cloud.ply", "point_cloud_viewer.ply"):
        one, two = (tmp_path / run / folder / name for run in ("whole", "second"))
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.fault(row=39)
@pytest.mark.parametrize("primitive", ["2dgs", "3dgs"])
def test_the_same_seed_gives_the_same_bits_for_any_number_of_threads(
    make_config: MakeConfig, tmp_path: Path, primitive: str
) -> None:
    for name, threads in (("one", 1), ("again", 1), ("two", 2)):
        assert train(make_config(name, threads=threads, primitive=primitive)) == 0
    assert_same_state(tmp_path / "one", tmp_path / "again", 40)
    assert_same_state(tmp_path / "one", tmp_path / "two", 40)


def test_another_seed_gives_another_run(make_config: MakeConfig, tmp_path: Path) -> None:
    for seed in (0, 1):
        assert train(make_config(f"seed{seed}", seed=seed)) == 0
    one, two = (
        read_ply(tmp_path / f"seed{s}/point_cloud/iteration_40/point_cloud.ply")["x"]
        for s in (0, 1)
    )
    assert one.shape != two.shape or bool((one != two).any())


@pytest.mark.fault(row=2)
@pytest.mark.fault(row=3)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_everything_and_the_run_goes_on_from_there(
    make_config: MakeConfig, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    assert train(make_config("whole")) == 0
    timer = threading.Timer(0.0, os.kill, (os.getpid(), number))
    config = make_config("stopped")
    stopped = False
    for delay in (0.6, 0.3, 0.1):  # the machine's speed decides when the loop is under way
        timer = threading.Timer(delay, os.kill, (os.getpid(), number))
        previous = signal.signal(number, lambda *_: None)  # a late signal must not end pytest
        timer.start()
        stopped = train(resolve_run(_flat(config), {"overwrite": True})) == code
        timer.join()
        signal.signal(number, previous)
        if stopped:
            break
    assert stopped
    saved = sorted((tmp_path / "stopped").glob("chkpnt*.pth"))
    assert len(saved) >= 1
    typed = {"resume": "auto", "model_path": str(tmp_path / "stopped")}
    assert train(resolve_run(going_on_settings(typed), typed)) == 0
    assert_same_state(tmp_path / "whole", tmp_path / "stopped", 40)


def _flat(config: RunConfig) -> dict[str, object]:
    return {
        **vars(config.model),
        **vars(config.pipeline),
        **vars(config.optimization),
        **vars(config.segmentation),
        **vars(config.method),
        **vars(config.train),
    }


@pytest.mark.fault(row=4)
def test_resume_passes_over_a_damaged_checkpoint(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(make_config("run", checkpoint_iterations=[10, 30])) == 0
    run = tmp_path / "run"
    for name in ("chkpnt40.pth", "chkpnt30.pth"):
        data = (run / name).read_bytes()
        (run / name).write_bytes(data[: len(data) // 2])
    typed = {"resume": "auto", "model_path": str(run)}
    with caplog.at_level(logging.INFO):
        assert train(resolve_run(going_on_settings(typed), typed)) == 0
    assert "chkpnt30.pth" in caplog.text and "going on from" in caplog.text
    for path in run.glob("chkpnt*.pth"):
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="no checkpoint"):
        train(resolve_run(going_on_settings(typed), typed))


@pytest.mark.fault(row=6)
@pytest.mark.parametrize("change", [{"num_queries": 50}, {"feature_dim": 8}, {"iterations": 25}])
def test_going_on_with_other_settings_is_refused_with_both_values(
    make_config: MakeConfig, tmp_path: Path, change: dict[str, int]
) -> None:
    assert train(make_config("run", checkpoint_iterations=[10])) == 0
    typed = {"resume": "auto", "model_path": str(tmp_path / "run"), **change}
    with pytest.raises(UserError, match=rf"--{next(iter(change))} was .*, now"):
        train(resolve_run(going_on_settings(typed), typed))


@pytest.mark.fault(row=9)
@pytest.mark.fault(row=10)
def test_a_folder_with_a_run_is_not_overwritten_silently(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config("run", iterations=2, instance_iterations=0)
    assert train(config) == 0
    with pytest.raises(UserError, match="already holds a run"):
        train(config)
    assert train(resolve_run(_flat(config), {"overwrite": True})) == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        train(make_config("file"))


def test_instances_are_learned_from_a_ply_alone(make_config: MakeConfig, tmp_path: Path) -> None:
    assert (
        train(
            make_config(
                "scene",
                iterations=300,
                instance_iterations=0,
                densify_until_iter=200,
                splat_cap=700,
            )
        )
        == 0
    )
    ply = tmp_path / "scene/point_cloud/iteration_300/point_cloud.ply"
    assert train(make_config("ids", start_ply=str(ply), instance_iterations=250)) == 0
    run = open_run(tmp_path / "ids")
    assert run.iteration == 250 and run.method is not None
    before, after = (
        read_ply(ply),
        read_ply(tmp_path / "ids/point_cloud/iteration_250/point_cloud.ply"),
    )
    assert all((before[name] == after[name]).all() for name in ("x", "scale_0", "opacity"))
    viewer = read_ply(tmp_path / "ids/point_cloud/iteration_250/point_cloud_viewer.ply")
    assert {3, 7, 300} <= set(viewer["instance"].tolist()) <= {0, 3, 7, 300}
    comments = read_ply_file(tmp_path / "ids/point_cloud/iteration_250/point_cloud_viewer.ply")
    assert "Vertical axis: y" in comments.comments  # the cameras tell where up is


def test_3d_gaussians_are_made_flat_where_that_is_asked_for(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    path = tmp_path / "gaussians.ply"
    write_splats(path, discs(count=30, scales=3))
    scene = scene_of(make_config("a"))
    with pytest.raises(DataError, match="--flatten_ply"):
        given_splats(make_config("a", start_ply=str(path)), scene, torch.Generator())
    config = make_config("a", start_ply=str(path), flatten_ply=True)
    splats = given_splats(config, scene, torch.Generator())
    assert splats.scales.shape == (30, 2)
    assert splats.instance_dim == config.segmentation.instance_dim


def test_3d_gaussians_of_elsewhere_are_taken_as_they_are_by_a_run_of_ellipsoids(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    raw, path = discs(count=30, scales=3), tmp_path / "gaussians.ply"
    write_splats(path, raw)
    config = make_config("a", start_ply=str(path), primitive="3dgs", method="vote")
    assert train(config) == 0
    last = open_run(tmp_path / "a").iteration
    saved = read_ply(tmp_path / f"a/point_cloud/iteration_{last}/point_cloud.ply")
    for axis in range(3):
        assert (saved[f"scale_{axis}"] == raw["log_scales"][:, axis]).all()
    write_splats(path, discs(count=30))
    with pytest.raises(DataError, match="holds discs .*--primitive 2dgs"):
        train(make_config("b", start_ply=str(path), primitive="3dgs"))


def test_no_stage_takes_a_term_that_its_splats_do_not_have(make_config: MakeConfig) -> None:
    config = make_config("a", primitive="2dgs")
    scene = scene_of(config)
    spheres = GaussianModel.from_points(scene.points, 0, 0, torch.Generator(), scale_dims=3)
    with pytest.raises(ValueError, match="splats of kind 3dgs have no term .'normal'."):
        Reconstruction(config, scene, spheres, Renderer(torch.zeros(3), "auto", 0.0))


def test_scene_without_masks_reconstructs_only(make_config: MakeConfig, tmp_path: Path) -> None:
    assert train(make_config("plain", no_masks=True, iterations=5)) == 0
    run = open_run(tmp_path / "plain")
    assert run.method is None and run.ids is None


@pytest.mark.fault(row=33)
@pytest.mark.fault(row=47)
def test_stray_and_unfinished_iterations_are_ignored(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    assert train(make_config("run", iterations=2, instance_iterations=2)) == 0
    clouds = tmp_path / "run/point_cloud"
    for name in ("iteration_abc", "iteration_99", ".DS_Store", "iteration_"):
        (clouds / name).mkdir()
    assert open_run(tmp_path / "run").iteration == 4
    with pytest.raises(DataError, match="no iteration 7"):
        open_run(tmp_path / "run", 7)


@pytest.mark.fault(row=34)
def test_a_non_finite_loss_names_step_view_and_term(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    import iqgs.engine.stages.reconstruction as module

    def broken(_: object, image: torch.Tensor, *others: object) -> dict[str, torch.Tensor]:
        return {"l1": image.sum() * float("nan"), "dssim": image.sum()}

    monkeypatch.setattr(module, "photometric_terms", broken)
    with pytest.raises(Exception, match=r"step 1, view \d+\.png, term l1"):
        train(make_config("nan"))


def test_every_run_reports_time_splats_and_peak_memory(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    assert train(make_config("run")) == 0
    records = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    stages = [record for record in records if "stage" in record]
    assert [record["stage"] for record in stages] == ["reconstruction", "instances"]
    assert all(record["peak_memory_bytes"] > 2**20 for record in stages)
    assert any("train_loss_patches/mask_loss" in record for record in records)


def test_learning_instances_costs_the_reconstruction_nothing(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """The splats of the two-stage route are those of a run without masks, to the last bit."""
    assert train(make_config("with")) == 0
    assert train(make_config("without", no_masks=True)) == 0
    both = read_ply(tmp_path / "with/point_cloud/iteration_40/point_cloud.ply")
    plain = read_ply(tmp_path / "without/point_cloud/iteration_20/point_cloud.ply")
    names = [name for name in plain if not name.startswith("obj_dc")]
    assert "opacity" in names and all((both[name] == plain[name]).all() for name in names)
