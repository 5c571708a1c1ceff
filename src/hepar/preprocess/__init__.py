"""One recipe, in training and service alike, without chance; and augmentation that replays."""

from hepar.preprocess.augment import IDENTITY, Draw, augment, draw, draw_view
from hepar.preprocess.liver_finder import find_liver
from hepar.preprocess.outline import clean_logits, doubts, outline_of
from hepar.preprocess.parenchyma import PICTURE_MM, measure_parenchyma
from hepar.preprocess.recipe import (
    RECIPES,
    STEPS,
    Recipe,
    Step,
    read_recipe,
    recipe_from_json,
    write_recipe,
)
from hepar.preprocess.recipes import NetworkInput, check_spacing, make_recipe, segmenter_recipe
from hepar.preprocess.resample import resample, resample_back
from hepar.preprocess.volume_input import Box

__all__ = [
    "IDENTITY",
    "PICTURE_MM",
    "RECIPES",
    "STEPS",
    "Box",
    "Draw",
    "NetworkInput",
    "Recipe",
    "Step",
    "augment",
    "check_spacing",
    "clean_logits",
    "doubts",
    "draw",
    "draw_view",
    "find_liver",
    "make_recipe",
    "measure_parenchyma",
    "outline_of",
    "read_recipe",
    "recipe_from_json",
    "resample",
    "resample_back",
    "segmenter_recipe",
    "write_recipe",
]
