"""Every rule of interval arithmetic is sound, and tight where it can be; unsound ones are caught.

The cases come by the name of the function. A rule without a case fails, and each case runs with
every function of PyTorch that goes by its name and takes these arguments.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from advlearn import intervals
from advlearn.intervals import Interval, UnboundedError, walking

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*upsample. is deprecated:UserWarning"),
]

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Case:
    """A call of a function: on which inputs, and whether its bounds are reached."""

    call: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...] = ((2, 3),)
    tight: bool = True
    low: float = -2.0
    high: float = 2.0


def numbers(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def case(call: Callable[..., Any], *shapes: tuple[int, ...], **options: Any) -> Case:
    return Case(call, shapes or ((2, 3),), **options)


PLAIN = [case(lambda f, x: f(x)), case(lambda f, x: f(x), (1, 2, 2, 2))]
POSITIVE = [case(lambda f, x: f(x), low=0.1, high=3.0)]
IMAGES = (1, 2, 2, 2)
LINE, PLANE, SPACE = (1, 1, 6), (1, 1, 2, 4), (1, 1, 2, 2, 2)


def along(*more: Any, **options: Any) -> list[Case]:
    """Make cases of a function along one dimension, both ways, and with keepdim."""
    return [
        case(lambda f, x: f(x, 0), **options),
        case(lambda f, x: f(x, -1), **options),
        case(lambda f, x: f(x, 1, True), **options),
        case(lambda f, x: f(x, dim=2, keepdim=True), (1, 2, 2, 2), **options),
        *more,
    ]


def convolutions(weight: tuple[int, ...], shape: tuple[int, ...], out: int) -> list[Case]:
    kernel = numbers(*weight)
    return [
        case(lambda f, x: f(x, kernel), shape),
        case(lambda f, x: f(x, kernel, numbers(out)), shape),
        case(lambda f, x: f(x, weight=kernel, bias=None, stride=2, padding=1), shape),
        case(lambda f, x: f(x, kernel, None, 1, 1), shape),
    ]


def average(shape: tuple[int, ...]) -> list[Case]:
    return [
        case(lambda f, x: f(x, 2), shape),
        case(lambda f, x: f(x, 2, 1, 1, False, False), shape),
        case(lambda f, x: f(x, 2, padding=1, ceil_mode=True, count_include_pad=True), shape),
    ]


def largest(shape: tuple[int, ...]) -> list[Case]:
    return [
        case(lambda f, x: f(x, 2), shape),
        case(lambda f, x: f(x, 2, 1, 1), shape),
        case(lambda f, x: f(x, 2, stride=2, padding=1, ceil_mode=True), shape),
        case(lambda f, x: f(x, 2, stride=1, dilation=2, padding=1), shape),
    ]


def constants() -> list[Case]:
    """Make cases of an operator of two: with numbers, tensors of both signs, and intervals."""
    return [
        *(case(lambda f, x, k=k: f(x, k)) for k in (2.5, -2.5, 3, True)),
        case(lambda f, x: f(x, numbers(2, 3))),
        case(lambda f, x: f(x, numbers(3))),
        case(lambda f, x: f(numbers(2, 3), x)),
        case(lambda f, x: f(x, numbers(2, 1, 3)), (2, 1, 3)),
        case(lambda f, x, y: f(x, y), (2, 2), (2, 2)),
        case(lambda f, x, y: f(x, y), (2, 2), (1, 2)),
    ]


ENTRY_BY_ENTRY = """
    relu relu6 sigmoid tanh tanhshrink logsigmoid softsign softshrink hardsigmoid hardtanh selu exp
    expm1 atan arctan asinh arcsinh sinh erf sign round floor ceil trunc hardshrink leaky_relu elu
    celu softplus neg negative abs absolute square contiguous clone detach float double cpu ravel
