"""The configurations of the labelled set."""

import math
import random
from functools import partial

import torch
from labelled_nets import Net, of_config
from torch import nn
from torch.nn.functional import cross_entropy

C = of_config


def all_nets():
    return [
        *plain(),
        *normed(),
        *residual(),
        *convolutional(),
        *saturated(),
        *dead(),
        *trained(),
        *clipped(),
        *imprecise(),
        *diverging(),
        *own(),
    ]


def random_nets(count, seed):
    """Draw Configs at random: nothing about them was chosen to be clear."""
    draw = random.Random(seed)
    pick = draw.choice
    made = []
    while len(made) < count:
        activation = pick(("relu", "tanh", "sigmoid", "gelu", "leaky_relu", "elu", "selu", "silu"))
        fields = {
            "depth": draw.randint(4, 32),
            "width": pick((24, 32, 48, 64, 96)),
            "activation": activation,
            "init": pick(("xavier", "he", "lecun", "torch", "orthogonal", "lsuv")),
            "gain": pick((1.0, 1.0, 1.0, 0.7, 1.3, 2.0)),
            "norm": pick((None, None, None, "batch", "layer", "weight")),
            "residual": pick((None, None, None, "add", "scaled", "rezero", "preactivation")),
            "learning_rate": 10 ** draw.uniform(-4, 0.5),
            "optimizer": pick(("sgd", "sgd", "adam", "rmsprop")),
            "clip_norm": pick((None, None, None, 1.0, 10 ** draw.uniform(-4, 0))),
            "scaling": pick(("standard", "standard", "unit", "raw")),
            "steps": pick((0, 30)),
        }
        try:
            made.append(C(**fields))
        except ValueError:
            continue
    return made


