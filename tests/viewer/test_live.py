# SPDX-License-Identifier: Apache-2.0
"""The live view: what it hands to viser, what a click means, and the window in a browser."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from gaussian_renderer import Renderer
from iqgs.objects.granularity import Division, granularity
from iqgs.objects.labelled import LabelledSplats
from iqgs.viewer.live import LiveView, Outside, enlargement, splat_arrays, start_server
from iqgs.viewer.picking import met_object, ray_camera
from scripts import view as view_script
from utils.entry import run_command
from utils.errors import UserError

from .conftest import NAMES, cameras, splats

RENDERER = Renderer(torch.zeros(3), "auto", 0.0)


@pytest.mark.parametrize("dims", [2, 3])
def test_discs_become_covariances_of_rank_two(dims: int) -> None:
    objects = splats(dims)
    _, covariances, _, _ = splat_arrays(objects)
    found = np.linalg.eigvalsh(covariances.astype(np.float64))
    scales = objects.splats.scales.detach().double().sort(dim=1).values.numpy()
    np.testing.assert_allclose(found[:, 3 - dims :], scales**2, rtol=1e-4)
    if dims == 2:
        assert np.abs(found[:, 0]).max() < 1e-6 * found[:, 2].max()
    times = enlargement(covariances)
    half = (covariances * times**2).astype(np.float16)
    assert np.isfinite(half).all()
    small = np.abs(covariances) * times**2
    assert (small[small > 0] > 6e-5).mean() > 0.95  # few are among half precision's subnormals


@pytest.mark.parametrize("dims", [2, 3])
def test_a_ray_meets_the_object_with_the_most_weight(dims: int) -> None:
    """Rays through a camera's pixels find what the weights of its whole picture say."""
    objects = splats(dims)
    camera = cameras()[0]
    numbers = torch.unique(objects.labels)
    lens = RENDERER.lens(camera, objects.splats)
    pictures = lens.splat((objects.labels[:, None] == numbers).float())
    compared = agreed = 0
    for y in range(8, camera.height, 11):
        for x in range(8, camera.width, 11):
            shares = pictures[:, y, x]
            best, second = shares.topk(2).values
            rest = 1 - float(shares.sum())
            if abs(float(best) - max(float(second), rest)) < 0.1:
                continue  # the ray's own pixel is smaller than the camera's
            wanted = None if rest > best else int(numbers[shares.argmax()])
            ray = camera.ray_directions(torch.tensor([[x + 0.5, y + 0.5]]))[0]
            compared += 1
            agreed += met_object(objects, RENDERER, ray_camera(camera.center, ray)) == wanted
    assert compared > 60 and agreed >= 0.97 * compared


class FakeServer:
    """Takes what a view adds to it, and lets a test press."""

    def __init__(self) -> None:
        self.buttons: dict[str, Any] = {}
        self.nodes: dict[str, Any] = {}
        self.scene = MagicMock()
        self.scene.add_gaussian_splats.side_effect = self.add_node
        self.scene.on_click.return_value = lambda function: setattr(self, "click", function)
        self.gui = MagicMock()
        self.gui.add_button.side_effect = self.add_button
        for kind, value in (("dropdown", "none"), ("text", ""), ("checkbox", False), ("slider", 0)):
            widget = MagicMock(value=value)
            setattr(self, kind, widget)
            getattr(self.gui, f"add_{kind}").return_value = widget
        self.markdown = self.gui.add_markdown.return_value

    def add_node(self, name: str, **values: Any) -> Any:
        self.nodes[name] = SimpleNamespace(visible=True, **values)
        return self.nodes[name]

    def add_button(self, label: str) -> Any:
        self.buttons[label] = MagicMock()
        return self.buttons[label]

    def press(self, label: str) -> None:
        self.buttons[label].on_click.call_args[0][0](None)

    def changed(self, widget: str, value: object) -> None:
        getattr(self, widget).value = value
        getattr(self, widget).on_update.call_args[0][0](None)


@pytest.fixture
def fake() -> tuple[FakeServer, LiveView, list[int]]:
    server, calls = FakeServer(), []

    def export(_: LabelledSplats, number: int) -> str:
        calls.append(number)
        return f"{number}.ply"

    view = LiveView(server, splats(), RENDERER, Outside(export))
    return server, view, calls


