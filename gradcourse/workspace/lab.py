"""JupyterLab on a lesson: this environment's Python, no news popup, nothing of the user's set-up changed."""

from __future__ import annotations

import inspect
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from gradcourse.learner.page import NOTEBOOK, refresh
from gradcourse.machine import affinity_cpus, available_cpus
from gradcourse.workspace.places import LESSONS, UserError, course_folder, need_repository

FIRST_PORT = 8888  # Jupyter's own default
PORTS_TRIED = 50


def serve(notebook: Path | None = None, *, browser: bool = True, port: int | None = None) -> int:
    """Run JupyterLab on `notebook` (default: the start page) until it is stopped.

    Args:
        notebook: The notebook to open.
        browser: Whether to open a browser; the address is printed either way.
        port: The port to listen on; None takes the next free one.

    Raises:
        UserError: no such notebook, the port is taken, or JupyterLab is not installed.
    """
    root, opened = find_notebook(notebook)
    if port is not None:
        check_port(port)
    with tempfile.TemporaryDirectory(prefix="gradcourse-lab-", ignore_cleanup_errors=True) as scratch:
        _write_settings(Path(scratch))
        os.environ.update(lab_environment(Path(scratch), os.environ, available_cpus(), affinity_cpus()))
        _serve(lab_arguments(root, opened, Path(scratch), browser=browser, port=port))
    return 0


def find_notebook(notebook: Path | None) -> tuple[Path, Path | None]:
    """Return the folder that JupyterLab shows, and the notebook to open relative to it.

    The folder is the work folder or repository around the notebook, so that links between lessons and sheets
    work; for a notebook that lies elsewhere it is the notebook's own.
    """
    if notebook is None:
        root = course_folder(Path.cwd()) or need_repository()
        start = Path(LESSONS) / NOTEBOOK
        lessons = [path.relative_to(root) for path in sorted((root / LESSONS).glob("*.ipynb"))]
        return root, start if start in lessons else next(iter(lessons), None)
    path = notebook.expanduser().resolve()
    if not path.is_file():
        raise UserError(f"no notebook {notebook}: {_what_is_there(path)}")
    root = course_folder(path.parent) or path.parent
    return root, path.relative_to(root)


def _what_is_there(path: Path) -> str:
    folder = path if path.is_dir() else path.parent
    names = sorted(found.name for found in folder.glob("*.ipynb"))
    if not names:
        return f"{folder} holds no notebook; without a name `gradcourse lab` opens the start page"
    return f"{folder} holds {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"


def check_port(port: int) -> None:
    """Raise UserError unless this machine lets us listen on `port`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if os.name == "posix":  # as the server does: a connection that is just closing doesn't hold the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(
                f"can't listen on port {port} ({error.strerror}): choose another one with --port, "
                "or leave --port out to take the next free one"
            ) from error


def lab_arguments(root: Path, opened: Path | None, scratch: Path, *, browser: bool, port: int | None) -> list[str]:
    """Return the command-line arguments of JupyterLab: they come before any configuration file."""
    address = "/lab" + (f"/tree/{quote(opened.as_posix())}" if opened else "")
    settings = {
        "ServerApp.root_dir": root,
        "LabApp.default_url": address,
        "LabApp.workspaces_dir": scratch / "workspaces",  # not the tabs of another project
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.news_url": None,
        "ServerApp.open_browser": browser,
        "ServerApp.port": port if port is not None else FIRST_PORT,
        "ServerApp.port_retries": 0 if port is not None else PORTS_TRIED,
        "ServerApp.allow_root": True,  # containers run as root
        "ServerApp.answer_yes": True,  # Ctrl-C stops without a question
        "Application.log_level": "ERROR",
        "IdentityProvider.token": secrets.token_hex(24),
    }
    return [f"--{name}={value}" for name, value in settings.items()]


def lab_environment(scratch: Path, current: Mapping[str, str], usable: int, visible: int) -> dict[str, str]:
    """Return the variables to set for JupyterLab and its kernels.

    Args:
        scratch: The folder with our settings; Jupyter looks there before it looks at the user's.
        current: The environment as it is.
        usable: Processors that this process may keep busy.
        visible: Processors that torch sees, and by itself would start a thread on each.
    """
    paths = {
        name: os.pathsep.join(filter(None, (str(scratch), current.get(name))))
        for name in ("JUPYTER_CONFIG_PATH", "JUPYTER_PATH")
    }
    # The widgets of this environment too, not those of an older one in the user's home.
    variables = {**paths, "JUPYTER_PREFER_ENV_PATH": "1"}
    if usable < visible and "OMP_NUM_THREADS" not in current:
        variables["OMP_NUM_THREADS"] = str(usable)
    return variables


def _write_settings(scratch: Path) -> None:
    """Write the page's settings and a kernelspec that starts this Python: the user's may have the same name."""
    settings = {
        "disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True},
        "buildCheck": False,  # needs Node.js, and nothing here is ever built
        "buildAvailable": False,
    }
    (scratch / "labconfig").mkdir()
    (scratch / "labconfig" / "page_config.json").write_text(json.dumps(settings), encoding="utf-8")
    try:
        from ipykernel.kernelspec import write_kernel_spec
    except ImportError as error:
        raise _missing(error) from error
    (scratch / "kernels").mkdir()
    write_kernel_spec(str(scratch / "kernels" / "python3"), extra_arguments=["--log-level=ERROR"])


def _serve(arguments: list[str]) -> None:
    """Run the server in this process: only here its address is known once it listens."""
    try:
        from jupyterlab.labapp import LabApp
    except ImportError as error:
        raise _missing(error) from error
    try:
        server = LabApp.initialize_server(argv=arguments)
        show_progress(server.contents_manager, Path(server.root_dir))
        server.io_loop.add_callback(_announce, server)
        server.start()
    except OSError as error:  # Jupyter keeps keys and the address of the server under the user's home
        raise UserError(
            f"JupyterLab can't write {error.filename} ({error.strerror}): make room there, "
            "or set JUPYTER_DATA_DIR and JUPYTER_CONFIG_DIR to a folder that you can write to"
        ) from error
    print("JupyterLab stopped.", flush=True)


def show_progress(contents, root: Path) -> None:
    """Let the start page be handed out as it is at that time; its file stays as it is.

    Args:
        contents: The contents manager of a Jupyter server.
        root: The folder that it shows.
    """
    get = contents.get
    if not inspect.iscoroutinefunction(get):  # another one than Jupyter's own: the page is fresh once its cell is run
        return

    async def get_fresh(path, *arguments, **options):
        model = await get(path, *arguments, **options)
        if Path(path).name == NOTEBOOK and model["type"] == "notebook" and model["content"]:
            refresh(model["content"], (root / path.strip("/")).parent)
        return model

    contents.get = get_fresh


def _missing(error: ImportError) -> UserError:
    return UserError(f"JupyterLab can't run without {error.name}: run start.py again, it repairs .venv")


def _announce(server) -> None:
    """Print where the server listens, now that it does."""
    page = server.default_url.removeprefix(server.base_url).lstrip("/")
    print(f"JupyterLab: {server.connection_url}{page}?token={server.identity_provider.token}", flush=True)
    print("Leave this window open; Ctrl-C here stops it.", flush=True)
