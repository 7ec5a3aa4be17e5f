"""Explorers: sliders beside a picture that follows the hand, one for the question of each lesson.

``gc.explorer.gradients()`` and its kin return an Explorer; ``gc.Explorer(name, draw, depth=Slider(...))`` makes one.
"""

from gradcourse.explorer.clipping import clipping
from gradcourse.explorer.controls import Menu, Slider, Toggle
from gradcourse.explorer.live import Explorer
from gradcourse.explorer.normalization import batchnorm
from gradcourse.explorer.picture import Axis, Panel, Picture
from gradcourse.explorer.profile import gradients
from gradcourse.explorer.skips import residual

__all__ = [
    "Axis",
    "Explorer",
    "Menu",
    "Panel",
    "Picture",
    "Slider",
    "Toggle",
    "batchnorm",
    "clipping",
    "gradients",
    "residual",
]
