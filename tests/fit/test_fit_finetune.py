"""Training: against timm in torch, across kills, with and without the cache."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import warnings
from pathlib import Path

import numpy as np
import pytest

from hepar.backbone import BACKBONES, Network, find_weights, read_graph
from hepar.config import FinetuneConfig
from hepar.errors import BackboneError, FitError
from hepar.model import InputReader

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
TOOLS = Path(__file__).resolve().parents[2] / "tools"


def same(one, other):
    """Return whether two trainings ended with the same numbers."""
    arrays = one.part.weights
    assert set(arrays) == set(other.part.weights)
    equal = all(np.array_equal(arrays[k], other.part.weights[k]) for k in arrays)
    return equal and np.array_equal(one.predictions.probabilities, other.predictions.probabilities)


def reference(name, arrays):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = importlib.util.spec_from_file_location("export_graphs", TOOLS / "export_graphs.py")
        tool = importlib.util.module_from_spec(found)
        found.loader.exec_module(tool)
    network = tool.make_network(BACKBONES.get(name))
    state = {k: torch.from_numpy(np.array(v, np.float32)) for k, v in arrays.items()}
    network.load_state_dict(state, strict=False)
    return network


@pytest.mark.parametrize("name", ["mobilenetv2", "densenet121", "resnet50", "efficientnet_b2"])
def test_gradients_and_running_statistics_are_timms(name):
    from hepar.fit.cut import cut_graph
    from hepar.fit.differentiable import Tail

    spec = BACKBONES.get(name)
    weights = find_weights(name, "random")
    rng = np.random.default_rng(1)
    arrays = {
        k: (v + rng.uniform(0.1, 0.3, v.shape)).astype(np.float32) if v.ndim == 1 else v
        for k, v in weights.arrays.items()
    }
    frozen = spec.frozen_prefixes("early")
    network = reference(name, arrays).train()
    for key, module in network.named_modules():
        if f"{key}.".startswith(frozen):
            module.eval()
    for key, parameter in network.named_parameters():
        parameter.requires_grad_(not key.startswith(frozen))
    images = torch.from_numpy(rng.normal(size=(4, 3, 96, 96)).astype(np.float32))
    expected = network.forward_features(images).mean((2, 3))
    target = torch.from_numpy(rng.normal(size=tuple(expected.shape)).astype(np.float32))
    (expected * target).sum().backward()

    cut = cut_graph(read_graph(weights.graph), frozen)
    boundary = Network(cut.prefix, arrays).value(cut.boundary, images.numpy())
    tail = Tail(cut, arrays)
    features = tail(torch.from_numpy(boundary), training=True)
    (features * target).sum().backward()

    def off(ours, theirs, floor=1e-9):
        return float((ours - theirs).norm() / (theirs.norm() + floor))

    assert off(features.detach(), expected.detach()) < 1e-3
    state = dict(network.named_parameters())
    largest = max(float(state[key].grad.norm()) for key in tail.parameters)
    for key, value in tail.parameters.items():  # one before a norm is 0 but for rounding
        assert off(value.grad, state[key].grad, 1e-3 * largest) < 5e-2, key
    buffers = dict(network.named_buffers())
    for key in cut.buffers:
        assert off(tail.values[key], buffers[key]) < 1e-3, key
        assert off(tail.values[key], torch.from_numpy(arrays[key])) > 1e-4, key


def test_a_network_learns_the_discs_and_every_fold_has_its_history(tune, split):
    tuned = tune(finetune={"epochs": 8})
    assert {row["fold"] for row in tuned.history} == {"0", "1", ""}
    first, *_, last = [row for row in tuned.history if row["fold"] == ""]
    assert last["train_loss"] < first["train_loss"] / 2
    right = tuned.predictions.predicted == tuned.predictions.reference
    assert right.mean() > 0.8
    assert split.folds == 2


def test_only_what_lies_behind_the_boundary_changes(tune, part_of):
    before, after = part_of().weights, tune(finetune={"epochs": 1}).part.weights
    frozen = BACKBONES.get("efficientnet_lite0").frozen_prefixes("early")
    for key, array in before.items():
        assert np.array_equal(array, after[key]) == key.startswith(frozen), key


def test_left_out_patients_are_seen_as_new_ones_and_those_that_teach_are_not(
    tune, part_of, pictures, split
):
    others = zip(pictures.samples, reversed(pictures.samples), strict=True)
    swapped = dataclasses.replace(
        pictures,
        samples=tuple(dataclasses.replace(a, path=b.path, sha256=b.sha256) for a, b in others),
    )
    drawn, new = tune("one"), tune("two", new=swapped)
    first, second = drawn.part.weights, new.part.weights
    assert all(np.array_equal(first[key], second[key]) for key in first)
    part, (fold, _) = part_of(), new.folds
    network = Network(part.graph, {**part.weights, **fold.weights})
    rows = [i for i, sample in enumerate(pictures.samples) if split.of(sample).fold == 0]
    shown = np.stack(InputReader(swapped, part.recipe)(rows))
    wanted = fold.head.probabilities(network.features(shown))
    np.testing.assert_allclose(new.predictions.probabilities[rows], wanted, atol=2e-2)
    assert np.abs(drawn.predictions.probabilities[rows] - wanted).max() > 0.1


def test_an_epoch_shows_every_window_of_every_row_in_one_view(monkeypatch):
    from hepar.fit import finetune

    shown, rows, codes = [], np.array([5, 7, 8]), np.zeros(9, np.int64)
    task = finetune.Task(
        "fold 0", None, {}, shown.extend, 2, 3, codes, np.ones(9), rows, rows[:0], 2, 4, None, ""
    )

    def boundary(task, rows, views, *_):
        task.values(list(zip(rows.tolist(), views.tolist(), strict=True)))
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "_boundary", boundary)
    monkeypatch.setattr(finetune, "_targets", lambda *_: (None, None))
    for epoch in range(3):
        with pytest.raises(KeyboardInterrupt):
            finetune._epoch(task, FinetuneConfig(batch=32), None, {}, None, epoch)
    each = [sorted(shown[at : at + 9]) for at in (0, 9, 18)]
    assert each[0] == each[2] == [(row, window) for row in rows for window in range(3)]
    assert each[1] == [(row, window) for row in rows for window in range(3, 6)]


def test_frozen_norms_keep_their_statistics(tune, part_of):
    before = part_of().weights
    after = tune(finetune={"epochs": 1, "freeze_norm": True}).part.weights
    for key in before:
        if key.endswith(("running_mean", "running_var")):
            np.testing.assert_array_equal(before[key], after[key])


def test_an_interrupted_training_ends_with_the_same_numbers(tune, monkeypatch):
    from hepar.fit import finetune

    undisturbed = tune("one")
    real, calls = finetune._epoch, []

    def breaks(*arguments):
        calls.append(1)
        if len(calls) == 5:  # in the second epoch of the second fold
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(finetune, "_epoch", breaks)
    with pytest.raises(KeyboardInterrupt):
        tune("two")
    assert same(tune("two"), undisturbed)
    assert len(calls) == 5 + 5
    assert undisturbed.history == tune("two").history
    assert len(calls) == 10


def test_a_checkpoint_of_other_settings_is_kept_aside(tune, tmp_path, caplog):
    first = tune("run")
    with caplog.at_level(logging.WARNING, "hepar"):
        second = tune("run", finetune={"learning_rate": 2e-3})
    assert "fold-0.safetensors: checkpoint of another configuration, kept as" in caplog.text
    assert len(list((tmp_path / "run" / "checkpoints").glob("fold-0*.safetensors"))) == 2
    assert not same(first, second)
    assert same(second, tune("fresh", finetune={"learning_rate": 2e-3}))


def test_a_damaged_checkpoint_is_trained_anew(tune, tmp_path, caplog):
    first = tune("run")
    path = tmp_path / "run" / "checkpoints" / "fold-1.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING, "hepar"):
        again = tune("run")
    assert "fold-1.safetensors: checkpoint damaged" in caplog.text
    assert same(first, again)


def test_with_and_without_the_cache_a_training_is_the_same_to_half_precision(tune):
    settings = {"dropout": 0.0, "learning_rate": 1e-4}
    cached = tune("one", finetune=settings)
    plain = tune("two", finetune={**settings, "cache": "off"})
    ours, theirs = cached.predictions.probabilities, plain.predictions.probabilities
    assert np.abs(ours - theirs).max() < 0.02
    assert [row["epoch"] for row in cached.history] == [row["epoch"] for row in plain.history]


def test_a_loss_that_is_not_a_number_is_one_line(tune):
    with pytest.raises(FitError, match=r"fold 0, epoch \d: expected a finite loss, got nan.*Lower"):
        tune(finetune={"learning_rate": 1e30, "epochs": 9})


def test_lp_ft_starts_from_the_fitted_head(tune):
    """One epoch with a learning rate of nothing leaves the linear head as it was fitted."""
    still = {"start": "linear", "hidden": [], "learning_rate": 1e-30, "epochs": 1}
    tuned = tune(finetune={**still, "freeze_norm": True})
    (weight, _bias), *none = tuned.head.layers
    assert not none
    assert np.abs(weight).max() > 0
    right = tuned.predictions.predicted == tuned.predictions.reference
    assert right.mean() > 0.7
    with pytest.raises(FitError, match="expected no hidden layers"):
        tune(finetune={"start": "linear"})


def test_the_rate_halves_on_plateaus_and_training_stops():
    from hepar.fit.finetune import _is_stale, learning_rate

    config = FinetuneConfig(learning_rate=8.0, plateau=2, patience=5)
    rows = [{"epoch": i, "best": i in {0, 3}} for i in range(9)]
    rates = [learning_rate(rows[:n], config) for n in range(9)]
    assert rates == [8, 8, 8, 4, 4, 4, 2, 2, 1]
    assert [_is_stale(rows[:n], config) for n in range(10)] == [False] * 9 + [True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": "layer9"}, "expected a freeze boundary out of none, stem, .*, early, all; got"),
        ({"start": "somehow"}, "finetune.start: expected random or linear"),
        ({"epochs": 0}, "epochs, batch, patience and plateau of 1 or more"),
        ({"dropout": 1.0}, "dropout in"),
    ],
)
def test_settings_without_sense_are_refused(tune, settings, message):
    with pytest.raises((FitError, BackboneError), match=message):
        tune(finetune=settings)


def test_without_torch_one_line_says_what_to_install(tune, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "hepar.fit.finetune", None)
    with pytest.raises(FitError, match=r"Install the extra: pip install 'hepar\[train\]'"):
        tune()


def test_an_svm_on_fine_tuned_features(tune):
    tuned = tune(head={"kind": "svm"})
    assert type(tuned.head).__name__ == "SvmHead"
    right = tuned.predictions.predicted == tuned.predictions.reference
    assert right.mean() > 0.7


def test_averaging_over_views_changes_probabilities_alone(tune):
    one, two = tune("run"), tune("run", head={"kind": "dense", "views": 2})
    assert np.array_equal(
        one.part.weights["conv_head.weight"], two.part.weights["conv_head.weight"]
    )
    assert not np.array_equal(one.predictions.probabilities, two.predictions.probabilities)
