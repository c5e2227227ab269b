"""The autograder's commands of the `crosstalk` CLI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Add them (found by the entry point ``crosstalk.commands``)."""
    app.command("build")(build)
    app.command("classroom")(classroom)


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
