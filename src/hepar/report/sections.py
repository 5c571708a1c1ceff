"""The sections of a report, in order: each a function from the run's files to what it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hepar.report import audit, controls, learning, lesions, maps, method, results, trust
from hepar.report.inputs import ReportInputs
from hepar.report.section import Section

__all__ = ["SECTIONS"]

SECTIONS: Mapping[str, Callable[[ReportInputs], Section | None]] = {
    "cohort": results.cohort,
    "audit": audit.audit,
    "metrics": results.metrics,
    "confusion": results.confusion,
    "curves": results.curves,
    "calibration": trust.calibration,
    "decisions": trust.decisions,
    "subgroups": trust.subgroups,
    "learning": learning.learning,
    "training": results.training,
    "per_patient": results.per_patient,
    "samples": results.samples,
    "lesions": lesions.lesions,
    "maps": maps.maps,
    "controls": controls.controls,
    "method": method.method,
    "provenance": method.provenance,
    "reading": method.reading,
}
