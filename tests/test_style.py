"""The code is as ruff and mypy want it; pyproject.toml holds their settings."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

COMMANDS = [
    "ruff check .",
    "ruff format --check .",
    "mypy",
    "mypy course.py tests/browsers.py",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_to_complain_about(command: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
    )
    assert run.returncode == 0, f"{command}\n{run.stdout}{run.stderr}"
