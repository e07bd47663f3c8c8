"""Time advlearn beside other libraries: `python benchmarks/run.py`.

Everything runs in one process, on the same model, digits and threads. The libraries take turns
(A B C A B C), so that a busy moment of the machine affects all of them; a ratio is the median of
the rounds' own ratios. An attack is timed only if its images agree with ours.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from peers import STEPS, Craft, Peer, advlearn_fgsm, find_peers, find_pgd_peers
from report import publish, table
from torch import Tensor, nn

from advlearn import input_gradient, linear_step, pgd
from advlearn.batches import BATCH, taken
from advlearn.certify import certified_error_rate
from advlearn.data import Dataset, load_mnist, reference
from advlearn.losses import margin_loss
from advlearn.metrics import adversarial_error_rate, error_curve, predict
from advlearn.models import ConvNet, MaxoutNet, SoftmaxRegression
from advlearn.training import Recipe, adversarial_fit, fit

ROOT = Path(__file__).resolve().parent.parent

EPS = 0.25
SWEEP = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
OURS = "advlearn"

# Images count as equal up to this difference of a pixel, and attacks agree if this share of the
# pixels is equal: where the gradient is all but zero, its sign is a matter of rounding.
SAME_PIXEL, SAME_SHARE = 1e-6, 0.999
# Rounds that every comparison gets, however slow the machine is.
LEAST = 7
# Digits on which the model's margin is smaller than this: float32 cross-entropy is still exact.
MODERATE = 10.0


@dataclass(frozen=True)
class Settings:
    """How large and how often; `QUICK` is for the test, its numbers mean nothing."""

    threads: int = 1  # the processor time of a thread that waits for another would count too
    hidden: tuple[int, ...] = (240, 240)
    pieces: int = 5
    batches: tuple[int, ...] = (100, 1000)
    digits: int = 5000
    attacked: int = 1000  # digits under PGD
    pgd_rounds: int = 5
    trained_on: int = 2000
    rounds: int = 300  # of the smallest piece of work; the larger ones get a share of it
    import_rounds: int = 15
    warm_up: int = 3
    limit: float = 10.0  # seconds for one comparison, so that a busy machine ends as well


QUICK = Settings(
    hidden=(8,),
    pieces=2,
    batches=(20,),
    digits=200,
    attacked=20,
    pgd_rounds=1,
    trained_on=200,
    rounds=2,
    import_rounds=1,
    warm_up=1,
)


def alternate(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    warm_up: int = 0,
    limit: float = float("inf"),
    before: Callable[[], Any] = lambda: None,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Call each in turn, round after round, and return every call's seconds.

    Args:
        calls: name -> what is timed.
        rounds: how often each is timed.
        warm_up: rounds before that, which are not timed.
        limit: seconds after which no new round begins, once there are `LEAST` of them.
        before: called before each call, outside the time.
        clock: processor time, which other programs disturb least; or `time.perf_counter`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection would be counted for whichever call is running
    begun = time.perf_counter()
    try:
        for number in range(-warm_up, rounds):
            if number >= LEAST and time.perf_counter() - begun > limit:
                break
            for name, call in calls.items():
                before()
                started = clock()
                call()
                spent = clock() - started
                if number >= 0:
                    seconds[name].append(spent)
    finally:
        if collecting:
            gc.enable()
    return seconds


def quartiles(values: list[float]) -> list[float]:
    """Return the quarter, the half and the three-quarter point."""
    return statistics.quantiles(values, n=4, method="inclusive") if values[1:] else values * 3


def compare(
    name: str,
    title: str,
    seconds: Mapping[str, list[float]],
    *,
    target: float | None,
    own: str = OURS,
    skipped: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return one result: all times, and our ratio to the fastest other one."""
    times = {who: quartiles(spent) for who, spent in seconds.items()}
    others = [who for who in times if who != own]
    result: dict[str, Any] = {"name": name, "title": title, "ours": own, "target": target}
    result["fastest"] = result["ratio"] = result["reached"] = None
    if others:
        fastest = min(others, key=lambda who: times[who][1])
        ratios = quartiles([a / b for a, b in zip(seconds[own], seconds[fastest], strict=True)])
        result |= {
            "fastest": fastest,
            "ratio": ratios,
            "reached": None if target is None else ratios[1] <= target,
        }
    result["seconds"] = {
        who: {"quartiles": times[who], "rounds": seconds[who]} for who in seconds
    } | {who: {"not timed": why} for who, why in (skipped or {}).items()}
    ratio = "nothing to compare with" if not others else f"ratio {result['ratio'][1]:.3f}"
    print(f"  {title}: {ratio}", flush=True)
    return result


