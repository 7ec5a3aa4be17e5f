"""What recording costs: a training loop under gc.Recorder over the same loop alone, and beside other ways to record.

    python benchmarks/recorder.py            MLP, transformer, conv net
    python benchmarks/recorder.py --growth   cost by depth, width, batch and parameters, as a table and a picture

One thread. All of the recorder's work counts: entering, every step, leaving, and reading the trace at the end. The
"bare again" row is an identical bare loop: it shows how far the machine's noise reaches.
"""

import argparse
import importlib.util
import os
import tempfile

import torch
from side_by_side import print_table, ratios
from torch import nn
from torch.nn.functional import cross_entropy

import gradcourse as gc

STEPS = 60


def mlp(depth=50, width=64):
    layers = []
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


class Transformer(nn.Module):
    """Four pre-norm encoder layers, width 64, 16 tokens."""

    def __init__(self):
        super().__init__()
        block = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(block, 4, enable_nested_tensor=False)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.body(x).mean(dim=1))


def conv(depth=20, channels=16):
    layers = [nn.Conv2d(1, channels, 3, padding=1), nn.ReLU()]
    for _ in range(depth - 2):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16 * channels, 10))


def trainer(make, shape):
    """Return train(recording, steps): a fresh model, trained under what `recording(model, optimizer)` opens."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(shape, generator=generator), torch.randint(0, 10, shape[:1], generator=generator)

    def train(recording, steps=STEPS):
        torch.manual_seed(0)
        model = make()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        with recording(model, optimizer) as recorder:
            for _ in range(steps):
                optimizer.zero_grad()
                cross_entropy(model(x), y).backward()
                optimizer.step()
        return recorder

    return train


class Bare:
    def __init__(self, model, optimizer):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


class ItemHooks(Bare):
    """What one writes first: a hook per layer that calls .item(), and .item() per gradient and weight."""

    def __init__(self, model, optimizer):
        self.model, self.optimizer, self.values = model, optimizer, []

    def __enter__(self):
        own = [module for module in self.model.modules() if not list(module.children())]
        self.handles = [module.register_forward_hook(self._forward) for module in own]
        self.handles.append(self.optimizer.register_step_post_hook(self._step))
        return self

    def _forward(self, module, inputs, output):
        if isinstance(output, torch.Tensor):
            self.values.append((output.detach().pow(2).mean().sqrt().item(), output.detach().std().item()))

    def _step(self, optimizer, args, kwargs):
        for parameter in self.model.parameters():
            self.values.append((parameter.grad.norm().item(), parameter.detach().norm().item()))

    def __exit__(self, *exception):
        for handle in self.handles:
            handle.remove()


class TensorBoardScalars(ItemHooks):
    """The same numbers as TensorBoard scalars."""

    def __enter__(self):
        from torch.utils.tensorboard import SummaryWriter

        self.folder = tempfile.TemporaryDirectory()
        self.writer, self.number = SummaryWriter(self.folder.name), 0
        return super().__enter__()

    def _step(self, optimizer, args, kwargs):
        super()._step(optimizer, args, kwargs)
        for index, (one, two) in enumerate(self.values):
            self.writer.add_scalar(f"one/{index}", one, self.number)
            self.writer.add_scalar(f"two/{index}", two, self.number)
        self.values, self.number = [], self.number + 1

    def __exit__(self, *exception):
        super().__exit__(*exception)
        self.writer.close()
        self.folder.cleanup()


class WandbWatch(Bare):
    """wandb.watch of gradients and parameters at every step, offline."""

    def __init__(self, model, optimizer):
        import wandb

        os.environ["WANDB_SILENT"] = "true"
        self.folder = tempfile.TemporaryDirectory()
        self.run = wandb.init(mode="offline", dir=self.folder.name)
        self.run.watch(model, log="all", log_freq=1)
        optimizer.register_step_post_hook(lambda *_: self.run.log({"step": 1}))

    def __exit__(self, *exception):
        self.run.finish()
        self.folder.cleanup()


def cockpit_trainer(make, shape):
    """Return train(steps) under Cockpit's cheapest set of quantities; it asks for a loop of its own."""
    from backpack import extend
    from cockpit import Cockpit
    from cockpit.utils.configuration import configuration

    x, y = torch.randn(shape), torch.randint(0, 10, shape[:1])

    def train(steps=STEPS):
        model, loss_fn = extend(make()), extend(nn.CrossEntropyLoss())
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        cockpit = Cockpit(list(model.parameters()), quantities=configuration("economy"))
        for step in range(steps):
            optimizer.zero_grad()
            scores = model(x)
            loss, losses = loss_fn(scores, y), cross_entropy(scores, y, reduction="none")
            info = {"batch_size": len(x), "individual_losses": losses, "loss": loss, "optimizer": optimizer}
            with cockpit(step, info=info):
                loss.backward(create_graph=cockpit.create_graph(step))
            optimizer.step()

    return train


