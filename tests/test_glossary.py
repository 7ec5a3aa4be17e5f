"""The glossary is built from the lessons' own definitions."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "glossary" / "README.md"


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("glossary_build", PAGE.parent / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_glossary_is_what_the_lessons_say(build):
    assert PAGE.read_text(encoding="utf-8") == build.glossary()


def test_glossary_takes_the_sentence_of_a_bold_term_and_no_label(build, tmp_path):
    cells = [
        {"cell_type": "markdown", "id": "head", "source": ["**Minutes** 60"]},
        {"cell_type": "markdown", "id": "a", "source": ["Look here. The **fan-in** of a unit is $n$.\nIt counts.\n"]},
        {"cell_type": "markdown", "id": "b", "source": ["**Predict.** A **gain** is a factor."]},
        {"cell_type": "code", "id": "c", "source": ["2**3**4"]},
    ]
    lesson = tmp_path / "99_x.ipynb"
    lesson.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    found = list(build.definitions(lesson))
    assert found[0] == ("fan-in", "The **fan-in** of a unit is $n$.")
    assert [term for term, _ in found] == ["fan-in", "gain"]


def test_glossary_links_lead_to_lessons():
    links = re.findall(r"\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if link.startswith("../") and not (PAGE.parent / link).exists()] == []
