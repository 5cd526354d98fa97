# SPDX-License-Identifier: Apache-2.0
"""`prepare_masks.py`: what is done, what is not done again, and what is refused before any work."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arguments.association import AssociationParams
from arguments.mask_commands import GenerationParams, parse_prepare_arguments
from iqgs.engine.association_run import AssociationResult
from iqgs.engine.mask_preparation import PreparedMasks, prepare_masks, torch_device
from scene.masks import write_about
from utils.errors import UserError
from utils.images import write_id_map

from .blobs import IDS, write_blobs

# Knows the true masks of a photograph, and numbers them by area: 1 is another one elsewhere.
ORACLE = """
import sys
import numpy as np
from pathlib import Path
from PIL import Image
pixels = np.asarray(Image.open(sys.argv[1]))
scene = Path(sys.argv[3])
for path in sorted((scene / "images").iterdir()):
    if np.array_equal(np.asarray(Image.open(path)), pixels):
        ids = np.asarray(Image.open(scene / "truth" / path.name))
values, counts = np.unique(ids[ids > 0], return_counts=True)
fresh = np.zeros(ids.shape, np.uint8)
for number, value in enumerate(values[np.argsort(-counts)], 1):
    fresh[ids == value] = number
Image.fromarray(fresh).save(sys.argv[2] + ".png")
"""


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    source = write_blobs(tmp_path / "scene", views=9)
    (source / "object_mask").rename(source / "truth")
    return source


@dataclass
class Stages:
    """Stand-ins for proposing and joining, that note what they are asked."""

    proposed: list[GenerationParams] = field(default_factory=list)
    associated: list[AssociationParams] = field(default_factory=list)

    def propose(self, params: GenerationParams) -> Path:
        self.proposed.append(params)
        source = Path(params.scene.source_path)
        folder = source / params.proposals.object_path
        shutil.copytree(source / "truth", folder, dirs_exist_ok=True)
        write_about(folder, "view", {"made by": "generate_masks"})
        return folder

    def associate(self, params: AssociationParams) -> AssociationResult:
        self.associated.append(params)
        source, target = Path(params.scene.source_path), Path(params.options.output)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source / params.scene.object_path, target)
        write_about(target, "ids", {"made by": "associate_masks", "no_target": 65535})
        found = {"objects": [], "views": 9, "set_aside": [], "masks": 27}
        return AssociationResult(target, found, None)

    def run(self, scene: Path, *words: str) -> PreparedMasks:
        typed = ["-s", str(scene), "--quiet", *words]
        prepare, generation = parse_prepare_arguments(typed)
        return prepare_masks(prepare, generation, self.propose, self.associate)


def test_all_three_steps_and_what_they_are_told(scene: Path) -> None:
    stages = Stages()
    done = stages.run(scene, "--splats", "x.ply", "--device", "cpu", "--threads", "1", "-r", "2")
    assert len(stages.proposed) == 1
    (asked,) = stages.associated
    assert asked.scene.object_path == "object_mask_raw" and asked.scene.resolution == 2
    told = asked.options
    assert (told.splats, told.device, told.threads, told.start) == ("x.ply", "cpu", 1, "graph")
    assert done.folder == "object_mask" and not done.report.stops_training
    lines = done.lines(False)
    assert lines[-1] == "to train on them: train.py -o object_mask"
    assert any("masks for 9 of 9 images, 3 ids, the same in all of them" in line for line in lines)


def test_what_is_there_is_not_made_again(scene: Path) -> None:
    stages = Stages()
    stages.run(scene)
    stages.run(scene)
    assert len(stages.proposed) == 1 and len(stages.associated) == 2
    next((scene / "object_mask_raw").glob("*.png")).unlink()
    stages.run(scene, "--no-generate")
    assert len(stages.proposed) == 1
    stages.run(scene)
    assert len(stages.proposed) == 2
    stages.run(scene, "--overwrite")
    assert len(stages.proposed) == 3


def test_masks_of_another_program_are_only_joined(
    scene: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(scene / "truth", scene / "by_hand")
    (scene / "by_hand/003.png").unlink()
    stages = Stages()
    with caplog.at_level("INFO"):
        stages.run(scene, "-o", "by_hand")
    assert stages.proposed == [] and stages.associated[0].options.start == "auto"
    assert "none for 1 of 9 photographs: 003.png" in caplog.text


def test_without_joining_the_proposals_are_checked(scene: Path) -> None:
    stages = Stages()
    done = stages.run(scene, "--no-associate")
    assert stages.associated == [] and done.folder == "object_mask_raw"
    assert any(finding.kind == "fresh" for finding in done.report.findings)


def test_masks_that_somebody_made_are_safe(scene: Path) -> None:
    shutil.copytree(scene / "truth", scene / "object_mask")
    stages = Stages()
    with pytest.raises(UserError, match=r"object_mask: holds masks already.*--target"):
        stages.run(scene)
    assert stages.proposed == []
    stages.run(scene, "--target", "joined")
    assert (scene / "joined/000.png").is_file()
    stages.run(scene, "--overwrite")
    assert len(stages.associated) == 2


def test_without_poses_it_is_said_before_any_work(scene: Path) -> None:
    shutil.rmtree(scene / "sparse")
    stages = Stages()
    with pytest.raises(UserError, match=r"without poses.*convert\.py.*--no-associate"):
        stages.run(scene)
    assert stages.proposed == []
    stages.run(scene, "--no-associate")
    assert len(stages.proposed) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "object_mask_raw"], "--target must be a folder of its own"),
        (["--target", "../x"], "--target must be a folder inside the scene"),
        (["--method", "command"], "--command must be"),
        (["--video"], "--video must be left out with --method sam"),
        (["--target", "object_mask_raw_layers"], "--target must be a folder of its own"),
    ],
)
def test_wrong_command_lines(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_prepare_arguments(["-s", "scene", *words])
    assert said in str(caught.value)


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda cannot be used"):
        torch_device("cuda")
    assert torch_device("auto").type == "cpu"


def shared_pixels(scene: Path, folder: str) -> float:
    """Share of the objects' pixels, over all views, that have the id most common for the object,
    where no two objects have one id."""
    counts: dict[int, Counter[int]] = {value: Counter() for value in IDS}
    for path in sorted((scene / folder).glob("*.png")):
        ids = np.asarray(Image.open(path))
        true = np.asarray(Image.open(scene / "truth" / path.name))
        for value in IDS:
            counts[value].update(ids[true == value].tolist())
    common = {value: found.most_common(1)[0] for value, found in counts.items()}
    assert folder != "object_mask" or len({number for number, _ in common.values()}) == 3
    total = sum(found.total() for found in counts.values())
    return sum(pixels for _, pixels in common.values()) / total


def test_from_photographs_to_masks_that_agree(tmp_path: Path) -> None:
    """The real steps: a program's masks, numbered anew in each view, joined by the points."""
    scene = write_blobs(tmp_path / "my scene", views=17, points=2000)
    (scene / "object_mask").rename(scene / "truth")
    program = tmp_path / "oracle.py"
    program.write_text(ORACLE)
    words = [sys.executable, str(program), "{image}", "{output}", str(scene)]
    typed = ["-s", str(scene), "--method", "command", "--command", shlex.join(words), "--quiet"]
    done = prepare_masks(*parse_prepare_arguments([*typed, "--threads", "1"]))
    assert not done.report.stops_training and done.report.masks == 17
    assert done.report.ids == 3 and not done.report.is_fresh
    same = [shared_pixels(scene, folder) for folder in ("object_mask", "object_mask_raw")]
    assert same[0] > 0.97 > 0.8 > same[1]
    assert (scene / "object_mask_raw_sheet.png").is_file()


def test_the_numbers_of_pixels_without_a_target_need_no_flag(scene: Path) -> None:
    """Or an object 65535 would be learned."""
    stages = Stages()
    stages.run(scene)
    path = scene / "object_mask/000.png"
    ids = np.asarray(Image.open(path)).astype(np.int64)
    ids[:5] = 65535
    write_id_map(path, ids)
    from arguments import ModelParams
    from scene.dataset import load_scene

    loaded = load_scene(ModelParams(str(scene)), seed=0)
    assert loaded.id_table is not None and loaded.id_table.originals == IDS
    masks = loaded.train[0].masks
    assert masks is not None and (masks.label_map[:5] == -1).all()
    (scene / "object_mask.json").unlink()
    loaded = load_scene(ModelParams(str(scene)), seed=0)
    assert loaded.id_table is not None and loaded.id_table.originals == (*IDS, 65535)
