"""Lesson 02: masks, masked attention, multi-head attention."""

# ruff: noqa: F821 - mistakes and variants run in the lesson's set-up cell, as a student's answer does.
# mypy: ignore-errors

import torch
from torch import nn

from autograder.exercise import Exercise, build, call
from crosstalk.stand_ins.lesson_02 import causal_mask as causal

# --- padding_mask ----------------------------------------------------------------------------------------------

padding_mask = Exercise("padding_mask", returns=["mask (batch, 1, 1, keys)"])


@padding_mask.case("two words, pad_id 0")
def _(draw):
    return draw.padded([3, 5], 1, 9, pad_id=0), 0


@padding_mask.case("pad_id is 7, and 0 is a real token")
def _(draw):
    tokens = draw.padded([4, 2, 5], 0, 6, pad_id=7)
    tokens[:, 0] = 0
    return tokens, 7


@padding_mask.case("one word, nothing to pad")
def _(draw):
    return draw.padded([4], 1, 9, pad_id=0), 0


@padding_mask.case("as many words as places")
def _(draw):
    return draw.padded([1, 3, 4, 2], 1, 9, pad_id=0), 0


@padding_mask.case("padding on the left, as some libraries have it")
def _(draw):
    return draw.padded([2, 4, 1], 1, 9, pad_id=0).flip(1), 0


@padding_mask.case("a row that is all padding")
def _(draw):
    return draw.padded([3, 0], 1, 9, pad_id=0), 0


@padding_mask.mistake(
    "It is the wrong way round: your True marks the padding. Here True means: this key may be attended."
)
def padding_is_true(tokens, pad_id):
    return (tokens == pad_id)[:, None, None, :]


@padding_mask.mistake(
    "You masked padded *queries*: the tokens stand in the dimension of the queries. Nobody may read padded "
    "*keys*: (batch, 1, 1, keys)."
)
def queries_masked(tokens, pad_id):
    return (tokens != pad_id)[:, None, :, None]


@padding_mask.mistake(
    "The mask still has the shape of the tokens, so it lines up with queries and keys, not with the batch. "
    "Put in dimensions for heads and queries: (batch, 1, 1, keys)."
)
def no_new_dimensions(tokens, pad_id):
    return tokens != pad_id


@padding_mask.mistake(
    "One dimension is missing: scores are (batch, heads, queries, keys), so the mask is (batch, 1, 1, keys)."
)
def one_new_dimension(tokens, pad_id):
    return (tokens != pad_id)[:, None, :]


@padding_mask.mistake(
    "You compare with 0. The id of the padding is `pad_id`, which may be any number, and 0 may be a real token."
)
def zero_hard_coded(tokens, pad_id):
    return (tokens != 0)[:, None, None, :]


@padding_mask.mistake(
    "You return numbers. A mask is boolean here: `tokens != pad_id` is one already, without `.float()` or `.int()`."
)
def as_float(tokens, pad_id):
    return (tokens != pad_id).float()[:, None, None, :]


@padding_mask.mistake(
    "You return numbers. A mask is boolean here: `tokens != pad_id` is one already, without `.float()` or `.int()`."
)
def as_integer(tokens, pad_id):
    return (tokens != pad_id).long()[:, None, None, :]


@padding_mask.mistake(
    "`~` on integers turns 1 into -2, which also counts as true. Keep the comparison boolean, then `~` means not."
)
def inverted_integers(tokens, pad_id):
    return (~(tokens == pad_id).long())[:, None, None, :]


@padding_mask.mistake(
    "`~` on integers turns 1 into -2, which also counts as true. Keep the comparison boolean, then `~` means not."
)
def inverted_integers_as_bool(tokens, pad_id):
    return (~(tokens == pad_id).int()).bool()[:, None, None, :]


@padding_mask.mistake(
    "You count the real tokens and allow the first so many places. That holds only where padding comes last: "
    "look at each token instead."
)
def first_so_many(tokens, pad_id):
    lengths = (tokens != pad_id).sum(dim=1, keepdim=True)
    return (torch.arange(tokens.size(1)) < lengths)[:, None, None, :]


@padding_mask.mistake(
    "You hide padded queries too, with a mask of (batch, 1, keys, keys). That makes empty rows, and fails where "
    "queries are not the keys: hide keys only, (batch, 1, 1, keys)."
)
def queries_and_keys(tokens, pad_id):
    real = tokens != pad_id
    return real[:, None, :, None] & real[:, None, None, :]


@padding_mask.also_right
def with_ne_and_view(tokens, pad_id):
    return tokens.ne(pad_id).view(tokens.size(0), 1, 1, tokens.size(1))


@padding_mask.also_right
def with_not_equal_twice_unsqueezed(tokens, pad_id):
    return (~(tokens == pad_id)).unsqueeze(1).unsqueeze(2)


@padding_mask.also_right
def in_a_loop(tokens, pad_id):
    rows = [[token != pad_id for token in row] for row in tokens.tolist()]
    return torch.tensor(rows, dtype=torch.bool)[:, None, None]


padding_mask.hint("Which comparison of `tokens` and `pad_id` is True at a real token?")
padding_mask.hint("`tokens != pad_id` has the shape (batch, keys). Where do heads and queries belong?")
padding_mask.hint("Indexing with None puts in a dimension of size 1: `real[:, None, None, :]`.")

# --- causal_mask -----------------------------------------------------------------------------------------------

causal_mask = Exercise("causal_mask", returns=["mask (queries, keys)"])


@causal_mask.case("four queries, four keys")
def _(draw):
    return 4, 4


@causal_mask.case("one new query after four cached keys")
def _(draw):
    return 1, 5


@causal_mask.case("the last two of seventy")
def _(draw):
    return 2, 70


@causal_mask.case("the last five of seven, by name")
def _(draw):
    return call(queries=5, keys=7)


@causal_mask.case("one query, one key")
def _(draw):
    return 1, 1


@causal_mask.mistake(
    "`triu` keeps what lies above the diagonal: the future. A query may read itself and what came before it: `tril`."
)
def upper_triangle(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).triu(diagonal=keys - queries)


@causal_mask.mistake(
    "`triu` keeps what lies above the diagonal: the future. A query may read itself and what came before it: `tril`."
)
def upper_triangle_from_the_left(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).triu()


@causal_mask.mistake(
    "It is the wrong way round: your True marks the future, as `nn.Transformer` has it. Here True means: may attend."
)
def future_is_true(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).triu(diagonal=keys - queries + 1)


@causal_mask.mistake(
    "It is the wrong way round: your True marks the future, as `nn.Transformer` has it. Here True means: may attend."
)
def future_is_true_from_the_left(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).triu(diagonal=1)


@causal_mask.mistake(
    "A token may see itself. You left out the diagonal, so each query misses its own token, and of the first "
    "row nothing is left."
)
def without_itself(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).tril(diagonal=keys - queries - 1)


