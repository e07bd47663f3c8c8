"""A night in the arena: a folder of submissions, hidden digits, rounds, a board for the wall.

Each round judges by digits that nobody has seen: they are drawn and redrawn from a secret of the
teacher. Each submission is judged in a process of its own, and its result is kept at once, so a
night that was interrupted goes on where it was. A submission is a model, or an attack: pictures
that are added to every digit. Neither is ever executed.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import multiprocessing
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from advlearn._atomic import write_atomically
from advlearn._bounded import parse_json, read_plain
from advlearn._quote import printable, quote
from advlearn.arena import board
from advlearn.arena.contest import (
    ATTACKS,
    Report,
    Rules,
    crafted_on_references,
    fit_name,
    score,
)
from advlearn.arena.entry import MOST_BYTES, RefusedError, admit
from advlearn.attacks import ball_tolerance
from advlearn.batches import Dataset
from advlearn.data import load_mnist, reference
from advlearn.losses import hard_margin
from advlearn.metrics import Rate

TENSOR = "perturbations"
"""The one tensor of an attack: (1, 1, 28, 28) for all digits, or (10, 1, 28, 28) by true class."""

LEAST_CLEAN = 0.5  # of a model against which attacks count: to fool a bad one is no feat
_KEPT = ".night"  # in the folder of results: secret, digits, and what was measured
_IGNORED = {".lock", ".part", ".md", ".txt"}


# --- Digits that nobody has seen ------------------------------------------------------------------


def secret_of(out: Path, given: Path | None = None) -> bytes:
    """Return the teacher's secret: of a file, or one that is made once and kept with the results.

    Raises:
        ValueError: the file is shorter than eight bytes: it could be guessed.
        OSError: it cannot be read or made.
    """
    path = given or out / _KEPT / "secret"
    if given is None and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, secrets.token_hex(16))
        path.chmod(0o600)
    secret = read_plain(path, 10_000, "A secret is a line of text.").strip()
    if len(secret) < 8:
        raise ValueError(f"{path} holds {len(secret)} bytes; a secret has eight or more.")
    return secret


def check_round(number: int, count: int, pool: Dataset) -> None:
    """Require that the pool has digits for this round that none before it has used.

    Raises:
        ValueError: it has not.
    """
    rounds = len(pool.y) // count
    if not 1 <= number <= rounds:
        raise ValueError(
            f"round {number} needs digits that no round before it has used. {len(pool.y):,} digits "
            f"are enough for {rounds} round{'s' * (rounds != 1)} of {count}. Take fewer digits, or "
            "the full MNIST (--data)."
        )


def hidden_digits(secret: bytes, number: int, count: int, pool: Dataset) -> Dataset:
    """Return the digits of one round: others in each round, and none as it is in the pool.

    The pool is mixed by the secret, and each round takes the next ones. Each digit is then turned
    by up to 10 degrees, made larger or smaller by up to 8 %, sheared and shifted by up to a pixel.
    So even who has the whole pool does not have these images.

    Args:
        secret: of the teacher.
        number: of the round, from 1.
        count: of digits.
        pool: where they come from.

    Raises:
        ValueError: the pool has not enough digits for so many rounds.
    """
    check_round(number, count, pool)
    order = torch.randperm(len(pool.y), generator=_seeded(secret, "order"))
    taken = order[(number - 1) * count : number * count]
    drawn = _seeded(secret, f"round {number}")

    def uniform(most: float) -> Tensor:
        return most * (2 * torch.rand(count, generator=drawn) - 1)

    angle, shear = uniform(math.radians(10)), uniform(0.1)
    size, right, down = 1 + uniform(0.08), uniform(1 / 14), uniform(1 / 14)  # 28 pixels are 2
    turn = torch.stack([angle.cos(), -angle.sin() + shear, angle.sin(), angle.cos()], 1)
    grid = torch.cat(
        [(turn / size[:, None]).view(-1, 2, 2), torch.stack([right, down], 1)[..., None]], 2
    )
    x = pool.x[taken]
    places = F.affine_grid(grid, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, places, align_corners=False).clamp(0, 1)
    return Dataset(moved, pool.y[taken])


def _seeded(secret: bytes, purpose: str) -> torch.Generator:
    digest = hashlib.sha256(purpose.encode() + b"\0" + secret).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def label(secret: bytes, number: int) -> str:
    """Name the digits of a round without giving them away: it stands beside each score."""
    digest = hashlib.sha256(b"label\0" + secret).hexdigest()[:8]
    return f"hidden {digest} round {number}"


# --- Submissions ----------------------------------------------------------------------------------


class Submission(NamedTuple):
    """A file that was handed in."""

    name: str  # on the board
    path: Path
    content: bytes
    sha256: str
    refused: str = ""  # why it is not taken


def submissions(folder: Path) -> list[Submission]:
    """Return what was handed in: files, or folders of one learner each.

    A file at the top is named by its own name; in a folder, by the folder's. Links are refused,
    since they may lead anywhere; so is the second of two with one name.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder. Name the one with the submissions.")
    found: list[Submission] = []
    names: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if any(part.startswith((".", "__")) for part in parts):
            continue
        if path.is_dir() and not path.is_symlink():
            continue
        if path.suffix.lower() in _IGNORED:
            continue
        shown = quote("/".join(parts), 100)
        several = sum(1 for one in path.parent.iterdir() if one.suffix == ".safetensors") > 1
        stem = path.stem if len(parts) == 1 else parts[0]
        if len(parts) > 1 and several:
            stem = f"{parts[0]} {path.stem}"
        try:
            name = fit_name(stem)
        except ValueError:
            found.append(
                Submission(f"file {len(found) + 1}", path, b"", "", f"{shown} has no name.")
            )
            continue
        refused, content = "", b""
        if path.is_symlink():
            refused = f"{shown} is a link. Hand in the file itself."
        elif name in names:
            refused = f"{shown} has the name of another file, {quote(names[name].name, 60)}."
        else:
            try:
                content = read_plain(path, MOST_BYTES, "Train a smaller model.")
            except (OSError, ValueError) as error:
                refused = printable(error, 400)
        names.setdefault(name, path)
        digest = hashlib.sha256(content).hexdigest() if content else ""
        if not refused and not content:
            refused = f"{shown} is empty."
        found.append(Submission(name, path, content, digest, refused))
    return found


