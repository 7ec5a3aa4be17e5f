"""The explorer of a clip threshold: its training against a plain loop, and what it says of it."""

import itertools
import math
import re
import sys
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import nll_loss

import gradcourse as gc
from gradcourse import models
from gradcourse.explorer.picture import Panel

gc.explorer.clipping  # noqa: B018 (loads the module, which bears the name of its function)
MODULE = sys.modules["gradcourse.explorer.clipping"]
HERE = {"clip": True, "threshold": 1.0, "rate": 0.05, "depth": 10, "slow": False}


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch):
    monkeypatch.setattr(MODULE.time, "sleep", lambda seconds: None)


@pytest.fixture
def short(monkeypatch):
    """Trainings of so few steps that many of them can be tried."""
    monkeypatch.setattr(MODULE, "_STEPS", 24)


@pytest.fixture
def lines(monkeypatch):
    """What was drawn last: label up to a comma -> (x, y)."""
    drawn, line = {}, Panel.line

    def noted(panel, x, y, label="", **style):
        drawn[label.partition(",")[0]] = np.asarray(x, float), np.asarray(y, float)
        line(panel, x, y, label, **style)

    monkeypatch.setattr(Panel, "line", noted)
    return drawn


def plainly(thresholds, rate=0.05, depth=10):
    """The loop of the lesson, written once more: loss, norm and length of every step."""
    model = models.mlp(depth, 64, "relu", init="he", gain=1.5, generator=torch.Generator().manual_seed(0))
    split, rows = gc.digits(), []
    for step, threshold in enumerate(thresholds):
        batch = slice(step % 22 * 64, step % 22 * 64 + 64)
        loss = nll_loss(torch.log_softmax(model(split.x_train[batch].float()), dim=1), split.y_train[batch])
        gradient = torch.autograd.grad(loss, list(model.parameters()))
        norm = torch.cat([part.flatten() for part in gradient]).norm()
        shrunk = min(1.0, threshold / float(norm))
        with torch.no_grad():
            for parameter, part in zip(model.parameters(), gradient, strict=True):
                parameter -= rate * shrunk * part
        rows.append((float(loss.detach()), float(norm), rate * shrunk * float(norm)))
    return np.array(rows).T


def trained(changes=(), **values):
    """Pictures of a run in which controls are moved: {number of a picture: {name: value}}."""
    here, pictures = SimpleNamespace(**HERE | values), []
    for number, picture in enumerate(MODULE._train(here)):
        pictures.append(picture)
        vars(here).update(dict(changes).get(number, {}))
    return pictures


@pytest.mark.parametrize("threshold", [0.3, 3.0])
def test_training_is_that_of_a_plain_loop(lines, short, threshold):
    trained(threshold=threshold)
    loss, norm, _ = plainly([threshold] * 24)
    np.testing.assert_allclose(lines["batch"][1], loss, rtol=1e-3)
    np.testing.assert_allclose(lines["before clipping"][1], norm, rtol=1e-3)
    np.testing.assert_array_equal(lines["batch"][0], np.arange(24))


def test_a_threshold_acts_on_the_step_that_comes_next(lines, short):
    """In slow motion a picture comes after each step."""
    trained({4: {"threshold": 0.01}, 9: {"threshold": 2.0}}, slow=True)
    thresholds = [1.0] * 5 + [0.01] * 5 + [2.0] * 14
    np.testing.assert_array_equal(lines["threshold"][1], thresholds)
    np.testing.assert_allclose(lines["batch"][1], plainly(thresholds)[0], rtol=1e-3)


def test_a_rate_acts_on_the_step_that_comes_next(short):
    still = trained({0: {"rate": 5e-4}}, slow=True)
    moved = trained(slow=True)
    assert still[1].words == moved[1].words, "the second step's loss follows from the first rate"
    assert still[5].words != moved[5].words


def test_without_clipping_the_loss_is_lost_within_ten_steps(lines):
    picture = trained(clip=False)[-1]
    step = len(lines["batch"][1]) - 1
    assert step < 10
    assert not math.isfinite(lines["batch"][1][-1])
    assert f"in no step: the loss is NaN at step {step}" in picture.words
    assert f"NaN at step {step}" in picture.svg()
    assert re.search(r'<path d="M[^M]*Z" fill=', picture.svg()), "what is cut off is one polygon, NaN left out"
    assert picture.progress == 1.0


def test_progress_grows_to_1_and_only_the_last_picture_has_it(short):
    progress = [picture.progress for picture in trained()]
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    assert max(progress[:-1]) < 1.0


def test_words_say_how_far_the_steps_went_and_how_far_he_is(short):
    words = trained(threshold=0.5)[-1].words
    length = plainly([0.5] * 24)[2].sum()
    he = models.mlp(10, 64, "relu", init="he", generator=torch.Generator().manual_seed(0))
    away = 0.5 * float(torch.cat([weight.detach().flatten() for weight in he.parameters()]).norm())
    assert f"The steps together are {length:.2g} long; He's weights were {away:.2g} away" in words


def test_a_whole_training_ends_as_the_lesson_says_and_survives_a_millionth(monkeypatch):
    words = gc.explorer.clipping().picture.words
    assert "10 layers, the gradient clipped in more than half of the steps" in words
    assert "the accuracy is above 0.9" in words
    exact, noise = models.draw_weight, torch.Generator().manual_seed(1)

    def perturbed(*args, **options):
        weight = exact(*args, **options)
        return weight * (1.0 + 1e-6 * torch.randn(weight.shape, dtype=weight.dtype, generator=noise))

    monkeypatch.setattr(models, "draw_weight", perturbed)
    assert gc.explorer.clipping().picture.words == words


def test_accuracy_is_that_of_all_training_images(short):
    run = MODULE._Run(10)
    for _ in range(24):
        run.advance(20.0, 0.05)
    split = gc.digits()
    with torch.no_grad():
        right = run._model(split.x_train.float()).argmax(dim=1) == split.y_train
    assert run.accuracy() == float(right.double().mean())
    assert 0.2 < run.accuracy() < 0.9, "neither chance nor done: the comparison says something"


def test_every_corner_has_a_picture_and_words(short):
    explorer = gc.explorer.clipping()
    ends = [
        (control.low, control.high) if hasattr(control, "low") else (False, True)
        for control in explorer.controls.values()
    ]
    for place in itertools.product(*ends):
        explorer.move(**dict(zip(explorer.controls, place, strict=True)))
        ElementTree.fromstring(explorer.picture.svg())
        assert "nan" not in explorer.picture.words
        assert explorer.picture.words.startswith(f"{place[3]} layers")


def test_many_places_have_a_picture_and_words(short):
    explorer, rng = gc.explorer.clipping(), np.random.default_rng(0)
    for threshold, rate in 10 ** rng.uniform([-3, -3.3], [3, 0.69], size=(60, 2)):
        explorer.move(threshold=float(threshold), rate=float(rate), clip=bool(rng.integers(2)))
        ElementTree.fromstring(explorer.picture.svg())
        assert len(explorer.picture.words) > 60


def test_every_control_changes_the_picture(short):
    explorer = gc.explorer.clipping()
    for key, value in {"clip": False, "threshold": 0.1, "rate": 0.01, "depth": 20}.items():
        before, start = explorer.picture.svg(), explorer.values[key]
        explorer.move(**{key: value})
        assert explorer.picture.svg() != before, key
        explorer.move(**{key: start})
