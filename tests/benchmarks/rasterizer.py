# SPDX-License-Identifier: Apache-2.0
"""The CPU backend beside two torch implementations of the same mathematics, in the gate's scene.

gsplat's torch mathematics gets its pairs of pixel and splat for nothing; the tile loop is our own
reference, which recomputes in backward. Ratios are over processor time at one thread each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diff_surfel_rasterization import BlendWeights, RasterSettings, Surfels, blend_weights
from tests.benchmarks import ceiling, gsplat_torch
from tests.benchmarks.options import Options
from tests.benchmarks.renderers import COLOR_ONLY, MAPS, OURS, candidate, without_features
from tests.benchmarks.scenes import (
    QUICK,
    STANDARD,
    SceneSize,
    make_ellipsoids,
    make_scene,
    make_settings,
)
from tests.benchmarks.tables import Goal, Table, timing_table
from tests.benchmarks.timing import (
    Candidate,
    Meter,
    Row,
    leaves_of,
    time_candidates,
    usable_processors,
)

TILE_LOOP = "tile-loop torch"
GSPLAT = "gsplat's torch 2DGS, pairs given free"
MOST_SLOW_REPEATS = 3  # of rows that take seconds
PICTURE_TOLERANCE = 5e-3  # mean alpha: gsplat puts the low-pass disc at the centre of the box


def check_same_picture(theirs: Tensor, ours: Tensor, name: str) -> None:
    """Refuse to compare times of different pictures, given both alphas in any shape."""
    error = float((theirs.detach().reshape(-1) - ours.detach().reshape(-1)).abs().mean())
    if not error <= PICTURE_TOLERANCE:
        raise RuntimeError(
            f"{name} renders another picture than ours: mean alpha error {error:.2e}"
        )


def candidates(
    surfels: Surfels, settings: RasterSettings, weights: BlendWeights, meter: Meter, repeats: int
) -> list[Candidate]:
    """All rows that this installation can run, ours first."""
    bare, slow = without_features(surfels), min(repeats, MOST_SLOW_REPEATS)
    threads = [n for n in (1, 2) if n <= usable_processors()]
    rows = [
        candidate(OURS, surfels, settings, meter.backend, threads=n, repeats=repeats)
        for n in threads
    ]
    rows.append(candidate(COLOR_ONLY, bare, settings, meter.backend, repeats=repeats))
    module = gsplat_torch.load()
    if module is not None:
        theirs = gsplat_torch.make_renderer(module, weights, settings)
        alpha = torch.zeros(len(weights.row_start) - 1)
        pixel = torch.repeat_interleave(torch.arange(len(alpha)), weights.row_start.diff())
        check_same_picture(theirs(surfels)[1], alpha.index_add(0, pixel, weights.weight), GSPLAT)
        rows.append(Candidate(GSPLAT, lambda: theirs(surfels), leaves_of(surfels), repeats=slow))
    rows.append(candidate(TILE_LOOP, surfels, settings, "reference", repeats=slow))
    return rows


def times_ours(rows: Sequence[Row], name: str, part: Callable[[Row], float]) -> float | None:
    """How many times ours at one thread a row costs; None if the row was not run."""
    row = next((row for row in rows if row.name == name), None)
    return None if row is None else part(row) / part(rows[0])


def whole(row: Row) -> float:
    """Forward and backward together."""
    return sum(row.cost())


def goals(rows: Sequence[Row]) -> list[Goal]:
    """What the gate's scene has to reach."""
    found = []
    gsplat, loop = (times_ours(rows, name, whole) for name in (GSPLAT, TILE_LOOP))
    if gsplat is not None:
        found.append(Goal("times faster than gsplat's torch mathematics", gsplat, 40.0))
    if loop is not None:
        found.append(Goal("times faster than the tile loop", loop, 100.0))
    bare = next(row for row in rows if row.name == COLOR_ONLY)
    for index, (part, bound) in enumerate((("forward", 10.0), ("backward", 25.0))):
        extra = 100 * (rows[0].cost()[index] / bare.cost()[index] - 1)
        found.append(Goal(f"16 more channels, percent, {part}", extra, bound, at_least=False))
    both = [row for row in rows if row.name == OURS and row.threads == 2]
    found += [
        Goal("gain in wall time on two threads", wall_gain(rows[0], row), 1.8) for row in both
    ]
    return found


