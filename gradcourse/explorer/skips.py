"""Lesson 08: what the scale of the residual branches does to signal and gradient."""

import numpy as np

from gradcourse.explorer.controls import Slider, Toggle
from gradcourse.explorer.live import Explorer
from gradcourse.explorer.networks import stream
from gradcourse.explorer.picture import SOFT, Axis, Panel, Picture
from gradcourse.recording import factor_per_layer

_MOST = 64  # blocks
_LARGEST = 1.2  # scale
_SIZE = Axis("RMS, relative", 1e-6, 1e10, log=True)
_GRADIENT, _SIGNAL = {"colour": 0, "marker": "o"}, {"colour": 1, "marker": "^"}


def residual():
    """Return the Explorer of branch scale, number of blocks and skips against signal and gradient along the stream."""
    stream(_MOST, "relu", scale=1.0)  # draws the weights, which would hold up the first move
    return Explorer(
        "How large may a residual branch be?",
        _draw,
        id="08-x1",
        scale=Slider("scale of branches, alpha", 1.0, 0.0, _LARGEST, step=0.01),
        blocks=Slider("blocks", 32, 4, _MOST),
        skip=Toggle("skip connections", True),
    )


def _draw(scale, blocks, skip):
    signal, delta = stream(blocks, "relu", scale=scale, skip=skip)
    with np.errstate(divide="ignore", invalid="ignore"):  # 0/0: without skips and branches nothing arrives
        signal, delta = signal / signal[0], delta / delta[-1]
    return Picture(
        (_along(signal, delta, _factor(scale, skip)), _over_scales(scale, blocks, skip, delta)),
        _words(scale, blocks, skip, signal, delta),
    )


def _factor(scale, skip):
    """Return the factor of the mean square per block in theory: ReLU, He's weights."""
    return skip + scale**2


def _along(signal, delta, factor):
    block = np.arange(len(signal))
    panel = Panel(
        "Along the stream",
        Axis("blocks from the input", -1, _MOST + 1, ticks={n: str(n) for n in range(0, _MOST + 1, 16)}),
        _SIZE,
    )
    panel.line(block, signal, "signal x", **_SIGNAL)
    panel.line(block, delta, "gradient dL/dx", **_GRADIENT)
    panel.line(block, factor ** (block / 2), "theory", width=1.5)
    panel.line(block, factor ** ((block[-1] - block) / 2), width=1.5)
    return panel


def _over_scales(scale, blocks, skip, delta):
    scales = np.linspace(0, _LARGEST, 121)
    panel = Panel("Gradient, last to first block", Axis("scale of the branches, alpha", -0.03, _LARGEST + 0.03), _SIZE)
    for row, (mark, name) in enumerate(((blocks**-0.5, "1/sqrt(blocks)"), (1.0, "no scale")), start=1):
        panel.line([mark, mark], [_SIZE.low, _SIZE.high], colour=SOFT, dash=":", width=1.5)
        panel.text(mark + 0.015, _SIZE.low, name, lift=18 * row - 10, anchor="start")
    panel.line(scales, _factor(scales, skip) ** (blocks / 2), "theory", width=1.5)
    panel.point(scale, delta[0], "measured", colour=0)
    return panel


def _words(scale, blocks, skip, signal, delta):
    theory, count = _factor(scale, skip), f"{blocks} blocks {'with' if skip else 'without'} skips"
    measured = factor_per_layer(delta) ** 2
    if scale == 0 and not skip:
        return f"{count}, alpha = 0: the branches are 0, and neither signal nor gradient gets through."
    return (
        f"{count}, alpha = {scale:.3g}: per block the mean square of the gradient is multiplied by {measured:.3g}, "
        f"theory says {theory:.3g}. Over all blocks the size of the gradient changes by a factor of {delta[0]:.2g}, "
        f"theory {theory ** (blocks / 2):.2g}, and that of the signal by {signal[-1]:.2g}."
    )
