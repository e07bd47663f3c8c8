"""Images and labels of a tree SPLIT/CLASS/IMAGE, in a folder or an archive.

What the tree holds and what is loaded agree, or the difference is told.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np

from advlearn._quote import listed, printable, quote
from advlearn.data.archives import Entry, Files, RefusedError, composed
from advlearn.data.files import Bytes, Labelled
from advlearn.data.pictures import FORMATS, UnreadableError, look, pixels

TRAINING = ("train", "training")
"""The folders whose classes number the labels of every split."""

MOST_BYTES = 4_000_000_000
"""Of all images, as the float32 that they become."""


def read_folder(
    path: Path,
    split: str,
    *,
    size: tuple[int, int] | None = None,
    grey: bool = False,
    classes: tuple[str, ...] | None = None,
    limit_per_class: int | None = None,
) -> Labelled:
    """Return images (N, H, W, C), labels (N,), class names, and a remark on what was left out.

    Raises:
        FileNotFoundError: nothing of that name, no such split, or no such class.
        ValueError: an image is unreadable, has another size, the archive is damaged, all together
            are too large, or a class has no label because the training folder lacks it.
    """
    path, split = _spelled_as_on_disk(path), composed(split)
    if not path.is_file() and not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist. Pass a folder or a .tar, .tar.gz or .zip.")
    with Files(path, {split, *TRAINING}) as files:
        part = _Part(files, split)
        others = [name for name in TRAINING if split not in TRAINING and part.beside(name)]
        training = _Part(files, others[0]) if others else part
        chosen = part.choose(training, classes)
        chosen = {name: entries[:limit_per_class] for name, entries in chosen.items()}
        entries = [entry for of_class in chosen.values() for entry in of_class]
        images, shown = _read(files, entries, size=size, grey=grey)
        remark = part.remark(chosen, shown, files.remark)
    labels = np.repeat(np.arange(len(chosen)), [len(of_class) for of_class in chosen.values()])
    return Labelled(images, labels, tuple(chosen), remark)


def _spelled_as_on_disk(path: Path) -> Path:
    """Return the path in composed or decomposed letters, whichever is there."""
    import unicodedata

    other = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))
    return path if path.exists() else next((each for each in other if each.exists()), path)


class _Part:
    """The images of one split by their class, and what else lies there."""

    def __init__(self, files: Files, split: str) -> None:
        self._files, self.split = files, split
        self.by_class: dict[str, list[Entry]] = {}
        self.skipped: Counter[str] = Counter()
        self._without: set[str] = set()  # classes that hold no image
        inner: set[tuple[str, ...]] = set()
        self._top = self._find()
        level = len(self._top)
        for entry in files.entries:
            rest = entry.parts[level:]
            if entry.parts[:level] != self._top or len(rest) < 2 or rest[0] != split:
                continue
            why = self._why(entry, rest)
            if _hidden(entry.parts):
                self.skipped["hidden"] += 1
                continue
            if len(rest) > 2 or why == "empty folder":
                self._without.add(rest[1])
            if why and why != "folder inside a class":
                self.skipped[why] += 1
            elif why or len(rest) > 3:
                inner.add(rest[:3])
            else:
                self.by_class.setdefault(rest[1], []).append(entry)
        self._without -= self.by_class.keys()
        if inner:
            self.skipped["folder inside a class"] = len(inner)

    @staticmethod
    def _why(entry: Entry, rest: tuple[str, ...]) -> str:
        """Return why a file cannot be used, or nothing."""
        if entry.why:
            return entry.why
        if len(rest) == 2:
            return "outside a class"
        suffix = PurePosixPath(rest[-1]).suffix.lower()
        return (
            ""
            if suffix in FORMATS or len(rest) > 3
            else f"{printable(suffix, 10) or 'without a suffix'}"
        )

    def _find(self) -> tuple[str, ...]:
        """Return what lies above the split: nothing or, in an archive, one folder at most."""
        usual = [entry.parts for entry in self._files.entries if not entry.why]
        if not self._files.is_archive or any(len(p) > 2 and p[0] == self.split for p in usual):
            return ()
        tops = {p[:1] for p in usual if len(p) > 3 and p[1] == self.split and not _hidden(p)}
        if len(tops) > 1:
            raise RefusedError(
                f"{self._files.path} holds {quote(self.split)} in {len(tops)} folders: "
                f"{listed(sorted(name for (name,) in tops))}. Leave one of them in the archive."
            )
        return next(iter(tops), ())

    def beside(self, name: str) -> bool:
        """Tell whether another split lies beside this one."""
        level = len(self._top)
        return any(
            entry.parts[:level] == self._top
            and len(entry.parts) > level + 2
            and entry.parts[level] == name
            for entry in self._files.entries
        )

    def choose(self, training: _Part, classes: tuple[str, ...] | None) -> dict[str, list[Entry]]:
        """Return the images of each class, in the order of the labels."""
        path, split = self._files.path, quote(self.split)
        if not self.by_class:
            there = sorted(top for top in self._files.tops if not _hidden((top,)))
            also = f" There are: {listed(there)}." if there else ""
            why = f" It holds {self._skips()}." if self.skipped else ""
            suffixes = ", ".join([*FORMATS][1:])
            raise FileNotFoundError(
                f"{path} holds no images of the split {split}. Expected files such as "
                f"{printable(self.split)}/CLASS/0001.png (or {suffixes}).{why}{also}"
            )
        known = training.by_class or self.by_class
        if classes is None:
            classes = tuple(sorted(known))
            if more := sorted(self.by_class.keys() - known.keys()):
                raise RefusedError(
                    f"{path}: {split} holds the class {quote(more[0])}, which "
                    f"{quote(training.split)} does not, so that it has no label ({len(more)} in "
                    "all). Add it there, or pass "
                    "classes=[...] to say which to load, in the order of their labels."
                )
        for wanted in classes:
            if wanted not in known and wanted not in self.by_class:
                raise FileNotFoundError(
                    f"{path} holds no class {quote(wanted)} in {split}. There are: "
                    f"{listed(sorted(self.by_class))}."
                )
        chosen = {
            each: sorted(self.by_class.get(each, []), key=lambda entry: entry.parts)
            for each in classes
        }
        if not any(chosen.values()):
            raise FileNotFoundError(
                f"{path} holds no images of {listed(classes)} in {split}. There are: "
                f"{listed(sorted(self.by_class))}."
            )
        return chosen

    def _skips(self) -> str:
        return ", ".join(f"{count:,} {why}" for why, count in sorted(self.skipped.items())[:20])

    def remark(self, chosen: dict[str, list[Entry]], shown: Counter[str], names: str) -> str:
        """Return what a Dataset's note tells of differences between the files and the images."""
        lacking = [name for name, entries in chosen.items() if not entries]
        parts = [f"skipped {sum(self.skipped.values()):,}: {self._skips()}"] if self.skipped else []
        if none := sorted({*lacking, *self._without}):
            parts.append(f"no image of {listed(none)}")
        parts += [f"{count:,} {what}" for what, count in sorted(shown.items())]
        return "; ".join(parts + [names] * bool(names))


