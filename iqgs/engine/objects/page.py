# SPDX-License-Identifier: Apache-2.0
"""A run as one HTML file."""

from __future__ import annotations

from pathlib import Path

import torch

from arguments.viewing import PageParams
from iqgs.engine.objects.opened import edited_objects
from iqgs.engine.run import Run
from iqgs.objects.labelled import LabelledSplats
from iqgs.viewer.page_file import PageFacts, page_text
from utils.errors import UserError
from utils.storage import write_text

NAME = "index.html"  # in RUN/objects


def shown_objects(run: Run) -> LabelledSplats:
    """The objects of a run after its edits; of a run without masks its splats, which belong to
    none."""
    if run.method is not None or run.saved_labels is not None:
        return edited_objects(run)
    n = len(run.gaussians)
    return LabelledSplats(
        run.gaussians, torch.zeros(n, dtype=torch.int64), torch.zeros(n), run.frame
    )


def write_page(run: Run, params: PageParams) -> str:
    """Write the page; returns a line that says where, how many splats and how large."""
    path = Path(params.output or run.folder / "objects" / NAME)
    if path.is_dir():
        raise UserError(f"-o {path} is a folder; name the file to write")
    objects = shown_objects(run)
    white = 1.0 if run.config.model.white_background else 0.0
    facts = PageFacts(
        title=params.title or run.folder.resolve().name,
        cameras=(*run.cameras.train, *run.cameras.test),
        background=(white, white, white),
    )
    text = page_text(objects, facts)
    write_text(path, text)
    size = len(text.encode()) / 1e6
    return f"{path} ({len(objects)} splats, {len(objects.numbers())} objects, {size:.1f} MB)"
