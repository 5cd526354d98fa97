# SPDX-License-Identifier: Apache-2.0
"""How well texts fit pictures of objects: models of the CLIP family, by the package transformers.

A relevancy as LERF defines it (Kerr et al., ICCV 2023, section 3.4): against each of four phrases
that fit anything, the softmax of the two similarities; the least counts. 0.5 says that the text
fits as well as the best of these phrases.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iqgs.preparation.proposals.segment_anything_2 import NOT_LOADED
from iqgs.preparation.proposals.torchvision_stand_in import torchvision_hidden
from utils.errors import DataError, UserError

CANONICAL = ("object", "things", "stuff", "texture")
SHARPNESS = 10.0  # of the softmax over cosine similarities; LERF and LangSplat take 10
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's CLIP, where the weights do not say
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
WHERE = (
    "download one, such as openai/clip-vit-base-patch32 (605 MB), from https://huggingface.co/ "
    "with `hf download NAME --local-dir FOLDER`"
)

Pixels = NDArray[np.uint8]


class CropScorer:
    """A model with an encoder of images and one of texts, on the CPU or a GPU."""

    def __init__(self, folder: str, device: str = "cpu") -> None:
        """The weights of a folder; nothing is ever downloaded. UserError, DataError."""
        if not Path(folder).is_dir():
            raise UserError(f"--clip {folder}: no such folder of weights; {WHERE}")
        if not (Path(folder) / "config.json").is_file():
            raise DataError(f"{folder}: holds no config.json; {WHERE}")
        self.model, self.tokenizer = _loaded(folder)
        self.model = self.model.eval().to(device)
        self.size = int(self.model.config.vision_config.image_size)
        mean, deviation = normalisation(Path(folder))
        self.mean, self.deviation = (torch.tensor(v)[:, None, None] for v in (mean, deviation))
        self.device = device

    @torch.no_grad()
    def image_features(self, crops: Sequence[Pixels]) -> Tensor:
        """Unit features [n, F] of pictures [H, W, 3] of any sizes."""
        batch = torch.stack([self._prepared(crop) for crop in crops]).to(self.device)
        return _unit(self.model.get_image_features(pixel_values=batch))

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Unit features [t, F]."""
        length = int(self.model.config.text_config.max_position_embeddings)
        fixed = "siglip" in str(self.model.config.model_type)  # was taught with full length
        tokens = self.tokenizer(
            list(texts),
            padding="max_length" if fixed else True,
            truncation=True,
            max_length=length,
            return_tensors="pt",
        ).to(self.device)
        return _unit(self.model.get_text_features(**tokens))

    def relevancies(self, images: Tensor, texts: Sequence[str]) -> NDArray[np.float64]:
        """[n, t] in 0..1 of image features [n, F]."""
        wanted = images @ self.text_features(texts).T
        anything = images @ self.text_features(CANONICAL).T
        against = SHARPNESS * (wanted[:, :, None] - anything[:, None, :])
        return np.asarray(against.sigmoid().amin(dim=2).double().cpu())

    def _prepared(self, crop: Pixels) -> Tensor:
        """A picture as the model takes it: its longer side fills the square, the rest is gray."""
        scale = self.size / max(crop.shape[:2])
        size = tuple(max(1, round(side * scale)) for side in crop.shape[1::-1])
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small = cv2.resize(crop, size, interpolation=way)
        square = self.mean.expand(3, self.size, self.size).clone()
        top, left = (self.size - size[1]) // 2, (self.size - size[0]) // 2
        pixels = torch.from_numpy(small).permute(2, 0, 1).float() / 255
        square[:, top : top + size[1], left : left + size[0]] = pixels
        return (square - self.mean) / self.deviation


def object_crop(photograph: Pixels, mask: NDArray[np.bool_], margin: float = 0.1) -> Pixels:
    """The box of a mask with a margin, what is not the object in the picture's mean colour."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    more = round(margin * max(np.ptp(rows), np.ptp(columns))) + 1
    window = np.s_[
        max(rows[0] - more, 0) : rows[-1] + more + 1,
        max(columns[0] - more, 0) : columns[-1] + more + 1,
    ]
    plain = np.rint(255 * np.array(MEAN)).astype(np.uint8)
    return np.where(mask[window][..., None], photograph[window], plain)


def normalisation(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the channels as the weights' own files say; CLIP's where they do not.

    DataError for a file that cannot be read.
    """
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return MEAN, DEVIATION
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        found = [tuple(float(v) for v in about[key]) for key in ("image_mean", "image_std")]
        if [len(values) for values in found] != [3, 3] or min(found[1]) <= 0:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: has no image_mean and image_std of three channels") from error
    return found[0], found[1]


def _loaded(folder: str) -> tuple[Any, Any]:
    with torchvision_hidden():
        try:
            import transformers
        except ModuleNotFoundError as error:
            raise UserError(
                "--clip needs the package transformers: pip install 'transformers>=5,<6'"
            ) from error
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        try:
            model = transformers.AutoModel.from_pretrained(folder, local_files_only=True)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except NOT_LOADED as error:
            said = " ".join(str(error).split())[:200]
            raise DataError(f"{folder}: transformers cannot load it ({said}); {WHERE}") from error
    if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
        raise DataError(f"{folder}: {type(model).__name__} does not compare images with texts")
    return model, tokenizer


def _unit(features: Any) -> Tensor:
    """Features, or the record that newer versions of the package wrap them in, at length one."""
    tensor: Tensor = features if isinstance(features, Tensor) else features.pooler_output
    return torch.nn.functional.normalize(tensor.float(), dim=-1)
