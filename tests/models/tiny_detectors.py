"""Architectures of the pretrained detectors, small enough for tests, with random weights."""

from __future__ import annotations

import torch
from models.tiny import TINY
from torch import nn

from hand_perception.models.handos.config import HandOSConfig
from hand_perception.models.handos.model import HandOS
from hand_perception.template import load_template

GROUNDING_DINO = {
    "d_model": 64,  # its group norms have 32 groups
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_n_points": 2,
    "decoder_n_points": 2,
    "num_queries": 10,
    "backbone_config": {
        "model_type": "swin",
        "image_size": 64,
        "embed_dim": 8,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 2, 2],
        "window_size": 4,
        "out_indices": [2, 3, 4],
    },
    "text_config": {
        "model_type": "bert",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 2200,
    },
}
RT_DETR = {
    "d_model": 16,
    "encoder_hidden_dim": 16,
    "encoder_in_channels": [16, 24, 32],
    "encoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_in_channels": [16, 16, 16],
    "decoder_ffn_dim": 16,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_n_points": 2,
    "num_queries": 10,
    "num_labels": 3,
    "backbone_config": {
        "model_type": "rt_detr_resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 16, 24, 32],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
        "out_indices": [2, 3, 4],
    },
}
D_FINE = RT_DETR | {
    "depth_mult": 0.34,
    "hidden_expansion": 0.5,
    "backbone_config": {
        "model_type": "hgnet_v2",
        "embedding_size": 8,
        "hidden_sizes": [8, 16, 24, 32],
        "stem_channels": [3, 8, 8],
        "stage_in_channels": [8, 8, 16, 24],
        "stage_mid_channels": [8, 8, 8, 8],
        "stage_out_channels": [8, 16, 24, 32],
        "stage_num_blocks": [1, 1, 1, 1],
        "stage_numb_of_layers": [1, 1, 1, 1],
        "out_indices": [2, 3, 4],
    },
}
# Kind: architecture, and how a decoder reads it.
PRETRAINED = {
    "grounding_dino": (
        GROUNDING_DINO,
        {"value_strides": [8, 16, 32, 64], "side_widths": [8, 16, 16, 16, 16]},
    ),
    "rt_detr_v2": (RT_DETR, {}),
    "d_fine": (D_FINE, {}),
}


def tiny_config(kind: str, **decoder) -> HandOSConfig:
    architecture, reading = PRETRAINED[kind]
    values = TINY.to_dict()
    values["detector"] = {"kind": kind, "architecture": architecture, "classes": [1]}
    values["decoder"] |= reading | decoder
    return HandOSConfig.from_dict(values)


def tiny_pretrained(kind: str, **decoder) -> HandOS:
    torch.manual_seed(0)
    model = HandOS(tiny_config(kind, **decoder), load_template())
    spread(model.detector)
    return model.eval()


def spread(module: nn.Module) -> None:
    """Weights that keep activations of order one: the library's are made to be loaded over."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the last batch alone
    module(torch.randn(8, 3, 64, 64))
    for norm in norms:
        norm.eval()
