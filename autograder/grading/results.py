"""What comes of grading one submission, as plain data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Reason:
    """Why something of a submission does not count as it was handed in."""

    kind: str  # short, for the table: "too large", "duplicate cell", …
    sentence: str  # for student and instructor: what happened and what to do


@dataclass(frozen=True)
class CellResult:
    """What came of one graded cell."""

    grade_id: str
    points: float | None  # None: waits for a person
    max_points: float
    text: str  # its plain-text result: of a check the points, which nbgrader reads
    html: str = ""  # the report
    named: str = ""  # the misconception, by its name in the bank
    lower_assurance: bool = False  # judged by what the student's own process said of itself


@dataclass(frozen=True)
class Graded:
    """All that came of one submission."""

    student: str
    lesson: str
    key: str  # by which the journal knows it
    timestamp: str  # when it was handed in, or ""
    cells: list[CellResult]
    reasons: list[Reason]
    notebook: str  # the autograded notebook's text
    seconds: dict[str, float] = field(default_factory=dict)  # where the time went
    assurance: str = ""  # "": every layer of the sandbox stood; else a sentence that names what was missing

    @property
    def points(self) -> float:
        """The sum of what is known."""
        return sum(cell.points or 0.0 for cell in self.cells)

    def to_json(self) -> str:
        """As text, for the journal."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Graded:
        """The inverse of `to_json`."""
        plain = json.loads(text)
        cells = [CellResult(**cell) for cell in plain.pop("cells")]
        reasons = [Reason(**reason) for reason in plain.pop("reasons")]
        return cls(**plain, cells=cells, reasons=reasons)
