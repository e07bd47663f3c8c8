"""Connect to a Dask cluster, or say in words why that fails.

The package `distributed` is loaded here only when a cluster is asked for.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ANSWER_WITHIN = 20
"""Seconds in which a scheduler must answer."""


def distributed(instead: str) -> Any:
    """Return the package `distributed`.

    Args:
        instead: what to do without it, such as "leave out --scheduler".

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        return importlib.import_module("distributed")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a cluster needs the package distributed. Run `pip install 'advlearn[cluster]'`, "
            f"or {instead}."
        ) from error


@contextmanager
def connected(
    address: str, instead: str, seconds: float | None = None, *, default: bool = False
) -> Iterator[Any]:
    """Connect to a scheduler that runs already.

    Args:
        address: tcp://host:port, or tls://host:port with Dask's own settings for certificates.
        instead: as for `distributed`.
        seconds: in which the scheduler must answer; `ANSWER_WITHIN` by default.
        default: whether functions of Dask that are given no client use this one.

    Yields:
        A `distributed.Client`.

    Raises:
        ModuleNotFoundError: `distributed` is not installed.
        ValueError: no scheduler answers there, or it cannot be told who we are.
    """
    package = distributed(instead)
    reason, remedy = "", ""
    try:
        client = package.Client(address, timeout=seconds or ANSWER_WITHIN, set_as_default=default)
    except (OSError, ValueError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        remedy = (
            "Start one with `dask scheduler`, its workers with `dask worker ADDRESS`, and pass its "
            "address."
        )
    except (TypeError, RuntimeError) as error:
        # Dask has no certificates for tls://, or its settings forbid tcp://.
        reason = str(error)
        remedy = (
            "For tls:// tell Dask its certificates, here and on every machine of the cluster: "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, and CERT and KEY under "
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__, name the files."
        )
    if reason:
        # The error and the half-made client refer to each other. If the collector came upon
        # them while a later client starts, closing this one would wait for that one's lock.
        gc.collect()
        raise ValueError(f"no scheduler answers at {address} ({reason}). {remedy}")
    with client:
        yield client
