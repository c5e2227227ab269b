"""From the bytes of a notebook that was handed in to its cells, whatever the bytes are.

Nothing is taken over but each cell's type, source, ids and pictures. Size, depth and number of values are
limited before anything is parsed, and whatever has another type than the format says costs its cell at most.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy

from autograder.grading.results import Reason
from autograder.grading.shown import shown
from autograder.grading.submissions import MAX_NOTEBOOK_BYTES

MAX_DEPTH = 100  # of lists and objects in each other; notebooks with widgets have about 20
MAX_VALUES = 1_000_000  # lists, objects and strings
MAX_CELLS = 2_000
MAX_CODE = 200_000  # characters of one code cell
MAX_TEXT = 5_000_000  # characters of any other cell, which may hold pictures
MAX_ALL_CODE = 2_000_000  # characters of all code cells together: they are parsed

_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_CHUNK = 1 << 20
_QUOTE = ord('"')
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_STEPS = numpy.zeros(256, dtype=numpy.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1


class UnreadableNotebookError(ValueError):
    """Nothing can be taken from it."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = Reason(kind, sentence)


@dataclass(frozen=True)
class HandedCell:
    """One cell as it was handed in; every field has the type it says."""

    number: int  # from 1, as a person counts
    cell_type: str  # code, markdown or raw
    source: str
    cell_id: str = ""
    marks: dict[str, Any] = field(default_factory=dict)  # what nbgrader's metadata say, of any types
    attachments: dict[str, dict[str, str]] = field(default_factory=dict)
    too_long: bool = False  # then the source is left out

    @property
    def grade_id(self) -> str:
        """The name that nbgrader knows the cell by, or ""."""
        grade_id = self.marks.get("grade_id")
        return grade_id if isinstance(grade_id, str) else ""


def read_cells(content: bytes) -> tuple[list[HandedCell], list[Reason]]:
    """The cells of a notebook, and what was wrong with it.

    Raises:
        UnreadableNotebookError: nothing can be taken from it.
    """
    notebook = _parsed(content)
    if not isinstance(notebook, dict):
        raise UnreadableNotebookError(
            "wrong schema",
            "The file is JSON, but no notebook: save the notebook in JupyterLab, and hand that file in.",
        )
    plain = _plain_cells(notebook)
    if len(plain) > MAX_CELLS:
        raise UnreadableNotebookError(
            "too many cells",
            f"The notebook has {len(plain):,} cells, and {MAX_CELLS:,} are read at most: hand in the lesson's "
            "notebook with your answers in it.",
        )
    odd = _Oddities()
    cells = [_cell(number, each, odd) for number, each in enumerate(plain, 1)]
    code = sum(len(cell.source) for cell in cells if cell.cell_type == "code")
    if code > MAX_ALL_CODE:
        raise UnreadableNotebookError(
            "too much code",
            f"The code cells have {code:,} characters together, and {MAX_ALL_CODE:,} are read at most: take out "
            "what is not code of yours.",
        )
    return cells, [*odd.reasons(), *_about_kernel(notebook)]


def structure(content: bytes) -> tuple[int, int]:
    """How deep the lists and objects of JSON text are in each other, and how many values there are.

    It does not parse: the figures hold for the part of the text that is JSON, and whatever follows cannot
    make them smaller.
    """
    # Without escaped characters, strings are what stands between two quotes.
    bare = content.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_STRUCTURE)
    codes = numpy.frombuffer(bare, dtype=numpy.uint8)
    deepest = depth = quotes = values = 0
    for start in range(0, len(codes), _CHUNK):
        chunk = codes[start : start + _CHUNK]
        seen = quotes + numpy.cumsum(chunk == _QUOTE)
        steps = numpy.where(seen % 2 == 0, _STEPS[chunk], 0)
        depths = depth + numpy.cumsum(steps, dtype=numpy.int64)
        deepest, depth, quotes = max(deepest, int(depths.max())), int(depths[-1]), int(seen[-1])
        values += int((steps > 0).sum())
    return deepest, values + quotes // 2


def _parsed(content: bytes) -> Any:
    if len(content) > MAX_NOTEBOOK_BYTES:
        raise UnreadableNotebookError(
            "too large",
            f"The notebook has {len(content) / 1e6:,.1f} MB, and {MAX_NOTEBOOK_BYTES / 1e6:,.0f} MB are read at "
            "most: clear all outputs, save, and hand it in again.",
        )
    if not content.strip():
        raise UnreadableNotebookError(
            "empty file", "The file is empty: save the notebook in JupyterLab, and hand it in again."
        )
    depth, values = structure(content)
    if depth > MAX_DEPTH:
        raise UnreadableNotebookError(
            "nested too deep",
            f"The file has lists in lists {depth:,} deep, and {MAX_DEPTH} are read at most: clear all outputs, save, "
            "and hand it in again.",
        )
    if values > MAX_VALUES:
        raise UnreadableNotebookError(
            "too many values",
            f"The file holds {values:,} values, and {MAX_VALUES:,} are read at most: clear all outputs, save, and "
            "hand it in again.",
        )
    try:
        text = content.decode("utf-8-sig")  # some editors put a byte order mark in front
    except UnicodeDecodeError:
        raise UnreadableNotebookError(
            "not UTF-8",
            "The file is not text in UTF-8, as notebooks are: save the notebook in JupyterLab, and hand that file in.",
        ) from None
    try:
        return json.loads(text, parse_int=_integer)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("{") and _at_end(error, text):
            raise UnreadableNotebookError(
                "truncated",
                "The file breaks off in the middle: save the notebook, wait for it to finish, and hand it in again.",
            ) from None
        raise UnreadableNotebookError(
            "not JSON",
            f"The file is not a notebook: in line {error.lineno} it is not JSON. Save the notebook in JupyterLab, and "
            "hand that file in.",
        ) from None


