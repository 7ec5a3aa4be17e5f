"""What stands around the package: the README and its commands, links, licences, references, CI, lint."""

import ast
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import gradcourse
import gradcourse.__main__ as command_line

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE-text.md", "LICENSE-data.md")
BINARY = {".npz", ".png"}


def read(name):
    return (REPOSITORY / name).read_text(encoding="utf-8")


def published_files():
    """Every file that is committed or would be, relative to the repository."""
    if not (REPOSITORY / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs a git clone and git")
    listing = git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = [name for name in listing.split("\0") if name]
    return [name for name in names if (REPOSITORY / name).is_file()]


def git(*arguments):
    command = ["git", "-c", f"safe.directory={REPOSITORY.as_posix()}", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, encoding="utf-8", check=True)
    return done.stdout


def notebook_texts(*folders):
    """Each notebook's path and the sources of its Markdown cells, joined."""
    for folder in folders:
        for path in sorted((REPOSITORY / folder).rglob("*.ipynb")):
            if ".ipynb_checkpoints" not in path.parts:
                yield path, "\n\n".join(cell_sources(path, "markdown"))


def cell_sources(path, cell_type):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == cell_type]


# --- the README


def first_screen(text):
    return "\n".join(text.splitlines()[:40])


def test_readme_first_screen_holds_what_a_visitor_needs():
    screen = first_screen(read("README.md"))
    assert re.search(r"!\[[^\]]{80,}\]\(docs/\S+\.png\)", screen), "a figure with alt text"
    for needed in ("python3 start.py  ", "python3 start.py test", "py start.py", "| Lesson |", "docs/cures"):
        assert needed in screen


def test_readme_says_that_the_repository_contains_the_solutions():
    assert "This repository contains the solutions" in read("README.md")


ROW = re.compile(
    r"^\| \[\d\d\]\((?P<path>notebooks/\S+\.ipynb)\) \| (?P<question>.+) "
    r"\| (?P<minutes>\d+)(?: \(core (?P<core>\d+)\))? \|$",
    flags=re.MULTILINE,
)
QUESTION = re.compile(r"^\*\*Question\.\*\* (.+)$", flags=re.MULTILINE)
MINUTES = re.compile(r"^\*\*Minutes\*\* (\d+)(?:; the core path is (\d+))?", flags=re.MULTILINE)


def lesson_complaints(readme, heads):
    """Where the README's table and the lessons' heads (path -> first Markdown cell) disagree."""
    rows = {match["path"]: match for match in ROW.finditer(readme)}
    yield from (f"README.md lists {path}, which does not exist" for path in rows.keys() - heads.keys())
    yield from (f"README.md does not list {path}" for path in heads.keys() - rows.keys())
    for path in rows.keys() & heads.keys():
        row, question, minutes = rows[path], QUESTION.search(heads[path]), MINUTES.search(heads[path])
        if question is None or question[1] != row["question"]:
            yield f"README.md asks {row['question']!r} for {path}, its head {question and question[1]!r}"
        if minutes is None or minutes.groups() != (row["minutes"], row["core"]):
            head = minutes and minutes[0]
            yield f"README.md gives {path} {row['minutes']} (core {row['core']}) minutes, its head {head!r}"


def test_readme_table_equals_the_lessons():
    paths = sorted((REPOSITORY / "notebooks").glob("[0-9]*.ipynb"))
    heads = {path.relative_to(REPOSITORY).as_posix(): cell_sources(path, "markdown")[0] for path in paths}
    assert heads, "notebooks/ is empty"
    assert list(lesson_complaints(read("README.md"), heads)) == []


ONE_ROW = "| [00](notebooks/00_a.ipynb) | Why? | 10 (core 5) |"


@pytest.mark.parametrize(
    ("head", "complaint"),
    [
        ("**Question.** Why?\n**Minutes** 10; the core path is 5: all", None),
        ("**Question.** Why?\n**Minutes** 11; the core path is 5: all", "10 (core 5)"),
        ("**Question.** Why?\n**Minutes** 10; the core path is 6: all", "10 (core 5)"),
        ("**Question.** Why?\n**Minutes** 10", "10 (core 5)"),
        ("**Question.** Why?", "its head None"),
        ("**Question.** How?\n**Minutes** 10; the core path is 5: all", "its head 'How?'"),
    ],
)
def test_lesson_complaints_find_a_wrong_row(head, complaint):
    found = list(lesson_complaints(ONE_ROW, {"notebooks/00_a.ipynb": head}))
    assert [complaint in line for line in found] == ([True] if complaint else [])


def test_lesson_complaints_find_a_missing_and_an_unknown_lesson():
    head = "**Question.** Why?\n**Minutes** 10; the core path is 5: all"
    found = " ".join(lesson_complaints(ONE_ROW, {"notebooks/01_b.ipynb": head}))
    assert "lists notebooks/00_a.ipynb" in found
    assert "does not list notebooks/01_b.ipynb" in found


