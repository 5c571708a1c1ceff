"""Numbers: reads predictions, never a model; a metric is a value with an interval or a reason."""

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
from hepar.evaluate.conformal import (
    ConformalRule,
    conformal_from_json,
    fit_conformal,
    measure_conformal,
)
from hepar.evaluate.evaluation import (
    UNIT_WARNINGS,
    Evaluation,
    evaluate,
    headline,
    write_evaluation,
)
from hepar.evaluate.intervals import Estimate, Undefined, estimate, wilson
from hepar.evaluate.metrics import METRICS, count_by_patient, roc_curve
from hepar.evaluate.paired import (
    Difference,
    compare_all,
    delong,
    holm,
    mcnemar,
    paired_bootstrap,
)
from hepar.evaluate.predictions import (
    Predictions,
    aggregate,
    decide,
    read_predictions,
    write_predictions,
)

__all__ = [
    "CALIBRATIONS",
    "METRICS",
    "UNIT_WARNINGS",
    "Calibrator",
    "ConformalRule",
    "Difference",
    "Estimate",
    "Evaluation",
    "Predictions",
    "Undefined",
    "aggregate",
    "apply_temperature",
    "calibrate",
    "calibrate_out_of_fold",
    "calibrator_from_json",
    "compare_all",
    "conformal_from_json",
    "count_by_patient",
    "decide",
    "delong",
    "estimate",
    "evaluate",
    "fit_calibrator",
    "fit_conformal",
    "fit_temperature",
    "headline",
    "holm",
    "mcnemar",
    "measure_conformal",
    "paired_bootstrap",
    "read_predictions",
    "roc_curve",
    "wilson",
    "write_evaluation",
    "write_predictions",
]
