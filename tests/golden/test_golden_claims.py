"""What is known to be wrong with one published table, and granularity by hand."""

import numpy as np
import pytest

from hepar.evaluate.claims import EXAMPLE, read_claims
from hepar.evaluate.claims_checks import check_claims
from hepar.evaluate.granularity import parse_printed, sizes_of

ACCURACIES = ("99.33", "91.23", "86.74", "93.69", "91.55", "94.15")


def shared(*texts, cut=False):
    """Every test-set size up to 100,000 that makes all these percentages possible."""
    values = [parse_printed(text, "x", percent=True) for text in texts]
    possible = np.logical_and.reduce([sizes_of(value, cut=cut) for value in values])
    return (np.flatnonzero(possible) + 1).tolist()


def findings(code):
    return [f for f in check_claims(read_claims(EXAMPLE)) if f.code == code]


def test_f1_of_the_proposed_model_is_impossible():
    """99.50 beside 99.25 and 99.25: a harmonic mean of equal numbers is that number."""
    (found,) = findings("f1-impossible")
    assert found.where == "Table 3: Proposed model"
    assert found.severity == "impossible"
    assert found.numbers["highest"] == pytest.approx(0.9926)  # 99.259... cut to 99.25
    assert found.numbers["whole_percents_over_classes"] == [4, 8]


def test_17_of_18_means_are_multiples_of_a_quarter():
    (found,) = findings("step-means")
    assert (found.numbers["hits"], found.numbers["of"]) == (17, 18)
    assert found.numbers["multiples_of_1_over"] == 4
    assert found.numbers["others"] == ["94.52%"]
    assert found.numbers["hits_by_step"]["3"] == 4
    assert found.severity == "suspicious"


def test_three_models_contradict_themselves():
    assert [(f.where, f.message) for f in findings("contradiction")] == [
        (
            "VGG16",
            "accuracy of VGG16 is 91.23 % (Table 3), 99 % (abstract), "
            "99.10 % (section 6, before Table 3).",
        ),
        ("ResNet50", "accuracy of ResNet50 is 91.55 % (Table 3), 100 % (abstract)."),
    ]
    (missing,) = findings("model-missing")
    assert missing.message.startswith("MobileNetV2 has accuracy 99 % (abstract), accuracy 99.10 %")


def test_the_plain_network_beats_all_that_are_put_above_it():
    (found,) = findings("ranking")
    assert found.numbers["below"] == ["VGG16", "InceptionV3", "DenseNet121", "ResNet50"]


def test_two_accuracies_share_no_test_set_below_400():
    assert shared("99.10", "99.33")[0] == 445
    assert shared("99.10", "99.33", cut=True)[0] == 448
    (found,) = findings("size-pair")
    pair = next(p for p in found.numbers["pairs"] if (p["a"], p["b"]) == ("99.33 %", "99.10 %"))
    assert pair["n"] == 445


def test_six_accuracies_need_3454_cases():
    assert shared(*ACCURACIES)[:3] == [3454, 3455, 3741]
    assert shared(*ACCURACIES, cut=True)[0] == 3456
    (found,) = findings("size-shared")
    assert found.numbers["smallest_n"] == 3454
    assert found.numbers["possible_up_to_1000"] == 0


def test_specificity_is_announced_and_never_given():
    assert [f.message for f in findings("metric-missing")] == [
        "specificity is announced and given nowhere."
    ]


def test_granularity_of_a_mean_of_whole_numbers_is_as_published():
    """Brown and Heathers 2017, Soc Psychol Personal Sci 8:363: a mean of 5.19 over 28 cannot be.

    A mean's decimals behave as those of a proportion: .19 of 28 is between 5 / 28 and 6 / 28.
    """
    assert not sizes_of(parse_printed("0.19", "x", percent=False), 28)[27]
    assert sizes_of(parse_printed("0.18", "x", percent=False), 28)[27]
    assert sizes_of(parse_printed("0.21", "x", percent=False), 28)[27]
