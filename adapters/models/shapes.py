"""Networks that were saved for one shape of batches only, as functions of any batch of images."""

from __future__ import annotations

import torch
from torch import nn

from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.errors import InputError
from iaside_plugins.inference.logits import logits_in


class InBatchesOf(nn.Module):
    """A network that runs on batches of one size; the last one is filled with its last image.

    Args:
        net: From (size, C, H, W) to logits (size, n_classes).
        size: Images per batch.
    """

    def __init__(self, net: nn.Module, size: int) -> None:
        super().__init__()
        self.net = net
        self.size = size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, n_classes) of images (N, C, H, W)."""
        n = len(images)
        lacking = -n % self.size
        full = torch.cat([images, images[-1:].expand(lacking, *images.shape[1:])])
        parts = [logits_in(self.net(part), self.net) for part in torch.split(full, self.size)]
        return torch.cat(parts)[:n]


class ChannelsLast(nn.Module):
    """A network of images (N, H, W, C), as a function of images (N, C, H, W)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the network gives."""
        out: torch.Tensor = self.net(images.permute(0, 2, 3, 1).contiguous())
        return out


def geometry_of(height: int | None, width: int | None, source: str) -> Preprocessing:
    """Return the preprocessing for a network that takes images of one size, or of any (None).

    Raises:
        InputError: The images are not square: nothing here crops them so.
    """
    if height is None or width is None:
        return Preprocessing()
    if height != width:
        raise InputError(
            f"{source} takes images of {height} x {width} only, and images are cropped to squares "
            "here; export it for a square, or with a free height and width"
        )
    return Preprocessing(resize=height, crop=height)
