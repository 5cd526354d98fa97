# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import re
import threading
from pathlib import Path

from utils.progress import tqdm

ROOT = Path(__file__).parents[2]
PACKAGES = ("iqgs", "scene", "gaussian_renderer", "utils", "scripts")


def test_a_bar_starts_no_thread_and_shows_each_step() -> None:
    before, said = set(threading.enumerate()), io.StringIO()
    for _ in tqdm(range(3), desc="Steps", file=said, mininterval=0.0):
        pass
    for _ in tqdm(range(3), disable=True):
        pass
    with tqdm(total=2, file=said, mininterval=0.0) as bar:
        bar.update()
        assert bar.monitor is None
    assert set(threading.enumerate()) <= before
    assert set(re.findall(r"\d/3", said.getvalue())) == {"0/3", "1/3", "2/3", "3/3"}


def test_all_bars_are_this_one() -> None:
    sources = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    direct = [p for p in sources if re.search(r"^\s*(from|import) tqdm", p.read_text(), re.M)]
    assert direct == [ROOT / "utils/progress.py"]
