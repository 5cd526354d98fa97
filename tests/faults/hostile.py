# SPDX-License-Identifier: Apache-2.0
"""Scenes and runs that somebody made to do harm, opened by every command under an audit hook.

`python -m tests.faults.hostile FOLDER [COMMANDS A CASE]` prints one line a case; a finding ends it.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.faults.children import LAST, Command, Stage, ended, in_child
from tests.faults.guard import Guard
from utils.checkpoints import save_checkpoint


class Bomb:
    """Makes a folder where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.marker,)


@dataclass(frozen=True)
class Case:
    """Sabotage of a good scene and run; commands, and words that one of them must say."""

    spoil: Callable[[Stage, Path], None]
    commands: tuple[str, ...]
    says: str


def doors(stage: Stage) -> dict[str, Command]:
    """Every command that opens a scene or a run of somebody else."""
    run, scene = str(stage.run), str(stage.scene)
    few = ("-m", run, "--device", "cpu", "--threads", "1", "--quiet")
    short = ["--iterations=2", "--instance_iterations=2", "--device=cpu", "--threads=1", "--quiet"]
    train = ("-s", scene, "-m", f"{run}/new", *short)
    return {
        "train": Command("train", train),
        "resume": Command("train", ("-s", scene, "-m", run, "--resume", "auto", "--quiet")),
        "start": Command("train", (*train, "--start_checkpoint", f"{run}/chkpnt{LAST}.pth")),
        "render": Command("render", (*few, "--masks")),
        "evaluate": Command("evaluate", (*few, "--report", f"--gt_path={scene}/object_mask")),
        "export": Command("scripts.export", (*few, "-o", f"{run}/out.glb")),
        "html": Command("scripts.export_html", (*few, "-o", f"{run}/out.html")),
        "list": Command("scripts.edit", ("list", *few)),
        "objects": Command("scripts.edit", ("extract-all", *few)),
        "masks": Command("scripts.check_masks", ("-s", scene)),
    }


OPENS = ("render", "list", "evaluate", "export", "html", "objects")


def method_bomb(stage: Stage, outside: Path) -> None:
    path = stage.run / f"point_cloud/iteration_{LAST}/iqgs.pth"
    path.with_name("iqgs.pth.sha256").unlink()
    torch.save({"a": Bomb(outside / "ran")}, path)


def checkpoint_bomb(stage: Stage, outside: Path) -> None:
    for path in stage.run.glob("chkpnt*"):
        path.unlink()
    torch.save({"a": Bomb(outside / "ran")}, stage.run / f"chkpnt{LAST}.pth")


def plain_pickle(stage: Stage, outside: Path) -> None:
    checkpoint_bomb(stage, outside)
    (stage.run / f"chkpnt{LAST}.pth").write_bytes(pickle.dumps(Bomb(outside / "ran")))


def cfg_args(stage: Stage, outside: Path) -> None:
    (stage.run / "config.json").unlink()
    call = f"__import__('os').mkdir({str(outside / 'ran')!r})"
    (stage.run / "cfg_args").write_text(f"Namespace(sh_degree={call}, source_path='')")


def camera_names(stage: Stage, outside: Path) -> None:
    for file in ("cameras.json", "split.json"):
        text = (stage.run / file).read_text()
        (stage.run / file).write_text(text.replace('"00', f'"../../../{outside.name}/00'))


def absolute_names(stage: Stage, outside: Path) -> None:
    for file in ("cameras.json", "split.json"):
        text = (stage.run / file).read_text()
        (stage.run / file).write_text(text.replace('"00', f'"{outside}/00'))


def linked_pictures(stage: Stage, outside: Path) -> None:
    for name in ("test", "train", "objects"):
        (stage.run / name).symlink_to(outside)


def linked_files(stage: Stage, outside: Path) -> None:
    for name in ("results.json", "log.jsonl", "edits.jsonl", "objects.json"):
        (stage.run / name).unlink(missing_ok=True)
        (stage.run / name).symlink_to(outside / "victim.txt")


def edit_files(stage: Stage, outside: Path) -> None:
    head = {"format": 1, "iteration": LAST, "splats": 0}
    edit = {"edit": "clean", "file": f"../../{outside.name}/secret.npz", "sha256": "0" * 64}
    (stage.run / "edits.jsonl").write_text(f"{json.dumps(head)}\n{json.dumps(edit)}\n")


def object_names(stage: Stage, outside: Path) -> None:
    """Names of objects are words, not paths."""
    names = {str(n): f"../../../{outside.name}/escaped{n}" for n in (1, 3, 7, 300)}
    (stage.scene / "labels.json").write_text(json.dumps({"id_to_name": names}))
    path = stage.run / "ids.json"
    ids = json.loads(path.read_text())
    path.write_text(json.dumps({**ids, "names": names}))


def other_method(stage: Stage, outside: Path) -> None:
    """A name of a class to import."""
    state = {"name": "os.system", "params": {}, "facts": {}, "state": {}}
    save_checkpoint(stage.run / f"point_cloud/iteration_{LAST}/iqgs.pth", state)


def image_names(stage: Stage, outside: Path) -> None:
    path = next(stage.scene.rglob("images.bin"))
    path.write_bytes(path.read_bytes().replace(b"000.png\0", b"../../outside/secret.png\0"))


