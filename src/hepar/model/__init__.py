"""A trained classifier: its head, the bundle on disk, and the one way to predict with it."""

from hepar.model.attention_head import AttentionHead, attention_over_views
from hepar.model.bundle import (
    Bundle,
    Part,
    read_bundle,
    write_bundle,
    write_decision,
    write_gate,
    write_known,
    write_least_lesion,
    write_map_scale,
)
from hepar.model.decision import Decision, PatientAnswer, write_answers
from hepar.model.ensemble_head import Member, StackHead, VoteHead, log_probabilities
from hepar.model.findings import (
    FINDINGS_FILE,
    FindingsPredictor,
    load_findings,
    slide_rows,
    slide_scores,
    write_findings_bundle,
)
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
from hepar.model.inputs import InputReader, compute_features, in_context, sample_key
from hepar.model.known import Known
from hepar.model.lesions import LIKELY, LesionStack, find_lesions
from hepar.model.liver_unet import segment_volume
from hepar.model.predictor import Answer, Predictor, load_predictor, mean_over_views
from hepar.model.segmenter import (
    Outlines,
    Segmenter,
    find_segmenter,
    is_stack,
    read_segmenter,
    write_segmenter,
)
from hepar.model.slope import Slope
from hepar.model.svm_head import SvmHead

__all__ = [
    "FINDINGS_FILE",
    "HEADS",
    "LIKELY",
    "Answer",
    "AttentionHead",
    "Bundle",
    "Decision",
    "DenseHead",
    "FindingsPredictor",
    "FoldModel",
    "Gate",
    "Head",
    "InputReader",
    "Known",
    "LesionStack",
    "LinearHead",
    "Member",
    "Outlines",
    "Part",
    "PatientAnswer",
    "Predictor",
    "Segmenter",
    "Slope",
    "StackHead",
    "SvmHead",
    "Verdict",
    "VoteHead",
    "attention_over_views",
    "coloured_paths",
    "compute_features",
    "find_lesions",
    "find_segmenter",
    "gate_features",
    "gate_recipes",
    "in_context",
    "is_stack",
    "judge_patients",
    "load_findings",
    "load_predictor",
    "log_probabilities",
    "looking_network",
    "mean_over_views",
    "read_bundle",
    "read_folds",
    "read_segmenter",
    "sample_key",
    "segment_volume",
    "slide_rows",
    "slide_scores",
    "softmax",
    "write_answers",
    "write_bundle",
    "write_decision",
    "write_findings_bundle",
    "write_folds",
    "write_gate",
    "write_known",
    "write_least_lesion",
    "write_map_scale",
    "write_segmenter",
]
