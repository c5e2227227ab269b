"""Notebooks that can be looked at: nothing that a student put into a cell runs, loads or reaches beyond the cell.

Three programs show a graded notebook: nbgrader's feedback, formgrader's page and JupyterLab. The first two put raw
HTML of text cells and of outputs into the page as it is. So it is made harmless in the notebook itself, which all
three read, and not in a page. Of a text cell nothing is parsed: a few characters that begin something dangerous are
parted by a space, wherever they stand. What differs between the three readers of Markdown therefore cannot matter,
and formulas, code, tables and links to other sites read as before. HTML in outputs goes through bleach.

Text cells that are, letter for letter, the course's own stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import bleach  # type: ignore[import-untyped]
import nbformat
from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode
from traitlets import Bool, Unicode

from autograder.grading.rebuild import KEPT
from crosstalk.course import course
from crosstalk.places import course_folder

MAX_TEXT = 20_000  # characters of a student's text cell; Markdown readers need the square of it where it is malicious
MAX_HTML = 200_000  # characters of one output

_CUT = f"\n\n[The rest of this cell is left out: it is longer than {MAX_TEXT} characters.]"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# What begins something: the first group keeps its place, a space follows it.
_PARTED = (
    r"(<)(?=[A-Za-z/!?])",  # a tag, a comment, a declaration, a link in angle brackets
    r"(!)(?=\[)(?!\[[^\[\]\n]*\]\({pictures}\))",  # an image, but for those in the cell itself: a link stays
    r"(\])(?=\((?!\s*https?://|{pictures}\)))",  # a link to anything but another site
    # The same where links are defined, which is at the beginning of a line, a list or a quotation.
    r"(?ms)^((?:[^\w\n]|\d)*\[(?:[^\\\[\]]|\\.)*\])(?=:(?!\s*https?://))",
    # Commands by which MathJax or KaTeX make links, attributes and styles, or load more commands.
    r"(\\)(?=(?:href|url|require|style|class|cssId|data|mmlToken|bbox|includegraphics|unicode"
    r"|html(?:Class|Id|Style|Data))(?![A-Za-z]))",
)
_NAME = re.compile(r"[\w.-]{1,100}")

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WORDS = re.compile(r"[\w .;()+-]{1,80}")
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]+")
_GRADE_KEYS: dict[str, tuple[type, ...]] = {
    "grade": (bool,), "solution": (bool,), "locked": (bool,), "task": (bool,), "points": (int, float),
    "schema_version": (int,), "checksum": (str,), "cell_type": (str,), "grade_id": (str,),
}  # fmt: skip

_TAGS = frozenset(bleach.ALLOWED_TAGS) | {
    "br", "caption", "dd", "del", "details", "div", "dl", "dt", "hr", "p", "pre", "small", "span", "sub", "summary",
    "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "u",
}  # fmt: skip
_PROPERTIES = frozenset({
    "background", "border", "border-left", "color", "display", "flex-wrap", "font-family", "font-size", "gap",
    "line-height", "margin", "max-width", "min-width", "overflow-wrap", "padding", "white-space", "word-break",
})  # fmt: skip
# Lengths of at most two digits and none below zero, so that nothing is laid over what is not its own; no url().
_VALUE = re.compile(
    r"(?:\s+|,|#[0-9A-Fa-f]{3,8}\b|\d{0,2}(?:\.\d{1,3})?(?:em|rem|px|ch|%)?(?![\w.])|[A-Za-z][A-Za-z-]*(?![\w(-])"
    r"|var\(--[\w-]+(?:,\s*[#\w-]+)?\))+"
)
# In such an element no MathJax looks for formulas, and so for links in them.
_NO_MATHS = ('<div class="tex2jax_ignore">', "</div>")
_IMAGES = ("image/png", "image/jpeg")


def cleaned(notebook: NotebookNode, *released: NotebookNode) -> NotebookNode:
    """A copy of a notebook in which nothing scripts, loads or restyles a page that shows it.

    What comes out does not change when it is cleaned again. Points are not touched: outputs keep their number, kind
    and plain text.

    Args:
        notebook: of format 4; its parts may be of any type and hold anything.
        released: notebooks whose text cells are trusted as they are, beside those of this course.
    """
    return _cleaned(notebook, _of_the_course() | frozenset().union(*map(_fingerprints, released)))


def _cleaned(notebook: NotebookNode, ours: frozenset[str]) -> NotebookNode:
    taken: set[str] = set()
    cells = []
    for cell in notebook.cells:
        if isinstance(cell, dict):
            cells.append({"id": _free_id(cell.get("id"), taken), **_cell(cell, ours)})
            taken.add(cells[-1]["id"])
    return nbformat.from_dict(
        {"nbformat": 4, "nbformat_minor": 5, "metadata": _about(notebook.get("metadata")), "cells": cells}
    )


def clean_text(text: str, pictures: Iterable[str] = ()) -> str:
    """A student's Markdown without what could begin a tag, a link into this site, or an image.

    Args:
        text: of any length; what is longer than `MAX_TEXT` is cut off.
        pictures: names of those in the cell itself, which may be shown.
    """
    text = _parted(_characters(text), pictures)
    if len(text) > MAX_TEXT + 2 * len(_CUT):
        text = _parted(text[:MAX_TEXT] + _CUT, pictures)  # where it is cut, something may begin
    return text


def clean_html(html: str) -> str:
    """HTML of an output, with only such elements and styles as show text; other tags are shown as text."""
    html = _characters(html)
    opening, closing = _NO_MATHS
    if html.startswith(opening) and html.endswith(closing):
        html = html[len(opening) : -len(closing)]
    if len(html) > MAX_HTML:
        html = "<p>This output is left out: it is too long.</p>"
    inside = bleach.clean(html, tags=_TAGS, attributes=_may_have, protocols=["http", "https"], css_sanitizer=_Styles())
    return opening + inside + closing


class CleanedCells(Preprocessor):
    """Cleans what an exporter shows: `c.HTMLExporter.preprocessors = ["autograder.grading.safe_html.CleanedCells"]`.

    With that line formgrader's pages show what was graded elsewhere, by plain nbgrader or before this was there.
    """

    enabled = Bool(True).tag(config=True)
    released = Unicode(help="The class's folder of released notebooks: their text cells are trusted.").tag(config=True)

    def preprocess(self, notebook: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        """Clean the notebook; the resources stay."""
        ours = _of_the_course()
        for path in sorted(Path(self.released).glob("*/*.ipynb")) if self.released else []:
            ours |= _of_file(path, path.stat().st_mtime_ns)
        return _cleaned(notebook, ours), resources


class _Styles:
    """What bleach asks of a CSS sanitiser: it leaves the declarations that cannot reach beyond their element."""

    def sanitize_css(self, style: str) -> str:
        parts = [part.partition(":") for part in style.split(";")]
        kept = [
            f"{name.strip()}:{value.strip()}"
            for name, _, value in parts
            if name.strip() in _PROPERTIES and _VALUE.fullmatch(value.strip())
        ]
        return ";".join(kept)


def _parted(text: str, pictures: Iterable[str]) -> str:
    names = "|".join(map(re.escape, pictures)) or "(?!)"  # without names, a pattern that nothing matches
    for pattern in _PARTED:
        text = re.sub(pattern.replace("{pictures}", f"attachment:(?:{names})"), r"\1 ", text)
    return text


def _may_have(tag: str, name: str, value: str) -> bool:
    if tag == "a":
        return name == "href" and value.startswith(("https://", "http://"))
    return name in ("style", "data-crosstalk-verdict") or (tag, name) == ("details", "open")


@cache
def _of_the_course() -> frozenset[str]:
    paths = [course_folder() / "lessons" / lesson.notebook for lesson in course().ready]
    return frozenset().union(*(_of_file(path, path.stat().st_mtime_ns) for path in paths if path.is_file()))


@cache
def _of_file(path: Path, changed: int) -> frozenset[str]:
    """The text cells of a notebook as it was when it was last changed (nanoseconds)."""
    return _fingerprints(nbformat.read(path, as_version=4))


def _fingerprints(notebook: NotebookNode) -> frozenset[str]:
    return frozenset(_fingerprint(cell) for cell in notebook.cells if cell.cell_type != "code")


def _fingerprint(cell: dict[str, Any]) -> str:
    attached = json.dumps(_attachments(cell), sort_keys=True)
    return hashlib.sha256(f"{cell['cell_type']}\n{cell['source']}\n{attached}".encode()).hexdigest()


def _attachments(cell: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The pictures of a text cell, if they have the form that they should have, else none."""
    pictures = cell.get("attachments")
    if not isinstance(pictures, dict) or not all(isinstance(forms, dict) for forms in pictures.values()):
        return {}
    return pictures if all(isinstance(form, str) for forms in pictures.values() for form in forms.values()) else {}


