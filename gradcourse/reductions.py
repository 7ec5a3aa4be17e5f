"""Norms and fractions of many tensors at once, without waiting for the device.

Python's work per tensor is what measuring costs, and fresh memory. So tensors of one shape are stacked in a buffer that
is kept, and reduced together; large ones are reduced one by one, where a copy would cost more than the call.
"""

from collections import defaultdict

import numpy as np
import torch

SMALL = 1 << 16
"""Entries of a tensor; a larger one is not copied to be reduced with others."""

_SAFE = (1e-15, 1e15)  # float32 norms between these come from squares that neither underflow nor overflow


class Plan:
    """How a list of tensors is grouped by shape, dtype, device and mark.

    Args:
        keys: what stands for each tensor in `order`.
        tensors: the tensors.
        marks: a mark for each; only tensors with equal marks are grouped. None: no marks.
    """

    def __init__(self, keys, tensors, marks=None):
        groups = defaultdict(list)
        for index, (tensor, mark) in enumerate(zip(tensors, marks or [None] * len(tensors), strict=True)):
            if tensor.numel():
                groups[tensor.shape, tensor.dtype, tensor.device, mark].append(index)
        self._keys, self._device = keys, tensors[0].device if tensors else None
        self._shapes, self._dtypes = [tensor.shape for tensor in tensors], [tensor.dtype for tensor in tensors]
        self._groups = [(mark, indices, [keys[index] for index in indices]) for (*_, mark), indices in groups.items()]
        members = [index for _, indices, _ in self._groups for index in indices]
        self.order = [keys[index] for index in members]
        self.entries = np.array([tensors[index].numel() for index in members], dtype=np.float64)
        self._buffers = {}

    def fits(self, keys, tensors):
        """Whether this is the plan for these keys and tensors."""
        same_layers = keys == self._keys and tensors[0].device == self._device
        shapes = [tensor.shape for tensor in tensors]
        return same_layers and shapes == self._shapes and self._dtypes == [tensor.dtype for tensor in tensors]

    def stacks(self, tensors):
        """Yield (keys, mark, stack, whether it may be changed); together the stacks' rows are in the order of `order`.

        A stack that may be changed is overwritten by the next call.
        """
        for number, (mark, indices, keys) in enumerate(self._groups):
            group = [tensors[index] for index in indices]
            if len(group) == 1 or group[0].numel() > SMALL:
                yield from (([key], mark, tensor.unsqueeze(0), False) for key, tensor in zip(keys, group, strict=True))
                continue
            if number not in self._buffers:
                self._buffers[number] = torch.stack(group)
            yield keys, mark, torch.stack(group, out=self._buffers[number]), True

    def norms(self, tensors, then=None):
        """Return the Euclidean norm of each tensor, in the order of `order`, float32 or float64, shape (n,).

        Args:
            tensors: the tensors.
            then: called with what `stacks` yields, for each stack after its norms were taken.
        """
        rows = []
        for keys, mark, stack, may_change in self.stacks(tensors):
            rows.append(_row_norms(stack))
            if then is not None:
                then(keys, mark, stack, may_change)
        return _checked(rows, lambda: [stack for _, _, stack, _ in self.stacks(tensors)])


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
    low, high = torch.aminmax(quick)
    return _SAFE[0] < float(low) and float(high) < _SAFE[1]


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
