"""The recipes that ship: each a function from the kind of pixels and the network to its steps."""

from __future__ import annotations

from dataclasses import dataclass

from hepar.data import Manifest
from hepar.data.study import Kind
from hepar.errors import RecipeError
from hepar.preprocess.geometry import BodyCrop, LiverCrop, Resize
from hepar.preprocess.hiding import HideLiver
from hepar.preprocess.intensity import (
    Background,
    Channels,
    Clahe,
    Gaussian,
    HuWindow,
    HuWindows,
    LiverScale,
    LiverSmooth,
    PictureScale,
    SoftTissue,
    Standardise,
)
from hepar.preprocess.lesion_input import LesionInput
from hepar.preprocess.recipe import RECIPES, Recipe, Step
from hepar.preprocess.stain import RgbScale, StainNormalise

__all__ = ["NetworkInput", "make_recipe", "segmenter_recipe"]

_FIELD_MM = 288.0
"""Side of what a lesion finder sees: the largest livers are some 250 mm wide."""


_BY_KIND: dict[Kind, str] = {"hu": "ct", "picture": "picture", "rgb": "histology"}


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """What a network asks of its input.

    Attributes:
        size: side of the square image in pixels.
        mean: per channel on the 0-1 scale.
        std: per channel on the 0-1 scale.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def standardise(self) -> Standardise:
        """The step that every recipe ends with."""
        return Standardise(self.mean, self.std)


@RECIPES.add("liver")
def _liver(kind: Kind, network: NetworkInput) -> tuple[Step, ...]:
    """Only the liver, on the scale of its own median and spread, denoised; HU and pictures alike.

    Reach and sigma: docs/adr/0003-liver-recipe.md.
    """
    del kind
    return (
        LiverScale(reach=3.0),
        Background(value=0.5),
        LiverCrop(margin=0.02, fill=0.5),
        Resize(network.size),
        LiverSmooth(sigma=3.0 * network.size / 224),
        Channels(),
        network.standardise,
    )


@RECIPES.add("lesion")
def _lesion(kind: Kind, network: NetworkInput) -> tuple[Step, ...]:
    """What lesion finders see: the liver in mm, in spreads of this patient's own liver."""
    del kind
    return (LesionInput(network.size, mm=_FIELD_MM / network.size, reach=6.0),)


@RECIPES.add("paper")
def _paper(kind: Kind, network: NetworkInput) -> tuple[Step, ...]:
    """The paper's: resize, Gaussian denoising, contrast enhancement, 0-1; the whole slice."""
    return (
        HuWindow(level=60, width=400) if kind == "hu" else PictureScale(),
        Resize(network.size),
        Gaussian(sigma=1.0),
        Clahe(clip_limit=2.0, tiles=8),
        Channels(),
        network.standardise,
    )


@RECIPES.add("ct")
def _ct(kind: Kind, network: NetworkInput) -> tuple[Step, ...]:
    """The body in three HU windows: liver, soft tissue, wide."""
    del kind
    return (
        BodyCrop(threshold=-300, margin=0.02),
        HuWindows(((60, 200), (40, 400), (40, 1000))),
        Resize(network.size),
        network.standardise,
    )


@RECIPES.add("picture")
def _picture(kind: Kind, network: NetworkInput) -> tuple[Step, ...]:
    """An 8- or 16-bit picture as it is, whole."""
    del kind
    return (PictureScale(), Resize(network.size), Channels(), network.standardise)


@RECIPES.add("histology")
def _histology(kind: Kind, network: NetworkInput) -> tuple[Step, ...]:
    """A stained RGB tile, whole, in the colours of the reference stain."""
    del kind
    return (Resize(network.size), StainNormalise(), network.standardise)


@RECIPES.add("rgb")
def _rgb(kind: Kind, network: NetworkInput) -> tuple[Step, ...]:
    """An RGB tile as it is, whole."""
    del kind
    return (Resize(network.size), RgbScale(), network.standardise)


@RECIPES.add("background")
def _background(kind: Kind, network: NetworkInput) -> tuple[Step, ...]:
    """The whole slice without the liver: what a model could cheat with. For a control, not a model.

    Table, marks and corners stay in, so there is no crop.
    """
    hidden = HideLiver(margin=0.02, value=0.5)
    resize, last = Resize(network.size), network.standardise
    if kind == "hu":
        return (HuWindows(((60, 200), (40, 400), (40, 1000))), hidden, resize, last)
    return (PictureScale(), hidden, resize, Channels(), last)


def segmenter_recipe(network: NetworkInput) -> Recipe:
    """Return what a liver segmenter sees: the whole slice, HU and pictures alike."""
    steps = (SoftTissue(50, 400), Resize(network.size), Channels(), network.standardise)
    return Recipe("segmenter", steps)


def make_recipe(
    name: str, manifest: Manifest, network: NetworkInput, *, outlined: bool = False
) -> Recipe:
    """Return the recipe called `name` for a cohort and a network.

    Args:
        name: a registered recipe, or "auto": "histology" for RGB, "liver" where every sample has a
            mask of the liver, else "ct" for HU, else "picture".
        manifest: the cohort it will be applied to.
        network: input size, mean and std of the backbone.
        outlined: a segmenter outlines the liver where nobody has drawn it.

    Returns:
        The recipe; its name is never "auto".

    Raises:
        RecipeError: the cohort mixes HU and pictures and the recipe cannot take both, or the
            recipe needs a mask that samples lack.
        RegistryError: the name is unknown.
    """
    kinds = sorted({sample.kind for sample in manifest.samples})
    if name == "auto":
        known = outlined or (manifest.has_masks and not manifest.lesions_alone)
        name = "liver" if known else _BY_KIND[kinds[0]] if len(kinds) == 1 else "picture"
    build = RECIPES.get(name)
    if len(kinds) > 1 and name not in {"liver", "lesion"}:
        raise RecipeError(
            f"recipe {name!r}: expected HU or pictures, got a cohort of both. "
            "Split the source, or give masks and use recipe 'liver'."
        )
    recipe = Recipe(name, build(kinds[0], network))
    if not recipe.needs_mask or outlined:
        return recipe
    bare = [sample.sample_id for sample in manifest.samples if not sample.mask]
    if bare:
        raise RecipeError(
            f"recipe {name!r}: expected a liver mask for every sample, got {len(bare)} without "
            f"(first: {bare[0]}). Add masks, pass --segmenter, or use recipe 'ct' or 'picture'."
        )
    if manifest.lesions_alone:
        raise RecipeError(
            f"recipe {name!r}: expected masks that show the liver, got lesions alone. Say which "
            "value is liver with ingest.mask_values, or use recipe 'ct' or 'picture'."
        )
    return recipe
