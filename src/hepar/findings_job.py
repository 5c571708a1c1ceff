"""Several findings on one cohort: a run each, one split, shared features, one page, one bundle."""

from __future__ import annotations

import csv
import dataclasses
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hepar.cohort_job import Cohort, PlannedPart, cohort_of, new_ledger, prepare_findings
from hepar.compare_plan import folder_name
from hepar.config import RunConfig
from hepar.data import Manifest, write_manifest
from hepar.errors import ConfigError, HeparError
from hepar.fit.workers import world_size
from hepar.ledger import Ledger
from hepar.main_job import fit_model, write_record
from hepar.progress import LOG
from hepar.provenance import digest, read_artefact, sha256_file, stamp, write_artefact, write_atomic
from hepar.settings import check
from hepar.split import write_split

__all__ = ["run_findings"]

METRICS = ("balanced_accuracy", "auroc", "sensitivity", "specificity")


def run_findings(source: Path, out: Path, config: RunConfig, command: str = "") -> Path:
    """Fit, evaluate and report a model for every finding, and set them side by side.

    A finding is a label of its own: a tile or patient has it or not, whatever else is there. All
    share ingest, audit, split and features. One that cannot be fitted is named on the page, and the
    others go on.

    Args:
        source: a table with a column of 0 and 1 for each finding.
        out: folder of the run; each finding has a run of its own in `findings/NAME`.
        config: of every finding; `ingest.findings` names them.
        command: the command line, for provenance; "" for this process's own.

    Returns:
        The path of `findings.html`.

    Raises:
        HeparError: the source or a setting is refused, or no finding could be fitted.
    """
    check(config)
    if not config.ingest.findings:
        raise ConfigError('ingest.findings: expected names of columns, or "all", got none.')
    if world_size() > 1:
        raise ConfigError(f"findings: expected one process, got {world_size()}.")
    ledger = new_ledger(out, command)

    cohort, (parts,), names = prepare_findings(source, ledger, [config])
    write_record(source, ledger, config)
    folders = {folder_name(name).strip(".-") for name in names}
    if len(folders) < len(names) or "" in folders:
        raise ConfigError(
            f"ingest.findings: expected names that differ in letters or digits, got "
            f"{', '.join(names)}. Rename the columns."
        )
    done: dict[str, Path] = {}
    failed: list[str] = []
    for name in names:
        LOG.info("finding   %s", name)
        try:
            done[name] = _fit(name, names, cohort, parts, ledger, config)
        except HeparError as error:
            LOG.warning("%s: %s", name, error)
            failed.append(f"{name} could not be fitted: {error}")
    if not done:
        raise HeparError(f"findings: no finding could be fitted. First: {failed[0]}")
    _write_bundle(done, ledger)
    _write_slides(done, cohort.manifest, ledger, config)
    return _write_page(done, cohort, ledger, config, failed)


def _fit(
    name: str,
    names: Sequence[str],
    cohort: Cohort,
    parts: tuple[PlannedPart, ...],
    ledger: Ledger,
    config: RunConfig,
) -> Path:
    """Fit one finding; return its folder."""
    own = cohort_of(name, names, cohort)
    folder = ledger.folder / "findings" / folder_name(name)
    within = new_ledger(folder, ledger.command)
    rows = [[s.sample_id, s.patient_id, s.label] for s in own.manifest.samples]
    inputs = [digest(rows), sha256_file(ledger.folder / "split.json")]
    audited = (ledger.folder / "audit.json").is_file()

    def work() -> None:
        provenance = stamp(ledger.command, seed=config.split.seed)
        write_manifest(folder / "manifest.csv", own.manifest, provenance)
        write_split(folder / "split.json", own.split, own.manifest, provenance)
        if audited:
            (folder / "figures").mkdir(exist_ok=True)
            for file in ("audit.json", "figures/links.png"):
                shutil.copyfile(ledger.folder / file, folder / file)

    outputs = ["manifest.csv", "manifest.meta.json", "split.json"]
    within.stage("cohort", inputs, [*outputs, *["audit.json"] * audited], work)
    fit_model(own, parts, within, config, cache=ledger.folder)
    return folder


