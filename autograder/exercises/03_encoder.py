"""Lesson 03: positions, token embeddings, layer norm, and the encoder."""

# ruff: noqa: F821 - mistakes and variants run in the lesson's set-up cell, as a student's answer does.
# mypy: ignore-errors

import torch
from torch import nn

from autograder.exercise import Exercise, build, call
from autograder.scenarios.module import even_weights

# --- sinusoidal_positions --------------------------------------------------------------------------------------

sinusoidal_positions = Exercise("sinusoidal_positions", returns=["positions (length, d_model)"])


@sinusoidal_positions.case("five places, d_model 4")
def _(draw):
    return 5, 4


@sinusoidal_positions.case("more columns than places")
def _(draw):
    return 3, 16


@sinusoidal_positions.case("as many places again, and fewer columns")
def _(draw):
    return 3, 8


@sinusoidal_positions.case("as many places as columns, by name")
def _(draw):
    return call(length=6, d_model=6)


@sinusoidal_positions.case("d_model 2: one sine and one cosine")
def _(draw):
    return 7, 2


@sinusoidal_positions.case("one place")
def _(draw):
    return 1, 6


@sinusoidal_positions.case("200 places")
def _(draw):
    return 200, 8


@sinusoidal_positions.case("5,200 places: there is no longest length")
def _(draw):
    return 5_200, 2


_HALVES = (
    "All sines stand on the left and all cosines on the right. Asked is sine in the even columns and cosine in the "
    "odd ones, so that each pair stands side by side."
)
_PLACES = "places = torch.arange(length, dtype=torch.float32)[:, None]"
_RATES = "rates = 10_000.0 ** (-even / d_model)"
_ANGLES = "angles = places * rates"
_SINES, _COSINES = "positions[:, 0::2] = torch.sin(angles)", "positions[:, 1::2] = torch.cos(angles)"


@sinusoidal_positions.mistake(_HALVES)
def halves(length, d_model):
    rates = 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)
    angles = torch.arange(length).float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


@sinusoidal_positions.mistake(_HALVES)
def halves_with_cosines_first(length, d_model):
    rates = 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)
    angles = torch.arange(length).float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


sinusoidal_positions.slip(
    "sine_and_cosine_swapped",
    "Sine and cosine are swapped: sine belongs into the even columns (0, 2, …), cosine into the odd ones.",
    {_SINES: "positions[:, 0::2] = torch.cos(angles)", _COSINES: "positions[:, 1::2] = torch.sin(angles)"},
)
sinusoidal_positions.slip(
    "exponent_i_over_d",
    "Your exponent is i/d_model for the i-th pair. It is 2i/d_model: from 0 to nearly 1, not to a half.",
    {"even = torch.arange(0, d_model, 2)": "even = torch.arange(d_model // 2)"},
)
sinusoidal_positions.slip(
    "exponent_twice_the_column",
    "You doubled the column. In 2i/d_model, i counts the *pairs*, so 2i is already the even column: 0, 2, 4, …",
    {"(-even / d_model)": "(-2 * even / d_model)"},
)
_OWN_RATE = (
    "Each column has a rate of its own. Columns 2i and 2i+1 are a pair: sine and cosine of the *same* angle, "
    "with the exponent 2i/d_model in both."
)


@sinusoidal_positions.mistake(_OWN_RATE)
def a_rate_for_each_column(length, d_model):
    angles = torch.arange(length).float()[:, None] * 10_000.0 ** (-torch.arange(d_model) / d_model)
    positions = torch.empty(length, d_model)
    positions[:, 0::2] = angles[:, 0::2].sin()
    positions[:, 1::2] = angles[:, 1::2].cos()
    return positions


@sinusoidal_positions.mistake(_OWN_RATE)
def a_rate_for_each_column_doubled(length, d_model):
    angles = torch.arange(length).float()[:, None] * 10_000.0 ** (-2 * torch.arange(d_model) / d_model)
    positions = torch.empty(length, d_model)
    positions[:, 0::2] = angles[:, 0::2].sin()
    positions[:, 1::2] = angles[:, 1::2].cos()
    return positions


