"""Builds the glossary from the lessons: ``python docs/glossary/build.py [file]``.

A lesson defines a term where it first stands: the term is bold there, and its sentence is the definition, with the one
before it where it begins "This".
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOTEBOOKS = HERE.parent.parent / "notebooks"

HEAD = """# Glossary

Each term in the sentence that defines it, and the lesson where it stands.

Derived: change the lesson and run `python docs/glossary/build.py`.
"""
_BOLD = re.compile(r"(?<!\*)\*\*([^*\n]+?)\*\*")
_SENTENCE_ENDS = re.compile(r"(?<=[.?!])\s+(?=[A-Z*`$\"(])")
_NOT_TEXT = ("head", "not-fixed")  # cells whose bold words are labels


def definitions(lesson):
    """Yield (term, its sentence) in the order of a lesson."""
    for cell in json.loads(lesson.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown" and cell.get("id") not in _NOT_TEXT:
            for paragraph in re.split(r"\n\s*\n|\n(?=[*#-] )", "".join(cell["source"])):
                text = " ".join(re.sub(r"^([*#-]+|\d+\.)\s", "", paragraph.strip()).split())
                before = ""
                for sentence in _SENTENCE_ENDS.split(text):
                    said = f"{before} {sentence}" if sentence.startswith("This ") else sentence
                    yield from ((term, said.strip()) for term in _BOLD.findall(sentence) if _is_term(term))
                    before = sentence


def _is_term(words):
    """A label such as "Predict." ends with a stop."""
    return words[-1] not in ".:!?"


def glossary():
    """Return the page."""
    entries = {}
    for lesson in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        for term, sentence in definitions(lesson):
            entries.setdefault(term.lower(), (term, sentence, lesson.name))
    lines = []
    for _, (term, sentence, name) in sorted(entries.items()):
        said = re.sub(r"^(Explain|Predict)\.\s*", "", sentence.replace("**", ""))
        lines.append(f"**{term}** ([{name[:2]}](../../notebooks/{name})): {said}\n")
    return HEAD + "\n" + "\n".join(lines)


if __name__ == "__main__":
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "README.md"
    page.write_text(glossary(), encoding="utf-8")