def tensor(images: Any) -> Tensor:
    """Return what a peer gave as a tensor, without a copy."""
    return torch.as_tensor(images).detach()


class Attacks:
    """The FGSM of each library on one model and one batch, checked against ours."""

    def __init__(self, model: nn.Module, data: Dataset, peers: list[Peer]) -> None:
        self.model, (self.x, self.y) = model, data
        self.agreement: dict[str, dict[str, float]] = {}
        self.skipped: dict[str, str] = {}
        self.crafts = {OURS: self._prepare(advlearn_fgsm)}
        for peer in peers:
            if peer.release is None:
                self.skipped[peer.name] = "not installed"
            else:
                self._add(peer)

    def _prepare(self, prepare: Callable[..., Craft]) -> dict[float, Craft]:
        return {eps: prepare(self.model, self.x, self.y, eps) for eps in {EPS, *SWEEP}}

    def _add(self, peer: Peer) -> None:
        crafts = self._prepare(peer.prepare)
        gaps = []
        for eps, craft in crafts.items():
            self.restore()
            gaps.append((tensor(craft()) - tensor(self.crafts[OURS][eps]())).abs())
        equal = min(float((gap <= SAME_PIXEL).double().mean()) for gap in gaps)
        worst = max(float(gap.max()) for gap in gaps)
        self.agreement[peer.name] = {"equal pixels": equal, "largest difference": worst}
        if equal >= SAME_SHARE:
            self.crafts[peer.name] = crafts
        else:
            self.skipped[peer.name] = f"its images differ: {equal:.1%} of the pixels are equal"

    def restore(self) -> None:
        """Take away what some peers leave in the model: the parameters' gradients."""
        self.model.zero_grad(set_to_none=True)

    def single(self) -> dict[str, Craft]:
        """One FGSM each."""
        return {who: crafts[EPS] for who, crafts in self.crafts.items()}

    def images(self) -> dict[str, Callable[[], Any]]:
        """Adversarial images for every eps: ours from one gradient, the others' one by one."""

        def from_one_gradient() -> list[Tensor]:
            gradient = input_gradient(self.model, self.x, self.y)
            return [linear_step(self.x, gradient, eps) for eps in SWEEP]

        def one_by_one(crafts: dict[float, Craft]) -> Callable[[], Any]:
            return lambda: [crafts[eps]() for eps in SWEEP]

        return {
            who: from_one_gradient if who == OURS else one_by_one(crafts)
            for who, crafts in self.crafts.items()
        }

    def errors(self) -> dict[str, Callable[[], Any]]:
        """The error rate for every eps: `error_curve`, and the other attacks with a measurement."""

        def by_curve() -> list[int]:
            curve = error_curve(self.model, (self.x, self.y), SWEEP, batch_size=len(self.x))
            return [rate.count for rate in curve.errors]

        def one_by_one(crafts: dict[float, Craft]) -> Callable[[], Any]:
            def measure() -> list[int]:
                counts = []
                for eps in SWEEP:
                    crafted = tensor(crafts[eps]())
                    with torch.no_grad():
                        counts.append(int((self.model(crafted).argmax(1) != self.y).sum()))
                return counts

            return measure

        return {
            who: by_curve if who == OURS else one_by_one(crafts)
            for who, crafts in self.crafts.items()
        }

    def needed(self) -> None:
        """What no way to count the errors of all eps can do without: a gradient, forward passes."""
        pixels = self.x.detach().requires_grad_()
        logits = self.model(pixels)
        torch.autograd.grad(logits, pixels, torch.ones_like(logits))
        with torch.no_grad():
            for _ in SWEEP:
                self.model(self.x)


