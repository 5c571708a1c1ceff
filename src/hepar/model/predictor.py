"""From pictures, series or volumes to probabilities: the only inference path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepar.backbone import Network
from hepar.config import BackboneConfig
from hepar.data import Finding, Manifest, stack_series, unstack_series
from hepar.errors import BundleError
from hepar.evaluate import Predictions, decide
from hepar.model.attention_head import attention_over_views
from hepar.model.bundle import Bundle, read_bundle
from hepar.model.decision import PatientAnswer
from hepar.model.gate import Gate
from hepar.model.gate_inputs import judge_patients
from hepar.model.head import Head
from hepar.model.inputs import InputReader, compute_features, in_context
from hepar.model.segmenter import Outlines, Segmenter
from hepar.progress import LOG

__all__ = ["Answer", "Predictor", "load_predictor", "mean_over_views"]

_UNSEEN = "no slice shows the liver"


@dataclass(frozen=True, eq=False)
class Answer:
    """What a bundle says about new data.

    Attributes:
        slices: a row per slice that could be answered for.
        patients: a row per patient.
        answers: what is said to each patient, in the order of `patients`, and why nothing is to
            those after them, of whom no slice could be answered for.
        findings: what the reader should know: livers guessed by rule, slices without liver.
        refused: patients that the gate refuses.
    """

    slices: Predictions
    patients: Predictions
    answers: tuple[PatientAnswer, ...]
    findings: tuple[Finding, ...]
    refused: tuple[str, ...] = ()

    def numbers(self, at: int) -> tuple[str, list[float]]:
        """Return the likeliest label of an answer and its probabilities; "" and [] of no slice.

        Args:
            at: position in `answers`.
        """
        if at >= len(self.patients):
            return "", []
        return str(self.patients.predicted[at]), self.patients.probabilities[at].tolist()


@dataclass(frozen=True, eq=False)
class Predictor:
    """A bundle with its networks loaded.

    Attributes:
        bundle: the model on disk.
        networks: of its parts, ready to run.
    """

    bundle: Bundle
    networks: tuple[Network, ...]

    def predict(
        self, manifest: Manifest, config: BackboneConfig | None = None, *, gate: bool = True
    ) -> Answer:
        """Answer for every sample of a manifest.

        Args:
            manifest: the new data; labels in it become the reference where they are the bundle's.
            config: batch and workers.
            gate: let the bundle's gate refuse patients that the model was not made for.

        Returns:
            Predictions per slice and per patient, and findings.

        Raises:
            BundleError: no slice could be answered for.
            RecipeError: the recipe does not fit the pixels.
        """
        if any(part.recipe.needs_series for part in self.bundle.parts):
            manifest = stack_series(manifest)
        readers = self.readers(manifest)
        features = np.concatenate(
            [
                compute_features(network, reader, config or BackboneConfig())
                for network, reader in zip(self.networks, readers, strict=True)
            ],
            axis=2,
        )
        return self.answer(features, readers, config, gate=gate)

    def readers(self, manifest: Manifest) -> list[InputReader]:
        """Return what reads new data for each network."""
        bundle = self.bundle
        segmenter = bundle.segmenter
        outlines = None if segmenter is None else Outlines(manifest, Segmenter(segmenter))
        return [
            InputReader(
                manifest,
                part.recipe,
                guess_liver=True,
                outlines=outlines,
                augment=bundle.augment,
                views=bundle.views,
            )
            for part in bundle.parts
        ]

    def answer(
        self,
        features: NDArray[np.float32],
        readers: Sequence[InputReader],
        config: BackboneConfig | None = None,
        *,
        gate: bool = True,
    ) -> Answer:
        """Answer from features that are already there.

        Args:
            features: (n, views, d) of all networks, a row per sample of the readers' manifest.
            readers: that read the samples for them.
            config: batch and workers, for the gate.
            gate: let the bundle's gate refuse patients that the model was not made for.

        Raises:
            BundleError: no slice could be answered for.
        """
        bundle, manifest = self.bundle, readers[0].manifest
        empty = set().union(*(reader.empty for reader in readers))
        kept = np.array([i for i in range(len(manifest)) if i not in empty], np.int64)
        if not len(kept):
            who = "the segmenter found" if bundle.segmenter else "got"
            raise BundleError(
                f"predict: expected {readers[0].recipe.things} that show the liver, {who} none in "
                f"{len(manifest)}. "
                "Name liver masks in a table, or use a bundle with another recipe."
            )
        samples = [manifest.samples[i] for i in kept]
        known = in_context(features[kept], samples, centre=bundle.centre, beside=bundle.beside)
        probabilities = mean_over_views(bundle.head, known)
        scores = Predictions(
            sample_id=np.array([sample.sample_id for sample in samples]),
            patient_id=np.array([sample.patient_id for sample in samples]),
            partition=np.full(len(kept), "predict"),
            fold=np.full(len(kept), ""),
            reference=np.array([s.label if s.label in bundle.labels else "" for s in samples]),
            predicted=decide(probabilities, bundle.labels.names),
            probabilities=probabilities,
            labels=bundle.labels.names,
            unit=manifest.unit,
            attention=attention_over_views(bundle.head, features[kept]),
        )
        slices, patients = bundle.decision.decide(scores)
        answers = bundle.decision.answer(patients)
        findings = (
            *_findings(bundle, readers, empty),
            *(Finding("untested", "bundle", note, "note") for note in bundle.decision.notes),
        )
        gone: tuple[str, ...] = ()
        if gate and bundle.gate:
            slices_of = unstack_series(manifest)
            answers, refused, gone = _refuse(bundle.gate, slices_of, answers, config)
            if "hu" in bundle.kinds:  # pictures are refused then, which says it all
                findings = tuple(f for f in findings if f.code != "other-kind")
            findings = (*refused, *findings)
        answers += tuple(
            PatientAnswer(finding.where, "", (), None, _UNSEEN)
            for finding in findings
            if finding.code == "no-answer"
        )
        for finding in findings:
            LOG.warning("%s", finding.message)
        return Answer(slices, patients, answers, findings, gone)


def mean_over_views(head: Head, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return probabilities (n, k) from features (n, views, d): the mean over the views."""
    n, views, d = features.shape
    rows = head.probabilities(features.reshape(n * views, d)).reshape(n, views, -1)
    return np.asarray(rows.mean(axis=1), np.float64)


