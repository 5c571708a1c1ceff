"""Measure the gate on real CT, pictures of other things and the phantom; write a page of tables.

Run as `python tools/gate_results.py DATA PICTURES`, where DATA holds `lits_slices`, `msd_liver_256`
and others, each with an `index.csv`, and PICTURES is a folder of photographs and other pictures
that are not CT; a user's clone has neither.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from hepar import Manifest
from hepar.backbone import Network, find_weights
from hepar.config import IngestConfig
from hepar.data import Sample
from hepar.fit.gate import _quantile, _shape, _spread, fit_gate
from hepar.ingest import ingest, read_slices
from hepar.model.cloud import unit_rows
from hepar.model.gate import Gate
from hepar.model.gate_inputs import (
    gate_features,
    gate_recipes,
    turned_features,
)
from hepar.phantom import PhantomConfig, write_cohort
from hepar.preprocess import NetworkInput

FOLDS = 5

LIVER = ("000046_03_6_36", "000360_07_4_215", "000500_03_2_61", "000524_04_3_79",
         "000642_02_8_201", "001008_05_2_57", "001292_03_4_190", "001468_02_2_74",
         "001572_02_2_65", "002088_03_3_262", "002358_02_5_20", "003136_03_3_204",
         "003926_07_6_331", "004202_02_12_294")  # fmt: skip
"""DeepLesion pictures that show liver, chosen by eye."""

UNCLEAR = ("000294_05_2_78", "002466_02_3_56", "003018_05_5_37", "003428_03_3_385",
           "004132_04_5_222")  # fmt: skip
"""At the liver's edge, or cropped so that one cannot tell: not counted. The others show neck, chest
above the liver, pelvis or thighs."""

WEIGHTS = find_weights("efficientnet_lite0")
NETWORK = Network.from_weights(WEIGHTS, 1)
RECIPES = gate_recipes(NetworkInput(224, WEIGHTS.mean, WEIGHTS.std))


@dataclass(frozen=True, eq=False)
class Set:
    """Samples with the gate's features of them, as they are and upside down."""

    samples: tuple[Sample, ...]
    features: np.ndarray
    turned: np.ndarray

    @property
    def patients(self) -> np.ndarray:
        """Patient of every sample."""
        return np.array([sample.patient_id for sample in self.samples])

    def take(self, rows: np.ndarray) -> Set:
        """Return some rows."""
        at = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Set(tuple(self.samples[i] for i in at), self.features[at], self.turned[at])

    def __add__(self, other: Set) -> Set:
        features = np.concatenate([self.features, other.features])
        turned = np.concatenate([self.turned, other.turned])
        return Set(self.samples + other.samples, features, turned)


def measure(manifest: Manifest) -> Set:
    """Compute features of a manifest."""
    features = gate_features(NETWORK, manifest, RECIPES)
    turned = turned_features(NETWORK, manifest, RECIPES)(range(len(manifest)))
    return Set(manifest.samples, features, turned)


def read(path: Path, *, upside_down: bool = False) -> Manifest:
    """Ingest a table or folder whose patients may be unknown."""
    config = IngestConfig(flip_vertical=upside_down, patients_unknown=True)
    return ingest(path, config)


def windowed(manifest: Manifest, folder: Path) -> Manifest:
    """Save HU as pictures in a soft-tissue window (level 40, width 400), as others do."""
    folder.mkdir()
    samples = []
    for i, sample in enumerate(manifest.samples):
        (image,) = read_slices(manifest, [sample])
        grey = np.clip((image.pixels + 160) / 400, 0, 1) * 255
        cv2.imwrite(str(folder / f"{i:04d}.png"), np.rint(grey).astype(np.uint8))
        changed = {"sample_id": f"{i}", "path": f"{i:04d}.png", "kind": "picture", "frame": 0}
        samples.append(dataclasses.replace(sample, **changed, mask="", spacing_mm=None))
    return dataclasses.replace(manifest, samples=tuple(samples), root=folder)


