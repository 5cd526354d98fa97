# SPDX-License-Identifier: Apache-2.0
"""The page in a browser: its pictures are the rasterizer's, its picks those of the weights."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gaussian_renderer import Renderer
from iqgs.objects.granularity import Division, Granularity, granularity
from iqgs.objects.labelled import LabelledSplats
from iqgs.viewer.packed import pack
from iqgs.viewer.page_file import PageFacts, page_text, view_entry
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel

from .conftest import CENTERS, NAMES, cameras, splats
from .test_packed import unpacked

GRAY = (0.2, 0.3, 0.4)
Open = Callable[..., Any]


def write_page(folder: Path, objects: LabelledSplats) -> Path:
    path = folder / "page.html"
    text = page_text(objects, PageFacts("a <room> & more", cameras(), GRAY))
    path.write_text(text, encoding="utf-8")
    return path


def as_page_has_them(objects: LabelledSplats) -> LabelledSplats:
    """Quantised: what is left of a difference is the shaders'."""
    found, labels = unpacked(pack(objects))
    return LabelledSplats(found, labels, torch.ones(len(labels)), objects.frame, objects.names)


def rendered(camera: Camera, gaussians: GaussianModel) -> np.ndarray:
    """Our picture [H, W, 3] in 0..255."""
    lens = Renderer(torch.tensor(GRAY), "auto", 0.0).lens(camera, gaussians)
    color = lens.render(with_surface=False).color.clamp(0, 1)
    return color.permute(1, 2, 0).numpy() * 255


def picture(page: Any, camera: Camera) -> np.ndarray:
    page.evaluate("c => iqgs.setCamera(c)", {**view_entry(camera), "near": camera.near})
    data = base64.b64decode(page.evaluate("iqgs.pixels()"))
    return np.frombuffer(data, np.uint8).reshape(camera.height, camera.width, 4)[..., :3]


@pytest.mark.parametrize("dims", [2, 3])
def test_pictures_are_those_of_the_rasterizer(opened: Open, tmp_path: Path, dims: int) -> None:
    objects = splats(dims)
    page = opened(write_page(tmp_path, objects))
    quantised = as_page_has_them(objects)
    for camera in cameras():
        ours, theirs = rendered(camera, quantised.splats), picture(page, camera).astype(float)
        off = np.abs(ours - theirs)
        assert ours.std() > 20  # there is something to see
        # Rounding to bytes is a quarter of a level on average; edges at one grey level may flip.
        assert off.mean() < 0.4
        assert (off.max(axis=2) > 3).mean() < 2e-3
    assert page.evaluate("iqgs.state()")["half"]


def test_the_whole_picture_is_close_to_that_of_the_splats_as_they_were(
    opened: Open, tmp_path: Path
) -> None:
    objects = splats()
    page = opened(write_page(tmp_path, objects))
    for camera in cameras():
        error = ((rendered(camera, objects.splats) - picture(page, camera)) ** 2).mean()
        assert 10 * np.log10(255**2 / error) > 40


@pytest.mark.parametrize("dims", [2, 3])
def test_a_pixel_picks_the_object_with_the_most_weight(
    opened: Open, tmp_path: Path, dims: int
) -> None:
    objects = splats(dims)
    page = opened(write_page(tmp_path, objects))
    quantised = as_page_has_them(objects)
    numbers = torch.unique(quantised.labels)
    one_hot = (quantised.labels[:, None] == numbers).float()
    for camera in cameras()[:2]:
        lens = Renderer(torch.zeros(3), "auto", 0.0).lens(camera, quantised.splats)
        shares = torch.cat([lens.splat(one_hot), 1 - lens.alpha])
        best, second = shares.topk(2, dim=0).values
        page.evaluate("c => iqgs.setCamera(c)", {**view_entry(camera), "near": camera.near})
        compared = 0
        for y in range(5, camera.height, 13):
            for x in range(5, camera.width, 13):
                if best[y, x] - second[y, x] < 0.02:
                    continue
                place = int(shares[:, y, x].argmax())
                wanted = None if place == len(numbers) else int(numbers[place])
                found = page.evaluate(f"iqgs.pick({x + 0.5}, {y + 0.5})")
                assert found["id"] == wanted
                if wanted is not None:
                    assert abs(found["share"] - float(best[y, x])) < 2e-3
                compared += 1
        assert compared > 60


def test_hidden_objects_are_neither_drawn_nor_picked(opened: Open, tmp_path: Path) -> None:
    objects = splats()
    page = opened(write_page(tmp_path, objects))
    quantised = as_page_has_them(objects)
    camera = cameras()[0]
    page.evaluate("iqgs.hide([3, 300])")
    left = quantised.rows((quantised.labels != 3) & (quantised.labels != 300))
    off = np.abs(rendered(camera, left.splats) - picture(page, camera))
    assert off.mean() < 0.4
    picks = [page.evaluate(f"iqgs.pick({x}, 60)")["id"] for x in range(0, 160, 4)]
    assert set(picks) <= {None, 0, 7} and 7 in picks


