"""environment.yml, pyproject.toml, requirements.lock and what is installed agree."""

import importlib.metadata
import platform
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
FILES = ("environment.yml", "pyproject.toml", "requirements.lock")
CONDA_NAMES = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}  # what conda-forge calls them
GPU_PREFIXES = ("cuda-", "nvidia-", "triton")  # pip adds what a CUDA build of torch asks for

# Every system and Python that the project claims; a marker of the lock decides on these keys.
SYSTEMS = {
    "Linux": {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_machine": "x86_64",
    },
    "macOS": {
        "sys_platform": "darwin",
        "platform_system": "Darwin",
        "os_name": "posix",
        "platform_machine": "arm64",
    },
    "Windows": {
        "sys_platform": "win32",
        "platform_system": "Windows",
        "os_name": "nt",
        "platform_machine": "AMD64",
    },
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
TARGETS = {
    f"{system}, Python {python}": {
        **keys,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for system, keys in SYSTEMS.items()
    for python in PYTHONS
}


@dataclass(frozen=True)
class Declared:
    """What the three files of one folder ask for; requirements by canonical name."""

    environment: dict
    conda: dict  # name on conda-forge -> SpecifierSet
    python: SpecifierSet
    dependencies: dict
    extras: list
    build: list
    lock: list

    @classmethod
    def read(cls, folder):
        environment = yaml.safe_load((folder / "environment.yml").read_text(encoding="utf-8"))
        pyproject = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        project = pyproject["project"]
        extras = project["optional-dependencies"].values()
        return cls(
            environment,
            conda=_by_name(line for line in environment["dependencies"] if isinstance(line, str)),
            python=SpecifierSet(project["requires-python"]),
            dependencies=_by_name(project["dependencies"]),
            extras=[Requirement(line) for lines in extras for line in lines],
            build=[Requirement(line) for line in pyproject["build-system"]["requires"]],
            lock=_lock_lines(folder / "requirements.lock"),
        )


def _by_name(lines):
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name): one.specifier for one in requirements}


def _lock_lines(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def conda_complaints(declared):
    """Where environment.yml and pyproject.toml disagree."""
    wanted = {CONDA_NAMES.get(name, name): bounds for name, bounds in declared.dependencies.items()}
    wanted["python"] = declared.python
    found = {name: bounds for name, bounds in declared.conda.items() if name != "pip"}
    for name in sorted(wanted.keys() - found.keys()):
        yield f"environment.yml lacks {name}, which pyproject.toml asks for"
    for name in sorted(found.keys() - wanted.keys()):
        yield f"environment.yml has {name}, which pyproject.toml does not ask for"
    for name in sorted(wanted.keys() & found.keys()):
        if wanted[name] != found[name]:
            yield f"environment.yml bounds {name} by {found[name]}, pyproject.toml by {wanted[name]}"
    if declared.environment["channels"] != ["conda-forge", "nodefaults"]:
        channels = ", ".join(declared.environment["channels"])
        yield f"environment.yml takes packages from {channels}, not from conda-forge alone"
    if declared.environment["dependencies"][-2:] != ["pip", {"pip": ["-e ."]}]:
        yield "environment.yml must end with pip and `pip: [-e .]`: pip installs this package, nothing else"


def installed_complaints(declared, version_of):
    """Which installed versions are out of bounds; `version_of(name)` is the installed version or None."""
    pyproject = {"python": declared.python, **declared.dependencies}
    conda = {name: declared.conda.get(CONDA_NAMES.get(name, name)) for name in pyproject}
    for source, bounds in {"pyproject.toml": pyproject, "environment.yml": conda}.items():
        for name, specifier in bounds.items():
            version = version_of(name)
            if version is None:
                yield f"{name} is not installed"
            elif specifier is not None and not specifier.contains(version, prereleases=True):
                yield f"{name} {version} is installed, {source} asks for {specifier}"


def lock_complaints(declared):
    """What is wrong with requirements.lock: its lines, then each target's pins against the other files."""
    pins = []
    for line in declared.lock:
        complaint = _line_complaint(line)
        if complaint:
            yield f"requirements.lock: {line!r} {complaint}"
        else:
            pins.append(Requirement(line))
    for target, markers in TARGETS.items():
        chosen = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(markers)]
        yield from (f"{complaint} ({target})" for complaint in _target_complaints(declared, chosen))


