"""Measure speed on this machine and write docs/benchmarks.md.

Run as `python tools/bench.py`; it needs the extra [train] and an otherwise idle machine. Every
contestant is a process of its own that waits until called, so that none disturbs another. They are
called in turn (A B C A B C ...) and medians are compared within one run: a ratio survives a busy or
throttled machine better than a number does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from bench_audit import audit, intervals
from bench_data import inputs, memory
from bench_explain import explanations, reports
from bench_segment import examination
from bench_train import comparison, prefix, ways
from hepar.backbone import BACKBONES, Network, find_weights

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
NETWORKS = ("resnet50", "efficientnet_lite0", "mobilenetv2")
BATCH, SIDE, GEMM = 32, 224, 2048
# Keep freed memory instead of giving it back after every layer; torch gains most from it.
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
GEMMS = ("numpy", "torch", "onnxruntime")
RIVALS = ("hepar", "torch-eager", "torch-best")

Job = Callable[[], Any]


# What is measured: each function returns a job without arguments.


def hepar_job(name: str) -> Job:
    """Return our network as it stands."""
    network = Network.from_weights(find_weights(name, "random"))
    batch = images()
    return lambda: network.features(batch)


def torch_job(name: str, *, best: bool) -> Job:
    """Return timm's network in torch: as a user finds it, or in the best setting known.

    Args:
        name: of a backbone.
        best: fold BatchNorm into the convolutions, order memory by channels, infer only.
    """
    import timm
    import torch

    spec = BACKBONES.get(name)
    network = timm.create_model(spec.timm_name, num_classes=0, **spec.create_kwargs).eval()
    arrays = find_weights(name, "random").arrays
    state = {key: torch.from_numpy(np.array(array)) for key, array in arrays.items()}
    network.load_state_dict(state, strict=False)
    batch = torch.from_numpy(images())
    if best:
        fold_batchnorm(network, batch[:1])
        network = network.to(memory_format=torch.channels_last)
        batch = batch.to(memory_format=torch.channels_last)
    mode = torch.inference_mode if best else torch.no_grad

    def job() -> Any:
        with mode():
            return network(batch).numpy()

    return job


def fold_batchnorm(network: Any, image: Any) -> None:
    """Fold every BatchNorm that directly follows a convolution into it, in place."""
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    makers: dict[int, Any] = {}
    pairs: list[tuple[str, Any, Any]] = []
    kept = []  # so that no address is used twice

    def watch(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            kept.append(output)
            if isinstance(module, torch.nn.Conv2d):
                makers[id(output)] = module
            elif id(inputs[0]) in makers:
                pairs.append((name, makers[id(inputs[0])], module))

        return hook

    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d)
    modules = {name: m for name, m in network.named_modules() if isinstance(m, kinds)}
    hooks = [module.register_forward_hook(watch(name)) for name, module in modules.items()]
    with torch.no_grad():
        network(image)
    for handle in hooks:
        handle.remove()
    for name, conv, norm in pairs:
        statistics_of = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics_of)
        parent, _, child = name.rpartition(".")
        activation = getattr(norm, "act", torch.nn.Identity())
        setattr(network.get_submodule(parent), child, activation)


def gemm_job(library: str) -> Job:
    """Return the product of two square float32 matrices in a library."""
    a, b = np.random.default_rng(0).standard_normal((2, GEMM, GEMM), np.float32)
    if library == "numpy":
        return lambda: a @ b
    if library == "torch":
        import torch

        left, right = torch.from_numpy(a), torch.from_numpy(b)
        return lambda: torch.mm(left, right).numpy()
    import onnxruntime
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [GEMM, GEMM]) for n in "abc"]
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "gemm", values[:2], values[2:])
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda: session.run(["c"], {"a": a, "b": b})[0]


def images() -> np.ndarray:
    """Return a batch of noise, the same in every process."""
    return np.random.default_rng(0).standard_normal((BATCH, 3, SIDE, SIDE), np.float32)


def job_named(contestant: str) -> Job:
    """Return the job of "gemm LIBRARY" or "RIVAL BACKBONE"."""
    kind, _, name = contestant.partition(" ")
    if kind == "gemm":
        return gemm_job(name)
    return hepar_job(name) if kind == "hepar" else torch_job(name, best=kind == "torch-best")


# How it is measured.


def work(contestant: str) -> None:
    """Do the job once for every line on stdin; answer with a check sum, then with seconds."""
    warnings.simplefilter("ignore")
    job = job_named(contestant)
    for _ in range(2):
        answer = job()
    sys.stdout.write(f"{float(np.abs(answer).mean())}\n")
    sys.stdout.flush()
    for _line in sys.stdin:
        start = time.perf_counter()
        job()
        sys.stdout.write(f"{time.perf_counter() - start}\n")
        sys.stdout.flush()


@contextlib.contextmanager
def worker(contestant: str) -> Iterator[tuple[float, Callable[[], float]]]:
    """Start a contestant; yield its check sum and a function that runs it and returns seconds."""
    tuned = KEEP_MEMORY if contestant.startswith("torch-best") else {}
    # OPENBLAS_* may force an old kernel on numpy, which would lower the limit.
    plain = {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), "--work", contestant],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=plain | tuned,
    )
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise RuntimeError(f"{contestant}: no pipes")

    def seconds() -> float:
        stdin.write("\n")
        stdin.flush()
        return float(stdout.readline())

    try:
        yield float(stdout.readline()), seconds
    finally:
        stdin.close()
        process.wait(timeout=60)
        stdout.close()


def measure(contestants: Sequence[str], rounds: int) -> dict[str, float]:
    """Return the median seconds of every contestant, called in turn.

    Raises:
        RuntimeError: those that do the same job give different answers.
    """
    with contextlib.ExitStack() as stack:
        started = {name: stack.enter_context(worker(name)) for name in contestants}
        for is_gemm in (True, False):
            sums = [s for name, (s, _) in started.items() if name.startswith("gemm") == is_gemm]
            if sums and max(sums) > min(sums) * 1.001:
                raise RuntimeError(f"different answers: {sums} of {list(started)}")
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, (_, seconds) in started.items():
                times[name].append(seconds())
    return {name: statistics.median(values) for name, values in times.items()}


# The sections of the page: each takes the number of rounds and returns Markdown.


def networks(rounds: int) -> str:
    """Return how fast the networks are beside torch and the machine's matrix product."""
    rows = [
        "| network | hepar, images/s | torch as found | torch at its best | hepar / found "
        "| hepar / best | share of GEMM | GEMM, GFLOP/s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in NETWORKS:
        gemms = [f"gemm {library}" for library in GEMMS]
        times = measure([f"{rival} {name}" for rival in RIVALS] + gemms, rounds)
        rows.append(network_row(name, times))
        sys.stdout.write(f"{rows[-1]}\n")
        sys.stdout.flush()
    return "\n".join(
        [
            "## Networks",
            "",
            f"Pooled features of {BATCH} images of {SIDE} x {SIDE} pixels a call, float32, default "
            "threads. *As found*: timm's model, `.eval()`, `torch.no_grad()`. *At its best*: "
            "BatchNorm folded, `channels_last`, `torch.inference_mode()`, malloc told to keep "
            f"memory ({', '.join(f'`{k}`' for k in KEEP_MEMORY)}). *GEMM*: the fastest of "
            f"{', '.join(GEMMS)} on a {GEMM} x {GEMM} float32 matrix product, measured in the same "
            "rounds; the share is the network's floating point operations (2 per multiply-add) a "
            "second over that. Depthwise convolutions do little arithmetic for each number "
            "they read, so the share says most of networks without them.",
            "",
            *rows,
        ]
    )


def network_row(name: str, times: Mapping[str, float]) -> str:
    """Return a row of the table from median seconds of a call."""
    ours, found, best = (BATCH / times[f"{rival} {name}"] for rival in RIVALS)
    limit = max(2 * GEMM**3 / times[f"gemm {library}"] for library in GEMMS) / 1e9
    spec = BACKBONES.get(name)
    operations = spec.gflops * (SIDE / spec.input_size) ** 2
    return (
        f"| {name} | {ours:.1f} | {found:.1f} | {best:.1f} | {ours / found:.2f} "
        f"| {ours / best:.2f} | {ours * operations / limit:.0%} | {limit:.0f} |"
    )


SECTIONS: Sequence[Callable[[int], str]] = (
    networks,
    inputs,
    memory,
    prefix,
    comparison,
    ways,
    audit,
    intervals,
    explanations,
    examination,
    reports,
)


def machine() -> str:
    """Return what the numbers were measured on, in one paragraph."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    packages = ("hepar", "onnxruntime", "torch", "timm", "numpy")
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    day = datetime.now(UTC).date().isoformat()
    return f"{cpu}, {os.cpu_count()} cores; Python {platform.python_version()}; {versions}; {day}."


def with_sections(old: Path | None, head: str, made: Sequence[str]) -> list[str]:
    """Return the parts of a page: new sections take the place of old ones of the same title."""
    if old is None or not old.is_file():
        return [head, *made]
    head, *others = old.read_text(encoding="utf-8").strip().split("\n\n## ")
    parts = {part.partition("\n")[0]: f"## {part}" for part in others}
    parts |= {part.partition("\n")[0].removeprefix("## "): part for part in made}
    return [head, *parts.values()]


def main() -> int:
    """Measure every section and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="calls of each contestant")
    parser.add_argument("--to", type=Path, default=PAGE, help="page to write")
    parser.add_argument(
        "--only", default="", help="comma-separated sections; the page keeps the others"
    )
    parser.add_argument("--work", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work)
        return 0
    head = (
        "# Benchmarks\n\nWritten by `make bench`; medians of "
        f"{arguments.rounds} rounds.\n\n{machine()}"
    )
    wanted = [name for name in arguments.only.split(",") if name]
    chosen = [section for section in SECTIONS if not wanted or section.__name__ in wanted]
    made = [section(arguments.rounds) for section in chosen]
    page = with_sections(arguments.to if wanted else None, head, made)
    arguments.to.parent.mkdir(parents=True, exist_ok=True)
    arguments.to.write_text("\n\n".join(page) + "\n", encoding="utf-8")
    sys.stdout.write(f"{arguments.to}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
