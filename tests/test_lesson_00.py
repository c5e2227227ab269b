"""Lesson 00: its piece, the table of log-probabilities, syllabus, progress and glossary."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder import solutions
from autograder.exercise import exercises_of
from crosstalk import my_model, progress, progress_table
from crosstalk.course import course
from crosstalk.data import cmudict, factorisation
from crosstalk.data.cmudict import END, PHONEMES
from crosstalk.data.factorisation_build import WORDS, Speller, edits, without_families
from crosstalk.glossary import Entry, GlossaryError, glossary
from crosstalk.places import course_folder
from crosstalk.progress import Progress
from crosstalk.stand_ins import lesson_00
from crosstalk.syllabus import syllabus
from crosstalk.widgets import Factorisation

few = settings(max_examples=30, deadline=None)


def _solution() -> Callable[..., torch.Tensor]:
    notebook = solutions.read_source(course().lesson("00"))
    namespace: dict[str, Any] = {}
    exec(solutions.setup_source(notebook), namespace)
    exec(solutions.answer_source(notebook, "sequence_log_prob"), namespace)
    return namespace["sequence_log_prob"]


PIECES = {"stand-in": lesson_00.sequence_log_prob, "solution": _solution()}
both = pytest.mark.parametrize("log_prob", PIECES.values(), ids=PIECES)


def drawn(seed: int, length: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(length, vocabulary, generator=generator, dtype=torch.float64)
    return scores.log_softmax(-1), torch.randint(vocabulary, (length,), generator=generator)


# --- the piece -------------------------------------------------------------------------------------------------


@both
@few
@given(st.integers(0, 2**31), st.integers(1, 8), st.integers(2, 9))
def test_it_is_minus_torchs_loss_and_adds_up(log_prob: Callable, seed: int, length: int, vocabulary: int) -> None:
    log_probs, target = drawn(seed, length, vocabulary)
    whole = log_prob(log_probs, target)
    assert whole.shape == () and whole <= 0
    torch.testing.assert_close(whole, -torch.nn.functional.nll_loss(log_probs, target, reduction="sum"))
    for cut in range(1, length):
        parts = log_prob(log_probs[:cut], target[:cut]) + log_prob(log_probs[cut:], target[cut:])
        torch.testing.assert_close(whole, parts)


@both
def test_all_sequences_of_a_model_share_one_whole(log_prob: Callable) -> None:
    """Over every sequence of two steps, the probabilities sum to one: that is the factorisation."""
    log_probs, _ = drawn(0, 2, 5)
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    total = sum(log_prob(log_probs, pair).exp() for pair in pairs)
    torch.testing.assert_close(total, torch.tensor(1.0, dtype=torch.float64))


def test_what_the_cases_give_are_log_probabilities() -> None:
    exercise = exercises_of(course().lesson("00"))["sequence_log_prob"]
    for sketch in exercise.cases:
        log_probs, target = exercise.inputs(sketch, "visible")["args"]
        sums = log_probs.exp().sum(dim=-1)
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-6)
        assert len(target) == len(log_probs)


# --- the table, and what the lesson says of it ------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> list[dict[str, Any]]:
    return factorisation.load()


@pytest.fixture(scope="module")
def dictionary() -> list[dict[str, Any]]:
    return [row for part in ("train", "validation", "test") for row in cmudict.load(part).to_list()]  # type: ignore[arg-type]


def test_every_row_of_the_table_is_a_distribution(table: list[dict[str, Any]]) -> None:
    held_out = factorisation.load_held_out()
    assert {each["word"] for each in table} == set(WORDS) and len(held_out) == 100
    for each in [*table, *held_out]:
        assert each["log_probs"].shape == (len(each["tokens"]), len(PHONEMES))
        sums = each["log_probs"].double().exp().sum(dim=1)
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-5)
        assert [PHONEMES[i] for i in each["target"]] == each["tokens"] and each["target"][-1] == END


def test_right_means_in_the_dictionary(table: list[dict[str, Any]], dictionary: list[dict[str, Any]]) -> None:
    said = {row["word"]: row["pronunciations"] for row in dictionary}
    for each in [*table, *factorisation.load_held_out()]:
        assert each["right"] == (" ".join(each["tokens"][:-1]) in said[each["word"]]), each["word"]


def test_the_model_never_saw_the_words_or_their_families(dictionary: list[dict[str, Any]]) -> None:
    families = {row["word"]: row["family"] for row in dictionary}
    train = cmudict.load("train").to_list()
    seen = without_families(train, dictionary)
    assert not {families[word] for word in WORDS} & {row["family"] for row in seen}
    left_out = int(re.search(r"left out of training: (\d+) words", card())[1])  # type: ignore[index]
    assert len(train) - len(seen) == left_out > len(WORDS)
    assert not {each["word"] for each in factorisation.load_held_out()} & {row["word"] for row in train}


def test_the_end_token_decides_between_a_word_and_its_beginning(table: list[dict[str, Any]]) -> None:
    by_name = {(each["word"], each["label"]): each for each in table}
    cut_short = [each for each in table if each["label"] == "cut short"]
    assert len(cut_short) >= 5
    for short in cut_short:
        whole = by_name.get((short["word"], "dictionary")) or by_name[short["word"], "dictionary, 1"]
        scores = [lesson_00.sequence_log_prob(each["log_probs"], each["target"]) for each in (whole, short)]
        without = [lesson_00.sequence_log_prob(e["log_probs"][:-1], e["target"][:-1]) for e in (whole, short)]
        assert scores[0] > scores[1] + 2 and without[0] < without[1], short["word"]


def test_the_model_gives_read_to_both_and_colonel_to_neither(table: list[dict[str, Any]]) -> None:
    shares = {word: 0.0 for word in WORDS}
    for each in table:
        shares[each["word"]] += each["right"] * lesson_00.sequence_log_prob(each["log_probs"], each["target"]).exp()
    assert shares["read"] > 0.9 and shares["colonel"] < 0.001


def test_the_widget_takes_the_table_and_agrees_with_the_piece(table: list[dict[str, Any]]) -> None:
    widget = Factorisation(table, score=lesson_00.sequence_log_prob)
    for index in range(0, len(table), 9):
        widget.chosen = index
        assert widget.results["state"] == "agrees", widget.results


def test_the_card_names_the_size_of_the_file() -> None:
    size = f"{factorisation.table_file().stat().st_size:,} bytes"
    assert size in card() and factorisation.table_file().stat().st_size < 300_000


def test_a_missing_table_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "course.toml").write_bytes((course_folder() / "course.toml").read_bytes())
    monkeypatch.setenv("CROSSTALK_COURSE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"run `python -m crosstalk\.data\.factorisation_build`"):
        factorisation.load()


def card() -> str:
    return (factorisation.table_file().parent / "README.md").read_text(encoding="utf-8")


# --- the model that made it -------------------------------------------------------------------------------------


def test_the_model_cannot_see_the_token_it_predicts() -> None:
    torch.manual_seed(0)
    model = Speller().eval()
    source = cmudict.batch(["cat", "colonel"])
    target = torch.tensor([[22, 4, 33, END], [22, 13, 25, END]])
    changed = target.clone()
    changed[:, 2] = 5
    before, after = model.log_probs(source, target), model.log_probs(source, changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_padding_does_not_change_what_the_model_says() -> None:
    torch.manual_seed(0)
    model = Speller().eval()
    target = torch.tensor([[22, 4, 33, END]])
    alone = model.log_probs(cmudict.batch(["cat"]), target)
    padded = model.log_probs(cmudict.batch(["cat", "colonel"])[:1], target)
    torch.testing.assert_close(alone, padded)
    assert len(model.greedy(cmudict.batch(["cat", "colonel"]))) == 2


@pytest.mark.parametrize(("said", "right", "count"), [("KAT", "KAT", 0), ("", "AB", 2), ("KITTEN", "SITTING", 3)])
def test_edits(said: str, right: str, count: int) -> None:
    assert edits([ord(c) for c in said], [ord(c) for c in right]) == count


# --- syllabus ---------------------------------------------------------------------------------------------------


def test_the_syllabus_is_course_tomls() -> None:
    written = tomllib.loads((course_folder() / "course.toml").read_text(encoding="utf-8"))
    pairs = {(topic, lesson["id"]) for lesson in written["lessons"] for topic in lesson["topics"]}
    shown = syllabus()
    assert {(topic, lesson.id) for topic, lessons in shown.homes.items() for lesson in lessons} == pairs
    planned = {lesson["id"] for lesson in written["lessons"] if lesson.get("planned")}
    assert set(re.findall(r"(\S+) \(planned\)", repr(shown))) == planned
    rows = re.findall(r'<tr><th scope="row"[^>]*>(.*?)</th>', shown._repr_html_())
    assert rows == [topic.replace("<", "&lt;") for topic in shown.homes]


# --- progress ---------------------------------------------------------------------------------------------------


@pytest.fixture
def some_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first lesson passed, softmax tried, the rest untouched."""
    noted = {
        "sequence_log_prob": Progress(points=2, passed=True),
        "softmax": Progress(points=1.5, tries=2),
        "gone_from_the_course": Progress(points=9, passed=True),
    }
    monkeypatch.setattr(progress, "read", lambda: noted)
    monkeypatch.setattr(my_model, "is_own", lambda name: name == "sequence_log_prob")


