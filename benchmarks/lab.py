"""Time a whole lab, by hand and with advlearn: `python benchmarks/lab.py`.

Lab 9 of EPFL's machine learning course trains softmax regression, a LeNet, and a LeNet on FGSM
examples, each for ten epochs of MNIST with the test error after every epoch, and then attacks each
of the three with seven eps. Here it is written anew, twice: by hand, as such labs are (torchvision
MNIST with ToTensor in a DataLoader, a loop over batches, an attack for each eps), and with
advlearn. Both start from the same weights and take turns. What counts is processor time, at equal
errors.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from report import lay_out, publish_part
from run import machine, quartiles, threads, torchvision_digits
from torch import Tensor, nn

from advlearn.data import Dataset, load_mnist
from advlearn.metrics import error_curve, error_rate
from advlearn.training import Recipe, adversarial_fit, fit

EPS = 0.25
SWEEP = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
LR = 0.001
TEST_BATCH = 100
BY_HAND, OURS = "by hand", "advlearn"
TARGET = 1 / 3

Errors = dict[str, list[float]]
"""Model -> its error for each eps of the sweep, the first of which is 0: in percent."""


@dataclass(frozen=True)
class Settings:
    """How large: the lab itself, or its short form on the offline digits."""

    source: str = "auto"
    epochs: int = 10
    batch_size: int = 1000
    rounds: int = 1
    threads: int = 1
    digits: int | None = None  # that are trained on; all by default
    precision: str = "fast"  # of the LeNets that advlearn trains
    # Errors are equal if ours is at most so many percentage points above: two trainings that differ
    # in nothing but their seed differ by about as much.
    clean_within: float = 0.5
    attacked_within: float = 5.0


SHORT = Settings(source="offline", rounds=3, clean_within=2.5)
QUICK = replace(SHORT, epochs=1, batch_size=100, rounds=1, digits=200)  # its numbers mean nothing


@dataclass
class Spent:
    """Processor seconds of each part of the lab, and the errors that it found."""

    seconds: dict[str, float] = field(default_factory=dict)
    errors: Errors = field(default_factory=dict)
    epochs: Errors = field(default_factory=dict)

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Count what is done inside for a part."""
        started = time.process_time()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.process_time() - started


def softmax() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def lenet() -> nn.Module:
    """The lab's network: two convolutions of 5 x 5, pooled, and a hidden layer, with dropout."""
    return nn.Sequential(
        nn.Conv2d(1, 10, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(10, 20, 5),
        nn.Dropout2d(),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(320, 50),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(50, 10),
    )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "softmax regression": softmax,
    "LeNet": lenet,
    "LeNet on FGSM": lenet,
}


def started(name: str, seed: int) -> nn.Module:
    """Return an untrained model, the same for both ways."""
    torch.manual_seed(seed)
    return MODELS[name]()


# --- By hand --------------------------------------------------------------------------------------


def by_hand(train: Dataset, test: Dataset, settings: Settings, seed: int) -> Spent:
    """Do the lab as such labs are written."""
    from torch.utils.data import DataLoader

    digits = DataLoader(torchvision_digits(train), settings.batch_size, shuffle=True)
    held_out = DataLoader(torchvision_digits(test), TEST_BATCH, shuffle=True)
    criterion, spent = nn.CrossEntropyLoss(), Spent()

    def moved(images: Tensor, eps: float) -> Tensor:
        return torch.clamp(images + eps * images.grad.sign(), 0, 1)

    def share_wrong(model: nn.Module) -> float:
        wrong = 0
        for images, labels in held_out:
            wrong += int((model(images).argmax(1) != labels).sum())
        return 100 * wrong / test.n

    def attacked(model: nn.Module, eps: float) -> float:
        wrong = 0
        for images, labels in held_out:
            images.requires_grad = True
            model.zero_grad()
            criterion(model(images), labels).backward()
            wrong += int((model(moved(images, eps)).argmax(1) != labels).sum())
        return 100 * wrong / test.n

    for name in MODELS:
        model = started(name, seed).eval()
        optimizer = torch.optim.Adam(model.parameters(), lr=LR)
        spent.epochs[name] = []
        with spent.on(name):
            for _ in range(settings.epochs):
                model.train()
                for images, labels in digits:
                    trained_on = images
                    if name == "LeNet on FGSM":
                        images.requires_grad = True
                        model.zero_grad()
                        criterion(model(images), labels).backward()
                        trained_on = moved(images, EPS)
                    loss = criterion(model(trained_on), labels)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                model.eval()
                spent.epochs[name].append(share_wrong(model))
        with spent.on("three sweeps of seven eps"):
            spent.errors[name] = [attacked(model, eps) for eps in SWEEP]
    return spent


