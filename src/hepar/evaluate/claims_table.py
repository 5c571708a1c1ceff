"""One printed table: which column means what, and each cell as a claim."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hepar.errors import EvaluateError
from hepar.evaluate.granularity import Printed, parse_printed

__all__ = [
    "METRIC_NAMES",
    "Claim",
    "Claims",
    "Ranking",
    "column_meaning",
    "model_key",
    "one_line",
    "table_claims",
    "whole_number",
]

_MOST_N = 1_000_000_000
_EMPTY = {"", "-", "--", "\N{EN DASH}", "\N{EM DASH}", "n/a", "na", "nr", "n.r.", "none"}
_METRICS = {
    "accuracy": ("accuracy", "acc", "overallaccuracy", "testaccuracy", "classificationaccuracy"),
    "precision": ("precision", "ppv", "positivepredictivevalue"),
    "sensitivity": (
        "sensitivity",
        "recall",
        "sens",
        "tpr",
        "recallsensitivity",
        "sensitivityrecall",
    ),
    "specificity": ("specificity", "spec", "tnr"),
    "f1": ("f1", "f1score", "fscore", "fmeasure", "f1measure"),
    "auroc": ("auroc", "auc", "rocauc", "aucroc"),
}
METRIC_NAMES = {name: metric for metric, names in _METRICS.items() for name in names}
"""What papers call a metric, and what it is called here."""

_MODEL = {"model", "models", "method", "network", "classifier", "architecture", "algorithm"}
_SIZE = {"n", "ntest", "testn", "testsize", "testsetsize"}


@dataclass(frozen=True, slots=True)
class Claim:
    """One printed number.

    Attributes:
        where: the table or passage.
        in_table: it stands in a table, not in the text.
        row: number of the row in its table, from 1.
        model: as printed.
        metric: accuracy, precision, sensitivity, specificity, f1 or auroc.
        printed: the number.
        n: cases it is counted over; None where the paper does not say.
    """

    where: str
    in_table: bool
    row: int
    model: str
    metric: str
    printed: Printed
    n: int | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """A sentence that puts models above others.

    Attributes:
        where: the passage.
        metric: by what.
        better: the models it praises.
        worse: the models it puts below them.
    """

    where: str
    metric: str
    better: tuple[str, ...]
    worse: tuple[str, ...]


@dataclass(frozen=True)
class Claims:
    """All that a paper prints.

    Attributes:
        source: name of the file.
        values: every printed number, in the order of the file.
        title: of the paper, "" where not given.
        classes: number of classes; None where not given.
        balanced: the classes are of one size in the test set, and sensitivity is their mean.
        max_n: no test set can be larger; None where nothing is known.
        announced: metrics that the methods announce.
        rankings: sentences that put models above others.
        ignored: columns that are no metric hepar checks.
    """

    source: str
    values: tuple[Claim, ...]
    title: str = ""
    classes: int | None = None
    balanced: bool = False
    max_n: int | None = None
    announced: tuple[str, ...] = ()
    rankings: tuple[Ranking, ...] = ()
    ignored: tuple[str, ...] = ()


def model_key(name: str) -> str:
    """Return what VGG16, VGG-16 and vgg 16 have in common.

    Example:
        >>> model_key("VGG-16") == model_key("vgg 16")
        True
    """
    return "".join(c for c in name.casefold() if c.isalnum())


def column_meaning(name: str) -> str:
    """Return which column a heading means: "model", "n", a metric, or ""."""
    key = re.sub(r"[^a-z0-9]", "", re.sub(r"\(.*?\)|\[.*?\]", "", name.casefold()))
    if key in _MODEL:
        return "model"
    return "n" if key in _SIZE else METRIC_NAMES.get(key, "")


def table_claims(
    where: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    n: int | None = None,
    scale: str = "",
    *,
    in_table: bool = True,
) -> tuple[tuple[Claim, ...], tuple[str, ...]]:
    """Return the claims of one table, and the columns that were not read."""
    meanings = [column_meaning(name) for name in columns]
    _check_columns(where, columns, meanings)
    for number, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            raise EvaluateError(
                f"{where}: expected {len(columns)} values in row {number}, got {len(row)}. Quote "
                "numbers with a decimal comma, or separate columns by semicolons."
            )
    at = meanings.index("model")
    sizes = [
        whole_number(where, row[meanings.index("n")]) if "n" in meanings else n for row in rows
    ]
    found: dict[int, list[Claim]] = {i: [] for i in range(len(rows))}
    for j, metric in enumerate(meanings):
        if metric not in _METRICS:
            continue
        cells = [row[j].strip() for row in rows]
        percent = _is_percent(f"{where}: {metric}", columns[j], cells, scale)
        for i, cell in enumerate(cells):
            if cell.casefold() in _EMPTY:
                continue
            model = one_line(f"{where}: row {i + 1}", rows[i][at])
            spot = f"{where}: {metric} of {model[:40]!r}"
            printed = parse_printed(cell, spot, percent=percent)
            found[i].append(Claim(where, in_table, i + 1, model, metric, printed, sizes[i]))
    values = tuple(claim for i in range(len(rows)) for claim in found[i])
    return values, tuple(
        c for c, meaning in zip(columns, meanings, strict=True) if c.strip() and not meaning
    )


def _check_columns(where: str, columns: Sequence[str], meanings: Sequence[str]) -> None:
    got = ", ".join(columns)[:200] or "none"
    if not all(name.isprintable() for name in columns):
        raise EvaluateError(f"{where}: expected printable column names, got {got!a}. Rename them.")
    if "model" not in meanings:
        raise EvaluateError(
            f"{where}: expected a column 'model', got {got}. Rename the one that names the models."
        )
    if not set(meanings) & set(_METRICS):
        raise EvaluateError(
            f"{where}: expected a column of {', '.join(_METRICS)}, got {got}. Rename the metrics."
        )
    twice = next((m for m in meanings if m and meanings.count(m) > 1), None)
    if twice is not None:
        names = [c for c, m in zip(columns, meanings, strict=True) if m == twice]
        raise EvaluateError(
            f"{where}: expected one column for {twice}, got {', '.join(names)}. Keep one of them."
        )


def _is_percent(spot: str, heading: str, cells: Sequence[str], scale: str) -> bool:
    """Say whether plain numbers of a column are percentages: by the signs, else by their size."""
    if scale or "%" in heading:
        return scale != "fraction"
    leading = (re.match(r"[0-9]*[.,]?[0-9]*", cell[:50]) for cell in cells if "%" not in cell)
    texts = [m[0].replace(",", ".") for m in leading if m and m[0].strip(".,")]
    small = [text for text in texts if 0 < float(text) <= 1]
    large = [text for text in texts if float(text) > 1]
    signed = [cell for cell in cells if "%" in cell]
    if small and (large or signed):
        raise EvaluateError(
            f"{spot}: expected one scale, got {small[0]} and {(large or signed)[0][:40]}. Write "
            "percent signs, or say scale in a TOML file."
        )
    return bool(large or signed)


def one_line(where: str, text: str) -> str:
    """Return a name with its white space tidied; refuse none, and control characters."""
    tidy = " ".join(text.split())
    if not tidy or not tidy.isprintable():
        raise EvaluateError(f"{where}: expected a printable name, got {text[:40]!a}. Name it.")
    return tidy


def whole_number(where: str, value: object) -> int | None:
    """Return a test-set size that may be empty, or refuse what is not a whole number."""
    text = str(value).strip()
    if value is None or (isinstance(value, str) and text.casefold() in _EMPTY):
        return None
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,10}", text):
        raise EvaluateError(
            f"{where}: expected n to be a whole number of cases, got {text[:40]!a}. Write 1234."
        )
    if not 1 <= int(text) <= _MOST_N:
        raise EvaluateError(f"{where}: expected n of 1 to {_MOST_N:,} cases, got {text}.")
    return int(text)
