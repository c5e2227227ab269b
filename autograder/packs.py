"""Packs: the frozen cases of a lesson, with expected observations and those of each known mistake.

One safetensors file per lesson. Its metadata holds JSON, compressed, in which tensors stand by number; equal tensors
are stored once. *Visible* packs lie in ``assets/packs`` and go to students; *hidden* ones lie where
``CROSSTALK_HIDDEN_PACKS`` says.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load, save

from autograder.messages import Tree, encode, flatten, in_layout, nested, tensor_bytes, tensor_note, unflatten
from autograder.pack_files import hidden_file, visible_file
from crosstalk.course import Lesson, course
from crosstalk.places import write_atomically


class PackError(FileNotFoundError):
    """A pack is missing or cannot be read; the message says what to do."""


@dataclass(frozen=True)
class Case:
    """One frozen case: a way to try the exercise, on what, and what comes out when it is right."""

    title: str
    scenario: str
    inputs: Tree
    expected: Tree
    names: list[str]  # of the arguments of the call (of a class: of its forward)

    @property
    def tried(self) -> dict[str, Tree]:
        """How to try the exercise, and on what: all that a runner gets to know of the case."""
        return {"scenario": self.scenario, "inputs": self.inputs}

    @cached_property
    def sent(self) -> torch.Tensor:
        """The same as a message."""
        return nested(self.tried)

    @cached_property
    def answered(self) -> bytes:
        """What is expected, as a message."""
        return encode(self.expected)

    def plain(self) -> dict[str, Tree]:
        """Its fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Mistake:
    """A known misconception: its sentence, and what it gives on each case."""

    name: str
    sentence: str
    observations: list[Tree]


@dataclass(frozen=True)
class ExercisePack:
    """All that is needed to judge one exercise."""

    name: str
    kind: str  # "function" or "class"
    signature: str
    returns: list[str]
    forbidden: list[str]
    hints: list[str]
    cases: list[Case]
    mistakes: list[Mistake]
    cases_hash: str
    hidden: bool = False

    @property
    def sealed(self) -> bool:
        """Would a stand-in be the answer itself? (See `autograder.scenarios.sealed`.)"""
        return any(case.scenario == "sealed" for case in self.cases)


@dataclass(frozen=True)
class Pack:
    """The pack of one lesson."""

    lesson: str
    setup: str  # source of the lesson's set-up cell
    source_hash: str  # of everything it was frozen from
    exercises: dict[str, ExercisePack]


def to_bytes(pack: Pack) -> bytes:
    """A pack as the content of a safetensors file."""
    tensors: list[torch.Tensor] = []
    tree = flatten(_plain(pack), tensors)
    stored: dict[str, torch.Tensor] = {}
    places: list[dict[str, Any]] = []
    known: dict[str, str] = {}
    for tensor in tensors:
        note = tensor_note(tensor)
        digest = hashlib.sha256(repr((note["dtype"], note["shape"])).encode() + tensor_bytes(tensor)).hexdigest()
        if digest not in known:
            known[digest] = str(len(stored))
            stored[known[digest]] = tensor.detach().contiguous().clone()
        places.append({"at": known[digest]} | ({"stride": note["stride"]} if "stride" in note else {}))
    header = json.dumps({"tree": tree, "tensors": places}, ensure_ascii=False).encode()
    return save(stored, metadata={"crosstalk": base64.b64encode(zlib.compress(header, 9)).decode()})


def _plain(pack: Pack) -> dict[str, Any]:
    """The pack as plain dicts (`dataclasses.asdict` would copy every tensor, and rebuild tuples)."""
    exercises = {
        name: {**vars(exercise), "cases": [case.plain() for case in exercise.cases],
               "mistakes": [{**vars(mistake), "observations": _odd(mistake, exercise.cases)}
                            for mistake in exercise.mistakes]}
        for name, exercise in pack.exercises.items()
    }  # fmt: skip
    return {**vars(pack), "exercises": exercises}


def _odd(mistake: Mistake, cases: Sequence[Case]) -> list[Tree]:
    """What a mistake gives, with None where it is right to the last bit."""
    return [None if encode(seen) == case.answered else seen
            for seen, case in zip(mistake.observations, cases, strict=True)]  # fmt: skip


def _exercise(plain: dict[str, Any]) -> ExercisePack:
    cases = [Case(**case) for case in plain["cases"]]
    mistakes = [
        Mistake(mistake["name"], mistake["sentence"],
                [case.expected if seen is None else seen
                 for seen, case in zip(mistake["observations"], cases, strict=True)])
        for mistake in plain["mistakes"]
    ]  # fmt: skip
    return ExercisePack(**{**plain, "cases": cases, "mistakes": mistakes})


def from_file(path: Path) -> Pack:
    """Read a pack.

    Raises:
        PackError: the file is missing, cut short or of another making.
    """
    if not path.is_file():
        raise PackError(f"The pack {path.name} is missing from {path.parent}: run `crosstalk build` to make it.")
    collecting = gc.isenabled()
    gc.disable()  # 100,000 lists and dicts are made, and all of them stay: to look at them doubles the time
    try:
        with safe_open(path, "pt") as file:
            header = json.loads(zlib.decompress(base64.b64decode(file.metadata()["crosstalk"])))
        stored = load(path.read_bytes())
        tensors = [
            in_layout(stored[place["at"]], place["stride"]) if "stride" in place else stored[place["at"]]
            for place in header["tensors"]
        ]
        tree = unflatten(header["tree"], tensors)
        exercises = {name: _exercise(exercise) for name, exercise in tree["exercises"].items()}
        return Pack(**{**tree, "exercises": exercises})
    except PackError:
        raise
    except Exception as error:
        raise PackError(
            f"The pack {path.name} cannot be read ({error}): run `crosstalk build` to make it anew."
        ) from None
    finally:
        if collecting:
            gc.enable()


@cache
def _read_once(path: Path, changed: int) -> Pack:
    return from_file(path)


def _read(path: Path) -> Pack:
    return _read_once(path, path.stat().st_mtime_ns if path.is_file() else 0)


def visible_pack(lesson: Lesson) -> Pack:
    """The pack of a lesson that students have."""
    return _read(visible_file(lesson))


def packs_of(name: str) -> list[ExercisePack]:
    """The packs by which an exercise is judged: the visible one, and the hidden one where there is one."""
    lesson, _ = course().find(name)
    found = [visible_pack(lesson).exercises[name]]
    if hidden := hidden_file(lesson):
        found.append(_read(hidden).exercises[name])
    return found


def cases_hash(name: str) -> str:
    """What progress and pieces are keyed on: changes when a case of the exercise changes."""
    lesson, _ = course().find(name)
    return visible_pack(lesson).exercises[name].cases_hash


def hash_of(tree: Tree) -> str:
    """A hash of a tree, tensors included, the same on every machine."""
    tensors: list[torch.Tensor] = []
    digest = hashlib.sha256(json.dumps(flatten(tree, tensors), sort_keys=True).encode())
    for tensor in tensors:
        digest.update(json.dumps(tensor_note(tensor)).encode() + tensor_bytes(tensor))
    return digest.hexdigest()[:32]


def save_pack(pack: Pack, folder: Path) -> Path:
    """Write a pack as ``LESSON.safetensors`` in a folder."""
    path = folder / f"{pack.lesson}.safetensors"
    write_atomically(path, to_bytes(pack))
    return path