def _characters(text: Any) -> str:
    """Text that can be written: no halves of characters, none that control something."""
    if not isinstance(text, str):
        return ""
    return _CONTROL.sub("", text.encode("utf-8", "replace").decode("utf-8"))


def _free_id(wanted: Any, taken: set[str]) -> str:
    if isinstance(wanted, str) and _ID.fullmatch(wanted) and wanted not in taken:
        return wanted
    return next(free for number in count(len(taken)) if (free := f"cell-{number}") not in taken)


def _cell(cell: dict[str, Any], ours: frozenset[str]) -> dict[str, Any]:
    source = _characters(cell.get("source"))
    about = _about_cell(cell.get("metadata"))
    if cell.get("cell_type") == "code":
        outputs = cell.get("outputs")
        shown = [made for output in (outputs if isinstance(outputs, list) else []) if (made := _output(output))]
        return {"cell_type": "code", "source": source, "metadata": about, "outputs": shown,
                "execution_count": _whole(cell.get("execution_count"))}  # fmt: skip
    kind = "markdown" if cell.get("cell_type") == "markdown" else "raw"
    pictures = _attachments(cell)
    if _fingerprint({**cell, "cell_type": kind, "source": source}) not in ours:
        pictures = {
            name: kept for name, forms in pictures.items() if _NAME.fullmatch(name) and (kept := _images(forms))
        }
        source = clean_text(source, pictures)
    return {"cell_type": kind, "source": source, "metadata": about} | ({"attachments": pictures} if pictures else {})


