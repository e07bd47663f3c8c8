"""The files below a folder or inside an archive, listed whole and read one by one.

An archive is read in memory and never unpacked to the disk. What it claims is believed only within
bounds: sizes are looked at before anything of that size is read, and a stream is read to its end
before anything of it is used, so that its own check counts.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from advlearn._quote import printable

MOST_FILE = 50_000_000
"""Bytes of one file. No lesson needs a larger image."""

_MOST_PIECE = 64_000_000  # that a header may ask for at once: names, the list of a zip file
_RATIO, _SPARE = 20, 100_000_000  # an archive may unpack to _SPARE bytes and _RATIO times its own
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # the others unpack without a bound
_ZEROS = bytes(512)


class RefusedError(ValueError):
    """A file that is damaged, too large or of another kind; the message says which, and why."""


class Entry(NamedTuple):
    """A file of a tree: its path in composed letters, and what the reader finds it by."""

    parts: tuple[str, ...]
    key: Any
    why: str = ""  # it cannot be used

    @property
    def name(self) -> str:
        """The path, as a message may show it."""
        return printable("/".join(self.parts))


def composed(text: str) -> str:
    """Return a name as a keyboard writes it: macOS keeps Hangul, é and ü in pieces.

    Example:
        >>> len("\u1112\u1161\u11ab"), len(composed("\u1112\u1161\u11ab"))
        (3, 1)
    """
    return unicodedata.normalize("NFC", text)


class Files:
    """The files of a folder or an archive, as a context.

    Args:
        path: a folder, or a .tar, .tar.gz or .zip file.
        tops: of a folder, only what lies below these names is listed.

    Raises:
        RefusedError: the archive is damaged, or claims more than it may hold.
    """

    def __init__(self, path: Path, tops: Collection[str]) -> None:
        self.path = path
        self.is_archive = path.is_file()
        self.remark = ""  # on how names were read
        self.entries: list[Entry] = []
        self.tops: set[str] = set()
        self._bytes = path.stat().st_size if self.is_archive else 0
        self._open = contextlib.ExitStack()
        self._archive: tarfile.TarFile | zipfile.ZipFile | None = None
        try:
            with self._refusing():
                self._list(tops)
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """Give each file and its content, in the order in which it is quickly read.

        Raises:
            RefusedError: a file is damaged or too large.
        """
        wanted = list(entries)
        if isinstance(self._archive, zipfile.ZipFile):
            self._look(wanted)
        elif isinstance(self._archive, tarfile.TarFile):  # which can only be unpacked forwards
            wanted.sort(key=lambda entry: entry.key.offset)
        for entry in wanted:
            with self._refusing():
                content = self._content(entry)
            yield entry, content

    def _content(self, entry: Entry) -> bytes:
        source: IO[bytes] | None
        if isinstance(self._archive, zipfile.ZipFile):
            source = self._archive.open(entry.key)
        elif isinstance(self._archive, tarfile.TarFile):
            source = self._archive.extractfile(entry.key)
        else:
            source = Path(entry.key).open("rb")  # noqa: SIM115 (closed below)
        assert source is not None  # links and folders are not wanted
        with source:
            if isinstance(entry.key, str) and os.fstat(source.fileno()).st_size > MOST_FILE:
                raise self._too_large(entry)
            content = source.read(MOST_FILE + 1)
        if len(content) > MOST_FILE:
            raise self._too_large(entry)
        if isinstance(entry.key, tarfile.TarInfo) and len(content) != entry.key.size:
            raise EOFError(f"{entry.name} is cut")
        return content

    def _too_large(self, entry: Entry) -> RefusedError:
        return RefusedError(
            f"{self.path}: {entry.name} has more than {MOST_FILE:,} bytes. Remove it."
        )

    def _look(self, wanted: list[Entry]) -> None:
        """Refuse files of a zip file by what the list in it says, before one is unpacked."""
        for entry in wanted:
            if entry.key.flag_bits & 1:
                raise RefusedError(
                    f"{self.path}: {entry.name} needs a password. Unpack the archive, and pass the "
                    "folder."
                )
            if entry.key.compress_type not in _METHODS:
                raise RefusedError(
                    f"{self.path}: {entry.name} is packed by the method {entry.key.compress_type}. "
                    "Pack it again with Deflate, or pass a folder."
                )
            if entry.key.file_size > MOST_FILE:
                raise self._too_large(entry)
        self._allow(sum(entry.key.file_size for entry in wanted))

    def _allow(self, size: int) -> None:
        """Refuse an archive that would unpack to so many bytes, unless it is large itself."""
        if size > _SPARE + _RATIO * self._bytes:
            raise RefusedError(
                f"{self.path} has {self._bytes:,} bytes and would unpack to {size:,} or more. If "
                "it is not a trap, unpack it and pass the folder."
            )

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn what the readers of archives raise, which is nearly anything, into words."""
        try:
            yield
        except RefusedError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
                raise  # the disk's own
            raise RefusedError(
                f"{self.path} is damaged or no archive of a known kind ({printable(error)}). Pass "
                "a folder, or a .tar, .tar.gz or .zip file."
            ) from error

    # --- Lists ------------------------------------------------------------------------------------

    def _list(self, tops: Collection[str]) -> None:
        if not self.is_archive:
            found = self._in_folder(tops)
        else:
            file = self._open.enter_context(self.path.open("rb"))
            start = file.read(512)
            file.seek(0)
            packed = start.startswith(b"\x1f\x8b")
            # A tar file that ends with a zip file looks like one to zipfile.
            is_tar = packed or start[257:262] == b"ustar"
            if start.startswith(b"PK") or (not is_tar and zipfile.is_zipfile(file)):
                found = self._in_zip(_Bounded(file))
            elif packed:
                unpacked = self._open.enter_context(gzip.GzipFile(fileobj=file))
                bounded = _Bounded(unpacked, self._allow)
                # To its end, where its checksum stands, before any of it is believed.
                while bounded.read(1 << 20):
                    pass
                bounded.seek(0)
                found = self._in_tar(bounded)
            else:
                found = self._in_tar(_Bounded(file))
        last: dict[object, int] = {}
        for raw, key, why in found:
            names = raw.split("/")
            parts = tuple(composed(name) for name in names if name not in {"", "."})
            if not parts:
                continue
            # As unpacking would leave it: a later file takes the place of an earlier one.
            if raw in last:
                earlier = self.entries[last[raw]]
                self.entries[last[raw]] = earlier._replace(why="replaced by a later one")
            last[raw] = len(self.entries)
            leads_out = ".." in parts or "\0" in raw or parts[0][1:2] == ":"
            out = "with a name that leads out of the archive"
            self.entries.append(Entry(parts, key, out if self.is_archive and leads_out else why))
        self.tops |= {entry.parts[0] for entry in self.entries if len(entry.parts) > 1}

    def _in_folder(self, tops: Collection[str]) -> list[tuple[str, Any, str]]:
        found: list[tuple[str, Any, str]] = []

        def walk(folder: Path, above: tuple[str, ...]) -> None:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            if not entries and above:
                found.append(("/".join(above), None, "empty folder"))
            for entry in entries:
                parts = (*above, entry.name)
                if entry.is_dir():
                    if not above:
                        self.tops.add(composed(entry.name))
                        if composed(entry.name) not in tops:
                            continue
                    hidden = entry.name.startswith(".")
                    if len(parts) < 3 and not hidden:
                        walk(Path(entry.path), parts)
                    else:
                        found.append(("/".join((*parts, "")), None, "folder inside a class"))
                elif above:
                    why = "" if entry.is_file() else "no regular file"
                    found.append(("/".join(parts), entry.path, why))

        walk(self.path, ())
        names = self._spelled([_raw(name) for name, _, _ in found])
        return [(name, key, why) for name, (_, key, why) in zip(names, found, strict=True)]

    def _in_zip(self, file: _Bounded) -> list[tuple[str, Any, str]]:
        archive = self._archive = self._open.enter_context(zipfile.ZipFile(file))
        infos = archive.infolist()
        file.seek(-22, os.SEEK_END)
        end = file.read(22)
        if end.startswith(b"PK\5\6"):  # no comment: the number of files is where it should be
            (count,) = struct.unpack_from("<H", end, 10)
            if count not in {len(infos) & 0xFFFF, 0xFFFF}:
                raise zipfile.BadZipFile(f"{count} files, of which the list names {len(infos)}")
        # Without the mark for UTF-8 zipfile reads names as those of a DOS machine.
        unmarked = [info for info in infos if not info.flag_bits & 0x800]
        names = self._spelled([_zip_name(info) for info in unmarked], "cp437")
        own = {id(info): name for info, name in zip(unmarked, names, strict=True)}
        found = []
        for info in infos:
            _compare_names(file, info)
            # Compress-Archive of Windows parts folders by backslashes.
            name = own.get(id(info), info.orig_filename).replace("\\", "/")
            mode = info.external_attr >> 16
            if not name.endswith("/"):
                found.append((name, info, "link" if stat.S_ISLNK(mode) else ""))
        return found

    def _in_tar(self, file: _Bounded) -> list[tuple[str, Any, str]]:
        tar = self._archive = self._open.enter_context(tarfile.TarFile(fileobj=file))
        members: list[tarfile.TarInfo] = []
        while (member := tar.next()) is not None:
            end = member.offset_data + member.size
            file.allow(end)
            if member.size < 0 or member.offset_data < (members[-1].offset_data if members else 0):
                raise tarfile.ReadError("a file of negative size")
            members.append(member)
            tar.members = []  # type: ignore[attr-defined]  # one list is enough
            if len(members) > 1000 + self._bytes // 32:
                raise RefusedError(
                    f"{self.path} has {self._bytes:,} bytes and lists more than "
                    f"{len(members) - 1:,} files. If it is not a trap, unpack it and pass the "
                    "folder."
                )
        # tarfile takes a damaged header for the end. The true end is zeros, up to the end of the
        # file.
        file.seek(tar.offset)
        block = file.read(512)
        if len(block) < 512 or block != _ZEROS:
            raise tarfile.ReadError(f"the list of files breaks off at byte {tar.offset:,}")
        if not file.rest_is_zero():
            raise tarfile.ReadError(f"something follows its end at byte {tar.offset:,}")
        names = self._spelled([_raw(member.name) for member in members])
        kinds = [
            (member.isdir(), "" if member.isreg() and not member.issparse() else "link or device")
            for member in members
        ]
        return [
            (name, member, why)
            for name, member, (is_folder, why) in zip(names, members, kinds, strict=True)
            if not is_folder
        ]

    def _spelled(self, raw: list[bytes], otherwise: str = "utf-8") -> list[str]:
        """Return names of unknown encoding: UTF-8, or Korean, or `otherwise`; tell which."""
        with contextlib.suppress(UnicodeDecodeError):
            names = [name.decode() for name in raw]
            if otherwise != "utf-8" and not all(name.isascii() for name in names):
                self.remark = "names read as UTF-8, for they do not say their encoding"
            return names
        with contextlib.suppress(UnicodeDecodeError):
            names = [name.decode("cp949") for name in raw]
            letters = [letter for letter in "".join(names) if not letter.isascii()]
            # Of other encodings some texts can be read so too, but hardly as common syllables.
            usual = sum(_is_usual(letter) for letter in letters)
            if all("가" <= letter <= "힣" for letter in letters) and 2 * usual >= len(letters):
                self.remark = "names read as Korean (cp949), for they do not say their encoding"
                return names
        self.remark = "names may be misread, for they do not say their encoding"
        return [name.decode(otherwise, "backslashreplace") for name in raw]