def _hidden(parts: tuple[str, ...]) -> bool:
    return any(name != ".." and name.startswith((".", "__MACOSX")) for name in parts)


def _read(
    files: Files, entries: list[Entry], *, size: tuple[int, int] | None, grey: bool
) -> tuple[Bytes, Counter[str]]:
    """Return the images in the order of `entries`, and what had to be done to show them."""
    position = {id(entry): index for index, entry in enumerate(entries)}
    images: Bytes = np.empty(0, np.uint8)
    first, read, shown = "", 0, Counter[str]()
    for entry, content in files.read(entries):
        try:
            opened = look(content, PurePosixPath(entry.parts[-1]).suffix.lower())
            if not first:
                height, width = size or opened.size[::-1]
                total = len(entries) * height * width * (4 if grey else 12)
                if total > MOST_BYTES:
                    raise RefusedError(
                        f"{files.path}: {len(entries):,} images of {height} x {width} pixels take "
                        f"{total / 1e9:.1f} GB; at most {MOST_BYTES / 1e9:g} are loaded. Pass "
                        "a smaller size=(height, width), or limit_per_class."
                    )
            image, remarks = pixels(opened, grey=grey, size=size)
        except UnreadableError as error:
            raise RefusedError(
                f"{files.path}: {entry.name} cannot be read ({error}). Save it again as an "
                "ordinary 8-bit PNG or JPEG, or remove it."
            ) from error
        if not first:
            images, first = np.empty((len(entries), *image.shape), np.uint8), entry.name
        if image.shape != images.shape[1:]:
            raise RefusedError(
                f"{files.path}: {first} has {images.shape[1]} x {images.shape[2]} pixels (height "
                f"x width), but {entry.name} has {image.shape[0]} x {image.shape[1]}. Pass "
                "size=(height, width) to crop and scale them all."
            )
        images[position[id(entry)]] = image
        shown.update(remarks)
        read += 1
    if read != len(entries):
        raise RefusedError(f"{files.path} was changed while it was read. Load it again.")
    return images, shown
