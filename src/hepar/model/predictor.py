"""From pictures, series or volumes to probabilities: the only inference path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepar.backbone import Network
from hepar.config import BackboneConfig
from hepar.data import Finding, Manifest
from hepar.errors import BundleError
from hepar.evaluate import Predictions, aggregate, decide
from hepar.model.bundle import Bundle, read_bundle
from hepar.model.inputs import InputReader, compute_features
from hepar.progress import LOG

__all__ = ["Answer", "Predictor", "load_predictor"]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a bundle says about new data.

    Attributes:
        slices: a row per slice that could be answered for.
        patients: a row per patient.
        findings: what the reader should know: livers guessed by rule, slices without liver.
    """

    slices: Predictions
    patients: Predictions
    findings: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class Predictor:
    """A bundle with its network loaded.

    Attributes:
        bundle: the model on disk.
        network: its backbone, ready to run.
    """

    bundle: Bundle
    network: Network

    def predict(self, manifest: Manifest, config: BackboneConfig | None = None) -> Answer:
        """Answer for every sample of a manifest.

        Args:
            manifest: the new data; labels in it become the reference where they are the bundle's.
            config: batch and workers.

        Returns:
            Predictions per slice and per patient, and findings.

        Raises:
            BundleError: no slice could be answered for.
            RecipeError: the recipe does not fit the pixels.
        """
        bundle = self.bundle
        reader = InputReader(manifest, bundle.recipe, guess_liver=True)
        features = compute_features(self.network, reader, config or BackboneConfig())
        kept = np.array([i for i in range(len(manifest)) if i not in reader.empty], np.int64)
        if not len(kept):
            raise BundleError(
                f"predict: expected slices that show the liver, got none in {len(manifest)}. "
                "Name liver masks in a table, or use a bundle with another recipe."
            )
        samples = [manifest.samples[i] for i in kept]
        probabilities = bundle.head.probabilities(features[kept])
        slices = Predictions(
            sample_id=np.array([sample.sample_id for sample in samples]),
            patient_id=np.array([sample.patient_id for sample in samples]),
            partition=np.full(len(kept), "predict"),
            fold=np.full(len(kept), ""),
            reference=np.array([s.label if s.label in bundle.labels else "" for s in samples]),
            predicted=decide(probabilities, bundle.labels.names),
            probabilities=probabilities,
            labels=bundle.labels.names,
            patients_known=manifest.patients_known,
        )
        patients = aggregate(slices, bundle.aggregate, bundle.top_k)
        return Answer(slices, patients, _findings(reader))


def _findings(reader: InputReader) -> tuple[Finding, ...]:
    n = len(reader.manifest)
    findings = []
    if reader.guessed:
        findings.append(
            Finding(
                "liver-guessed",
                "all slices"
                if len(reader.guessed) == n
                else f"{len(reader.guessed)} of {n} slices",
                f"{len(reader.guessed)} of {n} slices have no liver mask; the liver was guessed by "
                "a rule that misses it on one slice in four. Name masks for an answer to trust.",
            )
        )
    if reader.empty:
        findings.append(
            Finding(
                "no-liver",
                f"{len(reader.empty)} of {n} slices",
                f"{len(reader.empty)} of {n} slices show no liver and were left out.",
                "set-aside",
            )
        )
    for finding in findings:
        LOG.warning("%s", finding.message)
    return tuple(findings)


def load_predictor(folder: Path, threads: int = 0) -> Predictor:
    """Load a bundle, verified, with its network.

    Args:
        folder: a bundle.
        threads: inside the network; 0 for one per core.
    """
    bundle = read_bundle(folder)
    return Predictor(bundle, Network(bundle.graph, bundle.weights, threads))
