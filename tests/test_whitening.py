"""Contrast normalisation and ZCA whitening, against their definitions."""

from __future__ import annotations

import pytest
import torch

from advlearn.whitening import Whitening, contrast_normalise


def mixed(count: int = 400, seed: int = 0) -> torch.Tensor:
    """Make images whose pixels are correlated and of unequal variance."""
    generator = torch.Generator().manual_seed(seed)
    plain = torch.randn(count, 12, generator=generator, dtype=torch.float64)
    mix = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    return (plain @ mix + 0.3).reshape(count, 3, 2, 2)


def covariance(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).T.cov(correction=0)


# --- Contrast -------------------------------------------------------------------------------------


def test_each_image_gets_mean_0_and_the_length_asked_for():
    x = mixed()
    normal = contrast_normalise(x, scale=7.0).flatten(1)
    torch.testing.assert_close(normal.mean(1), torch.zeros(400, dtype=x.dtype))
    torch.testing.assert_close(normal.norm(dim=1), torch.full((400,), 7.0, dtype=x.dtype))


def test_brightness_and_contrast_are_what_is_removed():
    x = mixed()
    torch.testing.assert_close(contrast_normalise(3 * x + 5), contrast_normalise(x))


def test_the_length_of_55_gives_photographs_a_deviation_near_1():
    x = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert contrast_normalise(x).std() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("colour", [0.0, 0.1, 1 / 3, 0.7, 1.0, 200.0])
def test_an_image_of_one_colour_becomes_0(colour):
    """The mean of 3,072 equal float32 numbers is not always that number."""
    assert contrast_normalise(torch.full((1, 3, 32, 32), colour)).abs().max() == 0


def test_a_faint_image_is_not_taken_for_one_colour():
    x = torch.full((1, 3, 32, 32), 1.0)
    x[0, 0, 0, 0] -= 1 / 255
    assert contrast_normalise(x).norm() == pytest.approx(55.0, rel=1e-4)


@pytest.mark.parametrize(
    ("x", "scale", "error", "words"),
    [
        (torch.zeros(2, 1, 2, 2), 0.0, ValueError, "scale must be finite and in"),
        (torch.zeros(2, 1, 2, 2), "55", TypeError, "scale must be a number"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), 55.0, TypeError, "x"),
        (torch.full((1, 1, 2, 2), torch.nan), 55.0, ValueError, "x"),
    ],
)
def test_bad_contrast_is_named(x, scale, error, words):
    with pytest.raises(error, match=words):
        contrast_normalise(x, scale=scale)


# --- Whitening ------------------------------------------------------------------------------------


def test_white_pixels_are_uncorrelated_with_variance_1():
    x = mixed()
    white = Whitening(x, bias=1e-10)(x)
    torch.testing.assert_close(covariance(white), torch.eye(12, dtype=x.dtype), atol=1e-6, rtol=0)
    torch.testing.assert_close(white.flatten(1).mean(0), torch.zeros(12, dtype=x.dtype))


def test_the_bias_is_added_to_each_variance():
    x = mixed()
    variance, axes = torch.linalg.eigh(covariance(x))
    expected = axes @ torch.diag(variance / (variance + 0.5)) @ axes.T
    torch.testing.assert_close(covariance(Whitening(x, bias=0.5)(x)), expected)


def test_it_is_zca_the_symmetric_root():
    x = mixed()
    whiten = Whitening(x, bias=0.1)
    torch.testing.assert_close(whiten.matrix, whiten.matrix.T)
    inverse = whiten.matrix @ whiten.matrix
    expected = torch.linalg.inv(covariance(x) + 0.1 * torch.eye(12, dtype=x.dtype))
    torch.testing.assert_close(inverse, expected)


def test_other_images_are_whitened_by_what_was_fitted():
    """The test images must not take part in their own whitening."""
    train, test = mixed(seed=0), mixed(50, seed=1)
    whiten = Whitening(train)
    before = whiten.matrix.clone()
    white = whiten(test)
    assert white.shape == test.shape
    assert whiten.matrix.equal(before)
    torch.testing.assert_close(whiten(test[:1]), white[:1])


def test_fewer_images_than_pixels_are_enough():
    """Most variances are 0 then, and rounding puts some below."""
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert Whitening(x)(x).isfinite().all()


def test_bad_images_are_named():
    x = torch.rand(3, 1, 4, 4)
    with pytest.raises(ValueError, match=r"x has 1 image\. A covariance needs two or more"):
        Whitening(x[:1])
    with pytest.raises(ValueError, match="bias must be finite and in"):
        Whitening(x, bias=0.0)
    with pytest.raises(ValueError, match=r"x has 25 numbers for each image, .* fitted on 16"):
        Whitening(x)(torch.rand(2, 1, 5, 5))
