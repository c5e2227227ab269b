"""The command line: ``crosstalk lab``, ``progress``, ``solution``, ``update``, ``report``, ``data``, and what
other packages add through the entry point ``crosstalk.commands``.

Heavy imports stand inside the commands: ``lab`` is to start at once.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Crosstalk: encoder-decoder models, built piece by piece.")  # fmt: skip


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    context: typer.Context,
    lesson: Annotated[str, typer.Option(help="Open this lesson (01, attention or 01-attention).")] = "",
) -> None:
    """Open JupyterLab at the first unfinished lesson. Further options go to JupyterLab."""
    from crosstalk.lab import start

    start(lesson, context.args)


@app.command()
def progress() -> None:
    """Show what you have done so far, as a table."""
    from crosstalk.progress_table import show

    show()


@app.command()
def solution(name: Annotated[str, typer.Argument(help="The exercise.")]) -> None:
    """Show a good solution of an exercise."""
    from autograder.solutions_shown import good_solutions
    from crosstalk.course import course

    course().find(name)
    found = good_solutions(name)
    typer.echo("\n\n".join(found) if found else f"This copy of the course carries no solution of {name}.")


@app.command()
def update() -> None:
    """Move your answers onto newer originals of the lessons; the old files are kept beside them."""
    from crosstalk.update import update_all

    for line in update_all():
        typer.echo(line)


@app.command()
def report(name: Annotated[str, typer.Argument(help="The exercise you are stuck on.")]) -> None:
    """Print a text to send to a teacher: your answer, the verdict, versions, nothing private."""
    from crosstalk.help_report import help_report

    typer.echo(help_report(name))


def complete(app: typer.Typer) -> None:
    """Add the commands that stand elsewhere: the data sets', and what other packages bring."""
    from crosstalk.data.commands import add_commands

    add_commands(app)
    for entry in sorted(entry_points(group="crosstalk.commands"), key=lambda found: found.name):
        entry.load()(app)


def main() -> None:
    """Run the CLI; what is wrong with the course or its files is told in one sentence."""
    from crosstalk.course import CourseError

    complete(app)
    try:
        app()
    except (CourseError, FileNotFoundError, PermissionError) as error:
        sys.exit(str(error))
