"""Attacks and accidents: what a notebook may do to the machine, to its own score and to the others': nothing."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from test_grading import POINTS, SLUG, cell_of, code, scores, solved

from gradcourse.grading.attacks import ATTACKS, Attack, run_attacks
from gradcourse.grading.bait import Bait
from gradcourse.grading.engine import Grader
from gradcourse.grading.jobs import Limits, Settings
from gradcourse.grading.notebook import Submission
from gradcourse.grading.sandbox import bubblewrap, files, landlock, open_sandbox, ruleset, system_calls

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are made of Linux")

REPOSITORY = Path(__file__).resolve().parents[1]
BACKENDS = ["bubblewrap", "landlock"]

# The machine


@pytest.fixture(scope="module", params=BACKENDS)
def sandbox(request):
    return open_sandbox(request.param)


def test_every_attack_is_contained(sandbox):
    outcomes = list(run_attacks(sandbox))
    assert [str(outcome) for outcome in outcomes if not outcome.contained] == []
    assert len(outcomes) == len(ATTACKS)


AS_PLAIN_USER = """
import json, os, sys
from gradcourse.grading.attacks import run_attacks
from gradcourse.grading.sandbox import open_sandbox
assert os.geteuid() != 0
print(json.dumps([[outcome.contained, str(outcome)] for outcome in run_attacks(open_sandbox(sys.argv[1]))]))
"""

# A user who is not root finds root's home closed, and Python may lie in it: in a namespace of mounts of this test's own
# it is empty but for what Python needs.
OPEN_HOME = """
set -e
mount --make-rprivate /
kept=$(mktemp -d)
for path in "$@"; do mkdir -p "$kept/$path"; mount --bind "$path" "$kept/$path"; done
mount -t tmpfs -o mode=755 none /root
for path in "$@"; do mkdir -p "$path"; mount --bind "$kept/$path" "$path"; done
"""


@pytest.mark.parametrize("name", BACKENDS)
def test_every_attack_is_contained_for_a_plain_user(name):
    command = [sys.executable, "-c", AS_PLAIN_USER, name]
    if os.geteuid() == 0:
        command = _by_another_user(command)
    outcomes = json.loads(subprocess.check_output(command, encoding="utf-8", cwd=REPOSITORY))
    assert [told for contained, told in outcomes if not contained] == []
    assert len(outcomes) == len(ATTACKS)


def _by_another_user(command):
    needed = {sys.prefix, sys.base_prefix, str(REPOSITORY)}
    home = os.path.expanduser("~root")
    in_home = [path for path in sorted(needed) if path.startswith(f"{home}/")]
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    script = (OPEN_HOME if in_home else "") + f"cd {shlex.quote(str(REPOSITORY))}\nexec {shlex.join([*user, *command])}"
    return ["unshare", "-m", "bash", "-c", script, "bash", *in_home]


def leaks(sandbox, *names):
    """The names of those attacks, of some, that a sandbox does not contain."""
    chosen = [attack for attack in ATTACKS if attack.name in names]
    assert len(chosen) == len(names)
    return {outcome.attack for outcome in run_attacks(sandbox, chosen) if not outcome.contained}


def test_attacks_see_an_open_folder(monkeypatch, tmp_path):
    tmp_path.chmod(0o777)
    options = bubblewrap._options
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where bait is laid out
    monkeypatch.setattr(bubblewrap, "_options", lambda user: ["--bind", str(tmp_path), str(tmp_path), *options(user)])
    names = {
        "read a secret file",
        "list a folder",
        "write, cut, rename, delete and close files",
        "create files anywhere",
    }
    assert leaks(bubblewrap.Bubblewrap(), *names) == names


def test_attacks_see_a_missing_rule(monkeypatch):
    rules = landlock._rules

    def with_too_much():
        return rules() | {"read": [*rules()["read"], str(files.PACKAGE), "/proc", "/etc"]}

    monkeypatch.setattr(landlock, "_rules", with_too_much)
    names = {
        "read hidden cases, solutions, tests, other files of the course",
        "import the sheets' answers",
        "look at other processes",
    }
    assert leaks(landlock.Landlock(), *names) == names


def test_attacks_see_allowed_system_calls(monkeypatch):
    more = ["socket", "connect", "bind", "listen", "kill", "setpgid", "unshare", "memfd_create", "setpriority"]
    monkeypatch.setattr(system_calls, "_ALLOWED", [*system_calls._ALLOWED, *more])
    monkeypatch.setattr(ruleset, "_SCOPES", 0)
    system_calls.filter_program.cache_clear()
    try:
        names = {
            "reach sockets of this machine",
            "signal, trace and read other processes",
            "call the kernel in other ways",
            "take memory that no limit counts",
        }
        assert leaks(landlock.Landlock(), *names) == names
    finally:
        system_calls.filter_program.cache_clear()


def test_attacks_see_what_the_next_submission_finds(sandbox):
    attacks = [
        Attack("leaves nothing", "open('left', 'w')", then="import os\ngot = os.listdir('.')"),
        Attack("finds something", "pass", then="got = 'something'"),
    ]
    assert [outcome.contained for outcome in run_attacks(sandbox, attacks)] == [True, False]


def test_bait_sees_harm():
    with Bait() as bait:
        assert bait.harm() == ""
        Path(bait.told["victim"]).chmod(0)
        assert bait.harm() == "files were changed"
        os.kill(bait.told["process"], 9)
        bait._process.wait()
        assert bait.harm() == "files were changed, a process was ended"


# The score

WRONG = {
    "03-q1": "def layer_factor(slope, weight_variance, q):\n    return answer(slope, weight_variance, q)",
    "03-q2": "def depth_below(factor, last, threshold):\n    return answer(factor, last, threshold)",
    "03-q3": "def growth(trace):\n    return answer(trace)",
    "03-q4": "def dead_units(batches, weight, bias):\n    return answer(batches, weight, bias)",
}
NOTHING = "def answer(*arguments):\n    return -1.0\n"


@dataclass(frozen=True)
class Accident:
    """What happens in a notebook that is otherwise right.

    Attributes:
        name: what happens.
        cell: source of a cell that stands before the answers.
        answers: question -> source of its answer cell, in place of the right one.
        lost: the questions that earn nothing; the others earn all.
    """

    name: str
    cell: str = "pass"
    answers: dict = field(default_factory=dict)
    lost: tuple = ()


def in_a_call(name, body):
    """An accident in the call of an answer, which costs that question alone."""
    source = "def depth_below(factor, last, threshold):\n" + textwrap.indent(body, "    ")
    return Accident(f"{name}, in a call", answers={"03-q2": source}, lost=("03-q2",))


def anywhere(name, body):
    """An accident in a cell, and the same in a call."""
    return [Accident(f"{name}, in a cell", cell=body), in_a_call(name, body)]


ACCIDENTS = [
    *anywhere("endless loop", "while True:\n    pass"),
    *anywhere("wait without end", "import threading\nthreading.Event().wait()"),
    *anywhere("os._exit", "import os\nos._exit(0)"),
    *anywhere("sys.exit", "import sys\nsys.exit()"),
    *anywhere("abort", "import os\nos.abort()"),
    *anywhere("crash", "import ctypes\nctypes.string_at(0)"),
    *anywhere("kill itself", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"),
    *anywhere("stop itself", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
    *anywhere("take all memory", "import numpy\nkept = [numpy.ones(2**27) for _ in range(20)]"),
    *anywhere("recurse without end", "import sys\nsys.setrecursionlimit(10**9)\ndef f(x):\n    return f([x])\nf(0)"),
    *anywhere("fork bomb", "import os\nwhile True:\n    os.fork()"),
    *anywhere("close all files", "import os\nos.closerange(0, 1000)\nraise ValueError"),
    *anywhere(
        "write nonsense to every file",
        "import os\nfor number in range(128):\n    try:\n        os.write(number, b'nonsense' * 100)\n"
        "    except OSError:\n        pass\nraise ValueError",
    ),
    *anywhere("a signal from a timer", "import signal, time\nsignal.setitimer(0, 0.1)\ntime.sleep(100)"),
    Accident(
        "threads that never end",
        "import threading\ndef f():\n    while True:\n        pass\n"
        "for _ in range(4):\n    threading.Thread(target=f).start()",
    ),
    Accident("a process that stays", "import subprocess\nsubprocess.Popen(['sleep', '100'], start_new_session=True)"),
    Accident("200 MB of output", "import sys\nfor _ in range(200):\n    print('x' * 10**6, file=sys.stderr)"),
    Accident("200 MB of output, past Python", "import os\nfor _ in range(200):\n    os.write(1, b'x' * 10**6)"),
    Accident("warnings are errors", "import warnings\nwarnings.simplefilter('error')\nwarnings.warn('x')"),
    Accident("warnings on standard error", "import sys, warnings\nwarnings.warn('x')\nprint('x', file=sys.stderr)"),
    Accident("input", "name = input('your name')"),
    Accident("magics and shell lines", "%matplotlib inline\n!ls\n%load_ext autoreload\nfiles = !ls"),
    Accident("no output any more", "import sys\nsys.stdout = sys.stderr = None"),
    Accident("at exit", "import atexit, os\natexit.register(os._exit, 1)\natexit.register(print, 'x')"),
    Accident("another folder", "import os\nos.mkdir('a')\nos.chdir('a')\nos.rmdir('../a')"),
    Accident("a cell that does not parse", "def f(:\n    pass"),
    Accident("null bytes", "x = '\0'"),
    Accident("a top-level return", "return 1"),
    Accident(
        "an exception that can't be shown", "class E(Exception):\n    def __str__(self):\n        raise self\nraise E"
    ),
    Accident(
        "an answer that warns",
        answers={
            "03-q2": "def depth_below(factor, last, threshold):\n    import sys, warnings\n    warnings.warn('x')\n"
            "    print('x', file=sys.stderr)\n    depth = 1\n    while last >= threshold:\n"
            "        last *= factor\n        depth += 1\n    return depth"
        },
    ),
    *[
        Accident(f"returns {name}", answers={"03-q2": f"def depth_below(a, b, c):\n    {body}"}, lost=("03-q2",))
        for name, body in {
            "1 GB": "import numpy\n    return numpy.zeros(2**27)",
            "text without end": "return 'x' * 10**9",
            "deep lists": "x = []\n    for _ in range(10**5):\n        x = [x]\n    return x",
            "a list that holds itself": "x = []\n    x.append(x)\n    return x",
            "a generator": "yield 1",
            "a type": "return int",
            "NaN": "return float('nan')",
            "a huge number": "return 10**400",
            "objects": "import numpy\n    return numpy.array([{}], dtype=object)",
            "complex numbers": "return 1j",
            "dates": "import numpy\n    return numpy.datetime64('2020-01-01')",
            "a dict": "return {'a': 1}",
            "a coroutine": "async def f():\n        return 1\n    import warnings\n    return f()",
            "a module": "import torch\n    return torch.nn.Linear(2, 2)",
            "an exception": "raise BaseException('x')",
            "a million numbers": "return list(range(10**6))",
        }.items()
    ],
]

_FIND = "import gc, socket\nfound = [x for x in gc.get_objects() if isinstance(x, socket.socket)]\n"
_FORGE = """
import json, struct
def say(sock, **message):
    text = json.dumps({"message": message, "blobs": []}).encode()
    sock.sendall(struct.pack("!Q", len(text)) + text)
