"""The runner: holds the student's code, tries it on inputs, and says what it saw. It decides nothing.

It knows no expected value. What it is asked and what it answers are messages (`autograder.messages`), in
self-study in one process, when graded between two.
"""

from __future__ import annotations

import builtins
import inspect
import linecache
import os
import signal
import sys
import threading
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from functools import wraps
from typing import Any, Self
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode

from autograder.guard import Clock, captured_output, time_limit, unchanged_state
from autograder.messages import MessageError, Tree, decode, encode, nested, opened
from autograder.scenarios import SCENARIOS
from autograder.scenarios.asked import Ask, asking, held_elsewhere
from autograder.scenarios.call import NotAccepted
from crosstalk import my_model

_TORCH = os.path.dirname(torch.__file__)
_HERE = os.path.dirname(__file__)
MAX_WARNINGS = 5


class Forbidden(Exception):
    """The answer called a function that is the exercise itself."""

    def __init__(self, function: str, line: int) -> None:
        super().__init__(function)
        self.function, self.line = function, line


class _Watch(TorchFunctionMode):
    """Remembers the torch call that raised, for the report of an error. It makes every torch call slower."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: tuple[BaseException, str, list] | None = None  # the error, the call, the shapes it was given

    def __torch_function__(self, func, types, args=(), kwargs=None):
        try:
            return func(*args, **(kwargs or {}))
        except Exception as error:
            name = getattr(func, "__name__", "")
            if not name.startswith("__get"):
                self.failed = error, name, [list(a.shape) for a in args if isinstance(a, torch.Tensor)]
            raise


_HOMES = (torch, torch.Tensor, torch.nn.functional, torch.special, torch._C._nn)


class _ForbiddenCalls:
    """While it is on, torch's functions and methods of some names raise `Forbidden` where the answer calls them.

    As a context it takes their places. What an answer cell calls beside its definition is nobody's business, so it is
    switched on for cases only.
    """

    def __init__(self, names: Sequence[str], filename: str) -> None:
        self.names, self.filename, self.on = names, filename, False
        self._patches = ExitStack()

    def __enter__(self) -> Self:
        for home in _HOMES:
            for name in self.names:
                if function := getattr(home, name, None):
                    self._patches.enter_context(patch.object(home, name, self._in_place_of(name, function)))
        return self

    def __exit__(self, *error: object) -> None:
        self._patches.close()

    def _in_place_of(self, name: str, function: Callable) -> Callable:
        @wraps(function)
        def refusing(*args: Any, **kwargs: Any) -> Any:
            if self.on and (line := self._called_from()):
                raise Forbidden(name, line)
            return function(*args, **kwargs)

        return refusing

    def _called_from(self) -> int | None:
        frame: types.FrameType | None = sys._getframe(2)
        while frame and frame.f_code.co_filename.startswith((_TORCH, _HERE)):
            frame = frame.f_back
        return frame.f_lineno if frame and frame.f_code.co_filename == self.filename else None


def run(request: bytes, ask: Ask | None = None) -> Iterator[bytes]:
    """Try an answer on cases.

    Args:
        request: the message that says what is to be tried (see below).
        ask: sends a question about a table that is held elsewhere (see `autograder.held`), and gives the answer. None
            where every case brings its own.

    The request: ``exercise``, ``source`` of the answer (None: the stand-in), ``setup`` (source of the
    lesson's set-up cell), ``earlier`` (names it may use), ``own_pieces`` (use the student's), ``forbidden``,
    ``cases`` (each a message of its own with scenario and inputs), ``seconds``, ``output_bytes``.

    Yields:
        one ``definition`` message, one ``case`` message for each case tried (the ``observation`` in it is a message of
        its own), one ``end`` message.
    """
    asked = decode(request)
    sent, asked["cases"] = asked["cases"], [*map(opened, asked["cases"])]
    filename = f"<answer {asked['exercise']}>"
    source = asked["source"] or ""
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    replies: list[Tree] = []
    caught: list[warnings.WarningMessage] = []
    # An interrupt may arrive anywhere; whatever was being done, the replies so far and the end are sent.
    with unchanged_state(), my_model.only_before(asked["exercise"], asked["own_pieces"]), \
            _ForbiddenCalls(asked["forbidden"], filename) as refusal:  # fmt: skip
        began, answer = time.monotonic(), None
        with captured_output(asked["output_bytes"]) as output:
            ended: dict[str, Tree] = {"what": "end", "stopped": None}
            with time_limit(asked["seconds"]) as clock:
                try:
                    with warnings.catch_warnings(record=True) as caught:
                        warnings.simplefilter("default")
                        answer = _try_all(
                            asked, filename, replies, clock, _uninterrupted(ask) if ask else None, refusal
                        )
                except KeyboardInterrupt as interrupt:
                    ended["stopped"] = _place(interrupt, filename) | {"time_up": clock.expired}
        ended |= {
            "printed": {"text": output.text, "bytes": output.size, "lines": output.lines},
            "warned": [f"{w.category.__name__}: {_words(w.message)}"[:500] for w in caught[:MAX_WARNINGS]],
        }
        raised = {reply["index"]: reply["observation"]["raised"] for reply in replies
                  if reply["what"] == "case" and "raised" in reply["observation"]}  # fmt: skip
        if raised and not ended["stopped"]:
            left = asked["seconds"] - (time.monotonic() - began)
            _look_again(asked | {"cases": sent, "seconds": left}, filename, answer, raised, ask)
    for reply in (*replies, ended):
        yield _encoded_case(reply) if "observation" in reply else encode(reply)


def _encoded_case(reply: dict[str, Tree]) -> bytes:
    try:
        return encode(reply | {"observation": nested(reply["observation"])})
    except MessageError as error:
        what = f"a result that is too large or too deep to compare ({error})"
        return encode(reply | {"observation": nested({"value": {"$kind": what}})})


def _uninterrupted(ask: Ask) -> Ask:
    """Ask so that an interrupt waits for the answer: one in the middle would leave half a message on the way."""

    def asked(question: Tree) -> Tree:
        with torch._C.DisableTorchFunction():  # what is sent is no call of the answer's
            if threading.current_thread() is not threading.main_thread():
                return ask(question)
            came: list[int] = []
            handler = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
            try:
                return ask(question)
            finally:
                signal.signal(signal.SIGINT, handler)
                if came:
                    raise KeyboardInterrupt

    return asked


def _try_all(asked: Mapping[str, Any], filename: str, replies: list[Tree], clock: Clock, ask: Ask | None,
             refusal: _ForbiddenCalls) -> Any:  # fmt: skip
    """Have the answer defined, and try it on all cases; what is seen goes into ``replies``. Returns the answer."""
    name = asked["exercise"]
    namespace: dict[str, Any] = {"__name__": "answer", "__builtins__": builtins}
    exec(compile(asked["setup"], "<set-up cell>", "exec"), namespace)
    earlier = {other: my_model.get(other, own=asked["own_pieces"]) for other in asked["earlier"]}
    namespace |= earlier
    if asked["source"] is None:
        answer = my_model.stand_in(name)
        replies.append({"what": "definition", "kind": "stand-in"})
    else:
        namespace.pop(name, None)
        module = types.ModuleType("answer")
        module.__dict__.update(namespace)
        try:
            sys.modules["answer"] = module  # dataclasses look their module up
            exec(compile(asked["source"], filename, "exec"), module.__dict__)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            replies.append({"what": "definition", "kind": "raised"} | _problem(error, filename, None))
            return None
        finally:
            sys.modules.pop("answer", None)
        answer = module.__dict__.get(name)
        replies.append({"what": "definition"} | _looked_at(answer, name, filename, name in module.__dict__))
    stand_ins = _stand_ins(asked)
    refusal.on = True
    for index, case in enumerate(asked["cases"]):
        held = ask is not None and held_elsewhere(case["inputs"])
        if ask and held:
            case = {**case, "inputs": asking(case["inputs"], ask)}
        started = time.perf_counter()
        observation = _observed(answer, case, stand_ins, filename, _Watch() if held else None)
        seconds = time.perf_counter() - started
        if clock.expired:  # the answer swallowed the interrupt
            raise KeyboardInterrupt
        replies.append({"what": "case", "index": index, "observation": observation, "seconds": seconds})
    return answer


def _look_again(asked: Mapping[str, Any], filename: str, answer: Any, raised: Mapping[int, dict[str, Tree]],
                ask: Ask | None) -> None:  # fmt: skip
    """Try what has raised once more, and add to it in which torch call it did.

    Not where tables are held elsewhere: each question is counted there, so such a case was watched from the start.
    """
    with captured_output(0), time_limit(asked["seconds"]):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                stand_ins = _stand_ins(asked)
                for index, problem in raised.items():
                    case = opened(asked["cases"][index])  # the answer may have changed what it was given
                    if ask and held_elsewhere(case["inputs"]):
                        continue
                    again = _observed(answer, case, stand_ins, filename, _Watch()).get("raised", {})
                    if "operation" in again and all(again[key] == problem[key] for key in ("type", "line")):
                        problem |= {"operation": again["operation"], "shapes": again["shapes"]}
        except KeyboardInterrupt:
            pass  # what was raised is known all the same


def _stand_ins(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {other: my_model.get(other, own=False) for other in asked["earlier"]}


def _observed(answer: Any, case: Tree, stand_ins: Mapping[str, Any], filename: str, watch: _Watch | None) -> Tree:
    torch.default_generator.manual_seed(0)  # torch.manual_seed asks every kind of device, and takes 50 times as long
    try:
        with watch or nullcontext():
            return {"value": SCENARIOS[case["scenario"]](answer, case["inputs"], stand_ins)}
    except Forbidden as error:
        return {"forbidden": error.function, "line": error.line}
    except NotImplementedError as error:
        problem = _problem(error, filename, watch)
        # torch raises it too, for a missing forward or a dtype it cannot do
        own = traceback.extract_tb(error.__traceback__)[-1].filename == filename
        return {"unwritten": problem["line"]} if own else {"raised": problem}
    except NotAccepted as error:
        return {"not accepted": _words(error), "what": error.what}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: an answer must not end the check
        return {"raised": _problem(error, filename, watch)}


def _looked_at(answer: Any, name: str, filename: str, bound: bool) -> dict[str, Tree]:
    """The kind of thing the answer cell made, and its signature."""
    if not bound:
        return {"kind": "missing"}
    if inspect.isfunction(answer) and answer.__code__.co_filename == __file__:  # see _ForbiddenCalls
        answer = inspect.unwrap(answer)
    if inspect.isclass(answer):
        kind = "class" if answer.__module__ == "answer" else "library"
    elif inspect.isfunction(answer):
        inner = inspect.unwrap(answer)
        if answer.__name__ == "<lambda>":
            kind = "lambda"
        else:
            kind = "function" if inner.__code__.co_filename == filename else "library"
    elif isinstance(answer, (types.BuiltinFunctionType, types.MethodDescriptorType)) or inspect.ismethod(answer):
        kind = "library"
    else:
        kind = "partial" if type(answer).__name__ == "partial" else "other"
    found: dict[str, Tree] = {"kind": kind, "type": type(answer).__name__}
    if kind == "library":
        found["type"] = f"{getattr(answer, '__module__', '') or ''}.{getattr(answer, '__qualname__', name)}".strip(".")
    try:
        found["signature"] = _words(inspect.signature(answer))
    except (TypeError, ValueError):
        found["signature"] = ""
    return found


def _place(error: BaseException, filename: str) -> dict[str, Tree]:
    """The student's own line in which it happened, however deep below it the error was raised."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == filename]
    return {"line": own[-1].lineno if own else None, "text": (own[-1].line or "").strip() if own else ""}


def _problem(error: BaseException, filename: str, watch: _Watch | None) -> dict[str, Tree]:
    """What was raised, where, and, where a torch call raised it, in which and with which shapes."""
    place = _place(error, filename)
    if isinstance(error, SyntaxError):
        line, text = error.lineno, error.text  # which the answer may have raised itself, with anything in it
        place = {"line": line if type(line) is int else None, "text": text.strip() if type(text) is str else ""}
    problem: dict[str, Tree] = {"type": type(error).__name__, "message": _words(error)} | place
    if isinstance(error, NameError):
        problem["name"] = error.name if type(error.name) is str else ""
    if watch and watch.failed and watch.failed[0] is error:
        _, problem["operation"], problem["shapes"] = watch.failed
    return problem


def _words(thing: Any) -> str:
    """The beginning of its text, "" where it cannot be had: to make it may be code of the answer's."""
    try:
        return str(thing)[:2_000]
    except Exception:
        return ""
