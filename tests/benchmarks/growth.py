# SPDX-License-Identifier: Apache-2.0
"""How the cost of our rasterizer grows: pixels, splats, contributions, channels, threads.

One thing changes at a time from a base scene: the gate's on a CPU, the large one on a GPU. When
pixels change, the splats keep their size in the scene; when the number of splats changes, they keep
covering the same share of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from diff_surfel_rasterization import RasterSettings, Surfels, blend_weights
from tests.benchmarks import ceiling
from tests.benchmarks.options import Options
from tests.benchmarks.renderers import candidate
from tests.benchmarks.scenes import (
    LARGE,
    QUICK,
    STANDARD,
    SceneSize,
    make_scene,
    make_settings,
)
from tests.benchmarks.tables import Table, Value, quotient
from tests.benchmarks.timing import Meter, Row, time_candidates, usable_processors

CHANNELS = (3, 8, 19, 35, 67)  # colour included
SPLAT_SHARES = (0.1, 0.25, 1.0, 2.5)  # of the base scene's number
WIDTH_SHARES = (0.5, 1.0, 2.0)
SPLAT_SIZES = (0.35, 0.7, 1.0, 1.3, 1.6)  # of the base scene's, for contributions
MOST_REPEATS = 5
BASE = 19  # channels


@dataclass(frozen=True)
class Point:
    """One scene on the way: what is varied, and to which value."""

    label: str
    size: SceneSize
    channels: int = BASE


def points_of_pixels(base: SceneSize) -> list[Point]:
    """The same splats seen with more pixels."""
    points = []
    for share in WIDTH_SHARES:
        width, height = round(base.width * share), round(base.height * share)
        scale = base.pixel_scale * share
        size = replace(base, width=width, height=height, pixel_scale=scale)
        points.append(Point(f"{width}x{height}", size))
    return points


def points_of_splats(base: SceneSize) -> list[Point]:
    """More splats that are smaller."""
    points = []
    for share in SPLAT_SHARES:
        count = round(base.splats * share)
        size = replace(base, splats=count, pixel_scale=base.pixel_scale / math.sqrt(share))
        points.append(Point(f"{count:,}".replace(",", " "), size))
    return points


def points_of_contributions(base: SceneSize) -> list[Point]:
    """The same number of splats, larger."""
    scales = [base.pixel_scale * share for share in SPLAT_SIZES]
    return [Point(f"{scale:.2f} px", replace(base, pixel_scale=scale)) for scale in scales]


def points_of_channels(base: SceneSize) -> list[Point]:
    """The same splats with more to carry."""
    return [Point(str(channels), base, channels) for channels in CHANNELS]


AXES: dict[str, Callable[[SceneSize], list[Point]]] = {
    "pixels": points_of_pixels,
    "splats": points_of_splats,
    "contributions, by the splats' size": points_of_contributions,
    "channels": points_of_channels,
}


def make(point: Point, meter: Meter) -> tuple[Surfels, RasterSettings]:
    """Splats and view of a point."""
    features = point.channels - 3
    surfels = make_scene(point.size, features=features, device=meter.device)
    return surfels, make_settings(point.size)


def contributions(surfels: Surfels, settings: RasterSettings, backend: str) -> int:
    """Pairs of pixel and splat that are blended."""
    return len(blend_weights(surfels, settings, backend=backend).splat)


def record(row: Row, base: Row, pairs: int, pixels: int) -> dict[str, Value]:
    """A row of growth: times, time a pair, and the ratio to the base scene."""
    kept = ("name", "threads", "repeats", "forward_ms", "backward_ms")
    times = {key: value for key, value in asdict(row).items() if key in kept}
    if row.device == "cpu":
        times |= {"forward_cpu_ms": row.forward_cpu_ms, "backward_cpu_ms": row.backward_cpu_ms}
    if row.peak_mib is not None:
        times["peak_mib"] = row.peak_mib
    whole, base_whole = sum(row.cost()), sum(base.cost())
    return {
        **times,
        "contributions_per_pixel": pairs / pixels,
        "ns_per_contribution": quotient(1e6 * whole, pairs),
        "ratio": quotient(whole, base_whole),
    }


def table_of(axis: str, base: SceneSize, meter: Meter, repeats: int) -> Table:
    """One table: a row a point, in turns."""
    points = AXES[axis](base)
    scenes = [make(point, meter) for point in points]
    pairs = [contributions(*scene, meter.backend) for scene in scenes]
    rows = time_candidates(
        [
            candidate(point.label, *scene, meter.backend, repeats=repeats)
            for point, scene in zip(points, scenes, strict=True)
        ],
        meter,
    )
    middle = next(
        row
        for row, point in zip(rows, points, strict=True)
        if (point.size, point.channels) == (base, BASE)
    )
    records = [
        record(row, middle, pair, point.size.width * point.size.height)
        for row, pair, point in zip(rows, pairs, points, strict=True)
    ]
    return Table(f"{axis} ({base.name} otherwise, {meter.name})", records)


def thread_counts() -> list[int]:
    """1, 2, 4, ... and all."""
    every = usable_processors()
    return sorted({*(2**power for power in range(every.bit_length())), every})


def table_of_threads(base: SceneSize, meter: Meter, repeats: int, quick: bool) -> Table:
    """Wall time by threads, with what loops without any loss gain here."""
    surfels, settings = make_scene(base), make_settings(base)
    counts = thread_counts()
    rows = time_candidates(
        [
            candidate(str(n), surfels, settings, meter.backend, threads=n, repeats=repeats)
            for n in counts
        ],
        meter,
    )
    most = ceiling.gains(counts, quick)
    records = [thread_record(row, rows[0], most) for row in rows]
    notes = [
        "gain: wall time of one thread over that of the row; in the last columns for loops that "
        "share nothing but the hardware, which is the most that threads can gain here"
    ]
    return Table(f"threads ({base.name}, {meter.name})", records, notes)


def thread_record(row: Row, alone: Row, most: dict[str, dict[int, float]]) -> dict[str, Value]:
    """Times, gains, and the ceilings at as many threads."""
    times = asdict(row)
    kept = ("name", "repeats", "forward_ms", "backward_ms", "forward_cpu_ms", "backward_cpu_ms")
    return {
        **{key: times[key] for key in kept},
        "forward_gain": quotient(alone.forward_ms, row.forward_ms),
        "backward_gain": quotient(alone.backward_ms, row.backward_ms),
        **{name: by_threads[row.threads] for name, by_threads in most.items()},
    }


def tables_for(meter: Meter, base: SceneSize, options: Options) -> Sequence[Table]:
    """All tables of one device."""
    repeats = min(options.repeats, MOST_REPEATS)
    tables = [table_of(axis, base, meter, repeats) for axis in AXES]
    if meter.kind == "cpu":
        tables.append(table_of_threads(base, meter, repeats, options.quick))
    return tables


def run(options: Options) -> list[Table]:
    """Every device that is to be used."""
    tables: list[Table] = []
    for meter in options.meters:
        base = STANDARD if meter.kind == "cpu" else LARGE
        if options.quick or meter.backend == "reference":  # which would take an hour
            base = QUICK
        tables += tables_for(meter, base, options)
    return tables
