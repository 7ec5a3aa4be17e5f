"""The gradebook files of Canvas and Moodle: read as they are exported, one column filled, all else left as it is."""

import csv
import io
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from gradcourse.grading.records import ReportError, write_whole

_CANVAS_PERSON = ("SIS Login ID", "SIS User ID", "Integration ID", "ID")
_GRADE_TITLES = {  # the word for a grade in Moodle's languages, where "Last modified (...)" has another form of it
    *("grade", "bewertung", "note", "calificación", "nota", "valutazione", "avaliação", "cijfer", "beoordeling"),
    *("betyg", "karakter", "arvosana", "ocena", "оценка", "评分", "成绩", "評定"),
}


@dataclass
class Roster:
    """A table as a learning platform exports it.

    Attributes:
        path: of the file.
        header: titles of the columns.
        rows: the rows below, each as long as the header.
        delimiter: between cells.
        marked: whether the file begins with a byte-order mark.
        newline: at the end of a row.
    """

    path: Path
    header: list[str]
    rows: list[list[str]]
    delimiter: str
    marked: bool
    newline: str

    @classmethod
    def load(cls, path):
        """Read a CSV file in UTF-8, with commas, semicolons or tabs.

        Raises:
            ReportError: it can't be read, or holds no rows.
        """
        path = Path(path)
        try:
            data = path.read_bytes()
            text = data.decode("utf-8-sig")
            delimiter = max(",;\t", key=text.partition("\n")[0].count)
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        except OSError as error:
            raise ReportError(f"can't read {path}: {error.strerror}; name the file that you exported") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise ReportError(
                f"{path} is not CSV in UTF-8 ({error}): export it again, and don't open it before"
            ) from None
        if len(rows) < 2:
            raise ReportError(f"{path} holds no students: export it again")
        header, width = rows[0], max(map(len, rows))
        header = header + [""] * (width - len(header))
        rows = [row + [""] * (width - len(row)) for row in rows[1:] if row]
        return cls(path, header, rows, delimiter, data.startswith(b"\xef\xbb\xbf"), "\r\n" if b"\r\n" in data else "\n")

    def save(self, out):
        """Write the table in the form that it was read in."""
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self.delimiter, lineterminator=self.newline).writerows([self.header, *self.rows])
        write_whole(out, ("\ufeff" if self.marked else "") + text.getvalue())

    def column(self, title):
        """Return the place of the column with a title.

        Raises:
            ReportError: there is none.
        """
        if title not in self.header:
            titles = ", ".join(filter(None, self.header))
            raise ReportError(f"{self.path} has no column {title!r}: its columns are {titles}")
        return self.header.index(title)


@dataclass(frozen=True)
class _Person:
    """A row of a roster: how to tell who it is, the surest first."""

    row: list[str]
    name: str
    keys: tuple[frozenset[str], ...]


def fill_canvas(roster, found, title, scale):
    """Fill one assignment of an export from Canvas and leave out the others.

    Returns:
        The number of scores filled, who was graded and not matched, who was not graded.
    """
    if roster.header[:1] != ["Student"] or "ID" not in roster.header or "Section" not in roster.header:
        raise ReportError(
            f"{roster.path} is no export of Canvas' gradebook: it needs the columns Student, ID and Section"
        )
    last = roster.header.index("Section")
    place = _canvas_column(roster, last, title)
    points = next((row for row in roster.rows if row[0].strip().startswith("Points Possible")), None)
    if points is None:
        raise ReportError(f"{roster.path} has no row 'Points Possible': export it from Canvas again")
    if place is None:
        place = _new_column(roster, points, found[0])
    factor = _factor(roster, points[place], found[0]["max_score"], scale)
    start = roster.rows.index(points) + 1
    people = [_canvas_person(roster, row) for row in roster.rows[start:] if row[0].strip() != "Student, Test"]
    result = _fill(people, found, place, lambda score: f"{round(score * factor, 2):g}")
    _keep_columns(roster, [*range(last + 1), place])
    return result


def _canvas_column(roster, last, title):
    """Return the place of an assignment, by its title with or without Canvas' number; None for a new one."""
    if title is None:
        return None
    titles = dict(enumerate(roster.header[last + 1 :], start=last + 1))
    bare = {place: re.sub(r" \(\d+\)$", "", one) for place, one in titles.items()}
    places = [place for place, one in titles.items() if title == one]
    places = places or [place for place, one in bare.items() if title == one]
    if len(places) != 1:
        kind = "several columns" if places else "no column"
        raise ReportError(
            f"{roster.path} has {kind} {title!r}: give one of {', '.join(filter(None, titles.values())) or 'none'} by "
            "--column, or leave it out to have Canvas make a new assignment"
        )
    return places[0]


