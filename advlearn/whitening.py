"""The units in which the paper attacks CIFAR-10: contrast normalisation, then ZCA whitening.

A whitened image is not bounded and its pixels are not pixels: eps means another thing there. The
paper's .1 is measured in these units, whose standard deviation is about .5.
"""

from __future__ import annotations

import torch
from torch import Tensor

from advlearn._validation import check_images, check_number


def contrast_normalise(x: Tensor, *, scale: float = 55.0) -> Tensor:
    """Return each image with mean 0 and Euclidean length `scale`: s (x - mean) / ‖x - mean‖₂.

    Args:
        x: (N, C, H, W), floating, any range.
        scale: the length s, > 0; the maxout paper's 55 gives a standard deviation near 1.

    Returns:
        x's shape. An image of one colour becomes 0.

    Raises:
        TypeError, ValueError: x is not a batch of images, or `scale` is not > 0.

    Source:
        Goodfellow et al., "Maxout networks", ICML 2013, section 5.2.

    Example:
        >>> contrast_normalise(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]), scale=2.0)
        tensor([[[[-1.,  1.],
                  [-1.,  1.]]]])
    """
    check_images(x, None)
    check_number(scale, "scale", 0.0, open_low=True)
    flat = x.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    normalised: Tensor = scale * centred / length.clamp_min(1e-8)
    # What is left of one colour is the rounding of its mean, which must not be blown up.
    rounding = 4 * torch.finfo(x.dtype).eps * flat.norm(dim=1, keepdim=True)
    return normalised.masked_fill(length <= rounding, 0.0).reshape(x.shape)


class Whitening:
    """ZCA whitening: x' = W (x - mean), W = V (D + bias)^(-1/2) V', with V D V' the covariance.

    Among all linear maps that make the pixels uncorrelated, ZCA changes the images least, so they
    can still be looked at. Fit it on training images only.

    Args:
        x: training images (N, C, H, W), floating, N >= 2, already contrast-normalised.
        bias: added to each variance, > 0: directions of hardly any variance are not blown up.

    Raises:
        TypeError, ValueError: x is not a batch of two images or more, or `bias` is not > 0.

    Source:
        Krizhevsky, "Learning multiple layers of features from tiny images", 2009, appendix A;
        the bias of .1 is the maxout paper's.

    Example:
        >>> x = torch.randn(500, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> white = Whitening(3 * x, bias=1e-6)(3 * x).flatten(1)
        >>> bool((white.T.cov() - torch.eye(4)).abs().max() < 5e-3)
        True
    """

    def __init__(self, x: Tensor, *, bias: float = 0.1) -> None:
        check_images(x, None)
        check_number(bias, "bias", 0.0, open_low=True)
        if len(x) < 2:
            raise ValueError(f"x has {len(x)} image. A covariance needs two or more.")
        flat = x.flatten(1)
        self.mean = flat.mean(0)  # (d,)
        centred = flat - self.mean
        covariance = (centred.T @ centred).double() / len(x)  # (d, d)
        variance, axes = torch.linalg.eigh(covariance)
        # Rounding can leave a variance a little below zero.
        scale = (variance.clamp_min(0) + bias).rsqrt()
        self.matrix = ((axes * scale) @ axes.T).to(x.dtype)  # symmetric

    def __call__(self, x: Tensor) -> Tensor:
        """Return the whitened images, x's shape.

        Raises:
            ValueError: the images have another size than those that it was fitted on.
        """
        check_images(x, None)
        if x[0].numel() != len(self.mean):
            raise ValueError(
                f"x has {x[0].numel()} numbers for each image, the whitening was fitted on "
                f"{len(self.mean)}. Pass images of the same size."
            )
        white: Tensor = (x.flatten(1) - self.mean) @ self.matrix
        return white.reshape(x.shape)
