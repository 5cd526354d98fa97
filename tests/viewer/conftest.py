# SPDX-License-Identifier: Apache-2.0
"""A small labelled scene, and a browser that draws without a graphics card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from iqgs.objects.labelled import LabelledSplats
from scene.cameras import Camera
from scene.frame import SceneFrame
from scene.gaussian_model import GaussianModel
from utils.geometry import look_at

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# SwiftShader draws on the CPU; the sandbox cannot be had by root in a container.
DRAWING = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NAMES = {3: "cup", 7: 'a <b>"ball"</b> & more', 300: "</script>\u00e9"}
CENTERS = {0: (0.0, 0.0, 2.5), 3: (-1.2, 0.0, 0.0), 7: (0.1, 0.3, -0.4), 300: (1.3, -0.2, 0.4)}


def splats(dims: int = 2, each: int = 150, seed: int = 0) -> LabelledSplats:
    """Four clouds of splats about the origin, z up; those of the last belong to nothing."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    labels = torch.tensor(sorted(CENTERS)).repeat_interleave(each)
    labels = labels[torch.randperm(len(labels), generator=generator)]
    n = len(labels)
    means = torch.tensor([CENTERS[int(number)] for number in labels]) + 0.4 * normal(n, 3)
    values = {
        "means": means,
        "log_scales": -2.4 + 0.6 * normal(n, dims),
        "quaternions": normal(n, 4),
        "opacity_logits": 1.0 + 1.5 * normal(n, 1),
        "sh_dc": 0.9 * normal(n, 1, 3),
        "sh_rest": torch.zeros(n, 0, 3),
        "instance": torch.zeros(n, 0),
    }
    frame = SceneFrame(up=(0.0, 0.0, 1.0))
    return LabelledSplats(GaussianModel(values), labels, torch.ones(n), frame, NAMES)


def cameras() -> list[Camera]:
    """Three views from outside, the last close enough to stand among the splats; none rolls."""
    found = []
    for index, place in enumerate([(0.0, -4.5, 1.0), (3.5, 2.5, 1.5), (0.2, -0.6, 0.2)]):
        position = torch.tensor(place).double().numpy()
        pose = torch.from_numpy(look_at(position, 0 * position, torch.eye(3)[2].double().numpy()))
        found.append(Camera(pose, 150.0, 140.0, 78.0, 63.0, 160, 120, f"view_{index}.png", index))
    return found


def browser_path() -> str | None:
    """The browser of $IQGS_BROWSER, or one of the system's."""
    named = os.environ.get("IQGS_BROWSER")
    return named or next((path for name in BROWSERS if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as driver:
        path = browser_path()
        if path is None and not Path(driver.chromium.executable_path).is_file():
            pytest.skip(
                "no browser: apt install chromium, or playwright install chromium, or name one in "
                "IQGS_BROWSER"
            )
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        started = driver.chromium.launch(executable_path=path, args=[*DRAWING, *options])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """opened(file or address, ...) -> the page. Faults of its scripts fail the test."""
    faults: list[str] = []
    pages = []

    def open_page(address: str | Path, before: str = "") -> Any:
        page = browser.new_page(viewport={"width": 900, "height": 600})
        pages.append(page)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.requests = []
        page.on("request", lambda request: page.requests.append(request.url))
        if before:
            page.add_init_script(before)
        page.goto(address.as_uri() if isinstance(address, Path) else address)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not faults