def bfloat16_cost(size: int = 512, rounds: int = 5) -> float:
    """Return how long a product of matrices takes in bfloat16, as a multiple of float32's time.

    Processors without instructions for bfloat16 compute with it, but more slowly. PyTorch has no
    public question that tells them apart on all systems, so it is measured.
    """
    ratios = []
    a, b = torch.rand(2, size, size)
    for _ in range(rounds + 1):  # the first round warms up
        times = []
        for x, y in ((a, b), (a.bfloat16(), b.bfloat16())):
            start = time.process_time()
            for _ in range(4):
                x @ y
            times.append(time.process_time() - start)
        ratios.append(times[1] / times[0])
    return quartiles(ratios[1:])[1]


# --- With advlearn --------------------------------------------------------------------------------


def with_advlearn(train: Dataset, test: Dataset, settings: Settings, seed: int) -> Spent:
    """Do the same with this library."""
    spent = Spent()
    with spent.on("softmax regression"):  # part of the work: convolutions measure faster so, too
        test = test._replace(x=test.x.to(memory_format=torch.channels_last))
    plain = Recipe(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        optimizer="adam",
        lr=LR,
        seed=seed,
    )
    # Both options only pay for convolutions, and bfloat16 only on a processor made for it.
    fast = replace(plain, memory_format="channels_last", precision=settings.precision)

    def measure(model: nn.Module) -> dict[str, float]:
        return {"test error": 100 * float(error_rate(model, test))}

    for name in MODELS:
        model = started(name, seed).eval()
        with spent.on(name):
            options: dict[str, Any] = {"measure": measure, "progress": False}
            if name == "softmax regression":
                history = fit(model, train, plain, **options)
            elif name == "LeNet":
                history = fit(model, train, fast, **options)
            else:  # as by hand: on attacked images alone
                history = adversarial_fit(model, train, fast, eps=EPS, alpha=0.0, **options)
        spent.epochs[name] = history["test error"]
        with spent.on("three sweeps of seven eps"):
            curve = error_curve(model, test, SWEEP)
            spent.errors[name] = [100 * float(rate) for rate in curve.errors]
    return spent


# --- Both -----------------------------------------------------------------------------------------

WAYS = {BY_HAND: by_hand, OURS: with_advlearn}


def measure(settings: Settings) -> dict[str, Any]:
    """Do the lab both ways, in turns, and return what `lab.json` holds."""
    train, test = (load_mnist(part, source=settings.source) for part in ("train", "test"))
    train = train.take(slice(settings.digits))
    facts = machine(settings, [])
    with threads(settings.threads):
        facts["bfloat16"] = bfloat16_cost()
    settings = replace(settings, precision="fast" if facts["bfloat16"] < 1 else "exact")
    facts["digits"] = {"trained on": train.n, "tested on": test.n, "source": train.source}
    done: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with threads(settings.threads):
        for seed in range(settings.rounds):
            for way, work in WAYS.items():
                spent = work(train, test, settings, seed)
                done[way].append(asdict(spent))
                total = sum(spent.seconds.values())
                print(f"  round {seed + 1}, {way}: {total:.1f} s of processor time", flush=True)
    return {"machine": facts, "settings": asdict(settings), "rounds": done} | judged(done, settings)


