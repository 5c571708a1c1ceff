"""Published tables are checked, and studies planned, from the command line."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from hepar.cli import app
from hepar.errors import EvaluateError


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_example_is_checked_and_findings_are_no_failure():
    result = run("check-claims", "--example")
    assert result.exit_code == 0
    assert "impossible     Table 3: Proposed model: F1 99.50 %" in result.output
    found = json.loads(run("check-claims", "--example", "--json").output)
    assert found["values"] == 35
    assert found["findings"][0]["code"] == "f1-impossible"


def test_a_table_is_checked(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("model,accuracy,n\nA,99.33%,200\n")
    result = run("check-claims", table)
    assert result.exit_code == 0
    assert "is no whole number of 200 cases" in result.output


@pytest.mark.parametrize("arguments", [(), ("table.csv", "--example")])
def test_one_of_file_and_example_is_needed(arguments):
    result = run("check-claims", *arguments)
    assert isinstance(result.exception, EvaluateError)
    assert "expected a FILE or --example" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "patients"),
    [
        (("proportion", 0.9), [141, 196]),
        (("proportion", 0.9, "--per-patient", 10, "--icc", 0.5), [78, 108]),
        (("auroc", 0.9), [166, 158]),
        (("paired", 0.05, "--discordance", 0.1), [337]),
        (("unpaired", 0.85, 0.9), [686, 686]),
    ],
)
def test_a_study_is_planned(arguments, patients):
    result = run("plan", *arguments, "--json")
    assert result.exit_code == 0
    assert [row["patients"] for row in json.loads(result.output)] == patients
