"""A hub with three real users of this machine, through a real browser: `make test-hub`.

Two learners and a teacher are made, and removed afterwards. What a learner must not reach is tried
by processes of that learner.
"""

from __future__ import annotations

import csv
import getpass
import grp
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.browser.lab import NoBrowserError, free_port, launch
from tests.hub import environment
from tests.hub.environment import FOLDER, PROXY, ROOT

ANA, BEN, TEA = "advlearn-ana", "advlearn-ben", "advlearn-tea"
LESSON = "03_fgsm_linear_models.ipynb"
PATIENCE = 180_000  # milliseconds, of a busy machine
OUT = ROOT / "build" / "hub"


def run_as(name: str, *command: str, **options) -> subprocess.CompletedProcess:
    """Run a program as one of the users."""
    account = pwd.getpwnam(name)
    groups = [one.gr_gid for one in grp.getgrall() if name in one.gr_mem]
    return subprocess.run(
        command, user=account.pw_uid, group=account.pw_gid, extra_groups=groups, cwd="/",
        env={"HOME": account.pw_dir, "USER": name, "PATH": f"{FOLDER}/bin:/usr/bin:/bin"},
        capture_output=True, text=True, check=False, timeout=300, **options,
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess) -> bool:
    """Tell whether the system refused what a program tried, and it learned nothing."""
    denied = ("Permission denied", "PermissionError", "Operation not permitted")
    return done.returncode != 0 and any(word in done.stderr for word in denied) and not done.stdout


class Class:
    """A hub, its users, and where things are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = folder / "class"
        self.passwords = {name: secrets.token_hex(12) for name in (ANA, BEN, TEA)}
        self.url = ""

    def home(self, name: str) -> Path:
        return Path(pwd.getpwnam(name).pw_dir)

    def kernels(self, name: str) -> list[int]:
        """Return the processes of a user's kernels."""
        user = pwd.getpwnam(name).pw_uid
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                named = (place / "comm").read_text().strip()
                if (
                    named == "advlearn-kernel"
                    and f"Uid:\t{user}\t" in (place / "status").read_text()
                ):
                    found.append(int(place.name))
        return found


@pytest.fixture(scope="module")
def hub():
    """A hub that runs."""
    try:
        environment.check()
        with sync_playwright() as player:
            launch(player).close()
    except (environment.NotHereError, NoBrowserError) as error:
        pytest.skip(str(error))
    environment.prepare()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="advlearn-hub-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        for name in ("class", "run", "state"):
            (folder / name).mkdir()
        (folder / "state").chmod(0o700)
        people = folder / "people.txt"
        people.write_text(f"# a class\n{ANA}\n{BEN}\n\n{TEA} teacher\n")
        before = {one.gr_name for one in grp.getgrall()}
        stack.callback(clear_away, before)
        room = Class(folder)
        environment.install(people, room.shared, folder / "run" / "kernels")
        given = "".join(f"{name}:{word}\n" for name, word in room.passwords.items())
        subprocess.run(["chpasswd"], input=given, text=True, check=True)
        stack.enter_context(Started("parent", room, [
            str(FOLDER / "bin" / "advlearn"), "class", "kernels", "serve",
            "--socket", str(folder / "run" / "kernels"),
        ]))  # fmt: skip
        room.url = f"http://127.0.0.1:{free_port()}"
        stack.enter_context(Started("hub", room, [
            str(FOLDER / "bin" / "jupyterhub"),
            "-f", str(FOLDER / "classroom" / "jupyterhub_config.py"),
        ]))  # fmt: skip
        wait_for(room)
        yield room