def moderate_batch(model: nn.Module, data: Dataset, count: int) -> Dataset:
    """Return the first `count` digits on which the model is not too confident."""
    margins = margin_loss(predict(model, data), data.y)
    kept = (margins.abs() < MODERATE).nonzero().flatten()[:count]
    if len(kept) < count:
        raise RuntimeError(f"only {len(kept)} digits have a margin under {MODERATE}")
    return data.take(kept)


def attack_results(settings: Settings, data: Dataset, peers: list[Peer]) -> dict[str, Any]:
    """One FGSM on each model and batch size, and the sweep."""
    models = {
        "maxout": maxout(settings),
        "softmax": SoftmaxRegression(),
    }
    titles = {"maxout": "maxout network", "softmax": "softmax regression"}
    results, agreement = [], []
    for kind, model in models.items():
        # A short training, so that gradients are those of a model that has learned something.
        fit(model, data, Recipe(epochs=1, lr=0.05, seed=0), progress=False)
        model.eval()
        for size in settings.batches:
            contest = Attacks(model, moderate_batch(model, data, size), peers)
            agreement += [
                {"model": titles[kind], "batch": size, "peer": who, **agreed}
                for who, agreed in contest.agreement.items()
            ]
            options = {
                "before": contest.restore,
                "warm_up": settings.warm_up,
                "limit": settings.limit,
            }
            share = 5 if kind == "maxout" and size > 100 else 1
            rounds = max(settings.rounds // share, 2)
            results.append(
                compare(
                    f"fgsm-{kind}-{size}",
                    f"FGSM, {titles[kind]}, batch of {size:,}",
                    alternate(contest.single(), rounds, **options),
                    target=1.0,
                    skipped=contest.skipped,
                )
            )
            if kind != "maxout":
                continue
            rounds = max(rounds // 5, 2)
            for what, calls in (("images", contest.images()), ("errors", contest.errors())):
                needed = {"needed": contest.needed} if what == "errors" else {}
                seconds = alternate(calls | needed, rounds, **options)
                least = seconds.pop("needed", None)
                result = compare(
                    f"sweep-{what}-{kind}-{size}",
                    f"seven eps, {what}, {titles[kind]}, batch of {size:,}",
                    seconds,
                    target=0.4,
                    skipped=contest.skipped,
                )
                if least is not None and result["fastest"] is not None:
                    beside = seconds[result["fastest"]]
                    result["least"] = quartiles([a / b for a, b in zip(least, beside, strict=True)])
                results.append(result)
    return {"results": results, "agreement": agreement}


# The shipped networks under PGD: eps, and the share of torchattacks' time that is the target.
UNDER_PGD = {"maxout": (0.25, 0.25), "maxout-adversarial": (0.25, 0.25), "robust": (0.3, 0.8)}


def pgd_results(settings: Settings, peers: list[Peer]) -> list[dict[str, Any]]:
    """Counting errors under PGD, all libraries with the same eps, steps and step size.

    Each starts at random points of its own, so the images differ, and the counts do a little.
    """
    x, y = load_mnist("test", source="offline").take(slice(settings.attacked))
    results = []
    for name, (eps, share) in UNDER_PGD.items():
        model = reference.load(name).eval()
        counts: dict[str, list[int]] = {}

        def ours(model: nn.Module = model, eps: float = eps) -> int:
            options = {"attack": pgd, "steps": STEPS, "batch_size": len(x)}
            return adversarial_error_rate(model, (x, y), eps, **options).count

        def counted(
            who: str,
            count: Callable[[], int],
            counts: dict[str, list[int]] = counts,
        ) -> Callable[[], None]:
            return lambda: counts.setdefault(who, []).append(count())

        def measured(craft: Craft, model: nn.Module = model) -> Callable[[], int]:
            def count() -> int:
                crafted = tensor(craft())
                with torch.no_grad():
                    return int((model(crafted).argmax(1) != y).sum())

            return count

        calls = {OURS: counted(OURS, ours)}
        skipped = {peer.name: "not installed" for peer in peers if peer.release is None}
        for peer in peers:
            if peer.release is not None:
                calls[peer.name] = counted(peer.name, measured(peer.prepare(model, x, y, eps)))
        seconds = alternate(
            calls,
            settings.pgd_rounds,
            warm_up=1,
            before=lambda model=model: model.zero_grad(set_to_none=True),  # type: ignore[misc]
        )
        found = {who: statistics.median(each) for who, each in counts.items()}
        beside = {who: seconds[who] for who in (OURS, "torchattacks") if who in seconds}
        title = f"errors under PGD, {STEPS} steps, {name}, {len(x):,} digits"
        for what, whole, target in (("", beside, share), (", all", seconds, 1.0)):
            results.append(
                compare(
                    f"pgd-{name}{what.replace(', ', '-')}",
                    title + what,
                    whole,
                    target=target,
                    skipped={
                        who: why for who, why in skipped.items() if what or who == "torchattacks"
                    },
                )
                | {"errors": {who: found[who] for who in whole}}
            )
    return results


def maxout(settings: Settings) -> MaxoutNet:
    """Return the course's maxout network without dropout, always with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MaxoutNet(
            hidden=settings.hidden, pieces=settings.pieces, input_dropout=0.0, hidden_dropout=0.0
        )


def training_result(settings: Settings, data: Dataset) -> dict[str, Any]:
    """One epoch of adversarial training beside one of plain training."""
    model, recipe = maxout(settings), Recipe(epochs=1, lr=0.05, seed=0)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    some = data.take(slice(settings.trained_on))
    calls = {
        "adversarial_fit": lambda: adversarial_fit(model, some, recipe, eps=EPS, progress=False),
        "fit": lambda: fit(model, some, recipe, progress=False),
    }
    return compare(
        "adversarial-step",
        "adversarial training step beside a plain one",
        alternate(
            calls,
            max(settings.rounds // 15, 2),
            warm_up=1,
            limit=settings.limit,
            before=lambda: model.load_state_dict(start),
        ),
        target=2.1,
        own="adversarial_fit",
    )


def certified_result(settings: Settings, data: Dataset) -> dict[str, Any]:
    """Certifying digits beside plain forward passes over the same batches, on one thread.

    How many are certified has no influence on the time, so the network need not be trained.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ConvNet().eval()
    many = (data.x.repeat(2, 1, 1, 1), data.y.repeat(2))  # 10,000 of the 5,000

    def forward() -> None:
        with torch.no_grad():
            for batch in many[0].split(BATCH):
                model(batch)

    calls = {
        "certified_error_rate": lambda: certified_error_rate(model, many, EPS, progress=False),
        "forward passes": forward,
    }
    with threads(1):
        seconds = alternate(
            calls, max(settings.rounds // 15, 2), warm_up=1, limit=3 * settings.limit
        )
    return compare(
        "certify-convnet",
        f"certifying {len(many[1]):,} digits, ConvNet, beside plain forward passes",
        seconds,
        target=3.0,
        own="certified_error_rate",
    )


def torchvision_digits(data: Dataset) -> Any:
    """Return torchvision's MNIST over our digits, so that no MNIST files are needed.

    Its own `__getitem__` runs: bytes to a PIL image to `ToTensor`. Only reading files is left out.
    """
    from torchvision.datasets import MNIST
    from torchvision.transforms import ToTensor

    digits = MNIST.__new__(MNIST)
    digits.data = (data.x[:, 0] * 255).round().byte()
    digits.targets = data.y
    digits.transform, digits.target_transform = ToTensor(), None
    return digits


def our_epoch(data: Dataset, size: int = 100) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of one epoch as `advlearn.training` makes them."""
    for batch in torch.split(torch.randperm(data.n), size):
        yield taken(data.x, batch), data.y[batch]


def data_result(settings: Settings, data: Dataset) -> dict[str, Any]:
    """One epoch of batches, without a model."""
    from torch.utils.data import DataLoader

    digits = torchvision_digits(data)
    first = torch.stack([digits[i][0] for i in range(20)])
    if not torch.allclose(first, data.x[:20], atol=SAME_PIXEL):
        raise RuntimeError("torchvision's digits are not ours")
    plain = DataLoader(digits, batch_size=100, shuffle=True)
    calls: dict[str, Callable[[], Any]] = {
        OURS: lambda: [len(y) for _, y in our_epoch(data)],
        "DataLoader": lambda: [len(y) for _, y in plain],
    }
    if settings != QUICK and sys.platform.startswith("linux"):
        # The loader's own remedy: processes that live on from epoch to epoch.
        workers = DataLoader(
            digits, batch_size=100, shuffle=True, num_workers=2, persistent_workers=True
        )
        calls["DataLoader, 2 workers"] = lambda: [len(y) for _, y in workers]
    return compare(
        "data-epoch",
        "one epoch of batches, no model",
        alternate(
            calls,
            max(settings.rounds // 15, 2),
            warm_up=1,
            limit=settings.limit,
            clock=time.perf_counter,  # the loader's workers are other processes
        ),
        target=0.1,
    )


def import_seconds(statement: str) -> float:
    """Return how long an import takes in a fresh process."""
    code = (
        "import time; started = time.perf_counter(); "
        f"{statement}; print(time.perf_counter() - started)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def import_results(settings: Settings) -> list[dict[str, Any]]:
    """Importing advlearn beside `import torch`.

    `import advlearn` alone puts off loading PyTorch to the first use, so it has less to do than
    `import torch`. The fair comparison is the import of an attack, which loads PyTorch as well.
    """
    whole, alone, torch_ = "from advlearn import fgsm", "import advlearn", "import torch"
    seconds: dict[str, list[float]] = {whole: [], alone: [], torch_: []}
    skipped = 0 if settings.import_rounds == 1 else 1  # the first round fills the disk cache
    begun = time.perf_counter()
    for number in range(settings.import_rounds + skipped):
        if number > LEAST and time.perf_counter() - begun > settings.limit:
            break
        for statement, spent in seconds.items():
            value = import_seconds(statement)
            if number >= skipped:
                spent.append(value)
    titles = {
        whole: ("import with PyTorch", 1.1),
        alone: ("import alone, PyTorch put off to the first use", None),
    }
    return [
        compare(
            "import-" + ("whole" if own == whole else "alone"),
            title,
            {own: seconds[own], torch_: seconds[torch_]},
            target=target,
            own=own,
        )
        for own, (title, target) in titles.items()
    ]


def machine(settings: Settings, peers: list[Peer]) -> dict[str, Any]:
    """Return what the times depend on."""
    cpu = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        named = [line for line in facts.read_text().splitlines() if line.startswith("model name")]
        cpu = named[0].partition(":")[2].strip() if named else cpu
    releases: dict[str, str | None] = {}
    for name in ("advlearn", "torch", "torchvision", "numpy"):
        try:
            releases[name] = version(name)
        except PackageNotFoundError:
            releases[name] = str(getattr(sys.modules.get(name), "__version__", None))
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": settings.threads,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "releases": releases | {peer.name: peer.release for peer in peers},
    }


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` threads, then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(settings: Settings, peers: list[Peer], pgd_peers: list[Peer]) -> dict[str, Any]:
    """Do all of it and return what `results.json` holds."""
    data = load_mnist("all", source="offline")
    # Mixed: the offline digits come class by class.
    order = torch.randperm(data.n, generator=torch.Generator().manual_seed(0))
    data = data.take(order[: settings.digits])
    facts = machine(settings, pgd_peers)  # first: the load is that of other programs
    with threads(settings.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers' own, about future releases
        measured = attack_results(settings, data, peers)
        measured["results"] += [
            *pgd_results(settings, pgd_peers),
            training_result(settings, data),
            certified_result(settings, data),
            data_result(settings, data),
            *import_results(settings),
        ]
    return {"machine": facts, "settings": asdict(settings), **measured}


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description="Time advlearn beside other libraries.")
    parser.add_argument("--quick", action="store_true", help="a trial run; writes nothing here")
    parser.add_argument(
        "--peers", type=Path, default=ROOT / ".venv-bench", help="the folder of install.py"
    )
    parser.add_argument(
        "--output", type=Path, help="the folder to write to; benchmarks/ unless --quick"
    )
    given = parser.parse_args(arguments)
    peers, pgd_peers = find_peers(given.peers), find_pgd_peers(given.peers)
    measured = measure(QUICK if given.quick else Settings(), peers, pgd_peers)
    print()
    print(table(measured))
    folder = given.output or (None if given.quick else Path(__file__).resolve().parent)
    if folder is not None:
        for path in publish(measured, folder):
            print(f"written: {path.name}")


if __name__ == "__main__":
    main()
