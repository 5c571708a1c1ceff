"""Numbers: reads predictions, never a model; a metric is a value with an interval or a reason."""

from hepar.evaluate.abstention import conformal_sureness, risk_coverage
from hepar.evaluate.calibration import (
    CALIBRATIONS,
    Calibrator,
    apply_temperature,
    calibrate,
    calibrate_out_of_fold,
    calibrator_from_json,
    fit_calibrator,
    fit_temperature,
)
from hepar.evaluate.claims import Claims, read_claims
from hepar.evaluate.claims_checks import check_claims
from hepar.evaluate.claims_finding import ClaimFinding
from hepar.evaluate.conformal import (
    ConformalRule,
    conformal_from_json,
    fit_conformal,
    measure_conformal,
)
from hepar.evaluate.curves import Curves, measure_curves, precision_recall_curve, roc_curve
from hepar.evaluate.evaluation import (
    UNIT_WARNINGS,
    Evaluation,
    evaluate,
    write_evaluation,
)
from hepar.evaluate.headline import headline
from hepar.evaluate.intervals import Estimate, Undefined, estimate, wilson
from hepar.evaluate.lesions import (
    Candidate,
    Lesion,
    Places,
    Search,
    froc,
    search_series,
    sensitivity_at,
    share_found,
)
from hepar.evaluate.metrics import METRICS, count_by_patient
from hepar.evaluate.net_benefit import DECISION_THRESHOLDS, decision_curve
from hepar.evaluate.operating_point import (
    OperatingPoint,
    choose_operating_point,
    measure_operating_point,
    operating_point_from_json,
    predictive_values,
)
from hepar.evaluate.overlap import Overlap, measure_overlap
from hepar.evaluate.paired import (
    Difference,
    compare_all,
    delong,
    holm,
    mcnemar,
    paired_bootstrap,
)
from hepar.evaluate.patient_mean import patient_mean
from hepar.evaluate.predictions import (
    Predictions,
    aggregate,
    decide,
    read_predictions,
    write_predictions,
)
from hepar.evaluate.reliability import (
    CALIBRATION_METRICS,
    ReliabilityCurve,
    measure_calibration,
    reliability_curve,
)
from hepar.evaluate.subgroups import measure_subgroups, size_groups, subgroup_warning
from hepar.evaluate.trust import PREVALENCES, measure_trust, subgroup_columns
from hepar.evaluate.within import not_counted

__all__ = [
    "CALIBRATIONS",
    "CALIBRATION_METRICS",
    "DECISION_THRESHOLDS",
    "METRICS",
    "PREVALENCES",
    "UNIT_WARNINGS",
    "Calibrator",
    "Candidate",
    "ClaimFinding",
    "Claims",
    "ConformalRule",
    "Curves",
    "Difference",
    "Estimate",
    "Evaluation",
    "Lesion",
    "OperatingPoint",
    "Overlap",
    "Places",
    "Predictions",
    "ReliabilityCurve",
    "Search",
    "Undefined",
    "aggregate",
    "apply_temperature",
    "calibrate",
    "calibrate_out_of_fold",
    "calibrator_from_json",
    "check_claims",
    "choose_operating_point",
    "compare_all",
    "conformal_from_json",
    "conformal_sureness",
    "count_by_patient",
    "decide",
    "decision_curve",
    "delong",
    "estimate",
    "evaluate",
    "fit_calibrator",
    "fit_conformal",
    "fit_temperature",
    "froc",
    "headline",
    "holm",
    "mcnemar",
    "measure_calibration",
    "measure_conformal",
    "measure_curves",
    "measure_operating_point",
    "measure_overlap",
    "measure_subgroups",
    "measure_trust",
    "not_counted",
    "operating_point_from_json",
    "paired_bootstrap",
    "patient_mean",
    "precision_recall_curve",
    "predictive_values",
    "read_claims",
    "read_predictions",
    "reliability_curve",
    "risk_coverage",
    "roc_curve",
    "search_series",
    "sensitivity_at",
    "share_found",
    "size_groups",
    "subgroup_columns",
    "subgroup_warning",
    "wilson",
    "write_evaluation",
    "write_predictions",
]