def plain():
    for depth, width in (
        (6, 32),
        (8, 64),
        (10, 48),
        (14, 64),
        (16, 48),
        (20, 64),
        (24, 96),
        (32, 64),
        (40, 128),
        (32, 32),
        (24, 32),
        (16, 16),
        (24, 16),
        (48, 32),
        (50, 64),
    ):
        yield C(activation="relu", init="he", depth=depth, width=width)
    for depth, width in ((20, 12), (24, 16), (28, 20), (32, 24), (36, 32), (40, 32), (48, 48)):
        yield C(activation="relu", init="he", depth=depth, width=width, data="synthetic", exact=True)
        yield C(activation="leaky_relu", init="he", gain=0.99995, depth=depth, width=width, exact=True)
    for depth, width in ((8, 48), (16, 64), (28, 64)):
        yield C(activation="relu", init="he", depth=depth, width=width, bias_std=0.1)
        yield C(activation="leaky_relu", init="he", depth=depth, width=width)
        yield C(activation="elu", init="he", depth=depth, width=width)
        yield C(activation="gelu", init="he", depth=depth, width=width)
        yield C(activation="selu", init="lecun", depth=depth, width=width)
        yield C(activation="identity", init="orthogonal", depth=depth, width=width)
        yield C(activation="tanh", init="orthogonal", depth=depth, width=width)
        yield C(activation="relu", init="lsuv", depth=depth, width=width)
        yield C(activation="tanh", init="lsuv", depth=depth, width=width)
    for depth, width in ((6, 32), (12, 64), (20, 64), (30, 64), (50, 64), (64, 96)):
        yield C(activation="tanh", init="xavier", depth=depth, width=width)
    for depth, width in ((10, 48), (20, 64), (30, 96), (40, 128), (60, 128)):
        yield C(
            activation="tanh", init="lecun", depth=depth, width=width, gain=math.sqrt(1.76095), bias_std=math.sqrt(0.05)
        )
        yield C(
            activation="tanh", init="lecun", depth=depth, width=width, gain=math.sqrt(1.98607), bias_std=math.sqrt(0.1)
        )
    for depth in (8, 20):
        yield C(activation="silu", init="he", depth=depth, width=64)
        yield C(activation="relu", init="he", depth=depth, scaling="unit", width=64)
        yield C(activation="relu", init="he", depth=depth, data="synthetic")
        yield C(activation="relu", init="he", depth=depth, loss="mse")
        yield C(activation="relu", init="he", depth=depth, dropout=0.2)
    # vanishing
    for depth in (5, 8, 12, 20, 32):
        yield C(activation="sigmoid", init="xavier", depth=depth)
        yield C(activation="sigmoid", init="he", depth=depth, width=64)
        yield C(activation="sigmoid", init="torch", depth=depth, width=32)
    for depth in (7, 13, 22):
        yield C(activation="relu", init="torch", depth=depth)
        yield C(activation="gelu", init="lecun", depth=depth)
        yield C(activation="silu", init="lecun", depth=depth, width=64)
        yield C(activation="tanh", init="torch", depth=depth)
        yield C(activation="tanh", init="normal", gain=0.01, depth=depth)
        yield C(activation="selu", init="torch", depth=depth)
        yield C(activation="softplus", init="lecun", gain=0.5, depth=depth)
        yield C(activation="sigmoid", init="xavier", depth=depth, loss="mse", data="synthetic")
    for depth in (12, 18, 26):
        for gain in (0.85, 0.9, 0.95, 1.05, 1.1, 1.15, 1.2):  # from a slow decay over none to a slow growth
            yield C(activation="relu", init="he", gain=gain, depth=depth)
            yield C(activation="tanh", init="orthogonal", gain=gain, depth=depth, width=64)
    for depth in (9, 30, 70):
        yield C(activation="gelu", init="he", depth=depth, width=128)
        yield C(activation="elu", init="he", depth=depth)
        yield C(activation="silu", init="he", depth=depth, width=96)
        yield C(activation="tanh", init="he", depth=depth)
        yield C(activation="tanh", init="xavier", depth=depth, width=24)
    for depth in (10, 16, 24, 36):
        yield C(activation="relu", init="xavier", depth=depth, width=64)
        yield C(activation="identity", init="orthogonal", gain=0.8, depth=depth)
        yield C(activation="tanh", init="lecun", gain=0.8, depth=depth, width=64)
        yield C(activation="tanh", init="lecun", gain=1.0, bias_std=0.3, depth=depth, width=64)
        yield C(activation="leaky_relu", init="xavier", depth=depth)
    # exploding
    for depth in (8, 14, 24):
        yield C(activation="relu", init="he", gain=1.5, depth=depth)
        yield C(activation="relu", init="he", gain=2.0, depth=depth)
        yield C(activation="identity", init="normal", gain=0.5, depth=depth, width=32)
        yield C(activation="identity", init="orthogonal", gain=1.4, depth=depth)
        yield C(activation="gelu", init="he", gain=2.0, depth=depth)
        yield C(activation="selu", init="he", gain=1.3, depth=depth)
        yield C(activation="elu", init="he", gain=1.7, depth=depth, width=64)
        yield C(activation="tanh", init="lecun", gain=1.8, depth=depth + 8, width=64)
        yield C(activation="tanh", init="lecun", gain=2.2, depth=depth + 8, width=64)


def normed():
    for depth in (8, 16, 24):
        yield C(activation="relu", init="he", norm="layer", depth=depth)
        yield C(activation="tanh", init="xavier", norm="layer", depth=depth)
        yield C(activation="relu", init="he", norm="weight", depth=depth)
        yield C(activation="relu", init="he", norm="group", depth=depth, width=64)
    for depth in (4, 5, 16, 20, 28, 40):
        yield C(activation="relu", init="he", norm="batch", depth=depth, width=64)
        yield C(activation="gelu", init="he", norm="batch", depth=depth, width=64)
    for depth in (6, 10, 30):
        yield C(activation="tanh", init="xavier", norm="batch", depth=depth, width=64)
        yield C(activation="sigmoid", init="xavier", norm="layer", depth=depth, width=64)


def residual():
    for depth in (8, 16, 32, 60):
        yield C(activation="relu", init="he", residual="scaled", depth=depth)
        yield C(activation="tanh", init="xavier", residual="scaled", depth=depth)
        yield C(activation="relu", init="he", residual="rezero", depth=depth)
        yield C(activation="gelu", init="he", residual="rezero", depth=depth, width=32)
        yield C(activation="relu", init="he", residual="preactivation", norm="batch", depth=depth)
        yield C(activation="gelu", init="he", residual="preactivation", norm="layer", depth=depth, width=32)
        yield C(activation="relu", init="he", residual="add", residual_scale=0.1, depth=depth)
    for depth in (14, 22, 36):
        yield C(activation="relu", init="he", residual="add", depth=depth)
        yield C(activation="gelu", init="he", residual="add", depth=depth, width=32)
        yield C(activation="identity", init="orthogonal", residual="add", depth=depth)
        yield C(activation="relu", init="he", residual="preactivation", depth=depth, width=64)
    yield C(activation="tanh", init="xavier", residual="add", depth=20)
    yield C(activation="relu", init="he", residual="add", norm="batch", depth=12)
    yield C(activation="sigmoid", init="xavier", residual="add", depth=20)
    yield C(activation="relu", init="he", residual="rezero", depth=24, steps=40, learning_rate=0.05)
    yield C(activation="relu", init="he", residual="scaled", depth=24, steps=40, learning_rate=0.05)


