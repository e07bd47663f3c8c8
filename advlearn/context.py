"""Contexts: borrow a model and give it back as it was; how exact matrix products are."""

from __future__ import annotations

import functools
import random
import sys
import threading
import types
import warnings
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from advlearn import _bfloat16
from advlearn._snapshot import fill
from advlearn._validation import check_choice, check_label_range, check_logits, logits_of
from advlearn.directions import directions
from advlearn.passes import count_passes

Model = Callable[[Tensor], Tensor]
"""Anything that maps images (N, ...) to logits (N, K); usually a `torch.nn.Module`."""

PRECISIONS = ("exact", "fast")
"""How matrix products may be computed; see `precision`."""

Result = TypeVar("Result")


# --- What is behind a model -----------------------------------------------------------------------

MOST_THINGS = 10_000
"""How many objects are looked at in the search for modules."""

# Most of what a module holds is told by its exact type, which takes a fraction of the time.
_COMMON = frozenset(
    (str, int, float, bool, type(None), Tensor, nn.Parameter, torch.Size, torch.dtype)
)
_PLAIN = (str, bytes, int, float, complex, type(None), Tensor, torch.dtype, torch.device)
_CONTAINERS = (list, tuple, set, frozenset, deque)
# Kinds of the standard library that only hold what somebody gave a name.
_HOLDERS = frozenset(
    ("Namespace", "SimpleNamespace", "local", "_local", "UserDict", "UserList", "ChainMap")
)
_MOST_ENTRIES = 100_000  # of a long container that are looked at
# What every module has, but for its hooks: they may call a module of their own.
_STANDARD = vars(nn.Module()).keys() - {"_forward_hooks", "_forward_pre_hooks"}
# They keep nobody's model, but in a closure or a default.
_LIBRARIES = sys.stdlib_module_names | {"torch", "torchvision", "numpy"}


class Passing:
    """A callable of this library that passes images on to a model, and is borrowed as that model.

    Attributes:
        model: the model.
    """

    model: Model


def _passed_to(model: Any) -> Any:
    return model.model if isinstance(model, Passing) else model


def modules_behind(model: object) -> list[nn.Module]:
    """Return the modules that a model consists of, also where it is no module itself.

    They are looked for in a module's submodules and other attributes, and behind functions (what
    they close over, their defaults, the global names in their code), bound methods,
    `functools.partial`, callable objects, and lists and dicts of such.

    Args:
        model: a `torch.nn.Module`, or any callable.

    Example:
        >>> layer = torch.nn.Linear(2, 2)
        >>> modules_behind(lambda x: layer(x)["logits"]) == [layer]
        True
    """
    return _behind(model)[0]


def _behind(model: object) -> tuple[list[nn.Module], list[object]]:
    """Return the modules behind a model, and everything else that was looked into."""
    modules: dict[int, nn.Module] = {}
    seen: dict[int, object] = {}  # Kept, or another object could get the id of a lost one.
    queue = deque([model])
    while queue and len(seen) < MOST_THINGS:
        thing = queue.popleft()
        if isinstance(thing, _PLAIN) or id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if isinstance(thing, nn.Module):
            new = [module for module in thing.modules() if id(module) not in modules]
            modules |= {id(module): module for module in new}
            for module in new:
                queue.extend(_inside(module))
        else:
            queue.extend(_parts(thing))
    return list(modules.values()), list(seen.values())


# Ways to an image's memory on which writes are not counted.
_UNCOUNTED = frozenset(("data", "numpy", "asarray", "from_dlpack", "__array__", "set_"))


def _may_write_unseen(model: object) -> bool:
    """Say whether a model's own code names a way to write on which PyTorch does not count.

    What it writes may depend on the images: `z.data.clamp_(0, 1)` changes nothing in clean ones.
    """
    modules, things = _behind(model)
    kinds = {kind for module in modules for kind in type(module).__mro__}
    methods = [
        getattr(value, "__func__", getattr(value, "fget", value))
        for kind in kinds
        if not _of_library(kind.__module__)
        for value in vars(kind).values()
    ]
    return any(
        not _UNCOUNTED.isdisjoint(code.co_names)
        for thing in (*things, *methods)
        if isinstance(thing, types.FunctionType) and not _of_library(thing.__module__)
        for code in codes_in(thing.__code__)
    )


