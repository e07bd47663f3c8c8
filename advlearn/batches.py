"""Data as people have it, in batches: a `Dataset`, a pair of tensors, a DataLoader, a generator.

Metrics, the audit and training take their images and labels through `Batches`, so all of them
accept the same things, read a stream batch by batch, and name the batch in which something is
wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from numbers import Integral
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import data as torch_data

from advlearn._validation import check_count, check_images, check_labels

BATCH = 1000
"""The most images at a time, where nobody says otherwise."""

VALUES = 3_200_000
"""The most pixel values at a time, where nobody says otherwise.

That is 1,000 images of CIFAR's size, and 21 photographs (3, 224, 224). For the gradient at one of
those a ResNet-18 takes 25 to 37 MB, measured with `fgsm`: a thousand would end on most machines.
"""

SHOWN_AFTER = 1.0
"""Seconds after which a progress bar appears."""

_MIXING = (
    torch_data.RandomSampler,
    torch_data.SubsetRandomSampler,
    torch_data.WeightedRandomSampler,
)

_OF_PYTORCH = torch_data.__name__

_Result = TypeVar("_Result")

_Tensors: TypeAlias = tuple[Tensor, Tensor]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset(torch_data.Dataset[_Tensors]):
    """Images and labels that belong together, with a word on where they come from.

    It is a map-style dataset of PyTorch: `len(data)` is the number of examples, `data[i]` is one
    example (x_i, y_i), and a DataLoader, a Subset or `random_split` takes it. A slice, a mask, or
    several positions pick the examples of another `Dataset`, such as `data[:100]`.

    `x, y = data` gives all images and all labels, whatever their number. Python unpacks by
    iterating, so `for ... in data` gives x and then y too, and never the examples, not even where
    there are two: go through those by index, or in batches with a DataLoader.

    Args:
        x: images, shape (N, ...).
        y: labels, shape (N,).
        source: "offline", "files", "download", "folder" or "given".
        classes: the name of each label, when known.
        note: one line for people about what this is.

    Raises:
        TypeError, ValueError: x or y is not a tensor, or they differ in length.

    Example:
        >>> data = Dataset(torch.zeros(3, 1, 28, 28), torch.tensor([7, 3, 7]))
        >>> data
        Dataset(x=(3, 1, 28, 28) float32, y=(3,) int64, source='given')
        >>> x, y = data
        >>> len(data), data[:2].n, data[1][1]
        (3, 2, tensor(3))
        >>> [len(labels) for _, labels in torch.utils.data.DataLoader(data, batch_size=2)]
        [2, 1]
    """

    x: Tensor
    y: Tensor
    _: dataclasses.KW_ONLY
    source: str = "given"
    classes: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for name, value in (("x", self.x), ("y", self.y)):
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a tensor, got {type(value).__name__}.")
        if self.x.dim() == 0 or self.y.shape != self.x.shape[:1]:
            raise ValueError(
                "y must have one label for each image, got x of shape "
                f"{tuple(self.x.shape)} and y of shape {tuple(self.y.shape)}. Pass y of shape (N,)."
            )
        object.__setattr__(self, "classes", tuple(self.classes))

    @property
    def n(self) -> int:
        """The number of examples."""
        return len(self.y)

    def __len__(self) -> int:
        return len(self.y)

    def __iter__(self) -> Iterator[Tensor]:
        """Give x and then y, for `x, y = data`."""
        return iter((self.x, self.y))

    def __getitem__(self, index: Any) -> Any:
        """Return (x_i, y_i) for one position, a `Dataset` for a slice, a mask or positions.

        Raises:
            TypeError, ValueError: the index is none of these.
            IndexError: there is no such example.
        """
        if isinstance(index, slice):
            return self.take(index)
        if isinstance(index, Integral) and not isinstance(index, bool):
            return self.x[int(index)], self.y[int(index)]
        if not isinstance(index, (Tensor, np.ndarray, list)):
            raise TypeError(
                "a Dataset is indexed by a whole number, a slice, a mask or positions, got "
                f"{type(index).__name__} {index!r:.60}. The images are data.x, the labels data.y."
            )
        places = torch.as_tensor(index, device=self.y.device)
        if places.dtype == torch.bool:
            if places.shape != self.y.shape:
                raise ValueError(
                    f"a mask must have shape ({self.n},), one for each example, got "
                    f"{tuple(places.shape)}."
                )
            return self.take(places)
        if places.numel() and (places.is_floating_point() or places.is_complex()):
            raise TypeError(f"positions must be whole numbers, got {places.dtype}. Use .long().")
        if places.dim() > 1:
            raise ValueError(f"positions must have shape (K,), got {tuple(places.shape)}.")
        return self[int(places)] if places.dim() == 0 else self.take(places.long())

    def _replace(self, **changes: Any) -> Dataset:
        """Return a copy with some of x, y, source, classes, note changed."""
        return dataclasses.replace(self, **changes)

    def take(self, index: slice | Tensor) -> Dataset:
        """Return the examples that a slice, a mask or a tensor of positions picks."""
        return self._replace(x=self.x[index], y=self.y[index])

    def to(self, device: torch.device | str) -> Dataset:
        """Return the same data on another device."""
        return self._replace(x=self.x.to(device), y=self.y.to(device))

    def __repr__(self) -> str:
        parts = (
            f"{name}={tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
            for name, value in (("x", self.x), ("y", self.y))
        )
        return f"Dataset({', '.join(parts)}, source={self.source!r})"


Pair: TypeAlias = _Tensors | Dataset
"""Images (N, ...) and labels (N,): what `x, y = data` takes apart."""

Data: TypeAlias = Pair | torch_data.Dataset[Any] | Iterable[Any]
"""A `Dataset`, a pair of images and labels, or an iterable of such batches: see `Batches`."""


def device_of(model: object) -> torch.device | None:
    """Return where a module's first parameter is; None for a function or a module without."""
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    return next((parameter.device for parameter in parameters), None)


