"""Drawn images of bodies, so that each test says only what it plants."""

import numpy as np
import pytest

from hepar.audit import Looks

cv2 = pytest.importorskip("cv2")


def _body(seed, slice_=0.0):
    """A 128-pixel picture: an ellipse with organs of its own that drift from slice to slice."""
    rng = np.random.default_rng(seed)
    image = np.zeros((128, 128), np.float32)
    axes = tuple(rng.integers(38, 56, 2).tolist())
    cv2.ellipse(image, (64, 64), axes, float(rng.integers(-20, 20)), 0, 360, 90, -1)
    for _ in range(14):
        at = rng.normal(64, 16, 2) + slice_ * rng.normal(0, 1, 2)
        size = tuple(int(x) for x in rng.integers(3, 14, 2))
        grey = float(rng.integers(30, 255))
        where = (int(at[0]), int(at[1]))
        cv2.ellipse(image, where, size, float(rng.integers(0, 180)), 0, 360, grey, -1)
    return cv2.GaussianBlur(image, (0, 0), 1).astype(np.uint8)


def _looks(images, features=None):
    small = [cv2.resize(i, (64, 64), interpolation=cv2.INTER_AREA) for i in images]
    if features is None:  # one direction a picture: alike by features only where told
        features = np.eye(len(images), 64, dtype=np.float32)
    hashes = tuple(str(hash(image.tobytes())) for image in images)
    return Looks(hashes, np.stack(small), np.asarray(features, np.float32))


@pytest.fixture(scope="session")
def body():
    """Makes one patient's slice from a seed."""
    return _body


@pytest.fixture(scope="session")
def looks_of():
    """Makes looks from images, and features where they are told."""
    return _looks
