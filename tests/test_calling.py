"""Calling an answer with a torch module: what it may not leave behind."""

import numpy as np
import pytest
import torch
from torch import nn

import gradcourse as gc
from gradcourse.sheets.calling import call, data


def module():
    made = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    made[0].register_forward_hook(lambda layer, inputs, output: None)
    return made


def leaves_a_hook(model):
    model[1].register_full_backward_hook(lambda layer, inputs, outputs: None)
    return 1.0


def clears_all_hooks(model):
    model[0]._forward_hooks.clear()
    return 1.0


def changes_a_buffer(model):
    model(torch.ones(4, 2))
    return 1.0


def leaves_evaluation_mode(model):
    model.eval()
    return 1.0


def removes_its_own_hook(model):
    handle = model[1].register_forward_pre_hook(lambda layer, inputs: None)
    model.eval()(torch.ones(4, 2)).sum().backward()
    handle.remove()
    model.train()
    return 1.0


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (leaves_a_hook, "left 1 hook on its argument number 1"),
        (clears_all_hooks, "removed 1 hook from its argument number 1 that it did not add"),
        (changes_a_buffer, "changed its argument number 1 in place"),
        (leaves_evaluation_mode, "changed its argument number 1 in place"),
        (removes_its_own_hook, ""),
    ],
)
def test_call_finds_what_an_answer_leaves_on_a_module(answer, problem):
    outcome = call(answer, (module(),))
    assert outcome.problem.startswith(problem)
    assert bool(outcome.problem) == bool(problem)


def test_call_works_on_a_copy_of_the_module():
    model = module()
    call(leaves_a_hook, (model,))
    assert len(model[1]._backward_hooks) == 0


class Claims:
    """Says what it likes of itself."""

    accuracy = 1.0


def test_data_keeps_what_built_in_types_hold():
    value = {"norm": None, "zero_grad": True, "depth": 3, "name": "ReLU", "betas": (0.9, np.float64(0.5))}
    assert data(value) == {"norm": None, "zero_grad": True, "depth": 3, "name": "ReLU", "betas": [0.9, 0.5]}
    assert type(data(value)["zero_grad"]) is bool
    np.testing.assert_array_equal(data([torch.ones(2), np.ones(3)])[1], np.ones(3))


def test_data_takes_the_numbers_of_a_trained_network_and_nothing_that_it_says():
    config = gc.Config(depth=2, width=4)
    trained = gc.training.Trained.of(gc.training.build_model(config), config)

    class Liar(gc.training.Trained):
        def accuracy(self, part="test"):
            return 1.0

    taken = data(Liar(config, trained.state))
    assert type(taken) is gc.training.Trained
    assert taken.accuracy() == trained.accuracy()


@pytest.mark.parametrize("value", [Claims(), [Claims()], {"a": Claims()}, lambda: 0, {1, 2}])
def test_data_refuses_anything_else(value):
    with pytest.raises(ValueError, match="which is not a number or an array of numbers"):
        data(value)
