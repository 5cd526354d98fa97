# SPDX-License-Identifier: Apache-2.0
"""Times the rasterizer beside two torch implementations of the same mathematics.

    python -m tests.benchmarks.rasterizer            # the standard scene
    python -m tests.benchmarks.rasterizer --quick    # a small one, under a minute

Every row of a table renders the same scene in the same process. Ratios are taken over processor
time at one thread, which a busy machine distorts least. The result is also written to
tests/benchmarks/results/, named after the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from diff_surfel_rasterization import (
    BlendWeights,
    RasterSettings,
    Surfels,
    available_backends,
    blend_weights,
    rasterize,
    splat_weights,
)
from tests.benchmarks import gsplat_torch
from tests.benchmarks.scenes import QUICK, STANDARD, SceneSize, make_scene, make_settings
from tests.benchmarks.timing import Row, hardware_name, time_renderer

RESULTS = Path(__file__).parent / "results"
TILE_LOOP = "tile-loop torch (our reference, recomputing)"
GSPLAT = "gsplat 1.5.3 torch 2DGS (pairs given free)"

Renderer = Callable[[Surfels], tuple[Tensor, ...]]


def all_images(settings: RasterSettings, backend: str) -> Renderer:
    """Every image that we make: 19 channels and seven maps."""

    def render(surfels: Surfels) -> tuple[Tensor, ...]:
        out = rasterize(surfels, settings, backend)
        return (out.color, out.features, out.alpha, out.depth, out.normal, out.distortion)

    return render


def color_only(settings: RasterSettings) -> Renderer:
    """The same without features, to see what sixteen channels cost."""

    def render(surfels: Surfels) -> tuple[Tensor, ...]:
        bare = Surfels(
            surfels.means, surfels.scales, surfels.rotations, surfels.opacities, surfels.colors
        )
        out = rasterize(bare, settings, "cpu")
        return (out.color, out.alpha, out.depth, out.normal, out.distortion)

    return render


def cached_features(weights: BlendWeights) -> Renderer:
    """Features from stored weights, as when geometry is frozen."""

    def render(surfels: Surfels) -> tuple[Tensor, ...]:
        assert surfels.features is not None
        return (splat_weights(weights, None, surfels.features),)

    return render


def check_same_picture(theirs: Renderer, weights: BlendWeights, surfels: Surfels) -> None:
    """Refuse to compare times of different pictures.

    gsplat puts the low-pass disc at the centre of the splat's box, hence the tolerance.
    """
    alpha = theirs(surfels)[1].detach().reshape(-1)
    ours = splat_weights(weights, None, torch.ones_like(surfels.opacities))[:, 0].detach()
    error = float((alpha - ours).abs().mean())
    if error > 5e-3:
        raise RuntimeError(f"gsplat's picture differs from ours: mean alpha error {error:.2e}")


def measure(size: SceneSize, repeats: int, ordered: bool) -> tuple[list[Row], float]:
    """All rows that this installation can run, and the contributions per pixel."""
    surfels, settings = make_scene(size, ordered=ordered), make_settings(size)
    native = "cpu" in available_backends()
    weights = blend_weights(surfels, settings, backend="cpu" if native else "reference")
    slow = 2 if repeats > 2 else 1
    rows = []
    if native:
        ours = all_images(settings, "cpu")
        rows += [time_renderer("cpu backend", ours, surfels, n, repeats) for n in (1, 2)]
        bare = color_only(settings)
        rows.append(time_renderer("cpu backend, colour only", bare, surfels, 1, repeats))
    cached = cached_features(weights)
    rows.append(time_renderer("16 channels, stored weights", cached, surfels, 1, repeats))
    module = gsplat_torch.load()
    if module is not None:
        theirs = gsplat_torch.make_renderer(module, weights, settings)
        check_same_picture(theirs, weights, surfels)
        rows.append(time_renderer(GSPLAT, theirs, surfels, 1, slow))
    reference = all_images(settings, "reference")
    rows.append(time_renderer(TILE_LOOP, reference, surfels, 1, slow))
    return rows, len(weights.splat) / (size.width * size.height)


def ratios(rows: list[Row]) -> dict[str, dict[str, float]]:
    """How many times slower each row is than the native backend with one thread."""
    if rows[0].name != "cpu backend":
        return {}
    ours = rows[0]
    return {
        f"{row.name}, {row.threads} threads": {
            "forward": row.forward_cpu_ms / ours.forward_cpu_ms,
            "backward": row.backward_cpu_ms / ours.backward_cpu_ms,
            "both": (row.forward_cpu_ms + row.backward_cpu_ms)
            / (ours.forward_cpu_ms + ours.backward_cpu_ms),
        }
        for row in rows[1:]
    }


def print_table(rows: list[Row]) -> None:
    """One line a row; the ratio is that of forward and backward together."""
    against = ratios(rows)
    print(
        f"{'':46} {'threads':>7} {'fwd ms':>9} {'bwd ms':>9} {'cpu fwd':>9} {'cpu bwd':>9}  ratio"
    )
    for row in rows:
        found = against.get(f"{row.name}, {row.threads} threads")
        ratio = "" if found is None else f"{found['both']:.2f}"
        print(
            f"{row.name:46} {row.threads:7d} {row.forward_ms:9.1f} {row.backward_ms:9.1f} "
            f"{row.forward_cpu_ms:9.1f} {row.backward_cpu_ms:9.1f}  {ratio}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="256x256, 20 000 splats")
    parser.add_argument("--repeats", type=int, default=15, help="repetitions of the fast rows")
    parser.add_argument("--shuffled", action="store_true", help="splats in random order")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else STANDARD
    load = os.getloadavg()[0]
    rows, contributions = measure(size, arguments.repeats, not arguments.shuffled)
    hardware = hardware_name()
    order = "random order" if arguments.shuffled else "z-order"
    print(f"{size.name}, {contributions:.1f} contributions a pixel, {order}; {hardware}")
    print_table(rows)
    slug = re.sub(r"[^a-z0-9]+", "-", hardware.lower()).strip("-")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{slug}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[f"{size.name}, {order}"] = {
        "hardware": hardware,
        "torch": torch.__version__,
        "load_average_before": load,
        "contributions_per_pixel": contributions,
        "channels": "3 + 16 and alpha, depth, normal, distortion",
        "rows": [asdict(row) for row in rows],
        "times_the_cpu_backend": ratios(rows),
    }
    path.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    print(f"written to tests/benchmarks/results/{path.name}")


if __name__ == "__main__":
    main()
