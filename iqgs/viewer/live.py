# SPDX-License-Identifier: Apache-2.0
"""Objects in a browser that talks to this program, through viser (an optional package).

Discs are handed over as Gaussians whose covariance has rank two.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gaussian_renderer import Renderer
from iqgs.objects.granularity import Granularity
from iqgs.objects.labelled import LabelledSplats
from iqgs.viewer.desk import Desk
from iqgs.viewer.page_file import first_view, scene_size
from iqgs.viewer.picking import met_object, ray_camera
from scene.cameras import Camera
from scene.frame import up_direction
from utils.colors import id_color
from utils.errors import IQGSError, UserError
from utils.spherical_harmonics import sh_dc_to_rgb

LOOPBACK = "127.0.0.1"
CHOSEN = (1.0, 0.75, 0.1)  # the colour that is mixed into the chosen object
LARGEST_HALF = 2.0**15  # covariances travel in half precision; this leaves room below its end
NO_OBJECT = (0.43, 0.43, 0.43)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Outside:
    """What a view asks of the rest of the program."""

    export: Callable[[LabelledSplats, int], str]  # write an object; says where
    keep_name: Callable[[int, str], None] | None = None  # None: names last as long as the view


def require_viser() -> Any:
    """The package viser. UserError where it is missing."""
    try:
        import viser
    except ImportError:
        raise UserError(
            "view.py shows scenes with viser, which is not installed: pip install 'viser>=1.1,<2'; "
            "scripts/export_html.py needs nothing"
        ) from None
    return viser


def start_server(port: int) -> Any:
    """A viser server that only this machine reaches. UserError where viser is missing."""
    viser = require_viser()
    server = viser.ViserServer(host=LOOPBACK, port=port, label="IQGS", verbose=False)
    # viser can open a tunnel to the outside when a client asks for one: not here.
    server.gui.configure_theme(show_share_button=False)
    server.request_share_url = _share_nothing
    return server


def _share_nothing(*_: object, **__: object) -> None:
    return None


def splat_arrays(objects: LabelledSplats) -> tuple[Floats, Floats, Floats, Floats]:
    """Centres [N, 3], covariances [N, 3, 3], colours [N, 3] and opacities [N, 1] for viser."""
    splats = objects.splats
    with torch.no_grad():
        axes = splats.axes() * splats.scales[:, None, :]
        covariances = axes @ axes.transpose(1, 2)
        colors = sh_dc_to_rgb(splats.params["sh_dc"][:, 0]).clamp(0, 1)
        found = (splats.means, covariances, colors, splats.opacities)
        centers, spread, shown, solid = (array.float().cpu().numpy() for array in found)
    return centers, spread, shown, solid


def enlargement(covariances: Floats) -> float:
    """By how much lengths are multiplied so that variances fit half precision: as many as can be
    stay clear of its smallest numbers, and none exceeds its largest."""
    largest = float(covariances.max(initial=0.0))
    return float(np.sqrt(LARGEST_HALF / largest)) if largest > 0 else 1.0


class LiveView:
    """The window: one node of the scene an object, and the panel beside it."""

    def __init__(
        self,
        server: Any,
        objects: LabelledSplats,
        renderer: Renderer,
        outside: Outside,
        levels: Granularity | None = None,
        level: int = 0,
    ) -> None:
        self.server, self.renderer, self.outside = server, renderer, outside
        self.given, self.levels, self.level = objects, levels, level
        # A node of the scene for each set of splats that no level divides.
        self.units = objects if levels is None else levels.at(objects, max(levels.labels))
        self._take_level(level, frozenset())
        self.instances = False
        self.lock = threading.RLock()  # callbacks come from several threads
        self.nodes: dict[int, Any] = {}
        self.colors: dict[int, Floats] = {}
        self._painted: dict[int, tuple[int, bool, bool]] = {}
        self._add_splats()
        self._add_panel()
        server.scene.on_click()(self._guarded(self._clicked))
        self.refresh("click an object")

    def look_from(self, cameras: list[Camera]) -> None:
        """Begin upright, at the photograph that shows most objects."""
        up = self.objects.frame.up or up_direction(cameras)
        if up is not None:
            self.server.scene.set_up_direction(up)
        if not cameras:
            return
        camera = cameras[first_view(self.objects, cameras)]
        start = self.server.initial_camera
        center, ahead = camera.center.numpy(), camera.forward.numpy()
        start.position = tuple(center)
        start.look_at = tuple(center + ahead * scene_size(self.objects) / 3)
        start.fov = camera.fovy
        start.near = min(0.01, camera.near)

    def _take_level(self, level: int, hidden: frozenset[int]) -> None:
        """Put the objects of a level on the desk; those of which all units are hidden stay so."""
        self.level = level
        self.objects = self.given if self.levels is None else self.levels.at(self.given, level)
        units = self.units.labels.tolist()
        self.home = dict(zip(units, self.objects.labels.tolist(), strict=True))
        shown = {number for unit, number in self.home.items() if unit not in hidden}
        numbers = sorted(set(self.home.values()))
        self.sizes = dict(
            zip(*map(Tensor.tolist, self.objects.labels.unique(return_counts=True)), strict=True)
        )
        self.desk = Desk(numbers, self.objects.names, frozenset(numbers) - shown)

    def _add_splats(self) -> None:
        centers, covariances, colors, opacities = splat_arrays(self.units)
        times = enlargement(covariances)
        for number in sorted(self.home):
            mine = (self.units.labels == number).numpy()
            self.colors[number] = colors[mine]
            self.nodes[number] = self.server.scene.add_gaussian_splats(
                f"/objects/{number}",
                centers=centers[mine] * times,
                covariances=covariances[mine] * times**2,
                rgbs=colors[mine],
                opacities=opacities[mine],
                scale=1 / times,
            )
            self._painted[number] = (self.home[number], False, False)

    def _add_panel(self) -> None:
        gui = self.server.gui
        self.status = gui.add_markdown("")
        if self.levels is not None:
            known = sorted(self.levels.labels)
            self.leveled = gui.add_slider(
                "level (groups - objects - parts)", known[0], known[-1], 1, self.level
            )
            self.leveled.on_update(self._guarded(self._leveled))
        self.listed = gui.add_dropdown("object", ["none"])
        self.named = gui.add_text("name", "")
        self.colored = gui.add_checkbox("instance colours", False)
        self.listed.on_update(self._guarded(self._listed))
        self.named.on_update(self._guarded(self._named))
        self.colored.on_update(self._guarded(self._colored))
        for label, action in (
            ("Hide", lambda _: self.desk.hide()),
            ("Isolate", lambda _: self.desk.isolate()),
            ("Show all", lambda _: self.desk.show_all()),
            ("Undo", self._undone),
            ("Export PLY", self._exported),
        ):
            gui.add_button(label).on_click(self._guarded(action))

    def _guarded(self, action: Callable[[Any], str | None]) -> Callable[[Any], None]:
        """One at a time; what an action says, or why it cannot be done, stands in the panel."""

        @functools.wraps(action)
        def run(event: Any) -> None:
            with self.lock:
                try:
                    said = action(event)
                except IQGSError as error:
                    said = str(error)
                if said is not None:
                    self.refresh(said)

        return run

    def _clicked(self, event: Any) -> str:
        shown = torch.isin(self.objects.labels, torch.tensor(self.desk.shown, dtype=torch.int64))
        camera = ray_camera(event.ray_origin, event.ray_direction)
        met = met_object(self.objects.rows(shown), self.renderer, camera)
        self.desk.choose(met)
        return "nothing there" if met is None else self.desk.label(met)

    def _leveled(self, _: Any) -> str | None:
        level = int(self.leveled.value)
        if level == self.level:
            return None
        hidden = self.desk.state.hidden
        self._take_level(level, frozenset(u for u, n in self.home.items() if n in hidden))
        things = len(self.desk.numbers) - (0 in self.desk.numbers)
        return f"level {level}: {things} to choose from"

    def _listed(self, _: Any) -> str | None:
        number = next((n for n in self.desk.numbers if self._entry(n) == self.listed.value), None)
        if number == self.desk.chosen:
            return None
        self.desk.choose(number)
        return "" if number is None else self.desk.label(number)

    def _named(self, _: Any) -> str | None:
        number, text = self.desk.chosen, self.named.value.strip()
        if number is None or text == self.desk.state.names.get(number, ""):
            return None
        said = self.desk.name(text)
        try:
            return said + self._keep_names({number})
        except IQGSError as error:  # a name that cannot be kept is none
            self.desk.undo()
            return str(error)

    def _undone(self, _: Any) -> str:
        before = dict(self.desk.state.names)
        said = self.desk.undo()
        after = self.desk.state.names
        changed = {n for n in {*before, *after} if before.get(n) != after.get(n)}
        return said + self._keep_names(changed)

    def _keep_names(self, changed: set[int]) -> str:
        keep = self.outside.keep_name
        if changed and keep is None:
            return " (names here last as long as this window)"
        if keep is not None:
            for number in sorted(changed):
                keep(number, self.desk.state.names.get(number, ""))
        return ""

    def _colored(self, _: Any) -> str | None:
        if self.instances == self.colored.value:
            return None
        self.instances = self.colored.value
        return "instance colours" if self.instances else "colours"

    def _exported(self, _: Any) -> str:
        number = self.desk.chosen
        if number is None or number == 0:
            raise UserError("choose an object first: click it, or take it from the list")
        return self.outside.export(self.objects, number)

    def _entry(self, number: int) -> str:
        hidden = " (hidden)" if number in self.desk.state.hidden else ""
        return f"{self.desk.label(number)}: {self.sizes[number]}{hidden}"

    def refresh(self, said: str) -> None:
        """Bring window and panel in line with the desk."""
        chosen = self.desk.chosen
        for unit, node in self.nodes.items():
            number = self.home[unit]
            node.visible = number not in self.desk.state.hidden
            look = (number, self.instances, number == chosen)
            if self._painted.get(unit) != look:
                self._painted[unit] = look
                node.rgbs = painted(self.colors[unit], *look)
        self.listed.options = ["none", *(self._entry(number) for number in self.desk.numbers)]
        self.listed.value = "none" if chosen is None else self._entry(chosen)
        self.named.value = "" if chosen is None else self.desk.state.names.get(chosen, "")
        self.status.content = f"**{said}**" if said else "&nbsp;"


def painted(colors: Floats, number: int, instances: bool, chosen: bool) -> Floats:
    """Colours [n, 3] of an object's splats as they are shown."""
    if instances:
        base = id_color(np.array([number]))[0] / 255 if number else np.array(NO_OBJECT)
        light = colors @ np.array([0.299, 0.587, 0.114])
        colors = (base * (0.6 + 0.4 * light[:, None])).astype(np.float32)
    if chosen:
        colors = 0.5 * colors + 0.5 * np.array(CHOSEN, np.float32)
    return colors.astype(np.float32)