def _integer(digits: str) -> int:
    """No number of a notebook that matters is longer, and long ones take the square of their time to read."""
    return int(digits) if len(digits) < 20 else 0


def _at_end(error: json.JSONDecodeError, text: str) -> bool:
    return error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")


def _plain_cells(notebook: dict) -> list:
    version = notebook.get("nbformat")
    cells: Any = notebook.get("cells")
    if version == 3:  # nbgrader takes these too; cells stood in worksheets, and code was called input
        sheets = notebook.get("worksheets")
        sheets = [sheet for sheet in sheets if isinstance(sheet, dict)] if isinstance(sheets, list) else []
        lists = [sheet.get("cells") for sheet in sheets]
        cells = [_from_version_3(cell) for each in lists if isinstance(each, list) for cell in each]
    elif isinstance(version, bool) or version != 4:
        said = f"nbformat {version}" if isinstance(version, int) else "no nbformat"
        raise UnreadableNotebookError(
            "wrong version",
            f"The file says {said}, and notebooks of nbformat 4 are read: save it in JupyterLab, and hand it in again.",
        )
    if not isinstance(cells, list):
        raise UnreadableNotebookError(
            "wrong schema",
            "The notebook has no list of cells: open it in JupyterLab, save it there, and hand it in again.",
        )
    return cells


def _from_version_3(cell: Any) -> Any:
    if not isinstance(cell, dict):
        return cell
    if cell.get("cell_type") == "code":
        return cell | {"source": cell.get("input", "")}
    return cell | ({"cell_type": "markdown"} if cell.get("cell_type") in ("heading", "html") else {})


class _Oddities:
    """What is wrong with which cells, as one reason of each kind."""

    def __init__(self) -> None:
        self._numbers: dict[str, list[int]] = {}

    def note(self, kind: str, number: int) -> None:
        self._numbers.setdefault(kind, []).append(number)

    def reasons(self) -> Iterator[Reason]:
        for kind, numbers in self._numbers.items():
            yield Reason(kind, f"{_counted(numbers)}: {_SENTENCES[kind]}")


_SENTENCES = {
    "odd cell": "not as the notebook format says, so what could not be read was left out. Open the notebook in "
    "JupyterLab, mend or delete the cell, and save.",
    "cell too long": f"longer than is read ({MAX_CODE:,} characters of code, {MAX_TEXT:,} of text), so it was left "
    "out. Make it shorter.",
    "unreadable characters": "half of a character that takes two; replaced. Delete it and write it anew.",
}


def _counted(numbers: list[int]) -> str:
    first = ", ".join(str(number) for number in numbers[:5])
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return f"Cell {first}" if len(numbers) == 1 else f"Cells {first}{more}"


def _cell(number: int, plain: Any, odd: _Oddities) -> HandedCell:
    if not isinstance(plain, dict):
        odd.note("odd cell", number)
        return HandedCell(number, "raw", "")
    cell_type, source = plain.get("cell_type"), _joined(plain.get("source"))
    metadata = plain.get("metadata", {})
    marks = metadata.get("nbgrader", {}) if isinstance(metadata, dict) else None
    if source is None or not isinstance(marks, dict) or cell_type not in ("code", "markdown", "raw"):
        odd.note("odd cell", number)
    cell_type = cell_type if cell_type in ("code", "markdown") else "raw"
    source = source or ""
    too_long = len(source) > (MAX_CODE if cell_type == "code" else MAX_TEXT)
    if too_long:
        odd.note("cell too long", number)
        source = ""
    whole = _whole(source)
    if whole != source:
        odd.note("unreadable characters", number)
    cell_id = plain.get("id")
    return HandedCell(
        number,
        cell_type,
        whole,
        cell_id if isinstance(cell_id, str) else "",
        marks if isinstance(marks, dict) else {},
        _pictures(plain.get("attachments")) if cell_type == "markdown" else {},
        too_long,
    )


def _joined(source: Any) -> str | None:
    if isinstance(source, str):
        return source
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        return "".join(source)
    return None


def _whole(text: str) -> str:
    """Without lone halves of characters, which cannot be written as UTF-8."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _pictures(attachments: Any) -> dict[str, dict[str, str]]:
    """The pictures that were put into a cell, in formats that hold nothing but pictures."""
    if not isinstance(attachments, dict):
        return {}
    found = {}
    for name, bundle in attachments.items():
        if isinstance(bundle, dict):
            kept = {kind: bundle[kind] for kind in _PICTURES if _is_base64(bundle.get(kind))}
            if kept:
                found[_whole(name)] = kept
    return found


def _is_base64(content: Any) -> bool:
    return isinstance(content, str) and content.isascii() and not content.encode().translate(None, _BASE64)


_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n"


def _about_kernel(notebook: dict) -> Iterator[Reason]:
    metadata = notebook.get("metadata", {})
    if not isinstance(metadata, dict):
        yield Reason(
            "odd metadata",
            "The notebook's metadata are not as the format says; they were not used. Save it in JupyterLab.",
        )
        return
    for place, key in (("language_info", "name"), ("kernelspec", "language")):
        told = metadata.get(place)
        language = told.get(key) if isinstance(told, dict) else None
        if isinstance(language, str) and language.lower() not in ("python", "python3", "ipython"):
            yield Reason(
                "wrong kernel",
                f"The notebook says it is written in {shown(language)}. It was graded as Python: choose a Python "
                "kernel, and save.",
            )
            return
