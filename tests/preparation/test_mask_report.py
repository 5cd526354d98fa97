# SPDX-License-Identifier: Apache-2.0
"""One report of everything that is wrong with the masks of a scene: a bad example of each kind."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from arguments import ModelParams
from arguments.mask_commands import parse_check_arguments
from arguments.masks import CheckParams
from scene.dataset import load_scene
from scene.masks import KINDS, write_about
from scripts import check_masks as door
from utils.entry import run_command
from utils.errors import MaskError, UserError

from .mask_faults import BAD, NAMES, checked, first, good_masks
from .shapes import write_scene


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return good_masks(write_scene(tmp_path / "scene", NAMES))


def test_each_kind_has_a_bad_example() -> None:
    assert BAD.keys() == KINDS.keys()


def test_a_good_scene_has_no_findings(scene: Path) -> None:
    report = checked(scene)
    assert report.findings == () and not report.stops_training
    assert list(report.lines(False)) == [
        f"{scene / 'object_mask'}: masks for 8 of 8 images, 2 ids, the same in all of them",
        "training can go on",
    ]


@pytest.mark.parametrize("kind", BAD)
def test_it_is_found_and_told_with_what_to_do(scene: Path, kind: str) -> None:
    spoil, said, settings = BAD[kind]
    spoil(scene)
    report = checked(scene, **settings)
    found = [finding for finding in report.findings if finding.kind == kind]
    assert len(found) == 1 and said in found[0].sentence and "\n" not in found[0].sentence
    severity, _, remedy = KINDS[kind]
    assert report.stops_training == (severity == "error")
    text = "\n".join(report.lines(False))
    assert f"{severity}: {found[0].sentence}" in text
    assert (f"    what to do: {remedy}" in text) == (remedy != "nothing")
    assert text.endswith("training cannot go on" if severity == "error" else "training can go on")


@pytest.mark.parametrize("kind", BAD)
def test_training_stops_where_the_report_says_so(scene: Path, kind: str) -> None:
    """One check: what the tool says is what the loading of the scene does."""
    spoil, _, settings = BAD[kind]
    spoil(scene)
    stops = checked(scene, **settings).stops_training
    try:
        load_scene(ModelParams(str(scene), random_points=50, **settings), seed=0)
    except MaskError:
        assert stops
    else:
        assert not stops


def test_all_is_reported_at_once_errors_first(scene: Path) -> None:
    for kind in ("unmatched", "ids"):
        BAD[kind][0](scene)
    (scene / "object_mask/003.png").unlink()
    (scene / "object_mask/004.png").write_bytes(b"")
    lines = list(checked(scene).lines(False))
    kinds = [line.split(":")[0] for line in lines if re.match("error|warning|info", line)]
    assert kinds == ["error", "error", "warning", "warning"]


def test_files_are_named_where_asked(scene: Path) -> None:
    for k in range(7):
        shutil.copy(first(scene), scene / f"object_mask/other_{k}.png")
    short, long = ("\n".join(checked(scene).lines(verbose)) for verbose in (False, True))
    assert "other_6" not in short and "and 2 more" in short
    assert f"    {scene / 'object_mask/other_6.png'}" in long


def test_a_damaged_record_is_a_finding(scene: Path) -> None:
    record = {"format": "iqgs-masks-1", "numbering": "ids"}
    for change_of, said in (({"numbering": "?"}, "numbering is"), ({"no_target": 0}, "no_target")):
        (scene / "object_mask.json").write_text(json.dumps({**record, **change_of}))
        (finding,) = checked(scene).findings
        assert finding.kind == "unreadable" and said in finding.sentence
        assert finding.files == (scene / "object_mask.json",)


def test_names_of_the_scene_are_not_given_to_other_numbers(scene: Path) -> None:
    """labels.json of the scene is about the masks that a person numbered."""
    (scene / "labels.json").write_text('{"id_to_name": {"3": "cup"}}')

    def name() -> str:
        table = load_scene(ModelParams(str(scene)), seed=0).id_table
        assert table is not None
        return table.name(1)

    assert name() == "cup"
    write_about(scene / "object_mask", "ids", {"made by": "associate_masks"})
    assert name() == "3"
    (scene / "object_mask/labels.json").write_text('{"id_to_name": {"3": "plate"}}')
    assert name() == "plate"


# --- the command


@pytest.mark.parametrize(("kind", "code"), [("missing", 0), ("size", 2), ("none", 2)])
def test_exit_codes(
    scene: Path,
    kind: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    BAD[kind][0](scene)
    monkeypatch.setattr(sys, "argv", ["check_masks.py", "-s", str(scene)])
    assert run_command(door.main) == code
    captured = capsys.readouterr()
    assert BAD[kind][1] in captured.out and "Traceback" not in captured.err


def test_wrong_command_lines() -> None:
    with pytest.raises(UserError, match="source_path"):
        parse_check_arguments([])
    with pytest.raises(UserError, match="--convert must be a folder inside the scene"):
        parse_check_arguments(["-s", "x", "--convert", "/tmp"])
    check, model = parse_check_arguments(["-s", "x", "-o", "masks", "--zero_label", "ignore"])
    assert check == CheckParams() and model.object_path == "masks" and model.zero_label == "ignore"
