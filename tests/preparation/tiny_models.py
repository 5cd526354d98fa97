# SPDX-License-Identifier: Apache-2.0
"""Models of the real classes with random weights, of a few thousand numbers each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIDE = 64  # pixels of the square that they look at


def tiny_sam(library: Any, seed: int = 0) -> Any:
    """A Sam of segment-anything."""
    from functools import partial

    modeling = library.modeling
    torch.manual_seed(seed)
    model = modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            depth=1,
            embed_dim=8,
            img_size=SIDE,
            mlp_ratio=2,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=2,
            patch_size=16,
            qkv_bias=True,
            use_rel_pos=True,
            window_size=2,
            out_chans=16,
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=16,
            image_embedding_size=(SIDE // 16, SIDE // 16),
            input_image_size=(SIDE, SIDE),
            mask_in_chans=4,
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(
                depth=1, embedding_dim=16, mlp_dim=16, num_heads=2
            ),
            transformer_dim=16,
            iou_head_depth=2,
            iou_head_hidden_dim=16,
        ),
    )
    return model.eval()


_HEAD = {"hidden_size": 128}
_DECODER = {
    **_HEAD,
    "mlp_dim": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 16,
}
_MEMORY = {
    "memory_attention_hidden_size": 128,
    "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 32,
    "memory_encoder_hidden_size": 128,
    "memory_encoder_output_channels": 64,
    "mask_downsampler_embed_dim": 128,
    "memory_fuser_embed_dim": 128,
    "memory_fuser_intermediate_dim": 32,
    "memory_attention_dropout": 0.0,
    "memory_attention_rope_dropout": 0.0,
}


def _sam2_vision() -> dict[str, Any]:
    return {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": 8,
            "image_size": [SIDE, SIDE],
            "blocks_per_stage": [1, 1, 2, 1],
            "embed_dim_per_stage": [8, 16, 32, 64],
            "num_attention_heads_per_stage": [1, 1, 2, 2],
            "window_size_per_stage": [4, 2, 2, 2],
            "window_positional_embedding_background_size": [2, 2],
            "global_attention_blocks": [3],
            "mlp_ratio": 2.0,
        },
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 128,
    }


def _sam3_vision() -> dict[str, Any]:
    return {
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "pretrain_image_size": SIDE,
            "patch_size": 16,
            "window_size": 2,
            "global_attn_indexes": [1],
        },
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 128,
    }


def write_tiny(folder: Path, method: str, video: bool, seed: int = 0) -> Path:
    """A folder of weights as `from_pretrained` reads it, of sam2 or sam3."""
    import transformers

    kind = {"sam2": "Sam2", "sam3": "Sam3Tracker"}[method] + ("Video" if video else "")
    vision = _sam2_vision() if method == "sam2" else _sam3_vision()
    settings: dict[str, Any] = {
        "vision_config": {
            "model_type": "sam2_vision_model" if method == "sam2" else "sam3_vision_model",
            **vision,
        },
        "prompt_encoder_config": {
            **_HEAD,
            "image_size": SIDE,
            "patch_size": 16,
            "mask_input_channels": 4,
        },
        "mask_decoder_config": _DECODER,
    }
    if video:
        settings |= {**_MEMORY, "memory_attention_rope_feat_sizes": [4, 4], "image_size": SIDE}
    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(**settings)
    model = getattr(transformers, f"{kind}Model")(config)
    with torch.no_grad():  # it sees its object in every frame
        model.mask_decoder.pred_obj_score_head.proj_out.bias += 5.0
    model.save_pretrained(folder)
    return folder
