# SPDX-License-Identifier: Apache-2.0
"""A run as one HTML file."""

from __future__ import annotations

from pathlib import Path

from arguments.options import require
from arguments.viewing import PageParams, ViewParams
from iqgs.engine.objects.leveling import run_granularity
from iqgs.engine.objects.opened import run_objects
from iqgs.engine.run import Run
from iqgs.objects.granularity import Granularity
from iqgs.objects.labelled import LabelledSplats
from iqgs.viewer.page_file import PageFacts, page_text
from utils.errors import UserError
from utils.storage import write_text

NAME = "index.html"  # in RUN/objects


def shown_levels(
    run: Run, objects: LabelledSplats, params: PageParams | ViewParams
) -> Granularity | None:
    """What a slider goes through; None for a run without objects and with --no-levels. UserError
    where the level to begin with is not there.
    """
    if not params.levels or not objects.numbers():
        require(not params.level, "level", params.level, "left out without levels to choose from")
        return None
    found = run_granularity(run, objects, params)
    level = params.wanted_level or 0
    known = ", ".join(map(str, sorted(found.labels)))
    require(level in found.labels, "level", params.level, f"one of {known}")
    return found


def write_page(run: Run, params: PageParams) -> str:
    """Write the page; returns a line that says where, how many splats and how large."""
    path = Path(params.output or run.folder / "objects" / NAME)
    if path.is_dir():
        raise UserError(f"-o {path} is a folder; name the file to write")
    objects = run_objects(run)
    white = 1.0 if run.config.model.white_background else 0.0
    facts = PageFacts(
        title=params.title or run.folder.resolve().name,
        cameras=(*run.cameras.train, *run.cameras.test),
        background=(white, white, white),
        levels=shown_levels(run, objects, params),
        level=params.wanted_level or 0,
    )
    text = page_text(objects, facts)
    write_text(path, text)
    size = len(text.encode()) / 1e6
    return f"{path} ({len(objects)} splats, {len(objects.numbers())} objects, {size:.1f} MB)"