def _is_usual(syllable: str) -> bool:
    """Tell whether a syllable is one of the 2,350 of the Korean standard KS X 1001."""
    return len(syllable.encode("euc_kr", "ignore")) == 2  # the others are put together of four


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _compare_names(file: _Bounded, info: zipfile.ZipInfo) -> None:
    """Refuse a file whose name in the list is not the one in front of its content.

    zipfile compares those that are read. A damaged name may be that of no image.
    """
    file.seek(info.header_offset)
    head = file.read(30)
    name = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
    if head[:4] != b"PK\3\4" or file.read(int.from_bytes(head[26:28], "little")) != name:
        raise zipfile.BadZipFile(f"the list and the file differ in the name {info.orig_filename}")


def _zip_name(info: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a name without the mark for UTF-8, or its own UTF-8 copy beside it."""
    raw = info.orig_filename.encode("cp437")
    extra, place = info.extra, 0
    while place + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, place)
        body = extra[place + 4 : place + 4 + size]
        if kind == 0x7075 and body[1:5] == struct.pack("<I", zlib.crc32(raw)):
            return body[5:]
        place += 4 + size
    return raw


class _Bounded(io.RawIOBase):
    """A file that hands out no piece, and leads to no place, of a size that only a lie can have."""

    def __init__(self, file: Any, allow: Any = None) -> None:
        self._file, self._allowed = file, allow

    def allow(self, end: int) -> None:
        """Ask before something that ends there is read or skipped."""
        if self._allowed is not None:
            self._allowed(end)

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes; without a size all that is left."""
        if size is None or size < 0:
            size = _MOST_PIECE + 1
        elif size <= _MOST_PIECE:
            self.allow(self._file.tell() + size)
        content: bytes = self._file.read(min(size, _MOST_PIECE + 1))
        if len(content) > _MOST_PIECE:
            raise ValueError("it claims a part of more than 64 MB")
        return content

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; in a packed stream all before it is unpacked."""
        if whence == os.SEEK_SET:
            if place < 0:
                raise ValueError("it names a place before its start")
            self.allow(place)
        return int(self._file.seek(place, whence))

    def tell(self) -> int:
        """Return the place."""
        return int(self._file.tell())

    def seekable(self) -> bool:
        """Say that `seek` works."""
        return True

    def readable(self) -> bool:
        """Say that `read` works."""
        return True

    def rest_is_zero(self) -> bool:
        """Read to the end of the file, and tell whether there was nothing but zeros."""
        while chunk := self.read(1 << 16):
            if chunk.strip(b"\0"):
                return False
        return True
