"""Networks whose disease is known: how they are built, and what an own float64 measurement says of them.

Nothing here uses the Recorder's numbers or the rules of gradcourse.diagnosis. The labels come from plain autograd: the
mean-square gradient of every layer over several seeds in float64, the exact slopes of the activations, the outputs over
the whole training set, and a float64 copy that takes the same step. Where a measurement lies between two diseases the
label is "borderline": such networks count in no score and are shown in a row of their own.
"""

import copy
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

import gradcourse as gc
from gradcourse.data import TRAIN_SIZE
from gradcourse.layers import Block
from gradcourse.optimizers import make_optimizer, make_schedule
from gradcourse.training import build_model, load_data

BORDERLINE = "borderline"
SICK_DECADES, WELL_DECADES = 1.0, 0.5  # of the gradient between the last and the first layer
SATURATED, UNSATURATED = 0.5, 0.3  # share of outputs with less than 2 % of the steepest slope
DEAD, ALIVE = 0.8, 0.65  # share of a layer's units that are 0 on the whole training set; a random layer may have half
OVERCLIPPED, WELL_KEPT = 0.05, 0.2  # of the gradient's norm, median over the steps
LOST, MOVED = 0.5, 0.2  # share of a layer's step that rounding takes
RISEN, NOT_RISEN = 3.0, 1.5  # loss at the end over the larger of chance and the first loss
SEEDS = 4  # over which the float64 gradient is averaged
LOOK_EVERY = 4  # steps, for dead units
ENOUGH_WIDTH = 128  # the mean-square gradient of a narrow net scatters: it is measured on one as wide as this


@dataclass(frozen=True)
class Net:
    """One labelled configuration.

    Attributes:
        name: tells the configurations apart; the halves are split by it.
        make: builds the model of a seed.
        data: inputs, targets and the loss, of a seed.
        stream: the modules whose outputs the gradient passes on its way to the input.
        config: None for a network of one's own; then the fields below say how it is trained.
        exact: whether the mean-square gradient is known to keep its size at any width (hanin2020): then it is not
            measured in narrow networks, where it scatters over decades.
    """

    name: str
    make: Callable
    data: Callable
    stream: Callable
    config: gc.Config | None = None
    optimizer: Callable = lambda parameters: torch.optim.SGD(parameters, lr=0.1)
    steps: int = 0
    batch: int = 128
    per_call: bool = False
    dtype: torch.dtype = torch.float32
    clip_norm: float | None = None
    exact: bool = False

    @property
    def half(self):
        return ("fit", "held out")[zlib.crc32(self.name.encode()) % 2]

    def trace(self, seed):
        """Record the run as a user would."""
        if self.config is not None:
            return gc.run(replace(self.config, seed=seed))
        model, (x, y, loss_fn) = self.make(seed), self.data(seed)
        if not self.steps and not self.per_call:
            return gc.measure(model, (x[: self.batch], y[: self.batch]), loss_fn)
        optimizer = self.optimizer(model.parameters())
        with gc.Recorder(model, optimizer, per_call=self.per_call) as recorder:
            for rows in islice(own_batches(self, len(x)), max(self.steps, 1)):
                optimizer.zero_grad()
                loss = loss_fn(model(x[rows]), y[rows])
                recorder.log_loss(loss)
                loss.backward()
                if self.clip_norm:
                    clip_grad_norm_(model.parameters(), self.clip_norm)
                if not self.steps:
                    recorder.end_step()
                    break
                optimizer.step()
        return recorder.trace


def own_batches(net, count):
    while True:
        yield from torch.arange(count - count % net.batch).split(net.batch)


# ---- Configs


def of_config(steps=0, exact=False, **fields):
    config = gc.Config(steps=steps, **{"width": 48, **fields})
    shown = {name: getattr(value, "__name__", value) for name, value in fields.items()}
    return Net(
        name=", ".join(f"{name}={value}" for name, value in {**shown, "steps": steps}.items()),
        make=lambda seed: build_model(replace(config, seed=seed)),
        data=lambda seed: _data(replace(config, seed=seed)),
        stream=_stream,
        config=config,
        steps=steps,
        batch=config.batch_size,
        exact=exact,
    )


def _data(config):
    split = load_data(config)
    return (
        (split.x_train, split.scores_train, mse_loss)
        if config.loss == "mse"
        else (split.x_train, split.y_train, cross_entropy)
    )


