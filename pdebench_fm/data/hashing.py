"""SHA-256 of files and folders, which name data and weights in job ids."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from pdebench_fm._util.files import replacing
from pdebench_fm.errors import DataFileError


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files and their names."""
    if path.is_file():
        return content_hash(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{content_hash(file)}\n".encode())
    return digest.hexdigest()


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content, from a cache if the file has not changed."""
    try:
        status = path.stat()
        # Archives and touch -r give two files the same size and time; change time and inode still differ.
        marks = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        key = os.fsencode("\0".join((str(path.resolve()), *map(str, marks))))
        name = hashlib.sha256(key).hexdigest()
        known = remembered("hashes", name)
        if known is not None and len(known) == 64:
            return known
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    remember("hashes", name, digest)
    return digest


def remembered(kind: str, name: str) -> str | None:
    """Return a text from the user's cache, None if it is not there."""
    try:
        return (_cache_folder() / kind / name).read_text("ascii")
    except (OSError, ValueError):
        return None


def remember(kind: str, name: str, text: str) -> None:
    """Put a text into the user's cache. If that is impossible, it only costs time."""
    cached = _cache_folder() / kind / name
    with suppress(OSError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cached) as part:
            part.write_text(text, "ascii")


def _cache_folder() -> Path:
    import platformdirs

    if given := os.environ.get("PDEFM_CACHE_DIR"):
        return Path(given)
    try:
        return Path(platformdirs.user_cache_dir("pdebench_fm"))
    except RuntimeError:  # no home, as in some containers: nothing can be kept under a file
        return Path(os.devnull)
