# SPDX-License-Identifier: Apache-2.0
"""The layout of the synthetic room: walls, a laid table, furniture, each placed from one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from arguments.synthetic import FEWEST_OBJECTS, MOST_OBJECTS
from scene.synthetic import furniture as furniture
from scene.synthetic import items as items
from scene.synthetic.parts import Painter, Part, Thing, enlarged, placed, rgb, turned
from scene.synthetic.textures import Texture

Array = np.ndarray

HALF = 3.4  # metres from the middle to each wall: the room of 6.8 m that the method was measured in
HEIGHT = 3.4  # above what the cameras see, mostly
SHELL = ("floor", "wall north", "wall west", "wall south", "wall east")
FEWEST, MOST = FEWEST_OBJECTS, MOST_OBJECTS
TRIES = 400
RUG_RADIUS = 1.3
# Things on the table are larger than life, as a picture of 256x192 needs.
LARGER = 1.18
FLOOR_RING = (
    1.35,
    1.85,
)  # where things stand free on the floor: outside the rug, inside the cameras
Cluster = list[Thing]  # things placed relative to one base point, which stand or fall together


@dataclass(frozen=True)
class Room:
    """Everything that rays meet.

    Attributes:
        parts: solids inside the room; `thing` is the instance id.
        shell: textures of floor, four walls and ceiling.
        shell_ids: their instance ids.
        names: instance id -> name.
        light: [3] centre of the lamp.
    """

    parts: tuple[Part, ...]
    shell: tuple[Texture, ...]
    shell_ids: tuple[int, ...]
    names: dict[int, str]
    light: Array
    half: float = HALF
    height: float = HEIGHT


@dataclass
class Area:
    """Discs already taken on one surface."""

    spots: list[tuple[float, float, float]]

    def free(self, x: float, y: float, radius: float) -> bool:
        return all(np.hypot(x - a, y - b) > radius + r + 0.01 for a, b, r in self.spots)


class Layout:
    """Places clusters one after another; the generator's order is the only source of chance."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.paint = Painter(rng)
        self.things: list[Thing] = []
        self.table_half = (float(rng.uniform(1.05, 1.15)), float(rng.uniform(0.7, 0.76)))
        self.table_yaw = float(rng.uniform(-0.5, 0.5))
        self.top = float(rng.uniform(0.7, 0.76))
        self.on_table, self.on_floor = Area([]), Area([])
        self.walls = [int(k) for k in rng.permutation(4)]
        self.corners = [int(k) for k in rng.permutation(4)]

    def add(self, cluster: Cluster, at: Array, yaw: float) -> None:
        self.things += [placed(thing, at, turned(z=yaw)) for thing in cluster]

    def stand(self, cluster: Cluster, table: bool = True) -> None:
        """Put a cluster on a free place of the table, or of the floor if there is none."""
        if table:
            cluster = [enlarged(thing, LARGER) for thing in cluster]
        radius = max(float(np.hypot(*t.parts[0].position[:2])) + t.footprint for t in cluster)
        yaw = float(self.rng.uniform(-np.pi, np.pi))
        for attempt in range(2 * TRIES):
            if table and attempt < TRIES:
                spot = self._table_spot(radius)
            else:
                spot = self._floor_spot(radius)
            if spot is not None:
                self.add(cluster, spot, yaw)
                return
        raise RuntimeError("synthetic room: no free place is left; ask for fewer objects")

    def _table_spot(self, radius: float) -> Array | None:
        wide, deep = (h - 0.02 - 0.8 * radius for h in self.table_half)
        if wide <= 0 or deep <= 0:
            return None
        x, y = float(self.rng.uniform(-wide, wide)), float(self.rng.uniform(-deep, deep))
        if not self.on_table.free(x, y, radius):
            return None
        self.on_table.spots.append((x, y, radius))
        return turned(z=self.table_yaw) @ np.array([x, y, self.top])

    def _floor_spot(self, radius: float) -> Array | None:
        far = self.rng.uniform(
            FLOOR_RING[0] + radius, max(FLOOR_RING[1], FLOOR_RING[0] + 1.2 * radius)
        )
        turn = self.rng.uniform(-np.pi, np.pi)
        x, y = float(far * np.cos(turn)), float(far * np.sin(turn))
        if not self.on_floor.free(x, y, radius):
            return None
        self.on_floor.spots.append((x, y, radius))
        return np.array([x, y, 0.0])

    def against_wall(self, thing: Thing, inset: float, height: float, shift: float = 0.0) -> None:
        """Put a thing that faces +x with its back to the next wall."""
        yaw = np.pi / 2 * self.walls.pop()
        self.add([thing], turned(z=yaw) @ np.array([inset - HALF, shift, height]), yaw)

    def in_corner(self, thing: Thing, inset: float) -> None:
        yaw = np.pi / 2 * self.corners.pop()
        self.add([thing], turned(z=yaw) @ np.array([inset - HALF, inset - HALF, 0.0]), yaw)


