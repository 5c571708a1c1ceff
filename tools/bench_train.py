"""Sections of the benchmark about training: the cached prefix, comparisons, and the paper's way.

Each measurement is a process of its own (`python tools/bench_train.py WHAT ...`), because torch as a
user finds it and torch with a tuned allocator cannot live in one.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hepar.backbone import BACKBONES, Network, find_weights, read_graph
from hepar.config import FinetuneConfig, SplitConfig
from hepar.data import Manifest
from hepar.ingest import ingest
from hepar.model import InputReader
from hepar.phantom import PhantomConfig, write_cohort
from hepar.preprocess import NetworkInput, make_recipe
from hepar.split import Split, make_split

EPOCHS, VIEWS, IMAGES, BATCH = 50, 8, 96, 32
PAPERS = "mobilenetv2"


def _call(*arguments: object) -> dict[str, Any]:
    """Run one measurement in a process of its own and return what it prints last."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


# The cached prefix against the plain loop.


def plain_epoch(name: str) -> dict[str, float]:
    """Return seconds of an epoch of timm's network with its early stages frozen, as users do it."""
    import timm
    import torch

    spec = BACKBONES.get(name)
    network = timm.create_model(spec.timm_name, num_classes=3)
    frozen = spec.frozen_prefixes("early")
    for key, parameter in network.named_parameters():
        parameter.requires_grad_(not key.startswith(frozen))
    learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(learnt, 1e-4)
    images = torch.randn(IMAGES, 3, 224, 224)
    codes = torch.arange(IMAGES) % 3

    def epoch() -> None:
        for at in range(0, IMAGES, BATCH):
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(
                network(images[at : at + BATCH]), codes[at : at + BATCH]
            )
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    return {"epoch": _timed(epoch)}


def _timed(work: Any) -> float:
    work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cached_epoch(name: str) -> dict[str, float]:
    """Return seconds of the frozen part once, and of an epoch of the tail on what it left."""
    from hepar.fit.cut import cut_graph
    from hepar.fit.finetune import Task, finetune, keep_memory

    keep_memory()
    spec = BACKBONES.get(name)
    weights = find_weights(name, "random")
    cut = cut_graph(read_graph(weights.graph), spec.frozen_prefixes("early"))
    images = np.random.default_rng(0).standard_normal((IMAGES, 3, 224, 224), np.float32)
    prefix = Network(cut.prefix, weights.arrays)
    parts = [images[at : at + BATCH] for at in range(0, IMAGES, BATCH)]
    once = _timed(lambda: [prefix.value(cut.boundary, part) for part in parts])
    values = np.concatenate([prefix.value(cut.boundary, part) for part in parts])
    halved = values.astype(np.float16)
    rows = np.arange(IMAGES)
    with tempfile.TemporaryDirectory() as folder:

        def train(epochs: int) -> float:
            task = Task(
                name="bench",
                cut=cut,
                arrays=weights.arrays,
                values=lambda pairs: halved[[row for row, _ in pairs]].astype(np.float32),
                views=1,
                codes=rows % 3,
                weights=np.ones(IMAGES),
                train=rows,
                tune=rows[:0],
                n_labels=3,
                n_features=spec.feature_dim,
                head=None,
                key=str(epochs),
            )
            started = time.perf_counter()
            config = FinetuneConfig(freeze="early", epochs=epochs, hidden=())
            finetune(task, config, Path(folder) / f"{epochs}.safetensors")
            return time.perf_counter() - started

        train(1)
        epoch = (train(4) - train(1)) / 3
    return {"prefix": once, "epoch": epoch}