def read_all(data: Path, pictures: Path, work: Path) -> dict[str, Set]:
    """Return every real set by name."""
    sets = {}
    for name, folder, upside_down in (
        ("lits", "lits_slices", False),
        ("msd", "msd_liver_256", False),
        ("vessel", "msd_hepaticvessel", False),
        ("nih", "nih_normal", True),
        ("lung", "iqoth_lung", False),
        ("kidney", "kidney_ct", False),
        ("deep", "ood_ct_deeplesion", False),
    ):
        manifest = read(data / folder / "index.csv", upside_down=upside_down)
        found = measure(manifest)
        shown = [sample.extra.get("liver_px") != "0" for sample in manifest.samples]
        sets[name] = found.take(np.array(shown))
    for name, folder in (("chaos", "chaos_ct_set3_dicom"), ("tcga", "tcga_lihc_dicom")):
        manifest = read(data / folder / "index.csv")
        shown = [s for s in manifest.samples if s.extra.get("liver_px") != "0"]
        manifest = dataclasses.replace(manifest, samples=tuple(shown))
        sets[name] = measure(windowed(manifest, work / name))
    sets["pictures"] = measure(read(pictures))
    stems = np.array([Path(s.path).stem for s in sets["deep"].samples])
    liver, unclear = np.isin(stems, LIVER), np.isin(stems, UNCLEAR)
    sets["deep liver"] = sets["deep"].take(liver)
    sets["far"] = sets["deep"].take(~liver & ~unclear)
    return sets


def folds_of(patients: np.ndarray) -> np.ndarray:
    """Assign patients to folds, or each to its own where they are few."""
    names = np.unique(patients)
    n = len(names) if len(names) <= FOLDS else FOLDS
    order = np.random.default_rng(1).permutation(len(names))
    fold = dict(zip(names[order], np.arange(len(names)) % n, strict=True))
    return np.array([fold[patient] for patient in patients])


Judge = Callable[[np.ndarray], np.ndarray]


def cloud(directions: int) -> Callable[[Set], Judge]:
    """Mahalanobis distance in some main directions."""

    def fit(train: Set) -> Judge:
        import hepar.fit.gate as room

        before, room._DIRECTIONS = room._DIRECTIONS, directions
        shape = _shape(train.features)
        room._DIRECTIONS = before
        return lambda features: np.zeros(len(features)) if not shape else shape.distances(features)

    return fit


def nearest(k: int) -> Callable[[Set], Judge]:
    """Mean cosine distance to the k nearest training slices."""

    def fit(train: Set) -> Judge:
        rows = unit_rows(train.features)
        return lambda new: np.sort(1 - unit_rows(new) @ rows.T, axis=1)[:, :k].mean(axis=1)

    return fit


def both(train: Set) -> Judge:
    """The greater of Mahalanobis and cosine distance, each in units of its left-out limit."""
    kept = train.take(_spread(train.patients))
    ways = [cloud(32), nearest(5)]
    limits = [limit_of(way, kept) for way in ways]
    fitted = [way(kept) for way in ways]
    return lambda new: np.max([f(new) / m for f, m in zip(fitted, limits, strict=True)], axis=0)


def limit_of(way: Callable[[Set], Judge], train: Set) -> float:
    """Return the limit that `fit_gate` would set to another distance."""
    fold, distances = folds_of(train.patients), np.zeros(len(train.samples))
    for number in np.unique(fold):
        out = fold == number
        distances[out] = way(train.take(~out))(train.features[out])
    return _quantile(distances, train.patients, 0.05)


def auroc(inside: np.ndarray, patients: np.ndarray, outside: np.ndarray) -> float:
    """Return AUROC of outsiders against left-out slices, patients weighing alike."""
    names, counts = np.unique(patients, return_counts=True)
    share = dict(zip(names, 1 / counts / len(names), strict=True))
    weights = np.r_[[share[p] for p in patients], np.full(len(outside), 1 / len(outside))]
    labels = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
    return float(roc_auc_score(labels, np.r_[inside, outside], sample_weight=weights))


def compare(sets: dict[str, Set], train: Set) -> list[str]:
    """Return a row of numbers per way of measuring distance, limits from left-out patients."""
    ways = {
        "Mahalanobis, 8 directions": cloud(8),
        "Mahalanobis, 16 directions": cloud(16),
        "**Mahalanobis, 32 directions**": cloud(32),
        "Mahalanobis, 64 directions": cloud(64),
        "cosine to the nearest slice": nearest(1),
        "cosine to the nearest 5": nearest(5),
        "the greater of both": both,
    }
    rows = []
    for name, way in ways.items():
        kept = train.take(_spread(train.patients))
        fold, left_out = folds_of(kept.patients), np.zeros(len(kept.samples))
        for number in np.unique(fold):
            out = fold == number
            left_out[out] = way(kept.take(~out))(kept.features[out])
        limit, judge = _quantile(left_out, kept.patients, 0.05), way(kept)
        cells = [name]
        for other in ("pictures", "far", "lung"):
            cells.append(f"{auroc(left_out, kept.patients, judge(sets[other].features)):.3f}")
        for other in ("pictures", "far", "lung", "vessel", "nih", "deep liver"):
            cells.append(f"{(judge(sets[other].features) > limit).mean():.0%}")
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def refusals(gate: Gate, some: Set) -> str:
    """Return the share of slices and of patients refused."""
    verdicts = gate.judge(some.features, some.samples)
    answers = gate.judge_patients(verdicts, some.samples, lambda rows: some.turned[list(rows)])
    slices = np.mean([not verdict.accepted for verdict in verdicts])
    if len(answers) == len(some.samples):
        return f"{len(some.samples)} | | {slices:.1%} | |"
    refused = sum(not answer.accepted for answer in answers.values())
    return f"{len(some.samples)} | {len(answers)} | {slices:.1%} | {refused} of {len(answers)} |"


