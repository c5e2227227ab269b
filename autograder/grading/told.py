"""What ``crosstalk grade`` and ``crosstalk doctor`` show: a bar while it works, and tables at the end."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from autograder.grading.run import Report, Timing
from autograder.sandbox.layers import Layer

_SLOWEST = 5


class Bar:
    """A bar with rate and time left, as a context; its `tell` is what `autograder.grading.run.grade` calls."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("graded"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self._task = self._progress.add_task("graded", total=None, rate="")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, report: Report) -> None:
        """Move on."""
        done = report.done
        elapsed = self._progress.tasks[0].elapsed or 0.0
        rate = f"{done / elapsed:.1f}/s" if done and elapsed else ""
        self._progress.update(self._task, completed=done, total=report.to_grade, rate=rate)


def show_report(report: Report, console: Console) -> None:
    """What was graded, why some of it does not count, and which took longest."""
    table = Table("what", "submissions", show_header=True)
    table.add_row("graded", str(len(report.graded)))
    table.add_row("unchanged since they were graded", str(report.unchanged))
    for kind, count in report.reasons().most_common():
        table.add_row(f"noted: {kind}", str(count))
    if report.failures:
        table.add_row("[bold]not graded, through no fault of theirs[/bold]", str(len(report.failures)))
    if report.unwritten:
        table.add_row("[bold]graded, and not taken by the gradebook[/bold]", str(len(report.unwritten)))
    console.print(table)
    if report.stopped:
        console.print(f"Stopped when {report.done} of {report.to_grade} were through: what is graded is written, and "
                      "the same command again grades the rest.", highlight=False)  # fmt: skip
    _show_notes(report, console)
    if report.graded:
        _show_slowest(report.graded, console)


def _show_notes(report: Report, console: Console) -> None:
    for student, reasons in report.noted.items():
        for reason in reasons:
            console.print(f"{student}: {reason.sentence}", markup=False, highlight=False)
    for submission in report.refused:
        for reason in submission.reasons:
            console.print(f"{submission.student}: {reason.sentence}", markup=False, highlight=False)
    for outcome in report.failures:
        console.print(f"{outcome.student}: not graded ({outcome.failure}); run the same command again.",
                      markup=False, highlight=False)  # fmt: skip
    for student, why in report.unwritten.items():
        console.print(f"{student}: {why}", markup=False, highlight=False)


def _show_slowest(graded: Sequence[Timing], console: Console) -> None:
    table = Table("slowest", "seconds", "of which the student's code")
    for each in sorted(graded, key=lambda each: -each.total)[:_SLOWEST]:
        table.add_row(each.student, f"{each.total:.2f}", f"{each.cells:.2f}")
    table.add_row("[dim]median of all[/dim]", f"{median(each.total for each in graded):.2f}", "")
    console.print(table)


def show_layers(layers: Sequence[Layer], console: Console) -> None:
    """One line for each layer of the sandbox."""
    table = Table("layer", "here", "what it does, or what to do")
    for layer in layers:
        here = "yes" if layer.works else "MISSING" if layer.required else "no"
        table.add_row(layer.name, here, layer.told)
    console.print(table)
