# SPDX-License-Identifier: Apache-2.0
"""The files of a run, and who may write them.

config.json cfg_args frame.json cameras.json input.ply ids.json log.jsonl events.out.tfevents*
chkpntN.pth  nan_dump.pth  point_cloud/iteration_N/{point_cloud.ply, point_cloud_viewer.ply,
iqgs.pth}
exposure.json, in the run's folder and in the iteration's
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from arguments import RunConfig, config_to_json
from iqgs.engine.association.masks_folder import AssociatedMasks
from iqgs.engine.ranks import ALONE, Ranks
from scene.cameras import Camera
from scene.dataset import Scene
from scene.exposure import EXPOSURE_FILE
from scene.frame import FRAME_FILE
from scene.masks import IdTable
from scene.readers.colmap.model import check_image_name
from utils.cfg_args import format_cfg_args
from utils.errors import DataError, FormatError, UserError
from utils.json_files import read_json, read_json_list
from utils.links import refuse_links_out
from utils.run_lock import RunLock
from utils.shortage import DISK_FAILS
from utils.storage import sweep_stale, write_error, write_text

SPLIT_FILE, CAMERAS_FILE, IDS_FILE = "split.json", "cameras.json", "ids.json"
EDITS_FILE, UNDONE_FILE = "edits.jsonl", "edits_undone.jsonl"
EDITS_FOLDER, OBJECTS_FOLDER = "edits", "objects"
DUMP_FILE = "nan_dump.pth"  # the state before a step that was not finite
SAME_POSE = 1e-6  # of matrices that were written as decimal numbers
ITERATION_FOLDER = re.compile(r"iteration_(\d+)")
CHECKPOINT_FILE = re.compile(r"chkpnt(\d+)\.pth")


def objects_folder(run_folder: Path, level: int | None = None) -> Path:
    """Where files of objects go that nobody names: RUN/objects; at a level, which has other objects
    under the same numbers, RUN/objects/level1.
    """
    folder = run_folder / OBJECTS_FOLDER
    return folder if level is None else folder / f"level{level}"


@contextmanager
def claimed_folder(config: RunConfig, ranks: Ranks = ALONE) -> Iterator[tuple[Path, RunConfig]]:
    """The run folder, which no other run may write meanwhile, and settings of absolute paths.

    The first of several processes holds it for all. UserError where the scene or the folder cannot
    be used; nothing of an older run is touched.
    """
    source, options = config.model.source_path, config.train
    going_on = bool(options.resume or options.start_checkpoint)
    if not source:
        raise UserError("-s/--source_path is missing: name the scene folder")
    if not Path(source).is_dir():
        where = "; where is the scene now?" if going_on else ""
        raise UserError(f"-s {source}: no such folder{where}")
    folder, config = choose_folder(config.model.model_path), with_absolute_paths(config)
    with ExitStack() as held:
        with ranks.together():
            if ranks.first:
                open_folder(folder, may_exist=going_on or options.overwrite)
                held.enter_context(RunLock(folder))
        yield Path(ranks.from_first(str(folder))), config


def choose_folder(model_path: str) -> Path:
    """The run folder: as given, or output/<10 random characters> as the family does."""
    return Path(model_path) if model_path else Path("output") / uuid.uuid4().hex[:10]


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The same settings with paths that hold from any working folder."""

    def absolute(path: str) -> str:
        return str(Path(path).resolve()) if path else ""

    source = str(Path(config.model.source_path).resolve())
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, source_path=source),
        segmentation=dataclasses.replace(
            config.segmentation, cache_path=absolute(config.segmentation.cache_path)
        ),
        train=dataclasses.replace(config.train, start_ply=absolute(config.train.start_ply)),
    )