def _inside(module: nn.Module) -> list[object]:
    """Return what a module holds beside its submodules, and its own `forward`."""
    held = [
        value
        for name, value in vars(module).items()
        if name not in _STANDARD
        and type(value) not in _COMMON
        and not (type(value) is OrderedDict and not value)
        and not isinstance(value, _PLAIN)
        and value is not module
    ]
    origin = type(module).__module__
    known = _of_library(origin) or origin.startswith(f"{__package__}.")
    return held if known else [*held, type(module).forward]


def _parts(thing: Any) -> Iterable[object]:
    """Return the objects that may hold a module, one level down."""
    attributes = getattr(thing, "__dict__", {})
    parts: Iterable[object]
    if isinstance(thing, functools.partial):
        parts = thing.func, *thing.args, *thing.keywords.values()
    elif isinstance(thing, types.MethodType):
        parts = thing.__self__, thing.__func__
    elif isinstance(thing, types.FunctionType):
        parts = *closed_over(thing), *attributes.values(), *_named(thing)
    elif isinstance(thing, (type, types.ModuleType)):
        parts = ()
    elif isinstance(thing, weakref.ref):
        parts = (thing(),)
    elif isinstance(thing, (*_CONTAINERS, dict)):
        values = thing.values() if isinstance(thing, dict) else thing
        if len(values) > MOST_THINGS // 10:  # it holds data, and models at the most
            values = [one for one in islice(values, _MOST_ENTRIES) if isinstance(one, nn.Module)]
        parts = (*attributes.values(), *values)
    elif type(thing).__name__ in _HOLDERS:
        parts = attributes.values()
    elif _of_library(type(thing).__module__):
        parts = (attributes.get("__wrapped__"),)
    else:
        slots = (name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ()))
        slotted = (getattr(thing, name) for name in slots if hasattr(thing, name))
        call = vars(type(thing)).get("__call__")
        parts = *attributes.values(), *slotted, call
    return parts


def _of_library(name: object) -> bool:
    return isinstance(name, str) and name.partition(".")[0] in _LIBRARIES


def closed_over(function: types.FunctionType) -> Iterator[object]:
    """Give what a function carries: values of its closure and of its defaults."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()


def codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """Give a code, and those of the functions that are defined inside."""
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from codes_in(const)


def _named(function: types.FunctionType) -> list[object]:
    """Return the values of the global names in a function's code, and of names after a dot."""
    space = function.__globals__
    if _of_library(space.get("__name__")):
        return []
    names = {name for code in codes_in(function.__code__) for name in code.co_names}
    found = [space[name] for name in names if name in space]
    spaces: set[int] = set()
    for value in found:  # grows, too: `package.module.net`, `Config.net`
        dotted = isinstance(value, (type, types.ModuleType)) and id(value) not in spaces
        if dotted and not _of_library(getattr(value, "__module__", value.__name__)):
            spaces.add(id(value))
            found += [vars(value)[name] for name in names if name in vars(value)]
    return found


# --- Borrowing ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Loan:
    """An attribute that has another value while somebody borrows its owner."""

    owner: Any
    name: str
    before: Any
    key: tuple[int, str]
    borrowers: set[int] = field(default_factory=set)  # ids of their lists of loans


_LOANS: dict[tuple[int, str], _Loan] = {}
_LOCK = threading.RLock()


def _wanted(module: nn.Module, backward: bool) -> Iterator[tuple[Any, str, bool]]:
    """Yield the attributes that an attack needs: (owner, name, value)."""
    attributes = vars(module)
    # A frozen TorchScript module has none: it is in eval mode.
    if "training" in attributes or hasattr(module, "training"):
        yield module, "training", False
    own = attributes.get("_parameters")
    # A script keeps its parameters elsewhere; `parameters()` takes longer than the rest of this.
    for parameter in module.parameters(False) if own is None else own.values():
        if is_lazy(parameter):
            raise ValueError(
                f"model holds a lazy layer, {_called(module)}, that has seen no images yet. Call "
                "model(x) once first."
            )
        # What was made in inference mode cannot be told to require a gradient again.
        if parameter is not None and parameter.is_leaf and not parameter.is_inference():
            yield parameter, "requires_grad", False
    if backward and isinstance(module, nn.RNNBase):
        # cuDNN has no backward pass for an RNN in eval mode; PyTorch's own kernels have.
        yield torch.backends.cudnn, "enabled", False
    if isinstance(module, DistributedDataParallel):
        # It would wait for gradients of parameters, and for the other processes.
        yield module, "require_backward_grad_sync", False
        yield module, "require_forward_param_sync", False


