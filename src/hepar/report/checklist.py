"""Which item of a reporting guideline the run answers, where, and which only its authors can."""

from __future__ import annotations

from dataclasses import dataclass

from hepar.report.inputs import ReportInputs

__all__ = ["ITEMS", "Item", "evidence_map"]


@dataclass(frozen=True, slots=True)
class Item:
    """One topic that guidelines ask for.

    Attributes:
        topic: in our own words.
        tripod: items of TRIPOD+AI (2024), without their letters; "" where it has none for this.
        stard: of STARD-AI (2025), without their letters.
        claim: of the 2024 update of CLAIM.
        where: files and sections of the report that answer it; "" where nothing of the run does.
        needs: what of `ReportInputs` must be there for that; "" for nothing.
        owed: what the authors must still say; "" for nothing.
    """

    topic: str
    tripod: str
    stard: str
    claim: str
    where: str = ""
    needs: str = ""
    owed: str = ""


ITEMS: tuple[Item, ...] = (
    Item("Title that names method and task", "1", "1", "1", owed="the title"),
    Item("Structured abstract", "2", "2", "2", owed="the abstract"),
    Item("Clinical context and intended role", "3", "3", "3", owed="all of it"),
    Item("Health inequalities known in this field", "3", "35", "", owed="all of it"),
    Item("Objectives and hypotheses, goal of the study", "4", "4", "4, 6", owed="all of it"),
    Item("Prospective or retrospective", "5", "5", "5", owed="all of it"),
    Item(
        "Data sources, sites, dates",
        "5, 6",
        "8, 9, 11",
        "7",
        "datasheet.md: hashes and counts of every file",
        owed="sites, dates, how representative they are",
    ),
    Item(
        "Who could take part, who was left out",
        "6",
        "7, 10",
        "8, 10",
        "report: Who is in it; manifest.meta.json: findings",
        owed="clinical criteria, and whether patients were consecutive",
    ),
    Item("Treatments received before imaging", "6", "27", "", owed="all of it"),
    Item(
        "How images were acquired, with which machines",
        "9",
        "13, 14",
        "13",
        "datasheet.md: voxel sizes, and columns of the source table",
        owed="scanners, protocols, contrast",
    ),
    Item(
        "Preprocessing",
        "7, 9",
        "14",
        "9",
        "recipe.json; report: What was done",
    ),
    Item("De-identification", "", "", "11", owed="how it was done before hepar read the files"),
    Item(
        "Missing data",
        "11",
        "20",
        "12",
        "report: Who is in it (slices and files set aside, with reasons)",
        owed="clinical data that are missing",
    ),
    Item(
        "Reference standard: what, who, with which tools, how sure",
        "8",
        "12, 16",
        "14, 15, 16, 17, 18",
        owed="all of it",
    ),
    Item("Blinding of readers", "8", "17", "", owed="all of it"),
    Item("Sample size, and why", "10", "22", "21", owed="the plan; `hepar plan` helps"),
    Item(
        "Partitions, and at which level they are disjoint",
        "12, 16",
        "15",
        "19, 20",
        "split.json; report: Who is in it; report: What was looked for first",
    ),
    Item(
        "The model, its software and its start",
        "12, 22",
        "13, 15",
        "22, 23, 24",
        "bundle/bundle.json; record.json: packages; report: What was done",
    ),
    Item(
        "Training, tuning, choice of the final model",
        "12, 21",
        "15",
        "25, 26, 27",
        "record.json: settings; report: What was done; report: Training (of trained networks)",
    ),
    Item(
        "Class imbalance",
        "13",
        "",
        "19",
        "fitting weighs every label alike, and every patient within it",
    ),
    Item(
        "Cut-offs, and when they were chosen",
        "15",
        "15",
        "",
        "bundle/decision.json; report: What the model answers, and when it does not",
        "decision",
    ),
    Item("Who is to use it, and what they must know", "27", "15", "41", owed="all of it"),
    Item(
        "Measures of performance and of uncertainty",
        "12, 23",
        "18, 31",
        "28, 29, 32, 37, 38",
        "evaluation.json; report: How good, how sure",
    ),
    Item(
        "Calibration",
        "12, 23",
        "18",
        "28",
        "trust.json; report: Do probabilities mean what they say",
        "trust",
    ),
    Item(
        "Indeterminate answers",
        "",
        "19",
        "",
        "trust.json: sets, abstention; report: What the model answers, and when it does not",
        "trust",
    ),
    Item(
        "Subgroups and fairness",
        "14, 23",
        "21, 23",
        "30, 37",
        "trust.json: subgroups; report: For whom it holds (of groups in the table)",
        "trust",
        "age, sex and origin, where the source table has no such columns",
    ),
    Item(
        "Robustness and controls",
        "12",
        "21",
        "30",
        "controls.json; report: Controls and leakage",
        "controls",
    ),
    Item(
        "Explainability, and whether it was validated",
        "",
        "",
        "31",
        "explanations.json; report: Whether the heat maps may be believed",
        "explanations",
    ),
    Item(
        "Test on external data, and how they differ",
        "12",
        "29",
        "33",
        owed="`hepar predict` on another site's patients",
    ),
    Item("Updating of the model", "24", "", "", owed="all of it, where it was updated"),
    Item(
        "Flow of patients",
        "20, 21",
        "24",
        "35",
        "report: Who is in it",
    ),
    Item(
        "Characteristics of patients by partition",
        "20",
        "25, 26, 28",
        "36",
        "split.json: table (labels); datasheet.md",
        owed="age, sex, disease severity, comorbidity, whom they stand for",
    ),
    Item(
        "Cross-tabulation with the reference",
        "23",
        "30",
        "39",
        "report: What was taken for what; predictions.csv",
    ),
    Item(
        "Failure analysis",
        "",
        "23",
        "39",
        "report: Most confident, right and wrong; report: Patient by patient",
    ),
    Item("Adverse events", "", "32", "", owed="all of it"),
    Item(
        "Limitations",
        "26",
        "33",
        "40",
        "card.md: Limits (of the numbers alone)",
        owed="of the study",
    ),
    Item("Interpretation and implications", "25, 27", "34", "41", owed="all of it"),
    Item("Ethics approval and consent", "17", "6", "", owed="all of it"),
    Item(
        "Registration, protocol, funding, conflicts, patient involvement",
        "18, 19",
        "36, 37, 38, 39",
        "34, 42, 44",
        owed="all of it",
    ),
    Item(
        "Data, code and model at hand; outputs kept for audit",
        "18",
        "40",
        "43",
        "bundle/; predictions.csv; run.json: command; `hepar reproduce` makes the run again",
        owed="where readers find them",
    ),
)


def evidence_map(inputs: ReportInputs) -> list[dict[str, str]]:
    """Return a row an item: topic, numbers, status, where the evidence stands, what is owed."""
    rows = []
    for item in ITEMS:
        there = bool(item.where) and (not item.needs or bool(getattr(inputs, item.needs)))
        owed = item.owed or ("" if there else "this run was made without it")
        status = "in part" if there and owed else "in the run" if there else "owed"
        rows.append(
            {
                "topic": item.topic,
                "tripod": item.tripod,
                "stard": item.stard,
                "claim": item.claim,
                "status": status,
                "where": item.where if there else "",
                "owed": owed,
            }
        )
    return rows
