"""Lesson 08: one expansion of a beam, beam search, filters of the next token, and a drawn one."""

# ruff: noqa: B905 - mistakes and variants are written as students write them.
# mypy: ignore-errors

import math
from itertools import product

import torch
from torch.nn import functional as F

from autograder.exercise import Exercise, call
from autograder.scenarios.table_step import steps
from crosstalk.stand_ins import lesson_08

NEVER = float("-inf")


def _drawn(draw, make, fits):
    """The first of many draws that fits: cases have no ties, and tell apart what they are there to tell apart."""
    for _ in range(50_000):
        if fits(made := make(draw)):
            return made
    raise ValueError("none of 50,000 draws fits")


# --- beam_step -------------------------------------------------------------------------------------------------

beam_step = Exercise("beam_step", returns=["scores (kept,)", "parents (kept,)", "tokens (kept,)"])


def _expansion(draw, beams, vocabulary, width, fits=lambda scores, parents, tokens: True, dtype=torch.float32):
    """Log-probabilities and scores without near ties, whose result fits."""

    def make(draw):
        log_probs = draw.normal(beams, vocabulary, scale=1.5, dtype=dtype).log_softmax(dim=-1)
        return log_probs, -draw.normal(beams, dtype=dtype).abs() - 0.1, width

    def apart(made):
        log_probs, scores, _ = made
        total = (scores[:, None] + log_probs).flatten().sort().values
        return (total.diff() > 0.004).all() and fits(*lesson_08.beam_step(*made))

    return _drawn(draw, make, apart)


@beam_step.case("two beams, four tokens, the best three")
def _(draw):
    return _expansion(draw, 2, 4, 3, lambda _, parents, tokens: len(set(parents.tolist())) == 2)


@beam_step.case("the first step: one beam")
def _(draw):
    log_probs, _, width = _expansion(draw, 1, 5, 3)
    return log_probs, torch.zeros(1), width


@beam_step.case("all the best come from one beam")
def _(draw):
    return _expansion(draw, 3, 5, 3, lambda _, parents, tokens: (parents == 2).all())


@beam_step.case("as many beams as tokens, so that a wrong dimension raises nothing")
def _(draw):
    return _expansion(draw, 4, 4, 4, lambda _, parents, tokens: len(set(parents.tolist())) == 3)


@beam_step.case("width 1")
def _(draw):
    return _expansion(draw, 3, 4, 1, lambda _, parents, tokens: parents[0] == 1)


@beam_step.case("fewer beams than width, more than the vocabulary; both are long, their scores near -120")
def _(draw):
    log_probs, scores, width = _expansion(draw, 2, 4, 6)
    return log_probs, scores - 120, width


@beam_step.case("wider than there are expansions")
def _(draw):
    return _expansion(draw, 2, 3, 9)


@beam_step.case("two of three beams start at -inf")
def _(draw):
    log_probs, *_ = _expansion(draw, 3, 5, 3)
    return log_probs[:1].expand(3, 5), torch.tensor([0.0, NEVER, NEVER]), 3


@beam_step.case("a token of log-probability -inf, which comes last, by name")
def _(draw):
    def hidden(draw):  # one token alone: several at -inf would have no order
        log_probs, scores, _ = _expansion(draw, 2, 4, 8)
        log_probs[1, 2] = NEVER
        return log_probs.log_softmax(dim=-1), scores

    def apart(made):
        log_probs, scores = made
        return (lesson_08.beam_step(log_probs, scores, 7)[0].diff() < -0.004).all()

    log_probs, scores = _drawn(draw, hidden, apart)
    return call(log_probs=log_probs, scores=scores, width=8)


@beam_step.case("float64, not contiguous")
def _(draw):
    log_probs, scores, width = _expansion(draw, 3, 7, 5, dtype=torch.float64)
    return log_probs.T.contiguous().T, scores, width


@beam_step.case("a likely token of an unlikely beam")
def _(draw):
    log_probs = torch.tensor([[0.3, 0.25, 0.45], [0.02, 0.96, 0.02]]).log()
    return log_probs, torch.tensor([-0.7, -3.2]), 3


_WRONG_PARENT = (
    "The parent is wrong: the flat table has V places for each beam, so place i belongs to beam `i // V`, whatever the "
    "width. (And the token is `i % V`.)"
)
_BOTH_WRONG = (
    "Parent and token are wrong: the flat table has V places for each beam, so divide by V: `i // V`, `i % V`. V is "
    "`log_probs.size(1)`."
)
_PROBABILITIES = (
    "You add probabilities. A sequence's probability is the product over its tokens, so the logarithms are added: "
    "`scores[:, None] + log_probs`."
)
_PER_BEAM = (
    "Each beam keeps its own best token: these are greedy searches side by side. Flatten the table, and take the "
    "best of all expansions together."
)
_TOO_MANY = "You keep `width` expansions of each beam. Asked are the `width` best of all together: flatten first."
_NO_SCORES = "The scores so far are lost: the score of an expansion is that of its beam plus log_probs."
_COLUMNS = (
    "You added the scores to the columns: each token got the score of some beam. Beams are the rows: `scores[:, None]`."
)
_NOT_CUT = (
    "With few beams and a small vocabulary there are fewer than `width` expansions, and `topk` refuses: take "
    "`min(width, beams·V)`."
)
_CUT_TO_V = "You cut the width to the vocabulary. There are beams·V expansions: take `min(width, beams·V)` of them."
_UNDERFLOW = (
    "You multiply probabilities and take the logarithm afterwards. Those of long sequences underflow: below about "
    "e^-103 float32 has only 0, whose logarithm is -inf. Add the logarithms."
)
_NOT_IMPOSSIBLE = (
    "You replace -inf by a large negative number. -inf says that an expansion is impossible, and whoever calls looks "
    "for it: leave it as it is."
)
_IN_PLACE = "The result is right, but you changed an argument in place (`+=`). Write `scores[:, None] + log_probs`."

beam_step.slip("parent_by_width", _WRONG_PARENT, {"places // vocabulary": "places // width"})
beam_step.slip("parent_by_beams", _WRONG_PARENT, {"places // vocabulary": "places // len(scores)"})
beam_step.slip(
    "both_by_width", _BOTH_WRONG, {"places // vocabulary, places % vocabulary": "places // width, places % width"}
)
beam_step.slip("both_by_beams", _BOTH_WRONG, {
    "places // vocabulary, places % vocabulary": "places // len(scores), places % len(scores)"
})  # fmt: skip
beam_step.slip(
    "parent_and_token_exchanged",
    "Parents and tokens have changed places: `i // V` is the beam that an expansion comes from, `i % V` its token, and "
    "they are returned in this order.",
    {"places // vocabulary, places % vocabulary": "places % vocabulary, places // vocabulary"},
)
beam_step.slip("probabilities_added", _PROBABILITIES, {"+ log_probs": "+ log_probs.exp()"})
beam_step.slip("softmax_added", _PROBABILITIES, {"+ log_probs": "+ log_probs.softmax(dim=-1)"})
beam_step.slip(
    "multiplied",
    "You multiply logarithms. The product of probabilities is the sum of their logarithms.",
    {"+ log_probs": "* log_probs"},
)
beam_step.slip(
    "subtracted", "You subtract the log-probabilities. Add them: both are 0 or less.", {"+ log_probs": "- log_probs"}
)
beam_step.slip("scores_left_out", _NO_SCORES, {"scores[:, None] + log_probs": "log_probs"})


@beam_step.mistake(
    "The order takes the scores so far into account, but what you return does not: those are the log-probabilities of "
    "the last token alone."
)
def last_token_only_returned(log_probs, scores, width):
    total = (scores[:, None] + log_probs).flatten()
    places = total.topk(min(width, len(total))).indices
    return log_probs.flatten()[places], places // log_probs.size(1), places % log_probs.size(1)


beam_step.slip(
    "probabilities_returned",
    "The choice is right, but you return probabilities. Asked are their logarithms: the next step adds to them.",
    {"(scores[:, None] + log_probs).flatten()": "(scores[:, None] + log_probs).exp().flatten()"},
)


@beam_step.mistake(_UNDERFLOW)
def through_probabilities(log_probs, scores, width):
    chances = (scores.exp()[:, None] * log_probs.exp()).flatten()
    best, places = chances.topk(min(width, len(chances)))
    return best.log(), places // log_probs.size(1), places % log_probs.size(1)


beam_step.slip("clamped", _NOT_IMPOSSIBLE, {".flatten()": ".flatten().clamp(min=-1e9)"})
beam_step.slip("smallest_for_impossible", _NOT_IMPOSSIBLE, {".flatten()": ".flatten().nan_to_num()"})


@beam_step.mistake(
    "You drop the impossible expansions. Asked are min(width, beams·V), those of -inf at the end included: "
    "`beam_search` sorts them out."
)
def impossible_dropped(log_probs, scores, width):
    total = (scores[:, None] + log_probs).flatten()
    best, places = total.topk(min(width, len(total)))
    best, places = best[best > -float("inf")], places[best > -float("inf")]
    return best, places // log_probs.size(1), places % log_probs.size(1)


@beam_step.mistake(
    "What you have taken you put at -inf, and an impossible expansion has -inf as well: then `argmax` finds one that "
    "was taken before. Use `topk`, or remember which are taken."
)
def argmax_again_and_again(log_probs, scores, width):
    total, kept = (scores[:, None] + log_probs).flatten(), []
    left = total.clone()
    for _ in range(min(width, len(total))):
        kept.append(int(left.argmax()))
        left[kept[-1]] = -float("inf")
    places = torch.tensor(kept)
    return total[places], places // log_probs.size(1), places % log_probs.size(1)


beam_step.slip(
    "averaged",
    "You halve the sum. The score is the whole log-probability; lengths are made fair at the end, not here.",
    {"(scores[:, None] + log_probs).flatten()": "((scores[:, None] + log_probs) / 2).flatten()"},
)
beam_step.slip("scores_to_columns", _COLUMNS, {"scores[:, None]": "scores[None, :]"})
beam_step.slip("scores_broadcast_from_the_right", _COLUMNS, {"scores[:, None]": "scores"})
beam_step.slip(
    "flattened_by_columns",
    "You flattened the transposed table, so its places run over the beams first. Then `i // V` is no beam.",
    {"log_probs).flatten()": "log_probs).T.flatten()"},
)


@beam_step.mistake(_PER_BEAM)
def greedy_each(log_probs, scores, width):
    best, tokens = (scores[:, None] + log_probs).max(dim=-1)
    order = best.argsort(descending=True)[:width]
    return best[order], order, tokens[order]


@beam_step.mistake(_TOO_MANY)
def width_of_each(log_probs, scores, width):
    best, tokens = (scores[:, None] + log_probs).topk(min(width, log_probs.size(1)), dim=-1)
    parents = torch.arange(len(scores))[:, None].expand_as(tokens)
    return best.flatten(), parents.flatten(), tokens.flatten()


@beam_step.mistake(_TOO_MANY)
def width_of_each_sorted(log_probs, scores, width):
    best, tokens = (scores[:, None] + log_probs).topk(min(width, log_probs.size(1)), dim=-1)
    parents = torch.arange(len(scores))[:, None].expand_as(tokens)
    best, order = best.flatten().sort(descending=True)
    return best, parents.flatten()[order], tokens.flatten()[order]


@beam_step.mistake(
    "You took `topk` of a table with two dimensions, so it looked within each beam, and the result has two dimensions "
    "too. Flatten first."
)
def table_not_flattened(log_probs, scores, width):
    best, tokens = (scores[:, None] + log_probs).topk(min(width, log_probs.size(1)), dim=-1)
    return best, torch.arange(len(scores))[:, None].expand_as(tokens), tokens


@beam_step.mistake(
    "You look at the best tokens without regard to their beams, and at the beams apart from them. An expansion is a "
    "beam and a token: take the best of the whole table of sums."
)
def beams_and_tokens_apart(log_probs, scores, width):
    total = scores[:, None] + log_probs
    best, tokens = total.max(dim=0).values.topk(min(width, total.size(1)))
    return best, total.argmax(dim=0)[tokens], tokens


@beam_step.mistake(
    "Only the best beam is expanded. Each beam has V expansions, and one of a less likely beam may be better: all "
    "beams·V compete."
)
def best_beam_only(log_probs, scores, width):
    beam = scores.argmax()
    best, tokens = (scores[beam] + log_probs[beam]).topk(min(width, log_probs.size(1)))
    return best, torch.full_like(tokens, int(beam)), tokens


beam_step.slip("width_not_cut", _NOT_CUT, {"min(width, len(total))": "width"})
beam_step.slip("cut_to_the_vocabulary", _CUT_TO_V, {"min(width, len(total))": "min(width, vocabulary)"})
beam_step.slip(
    "cut_to_the_beams",
    "You keep no more than there are beams, so one beam stays one for ever. Take `min(width, beams·V)`.",
    {"min(width, len(total))": "min(width, len(scores))"},
)
beam_step.slip(
    "worst_kept",
    "You keep the worst expansions. Scores are negative, and the best are the largest: those closest to 0.",
    {"min(width, len(total)))": "min(width, len(total)), largest=False)"},
)


@beam_step.mistake(
    "The right expansions, but the worst of them comes first: asked is best first (`topk` and "
    "`sort(descending=True)` give that)."
)
def worst_first(log_probs, scores, width):
    total = (scores[:, None] + log_probs).flatten()
    best, places = total.sort()
    best, places = best[-width:], places[-width:]
    return best, places // log_probs.size(1), places % log_probs.size(1)


@beam_step.mistake(
    "The right expansions, but in the order of the table: asked is best first, as the caller reads off the best one."
)
def in_the_order_of_the_table(log_probs, scores, width):
    total = (scores[:, None] + log_probs).flatten()
    places = total.topk(min(width, len(total))).indices.sort().values
    return total[places], places // log_probs.size(1), places % log_probs.size(1)


beam_step.slip(
    "places_as_tokens",
    "Your tokens are places in the flat table. The token is the remainder, `i % V`.",
    {"places % vocabulary": "places"},
)
beam_step.slip(
    "parents_as_floats",
    "`/` gives floats, and a float is no index. Divide whole numbers with `//`.",
    {"places // vocabulary": "places / vocabulary"},
)
beam_step.slip(
    "parents_rounded_up",
    "`/` and rounding gives the wrong beam from the middle of each row on. Divide whole numbers with `//`, which "
    "rounds down.",
    {"places // vocabulary": "(places / vocabulary).round().long()"},
)
beam_step.slip(
    "two_things_returned",
    "You return scores and places. Asked are three things: scores, parents (`i // V`) and tokens (`i % V`).",
    {"return best, places // vocabulary, places % vocabulary": "return best, places"},
)


