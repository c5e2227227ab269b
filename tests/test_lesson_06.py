"""Lesson 06: the repairs, the patients, and what the lesson says of them."""

from __future__ import annotations

import copy
import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import ways
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autograder import solutions
from autograder.exercise import exercises_of
from autograder.judging import judge_source
from crosstalk import my_model
from crosstalk.course import course
from crosstalk.curve_doctor import softmax_twice_floor
from crosstalk.data import bug_clinic, cmudict
from crosstalk.data.bug_clinic_build import BATCH, SEED, STEPS, told, train, training_words, validation_words
from crosstalk.data.bug_clinic_faults import FAULTS, PATIENTS, EncoderUnseen, Training
from crosstalk.data.cmudict import END, PAD, START
from crosstalk.data.word_batches import WordBatches
from crosstalk.stand_ins.lesson_05 import train_step

LESSON = course().lesson("06-bug-clinic")

each_way = ways.each_way(until=6)
quick = settings(max_examples=30, deadline=None)
ids = st.lists(st.integers(3, 9), min_size=1, max_size=6)


# --- the repairs -----------------------------------------------------------------------------------------------


@each_way
@quick
@given(pairs=st.lists(st.tuples(ids, ids), min_size=1, max_size=5), data=st.data())
def test_a_batch_holds_the_pairs_in_the_order_asked(way: SimpleNamespace, pairs: list, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(pairs))))
    source, target = way.repaired_batch([s for s, _ in pairs], [t for _, t in pairs], order, 0, 2)
    assert source.dtype == target.dtype == torch.int64
    for row, place in enumerate(order):
        assert [i for i in source[row].tolist() if i] == pairs[place][0]
        assert [i for i in target[row].tolist() if i] == [*pairs[place][1], 2]


@each_way
@quick
@given(words=st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=1, max_size=4))
def test_the_mask_hides_the_future_and_the_padding(way: SimpleNamespace, words: list[list[int]]) -> None:
    mask = way.repaired_mask(torch.tensor(words), 0)
    assert mask.dtype == torch.bool
    for b, word in enumerate(words):
        allowed = [[key <= query and word[key] != 0 for key in range(4)] for query in range(4)]
        assert mask[b, 0].tolist() == allowed


@each_way
def test_the_step_is_that_of_lesson_05_with_an_accuracy_beside_it(way: SimpleNamespace) -> None:
    torch.manual_seed(0)
    one = Training().build()
    other = copy.deepcopy(one)
    source = cmudict.batch(["cat", "island"])
    target = nn.utils.rnn.pad_sequence(
        [torch.tensor(cmudict.phonemes_to_ids(bug_clinic.WORDS[word])) for word in ("cat", "island")], batch_first=True
    )
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (one, other)]
    for _ in range(30):
        loss, accuracy = way.repaired_train_step(one, source, target, optimizers[0], PAD, START)
        assert loss == pytest.approx(train_step(other, source, target, optimizers[1], PAD, START))
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    logits = Training().logits(one, source, Training().inputs(target))
    right = (logits.argmax(-1) == target)[target != PAD]
    assert 0 < accuracy <= 1 and right.float().mean() >= accuracy  # it was measured before the last step


# --- diagnoses: points for each patient, and nothing given away ---------------------------------------------------


def _diagnosis(**causes: object) -> str:
    answers = {letter: PATIENTS[letter] for letter in "ABCDEF"} | causes
    return f"def diagnoses(patient):\n    return {answers!r}[patient]\n"


def test_each_patient_counts_on_its_own_and_hears_what_speaks_against() -> None:
    verdict = judge_source("diagnoses", _diagnosis(B="same batch again", E="torn pairs"))
    assert verdict.points == pytest.approx(4)
    wrong = {case.title: case.sentence for case in verdict.cases if not case.right}
    assert list(wrong) == ["patient B", "patient E"]
    assert "held-out words goes to 0 as well" in wrong["patient B"]
    assert "uses the letters of the word" in wrong["patient E"]
    for letter in "BE":
        assert PATIENTS[letter] not in verdict.text()


@pytest.mark.parametrize(
    ("given_cause", "said"),
    [
        (None, "There is no answer to this one yet: give one of the names on the list."),
        ("softmx twice", "'softmx twice' is not on the list. The names are \"input not shifted\", "),
        (3, "The answer is a Python `int`, asked is a name: one of "),
    ],
)
def test_what_is_no_name_on_the_list_is_told(given_cause: object, said: str) -> None:
    verdict = judge_source("diagnoses", _diagnosis(C=given_cause))
    assert next(case.sentence for case in verdict.cases if not case.right).startswith(said)


def test_what_can_be_imported_gives_no_diagnosis() -> None:
    assert [my_model.stand_in("diagnoses")(patient) for patient in "ABCDEF"] == [None] * 6
    module = Path(inspect.getfile(my_model.stand_in("diagnoses"))).read_text(encoding="utf-8")
    assert "bug_clinic" not in module and not [cause for cause in FAULTS if cause != "healthy" and cause in module]


def test_sentences_on_repairs_name_no_patient() -> None:
    for name, exercise in exercises_of(LESSON).items():
        told = [*exercise.hints, *(wrong.sentence for wrong in exercise.wrong if name != "diagnoses")]
        assert not [sentence for sentence in told if re.search(r"\bpatients? [A-F]\b", sentence)], name


def test_results_of_steps_are_called_by_their_names() -> None:
    source = solutions.answer_source(solutions.read_source(LESSON), "repaired_train_step")
    kept = judge_source("repaired_train_step", source.replace("loss.item(), right.item()", "loss.item(), right"))
    said = kept.cases[0].sentence
    assert said == "The accuracy of step 1 is a tensor, asked is a Python `float`: `.item()` makes one of it."
    counted = (
        "    calls = repaired_train_step.calls = getattr(repaired_train_step, 'calls', 0) + 1\n"
        "    return loss.item() + (calls == 3), "
    )
    later = judge_source("repaired_train_step", source.replace("    return loss.item(), ", counted))
    assert [case.sentence.partition(" is ")[0] for case in later.cases if not case.right] == ["The loss of step 2"]


def test_neither_data_nor_cases_name_a_cause() -> None:
    written = bug_clinic.clinic_file().read_text(encoding="utf-8")
    assert list(json.loads(written)) == list(PATIENTS)
    assert not [cause for cause in FAULTS if cause != "healthy" and cause in written]
    from autograder.packs import visible_pack

    for case in visible_pack(LESSON).exercises["diagnoses"].cases:
        assert list(case.expected["value"]) == ["sealed"]


# --- the patients ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patients() -> dict[str, dict[str, Any]]:
    return bug_clinic.load()


@pytest.fixture(scope="module")
def batches() -> WordBatches:
    return WordBatches(training_words(), BATCH, SEED)


@pytest.fixture(scope="module")
def some_words() -> Any:
    return validation_words().select(range(0, 320, 40))


@pytest.mark.parametrize("letter", PATIENTS)
def test_the_curves_begin_as_they_are_made(letter: str, patients: dict, batches: WordBatches, some_words: Any) -> None:
    """The first ten steps of each training, run again."""
    fresh = train(FAULTS[PATIENTS[letter]](), batches, some_words, steps=bug_clinic.EVERY)
    assert fresh["first"] == pytest.approx(patients[letter]["first"], abs=2e-3)
    assert fresh["losses"] == pytest.approx(patients[letter]["losses"][:1], abs=5e-3)


def test_every_patient_has_all_that_the_lesson_shows(patients: dict) -> None:
    for seen in patients.values():
        assert len(seen["losses"]) == STEPS // bug_clinic.EVERY
        assert len(seen["validation"]) == STEPS // bug_clinic.CHECKED + 1
        assert list(seen["samples"]) == [str(step) for step in bug_clinic.SAMPLED]
        assert all(len(said) == len(bug_clinic.WORDS) for said in seen["samples"].values())


def test_the_card_quotes_the_run(patients: dict) -> None:
    card = (bug_clinic.clinic_file().parent / "README.md").read_text(encoding="utf-8")
    for letter, seen in patients.items():
        assert told(letter, seen, 0).removesuffix("0 s") in card


def test_the_words_asked_were_not_trained_on(batches: WordBatches) -> None:
    rows = {row["word"]: row for part in ("train", "validation", "test") for row in cmudict.load(part)}  # type: ignore[arg-type]
    families = {rows[word]["family"] for word in bug_clinic.WORDS}
    assert not families & set(training_words()["family"])
    assert {word: rows[word]["pronunciations"][0] for word in bug_clinic.WORDS} == bug_clinic.WORDS