def _line_complaint(line):
    if line.startswith("-") or "://" in line:
        return "is an option or a URL, not a pin"
    try:
        pin = Requirement(line)
    except InvalidRequirement:
        return "is not a requirement"
    if canonicalize_name(pin.name).startswith(GPU_PREFIXES):
        return "belongs to CUDA: pip adds it where a CUDA build of torch asks for it"
    operators = [one.operator for one in pin.specifier]
    return None if operators == ["=="] and "*" not in str(pin.specifier) else "does not pin one version with =="


def _target_complaints(declared, chosen):
    names = [canonicalize_name(pin.name) for pin in chosen]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"requirements.lock pins {name} {names.count(name)} times"
    pinned = {name: next(iter(pin.specifier)).version for name, pin in zip(names, chosen, strict=True)}
    for source, name, specifier in _asked_for(declared):
        if name not in pinned:
            yield f"requirements.lock lacks {name}, which {source} asks for"
        elif not specifier.contains(pinned[name], prereleases=True):
            yield f"requirements.lock pins {name} {pinned[name]}, {source} asks for {specifier}"


def _asked_for(declared):
    for name, specifier in declared.dependencies.items():
        yield "pyproject.toml", name, specifier
        if (bounds := declared.conda.get(CONDA_NAMES.get(name, name))) is not None:
            yield "environment.yml", name, bounds
    for one in declared.extras + declared.build:
        yield "pyproject.toml", canonicalize_name(one.name), one.specifier


def complaints(folder, version_of=None):
    declared = Declared.read(folder)
    installed = installed_complaints(declared, version_of or _installed_version)
    return [*conda_complaints(declared), *installed, *lock_complaints(declared)]


def _installed_version(name):
    if name == "python":
        return platform.python_version()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def test_environment_files_and_installation_agree():
    assert complaints(REPOSITORY) == []


