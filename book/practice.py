"""The page "Your own model in short": its errors are raised while it is made."""

from __future__ import annotations

from typing import Any

import differences
import torch
from torch import nn

from advlearn import fgsm
from advlearn.metrics import confidence_on_errors, error_rate
from advlearn.models import RBFNet
from advlearn.recipe import Recipe
from advlearn.training import fit

# What people write at first. Each is run, and its words are those of the page.
SLIPS = (
    "fgsm(model, 255 * x, y, 8)",
    "fgsm(model, x, y, 8)",
    "fgsm(model, (255 * x).byte(), y, 8 / 255)",
    "fgsm(model, x[0], y[:1], 8 / 255)",
    "fgsm(model, x, y, torch.tensor([0.01, 0.02, 0.03]))",
    "fgsm(model, x, torch.nn.functional.one_hot(y), 8 / 255)",
    "fgsm(model, x, y + 10, 8 / 255)",
    "fgsm(lambda x: model(x).softmax(1), x, y, 8 / 255)",
    "fgsm(lambda x: model(x).detach(), x, y, 8 / 255)",
    "fgsm(lambda x: model(x)[:, 0], x, y, 8 / 255)",
    "error_rate(model, x)",
    "confidence_on_errors(lambda x: rbf(x) / 2, (x, y))",
    "fit(lstm, (x[:, 0], y), Recipe(epochs=1, max_norm=2.0))",
)


class Rows(nn.Module):
    """An LSTM that reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.top = nn.LSTM(16, 8, batch_first=True), nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of images (N, H, W)."""
        return self.top(self.rows(x)[0][:, -1])  # type: ignore[no-any-return]


def space() -> dict[str, Any]:
    """Return what the page's code finds: a model, images, labels, and some names."""
    model, x, y = differences.make()
    names = {"fgsm": fgsm, "error_rate": error_rate, "fit": fit, "Recipe": Recipe, "torch": torch}
    names |= {"confidence_on_errors": confidence_on_errors}
    return names | {"model": model, "x": x, "y": y, "rbf": RBFNet(768, 10), "lstm": Rows()}


def errors() -> str:
    """Return the table of errors: what was called, and what it said.

    Raises:
        AssertionError: a call of `SLIPS` raises nothing any more.
    """
    lines = ["| this call | says |", "|---|---|"]
    for code in SLIPS:
        try:
            eval(code, space())
        except (TypeError, ValueError) as error:
            words = " ".join(str(error).split()).replace("|", "&#124;").replace("<", "&lt;")
            lines.append(f"| `{code}` | {type(error).__name__}: {words} |")
        else:
            raise AssertionError(f"{code} is no slip any more: take it from the page.")
    return "\n".join(lines)


def values() -> dict[str, str]:
    """Return what the page's text leaves open."""
    found = differences.read()
    return {
        "errors": errors(),
        "calls": differences.calls_table(found),
        "differences": differences.differences_table(found),
        "releases": ", ".join(f"{name} {release}" for name, release in found["releases"].items()),
    }