def _write_bundle(done: Mapping[str, Path], ledger: Ledger) -> None:
    from hepar.model import write_findings_bundle

    bundles = {name: folder / "bundle" for name, folder in done.items()}
    hashes = {
        f"{name}/{path.name}": sha256_file(path)
        for name, bundle in bundles.items()
        for path in sorted(bundle.iterdir())
    }
    outputs = [
        "bundle/findings.json",
        *(f"bundle/{b.parent.name}/bundle.json" for b in bundles.values()),
    ]
    ledger.stage(
        "bundle",
        [hashes],
        outputs,
        lambda: write_findings_bundle(ledger.folder / "bundle", bundles, stamp(ledger.command)),
    )


def _write_slides(
    done: Mapping[str, Path], manifest: Manifest, ledger: Ledger, config: RunConfig
) -> None:
    """Write `slides.csv`: a row per slide; of each finding what is known and what is said."""
    from hepar.evaluate import read_predictions
    from hepar.model import slide_rows, slide_scores

    tables = {
        name: slide_scores(
            read_predictions(folder / "predictions.csv"),
            manifest,
            config.head.aggregate,
            config.head.top_k,
        )
        for name, folder in done.items()
    }
    rows = slide_rows(tables, manifest)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(ledger.folder / "slides.csv", text.getvalue())


def _write_page(
    done: Mapping[str, Path],
    cohort: Cohort,
    ledger: Ledger,
    config: RunConfig,
    failed: Sequence[str],
) -> Path:
    from hepar.report import write_findings

    evaluations = {n: read_artefact(f / "evaluation.json", "evaluation") for n, f in done.items()}
    runs = {n: read_artefact(f / "run.json", "run") for n, f in done.items()}
    first = next(iter(evaluations.values()))
    level, partition = _where(evaluations)
    held_out = partition == "test"
    content = {
        "unit": cohort.manifest.unit,
        "level": level,
        "partition": partition,
        "interval": first["intervals"],
        "warnings": [*dict.fromkeys(w for run in runs.values() for w in run["warnings"]), *failed],
        "recipe": next(iter(runs.values()))["recipe"],
        "backbone": next(iter(runs.values()))["backbone"],
        "together": _together(cohort.manifest, list(done)),
        "findings": [
            {
                "name": name,
                "folder": folder.relative_to(ledger.folder).as_posix(),
                "metrics": {
                    m: _metric(m, name, evaluations[name], level, partition) for m in METRICS
                },
                **_counts(folder, name, held_out=held_out),
            }
            for name, folder in done.items()
        ],
        "config": dataclasses.asdict(config),
    }
    hashes = {"split.json": sha256_file(ledger.folder / "split.json")}
    provenance = stamp(ledger.command, seed=config.split.seed, inputs=hashes)
    write_artefact(ledger.folder / "findings.json", "findings", content, provenance)
    return write_findings(ledger.folder)


def _where(evaluations: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """Return level and partition to show: patients held out, if a finding has a number there."""
    defined = {
        (r["level"], r["partition"])
        for document in evaluations.values()
        for r in document["metrics"]
        if r["metric"] == "balanced_accuracy" and r["value"] is not None
    }
    wanted = [(level, where) for level in ("patient", "slice") for where in ("test", "out-of-fold")]
    return next((place for place in wanted if place in defined), wanted[-1])


def _metric(
    metric: str, name: str, document: Mapping[str, Any], level: str, partition: str
) -> dict[str, Any]:
    """Return a metric: of the finding itself where there is one, else of both labels together."""
    found = {
        r["label"]: r
        for r in document["metrics"]
        if (r["metric"], r["level"], r["partition"]) == (metric, level, partition)
    }
    record = found.get(name) or found.get(None) or {"undefined": "not computed"}
    return {key: record.get(key) for key in ("value", "low", "high", "undefined", "no_interval")}


def _counts(folder: Path, name: str, *, held_out: bool) -> dict[str, int]:
    from hepar.evaluate import read_predictions

    patients = read_predictions(folder / "patients.csv")
    tiles = read_predictions(folder / "predictions.csv")
    wanted = "test" if held_out else "train"
    counted: dict[str, int] = {}
    for what, table in (("patients", patients), ("samples", tiles)):
        own = table.reference[table.partition == wanted]
        counted |= {f"n_{what}": len(own), f"n_{what}_with": int((own == name).sum())}
    return counted


def _together(manifest: Manifest, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return, for each finding, how many patients have it together with each of the others."""
    carried = [
        {name for name in names if any(s.extra.get(name) == "1" for s in own)}
        for own in manifest.patients.values()
    ]
    return [
        {"finding": a, **{b: sum(a in own and b in own for own in carried) for b in names}}
        for a in names
    ]