def prefix(rounds: int) -> str:
    """Return what the cached prefix saves over 50 epochs."""
    del rounds
    lines = [
        "## Fine-tuning the last stage",
        "",
        f"{IMAGES} images of 224 x 224, batch {BATCH}, all stages frozen but the last, float32. *Plain*: timm's model, "
        "`requires_grad` off in the frozen stages, Adam, as found. *hepar*: the frozen part once for each image and view, then only the tail, "
        "checkpoints included. One epoch of each is measured after a first; "
        f"{EPOCHS} epochs are extrapolated from it: epochs x plain against views x frozen part + epochs x tail. "
        "The last stage of ResNet-50 holds 23 % of its multiplications, and training it costs three times its forward pass: leaving the other "
        "77 % out saves a factor of 2.1 at most, however it is done; what is above that comes from memory and the frozen part's runtime.",
        "",
        "| network | plain, s an epoch | frozen part once, s | tail, s an epoch "
        f"| {EPOCHS} epochs, 1 view | {EPOCHS} epochs, {VIEWS} views |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in ("resnet50", "vgg16", "mobilenetv2"):
        plain, ours = _call("plain", name)["epoch"], _call("cached", name)
        one, many = (
            EPOCHS * plain / (views * ours["prefix"] + EPOCHS * ours["epoch"])
            for views in (1, VIEWS)
        )
        lines.append(
            f"| {name} | {plain:.1f} | {ours['prefix']:.1f} | {ours['epoch']:.2f} "
            f"| {one:.1f} x faster | {many:.1f} x faster |"
        )
        sys.stdout.write(f"{lines[-1]}\n")
    return "\n".join(lines)


# Comparisons, and how they grow.


def comparison(rounds: int) -> str:
    """Return how long `hepar compare` of six frozen models takes, and how it grows."""
    del rounds
    found = [name for name in ("efficientnet_lite0", "mobilenetv2", "vgg16") if _has(name)]
    names = [*found, *(f"{name}:svm-rbf" for name in found[:2])]
    names += ["+".join(found)] if len(found) > 1 else []
    lines = [
        "## Comparing frozen models",
        "",
        f"`hepar compare --models {','.join(names)}` on phantom cohorts, five folds of patients, pages and costs included.",
        "",
        "| slices | seconds |",
        "|---:|---:|",
    ]
    for patients in (19, 38, 75):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_cohort(root / "c", PhantomConfig(patients=patients), formats=("dicom", "masks"))
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "hepar.cli", "compare", str(root / "c" / "dicom"),
                 "--labels", str(root / "c" / "labels.csv"), "--out", str(root / "out"),
                 "--models", ",".join(names)],
                check=True,
                capture_output=True,
            )  # fmt: skip
            lines.append(f"| {patients * 8} | {time.perf_counter() - started:.0f} |")
            sys.stdout.write(f"{lines[-1]}\n")
    return "\n".join(lines)


def _has(name: str) -> bool:
    from hepar.backbone import list_weights

    return bool(list_weights()[name])


# The paper's own way: everything forward and backward, every epoch.


def _cohort(root: Path) -> tuple[Manifest, Split, np.ndarray, np.ndarray]:
    """Return the demo's cohort with its first fold held out: rows to train on, rows held out."""
    write_cohort(root / "c", PhantomConfig(), formats=("dicom", "masks"))
    from hepar.config import IngestConfig

    manifest = ingest(root / "c" / "dicom", IngestConfig(labels_csv=str(root / "c" / "labels.csv")))
    split = make_split(manifest, SplitConfig())
    fold = np.array([split.of(sample).fold for sample in manifest.samples])
    return manifest, split, np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)


