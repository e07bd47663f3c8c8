"""Kernels forked from a warm parent: they are kernels like any other, and nobody else's."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

pytest.importorskip("jupyter_client", reason="forked kernels are for JupyterLab")
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import KernelProvisionerFactory
from typer.testing import CliRunner

from advlearn.classroom.kernels import parent, provisioner, spec
from advlearn.classroom.kernels.confinement import RefusedError, take_over
from advlearn.classroom.kernels.request import Peer, Request, ask, receive
from advlearn.cli.classes import app

linux = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")
root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becoming another user needs root"
)
# They start many processes and wait for them: `make test-kernels`.
pytestmark = pytest.mark.kernels
ROOT = Path(__file__).resolve().parent.parent


# --- What Jupyter is told -------------------------------------------------------------------------


def test_a_server_that_loads_it_loads_no_pytorch():
    program = (
        "import sys, advlearn.classroom.kernels.provisioner, advlearn.classroom.kernels.spec;"
        "print([name for name in ('torch', 'numpy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_the_entry_point_is_the_class():
    import tests.test_architecture as layout

    named = layout.PROJECT["entry-points"]["jupyter_client.kernel_provisioners"]
    point = EntryPoint(spec.PROVISIONER, named[spec.PROVISIONER], "")
    assert point.load() is provisioner.ForkedProvisioner


@linux
def test_the_kernelspec_is_written_and_removed_and_no_other(tmp_path):
    run = CliRunner()
    done = run.invoke(app, ["kernels", "install", "--into", str(tmp_path), "--socket", "/run/x"])
    assert done.exit_code == 0
    written = json.loads((tmp_path / spec.NAME / "kernel.json").read_text())
    # A program that knows no provisioners runs the command: it must be an ordinary kernel.
    assert written["argv"][1:4] == ["-m", "ipykernel_launcher", "-f"]
    assert written["metadata"]["kernel_provisioner"]["config"] == {"socket": "/run/x"}
    other = tmp_path / "python3" / "kernel.json"
    other.parent.mkdir()
    other.write_text('{"argv": ["python"], "display_name": "mine", "language": "python"}')
    refused = run.invoke(app, ["kernels", "remove", "--into", str(tmp_path), "--name", "python3"])
    assert refused.exit_code == 1
    assert other.is_file()
    assert run.invoke(app, ["kernels", "remove", "--into", str(tmp_path)]).exit_code == 0
    assert not (tmp_path / spec.NAME).exists()


def test_another_system_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(OSError, match=r"need Linux.*The ordinary kernel works"):
        spec.install(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_socket_that_is_no_full_path_is_refused(tmp_path):
    done = CliRunner().invoke(
        app, ["kernels", "install", "--into", str(tmp_path), "--socket", "kernels"]
    )
    assert done.exit_code == 1
    assert "must be a full path" in done.output


# --- Requests -------------------------------------------------------------------------------------


@linux
def test_a_request_arrives_as_it_was_sent():
    one, other = socket.socketpair()
    sent = Request(["-f", "file.json"], {"A": "b" * 100_000}, "/tmp")
    with one, other:
        reading = os.fork()
        if not reading:
            got, streams = receive(other)
            os._exit(0 if got == sent and len(streams) == 3 else 1)
        ask(one, sent, [0, 1, 2])
        assert os.waitpid(reading, 0)[1] == 0


@pytest.mark.parametrize(
    "text",
    [
        "[]", "7", "{}", '{"arguments": "-f"}', '{"arguments": [1], "environment": {}}',
        '{"arguments": [], "environment": {"A": 1}}',
        '{"arguments": ["a\\u0000b"], "environment": {}}',
        '{"arguments": [], "environment": {}, "folder": 7}', "not JSON",
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        Request.parse(text.encode())


# --- Kernels --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """A folder of kernels with ours in it; all of its kernels have one parent."""
    factory = KernelProvisionerFactory.instance()
    name = "advlearn.classroom.kernels.provisioner:ForkedProvisioner"
    factory.provisioners[spec.PROVISIONER] = EntryPoint(
        spec.PROVISIONER, name, KernelProvisionerFactory.GROUP_NAME
    )
    folder = tmp_path_factory.mktemp("kernels")
    spec.install(folder, name="forked")
    patience, provisioner._PATIENCE = provisioner._PATIENCE, 300  # of a busy machine
    yield folder
    provisioner._PATIENCE = patience
    while provisioner._own:
        _, own, kept = provisioner._own.pop()
        os.close(kept)
        assert own.wait(20) == 0  # it ends with the server


class Kernel:
    """A kernel, and the short way to ask it."""

    def __init__(self, folder, name="forked", **options):
        self.manager = KernelManager(
            kernel_name=name,
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder)]),
            **options.pop("manager", {}),
        )
        self.manager.start_kernel(**options)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    @property
    def process(self):
        return self.manager.provisioner.process

    @property
    def forked(self):
        return isinstance(self.process, provisioner.ForkedProcess)

    def value(self, expression, before=""):
        reply = self.client.execute_interactive(
            before, user_expressions={"it": f"repr({expression})"}, timeout=60,
            output_hook=lambda _: None,
        )["content"]  # fmt: skip
        assert reply["status"] == "ok", reply
        given = reply["user_expressions"]["it"]
        assert given["status"] == "ok", given
        return eval(eval(given["data"]["text/plain"]))

    def messages(self, source):
        """Return what a cell shows."""
        shown = []
        self.client.execute_interactive(source, timeout=60, output_hook=shown.append)
        return [one for one in shown if one["msg_type"] != "status"]


@pytest.fixture(scope="module")
def kernel(kernels, tmp_path_factory):
    """One kernel for what changes nothing in it."""
    folder = tmp_path_factory.mktemp("lessons")
    with Kernel(kernels, cwd=str(folder), env=os.environ | {"MINE": "á", "USER": "kim"}) as one:
        assert one.forked
        yield one


@linux
def test_a_fork_has_its_own_folder_environment_and_session(kernel):
    facts = kernel.value(
        "(os.getcwd(), os.environ['MINE'], os.getsid(0) == os.getpid(), os.getpid(), sys.argv[0])",
        "import os, sys",
    )
    folder, mine, leads, process, program = facts
    assert Path(folder).name.startswith("lessons")
    assert (mine, leads, process) == ("á", True, kernel.process.pid)
    assert program.endswith("ipykernel_launcher.py")


@linux
def test_a_fork_holds_nothing_open_of_the_parent_s(kernel):
    held = Path(f"/proc/{kernel.process.pid}/fd")
    links = [str(one.readlink()) for one in held.iterdir()]
    assert len(links) > 10
    listening = [one for one in links if one.startswith("socket:")]
    inodes = "".join(Path("/proc/net/unix").read_text().splitlines(keepends=True)[1:])
    names = [line for line in inodes.splitlines() if "advlearn-kernels" in line]
    assert names  # the parent listens
    listener = next(line.split()[6] for line in names if line.split()[5] == "01")
    assert f"socket:[{listener}]" not in listening


@linux
def test_no_two_forks_draw_the_same(kernels, kernel):
    drawn = (
        "(random.random(), float(np.random.rand()), "
        "torch.initial_seed(), torch.rand(1).item(), "
        "bytes(multiprocessing.current_process().authkey), uuid.uuid4().hex)"
    )
    loading = "import random, multiprocessing, uuid; import numpy as np, torch"
    first = kernel.value(drawn, loading)
    with Kernel(kernels) as other:
        second = other.value(drawn, loading)
    assert not [a for a, b in zip(first, second, strict=True) if a == b]


@linux
def test_pictures_widgets_and_progress_bars_arrive(kernel):
    shown = kernel.messages("import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    assert "image/png" in shown[-1]["content"]["data"]
    shown = kernel.messages("import ipywidgets\nipywidgets.IntSlider()")
    assert any(one["msg_type"] == "comm_open" for one in shown)
    assert "application/vnd.jupyter.widget-view+json" in shown[-1]["content"]["data"]
    shown = kernel.messages("from tqdm.auto import tqdm\nfor _ in tqdm(range(2)): pass")
    assert any(one["msg_type"] == "comm_open" for one in shown)


@linux
def test_progress_is_kept_where_the_kernel_was_started(kernel):
    assert kernel.value("str(record._HERE)", "from advlearn.course import record") == kernel.value(
        "os.getcwd()", "import os"
    )


@linux
def test_a_fork_computes_on_as_many_threads_as_it_is_told(kernels):
    code = "import torch"
    with Kernel(kernels, env=os.environ | {"OMP_NUM_THREADS": "3"}) as one:
        assert one.value("torch.get_num_threads()", code) == 3
        gradient = "(lambda x: (x.pow(3).sum().backward(), x.grad.tolist())[1])"
        assert one.value(f"{gradient}(torch.ones(3, requires_grad=True))") == [3.0] * 3
        product = "float((torch.ones(2000, 2000) @ torch.ones(2000, 2000)).mean())"
        assert one.value(product) == pytest.approx(2000)


@linux
def test_interrupt_restart_and_the_end(kernels):
    with Kernel(kernels) as one:
        first = one.process.pid
        one.client.execute("import time\nwhile True: time.sleep(0.01)")
        time.sleep(0.5)
        one.manager.interrupt_kernel()
        assert one.client.get_shell_msg(timeout=60)["content"]["ename"] == "KeyboardInterrupt"
        assert one.value("1 + 1") == 2
        one.value("mark", "mark = 1")
        one.manager.restart_kernel(now=False)
        one.client.wait_for_ready(timeout=60)
        assert one.forked
        assert one.process.pid != first
        assert one.value("'mark' in globals()") is False
        assert not Path(f"/proc/{first}").exists()  # buried
        one.client.shutdown()
        assert one.process.wait(20) == 0
        assert one.manager.is_alive() is False


@linux
def test_how_a_kernel_ended_is_known(kernels):
    with Kernel(kernels) as one:
        one.client.execute("import os\nos._exit(7)")
        assert one.process.wait(20) == 7
    with Kernel(kernels) as one:
        os.kill(one.process.pid, signal.SIGKILL)
        assert one.process.wait(20) == -signal.SIGKILL


@linux
def test_standard_streams_are_those_that_were_asked_for(kernels):
    with Kernel(kernels, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as one:
        one.client.execute_interactive(
            "import os, sys\nprint('raw', file=sys.__stdout__, flush=True)", timeout=60
        )
        read = os.read(one.process.stdout.fileno(), 10_000).decode()
        assert "raw" in read


SERVER = """
import sys, time
from importlib.metadata import EntryPoint
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import KernelProvisionerFactory
from advlearn.classroom.kernels import spec
KernelProvisionerFactory.instance().provisioners[spec.PROVISIONER] = EntryPoint(
    spec.PROVISIONER, "advlearn.classroom.kernels.provisioner:ForkedProvisioner", "")
