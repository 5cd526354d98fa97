# SPDX-License-Identifier: Apache-2.0
"""From masks of texts in training views to named objects and LERF-Mask's scores."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arguments.evaluation import EvaluationParams
from arguments.text import TextParams, parse_text_arguments
from iqgs.engine.objects.naming import record_names
from iqgs.engine.objects.opened import edited_objects
from iqgs.engine.objects.recording import undo_edit
from iqgs.engine.opening import open_run
from iqgs.engine.scoring.results import evaluate_runs
from iqgs.engine.settings import resolve_run
from iqgs.engine.text import finding
from iqgs.engine.training import train
from iqgs.evaluation.lerf_mask import lerf_mask_scores
from scripts import find_text as script
from tests.engine.blobs import write_blobs
from tests.engine.conftest import LEARNED, SHORT
from utils.entry import run_command
from utils.errors import UserError

TEXTS = {"red ball": (3,), "balls of any colour": (3, 7, 300), "zebra": ()}


def write_masks(scene: Path, target: Path, names: dict[str, str]) -> None:
    """Exact masks of TEXTS: photograph -> name of its folder."""
    for photograph, name in names.items():
        ids = np.asarray(Image.open(scene / "object_mask" / photograph)).astype(int)
        for text, numbers in TEXTS.items():
            (target / name).mkdir(parents=True, exist_ok=True)
            mask = np.isin(ids, numbers).astype(np.uint8) * 255
            Image.fromarray(mask).save(target / name / f"{text}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(scene, run): the three spheres, learned by id; test_mask numbered as LERF-Mask's."""
    folder = tmp_path_factory.mktemp("text")
    scene = write_blobs(folder / "scene", views=17)
    settings = {**SHORT, **LEARNED, "source_path": str(scene), "model_path": str(folder / "run")}
    assert train(resolve_run(settings)) == 0
    test = sorted(json.loads((folder / "run/split.json").read_text())["test"])
    write_masks(scene, scene / "test_mask", {name: str(i) for i, name in enumerate(test)})
    return scene, folder / "run"


