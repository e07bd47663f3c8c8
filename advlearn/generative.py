"""A generative classifier: one density for each class, and Bayes' rule.

It learns how the images of a class look, p(x | k), and never compares two classes while it learns.
The paper asks whether such a model resists adversarial examples; its own is a deep Boltzmann
machine. This one is a mixture of Gaussians, each flat in all but a few directions, whose densities
and gradients are exact.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from advlearn._validation import check_count, check_images, check_labels, check_number


class SubspaceMixture(nn.Module):
    """p(x | k) = sum_m w_km N(x; mu_km, U_km L_km U_km' + s² I), and p(k | x) by Bayes' rule.

    A mixture of probabilistic principal component analysers. Component m of class k is a Gaussian
    that is wide along `rank` directions and has the same small variance s² in all others. The
    logits are log p(x | k) + log p(k), so that their softmax is p(k | x).

    Args:
        features: number of pixels d.
        classes: number of classes K.
        components: Gaussians for each class, M.
        rank: wide directions of each, q < d.
        span: None, or a number r with q <= r < d: the wide directions of all Gaussians then lie
            in the r directions along which the images of all classes vary most. The densities are
            then estimated in a space of r dimensions and not of d, and weigh less: images of
            digits vary little in most directions.

    Source:
        Tipping and Bishop, "Mixtures of probabilistic principal component analyzers", 1999.

    Example:
        >>> SubspaceMixture(4, classes=2, components=2, rank=1)(torch.zeros(3, 4)).shape
        torch.Size([3, 2])
    """

    centre: Tensor
    basis: Tensor
    constant: Tensor
    precision: Tensor
    frame: Tensor | None

    def __init__(
        self,
        features: int = 784,
        classes: int = 10,
        *,
        components: int = 4,
        rank: int = 30,
        span: int | None = None,
    ) -> None:
        super().__init__()
        self.classes = check_count(classes, "classes")
        self.components = check_count(components, "components")
        total = self.classes * self.components
        if check_count(rank, "rank") >= check_count(features, "features"):
            raise ValueError(f"rank = {rank} must be less than features = {features}.")
        if span is not None and not rank <= check_count(span, "span") < features:
            raise ValueError(
                f"span = {span} must be at least rank = {rank} and less than features = "
                f"{features}. Or leave it out."
            )
        # Buffers, not parameters: they are estimated, not descended to.
        self.register_buffer("centre", torch.zeros(total, features))  # (K M, d)
        # (K M, q, d), or in the coordinates of the frame (K M, q, r), whose rows are orthonormal.
        self.register_buffer("basis", torch.zeros(total, rank, span or features))
        self.register_buffer("frame", torch.zeros(span, features) if span else None)  # (r, d)
        self.register_buffer("constant", torch.zeros(total))  # log w - log sqrt det, (K M,)
        self.register_buffer("precision", torch.ones(()))  # 1 / s²

    def _framed(self, flat: Tensor) -> Tensor:
        """Return the coordinates in which the bases are given, (N, r), of images (N, d)."""
        return flat if self.frame is None else flat @ self.frame.T

    def _joint(self, x: Tensor, part: slice = slice(None)) -> Tensor:
        """Return log w_km N(x; ...) up to one constant, (N, K M), or of a part of the columns."""
        flat, centre, basis = x.flatten(1), self.centre[part], self.basis[part]
        # (x - mu)' C^-1 (x - mu) = ‖x - mu‖² / s² - ‖B (x - mu)‖², by the inverse of a low-rank
        # update. Squares are expanded: the differences (N, K M, d) would not fit the memory.
        square = flat.square().sum(1, keepdim=True) - 2 * flat @ centre.T + centre.square().sum(1)
        total, rank, _ = basis.shape
        shift = torch.einsum("kqr,kr->kq", basis, self._framed(centre))
        along = (self._framed(flat) @ basis.flatten(0, 1).T).reshape(-1, total, rank) - shift
        return self.constant[part] - 0.5 * (square * self.precision - along.square().sum(2))

    def forward(self, x: Tensor) -> Tensor:
        """Return log p(x | k) + log p(k) up to one constant for each model, (N, K)."""
        return self._joint(x).reshape(len(x), self.classes, self.components).logsumexp(2)

    @torch.no_grad()
    def estimate(
        self, x: Tensor, y: Tensor, *, variance: float = 0.02, rounds: int = 10, seed: int = 0
    ) -> None:
        """Estimate every density by expectation-maximisation, class by class, in place.

        Args:
            x: (N, ...), floating.
            y: (N,) int64, at least `components` examples of each class.
            variance: s², the variance of a pixel off the subspace, > 0. Larger makes a blunter
                density, which generalises better than the estimate of greatest likelihood.
            rounds: of expectation and maximisation, >= 1.
            seed: of the first assignment.

        Raises:
            TypeError, ValueError: an argument is of the wrong kind or range, or a class is too
                small.
        """
        check_images(x, None)
        check_labels(y, len(x))
        check_number(variance, "variance", 0.0, open_low=True)
        check_count(rounds, "rounds")
        self._class_counts(y, least=self.components)
        self.precision.fill_(1 / variance)
        if self.frame is not None:
            self.frame.copy_(_principal(x.flatten(1), len(self.frame)))
        generator = torch.Generator().manual_seed(seed)
        for label in range(self.classes):
            own = x[y == label].flatten(1)
            part = slice(label * self.components, (label + 1) * self.components)
            # Start: the nearest of a few random examples.
            seeds = own[
                torch.randperm(len(own), generator=generator)[: self.components].to(x.device)
            ]
            nearest = torch.cdist(own, seeds).argmin(1)
            share = nn.functional.one_hot(nearest, self.components).to(x.dtype)  # (n, M)
            prior = math.log(len(own) / len(x))
            for turn in range(rounds):
                if turn:
                    share = self._joint(own, part).softmax(1)
                self._maximise(own, share, part.start, variance, prior)

    def _class_counts(self, y: Tensor, *, least: int) -> Tensor:
        """Return how many examples each class has, (K,); require `least` of each."""
        counts = y.bincount(minlength=self.classes)
        if len(counts) > self.classes or int(counts.min()) < least:
            raise ValueError(
                f"y has {counts.tolist()} examples of its classes; the model has {self.classes} "
                f"classes and needs {least} or more of each."
            )
        return counts

    def balance(self, x: Tensor, y: Tensor) -> None:
        """Set the priors p(k) so that each class is expected as often as it occurs, in place.

        Of the right densities, the mean of p(k | x) over the examples is the share of class k. Of
        estimated ones it is not: a class whose density is too blunt claims examples of others. The
        priors that mend this are those that make the labels most likely, given the images:

            max over c of  sum_k share_k c_k - mean over x of log sum_k p(x | k) exp(c_k)

        A concave function of K numbers, whose slope is share_k - mean p(k | x).

        Args:
            x: (N, ...), floating: the examples that `estimate` was given.
            y: (N,) int64; only how often each class occurs is used.

        Raises:
            TypeError, ValueError: an argument is of the wrong kind or range, or a class is missing.

        Example:
            >>> model = SubspaceMixture(2, classes=2, components=1, rank=1)
            >>> model.balance(torch.zeros(4, 2), torch.tensor([0, 1, 1, 1]))
            >>> model(torch.zeros(1, 2)).softmax(1)
            tensor([[0.2500, 0.7500]])
        """
        check_images(x, None)
        check_labels(y, len(x))
        counts = self._class_counts(y, least=1)
        with torch.no_grad():
            logits = torch.cat([self(part) for part in x.split(1000)]).double()
        share = (counts / len(y)).double()
        prior = torch.zeros_like(logits[0]).requires_grad_()
        search = torch.optim.LBFGS(
            [prior], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            search.zero_grad()
            value = (logits + prior).logsumexp(1).mean() - share @ prior
            value.backward()
            return value

        search.step(loss)
        # Only differences matter to p(k | x); p(x) stays a density when the priors add up to 1.
        moved = prior.detach() - (share.log() + prior.detach()).logsumexp(0)
        self.constant += moved.to(self.constant.dtype).repeat_interleave(self.components)

    def _maximise(
        self, own: Tensor, share: Tensor, first: int, variance: float, prior: float
    ) -> None:
        """Set one class's components from the shares (n, M) that they have in each example."""
        rank, coordinates = self.basis.shape[1], self._framed(own)
        for m in range(self.components):
            weight = share[:, m]
            mass = weight.sum().clamp_min(1e-6)
            centre = (weight @ own) / mass
            offset = (coordinates - self._framed(centre)) * weight.sqrt().unsqueeze(1)
            covariance = (offset.T @ offset).double() / mass.double()
            spread, axes = torch.linalg.eigh(covariance)
            top = spread[-rank:].clamp_min(variance).to(own.dtype)  # at least the noise: >= 0 left
            self.centre[first + m] = centre
            # C^-1 = I / s² - U diag(1/s² - 1/top) U'
            scale = (1 / variance - 1 / top).clamp_min(0).sqrt()
            self.basis[first + m] = scale.unsqueeze(1) * axes[:, -rank:].T.to(own.dtype)
            logdet = top.log().sum() + (own.shape[1] - rank) * math.log(variance)
            self.constant[first + m] = prior + (mass / len(own)).log() - 0.5 * logdet


def _principal(flat: Tensor, count: int) -> Tensor:
    """Return the directions (count, d) in which images (N, d) vary most, orthonormal."""
    offset = flat - flat.mean(0)
    _, axes = torch.linalg.eigh((offset.T @ offset).double())
    top: Tensor = axes[:, -count:].T
    return top.to(flat.dtype)
