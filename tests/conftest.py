"""Cohorts that many tests read and none changes, and a browser that looks at pages."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from hepar.data import LabelSet, Manifest, Sample

settings.register_profile("hepar", deadline=None)  # no test is timed
settings.load_profile("hepar")

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if WORKER and hasattr(os, "sched_setaffinity"):
    # A core each: threads of two workers wait for one another by spinning, and both lose by it.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(WORKER.removeprefix("gw")) % len(cores)]})

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """The development data beside the checkout; tests on real CT skip without it."""
    if not SHARED.is_dir():
        pytest.skip("the development data is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def make_manifest() -> Callable[..., Manifest]:
    """Make a manifest from {patient: [labels of its slices]}, for tests that need no pixels."""

    def make(patients: dict[str, Sequence[str]], **extra: dict[str, str]) -> Manifest:
        samples = [
            Sample(
                sample_id=f"{patient}/{i:03d}.png",
                patient_id=patient,
                path=f"{patient}/{i:03d}.png",
                label=label,
                slice_index=i,
                extra=extra.get(patient, {}),
            )
            for patient, labels in patients.items()
            for i, label in enumerate(labels)
        ]
        labels = LabelSet.infer(sample.label for sample in samples)
        return Manifest(tuple(samples), labels, Path())

    return make


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (360, 1200)


@pytest.fixture(scope="session")
def find_faults() -> Callable[..., tuple[dict[str, Any], int]]:
    """Open a page in Chromium; return what is wrong with it at each width, and its images.

    Nothing missing, nothing from outside, nothing too wide, too faint or without a name. Tests that
    open pages skip where there is no Chromium.
    """
    browser = os.environ.get("HEPAR_CHROMIUM") or next(
        filter(None, map(shutil.which, BROWSERS)), None
    )
    if not browser:
        pytest.skip("no Chromium is installed")

    def find(page: Path, folder: Path, scheme: str = "light") -> tuple[dict[str, Any], int]:
        frames = "".join(
            f'<iframe src="{page.as_uri()}" style="width:{w}px;height:900px;border:0"></iframe>'
            for w in WIDTHS
        )
        template = Path(__file__).with_name("probe.html").read_text(encoding="utf-8")
        probe = folder / "probe.html"
        probe.write_text(template.replace("FRAMES", frames), encoding="utf-8")
        dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
        done = subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--allow-file-access-from-files",
                "--enable-logging=stderr",
                f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000",
                "--dump-dom", *dark, probe.as_uri(),
            ],
            capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
        assert found, done.stderr
        sights = json.loads(html.unescape(found[1]))
        assert [sight.pop("width") for sight in sights] == list(WIDTHS)
        n_images = sights[0]["images"]
        faults: dict[str, Any] = {}
        for sight, width in zip(sights, WIDTHS, strict=True):
            del sight["images"]
            sight["scroll"] *= sight["scroll"] > width
            sight["paper"] *= (sight["paper"] < 0.1) != (scheme == "dark")
            if wrong := {name: value for name, value in sight.items() if value}:
                faults[f"{width} px"] = wrong
        if said := re.findall(r"CONSOLE.*", done.stderr):
            faults["console"] = said
        return faults, n_images

    return find
