"""The two axes of the tests of attacks: how an attack is called, and on which model."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advlearn import attacks
from advlearn.losses import margin_loss
from tests.conftest import make_mlp

SIZE = 0.1  # of a change: eps in pixel units, or an angle in radians


# --- Attacks --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attack:
    """One row: a function of `advlearn.attacks` with some of its options."""

    name: str
    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    # Property -> why it does not apply. What an attack has no parameter for needs no entry.
    exempt: Mapping[str, str] = field(default_factory=dict)
    module: Any = attacks  # or an edited copy of it

    def __str__(self) -> str:
        return self.name

    def within(self, module: Any) -> Attack:
        """Return the same row for another module's functions."""
        return replace(self, module=module)

    @property
    def call(self) -> Callable[..., Any]:
        return getattr(self.module, self.function)

    @cached_property
    def own_parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.call).parameters

    @cached_property
    def parameters(self) -> set[str]:
        """Name the parameters, with those behind the gradient that an attack takes."""
        behind = {"model", "y", "loss"} if "gradient" in self.own_parameters else set()
        return set(self.own_parameters) | behind

    def takes(self, *names: str) -> bool:
        return self.parameters.issuperset(names)

    @property
    def targeted(self) -> bool:
        return bool(self.options.get("targeted", False))

    @property
    def bounds(self) -> tuple[float, float] | None:
        return self.options.get("bounds", self.own_parameters["bounds"].default)

    @property
    def draws(self) -> bool:
        """Tell whether two calls differ."""
        return self.takes("generator") and bool(self.options.get("random_start", True))

    def harm(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return what the attack raises, for each example; it grows with the loss."""
        margin = margin_loss(logits, y)
        return -margin if self.targeted else margin

    def __call__(
        self, model: Any, x: Tensor, y: Tensor, size: float | Tensor = SIZE, **more: Any
    ) -> Tensor:
        """Attack with the options of the row, or those of `more`; each call draws the same."""
        options = {**self.options, **more}
        if self.takes("generator"):
            options.setdefault("generator", torch.Generator().manual_seed(0))
        given = {"model": model, "x": x, "y": y, "eps": size, "angle": size}
        if "gradient" in self.own_parameters:
            # With the signs of cross-entropy's, which fades where the model is confident.
            loss = options.pop("loss", margin_loss)
            given["gradient"] = self.module.input_gradient(model, x, y, loss=loss)
        required = [
            name for name, p in self.own_parameters.items() if p.default is inspect.Parameter.empty
        ]
        return self.call(*[given[name] for name in required], **options)


def pytorchs_loss(logits: Tensor, y: Tensor) -> Tensor:
    """A loss that the library does not know: autograd has to find its gradient."""
    return F.cross_entropy(logits, y, reduction="none")


UNCLIPPED = {"keeps_to_the_bounds": "bounds=None is the paper's unclipped setting"}
FADES = "this loss loses its direction, then its size, where the model is confident"
DRAWS_NOTHING = "without a random start nothing is drawn"
ONE_ATTEMPT = "restarts without a random start are refused"

SEARCHES = {
    "does_damage_in_the_ball": "an example that the model misreads stays as it is",
    "finds_the_optimum_of_a_linear_model": "a search comes near it, in many queries",
    "follows_the_loss_it_is_given": "a search comes near the optimum, in many queries",
    "works_under_autocast": "where rounding decides one query, the search goes on elsewhere",
    "draws_from_the_whole_ball": "it tries the ends of the ball alone",
}

ATTACKS = [
    Attack("input_gradient", "input_gradient"),
    Attack("input_gradient, margin loss", "input_gradient", {"loss": margin_loss}),
    Attack("linear_step", "linear_step"),
    Attack("linear_step, targeted", "linear_step", {"targeted": True}),
    Attack("linear_step, unclipped", "linear_step", {"bounds": None}, UNCLIPPED),
    Attack("fgsm", "fgsm"),
    Attack("fgsm, targeted", "fgsm", {"targeted": True}),
    Attack("fgsm, margin loss", "fgsm", {"loss": margin_loss}),
    Attack(
        "fgsm, PyTorch's loss",
        "fgsm",
        {"loss": pytorchs_loss},
        {"finds_the_optimum_of_a_linear_model": FADES},
    ),
    Attack("fgsm, unclipped", "fgsm", {"bounds": None}, UNCLIPPED),
    Attack("pgd", "pgd", {"steps": 3}),
    Attack("pgd, targeted", "pgd", {"steps": 3, "targeted": True}),
    Attack("pgd, margin loss", "pgd", {"steps": 3, "loss": margin_loss}),
    Attack(
        "pgd, PyTorch's loss",
        "pgd",
        {"steps": 3, "loss": pytorchs_loss},
        {
            "finds_the_optimum_of_a_linear_model": FADES,
            "tells_attempts_apart_where_float32_cannot": FADES,
        },
    ),
    Attack("pgd, unclipped", "pgd", {"steps": 3, "bounds": None}, UNCLIPPED),
    Attack("pgd, restarts", "pgd", {"steps": 3, "restarts": 3}),
    Attack("pgd, restarts, targeted", "pgd", {"steps": 3, "restarts": 3, "targeted": True}),
    Attack(
        "pgd, the first that fools",
        "pgd",
        {"steps": 3, "keep": "first"},
        {"does_damage_in_the_ball": "an example that the model misreads stays as it is"},
    ),
    Attack("pgd, the last", "pgd", {"steps": 3, "keep": "last"}),
    Attack(
        "pgd, the last of the best attempt",
        "pgd",
        {"steps": 3, "restarts": 3, "keep": "last"},
    ),
    Attack("pgd, many steps of one size", "pgd", {"steps": 9, "step_size": 0.05}),
    Attack(
        "pgd, no random start",
        "pgd",
        {"steps": 3, "random_start": False},
        {
            "draws_from_the_whole_ball": DRAWS_NOTHING,
            "draws_by_its_generator": DRAWS_NOTHING,
            "keeps_the_best_attempt": ONE_ATTEMPT,
            "tells_attempts_apart_where_float32_cannot": ONE_ATTEMPT,
            "attacks_again_only_what_resists": ONE_ATTEMPT,
        },
    ),
    Attack(
        "noise",
        "noise",
        exempt={"draws_fair_signs": "uniform noise has any size up to eps"},
    ),
    Attack(
        "noise, signs",
        "noise",
        {"kind": "sign"},
        {"draws_from_the_whole_ball": "noise of signs has the size eps everywhere"},
    ),
    Attack(
        "noise, unclipped",
        "noise",
        {"bounds": None},
        {**UNCLIPPED, "draws_fair_signs": "uniform noise has any size up to eps"},
    ),
    Attack("square", "square", {"queries": 20}, SEARCHES),
    Attack("square, targeted", "square", {"queries": 20, "targeted": True, "share": 0.1}, SEARCHES),
    Attack("square, PyTorch's loss", "square", {"queries": 20, "loss": pytorchs_loss}, SEARCHES),
    Attack(
        "square, unclipped", "square", {"queries": 20, "bounds": None}, {**UNCLIPPED, **SEARCHES}
    ),
    Attack(
        "rotate",
        "rotate",
        exempt={"keeps_to_the_bounds": "clipping would change the length, so the default is None"},
    ),
    Attack("rotate, clipped", "rotate", {"bounds": attacks.PIXELS}),
    Attack("rotate, margin loss", "rotate", {"loss": margin_loss, "bounds": attacks.PIXELS}),
]


# --- Models ---------------------------------------------------------------------------------------


def make_network(dtype: torch.dtype = torch.float32, scale: float = 1.0) -> nn.Sequential:
    """Copy a network that is made once: the same as `make_mlp`, in a tenth of the time."""
    return copy.deepcopy(_network(dtype, scale))


@cache
def _network(dtype: torch.dtype, scale: float) -> nn.Sequential:
    return make_mlp(dtype=dtype, scale=scale)


class Rows(nn.Module):
    """A recurrent network reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(16, 12, num_layers=2, dropout=0.5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.cells(x.unflatten(1, (4, 4)).repeat(1, 1, 4))[0].flatten(1)


def make_rnn() -> nn.Sequential:
    """Make a network that is recurrent behind its first layer, in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(36, 16), nn.BatchNorm1d(16), Rows(), nn.Linear(48, 4)
        )


@dataclass(frozen=True)
class Variant:
    """How a network is handed to an attack; in eval mode all of them are `network()`."""

    name: str
    wrap: Callable[[nn.Sequential], Any]
    costly: bool = False  # to build: one is built, and used again wherever nothing is added to it
    network: Callable[[], nn.Sequential] = make_network
    rounds: bool = False  # computes in less than float32, so its gradients are others
    exempt: Mapping[str, str] = field(default_factory=dict)  # property -> why it does not apply

    def __str__(self) -> str:
        return self.name

    def reference(self) -> Callable[[Tensor], Tensor]:
        """Return what an attack has to meet: the plain network in eval mode, as it rounds."""
        network = self.network().eval()
        return self.wrap(network) if self.rounds else network

    def build(self, *more: nn.Module) -> tuple[Any, nn.Module]:
        """Return what is attacked, and the module whose state must not change.

        `more` is put behind the last layer.
        """
        if self.costly and not more:
            if self.name not in _BUILT:
                _BUILT[self.name] = self._build()
            return _BUILT[self.name]
        return self._build(*more)

    def _build(self, *more: nn.Module) -> tuple[Any, nn.Module]:
        network = self.network().extend(more)
        # A gradient that is already there, as in the middle of training.
        network[1].weight.grad = torch.ones_like(network[1].weight)
        model = self.wrap(network)
        return model, model if isinstance(model, nn.Module) else network


_BUILT: dict[str, tuple[Any, nn.Module]] = {}


def frozen(network: nn.Sequential) -> nn.Module:
    """Freeze batch statistics and the parameters of two layers inside a network in training."""
    network[2].eval()
    network[2].requires_grad_(False)
    network[1].bias.requires_grad_(False)
    return network


class Wrapped(nn.Module):
    """Hold a network, and give what it gives."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def logits(self, x: Tensor) -> Tensor:
        return self.network(x)


class Narrow(Wrapped):
    """Cast to what the network computes in, and back."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__(network.to(dtype))
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.to(self.dtype)).float()


class InPlace(Wrapped):
    """Double the images where they are stored, for a network whose first layer halves them."""

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.mul_(2))


def in_place(network: nn.Sequential) -> nn.Module:
    """Normalise in place, and compute in place behind each layer that allows it."""
    with torch.no_grad():
        network[1].weight.mul_(0.5)
    for layer in network:
        if hasattr(layer, "inplace"):
            layer.inplace = True
    return InPlace(network)


def function(network: nn.Sequential) -> Callable[[Tensor], Tensor]:
    """Hide a network in training mode: a function has no `training`."""

    def model(x: Tensor) -> Tensor:
        return network(x)

    return model


def scripted(network: nn.Sequential) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It is deprecated, and there are many of them.
        return torch.jit.script(network)


def distributed(network: nn.Sequential) -> nn.Module:
    """Share a network out over the processes of a group, of which there is one here."""
    group = torch.distributed
    if not group.is_initialized():
        group.init_process_group("gloo", store=group.HashStore(), rank=0, world_size=1)
    return nn.parallel.DistributedDataParallel(network)


MODELS = [
    Variant("plain", lambda network: network.eval()),
    Variant("dropout and BatchNorm in training", lambda network: network.train()),
    Variant("frozen BatchNorm", frozen),
    Variant("compiled", lambda network: torch.compile(network, backend="eager"), costly=True),
    Variant("function", function),
    Variant("wrapped", Wrapped),
    Variant("bound method", lambda network: Wrapped(network).logits),
    Variant("scripted", scripted, costly=True),
    Variant("data-parallel", nn.DataParallel),
    Variant("of several processes", distributed, costly=True),
    Variant(
        "half",
        lambda network: Narrow(network, torch.float16),
        rounds=True,
        exempt={"works_under_autocast": "PyTorch has no batch norm of bfloat16 by float16"},
    ),
    Variant("bfloat16", lambda network: Narrow(network, torch.bfloat16), rounds=True),
    Variant("in place", in_place),
    Variant("recurrent", lambda network: network, network=make_rnn),
]


def snapshot(model: nn.Module) -> tuple[Any, ...]:
    """Everything of a model that an attack could change, and the random state."""
    return (
        # But for a failing layer's count of calls, which TorchScript makes a part of the state.
        {n: value.clone() for n, value in model.state_dict().items() if not n.endswith("left")},
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [parameter.grad for parameter in model.parameters()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [
            [len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)]
            for m in model.modules()
        ],
        torch.get_rng_state(),
    )


def same(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    """Compare two snapshots: bit-equal values, the very same gradients."""
    return (
        before[0].keys() == after[0].keys()
        and all(before[0][name].equal(value) for name, value in after[0].items())
        and before[1:3] == after[1:3]
        and all(a is b for a, b in zip(before[3], after[3], strict=True))
        and all(
            (a is None and b is None) or a.equal(b)
            for a, b in zip(before[4], after[4], strict=True)
        )
        and before[5] == after[5]
        and before[6].equal(after[6])
    )