def stack(paint: Painter) -> Cluster:
    """Three things on top of each other."""
    base = items.box(paint, "low box", 0.2, (0.12, 0.17))
    round_one = paint.rng.uniform() < 0.5
    middle = (
        items.cylinder(paint, "drum", 0.075, 0.09)
        if round_one
        else items.box(paint, "middle box", 0.12, (0.1, 0.15))
    )
    top = items.ball(paint, "top ball", 0.065, 0.085)
    heights = np.cumsum([0.0, base.height, middle.height])
    yaws = paint.rng.uniform(-0.6, 0.6, 3)
    return [
        placed(t, np.array([0.0, 0.0, z]), turned(z=float(yaw)))
        for t, z, yaw in zip((base, middle, top), heights, yaws, strict=True)
    ]


def touching_pair(paint: Painter) -> Cluster:
    """Two boxes face to face."""
    one = items.box(paint, "tall box", 0.13, (0.28, 0.36))
    two = items.box(paint, "short box", 0.11, (0.16, 0.22))
    reach = one.parts[0].shape.half[0] + two.parts[0].shape.half[0]  # type: ignore[attr-defined]
    left, right = np.array([-reach / 2, 0, 0]), np.array([reach / 2, 0.03, 0])
    return [placed(one, left, np.eye(3)), placed(two, right, np.eye(3))]


def books(paint: Painter) -> Cluster:
    low, high = items.book(paint, "lower book"), items.book(paint, "upper book")
    return [low, placed(high, np.array([0.01, 0.0, low.height]), turned(z=paint.size(-0.5, 0.5)))]


def single(
    maker: Callable[..., Thing],
    name: str,
    *sizes: float,
    table: bool = True,
) -> Callable[[Layout], None]:
    """A step that makes one thing and stands it on the table or the floor."""
    return lambda layout: layout.stand([maker(layout.paint, name, *sizes)], table)


def add_table(layout: Layout) -> None:
    board = furniture.table(layout.paint, layout.table_half, layout.top)
    layout.add([board], np.zeros(3), layout.table_yaw)


def add_cabinet(layout: Layout) -> None:
    layout.against_wall(
        furniture.cabinet(layout.paint, "cabinet"), 0.25, 0.0, float(layout.rng.uniform(-0.6, 0.6))
    )


def add_picture(layout: Layout) -> None:
    layout.against_wall(
        furniture.picture(layout.paint, "picture"),
        0.0,
        float(layout.rng.uniform(1.45, 1.6)),
        float(layout.rng.uniform(-0.9, 0.9)),
    )


def add_broom(layout: Layout) -> None:
    layout.against_wall(
        furniture.broom(layout.paint, "broom"), 0.36, 0.0, float(layout.rng.uniform(-1.2, 1.2))
    )