@dataclass(slots=True)
class _Kept:
    """A buffer as it was when its module was borrowed."""

    name: str
    buffer: Tensor
    content: Tensor
    writes: int | None  # PyTorch's count of the writes to it; inference tensors have none

    @classmethod
    def of(cls, name: str, buffer: Tensor) -> _Kept:
        return cls(name, buffer, buffer.detach().clone(), _writes(buffer))

    def give_back(self, module: nn.Module) -> None:
        """Put the buffer and its content back where either has changed."""
        own = vars(module).get("_buffers", {})  # a script keeps its buffers elsewhere
        if self.writes is None or self.writes != _writes(self.buffer):
            with torch.inference_mode(self.buffer.is_inference()):
                fill(self.buffer, self.content)
        if self.name in own and own[self.name] is not self.buffer:
            own[self.name] = self.buffer


def _writes(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _buffers_of(module: nn.Module) -> Iterable[tuple[str, Tensor | None]]:
    own = vars(module).get("_buffers")
    return module.named_buffers(recurse=False) if own is None else own.items()


def _hold(loan: _Loan, held: list[_Loan]) -> None:
    """Note a loan, in an order in which an interrupt at any place leaves nothing unreturned."""
    held.append(loan)
    _LOANS[loan.key] = loan
    loan.borrowers.add(id(held))


def _borrow(
    modules: Iterable[nn.Module], backward: bool, held: list[_Loan], *, lent: bool = False
) -> None:
    """Set what `_wanted` says, and add what has to be given back to `held`.

    Buffers are kept too: some models count, or average, in eval mode as well. While they are `lent`
    by a functional call they are its caller's, and it puts the module's own back itself.
    """
    with _LOCK:
        for module in modules:
            for name, buffer in () if lent else _buffers_of(module):
                if buffer is None or buffer.is_meta or is_lazy(buffer):
                    continue
                key = id(module), f"the buffer {name}"
                loan = _LOANS.get(key)
                if loan is None:
                    loan = _Loan(module, key[1], _Kept.of(name, buffer), key)
                _hold(loan, held)
            for owner, name, value in _wanted(module, backward):
                key = id(owner), name
                loan = _LOANS.get(key)
                if loan is None:
                    before = getattr(owner, name)
                    # Only what differs is touched: writing a flag that is already right costs time,
                    # and recompiles a compiled model.
                    if before is value:
                        continue
                    loan = _Loan(owner, name, before, key)
                _hold(loan, held)
                try:
                    # One by one: `model.eval()` may be overridden and do more than that.
                    _set(owner, name, value)
                except Exception as error:
                    raise ValueError(
                        f"model holds {_called(owner)}, which does not let {name} be set to "
                        f"{value} ({error}). Set it yourself before, or attack the part that does."
                    ) from error


def _set(owner: Any, name: str, value: Any) -> None:
    """Set an attribute; a module's own flag without the search for parameters of that name."""
    own_way: object = type(owner).__setattr__
    if name == "training" and own_way is nn.Module.__setattr__:
        own = vars(owner)
        if name in own:
            own[name] = value
            return
    setattr(owner, name, value)


def _frozen(modules: Iterable[nn.Module]) -> list[tuple[nn.Parameter, int]]:
    """List the parameters that are not trained, with the number of writes to them so far.

    Some models keep there what their forward writes. It is noticed, and not kept: there may be much
    of it.
    """
    return [
        (parameter, parameter._version)
        for module in modules
        for parameter in vars(module).get("_parameters", {}).values()
        if parameter is not None and not (parameter.requires_grad or parameter.is_inference())
    ]


def _in_functional_call() -> bool:
    """Say whether `torch.func.functional_call` is at work, with tensors of its caller's."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "functional_call" and frame.f_globals.get("__name__") in (
            "torch._functorch.functional_call",
            "torch.nn.utils.stateless",
        ):
            return True
        frame = frame.f_back
    return False


def _give_back(held: list[_Loan]) -> list[str]:
    """Set back what nobody else borrows; return in words what would not be set.

    All steps can be done twice, for an interrupt may come at any of them: then the rest is set back
    nevertheless, and the interrupt goes on afterwards.
    """
    stuck: list[str] = []
    interrupt: BaseException | None = None
    with _LOCK:
        while held:
            try:
                _return(held[-1], id(held), stuck)
                held.pop()
            except Exception as error:  # of the owner's own code, which would raise it again
                interrupt = error
                _LOANS.pop(held.pop().key, None)
            except BaseException as error:
                interrupt = error
    if interrupt is not None:
        raise interrupt
    return stuck


def _return(loan: _Loan, borrower: int, stuck: list[str]) -> None:
    """Set back one loan, if nobody else has it."""
    loan.borrowers.discard(borrower)
    if loan.borrowers or _LOANS.get(loan.key) is not loan:
        return
    try:
        if isinstance(loan.before, _Kept):
            loan.before.give_back(loan.owner)
        else:
            _set(loan.owner, loan.name, loan.before)
    except Exception as error:
        if isinstance(loan.before, _Kept):
            stuck.append(f"{loan.name} of {_called(loan.owner)} ({error})")
        elif getattr(loan.owner, loan.name, None) is not loan.before:
            stuck.append(f"{loan.name} = {loan.before} of {_called(loan.owner)} ({error})")
    del _LOANS[loan.key]


def _called(owner: Any) -> str:
    """Name the owner of an attribute, without its weights."""
    if isinstance(owner, Tensor):
        return f"a parameter of shape {tuple(owner.shape)}"
    return getattr(owner, "__name__", f"a {type(owner).__name__}")


@contextmanager
def _modules_called(
    take: Callable[[nn.Module], None], found: Iterable[nn.Module]
) -> Iterator[None]:
    """Call `take` with each other module before this thread calls it for the first time.

    Those that were `found` are left out: a function that itself calls `.train()` means it.
    """
    thread = threading.get_ident()
    known = {id(module): module for module in found}

    def before(module: nn.Module, _: object) -> None:
        if torch.compiler.is_compiling():  # A compiled function is searched, not watched.
            return
        if threading.get_ident() == thread and id(module) not in known:
            known.update((id(part), part) for part in module.modules())
            take(module)

    handle = register_module_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _own_cache() -> Iterator[None]:
    """Keep `parametrize.cached()` around an attack from keeping weights without a graph."""
    if not getattr(parametrize, "_cache_enabled", 0):
        yield
        return
    outer, parametrize._cache = parametrize._cache, {}
    try:
        yield
    finally:
        parametrize._cache = outer


@contextmanager
def attack_mode(model: Model, *, backward: bool = True) -> Iterator[None]:
    """Put `model` into eval mode with parameter gradients off; restore everything at the end.

    An attack asks how the *deployed* model reacts, so dropout and batch statistics must be off.
    Its gradient is with respect to pixels, so the parameters need none. Each module's own
    `training` flag and each parameter's own `requires_grad` flag come back, not one value for all:
    a frozen BatchNorm inside a model in training stays frozen. So do buffers, which some models
    change in eval mode too. All come back after an exception too, and when several threads borrow
    one model, after the last of them. Inside the block
    gradients are on, whatever `no_grad` or `inference_mode` surrounds it.

    The modules of a callable that is no module are found by `modules_behind`, or else when they are
    called. An RNN runs without cuDNN, which has no backward pass for one in eval mode.

    Args:
        model: a `torch.nn.Module`, or any callable.
        backward: whether gradients are taken inside; without them an RNN keeps cuDNN.

    Raises:
        ValueError: a part of the model cannot be put into eval mode.
        RuntimeError: at the end, a flag could not be set back, all others were; or the model writes
            into a parameter that is not trained. After another exception it is a warning.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Dropout())
        >>> with attack_mode(model):
        ...     model[1].training, model[0].weight.requires_grad
        (False, False)
        >>> model[1].training, model[0].weight.requires_grad
        (True, True)
        >>> with attack_mode(lambda x: model(x)):
        ...     model[1].training
        False
    """
    held: list[_Loan] = []

    def take(module: nn.Module) -> None:
        _borrow(module.modules(), backward, held, lent=_in_functional_call())

    model = _passed_to(model)
    leave = torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()
    found = list(modules_behind(model))
    watch = nullcontext() if isinstance(model, nn.Module) else _modules_called(take, found)
    frozen = _frozen(found)
    finished = False
    with leave, torch.enable_grad(), directions(), watch, _own_cache():
        try:
            _borrow(found, backward, held)
            yield
            finished = True
        finally:
            try:
                stuck = _give_back(held)
            except BaseException:  # an interrupt, perhaps before anything was given back
                _give_back(held)
                raise
            stuck += [
                f"its forward writes into {_called(parameter)} (keep what it writes in a buffer)"
                for parameter, writes in frozen
                if parameter._version != writes
            ]
            if stuck:
                words = f"the model could not be given back as it was: {'; '.join(stuck)}."
                if finished:
                    raise RuntimeError(words)
                warnings.warn(words, RuntimeWarning, stacklevel=2)


# --- Handing out ----------------------------------------------------------------------------------

# What has been seen to leave its input alone: with gradients on or off, in training or not.
_READERS: defaultdict[tuple[bool, bool], weakref.WeakSet[Any]] = defaultdict(weakref.WeakSet)
# Whose writes may go unnoticed: they get a copy each time.
_SUSPECTS: weakref.WeakSet[Any] = weakref.WeakSet()


def hand_out(
    function: Callable[[Tensor], Result], x: Tensor, *, known_as: object = None, name: str = "x"
) -> Result:
    """Return function(x), and leave x as it is, whatever the function does to its input.

    A model that normalises in place would change the caller's images. What is met for the first
    time gets a copy. If the copy is untouched afterwards, the next calls are handed x itself, and
    PyTorch's count of the writes to x is compared, which costs next to nothing. What did write gets
    a copy each time, and so does what names a way to write that is not counted, such as `.data`.

    Args:
        function: a model, or anything that takes images.
        x: (N, ...).
        known_as: what is remembered as harmless, where `function` is made anew for each call.
        name: what an error calls x.

    Raises:
        TypeError: the function failed, and x has another dtype than its parameters.
        ValueError: the same for the device, and for weights of inference mode; or it wrote into x
            although it had not done so before.

    Example:
        >>> x = torch.ones(2)
        >>> hand_out(lambda images: images.mul_(3), x), x
        (tensor([3., 3.]), tensor([1., 1.]))
    """
    known_as = _passed_to(function) if known_as is None else known_as
    mode = getattr(known_as, "training", None)
    readers = _READERS[torch.is_grad_enabled(), mode is True]
    try:
        harmless = known_as in readers
    except TypeError:  # cannot be hashed, or not be referred to weakly
        harmless = False
    handed = x if harmless else x.clone()
    # Writes to inference tensors are not counted, and impossible outside inference mode.
    counted = not handed.is_inference()
    writes = handed._version if counted else 0
    tracked = handed.requires_grad
    failure = None
    try:
        result = function(handed)
    except RuntimeError as error:
        failure = error
    if handed.requires_grad != tracked and handed.is_leaf:
        handed.requires_grad_(tracked)  # a model may ask for the gradient of its input
    wrote = counted and handed._version != writes
    # Autograd itself keeps a leaf from being written to.
    if harmless and (wrote or (failure and "leaf Variable" in str(failure))):
        readers.discard(known_as)
        raise ValueError(
            f"{_called(known_as)} wrote into {name}, its input, which it had not done before. "
            f"{f'Take {name} anew' if wrote else 'Call again'}. In its code, write x = x - mean in "
            "place of x -= mean, and clone x before operations in place (names that end in _, "
            "inplace=True)."
        ) from failure
    if failure:
        _explain(failure, function, x, name)
        raise failure
    # By content too: writes through .data or NumPy are not counted.
    if not harmless and not wrote and handed.detach().equal(x.detach()):
        with suppress(TypeError):
            if known_as not in _SUSPECTS:
                (_SUSPECTS if _may_write_unseen(known_as) else readers).add(known_as)
    return result


def answer(model: Model, x: Tensor) -> Any:
    """Return a copy of what the model gives as its logits, without a graph, and count the pass.

    A copy, for a model may give its input, or one and the same tensor each time. What is no tensor
    comes as it is, for `check_logits` to name.

    Args:
        model: maps (N, ...) to logits (N, K), in the mode that it is in.
        x: (N, ...), left as it is: see `hand_out`.

    Example:
        >>> x = torch.ones(2, 3)
        >>> answer(lambda images: images, x).zero_().sum(), x.sum()
        (tensor(0.), tensor(6.))
    """
    count_passes(len(x))
    with torch.no_grad():
        logits = logits_of(hand_out(model, x))
        return logits.detach().clone() if isinstance(logits, Tensor) else logits


def checked_answer(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Return the logits (N, K) of a model that is in `attack_mode`, without a graph.

    Raises:
        TypeError, ValueError: they are not what logits of these labels should be.
    """
    logits: Tensor = answer(model, x)
    check_logits(logits, y)
    check_label_range(y, logits.shape[1])
    return logits