def wall_gain(alone: Row, together: Row) -> float:
    """How many times faster more threads are in wall time."""
    one = alone.forward_ms + alone.backward_ms
    return one / (together.forward_ms + together.backward_ms)


def ceiling_note(quick: bool) -> str:
    """What two threads can gain at all here."""
    found = ceiling.gains([2], quick)
    loops = ", ".join(f"{name} {by_threads[2]:.2f}" for name, by_threads in found.items())
    return f"two threads, wall time: loops without any loss gain here {loops}"


def measure(size: SceneSize, options: Options, meter: Meter) -> Table:
    """The table of one scene."""
    surfels, settings = make_scene(size), make_settings(size)
    weights = blend_weights(surfels, settings, backend=meter.backend)
    rows = time_candidates(candidates(surfels, settings, weights, meter, options.repeats), meter)
    contributions = len(weights.splat) / (size.width * size.height)
    title = f"{size.name} splats in z-order, {contributions:.1f} contributions a pixel"
    notes = [
        f"3 + 16 channels and {MAPS}; ratios over processor time",
        *thread_notes(rows, options),
    ]
    if meter.backend == "reference":
        notes.append("the cpu backend is not built: `ours` is the torch reference")
    if not any(row.name == GSPLAT for row in rows):
        notes.append("gsplat is not installed: tests/benchmarks/requirements.txt")
    return timing_table(title, rows, notes, goals(rows) if size is STANDARD else ())


def thread_notes(rows: Sequence[Row], options: Options) -> list[str]:
    """Gains of the two-thread row, and the machine's ceiling beside it."""
    both = [row for row in rows if row.name == OURS and row.threads == 2]
    if not both:
        return ["one processor only: nothing to say about threads"]
    one, two = rows[0], both[0]
    forward, backward = one.forward_ms / two.forward_ms, one.backward_ms / two.backward_ms
    gains = f"two threads, wall time: ours gains {forward:.2f} forward, {backward:.2f} backward"
    return [gains, ceiling_note(options.quick)]


def orders(size: SceneSize, options: Options, meter: Meter) -> Table:
    """Ours on splats in random order, which caches like less, beside z-order."""
    settings, repeats = make_settings(size), min(options.repeats, 5)
    rows = [
        candidate(name, make_scene(size, ordered=ordered), settings, meter.backend, repeats=repeats)
        for name, ordered in (("z-order", True), ("random order", False))
    ]
    return timing_table(f"{size.name} splats, their order", time_candidates(rows, meter))


def kinds(size: SceneSize, options: Options, meter: Meter) -> Table:
    """Discs and ellipsoids of one scene, as many contributions of each."""
    discs, settings = make_scene(size), make_settings(size)
    splats = {"discs (2DGS)": discs, "ellipsoids (3DGS)": make_ellipsoids(discs)}
    counts = [
        len(blend_weights(kind, settings, backend=meter.backend).splat) for kind in splats.values()
    ]
    rows = time_candidates(
        [
            candidate(name, kind, settings, meter.backend, repeats=options.repeats)
            for name, kind in splats.items()
        ],
        meter,
    )
    per = [1e6 * whole(row) / count for row, count in zip(rows, counts, strict=True)]
    pixels = size.width * size.height
    notes = [
        f"{name}: {count / pixels:.1f} contributions a pixel, {cost:.1f} ns each, both ways"
        for name, count, cost in zip(splats, counts, per, strict=True)
    ]
    goal = Goal("an ellipsoid's contribution, a disc's = 1", per[1] / per[0], 1.0, at_least=False)
    title = f"{size.name} splats of both kinds"
    return timing_table(title, rows, notes, [goal] if size is STANDARD else ())


def run(options: Options) -> list[Table]:
    """The gate's scene."""
    meter = options.meter("cpu")
    if meter is None:
        return []
    size = QUICK if options.quick else STANDARD
    return [table(size, options, meter) for table in (measure, orders, kinds)]