def test_texts_find_their_objects_and_lerf_mask_scores_them(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    scene, folder = trained
    run = open_run(folder)
    asked = [view.name for view in run.scene.train][::3]
    write_masks(scene, tmp_path / "masks", {name: Path(name).stem for name in asked})
    params = TextParams(model_path=str(folder), masks=str(tmp_path / "masks"), quiet=True)
    said = finding.find_text(run, params)
    stored = json.loads((folder / "text.json").read_text())
    assert {t: tuple(r["objects"]) for t, r in stored["prompts"].items()} == TEXTS
    assert stored["views"] == len(asked) and stored["source"].startswith("masks:")
    assert set(stored["names"]) == {"3", "7", "300"} and stored["names"]["7"] != "red ball"
    assert any(line.startswith("zebra: no object reaches 0.5") for line in said)
    predicted = folder / f"test/ours_{run.iteration}_text/test_mask"
    scores = lerf_mask_scores(scene / "test_mask", predicted)
    assert scores.values["missing"] == scores.values["unused"] == 0
    assert scores.prompts["zebra"] == (1.0, 1.0)  # empty where it should be
    assert scores.values["mIoU"] > 0.8
    text, code = evaluate_runs(EvaluationParams(model_paths=(str(folder),), protocol="lerf-mask"))
    assert code == 0 and f"{100 * scores.values['mIoU']:.1f}" in text


def test_prompts_come_from_the_scene_and_a_program_answers(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    program = tmp_path / "ask.py"
    program.write_text(
        "import sys, numpy as np\nfrom PIL import Image\n"
        "image = np.asarray(Image.open(sys.argv[1]).convert('RGB')).astype(int)\n"
        "bright = image.max(2) > 60\n"
        "red = bright & (image.argmax(2) == 0)\n"
        "mask = {'red ball': red, 'zebra': red & False}.get(sys.argv[2], bright)\n"
        "Image.fromarray((mask * 255).astype(np.uint8)).save(sys.argv[3])\n"
    )
    command = f"{sys.executable} {program} {{image}} {{prompt}} {{output}}"
    params = TextParams(
        model_path=str(trained[1]), command=command, most_views=3, render=False, quiet=True
    )
    finding.find_text(open_run(trained[1]), params)
    stored = json.loads((trained[1] / "text.json").read_text())
    assert {t: tuple(r["objects"]) for t, r in stored["prompts"].items()} == TEXTS
    assert stored["views"] <= 3


def test_crops_are_scored_where_a_model_says_what_is_in_them(
    trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the model that knows colours."""
    import torch

    class Colours:
        def __init__(self, folder: str, device: str) -> None:
            assert folder == "weights"

        def image_features(self, crops: list[np.ndarray]) -> torch.Tensor:
            plain = np.array([123, 117, 104])
            means = [c[np.abs(c - plain).sum(2) > 40].mean(0) for c in crops]
            return torch.nn.functional.normalize(torch.tensor(np.array(means)), dim=1)

        def relevancies(self, images: torch.Tensor, texts: list[str]) -> np.ndarray:
            hue = images - images.mean(dim=1, keepdim=True)
            return np.stack([hue[:, "rgb".index(t[0])].numpy() > 0.05 for t in texts], 1) * 1.0

    monkeypatch.setattr(finding, "CropScorer", Colours)
    params = TextParams(
        model_path=str(trained[1]),
        clip="weights",
        prompts=("red", "green", "blue"),
        render=False,
        quiet=True,
    )
    finding.find_text(open_run(trained[1]), params)
    stored = json.loads((trained[1] / "text.json").read_text())["prompts"]
    assert {text: record["objects"] for text, record in stored.items()} == {
        "red": [3],
        "green": [7],
        "blue": [300],
    }
    assert max(c["views"] for c in stored["red"]["candidates"]) == finding.CROPS


def test_names_are_edits_of_the_run(trained: tuple[Path, Path], tmp_path: Path) -> None:
    scene, folder = trained
    run = open_run(folder)
    views = [view.name for view in run.scene.train][:2]
    write_masks(scene, tmp_path / "masks", {name: Path(name).stem for name in views})
    params = TextParams(
        model_path=str(folder),
        masks=str(tmp_path / "masks"),
        prompts=("balls of any colour",),
        name=True,
        render=False,
        quiet=True,
    )
    before = edited_objects(run).names
    said = finding.find_text(run, params)
    wanted = {number: f"balls of any colour {number}" for number in (3, 7, 300)}
    assert edited_objects(run).names == wanted and "3 balls of any colour 3" in said[-1]
    for _ in wanted:
        undo_edit(run)
    assert edited_objects(run).names == before and not (folder / "edits.jsonl").exists()
    record_names(run, {3: "ball"})
    for names, words in (
        ({7: "ball"}, "object 3 is called so"),
        ({7: "12"}, "taken for a number"),
        ({7: "a", 300: "a"}, "object 7 is called so"),
        ({99: "x"}, "99"),
    ):
        with pytest.raises(UserError, match=words):
            record_names(run, names)
    assert edited_objects(run).names[3] == "ball"
    undo_edit(run)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "model_path (-m)"),
        (["-m", "x"], "give one of --masks, --command and --clip; none is given"),
        (["-m", "x", "--masks", "a", "--clip", "b"], "--masks and --clip is given"),
        (["-m", "x", "--command", "prog {image} {output}"], "a command with {prompt}"),
        (["-m", "x", "--masks", "a", "--prompts", "a/b"], "--prompts"),
        (["-m", "x", "--masks", "a", "--threshold", "0"], "--threshold"),
        (["-m", "nowhere", "--masks", "a"], "nowhere"),
    ],
)
def test_a_mistake_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["find_text.py", *arguments])
    assert run_command(script.main) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("error: ")]
    assert said in line


def test_a_scene_without_prompts_says_so(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run = open_run(trained[1])
    bare = open_run(trained[1], overrides={"source_path": str(trained[0])})
    assert bare.scene is not None
    (trained[0] / "test_mask").rename(tmp_path / "aside")
    try:
        command = "prog {image} {prompt} {output}"
        params, _ = parse_text_arguments(["-m", str(trained[1]), "--command", command])
        with pytest.raises(UserError, match="--prompts is empty"):
            finding.find_text(run, params)
    finally:
        (tmp_path / "aside").rename(trained[0] / "test_mask")
