"""A maker of predictions, so that each test says only what it is about."""

import numpy as np
import pytest

from hepar.evaluate import Predictions, decide


def _make(reference, probabilities, patients=None, labels=("no_tumour", "tumour"), **changes):
    p = np.asarray(probabilities, dtype=float)
    if p.ndim == 1:
        p = np.stack([1 - p, p], axis=1)
    n = len(reference)
    ids = [f"s{i:05d}" for i in range(n)]
    values = {
        "sample_id": ids,
        "patient_id": ids if patients is None else patients,
        "partition": ["train"] * n,
        "fold": ["0"] * n,
        "reference": reference,
        "predicted": decide(p, labels),
        "probabilities": p,
        "labels": labels,
        "level": "slice" if patients is not None else "patient",
    }
    return Predictions(**{**values, **changes})


@pytest.fixture(scope="session")
def make():
    """Predictions from references and probabilities; at patient level where no patients given."""
    return _make
