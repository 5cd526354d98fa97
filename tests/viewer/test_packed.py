# SPDX-License-Identifier: Apache-2.0
"""What is packed comes back, within the steps of its numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from iqgs.objects.labelled import LabelledSplats
from iqgs.viewer.packed import CHUNK, PackedSplats, pack
from iqgs.viewer.page_file import PageFacts, page_text
from scene.gaussian_model import GaussianModel
from utils.spherical_harmonics import rgb_to_sh_dc, sh_dc_to_rgb

from .conftest import splats


def column(packed: PackedSplats, name: str) -> np.ndarray:
    about = packed.header["columns"][name]
    count = int(np.prod(about["shape"]))
    kind = np.dtype(about["type"]).newbyteorder("<")
    return np.frombuffer(packed.data, kind, count, about["offset"]).reshape(about["shape"])


def unpacked(packed: PackedSplats) -> tuple[GaussianModel, torch.Tensor]:
    """Splats and labels, read by the description of the layout alone."""
    header = packed.header
    chunk_of, labels = [], []
    for entry in header["objects"]:
        first = chunk_of[-1] + 1 if chunk_of else 0
        chunk_of += [first + i // header["chunk"] for i in range(entry["count"])]
        labels += [entry["id"]] * entry["count"]
    ranges = column(packed, "ranges").astype(np.float64)[chunk_of]
    begin, parts = 0, {}
    for name, steps in (("means", 65535), ("log_scales", 255), ("colors", 255)):
        numbers = column(packed, name).astype(np.float64)
        low, high = ranges[:, :, begin : begin + numbers.shape[1]].transpose(1, 0, 2)
        parts[name] = torch.from_numpy(low + numbers / steps * (high - low)).float()
        begin += numbers.shape[1]
    words = column(packed, "quaternions")
    greatest = words >> 30
    quaternions = np.zeros((len(words), 4))
    for step, shift in ((1, 20), (2, 10), (3, 0)):
        value = (((words >> shift) & 1023) / 1023 * 2 - 1) * np.sqrt(0.5)
        quaternions[np.arange(len(words)), (greatest + step) % 4] = value
    rest = 1 - (quaternions**2).sum(1)
    quaternions[np.arange(len(words)), greatest] = np.sqrt(rest.clip(0))
    opacity = torch.from_numpy(column(packed, "opacities") / 255).float()[:, None]
    n = len(words)
    values = {
        "means": parts["means"],
        "log_scales": parts["log_scales"],
        "quaternions": torch.from_numpy(quaternions).float(),
        "opacity_logits": torch.logit(opacity, 1e-7),
        "sh_dc": rgb_to_sh_dc(parts["colors"])[:, None],
        "sh_rest": torch.zeros(n, 0, 3),
        "instance": torch.zeros(n, 0),
    }
    model = GaussianModel(values)
    model.params = {name: p.requires_grad_(False) for name, p in model.params.items()}
    return model, torch.tensor(labels)


@pytest.mark.parametrize("dims", [2, 3])
def test_values_come_back_within_a_step(dims: int) -> None:
    objects = splats(dims, each=600)
    packed = pack(objects)
    found, labels = unpacked(packed)
    order = torch.from_numpy(packed.order)
    wanted = objects.splats.subset(order)
    wanted.params = {name: p.requires_grad_(False) for name, p in wanted.params.items()}
    assert sorted(packed.order.tolist()) == list(range(len(objects)))
    assert torch.equal(labels, objects.labels[order])
    assert float((found.means - wanted.means).abs().max()) < 4.0 / 65535
    assert float((found.params["log_scales"] - wanted.params["log_scales"]).abs().max()) < 5 / 255
    turn = Rotation.from_quat(found.rotations.detach()[:, [1, 2, 3, 0]].numpy()).inv()
    turn *= Rotation.from_quat(wanted.rotations.detach()[:, [1, 2, 3, 0]].numpy())
    assert turn.magnitude().max() < 0.004
    assert float((found.opacities - wanted.opacities).abs().max()) < 0.51 / 255
    colors, true = (sh_dc_to_rgb(m.params["sh_dc"]).clamp_min(0) for m in (found, wanted))
    assert float((colors - true).abs().max()) < 2.5 / 255


def test_a_splat_far_away_costs_the_others_nothing() -> None:
    objects = splats(each=600)
    far = torch.nonzero(objects.labels == 0)[0, 0]
    with torch.no_grad():
        objects.splats.params["means"][far] = torch.tensor([1e5, 0.0, 0.0])
    packed = pack(objects)
    found, _ = unpacked(packed)
    wanted = objects.splats.subset(torch.from_numpy(packed.order))
    off = (found.means - wanted.means.detach()).norm(dim=1)
    assert int((off > 1e-3).sum()) <= CHUNK
    labelled = objects.labels[torch.from_numpy(packed.order)] != 0
    assert float(off[labelled].max()) < 1e-4


def test_objects_are_listed_with_what_they_have() -> None:
    objects = splats()
    entries = {entry["id"]: entry for entry in pack(objects).header["objects"]}
    assert list(entries) == [0, 3, 7, 300]
    assert entries[0]["name"] == "no object" and entries[3]["name"] == "cup"
    for number, entry in entries.items():
        means = objects.of(number).splats.means.detach()
        assert entry["count"] == len(means)
        np.testing.assert_allclose(entry["low"], means.amin(0).numpy(), atol=1e-6)
        np.testing.assert_allclose(entry["high"], means.amax(0).numpy(), atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_page_of_300_000_splats_has_less_than_25_megabytes(dims: int) -> None:
    """Random splats do not compress, so this is the most that any scene needs."""
    few, more = (page_text(splats(dims, each=each), PageFacts("x")) for each in (500, 1500))
    assert (len(more) - len(few)) / 4000 * 300_000 + len(few) < 25e6


def test_one_splat_is_packed() -> None:
    objects = splats()
    one = LabelledSplats(
        objects.splats.subset(torch.tensor([5])), objects.labels[5:6], objects.confidence[5:6]
    )
    found, labels = unpacked(pack(one))
    assert labels.tolist() == one.labels.tolist()
    torch.testing.assert_close(found.means, one.splats.means, check_device=False)
