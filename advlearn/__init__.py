"""advlearn: the library behind a hands-on course on adversarial examples.

The modules follow the nouns of the course: `functional`, `losses`, `models`, `data`, `attacks`,
`metrics`, `training`, `paper`, `plotting`, `widgets` and `exercises`. Importing the package loads
PyTorch and nothing heavier; plotting, widgets and torchvision are imported where they are used.
"""

from __future__ import annotations

from advlearn.attacks import Bounds, fgsm, input_gradient, linear_step, noise, pgd, rotate

__version__ = "0.1.0"

__all__ = [
    "Bounds",
    "__version__",
    "fgsm",
    "input_gradient",
    "linear_step",
    "noise",
    "pgd",
    "rotate",
]
