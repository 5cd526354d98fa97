# SPDX-License-Identifier: Apache-2.0
"""What a report says of one run: curves, objects and their failures, confusion, worst views."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from iqgs.engine.pictures.views import to_bytes
from iqgs.engine.reporting.crops import crop, errors, shrunk
from iqgs.engine.reporting.curves import charts, heat_map, read_curves
from iqgs.engine.reporting.html import figure, percent, picture, swatch, text
from iqgs.engine.reporting.matched import (
    UNMATCHED,
    Confusion,
    Ids,
    KeptMaps,
    Matching,
    ViewMatch,
    matched_views,
)
from iqgs.engine.run import Run
from iqgs.engine.scoring.run_scores import Evaluated
from iqgs.evaluation.views import ObjectScore
from scene.view import View
from utils.colors import colorize_ids

WORST_VIEWS = 6
CROPS = 3  # of an object: the views with the most wrong pixels
MOST_OBJECTS = 100  # rows with crops
MOST_CONFUSED = 50  # rows of the heat map
WORTH_SAYING = 0.02  # share of an object's pixels
VIEW_WIDTH = 240  # pixels of each picture of a view


@dataclass(frozen=True)
class Subject:
    """One evaluated run."""

    run: Run
    views: Mapping[str, View]
    evaluated: Evaluated
    names: Mapping[int, str]

    def name(self, number: int) -> str:
        """Of an object, or of what stands for none."""
        if number in (0, UNMATCHED):
            return "nothing" if number == 0 else "an object of its own"
        return self.names.get(number, str(number))

    def photograph(self, name: str) -> np.ndarray:
        """Pixels [H, W, 3] of a view."""
        pixels = to_bytes(self.views[name].image)
        self.views[name].forget()
        return pixels


def run_section(run: Run, views: Sequence[View], evaluated: Evaluated) -> str:
    """HTML of one run."""
    scores = evaluated.scores
    names = {} if scores is None else {row.id: row.name for row in scores.objects}
    subject = Subject(run, {view.name: view for view in views}, evaluated, names)
    parts = [
        f"<h2>{text(run.folder)}</h2>",
        f'<p class="note">{text(_settings(run, evaluated))}</p>',
        "<h3>Curves</h3>",
        charts(read_curves(run.folder / "log.jsonl")),
    ]
    matching = None
    if scores is not None:
        values = scores.values
        matching = Matching(
            str(values["matching"]),
            str(values["zero_label"]),
            int(values["min_area"]),
            scores.assignment,
        )
        confusion = Confusion.of(evaluated.maps, matching)
        parts += [
            "<h3>Objects, worst first</h3>",
            _objects(subject, scores.objects, confusion, matching),
            "<h3>Confusion between objects</h3>",
            _confusion(subject, scores.objects, confusion),
        ]
    parts += ["<h3>Worst views</h3>", _worst_views(subject, matching)]
    return "\n".join(parts)


def _settings(run: Run, evaluated: Evaluated) -> str:
    config = run.config
    return (
        f"{evaluated.key} on {evaluated.split} views; method {config.segmentation.method}, "
        f"primitive {config.pipeline.primitive}, {len(run.gaussians)} splats, scene "
        f"{config.model.source_path}"
    )


def _objects(
    subject: Subject, rows: Sequence[ObjectScore], confusion: Confusion, matching: Matching
) -> str:
    """A row an object with its scores, what went wrong in words, and crops."""
    worst = sorted(rows, key=lambda row: row.iou)[:MOST_OBJECTS]
    crops = _crops(subject, [row.id for row in worst], matching)
    heads = ("object", "IoU", "boundary IoU", "views found", "pixels", "switches", "what happened")
    lines = [
        "<tr>" + "".join(f"<th>{head}</th>" for head in heads) + f'<th colspan="{CROPS}"></th></tr>'
    ]
    for row in worst:
        cells = (percent(row.iou), percent(row.boundary_iou), f"{row.found_views}/{row.views}")
        numbers = (*cells, str(row.area), str(row.switches))
        lines.append(
            f"<tr><td>{swatch(row.id)}{text(row.name)} ({row.id})</td>"
            + "".join(f'<td class="number">{cell}</td>' for cell in numbers)
            + f'<td class="words">{text(failure(subject, row, confusion))}</td>'
            + "".join(f"<td>{cell}</td>" for cell in crops.get(row.id, ()))
            + "</tr>"
        )
    left_out = len(rows) - len(worst)
    note = f" {left_out} better objects are left out." if left_out else ""
    return (
        '<p class="note">Crops: the views with most wrong pixels. Green: outline of the true mask; '
        f"blue: missed; orange: too much.{note}</p>"
        f'<div class="wide"><table>{"".join(lines)}</table></div>'
    )


def failure(subject: Subject, row: ObjectScore, confusion: Confusion) -> str:
    """What went wrong with an object, in words."""
    if row.id not in confusion.objects:
        return "no scored pixels"
    said = []
    if row.found_views < row.views:
        said.append(f"missed in {row.views - row.found_views} of {row.views} views")
    lost = [pair for pair in confusion.lost(row.id) if pair[1] >= WORTH_SAYING][:3]
    said += [f"{percent(share)} % of it is called {subject.name(other)}" for other, share in lost]
    taken = [pair for pair in confusion.taken(row.id) if pair[1] >= WORTH_SAYING][:2]
    said += [
        f"takes {percent(share)} % of its area from "
        + ("where no object is" if other == 0 else subject.name(other))
        for other, share in taken
    ]
    if row.switches:
        said.append(f"its identity switches {row.switches} times")
    return "; ".join(said) or "within 2 % of the true masks"


def _crops(
    subject: Subject, objects: Sequence[int], matching: Matching
) -> dict[int, tuple[str, ...]]:
    """For each object pictures of the views with the most wrong pixels."""
    maps = subject.evaluated.maps
    wrong: dict[int, list[tuple[int, str]]] = {number: [] for number in objects}
    for view in matched_views(maps, matching):
        for number, count in _wrong_pixels(view).items():
            if number in wrong:
                wrong[number].append((count, view.name))
    wanted: dict[str, list[int]] = {}
    for number, found in wrong.items():
        for _, name in sorted(found, reverse=True)[:CROPS]:
            wanted.setdefault(name, []).append(number)
    pictures: dict[int, list[tuple[float, str]]] = {}
    for name, numbers in wanted.items():  # a photograph is read once
        photograph = subject.photograph(name)
        view = ViewMatch(name, *matching.apply(maps[name]))
        for number in numbers:
            iou = view.iou(number)
            shown = picture(crop(photograph, view, number), f"{name}, IoU {percent(iou)}")
            pictures.setdefault(number, []).append((iou, shown))
    return {number: tuple(p for _, p in sorted(found)) for number, found in pictures.items()}


def _wrong_pixels(view: ViewMatch) -> dict[int, int]:
    """Of every true object that a view shows."""
    wrong = view.called != view.truth
    counts: dict[int, int] = {int(i): 0 for i in np.unique(view.truth) if i > 0}
    for side in (view.truth[wrong], view.called[wrong]):
        for number, count in zip(*np.unique(side, return_counts=True), strict=True):
            if int(number) in counts:
                counts[int(number)] += int(count)
    return counts


def _confusion(subject: Subject, rows: Sequence[ObjectScore], confusion: Confusion) -> str:
    """What the pixels of objects are called; the worst objects where there are many."""
    worst = sorted(rows, key=lambda row: row.iou)[:MOST_CONFUSED]
    chosen = sorted(row.id for row in worst if row.id in confusion.objects)
    if not chosen:
        return '<p class="note">No object has scored pixels.</p>'
    order: Ids = np.array([1 + confusion.objects.index(number) for number in chosen])
    columns = [0, *order, confusion.pixels.shape[1] - 1]
    counts = confusion.pixels[order]
    shares = counts[:, columns] / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [f"{subject.name(number)} ({number})" for number in chosen]
    heads = [subject.name(0), *names, subject.name(UNMATCHED)]
    note = (
        "" if len(rows) <= MOST_CONFUSED else f" The {MOST_CONFUSED} worst of {len(rows)} objects."
    )
    return (
        '<p class="note">Rows: true objects. Columns: what their pixels are called. Blue is right, '
        f"orange wrong; rest the pointer on a square for its share.{note}</p>"
        + heat_map(names, heads, shares.tolist())
    )


def _worst_views(subject: Subject, matching: Matching | None) -> str:
    """Photograph, rendering, truth, prediction and errors of the views with the worst scores."""
    per_view = subject.evaluated.per_view
    key = "mIoU_gt" if matching is not None else "PSNR"
    scored = [
        (scores[key], name)
        for name, scores in per_view.items()
        if not math.isnan(scores.get(key, math.nan))
    ]
    lines = []
    for _, name in sorted(scored)[:WORST_VIEWS]:
        scores = per_view[name]
        said = f"PSNR {scores['PSNR']:.1f}" + (
            f", mIoU_gt {percent(scores['mIoU_gt'])}" if matching is not None else ""
        )
        shown = _view_pictures(subject, name, matching)
        lines.append(
            f"<p>{text(name)}: {said}</p>"
            f'<div class="row">{"".join(figure(p, caption) for caption, p in shown)}</div>'
        )
    return "\n".join(lines)


def _view_pictures(
    subject: Subject, name: str, matching: Matching | None
) -> list[tuple[str, np.ndarray]]:
    photograph = subject.photograph(name)
    lens = subject.run.lens(subject.views[name].camera)
    shown = [
        ("photograph", photograph),
        ("rendering", to_bytes(lens.render(with_surface=False).color)),
    ]
    maps: KeptMaps | None = subject.evaluated.maps.get(name)
    if matching is not None and maps is not None:
        view = ViewMatch(name, *matching.apply(maps))
        called = np.where(view.called == UNMATCHED, 2**20 + maps.maps()[0], view.called)
        shown += [
            ("true masks", colorize_ids(view.truth)),
            ("predictions in the colours of their partners", colorize_ids(called)),
            ("errors: blue missed, orange wrong", errors(photograph, view)),
        ]
    return [(caption, shrunk(pixels, VIEW_WIDTH)) for caption, pixels in shown]
