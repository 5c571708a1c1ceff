"""The label set: the categories of a cohort, in order of severity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hepar.errors import DataError
from hepar.registry import nearest

__all__ = ["LabelSet"]

_HARMLESS = ("normal", "healthy", "no_", "no-", "non", "none", "negative", "absent", "control")
_MIDDLING = ("benign", "cyst", "haemangioma", "hemangioma", "adenoma", "stone", "fnh")


def _severity(label: str) -> tuple[int, str]:
    word = label.lower()
    if word.startswith(_HARMLESS):
        return 0, word
    return (1, word) if any(part in word for part in _MIDDLING) else (2, word)


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Two or more labels, from the most harmless to the most severe.

    The order decides two things a reader sees: a patient whose samples carry different labels has
    the most severe of them as reference, and the last label is the one that "positive" means where
    there are two.

    Attributes:
        names: the labels in order of severity; unique, not empty.

    Example:
        >>> LabelSet.infer(["tumour", "no_tumour", "tumour"]).names
        ('no_tumour', 'tumour')
        >>> LabelSet.infer(["malignant", "normal", "benign"]).names
        ('normal', 'benign', 'malignant')
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or "" in self.names:
            raise DataError(
                f"labels: expected names in order of severity, none twice and none empty, got "
                f"{list(self.names)}."
            )

    @classmethod
    def infer(cls, labels: Iterable[str]) -> LabelSet:
        """Order the labels that occur by what their names say, then by alphabet."""
        return cls(tuple(sorted({label for label in labels if label}, key=_severity)))

    @classmethod
    def parse(cls, text: str) -> LabelSet:
        """Return the labels of a text such as "normal, benign, malignant", in that order.

        Raises:
            DataError: a name is empty or occurs twice.
        """
        return cls(tuple(name.strip() for name in text.split(",")))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def index(self, label: str) -> int:
        """Return the position of a label, 0 = most harmless.

        Raises:
            DataError: the label is not in the set.
        """
        try:
            return self.names.index(label)
        except ValueError:
            raise DataError(
                f"label {label!r}: expected one of {list(self.names)}. "
                f"{nearest(label, self.names)}".rstrip()
            ) from None

    def check(self, labels: Iterable[str]) -> None:
        """Refuse labels that are not in the set; "" stands for none.

        Raises:
            DataError: as `index`.
        """
        for label in sorted(set(labels) - {""}):
            self.index(label)

    def most_severe(self, labels: Iterable[str]) -> str:
        """Return the label of highest severity among those that occur."""
        return self.names[max(self.index(label) for label in labels)]
