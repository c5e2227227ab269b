"""The syllabus: every topic of course.toml, and the lessons where it lives."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from crosstalk.course import Lesson, course


@dataclass(frozen=True)
class Syllabus:
    """A table of topics. A notebook draws it; its plain form is text."""

    homes: dict[str, list[Lesson]]

    def __repr__(self) -> str:
        width = max(map(len, self.homes))
        lines = [f"{topic:<{width}}  {', '.join(map(_place, lessons))}" for topic, lessons in self.homes.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        left = 'style="text-align:left"'
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left;font-weight:normal">{escape(topic)}</th>'
            f"<td {left}>{'<br>'.join(map(_html_place, lessons))}</td></tr>"
            for topic, lessons in self.homes.items()
        )
        head = f'<tr><th scope="col" {left}>Topic</th><th scope="col" {left}>Lessons</th></tr>'
        ready = sum(any(not lesson.planned for lesson in lessons) for lessons in self.homes.values())
        caption = f"{len(self.homes)} topics, {ready} of them in lessons that can be opened today"
        return (
            f'<table data-crosstalk-syllabus><caption style="text-align:left">{caption}</caption>'
            f"<thead>{head}</thead><tbody>{rows}</tbody></table>"
        )


def syllabus() -> Syllabus:
    """Every topic, in the order in which the lessons come to it, with the lessons where it lives."""
    homes: dict[str, list[Lesson]] = {}
    for lesson in course().lessons:
        for topic in lesson.topics:
            homes.setdefault(topic, []).append(lesson)
    return Syllabus(homes)


def _place(lesson: Lesson) -> str:
    return f"{lesson.id} (planned)" if lesson.planned else lesson.id


def _html_place(lesson: Lesson) -> str:
    title = f"{lesson.id[:2]} {escape(lesson.title)}"
    return f"<em>{title} (planned)</em>" if lesson.planned else f"<strong>{title}</strong>"
