#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Cut one object out of a run: `extract_object.py -m RUN --id N` writes its splats as a PLY.

The file is made for viewers of 3D Gaussians: their columns, turned so that up is -y.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from arguments import OneLineParser
from iqgs.engine.checkpoint import load_run, scene_frame
from iqgs.engine.splat_labels import original_splat_labels
from utils.errors import UserError
from utils.logs import run_door


def main() -> int:
    parser = OneLineParser(prog="extract_object.py", description=__doc__)
    parser.add_argument("-m", "--model_path", required=True, help="run folder")
    parser.add_argument("--id", type=int, required=True, help="number of the object in the masks")
    parser.add_argument("--iteration", type=int, default=-1, help="-1: the newest")
    parser.add_argument("-o", "--output", default="", help="default: RUN/objects/ID.ply")
    typed = parser.parse_args()
    run = load_run(typed.model_path, typed.iteration)
    if run.method is None:
        raise UserError(f"{typed.model_path} was trained without masks: it has no objects")
    labels = original_splat_labels(run)
    chosen = labels == typed.id
    if not typed.id or not chosen.any():
        present = sorted(set(labels.tolist()) - {0})
        raise UserError(f"--id {typed.id}: no splat belongs to it; the run has {present}")
    path = Path(typed.output or Path(typed.model_path) / "objects" / f"{typed.id}.ply")
    path.parent.mkdir(parents=True, exist_ok=True)
    run.gaussians.subset(chosen).save_ply(
        path, viewer=True, instance=labels[chosen], frame=scene_frame(run.scene)
    )
    print(f"{path} ({int(chosen.sum())} splats)")
    return 0


if __name__ == "__main__":
    sys.exit(run_door(main))
