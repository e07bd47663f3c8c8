"""JupyterHub for a class on one server. `install.sh` puts it into place; README.md explains it.

Learners and teachers are accounts of this machine, in the groups `learners` and `teachers`. Each
gets a server of their own that runs as that account. What is shared lies in ADVLEARN_CLASS_DIR.
"""

import grp
import os
import pwd
import shutil
import sys
from pathlib import Path

from jupyterhub.spawner import Spawner

c = get_config()  # noqa: F821 - JupyterHub gives it

SHARED = Path(os.environ.get("ADVLEARN_CLASS_DIR", "/srv/advlearn"))
PROGRAMS = Path(sys.prefix) / "bin"
HERE = Path(__file__).resolve().parent
LEARNERS, TEACHERS = "learners", "teachers"

# --- Who may log in -------------------------------------------------------------------------------

c.JupyterHub.authenticator_class = "pam"  # accounts and passwords of this machine
c.PAMAuthenticator.allowed_groups = {LEARNERS, TEACHERS}
# Admins may stop and start servers and see who is there. They cannot open another's server.
c.PAMAuthenticator.admin_groups = {TEACHERS}
# With another login (LTI of a learning platform, OAuth): pip install oauthenticator or
# jupyterhub-ltiauthenticator, and name its class here. Each user needs an account on this machine.

# --- Where it listens -----------------------------------------------------------------------------

# Plain HTTP, for this machine alone. HTTPS is put before it by Caddy (README.md), which fetches and
# renews the certificate by itself. Without Caddy, with a certificate of your own:
#     c.JupyterHub.bind_url = "https://:443"
#     c.JupyterHub.ssl_cert, c.JupyterHub.ssl_key = "/etc/ssl/hub.pem", "/etc/ssl/hub.key"
c.JupyterHub.bind_url = os.environ.get("ADVLEARN_HUB_URL", "http://127.0.0.1:8000")
c.JupyterHub.hub_bind_url = os.environ.get("ADVLEARN_HUB_INNER_URL", "http://127.0.0.1:8081")
c.JupyterHub.cleanup_servers = False  # the hub can be restarted while a class works
c.ConfigurableHTTPProxy.should_start = True
if proxy := os.environ.get("ADVLEARN_PROXY_COMMAND"):
    c.ConfigurableHTTPProxy.command = proxy.split()
if inner := os.environ.get("ADVLEARN_PROXY_URL"):
    c.ConfigurableHTTPProxy.api_url = inner

# --- The server of each user ----------------------------------------------------------------------

# One that systemd starts has limits; forked kernels take them over. Without systemd there are none.
if Path("/run/systemd/system").is_dir():
    c.JupyterHub.spawner_class = "systemd"  # pip install jupyterhub-systemdspawner
    c.SystemdSpawner.unit_name_template = "class-{USERNAME}"
    c.SystemdSpawner.disable_user_sudo = True
    # Leave isolate_tmp and isolate_devices off: a kernel cannot be forked into such a server.
else:
    c.JupyterHub.spawner_class = "localprocess"
# Docker: pip install dockerspawner, and
#     c.JupyterHub.spawner_class = "docker"
#     c.DockerSpawner.image = "advlearn-class"  # `docker build -t advlearn-class classroom`
# Kernels are then shared within each container only.

c.Spawner.mem_limit = os.environ.get("ADVLEARN_MEMORY", "1500M")
c.Spawner.cpu_limit = float(os.environ.get("ADVLEARN_PROCESSORS", "1"))
c.Spawner.cmd = [str(PROGRAMS / "python"), "-I", str(HERE / "start.py")]
c.Spawner.default_url = "/lab/tree/my-lessons/00_start_here.ipynb"
c.Spawner.notebook_dir = "~"
c.Spawner.start_timeout = 120
c.Spawner.http_timeout = 120
c.JupyterHub.concurrent_spawn_limit = 10  # a class arrives in one minute
c.Spawner.environment = {
    # Before all other kernels: the `python3` that the lessons ask for is forked from the parent.
    "JUPYTER_PATH": str(SHARED / "jupyter"),
    "PATH": f"{PROGRAMS}:/usr/local/bin:/usr/bin:/bin",
    "ADVLEARN_CLASS_DIR": str(SHARED),
    # One copy of the images for all; only the superuser writes it.
    "ADVLEARN_DATA_DIR": str(SHARED / "data"),
    "ADVLEARN_OFFLINE": "1",
    # Thirty kernels on a few processors: each computes on one, and waits without spinning.
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
for name in ("ADVLEARN_LESSONS_GIT", "ADVLEARN_LESSONS_BRANCH"):
    if name in os.environ:
        c.Spawner.environment[name] = os.environ[name]
c.Spawner.args = [
    # Kernels talk over files in the learner's home. Over TCP everybody on this machine could listen
    # to what a kernel prints.
    "--KernelManager.transport=ipc",
    # A kernel that has computed nothing for two hours ends, even if its page is open.
    "--MappingKernelManager.cull_idle_timeout=7200",
    "--MappingKernelManager.cull_interval=300",
    "--MappingKernelManager.cull_connected=True",
    # A login shell takes the system's programs only: `hand-in` would not be found.
    "--ServerApp.terminado_settings={'shell_command': ['/bin/bash']}",
    # No question about news over the first lesson, and no look for another version.
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
]


def prepare(spawner: Spawner) -> None:
    """Close the home to others, and make the folder for what this user hands in."""
    account = pwd.getpwnam(spawner.user.name)
    Path(account.pw_dir).chmod(0o700)
    folder = SHARED / "handed-in" / account.pw_name
    if not folder.is_dir():
        folder.mkdir()
        shutil.chown(folder, account.pw_uid, grp.getgrnam(TEACHERS).gr_gid)
        # What is put into it belongs to the teachers' group, which may read and not write.
        folder.chmod(0o2750)


c.Spawner.pre_spawn_hook = prepare

# --- Servers that nobody uses ---------------------------------------------------------------------

c.JupyterHub.services = [
    {
        "name": "idle-culler",
        "command": [sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=10800"],
    }
]
c.JupyterHub.load_roles = [
    {
        "name": "idle-culler",
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
        "services": ["idle-culler"],
    }
]
