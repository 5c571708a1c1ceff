"""Every command that a page shows is run in order, on a small cohort and with small images."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hepar.backbone import find_weights

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
TRAINED = "recipe.size=64 split.folds=2 evaluate.resamples=100 finetune.epochs=1 augment.views=2"
TAUGHT = "finder.steps=100 finder.pixels=12000"
SMALL = {
    "run": f"{TRAINED} {TAUGHT} controls.permutations=20 explain.slices=4 explain.checked=2",
    "compare": f"{TRAINED} {TAUGHT}",
    "reproduce-paper": TRAINED,
    "fit": "segment.size=64 segment.steps=15 segment.batch=8 segment.folds=2",
}
PAGES = ["README", "docs/tutorial", "docs/explanations", "docs/reproduction"]
HOW_TO = [
    "compare",
    "segment",
    "lesions",
    "masks",
    "volumes",
    "fine-tune",
    "several-gpus",
    "check-claims",
    "plan-a-study",
    "histopathology",
]


def blocks(page):
    """Return language and lines of each code block; broken lines are put together."""
    text = (ROOT / f"{page}.md").read_text(encoding="utf-8")
    return [(kind, body.replace("\\\n", " ").splitlines()) for kind, body in FENCE.findall(text)]


def is_command(line):
    return line.removeprefix("$ ").startswith(("hepar ", "torchrun "))


def called(line, cohort):
    """Return a page's line as arguments that this machine can run, and run soon."""
    words = shlex.split(line.removeprefix("$ ").partition("  #")[0])
    stands_for = {
        "SOURCE": cohort / "nifti" / "index.csv",
        "NEW": cohort / "nifti",
        "NEW_SERIES...": cohort / "dicom",
        "lits_slices/index.csv": cohort / "nifti" / "index.csv",
        "docs/phantom.png": ROOT / "docs" / "phantom.png",
    }
    words = [str(stands_for.get(word, word)) for word in words]
    if words[-2:] == ["--level", "volume"]:
        words += ["--set=explain.slices=2", "--set=recipe.size=48"]
    if "phantom-tiles" in words:
        words[words.index("--patients") + 1] = "12"
    start = [sys.executable, "-m"]
    if words[0] == "torchrun":
        words[0] = "torch.distributed.run"
    else:
        words[0] = "hepar.cli"
    command = next((word for word in words if word in SMALL), "")
    given = [f"--set={setting}" for setting in SMALL.get(command, "").split()]
    return [*start, *words, *given]


@pytest.fixture
def shell(cohort, tmp_path):
    """Return a function that runs a page's line where a reader of the page would stand."""
    (tmp_path / "table.csv").write_text("model,accuracy,f1,n\nVGG16,91.23%,91.50%,300\n")

    def run(line):
        done = subprocess.run(
            called(line, cohort),
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=tmp_path,
            env={**os.environ, "HEPAR_WEIGHTS": str(tmp_path), "COLUMNS": "200"},
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        return done.stdout

    def prepare(page):
        text = (ROOT / f"{page}.md").read_text(encoding="utf-8")
        if "runs/demo" in text:
            run("hepar demo --patients 12 --out runs/demo")
        for name, file in (("mobilenetv2", "mobilenetv2_100"), ("resnet50", "resnet50")):
            if name in text:
                untrained = dict(find_weights(name, "random").arrays)
                save_file(untrained, tmp_path / f"{file}.safetensors")
        if "liver-unet" in text:  # what was fetched before is not fetched again
            save_file({"none": np.zeros(1)}, tmp_path / "liver_unet.safetensors")
        for kind, lines in blocks(page):
            if kind == "toml":
                (tmp_path / "plan.toml").write_text("\n".join(lines))

    run.prepare = prepare
    return run


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("page", [*PAGES, *(f"docs/how-to/{name}" for name in HOW_TO)])
def test_every_command_of_a_page_runs(page, shell):
    shell.prepare(page)
    ran = [shell(line) for _, lines in blocks(page) for line in lines if is_command(line)]
    assert ran


@pytest.mark.parametrize(
    ("page", "line"),
    [
        ("docs/how-to/plan-a-study", line)
        for _, lines in blocks("docs/how-to/plan-a-study")
        for line in lines[:1]
        if is_command(line)
    ],
)
def test_a_plan_prints_what_its_page_shows(page, line, shell):
    shown = next(lines[1:] for _, lines in blocks(page) if lines[:1] == [line])
    printed = [row.rstrip() for row in shell(line).splitlines()]
    assert printed[: len(shown)] == shown


def test_no_page_with_commands_is_forgotten():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/how-to").glob("*")]
    with_commands = {
        page.relative_to(ROOT).with_suffix("").as_posix()
        for page in pages
        if any(
            is_command(line)
            for _, lines in blocks(page.relative_to(ROOT).with_suffix(""))
            for line in lines
        )
    }
    assert with_commands == {*PAGES, *(f"docs/how-to/{name}" for name in HOW_TO)}