# In the order of need: a smaller room keeps the cases that are hard for segmentation.
STEPS: tuple[Callable[[Layout], None], ...] = (
    add_table,
    lambda layout: layout.stand(stack(layout.paint)),
    single(items.stick, "stick"),
    single(items.ring, "ring"),
    single(items.arch, "arch"),
    lambda layout: layout.stand(touching_pair(layout.paint)),
    lambda layout: layout.stand(books(layout.paint)),
    single(furniture.chair, "chair", table=False),
    lambda layout: layout.add([furniture.rug(layout.paint, RUG_RADIUS)], np.zeros(3), 0.0),
    single(items.bottle, "bottle"),
    single(items.mug, "mug"),
    single(items.ball, "beach ball", 0.19, 0.24, table=False),
    lambda layout: layout.in_corner(furniture.lamp(layout.paint, "lamp"), 0.5),
    single(furniture.crate, "crate", table=False),
    single(items.cone, "cone"),
    add_cabinet,
    lambda layout: layout.in_corner(furniture.plant(layout.paint, "plant"), 0.6),
    add_picture,
    single(items.hoop, "hoop"),
    single(items.vase, "vase"),
    single(items.cube, "die", 0.11),
    single(furniture.stool, "stool", table=False),
    add_broom,
    single(items.egg, "egg"),
    single(items.cushion, "cushion", table=False),
    single(items.plate, "plate"),
    single(items.cylinder, "tin", 0.07, 0.1),
    single(items.cube, "small die", 0.09),
    single(items.ball, "small ball", 0.07, 0.09),
    single(items.cylinder, "pouf", 0.2, 0.24, table=False),
    lambda layout: layout.stand([items.box(layout.paint, "parcel", 0.17, (0.1, 0.2))], False),
)


def shell_textures(rng: np.random.Generator) -> tuple[Texture, ...]:
    """Floor, four walls, ceiling: quiet papers so that the things stand out."""
    phase = [float(p) for p in rng.uniform(0, 6.28, 6)]
    floor = Texture("planks", rgb("b9905f"), rgb("7a5532"), 0.14, phase[0], 0.1)
    papers = (
        ("bands", "dbe4e2", "c3d3d3", 0.5),
        ("plain", "e9dcc6", "000000", 0.6),
        ("waves", "e6e0d2", "d5cbb6", 0.45),
        ("tiles", "cfdac8", "a9bba3", 0.4),
    )
    order = rng.permutation(4)
    walls = [
        Texture(
            papers[k][0], rgb(papers[k][1]), rgb(papers[k][2]), papers[k][3], phase[1 + i], 0.06
        )
        for i, k in enumerate(order)
    ]
    return (floor, *walls, Texture("plain", rgb("f2f0ea"), (0, 0, 0), 0.6, phase[5], 0.03))


def build_room(seed: int, objects: int) -> Room:
    """A room with `objects` things besides floor and walls; the same seed gives the same room.

    Raises:
        ValueError: objects outside FEWEST..MOST.
    """
    if not FEWEST <= objects <= MOST:
        raise ValueError(f"a synthetic room holds {FEWEST} to {MOST} objects, not {objects}")
    rng = np.random.default_rng([seed, 0])
    layout = Layout(rng)
    shell = shell_textures(rng)
    for step in STEPS:
        if len(layout.things) < objects:
            step(layout)
    things = layout.things[:objects]  # a stack at the very end is cut from its top
    first = len(SHELL) + 1
    ids = range(first, first + len(things))
    parts = [replace(p, thing=i) for i, thing in zip(ids, things, strict=True) for p in thing.parts]
    names = dict(enumerate(SHELL, 1)) | {i: t.name for i, t in zip(ids, things, strict=True)}
    names[first + len(things)] = "ceiling"
    light = np.array([rng.uniform(0.4, 1.1), rng.uniform(-1.1, -0.4), HEIGHT - 0.3])
    return Room(tuple(parts), shell, (1, 2, 3, 4, 5, first + len(things)), names, light)