def unseen(train: Set) -> tuple[np.ndarray, str, str]:
    """Leave patients out of everything, limit included; return their scores and what was said."""
    fold = folds_of(train.patients)
    scores, refused = np.zeros(len(train.samples)), np.zeros(len(train.samples), bool)
    gone = over = found = found_slices = 0
    for number in np.unique(fold):
        out = train.take(fold == number)
        gate = fit_gate(*_xy(train.take(fold != number)))
        verdicts = gate.judge(out.features, out.samples)
        scores[fold == number] = [v.score or 0 for v in verdicts]
        refused[fold == number] = [not v.accepted for v in verdicts]
        for features, turned in ((out.features, out.turned), (out.turned, out.features)):
            own = gate.judge(features, out.samples)
            said = gate.judge_patients(
                own, out.samples, lambda rows, t=turned: t[list(rows)]
            ).values()
            upside = sum("upside down" in v.reason for v in said)
            if features is out.features:
                gone += sum(not v.accepted for v in said)
                over += upside
            else:
                found += upside
                found_slices += sum(not v.accepted for v in own)
    patients = train.patients
    n = len(np.unique(patients))
    by_patient = np.mean([refused[patients == p].mean() for p in np.unique(patients)])
    line = (
        f"{len(refused)} | {n} | {by_patient:.1%} ({refused.mean():.1%} of all slices) | "
        f"{gone} of {n} |"
    )
    turned_line = f"{n} | {over} | {found} | {found_slices / len(refused):.0%}"
    return scores, line, turned_line


def _xy(some: Set) -> tuple[np.ndarray, tuple[Sample, ...]]:
    return some.features, some.samples


def turn_row(gate: Gate, some: Set) -> str:
    """Return how many patients are called upside down when upright, and when not."""
    calls = []
    for features, turned in ((some.features, some.turned), (some.turned, some.features)):
        verdicts = gate.judge(features, some.samples)
        said = gate.judge_patients(verdicts, some.samples, lambda rows, t=turned: t[list(rows)])
        calls.append(sum("upside down" in v.reason for v in said.values()))
    refused = np.mean([not verdict.accepted for verdict in verdicts])
    return f"{len(said)} | {calls[0]} | {calls[1]} | {refused:.0%}"


TITLES = {
    "vessel": "`msd_hepaticvessel`: liver with tumours, another source",
    "nih": "`nih_normal` turned upright: upper abdomen at pancreas level, another source",
    "chaos": "`chaos_ct_set3_dicom` as pictures, slices with liver",
    "tcga": "`tcga_lihc_dicom` as pictures, all levels of one series of 8 mm",
    "deep liver": "`ood_ct_deeplesion`, pictures that show liver",
    "far": "`ood_ct_deeplesion`, levels far from the liver",
    "lung": "`iqoth_lung`",
    "kidney": "`kidney_ct`: abdomen at kidney level, often with liver; some crops",
    "pictures": "photographs and other pictures",
}
PROPER = ("vessel", "nih", "chaos", "tcga", "deep liver")


