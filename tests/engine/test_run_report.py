# SPDX-License-Identifier: Apache-2.0
"""The report of evaluated runs: what it counts, what it shows, and that it is one file."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arguments import RunConfig
from arguments.evaluation import BESIDE_RUN, EvaluationParams, parse_evaluation_arguments
from iqgs.engine.reporting.crops import EXTRA, MISSED, crop, errors
from iqgs.engine.reporting.curves import chart, charts, read_curves
from iqgs.engine.reporting.matched import (
    UNMATCHED,
    Confusion,
    KeptMaps,
    Matching,
    ViewMatch,
    matched_views,
)
from iqgs.engine.scoring.results import evaluate_runs
from iqgs.engine.training import train
from utils.errors import UserError

from .blobs import IDS


def test_maps_come_back_as_they_were() -> None:
    rng = np.random.default_rng(0)
    prediction, truth = rng.integers(0, 9, (2, 11, 7))
    truth[0, 0] = -1
    found = KeptMaps.of(prediction, truth).maps()
    np.testing.assert_array_equal(found[0], prediction)
    np.testing.assert_array_equal(found[1], truth)


@pytest.mark.parametrize("kind", ["id", "scene", "view"])
@pytest.mark.parametrize("zero_label", ["background", "ignore"])
def test_confusion_is_that_of_counting_pixel_by_pixel(kind: str, zero_label: str) -> None:
    rng = np.random.default_rng(1)
    objects = (2, 5, 300)
    names = {0: 0, 2: 11, 5: 300, 300: 4}  # prediction by truth, where they are not the same
    views = {}
    for name in "abc":
        truth = rng.choice([0, *objects], (16, 12)).astype(np.int32)
        right = truth if kind == "id" else np.vectorize(names.get)(truth)
        wrong = rng.choice([0, 2, 4, 5, 11, 77, 300], truth.shape)
        prediction = np.where(rng.random(truth.shape) < 0.8, right, wrong)
        truth[rng.random(truth.shape) < 0.05] = -1
        views[name] = (prediction, truth)
    back = {new: old for old, new in names.items() if old}
    matching = Matching(kind, zero_label, 1, back if kind == "scene" else {})
    found = Confusion.of({n: KeptMaps.of(*maps) for n, maps in views.items()}, matching)
    assert found.objects == objects
    wanted: dict[tuple[int, int], int] = {}
    for prediction, truth in views.values():
        for p, t in zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True):
            if t == -1 or (t == 0 and zero_label == "ignore"):
                p, t = 0, 0  # not scored: nothing on both sides
            called = p if kind == "id" else back.get(p, UNMATCHED)
            called = 0 if p == 0 else called if called in objects else UNMATCHED
            wanted[t, called] = wanted.get((t, called), 0) + 1
    columns = (0, *objects, UNMATCHED)
    for i, t in enumerate((0, *objects)):
        assert found.pixels[i].tolist() == [wanted.get((t, c), 0) for c in columns]
    area = sum(count for (t, _), count in wanted.items() if t == 5)
    assert found.area(5) == area
    lost = {c: n / area for (t, c), n in wanted.items() if t == 5 and c != 5}
    assert dict(found.lost(5)) == pytest.approx(lost)
    assert [share for _, share in found.lost(5)] == sorted(lost.values(), reverse=True)
    taken = {t: n / area for (t, c), n in wanted.items() if c == 5 and t != 5}
    assert dict(found.taken(5)) == pytest.approx(taken)


def test_a_view_knows_the_iou_of_its_objects() -> None:
    truth = np.zeros((4, 4), np.int32)
    truth[:2] = 3
    called = np.zeros((4, 4), np.int32)
    called[1:3] = 3
    (view,) = matched_views({"v": KeptMaps.of(called, truth)}, Matching("id", "background", 1, {}))
    assert view.iou(3) == pytest.approx(1 / 3)


def test_wrong_pixels_are_tinted() -> None:
    truth, called = np.zeros((2, 128, 128), np.int64)
    truth[20:100, 20:60] = 7
    called[20:100, 40:80] = 7
    view = ViewMatch("v", called, truth)
    gray = np.full((128, 128, 3), 100, np.uint8)
    shown = errors(gray, view)
    np.testing.assert_array_equal(shown[50, 30], shown[90, 25])
    assert shown[50, 30].argmax() == np.argmax(MISSED) == 2
    assert shown[50, 70].argmax() == np.argmax(EXTRA) == 0
    assert len(set(shown[50, 50].tolist())) == 1  # right: gray
    cut = crop(gray, view, 7)
    assert max(cut.shape[:2]) == 128  # enlarged to the size of a crop
    kinds = cut.astype(int).argmax(2)[cut.std(2) > 20]
    blue, red = (kinds == 2).mean(), (kinds == 0).mean()
    assert 0.3 < blue < 0.6 and 0.3 < red < 0.6  # the two halves that differ are equally large


def test_curves_are_read_from_a_log_with_repeats_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    records = [{"iteration": i, "loss": 10.0 / i, "psnr": float("nan")} for i in range(10, 60, 10)]
    records += [{"iteration": 30, "loss": 7.0}, {"iteration": 30, "stage": "first", "seconds": 2}]
    path.write_text("\n".join(json.dumps(r) for r in records) + '\n{"iteration": 70, "lo')
    found = read_curves(path)
    assert found.values["loss"] == [(10, 1.0), (20, 0.5), (30, 7.0), (40, 0.25), (50, 0.2)]
    assert "psnr" not in found.values and found.stages == {"first": 30}
    drawing = chart("loss <a>", found.values["loss"], found.stages)
    (line,) = re.findall(r'polyline points="([^"]+)"', drawing)
    points = np.array([[float(v) for v in pair.split(",")] for pair in line.split()])
    assert (np.diff(points[:, 0]) > 0).all()
    assert points[:, 1].argmin() == 2  # the greatest value is highest on the page
    assert "&lt;a&gt;" in drawing and "end of first" in drawing
    assert "seconds 2" in charts(found)
    assert "no log.jsonl" in charts(read_curves(tmp_path / "none.jsonl"))


def test_rounding_is_drawn_as_no_trend() -> None:
    drawing = chart("psnr", [(1, 31.2408), (2, 31.2409), (3, 31.2410), (4, 31.2411)], {})
    (line,) = re.findall(r'polyline points="([^"]+)"', drawing)
    heights = [float(pair.split(",")[1]) for pair in line.split()]
    assert max(heights) - min(heights) < 1


class Document(HTMLParser):
    """What a page holds: words, pictures, and anything that it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.pictures: list[tuple[Image.Image, str]] = []
        self.loads: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        for key in ("src", "href"):
            value = values.get(key)
            if value is None:
                continue
            if not value.startswith("data:image/jpeg;base64,"):
                self.loads.append(value)
                continue
            data = base64.b64decode(value.partition(",")[2])
            self.pictures.append((Image.open(io.BytesIO(data)), values.get("alt") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def run_folder(make_config: Callable[..., RunConfig]) -> Path:
    config = make_config("a <run>")
    assert train(config) == 0
    return Path(config.model.model_path)


def test_the_page_holds_table_curves_objects_and_views(run_folder: Path) -> None:
    broken = str(run_folder.parent / "not & there")
    params = EvaluationParams(model_paths=(broken, str(run_folder)), report=BESIDE_RUN, vote=False)
    _, code = evaluate_runs(params)
    assert code == 1 and not Path(broken).exists()
    found = Document((run_folder / "report.html").read_text())
    assert not found.open and not found.loads
    words = " ".join(found.words)
    stored = json.loads((run_folder / "results.json").read_text())["ours_40"]["test"]
    for key in ("mIoU_gt", "PQ", "AP"):
        assert f"{100 * stored[key]:.1f}" in words
    assert f"{stored['PSNR']:.2f}" in words
    assert "FAILED" in words and "not & there" in words and "a <run>" in words
    for title in ("Curves", "Objects, worst first", "Confusion between objects", "Worst views"):
        assert title in found.words
    assert all(f"({number})" in words for number in IDS)
    assert any("total_loss" in word for word in found.words)
    views = json.loads((run_folder / "split.json").read_text())["test"]
    captions = [about for _, about in found.pictures]
    assert captions.count("photograph") == captions.count("rendering") == len(views)
    assert sum("IoU" in about for about in captions) >= len(IDS)
    for picture, about in found.pictures:
        picture.load()
        assert max(picture.size) <= 240, about


def test_without_report_nothing_is_written(run_folder: Path) -> None:
    evaluate_runs(EvaluationParams(model_paths=(str(run_folder),), vote=False))
    assert not list(run_folder.glob("*.html"))


def test_without_any_run_there_is_no_report(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    assert evaluate_runs(EvaluationParams(model_paths=(missing,), report=BESIDE_RUN))[1] == 1
    assert not list(tmp_path.iterdir())


def test_flag_with_and_without_a_file(run_folder: Path, tmp_path: Path) -> None:
    params, _ = parse_evaluation_arguments(["-m", "x", "--report"])
    assert params.report == BESIDE_RUN and params.model_paths == ("x",)
    params, _ = parse_evaluation_arguments(["--report", "there.html", "-m", "x"])
    assert params.report == "there.html"
    assert parse_evaluation_arguments(["-m", "x"])[0].report == ""
    folder = EvaluationParams(model_paths=(str(run_folder),), report=str(tmp_path))
    with pytest.raises(UserError, match="--report .* is a folder"):
        evaluate_runs(folder)


def test_a_run_without_masks_has_a_report_of_its_images(
    make_config: Callable[..., RunConfig],
) -> None:
    config = make_config("bare", no_masks=True)
    assert train(config) == 0
    folder = Path(config.model.model_path)
    params = EvaluationParams(model_paths=(str(folder),), report=str(folder / "mine.html"))
    assert evaluate_runs(params)[1] == 0
    words = Document((folder / "mine.html").read_text()).words
    assert "Worst views" in words and "Objects, worst first" not in words
