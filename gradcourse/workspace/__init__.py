"""Where a learner works: the machine, her own copy of the lessons, and JupyterLab on top of both."""

from gradcourse.machine import available_cpus
from gradcourse.workspace.places import UserError

__all__ = ["UserError", "available_cpus"]
