"""An ensemble of finished runs, as a run of its own: predictions, bundle, evaluation and report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hepar.cohort_job import Cohort, PlannedPart
from hepar.config import RunConfig
from hepar.errors import FitError
from hepar.explain_job import explain_model
from hepar.fit_job import decide, guard
from hepar.ledger import Ledger
from hepar.main_job import evaluate_model, report_model, trust_model
from hepar.model_job import Job
from hepar.preprocess import write_recipe
from hepar.provenance import sha256_file, stamp

if TYPE_CHECKING:
    from hepar.model import Bundle, FoldModel, Part

__all__ = ["fit_ensemble_model"]


def fit_ensemble_model(
    cohort: Cohort,
    folders: Sequence[Path],
    ledger: Ledger,
    config: RunConfig,
    how: str,
    cache: Path,
    planned: Sequence[tuple[PlannedPart, ...]] = (),
) -> Path:
    """Combine finished runs on one split.

    Args:
        cohort: that the members were fitted on.
        folders: of the members' runs.
        ledger: of the ensemble's folder, which holds the cohort's manifest and split.
        config: how slices become a patient, and how intervals are made.
        how: "vote" or "stack".
        cache: folder of features that models share.
        planned: networks of each member. Maps are drawn where `explain.run` is on and every member
            has some; without networks, none.

    Returns:
        The path of `report.html`.

    Raises:
        FitError: members look at different numbers of views, or one weighs slices.
    """
    from hepar.model import read_bundle

    seals = [sha256_file(folder / "bundle" / "bundle.json") for folder in folders]
    outputs = ["scores.csv", "folds.safetensors", "bundle/bundle.json", "recipe.json"]
    inputs = [how, seals]
    ledger.stage("fit", inputs, outputs, lambda: _fit(folders, ledger, config, how))
    decide(ledger, config)
    guard(cohort.manifest, cohort.split, ledger, config, cache)
    evaluate_model(ledger, config)
    trust_model(cohort.manifest, ledger, config)
    bundle = read_bundle(ledger.folder / "bundle")
    explain_model(_job(cohort, folders, ledger, config, cache, planned, bundle))
    return report_model(cohort, [dict(part.backbone) for part in bundle.parts], ledger, config)


def _job(
    cohort: Cohort,
    folders: Sequence[Path],
    ledger: Ledger,
    config: RunConfig,
    cache: Path,
    planned: Sequence[tuple[PlannedPart, ...]],
    bundle: Bundle,
) -> Job:
    """Return the ensemble as a model whose maps can be drawn, where its members' were."""
    from hepar.model import read_bundle

    explained = config.explain.run and bool(planned) and all(planned)
    explained &= all((folder / "explanations.json").is_file() for folder in folders)
    own = [part for folder in folders for part in read_bundle(folder / "bundle").parts]
    plans = [plan for plans in planned for plan in plans]
    parts = tuple(
        next(plan for part, plan in zip(own, plans, strict=True) if _same(part, wanted))
        for wanted in (bundle.parts if explained else ())
    )
    head = dataclasses.replace(
        config.head, views=bundle.views, centre=bundle.centre, beside=bundle.beside
    )
    explain = dataclasses.replace(config.explain, run=explained)
    return Job(
        cohort, parts, ledger, dataclasses.replace(config, head=head, explain=explain), cache
    )


def _fit(folders: Sequence[Path], ledger: Ledger, config: RunConfig, how: str) -> None:
    from hepar.evaluate import read_predictions, write_predictions
    from hepar.fit import fit_ensemble
    from hepar.model import (
        Decision,
        FoldModel,
        Member,
        read_bundle,
        read_folds,
        write_bundle,
        write_folds,
    )

    bundles = [read_bundle(folder / "bundle") for folder in folders]
    views = {bundle.views for bundle in bundles}
    if len(views) > 1:
        raise FitError(
            f"ensemble: expected members of one number of views, got {sorted(views)}. "
            "Give all of them the same head.views."
        )
    if len({(bundle.centre, bundle.beside) for bundle in bundles}) > 1:
        raise FitError(
            "ensemble: expected members that see a patient's other slices alike, got several ways. "
            "Give all of them the same head.centre and head.beside."
        )
    segmenters = [bundle.segmenter for bundle in bundles]
    if not all(_alike(segmenters[0], other) for other in segmenters[1:]):
        raise FitError(
            "ensemble: expected members with one segmenter, got several. Fit them with the same "
            "--segmenter."
        )
    if any(bundle.decision.aggregate == "attention" for bundle in bundles):
        raise FitError(
            "ensemble: expected members that weigh slices alike, got one with attention. Leave it "
            "out, or give it --head linear."
        )
    parts: list[Part] = []
    members = [Member(_columns(bundle.parts, parts), bundle.head) for bundle in bundles]
    labels = bundles[0].labels
    tables = [read_predictions(folder / "scores.csv") for folder in folders]
    models = [read_folds(folder / "folds.safetensors", labels) for folder in folders]
    of_folds = [
        [Member(member.columns, one.head) for member, one in zip(members, own, strict=True)]
        for own in zip(*models, strict=True)
    ]
    result = fit_ensemble(how, tables, members, labels, of_folds)
    folder = ledger.folder
    weights = [_weights(own, bundles, parts) for own in zip(*models, strict=True)]
    write_folds(folder / "folds.safetensors", list(map(FoldModel, result.fold_heads, weights)))
    inputs = {str(i): sha256_file(f / "bundle" / "bundle.json") for i, f in enumerate(folders)}
    provenance = stamp(ledger.command, seed=config.split.seed, inputs=inputs)
    write_predictions(folder / "scores.csv", result.predictions, provenance)
    bundle = dataclasses.replace(
        bundles[0],
        parts=tuple(parts),
        head=result.head,
        provenance=provenance,
        map_scale=None,
        map_verdict=("", False),
        known=None,
        decision=Decision(config.head.aggregate, config.head.top_k),
    )
    write_bundle(folder / "bundle", bundle)
    write_recipe(folder / "recipe.json", parts[0].recipe, provenance)


def _weights(
    fold: Sequence[FoldModel], bundles: Sequence[Bundle], parts: Sequence[Part]
) -> dict[str, Any]:
    """Return what the members' networks have of their own in a fold, numbered by the part."""
    found: dict[str, Any] = {}
    for model, bundle in zip(fold, bundles, strict=True):
        for i, own in enumerate(bundle.parts):
            at = next(at for at, part in enumerate(parts) if _same(part, own))
            found |= {f"{at}:{name}": array for name, array in model.of_part(i).items()}
    return found


def _columns(own: Sequence[Any], parts: list[Any]) -> tuple[tuple[int, int], ...]:
    """Return where a member's features are among those of all parts; new parts are added."""
    columns = []
    for part in own:
        at = next((i for i, other in enumerate(parts) if _same(part, other)), len(parts))
        if at == len(parts):
            parts.append(part)
        start = sum(int(p.backbone["feature_dim"]) for p in parts[:at])
        columns.append((start, start + int(part.backbone["feature_dim"])))
    return tuple(columns)


def _alike(one: Any, other: Any) -> bool:
    """Return whether two segmenters, or their absence, are the same."""
    return one is other is None or (one is not None and other is not None and _same(one, other))


def _same(part: Any, other: Any) -> bool:
    """Return whether two parts give the same features, so that one will do."""
    import numpy as np

    if part.recipe != other.recipe or part.graph != other.graph:
        return False
    return all(np.array_equal(array, other.weights[name]) for name, array in part.weights.items())
