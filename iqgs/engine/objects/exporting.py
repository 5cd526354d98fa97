# SPDX-License-Identifier: Apache-2.0
"""Splats of a run or of a file, or of some of their objects, as files for other programs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from arguments.exporting import PACKED, ExportParams
from iqgs.engine.objects.choosing import parts_of_whole
from iqgs.engine.objects.leveling import at_wanted_level
from iqgs.engine.objects.meshing import named_meshes, scene_mesh
from iqgs.engine.objects.opened import run_objects
from iqgs.engine.opening import open_for
from iqgs.engine.run import Run
from iqgs.export.converter import convert
from iqgs.export.glb import write_glb
from iqgs.export.mesh.files import NamedMesh, write_mesh
from iqgs.export.ply import write_ply
from iqgs.export.record import SplatArrays, from_file, from_objects
from iqgs.export.usd import write_usd
from iqgs.objects.labelled import LabelledSplats
from utils.errors import UserError

logger = logging.getLogger(__name__)

FOLDER = "exports"  # of a run
NAMED = 4  # objects that a file is named after; of more it says how many
KEEPS_OBJECTS = (".csv",)  # of the packed formats


def export(params: ExportParams) -> str:
    """Write what the options ask for; returns a line that says where and how much. UserError."""
    source = Path(params.model_path)
    run = None if source.is_file() else open_for(source, params)
    if params.mesh:
        return export_mesh(run, params)
    wanted = params.id
    if run is None:
        splats = from_file(source)
    else:
        objects = at_wanted_level(run, run_objects(run), params)
        splats, wanted = from_objects(objects), with_parts_of(objects, wanted)
    chosen = chosen_numbers(splats, wanted)
    if chosen:
        splats = splats.only(chosen)
    path = output_path(params, source, [splats.name_of(number) for number in chosen])
    write_splat_file(path, splats, params.as_3dgs)
    count = len(set(splats.labels.tolist()) - {0})
    return f"{path} ({len(splats)} splats, {count} objects)"


def with_parts_of(objects: LabelledSplats, wanted: Sequence[str]) -> tuple[str, ...]:
    """The same objects by number or name, with its parts instead of one that consists of such."""
    found = [list(map(str, parts_of_whole(objects, word))) or [word] for word in wanted]
    return tuple(dict.fromkeys(number for parts in found for number in parts))


def export_mesh(run: Run | None, params: ExportParams) -> str:
    """Write surfaces of a run: of the objects that are chosen, else everything as one mesh."""
    if run is None:
        raise UserError(f"--mesh: {params.model_path} is a file; depth needs the cameras of a run")
    objects = at_wanted_level(run, run_objects(run), params)
    chosen = chosen_numbers(from_objects(objects), with_parts_of(objects, params.id))
    if chosen and params.stereo == "auto":  # nobody waits minutes for a chair unasked
        logger.info("depth as the splats have it; --stereo on takes longer and is a little nearer")
        params = replace(params, stereo="off")
    scene = scene_mesh(objects, run.cameras.train, run.renderer, params)
    parts = [NamedMesh(0, "scene", scene.whole())]
    if chosen:
        parts = named_meshes(scene, objects, chosen)
    if not parts:
        raise UserError(f"--id {' '.join(params.id)}: no training view shows a surface of it")
    names = [part.name for part in parts if part.number]
    path = output_path(params, run.folder, [*names, "mesh"] if names else ["mesh"])
    write_mesh(path, parts, run.frame)
    return f"{path} ({sum(len(part.mesh) for part in parts)} triangles)"


def write_splat_file(path: Path, splats: SplatArrays, as_3dgs: bool) -> None:
    """Write splats in the format of the suffix of `path`."""
    name = path.name.lower()
    if name.endswith(tuple(f".{word}" for word in PACKED)):
        if not name.endswith(KEEPS_OBJECTS) and len(set(splats.labels.tolist())) > 1:
            logger.warning("%s: this format has no place for the objects of splats", path)
        convert(path, splats)
    elif name.endswith(".ply"):
        write_ply(path, splats, as_3dgs)
    elif name.endswith(".glb"):
        write_glb(path, splats)
    else:
        write_usd(path, splats, as_3dgs)


def chosen_numbers(splats: SplatArrays, wanted: Sequence[str]) -> list[int]:
    """The numbers of objects from numbers and names. UserError where one has no splats."""
    present = sorted(set(splats.labels.tolist()) - {0})
    return [_number(splats, present, word) for word in wanted]


def _number(splats: SplatArrays, present: Sequence[int], word: str) -> int:
    if word.isdigit():
        found = [number for number in present if number == int(word)]
    else:
        found = [number for number in present if splats.names.get(number) == word]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"--id {word}: objects {found} have this name; give a number")
    known = ", ".join(f"{number} {splats.names.get(number, '')}".strip() for number in present)
    raise UserError(f"--id {word}: no splat belongs to it; there are: {known or 'no objects'}")


def output_path(params: ExportParams, source: Path, names: Sequence[str]) -> Path:
    """The file to write: the user's, or one in the run named after its objects."""
    if params.output:
        path = Path(params.output)
        fits = path.name.lower().endswith(f".{params.file_format}")
        return path if fits else path.with_name(f"{path.name}.{params.file_format}")
    shown = names if len(names) <= NAMED else [f"{len(names)} objects"]
    words = "_".join(name.replace(" ", "-").replace("/", "-") for name in shown) or "scene"
    if params.level:  # other objects than those of the same name without it
        words += f"_level{params.wanted_level}"
    folder = source.parent if source.is_file() else source / FOLDER
    return folder / f"{words}.{params.file_format}"
