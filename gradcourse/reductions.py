"""Norms and fractions of many tensors at once, without waiting for the device.

Python's work per tensor is what measuring costs, and fresh memory. So tensors of one shape are stacked in a buffer that
is kept, and reduced together; large ones are reduced one by one, where a copy would cost more than the call.
"""

from collections import defaultdict
from itertools import groupby

import numpy as np
import torch

SMALL = 1 << 14
"""Entries of a tensor; a larger one is not copied to be reduced with others."""

_SAFE = (1e-15, 1e15)  # float32 norms between these come from squares that neither underflow nor overflow


class Plan:
    """How a list of tensors is grouped by shape, dtype and device.

    Args:
        keys: what stands for each tensor in `order`.
        tensors: the tensors.
        marks: a mark for each, None for none; within a group tensors with the same mark stand together.
        scratch: a dict where plans that are not used at the same time keep their buffers together, so that these stay
            in the processor's cache; None: one of its own.
    """

    def __init__(self, keys, tensors, marks=None, scratch=None):
        marks = marks or [None] * len(tensors)
        groups = defaultdict(list)
        for index in sorted(range(len(tensors)), key=lambda index: str(marks[index])):
            tensor = tensors[index]
            if tensor.numel():
                alone = index if tensor.numel() > SMALL else None
                groups[tensor.shape, tensor.dtype, tensor.device, alone].append(index)
        self._keys, self._device = keys, tensors[0].device if tensors else None
        self._shapes, self._dtypes = [tensor.shape for tensor in tensors], [tensor.dtype for tensor in tensors]
        self._groups = [(indices, list(_runs(indices, keys, marks))) for indices in groups.values()]
        members = [index for indices in groups.values() for index in indices]
        self.order = [keys[index] for index in members]
        self.entries = np.array([tensors[index].numel() for index in members], dtype=np.float64)
        self._buffers = {} if scratch is None else scratch

    def fits(self, keys, tensors):
        """Whether this is the plan for these keys and tensors."""
        return (
            keys == self._keys
            and tensors[0].device == self._device
            and [tensor.shape for tensor in tensors] == self._shapes
            and [tensor.dtype for tensor in tensors] == self._dtypes
        )

    def stacks(self, tensors):
        """Yield (stack, marked runs, whether the stack may be changed); their rows are in the order of `order`.

        A marked run is (keys, mark, rows of the stack). A stack that may be changed is overwritten by the next call.
        """
        for indices, runs in self._groups:
            group = [tensors[index] for index in indices]
            if len(group) == 1:
                yield group[0].unsqueeze(0), runs, False
            else:
                yield torch.stack(group, out=self._buffer(group)), runs, True

    def _buffer(self, group):
        key = (len(group), group[0].shape, group[0].dtype, group[0].device)
        if key not in self._buffers:
            self._buffers[key] = torch.stack(group)
        return self._buffers[key]

    def norms(self, tensors, then=None):
        """Return the Euclidean norm of each tensor, in the order of `order`, float32 or float64, shape (n,).

        Args:
            tensors: the tensors.
            then: called with (keys, mark, stack, whether it may be changed) for each marked run after its norms.
        """
        norms = []
        for stack, runs, may_change in self.stacks(tensors):
            norms.append(_row_norms(stack))
            if then is not None:
                for keys, mark, rows in runs:
                    then(keys, mark, stack[rows], may_change)
        return _checked(norms, lambda: [stack for stack, _, _ in self.stacks(tensors)])


def _runs(indices, keys, marks):
    """Yield (keys, mark, rows) of neighbours with the same mark."""
    for mark, rows in groupby(range(len(indices)), key=lambda row: marks[indices[row]]):
        rows = list(rows)
        if mark is not None:
            yield [keys[indices[row]] for row in rows], mark, slice(rows[0], rows[-1] + 1)


def norms_of(stacks):
    """Return the norm of every row of some stacks, in order, float32 or float64, shape (rows,)."""
    return _checked([_row_norms(stack) for stack in stacks], lambda: stacks)


def row_norms(stack):
    """Return the norm of every row of one stack on the CPU, float32 or float64, shape (rows,).

    As `norms_of`, but only rows for whose squares float32 is too narrow are taken again in float64: where rows are
    runs of their own, one that vanishes or explodes does not slow the others down.
    """
    quick = _row_norms(stack)
    if quick.dtype == torch.float64 or _is_safe(quick):
        return quick
    lost = ~((quick > _SAFE[0]) & (quick < _SAFE[1]))
    exact = quick.double()
    exact[lost] = _row_norms(stack[lost], torch.float64)
    return exact


def _checked(rows, stacks):
    """Join norms; where float32 was too narrow for their squares take them again in float64, from `stacks()`."""
    if not rows:
        return torch.zeros(0)
    quick = torch.cat(rows) if len(rows) > 1 else rows[0]
    if quick.device.type != "cpu" or quick.dtype == torch.float64 or _is_safe(quick):
        return quick
    return torch.cat([_row_norms(stack, torch.float64) for stack in stacks()])


def _row_norms(stack, dtype=None):
    """Return the norm of each row; on a device always in float64, since asking whether it is needed would wait."""
    if dtype is None:
        dtype = _accumulator(stack) if stack.device.type == "cpu" else torch.float64
    return torch.linalg.vector_norm(_rows(stack), dim=1, dtype=dtype)


def _rows(stack):
    return stack.flatten(1) if stack.ndim > 1 else stack.unsqueeze(1)  # 0-d tensors have rows too


def _is_safe(quick):
    """Whether float32 norms on the CPU are right: none is so small or large that squares were lost."""
    low, high = _SAFE
    return all(low < norm < high for norm in quick.tolist())


def _accumulator(tensor):
    """Half precision is accumulated, and its norm kept, in float32."""
    return torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype


def fraction_beyond(stack, centre, reach, may_change):
    """Return the fraction of each row's entries that are further than `reach` from `centre`, shape (rows,)."""
    rows = _rows(stack)
    if not may_change:
        rows = rows.clone()
    if centre:
        rows.sub_(centre)
    return rows.abs_().gt_(reach).mean(dim=1, dtype=_accumulator(rows))  # as floats: sums of bools are slow


def peaks(stack):
    """Return the largest output of every unit over the batch, shape (rows, units).

    The units are the channels of images (B, C, H, W), else the last dimension.
    """
    units = 2 if stack.ndim >= 5 else stack.ndim - 1
    others = [dim for dim in range(1, stack.ndim) if dim != units]
    return stack.amax(dim=others) if others else stack.clone()