def convolutional():
    K = partial(C, model="conv", batch_size=64, scaling="standard")
    for depth in (6, 10, 16):
        yield K(activation="relu", init="he", depth=depth, width=8)
        yield K(activation="tanh", init="lecun", depth=depth, width=8, gain=1.1)
        yield K(activation="relu", init="he", residual="scaled", depth=depth, width=8)
        yield K(activation="relu", init="he", residual="preactivation", norm="batch", depth=depth, width=8)
        yield K(activation="gelu", init="he", residual="rezero", depth=depth, width=8)
        yield K(activation="relu", init="torch", depth=depth, width=8)
        yield K(activation="sigmoid", init="xavier", depth=depth, width=8)
        yield K(activation="relu", init="he", gain=2.0, depth=depth, width=8)
    yield K(activation="relu", init="he", norm="batch", depth=20, width=8)
    yield K(activation="relu", init="he", norm="batch", depth=30, width=8)
    yield K(activation="relu", init="he", depth=8, bias=-8.0, width=8)
    yield K(activation="relu", init="he", depth=8, width=16, steps=20, learning_rate=0.05)


def saturated():
    for depth in (4, 8, 14):
        for gain in (3.0, 3.7, 4.2, 5.0, 10.0, 30.0):
            yield C(activation="tanh", init="lecun", gain=gain, depth=depth)
        yield C(activation="sigmoid", init="lecun", gain=60.0, depth=depth, width=64)
        yield C(activation="tanh", init="xavier", scaling="255", depth=depth)
        yield C(activation="tanh", init="normal", gain=1.0, depth=depth, width=64)
    yield C(activation="tanh", init="xavier", bias=4.0, depth=6)
    yield C(activation="sigmoid", init="xavier", bias=8.0, depth=6)
    for rate, depth in ((3.0, 4), (6.0, 5), (10.0, 4), (1.0, 6)):
        yield C(activation="tanh", init="xavier", learning_rate=rate, depth=depth, steps=40)
    for rate in (0.1, 0.3):
        yield C(activation="tanh", init="xavier", optimizer="adam", learning_rate=rate, depth=5, steps=40)


def dead():
    for depth, bias in (
        (4, -2.0),
        (4, -3.0),
        (5, -1.0),
        (4, -8.0),
        (4, -5.0),
        (6, -4.0),
        (8, -6.0),
        (5, -10.0),
        (10, -8.0),
    ):
        yield C(activation="relu", init="he", bias=bias, depth=depth)
        yield C(activation="relu", init="xavier", bias=bias, depth=depth, width=64)
    for rate in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0):
        yield C(
            activation="relu",
            init="torch",
            scaling="unit",
            depth=3,
            width=128,
            learning_rate=rate,
            batch_size=64,
            steps=60,
        )
        yield C(
            activation="relu", init="he", scaling="unit", depth=3, width=64, learning_rate=rate, batch_size=64, steps=60
        )
        yield C(
            activation="relu",
            init="he",
            scaling="unit",
            depth=4,
            width=64,
            learning_rate=rate,
            batch_size=128,
            steps=60,
        )
    for rate in (0.1, 0.3, 1.0):
        yield C(activation="relu", init="he", optimizer="adam", depth=4, learning_rate=rate, steps=60)
        yield C(activation="relu", init="he", optimizer="rmsprop", depth=5, learning_rate=rate, steps=60)


def trained():
    """Healthy runs, with what could be mistaken."""
    T = partial(C, activation="relu", init="he", steps=40)
    for depth in (4, 8):
        yield T(depth=depth, learning_rate=0.03)
        yield T(depth=depth, learning_rate=0.01, momentum=0.9)
        yield T(depth=depth, learning_rate=0.01, momentum=0.9, nesterov=True, schedule="cosine")
        yield T(depth=depth, learning_rate=0.05, schedule="step")
        yield T(depth=depth, learning_rate=0.05, schedule="warmup", clip_norm=5.0)
        yield T(depth=depth, learning_rate=0.05, clip_norm=1.0)
        yield T(depth=depth, learning_rate=0.05, clip_value=0.1)
        for optimizer, rate in (
            ("adam", 1e-3),
            ("adamw", 1e-3),
            ("rmsprop", 1e-3),
            ("adagrad", 1e-2),
            ("lion", 3e-4),
            ("muon", 1e-2),
        ):
            yield T(depth=depth, optimizer=optimizer, learning_rate=rate)
        yield T(depth=depth, learning_rate=0.03, norm="layer")
        yield T(depth=depth, learning_rate=1e-5)
        yield T(depth=depth, learning_rate=1e-9, dtype="float64")
        yield C(activation="tanh", init="xavier", depth=depth, steps=40, learning_rate=0.1)
        yield C(activation="gelu", init="he", depth=depth, steps=40, optimizer="adam", learning_rate=1e-3)
    yield T(depth=4, learning_rate=0.03, norm="batch")
    yield T(depth=6, learning_rate=0.03, weight_decay=1e-3, dropout=0.1)


def clipped():
    for norm in (1e-4, 1e-3, 1e-2, 0.05, 0.1, 0.3):
        yield C(activation="relu", init="he", depth=6, clip_norm=norm, steps=40)
        yield C(
            activation="tanh", init="xavier", depth=8, clip_norm=norm, steps=30, optimizer="adam", learning_rate=1e-3
        )
        yield C(activation="relu", init="he", depth=10, clip_norm=norm, steps=30, momentum=0.9, learning_rate=0.01)
        yield C(activation="gelu", init="he", depth=5, clip_norm=norm, steps=30, norm="layer")
        yield C(activation="relu", init="he", residual="scaled", depth=12, clip_norm=norm, steps=20)
    for value in (1e-6, 1e-5, 1e-4):
        yield C(activation="relu", init="he", depth=8, clip_value=value, steps=30)
        yield C(activation="tanh", init="xavier", depth=5, clip_value=value, steps=30)


def imprecise():
    for rate in (1e-10, 1e-9, 3e-9, 1e-8, 3e-8, 1e-7, 1e-6):
        yield C(activation="relu", init="he", depth=6, learning_rate=rate, steps=30)
        yield C(activation="tanh", init="xavier", depth=8, learning_rate=rate, steps=30, momentum=0.5)
        yield C(activation="relu", init="he", depth=8, learning_rate=rate, steps=30, norm="layer")
        yield C(activation="gelu", init="he", depth=5, learning_rate=rate / 10, steps=30, optimizer="adam")
        yield C(activation="relu", init="he", residual="scaled", depth=10, learning_rate=rate, steps=30)
    for gain in (1e2, 1e3, 3e3, 1e4):
        yield C(activation="relu", init="he", depth=5, norm="layer", gain=gain, steps=30, learning_rate=1e-3)
        yield C(activation="tanh", init="xavier", depth=5, norm="batch", gain=gain, steps=30, learning_rate=1e-3)


def diverging():
    for rate in (0.3, 0.6, 1.0, 3.0):
        yield C(activation="relu", init="he", depth=6, learning_rate=rate, steps=40)
        yield C(activation="relu", init="he", depth=10, learning_rate=rate, steps=40, momentum=0.9)
        yield C(activation="gelu", init="he", depth=5, learning_rate=3 * rate, steps=40)
        yield C(activation="leaky_relu", init="he", depth=8, learning_rate=rate, steps=40, loss="mse")
        yield C(activation="identity", init="orthogonal", depth=8, learning_rate=rate, steps=40, loss="mse")
    for depth, gain in ((10, 1.5), (10, 2.0), (20, 1.5)):
        yield C(activation="relu", init="he", depth=depth, gain=gain, learning_rate=0.05, steps=40)
        yield C(activation="relu", init="he", depth=depth, gain=gain, learning_rate=0.05, steps=20, clip_norm=1.0)
        yield C(activation="elu", init="he", depth=depth, gain=gain, learning_rate=0.05, steps=40)
    yield C(activation="relu", init="he", residual="add", depth=30, learning_rate=0.05, steps=30)
    yield C(activation="elu", init="lecun", depth=4, learning_rate=30.0, steps=40)
    for rate in (1.0, 3.0, 10.0):  # to losses that stay finite
        yield C(activation="relu", init="he", norm="layer", depth=5, optimizer="adam", learning_rate=rate, steps=40)
        yield C(activation="gelu", init="he", norm="layer", depth=4, learning_rate=3 * rate, steps=40)
        yield C(activation="relu", init="he", norm="batch", depth=4, optimizer="lion", learning_rate=rate, steps=40)
        yield C(activation="elu", init="he", depth=4, optimizer="adam", learning_rate=0.3 * rate, steps=40)
        yield C(activation="gelu", init="he", depth=5, optimizer="lion", learning_rate=0.1 * rate, steps=40)
    for rate in (20.0, 60.0):
        yield C(activation="tanh", init="xavier", depth=3, learning_rate=rate, steps=40, loss="mse", data="synthetic")