def _about(metadata: Any) -> dict[str, Any]:
    """Of a notebook's metadata what names its language and kernel; a title or widgets' states would be shown."""
    known = {"kernelspec": ("name", "display_name", "language"), "language_info": ("name",)}
    return {part: kept for part, keys in known.items() if (kept := _worded(metadata, part, keys))}


def _worded(metadata: Any, part: str, keys: tuple[str, ...]) -> dict[str, str]:
    values = metadata.get(part) if isinstance(metadata, dict) else None
    if not isinstance(values, dict):
        return {}
    return {key: value for key in keys if isinstance(value := values.get(key), str) and _WORDS.fullmatch(value)}


def _about_cell(metadata: Any) -> dict[str, Any]:
    if not isinstance(metadata, dict):
        return {}
    about: dict[str, Any] = {
        key: metadata[key] for key in ("deletable", "editable") if isinstance(metadata.get(key), bool)
    }
    hidden = metadata.get("jupyter")
    if isinstance(hidden, dict) and isinstance(hidden.get("source_hidden"), bool):
        about["jupyter"] = {"source_hidden": hidden["source_hidden"]}
    if isinstance(metadata.get(KEPT), str) and _WORDS.fullmatch(metadata[KEPT]):
        about[KEPT] = metadata[KEPT]
    graded = metadata.get("nbgrader")
    if isinstance(graded, dict) and isinstance(graded.get("grade_id"), str) and _ID.fullmatch(graded["grade_id"]):
        about["nbgrader"] = {
            key: graded[key]
            for key, kinds in _GRADE_KEYS.items()
            if type(graded.get(key)) in kinds and (not isinstance(graded[key], str) or _ID.fullmatch(graded[key]))
        }
    return about


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _output(output: Any) -> dict[str, Any] | None:
    kind = output.get("output_type") if isinstance(output, dict) else None
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return {"output_type": "stream", "name": name, "text": _characters(output.get("text"))}
    if kind == "error":
        traceback = output.get("traceback")
        lines = [_characters(line) for line in (traceback if isinstance(traceback, list) else [])]
        return {"output_type": "error", "ename": _characters(output.get("ename")),
                "evalue": _characters(output.get("evalue")), "traceback": lines}  # fmt: skip
    if kind not in ("display_data", "execute_result"):
        return None
    shown = {"output_type": kind, "metadata": {}, "data": _data(output.get("data"))}
    return shown | ({"execution_count": _whole(output.get("execution_count"))} if kind == "execute_result" else {})


def _data(data: Any) -> dict[str, str]:
    """Of all forms of an output the plain text, HTML that is cleaned, and pictures made of points."""
    data = data if isinstance(data, dict) else {}
    kept = {"text/plain": _characters(data["text/plain"])} if "text/plain" in data else {}
    if isinstance(data.get("text/html"), str):
        kept["text/html"] = clean_html(data["text/html"])
    return kept | _images(data) or {"text/plain": ""}


def _images(forms: dict[str, Any]) -> dict[str, str]:
    """Pictures made of points, in base64; in a drawing (SVG) there could be anything."""
    return {
        kind: forms[kind] for kind in _IMAGES if isinstance(forms.get(kind), str) and _BASE64.fullmatch(forms[kind])
    }
