"""What a paper claims: its tables and the numbers in its text, read from a CSV or TOML file."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hepar.errors import EvaluateError
from hepar.evaluate.claims_table import (
    METRIC_NAMES,
    Claim,
    Claims,
    Ranking,
    column_meaning,
    one_line,
    table_claims,
    whole_number,
)
from hepar.registry import nearest

__all__ = ["EXAMPLE", "MOST_ROWS", "Claim", "Claims", "Ranking", "read_claims"]

EXAMPLE = Path(__file__).parent / "examples" / "seed_paper.toml"
"""The paper that hepar starts from: its Table 3 and the numbers in its text."""

MOST_ROWS = 1_000
"""Rows of all tables and texts together; a published table has fewer."""

_MOST_BYTES = 5_000_000
_SCALES = ("percent", "fraction")
_KEYS = {
    "paper": {"title", "citation", "n", "max_n", "classes", "balanced", "scale", "announced"}
    | {"tables", "text", "rankings"},
    "tables": {"where", "columns", "rows", "n", "scale"},
    "rankings": {"where", "metric", "better", "worse"},
}


def read_claims(path: Path) -> Claims:
    """Read the claims of a paper from a CSV table or a TOML file.

    A CSV has a column `model`, one or more metrics (accuracy, precision, recall or sensitivity,
    specificity, f1, auroc) and, if known, `n`. A TOML file holds several of them with the text.

    Args:
        path: the file; a name that ends in .toml is TOML, all else CSV.

    Returns:
        The claims; cells that are empty are left out.

    Raises:
        EvaluateError: the file is missing, too large, malformed, lacks a column, or holds something
            that is not a proportion.
    """
    try:
        if not path.is_file():
            got = "a folder" if path.is_dir() else "no file"
            raise EvaluateError(f"{path}: expected a CSV table or a TOML file, got {got}.")
        if path.stat().st_size > _MOST_BYTES:
            raise EvaluateError(
                f"{path}: expected a published table of at most {MOST_ROWS:,} rows, got "
                f"{path.stat().st_size:,} bytes. Give the numbers of one paper."
            )
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluateError(f"{path}: expected UTF-8 text, got {error}.") from None
    if path.suffix.casefold() == ".toml":
        return _read_toml(path.name, text)
    columns, rows = _read_csv(path.name, text)
    values, ignored = table_claims(path.name, columns, rows)
    return Claims(path.name, _not_empty(path.name, values), ignored=ignored)


def _not_empty(source: str, values: tuple[Claim, ...]) -> tuple[Claim, ...]:
    if not values:
        raise EvaluateError(f"{source}: expected at least one printed number, got none.")
    return values


def _read_csv(source: str, text: str) -> tuple[list[str], list[list[str]]]:
    header = text.lstrip().partition("\n")[0]
    delimiter = next((mark for mark in (";", "\t") if mark in header), ",")
    reader = csv.reader(io.StringIO(text.lstrip(), newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(row)
            if len(rows) > MOST_ROWS + 1:
                raise EvaluateError(
                    f"{source}: expected a published table of at most {MOST_ROWS:,} rows, got "
                    "more. Give the numbers of one paper."
                )
    except csv.Error as error:
        raise EvaluateError(f"{source}: expected a CSV table, got {error}.") from None
    if len(rows) < 2:
        raise EvaluateError(
            f"{source}: expected a header and at least one row, got {len(rows)} lines. The header "
            "is such as model,accuracy,precision,recall,f1."
        )
    return rows[0], rows[1:]


def _read_toml(source: str, text: str) -> Claims:
    try:
        paper = tomllib.loads(text, parse_float=lambda digits: digits)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise EvaluateError(f"{source}: expected TOML, got {error}.") from None
    _check_keys(source, paper, "paper")
    scale, n = _scale(source, paper), whole_number(source, paper.get("n"))
    classes = whole_number(f"{source}: classes", paper.get("classes"))
    balanced = _typed(source, paper, "balanced", bool, default=False)
    if balanced and classes is None:
        raise EvaluateError(f"{source}: expected classes beside balanced, got none. Add classes.")
    values: list[Claim] = []
    ignored: list[str] = []
    n_rows = 0
    for kind in ("tables", "text"):
        for where, table in _parts(source, paper, kind):
            columns, rows = _cells(where, table)
            n_rows += len(rows)
            if n_rows > MOST_ROWS:
                raise EvaluateError(f"{source}: expected at most {MOST_ROWS:,} rows, got more.")
            own = (whole_number(where, table.get("n", n)), _scale(where, table) or scale)
            more, left = table_claims(where, columns, rows, *own, in_table=kind == "tables")
            values += more
            ignored += left
    return Claims(
        source=source,
        values=_not_empty(source, tuple(values)),
        title=_typed(source, paper, "title", str, default=""),
        classes=classes,
        balanced=balanced,
        max_n=whole_number(f"{source}: max_n", paper.get("max_n")),
        announced=tuple(_metric(source, name) for name in _texts(source, paper, "announced")),
        rankings=tuple(_ranking(*part) for part in _parts(source, paper, "rankings")),
        ignored=tuple(dict.fromkeys(ignored)),
    )


def _parts(
    source: str, paper: Mapping[str, Any], kind: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the tables of an array, each with its `where`."""
    parts = paper.get(kind, [])
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise EvaluateError(f"{source}: expected [[{kind}]] tables, got {str(parts)[:40]!a}.")
    seen = set()
    for part in parts:
        _check_keys(f"{source}: [[{kind}]]", part, "tables" if kind == "text" else kind)
        where = part.get("where")
        if not isinstance(where, str) or not where.strip():
            raise EvaluateError(
                f"{source}: expected `where` in each of [[{kind}]], got none. "
                "Say which table or passage it is."
            )
        if kind != "rankings" and where in seen:
            raise EvaluateError(
                f"{source}: expected each `where` once in [[{kind}]], got {where[:40]!a} twice."
            )
        seen.add(where)
        yield one_line(source, where), part