def _auroc(manifest: Manifest, rows: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the macro one-vs-rest AUROC of patients, slices averaged."""
    from sklearn.metrics import roc_auc_score

    samples = [manifest.samples[int(i)] for i in rows]
    patients = sorted({sample.patient_id for sample in samples})
    owner = np.array([patients.index(sample.patient_id) for sample in samples])
    means = np.stack([probabilities[owner == i].mean(axis=0) for i in range(len(patients))])
    codes = np.array([manifest.labels.index(sample.label) for sample in samples])
    truth = np.array([codes[owner == i].max() for i in range(len(patients))])
    return float(roc_auc_score(truth, means, multi_class="ovr"))


def _inputs(manifest: Manifest, name: str) -> tuple[np.ndarray, InputReader]:
    weights = find_weights(name)
    network = NetworkInput(224, weights.mean, weights.std)
    reader = InputReader(manifest, make_recipe("liver", manifest, network))
    return np.stack(reader(range(len(manifest)))), reader


def frozen_way(name: str) -> dict[str, float]:
    """Return seconds from network input to a fitted head, and its AUROC on the held-out fold."""
    from hepar.config import HeadConfig
    from hepar.fit import fit_head

    with tempfile.TemporaryDirectory() as folder:
        manifest, _, train, out = _cohort(Path(folder))
        images, _ = _inputs(manifest, name)
    import sklearn.linear_model  # noqa: F401 (not counted: it is an import)

    network = Network.from_weights(find_weights(name))
    network.features(images[:BATCH])
    started = time.perf_counter()
    features = np.concatenate(
        [network.features(images[at : at + BATCH]) for at in range(0, len(images), BATCH)]
    )
    samples = [manifest.samples[int(i)] for i in train]
    codes = np.array([manifest.labels.index(sample.label) for sample in samples])
    patients = [sample.patient_id for sample in samples]
    head = fit_head(features[train], codes, patients, manifest.labels, HeadConfig())
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "auroc": _auroc(manifest, out, head.probabilities(features[out]))}


def tuned_way(name: str, target: float, limit: int) -> dict[str, float]:
    """Return seconds until the last stage, trained from cached maps, reaches an AUROC."""
    from hepar.fit.cut import cut_graph
    from hepar.fit.finetune import Task, features_of, finetune, keep_memory
    from hepar.model import DenseHead

    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        manifest, _, train, out = _cohort(Path(folder))
        images, _ = _inputs(manifest, name)
        weights = find_weights(name)
        spec = BACKBONES.get(name)
        cut = cut_graph(read_graph(weights.graph), spec.frozen_prefixes("early"))
        prefix_network = Network(cut.prefix, weights.arrays)
        prefix_network.value(cut.boundary, images[:BATCH])
        codes = np.array([manifest.labels.index(s.label) for s in manifest.samples])
        started = time.perf_counter()
        parts = range(0, len(images), BATCH)
        values = np.concatenate(
            [prefix_network.value(cut.boundary, images[at : at + BATCH]) for at in parts]
        )
        best = 0.0
        for epochs in range(1, limit + 1):
            task = Task(
                name="bench",
                cut=cut,
                arrays=weights.arrays,
                values=lambda pairs: values[[row for row, _ in pairs]],
                views=1,
                codes=codes,
                weights=np.ones(len(codes)),
                train=train,
                tune=train[:0],
                n_labels=3,
                n_features=spec.feature_dim,
                head=None,
                key="one training, an epoch at a time",
            )
            config = FinetuneConfig(freeze="early", epochs=epochs)
            trained = finetune(task, config, Path(folder) / "checkpoint.safetensors")
            seconds = time.perf_counter() - started
            head = DenseHead.from_document(manifest.labels, {"hidden": 1}, trained.layers)
            features = features_of(task, trained.tail, out, 0)
            best = max(best, _auroc(manifest, out, head.probabilities(features)))
            if best >= target:
                break
    return {"seconds": seconds, "auroc": best, "epochs": epochs}


def papers_way(name: str, target: float, limit: int) -> dict[str, float]:
    """Return seconds until full fine-tuning, written plainly in torch, reaches an AUROC."""
    import timm
    import torch

    with tempfile.TemporaryDirectory() as folder:
        manifest, _, train, out = _cohort(Path(folder))
        images, _ = _inputs(manifest, name)
    spec, weights = BACKBONES.get(name), find_weights(name)
    kwargs = {"pad_type": "same"} if weights.graph.endswith("_same") else {}
    network = timm.create_model(spec.timm_name, num_classes=3, **kwargs)
    state = {k: torch.from_numpy(np.array(v, np.float32)) for k, v in weights.arrays.items()}
    network.load_state_dict(state, strict=False)
    optimiser = torch.optim.Adam(network.parameters(), 1e-4)
    inputs = torch.from_numpy(images)
    codes = torch.tensor([manifest.labels.index(s.label) for s in manifest.samples])
    best, started, lost = 0.0, time.perf_counter(), 0.0
    for epoch in range(1, limit + 1):
        network.train()
        order = np.random.default_rng(epoch).permutation(train)
        for rows in np.array_split(order, math.ceil(len(order) / BATCH)):
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(inputs[rows]), codes[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        seconds = time.perf_counter() - started - lost
        looked = time.perf_counter()
        network.eval()
        with torch.inference_mode():
            probabilities = network(inputs[out]).softmax(1).numpy()
        best = max(best, _auroc(manifest, out, probabilities.astype(np.float64)))
        lost += time.perf_counter() - looked  # looking at the held-out fold is not counted
        if best >= target:
            break
    return {"seconds": seconds, "auroc": best, "epochs": epoch}


def ways(rounds: int) -> str:
    """Return the time to one AUROC of held-out patients, the paper's way and ours."""
    del rounds
    name, limit = (PAPERS if _has(PAPERS) else "efficientnet_lite0"), 15
    frozen = _call("frozen", name)
    full = _call("full", name, frozen["auroc"], limit)
    target = min(frozen["auroc"], full["auroc"])
    tuned = _call("tuned", name, target, limit)
    rows = [
        ("all layers, forward and backward every epoch", full),
        ("last stage from cached maps", tuned),
        ("frozen features and a fitted head", frozen),
    ]
    lines = [
        "## The paper's way",
        "",
        f"{name} on the demo's cohort (480 slices, `liver` recipe, one fold of 12 patients held out): seconds from network input until the "
        f"AUROC of held-out patients (macro, one against the rest) is {target:.3f}, at most {limit} epochs. The first row is plain "
        "torch as found, Adam 1e-4, batch 32. Looking at the held-out fold to know when to stop is not counted, and no way to train a model; here it makes the "
        "rows comparable.",
        "",
        "| way | epochs | AUROC reached | seconds | times faster |",
        "|---|---:|---:|---:|---:|",
    ]
    for title, found in rows:
        lines.append(
            f"| {title} | {found.get('epochs', '')} | {found['auroc']:.3f} | {found['seconds']:.1f} "
            f"| {full['seconds'] / found['seconds']:.0f} |"
        )
    sys.stdout.write("\n".join(lines[-3:]) + "\n")
    return "\n".join(lines)


def main() -> int:
    """Do one measurement and print it as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what")
    parser.add_argument("name")
    parser.add_argument("more", nargs="*", type=float)
    asked = parser.parse_args()
    jobs = {
        "plain": plain_epoch,
        "cached": cached_epoch,
        "frozen": frozen_way,
        "tuned": lambda name: tuned_way(name, asked.more[0], int(asked.more[1])),
        "full": lambda name: papers_way(name, asked.more[0], int(asked.more[1])),
    }
    sys.stdout.write(json.dumps(jobs[asked.what](asked.name)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
