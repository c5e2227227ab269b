"""The student's own model: passed answers kept as pieces, and stand-ins for those not yet written.

``from crosstalk.my_model import softmax`` gives the student's own, where it has passed its check, and else a
stand-in. Pieces are plain modules in ``work/my_model/NAME.py``, loaded one by one at first use; each may use
only exercises that come before it in course.toml, so there are no cycles.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.abc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from crosstalk.course import course
from crosstalk.places import work_folder, write_atomically

_HEADER = "# A piece of your own model, kept by check(). cases: "
_loaded: dict[str, tuple[str, Any]] = {}  # name → (hash of the file, the object)
_told: set[str] = set()
# While an answer is judged, only what comes before it may be used: (exercise, the student's own pieces?)
_limit: ContextVar[tuple[str, bool] | None] = ContextVar("limit", default=None)


class NotYet(ImportError):
    """The answer reached for itself, or for something that comes later in the course."""


def __getattr__(name: str) -> Any:
    if name.startswith("__") or name not in course().exercises:
        raise AttributeError(f"crosstalk.my_model has no {name!r}; it has {', '.join(course().exercises)}")
    limit = _limit.get()
    if limit:
        _must_come_before(name, limit[0])
    return get(name, own=limit[1] if limit else True)


def __dir__() -> list[str]:
    return course().exercises


def keeps_pieces() -> bool:
    """Are pieces kept and taken? Not while nbgrader executes, nor in tests (unless CROSSTALK_WORK is set)."""
    if os.environ.get("NBGRADER_EXECUTION"):
        return False
    return "PYTEST_CURRENT_TEST" not in os.environ or "CROSSTALK_WORK" in os.environ


def stand_in(name: str) -> Any:
    """What is used in place of a piece: PyTorch's own where it exists, plain readable code elsewhere."""
    lesson, _ = course().find(name)
    return getattr(_stand_in_module(lesson.number), name)


def get(name: str, own: bool = True) -> Any:
    """The student's piece where there is one that holds (and ``own`` is true), else the stand-in."""
    if not (own and keeps_pieces()):
        return stand_in(name)
    piece, why = _piece(name)
    if why:
        _tell(f"{name}: the stand-in, {why}.")
        return stand_in(name)
    return piece


def is_own(name: str) -> bool:
    """Has this exercise a piece of the student's that can be used?"""
    return keeps_pieces() and not _piece(name)[1]


def piece_file(name: str) -> Path:
    """Where the piece of an exercise is kept."""
    return work_folder() / "my_model" / f"{name}.py"


def keep(name: str, source: str, setup: str, cases: str) -> None:
    """Keep a passed answer as a piece.

    Args:
        name: the exercise.
        source: the answer cell.
        setup: the lesson's set-up cell; its imports come along, so that the piece is a module of its own.
        cases: the hash of the cases that it passed.
    """
    if not keeps_pieces():
        return
    used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    earlier = [other for other in course().earlier_exercises(name) if other in used]
    lines = [_HEADER + cases, *_imports(setup)]
    if earlier:
        lines.append(f"from crosstalk.my_model import {', '.join(earlier)}")
    write_atomically(piece_file(name), "\n".join([*lines, "", "", source.strip(), ""]))


@contextmanager
def only_before(name: str, own: bool) -> Iterator[None]:
    """While an answer to ``name`` is judged: it can import nothing of this or a later exercise.

    Stand-ins of this lesson and later ones cannot be imported; ``crosstalk.my_model`` gives what comes before
    ``name`` (the student's pieces if ``own``).
    """
    lesson, _ = course().find(name)
    stand_ins = sys.modules.get("crosstalk.stand_ins")
    names = [f"crosstalk.stand_ins.lesson_{each.number:02d}" for each in course().lessons
             if each.number >= lesson.number]  # fmt: skip
    hidden = {key: sys.modules[key] for key in names if key in sys.modules}
    for key in hidden:
        del sys.modules[key]
        if stand_ins:
            vars(stand_ins).pop(key.rpartition(".")[2], None)
    refusal = _Refusal(lesson.number)
    sys.meta_path.insert(0, refusal)
    token = _limit.set((name, own))
    try:
        yield
    finally:
        _limit.reset(token)
        sys.meta_path.remove(refusal)
        sys.modules.update(hidden)


class _Refusal(importlib.abc.MetaPathFinder):
    def __init__(self, number: int) -> None:
        self.number = number

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname.startswith("crosstalk.stand_ins.lesson_") and int(fullname[-2:]) >= self.number:
            raise NotYet("the stand-ins of this lesson and later ones cannot be used in an answer")


_stand_ins: dict[int, Any] = {}


def _stand_in_module(number: int) -> Any:
    if number not in _stand_ins:
        refusals = [finder for finder in sys.meta_path if isinstance(finder, _Refusal)]
        for refusal in refusals:  # ours to import, not the answer's
            sys.meta_path.remove(refusal)
        try:
            _stand_ins[number] = importlib.import_module(f"crosstalk.stand_ins.lesson_{number:02d}")
        finally:
            for refusal in refusals:
                sys.modules.pop(f"crosstalk.stand_ins.lesson_{number:02d}", None)
                sys.meta_path.insert(0, refusal)
    return _stand_ins[number]


def _must_come_before(name: str, limit: str) -> None:
    order = course().exercises
    if order.index(name) >= order.index(limit):
        raise NotYet(f"{name} cannot be imported in an answer to {limit}: it does not come before it")


def _imports(setup: str) -> list[str]:
    """The imports of a set-up cell, but those of the grader."""
    found = []
    for node in ast.parse(setup).body:
        if isinstance(node, ast.Import) or (
            isinstance(node, ast.ImportFrom) and node.module not in ("autograder", "crosstalk.my_model")
        ):
            found.append(ast.unparse(node))
    return found


def _piece(name: str) -> tuple[Any, str]:
    """The object of a piece and "", or None and why it cannot be used."""
    path = piece_file(name)
    if not path.is_file():
        return None, "until yours has passed its check"
    content = path.read_text(encoding="utf-8")
    digest = hashlib.sha256(content.encode()).hexdigest()
    if name in _loaded and _loaded[name][0] == digest:
        return _loaded[name][1], ""
    from autograder.packs import cases_hash  # here, since autograder imports this module

    kept, _, rest = content.partition("\n")
    if kept.removeprefix(_HEADER) != (cases := cases_hash(name)):
        from autograder.judging import passes

        if not passes(name, content):
            return None, "because your piece does not pass the cases of today: check it again in its lesson"
        write_atomically(path, f"{_HEADER}{cases}\n{rest}")
    namespace: dict[str, Any] = {"__name__": f"crosstalk.my_model.{name}"}
    token = _limit.set((name, True))
    try:
        exec(compile(content, str(path), "exec"), namespace)
        _loaded[name] = digest, namespace[name]
    except Exception as error:
        return None, f"because your piece cannot be loaded ({type(error).__name__}: {error})"
    finally:
        _limit.reset(token)
    return namespace[name], ""


def _tell(sentence: str) -> None:
    if sentence not in _told and not _limit.get():
        _told.add(sentence)
        print(sentence)