def _explain(
    error: RuntimeError, function: Callable[[Tensor], object], x: Tensor, name: str
) -> None:
    """Raise a clear error where x does not fit the parameters; return where that is not why."""
    parameters = [p for module in modules_behind(function) for p in module.parameters(False)]
    if torch.is_grad_enabled() and any(p.is_inference() for p in parameters):
        raise ValueError(
            "model has weights that were made in torch.inference_mode(), through which no gradient "
            "passes. Build the model and load its weights outside, or in torch.no_grad()."
        ) from error
    if "does not require grad and does not have a grad_fn" in str(error):
        raise ValueError(
            "model takes a gradient of its own as it answers, as in test-time adaptation, and its "
            "parameters are frozen while it is attacked or measured, so that it is given back as "
            "it was. Adapt it before, and pass the adapted model."
        ) from error
    places = {(p.device, p.dtype) for p in parameters if p.is_floating_point()}
    for device, dtype in sorted(places - {(x.device, x.dtype)}, key=str):
        try:
            # A model may cast what it is given, and fail for another reason.
            with torch.no_grad():
                function(x.detach().to(device, dtype, copy=True))
        except Exception:
            continue
        if x.dtype != dtype:
            raise TypeError(
                f"{name} has dtype {x.dtype}, and the model's parameters have {dtype}. Pass "
                f"{name}.to({dtype}), or convert the model: model.to({x.dtype})."
            ) from error
        raise ValueError(
            f"{name} is on {x.device}, and the model's parameters are on {device}. "
            f"Pass {name}.to({str(device)!r}), or move the model: model.to({str(x.device)!r})."
        ) from error