manager = KernelManager(kernel_name="forked",
    kernel_spec_manager=KernelSpecManager(kernel_dirs=[sys.argv[1]]))
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
print(manager.provisioner.process.pid, flush=True)
time.sleep(3600)
"""


@linux
def test_kernels_end_with_their_server_and_outlive_their_parent(kernels, tmp_path):
    place = tmp_path / "socket"
    warm = subprocess.Popen(
        [sys.executable, "-m", "advlearn.classroom.kernels.parent", "--socket", str(place)],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in warm.stderr:
        if "ready" in line:
            break
    folder = tmp_path / "kernels"
    spec.install(folder, place, name="forked")
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    left = int(server.stdout.readline())
    server.kill()
    server.wait()
    ends = time.monotonic() + 10
    while Path(f"/proc/{left}").exists() and time.monotonic() < ends:
        time.sleep(0.05)
    assert not Path(f"/proc/{left}").exists()
    with Kernel(folder) as one:
        assert one.forked
        warm.terminate()
        assert warm.wait(20) == 0
        assert not place.exists()
        assert one.value("6 * 7") == 42
        one.client.shutdown()
        assert one.process.wait(20) is not None


@linux
def test_without_a_parent_the_kernel_is_an_ordinary_one(tmp_path, kernels, caplog):
    spec.install(tmp_path, tmp_path / "nobody-listens", name="forked")
    with Kernel(tmp_path) as one:
        assert not one.forked
        assert one.value("6 * 7") == 42
    assert "shares no memory" in caplog.text
    assert "advlearn class kernels serve" in caplog.text


@linux
def test_the_parent_has_one_thread_and_asked_for_no_notebook():
    """What looks for a notebook when it is loaded would find none, and never look again."""
    program = """
