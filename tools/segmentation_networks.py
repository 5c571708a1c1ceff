"""The liver segmenter's network: a U-Net whose encoder is a pretrained EfficientNet-Lite0."""

from __future__ import annotations

from itertools import pairwise

import timm
import torch
from torch import Tensor, nn

ENCODER = "tf_efficientnet_lite0"
STAGES = {0, 1, 2, 4, 6}
"""Of the encoder, whose outputs the decoder sees."""

SKIPS = (320, 112, 40, 24, 16)
"""Their channels, from 1/32 of the side to 1/2."""

WIDTHS = (96, 64, 32, 24)
"""Channels of the decoder's levels, from 1/16 of the side to 1/2."""


class LiverUnet(nn.Module):
    """Which pixels are liver: a U-Net (Ronneberger 2015) that stops at half the resolution.

    Enlarging is by nearest neighbour, and a level has one convolution. The encoder's arrays keep
    timm's names, so that ImageNet weights can be bound to them.
    """

    def __init__(self) -> None:
        super().__init__()
        encoder = timm.create_model(ENCODER, pretrained=False, features_only=True)
        for name, module in encoder.named_children():
            self.add_module(name, module)
        for level, ((before, width), skip) in enumerate(
            zip(pairwise((SKIPS[0], *WIDTHS)), SKIPS[1:], strict=True)
        ):
            self.add_module(f"up{level}", nn.Conv2d(before + skip, width, 3, padding=1, bias=False))
            self.add_module(f"up{level}_bn", nn.BatchNorm2d(width))
        self.out = nn.Conv2d(WIDTHS[-1], 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (n, 1, h / 2, w / 2) of images (n, 3, h, w); sides in multiples of 32."""
        value = self.bn1(self.conv_stem(image))
        skips = []
        for number, stage in enumerate(self.blocks):
            value = stage(value)
            if number in STAGES:
                skips.append(value)
        value = skips.pop()
        for level in range(len(WIDTHS)):
            value = nn.functional.interpolate(value, scale_factor=2.0, mode="nearest")
            value = self.get_submodule(f"up{level}")(torch.cat([value, skips.pop()], 1))
            value = nn.functional.relu(self.get_submodule(f"up{level}_bn")(value))
        return self.out(value)
