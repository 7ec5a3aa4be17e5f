"""Eight networks that fail, drawn from a seed."""

from dataclasses import dataclass, field

import numpy as np

from gradcourse.clinic.causes import CAUSES
from gradcourse.clinic.script import Script, train

_OF_GRADIENT, _OTHERS = 5, 3
_NAMES = "ABCDEFGH"


@dataclass(frozen=True)
class Patient:
    """A network that fails by a cause that its repr does not tell.

    Attributes:
        name: a letter.
        cause: name of the Cause.
        script: how it is trained.
    """

    name: str
    cause: str = field(repr=False)
    script: Script = field(repr=False)

    @property
    def trace(self):
        """The Trace of its training, without the Config."""
        return train(self.script).trace

    def treat(self, **changes):
        """Train it with something changed and return what came of it.

        Args:
            **changes: fields of Config, or `labels`, `zero_grad`, `softmax`, `running_momentum` (see Script).

        Returns:
            A Treated: its `trace` and its `trained` network.

        Raises:
            ValueError, TypeError: for a name that can't be changed and a value that is not allowed.
        """
        return train(self.script.changed(**changes))


def admit(cause, seed=0, name="A"):
    """Return a Patient with a cause, its details drawn from a seed.

    Raises:
        ValueError: for an unknown cause.
    """
    if cause not in CAUSES:
        raise ValueError(f"admit({cause!r}): a cause is one of {', '.join(CAUSES)}")
    rng = np.random.default_rng([seed, list(CAUSES).index(cause)])
    return Patient(name, cause, CAUSES[cause].draw(rng, seed))


def ward(seed=0):
    """Return eight Patients by name: five with a gradient that is sick, three with another cause, in random order.

    Args:
        seed: a whole number >= 0; another one gives other causes, other networks and another order.
    """
    rng = np.random.default_rng([seed, len(CAUSES)])
    groups = ([name for name, cause in CAUSES.items() if cause.of_gradient is of] for of in (True, False))
    drawn = [
        rng.choice(group, count, replace=False) for group, count in zip(groups, (_OF_GRADIENT, _OTHERS), strict=True)
    ]
    causes = rng.permutation(np.concatenate(drawn))
    return {name: admit(str(cause), seed, name) for name, cause in zip(_NAMES, causes, strict=True)}