"""
CASES: dict[str, Sequence[Case]] = {
    **dict.fromkeys(ENTRY_BY_ENTRY.split(), PLAIN),
    **dict.fromkeys(("log", "log1p", "log2", "log10", "sqrt", "reciprocal"), POSITIVE),
    **dict.fromkeys(("logsumexp", "amax", "amin"), along()),
    **dict.fromkeys(("sum", "mean"), (*PLAIN, *along())),
    **{f"conv{n}d": convolutions((2, 1, *[2] * n), shape, 2) for n, shape in
       enumerate((LINE, PLANE, SPACE), 1)},
    **{f"conv_transpose{n}d": convolutions((1, 2, *[2] * n), shape, 2) for n, shape in
       enumerate((LINE, PLANE, SPACE), 1)},
    **{f"avg_pool{n}d": average(shape) for n, shape in enumerate((LINE, PLANE, SPACE), 1)},
    **{f"max_pool{n}d": largest(shape) for n, shape in enumerate((LINE, PLANE, SPACE), 1)},
    **{
        f"adaptive_{kind}_pool{n}d": [
            case(lambda f, x: f(x, 1), shape),
            case(lambda f, x, n=n: f(x, [2] * n), shape),
        ]
        for n, shape in enumerate((LINE, PLANE, SPACE), 1)
        for kind in ("avg", "max")
    },
}  # fmt: skip
CASES["avg_pool2d"] = [*average(PLANE), case(lambda f, x: f(x, 2, divisor_override=3), PLANE)]
for name in ("conv1d", "conv2d", "conv3d"):
    shape = (1, 2, *(2,) * int(name[4]))
    CASES[name] = [
        *CASES[name],
        case(lambda f, x: f(x, numbers(2, 1, *[2] * (x.dim() - 2)), None, 1, 0, 1, 2), shape[:4])
        if name != "conv3d"
        else case(lambda f, x: f(x, numbers(1, 1, 2, 2, 2), padding="valid"), SPACE),
    ]
CASES["round"] = [*PLAIN, case(lambda f, x: f(x, decimals=1))]
CASES["hardtanh"] = [*PLAIN, case(lambda f, x: f(x, -0.3, 0.7)), case(lambda f, x: f(x, min_val=0))]
CASES["leaky_relu"] = [*PLAIN, case(lambda f, x: f(x, 0.3)), case(lambda f, x: f(x, 0.0))]
CASES["elu"] = CASES["celu"] = [*PLAIN, case(lambda f, x: f(x, 0.3)), case(lambda f, x: f(x, 2.0))]
for name in ("softshrink", "hardshrink"):
    CASES[name] = [*PLAIN, case(lambda f, x: f(x, 0.8)), case(lambda f, x: f(x, 0.0))]
CASES["softplus"] = [
    *PLAIN,
    *(
        # At a low threshold the function jumps down, or up.
        case(lambda f, x, b=beta, t=threshold: f(x, b, t), tight=False)
        for beta in (1, 3.0, -1.5)
        for threshold in (20, 1.0, 0.0, -1.0)
    ),
]
CASES["sum"] = [
    *CASES["sum"],
    case(lambda f, x: f(x, (0, 2)), (2, 2, 2)),
    case(lambda f, x: f(x, dim=1)),
]
CASES["mean"] = [*CASES["mean"], case(lambda f, x: f(x, dtype=torch.float64))]
CASES["cumsum"] = [case(lambda f, x: f(x, 0)), case(lambda f, x: f(x, dim=-1))]
CASES["prelu"] = [
    case(lambda f, x: f(x, torch.tensor([0.25]).double())),
    case(lambda f, x: f(x, torch.tensor([0.0, 0.5, 1.5]).double())),
]
for name in ("clamp", "clip"):
    CASES[name] = [
        case(lambda f, x: f(x, -0.5, 0.7)),
        case(lambda f, x: f(x, min=0.1)),
        case(lambda f, x: f(x, max=0.1)),
        case(lambda f, x: f(x, 0.7, -0.5)),  # everything is the upper one
        case(lambda f, x: f(x, min=numbers(3), max=numbers(3) + 1)),
        case(lambda f, x, y: f(x, min=y), (2, 2), (2, 2)),
    ]
CASES["clamp_min"] = CASES["clamp_max"] = [
    case(lambda f, x: f(x, 0.3)),
    case(lambda f, x: f(x, numbers(3))),
]
for name in ("minimum", "maximum"):
    CASES[name] = [
        case(lambda f, x: f(x, numbers(2, 3))),
        case(lambda f, x: f(numbers(3), x)),
        case(lambda f, x, y: f(x, y), (2, 2), (2, 2)),
    ]
for name in ("max", "min"):
    CASES[name] = [
        case(lambda f, x: f(x)),
        case(lambda f, x: f(x, 1).values),
        case(lambda f, x: f(x, dim=0, keepdim=True)[0]),
        case(lambda f, x: f(x, numbers(3))),
        case(lambda f, x: f(x, other=numbers(3))),
        case(lambda f, x, y: f(x, y), (2, 2), (2, 2)),
    ]
for name in ("softmax", "_softmax", "log_softmax", "_log_softmax"):
    more = (False,) if name.startswith("_") else ()
    CASES[name] = [
        *(
            # Confident ones too: the whole sum is then almost one part.
            case(lambda f, x, d=dim, more=more: f(x, d, *more), shape, low=low, high=-low)
            for dim, shape in ((1, (2, 3)), (-1, (2, 4)), (0, (4, 2)), (1, (1, 3, 2)), (1, (2, 1)))
            for low in (-2.0, -60.0)
        ),
    ]
CASES["softmax"].append(case(lambda f, x: f(x, 1, dtype=torch.float64)))
CASES["pow"] = [
    case(lambda f, x, k=k: f(x, k)) for k in (1, 2, 3, 4, 2.0, 3.0)
]  # fmt: skip

# What only moves entries.
MOVED: dict[str, list[Callable[..., Any]]] = {
    "flatten": [lambda f, x: f(x), lambda f, x: f(x, 1), lambda f, x: f(x, start_dim=0, end_dim=1)],
    "unflatten": [lambda f, x: f(x, 1, (1, -1)), lambda f, x: f(x, dim=-1, sizes=(2, 1))],
    "reshape": [lambda f, x: f(x, (4, -1)), lambda f, x: f(x, (8,))],
    "squeeze": [lambda f, x: f(x), lambda f, x: f(x, 0)],
    "unsqueeze": [lambda f, x: f(x, 0), lambda f, x: f(x, -1)],
    "permute": [lambda f, x: f(x, (0, 2, 3, 1))],
    "transpose": [lambda f, x: f(x, 1, 2)],
    "swapaxes": [lambda f, x: f(x, 1, -1)],
    "movedim": [lambda f, x: f(x, 1, -1)],
    "expand": [lambda f, x: f(x, 3, -1, -1, -1)],
    "expand_as": [lambda f, x: f(x, torch.zeros(3, 2, 2, 2))],
    "broadcast_to": [lambda f, x: f(x, (3, 2, 2, 2))],
    "repeat": [lambda f, x: f(x, 2, 1, 1, 1)],
    "repeat_interleave": [lambda f, x: f(x, 2, dim=1), lambda f, x: f(x, 2)],
    "tile": [lambda f, x: f(x, (2, 1))],
    "roll": [lambda f, x: f(x, 1, -1), lambda f, x: f(x, (1, 1), dims=(2, 3))],
    "flip": [lambda f, x: f(x, (2,))],
    "narrow": [lambda f, x: f(x, 1, 0, 1)],
    "select": [lambda f, x: f(x, 1, 0)],
    "index_select": [lambda f, x: f(x, 1, torch.tensor([1, 1, 0]))],
    "gather": [lambda f, x: f(x, 1, torch.ones(1, 1, 2, 2, dtype=torch.int64))],
    "take_along_dim": [lambda f, x: f(x, torch.ones(1, 1, 2, 2, dtype=torch.int64), 1)],
    "unfold": [lambda f, x: f(x, 2, 2, 1), lambda f, x: f(x, 2)],
    "diagonal": [lambda f, x: f(x, 0, 2, 3)],
    "view_as": [lambda f, x: f(x, torch.zeros(2, 4))],
    "reshape_as": [lambda f, x: f(x, torch.zeros(2, 4))],
    "view": [lambda f, x: f(x, 2, 4), lambda f, x: f(x, (2, 4))],
    "tril": [lambda f, x: f(x), lambda f, x: f(x, 1)],
    "triu": [lambda f, x: f(x), lambda f, x: f(x, diagonal=1)],
    "pixel_shuffle": [],
    "pixel_unshuffle": [lambda f, x: f(x, 2)],
    "channel_shuffle": [lambda f, x: f(x, 2)],
    "to": [lambda f, x: f(x, torch.float64), lambda f, x: f(x, "cpu")],
    "type_as": [lambda f, x: f(x, numbers(1))],
}
for name, calls in MOVED.items():
    CASES[name] = [case(call, IMAGES) for call in calls]
CASES["t"] = [case(lambda f, x: f(x))]
CASES["pixel_shuffle"] = [case(lambda f, x: f(x, 2), (1, 4, 1, 2))]
for name in ("cat", "concat", "concatenate", "stack", "hstack", "vstack"):
    CASES[name] = [
        case(lambda f, x: f([x, numbers(2, 3)])),
        case(lambda f, x, y: f((x, y, x)), (2, 2), (2, 2)),
        *([] if name.endswith("stack") else [case(lambda f, x: f([numbers(2, 1), x], dim=1))]),
    ]
CASES["chunk"] = [case(lambda f, x: f(x, 2, 1)), case(lambda f, x: f(x, 2, dim=-1))]
CASES["split"] = [case(lambda f, x: f(x, 2, 1)), case(lambda f, x: f(x, [1, 2], dim=-1))]
CASES["tensor_split"] = [case(lambda f, x: f(x, 3, 1))]
CASES["unbind"] = [case(lambda f, x: f(x, 1)), case(lambda f, x: f(x))]
CASES["where"] = [
    case(lambda f, x: f(numbers(2, 3) > 0, x, 0.5)),
    case(lambda f, x: f(numbers(3) > 0, x, numbers(2, 3))),
    case(lambda f, x, y: f(numbers(2, 2) > 0, x, y), (2, 2), (2, 2)),
]
CASES["masked_fill"] = [case(lambda f, x: f(x, numbers(2, 3) > 0, -9.0))]
CASES["pad"] = [
    case(lambda f, x: f(x, (1, 2))),
    case(lambda f, x: f(x, (1, 0, 0, 1), "constant", -3.0), IMAGES),
    *(case(lambda f, x, m=m: f(x, (1, 1, 0, 1), mode=m), IMAGES) for m in
      ("reflect", "replicate", "circular")),
]  # fmt: skip
CASES["interpolate"] = [
    *(case(lambda f, x, m=m: f(x, 3, mode=m), IMAGES) for m in
      ("nearest", "nearest-exact", "area", "bilinear")),
    case(lambda f, x: f(x, None, 2), IMAGES),
    case(lambda f, x: f(x, 1, None, "bilinear", False, None, True), IMAGES),
    case(lambda f, x: f(x, 3, None, "bilinear", True), IMAGES),
    case(lambda f, x: f(x, 4, mode="linear"), (1, 2, 3)),
]  # fmt: skip
CASES["upsample"] = [case(lambda f, x: f(x, 3, mode="bilinear"), IMAGES)]
for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"):
    CASES[name] = [case(lambda f, x: f(x, 0.5, False)), case(lambda f, x: f(x, 0.0, True))]
for n, shape in enumerate((LINE, PLANE, SPACE), 1):
    CASES[f"dropout{n}d"] = [case(lambda f, x: f(x, 0.5, False), shape)]
CASES["zeros_like"] = CASES["ones_like"] = [case(lambda f, x: x + f(x))]
CASES["full_like"] = [case(lambda f, x: x + f(x, 3.0))]
CASES["empty_like"] = [case(lambda f, x: x + f(x).fill_(2.0))]
CASES["new_zeros"] = CASES["new_ones"] = [case(lambda f, x: x + f(x, (2, 3)))]
CASES["new_full"] = [case(lambda f, x: x + f(x, (2, 3), 3.0))]
CASES["new_empty"] = [case(lambda f, x: x + f(x, (2, 3)).fill_(2.0))]
CASES["new_tensor"] = [case(lambda f, x: x + f(x, [1.0, 2.0, 3.0]))]
CASES["size"] = [case(lambda f, x: x * f(x, 1)), case(lambda f, x: x * f(x)[0])]
CASES["stride"] = [case(lambda f, x: x * f(x, 0))]
NUMBERS = "numel nelement dim ndimension is_contiguous is_floating_point is_complex"
CASES |= {key: [case(lambda f, x: x * f(x))] for key in NUMBERS.split()}

for name in ("add", "sub", "subtract", "mul", "multiply"):
    CASES[name] = constants()
for name in ("add", "sub"):
    CASES[name] = [
        *CASES[name],
        *(case(lambda f, x, a=a: f(x, numbers(2, 3), alpha=a)) for a in (2, -3)),
        case(lambda f, x, y: f(x, y, alpha=-2), (2, 2), (2, 2)),
    ]
CASES["mul"] = [*CASES["mul"], case(lambda f, x: f(x, x))]
CASES["rsub"] = [
    case(lambda f, x: f(x, 3.0)),
    case(lambda f, x: f(x, numbers(2, 3), alpha=-2)),
]
CASES["__rsub__"] = [case(lambda f, x: f(x, 3.0)), case(lambda f, x: f(x, numbers(2, 3)))]
for name in ("div", "divide", "true_divide"):
    CASES[name] = [
        *(case(lambda f, x, k=k: f(x, k)) for k in (2.5, -2.5, 3, 255)),
        case(lambda f, x: f(x, numbers(2, 3))),
        case(lambda f, x: f(x, torch.tensor([1, -2, 4]))),
        case(lambda f, x: f(numbers(2, 3), x), low=0.3),
        case(lambda f, x, y: f(x, y), (2, 2), (2, 2), low=-3.0, high=-0.5),
    ]
CASES["linear"] = [
    case(lambda f, x: f(x, numbers(4, 3), numbers(4))),
    case(lambda f, x: f(x, numbers(4, 3))),
    case(lambda f, x: f(x, numbers(2, 2), bias=numbers(2)), (2, 2, 2)),
]
for name in ("matmul", "mm", "__matmul__", "__rmatmul__"):
    CASES[name] = [
        case(lambda f, x: f(x, numbers(3, 3)), (3, 3)),
        case(lambda f, x: f(numbers(3, 3), x), (3, 3)),
    ]
CASES["matmul"] += [case(lambda f, x: f(x, numbers(3))), case(lambda f, x: f(x, numbers(2, 3, 2)))]
CASES["bmm"] = [case(lambda f, x: f(x, numbers(2, 2, 3)), (2, 1, 2))]
CASES["mv"] = [case(lambda f, x: f(numbers(4, 3), x), (3,)), case(lambda f, x: f(x, numbers(3)))]
CASES["addmm"] = [
    case(lambda f, x: f(numbers(2), x, numbers(3, 2))),
    case(lambda f, x: f(x, numbers(2, 2), numbers(2, 3), beta=-2)),
    case(lambda f, x, y: f(x, y, numbers(2, 2), beta=-2, alpha=-0.5), (2, 2), (2, 2)),
]
CASES["convolution"] = [
    case(
        lambda f, x: f(
            x, numbers(2, 1, 2, 2), numbers(2), (1, 1), (0, 0), (1, 1), False, (0, 0), 1
        ),
        PLANE,
    )
]
CASES["einsum"] = [
    case(lambda f, x: f("ni,ki->nk", x, numbers(2, 3))),
    # The weights of two operands may cancel, which their absolute values do not.
    case(lambda f, x: f("ki,ni,k->n", [numbers(2, 3), x, numbers(2)]), tight=False),
    case(lambda f, x: f("nn->n", x), (3, 3)),
]
MEAN, VAR = torch.tensor([-1.0, 0.5, 2.0]).double(), numbers(3).square() + 0.5
CASES["batch_norm"] = [
    case(lambda f, x: f(x, MEAN, VAR, MEAN, numbers(3))),
    case(lambda f, x: f(x, MEAN, VAR)),
    case(lambda f, x: f(x, MEAN, VAR, weight=numbers(3), eps=0.1), (1, 3, 2)),
    case(lambda f, x: f(x, MEAN, VAR, None, None, False, 0.1, 1e-3), (1, 3, 1, 2)),
    # As `torch.batch_norm` has them.
    case(lambda f, x: f(x, MEAN, numbers(3), numbers(3), VAR, False, 0.1, 1e-3, False)),
]
CASES["rbf_log_odds"] = [
    # The largest value is at the centre, which is no corner.
    case(lambda f, x: f(x, numbers(4, 3), numbers(4, 3, seed=1).exp()), tight=False),
    case(
        lambda f, x: f(x, torch.zeros(1, 3).double(), torch.ones(1, 3).double()),
        low=-0.01,
        high=0.01,
    ),
]
CASES["log_mean_softmax"] = [
    case(lambda f, x: f([x]), (2, 3)),
    # The members see the same images, here the same logits: their bounds know nothing of that.
    case(lambda f, x: f([x, 2 * x + 1]), (2, 3), tight=False),
    case(lambda f, x, y: f([x, y]), (1, 3), (1, 3)),
]  # fmt: skip


def registered() -> dict[str, list[Callable[..., Any]]]:
    """Return all functions that have a rule, by their names, as one calls them."""
    found = defaultdict(list)
    for function, name in intervals._NAMES.items():
        method = getattr(Tensor, name, None) is function
        found[name].append(partial(as_method, name) if method else function)
    return dict(found)


def as_method(name: str, first: Any, *others: Any, **options: Any) -> Any:
    """Call a method of a tensor, or of what stands in for it."""
    if name == "where":  # x.where(condition, other)
        first, others = others[0], (first, *others[1:])
    if name == "__rmatmul__":
        first, name, others = others[0], "__matmul__", (first,)
    return getattr(first, name)(*others, **options)


# --- What makes a rule right ----------------------------------------------------------------------


def boxes(case: Case, seed: int) -> list[Interval]:
    """Draw intervals of all sizes: points, narrow ones, and as wide as the case allows."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for shape in case.shapes:
        ends = case.low + (case.high - case.low) * torch.rand(
            2, *shape, generator=generator, dtype=torch.float64
        )
        share = torch.tensor([0.0, 0.01, 1.0])[torch.randint(3, shape, generator=generator)]
        ends[1] = ends[0] + share * (ends[1] - ends[0])
        found.append(Interval(ends.amin(0), ends.amax(0)))
    return found