def batch_of(x: Tensor) -> int:
    """Return how many images like these are taken at a time, where nobody says otherwise.

    Args:
        x: (N, ...).

    Example:
        >>> batch_of(torch.zeros(1, 28, 28)), batch_of(torch.zeros(1, 3, 224, 224))
        (1000, 21)
    """
    return max(1, min(BATCH, VALUES // max(1, x.shape[1:].numel())))


class Batches:
    """Images and labels, one batch after the other, from whatever holds them.

    A `Dataset` or a pair of tensors is checked as a whole and cut into batches. Any other dataset
    of PyTorch is read through a DataLoader, in its order. Everything else that can be iterated is
    a stream of batches: a DataLoader, a list, a generator, or what gives its batches by index up to
    its length, as a Sequence of Keras. Each batch is a pair (x, y), or Hugging Face's mapping with
    "pixel_values" and "labels". Batches of a stream are read, checked and dropped one by one, and a
    larger one is cut: only a few batches are in memory.

    Args:
        data: what holds the images and labels.
        batch_size: images at a time, >= 1. None takes as many as `batch_of` says; the batches of a
            stream are somebody's choice, and are cut only to `BATCH`.
        passes: how often the data will be read. A generator can be read once.
        bounds: (low, high) that the pixels must keep to; None for any finite values.
        device: where batches are moved to; None leaves them where they are.
        progress: show a bar over the batches. None shows it for a stream that takes over a second.
        shuffle: whether a dataset that is read through a DataLoader is mixed.
        name: how errors call the data.
        prefix: stands before x and y in errors about tensors.

    Raises:
        TypeError, ValueError: it is none of these, or can be read once where it must be more
            often. While a stream is read: what is wrong, with the number of the batch.

    Example:
        >>> x, y = torch.rand(5, 4), torch.arange(5)
        >>> loader = torch.utils.data.DataLoader(Dataset(x, y), batch_size=3)
        >>> [len(labels) for _, labels in Batches(loader)], [len(b) for b, _ in Batches((x, y), 4)]
        ([3, 2], [3, 2])
    """

    def __init__(
        self,
        data: Data,
        batch_size: int | None = None,
        *,
        passes: int = 1,
        bounds: tuple[float, float] | None = None,
        device: torch.device | None = None,
        progress: bool | None = None,
        shuffle: bool = False,
        name: str = "data",
        prefix: str = "",
    ) -> None:
        self.size = None if batch_size is None else check_count(batch_size, "batch_size")
        self.cut_by_us = True  # not into batches that somebody has made
        self.bounds, self.device, self.progress = bounds, device, progress
        self.name = name
        given = _pair(data)
        self.pair = None if given is None else self._checked(*given, prefix)
        if self.pair is not None:
            return
        # Of examples, which are yet to be put together.
        if examples := isinstance(data, torch_data.Dataset):
            sized = not isinstance(data, torch_data.IterableDataset)
            if sized and self.steps_of(data) is None:
                raise TypeError(
                    f"{name} is a dataset of PyTorch, {type(data).__name__}, without __len__. "
                    "Give it one, or make it an IterableDataset."
                )
            mixed = shuffle and sized
            # A loader draws a number whenever it is read: here from a source of its own.
            own = None if mixed else torch.Generator()
            data = torch_data.DataLoader(
                data,
                batch_size=self.size or BATCH,
                shuffle=mixed,
                generator=own,
                collate_fn=self._collated,
            )
        loose = isinstance(data, (tuple, list)) and any(
            isinstance(part, Tensor) for part in data[:1]
        )
        iterable = isinstance(data, Iterable) or hasattr(data, "__getitem__")
        if loose or not iterable or isinstance(data, (Tensor, np.ndarray, str, bytes, Mapping)):
            held = f" of {len(cast(Any, data))}" if loose else ""
            raise TypeError(
                f"{name} must be a Dataset or a pair (x, y) of tensors, or an iterable of such "
                f"batches, such as a DataLoader, got {type(data).__name__}{held}."
            )
        if passes > 1 and isinstance(data, Iterator):
            raise ValueError(
                f"{name} is a {type(data).__name__}, which can be read once, but {passes} passes "
                "are needed. Pass a DataLoader, a Dataset or a list of batches."
            )
        if self.steps_of(data) == 0:
            raise ValueError(f"{name} holds no batches ({type(data).__name__} of length 0).")
        self.cut_by_us = examples
        listed = hasattr(data, "__iter__") or self.steps_of(data) is None
        self.stream = cast("Iterable[Any]", data if listed else _Indexed(data))
        self.begun: Iterator[Any] | None = None  # a pass whose first batch was looked at

    @staticmethod
    def steps_of(data: object) -> int | None:
        """Return how many batches an iterable says it has; None where it does not say."""
        try:
            return len(cast(Any, data))
        except (TypeError, NotImplementedError):
            return None

    @property
    def steps(self) -> int | None:
        """The number of batches of one pass, None where a stream does not say."""
        if self.pair is None:
            return self.steps_of(self.stream)
        return -(-len(self.pair[1]) // self.fits(self.pair[0]))

    def fits(self, x: Tensor) -> int:
        """Return how many images like these are taken at a time."""
        if self.size is not None:
            return self.size
        return batch_of(x) if self.cut_by_us else BATCH

    def require_order(self, what: str) -> None:
        """Refuse a DataLoader that shuffles, where results must fit the labels afterwards.

        Raises:
            ValueError: the loader gives its examples in another order each time.
        """
        sampler = getattr(None if self.pair else self.stream, "batch_sampler", None)
        sampler = getattr(sampler, "sampler", sampler)
        if isinstance(sampler, _MIXING) or getattr(sampler, "shuffle", False) is True:
            raise ValueError(
                f"{self.name} is a DataLoader that shuffles: nothing says afterwards to which "
                f"labels {what} belong. Pass shuffle=False, or a measure such as error_rate or "
                "adversarial_error_rate, which looks at each batch with its labels."
            )

    def last_batch(self) -> tuple[int, int] | None:
        """Return how many examples there are, and in what size a pass takes them, where known.

        None for a stream, except for a DataLoader that takes the rest as a last, smaller batch.
        """
        if self.pair is not None:
            return len(self.pair[1]), self.fits(self.pair[0])
        loader = self.stream
        if not isinstance(loader, torch_data.DataLoader) or loader.drop_last:
            return None
        held = self.steps_of(loader.sampler)
        return None if held is None or loader.batch_size is None else (held, loader.batch_size)

    def first(self) -> _Tensors:
        """Return the first batch of a stream, which the next pass gives nevertheless."""
        if self.pair is not None:
            return self.pair
        parts = (self.stream, *_samplers(self.stream))
        sources = [getattr(part, "generator", None) for part in parts]
        states = [(s, s.get_state()) for s in sources if isinstance(s, torch.Generator)]
        batch = next(batches := iter(self.stream), self)
        if self._begins_anew():
            for source, state in states:
                source.set_state(state)
        else:
            self.begun = _Begun([] if batch is self else [batch], batches)
        if batch is self:
            raise self._nothing()
        with self._naming(1):
            x, y = self._read(batch)
        return x.to(self.device), y.to(self.device)

    def anew(self) -> None:
        """Let the next pass begin anew, and not go on from the batch that `first` returned.

        A stream that mixes has chosen the order of that pass with the random numbers of its moment.
        """
        self.begun = None

    def _begins_anew(self) -> bool:
        """Say whether another pass is sure to give the first batch of this one again.

        Of most streams nobody can say: their `__iter__` may read a file, a socket or a generator,
        and may wind back what the last one gave, so it is not called to find out.
        """
        loader = self.stream
        return (
            isinstance(loader, torch_data.DataLoader)
            and not isinstance(loader.dataset, torch_data.IterableDataset)
            and all(type(part).__module__.startswith(_OF_PYTORCH) for part in _samplers(loader))
        )

    def _collated(self, examples: list[Any]) -> Any:
        """Put examples together as a DataLoader does, with a remedy where that fails."""
        try:
            return torch_data.default_collate(examples)
        except (TypeError, RuntimeError) as error:
            raise TypeError(
                f"the examples of {self.name} cannot be put into one batch ({error}). Let the "
                "dataset give tensors of one size, as transforms.Resize and transforms.ToTensor do."
            ) from error

    def _checked(self, x: Any, y: Any, prefix: str = "") -> _Tensors:
        check_images(x, self.bounds, f"{prefix}x")
        check_labels(y, len(x), f"{prefix}y")
        return x, y

    def each(
        self, work: Callable[[Tensor, Tensor], _Result], *, whole: bool = False, title: str = ""
    ) -> Iterator[_Result]:
        """Give `work(x, y)` for each batch. An error in it names the batch of a stream.

        Args:
            work: a function of the images and labels of a batch.
            whole: do not cut: a pair of tensors is one batch then.
            title: stands before the progress bar; the data's name when empty.

        Raises:
            TypeError, ValueError: a batch is not a pair of images and labels, or there are none.
        """
        batches: Iterable[Any]
        if self.pair is None:
            batches, self.begun = self.begun or self.stream, None
        else:
            batches = [self.pair] if whole else [*_cut(self.pair, self.fits(self.pair[0]))]
        number = 0
        with self._bar(batches, title or self.name) as bar:
            for number, batch in enumerate(bar, 1):
                with self._naming(number):
                    pair = batch if self.pair is not None else self._read(batch)
                for piece in _cut(pair, len(pair[1]) if whole else self.fits(pair[0])):
                    with self._naming(number):
                        result = work(*(part.to(self.device) for part in piece))
                    yield result
        if not number:
            raise self._nothing()

    def __iter__(self) -> Iterator[_Tensors]:
        return self.each(lambda x, y: (x, y))

    def _nothing(self) -> ValueError:
        return ValueError(
            f"{self.name} gave no batches. An iterator that was read already gives no more: "
            "pass a DataLoader, a Dataset or a list of batches."
        )

    def _bar(self, batches: Iterable[Any], title: str) -> AbstractContextManager[Iterable[Any]]:
        if not ((self.pair is None) if self.progress is None else self.progress):
            return nullcontext(batches)
        from tqdm.auto import tqdm

        # A pass that was begun has no length of its own.
        total = self.steps if self.pair is None else None
        return cast(
            "AbstractContextManager[Iterable[Any]]",
            tqdm(batches, title, total, unit=" batch", leave=False, delay=SHOWN_AFTER),
        )

    def _read(self, batch: Any) -> _Tensors:
        """Return a batch of a stream as the pair that it must be."""
        pair = _pair(batch)
        if pair is None:
            kinds = ""
            if isinstance(batch, (tuple, list)):
                kinds = f" of {', '.join(type(part).__name__ for part in batch)}"
            elif isinstance(batch, Mapping):
                kinds = f" with the keys {', '.join(map(str, batch))}"
            raise TypeError(
                f"must be a pair (x, y) of images and labels, got {type(batch).__name__}"
                f"{kinds:.200}. Let the loader's collate_fn, or a generator, give such pairs."
            )
        x, y = pair
        if isinstance(y, Integral) or (isinstance(y, Tensor) and y.dim() == 0):
            raise TypeError(
                "is a single example, not a batch. Pass DataLoader(dataset, batch_size=64)."
            )
        return self._checked(x, y)

    @contextmanager
    def _naming(self, number: int) -> Iterator[None]:
        """Put the number of the batch before the words of an error, where there is a stream."""
        try:
            yield
        except (TypeError, ValueError, RuntimeError) as error:
            if self.pair is None and error.args and isinstance(error.args[0], str):
                words = f"batch {number} of {self.name}: {error.args[0]}"
                error.args = (words, *error.args[1:])
            raise


class _Indexed:
    """Batches by index, as many as they say they are: alone, they may go on without an end."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.batches), len(self))


class _Begun:
    """A pass whose first batch was read. No one's `__iter__` is called: it may begin anew."""

    def __init__(self, read: list[Any], batches: Iterator[Any]) -> None:
        self.read, self.batches = read, batches

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        # Not kept until the end of the pass.
        return self.read.pop() if self.read else next(self.batches)


def _samplers(loader: object) -> list[Any]:
    """Return what decides the order of a DataLoader; nothing of any other stream."""
    if not isinstance(loader, torch_data.DataLoader):
        return []
    inner = getattr(loader.batch_sampler, "sampler", None)
    parts = (loader.sampler, loader.batch_sampler, inner)
    return [part for part in parts if part is not None]


def joined(rows: Iterable[Sequence[Tensor]]) -> list[Tensor]:
    """Return each column of `rows` as one tensor: a row is what one batch gave, (n, ...) each.

    Rows are copied into buffers that double when they are full. Kept one by one, such small
    tensors would lie between the large ones of the batches, and the memory of no batch could be
    used again as a whole: a stream would need as much as all of its images.

    Example:
        >>> joined([torch.arange(k), torch.zeros(k)] for k in (1, 2))
        [tensor([0, 0, 1]), tensor([0., 0., 0.])]
    """
    buffers: list[Tensor] = []
    count = 0
    for row in rows:
        size = len(row[0])
        if not buffers:
            buffers = list(row)
        elif count + size > len(buffers[0]):
            buffers = [
                torch.cat((buffer[:count], part, torch.empty_like(buffer[:count])))
                for buffer, part in zip(buffers, row, strict=True)
            ]
        else:
            for buffer, part in zip(buffers, row, strict=True):
                buffer[count : count + size] = part
        count += size
    return [buffer[:count].clone() if count < len(buffer) else buffer for buffer in buffers]


def _pair(value: Any) -> tuple[Any, Any] | None:
    """Return the images and labels of what holds just these, None for anything else."""
    if isinstance(value, Dataset):
        return value.x, value.y
    if isinstance(value, Mapping) and {"pixel_values", "labels"} <= value.keys():
        return value["pixel_values"], value["labels"]
    # Two batches are no pair: each of them is one.
    batch = (tuple, list, Mapping, Dataset)
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return None if any(isinstance(part, batch) for part in value) else (value[0], value[1])
    return None


def _cut(pair: _Tensors, size: int) -> Iterator[_Tensors]:
    """Cut a batch into pieces of one size, but for the last one, and leave no rest of one.

    Some models fail on one alone, as with `squeeze()`: it would end the work after nearly all of
    it.
    """
    x, y = pair
    sizes = [min(size, len(y) - start) for start in range(0, len(y), size)]
    if len(sizes) > 1 and sizes[-1] == 1 and size > 2:
        sizes[-2:] = size - 1, 2
    return zip(x.split(sizes), y.split(sizes), strict=True)


def taken(x: Tensor, rows: Tensor) -> Tensor:
    """Return x[rows], in a tenth of the time where x lies row by row in memory.

    Args:
        x: (N, ...).
        rows: (M,) int64.

    Example:
        >>> taken(torch.eye(3), torch.tensor([2, 0]))
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
    """
    # Indexing goes number by number, this row by row; but it would lay out channels-last anew.
    return x.index_select(0, rows) if x.is_contiguous() else x[rows]
