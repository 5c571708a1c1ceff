"""Maps lie where the network saw them, whatever the batch, and without maps there is one line."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepar.backbone import Network, find_weights
from hepar.data import LabelSet, Manifest, Sample
from hepar.errors import BackboneError, RegistryError
from hepar.explain import Cells, Evidence, Model, look_at
from hepar.explain.look import spread
from hepar.model import InputReader, LinearHead, Member, VoteHead
from hepar.preprocess import NetworkInput, make_recipe

LABELS = LabelSet(("normal", "malignant"))


@given(
    st.integers(-6, 9), st.integers(-6, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)
)
def test_cells_fill_their_window_and_nothing_else(top, left, height, width, cells):
    shape = (8, 10)
    whole = spread(np.full((cells, cells), 3.0, np.float32), (top, left, height, width), shape)
    rows, columns = np.indices(shape)
    inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    np.testing.assert_allclose(whole, np.where(inside, 3.0, 0.0), rtol=1e-5)


def test_a_hot_cell_is_drawn_at_its_place_in_a_window():
    cells = np.zeros((1, 4, 4), np.float32)
    cells[0, 1, 2] = 1
    evidence = Evidence((100, 200), (Cells(cells, (20, 100, 40, 80)),))
    heat = evidence.heat(0)
    peak = np.argwhere(heat == heat.max()).mean(axis=0)
    np.testing.assert_allclose(peak, (20 + 40 * 1.5 / 4 - 0.5, 100 + 80 * 2.5 / 4 - 0.5))


def test_evidence_of_several_networks_adds_up():
    parts = tuple(Cells(np.full((1, 2, 2), v, np.float32), (0, 0, 4, 4)) for v in (1.0, 2.5))
    np.testing.assert_array_equal(Evidence((4, 4), parts).heat(0), np.full((4, 4), 3.5))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Four pictures of 60 x 90 pixels with masks that show the liver on the left, one without."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    samples = []
    for i in range(4):
        mask = np.zeros((60, 90), np.uint8)
        if i < 3:
            mask[10:50, 5:45] = 1
        cv2.imwrite(str(root / f"{i}.png"), rng.integers(0, 255, (60, 90), np.uint8))
        cv2.imwrite(str(root / f"mask{i}.png"), mask)
        samples.append(Sample(f"{i}.png", f"P{i}", f"{i}.png", "normal", mask=f"mask{i}.png"))
    return Manifest(tuple(samples), LABELS, root=root, mask_values={"liver": 1})


@pytest.fixture(scope="module")
def network():
    return Network.from_weights(find_weights("mobilenetv2", "random"))


def reader(cohort, name="liver", size=64):
    return InputReader(
        cohort, make_recipe(name, cohort, NetworkInput(size, (0.5,) * 3, (0.25,) * 3))
    )


def head(d, seed=0):
    rng = np.random.default_rng(seed)
    return LinearHead(
        LABELS, rng.normal(size=d), np.ones(d), rng.normal(size=(2, d)), np.zeros(2), 1.0
    )


def test_a_slice_is_seen_alike_in_any_batch(cohort, network):
    model = Model((network,), head(1280))
    alone = list(look_at(model, [reader(cohort)], [0, 1, 2], batch=1))
    together = list(look_at(model, [reader(cohort)], [0, 1, 2], batch=3))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.evidence.heat(1), other.evidence.heat(1))
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_maps_lie_in_the_livers_window_and_tell_the_score(cohort, network):
    model = Model((network,), head(1280))
    for look in look_at(model, [reader(cohort)], [0, 1]):
        (part,) = look.evidence.parts
        heat = look.evidence.heat(1)
        assert heat[:, 48:].max() == heat[:, 48:].min() == 0
        assert np.abs(heat[10:50, 5:45]).min() > 0
        logs = np.log(look.probabilities)
        np.testing.assert_allclose(part.values.mean(axis=(1, 2)), logs - logs.mean(), atol=1e-3)


def test_a_slice_without_liver_has_no_evidence(cohort, network):
    model, own = Model((network,), head(1280)), reader(cohort)
    (look,) = look_at(model, [own], [3])
    assert look.evidence.parts == ()
    assert own.empty == {3}


def test_networks_side_by_side_and_votes_keep_their_own_parts(cohort, network):
    readers = [reader(cohort, size=64), reader(cohort, "picture", size=96)]
    vote = VoteHead(
        LABELS,
        (Member(((0, 1280),), head(1280, 1)), Member(((1280, 2560),), head(1280, 2))),
        np.array([1.0, 1.0]),
    )
    (both,) = look_at(Model((network, network), vote), readers, [0])
    first, second = both.evidence.parts
    assert first.window != second.window == (0, 0, 60, 90)
    (alone,) = look_at(Model((network,), head(1280, 1)), readers[:1], [0])
    ours, theirs = first.values[1], alone.evidence.parts[0].values[1]
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999


def test_a_graph_without_maps_is_one_line(cohort, network):
    import onnx

    model = onnx.load_from_string(network.graph)
    kept = [output for output in model.graph.output if output.name != "maps"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    bare = Network(model.SerializeToString(), network.arrays)
    with pytest.raises(BackboneError, match=r"the output 'maps', got \['features'\]"):
        list(look_at(Model((bare,), head(1280)), [reader(cohort)], [0]))


def test_an_unknown_method_is_answered_with_the_nearest(cohort, network):
    with pytest.raises(RegistryError, match="grad-cam"):
        list(look_at(Model((network,), head(1280)), [reader(cohort)], [0], "gradcam"))


def test_occlusion_is_what_hiding_a_place_takes_away(cohort, network):
    model, own = Model((network,), head(1280)), reader(cohort, "picture", size=70)
    (look,) = look_at(model, [own], [1], "occlusion")
    (part,) = look.evidence.parts
    assert part.values.shape == (2, 7, 7)
    (image,) = own([1])
    image[:, 5:25, 45:65] = 0
    logs = np.log(look.probabilities) - np.log(
        model.head.probabilities(network.features(image[None]))
    )
    expected = (logs - logs.mean())[0]
    np.testing.assert_allclose(part.values[:, 1, 5], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(part.values.sum(axis=0), 0, atol=1e-4)