def test_every_object_is_a_node_with_its_splats(
    fake: tuple[FakeServer, LiveView, list[int]],
) -> None:
    server, _, _ = fake
    objects = splats()
    assert set(server.nodes) == {f"/objects/{n}" for n in (0, 3, 7, 300)}
    for number in (0, 3, 7, 300):
        node = server.nodes[f"/objects/{number}"]
        wanted = objects.of(number).splats.means.detach().numpy()
        np.testing.assert_allclose(node.centers * node.scale, wanted, rtol=1e-5)


def test_panel_and_window_follow_each_other(
    fake: tuple[FakeServer, LiveView, list[int]],
) -> None:
    server, view, calls = fake
    server.press("Hide")
    assert "choose an object first" in server.markdown.content
    server.changed("dropdown", next(e for e in server.dropdown.options if e.startswith("3 cup")))
    assert view.desk.chosen == 3 and server.text.value == "cup"
    assert not np.allclose(server.nodes["/objects/3"].rgbs, view.colors[3])  # is marked
    server.press("Hide")
    assert [n.visible for n in server.nodes.values()] == [True, False, True, True]
    server.press("Isolate")
    assert [n.visible for n in server.nodes.values()] == [False, True, False, False]
    server.press("Undo")
    server.press("Undo")
    assert all(n.visible for n in server.nodes.values())
    server.changed("text", "mug")
    assert view.desk.state.names[3] == "mug" and "last as long" in server.markdown.content
    server.press("Export PLY")
    assert calls == [3] and "3.ply" in server.markdown.content
    server.press("Undo")
    assert view.desk.state.names[3] == "cup" and server.text.value == "cup"
    server.changed("checkbox", True)
    shown = server.nodes["/objects/7"].rgbs
    assert np.ptp(shown / np.linalg.norm(shown, axis=1, keepdims=True), axis=0).max() < 1e-5


def test_a_click_chooses_and_names_are_kept(
    fake: tuple[FakeServer, LiveView, list[int]],
) -> None:
    server, view, _ = fake
    kept: list[tuple[int, str]] = []
    view.outside = Outside(view.outside.export, lambda n, name: kept.append((n, name)))
    view.desk.choose(7)
    view.desk.isolate()
    middle = splats().of(7).splats.means.detach().median(dim=0).values.numpy()
    start = np.array([0.0, -5.0, 0.5])
    server.click(SimpleNamespace(ray_origin=tuple(start), ray_direction=tuple(middle - start)))
    assert view.desk.chosen == 7
    server.changed("text", "ball")
    server.press("Undo")
    assert [n for n, _ in kept] == [7, 7] and kept[0][1] == "ball"

    def refuse(number: int, name: str) -> None:
        raise UserError(f"{name} is taken")

    view.outside = Outside(view.outside.export, refuse)
    server.changed("text", "cup")
    assert "cup is taken" in server.markdown.content
    assert view.desk.label(7) == "7 " + NAMES[7] and server.text.value == NAMES[7]
    away = SimpleNamespace(ray_origin=tuple(start), ray_direction=(0.0, -1.0, 0.0))
    server.click(away)
    assert view.desk.chosen is None and "nothing there" in server.markdown.content


def test_without_viser_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(UserError, match="pip install 'viser"):
        start_server(8080)
    monkeypatch.setattr(sys, "argv", ["view.py"])
    assert run_command(view_script.main) == 2
    assert "model_path (-m)" in capsys.readouterr().err
    # It is said before a run, which may be large, is opened: this one is not there at all.
    monkeypatch.setattr(sys, "argv", ["view.py", "-m", "nowhere"])
    assert run_command(view_script.main) == 2
    assert "viser, which is not installed" in capsys.readouterr().err


@pytest.fixture
def served() -> Iterator[tuple[LiveView, str, list[int]]]:
    pytest.importorskip("viser", reason="pip install 'viser>=1.1,<2'")
    exported: list[int] = []

    def export(_: LabelledSplats, number: int) -> str:
        exported.append(number)
        return f"objects/{number}.ply"

    server = start_server(8234)
    view = LiveView(server, splats(), RENDERER, Outside(export))
    view.look_from(cameras()[:2])
    yield view, f"http://127.0.0.1:{server.get_port()}", exported
    server.stop()