@causal_mask.mistake(
    "A token may see itself. You left out the diagonal, so each query misses its own token, and of the first "
    "row nothing is left."
)
def without_itself_from_the_left(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).tril(diagonal=-1)


@causal_mask.mistake(
    "Your mask is aligned at the top left: the first query sees key 0 only. The queries are the *last* tokens, so "
    "align at the bottom right: the last query sees every key."
)
def top_left(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).tril()


@causal_mask.mistake(
    "The diagonal is moved the wrong way: `keys - queries` keys stand *before* the first query, and it may read them."
)
def moved_the_wrong_way(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).tril(diagonal=queries - keys)


@causal_mask.mistake(
    "Each query sees one token too many, the very one that it has to predict. Move the diagonal back by one."
)
def one_too_many(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).tril(diagonal=keys - queries + 1)


@causal_mask.mistake("Rows and columns are swapped: one row for each query, one column for each key.")
def swapped(queries, keys):
    return torch.ones(keys, queries, dtype=torch.bool).tril(diagonal=queries - keys)


@causal_mask.mistake(
    "Your mask is square: you used one length for both. Where queries are fewer than keys it has `queries` rows "
    "and `keys` columns."
)
def square_of_keys(queries, keys):
    return torch.ones(keys, keys, dtype=torch.bool).tril()


@causal_mask.mistake(
    "Your mask is square: you used one length for both. Where queries are fewer than keys it has `queries` rows "
    "and `keys` columns."
)
def square_of_queries(queries, keys):
    return torch.ones(queries, queries, dtype=torch.bool).tril()


_CUT_OUT = (
    "You cut the mask out of a square of a fixed size, and it ends there. Nothing ends here: make it from `queries` "
    "and `keys`."
)


@causal_mask.mistake(_CUT_OUT)
def cut_from_a_square_of_16(queries, keys):
    return torch.ones(16, 16, dtype=torch.bool).tril()[keys - queries : keys, :keys]


@causal_mask.mistake(_CUT_OUT)
def cut_from_a_square_of_64(queries, keys):
    return torch.ones(64, 64, dtype=torch.bool).tril()[keys - queries : keys, :keys]


@causal_mask.mistake(
    "You return numbers. A mask is boolean here: start from `torch.ones(queries, keys, dtype=torch.bool)`."
)
def as_float_triangle(queries, keys):
    return torch.ones(queries, keys).tril(diagonal=keys - queries)


@causal_mask.mistake(
    "You return 0 and -inf, to be added to scores. Asked is the boolean mask; `additive_mask` comes next."
)
def already_additive(queries, keys):
    return torch.full((queries, keys), float("-inf")).triu(diagonal=keys - queries + 1)


@causal_mask.also_right
def by_comparing_positions(queries, keys):
    positions = torch.arange(keys - queries, keys)  # of the queries, among all tokens
    return torch.arange(keys)[None, :] <= positions[:, None]


@causal_mask.also_right
def last_rows_of_the_square(queries, keys):
    return torch.ones(keys, keys).tril().bool()[keys - queries :]


@causal_mask.also_right
def not_the_future(queries, keys):
    return ~torch.triu(torch.ones(queries, keys, dtype=torch.bool), diagonal=1 + keys - queries)


causal_mask.hint("Write the mask for 4 queries and 4 keys on paper. Which corner is False?")
causal_mask.hint(
    "With fewer queries than keys the queries are the last tokens. How many keys stand before the first query?"
)
causal_mask.hint(
    "`torch.tril(..., diagonal=n)` keeps n more diagonals to the right. For 1 query and 5 keys, which n keeps all five?"
)

# --- additive_mask ---------------------------------------------------------------------------------------------

additive_mask = Exercise("additive_mask", returns=["numbers (the shape of mask)"])


@additive_mask.case("two rows of three, float32")
def _(draw):
    return torch.tensor([[True, False, True], [False, True, True]]), torch.float32


@additive_mask.case("float64")
def _(draw):
    return draw.mask(2, 1, 3, 4), torch.float64


@additive_mask.case("float16, a padding mask")
def _(draw):
    return draw.mask(3, 1, 1, 4), torch.float16


@additive_mask.case("a row with nothing allowed, and one with everything")
def _(draw):
    return torch.tensor([[False, False, False], [True, True, True]]), torch.float32


@additive_mask.case("not contiguous")
def _(draw):
    return draw.mask(4, 3).T, torch.float32


_INVERTED = "It is the wrong way round: 0 belongs where the mask is True (add nothing), -inf where it is False."
_TIMES_INFINITY = (
    "0 times inf is NaN: multiplying with -inf spoils the allowed places. Choose by `masked_fill` or `torch.where`."
)


@additive_mask.mistake(_INVERTED)
def allowed_is_blocked(mask, dtype):
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(mask, float("-inf"))


@additive_mask.mistake(_TIMES_INFINITY)
def times_infinity(mask, dtype):
    return (~mask).to(dtype) * float("-inf")


@additive_mask.mistake(_TIMES_INFINITY)
def times_infinity_inverted(mask, dtype):
    return mask.to(dtype) * float("-inf")


@additive_mask.mistake(
    "Allowed places got 1. The numbers are added to scores, and 1 is not nothing: put 0 where it is allowed."
)
def ones_where_allowed(mask, dtype):
    return torch.ones(mask.shape, dtype=dtype).masked_fill(~mask, float("-inf"))


@additive_mask.mistake(
    "You only turned the booleans into 1 and 0. Added to scores, that hides nothing: put 0 where it is allowed "
    "and -inf where not."
)
def only_converted(mask, dtype):
    return mask.to(dtype)


@additive_mask.mistake(
    "Your result always has the same dtype, whatever `dtype` says. Make it of that one: `dtype=dtype`."
)
def always_float32(mask, dtype):
    return torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))


@additive_mask.mistake("Hidden places got +inf: added to a score, it draws all weight there. Mind the sign: -inf.")
def plus_infinity(mask, dtype):
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, float("inf"))


@additive_mask.mistake(
    "Hidden places got a large finite number. Asked is -inf itself: PyTorch's functions expect it in a float mask."
)
def lowest_number(mask, dtype):
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


@additive_mask.mistake(
    "Hidden places got a large finite number. Asked is -inf itself: PyTorch's functions expect it in a float mask."
)
def minus_a_thousand_million(mask, dtype):
    return torch.where(mask, 0.0, torch.tensor(-1e9)).to(dtype)


@additive_mask.mistake(
    "You changed the caller's mask in place: it is used again in the next layer. `~mask` gives a new one."
)
def changes_the_mask(mask, dtype):
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(mask.logical_not_(), float("-inf"))


@additive_mask.also_right
def with_where(mask, dtype):
    return torch.where(mask, 0.0, float("-inf")).to(dtype)


@additive_mask.also_right
def with_logarithm(mask, dtype):
    return mask.to(dtype).log()  # log 1 = 0, log 0 = -inf


