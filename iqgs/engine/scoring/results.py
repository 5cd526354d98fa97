# SPDX-License-Identifier: Apache-2.0
"""Several runs -> results.json in each, and one table."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from arguments.evaluation import EvaluationParams
from iqgs.engine.opening import open_for
from iqgs.engine.run import Run
from iqgs.engine.scoring.run_scores import (
    IMAGE_SCORES,
    SWAPPED,
    Evaluated,
    evaluate_run,
    views_of,
    vote_of,
)
from iqgs.engine.scoring.shared import Shared, in_groups
from iqgs.engine.settings import saved_settings
from iqgs.engine.transfer import with_decoder_of
from iqgs.evaluation.lerf_mask import lerf_mask_scores
from iqgs.evaluation.report import ResultTable, object_table, write_per_view, write_results
from iqgs.evaluation.scorer import PROTOCOLS
from utils.errors import DataError, IQGSError
from utils.storage import write_text

Rows = list[tuple[dict[str, Any], Evaluated | None]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one run."""

    rows: Rows
    section: str = ""  # of a report
    error: str = ""  # why there are no rows


def evaluate_runs(
    params: EvaluationParams, overrides: Mapping[str, Any] | None = None
) -> tuple[str, int]:
    """Score all runs: (the table in the wanted form, exit code). One broken run is a FAILED row.

    `overrides` are settings of the runs that the command line changes, such as `source_path`.
    """
    rows: list[dict[str, Any]] = []
    objects, sections = "", []
    report = None
    if params.report:
        from iqgs.engine.reporting.report_page import report_path, write_report

        report = report_path(params.report, params.model_paths)
    outcomes = _outcomes(params, overrides or {})
    for path, outcome in zip(params.model_paths, outcomes, strict=True):
        if outcome.error:
            about = {"run": path, "scene": Path(path).name, "split": params.split}
            rows.append({**about, "error": outcome.error})
            continue
        sections.append(outcome.section)
        rows += [row for row, _ in outcome.rows]
        first = outcome.rows[0][1]
        scores = None if first is None else first.scores
        if scores is not None and len(params.model_paths) == 1 and params.objects:
            objects = object_table(scores.objects)
    primary = (*PROTOCOLS[params.protocol].primary, *IMAGE_SCORES)
    table = ResultTable(
        tuple(rows), primary if params.protocol == "iqgs" else PROTOCOLS[params.protocol].primary
    )
    if report is not None:
        write_report(report, table, sections)
        logger.info("report: %s", report)
    text = str(getattr(table, params.format)())
    if objects and params.format == "text":
        text += "\n" + objects
    return text, 1 if table.failed else 0


def _outcomes(params: EvaluationParams, overrides: Mapping[str, Any]) -> list[Outcome]:
    """What became of each run, under the protocol."""
    paths = [Path(path) for path in params.model_paths]
    special = _special(PROTOCOLS[params.protocol].kind)
    if special is not None:
        return [_tried(p, partial(_alone, special, p, params, overrides)) for p in paths]
    found: list[Outcome | None] = [None] * len(paths)
    places: dict[int, int] = {}

    def opened() -> Iterator[Run]:
        for place, path in enumerate(paths):
            try:
                run = open_for(path, params, overrides)
                if params.decoder:
                    run = with_decoder_of(run, params.decoder)
            except IQGSError as error:
                found[place] = _failed(path, error)
                continue
            places[id(run)] = place
            yield run

    for shared in in_groups(opened()):
        for run in shared.runs:
            place = places.pop(id(run))
            found[place] = _tried(
                paths[place], partial(_run_rows, run, paths[place], params, shared)
            )
    return [outcome for outcome in found if outcome is not None]


def _alone(
    rows: Callable[..., Rows], path: Path, params: EvaluationParams, overrides: Mapping[str, Any]
) -> Outcome:
    return Outcome(rows(path, params, overrides))


def _special(kind: str) -> Callable[..., Rows] | None:
    """How runs are scored under a protocol that takes no label maps; imported where it is asked."""
    if kind == "binary_masks":
        return _lerf_rows
    if kind == "single_object":
        from iqgs.engine.scoring.single_objects import single_object_rows

        return single_object_rows
    if kind == "points":
        from iqgs.engine.scoring.point_instances import point_rows

        return point_rows
    return None


def _tried(path: Path, score: Callable[[], Outcome]) -> Outcome:
    try:
        return score()
    except IQGSError as error:
        return _failed(path, error)


def _failed(path: Path, error: IQGSError) -> Outcome:
    logger.error("%s: %s", path, error)
    return Outcome([], error=str(error))


def _run_rows(run: Run, path: Path, params: EvaluationParams, shared: Shared) -> Outcome:
    """The rows of a run, and what a report says of it where one is wanted."""
    if params.decoder:
        params = replace(params, vote=False, matching="scene")
    scene = Path(run.config.model.source_path).name
    rows: Rows = []
    evaluated = evaluate_run(run, params, shared)
    if params.decoder:
        key = f"{SWAPPED}{Path(params.decoder).name}"
        evaluated = [replace(found, key=key) for found in evaluated]
    for found in evaluated:
        write_results(path / "results.json", found.key, found.split, found.values)
        write_per_view(path / "per_view.json", found.key, found.split, found.per_view)
        name = str(path) + vote_of(found.key)
        rows.append(
            (
                {
                    "run": name,
                    "scene": scene,
                    "method": found.key,
                    "split": found.split,
                    **found.values,
                },
                found,
            )
        )
    views = views_of(run, params.split)
    if not params.report:
        return Outcome(rows)
    from iqgs.engine.reporting.run_section import run_section  # slow to import

    return Outcome(rows, run_section(run, views, evaluated[0]))


def _lerf_rows(path: Path, params: EvaluationParams, overrides: Mapping[str, Any]) -> Rows:
    """LERF-Mask: <view>/<prompt>.png against the scene's test_mask."""
    source = Path(overrides.get("source_path") or saved_settings(path)["source_path"])
    folder = Path(params.predictions) if params.predictions else _newest_text_folder(path)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no predicted masks; pass --predictions, the folder that holds "
            "<view>/<prompt>.png"
        )
    found = lerf_mask_scores(source / (params.gt_path or "test_mask"), folder)
    key = f"lerf-mask:{folder.name}"
    write_results(path / "results.json", key, "test", found.values)
    row = {
        "run": str(path),
        "scene": source.name,
        "method": key,
        "split": "test",
        "ground_truth": "human",
        **found.values,
    }
    return [(row, None)]


def _newest_text_folder(path: Path) -> Path:
    """That of the highest iteration."""
    found = [
        (int(match[1]), folder)
        for folder in path.glob("test/ours_*_text/test_mask")
        if (match := re.fullmatch(r"ours_(\d+)_text", folder.parent.name))
    ]
    return max(found)[1] if found else path / "test" / "ours_N_text" / "test_mask"


def write_table(text: str, output: str) -> None:
    """The table to a file."""
    write_text(Path(output), text)