def inside(given: list[Interval], count: int) -> Iterator[list[Tensor]]:
    """Yield points: both ends, next to zero, random ones and random corners."""
    low, high = whole(given)
    yield from (cut(point, given) for point in (low, high, torch.zeros_like(low).clamp(low, high)))
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        share = torch.rand(low.shape, generator=generator, dtype=torch.float64)
        yield cut(low + share * (high - low), given)
        yield cut(torch.where(share < 0.5, low, high), given)


def corners(given: list[Interval]) -> Iterator[list[Tensor]]:
    """Yield all corners."""
    low, high = whole(given)
    for corner in itertools.product((False, True), repeat=len(low)):
        yield cut(torch.where(torch.tensor(corner), high, low), given)


def whole(given: list[Interval]) -> list[Tensor]:
    """Return both ends of all intervals, laid out in one row."""
    return [torch.cat([getattr(x, end).flatten() for x in given]) for end in ("lower", "upper")]


def cut(point: Tensor, like: list[Interval]) -> list[Tensor]:
    pieces = point.split([x.lower.numel() for x in like])
    return [piece.reshape(x.shape).clone() for piece, x in zip(pieces, like, strict=True)]


def parts(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def check_sound(case: Case, function: Callable[..., Any], seeds: int = 2, count: int = 12) -> None:
    """Require that no value of the function lies outside of its bounds, and no shape differs."""
    for seed in range(seeds):
        given = boxes(case, seed)
        bounds = parts(case.call(function, *given))
        for point in inside(given, count):
            values = parts(case.call(function, *point))
            assert len(values) == len(bounds)
            for value, bound in zip(values, bounds, strict=True):
                assert value.shape == bound.shape
                assert value.dtype == bound.dtype
                slack = TOLERANCE * (1 + value.abs())
                assert bool((value >= bound.lower - slack).all()), "below the lower bound"
                assert bool((value <= bound.upper + slack).all()), "above the upper bound"


def check_tight(case: Case, function: Callable[..., Any]) -> None:
    """Require that each bound is reached: at a corner, or next to zero."""
    given = boxes(case, 0)
    bounds = parts(case.call(function, *given))
    least = [torch.full_like(bound.lower, torch.inf) for bound in bounds]
    most = [torch.full_like(bound.lower, -torch.inf) for bound in bounds]

    def reached() -> bool:
        return all(
            low.allclose(bound.lower, atol=1e-6) and high.allclose(bound.upper, atol=1e-6)
            for low, high, bound in zip(least, most, bounds, strict=True)
        )

    for point in itertools.chain(inside(given, 0), corners(given)):
        values = parts(case.call(function, *point))
        least = [torch.minimum(a, b) for a, b in zip(least, values, strict=True)]
        most = [torch.maximum(a, b) for a, b in zip(most, values, strict=True)]
        if reached():
            return
    raise AssertionError(f"bounds {bounds} are wider than the values, {least} to {most}")


def takes(case: Case, function: Callable[..., Any]) -> bool:
    """Tell whether a function of this name takes the arguments of a case."""
    try:
        value = case.call(function, *[x.lower.clone() for x in boxes(case, 0)])
    except (TypeError, RuntimeError, ValueError, IndexError, NotImplementedError):
        return False
    return all(isinstance(part, Tensor) and part.is_floating_point() for part in parts(value))


# --- The rules ------------------------------------------------------------------------------------


def test_every_rule_has_a_case_and_every_case_a_rule():
    assert set(CASES) == set(registered())


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_rule_is_sound(name):
    called = 0
    for function, each in itertools.product(registered()[name], CASES[name]):
        if takes(each, function):
            check_sound(each, function)
            called += 1
    assert called >= len(CASES[name]), "a case that no function takes"


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_rule_is_tight(name):
    for function, each in itertools.product(registered()[name], CASES[name]):
        if each.tight and takes(each, function):
            check_tight(each, function)


# --- Planted rules --------------------------------------------------------------------------------

RISING, PLANE_CONVOLUTION = PLAIN[0], CASES["conv2d"][1]


def on_ends(function: Callable[..., Any]) -> Callable[..., Any]:
    return partial(intervals._on_ends, function)


def without_absolute_values(x: Interval, weight: Tensor, bias: Tensor | None = None) -> Interval:
    centre, radius = F.linear(x.centre, weight, bias), F.linear(x.radius, weight)
    return Interval(centre - radius, centre + radius)


def radius_through_relu(x: Interval) -> Interval:
    return Interval(x.centre.relu() - x.radius.relu() / 2, x.centre.relu() + x.radius.relu() / 2)


def bias_on_the_radius(x: Interval, weight: Tensor, bias: Tensor) -> Interval:
    centre, radius = F.conv2d(x.centre, weight, bias), F.conv2d(x.radius, weight.abs(), bias)
    return Interval(centre - radius, centre + radius)


def scaled_in_order(x: Interval, *others: Any, **options: Any) -> Interval:
    return intervals._on_ends(F.batch_norm, x, *others, **options)


def both_lower(x: Interval, other: Any) -> Interval:
    (a, b), (c, d) = intervals._ends(x), intervals._ends(other)
    return Interval(a - c, b - d)


UNSOUND = {
    "a GELU that rises": (F.gelu, on_ends(F.gelu), RISING),
    "a SiLU that rises": (F.silu, on_ends(F.silu), RISING),
    "a cosine that rises": (torch.cos, on_ends(torch.cos), RISING),
    "a square of both ends": (torch.square, on_ends(torch.square), RISING),
    "an absolute value of both ends": (torch.abs, on_ends(torch.abs), RISING),
    "an even power of both ends": (torch.pow, on_ends(torch.pow), CASES["pow"][1]),
    "a falling function that rises": (torch.neg, on_ends(torch.neg), RISING),
    "a reciprocal that rises": (torch.reciprocal, on_ends(torch.reciprocal), POSITIVE[0]),
    "a negative factor": (torch.mul, on_ends(torch.mul), CASES["mul"][1]),
    "a factor of both signs": (torch.mul, on_ends(torch.mul), CASES["mul"][4]),
    "lower less lower": (torch.sub, both_lower, CASES["subtract"][-2]),
    "each entry by itself in a softmax": (
        torch.softmax,
        on_ends(torch.softmax),
        CASES["softmax"][0],
    ),
    "|W| forgotten": (F.linear, without_absolute_values, CASES["linear"][0]),
    "the bias on the radius": (torch.conv2d, bias_on_the_radius, PLANE_CONVOLUTION),
    "a matrix on both ends": (torch.matmul, on_ends(torch.matmul), CASES["matmul"][0]),
    "the radius through ReLU": (torch.relu, radius_through_relu, RISING),
    "BatchNorm with a negative scale": (F.batch_norm, scaled_in_order, CASES["batch_norm"][0]),
    "a bicubic enlargement": (
        F.interpolate,
        on_ends(F.interpolate),
        case(lambda f, x: f(x, 5, mode="bicubic"), (1, 1, 3, 3)),
    ),
    "the least of two by the greater": (
        torch.minimum,
        lambda x, y: Interval(torch.maximum(x.lower, y.lower), torch.maximum(x.upper, y.upper)),
        CASES["minimum"][-1],
    ),
    "a softplus that rises at its threshold": (
        F.softplus,
        on_ends(F.softplus),
        case(lambda f, x: f(x, 1, 1.0)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("function", "rule", "each"), UNSOUND.values(), ids=UNSOUND)
def test_an_unsound_rule_is_caught(monkeypatch, function, rule, each):
    monkeypatch.setitem(intervals._RULES, function, rule)
    with pytest.raises(AssertionError, match="bound"):
        check_sound(each, function, seeds=8, count=40)


WIDE = {
    "an absolute value from minus to plus": (
        torch.abs,
        lambda x: Interval(-x.upper.abs(), torch.maximum(x.lower.abs(), x.upper.abs())),
        RISING,
    ),
    "a square of two that differ": (
        torch.mul,
        lambda x, y: intervals._mul(x, Interval(y.lower, y.upper)),
        CASES["mul"][-1],
    ),
    "twice the radius": (
        F.linear,
        lambda x, w, b: Interval(
            *(F.linear(x.centre, w, b) + s * F.linear(x.radius, w.abs()) for s in (-2, 2))
        ),
        CASES["linear"][0],
    ),
}


@pytest.mark.parametrize(("function", "rule", "each"), WIDE.values(), ids=WIDE)
def test_a_wide_rule_is_caught(monkeypatch, function, rule, each):
    monkeypatch.setitem(intervals._RULES, function, rule)
    check_sound(each, function)
    with pytest.raises(AssertionError, match="wider than the values"):
        check_tight(each, function)


def test_a_new_rule_needs_a_case(monkeypatch):
    monkeypatch.setitem(intervals._RULES, F.gelu, on_ends(F.gelu))
    monkeypatch.setitem(intervals._NAMES, F.gelu, "gelu")
    with pytest.raises(AssertionError):
        test_every_rule_has_a_case_and_every_case_a_rule()


# --- Where the function has no value, or rounding decides ----------------------------------------


@pytest.mark.parametrize("name", sorted(CASES))
def test_nan_is_never_hidden(name):
    """A bound that is NaN knows nothing: it stays NaN, or is refused. A number would be a lie."""
    for function, each in itertools.product(registered()[name], CASES[name]):
        if not takes(each, function):
            continue
        given = boxes(each, 0)
        for x in given:
            x.lower.fill_(torch.nan)
            x.upper.fill_(torch.nan)
        try:
            bounds = parts(each.call(function, *given))
        except UnboundedError:
            continue
        unknown = torch.cat([(bound.lower + bound.upper).flatten() for bound in bounds]).isnan()
        # Where other operands are chosen in place of it, the function gives them for NaN as well.
        value = parts(each.call(function, *[x.lower for x in given]))
        expected = torch.cat([part.flatten() for part in value]).isnan()
        assert bool((unknown | ~expected).all()), f"{name} hides NaN"


@pytest.mark.parametrize("name", ["sign", "round", "floor", "ceil", "trunc", "hardshrink"])
def test_a_step_is_taken_both_ways_where_rounding_decides(name):
    step = {"sign": 0.0, "round": 0.5, "hardshrink": 0.5}.get(name, 1.0)
    point = torch.tensor([[step]])
    function = getattr(torch, name)
    bound = function(Interval(point, point))
    around = [function(point + d) for d in (-1e-7, 0.0, 1e-7)] if step else [function(point)]
    assert all(bool((bound.lower <= v).all() and (v <= bound.upper).all()) for v in around)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: 1 / x,
        lambda x: x / 0,
        lambda x: x / torch.tensor([1.0, 0.0]),
        lambda x: x.reciprocal(),
        lambda x: torch.div(x, 2, rounding_mode="floor"),
        lambda x: x**0.5,
        lambda x: x**-1,
        lambda x: 2**x,
        lambda x: x ** torch.tensor([1.0, 2.0]),
        lambda x: F.leaky_relu(x, -0.1),
        lambda x: F.elu(x, -1.0),
        lambda x: F.prelu(x, torch.tensor([-0.1])),
        lambda x: F.softplus(x, beta=0),
        lambda x: F.avg_pool1d(x, 2).view(torch.int32),
        lambda x: x.to(torch.int64),
        lambda x: x.long(),
        lambda x: x.int(),
        lambda x: F.avg_pool2d(x.view(1, 1, 2, 2), 2, divisor_override=-1),
        lambda x: F.interpolate(x.view(1, 1, 2, 2), 3, mode="bicubic"),
        lambda x: F.upsample(x.view(1, 1, 2, 2), 3, mode="bicubic"),
        lambda x: F.max_pool1d(x, 2, return_indices=True),
        lambda x: F.adaptive_max_pool1d(x, 1, return_indices=True),
        lambda x: x * x.T @ x,
        lambda x: F.linear(torch.ones(2, 2), x),
        lambda x: F.linear(x, torch.ones(2, 2), x[0]),
        lambda x: torch.einsum("ni,nk->n", x, x),
        lambda x: F.batch_norm(x, None, None, training=True),
        lambda x: F.layer_norm(x, (2,)),
        F.gelu,
        F.silu,
        torch.cos,
        torch.randn_like,
        torch.bernoulli,
        lambda x: torch.exp(x, out=torch.empty(2, 2)),
        F.softmax,
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: torch.where(x, x, 0.0),
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x if x.sum() else -x,
        lambda x: x * (x == 0),
        lambda x: x * (x != 0),
        lambda x: x * (torch.zeros(2, 2) == x),
        lambda x: x[x > 0],
        lambda x: x.max(1).indices + 1,
        lambda x: x[:, x.max(1)[1]],
        lambda x: x.gather(1, x.max(1, keepdim=True)[1]),
        lambda x: x[None if x.max(1).indices == 0 else 0],
        lambda x: x.argmax(1),
        lambda x: x.sort(1),
        lambda x: x.numpy(),
        lambda x: torch.as_tensor(x.tolist()),
        lambda x: float(x.sum()),
        lambda x: x.sum().item(),
        lambda x: x.data,
        lambda x: torch.zeros(2, 2).add_(x),
        lambda x: torch.zeros(2, 2).copy_(x),
        lambda x: x.clone().transpose_(0, 1),
        lambda x: x.clone().unsqueeze_(0),
        lambda x: x.clone().zero_(),
        lambda x: F.dropout(x, 0.5, True),
        lambda x: F.alpha_dropout(x, 0.5, True),
        lambda x: 0.5 in x,
    ],
)
def test_what_has_no_rule_is_refused(call):
    x = Interval(torch.full((2, 2), -0.5), torch.full((2, 2), 0.5))
    with walking(call, proof=True), pytest.raises(UnboundedError, match=r"there is no rule for"):
        call(x)


# --- Ways past the rules --------------------------------------------------------------------------


def half(low: float = -0.5, high: float = 0.5) -> Interval:
    return Interval(torch.full((2, 2), low), torch.full((2, 2), high))


class Rounded(Tensor):
    """Weights that are rounded where they are used, by a class of their own."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        plain = [a.as_subclass(Tensor).round() if isinstance(a, Rounded) else a for a in args]
        return function(*plain, **(kwargs or {}))


def test_it_is_a_tensor_to_whoever_asks():
    x = half()
    assert isinstance(x, Tensor)
    assert torch.is_tensor(x)
    assert isinstance(x, torch.FloatTensor)
    assert torch.jit.isinstance(x, Tensor)
    assert not isinstance(x, torch.nn.Parameter)
    assert (x.ndim, x.dim(), len(x), x.shape, x.dtype) == (2, 2, 2, (2, 2), torch.float32)
    assert torch.as_tensor(x) is x
    assert [type(row) for row in x] == [Interval, Interval]


@pytest.mark.filterwarnings("ignore:To copy construct")
@pytest.mark.parametrize(
    "call",
    [
        # A number may be given as a tensor.
        lambda x: F.leaky_relu(x, torch.tensor(-0.5)),
        lambda x: F.elu(x, torch.tensor(-1.0)),
        lambda x: F.softshrink(x, x[0, 0]),
        lambda x: F.hardshrink(x, x[0, 0]),
        lambda x: F.leaky_relu(x, x[0, 0]),
        # Attributes that lead to the memory.
        lambda x: setattr(x, "data", x * 100),
        lambda x: x.data_ptr(),
        lambda x: x.untyped_storage(),
        lambda x: torch.ones(2).new_tensor(x),
        torch.tensor,
        lambda x: x % 1,
        lambda x: torch.ones(3)[x],
        torch.vmap(lambda row: row + 1),
        # Tensors with a way of their own.
        lambda x: F.linear(x, torch.ones(2, 2).as_subclass(Rounded)),
        lambda x: x @ torch.ones(2, 2).as_subclass(Rounded),
        lambda x: torch.cat([x, torch.ones(2, 2).as_subclass(Rounded)]),
        # A constant is not made an interval, both of whose ends would be in its memory.
        lambda x: torch.zeros(2, 2).to(x).add_(x),
        lambda x: torch.zeros(2, 2).type_as(x).__iadd__(x),
        lambda x: torch.zeros(4).view_as(x).add_(x),
    ],
)
def test_a_way_past_the_rules_is_closed(call):
    with walking(call, proof=True) as refused, pytest.raises(UnboundedError, match="no rule for"):
        call(half())
    assert refused


def test_no_function_reaches_memory_where_the_rules_are_switched_off():
    with torch._C.DisableTorchFunctionSubclass(), pytest.raises(UnboundedError, match="out of si"):
        torch.relu(half())


def test_what_an_operator_of_somebody_is_called_does_not_matter():
    """`mylib::relu` is no ReLU."""
    name = "advlearn_test::relu"
    library = torch.library.Library("advlearn_test", "DEF")
    try:
        library.define("relu(Tensor x) -> Tensor")
        library.impl("relu", torch.neg, "CPU")
        for operator in (torch.ops.advlearn_test.relu, torch.ops.advlearn_test.relu.default):
            assert bool((operator(torch.ones(2)) == -1).all()), name
            with pytest.raises(UnboundedError, match="no rule for relu"):
                operator(half())
    finally:
        library._destroy()

    def mul_(x):
        return torch.overrides.handle_torch_function(mul_, (x,), x)

    with pytest.raises(UnboundedError, match="no rule for mul_"):
        mul_(half())


def test_what_a_constant_takes_from_an_interval_is_a_shape_or_a_dtype():
    x = Interval(torch.zeros(2, 2).double(), torch.ones(2, 2).double())
    for like in (torch.ones(4).to(x), torch.ones(4).type_as(x)):
        assert type(like) is Tensor
        assert like.dtype == torch.float64
    for like in (torch.ones(4).view_as(x), torch.ones(4).reshape_as(x), torch.ones(2).expand_as(x)):
        assert type(like) is Tensor
        assert like.shape == x.shape


def test_the_ends_share_no_memory():
    point = torch.zeros(2, 2)
    for x in (Interval(point, point), Interval(point, point.view(2, 2))):
        x.add_(Interval(torch.zeros(2, 2), torch.ones(2, 2)))
        assert bool((x.lower == 0).all() and (x.upper == 1).all())
        point.zero_()


def test_a_power_in_place_is_seen_by_whoever_shares_the_memory():
    x = half()
    view = x.view(-1)
    view **= 2
    assert bool((x.lower == 0).all() and (x.upper == 0.25).all())


def test_a_product_from_the_right_keeps_its_order():
    weight, x = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), half(0.25, 0.5)
    known = Tensor.__rmatmul__(weight, x.upper)
    assert Tensor.__rmatmul__(weight, x).upper.allclose(known)
    assert not known.allclose(weight @ x.upper)


def test_arguments_may_go_by_name():
    weight = numbers(2, 2).float()
    assert F.linear(input=half(), weight=weight).upper.equal(F.linear(half(), weight).upper)
    assert F.relu(input=half()).lower.equal(torch.zeros(2, 2))


def test_margins_are_of_the_weights_of_the_call():
    """Written to afterwards by any way, also those that PyTorch does not count."""
    for change in (
        lambda w: w.data.mul_(-1),
        lambda w: w.detach().numpy().__imul__(-1),
        lambda w: setattr(w, "data", -w.data),
    ):
        layer, y = torch.nn.Linear(2, 3), torch.tensor([0, 2])
        with torch.no_grad():
            known, z = layer(half()).margins(y), layer(half())
            change(layer.weight)
            change(layer.bias)
            assert z.margins(y).equal(known)
            assert not layer(half()).margins(y).equal(known)


def test_margins_are_of_the_centres_of_the_call():
    from advlearn.functional import rbf_log_odds

    centre, precision, y = numbers(3, 2), numbers(3, 2).exp(), torch.tensor([0, 2])
    x = Interval(torch.zeros(2, 2).double(), torch.ones(2, 2).double())
    z = rbf_log_odds(x, centre, precision)
    known = z.margins(y)
    centre.data.mul_(-1)
    precision.data.mul_(3)
    assert z.margins(y).equal(known)


def test_margins_keep_their_gradient():
    layer, y = torch.nn.Linear(2, 3), torch.tensor([0, 2])
    layer(half()).margins(y).sum().backward()
    assert float(layer.weight.grad.abs().sum()) > 0


def test_a_thread_of_the_model_knows_of_the_proof():
    from concurrent.futures import ThreadPoolExecutor

    layer = torch.nn.Linear(2, 3)

    def elsewhere(function):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(function).result()

    with walking(layer, proof=True), torch.no_grad():
        x = half()
        own, other = layer(x), elsewhere(lambda: torch.no_grad()(layer)(x))
        assert own.upper.equal(other.upper)
        with pytest.raises(UnboundedError, match=r"torch\.bfloat16"):
            elsewhere(lambda: x.to(torch.bfloat16))
        with pytest.raises(UnboundedError, match="dropout"):
            elsewhere(lambda: F.dropout(x, 0.5, True))
    assert not layer(half()).upper.equal(own.upper), "outside of a proof nothing is widened"


def test_a_rough_dtype_is_refused_in_a_proof():
    for dtype in (torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
        with walking(None, proof=True), pytest.raises(UnboundedError, match="too rough"):
            half().to(dtype)


def test_products_of_shortened_factors_are_wider():
    """As TF32 and bfloat16 would round them, here by hand, whatever this processor can do."""
    x, weight = half(0.25, 0.25), numbers(3, 2).float()
    calls = (
        lambda w: F.linear(x, w),
        lambda w: x @ w.T,
        lambda w: torch.einsum("ni,ki->nk", x, w),
        lambda w: F.conv2d(x.view(1, 2, 2, 1), w.view(3, 2, 1, 1)),
    )
    found = {}
    kept = torch.get_float32_matmul_precision()
    try:
        for choice in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(choice)
            with torch.no_grad(), walking(None, proof=True):
                found[choice] = [call(weight).radius.max() for call in calls]
            with torch.no_grad():
                assert all(float(call(weight).radius.max()) == 0 for call in calls)
    finally:
        torch.set_float32_matmul_precision(kept)
    size = float(0.25 * weight.abs().sum(1).max())
    for place in range(len(calls)):
        radii = [float(found[choice][place]) for choice in ("highest", "high", "medium")]
        assert radii[0] < 1e-4 * size < 2**-9 * size < radii[1] < 2**-7 * size < radii[2] < size


def test_the_roughest_way_of_a_processor_counts(monkeypatch):
    assert intervals._shortest(cuda=False) == ""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert intervals._shortest(cuda=True) == "tf32"
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    assert intervals._shortest(cuda=True) == intervals._shortest(cuda=False) == "bf16"


# --- Leaving PyTorch ------------------------------------------------------------------------------


def test_a_call_that_tensors_do_not_take_fails_as_with_them():
    x = Interval(torch.zeros(2, 2), torch.ones(2, 2))
    for given in (x, x.lower):
        with pytest.raises(TypeError, match="must be int, not NoneType"):
            given.softmax(None)


def test_writing_an_interval_into_a_tensor_is_refused():
    x, plain = Interval(torch.zeros(2), torch.ones(2)), torch.zeros(3, 2)
    with pytest.raises(UnboundedError):
        plain[0] = x
    with pytest.raises(UnboundedError):
        plain += x
    with pytest.raises(UnboundedError):
        torch.add(plain, x, out=plain)
    assert bool((plain == 0).all())


def test_numpy_gets_nothing():
    import numpy as np

    with pytest.raises(UnboundedError, match="NumPy"):
        np.asarray(Interval(torch.zeros(2), torch.ones(2)))
