"""Planted faults are found by name, and what real predictions give is never called impossible."""

import json

import numpy as np
import pytest

from hepar.evaluate.claims import EXAMPLE, read_claims
from hepar.evaluate.claims_checks import check_claims
from hepar.evaluate.claims_finding import SEVERITIES


@pytest.fixture
def check(tmp_path):
    """Write a text under a name, and check its claims."""

    def _check(text, name="table.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return check_claims(read_claims(path))

    return _check


def by_code(findings, code):
    return [finding for finding in findings if finding.code == code]


def test_findings_are_ordered_repeatable_and_fit_for_json():
    first, second = (check_claims(read_claims(EXAMPLE)) for _ in range(2))
    assert first == second
    ranks = [SEVERITIES.index(finding.severity) for finding in first]
    assert ranks == sorted(ranks)
    assert all(json.loads(json.dumps(dict(f.numbers))) == dict(f.numbers) for f in first)
    assert all("\n" not in f.message for f in first)


def test_an_f1_above_both_parts_is_impossible(check):
    (found,) = by_code(check("model,precision,recall,f1\nA,90.0,91.0,92.0\n"), "f1-impossible")
    assert found.severity == "impossible"
    assert found.where == "table.csv: A"


def test_an_f1_below_every_mean_is_impossible(check):
    (found,) = by_code(check("model,precision,recall,f1\nA,90.0,91.0,80.7\n"), "f1-impossible")
    assert "80.7 % is below 80.9" in found.message
    assert not by_code(check("model,precision,recall,f1\nA,90.0,91.0,81.0\n"), "f1-impossible")


def test_an_f1_that_only_a_mean_gives_is_a_note(check):
    (found,) = by_code(check("model,precision,recall,f1\nA,90.0,91.0,88.0\n"), "f1-mean")
    assert found.severity == "note"


def test_an_f1_that_rounding_allows_is_not_mentioned(check):
    codes = {f.code for f in check("model,precision,recall,f1\nA,99.2,99.2,99.3\nB,90,91,90\n")}
    assert not codes & {"f1-impossible", "f1-mean"}


def test_an_accuracy_that_is_no_count_of_its_test_set_is_impossible(check):
    (found,) = by_code(check("model,accuracy,n\nA,99.33,200\nB,99.50,200\n"), "size-stated")
    assert found.message.startswith("accuracy 99.33 % is no whole number of 200 cases (198 is 99.0")
    assert found.severity == "impossible"


def test_a_mean_over_folds_is_not_held_to_a_count(check):
    found = check("model,accuracy,n\nA,99.33 ± 0.2,200\n")
    assert not by_code(found, "size-stated")
    assert not by_code(found, "interval")


@pytest.mark.parametrize(("most", "severity"), [(400, "impossible"), (4000, "note")])
def test_accuracies_that_need_more_cases_than_there_are_are_impossible(check, most, severity):
    text = EXAMPLE.read_text(encoding="utf-8").replace(
        "classes = 3", f"classes = 3\nmax_n = {most}"
    )
    found = check(text, "paper.toml")
    assert {f.severity for f in found if f.code in ("size-shared", "size-pair")} == {severity}


def test_means_of_whole_percents_over_the_stated_classes_are_only_a_note(check):
    text = EXAMPLE.read_text(encoding="utf-8").replace("classes = 3", "classes = 4")
    (found,) = by_code(check(text, "paper.toml"), "step-means")
    assert found.severity == "note"


def test_random_digits_have_no_fingerprint(check):
    generator = np.random.default_rng(1)
    rows = "".join(
        f"m{i},{','.join(f'{v:.2f}' for v in generator.uniform(80, 99, 3))}\n" for i in range(20)
    )
    assert not by_code(check(f"model,precision,recall,specificity\n{rows}"), "step-means")


@pytest.mark.parametrize(
    ("accuracy", "found"), [("96.0", True), ("92.0", False), ("89.8", True), ("90.0", False)]
)
def test_accuracy_of_two_classes_lies_between_its_parts(check, accuracy, found):
    text = f"""classes = 2
[[tables]]
where = "Table 1"
columns = ["model", "accuracy", "sensitivity", "specificity"]
rows = [["A", "{accuracy}", "90.0", "95.0"]]
"""
    assert bool(by_code(check(text, "paper.toml"), "accuracy-outside")) == found


def test_accuracy_may_be_what_its_parts_were_rounded_or_cut_from(check):
    text = """classes = 2
[[tables]]
where = "Table 1"
columns = ["model", "accuracy", "sensitivity", "specificity"]
rows = [["A", "95.9", "90", "95"], ["B", "96.2", "90", "95"]]
"""
    assert [f.where for f in by_code(check(text, "paper.toml"), "accuracy-outside")] == [
        "Table 1: B"
    ]


def test_mean_sensitivity_of_equal_classes_is_their_accuracy(check):
    text = """classes = 3
balanced = true
[[tables]]
where = "Table 1"
columns = ["model", "accuracy", "sensitivity"]
rows = [["A", "90.0", "95.0"], ["B", "90.0", "90.0"]]
"""
    (found,) = by_code(check(text, "paper.toml"), "balanced-accuracy")
    assert found.where == "Table 1: A"
    (shared,) = by_code(check(text, "paper.toml"), "size-shared")
    assert shared.numbers["smallest_n"] % 3 == 0


TWO_PLACES = """
[[tables]]
where = "Table 1"
columns = ["model", "accuracy"]
rows = [["VGG-16", "91.23%"], ["CNN", "95.0%"]]
[[text]]
where = "abstract"
columns = ["model", "accuracy"]
rows = [["vgg 16", "{}"]]
[[rankings]]
where = "abstract"
better = ["VGG16"]
worse = ["cnn"]
"""


@pytest.mark.parametrize(
    ("text", "differs"), [("99%", True), ("91%", False), ("91.2%", False), ("91.3%", True)]
)
def test_one_model_with_two_accuracies_is_a_contradiction(check, text, differs):
    found = by_code(check(TWO_PLACES.format(text), "paper.toml"), "contradiction")
    assert bool(found) == differs


def test_a_text_that_agrees_with_one_of_two_rows_is_no_contradiction(check):
    twice = TWO_PLACES.format("99%").replace('["CNN", "95.0%"]', '["VGG16", "99.1%"]')
    assert not by_code(check(twice, "paper.toml"), "contradiction")


def test_a_sentence_that_turns_the_table_round_is_a_contradiction(check):
    (found,) = by_code(check(TWO_PLACES.format("91%"), "paper.toml"), "ranking")
    assert found.numbers["below"] == ["VGG-16"]
    right = TWO_PLACES.format("91%").replace("95.0%", "85.0%")
    assert not by_code(check(right, "paper.toml"), "ranking")


def test_what_is_promised_and_not_given_is_missing(check):
    text = 'announced = ["specificity", "accuracy"]\n' + TWO_PLACES.format("91%")
    text = text.replace("vgg 16", "ResNet50")
    found = check(text, "paper.toml")
    assert [f.message for f in by_code(found, "metric-missing")] == [
        "specificity is announced and given nowhere."
    ]
    assert by_code(found, "model-missing")[0].message.startswith("ResNet50 has accuracy 91 %")
    assert by_code(found, "size-missing")


def test_intervals_are_given_for_stated_and_supposed_sizes(check):
    (known,) = by_code(check("model,accuracy,n\nA,99.10,111\n"), "interval")
    assert known.message.startswith("accuracy 99.10 % of 111 cases is 95.1-99.8 %")
    (unknown,) = by_code(check("model,accuracy\nA,99.10\nB,98.1\n"), "interval-supposed")
    assert {row["n"] for row in unknown.numbers["intervals"]} == {100, 300, 1000}


def test_columns_that_are_not_checked_are_named(check):
    (found,) = by_code(check("model,accuracy,kappa\nA,99.10,.9\n"), "columns")
    assert found.message == "not checked: kappa."


def _printed(values, digits):
    return ",".join("" if np.isnan(v) else f"{100 * v:.{digits}f}" for v in values)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_what_real_predictions_give_is_never_impossible(check, k):
    """Metrics of random confusion matrices, as scikit-learn averages them, at 0 to 3 decimals."""
    from sklearn.metrics import precision_recall_fscore_support

    generator = np.random.default_rng(k)
    rows = []
    for i in range(60):
        n = int(generator.integers(k, 120))
        reference = generator.integers(0, k, n)
        right = generator.random(n) < generator.random()
        predicted = np.where(right, reference, generator.integers(0, k, n))
        average = ["macro", "weighted", "micro"][i % 3]
        p, r, f1, _ = precision_recall_fscore_support(
            reference, predicted, average=average, zero_division=0
        )
        rows.append(f"m{i},{n},{_printed([(reference == predicted).mean(), p, r, f1], i % 4)}%")
    found = check("model,n,accuracy (%),precision (%),recall (%),f1 (%)\n" + "\n".join(rows))
    assert [f.message for f in found if f.severity == "impossible"] == []
    assert sum(f.code == "interval" for f in found) == 60
