"""What a model holds at one moment, to be given back: parameters, buffers and extra state.

By object, and not by `state_dict`: a model may leave parts out of that, as adapters (LoRA) do, or
add what is no tensor; and a buffer may have another shape by then, as a memory bank that grows.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn


class Snapshot:
    """The content of a model's tensors, which tensor stands where, and the extra state.

    Args:
        model: it is read, and written to in `restore` alone.
        parameters: False leaves them out, where only a pass over the model is to be undone.

    Attributes:
        tensors: parameters and buffers that belong to the model's state, by their full names.
        extra: what modules with a `get_extra_state` of their own gave, by the name that it has in
            a `state_dict`.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> before = Snapshot(model)
        >>> _ = nn.init.zeros_(model.weight)
        >>> before.restore()
        >>> bool((model.weight == 0).any())
        False
    """

    def __init__(self, model: nn.Module, *, parameters: bool = True) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.extra: dict[str, Any] = {}
        self._owners: list[tuple[nn.Module, Any]] = []
        self._tables: list[tuple[Any, dict[str, Tensor | None]]] = []
        self._content: dict[int, tuple[Tensor, Tensor]] = {}
        for start, module in _modules(model):
            passing = getattr(module, "_non_persistent_buffers_set", ())
            for table in _tables(module)[not parameters :]:
                standing = dict(table.items())
                self._tables.append((table, standing))
                for name, tensor in standing.items():
                    if tensor is None:
                        continue
                    # The tensor is held as well, so that no other one gets its id.
                    kept = self._content.setdefault(id(tensor), (tensor, _copied(tensor)))[1]
                    if name not in passing:
                        self.tensors[start + name] = kept
            if _has_extra(module):
                state = _copied(module.get_extra_state())
                self._owners.append((module, state))
                self.extra[f"{start}_extra_state"] = state

    def restore(self) -> None:
        """Give the model all of it back: a buffer that was replaced, or has grown, as well.

        What a module does not take back is told by a warning, and the rest is done: this is called
        where another error is on its way, which must not be lost.
        """
        stuck = []
        for module, state in self._owners:
            try:
                module.set_extra_state(_copied(state))
            except Exception as error:  # whatever a module of others raises
                stuck.append(f"{type(module).__name__}.set_extra_state raised {error!r:.200}")
        for table, standing in self._tables:
            now = dict(table.items())
            for name in now.keys() - standing.keys():
                del table[name]
            for name, tensor in standing.items():
                if name not in now or now[name] is not tensor:
                    table[name] = tensor
        for tensor, kept in self._content.values():
            fill(tensor, kept)
        if stuck:
            with suppress(Warning):  # where warnings are errors
                warnings.warn(
                    f"the extra state of the model could not be given back: {'; '.join(stuck)}.",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def is_broken(self, tensor: Tensor) -> bool:
        """Say whether a tensor of the model has an entry that has become NaN or infinite."""
        if bool(tensor.isfinite().all()):
            return False
        _, kept = self._content.get(id(tensor), (None, None))
        return kept is None or has_broken(tensor, kept)


def has_broken(now: Tensor, before: Tensor) -> bool:
    """Say whether an entry is NaN or infinite that was not the same before.

    The mask of an attention layer holds -inf from the start, which is no divergence.

    Example:
        >>> mask = torch.tensor([0.0, -torch.inf])
        >>> has_broken(mask, mask), has_broken(mask, torch.zeros(2))
        (False, True)
    """
    if now.shape != before.shape:
        return not bool(now.isfinite().all())
    now, before = now.detach().to(before), before.detach()
    same = (now == before) | (now.isnan() & before.isnan())
    return not bool((now.isfinite() | same).all())


def fill(tensor: Tensor, content: Tensor) -> None:
    """Give a tensor other content, whatever shape it has by now; it stays the same object."""
    same = tensor.shape == content.shape and tensor.dtype == content.dtype
    with torch.no_grad():
        if same and tensor.device == content.device:
            # An expanded tensor, whose entries share memory, cannot be copied into.
            with suppress(RuntimeError):
                tensor.copy_(content)
                return
        tensor.data = content.clone()


def put(model: nn.Module, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
    """Set a model's tensors and extra state by the names that a `Snapshot` gives them.

    A buffer takes the shape of what comes, and its own dtype and device stay.

    Raises:
        ValueError: a module does not take its extra state; no tensor has been changed then.
    """
    for start, module in _modules(model):
        if (name := f"{start}_extra_state") in extra:
            try:
                module.set_extra_state(_copied(extra[name]))
            except Exception as error:  # whatever a module of others raises
                raise ValueError(f"set_extra_state of {name} raised {error!r:.200}") from error
    device = next(model.parameters()).device
    for start, module in _modules(model):
        for table in _tables(module):
            for name, tensor in dict(table.items()).items():
                content = tensors.get(start + name)
                if content is not None and tensor is not None:
                    fill(tensor, content.to(tensor.device, tensor.dtype))
                elif content is not None:
                    table[name] = content.to(device)


def buffer_shapes(model: nn.Module) -> dict[str, torch.Size | None]:
    """Return the shapes of all buffers by their full names; of one that is None as yet, None."""
    return {
        start + name: None if buffer is None else buffer.shape
        for start, module in _modules(model)
        for name, buffer in _tables(module)[1].items()
    }


def _modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield each module with what its tensors' names begin with, under each of its names."""
    for name, module in model.named_modules(remove_duplicate=False):
        yield f"{name}." if name else "", module


def _tables(module: nn.Module) -> list[Any]:
    # Of TorchScript they are no dict, and take no name that is not there.
    return [module._parameters, module._buffers]


def _has_extra(module: nn.Module) -> bool:
    kind = type(module)
    # What cannot be set again would be kept in vain.
    return (
        kind.get_extra_state is not nn.Module.get_extra_state
        and kind.set_extra_state is not nn.Module.set_extra_state
    )


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    try:
        return copy.deepcopy(value)
    except Exception:  # a lock, a handle: it is what it is
        return value
