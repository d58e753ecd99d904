"""Whole data sets in files, and changes to them: IDX, pickled batches, parquet, archives."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from .mutations import INTEGERS, change_bytes


def idx(array: np.ndarray) -> bytes:
    """Return an IDX file of bytes."""
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def digits() -> dict[str, bytes]:
    """Return the files of a small set in MNIST's format."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 28, 28)), np.arange(12) % 10
    return {"train-images-idx3-ubyte": idx(images), "train-labels-idx1-ubyte": idx(labels)}


def change_digits(rng: np.random.Generator, files: dict[str, bytes]) -> dict[str, bytes]:
    """Change one of the files; gzip some, and let some of those unpack to far more than they say."""
    name = list(files)[int(rng.integers(2))]
    content = files[name]
    if rng.random() < 0.4:  # a size
        at = 4 * int(rng.integers(1, 1 + content[3]))
        size = int(rng.choice(np.array(INTEGERS, np.uint64))) % 2**32
        content = content[:at] + size.to_bytes(4, "big") + content[at + 4 :]
    else:
        content = change_bytes(rng, content, files[next(iter(files))], 4)
    if (chance := rng.random()) < 0.25:
        packed = gzip.compress(content, 1)
        return {**files, name: b"", f"{name}.gz": change_bytes(rng, packed, b"", 10) if chance < 0.12 else packed}
    return {**files, name: content}


def gzip_bomb(start: bytes, mebibytes: int) -> bytes:
    """Return ``start`` followed by zeros, compressed: 1 kB for each MiB."""
    return gzip.compress(start) + gzip.compress(bytes(2**24)) * (mebibytes // 16)


def batches() -> dict[str, bytes]:
    """Return the files of CIFAR-10's Python version, of two images each, as Python 2 pickled them."""
    pixels = struct.pack("<i", 2 * 3072) + bytes(range(256)) * 24
    batch = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + pixels + b"tbU\x06labels](K\x01K\x09eu."
    )
    return {f"data_batch_{number}": batch for number in range(1, 6)}


def png(value: int, size: tuple[int, int] = (8, 8)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, (value, 0, 90)).save(content, "PNG")
    return content.getvalue()


def parquet(compression: str) -> bytes:
    """Return rows of images and labels as the Hub has them."""
    images = [{"bytes": png(number), "path": f"{number}.png"} for number in range(6)]
    table = pa.table({"image": images, "label": [number % 2 for number in range(6)]})
    content = io.BytesIO()
    pq.write_table(table, content, compression=compression, data_page_version="2.0")
    return content.getvalue()


def change_parquet(rng: np.random.Generator, content: bytes) -> bytes:
    """Change the pages more often than the footer, without which nothing is read."""
    footer = int.from_bytes(content[-8:-4], "little") + 8
    if rng.random() < 0.7:
        body = bytearray(content[:-footer])
        at = int(rng.integers(4, len(body)))
        length = int(rng.integers(1, 20))
        body[at : at + length] = rng.bytes(min(length, len(body) - at))
        return bytes(body) + content[-footer:]
    return change_bytes(rng, content, b"", 4)


def members() -> dict[str, bytes]:
    """Return the files of a small set: two classes, labels beside, and no images."""
    found = {f"{name}/{number}.png": png(number) for name in ("a", "b") for number in range(3)}
    return found | {"b/noext": png(9), "list.csv": b"1,2", "a/0.json": b'{"label": 3}'}