import os, sys, traceback
import IPython, IPython.core.getipython as door
asked = set()
real = door.get_ipython
def get_ipython():
    for frame in traceback.extract_stack()[:-1][::-1]:
        if "IPython" not in frame.filename:
            asked.add(frame.filename)
            break
    return real()
door.get_ipython = IPython.get_ipython = get_ipython
from advlearn.classroom.kernels import parent
parent.load()
print(len(os.listdir("/proc/self/task")), sorted(asked),
      [name for name in sys.modules if name.startswith("advlearn.course.banks.lesson")])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True,
        env=os.environ | parent.ENVIRONMENT,
    )  # fmt: skip
    assert done.stdout.strip() == "1 [] []"


# --- Whose kernel it is ---------------------------------------------------------------------------


def as_fork(peer_does):
    """Let one process ask, as a user, and another one, as root, take over what it is.

    Returns what the second one is then, or what it was refused for.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(b"\0advlearn-test-" + os.urandom(8).hex().encode())
    listener.listen()
    reading, writing = os.pipe()
    done, finish = os.pipe()
    asking = os.fork()
    if not asking:
        peer_does()
        os.setgroups([12345])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.connect(listener.getsockname())
        os.close(finish)
        os.close(writing)
        os.read(done, 1)
        os._exit(0)
    fork = os.fork()
    if not fork:
        try:
            line, _ = listener.accept()
            take_over(Peer.of(line))
            said = {
                "user": os.getresuid(), "group": os.getresgid(), "groups": os.getgroups(),
                "files": resource.getrlimit(resource.RLIMIT_NOFILE),
                "status": Path("/proc/self/status").read_text(),
                "cgroup": Path("/proc/self/cgroup").read_text(),
                "asking": Path(f"/proc/{asking}/cgroup").read_text(),
                "mask": os.umask(0),
            }  # fmt: skip
            try:
                os.setuid(0)
                said["root again"] = True
            except PermissionError:
                said["root again"] = False
        except RefusedError as error:
            said = {"refused": str(error)}
        except BaseException as error:
            said = {"failed": repr(error)}
        os.write(writing, json.dumps(said).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = json.loads(file.read())
    os.close(finish)
    os.close(done)
    for process in (asking, fork):
        os.waitpid(process, 0)
    listener.close()
    return said


@linux
@root
def test_a_fork_becomes_the_user_who_asked_and_stays_that():
    def narrow():
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 120))
        os.umask(0o027)

    said = as_fork(narrow)
    assert said["user"] == said["group"] == [65534] * 3, said
    assert said["groups"] == [12345]
    assert said["files"] == [100, 120]
    assert said["mask"] == 0o027
    assert said["root again"] is False
    for line in said["status"].splitlines():
        if line.startswith(("CapPrm", "CapEff", "CapInh", "CapAmb")):
            assert int(line.split()[1], 16) == 0, line


@linux
@root
def test_a_fork_gains_no_rights_that_who_asks_may_not_gain():
    import ctypes

    def narrow():
        ctypes.CDLL(None).prctl(38, ctypes.c_ulong(1), *[ctypes.c_ulong(0)] * 3)  # no new rights
        ctypes.CDLL(None).prctl(24, ctypes.c_ulong(21), *[ctypes.c_ulong(0)] * 3)  # not SYS_ADMIN

    status = as_fork(narrow)["status"]
    assert "NoNewPrivs:\t1" in status
    bound = next(line for line in status.splitlines() if line.startswith("CapBnd"))
    assert not int(bound.split()[1], 16) >> 21 & 1


@linux
@root
def test_a_fork_is_in_the_control_groups_of_who_asks():
    places = [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")]
    place = next((one for one in places if (one / "cgroup.procs").is_file()), None)
    if place is None or not os.access(place, os.W_OK):
        pytest.skip("this machine has no control groups that could be made")
    group = place / f"advlearn-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        said = as_fork(lambda: (group / "cgroup.procs").write_text("0"))
        assert group.name in said["cgroup"]
        assert said["cgroup"] == said["asking"]
    finally:
        group.rmdir()


@linux
@root
def test_another_container_is_refused():
    import ctypes

    said = as_fork(lambda: ctypes.CDLL(None).unshare(0x00020000))  # mounts of its own
    assert "another container (mnt)" in said["refused"]


@linux
@root
def test_the_parent_of_one_user_serves_nobody_else(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "belongs to another user" in as_fork(lambda: None)["refused"]
