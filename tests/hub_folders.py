"""Folders as timm and transformers save them, of tiny networks of their libraries."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iaside_plugins.adapters.compat import import_timm, import_torchvision

TIMM = "mobilenetv3_small_050"


def timm_folder(folder: Path, net: nn.Module | None = None, **more: Any) -> Path:
    """Write a network of timm, of 5 classes unless it is given."""
    net = import_timm().create_model(TIMM, num_classes=5) if net is None else net
    n_classes = net.num_classes
    config = {
        "architecture": net.pretrained_cfg["architecture"],
        "num_classes": n_classes,
        "pretrained_cfg": {
            "input_size": [3, 64, 64],
            "crop_pct": 0.8,
            "interpolation": "bilinear",
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "num_classes": n_classes,
            "classifier": "classifier",
            "first_conv": "conv_stem",
            "license": "mit",
            "url": "http://127.0.0.1:1/never",
            "of_a_later_timm": 7,
        },
        **more,
    }
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = importlib.import_module("safetensors.torch")
    tensors.save_file(dict(net.state_dict()), folder / "model.safetensors")
    return folder


def vit_folder(folder: Path, n_classes: int = 5) -> Path:
    """Write a vision transformer of transformers for 32 x 32 images, and its processor."""
    import_torchvision()
    library = importlib.import_module("transformers")
    config = library.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        num_labels=n_classes,
    )
    torch.manual_seed(4)
    library.utils.logging.disable_progress_bar()
    library.ViTForImageClassification(config).eval().save_pretrained(folder)
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 40},
        "crop_size": {"height": 32, "width": 32},
        "do_center_crop": True,
        "do_resize": True,
        "resample": 3,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.3, 0.4, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder
