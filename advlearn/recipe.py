"""What decides a training run, what it gave, and the state that a checkpoint keeps."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advlearn._atomic import write_atomically
from advlearn._bounded import open_plain, parse_json
from advlearn._quote import listed, printable, quote
from advlearn._snapshot import Snapshot, buffer_shapes, has_broken, put
from advlearn._validation import check_choice, check_count, check_number
from advlearn.context import PRECISIONS

MEMORY_FORMATS = ("preserve", "channels_last")
"""How a batch of images may lie in memory; see `Recipe`."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides how a model is trained, apart from the model and the data.

    Args:
        epochs: passes over the data, >= 1.
        batch_size: examples for each step, >= 1.
        optimizer: "sgd" or "adam".
        lr: learning rate at the start, > 0.
        lr_final: learning rate at the end, reached geometrically; None keeps `lr`.
        momentum: of SGD at the start, in [0, 1); Adam ignores it.
        momentum_final: at the end, reached linearly; None keeps `momentum`. Adam takes none.
        max_norm: the largest L2 norm of a unit's incoming weights, applied after each step; None
            for no limit. It acts on linear and convolutional layers, in any wrapper; a model with
            trained weights elsewhere is refused.
        l1: coefficient of the L1 penalty on the first weight matrix that images meet, >= 0; refused
            likewise.
        stop_on: name of a column of the history to watch, such as "validation_error", smaller is
            better; None trains all epochs. The best epoch's weights are kept.
        patience: epochs without a new best before the run stops, >= 1.
        precision: "exact" for float32, "fast" for matrix products and convolutions in bfloat16,
            see `advlearn.context.precision`; weights stay float32 in both. The price: products keep
            8 bits, so a run ends with other weights than an exact one. What is gained depends on
            the processor; without hardware for bfloat16 "exact" is faster.
        memory_format: "preserve" takes batches as they lie in memory. "channels_last" lays images
            (N, C, H, W) out with the channels of a pixel side by side, which convolutions of most
            processors and GPUs work on faster. The price: sums are taken in another order, so that
            the weights differ in their last digits, and a model must not call `view` on the output
            of a convolution (`flatten` and `reshape` work).
        seed: of the order, the dropout and the noise, >= 0.

    Raises:
        TypeError, ValueError: a value is of the wrong kind or out of its range.

    Example:
        >>> Recipe(epochs=3, lr=0.5).batch_size
        100
    """

    epochs: int
    batch_size: int = 100
    optimizer: str = "sgd"
    lr: float = 0.1
    lr_final: float | None = None
    momentum: float = 0.9
    momentum_final: float | None = None
    max_norm: float | None = None
    l1: float = 0.0
    stop_on: str | None = None
    patience: int = 5
    precision: str = "exact"
    memory_format: str = "preserve"
    seed: int = 0

    def __post_init__(self) -> None:
        # NumPy's numbers become Python's, which all of PyTorch takes.
        given = {
            "epochs": check_count(self.epochs, "epochs"),
            "batch_size": check_count(self.batch_size, "batch_size"),
            "patience": check_count(self.patience, "patience"),
            "seed": check_count(self.seed, "seed", least=0),
            "lr": check_number(self.lr, "lr", low=0.0, open_low=True),
            "momentum": check_number(self.momentum, "momentum", 0.0, 0.9999),
            "l1": check_number(self.l1, "l1", low=0.0),
        }
        check_choice(self.optimizer, "optimizer", ("sgd", "adam"))
        check_choice(self.precision, "precision", PRECISIONS)
        check_choice(self.memory_format, "memory_format", MEMORY_FORMATS)
        if self.stop_on is not None and not isinstance(self.stop_on, str):
            raise TypeError(
                "stop_on must be the name of a column of the history, such as 'validation_error', "
                f"or None, got {type(self.stop_on).__name__} {self.stop_on!r:.60}."
            )
        if self.lr_final is not None:
            given["lr_final"] = check_number(self.lr_final, "lr_final", low=0.0, open_low=True)
        if self.momentum_final is not None:
            given["momentum_final"] = check_number(
                self.momentum_final, "momentum_final", 0.0, 0.9999
            )
            if self.optimizer == "adam":
                raise ValueError(
                    f"momentum_final = {self.momentum_final:g} is for optimizer = 'sgd'; Adam has "
                    "no momentum to change. Leave momentum_final out."
                )
        if self.max_norm is not None:
            given["max_norm"] = check_number(self.max_norm, "max_norm", low=0.0, open_low=True)
        for name, value in given.items():
            # A whole number that is Python's stays one: a run is identified by what is written.
            if type(getattr(self, name)) not in (int, float):
                object.__setattr__(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name: what identifies a run.

        A field that is younger than the first published models is left out at its default, so that
        what was trained without it is still the same run.

        Example:
            >>> "memory_format" in Recipe(epochs=1).as_dict()
            False
        """
        values = asdict(self)
        if self.memory_format == "preserve":
            del values["memory_format"]
        return values

    def at(self, progress: float) -> tuple[float, float]:
        """Return the learning rate and momentum at `progress` in [0, 1] of the run."""
        lr = self.lr * ((self.lr_final or self.lr) / self.lr) ** progress
        end = self.momentum if self.momentum_final is None else self.momentum_final
        return lr, self.momentum + (end - self.momentum) * progress


