"""How many test cases printed accuracies can be counted over, and the intervals not given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from hepar.evaluate.claims_finding import ClaimFinding, Severity
from hepar.evaluate.claims_table import Claim, Claims
from hepar.evaluate.granularity import MOST_SIZES, Printed, chance_size, sizes_of
from hepar.evaluate.intervals import wilson

__all__ = ["LARGE", "intervals", "pairs", "shared_size", "stated_size"]

LARGE = 1_000
"""A smallest possible test set above this is called suspicious where the paper states no size."""

_MOST_PAIRED = 60
_SUPPOSED = (100, 300, 1_000)
_ONE_SET = "unless it is a mean over folds of different sizes"


def _counted(claims: Claims) -> list[Claim]:
    """Return the numbers that are a count over the test set: k of n."""
    metrics = {"accuracy", "sensitivity"} if claims.balanced else {"accuracy"}
    return [c for c in claims.values if c.metric in metrics and not c.printed.spread]


def stated_size(claims: Claims) -> Iterator[ClaimFinding]:
    """Find accuracies that are no k of the n that the paper states."""
    for claim in _counted(claims):
        if claim.n is None:
            continue
        n, printed = claim.n, claim.printed
        if ceil(n * printed.low) <= floor(n * printed.cut_high):  # rounded, or cut
            continue
        below = floor(n * printed.value)
        sides = [
            f"{k} is {float(100 * k / n):.{printed.decimals + 1}f} %" for k in (below, below + 1)
        ]
        yield ClaimFinding(
            "size-stated",
            f"{claim.where}: {claim.model}",
            f"{claim.metric} {printed} is no whole number of {n:,} cases ({', '.join(sides)}), "
            f"{_ONE_SET}.",
            "impossible",
            {"printed": printed.text, "n": n, "below": below, "above": below + 1},
        )


def _possible(values: Sequence[Printed], claims: Claims) -> NDArray[np.bool_]:
    """Return for n = 1 ... MOST_SIZES whether one test set of n makes all values possible.

    All are rounded, or all are cut, as one program or one hand does.
    """
    step = claims.classes or 1
    ways = np.ones((2, MOST_SIZES), dtype=np.bool_)
    ways[:, : step - 1] = False  # a test set holds each class
    for value in values:
        for cut in (False, True):
            ways[int(cut)] &= sizes_of(value, multiple_of=step if claims.balanced else 1, cut=cut)
    return np.asarray(ways.any(axis=0))


def _smallest(possible: NDArray[np.bool_]) -> int | None:
    return int(possible.argmax()) + 1 if possible.any() else None


def _size(smallest: int | None) -> str:
    return f"{smallest:,} cases" if smallest else f"{MOST_SIZES:,} cases or more"


def _severity(smallest: int | None, claims: Claims) -> Severity:
    if claims.max_n is not None:
        return "impossible" if smallest is None or smallest > claims.max_n else "note"
    return "suspicious" if smallest is None or smallest > LARGE else "note"


def _against(claims: Claims) -> str:
    if claims.max_n is not None:
        return f"; the paper has {claims.max_n:,} at most"
    return "; the paper states no number"


def _unsized(claims: Claims) -> list[Claim]:
    """Return the counts with decimals and no stated size."""
    return [c for c in _counted(claims) if c.n is None and c.printed.decimals]


def shared_size(claims: Claims) -> Iterator[ClaimFinding]:
    """Find for each table the smallest test set that makes all its accuracies possible."""
    by_table: dict[str, dict[str, Printed]] = {}
    for claim in _unsized(claims):
        if claim.in_table:
            by_table.setdefault(claim.where, {})[str(claim.printed)] = claim.printed
    for where, printed in by_table.items():
        values = list(printed.values())
        possible = _possible(values, claims)
        smallest, chance = _smallest(possible), chance_size(values)
        many = f"all {len(values)} accuracies" if len(values) > 1 else "the accuracy"
        by_chance = f" (random digits: about {chance:,})" if chance and len(values) > 1 else ""
        yield ClaimFinding(
            "size-shared",
            where,
            f"{many} on one test set need at least {_size(smallest)}{by_chance}{_against(claims)}.",
            _severity(smallest, claims),
            {
                "accuracies": list(printed),
                "smallest_n": smallest,
                "smallest_n_of_each": [
                    _smallest(_possible([v], claims)) for v in values[:_MOST_PAIRED]
                ],
                "next_n": (np.flatnonzero(possible)[1:10] + 1).tolist(),
                "possible_up_to_1000": int(possible[:LARGE].sum()),
                "random_digits_n": chance,
                "tried_up_to": MOST_SIZES,
            },
        )


def pairs(claims: Claims) -> Iterator[ClaimFinding]:
    """Find the smallest test set that two accuracies, of tables or text, can share."""
    printed = {c.printed.value: c.printed for c in _unsized(claims)}
    values = [printed[v] for v in sorted(printed, reverse=True)][:_MOST_PAIRED]
    if len(values) < 3:
        return
    possible = [_possible([v], claims) for v in values]
    shared = [
        (_smallest(possible[i] & possible[j]), i, j) for i, j in combinations(range(len(values)), 2)
    ]
    hardest = max(shared, key=lambda s: (s[0] or MOST_SIZES + 1, -s[1], -s[2]))

    def said(one: tuple[int | None, int, int]) -> str:
        return f"{values[one[1]]} and {values[one[2]]} share no test set below {_size(one[0])}"

    first = "" if shared[0] == hardest else f"the two highest, {said(shared[0])}; "
    yield ClaimFinding(
        "size-pair",
        claims.source,
        f"{first}{said(hardest)}{_against(claims)}.",
        _severity(hardest[0], claims),
        {"pairs": [{"a": str(values[i]), "b": str(values[j]), "n": n} for n, i, j in shared]},
    )


def intervals(claims: Claims) -> Iterator[ClaimFinding]:
    """Give the 95 % intervals that the paper does not: by its n, else for supposed ones."""
    unsized: dict[str, list[Claim]] = {}
    for claim in claims.values:
        if claim.metric != "accuracy" or claim.printed.spread:
            continue
        if claim.n is None:
            unsized.setdefault(claim.where, []).append(claim)
            continue
        row = _interval(claim, claim.n)
        yield ClaimFinding(
            "interval",
            f"{claim.where}: {claim.model}",
            f"accuracy {claim.printed} of {claim.n:,} cases is {_ends(row)} (Wilson, cases "
            "independent: patients, not slices).",
            "note",
            row,
        )
    for where, listed in unsized.items():
        if not listed[0].in_table:
            continue
        best = max(listed, key=lambda c: c.printed.value)
        rows = [_interval(best, n) for n in _SUPPOSED]
        told = ", ".join(f"{_ends(row)} of {row['n']:,}" for row in rows)
        yield ClaimFinding(
            "interval-supposed",
            where,
            f"the best accuracy, {best.printed} ({best.model}), would be {told} cases (Wilson, "
            "cases independent).",
            "note",
            {"intervals": [_interval(claim, n) for claim in listed for n in _SUPPOSED]},
        )


def _interval(claim: Claim, n: int) -> dict[str, object]:
    low, high = wilson(float(claim.printed.value) * n, n)
    return {"model": claim.model, "printed": claim.printed.text, "n": n, "low": low, "high": high}


def _ends(row: dict[str, object]) -> str:
    return f"{100 * float(str(row['low'])):.1f}-{100 * float(str(row['high'])):.1f} %"
