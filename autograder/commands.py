"""The autograder's commands of the `crosstalk` CLI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Add them (found by the entry point ``crosstalk.commands``)."""
    app.command("build")(build)
    app.command("classroom")(classroom)
    app.command("doctor")(doctor)
    app.command("grade")(grade)


def build(
    lesson: Annotated[list[str] | None, typer.Argument(help="Lessons to build; all that are ready if none.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only compare with what is there; write nothing.")] = False,
) -> None:
    """Build lessons/ and assets/packs/ from solutions/ and autograder/exercises/."""
    from autograder.build.run import BuildError, build_all, compare_all
    from crosstalk.course import course

    lessons = [course().lesson(name) for name in lesson] if lesson else course().ready
    try:
        if check:
            if stale := compare_all(lessons):
                typer.echo("\n".join(stale))
                raise typer.Exit(1)
            typer.echo(f"{len(lessons)} lessons are as their sources say.")
        else:
            for line in build_all(lessons):
                typer.echo(line)
    except BuildError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def classroom(
    folder: Annotated[Path, typer.Argument(help="The class's own folder, outside the course's.")],
    seed: Annotated[
        str, typer.Option(help="Draw hidden packs from these words of your own; keep them to yourself.")
    ] = "",
) -> None:
    """Make a folder in which nbgrader works, and the bundle that students get."""
    from autograder.classroom import ClassroomError
    from autograder.classroom import classroom as make

    try:
        for line in make(folder, seed):
            typer.echo(line)
    except ClassroomError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def doctor() -> None:
    """Try every layer of the sandbox out that `grade` needs on this machine."""
    from rich.console import Console

    from autograder.grading.told import show_layers
    from autograder.sandbox.layers import probe

    layers = probe()
    show_layers(layers, Console())
    if missing := [layer.name for layer in layers if layer.required and not layer.works]:
        typer.echo(f"`crosstalk grade` refuses to start here: missing are {', '.join(missing)}.")
        raise typer.Exit(1)
    typer.echo("`crosstalk grade` can start here.")


def grade(
    lesson: Annotated[str, typer.Argument(help="The lesson: 04-decoder, or 04.")],
    students: Annotated[list[str] | None, typer.Argument(help="Only these students; all if none.")] = None,
    folder: Annotated[Path, typer.Option(help="The class's folder, with nbgrader_config.py.")] = Path(),
    workers: Annotated[int, typer.Option(min=1, help="Processes that grade.")] = os.cpu_count() or 1,
    again: Annotated[bool, typer.Option("--again", help="Grade what is unchanged, too.")] = False,
    unsafe: Annotated[bool, typer.Option("--unsafe", help="Grade where layers of the sandbox are missing.")] = False,
) -> None:
    """Grade what students handed in: sandboxed, and into nbgrader's gradebook."""
    from autograder.grading import nursery

    nursery.begin()  # it takes as long as what is loaded here from now on
    from autograder.grading.command import GradingError, run

    try:
        complete = run(folder, lesson, students or None, workers, again, unsafe)
    except GradingError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if not complete:
        raise typer.Exit(1)
