"""Grading of submitted notebooks: the judge is not in the student's process, and believes it nothing but values."""
