"""Learning: nothing that serves a model may import this room."""

from hepar.fit.crossval import CrossValidation, cross_validate, to_predictions
from hepar.fit.decision import fit_decision
from hepar.fit.ensemble import fit_ensemble
from hepar.fit.finder import Found, fit_finder
from hepar.fit.gate import fit_gate
from hepar.fit.heads import HEAD_KINDS, choose_penalty, fit_head, fit_linear_head, sample_weights
from hepar.fit.tuned import Tuned, fine_tune, needs_training, read_history, write_history

__all__ = [
    "HEAD_KINDS",
    "CrossValidation",
    "Found",
    "Tuned",
    "choose_penalty",
    "cross_validate",
    "fine_tune",
    "fit_decision",
    "fit_ensemble",
    "fit_finder",
    "fit_gate",
    "fit_head",
    "fit_linear_head",
    "needs_training",
    "read_history",
    "sample_weights",
    "to_predictions",
    "write_history",
]
