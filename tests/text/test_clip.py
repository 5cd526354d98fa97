# SPDX-License-Identifier: Apache-2.0
"""CLIP-type scores, against the library's own forward pass, with random weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iqgs.preparation.text.clip import (
    CANONICAL,
    DEVIATION,
    MEAN,
    SHARPNESS,
    CropScorer,
    normalisation,
    object_crop,
)
from utils.errors import DataError, UserError

SIDE = 32


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of a few thousand random numbers, with a tokenizer of letters."""
    library = pytest.importorskip("transformers", "5")
    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(97, 123)]
    words = [*letters, *(letter + "</w>" for letter in letters)]
    vocabulary = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = library.CLIPTokenizer(vocab=vocabulary, merges=[])
    tokenizer.save_pretrained(folder)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    small["num_attention_heads"] = 2
    text = {**small, "vocab_size": len(vocabulary), "max_position_embeddings": 20}
    text |= {"bos_token_id": len(words), "eos_token_id": len(words) + 1}
    config = library.CLIPConfig(
        text_config=text,
        vision_config={**small, "image_size": SIDE, "patch_size": 8},
        projection_dim=12,
    )
    torch.manual_seed(0)
    library.CLIPModel(config).save_pretrained(folder)
    return folder


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8) for _ in range(count)]


def cosines(folder: Path, images: list[np.ndarray], texts: list[str]) -> torch.Tensor:
    """By the whole model, one pair at a time."""
    import transformers

    model: Any = transformers.CLIPModel.from_pretrained(folder).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    found = torch.zeros(len(images), len(texts))
    for i, image in enumerate(images):
        pixels = (torch.from_numpy(image) / 255 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
        for j, text in enumerate(texts):
            tokens = tokenizer([text], return_tensors="pt")
            with torch.no_grad():
                out = model(**tokens, pixel_values=pixels.permute(2, 0, 1)[None].float())
                found[i, j] = out.logits_per_image[0, 0] / model.logit_scale.exp()
    return found


def test_relevancies_are_those_of_lerfs_formula(weights: Path) -> None:
    images, texts = pictures(3), ["red cup", "a"]
    scorer = CropScorer(str(weights))
    found = scorer.relevancies(scorer.image_features(images), texts)
    wanted = cosines(weights, images, texts).double()
    anything = cosines(weights, images, list(CANONICAL)).double()
    for i in range(3):
        for j in range(2):
            up = torch.exp(SHARPNESS * wanted[i, j])
            shares = [float(up / (up + torch.exp(SHARPNESS * c))) for c in anything[i]]
            assert found[i, j] == pytest.approx(min(shares), abs=1e-5)
    assert np.ptp(found) > 1e-4


def test_a_text_that_fits_anything_is_worth_at_most_a_half(weights: Path) -> None:
    scorer = CropScorer(str(weights))
    assert scorer.relevancies(scorer.image_features(pictures(4)), CANONICAL).max() <= 0.5 + 1e-6


def test_pictures_of_any_shape_are_fitted_into_the_square(weights: Path) -> None:
    scorer = CropScorer(str(weights))
    wide = np.full((10, 40, 3), 255, np.uint8)
    square = scorer._prepared(wide)
    assert square.shape == (3, SIDE, SIDE)
    white = (1 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    torch.testing.assert_close(square[:, SIDE // 2, 3], white)
    torch.testing.assert_close(square[:, 2, 3], torch.zeros(3))  # beside it: the mean


def test_a_crop_shows_the_object_alone() -> None:
    photograph = np.full((40, 50, 3), 200, np.uint8)
    mask = np.zeros((40, 50), bool)
    mask[10:20, 15:35] = True
    found = object_crop(photograph, mask)
    assert found.shape == (10 + 2 * 3, 20 + 2 * 3, 3)
    assert (found == 200).all(axis=2).sum() == mask.sum()
    mask[:] = True
    assert object_crop(photograph, mask).shape == photograph.shape


def test_weights_that_are_none_are_said_so(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="--clip .*nowhere: no such folder of weights"):
        CropScorer(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="holds no config.json"):
        CropScorer(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="transformers cannot load it"):
        CropScorer(str(tmp_path))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="pip install 'transformers"):
        CropScorer(str(weights))


def test_normalisation_is_that_of_the_weights(tmp_path: Path) -> None:
    assert normalisation(tmp_path) == (MEAN, DEVIATION)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    assert normalisation(tmp_path) == ((0.5,) * 3, (0.25,) * 3)
    for wrong in ("{}", "nothing", json.dumps({"image_mean": [1], "image_std": [1]})):
        path.write_text(wrong)
        with pytest.raises(DataError, match="image_mean"):
            normalisation(tmp_path)