def _findings(
    bundle: Bundle, readers: Sequence[InputReader], empty: set[int]
) -> tuple[Finding, ...]:
    n, things = len(readers[0].manifest), readers[0].recipe.things
    findings = []
    strange = sum(sample.kind not in bundle.kinds for sample in readers[0].manifest.samples)
    if strange:
        known = " and ".join("HU" if kind == "hu" else "pictures" for kind in bundle.kinds)
        findings.append(
            Finding(
                "other-kind",
                f"{strange} of {n} {things}",
                f"{strange} of {n} {things} are {'HU' if known == 'pictures' else 'pictures'}, and "
                f"the bundle was trained and tested on {known} alone: nobody knows how good these "
                "answers are.",
            )
        )
    guessed = set().union(*(reader.guessed for reader in readers))
    if guessed:
        told = f"{len(guessed)} of {n} {things} have no liver mask; the liver was "
        told += (
            "outlined by the bundle's segmenter."
            if bundle.segmenter
            else "guessed by a rule that misses it on one slice in four. Name masks, or fit with a "
            "segmenter, for an answer to trust."
        )
        findings.append(
            Finding(
                "liver-outlined" if bundle.segmenter else "liver-guessed",
                f"all {things}" if len(guessed) == n else f"{len(guessed)} of {n} {things}",
                told,
                "note" if bundle.segmenter else "warning",
            )
        )
    outlines = readers[0].outlines
    remarks = outlines.remarks if outlines else []
    findings += [Finding("outline", told.partition(":")[0], told) for told in remarks]
    alone = set().union(*(reader.alone for reader in readers))
    if alone:
        findings.append(
            Finding(
                "alone",
                f"all {things}" if len(alone) == n else f"{len(alone)} of {n} {things}",
                f"{len(alone)} of {n} {things} have none beside them in their series; they were "
                "shown three times, which the model hardly knows. Name whole series.",
            )
        )
    if empty:
        findings.append(
            Finding(
                "no-liver",
                f"{len(empty)} of {n} {things}",
                f"{len(empty)} of {n} {things} show no liver and were left out.",
                "set-aside",
            )
        )
    samples = readers[0].manifest.samples
    answered = {sample.patient_id for i, sample in enumerate(samples) if i not in empty}
    gone = sorted({sample.patient_id for sample in samples} - answered)
    findings += [
        Finding("no-answer", name, f"{name}: {_UNSEEN}, so there is no answer.") for name in gone
    ]
    return tuple(findings)


def _refuse(
    gate: Gate,
    manifest: Manifest,
    answers: Sequence[PatientAnswer],
    config: BackboneConfig | None,
) -> tuple[tuple[PatientAnswer, ...], tuple[Finding, ...], tuple[str, ...]]:
    """Return the answers without those that the gate refuses, what to say of that, and whose."""
    slices, patients = judge_patients(gate, manifest, config)
    said = tuple(
        answer
        if patients[answer.patient_id].accepted
        else PatientAnswer(answer.patient_id, "", (), None, patients[answer.patient_id].reason)
        for answer in answers
    )
    findings = []
    gone = tuple(name for name, verdict in patients.items() if not verdict.accepted)
    if gone:
        where = f"{len(gone)} of {len(patients)} patients"
        findings.append(
            Finding(
                "refused",
                where,
                f"{where} are refused, because the model was not made for them; {gone[0]}: "
                f"{patients[gone[0]].reason}.",
            )
        )
    odd = [i for i, verdict in enumerate(slices) if not verdict.accepted]
    odd = [i for i in odd if patients[manifest.samples[i].patient_id].accepted]
    if odd:
        where = f"{len(odd)} of {len(slices)} slices"
        findings.append(
            Finding(
                "unlike",
                where,
                f"{where} of accepted patients are unlike the training slices; "
                f"{manifest.samples[odd[0]].sample_id}: {slices[odd[0]].reason}.",
                "note",
            )
        )
    return said, tuple(findings), gone


def load_predictor(folder: Path, threads: int = 0) -> Predictor:
    """Load a bundle, verified, with its networks.

    Args:
        folder: a bundle.
        threads: inside the network; 0 for one per core.
    """
    bundle = read_bundle(folder)
    networks = tuple(Network(part.graph, part.weights, threads) for part in bundle.parts)
    return Predictor(bundle, networks)
