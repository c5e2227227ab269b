"""Which cell is the answer, as a running kernel sees it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from autograder.answers import AnswerError, find_answer, watch_cells

RIGHT = "def softmax(scores, dim=-1):\n    return torch.exp(scores - scores.logsumexp(dim, True))"


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    config = Config()
    config.HistoryManager.hist_file = ":memory:"
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance(config=config)
    watch_cells()
    yield made
    InteractiveShell.clear_instance()


def run(shell: InteractiveShell, source: str, cell_id: str | None = None) -> None:
    shell.run_cell(source, store_history=True, cell_id=cell_id)


def sentence() -> str:
    with pytest.raises(AnswerError) as error:
        find_answer("softmax")
    return str(error.value)


def test_takes_the_whole_cell(shell: InteractiveShell) -> None:
    source = "def helper(x):\n    return x\n\n" + RIGHT
    run(shell, source)
    assert find_answer("softmax").source == source


def test_takes_the_last_executed(shell: InteractiveShell) -> None:
    run(shell, "def softmax(scores, dim=-1):\n    return 1", "answer-softmax")
    run(shell, RIGHT, "answer-softmax")
    run(shell, "softmax", "other")
    assert find_answer("softmax").source == RIGHT


def test_nothing_was_run(shell: InteractiveShell) -> None:
    assert sentence() == "`softmax` is not defined yet: run the cell with your answer first, then check again."


def test_another_cell(shell: InteractiveShell) -> None:
    run(shell, RIGHT, "answer-softmax")
    run(shell, "from torch import softmax", "scratch")
    assert sentence().startswith("`softmax` was last bound in another cell (In [2]). Only the answer cell counts")


def test_without_ids_every_cell_may_be_the_answer(shell: InteractiveShell) -> None:
    run(shell, RIGHT)
    assert find_answer("softmax").source == RIGHT


def test_names_of_other_cells(shell: InteractiveShell) -> None:
    run(shell, "d_k = 4\ndef helper(x):\n    return x", "one")
    run(shell, RIGHT, "answer-softmax")
    run(shell, "import math", "two")
    assert find_answer("softmax").elsewhere == {"d_k", "helper", "math"}


@pytest.mark.parametrize("magic", ["%time\n", "!ls\n", "%%time\n"])
def test_magics(shell: InteractiveShell, magic: str) -> None:
    run(shell, magic + RIGHT)
    assert "has a magic or a shell command" in sentence()


def test_syntax_error(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, RIGHT, "answer-softmax")
    run(shell, "def softmax(scores, dim=-1)\n    return 1", "answer-softmax")
    assert sentence() == "The last cell with `softmax` is not Python yet, so it was not run: line 1, expected ':'."


def test_nested_too_deep_to_parse(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.history_manager.input_hist_raw.append("softmax = " + "-" * 100_000 + "1")
    assert sentence() == "The last cell with `softmax` cannot be read as Python."


def test_only_in_a_notebook() -> None:
    InteractiveShell.clear_instance()
    assert "in the notebook it is called from" in sentence()
