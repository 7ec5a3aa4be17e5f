"""Notebooks that random changes have made of right ones: each is graded, and none gets more than the right one."""

import json
import random

import pytest
from test_grading import SHEETS, solved

from gradcourse.grading.engine import Grader
from gradcourse.grading.jobs import Limits, Settings
from gradcourse.grading.notebook import Submission

BATCH = 50
TOKENS = (
    "0",
    "1",
    "-",
    "*",
    "(",
    ")",
    ":",
    "None",
    "while True:",
    "return",
    "\n",
    " ",
    '"',
    "\x00",
    "\ud800",
    "%",
    "é",
    "!",
)


def change_text(rng, text):
    """Delete, double, swap or insert lines or letters."""
    lines = text.split("\n")
    place = rng.randrange(len(lines))
    kind = rng.randrange(5)
    if kind == 0:
        del lines[place]
    elif kind == 1:
        lines.insert(place, lines[rng.randrange(len(lines))])
    elif kind == 2:
        letters = list(lines[place])
        if letters:
            letters[rng.randrange(len(letters))] = rng.choice(TOKENS)
        lines[place] = "".join(letters)
    elif kind == 3:
        at = rng.randrange(len(lines[place]) + 1)
        lines[place] = lines[place][:at] + rng.choice(TOKENS) + lines[place][at:]
    else:
        lines = lines[:place]
    return "\n".join(lines)


def change_notebook(rng, notebook):
    """Change cells, their texts or their form."""
    cells = notebook["cells"]
    place = rng.randrange(len(cells))
    kind = rng.randrange(9)
    if kind < 5:
        cell = cells[place]
        source = cell.get("source")  # may be anything by now
        whole = isinstance(source, str | list) and all(isinstance(part, str) for part in source)
        cell["source"] = change_text(rng, "".join(source) if whole else "")
    elif kind == 5:
        del cells[place]
    elif kind == 6:
        cells.insert(rng.randrange(len(cells)), json.loads(json.dumps(cells[place])))
    elif kind == 7:
        cells.insert(rng.randrange(len(cells)), cells.pop(place))
    else:
        name = rng.choice(list(cells[place]))
        cells[place][name] = rng.choice([None, 3, [], {}, "x", [1], {"nbgrader": {"grade_id": 3}}])


def change_bytes(rng, content):
    at = rng.randrange(len(content))
    return content[:at] + bytes([rng.randrange(256)]) * rng.randrange(4) + content[at + rng.randrange(3) :]


def mutant(rng, slug):
    notebook = solved(slug)
    for _ in range(rng.randint(1, 4)):
        if notebook["cells"]:
            change_notebook(rng, notebook)
    content = json.dumps(notebook).encode()
    return change_bytes(rng, content) if rng.random() < 0.1 else content


@pytest.fixture(scope="module")
def grader_of():
    opened = {}

    def grader(slug):
        if slug not in opened:
            limits = Limits(cell=2.0, call=2.0, submission=30.0)
            opened[slug] = Grader(Settings(slug, "mutation", limits=limits))
        return opened[slug]

    yield grader
    for one in opened.values():
        one.close()


BATCHES = [pytest.param(seed, marks=() if seed < 4 else pytest.mark.slow) for seed in range(40)]


@pytest.mark.parametrize("seed", BATCHES)
def test_mutants_are_graded_and_get_no_more_than_the_right_one(seed, grader_of, tmp_path):
    slug = list(SHEETS)[seed % len(SHEETS)]
    rng, grader = random.Random(seed), grader_of(slug)
    less = 0
    for number in range(BATCH):
        path = tmp_path / f"{number}.ipynb"
        path.write_bytes(mutant(rng, slug))
        record = grader.grade(Submission(f"s{number}", path.name, path))
        json.dumps(record, allow_nan=False)
        assert 0 <= record["score"] <= record["max_score"]
        assert record["score"] == pytest.approx(sum(test["score"] for test in record["tests"]))
        less += record["score"] < record["max_score"]
    assert less > BATCH // 10  # mutations matter
    path.write_text(json.dumps(solved(slug)), encoding="utf-8")
    after = grader.grade(Submission("after", path.name, path))
    assert after["score"] == after["max_score"]
