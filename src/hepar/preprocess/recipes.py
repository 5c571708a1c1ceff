"""The recipes that ship: each a function from the kind of pixels and the network to its steps."""

from __future__ import annotations

from dataclasses import dataclass

from hepar.data import Manifest, find_beside, stack_series
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
from hepar.preprocess.slab import LiverSlab, Slab
from hepar.preprocess.stain import RgbScale, StainNormalise
from hepar.preprocess.volume_input import VolumeInput
from hepar.progress import LOG

__all__ = ["NetworkInput", "check_spacing", "make_recipe", "segmenter_recipe"]

_FIELD_MM = 288.0
"""Side of what lesion finders and volumes see: the largest livers are some 250 mm wide."""


_BY_KIND: dict[Kind, str] = {"hu": "ct", "picture": "picture", "rgb": "histology"}


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """What a network asks of its input.

    Attributes:
        size: side of the square image in pixels.
        mean: per channel on the 0-1 scale.
        std: per channel on the 0-1 scale.
        windows: that a series is seen in, one above the other.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    windows: int = 1

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


_BESIDE_MM = 5.0
"""From a slice to those beside it in a slab: what CT is commonly read at."""


@RECIPES.add("slab")
def _slab(kind: Kind, network: NetworkInput) -> tuple[Step, ...]:
    """As liver, with the slices 5 mm below and above in the first and last channel (2.5D)."""
    del kind
    smooth = 3.0 * network.size / 224
    return (LiverSlab(_BESIDE_MM, network.size, 3.0, 0.02, smooth), network.standardise)


@RECIPES.add("slab_whole")
def _slab_whole(kind: Kind, network: NetworkInput) -> tuple[Step, ...]:
    """The whole slice, with those 5 mm below and above in the first and last channel (2.5D)."""
    resize, last = Resize(network.size), network.standardise
    if kind == "picture":
        return (Slab(_BESIDE_MM, fill=0), PictureScale(), resize, last)
    body = BodyCrop(threshold=-300, margin=0.02)
    return (body, Slab(_BESIDE_MM, fill=-1024), HuWindow(level=40, width=400), resize, last)


@RECIPES.add("lesion")
def _lesion(kind: Kind, network: NetworkInput) -> tuple[Step, ...]:
    """What lesion finders see: the liver in mm, in spreads of this patient's own liver."""
    del kind
    return (LesionInput(network.size, mm=_FIELD_MM / network.size, reach=6.0),)


@RECIPES.add("volume")
def _volume(kind: Kind, network: NetworkInput) -> tuple[Step, ...]:
    """The liver of a whole series in mm, in spreads of its own liver: for networks of volumes."""
    del kind
    mm, windows = _FIELD_MM / network.size, network.windows
    z_mm = 4 * mm / (windows + 1)  # half overlapping, they reach as far as one alone
    return (VolumeInput(network.size, network.size // 3, mm, z_mm, reach=6.0, windows=windows),)


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
            recipe needs a mask that samples lack, or slices beside slices where there are none.
        RegistryError: the name is unknown.
    """
    kinds = sorted({sample.kind for sample in manifest.samples})
    if name == "auto":
        known = outlined or (manifest.has_masks and not manifest.lesions_alone)
        name = "liver" if known else _BY_KIND[kinds[0]] if len(kinds) == 1 else "picture"
    build = RECIPES.get(name)
    if len(kinds) > 1 and name not in {"liver", "slab", "lesion", "volume"}:
        raise RecipeError(
            f"recipe {name!r}: expected HU or pictures, got a cohort of both. "
            "Split the source, or give masks and use recipe 'liver'."
        )
    recipe = Recipe(name, build(kinds[0], network))
    if recipe.needs_mask and not outlined:
        _check_masks(recipe, manifest)
    if recipe.beside_mm:
        _check_neighbours(recipe, manifest)
    if recipe.needs_series:
        _check_series(recipe, manifest)
    return recipe


def _check_masks(recipe: Recipe, manifest: Manifest) -> None:
    """Refuse a cohort in which a liver is shown by no mask."""
    bare = [sample.sample_id for sample in manifest.samples if not sample.mask]
    if bare:
        raise RecipeError(
            f"recipe {recipe.name!r}: expected a liver mask for every sample, got {len(bare)} "
            f"without (first: {bare[0]}). Add masks, pass --segmenter, or use recipe 'ct' or "
            "'picture'."
        )
    if manifest.lesions_alone:
        raise RecipeError(
            f"recipe {recipe.name!r}: expected masks that show the liver, got lesions alone. Say "
            "which value is liver with ingest.mask_values, or use recipe 'ct' or 'picture'."
        )


def check_spacing(name: str, manifest: Manifest) -> None:
    """Refuse volumes of slices whose distance is unknown, such as pictures.

    Args:
        name: of a recipe, or "auto".
        manifest: the cohort.

    Raises:
        RecipeError: the recipe takes series, and a slice has no spacing.
    """
    bare = [sample.sample_id for sample in manifest.samples if not sample.spacing_mm]
    if bare and name == "volume":
        raise RecipeError(
            f"recipe {name!r}: expected a spacing in mm for every slice, got {len(bare)} "
            f"without (first: {bare[0]}). Ingest DICOM or NIfTI, or use --level slab or mil."
        )


def _check_series(recipe: Recipe, manifest: Manifest) -> None:
    """Refuse volumes without spacing, and of a cohort of lone slices."""
    check_spacing(recipe.name, manifest)
    stacked = stack_series(manifest)
    lone = sum(len(sample.slices) == 1 for sample in stacked.samples)
    if lone == len(stacked):
        raise RecipeError(
            f"recipe {recipe.name!r}: expected series of several slices, got {lone} series of one "
            "slice each. Tell series by the column series_id, or use --level slice."
        )
    if lone:
        LOG.warning(
            "%d of %d series have one slice: a volume of them says little", lone, len(stacked)
        )


def _check_neighbours(recipe: Recipe, manifest: Manifest) -> None:
    """Refuse slabs of a cohort in which no slice lies beside another; say where some do not."""
    pairs = find_beside(manifest, recipe.beside_mm)
    lone = sum(pair == (i, i) for i, pair in enumerate(pairs))
    if lone == len(pairs):
        raise RecipeError(
            f"recipe {recipe.name!r}: expected series of several slices, got {lone} slices none of "
            "which lies beside another. Tell series and order by the columns series_id and "
            "slice_index, or use --level slice."
        )
    if lone:
        LOG.warning(
            "%d of %d slices have none beside them and are shown three times; the columns "
            "series_id and slice_index tell what lies beside what",
            lone,
            len(pairs),
        )