def test_instances_have_their_colours(opened: Open, tmp_path: Path) -> None:
    objects = splats()
    page = opened(write_page(tmp_path, objects))
    camera = cameras()[0]
    page.evaluate("iqgs.hide([0, 3, 300])")
    page.evaluate("iqgs.showInstances(true)")
    seen = picture(page, camera).astype(float)
    lens = Renderer(torch.zeros(3), "auto", 0.0).lens(
        camera, as_page_has_them(objects).of(7).splats
    )
    solid = lens.alpha[0].numpy() > 0.95
    colors = {entry["id"]: entry["color"] for entry in page.evaluate("iqgs.state()")["objects"]}
    shown, wanted = seen[solid].mean(0), np.array(colors[7], float)
    assert np.dot(shown, wanted) / np.linalg.norm(shown) / np.linalg.norm(wanted) > 0.995
    plain = page.evaluate("iqgs.showInstances(false)") or picture(page, camera)
    assert np.abs(plain - seen)[solid].mean() > 10


def test_the_page_opens_upright_and_asks_for_nothing(opened: Open, tmp_path: Path) -> None:
    path = write_page(tmp_path, splats())
    page = opened(path)
    assert page.evaluate("iqgs.ready") is True
    view = np.array(page.evaluate("iqgs.camera()")["view"]).reshape(3, 4)
    assert abs(view[0, 2]) < 1e-9 and view[1, 2] < -0.5  # x level, y down, z is up in the scene
    assert page.title() == "a <room> & more"
    assert page.inner_text("#title") == "a <room> & more"
    assert page.inner_text("#message") == ""
    outside = [url for url in page.requests if not url.startswith(("file:", "blob:", "data:"))]
    assert not outside and page.requests[0].startswith("file:")
    text = path.read_text()
    assert "http://" not in text and "https://" not in text


def test_mouse_list_and_keys(opened: Open, tmp_path: Path) -> None:
    page = opened(write_page(tmp_path, splats()))
    page.evaluate("iqgs.ready")
    names = page.locator("#objects li .name").all_inner_texts()
    assert names == ["no object", *NAMES.values()]  # as text, whatever is in them
    row = page.locator("#objects li[data-id='7']")
    row.click()
    state = page.evaluate("iqgs.state()")
    assert state["selected"] == 7 and "selected" in row.get_attribute("class")
    page.click("#isolate")
    assert page.evaluate("iqgs.state()")["hidden"] == [0, 3, 300]
    page.keyboard.press("Escape")
    assert page.evaluate("iqgs.state()")["selected"] is None
    # The one object that is left is found by clicking where it is seen.
    box = page.locator("#view").bounding_box()
    spots = [(box["x"] + box["width"] * a / 9, box["y"] + box["height"] * b / 9)
             for a in range(1, 9) for b in range(1, 9)]  # fmt: skip
    for x, y in spots:
        page.mouse.click(x, y)
        page.evaluate("iqgs.pick(0, 0)")  # answered after the click's question
        if page.evaluate("iqgs.state()")["selected"] == 7:
            break
    else:
        pytest.fail("the object was nowhere to be clicked")
    page.keyboard.press("h")
    assert page.evaluate("iqgs.state()")["hidden"] == [0, 3, 7, 300]
    page.click("#show")
    assert page.evaluate("iqgs.state()")["hidden"] == []
    page.keyboard.press("i")  # also where a button has the focus
    assert page.evaluate("iqgs.state()")["hidden"] == [0, 3, 300]
    page.keyboard.press("x")
    page.click("#filter")
    page.keyboard.type("chix")  # letters, no commands
    assert page.evaluate("iqgs.state()")["hidden"] == []
    page.click("#mode")
    assert page.evaluate("iqgs.state()")["instances"] is True
    page.fill("#filter", "cup")
    assert page.locator("#objects li:visible").count() == 1


def test_dragging_turns_and_the_wheel_zooms(opened: Open, tmp_path: Path) -> None:
    page = opened(write_page(tmp_path, splats()))
    page.evaluate("iqgs.ready")

    def eye_and_ahead() -> tuple[np.ndarray, np.ndarray]:
        view = np.array(page.evaluate("iqgs.camera()")["view"]).reshape(3, 4)
        return -view[:, :3].T @ view[:, 3], view[2, :3]

    def drag(button: str) -> None:
        page.mouse.move(300, 300)
        page.mouse.down(button=button)
        page.mouse.move(380, 330, steps=3)
        page.mouse.up(button=button)

    eye, ahead = eye_and_ahead()
    drag("left")
    turned_eye, turned_ahead = eye_and_ahead()
    assert np.degrees(np.arccos(ahead @ turned_ahead)) > 10
    assert page.evaluate("iqgs.state()")["selected"] is None  # a drag is no click
    drag("right")
    moved_eye, moved_ahead = eye_and_ahead()
    np.testing.assert_allclose(moved_ahead, turned_ahead, atol=1e-9)
    shift = moved_eye - turned_eye
    assert abs(shift @ turned_ahead) < 1e-6 < 0.01 < np.linalg.norm(shift)
    page.mouse.wheel(0, -400)
    page.evaluate("iqgs.settled()")
    closer, _ = eye_and_ahead()
    assert (closer - moved_eye) @ moved_ahead > 0.05


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("HTMLCanvasElement.prototype.getContext = () => null;", "needs WebGL 2"),
        ("delete window.DecompressionStream;", "too old to unpack"),
    ],
)
def test_a_browser_that_cannot_show_it_says_so(
    opened: Open, tmp_path: Path, missing: str, words: str
) -> None:
    page = opened(write_page(tmp_path, splats()), before=missing)
    assert page.evaluate("iqgs.ready") is False
    assert words in page.inner_text("#message")