class Started:
    """A process of the hub's, with its log in build/hub; ended with all that it started."""

    def __init__(self, name: str, room: Class, command: list[str]) -> None:
        OUT.mkdir(parents=True, exist_ok=True)
        self.log = (OUT / f"{name}.log").open("wb")
        variables = {
            "PATH": f"{FOLDER}/bin:{PROXY}:{os.environ['PATH']}",
            "ADVLEARN_CLASS_DIR": str(room.shared),
            "ADVLEARN_HUB_URL": room.url,
            "ADVLEARN_HUB_INNER_URL": f"http://127.0.0.1:{free_port()}",
            "ADVLEARN_PROXY_URL": f"http://127.0.0.1:{free_port()}",
        }
        own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH",)}
        self.process = subprocess.Popen(
            command, cwd=room.folder / "state", env=own | variables, stdout=self.log,
            stderr=self.log, start_new_session=True,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


def wait_for(room: Class) -> None:
    for _ in range(600):
        with suppress(OSError), urllib.request.urlopen(f"{room.url}/hub/health", timeout=5):
            if (room.folder / "run" / "kernels").is_socket():
                return
        time.sleep(0.2)
    raise RuntimeError(f"the hub did not start: {(OUT / 'hub.log').read_text()[-3000:]}")


def clear_away(before: set[str]) -> None:
    """Remove the users, what runs as them, and the groups that were made."""
    for name in (ANA, BEN, TEA):
        with suppress(KeyError):
            user = pwd.getpwnam(name).pw_uid
            for place in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    if place.stat().st_uid == user:
                        os.kill(int(place.name), signal.SIGKILL)
            time.sleep(0.2)
            subprocess.run(["userdel", "--remove", name], check=False, capture_output=True)
    for group in {"learners", "teachers"} - before:
        subprocess.run(["groupdel", group], check=False, capture_output=True)


# --- What a learner does --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as player:
        one = launch(player)
        yield one
        one.close()


def log_in(browser, hub: Class, name: str, path: str):
    """Log in, and open a page of the own server."""
    page = browser.new_context(viewport={"width": 1366, "height": 768}).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{hub.url}/hub/login?next=%2Fhub%2Fuser-redirect%2F{path.replace('/', '%2F')}")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(hub.passwords[name])
    page.get_by_role("button", name="Sign in").click()
    return page


@pytest.fixture(scope="module")
def ana(browser, hub):
    """Ana has opened a lesson, run it, and handed it in."""
    page = log_in(browser, hub, ANA, f"lab/tree/my-lessons/{LESSON}")
    page.wait_for_url(f"**/user/{ANA}/lab/**")
    notebook = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    notebook.locator(".jp-Cell").first.wait_for()
    page.wait_for_function(
        "document.querySelector('.jp-NotebookPanel .jp-Notebook-ExecutionIndicator')"
        "?.getAttribute('data-status') === 'idle'"
    )
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    notebook.get_by_text("Ready.", exact=True).first.wait_for()
    page.wait_for_timeout(1000)
    page.wait_for_function(
        "document.querySelector('.jp-NotebookPanel .jp-Notebook-ExecutionIndicator')"
        "?.getAttribute('data-status') === 'idle'"
    )
    page.keyboard.press("Control+s")
    page.wait_for_timeout(3000)
    page.screenshot(path=OUT / "ana.png")
    # A terminal, as the instructions say.
    page.goto(f"{hub.url}/user/{ANA}/lab/tree/my-lessons/{LESSON}?reset")
    notebook.locator(".jp-Cell").first.wait_for()
    page.get_by_role("menuitem", name="File", exact=True).click()
    # An entry that opens another menu has no role in JupyterLab.
    page.locator('.lm-Menu-item:has(.lm-Menu-itemLabel:text-is("New"))').hover()
    page.locator('.lm-Menu-item[data-command="terminal:create-new"]').click()
    terminal = page.locator(".jp-Terminal")
    terminal.wait_for()
    page.wait_for_timeout(3000)
    terminal.click()
    page.keyboard.type(f"hand-in ~/my-lessons/{LESSON}\n")
    copy = hub.shared / "handed-in" / ANA / LESSON
    for _ in range(150):
        if copy.exists():
            break
        page.wait_for_timeout(200)
    page.screenshot(path=OUT / "handed-in.png")
    return page


def test_a_learner_logs_in_runs_a_lesson_and_hands_it_in(hub, ana):
    copy = hub.shared / "handed-in" / ANA / LESSON
    state = copy.stat()
    assert oct(state.st_mode & 0o7777) == "0o640"
    assert state.st_uid == pwd.getpwnam(ANA).pw_uid
    assert grp.getgrgid(state.st_gid).gr_name == "teachers"
    cells = json.loads(copy.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell for cell in code if cell["execution_count"]] == code  # all have run
    printed = json.dumps([cell["outputs"] for cell in code])
    assert "Ready." in printed
    assert "image/png" in printed
    assert '"output_type": "error"' not in printed


def test_the_kernel_is_forked_and_the_learner_s(hub, ana):
    (kernel,) = hub.kernels(ANA)
    status = Path(f"/proc/{kernel}/status").read_text()
    user = pwd.getpwnam(ANA).pw_uid
    assert f"Uid:\t{user}\t{user}\t{user}\t{user}" in status
    assert "CapEff:\t0000000000000000" in status
    log = (OUT / "hub.log").read_text()
    assert "shares no memory" not in log


# --- What a learner must not reach ----------------------------------------------------------------


@pytest.fixture(scope="module")
def secrets_of_others(hub, ana):
    """Ana's work, and what the teacher keeps."""
    grades = hub.shared / "teachers" / "graded"
    done = run_as(
        TEA, str(FOLDER / "bin" / "advlearn"), "class", "grade", str(hub.shared / "handed-in"),
        "--out", str(grades),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    edition = hub.shared / "teachers" / "solutions.ipynb"
    made = run_as(TEA, "sh", "-c", f"umask 022; echo solution > {edition}")
    assert made.returncode == 0, made.stderr
    return grades / "grades.csv", edition


def test_the_teacher_grades_what_was_handed_in(hub, secrets_of_others):
    grades, _ = secrets_of_others
    with grades.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [ANA in str(row.values()) for row in rows] == [True]


def test_another_learner_reads_neither_home_nor_hand_ins_nor_grades(hub, secrets_of_others):
    grades, edition = secrets_of_others
    mine = hub.home(ANA) / "my-lessons" / LESSON
    handed_in = hub.shared / "handed-in"
    assert mine.exists()
    assert (handed_in / ANA / LESSON).exists()
    for command in (
        ("ls", str(hub.home(ANA))), ("cat", str(mine)), ("ls", str(handed_in)),
        ("ls", str(handed_in / ANA)), ("cat", str(handed_in / ANA / LESSON)),
        ("ls", str(hub.shared / "teachers")), ("cat", str(grades)), ("cat", str(edition)),
        ("touch", str(hub.shared / "data" / "mine")), ("touch", str(handed_in / "mine")),
        ("touch", str(FOLDER / "bin" / "mine")),
        ("touch", str(hub.shared / "jupyter" / "kernels" / "mine")),
        ("ls", str(hub.folder / "state")),
    ):  # fmt: skip
        done = run_as(BEN, *command)
        assert refused(done), (command, done)
    # The same as the owner, or as the teacher, works: what refuses is who asks.
    assert run_as(ANA, "cat", str(mine)).returncode == 0
    assert run_as(TEA, "cat", str(handed_in / ANA / LESSON)).returncode == 0
    assert refused(run_as(TEA, "cat", str(mine)))
    assert refused(run_as(TEA, "touch", str(handed_in / ANA / "planted")))


KERNEL = """
import os, signal, socket, sys
process, home = int(sys.argv[1]), sys.argv[2]
def attempt(name, task):
    try:
        print(name, task())
    except (PermissionError, ConnectionRefusedError, FileNotFoundError) as error:
        print(name, "refused", file=sys.stderr)
attempt("signal", lambda: os.kill(process, signal.SIGINT))
for part in ("mem", "environ", "maps", "fd"):
    place = f"/proc/{process}/{part}"
    attempt(part, lambda: os.listdir(place) if part == "fd" else open(place, "rb").read(1))
attempt("folder", lambda: os.readlink(f"/proc/{process}/cwd"))
attempt("connection file", lambda: os.listdir(home + "/.local/share/jupyter/runtime"))
for line in open("/proc/net/unix").read().splitlines():
    path = line.split()[-1]
    if path.startswith(home):
        attempt(path, lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect(path))
"""


def test_another_learner_does_not_reach_a_kernel(hub, ana):
    (kernel,) = hub.kernels(ANA)
    done = run_as(
        BEN, str(FOLDER / "bin" / "python"), "-c", KERNEL, str(kernel), str(hub.home(ANA))
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("refused") >= 12, done.stderr  # five sockets of the kernel among them
    # Nor do its channels have ports, to which every user of the machine could connect. The one that
    # ipykernel opens takes what the kernel's own processes print, with a key, and gives nothing.
    user = pwd.getpwnam(ANA).pw_uid
    inodes = {str(one.readlink()) for one in Path(f"/proc/{kernel}/fd").iterdir()}
    rows = [line.split() for name in ("tcp", "tcp6") if Path(f"/proc/net/{name}").exists()
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]  # fmt: skip
    listening = [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]
    assert len(listening) <= 1, (user, listening)


ASK = """
import os, sys
sys.path.insert(0, sys.argv[2])
from advlearn.classroom.kernels.provisioner import ForkedProcess, _reach
from advlearn.classroom.kernels.request import Request
line = _reach(sys.argv[1])
request = Request(["-f", sys.argv[3]], dict(os.environ, USER="advlearn-ana", HOME=sys.argv[4]), "/")
kernel = ForkedProcess.start(line, request, {})
print(open(f"/proc/{kernel.pid}/status").read())
kernel.kill()
"""


def test_who_asks_the_parent_gets_an_own_kernel_whatever_is_asked_for(hub, ana):
    (library,) = FOLDER.glob("lib/python*/site-packages")
    done = run_as(
        BEN, str(FOLDER / "bin" / "python"), "-c", ASK, str(hub.folder / "run" / "kernels"),
        str(library), str(hub.home(BEN) / "kernel.json"), str(hub.home(ANA)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    user = pwd.getpwnam(BEN).pw_uid
    assert f"Uid:\t{user}\t{user}\t{user}\t{user}" in done.stdout


def test_another_learner_does_not_reach_a_server(hub, browser, ana):
    page = log_in(browser, hub, BEN, "lab")
    page.wait_for_url(f"**/user/{BEN}/lab**")
    for path in (f"user/{ANA}/api/contents", f"user/{ANA}/api/kernels", f"hub/api/users/{ANA}"):
        answer = page.request.get(f"{hub.url}/{path}", max_redirects=5)
        assert answer.status in (403, 404), (path, answer.status)
        assert LESSON not in answer.text()
    own = page.request.get(f"{hub.url}/user/{BEN}/api/contents")
    assert own.status == 200


def test_the_teacher_stops_servers_and_opens_none(hub, browser, ana):
    page = log_in(browser, hub, TEA, "lab")
    page.wait_for_url(f"**/user/{TEA}/lab**")
    answer = page.request.get(f"{hub.url}/user/{ANA}/api/contents", max_redirects=5)
    assert answer.status == 403
    assert page.request.get(f"{hub.url}/hub/admin").status == 200


def test_nobody_else_is_let_in(hub, browser):
    assert getpass.getuser() not in hub.passwords
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{hub.url}/hub/login")
    page.get_by_label("Username").fill(ANA)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Invalid username or password").wait_for()
