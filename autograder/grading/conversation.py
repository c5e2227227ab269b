"""Have the answers of one submission tried by sandboxed children, and judge what these say.

First every answer on the visible cases, then the cells that an instructor has added, and only then every answer on the
hidden cases, in an order of this submission's own. What a child says after it has seen a hidden input decides what is
right, and reaches no feedback in words. Where a child ends before its time, that exercise is told so, and another
child goes on with the next.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from autograder.grading.cell_outputs import Shown, shown
from autograder.grading.results import Reason
from autograder.held import Held, lower_assurance, withheld
from autograder.judge import Said, decide, read, understood
from autograder.judging import request
from autograder.messages import Tree, encode
from autograder.packs import ExercisePack
from autograder.sandbox.cgroups import Slot
from autograder.sandbox.own_cells import OwnCell, cells_request
from autograder.sandbox.pool import Budget, Child, Ended, SandboxError, Zygote
from autograder.sandbox.wire import Closed, Late, TooMuch, WireError
from autograder.verdict import Verdict
from crosstalk.course import Lesson, course

GRACE_SECONDS = 5.0  # beside the exercise's own, for an answer that is interrupted to stop
MAX_REPLY_BYTES = 64 * 2**20  # of all that is said of one exercise in one round
MAX_QUESTIONS = 20_000  # to the tiny models of one exercise in one round
_KILLED = -9
_PARTS = ("fork", "walls", "ask", "cells", "judge")  # of the time that is waited for


class Fault(Exception):
    """What the answer did kept an exercise from being judged.

    Attributes:
        reason: with details, which a child chooses freely (its exit code, a length that it announces).
        undetailed: the same without them, for a child that has seen hidden inputs.
    """

    def __init__(self, kind: str, name: str, detail: str = "") -> None:
        super().__init__(kind)
        self.reason = Reason(kind, _STOPPED[kind].format(name=name, detail=detail))
        self.undetailed = Reason(kind, _STOPPED[kind].format(name=name, detail=""))


@dataclass
class Judged:
    """What came of one exercise."""

    verdict: Verdict
    reason: Reason | None = None
    lower_assurance: bool = False


@dataclass
class Talk:
    """One submission's turn with the sandbox.

    Args:
        lesson: whose answers come.
        packs: of each exercise, the visible one first.
        setup: the source of the set-up cell.
        zygote: that forks the children.
        seed: from which the order of hidden cases is drawn.
        slots: the control groups that children run in by turns, where there are some.
    """

    lesson: Lesson
    packs: Mapping[str, Sequence[ExercisePack]]
    setup: str
    zygote: Zygote
    seed: str
    slots: Sequence[Slot] = ()
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_PARTS, 0.0))
    _child: Child | None = None
    _killed_before: int = 0  # for lack of memory, in its slot, when the child was taken

    def judge(self, answers: Mapping[str, str], problems: Mapping[str, str], elsewhere: Mapping[str, frozenset[str]],
              own_cells: Sequence[OwnCell] = ()) -> tuple[dict[str, Judged], list[Shown]]:  # fmt: skip
        """Judge all answers, and run an instructor's own cells.

        Args:
            answers: the source of each answer cell by exercise.
            problems: why an exercise has no answer that can be tried.
            elsewhere: for each exercise the names that other cells bind.
            own_cells: of the whole notebook in order, answer cells among them, if the instructor has added cells.
        """
        try:
            return self._judge(answers, problems, elsewhere, own_cells)
        finally:
            self._drop()

    def _judge(self, answers: Mapping[str, str], problems: Mapping[str, str],
               elsewhere: Mapping[str, frozenset[str]],
               own_cells: Sequence[OwnCell]) -> tuple[dict[str, Judged], list[Shown]]:  # fmt: skip
        said: dict[str, Said] = {}
        faults: dict[str, Reason] = {}
        for name in self._tried(answers, problems):
            try:
                said[name] = self._asked(name, answers[name], [pack for pack in self.packs[name] if not pack.hidden])
            except Fault as fault:
                faults[name] = fault.reason
        outputs = self._own(own_cells)
        for name, of_visible in said.items():
            hidden = [pack for pack in self.packs[name] if pack.hidden]
            if not hidden or of_visible.end.get("stopped") or not of_visible.cases:
                continue
            try:
                of_hidden = self._asked(name, answers[name], hidden, random.Random(f"{self.seed} {name}"))
                if of_hidden.end.get("stopped"):
                    raise Fault("took too long", name)
                before = sum(len(pack.cases) for pack in self.packs[name] if not pack.hidden)
                of_visible.cases |= {before + index: seen for index, seen in of_hidden.cases.items()}
            except Fault as fault:
                faults[name] = fault.undetailed
        self._drop()
        found: dict[str, Judged] = {}
        for entry in self.lesson.exercises:
            name, most = entry.name, entry.points
            if name in faults:
                found[name] = Judged(Verdict(name, 0, most, problem=faults[name].sentence), faults[name])
            elif name not in said:
                found[name] = Judged(Verdict(name, 0, most, problem=problems.get(name, _NO_CELL.format(name=name))))
            else:
                found[name] = self._decided(name, most, said[name], elsewhere.get(name, frozenset()))
        return found, outputs

    def _tried(self, answers: Mapping[str, str], problems: Mapping[str, str]) -> list[str]:
        return [entry.name for entry in self.lesson.exercises if entry.name in answers and entry.name not in problems]

    def _decided(self, name: str, most: float, said: Said, elsewhere: frozenset[str]) -> Judged:
        packs = self.packs[name]
        began = time.perf_counter()
        try:
            verdict = decide(packs, said, most, elsewhere)
        except Exception as error:  # no honest runner says what cannot be compared
            reason = Fault("could not be judged", name, f" ({type(error).__name__})").reason
            return Judged(Verdict(name, 0, most, problem=reason.sentence), reason)
        finally:
            self.seconds["judge"] += time.perf_counter() - began
        # That nothing forbidden was called is also the child's word.
        lower = bool(packs[0].forbidden) or any(lower_assurance(case.scenario) for pack in packs for case in pack.cases)
        if lower:
            verdict.notes.append(_LOWER)
        return Judged(verdict, lower_assurance=lower)

    def _asked(self, name: str, source: str, packs: Sequence[ExercisePack],
               order: random.Random | None = None) -> Said:  # fmt: skip
        """What a child says of an answer on all cases of some packs; numbered as they stand there."""
        places = list(range(sum(len(pack.cases) for pack in packs)))
        if order:
            order.shuffle(places)
        all_cases = [case for pack in packs for case in pack.cases]
        cases = [all_cases[place] for place in places]
        entry = course().find(name)[1]
        seconds = entry.seconds or course().limits.seconds
        began = time.perf_counter()
        given, held = withheld(cases)
        asking = request(name, source, self.setup, packs, own_pieces=False, cases=given)
        self.seconds["ask"] += time.perf_counter() - began
        replies = self._replies(name, asking, seconds, held, len(cases) + 2)
        began = time.perf_counter()
        try:
            said = understood(replies, cases)
            said.cases = {places[index]: held.corrected(index, seen) for index, seen in said.cases.items()}
        except Exception as error:  # no honest runner says what cannot be understood
            raise Fault("could not be judged", name, f" ({type(error).__name__})") from None
        finally:
            self.seconds["judge"] += time.perf_counter() - began
        return said

    def _own(self, cells: Sequence[OwnCell]) -> list[Shown]:
        if not any(cell.counts for cell in cells):
            return []
        try:
            seconds = course().limits.seconds
            replies = self._replies("a cell", cells_request(cells, self.setup, seconds), seconds, None, len(cells) + 1)
        except Fault as fault:
            return shown(cells, [], fault.reason.sentence)
        return shown(cells, replies, "")

    def _replies(self, name: str, asking: bytes, seconds: float, held: Held | None, most: int) -> list[Tree]:
        """Ask the child, answer what it asks back, and return what it says, up to and with its end."""
        child = self._running()
        until = time.monotonic() + seconds + GRACE_SECONDS
        replies: list[Tree] = []
        left, questions = MAX_REPLY_BYTES, 0
        try:
            self._send(child, asking, until)
            while len(replies) < most:
                content = self._received(child, left, until)
                left -= len(content)
                began = time.perf_counter()
                message = read(content)
                if message.get("what") == "ask" and held is not None and questions < MAX_QUESTIONS:
                    questions += 1
                    answer = encode(held.answer(message))
                    self.seconds["judge"] += time.perf_counter() - began
                    self._send(child, answer, until)
                    continue
                replies.append(message)
                self.seconds["judge"] += time.perf_counter() - began
                if message.get("what") == "end":
                    return replies
            raise TooMuch("more was said than there are cases")
        except WireError as error:
            raise self._fault(name, error) from None

    def _send(self, child: Child, message: bytes, until: float) -> None:
        began = time.perf_counter()
        try:
            child.send(message, until)
        finally:
            self.seconds["cells"] += time.perf_counter() - began

    def _received(self, child: Child, most: int, until: float) -> bytes:
        began = time.perf_counter()
        try:
            return child.receive(most, until)
        finally:
            self.seconds["cells"] += time.perf_counter() - began

    def _fault(self, name: str, error: WireError) -> Fault:
        child, self._child = self._child, None
        assert child is not None
        ended = self.zygote.end(child, patience=3.0 if isinstance(error, Closed) else 0.0)
        match error:
            case Late():
                return Fault("took too long", name)
            case TooMuch():
                return Fault("said too much", name, f" ({error})")
        assert ended is not None  # there was a child
        if not ended.of_itself:
            return Fault("ended the process", name, " (it hung up)")
        if ended.status == _KILLED:
            return self._killed(name, child, ended)
        how = f" (signal {-ended.status})" if ended.status < 0 else f" (exit code {ended.status})"
        return Fault("ended the process", name, how)

    def _killed(self, name: str, child: Child, ended: Ended) -> Fault:
        """Why a child was killed, where the kernel did it for what the child had used.

        Raises:
            SandboxError: somebody outside did it, or the machine is short of memory. It was no other process of the
                submission: the child is the first of its namespace, which nobody in there can kill.
        """
        if ended.cpu_seconds >= self._budget.cpu_seconds:
            return Fault("took too long", name)
        slot = self.slots[child.place] if self.slots else None
        if slot and slot.out_of_memory_kills() > self._killed_before and slot.used_up():
            return Fault("was killed", name)
        if not self.zygote.layers.namespaces:
            return Fault("ended the process", name, " (signal 9)")
        raise SandboxError(f"The process that ran `{name}` was killed from outside. If the machine was short of "
                           "memory, use fewer workers.")  # fmt: skip

    def _running(self) -> Child:
        if self._child is None:
            began = time.perf_counter()
            if not self.zygote.has_forked_ahead:
                self._fork_ahead()
            self._child, walls = self.zygote.fork(self._budget)
            if self.slots:
                slot = self.slots[self._child.place]
                self._killed_before = slot.out_of_memory_kills()
                slot.forget_peak()
            if self.zygote.layers.namespaces:  # without them this one could reach the next
                with suppress(SandboxError, OSError):  # whoever needs the next child meets it again
                    self._fork_ahead()  # while this one works
            waited = time.perf_counter() - began
            self.seconds["walls"] += min(walls, waited)  # it may have been ready before it was needed
            self.seconds["fork"] += max(0.0, waited - walls)
        return self._child

    def _fork_ahead(self) -> None:
        # With a child of a process namespace all that it has started ends, before the next is forked.
        if self.slots and not self.zygote.layers.namespaces:
            self.slots[self.zygote.next_place].kill()
        self.zygote.fork_ahead(self._budget)

    @property
    def _budget(self) -> Budget:
        """What a child may use: one, and those that come for other submissions of the lesson."""
        limits = course().limits
        allowed = [entry.seconds or limits.seconds for entry in self.lesson.exercises]
        return Budget(2 * (sum(allowed) + limits.seconds), limits.memory_mb)

    def _drop(self) -> None:
        if self._child:
            self.zygote.drop(self._child)
            self._child = None


_LOWER = (
    "Of lower assurance: this was judged partly by what the process in which the answer ran said of itself (which "
    "functions it called, what reached the gradients)."
)
_STOPPED = {
    "took too long": "`{name}` did not come to an end in the time allowed, and did not stop when it was told to. Is "
    "there a loop that never stops?",
    "said too much": "`{name}` gave back far more than asked{detail}: return only what the exercise asks for.",
    "was killed": "The process that ran `{name}` was killed by the system, because it took more memory than a "
    "submission may.",
    "ended the process": "`{name}` ended the process it ran in{detail}, so it could not be judged: an answer returns "
    "its result, and leaves the process alone.",
    "could not be judged": "What your answer to `{name}` gave could not be judged{detail}. If you have done nothing "
    "out of the way, tell your instructor.",
}
_NO_CELL = "There is no answer to `{name}` in this notebook: its cell is missing."
