"""Whole pages: hostile names, many patients, paper."""

from __future__ import annotations

import json
import re
import time

import pytest

from hepar.errors import ReportError
from hepar.report import write_report

FORBIDDEN_TAGS = {"script", "b", "iframe", "object", "embed", "form", "input", "link", "base"}


def test_hostile_names_stand_on_the_page_as_text_and_nothing_else(
    make_run, parse_page, hostile, tmp_path
):
    patients = [f"{name} {i}" for i in range(5) for name in hostile]
    path = write_report(make_run(tmp_path, hostile, patients, test=0.2))
    page = parse_page(path)
    assert not page.tags & FORBIDDEN_TAGS
    for name in [*hostile, *patients, "hepar run '</pre><b>'", "A <warning>."]:
        assert name in page.text
    source = path.read_text(encoding="utf-8")
    assert "<script" not in source


def test_a_hostile_name_is_kept_from_its_neighbours_and_from_the_layout(
    make_run, hostile, tmp_path
):
    patients = [f"{name} {i}" for i in range(5) for name in hostile]
    source = write_report(make_run(tmp_path, hostile, patients)).read_text(encoding="utf-8")
    body = source[source.index("<main>") :]
    drawn = "".join(re.findall(r"<svg.*?</svg>", body, flags=re.DOTALL))
    texts = "".join(re.findall(r">([^<]+)</text>", drawn))
    assert "L" * 17 in texts
    assert "L" * 40 not in texts
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", texts)
    cells = re.findall(r"<t[hd][^>]*>([^<]*)", body)
    assert not any("L" * 40 in cell for cell in cells)


def test_advice_is_a_note_and_a_warning_an_alarm(make_run, tmp_path):
    run = make_run(tmp_path, ("normal", "tumour"), [f"P{i}" for i in range(30)])
    document = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**document, "notes": ["Think of <that>."]}))
    source = write_report(run).read_text(encoding="utf-8")
    assert '<p class="note">Think of &lt;that&gt;.</p>' in source
    assert '<p class="warning" role="alert">A &lt;warning&gt;.</p>' in source


def test_no_two_parts_of_a_page_share_an_id(make_run, parse_page, tmp_path):
    run = make_run(tmp_path, ("normal", "tumour"), [f"P{i}" for i in range(30)], test=0.3)
    ids = parse_page(write_report(run)).ids
    assert sorted(set(ids)) == sorted(ids)


def test_five_thousand_patients_make_a_small_page_in_seconds(make_run, parse_page, tmp_path):
    labels = ("normal", "benign", "malignant")
    run = make_run(tmp_path, labels, [f"P{i:04d}" for i in range(5000)], slices=2)
    start = time.process_time()
    path = write_report(run)
    assert time.process_time() - start < 30
    assert path.stat().st_size < 2_000_000
    page = parse_page(path)
    assert "40 of 5000 patients, worst answer first; all are in patients.csv" in page.text
    assert page.text.count("P0") + page.text.count("P1") < 200


def test_forty_patients_stand_all_on_the_page_without_a_word_of_a_cut(make_run, tmp_path):
    run = make_run(tmp_path, ("normal", "tumour"), [f"P{i}" for i in range(40)])
    source = write_report(run).read_text(encoding="utf-8")
    assert "worst answer first" not in source
    assert "P39" in source


def test_paper_is_never_dark_and_hides_nothing(make_run, tmp_path):
    run = make_run(tmp_path, ("normal", "tumour"), [f"P{i}" for i in range(12)])
    source = write_report(run).read_text(encoding="utf-8")
    dark = re.findall(r"@media [^{]*dark[^{]*", source)
    assert dark
    assert all("screen" in rule for rule in dark)
    paper = source[source.index("@media print") : source.index("</style>")]
    for rule in ("details::details-content", "break-inside: avoid", "overflow: visible"):
        assert rule in paper


def test_the_page_says_how_to_make_the_run_again_where_it_has_a_record(make_run, tmp_path):
    run = make_run(tmp_path, ("normal", "tumour"), [f"P{i}" for i in range(12)])
    assert "hepar reproduce" not in write_report(run).read_text(encoding="utf-8")
    (run / "record.json").write_text("{}")
    assert f"<pre>hepar reproduce {run}</pre>" in write_report(run).read_text(encoding="utf-8")


def test_the_page_says_what_the_model_costs(make_run, tmp_path):
    run = make_run(tmp_path, ("normal", "tumour"), [f"P{i}" for i in range(12)])
    assert "<dd>2 s for this run" in write_report(run).read_text(encoding="utf-8")
    document = json.loads((run / "run.json").read_text())
    document["backbone"] |= {"name": "efficientnet_lite0", "input_size": 112}
    (run / "run.json").write_text(json.dumps(document))
    (run / "bundle").mkdir()
    (run / "bundle" / "head.safetensors").write_bytes(bytes(1_500_000))
    page = write_report(run).read_text(encoding="utf-8")
    assert "<dd>0.193 GFLOPs a slice; a bundle of 1.5 MB; 2 s for" in page


HISTORY = """fold,epoch,train_loss,tune_loss,train_accuracy,tune_accuracy,learning_rate,best
0,0,1.0,1.1,0.5,0.4,0.001,True
0,1,0.8,0.9,0.6,0.5,0.001,True
1,0,1.2,1.3,0.5,0.4,0.001,True
,0,1.1,,0.5,,0.001,True
"""


def test_a_trained_network_has_its_curves_on_the_page_and_a_frozen_one_none(
    make_run, parse_page, tmp_path
):
    run = make_run(tmp_path, ("normal", "tumour"), [f"P{i}" for i in range(12)])
    assert "training" not in parse_page(write_report(run)).ids
    (run / "history.csv").write_text(HISTORY)
    page = parse_page(write_report(run))
    assert "training" in page.ids
    assert "train, final fit" in page.text
    assert "frozen" not in page.text


def test_a_history_that_is_none_is_refused_by_name(make_run, tmp_path):
    run = make_run(tmp_path, ("normal", "tumour"), [f"P{i}" for i in range(12)])
    (run / "history.csv").write_text(HISTORY.replace("0.8", "much"))
    with pytest.raises(ReportError, match=r"history\.csv: expected numbers .* got .*much"):
        write_report(run)