def open_folder(folder: Path, *, may_exist: bool) -> None:
    """Make the folder and sweep temporaries; refuse one that already holds a run."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; pass another folder with -m")
    if (folder / "config.json").exists() and not may_exist:
        raise UserError(
            f"{folder} already holds a run; pass --resume auto to go on, --overwrite "
            "to start anew, or another -m"
        )
    probe = folder / ".write_probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        if error.errno in DISK_FAILS:
            raise write_error(probe, error, 0) from None
        raise UserError(f"cannot write in {folder}: {error.strerror}; pass another -m") from None
    refuse_links_out(folder)
    sweep_stale(folder)


def remove_results(folder: Path) -> None:
    """Remove what an older run would leave beside the new one's files."""
    files = ("log.jsonl", "results.json", "per_view.json", EXPOSURE_FILE, EDITS_FILE, UNDONE_FILE)
    for name in files:
        (folder / name).unlink(missing_ok=True)
    stale = [
        *folder.glob("chkpnt*.pth*"),
        *folder.glob(f"{DUMP_FILE}*"),
        *folder.glob("events.out.tfevents*"),
        *folder.glob("point_cloud/iteration_*/*"),
    ]
    for path in stale:
        if path.is_file():
            path.unlink()
    for path in folder.glob("point_cloud/iteration_*"):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    for name in (AssociatedMasks.IN_RUN, EDITS_FOLDER):
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in folder.glob("*/ours_*"):  # pictures of the older run
        if path.parent.name in ("train", "test", "traj"):
            shutil.rmtree(path)


def write_beginning(folder: Path, config: RunConfig, scene: Scene, *, anew: bool) -> None:
    """The files of a run before its first step. `anew` removes what an older run left; else the
    scene must be the one that the run began with (UserError).
    """
    if anew:
        remove_results(folder)
    else:
        check_same_cameras(folder, RunCameras.of_scene(scene))
    write_config(folder, config)
    write_scene_files(folder, scene)


def write_config(folder: Path, config: RunConfig) -> None:
    """config.json (ours, authoritative) and cfg_args (for other people's tools)."""
    versions = {"torch": torch.__version__}
    text = json.dumps({"format": 1, **config_to_json(config), "versions": versions}, indent=2)
    write_text(folder / "config.json", text + "\n")
    model = dataclasses.asdict(config.model)
    model["model_path"] = str(folder)
    write_text(folder / "cfg_args", format_cfg_args(model))


def write_scene_files(folder: Path, scene: Scene) -> None:
    """frame.json, cameras.json (test cameras first), split.json, input.ply, ids.json.

    Cameras and points are in the run's coordinates, which frame.json relates to the scene's files.
    """
    split = {name: [view.name for view in getattr(scene, name)] for name in ("train", "test")}
    write_text(folder / SPLIT_FILE, json.dumps(split, indent=1) + "\n")
    cameras = [camera_entry(i, view.camera) for i, view in enumerate([*scene.test, *scene.train])]
    write_text(folder / CAMERAS_FILE, json.dumps(cameras))
    scene.frame.write(folder / FRAME_FILE)
    scene.points.save(folder / "input.ply")
    if scene.id_table is not None:
        scene.id_table.save(folder / IDS_FILE)


def camera_entry(index: int, camera: Camera) -> dict[str, Any]:
    """One line of cameras.json as viewers of the family read it (rotation is camera to world).

    `world_to_view` is the same pose to the last bit, for this program.
    """
    return {
        "id": index,
        "img_name": camera.name,
        "width": camera.width,
        "height": camera.height,
        "position": camera.center.tolist(),
        "rotation": camera.world_to_view[:3, :3].T.tolist(),
        "fy": camera.fy,
        "fx": camera.fx,
        "cx": camera.cx,
        "cy": camera.cy,
        "world_to_view": camera.world_to_view.tolist(),
    }


@dataclass(frozen=True)
class RunCameras:
    """The cameras of a run at its render size, each split in the order of its views."""

    train: tuple[Camera, ...]
    test: tuple[Camera, ...]

    @classmethod
    def of_scene(cls, scene: Scene) -> RunCameras:
        """The cameras of a scene's views."""
        return cls(*(tuple(v.camera for v in views) for views in (scene.train, scene.test)))