def callable_name(function: Callable[..., Any]) -> str:
    """Return the name of a function, the same in every process: no addresses.

    The arguments of a `functools.partial` are part of the name, and functions among them are named
    likewise. An object with `__call__` goes by its class. What is inside a function is not looked
    at: two of the same name and arguments have one name.

    Example:
        >>> callable_name(functools.partial(sorted, key=len, reverse=True))
        "sorted(){'key': 'len', 'reverse': True}"
    """

    def name(value: Any) -> Any:
        return callable_name(value) if callable(value) else value

    if isinstance(function, functools.partial):
        args = tuple(map(name, function.args))
        options = {key: name(value) for key, value in function.keywords.items()}
        return f"{name(function.func)}{args}{options}"
    return str(getattr(function, "__qualname__", type(function).__qualname__))


@dataclass
class History:
    """What each epoch gave: one mapping of column to number for each finished epoch.

    Columns: "epoch" (from 1), "loss" (mean over the epoch's training examples, in nats),
    "seconds", "validation_error" and "validation_loss" (with validation data), and whatever
    `measure` returned, by other names than these.

    Example:
        >>> History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])["loss"]
        [0.5, 0.25]
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    stopped_early: bool = False

    def __getitem__(self, column: str) -> list[float]:
        """Return one column, an entry for each epoch."""
        lacking = [place for place, row in enumerate(self.rows, 1) if column not in row]
        if lacking and len(lacking) == len(self.rows):
            raise KeyError(f"there is no column {column!r}; there are {', '.join(self.rows[0])}")
        if lacking:
            raise KeyError(
                f"the column {column!r} lacks epoch {listed(map(str, lacking))}: measure did not "
                "return it there. What there is stands in history.rows"
            )
        return [row[column] for row in self.rows]

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {value:.4g}" for name, value in (self.rows or [{}])[-1].items())
        return f"History of {len(self.rows)} epochs; last: {last}"


class Run:
    """The state of one run: what a checkpoint holds and what an exception must restore."""

    def __init__(self, model: nn.Module, recipe: Recipe, extra: dict[str, Any]) -> None:
        self.model, self.recipe, self.history = model, recipe, History()
        # Through JSON, so that it compares equal to what a checkpoint gives back.
        self.identity = json.loads(json.dumps(recipe.as_dict() | extra, default=float))
        self.best: Snapshot | None = None
        self.best_value, self.best_epoch = math.inf, 0
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(self.trained, recipe.lr, momentum=recipe.momentum)
            if recipe.optimizer == "sgd"
            else torch.optim.Adam(self.trained, recipe.lr)
        )
        # A buffer may change its shape in training; a checkpoint names those that did.
        self._start = buffer_shapes(model)
        self._reshaped: set[str] = set()

    @contextmanager
    def safely(self) -> Iterator[Snapshot]:
        """Give the model back as the last whole epoch left it if this one breaks.

        Inside, what the model held before is at hand.
        """
        before, modes = Snapshot(self.model), [(m, m.training) for m in self.model.modules()]
        try:
            yield before
        except BaseException:
            before.restore()
            self.optimizer.zero_grad(set_to_none=True)
            raise
        finally:
            # A frozen BatchNorm, or a model in training mode, comes back as it was handed over.
            for module, mode in modes:
                module.training = mode

    def finish(self, row: dict[str, float]) -> None:
        """Note a whole epoch, and decide whether it is the best and whether to stop."""
        self.history.rows.append(row)
        if self.recipe.stop_on is None:
            return
        if self.recipe.stop_on not in row:
            raise ValueError(
                f"stop_on = {self.recipe.stop_on!r} is not measured. There are {', '.join(row)}."
            )
        if row[self.recipe.stop_on] < self.best_value:
            self.best, self.best_value = Snapshot(self.model), row[self.recipe.stop_on]
            self.best_epoch = len(self.history.rows)
        waited = len(self.history.rows) - self.best_epoch
        self.history.stopped_early = waited >= self.recipe.patience

    def restore_best(self) -> None:
        """Load the best epoch's weights, when early stopping kept them."""
        if self.best is not None:
            self.best.restore()

    def prepare(self, path: Path) -> None:
        """Go on from a checkpoint that is there, or make its folder.

        What would keep it from being saved is said before any work.

        Raises:
            OSError: there can be no such folder, or nothing may be written into it.
            ValueError: a module has an extra state that no checkpoint can hold; or as `load`.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(
                f"checkpoint {path} cannot be written: {path.parent} is a folder that you may not "
                "write in. Pass another file name."
            )
        _packed({"model": Snapshot(self.model)})
        if path.exists():
            self.load(path)

    def save(self, path: Path) -> None:
        """Write everything to one safetensors file, all or nothing."""
        from safetensors.torch import save

        parts = {"model": Snapshot(self.model)} | ({"best": self.best} if self.best else {})
        tensors, extra = _packed(parts)
        for part in parts.values():
            self._reshaped |= {
                name
                for name, shape in self._start.items()
                if name in part.tensors and part.tensors[name].shape != shape
            }
        for number, state in self.optimizer.state_dict()["state"].items():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{number}.{key}"] = value
        about = {
            "identity": self.identity,
            "rows": self.history.rows,
            "stopped_early": self.history.stopped_early,
            "best": [self.best_value if math.isfinite(self.best_value) else None, self.best_epoch],
        }
        # Only where there is something to say: other files are those of earlier versions.
        about |= {"extra": extra} if extra else {}
        about |= {"reshaped": sorted(self._reshaped)} if self._reshaped else {}
        about["sha256"] = _digest(tensors, about)
        path.parent.mkdir(parents=True, exist_ok=True)
        names = {id(value): name for name, value in tensors.items()}
        contiguous = {  # a tensor of two names is two in the file
            name: value.contiguous() if names[id(value)] == name else value.clone()
            for name, value in tensors.items()
        }
        write_atomically(path, save(contiguous, metadata={"advlearn": json.dumps(about)}))

    def load(self, path: Path) -> None:
        """Go on from `save`'s file; refuse one that is broken or of another run.

        Nothing of the model is changed, and no tensor is read, before the file is known to fit.
        """
        from safetensors import SafetensorError, safe_open

        broken = (SafetensorError, *_BROKEN)
        try:
            about, shapes = _head(path)
            saved = dict(about["identity"])
            texts = _group(about.get("extra", {}))
            reshaped = {str(name) for name in about.get("reshaped", [])} & self._start.keys()
        except broken as error:
            raise _damaged(path, error) from error
        self._check_identity(path, saved)
        here, there = Snapshot(self.model), _group(shapes)
        differ = _difference(here, there["model"], texts["model"], reshaped)
        if differ:
            raise ValueError(
                f"checkpoint {path} is of another model (they differ in {listed(differ)}). "
                "Pass another file name."
            )
        try:
            rows, stopped, best, best_epoch = _history(about)
            if there["best"] and _difference(here, there["best"], texts["best"], reshaped):
                raise ValueError("its best weights are of another model")
            self._check_rest(there)
            with safe_open(path, framework="pt") as opened:
                tensors = {name: opened.get_tensor(name) for name in shapes}
            known = about.pop("sha256", None)  # version 0.1.0 wrote none
            if known is not None and known != _digest(tensors, about):
                raise ValueError("its content is not what was written: the sha256 differs")
            parts = _group(tensors)
            self._check_finite(parts)
            if parts["best"]:
                self._put(parts, texts, "best")
                self.best = Snapshot(self.model)
            self._put(parts, texts, "model")
        except broken as error:
            here.restore()
            raise _damaged(path, error) from error
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimizer"].items():
            number, _, key = name.partition(".")
            state.setdefault(int(number), {})[key] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        self.history = History(rows, stopped)
        self._reshaped = reshaped
        self.best_value, self.best_epoch = math.inf if best is None else best, best_epoch

    def _check_identity(self, path: Path, saved: Mapping[str, Any]) -> None:
        """Require that a checkpoint is of this run."""
        other = [
            f"{key}: {quote(saved.get(key))} there, {quote(self.identity.get(key))} here"
            for key in sorted(saved.keys() | self.identity.keys())
            if saved.get(key) != self.identity.get(key)
        ]
        if other:
            raise ValueError(
                f"checkpoint {path} is of another run ({printable('; '.join(other), 1000)}). "
                "Pass another file name, or delete it to start anew."
            )

    def _check_finite(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Require that what is trained holds no NaN or infinity that the model here does not."""
        trained = {id(parameter) for parameter in self.trained}
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            for weights in (parts["model"], parts["best"]):
                value = weights.get(name, parameter)
                if id(parameter) in trained and has_broken(value, parameter):
                    raise ValueError(f"{name} holds NaN or infinity")

    def _put(self, parts: Mapping[str, Any], texts: Mapping[str, Any], group: str) -> None:
        """Give the model what a checkpoint holds of it."""
        put(self.model, parts[group], parts[group] | texts[group])

    def _check_rest(self, there: Mapping[str, Mapping[str, Any]]) -> None:
        """Require that the optimizer's state has the shapes of this run, and nothing else is in."""
        for name, shape in there["optimizer"].items():
            number = int(name.partition(".")[0])
            if not 0 <= number < len(self.trained) or shape not in (
                (),
                tuple(self.trained[number].shape),
            ):
                raise ValueError(f"its optimizer's {quote(name)} is of another model")
        if there.keys() - {"model", "best", "optimizer"}:
            raise ValueError("it holds tensors that are none of a run")


