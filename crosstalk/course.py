"""course.toml as typed objects: the one description of lessons, exercises, points and limits."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

import tomllib
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from crosstalk.places import course_folder

Part = Literal["embedding", "positions", "mask", "attention", "heads", "feed-forward", "norm", "encoder",
               "cross-attention", "decoder", "loss", "decoding"]  # fmt: skip


class CourseError(ValueError):
    """course.toml is wrong; the message names the key and what is allowed."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Table):
    """What one check may cost."""

    seconds: Annotated[float, Field(gt=0, le=600)] = 20.0
    output_bytes: Annotated[int, Field(ge=0, le=1_000_000)] = 20_000
    memory_mb: Annotated[int, Field(ge=256, le=65_536)] = 4_096


class Late(_Table):
    """What a late submission loses."""

    grace_minutes: Annotated[int, Field(ge=0)] = 0
    percent_per_day: Annotated[float, Field(ge=0, le=100)] = 0
    lowest_percent: Annotated[float, Field(ge=0, le=100)] = 0


class DataSet(_Table):
    """A data set under assets/data."""

    title: str
    folder: str
    licence: str


class ExerciseEntry(_Table):
    """How much one exercise counts, and where it stands in the model."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    points: Annotated[float, Field(gt=0, le=100)]
    minutes: Annotated[int, Field(gt=0, le=600)]
    difficulty: Annotated[int, Field(ge=1, le=5)]
    importance: Annotated[int, Field(ge=1, le=5)]
    part: Part
    main: bool = False
    seconds: Annotated[float, Field(gt=0, le=600)] | None = None


class Lesson(_Table):
    """One lesson, with its exercises in the order in which they are written."""

    id: Annotated[str, Field(pattern=r"^[0-9][0-9]-[a-z0-9-]+$")]
    title: str
    summary: str
    minutes: Annotated[int, Field(gt=0, le=600)]
    topics: list[str]
    prerequisites: list[str]
    data: list[str]
    planned: bool = False
    exercises: list[ExerciseEntry] = []

    @property
    def number(self) -> int:
        """The number in front of the id: 1 for ``01-attention``."""
        return int(self.id[:2])

    @property
    def name(self) -> str:
        """The id without its number: ``attention``, also the notebook's name."""
        return self.id[3:]

    @property
    def points(self) -> float:
        """What all exercises of the lesson count together."""
        return sum(exercise.points for exercise in self.exercises)

    @property
    def notebook(self) -> str:
        """Where the notebook stands below ``lessons/`` and ``work/``: ``01-attention/attention.ipynb``."""
        return f"{self.id}/{self.name}.ipynb"


class Course(_Table):
    """The whole of course.toml."""

    title: str
    subtitle: str = ""
    limits: Limits = Limits()
    late: Late = Late()
    data: dict[str, DataSet] = {}
    lessons: Annotated[list[Lesson], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        seen_lessons: list[str] = []
        seen_exercises: set[str] = set()
        for lesson in self.lessons:
            where = f"lesson {lesson.id}"
            if lesson.id in seen_lessons:
                raise ValueError(f"{where}: this id stands twice; each lesson needs its own")
            if seen_lessons and lesson.id < seen_lessons[-1]:
                raise ValueError(f"{where}: lessons stand in the order of their numbers, it comes too late")
            for earlier in lesson.prerequisites:
                if earlier not in seen_lessons:
                    raise ValueError(
                        f"{where}: prerequisites names {earlier!r}; allowed are earlier lessons: "
                        f"{', '.join(seen_lessons) or 'none before the first'}"
                    )
            for name in lesson.data:
                if name not in self.data:
                    raise ValueError(f"{where}: data names {name!r}; allowed are {', '.join(self.data) or 'none'}")
            if lesson.planned and lesson.exercises:
                raise ValueError(f"{where}: a planned lesson has no exercises yet; take out planned = true")
            for exercise in lesson.exercises:
                if exercise.name in seen_exercises:
                    raise ValueError(f"{where}: exercise {exercise.name!r} stands twice in the course")
                seen_exercises.add(exercise.name)
            seen_lessons.append(lesson.id)
        return self

    @property
    def ready(self) -> list[Lesson]:
        """The lessons that can be opened, in order."""
        return [lesson for lesson in self.lessons if not lesson.planned]

    @property
    def exercises(self) -> list[str]:
        """The names of all exercises, in order."""
        return [exercise.name for lesson in self.lessons for exercise in lesson.exercises]

    def lesson(self, lesson_id: str) -> Lesson:
        """The lesson of that id (``01-attention``), number (``01``) or name (``attention``).

        Raises:
            CourseError: there is none; the message lists those there are.
        """
        for lesson in self.lessons:
            if lesson_id in (lesson.id, lesson.id[:2], lesson.name):
                return lesson
        raise CourseError(
            f"There is no lesson {lesson_id!r}. There are: {', '.join(lesson.id for lesson in self.lessons)}."
        )

    def find(self, exercise: str) -> tuple[Lesson, ExerciseEntry]:
        """The lesson of an exercise, and its entry.

        Raises:
            CourseError: there is none; the message lists those there are.
        """
        for lesson in self.lessons:
            for entry in lesson.exercises:
                if entry.name == exercise:
                    return lesson, entry
        raise CourseError(f"There is no exercise {exercise!r}. There are: {', '.join(self.exercises)}.")

    def earlier_exercises(self, exercise: str) -> list[str]:
        """The exercises that come before this one, which its answer may use."""
        self.find(exercise)
        return self.exercises[: self.exercises.index(exercise)]


def _sentences(error: ValidationError, data: object) -> str:
    lines = []
    for problem in error.errors():
        where = data
        path = ""
        for step in problem["loc"]:
            if isinstance(step, int):
                where = where[step] if isinstance(where, list) and step < len(where) else None
                named = isinstance(where, dict) and (where.get("id") or where.get("name"))
                path += f"[{named or step}]"
            else:
                where = where.get(step) if isinstance(where, dict) else None
                path += f".{step}" if path else step
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "there is no such key here; take it out or mend its spelling"
        elif problem["type"] == "missing":
            message = "this key is missing"
        given = problem["input"]
        shown = f" (it is {given!r})" if isinstance(given, str | int | float | bool) else ""
        lines.append(f"{path or 'course.toml'}: {message}{shown}")
    return "\n".join(lines)


def read_course(path: Path) -> Course:
    """Read and check one course.toml.

    Raises:
        CourseError: it is not TOML or does not fit; one line per key, with what is allowed.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise CourseError(f"course.toml is not TOML: {error}") from None
    try:
        return Course.model_validate(data)
    except ValidationError as error:
        raise CourseError("course.toml does not fit:\n" + _sentences(error, data)) from None


@cache
def _read_once(path: Path, changed: int) -> Course:
    return read_course(path)


def course() -> Course:
    """The course that the working directory belongs to (see `crosstalk.places.course_folder`)."""
    path = course_folder() / "course.toml"
    return _read_once(path, path.stat().st_mtime_ns)