@beam_step.mistake("You return Python lists. Asked are tensors: the caller indexes with them.")
def lists_returned(log_probs, scores, width):
    total = (scores[:, None] + log_probs).flatten()
    best, places = total.topk(min(width, len(total)))
    return best.tolist(), (places // log_probs.size(1)).tolist(), (places % log_probs.size(1)).tolist()


@beam_step.mistake(_IN_PLACE)
def log_probs_changed(log_probs, scores, width):
    vocabulary = log_probs.size(1)
    if log_probs.stride(0) == 0:
        log_probs = log_probs.clone()
    log_probs += scores[:, None]
    total = log_probs.flatten()
    best, places = total.topk(min(width, len(total)))
    return best, places // vocabulary, places % vocabulary


@beam_step.mistake(
    "You took the softmax over the table of sums: then beams are made equally likely or not by what they lead to, and "
    "the scores so far no longer add up. Only add and choose."
)
def renormalised_over_all(log_probs, scores, width):
    total = (scores[:, None] + log_probs).flatten().log_softmax(dim=-1)
    best, places = total.topk(min(width, len(total)))
    return best, places // log_probs.size(1), places % log_probs.size(1)


@beam_step.mistake(
    "You renormalise each row of sums, which takes the score of its beam out again: every beam then counts the same."
)
def renormalised_over_rows(log_probs, scores, width):
    total = (scores[:, None] + log_probs).log_softmax(dim=-1).flatten()
    best, places = total.topk(min(width, len(total)))
    return best, places // log_probs.size(1), places % log_probs.size(1)


@beam_step.also_right
def sorted_and_cut(log_probs, scores, width):
    scores, places = (log_probs + scores.unsqueeze(1)).reshape(-1).sort(descending=True)
    return (
        scores[:width],
        places[:width].div(log_probs.size(1), rounding_mode="floor"),
        places[:width] % len(log_probs.T),
    )


@beam_step.also_right
def two_rounds(log_probs, scores, width):
    vocabulary = log_probs.size(1)
    own, tokens = (scores.view(-1, 1) + log_probs).topk(min(width, vocabulary), dim=1)
    best, places = own.flatten().topk(min(width, own.numel()))
    return best, places // own.size(1), tokens.flatten()[places]


@beam_step.also_right
def unravelled(log_probs, scores, width):
    total = log_probs + scores[:, None].expand_as(log_probs)
    best, places = torch.topk(total.flatten(), min(width, total.numel()))
    parents, tokens = torch.unravel_index(places, total.shape)
    return best, parents, tokens


@beam_step.also_right
def by_hand(log_probs, scores, width):
    rows = log_probs.tolist()
    every = [
        (score + p, beam, token) for beam, score in enumerate(scores.tolist()) for token, p in enumerate(rows[beam])
    ]
    best = sorted(every, key=lambda each: -each[0])[:width]
    return (
        torch.tensor([score for score, _, _ in best], dtype=scores.dtype),
        torch.tensor([parent for _, parent, _ in best]),
        torch.tensor([token for _, _, token in best]),
    )


@beam_step.also_right
def normalised_again(log_probs, scores, width):
    total = (scores[:, None] + log_probs.log_softmax(dim=-1)).view(-1)
    order = total.argsort(descending=True)[: min(width, total.numel())]
    return total[order], torch.floor_divide(order, log_probs.shape[-1]), torch.remainder(order, log_probs.shape[-1])


beam_step.hint(
    "Every beam has V expansions; the score of one is a sum of two numbers. What shape has the table of all of them?"
)
beam_step.hint(
    "`scores[:, None] + log_probs` is (beams, V). `flatten()` lays its rows one after the other: then `topk`."
)
beam_step.hint(
    "Place i of the flat table: how many whole rows of V lie before it, and how far into its row is it? `//` and `%`."
)

# --- beam_search -----------------------------------------------------------------------------------------------

beam_search = Exercise("beam_search", returns=["ids", "score"])


def _tree(draw, vocabulary, depth, start_id, end_id, scale=1.0, end=0.0, dtype=torch.float32):
    """Log-probabilities after every prefix of fewer than ``depth`` generated tokens; ``end`` is added to its logit."""
    others = [token for token in range(vocabulary) if token != end_id]
    prefixes = [(start_id, *rest) for length in range(depth) for rest in product(others, repeat=length)]
    logits = draw.normal(len(prefixes), vocabulary, scale=scale, dtype=dtype) + 0.001 * torch.arange(vocabulary)
    logits[:, end_id] += end
    return dict(zip(prefixes, logits.to(dtype).log_softmax(dim=-1), strict=True))


def _found(rows, start_id, end_id, width, max_length, alpha, way="asked"):
    """The search in plain Python, as asked or in one of the ways that people take for it: (ids, score)."""
    beams, finished = [((start_id,), 0.0)], []
    for length in range(1, max_length + 1):
        expansions = sorted(
            ((score + p, (*prefix, token)) for prefix, score in beams for token, p in enumerate(rows[prefix].tolist())),
            reverse=True,
        )
        beams, ended = [], []
        for rank, (score, prefix) in enumerate(expansions):
            if len(beams) == width or (way != "refilled" and rank == width):
                break
            if prefix[-1] == end_id and score > NEVER:
                ended.append((score / length**alpha, list(prefix[1:])))
            elif prefix[-1] != end_id and score > NEVER:
                beams.append((prefix, score))
        finished += ended
        width -= len(ended) if way == "shrinking" else 0
        stops = {
            "first end": finished,
            "enough": len(finished) >= width,
            "twice enough": len(finished) >= 2 * width,
            "best ends": expansions[0][1][-1] == end_id,
            "hopeless now": finished and beams and max(finished)[0] >= beams[0][1] / length**alpha,
            "hopeless without penalty": finished and beams and max(finished)[0] >= beams[0][1],
        }
        if not beams or width < 1 or stops.get(way):
            break
    unfinished = [(score / max_length**alpha, list(prefix[1:])) for prefix, score in beams]
    score, ids = max(finished or unfinished)
    return ids, score


def _staying(rows, start_id, end_id, width, max_length, alpha, penalised):
    """What is found where ended sequences keep a place in the beam, which is ranked with the penalty or without."""
    beams = [(0.0, 0.0, (start_id,))]
    for length in range(1, max_length + 1):
        every = [beam for beam in beams if length > 1 and beam[2][-1] == end_id]
        for _, total, prefix in beams:
            if length == 1 or prefix[-1] != end_id:
                sums = [total + p for p in rows[prefix].tolist()]
                every += [
                    (each / length**alpha if penalised else each, each, (*prefix, token))
                    for token, each in enumerate(sums)
                ]
        beams = sorted(every, reverse=True)[:width]
    ended = [beam for beam in beams if beam[2][-1] == end_id]
    best = max(ended or beams, key=lambda beam: beam[1] / (len(beam[2]) - 1) ** alpha)
    return list(best[2][1:])


def _likeliest(rows, start_id, end_id, max_length, alpha):
    """By brute force, the finished sequence of the best score."""
    best = (NEVER, [])
    for prefix, row in rows.items():
        if len(prefix) <= max_length:
            path = [float(rows[prefix[:at]][prefix[at]]) for at in range(1, len(prefix))]
            score = (sum(path) + float(row[end_id])) / len(prefix) ** alpha
            best = max(best, (score, [*prefix[1:], end_id]))
    return best[1]


def _search(draw, width, max_length, alpha, fits, vocabulary=4, start_id=3, end_id=2, no_more=False, **how):
    """Inputs of the scenario ``table_step``: a random tree in which ``fits(rows, found)``.

    With ``no_more`` the step refuses to say what comes after max_length tokens.
    """
    asked = (start_id, end_id, width, max_length, alpha)
    rows = _drawn(
        draw,
        lambda draw: _tree(draw, vocabulary, max_length, start_id, end_id, **how),
        lambda rows: fits(rows, _found(rows, *asked)[0]),
    )
    return _inputs(rows, vocabulary, *asked, no_more=no_more)


def _inputs(rows, vocabulary, start_id, end_id, width, max_length, alpha, no_more=False):
    otherwise = torch.full((vocabulary,), 1 / vocabulary, dtype=next(iter(rows.values())).dtype).log()
    return {
        "step": steps(rows, otherwise, width * max_length + 40, max_length if no_more else None),
        "args": [None, start_id, end_id, width, max_length, alpha],
        "kwargs": {},
    }


@beam_search.case("the likeliest first token leads to nothing good", scenario="table_step")
def _(draw):
    rows = {  # tokens: 0 the start, 1 and 2 are real, 3 the end
        (0,): [0.0, 0.6, 0.4, 0.0],
        (0, 1): [0.0, 0.4, 0.35, 0.25],
        (0, 2): [0.0, 0.07, 0.03, 0.9],
        (0, 1, 1): [0.0, 0.15, 0.35, 0.5],
        (0, 1, 2): [0.0, 0.1, 0.44, 0.46],
        (0, 2, 1): [0.0, 0.25, 0.15, 0.6],
        (0, 2, 2): [0.0, 0.2, 0.1, 0.7],
    }
    return _inputs({prefix: torch.tensor(row).log() for prefix, row in rows.items()}, 4, 0, 3, 2, 3, 0.0)


@beam_search.case("width 1 is greedy", scenario="table_step")
def _(draw):
    return _search(draw, 1, 4, 0.0, lambda rows, found: found != _likeliest(rows, 3, 2, 4, 0.0) and found[-1] == 2
                   and len(found) == 3)  # fmt: skip


@beam_search.case("so wide that it is brute force", scenario="table_step")
def _(draw):
    return _search(
        draw,
        40,
        4,
        0.0,
        lambda rows, found: (
            found == _likeliest(rows, 3, 2, 4, 0.0) != _found(rows, 3, 2, 1, 4, 0.0)[0] and len(found) == 3
        ),
    )


@beam_search.case("a narrow beam misses the best, as it must", scenario="table_step")
def _(draw):
    def fits(rows, found):
        others = (_found(rows, 3, 2, width, 4, 0.0)[0] for width in (1, 3, 40))
        return found not in others

    return _search(draw, 2, 4, 0.0, fits)


@beam_search.case("a longer one wins, after another has ended", scenario="table_step")
def _(draw):
    def fits(rows, found):
        return len(found) == 4 and len(_found(rows, 3, 2, 3, 4, 0.0, "first end")[0]) == 1

    return _search(draw, 3, 4, 0.0, fits, scale=2.0)


@beam_search.case("one that ended early wins", scenario="table_step")
def _(draw):
    return _search(draw, 3, 4, 0.0, lambda rows, found: len(found) == 2, end=0.5)


@beam_search.case("it ends at once", scenario="table_step")
def _(draw):
    return _search(draw, 2, 3, 0.0, lambda rows, found: found == [2], end=3.0)


@beam_search.case("every sequence ends with its second token, long before max_length", scenario="table_step")
def _(draw):
    rows = _tree(draw, 4, 2, 3, 2, end=-1.0)
    for prefix in rows:
        if len(prefix) == 2:
            rows[prefix] = torch.tensor([NEVER, NEVER, 0.0, NEVER])
    rows[(3,)] = torch.tensor([0.25, 0.45, 0.1, 0.2]).log()
    return _inputs(rows, 4, 3, 2, 2, 9, 0.5)


@beam_search.case("the end is impossible, and wide as the beam is, it comes to stand in it", scenario="table_step")
def _(draw):
    return _search(draw, 4, 4, 1.0, lambda rows, found: found != _found(rows, 3, 2, 1, 4, 1.0)[0], end=NEVER)


@beam_search.case(
    "it never ends, penalty 0.6, by name; `step` has no answer after max_length tokens", scenario="table_step"
)
def _(draw):
    ids = {"start_id": 1, "end_id": 0}
    inputs = _search(draw, 3, 3, 0.6, lambda rows, found: len(found) == 3, **ids, end=-30.0, no_more=True)
    _, start_id, end_id, width, max_length, alpha = inputs["args"]
    named = {"start_id": start_id, "end_id": end_id, "width": width, "max_length": max_length, "alpha": alpha}
    return inputs | {"args": [None], "kwargs": named}


@beam_search.case("an unfinished one is likelier than the only one that ended", scenario="table_step")
def _(draw):
    def fits(rows, found):
        endless = {prefix: row.clone() for prefix, row in rows.items()}
        for row in endless.values():
            row[2] = NEVER
        _, best = _found(endless, 3, 2, 3, 3, 0.5)
        return found[-1] == 2 and best > _found(rows, 3, 2, 3, 3, 0.5)[1] + 0.2

    return _search(draw, 3, 3, 0.5, fits)


@beam_search.case("one token is all that is allowed", scenario="table_step")
def _(draw):
    return _inputs({(3,): torch.tensor([0.2, 0.3, 0.1, 0.4]).log()}, 4, 3, 1, 2, 1, 0.7, no_more=True)


@beam_search.case("the only one that ends has a log-probability near -120", scenario="table_step")
def _(draw):
    rows = _tree(draw, 4, 2, 3, 2)
    rows = {prefix: row.index_fill(0, torch.tensor([2]), -120.0).log_softmax(dim=-1) for prefix, row in rows.items()}
    return _inputs(rows, 4, 3, 2, 4, 2, 0.5)


@beam_search.case("the penalty turns the order: alpha 1", scenario="table_step")
def _(draw):
    def fits(rows, found):
        plain = _found(rows, 3, 2, 4, 4, 0.0)[0]
        return len(plain) == 2 and len(found) == 4

    return _search(draw, 4, 4, 1.0, fits)


@beam_search.case("a large penalty: alpha 3", scenario="table_step")
def _(draw):
    def fits(rows, found):
        return len(_found(rows, 3, 2, 3, 4, 1.0)[0]) == 2 and len(found) == 4

    return _search(draw, 3, 4, 3.0, fits)


@beam_search.case("a little penalty: alpha 0.6, float64", scenario="table_step")
def _(draw):
    return _search(draw, 3, 4, 0.6, lambda rows, found: len(found) == 3, dtype=torch.float64)


@beam_search.case("wider than the vocabulary", scenario="table_step")
def _(draw):
    def fits(rows, found):
        return found != _found(rows, 2, 1, 3, 5, 0.0)[0]

    return _search(draw, 5, 5, 0.0, fits, vocabulary=3, start_id=2, end_id=1)


@beam_search.case("start and end are one token, as in some libraries", scenario="table_step")
def _(draw):
    def fits(rows, found):
        return len(found) == 3 and found != _found(rows, 2, 2, 1, 4, 0.0)[0]

    return _search(draw, 2, 4, 0.0, fits, start_id=2)


@beam_search.case("0 is a real token, the start is 7, outside the vocabulary, the end is 1", scenario="table_step")
def _(draw):
    def fits(rows, found):
        return len(found) == 4 and found[0] == 0

    return _search(draw, 3, 4, 0.3, fits, start_id=7, end_id=1)


@beam_search.case("as many as the beam is wide have ended, and a longer one wins", scenario="table_step")
def _(draw):
    def fits(rows, found):
        return found != _found(rows, 3, 2, 2, 5, 1.0, "enough")[0] and len(found) == 5

    return _search(draw, 2, 5, 1.0, fits, end=0.3)


@beam_search.case("twice as many as the beam is wide have ended, and a longer one wins", scenario="table_step")
def _(draw):
    def fits(rows, found):
        return found != _found(rows, 3, 2, 2, 5, 2.0, "twice enough")[0] and len(found) == 5

    return _search(draw, 2, 5, 2.0, fits, end=1.0)


@beam_search.case("those that go on look hopeless at their length, and one of them wins", scenario="table_step")
def _(draw):
    def fits(rows, found):
        ways = {way: _found(rows, 3, 2, 3, 5, 0.9, way)[0] for way in ("best ends", "enough", "hopeless now")}
        return found == ways["best ends"] != ways["hopeless now"]

    return _search(draw, 3, 5, 0.9, fits)


@beam_search.case("ended ones would crowd out the winner, if they stayed", scenario="table_step")
def _(draw):
    def fits(rows, found):
        return all(found != _staying(rows, 3, 2, 3, 5, 1.0, penalised) for penalised in (False, True))

    return _search(draw, 3, 5, 1.0, fits)


@beam_search.case("the best of the beam has ended, and a longer one wins", scenario="table_step")
def _(draw):
    def fits(rows, found):
        best_ends, enough = (_found(rows, 3, 2, 4, 4, 0.8, way)[0] for way in ("best ends", "enough"))
        return found == enough != best_ends

    return _search(draw, 4, 4, 0.8, fits)


@beam_search.case("ended ones take a place in the step in which they end", scenario="table_step")
def _(draw):
    def fits(rows, found):
        return found not in (_found(rows, 3, 2, 2, 4, 0.5, way)[0] for way in ("refilled", "shrinking"))

    return _search(draw, 2, 4, 0.5, fits)


@beam_search.case("ended ones take no place in later steps", scenario="table_step")
def _(draw):
    def fits(rows, found):
        return found != _found(rows, 3, 2, 3, 5, 1.0, "shrinking")[0] and len(found) == 5

    return _search(draw, 3, 5, 1.0, fits)


_STEP_PROBABILITIES = (
    "You add up probabilities. The probability of a sequence is the product over its tokens, so it is the "
    "log-probabilities that are added, and `step` gives them."
)
_K_GREEDY = (
    "Each beam goes on with its own best token, so these are greedy searches that never meet. All expansions of all "
    "beams compete for the places: `beam_step`."
)
_GREEDY_AFTER_ALL = (
    "Whatever `width` says, this is the greedy search. Have you started with `width` equal beams of score 0? They have "
    "equal expansions, so all of them stay equal. Start with one beam, or with the others at -inf."
)
_OWN_PARENT = (
    "The new tokens are appended to whatever stood in that row. They belong to their parents: `prefixes[parents]` "
    "first, then the tokens."
)
_EXPANDED = (
    "Ended sequences are expanded further. Put them aside once their end token has come, and go on without them."
)
_LOST = "Ended sequences leave the beam with you, but are not kept: note them with their scores before you drop them."
_FIRST_END = (
    "You are content with the first sequence that ends. A longer one may still get a better score: go on, and take the "
    "best of all."
)
_ENOUGH = (
    "You stop when enough sequences have ended. One that is still in the beam may get a better score: go on until no "
    "beam is left or `max_length` is reached."
)
_HOPELESS = (
    "You stop once no beam has a better score than the best that ended. That holds for alpha 0 only: with a penalty, "
    "a sequence that goes on is divided by a larger number later, and its score may still rise."
)
_TIMES = (
    "You multiply by length**alpha. Scores are negative, so that makes long sequences worse. Divide: "
    "`score / length**alpha`."
)
_CUMULATIVE = (
    "You penalise at every step, and go on with the penalised score, so the penalty is applied again and again. Carry "
    "the plain sum; divide once, when a sequence has ended."
)
_NO_PENALTY = "`alpha` has no effect in your search: the score of an ended sequence is `score / length**alpha`."
_START_COUNTED = "Your length counts the start token too. It is the number of generated tokens, the end token included."
_END_NOT_COUNTED = "Your length leaves out the end token. It was generated, too, and counts."
_UNFINISHED_PLAIN = (
    "Where nothing has ended, the score is not penalised. It is divided by `max_length**alpha` like any other."
)
_UNFINISHED_COMPETE = (
    "An unfinished sequence wins with you over one that has ended. The unfinished count only where none has ended: "
    "they are likelier only because they have not paid for the rest yet."
)
_START_KEPT = "The start token is in what you return. It is only what the model reads first: leave it out."
_END_LOST = "The end token is missing in what you return. It was generated, too, and its probability is in the score."
_TOO_FEW = "You stop one token too early: `max_length` counts generated tokens, without the start token."
_TOO_MANY_TOKENS = (
    "You go on for one token too many: `max_length` is the largest number of generated tokens, the end token included."
)
_SHRINKS = (
    "Your beam shrinks with every sequence that ends. In each step the `width` best expansions are taken anew, however "
    "many have ended before."
)
_REFILLED = (
    "You take more than `width` expansions where some of them end. The `width` best are taken in all, and those that "
    "ended are among them."
)
_STAYS = (
    "Ended sequences keep a place in your beam, step after step, and so the others have less room. They leave the beam "
    "in the step in which they end."
)
_ONE_BY_ONE = (
    "The result is right, but `step` is called for each beam. It takes all prefixes of one length at once, and a real "
    "model answers them in nearly the time of one."
)
_START_IS_END = (
    "You look for the end token among all ids, the start token too. Where the two are the same, every sequence has "
    "ended before it begins: look at generated tokens only."
)
_POSSIBLE = """        possible = scores > float("-inf")  # fewer than width may be
        scores, parents, tokens = scores[possible], parents[possible], tokens[possible]
"""
_BEST_BY_SUM = (
    "You choose by the plain sum and only report the penalised score. The penalty is there to choose by: compare "
    "`score / length**alpha`."
)


beam_search.slip("probabilities_added", _STEP_PROBABILITIES, {"beam_step(step(prefixes), ": "beam_step("
                                                              "step(prefixes).exp(), "})  # fmt: skip
beam_search.slip(
    "scores_not_carried",
    "The scores so far are lost: hand them to `beam_step`, and each expansion gets the sum over all of its tokens.",
    {"beam_step(step(prefixes), scores, width)": "beam_step(step(prefixes), torch.zeros(len(prefixes)), width)"},
)


@beam_search.mistake(_K_GREEDY)
def greedy_from_each_first_token(step, start_id, end_id, width, max_length, alpha):
    log_probs = step(torch.tensor([[start_id]]))[0]
    scores, tokens = log_probs.topk(min(width, len(log_probs)))
    prefixes = torch.stack([torch.full_like(tokens, start_id), tokens], dim=1)
    finished = []
    for length in range(1, max_length + 1):
        ended = prefixes[:, -1] == end_id
        finished += [(row[1:], score / length**alpha)
                     for row, score in zip(prefixes[ended].tolist(), scores[ended].tolist())]  # fmt: skip
        prefixes, scores = prefixes[~ended], scores[~ended]
        if length == max_length or not len(prefixes):
            break
        best, tokens = step(prefixes).max(dim=-1)
        scores, prefixes = scores + best, torch.cat([prefixes, tokens[:, None]], dim=1)
    if not finished:
        at = scores.argmax()
        return prefixes[at, 1:].tolist(), scores[at].item() / max_length**alpha
    return max(finished, key=lambda pair: pair[1])


beam_search.slip("always_greedy", _GREEDY_AFTER_ALL, {
    "scores, width)": "scores, 1)"
})  # fmt: skip
beam_search.slip("equal_starts", _GREEDY_AFTER_ALL, {
    "torch.tensor([[start_id]])": "torch.full((width, 1), start_id)",
    "scores = torch.zeros(1)": "scores = torch.zeros(width)",
})  # fmt: skip
beam_search.slip("parents_ignored", _OWN_PARENT, {
    "prefixes[parents]": "(prefixes if len(prefixes) == len(tokens) else prefixes[torch.arange(len(tokens)) "
    "% len(prefixes)])"
})  # fmt: skip


@beam_search.mistake(_OWN_PARENT)
def parents_ignored_where_it_fits(step, start_id, end_id, width, max_length, alpha):
    prefixes, scores, finished = torch.tensor([[start_id]]), torch.zeros(1), []
    for length in range(1, max_length + 1):
        scores, parents, tokens = beam_step(step(prefixes), scores, width)
        if len(prefixes) != len(tokens):
            prefixes = prefixes[parents]
        prefixes = torch.cat([prefixes, tokens[:, None]], dim=1)
        ended = tokens == end_id
        finished += [(ids, score / length**alpha)
                     for ids, score in zip(prefixes[ended, 1:].tolist(), scores[ended].tolist())]  # fmt: skip
        prefixes, scores = prefixes[~ended], scores[~ended]
        if len(prefixes) == 0:
            break
    if not finished:
        return prefixes[0, 1:].tolist(), scores[0].item() / max_length**alpha
    return max(finished, key=lambda pair: pair[1])


beam_search.slip("all_from_the_best_beam", _OWN_PARENT, {"prefixes[parents]": "prefixes[:1].expand(len(tokens), -1)"})


@beam_search.mistake(
    "The parent is wrong: place i of the flat table belongs to beam `i // V`, not `i // width`. Your `beam_step` has "
    "it right already."
)
def parents_by_width(step, start_id, end_id, width, max_length, alpha):
    prefixes, scores, finished = torch.tensor([[start_id]]), torch.zeros(1), []
    for length in range(1, max_length + 1):
        total = scores[:, None] + step(prefixes)
        scores, places = total.flatten().topk(min(width, total.numel()))
        tokens = places % total.size(1)
        parents = (places // width).clamp(max=len(prefixes) - 1)
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
        ended = tokens == end_id
        finished += [(row[1:], score / length**alpha)
                     for row, score in zip(prefixes[ended].tolist(), scores[ended].tolist())]  # fmt: skip
        prefixes, scores = prefixes[~ended], scores[~ended]
        if not len(prefixes):
            break
    if not finished:
        return prefixes[0, 1:].tolist(), scores[0].item() / max_length**alpha
    return max(finished, key=lambda pair: pair[1])


beam_search.slip("ended_expanded", _EXPANDED, {
    "prefixes, scores = prefixes[~ended], scores[~ended]": "prefixes, scores = prefixes, scores"
})  # fmt: skip


@beam_search.mistake(
    "You only look at what is in the beam at the last step. A sequence may end at any step: put each aside when its "
    "end token comes, and go on without it."
)
def looked_at_last(step, start_id, end_id, width, max_length, alpha):
    prefixes, scores = torch.tensor([[start_id]]), torch.zeros(1)
    for _ in range(max_length):
        scores, parents, tokens = beam_step(step(prefixes), scores, width)
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
    best = prefixes[0, 1:].tolist()
    if end_id in best:
        best = best[: best.index(end_id) + 1]
    return best, scores[0].item() / len(best) ** alpha


beam_search.slip("ended_dropped", _LOST, {"finished.append((ids, score / length**alpha))": "pass",
                                          "        if len(prefixes) == 0:\n            break\n": "        if "
                                          "len(prefixes) == 0:\n            return [], 0.0\n"})  # fmt: skip
beam_search.slip("stops_at_the_first_end", _FIRST_END, {"if len(prefixes) == 0:": "if finished:"})
beam_search.slip("stops_when_the_best_ends", (
    "You stop when the best of the beam has ended. One that ended before it, or ends later, may still have a better "
    "score: go on until no beam is left."
), {"if len(prefixes) == 0:": "if ended[0] or len(prefixes) == 0:"})  # fmt: skip
beam_search.slip("stops_when_enough_ended", _ENOUGH, {"if len(prefixes) == 0:": "if len(prefixes) == 0 or "
                                                      "len(finished) >= width:"})  # fmt: skip
beam_search.slip(
    "no_break",
    "In the end you call `step` with no prefixes at all: when every beam has ended, stop.",
    {"        if len(prefixes) == 0:\n            break\n": ""},
)
beam_search.slip("times_length", _TIMES, {"score / length**alpha": "score * length**alpha",
                                          "/ max_length**alpha": "* max_length**alpha"})  # fmt: skip


@beam_search.mistake(_CUMULATIVE)
def penalty_at_every_step(step, start_id, end_id, width, max_length, alpha):
    prefixes, scores, finished = torch.tensor([[start_id]]), torch.zeros(1), []
    for length in range(1, max_length + 1):
        scores, parents, tokens = beam_step(step(prefixes), scores, width)
        scores = scores / length**alpha
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
        ended = tokens == end_id
        finished += list(zip(prefixes[ended, 1:].tolist(), scores[ended].tolist()))
        prefixes, scores = prefixes[~ended], scores[~ended]
        if len(prefixes) == 0:
            break
    if not finished:
        return prefixes[0, 1:].tolist(), scores[0].item()
    return max(finished, key=lambda pair: pair[1])


beam_search.slip("no_penalty", _NO_PENALTY, {"score / length**alpha": "score",
                                             ".item() / max_length**alpha": ".item()"})  # fmt: skip
beam_search.slip("unfinished_not_penalised", _UNFINISHED_PLAIN, {".item() / max_length**alpha": ".item()"})
beam_search.slip("start_counted", _START_COUNTED, {"score / length**alpha": "score / (length + 1) ** alpha",
                                                   "/ max_length**alpha": "/ (max_length + 1) ** alpha"})  # fmt: skip
beam_search.slip("start_counted_in_ended", _START_COUNTED, {"score / length**alpha": "score / (length + 1) ** alpha"})
beam_search.slip("end_not_counted", _END_NOT_COUNTED, {"score / length**alpha": "score / max(length - 1, 1) ** alpha"})
beam_search.slip(
    "alpha_times_length",
    "You divide by alpha times the length. The penalty is a power, `length**alpha`: at alpha 0 it is 1, and nothing "
    "changes.",
    {"score / length**alpha": "score / (length * alpha or 1)", "/ max_length**alpha": "/ (max_length * alpha or 1)"},
)
beam_search.slip(
    "alpha_to_the_length",
    "You wrote alpha**length. The penalty is length**alpha: at alpha 0 it is 1, and nothing changes.",
    {"score / length**alpha": "score / (alpha**length or 1)", "/ max_length**alpha": "/ (alpha**max_length or 1)"},
)
beam_search.slip(
    "reward_for_each_token",
    "You add alpha for each token. That is another length reward (it is used, too); asked is `score / length**alpha`.",
    {"score / length**alpha": "score + alpha * length", "/ max_length**alpha": "+ alpha * max_length"},
)
beam_search.slip(
    "always_the_mean",
    "You always divide by the length, as if alpha were 1. Divide by `length**alpha`; with 0 the plain sum counts.",
    {"score / length**alpha": "score / length", "/ max_length**alpha": "/ max_length"},
)
beam_search.slip(
    "divided_by_the_wrong_length",
    "You divide by `max_length**alpha`, the same for all. Then it prefers nothing: divide by the length of this "
    "sequence.",
    {"score / length**alpha": "score / max_length**alpha"},
)
beam_search.slip(
    "penalty_of_wu",
    "Your penalty is ((5 + length) / 6)**alpha, as in Wu et al. (2016). Asked is the plain `length**alpha`.",
    {"score / length**alpha": "score / ((5 + length) / 6) ** alpha",
     "/ max_length**alpha": "/ ((5 + max_length) / 6) ** alpha"},
)  # fmt: skip


@beam_search.mistake(_BEST_BY_SUM)
def chosen_by_the_sum(step, start_id, end_id, width, max_length, alpha):
    prefixes, scores, finished = torch.tensor([[start_id]]), torch.zeros(1), []
    for _ in range(max_length):
        scores, parents, tokens = beam_step(step(prefixes), scores, width)
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
        ended = tokens == end_id
        finished += list(zip(prefixes[ended, 1:].tolist(), scores[ended].tolist()))
        prefixes, scores = prefixes[~ended], scores[~ended]
        if len(prefixes) == 0:
            break
    ids, score = max(finished or zip(prefixes[:, 1:].tolist(), scores.tolist()), key=lambda pair: pair[1])
    return ids, score / len(ids) ** alpha


@beam_search.mistake(
    "The right sequence, but its score is the plain sum. Asked is the score that you chose by, `score / length**alpha`."
)
def plain_score_returned(step, start_id, end_id, width, max_length, alpha):
    prefixes, scores, finished = torch.tensor([[start_id]]), torch.zeros(1), []
    for _ in range(max_length):
        scores, parents, tokens = beam_step(step(prefixes), scores, width)
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
        ended = tokens == end_id
        finished += list(zip(prefixes[ended, 1:].tolist(), scores[ended].tolist()))
        prefixes, scores = prefixes[~ended], scores[~ended]
        if len(prefixes) == 0:
            break
    every = finished or zip(prefixes[:, 1:].tolist(), scores.tolist())
    return max(every, key=lambda pair: pair[1] / len(pair[0]) ** alpha)


beam_search.slip(
    "longest_returned",
    "You return the sequence that ended last. Asked is the one of the best score.",
    {"return max(finished, key=lambda pair: pair[1])": "return finished[-1]"},
)
beam_search.slip(
    "first_returned",
    _FIRST_END,
    {"return max(finished, key=lambda pair: pair[1])": "return finished[0]"},
)
beam_search.slip(
    "worst_returned",
    "You return the worst of the ended sequences. Scores are negative: the best is the largest, closest to 0.",
    {"return max(": "return min("},
)
beam_search.slip(
    "compared_by_ids",
    "Your `max` compares the pairs by their ids, which come first. Compare by the score: `key=lambda pair: pair[1]`.",
    {"max(finished, key=lambda pair: pair[1])": "max(finished)"},
)
beam_search.slip("unfinished_compete", _UNFINISHED_COMPETE, {
    "    if not finished:\n        return prefixes[0, 1:].tolist(), scores[0].item() / max_length**alpha\n":
    "    for ids, score in zip(prefixes[:, 1:].tolist(), scores.tolist()):\n"
    "        finished.append((ids, score / max_length**alpha))\n"
})  # fmt: skip
beam_search.slip(
    "unfinished_forgotten",
    "Where nothing has ended by `max_length`, you return nothing. Then the best unfinished sequence is asked for.",
    {"return prefixes[0, 1:].tolist(), scores[0].item() / max_length**alpha": "return [], 0.0"},
)
beam_search.slip(
    "unfinished_raise",
    "Where nothing has ended by `max_length`, there is nothing to take the `max` of. Then the best unfinished sequence "
    "is asked for.",
    {"    if not finished:\n        return prefixes[0, 1:].tolist(), scores[0].item() / max_length**alpha\n": ""},
)
beam_search.slip(
    "worst_unfinished",
    "Of the unfinished you return the worst. `beam_step` puts the best first.",
    {"prefixes[0, 1:].tolist(), scores[0].item()": "prefixes[-1, 1:].tolist(), scores[-1].item()"},
)
beam_search.slip(
    "start_kept", _START_KEPT, {"prefixes[ended, 1:]": "prefixes[ended]", "prefixes[0, 1:]": "prefixes[0]"}
)
beam_search.slip("start_kept_in_ended", _START_KEPT, {"prefixes[ended, 1:]": "prefixes[ended]"})
beam_search.slip("end_dropped", _END_LOST, {"finished.append((ids, ": "finished.append((ids[:-1], "})
beam_search.slip("one_token_too_few", _TOO_FEW, {"range(1, max_length + 1)": "range(1, max_length)"})
beam_search.slip("one_token_too_many", _TOO_MANY_TOKENS, {"range(1, max_length + 1)": "range(1, max_length + 2)"})


beam_search.slip(
    "asks_once_more",
    "You ask `step` once more at the end, for what would come after `max_length` tokens. Nobody needs that, and a "
    "model may have no answer: ask at the top of the loop.",
    {
        "    for length in range(1, max_length + 1):": "    log_probs = step(prefixes)\n"
        "    for length in range(1, max_length + 1):",
        "beam_step(step(prefixes), scores": "beam_step(log_probs, scores",
        "            break\n": "            break\n        log_probs = step(prefixes)\n",
    },
)
beam_search.slip(
    "clamped",
    "You replace -inf by a large negative number, so an impossible end wins where no other has come. Leave -inf as it "
    "is, and leave such expansions out.",
    {"beam_step(step(prefixes), scores": "beam_step(step(prefixes).clamp(min=-1e9), scores"},
)
beam_search.slip(
    "impossible_ends_kept",
    "An end of probability 0 counts as an end with you: where no other has come, a sequence with the score -inf wins. "
    "Leave expansions of -inf out.",
    {_POSSIBLE: ""},
)


_PRODUCTS = (
    "You multiply probabilities, in float32. Those of long or unlikely sequences underflow: below about e^-103 there "
    "is only 0, whose logarithm is -inf. Add the logarithms."
)


@beam_search.mistake(
    "An end with a score near -120 is lost with you. Either you multiply probabilities, in float32, which below about "
    "e^-103 is only 0: add the logarithms. Or your search for the best begins with a number like -100: take -inf."
)
def products_that_underflow(step, start_id, end_id, width, max_length, alpha):
    prefixes, chances, finished = torch.tensor([[start_id]]), torch.ones(1), []
    for length in range(1, max_length + 1):
        total = chances[:, None] * step(prefixes).exp()
        chances, places = total.flatten().topk(min(width, total.numel()))
        parents, tokens = places // total.size(1), places % total.size(1)
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
        ended = (tokens == end_id) & (chances > 0)
        for ids, score in zip(prefixes[ended, 1:].tolist(), chances[ended].log().tolist()):
            finished.append((ids, score / length**alpha))
        prefixes, chances = prefixes[tokens != end_id], chances[tokens != end_id]
        if not len(prefixes):
            break
    if not finished:
        return prefixes[0, 1:].tolist(), chances[0].log().item() / max_length**alpha
    return max(finished, key=lambda pair: pair[1])


@beam_search.mistake(_PRODUCTS)
def products_that_underflow_and_impossible_ends(step, start_id, end_id, width, max_length, alpha):
    prefixes, chances, finished = torch.tensor([[start_id]]), torch.ones(1), []
    for length in range(1, max_length + 1):
        total = chances[:, None] * step(prefixes).exp()
        chances, places = total.flatten().topk(min(width, total.numel()))
        parents, tokens = places // total.size(1), places % total.size(1)
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
        ended = tokens == end_id
        for ids, score in zip(prefixes[ended, 1:].tolist(), chances[ended].log().tolist()):
            finished.append((ids, score / length**alpha))
        prefixes, chances = prefixes[~ended], chances[~ended]
        if not len(prefixes):
            break
    if not finished:
        return prefixes[0, 1:].tolist(), chances[0].log().item() / max_length**alpha
    return max(finished, key=lambda pair: pair[1])


@beam_search.mistake(
    "Your loop ends only when every beam has ended. A model may never say the end token: stop at `max_length`, too."
)
def never_gives_up(step, start_id, end_id, width, max_length, alpha):
    prefixes, scores, finished = torch.tensor([[start_id]]), torch.zeros(1), []
    while len(prefixes):
        scores, parents, tokens = beam_step(step(prefixes), scores, width)
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
        ended = tokens == end_id
        for ids, score in zip(prefixes[ended, 1:].tolist(), scores[ended].tolist()):
            finished.append((ids, score / len(ids) ** alpha))
        prefixes, scores = prefixes[~ended], scores[~ended]
    return max(finished, key=lambda pair: pair[1])


beam_search.slip("shrinking_beam", _SHRINKS, {"scores, width)": "scores, max(width - len(finished), 1))",
                                              "if len(prefixes) == 0:": "if len(prefixes) == 0 or len(finished) >= "
                                              "width:"})  # fmt: skip


@beam_search.mistake(_REFILLED)
def refilled_with_the_next_best(step, start_id, end_id, width, max_length, alpha):
    prefixes, scores, finished = torch.tensor([[start_id]]), torch.zeros(1), []
    for length in range(1, max_length + 1):
        scores, parents, tokens = beam_step(step(prefixes), scores, 2 * width)
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
        ended = tokens == end_id
        for ids, score in zip(prefixes[ended, 1:].tolist(), scores[ended].tolist()):
            finished.append((ids, score / length**alpha))
        prefixes, scores = prefixes[~ended][:width], scores[~ended][:width]
        if len(prefixes) == 0:
            break
    if not finished:
        return prefixes[0, 1:].tolist(), scores[0].item() / max_length**alpha
    return max(finished, key=lambda pair: pair[1])


@beam_search.mistake(_REFILLED)
def end_apart_from_the_others(step, start_id, end_id, width, max_length, alpha):
    prefixes, scores, finished = torch.tensor([[start_id]]), torch.zeros(1), []
    for length in range(1, max_length + 1):
        log_probs = step(prefixes)
        for row, score in zip(prefixes[:, 1:].tolist(), (scores + log_probs[:, end_id]).tolist()):
            finished.append(([*row, end_id], score / length**alpha))
        others = log_probs.clone()
        others[:, end_id] = -float("inf")
        scores, parents, tokens = beam_step(others, scores, width)
        scores, parents, tokens = (each[scores > -float("inf")] for each in (scores, parents, tokens))
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
        if len(prefixes) == 0:
            break
    return max(finished, key=lambda pair: pair[1])


@beam_search.mistake(_STAYS)
def ended_stay_in_the_beam(step, start_id, end_id, width, max_length, alpha):
    beams = [([], 0.0)]
    for _ in range(max_length):
        going = [ids for ids, _ in beams if not ids or ids[-1] != end_id]
        if not going:
            break
        rows = iter(step(torch.tensor([[start_id, *ids] for ids in going])).tolist())
        every = []
        for ids, score in beams:
            if ids and ids[-1] == end_id:
                every.append((ids, score))
            else:
                every += [([*ids, token], score + p) for token, p in enumerate(next(rows))]
        beams = sorted(every, key=lambda pair: -pair[1])[:width]
    ended = [pair for pair in beams if pair[0][-1] == end_id]
    ids, score = max(ended or beams, key=lambda pair: pair[1] / len(pair[0]) ** alpha)
    return ids, score / len(ids) ** alpha


@beam_search.mistake(_STAYS)
def ended_stay_and_all_are_ranked_with_the_penalty(step, start_id, end_id, width, max_length, alpha):
    beams = [([start_id], 0.0, False)]
    for _ in range(max_length):
        going = [beam for beam in beams if not beam[2]]
        every = [beam for beam in beams if beam[2]]
        if not going:
            break
        rows = step(torch.tensor([ids for ids, _, _ in going])).tolist()
        for (ids, score, _), row in zip(going, rows):
            every += [([*ids, token], score + p, token == end_id) for token, p in enumerate(row)]
        every.sort(key=lambda beam: beam[1] / (len(beam[0]) - 1) ** alpha, reverse=True)
        beams = every[:width]
    ids, score, _ = max(
        [beam for beam in beams if beam[2]] or beams, key=lambda beam: beam[1] / (len(beam[0]) - 1) ** alpha
    )
    return ids[1:], score / (len(ids) - 1) ** alpha


beam_search.slip("stops_where_it_looks_hopeless", _HOPELESS, {"if len(prefixes) == 0:": "if len(prefixes) == 0 or ("
    "finished and max(s for _, s in finished) >= scores[0].item() / length**alpha):"})  # fmt: skip
beam_search.slip("stops_by_the_plain_sum", _HOPELESS, {"if len(prefixes) == 0:": "if len(prefixes) == 0 or ("
    "finished and max(s for _, s in finished) >= scores[0].item()):"})  # fmt: skip
beam_search.slip("stops_when_twice_enough_ended", _ENOUGH, {"if len(prefixes) == 0:": "if len(prefixes) == 0 or "
                                                            "len(finished) >= 2 * width:"})  # fmt: skip


@beam_search.mistake(
    "You keep `width` expansions of every beam, so the beam grows and grows, and the search costs as much as trying "
    "everything. The `width` best of all together are kept."
)
def beam_that_grows(step, start_id, end_id, width, max_length, alpha):
    prefixes, scores, finished = torch.tensor([[start_id]]), torch.zeros(1), []
    for length in range(1, max_length + 1):
        log_probs = step(prefixes)
        best, tokens = (scores[:, None] + log_probs).topk(min(width, log_probs.size(1)), dim=-1)
        parents = torch.arange(len(prefixes)).repeat_interleave(best.size(1))
        scores, tokens = best.flatten(), tokens.flatten()
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
        ended = tokens == end_id
        for ids, score in zip(prefixes[ended, 1:].tolist(), scores[ended].tolist()):
            finished.append((ids, score / length**alpha))
        prefixes, scores = prefixes[~ended], scores[~ended]
        if len(prefixes) == 0:
            break
    if not finished:
        return prefixes[scores.argmax(), 1:].tolist(), scores.max().item() / max_length**alpha
    return max(finished, key=lambda pair: pair[1])


@beam_search.mistake(_ONE_BY_ONE)
def step_for_each_beam(step, start_id, end_id, width, max_length, alpha):
    beams, finished = [([start_id], 0.0)], []
    for length in range(1, max_length + 1):
        every = []
        for ids, score in beams:
            row = step(torch.tensor([ids]))[0].tolist()
            every += [([*ids, token], score + p) for token, p in enumerate(row)]
        every = sorted(every, key=lambda pair: -pair[1])[:width]
        finished += [(ids[1:], score / length**alpha) for ids, score in every if ids[-1] == end_id]
        beams = [pair for pair in every if pair[0][-1] != end_id]
        if not beams:
            break
    if not finished:
        return beams[0][0][1:], beams[0][1] / max_length**alpha
    return max(finished, key=lambda pair: pair[1])


@beam_search.mistake(
    "`step` gets the newest tokens alone, and does not know what came before. It takes whole prefixes, start token "
    "included."
)
def newest_token_only(step, start_id, end_id, width, max_length, alpha):
    prefixes, scores, finished = torch.tensor([[start_id]]), torch.zeros(1), []
    for length in range(1, max_length + 1):
        scores, parents, tokens = beam_step(step(prefixes[:, -1:]), scores, width)
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
        ended = tokens == end_id
        for ids, score in zip(prefixes[ended, 1:].tolist(), scores[ended].tolist()):
            finished.append((ids, score / length**alpha))
        prefixes, scores = prefixes[~ended], scores[~ended]
        if len(prefixes) == 0:
            break
    if not finished:
        return prefixes[0, 1:].tolist(), scores[0].item() / max_length**alpha
    return max(finished, key=lambda pair: pair[1])


beam_search.slip(
    "end_is_always_two",
    "Your end token is always 2. Its id is `end_id`, which may be any number.",
    {"tokens == end_id": "tokens == 2"},
)
beam_search.slip(
    "start_is_always_one",
    "Your start token is always 1. Its id is `start_id`, which may be any number.",
    {"torch.tensor([[start_id]])": "torch.tensor([[1]])"},
)
beam_search.slip(
    "start_looked_at", _START_IS_END, {"ended = tokens == end_id": "ended = (prefixes == end_id).any(dim=1)"}
)


@beam_search.mistake(_START_IS_END)
def ended_before_it_begins(step, start_id, end_id, width, max_length, alpha):
    beams, finished = [([start_id], 0.0)], []
    for length in range(1, max_length + 1):
        beams = [pair for pair in beams if pair[0][-1] != end_id]
        if not beams:
            break
        rows = step(torch.tensor([ids for ids, _ in beams])).tolist()
        every = [([*ids, token], score + p) for (ids, score), row in zip(beams, rows) for token, p in enumerate(row)]
        beams = sorted(every, key=lambda pair: -pair[1])[:width]
        finished += [(ids[1:], score / length**alpha) for ids, score in beams if ids[-1] == end_id]
    if not finished:
        ids, score = beams[0] if beams else ([start_id], 0.0)
        return ids[1:], score / max_length**alpha
    return max(finished, key=lambda pair: pair[1])


beam_search.slip(
    "score_as_a_tensor",
    "The score is a tensor with one number. Asked is a Python float: `.item()`, or `.tolist()` for several.",
    {"scores[ended].tolist()": "scores[ended]", "scores[0].item()": "scores[0]"},
)
beam_search.slip(
    "ids_as_a_tensor",
    "The sequence is a tensor. Asked is a list of Python ints: `.tolist()`.",
    {"prefixes[ended, 1:].tolist()": "prefixes[ended, 1:]", "prefixes[0, 1:].tolist()": "prefixes[0, 1:]"},
)
beam_search.slip(
    "both_as_tensors",
    "You return tensors. Asked are a list of Python ints, `.tolist()`, and a Python float, `.item()`.",
    {
        "prefixes[ended, 1:].tolist()": "prefixes[ended, 1:]",
        "prefixes[0, 1:].tolist()": "prefixes[0, 1:]",
        "scores[ended].tolist()": "scores[ended]",
        "scores[0].item()": "scores[0]",
    },
)
beam_search.slip(
    "score_left_out",
    "You return the sequence alone. Asked are two things: the sequence and its score.",
    {"return max(finished, key=lambda pair: pair[1])": "return max(finished, key=lambda pair: pair[1])[0]",
     "return prefixes[0, 1:].tolist(), scores[0].item() / max_length**alpha": "return prefixes[0, 1:].tolist()"},
)  # fmt: skip
beam_search.slip(
    "all_returned",
    "You return all that have ended. Asked is the best one, and its score.",
    {"return max(finished, key=lambda pair: pair[1])": "return finished"},
)


for _wrong in [each for each in beam_search.wrong if each.edits and _POSSIBLE not in each.edits]:
    # Whoever makes another mistake mostly makes this one besides; the other is the one to tell.
    beam_search.slip(f"{_wrong.name}_and_impossible_ends", _wrong.sentence, {**_wrong.edits, _POSSIBLE: ""})


@beam_search.also_right
def with_lists(step, start_id, end_id, width, max_length, alpha):
    beams, finished = [((), 0.0)], []
    for length in range(1, max_length + 1):
        rows = step(torch.tensor([[start_id, *ids] for ids, _ in beams]))
        every = [(score + p, (*ids, token)) for (ids, score), row in zip(beams, rows.tolist())
                 for token, p in enumerate(row)]  # fmt: skip
        beams = []
        for score, ids in sorted(every, reverse=True)[:width]:
            if score == -math.inf:
                continue
            if ids[-1] == end_id:
                finished.append((score / length**alpha, list(ids)))
            else:
                beams.append((ids, score))
        if not beams:
            break
    if finished:
        score, ids = max(finished)
        return ids, score
    return list(beams[0][0]), beams[0][1] / max_length**alpha


@beam_search.also_right
def others_at_minus_infinity(step, start_id, end_id, width, max_length, alpha):
    """All rows stay; an ended one goes on at -inf, and so never comes back."""
    prefixes = torch.full((width, 1), start_id)
    scores = torch.full((width,), -math.inf)
    scores[0] = 0.0
    best, best_score = [], -math.inf
    for length in range(1, max_length + 1):
        log_probs = step(prefixes)
        total = (scores[:, None] + log_probs).reshape(-1)
        scores, places = total.topk(width)
        tokens = places % log_probs.size(1)
        prefixes = torch.cat([prefixes[places // log_probs.size(1)], tokens.unsqueeze(1)], dim=1)
        for row in range(width):
            if tokens[row] == end_id:
                final = float(scores[row]) / length**alpha
                if final > best_score:
                    best, best_score = prefixes[row, 1:].tolist(), final
                scores[row] = -math.inf
    if best_score == -math.inf:
        row = int(scores.argmax())
        return prefixes[row, 1:].tolist(), float(scores[row]) / max_length**alpha
    return best, best_score


@beam_search.also_right
def stops_where_nothing_can_win(step, start_id, end_id, width, max_length, alpha):
    """Scores only fall, and no length helps more than max_length: a bound on what the best beam may still get."""
    prefixes, scores, finished = torch.tensor([[start_id]]), torch.zeros(1), []
    for length in range(1, max_length + 1):
        scores, parents, tokens = beam_step(step(prefixes), scores, width)
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
        going = []
        for row, token in enumerate(tokens.tolist()):
            if scores[row] == -math.inf:
                continue
            if token == end_id:
                finished.append((scores[row].item() / length**alpha, prefixes[row, 1:].tolist()))
            else:
                going.append(row)
        prefixes, scores = prefixes[going], scores[going]
        if not going or (finished and max(finished)[0] >= scores[0].item() / max_length**alpha):
            break
    pairs = finished or [(scores[0].item() / max_length**alpha, prefixes[0, 1:].tolist())]
    return max(pairs)[::-1]


@beam_search.also_right
def probabilities_multiplied(step, start_id, end_id, width, max_length, alpha):
    """Products underflow for long sequences, but these are short."""
    prefixes, chances, finished = torch.tensor([[start_id]]), torch.ones(1, dtype=torch.float64), []
    for length in range(1, max_length + 1):
        total = chances[:, None] * step(prefixes).double().exp()
        chances, places = total.flatten().topk(min(width, total.numel()))
        parents, tokens = places // total.size(1), places % total.size(1)
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)
        for row in ((tokens == end_id) & (chances > 0)).nonzero().flatten().tolist():
            finished.append((prefixes[row, 1:].tolist(), math.log(chances[row]) / length**alpha))
        prefixes, chances = prefixes[tokens != end_id], chances[tokens != end_id]
        if not len(prefixes):
            break
    if not finished:
        return prefixes[0, 1:].tolist(), math.log(chances[0]) / max_length**alpha
    return max(finished, key=lambda pair: pair[1])


beam_search.also("normalised_again", {"step(prefixes), scores": "step(prefixes).log_softmax(dim=-1), scores"})
beam_search.also("without_gradients", {"        scores, parents, tokens = beam_step": "        with torch.no_grad():\n"
                                       "            scores, parents, tokens = beam_step"})  # fmt: skip
beam_search.also("length_by_counting", {"score / length**alpha": "score / pow(len(ids), alpha)"})
beam_search.also("best_kept_as_it_goes", {
    "            finished.append((ids, score / length**alpha))\n":
    "            if not finished or score / length**alpha > finished[0][1]:\n"
    "                finished = [(ids, score / length**alpha)]\n"
})  # fmt: skip
beam_search.also("sorted_at_the_end", {"max(finished, key=lambda pair: pair[1])": "sorted(finished, key=lambda pair: "
                                       "-pair[1])[0]"})  # fmt: skip

beam_search.hint(
    "Before the loop: one prefix, `torch.tensor([[start_id]])`, with score 0. In the loop: ask `step`, expand with "
    "`beam_step`, and join each token to the prefix of its parent."
)
beam_search.hint(
    "`ended = tokens == end_id` parts the beam in two: `prefixes[ended]` are put aside with their scores, divided by "
    "length**alpha; `prefixes[~ended]` go on."
)
beam_search.hint(
    "When does the loop end? When no beam is left, or after `max_length` rounds. Then the best of those put aside "
    "wins; only if there are none, the best that is still in the beam."
)

# --- top_k_filter ----------------------------------------------------------------------------------------------

top_k_filter = Exercise("top_k_filter", returns=["logits (…, V)"])


def _logits(draw, *shape, dtype=torch.float32):
    """Logits without near ties in any row."""

    def apart(logits):
        return (logits.sort(dim=-1).values.diff(dim=-1) > 0.015).all()

    return _drawn(draw, lambda draw: draw.normal(*shape, scale=1.5, dtype=dtype), apart)


def _hidden(logits, *tokens):
    """The same with these tokens at -inf in every row."""
    hidden = logits.clone()
    hidden[..., list(tokens)] = NEVER
    return hidden


@top_k_filter.case("two rows, k = 2")
def _(draw):
    return _logits(draw, 2, 5), 2


@top_k_filter.case("k = 1")
def _(draw):
    return _logits(draw, 3, 4), 1


@top_k_filter.case("k is the whole vocabulary")
def _(draw):
    return _logits(draw, 2, 4), 4


@top_k_filter.case("k is more than the vocabulary")
def _(draw):
    return _logits(draw, 2, 4), 9


@top_k_filter.case("one row without a batch")
def _(draw):
    return _logits(draw, 6), 3


@top_k_filter.case("logits (batch, length, V), float16, by name")
def _(draw):
    return call(logits=_logits(draw, 2, 3, 5).half(), k=3)


@top_k_filter.case("as many rows as tokens, so that a wrong dimension raises nothing")
def _(draw):
    return _logits(draw, 5, 5), 2


@top_k_filter.case("two tokens have -inf already")
def _(draw):
    return _hidden(_logits(draw, 2, 6), 1, 4), 3


@top_k_filter.case("fewer than k are more than -inf")
def _(draw):
    return _hidden(_logits(draw, 2, 5), 0, 2, 3), 4


@top_k_filter.case("all logits below zero, float64, not contiguous")
def _(draw):
    return (_logits(draw, 3, 7, dtype=torch.float64) - 20).T.contiguous().T, 4


_KEEPS_VALUES = "What stays, stays as it is: the filter gives logits, and whoever samples takes the softmax afterwards."
_NOT_ZERO = (
    "You set what is dropped to 0. A logit of 0 is an ordinary logit, e⁰ = 1 before normalising: nothing is ruled out. "
    "Use -inf."
)
_FINITE = "You set what is dropped to a large negative number. Asked is -inf: `float('-inf')`."
_FILTER_IN_PLACE = (
    "You changed the logits that were handed in. Work on a copy: `masked_fill` without `_`, `torch.where`, or "
    "`.clone()`."
)
_OVER_ALL_ROWS = "Your threshold is one for all rows. Each row is a distribution of its own: work along dim=-1."
_OTHER_DIMENSION = "You worked along the first dimension, across rows. The vocabulary is the last one: dim=-1."
_TWO_DIMENSIONS = (
    "Your filter works for (batch, V) only. Logits may have any number of dimensions before V: use dim=-1."
)


def _filled(value):
    return {'float("-inf")': value}


top_k_filter.slip("zeros", _NOT_ZERO, _filled("0.0"))
top_k_filter.slip("large_negative_number", _FINITE, _filled("-1e9"))
top_k_filter.slip("smallest_float", _FINITE, _filled("torch.finfo(logits.dtype).min"))
top_k_filter.slip(
    "kth_dropped",
    "You drop the k-th token, too: with `<=` only those above the threshold stay. k are to stay.",
    {"logits < lowest": "logits <= lowest"},
)
top_k_filter.slip(
    "kept_dropped", "You dropped the k best and kept the others.", {"logits < lowest": "logits >= lowest"}
)
top_k_filter.slip("k_not_cut", (
    "`topk` refuses a k larger than the vocabulary. Then all are to stay: `min(k, logits.size(-1))`."
), {"min(k, logits.size(-1))": "k"})  # fmt: skip
top_k_filter.slip("k_cut_to_the_rows", (
    "You cut k to the size of the first dimension. The vocabulary is the last one: `logits.size(-1)`."
), {"logits.size(-1)": "logits.size(0)"})  # fmt: skip
top_k_filter.slip(
    "threshold_of_the_best",
    "Your threshold is the best logit, so one token stays whatever k is. The k-th is the last that `topk` gives.",
    {"values[..., -1:]": "values[..., :1]"},
)
top_k_filter.slip(
    "threshold_of_the_last_row",
    "`values[-1]` is the last row. The smallest of each row's k best is `values[..., -1:]`.",
    {"values[..., -1:]": "values[-1:]"},
)


@top_k_filter.mistake("You keep one token too many: in a sorted row the k-th has index k - 1.")
def one_too_many(logits, k):
    ranked = logits.sort(dim=-1, descending=True).values
    return logits.masked_fill(logits < ranked[..., min(k, logits.size(-1) - 1)].unsqueeze(-1), -float("inf"))


@top_k_filter.mistake(
    "Your -inf is float32 whatever comes in, and half precision becomes float32 beside it. Keep the dtype of the "
    "logits: `torch.full_like(logits, …)` or `masked_fill`."
)
def always_float32(logits, k):
    best, tokens = logits.topk(min(k, logits.size(-1)), dim=-1)
    dropped = torch.full(logits.shape, -float("inf"))
    dropped = dropped.to(torch.promote_types(dropped.dtype, logits.dtype))
    return dropped.scatter(-1, tokens, best.to(dropped.dtype))


@top_k_filter.mistake("You keep the k smallest logits.")
def lowest_kept(logits, k):
    highest = logits.topk(min(k, logits.size(-1)), dim=-1, largest=False).values[..., -1:]
    return logits.masked_fill(logits > highest, -float("inf"))


@top_k_filter.mistake(
    "You return the k best values alone. Which tokens were they? The result has the shape of the logits, with -inf at "
    "all other tokens."
)
def values_only(logits, k):
    return logits.topk(min(k, logits.size(-1)), dim=-1).values


@top_k_filter.mistake("You keep the tokens with the first k ids. Asked are those with the k highest logits.")
def first_ids(logits, k):
    kept = torch.full_like(logits, -float("inf"))
    kept[..., :k] = logits[..., :k]
    return kept


@top_k_filter.mistake("You sorted the row, and it stays sorted: each logit has to remain at its own token.")
def sorted_row(logits, k):
    ranked = logits.sort(dim=-1, descending=True).values
    return ranked.masked_fill(torch.arange(ranked.size(-1)) >= k, -float("inf"))


@top_k_filter.mistake(
    "`argsort` gives the token of each rank; you took it for the rank of each token. Sort once more for that, or "
    "`scatter`."
)
def order_taken_for_ranks(logits, k):
    order = logits.argsort(dim=-1, descending=True)
    return logits.masked_fill(order >= k, -float("inf"))


@top_k_filter.mistake("You take k for a smallest logit. It is a number of tokens: the k highest stay.")
def k_as_a_threshold(logits, k):
    return logits.masked_fill(logits < k, -float("inf"))


@top_k_filter.mistake(_OVER_ALL_ROWS)
def best_of_all_rows(logits, k):
    lowest = logits.flatten().topk(min(k, logits.numel())).values[-1]
    return logits.masked_fill(logits < lowest, -float("inf"))


@top_k_filter.mistake(_OVER_ALL_ROWS)
def threshold_of_the_first_row(logits, k):
    rows = logits.view(-1, logits.size(-1)) if logits.is_contiguous() else logits.reshape(-1, logits.size(-1))
    return logits.masked_fill(logits < rows[0].topk(min(k, rows.size(-1))).values[-1], -float("inf"))


@top_k_filter.mistake(_OVER_ALL_ROWS)
def smallest_of_all_thresholds(logits, k):
    lowest = logits.topk(min(k, logits.size(-1)), dim=-1).values.min()
    return logits.masked_fill(logits < lowest, -float("inf"))


@top_k_filter.mistake(_OTHER_DIMENSION)
def along_the_batch(logits, k):
    lowest = logits.topk(min(k, logits.size(0)), dim=0).values[-1:]
    return logits.masked_fill(logits < lowest, -float("inf"))


@top_k_filter.mistake(_TWO_DIMENSIONS)
def one_row_after_the_other(logits, k):
    kept = torch.full_like(logits, -float("inf"))
    for i in range(logits.shape[0]):
        best = logits[i].topk(min(k, logits.shape[1])).indices
        kept[i, best] = logits[i, best]
    return kept


@top_k_filter.mistake(_TWO_DIMENSIONS)
def along_dimension_one(logits, k):
    lowest = logits.topk(min(k, logits.size(1)), dim=1).values[:, -1:]
    return logits.masked_fill(logits < lowest, -float("inf"))


@top_k_filter.mistake("You return probabilities. " + _KEEPS_VALUES)
def probabilities(logits, k):
    lowest = logits.topk(min(k, logits.size(-1)), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < lowest, -float("inf")).softmax(dim=-1)


@top_k_filter.mistake("You renormalised what stays. " + _KEEPS_VALUES)
def log_probabilities(logits, k):
    lowest = logits.topk(min(k, logits.size(-1)), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < lowest, -float("inf")).log_softmax(dim=-1)


@top_k_filter.mistake("You return the mask. Asked are logits, with -inf where the mask drops a token.")
def mask_returned(logits, k):
    return logits >= logits.topk(min(k, logits.size(-1)), dim=-1).values[..., -1:]


@top_k_filter.mistake(
    "You multiply by a mask. Dropped tokens get 0, which is an ordinary logit, and -inf times 0 is NaN. Fill with -inf."
)
def multiplied_by_a_mask(logits, k):
    return logits * (logits >= logits.topk(min(k, logits.size(-1)), dim=-1).values[..., -1:])


@top_k_filter.mistake(_FILTER_IN_PLACE)
def in_place(logits, k):
    logits[logits < logits.topk(min(k, logits.size(-1)), dim=-1).values[..., -1:]] = -float("inf")
    return logits


@top_k_filter.also_right
def scattered(logits, k):
    best, tokens = logits.topk(min(k, logits.size(-1)), dim=-1)
    return torch.full_like(logits, -math.inf).scatter(-1, tokens, best)


@top_k_filter.also_right
def by_rank(logits, k):
    ranks = logits.argsort(dim=-1, descending=True).argsort(dim=-1)
    return torch.where(ranks < k, logits, -float("inf"))


@top_k_filter.also_right
def by_kth_value(logits, k):
    V = logits.shape[-1]
    if k >= V:
        return logits.clone()
    return logits.masked_fill(logits < logits.kthvalue(V - k + 1, dim=-1, keepdim=True).values, -math.inf)


@top_k_filter.also_right
def row_by_row(logits, k):
    kept = torch.full_like(logits, float("-inf")).reshape(-1, logits.size(-1))
    for row, out in zip(logits.reshape(-1, logits.size(-1)), kept):
        order = sorted(range(len(row)), key=lambda token: -row[token].item())[:k]
        out[order] = row[order]
    return kept.reshape(logits.shape)


@top_k_filter.also_right
def given_back_where_all_stay(logits, k):
    if k >= logits.size(-1):
        return logits
    return logits.masked_fill(logits < torch.sort(logits, dim=-1).values[..., [-k]], -float("inf"))


top_k_filter.hint("`logits.topk(k, dim=-1).values` are the k highest of each row, best first. Which is the threshold?")
top_k_filter.hint("Take it as `[..., -1:]`: the dimension stays, so that it broadcasts against the logits.")
top_k_filter.hint(
    "`logits.masked_fill(logits < threshold, float('-inf'))`, and `min(k, logits.size(-1))` for a large k."
)

# --- top_p_filter ----------------------------------------------------------------------------------------------

top_p_filter = Exercise("top_p_filter", returns=["logits (…, V)"])


def _nucleus(draw, p, *shape, fits=lambda kept: True, dtype=torch.float32, hide=()):
    """Logits in which no mass comes near p; ``fits`` is asked how many tokens stay in each row."""

    def make(draw):
        logits = draw.normal(*shape, scale=1.5, dtype=dtype)
        return _hidden(logits, *hide) if hide else logits

    def sound(logits):
        ranked = logits.double().softmax(dim=-1).sort(dim=-1, descending=True).values
        real = ranked[..., : logits.size(-1) - len(hide)]
        if (real.diff(dim=-1) > -0.004).any() or ((ranked.cumsum(dim=-1) - p).abs() < 0.004)[
            ..., : real.size(-1) - 1
        ].any():
            return False
        kept = (lesson_08.top_p_filter(logits, p) > NEVER).sum(dim=-1)
        return (real[..., -1] > 0.004).all() and fits(kept.flatten().tolist())

    return _drawn(draw, make, sound), p


@top_p_filter.case("four tokens: 0.5, 0.3, 0.15, 0.05; p = 0.7")
def _(draw):
    return torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log(), 0.7


@top_p_filter.case("two rows that keep different numbers")
def _(draw):
    return _nucleus(draw, 0.8, 2, 5, fits=lambda kept: kept[0] != kept[1] and min(kept) > 1)


@top_p_filter.case("the best token alone has more than p")
def _(draw):
    return _nucleus(draw, 0.3, 2, 4, fits=lambda kept: kept == [1, 1])


@top_p_filter.case("p tiny: one token stays")
def _(draw):
    return _nucleus(draw, 1e-6, 3, 5)


@top_p_filter.case("p = 1: all stay")
def _(draw):
    return _nucleus(draw, 1.0, 2, 5)


@top_p_filter.case("p just short of 1")
def _(draw):
    return _nucleus(draw, 0.97, 2, 6, fits=lambda kept: min(kept) == 5)


@top_p_filter.case("one row without a batch")
def _(draw):
    return _nucleus(draw, 0.6, 6, fits=lambda kept: kept[0] == 3)


@top_p_filter.case("logits (batch, length, V), by name")
def _(draw):
    logits, p = _nucleus(draw, 0.75, 2, 3, 5, fits=lambda kept: len(set(kept)) > 1)
    return call(logits=logits, p=p)


@top_p_filter.case("as many rows as tokens, so that a wrong dimension raises nothing")
def _(draw):
    return _nucleus(draw, 0.7, 4, 4, fits=lambda kept: len(set(kept)) > 2)


@top_p_filter.case("two tokens have -inf already")
def _(draw):
    return _nucleus(draw, 0.85, 2, 6, hide=(0, 3), fits=lambda kept: max(kept) == 3)


@top_p_filter.case("p = 1, and two tokens have -inf already")
def _(draw):
    return _nucleus(draw, 1.0, 2, 5, hide=(1, 2))


@top_p_filter.case("large logits, float64, not contiguous")
def _(draw):
    logits, p = _nucleus(draw, 0.65, 3, 7, dtype=torch.float64, fits=lambda kept: min(kept) > 1)
    return (logits + 900).T.contiguous().T, p


_CROSSES = (
    "The token that crosses p is dropped. It has to stay, or what is left has less than p (and nothing at all where "
    "the best token alone has more). Compare with the mass before each token."
)
_ONE_MORE = "You keep one token more than needed: once the mass has reached p, all that follow are dropped."
_UNSORTED = (
    "You add the mass up in the order of the ids. The nucleus is made of the likeliest tokens: sort first, descending."
)
_ASCENDING = (
    "You sorted upwards, so the mass is that of the unlikeliest tokens, and you keep those. Sort with "
    "`descending=True`."
)
_NOT_SCATTERED = (
    "Your mask is in the order of the sorted row, and you apply it to the unsorted one. Bring it back: "
    "`mask.scatter(-1, order, mask_sorted)`."
)
_GATHERED = (
    "`gather` with the order of the sort goes the same way once more, not back. Use `scatter(-1, order, …)`, or gather "
    "with `order.argsort(-1)`."
)
_OF_LOGITS = "You add up logits. p is a share of probability: take the softmax first."
_AS_THRESHOLD = "You take p for a smallest probability. It is a sum: the likeliest tokens that together reach p."

top_p_filter.slip("zeros", _NOT_ZERO, _filled("0.0"))
top_p_filter.slip("large_negative_number", _FINITE, _filled("-1e9"))
top_p_filter.slip("crossing_token_dropped", _CROSSES, {"dropped = before >= p": "dropped = before + ranked >= p"})
top_p_filter.slip(
    "crossing_token_dropped_too", _CROSSES, {"dropped = before >= p": "dropped = ranked.cumsum(dim=-1) > p"}
)


@top_p_filter.mistake(
    "The token that crosses p is dropped, unless it is the best one: you saved that one alone. Every crossing token "
    "stays: compare with the mass before each token."
)
def only_the_best_is_saved(logits, p):
    ranked, order = logits.sort(dim=-1, descending=True)
    dropped = ranked.softmax(dim=-1).cumsum(dim=-1) > p
    dropped[..., 0] = False
    return logits.masked_fill(torch.zeros_like(dropped).scatter(-1, order, dropped), -float("inf"))


@top_p_filter.mistake(
    "You move the mask by one place, and leave its first entry as it was: where the best token alone has more than p, "
    "it is dropped. The best always stays: `dropped[..., 0] = False`."
)
def first_not_saved(logits, p):
    ranked, order = logits.sort(dim=-1, descending=True)
    dropped = ranked.softmax(dim=-1).cumsum(dim=-1) > p
    dropped[..., 1:] = dropped[..., :-1].clone()
    return logits.masked_fill(torch.zeros_like(dropped).scatter(-1, order, dropped), -float("inf"))


@top_p_filter.mistake(_ONE_MORE)
def shifted_twice(logits, p):
    ranked, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    dropped = ranked.cumsum(dim=-1) - ranked >= p
    dropped = torch.cat([torch.zeros_like(dropped[..., :1]), dropped[..., :-1]], dim=-1)
    return logits.masked_fill(torch.zeros_like(dropped).scatter(-1, order, dropped), -float("inf"))


@top_p_filter.mistake(
    "Your shift wraps around: `roll` brings the last token's entry to the front, so the best token is dropped wherever "
    "the last one is. The best always stays."
)
def rolled_mask(logits, p):
    ranked, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    dropped = (ranked.cumsum(dim=-1) > p).roll(1, dims=-1)
    return logits.masked_fill(torch.zeros_like(dropped).scatter(-1, order, dropped), -float("inf"))


@top_p_filter.mistake(_UNSORTED)
def in_the_order_of_ids(logits, p):
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities.cumsum(dim=-1) - probabilities >= p, -float("inf"))


top_p_filter.slip("sorted_upwards", _ASCENDING, {", descending=True": ""})
top_p_filter.slip("mask_not_scattered", _NOT_SCATTERED, {
    "torch.zeros_like(dropped).scatter(-1, order, dropped)": "dropped"
})  # fmt: skip
top_p_filter.slip("mask_gathered", _GATHERED, {
    "torch.zeros_like(dropped).scatter(-1, order, dropped)": "dropped.gather(-1, order)"
})  # fmt: skip


@top_p_filter.mistake("You return the row in sorted order. Each logit has to remain at its own token: scatter it back.")
def sorted_row_returned(logits, p):
    ranked = logits.sort(dim=-1, descending=True).values
    mass = ranked.softmax(dim=-1)
    return ranked.masked_fill(mass.cumsum(dim=-1) - mass >= p, -float("inf"))


@top_p_filter.mistake(_OF_LOGITS)
def logits_added_up(logits, p):
    ranked, order = logits.sort(dim=-1, descending=True)
    dropped = ranked.cumsum(dim=-1) - ranked >= p
    return logits.masked_fill(torch.zeros_like(dropped).scatter(-1, order, dropped), -float("inf"))


@top_p_filter.mistake(_AS_THRESHOLD)
def smallest_probability(logits, p):
    return logits.masked_fill(logits.softmax(dim=-1) < p, -float("inf"))


@top_p_filter.mistake(
    "That is another filter (min-p): it keeps what has at least p times the best probability. Asked are the likeliest "
    "tokens that together reach p."
)
def min_p(logits, p):
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities < p * probabilities.max(dim=-1, keepdim=True).values, -float("inf"))


top_p_filter.slip(
    "complement",
    "You drop the mass p and keep the rest of 1 - p. p is what stays.",
    {"before >= p": "before >= 1 - p"},
)
top_p_filter.slip(
    "kept_dropped", "You dropped the nucleus and kept the others.", {"dropped = before >= p": "dropped = before < p"}
)
top_p_filter.slip("softmax_along_the_batch", _OTHER_DIMENSION, {"logits.softmax(dim=-1)": "logits.softmax(dim=0)"})


@top_p_filter.mistake(_OTHER_DIMENSION)
def along_the_batch_p(logits, p):
    ranked, order = logits.softmax(dim=0).sort(dim=0, descending=True)
    dropped = ranked.cumsum(dim=0) - ranked >= p
    return logits.masked_fill(torch.zeros_like(dropped).scatter(0, order, dropped), -float("inf"))


top_p_filter.slip("mass_along_the_batch", (
    "You add the mass up across the rows. Each row is a distribution of its own: `cumsum(dim=-1)`."
), {"ranked.cumsum(dim=-1)": "ranked.cumsum(dim=0)"})  # fmt: skip


@top_p_filter.mistake(
    "Every row keeps as many tokens as the first one. How many it takes to reach p differs from row to row."
)
def number_of_the_first_row(logits, p):
    ranked = logits.softmax(dim=-1).sort(dim=-1, descending=True).values
    before = (ranked.cumsum(dim=-1) - ranked).reshape(-1, logits.size(-1))
    count = int((before[0] < p).sum())
    return logits.masked_fill(logits < logits.topk(count, dim=-1).values[..., -1:], -float("inf"))


@top_p_filter.mistake(
    "You sorted logits and added them up before taking the softmax of what is left: the softmax of a part is not a "
    "part of the softmax. Take it over the whole row, then add up."
)
def softmax_of_sums(logits, p):
    ranked, order = logits.sort(dim=-1, descending=True)
    dropped = ranked.cumsum(dim=-1).softmax(dim=-1) >= p
    return logits.masked_fill(torch.zeros_like(dropped).scatter(-1, order, dropped), -float("inf"))


@top_p_filter.mistake(_TWO_DIMENSIONS)
def one_row_after_the_other_p(logits, p):
    kept = torch.full_like(logits, -float("inf"))
    for i in range(logits.shape[0]):
        ranked, order = logits[i].softmax(dim=0).sort(descending=True)
        count = int((ranked.cumsum(dim=0) - ranked < p).sum())
        kept[i, order[:count]] = logits[i, order[:count]]
    return kept


@top_p_filter.mistake("You return probabilities. " + _KEEPS_VALUES)
def probabilities_returned(logits, p):
    ranked, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    dropped = ranked.cumsum(dim=-1) - ranked >= p
    dropped = torch.zeros_like(dropped).scatter(-1, order, dropped)
    return logits.masked_fill(dropped, -float("inf")).softmax(dim=-1)


@top_p_filter.mistake("What stays is right, but you return log-probabilities of the whole row. " + _KEEPS_VALUES)
def log_probabilities_returned(logits, p):
    ranked, order = logits.log_softmax(dim=-1).sort(dim=-1, descending=True)
    dropped = ranked.exp().cumsum(dim=-1) - ranked.exp() >= p
    dropped = torch.zeros_like(dropped).scatter(-1, order, dropped)
    return logits.log_softmax(dim=-1).masked_fill(dropped, -float("inf"))


@top_p_filter.mistake(_FILTER_IN_PLACE)
def in_place_p(logits, p):
    ranked, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    dropped = ranked.cumsum(dim=-1) - ranked >= p
    return logits.masked_fill_(torch.zeros_like(dropped).scatter(-1, order, dropped), -float("inf"))


@top_p_filter.also_right
def as_in_transformers(logits, p):
    ranked, order = torch.sort(logits, descending=True, dim=-1)
    mass = F.softmax(ranked, dim=-1).cumsum(dim=-1)
    remove = mass > p
    remove[..., 1:] = remove[..., :-1].clone()
    remove[..., 0] = False
    return logits.masked_fill(remove.scatter(-1, order, remove), -float("inf"))


@top_p_filter.also_right
def upwards(logits, p):
    ranked, order = logits.softmax(dim=-1).sort(dim=-1)
    remove = ranked.cumsum(dim=-1) <= 1 - p
    remove[..., -1] = False
    if p == 1:
        return logits.clone()
    return torch.where(remove.gather(-1, order.argsort(dim=-1)), -math.inf, logits)


@top_p_filter.also_right
def by_threshold(logits, p):
    ranked = logits.softmax(dim=-1).sort(dim=-1, descending=True).values
    count = (ranked.cumsum(dim=-1) - ranked < p).sum(dim=-1, keepdim=True)
    lowest = logits.sort(dim=-1, descending=True).values.gather(-1, count - 1)
    return logits.masked_fill(logits < lowest, float("-inf"))


@top_p_filter.also_right
def without_sorting(logits, p):
    probabilities = logits.softmax(dim=-1)
    likelier = probabilities.unsqueeze(-2) > probabilities.unsqueeze(-1)
    before = (probabilities.unsqueeze(-2) * likelier).sum(dim=-1)
    return logits.masked_fill(before >= p, -math.inf)


@top_p_filter.also_right
def row_by_row_p(logits, p):
    kept = torch.full_like(logits, -math.inf).reshape(-1, logits.size(-1))
    for row, out in zip(logits.reshape(-1, logits.size(-1)), kept):
        chances, mass = row.softmax(0).tolist(), 0.0
        for token in sorted(range(len(row)), key=lambda token: -chances[token]):
            if mass >= p:
                break
            out[token] = row[token]
            mass += chances[token]
    return kept.reshape(logits.shape)


top_p_filter.hint(
    "Take the example: 0.5, 0.3, 0.15, 0.05 and p = 0.7. How much mass lies before each token? Which of these four "
    "numbers decide?"
)
top_p_filter.hint(
    "`ranked, order = probabilities.sort(dim=-1, descending=True)`; the mass before each: `ranked.cumsum(-1) - ranked`."
)
top_p_filter.hint(
    "A token is dropped where that is p or more. This mask is in sorted order: `scatter(-1, order, mask)` puts each "
    "entry back at its token."
)

# --- sampling_distribution -------------------------------------------------------------------------------------

sampling_distribution = Exercise("sampling_distribution", returns=["probabilities (…, V)"])


def _row(draw, size, temperature=1.0, k=None, p=None, dtype=torch.float32, hide=()):
    """Logits (size,) without ties, and with no mass near p at any of the steps."""

    def make(draw):
        logits = draw.normal(size, scale=1.5, dtype=dtype)
        return _hidden(logits, *hide) if hide else logits

    def mass_apart(logits):
        ranked = logits.double().softmax(dim=-1).sort(descending=True).values
        return bool(((ranked.cumsum(dim=-1) - p).abs() > 0.01).all())

    def apart(logits):
        real = logits.sort(descending=True).values[: size - len(hide)]
        cooled = logits / temperature
        left = cooled if k is None else lesson_08.top_k_filter(cooled, k)
        return bool((real.diff() < -0.02).all()) and (p is None or all(map(mass_apart, (logits, cooled, left))))

    return _drawn(draw, make, apart)


def _told_apart(logits, temperature=1.0, k=None, p=None):
    """Which wrong orders of the steps keep other tokens of this row than the right one does."""
    if p is None:
        return set()
    cooled = logits / temperature
    left = cooled if k is None else lesson_08.top_k_filter(cooled, k)
    kept = {"no p": left}
    if temperature != 1:
        kept["p first"] = lesson_08.top_p_filter(logits if k is None else lesson_08.top_k_filter(logits, k), p)
    if k is not None:
        kept["k last"] = lesson_08.top_k_filter(lesson_08.top_p_filter(cooled, p), k)
    right = lesson_08.top_p_filter(left, p) > NEVER
    return {name for name, wrong in kept.items() if not torch.equal(right, wrong > NEVER)}


def _distribution(draw, shape, temperature=1.0, k=None, p=None, dtype=torch.float32, hide=()):
    """Logits without ties, for which the order of the steps matters where there are several.

    Each row is the best of many: few rows tell everything apart, but together they do.
    """
    rows, told = [], set()
    for _ in range(math.prod(shape[:-1])):
        candidates = [_row(draw, shape[-1], temperature, k, p, dtype, hide) for _ in range(1 if p is None else 60)]
        rows.append(max(candidates, key=lambda row: len(_told_apart(row, temperature, k, p) - told)))
        told |= _told_apart(rows[-1], temperature, k, p)
    if p is not None and len(told) < 1 + (temperature != 1) + (k is not None):
        raise ValueError(f"these rows tell apart {sorted(told)} only")
    return torch.stack(rows).reshape(shape)


@sampling_distribution.case("nothing given: the softmax, of 60 tokens")
def _(draw):
    return (draw.normal(2, 60, scale=1.5),)


@sampling_distribution.case("temperature 0.5")
def _(draw):
    return _distribution(draw, (2, 4), 0.5), 0.5


@sampling_distribution.case("temperature 2, by name")
def _(draw):
    return call(_distribution(draw, (3, 4), 2.0), temperature=2.0)


@sampling_distribution.case("k = 2 alone")
def _(draw):
    return call(_distribution(draw, (2, 5), k=2), k=2)


@sampling_distribution.case("p = 0.6 alone")
def _(draw):
    return call(_distribution(draw, (2, 5), p=0.6), p=0.6)


@sampling_distribution.case("temperature and p: the order matters")
def _(draw):
    return call(_distribution(draw, (3, 6), 1.8, p=0.7), temperature=1.8, p=0.7)


@sampling_distribution.case("temperature and k")
def _(draw):
    return call(_distribution(draw, (2, 5), 0.7, k=3), temperature=0.7, k=3)


@sampling_distribution.case("k and p: p counts on what k has left")
def _(draw):
    return call(_distribution(draw, (2, 6), k=3, p=0.8), k=3, p=0.8)


@sampling_distribution.case("all three, by place")
def _(draw):
    return _distribution(draw, (3, 6), 0.6, 3, 0.85), 0.6, 3, 0.85


@sampling_distribution.case("all three, (batch, length, V), float64")
def _(draw):
    return call(_distribution(draw, (2, 2, 6), 1.5, 4, 0.75, dtype=torch.float64), temperature=1.5, k=4, p=0.75)


@sampling_distribution.case("one row without a batch, two tokens at -inf")
def _(draw):
    return call(_distribution(draw, (6,), 0.8, k=3, hide=(1, 3)), temperature=0.8, k=3)


@sampling_distribution.case("k = 1: all the mass on the best, at any temperature")
def _(draw):
    return call(_distribution(draw, (3, 4), 5.0, k=1), temperature=5.0, k=1)


_TIMES_TEMPERATURE = (
    "You multiply by the temperature. Dividing is the way: a low temperature makes the differences larger and the "
    "distribution sharper."
)
_P_FIRST = (
    "Your top-p counts on the whole distribution, as if top-k had cut nothing. Asked is k first: p then counts on the "
    "rest that k has left, renormalised."
)
_P_COLD = (
    "You apply top-p before the temperature, so it looks at a distribution that is not drawn from. Temperature first."
)
_NO_SOFTMAX = "You return logits. Asked are probabilities: take the softmax at the end."
_NOT_RENORMALISED = "The probabilities no longer sum to 1: what the filters leave has to be normalised again."
_PROBABILITIES_FILTERED = (
    "You filter probabilities. The filters take logits and put -inf where a token is dropped, and -inf is no "
    "probability: filter the logits, and take the softmax last."
)
_LOGITS_CHANGED = "You changed the logits in place (`/=`). Write `logits = logits / temperature`."

sampling_distribution.slip("times_temperature", _TIMES_TEMPERATURE, {"logits / temperature": "logits * temperature"})
sampling_distribution.slip(
    "no_temperature", "The temperature has no effect: divide the logits by it.", {"logits / temperature": "logits * 1"}
)
sampling_distribution.slip(
    "squared_temperature",
    "You divide by the temperature twice over.",
    {"logits / temperature": "logits / temperature / temperature"},
)
sampling_distribution.slip("in_place", _LOGITS_CHANGED, {"logits = logits / temperature": "logits /= temperature"})
sampling_distribution.slip("logits_returned", _NO_SOFTMAX, {"return logits.softmax(dim=-1)": "return logits"})
sampling_distribution.slip(
    "log_probabilities",
    "You return log-probabilities. Asked are probabilities: `softmax`, not `log_softmax`.",
    {"return logits.softmax(dim=-1)": "return logits.log_softmax(dim=-1)"},
)
sampling_distribution.slip(
    "softmax_along_the_batch", _OTHER_DIMENSION, {"return logits.softmax(dim=-1)": "return logits.softmax(dim=0)"}
)
sampling_distribution.slip(
    "softmax_along_dimension_one", _TWO_DIMENSIONS, {"return logits.softmax(dim=-1)": "return logits.softmax(dim=1)"}
)
sampling_distribution.slip("k_left_out", "`k` has no effect in your answer.", {"top_k_filter(logits, k)": "logits"})
sampling_distribution.slip("p_left_out", "`p` has no effect in your answer.", {"top_p_filter(logits, p)": "logits"})
sampling_distribution.slip(
    "only_one_filter",
    "With `elif` only one of the filters is applied. Where both are given, both are: first k, then p.",
    {"    if p is not None": "    elif p is not None"},
)
sampling_distribution.slip(
    "filters_only_together",
    "A filter is applied only where both are given. Each stands for itself.",
    {
        "if k is not None": "if k is not None and p is not None",
        "if p is not None": "if p is not None and k is not None",
    },
)


@sampling_distribution.mistake(_P_FIRST)
def p_before_k(logits, temperature=1.0, k=None, p=None):
    logits = logits / temperature
    if p is not None:
        logits = top_p_filter(logits, p)
    if k is not None:
        logits = top_k_filter(logits, k)
    return logits.softmax(dim=-1)


@sampling_distribution.mistake(
    "Where no `k` is given, you keep 50 tokens. None leaves the filter out, and is what stands in the task's first "
    "line: `k=None`."
)
def fifty_by_default(logits, temperature=1.0, k=50, p=None):
    logits = logits / temperature
    if k is not None:
        logits = top_k_filter(logits, k)
    if p is not None:
        logits = top_p_filter(logits, p)
    return logits.softmax(dim=-1)


@sampling_distribution.mistake(_P_FIRST)
def cut_but_not_renormalised_between(logits, temperature=1.0, k=None, p=None):
    chances, order = (logits / temperature).softmax(dim=-1).sort(dim=-1, descending=True)
    if k is not None:
        chances[..., k:] = 0
    if p is not None:
        chances[chances.cumsum(dim=-1) - chances >= p] = 0
    chances = torch.zeros_like(chances).scatter(-1, order, chances)
    return chances / chances.sum(dim=-1, keepdim=True)


@sampling_distribution.mistake(_P_FIRST)
def filters_side_by_side(logits, temperature=1.0, k=None, p=None):
    logits = logits / temperature
    by_k = logits if k is None else top_k_filter(logits, k)
    by_p = logits if p is None else top_p_filter(logits, p)
    return torch.minimum(by_k, by_p).softmax(dim=-1)


@sampling_distribution.mistake(
    "Only the last filter counts: you start it from the unfiltered logits again. Hand it what the first has left."
)
def last_filter_only(logits, temperature=1.0, k=None, p=None):
    filtered = logits = logits / temperature
    if k is not None:
        filtered = top_k_filter(logits, k)
    if p is not None:
        filtered = top_p_filter(logits, p)
    return filtered.softmax(dim=-1)


@sampling_distribution.mistake(_P_COLD)
def temperature_last(logits, temperature=1.0, k=None, p=None):
    if k is not None:
        logits = top_k_filter(logits, k)
    if p is not None:
        logits = top_p_filter(logits, p)
    return (logits / temperature).softmax(dim=-1)


@sampling_distribution.mistake(
    "You divide probabilities by the temperature: that scales all alike, and they no longer sum to 1. It belongs to "
    "the logits, before the softmax."
)
def temperature_after_the_softmax(logits, temperature=1.0, k=None, p=None):
    if k is not None:
        logits = top_k_filter(logits, k)
    if p is not None:
        logits = top_p_filter(logits, p)
    return logits.softmax(dim=-1) / temperature


@sampling_distribution.mistake(
    "You take the softmax before the filters and again after them. `top_p_filter` takes the softmax of what it is "
    "given: hand it logits."
)
def softmax_twice(logits, temperature=1.0, k=None, p=None):
    logits = (logits / temperature).softmax(dim=-1)
    if k is not None:
        logits = top_k_filter(logits, k)
    if p is not None:
        logits = top_p_filter(logits, p)
    return logits.softmax(dim=-1)


@sampling_distribution.mistake(_NOT_RENORMALISED)
def cut_from_the_whole(logits, temperature=1.0, k=None, p=None):
    logits = logits / temperature
    whole = logits.softmax(dim=-1)
    if k is not None:
        logits = top_k_filter(logits, k)
    if p is not None:
        logits = top_p_filter(logits, p)
    return whole.masked_fill(logits == -float("inf"), 0)


@sampling_distribution.mistake(
    "Your filters are called, but what they return is not used. They change nothing in place: `logits = "
    "top_k_filter(logits, k)`."
)
def results_not_used(logits, temperature=1.0, k=None, p=None):
    logits = logits / temperature
    if k is not None:
        top_k_filter(logits, k)
    if p is not None:
        top_p_filter(logits, p)
    return logits.softmax(dim=-1)


@sampling_distribution.mistake(
    "None is handed on to the filter, which cannot compare with it. None means: leave this filter out."
)
def none_handed_on(logits, temperature=1.0, k=None, p=None):
    return top_p_filter(top_k_filter(logits / temperature, k), p).softmax(dim=-1)


sampling_distribution.slip(
    "k_not_tested",
    "`k` may be None, which `top_k_filter` cannot take. None means: leave this filter out. Test `if k is not None` "
    "first.",
    {"if k is not None:": "if True:"},
)
sampling_distribution.slip(
    "p_not_tested",
    "`p` may be None, which `top_p_filter` cannot take. None means: leave this filter out. Test `if p is not None` "
    "first.",
    {"if p is not None:": "if True:"},
)


@sampling_distribution.mistake(_PROBABILITIES_FILTERED)
def filters_after_the_softmax(logits, temperature=1.0, k=None, p=None):
    chances = (logits / temperature).softmax(dim=-1)
    if k is not None:
        chances = top_k_filter(chances, k)
    if p is not None:
        chances = top_p_filter(chances, p)
    return chances / chances.sum(dim=-1, keepdim=True)


@sampling_distribution.mistake(_PROBABILITIES_FILTERED)
def filters_after_the_softmax_and_no_more(logits, temperature=1.0, k=None, p=None):
    chances = (logits / temperature).softmax(dim=-1)
    if k is not None:
        chances = top_k_filter(chances, k)
    if p is not None:
        chances = top_p_filter(chances, p)
    return chances


@sampling_distribution.mistake(_PROBABILITIES_FILTERED)
def one_filter_after_the_softmax(logits, temperature=1.0, k=None, p=None):
    logits = logits / temperature
    if k is not None:
        logits = top_k_filter(logits, k)
    chances = logits.softmax(dim=-1)
    if p is not None:
        chances = top_p_filter(chances, p)
    return chances / chances.sum(dim=-1, keepdim=True)


@sampling_distribution.mistake(
    "Dropped tokens are set to 0 before the softmax, and so come back: e⁰ is 1. Leave them at -inf."
)
def dropped_come_back(logits, temperature=1.0, k=None, p=None):
    logits = logits / temperature
    if k is not None:
        logits = top_k_filter(logits, k)
    if p is not None:
        logits = top_p_filter(logits, p)
    return torch.where(logits == -float("inf"), 0.0, logits).softmax(dim=-1)


@sampling_distribution.also_right
def temperature_after_k(logits, temperature=1.0, k=None, p=None):
    """Dividing keeps the order, so it commutes with top-k (not with top-p)."""
    if k is not None:
        logits = top_k_filter(logits, k)
    logits = logits / temperature
    if p is not None:
        logits = top_p_filter(logits, p)
    return F.softmax(logits, dim=-1)


@sampling_distribution.also_right
def renormalised_by_hand(logits, temperature=1.0, k=None, p=None):
    logits = (logits / temperature).log_softmax(dim=-1)
    if k:
        logits = top_k_filter(logits, k)
    if p:
        logits = top_p_filter(logits, p)
    chances = logits.exp()
    return chances / chances.sum(dim=-1, keepdim=True)


@sampling_distribution.also_right
def with_defaults_that_keep_all(logits, temperature=1.0, k=None, p=None):
    k = logits.size(-1) if k is None else k
    kept = top_k_filter(logits.clone() / temperature, k)
    return (kept if p is None else top_p_filter(kept, p)).log_softmax(dim=-1).exp()


sampling_distribution.also("p_of_one", {"if p is not None": "if p is not None and p < 1"})

sampling_distribution.hint("Three lines that each replace `logits`, in the order named, and the softmax at the end.")
sampling_distribution.hint(
    "`None` means that this filter is left out: `if k is not None: logits = top_k_filter(logits, k)`."
)

# --- sample ----------------------------------------------------------------------------------------------------

sample = Exercise("sample", returns=["ids (batch,)"])


def _draws(logits, *rest, times=2_000, seed=5, **options):
    """Inputs of the scenario ``drawing``."""
    return {"args": [logits, *rest], "kwargs": options, "times": times, "seed": seed}


def _uneven(draw, rows, vocabulary, **options):
    """Logits whose distribution is far from even, in every row another."""

    def sound(logits):
        asked = lesson_08.sampling_distribution(logits, **options)
        plain = logits.softmax(dim=-1)
        spread = (asked.max(dim=-1).values < 0.75).all() and (asked.max(dim=-1).values > 0.4).all()
        second = asked.sort(dim=-1).values[:, -2] > 0.15
        far = all((asked - other).abs().max() > 0.13 for other in ([plain] if options else []))
        rows_differ = (asked[0] - asked[-1]).abs().max() > 0.2 or rows == 1
        return spread and second.all() and far and rows_differ

    return _drawn(draw, lambda draw: torch.stack([_row(draw, vocabulary, **options) for _ in range(rows)]), sound)


@sample.case("k = 1 leaves one token to each row")
def _(draw):
    return call(_logits(draw, 3, 5), k=1)


@sample.case("tiny p leaves one token to each row, by place")
def _(draw):
    return _logits(draw, 2, 6), 1.0, None, 1e-6


@sample.case("one row, all others at -inf")
def _(draw):
    return (_hidden(_logits(draw, 1, 5), 0, 1, 2, 4),)


@sample.case("two rows drawn 2,000 times each", scenario="drawing")
def _(draw):
    return _draws(_uneven(draw, 2, 5))


@sample.case("temperature 0.5, drawn 2,000 times", scenario="drawing")
def _(draw):
    return _draws(_uneven(draw, 2, 5, temperature=0.5), temperature=0.5)


@sample.case("temperature 2, by place, drawn 2,000 times", scenario="drawing")
def _(draw):
    return _draws(_uneven(draw, 1, 4, temperature=2.0), 2.0, seed=8)


@sample.case("k = 2, drawn 2,000 times", scenario="drawing")
def _(draw):
    return _draws(_uneven(draw, 2, 6, k=2), k=2)


@sample.case("p = 0.6, drawn 2,000 times", scenario="drawing")
def _(draw):
    return _draws(_uneven(draw, 2, 6, p=0.6), p=0.6)


@sample.case("temperature, k and p, float64, drawn 2,000 times", scenario="drawing")
def _(draw):
    options = {"temperature": 1.6, "k": 4, "p": 0.8}
    return _draws(_uneven(draw, 2, 6, **options).double(), **options, seed=13)


@sample.case("no generator: torch's own, drawn 2,000 times", scenario="drawing")
def _(draw):
    return _draws(_uneven(draw, 2, 5), seed=None)


_GREEDY = "You take the likeliest token, always. Sampling draws: each token as often as its probability says."
_WRONG_GENERATOR = (
    "You do not draw with `generator`. Whoever hands one over wants to get the same draws again, and torch's own left "
    "alone: `torch.multinomial(…, generator=generator)`."
)
_SEEDED = (
    "You set a seed within the function, so each call gives the same draws. Seeds are set once, by the caller; here "
    "only draw."
)
_KEPT_DIMENSION = "`torch.multinomial` gives (batch, 1), one column for each draw. Asked is (batch,): `[:, 0]`."
_UNFILTERED = "You draw from the plain softmax. Temperature, k and p belong in: `sampling_distribution`."
_ONE_FOR_ALL = "One draw serves all rows. Each row is drawn on its own."
_EVEN = (
    "You draw evenly among the tokens that are left. Each has its probability: hand the probabilities to multinomial."
)

sample.slip("column", _KEPT_DIMENSION, {", generator=generator)[:, 0]": ", generator=generator)"})
sample.slip("squeezed_at_the_front", _KEPT_DIMENSION, {"[:, 0]": ".squeeze(0)"})
sample.slip(
    "squeezed_throughout",
    "`squeeze()` takes away every dimension of size one, so with a batch of one no dimension is left. Asked is "
    "(batch,) there, too: `[:, 0]` or `.squeeze(-1)`.",
    {"[:, 0]": ".squeeze()"},
)
sample.slip("row_zero", (
    "`[0]` is the first row. The draws stand in the one column of (batch, 1): `[:, 0]`."
), {"[:, 0]": "[0]"})  # fmt: skip
sample.slip("no_generator", _WRONG_GENERATOR, {", generator=generator)[:, 0]": ")[:, 0]"})
sample.slip("unfiltered", _UNFILTERED, {"sampling_distribution(logits, temperature, k, p)": "logits.softmax(dim=-1)"})
sample.slip("k_and_p_left_out", "`k` and `p` have no effect: hand them on to `sampling_distribution`.", {
    "temperature, k, p)": "temperature)"
})  # fmt: skip
sample.slip("temperature_left_out", "The temperature has no effect: hand it on to `sampling_distribution`.", {
    "(logits, temperature, k, p)": "(logits, k=k, p=p)"
})  # fmt: skip
sample.slip(
    "k_and_p_exchanged",
    "`k` and `p` have changed places on their way: `sampling_distribution` takes temperature, k, p, in this order.",
    {"temperature, k, p)": "temperature, p, k)"},
)
sample.slip("temperature_twice", (
    "You divide by the temperature, and `sampling_distribution` does it again. Hand the logits over as they are."
), {"(logits, temperature, k, p)": "(logits / temperature, temperature, k, p)"})  # fmt: skip
sample.slip("softmax_twice", (
    "You take the softmax of what is a distribution already: it becomes nearly even, and dropped tokens come back. "
    "`multinomial` takes the probabilities as they are."
), {"sampling_distribution(logits, temperature, k, p)": "sampling_distribution(logits, temperature, k, p)"
    ".softmax(dim=-1)"})  # fmt: skip
sample.slip("distribution_of_probabilities", (
    "You hand probabilities to `sampling_distribution`, which takes logits: the softmax comes twice, and all gets "
    "nearly even."
), {"sampling_distribution(logits,": "sampling_distribution(logits.softmax(dim=-1),"})  # fmt: skip


@sample.mistake(_GREEDY)
def greedy(logits, temperature=1.0, k=None, p=None, generator=None):
    return sampling_distribution(logits, temperature, k, p).argmax(dim=-1)


@sample.mistake(_SEEDED)
def seed_set(logits, temperature=1.0, k=None, p=None, generator=None):
    generator = generator or torch.Generator()
    generator.manual_seed(0)
    return torch.multinomial(sampling_distribution(logits, temperature, k, p), 1, generator=generator)[:, 0]


@sample.mistake(_SEEDED)
def global_seed_set(logits, temperature=1.0, k=None, p=None, generator=None):
    torch.manual_seed(0)
    return torch.multinomial(sampling_distribution(logits, temperature, k, p), 1)[:, 0]


@sample.mistake(
    "Where no generator is given you make one with a fixed seed, so each call gives the same draws. None means torch's "
    "own: hand it on as it is."
)
def generator_made(logits, temperature=1.0, k=None, p=None, generator=None):
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    return torch.multinomial(sampling_distribution(logits, temperature, k, p), 1, generator=generator)[:, 0]


@sample.mistake(_WRONG_GENERATOR)
def python_random(logits, temperature=1.0, k=None, p=None, generator=None):
    import random

    chances = sampling_distribution(logits, temperature, k, p)
    return torch.tensor([random.choices(range(len(row)), weights=row)[0] for row in chances.tolist()])


@sample.mistake(_WRONG_GENERATOR)
def global_inverse(logits, temperature=1.0, k=None, p=None, generator=None):
    chances = sampling_distribution(logits, temperature, k, p)
    return (chances.cumsum(dim=-1) < torch.rand(len(logits), 1)).sum(dim=-1).clamp(max=logits.size(-1) - 1)


@sample.mistake(_ONE_FOR_ALL)
def one_random_number(logits, temperature=1.0, k=None, p=None, generator=None):
    chances = sampling_distribution(logits, temperature, k, p)
    chance = torch.rand(1, generator=generator)
    return (chances.cumsum(dim=-1) < chance).sum(dim=-1).clamp(max=logits.size(-1) - 1)


@sample.mistake(
    "You draw for all rows from the distribution of row 0. Each row has its own: hand all of them to `multinomial`, "
    "which draws from each."
)
def first_row_for_all(logits, temperature=1.0, k=None, p=None, generator=None):
    chances = sampling_distribution(logits, temperature, k, p)
    return torch.multinomial(chances[0], len(logits), replacement=True, generator=generator)


@sample.mistake(_EVEN)
def even_among_the_rest(logits, temperature=1.0, k=None, p=None, generator=None):
    left = sampling_distribution(logits, temperature, k, p) > 0
    return torch.multinomial(left.double(), 1, generator=generator)[:, 0]


@sample.mistake(
    "You add noise to probabilities and take the largest. The Gumbel trick adds it to their logarithms; and "
    "`torch.multinomial` draws directly."
)
def gumbel_on_probabilities(logits, temperature=1.0, k=None, p=None, generator=None):
    chances = sampling_distribution(logits, temperature, k, p)
    noise = -(-torch.rand(chances.shape, generator=generator).log()).log()
    return (chances + noise).argmax(dim=-1)


@sample.mistake("`multinomial` takes probabilities, or at least weights that are not negative. Logits are neither.")
def from_logits(logits, temperature=1.0, k=None, p=None, generator=None):
    logits = logits / temperature
    if k is not None:
        logits = top_k_filter(logits, k)
    if p is not None:
        logits = top_p_filter(logits, p)
    return torch.multinomial(logits, 1, generator=generator)[:, 0]


@sample.mistake("You return the probability of the drawn token. Asked is its id.")
def probability_returned(logits, temperature=1.0, k=None, p=None, generator=None):
    chances = sampling_distribution(logits, temperature, k, p)
    return chances.gather(-1, torch.multinomial(chances, 1, generator=generator))[:, 0]


@sample.mistake("You return a Python list. Asked is a tensor of ids (batch,), int64.")
def list_returned(logits, temperature=1.0, k=None, p=None, generator=None):
    return torch.multinomial(sampling_distribution(logits, temperature, k, p), 1, generator=generator)[:, 0].tolist()


sample.also("squeezed", {"[:, 0]": ".squeeze(-1)"})
sample.also("flattened", {"[:, 0]": ".flatten()"})


@sample.also_right
def by_inverse(logits, temperature=1.0, k=None, p=None, generator=None):
    mass = sampling_distribution(logits, temperature, k, p).double().cumsum(dim=-1)
    chance = torch.rand(len(logits), 1, generator=generator, dtype=torch.float64)
    return torch.searchsorted(mass, chance * mass[:, -1:], right=True)[:, 0].clamp(max=logits.size(-1) - 1)


@sample.also_right
def by_gumbel(logits, temperature=1.0, k=None, p=None, generator=None):
    noise = -torch.empty(logits.shape, dtype=logits.dtype).exponential_(generator=generator).log()
    return (sampling_distribution(logits, temperature, k, p).log() + noise).argmax(dim=-1)


@sample.also_right
def row_by_row_draw(logits, temperature=1.0, k=None, p=None, generator=None):
    chances = sampling_distribution(logits, temperature, k, p)
    return torch.stack([torch.multinomial(row, 1, generator=generator)[0] for row in chances])


@sample.also_right
def unnormalised(logits, temperature=1.0, k=None, p=None, generator=None):
    weights = sampling_distribution(logits, temperature, k, p)
    return torch.multinomial(7 * weights, num_samples=1, replacement=True, generator=generator).view(-1)


sample.hint("`torch.multinomial(probabilities, 1, …)` draws one id from each row of a (batch, V) tensor.")
sample.hint("Its result is (batch, 1): take the column. And it has an argument `generator`.")
