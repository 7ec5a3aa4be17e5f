"""Progress: a bar where someone watches, nothing where output is kept or compared."""

import sys


class Progress:
    """Shows how far a sweep is, counted in steps of single runs.

    Args:
        plan: the Plan.
    """

    def __init__(self, plan):
        self._plan, self._bar = plan, None

    def __enter__(self):
        if someone_watches():
            from tqdm import tqdm  # here, since most sweeps in tests and built lessons show nothing

            total = sum(max(config.steps, 1) for config in self._plan.configs)
            self._bar = tqdm(total=total, desc=self._plan.text, unit="step", leave=False, file=sys.stderr)
        return self

    def __exit__(self, *exception):
        if self._bar is not None:
            self._bar.close()
        return False

    def steps(self, number):
        """Note that steps were done, by so many runs together."""
        if self._bar is not None:
            self._bar.update(number)


def someone_watches():
    """Whether output goes to a person: to a terminal, or to a notebook whose cells are run by hand.

    A program that runs a notebook (nbclient, nbval) says with each cell that it can't answer questions; JupyterLab
    says that it can.
    """
    ipython = sys.modules.get("IPython")
    kernel = getattr(ipython and ipython.get_ipython(), "kernel", None)
    if kernel is not None:
        return bool(getattr(kernel, "_allow_stdin", False))
    return sys.stderr is not None and sys.stderr.isatty()