@pytest.mark.fault(row=40)
def test_only_this_machine_reaches_it(served: tuple[LiveView, str, list[int]]) -> None:
    port = int(served[1].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    if sys.platform == "linux":  # all of 127/8 is this machine, but only one address is bound
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.2", port), timeout=5)
    assert served[0].server.request_share_url() is None


def test_the_window_shows_picks_hides_and_exports(
    served: tuple[LiveView, str, list[int]], browser: Any
) -> None:
    view, address, exported = served
    page = browser.new_page(viewport={"width": 900, "height": 600})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.get_by_role("button", name="Isolate").wait_for()

    def pause_until(what: Callable[[], bool]) -> None:
        for _ in range(600):
            if what():
                return
            page.wait_for_timeout(100)
        pytest.fail("nothing happened within a minute")

    def seen() -> np.ndarray:
        from io import BytesIO

        from PIL import Image

        shot = page.screenshot(clip={"x": 0, "y": 200, "width": 500, "height": 400})
        return np.asarray(Image.open(BytesIO(shot)).convert("RGB")).astype(int)

    pause_until(lambda: seen().std() > 15)  # splats on a plain ground
    spots = [(x, y) for y in range(250, 500, 50) for x in range(100, 500, 60)]
    for x, y in spots:
        page.mouse.click(x, y)
        page.wait_for_timeout(250)
        if view.desk.chosen:
            break
    before = seen()
    page.get_by_role("button", name="Hide").click()
    pause_until(lambda: bool(view.desk.state.hidden))
    # What was hidden, not what was chosen a moment before: a click may arrive after its time.
    (chosen,) = view.desk.state.hidden
    assert chosen in (3, 7, 300)
    pause_until(lambda: np.abs(seen() - before).mean() > 1)
    page.get_by_role("button", name="Export PLY").click()
    pause_until(lambda: exported == [chosen])
    page.get_by_role("button", name="Undo").click()
    pause_until(lambda: not view.desk.state.hidden)
    outside = [url for url in asked if not url.startswith((address, "blob:", "data:"))]
    page.close()
    assert not outside


def test_objects_without_frame_or_cameras_are_shown() -> None:
    objects = splats()
    bare = LabelledSplats(objects.splats, objects.labels, objects.confidence)
    server = FakeServer()
    LiveView(server, bare, RENDERER, Outside(lambda *_: "")).look_from([])
    server.scene.set_up_direction.assert_not_called()


def test_the_slider_puts_another_level_on_the_desk() -> None:
    """3 and 7 are a group, 7 has two parts; what is hidden stays hidden."""
    objects = splats()
    half = (objects.of(7).splats.means[:, 0] > 0).long().numpy()
    tree = granularity(objects, Division({7: [half]}, [{3: 0, 7: 0, 300: 1}]), ())
    server, exported = FakeServer(), []

    def export(seen: LabelledSplats, number: int) -> str:
        exported.append((number, len(seen.of(number))))
        return ""

    view = LiveView(server, objects, RENDERER, Outside(export), tree)
    assert set(server.nodes) == {f"/objects/{n}" for n in (0, 3, 300, 302, 303)}
    assert view.desk.numbers == (0, 3, 7, 300)
    server.changed("dropdown", next(e for e in server.dropdown.options if e.startswith("7 ")))
    server.press("Hide")
    visible = {name for name, node in server.nodes.items() if node.visible}
    assert visible == {f"/objects/{n}" for n in (0, 3, 300)}
    server.changed("slider", 1)
    assert view.desk.numbers == (0, 3, 300, 302, 303) and view.desk.chosen is None
    assert {name for name, node in server.nodes.items() if node.visible} == visible
    assert "level 1: 4 to choose from" in server.markdown.content
    server.changed("slider", -1)  # of the group, 3 is shown
    assert view.desk.numbers == (0, 300, 301) and all(n.visible for n in server.nodes.values())
    view.desk.choose(301)
    server.press("Export PLY")
    assert exported == [(301, len(objects.of(3)) + len(objects.of(7)))]
