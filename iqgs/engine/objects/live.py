# SPDX-License-Identifier: Apache-2.0
"""A run in a window of the browser."""

from __future__ import annotations

import logging
import threading
from typing import Any

from arguments.viewing import ViewParams
from iqgs.engine.objects.naming import record_names
from iqgs.engine.objects.opened import run_objects
from iqgs.engine.objects.page import shown_levels
from iqgs.engine.run import Run
from iqgs.engine.run_folder import objects_folder
from iqgs.objects.granularity import Granularity
from iqgs.objects.labelled import LabelledSplats
from iqgs.viewer.live import LOOPBACK, LiveView, Outside, start_server
from utils.errors import UserError

logger = logging.getLogger(__name__)


def open_view(run: Run, server: Any, params: ViewParams) -> LiveView:
    """The run's objects in the window of a started server."""
    objects = run_objects(run)
    levels = shown_levels(run, objects, params)
    outside = Outside(
        export=lambda seen, number: export_object(
            run, seen.of(number), number, level_of(objects, levels, number)
        ),
        keep_name=lambda number, name: keep_name(run, levels, number, name),
    )
    view = LiveView(server, objects, run.renderer, outside, levels, params.wanted_level or 0)
    view.look_from([*run.cameras.train, *run.cameras.test])
    return view


def keep_name(run: Run, levels: Granularity | None, number: int, name: str) -> None:
    """Call an object something from now on. UserError for parts and groups that a level found."""
    if levels is not None and number in levels.names:
        raise UserError(
            "parts and groups of a level keep no name; edit.py parts makes parts that do"
        )
    record_names(run, {number: name})


def level_of(objects: LabelledSplats, levels: Granularity | None, number: int) -> int | None:
    """The level that found a part or group; None for an object of the run."""
    if levels is None or number in objects.numbers():
        return None
    nearest = sorted(levels.labels, key=abs)
    return next((n for n in nearest if bool((levels.labels[n] == number).any())), None)


def export_object(run: Run, part: LabelledSplats, number: int, level: int | None = None) -> str:
    """Write one object, for viewers, where `extract` does; returns where and how many."""
    path = objects_folder(run.folder, level) / f"{number}.ply"
    path.parent.mkdir(parents=True, exist_ok=True)
    part.splats.save_ply(path, viewer=True, instance=part.labels, frame=part.frame)
    return f"{path} ({len(part)} splats)"


def serve(run: Run, params: ViewParams) -> None:
    """Show the run until the process is interrupted."""
    server = start_server(params.port)
    try:
        open_view(run, server, params)
        logger.info("open http://%s:%d in a browser; Ctrl-C ends it", LOOPBACK, server.get_port())
        threading.Event().wait()
    except KeyboardInterrupt:
        logger.info("closed")
    finally:
        server.stop()
