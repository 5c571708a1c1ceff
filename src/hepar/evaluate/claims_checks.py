"""What printed numbers cannot be, or leave out: the checks of a published table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations

from hepar.evaluate.claims_finding import SEVERITIES, ClaimFinding, Severity
from hepar.evaluate.claims_sizes import intervals, pairs, shared_size, stated_size
from hepar.evaluate.claims_table import Claim, Claims, model_key
from hepar.evaluate.granularity import (
    Printed,
    f1_bounds,
    mean_steps,
    tail_of_mixed,
    whole_percent_classes,
)

__all__ = ["check_claims"]

_RARE = 1e-3
_STEPS = range(1, 11)
_FEWEST = 5
Row = dict[str, Printed]


def check_claims(claims: Claims) -> tuple[ClaimFinding, ...]:
    """Check what the printed numbers of a paper can be, and what they leave out.

    A finding speaks about the numbers, not about their authors: a misprint, a mean of rounded
    values or another data set explains many. Digits may have been rounded or cut.

    Args:
        claims: from `read_claims`.

    Returns:
        Findings, the gravest first, in an order that depends on the claims alone.
    """
    checks = (
        _f1,
        _accuracy_between,
        _balanced,
        stated_size,
        shared_size,
        pairs,
        _steps,
        _contradictions,
        _rankings,
        _missing,
        intervals,
        _ignored,
    )
    found = [finding for check in checks for finding in check(claims)]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


def _rows(claims: Claims) -> Iterator[tuple[Claim, Row]]:
    """Yield each row of each table or passage: its first claim, and the numbers by metric."""
    rows: dict[tuple[str, bool, int], list[Claim]] = {}
    for claim in claims.values:
        rows.setdefault((claim.where, claim.in_table, claim.row), []).append(claim)
    for row in rows.values():
        yield row[0], {claim.metric: claim.printed for claim in row}


def _wide(printed: Printed) -> tuple[Fraction, Fraction]:
    """Return the range of what rounds, or is cut, to the printed digits."""
    return printed.low, printed.cut_high


def _apart(a: Printed, b: Printed) -> bool:
    return a.low > b.cut_high or b.low > a.cut_high


def _f1(claims: Claims) -> Iterator[ClaimFinding]:
    """Hold each F1 against precision and sensitivity."""
    means: dict[str, list[str]] = {}
    seen: set[tuple[object, ...]] = set()
    for first, row in _rows(claims):
        if not {"f1", "precision", "sensitivity"} <= set(row):
            continue
        f1, precision, sensitivity = row["f1"], row["precision"], row["sensitivity"]
        low, high = f1_bounds(_wide(precision), _wide(sensitivity))
        if f1.low <= high and low <= f1.cut_high:
            lowest = f1_bounds((precision.low,) * 2, (sensitivity.low,) * 2)[1]
            if f1.cut_high < lowest:
                means.setdefault(first.where, []).append(first.model)
            continue
        key = (model_key(first.model), f1, precision, sensitivity)
        if key not in seen:  # the text repeats its table
            yield _impossible_f1(first, row, (low, high), claims.classes)
        seen.add(key)
    for where, models in means.items():
        yield ClaimFinding(
            "f1-mean",
            where,
            f"F1 of {', '.join(models[:5])}{' ...' * (len(models) > 5)} is below the harmonic mean "
            "of precision and sensitivity: a mean over classes or folds; say which.",
            "note",
            {"models": models},
        )


def _impossible_f1(
    first: Claim, row: Row, bounds: tuple[Fraction, Fraction], classes: int | None
) -> ClaimFinding:
    f1, precision, sensitivity = row["f1"], row["precision"], row["sensitivity"]
    above = f1.low > bounds[1]
    side, end, which = ("above", bounds[1], "most") if above else ("below", bounds[0], "least")
    over = whole_percent_classes(precision, sensitivity, f1) if above else ()
    ways = ""
    if over:
        listed = " or ".join(", ".join(map(str, over)).rsplit(", ", 1))
        ways = f" Whole percents of each class, averaged over {listed} classes, give it"
        ways += "." if _can_be_mean(row, classes) else f"; over {classes} they cannot."
    return ClaimFinding(
        "f1-impossible",
        f"{first.where}: {first.model}",
        f"F1 {f1} is {side} {float(100 * end):.2f} %, the {which} that precision {precision} and "
        f"sensitivity {sensitivity} allow as a harmonic mean, or as means over classes or folds "
        f"with one set of weights.{ways}",
        "impossible",
        {
            "f1": f1.text,
            "precision": precision.text,
            "sensitivity": sensitivity.text,
            "lowest": float(bounds[0]),
            "highest": float(bounds[1]),
            "whole_percents_over_classes": list(over),
        },
    )


def _can_be_mean(row: Row, classes: int | None) -> bool:
    """Say whether precision, sensitivity and F1 may be means of so many whole percents."""
    metrics = ("precision", "sensitivity", "f1")
    return classes is None or all(mean_steps(row[metric], classes)[0] for metric in metrics)


def _accuracy_between(claims: Claims) -> Iterator[ClaimFinding]:
    """Of two classes, accuracy lies between sensitivity and specificity."""
    if claims.classes != 2:
        return
    for first, row in _rows(claims):
        if not {"accuracy", "sensitivity", "specificity"} <= set(row):
            continue
        accuracy, parts = row["accuracy"], (row["sensitivity"], row["specificity"])
        low, high = min(p.low for p in parts), max(p.cut_high for p in parts)
        if not _apart(*parts):  # equal: a mean over both classes, which accuracy is not
            continue
        if accuracy.low > high or accuracy.cut_high < low:
            yield ClaimFinding(
                "accuracy-outside",
                f"{first.where}: {first.model}",
                f"accuracy {accuracy} is not between sensitivity {parts[0]} and specificity "
                f"{parts[1]}, whose weighted mean it is on one test set of two classes.",
                "impossible",
                {"accuracy": accuracy.text, "lowest": float(low), "highest": float(high)},
            )


def _balanced(claims: Claims) -> Iterator[ClaimFinding]:
    """Of classes of one size, the mean sensitivity is the accuracy."""
    for first, row in _rows(claims) if claims.balanced else ():
        if {"accuracy", "sensitivity"} <= set(row) and _apart(row["accuracy"], row["sensitivity"]):
            yield ClaimFinding(
                "balanced-accuracy",
                f"{first.where}: {first.model}",
                f"accuracy {row['accuracy']} and mean sensitivity {row['sensitivity']} are the "
                "same number where classes are of one size.",
                "impossible",
                {"accuracy": row["accuracy"].text, "sensitivity": row["sensitivity"].text},
            )


def _steps(claims: Claims) -> Iterator[ClaimFinding]:
    """Find that means are multiples of 1/k percent more often than chance makes them."""
    metrics = ("precision", "sensitivity", "specificity", "f1")
    printed = [
        c.printed
        for c in claims.values
        if c.in_table and c.metric in metrics and c.printed.decimals and not c.printed.spread
    ]
    if len(printed) < _FEWEST:
        return
    tried = {k: [mean_steps(value, k) for value in printed] for k in _STEPS}
    hits = {k: sum(hit for hit, _ in found) for k, found in tried.items()}
    rare = {k: tail_of_mixed(hits[k], [chance for _, chance in tried[k]]) for k in _STEPS}
    k = min(rare, key=lambda step: (rare[step], step))
    if rare[k] * len(_STEPS) >= _RARE:
        return
    what = f"{hits[k]} of {len(printed)} means (precision, sensitivity, specificity, F1) are"
    odd = claims.classes is not None and claims.classes % k != 0
    message = f"{what} multiples of {_step(k)} percent (by chance: {rare[k]:.0e}): "
    message += (
        f"means over {k} classes of whole percents, or counts out of {100 * k}."
        if k > 1
        else "their decimals say nothing."
    )
    if odd:
        own = hits.get(claims.classes or 0)
        message += f" The task has {claims.classes} classes"
        message += (
            f"; {own} are multiples of {_step(claims.classes or 1)}." if own is not None else "."
        )
    severity: Severity = "suspicious" if odd else "note"
    numbers = {
        "multiples_of_1_over": k,
        "hits": hits[k],
        "of": len(printed),
        "chance": rare[k],
        "hits_by_step": {str(step): hits[step] for step in _STEPS},
        "others": [v.text for v, (hit, _) in zip(printed, tried[k], strict=True) if not hit],
    }
    yield ClaimFinding("step-means", claims.source, message, severity, numbers)


def _step(k: int) -> str:
    return f"{1 / k:g}" if 1000 % k == 0 else f"1/{k}"


def _contradictions(claims: Claims) -> Iterator[ClaimFinding]:
    """Find a number of one model and metric that differs between two places."""
    same: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims.values:
        same.setdefault((model_key(claim.model), claim.metric), []).append(claim)
    for (_, metric), group in same.items():
        places: dict[str, list[Claim]] = {}
        for claim in group:
            places.setdefault(claim.where, []).append(claim)
        if not any(_differ(a, b) for a, b in combinations(places.values(), 2)):
            continue
        told = ", ".join(f"{claim.printed} ({claim.where})" for claim in group[:10])
        yield ClaimFinding(
            "contradiction",
            group[0].model,
            f"{metric} of {group[0].model} is {told}.",
            "contradiction",
            {"printed": [{"where": c.where, "value": c.printed.text} for c in group]},
        )


def _differ(a: Sequence[Claim], b: Sequence[Claim]) -> bool:
    """Say whether no number in one place agrees with any in the other."""
    return all(_apart(x.printed, y.printed) for x in a for y in b)


def _rankings(claims: Claims) -> Iterator[ClaimFinding]:
    """Find tables in which the model that a sentence puts below is above."""
    for ranking in claims.rankings:
        better, worse = ({model_key(m) for m in side} for side in (ranking.better, ranking.worse))
        tables: dict[str, list[Claim]] = {}
        for claim in claims.values:
            if claim.in_table and claim.metric == ranking.metric:
                tables.setdefault(claim.where, []).append(claim)
        for where, listed in tables.items():
            low = [c for c in listed if model_key(c.model) in worse]
            high = [c for c in listed if model_key(c.model) in better]
            beaten = [h for h in high if any(w.printed.low > h.printed.cut_high for w in low)]
            if not beaten:
                continue
            told = ", ".join(f"{c.model} {c.printed}" for c in (*low[:3], *beaten[:10]))
            yield ClaimFinding(
                "ranking",
                where,
                f"{len(high)} models are put above {', '.join(ranking.worse)} ({ranking.where}); "
                f"{len(beaten)} of them are below: {ranking.metric} of {told}.",
                "contradiction",
                {"below": [c.model for c in beaten], "named": [c.model for c in high]},
            )


def _missing(claims: Claims) -> Iterator[ClaimFinding]:
    """Find what is announced or said, and not in a table."""
    given = {claim.metric for claim in claims.values}
    for metric in dict.fromkeys(claims.announced):
        if metric not in given:
            message = f"{metric} is announced and given nowhere."
            yield ClaimFinding("metric-missing", claims.source, message, "missing")
    tabled = {model_key(claim.model) for claim in claims.values if claim.in_table}
    spoken: dict[str, list[Claim]] = {}
    for claim in claims.values:
        if tabled and model_key(claim.model) not in tabled:
            spoken.setdefault(model_key(claim.model), []).append(claim)
    for group in spoken.values():
        told = ", ".join(f"{c.metric} {c.printed} ({c.where})" for c in group[:5])
        message = f"{group[0].model} has {told} in the text and is in no table."
        yield ClaimFinding("model-missing", group[0].where, message, "missing")
    if all(claim.n is None for claim in claims.values):
        message = "no number of test cases is given, so no interval follows from these numbers."
        yield ClaimFinding("size-missing", claims.source, message, "missing")


def _ignored(claims: Claims) -> Iterator[ClaimFinding]:
    if claims.ignored:
        message = f"not checked: {', '.join(claims.ignored[:10])}."
        yield ClaimFinding(
            "columns", claims.source, message, "note", {"columns": [*claims.ignored]}
        )