# --- Precision ------------------------------------------------------------------------------------


def precision(
    choice: str = "exact", device: torch.device | None = None
) -> AbstractContextManager[object]:
    """Return a context in which matrix products are "exact" (float32) or "fast" (bfloat16).

    bfloat16 keeps float32's range with 8 bits of precision. Processors and GPUs with hardware for
    it multiply matrices several times faster. Training tolerates it well. Attacks that look at
    signs of tiny gradients should stay exact.

    An x86-64 processor without such hardware multiplies the same rounded numbers in float32 and
    rounds the result. So a recipe means the same everywhere. "exact" is faster there:
    `benchmarks/precision.py` says by how much.

    Args:
        choice: "exact" or "fast".
        device: where the work runs; the CPU when None.

    Raises:
        ValueError: `choice` is neither of the two.

    Example:
        >>> layer = torch.nn.Linear(3, 2)
        >>> with precision("fast"):
        ...     layer(torch.ones(1, 3)).dtype
        torch.bfloat16
    """
    if check_choice(choice, "choice", PRECISIONS) == "exact":
        return nullcontext()
    kind = (device or torch.device("cpu")).type
    half = torch.autocast(kind, dtype=torch.bfloat16)
    if kind != "cpu" or _bfloat16.in_hardware() is not False:
        return half
    return _one_in_the_other(_bfloat16.Products(), half)  # type: ignore[no-untyped-call]


