"""What the widgets of a decode and of a beam search compute and say, without a browser."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from crosstalk import my_model
from crosstalk.caching import caching
from crosstalk.checkpoints import load_model
from crosstalk.data.cmudict import END, PHONEMES, START, letters_to_ids, phonemes_to_ids
from crosstalk.models import Size, word_model
from crosstalk.stand_ins import lesson_07, lesson_08
from crosstalk.stand_ins.lesson_07 import attend_with_cache
from crosstalk.stand_ins.lesson_08 import beam_search, beam_step
from crosstalk.widgets import BeamTree, DecodeSteps
from crosstalk.widgets.beam_record import Asked, grow
from crosstalk.widgets.decode_costs import Sizes, encoder_cost, step_cost
from crosstalk.widgets.decode_run import run

# -- what a step costs --

TINY = Sizes(d_model=4, d_ff=8, vocabulary=5, encoder_layers=1, decoder_layers=1)


def test_the_costs_of_a_tiny_model_by_hand():
    # One layer, d 4, d_ff 8, 5 tokens; 3 letters, the third step. A product of a vector with a 4 × 4 matrix: 32 FLOP.
    plain = step_cost(TINY, source=3, length=3, cached=False)
    assert plain.projections == 3 * 6 * 32 + 3 * 2 * 32  # six of each place, two of each letter
    assert plain.attention == 2 * 3 * (3 + 3) * 2 * 4  # scores and sums, 3 places × (3 tokens + 3 letters)
    assert plain.feed_forward == 3 * 2 * 2 * 4 * 8
    assert plain.generator == 3 * 2 * 4 * 5
    assert plain.read == plain.written == 0
    kept = step_cost(TINY, source=3, length=3, cached=True)
    assert kept.projections == 6 * 32
    assert kept.attention == 2 * 1 * (3 + 3) * 2 * 4
    assert kept.feed_forward == 2 * 2 * 4 * 8 and kept.generator == 2 * 4 * 5
    assert kept.read == (2 + 3) * 2 * 4 * 4  # keys and values, 4 numbers of 4 bytes, of 2 tokens and 3 letters
    assert kept.written == 2 * 4 * 4
    assert step_cost(TINY, source=3, length=1, cached=True).written == (1 + 3) * 2 * 4 * 4


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return word_model(Size(d_model=16, heads=2, d_ff=24, encoder_layers=2, decoder_layers=3), own=False).eval()


@pytest.mark.parametrize("cached", [False, True])
def test_pytorch_counts_the_same(small, cached):
    sizes, source = Sizes.of(small), torch.tensor([letters_to_ids("crossing")])
    assert (sizes.d_ff, sizes.encoder_layers, sizes.decoder_layers) == (24, 2, 3)
    target = torch.tensor([[START, 5, 6, 7, 8]])
    with torch.no_grad(), caching(small, own=False) if cached else nullcontext():
        with FlopCounterMode(display=False) as counted:
            memory = small.encode(source)
        assert counted.get_total_flops() == encoder_cost(sizes, 8).flops
        for length in range(1, 6):
            with FlopCounterMode(display=False) as counted:
                small.decode(target[:, :length], memory)
            assert counted.get_total_flops() == step_cost(sizes, 8, length, cached).flops


def test_a_cached_step_grows_only_in_its_attention():
    large = Sizes(d_model=512, d_ff=2048, vocabulary=8000, encoder_layers=6, decoder_layers=6)
    early, late = (step_cost(large, 10, length, True) for length in (10, 1000))
    assert early.projections == late.projections and early.feed_forward == late.feed_forward
    assert late.attention / early.attention == (1000 + 10) / (10 + 10)
    assert step_cost(large, 10, 1000, False).projections > 900 * late.projections


# -- DecodeSteps --


def test_each_step_computes_the_prefix_or_one_token(small):
    plain, kept = (run(small, letters_to_ids("cat"), START, END, 6, cached) for cached in (False, True))
    assert plain.tokens == kept.tokens
    assert plain.taken == [1, 2, 3, 4, 5, 6] and kept.taken == [1] * 6
    torch.testing.assert_close(plain.logits, kept.logits, rtol=1e-4, atol=1e-5)
    assert len(plain.milliseconds) == 7 and min(plain.milliseconds) > 0


def test_the_widget_says_what_a_decode_does_and_costs(small):
    model = load_model("cmudict-lesson", own=False)
    found = DecodeSteps(model, "Knight").results
    assert found["problem"] == "" and found["letters"] == list("knight")
    plain, kept = found["ways"]["plain"], found["ways"]["cached"]
    assert plain["tokens"] == kept["tokens"] == ["N", "AY", "T", "<end>"]
    assert found["same"]["state"] == "agrees" and "Both ways give the same 4 tokens" in found["same"]["said"]
    assert len(plain["costs"]) == len(plain["ms"]) == 5
    assert plain["costs"][0] == kept["costs"][0]  # the encoder runs once in both
    assert plain["costs"][1]["flops"] == kept["costs"][1]["flops"]
    assert plain["costs"][4]["flops"] == 4540416 and kept["costs"][4]["flops"] == 938496
    assert sum(cost["written"] for cost in kept["costs"]) == (4 + 6) * 2 * 2 * 128 * 4
    assert plain["ms_whole"] > 0 and kept["ms_whole"] > 0 and found["runs"] >= 1


def test_words_of_the_description(small):
    text = DecodeSteps(small, "cat").describe()
    assert "computes 210 places in 20 steps" in text and "computes 20 places in 20 steps" in text
    assert "median of" in text


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ((), "The cache is the stand-in"),
        (("KeyValueCache",), "uses your `KeyValueCache`; `attend_with_cache` is the stand-in"),
        (("KeyValueCache", "attend_with_cache"), "The cache is yours"),
    ],
)
def test_it_says_whose_cache_it_is(small, monkeypatch, own, said):
    monkeypatch.setattr(my_model, "is_own", lambda name: name in own)
    assert said in DecodeSteps(small, "cat").results["pieces"]


def broken_pieces(monkeypatch, **pieces):
    monkeypatch.setattr(my_model, "get", lambda name, own=True: pieces.get(name) or my_model.stand_in(name))


def test_a_cache_that_fails_is_told_and_the_other_way_is_shown(small, monkeypatch):
    def attend(attention, states, cache, mask=None):
        raise NotImplementedError

    broken_pieces(monkeypatch, attend_with_cache=attend)
    widget = DecodeSteps(small, "cat")
    assert widget.results["problem"] == "`attend` is not written yet."
    assert list(widget.results["ways"]) == ["plain"]
    assert "`attend` is not written yet." in widget.describe()


def test_a_cache_that_changes_what_is_said_is_told(small, monkeypatch):
    def attend(attention, states, cache, mask=None):
        output, weights = attend_with_cache(attention, states, cache, mask)
        return -output, weights

    broken_pieces(monkeypatch, attend_with_cache=attend)
    same = DecodeSteps(load_model("cmudict-lesson", own=False), "attention").results["same"]
    assert same["state"] == "differs"
    assert same["said"].startswith("With the cache the model says") and "without it AH T EH N SH" in same["said"]


def test_logits_that_are_a_little_off_are_told(small, monkeypatch):
    def attend(attention, states, cache, mask=None):
        output, weights = attend_with_cache(attention, states, cache, mask)
        return output * 1.02, weights

    broken_pieces(monkeypatch, attend_with_cache=attend)
    same = DecodeSteps(load_model("cmudict-lesson", own=False), "knight").results["same"]
    assert same["state"] == "differs" and "the logits differ by up to" in same["said"]


@pytest.mark.parametrize("make", [DecodeSteps, BeamTree])
@pytest.mark.parametrize(
    ("word", "said"),
    [("", "The word is empty"), ("ca7", "'ca7' has '7'"), ("a" * 17, "has 17 letters: give a word of at most 16")],
)
def test_a_bad_word_is_told_and_the_last_stays(small, make, word, said):
    widget = make(small, "cat")
    before = widget.results
    widget.word = word
    assert said in widget.results["problem"]
    assert widget.results == {**before, "problem": widget.results["problem"]}
    assert said in make(small, word).describe()


@pytest.mark.parametrize("make", [DecodeSteps, BeamTree])
def test_a_model_that_fails_is_told(small, make):
    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder, self.generator = small.encoder, small.decoder, small.generator

        def encode(self, source, source_mask=None):
            raise NotImplementedError

    assert make(Broken(), "cat").results["problem"] == "`encode` is not written yet."


# -- what a search asked --


class Table(torch.nn.Module):
    """A model that looks the probabilities after each prefix up, and writes down which it was asked for."""

    def __init__(self, rows, otherwise):
        super().__init__()
        self.rows, self.otherwise = rows, otherwise
        self.computed = []
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def encode(self, source, source_mask=None):
        return torch.zeros(len(source), source.size(1), 1)

    def decode(self, target, memory, target_mask=None, memory_mask=None, start=0):
        assert len(memory) == len(target)
        self.computed += [tuple(row[1:]) for row in target.tolist()]
        rows = [
            [self.rows.get(tuple(row[1 : n + 1]), self.otherwise) for n in range(len(row))] for row in target.tolist()
        ]
        return torch.tensor(rows).log()


A, B = 3, 4
# P after each prefix over <pad>, <start>, <end>, a, b. Greedy: a, then the end: 0.55 · 0.4 = 0.22.
# b, a, the end: 0.45 · 0.9 · 0.9 = 0.3645.
ROWS = {
    (): [0.0, 0.0, 0.0, 0.55, 0.45],
    (A,): [0.0, 0.0, 0.4, 0.35, 0.25],
    (B,): [0.0, 0.0, 0.04, 0.9, 0.06],
    (B, A): [0.0, 0.0, 0.9, 0.06, 0.04],
}
REST = [0.0, 0.0, 0.8, 0.11, 0.09]


def asked_by(search, width, longest=4):
    asked = Asked(Table(ROWS, REST), [1, 2], START)
    asked.begin(longest)
    return asked, search(asked, START, END, width, longest, 0.0)


def kinds(tree, level):
    return [(node.prefix, node.rank, node.kind) for node in tree.levels[level]]


def test_the_tree_is_the_table_step_by_step():
    asked, (best, score) = asked_by(beam_search, 2)
    assert best == [B, A, END] and score == pytest.approx(torch.tensor(0.45 * 0.9 * 0.9).log().item())
    tree = grow(asked, 2, END, pruned=1)
    assert kinds(tree, 0) == [((A,), 1, "kept"), ((B,), 2, "kept")]  # what has probability 0 is not shown
    assert kinds(tree, 1) == [((B, A), 1, "kept"), ((A, END), 2, "finished"), ((A, A), 3, "pruned")]
    assert kinds(tree, 2)[0] == ((B, A, END), 1, "finished")
    node = tree.levels[2][0]
    assert node.total == pytest.approx(score) and node.log_prob == pytest.approx(torch.tensor(0.9).log().item())
    assert tree.expansions == [5, 10, 5, 5] and tree.strays == []
    assert [n.prefix for n in tree.of_kind("finished")[:2]] == [(A, END), (B, A, END)]


def test_what_is_marked_is_shown_however_low_it_fell():
    asked, _ = asked_by(beam_search, 1)
    assert (B,) not in [node.prefix for node in grow(asked, 1, END, pruned=0).levels[0]]
    node = grow(asked, 1, END, pruned=0, marked=[B, A, END]).levels[0][-1]
    assert (node.prefix, node.rank, node.kind) == ((B,), 2, "pruned")


def test_the_totals_are_those_of_all_sequences():
    asked, _ = asked_by(beam_search, 50, longest=3)
    model = Table(ROWS, REST)
    tree = grow(asked, 50, END, pruned=0)
    found = {node.prefix: node.total for node in tree.of_kind("finished") + tree.of_kind("unfinished")}
    for length in (1, 2, 3):
        for body in itertools.product([A, B], repeat=length - 1):
            for last in [END] if length < 3 else [END, A, B]:
                tokens = (*body, last)
                chances = [(model.rows.get(tokens[:n]) or REST)[tokens[n]] for n in range(length)]
                wanted = torch.tensor(chances, dtype=torch.float64).prod()
                if wanted:
                    assert found.pop(tokens) == pytest.approx(wanted.log().item(), abs=1e-5)
    assert found == {}


def test_a_prefix_is_computed_once_whatever_the_width():
    model = Table(ROWS, REST)
    asked = Asked(model, [1, 2], START)
    for width in (2, 1, 2):
        asked.begin(4)
        beam_search(asked, START, END, width, 4, 0.0)
    assert len(model.computed) == len(set(model.computed))


def one_by_one(step, start, end, width, longest, alpha):
    """The same search, asking for one prefix at a time, the finished ones among them."""
    beams, done = [([start], 0.0)], []
    for _ in range(longest):
        found = [([*tokens, i], score + p) for tokens, score in beams
                 for i, p in enumerate(step(torch.tensor([tokens]))[0].tolist())]  # fmt: skip
        best = sorted(found, key=lambda each: -each[1])[:width]
        done += [(tokens[1:], score) for tokens, score in best if tokens[-1] == end]
        for tokens, _ in best:
            if tokens[-1] == end and len(tokens) <= longest:
                step(torch.tensor([tokens]))
        beams = [each for each in best if each[0][-1] != end]
    return max(done, key=lambda each: each[1])


def equal_starts(step, start, end, width, longest, alpha):
    """The same search, begun with beams that cannot win."""
    asked = torch.full((width, 1), start)
    step(asked)
    return beam_search(step, start, end, width, longest, alpha)


@pytest.mark.parametrize("search", [one_by_one, equal_starts])
def test_searches_written_in_another_way_have_the_same_tree(search):
    tree = grow(asked_by(beam_search, 2)[0], 2, END, pruned=1)
    assert grow(asked_by(search, 2)[0], 2, END, pruned=1) == tree


# -- BeamTree --


@pytest.fixture(scope="module")
def words():
    return load_model("cmudict-lesson", own=False)


def test_greedy_and_beam_are_what_the_lessons_decode(words):
    for word in ("island", "knight"):
        widget = BeamTree(words, word, 3, search=beam_search)
        source = torch.tensor([letters_to_ids(word)])
        greedy = lesson_07.greedy_decode(words, source, None, START, END, 0, len(word) + 3)[0].tolist()
        assert " ".join(PHONEMES[i] for i in greedy) in widget.results["greedy"]
        best = [node["token"] for level in widget.results["levels"] for node in level["nodes"] if node["best"]]
        assert " ".join(best) == widget.results["complete"][0]["tokens"]
        assert widget.results["complete"][0]["best"] and widget.results["differs"] == ""


def test_a_beam_finds_what_greedy_misses(words):
    widget = BeamTree(words, "island", 1, search=beam_search)
    assert "says the same" in widget.results["beam"]
    assert "was pruned at step 1: AY was number 2 of 42 expansions" in widget.results["gold"]
    assert "is higher than that of what was found: the search lost it" in widget.results["gold"]
    widget.width = 2
    assert "says AY L AH N D <end>" in widget.results["beam"]
    assert widget.results["gold"] == "The dictionary lists AY L AH N D <end>: what the search found is right."
    assert widget.describe().count("island") == 1 and "Greedy decoding says IH S L AH N D <end>" in widget.describe()


def test_where_the_right_answer_was_dropped(words):
    found = BeamTree(words, "choir", 3, search=beam_search).results
    gold = [node for level in found["levels"] for node in level["nodes"] if node["gold"]]
    assert [(node["token"], node["kind"]) for node in gold] == [("K", "kept"), ("W", "kept"), ("AY", "pruned")]
    assert f"pruned at step 3: AY was number {gold[-1]['rank']} of 126" in found["gold"]
    assert "by this score the wrong answer is the better one" in found["gold"]


def test_a_right_answer_that_finished_behind_has_its_number(words):
    assert (
        "which finished as number 3 by score (−1.73)"
        in BeamTree(words, "through", 3, search=beam_search).results["gold"]
    )


def test_of_several_pronunciations_the_likeliest_is_marked(words):
    assert "the likeliest of the 2 it lists," in BeamTree(words, "tomato", 3, search=beam_search).results["gold"]


def test_a_word_that_is_not_listed_has_no_mark(words):
    found = BeamTree(words, "asdfjk", search=beam_search).results
    assert "does not have this word" in found["gold"]
    assert not any(node["gold"] for level in found["levels"] for node in level["nodes"])


def test_the_penalty_divides_and_changes_no_branch(words):
    widget = BeamTree(words, "island", 3, search=beam_search)
    before = widget.results
    widget.alpha = 2.0
    after = widget.results
    assert [[n["key"] for n in level["nodes"]] for level in after["levels"]] == [
        [n["key"] for n in level["nodes"]] for level in before["levels"]
    ]
    for each in after["complete"]:
        assert each["score"] == pytest.approx(each["total"] / each["length"] ** 2)
    assert after["complete"][0]["length"] > before["complete"][0]["length"] == 6
    assert "log P / length^2 = −0.0" in after["beam"]


def test_sliders_stay_in_their_range(words):
    widget = BeamTree(words, "cat", width=99, alpha=7.0, search=beam_search)
    assert (widget.width, widget.alpha) == (8, 2.0)
    widget.width, widget.alpha = 0, -1.0
    assert (widget.width, widget.alpha) == (1, 0.0)


def per_beam(log_probs, scores, width):
    """The best of each beam, never across."""
    total = scores[:, None] + log_probs
    best, tokens = total.topk(width // len(scores) or 1, dim=1)
    return best.flatten(), torch.arange(len(scores)).repeat_interleave(best.size(1)), tokens.flatten()


def searching_with(beam_step):
    def search(*arguments):
        before, lesson_08.beam_step = lesson_08.beam_step, beam_step
        try:
            return beam_search(*arguments)
        finally:
            lesson_08.beam_step = before

    return search


def test_the_right_step_handed_in_is_no_other(words):
    assert BeamTree(words, "island", search=searching_with(beam_step)).results["differs"] == ""


def stops_at_the_first_end(step, start, end, width, longest, alpha):
    class Enough(Exception):
        pass

    def until(prefixes):
        if prefixes.size(1) > 5:
            raise Enough
        return step(prefixes)

    try:
        return beam_search(until, start, end, width, longest, alpha)
    except Enough:
        return phonemes_to_ids("CH OY R"), -0.92


def forgets_the_penalty(step, start, end, width, longest, alpha):
    return beam_search(step, start, end, width, longest, 0.0)


def takes_the_last(step, start, end, width, longest, alpha):
    beam_search(step, start, end, width, longest, alpha)
    return phonemes_to_ids("K OY R"), -1.64


def test_a_wrong_search_is_drawn_as_it_is_and_told(words):
    def told(search, alpha=0.0):
        return BeamTree(words, "choir", 3, alpha, search=search).results

    assert "At step 2 “K W” (log P = −1.82) is number 3 of all expansions" in told(searching_with(per_beam))["differs"]
    assert "your search does not go on with it" in told(stops_at_the_first_end)["differs"]
    assert "Your search returns the score −0.92; −0.23 is wanted" in told(forgets_the_penalty, 1.0)["differs"]
    assert "Your search returns K OY R <end>; CH OY R <end> has the best score" in told(takes_the_last)["differs"]


@pytest.mark.parametrize(
    ("search", "said"),
    [
        (lambda step, s, e, w, n, a: ([5, e], -1.0), "returned without asking `step` for anything"),
        (lambda step, s, e, w, n, a: step(torch.tensor([s])), "`step` was asked with shape (1,)"),
        (lambda step, s, e, w, n, a: step(torch.tensor([[5]])), "does not begin with the start token"),
        (lambda step, s, e, w, n, a: step(torch.full((1, 40), s)), "a prefix of 39 tokens; 6 is the most"),
        (lambda step, s, e, w, n, a: None, "`beam_search` stopped with TypeError"),
        (lambda step, s, e, w, n, a: beam_search(step, s, e, 99, n, a)[0], "`beam_search` stopped with ValueError"),
    ],
)
def test_a_search_that_fails_is_told_in_a_sentence(words, search, said):
    widget = BeamTree(words, "cat", search=search)
    assert said in widget.results["problem"] and "levels" not in widget.results
    assert said in widget.describe()