def _stream(model):
    """The outputs of hidden maps, or of blocks where there are any."""
    blocks = [module for module in model if isinstance(module, Block)]
    return blocks or [module for module in model if isinstance(module, nn.Linear | nn.Conv2d)][:-1]


def config_batches(config):
    generator = config.generator("batches")
    whole = TRAIN_SIZE - TRAIN_SIZE % config.batch_size
    while True:
        yield from torch.randperm(TRAIN_SIZE, generator=generator)[:whole].split(config.batch_size)


# ---- measurements in float64, by autograd


@dataclass
class Measured:
    """What the labels are made from."""

    decades: float = 0.0  # of the mean-square gradient towards the input, over several seeds, in a wide net
    shape: str = "power"
    own_decades: float = 0.0  # the same in nets of the own width
    own_shape: str = "power"
    layers: int = 1
    saturated: float = 0.0  # median over the layers, at the start
    saturated_somewhere: float = 0.0  # largest, at the start or the end
    dead: float = 0.0  # largest share of a layer, at the start
    dead_later: float = 0.0  # at the end
    kept: float = 1.0
    lost: float = 0.0
    rise: float = 1.0
    broke: int | None = None  # step of the first value that is not finite
    rose: int | None = None  # step from which the loss stays high
    dying: int | None = None  # step at which a layer leaves ALIVE for good, looked at every few steps
    died: int | None = None  # and at which it reaches DEAD


def measure_net(net, seed):
    """Measure a network: its gradient over other seeds than the one that is diagnosed, the run on its own seed."""
    wide = gradient_by_depth(net, seed, ENOUGH_WIDTH)
    found = own = shape_of(wide)
    narrow = net.config is not None and net.config.model == "mlp" and net.config.width < ENOUGH_WIDTH
    if narrow and not net.exact and abs(found[0]) < 3 * SICK_DECADES:
        own = shape_of(gradient_by_depth(net, seed, 0))
    measured = Measured(*found, *own, layers=len(wide))
    train_plainly(net, seed, measured)
    return measured


def gradient_by_depth(net, seed, least_width):
    """Return the logarithm (decades) of the root mean square of the gradient at each depth, over several seeds."""
    squares = []
    for other in range(1000 + SEEDS * seed, 1000 + SEEDS * (seed + 1)):
        model, (x, y, loss_fn) = in_float64(net, other, least_width)
        x, y = (part[:128] for part in (x, y))
        squares.append(_mean_squares(model, net, x.double(), y if not y.is_floating_point() else y.double(), loss_fn))
    with np.errstate(divide="ignore"):
        return 0.5 * np.log10(np.mean(squares, axis=0))


def in_float64(net, seed, least_width):
    """Build the network, as wide as asked, and its data."""
    if net.config is None:
        return net.make(seed).double(), net.data(seed)
    width = max(net.config.width, least_width if net.config.model == "mlp" else 0)
    config = replace(net.config, seed=seed, width=width, dtype="float64")
    return build_model(config), _data(config)


def _mean_squares(model, net, x, y, loss_fn):
    outputs = []

    def keep(module, arguments, output):
        outputs.append(output[0] if isinstance(output, tuple) else output)

    handles = [module.register_forward_hook(keep) for module in net.stream(model)]
    loss = loss_fn(model(x), y)
    for handle in handles:
        handle.remove()
    gradients = torch.autograd.grad(loss, outputs)
    return [float(gradient.square().mean()) for gradient in gradients]


def shape_of(logs):
    """Return the decades that a straight line through the logarithms covers, and the name of the shape.

    Of "exponential", "power" (of the layer's number, counted from either end, which critical networks show), "jump"
    (most of it between two layers) and "unclear".
    """
    if len(logs) < 2:
        return 0.0, "power"
    if not np.isfinite(logs).all():
        return (-math.inf if np.isneginf(logs[0]) else math.nan), "exponential"
    number = np.arange(1, len(logs) + 1)
    line, power, from_end = (_misfit(axis, logs) for axis in (number, np.log(number), np.log(number[::-1])))
    decades = -np.polyfit(number, logs, 1)[0] * (len(logs) - 1)
    return float(decades), _shape(np.diff(logs), line, min(power, from_end))


def _shape(changes, line, power):
    if len(changes) > 1 and np.abs(changes).max() > 0.65 * abs(changes.sum()):
        return "jump"
    if len(changes) < 7 or line < power:
        return "exponential"
    return "power" if power < 0.5 * line else "unclear"