def _check_keys(where: str, table: Mapping[str, Any], kind: str) -> None:
    for key in table:
        if key not in _KEYS[kind]:
            hint = nearest(key, _KEYS[kind]) or f"Known: {', '.join(sorted(_KEYS[kind]))}."
            raise EvaluateError(f"{where}: unknown key {key[:40]!a}. {hint}")


def _cells(where: str, table: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    columns = _texts(where, table, "columns")
    rows = table.get("rows", [])
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise EvaluateError(f"{where}: expected rows to be a list of lists. See the example.")
    odd = next((v for row in rows for v in row if type(v) not in (str, int)), None)
    if odd is not None:
        raise EvaluateError(f"{where}: expected text or a number in rows, got {str(odd)[:40]!a}.")
    return columns, [[str(value) for value in row] for row in rows]


def _texts(where: str, table: Mapping[str, Any], key: str) -> list[str]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(value, str) for value in found):
        raise EvaluateError(f"{where}: expected {key} to be a list of texts, got {found!a:.40}.")
    return found


def _typed(where: str, table: Mapping[str, Any], key: str, kind: type, *, default: Any) -> Any:
    found = table.get(key, default)
    if not isinstance(found, kind):
        raise EvaluateError(f"{where}: expected {key} to be {kind.__name__}, got {found!a:.40}.")
    return found


def _scale(where: str, table: Mapping[str, Any]) -> str:
    scale = table.get("scale", "")
    if scale not in ("", *_SCALES):
        raise EvaluateError(f"{where}: expected scale to be one of {_SCALES}, got {scale!a:.40}.")
    return str(scale)


def _metric(where: str, name: str) -> str:
    metric = column_meaning(name)
    if metric not in METRIC_NAMES.values():
        hint = (
            nearest(name, METRIC_NAMES)
            or f"Known: {', '.join(dict.fromkeys(METRIC_NAMES.values()))}."
        )
        raise EvaluateError(f"{where}: unknown metric {name[:40]!a}. {hint}")
    return metric


def _ranking(where: str, table: Mapping[str, Any]) -> Ranking:
    return Ranking(
        where,
        _metric(where, _typed(where, table, "metric", str, default="accuracy")),
        tuple(_texts(where, table, "better")),
        tuple(_texts(where, table, "worse")),
    )