@pytest.mark.usefixtures("some_progress")
def test_the_progress_table(capsys: pytest.CaptureFixture[str]) -> None:
    progress_table.show()
    printed = capsys.readouterr().out
    rows = {cells[0]: cells[1:] for line in printed.splitlines() if "│" in line
            for cells in [[cell.strip() for cell in line.strip("│").split("│")]]}  # fmt: skip
    assert rows["sequence_log_prob"] == ["2 of 2", "✓ passed", "your piece"]
    assert rows["softmax"] == ["1.5 of 2", "2 tries so far", "stand-in"]
    assert set(course().exercises) <= set(rows) and "gone_from_the_course" not in rows
    total = sum(lesson.points for lesson in course().ready)
    assert f"1 of {len(course().exercises)} exercises passed, 3.5 of {total:g} points." in " ".join(printed.split())
    assert "Next: softmax, in 01-attention." in " ".join(printed.split())


@pytest.mark.usefixtures("some_progress")
def test_the_progress_picture() -> None:
    picture = progress_table.progress_picture()
    svg = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(picture.svg())
    titles = [title.text for title in root.iter(f"{svg}title")]
    assert titles[1:3] == ["sequence_log_prob: ✓ passed", "softmax: 2 tries so far"]
    assert len(titles) == 1 + len(course().exercises)
    assert next(root.iter(f"{svg}desc")).text == repr(picture)
    filled = [rect for rect in root.iter(f"{svg}rect") if rect.get("fill-opacity")]
    assert len(filled) == 2
    assert "<script" not in picture._repr_html_() and "Next: softmax" in picture._repr_html_()