def _misfit(axis, logs):
    fit = np.polyfit(axis, logs, 1)
    return float(np.square(logs - np.polyval(fit, axis)).sum())


def train_plainly(net, seed, measured):
    """Train without a Recorder, in the net's own precision, and note what the labels need."""
    model, (x, y, loss_fn) = net.make(seed), net.data(seed)
    _look_inside(model, net, x, measured, "start")
    if not net.steps:
        return
    config = replace(net.config, seed=seed) if net.config else None
    optimizer = make_optimizer(model.parameters(), config) if config else net.optimizer(model.parameters())
    schedule = make_schedule(optimizer, config) if config else None
    losses, kept, lost = [], [], []
    batches = config_batches(config) if config else own_batches(net, len(x))
    for step, rows in enumerate(islice(batches, net.steps)):
        optimizer.zero_grad()
        loss = loss_fn(model(x[rows]), y[rows])
        loss.backward()
        losses.append(float(loss.detach()))
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        finite = math.isfinite(losses[-1]) and all(torch.isfinite(g).all() for g in gradients)
        if not finite and measured.broke is None:
            measured.broke = step
        if not math.isfinite(losses[-1]):
            break
        kept.append(_clip(model, net, gradients))
        twin = _twin(model, optimizer) if step in (0, net.steps // 2) and finite else None
        before = [p.detach().double() for p in model.parameters()]
        optimizer.step()
        if twin is not None:
            lost.append(_lost_share(model, before, *twin))
        if schedule:
            schedule.step()
        if step % LOOK_EVERY == 0:
            _note_death(measured, _largest_dead(model, net, x), step)
    measured.kept = float(np.median(kept)) if kept else 1.0
    measured.lost = float(np.median(lost)) if lost else 0.0
    _note_rise(losses, measured)
    _look_inside(model, net, x, measured, "end")


def _note_death(measured, share, step):
    if share <= ALIVE:
        measured.dying = None
    elif measured.dying is None:
        measured.dying = step
    if share >= DEAD and measured.died is None:
        measured.died = step


def _clip(model, net, gradients):
    raw = _norm(gradients)
    norm = net.config.clip_norm if net.config else net.clip_norm
    if norm is not None:
        clip_grad_norm_(model.parameters(), norm)
    if net.config and net.config.clip_value is not None:
        clip_grad_value_(model.parameters(), net.config.clip_value)
    return _norm(gradients) / raw if raw > 0 else 1.0


def _norm(tensors):
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def _twin(model, optimizer):
    """Return a float64 copy of the model with the same gradients, and an optimizer in the same state."""
    twin = copy.deepcopy(model).double()
    for own, other in zip(model.parameters(), twin.parameters(), strict=True):
        other.grad = None if own.grad is None else own.grad.double()
    groups = optimizer.param_groups
    places = {id(p): other for p, other in zip(model.parameters(), twin.parameters(), strict=True)}
    kind = type(optimizer)
    if kind.__name__ == "Together":
        return None
    options = {
        name: value
        for name, value in groups[0].items()
        if name in kind.__init__.__code__.co_varnames and name != "params"
    }
    other = kind([places[id(p)] for p in groups[0]["params"]], **options)
    for own, state in optimizer.state.items():
        other.state[places[id(own)]] = {
            name: value.double()
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim
            else copy.deepcopy(value)
            for name, value in state.items()
        }
    return twin, other


def _lost_share(model, before, twin, optimizer):
    """Return the largest share of a weight's step that rounding has taken."""
    optimizer.step()
    shares = []
    for own, old, other in zip(model.parameters(), before, twin.parameters(), strict=True):
        wanted = other.detach() - old
        if own.ndim > 1 and wanted.norm() > 0:
            shares.append(float((own.detach().double() - other.detach()).norm() / wanted.norm()))
    return max(shares, default=0.0)


def _note_rise(losses, measured):
    chance = max(math.log(10), losses[0]) if math.isfinite(losses[0]) else math.inf
    measured.rise = float(np.median(losses[-5:])) / chance if len(losses) > 5 else 1.0
    if len(losses) > 5 and measured.rise > RISEN:
        stays = [min(loss, np.median(losses[step:])) > RISEN * chance for step, loss in enumerate(losses)]
        measured.rose = int(np.argmax(stays))


def _look_inside(model, net, x, measured, when):
    """Note the exact share of flat slopes and of dead units over the training set, in float64."""
    model = copy.deepcopy(model).double().train()
    inputs = {}

    def keep(module, arguments, output):
        inputs[module] = arguments[0].detach()

    handles = [m.register_forward_hook(keep) for m in model.modules() if isinstance(m, (nn.Tanh, nn.Sigmoid, nn.ReLU))]
    if not handles:
        return
    with torch.no_grad():
        model(x.double())
    for handle in handles:
        handle.remove()
    flat = [_flat_share(m, u) for m, u in inputs.items() if not isinstance(m, nn.ReLU)]
    dead = [_dead_share(u) for m, u in inputs.items() if isinstance(m, nn.ReLU)]
    if when == "start":
        measured.saturated = float(np.median(flat)) if flat else 0.0
        measured.dead = max(dead, default=0.0)
    measured.saturated_somewhere = max([measured.saturated_somewhere, *flat])
    measured.dead_later = max(dead, default=0.0)


def _flat_share(module, u):
    u = u.clone().requires_grad_()
    (slope,) = torch.autograd.grad(module(u).sum(), u)
    steepest = {nn.Tanh: 1.0, nn.Sigmoid: 0.25}[type(module)]
    return float((slope < 0.02 * steepest).double().mean())


def _dead_share(u):
    """The share of units (channels of pictures) that no input makes positive."""
    units = u.transpose(0, 1).flatten(1) if u.ndim == 4 else u.flatten(0, -2).T
    return float((units <= 0).all(dim=1).double().mean())


def _largest_dead(model, net, x):
    found = Measured()
    if any(isinstance(module, nn.ReLU) for module in model.modules()):
        _look_inside(model, net, x, found, "start")
    return found.dead


# ---- labels


def label(measured):
    """Name the disease, or "borderline". The order is that of causes: what breaks the run comes first."""
    m = measured
    if m.broke is not None:
        return "diverged"
    named = [
        _named(grade_rise(m), "diverged"),
        _named(grade_dead(m.dead), "dead units"),
        _named(grade_flat(m.saturated), "saturated"),
        by_depth(m),
        _named(grade_kept(m.kept), "over-clipped"),
        _named(grade_lost(m.lost), "update below precision"),
        _named(grade_dead(m.dead_later), "dead units"),
        _named(grade_flat(m.saturated_somewhere), "saturated"),
    ]
    return next((name for name in named if name != "healthy"), "healthy")


def _named(sick, disease):
    return {True: disease, False: "healthy", None: BORDERLINE}[sick]


def _graded(value, well, sick):
    """Return whether a value is sick, None between well and sick."""
    return False if not value > well else True if value >= sick else None


def grade_rise(measured):
    """None as well for runs that broke: they end before the loss says much."""
    return None if measured.broke is not None else _graded(measured.rise, NOT_RISEN, RISEN)


def grade_dead(share):
    return _graded(share, ALIVE, DEAD)


def grade_flat(share):
    return _graded(share, UNSATURATED, SATURATED)


def grade_kept(share):
    return _graded(1.0 / max(share, 1e-30), 1.0 / WELL_KEPT, 1.0 / OVERCLIPPED)


def grade_lost(share):
    return _graded(share, MOVED, LOST)


def by_depth(m):
    named = {_by_shape(*found, m.layers) for found in ((m.decades, m.shape), (m.own_decades, m.own_shape))}
    return named.pop() if len(named) == 1 else BORDERLINE


def _by_shape(decades, shape, layers):
    if abs(decades) <= WELL_DECADES or (shape == "power" and abs(decades) < math.log10(layers)):
        return "healthy"
    if shape != "exponential" or not abs(decades) >= SICK_DECADES:
        return "healthy" if shape == "jump" and abs(decades) < SICK_DECADES else BORDERLINE
    return "vanishing" if decades < 0 else "exploding"


def steps_of(measured):
    """Return the first and the last step that may be named, for what comes in the course of a run; else None."""
    name = label(measured)
    if name == "diverged" and measured.broke is not None:
        return measured.broke, measured.broke
    if name == "diverged":
        return measured.rose - 3, measured.rose + 3  # the loss of a batch scatters
    if name == "dead units" and measured.dead < DEAD and measured.died is not None:
        first = measured.died if measured.dying is None else min(measured.dying, measured.died)
        return first - LOOK_EVERY, measured.died + LOOK_EVERY
    return None
