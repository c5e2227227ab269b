"""The report that a person sees, the text to send to a teacher, hints and traces."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from autograder import check, hint, trace
from autograder.judging import judge_source
from autograder.report import beside, shown
from autograder.verdict import Verdict
from crosstalk.course import course
from crosstalk.help_report import NoAnswer, help_report

WRONG = "def softmax(scores, dim=-1):\n    e = torch.exp(scores)\n    return e / e.sum(dim=dim, keepdim=True)\n"
RIGHT = "def softmax(scores, dim=-1):\n    return torch.exp(scores - scores.logsumexp(dim, True))\n"
BROKEN = "def softmax(scores, dim=-1):\n    return scores * 2\n"


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("CROSSTALK_WORK", str(tmp_path))
    config = Config()
    config.HistoryManager.hist_file = ":memory:"
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance(config=config)
    InteractiveShell.clear_instance()


def test_text_form_is_the_points() -> None:
    assert repr(judge_source("softmax", RIGHT)) == "2"
    verdict = judge_source("softmax", WRONG)
    right = [case.right for case in verdict.cases]
    assert not all(right)
    assert float(repr(verdict)) == verdict.points == round(2 * sum(right) / len(right), 2)


def test_text_names_the_mistake_and_shows_each_failing_case() -> None:
    verdict = judge_source("softmax", BROKEN)
    text = verdict.text()
    wrong = [case for case in verdict.cases if not case.right]
    assert len(wrong) > 3
    assert text.count("    yours:\n") == text.count("    expected:\n") == sum(case.shown for case in wrong)
    for case in wrong:
        assert case.reproduction.splitlines()[0] in text


def test_html_tells_it_in_words_and_escapes_what_students_write() -> None:
    nasty = RIGHT.replace("    return", "    print('<script>alert(1)</script>')\n    return")
    html = judge_source("softmax", nasty)._repr_html_()
    assert "<script" not in html and "&lt;script&gt;" in html
    html = judge_source("softmax", WRONG)._repr_html_()
    assert "<strong>wrong</strong>: rows of very different size" in html and "exp overflows" in html
    assert html.count("<details open>") == 1
    assert html.count("<div") == html.count("</div>") and html.count("<details") == html.count("</details>")


VALUES = [torch.zeros(0, 3), torch.tensor(1.5), torch.ones(2, dtype=torch.bool), torch.zeros(5, 4, 3, 40), None, "x"]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_every_result_can_be_shown(value: object) -> None:
    assert shown(value)
    assert all(beside(value, other) and beside(other, value) for other in VALUES)


def test_the_matrix_that_differs_is_shown() -> None:
    expected = torch.zeros(3, 4, 5, 6)
    got = expected.clone()
    got[2, 1, 4, 0] = 7
    yours, _ = beside(got, expected)
    assert "here [2, 1]:" in yours and "7.0000" in yours


def test_offer_after_three_tries_and_solutions_after_a_pass(shell: InteractiveShell) -> None:
    shell.run_cell(WRONG, store_history=True)
    assert not any("You can leave it for now" in line for line in check("softmax").after)
    check("softmax")
    assert any("You can leave it for now" in line for line in check("softmax").after)
    shell.run_cell(RIGHT, store_history=True)
    verdict = check("softmax")
    assert verdict.passed and "now a piece of your own model" in verdict.after[0]
    assert 1 <= len(verdict.solutions) <= 2 and all("def softmax" in solution for solution in verdict.solutions)


def test_where_a_stand_in_would_be_the_answer_none_is_offered(shell: InteractiveShell) -> None:
    shell.run_cell('def diagnoses(patient):\n    return {"B": "torn pairs"}.get(patient)', store_history=True)
    told = [line for _ in range(4) for line in check("diagnoses").after]
    assert told and not any("leave it for now" in line or "my_model" in line for line in told)


def test_what_has_no_answer_yet_is_not_called_wrong() -> None:
    answer = 'def diagnoses(patient):\n    return {"A": "end token ignored", "B": "torn pairs"}.get(patient)\n'
    verdict = judge_source("diagnoses", answer)
    text, html = verdict.text(), verdict._repr_html_()
    assert [line for line in text.splitlines() if line.startswith("  wrong")] == ["  wrong: patient B"]
    assert text.count("  not yet: patient ") == 4 and "There is no answer" not in text
    assert html.count("<strong>wrong</strong>") == 1
    assert "<p>Right: patient A.</p><p>Not yet: patient C; patient D; patient E; patient F.</p>" in html


def test_a_check_without_an_answer_is_no_try(shell: InteractiveShell) -> None:
    from crosstalk import progress

    assert check("softmax").problem.startswith("`softmax` is not defined yet")
    shell.run_cell("def softmax(scores, dim=-1):\n    raise NotImplementedError", store_history=True)
    assert "not written yet" in check("softmax").problem
    assert progress.read() == {}


def test_unknown_exercise(shell: InteractiveShell) -> None:
    assert "There is no exercise 'sofmax'" in check("sofmax").problem
    assert "There is no exercise 'sofmax'" in repr(hint("sofmax"))


def test_hints_come_one_at_a_time(shell: InteractiveShell) -> None:
    told = [repr(hint("softmax")) for _ in range(5)]
    assert [line.partition(":")[0] for line in told[:3]] == ["Hint 1 of 3", "Hint 2 of 3", "Hint 3 of 3"]
    assert told[3:] == [f"You have seen them all; here they are again. {told[0]}", told[1]]
    shell.run_cell(BROKEN, store_history=True)
    assert not any("left" in line for line in check("softmax").after)


def test_trace_shows_shapes_line_by_line(shell: InteractiveShell) -> None:
    shell.run_cell(WRONG, store_history=True)
    seen = trace("softmax")
    assert [(number, made) for number, _, made in seen.steps] == [
        (1, "scores (3, 4), dim -1"),
        (2, "e (3, 4)"),
        (3, ""),  # the last line gives the result and binds no name
    ]
    assert seen.end == "returned (3, 4)"
    assert "<script" not in seen._repr_html_()


def test_trace_of_a_class_and_of_an_error(shell: InteractiveShell) -> None:
    shell.run_cell("def softmax(scores, dim=-1):\n    half = scores[:, :2]\n    return half @ half", store_history=True)
    assert trace("softmax").end.startswith("stopped by RuntimeError")
    shell.run_cell(
        "class MultiHeadAttention(nn.Module):\n"
        "    def __init__(self, d_model, heads, attention=masked_attention):\n"
        "        super().__init__()\n"
        "        self.query = nn.Linear(d_model, d_model)\n"
        "    def forward(self, states, memory=None, mask=None):\n"
        "        mine = self.query(states)\n"
        "        return mine, None",
        store_history=True,
    )
    assert any(made.startswith("mine (") for _, _, made in trace("MultiHeadAttention").steps)


def opened(work: Path, answer: str) -> None:
    lesson = course().lesson("01")
    cell = nbformat.v4.new_code_cell(answer, metadata={"nbgrader": {"grade_id": "softmax"}})
    path = work / lesson.notebook
    path.parent.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)


def test_report_for_a_teacher_has_nothing_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSTALK_WORK", str(tmp_path))
    opened(tmp_path, WRONG.replace("e = ", "open(__import__('os').path.expanduser('~/secret'))\n    e = "))
    report = help_report("softmax")
    assert "My answer:" in report and "What check says:" in report and re.search(r"torch 2\.\d+", report)
    assert str(Path.home()) not in report
    assert str(tmp_path) not in report and f"/{getpass.getuser()}/" not in report
    assert "HOME/secret" in report


def test_report_without_a_copy() -> None:
    with pytest.raises(NoAnswer, match="open the lesson with"):
        help_report("merge_heads")


def test_verdict_without_cases_is_no_pass() -> None:
    assert not Verdict("softmax", 0, 2).passed
