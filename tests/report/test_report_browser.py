"""Pages in a real browser: nothing missing, nothing from outside, nothing too wide."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from hepar.evaluate import read_predictions
from hepar.provenance import stamp, write_artefact, write_atomic
from hepar.report import write_comparison, write_report, write_series_page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("HEPAR_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(not BROWSER, reason="no Chromium is installed")

WIDTHS = (360, 1200)
PROBE = """<!doctype html><meta charset="utf-8"><body><pre id="found"></pre>
%s
<script>
const look = (frame) => {
  const page = frame.contentDocument, root = page.scrollingElement;
  const all = (query) => [...page.querySelectorAll(query)];
  const levels = all("h1, h2, h3, h4").map((h) => +h.tagName[1]);
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((v) => +v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const view = frame.contentWindow, paper = light(view.getComputedStyle(page.body).backgroundColor);
  const contrast = (e) => {
    const ink = light(view.getComputedStyle(e).color);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  };
  return {
    width: frame.clientWidth,
    paper,
    scroll: root.scrollWidth,
    broken: all("img").filter((i) => !i.complete || !i.naturalWidth).length,
    images: all("img").length,
    silent: all("img").filter((i) => !i.alt).length
      + all("svg").filter((s) => !s.getAttribute("role") && !s.getAttribute("aria-hidden")
        && !s.closest("[role=img]")).length,
    bare: all("table").filter((t) => !t.caption).length,
    unscoped: all("th").filter((t) => !t.scope).length,
    skipped: levels.filter((l, i) => i && l > levels[i - 1] + 1).length,
    faint: all("p, td, th, caption, figcaption, dt, dd").filter((e) => !e.closest(".red, .warning")
      && contrast(e) < 4.5).map((e) => e.className || e.tagName),
    outside: view.performance.getEntriesByType("resource").map((e) => e.name)
      .filter((n) => !/^(data|file|blob):/.test(n)),
  };
};
addEventListener("load", () => {
  const frames = [...document.querySelectorAll("iframe")];
  document.getElementById("found").textContent = JSON.stringify(frames.map(look));
});
</script>"""


def look(page, tmp_path, *options):
    """Return what a browser finds on a page at each width, and what its console said."""
    frames = "".join(
        f'<iframe src="{page.as_uri()}" style="width:{w}px;height:900px;border:0"></iframe>'
        for w in WIDTHS
    )
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE % frames)
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--allow-file-access-from-files",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom",
            *options, probe.as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    return json.loads(html.unescape(found[1])), re.findall(r"CONSOLE.*", done.stderr)


PICTURE = np.arange(64, dtype=np.uint8).reshape(8, 8)


def mean(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def with_maps(run):
    """Add a picture with its map and similar slices, and what maps are worth, to a run."""
    for name in ("a", "b", "c"):
        write_atomic(run / "figures" / f"{name}.png", cv2.imencode(".png", PICTURE)[1].tobytes())
    sample = read_predictions(run / "predictions.csv")
    shown = {
        "file": "figures/a.png",
        "sample_id": str(sample.sample_id[0]),
        "patient_id": str(sample.patient_id[0]),
        "reference": str(sample.reference[0]),
        "predicted": str(sample.predicted[0]),
        "probability": 0.9,
    }
    write_atomic(run / "figures" / "samples.json", json.dumps([shown]))
    near = {"file": "figures/c.png", "patient_id": "P9", "label": "normal"}
    names = ("chance", "energy", "hit", "energy_gain", "hit_gain", "energy_untrained")
    aim = {"label": "benign", "region": "liver", "n_patients": 20, "n_slices": 60}
    checks = {n: mean(0.5) for n in ("deletion_gain", "insertion_gain", "randomised", "shifted")}
    content = {
        "method": "grad-cam",
        "scale": 8.5,
        "n_looked": 60,
        "maps": [
            {
                "sample_id": shown["sample_id"],
                "file": "figures/b.png",
                "largest": 3.0,
                "similar": [near] * 3,
            }
        ],
        "localisation": [aim | {n: mean(0.2) for n in (*names, "hit_untrained")}],
        "checks": checks | {"n_slices": 12},
    }
    write_artefact(run / "explanations.json", "explanations", content, stamp("test"))
    return run


def series(folder):
    """Write the page of one new patient."""
    write_atomic(folder / "a.png", cv2.imencode(".png", PICTURE)[1].tobytes())
    one = {"sample_id": "a", "predicted": "normal", "probabilities": {"normal": 0.9}}
    like = [{"training_patient": i, "label": "benign", "likeness": 0.5} for i in range(3)]
    one |= {"file": "a.png", "largest": 0.1, "empty": True, "similar": like}
    patient = {"patient_id": "P1", "label": "normal", "possible": ["normal"], "reason": ""}
    patient |= {"refused": False, "probabilities": {"normal": 0.9}, "map_label": "normal"}
    content = {"method": "grad-cam", "scale": 1.0, "absolute": True, "findings": []}
    content |= {"verdict": "These maps do not localise.", "warns": True}
    content["patients"] = [patient | {"slices": [one] * 30}]
    write_artefact(folder / "explanations.json", "series", content, stamp("test"))
    return write_series_page(folder)


@pytest.fixture
def page(request, make_run, comparison, write_content, tmp_path):
    """The page that a test names, of made-up numbers."""
    if request.param == "comparison":
        return write_comparison(write_content(tmp_path, comparison))
    if request.param == "series":
        return series(tmp_path)
    labels, patients = ("normal", "benign", "malignant"), [f"P{i}" for i in range(12)]
    return write_report(with_maps(make_run(tmp_path, labels, patients)))


@pytest.mark.parametrize("page", ["report", "comparison", "series"], indirect=True)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_finds_no_fault(page, tmp_path, scheme):
    dark = ("--blink-settings=preferredColorScheme=0",) if scheme == "dark" else ()
    sights, said = look(page, tmp_path, *dark)
    assert said == []
    assert [sight.pop("width") for sight in sights] == list(WIDTHS)
    for sight, width in zip(sights, WIDTHS, strict=True):
        assert sight.pop("scroll") <= width
        assert (sight.pop("paper") < 0.1) == (scheme == "dark")
        assert (sight.pop("images") > 0) == (page.name != "comparison.html")
        assert {name: value for name, value in sight.items() if value} == {}


def test_the_probe_sees_what_is_wrong(tmp_path):
    """Each fault that the test above looks for, planted once."""
    (tmp_path / "bad.html").write_text(
        "<!doctype html><body style='background:#fff'><h1>a</h1><h3>b</h3>"
        "<img src='nowhere.png'><svg></svg>"
        "<table><tr><th>x</th></tr></table><p style='color:#ddd'>faint</p>"
        "<div style='width:3000px'>wide</div><img alt='x' src='http://127.0.0.1:9/x.png'>"
        "<script>console.error('oh')</script>"
    )
    (small, _), said = look(tmp_path / "bad.html", tmp_path)
    assert any("oh" in line for line in said)
    assert small["scroll"] == 3000 + 8
    assert (small["broken"], small["silent"], small["bare"], small["unscoped"]) == (2, 2, 1, 1)
    assert small["skipped"] == 1
    assert small["faint"] == ["P"]
    assert small["outside"] == ["http://127.0.0.1:9/x.png"]
