"""Why gradients vanish and explode, and what cures them: experiments beside their theory.

The usual beginning is ``import gradcourse as gc``. The names below are imported when they are first used, so that
``import gradcourse`` alone is fast and needs no torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME_OF = {
    "Config": "training",
    "run": "training",
    "sweep": "sweeps",
    "Sweep": "sweeps",
    "Trace": "recording",
    "Recorder": "recording",
    "measure": "recording",
    "mlp": "models",
    "digits": "data",
    "plot_gradients": "plots",
    "plot_activations": "plots",
    "plot_saturation": "plots",
    "plot_updates": "plots",
    "plot_map": "plots",
    "plot_histograms": "plots",
    "plot_loss": "plots",
    "plot_singular_values": "plots",
    "plot_phase": "plots",
    "plot_surface": "plots",
    "plot_cures": "plots",
    "compare": "plots",
    "describe": "plots",
    "Diagnosis": "diagnosis",
    "diagnose": "diagnosis",
    "Explorer": "explorer",
    "predict": "predictions",
    "reveal": "predictions",
    "Result": "sheets",
    "check": "sheets",
    "hint": "learner",
    "progress": "learner",
}
_MODULES = (
    "clinic",
    "data",
    "diagnosis",
    "explorer",
    "learner",
    "models",
    "optimizers",
    "plots",
    "predictions",
    "recording",
    "sheets",
    "theory",
    "training",
)

__all__ = sorted([*_HOME_OF, *_MODULES])


def __getattr__(name):
    if name in _HOME_OF:
        return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return [*__all__, "__version__"]
