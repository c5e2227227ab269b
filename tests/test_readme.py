"""README says what is there: its lessons are those of course.toml, its commands and links exist."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from crosstalk.cli import app, complete
from crosstalk.course import course
from crosstalk.places import course_folder

README = (course_folder() / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("lesson", course().ready, ids=lambda lesson: lesson.id)
def test_lessons_are_those_of_course_toml(lesson) -> None:  # type: ignore[no-untyped-def]
    names = ", ".join(f"**`{e.name}`**" if e.main else f"`{e.name}`" for e in lesson.exercises)
    assert f"| {lesson.number:02d} {lesson.title} | {lesson.minutes} | {names} |" in README


def test_no_other_lesson_is_claimed() -> None:
    assert len(re.findall(r"^\| \d\d [A-Z]", README, re.MULTILINE)) == len(course().ready)


def test_links_and_folders_exist() -> None:
    for place in re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r"^\| `([a-z]+/)`", README, re.MULTILINE):
        assert (course_folder() / place).exists(), place
    for place in re.findall(r"`((?:assets|tests|benchmarks|crosstalk|autograder)/[\w/.-]+\.\w+)`", README):
        assert "NN" in place or (course_folder() / place).is_file(), place


def test_commands_exist() -> None:
    complete(app)
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups}
    words = re.findall(r"python course\.py ([a-z]+)", README) + re.findall(r"^\| `([a-z]+)[ `]", README, re.MULTILINE)
    assert set(words) - {"test"} <= known
    for word in set(words) - {"test"}:
        assert CliRunner().invoke(app, [word, "--help"]).exit_code == 0
