"""The training loop, top to bottom: what lies behind the freeze boundary, and the layers on top."""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from numpy.typing import NDArray
from torch import Tensor

from hepar.config import FinetuneConfig
from hepar.errors import FitError
from hepar.fit.cut import Cut
from hepar.fit.differentiable import Tail
from hepar.fit.workers import add_up, rank, world_size
from hepar.model.head import LinearHead
from hepar.progress import LOG, track
from hepar.provenance import atomic_writer

__all__ = ["Task", "Trained", "features_of", "finetune", "keep_memory"]

Floats = NDArray[np.float32]
History = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Task:
    """One training.

    Attributes:
        name: for messages, as "fold 0".
        cut: the network in two.
        arrays: of the whole network, as they start.
        values: (row, view) pairs -> values at the boundary (n, ...) float32.
        views: augmented views of each image; an epoch shows every image in one of them.
        windows: of each view, all of which an epoch shows; 1 but for series.
        codes: (n,) label codes of all rows.
        weights: (n,) of each row in the loss.
        train: rows to learn from.
        tune: rows that stop the training; empty for none.
        n_labels: number of labels.
        n_features: length of the pooled features.
        head: to start from, without hidden layers; None for a random start.
        key: SHA-256 of everything that decides the result.
    """

    name: str
    cut: Cut
    arrays: Mapping[str, NDArray[Any]]
    values: Callable[[Sequence[tuple[int, int]]], Floats]
    views: int
    windows: int
    codes: NDArray[np.int64]
    weights: NDArray[np.float64]
    train: NDArray[np.int64]
    tune: NDArray[np.int64]
    n_labels: int
    n_features: int
    head: LinearHead | None
    key: str


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training leaves.

    Attributes:
        tail: the trained part of the network, at its best epoch.
        layers: the layers on top, by the names of a `DenseHead`'s arrays.
        history: a row an epoch.
    """

    tail: Tail
    layers: dict[str, Floats]
    history: History


def finetune(task: Task, config: FinetuneConfig, checkpoint: Path) -> Trained:
    """Train, keeping the epoch of least loss on the tune rows (the last one without tune rows).

    All that is random is drawn from the seed and the number of the epoch, so a training that was
    killed goes on from its last whole epoch to the same numbers.

    Args:
        task: what to train on.
        config: the recipe of the training.
        checkpoint: safetensors file, written after every epoch.

    Returns:
        The trained part and the history.

    Raises:
        FitError: the loss is not a number.
    """
    shown = len(task.train) * task.windows
    least = shown // math.ceil(shown / config.batch)
    if least < world_size():
        raise FitError(
            f"{task.name}: expected {world_size()} rows or more in every batch, one for each "
            f"process, got {least}. Raise finetune.batch or start fewer processes."
        )
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    tail = Tail(task.cut, task.arrays, freeze_norm=config.freeze_norm, device=device)
    layers = _first_layers(task, config, device)
    state = {**tail.values, **layers}
    learnt = {**tail.parameters, **layers}
    optimiser = torch.optim.Adam(
        learnt.values(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    best, history = _resume(checkpoint, task, state, learnt, optimiser)
    while len(history) < config.epochs and not _is_stale(history, config):
        epoch = len(history)
        rate = learning_rate(history, config)
        for group in optimiser.param_groups:
            group["lr"] = rate
        train_loss, train_accuracy = _epoch(task, config, tail, layers, optimiser, epoch)
        tune_loss, tune_accuracy = _measure(task, tail, layers, config.batch)
        row = {
            "epoch": epoch,
            "train_loss": train_loss,
            "tune_loss": tune_loss,
            "train_accuracy": train_accuracy,
            "tune_accuracy": tune_accuracy,
            "learning_rate": rate,
        }
        row["best"] = tune_loss is None or _is_best(row, history)
        history.append(row)
        if row["best"]:
            best = {name: value.detach().clone() for name, value in state.items()}
        if rank() == 0:
            _save(checkpoint, task, state, best, learnt, optimiser, history)
        LOG.info("%s", _line(task.name, row, config.epochs))
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(best[name])
    arrays = {k: np.ascontiguousarray(v.detach().cpu().numpy()) for k, v in layers.items()}
    return Trained(tail, arrays, history)


def _epoch(
    task: Task,
    config: FinetuneConfig,
    tail: Tail,
    layers: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
    epoch: int,
) -> tuple[float, float]:
    """Show every window of every training row once; return mean loss and accuracy on the way."""
    shown = len(task.train) * task.windows
    order = np.random.default_rng([config.seed, epoch]).permutation(shown)
    dice = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    loss_sum = correct = weight_sum = 0.0
    steps = np.array_split(order, math.ceil(shown / config.batch))
    first = epoch % max(1, task.views) * task.windows
    for step in track(steps, f"{task.name}, epoch {epoch + 1}"):
        rows, views = task.train[step // task.windows], first + step % task.windows
        mine = np.arange(len(rows)) % world_size() == rank()
        total = float(task.weights[rows].sum())
        drops = _drops(config, len(rows), dice)
        codes, weights = _targets(task, rows[mine], tail)
        boundary = _boundary(task, rows[mine], views[mine], tail)
        with _autocast(boundary.device.type):
            features = tail(boundary, training=True)
            scores = _scores(features, layers, [drop[torch.from_numpy(mine)] for drop in drops])
        losses = F.cross_entropy(
            scores.float(), codes, reduction="none", label_smoothing=config.label_smoothing
        )
        loss = (losses * weights).sum() / total
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        sums = torch.stack([loss.detach(), ((scores.argmax(1) == codes) * weights).sum()])
        add_up([*_gradients(optimiser), sums])
        if not math.isfinite(sums[0]):
            raise FitError(
                f"{task.name}, epoch {epoch + 1}: expected a finite loss, got {float(sums[0])}. "
                "Lower finetune.learning_rate; the epochs before it are kept."
            )
        optimiser.step()
        loss_sum += float(sums[0]) * total
        correct += float(sums[1])
        weight_sum += total
    _agree_on_statistics(tail)
    return loss_sum / weight_sum, correct / weight_sum


def _gradients(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [p.grad for group in optimiser.param_groups for p in group["params"]]


def _agree_on_statistics(tail: Tail) -> None:
    """Give every process the mean of all running statistics."""
    buffers = [tail.values[name] for name in tail.cut.buffers]
    for buffer in buffers:
        buffer /= world_size()
    if buffers:
        add_up(buffers)


def _measure(
    task: Task, tail: Tail, layers: Mapping[str, Tensor], batch: int
) -> tuple[float | None, float | None]:
    """Return weighted loss and accuracy on the tune rows as they are, None without any.

    Of several windows the mean of their probabilities counts, as in service.
    """
    if not len(task.tune):
        return None, None
    weights = torch.from_numpy(task.weights[task.tune])
    codes = torch.from_numpy(task.codes[task.tune])
    with torch.inference_mode():
        logs = []
        for window in range(task.windows):
            features = torch.from_numpy(features_of(task, tail, task.tune, window, batch))
            logs.append(F.log_softmax(_scores(features.to(tail.device), layers, []).cpu(), 1))
        scores = torch.logsumexp(torch.stack(logs), 0) - math.log(task.windows)
        losses = F.nll_loss(scores, codes, reduction="none")
    share = weights / weights.sum()
    return float((losses * share).sum()), float(((scores.argmax(1) == codes) * share).sum())


def features_of(
    task: Task, tail: Tail, rows: NDArray[np.int64], view: int, batch: int = 32
) -> Floats:
    """Return pooled features (n, d) of rows in one view, through the trained part."""
    parts = []
    with torch.inference_mode():
        for at in range(0, len(rows), batch):
            own = rows[at : at + batch]
            boundary = _boundary(task, own, np.full(len(own), view), tail)
            parts.append(tail(boundary, training=False).float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, task.n_features), np.float32)


def _boundary(task: Task, rows: NDArray[np.int64], views: NDArray[np.int64], tail: Tail) -> Tensor:
    pairs = list(zip(rows.tolist(), views.tolist(), strict=True))
    return torch.from_numpy(task.values(pairs)).to(tail.device)


def _targets(task: Task, rows: NDArray[np.int64], tail: Tail) -> tuple[Tensor, Tensor]:
    codes = torch.from_numpy(task.codes[rows]).to(tail.device)
    return codes, torch.from_numpy(task.weights[rows].astype(np.float32)).to(tail.device)


def _autocast(device: str) -> Any:
    """Return bfloat16 arithmetic on a GPU that has it; float32 elsewhere."""
    wanted = device == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device, torch.bfloat16, enabled=wanted)


# The layers on top.


def _first_layers(task: Task, config: FinetuneConfig, device: str) -> dict[str, Tensor]:
    """Return hidden and output layers: Glorot's uniform start, or a fitted linear head's."""
    if task.head is not None:
        weight = task.head.weight / task.head.scale
        bias = task.head.bias - weight @ task.head.mean
        start = {"out.weight": weight, "out.bias": bias}
    else:
        generator = np.random.default_rng([config.seed, 0xD15E])
        start = {}
        before = task.n_features
        names = [f"hidden{i}" for i in range(len(config.hidden))] + ["out"]
        for name, width in zip(names, [*config.hidden, task.n_labels], strict=True):
            limit = math.sqrt(6 / (before + width))
            start[f"{name}.weight"] = generator.uniform(-limit, limit, (width, before))
            start[f"{name}.bias"] = np.zeros(width)
            before = width
    return {
        name: torch.tensor(value, dtype=torch.float32, device=device, requires_grad=True)
        for name, value in start.items()
    }


def _drops(config: FinetuneConfig, n: int, dice: torch.Generator) -> list[Tensor]:
    """Return a dropout mask (n, width) for each hidden layer, drawn for the whole batch."""
    keep = 1 - config.dropout
    return [
        (torch.rand((n, width), generator=dice) < keep).float() / keep for width in config.hidden
    ]


def _scores(features: Tensor, layers: Mapping[str, Tensor], drops: Sequence[Tensor]) -> Tensor:
    hidden = features
    for number in range(len(layers) // 2 - 1):
        name = f"hidden{number}"
        hidden = F.relu(F.linear(hidden, layers[f"{name}.weight"], layers[f"{name}.bias"]))
        if drops:
            hidden = hidden * drops[number].to(hidden.device)
    return F.linear(hidden, layers["out.weight"], layers["out.bias"])


# When to slow down and when to stop: functions of the history alone, so that a resumed training
# needs nothing else.


def _is_best(row: Mapping[str, Any], history: History) -> bool:
    return all(row["tune_loss"] < other["tune_loss"] for other in history)


def _since_best(history: History) -> int:
    """Return the number of epochs since the least tune loss."""
    best = max((row["epoch"] for row in history if row["best"]), default=-1)
    return len(history) - 1 - best


def _is_stale(history: History, config: FinetuneConfig) -> bool:
    return bool(history) and _since_best(history) >= config.patience


def learning_rate(history: History, config: FinetuneConfig) -> float:
    """Return the rate of the next epoch: halved after every `plateau` epochs without a new best.

    Example:
        >>> rows = [{"epoch": i, "best": i == 0} for i in range(4)]
        >>> learning_rate(rows, FinetuneConfig(learning_rate=0.001, plateau=3))
        0.0005
    """
    rate, waited = config.learning_rate, 0
    for row in history:
        waited = 0 if row["best"] else waited + 1
        if waited == config.plateau:
            rate, waited = rate / 2, 0
    return rate


def _line(name: str, row: Mapping[str, Any], epochs: int) -> str:
    text = f"{name}, epoch {row['epoch'] + 1} of {epochs}: loss {row['train_loss']:.4f}"
    if row["tune_loss"] is not None:
        text += f", tune {row['tune_loss']:.4f}, accuracy {row['tune_accuracy']:.3f}"
    return text + (" (best)" if row["best"] and row["tune_loss"] is not None else "")


# Checkpoints: arrays and JSON in one safetensors file, nothing that could run code.


def _moments(
    learnt: Mapping[str, Tensor], optimiser: torch.optim.Optimizer
) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in learnt.items():
        for moment, value in optimiser.state[parameter].items():
            yield f"{moment}/{name}", value


def _save(
    path: Path,
    task: Task,
    state: Mapping[str, Tensor],
    best: Mapping[str, Tensor],
    learnt: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
    history: History,
) -> None:
    from safetensors.torch import save

    tensors = {f"now/{name}": value for name, value in state.items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    tensors |= dict(_moments(learnt, optimiser))
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_writer(path) as stream:
        stream.write(save(plain, {"key": task.key, "history": json.dumps(history)}))


def _resume(
    path: Path,
    task: Task,
    state: Mapping[str, Tensor],
    learnt: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> tuple[dict[str, Tensor], History]:
    """Take up a checkpoint of the same training; anything else is set aside."""
    fresh = {name: value.detach().clone() for name, value in state.items()}
    if not path.is_file():
        return fresh, []
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        LOG.warning("%s: checkpoint damaged (%s); training anew", path.name, error)
        return fresh, []
    if metadata.get("key") != task.key:
        aside = path.with_name(f"{path.stem}.{metadata.get('key', 'unknown')[:8]}.safetensors")
        LOG.warning(
            "%s: checkpoint of another configuration, kept as %s; training anew",
            path.name,
            aside.name,
        )
        if rank() == 0:
            path.replace(aside)
        return fresh, []
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(tensors[f"now/{name}"])
    for parameter_name, parameter in learnt.items():
        for name, value in tensors.items():
            moment, _, of = name.partition("/")
            if of == parameter_name and moment not in {"now", "best"}:
                optimiser.state[parameter][moment] = value.to(parameter.device)
    history: History = json.loads(metadata["history"])
    LOG.info("%s: taken up after epoch %d", task.name, len(history))
    best = {name: tensors[f"best/{name}"].to(value.device) for name, value in state.items()}
    return best, history


def keep_memory() -> None:
    """Tell glibc's malloc to keep freed memory: up to 2.5 times the speed on a CPU.

    Large activations are otherwise given back and faulted in anew at every step. Only glibc has
    this; HEPAR_KEEP_MEMORY=0 leaves the allocator alone.
    """
    if os.environ.get("HEPAR_KEEP_MEMORY") == "0" or not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 2**28)
