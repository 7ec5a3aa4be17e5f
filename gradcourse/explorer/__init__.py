"""Explorers: sliders beside a picture that follows the hand, one for the question of each lesson.

``gc.explorer.gradients()`` and its kin return an Explorer; ``gc.Explorer(name, draw, depth=Slider(...))`` makes one.
"""

from gradcourse.explorer.activations import activation_functions
from gradcourse.explorer.clipping import clipping
from gradcourse.explorer.controls import Menu, Slider, Toggle
from gradcourse.explorer.live import Explorer
from gradcourse.explorer.normalization import batchnorm
from gradcourse.explorer.phases import phase_diagram
from gradcourse.explorer.picture import Axis, Panel, Picture
from gradcourse.explorer.products import matrix_products
from gradcourse.explorer.profile import gradients
from gradcourse.explorer.race import optimizer_race
from gradcourse.explorer.skips import residual

__all__ = [
    "Axis",
    "Explorer",
    "Menu",
    "Panel",
    "Picture",
    "Slider",
    "Toggle",
    "activation_functions",
    "batchnorm",
    "clipping",
    "gradients",
    "matrix_products",
    "optimizer_race",
    "phase_diagram",
    "residual",
]
