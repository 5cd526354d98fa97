# SPDX-License-Identifier: Apache-2.0
"""The objects of a run that texts mean: asked in many views, voted on, written down."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arguments.text import TextParams
from iqgs.engine.objects.naming import record_names
from iqgs.engine.objects.opened import edited_objects
from iqgs.engine.pictures.views import to_bytes
from iqgs.engine.run import Run, choose_device
from iqgs.objects.text_vote import TextMatch, TextVote, chosen_objects, names_of
from iqgs.preparation.text.clip import CropScorer, object_crop
from iqgs.preparation.text.masks import CommandMasks, FolderMasks, TextMasks, folders_of_views
from scene.view import View
from utils.errors import UserError
from utils.images import write_pixels
from utils.progress import tqdm
from utils.storage import write_text

LERF_MASKS = "test_mask"  # of a scene: true masks of the held-out views
TEXT_FILE = "text.json"  # of a run
CLIP_VIEWS = 30  # asked where nobody says how many
CROPS = 5  # of an object, from the views that show most of it
FEWEST_PIXELS = 64  # of an object that is worth a crop
CANDIDATES = 5  # of a text that are written down

logger = logging.getLogger(__name__)
Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Found:
    """What each text means."""

    source: str
    threshold: float
    views: int  # that were asked
    matches: Mapping[str, tuple[TextMatch, ...]]  # text -> objects, best first

    def objects(self, text: str) -> tuple[int, ...]:
        """The objects of a text."""
        return chosen_objects(self.matches[text], self.threshold)


def find_text(run: Run, params: TextParams) -> list[str]:
    """Find the objects, write RUN/text.json and the masks; returns what to tell the user."""
    if run.method is None:
        raise UserError(f"{run.folder} was trained without masks: it has no objects to find")
    prompts, found = _asked(run, params)
    names = {} if run.ids is None else run.ids.names
    write_text(run.folder / TEXT_FILE, json.dumps(_record(found, names), indent=1) + "\n")
    said = [_line(text, found, names) for text in prompts]
    said.append(f"{run.folder / TEXT_FILE}: {len(prompts)} texts, {found.views} views asked")
    if params.name:
        said.append(name_found(run, found))
    if params.render and run.scene.test:
        said.append(str(write_masks(run, found, params)))
    return said


def _asked(run: Run, params: TextParams) -> tuple[list[str], Found]:
    every = {"train": run.scene.train, "test": run.scene.test, "all": run.views()}
    views: Sequence[View] = every[params.ask]
    if not views:
        raise UserError(f"--ask {params.ask}: the run has no such views")
    source = f"{'masks' if params.masks else 'command' if params.command else 'clip'}:"
    source += params.masks or params.command or params.clip
    if params.clip:
        views = _spread(views, params.most_views or CLIP_VIEWS)
        prompts = list(params.prompts) or _prompts_of_scene(run)
        matches = _by_crops(run, views, prompts, params)
        return prompts, Found(source, params.threshold, len(views), matches)
    masks: TextMasks
    if params.masks:
        masks = FolderMasks(Path(params.masks), views)
        views = [view for view in views if view.name in masks.folders]
        prompts = list(params.prompts) or masks.texts()
    else:
        masks = CommandMasks(params.command, params.command_timeout)
        prompts = list(params.prompts) or _prompts_of_scene(run)
    views = _spread(views, params.most_views or len(views))
    vote = _by_masks(run, views, prompts, masks, params.quiet)
    matches = {text: vote.matches(text) for text in prompts}
    return prompts, Found(source, params.threshold, len(views), matches)


def _spread(views: Sequence[View], most: int) -> Sequence[View]:
    return views[:: max(1, -(-len(views) // most))]


def _prompts_of_scene(run: Run) -> list[str]:
    folder = Path(run.config.model.source_path) / LERF_MASKS
    found = sorted({path.stem for path in folder.glob("*/*.png")})
    if not found:
        raise UserError(f"--prompts is empty, and {folder} holds no <view>/<text>.png to name any")
    return found


def labels_of(run: Run, view: View) -> Ids:
    """The objects that the run sees in a view [H, W], by the numbers of the files."""
    found = run.learning_method.segment(run.lens(view.camera))
    return run.file_ids(found.label_map, found.ids)


def _by_masks(
    run: Run, views: Sequence[View], prompts: Sequence[str], masks: TextMasks, quiet: bool
) -> TextVote:
    vote, asked = TextVote(), dict.fromkeys(prompts, 0)
    for view in tqdm(views, desc="Asking", disable=quiet, leave=False):
        labels = None
        for text in prompts:
            mask = masks.mask(text, view)
            if mask is None:
                continue
            labels = labels_of(run, view) if labels is None else labels
            vote.add(text, labels, mask)
            asked[text] += 1
        view.forget()
    for text, count in asked.items():
        if not count:
            logger.warning("%r: none of the %d views has a mask of it", text, len(views))
    return vote


def _by_crops(
    run: Run, views: Sequence[View], prompts: Sequence[str], params: TextParams
) -> dict[str, tuple[TextMatch, ...]]:
    """Mean relevancies of each object's largest crops."""
    scorer = CropScorer(params.clip, str(choose_device(params.device)))
    features: dict[int, list[tuple[int, torch.Tensor]]] = {}
    for view in tqdm(views, desc="Looking", disable=params.quiet, leave=False):
        labels, photograph = labels_of(run, view), to_bytes(view.image)
        numbers, counts = np.unique(labels, return_counts=True)
        shown = [
            (int(number), int(count))
            for number, count in zip(numbers, counts, strict=True)
            if number and count >= FEWEST_PIXELS
        ]
        if shown:
            crops = [object_crop(photograph, labels == number) for number, _ in shown]
            for (number, count), row in zip(shown, scorer.image_features(crops), strict=True):
                best = [*features.get(number, []), (count, row)]
                features[number] = sorted(best, key=lambda pair: -pair[0])[:CROPS]
        view.forget()
    if not features:
        raise UserError("no view shows an object that is large enough for a picture of it")
    scores = {
        number: scorer.relevancies(torch.stack([row for _, row in rows]), prompts).mean(axis=0)
        for number, rows in features.items()
    }
    return {
        text: tuple(
            sorted(
                (TextMatch(n, float(s[i]), len(features[n])) for n, s in scores.items()),
                key=lambda match: (-match.score, match.number),
            )
        )
        for i, text in enumerate(prompts)
    }