# file, its text before, after, and what the complaint must say
MUTATIONS = {
    "bound lowered in environment.yml": (
        "environment.yml",
        "numpy>=1.26,<3",
        "numpy>=1.25,<3",
        "bounds numpy by",
    ),
    "bound dropped in environment.yml": (
        "environment.yml",
        "pytorch-cpu>=2.5,<3",
        "pytorch-cpu",
        "bounds pytorch-cpu",
    ),
    "package missing in environment.yml": ("environment.yml", "  - nbval>=0.11,<0.12\n", "", "lacks nbval"),
    "package added to environment.yml": (
        "environment.yml",
        "  - pip\n",
        "  - pandas\n  - pip\n",
        "has pandas",
    ),
    "torch under pip's name": ("environment.yml", "pytorch-cpu", "torch", "lacks pytorch-cpu"),
    "older Python in environment.yml": (
        "environment.yml",
        "python>=3.11",
        "python>=3.10",
        "bounds python by",
    ),
    "newer Python in pyproject.toml": (
        "pyproject.toml",
        '">=3.11,<3.15"',
        '">=3.11,<3.16"',
        "bounds python by",
    ),
    "Python that runs the tests left out": (
        "pyproject.toml",
        '">=3.11,<3.15"',
        '">=4"',
        "is installed, pyproject.toml asks for >=4",
    ),
    "other channel": ("environment.yml", "  - nodefaults", "  - defaults", "not from conda-forge alone"),
    "pip installs more": (
        "environment.yml",
        "      - -e .\n",
        "      - -e .\n      - lightning\n",
        "nothing else",
    ),
    "bound moved in pyproject.toml": (
        "pyproject.toml",
        "matplotlib>=3.9",
        "matplotlib>=3.8",
        "bounds matplotlib-base",
    ),
    "dependency added to pyproject.toml": (
        "pyproject.toml",
        "dependencies = [\n",
        'dependencies = [\n    "packaging>=1",\n',
        "lacks packaging",
    ),
    "installed version below pyproject.toml": (
        "pyproject.toml",
        "ipywidgets>=8.1,<9",
        "ipywidgets>=8.999,<9",
        "is installed, pyproject.toml asks for",
    ),
    "installed version above environment.yml": (
        "environment.yml",
        "ipywidgets>=8.1,<9",
        "ipywidgets<8.1",
        "is installed, environment.yml asks for",
    ),
    "pin outside pyproject.toml": (
        "requirements.lock",
        "\nnbval==0.11.0",
        "\nnbval==0.10.0",
        "pins nbval 0.10.0, pyproj",
    ),
    "pin outside environment.yml": (
        "environment.yml",
        "numpy>=1.26",
        "numpy>=2.999",
        "environment.yml asks for",
    ),
    "dependency without a pin": ("requirements.lock", "\nnbval==0.11.0", "", "lacks nbval"),
    "extra without a pin": ("requirements.lock", "\nnbclient==", "\nnbclientx==", "lacks nbclient"),
    "build requirement without a pin": (
        "requirements.lock",
        "\nflit-core==",
        "\nflit-corex==",
        "lacks flit-core",
    ),
    "pin on two systems only": (
        "requirements.lock",
        "\nnbval==0.11.0",
        "\nnbval==0.11.0 ; sys_platform != 'win32'",
        "lacks nbval, which pyproject.toml asks for (Windows, Python 3.11)",
    ),
    "two pins for one target": (
        "requirements.lock",
        "\nnbval==0.11.0",
        "\nnbval==0.11.0\nnbval==0.11.0 ; sys_platform == 'darwin'",
        "pins nbval 2 times (macOS",
    ),
    "range for a pin": (
        "requirements.lock",
        "\nnbval==0.11.0",
        "\nnbval>=0.11,<0.12",
        "does not pin one version",
    ),
    "wildcard for a pin": (
        "requirements.lock",
        "\nnbval==0.11.0",
        "\nnbval==0.11.*",
        "does not pin one version",
    ),
    "CUDA line": ("requirements.lock", "\nnbval==", "\nnvidia-cudnn-cu13==9.0\nnbval==", "belongs to CUDA"),
    "URL": (
        "requirements.lock",
        "\nnbval==",
        "\n--extra-index-url https://example.org/simple\nnbval==",
        "URL",
    ),
    "pin to a URL": (
        "requirements.lock",
        "\nnbval==0.11.0",
        "\nnbval @ https://example.org/nbval.whl",
        "URL",
    ),
}


@pytest.mark.parametrize(("file", "before", "after", "complaint"), MUTATIONS.values(), ids=MUTATIONS.keys())
def test_environment_disagreement_is_found(tmp_path, file, before, after, complaint):
    for name in FILES:
        shutil.copy(REPOSITORY / name, tmp_path / name)
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert before in text, f"the mutation no longer fits {file}"
    (tmp_path / file).write_text(text.replace(before, after, 1), encoding="utf-8")
    assert any(complaint in line for line in complaints(tmp_path))


def test_environment_missing_package_is_found():
    def version_of(name):
        return None if name == "nbval" else _installed_version(name)

    assert "nbval is not installed" in complaints(REPOSITORY, version_of)


def test_lock_holds_what_its_packages_require():
    """What a package of the lock requires is in the lock too: else pip would choose it freely."""
    pins = {canonicalize_name(pin.name): pin for pin in map(Requirement, _lock_lines(REPOSITORY / "requirements.lock"))}
    same_version = [
        name
        for name, pin in pins.items()
        if (version := _installed_version(name)) is not None and pin.specifier.contains(version)
    ]
    required = {
        (name, canonicalize_name(one.name))
        for name in same_version
        for one in map(Requirement, importlib.metadata.requires(name) or [])
        if one.marker is None or one.marker.evaluate({"extra": ""})
    }
    assert required, "no package of the lock is installed in its version"
    assert {pair for pair in required if pair[1] not in pins and not pair[1].startswith(GPU_PREFIXES)} == set()
