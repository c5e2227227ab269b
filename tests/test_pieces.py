"""The student's own model: what is kept, what is used, and what happens when a piece no longer holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autograder import packs
from autograder.judging import judge_source
from crosstalk import my_model, progress
from crosstalk.stand_ins import lesson_01

SETUP = "import math\n\nimport torch\nfrom torch import nn\n\nfrom autograder import check, hint, trace"
SOFTMAX = "def softmax(scores, dim=-1):\n    return torch.exp(scores - scores.logsumexp(dim, True))"
ATTENTION = """
def scaled_dot_product_attention(query, key, value):
    weights = softmax(query @ key.mT / math.sqrt(query.size(-1)))
    return weights @ value, weights
"""


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROSSTALK_WORK", str(tmp_path))
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    monkeypatch.setattr(my_model, "_loaded", {})
    monkeypatch.setattr(my_model, "_told", set())
    return tmp_path


def keep(name: str, source: str) -> None:
    my_model.keep(name, source, SETUP, packs.cases_hash(name))


def test_without_a_piece_there_is_the_stand_in(capsys: pytest.CaptureFixture[str]) -> None:
    from crosstalk.my_model import softmax

    assert softmax is lesson_01.softmax
    assert capsys.readouterr().out == "softmax: the stand-in, until yours has passed its check.\n"
    my_model.get("softmax")
    assert capsys.readouterr().out == ""  # told once


def test_a_piece_is_a_module_of_its_own(work: Path) -> None:
    keep("softmax", SOFTMAX)
    keep("scaled_dot_product_attention", ATTENTION)
    written = (work / "my_model" / "scaled_dot_product_attention.py").read_text()
    assert "import math\nimport torch\n" in written and "from crosstalk.my_model import softmax\n" in written
    assert "autograder" not in written
    namespace: dict = {}
    exec(written, namespace)
    output, _ = namespace["scaled_dot_product_attention"](*torch.ones(3, 2, 4))
    assert torch.equal(output, torch.ones(2, 4))


def test_the_piece_is_used() -> None:
    keep("softmax", SOFTMAX)
    assert my_model.is_own("softmax") and not my_model.is_own("split_heads")
    assert my_model.get("softmax").__code__.co_filename.endswith("softmax.py")
    assert my_model.get("softmax") is my_model.get("softmax")


def test_a_newer_piece_replaces_the_older() -> None:
    keep("softmax", SOFTMAX)
    first = my_model.get("softmax")
    keep("softmax", SOFTMAX.replace("dim, True", "dim, keepdim=True"))
    assert my_model.get("softmax") is not first


def test_an_answer_is_judged_with_the_students_own_pieces(work: Path) -> None:
    keep("softmax", SOFTMAX)
    path = work / "my_model" / "softmax.py"
    path.write_text(path.read_text() + "\nprint('my own softmax')\n")
    assert "my own softmax" in judge_source("scaled_dot_product_attention", ATTENTION, own_pieces=True).notes[0]
    assert judge_source("scaled_dot_product_attention", ATTENTION, own_pieces=False).notes == []


def test_nothing_is_kept_or_taken_when_graded(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep("softmax", SOFTMAX)
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    keep("split_heads", "def split_heads(states, heads): ...")
    progress.note_check("softmax", "x", 2, True)
    assert my_model.get("softmax") is lesson_01.softmax
    assert [path.name for path in work.rglob("*.py")] == ["softmax.py"] and not (work / "progress.json").exists()


def test_nothing_is_kept_in_tests(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CROSSTALK_WORK")
    assert not my_model.keeps_pieces()


def test_a_broken_piece_gives_the_stand_in(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep("softmax", SOFTMAX)
    path = work / "my_model" / "softmax.py"
    path.write_text(path.read_text() + "\n1 / 0\n")
    assert my_model.get("softmax") is lesson_01.softmax
    assert "because your piece cannot be loaded (ZeroDivisionError: division by zero)" in capsys.readouterr().out


def test_when_the_cases_change_the_piece_is_checked_again(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    my_model.keep("softmax", SOFTMAX, SETUP, "cases of last year")
    assert my_model.is_own("softmax")
    header = (work / "my_model" / "softmax.py").read_text().partition("\n")[0]
    assert header.endswith(packs.cases_hash("softmax"))


def test_a_piece_that_no_longer_passes_gives_the_stand_in(capsys: pytest.CaptureFixture[str]) -> None:
    my_model.keep("softmax", "def softmax(scores, dim=-1):\n    return scores", SETUP, "cases of last year")
    assert my_model.get("softmax") is lesson_01.softmax
    assert "your piece does not pass the cases of today" in capsys.readouterr().out


def test_unknown_names() -> None:
    with pytest.raises(ImportError):
        from crosstalk.my_model import nothing_of_ours  # noqa: F401


def test_progress_is_keyed_on_the_cases() -> None:
    assert progress.note_check("softmax", "old", 1, False).tries == 1
    assert progress.note_check("softmax", "old", 2, True).passed
    again = progress.note_check("softmax", "new", 0.5, False)
    assert (again.points, again.passed, again.tries) == (0.5, False, 1)


def test_unreadable_progress_is_kept_aside(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "progress.json").write_text("{half")
    assert progress.read() == {}
    assert (work / "progress.unreadable.json").read_text() == "{half"
    assert "is kept as progress.unreadable.json" in capsys.readouterr().out
