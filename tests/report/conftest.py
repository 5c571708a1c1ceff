"""Run folders without pixels or networks, and a comparison whose numbers are made up."""

from __future__ import annotations

import copy
import dataclasses
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hepar.config import EvaluateConfig, RunConfig, SplitConfig
from hepar.data import LabelSet, Manifest, Sample, write_manifest
from hepar.evaluate import (
    Predictions,
    aggregate,
    decide,
    evaluate,
    write_evaluation,
    write_predictions,
)
from hepar.provenance import stamp, write_artefact
from hepar.split import make_split, write_split

HOSTILE = (
    "<script>alert('label')</script>",
    "_quo\"t'es & $x^2$ \\frac",
    "\u202eRTL\u200f \u05d0\u05d1 \U0001f9ea\u2066",
    "L" * 200,
)
"""Names that break a page or a figure where one place forgets to escape, isolate or cut."""


@pytest.fixture
def make_run():
    """Write the files of a finished run with made-up predictions, for whole-page tests."""

    def make(
        folder: Path, labels: tuple[str, ...], patients: list[str], slices: int = 2, test: float = 0
    ) -> Path:
        generator = np.random.default_rng(0)
        owner = np.repeat(np.arange(len(patients)), slices)
        truth = owner % len(labels)
        samples = tuple(
            Sample(
                sample_id=f"{patients[p]}/{i}.png",
                patient_id=patients[p],
                path=f"{i}.png",
                label=labels[truth[i]],
                slice_index=i,
            )
            for i, p in enumerate(owner)
        )
        manifest = Manifest(samples, LabelSet(labels), folder)
        provenance = stamp("made up by a test")
        write_manifest(folder / "manifest.csv", manifest, provenance)
        split = make_split(manifest, SplitConfig(test=test))
        write_split(folder / "split.json", split, manifest, provenance)
        scores = generator.normal(size=(len(owner), len(labels)))
        scores[np.arange(len(owner)), truth] += 1.2
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        places = [split.of(sample) for sample in samples]
        predictions = Predictions(
            sample_id=np.array([s.sample_id for s in samples]),
            patient_id=np.array([s.patient_id for s in samples]),
            partition=np.array([place.partition for place in places]),
            fold=np.array(["" if place.fold is None else str(place.fold) for place in places]),
            reference=np.array([s.label for s in samples]),
            predicted=decide(p, labels),
            probabilities=p,
            labels=labels,
        )
        by_patient = aggregate(predictions)
        write_predictions(folder / "predictions.csv", predictions, provenance)
        write_predictions(folder / "patients.csv", by_patient, provenance)
        evaluation = evaluate(predictions, by_patient, EvaluateConfig(resamples=100))
        write_evaluation(folder / "evaluation.json", evaluation, provenance)
        write_artefact(folder / "recipe.json", "recipe", {"name": "ct", "steps": []}, provenance)
        run = {
            "command": "hepar run '</pre><b>'",
            "config": dataclasses.asdict(RunConfig()),
            "stages": {"fit": 1.5},
            "backbone": {
                "name": "made_up",
                "source": "nowhere",
                "licence": "none",
                "sha256": "0" * 64,
                "is_random": False,
                "feature_dim": 8,
                "input_size": 32,
            },
            "recipe": "ct",
            "warnings": ["A <warning>."],
        }
        write_artefact(folder / "run.json", "run", run, provenance)
        return folder

    return make


