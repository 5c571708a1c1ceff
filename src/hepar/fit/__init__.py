"""Learning: nothing that serves a model may import this room."""

from hepar.fit.crossval import CrossValidation, cross_validate
from hepar.fit.heads import choose_penalty, fit_linear_head, sample_weights

__all__ = [
    "CrossValidation",
    "choose_penalty",
    "cross_validate",
    "fit_linear_head",
    "sample_weights",
]
