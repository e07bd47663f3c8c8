"""Contexts: borrow a model and give it back as it was; how exact matrix products are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from advlearn._validation import check_choice

Model = Callable[[Tensor], Tensor]
"""Anything that maps images (N, ...) to logits (N, K); usually a `torch.nn.Module`."""

PRECISIONS = ("exact", "fast")
"""How matrix products may be computed; see `precision`."""


@contextmanager
def attack_mode(model: Model) -> Iterator[None]:
    """Put `model` into eval mode with parameter gradients off; restore everything at the end.

    An attack asks how the *deployed* model reacts, so dropout and batch statistics must be off.
    Its gradient is with respect to pixels, so the parameters need none. Each module's own
    `training` flag and each parameter's own `requires_grad` flag come back, not one value for all:
    a frozen BatchNorm inside a model in training stays frozen. They come back after an exception
    too. Inside the block gradients are on, whatever `no_grad` or `inference_mode` surrounds it.

    Args:
        model: a `torch.nn.Module`, or any callable, which is then left alone.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Dropout())
        >>> with attack_mode(model):
        ...     model[1].training, model[0].weight.requires_grad
        (False, False)
        >>> model[1].training, model[0].weight.requires_grad
        (True, True)
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    # Only what differs is touched: writing a flag that is already right costs time, and recompiles
    # a compiled model.
    trained = [module for module in modules if module.training]
    tracked = [parameter for parameter in parameters if parameter.requires_grad]
    leave = torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()
    with leave, torch.enable_grad():
        try:
            # Flags are set one by one: `model.eval()` may be overridden and do more than that.
            for module in trained:
                module.training = False
            for parameter in tracked:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in tracked:
                parameter.requires_grad_(True)
            for module in trained:
                module.training = True


def precision(
    choice: str = "exact", device: torch.device | None = None
) -> AbstractContextManager[object]:
    """Return a context in which matrix products are "exact" (float32) or "fast" (bfloat16).

    bfloat16 keeps float32's range with 8 bits of precision. Processors and GPUs with hardware for
    it multiply matrices several times faster. Training tolerates it well. Attacks that look at
    signs of tiny gradients should stay exact.

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
    return torch.autocast((device or torch.device("cpu")).type, dtype=torch.bfloat16)


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
