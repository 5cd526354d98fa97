# SPDX-License-Identifier: Apache-2.0
"""Splats as OpenUSD: one ParticleField prim an object.

Discs have the kernel `ParticleFieldKernelGaussianSurfletAPI`, which is a 2D Gaussian exactly:
nothing is lost. Ellipsoids, and discs as thin ones, are `ParticleField3DGaussianSplat`. Types and
schemas are written by name, so that the file is the same from a USD that does not know them yet.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iqgs.export.activations import constant_colors, sigmoid, srgb_to_linear, unit_quaternions
from iqgs.export.frames import UprightFrame
from iqgs.export.record import SplatArrays
from scene.splat_files.columns import Arrays
from utils.errors import UserError
from utils.storage import atomic_write

if TYPE_CHECKING:
    from pxr import Usd

logger = logging.getLogger(__name__)

SUFFIXES = (".usd", ".usda", ".usdc", ".usdz")
FIELD, ELLIPSOIDS = "ParticleField", "ParticleField3DGaussianSplat"
SURFLETS = "ParticleFieldKernelGaussianSurfletAPI"
_SCHEMAS = (
    "ParticleFieldPositionAttributeAPI",
    "ParticleFieldOrientationAttributeAPI",
    "ParticleFieldScaleAttributeAPI",
    "ParticleFieldOpacityAttributeAPI",
    SURFLETS,
    "ParticleFieldSphericalHarmonicsAttributeAPI",
)
_REACH = 3.0  # standard deviations that the box round an object allows for


def write_usd(path: Path, splats: SplatArrays, as_ellipsoids: bool) -> None:
    """Write splats as OpenUSD, +Y up, atomically; the suffix says which kind of file.

    `as_ellipsoids` makes thin ellipsoids of discs. Raises UserError without the package usd-core.
    """
    try:
        from pxr import Usd
    except ImportError:
        raise UserError(
            f"{path}: OpenUSD files need the package usd-core: pip install usd-core"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        packed = path.suffix.lower() == ".usdz"
        inner = Path(folder, f"scene{'.usdc' if packed else path.suffix.lower()}")
        stage = Usd.Stage.CreateNew(str(inner))
        _fill(stage, splats, as_ellipsoids or not splats.flat)
        stage.GetRootLayer().Save()
        if packed:
            inner = _packed(inner)
        with open(inner, "rb") as source:
            atomic_write(path, lambda out: shutil.copyfileobj(source, out), inner.stat().st_size)


def _packed(inner: Path) -> Path:
    from pxr import Sdf, UsdUtils

    archive = inner.with_suffix(".usdz")
    UsdUtils.CreateNewUsdzPackage(Sdf.AssetPath(str(inner)), str(archive))
    return archive


def _fill(stage: Usd.Stage, splats: SplatArrays, ellipsoids: bool) -> None:
    from pxr import Tf, Usd, UsdGeom

    kind = ELLIPSOIDS if ellipsoids else FIELD
    if Usd.SchemaRegistry().FindConcretePrimDefinition(kind) is None:
        version = ".".join(str(part) for part in Usd.GetVersion())
        logger.warning("usd-core %s does not know %s yet; newer programs do", version, kind)
    frame = UprightFrame.of(splats.frame)
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    # What is not said counts as centimetres.
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.GetRootLayer().customLayerData = {"iqgsFrame": _as_usd(frame.described())}
    root = UsdGeom.Xform.Define(stage, "/splats").GetPrim()
    stage.SetDefaultPrim(root)
    ordered, groups = splats.by_object()
    raw = frame.turned(ordered.raw) | {"log_scales": ordered.log_scales}
    for group in groups:
        name = f"{Tf.MakeValidIdentifier(group.name)}_{group.number}"
        prim = stage.DefinePrim(f"/splats/{name}", kind)
        prim.SetDisplayName(group.name)
        prim.SetCustomDataByKey("iqgs:instance", group.number)
        if not ellipsoids:
            for schema in _SCHEMAS:
                prim.AddAppliedSchema(schema)
        part = {key: array[group.rows] for key, array in raw.items()}
        _set_splats(prim, part)
        _set_object(prim, group.number, ordered.confidence[group.rows])


def _set_splats(prim: Usd.Prim, raw: Arrays) -> None:
    from pxr import Gf, Sdf, Vt

    types = Sdf.ValueTypeNames
    means, scales = raw["means"], np.exp(raw["log_scales"])
    colors = np.concatenate([raw["sh_dc"], raw["sh_rest"]], axis=1)
    vectors = Vt.Vec3fArray.FromNumpy
    turned = np.ascontiguousarray(unit_quaternions(raw["quaternions"])[:, [1, 2, 3, 0]])
    values: tuple[tuple[str, Any, Any], ...] = (
        ("positions", types.Point3fArray, vectors(np.ascontiguousarray(means))),
        ("orientations", types.QuatfArray, Vt.QuatfArray.FromNumpy(turned)),
        ("scales", types.Float3Array, vectors(np.ascontiguousarray(scales))),
        (
            "opacities",
            types.FloatArray,
            Vt.FloatArray.FromNumpy(sigmoid(raw["opacity_logits"][:, 0]).astype(np.float32)),
        ),
        (
            "radiance:sphericalHarmonicsCoefficients",
            types.Float3Array,
            vectors(np.ascontiguousarray(colors.reshape(-1, 3), np.float32)),
        ),
    )
    for name, kind, value in values:
        prim.CreateAttribute(name, kind, custom=False).Set(value)
    degree = prim.CreateAttribute(
        "radiance:sphericalHarmonicsDegree", types.Int, False, Sdf.VariabilityUniform
    )
    degree.Set(int(np.sqrt(colors.shape[1])) - 1)
    reach = _REACH * scales.max(axis=1, keepdims=True)
    box = np.stack([(means - reach).min(axis=0), (means + reach).max(axis=0)])
    prim.CreateAttribute("extent", types.Float3Array, custom=False).Set(
        Vt.Vec3fArray([Gf.Vec3f(*(float(v) for v in corner)) for corner in box])
    )
    mean = srgb_to_linear(constant_colors(raw["sh_dc"][:, 0])).mean(axis=0)
    shown = prim.CreateAttribute("primvars:displayColor", types.Color3fArray, custom=False)
    shown.Set(Vt.Vec3fArray([Gf.Vec3f(*(float(v) for v in mean))]))


def _set_object(prim: Usd.Prim, number: int, confidence: np.ndarray) -> None:
    from pxr import Sdf, UsdGeom, Vt

    primvars = UsdGeom.PrimvarsAPI(prim)
    kinds, tokens = Sdf.ValueTypeNames, UsdGeom.Tokens
    primvars.CreatePrimvar("instance", kinds.Int, tokens.constant).Set(number)
    sure = primvars.CreatePrimvar("instance_conf", kinds.FloatArray, tokens.vertex)
    sure.Set(Vt.FloatArray.FromNumpy(np.ascontiguousarray(confidence)))


def _as_usd(value: Any) -> Any:
    """JSON as values of a USD dictionary, which has no lists of plain numbers."""
    if isinstance(value, dict):
        return {key: _as_usd(item) for key, item in value.items()}
    if isinstance(value, list):
        from pxr import Vt

        return Vt.DoubleArray(value)
    return value
