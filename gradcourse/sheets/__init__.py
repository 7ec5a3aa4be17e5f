"""Checks of the exercise sheets: a function goes in, a Result with a message that names the mistake comes out."""

from gradcourse.sheets.check import add_hidden, check, module_of, questions, run_hidden
from gradcourse.sheets.question import Case, Mistake, Question, Result, Symptom

__all__ = [
    "Case",
    "Mistake",
    "Question",
    "Result",
    "Symptom",
    "add_hidden",
    "check",
    "module_of",
    "questions",
    "run_hidden",
]