@additive_mask.also_right
def by_index(mask, dtype):
    result = torch.full_like(mask, 0, dtype=dtype)
    result[mask.logical_not()] = -math.inf
    return result


additive_mask.hint("Which number can be added to a score without changing it? Which makes its exponential 0?")
additive_mask.hint("Start from `torch.zeros(mask.shape, dtype=dtype)` and fill in -inf. Where?")
additive_mask.hint(
    "`masked_fill(where, number)` fills where it reads True. Your mask is True where nothing is to be filled."
)

# --- masked_attention ------------------------------------------------------------------------------------------

masked_attention = Exercise(
    "masked_attention",
    returns=["output (…, queries, d_v)", "weights (…, queries, keys)"],
    forbids=["scaled_dot_product_attention", "multi_head_attention_forward"],
)


def _inputs(draw, batch=2, heads=2, queries=3, keys=5, d_k=4, d_v=3, dtype=torch.float32):
    return (draw.normal(batch, heads, queries, d_k, dtype=dtype), draw.normal(batch, heads, keys, d_k, dtype=dtype),
            draw.normal(batch, heads, keys, d_v, dtype=dtype))  # fmt: skip


def _padding(lengths, keys):
    return (torch.arange(keys) < torch.tensor(lengths)[:, None])[:, None, None, :]  # (batch, 1, 1, keys)


@masked_attention.case("one sequence: two queries, three keys, mask (queries, keys)")
def _(draw):
    mask = torch.tensor([[True, False, True], [True, True, False]])
    return draw.normal(2, 2), draw.normal(3, 2), draw.normal(3, 2), mask


@masked_attention.case("no mask")
def _(draw):
    return _inputs(draw)


@masked_attention.case("no mask, one word, one head, one query")
def _(draw):
    return _inputs(draw, batch=1, heads=1, queries=1)


@masked_attention.case("padding, mask (batch, 1, 1, keys)")
def _(draw):
    return *_inputs(draw), _padding([5, 2], 5)


@masked_attention.case("causal, the last three of five, by name")
def _(draw):
    query, key, value = _inputs(draw)
    return call(query, key, value, mask=causal(3, 5))


@masked_attention.case("causal and padding together, mask (batch, 1, queries, keys)")
def _(draw):
    return *_inputs(draw, queries=4, keys=4), causal(4, 4) & _padding([4, 2], 4)


@masked_attention.case("a mask for each head, (batch, heads, queries, keys)")
def _(draw):
    return *_inputs(draw), draw.mask(2, 2, 3, 5)


@masked_attention.case("batch, heads, queries and keys all three, so that a wrong dimension raises nothing")
def _(draw):
    return *_inputs(draw, 3, 3, 3, 3, 3, 3), _padding([3, 1, 2], 3)


@masked_attention.case("one word, one head, more queries than keys, float64, not contiguous")
def _(draw):
    double = torch.float64
    query = draw.normal(1, 1, 3, 5, dtype=double).transpose(-2, -1)
    key = draw.normal(1, 1, 3, 4, dtype=double).transpose(-2, -1)
    return query, key, draw.normal(1, 1, 4, 2, dtype=double), draw.mask(1, 1, 4, 5).transpose(-2, -1)


@masked_attention.case("an empty row: the second query may attend to nothing")
def _(draw):
    mask = draw.mask(3, 5)
    mask[1] = False
    return *_inputs(draw), mask


@masked_attention.case("a word of padding alone, float64: every row is empty")
def _(draw):
    return *_inputs(draw, dtype=torch.float64), _padding([3, 0], 5)


@masked_attention.case("hidden scores near 40,000, float64")
def _(draw):
    query, key, value = _inputs(draw, dtype=torch.float64)
    mask = _padding([4, 2], 5)
    query[..., 0] = 200.0  # 200 × 400 / √4 = 40,000
    key[..., 0] = torch.where(mask[:, 0], 0.0, 400.0)
    return query, key, value, mask


@masked_attention.case("allowed scores near -1,000,000, float64; in one word nothing is hidden")
def _(draw):
    query, key, value = _inputs(draw, dtype=torch.float64)
    mask = _padding([5, 2], 5)
    query[..., 0] = 1_000.0
    key[..., 0] = torch.where(mask[:, 0], -2_000.0, 0.0)  # 1,000 × -2,000 / √4 = -1,000,000
    return query, key, value, mask


@masked_attention.case("gradients", scenario="gradients")
def _(draw):
    return *_inputs(draw), draw.mask(2, 1, 3, 5)


@masked_attention.case("gradients, with an empty row", scenario="gradients")
def _(draw):
    mask = draw.mask(3, 5)
    mask[1] = False
    return *_inputs(draw), mask


_BLOCKED = "You blocked what may be attended: True means allowed. Fill where the mask is False: `~mask`."
_AFTER = (
    "You mask after the softmax: hidden keys still took a share, and the rest no longer sums to one. "
    "Mask the scores, before it."
)
_EMPTY_NAN = (
    "A row with nothing to attend to came out as 0 / 0, which is NaN. Fill hidden scores with a finite number before "
    "the softmax, and set the weights of hidden keys to 0 after it."
)
_EMPTY_EVEN = (
    "In a row with nothing to attend to, all scores are equally low, so the softmax attends evenly to what is hidden. "
    "Set the weights of hidden keys to 0 afterwards."
)
_EMPTY_BACKWARD = (
    "The forward is clean, the gradient is NaN: in an empty row 0 / 0 happened inside, and what you do to the weights "
    "afterwards does not undo it going back. Do not add -inf: fill with a finite number."
)
_NO_EFFECT = (
    "The mask has no effect: every query still reads every key. Hide scores where it is False, and keep the result: "
    "`masked_fill` gives a new tensor."
)
_SCORE_ZERO = (
    "A hidden key has the score 0 here (or very nearly), and e⁰ = 1 is not nothing: it still takes a share. "
    "Its score must be very low, such as -1e9 or -inf."
)


