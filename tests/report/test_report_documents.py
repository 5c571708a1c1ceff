"""Card, datasheet and evidence map say what the run's files say, and no more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hepar.report
from hepar.provenance import stamp, write_artefact
from hepar.report import write_documents, write_report
from hepar.report.checklist import ITEMS

LABELS = ("normal", "benign", "malignant")


def tables(text):
    """Return every table row of a document as its cells."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows]


@pytest.fixture
def run(make_run, tmp_path):
    return make_run(tmp_path, LABELS, [f"P{i}" for i in range(12)], slices=3)


def text(run, name):
    write_documents(run)
    return (run / name).read_text(encoding="utf-8")


def test_counts_of_the_datasheet_are_the_manifests(run):
    counted = {cells[0].strip(): cells[1:] for cells in tables(text(run, "datasheet.md"))}
    for label in LABELS:
        assert [int(cell) for cell in counted[label]] == [4, 12]


def test_the_card_shows_the_headline_and_every_warning(run):
    card = text(run, "card.md")
    assert "Research use only: not a medical device." in card
    assert "A \\<warning\\>." in card
    assert "on 12 patients left out in turn" in card
    assert "No controls were made." in card


@pytest.mark.parametrize("sets", [None, {"reason": "too few"}, {"reason": ""}])
def test_the_card_of_a_model_with_or_without_sets_of_labels(run, sets):
    decision = {"aggregate": "mean", "sets": sets, "notes": ["No operating point."]}
    write_artefact(run / "bundle" / "decision.json", "decision", decision, stamp("test"))
    card = text(run, "card.md")
    assert "No operating point." in card
    assert ("too few" in card) == bool(sets and sets["reason"])


def test_every_topic_has_a_status_and_owed_items_say_what_is_owed(run):
    rows = [row for row in tables(text(run, "checklist.md")) if "**" in row[4]]
    assert len(rows) == len(ITEMS)
    for *_, status, where, owed in rows:
        assert status.strip() in {"**in the run**", "**in part**", "**owed**"}
        assert bool(where.strip()) == (status.strip() != "**owed**")
        assert bool(owed.strip()) == (status.strip() != "**in the run**")


@pytest.mark.parametrize(("guideline", "items"), [("tripod", 27), ("stard", 40), ("claim", 44)])
def test_every_item_of_a_guideline_has_a_topic(guideline, items):
    """TRIPOD+AI has 27 items, STARD-AI 40, the 2024 update of CLAIM 44."""
    named = {int(n) for item in ITEMS for n in getattr(item, guideline).split(", ") if n}
    assert named == set(range(1, items + 1))


def test_what_this_run_was_made_without_is_owed_and_what_it_has_is_not(run):
    def status():
        found = [row for row in tables(text(run, "checklist.md")) if "Robustness" in row[0]]
        return found[0][4].strip(), found[0][6].strip()

    assert status() == ("**owed**", "this run was made without it")
    controls = {"controls": [], "level": "patient", "unit": "patient", "meter": {}}
    write_artefact(run / "controls.json", "controls", controls, stamp("test"))
    assert status() == ("**in the run**", "")


def test_sections_that_the_map_points_at_exist():
    source = "".join(p.read_text() for p in Path(hepar.report.__file__).parent.glob("*.py"))
    titles = set(re.findall(r'Section\(\s*"([^"]+)"', source))
    named = {
        part.removeprefix("report: ").partition(" (")[0]
        for item in ITEMS
        for part in item.where.split("; ")
        if part.startswith("report: ")
    }
    assert named
    assert named <= titles


def test_hostile_names_break_no_table(make_run, tmp_path, hostile):
    patients = [f"{name}{i}" for i, name in enumerate(hostile * 3)]
    labels = ("a|b", "c\u2028d", "<script>x</script>")
    run = make_run(tmp_path, labels, patients[:12], slices=2)
    for name in ("card.md", "datasheet.md"):
        found = text(run, name)
        assert "<script>" not in found
        width = 0
        for line in found.splitlines():
            cells = len(re.split(r"(?<!\\)\|", line)) if line.startswith("|") else 0
            assert not (width and cells) or cells == width, line
            width = cells


def test_the_page_names_the_documents_beside_it(run, parse_page):
    assert "card.md" not in parse_page(write_report(run)).links
    write_documents(run)
    links = parse_page(write_report(run)).links
    assert {"card.md", "datasheet.md", "checklist.md"} <= set(links)
