"""What the student has done so far: a table for the terminal, a picture for the notebook."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from crosstalk import my_model, progress
from crosstalk.course import ExerciseEntry, Lesson, course
from crosstalk.signs import OWN_COLOUR, own_sign

_WIDTH, _ROW = 624, 62


@dataclass(frozen=True)
class Standing:
    """One exercise as it stands: what the course says of it, what is noted, and whether its piece is in use."""

    entry: ExerciseEntry
    noted: progress.Progress
    own: bool

    @property
    def points(self) -> float:
        """The best points so far, never more than there are (course.toml may have changed since)."""
        return min(self.noted.points, self.entry.points)

    @property
    def words(self) -> str:
        """Passed, tried, or not."""
        if self.noted.passed:
            return "✓ passed"
        if self.noted.tries:
            return f"{self.noted.tries} {'try' if self.noted.tries == 1 else 'tries'} so far"
        return "not tried yet"


def standings() -> list[tuple[Lesson, list[Standing]]]:
    """Every lesson that can be opened, with how each of its exercises stands."""
    noted = progress.read()
    return [
        (
            lesson,
            [Standing(entry, noted.get(entry.name, progress.Progress()), my_model.is_own(entry.name))
             for entry in lesson.exercises],
        )
        for lesson in course().ready
    ]  # fmt: skip


def show() -> None:
    """Print the table, as ``crosstalk progress`` does."""
    from rich.console import Console
    from rich.table import Table

    rows = standings()
    table = Table(title=course().title, caption=_summary(rows), caption_justify="left")
    for name, justify in (("exercise", "left"), ("points", "right"), ("checked", "left"), ("in use", "left")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for lesson, exercises in rows:
        table.add_row(f"[bold]{lesson.id}[/bold]", f"{sum(each.points for each in exercises):g} of {lesson.points:g}")
        for each in exercises:
            table.add_row(
                f"  {each.entry.name}",
                f"{each.points:g} of {each.entry.points:g}",
                each.words,
                "your piece" if each.own else "stand-in",
            )
        table.add_section()
    Console().print(table)


class ProgressPicture:
    """A bar for each lesson. A notebook draws it; its plain form is text."""

    def __init__(self, rows: list[tuple[Lesson, list[Standing]]]) -> None:
        self.rows = rows

    def __repr__(self) -> str:
        lines = []
        for lesson, exercises in self.rows:
            lines.append(_head(lesson, exercises))
            lines += [f"  {each.entry.name}: {each.words}" for each in exercises]
        return "\n".join([*lines, _summary(self.rows)])

    def svg(self) -> str:
        """The picture, without script or style sheet; its colours fit a light and a dark page."""
        height = _ROW * len(self.rows)
        bars = "".join(_bar(lesson, exercises, _ROW * index) for index, (lesson, exercises) in enumerate(self.rows))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
            'aria-labelledby="crosstalk-progress-title crosstalk-progress-about" fill="none" '
            'stroke="currentColor" style="display:block;width:100%;height:auto;font-family:system-ui,sans-serif">'
            '<title id="crosstalk-progress-title">Your progress</title>'
            f'<desc id="crosstalk-progress-about">{escape(repr(self))}</desc>{bars}</svg>'
        )

    def _repr_html_(self) -> str:
        return (
            '<figure style="margin:0;max-width:640px;color:var(--jp-content-font-color1,inherit)" '
            f"data-crosstalk-progress>{self.svg()}"
            '<figcaption style="font-family:var(--jp-content-font-family,system-ui,sans-serif)">'
            f"{escape(_summary(self.rows))}</figcaption></figure>"
        )


def progress_picture() -> ProgressPicture:
    """The picture of what the student has done so far."""
    return ProgressPicture(standings())


def _head(lesson: Lesson, exercises: list[Standing]) -> str:
    return f"{lesson.id[:2]} {lesson.title}: {sum(each.points for each in exercises):g} of {lesson.points:g} points"


def _summary(rows: list[tuple[Lesson, list[Standing]]]) -> str:
    every = [(lesson, each) for lesson, exercises in rows for each in exercises]
    passed = sum(each.noted.passed for _, each in every)
    points = sum(each.points for _, each in every)
    said = (
        f"{passed} of {len(every)} exercises passed, {points:g} of {sum(each.entry.points for _, each in every):g} "
        "points."
    )
    for lesson, each in every:
        if not each.noted.passed:
            return f"{said} Next: {each.entry.name}, in {lesson.id}."
    return f"{said} All of them."


def _bar(lesson: Lesson, exercises: list[Standing], top: float) -> str:
    """One lesson: its name, and a box for each exercise, as wide as it has points and as full as they are won."""
    parts = [
        f'<text x="2" y="{top + 18}" font-size="17" fill="currentColor" stroke="none">'
        f"{escape(_head(lesson, exercises))}</text>"
    ]
    left, each_point = 2.0, (_WIDTH - 4) / (lesson.points or 1)
    for each in exercises:
        width = each.entry.points * each_point
        at = f'x="{left + 2:g}" y="{top + 26:g}" height="24" rx="4"'
        inside = ""
        if each.points:
            share = each.points / each.entry.points
            inside += (
                f'<rect {at} width="{(width - 4) * share:g}" fill="{OWN_COLOUR}" fill-opacity=".3" stroke="none"/>'
            )
        dashes = "" if each.noted.passed or each.noted.tries else ' stroke-dasharray="3 3"'
        inside += f'<rect {at} width="{width - 4:g}" stroke-opacity=".7"{dashes}/>'
        inside += own_sign(left + width / 2, top + 38) if each.noted.passed else ""
        parts.append(f"<g><title>{escape(f'{each.entry.name}: {each.words}')}</title>{inside}</g>")
        left += width
    return "".join(parts)
