"""What a student may hand in instead of an answer: one clear sentence each, and the process stays as it was."""

# ruff: noqa: E501 - an answer and its sentence stand side by side.

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading

import pytest
import torch
from torch.nn import functional as F

from autograder.judging import judge_source
from crosstalk.course import Course, ExerciseEntry, Lesson

RIGHT = """
def softmax(scores, dim=-1):
    shifted = torch.exp(scores - scores.amax(dim=dim, keepdim=True))
    return shifted / shifted.sum(dim=dim, keepdim=True)
"""


def body(lines: str, signature: str = "scores, dim=-1") -> str:
    indented = "\n".join("    " + line for line in lines.strip().splitlines())
    return f"def softmax({signature}):\n{indented}\n"


PROBLEMS = {
    "not written yet": (body("raise NotImplementedError"), "`softmax` is not written yet"),
    "written in part": (
        body("if scores.dim() > 2:\n    raise NotImplementedError\nreturn torch.exp(scores - scores.logsumexp(dim, True))"),
        "Line 3 still says `raise NotImplementedError`",
    ),
    "another name": ("def sofmax(scores, dim=-1):\n    return scores\n", "did not bind `softmax`"),
    "lambda": ("softmax = lambda scores, dim=-1: scores", "is a lambda"),
    "partial": ("from functools import partial\nsoftmax = partial(torch.softmax, dim=-1)", "is a partial"),
    "alias of torch": ("softmax = torch.softmax", "is only another name for"),
    "alias of functional": ("softmax = F.softmax", "only another name for `torch.nn.functional.softmax`"),
    "alias of a module class": ("softmax = nn.Softmax", "only another name for `torch.nn.modules.activation.Softmax`"),
    "a module object": ("softmax = nn.Softmax(dim=-1)", "`softmax` is a `Softmax`, asked is a function"),
    "a number": ("softmax = 3", "`softmax` is a `int`, asked is a function"),
    "class": ("class softmax:\n    pass", "is a class, asked is a function"),
    "forbidden function": (body("return torch.softmax(scores, dim)"), "Line 2 calls torch's `softmax`"),
    "forbidden method": (body("x = scores\nreturn x.softmax(dim)"), "Line 3 calls torch's `softmax`"),
    "forbidden under another name": (
        "from torch.nn.functional import softmax as s\n" + body("return s(scores, dim)"), "Line 3 calls torch's `softmax`"),
    "forbidden module": (body("return nn.Softmax(dim)(scores)"), "Line 2 calls torch's `softmax`"),
    "too few arguments": (body("return scores", "scores"), "must take `(scores, dim=-1)`"),
    "too many arguments": (body("return scores", "scores, dim, keep"), "must take `(scores, dim=-1)`"),
    "None": (body("shares = scores.exp()"), "is None, asked is a tensor: is a `return` missing?"),
    "a tuple": (body("return scores, scores"), "is a tuple of 2, asked is a tensor: return one thing only"),
    "a list": (body("return scores.exp().tolist()"), "is a list of 3, asked is a tensor: keep the tensor"),
    "numpy": (body("return scores.detach().exp().numpy()"), "is a `numpy.ndarray`, asked is a tensor: stay in torch"),
    "a number out": (body("return scores.sum().item()"), "is a Python `float`, asked is a tensor"),
    "wrong shape": (body("return scores[..., :2]"), "has shape (3, 2), expected (3, 4) = (the shape of scores)"),
    "wrong dtype": (body("return torch.exp(scores - scores.logsumexp(dim, True)).double()"), "has dtype float64, expected float32"),
    "NaN": (body("return torch.exp(scores - scores.logsumexp(dim, True)) * float('nan')"), "has NaN in 12 of 12 places"),
    "changes its input": (
        body("scores -= scores.amax(dim=dim, keepdim=True)\ne = torch.exp(scores)\nreturn e / e.sum(dim=dim, keepdim=True)"),
        "changed its input `scores` in place",
    ),
    "raises deep inside": (
        "def inner(x):\n    return x.view(7, 7, 7)\n" + body("return inner(scores)"),
        "Line 2, `return x.view(7, 7, 7)`, raised RuntimeError",
    ),
    "a name defined nowhere": (body("return torch.exp(scores - largest)"), "Line 2 uses `largest`, which is defined nowhere"),
    "syntax": ("def softmax(scores, dim=-1)\n    return scores", "Line 1 of your answer is not Python yet"),
    "cell raises": ("x = 1 / 0\n" + RIGHT, "stopped before `softmax` was complete. Line 1, `x = 1 / 0`, raised ZeroDivisionError"),
    "exits": (body("raise SystemExit(0)"), "raised SystemExit"),
    "imports its stand-in": (
        "from crosstalk.stand_ins.lesson_01 import softmax as s\n" + body("return s(scores, dim)"),
        "the stand-ins of this lesson and later ones cannot be used in an answer",
    ),
    "imports itself": (
        "from crosstalk.my_model import softmax as s\n" + body("return s(scores, dim)"),
        "softmax cannot be imported in an answer to softmax",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PROBLEMS)
def test_has_its_sentence(kind: str) -> None:
    source, expected = PROBLEMS[kind]
    verdict = judge_source("softmax", source)
    sentences = [verdict.problem, verdict.named, *(case.sentence for case in verdict.cases)]
    assert any(expected in sentence for sentence in sentences), sentences
    assert verdict.points < verdict.max_points
    assert not any("\n" in sentence for sentence in sentences)


def test_right_answer_passes() -> None:
    verdict = judge_source("softmax", RIGHT)
    assert verdict.passed and repr(verdict) == "2"


def test_what_the_cell_calls_beside_its_answer_is_not_forbidden() -> None:
    compared = "shares = torch.softmax(torch.ones(3), 0)\nprint(F.softmax(shares, 0) - softmax(shares))\n"
    assert judge_source("softmax", f"{RIGHT}\n{compared}").passed


def test_torch_is_as_it_was_after_a_check() -> None:
    before = [torch.softmax, torch.Tensor.softmax, F.softmax, torch.log_softmax]
    judge_source("softmax", RIGHT)
    judge_source("softmax", body("return torch.softmax(scores, dim)"))
    assert [torch.softmax, torch.Tensor.softmax, F.softmax, torch.log_softmax] == before
    assert "softmax" not in vars(torch.Tensor)


def test_a_forbidden_function_is_found_in_a_thread() -> None:
    source = "from concurrent.futures import ThreadPoolExecutor\n" + body(
        "with ThreadPoolExecutor(1) as pool:\n    return pool.submit(lambda: scores.softmax(dim)).result()"
    )
    assert "calls torch's `softmax`" in judge_source("softmax", source).problem


def test_helper_in_another_cell() -> None:
    source = body("return helper(scores, dim)")
    verdict = judge_source("softmax", source, elsewhere=frozenset({"helper"}))
    assert verdict.problem == "`helper` is defined in another cell: move it here. Your answer is judged on its own."
    assert verdict.points == 0


def test_a_million_lines_cost_nothing_and_are_cut() -> None:
    source = RIGHT.replace("    return", "    print('line\\n' * 200_000)\n    return")
    verdict = judge_source("softmax", source)
    assert verdict.passed
    lines = 200_001 * len(verdict.cases)
    assert f"Of {lines:,} lines" in verdict.notes[0] and "the first 20 are shown." in verdict.notes[0]
    assert len(verdict.notes[0]) < 1000


def test_output_below_python_is_caught(capfd: pytest.CaptureFixture[str]) -> None:
    source = "import os\n" + RIGHT.replace("    return", "    os.write(2, b'loud\\n')\n    return")
    verdict = judge_source("softmax", source)
    assert verdict.passed and "loud" in verdict.notes[0]
    assert capfd.readouterr() == ("", "")


def test_warnings_are_told() -> None:
    source = "import warnings\n" + RIGHT.replace("    return", "    warnings.warn('old way')\n    return")
    verdict = judge_source("softmax", source)
    assert verdict.passed and verdict.notes == ["Your code warned: UserWarning: old way"]


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    find = Course.find

    def hasty(self: Course, name: str) -> tuple[Lesson, ExerciseEntry]:
        lesson, entry = find(self, name)
        return lesson, entry.model_copy(update={"seconds": 0.3})

    monkeypatch.setattr(Course, "find", hasty)


def test_endless_loop_is_ended_and_the_next_check_works(short_limit: None) -> None:
    verdict = judge_source("softmax", body("while True:\n    pass"))
    assert verdict.problem.startswith("Your answer did not come to an end in the time allowed: it was in line ")
    assert judge_source("softmax", RIGHT).passed


def test_endless_loop_is_ended_where_interrupts_are_ignored(short_limit: None) -> None:
    """So a shell starts what runs in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        verdict = judge_source("softmax", body("while True:\n    pass"))
        assert verdict.problem.startswith("Your answer did not come to an end in the time allowed")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_swallowing_the_interrupt_does_not_help(short_limit: None) -> None:
    loop = "try:\n    while True:\n        pass\nexcept KeyboardInterrupt:\n    pass\n"
    verdict = judge_source("softmax", body(loop + "return torch.exp(scores - scores.logsumexp(dim, True))"))
    assert verdict.problem.startswith("Your answer did not come to an end in the time allowed.")
    assert verdict.points == 0


def test_interrupt_by_the_student() -> None:
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    verdict = judge_source("softmax", body("while True:\n    pass"))
    assert verdict.problem.startswith("You stopped the check: it was in line ")
    assert judge_source("softmax", RIGHT).passed


def test_global_state_is_put_back() -> None:
    before = torch.get_rng_state()
    source = (
        "torch.set_default_dtype(torch.float64)\ntorch.set_grad_enabled(False)\ntorch.manual_seed(3)\n"
        "import os, sys\nos.chdir('/')\nsys.path.insert(0, 'nowhere')\n" + RIGHT
    )
    judge_source("softmax", source)
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    assert torch.equal(before, torch.get_rng_state())
    assert os.getcwd() != "/" and "nowhere" not in sys.path


def test_result_does_not_depend_on_the_seed_or_default_dtype() -> None:
    torch.manual_seed(1)
    first = judge_source("softmax", RIGHT)
    torch.manual_seed(2)
    torch.set_default_dtype(torch.float64)
    try:
        assert judge_source("softmax", RIGHT) == first
    finally:
        torch.set_default_dtype(torch.float32)


TWO_RESULTS = {
    "one result": ("return weights @ value", "return the output alone"),
    "a list of three": ("return [weights @ value, weights, scores]",
                        "is a list of 3, asked is a tuple of 2: return 2 things, separated by a comma."),
    "three": ("return weights @ value, weights, scores", "is a tuple of 3, asked is a tuple of 2"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TWO_RESULTS)
def test_two_results(kind: str) -> None:
    end, expected = TWO_RESULTS[kind]
    source = (
        "def scaled_dot_product_attention(query, key, value):\n"
        "    scores = query @ key.mT / math.sqrt(query.size(-1))\n    weights = softmax(scores)\n    " + end + "\n"
    )
    verdict = judge_source("scaled_dot_product_attention", source)
    assert any(expected in sentence for sentence in (verdict.named, *(case.sentence for case in verdict.cases)))


ATTENTION = """
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, heads, attention=masked_attention):
        super().__init__()
        self.heads, self.attention = heads, attention
        self.query, self.key = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.value, self.output = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)

    def forward(self, states, memory=None, mask=None):
        source = states if memory is None else memory
        query = split_heads(self.query(states), self.heads)
        key, value = split_heads(self.key(source), self.heads), split_heads(self.value(source), self.heads)
        output, weights = self.attention(query, key, value, mask)
        return self.output(merge_heads(output)), weights
