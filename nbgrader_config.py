"""Settings for a course that runs nbgrader: solutions/ is its source, exercises/ its release.

nbgrader lives in an environment of its own, with gradcourse installed there too; the course does without it.
`nbgrader generate_assignment 03_sigmoid_tanh_vanishing` in the repository's root writes what `gradcourse build`
derives, and enters the sheet into nbgrader's gradebook.
"""

import os

c = get_config()  # noqa: F821  (nbgrader defines it)

c.CourseDirectory.course_id = "gradcourse"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"

# generate_assignment copies every other file of a sheet's folder into the release: hidden.py must not be among them.
c.CourseDirectory.ignore = ["hidden.py", "__pycache__", "*.pyc", ".*", "*.part", "feedback"]

# A release is always made anew from its source; without this an existing one is left as it is, without an error.
c.GenerateAssignment.force = True

# The first cell imports torch, and a full machine takes its time.
c.Execute.timeout = 300

# What is graded here is not kept as the instructor's own progress.
os.environ["GRADCOURSE_UNATTENDED"] = "1"
