"""Numbers: reads predictions, never a model; a metric is a value with an interval or a reason."""

from hepar.evaluate.predictions import (
    Predictions,
    aggregate,
    decide,
    read_predictions,
    write_predictions,
)

__all__ = ["Predictions", "aggregate", "decide", "read_predictions", "write_predictions"]
