"""Named things a user can choose from: add, get with "did you mean", iterate; no duplicates."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from hepar.errors import RegistryError

__all__ = ["Registry", "nearest"]

T = TypeVar("T")

_FEW = 12
"""Names that an error message lists; of more, it says where to see them."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the sentence "Did you mean 'x'?" for the known name closest to `name`, or "".

    Example:
        >>> nearest("densenet112", ["densenet121", "vgg16"])
        "Did you mean 'densenet121'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else ""


def renamed(wanted: str, known: Iterable[str]) -> str:
    """Return the sentence that says which of the known names to rename, or "".

    Example:
        >>> renamed("patient_id", ["patient", "label"])
        "Rename 'patient' to 'patient_id'."
    """
    close = difflib.get_close_matches(wanted, list(known), n=1, cutoff=0.5)
    return f"Rename {close[0]!r} to {wanted!r}." if close else ""


class Registry(Generic[T]):
    """A mapping from a name to one thing of a kind, filled by decorators at import.

    Args:
        kind: what is registered, in the words of an error message ("backbone").
        how_to_list: a sentence that tells the user how to see all names.

    Example:
        >>> shapes: Registry[type] = Registry("shape", "`hepar shapes` lists all.")
        >>> @shapes.add("disc")
        ... class Disc: ...
        >>> shapes.get("disk")
        Traceback (most recent call last):
        hepar.errors.RegistryError: unknown shape 'disk'. Did you mean 'disc'? Known: disc.
    """

    def __init__(self, kind: str, how_to_list: str = "") -> None:
        self.kind = kind
        self.how_to_list = how_to_list
        self._things: dict[str, T] = {}

    def add(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a thing under `name`; a name taken twice is refused."""

        def register(thing: T) -> T:
            if name in self._things:
                raise RegistryError(
                    f"{self.kind} {name!r}: expected a new name, got one already registered."
                )
            self._things[name] = thing
            return thing

        return register

    def get(self, name: str) -> T:
        """Return the thing under `name`; an unknown name is answered with the nearest."""
        try:
            return self._things[name]
        except KeyError:
            listed = f"Known: {', '.join(self._things)}." if len(self._things) <= _FEW else ""
            hints = " ".join(
                filter(None, [nearest(name, self._things), listed or self.how_to_list])
            )
            raise RegistryError(f"unknown {self.kind} {name!r}. {hints}".rstrip()) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def items(self) -> Iterable[tuple[str, T]]:
        """Return name and thing, in the order of registration."""
        return self._things.items()