def test_thousands_of_objects_have_a_place(opened: Open, tmp_path: Path) -> None:
    """The table of objects takes more than one row of its texture."""
    base = splats(each=700)
    many = LabelledSplats(base.splats, torch.arange(1, len(base) + 1), base.confidence, base.frame)
    page = opened(write_page(tmp_path, many))
    camera = cameras()[0]
    gone = list(range(1500, 2801))
    page.evaluate("ids => iqgs.hide(ids)", gone)
    left = as_page_has_them(many)
    kept = left.rows(left.labels < 1500)
    off = np.abs(rendered(camera, kept.splats) - picture(page, camera))
    assert off.mean() < 0.4
    page.evaluate("iqgs.showInstances(true)")
    assert page.locator("#objects li.off").count() == len(gone)


def leveled() -> tuple[LabelledSplats, Granularity]:
    """3 and 7 are a group, and 7 has two parts."""
    objects = splats()
    half = (objects.of(7).splats.means[:, 0] > CENTERS[7][0]).long().numpy()
    division = Division({7: [half]}, [{3: 0, 7: 0, 300: 1}])
    return objects, granularity(objects, division, ())


def test_a_slider_goes_from_groups_to_parts(opened: Open, tmp_path: Path) -> None:
    objects, levels = leveled()
    path = tmp_path / "page.html"
    path.write_text(page_text(objects, PageFacts("levels", cameras(), GRAY, levels)))
    page = opened(path)
    assert page.evaluate("iqgs.ready") is True

    def ids() -> set[int]:
        rows = page.locator("#objects li")
        return {int(row.get_attribute("data-id")) for row in rows.all()}

    assert ids() == {0, 3, 7, 300} and page.inner_text("#levelname") == "0: objects"
    page.click("#objects li[data-id='7']")
    page.keyboard.press("h")
    page.keyboard.press("p")  # what is hidden stays so, in parts
    state = page.evaluate("iqgs.state()")
    assert state["level"] == 1 and state["hidden"] == [302, 303] and state["selected"] in (302, 303)
    assert ids() == {0, 3, 300, 302, 303} and page.inner_text("#levelname") == "1: parts"
    assert state["objects"][-1]["parent"] == 7
    page.locator("#objects li[data-id='302'] .eye").click()
    page.keyboard.press("g")
    page.keyboard.press("Escape")
    assert page.evaluate("iqgs.state()")["hidden"] == [], "a part of it is shown"
    camera = cameras()[0]
    kept = units_of(objects, levels)
    kept = kept.rows(kept.labels != 303)
    assert np.abs(rendered(camera, kept.splats) - picture(page, camera)).mean() < 0.4
    page.locator("#level").fill("0")  # the slider itself: the coarsest level
    assert page.evaluate("iqgs.state()")["level"] == -1 and ids() == {0, 300, 301}
    page.evaluate("iqgs.hide([301])")
    assert np.abs(
        rendered(camera, kept.rows(torch.isin(kept.labels, torch.tensor([0, 300]))).splats)
        - picture(page, camera)
    ).mean() < 0.4  # fmt: skip
    found = {page.evaluate(f"iqgs.pick({x}, 60)")["id"] for x in range(0, 160, 4)}
    assert found <= {None, 0, 300} and 300 in found
    page.evaluate("iqgs.hide([])")
    page.evaluate("iqgs.showInstances(true)")
    seen = picture(page, camera).astype(float)
    colors = {entry["id"]: entry["color"] for entry in page.evaluate("iqgs.state()")["objects"]}
    lens = Renderer(torch.zeros(3), "auto", 0.0).lens(camera, objects.of(3).splats)
    shown = seen[lens.alpha[0].numpy() > 0.95].mean(0)
    wanted = np.array(colors[301], float)
    assert np.dot(shown, wanted) / np.linalg.norm(shown) / np.linalg.norm(wanted) > 0.995


def units_of(objects: LabelledSplats, levels: Granularity) -> LabelledSplats:
    """The finest level, as the page has its splats."""
    return as_page_has_them(levels.at(objects, max(levels.labels)))


def test_a_page_without_levels_has_no_slider(opened: Open, tmp_path: Path) -> None:
    page = opened(write_page(tmp_path, splats()))
    page.evaluate("iqgs.ready")
    assert not page.locator("#levels").is_visible()
    page.keyboard.press("p")
    assert page.evaluate("iqgs.state()")["level"] == 0
