"""Where the packs of a lesson lie. Apart from `autograder.packs`, which loads torch to read them."""

from __future__ import annotations

import os
from pathlib import Path

from crosstalk.course import Lesson
from crosstalk.places import assets_folder


def visible_file(lesson: Lesson) -> Path:
    """The pack of a lesson that students have."""
    return assets_folder() / "packs" / f"{lesson.id}.safetensors"


def hidden_file(lesson: Lesson) -> Path | None:
    """The pack that a class keeps to itself, where ``CROSSTALK_HIDDEN_PACKS`` names its folder."""
    folder = os.environ.get("CROSSTALK_HIDDEN_PACKS")
    return Path(folder) / f"{lesson.id}.safetensors" if folder else None


def pack_files(lesson: Lesson) -> list[Path]:
    """The files by which a lesson's answers are judged."""
    return [path for path in (visible_file(lesson), hidden_file(lesson)) if path]