# ---- networks of one's own


def seeded(make):
    """Build with torch's own initialization, from a seed, and leave the global generator alone."""

    def build(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return make()

    return build


def tokens(seed, count=64, length=8, width=32):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, length, width, generator=generator)
    return x, torch.randint(0, 10, (count,), generator=generator), cross_entropy


class Transformer(nn.Module):
    """Encoder layers and a head on the mean token."""

    def __init__(self, layers, pre, width=32, activation="relu"):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, activation, batch_first=True, norm_first=pre)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width) if pre else nn.Identity()
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean(dim=1))


class GptBlock(nn.Module):
    """Attention and an MLP with modules for everything; their last maps start at 0 if asked to."""

    def __init__(self, width, zero):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.gelu, self.down = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        if zero:
            nn.init.zeros_(self.project.weight)
            nn.init.zeros_(self.down.weight)

    def forward(self, x):
        query, key, value = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.project(nn.functional.scaled_dot_product_attention(query, key, value))
        return x + self.down(self.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, layers, width=32, zero=False):
        super().__init__()
        self.embed = nn.Linear(width, width)
        self.blocks = nn.ModuleList(GptBlock(width, zero) for _ in range(layers))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(dim=1))


class Recurrent(nn.Module):
    """A cell over time and a head on the last state."""

    def __init__(self, cell, hidden):
        super().__init__()
        self.cell, self.head, self.hidden = cell, nn.Linear(hidden, 10), hidden

    def forward(self, x):
        state = None
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return self.head(state[0] if isinstance(state, tuple) else state)


def rnn(kind, hidden=32, rho=None, forget=None):
    cell = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}[kind](8, hidden)
    with torch.no_grad():
        if rho is not None:
            nn.init.orthogonal_(cell.weight_hh)
            cell.weight_hh.mul_(rho)
        if forget is not None:
            cell.bias_ih[hidden : 2 * hidden] = forget
            cell.bias_hh[hidden : 2 * hidden] = 0.0
    return Recurrent(cell, hidden)


