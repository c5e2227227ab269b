"""The zygote of a lesson. Apart from `autograder.grading.grader`, which loads torch: a zygote loads it meanwhile."""

from __future__ import annotations

from nbformat import NotebookNode

from autograder.sandbox import cgroups
from autograder.sandbox.pool import Layers, Zygote
from crosstalk.course import Lesson, course
from crosstalk.places import assets_folder, course_folder

MAX_PROCESSES = 64  # threads count


def new_slot() -> cgroups.Slot | None:
    """Control groups for the submissions that a grader tries, one after the other, where they can be had."""
    return cgroups.slot(course().limits.memory_mb * 2**20, MAX_PROCESSES)


def zygote_for(lesson: Lesson, released: NotebookNode, layers: Layers, slot: cgroups.Slot | None) -> Zygote:
    """A zygote that children can be forked from for answers to a lesson; it is not started."""
    setups = [cell.source for cell in released.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == "set-up"]
    return Zygote(
        stand_ins=course().earlier_exercises(lesson.exercises[-1].name),
        setup="\n".join(setups),
        readable=[course_folder() / "course.toml", assets_folder() / "data"],
        hidden=[assets_folder() / "packs", course_folder() / "lessons"],
        layers=layers,
        cgroup=slot.join_fds if slot else (),
        environment={"CROSSTALK_COURSE": str(course_folder())},
    )
