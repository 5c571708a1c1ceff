"""Sections of the benchmark about data: from a DICOM file to network input, and peak memory."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hepar.backbone import Network, find_weights
from hepar.config import IngestConfig
from hepar.data import Slice
from hepar.ingest import ingest, read_slices
from hepar.phantom import PhantomConfig, write_cohort
from hepar.preprocess import NetworkInput, make_recipe

SLICES = 32


def _median(work: Callable[[], object], rounds: int) -> float:
    """Return the median seconds of a call, after one that is not counted."""
    work()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def inputs(rounds: int) -> str:
    """Return what decoding and each step of a recipe cost beside the features of ResNet-50."""
    network = Network.from_weights(find_weights("resnet50", "random"))
    batch = np.random.default_rng(0).standard_normal((SLICES, 3, 224, 224), np.float32)
    features = _median(lambda: network.features(batch), max(3, rounds // 3)) / SLICES
    rows = [
        "| recipe | step | ms a slice | share of ResNet-50's features |",
        "|---|---|---|---|",
        f"| | features of ResNet-50 | {1000 * features:.1f} | 100 % |",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cohort(folder, PhantomConfig(patients=4, slices=8, size=512), ("dicom", "masks"))
        config = dataclasses.replace(IngestConfig(), labels_csv=str(folder / "labels.csv"))
        manifest = ingest(folder / "dicom", config)
        samples = manifest.samples[:SLICES]
        read = _median(lambda: read_slices(manifest, samples), rounds) / SLICES
        slices = read_slices(manifest, samples)
        for recipe in ("liver", "ct"):
            steps = make_recipe(recipe, manifest, NetworkInput(224, (0.5,) * 3, (0.5,) * 3)).steps
            total = read
            rows.append(_row(recipe, "read and decode, 512 x 512", read, features))
            now: list[Slice] = slices
            for step in steps:
                cost = _median(lambda s=step, n=now: [s(image) for image in n], rounds) / SLICES
                rows.append(_row(recipe, type(step).__name__, cost, features))
                total += cost
                now = [step(image) for image in now]
            rows.append(_row(recipe, "**together**", total, features))
    return "## From a DICOM slice to network input, one thread\n\n" + "\n".join(rows)


def _row(recipe: str, name: str, seconds: float, features: float) -> str:
    return f"| `{recipe}` | {name} | {1000 * seconds:.2f} | {seconds / features:.1%} |"


def memory(rounds: int) -> str:
    """Return the peak memory of feature extraction for 400 and for 4,000 slices."""
    del rounds
    program = """
    import sys
    from pathlib import Path
    import numpy as np
    from hepar.backbone import Network, extract_features, find_weights

    n = int(sys.argv[1])
    network = Network.from_weights(find_weights("efficientnet_lite0"))
    image = np.zeros((3, 224, 224), np.float32)
    keys = [f"{i:064x}" for i in range(n)]
    extract_features(network, "k", keys, lambda part: [image + i for i in part])
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
    """
    rows = ["| slices | peak memory, MB |", "|---|---|"]
    for n in (400, 4000):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), str(n)],
            capture_output=True,
            text=True,
            check=True,
        )
        rows.append(f"| {n:,} | {done.stdout.strip()} |")
    rows.append("")
    rows.append("A row of features is 5 KB; everything else is bounded.")
    return "## Peak memory of feature extraction\n\n" + "\n".join(rows)