def packed(files: dict[str, bytes], kind: str) -> bytes:
    """Return an archive: ``zip``, ``tar``, ``tar.gz``, ``tar.bz2`` or ``tar.xz``."""
    content = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED, 1)
        return content.getvalue()
    with tarfile.open(fileobj=content, mode=f"w:{kind.partition('.')[2]}", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


NAMES = (
    "../../etc/x.png",
    "/x.png",
    "a\0b.png",
    "ä" * 200 + "/1.png",
    "a/" * 300 + "1.png",
    "c:\\1.png",
    "\udcff/1.png",
    "",
)
LABELS = (
    b"\xff",
    b"{",
    b"[" * 10**5,
    b'{"label": ' + b"9" * 5000 + b"}",
    b'{"label": {}}',
    b"[]",
    b"NaN",
    b'{"label": 1e999}',
)


def change_archive(rng: np.random.Generator, kind: str) -> bytes:
    """Return an archive whose members, or whose bytes, are changed."""
    files = members()
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 4))):
            name, chance = list(files)[int(rng.integers(len(files)))], rng.random()
            if chance < 0.4 and files[name]:
                files[name] = change_bytes(rng, files[name], b"", 8)
            elif chance < 0.7:
                files[NAMES[int(rng.integers(len(NAMES) - 2 * (kind == "zip")))]] = files.pop(name)
            else:
                files[f"a/{int(rng.integers(3))}.json"] = LABELS[int(rng.integers(len(LABELS)))]
        return packed(files, kind)
    if kind == "tar" and rng.random() < 0.6:
        return _changed_header(rng, packed(files, kind))
    if kind in ("tar.gz", "tar.bz2", "tar.xz") and rng.random() < 0.5:
        inner = change_bytes(rng, packed(files, "tar"), b"", 100)
        return {"tar.gz": gzip.compress, "tar.bz2": _bz2, "tar.xz": _xz}[kind](inner)
    return change_bytes(rng, packed(files, kind), packed({"x.png": png(1)}, kind), 6)


def _bz2(content: bytes) -> bytes:
    import bz2

    return bz2.compress(content)


def _xz(content: bytes) -> bytes:
    import lzma

    return lzma.compress(content, preset=0)


def _changed_header(rng: np.random.Generator, content: bytes) -> bytes:
    """Change a member's header and mend its checksum."""
    found = bytearray(content)
    starts = [at for at in range(0, len(found), 512) if found[at + 257 : at + 262] == b"ustar"]
    at = starts[int(rng.integers(len(starts)))]
    field, width = ((100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155), (0, 100))[int(rng.integers(7))]
    if width == 1:
        found[at + field] = int(rng.choice(list(b"0123456789gxLKSDNV")))
    elif rng.random() < 0.5:
        found[at + field : at + field + width] = b"\x80" + rng.bytes(width - 1)
    else:
        found[at + field : at + field + width] = (b"%o" % int(rng.integers(2**33))).rjust(width - 1, b"0")[
            -width + 1 :
        ] + b"\0"
    found[at + 148 : at + 156] = b" " * 8
    found[at + 148 : at + 156] = b"%06o\0 " % sum(found[at : at + 512])
    return bytes(found)


def _tar_bomb(name: str, kind: bytes, *, packed: bool) -> bytes:
    """Return a tar with one member of 3 GiB, which is there or not."""
    head = tarfile.TarInfo(name)
    head.size, head.type = 3 * 2**30, kind
    start = head.tobuf(tarfile.GNU_FORMAT)
    return gzip_bomb(start, 3 * 2**10) if packed else start + bytes(2000)


def _zeros(names: list[str], mebibytes: int) -> bytes:
    return packed({**dict.fromkeys(names, bytes(mebibytes * 2**20)), "b/1.png": png(1)}, "zip")


def _lying() -> bytes:
    """Return a zip that has a member of 240 MiB and says that it is 1,000 bytes."""
    found = bytearray(_zeros(["a/1.png"], 240))
    for at in (22, found.index(b"PK\x01\x02") + 24):
        found[at : at + 4] = struct.pack("<I", 1000)
    return bytes(found)


#: Archives that unpack to far more than they are: their kind, and what makes them.
BOMBS: list[tuple[str, Callable[[], bytes]]] = [
    ("zip", lambda: _zeros([f"a/{number}.png" for number in range(3)], 240)),
    ("zip", lambda: _zeros([f"a/{number}.bmp" for number in range(30)], 15)),
    ("zip", lambda: _zeros(["b/1.json"], 240)),
    ("zip", _lying),
    *(
        (ending, partial(_tar_bomb, name, kind, packed=ending == "tar.gz"))
        for ending in ("tar", "tar.gz")
        for name, kind in (
            ("a/1.png", tarfile.REGTYPE), ("././@LongLink", tarfile.GNUTYPE_LONGNAME), ("pax", tarfile.XHDTYPE),
        )
    ),
]  # fmt: skip