def test_when_all_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    all_passed = {name: Progress(points=100, passed=True) for name in course().exercises}
    monkeypatch.setattr(progress, "read", lambda: all_passed)
    assert repr(progress_table.progress_picture()).endswith("points. All of them.")


# --- glossary ---------------------------------------------------------------------------------------------------


def test_each_entry_is_one_sentence_and_has_a_lesson() -> None:
    whole = glossary()
    entries = [*whole.symbols, *whole.terms]
    assert len(whole.terms) >= 60 and len(whole.symbols) >= 18
    for entry in entries:
        assert entry.sentence.endswith(".") and ". " not in entry.sentence and entry.sentence[0].isupper(), entry.name
        assert course().lesson(entry.lesson).id == entry.lesson
    names = [name.lower() for entry in whole.terms for name in (entry.name, *entry.also)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("asked", "found"),
    [("memory", "memory"), (" Memory ", "memory"), ("H", "H"), ("<end>", "end token"), ("per", "phoneme error rate"),
     ("d_k", "d_head, d_k, d_v"), ("K", "Q, K, V")],
)  # fmt: skip
def test_a_term_can_be_asked_for(asked: str, found: str) -> None:
    entry = glossary(asked)
    assert isinstance(entry, Entry) and entry.name == found
    assert entry.sentence in repr(entry)


def test_an_unknown_term_names_those_near() -> None:
    with pytest.raises(GlossaryError, match=r"no 'memroy'\. Near it are: memory"):
        glossary("memroy")
    with pytest.raises(GlossaryError, match=r"`glossary\(\)` shows all"):
        glossary("xyzzyx")


def test_the_whole_glossary_as_html_is_escaped() -> None:
    shown = glossary()._repr_html_()
    assert "y_&lt;t" in shown and "<t</th>" not in shown