def linked_photograph(stage: Stage, outside: Path) -> None:
    for photo in ("000.png", "001.png"):
        (stage.scene / "images" / photo).unlink()
        (stage.scene / "images" / photo).symlink_to(outside / "secret.png")


def linked_mask(stage: Stage, outside: Path) -> None:
    (stage.scene / "object_mask/000.png").unlink()
    (stage.scene / "object_mask/000.png").symlink_to(outside / "secret.png")


def transforms(stage: Stage, outside: Path) -> None:
    shutil.rmtree(stage.scene / "sparse")
    frames = [
        {"file_path": f"../{outside.name}/secret.png", "transform_matrix": np.eye(4).tolist()},
        {"file_path": f"{outside}/secret.png", "transform_matrix": np.eye(4).tolist()},
    ]
    shape = {"fl_x": 44, "fl_y": 44, "w": 48, "h": 36, "ply_file_path": f"{outside}/secret.ply"}
    (stage.scene / "transforms.json").write_text(json.dumps({**shape, "frames": frames}))


def pickled_masks(stage: Stage, outside: Path) -> None:
    """Arrays of objects, plain and in an archive."""
    shutil.rmtree(stage.scene / "object_mask")
    (stage.scene / "object_mask").mkdir()
    array = np.array([Bomb(outside / "ran")], object)
    for number in range(9):
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=True)
        path = stage.scene / f"object_mask/{number:03d}"
        if number % 2:
            path.with_suffix(".npy").write_bytes(stream.getvalue())
        else:
            with zipfile.ZipFile(path.with_suffix(".npz"), "w") as archive:
                archive.writestr("masks.npy", stream.getvalue())


def points_names(stage: Stage, outside: Path) -> None:
    """A split that names views elsewhere."""
    split = {"train": [f"../{outside.name}/secret.png"], "test": ["000.png"]}
    (stage.scene / "split.json").write_text(json.dumps(split))


CASES = {
    "a method that is a bomb": Case(method_bomb, OPENS, "refused"),
    "a checkpoint that is a bomb": Case(checkpoint_bomb, ("resume", "start"), "refused"),
    "a checkpoint that is a plain pickle": Case(plain_pickle, ("resume", "start"), "refused"),
    "cfg_args with a call": Case(cfg_args, OPENS, "not a literal"),
    "cameras called ../..": Case(camera_names, OPENS, "image name"),
    "cameras with absolute names": Case(absolute_names, OPENS, "image name"),
    "folders of pictures that are links": Case(linked_pictures, (*OPENS, "resume"), "a link out"),
    "files that are links": Case(linked_files, (*OPENS, "resume"), "a link out"),
    "edits that name files elsewhere": Case(edit_files, OPENS, "edit"),
    "objects called ../..": Case(object_names, (*OPENS, "train", "masks"), ""),
    "a method of another name": Case(other_method, OPENS, "does not hold a method"),
    "photographs called ../..": Case(image_names, ("train", "masks", "resume"), "image name"),
    "a photograph that is a link": Case(linked_photograph, ("train", "masks"), "a link out"),
    "a mask that is a link": Case(linked_mask, ("train", "masks"), "link"),
    "transforms.json with paths": Case(transforms, ("train", "masks"), "secret"),
    "masks that are pickles": Case(pickled_masks, ("train", "masks"), "object_mask"),
    "a split that names files elsewhere": Case(points_names, ("train",), ""),
}


def make_outside(folder: Path) -> Path:
    """What nobody may read or change."""
    outside = folder / "outside"
    shutil.rmtree(outside, ignore_errors=True)
    outside.mkdir()
    (outside / "victim.txt").write_text("mine\n")
    for name in ("secret.ply", "secret.npz"):
        (outside / name).write_bytes(b"secret")
    good = folder / "good scene/images/005.png"
    shutil.copy(good, outside / "secret.png")
    return outside


def rehearse(folder: Path, most: int) -> None:
    """All cases, each with at most so many of its commands."""
    stage = Stage(folder)
    stage.prepare()
    good = stage.folder / "good scene"
    shutil.copytree(stage.scene, good)
    scratch = stage.folder / "scratch"
    scratch.mkdir()
    os.environ["TMPDIR"] = str(scratch)
    for name, case in CASES.items():
        outside = make_outside(stage.folder)
        kept = {path: path.read_bytes() for path in outside.iterdir()}
        said = ""
        for door in case.commands[:most]:
            stage.place(stage.whole)
            shutil.rmtree(stage.scene)
            shutil.copytree(good, stage.scene)
            case.spoil(stage, outside)
            notes = stage.folder / "notes.txt"
            guard = Guard((stage.run, scratch, stage.log), outside, notes)
            command = doors(stage)[door]
            child = in_child(command.call, stage.log, lambda guard=guard: sys.addaudithook(guard))
            os.close(guard.notes)
            done = ended(child, stage.log)
            where = f"{name}, {door}: "
            assert not notes.read_text(), where + notes.read_text()
            assert done.code in (0, 1, 2) and "Traceback" not in done.said, where + done.said
            assert {p: p.read_bytes() for p in outside.iterdir()} == kept, where + "outside changed"
            said += done.said
        assert case.says in said, f"{name}: {said}"
        print(f"{name}: {', '.join(case.commands[:most])}", flush=True)


if __name__ == "__main__":
    import iqgs.engine.training  # noqa: F401  (once, for all children)

    rehearse(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 99)
