"""The walk: a student who writes every solution into their own copies, one by one, ends with a model of their own.

Each lesson's copy is changed on disk and run in a kernel, answer by answer. Then, in a new process, the model that is
put together of the pieces trains for a fixed number of steps and says words that it has not seen, by each way of
decoding; the PER is printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbgrader.utils import determine_grade

from autograder import solutions
from crosstalk import lab
from crosstalk.course import Lesson, course
from crosstalk.places import write_atomically

pytestmark = pytest.mark.slow

STEPS, WORDS = 120, 64

_TRAIN = f"""
import json, torch
from crosstalk import my_model
from crosstalk.caching import caching
from crosstalk.course import course
from crosstalk.data import cmudict
from crosstalk.data.cmudict import END, PAD, START
from crosstalk.data.word_batches import WordBatches, pad_rows
from crosstalk.decoding import stepping
from crosstalk.map import model_map
from crosstalk.models import word_model
from crosstalk.training import train

torch.manual_seed(0)
torch.set_num_threads(1)
pieces = {{name: my_model.get(name) for name in course().exercises}}
model = word_model()
log = train(model, WordBatches(cmudict.load("train"), 128), {STEPS}, pieces["train_step"], words=("attention",),
            device=torch.device("cpu"))
words = cmudict.load("test").select(list(range(0, 12_000, 12_000 // {WORDS}))[:{WORDS}])
ids = [cmudict.letters_to_ids(word) for word in words["word"]]
padded, gold = pad_rows(ids), pad_rows([cmudict.phonemes_to_ids(listed[0]) for listed in words["pronunciations"]])

def per(said):
    edits = phonemes = 0
    for mine, listed in zip(said, words["pronunciations"], strict=True):
        mine = cmudict.ids_to_phonemes(mine)
        distances = [(pieces["edit_distance"](mine, one.split()), len(one.split())) for one in listed]
        edits, phonemes = edits + min(distances)[0], phonemes + min(distances)[1]
    return 100 * edits / phonemes

def searched(row):
    with stepping(model, torch.tensor([row])) as step:
        return pieces["beam_search"](step, START, END, 4, 32, 0.0)[0]

with torch.inference_mode():
    mask = pieces["padding_mask"](padded, PAD)
    one_by_one = [pieces["greedy_word"](model, torch.tensor([row]), START, END, 32) for row in ids]
    greedy = pieces["greedy_decode"](model, padded, mask, START, END, PAD, 32)
    with caching(model) as memories:
        cached = pieces["greedy_decode"](model, padded, mask, START, END, PAD, 32)
    forced = model(padded, pieces["shift_right"](gold, START), mask)
    drawn = pieces["sample"](forced[:, 0], 1.0, 5, 0.9, torch.Generator().manual_seed(0))
inputs = pieces["scheduled_sampling"](
    pieces["shift_right"](gold, START), forced.argmax(-1), torch.ones_like(gold, dtype=torch.bool), START, PAD
)
print()
print(json.dumps({{
    "own": [name for name in pieces if my_model.is_own(name)],
    "modules": sorted({{type(each).__module__ for each in model.modules()}}),
    "map": model_map("09").summary(),
    "first": log.losses[0], "last": sum(log.losses[-10:]) / 10, "per": per(greedy.tolist()),
    "one by one": per(one_by_one), "cached": torch.equal(cached, greedy), "taken": memories.taken,
    "beam": per([searched(row) for row in ids]), "drawn": list(drawn.shape), "replaced": bool((inputs != gold).any()),
    "free": pieces["free_running_accuracy"](greedy, gold, PAD),
    "errors": [pieces[name](greedy, gold, PAD)[:4].tolist()
               for name in ("error_by_position", "aligned_error_by_position")],
}}))
"""


def walk_through(lesson: Lesson) -> dict[str, tuple[float | None, float]]:
    """Write each solution into the student's copy, run it and its check; the points as nbgrader reads them."""
    copy = lab.copy_lesson(lesson)
    notebook = nbformat.read(copy, as_version=4)
    source = solutions.read_source(lesson)
    earned = {}
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(copy.parent)}})
    with client.setup_kernel():
        run(client, next(index for index, cell in enumerate(notebook.cells) if "import check" in cell.source))
        for entry in lesson.exercises:
            answer, check = index_of(notebook, f"answer-{entry.name}"), index_of(notebook, f"check-{entry.name}")
            notebook.cells[answer].source = solutions.answer_source(source, entry.name)
            write_atomically(copy, nbformat.writes(notebook))
            run(client, answer)
            run(client, check)
            earned[entry.name] = determine_grade(notebook.cells[check])
    return earned


def index_of(notebook: NotebookNode, cell_id: str) -> int:
    return next(index for index, cell in enumerate(notebook.cells) if cell.id == cell_id)


def run(client: NotebookClient, index: int) -> None:
    client.execute_cell(client.nb.cells[index], index)


def trained(work: Path) -> tuple[str, dict]:
    """What the student's model does in a new process: what was said before, and the figures."""
    environment = os.environ | {"CROSSTALK_WORK": str(work)}
    done = subprocess.run(
        [sys.executable, "-c", _TRAIN], env=environment, cwd=work, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    said, _, last = done.stdout.rstrip().rpartition("\n")
    return said, json.loads(last)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new student's work folder, and the environment that `course.py lab` gives."""
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    monkeypatch.setenv("CROSSTALK_WORK", str(tmp_path))
    environment = dict(os.environ)
    lab.set_environment(environment)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_the_walk(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for lesson in course().ready:
        assert walk_through(lesson) == {entry.name: (entry.points, entry.points) for entry in lesson.exercises}
    said, found = trained(work)
    assert found["own"] == course().exercises
    assert "stand-in" not in said
    assert not any(module.startswith("crosstalk.stand_ins") for module in found["modules"])
    assert found["last"] < 1.5 < 3.4 < found["first"] < 4.5
    with capsys.disabled():
        print(
            f"\nthe walk: {len(found['own'])} pieces, all the student's own; {STEPS} steps of 128 words, "
            f"loss {found['first']:.2f} to {found['last']:.2f}; PER {found['per']:.1f} over {WORDS} unseen words, "
            f"{found['beam']:.1f} by beam search; {100 * found['free']:.1f} % of their phonemes right in their places"
        )
    assert found["per"] < 60
    assert found["per"] == pytest.approx(found["one by one"])
    assert found["cached"] and set(found["taken"]) == {1}
    assert found["beam"] < 60 and found["drawn"] == [WORDS] and found["replaced"]
    same_index, aligned = found["errors"]
    assert sum(aligned) <= sum(same_index)
    assert same_index[0] == pytest.approx(aligned[0], abs=0.15)


def test_with_some_pieces_the_rest_are_stand_ins_and_are_named(work: Path) -> None:
    some = course().lessons[1]
    walk_through(some)
    said, found = trained(work)
    assert found["own"] == [entry.name for entry in some.exercises]
    for name in ("EncoderDecoder", "Encoder", "train_step", "masked_attention", "attend_with_cache", "beam_search"):
        assert f"{name}: the stand-in, until yours has passed its check." in said
