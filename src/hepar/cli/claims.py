"""Papers and plans: what published numbers can be, and how many patients a study needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hepar.cli.face import LOOK, Json, app, print_json, print_table

plan_app = typer.Typer(
    help="How many patients a study needs, for an interval or for a difference.",
    no_args_is_help=True,
)
app.add_typer(plan_app, name="plan", rich_help_panel=LOOK)

HalfWidth = Annotated[
    float, typer.Option("--half-width", help="Half of the interval's length, as a proportion.")
]
Level = Annotated[float, typer.Option(help="Coverage; of a test 1 minus its error.")]
Power = Annotated[float, typer.Option(help="Chance to find the difference.")]
PerPatient = Annotated[
    float, typer.Option("--per-patient", help="Lesions or slices a patient, if those are counted.")
]
Icc = Annotated[float, typer.Option(help="How alike those of one patient are, 0 to 1.")]


@app.command("check-claims", rich_help_panel=LOOK)
def check_claims(
    file: Annotated[
        Path | None,
        typer.Argument(help="A table (CSV) or a paper (TOML).", show_default=False),
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Check the paper that hepar starts from.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check what the numbers of a published table can be, and what they leave out."""
    from dataclasses import asdict

    from hepar.errors import EvaluateError
    from hepar.evaluate.claims import EXAMPLE, read_claims
    from hepar.evaluate.claims_checks import check_claims as find

    if (file is None) != example:
        got = "both" if example else "neither"
        raise EvaluateError(f"check-claims: expected a FILE or --example, got {got}. Give one.")
    claims = read_claims(file or EXAMPLE)
    found = find(claims)
    if as_json:
        print_json(
            {
                "source": claims.source,
                "title": claims.title,
                "values": len(claims.values),
                "findings": [asdict(finding) for finding in found],
            }
        )
        return
    typer.echo(f"{claims.title or claims.source}: {len(claims.values)} numbers")
    for finding in found:
        typer.echo(f"{finding.severity:13}  {finding.where}: {finding.message}")


@plan_app.command("proportion")
def plan_proportion(
    expected: Annotated[float, typer.Argument(help="Sensitivity, specificity or accuracy: 0.9.")],
    half_width: HalfWidth = 0.05,
    level: Level = 0.95,
    per_patient: PerPatient = 1,
    icc: Icc = 1,
    as_json: Json = False,
) -> None:
    """Plan for the interval of a sensitivity, specificity or accuracy."""
    from hepar.evaluate.sample_size import patients_for_proportion

    half = patients_for_proportion(expected, half_width, level)
    below = patients_for_proportion(expected, half_width, level, width="below")
    rows = [
        {"wanted": f"interval of {2 * half_width:g} in all", "patients": half},
        {"wanted": f"lower end {half_width:g} below at most", "patients": below},
    ]
    _show(rows, per_patient, icc, as_json=as_json)


@plan_app.command("auroc")
def plan_auroc(
    expected: Annotated[float, typer.Argument(help="AUROC: 0.9.")],
    half_width: HalfWidth = 0.05,
    ratio: Annotated[
        float, typer.Option(help="Patients without the disease for each with it.")
    ] = 1,
    level: Level = 0.95,
    as_json: Json = False,
) -> None:
    """Plan for the interval of an AUROC."""
    from hepar.evaluate.sample_size import AurocMethod, patients_for_auroc

    methods: tuple[AurocMethod, ...] = ("newcombe", "hanley-mcneil")
    rows: list[dict[str, object]] = []
    for method in methods:
        sick, well = patients_for_auroc(expected, half_width, ratio, level, method=method)
        rows.append({"method": method, "with": sick, "without": well, "patients": sick + well})
    _show(rows, as_json=as_json)


@plan_app.command("paired")
def plan_paired(
    difference: Annotated[float, typer.Argument(help="Of two accuracies on the same patients.")],
    discordance: Annotated[
        float, typer.Option(help="Share of patients that exactly one model gets right.")
    ],
    power: Power = 0.8,
    level: Level = 0.95,
    as_json: Json = False,
) -> None:
    """Plan to tell two models apart on the same patients, by McNemar's exact test."""
    from hepar.evaluate.sample_size import pairs_for_difference, power_of_mcnemar

    n = pairs_for_difference(difference, discordance, power, level)
    reached = round(power_of_mcnemar(n, difference, discordance, level), 4)
    rows: list[dict[str, object]] = [
        {"difference": difference, "discordance": discordance, "patients": n, "power": reached}
    ]
    _show(rows, as_json=as_json)


@plan_app.command("unpaired")
def plan_unpaired(
    first: Annotated[float, typer.Argument(help="Proportion in the first group.")],
    second: Annotated[float, typer.Argument(help="Proportion in the second, other patients.")],
    power: Power = 0.8,
    level: Level = 0.95,
    ratio: Annotated[float, typer.Option(help="Second group for each of the first.")] = 1,
    per_patient: PerPatient = 1,
    icc: Icc = 1,
    as_json: Json = False,
) -> None:
    """Plan to tell two proportions of different patients apart."""
    from hepar.evaluate.sample_size import patients_for_difference

    sizes = patients_for_difference(first, second, power, level, ratio=ratio)
    rows: list[dict[str, object]] = [
        {"group": name, "proportion": proportion, "patients": n}
        for name, proportion, n in zip(("first", "second"), (first, second), sizes, strict=True)
    ]
    _show(rows, per_patient, icc, as_json=as_json)


def _show(
    rows: list[dict[str, object]], per_patient: float = 1, icc: float = 1, *, as_json: bool
) -> None:
    """Print a plan; where a patient gives several observations, with the patients that needs."""
    from hepar.evaluate.sample_size import patients_with_clusters

    if per_patient != 1:
        rows = [
            {
                **{name: value for name, value in row.items() if name != "patients"},
                "independent": row["patients"],
                "patients": patients_with_clusters(int(str(row["patients"])), per_patient, icc),
            }
            for row in rows
        ]
    if as_json:
        print_json(rows)
    else:
        print_table(rows)