def _new_column(roster, points, record):
    roster.header.append(record["extra_data"]["slug"])
    for row in roster.rows:
        row.append("")
    points[-1] = f"{record['max_score']:g}"
    return len(roster.header) - 1


def _factor(roster, possible, most, scale):
    """Return what scores are multiplied by to fit the platform's maximum."""
    try:
        possible = float(possible.strip().replace(",", "."))
    except ValueError:
        raise ReportError(f"{roster.path}: the column takes no points, it says {possible!r}: choose another") from None
    if possible == most or (scale and possible > 0):
        return possible / most if scale else 1.0
    raise ReportError(
        f"{roster.path}: the column has {possible:g} points and the sheet {most:g}: set them alike there, or scale the "
        "scores with --scale"
    )


def _canvas_person(roster, row):
    cells = {title: row[place].strip() for place, title in enumerate(roster.header)}
    surname, _, first = cells["Student"].partition(",")
    names = {_folded(surname + first), _folded(first + surname)}
    ids = {cells.get(title, "").casefold() for title in _CANVAS_PERSON}
    return _Person(row, cells["Student"], (frozenset({cells["ID"]}), frozenset(ids), frozenset(names)))


def _keep_columns(roster, places):
    roster.header = [roster.header[place] for place in places]
    roster.rows = [[row[place] for place in places] for row in roster.rows]


def fill_moodle(roster, found, title, scale):
    """Fill the grades of Moodle's offline worksheet, whose titles are in the language of the course.

    Returns:
        The number of scores filled, who was graded and not matched, who was not graded.
    """
    identifier = _moodle_identifier(roster)
    place = roster.column(title) if title else _moodle_grade(roster)
    possible = roster.rows[0][place + 1] if place + 1 < len(roster.header) else ""  # the maximum stands to the right
    factor = _factor(roster, possible, found[0]["max_score"], scale)
    people = [_moodle_person(row, identifier, place) for row in roster.rows]

    def written(score):
        text = f"{score * factor:.2f}"
        return text.replace(".", ",") if "," in possible else text

    return _fill(people, found, place, written)


def _moodle_identifier(roster):
    """Return the place of the column whose cells are a word and a number, such as "Participant 7"."""
    for place in range(len(roster.header)):
        if all(re.fullmatch(r"[^\d@]+\d+", row[place].strip()) for row in roster.rows):
            return place
    raise ReportError(
        f"{roster.path} has no column like 'Participant 7': switch on the offline grading worksheet in the settings of "
        "the assignment and download it again"
    )


def _moodle_grade(roster):
    """Return the place of the grades: their title is that within "Last modified (grade)" of the same language."""
    folded = [title.strip().casefold() for title in roster.header]
    inside = {match[1] for match in (re.search(r"[(（](.+)[)）]$", title) for title in folded) if match}
    for wanted in (inside, _GRADE_TITLES):
        places = [place for place, title in enumerate(folded) if title in wanted]
        if len(places) == 1:
            return places[0]
    raise ReportError(f"{roster.path}: which column has the grades? Give one by --column: {', '.join(roster.header)}")


def _moodle_person(row, identifier, grade):
    number = re.search(r"\d+$", row[identifier].strip())[0]
    told = [cell.strip() for cell in row[identifier + 1 : grade]]  # names, addresses, the institution's numbers
    names = frozenset(_folded(cell) for cell in told)
    return _Person(
        row, " ".join(told[:1]) or row[identifier], (frozenset({number}), frozenset(map(str.casefold, told)), names)
    )


def _fill(people, found, place, written):
    """Put each score into the row of its student; return how many, and who is left over on either side."""
    taken, unknown = {}, []
    for record in found:
        fitting, student = _fitting(people, record["extra_data"]), record["extra_data"]["student"]
        if len(fitting) == 1:
            taken.setdefault(fitting[0], []).append(record)
        else:
            unknown.append(f"{student}: " + (f"{len(fitting)} rows fit" if fitting else "no row fits"))
    for number, records in taken.items():
        if len(records) == 1:
            people[number].row[place] = written(records[0]["score"])
        else:
            unknown += [f"{one['extra_data']['student']}: {len(records)} submissions fit one row" for one in records]
    missing = [person.name for number, person in enumerate(people) if number not in taken]
    return sum(len(records) == 1 for records in taken.values()), unknown, missing


def _fitting(people, extra):
    """Return the numbers of the people that a submission may be of, by the surest key that fits any."""
    student = extra["student"].strip()
    tries = (extra.get("lms_id") or "", student.casefold(), _folded(student))
    for level, key in enumerate(tries):
        fitting = [number for number, person in enumerate(people) if key and key in person.keys[level]]
        if fitting:
            return fitting
    return []


def _folded(name):
    """Return a name's letters and digits alone, without accents, in lower case, as Canvas has them in file names."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", name).casefold() if letter.isalnum())
