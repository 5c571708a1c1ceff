"""What pages of several models say of how they were made is what was done."""

from __future__ import annotations

import pytest

from hepar.compare_job import unlike_recipes
from hepar.compare_plan import read_plan
from hepar.config import read_config
from hepar.errors import ConfigError
from hepar.reproduce_job import choices


def said(config):
    return {subject: here for subject, _, here in choices(config)}


def test_the_choices_of_a_reproduction_are_the_settings_of_its_run():
    settings = [
        "finetune.epochs=3", "finetune.batch=8", "finetune.hidden=64,32", "finetune.freeze=none",
        "finetune.tune=0.25", "augment.views=4", "recipe.size=96", "recipe.name=paper",
    ]  # fmt: skip
    here = said(read_config(None, settings, "paper"))
    assert "batch 8, at most 3 epochs" in here["Learning"]
    assert here["Extra layers"].startswith("dense layers of 64, 32, ReLU")
    assert here["Which layers are frozen"] == "none: all layers are trained"
    assert here["What stops the training"].startswith("25% of the training patients")
    assert "4 fixed views" in here["Augmentation"]
    assert here["Input size"] == "96 px for all"
    assert "CLAHE" in here["Denoising and contrast enhancement"]


def test_where_nothing_is_trained_the_choices_say_so():
    here = said(read_config(None, ["recipe.name=liver"]))
    assert here["Learning"] == "no network is trained"
    assert "liver" in here["Denoising and contrast enhancement"]


def test_models_that_see_other_pixels_are_told_apart():
    assert unlike_recipes({"a": {"recipe": "liver"}, "b": {"recipe": "liver"}}) == []
    (warning,) = unlike_recipes({"a": {"recipe": "liver"}, "b": {"recipe": "picture"}})
    assert "liver: a; picture: b" in warning


@pytest.mark.parametrize("names", [["vote"], ["stack", "vgg16"], ["small_cnn", "vote"]])
def test_an_ensemble_of_fewer_than_two_is_refused(names):
    with pytest.raises(ConfigError, match=r"two single models or more before '(vote|stack)'"):
        read_plan(names=names)


def test_a_comparison_leaves_controls_out_unless_asked():
    names = ["efficientnet_lite0"]
    assert not read_plan(names=names).models[0].config.controls.run
    asked = read_plan(names=names, settings={"controls": {"run": True}})
    assert asked.models[0].config.controls.run
