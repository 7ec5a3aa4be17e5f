"""Stack: the runs of several Configs trained together."""

from dataclasses import replace

import numpy as np
import torch

from gradcourse.data import TRAIN_SIZE
from gradcourse.sweeps.network import Network, layers_of, losses_of
from gradcourse.sweeps.parameters import Parameters
from gradcourse.sweeps.stepping import Stepper, gradient_norms, plain_norms
from gradcourse.sweeps.watch import Records, Watch
from gradcourse.training import LOSSES, batches_of

_IMAGES = 1 << 17  # entries of a layer's outputs for which accuracies are computed at once


class Stack:
    """Trains runs that differ in numbers only.

    Args:
        configs: their Configs, which agree in the fields that a Plan asks of one stack.
        models: their models at initialization.
        splits: their data; runs with the same data hold the same Split.
    """

    def __init__(self, configs, models, splits):
        self._config, self._configs = configs[0], configs
        self._template, self._layers = models[0], layers_of(models[0])
        self._parameters = Parameters.of(models)
        self._network = Network(self._template, self._parameters)
        self._stepper = Stepper(configs, self._parameters)
        self._watch = Watch(self._layers)
        self._runs = np.arange(len(configs))  # the position in `configs` of each run that still goes on
        self._set_sources(splits)
        steps = max(self._config.steps, 1)
        recorded = range(0, steps, self._config.record_every)
        self._records = Records(self._template, self._layers, self._parameters.weights, recorded, steps, len(configs))

    def train(self):
        """Train; after each step yield (steps done or spared, {position in `configs`: Trace} of runs that ended)."""
        steps = max(self._config.steps, 1)
        for step in range(steps):
            losses = self._step(step)
            ended = np.full(len(losses), step + 1 == steps) | ~np.isfinite(losses)
            traces = self._traces(np.flatnonzero(ended), step + 1) if ended.any() else {}
            yield len(losses) + len(traces) * (steps - step - 1), traces
            if ended.all():
                return
            if traces:
                self._go_on(np.flatnonzero(~ended))

    # ---- one step, in the order of training.run: forward, backward, record, clip, step

    @torch.no_grad()
    def _step(self, step):
        recorded = step % self._config.record_every == 0
        losses = self._forward_and_backward(self._watch if recorded else None)
        self._records.put_losses(step, self._runs, losses)
        if recorded:
            for name, columns, values in self._watch.values():
                self._records.put(step, self._runs, name, values, columns)
        groups = self._parameters.groups
        raw = self._record_gradients(step, "raw") if recorded else None
        if self._config.steps:
            if self._stepper.clips:
                self._stepper.clip(groups, plain_norms(groups))
            if recorded and self._stepper.clips:
                self._record_gradients(step, "used")
            elif recorded:
                self._records.put(step, self._runs, "used", raw)
            self._move(step, recorded)
        return losses

    def _forward_and_backward(self, watch):
        self._watch.begin()
        total, many = 0.0, self._config.accumulate
        for number in range(many):
            x, aim = self._batch()
            losses, gradient = losses_of(self._config.loss, self._network.forward(x, watch), aim)
            self._network.backward(gradient / many, adds=number > 0)
            total = total + losses / many
        return total.numpy()

    def _record_gradients(self, step, name):
        """Keep the norm of the whole gradient of each run; if raw, also of each weight's."""
        groups = self._parameters.groups
        norms = gradient_norms(groups)
        whole = torch.linalg.vector_norm(norms, dim=0, keepdim=True)
        self._records.put(step, self._runs, name, whole)
        if name == "raw":
            of_weights = np.repeat([group.is_weight for group in groups], [len(group.names) for group in groups])
            self._records.put(step, self._runs, "weight_gradient", norms[of_weights])
        return whole

    def _move(self, step, recorded):
        groups = self._parameters.groups
        went = self._stepper.step(groups, recorded)
        if recorded:
            for name, norms in zip(("moved", "sizes"), went, strict=True):
                self._records.put(step, self._runs, name, norms)
        self._stepper.clip_weights(groups)

    # ---- data

    def _set_sources(self, splits):
        """Put the data of all runs together, and find which runs share the order of their batches."""
        aim = LOSSES[self._config.loss][1]
        self._splits = list({id(split): split for split in splits}.values())
        places = [next(n for n, known in enumerate(self._splits) if known is split) for split in splits]
        self._split_of = np.array(places)
        self._x = torch.cat([split.x_train for split in self._splits])  # (splits * points, inputs)
        self._aim = torch.cat([getattr(split, aim) for split in self._splits])
        self._orders = {config.seed: batches_of(config) for config in self._configs}
        self._first = torch.from_numpy(self._split_of * TRAIN_SIZE)  # of each run's points

    def _batch(self):
        """Return the next inputs (K, B, inputs) and aims of all runs."""
        batches = {seed: next(order) for seed, order in self._orders.items()}
        runs = self._runs.tolist()
        which = torch.stack([batches[self._configs[run].seed] for run in runs])  # (K, B)
        which += self._first[self._runs].unsqueeze(1)
        x, aim = (part.index_select(0, which.flatten()) for part in (self._x, self._aim))
        return x.view(*which.shape, -1), aim.view(*which.shape, *aim.shape[1:])

    # ---- ends

    def _traces(self, ended, steps):
        """Return the Trace of runs that ended, given by their place among those that went on, by position."""
        parameters = self._parameters.take(torch.from_numpy(ended))
        network = Network(self._template, parameters, training=False)
        runs = self._runs[ended]
        train, test = (self._accuracies(network, runs, part) for part in ("train", "test"))
        return {
            run: replace(
                self._records.trace(run, steps),
                config=self._configs[run],
                train_accuracy=on_train,
                test_accuracy=on_test,
            )
            for run, on_train, on_test in zip(runs.tolist(), train, test, strict=True)
        }

    @torch.no_grad()
    def _accuracies(self, network, runs, part):
        """Return the share of right answers of each run, NaN where scores are not finite."""
        used, which = np.unique(self._split_of[runs], return_inverse=True)
        x, y = (torch.stack([getattr(self._splits[n], f"{name}_{part}") for n in used]) for name in ("x", "y"))
        which = torch.from_numpy(which)
        right, finite = torch.zeros(len(runs)).double(), torch.ones(len(runs), dtype=torch.bool)
        many = max(64, _IMAGES // (len(runs) * self._config.width))
        for inputs, classes in zip(x.split(many, dim=1), y.split(many, dim=1), strict=True):
            scores = network.forward(inputs[which])
            finite &= torch.isfinite(scores).all(dim=2).all(dim=1)
            right += (scores.argmax(dim=2) == classes[which]).sum(dim=1)
        return torch.where(finite, right / x.shape[1], torch.nan).tolist()

    def _go_on(self, kept):
        """Keep training some of the runs, given by their place among those that went on."""
        runs = torch.from_numpy(kept)
        self._runs = self._runs[kept]
        self._parameters = self._parameters.take(runs)
        self._stepper.take(runs)
        self._network = Network(self._template, self._parameters)