def test_what_the_sentences_rest_on(patients: dict) -> None:
    """The evidence that wrong diagnoses are told, and the text quotes."""
    ends = {name: seen["losses"][-1] for name, seen in patients.items()}
    held_out = {name: seen["validation"] for name, seen in patients.items()}
    said = {name: dict(zip(bug_clinic.WORDS, seen["samples"]["1500"], strict=True)) for name, seen in patients.items()}
    healthy = patients["healthy"]
    for name, seen in patients.items():
        assert 3.6 < seen["first"] < 4.0, name
        assert all(0.5 < way / healthy["moved"][part] < 1.5 for part, way in seen["moved"].items()), name
    # A
    assert abs(ends["A"] - ends["healthy"]) < 0.05 and patients["A"]["ended"] == 0
    assert all(one.startswith(bug_clinic.WORDS[word][:4]) for word, one in list(said["A"].items())[:4])
    # B and F: near 0, and what tells them apart
    assert ends["B"] < 0.01 and held_out["B"][-1] < 0.01 and patients["B"]["losses"][9] > 0.3
    assert patients["B"]["forced"] > 0.99 and set(said["B"].values()) == {"<end>"}
    assert said["F"]["cat"] == said["F"]["act"] and said["F"]["night"] != said["F"]["thing"]
    assert ends["F"] < 0.01 and held_out["F"][-1] > 6 and patients["F"]["different"] == 320
    # C
    floor = softmax_twice_floor(42)
    assert min(patients["C"]["losses"]) > 3 and ends["C"] > floor and patients["C"]["different"] > 300
    assert 0.6 < patients["C"]["forced"] < 0.7 and said["C"]["cat"] != said["C"]["act"]
    assert said["C"]["cat"].startswith("K ") and said["C"]["night"].startswith("N ")
    # D
    assert 2 < ends["D"] < floor and patients["D"]["different"] == 2 and patients["D"]["ended"] == 1
    assert held_out["D"][-1] - ends["D"] < 0.05
    # E
    assert 0.9 < ends["E"] < 1.2 and said["E"]["cat"] == said["E"]["act"] and said["E"]["night"] == said["E"]["thing"]
    assert said["E"]["cat"] == "K AE T <end>"
    # X
    assert 0.4 < ends["X"] < 0.5 and said["X"]["cat"] == "AE <end>" and patients["X"]["per"] > 75
    for name in "ABCDE":
        assert held_out[name][-1] < held_out[name][5], name


# --- the faults do what they are called ---------------------------------------------------------------------------


def _leaks(training: Training) -> bool:
    """Do earlier logits move when a later input changes?"""
    torch.manual_seed(0)
    model = training.build()
    source, inputs = cmudict.batch(["cat"]), torch.tensor([[START, 5, 6, 7]])
    changed = inputs.clone()
    changed[0, 3] = 9
    before, after = training.logits(model, source, inputs), training.logits(model, source, changed)
    return not torch.allclose(before[:, :3], after[:, :3], atol=1e-5)


def test_only_one_training_leaks() -> None:
    assert {name for name, fault in FAULTS.items() if _leaks(fault())} == {"mask not causal"}


def test_inputs_labels_and_losses_of_the_faults() -> None:
    target = torch.tensor([[5, 6, END], [7, END, PAD]])
    assert FAULTS["input not shifted"]().inputs(target).equal(target)
    assert FAULTS["labels shifted too"]().labels(target).tolist() == [[6, END, PAD], [END, PAD, PAD]]
    assert FAULTS["end token ignored"]().labels(target).tolist() == [[5, 6, PAD], [7, PAD, PAD]]
    logits = 100 * nn.functional.one_hot(target, 42).float()
    assert FAULTS["softmax twice"]().loss(logits, target).item() == pytest.approx(softmax_twice_floor(42), abs=1e-5)
    assert Training().loss(logits, target).item() == pytest.approx(0, abs=1e-6)


def test_batches_of_the_faults(batches: WordBatches) -> None:
    torn, again = FAULTS["torn pairs"](), FAULTS["same batch again"]()
    torn.batches = again.batches = batches
    assert torn.batch(4)[0].equal(batches[4][0])
    assert not torn.batch(4)[1].equal(batches[4][1])
    assert all(one.equal(other) for one, other in zip(again.batch(7), batches[0], strict=True))


def test_what_the_encoder_and_the_optimiser_are_given() -> None:
    plain, unseen = Training(), EncoderUnseen()
    model = plain.build()
    missing = {id(p) for p in plain.trained(model)} - {id(p) for p in unseen.trained(model)}
    assert missing == {id(p) for p in model.encoder.layers.parameters()}  # type: ignore[union-attr]
    blind = FAULTS["no source positions"]().build()
    states = blind.source_embedding(cmudict.batch(["noon"]))
    torch.testing.assert_close(states[0, 1], states[0, 2])


# --- the lesson's text -----------------------------------------------------------------------------------------


def test_the_table_of_causes_lists_all_faults() -> None:
    text = "\n".join(cell.source for cell in solutions.read_source(LESSON).cells if cell.cell_type == "markdown")
    assert re.findall(r"^\| `([a-z ]+)` \|", text, re.MULTILINE) == [name for name in FAULTS if name != "healthy"]