class Page(HTMLParser):
    """A page, parsed: fails on tags that do not close in order."""

    VOID = frozenset({"meta", "img", "br", "line", "link", "input", "hr", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" else []
        assert not any(name.startswith("on") for name in given)
        assert tag == "a" or (given.get("src") or given.get("href") or "#").startswith(
            ("#", "data:")
        )
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def parse_page():
    """Parse a page, so that a test can ask what a reader would see."""
    return lambda path: Page(path.read_text(encoding="utf-8"))


METRICS = (
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "auroc",
)
MODELS = (
    ("mobilenet_frozen", "mobilenetv2, frozen; logistic regression", "frozen", 0.83, 7.0),
    ("densenet_frozen", "densenet121, frozen; logistic regression", "frozen", 0.85, 38.0),
    ("resnet_tuned", "resnet50, last block trained", "fine-tuned", 0.86, 36.0),
    ("small_cnn", "four layers, from random weights", "from scratch", 0.71, 3.1),
    ("both", "mobilenetv2 and densenet121, features joined", "concatenated", 0.86, 45.0),
    ("vote", "mean of three models", "ensemble", 0.87, 81.0),
    ("control", "mobilenetv2, random weights, frozen", "frozen", 0.52, 7.0),
)


def _metric(value: float, seeds: int) -> dict[str, object]:
    spread = 0.02 if seeds > 1 else None
    return {
        "value": value,
        "low": value - 0.09,
        "high": min(1.0, value + 0.07),
        "undefined": None,
        "seed_sd": spread,
        "seed_min": value - 0.02 if spread else value,
        "seed_max": value + 0.02 if spread else value,
    }


def _history(model: int) -> list[dict[str, object]]:
    return [
        {
            "fold": fold,
            "epoch": epoch,
            "train_loss": 1.1 * 0.8**epoch + 0.02 * (fold or 0),
            "tune_loss": None if fold is None else 1.1 * 0.85**epoch + 0.01 * model + 0.1,
            "train_accuracy": 0.9,
            "tune_accuracy": None if fold is None else 0.8,
        }
        for fold in (0, 1, 2, None)
        for epoch in range(8 + 2 * (fold or 0))
    ]


def _model(i: int) -> dict[str, object]:
    name, description, kind, value, milliseconds = MODELS[i]
    trained = kind in {"fine-tuned", "from scratch"}
    seeds = [0, 1, 2] if trained else [0]
    return {
        "name": name,
        "description": description,
        "kind": kind,
        "is_random": name == "control",
        "seeds": seeds,
        "metrics": {
            metric: _metric(value - 0.01 * j, len(seeds)) for j, metric in enumerate(METRICS)
        },
        "cost": {
            "params_millions": 2.2 + i,
            "gflops": 0.3 * (i + 1),
            "train_seconds": 40.0 * (i + 1),
            "predict_ms": milliseconds,
            "bundle_mb": None if kind == "ensemble" else 9.1,
        },
        "history": _history(i) if trained else [],
        "folder": f"models/{name}/seed-0",
    }


def _test(model: str, p_holm: float | None, metric: str = "auroc") -> dict[str, object]:
    return {
        "model": model,
        "against": "vote",
        "test": "delong" if metric == "auroc" else "mcnemar",
        "metric": metric,
        "difference": -0.3,
        "low": -0.4,
        "high": -0.2,
        "p": None if p_holm is None else p_holm / 6,
        "p_holm": p_holm,
        "undefined": "no two patients of different labels" if p_holm is None else None,
    }


@pytest.fixture
def comparison():
    """The content of `comparison.json` for seven models; every number is made up."""
    content = {
        "labels": ["normal", "benign", "malignant"],
        "unit": "patient",
        "level": "patient",
        "partition": "out-of-fold",
        "n_patients": 60,
        "n_samples": 480,
        "interval": {"level": 0.95, "resamples": 2000},
        "warnings": ["All numbers on this page are made up, for a test."],
        "models": [_model(i) for i in range(len(MODELS))],
        "best": "vote",
        "tests": [
            *(_test(name, 0.4) for name, *_ in MODELS[:3]),
            _test("small_cnn", 0.004),
            _test("both", None),
            _test("control", 0.0003),
            _test("control", 0.0004, "accuracy"),
        ],
        "config": {"split": {"folds": 5, "seed": 0}, "models": ["a", "b"]},
    }
    return copy.deepcopy(content)


@pytest.fixture
def write_content():
    """Write the content of a comparison as `comparison.json`."""

    def write(folder: Path, content: dict[str, object]) -> Path:
        provenance = stamp("hepar compare", seed=0, inputs={"manifest.csv": "0" * 64})
        write_artefact(folder / "comparison.json", "comparison", content, provenance)
        return folder

    return write


@pytest.fixture
def hostile():
    return HOSTILE
