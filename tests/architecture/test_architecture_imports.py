"""What importing costs, and what it must not bring in."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "timm", "sklearn", "scipy", "matplotlib", "onnxruntime", "pydicom")


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in out.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    ["import hepar", "import hepar.cli", "import hepar.config", "import hepar.split"],
)
def test_nothing_heavy_comes_with(statement):
    assert not modules_after(statement) & {*HEAVY, "cv2", "numpy"} - (
        {"numpy"} if "split" in statement else set()
    )


@pytest.mark.parametrize(
    "room",
    ["data", "ingest", "preprocess", "backbone", "evaluate", "model", "fit", "report", "main_job"],
)
def test_a_room_opens_without_what_only_its_work_needs(room):
    assert not modules_after(f"import hepar.{room}") & set(HEAVY)


def test_the_main_job_never_imports_torch():
    """The import contract forbids it in the code; this holds for what the code calls, too."""
    code = (
        "import sys; sys.modules.update(torch=None, torchvision=None, timm=None); "
        "from hepar.backbone import Network, find_weights; import numpy as np; "
        "n = Network.from_weights(find_weights('efficientnet_lite0')); "
        "print(n.features(np.zeros((1, 3, 64, 64), np.float32)).shape)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "(1, 1280)"
