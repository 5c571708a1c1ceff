"""Pretrained networks and where they come from; no torch in here."""

from hepar.backbone.catalog import BACKBONES, BackboneSpec
from hepar.backbone.features import extract_features, load_ahead
from hepar.backbone.fetch import fetch_weights
from hepar.backbone.graph import read_graph
from hepar.backbone.liver_unet import LIVER_UNET, fetch_liver_unet, read_liver_unet
from hepar.backbone.runtime import Network, open_session
from hepar.backbone.weights import Weights, find_weights, list_weights, untrained_arrays

__all__ = [
    "BACKBONES",
    "LIVER_UNET",
    "BackboneSpec",
    "Network",
    "Weights",
    "extract_features",
    "fetch_liver_unet",
    "fetch_weights",
    "find_weights",
    "list_weights",
    "load_ahead",
    "open_session",
    "read_graph",
    "read_liver_unet",
    "untrained_arrays",
]
