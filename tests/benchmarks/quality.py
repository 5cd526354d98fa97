# SPDX-License-Identifier: Apache-2.0
"""What instances are worth after how many seconds: a curve over steps and pixels a step.

    python -m tests.benchmarks.quality --scene output/demo/scene \
        --start_ply output/demo/iqgs/point_cloud/iteration_1600/point_cloud.ply

Every point is a run of train.py on the same splats, then evaluate.py against --gt_path. Seconds are
those of the whole command, start-up and saving too. Writes quality.json and quality.png into
--output. One core: figures of two points may be divided by each other, whatever else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.checkouts import Checkout
from tests.benchmarks.records import RESULTS, Neighbours, git_revision, machine_name

SCORES = ("mIoU_pred", "mIoU_gt", "PQ_scene", "mIoU_3d")
STEPS = (25, 50, 100, 200, 400, 700, 1500)  # at the method's own number of pixels
PIXELS = (256, 512, 1024, 4096)  # at STEADY_STEPS
STEADY_STEPS, USUAL_PIXELS = 700, 2048
CLOSE = 85.0  # percent: what is better is drawn larger


@dataclass(frozen=True)
class Setting:
    """What one point is trained with."""

    method: str
    steps: int = 0
    pixels: int = 0

    @property
    def flags(self) -> list[str]:
        """The words for train.py."""
        if self.method == "vote":
            return ["--method", "vote"]
        return [
            *("--method", self.method),
            *("--instance_iterations", str(self.steps)),
            *("--pixels_per_step", str(self.pixels)),
        ]


@dataclass(frozen=True)
class Point:
    """One setting, what it cost, and what it gave."""

    setting: Setting
    cpu_s: float
    wall_s: float
    scores: dict[str, float]


def settings(quick: bool) -> list[Setting]:
    """The points of the curve."""
    if quick:
        return [Setting("vote"), Setting("iqgs", 5, 256)]
    by_steps = [Setting("iqgs", steps, USUAL_PIXELS) for steps in STEPS]
    by_pixels = [Setting("iqgs", STEADY_STEPS, pixels) for pixels in PIXELS]
    return [Setting("vote"), *by_steps, *by_pixels]


def measured(
    setting: Setting, scene: Path, splats: Path, truth: str, repeats: int, folder: Path
) -> Point:
    """Train and score one point; the least of `repeats` times. Raises CommandFailed."""
    here, run = Checkout.this(), folder / "run"
    words = ["train.py", "-s", str(scene), "-m", str(run), "--start_ply", str(splats), "--eval"]
    words += ["--overwrite", "--quiet", "--threads", "1", "--test_iterations", "-1"]
    spent = [here.run([*words, *setting.flags]) for _ in range(repeats)]
    judge = ["evaluate.py", "-m", str(run), "--gt_path", truth, "--no-vote", "--quiet"]
    here.run([*judge, "--output", str(folder / "table.txt")])
    found = json.loads((run / "results.json").read_text(encoding="utf-8"))
    (by_split,) = found.values()
    (values,) = by_split.values()
    scores = {name: float(values[name]) for name in SCORES if name in values}
    return Point(
        setting,
        min(s.cpu_ms for s in spent) / 1e3,
        min(s.wall_ms for s in spent) / 1e3,
        scores,
    )


def draw(points: Sequence[Point], path: Path) -> None:
    """mIoU_gt against processor seconds: all points, and beside them the better ones larger."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (whole, close) = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for axes in (whole, close):
        least = 0.0 if axes is whole else CLOSE
        shown = [p for p in points if 100 * p.scores["mIoU_gt"] >= least]
        learned = [p for p in shown if p.setting.method != "vote"]
        by_steps = [p for p in learned if p.setting.pixels == USUAL_PIXELS]
        by_pixels = [p for p in learned if p.setting.steps == STEADY_STEPS]
        by_pixels.sort(key=lambda p: p.setting.pixels)
        _draw_line(axes, by_steps, f"iqgs, {USUAL_PIXELS} pixels, by steps", "steps", 5)
        if axes is close:
            _draw_line(axes, by_pixels, f"iqgs, {STEADY_STEPS} steps, by pixels", "pixels", -12)
        for p in shown:
            if p.setting.method == "vote":
                axes.plot(p.cpu_s, 100 * p.scores["mIoU_gt"], "ks", label="vote")
        axes.set_xlabel("processor seconds of train.py --start_ply, one thread")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    whole.set_ylabel("mIoU_gt of the held-out views (%)")
    figure.savefig(path, dpi=110)


def _draw_line(axes: Any, line: Sequence[Point], label: str, name: str, above: int) -> None:
    x, y = [p.cpu_s for p in line], [100 * p.scores["mIoU_gt"] for p in line]
    axes.plot(x, y, marker="o", label=label)
    for p, px, py in zip(line, x, y, strict=True):
        text = str(getattr(p.setting, name))
        axes.annotate(text, (px, py), textcoords="offset points", xytext=(3, above), fontsize=8)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scene", type=Path, required=True, help="a scene with held-out views")
    parser.add_argument("--start_ply", type=Path, required=True, help="splats of that scene")
    parser.add_argument("--gt_path", default="object_mask", help="true masks, in the scene")
    parser.add_argument("--repeats", type=int, default=2, help="of each training")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder to write into")
    parser.add_argument("--quick", action="store_true", help="two points: does it run")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the curve."""
    chosen = parse(arguments)
    scene, splats = chosen.scene.resolve(), chosen.start_ply.resolve()
    neighbours, points = Neighbours(), []
    with tempfile.TemporaryDirectory() as folder:
        for setting in settings(chosen.quick):
            point = measured(setting, scene, splats, chosen.gt_path, chosen.repeats, Path(folder))
            points.append(point)
            shown = "  ".join(f"{n} {100 * v:5.1f}" for n, v in point.scores.items())
            print(
                f"{setting.method:5} {setting.steps:5d} steps {setting.pixels:5d} pixels "
                f"{point.cpu_s:6.1f} s  {shown}",
                flush=True,
            )
    record = {
        "hardware": machine_name(),
        "revision": git_revision(),
        "load_average_after": os.getloadavg()[0],
        "processors_used_by_others": neighbours.processors(),
        "scene": scene.name,
        "points": [asdict(point) for point in points],
    }
    chosen.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    (chosen.output / "quality.json").write_text(text, encoding="utf-8")
    draw(points, chosen.output / "quality.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
