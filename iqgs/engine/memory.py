# SPDX-License-Identifier: Apache-2.0
"""The sentence about memory that ran out while a run was trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from iqgs.engine.run import Run
from iqgs.engine.run_folder import CHECKPOINT_FILE, checkpoint_files
from utils.errors import RunError
from utils.shortage import is_out_of_memory

ADVICE = (
    "-r 2 halves the resolution, --splat_cap or a higher --densify_grad_threshold keeps splats "
    "fewer, --sh_degree 1 makes them smaller, a lower --cache_gb or --pixels_per_step makes "
    "learning instances smaller, --no-data_cache keeps no photographs"
)


@contextmanager
def memory_sentence(run: Run) -> Iterator[None]:
    """Turn errors of memory inside into a RunError that says how large the run was and what helps.

    Nothing is written: the last checkpoint stays what it was.
    """
    try:
        yield
    except Exception as error:  # torch, OpenCV and C++ have no common class; others go on
        if not is_out_of_memory(error):
            raise
        raise RunError(out_of_memory(run)) from None


def out_of_memory(run: Run) -> str:
    """Number of splats, resolution, options that help, and what is kept."""
    camera = max(run.cameras.train, key=lambda camera: camera.width * camera.height)
    numbers = [int(CHECKPOINT_FILE.fullmatch(p.name)[1]) for p in checkpoint_files(run.folder)]  # type: ignore[index]
    kept = "no checkpoint had been written yet (--checkpoint_interval)"
    if numbers:
        kept = f"chkpnt{max(numbers)}.pth is kept, --resume auto goes on from it"
    return (
        f"out of memory with {len(run.gaussians)} splats at {camera.width} x {camera.height} "
        f"pixels: {ADVICE}; {kept}"
    )
