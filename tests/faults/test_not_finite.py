# SPDX-License-Identifier: Apache-2.0
"""A loss or gradient that is not finite stops the run before a parameter has changed, keeps the
state of the step, and the step can be repeated from it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arguments import RunConfig
from iqgs.engine.settings import going_on_settings, resolve_run
from iqgs.engine.stages.finite import all_finite, check_splats
from iqgs.engine.stages.instances import InstanceLearning
from iqgs.engine.stages.reconstruction import Reconstruction
from iqgs.engine.training import train
from scene.sampler import ViewSampler
from scene.view import View
from tests.engine.test_training import assert_same, assert_same_state
from utils.checkpoints import load_checkpoint, save_checkpoint
from utils.errors import NotFiniteError, RunError

MakeConfig = Callable[..., RunConfig]
NAN = float("nan")


def spoil_photograph(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """One pixel of one view's photograph is no number."""
    plain = View.image_on

    def image_on(view: View, device: torch.device) -> torch.Tensor:
        image = plain(view, device)
        if view.name == name:
            image = image.clone()
            image[0, 5, 7] = NAN
        return image

    monkeypatch.setattr(View, "image_on", image_on)


def spoil_features(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The second stage sees no number in one view's pixels."""
    plain = InstanceLearning._batch

    def batch(stage: InstanceLearning, index: int, *rest: Any) -> Any:
        made, rows = plain(stage, index, *rest)
        if stage.views[index].name == name:
            made.features.data[0, 0] = NAN
        return made, rows

    monkeypatch.setattr(InstanceLearning, "_batch", batch)


def replay(dump: Path, **changes: object) -> int:
    """`train.py --start_checkpoint DUMP`."""
    typed = {"start_checkpoint": str(dump), "quiet": True, **changes}
    return train(resolve_run(going_on_settings(typed), typed))


@pytest.mark.fault(row=34)
@pytest.mark.parametrize(
    ("route", "spoil", "terms"),
    [
        ("two-stage", spoil_photograph, "l1, dssim"),
        ("joint", spoil_photograph, "l1, dssim"),
        ("two-stage", spoil_features, "mask"),
    ],
)
def test_the_step_is_named_kept_and_can_be_repeated(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    route: str,
    spoil: Callable[[pytest.MonkeyPatch, str], None],
    terms: str,
) -> None:
    spoil(monkeypatch, "002.png")
    config = make_config("run", route=route, checkpoint_interval=1)
    with pytest.raises(NotFiniteError, match=r"step \d+, view 002\.png, term ") as stopped:
        train(config)
    said, run = str(stopped.value), tmp_path / "run"
    assert stopped.value.exit_code == 1 and terms in said and str(run / "nan_dump.pth") in said
    step = int(said.split("at step ")[1].split(",")[0])
    dump = load_checkpoint(run / "nan_dump.pth")  # weights_only, with its digest
    before = load_checkpoint(run / f"chkpnt{step - 1}.pth")
    if dump["stage"] == before["stage"]:  # the first step of a stage has looked at all views
        for state in (dump, before) if dump["stage"] == "instances" else ():
            del state["gaussians"]["params"]["instance"]  # rows that were looked at moved on
        assert_same(dump["gaussians"], before["gaussians"])
        assert_same(dump["method"], before["method"])
        assert_same(dump["stage_state"]["sampler"], before["stage_state"]["sampler"])
    with pytest.raises(NotFiniteError) as again:
        replay(run / "nan_dump.pth")
    assert str(again.value) == said
    monkeypatch.undo()  # the cause is mended: the run goes on where it was
    assert replay(run / "nan_dump.pth") == 0
    assert train(make_config("whole", route=route)) == 0
    assert_same_state(run, tmp_path / "whole", 40 if route == "two-stage" else 20)


@pytest.mark.fault(row=34)
def test_what_the_assignment_finds_is_named_and_kept_too(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs finite scores before there is a loss."""
    spoil_features(monkeypatch, "002.png")
    with pytest.raises(NotFiniteError, match=r"scores .* at step \d+, view 002\.png; .*nan_dump"):
        train(make_config("run", method="iqgs-h", repair_masks="off"))
    with pytest.raises(NotFiniteError, match=r"scores .* view 002\.png"):
        replay(tmp_path / "run/nan_dump.pth")


@pytest.mark.fault(row=34)
def test_the_dump_alone_repeats_what_the_splats_did(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """Nothing is injected but a value in the state: a colour that overflows."""
    assert train(make_config("run", checkpoint_iterations=[12])) == 0
    state = load_checkpoint(tmp_path / "run/chkpnt12.pth")
    state["gaussians"]["params"]["sh_dc"][:] = 3e38
    save_checkpoint(tmp_path / "bad.pth", state)
    with pytest.raises(NotFiniteError, match=r"step 13, view .* term \w+") as stopped:
        replay(tmp_path / "bad.pth", model_path=str(tmp_path / "second"))
    for _ in range(2):
        with pytest.raises(NotFiniteError) as again:
            replay(tmp_path / "second/nan_dump.pth", model_path=str(tmp_path / "second"))
        assert str(again.value) == str(stopped.value)


@pytest.mark.fault(row=34)
def test_so_many_steps_are_left_out(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """20 + 20 steps over 9 views see one view at most five times in each stage."""
    spoil_photograph(monkeypatch, "002.png")
    tolerant = make_config("run", skip_nonfinite=5, checkpoint_iterations=[15])
    assert train(tolerant) == 0
    assert 1 <= caplog.text.count("left out") <= 5 and "view 002.png" in caplog.text
    final = load_checkpoint(tmp_path / "run/chkpnt40.pth")
    assert all(bool(p.isfinite().all()) for p in final["gaussians"]["params"].values())
    assert final["skipped"] == caplog.text.count("left out")
    for line in (tmp_path / "run/log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    # A run that goes on counts on, and makes the same bits.
    assert replay(tmp_path / "run/chkpnt15.pth", model_path=str(tmp_path / "second")) == 0
    assert_same_state(tmp_path / "run", tmp_path / "second", 40)
    with pytest.raises(NotFiniteError, match="view 002"):
        train(make_config("strict", skip_nonfinite=1))


def spoil_gradient(monkeypatch: pytest.MonkeyPatch, from_step: int) -> None:
    """The loss stays what it is; its derivative is infinite: the root of a square at zero."""
    plain = Reconstruction.terms

    def terms(stage: Reconstruction, rendered: Any, view: View, iteration: int) -> Any:
        made = plain(stage, rendered, view, iteration)
        if iteration >= from_step:
            zero = (rendered.color * 0).square().sum()
            made["l1"] = made["l1"] + zero.sqrt()
        return made

    monkeypatch.setattr(Reconstruction, "terms", terms)


@pytest.mark.fault(row=35)
def test_a_gradient_that_is_not_finite_is_found_although_the_loss_is(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_gradient(monkeypatch, 8)
    monkeypatch.setattr("iqgs.engine.tolerance.LOOK_EVERY", 10**9)
    config = make_config("each", detect_anomaly=True)
    with pytest.raises(NotFiniteError, match=r"not its gradient at step 8, view .*Backward"):
        train(config)
    torch.autograd.set_detect_anomaly(False)
    monkeypatch.setattr("iqgs.engine.tolerance.LOOK_EVERY", 8)
    config = make_config("some")
    with pytest.raises(NotFiniteError, match=r"step 8, view .*parameter .*sh_dc") as stopped:
        train(config)
    dump = load_checkpoint(tmp_path / "some/nan_dump.pth")
    assert dump["iteration"] == 7
    assert all(bool(p.isfinite().all()) for p in dump["gaussians"]["params"].values())
    with pytest.raises(NotFiniteError) as again:
        replay(tmp_path / "some/nan_dump.pth")
    assert str(again.value) == str(stopped.value)


@pytest.mark.fault(row=35)
def test_splats_that_are_not_finite_are_never_saved(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks a bad gradient reaches the splats; the rasterizer then leaves them out."""
    plain = Reconstruction.update

    def update(stage: Reconstruction, iteration: int, step: Any) -> None:
        plain(stage, iteration, step)
        if iteration == 7:
            stage.gaussians.params["means"].data[3] = NAN

    monkeypatch.setattr(Reconstruction, "update", update)
    with pytest.raises(RunError, match=r"after step 12 means of \d+ of \d+ splats .*--resume auto"):
        train(make_config("run", checkpoint_iterations=[5, 12]))
    assert {path.name for path in (tmp_path / "run").glob("*.pth")} == {"chkpnt5.pth"}
    assert not (tmp_path / "run/point_cloud").exists()


@pytest.mark.fault(row=34)
def test_a_dump_that_cannot_be_written_does_not_hide_the_fault(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_photograph(monkeypatch, "002.png")
    (tmp_path / "run/nan_dump.pth/in the way").mkdir(parents=True)
    with pytest.raises(NotFiniteError, match=r"term l1.*could not be saved: cannot write"):
        train(make_config("run"))


@pytest.mark.fault(row=34)
def test_a_new_run_removes_the_dump_of_the_old_one(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_photograph(monkeypatch, "002.png")
    with pytest.raises(NotFiniteError):
        train(make_config("run"))
    monkeypatch.undo()
    assert train(make_config("run", overwrite=True)) == 0
    assert not list((tmp_path / "run").glob("nan_dump*"))


@pytest.mark.parametrize("position", [0, 5, 9])
def test_a_draw_is_put_back_to_the_bit(position: int) -> None:
    """Also where it began a new order."""
    sampler, other = ViewSampler(3, 1), ViewSampler(3, 1)
    for _ in range(position):
        assert sampler.draw() == other.draw()
    sampler.draw()
    sampler.put_back()
    assert [sampler.draw() for _ in range(7)] == [other.draw() for _ in range(7)]
    with pytest.raises(ValueError, match="no draw"):
        ViewSampler(3, 1).put_back()


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_one_entry_is_found_and_large_sums_are_no_fault(bad: float) -> None:
    values = torch.full((1000, 3), 1e38)
    assert all_finite(values)  # their sum is not
    values[700, 1] = bad
    assert not all_finite(values) and not all_finite(torch.tensor([bad, -bad]))
    with pytest.raises(RunError, match="after step 9 scales of 1 of 1000 splats is not finite"):
        check_splats({"scales": values}, 9)


def test_the_warning_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    from iqgs.engine.tolerance import Tolerance

    class Stage:
        def draw(self, iteration: int) -> list[int]:
            return [0]

        def loss(self, iteration: int, view: int, slot: int) -> None:
            raise NotFiniteError("so it is")

        def parameters(self) -> list[torch.Tensor]:
            return []

    with caplog.at_level(logging.WARNING):
        left = Tolerance(1, False).step(Stage(), 3, Path("x"), lambda *_: None)  # type: ignore[arg-type]
    assert left.total is None and "so it is; left out, 1 of 1" in caplog.text
