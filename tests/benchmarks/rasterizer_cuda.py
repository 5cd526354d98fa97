# SPDX-License-Identifier: Apache-2.0
"""The CUDA backend beside gsplat's CUDA 2DGS, 1 M splats at 1600x1060, on the same GPU in one run.

Times lie between CUDA events. Ratios and goals are against gsplat's kernels alone, the cheapest way
to call it; `rasterization_2dgs`, as people call it, stands beside. Both sides carry the screen
gradient of densification, and send gradients into channels, depth, alpha, normal and distortion.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from diff_surfel_rasterization import RasterSettings, Surfels, blend_weights
from tests.benchmarks import gsplat_cuda
from tests.benchmarks.options import Options
from tests.benchmarks.rasterizer import check_same_picture
from tests.benchmarks.renderers import (
    COLOR_ONLY,
    MAPS,
    OURS,
    candidate,
    with_densification_signal,
    without_features,
)
from tests.benchmarks.scenes import LARGE, QUICK, SceneSize, make_scene, make_settings
from tests.benchmarks.tables import Goal, Table, timing_table
from tests.benchmarks.timing import Candidate, Meter, Row, time_candidates

MOST_MILLISECONDS = 2.5  # forward and backward together, on an H200
FORWARD_GOAL, BACKWARD_GOAL = 1.5, 2.0  # times faster than gsplat's kernels, 3 + 16 channels
KERNELS = "gsplat kernels"


def candidates(
    surfels: Surfels,
    settings: RasterSettings,
    meter: Meter,
    repeats: int,
    gsplat: ModuleType | None,
) -> list[Candidate]:
    """Ours and gsplat's, all channels and colour only."""
    found = []
    bare = without_features(surfels)
    for splats, name, suffix in ((surfels, OURS, ""), (bare, COLOR_ONLY, ", colour only")):
        carrying = with_densification_signal(splats)
        found.append(candidate(name, carrying, settings, meter.backend, repeats=repeats))
        if gsplat is not None:
            theirs = gsplat_cuda.candidates(gsplat, splats, settings, suffix, repeats)
            check_pictures(found[-1], theirs)
            found += theirs
    return found


def check_pictures(ours: Candidate, theirs: Sequence[Candidate]) -> None:
    """Refuse to compare times of different pictures."""
    alpha = ours.render()[2].detach()
    for other in theirs:
        check_same_picture(other.render()[1], alpha, other.name)


def goals(rows: Sequence[Row], gpu: str) -> list[Goal]:
    """What the large scene has to reach; the milliseconds are those of an H200."""
    by_name = {row.name: row for row in rows}
    ours, found = by_name[OURS], []
    if KERNELS in by_name:
        theirs = by_name[KERNELS]
        forward = theirs.forward_ms / ours.forward_ms
        backward = theirs.backward_ms / ours.backward_ms
        found.append(Goal("forward, times faster than gsplat's kernels", forward, FORWARD_GOAL))
        found.append(Goal("backward, times faster than gsplat's kernels", backward, BACKWARD_GOAL))
    both = ours.forward_ms + ours.backward_ms
    what = f"forward + backward, ms ({'this is' if 'H200' in gpu else 'not'} an H200)"
    return [*found, Goal(what, both, MOST_MILLISECONDS, at_least=False)]


def measure(
    size: SceneSize,
    options: Options,
    meter: Meter,
    gsplat: ModuleType | None,
    reason: str,
    gpu: str,
) -> Table:
    """The table; `reason` says why there is no gsplat in it."""
    surfels, settings = make_scene(size, device=meter.device), make_settings(size)
    entries = len(blend_weights(surfels, settings, backend=meter.backend).splat)
    repeats = options.repeats if options.quick else max(options.repeats, 30)
    rows = time_candidates(candidates(surfels, settings, meter, repeats, gsplat), meter)
    contributions = entries / (size.width * size.height)
    notes = [
        f"3 + 16 channels or 3, and {MAPS}; ratios over time between events; the processor's "
        "time is what the host needs to launch all that",
        "gsplat's depth is that of the splat's centre; its kernels always make distortion and "
        "median depth",
    ]
    notes += [reason] if reason else []
    title = f"{size.name} splats on {gpu}, {contributions:.1f} contributions a pixel"
    return timing_table(title, rows, notes, goals(rows, gpu) if size is LARGE else ())


def run(options: Options) -> list[Table]:
    """Nothing without a GPU."""
    meter = options.meter("cuda")
    if meter is None:
        return []
    gsplat, reason = gsplat_cuda.load()
    return [measure(QUICK if options.quick else LARGE, options, meter, gsplat, reason, meter.name)]
