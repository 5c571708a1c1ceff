"""Recipes survive JSON, and give the same input in training and in service."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hepar.data import LabelSet, Manifest, Sample, Slice
from hepar.errors import RecipeError, RegistryError
from hepar.preprocess import (
    RECIPES,
    NetworkInput,
    make_recipe,
    read_recipe,
    recipe_from_json,
    write_recipe,
)
from hepar.provenance import stamp

NETWORK = NetworkInput(64, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def manifest(kind="hu", mask="m.png"):
    rows = [
        Sample(f"{i}", f"P{i // 2}", f"{i}", "x", kind=kind, mask=mask, slice_index=i)
        for i in range(3)
    ]
    return Manifest(tuple(rows), LabelSet(("x",)), root=None)


def image(kind="hu"):
    rng = np.random.default_rng(1)
    pixels = rng.normal(60, 60, (90, 100)).astype(np.float32)
    mask = np.zeros((90, 100), np.uint8)
    mask[30:60, 20:70] = 1
    if kind == "rgb":
        return Slice(rng.integers(60, 240, (90, 100, 3), np.uint8), "rgb")
    if kind == "picture":
        return Slice(np.clip(pixels, 0, 255).astype(np.uint8), "picture", mask)
    return Slice(pixels, "hu", mask, (1.0, 1.0))


def cases():
    both = ("hu", "picture")
    kinds = dict.fromkeys(("liver", "paper", "slab", "slab_whole"), both) | {"ct": ("hu",)}
    kinds |= {"histology": ("rgb",), "rgb": ("rgb",)}
    slices = [name for name in RECIPES if name != "volume"]  # of series: test_preprocess_volume.py
    return [(name, kind) for name in slices for kind in kinds.get(name, ("picture",))]


@pytest.mark.parametrize(("name", "kind"), cases())
def test_every_recipe_gives_network_input_and_leaves_the_slice_alone(name, kind):
    one = image(kind)
    before = one.pixels.copy()
    recipe = make_recipe(name, manifest(kind), NETWORK)
    out = recipe.apply(one)
    assert out.shape == (3, 64, 64)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(one.pixels, before)
    np.testing.assert_array_equal(out, recipe.apply(one))


@pytest.mark.parametrize(("name", "kind"), cases())
def test_json_gives_an_equal_recipe_back(name, kind, tmp_path):
    recipe = make_recipe(name, manifest(kind), NETWORK)
    assert recipe_from_json(recipe.to_json()) == recipe
    write_recipe(tmp_path / "recipe.json", recipe, stamp("test"))
    again = read_recipe(tmp_path / "recipe.json")
    assert again == recipe
    assert again.key == recipe.key


def test_the_key_changes_with_any_parameter():
    recipe = make_recipe("liver", manifest(), NETWORK)
    keys = {recipe.key}
    for i, step in enumerate(recipe.steps):
        for name in vars(step):
            value = getattr(step, name)
            changed = replace(step, **{name: (9.0, 9.0, 9.0) if isinstance(value, tuple) else 9})
            keys.add(
                replace(recipe, steps=(*recipe.steps[:i], changed, *recipe.steps[i + 1 :])).key
            )
    assert len(keys) == 1 + sum(len(vars(step)) for step in recipe.steps)


@pytest.mark.parametrize(
    ("kind", "mask", "expected"),
    [
        ("hu", "m", "liver"),
        ("picture", "m", "liver"),
        ("hu", "", "ct"),
        ("picture", "", "picture"),
        ("rgb", "", "histology"),
    ],
)
def test_auto_takes_the_liver_where_there_are_masks(kind, mask, expected):
    assert make_recipe("auto", manifest(kind, mask), NETWORK).name == expected


def test_liver_without_masks_is_refused_before_any_pixel_is_read():
    with pytest.raises(RecipeError, match="expected a liver mask for every sample, got 3 without"):
        make_recipe("liver", manifest(mask=""), NETWORK)


def test_a_mask_of_lesions_alone_is_not_taken_for_a_liver():
    cohort = replace(manifest("picture"), mask_values={"lesion": 0xFF0000})
    assert make_recipe("auto", cohort, NETWORK).name == "picture"
    with pytest.raises(RecipeError, match=r"masks that show the liver, got lesions alone\..*ct"):
        make_recipe("liver", cohort, NETWORK)
    assert make_recipe("auto", replace(cohort, mask_values={"liver": 1}), NETWORK).name == "liver"


def test_a_cohort_of_hu_and_pictures_is_refused():
    mixed = Manifest(
        (Sample("a", "A", "a", kind="hu"), Sample("b", "B", "b", kind="picture")),
        LabelSet(()),
        root=None,
    )
    with pytest.raises(RecipeError, match="expected HU or pictures, got a cohort of both"):
        make_recipe("paper", mixed, NETWORK)


def test_an_unknown_parameter_is_named():
    document = make_recipe("liver", manifest(), NETWORK).to_json()
    document["steps"][0]["reech"] = 4
    with pytest.raises(RecipeError, match=r"unknown parameter 'reech'. Did you mean 'reach'"):
        recipe_from_json(document)


def test_an_unknown_recipe_is_answered_with_the_nearest():
    with pytest.raises(RegistryError, match=r"unknown recipe 'livre'. Did you mean 'liver'"):
        make_recipe("livre", manifest(), NETWORK)
