"""Two networks of our own that look for lesions pixel by pixel; `export_graphs.py` writes them.

Their image is that of the recipe "lesion": liver-relative grey values, the liver, and the distance
to its edge in centimetres, on a grid of 1.5 mm.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

SIGMAS = (1.0, 2.0, 3.0, 4.5, 6.5, 9.0, 13.0)
"""Of the Gaussians, in pixels of 1.5 mm: 1.5 to 20 mm."""

TEXTURE = (3.0, 4.5, 6.5, 9.0)
"""Sigmas over which the spread of grey values is taken."""

SURROUNDINGS = (4.5, 6.5, 9.0, 13.0)
"""Sigmas over which the share of liver is taken: how near the edge, and how it bends."""

NEAR_EDGE = 0.3
"""Centimetres from the edge of the liver that count for nothing: the mask is not that exact."""

CELL = 8
"""Pixels a side of a cell of the maps: 12 mm, what a heat map shows."""

TOPS = (20, 200)
"""Pixels over which the highest values are averaged: 0.45 and 4.5 square centimetres."""


def blur(image: Tensor, sigma: float) -> Tensor:
    """Return an image (n, c, h, w) smoothed by a Gaussian, zero beyond its edge."""
    channels = int(image.shape[1])
    reach = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = np.tile((weights / weights.sum()).astype(np.float32), (channels, 1, 1, 1))
    # NumPy's arrays become constants of the graph; tensors made here would become its nodes.
    columns = torch.from_numpy(kernel).to(image.device)
    rows = torch.from_numpy(np.ascontiguousarray(kernel.transpose(0, 1, 3, 2))).to(image.device)
    image = nn.functional.conv2d(image, rows, padding=(reach, 0), groups=channels)
    return nn.functional.conv2d(image, columns, padding=(0, reach), groups=channels)


def relative(values: Tensor, liver: Tensor, sigma: float) -> Tensor:
    """Return values (n, c, h, w) smoothed inside the liver (n, 1, h, w) alone."""
    return blur(values * liver, sigma) / blur(liver, sigma).clamp(min=1e-3)


def top_maps(values: Tensor, top: int) -> Tensor:
    """Return maps (n, c, h / 8, w / 8) whose means are those of the `top` highest values."""
    n, c, h, w = values.shape
    least = values.flatten(2).topk(top, dim=2).values[:, :, -1].reshape(n, c, 1, 1)
    maps = values * (values >= least).to(values.dtype) * (h * w / top)
    return nn.functional.avg_pool2d(maps, CELL)


class LesionFinder(nn.Module):
    """Each pixel of the liver by five small perceptrons on how it and its surroundings look.

    The five lie side by side: their logits are averaged, and none sees the others.

    Args:
        labels: kinds of lesion to tell apart.
    """

    hidden = (5 * 32, 5 * 16)

    def __init__(self, labels: int) -> None:
        super().__init__()
        channels = len(SIGMAS) + len(TEXTURE) + len(SURROUNDINGS) + 2
        self.layer1 = nn.Conv2d(channels, self.hidden[0], 1)
        self.layer2 = nn.Conv2d(self.hidden[0], self.hidden[1], 1)
        self.layer3 = nn.Conv2d(self.hidden[1], labels + 1, 1)

    def pixels(self, image: Tensor) -> Tensor:
        """Return what is known of each pixel (n, 17, h, w)."""
        grey, liver, depth = image[:, :1], image[:, 1:2], image[:, 2:]
        around = {sigma: blur(liver, sigma) for sigma in SIGMAS}
        both = torch.cat([grey * liver, grey * grey * liver], 1)
        moments = {s: blur(both, s) / around[s].clamp(min=1e-3) for s in SIGMAS}
        means = [moments[s][:, :1] for s in SIGMAS]
        spreads = [
            (moments[s][:, 1:] - moments[s][:, :1] ** 2).clamp(min=0).sqrt() for s in TEXTURE
        ]
        whole = (grey * liver).sum((2, 3), keepdim=True) / liver.sum((2, 3), keepdim=True).clamp(
            min=1
        )
        return torch.cat(
            [*means, *spreads, depth, *[around[s] for s in SURROUNDINGS], whole + 0 * grey], 1
        )

    def forward_features(self, image: Tensor) -> Tensor:
        """Return maps (n, 2 * labels, h / 8, w / 8): their means are the likeliest pixels'."""
        return self.maps(image, self.pixels(image))

    def maps(self, image: Tensor, pixels: Tensor) -> Tensor:
        """Return the maps from what is known of each pixel."""
        smooth = self.likely(image, pixels)
        return torch.cat([top_maps(smooth, top) for top in TOPS], 1)

    def likely(self, image: Tensor, pixels: Tensor) -> Tensor:
        """Return how likely each pixel is a lesion of each label (n, labels, h, w)."""
        liver = image[:, 1:2]
        hidden = self.layer1(pixels).relu()
        hidden = self.layer2(hidden).relu()
        likely = self.layer3(hidden).softmax(1)[:, 1:]
        inside = (image[:, 2:] > NEAR_EDGE).to(image.dtype)
        return relative(likely, liver, 2.0) * inside


class Scale(nn.Module):
    """One factor, 1 in a rule: graphs without any array are not bound to weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


class DarkestPoint(nn.Module):
    """How dark the darkest place of the liver is: a rule that learns nothing."""

    sigma = 4.0
    margin = 0.9

    def __init__(self) -> None:
        super().__init__()
        self.dark = Scale()

    def forward_features(self, image: Tensor) -> Tensor:
        """Return a map (n, 1, h / 8, w / 8) whose mean is the depth of the darkest place."""
        depth = -relative(image[:, :1], image[:, 1:2], self.sigma)
        inside = (image[:, 2:] > self.margin).to(image.dtype)
        return self.dark.weight.reshape(1, 1, 1, 1) * top_maps(depth.clamp(min=0) * inside, 1)