def check_same_cameras(folder: Path, now: RunCameras) -> None:
    """Refuse to go on with another scene than the run's, wherever it may lie. UserError."""
    before = read_cameras(folder)
    if before is None:
        return
    for split in ("train", "test"):
        old, new = ({c.name: c for c in getattr(cameras, split)} for cameras in (before, now))
        strangers = sorted(set(old) ^ set(new))
        if strangers:
            raise UserError(
                f"the run cannot go on: its {split} views and those of -s differ in "
                f"{len(strangers)}, the first is {strangers[0]!r}; is this the same scene?"
            )
        for name, camera in old.items():
            other = new[name]
            moved = float((camera.world_to_view - other.world_to_view).abs().max())
            if (camera.width, camera.height) != (other.width, other.height) or moved > SAME_POSE:
                raise UserError(
                    f"the run cannot go on: view {name!r} has another size or pose in -s than "
                    "when the run began; is this the same scene?"
                )


def read_cameras(folder: Path) -> RunCameras | None:
    """The cameras of a run folder; None where it has no such files."""
    path = folder / CAMERAS_FILE
    if not path.is_file() or not (folder / SPLIT_FILE).is_file():
        return None
    entries = read_json_list(path)
    try:
        cameras = {str(entry["img_name"]): _camera_of(entry) for entry in entries}
        numbered = {name: replace(cameras[name], uid=i) for i, name in enumerate(sorted(cameras))}
        split = read_json(folder / SPLIT_FILE)
        train, test = (tuple(numbered[n] for n in split[key]) for key in ("train", "test"))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: not the cameras of this run ({error!r})") from None
    return RunCameras(train, test)


def _camera_of(entry: dict[str, Any]) -> Camera:
    """The camera of one line; runs of older versions have position and rotation only."""
    if "world_to_view" in entry:
        pose = torch.tensor(entry["world_to_view"], dtype=torch.float64)
    else:
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = torch.tensor(entry["rotation"], dtype=torch.float64).T
        pose[:3, 3] = -pose[:3, :3] @ torch.tensor(entry["position"], dtype=torch.float64)
    fx, fy, cx, cy = (float(entry[key]) for key in ("fx", "fy", "cx", "cy"))
    width, height = (int(entry[key]) for key in ("width", "height"))
    name = check_image_name(str(entry["img_name"]), CAMERAS_FILE)  # pictures are called after it
    return Camera(pose, fx, fy, cx, cy, width, height, name, uid=0)


def read_ids(folder: Path) -> IdTable | None:
    """The numbering of a run's ids; None for a run without masks."""
    path = folder / IDS_FILE
    return IdTable.load(path) if path.is_file() else None


def trained_names(folder: Path) -> list[str]:
    """Names of the views that the run was trained on; none for a run of another program."""
    if not (folder / SPLIT_FILE).is_file():
        return []
    return [str(name) for name in read_json(folder / SPLIT_FILE).get("train", [])]


def iterations_of(folder: Path) -> list[int]:
    """Complete saved iterations of a run, ascending; stray entries are ignored."""
    found = []
    for entry in (folder / "point_cloud").glob("iteration_*"):
        match = ITERATION_FOLDER.fullmatch(entry.name)
        if match and (entry / "point_cloud.ply").is_file():
            found.append(int(match[1]))
    return sorted(found)


def pick_iteration(folder: Path, wanted: int) -> int:
    """The wanted iteration, or for -1 the highest complete one; DataError where there is none."""
    found = iterations_of(folder)
    if not found:
        raise DataError(f"{folder}/point_cloud has no complete iteration_N; train the run first")
    if wanted == -1:
        return found[-1]
    if wanted not in found:
        raise DataError(f"{folder} has no iteration {wanted}; --iteration may be one of {found}")
    return wanted


def iteration_folder(folder: Path, iteration: int) -> Path:
    """Where the splats of one iteration lie."""
    return folder / "point_cloud" / f"iteration_{iteration}"


def checkpoint_files(folder: Path) -> list[Path]:
    """All chkpntN.pth of the run."""
    return [path for path in folder.glob("chkpnt*.pth") if CHECKPOINT_FILE.fullmatch(path.name)]