"""

# Each with answers that are all wrong: it must earn nothing.
TRICKS = {
    "nothing": NOTHING,
    "patched comparisons": NOTHING + "import builtins, math, numpy as np, torch\n"
    "for module in (np, torch, math):\n"
    "    for name in ('allclose', 'isclose', 'array_equal', 'equal', 'all', 'any'):\n"
    "        if hasattr(module, name):\n            setattr(module, name, lambda *a, **k: True)\n",
    "patched built-in functions": NOTHING
    + "import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.len = lambda x: 1\nbuiltins.all = lambda x: True\n",
    "patched check": NOTHING
    + "import types\nimport gradcourse as gc, gradcourse.sheets as s\nfrom gradcourse.sheets import question\n"
    "question.Result.points = property(lambda self: self.max_points)\n"
    "question.Result.passed = property(lambda self: True)\ngc.check = s.check = lambda *a: types.SimpleNamespace()\n",
    "patched transport": NOTHING + "from gradcourse.grading import wire\nsend = wire.send\n"
    "def forged(sock, message, blobs=()):\n"
    "    send(sock, message | {'passed': True, 'score': 100, 'points': 100, 'problem': '', 'refused': ''}, blobs)\n"
    "wire.send = forged\n",
    "patched calling": NOTHING + "from gradcourse.sheets import calling\n"
    "calling.call = lambda *a, **k: calling.Outcome(value=-7.0)\ncalling.plain = lambda value: value\n",
    "a number that equals every other": "class Yes(float):\n"
    + "".join(
        f"    def __{name}__(self, *a):\n        return {value}\n"
        for name, value in {"eq": True, "ne": False, "lt": True, "le": True, "sub": 0, "rsub": 0, "abs": 0}.items()
    )
    + "    __hash__ = float.__hash__\ndef answer(*a):\n    return Yes(-1)\n",
    "an array that equals every other": "import numpy as np\nclass Yes(np.ndarray):\n"
    "    def __array_function__(self, *a):\n        return True\n"
    "    def __array_ufunc__(self, *a, **k):\n        return True\n"
    "    def __eq__(self, other):\n        return True\n"
    "def answer(*a):\n    return np.float64(-1).reshape(()).view(Yes)\n",
    "a tensor that equals every other": "import torch\nclass Yes(torch.Tensor):\n"
    "    @classmethod\n    def __torch_function__(cls, f, types, args=(), kwargs=None):\n        return True\n"
    "def answer(*a):\n    return torch.tensor(-1.0).as_subclass(Yes)\n",
    "an object that is an array now and then": "import numpy as np\nclass Now:\n    count = 0\n"
    "    def __array__(self, *a, **k):\n        Now.count += 1\n        return np.array(float(Now.count))\n"
    "def answer(*a):\n    return Now()\n",
    "an object that pretends to be a float": "class Liar:\n    __class__ = float\n    def __float__(self):\n"
    "        return 1.0\ndef answer(*a):\n    return Liar()\n",
    "infinite and every number": "import numpy as np\ndef answer(*a):\n    return np.inf\n",
    "forged messages from a cell": NOTHING + _FIND + _FORGE + "for sock in found:\n"
    "    for _ in range(20):\n"
    "        say(sock, done={q: [[0, True]] for q in ('03-q1', '03-q2', '03-q3', '03-q4')}, score=12, passed=True)\n",
    "forged messages from a call": _FIND
    + _FORGE
    + "def answer(*a):\n    import sys\n    frame, token = sys._getframe(), None\n"
    "    while frame:\n        message = frame.f_locals.get('message')\n"
    "        token = message.get('token') if isinstance(message, dict) else token\n        frame = frame.f_back\n"
    "    for sock in found:\n        for value in (1.0, 2, 11, True):\n"
    "            say(sock, token=token, value=value, takes=True,\n"
    "                problem='', refused='', exception='', integers=False)\n"
    "    return -1.0\n",
    "walk frames to the answer": "def answer(*a):\n    import sys\n    frame = sys._getframe().f_back\n"
    "    while frame:\n"
    "        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):\n"
    "            oracle = getattr(value, 'oracle', None)\n"
    "            if callable(oracle):\n                return oracle(*a)\n"
    "        frame = frame.f_back\n    return -1.0\n",
    "find the answer in memory": "import gc\ndef answer(*a):\n    for x in gc.get_objects():\n"
    "        name = getattr(x, '__name__', '')\n"
    "        if callable(x) and name in ('_layer_factor', '_depth_below', '_growth', '_dead_units'):\n"
    "            try:\n                return x(*a)\n            except Exception:\n                pass\n"
    "    return -1.0\n",
    "find the answer beside an argument": "def answer(*a):\n    for x in a:\n"
    "        for name, value in getattr(x, '__globals__', {}).items():\n"
    "            if name in ('_layer_factor', '_depth_below'):\n                return value(*a)\n    return -1.0\n",
    "import the answer": NOTHING + "from gradcourse.sheets import sigmoid_tanh_vanishing as s\n"
    "layer_factor, depth_below, growth, dead_units = s._layer_factor, s._depth_below, s._growth, s._dead_units\n",
    "read the answer": NOTHING
    + f"import json\nsolution = open({str(REPOSITORY / 'solutions' / SLUG / f'{SLUG}.ipynb')!r})\n"
    "for cell in json.load(solution)['cells']:\n"
    "    if cell['id'][:4] == '03-q' and len(cell['id']) == 5:\n"
    "        exec(cell['source'] if isinstance(cell['source'], str) else ''.join(cell['source']))\n",
    "another process answers": "import concurrent.futures\ndef answer(*a):\n"
    "    with concurrent.futures.ProcessPoolExecutor() as pool:\n        return pool.submit(max, 1, 2).result()\n",
    "the profiler is taken away": "import sys, threading\nsys.setprofile = threading.setprofile = print\n" + NOTHING,
}


@pytest.fixture(scope="module", params=BACKENDS)
def marks(request, tmp_path_factory):
    """Grade a notebook, and a right one after it."""
    folder = tmp_path_factory.mktemp("submitted")
    settings = Settings(SLUG, "secret", sandbox=request.param, limits=Limits(cell=3.0, call=3.0, submission=60.0))
    with Grader(settings) as grader:

        def graded(notebook):
            records = []
            for student, content in (("ada", notebook), ("bob", solved())):
                path = folder / f"{student}.ipynb"
                path.write_text(json.dumps(content), encoding="utf-8")
                records.append(grader.grade(Submission(student, path.name, path)))
            assert scores(records[1]) == POINTS, records[1]
            return records[0]

        yield graded


def with_cell(notebook, source):
    """Put a cell before the first answer."""
    at = notebook["cells"].index(cell_of(notebook, "03-q1"))
    notebook["cells"].insert(at, code(source))
    return notebook


@pytest.mark.parametrize("accident", ACCIDENTS, ids=lambda accident: accident.name)
def test_an_accident_costs_no_more_than_its_question(marks, accident):
    notebook = with_cell(solved(), accident.cell)
    for id, source in accident.answers.items():
        cell_of(notebook, id)["source"] = source
    record = marks(notebook)
    assert scores(record) == POINTS | dict.fromkeys(accident.lost, 0.0), record


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_earns_nothing(marks, trick):
    notebook = solved()
    for id, source in WRONG.items():
        cell_of(notebook, id)["source"] = source
    record = marks(with_cell(notebook, TRICKS[trick]))
    assert scores(record) == dict.fromkeys(POINTS, 0.0), record


def test_what_a_notebook_says_of_itself_earns_nothing(marks):
    notebook = solved()
    for id, source in WRONG.items():
        cell_of(notebook, id)["source"] = source
        cell_of(notebook, id)["metadata"]["nbgrader"] |= {"points": 1000, "grade": True}
        test = cell_of(notebook, f"{id}-test")
        test["metadata"]["nbgrader"]["points"] = 1000
        test["outputs"] = [{"output_type": "stream", "name": "stdout", "text": f"{id}: passed, 3 of 3 points."}]
    notebook["metadata"]["score"] = 12
    record = marks(with_cell(notebook, NOTHING))
    assert (record["score"], record["max_score"]) == (0, sum(POINTS.values()))


@pytest.mark.parametrize(
    "call",
    [
        "gc.theory.gradient_factor(torch.sigmoid, weight_variance, 0.0)",
        "getattr(gc.theory, 'gradient_' + 'factor')(torch.sigmoid, weight_variance, 0.0)",
        "__import__('gradcourse.theory', fromlist=['x']).gradient_factor(torch.sigmoid, weight_variance, 0.0)",
        "functools.partial(gc.theory.gradient_factor)(torch.sigmoid, weight_variance, 0.0)",
        "list(map(gc.theory.gradient_factor, [torch.sigmoid], [weight_variance], [0.0]))",
        "concurrent.futures.ThreadPoolExecutor().submit(gc.theory.gradient_factor, torch.sigmoid, 1.0, 0.0).result()",
    ],
    ids=["plainly", "by parts of its name", "imported", "wrapped", "mapped", "in a thread"],
)
def test_a_forbidden_call_costs_its_question_by_whatever_name(marks, call):
    notebook = solved()
    lines = cell_of(notebook, "03-q1")["source"]
    lines = lines if isinstance(lines, str) else "".join(lines)
    first, rest = lines.split("\n", 1)
    forbidden = f"    import concurrent.futures, functools, gradcourse as gc, torch\n    {call}\n"
    cell_of(notebook, "03-q1")["source"] = f"{first}\n{forbidden}{rest}"
    assert scores(marks(notebook)) == POINTS | {"03-q1": 0.0}
