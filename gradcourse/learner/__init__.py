"""What a learner has done and what comes next: hints, her progress as a picture, the start page.

It reads the course from its folder and the learner's own record from gradcourse.journal.
"""

from gradcourse.learner.hints import hint
from gradcourse.learner.page import start_page

__all__ = ["hint", "progress", "start_page"]


def progress():
    """Draw what you have done: predictions, questions and hints of each lesson, and how good your predictions are.

    Returns:
        The Figure.
    """
    from gradcourse.learner.picture import draw  # loads matplotlib

    return draw()
