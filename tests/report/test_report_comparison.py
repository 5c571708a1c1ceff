"""The comparison says what its numbers allow, on the page and in the table."""

from __future__ import annotations

import csv

import pytest

from hepar.errors import DataError, ReportError
from hepar.report import comparison_rows, write_comparison


@pytest.fixture
def sentence(comparison, write_content, parse_page, tmp_path):
    """Return the page's text, spaces folded, after a change to the content."""

    def read(**changed):
        write_content(tmp_path, {**comparison, **changed})
        return " ".join(parse_page(write_comparison(tmp_path)).text.split())

    return read


def test_the_page_has_every_section_and_parses(comparison, write_content, parse_page, tmp_path):
    page = parse_page(write_comparison(write_content(tmp_path, comparison)))
    for name in ("models", "tests", "cost", "training", "provenance", "reading"):
        assert name in page.ids
    assert sorted(set(page.ids)) == sorted(page.ids)
    assert "Research use only" in page.text
    assert "random weights: a control" in page.text
    assert "3 seeds 0.84\N{EN DASH}0.88" in page.text
    assert "hepar compare" in page.text


def test_the_sentence_names_who_is_worse_and_who_cannot_be_told_apart(sentence):
    text = sentence()
    assert (
        "Best of 7: vote, balanced accuracy of patients 0.860 (95 % interval 0.770 to 0.930) "
        "on 60 patients left out in turn."
    ) in text
    assert "significantly worse: small_cnn (AUROC), control (AUROC, accuracy)." in text
    assert (
        "These 60 patients cannot tell it apart from mobilenet_frozen, densenet_frozen, "
        "resnet_tuned, both."
    ) in text


def test_the_sentence_is_honest_when_no_model_is_worse(sentence, comparison):
    tests = [{**row, "p_holm": 0.2} for row in comparison["tests"]]
    text = sentence(tests=tests)
    assert "no other model is significantly worse: these 60 patients cannot tell" in text
    assert "nothing is said" in sentence(tests=[])


def test_a_difference_in_the_best_models_favour_counts_from_either_side(sentence, comparison):
    row = comparison["tests"][3]
    turned = {**row, "model": "vote", "against": "small_cnn", "difference": 0.3}
    assert "significantly worse: small_cnn (AUROC)." in sentence(tests=[turned])
    better = {**row, "difference": 0.3}
    assert "no other model is significantly worse" in sentence(tests=[better])


def test_image_level_folds_are_said_in_the_sentence_and_at_every_table(sentence):
    text = sentence(level="slice", unit="image")
    assert "on 480 images left out in turn, in image-level folds." in text
    assert text.count("Image-level folds: not what a new patient would see.") >= 5


def test_an_undefined_metric_is_said_with_its_reason(comparison, sentence):
    nothing = dict.fromkeys(("value", "low", "high", "seed_sd", "seed_min", "seed_max"))
    for model in comparison["models"]:
        for name in ("balanced_accuracy", "accuracy"):
            model["metrics"][name] = {**nothing, "undefined": "no patient is normal"}
    text = sentence()
    assert "balanced accuracy of patients undefined (no patient is normal)" in text
    assert "1 no patient is normal." in text


def test_costs_that_were_not_measured_leave_dashes_or_no_section(
    comparison, write_content, parse_page, tmp_path
):
    for model in comparison["models"]:
        model["cost"] = dict.fromkeys(model["cost"])
        model["history"] = []
    page = parse_page(write_comparison(write_content(tmp_path, comparison)))
    assert not {"cost", "training"} & set(page.ids)


def test_a_model_links_to_its_report_only_where_there_is_one(
    comparison, write_content, parse_page, tmp_path
):
    comparison["models"][0]["folder"] = "models/a b\"<c>'/seed-0"
    report = tmp_path / comparison["models"][0]["folder"] / "report.html"
    report.parent.mkdir(parents=True)
    report.touch()
    page = parse_page(write_comparison(write_content(tmp_path, comparison)))
    links = [link for link in page.links if not link.startswith("#")]
    assert links == ["models/a%20b%22%3Cc%3E%27/seed-0/report.html"]


def test_hostile_names_stand_on_the_comparison_as_text(
    comparison, write_content, parse_page, hostile, tmp_path
):
    old = [model["name"] for model in comparison["models"]]
    new = dict(zip(old, [*hostile, "c", "</title>", "c2"], strict=True))
    for model in comparison["models"]:
        model["name"] = new[model["name"]]
        model["description"] = hostile[0]
    for row in comparison["tests"]:
        row["model"], row["against"] = new[row["model"]], new[row["against"]]
    comparison["best"] = new[comparison["best"]]
    comparison["config"] = {"a": {hostile[0]: hostile[1]}}
    path = write_comparison(write_content(tmp_path, comparison))
    page = parse_page(path)
    assert not page.tags & {"script", "b"}
    assert all(name in page.text for name in new.values())
    assert "<script" not in path.read_text(encoding="utf-8")


def test_the_table_has_a_row_a_model_and_metric_and_the_values_of_the_json(
    comparison, write_content, tmp_path
):
    write_comparison(write_content(tmp_path, comparison))
    with (tmp_path / "comparison.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 7 * 7 == len(comparison_rows(comparison))
    own = next(r for r in rows if (r["model"], r["metric"]) == ("resnet_tuned", "f1"))
    metric = comparison["models"][2]["metrics"]["f1"]
    for key in ("value", "low", "high", "seed_sd", "seed_min", "seed_max"):
        assert float(own[key]) == metric[key]
    assert (own["n_seeds"], own["undefined"], own["best"]) == ("3", "", "False")
    assert {r["model"] for r in rows if r["best"] == "True"} == {"vote"}


def test_a_comparison_whose_best_is_no_model_of_it_is_refused(comparison, write_content, tmp_path):
    write_content(tmp_path, {**comparison, "best": "vots"})
    with pytest.raises(
        ReportError, match=r"expected 'best' among the models .* Did you mean 'vote'"
    ):
        write_comparison(tmp_path)
    with pytest.raises(DataError, match="expected a comparison file, got none"):
        write_comparison(tmp_path / "nowhere")


def test_a_single_model_makes_a_page(comparison, sentence):
    models = [m for m in comparison["models"] if m["name"] == "vote"]
    assert "no other model to compare it with" in sentence(models=models, tests=[])
