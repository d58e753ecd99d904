"""Turn the npm package ``emoji-datasource-google`` into a folder of 64x64 images, one subfolder a category.

npm pack emoji-datasource-google
python examples/emoji_folder.py emoji-datasource-google-16.0.0.tgz emoji

The folder is a data set for ``falign`` as it stands. Nothing but the standard library is needed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

#: What ``npm pack`` puts before every path.
TOP = "package/"
LIST = TOP + "emoji.json"
IMAGES = TOP + "img/google/64/"


class ArchiveError(Exception):
    """The archive is not the one expected; the message is one line for the user."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="emoji-datasource-google-VERSION.tgz, from npm pack")
    parser.add_argument("out", type=Path, help="folder to write, which must be new or empty")
    parser.add_argument("--variations", action="store_true", help="add the skin tone variations (twice the images)")
    given = parser.parse_args(arguments)
    try:
        counts = convert(given.archive, given.out, variations=given.variations)
    except ArchiveError as error:
        print(f"emoji_folder: {error}", file=sys.stderr)
        return 2
    for category, count in sorted(counts.items()):
        print(f"{count:5d}  {category}")
    print(f"{sum(counts.values()):5d}  in all, in {given.out}")
    return 0


def convert(archive: Path, out: Path, *, variations: bool = False) -> Counter[str]:
    """Write ``OUT/category/image.png`` for every emoji with an image.

    Args:
        archive: the package, as ``npm pack`` leaves it.
        out: new or empty folder.
        variations: with the skin tone variations.

    Returns:
        Number of images by the category's folder.

    Raises:
        ArchiveError: no such package, or a folder that cannot be written.
    """
    entries, images = read(archive)
    wanted = list(chosen(entries, archive, variations=variations))
    missing = [name for _, name in wanted if name not in images]
    if missing:
        raise ArchiveError(
            f"{archive}: {len(missing)} images that {LIST} lists are not in {IMAGES}, the first {missing[0]}"
        )
    if not wanted:
        raise ArchiveError(f"{archive}: {LIST} lists no emoji with has_img_google")
    try:
        # Images of an earlier run with other options would stay among the new ones.
        if out.is_dir() and any(out.iterdir()):
            raise ArchiveError(f"{out}: not empty; expected a new or empty folder")
        for category, name in wanted:
            (out / category).mkdir(parents=True, exist_ok=True)
            (out / category / name).write_bytes(images[name])
    except OSError as error:
        raise ArchiveError(f"{out}: cannot be written ({error.strerror})") from None
    return Counter(category for category, _ in set(wanted))


def read(archive: Path) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Return the list of emoji and the 64x64 images by file name; only regular files, nothing is extracted."""
    listing: bytes | None = None
    images: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as package:
            for member in package:
                folder, name = member.name.removesuffix(Path(member.name).name), Path(member.name).name
                if member.name != LIST and folder != IMAGES:
                    continue
                opened = package.extractfile(member) if member.isfile() else None
                if opened is None:
                    continue
                if member.name == LIST:
                    listing = opened.read()
                else:
                    images[name] = opened.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise ArchiveError(f"{archive}: no such file") from None
        reason = str(error).partition("\n")[0]
        raise ArchiveError(f"{archive}: not a readable tar archive ({reason})") from None
    if listing is None:
        raise ArchiveError(f"{archive}: no {LIST} in it; expected the npm package emoji-datasource-google")
    try:
        entries = json.loads(listing)
    except ValueError as error:
        raise ArchiveError(f"{archive}: {LIST} is not JSON ({error})") from None
    if not isinstance(entries, list):
        raise ArchiveError(f"{archive}: {LIST}: expected a list of emoji, got {type(entries).__name__}")
    return entries, images


def chosen(entries: list[dict[str, Any]], archive: Path, *, variations: bool) -> Iterator[tuple[str, str]]:
    """Yield category folder and file name of every image wanted."""
    for index, entry in enumerate(entries):
        try:
            category = folder_name(entry["category"])
            versions = [entry, *(entry.get("skin_variations") or {}).values()] if variations else [entry]
            names = [version["image"] for version in versions if version["has_img_google"]]
        except (KeyError, TypeError, AttributeError):
            raise ArchiveError(
                f"{archive}: {LIST}: entry {index} lacks one of category, image, has_img_google"
            ) from None
        for name in names:
            # The list comes from outside: no name of its own may lead out of the folder.
            if not re.fullmatch(r"[\w-]+\.png", str(name)):
                raise ArchiveError(f"{archive}: {LIST}: entry {index}: expected the name of a PNG file, got {name!r}")
            yield category, name


def folder_name(category: str) -> str:
    """Return ``smileys-and-emotion`` for ``Smileys & Emotion``."""
    return re.sub(r"[^a-z0-9]+", "-", category.lower().replace("&", " and ")).strip("-") or "other"


if __name__ == "__main__":
    sys.exit(main())
