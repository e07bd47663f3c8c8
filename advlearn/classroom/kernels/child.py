"""What a fork does to be a kernel like any other: nothing of the parent may show.

A fresh process reads its environment, its folder and its time zone when modules are loaded, and
draws secrets and seeds. In a fork these modules are loaded already, so all of that is done again.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import site
import sys
import tempfile
import threading
import time
from typing import Any

import matplotlib
import numpy as np
import torch

from advlearn.classroom.kernels.request import Request
from advlearn.course import record

INLINE = "module://matplotlib_inline.backend_inline"
_THREADS = torch.get_num_threads()  # as a fresh process has them


def settle(request: Request, streams: list[int]) -> None:
    """Take over streams, environment and folder, and draw again what no two kernels may share.

    Raises:
        OSError: the folder is not there.
    """
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    if request.folder is not None:
        os.chdir(request.folder)
    tempfile.tempdir = None
    record.start_here()
    _find_packages(request.environment)
    _draw_again()
    _set_threads(request.environment)
    _configure_matplotlib()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    gc.enable()


def _find_packages(environment: dict[str, str]) -> None:
    """Put the user's own packages on the path; those that are loaded already stay as they are."""
    sys.path[:0] = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    if sys.prefix == sys.base_prefix and not environment.get("PYTHONNOUSERSITE"):
        with contextlib.suppress(OSError):
            site.ENABLE_USER_SITE, site.USER_BASE, site.USER_SITE = True, None, None
            site.addusersitepackages(set(sys.path))


def _draw_again() -> None:
    """Draw secrets and seeds."""
    import multiprocessing

    multiprocessing.current_process().authkey = os.urandom(32)
    random.seed()
    np.random.seed()
    torch.seed()


def _set_threads(environment: dict[str, str]) -> None:
    """Use as many threads as a fresh process would: the variables were read at the start."""
    named = next((environment[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
                  if environment.get(name, "").isdecimal()), "")  # fmt: skip
    allowed = len(os.sched_getaffinity(0))
    torch.set_num_threads(int(named) if named and int(named) else min(_THREADS, allowed))


def _configure_matplotlib() -> None:
    """Read the user's settings, and draw into the notebook."""
    for name in ("get_configdir", "get_cachedir", "_get_config_or_cache_dir"):
        forget = getattr(getattr(matplotlib, name, None), "cache_clear", None)
        if forget is not None:
            forget()
    with contextlib.suppress(OSError):
        matplotlib.rc_file(matplotlib.matplotlib_fname())
    matplotlib.rcParams["backend"] = os.environ.get("MPLBACKEND") or INLINE


def run(request: Request, line: Any) -> int:
    """Be a kernel, until it is shut down. Return its exit status."""
    from ipykernel.kernelapp import IPKernelApp

    sys.argv = ["ipykernel_launcher.py", *request.arguments]
    application: Any = IPKernelApp.instance()
    # 1 stands for "somebody looks after it": it says nothing of Ctrl+C, and watches no parent.
    application.parent_handle = 1
    application.initialize(request.arguments)
    application.session.username = os.environ.get("USER", "username")
    if not request.independent:
        threading.Thread(target=_end_with, args=(line,), daemon=True).start()
    application.start()
    return 0


def _end_with(line: Any) -> None:
    """End at once when the server that asked for this kernel has ended."""
    with contextlib.suppress(OSError):
        while line.recv(1):
            pass
    os._exit(1)
