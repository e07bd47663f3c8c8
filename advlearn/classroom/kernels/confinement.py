"""A fork gets the user, and the limits, of the process that asked for it. Linux only.

The parent of a whole class runs as the superuser. What it forks would be free of every limit that
holds the server of the learner: it runs in the parent's control group, with the parent's rights. So
a fork takes over what can be taken over, and a request from a process that is confined in a way
that cannot be taken over (a container, a filter of system calls) is refused.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
from pathlib import Path

from advlearn.classroom.kernels.request import Peer

_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_SET_DUMPABLE, _SET_NO_NEW_PRIVILEGES, _SET_NAME, _DROP_FROM_BOUND = 4, 38, 15, 24  # of prctl
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


class RefusedError(Exception):
    """No kernel can be forked for this process; the message says why."""


def take_over(peer: Peer) -> None:
    """Make this process, a fresh fork, one of the user at the other end, limited as that one is.

    Nothing of the request may be read before: this process may still be the superuser.

    Raises:
        RefusedError: it cannot be made so. The fork must end then.
    """
    root = os.geteuid() == 0
    if not root and peer.user != os.geteuid():
        raise RefusedError("the parent of the kernels belongs to another user")
    if peer.process <= 0:
        raise RefusedError("the process that asks is in another container")
    try:
        held = os.pidfd_open(peer.process)
    except OSError as error:
        raise RefusedError("the process that asks has ended") from error
    status, own = _status(peer.process), _status(os.getpid())
    _check(peer, status, own)
    if root:
        _enter_groups(peer.process)
        _copy(peer.process, "oom_score_adj")
        _bound(int(own["CapBnd"], 16) & ~int(status["CapBnd"], 16))
        _become(peer, [int(group) for group in status["Groups"].split()])
    # As that user: another's limits are the superuser's only with one more right.
    limits = [(limit, *resource.prlimit(peer.process, limit)) for limit in _LIMITS]
    # Its number was not given to another process meanwhile.
    if select.select([held], [], [], 0)[0]:
        raise RefusedError("the process that asks has ended")
    os.close(held)
    for limit, soft, hard in limits:
        most = _lower(hard, resource.getrlimit(limit)[1])
        resource.setrlimit(limit, (_lower(soft, most), most))
    os.umask(int(status.get("Umask", "0022"), 8))
    if status.get("NoNewPrivs") == "1" and _prctl(_SET_NO_NEW_PRIVILEGES, 1) != 0:
        raise RefusedError("this system cannot forbid new rights")
    # A process that has changed its user is closed to that user: no debugger, no /proc/self/fd.
    # This one holds no secret of the parent's, so it is opened, as an ordinary kernel is.
    _prctl(_SET_DUMPABLE, 1)


def _check(peer: Peer, status: dict[str, str], own: dict[str, str]) -> None:
    """Refuse a process that is confined in a way which a fork cannot take over."""
    for name, number in (("Uid", peer.user), ("Gid", peer.group)):
        if set(status[name].split()) != {str(number)}:
            raise RefusedError("the process that asks has changed its user")
    for name in _NAMESPACES:
        if _link(peer.process, name) != _link(os.getpid(), name):
            raise RefusedError(f"the process that asks is in another container ({name})")
    for name in ("Seccomp", "Seccomp_filters"):
        if status.get(name) != own.get(name):
            raise RefusedError("the process that asks may not make all system calls (seccomp)")
    if _label(peer.process) != _label(os.getpid()):
        raise RefusedError("the process that asks has another security label")


def rename(name: str) -> None:
    """Set the name that `ps` and `top` show for this process, of 15 letters at most."""
    _prctl(_SET_NAME, ctypes.c_char_p(name.encode()[:15]))


def _become(peer: Peer, groups: list[int]) -> None:
    """Give up the superuser's rights, for good."""
    os.setgroups(groups)
    os.setresgid(peer.group, peer.group, peer.group)
    os.setresuid(peer.user, peer.user, peer.user)
    if peer.user == 0:
        return  # the superuser's own kernel
    status = _status(os.getpid())
    left = [name for name in ("CapPrm", "CapEff", "CapInh", "CapAmb") if int(status[name], 16)]
    if left or os.getresuid() != (peer.user,) * 3 or os.getresgid() != (peer.group,) * 3:
        raise RefusedError("the rights of the superuser could not be given up")


def _bound(rights: int) -> None:
    """Give up rights that no program started from here, not even `sudo`, can then have."""
    for number in range(rights.bit_length()):
        if rights >> number & 1 and _prctl(_DROP_FROM_BOUND, number) != 0:
            raise RefusedError("the process that asks has fewer rights, which cannot be given up")


def _enter_groups(process: int) -> None:
    """Go into the control groups of a process: they limit its memory and its processors."""
    for line, own in zip(_groups(process), _groups(os.getpid()), strict=True):
        if line == own:
            continue
        _, controllers, path = line
        folders = [
            f"/sys/fs/cgroup/{part}" for part in (controllers.removeprefix("name="),) if part
        ]
        if not controllers:
            folders = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        place = next((Path(f"{one}{path}/cgroup.procs") for one in folders
                      if Path(f"{one}{path}/cgroup.procs").is_file()), None)  # fmt: skip
        try:
            if place is None:
                raise FileNotFoundError(f"no control group {path}")
            with place.open("w") as file:
                file.write("0")
        except OSError as error:
            raise RefusedError(f"its control group {path} cannot be entered ({error})") from error


def _groups(process: int) -> list[tuple[str, str, str]]:
    """Return the lines "number:controllers:path" of a process's control groups."""
    lines = _read(process, "cgroup").splitlines()
    return [tuple(line.split(":", 2)) for line in sorted(lines)]  # type: ignore[misc]


def _lower(one: int, other: int) -> int:
    """Return the lower of two limits; -1 is no limit."""
    return max(one, other) if min(one, other) == resource.RLIM_INFINITY else min(one, other)


def _status(process: int) -> dict[str, str]:
    lines = (line.partition(":") for line in _read(process, "status").splitlines())
    return {name: value.strip() for name, _, value in lines}


def _label(process: int) -> str:
    """Return the label of SELinux or AppArmor; "" where there is neither."""
    try:
        return Path(f"/proc/{process}/attr/current").read_text().strip("\0\n ")
    except OSError:
        return ""


def _copy(process: int, name: str) -> None:
    value = _read(process, name).strip()
    try:
        Path(f"/proc/self/{name}").write_text(value)
    except OSError as error:
        raise RefusedError(f"{name} cannot be set to {value}") from error


def _link(process: int, name: str) -> str:
    try:
        return str(Path(f"/proc/{process}/ns/{name}").readlink())
    except FileNotFoundError:
        return ""  # this system has no such namespaces, or the process has ended
    except OSError as error:
        raise RefusedError(
            f"the namespaces of the process that asks cannot be read ({error})"
        ) from error


def _read(process: int, name: str) -> str:
    try:
        return Path(f"/proc/{process}/{name}").read_text()
    except OSError as error:
        raise RefusedError("the process that asks has ended") from error


def _prctl(*words: object) -> int:
    whole = [ctypes.c_ulong(word) if isinstance(word, int) else word for word in (*words, 0, 0, 0)]
    return int(ctypes.CDLL(None, use_errno=True).prctl(*whole))
