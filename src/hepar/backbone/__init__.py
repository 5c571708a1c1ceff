"""Pretrained networks and where they come from; no torch in here."""

from hepar.backbone.catalog import BACKBONES, BackboneSpec
from hepar.backbone.features import extract_features, load_ahead
from hepar.backbone.fetch import fetch_weights
from hepar.backbone.graph import read_graph
from hepar.backbone.runtime import Network
from hepar.backbone.weights import Weights, find_weights, list_weights, untrained_arrays

__all__ = [
    "BACKBONES",
    "BackboneSpec",
    "Network",
    "Weights",
    "extract_features",
    "fetch_weights",
    "find_weights",
    "list_weights",
    "load_ahead",
    "read_graph",
    "untrained_arrays",
]