def is_attack(content: bytes) -> bool:
    """Tell whether a file is an attack: whether it holds the tensor `TENSOR`."""
    try:
        return TENSOR in reference.read_header(content, most=100_000)
    except (ValueError, RecursionError):
        return False


def admit_attack(content: bytes, name: str, eps: float) -> Tensor:
    """Return the pictures of an attack, or refuse it.

    Args:
        content: of a safetensors file with one tensor, `TENSOR`.
        name: for messages.
        eps: no entry may be larger.

    Returns:
        (1 or 10, 1, 28, 28), float32.

    Raises:
        RefusedError: it is damaged, of another shape, not finite or larger than eps.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        header = reference.read_header(content, most=100_000)
        tensors = {key: value for key, value in header.items() if key != "__metadata__"}
        shape = tuple(tensors[TENSOR]["shape"])
        kinds = {str(value["dtype"]) for value in tensors.values()}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RefusedError(f"{name} is damaged: {printable(error)}.") from error
    if set(tensors) != {TENSOR} or shape not in {(1, 1, 28, 28), (10, 1, 28, 28)}:
        raise RefusedError(
            f"{name} must hold one tensor, {TENSOR!r}, of shape (1, 1, 28, 28) or (10, 1, 28, 28); "
            f"got {printable(sorted(tensors), 100)} with {printable(shape, 60)}."
        )
    if not kinds <= {"F16", "BF16", "F32", "F64"}:
        raise RefusedError(f"{name} holds numbers of the kind {printable(kinds.pop(), 20)}.")
    try:
        change = load(content)[TENSOR].float()
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise RefusedError(f"{name} is damaged: {printable(error)}.") from error
    if not bool(change.isfinite().all()):
        raise RefusedError(f"{name} holds NaN or infinity.")
    largest = float(change.abs().max())
    if largest > eps + ball_tolerance(change, eps):
        raise RefusedError(f"{name} changes a pixel by {largest:.4f}; at most {eps:g} is allowed.")
    return change.clamp(-eps, eps)


# --- One job, in a process of its own -------------------------------------------------------------


def _job(kind: str, arguments: Mapping[str, Any], seconds: float, pipe: Connection) -> None:
    """Do one job and send what came of it: ("done", value), or ("refused", reason)."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    torch.set_num_threads(1)
    if sys.platform != "win32":
        import resource

        # Processor time, so that a busy machine is nobody's fault.
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 5))
    try:
        works: dict[str, Callable[..., Any]] = {"score": _scored, "pairs": _pairs}
        ending: tuple[str, Any] = ("done", works[kind](**arguments))
    except RefusedError as error:
        ending = "refused", str(error)
    except Exception as error:  # whatever a submission brings about is its result, and is told
        ending = "failed", f"{type(error).__name__}: {printable(error, 300)}"
    with suppress(BrokenPipeError):  # who ended the night no longer listens
        pipe.send(ending)


