"""A liver segmenter is taught: a U-Net on drawn livers, as many slices of each patient."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from numpy.typing import NDArray
from torch import Tensor

from hepar.config import AugmentConfig, SegmentConfig
from hepar.data import Manifest
from hepar.errors import FitError
from hepar.fit.cut import cut_graph
from hepar.fit.differentiable import Tail
from hepar.fit.finetune import keep_memory
from hepar.ingest import read_slices
from hepar.preprocess import IDENTITY, Draw, Recipe, augment, draw
from hepar.progress import LOG, track

__all__ = ["Lesson", "fit_unet", "read_lesson"]

Floats = NDArray[np.float32]

_MOST = 64
"""Slices of one patient that are read: neighbours are much alike."""

_VIEWS = AugmentConfig(rotation=15, zoom=0.2, shift=0.1, gain=0.3, offset=0.5, noise=0.1)
"""Wide in grey values: pictures are windowed in many ways, and livers enhance in many more."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """Slices and their livers, read once for all folds.

    Attributes:
        images: (n, 3, h, w) float16 network input.
        livers: (n, h, w) float16 share of liver, lesions included.
        patients: (n,) patient_id.
    """

    images: NDArray[np.float16]
    livers: NDArray[np.float16]
    patients: NDArray[np.str_]


def read_lesson(manifests: Sequence[Manifest], recipe: Recipe) -> Lesson:
    """Read what a segmenter is taught with: samples that have a mask, evenly over each patient.

    Args:
        manifests: patients of one name in several are one person.
        recipe: from slice to network input.

    Raises:
        FitError: nothing has a mask of the liver.
    """
    chosen = []
    for manifest in manifests:
        for samples in manifest.patients.values():
            drawn = [s for s in samples if s.mask and not manifest.lesions_alone]
            step = max(1, math.ceil(len(drawn) / _MOST))
            chosen += [(manifest, sample) for sample in drawn[::step]]
    if not chosen:
        raise FitError(
            "segmenter: expected samples with masks of the liver, got none. Name masks in the "
            "table, and say which value is liver with ingest.mask_values."
        )

    def read(pair: tuple[Manifest, Any]) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        (image,) = read_slices(pair[0], [pair[1]])
        shown = recipe.run(dataclasses.replace(image, mask=None))
        liver = np.asarray(image.mask).astype(bool).astype(np.float32)
        size = (recipe.size, recipe.size)
        small = cv2.resize(liver, size, interpolation=cv2.INTER_AREA)
        return shown.pixels.transpose(2, 0, 1).astype(np.float16), small.astype(np.float16)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pairs = list(track(pool.map(read, chosen), "livers", total=len(chosen)))
    return Lesson(
        np.stack([image for image, _ in pairs]),
        np.stack([liver for _, liver in pairs]),
        np.array([sample.patient_id for _, sample in chosen]),
    )


def fit_unet(
    graph: bytes,
    arrays: Mapping[str, NDArray[Any]],
    lesson: Lesson,
    rows: NDArray[np.int64],
    config: SegmentConfig,
    name: str = "segmenter",
) -> dict[str, Floats]:
    """Return the arrays of a U-Net taught with some rows of a lesson.

    A patient is drawn in proportion to the root of the number of its slices. The loss is
    cross-entropy plus one minus the soft Dice coefficient of the batch (Milletari 2016).

    Args:
        graph: ONNX bytes with the output "logits", at half the side of the image.
        arrays: to start from, by initializer name.
        lesson: from `read_lesson`.
        rows: of the lesson that may be seen.
        config: steps, batch, learning rate, seed.
        name: for messages.

    Raises:
        FitError: the loss is not a number.
    """
    keep_memory()
    torch.manual_seed(config.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tail = Tail(cut_graph(graph, ()), arrays, device=device, output="logits")
    optimiser = torch.optim.AdamW(
        tail.parameters.values(), config.learning_rate, weight_decay=1e-4, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=config.steps, pct_start=0.2
    )
    rng = np.random.default_rng(config.seed)
    share = _shares(lesson.patients[rows])
    losses: list[float] = []
    with ThreadPoolExecutor(1) as pool:  # the next batch is made while this one is learnt
        waiting = pool.submit(_batch, lesson, rng.choice(rows, config.batch, p=share), rng)
        for step in track(range(config.steps), name):
            images, livers = waiting.result()
            if step + 1 < config.steps:
                waiting = pool.submit(_batch, lesson, rng.choice(rows, config.batch, p=share), rng)
            logits = tail(torch.from_numpy(images).to(device), training=True)
            loss = _loss(logits, torch.from_numpy(livers).to(device))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise FitError(
                    f"{name}, step {step + 1}: expected a finite loss, got {losses[-1]}. "
                    "Lower segment.learning_rate."
                )
            if (step + 1) % 50 == 0:
                LOG.info("%s: step %d, loss %.4f", name, step + 1, np.mean(losses[-50:]))
    return {**arrays, **tail.arrays()}


def _shares(patients: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return how likely each row is drawn."""
    _, place, counts = np.unique(patients, return_inverse=True, return_counts=True)
    share = 1 / np.sqrt(counts[place])
    return np.asarray(share / share.sum(), np.float64)


def _batch(
    lesson: Lesson, rows: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return images (n, 3, h, w) in random views, and their livers (n, 1, h / 2, w / 2)."""
    images, livers = [], []
    for row in rows:
        chosen = draw(rng, _VIEWS)
        grey = Draw(gain=chosen.gain, offset=chosen.offset, noise=chosen.noise, seed=chosen.seed)
        place = dataclasses.replace(chosen, **_NO_GREY)
        both = np.concatenate([lesson.images[row], lesson.livers[row][None]]).astype(np.float32)
        turned = augment(both, place)
        images.append(augment(turned[:3], grey))
        half = (turned.shape[2] // 2, turned.shape[1] // 2)
        livers.append(cv2.resize(turned[3], half, interpolation=cv2.INTER_AREA)[None])
    return np.stack(images), np.stack(livers)


_NO_GREY: dict[str, Any] = {
    name: getattr(IDENTITY, name) for name in ("gain", "offset", "noise", "seed")
}


def _loss(logits: Tensor, livers: Tensor) -> Tensor:
    likely = torch.sigmoid(logits)
    overlap = 2 * (likely * livers).sum() + 1
    dice = overlap / ((likely * likely).sum() + (livers * livers).sum() + 1)
    return F.binary_cross_entropy_with_logits(logits, livers) + 1 - dice