def name_found(run: Run, found: Found) -> str:
    """Name the objects; says which. Of several objects of one text each gets its number beside it,
    for a name means one object.
    """
    best = names_of(found.matches, found.threshold)
    twice = {text for text in best.values() if list(best.values()).count(text) > 1}
    present = edited_objects(run).numbers()
    names = {
        number: f"{text} {number}" if text in twice else text
        for number, text in best.items()
        if number in present  # it may have been removed since
    }
    record_names(run, names)
    return "named: " + (", ".join(f"{n} {name}" for n, name in names.items()) or "nothing")


def write_masks(run: Run, found: Found, params: TextParams) -> Path:
    """Binary masks of every text in the held-out views, as LERF-Mask is scored. Views are called
    as in the scene's test_mask where it has one; returns the folder.
    """
    folder = run.folder / "test" / f"ours_{run.iteration}_text" / LERF_MASKS
    truth = Path(run.config.model.source_path) / LERF_MASKS
    views = list(run.scene.test)
    named = {view.name: Path(view.name).stem for view in views}
    if truth.is_dir():
        named = {name: path.name for name, path in folders_of_views(truth, views).items()}
    for view in tqdm(views, desc="Writing", disable=params.quiet, leave=False):
        if view.name not in named:
            continue
        labels = labels_of(run, view)
        for text in found.matches:
            mask = np.isin(labels, found.objects(text))
            path = folder / named[view.name] / f"{text}.png"
            write_pixels(path, mask.astype(np.uint8) * 255)
    return folder


def _record(found: Found, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        **{key: value for key, value in asdict(replace(found, matches={})).items() if value != {}},
        "prompts": {
            text: {
                "objects": list(found.objects(text)),
                "candidates": [
                    {**asdict(match), "name": names.get(match.number, "")}
                    for match in matches[:CANDIDATES]
                ],
            }
            for text, matches in found.matches.items()
        },
        "names": {str(n): text for n, text in names_of(found.matches, found.threshold).items()},
    }


def _line(text: str, found: Found, names: Mapping[int, str]) -> str:
    matches, chosen = found.matches[text], found.objects(text)

    def said(match: TextMatch) -> str:
        name = f" {names[match.number]}" if match.number in names else ""
        return f"{match.number}{name} ({match.score:.2f}, {match.views} views)"

    if chosen:
        return f"{text}: " + ", ".join(said(match) for match in matches if match.number in chosen)
    best = f"the best is {said(matches[0])}" if matches else "nothing is near it"
    return f"{text}: no object reaches {found.threshold:g}; {best}"