@sinusoidal_positions.mistake(
    "The exponent is divided by d_model/2 - 1, as in the first published code. The formula of the paper, asked here, "
    "divides 2i by d_model."
)
def as_in_tensor2tensor(length, d_model):
    rates = 10_000.0 ** (-torch.arange(d_model // 2) / max(1, d_model // 2 - 1))
    angles = torch.arange(length).float()[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


sinusoidal_positions.slip(
    "rates_multiplied_up",
    "The sign of your exponent is turned round: divide the place by 10000^(2i/d_model). The rates fall from 1.",
    {"(-even / d_model)": "(even / d_model)"},
)
sinusoidal_positions.slip(
    "base_of_1000",
    "Your base is not 10,000: the rates fall from 1 towards 1/10,000.",
    {"10_000.0 **": "1_000.0 **"},
)
sinusoidal_positions.slip(
    "base_of_100000",
    "Your base is not 10,000: the rates fall from 1 towards 1/10,000.",
    {"10_000.0 **": "100_000.0 **"},
)
sinusoidal_positions.slip(
    "base_e",
    "Your base is e: `torch.exp` wants the logarithm of 10,000 as a factor, exp(-log(10000) · 2i/d_model).",
    {"10_000.0 ** (-even / d_model)": "torch.exp(-even / d_model)"},
)
sinusoidal_positions.slip(
    "logarithm_to_base_ten",
    "`math.log10(10000)` is 4, and exp(-4 · 2i/d_model) has another base. With `exp` goes the natural `math.log`.",
    {"10_000.0 ** (-even / d_model)": "torch.exp(-math.log10(10_000.0) * even / d_model)"},
)
sinusoidal_positions.slip(
    "whole_turns",
    "You multiply the angle by 2π. The place divided by 10000^(2i/d_model) is the angle, in radians as it is.",
    {_ANGLES: "angles = 2 * math.pi * places * rates"},
)
sinusoidal_positions.slip(
    "degrees",
    "You turn degrees into radians. The place divided by 10000^(2i/d_model) is the angle, in radians as it is.",
    {_ANGLES: "angles = torch.deg2rad(places * rates)"},
)
sinusoidal_positions.slip(
    "from_one",
    "Your places begin at 1. The first is 0: sines 0, cosines 1.",
    {"torch.arange(length, dtype=torch.float32)": "torch.arange(1, length + 1, dtype=torch.float32)"},
)
sinusoidal_positions.slip(
    "share_of_the_length",
    "You divide the places by the length, so the same place has another vector in a longer word. Count 0, 1, 2, …",
    {_PLACES: "places = torch.arange(length, dtype=torch.float32)[:, None] / length"},
)
sinusoidal_positions.slip(
    "divided_by_length",
    "Your exponent is divided by the length. It is 2i/d_model: the rates depend on the column alone.",
    {"(-even / d_model)": "(-even / length)"},
)
sinusoidal_positions.slip(
    "whole_number_division",
    "`//` rounds the exponent down to 0, so that all pairs turn at the same rate. Divide with `/`.",
    {"(-even / d_model)": "(-(even // d_model))"},
)
sinusoidal_positions.slip(
    "sine_everywhere",
    "There are sines in the odd columns too. A pair is sine *and* cosine of one angle: with sines alone, two "
    "different angles can look alike.",
    {_COSINES: "positions[:, 1::2] = torch.sin(angles)"},
)
sinusoidal_positions.slip(
    "odd_columns_empty",
    "The odd columns are 0: the cosines of the same angles belong there.",
    {_COSINES: "pass"},
)
sinusoidal_positions.slip(
    "angles_alone",
    "You return the angles themselves. Take the sine into the even columns and the cosine into the odd ones.",
    {_SINES: "positions[:, 0::2] = angles", _COSINES: "positions[:, 1::2] = angles"},
)
sinusoidal_positions.slip(
    "transposed",
    "Rows and columns are swapped: one row for each place, (length, d_model).",
    {"return positions": "return positions.T"},
)
sinusoidal_positions.slip(
    "with_a_batch",
    "There is a dimension too many. The result has no batch, (length, d_model): every word has the same positions.",
    {"return positions": "return positions[None]"},
)
sinusoidal_positions.slip(
    "with_a_batch_in_the_middle",
    "There is a dimension too many. The result has no batch, (length, d_model): every word has the same positions.",
    {"return positions": "return positions[:, None]"},
)
sinusoidal_positions.slip(
    "one_place_for_all",
    "Every row is the same, so no place differs from another. The angle must hold the place: 0 for the first row, "
    "1 for the second.",
    {_PLACES: "places = torch.ones(length, 1)"},
)
sinusoidal_positions.slip(
    "in_double",
    "The result has dtype float64, and so would all states that it is added to. Return float32.",
    {"return positions": "return positions.double()"},
)
sinusoidal_positions.slip(
    "rounded_to_whole_numbers",
    "Your table holds whole numbers, so every sine is cut to 0 or ±1. Begin with one of floats.",
    {"torch.zeros(length, d_model)": "torch.zeros(length, d_model, dtype=torch.long)",
     "return positions": "return positions.float()"},
)  # fmt: skip
_LONGEST = (
    "Your positions end at a longest length, or begin again from there. Nothing ends here: `length` may be any number."
)
sinusoidal_positions.slip(
    "made_for_5000",
    _LONGEST,
    {"torch.arange(length, dtype": "torch.arange(5_000, dtype",
     "torch.zeros(length, d_model)": "torch.zeros(5_000, d_model)", "return positions": "return positions[:length]"},
)  # fmt: skip
for _length in (512, 1000, 1024, 5000):
    sinusoidal_positions.slip(
        f"again_from_{_length}",
        _LONGEST,
        {"torch.arange(length, dtype=torch.float32)": f"(torch.arange(length, dtype=torch.float32) % {_length})"},
    )
sinusoidal_positions.slip(
    "in_half_precision",
    "The places are kept in half precision, which has no odd numbers above 2,048: far places fall together. Use "
    "float32.",
    {"torch.arange(length, dtype=torch.float32)": "torch.arange(length).half().float()"},
)


@sinusoidal_positions.mistake(
    "You keep a table from call to call and cut columns off it. But the rates depend on `d_model`: a narrower table is "
    "not a piece of a wider one."
)
def cut_from_a_kept_table(length, d_model):
    kept = getattr(sinusoidal_positions, "kept", None)
    if kept is None or kept.size(0) < length or kept.size(1) < d_model:
        angles = torch.arange(length)[:, None] * 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)
        kept = sinusoidal_positions.kept = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return kept[:length, :d_model]


_FIXED = (
    "The numbers are right, but you return something that training would change (an `nn.Parameter`, or "
    "`requires_grad=True`). Sines and cosines are fixed: return a plain tensor."
)
sinusoidal_positions.slip("as_a_parameter", _FIXED, {"return positions": "return nn.Parameter(positions)"})
sinusoidal_positions.slip("requires_a_gradient", _FIXED, {"return positions": "return positions.requires_grad_()"})


@sinusoidal_positions.also_right
def by_the_formula_in_loops(length, d_model):
    table = []
    for place in range(length):
        row = []
        for pair in range(d_model // 2):
            angle = place / 10_000 ** (2 * pair / d_model)
            row += [math.sin(angle), math.cos(angle)]
        table.append(row)
    return torch.tensor(table)


@sinusoidal_positions.also_right
def with_exp_and_log(length, d_model):
    position = torch.arange(length).unsqueeze(1)
    div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
    pe = torch.zeros(length, d_model)
    pe[:, 0::2] = torch.sin(position * div_term)
    pe[:, 1::2] = torch.cos(position * div_term)
    return pe


@sinusoidal_positions.also_right
def stacked_and_flattened(length, d_model):
    angles = torch.outer(torch.arange(length).float(), 1 / 10_000 ** (torch.arange(0, d_model, 2) / d_model))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(length, d_model)


@sinusoidal_positions.also_right
def on_the_unit_circle(length, d_model):
    rates = 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)
    angles = torch.einsum("t,i->ti", torch.arange(length, dtype=torch.float), rates)
    circle = torch.view_as_real(torch.polar(torch.ones_like(angles), angles))  # cosine, sine
    return circle.flip(-1).flatten(1)


@sinusoidal_positions.also_right
def all_columns_and_a_choice(length, d_model):
    column = torch.arange(d_model)
    angles = torch.arange(length)[:, None] / torch.pow(10_000, 2 * (column // 2) / d_model)
    return torch.where(column % 2 == 0, torch.sin(angles), torch.cos(angles))


@sinusoidal_positions.also_right
def cosine_as_a_shifted_sine(length, d_model):
    angles = torch.arange(length).double()[:, None] * 10_000.0 ** (-torch.arange(0, d_model, 2).double() / d_model)
    return torch.sin(angles.repeat_interleave(2, dim=1) + torch.tensor([0.0, math.pi / 2]).repeat(d_model // 2)).float()


sinusoidal_positions.hint(
    "Make the angles first, a table of (length, d_model / 2): place by place, one column for each pair."
)
sinusoidal_positions.hint(
    "`torch.arange(length)[:, None] * rates` has a row for each place. The rates are 1 / 10000^(2i / d_model), and 2i "
    "is `torch.arange(0, d_model, 2)`."
)
sinusoidal_positions.hint(
    "`positions[:, 0::2]` are the even columns, `positions[:, 1::2]` the odd ones. Both get the same angles."
)

# --- TokenEmbedding --------------------------------------------------------------------------------------------

embedding = Exercise("TokenEmbedding", returns=["states (batch, length, d_model)"])


def _table(draw, vocabulary, d_model, pad_id):
    weight = draw.normal(vocabulary, d_model, scale=d_model**-0.5)
    weight[pad_id] = 0.0
    return {"table.weight": weight}


def _embedding(draw, tokens, vocabulary, d_model, pad_id, *start, **options):
    weights = _table(draw, vocabulary, d_model, pad_id)
    return build(vocabulary, d_model, pad_id, weights=weights, forward=call(tokens, *start), **options)


@embedding.case("two words, padded", scenario="module")
def _(draw):
    return _embedding(draw, draw.padded([3, 5], 1, 7, pad_id=0), 7, 4, 0)


@embedding.case("pad_id is 6, and 0 is a real token", scenario="module")
def _(draw):
    tokens = draw.padded([4, 2, 3], 0, 6, pad_id=6)
    tokens[:, 0] = 0
    return _embedding(draw, tokens, 7, 6, 6)


@embedding.case("as many words as letters as features", scenario="module")
def _(draw):
    return _embedding(draw, draw.padded([4, 1, 3, 2], 1, 5, pad_id=0), 5, 4, 0)


@embedding.case("a batch of one, d_model larger than the vocabulary", scenario="module")
def _(draw):
    return _embedding(draw, draw.padded([4], 1, 3, pad_id=0), 3, 8, 0)


@embedding.case("padding on the left: places are counted all the same", scenario="module")
def _(draw):
    return _embedding(draw, draw.padded([2, 4], 1, 6, pad_id=0).flip(1), 6, 4, 0)


@embedding.case("the first token stands at place 3", scenario="module")
def _(draw):
    return _embedding(draw, draw.padded([2, 4], 1, 7, pad_id=0), 7, 4, 0, 3)


@embedding.case("one token of each word, at place 5, by name", scenario="module")
def _(draw):
    weights = _table(draw, 7, 6, 0)
    forward = call(draw.integers(1, 7, 3, 1), start=5)
    return build(vocabulary=7, d_model=6, pad_id=0, weights=weights, forward=forward)


@embedding.case("one token of each word, at place 0", scenario="module")
def _(draw):
    return _embedding(draw, draw.integers(1, 6, 2, 1), 6, 4, 0)


@embedding.case("150 letters", scenario="module")
def _(draw):
    return _embedding(draw, draw.padded([150], 1, 6, pad_id=0), 6, 4, 0)


@embedding.case("place 20,000, longer than any table", scenario="module")
def _(draw):
    return _embedding(draw, draw.padded([2, 3], 1, 5, pad_id=0), 5, 2, 0, 20_000)


@embedding.case("two calls of one object, of the same length: at place 70, then at 0", scenario="module")
def _(draw):
    again = call(draw.padded([3, 4, 2], 1, 6, pad_id=0))
    return _embedding(draw, draw.padded([2, 4], 1, 6, pad_id=0), 6, 4, 0, 70, again=again, saved=True)


@embedding.case("in training mode", scenario="module")
def _(draw):
    return _embedding(draw, draw.padded([3, 2], 1, 6, pad_id=0), 6, 4, 0, train=True)


@embedding.case("the table as it is made, and what would be saved", scenario="module")
def _(draw):
    return build(700, 64, 7, weights={}, forward=call(), initial=["table.weight"], saved=True)


_TABLE = "self.table = nn.Embedding(vocabulary, d_model, padding_idx=pad_id)"
_NORMAL = "nn.init.normal_(self.table.weight, std=d_model**-0.5)"
_ZERO = "self.table.weight[pad_id] = 0.0  # the line above filled this row too"
_BUFFER = 'self.register_buffer("positions", sinusoidal_positions(64, d_model), persistent=False)'
_END = "end = start + tokens.size(1)"
_LONGER = (
    "if end > self.positions.size(0):  # longer than ever before: make more than is needed now\n"
    "            self.positions = sinusoidal_positions(2 * end, self.d_model).to(self.positions)\n"
)
_VECTORS = "vectors = self.table(tokens) * math.sqrt(self.d_model)"
_SUM = "return vectors + self.positions[start:end]"
_OFTEN = "self.table(tokens) * math.sqrt(self.d_model)"

embedding.slip(
    "without_root",
    "The vectors are not multiplied by √d_model, so the positions drown the letters.",
    {_VECTORS: "vectors = self.table(tokens)"},
)
embedding.slip(
    "divided_by_root",
    "You divide by √d_model. Here it is a factor: it brings numbers of the size d_model^-½ back to about 1.",
    {_VECTORS: "vectors = self.table(tokens) / math.sqrt(self.d_model)"},
)
embedding.slip(
    "times_d_model",
    "You multiply by d_model. The factor is its root, √d_model.",
    {_VECTORS: "vectors = self.table(tokens) * self.d_model"},
)
embedding.slip(
    "root_of_vocabulary",
    "You multiply by the root of the vocabulary's size. The factor is √d_model, whatever the number of tokens.",
    {_VECTORS: "vectors = self.table(tokens) * math.sqrt(self.table.num_embeddings)"},
)
embedding.slip(
    "sum_times_root",
    "You multiply the positions by √d_model too. Only the vectors of the table get the factor; add the positions "
    "afterwards.",
    {_VECTORS: "vectors = self.table(tokens)",
     _SUM: "return (vectors + self.positions[start:end]) * math.sqrt(self.d_model)"},
)  # fmt: skip
embedding.slip(
    "positions_times_root",
    "The factor √d_model stands at the positions. It belongs to the vectors of the table.",
    {_VECTORS: "vectors = self.table(tokens)",
     _SUM: "return vectors + self.positions[start:end] * math.sqrt(self.d_model)"},
)  # fmt: skip
embedding.slip(
    "no_positions",
    "There are no positions in the result: without them *live* and *evil* are the same letters to the encoder.",
    {_SUM: "return vectors"},
)
embedding.slip(
    "positions_multiplied",
    "You multiply by the positions. They are added: at place 0 all sines are 0, and a product would wipe half the "
    "letter out.",
    {_SUM: "return vectors * self.positions[start:end]"},
)
embedding.slip(
    "positions_concatenated",
    "You put the positions beside the vectors, so the result is twice as wide. They are added.",
    {_SUM: "place = self.positions[start:end].expand(tokens.size(0), -1, -1)\n"
           "        return torch.cat([vectors, place], dim=-1)"},
)  # fmt: skip
_BY_BATCH = (
    "You took one position for each *word*: `positions[:batch]`. The places run along dimension 1 of the tokens, the "
    "length."
)
embedding.slip(
    "indexed_by_batch",
    _BY_BATCH,
    {_END: "end = start + tokens.size(0)", _SUM: "return vectors + self.positions[start:end, None]"},
)
embedding.slip("cut_by_batch", _BY_BATCH, {_END: "end = start + tokens.size(0)"})
embedding.slip(
    "one_place_for_a_word",
    "All letters of a word get the position of its first one. Each has its own: `positions[start : start + length]`.",
    {_SUM: "return vectors + self.positions[start]"},
)
embedding.slip(
    "start_ignored",
    "`start` has no effect: the first token stands at position `start`, not always at 0.",
    {_END: "end, start = tokens.size(1), 0"},
)
embedding.slip(
    "end_without_start",
    "Your slice ends at the length, and it should end at `start + length`.",
    {_END: "end = tokens.size(1)"},
)
embedding.slip(
    "no_end",
    "Your slice of the positions has no end: take as many as there are tokens, `[start : start + length]`.",
    {_SUM: "return vectors + self.positions[start:]"},
)
embedding.slip(
    "from_place_one",
    "The first token stands at position `start`, and yours stands one further on. Places are counted from 0.",
    {_END: "end, start = start + 1 + tokens.size(1), start + 1"},
)
embedding.slip(
    "a_single_token_elsewhere",
    "A single token at the beginning does not get position 0. Every word begins there, one of one letter too.",
    {_END: "start = 1 if tokens.size(1) == 1 and start == 0 else start\n        end = start + tokens.size(1)"},
)
embedding.slip(
    "start_added_as_a_number",
    "You add the number `start` to the positions. It says *which rows* of the table of positions to take.",
    {_SUM: "return vectors + self.positions[: end - start] + start"},
)
_PADDING_PLACES = (
    "Places with padding got no position. Positions are added at every place; that nobody reads padding is the work "
    "of the mask."
)
embedding.slip(
    "no_positions_at_padding",
    _PADDING_PLACES,
    {_SUM: "real = (tokens != self.table.padding_idx)[..., None]\n"
           "        return vectors + self.positions[start:end] * real"},
)  # fmt: skip
embedding.slip(
    "padding_zeroed",
    _PADDING_PLACES,
    {_SUM: "real = (tokens != self.table.padding_idx)[..., None]\n"
           "        return (vectors + self.positions[start:end]) * real"},
)  # fmt: skip
embedding.slip(
    "only_real_tokens_counted",
    "You count only real tokens as places. Here every place counts, padding too: token t stands at position "
    "`start + t`.",
    {_SUM: "places = (tokens != self.table.padding_idx).long().cumsum(dim=1) - 1\n"
           "        return vectors + self.positions[start + places.clamp_min(0)]"},
)  # fmt: skip
embedding.slip(
    "saved_with_the_weights",
    "The positions would be saved with the weights, and older files would no longer load. They can be computed at any "
    "time: `persistent=False`.",
    {", persistent=False": ""},
)
_LEARNED = (
    "Your positions are a parameter, so training would change them. Sines and cosines are fixed: keep them as a "
    "buffer, `register_buffer(..., persistent=False)`."
)


@embedding.mistake(_LEARNED)
class PositionsAsParameter(nn.Module):
    def __init__(self, vocabulary, d_model, pad_id):
        super().__init__()
        self.d_model = d_model
        self.table = nn.Embedding(vocabulary, d_model, padding_idx=pad_id)
        self.positions = nn.Parameter(sinusoidal_positions(512, d_model))

    def forward(self, tokens, start=0):
        return self.table(tokens) * math.sqrt(self.d_model) + self.positions[start : start + tokens.size(1)]


@embedding.mistake(_LEARNED)
class PositionsFrozen(nn.Module):
    def __init__(self, vocabulary, d_model, pad_id):
        super().__init__()
        self.d_model = d_model
        self.table = nn.Embedding(vocabulary, d_model, padding_idx=pad_id)
        self.positions = nn.Parameter(sinusoidal_positions(5000, d_model), requires_grad=False)

    def forward(self, tokens, start=0):
        return self.table(tokens) * math.sqrt(self.d_model) + self.positions[start : start + tokens.size(1)]


@embedding.mistake(
    "Those are learned positions, a second `nn.Embedding`. Asked are the sines and cosines of `sinusoidal_positions`, "
    "which have no parameters and no longest length."
)
class PositionsLearned(nn.Module):
    def __init__(self, vocabulary, d_model, pad_id):
        super().__init__()
        self.d_model = d_model
        self.table = nn.Embedding(vocabulary, d_model, padding_idx=pad_id)
        self.positions = nn.Embedding(512, d_model)

    def forward(self, tokens, start=0):
        places = torch.arange(start, start + tokens.size(1))
        return self.table(tokens) * math.sqrt(self.d_model) + self.positions(places)


_TOO_SHORT = (
    "Your positions end at a longest length. Any length works here: make more of them when `start + length` is larger "
    "than what you have."
)
for _length in (50, 64, 100, 128, 512, 1000, 5000):
    embedding.slip(
        f"table_of_{_length}",
        _TOO_SHORT,
        {_LONGER: "pass\n", "sinusoidal_positions(64, d_model)": f"sinusoidal_positions({_length}, d_model)"},
    )
embedding.slip(
    "as_long_as_the_vocabulary",
    "You made one position for each token of the *vocabulary*. How long words are has nothing to do with it: make "
    "more positions when `start + length` is larger than what you have.",
    {_LONGER: "pass\n", "sinusoidal_positions(64, d_model)": "sinusoidal_positions(vocabulary, d_model)"},
)
embedding.slip(
    "grown_too_little",
    "When the positions run out, you make as many as there are tokens, and `start` comes on top: `start + length`.",
    {"sinusoidal_positions(2 * end, self.d_model)": "sinusoidal_positions(tokens.size(1), self.d_model)"},
)
embedding.slip(
    "plain_tensor",
    "Your positions are a plain tensor, which stays behind on the CPU when the model moves to a GPU. Keep them as a "
    "buffer: `register_buffer(..., persistent=False)`.",
    {_BUFFER: "self.positions = sinusoidal_positions(64, d_model)"},
)
embedding.slip(
    "kept_for_the_length",
    "You keep the positions of an earlier call for every word of the same length. They depend on `start` too: "
    "`positions[start : start + length]`.",
    {_LONGER: "pass\n",
     _SUM: "if getattr(self, 'length', None) != tokens.size(1):\n"
           "            self.length = tokens.size(1)\n"
           "            self.positions = sinusoidal_positions(end, self.d_model)[start:].to(self.positions)\n"
           "        return vectors + self.positions"},
)  # fmt: skip


_KEPT_PLAINLY = (
    "The positions that you keep are a plain tensor, which stays behind on the CPU when the model moves to a GPU. "
    "Register them in `__init__`: `register_buffer(..., persistent=False)`."
)


@embedding.mistake(_KEPT_PLAINLY)
class KeptPlainly(nn.Module):
    def __init__(self, vocabulary, d_model, pad_id):
        super().__init__()
        self.d_model, self.kept = d_model, None
        self.table = nn.Embedding(vocabulary, d_model, padding_idx=pad_id)
        nn.init.normal_(self.table.weight, std=d_model**-0.5)
        with torch.no_grad():
            self.table.weight[pad_id] = 0.0

    def forward(self, tokens, start=0):
        end = start + tokens.size(1)
        if self.kept is None or len(self.kept) < end:
            self.kept = sinusoidal_positions(end, self.d_model)
        return self.table(tokens) * math.sqrt(self.d_model) + self.kept[start:end]


@embedding.mistake(
    "The positions that you keep fit one length and one place: another `start` gets them too. And they are a plain "
    "tensor, which stays behind on the CPU. Make them anew in each call, or keep all from 0 on in a buffer."
)
class KeptPlainlyForTheLength(nn.Module):
    def __init__(self, vocabulary, d_model, pad_id):
        super().__init__()
        self.d_model, self.kept = d_model, None
        self.table = nn.Embedding(vocabulary, d_model, padding_idx=pad_id)
        nn.init.normal_(self.table.weight, std=d_model**-0.5)
        with torch.no_grad():
            self.table.weight[pad_id] = 0.0

    def forward(self, tokens, start=0):
        length = tokens.size(1)
        if self.kept is None or len(self.kept) != length:
            self.kept = sinusoidal_positions(start + length, self.d_model)[start:]
        return self.table(tokens) * math.sqrt(self.d_model) + self.kept


embedding.slip(
    "row_set_under_gradient",
    "PyTorch refuses to change a parameter in place while it writes down the way back. Set the row of the padding to 0 "
    "inside `with torch.no_grad():`.",
    {"with torch.no_grad():": "if True:"},
)
embedding.slip(
    "no_padding_idx",
    "The vector of the padding is trained like any other. Give `padding_idx=pad_id` to the Embedding: its gradient "
    "then stays 0.",
    {", padding_idx=pad_id": ""},
)
embedding.slip(
    "padding_idx_zero",
    "You wrote 0 for the padding. Its id is `pad_id`, and 0 may be a real token.",
    {"padding_idx=pad_id": "padding_idx=0", "self.table.weight[pad_id]": "self.table.weight[0]"},
)
embedding.slip(
    "padding_filled",
    "`nn.init` filled the row of the padding too. Set it back to 0 afterwards, under `torch.no_grad()`.",
    {_ZERO: "pass"},
)
_STANDARD = (
    "The table begins with another spread than asked. Its standard deviation is d_model^-½ (`nn.Embedding` begins "
    "with 1): `nn.init.normal_(self.table.weight, std=d_model**-0.5)`."
)
embedding.slip("default_spread", _STANDARD, {_NORMAL: "pass"})
embedding.slip("root_as_spread", _STANDARD, {"std=d_model**-0.5": "std=d_model**0.5"})
embedding.slip("one_over_d_model_as_spread", _STANDARD, {"std=d_model**-0.5": "std=1 / d_model"})
embedding.slip("two_hundredths_as_spread", _STANDARD, {"std=d_model**-0.5": "std=0.02"})
embedding.slip("xavier_as_spread", _STANDARD, {_NORMAL: "nn.init.xavier_uniform_(self.table.weight)"})
embedding.slip(
    "vocabulary_in_the_spread",
    "The table begins with the standard deviation vocabulary^-½. It is d_model^-½: the length of a vector comes from "
    "its width.",
    {"std=d_model**-0.5": "std=vocabulary**-0.5"},
)
embedding.slip(
    "vectors_of_length_one",
    "You bring each vector of the table to length 1. Take it as it is, times √d_model: its length is the model's "
    "to learn.",
    {_VECTORS: "vectors = F.normalize(self.table(tokens), dim=-1) * math.sqrt(self.d_model)"},
)
embedding.slip(
    "dropout_in_it",
    "In training mode the result is random. Dropout sits in the layers, on each sub-layer's output only.",
    {_SUM: "return F.dropout(vectors + self.positions[start:end], 0.1, self.training)"},
)
embedding.slip(
    "cut_from_the_table",
    "No gradient reaches the table: something on the way (`.detach()`, `.data`, `no_grad`) cut it. It must learn.",
    {_VECTORS: "vectors = self.table(tokens).detach() * math.sqrt(self.d_model)"},
)
embedding.slip(
    "padding_filled_and_trained",
    "The row of the padding is neither zero at the start nor left alone in training. Give `padding_idx=pad_id` to the "
    "Embedding, and set the row back to 0 after `nn.init`.",
    {", padding_idx=pad_id": "", _ZERO: "pass"},
)
# What a first try lacks, it often lacks together: each part with its words and its edits.
_PARTS = {
    "root": ("the vectors are not multiplied by √d_model", {_VECTORS: "vectors = self.table(tokens)"}),
    "spread": (
        "the table begins with the standard deviation 1 of `nn.Embedding`, and not with d_model^-½",
        {_NORMAL: "pass"},
    ),
    "padding": (
        "the row of the padding is neither zero nor left alone in training, since `padding_idx` is missing",
        {", padding_idx=pad_id": "", _ZERO: "pass"},
    ),
    "filled": ("`nn.init` filled the row of the padding, and nothing set it back to 0", {_ZERO: "pass"}),
    "start": ("`start` has no effect", {_END: "end, start = tokens.size(1), 0"}),
    "short": (
        "the positions end at a longest length",
        {_LONGER: "pass\n", "sinusoidal_positions(64, d_model)": "sinusoidal_positions(512, d_model)"},
    ),
    "saved": ("the positions would be saved with the weights", {", persistent=False": ""}),
    "plain": (
        "the positions are a plain tensor and no buffer, so they would stay behind on the CPU",
        {'self.register_buffer("positions", ': "self.positions = (", ", persistent=False)": ")"},
    ),
}
for _together in (
    "root spread", "root spread padding", "root spread start", "root spread padding start", "root filled",
    "root padding", "root start", "spread padding", "spread start", "filled start", "short filled", "short spread",
    "short padding", "short root", "short root spread", "short root spread padding", "short root spread saved",
    "short filled saved", "short spread saved", "short plain", "short plain filled", "short plain spread",
    "short plain root spread", "filled saved", "spread saved",
):  # fmt: skip
    _words = [_PARTS[part][0] for part in _together.split()]
    embedding.slip(
        "_and_".join(_together.split()),
        f"{('Two', 'Three', 'Four')[len(_words) - 2]} things: {'; '.join(_words[:-1])}; and {_words[-1]}.",
        {old: new for part in _together.split() for old, new in _PARTS[part][1].items()},
    )

_SAVED_AND_SHORT = (
    "Two things: the positions end at a longest length, and they would be saved with the weights. Make more of them "
    "when `start + length` asks for it, and register the buffer with `persistent=False`."
)
for _length in (512, 1000, 5000):
    embedding.slip(
        f"saved_table_of_{_length}",
        _SAVED_AND_SHORT,
        {_LONGER: "pass\n", "sinusoidal_positions(64, d_model)": f"sinusoidal_positions({_length}, d_model)",
         ", persistent=False": ""},
    )  # fmt: skip
    embedding.slip(
        f"saved_table_of_{_length}_with_a_batch",
        _SAVED_AND_SHORT,
        {_BUFFER: f'self.register_buffer("pe", sinusoidal_positions({_length}, d_model).unsqueeze(0))',
         _LONGER: "pass\n", _SUM: "return vectors + self.pe[:, start:end]"},
    )  # fmt: skip


@embedding.mistake("The Embedding has another name. Later lessons load weights by name: call it `table`.")
class NamedEmbedding(nn.Module):
    def __init__(self, vocabulary, d_model, pad_id):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model, padding_idx=pad_id)

    def forward(self, tokens, start=0):
        vectors = self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim)
        return vectors + sinusoidal_positions(start + tokens.size(1), vectors.size(-1))[start:].to(vectors)


@embedding.mistake(
    "A Linear layer on one-hot vectors does the same with far more work, and its weights have another name and shape. "
    "Use `nn.Embedding`."
)
class LinearOnOneHot(nn.Module):
    def __init__(self, vocabulary, d_model, pad_id):
        super().__init__()
        self.vocabulary, self.d_model = vocabulary, d_model
        self.table = nn.Linear(vocabulary, d_model, bias=False)

    def forward(self, tokens, start=0):
        vectors = self.table(F.one_hot(tokens, self.vocabulary).float()) * math.sqrt(self.d_model)
        return vectors + sinusoidal_positions(start + tokens.size(1), self.d_model)[start:].to(vectors)


@embedding.mistake("`vocabulary` and `d_model` are swapped: `nn.Embedding(vocabulary, d_model)`, a row for each token.")
class TableTurned(nn.Module):
    def __init__(self, vocabulary, d_model, pad_id):
        super().__init__()
        self.d_model = d_model
        self.table = nn.Embedding(d_model, vocabulary)

    def forward(self, tokens, start=0):
        return self.table(tokens) * math.sqrt(self.d_model) + sinusoidal_positions(tokens.size(1), self.d_model)


@embedding.also_right
class PositionsOnTheFly(nn.Module):
    def __init__(self, vocabulary, d_model, pad_id):
        super().__init__()
        self.table = nn.Embedding(vocabulary, d_model, padding_idx=pad_id)
        self.table.weight.data.mul_(d_model**-0.5)  # padding_idx made that row 0, and it stays so

    def forward(self, tokens, start=0):
        length, d_model = tokens.shape[1], self.table.embedding_dim
        positions = sinusoidal_positions(start + length, d_model)[start:].to(tokens.device)
        return self.table(tokens) * d_model**0.5 + positions.unsqueeze(0)


@embedding.also_right
class GrownToFit(nn.Module):
    def __init__(self, vocabulary, d_model, pad_id):
        super().__init__()
        self.scale = math.sqrt(d_model)
        self.register_buffer("pe", sinusoidal_positions(1, d_model).unsqueeze(0), persistent=False)
        self.table = nn.Embedding(vocabulary, d_model, pad_id)
        nn.init.trunc_normal_(self.table.weight, std=1 / self.scale, a=-3 / self.scale, b=3 / self.scale)
        nn.init.zeros_(self.table.weight[pad_id])

    def forward(self, tokens, start=0):
        batch, length = tokens.shape
        while self.pe.shape[1] < start + length:
            self.pe = sinusoidal_positions(2 * self.pe.shape[1], self.pe.shape[2])[None].to(self.pe.device)
        places = torch.arange(start, start + length, device=tokens.device).expand(batch, -1)
        return self.scale * self.table(tokens) + self.pe[0][places]


@embedding.also_right
class LookedUpByHand(nn.Module):
    def __init__(self, vocabulary, d_model, pad_id):
        super().__init__()
        self.pad_id = pad_id
        weight = torch.empty(vocabulary, d_model).uniform_(-1, 1) * (3 / d_model) ** 0.5
        weight[pad_id] = 0
        self.table = nn.Embedding.from_pretrained(weight, freeze=False, padding_idx=pad_id)

    def forward(self, tokens, start=0):
        vectors = F.embedding(tokens, self.table.weight, padding_idx=self.pad_id)
        vectors = vectors * math.sqrt(vectors.shape[-1])
        rows = sinusoidal_positions(start + vectors.shape[1], vectors.shape[-1]).to(vectors)
        vectors = vectors + rows[start:]
        return vectors


@embedding.also_right
class PaddingByMask(nn.Module):
    def __init__(self, vocabulary, d_model, pad_id):
        super().__init__()
        self.d_model, self.pad_id = d_model, pad_id
        self.table = nn.Embedding(vocabulary, d_model)
        with torch.no_grad():
            self.table.weight.normal_(0, d_model**-0.5)
            self.table.weight[pad_id].fill_(0)

    def forward(self, tokens, start=0):
        vectors = self.table(tokens).masked_fill((tokens == self.pad_id)[..., None], 0.0)
        return torch.add(
            sinusoidal_positions(start + tokens.size(1), self.d_model).to(tokens.device)[start:],
            vectors,
            alpha=self.d_model**0.5,
        )


embedding.hint("Three steps: look up, multiply by √d_model, add the positions of these places.")
embedding.hint(
    "`nn.Embedding(vocabulary, d_model, padding_idx=pad_id)` begins with standard deviation 1. Which function of "
    "`nn.init` gives another? And what does it do to the row of the padding?"
)
embedding.hint("The places are `start` to `start + length`, and the length is `tokens.size(1)`.")
embedding.hint(
    '`self.register_buffer("positions", sinusoidal_positions(64, d_model), persistent=False)` is a start. In '
    "`forward`, make a longer one where 64 is too few, with `.to(self.positions)` so that it is on the same device."
)

# --- LayerNorm -------------------------------------------------------------------------------------------------

layer_norm = Exercise(
    "LayerNorm",
    returns=["states (batch, length, d_model)"],
    forbids=["layer_norm", "native_layer_norm", "rms_norm", "group_norm", "instance_norm", "batch_norm"],
)


def _norm_weights(draw, d_model, dtype=torch.float32):
    return {"scale": 1 + draw.normal(d_model, scale=0.5, dtype=dtype), "shift": draw.normal(d_model, dtype=dtype)}


def _norm(draw, states, *eps, **options):
    return build(states.size(-1), *eps, weights=_norm_weights(draw, states.size(-1), states.dtype),
                 forward=call(states), **options)  # fmt: skip


@layer_norm.case("two words of three letters", scenario="module")
def _(draw):
    return _norm(draw, draw.normal(2, 3, 4))


@layer_norm.case("batch, length and d_model all four", scenario="module")
def _(draw):
    return _norm(draw, draw.normal(4, 4, 4, scale=2.0))


@layer_norm.case("a batch of one, one letter", scenario="module")
def _(draw):
    return _norm(draw, draw.normal(1, 1, 6))


@layer_norm.case("letters of very different sizes", scenario="module")
def _(draw):
    return _norm(draw, draw.normal(2, 3, 6) * torch.tensor([0.1, 1.0, 50.0])[:, None])


@layer_norm.case("tiny differences: the variance is below eps", scenario="module")
def _(draw):
    return _norm(draw, draw.normal(2, 3, 6) * 1e-3)


@layer_norm.case("all numbers of a letter equal: the variance is 0", scenario="module")
def _(draw):
    states = draw.normal(2, 3, 4)
    states[0, 1], states[1, 2] = 0.5, 0.0
    return _norm(draw, states)


@layer_norm.case("a large mean, float64", scenario="module")
def _(draw):
    return _norm(draw, draw.normal(2, 3, 6, dtype=torch.float64) + 100_000.0)


@layer_norm.case("another eps, by name", scenario="module")
def _(draw):
    return build(d_model=5, eps=0.5, weights=_norm_weights(draw, 5), forward=call(draw.normal(2, 3, 5)))


@layer_norm.case("not contiguous, float64, d_model odd", scenario="module")
def _(draw):
    return _norm(draw, draw.normal(2, 7, 4, dtype=torch.float64).transpose(1, 2))


@layer_norm.case("two calls of one object, in training mode", scenario="module")
def _(draw):
    return _norm(draw, draw.normal(2, 3, 4), train=True, again=call(draw.normal(3, 2, 4)))


@layer_norm.case("scale and shift as they are made", scenario="module")
def _(draw):
    return build(4096, weights={}, forward=call(), initial=["scale", "shift"], saved=True)


_MEAN = "mean = states.mean(dim=-1, keepdim=True)"
_CENTRED = "centred = states - mean"
_VARIANCE = "variance = centred.square().mean(dim=-1, keepdim=True)"
_NORMED = "return self.scale * centred / torch.sqrt(variance + self.eps) + self.shift"
_DIVIDED = "centred / torch.sqrt(variance + self.eps)"
_UNBIASED = (
    "Your variance is the unbiased one, which divides by d_model - 1. Here it divides by d_model: `unbiased=False`."
)
_OUTSIDE = "eps goes inside the root, √(variance + eps). Yours is added to the root, and small vectors come out larger."
_BOTH_OF_THEM = (
    "Two things at once: `std` divides by d_model - 1 (asked is d_model), and eps is added outside the root (asked is "
    "√(variance + eps))."
)

layer_norm.slip("unbiased", _UNBIASED, {_VARIANCE: "variance = states.var(dim=-1, keepdim=True)"})
layer_norm.slip(
    "unbiased_by_hand",
    _UNBIASED,
    {_VARIANCE: "variance = centred.square().sum(dim=-1, keepdim=True) / max(1, states.size(-1) - 1)"},
)
layer_norm.slip(
    "eps_outside",
    _OUTSIDE,
    {_DIVIDED: "centred / (torch.sqrt(variance) + self.eps)"},
)
layer_norm.slip(
    "eps_outside_of_std",
    _OUTSIDE,
    {_VARIANCE: "deviation = states.std(dim=-1, keepdim=True, unbiased=False)",
     _DIVIDED: "centred / (deviation + self.eps)"},
)  # fmt: skip
layer_norm.slip(
    "unbiased_and_eps_outside",
    _BOTH_OF_THEM,
    {_VARIANCE: "deviation = states.std(dim=-1, keepdim=True)", _DIVIDED: "centred / (deviation + self.eps)"},
)
layer_norm.slip(
    "deviation_plus_eps_inside",
    "You add eps to the standard deviation and take the root of that. Under the root stands the *variance* + eps.",
    {_VARIANCE: "variance = states.std(dim=-1, keepdim=True, unbiased=False)"},
)
layer_norm.slip(
    "no_eps",
    "There is no eps: where all numbers of a letter are equal, you divide by 0. Add it under the root.",
    {_DIVIDED: "centred / torch.sqrt(variance)"},
)
layer_norm.slip(
    "eps_fixed",
    "Your eps is a fixed number. Use the `eps` that was given.",
    {"torch.sqrt(variance + self.eps)": "torch.sqrt(variance + 1e-5)"},
)
layer_norm.slip(
    "eps_as_a_floor",
    "You take eps as a smallest variance. It is added to each: √(variance + eps).",
    {"torch.sqrt(variance + self.eps)": "torch.sqrt(variance.clamp_min(self.eps))"},
)
layer_norm.slip(
    "no_root",
    "You divide by the variance. Divide by its root, so that the numbers come out with variance 1.",
    {_DIVIDED: "centred / (variance + self.eps)"},
)
layer_norm.slip(
    "multiplied_by_deviation",
    "You multiply by the root of the variance. Dividing by it brings the variance to 1.",
    {_DIVIDED: "centred * torch.sqrt(variance + self.eps)"},
)
layer_norm.slip(
    "mean_not_taken_away",
    "The mean stays in: take it away before you divide. (Without it, it would be an RMS norm.)",
    {_DIVIDED: "states / torch.sqrt(variance + self.eps)"},
)
layer_norm.slip(
    "root_mean_square",
    "That is an RMS norm: it leaves the mean in. Here the mean is taken away first.",
    {_CENTRED: "centred = states - 0 * mean"},
)
layer_norm.slip(
    "only_centred",
    "You only take the mean away. Divide by √(variance + eps) too.",
    {_DIVIDED: "centred"},
)
layer_norm.slip(
    "over_letters_and_features",
    "You norm over the letters and features of a word together, so padding would change real tokens. Each letter has "
    "its own mean and variance: dim=-1 alone.",
    {_MEAN: "mean = states.mean(dim=(-2, -1), keepdim=True)",
     _VARIANCE: "variance = centred.square().mean(dim=(-2, -1), keepdim=True)"},
)  # fmt: skip
layer_norm.slip(
    "over_everything",
    "You norm over the whole batch at once, so each word depends on its neighbours. Each letter has its own mean and "
    "variance: dim=-1.",
    {_MEAN: "mean = states.mean()", _VARIANCE: "variance = centred.square().mean()"},
)
layer_norm.slip(
    "over_the_letters",
    "You norm over the letters (dim=1). Mean and variance are taken over the features of one letter: dim=-1.",
    {_MEAN: "mean = states.mean(dim=1, keepdim=True)",
     _VARIANCE: "variance = centred.square().mean(dim=1, keepdim=True)"},
)  # fmt: skip
_OVER_BATCH = (
    "You norm over the words of the batch, as a batch norm does. Each letter stands alone: mean and variance over its "
    "features, dim=-1."
)
layer_norm.slip(
    "over_the_batch",
    _OVER_BATCH,
    {_MEAN: "mean = states.mean(dim=0, keepdim=True)",
     _VARIANCE: "variance = centred.square().mean(dim=0, keepdim=True)"},
)  # fmt: skip
layer_norm.slip(
    "over_batch_and_letters",
    _OVER_BATCH,
    {_MEAN: "mean = states.mean(dim=(0, 1), keepdim=True)",
     _VARIANCE: "variance = centred.square().mean(dim=(0, 1), keepdim=True)"},
)  # fmt: skip
layer_norm.slip(
    "mean_of_the_letter_variance_of_the_word",
    "The mean is that of one letter, the variance that of a whole word. Both are taken over the features of one "
    "letter: dim=-1.",
    {_VARIANCE: "variance = centred.square().mean(dim=(-2, -1), keepdim=True)"},
)
layer_norm.slip(
    "dimension_dropped",
    "Mean and variance lost their last dimension, so they line up with the wrong one (silently, where sizes agree). "
    "Keep it: `keepdim=True`.",
    {_MEAN: "mean = states.mean(dim=-1)", _VARIANCE: "variance = centred.square().mean(dim=-1)"},
)
layer_norm.slip(
    "mean_of_squares_less_square_of_mean",
    "With a large mean, E[x²] - E[x]² is the small difference of two huge numbers, and rounding eats it. Take the mean "
    "away first, then square.",
    {_VARIANCE: "variance = states.square().mean(dim=-1, keepdim=True) - mean.square()"},
)
layer_norm.slip(
    "absolute_deviation",
    "You divide by the mean distance from the mean. Asked is the standard deviation: the root of the mean *square*.",
    {_VARIANCE: "variance = centred.abs().mean(dim=-1, keepdim=True).square()"},
)
layer_norm.slip(
    "length_one",
    "You bring each vector to length 1. Divide by the standard deviation instead: the length comes out near √d_model.",
    {_VARIANCE: "variance = centred.square().sum(dim=-1, keepdim=True)"},
)
layer_norm.slip(
    "no_scale",
    "`scale` is never used: multiply by it after dividing.",
    {"self.scale * centred": "centred"},
)
layer_norm.slip("no_shift", "`shift` is never added: it comes last.", {" + self.shift\n": "\n"})
layer_norm.slip(
    "neither_scale_nor_shift",
    "`scale` and `shift` are never used: multiply by one, then add the other.",
    {"self.scale * centred": "centred", " + self.shift\n": "\n"},
)
layer_norm.slip(
    "shift_before_scale",
    "You add the shift before you multiply by the scale. The scale comes first, the shift last.",
    {_NORMED: f"return self.scale * ({_DIVIDED} + self.shift)"},
)
layer_norm.slip(
    "scale_and_shift_exchanged",
    "`scale` and `shift` have changed places: multiply by `scale`, add `shift`.",
    {_NORMED: f"return self.shift * {_DIVIDED} + self.scale"},
)
layer_norm.slip(
    "divided_by_scale",
    "You divide by `scale` too. Multiply by it.",
    {"self.scale * centred": "1 / self.scale * centred"},
)
layer_norm.slip(
    "scale_starts_at_zero",
    "`scale` starts at 0, so everything would come out as 0. It starts at 1, and `shift` at 0.",
    {"torch.ones(d_model)": "torch.zeros(d_model)"},
)
layer_norm.slip(
    "scale_starts_at_random",
    "`scale` starts at random. At first the norm should change nothing else: `scale` starts at 1, `shift` at 0.",
    {"torch.ones(d_model)": "torch.randn(d_model)"},
)
layer_norm.slip(
    "shift_starts_at_one",
    "`shift` starts at 1. At first nothing is to be added: `shift` starts at 0, `scale` at 1.",
    {"torch.ones(d_model)": "torch.full((d_model,), 1.0)", "torch.zeros(d_model)": "torch.ones(d_model)"},
)
layer_norm.slip(
    "one_number_for_all",
    "`scale` and `shift` are one number each. There is one for each feature: shape (d_model,).",
    {"torch.ones(d_model)": "torch.ones(1)", "torch.zeros(d_model)": "torch.zeros(1)"},
)
_NO_PARAMETER = (
    "`scale` and `shift` are plain tensors, so no optimiser would train them. Wrap each: `nn.Parameter(torch.ones(…))`."
)
layer_norm.slip(
    "plain_tensors",
    _NO_PARAMETER,
    {"nn.Parameter(torch.ones(d_model))": "torch.ones(d_model)",
     "nn.Parameter(torch.zeros(d_model))": "torch.zeros(d_model)"},
)  # fmt: skip
layer_norm.slip(
    "plain_tensors_that_require_gradients",
    _NO_PARAMETER,
    {"nn.Parameter(torch.ones(d_model))": "torch.ones(d_model, requires_grad=True)",
     "nn.Parameter(torch.zeros(d_model))": "torch.zeros(d_model, requires_grad=True)"},
)  # fmt: skip
layer_norm.slip(
    "unbiased_and_eps_outside_and_fixed",
    "Three things at once: `std` divides by d_model - 1 (asked is d_model), eps is added outside the root (asked is "
    "√(variance + eps)), and it is a fixed number (use the `eps` that was given).",
    {_VARIANCE: "deviation = states.std(dim=-1, keepdim=True)", _DIVIDED: "centred / (deviation + 1e-6)"},
)
for _eps in ("1e-6", "1e-8", "1e-12", "1e-3"):
    layer_norm.slip(
        f"eps_of_{_eps.replace('-', '_')}",
        "Where no eps is given, yours is another than asked: the default is 1e-5, as in PyTorch. Other models have "
        "others, and a model only fits the eps that it was trained with.",
        {"eps=1e-5": f"eps={_eps}"},
    )


@layer_norm.mistake(
    "You put PyTorch's own layer norm inside. Write it yourself: mean, variance, √(variance + eps), then `scale` and "
    "`shift`, which are two parameters of this class."
)
class TorchsOwnInside(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.norm = nn.LayerNorm(d_model, eps)

    def forward(self, states):
        return self.norm(states)


_OTHER_NAMES = (
    "Later lessons load weights by name: call the two parameters `scale` (starts at 1) and `shift` (starts at 0)."
)
for _scale, _shift in (("weight", "bias"), ("gamma", "beta"), ("gain", "bias"), ("a_2", "b_2")):
    layer_norm.slip(
        f"named_{_scale}_and_{_shift}",
        _OTHER_NAMES,
        {"self.scale =": f"self.{_scale} =", "self.shift =": f"self.{_shift} =",
         _NORMED: _NORMED.replace("scale", _scale).replace("shift", _shift)},
    )  # fmt: skip
layer_norm.slip(
    "statistics_cut_off",
    "The result is right, its gradient is not: mean and variance also depend on the states. Don't detach them or "
    "compute them under `no_grad`.",
    {_MEAN: "mean = states.detach().mean(dim=-1, keepdim=True)",
     _VARIANCE: "variance = centred.detach().square().mean(dim=-1, keepdim=True)"},
)  # fmt: skip
layer_norm.slip(
    "variance_cut_off",
    "The result is right, its gradient is not: the variance depends on the states too. Don't detach it.",
    {_VARIANCE: "variance = centred.detach().square().mean(dim=-1, keepdim=True)"},
)
layer_norm.slip(
    "states_changed",
    "You changed the caller's states in place (`-=`). The residual still needs them: make a new tensor.",
    {_CENTRED: "states -= mean; centred = states"},
)


@layer_norm.also_right
class WithVar(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(d_model))
        self.scale = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, states):
        mean = states.mean(-1, keepdim=True)
        variance = states.var(-1, keepdim=True, unbiased=False)
        return (states - mean) * torch.rsqrt(variance + self.eps) * self.scale + self.shift


@layer_norm.also_right
class WithVarMean(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.register_buffer("eps", torch.tensor(eps, dtype=torch.float64), persistent=False)
        self.scale, self.shift = nn.Parameter(torch.empty(d_model)), nn.Parameter(torch.empty(d_model))
        nn.init.ones_(self.scale)
        nn.init.zeros_(self.shift)

    def forward(self, states):
        variance, mean = torch.var_mean(states, dim=-1, keepdim=True, correction=0)
        normed = (states - mean) / (variance + self.eps.to(states.dtype)).sqrt()
        return torch.addcmul(self.shift, normed, self.scale)


@layer_norm.also_right
class WithStdSquared(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.d_model, self.eps = d_model, eps
        self.scale = nn.Parameter(torch.full((d_model,), 1.0))
        self.shift = nn.Parameter(torch.full((d_model,), 0.0))

    def forward(self, states):
        centred = states - states.sum(dim=2, keepdim=True) / self.d_model
        variance = torch.einsum("bld,bld->bl", centred, centred)[..., None] / self.d_model
        return self.scale * (centred / (variance + self.eps) ** 0.5) + self.shift


@layer_norm.also_right
class UnbiasedPutRight(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.d_model, self.eps = d_model, eps
        self.scale = nn.Parameter(torch.ones(d_model))
        self.shift = nn.Parameter(torch.zeros(d_model))

    def forward(self, states):
        mean = states.mean(dim=-1).unsqueeze(-1)
        variance = states.var(dim=-1).unsqueeze(-1) * (self.d_model - 1) / self.d_model
        return torch.mul(self.scale, (states - mean) / torch.sqrt(variance + self.eps)) + self.shift


layer_norm.hint(
    "Mean and variance of one letter: over which dimension, and how does it stay there for the subtraction?"
)
layer_norm.hint("The variance is the mean of the squares of `states - mean`. `keepdim=True` keeps (batch, length, 1).")
layer_norm.hint("`x.var(dim=-1)` divides by d_model - 1. Either `unbiased=False`, or write the mean of squares out.")
layer_norm.hint("`self.scale = nn.Parameter(torch.ones(d_model))`: a parameter, so that it is trained.")

# --- EncoderLayer ----------------------------------------------------------------------------------------------

encoder_layer = Exercise("EncoderLayer", returns=["states (batch, length, d_model)"])


def _layer_weights(draw, d_model, d_ff, dtype=torch.float32, before=""):
    weights = {}
    for norm in ("attention_norm", "feed_forward_norm"):
        weights |= {f"{before}{norm}.{name}": weight for name, weight in _norm_weights(draw, d_model).items()}
    shapes = {}
    for name in ("query", "key", "value", "output"):
        shapes |= {f"attention__{name}__weight": (d_model, d_model), f"attention__{name}__bias": (d_model,)}
    shapes |= {"feed_forward__expand__weight": (d_ff, d_model), "feed_forward__expand__bias": (d_ff,)}
    shapes |= {"feed_forward__contract__weight": (d_model, d_ff), "feed_forward__contract__bias": (d_model,)}
    weights |= {before + name: weight for name, weight in draw.weights(**shapes).items()}
    return {name: weight.to(dtype) for name, weight in weights.items()}


def _padding(lengths, keys):
    return (torch.arange(keys) < torch.tensor(lengths)[:, None])[:, None, None, :]  # (batch, 1, 1, keys)


@encoder_layer.case("two words, no mask", scenario="module")
def _(draw):
    return build(4, 2, 6, weights=_layer_weights(draw, 4, 6), forward=call(draw.normal(2, 3, 4)))


@encoder_layer.case("three words, padded, by name", scenario="module")
def _(draw):
    forward = call(draw.normal(3, 5, 6), mask=_padding([5, 2, 3], 5))
    return build(d_model=6, heads=3, d_ff=8, dropout=0.0, weights=_layer_weights(draw, 6, 8), forward=forward)


@encoder_layer.case("a batch of one, one head, a mask for each pair", scenario="module")
def _(draw):
    forward = call(draw.normal(1, 4, 4), draw.mask(4, 4))
    return build(4, 1, 3, weights=_layer_weights(draw, 4, 3), forward=forward)


@encoder_layer.case("batch, heads, length and d_head all two, a mask for each head", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 2, 4), draw.mask(2, 2, 2, 2, share=0.4))
    return build(4, 2, 5, weights=_layer_weights(draw, 4, 5), forward=forward)


@encoder_layer.case("float64, not contiguous, padded", scenario="module")
def _(draw):
    states = draw.normal(2, 6, 3, dtype=torch.float64).transpose(1, 2)
    forward = call(states, _padding([3, 1], 3))
    return build(6, 2, 7, weights=_layer_weights(draw, 6, 7, torch.float64), forward=forward)


@encoder_layer.case("states far from mean 0 and variance 1", scenario="module")
def _(draw):
    forward = call(3.0 + draw.normal(2, 3, 4, scale=5.0), _padding([3, 2], 3))
    return build(4, 2, 6, weights=_layer_weights(draw, 4, 6), forward=forward)


@encoder_layer.case("a word of padding alone", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 4), _padding([2, 0], 3))
    return build(4, 2, 6, weights=_layer_weights(draw, 4, 6), forward=forward)


@encoder_layer.case("two calls of one object: with a mask, then without", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 4), _padding([3, 2], 3))
    return build(4, 2, 6, weights=_layer_weights(draw, 4, 6), forward=forward, again=call(draw.normal(3, 2, 4)))


@encoder_layer.case("training, dropout 1: every sub-layer's output is dropped", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 4), _padding([3, 2], 3))
    return build(4, 2, 6, 1.0, weights=_layer_weights(draw, 4, 6), forward=forward, train=True)


@encoder_layer.case("training, dropout 0: nothing is dropped", scenario="module")
def _(draw):
    return build(4, 2, 6, 0.0, weights=_layer_weights(draw, 4, 6), forward=call(draw.normal(2, 3, 4)), train=True)


@encoder_layer.case("evaluation, dropout 1: nothing is dropped", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 4), _padding([3, 2], 3))
    return build(4, 2, 6, dropout=1.0, weights=_layer_weights(draw, 4, 6), forward=forward)


@encoder_layer.case("with fused attention, which gives no weights", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 4), _padding([3, 2], 3))
    return build(4, 2, 6, weights=_layer_weights(draw, 4, 6), forward=forward, fused=True)


_WIDTH, _CALLS = 16, 20  # of the cases that look at dropout


def _dropping(weights, *args, silent=(), calls=_CALLS, words=2, letters=24):
    """Inputs of the scenario ``module`` that look at dropout alone."""
    shapes = {name: weight.shape for name, weight in weights.items()}
    states = torch.zeros(words, letters, _WIDTH)
    states[..., 1] = 1.0
    return build(*args, weights=even_weights(shapes, silent), forward=call(states), train=True, dropped=calls)


@encoder_layer.case("training, dropout 0.4: what attention adds", scenario="module")
def _(draw):
    return _dropping(_layer_weights(draw, _WIDTH, 3), _WIDTH, 2, 3, 0.4, silent=["feed_forward"])


@encoder_layer.case("training, dropout 0.4: what feed-forward adds", scenario="module")
def _(draw):
    return _dropping(_layer_weights(draw, _WIDTH, 3), _WIDTH, 2, 3, 0.4, silent=["attention"])


_MAKE_NORMS = "self.feed_forward_norm = LayerNorm(d_model)"
_ATTEND = "attended, _ = self.attention(self.attention_norm(states), mask=mask)"
_ADD = "states = states + self.dropout(attended)"
_PROCESS = "processed = self.feed_forward(self.feed_forward_norm(states))"
_RESULT = "return states + self.dropout(processed)"

_POST = (
    "You norm after adding, norm(x + f(x)): that is post-LN, as in the paper of 2017. Asked is pre-LN, x + f(norm(x)): "
    "the norm stands before the sub-layer, and nothing stands on the way of x."
)
encoder_layer.slip(
    "post_ln",
    _POST,
    {_ATTEND: "attended, _ = self.attention(states, mask=mask)",
     _ADD: "states = self.attention_norm(states + self.dropout(attended))",
     _PROCESS: "processed = self.feed_forward(states)",
     _RESULT: "return self.feed_forward_norm(states + self.dropout(processed))"},
)  # fmt: skip
encoder_layer.slip(
    "post_ln_after_feed_forward",
    "The feed-forward half is post-LN, norm(x + f(x)). Asked is x + f(norm(x)) in both halves.",
    {_PROCESS: "processed = self.feed_forward(states)",
     _RESULT: "return self.feed_forward_norm(states + self.dropout(processed))"},
)  # fmt: skip
encoder_layer.slip(
    "post_ln_after_attention",
    "The attention half is post-LN, norm(x + f(x)). Asked is x + f(norm(x)) in both halves.",
    {_ATTEND: "attended, _ = self.attention(states, mask=mask)",
     _ADD: "states = self.attention_norm(states + self.dropout(attended))"},
)  # fmt: skip
encoder_layer.slip(
    "norm_on_the_output",
    "You norm what comes out of the sub-layers, x + norm(f(x)). Asked is x + f(norm(x)): norm what goes in.",
    {_ATTEND: "attended, _ = self.attention(states, mask=mask)",
     _ADD: "states = states + self.dropout(self.attention_norm(attended))",
     _PROCESS: "processed = self.feed_forward(states)",
     _RESULT: "return states + self.dropout(self.feed_forward_norm(processed))"},
)  # fmt: skip
_FROM_NORMED = (
    "Your residual carries the normed x: n = norm(x), then n + f(n). It must carry the raw one: x + f(norm(x))."
)
encoder_layer.slip(
    "residual_from_normed",
    _FROM_NORMED,
    {_ATTEND: "states = self.attention_norm(states); attended, _ = self.attention(states, mask=mask)",
     _PROCESS: "states = self.feed_forward_norm(states); processed = self.feed_forward(states)"},
)  # fmt: skip
encoder_layer.slip(
    "attention_residual_from_normed",
    _FROM_NORMED,
    {_ATTEND: "states = self.attention_norm(states); attended, _ = self.attention(states, mask=mask)"},
)
encoder_layer.slip(
    "feed_forward_residual_from_normed",
    _FROM_NORMED,
    {_PROCESS: "states = self.feed_forward_norm(states); processed = self.feed_forward(states)"},
)
encoder_layer.slip(
    "no_attention_residual",
    "The attention has no residual: its output *replaces* x. Add it to x.",
    {_ADD: "states = self.dropout(attended)"},
)
encoder_layer.slip(
    "no_feed_forward_residual",
    "The feed-forward block has no residual: its output *replaces* x. Add it to x.",
    {_RESULT: "return self.dropout(processed)"},
)
encoder_layer.slip(
    "no_residuals",
    "There are no residuals: each sub-layer's output *replaces* x. Add it to x.",
    {_ADD: "states = self.dropout(attended)", _RESULT: "return self.dropout(processed)"},
)
encoder_layer.slip(
    "feed_forward_on_the_old_states",
    "The feed-forward block reads the x from before the attention. The sub-layers follow each other: give it the sum.",
    {_ADD: "summed = states + self.dropout(attended)", _RESULT: "return summed + self.dropout(processed)"},
)
encoder_layer.slip(
    "attention_lost",
    "What attention added is lost: the last sum begins again with the x from before it.",
    {_ADD: "summed = states + self.dropout(attended)",
     _PROCESS: "processed = self.feed_forward(self.feed_forward_norm(summed))"},
)  # fmt: skip
encoder_layer.slip(
    "residual_twice",
    "x is added once too often: `states` holds it already after the first sum.",
    {_ADD: "before = states; states = states + self.dropout(attended)",
     _RESULT: "return before + states + self.dropout(processed)"},
)  # fmt: skip
_ONE_NORM = (
    "One norm does the work of two. Each sub-layer has its own, with its own scale and shift: `attention_norm` and "
    "`feed_forward_norm`."
)
encoder_layer.slip(
    "attention_norm_twice",
    _ONE_NORM,
    {_PROCESS: "processed = self.feed_forward(self.attention_norm(states))"},
)
encoder_layer.slip(
    "feed_forward_norm_twice",
    _ONE_NORM,
    {_ATTEND: "attended, _ = self.attention(self.feed_forward_norm(states), mask=mask)"},
)
encoder_layer.slip("one_norm_under_two_names", _ONE_NORM, {_MAKE_NORMS: "self.feed_forward_norm = self.attention_norm"})
encoder_layer.slip(
    "norms_exchanged",
    "The two norms have changed places: `attention_norm` stands before the attention, `feed_forward_norm` before the "
    "feed-forward block.",
    {_ATTEND: "attended, _ = self.attention(self.feed_forward_norm(states), mask=mask)",
     _PROCESS: "processed = self.feed_forward(self.attention_norm(states))"},
)  # fmt: skip
encoder_layer.slip(
    "attention_on_raw_states",
    "The attention reads the raw x. Norm it first: `self.attention_norm(states)`.",
    {_ATTEND: "attended, _ = self.attention(states, mask=mask)"},
)
encoder_layer.slip(
    "feed_forward_on_raw_states",
    "The feed-forward block reads the raw x. Norm it first: `self.feed_forward_norm(states)`.",
    {_PROCESS: "processed = self.feed_forward(states)"},
)
encoder_layer.slip(
    "no_norms",
    "Neither norm is used: x + f(x). Each sub-layer reads the normed x: x + f(norm(x)).",
    {_ATTEND: "attended, _ = self.attention(states, mask=mask)", _PROCESS: "processed = self.feed_forward(states)"},
)
encoder_layer.slip(
    "raw_keys_and_values",
    "Queries come from the normed x, keys and values from the raw one. In self-attention all three come from the "
    "normed x: leave `memory` out.",
    {_ATTEND: "attended, _ = self.attention(self.attention_norm(states), states, mask)"},
)
encoder_layer.slip(
    "normed_at_the_end_too",
    "You norm the result of the layer once more. In pre-LN the sum leaves the layer as it is; there is one norm after "
    "the *last* layer, in `Encoder`.",
    {_RESULT: "return self.feed_forward_norm(states + self.dropout(processed))"},
)
encoder_layer.slip(
    "mask_dropped",
    "The mask does not reach the attention, so real letters read padding: `self.attention(..., mask=mask)`.",
    {_ATTEND: "attended, _ = self.attention(self.attention_norm(states))"},
)
encoder_layer.slip(
    "mask_as_memory",
    "The mask went in as the second argument, which is the memory. Give it by name: `mask=mask`.",
    {_ATTEND: "attended, _ = self.attention(self.attention_norm(states), mask)"},
)
encoder_layer.slip(
    "mask_inverted",
    "You turned the mask round. True means may attend, here as in your attention: pass it on as it is.",
    {_ATTEND: "attended, _ = self.attention(self.attention_norm(states), mask=None if mask is None else ~mask)"},
)
encoder_layer.slip(
    "causal",
    "You added a causal mask. The encoder may read the whole word, in both directions: pass on the mask as it is.",
    {_ATTEND: "causal = torch.ones(states.size(1), states.size(1), dtype=torch.bool).tril()\n"
              "        causal = causal if mask is None else causal & mask\n"
              "        attended, _ = self.attention(self.attention_norm(states), mask=causal)"},
)  # fmt: skip
encoder_layer.slip(
    "mask_must_be_given",
    "Your forward stops where `mask` is None, which means that nothing is hidden.",
    {_ATTEND: "attended, _ = self.attention(self.attention_norm(states), mask=mask.bool())"},
)
encoder_layer.slip(
    "called_as_in_pytorch",
    "You hand over query, key and value, as `nn.MultiheadAttention` wants them. Yours makes them itself: "
    "`self.attention(normed, mask=mask)`.",
    {_ATTEND: "normed = self.attention_norm(states)\n"
              "        attended, _ = self.attention(normed, normed, normed, mask)"},
)  # fmt: skip
encoder_layer.slip(
    "pair_not_taken_apart",
    "Your attention returns two things, output and weights, and you use the pair as if it were the output: "
    "`attended, _ = self.attention(…)`.",
    {_ATTEND: "attended = self.attention(self.attention_norm(states), mask=mask)"},
)
encoder_layer.slip(
    "weights_instead_of_output",
    "You took the second result of the attention, the weights. The output is the first.",
    {_ATTEND: "_, attended = self.attention(self.attention_norm(states), mask=mask)"},
)
_STATES_ALONE = "You return the weights too. Layers return the states alone."
encoder_layer.slip(
    "weights_returned",
    _STATES_ALONE,
    {_ATTEND: "attended, weights = self.attention(self.attention_norm(states), mask=mask)",
     _RESULT: "return states + self.dropout(processed), weights"},
)  # fmt: skip
encoder_layer.slip(
    "mask_returned",
    "You return the mask too. Layers return the states alone.",
    {_RESULT: "return states + self.dropout(processed), mask"},
)
encoder_layer.slip(
    "no_feed_forward",
    "The feed-forward block is never called: a layer is attention *and* feed-forward.",
    {_PROCESS: "pass", _RESULT: "return states"},
)
encoder_layer.slip(
    "no_attention",
    "The attention is never called, so no letter reads another.",
    {_ATTEND: "pass", _ADD: "pass"},
)
encoder_layer.slip(
    "feed_forward_first",
    "The feed-forward block comes before the attention. Attention first.",
    {_ATTEND: "states = states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))",
     _ADD: "attended, _ = self.attention(self.attention_norm(states), mask=mask)",
     _PROCESS: "pass", _RESULT: "return states + self.dropout(attended)"},
)  # fmt: skip
encoder_layer.slip(
    "no_dropout",
    "There is no dropout. In training each sub-layer's output goes through it: x + dropout(f(norm(x))).",
    {_ADD: "states = states + attended", _RESULT: "return states + processed"},
)
_ONE_DROPOUT = "Only one of the two sub-layers has dropout. Each output goes through it: x + dropout(f(norm(x)))."
encoder_layer.slip("dropout_after_feed_forward_only", _ONE_DROPOUT, {_ADD: "states = states + attended"})
encoder_layer.slip("dropout_after_attention_only", _ONE_DROPOUT, {_RESULT: "return states + processed"})
_DROPPED_TOO = (
    "Dropout reaches x too: it stands on a sum, or on the states that come in. Only the sub-layer's output goes "
    "through it: x + dropout(f(norm(x)))."
)
encoder_layer.slip(
    "dropout_on_the_sum",
    _DROPPED_TOO,
    {_ADD: "states = self.dropout(states + attended)", _RESULT: "return self.dropout(states + processed)"},
)
encoder_layer.slip("dropout_on_the_last_sum", _DROPPED_TOO, {_RESULT: "return self.dropout(states + processed)"})
_DROPOUT_BEFORE = (
    "Dropout stands before the sub-layers, on what goes in. It belongs on what comes out: x + dropout(f(norm(x)))."
)
encoder_layer.slip(
    "dropout_on_the_normed",
    _DROPOUT_BEFORE,
    {_ATTEND: "attended, _ = self.attention(self.dropout(self.attention_norm(states)), mask=mask)",
     _ADD: "states = states + attended",
     _PROCESS: "processed = self.feed_forward(self.dropout(self.feed_forward_norm(states)))",
     _RESULT: "return states + processed"},
)  # fmt: skip
encoder_layer.slip(
    "dropout_on_the_input",
    _DROPPED_TOO,
    {_ATTEND: "states = self.dropout(states)\n"
              "        attended, _ = self.attention(self.attention_norm(states), mask=mask)"},
)  # fmt: skip
encoder_layer.slip(
    "dropout_inside_the_feed_forward",
    "Dropout sits inside the feed-forward block, between its two maps. Here it sits on the output: "
    "x + dropout(f(norm(x))).",
    {_PROCESS: "inner = self.dropout(F.relu(self.feed_forward.expand(self.feed_forward_norm(states))))\n"
               "        processed = self.feed_forward.contract(inner)",
     _RESULT: "return states + processed"},
)  # fmt: skip
_ALWAYS_ON = (
    "Your dropout drops when evaluating too. An `nn.Dropout` made in `__init__` knows the mode; `F.dropout` has to be "
    "told (`training=self.training`), and one made anew in `forward` always drops."
)
encoder_layer.slip(
    "dropout_always_on",
    _ALWAYS_ON,
    {"self.dropout = nn.Dropout(dropout)": "self.share = dropout",
     _ADD: "states = states + F.dropout(attended, self.share)",
     _RESULT: "return states + F.dropout(processed, self.share)"},
)  # fmt: skip
encoder_layer.slip(
    "new_dropout_in_forward",
    _ALWAYS_ON,
    {"self.dropout = nn.Dropout(dropout)": "self.share = dropout",
     _ADD: "states = states + nn.Dropout(self.share)(attended)",
     _RESULT: "return states + nn.Dropout(self.share)(processed)"},
)  # fmt: skip
encoder_layer.slip(
    "dropout_fixed",
    "The share is fixed at 0.1. Use the `dropout` that was given.",
    {"nn.Dropout(dropout)": "nn.Dropout(0.1)"},
)
encoder_layer.slip(
    "dropout_default",
    "`nn.Dropout()` drops a half, whatever was asked for. Give it the `dropout` that was given.",
    {"nn.Dropout(dropout)": "nn.Dropout()"},
)
encoder_layer.slip(
    "dropout_as_the_share_kept",
    "You took `dropout` for the share that is kept. It is the share that is dropped.",
    {"nn.Dropout(dropout)": "nn.Dropout(1.0 - dropout)"},
)
_TWICE = (
    "One output goes through dropout twice, so more is dropped than asked, and what is kept is stretched twice. Once "
    "for each sub-layer."
)
encoder_layer.slip("dropout_twice", _TWICE, {_RESULT: "return states + self.dropout(self.dropout(processed))"})
encoder_layer.slip(
    "dropout_twice_after_attention", _TWICE, {_ADD: "states = states + self.dropout(self.dropout(attended))"}
)
encoder_layer.slip(
    "dropout_twice_everywhere",
    _TWICE,
    {_ADD: "states = states + self.dropout(self.dropout(attended))",
     _RESULT: "return states + self.dropout(self.dropout(processed))"},
)  # fmt: skip
_DROPPED_BEFORE_TOO = (
    "Dropout stands in more places than on the sub-layers' outputs: also on what goes into one, or inside it. Asked is "
    "x + dropout(f(norm(x))), and no more."
)
encoder_layer.slip(
    "dropout_on_the_normed_too",
    _DROPPED_BEFORE_TOO,
    {_ATTEND: "attended, _ = self.attention(self.dropout(self.attention_norm(states)), mask=mask)",
     _PROCESS: "processed = self.feed_forward(self.dropout(self.feed_forward_norm(states)))"},
)  # fmt: skip
encoder_layer.slip(
    "dropout_before_the_attention_too",
    _DROPPED_BEFORE_TOO,
    {_ATTEND: "attended, _ = self.attention(self.dropout(self.attention_norm(states)), mask=mask)"},
)
encoder_layer.slip(
    "dropout_before_the_feed_forward_too",
    _DROPPED_BEFORE_TOO,
    {_PROCESS: "processed = self.feed_forward(self.dropout(self.feed_forward_norm(states)))"},
)
encoder_layer.slip(
    "dropout_inside_the_feed_forward_too",
    _DROPPED_BEFORE_TOO,
    {_PROCESS: "inner = F.relu(self.feed_forward.expand(self.feed_forward_norm(states)))\n"
               "        processed = self.feed_forward.contract(self.dropout(inner))"},
)  # fmt: skip
_NOT_STRETCHED = (
    "What is kept stays as it was. Dropout divides it by 1 - p, so that the mean is the same in training and in "
    "evaluation: `nn.Dropout` does both."
)
_BY_HAND = "{0} if not self.training else {0} * (torch.rand_like({0}) >= self.dropout.p)"
encoder_layer.slip(
    "dropout_not_stretched",
    _NOT_STRETCHED,
    {_ADD: f"states = states + ({_BY_HAND.format('attended')})",
     _RESULT: f"return states + ({_BY_HAND.format('processed')})"},
)  # fmt: skip
encoder_layer.slip(
    "dropout_not_stretched_after_feed_forward",
    _NOT_STRETCHED,
    {_RESULT: f"return states + ({_BY_HAND.format('processed')})"},
)
_TOGETHER = (
    "Numbers are dropped together: whole letters, features or words, or one coin for all. Each number has a coin of "
    "its own: `nn.Dropout`."
)
for _kind in ("Dropout1d", "Dropout2d"):
    encoder_layer.slip(f"{_kind.lower()}", _TOGETHER, {"nn.Dropout(dropout)": f"nn.{_kind}(dropout)"})
encoder_layer.slip(
    "dropout_alike_for_all_letters",
    _TOGETHER,
    {_RESULT: "return states + F.dropout1d(processed.transpose(1, 2), self.dropout.p, self.training).transpose(1, 2)"},
)
for _shape, _which in (("()", "one_coin"), ("(len(states), 1, 1)", "one_coin_a_word")):
    _coins = f"(torch.rand({_shape}) >= self.dropout.p) / max(1 - self.dropout.p, 1e-9)"
    encoder_layer.slip(
        f"dropout_by_{_which}",
        _TOGETHER,
        {_ADD: f"if self.training:\n            attended = attended * ({_coins})\n        states = states + attended",
         _RESULT: f"if self.training:\n            processed = processed * ({_coins})\n"
                  "        return states + processed"},
    )  # fmt: skip
encoder_layer.slip(
    "dropout_decided_once",
    "You draw once which numbers are dropped, and drop the same ones ever after. Each call draws anew: `nn.Dropout`.",
    {_RESULT: "if self.training:\n"
              "            if getattr(self, 'kept', None) is None or self.kept.shape != processed.shape:\n"
              "                self.kept = self.dropout(torch.ones_like(processed))\n"
              "            processed = processed * self.kept\n"
              "        return states + processed"},
)  # fmt: skip
encoder_layer.slip(
    "alpha_dropout",
    "`nn.AlphaDropout` does not drop to 0: it puts another number there, and shifts and stretches the rest. It is made "
    "for SELU networks. Here it is `nn.Dropout`.",
    {"nn.Dropout(dropout)": "nn.AlphaDropout(dropout)"},
)
_NUMBER_CALLED = (
    "The number `dropout` is called as if it were a function. Make a module of it, `nn.Dropout(dropout)`, and leave it "
    "out of `MultiHeadAttention`, whose third argument is the function that attends."
)
encoder_layer.slip(
    "dropout_to_the_attention",
    _NUMBER_CALLED,
    {"MultiHeadAttention(d_model, heads)": "MultiHeadAttention(d_model, heads, dropout)"},
)
encoder_layer.slip(
    "dropout_to_the_feed_forward",
    "`FeedForward` takes two widths and no dropout: `FeedForward(d_model, d_ff)`. Dropout stands around the "
    "sub-layers, in this class.",
    {"FeedForward(d_model, d_ff)": "FeedForward(d_model, d_ff, dropout)"},
)
encoder_layer.slip(
    "dropout_is_a_number",
    _NUMBER_CALLED,
    {"nn.Dropout(dropout)": "dropout"},
)
encoder_layer.slip(
    "dropout_squared",
    "You drop another share than asked: hand `dropout` on as it is.",
    {"nn.Dropout(dropout)": "nn.Dropout(dropout**2)"},
)
encoder_layer.slip(
    "dropout_rounded",
    "You round `dropout`, so that a share between 0 and 1 becomes 0 or 1: hand it on as it is.",
    {"nn.Dropout(dropout)": "nn.Dropout(int(dropout))"},
)
_OTHER_EPS = "Your norms have another eps than `LayerNorm` has by itself. None is asked for here: `LayerNorm(d_model)`."
for _eps in ("1e-6", "1e-12"):
    encoder_layer.slip(
        f"norms_with_eps_{_eps.replace('-', '_')}",
        _OTHER_EPS,
        {"self.attention_norm = LayerNorm(d_model)": f"self.attention_norm = LayerNorm(d_model, eps={_eps})",
         _MAKE_NORMS: f"self.feed_forward_norm = LayerNorm(d_model, eps={_eps})"},
    )  # fmt: skip
encoder_layer.slip(
    "states_changed",
    "`states += …` changes the caller's tensor, which is needed again on the way back. Write `states = states + …`.",
    {_ADD: "states += self.dropout(attended)"},
)
encoder_layer.slip(
    "one_head",
    "The attention has one head, whatever `heads` says: `MultiHeadAttention(d_model, heads)`.",
    {"MultiHeadAttention(d_model, heads)": "MultiHeadAttention(d_model, 1)"},
)
encoder_layer.slip(
    "widths_exchanged",
    "The two widths of the feed-forward block are swapped: `FeedForward(d_model, d_ff)`.",
    {"FeedForward(d_model, d_ff)": "FeedForward(d_ff, d_model)"},
)
encoder_layer.slip(
    "d_ff_ignored",
    "The feed-forward block is not `d_ff` wide inside: `FeedForward(d_model, d_ff)`.",
    {"FeedForward(d_model, d_ff)": "FeedForward(d_model, 4 * d_model)"},
)
encoder_layer.slip(
    "torch_norms",
    "With `nn.LayerNorm` the parameters are called weight and bias. Use your own `LayerNorm`, with scale and shift.",
    {"self.attention_norm = LayerNorm(d_model)": "self.attention_norm = nn.LayerNorm(d_model)",
     _MAKE_NORMS: "self.feed_forward_norm = nn.LayerNorm(d_model)"},
)  # fmt: skip
encoder_layer.slip(
    "torch_attention",
    "With `nn.MultiheadAttention` the parameters have other names, and masks mean the opposite. Use your own "
    "`MultiHeadAttention`.",
    {"MultiHeadAttention(d_model, heads)": "nn.MultiheadAttention(d_model, heads, batch_first=True)"},
)
_OWN_BLOCK = (
    "The parameters of the feed-forward block have other names in `nn.Sequential`. Use `FeedForward(d_model, d_ff)`, "
    "which the set-up cell imports."
)
encoder_layer.slip(
    "sequential_feed_forward",
    _OWN_BLOCK,
    {"FeedForward(d_model, d_ff)": "nn.Sequential(nn.Linear(d_model, d_ff), nn.ReLU(), nn.Linear(d_ff, d_model))"},
)
encoder_layer.slip(
    "sequential_feed_forward_with_dropout",
    _OWN_BLOCK,
    {"FeedForward(d_model, d_ff)": "nn.Sequential(nn.Linear(d_model, d_ff), nn.ReLU(), nn.Dropout(dropout), "
                                   "nn.Linear(d_ff, d_model))"},
)  # fmt: skip
_SHORT_NAMES = (
    "Later lessons load weights by name. The four modules are called `attention_norm`, `attention`, "
    "`feed_forward_norm` and `feed_forward`."
)
for _attention, _first, _second, _block in (
    ("attention", "norm1", "norm2", "feed_forward"),
    ("self_attention", "norm1", "norm2", "feed_forward"),
    ("self_attn", "norm1", "norm2", "ff"),
    ("attn", "ln1", "ln2", "mlp"),
    ("self_attention", "self_attention_norm", "feed_forward_norm", "feed_forward"),
):
    encoder_layer.slip(
        f"named_{_attention}_{_first}_{_block}",
        _SHORT_NAMES,
        {"self.attention = Multi": f"self.{_attention} = Multi",
         "self.attention_norm = Layer": f"self.{_first} = Layer",
         "self.feed_forward_norm = Layer": f"self.{_second} = Layer",
         "self.feed_forward = Feed": f"self.{_block} = Feed",
         _ATTEND: f"attended, _ = self.{_attention}(self.{_first}(states), mask=mask)",
         _PROCESS: f"processed = self.{_block}(self.{_second}(states))"},
    )  # fmt: skip
encoder_layer.slip(
    "no_relu",
    "The feed-forward block without its ReLU is two Linear layers in a row, which do no more than one. Call "
    "`self.feed_forward`, which has it.",
    {_PROCESS: "processed = self.feed_forward.contract(self.feed_forward.expand(self.feed_forward_norm(states)))"},
)
encoder_layer.slip(
    "gelu",
    "You put GELU between the two maps. This course's feed-forward block uses ReLU: call `self.feed_forward`.",
    {_PROCESS: "inner = F.gelu(self.feed_forward.expand(self.feed_forward_norm(states)))\n"
               "        processed = self.feed_forward.contract(inner)"},
)  # fmt: skip
encoder_layer.slip(
    "relu_at_the_end",
    "There is a ReLU on the output of the feed-forward block, so it can only add, never take away. The one inside the "
    "block is enough.",
    {_PROCESS: "processed = F.relu(self.feed_forward(self.feed_forward_norm(states)))"},
)
encoder_layer.slip(
    "padding_zeroed",
    "You set the rows of padded letters to 0. That is not asked, and a mask need not say which letters are padding: "
    "pass it on to the attention and leave the rows as they are.",
    {_RESULT: "summed = states + self.dropout(processed)\n"
              "        if mask is not None and mask.dim() == 4 and mask.size(2) == 1:\n"
              "            summed = summed * mask[:, 0, 0, :, None]\n"
              "        return summed"},
)  # fmt: skip


@encoder_layer.mistake(
    "You took PyTorch's `nn.TransformerEncoderLayer`, which is the exercise itself. Put it together from your own "
    "pieces: two `LayerNorm`, your `MultiHeadAttention`, and `FeedForward`."
)
class TorchsOwnLayer(nn.TransformerEncoderLayer):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__(d_model, heads, d_ff, dropout, batch_first=True, norm_first=True)

    def forward(self, states, mask=None):
        return super().forward(states)


@encoder_layer.also_right
class FunctionalDropout(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.share = dropout
        self.feed_forward, self.feed_forward_norm = FeedForward(d_model, d_ff), LayerNorm(d_model)
        self.attention, self.attention_norm = MultiHeadAttention(d_model, heads), LayerNorm(d_model)

    def forward(self, states, mask=None):
        attended = self.attention(self.attention_norm(states), None, mask)[0]
        states = states + F.dropout(attended, p=self.share, training=self.training)
        processed = self.feed_forward(self.feed_forward_norm(states))
        return F.dropout(processed, self.share, self.training) + states


@encoder_layer.also_right
class TwoDropouts(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.attention_norm, self.feed_forward_norm = LayerNorm(d_model, 1e-5), LayerNorm(d_model, 1e-5)
        self.attention = MultiHeadAttention(d_model, heads=heads)
        self.feed_forward = FeedForward(d_model=d_model, d_ff=d_ff)
        self.attention_dropout, self.feed_forward_dropout = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, states, mask=None):
        normed = self.attention_norm(states)
        output, _weights = self.attention(normed, normed, mask)
        after_attention = torch.add(states, self.attention_dropout(output))
        return after_attention + self.feed_forward_dropout(self.feed_forward(self.feed_forward_norm(after_attention)))


@encoder_layer.also_right
class WithASublayerHelper(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.attention = MultiHeadAttention(d_model, heads)
        self.attention_norm = LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.feed_forward_norm = LayerNorm(d_model)
        self.drop = nn.Dropout(p=dropout)

    def _residual(self, states, norm, sublayer):
        return states + self.drop(sublayer(norm(states)))

    def forward(self, states, mask=None):
        states = self._residual(states, self.attention_norm, lambda x: self.attention(x, mask=mask)[0])
        return self._residual(states, self.feed_forward_norm, self.feed_forward)


@encoder_layer.also_right
class DropoutByHand(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.attention_norm, self.attention = LayerNorm(d_model), MultiHeadAttention(d_model, heads)
        self.feed_forward_norm, self.feed_forward = LayerNorm(d_model), FeedForward(d_model, d_ff)
        self.share = dropout

    def _drop(self, output):
        if not self.training or self.share == 0:
            return output
        kept = torch.rand_like(output) >= self.share
        return output.masked_fill(~kept, 0.0) / max(1 - self.share, 1e-9)

    def forward(self, states, mask=None):
        states = states + self._drop(self.attention(self.attention_norm(states), mask=mask)[0])
        return states + self._drop(self.feed_forward(self.feed_forward_norm(states)))


@encoder_layer.also_right
class DroppedInPlace(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.attention_norm, self.attention = LayerNorm(d_model), MultiHeadAttention(d_model, heads)
        self.feed_forward_norm, self.feed_forward = LayerNorm(d_model), FeedForward(d_model, d_ff)
        self.dropout = nn.Dropout(dropout, inplace=True)

    def forward(self, states, mask=None):
        states = self.dropout(self.attention(self.attention_norm(states), mask=mask)[0]) + states
        return self.dropout(self.feed_forward(self.feed_forward_norm(states))) + states


@encoder_layer.also_right
class AddedInPlace(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.attention_norm, self.attention = LayerNorm(d_model), MultiHeadAttention(d_model, heads)
        self.feed_forward_norm, self.feed_forward = LayerNorm(d_model), FeedForward(d_model, d_ff)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states, mask=None):
        states = states + self.dropout(self.attention(self.attention_norm(states), mask=mask)[0])
        states += self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        return states


@encoder_layer.also_right
class InPlaceOnACopy(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        for name, module in {
            "attention": MultiHeadAttention(d_model, heads),
            "feed_forward": FeedForward(d_model, d_ff),
            "feed_forward_norm": LayerNorm(d_model),
            "attention_norm": LayerNorm(d_model),
        }.items():
            self.add_module(name, module)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, states, mask=None):
        residual = states
        states = self.attention_norm(states)
        states, _ = self.attention(states, mask=mask)
        states = residual + self.dropout(states)

        residual = states
        states = self.feed_forward_norm(states)
        states = self.feed_forward.contract(torch.relu(self.feed_forward.expand(states)))
        states = residual + self.dropout(states)
        return states


encoder_layer.hint("Write x + dropout(f(norm(x))) twice: once with f = attention, once with f = feed-forward.")
encoder_layer.hint(
    "Your `MultiHeadAttention` returns output and weights, and takes a mask by name: `self.attention(…, mask=mask)`."
)
encoder_layer.hint("Keep the raw `states` for the sum: `states = states + self.dropout(attended)`.")
encoder_layer.hint(
    "`nn.Dropout(dropout)` has no parameters, so one of them can serve both sub-layers. It knows by itself whether the "
    "model is being trained."
)

# --- Encoder ---------------------------------------------------------------------------------------------------

encoder = Exercise("Encoder", returns=["memory (batch, source, d_model)"])


def _encoder_weights(draw, layers, d_model, d_ff, dtype=torch.float32):
    weights = {f"norm.{name}": weight.to(dtype) for name, weight in _norm_weights(draw, d_model).items()}
    for layer in range(layers):
        weights |= _layer_weights(draw, d_model, d_ff, dtype, before=f"layers.{layer}.")
    return weights


@encoder.case("two layers, no mask", scenario="module")
def _(draw):
    return build(2, 4, 2, 6, weights=_encoder_weights(draw, 2, 4, 6), forward=call(draw.normal(2, 3, 4)))


@encoder.case("three layers, padded", scenario="module")
def _(draw):
    forward = call(draw.normal(3, 4, 6), _padding([4, 1, 3], 4))
    return build(3, 6, 3, 5, weights=_encoder_weights(draw, 3, 6, 5), forward=forward)


@encoder.case("one layer, a batch of one, by name", scenario="module")
def _(draw):
    forward = call(draw.normal(1, 5, 4), mask=_padding([3], 5))
    weights = _encoder_weights(draw, 1, 4, 7)
    return build(layers=1, d_model=4, heads=2, d_ff=7, dropout=0.0, weights=weights, forward=forward)


@encoder.case("as many layers as words as letters, a mask for each head, float64", scenario="module")
def _(draw):
    weights = _encoder_weights(draw, 2, 4, 6, torch.float64)
    forward = call(draw.normal(2, 2, 4, dtype=torch.float64), draw.mask(2, 2, 2, 2, share=0.4))
    return build(2, 4, 2, 6, weights=weights, forward=forward)


@encoder.case("large states, not contiguous", scenario="module")
def _(draw):
    forward = call(2.0 + draw.normal(2, 4, 3, scale=4.0).transpose(1, 2), _padding([3, 2], 3))
    return build(2, 4, 1, 6, weights=_encoder_weights(draw, 2, 4, 6), forward=forward)


@encoder.case("training, dropout 1: only the final norm is left", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 4), _padding([3, 2], 3))
    return build(2, 4, 2, 6, 1.0, weights=_encoder_weights(draw, 2, 4, 6), forward=forward, train=True)


@encoder.case("training, dropout 0", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 4), _padding([3, 2], 3))
    return build(2, 4, 2, 6, weights=_encoder_weights(draw, 2, 4, 6), forward=forward, train=True)


@encoder.case("two calls of one object: with a mask, then without", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 4), _padding([3, 2], 3))
    return build(2, 4, 2, 6, weights=_encoder_weights(draw, 2, 4, 6), forward=forward, again=call(draw.normal(3, 2, 4)))


@encoder.case("training, dropout 0.4, two layers", scenario="module")
def _(draw):
    return _dropping(_encoder_weights(draw, 2, _WIDTH, 3), 2, _WIDTH, 2, 3, 0.4)


@encoder.case("training, dropout 0, seven layers: none is ever left out", scenario="module")
def _(draw):
    return _dropping(_encoder_weights(draw, 7, _WIDTH, 3), 7, _WIDTH, 2, 3, words=1, letters=1, calls=12)


_LAYERS = "self.layers = nn.ModuleList(EncoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers))"
_NORM = "self.norm = LayerNorm(d_model)"
_LOOP = "for layer in self.layers:\n            states = layer(states, mask)\n"
_STEP = "states = layer(states, mask)"
_MEMORY = "return self.norm(states)"
_SHARED = (
    "All layers are one and the same object, as in `[layer] * n`: they share their weights. Make a new one for each "
    "place, `EncoderLayer(…) for _ in range(layers)`."
)
_SHARED_LIST = "self.layers = nn.ModuleList([EncoderLayer(d_model, heads, d_ff, dropout)] * layers)"

encoder.slip(
    "layers_shared",
    _SHARED,
    {_LAYERS: _SHARED_LIST},
)
encoder.slip(
    "layers_shared_without_dropout",
    f"{_SHARED} And hand on `dropout`.",
    {_LAYERS: _SHARED_LIST.replace(", dropout", "")},
)
encoder.slip(
    "layers_shared_without_mask",
    f"{_SHARED} And give each the mask.",
    {_LAYERS: _SHARED_LIST, _STEP: "states = layer(states)"},
)
encoder.slip(
    "layers_shared_without_norm",
    f"{_SHARED} And norm the last states: `return self.norm(states)`.",
    {_LAYERS: _SHARED_LIST, _MEMORY: "return states"},
)
encoder.slip(
    "one_layer_used_again",
    "There is one layer, used again and again. Each place has a layer with weights of its own: `layers.0`, "
    "`layers.1`, …",
    {_LAYERS: "self.number = layers; self.layers = nn.ModuleList([EncoderLayer(d_model, heads, d_ff, dropout)])",
     _LOOP: "for _ in range(self.number):\n            states = self.layers[0](states, mask)\n"},
)  # fmt: skip
encoder.slip(
    "first_layer_again_and_again",
    "All layers are made, but the first is called each time. Call each in its turn.",
    {_STEP: "states = self.layers[0](states, mask)"},
)
_PLAIN_LIST = (
    "The layers stand in a plain Python list, so PyTorch does not see them: no optimiser would train their parameters. "
    "Use `nn.ModuleList`."
)
encoder.slip(
    "python_list",
    _PLAIN_LIST,
    {_LAYERS: "self.layers = [EncoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers)]"},
)
encoder.slip(
    "python_list_of_one_layer",
    _PLAIN_LIST,
    {_LAYERS: "self.layers = [EncoderLayer(d_model, heads, d_ff, dropout)] * layers"},
)
_NO_FINAL = (
    "The final norm is missing. In pre-LN nothing norms the sum that leaves the last layer, so the encoder does it: "
    "`return self.norm(states)`."
)
encoder.slip("final_norm_unused", _NO_FINAL, {_MEMORY: "return states"})
encoder.slip("no_final_norm", _NO_FINAL, {f"        {_NORM}\n": "", _MEMORY: "return states"})
encoder.slip(
    "norm_first",
    "The norm stands before the layers. It comes after the last one.",
    {_LOOP: "states = self.norm(states)\n        for layer in self.layers:\n            states = layer(states, mask)\n",
     _MEMORY: "return states"},
)  # fmt: skip
encoder.slip(
    "norm_first_and_last",
    "The states are normed before the first layer too. Each layer norms what it reads by itself; the encoder norms "
    "once, at the end.",
    {"for layer in self.layers:": "states = self.norm(states)\n        for layer in self.layers:"},
)
encoder.slip(
    "norm_after_each_layer",
    "You norm after *each* layer, and so break the path of the residuals. The norm comes once, after the last layer.",
    {_STEP: "states = self.norm(layer(states, mask))", _MEMORY: "return states"},
)
encoder.slip(
    "norm_after_each_layer_and_last",
    "You norm after *each* layer and once more. The norm comes once, after the last layer.",
    {_STEP: "states = self.norm(layer(states, mask))"},
)
encoder.slip(
    "norm_before_each_layer",
    "You norm before each layer, and so break the path of the residuals. Layers norm what they read themselves.",
    {_STEP: "states = layer(self.norm(states), mask)"},
)
_FIRST_ONLY = "Only the first layer gets the mask. From the second on, letters read padding: give it to every layer."
encoder.slip("mask_for_the_first", _FIRST_ONLY, {_STEP: "states, mask = layer(states, mask), None"})
encoder.slip(
    "mask_for_the_last",
    "Only the last layer gets the mask. By then, letters have read padding already: give it to every layer.",
    {_STEP: "states = layer(states, mask if layer is self.layers[-1] else None)"},
)
_NO_MASK = (
    "The mask does not reach the layers, so real letters read padding. Go through them in a loop and give it to each: "
    "`layer(states, mask)`."
)
encoder.slip("mask_dropped", _NO_MASK, {_STEP: "states = layer(states)"})
encoder.slip(
    "mask_inverted",
    "You turned the mask round. True means may attend, in every layer: pass it on as it is.",
    {_STEP: "states = layer(states, None if mask is None else ~mask)"},
)
encoder.slip(
    "causal",
    "You added a causal mask. The encoder may read the whole word, in both directions: pass on the mask as it is.",
    {_STEP: "triangle = torch.ones(states.size(1), states.size(1), dtype=torch.bool).tril()\n"
            "            states = layer(states, triangle if mask is None else triangle & mask)"},
)  # fmt: skip
encoder.slip(
    "layers_side_by_side",
    "Every layer reads the embedded letters, so only the last one counts. Each reads what the one before it returned.",
    {
        _LOOP: "for layer in self.layers:\n            output = layer(states, mask)\n",
        _MEMORY: "return self.norm(output)",
    },
)
encoder.slip(
    "layers_summed",
    "You add up what the layers give. They stand on top of each other: each reads what the one before it returned, and "
    "has its residuals inside.",
    {_STEP: "states = states + layer(states, mask)"},
)
encoder.slip(
    "returned_from_the_loop",
    "You return inside the loop, after the first layer. Move `return` out of it.",
    {_LOOP: "for layer in self.layers:\n            return self.norm(layer(states, mask))\n"},
)
encoder.slip(
    "upside_down",
    "The layers run from last to first. `layers.0` reads the embedded letters.",
    {"for layer in self.layers:": "for layer in reversed(self.layers):"},
)
encoder.slip(
    "last_layer_left_out",
    "One layer too few: the last is never called.",
    {"for layer in self.layers:": "for layer in self.layers[:-1]:"},
)
encoder.slip(
    "one_layer_too_few",
    "One layer too few is made: there are `layers` of them.",
    {"range(layers)": "range(1, layers)"},
)
encoder.slip(
    "one_layer_too_many",
    "One layer too many is made: there are `layers` of them.",
    {"range(layers)": "range(layers + 1)"},
)
encoder.slip(
    "dropout_forgotten",
    "`dropout` does not reach the layers: hand it on when you make them.",
    {"EncoderLayer(d_model, heads, d_ff, dropout) for": "EncoderLayer(d_model, heads, d_ff) for"},
)
encoder.slip(
    "dropout_squared",
    "The layers get another share than asked: hand `dropout` on as it is.",
    {"EncoderLayer(d_model, heads, d_ff, dropout) for": "EncoderLayer(d_model, heads, d_ff, dropout**2) for"},
)
encoder.slip(
    "dropout_rounded",
    "You round `dropout`, so that a share between 0 and 1 becomes 0 or 1: hand it on as it is.",
    {"EncoderLayer(d_model, heads, d_ff, dropout) for": "EncoderLayer(d_model, heads, d_ff, int(dropout)) for"},
)
encoder.slip(
    "more_dropout_with_depth",
    "Each layer drops another share than the one before it. All get the same, the `dropout` that was given.",
    {"EncoderLayer(d_model, heads, d_ff, dropout) for _":
     "EncoderLayer(d_model, heads, d_ff, dropout * (n + 1) / layers) for n"},
)  # fmt: skip
_LEFT_OUT = (
    "In training, layers are left out at random (LayerDrop). That is done, but was not asked for: each state goes "
    "through every layer."
)
for _share in ("0.1", "0.5"):
    encoder.slip(
        f"layers_left_out_{_share.replace('.', '_')}",
        _LEFT_OUT,
        {_STEP: f"if not self.training or torch.rand(()) >= {_share}:\n                states = layer(states, mask)"},
    )
encoder.slip(
    "six_at_the_most",
    "You make six layers at the most. The paper has six; here there are `layers`, however many.",
    {"range(layers)": "range(min(layers, 6))"},
)
for _eps in ("1e-6", "1e-12"):
    encoder.slip(
        f"norm_with_eps_{_eps.replace('-', '_')}",
        "The last norm has another eps than `LayerNorm` has by itself. None is asked for here: `LayerNorm(d_model)`.",
        {_NORM: f"self.norm = LayerNorm(d_model, eps={_eps})"},
    )
encoder.slip(
    "dropout_on_the_input",
    "You drop numbers of the states before the first layer. Dropout sits on each sub-layer's output only, inside the "
    "layers.",
    {_LOOP: "states = F.dropout(states, self.share, self.training)\n"
            "        for layer in self.layers:\n            states = layer(states, mask)\n",
     _NORM: f"{_NORM}; self.share = dropout"},
)  # fmt: skip
encoder.slip(
    "dropout_on_the_memory",
    "You drop numbers of the memory. Dropout sits on each sub-layer's output only, inside the layers.",
    {
        _MEMORY: "return F.dropout(self.norm(states), self.share, self.training)",
        _NORM: f"{_NORM}; self.share = dropout",
    },
)
encoder.slip(
    "widths_exchanged",
    "`heads` and `d_ff` have changed places on the way to the layers: EncoderLayer(d_model, heads, d_ff, dropout).",
    {"EncoderLayer(d_model, heads, d_ff, dropout)": "EncoderLayer(d_model, d_ff, heads, dropout)"},
)
encoder.slip(
    "one_head",
    "The layers have one head each, whatever `heads` says.",
    {"EncoderLayer(d_model, heads, d_ff, dropout)": "EncoderLayer(d_model, 1, d_ff, dropout)"},
)
encoder.slip(
    "torch_norm",
    "With `nn.LayerNorm` the parameters are called weight and bias. Use your own `LayerNorm`.",
    {_NORM: "self.norm = nn.LayerNorm(d_model)"},
)
encoder.slip(
    "sequential_called",
    "`nn.Sequential` passes on one thing only, and the layers need the mask too. Go through them in a loop.",
    {"nn.ModuleList(EncoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers))":
     "nn.Sequential(*[EncoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers)])",
     _LOOP: "states = self.layers(states, mask)\n"},
)  # fmt: skip
encoder.slip(
    "sequential_without_mask",
    _NO_MASK,
    {"nn.ModuleList(EncoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers))":
     "nn.Sequential(*[EncoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers)])",
     _LOOP: "states = self.layers(states)\n"},
)  # fmt: skip
encoder.slip(
    "module_list_called",
    "A `ModuleList` only holds modules and cannot be called itself: go through it in a loop.",
    {_LOOP: "states = self.layers(states, mask)\n"},
)
encoder.slip(
    "all_states_returned",
    "You return the states of every layer. Asked is the memory alone: those of the last, normed.",
    {_LOOP: "kept = []\n        for layer in self.layers:\n"
            "            states = layer(states, mask)\n            kept.append(states)\n",
     _MEMORY: "return self.norm(states), kept"},
)  # fmt: skip
encoder.slip(
    "mask_returned",
    "You return the mask too. Asked is the memory alone.",
    {_MEMORY: "return self.norm(states), mask"},
)
encoder.slip(
    "mean_over_the_letters",
    "You average the memory over the letters. It keeps a row for each: (batch, source, d_model).",
    {_MEMORY: "return self.norm(states).mean(dim=1)"},
)
encoder.slip(
    "last_letter_only",
    "You return the row of the last letter alone. The memory keeps a row for each: (batch, source, d_model).",
    {_MEMORY: "return self.norm(states)[:, -1]"},
)
encoder.slip(
    "residual_around_all",
    "You add the embedded letters once more at the end. The residuals inside the layers carry them already.",
    {_LOOP: "embedded = states\n        for layer in self.layers:\n            states = layer(states, mask)\n",
     _MEMORY: "return self.norm(states) + embedded"},
)  # fmt: skip
encoder.slip(
    "numbers_for_layers",
    "Your loop goes over numbers, and a number cannot be called. Go over the layers: `for layer in self.layers:`.",
    {"for layer in self.layers:": "for layer in range(len(self.layers)):"},
)
encoder.slip(
    "norm_without_width",
    "`LayerNorm` must be told how wide the states are: `LayerNorm(d_model)`.",
    {_NORM: "self.norm = LayerNorm()"},
)
for _given in ("heads, d_model, d_ff, dropout", "d_model, heads, dropout, d_ff", "d_model, d_ff, dropout, heads",
               "layers, d_model, heads, d_ff, dropout"):  # fmt: skip
    encoder.slip(
        f"layers_of_{_given.replace(', ', '_')}",
        "The arguments reach the layers in another order, or one is too many: EncoderLayer(d_model, heads, d_ff, "
        "dropout).",
        {"EncoderLayer(d_model, heads, d_ff, dropout)": f"EncoderLayer({_given})"},
    )
_ENCODER_NAMES = "Later lessons load weights by name: call the list `layers` and the final norm `norm`."
for _list, _final in (("blocks", "norm"), ("layers", "final_norm"), ("encoder_layers", "norm"), ("blocks", "ln_f")):
    encoder.slip(
        f"named_{_list}_and_{_final}",
        _ENCODER_NAMES,
        {"self.layers = nn": f"self.{_list} = nn", "self.norm = Layer": f"self.{_final} = Layer",
         "in self.layers:": f"in self.{_list}:", _MEMORY: f"return self.{_final}(states)"},
    )  # fmt: skip


@encoder.mistake(
    "You took PyTorch's `nn.TransformerEncoder`, which is the exercise itself. Stack your own `EncoderLayer`s in an "
    "`nn.ModuleList`, and put your `LayerNorm` after the last."
)
class TorchsOwnEncoder(nn.TransformerEncoder):
    def __init__(self, layers, d_model, heads, d_ff, dropout=0.0):
        layer = nn.TransformerEncoderLayer(d_model, heads, d_ff, dropout, batch_first=True, norm_first=True)
        super().__init__(layer, layers, nn.LayerNorm(d_model), enable_nested_tensor=False)

    def forward(self, states, mask=None):
        return super().forward(states)


@encoder.also_right
class Appended(nn.Module):
    def __init__(self, layers, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.norm = LayerNorm(d_model)
        self.layers = nn.ModuleList()
        for _ in range(layers):
            self.layers.append(EncoderLayer(d_model, heads, d_ff, dropout))

    def forward(self, states, mask=None):
        memory = states
        for index in range(len(self.layers)):
            memory = self.layers[index](memory, mask=mask)
        return self.norm(memory)


@encoder.also_right
class ListOfOwn(nn.Module):
    def __init__(self, layers, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.layers = nn.ModuleList([EncoderLayer(d_model, heads, d_ff, dropout=dropout) for _ in range(layers)])
        self.norm = LayerNorm(d_model)

    def forward(self, states, mask=None):
        for i, layer in enumerate(self.layers):
            states = layer(states, mask)
            if i == len(self.layers) - 1:
                states = self.norm(states)
        return states


@encoder.also_right
class Copied(nn.Module):
    def __init__(self, layers, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        import copy

        layer = EncoderLayer(d_model, heads, d_ff, dropout)
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(layers))
        self.norm = LayerNorm(d_model)

    def forward(self, states, mask=None):
        from functools import reduce

        return self.norm(reduce(lambda x, layer: layer(x, mask), self.layers, states))


@encoder.also_right
class InASequential(nn.Module):
    def __init__(self, layers, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.layers = nn.Sequential(*(EncoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers)))
        self.norm = LayerNorm(d_model)

    def forward(self, states, mask=None):
        layers = iter(self.layers)
        while (layer := next(layers, None)) is not None:
            states = layer(states, mask)
        return self.norm(states)


encoder.hint("`nn.ModuleList` takes modules one by one. How do you get `layers` different ones?")
encoder.hint("In `forward`, each layer reads what the one before it returned, and each gets the mask.")
encoder.hint("Nothing inside a pre-LN layer norms the sum that leaves it. Where does the last norm belong?")
