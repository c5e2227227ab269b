"""The zygote of a lesson. Apart from `autograder.grading.grader`, which loads torch: a zygote loads it meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from nbformat import NotebookNode

from autograder.sandbox import cgroups
from autograder.sandbox.pool import PLACES, Layers, Zygote
from crosstalk.course import Lesson, course
from crosstalk.places import assets_folder, course_folder

MAX_PROCESSES = 64  # threads count


def new_slots() -> list[cgroups.Slot]:
    """Control groups for what a grader tries, and for what it tries next; none where they cannot be had."""
    found: list[cgroups.Slot] = []
    while len(found) < PLACES:
        slot = cgroups.slot(course().limits.memory_mb * 2**20, MAX_PROCESSES)
        if slot is None:
            for made in found:
                made.close()
            return []
        found.append(slot)
    return found


def zygote_for(lesson: Lesson, released: NotebookNode, layers: Layers, slots: Sequence[cgroups.Slot]) -> Zygote:
    """A zygote that children can be forked from for answers to a lesson; it is not started."""
    setups = [cell.source for cell in released.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == "set-up"]
    return Zygote(
        stand_ins=course().earlier_exercises(lesson.exercises[-1].name),
        setup="\n".join(setups),
        readable=[course_folder() / "course.toml", assets_folder() / "data"],
        hidden=[assets_folder() / "packs", course_folder() / "lessons"],
        layers=layers,
        cgroups=[slot.join_fds for slot in slots] or [()] * PLACES,
        environment={"CROSSTALK_COURSE": str(course_folder())},
    )