"""
CLASSES = {
    "right": ({}, ""),
    "a function": (
        None,
        "`MultiHeadAttention` is a function, asked is a class: `class MultiHeadAttention(nn.Module):`",
    ),
    "no module": ({"(nn.Module)": "", "super().__init__()": "pass"}, "The object is no `nn.Module`"),
    "no super": (
        {"        super().__init__()\n": ""},
        "raised AttributeError: cannot assign module before Module.__init__() call",
    ),
    "too few arguments": (
        {"d_model, heads, attention=masked_attention": "d_model"},
        "must take `(d_model, heads, attention=masked_attention)`",
    ),
    "forward too narrow": (
        {", memory=None, mask=None": "", "states if memory is None else memory": "states", "value, mask": "value"},
        "`forward` cannot be called as it should be",
    ),
    "another shape": (
        {"nn.Linear(d_model, d_model)\n\n": "nn.Linear(d_model, 3)\n\n"},
        "The parameter `output.bias` has shape (3,), expected (4,).",
    ),
    "a detached input": (
        {"self.query(states)": "self.query(states.detach())", "states if": "states.detach() if"},
        "The gradient at `states` is missing",
    ),
    "input changed": (
        {
            "        return self.output": "        if mask is not None:\n            mask.fill_(True)\n        return self.output"
        },
        "changed its input `mask` in place",
    ),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_classes(kind: str) -> None:
    edits, expected = CLASSES[kind]
    source = ATTENTION if edits is not None else "def MultiHeadAttention(d_model, heads):\n    return None\n"
    for old, new in (edits or {}).items():
        source = source.replace(old, new)
    verdict = judge_source("MultiHeadAttention", source)
    sentences = [verdict.problem, *(case.sentence for case in verdict.cases)]
    assert any(expected in sentence for sentence in sentences)
    assert verdict.passed == (kind == "right")


ANOTHER_WAY = {
    "view fails where reshape does not": (
        "split_heads",
        "def split_heads(states, heads):\n    b, t, d = states.shape\n    return states.view(b, heads, t, d // heads)\n",
        "view_straight",
    ),
    "a loop that gives 0 for no token": (
        "sequence_log_prob",
        "def sequence_log_prob(log_probs, target):\n    total = 0\n    for t in range(len(target) - 1):\n"
        "        total = total + log_probs[t, target[t]]\n    return total\n",
        "end_token_dropped",
    ),
}


@pytest.mark.parametrize("kind", ANOTHER_WAY)
def test_a_mistake_is_named_though_some_cases_raise(kind: str) -> None:
    name, source, mistake = ANOTHER_WAY[kind]
    assert judge_source(name, source).mistake == mistake


def test_what_only_raises_is_not_named_after_something_else() -> None:
    assert judge_source("softmax", body("return scores.nothing_of_the_kind()")).mistake == ""
