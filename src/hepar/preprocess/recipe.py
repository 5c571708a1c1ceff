"""A recipe: ordered deterministic steps from slice to network input, in training and service."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hepar.data import Slice
from hepar.errors import RecipeError
from hepar.provenance import digest, read_artefact, write_artefact
from hepar.registry import Registry, nearest

if TYPE_CHECKING:
    from hepar.preprocess.volume_input import Box

__all__ = ["RECIPES", "STEPS", "Recipe", "Step", "read_recipe", "recipe_from_json", "write_recipe"]

PIXEL_VERSION = 1
"""Raised whenever a step gives other numbers for the same parameters; it is part of every key."""


class Step(Protocol):
    """One deterministic operation: a frozen dataclass whose fields are all its parameters."""

    def __call__(self, image: Slice) -> Slice:
        """Return the slice after this step; the argument is not changed."""
        ...


STEPS: Registry[Callable[..., Step]] = Registry("step", "`hepar info` lists all.")
RECIPES: Registry[Callable[..., tuple[Step, ...]]] = Registry("recipe", "`hepar info` lists all.")


@dataclass(frozen=True)
class Recipe:
    """Ordered steps under a name.

    Attributes:
        name: as in `--recipe`.
        steps: applied first to last; the last leaves (y, x, 3) float32 pixels.
        needs_mask: True where a step looks at the liver mask.
    """

    name: str
    steps: tuple[Step, ...]

    @property
    def needs_mask(self) -> bool:
        """True where a step looks at the liver mask."""
        return any(getattr(type(step), "needs_mask", False) for step in self.steps)

    @property
    def needs_parenchyma(self) -> bool:
        """True where a step compares with the patient's own liver, over all its slices."""
        return any(getattr(type(step), "needs_parenchyma", False) for step in self.steps)

    @property
    def needs_series(self) -> bool:
        """True where a sample is a whole series, and its one step makes a grid of it."""
        return any(getattr(type(step), "needs_series", False) for step in self.steps)

    @property
    def things(self) -> str:
        """What it is shown, in words."""
        return "series" if self.needs_series else "slices"

    @property
    def windows(self) -> int:
        """Grids that a sample is seen in, whose answers are averaged; 1 but for series."""
        return int(getattr(self.steps[0], "windows", 1)) if self.needs_series else 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of network input: (3, size, size), or (1, planes, size, size) of a series."""
        depth = max((getattr(step, "depth", 0) for step in self.steps), default=0)
        return (1, depth, self.size, self.size) if depth else (3, self.size, self.size)

    @property
    def beside_mm(self) -> float:
        """How far away the slices lie that a step sees beside its own; 0 where none does."""
        asked = [step for step in self.steps if getattr(type(step), "needs_beside", False)]
        return max((float(getattr(step, "mm", 0)) for step in asked), default=0.0)

    @property
    def size(self) -> int:
        """Side in pixels of the square network input; 0 where no step resizes."""
        return max((getattr(step, "size", 0) for step in self.steps), default=0)

    @property
    def scale(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation, per channel, that the last step standardises by."""
        last = self.steps[-1] if self.steps else None
        return getattr(last, "mean", (0.0,) * 3), getattr(last, "std", (1.0,) * 3)

    @property
    def key(self) -> str:
        """SHA-256 of every step and parameter; features computed under one key agree."""
        return digest(PIXEL_VERSION, self.to_json()["steps"])

    def apply(self, image: Slice) -> NDArray[np.float32]:
        """Return network input.

        Args:
            image: pixels (y, x), or (y, x, 3) in RGB, with their kind, mask and spacing.

        Returns:
            (3, H, W) float32, contiguous.

        Raises:
            RecipeError: a step does not fit the slice, such as a HU window on an 8-bit picture.
        """
        return np.ascontiguousarray(self.run(image).pixels.transpose(2, 0, 1))

    def run(self, image: Slice) -> Slice:
        """Return the slice after the last step, with its mask and the window that it shows.

        Args:
            image: pixels (y, x), or (y, x, 3) in RGB, with their kind, mask and spacing.

        Returns:
            Pixels (H, W, 3) float32.

        Raises:
            RecipeError: a step does not fit the slice.
        """
        for step in self.steps:
            image = step(image)
        pixels = image.pixels
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.float32:
            raise RecipeError(
                f"recipe {self.name!r}: expected (y, x, 3) float32 after the last step, got "
                f"{pixels.shape} {pixels.dtype}. End it with 'channels' and 'standardise'."
            )
        return image

    def stack(
        self, read: Callable[[int], Slice], heights: Sequence[float]
    ) -> tuple[NDArray[np.float32], Box] | None:
        """Return a series as the network sees it, and where in it that is.

        Args:
            read: returns a slice by its place in `heights`.
            heights: of the slices in mm, ascending.

        Returns:
            (windows, planes, size, size), or None where the series shows no liver.

        Raises:
            RecipeError: the recipe does not take series, or a parameter makes no sense.
        """
        make = getattr(self.steps[0], "grid", None)
        if make is None or len(self.steps) > 1:
            raise RecipeError(f"recipe {self.name!r}: expected one step that takes a series.")
        found: tuple[NDArray[np.float32], Box] | None = make(read, heights)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON-able values; `recipe_from_json` gives an equal recipe back."""
        names = {thing: name for name, thing in STEPS.items()}
        steps = [
            {"step": names[type(step)], **dataclasses.asdict(step)}  # type: ignore[call-overload]
            for step in self.steps
        ]
        return {"name": self.name, "steps": steps}


def _freeze(value: Any) -> Any:
    return tuple(_freeze(item) for item in value) if isinstance(value, list) else value


def recipe_from_json(document: Mapping[str, Any]) -> Recipe:
    """Return the recipe that `Recipe.to_json` described.

    Raises:
        RecipeError: a parameter is missing or unknown.
        RegistryError: a step is unknown.
    """
    steps = []
    for entry in document["steps"]:
        parameters = {key: _freeze(value) for key, value in entry.items() if key != "step"}
        make = STEPS.get(entry["step"])
        known = [field.name for field in dataclasses.fields(make)]  # type: ignore[arg-type]
        for key in parameters:
            if key not in known:
                raise RecipeError(
                    f"step {entry['step']!r}: unknown parameter {key!r}. {nearest(key, known)}"
                )
        steps.append(make(**parameters))
    return Recipe(document["name"], tuple(steps))


def write_recipe(path: Path, recipe: Recipe, provenance: Mapping[str, Any]) -> None:
    """Write `recipe.json`."""
    write_artefact(path, "recipe", recipe.to_json(), provenance)


def read_recipe(path: Path) -> Recipe:
    """Read `recipe.json`."""
    return recipe_from_json(read_artefact(path, "recipe"))
