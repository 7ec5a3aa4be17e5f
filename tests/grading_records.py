"""Records of grading as the engine yields them, for the tests of what is made from them."""

import copy

SLUG = "03_sigmoid_tanh_vanishing"
POINTS = {"03-q1": 3.0, "03-q2": 2.0, "03-q3": 4.0, "03-q4": 3.0}


def record(student, scores=(3.0, 2.0, 4.0, 3.0), messages=None, mistakes=None, **extra):
    """A record of sheet 03; scores by question in order, messages and mistakes by question id."""
    tests, cases = [], {}
    for (name, most), score in zip(POINTS.items(), scores, strict=True):
        right = score == most
        message = (messages or {}).get(name, "right on all 5 visible cases.")
        status = "passed" if right else "failed"
        told = {"name": name, "score": float(score), "max_score": most, "status": status}
        tests.append(told | {"output": message, "visibility": "visible"})
        mistake = (mistakes or {}).get(name, "")
        cases[name] = {"visible": [5 if score else 0, 5], "hidden": [8 if right else 0, 8], "mistake": mistake}
    known = {"student": student, "lms_id": "", "slug": SLUG, "file": f"{student}/{SLUG}.ipynb", "sandbox": "bubblewrap"}
    known |= {"seed": "0123", "versions": {"torch": "2"}, "cases": cases, "notes": []}
    total = float(sum(scores))
    return copy.deepcopy(
        {
            "score": total,
            "max_score": 12.0,
            "execution_time": 0.25,
            "output": f"{total:g} of 12 points.",
            "visibility": "after_published",
            "stdout_visibility": "hidden",
            "tests": tests,
            "extra_data": known | extra,
        }
    )