def recorder(**options):
    def opened(model, optimizer):
        return gc.Recorder(model, optimizer, **options)

    return opened


def contestants(train, steps=STEPS, rivals=True):
    ways = {
        "bare": Bare,
        "bare again": Bare,
        "Recorder, all": recorder(),
        "Recorder, gradients only": recorder(statistics=("weight_gradient",)),
        "Recorder, all, every 10th step": recorder(every=10),
    }
    if rivals:
        ways[".item() in hooks, without delta"] = ItemHooks
        ways |= {"TensorBoard scalars of these": TensorBoardScalars} if _installed("tensorboard") else {}
        ways |= {"wandb.watch, offline": WandbWatch} if _installed("wandb") else {}

    def work(recording):
        def run():
            recorded = train(recording, steps)
            if isinstance(recorded, gc.Recorder):
                recorded.trace  # noqa: B018  # reading counts too

        return run

    return {name: work(recording) for name, recording in ways.items()}


def _installed(name):
    return importlib.util.find_spec(name) is not None


def compare(rounds):
    settings = {
        "MLP 50 x 64, tanh, batch 128": trainer(mlp, (128, 64)),
        "transformer, 4 layers of width 64, 32 x 16 tokens": trainer(Transformer, (32, 16, 64)),
        "conv net, 20 layers of 16 channels, batch 64": trainer(conv, (64, 1, 8, 8)),
    }
    for number, (title, train) in enumerate(settings.items()):
        ways = contestants(train, rivals=number == 0)
        if number == 0 and _installed("cockpit"):  # not in the bench extra: it needs a setuptools below 80
            ways["Cockpit, economy"] = cockpit_trainer(mlp, (128, 64))
        print_table(title, ratios(ways, rounds), per=STEPS)


def growth(rounds, picture):
    """Print and draw the ratio of the full recording as one size grows."""
    axes = {
        "depth": [(depth, lambda depth=depth: mlp(depth), (128, 64)) for depth in (10, 50, 200)],
        "width": [(w, lambda w=w: mlp(10, w), (128, w)) for w in (16, 64, 256, 1024)],
        "batch": [(b, lambda: mlp(20), (b, 64)) for b in (16, 128, 1024, 8192)],
        "million parameters": [(round(9 * w * w / 1e6, 1), lambda w=w: mlp(10, w), (32, w)) for w in (333, 1054, 2357)],
    }
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3), layout="constrained")
    for ax, (name, sizes) in zip(figure.subplots(1, len(axes), sharey=True), axes.items(), strict=True):
        points = []
        for size, make, shape in sizes:
            train = trainer(make, shape)
            ways = {key: work for key, work in contestants(train, 12, rivals=False).items() if key != "bare again"}
            result = ratios(ways, rounds)
            print_table(f"{name} {size}", result, per=12)
            points.append((size, result["Recorder, all"][1]))
        ax.plot(*zip(*points, strict=True), "o-", color="#0072B2")
        ax.set_xscale("log")
        ax.set_xlabel(name)
        ax.axhline(1.0, color="black", linewidth=0.8)
    figure.axes[0].set_ylabel("step with all recorded / bare step")
    figure.savefig(picture, dpi=120)
    print(f"\nPicture: {picture}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--picture", default="recorder_growth.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    growth(options.rounds, options.picture) if options.growth else compare(options.rounds)
