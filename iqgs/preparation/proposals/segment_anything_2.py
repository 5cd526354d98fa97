# SPDX-License-Identifier: Apache-2.0
"""Models of SAM 2 and of SAM 3's tracker, by the package transformers.

Both answer points with the same parts: an image encoder with feature maps of three sizes, a prompt
encoder, a mask decoder. SAM 3 has no way of its own to segment everything (its detector wants
words); its tracker is asked by points, as SAM 2. The image processors of transformers need
torchvision, so what they do (resize to a square, normalise) is done here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from arguments.masks import GridParams
from iqgs.preparation.proposals.grid import Answer, all_masks
from iqgs.preparation.proposals.protocol import Photograph
from iqgs.preparation.proposals.torchvision_stand_in import torchvision_hidden
from scene.masks import MaskLayers
from utils.errors import DataError, UserError

NOT_LOADED = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError)


@dataclass(frozen=True)
class Family:
    """What differs between SAM 2 and SAM 3."""

    image_class: str
    video_class: str
    session: tuple[str, str]  # module and class of the state of a video
    mean: tuple[float, float, float]  # of the channels, in 0..1
    deviation: tuple[float, float, float]
    example: str  # weights: name on the hub and size


FAMILIES = {
    "sam2": Family(
        "Sam2Model",
        "Sam2VideoModel",
        ("transformers.models.sam2_video.modeling_sam2_video", "Sam2VideoInferenceSession"),
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        "facebook/sam2.1-hiera-tiny (156 MB) to facebook/sam2.1-hiera-large (900 MB), Apache-2.0",
    ),
    "sam3": Family(
        "Sam3TrackerModel",
        "Sam3TrackerVideoModel",
        (
            "transformers.models.sam3_tracker_video.modeling_sam3_tracker_video",
            "Sam3TrackerVideoInferenceSession",
        ),
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
        "facebook/sam3 (3.4 GB), after agreeing to the SAM Licence",
    ),
}


def import_class(name: str) -> Any:
    """A class of the package transformers, torchvision or not. UserError where it is not there."""
    with torchvision_hidden():
        try:
            import transformers
        except ModuleNotFoundError as error:
            raise UserError(
                "--method sam2 and sam3 need the package transformers: pip install "
                "'transformers>=5'"
            ) from error
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        try:  # its module is loaded now, and looks for torchvision
            return getattr(transformers, name)
        except AttributeError as error:
            raise UserError(
                f"transformers {transformers.__version__} has no {name}: pip install "
                "'transformers>=5'"
            ) from error


def load_model(method: str, checkpoint: str, allow_download: bool, video: bool) -> Any:
    """The model of a folder of weights, on the CPU, for single images or for videos.

    Raises UserError for a name that is no folder and may not be downloaded, DataError for a folder
    that lacks weights of the model.
    """
    family = FAMILIES[method]
    where = (
        f"download one of {family.example}, from https://huggingface.co/ with "
        "`hf download NAME --local-dir FOLDER`"
    )
    if not checkpoint:
        raise UserError(f"--checkpoint must name the folder of the weights: {where}")
    is_folder = Path(checkpoint).is_dir()
    if not is_folder and not allow_download:
        raise UserError(
            f"--checkpoint {checkpoint}: no such folder; {where}, or pass --allow_download with a "
            "NAME"
        )
    if is_folder and not (Path(checkpoint) / "config.json").is_file():
        raise DataError(f"{checkpoint}: holds no config.json; {where}")
    name = family.video_class if video else family.image_class
    try:
        model, report = import_class(name).from_pretrained(
            checkpoint, local_files_only=not allow_download, output_loading_info=True
        )
    except NOT_LOADED as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"--checkpoint {checkpoint}: {name} cannot be loaded from it ({first}); {where}"
        ) from error
    lost = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if lost:
        raise DataError(
            f"--checkpoint {checkpoint}: lacks {len(lost)} weights of {name}, as {lost[0]}; {where}"
        )
    return model.eval()


def normalisation(method: str, checkpoint: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the channels [3], of the folder's own processor where it has one."""
    family = FAMILIES[method]
    mean, deviation = family.mean, family.deviation
    for name in ("processor_config.json", "preprocessor_config.json"):
        path = Path(checkpoint) / name
        if not path.is_file():
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            record = record.get("image_processor", record)
            mean, deviation = record.get("image_mean", mean), record.get("image_std", deviation)
            break
        except (ValueError, AttributeError) as error:
            raise DataError(f"{path}: not the settings of an image processor ({error})") from error
    return torch.tensor(mean), torch.tensor(deviation)


class PromptedImage:
    """One image and the answers of a model about it (PointModel)."""

    def __init__(self, model: Any, mean: Tensor, deviation: Tensor) -> None:
        self.model = model
        weight = next(model.parameters())
        self.device, self.dtype = weight.device, weight.dtype
        self.side = int(model.prompt_encoder.input_image_size)
        self.mean = mean.to(self.device)[:, None, None]
        self.deviation = deviation.to(self.device)[:, None, None]
        self.embeddings: list[Tensor] = []

    def pixels(self, image: Photograph) -> Tensor:
        """An image [H, W, 3] as the encoder wants it: [1, 3, side, side]."""
        values = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float() / 255
        square = interpolate(values, (self.side, self.side), mode="bilinear", antialias=True)
        return ((square - self.mean) / self.deviation).to(self.dtype)

    @torch.inference_mode()
    def look(self, image: Photograph) -> None:
        """Encode an image [H, W, 3]."""
        self.embeddings = self.model.get_image_embeddings(self.pixels(image))

    @torch.inference_mode()
    def use(self, maps: list[Tensor]) -> None:
        """Take the features of an image that a model for videos has encoded before.

        maps: [h * w, 1, C] of three sizes, as `get_image_features` gives them.
        """
        last = maps[-1] + self.model.no_memory_embedding
        sizes = self.model.backbone_feature_sizes
        self.embeddings = [
            features.permute(1, 2, 0).reshape(1, -1, *size)
            for features, size in zip([*maps[:-1], last], sizes, strict=True)
        ]

    @torch.inference_mode()
    def answer(self, points: Tensor) -> Answer:
        """Three masks for each point [P, 2]; see PointModel."""
        model = self.model
        places = (points.to(self.device) * self.side)[None, :, None]
        labels = torch.ones(places.shape[:3], dtype=torch.int32, device=self.device)
        sparse, dense = model.prompt_encoder(
            input_points=places.to(self.dtype),
            input_labels=labels,
            input_boxes=None,
            input_masks=None,
        )
        logits, scores, _, _ = model.mask_decoder(
            image_embeddings=self.embeddings[-1],
            image_positional_embeddings=model.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            high_resolution_features=self.embeddings[:-1],
        )
        return logits[0], scores[0]


class ImageProposer:
    """All masks of single images by SAM 2 or SAM 3's tracker."""

    coding = "view"

    def __init__(self, prompted: PromptedImage, params: GridParams) -> None:
        self.prompted, self.params = prompted, params

    def propose(self, image: Photograph) -> MaskLayers:
        """Masks of an RGB image [H, W, 3]; the model's estimate of their IoU is the score."""
        return all_masks(self.prompted, image, self.params)

    def go_on(self, image: Photograph, label_map: NDArray[np.int32], used: int) -> None:
        """Nothing is kept from one photograph to the next."""