@masked_attention.mistake(_BLOCKED)
def allowed_blocked(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(mask, -math.inf)
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


@masked_attention.mistake(_BLOCKED)
def allowed_blocked_rows_emptied(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        weights = softmax(scores.masked_fill(mask, -1e9), dim=-1).masked_fill(mask, 0.0)
    return weights @ value, weights


@masked_attention.mistake(_BLOCKED)
def allowed_blocked_finite(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(mask, -1e9)
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


@masked_attention.mistake(
    "Before the softmax you fill where the mask is False, after it where it is True. Both times it is `~mask` "
    "that is hidden."
)
def emptied_the_wrong_ones(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        weights = softmax(scores.masked_fill(~mask, -1e9), dim=-1).masked_fill(mask, 0.0)
    return weights @ value, weights


@masked_attention.mistake(_AFTER)
def masked_after(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    weights = softmax(scores, dim=-1)
    if mask is not None:
        weights = weights * mask
    return weights @ value, weights


@masked_attention.mistake(_EMPTY_NAN)
def renormalised(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    weights = softmax(scores, dim=-1)
    if mask is not None:
        weights = weights * mask
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights @ value, weights


@masked_attention.mistake(
    "You take the softmax over the hidden keys too, and divide by what is left. Where a hidden key scores far higher, "
    "nothing is left to divide. Mask the scores, before the softmax."
)
def renormalised_with_a_floor(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    weights = softmax(scores, dim=-1)
    if mask is not None:
        weights = weights * mask
        weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    return weights @ value, weights


@masked_attention.mistake(
    "Your own exponentials overflow: e to a large score is inf, and inf × 0 is NaN. Use your `softmax`, or take away "
    "each row's maximum first."
)
def exponentials_without_maximum(query, key, value, mask=None):
    exponentials = torch.exp(query @ key.transpose(-2, -1) / math.sqrt(query.size(-1)))
    if mask is not None:
        exponentials = exponentials * mask
    weights = exponentials / exponentials.sum(dim=-1, keepdim=True).clamp_min(1e-30)
    return weights @ value, weights


_NOT_LOW_ENOUGH = (
    "Your number for hidden scores is not low enough. A score that is allowed can be lower, and then the hidden keys "
    "win. Use -1e9, -inf or the lowest number of the dtype."
)
for _low in ("-1e4", "-65504.0", "-1e5"):
    masked_attention.slip(
        f"not_lower_than{_low.replace('.', '_').replace('-', '_')}",
        _NOT_LOW_ENOUGH,
        {"torch.finfo(scores.dtype).min": _low},
    )
masked_attention.slip(
    "filled_before_scaling",
    _NOT_LOW_ENOUGH,
    {" / math.sqrt(query.size(-1))  #": "  #", "torch.finfo(scores.dtype).min)": "-1e5) / math.sqrt(query.size(-1))",
     "weights = softmax(scores, dim=-1)\n    else": "weights = softmax(scores / math.sqrt(query.size(-1)))\n    else"},
)  # fmt: skip


@masked_attention.mistake(
    "You tell an empty row by its low scores, and so empty rows whose allowed scores are low too. What is hidden only "
    "the mask can say: `masked_fill(~mask, 0.0)` on the weights."
)
def emptied_by_low_scores(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    weights = torch.where(scores.amax(dim=-1, keepdim=True) < -1e4, 0.0, softmax(scores, dim=-1))
    return weights @ value, weights


masked_attention.slip(
    "scores_squeezed",
    "`squeeze()` drops every dimension of size 1: a batch of one, one head, a single query. Leave the dimensions as "
    "they are.",
    {"scores = query @ key.transpose(-2, -1) /": "scores = (query @ key.transpose(-2, -1)).squeeze() /"},
)
_TRUTH_OF_A_TENSOR = (
    "`if mask:` asks whether the whole tensor is true, and PyTorch refuses to answer for more than one number. Ask "
    "`if mask is not None:`."
)


@masked_attention.mistake(_TRUTH_OF_A_TENSOR)
def truth_of_the_mask(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask:
        scores = scores.masked_fill(~mask, -1e9)
    weights = softmax(scores, dim=-1)
    if mask:
        weights = weights.masked_fill(~mask, 0.0)
    return weights @ value, weights


@masked_attention.mistake(_TRUTH_OF_A_TENSOR)
def truth_of_the_mask_denied(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if not mask:
        weights = softmax(scores, dim=-1)
    else:
        weights = softmax(scores.masked_fill(~mask, -1e9), dim=-1).masked_fill(~mask, 0.0)
    return weights @ value, weights


@masked_attention.mistake(_SCORE_ZERO)
def scores_times_mask(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores * mask
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


@masked_attention.mistake(_SCORE_ZERO)
def filled_with_1e_minus_9(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(mask == 0, 1e-9)
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


@masked_attention.mistake(
    "You add the mask as 1 and 0: that only adds 1 to allowed scores. Added masks are 0 where allowed, -inf where not."
)
def mask_added(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores + mask.to(scores.dtype)
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


@masked_attention.mistake(
    "You fill hidden scores with +inf, which draws all weight there, or gives NaN. Mind the sign: low, not high."
)
def plus_infinity_filled(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, math.inf)
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


@masked_attention.mistake(
    "You fill hidden scores with +inf, which draws all weight there, or gives NaN. Mind the sign: low, not high."
)
def plus_a_thousand_million(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, 1e9)
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


@masked_attention.mistake(_EMPTY_NAN)
def plain_infinity(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


@masked_attention.mistake(_EMPTY_NAN)
def plain_additive_mask(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores + additive_mask(mask, scores.dtype)
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


@masked_attention.mistake(_EMPTY_EVEN)
def plain_low_number(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


@masked_attention.mistake(_EMPTY_EVEN)
def plain_lowest_number(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


@masked_attention.mistake(
    "In a row with nothing to attend to, taking the same 1e9 from every score changes nothing: the hidden keys are "
    "attended to as if there were no mask. Set the weights of hidden keys to 0 afterwards."
)
def low_number_added(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores - 1e9 * (~mask).to(scores.dtype)
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


@masked_attention.mistake(_EMPTY_BACKWARD)
def nan_to_num_afterwards(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores + additive_mask(mask, scores.dtype)
    weights = torch.nan_to_num(softmax(scores, dim=-1))
    return weights @ value, weights


@masked_attention.mistake(_EMPTY_BACKWARD)
def nan_filled_afterwards(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        added = torch.zeros(mask.shape, dtype=scores.dtype).masked_fill(~mask, -math.inf)
        weights = softmax(scores + added, dim=-1).masked_fill(~mask, 0.0)
    return weights @ value, weights


@masked_attention.mistake(
    "The output of an empty row is 0, its weights are not. Set the weights of hidden keys to 0: the output follows."
)
def only_output_emptied(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores, dim=-1)
        return weights @ value, weights
    weights = softmax(scores.masked_fill(~mask, -1e9), dim=-1)
    empty = ~mask.any(dim=-1, keepdim=True)
    return (weights @ value).masked_fill(empty, 0.0), weights


@masked_attention.mistake(
    "The weights of an empty row are 0, its output is not: you multiplied the values before you emptied the weights."
)
def only_weights_emptied(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    weights = softmax(scores, dim=-1)
    output = weights @ value
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)
    return output, weights


@masked_attention.mistake(
    "You empty each row in which any key is hidden. Empty is one in which *all* are: `~mask.any(dim=-1, keepdim=True)`."
)
def any_hidden_is_empty(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        weights = softmax(scores.masked_fill(~mask, -1e9), dim=-1)
        weights = weights.masked_fill(~mask.all(dim=-1, keepdim=True), 0.0)
    return weights @ value, weights


@masked_attention.mistake(
    "Your function stops when `mask` is None, which means that nothing is hidden: ask `if mask is not None` first."
)
def none_not_expected(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    weights = softmax(scores.masked_fill(~mask, -1e9), dim=-1).masked_fill(~mask, 0.0)
    return weights @ value, weights


@masked_attention.mistake(
    "Your function stops when `mask` is None, which means that nothing is hidden: ask `if mask is not None` first."
)
def none_compared_with_zero(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    scores = scores.masked_fill(mask == 0, -1e9)
    weights = softmax(scores, dim=-1).masked_fill(mask == 0, 0.0)
    return weights @ value, weights


@masked_attention.mistake(_NO_EFFECT)
def mask_ignored(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


@masked_attention.mistake(_NO_EFFECT)
def filled_and_dropped(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores.masked_fill(~mask, -1e9)
    weights = softmax(scores, dim=-1)
    if mask is not None:
        weights.masked_fill(~mask, 0.0)
    return weights @ value, weights


@masked_attention.mistake(
    "You transposed the mask: its rows are the queries, its columns the keys, as in the scores. Use it as it is."
)
def mask_transposed(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        hidden = ~mask.transpose(-2, -1)
        weights = softmax(scores.masked_fill(hidden, -1e9), dim=-1).masked_fill(hidden, 0.0)
    return weights @ value, weights


@masked_attention.mistake(
    "You put a dimension into the mask. It broadcasts to the scores as it is; with one more it lines up wrongly."
)
def mask_unsqueezed(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        hidden = ~mask.unsqueeze(1)
        weights = softmax(scores.masked_fill(hidden, -1e9), dim=-1).masked_fill(hidden, 0.0)
    return weights @ value, weights


@masked_attention.mistake(
    "`scores[~mask] = …` needs a mask of exactly the shape of the scores. `masked_fill` broadcasts: use that."
)
def filled_by_index(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        scores[~mask] = -1e9
        weights = softmax(scores, dim=-1).masked_fill(~mask, 0.0)
    return weights @ value, weights


@masked_attention.mistake(
    "`~` on integers turns 1 into -2 and 0 into -1, both of them true: everything is hidden. Keep the mask boolean."
)
def integers_inverted(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        hidden = (~mask.int()).bool()
        weights = softmax(scores.masked_fill(hidden, -1e9), dim=-1).masked_fill(hidden, 0.0)
    return weights @ value, weights


@masked_attention.mistake(
    "You changed the caller's mask in place: the next layer would get it upside down. `~mask` gives a new one."
)
def mask_changed(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        hidden = mask.logical_not_()
        weights = softmax(scores.masked_fill(hidden, -1e9), dim=-1).masked_fill(hidden, 0.0)
    return weights @ value, weights


@masked_attention.mistake(
    "The scores are not scaled: divide them by √d_k before the softmax, as in lesson 01. A mask changes nothing there."
)
def not_scaled(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1)
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        weights = softmax(scores.masked_fill(~mask, -1e9), dim=-1).masked_fill(~mask, 0.0)
    return weights @ value, weights


@masked_attention.mistake(
    "Your softmax runs over the queries (dim=-2). Each query spreads its weight over the keys: dim=-1."
)
def over_queries(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores, dim=-2)
    else:
        weights = softmax(scores.masked_fill(~mask, -1e9), dim=-2).masked_fill(~mask, 0.0)
    return weights @ value, weights


@masked_attention.mistake("You return the output alone. The weights are asked for too: `return output, weights`.")
def output_only(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        weights = softmax(scores.masked_fill(~mask, -1e9), dim=-1).masked_fill(~mask, 0.0)
    return weights @ value


@masked_attention.mistake("The two results are swapped: return the output first, then the weights.")
def results_swapped(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        weights = softmax(scores.masked_fill(~mask, -1e9), dim=-1).masked_fill(~mask, 0.0)
    return weights, weights @ value


@masked_attention.also_right
def infinity_with_full_rows_for_empty_ones(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        mask = torch.ones_like(scores, dtype=torch.bool)
    empty = ~mask.any(dim=-1, keepdim=True)
    # An empty row is let see everything, so that the softmax meets no row of -inf, and is zeroed afterwards.
    scores = torch.where(mask | empty, scores, -math.inf)
    weights = torch.where(empty, 0.0, softmax(scores, dim=-1))
    return weights @ value, weights


@masked_attention.also_right
def a_thousand_million_below(query, key, value, mask=None):
    scores = torch.einsum("...qd,...kd->...qk", query, key) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(mask == 0, -1e9)
    weights = torch.softmax(scores, dim=-1)
    if mask is not None:
        weights = weights * mask
    return torch.einsum("...qk,...kv->...qv", weights, value), weights


@masked_attention.also_right
def a_thousand_million_taken_away(query, key, value, mask=None):
    scores = (query @ key.mT) / math.sqrt(key.shape[-1])
    if mask is None:
        weights = F.softmax(scores, dim=-1)
        return weights @ value, weights
    scores = scores - (~mask).to(scores.dtype) * 1e9
    weights = F.softmax(scores, dim=-1).masked_fill(~mask.any(-1, keepdim=True), 0)
    return weights @ value, weights


@masked_attention.also_right
def additive_and_zeroed(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool)
    added = additive_mask(mask, scores.dtype).clamp_min(torch.finfo(scores.dtype).min / 2)
    weights = softmax(scores + added, dim=-1) * mask.to(scores.dtype)
    return torch.matmul(weights, value), weights


@masked_attention.also_right
def infinity_filled_and_emptied(query, key, value, mask=None):
    # Filling, other than adding, cuts the way back: the NaN inside an empty row stops at the fill.
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        weights = softmax(scores.masked_fill(~mask, -math.inf), dim=-1).masked_fill(~mask, 0.0)
    return weights @ value, weights


@masked_attention.also_right
def own_exponentials(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    exponentials = torch.exp(scores - scores.detach().amax(dim=-1, keepdim=True))
    if mask is not None:
        exponentials = exponentials * mask
    # In an empty row the sum is 0, and 0 / 1 is what is wanted.
    sums = exponentials.sum(dim=-1, keepdim=True)
    weights = exponentials / torch.where(sums == 0, 1.0, sums)
    return weights @ value, weights


@masked_attention.also_right
def in_place_on_its_own_scores(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1)
    scores /= query.size(-1) ** 0.5
    if mask is not None:
        hidden = mask.logical_not().expand_as(scores)
        scores[hidden] = -1e9
    weights = softmax(scores)
    if mask is not None:
        weights = torch.where(hidden, torch.zeros_like(weights), weights)
    output = weights.matmul(value)
    return output, weights


@masked_attention.also_right
def weights_multiplied_in_place(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    weights = softmax(scores)
    if mask is not None:
        weights *= mask
    return weights @ value, weights


@masked_attention.also_right
def weights_filled_in_place(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = softmax(scores, dim=-1)
    if mask is not None:
        weights.masked_fill_(~mask, 0.0)
    return weights @ value, weights


@masked_attention.also_right
def weights_set_in_place(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        weights = softmax(scores)
    else:
        hidden = (~mask).expand_as(scores)
        scores[hidden] = -1e9
        weights = softmax(scores)
        weights[hidden] = 0.0
    return weights @ value, weights


masked_attention.hint(
    "Begin with your `scaled_dot_product_attention`. Between which two of its lines does the mask belong?"
)
masked_attention.hint(
    "`scores.masked_fill(~mask, number)`: which number leaves nothing of a hidden key after the softmax?"
)
masked_attention.hint(
    "With -inf, what is the softmax of a row that is hidden as a whole? A very low finite number, "
    "`torch.finfo(scores.dtype).min`, avoids 0 / 0, forwards and backwards."
)
masked_attention.hint(
    "With a finite number, an empty row comes out even. One more `masked_fill(~mask, 0.0)`, on the weights, empties it."
)

# --- MultiHeadAttention ----------------------------------------------------------------------------------------

multi_head = Exercise(
    "MultiHeadAttention",
    returns=["output (batch, queries, d_model)", "weights (batch, heads, queries, keys)"],
    forbids=["multi_head_attention_forward"],
)

_RECORDED = {"name": "masked_attention", "as": "attention", "loosely": ["mask"]}


def _weights(draw, d_model, dtype=torch.float32):
    shapes = {}
    for name in ("query", "key", "value", "output"):
        shapes |= {f"{name}__weight": (d_model, d_model), f"{name}__bias": (d_model,)}
    return {name: weight.to(dtype) for name, weight in draw.weights(**shapes).items()}


@multi_head.case("self-attention, two heads, no mask", scenario="module")
def _(draw):
    return build(4, 2, weights=_weights(draw, 4), forward=call(draw.normal(2, 3, 4)), attributes=["heads", "attention"])


@multi_head.case("a memory of another length, padded", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 6), draw.normal(2, 5, 6), _padding([5, 2], 5))
    return build(6, 3, weights=_weights(draw, 6), forward=forward)


@multi_head.case("a memory of the same length, by name", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 4, 8), memory=draw.normal(2, 4, 8), mask=_padding([4, 3], 4))
    return build(d_model=8, heads=2, weights=_weights(draw, 8), forward=forward)


@multi_head.case("self-attention, causal, a batch of one", scenario="module")
def _(draw):
    return build(6, 2, weights=_weights(draw, 6), forward=call(draw.normal(1, 5, 6), mask=causal(5, 5)))


@multi_head.case("batch, heads, length and d_head all four", scenario="module")
def _(draw):
    forward = call(draw.normal(4, 4, 16), mask=_padding([4, 1, 3, 2], 4))
    return build(16, 4, weights=_weights(draw, 16), forward=forward)


@multi_head.case("one head, float64, not contiguous, a mask for each head", scenario="module")
def _(draw):
    double = torch.float64
    states = draw.normal(2, 4, 3, dtype=double).transpose(1, 2)
    return build(4, 1, weights=_weights(draw, 4, double), forward=call(states, mask=draw.mask(2, 1, 3, 3)))


@multi_head.case("one query for each word, one memory of padding alone: nothing to attend to", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 1, 4), draw.normal(2, 3, 4), _padding([3, 0], 3))
    return build(4, 2, weights=_weights(draw, 4), forward=forward)


@multi_head.case("the attention that it was given is called, once, on split heads", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 6), draw.normal(2, 5, 6), draw.mask(2, 2, 3, 5))
    return build(6, 2, weights=_weights(draw, 6), forward=forward, record=_RECORDED)


@multi_head.case("an attention that returns None for the weights, as fused ones do", scenario="module")
def _(draw):
    recorded = _RECORDED | {"without_weights": True}
    return build(4, 2, weights=_weights(draw, 4), forward=call(draw.normal(2, 3, 4)), record=recorded)


@multi_head.case("two calls of one object: with a memory and a mask, then without", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 4), draw.normal(2, 5, 4), draw.mask(2, 1, 3, 5))
    return build(4, 2, weights=_weights(draw, 4), forward=forward, again=call(draw.normal(2, 4, 4)))


@multi_head.case("in training mode", scenario="module")
def _(draw):
    return build(4, 2, weights=_weights(draw, 4), forward=call(draw.normal(2, 3, 4)), train=True)


_NOT_MIXED = (
    "There is no output projection in what you return: the heads were put side by side but never mixed. "
    "Return `self.output(...)` of the merged heads."
)
_NAMES = "Later lessons load weights by name: call the four Linear layers `query`, `key`, `value` and `output`."
_ONE_FOR_ALL = (
    "Queries, keys and values come from one projection. Each has its own: what a token looks for is not what it offers."
)
_KEYS_FROM_STATES = (
    "With a memory, keys and values both come from it; only the queries come from `states`. "
    "Where to look and what to carry must be the same tokens."
)


_SPLIT_QUERY, _SPLIT_KEY, _SPLIT_VALUE = (
    f"split_heads(self.{name}({of}), self.heads)"
    for name, of in (("query", "states"), ("key", "source"), ("value", "source"))
)
_CALL, _RETURN = "self.attention(query, key, value, mask)", "return self.output(merge_heads(carried)), weights"

multi_head.slip("output_not_used", _NOT_MIXED, {_RETURN: "return merge_heads(carried), weights"})
multi_head.slip(
    "no_output_layer",
    _NOT_MIXED,
    {"        self.output = nn.Linear(d_model, d_model)\n": "", _RETURN: "return merge_heads(carried), weights"},
)
multi_head.slip(
    "mask_not_passed_on",
    "The mask is not passed on, so everybody reads padding and future: `self.attention(query, key, value, mask)`.",
    {_CALL: "self.attention(query, key, value)"},
)
multi_head.slip(
    "memory_ignored",
    "`memory` is never read: keys and values come from it where it is given, and from `states` where it is None.",
    {"source = states if memory is None else memory": "source = states"},
)
multi_head.slip(
    "queries_from_memory",
    "Your queries come from the memory. It is `states` that asks; the memory gives keys and values.",
    {"self.query(states)": "self.query(source)"},
)
multi_head.slip(
    "memory_and_states_swapped",
    "States and memory are swapped: `states` gives the queries, `memory` the keys and values.",
    {"self.query(states)": "self.query(source)", "self.key(source)": "self.key(states)",
     "self.value(source)": "self.value(states)"},
)  # fmt: skip
multi_head.slip("keys_from_states", _KEYS_FROM_STATES, {"self.key(source)": "self.key(states)"})
multi_head.slip("values_from_states", _KEYS_FROM_STATES, {"self.value(source)": "self.value(states)"})
multi_head.slip(
    "states_or_memory_needed",
    "Your forward stops where `memory` is None. That means self-attention: keys and values come from `states`.",
    {"source = states if memory is None else memory": "source = memory"},
)
multi_head.slip("key_by_query_layer", _ONE_FOR_ALL, {"self.key(source)": "self.query(source)"})
multi_head.slip("value_by_key_layer", _ONE_FOR_ALL, {"self.value(source)": "self.key(source)"})
multi_head.slip(
    "all_by_query_layer",
    _ONE_FOR_ALL,
    {"self.key(source)": "self.query(source)", "self.value(source)": "self.query(source)"},
)
multi_head.slip(
    "one_layer_under_three_names",
    _ONE_FOR_ALL,
    {"self.key = nn.Linear(d_model, d_model)": "self.key = self.query",
     "self.value = nn.Linear(d_model, d_model)": "self.value = self.query"},
)  # fmt: skip
multi_head.slip(
    "layers_never_used",
    "The layers `query`, `key` and `value` are made but never called: project before you split into heads.",
    {"self.query(states)": "states", "self.key(source)": "source", "self.value(source)": "source"},
)
multi_head.slip(
    "weights_averaged",
    "You average the weights over the heads. Later lessons look at each: return (batch, heads, queries, keys).",
    {_RETURN: "return self.output(merge_heads(carried)), weights.mean(dim=1)"},
)
multi_head.slip(
    "output_only",
    "You return the output alone. The weights are asked for too: `return output, weights`.",
    {_RETURN: "return self.output(merge_heads(carried))"},
)
multi_head.slip(
    "attention_ignored",
    "The attention that was handed in is never called. Call `self.attention`: fast training puts in another one.",
    {_CALL: "masked_attention(query, key, value, mask)"},
)
multi_head.slip(
    "no_bias_anywhere",
    "Your layers have no bias. Weights from elsewhere bring one for each of the four: leave `bias` at its default.",
    {f"self.{name} = nn.Linear(d_model, d_model)": f"self.{name} = nn.Linear(d_model, d_model, bias=False)"
     for name in ("query", "key", "value", "output")},
)  # fmt: skip
multi_head.slip(
    "no_bias_in_three",
    "Your layers have no bias. Weights from elsewhere bring one for each of the four: leave `bias` at its default.",
    {f"self.{name} = nn.Linear(d_model, d_model)": f"self.{name} = nn.Linear(d_model, d_model, bias=False)"
     for name in ("query", "key", "value")},
)  # fmt: skip
multi_head.slip(
    "layers_of_one_head",
    "Your layers are as wide as one head. Each maps d_model to d_model: all heads at once, split afterwards.",
    {f"self.{name} = nn.Linear(d_model, d_model)": f"self.{name} = nn.Linear(d_model, d_model // heads)"
     for name in ("query", "key", "value")},
)  # fmt: skip
multi_head.slip(
    "width_for_heads",
    "`split_heads` takes the number of heads, and you give it the width of one, d_model // heads.",
    {
        old: old.replace("self.heads", "states.size(-1) // self.heads")
        for old in (_SPLIT_QUERY, _SPLIT_KEY, _SPLIT_VALUE)
    },
)
multi_head.slip(
    "weights_not_passed_on_as_they_are",
    "You do something to the weights. A fused attention returns None in their place: pass on what you got.",
    {_RETURN: "return self.output(merge_heads(carried)), weights.clone()"},
)
multi_head.slip(
    "memory_kept",
    "You keep the memory of an earlier call. Each call stands alone: without a memory, attend to the states.",
    {
        "source = states if memory is None else memory": "self.memory = getattr(self, 'memory', None) "
        "if memory is None else memory\n        source = states if self.memory is None else self.memory"
    },
)
multi_head.slip(
    "dropout_already",
    "In training mode the result is random. Dropout comes in lesson 03, around this module and not inside it.",
    {_RETURN: "return self.output(F.dropout(merge_heads(carried), 0.5, self.training)), weights"},
)
multi_head.slip(
    "heads_under_another_name",
    "The number of heads has another name. Later lessons read it as `attention.heads`: `self.heads = heads`.",
    {"self.heads = heads": "self.number = heads"}
    | {old: old.replace("self.heads", "self.number") for old in (_SPLIT_QUERY, _SPLIT_KEY, _SPLIT_VALUE)},
)
multi_head.slip(
    "attention_under_another_name",
    "The attention has another name. Later lessons put another one in its place, as `self.attention`: keep that name.",
    {"self.attention = attention": "self.attend = attention", _CALL: _CALL.replace("attention", "attend")},
)
multi_head.slip(
    "one_query_squeezed",
    "`squeeze` drops the dimension of the queries where there is one query only, as in lesson 07. Leave the dimensions "
    "as they are: (batch, queries, d_model).",
    {_RETURN: "return self.output(merge_heads(carried).squeeze(-2)), weights"},
)
multi_head.slip(
    "memory_or_states",
    "`memory or states` asks whether a whole tensor is true, and PyTorch refuses to answer for more than one number. "
    "Write `states if memory is None else memory`.",
    {"source = states if memory is None else memory": "source = memory or states"},
)
multi_head.slip(
    "one_wide_head",
    "There is only one head, as wide as the model: split into `heads` of them.",
    {old: old.replace("self.heads", "1") for old in (_SPLIT_QUERY, _SPLIT_KEY, _SPLIT_VALUE)},
)
multi_head.slip(
    "merged_without_transpose",
    "A plain reshape mixes heads and positions. `merge_heads` brings the length back before the heads first.",
    {"merge_heads(carried)": "carried.reshape(states.shape)"},
)
multi_head.slip(
    "viewed_straight_into_heads",
    "A view straight to (batch, heads, length, d_head) mixes positions into heads. `split_heads` does it rightly.",
    {_SPLIT_QUERY: "(q := self.query(states)).reshape(q.size(0), self.heads, q.size(1), -1)",
     _SPLIT_KEY: "(k := self.key(source)).reshape(k.size(0), self.heads, k.size(1), -1)",
     _SPLIT_VALUE: "(v := self.value(source)).reshape(v.size(0), self.heads, v.size(1), -1)",
     "merge_heads(carried)": "carried.reshape(states.shape)"},
)  # fmt: skip
multi_head.slip(
    "projected_before_merging",
    "You project before the heads are merged: `output` maps d_model to d_model, so merge first.",
    {"self.output(merge_heads(carried))": "merge_heads(self.output(carried))"},
)
multi_head.slip(
    "residual_added",
    "You add the states to the output. The residual comes in lesson 03, around this module: leave it out here.",
    {"self.output(merge_heads(carried))": "states + self.output(merge_heads(carried))"},
)
multi_head.slip(
    "scaled_twice",
    "The scores are scaled twice: `self.attention` divides by √d_head itself. Hand the queries over as they are.",
    {_SPLIT_QUERY: f"{_SPLIT_QUERY} / math.sqrt(states.size(-1) // self.heads)"},
)


@multi_head.mistake(_NAMES)
class NamedInShort(nn.Module):
    def __init__(self, d_model, heads, attention=masked_attention):
        super().__init__()
        self.heads, self.attention = heads, attention
        self.q_proj, self.k_proj = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.v_proj, self.out_proj = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)

    def forward(self, states, memory=None, mask=None):
        source = states if memory is None else memory
        query = split_heads(self.q_proj(states), self.heads)
        key, value = (split_heads(layer(source), self.heads) for layer in (self.k_proj, self.v_proj))
        carried, weights = self.attention(query, key, value, mask)
        return self.out_proj(merge_heads(carried)), weights


@multi_head.mistake(
    "One wide layer for queries, keys and values is a good way, but the weights have other names then. "
    "Asked are four Linear layers: `query`, `key`, `value`, `output`."
)
class Fused(nn.Module):
    def __init__(self, d_model, heads, attention=masked_attention):
        super().__init__()
        self.heads, self.attention = heads, attention
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(self, states, memory=None, mask=None):
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(states).chunk(3, dim=-1))
        carried, weights = self.attention(query, key, value, mask)
        return self.output(merge_heads(carried)), weights


@multi_head.mistake(
    "The layers stand in a Python list, so PyTorch does not see their parameters and no optimiser would train them. "
    "Make each an attribute: `self.query = …`."
)
class InAList(nn.Module):
    def __init__(self, d_model, heads, attention=masked_attention):
        super().__init__()
        self.heads, self.attention = heads, attention
        self.layers = [nn.Linear(d_model, d_model) for _ in range(4)]

    def forward(self, states, memory=None, mask=None):
        source = states if memory is None else memory
        query = split_heads(self.layers[0](states), self.heads)
        key, value = (split_heads(layer(source), self.heads) for layer in self.layers[1:3])
        carried, weights = self.attention(query, key, value, mask)
        return self.layers[3](merge_heads(carried)), weights


@multi_head.mistake(
    "There is a layer too many, `norm`: normalising comes in lesson 03, around this one. Asked are four Linear layers."
)
class WithANorm(nn.Module):
    def __init__(self, d_model, heads, attention=masked_attention):
        super().__init__()
        self.heads, self.attention = heads, attention
        self.query, self.key = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.value, self.output = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, states, memory=None, mask=None):
        source = states if memory is None else memory
        query = split_heads(self.query(states), self.heads)
        key, value = (split_heads(layer(source), self.heads) for layer in (self.key, self.value))
        carried, weights = self.attention(query, key, value, mask)
        return self.norm(states + self.output(merge_heads(carried))), weights


@multi_head.mistake(
    "You wrote the attention out and scale by √d_model. What counts is the width of one head: call `self.attention`."
)
class OwnAttentionScaledByModel(nn.Module):
    def __init__(self, d_model, heads, attention=masked_attention):
        super().__init__()
        self.heads, self.d_model = heads, d_model
        self.query, self.key = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.value, self.output = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)

    def forward(self, states, memory=None, mask=None):
        source = states if memory is None else memory
        query = split_heads(self.query(states), self.heads)
        key, value = (split_heads(layer(source), self.heads) for layer in (self.key, self.value))
        scores = query @ key.transpose(-2, -1) / math.sqrt(self.d_model)
        if mask is None:
            mask = torch.ones_like(scores, dtype=torch.bool)
        weights = softmax(scores.masked_fill(~mask, -1e9)).masked_fill(~mask, 0.0)
        return self.output(merge_heads(weights @ value)), weights


@multi_head.also_right
class MadeInALoop(nn.Module):
    def __init__(self, d_model, heads, attention=masked_attention):
        super().__init__()
        self.attention, self.heads = attention, heads
        for name in ("output", "value", "key", "query"):
            setattr(self, name, nn.Linear(d_model, d_model))
            nn.init.xavier_uniform_(getattr(self, name).weight)

    def forward(self, states, memory=None, mask=None):
        if memory is None:
            memory = states
        heads = [split_heads(layer(x), self.heads)
                 for layer, x in ((self.query, states), (self.key, memory), (self.value, memory))]  # fmt: skip
        output, weights = self.attention(*heads, mask=mask)
        return self.output(merge_heads(output)), weights


@multi_head.also_right
class OwnSplitting(nn.Module):
    def __init__(self, d_model, heads, attention=masked_attention):
        super().__init__()
        assert d_model % heads == 0
        self.d_model, self.heads, self.d_head, self.attention = d_model, heads, d_model // heads, attention
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.output = nn.Linear(d_model, d_model)
        self.register_buffer("scale", torch.tensor(self.d_head**-0.5))

    def _heads(self, states):
        batch, length, _ = states.shape
        return states.view(batch, length, self.heads, self.d_head).permute(0, 2, 1, 3)

    def forward(self, states, memory=None, mask=None):
        memory = states if memory is None else memory
        query, key, value = (
            self._heads(self.query(states)),
            self._heads(self.key(memory)),
            self._heads(self.value(memory)),
        )
        output, weights = self.attention(query=query, key=key, value=value, mask=mask)
        output = output.permute(0, 2, 1, 3).contiguous().view(states.size(0), -1, self.d_model)
        return self.output(output), weights


@multi_head.also_right
class KeysAndValuesInOne(nn.Module):
    def __init__(self, d_model, heads, attention=masked_attention):
        super().__init__()
        self.heads, self.attention = heads, attention
        self.query, self.key = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.value, self.output = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)

    def forward(self, states, memory=None, mask=None):
        source = memory if memory is not None else states
        weight = torch.cat([self.key.weight, self.value.weight])
        key, value = F.linear(source, weight, torch.cat([self.key.bias, self.value.bias])).chunk(2, dim=-1)
        parts = (split_heads(part, self.heads) for part in (self.query(states), key, value))
        carried, weights = self.attention(*parts, mask)
        return self.output(merge_heads(carried)), weights


@multi_head.also_right
class WithEinsum(nn.Module):
    def __init__(self, d_model, heads, attention=masked_attention):
        super().__init__()
        self.heads, self.attention = heads, attention
        self.query, self.key = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.value, self.output = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)

    def _project(self, layer, states):
        weight = layer.weight.unflatten(0, (self.heads, -1))  # (heads, d_head, d_model)
        bias = layer.bias.unflatten(0, (self.heads, -1))[:, None]  # (heads, 1, d_head)
        return torch.einsum("blm,hdm->bhld", states, weight) + bias

    def forward(self, states, memory=None, mask=None):
        source = states if memory is None else memory
        carried, weights = self.attention(
            self._project(self.query, states), self._project(self.key, source), self._project(self.value, source), mask
        )
        output = torch.einsum("bhld,mhd->blm", carried, self.output.weight.unflatten(1, (self.heads, -1)))
        return output + self.output.bias, weights


multi_head.hint(
    "Four Linear layers of d_model to d_model. Three come before the heads are split; the fourth comes when?"
)
multi_head.hint("Write the shape after each step: project, `split_heads`, `self.attention`, `merge_heads`, project.")
multi_head.hint(
    "`source = states if memory is None else memory`: the queries come from `states`, keys and values from `source`."
)
multi_head.hint(
    "`self.attention(query, key, value, mask)` gives output and weights of each head. Only the output goes on."
)
