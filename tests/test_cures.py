"""The page of cures quotes what the lessons printed, and names sections and tests that exist."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "cures" / "README.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| (?P<cure>[^|]+) \| `(?P<printed>[^`]+)` \| (?P<follows>[^|]+) "
    r"\| \[(?P<number>\d\d)\]\((?P<path>[^)]+)\) (?P<section>\d) \| `(?P<test>[^`]+)` \|$",
    re.MULTILINE,
)
ROWS = [match.groupdict() for match in ROW.finditer(PAGE)]


def words(text):
    return " ".join(text.split())


def printed(cells):
    """What the code cells of a section have printed."""
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return words(" ".join("".join(text) for text in texts))


def section(path, number):
    """The cells of a lesson's section; 0 is what stands before section 1."""
    cells, found, place = json.loads(path.read_text(encoding="utf-8"))["cells"], [], 0
    for cell in cells:
        text = "".join(cell["source"]) if cell["cell_type"] == "markdown" else ""
        for heading in re.findall(r"^## (\d) · ", text, flags=re.MULTILINE):
            place = int(heading)
        found += [cell] if place == number else []
    return found


def test_every_row_is_understood():
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| Cure |")]
    assert len(ROWS) == len(lines) > 30


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["cure"])
def test_what_a_row_quotes_was_printed_in_its_section(row):
    path = (ROOT / "docs" / "cures" / row["path"]).resolve()
    assert path.name.startswith(f"{row['number']}_")
    assert words(row["printed"].replace("\\|", "|")) in printed(section(path, int(row["section"])))


@pytest.mark.parametrize("name", sorted({row["test"] for row in ROWS}))
def test_the_slow_tests_exist(name):
    text = (ROOT / "tests" / name).read_text(encoding="utf-8")
    assert "slow" in text
    assert "def test_" in text


def test_every_lesson_with_cures_is_on_the_page():
    assert {row["number"] for row in ROWS} >= {"03", "04", "05", "06", "07", "08", "09"}
