# SPDX-License-Identifier: Apache-2.0
"""Seeds, threads and peak memory of a process."""

from __future__ import annotations

import os
import random
import resource
import sys

import numpy as np
import torch

BYTES_PER_KIB = 1024


def seed_everything(seed: int) -> None:
    """Seed the global generators too; our own code draws from generators that it is handed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def set_threads(threads: int) -> int:
    """Use this many CPU threads (0: all that the process may use); returns the number."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    chosen = threads or available or 1
    torch.set_num_threads(chosen)
    return chosen


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * BYTES_PER_KIB
