# SPDX-License-Identifier: Apache-2.0
"""OpenUSD files as usd-core reads them: discs are surflets, exactly."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from iqgs.export.usd import write_usd
from utils.errors import UserError

from .splats import some_splats

TURN = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # z up -> y up


@pytest.mark.parametrize("suffix", ["usda", "usdc", "usd", "usdz"])
def test_discs_are_surflets(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("pxr")
    from pxr import Usd, UsdGeom, UsdVol

    splats = some_splats()
    path = tmp_path / f"s.{suffix}"
    write_usd(path, splats, as_ellipsoids=False)
    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    prims = {p.GetCustomDataByKey("iqgs:instance"): p for p in stage.GetDefaultPrim().GetChildren()}
    assert set(prims) == {0, 3, 300}
    cup, rows = prims[3], splats.labels == 3
    assert cup.GetDisplayName() == "cup" and cup.GetName() == "cup_3"
    assert cup.IsA(UsdVol.ParticleField)
    assert cup.HasAPI(UsdVol.ParticleFieldKernelGaussianSurfletAPI)
    assert cup.GetAttribute("primvars:instance").Get() == 3
    sure = np.array(cup.GetAttribute("primvars:instance_conf").Get())
    np.testing.assert_array_equal(sure, splats.confidence[rows])
    places = np.array(UsdVol.ParticleFieldPositionAttributeAPI(cup).GetPositionsAttr().Get())
    np.testing.assert_allclose(places, splats.raw["means"][rows] @ TURN.T, atol=1e-6)
    sizes = np.array(UsdVol.ParticleFieldScaleAttributeAPI(cup).GetScalesAttr().Get())
    np.testing.assert_allclose(sizes[:, :2], np.exp(splats.raw["log_scales"][rows]), rtol=1e-6)
    turned = UsdVol.ParticleFieldOrientationAttributeAPI(cup).GetOrientationsAttr().Get()
    xyzw = [[*q.GetImaginary(), q.GetReal()] for q in turned]
    wxyz = splats.raw["quaternions"][rows]
    wanted = Rotation.from_matrix(TURN) * Rotation.from_quat(wxyz[:, [1, 2, 3, 0]])
    assert (Rotation.from_quat(xyzw).inv() * wanted).magnitude().max() < 1e-6
    light = UsdVol.ParticleFieldSphericalHarmonicsAttributeAPI(cup)
    assert light.GetRadianceSphericalHarmonicsDegreeAttr().Get() == 2
    colors = np.array(light.GetRadianceSphericalHarmonicsCoefficientsAttr().Get())
    assert colors.shape == (9 * rows.sum(), 3)
    np.testing.assert_array_equal(colors[::9], splats.raw["sh_dc"][rows, 0])
    low, high = np.array(cup.GetAttribute("extent").Get())
    assert (places > low).all() and (places < high).all()


@pytest.mark.parametrize("scales", [2, 3])
def test_ellipsoids_are_gaussian_splats(tmp_path: Path, scales: int) -> None:
    pytest.importorskip("pxr")
    from pxr import Usd, UsdVol

    write_usd(tmp_path / "s.usdc", some_splats(scales=scales), as_ellipsoids=scales == 2)
    stage = Usd.Stage.Open(str(tmp_path / "s.usdc"))
    prims = list(stage.GetDefaultPrim().GetChildren())
    assert len(prims) == 3 and all(p.IsA(UsdVol.ParticleField3DGaussianSplat) for p in prims)
    assert all(p.HasAPI(UsdVol.ParticleFieldKernelGaussianEllipsoidAPI) for p in prims)


def test_without_the_package_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(UserError, match="pip install usd-core"):
        write_usd(tmp_path / "s.usd", some_splats(), as_ellipsoids=False)