def _scored(content: bytes, name: str, rules: Rules, digits: Path) -> dict[str, Any]:
    started = time.process_time()
    data, crafted = _read_digits(digits)
    report = score(content, name=name, rules=rules, sources=crafted, data=data)
    return {
        "architecture": report.architecture,
        "parameters": report.parameters,
        "sha256": report.sha256,
        "right_after": {attack: rate.count for attack, rate in report.right_after.items()},
        "seconds": time.process_time() - started,
    }


def _pairs(content: bytes, attacks: Mapping[str, Tensor], digits: Path) -> dict[str, Any]:
    """Count, of the digits that a model reads rightly, how many each attack makes it misread."""
    data, _ = _read_digits(digits)
    model = admit(content).model
    with torch.no_grad():
        right = hard_margin(model(data.x), data.y) < 0
        fooled = {}
        for digest, change in attacks.items():
            added = change[data.y] if len(change) == 10 else change
            moved = (data.x + added).clamp(0, 1)
            fooled[digest] = int((right & ~(hard_margin(model(moved), data.y) < 0)).sum())
    return {"right": int(right.sum()), "fooled": fooled}


def _write_digits(path: Path, data: Dataset, crafted: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save

    tensors = {"x": data.x, "y": data.y, **{f"crafted.{key}": one for key, one in crafted.items()}}
    write_atomically(path, save({key: one.contiguous() for key, one in tensors.items()}))
    path.chmod(0o600)


def _read_digits(path: Path) -> tuple[Dataset, dict[str, Tensor]]:
    from safetensors.torch import load_file

    tensors = load_file(path)
    crafted = {key.partition(".")[2]: one for key, one in tensors.items() if "." in key}
    return Dataset(tensors["x"], tensors["y"]), crafted


# --- A round --------------------------------------------------------------------------------------


@dataclass
class Line:
    """What the board says of one name."""

    name: str
    state: str = "waits"  # "scored", "refused", "failed" or "waits"
    score: Rate | None = None
    clean: Rate | None = None
    reason: str = ""
    place: int = 0
    moved: int = 0  # places won since the round before; 0 too where there was none
    copy_of: str = ""


@dataclass
class Standings:
    """A round as it stands.

    Attributes:
        number: of the round.
        rules: of the models' scores.
        models: the best first, then those that wait, then those that were not taken.
        attacks: likewise; the score is the share of digits that they make models misread.
        commitment: a hash of the secret, that can be checked when it is told.
    """

    number: int
    rules: Rules
    models: list[Line] = field(default_factory=list)
    attacks: list[Line] = field(default_factory=list)
    commitment: str = ""


class Night:
    """A round of an arena night: `run` judges what lies in a folder, and writes the board.

    Args:
        folder: of submissions.
        out: where results go.
        number: of the round, from 1.
        rules: the budget; its digits are named by the round.
        secret: the teacher's; see `secret_of`.
        pool: where the digits come from; None means the offline test digits.
        workers: submissions at a time.
        seconds: of processor time that one may take.
        tries: how many files of one name are judged in a round.
    """

    def __init__(
        self,
        folder: Path,
        out: Path,
        *,
        number: int = 1,
        rules: Rules | None = None,
        secret: bytes,
        pool: Dataset | None = None,
        workers: int = 1,
        seconds: float = 300.0,
        tries: int = 3,
    ) -> None:
        self.folder, self.out, self.number = folder, out, number
        self.rules = replace(rules or Rules(), digits=label(secret, number))
        self.workers, self.seconds, self.tries = workers, seconds, tries
        self.kept = out / _KEPT / f"round-{number}"
        self.commitment = hashlib.sha256(secret).hexdigest()
        if out.resolve() == folder.resolve() or folder.resolve() in out.resolve().parents:
            raise ValueError(f"{out} lies in the folder of the submissions. Name another one.")
        self._prepare(secret, pool)

    def _prepare(self, secret: bytes, pool: Dataset | None) -> None:
        self.kept.mkdir(parents=True, exist_ok=True)
        self.digits = self.kept / "digits.safetensors"
        begun = self.kept / "rules.json"
        wanted = json.dumps(asdict(self.rules), sort_keys=True)
        if begun.exists():
            if begun.read_text(encoding="utf-8") != wanted:
                raise ValueError(
                    f"round {self.number} was begun in {self.out} with other rules or another "
                    "secret. Scores would not compare: go on with those, or name another --out."
                )
            if self.digits.exists():
                return
        source = pool or load_mnist("test", source="offline")
        data = hidden_digits(secret, self.number, self.rules.examples, source)
        _write_digits(self.digits, data, crafted_on_references(data.x, data.y, self.rules.eps))
        write_atomically(begun, wanted)

    # --- what is known ---

    def _record(self, digest: str, kind: str = "") -> dict[str, Any] | None:
        path = self.kept / f"{digest[:32]}{kind}.json"
        if not path.exists():
            return None
        found: dict[str, Any] = parse_json(read_plain(path, 1_000_000))
        return found

    def _keep(self, digest: str, record: Mapping[str, Any], kind: str = "") -> None:
        write_atomically(self.kept / f"{digest[:32]}{kind}.json", json.dumps(record))

    def _tried(self, name: str) -> set[str]:
        path = self.kept / "tries.json"
        known = parse_json(read_plain(path, 5_000_000)) if path.exists() else {}
        return set(known.get(name, ()))

    def _count_try(self, name: str, digest: str) -> None:
        path = self.kept / "tries.json"
        known = parse_json(read_plain(path, 5_000_000)) if path.exists() else {}
        known.setdefault(name, [])
        if digest not in known[name]:
            known[name].append(digest)
            write_atomically(path, json.dumps(known))

    # --- work ---

    def run(self, step: Callable[[int, int], None] | None = None) -> Standings:
        """Judge what has not been judged, keep each result at once, and write the board.

        Args:
            step: called with how many submissions are judged, and of how many.
        """
        handed_in = submissions(self.folder)
        attacks = self._attacks(handed_in)
        models = [one for one in handed_in if not one.refused and not is_attack(one.content)]
        todo: dict[str, Submission] = {}
        for one in models:
            tried = self._tried(one.name)
            if self._record(one.sha256) is None and one.sha256 not in todo:
                if one.sha256 not in tried and len(tried) >= self.tries:
                    continue
                todo[one.sha256] = one
        total, done = len({one.sha256 for one in models}), 0
        done = total - len(todo)
        self.show(handed_in, attacks)
        jobs = [
            ("score", digest, {"content": one.content, "name": one.name, "rules": self.rules})
            for digest, one in todo.items()
        ]
        for digest, outcome, value in self._worked(jobs):
            one = todo[digest]
            record = {"state": "scored", **value} if outcome == "done" else {
                "state": outcome, "reason": value
            }  # fmt: skip
            self._count_try(one.name, digest)
            self._keep(digest, record)
            done += 1
            if step is not None:
                step(done, total)
            self.show(handed_in, attacks)
        self._match(models, attacks)
        return self.show(handed_in, attacks)

    def _attacks(self, handed_in: Sequence[Submission]) -> dict[str, Tensor]:
        """Return the attacks that are taken, by their hashes; keep why others are not."""
        found = {}
        for one in handed_in:
            if one.refused or not is_attack(one.content):
                continue
            try:
                found[one.sha256] = admit_attack(one.content, one.name, self.rules.eps)
            except RefusedError as error:
                self._keep(one.sha256, {"state": "refused", "reason": str(error)})
        return found

    def _match(self, models: Sequence[Submission], attacks: Mapping[str, Tensor]) -> None:
        """Try each attack on each model that was scored."""
        jobs = []
        for digest, one in {one.sha256: one for one in models}.items():
            record = self._record(digest)
            known = self._record(digest, ".pairs") or {"fooled": {}}
            left = {key: value for key, value in attacks.items() if key not in known["fooled"]}
            if record and record["state"] == "scored" and left:
                jobs.append(("pairs", digest, {"content": one.content, "attacks": left}))
        for digest, outcome, value in self._worked(jobs):
            if outcome == "done":
                known = self._record(digest, ".pairs") or {"fooled": {}}
                merged = {**known["fooled"], **value["fooled"]}
                self._keep(digest, {"right": value["right"], "fooled": merged}, ".pairs")

    def _worked(
        self, jobs: Sequence[tuple[str, str, dict[str, Any]]]
    ) -> Iterator[tuple[str, str, Any]]:
        """Do jobs, some at a time, and yield (hash, outcome, value) as they end."""
        # A server that has torch loaded and runs one thread: to fork it is safe, and quick.
        kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context: Any = multiprocessing.get_context(kind)
        if kind == "forkserver":
            context.set_forkserver_preload([__name__])
        waiting = list(reversed(jobs))
        running: dict[Any, tuple[str, Any, float]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    what, digest, arguments = waiting.pop()
                    ours, theirs = context.Pipe(duplex=False)
                    arguments = {**arguments, "digits": self.digits}
                    process = context.Process(
                        target=_job, args=(what, arguments, self.seconds, theirs), daemon=True
                    )
                    process.start()
                    theirs.close()
                    # On the clock ten times as long: for what waits without working.
                    running[ours] = (digest, process, time.monotonic() + 10 * self.seconds)
                first = min(limit for _, _, limit in running.values())
                ready = wait(list(running), max(0.0, first - time.monotonic()))
                late = [] if ready else [p for p, v in running.items() if v[2] <= time.monotonic()]
                for pipe in [*ready, *late]:
                    digest, process, _ = running.pop(pipe)
                    if pipe in late:
                        process.kill()
                    try:
                        outcome = pipe.recv() if pipe in ready else None
                    except EOFError:
                        outcome = None
                    process.join()
                    pipe.close()
                    yield digest, *(outcome or ("failed", self._ended(process.exitcode)))
        finally:
            for _, process, _ in running.values():
                process.kill()

    def _ended(self, code: int | None) -> str:
        import signal

        if code in {-getattr(signal, "SIGXCPU", 24), None}:
            return f"it took more than {self.seconds:g} seconds of processor time."
        if code == -signal.SIGKILL if hasattr(signal, "SIGKILL") else False:
            return "its process was ended: it took too much time or memory."
        return f"its process ended with {code}."

    # --- the board ---

    def show(self, handed_in: Sequence[Submission], attacks: Mapping[str, Tensor]) -> Standings:
        """Write the board as it stands, and return it."""
        found = self._standings(handed_in, attacks)
        write_atomically(self.out / "board.html", as_page(found))
        write_atomically(self.out / f"results-round-{self.number}.csv", as_csv(found))
        places = {line.name: line.place for line in found.models if line.state == "scored"}
        write_atomically(self.kept / "places.json", json.dumps(places))
        reports = [report for one in handed_in if (report := self._report(one)) is not None]
        if reports:
            board.write(self.out / f"leaderboard-round-{self.number}.csv", reports)
        return found

    def _report(self, one: Submission) -> Report | None:
        record = self._record(one.sha256) if one.sha256 else None
        if one.refused or not record or record["state"] != "scored":
            return None
        total = self.rules.examples
        return Report(
            one.name, record["architecture"], record["parameters"], record["sha256"], self.rules,
            {attack: Rate(record["right_after"][attack], total) for attack in ATTACKS}, (),
        )  # fmt: skip

    def _standings(
        self, handed_in: Sequence[Submission], attacks: Mapping[str, Tensor]
    ) -> Standings:
        found = Standings(self.number, self.rules, commitment=self.commitment)
        owner: dict[str, str] = {}
        for one in handed_in:
            line = Line(one.name)
            kind = found.attacks if is_attack(one.content) else found.models
            kind.append(line)
            if one.refused:
                line.state, line.reason = "refused", one.refused
                continue
            if one.sha256 in owner:
                line.copy_of = owner[one.sha256]
            owner.setdefault(one.sha256, one.name)
            record = self._record(one.sha256)
            if record is not None and record["state"] != "scored":
                line.state, line.reason = record["state"], printable(record["reason"], 500)
            elif one.sha256 in attacks:
                line.score = self._attack_score(one, handed_in)
                line.state = "scored" if line.score is not None else "waits"
            elif (report := self._report(one)) is not None:
                line.state = "scored"
                line.score, line.clean = report.score, report.right_after["clean"]
            elif len(self._tried(one.name)) >= self.tries:
                line.state = "refused"
                line.reason = f"{self.tries} files of this name were judged in this round already."
        before = self._places_before()
        for lines in (found.models, found.attacks):
            lines.sort(key=_in_order)
            for line in lines:
                if line.state == "scored":
                    better = [one for one in lines if _value(one) > _value(line)]
                    line.place = len(better) + 1
                    if lines is found.models and line.name in before:
                        line.moved = before[line.name] - line.place
        return found

    def _attack_score(self, attack: Submission, handed_in: Sequence[Submission]) -> Rate | None:
        """Return the share of rightly read digits that an attack makes others' models misread."""
        fooled = right = 0
        for one in {one.sha256: one for one in handed_in if one.sha256}.values():
            pairs = self._record(one.sha256, ".pairs")
            own = one.path.parent == attack.path.parent != self.folder or one.name == attack.name
            if own or not pairs or attack.sha256 not in pairs["fooled"]:
                continue
            if pairs["right"] >= LEAST_CLEAN * self.rules.examples:
                fooled, right = fooled + pairs["fooled"][attack.sha256], right + pairs["right"]
        return Rate(fooled, right) if right else None

    def _places_before(self) -> dict[str, int]:
        path = self.out / _KEPT / f"round-{self.number - 1}" / "places.json"
        if self.number == 1 or not path.exists():
            return {}
        found: dict[str, int] = parse_json(read_plain(path, 1_000_000))
        return found


def _value(line: Line) -> float:
    return float(line.score) if line.score is not None else -1.0


def _in_order(line: Line) -> tuple[int, float, str]:
    return (("scored", "waits").index(line.state) if line.state in {"scored", "waits"} else 2,
            -_value(line), line.name.casefold())  # fmt: skip


def pool_of(data_dir: Path | None) -> Dataset:
    """Return where the hidden digits come from.

    Without a folder: the 1,000 offline test digits. With one: the 10,000 test images of MNIST.

    Raises:
        FileNotFoundError: MNIST is not there.
    """
    if data_dir is None:
        return load_mnist("test", source="offline")
    return load_mnist("test", source="files", data_dir=data_dir)


# --- What is shown --------------------------------------------------------------------------------


def as_csv(found: Standings) -> str:
    """Return a line for each submission, with the reason where one was not taken."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["round", "kind", "place", "name", "state", "score", "of", "clean", "remark"])
    for kind, lines in (("model", found.models), ("attack", found.attacks)):
        for line in lines:
            remark = line.reason or (f"the same file as {line.copy_of}" if line.copy_of else "")
            writer.writerow(
                [found.number, kind, line.place or "", line.name, line.state]
                + ([line.score.count, line.score.total] if line.score else ["", ""])
                + [line.clean.count if line.clean else "", remark]
            )
    return text.getvalue()


_COLUMN = 15  # lines that the back row can read below each other
_STYLE = """
* { box-sizing: border-box; } html { font-size: 2.05vh; }
body { margin: 0; height: 100vh; overflow: hidden; padding: 1.6vh 2vw; background: #fff;
color: #000; font: 1rem/1.2 system-ui, sans-serif; display: flex; flex-direction: column; }
h1 { font-size: 2.2rem; margin: 0 0 .8vh; display: flex; justify-content: space-between; }
h1 small { font-size: 1.3rem; font-weight: 400; align-self: end; }
h2 { font-size: 1.3rem; margin: .4vh 0; }
.columns { display: flex; gap: 2.5vw; flex: 1; min-height: 0; }
ol { list-style: none; margin: 0; padding: 0; flex: 1; min-width: 0; }
li { display: grid; grid-template-columns: 2.6em 1fr 3.4em 4.2em; align-items: center; gap: .5em;
height: 4.75vh; font-size: 1.72rem; position: relative; border-bottom: 1px solid #bbb; }
li::before { content: ""; position: absolute; inset: .35vh auto .35vh 0; width: var(--w);
background: #b9dcf3; z-index: -1; }
.name { overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
.place, .score { font-weight: 700; text-align: right; font-variant-numeric: tabular-nums; }
.moved { font-size: 1.2rem; text-align: right; white-space: nowrap; }
.first { font-weight: 700; } .waits { color: #555; }
footer { font-size: 1.2rem; margin-top: .8vh; }
"""


def as_page(found: Standings, most: int = 2 * _COLUMN) -> str:
    """Return the board as a page for the wall: it reloads itself, and asks nobody for anything.

    Args:
        found: the round as it stands.
        most: lines that are shown; attacks get the last ones of these when there are any.
    """
    scored = [line for line in found.models if line.state == "scored"]
    waiting = sum(line.state == "waits" for line in found.models + found.attacks)
    refused = [
        line.name for line in found.models + found.attacks if line.state in {"refused", "failed"}
    ]
    for_attacks = min(len(found.attacks), 5) + 1 if found.attacks else 0
    shown = [line for line in found.models if line.state in {"scored", "waits"}]
    room = most - for_attacks
    columns = [shown[:_COLUMN], shown[_COLUMN:room]]
    lists = [f"<ol>{''.join(map(_row, column))}</ol>" for column in columns if column]
    if for_attacks:
        best = [line for line in found.attacks if line.state in {"scored", "waits"}]
        rows = "".join(map(_row, best[: for_attacks - 1]))
        block = f"<h2>Attacks: digits that they turn, on the models of others</h2><ol>{rows}</ol>"
        if len(lists) < 2:
            lists.append(f'<div style="flex:1">{block}</div>')
        else:
            lists[1] = f'<div style="flex:1">{lists[1]}{block}</div>'
    said = []
    if len(shown) > room:
        said.append(f"{len(shown) - room} more are in the table of results.")
    if waiting:
        said.append(f"{waiting} wait to be judged.")
    if refused:
        names = ", ".join(refused[:6]) + (" and others" if len(refused) > 6 else "")
        said.append(f"Not taken: {names}. The reason is in the table of results.")
    if scored and scored[0].score is not None:
        widest = max(
            (ends[1] - ends[0]) / 2 for line in scored if line.score
            for ends in [line.score.interval]
        )  # fmt: skip
        said.append(f"Scores are sure to ±{100 * widest:.0f} points: neighbours may be equals.")
    below = html.escape(" ".join(said))
    shown_lists = "".join(lists) or "<p>Nothing was handed in yet.</p>"
    about = f"{found.rules.examples} hidden digits, eps {found.rules.eps:g}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="refresh" content="5">'
        f"<title>Arena, round {found.number}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>Arena · round {found.number} <small>still right under attack · {html.escape(about)}"
        f'</small></h1>\n<main class="columns">{shown_lists}'
        f"</main>\n<footer>{below}</footer>\n</body></html>\n"
    )


def _row(line: Line) -> str:
    name = html.escape(line.name)
    if line.state != "scored" or line.score is None:
        return (
            f'<li class="waits" style="--w:0"><span class="place"></span><span class="name">{name}'
            '</span><span></span><span class="score">…</span></li>'
        )
    value = 100 * float(line.score)
    moved = f"▲{line.moved}" if line.moved > 0 else f"▼{-line.moved}" if line.moved < 0 else ""
    first = " first" if line.place == 1 else ""
    return (
        f'<li style="--w:{value:.1f}%"><span class="place">{line.place}</span>'
        f'<span class="name{first}">{name}</span><span class="moved">{moved}</span>'
        f'<span class="score">{value:.0f} %</span></li>'
    )


def counted(found: Standings) -> str:
    """Return in words what came of a round.

    Example:
        >>> counted(Standings(1, Rules(), [Line("a", "scored"), Line("b", "refused")]))
        'Round 1: 2 models (1 scored, 1 refused), 0 attacks.'
    """
    states = Counter(line.state for line in found.models)
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items(), reverse=True))
    extra = f" ({told})" if told else ""
    return f"Round {found.number}: {len(found.models)} models{extra}, {len(found.attacks)} attacks."


__all__ = [
    "Line",
    "Night",
    "Standings",
    "Submission",
    "admit_attack",
    "as_csv",
    "as_page",
    "check_round",
    "counted",
    "hidden_digits",
    "label",
    "pool_of",
    "secret_of",
    "submissions",
]
