"""A trained classifier: its head, the bundle on disk, and the one way to predict with it."""

from hepar.model.bundle import Bundle, read_bundle, write_bundle
from hepar.model.head import LinearHead, softmax
from hepar.model.inputs import InputReader, compute_features, sample_key
from hepar.model.predictor import Answer, Predictor, load_predictor

__all__ = [
    "Answer",
    "Bundle",
    "InputReader",
    "LinearHead",
    "Predictor",
    "compute_features",
    "load_predictor",
    "read_bundle",
    "sample_key",
    "softmax",
    "write_bundle",
]