def judged(done: dict[str, list[dict[str, Any]]], settings: Settings) -> dict[str, Any]:
    """Return the ratios of each part and of the whole, and whether the errors are equal."""
    hand, own = done[BY_HAND], done[OURS]
    parts = [*hand[0]["seconds"], "in all"]

    def seconds(one: dict[str, Any], part: str) -> float:
        return float(sum(one["seconds"].values()) if part == "in all" else one["seconds"][part])

    rows = {
        part: {
            BY_HAND: quartiles([seconds(one, part) for one in hand])[1],
            OURS: quartiles([seconds(one, part) for one in own])[1],
            "ratio": quartiles(
                [seconds(b, part) / seconds(a, part) for a, b in zip(hand, own, strict=True)]
            ),
        }
        for part in parts
    }
    errors = {
        name: {
            way: [
                quartiles([one["errors"][name][i] for one in rounds])[1] for i in range(len(SWEEP))
            ]
            for way, rounds in done.items()
        }
        for name in MODELS
    }
    equal = all(
        mine - theirs <= (settings.clean_within if eps == 0 else settings.attacked_within)
        for name, found in errors.items()
        for eps, theirs, mine in zip(SWEEP, found[BY_HAND], found[OURS], strict=True)
        # An undefended model's error under attack is no merit; that of the trained one is.
        if eps == 0 or (name == "LeNet on FGSM" and eps == EPS)
    )
    reached = rows["in all"]["ratio"][1] <= TARGET and equal
    return {"parts": rows, "errors": errors, "equal errors": equal, "reached": reached}


def table(measured: dict[str, Any]) -> str:
    """Return the times and the errors as Markdown."""
    facts, settings = measured["machine"], measured["settings"]
    times = [["part", BY_HAND, OURS, "ratio (quartiles)"]]
    for part, row in measured["parts"].items():
        low, middle, high = row["ratio"]
        cells = f"{row[BY_HAND]:.1f} s", f"{row[OURS]:.1f} s"
        times.append([part, *cells, f"{middle:.3f} ({low:.3f}-{high:.3f})"])
    found = [["model", "way", *(f"eps {eps:g}" for eps in SWEEP)]]
    for name, ways in measured["errors"].items():
        for way, errors in ways.items():
            found.append([name, way, *(f"{error:.1f} %" for error in errors)])
    load = "" if facts["load"] is None else f"load {facts['load']:.1f} at the start, "
    digits = facts["digits"]
    verdict = (
        "Target: at most a third of the processor time, at equal errors (the three clean ones "
        f"within {settings['clean_within']:g} points, that of the LeNet trained on FGSM at eps "
        f"{EPS:g} within {settings['attacked_within']:g}; lower is equal too). Errors are "
        f"{'equal' if measured['equal errors'] else 'not equal'}; the target is "
        f"{'reached' if measured['reached'] else 'not reached'}."
    )
    releases = ", ".join(f"{name} {release}" for name, release in facts["releases"].items())
    cost = facts["bfloat16"]
    products = (
        f"A product of matrices took {cost:.2g} times as long in bfloat16 as in float32; the "
        f"LeNets of advlearn used {'bfloat16' if settings['precision'] == 'fast' else 'float32'}."
    )
    about = (
        f"Processor time, medians over {settings['rounds']} of the lab both ways; trained on "
        f"{digits['trained on']:,} digits ({digits['source']}) in batches of "
        f"{settings['batch_size']:,}, {settings['epochs']} epochs, {digits['tested on']:,} test "
        f"digits. {facts['cpu']}, {facts['cores']} cores, threads: {settings['threads']}, "
        f"{facts['system']}, {load}Python {facts['python']}; {releases}."
    )
    return "\n\n".join([lay_out(times), lay_out(found), f"{verdict} {products}", about])


START, END = "<!-- lab: written by lab.py -->", "<!-- end of lab -->"


def publish(measured: dict[str, Any], folder: Path) -> list[Path]:
    """Write lab.json and the generated part of README.md."""
    return publish_part("lab", measured, table, (START, END), folder)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description="Time a whole lab, by hand and with advlearn.")
    parser.add_argument("--short", action="store_true", help="the offline digits; writes nothing")
    parser.add_argument("--rounds", type=int, help="how often; 1, and 3 in the short form")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--output", type=Path, help="the folder to write to; benchmarks/ unless --short"
    )
    given = parser.parse_args(arguments)
    chosen = asdict(SHORT if given.short else Settings()) | {"threads": given.threads}
    if given.rounds is not None:
        chosen["rounds"] = max(1, given.rounds)
    measured = measure(Settings(**chosen))
    print()
    print(table(measured))
    folder = given.output or (None if given.short else Path(__file__).resolve().parent)
    if folder is not None:
        for path in publish(measured, folder):
            print(f"written: {path.name}")


if __name__ == "__main__":
    main()
