"""Progress: a bar where someone watches, nothing where output is kept or compared, and nothing once it is done."""

import sys
from html import escape


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
            file = sys.stderr if _kernel() is None else _Line()
            self._bar = tqdm(total=total, desc=self._plan.text, unit="step", leave=False, file=file)
        return self

    def __exit__(self, *exception):
        if self._bar is not None:
            self._bar.close()
        return False

    def steps(self, number):
        """Note that steps were done, by so many runs together."""
        if self._bar is not None:
            self._bar.update(number)


class _Line:
    """A file for tqdm that shows one line below a cell and leaves no space when it is blank.

    On standard error JupyterLab would keep a coloured box of blanks; a widget would be missing in the saved notebook.
    """

    encoding = "utf-8"

    def __init__(self):
        self._handle = None

    def write(self, text):
        from IPython.display import display

        line = text.strip()
        shown = {"text/plain": line, "text/html": line and f"<pre>{escape(line)}</pre>"}
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)

    def flush(self):
        """Each line is shown when it is written."""


def someone_watches():
    """Whether output goes to a person: to a terminal, or to a notebook whose cells are run by hand.

    A program that runs a notebook (nbclient, nbval) says with each cell that it can't answer questions; JupyterLab
    says that it can.
    """
    kernel = _kernel()
    if kernel is not None:
        return bool(getattr(kernel, "_allow_stdin", False))
    return sys.stderr is not None and sys.stderr.isatty()


def _kernel():
    """Return the kernel of the notebook that this process runs, or None."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython and ipython.get_ipython(), "kernel", None)
