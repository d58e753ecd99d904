"""A whole split decoded into the cache, on all cores. Needs the extra ``[train]``."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ..progress import progress
from .cache import Meta, memory_map, save_labels
from .errors import DataError, UnreadableImage
from .findings import Findings
from .images import Pixels
from .picture import Picture, decode_image, header
from .white import White

__all__ = ["SIDE", "common_shape", "decode", "workers"]

#: Side of the images of CelebA, of a folder, and of a set whose images differ in size.
SIDE = 64
#: PIL's modes without colour.
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
#: Images for each worker that are being decoded or wait to be written.
AHEAD = 4
#: Bytes of the images that wait, which may be fewer for it.
WAITING = 2**27


def decode(
    directory: Path,
    title: str,
    pictures: Iterable[Picture],
    labels: Sequence[int],
    classes: Sequence[str],
    image_size: int,
    channels: int,
    strict: bool,
    white: White,
    findings: Findings,
) -> Meta:
    """Decode a split on all cores; unreadable images are skipped and counted.

    Args:
        directory: to write to.
        title: name of the set in messages.
        pictures, labels: of the split, of equal number; a label of -1 means no label.
        classes: names of the labels.
        image_size, channels: of the result.
        strict: stop at the first unreadable image instead of skipping it.
        white: of images of more than 8 bits.
        findings: told of what is skipped.

    Raises:
        DataError: no image can be read, or, if ``strict``, one image cannot.
    """
    pixels = memory_map(directory, (len(labels), channels, image_size, image_size))
    kept: list[int] = []
    broken: list[UnreadableImage] = []
    results = _in_order(
        pictures, lambda name, content: decode_image(name, content, image_size, channels, white, findings)
    )
    shown = progress(results, f"decoding {Path(title).name}", len(labels))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # damaged metadata, which is not used
        for found, label in zip(shown, labels, strict=True):
            if not isinstance(found, UnreadableImage):
                pixels[len(kept)] = found
                kept.append(label)
                continue
            if strict:
                raise found
            broken.append(found)
            findings.unreadable(found)
    if not kept:
        raise DataError(f"{title}: none of the {len(labels)} images can be read; the first: {broken[0]}")
    if lost := [classes[label] for label in sorted(set(labels) - set(kept) - {-1})]:
        findings.note(f"no image can be read of {', '.join(lost[:3])}{', ...' * (len(lost) > 3)}, which stay classes")
    save_labels(directory, kept)
    return {"count": len(kept), "classes": list(classes), "findings": findings.as_json(), "white": white.found}


def workers() -> int:
    """Return the number of threads that decode: PIL releases the interpreter's lock while it decodes and resizes."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_order(pictures: Iterable[Picture], decoded: Callable[..., Pixels]) -> Iterator[Pixels | UnreadableImage]:
    """Decode by several threads and yield the results, or why there is none, in the order of the pictures."""

    def attempt(picture: Picture) -> Pixels | UnreadableImage:
        try:
            return decoded(*picture)
        except UnreadableImage as error:
            return error

    waiting: deque[tuple[Future[Pixels | UnreadableImage], int]] = deque()
    pool = ThreadPoolExecutor(workers())
    try:
        for picture in pictures:
            size = len(picture[1]) if isinstance(picture[1], bytes) else 0
            waiting.append((pool.submit(attempt, picture), size))
            del picture  # its bytes; they are released when it is decoded
            while waiting and (len(waiting) >= AHEAD * workers() or sum(each for _, each in waiting) > WAITING):
                yield waiting.popleft()[0].result()
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def common_shape(pictures: Iterable[Picture]) -> tuple[int, int]:
    """Return side and channels from the images' headers: their side if all are squares of it, 1 if all are grey."""
    sizes, grey = set(), True
    for _, content in pictures:
        found = header(content)
        if found is None:
            continue
        sizes.add(found[0])
        grey = grey and found[1] in GREY_MODES
        if len(sizes) > 1 and not grey:
            break
    width, height = sizes.pop() if len(sizes) == 1 else (SIDE, SIDE)
    return (width if width == height else SIDE), (1 if grey else 3)
