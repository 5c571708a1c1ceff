"""A trained classifier: its head, the bundle on disk, and the one way to predict with it."""

from hepar.model.attention_head import AttentionHead, attention_over_views
from hepar.model.bundle import (
    Bundle,
    Part,
    read_bundle,
    write_bundle,
    write_decision,
    write_gate,
    write_map_scale,
)
from hepar.model.decision import Decision, PatientAnswer, write_answers
from hepar.model.ensemble_head import Member, StackHead, VoteHead, log_probabilities
from hepar.model.folds import FoldModel, read_folds, write_folds
from hepar.model.gate import Gate, Verdict
from hepar.model.gate_inputs import (
    coloured_paths,
    gate_features,
    gate_recipes,
    judge_patients,
    looking_network,
)
from hepar.model.head import HEADS, DenseHead, Head, LinearHead, softmax
from hepar.model.inputs import InputReader, compute_features, sample_key
from hepar.model.predictor import Answer, Predictor, load_predictor, mean_over_views
from hepar.model.slope import Slope
from hepar.model.svm_head import SvmHead

__all__ = [
    "HEADS",
    "Answer",
    "AttentionHead",
    "Bundle",
    "Decision",
    "DenseHead",
    "FoldModel",
    "Gate",
    "Head",
    "InputReader",
    "LinearHead",
    "Member",
    "Part",
    "PatientAnswer",
    "Predictor",
    "Slope",
    "StackHead",
    "SvmHead",
    "Verdict",
    "VoteHead",
    "attention_over_views",
    "coloured_paths",
    "compute_features",
    "gate_features",
    "gate_recipes",
    "judge_patients",
    "load_predictor",
    "log_probabilities",
    "looking_network",
    "mean_over_views",
    "read_bundle",
    "read_folds",
    "sample_key",
    "softmax",
    "write_answers",
    "write_bundle",
    "write_decision",
    "write_folds",
    "write_gate",
    "write_map_scale",
]