def real(sets: dict[str, Set]) -> str:
    """Return the sections on real CT."""
    trained = {
        "`lits_slices` + `msd_liver_256`": sets["lits"] + sets["msd"],
        "`msd_liver_256`": sets["msd"],
        "`lits_slices`": sets["lits"],
    }
    text = []
    for title, train in trained.items():
        scores, line, turned_line = unseen(train)
        gate = fit_gate(*_xy(train))
        names = np.unique(train.patients)
        values = []
        for name in ("pictures", "far", "lung"):
            judged = gate.judge(sets[name].features, sets[name].samples)
            values.append(auroc(scores, train.patients, np.array([v.score for v in judged])))
        far, near = (
            np.array([v.score for v in gate.judge(sets[k].features, sets[k].samples)])
            for k in ("far", "deep liver")
        )
        own = roc_auc_score(np.r_[np.ones(len(far)), np.zeros(len(near))], np.r_[far, near])
        text.append(f"### Trained on {title}: {len(names)} patients, {len(scores)} slices\n")
        text.append(
            f"AUROC against left-out liver slices: pictures **{values[0]:.4f}**, "
            f"far levels **{values[1]:.3f}**, lung **{values[2]:.3f}**. Far levels against liver "
            f"within DeepLesion alone, so that the source gives no hint: **{own:.3f}**.\n"
        )
        text += [f"- {note}" for note in gate.notes] + [""] * bool(gate.notes)
        text += ["| judged | slices | patients | slices refused | patients refused |",
                 "|---|---|---|---|---|",
                 f"| **unseen patients of the same source** | {line}"]  # fmt: skip
        rows = [(name, some) for name, some in sets.items() if name in TITLES]
        rows.sort(key=lambda row: list(TITLES).index(row[0]))
        for name, some in rows:
            kept = some.take(~np.isin(some.patients, names)) if name in PROPER else some
            text.append(f"| {TITLES[name]} | {refusals(gate, kept)}")
        text += ["", "| upside down | patients | called so when upright | called so when upside "
                 "down | slices refused when upside down |", "|---|---|---|---|---|",
                 f"| unseen patients of the same source | {turned_line} |"]  # fmt: skip
        text += [f"| `{n}` | {turn_row(gate, sets[k])} |" for n, k in
                 (("nih_normal", "nih"), ("msd_hepaticvessel", "vessel"))]  # fmt: skip
        text += ["", "| distance | AUROC pictures | far | lung | refused: pictures | far | lung | "
                 "refused liver: `vessel` | `nih` | `deep` |", "|---" * 10 + "|"]  # fmt: skip
        text += [*compare(sets, train), ""]
    return "\n".join(text)


def noise(folder: Path) -> Manifest:
    """Write pictures that show nothing."""
    rng, place = np.random.default_rng(0), folder / "noise"
    place.mkdir()
    for i in range(8):
        white = rng.integers(0, 256, (256, 256)).astype(np.uint8)
        soft = cv2.GaussianBlur(rng.normal(size=(256, 256)), (0, 0), 2.0 + i)
        soft = np.clip(128 + 40 * soft / soft.std(), 0, 255).astype(np.uint8)
        flat = np.full((256, 256), 30 * i, np.uint8)
        for name, image in (("white", white), ("soft", soft), ("flat", flat)):
            cv2.imwrite(str(place / f"{name}{i}.png"), image)
    return read(place)


def phantom(sets: dict[str, Set], work: Path) -> str:
    """Return the section on the phantom."""
    config = PhantomConfig(patients=60, slices=8, size=256, seed=0)
    write_cohort(work / "phantom", config, ("png", "dicom"))
    plain = IngestConfig()
    rows = []
    labels = dataclasses.replace(plain, labels_csv=str(work / "phantom" / "labels.csv"))
    sources = {
        "pictures": ingest(work / "phantom" / "png" / "index.csv", plain),
        "HU": ingest(work / "phantom" / "dicom", labels),
    }
    nothing = measure(noise(work))
    for kind, manifest in sources.items():
        train = measure(manifest)
        _, line, turned = unseen(train)
        gate = fit_gate(*_xy(train))
        rows.append(f"| phantom as {kind}: **unseen patients** | {line}")
        rows.append(f"| phantom as {kind}: called upside down when upright, and when not | "
                    f"| {turned.split(' | ')[0]} | | {turned.split(' | ')[1]}, "
                    f"{turned.split(' | ')[2]} |")  # fmt: skip
        rows.append(f"| phantom as {kind}: photographs and other pictures | "
                    f"{refusals(gate, sets['pictures'])}")  # fmt: skip
        rows.append(f"| phantom as {kind}: noise and empty pictures | {refusals(gate, nothing)}")
        if kind == "pictures":
            for name in ("lits", "msd"):
                rows.append(f"| phantom as {kind}: real liver CT, `{name}` | "
                            f"{refusals(gate, sets[name])}")  # fmt: skip
    return "\n".join(rows)


def speed(train: Set) -> str:
    """Return seconds to fit, and to judge 1,000 slices."""
    started = time.perf_counter()
    gate = fit_gate(*_xy(train))
    fitted = time.perf_counter() - started
    some = train.take(np.arange(1000) % len(train.samples))
    started = time.perf_counter()
    gate.judge(*_xy(some))
    judged = time.perf_counter() - started
    return f"Fitting on {len(train.samples):,} slices takes {fitted:.1f} s; judging 1,000 slices " \
           f"takes {judged:.2f} s beyond their features."  # fmt: skip


def main() -> int:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("pictures", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sets = read_all(arguments.data, arguments.pictures, Path(name))
        sys.stdout.write(real(sets) + "\n")
        sys.stdout.write(phantom(sets, Path(name)) + "\n")
        sys.stdout.write(speed(sets["lits"] + sets["msd"]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
