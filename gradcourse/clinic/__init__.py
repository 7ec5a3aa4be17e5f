"""The clinic: networks that fail by hidden causes, and which cure helps which disease."""

from gradcourse.clinic.causes import CAUSES, Cause
from gradcourse.clinic.matrix import CURES, DISEASES, matrix
from gradcourse.clinic.script import Script, Treated
from gradcourse.clinic.ward import Patient, admit, ward

__all__ = ["CAUSES", "CURES", "DISEASES", "Cause", "Patient", "Script", "Treated", "admit", "matrix", "ward"]