def sequence(seed, length, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (
        scale * torch.randn(32, length, 8, generator=generator),
        torch.randint(0, 10, (32,), generator=generator),
        cross_entropy,
    )


def stacked(depth, width, activation, std, norm=None, dtype=torch.float32):
    """An nn.Sequential without names; weights of variance std**2 / fan-in."""
    layers = []
    for number in range(depth - 1):
        layers += [nn.Linear(64 if number == 0 else width, width)]
        layers += [norm(width)] if norm else []
        layers += [activation()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std / math.sqrt(layer.in_features))
            nn.init.zeros_(layer.bias)
    return model.to(dtype)


def points(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(256, 64, generator=generator)
    return x.to(dtype), (x @ torch.randn(64, 10, generator=generator)).argmax(dim=1), _loss


def _loss(scores, y):
    return cross_entropy(scores if scores.dtype == torch.float64 else scores.float(), y)


class PlainCell(nn.Module):
    """h' = W h + U x without a nonlinearity."""

    def __init__(self, hidden, rho):
        super().__init__()
        self.h, self.x = nn.Linear(hidden, hidden, bias=False), nn.Linear(8, hidden)
        nn.init.orthogonal_(self.h.weight)
        self.h.weight.data.mul_(rho)

    def forward(self, x, state):
        return self.x(x) if state is None else self.h(state) + self.x(x)


def own():
    for layers in (3, 6, 12):
        for pre in (True, False):
            yield _own(
                f"transformer of {layers} layers, norm {'first' if pre else 'last'}",
                partial(Transformer, layers, pre),
                tokens,
                lambda model: list(model.layers),
            )
        for zero in (False, True):
            yield _own(
                f"GPT of {layers} layers, zero={zero}",
                partial(Gpt, layers, zero=zero),
                tokens,
                lambda model: list(model.blocks),
                steps=10 if zero else 0,
                batch=32,
            )
    yield _own(
        "transformer, GELU, 8 layers, trained",
        partial(Transformer, 8, True, activation="gelu"),
        tokens,
        lambda m: list(m.layers),
        steps=20,
        batch=32,
        optimizer=lambda p: torch.optim.Adam(p, lr=1e-3),
    )
    for length in (15, 30, 50):
        for kind in ("rnn", "gru", "lstm"):
            yield _rnn(f"default {kind} over {length} steps", partial(rnn, kind), length)
        yield _rnn(f"LSTM, forget bias 5, over {length} steps", partial(rnn, "lstm", forget=5.0), length)
        yield _rnn(f"tanh RNN, rho 1.8, over {length} steps", partial(rnn, "rnn", rho=1.8), length, 0.05)
        yield _rnn(f"linear RNN, rho 1, over {length} steps", lambda: Recurrent(PlainCell(32, 1.0), 32), length)
        yield _rnn(f"linear RNN, rho 1.2, over {length} steps", lambda: Recurrent(PlainCell(32, 1.2), 32), length)
        yield _rnn(f"linear RNN, rho 0.8, over {length} steps", lambda: Recurrent(PlainCell(32, 0.8), 32), length)
    for depth in (6, 12, 24):
        yield _own(
            f"nn.Sequential, ReLU, He, depth {depth}", partial(stacked, depth, 64, nn.ReLU, math.sqrt(2)), points, maps
        )
        yield _own(f"nn.Sequential, sigmoid, depth {depth}", partial(stacked, depth, 64, nn.Sigmoid, 1.0), points, maps)
        yield _own(
            f"nn.Sequential, ReLU, LayerNorm, depth {depth}",
            partial(stacked, depth, 64, nn.ReLU, 1.0, nn.LayerNorm),
            points,
            maps,
        )
        yield _own(
            f"nn.Sequential, ReLU, He x 2, depth {depth}", partial(stacked, depth, 64, nn.ReLU, 2.8), points, maps
        )
        yield _own(
            f"nn.Sequential, ReLU, BatchNorm, depth {depth}",
            partial(stacked, depth, 64, nn.ReLU, 1.0, nn.BatchNorm1d),
            points,
            maps,
        )
        yield _own(
            f"nn.Sequential, ReLU, all weights / 100, depth {depth}",
            partial(stacked, depth, 64, nn.ReLU, 0.014),
            points,
            maps,
        )
    for rate in (1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.3):
        for depth in (4, 8):
            yield _half(f"bfloat16 ReLU net of depth {depth}, lr {rate}", depth, nn.ReLU, 1.4, rate)
            yield _half(f"bfloat16 tanh net of depth {depth}, lr {rate}", depth, nn.Tanh, 1.0, rate)
    for rate in (1e-5, 1e-4):
        yield _own(
            f"float32 ReLU net, lr {rate}",
            partial(stacked, 6, 64, nn.ReLU, 1.4),
            points,
            maps,
            steps=20,
            batch=64,
            optimizer=partial(torch.optim.SGD, lr=rate),
        )


def maps(model):
    return [module for module in model if isinstance(module, nn.Linear)][:-1]


def _own(name, make, data, stream, **options):
    return Net(name, seeded(make), data, stream, **options)


def _rnn(name, make, length, scale=1.0):
    cells = lambda model: [model.cell]  # noqa: E731
    return _own(name, make, partial(sequence, length=length, scale=scale), cells, per_call=True, batch=32)


def _half(name, depth, activation, std, rate):
    return _own(
        name,
        partial(stacked, depth, 64, activation, std, dtype=torch.bfloat16),
        partial(points, dtype=torch.bfloat16),
        maps,
        steps=20,
        batch=64,
        dtype=torch.bfloat16,
        optimizer=partial(torch.optim.SGD, lr=rate),
    )
