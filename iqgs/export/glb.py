# SPDX-License-Identifier: Apache-2.0
"""Splats as binary glTF 2.0 with KHR_gaussian_splatting: one node an object.

The extension's ellipse kernel keeps a splat as a point with linear scales, a unit quaternion
(xyzw), an opacity in 0..1 and harmonics; a disc is an ellipsoid of vanishing thickness. A reader
without the extension sees coloured points. The number of an object is in its node
(`extras.instance`) and per splat as feature id (EXT_mesh_features); `_INSTANCE_CONF` says how sure
it is.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from iqgs.export.activations import (
    constant_colors,
    sigmoid,
    srgb_to_linear,
    unit_quaternions,
)
from iqgs.export.frames import UprightFrame
from iqgs.export.record import ObjectRows, SplatArrays
from utils.errors import UserError
from utils.storage import atomic_write

SPLATTING = "KHR_gaussian_splatting"
FEATURES = "EXT_mesh_features"
_KERNEL = {
    "kernel": "ellipse",
    "colorSpace": "srgb_rec709_display",
    "projection": "perspective",
    "sortingMethod": "cameraDistance",
}
_COMPONENTS = {np.dtype(np.float32): 5126, np.dtype(np.uint8): 5121}
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
_ARRAY_BUFFER = 34962
_POINTS = 0
LARGEST = 2**32 - 1  # bytes of a binary glTF: its length is a 32-bit number
EXACT_FLOAT = 2**24  # whole numbers below it are exact in float32


@dataclass
class _Document:
    """The JSON and the arrays of its one buffer, in order."""

    arrays: list[NDArray[Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    accessors: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0

    def add_view(self, array: NDArray[Any]) -> int:
        """Append an array [N, C] whose rows are multiples of four bytes; its index."""
        array = np.ascontiguousarray(array)
        self.arrays.append(array)
        self.views.append(
            {
                "buffer": 0,
                "byteOffset": self.size,
                "byteLength": array.nbytes,
                "byteStride": array.strides[0],  # required: the accessors of objects share it
                "target": _ARRAY_BUFFER,
            }
        )
        self.size += array.nbytes
        return len(self.views) - 1

    def add_accessor(self, view: int, rows: ObjectRows, bounds: bool = False) -> int:
        """Those rows of an array as an accessor; positions must say their bounds."""
        array = self.arrays[view]
        accessor: dict[str, Any] = {
            "bufferView": view,
            "byteOffset": rows.first * array.strides[0],
            "componentType": _COMPONENTS[array.dtype],
            "count": rows.count,
            "type": _TYPES[array.shape[1]],
        }
        if array.dtype == np.uint8:
            accessor["normalized"] = True
        if bounds:
            part = array[rows.rows]
            accessor["min"] = [float(v) for v in part.min(axis=0)]
            accessor["max"] = [float(v) for v in part.max(axis=0)]
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def write_glb(path: Path, splats: SplatArrays) -> None:
    """Write splats as binary glTF, +Y up, atomically. UserError where they are too many for it."""
    frame = UprightFrame.of(splats.frame)
    ordered, groups = splats.by_object()
    document = _Document()
    views = {name: document.add_view(array) for name, array in _attributes(ordered, frame).items()}
    meshes = [_mesh(document, views, group) for group in groups]
    nodes = [
        {
            "name": group.name,
            "mesh": index,
            "extras": {"instance": group.number, "splats": group.count},
        }
        for index, group in enumerate(groups)
    ]
    root = {"name": "splats", "children": list(range(len(nodes)))}
    tree = {
        "asset": {"version": "2.0", "generator": "IQGS", "extras": {"frame": frame.described()}},
        "extensionsUsed": [SPLATTING, FEATURES],
        "scene": 0,
        "scenes": [{"name": "scene", "nodes": [len(nodes)]}],
        "nodes": [*nodes, root],
        "meshes": meshes,
        "accessors": document.accessors,
        "bufferViews": document.views,
        "buffers": [{"byteLength": document.size}],
    }
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + document.size
    if total > LARGEST:
        raise UserError(
            f"{path}: {len(splats)} splats are {total / 1e9:.1f} GB, a binary glTF holds 4.3; "
            "choose objects with --id"
        )
    atomic_write(path, lambda stream: _dump(stream, text, document, total), total)


def _dump(stream: BinaryIO, text: bytes, document: _Document, total: int) -> None:
    stream.write(struct.pack("<4sII", b"glTF", 2, total))
    stream.write(struct.pack("<I4s", len(text), b"JSON") + text)
    stream.write(struct.pack("<I4s", document.size, b"BIN\0"))
    for array in document.arrays:
        stream.write(array.data)


def _mesh(document: _Document, views: dict[str, int], group: ObjectRows) -> dict[str, Any]:
    attributes = {
        name: document.add_accessor(view, group, bounds=name == "POSITION")
        for name, view in views.items()
    }
    extensions: dict[str, Any] = {SPLATTING: _KERNEL}
    if "_FEATURE_ID_0" in views and group.number:
        ids = {"featureCount": 1, "nullFeatureId": 0, "attribute": 0, "label": "instance"}
        extensions[FEATURES] = {"featureIds": [ids]}
    primitive = {"attributes": attributes, "mode": _POINTS, "extensions": extensions}
    return {"name": group.name, "primitives": [primitive]}


def _attributes(splats: SplatArrays, frame: UprightFrame) -> dict[str, NDArray[Any]]:
    """The attributes [N, C] of all splats, by semantic."""
    raw = frame.turned(splats.raw)
    opacities = sigmoid(raw["opacity_logits"])
    names: dict[str, NDArray[Any]] = {
        "POSITION": raw["means"],
        "COLOR_0": _fallback_colors(raw["sh_dc"][:, 0], opacities),
        f"{SPLATTING}:ROTATION": unit_quaternions(raw["quaternions"])[:, [1, 2, 3, 0]],
        f"{SPLATTING}:SCALE": np.exp(splats.log_scales),
        f"{SPLATTING}:OPACITY": opacities,
        f"{SPLATTING}:SH_DEGREE_0_COEF_0": raw["sh_dc"][:, 0],
    }
    rest = raw["sh_rest"]
    for column in range(rest.shape[1]):
        degree = int(np.sqrt(column + 1))
        name = f"{SPLATTING}:SH_DEGREE_{degree}_COEF_{column + 1 - degree * degree}"
        names[name] = rest[:, column]
    if splats.labels.max(initial=0) < EXACT_FLOAT:  # beyond it only the node tells
        names["_FEATURE_ID_0"] = splats.labels[:, None].astype(np.float32)
    names["_INSTANCE_CONF"] = splats.confidence[:, None]
    return {n: a if a.dtype == np.uint8 else a.astype(np.float32) for n, a in names.items()}


def _fallback_colors(sh_dc: NDArray[Any], opacities: NDArray[Any]) -> NDArray[np.uint8]:
    """Colours [N, 4] for a reader of points: linear, as glTF has them, where ours are sRGB.

    Eight bits, because not every reader knows that there are sixteen.
    """
    linear = srgb_to_linear(constant_colors(sh_dc))
    return np.round(np.concatenate([linear, opacities], axis=1) * 255).astype(np.uint8)
