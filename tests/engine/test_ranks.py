# SPDX-License-Identifier: Apache-2.0
"""Several processes on one run give what one gives, on every route and with every method."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from iqgs.engine.settings import resolve_run
from iqgs.engine.training import train
from utils.checkpoints import load_checkpoint

from .conftest import SHORT
from .processes import run_processes
from .test_training import assert_same_state

Settings = Callable[..., dict[str, object]]

LONG = {  # enough steps for several densifications
    "iterations": 120,
    "instance_iterations": 120,
    "densification_interval": 20,
    "densify_from_iter": 10,
    "densify_until_iter": 100,
    "batch_size": 2,
    "repair_masks": "off",
}
ROUTES = {
    "two-stage": {},
    "repaired": {"repair_masks": "auto", "iterations": 30, "instance_iterations": 20},
    "threshold": {
        **{"densify_rule": "threshold", "densify_grad_threshold": 2e-5, "no_masks": True},
        **{"opacity_reset_interval": 50, "primitive": "3dgs"},
    },
    "joint": {"route": "joint", "iterations": 60},
    "matched in each view": {"method": "iqgs-h", "iterations": 20},
    "joint, matched in each view": {"method": "iqgs-h", "route": "joint", "iterations": 30},
}


def assert_same_runs(one: Path, two: Path) -> None:
    """To the last bit of parameters, moments, running statistics, view order and files."""
    saved = sorted(path.name for path in one.glob("chkpnt*.pth"))
    assert saved and saved == sorted(path.name for path in two.glob("chkpnt*.pth"))
    for name in saved:
        number = int(name.removeprefix("chkpnt").removesuffix(".pth"))
        assert_same_state(one, two, number)
        ply = f"point_cloud/iteration_{number}/point_cloud.ply"
        assert (one / ply).read_bytes() == (two / ply).read_bytes()


@pytest.mark.parametrize("changes", ROUTES.values(), ids=ROUTES)
def test_two_processes_are_one_with_two_views_a_step(
    settings: Settings, tmp_path: Path, changes: dict[str, object]
) -> None:
    changes = {**LONG, **changes}
    assert train(resolve_run(settings(tmp_path / "one", **changes))) == 0
    run_processes(settings(tmp_path / "two", **changes), tmp_path / "logs")
    assert_same_runs(tmp_path / "one", tmp_path / "two")
    if changes["iterations"] > 30:
        first = min((tmp_path / "two").glob("chkpnt*.pth"))
        splats = load_checkpoint(first)["gaussians"]["params"]["means"]
        assert len(splats) != 3 * 60, "nothing was densified"


def test_views_without_masks_are_no_matter_of_one_process(
    settings: Settings, blobs: Path, tmp_path: Path
) -> None:
    """The joint route finds neighbours anew when a view of the step, of whomever, has masks."""
    shutil.copytree(blobs, tmp_path / "scene")
    for path in sorted((tmp_path / "scene/object_mask").iterdir())[3:]:
        path.unlink()
    changes = {"route": "joint", "source_path": str(tmp_path / "scene"), "repair_masks": "off"}
    assert train(resolve_run(settings(tmp_path / "one", **changes))) == 0
    run_processes(settings(tmp_path / "two", **changes), tmp_path / "logs")
    assert_same_runs(tmp_path / "one", tmp_path / "two")


@pytest.fixture(scope="module")
def splats(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks") / "splats"
    own = {"source_path": str(blobs), "model_path": str(folder), "no_masks": True}
    assert train(resolve_run({**SHORT, **own, "iterations": 60})) == 0
    return folder / "point_cloud/iteration_60/point_cloud.ply"


# Beside the routes above: all that leave something for running statistics, look at views before the
# first step, or are fitted. The others learn in the same ways and take longer.
@pytest.mark.parametrize(
    "name", ["gaussian-grouping", "omegas", "gaga", "unified-lift", "id-map", "decision", "vote"]
)
def test_every_method_learns_in_two_processes_what_it_learns_in_one(
    settings: Settings, splats: Path, tmp_path: Path, name: str
) -> None:
    changes = {"method": name, "start_ply": str(splats), "repair_masks": "off"}
    assert train(resolve_run(settings(tmp_path / "one", **changes))) == 0
    run_processes(settings(tmp_path / "two", **changes), tmp_path / "logs")
    assert_same_runs(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(("views", "world"), [(3, 2), (4, 3)])
def test_uneven_shares_are_the_mean_over_all_views(
    settings: Settings, tmp_path: Path, views: int, world: int
) -> None:
    """Sums in another order, so equal to rounding."""
    changes = {
        "batch_size": views,
        "iterations": 3,
        "instance_iterations": 3,
        "repair_masks": "off",
    }
    assert train(resolve_run(settings(tmp_path / "one", **changes))) == 0
    run_processes(settings(tmp_path / "two", **changes), tmp_path / "logs", world=world)
    one, two = (load_checkpoint(tmp_path / name / "chkpnt6.pth") for name in ("one", "two"))
    torch.testing.assert_close(one["gaussians"]["params"], two["gaussians"]["params"])
    torch.testing.assert_close(one["method"], two["method"])
    other = settings(tmp_path / "other", **{**changes, "batch_size": 2})
    assert train(resolve_run(other)) == 0
    twos = load_checkpoint(tmp_path / "other/chkpnt6.pth")
    with pytest.raises(AssertionError):
        torch.testing.assert_close(one["method"], twos["method"])


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_checkpoint_goes_on_in_any_number_of_processes(
    settings: Settings, tmp_path: Path, before: int, after: int
) -> None:
    changes = {"checkpoint_iterations": [12, 27], "repair_masks": "off"}

    def run(folder: Path, processes: int, **more: object) -> None:
        typed = settings(folder, **changes, **more)
        if processes == 1:
            assert train(resolve_run(typed)) == 0
        else:
            run_processes(typed, tmp_path / "logs")

    run(tmp_path / "whole", before)
    for number in (12, 27):
        start = str(tmp_path / "whole" / f"chkpnt{number}.pth")
        run(tmp_path / f"from{number}", after, start_checkpoint=start)
        assert_same_state(tmp_path / "whole", tmp_path / f"from{number}", 40)
