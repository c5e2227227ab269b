"""The autograder's commands of the `crosstalk` CLI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Add them (found by the entry point ``crosstalk.commands``)."""
    app.command("build")(build)


def build(
    lesson: Annotated[list[str] | None, typer.Argument(help="Lessons to build; all that are ready if none.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only compare with what is there; write nothing.")] = False,
    hidden: Annotated[Path | None, typer.Option(help="Write hidden packs to this folder, drawn from --seed.")] = None,
    seed: Annotated[str, typer.Option(help="The class's own seed for hidden packs; keep it to yourself.")] = "",
) -> None:
    """Build lessons/ and assets/packs/ from solutions/ and autograder/exercises/."""
    from autograder.build.run import BuildError, build_all, compare_all, freeze_hidden
    from crosstalk.course import course

    lessons = [course().lesson(name) for name in lesson] if lesson else course().ready
    try:
        if hidden:
            for line in freeze_hidden(lessons, hidden, seed):
                typer.echo(line)
        elif check:
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