_MOST_HEADER = 10_000_000
_BROKEN = (KeyError, TypeError, ValueError, AttributeError, RecursionError)


def _head(path: Path) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """Return what a checkpoint says of itself, and the shapes of its tensors."""
    from safetensors import safe_open

    with open_plain(path) as file:
        if int.from_bytes(file.read(8), "little") > _MOST_HEADER:
            raise ValueError("its header is too long")
    with safe_open(path, framework="pt") as opened:
        about = parse_json((opened.metadata() or {})["advlearn"])
        names = list(opened.keys())
        return about, {name: tuple(opened.get_slice(name).get_shape()) for name in names}


def _damaged(path: Path, error: BaseException) -> ValueError:
    return ValueError(
        f"checkpoint {path} is not one of advlearn's, or is damaged "
        f"({printable(error) or type(error).__name__}). Delete it to start anew."
    )


def _group(tensors: Mapping[str, Any]) -> defaultdict[str, dict[str, Any]]:
    """Return what belongs to the model, to its best weights and to the optimizer."""
    groups: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in tensors.items():
        group, _, rest = name.partition(".")
        groups[group][rest] = value
    return groups


def _packed(parts: Mapping[str, Snapshot]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a checkpoint by name, and as JSON the extra states that are none."""
    tensors: dict[str, Tensor] = {}
    texts: dict[str, Any] = {}
    for group, part in parts.items():
        tensors |= {f"{group}.{name}": value for name, value in part.tensors.items()}
        for name, state in part.extra.items():
            if isinstance(state, Tensor):
                tensors[f"{group}.{name}"] = state
                continue
            try:
                same = bool(json.loads(json.dumps(state, allow_nan=False)) == state)
            except (TypeError, ValueError, RecursionError):
                same = False
            if not same:
                raise ValueError(
                    f"checkpoint cannot hold {name} of model, got {printable(state)}. Let "
                    "get_extra_state return a tensor, or numbers, texts, lists and dicts of them, "
                    "or leave checkpoint out."
                )
            texts[f"{group}.{name}"] = state
    return tensors, texts


def _difference(
    here: Snapshot, shapes: Mapping[str, Any], texts: Mapping[str, Any], reshaped: set[str]
) -> list[str]:
    """Return the names in which a model and a checkpoint of one differ.

    A buffer that changed its shape in training may have any, and an extra state too.
    """
    ours: dict[str, Any] = {name: tuple(value.shape) for name, value in here.tensors.items()}
    ours |= dict.fromkeys(here.extra)
    theirs: dict[str, Any] = {
        name: None if name in here.extra else shape for name, shape in shapes.items()
    }
    theirs |= dict.fromkeys(texts)
    return sorted({name for name, _ in ours.items() ^ theirs.items()} - reshaped)


def _history(about: Mapping[str, Any]) -> tuple[list[dict[str, float]], bool, float | None, int]:
    """Return the rows of a checkpoint, whether it stopped early, its best value and epoch."""
    rows, stopped, (best, epoch) = about["rows"], about["stopped_early"], about["best"]
    numbers = [value for row in rows for value in row.values()]
    numbers += [0.0 if best is None else best, epoch]
    if not all(type(number) in (int, float) for number in numbers) or type(stopped) is not bool:
        raise ValueError("its history is not made of numbers")
    return rows, stopped, best, epoch


def _digest(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """Return a hash of all that a checkpoint holds."""
    whole = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        whole.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        whole.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()
