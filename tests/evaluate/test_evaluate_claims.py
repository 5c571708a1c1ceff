"""A published table is read as printed, or refused in one line."""

import time

import pytest

from hepar.errors import EvaluateError
from hepar.evaluate.claims import EXAMPLE, read_claims


@pytest.fixture
def read(tmp_path):
    """Write a text under a name, and read its claims."""

    def _read(text, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_claims(path)

    return _read


def numbers(claims):
    return {(c.model, c.metric): str(c.printed) for c in claims.values}


def test_a_csv_is_read_with_its_signs_gaps_and_names(read):
    claims = read(
        "Model,Acc (%),Recall,F1-Score,Params\nVGG16,91.2,0.9125,,138M\nCNN,94.15,.94,n/a,1M\n"
    )
    assert numbers(claims) == {
        ("VGG16", "accuracy"): "91.2 %",
        ("VGG16", "sensitivity"): "91.25 %",
        ("CNN", "accuracy"): "94.15 %",
        ("CNN", "sensitivity"): "94 %",
    }
    assert claims.ignored == ("Params",)


@pytest.mark.parametrize(
    "text",
    [
        "model,accuracy\nA,99.10%\nB,98%\n",
        "model;accuracy\nA;99,10\nB;98\n",
        'model,accuracy\nA,"99,10 %"\nB,98 %\n',
        "model\taccuracy\nA\t99.10\nB\t98\n",
        "\ufeffmodel,accuracy\r\nA,99.10\r\n\r\nB,98\r\n",
        "method,Accuracy [%]\nA,99.10\nB,98\n",
        "model,accuracy\nA,.9910\nB,.98\n",
    ],
)
def test_every_usual_way_to_write_a_table_is_the_same_table(read, text):
    assert numbers(read(text)) == {("A", "accuracy"): "99.10 %", ("B", "accuracy"): "98 %"}


def test_each_column_has_its_own_scale(read):
    claims = read("model,accuracy,auroc\nA,91.2,0.97\nB,90.0,1\n")
    assert numbers(claims)["A", "auroc"] == "97 %"
    assert numbers(claims)["B", "auroc"] == "100 %"


def test_the_size_of_a_test_set_stands_in_its_column(read):
    claims = read("model,accuracy,n\nA,91.2,300\nB,90.0,\n")
    assert [c.n for c in claims.values] == [300, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a header and at least one row, got 0 lines"),
        ("\n \n", "expected a header and at least one row"),
        ("model,accuracy\n", "expected a header and at least one row, got 1 lines"),
        ("model,accuracy\nA,\n", "expected at least one printed number, got none"),
        ("name,accuracy\nA,1\n", "expected a column 'model', got name, accuracy"),
        ("model,score\nA,1\n", "expected a column of accuracy, precision, .* got model, score"),
        (
            "model,recall,sensitivity\nA,1,1\n",
            "one column for sensitivity, got recall, sensitivity",
        ),
        ("model,accuracy\nA,99,10\n", "expected 2 values in row 1, got 3. Quote numbers"),
        ("model,accuracy\nA,high\n", "accuracy of 'A': expected a number .* got 'high'"),
        ("model,accuracy\nA,101.3\n", "accuracy of 'A': expected 0 to 100 %, got 101.3"),
        ("model,accuracy\nA,120%\n", "accuracy of 'A': expected 0 to 100 %, got 120%"),
        ("model,accuracy\nA,0.95\nB,95.1\n", r"expected one scale, got 0\.95 and 95\.1"),
        ("model,accuracy\nA,0.95\nB,95%\n", r"expected one scale, got 0\.95 and 95%"),
        (
            "model,accuracy,n\nA,95.1,30.5\n",
            r"expected n to be a whole number of cases, got '30\.5'",
        ),
        ("model,accuracy,n\nA,95.1,-3\n", "expected n to be a whole number of cases, got '-3'"),
        ("model,accuracy,n\nA,95.1,0\n", "expected n of 1 to 1,000,000,000 cases, got 0"),
        ("model,accuracy\n,95.1\n", "row 1: expected a printable name, got ''"),
        ("model,accuracy\n\x1b[31mA,95.1\n", "row 1: expected a printable name"),
        ("model,accuracy,\x1b[31mx\nA,95.1,1\n", "expected printable column names"),
        ('model,accuracy\n"A,95.1\n', "expected a CSV table, got"),
        (b"model,accuracy\nA\xff,95.1\n", "expected UTF-8 text, got"),
        ("model,accuracy\n" + "A,95.1\n" * 1001, "at most 1,000 rows, got more"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_in_one_line(read, text, message):
    with pytest.raises(EvaluateError, match=message) as caught:
        read(text)
    assert "\n" not in str(caught.value)


def test_no_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(EvaluateError, match="expected a CSV table or a TOML file, got no file"):
        read_claims(tmp_path / "none.csv")
    with pytest.raises(EvaluateError, match="expected a CSV table or a TOML file, got a folder"):
        read_claims(tmp_path)


def test_a_million_rows_are_refused_at_once(tmp_path):
    path = tmp_path / "big.csv"
    path.write_text("model,accuracy\n" + "A,99.10\n" * 1_000_000)
    start = time.perf_counter()
    with pytest.raises(EvaluateError, match="expected a published table of at most 1,000 rows"):
        read_claims(path)
    assert time.perf_counter() - start < 2  # it takes 0.1 ms; the file is not read


PAPER = """
title = "A paper"
n = 300
classes = 3
announced = ["AUC"]
[[tables]]
where = "Table 1"
columns = ["model", "accuracy"]
rows = [["A", "99.10"], ["B", "98"]]
[[text]]
where = "abstract"
n = 400
columns = ["model", "accuracy"]
rows = [["A", "97 %"]]
"""


def test_a_toml_file_holds_tables_text_and_what_is_announced(read):
    claims = read(PAPER, "paper.toml")
    assert [(c.where, c.in_table, str(c.printed), c.n) for c in claims.values] == [
        ("Table 1", True, "99.10 %", 300),
        ("Table 1", True, "98 %", 300),
        ("abstract", False, "97 %", 400),
    ]
    assert (claims.title, claims.classes, claims.announced) == ("A paper", 3, ("auroc",))


def test_a_toml_number_without_quotes_is_text_and_not_a_float(read):
    with pytest.raises(EvaluateError, match=r"accuracy of 'A': expected 0 to 100 %, got 100\.10"):
        read(PAPER.replace('"99.10"', "100.10"), "paper.toml")
    assert str(read(PAPER.replace('"99.10"', "99.10"), "paper.toml").values[0].printed) == "99.10 %"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("classes = 3", "clases = 3", "unknown key 'clases'. Did you mean 'classes'"),
        ('where = "Table 1"', 'wher = "x"', "unknown key 'wher'. Did you mean 'where'"),
        ('where = "Table 1"', "", r"expected `where` in each of \[\[tables\]\], got none"),
        ("n = 300", "n = 3.5", r"expected n to be a whole number of cases, got '3\.5'"),
        ("n = 300", "n = true", "expected n to be a whole number of cases, got 'True'"),
        ("n = 300", 'scale = "promille"', "expected scale to be one of"),
        ('["AUC"]', '["kappa"]', "unknown metric 'kappa'"),
        ('["AUC"]', '"AUC"', "expected announced to be a list of texts"),
        ('[["A", "97 %"]]', '["A", "97 %"]', "abstract: expected rows to be a list of lists"),
        ('[["A", "97 %"]]', '[["A", [1]]]', "abstract: expected text or a number in rows"),
        ('[["A", "97 %"]]', '[["A"]]', "abstract: expected 2 values in row 1, got 1"),
        ("classes = 3", "balanced = true", "expected classes beside balanced, got none"),
        ("classes = 3", "title = [", "expected TOML, got"),
        ("[[tables]]", "[tables]", r"expected \[\[tables\]\] tables"),
    ],
)
def test_a_paper_that_cannot_be_read_is_refused_in_one_line(read, old, new, message):
    with pytest.raises(EvaluateError, match=message) as caught:
        read(PAPER.replace(old, new, 1), "paper.toml")
    assert "\n" not in str(caught.value)


def test_a_table_named_twice_is_refused(read):
    second = PAPER[PAPER.index("[[tables]]") : PAPER.index("[[text]]")]
    with pytest.raises(EvaluateError, match=r"expected each `where` once in \[\[tables\]\]"):
        read(PAPER + second, "paper.toml")


def test_the_example_is_read_whole():
    claims = read_claims(EXAMPLE)
    assert sum(c.in_table for c in claims.values) == 24
    assert claims.classes == 3
    assert {c.n for c in claims.values} == {None}
