"""The Hub library's cache, laid out by hand: models--OWNER--NAME/{blobs,refs,snapshots}."""

from __future__ import annotations

import hashlib
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cached(folder: Path, cache: Path, repository: str) -> Path:
    """Put the files of ``folder`` into ``cache`` as the library would after a download; return the snapshot."""
    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / COMMIT
    for each in (place / "blobs", place / "refs", snapshot):
        each.mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    for file in folder.iterdir():
        content = file.read_bytes()
        blob = place / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot
