"""What came of a check."""

from __future__ import annotations

from dataclasses import dataclass, field

from autograder.messages import Tree


@dataclass(frozen=True)
class CaseResult:
    """One case: right, or what differs and how to see it again."""

    title: str
    right: bool
    sentence: str = ""
    got: Tree = None
    expected: Tree = None
    shown: bool = False  # are got and expected to be shown side by side?
    reproduction: str = ""  # two lines to copy
    hidden: bool = False
    untried: bool = False  # no answer yet: neither right nor wrong


@dataclass(frozen=True)
class Verdict:
    """Points, cases, and at most one named misconception.

    Its text form is the number of points, which nbgrader reads as partial credit; its HTML form is the
    report that a person sees (`autograder.report`).
    """

    exercise: str
    points: float
    max_points: float
    cases: list[CaseResult] = field(default_factory=list)
    problem: str = ""  # why nothing could be tried, or counts
    named: str = ""  # the sentence of the misconception
    mistake: str = ""  # its name in the bank
    notes: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)  # what may come next: an offer, a hint
    solutions: list[str] = field(default_factory=list)  # after a pass: other right answers

    @property
    def passed(self) -> bool:
        """All cases right."""
        return not self.problem and bool(self.cases) and all(case.right for case in self.cases)

    def __repr__(self) -> str:
        return f"{self.points:g}"

    def _repr_html_(self) -> str:
        from autograder.report import html

        return html(self)

    def text(self) -> str:
        """The report as plain text."""
        from autograder.report import text

        return text(self)
