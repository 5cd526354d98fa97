# SPDX-License-Identifier: Apache-2.0
"""What the export of an annotation tool holds: images with annotations, in whatever format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from scene.masks import MaskLayers

Bools = NDArray[np.bool_]
Size = tuple[int, int]  # (height, width)


@dataclass(frozen=True)
class Annotation:
    """One mask of one image, drawn when it is needed."""

    draw: Callable[[Size], Bools]  # mask [height, width]; ValueError where the shape is damaged
    label: str  # class or name; "" = none
    track: str = ""  # the same for one object in all images; "" = none
    group: str = ""  # annotations of one label and group in one image are parts of one object
    is_crowd: bool = False  # not one object: these pixels are no target


@dataclass(frozen=True)
class AnnotatedImage:
    """The annotations of one image."""

    name: str  # as the export has it, with its sub-path, posix separators
    size: Size | None  # None: that of the photograph
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True)
class Export:
    """The images of an export, and what of it cannot be masks."""

    kind: str
    source: Path  # the file or folder that was read
    images: tuple[AnnotatedImage, ...]
    notices: tuple[str, ...] = ()
    in_order: bool = False  # images are frames: the k-th is the k-th photograph


@dataclass(frozen=True)
class Numbering:
    """The numbers of the objects of an export, and what they mean."""

    coding: str  # ids: the same in all images; view: each image its own
    numbers: dict[tuple[int, int], int]  # (image, annotation) -> number from 1
    names: dict[int, str]
    notices: tuple[str, ...]


def number_objects(images: tuple[AnnotatedImage, ...]) -> Numbering:
    """Which annotations are one object.

    Tracks say so. Without any, a label that no image has twice is taken for the name of one object.
    Else nothing tells, and each image numbers its objects anew. Crowds have no number.
    """
    found = [_objects_of(image) for image in images]
    tracks = {key for parts in found for key in parts.values() if key[0] == "track"}
    if tracks:
        return _by_track(images, found)
    named = all(key[1] for parts in found for key in parts.values())
    once = all(
        len({key[1] for key in parts.values()}) == len(set(parts.values())) for parts in found
    )
    if named and once and any(found):
        return _by_label(found)
    numbers = {}
    for place, parts in enumerate(found):
        order = {key: number for number, key in enumerate(dict.fromkeys(parts.values()), 1)}
        numbers.update({(place, index): order[key] for index, key in parts.items()})
    return Numbering("view", numbers, {}, ())


# Position of an annotation -> what it has in common with others of its object.
_Objects = dict[int, tuple[str, str, str]]


def _objects_of(image: AnnotatedImage) -> _Objects:
    """Of all annotations of an image but crowds."""
    found = {}
    for index, item in enumerate(image.annotations):
        if item.is_crowd:
            continue
        alone = f"group {item.group}" if item.group else f"alone {index}"
        found[index] = ("track", item.track, "") if item.track else ("part", item.label, alone)
    return found


def _by_track(images: tuple[AnnotatedImage, ...], found: list[_Objects]) -> Numbering:
    """The tracks' own numbers where all are whole ones; what has no track is alone."""
    tracks = {key[1] for parts in found for key in parts.values() if key[0] == "track"}
    whole = all(
        track.isascii() and track.isdecimal() and 0 < int(track) < 2**31 for track in tracks
    )
    ordered = sorted(tracks, key=int) if whole else sorted(tracks)
    number_of = {track: int(track) if whole else k for k, track in enumerate(ordered, 1)}
    first = max(number_of.values()) + 1
    alone: dict[tuple[int, tuple[str, str, str]], int] = {}
    numbers: dict[tuple[int, int], int] = {}
    names: dict[int, str] = {}
    for place, parts in enumerate(found):
        for index, key in parts.items():
            if key[0] == "track":
                number = number_of[key[1]]
            else:
                number = alone.setdefault((place, key), first + len(alone))
            numbers[place, index] = number
            label = images[place].annotations[index].label
            if label:
                names.setdefault(number, label)
    words = f"{len(alone)} masks belong to no track: each is an object of one image alone"
    return Numbering("ids", numbers, names, (words,) if alone else ())


def _by_label(found: list[_Objects]) -> Numbering:
    labels = sorted({key[1] for parts in found for key in parts.values()})
    number_of = {label: number for number, label in enumerate(labels, 1)}
    numbers = {
        (place, index): number_of[key[1]]
        for place, parts in enumerate(found)
        for index, key in parts.items()
    }
    words = (
        f"no image has a label twice, so each of the {len(labels)} labels is taken for one object "
        "in all images"
    )
    return Numbering(
        "ids", numbers, {number: label for label, number in number_of.items()}, (words,)
    )


def drawn(image: AnnotatedImage, place: int, numbering: Numbering, size: Size) -> MaskLayers:
    """The masks of an image at a size (height, width); sources are the numbers.

    ValueError where a shape is damaged.
    """
    packed, sources = [], []
    ignored = np.zeros(size, bool)
    for index, item in enumerate(image.annotations):
        mask = item.draw(size)
        if mask.shape != size:
            raise ValueError(f"a mask of {mask.shape[1]}x{mask.shape[0]} pixels")
        if item.is_crowd:
            ignored |= mask
        elif mask.any():
            packed.append(np.packbits(mask))
            sources.append(numbering.numbers[place, index])
    bits = np.array(packed, np.uint8).reshape(len(packed), -(-size[0] * size[1] // 8))
    hidden = np.packbits(ignored) if ignored.any() else None
    return MaskLayers.from_bits(size, bits, np.array(sources, np.int64), ignored=hidden)


def matched_images(export: Export, names: list[str]) -> dict[int, str]:
    """Position of an image in the export -> name of the photograph, where there is just one.

    Names agree wholly, or without suffix, or without sub-folder, or without both; letter case does
    not count. Frames without names are the photographs in their order, if there are as many.
    """
    if export.in_order:
        if len(export.images) != len(names):
            return {}
        return dict(enumerate(names))
    owners: dict[str, set[str]] = {}
    for name in names:
        for key in _keys(name):
            owners.setdefault(key, set()).add(name)
    found: dict[int, str] = {}
    taken: set[str] = set()
    for place, image in enumerate(export.images):
        fitting = (owners.get(key, set()) for key in _keys(image.name))
        photograph = next((next(iter(one)) for one in fitting if len(one) == 1), None)
        if photograph is not None and photograph not in taken:
            taken.add(photograph)
            found[place] = photograph
    return found


def _keys(name: str) -> list[str]:
    """What names of one image have in common, the surest first."""
    path = PurePosixPath(name.replace("\\", "/"))
    whole, bare = path.as_posix(), path.with_suffix("").as_posix()
    keys = (whole, bare, path.name, path.stem)
    return [f"{rank // 2} {key.casefold()}" for rank, key in enumerate(keys)]
