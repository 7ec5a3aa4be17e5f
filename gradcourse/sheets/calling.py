"""Calling a learner's function: whatever it does comes back as an Outcome, never as an exception."""

import contextlib
import copy
import inspect
import io
import sys
import threading
import traceback
import warnings
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module

import numpy as np
import torch
from torch import nn

from gradcourse.training import Trained

_PARTS = (str, tuple, np.ndarray, torch.Tensor, type(None))  # a list of these is a tuple, of numbers an array
_set_profile = sys.setprofile  # a grader takes these names away from the code that it runs
_set_profile_of_threads = getattr(threading, "setprofile_all_threads", threading.setprofile)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Outcome:
    """What one call gave.

    Attributes:
        value: the returned value as plain numbers: floats, float64 arrays, strings, tuples of these and of None.
        problem: why there is no value that can be compared; empty if there is one.
        exception: name of the exception's type, if the call raised.
        integers: whether numbers came back as integers.
        refused: dotted name of a refused function that was called; empty if none was.
    """

    value: object = None
    problem: str = ""
    exception: str = ""
    integers: bool = False
    refused: str = ""


def call(function, arguments, refused=(), in_place=False, read=None):
    """Call a function and return the Outcome.

    Args:
        function: the learner's.
        arguments: it is given its own copy of them, to be changed only if `in_place`.
        refused: dotted names of functions that it must not call.
        in_place: whether it is asked to change its arguments.
        read: what turns the returned value into plain data, or raises ValueError; None: `plain`.
    """
    given = copy.deepcopy(arguments)
    calls = []
    try:
        with quiet(), _noting_calls(refused, calls):
            value = function(*given)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: an answer must not end the kernel
        return Outcome(problem=_told(error, function), exception=type(error).__name__, refused=(calls or [""])[0])
    if calls:
        return Outcome(refused=calls[0])
    for number, pair in enumerate(zip(given, arguments, strict=True), 1):
        if left := _hooks(pair[0]) - _hooks(pair[1]):
            return Outcome(problem=_told_hooks(left, number))
    changed = [number for number, pair in enumerate(zip(given, arguments, strict=True), 1) if not _same(*pair)]
    if changed and not in_place:
        return Outcome(problem=f"changed its argument number {changed[0]} in place: work on a copy")
    try:
        return Outcome(value=(read or plain)(value), integers=_is_integer(value))
    except ValueError as error:
        return Outcome(problem=str(error))


def takes(function, count):
    """Whether a function can be called with this many positional arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # some built-in functions have no signature
        return True
    return True


@contextlib.contextmanager
def quiet():
    """Keep standard error empty (nbgrader gives 0 points for it) and warnings unseen."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _noting_calls(names, calls):
    """Append the dotted name of each refused function that is called, under whatever name it was imported."""
    if not names:
        yield
        return
    targets = {_resolve(name): name for name in names}
    codes = {getattr(inspect.unwrap(target), "__code__", None): name for target, name in targets.items()}

    def profile(frame, event, argument):
        if event == "call" and frame.f_code in codes:
            calls.append(codes[frame.f_code])
        elif event == "c_call" and any(argument is target for target in targets):
            calls.append(targets[argument])

    previous, of_threads = sys.getprofile(), threading.getprofile()
    _set_profile_of_threads(profile)
    _set_profile(profile)
    try:
        yield
    finally:
        _set_profile_of_threads(of_threads)
        _set_profile(previous)


def _resolve(dotted):
    module, _, rest = dotted.partition(":")
    target = import_module(module)
    for name in rest.split("."):
        target = getattr(target, name)
    return target


def _told(error, function):
    """Describe an exception by its type, its text and the learner's own line that raised it."""
    if isinstance(error, NotImplementedError):
        return "is not answered yet"
    home = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == home and frame.line]
    where = f", at `{lines[-1].strip()}`" if lines else ""
    text = " ".join(str(error).split())
    return f"raised {type(error).__name__}{': ' + text if text else ''}{where}"


def plain(value):
    """Turn a returned value into plain floats, float64 arrays, strings and tuples of these and of None.

    Raises:
        ValueError: for what can't be compared; the message continues "your function ...".
    """
    if value is None:
        raise ValueError("returned None: does it end with return?")
    return _plain_part(value)


def _plain_part(value):
    if value is None or isinstance(value, str):
        return value and value.strip().lower()
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().resolve_conj()
        value = value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
    if isinstance(value, tuple):
        return tuple(map(_plain_part, value))
    if isinstance(value, list) and any(isinstance(item, _PARTS) for item in value):
        return tuple(map(_plain_part, value))
    return _plain_array(value)


def data(value):
    """Turn a returned value into data of built-in types: None, truth values, numbers, strings, arrays, lists and dicts.

    A Trained network is data too; its arrays are taken, and nothing that it says of itself.

    Raises:
        ValueError: for anything else; the message continues "your function ...".
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Trained):
        if not isinstance(value.state, dict):
            raise ValueError(f"returned a Trained whose state is a {type(value.state).__name__}, not a dict of arrays")
        return Trained(value.config, {str(name): np.array(array) for name, array in value.state.items()})
    if isinstance(value, dict):
        return {str(name): data(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [data(part) for part in value]
    array = _plain_array(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value)
    return array if np.ndim(array) else array.item() if isinstance(array, np.ndarray) else array


def _plain_array(value):
    if isinstance(value, nn.Module):  # a Sequential would be read as a list of its modules
        raise ValueError(f"returned a {type(value).__name__}, which is not a number or an array of numbers")
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError("returned rows of different lengths") from None
    if array.dtype.kind not in "iufb":
        raise ValueError(f"returned a {type(value).__name__}, which is not a number or an array of numbers")
    array = array.astype(np.float64)
    return float(array) if array.ndim == 0 else array


def _is_integer(value):
    if isinstance(value, torch.Tensor):
        return not value.dtype.is_floating_point
    return isinstance(value, (int, np.integer)) or (isinstance(value, np.ndarray) and value.dtype.kind in "iu")


def _hooks(argument):
    """Count the hooks on a module and all modules in it; 0 for anything else."""
    modules = argument.modules() if isinstance(argument, nn.Module) else ()
    return sum(len(getattr(module, name)) for module in modules for name in _HOOKS)


def _told_hooks(left, number):
    hooks = f"{abs(left)} hook{'s' if abs(left) > 1 else ''}"
    if left < 0:
        return f"removed {hooks} from its argument number {number} that it did not add"
    return (
        f"left {hooks} on its argument number {number}, to run in every later pass: keep the handles and remove() each "
        "before you return"
    )


def _same(left, right):
    """Whether two arguments are equal, arrays by their entries (NaN equals NaN), modules by their state."""
    if isinstance(left, nn.Module):
        states = (module.state_dict() | {"training": torch.tensor(module.training)} for module in (left, right))
        return all(_same(*pair) for pair in zip(*(state.values() for state in states), strict=True))
    if isinstance(left, torch.Tensor):
        return torch.equal(torch.nan_to_num(left.detach()), torch.nan_to_num(right.detach()))
    if isinstance(left, np.ndarray):
        return left.shape == right.shape and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(_same, left, right))
    if is_dataclass(left):
        return all(_same(getattr(left, part.name), getattr(right, part.name)) for part in fields(left))
    return callable(left) or left == right or left != left  # NaN
