"""How an exercise is written down: what is right, on which inputs, what people get wrong and what to tell them.

One file per lesson in ``autograder/exercises``, read top to bottom like a page. The right answer is the
stand-in of `crosstalk.stand_ins`; the solution that students may see stands in ``solutions/``.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from autograder.draw import Draw
from autograder.messages import Tree
from crosstalk import my_model
from crosstalk.course import Lesson


class ExerciseError(ValueError):
    """An exercise is written down wrongly; the message names it."""


@dataclass(frozen=True)
class Wrong:
    """A misconception: its name, the sentence to give, and how people write it.

    ``source`` is whole code, or, where ``edits`` are given, the solution with each old piece of text
    replaced by the new one.
    """

    name: str
    sentence: str
    source: str = ""
    edits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Right:
    """Another right way to write it, in the two forms of `Wrong`."""

    name: str
    source: str = ""
    edits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sketch:
    """A case as written: drawn anew for each pack."""

    title: str
    scenario: str
    make: Callable[[Draw], Any]


class Exercise:
    """One exercise.

    Args:
        name: of the function or class, as in course.toml.
        returns: each result as ``name (dimensions)``, the words used in shape errors.
        forbids: the bare names of torch functions that are the exercise itself
            (``softmax`` stands for torch.softmax, Tensor.softmax and the one in nn.functional).
    """

    def __init__(self, name: str, *, returns: Sequence[str], forbids: Sequence[str] = ()) -> None:
        self.name, self.returns, self.forbids = name, list(returns), list(forbids)
        self.cases: list[Sketch] = []
        self.wrong: list[Wrong] = []
        self.right: list[Right] = []
        self.hints: list[str] = []
        stand_in = my_model.stand_in(name)
        self.kind = "class" if inspect.isclass(stand_in) else "function"
        # A class that is no module is tried by its methods, and has only the constructor's signature.
        called = getattr(stand_in, "forward", stand_in.__init__) if self.kind == "class" else stand_in
        self.parameters = [name for name in inspect.signature(called).parameters if name != "self"]
        self.signature = _plain_signature(stand_in)

    def case(self, title: str, scenario: str = "call") -> Callable:
        """A case: a function of `Draw` that gives the arguments, as a tuple, or as made by `call` or `build`."""

        def add(make: Callable[[Draw], Any]) -> Callable[[Draw], Any]:
            self.cases.append(Sketch(title, scenario, make))
            return make

        return add

    def mistake(self, sentence: str) -> Callable:
        """A misconception, written out as people write it."""

        def add(code: Any) -> Any:
            self.wrong.append(Wrong(code.__name__, sentence, source=_renamed(code, self.name)))
            return code

        return add

    def slip(self, name: str, sentence: str, edits: Mapping[str, str]) -> None:
        """A misconception that is the solution with a few words changed: ``{old: new}``, each old found once."""
        self.wrong.append(Wrong(name, sentence, edits=edits))

    def also_right(self, code: Any) -> Any:
        """Another right way, written out."""
        self.right.append(Right(code.__name__, source=_renamed(code, self.name)))
        return code

    def also(self, name: str, edits: Mapping[str, str]) -> None:
        """Another right way that is the solution with a few words changed."""
        self.right.append(Right(name, edits=edits))

    def hint(self, text: str) -> None:
        """One more hint; they are given one at a time, in this order."""
        self.hints.append(text)

    def inputs(self, sketch: Sketch, seed: str) -> Tree:
        """The inputs of a case, drawn from a seed (the words ``visible``, or a class's own)."""
        made = sketch.make(Draw(f"{seed}/{self.name}/{sketch.title}"))
        return made if isinstance(made, dict) else call(*made)


def call(*args: Any, **kwargs: Any) -> dict[str, Tree]:
    """Arguments of a call, where some are given by name."""
    return {"args": list(args), "kwargs": kwargs}


def build(
    *args: Any,
    weights: Mapping[str, torch.Tensor],
    forward: dict[str, Tree],
    record: Mapping[str, Any] | None = None,
    attributes: Sequence[str] = (),
    again: dict[str, Tree] | None = None,
    train: bool = False,
    initial: Sequence[str] = (),
    saved: bool = False,
    fused: bool = False,
    dropped: int = 0,
    **kwargs: Any,
) -> dict[str, Tree]:
    """Inputs of the scenario ``module``: constructor arguments, weights by name, calls, what to look at."""
    made: dict[str, Tree] = {"build": call(*args, **kwargs), "weights": dict(sorted(weights.items()))}
    made |= {"forward": forward, "attributes": list(attributes), "again": again, "train": train}
    asked = {"record": dict(record or {}), "initial": list(initial), "saved": saved, "fused": fused, "dropped": dropped}
    return made | {key: value for key, value in asked.items() if value}


def applied(source: str, edits: Mapping[str, str], what: str) -> str:
    """The source with each old text, found exactly once, replaced by the new.

    Raises:
        ExerciseError: an old text stands in it never or more than once.
    """
    for old, new in edits.items():
        if source.count(old) != 1:
            raise ExerciseError(f"{what}: {old!r} stands {source.count(old)} times in the solution, wanted is once")
        source = source.replace(old, new)
    return source


def exercises_of(lesson: Lesson) -> dict[str, Exercise]:
    """The exercises of a lesson by name, in the order of course.toml.

    Raises:
        ExerciseError: file and course.toml do not name the same exercises, or there is no file, as in the
            bundle that students of a class get.
    """
    if importlib.util.find_spec("autograder.exercises") is None:
        raise ExerciseError("This copy of the course carries no answers, so nothing can be built from it.")
    module = importlib.import_module(f"autograder.exercises.{lesson.id.replace('-', '_')}")
    found = {value.name: value for value in vars(module).values() if isinstance(value, Exercise)}
    named = [entry.name for entry in lesson.exercises]
    if sorted(found) != sorted(named):
        raise ExerciseError(f"{module.__file__} has {sorted(found)}, course.toml lists {sorted(named)} for {lesson.id}")
    return {name: found[name] for name in named}


def _plain_signature(code: Any) -> str:
    """The signature as students write it: names and defaults, no types."""
    signature = inspect.signature(code)
    bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    shown = [
        f"{p.name}={getattr(p.default, '__name__', None) or repr(p.default)}" if p.default is not p.empty else p.name
        for p in bare
    ]
    return f"({', '.join(shown)})"


def _renamed(code: Any, name: str) -> str:
    """The source of a function or class without its decorator, under the exercise's name."""
    source = textwrap.dedent(inspect.getsource(code))
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    lines = source.splitlines()[node.lineno - 1 :]
    lines[0] = lines[0].replace(node.name, name, 1)
    return "\n".join(lines) + "\n"
