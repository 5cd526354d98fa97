# SPDX-License-Identifier: Apache-2.0
"""Frozen geometry: sixteen channels through stored blending weights, beside the full path."""

from __future__ import annotations

from collections.abc import Sequence

from diff_surfel_rasterization import (
    blend_weights,
    quad_weights,
    splat_quads,
    splat_weights,
)
from tests.benchmarks.options import Options
from tests.benchmarks.renderers import MAPS, candidate
from tests.benchmarks.scenes import LARGE, QUICK, STANDARD, SceneSize, make_scene, make_settings
from tests.benchmarks.tables import Goal, Table, timing_table
from tests.benchmarks.timing import MIB, Candidate, Meter, Row, time_candidates

MIN_WEIGHT = 1 / 255  # as in training
FULL = "full path"


def stored_bytes(weights: object) -> int:
    """Bytes of all tensors of stored weights."""
    tensors = [value for value in vars(weights).values() if hasattr(value, "untyped_storage")]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def goals(rows: Sequence[Row]) -> list[Goal]:
    """What the gate's scene has to reach."""
    full, quads = (next(row for row in rows if row.name.startswith(n)) for n in (FULL, "quads"))
    return [Goal("times faster than the full path", sum(full.cost()) / sum(quads.cost()), 7.0)]


def table(size: SceneSize, options: Options, meter: Meter) -> Table:
    """The full path, weights by quads, and weights by pixels; forward and backward."""
    surfels, settings = make_scene(size, device=meter.device), make_settings(size)
    features = surfels.features
    assert features is not None
    quads = quad_weights(surfels, settings, MIN_WEIGHT, backend=meter.backend)
    pixels = blend_weights(surfels, settings, MIN_WEIGHT, backend=meter.backend)
    repeats = options.repeats
    rows = time_candidates(
        [
            candidate(FULL, surfels, settings, meter.backend, repeats=repeats),
            Candidate(
                "quads, half precision",
                lambda: (splat_quads(quads, features),),
                [features],
                repeats=repeats,
            ),
            Candidate(
                "by pixels, single precision",
                lambda: (splat_weights(pixels, None, features),),
                [features],
                repeats=min(repeats, 5),
            ),
        ],
        meter,
    )
    notes = [
        f"full path: 3 + 16 channels and {MAPS}, all gradients; stored: 16 channels, weights of at "
        "least 1/255; one thread on a CPU",
        f"a view takes {stored_bytes(quads) / MIB:.1f} MiB by quads, "
        f"{stored_bytes(pixels) / MIB:.1f} MiB by pixels",
    ]
    gate = goals(rows) if size is STANDARD and meter.kind == "cpu" else ()
    return timing_table(f"{size.name} splats, {meter.name}", rows, notes, gate)


def run(options: Options) -> list[Table]:
    """The gate's scene on a CPU, the large one on a GPU."""
    tables = []
    for meter in options.meters:
        size = QUICK if options.quick else LARGE if meter.kind == "cuda" else STANDARD
        tables.append(table(size, options, meter))
    return tables