@contextmanager
def _one_in_the_other(
    outer: AbstractContextManager[object], inner: AbstractContextManager[object]
) -> Iterator[None]:
    with outer, inner:
        yield


@contextmanager
def random_states_kept(*, in_threads: bool = False) -> Iterator[None]:
    """Give back the global random states of PyTorch, NumPy and Python at the end.

    A random model draws from one of them, and a DataLoader without a generator of its own draws a
    number from PyTorch's whenever it is read. In a thread beside the main one nothing is given
    back, or what other threads have drawn meanwhile would be drawn again.

    Args:
        in_threads: give back in every thread, as after a seed that must not stay.

    Example:
        >>> before = torch.get_rng_state()
        >>> with random_states_kept():
        ...     _ = torch.rand(3)
        >>> before.equal(torch.get_rng_state())
        True
    """
    if not in_threads and threading.current_thread() is not threading.main_thread():
        yield
        return
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if on_gpu is not None:
            torch.cuda.set_rng_state_all(on_gpu)


def uncompiled() -> AbstractContextManager[object]:
    """Return a context in which what `torch.compile` made runs as it was written.

    Compiled code does not see a hook that was registered after it was compiled. Before PyTorch 2.6
    there is no way to ask for this, and nothing happens.

    Example:
        >>> with uncompiled():
        ...     torch.nn.Identity()(torch.ones(1))
        tensor([1.])
    """
    # Only where the compiler is loaded can something be compiled. Loading it takes a second.
    stance = getattr(torch.compiler, "set_stance", None)
    if stance is None or "torch._dynamo" not in sys.modules:
        return nullcontext()
    chosen: AbstractContextManager[object] = stance("force_eager")
    return chosen
