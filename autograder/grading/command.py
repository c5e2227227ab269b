"""``crosstalk grade``, from the class's folder to the table at the end."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from autograder.grading.class_folder import ClassError, course_directory, released
from autograder.grading.gradebook import Writer
from autograder.grading.journal import JournalError
from autograder.grading.lock import BusyError
from autograder.grading.run import Options, grade
from autograder.grading.told import Bar, show_report
from autograder.sandbox.layers import Layer, probe
from autograder.sandbox.pool import Layers, StartError
from crosstalk.course import CourseError, course


class GradingError(RuntimeError):
    """Nothing can be graded; the message says what to do."""


def run(folder: Path, lesson: str, students: list[str] | None, workers: int, again: bool, unsafe: bool) -> bool:
    """Grade a class's submissions of a lesson, and show what came of it.

    Returns:
        Whether everything that was handed in is graded now.

    Raises:
        GradingError: the folder, the lesson, the gradebook or the sandbox is not as it must be.
    """
    layers, missing = sandbox_of(probe(), unsafe)
    try:
        chosen = course().lesson(lesson)
        coursedir = course_directory(folder)
        notebook = released(coursedir, chosen.id)
        submitted = Path(coursedir.root, coursedir.submitted_directory)
        if not submitted.is_dir():
            raise GradingError(f"There is no folder {submitted}: put submissions into it as STUDENT/{chosen.id}/"
                               f"{chosen.name}.ipynb, or collect them with nbgrader.")  # fmt: skip
        console = Console()
        if missing:
            console.print(f"[bold]UNSAFE[/bold]: {missing}")
        options = Options(students, workers, layers, missing, again)
        with Writer(coursedir) as writer, Bar(console) as bar:
            report = grade(Path(coursedir.root), submitted, chosen, notebook, writer, options, bar.tell)
    except (BusyError, ClassError, CourseError, JournalError) as error:
        raise GradingError(str(error)) from None
    except StartError as error:
        raise GradingError(f"The sandbox cannot be started here, so nothing was graded: see what `crosstalk doctor` "
                           f"says. {error}") from None  # fmt: skip
    except OSError as error:
        raise GradingError(f"{folder.absolute()} cannot be read or written now ({error}): see that there is space left "
                           "and that its files are yours; then run the same command again. What was graded until now "
                           "is not lost.") from error  # fmt: skip
    show_report(report, console)
    return not report.failures and not report.unwritten and not report.stopped


def sandbox_of(layers: list[Layer], unsafe: bool) -> tuple[Layers, str]:
    """Which layers to use, and a sentence on those that are missing."""
    missing = [layer.name for layer in layers if layer.required and not layer.works]
    if not missing:
        return Layers(), ""
    named = ", ".join(missing)
    if not unsafe:
        raise GradingError(
            f"The sandbox is not whole here: missing are {named}. `crosstalk doctor` says what to do. Student code "
            "could read or change what it should not, so nothing was graded; `--unsafe` grades all the same, and "
            "every result says so."
        )
    whole = not any(name for name in missing if name not in ("seccomp", "limits", "no new privileges"))
    return (Layers(namespaces=whole, seccomp="seccomp" not in missing),
            f"Graded with --unsafe, where these layers of the sandbox were missing: {named}.")  # fmt: skip