# --- commands


def code_lines(page):
    """The lines of shell blocks without their comments, and code in the text."""
    text = read(page)
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()] + inline


COMMAND = re.compile(r"(?:python3|python|py) (?:(start)\.py|-m (gradcourse))(?: |$)|(gradcourse) ")


def commands(page):
    """(program, arguments) of every command of start.py and of gradcourse that a page names."""
    for line in code_lines(page):
        if match := COMMAND.match(line):
            yield match[1] or match[2] or match[3], tuple(shlex.split(line[match.end() :]))


def start_script():
    """start.py as a module whose commands do nothing."""
    specification = importlib.util.spec_from_file_location("start", REPOSITORY / "start.py")
    start = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(start)
    for command in ("start", "run_tests", "download"):
        assert callable(getattr(start, command))
        setattr(start, command, lambda *_: 0)
    return start


def is_understood(program, arguments):
    if program == "start":
        start = start_script()
        try:
            return start.dispatch(list(arguments)) == 0
        except start.Refusal:
            return False
    try:
        return bool(command_line._parser().parse_args(arguments))
    except SystemExit:
        return False


@pytest.mark.parametrize(
    ("program", "arguments"),
    sorted({*commands("README.md"), *commands("CONTRIBUTING.md")}),
    ids=lambda part: part if isinstance(part, str) else " ".join(part),
)
def test_command_of_the_pages_is_understood(program, arguments, tmp_path, monkeypatch):
    (tmp_path / "wheels").mkdir()  # the folder that the README's commands name
    monkeypatch.chdir(tmp_path)
    assert is_understood(program, arguments)


@pytest.mark.parametrize("program", ["start", "gradcourse"])
def test_unknown_command_is_not_understood(program):
    assert not is_understood(program, ["--no-such-option"])


def test_readme_names_every_command():
    named = {(program, arguments[0] if arguments else "") for program, arguments in commands("README.md")}
    assert {("start", ""), ("start", "test"), ("start", "download"), ("start", "--wheels")} <= named
    assert {("gradcourse", "lab"), ("gradcourse", "doctor"), ("gradcourse", "start")} <= named


# --- links


def broken_links(page):
    text = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [target.split("#")[0] for target in targets if not re.match(r"https?://|mailto:|#", target)]
    return [target for target in local if not (REPOSITORY / page).parent.joinpath(target).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_that_exist(page):
    assert broken_links(page) == []


def test_readme_links_to_nothing_that_git_ignores():
    published = set(published_files())
    targets = re.findall(r"\]\(((?!https?:)[^)\s#]+)\)", read("README.md"))
    assert [target for target in targets if not target.endswith("/") and target not in published] == []


def test_contributing_names_sources_that_exist():
    """Paths in back-ticks, those without a placeholder."""
    paths = re.findall(r"`([\w./-]+\.(?:py|lock|yml|toml|png|npz|bib))`", read("CONTRIBUTING.md"))
    assert paths
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


# --- what no file may name

REGISTRIES = ["pypi" + ".org", "python" + "hosted.org", "npm" + "js.org", "debian" + ".org", "anaconda" + ".org"]
MACHINE_PATHS = [rf"(?<![\w.~}}/])/{folder}/" for folder in ("work", "root", "opt/wheels", "tmp/ipykernel")]
FORBIDDEN = re.compile("|".join([*map(re.escape, REGISTRIES), *MACHINE_PATHS]))
TORCH_INDEX = "download." + "pytorch.org"
MAY_NAME_TORCH_INDEX = re.compile(r"start\.py|README\.md|tests/test_start\w*\.py")


def named(pattern):
    for name in published_files():
        if Path(name).suffix not in BINARY:
            yield from ((name, match[0]) for match in re.finditer(pattern, read(name)))


def test_no_file_names_a_registry_or_a_path_of_one_machine():
    assert sorted(set(named(FORBIDDEN))) == []


@pytest.mark.parametrize("text", ["https://" + REGISTRIES[0] + "/simple", "see " + "/wo" + "rk/main", '"/ro' + 'ot/x"'])
def test_forbidden_names_are_found(text):
    assert FORBIDDEN.search(text)


@pytest.mark.parametrize("text", ["your own/work/folder", "https://example.org/work/", "{base}/root/x"])
def test_innocent_names_pass(text):
    assert not FORBIDDEN.search(text)


def test_only_start_and_readme_name_the_index_of_torch():
    names = {name for name, _ in named(re.escape(TORCH_INDEX))}
    assert {name for name in names if not MAY_NAME_TORCH_INDEX.fullmatch(name)} == set()


def test_text_files_end_their_lines_with_newline_alone():
    texts = [name for name in published_files() if Path(name).suffix not in BINARY]
    assert [name for name in texts if b"\r" in (REPOSITORY / name).read_bytes()] == []


@pytest.mark.parametrize(
    ("path", "attribute", "value"),
    [
        ("notebooks/a.ipynb", "eol", "lf"),
        ("start.py", "eol", "lf"),
        ("exercises/a/a.ipynb", "linguist-generated", "set"),
        ("solutions/a/a.ipynb", "linguist-generated", "unspecified"),
        ("gradcourse/digits.npz", "text", "unset"),
        ("docs/first_experiment.png", "text", "unset"),
    ],
)
def test_gitattributes_say_how_git_stores_a_file(path, attribute, value):
    published_files()  # skips where there is no git
    assert git("check-attr", attribute, "--", path).strip() == f"{path}: {attribute}: {value}"


# --- versions, citation, licences


def test_changelog_newest_version_is_the_package_s():
    newest = re.search(r"^## \[(\d[^\]]*)\]", read("CHANGELOG.md"), flags=re.MULTILINE)
    assert newest[1] == gradcourse.__version__


CFF_KEYS = {
    *("abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers", "keywords"),
    *("license", "license-url", "message", "preferred-citation", "references", "repository"),
    *("repository-artifact", "repository-code", "title", "type", "url", "version"),
}  # the keys of version 1.2.0


def cff_complaints(citation, version):
    for key in ("cff-version", "message", "title", "authors"):
        if not citation.get(key):
            yield f"lacks {key}"
    yield from (f"has {key}, which the format does not know" for key in citation.keys() - CFF_KEYS)
    if citation.get("cff-version") != "1.2.0":
        yield "is not of version 1.2.0"
    if not all("name" in author or "family-names" in author for author in citation.get("authors") or []):
        yield "has an author without a name"
    if citation.get("version") != version:
        yield f"is of version {citation.get('version')}, the package of {version}"


def test_citation_is_valid_and_of_this_version():
    assert list(cff_complaints(yaml.safe_load(read("CITATION.cff")), gradcourse.__version__)) == []


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("message", None, "lacks message"),
        ("authors", [{"email": "a@b.org"}], "without a name"),
        ("cff-version", "1.1.0", "not of version 1.2.0"),
        ("version", "0.0.1", "is of version 0.0.1"),
        ("licence", "BSD-3-Clause", "has licence"),
    ],
)
def test_citation_mistakes_are_found(key, value, complaint):
    citation = yaml.safe_load(read("CITATION.cff")) | {key: value}
    assert complaint in " ".join(cff_complaints(citation, gradcourse.__version__))


def test_licence_files_exist_and_are_named_in_the_readme():
    for name in PROJECT["license-files"]:
        assert f"[{name}]({name})" in read("README.md")
        assert len(read(name)) > 300


def test_data_licence_names_the_source_of_the_references():
    assert bibliography(read("references.bib"))["alpaydin1998"]["doi"] in read("LICENSE-data.md")


def test_every_dependency_has_its_reason():
    lines = read("pyproject.toml").splitlines()
    wanted = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    for requirement in wanted:
        where = [line for line in lines if f'"{requirement}"' in line]
        assert len(where) == 1, f"{requirement} stands on {len(where)} lines"
        assert re.search(r'",\s*# \w.{5,}', where[0]), f"{Requirement(requirement).name} has no reason"


# --- references

ENTRY = re.compile(r"^@(\w+)\{(\w+),\n(.*?)^\}", flags=re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},$", flags=re.MULTILINE)
CITATION_KEY = re.compile(r"\b[a-z]{2,}(?:19|20)\d\d[a-z]?\b")


def bibliography(text):
    entries = ENTRY.findall(text)
    keys = [key for _, key, _ in entries]
    assert len(keys) == text.count("\n@"), "an entry of references.bib was not understood"
    assert len(keys) == len(set(keys)), "a key of references.bib stands there twice"
    return {key: dict(FIELD.findall(body)) for _, key, body in entries}


@pytest.mark.parametrize("key", bibliography(read("references.bib")))
def test_reference_has_its_fields_and_its_key(key):
    fields = bibliography(read("references.bib"))[key]
    assert {"author", "title", "year"} <= fields.keys()
    family = fields["author"].split(",")[0].lower().replace(" ", "")
    assert re.fullmatch(re.escape(family + fields["year"]) + "[a-z]?", key)


def docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, nodes)]


def cited():
    """(file, key) of every citation in the package's docstrings and in the text of lessons and sheets."""
    package = [(path, "\n".join(docstrings(path))) for path in sorted((REPOSITORY / "gradcourse").rglob("*.py"))]
    for path, text in [*package, *notebook_texts("notebooks", "solutions")]:
        yield from ((path.relative_to(REPOSITORY).as_posix(), key) for key in CITATION_KEY.findall(text))


def test_every_citation_is_in_the_references():
    known = bibliography(read("references.bib")).keys()
    citations = set(cited())
    assert citations, "nothing is cited"
    assert {(file, key) for file, key in citations if key not in known} == set()


def test_references_sections_hold_keys():
    for path in sorted((REPOSITORY / "gradcourse").rglob("*.py")):
        for text in docstrings(path):
            for section in re.findall(r"^References:(.*?)(?:\n\n|\Z)", text, flags=re.MULTILINE | re.DOTALL):
                assert CITATION_KEY.search(section), f"{path.name}: a References section without a key: {section}"


@pytest.mark.parametrize("text", ["References: nobody1999", "(nobody1999)", "see nobody1999b."])
def test_citation_is_recognized(text):
    assert CITATION_KEY.search(text)[0].startswith("nobody1999")


# --- CI


def workflow():
    return yaml.safe_load(read(".github/workflows/tests.yml"))["jobs"]["tests"]


def test_workflow_covers_three_systems_and_the_first_and_last_python():
    matrix = workflow()["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    minors = [int(python.split(".")[1]) for python in matrix["python"]]
    supported = [
        minor for minor in range(30) if f"3.{minor}" in Requirement(f"p{PROJECT['requires-python']}").specifier
    ]
    assert (min(minors), max(minors)) == (min(supported), max(supported))


def test_workflow_runs_the_commands_of_the_readme():
    steps = workflow()["steps"]
    runs = [step["run"] for step in steps if "run" in step]
    assert runs[-2:] == ["python start.py --no-lab", "python start.py test"]
    chromium = [step for step in steps if "chromium" in step.get("run", "")]
    assert [step["if"] for step in chromium] == ["runner.os == 'Linux'"]


if os.name == "posix":  # .ci/run is for a Linux machine

    def ci_run(folder, programs, *arguments):
        """Run .ci/run in a copy where each of `programs` (name -> shell script) stands in for the real one."""
        (folder / "copy" / ".ci").mkdir(parents=True)
        script = shutil.copy(REPOSITORY / ".ci" / "run", folder / "copy" / ".ci" / "run")
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        for name, text in programs.items():
            (bin_folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (bin_folder / name).chmod(0o755)
        for name in ("cat", "dirname"):
            (bin_folder / name).symlink_to(shutil.which(name))
        command = [shutil.which("bash"), script, *arguments]
        environment = {"PATH": str(bin_folder)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, input="not for the tests")

    PRESENT = dict.fromkeys(("chromium", "bwrap", "git"), "exit 0")
    PYTHON = '[ "$1" = -c ] && exit 0; echo "$PWD|$CI|$*"; cat; exit '

    @pytest.mark.parametrize("code", [0, 7])
    def test_ci_run_passes_arguments_and_exit_code(tmp_path, code):
        done = ci_run(tmp_path, {"python3": PYTHON + str(code), **PRESENT}, "-m", "slow")
        assert done.returncode == code
        assert done.stdout == f"{tmp_path / 'copy'}|true|start.py test -n 2 --dist worksteal -m slow\n"

    def test_ci_run_installs_what_is_missing_as_root(tmp_path):
        programs = {"python3": "exit 0", "git": "exit 0", "id": "echo 0", "apt-get": 'echo "apt-get $*" >&2'}
        asked = ci_run(tmp_path, programs).stderr.splitlines()
        assert asked == ["apt-get -qq update", "apt-get -qq install -y --no-install-recommends chromium bubblewrap"]

    def test_ci_run_fails_when_an_installation_fails(tmp_path):
        programs = {"python3": PYTHON + "0", "id": "echo 0", "apt-get": "exit 100"}
        done = ci_run(tmp_path, programs)
        assert (done.returncode, done.stdout) == (100, "")

    def test_ci_run_says_what_it_cannot_install(tmp_path):
        done = ci_run(tmp_path, {"python3": "exit 0", "git": "exit 0", "id": "echo 1000"})
        assert "not root with apt-get: chromium bubblewrap" in done.stderr

    def test_ci_run_is_executable():
        assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)


def test_pre_commit_hooks_are_local():
    repositories = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    hooks = [hook for repository in repositories for hook in repository["hooks"]]
    assert [repository["repo"] for repository in repositories] == ["local"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert {tuple(shlex.split(hook["entry"])[:3]) for hook in hooks} == {
        ("python", "-m", "ruff"),
        ("python", "-m", "gradcourse"),
    }


@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")], ids=["check", "format"])
def test_ruff_finds_nothing(arguments):
    command = [sys.executable, "-m", "ruff", *arguments, "."]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
