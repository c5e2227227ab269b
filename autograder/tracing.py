"""``trace("name")``: run an answer on one case and show the shapes line by line."""

from __future__ import annotations

import html
import sys
import types
from dataclasses import dataclass, field
from typing import Any

import torch

from autograder.answers import AnswerError, find_answer
from autograder.cases import case
from autograder.guard import captured_output, time_limit, unchanged_state
from autograder.packs import PackError, packs_of, visible_pack
from crosstalk import my_model
from crosstalk.course import CourseError, course

MAX_STEPS = 200


@dataclass
class Trace:
    """The lines that were run, each with the names it changed."""

    title: str
    steps: list[tuple[int, str, str]] = field(default_factory=list)  # line number, source, what it made
    end: str = ""

    def __repr__(self) -> str:
        width = max((len(source) for _, source, _ in self.steps), default=0)
        lines = [f"{number:4d}  {source:<{width}}  {made}" for number, source, made in self.steps]
        return "\n".join([self.title, *lines, self.end])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td>{number}</td><td style="text-align:left"><code>{html.escape(source)}</code></td>'
            f'<td style="text-align:left">{html.escape(made)}</td></tr>'
            for number, source, made in self.steps
        )
        left = '<th style="text-align:left">'
        head = f"<tr><th>line</th>{left}source</th>{left}what it made</th></tr>"
        return f"<p>{html.escape(self.title)}</p><table>{head}{rows}</table><p>{html.escape(self.end)}</p>"


def trace(name: str) -> Trace:
    """Run your answer on its first case, and show after each line which names have which shapes."""
    try:
        lesson, entry = course().find(name)
        pack = packs_of(name)[0]
        answer = find_answer(name)
    except (CourseError, PackError, AnswerError) as error:
        return Trace(str(error))
    title = pack.cases[0].title
    seen = Trace(f"{name}, case “{title}”")
    filename = f"<answer {name}>"
    lines = answer.source.splitlines()
    last: dict[int, tuple[int, dict[str, str]]] = {}  # frame → the line it is in, and its names before

    def note(frame: types.FrameType) -> None:
        number, before = last[id(frame)]
        now = _named_shapes(frame.f_locals)
        made = ", ".join(f"{key} {shape}" for key, shape in now.items() if before.get(key) != shape)
        if len(seen.steps) < MAX_STEPS:
            seen.steps.append((number, lines[number - 1].rstrip(), made))
        last[id(frame)] = number, now

    def watch(frame: types.FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename != filename or frame.f_code.co_name == "<module>":
            return None
        if event == "call":
            last[id(frame)] = frame.f_lineno, {}
            note(frame)
            last[id(frame)] = 0, last[id(frame)][1]
        elif event in ("line", "return"):  # a line is announced before it runs: note what the one before it made
            if last[id(frame)][0]:
                note(frame)
            last[id(frame)] = frame.f_lineno, last[id(frame)][1]
        if event == "return":
            seen.end = f"returned {_shape(arg)}"
        return watch

    with (
        unchanged_state(),
        my_model.only_before(name, True),
        captured_output(0),
        time_limit(entry.seconds or course().limits.seconds),
    ):
        namespace: dict[str, Any] = {"__name__": "answer"}
        try:
            exec(compile(visible_pack(lesson).setup, "<set-up cell>", "exec"), namespace)
            namespace |= {other: my_model.get(other) for other in course().earlier_exercises(name)}
            exec(compile(answer.source, filename, "exec"), namespace)
            inputs = case(name, title)
            sys.settrace(watch)
            if pack.kind == "class":
                build, forward = inputs
                build(namespace[name])(*forward.args, **forward.kwargs)
            else:
                namespace[name](*inputs.args, **inputs.kwargs)
        except (Exception, KeyboardInterrupt) as error:
            seen.end = f"stopped by {type(error).__name__}: {error}"
        finally:
            sys.settrace(None)
    return seen


def _named_shapes(names: dict[str, Any]) -> dict[str, str]:
    return {name: _shape(value) for name, value in names.items() if name not in ("self", "__class__")}


def _shape(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return str(tuple(value.shape)) + ("" if dtype == "float32" else f" {dtype}")
    if isinstance(value, tuple):
        return ", ".join(_shape(item) for item in value)
    return repr(value) if isinstance(value, int | float | str | bool | None) else type(value).__name__
