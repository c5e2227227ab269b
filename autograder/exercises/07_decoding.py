"""Lesson 07: a batch decoded greedily, a cache of keys and values, and attention that uses it."""

# ruff: noqa: F821 - mistakes and variants run in the lesson's set-up cell, as a student's answer does.
# mypy: ignore-errors

import torch

from autograder.exercise import Exercise
from autograder.scenarios.table_model import table
from crosstalk.stand_ins.lesson_02 import causal_mask as causal

# --- greedy_decode ---------------------------------------------------------------------------------------------

greedy_decode = Exercise("greedy_decode", returns=["ids (batch, length of the longest)"])


def _speakers(
    draw,
    words,
    start_id=1,
    end_id=2,
    pad_id=0,
    max_length=6,
    source_pad=0,
    masked=True,
    by_name=False,
    misread=(),
    end_again=False,
    newest=False,
):
    """Inputs of the scenario ``table_model``: ``words`` has for each row its source, and what the model says for it.

    At each place the likeliest token is the right one by a margin of 1. Away from the right prefix, and so in a row
    that has ended, all is chance, but neither the end nor the padding is ever said; or, with ``end_again``, always the
    end.
    """
    vocabulary, rows = 8, {}
    for source, spoken in words:
        prefix = (start_id,)
        for token in spoken:
            row = draw.normal(vocabulary)
            row[token] = row.max() + 1.0
            rows[tuple(source), prefix] = row
            prefix = (*prefix, token)
    otherwise = draw.normal(max_length + 2, vocabulary)
    otherwise[:, [end_id, pad_id]] = -4.0
    if end_again:  # as trained models mostly do
        otherwise[:, end_id] = 4.0
    for padded, spoken in misread:  # what it says where the padding is taken for a part of the word
        rows[tuple(padded), (start_id,)] = torch.eye(vocabulary)[spoken]
    source = torch.full((len(words), max(len(word) for word, _ in words)), source_pad)
    for row, (word, _) in zip(source, words, strict=True):
        row[: len(word)] = torch.tensor(word)
    lengths = torch.tensor([len(word) for word, _ in words])
    mask = (torch.arange(source.size(1)) < lengths[:, None])[:, None, None, :] if masked else None
    names = ("source", "source_mask", "start_id", "end_id", "pad_id", "max_length")
    values = (source, mask, start_id, end_id, pad_id, max_length)
    return {
        "model": table(rows, otherwise, len(words) * (max_length + 2) + 20, growing=True, newest=newest),
        "args": [None] if by_name else [None, *values],
        "kwargs": dict(zip(names, values, strict=True)) if by_name else {},
        "counts": ["encoded"],
    }


@greedy_decode.case("two words that end at different steps", scenario="table_model")
def _(draw):
    return _speakers(draw, [([3, 5, 4], [6, 4, 7, 2]), ([6, 4], [5, 2])])


@greedy_decode.case("one row ends at once", scenario="table_model")
def _(draw):
    return _speakers(draw, [([4, 3], [2]), ([3, 6, 5], [6, 4, 2]), ([5], [7, 5, 4, 5, 2])], max_length=8)


@greedy_decode.case("the first row goes on longest", scenario="table_model")
def _(draw):
    return _speakers(draw, [([7, 3, 3], [4, 4, 6, 3, 2]), ([3, 4, 6, 5], [3, 2]), ([4], [6, 5, 2])], max_length=9)


@greedy_decode.case("all end at once", scenario="table_model")
def _(draw):
    return _speakers(draw, [([4, 3, 5], [2]), ([6], [2])])


@greedy_decode.case("a model that never ends", scenario="table_model")
def _(draw):
    return _speakers(draw, [([5, 3, 3, 6], [4, 6, 4, 4, 7]), ([3, 4], [6, 6, 3, 7, 5])], max_length=5)


@greedy_decode.case("one row ends, the other never does", scenario="table_model")
def _(draw):
    return _speakers(draw, [([5, 3], [4, 6, 2]), ([3, 4, 7], [6, 6, 3, 7, 5])], max_length=5)


@greedy_decode.case("rows that have ended would say the end again", scenario="table_model")
def _(draw):
    words = [([5, 3], [4, 6, 2]), ([3, 4, 7], [6, 6, 3, 7, 2]), ([6], [2])]
    return _speakers(draw, words, max_length=8, end_again=True)


@greedy_decode.case("the end is the last token allowed", scenario="table_model")
def _(draw):
    return _speakers(draw, [([6, 4], [3, 7, 5, 2]), ([3, 3, 5], [5, 2])], max_length=4)


@greedy_decode.case("the end would be one token too late", scenario="table_model")
def _(draw):
    return _speakers(draw, [([4, 6], [7, 3, 5, 2]), ([5, 3, 6], [4, 2])], max_length=3)


@greedy_decode.case("one token is all that is allowed", scenario="table_model")
def _(draw):
    return _speakers(draw, [([3], [5, 2]), ([4, 5], [2])], max_length=1)


@greedy_decode.case("a batch of one", scenario="table_model")
def _(draw):
    return _speakers(draw, [([4, 6, 3], [7, 3, 3, 2])], max_length=7)


@greedy_decode.case("start_id and pad_id are one token", scenario="table_model")
def _(draw):
    return _speakers(draw, [([3, 5, 4], [6, 4, 7, 2]), ([6, 4], [5, 2])], start_id=0)


@greedy_decode.case("end_id and pad_id are one token, as where a tokeniser has no padding", scenario="table_model")
def _(draw):
    return _speakers(draw, [([3, 5], [6, 4, 7, 2]), ([6, 4, 7], [5, 2]), ([4], [7, 3, 2])], pad_id=2)


@greedy_decode.case("start_id and end_id are one token", scenario="table_model")
def _(draw):
    return _speakers(draw, [([6, 3, 4], [5, 7, 2]), ([5, 3], [3, 2])], start_id=2)


@greedy_decode.case("0, 1 and 2 are real tokens; start_id is 5, end_id 3, pad_id 6", scenario="table_model")
def _(draw):
    words = [([7, 4, 4], [0, 2, 1, 0, 3]), ([4, 7], [2, 3]), ([4], [1, 1, 0, 3])]
    return _speakers(draw, words, start_id=5, end_id=3, pad_id=6, max_length=8, source_pad=6)


@greedy_decode.case("a model that says the padding and the start token before it ends", scenario="table_model")
def _(draw):
    return _speakers(draw, [([4, 5, 3], [6, 0, 1, 5, 2]), ([5, 7], [0, 4, 2]), ([3], [4, 1, 0])], max_length=5)


@greedy_decode.case(
    "a long word beside short ones; as with a cache, logits of the newest place alone", scenario="table_model"
)
def _(draw):
    long = [4, 6, 3, 3, 7, 5, 4, 6, 6, 3, 5, 7, 4, 2]
    return _speakers(draw, [([5, 3], [4, 2]), ([3, 4, 7], long), ([6, 6, 6, 6], [7, 5, 2])], max_length=20, newest=True)


@greedy_decode.case("no padding in the source, so no mask", scenario="table_model")
def _(draw):
    return _speakers(draw, [([3, 4, 6], [5, 4, 2]), ([5, 3, 3], [6, 2])], masked=False)


@greedy_decode.case("the padding of the source has an id of its own", scenario="table_model")
def _(draw):
    words = [([3, 0, 4], [6, 4, 2]), ([0, 4, 5, 0, 3], [5, 3, 7, 2])]
    return _speakers(draw, words, source_pad=7, misread=[([3, 0, 4, 7, 7], 2)])


@greedy_decode.case("four words, all by name", scenario="table_model")
def _(draw):
    words = [([3, 4], [6, 6, 2]), ([5], [7, 2]), ([4, 4, 3], [3, 5, 6, 4, 2]), ([6, 3], [6, 3, 2])]
    return _speakers(draw, words, max_length=9, by_name=True)


_ENCODED_AGAIN = (
    "The result is right, but the encoder runs again for each token, and the memory never changes. Call `model.encode` "
    "once, then `model.decode` in the loop."
)
_ROWS_GO_ON = (
    "A row goes on after its end token. Remember which rows have ended (`ended`), and give those `pad_id` from then on."
)
_ENDED_FORGOTTEN = (
    "You only look whether a row ended in *this* step, so a row that ended earlier wakes up again. Once ended, always "
    "ended: `ended |= token == end_id`."
)
_STOPS_ON_ANY = (
    "You stop as soon as one row has ended. The others are cut off: go on until `all` have, or `max_length`."
)
_ONE_TOO_FEW = "You stop one token too early: `max_length` counts generated tokens, without the start token."
_ONE_TOO_MANY = "You generate one token too many: `max_length` is the largest number of generated tokens."
_START_KEPT = (
    "The start token is in what you return. It is only what the model reads first: leave it out, `ids[:, 1:]`."
)
_END_LOST = (
    "The end tokens are missing: padding stands in their place. Whoever calls wants to know whether the end came. Fill "
    "with padding *before* you note which rows have ended."
)
_PADDING_READ = (
    "Encoder or decoder reads the padding of the source, so a short word is another word beside a long one. "
    "`source_mask` goes to both: to `model.encode`, and to `model.decode` as `memory_mask`."
)
_TARGET_MASK = (
    "You hand `source_mask` to `model.decode` as `target_mask`, the third argument: it hides tokens of the target. It "
    "is for the memory alone: `memory_mask=source_mask`."
)
_HIDDEN_TOKENS = (
    "You made a target mask of `ids != pad_id`. It hides every token with that id, the start token among them where "
    "start_id and pad_id are one. The decoder is causal, and padding comes only after an end: no mask is needed."
)
_START_IS_END = (
    "You look for the end among all ids, the start token included. Where both have one id, every row has ended before "
    "it began: look at generated tokens only."
)
_TOO_LONG = (
    "Your result is as wide as `max_length`, or wider than the longest row. Stop when all rows have ended: the result "
    "is as wide as the longest."
)
_PAD_DECIDES = (
    "You take the padding for the end: a row has ended, or a column is empty, where `pad_id` stands. Only `end_id` "
    "ends a row. A model may say any token before."
)
_ROW_BY_ROW = (
    "The result is right, but each row is encoded and decoded on its own. That is a loop of `greedy_word`: asked is "
    "the whole batch at once, with one call of `model.encode`."
)
_LOOK = "model.decode(ids, memory, memory_mask=source_mask)"
_FILL = "        token = token.masked_fill(ended, pad_id)  # an ended row takes padding from then on\n"
_NOTE = "        ended = ended | (token == end_id)\n"
_STOP = "        if ended.all():\n            break\n"
_LOOP = "for _ in range(max_length):"


@greedy_decode.mistake(_ENCODED_AGAIN)
def encoder_in_the_loop(model, source, source_mask, start_id, end_id, pad_id, max_length):
    ids = torch.full((len(source), 1), start_id)
    ended = torch.zeros(len(source), dtype=torch.bool)
    for _ in range(max_length):
        memory = model.encode(source, source_mask)
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1).masked_fill(ended, pad_id)
        ids = torch.cat([ids, token[:, None]], dim=1)
        ended |= token == end_id
        if ended.all():
            break
    return ids[:, 1:]


@greedy_decode.mistake(_ENCODED_AGAIN)
def whole_model_in_the_loop(model, source, source_mask, start_id, end_id, pad_id, max_length):
    ids = torch.full((len(source), 1), start_id)
    ended = torch.zeros(len(source), dtype=torch.bool)
    while ids.size(1) <= max_length and not ended.all():
        token = model(source, ids, source_mask)[:, -1].argmax(-1).masked_fill(ended, pad_id)
        ids = torch.cat([ids, token[:, None]], dim=1)
        ended |= token == end_id
    return ids[:, 1:]


@greedy_decode.mistake(_ROW_BY_ROW)
def row_by_row(model, source, source_mask, start_id, end_id, pad_id, max_length):
    rows = []
    for index in range(len(source)):
        mask = None if source_mask is None else source_mask[index : index + 1]
        memory = model.encode(source[index : index + 1], mask)
        ids = [start_id]
        for _ in range(max_length):
            token = model.decode(torch.tensor([ids]), memory, memory_mask=mask)[0, -1].argmax().item()
            ids.append(token)
            if token == end_id:
                break
        rows.append(torch.tensor(ids[1:]))
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)


@greedy_decode.mistake(
    "You hand the rows one by one to `greedy_word`, which knows no mask: it reads the padding of the source, and the "
    "encoder runs once for each row. Asked is the whole batch at once."
)
def greedy_word_for_each(model, source, source_mask, start_id, end_id, pad_id, max_length):
    rows = [torch.tensor(greedy_word(model, row[None], start_id, end_id, max_length)) for row in source]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)


greedy_decode.slip("rows_go_on", _ROWS_GO_ON, {_FILL: ""})
greedy_decode.slip("ended_forgotten", _ENDED_FORGOTTEN, {_NOTE: "        ended = token == end_id\n"})


@greedy_decode.mistake(
    "You go on until every row says its end in one and the same step, and nothing is padded. Rows end at different "
    "steps: remember which have ended, and give those `pad_id`."
)
def all_at_one_step(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), 1), start_id)
    for _ in range(max_length):
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1)
        ids = torch.cat([ids, token[:, None]], dim=1)
        if (token == end_id).all():
            break
    return ids[:, 1:]


greedy_decode.slip("stops_on_any", _STOPS_ON_ANY, {"ended.all()": "ended.any()"})
greedy_decode.slip(
    "first_row_decides",
    "You only look at row 0. Each row has an end of its own: go on until all have ended.",
    {"ended.all()": "ended[0]"},
)
greedy_decode.slip(
    "last_row_decides",
    "You only look at the last row. Each row has an end of its own: go on until all have ended.",
    {"ended.all()": "ended[-1]"},
)
greedy_decode.slip("never_stops_early", _TOO_LONG, {_STOP: ""})


@greedy_decode.mistake(_TOO_LONG)
def as_wide_as_max_length(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), max_length + 1), pad_id)
    ids[:, 0] = start_id
    ended = torch.zeros(len(source), dtype=torch.bool)
    for t in range(max_length):
        token = model.decode(ids[:, : t + 1], memory, memory_mask=source_mask)[:, -1].argmax(-1)
        ids[:, t + 1] = torch.where(ended, pad_id, token)
        ended |= token == end_id
        if ended.all():
            break
    return ids[:, 1:]


@greedy_decode.mistake(_TOO_LONG)
def newest_must_all_be_ends(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), 1), start_id)
    ended = torch.zeros(len(source), dtype=torch.bool)
    for _ in range(max_length):
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1)
        token = torch.where(ended, pad_id, token)
        ended |= token == end_id
        ids = torch.cat([ids, token[:, None]], dim=1)
        if (ids[:, -1] == end_id).all():
            break
    return ids[:, 1:]


greedy_decode.slip(
    "end_ignored",
    "You never look for the end token: every row goes on to `max_length`. A row has ended once it has said `end_id`.",
    {_FILL: "", _NOTE: "", _STOP: ""},
)


@greedy_decode.mistake(
    "Your loop ends only when all rows have said their end. A model may never say it (an untrained one hardly ever "
    "does): stop after `max_length` tokens, too."
)
def never_gives_up(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), 1), start_id)
    ended = torch.zeros(len(source), dtype=torch.bool)
    while not ended.all():
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1).masked_fill(ended, pad_id)
        ids = torch.cat([ids, token[:, None]], dim=1)
        ended |= token == end_id
    return ids[:, 1:]


greedy_decode.slip("one_too_few", _ONE_TOO_FEW, {_LOOP: "for _ in range(max_length - 1):"})


@greedy_decode.mistake(_ONE_TOO_FEW)
def start_counted(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), 1), start_id)
    ended = torch.zeros(len(source), dtype=torch.bool)
    while ids.size(1) < max_length and not ended.all():
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1).masked_fill(ended, pad_id)
        ids = torch.cat([ids, token[:, None]], dim=1)
        ended |= token == end_id
    return ids[:, 1:]


greedy_decode.slip("one_too_many", _ONE_TOO_MANY, {_LOOP: "for _ in range(max_length + 1):"})
greedy_decode.slip("start_kept", _START_KEPT, {"return ids[:, 1:]": "return ids"})
greedy_decode.slip(
    "last_cut_off",
    "You cut off the last column. It holds the end token of the longest row, or the last token allowed.",
    {"return ids[:, 1:]": "return ids[:, 1:-1]"},
)
greedy_decode.slip("end_padded", _END_LOST, {_NOTE: "", _FILL: _NOTE + _FILL})
greedy_decode.slip("ends_filled_at_last", _END_LOST, {
    "return ids[:, 1:]": "ids = ids[:, 1:]\n    return ids.masked_fill(ids == end_id, pad_id)"
})  # fmt: skip
greedy_decode.slip(
    "padded_with_the_end",
    "You give ended rows the end token again and again. After the one end token comes `pad_id`.",
    {"masked_fill(ended, pad_id)": "masked_fill(ended, end_id)"},
)
greedy_decode.slip(
    "padded_with_zero",
    "You pad with 0. The id of the padding is `pad_id`, and 0 may be a real token.",
    {"masked_fill(ended, pad_id)": "masked_fill(ended, 0)"},
)


@greedy_decode.mistake("You pad with 0. The id of the padding is `pad_id`, and 0 may be a real token.")
def multiplied_by_not_ended(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), 1), start_id)
    alive = torch.ones(len(source), dtype=torch.long)
    for _ in range(max_length):
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1) * alive
        ids = torch.cat([ids, token[:, None]], dim=1)
        alive = alive * (token != end_id)
        if alive.sum() == 0:
            break
    return ids[:, 1:]


greedy_decode.slip("padding_ends", _PAD_DECIDES, {"token == end_id": "token == pad_id"})
greedy_decode.slip(
    "padding_ends_too",
    _PAD_DECIDES,
    {"ended = ended | (token == end_id)": "ended = ended | (token == end_id) | (token == pad_id)"},
)


@greedy_decode.mistake(_PAD_DECIDES)
def columns_of_padding_cut(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), max_length + 1), pad_id)
    ids[:, 0] = start_id
    ended = torch.zeros(len(source), dtype=torch.bool)
    for t in range(max_length):
        token = model.decode(ids[:, : t + 1], memory, memory_mask=source_mask)[:, -1].argmax(-1)
        ids[:, t + 1] = torch.where(ended, pad_id, token)
        ended |= token == end_id
    ids = ids[:, 1:]
    return ids[:, (ids != pad_id).any(dim=0)]


@greedy_decode.mistake(_PAD_DECIDES)
def width_from_the_padding(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), 1), start_id)
    ended = torch.zeros(len(source), dtype=torch.bool)
    for _ in range(max_length):
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1).masked_fill(ended, pad_id)
        ids = torch.cat([ids, token[:, None]], dim=1)
        ended |= token == end_id
    ids = ids[:, 1:]
    return ids[:, : int((ids != pad_id).sum(dim=1).max())]


greedy_decode.slip(
    "end_is_always_two",
    "Your end token is always 2. Its id is `end_id`, which may be any number.",
    {"token == end_id": "token == 2"},
)
greedy_decode.slip(
    "start_is_always_one",
    "Your start token is always 1. Its id is `start_id`, which may be any number.",
    {"start_id, device": "1, device"},
)
greedy_decode.slip(
    "starts_with_zeros",
    "Your first token is 0. What the decoder reads first is `start_id`.",
    {"start_id, device": "0, device"},
)
greedy_decode.slip(
    "starts_with_the_source",
    "You begin with the first token of the source. The decoder's first input is the start token, `start_id`; the "
    "source reaches it through the memory.",
    {"torch.full((source.size(0), 1), start_id, device=source.device)": "source[:, :1]"},
)


@greedy_decode.mistake(_START_IS_END)
def end_looked_for_anywhere(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), 1), start_id)
    for _ in range(max_length):
        ended = (ids == end_id).any(dim=1)
        if ended.all():
            break
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1).masked_fill(ended, pad_id)
        ids = torch.cat([ids, token[:, None]], dim=1)
    return ids[:, 1:]


@greedy_decode.mistake(_START_IS_END)
def end_looked_for_anywhere_twice(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), 1), start_id)
    for _ in range(max_length):
        ended = (ids == end_id).any(dim=1)
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1).masked_fill(ended, pad_id)
        ids = torch.cat([ids, token[:, None]], dim=1)
        if (ids == end_id).any(dim=1).all():
            break
    return ids[:, 1:]


@greedy_decode.mistake(_START_IS_END)
def newest_looked_at_first(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), 1), start_id)
    ended = torch.zeros(len(source), dtype=torch.bool)
    while ids.size(1) <= max_length:
        ended |= ids[:, -1] == end_id
        if ended.all():
            break
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1).masked_fill(ended, pad_id)
        ids = torch.cat([ids, token[:, None]], dim=1)
    return ids[:, 1:]


greedy_decode.slip("encoder_without_mask", _PADDING_READ, {"model.encode(source, source_mask)": "model.encode(source)"})
greedy_decode.slip("decoder_without_mask", _PADDING_READ, {_LOOK: "model.decode(ids, memory)"})
greedy_decode.slip(
    "no_mask_at_all",
    "`source_mask` is used nowhere: encoder and decoder both read the padding of the source. Hand it to "
    "`model.encode`, and to `model.decode` as `memory_mask`.",
    {"model.encode(source, source_mask)": "model.encode(source)", _LOOK: "model.decode(ids, memory)"},
)
greedy_decode.slip(
    "mask_as_target_mask",
    _TARGET_MASK,
    {_LOOK: "model.decode(ids, memory, source_mask)"},
)
greedy_decode.slip(
    "mask_for_both",
    _TARGET_MASK,
    {_LOOK: "model.decode(ids, memory, source_mask, source_mask)"},
)
greedy_decode.slip(
    "mask_made_anew",
    "You make the mask of the source anew from `pad_id`, which is the padding of the *target*. The source may be "
    "padded otherwise: use the `source_mask` that was handed in.",
    {
        "    memory = model.encode(source, source_mask)": "    source_mask = padding_mask(source, pad_id)\n"
        "    memory = model.encode(source, source_mask)"
    },
)
greedy_decode.slip("target_mask_of_padding", _HIDDEN_TOKENS, {
    _LOOK: "model.decode(ids, memory, padding_mask(ids, pad_id), source_mask)"
})  # fmt: skip
greedy_decode.slip("target_mask_by_hand", _HIDDEN_TOKENS, {
    _LOOK: "model.decode(ids, memory, (ids != pad_id)[:, None, None, :], memory_mask=source_mask)"
})  # fmt: skip
greedy_decode.slip(
    "first_place_read",
    "You read the logits of the first place, so the same token comes again and again. The newest place is -1.",
    {"logits[:, -1]": "logits[:, 0]"},
)
greedy_decode.slip(
    "last_row_for_all",
    "`logits[-1]` is the last row of the batch, at all its places. Asked is the newest place of each row: "
    "`logits[:, -1]`.",
    {"logits[:, -1].argmax(dim=-1)": "logits[-1].argmax(dim=-1)[-1:].expand(len(ids))"},
)
greedy_decode.slip(
    "one_token_for_all",
    "`argmax()` without a dimension looks at all rows at once. Each row has its own likeliest token: `argmax(dim=-1)`.",
    {"logits[:, -1].argmax(dim=-1)": "(logits[:, -1].argmax() % logits.size(-1)).expand(len(ids))"},
)
greedy_decode.slip(
    "argmax_over_rows",
    "Your argmax runs over the rows of the batch (dimension 0). It has to run over the vocabulary, the last one.",
    {"logits[:, -1].argmax(dim=-1)": "logits[:, -1].argmax(dim=0)[: len(ids)]"},
)
greedy_decode.slip("least_likely", "You take the least likely token. Asked is the likeliest: `argmax`.", {
    "argmax": "argmin"
})  # fmt: skip
greedy_decode.slip(
    "sampled",
    "You draw the tokens at random, by their probability. Greedy means: the likeliest one, always. Sampling comes in "
    "lesson 08.",
    {"logits[:, -1].argmax(dim=-1)": "torch.multinomial(logits[:, -1].softmax(dim=-1), 1)[:, 0]"},
)
greedy_decode.slip(
    "softmax_over_rows",
    "Your softmax runs over the rows of the batch, so rows change each other's tokens. For argmax none is needed; if "
    "you take one, over dimension -1.",
    {"logits[:, -1].argmax(dim=-1)": "logits[:, -1].softmax(dim=0).argmax(dim=-1)"},
)
greedy_decode.slip(
    "newest_token_alone",
    "The decoder gets the newest tokens alone, and does not know what came before. Hand it all of `ids`: what need not "
    "be computed again is the cache's affair, not this function's.",
    {_LOOK: "model.decode(ids[:, -1:], memory, memory_mask=source_mask)"},
)
greedy_decode.slip(
    "newest_token_at_its_place",
    "The decoder gets the newest tokens alone. `start` tells it their position, but not what came before. Hand it all "
    "of `ids`: what need not be computed again is the cache's affair, not this function's.",
    {_LOOK: "model.decode(ids[:, -1:], memory, memory_mask=source_mask, start=ids.size(1) - 1)"},
)
_BUFFER = (
    "You hand `decode` the whole buffer, with the padding that stands where nothing has been said yet. It takes what "
    "has been said so far, (batch, so far): cut the buffer, `ids[:, : t + 1]`, and read the newest place, -1."
)


@greedy_decode.mistake(_BUFFER)
def whole_buffer(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), max_length + 1), pad_id)
    ids[:, 0] = start_id
    ended = torch.zeros(len(source), dtype=torch.bool)
    t = 0
    while t < max_length and not ended.all():
        token = model.decode(ids, memory, memory_mask=source_mask)[:, t].argmax(-1).masked_fill(ended, pad_id)
        ids[:, t + 1] = token
        ended |= token == end_id
        t += 1
    return ids[:, 1 : t + 1]


greedy_decode.slip(
    "read_by_number",
    "You count the places and read number t. With a cache only the logits of the new places come back, so there is no "
    "place t: the newest is at -1, `logits[:, -1]`.",
    {_LOOP: "for t in range(max_length):", "logits[:, -1]": "logits[:, t]"},
)
greedy_decode.slip(
    "reads_the_source",
    "You hand `source` to `decode`. The decoder reads what it has said so far; the source reaches it through the "
    "memory.",
    {_LOOK: "model.decode(source, memory, memory_mask=source_mask)"},
)
greedy_decode.slip(
    "all_places_taken",
    "You replace the prefix by the argmax of every place. Each row of logits predicts the *next* token: only the "
    "newest one is new, and it is appended to what is there.",
    {
        "logits[:, -1].argmax(dim=-1)  # (batch,)": "logits[:, -1].argmax(dim=-1)\n"
        "        ids = torch.cat([ids[:, :1], logits[:, :-1].argmax(dim=-1)], dim=1)"
    },
)


@greedy_decode.mistake(
    "A row that never says its end is emptied: where nothing is found, `argmax` gives 0, as if the end came at once. "
    "Look first whether the row has an end at all."
)
def argmax_finds_the_end(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), 1), start_id)
    for _ in range(max_length):
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1)
        ids = torch.cat([ids, token[:, None]], dim=1)
    ids = ids[:, 1:]
    ends = (ids == end_id).int().argmax(dim=1)  # (batch,)
    after = torch.arange(ids.size(1)) > ends[:, None]
    return ids.masked_fill(after, pad_id)[:, : int(ends.max()) + 1]


@greedy_decode.mistake(
    "You take ended rows out of the batch, and the results come back in the order in which the rows ended. Row i of "
    "the result belongs to row i of `source`."
)
def in_order_of_ending(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids, done = torch.full((len(source), 1), start_id), []
    for step in range(max_length):
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1)
        ids = torch.cat([ids, token[:, None]], dim=1)
        over = (token == end_id) | (step == max_length - 1)
        done += list(ids[over, 1:])
        ids, memory = ids[~over], memory[~over]
        source_mask = None if source_mask is None else source_mask[~over]
        if not len(ids):
            break
    return nn.utils.rnn.pad_sequence(done, batch_first=True, padding_value=pad_id)


@greedy_decode.mistake(
    "The tokens are right, but lists. Asked is a tensor (batch, length of the longest), padded with `pad_id`."
)
def lists_returned(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids, rows = torch.full((len(source), 1), start_id), [[] for _ in source]
    for _ in range(max_length):
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1)
        ids = torch.cat([ids, token[:, None]], dim=1)
        for row, said in zip(rows, token.tolist(), strict=True):
            if end_id not in row:
                row.append(said)
        if all(end_id in row for row in rows):
            break
    return rows


greedy_decode.slip(
    "as_floats",
    "You return floats. Token ids are whole numbers: keep the dtype of `source`.",
    {"return ids[:, 1:]": "return ids[:, 1:].float()"},
)
greedy_decode.slip(
    "time_first",
    "Your result is (length, batch). Asked is (batch, length): stack the steps along dimension 1.",
    {"return ids[:, 1:]": "return ids[:, 1:].T"},
)
greedy_decode.slip(
    "logits_returned",
    "You return logits. Asked are the ids that were chosen.",
    {"return ids[:, 1:]": "return logits"},
)


@greedy_decode.mistake(
    "An ended row that says its end again keeps it. After the first end token comes `pad_id`, whatever the logits say."
)
def ends_said_again(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), 1), start_id)
    ended = torch.zeros(len(source), dtype=torch.bool)
    for _ in range(max_length):
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1)
        ended |= token == end_id
        token = torch.where(ended & (token != end_id), pad_id, token)
        ids = torch.cat([ids, token[:, None]], dim=1)
        if ended.all():
            break
    return ids[:, 1:]


greedy_decode.slip(
    "end_forced",
    "You put the end token where a row never said it. What is returned is what the model said: a row that did not come "
    "to an end has none.",
    {
        "return ids[:, 1:]": "ids = ids[:, 1:].clone()\n"
        "    ids[:, -1] = torch.where(ended, ids[:, -1], end_id)\n"
        "    return ids"
    },
)
greedy_decode.slip(
    "left_before_appending",
    "You leave the loop before the last column is appended, so the end token of the longest row is missing. Append "
    "first, then look.",
    {
        "        ids = torch.cat([ids, token[:, None]], dim=1)\n": "",
        _STOP: _STOP + "        ids = torch.cat([ids, token[:, None]], dim=1)\n",
    },
)
greedy_decode.slip(
    "row_overwritten",
    "You overwrite the whole row of an ended word with padding, what it has said before included. Only what comes "
    "*after* its end token becomes `pad_id`.",
    {
        "ids = torch.cat([ids, token[:, None]], dim=1)\n": "ids = torch.cat([ids, token[:, None]], dim=1)\n"
        "        ids[ended, 1:] = pad_id\n"
    },
)
greedy_decode.slip(
    "first_word_for_all",
    "All rows read the memory of row 0. Row i of the batch reads row i of the memory: hand over all of it.",
    {_LOOK: "model.decode(ids, memory[:1], memory_mask=None if source_mask is None else source_mask[:1])"},
)
greedy_decode.slip(
    "as_long_as_the_source",
    "Your loop runs as often as the source has letters. A word may have more phonemes than letters: the limit is "
    "`max_length`.",
    {_LOOP: "for _ in range(source.size(1)):"},
)
greedy_decode.slip(
    "limit_of_its_own",
    "Your loop has a limit of its own, whatever `max_length` says. It runs as often as `max_length` allows, and ends "
    "earlier when all rows have ended.",
    {_LOOP: "for _ in range(min(max_length, 10)):"},
)
greedy_decode.slip(
    "mask_returned_too",
    "You return two things. Asked are the ids alone: where a row ended can be read off them.",
    {"return ids[:, 1:]": "return ids[:, 1:], ended"},
)


@greedy_decode.mistake(
    "You sort the rows by length and return them sorted. Row i of the result belongs to row i of `source`: put them "
    "back."
)
def sorted_and_left_so(model, source, source_mask, start_id, end_id, pad_id, max_length):
    if source_mask is not None:
        order = source_mask.sum(dim=-1).flatten().argsort(descending=True, stable=True)
        source, source_mask = source[order], source_mask[order]
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), 1), start_id)
    ended = torch.zeros(len(source), dtype=torch.bool)
    while ids.size(1) <= max_length and not ended.all():
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1).masked_fill(ended, pad_id)
        ids = torch.cat([ids, token[:, None]], dim=1)
        ended |= token == end_id
    return ids[:, 1:]


greedy_decode.slip(
    "training_mode",
    "You switch the model to training mode, and dropout with it. The caller has it in evaluation mode: leave it so.",
    {"    memory = model.encode": "    model.train()\n    memory = model.encode"},
)

greedy_decode.also("without_gradients", {
    "    memory = model.encode(source, source_mask)": "    with torch.no_grad():\n"
    "        memory = model.encode(source, source_mask)"
})  # fmt: skip
greedy_decode.also("softmax_before_argmax", {"logits[:, -1].argmax": "logits.softmax(dim=-1)[:, -1].argmax"})
greedy_decode.also("log_softmax_and_max", {
    "logits[:, -1].argmax(dim=-1)": "logits[:, -1].log_softmax(-1).max(dim=-1).indices"
})  # fmt: skip


@greedy_decode.also_right
def with_where_and_hstack(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask=source_mask)
    ids = source.new_full((source.size(0), 1), start_id)
    ended = torch.zeros(source.size(0), 1, dtype=torch.bool)
    while ids.size(1) - 1 < max_length and not bool(ended.all()):
        best = model.decode(ids, memory, memory_mask=source_mask)[:, -1].topk(1).indices
        best = torch.where(ended, torch.full_like(best, pad_id), best)
        ended = ended | (best == end_id)
        ids = torch.hstack([ids, best])
    return ids[:, 1:]


@greedy_decode.also_right
def into_a_table_and_cut(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), max_length + 1), pad_id, dtype=torch.long)
    ids[:, 0] = start_id
    alive = torch.ones(len(source), dtype=torch.bool)
    steps = 0
    while steps < max_length and alive.any():
        token = model.decode(ids[:, : steps + 1], memory, memory_mask=source_mask)[:, -1].argmax(dim=-1)
        steps += 1
        ids[alive, steps] = token[alive]
        alive &= token != end_id
    return ids[:, 1 : steps + 1]


@greedy_decode.also_right
def runs_on_and_cuts(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    ids = torch.full((len(source), 1), start_id)
    for _ in range(max_length):
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1:].argmax(dim=-1)
        ids = torch.cat([ids, token], dim=1)
    ids = ids[:, 1:]
    is_end = ids == end_id
    after = (is_end.cumsum(dim=1) - is_end.int()) > 0  # an end stands before it
    return ids.masked_fill(after, pad_id)[:, : int((~after).sum(dim=1).max())]


@greedy_decode.also_right
def ended_rows_taken_out(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    said = [[] for _ in source]
    going = list(range(len(source)))
    for _ in range(max_length):
        if not going:
            break
        ids = torch.tensor([[start_id, *said[row]] for row in going])
        mask = None if source_mask is None else source_mask[going]
        logits = model.decode(ids, memory[going], memory_mask=mask)
        for row, token in zip(list(going), logits[:, -1].argmax(dim=-1).tolist(), strict=True):
            said[row].append(token)
            if token == end_id:
                going.remove(row)
    width = max(map(len, said))
    return torch.tensor([row + [pad_id] * (width - len(row)) for row in said])


@greedy_decode.also_right
def ended_rows_go_on_reading_the_end(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    reads = torch.full((len(source), 1), start_id)
    columns, ended = [], torch.zeros(len(source), dtype=torch.bool)
    for _ in range(max_length):
        token = model.decode(reads, memory, memory_mask=source_mask)[:, -1].argmax(-1)
        columns.append(token.masked_fill(ended, pad_id))
        reads = torch.cat([reads, token.masked_fill(ended, end_id)[:, None]], dim=1)
        ended = ended | (token == end_id)
        if bool(ended.all()):
            break
    return torch.stack(columns, dim=1)


@greedy_decode.also_right
def one_memory_read_row_by_row(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)
    rows = []
    for index in range(len(source)):
        mask = None if source_mask is None else source_mask[[index]]
        ids = [start_id]
        while len(ids) <= max_length and (len(ids) == 1 or ids[-1] != end_id):
            logits = model.decode(torch.tensor([ids]), memory[[index]], memory_mask=mask)
            ids.append(int(logits[0, -1].argmax()))
        rows.append(torch.tensor(ids[1:]))
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)


@greedy_decode.also_right
def recursive(model, source, source_mask, start_id, end_id, pad_id, max_length):
    memory = model.encode(source, source_mask)

    def go_on(ids, ended):
        if ids.size(1) == max_length + 1 or ended.all():
            return ids[:, 1:]
        token = model.decode(ids, memory, memory_mask=source_mask)[:, -1].argmax(-1)
        token = torch.where(ended, torch.tensor(pad_id), token)
        return go_on(torch.column_stack([ids, token]), ended | token.eq(end_id))

    return go_on(torch.full((len(source), 1), start_id), torch.zeros(len(source), dtype=torch.bool))


greedy_decode.hint(
    "Begin with a column of start tokens, `ids` (batch, 1), and a boolean `ended` (batch,) that is False throughout."
)
greedy_decode.hint(
    "In the loop: logits of the newest place, argmax over the vocabulary; rows that have ended take `pad_id` instead "
    "(`masked_fill` or `torch.where`). Then append the column."
)
greedy_decode.hint(
    "`ended |= token == end_id` after the padding has been filled in; leave the loop when `ended.all()`. The start "
    "token is no part of the result."
)

# --- KeyValueCache ---------------------------------------------------------------------------------------------

key_value_cache = Exercise(
    "KeyValueCache", returns=["keys (batch, heads, length, d_head)", "values (batch, heads, length, d_head)"]
)


def _append(draw, batch, heads, new, d_head, dtype=torch.float32, cache=0):
    shape = (batch, heads, new, d_head)
    return {
        "cache": cache,
        "call": "append",
        "args": [draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)],
    }


def _select(*rows, cache=0):
    return {"cache": cache, "call": "select", "args": [torch.tensor(rows)]}


def _script(*steps, caches=1):
    return {"caches": caches, "script": list(steps)}


@key_value_cache.case("three tokens, one after the other", scenario="cache")
def _(draw):
    return _script(*(_append(draw, 2, 2, 1, 3) for _ in range(3)))


@key_value_cache.case("a prefix of three tokens, then one, then two", scenario="cache")
def _(draw):
    return _script(*(_append(draw, 2, 3, new, 4) for new in (3, 1, 2)))


@key_value_cache.case("one token, and no more", scenario="cache")
def _(draw):
    return _script(_append(draw, 3, 2, 1, 4))


@key_value_cache.case("batch, heads, tokens and d_head all two", scenario="cache")
def _(draw):
    return _script(*(_append(draw, 2, 2, 2, 2) for _ in range(3)))


@key_value_cache.case("a batch of one with one head", scenario="cache")
def _(draw):
    return _script(*(_append(draw, 1, 1, new, 3) for new in (1, 1, 4)))


@key_value_cache.case("bfloat16", scenario="cache")
def _(draw):
    return _script(*(_append(draw, 2, 2, new, 3, torch.bfloat16) for new in (2, 1)))


@key_value_cache.case("two layers, a cache each, in turn", scenario="cache")
def _(draw):
    steps = [_append(draw, 2, 2, new, 3, cache=layer) for new in (2, 1, 1) for layer in (0, 1)]
    return _script(*steps, caches=2)


@key_value_cache.case("a second cache of another batch, after the first", scenario="cache")
def _(draw):
    first = [_append(draw, 2, 2, 1, 3) for _ in range(2)]
    return _script(*first, *(_append(draw, 3, 2, 1, 3, cache=1) for _ in range(2)), caches=2)


@key_value_cache.case("many tokens: 2, then 2,100, then 1", scenario="cache")
def _(draw):
    return _script(*(_append(draw, 1, 1, new, 1) for new in (2, 2100, 1)))


@key_value_cache.case("twenty tokens, one after the other", scenario="cache")
def _(draw):
    return _script(*(_append(draw, 1, 2, 1, 1) for _ in range(20)))


@key_value_cache.case("the rows are put into another order", scenario="cache")
def _(draw):
    return _script(_append(draw, 3, 2, 2, 3), _select(2, 0, 1), _append(draw, 3, 2, 1, 3))


@key_value_cache.case("rows come twice, others go, and then there are fewer", scenario="cache")
def _(draw):
    return _script(
        _append(draw, 3, 2, 2, 3),
        _append(draw, 3, 2, 1, 3),
        _select(1, 1, 2),
        _append(draw, 3, 2, 1, 3),
        _select(2, 0),
        _append(draw, 2, 2, 1, 3),
    )


@key_value_cache.case("a row takes the place of another", scenario="cache")
def _(draw):
    return _script(_append(draw, 3, 2, 1, 3), _select(1, 1, 2), _append(draw, 3, 2, 2, 3))


@key_value_cache.case("one row becomes four", scenario="cache")
def _(draw):
    return _script(_append(draw, 1, 2, 1, 3), _select(0, 0, 0, 0), _append(draw, 4, 2, 1, 3))


@key_value_cache.case("select on an empty cache does nothing", scenario="cache")
def _(draw):
    return _script(_select(1, 0), _append(draw, 2, 2, 1, 3), _append(draw, 2, 2, 1, 3))


@key_value_cache.case("select with two caches moves one of them", scenario="cache")
def _(draw):
    first = [_append(draw, 2, 2, 2, 3, cache=layer) for layer in (0, 1)]
    return _script(*first, _select(1, 0), *(_append(draw, 2, 2, 1, 3, cache=layer) for layer in (0, 1)), caches=2)


_SHARED = (
    "All caches are one: what you keep belongs to the class (or is a default argument), not to the object, so one "
    "layer's keys end up in the next layer's cache. Make it in `__init__`: `self.… = …`."
)
_HEADS_GREW = (
    "You join along dimension 1, the heads: they grow, and not the tokens. Tokens are dimension 2 of (batch, heads, "
    "tokens, d_head), or -2."
)
_BATCH_GREW = "You join along dimension 0, the batch. Tokens are dimension 2 of (batch, heads, tokens, d_head), or -2."
_WIDTH_GREW = (
    "You join along the last dimension, so each key becomes longer. Tokens are dimension 2 of (batch, heads, tokens, "
    "d_head), or -2."
)
_LENGTH_COUNTS_TOKENS = "`length` is how many tokens a row has so far: the size of dimension 2 of all keys."
_ROOM = (
    "Your cache has room for a fixed number of tokens. A decode may be longer than any number thought of beforehand: "
    "join what is there with what is new, or make more room."
)
_ONLY_NEW = "`append` gives back the new keys and values alone. Asked are all of them, the earlier ones first."
_SELECT_NOTHING = (
    "`select` changes nothing that is kept. It is to keep rows `rows` of the batch, in that order: index dimension 0 "
    "of keys and values, and store the result."
)
_SELECT_IN_PLACE = (
    "`select` writes into the tensors that `append` has already given out, and the number of rows may change. Store a "
    "new tensor: `self.keys = self.keys[rows]`."
)

_KEYS_JOINED = "self.keys = torch.cat([self.keys, keys], dim=2)"
_VALUES_JOINED = "self.values = torch.cat([self.values, values], dim=2)"
_SELECTED = "self.keys, self.values = self.keys[rows], self.values[rows]"

for _name, _dim, _sentence in (
    ("heads_grew", 1, _HEADS_GREW),
    ("batch_grew", 0, _BATCH_GREW),
    ("width_grew", 3, _WIDTH_GREW),
):
    key_value_cache.slip(_name, _sentence, {
        _KEYS_JOINED: _KEYS_JOINED.replace("dim=2", f"dim={_dim}"),
        _VALUES_JOINED: _VALUES_JOINED.replace("dim=2", f"dim={_dim}"),
    })  # fmt: skip
key_value_cache.slip("length_of_heads", _HEADS_GREW + " `length` is then the number of heads.", {
    _KEYS_JOINED: _KEYS_JOINED.replace("dim=2", "dim=1"),
    _VALUES_JOINED: _VALUES_JOINED.replace("dim=2", "dim=1"),
    "self.length = self.keys.size(2)": "self.length = self.keys.size(1)",
})  # fmt: skip
key_value_cache.slip(
    "values_stay_behind",
    "The keys grow, the values do not: join the values as well, along dimension 2.",
    {_VALUES_JOINED: "self.values = values"},
)
key_value_cache.slip(
    "keys_stay_behind",
    "The values grow, the keys do not: join the keys as well, along dimension 2.",
    {_KEYS_JOINED: "self.keys = keys"},
)
key_value_cache.slip(
    "values_joined_to_keys",
    "You join the new values to the *keys*. Each has a store of its own.",
    {_VALUES_JOINED: "self.values = torch.cat([self.keys[:, :, : self.length], values], dim=2)"},
)
key_value_cache.slip(
    "newest_first",
    "You put the new tokens in front of the old ones. The order of the tokens is that of the keys: old ones first.",
    {
        _KEYS_JOINED: "self.keys = torch.cat([keys, self.keys], dim=2)",
        _VALUES_JOINED: "self.values = torch.cat([values, self.values], dim=2)",
    },
)
key_value_cache.slip(
    "overwritten",
    "You keep the newest tokens alone: those before are lost. Join them with what is there, along dimension 2.",
    {_KEYS_JOINED: "self.keys = keys", _VALUES_JOINED: "self.values = values"},
)
key_value_cache.slip("only_new_returned", _ONLY_NEW, {"return self.keys, self.values": "return keys, values"})
key_value_cache.slip(
    "swapped",
    "`append` gives back the values first. Return the keys first, then the values.",
    {"return self.keys, self.values": "return self.values, self.keys"},
)
key_value_cache.slip(
    "keys_returned_twice",
    "`append` gives back the keys twice. The second result is all values.",
    {"return self.keys, self.values": "return self.keys, self.keys"},
)
key_value_cache.slip(
    "nothing_returned",
    "`append` returns nothing. Asked are all keys and all values so far.",
    {"        return self.keys, self.values\n": ""},
)
key_value_cache.slip(
    "stacked_result",
    "`append` gives back one tensor. Asked are two things: keys, values.",
    {"return self.keys, self.values": "return torch.stack([self.keys, self.values])"},
)
key_value_cache.slip(
    "calls_counted",
    "`length` counts the calls of `append`. One call may bring several tokens: count tokens.",
    {"self.length = self.keys.size(2)": "self.length += 1"},
)
key_value_cache.slip(
    "length_is_the_newest",
    "`length` is only the number of tokens that came last. It counts all so far.",
    {"self.length = self.keys.size(2)": "self.length = keys.size(2)"},
)
key_value_cache.slip(
    "length_is_the_batch",
    _LENGTH_COUNTS_TOKENS + " `len(keys)` and `size(0)` are the batch.",
    {"self.length = self.keys.size(2)": "self.length = len(self.keys)"},
)
key_value_cache.slip(
    "length_is_heads",
    _LENGTH_COUNTS_TOKENS + " `size(1)` is the number of heads.",
    {"self.length = self.keys.size(2)": "self.length = self.keys.size(1)"},
)
key_value_cache.slip(
    "length_is_width",
    _LENGTH_COUNTS_TOKENS + " `size(-1)` is d_head.",
    {"self.length = self.keys.size(2)": "self.length = self.keys.size(-1)"},
)
key_value_cache.slip(
    "length_one_late",
    "`length` is set before the new tokens are in, so it is that of the call before. Set it at the end of `append`.",
    {
        "self.length = self.keys.size(2)": "pass",
        "        if self.length == 0:\n": "        self.length = 0 if self.keys is None else self.keys.size(2)\n"
        "        if self.length == 0:\n",
    },
)
key_value_cache.slip(
    "length_stays_zero",
    "`length` stays 0, and so every call begins anew. Count the new tokens in `append`.",
    {"        self.length = self.keys.size(2)\n": ""},
)


@key_value_cache.mistake(
    "`length` is a method. It is asked for as an attribute or a property, without brackets: set `self.length` in "
    "`append`, or put `@property` above it."
)
class LengthIsAMethod:
    def __init__(self):
        self.keys = self.values = None

    def length(self):
        return 0 if self.keys is None else self.keys.size(2)

    def append(self, keys, values):
        self.keys = keys if self.keys is None else torch.cat([self.keys, keys], dim=2)
        self.values = values if self.values is None else torch.cat([self.values, values], dim=2)
        return self.keys, self.values

    def select(self, rows):
        if self.keys is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]


@key_value_cache.mistake("`length` of an empty cache is asked for, too: it is 0 before anything has been appended.")
class NoLengthWhenEmpty:
    def __init__(self):
        self.keys = self.values = None

    @property
    def length(self):
        return None if self.keys is None else self.keys.size(2)

    def append(self, keys, values):
        self.keys = keys if self.keys is None else torch.cat([self.keys, keys], dim=2)
        self.values = values if self.values is None else torch.cat([self.values, values], dim=2)
        return self.keys, self.values

    def select(self, rows):
        if self.keys is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]


@key_value_cache.mistake(_SHARED)
class ListsOfTheClass:
    keys, values = [], []

    @property
    def length(self):
        return sum(part.size(2) for part in self.keys)

    def append(self, keys, values):
        self.keys.append(keys)
        self.values.append(values)
        return torch.cat(self.keys, dim=2), torch.cat(self.values, dim=2)

    def select(self, rows):
        self.keys[:] = [part[rows] for part in self.keys]
        self.values[:] = [part[rows] for part in self.values]


@key_value_cache.mistake(_SHARED)
class SharedDefault:
    def __init__(self, kept={}):  # noqa: B006
        self.kept = kept

    @property
    def length(self):
        return self.kept["keys"].size(2) if self.kept else 0

    def append(self, keys, values):
        for name, new in (("keys", keys), ("values", values)):
            self.kept[name] = torch.cat([self.kept[name], new], dim=2) if name in self.kept else new
        return self.kept["keys"], self.kept["values"]

    def select(self, rows):
        for name in self.kept:
            self.kept[name] = self.kept[name][rows]


@key_value_cache.mistake(_SHARED)
class AttributesOfTheClass:
    keys = values = None
    length = 0

    def append(self, keys, values):
        cls = type(self)
        cls.keys = keys if cls.keys is None else torch.cat([cls.keys, keys], dim=2)
        cls.values = values if cls.values is None else torch.cat([cls.values, values], dim=2)
        cls.length = cls.keys.size(2)
        return cls.keys, cls.values

    def select(self, rows):
        cls = type(self)
        if cls.keys is not None:
            cls.keys, cls.values = cls.keys[rows], cls.values[rows]


@key_value_cache.mistake(
    "`append` gives back lists of the pieces. Asked are two tensors, the pieces joined along dimension 2."
)
class ListsReturned:
    def __init__(self):
        self.keys, self.values = [], []

    @property
    def length(self):
        return sum(part.size(2) for part in self.keys)

    def append(self, keys, values):
        self.keys.append(keys)
        self.values.append(values)
        return list(self.keys), list(self.values)

    def select(self, rows):
        self.keys = [part[rows] for part in self.keys]
        self.values = [part[rows] for part in self.values]


@key_value_cache.mistake(
    "`torch.stack` makes a new dimension for the calls. The pieces are to be joined along the tokens that are there: "
    "`torch.cat(…, dim=2)`."
)
class Stacked:
    def __init__(self):
        self.keys, self.values = [], []

    @property
    def length(self):
        return sum(part.size(2) for part in self.keys)

    def append(self, keys, values):
        self.keys.append(keys)
        self.values.append(values)
        return torch.stack(self.keys, dim=2), torch.stack(self.values, dim=2)

    def select(self, rows):
        self.keys = [part[rows] for part in self.keys]
        self.values = [part[rows] for part in self.values]


@key_value_cache.mistake(_ROOM)
class FixedRoom:
    def __init__(self, places=64):
        self.places, self.length, self.keys, self.values = places, 0, None, None

    def append(self, keys, values):
        if self.keys is None:
            batch, heads, _, width = keys.shape
            self.keys = keys.new_zeros(batch, heads, self.places, width)
            self.values = values.new_zeros(batch, heads, self.places, width)
        end = self.length + keys.size(2)
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def select(self, rows):
        if self.keys is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]


@key_value_cache.mistake(_ROOM)
class FixedRoomOfAThousand:
    def __init__(self):
        self.length, self.keys, self.values = 0, None, None

    def append(self, keys, values):
        if self.keys is None:
            batch, heads, _, width = keys.shape
            self.keys = torch.zeros(batch, heads, 1024, width, dtype=keys.dtype)
            self.values = torch.zeros(batch, heads, 1024, width, dtype=keys.dtype)
        end = self.length + keys.size(2)
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def select(self, rows):
        if self.keys is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]


@key_value_cache.mistake(
    "You give back all the room, the empty places included. Only the first `length` places hold tokens."
)
class WholeRoomReturned:
    def __init__(self):
        self.length, self.keys, self.values = 0, None, None

    def append(self, keys, values):
        if self.keys is None:
            batch, heads, _, width = keys.shape
            self.keys = keys.new_zeros(batch, heads, 64, width)
            self.values = values.new_zeros(batch, heads, 64, width)
        end = self.length + keys.size(2)
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys, self.values

    def select(self, rows):
        if self.keys is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]


_FLOAT32 = (
    "Keys of lower precision come out as float32: you convert them, or join them to an empty float32 tensor. Keep the "
    "dtype that comes in: begin with None, or with `keys.new_empty(…)`."
)


@key_value_cache.mistake(_FLOAT32)
class AlwaysFloat32:
    def __init__(self):
        self.keys = self.values = torch.zeros(0)
        self.length = 0

    def append(self, keys, values):
        keys, values = keys.float(), values.float()
        self.keys = torch.cat([self.keys, keys], dim=2) if self.length else keys
        self.values = torch.cat([self.values, values], dim=2) if self.length else values
        self.length = self.keys.size(2)
        return self.keys, self.values

    def select(self, rows):
        if self.length:
            self.keys, self.values = self.keys[rows], self.values[rows]


@key_value_cache.mistake(_FLOAT32)
class BeginsWithAnEmptyTensor:
    def __init__(self):
        self.keys, self.values, self.length = torch.empty(0), torch.empty(0), 0

    def append(self, keys, values):
        self.keys = torch.cat([self.keys, keys], dim=-2)
        self.values = torch.cat([self.values, values], dim=-2)
        self.length = self.keys.size(-2)
        return self.keys, self.values

    def select(self, rows):
        if self.length:
            self.keys, self.values = self.keys[rows], self.values[rows]


@key_value_cache.mistake(
    "You move the tokens within one tensor and give that tensor out: what an earlier call gave changes with the next. "
    "Give out what later calls do not write into."
)
class Rolled:
    def __init__(self):
        self.length, self.keys, self.values = 0, None, None

    def append(self, keys, values):
        new = keys.size(2)
        if self.keys is None:
            batch, heads, _, width = keys.shape
            self.keys = keys.new_zeros(batch, heads, 4096, width)
            self.values = values.new_zeros(batch, heads, 4096, width)
        for room, fresh in ((self.keys, keys), (self.values, values)):
            room[:] = room.roll(-new, dims=2)
            room[:, :, -new:] = fresh
        self.length += new
        return self.keys[:, :, -self.length :], self.values[:, :, -self.length :]

    def select(self, rows):
        if self.keys is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]


key_value_cache.slip("select_does_nothing", _SELECT_NOTHING, {_SELECTED: "pass"})
key_value_cache.slip(
    "select_gives_back",
    _SELECT_NOTHING,
    {_SELECTED: "return self.keys[rows], self.values[rows]"},
)
key_value_cache.slip(
    "select_keys_alone",
    "`select` takes the rows of the keys alone: the values of each row must go with its keys.",
    {_SELECTED: "self.keys = self.keys[rows]"},
)
key_value_cache.slip(
    "select_values_alone",
    "`select` takes the rows of the values alone: the keys of each row must go with its values.",
    {_SELECTED: "self.values = self.values[rows]"},
)
key_value_cache.slip(
    "select_tokens",
    "`select` picks tokens (dimension 2). The rows of the batch are dimension 0.",
    {_SELECTED: "self.keys, self.values = self.keys[:, :, rows], self.values[:, :, rows]"},
)
key_value_cache.slip(
    "select_heads",
    "`select` picks heads (dimension 1). The rows of the batch are dimension 0.",
    {_SELECTED: "self.keys, self.values = self.keys[:, rows], self.values[:, rows]"},
)
key_value_cache.slip(
    "select_needs_something",
    "`select` on an empty cache is to do nothing, and yours fails: ask first whether there is anything.",
    {"        if self.length:\n            " + _SELECTED: "        " + _SELECTED},
)
key_value_cache.slip(
    "select_without_repeats",
    "`select` takes each row only once, or sorts them. A row may come more than once, and the order is that of `rows`.",
    {_SELECTED: "rows = rows.unique()\n            " + _SELECTED},
)
key_value_cache.slip(
    "select_sorted",
    "`select` puts the rows into their old order. The order is that of `rows`.",
    {_SELECTED: "rows = rows.sort().values\n            " + _SELECTED},
)
key_value_cache.slip(
    "select_inverted",
    "`select` moves row i *to* place rows[i]. Asked is the other way: row i of what is kept is row rows[i] of before, "
    "`keys[rows]`.",
    {_SELECTED: "rows = rows.argsort()\n            " + _SELECTED},
)
key_value_cache.slip(
    "select_prefix",
    "`select` keeps the first rows, as many as are asked for. Keep those that `rows` names, in that order.",
    {_SELECTED: "self.keys, self.values = self.keys[: len(rows)], self.values[: len(rows)]"},
)
key_value_cache.slip(
    "select_copies_in_place",
    _SELECT_IN_PLACE,
    {_SELECTED: "self.keys[:], self.values[:] = self.keys[rows], self.values[rows]"},
)
key_value_cache.slip(
    "select_appends",
    "`select` puts the chosen rows below those that are there. It is to keep them alone.",
    {
        _SELECTED: "self.keys = torch.cat([self.keys, self.keys[rows]])\n"
        "            self.values = torch.cat([self.values, self.values[rows]])"
    },
)
key_value_cache.slip(
    "select_forgets",
    "`select` empties the cache. It is to keep all tokens of the rows that `rows` names.",
    {_SELECTED: "self.keys, self.values, self.length = None, None, 0"},
)
key_value_cache.slip(
    "select_masks",
    "`select` takes `rows` for a mask. It holds the numbers of rows: `keys[rows]` with rows as they are.",
    {_SELECTED: "rows = rows.bool()\n            " + _SELECTED},
)

key_value_cache.slip(
    "length_after_select_is_the_batch",
    "`select` sets `length` to the number of rows. It counts tokens, and those are as many as before.",
    {_SELECTED: _SELECTED + "\n            self.length = len(rows)"},
)
key_value_cache.slip(
    "oldest_dropped",
    "You keep the newest tokens only, and drop the oldest. New tokens attend to all of them: nothing goes.",
    {
        "        self.length = self.keys.size(2)\n": "        self.keys, self.values = self.keys[:, :, -16:], "
        "self.values[:, :, -16:]\n        self.length = self.keys.size(2)\n"
    },
)
key_value_cache.slip(
    "length_returned_too",
    "`append` gives back three things. Asked are two: all keys, all values. The length is an attribute.",
    {"return self.keys, self.values": "return self.keys, self.values, self.length"},
)
key_value_cache.slip(
    "truth_of_a_tensor",
    "`if self.keys:` asks whether a tensor is true, which it only knows for a single number. Ask `if self.keys is "
    "None`, or for `self.length`.",
    {"        if self.length == 0:\n": "        if not self.keys:\n"},
)
key_value_cache.slip(
    "length_of_all_rows",
    "`length` counts the tokens of all rows together. It is how many *each* row has: dimension 2.",
    {"self.length = self.keys.size(2)": "self.length = self.keys.size(0) * self.keys.size(2)"},
)

key_value_cache.also("joined_from_behind", {_KEYS_JOINED: _KEYS_JOINED.replace("dim=2", "dim=-2"),
                                            _VALUES_JOINED: _VALUES_JOINED.replace("dim=2", "dim=-2")})  # fmt: skip
key_value_cache.also("index_select", {
    _SELECTED: "self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)"
})  # fmt: skip
key_value_cache.also("length_added_up", {"self.length = self.keys.size(2)": "self.length += keys.shape[-2]"})


@key_value_cache.also_right
class Property:
    def __init__(self):
        self._keys = None
        self._values = None

    @property
    def length(self):
        return 0 if self._keys is None else self._keys.shape[2]

    def append(self, keys, values):
        if self._keys is None:
            self._keys, self._values = keys.clone(), values.clone()
        else:
            self._keys = torch.cat((self._keys, keys), 2)
            self._values = torch.cat((self._values, values), 2)
        return self._keys, self._values

    def select(self, rows):
        if self._keys is None:
            return
        self._keys, self._values = self._keys[rows], self._values[rows]


@key_value_cache.also_right
class ListsOfPieces:
    def __init__(self):
        self.pieces = []

    @property
    def length(self):
        return sum(keys.size(2) for keys, _ in self.pieces)

    def append(self, keys, values):
        self.pieces.append((keys, values))
        return tuple(torch.cat(each, dim=2) for each in zip(*self.pieces, strict=True))

    def select(self, rows):
        self.pieces = [(keys[rows], values[rows]) for keys, values in self.pieces]
        return self


@key_value_cache.also_right
class BothInOne:
    """Keys and values in one tensor (2, batch, heads, tokens, d_head)."""

    def __init__(self):
        self.both, self.length = None, 0

    def append(self, keys, values):
        new = torch.stack([keys, values])
        self.both = new if self.both is None else torch.cat([self.both, new], dim=3)
        self.length = self.both.size(3)
        return self.both.unbind(0)

    def select(self, rows):
        if self.both is not None:
            self.both = self.both[:, rows]


@key_value_cache.also_right
class RoomThatGrows:
    """Room that doubles when it is full."""

    def __init__(self):
        self.length, self.keys, self.values = 0, None, None

    def append(self, keys, values):
        end = self.length + keys.size(2)
        if self.keys is None or self.keys.size(2) < end:
            self.keys, self.values = (self._grown(old, new, 2 * end) for old, new in
                                      ((self.keys, keys), (self.values, values)))  # fmt: skip
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _grown(self, old, new, places):
        room = new.new_zeros(*new.shape[:2], places, new.size(3))
        if old is not None:
            room[:, :, : self.length] = old[:, :, : self.length]
        return room

    def select(self, rows):
        if self.keys is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]


@key_value_cache.also_right
class AModule(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("keys", None)
        self.register_buffer("values", None)
        self.length = 0

    def append(self, keys, values):
        self.keys = torch.cat([each for each in (self.keys, keys) if each is not None], dim=2)
        self.values = torch.cat([each for each in (self.values, values) if each is not None], dim=2)
        self.length += keys.size(2)
        return self.keys, self.values

    def select(self, rows):
        if self.length > 0:
            self.keys = self.keys[rows]
            self.values = self.values[rows]


@key_value_cache.also_right
class BeginsEmpty:
    """Empty tensors of the right shape, made at the first call."""

    def __init__(self):
        self.keys = self.values = None

    @property
    def length(self):
        return 0 if self.keys is None else self.keys.size(2)

    def append(self, keys, values):
        if not self.length:
            self.keys, self.values = keys[:, :, :0], values[:, :, :0]
        self.keys, self.values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        return self.keys.detach(), self.values.detach()

    def select(self, rows):
        if self.length:
            self.keys = torch.stack([self.keys[row] for row in rows.tolist()])
            self.values = torch.stack([self.values[row] for row in rows.tolist()])


key_value_cache.hint("Keep two tensors in `self`, made in `__init__` as None. The first `append` has nothing to join.")
key_value_cache.hint(
    "Keys are (batch, heads, tokens, d_head). Along which dimension does the cache grow? Then "
    "`torch.cat([old, new], dim=…)`."
)
key_value_cache.hint(
    "`select`: a tensor of row numbers is an index, `self.keys[rows]`, of dimension 0. On an empty cache there is "
    "nothing to do."
)

# --- attend_with_cache -----------------------------------------------------------------------------------------

attend_with_cache = Exercise(
    "attend_with_cache", returns=["output (batch, new, d_model)", "weights (batch, heads, new, all)"]
)

_RECORD = {"name": "masked_attention", "as": "attention.attention", "loosely": ["mask"]}


def _weights_of(draw, d_model, dtype):
    shapes = {}
    for name in ("query", "key", "value", "output"):
        shapes |= {f"{name}__weight": (d_model, d_model), f"{name}__bias": (d_model,)}
    return {name: weight.to(dtype) for name, weight in sorted(draw.weights(**shapes).items())}


def _cached(draw, d_model, heads, *script, layers=1, caches=1, dtype=torch.float32, without_weights=False):
    """Inputs of the scenario ``cached_attention``."""
    record = _RECORD | ({"without_weights": True} if without_weights else {})
    attentions = [_weights_of(draw, d_model, dtype) for _ in range(layers)]
    return {
        "size": [d_model, heads],
        "attentions": attentions,
        "record": record,
        "caches": caches,
        "script": list(script),
    }


def _new(draw, batch, new, d_model, mask=None, layer=0, cache=0, **more):
    return {"layer": layer, "cache": cache, "states": draw.normal(batch, new, d_model), "mask": mask} | more


@attend_with_cache.case("three tokens with a causal mask, then one", scenario="cached_attention")
def _(draw):
    return _cached(draw, 4, 2, _new(draw, 2, 3, 4, causal(3, 3)), _new(draw, 2, 1, 4))


@attend_with_cache.case("one token at a time, no mask", scenario="cached_attention")
def _(draw):
    return _cached(draw, 4, 2, *(_new(draw, 2, 1, 4) for _ in range(4)))


@attend_with_cache.case("all at once into an empty cache", scenario="cached_attention")
def _(draw):
    return _cached(draw, 4, 2, _new(draw, 2, 4, 4, causal(4, 4)))


@attend_with_cache.case("two new tokens after three, causal_mask(2, 5), then one", scenario="cached_attention")
def _(draw):
    return _cached(
        draw, 6, 3, _new(draw, 2, 3, 6, causal(3, 3)), _new(draw, 2, 2, 6, causal(2, 5)), _new(draw, 2, 1, 6)
    )


@attend_with_cache.case("several new tokens and no mask: each may see all", scenario="cached_attention")
def _(draw):
    return _cached(draw, 4, 2, _new(draw, 2, 2, 4), _new(draw, 2, 3, 4))


@attend_with_cache.case("a row whose first token is hidden, (batch, 1, 1, all)", scenario="cached_attention")
def _(draw):
    def seen(count):
        mask = torch.ones(2, 1, 1, count, dtype=torch.bool)
        mask[1, ..., 0] = False
        return mask

    first = causal(2, 2) & seen(2)
    first[1, 0, 0, 0] = True  # each query sees something
    return _cached(draw, 4, 2, _new(draw, 2, 2, 4, first), *(_new(draw, 2, 1, 4, seen(count)) for count in (3, 4)))


@attend_with_cache.case("a mask for each head and query", scenario="cached_attention")
def _(draw):
    return _cached(draw, 4, 2, _new(draw, 2, 2, 4, draw.mask(2, 2, 2, 2)), _new(draw, 2, 3, 4, draw.mask(2, 2, 3, 5)))


@attend_with_cache.case("a query that may attend to nothing", scenario="cached_attention")
def _(draw):
    nothing = torch.zeros(2, 1, 1, 3, dtype=torch.bool)
    nothing[0] = True
    return _cached(draw, 4, 2, _new(draw, 2, 2, 4, causal(2, 2)), _new(draw, 2, 1, 4, nothing))


@attend_with_cache.case("two layers, a cache each, in turn", scenario="cached_attention")
def _(draw):
    first = [_new(draw, 2, 2, 4, causal(2, 2), layer=layer, cache=layer) for layer in (0, 1)]
    later = [_new(draw, 2, 1, 4, layer=layer, cache=layer) for _ in range(2) for layer in (0, 1)]
    return _cached(draw, 4, 2, *first, *later, layers=2, caches=2)


@attend_with_cache.case("the same attention again, with a new cache for another batch", scenario="cached_attention")
def _(draw):
    first = [_new(draw, 3, 1, 4) for _ in range(2)]
    return _cached(draw, 4, 2, *first, *(_new(draw, 2, 1, 4, cache=1) for _ in range(2)), caches=2)


@attend_with_cache.case("a batch of one, one head", scenario="cached_attention")
def _(draw):
    return _cached(draw, 4, 1, _new(draw, 1, 1, 4), _new(draw, 1, 2, 4, causal(2, 3)))


@attend_with_cache.case("batch, heads, new tokens and d_head all four", scenario="cached_attention")
def _(draw):
    return _cached(draw, 16, 4, _new(draw, 4, 4, 16, causal(4, 4)), _new(draw, 4, 4, 16, causal(4, 8)))


@attend_with_cache.case("float64, not contiguous, by name", scenario="cached_attention")
def _(draw):
    def step(new, mask):
        states = draw.normal(2, 6, new, dtype=torch.float64).transpose(1, 2)
        return {"layer": 0, "cache": 0, "states": states, "mask": mask, "by_name": True}

    return _cached(draw, 6, 2, step(3, causal(3, 3)), step(1, None), step(2, causal(2, 6)), dtype=torch.float64)


@attend_with_cache.case("an attention that returns None for the weights, as fused ones do", scenario="cached_attention")
def _(draw):
    return _cached(draw, 4, 2, _new(draw, 2, 2, 4, causal(2, 2)), _new(draw, 2, 1, 4), without_weights=True)


_QUERY = "query = split_heads(attention.query(states), attention.heads)"
_KEY = "key = split_heads(attention.key(states), attention.heads)"
_VALUE = "value = split_heads(attention.value(states), attention.heads)"
_APPEND = "keys, values = cache.append(key, value)"
_ATTEND = "attention.attention(query, keys, values, mask)"
_BACK = "return attention.output(merge_heads(output)), weights"
_OWN_CAUSAL = (
    "You add a causal mask of your own. What a new token may see is the caller's to say, by `mask`; without one, each "
    "sees all that is in the cache, itself and the others of its call included."
)
_NOT_THE_PAST = (
    "The queries see the new tokens alone: what `cache.append` gave back is not used. It gives back *all* keys and "
    "values, and those are to be attended to."
)
_WHOLE_PREFIX = (
    "You take `states` for the whole prefix, and cut off what the cache has already. `states` holds the new tokens "
    "alone: all of them are new."
)
_MASK_CUT = (
    "You cut `mask` down. It comes as (…, new, all), just as wide as what the cache gives back: pass it on as it is."
)
_NOT_ITS_FUNCTION = (
    "You do not call `attention.attention`. It is what each head does, and may be another function (a fused one that "
    "gives None for the weights): call `attention.attention(query, keys, values, mask)`."
)
_NO_PAST = (
    "No token knows of those before it: what is in `cache` is not used. Append the new keys and values to the `cache` "
    "that is handed in, and attend to all that it gives back."
)
_SWAPPED = (
    "Keys and values are swapped on their way into the cache or out of it: `keys, values = cache.append(key, value)`."
)
_NOT_SPLIT = (
    "The heads are not split. A cache takes (batch, heads, new, d_head): query, key and value go through "
    "`split_heads(…, attention.heads)` first."
)
_OUTPUT_FIRST = (
    "`attention.output` is given heads that are not merged. It maps d_model features, all heads side by side: first "
    "`merge_heads`, then `attention.output`."
)
_OWN_PROJECTION = (
    "Each of query, key and value has a projection of its own: `attention.query`, `attention.key`, `attention.value`."
)
_KEPT_ON_THE_ATTENTION = (
    "You keep keys and values elsewhere than in `cache` (on the attention, or in the function), so the next word still "
    "sees those of the last. Use the `cache` that is handed in: the caller makes a new one for each decode."
)
_NEWEST_ALONE = (
    "You only take the newest of `states`. All of them are new: a first call brings a whole prefix, and each needs a "
    "key, a value and an output."
)

attend_with_cache.slip("past_ignored", _NOT_THE_PAST, {_ATTEND: "attention.attention(query, key, value, mask)"})
attend_with_cache.slip(
    "past_ignored_with_mask_cut",
    _NOT_THE_PAST,
    {
        _ATTEND: "attention.attention(query, key, value, None if mask is None else mask[..., -states.size(1) :])",
    },
)
attend_with_cache.slip(
    "cache_not_used",
    _NO_PAST,
    {_APPEND: "keys, values = key, value"},
)


@attend_with_cache.mistake(_NO_PAST)
def plain_attention(attention, states, cache, mask=None):
    return attention(states, mask=mask)


attend_with_cache.slip(
    "itself_left_out",
    "The new tokens do not see themselves: you attend to what was in the cache before. What `append` gives back has "
    "the new ones at its end, and they belong to it.",
    {
        _ATTEND: "attention.attention(query, keys[:, :, : -states.size(1)], values[:, :, : -states.size(1)], "
        "None if mask is None else mask[..., : -states.size(1)])"
    },
)
attend_with_cache.slip(
    "appended_twice",
    "You append twice in one call, so every new token is in the cache twice. One call, one `append`.",
    {_APPEND: "cache.append(key, value)\n    keys, values = cache.append(key, value)"},
)
attend_with_cache.slip(
    "keys_then_values",
    "You append keys and values in two calls, and each time both stores grow. `append` takes both at once.",
    {_APPEND: "keys, _ = cache.append(key, key)\n    _, values = cache.append(value, value)"},
)
attend_with_cache.slip(
    "appended_in_the_end",
    "You join keys and values yourself *and* append them afterwards: the cache is asked with an empty piece. Append "
    "first, once, and attend to what that gives back.",
    {
        _APPEND: "keys, values = cache.append(key[:, :, :0], value[:, :, :0])\n"
        "    keys, values = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)\n"
        "    cache.append(key, value)"
    },
)
attend_with_cache.slip(
    "token_by_token",
    "You append the new tokens one by one. The result is right, and slow: `append` takes all new tokens of a call at "
    "once.",
    {
        _APPEND: "for place in range(states.size(1)):\n"
        "        keys, values = cache.append(key[:, :, place : place + 1], value[:, :, place : place + 1])"
    },
)
attend_with_cache.slip("own_causal_mask", _OWN_CAUSAL, {
    _ATTEND: "attention.attention(query, keys, values, causal_mask(query.size(2), keys.size(2)) if mask is None "
    "else mask & causal_mask(query.size(2), keys.size(2)))"
})  # fmt: skip
attend_with_cache.slip("causal_where_none", _OWN_CAUSAL, {
    _ATTEND: "attention.attention(query, keys, values, causal_mask(query.size(2), keys.size(2)) if mask is None "
    "else mask)"
})  # fmt: skip
attend_with_cache.slip("causal_instead", _OWN_CAUSAL + " And the `mask` that was handed in is not used.", {
    _ATTEND: "attention.attention(query, keys, values, causal_mask(query.size(2), keys.size(2)))"
})  # fmt: skip
attend_with_cache.slip(
    "causal_top_left",
    "You add a causal mask that is aligned at the top left, as `tril()` and `is_causal=True` of PyTorch are: one new "
    "query then sees key 0 alone. Add none at all; the caller hands over the mask.",
    {
        _ATTEND: "attention.attention(query, keys, values, torch.ones(query.size(2), keys.size(2), "
        "dtype=torch.bool).tril())"
    },
)
attend_with_cache.slip(
    "mask_not_passed_on",
    "`mask` is not passed on, so tokens see what is hidden from them.",
    {_ATTEND: "attention.attention(query, keys, values)"},
)
attend_with_cache.slip("mask_cut_to_its_last_row", _MASK_CUT, {
    _ATTEND: "attention.attention(query, keys, values, None if mask is None else mask[..., -1:, :])"
})  # fmt: skip
attend_with_cache.slip("mask_cut_by_the_cache", _MASK_CUT, {
    _ATTEND: "attention.attention(query, keys, values, None if mask is None else "
    "mask[..., -min(mask.size(-2), query.size(2)) :, : keys.size(2) - query.size(2)])"
})  # fmt: skip
attend_with_cache.slip(
    "mask_inverted",
    "You turn the mask round. In this course True means *may attend*: pass it on as it is.",
    {_ATTEND: "attention.attention(query, keys, values, None if mask is None else ~mask)"},
)
attend_with_cache.slip(
    "no_mask_for_one",
    "You drop the mask where one token is new. It need not be causal: it may hide padding, which the newest token must "
    "not read either. Pass it on.",
    {_ATTEND: "attention.attention(query, keys, values, None if states.size(1) == 1 else mask)"},
)
attend_with_cache.slip(
    "scaled_twice",
    "You divide the queries by √d_head, and `attention.attention` does so again. Leave it to the function.",
    {_QUERY: _QUERY + "\n    query = query / query.size(-1) ** 0.5"},
)
attend_with_cache.slip("newest_alone", _NEWEST_ALONE, {_QUERY: "states = states[:, -1:]\n    " + _QUERY})
attend_with_cache.slip("only_the_last_output", _NEWEST_ALONE, {
    _BACK: "return attention.output(merge_heads(output))[:, -1:], weights"
})  # fmt: skip
attend_with_cache.slip("newest_query_alone", _NEWEST_ALONE, {_QUERY: _QUERY.replace("(states)", "(states[:, -1:])")})
attend_with_cache.slip("cut_by_the_length", _WHOLE_PREFIX, {
    _QUERY: "states = states[:, cache.length :]\n    " + _QUERY
})  # fmt: skip
attend_with_cache.slip("keys_cut_by_the_length", _WHOLE_PREFIX, {
    _APPEND: "keys, values = cache.append(key[:, :, cache.length :], value[:, :, cache.length :])"
})  # fmt: skip
attend_with_cache.slip(
    "keys_and_values_swapped",
    _SWAPPED,
    {_APPEND: "keys, values = cache.append(value, key)"},
)
attend_with_cache.slip(
    "taken_back_swapped",
    _SWAPPED,
    {_APPEND: "values, keys = cache.append(key, value)"},
)
attend_with_cache.slip("keys_by_query_layer", _OWN_PROJECTION, {_KEY: _KEY.replace(".key(", ".query(")})
attend_with_cache.slip("values_by_key_layer", _OWN_PROJECTION, {_VALUE: _VALUE.replace(".value(", ".key(")})
attend_with_cache.slip("query_by_key_layer", _OWN_PROJECTION, {_QUERY: _QUERY.replace(".query(", ".key(")})
attend_with_cache.slip(
    "query_not_projected",
    "The queries are the bare states. They go through `attention.query` first.",
    {_QUERY: "query = split_heads(states, attention.heads)"},
)
attend_with_cache.slip(
    "states_appended",
    "You append the bare states. What is worth keeping is what has been computed from them: the projected keys and "
    "values.",
    {
        _KEY: "key = split_heads(states, attention.heads)",
        _VALUE: "value = key",
    },
)


@attend_with_cache.mistake(
    "You keep the *states*, and project all of them again in every call. The result is right, but the projections are "
    "the work that a cache is to save: keep keys and values."
)
def states_kept_and_projected_again(attention, states, cache, mask=None):
    everything, _ = cache.append(states.unsqueeze(1), states.unsqueeze(1))
    everything = everything.squeeze(1)
    query = split_heads(attention.query(states), attention.heads)
    keys = split_heads(attention.key(everything), attention.heads)
    values = split_heads(attention.value(everything), attention.heads)
    output, weights = attention.attention(query, keys, values, mask)
    return attention.output(merge_heads(output)), weights


@attend_with_cache.mistake(
    "You keep the *states*, and project all of them again in every call. The result is right, but the projections are "
    "the work that a cache is to save: keep keys and values."
)
def attention_over_kept_states(attention, states, cache, mask=None):
    everything, _ = cache.append(states.unsqueeze(1), states.unsqueeze(1))
    return attention(states, everything.squeeze(1), mask)


attend_with_cache.slip(
    "computed_twice",
    "The result is right, but the new tokens are projected a second time, for `attention(states)` whose result nobody "
    "needs. Once is enough.",
    {_QUERY: "attention(states)\n    " + _QUERY},
)


@attend_with_cache.mistake(
    "While the cache is empty you call `attention(states)`, which projects the new tokens a second time: their keys "
    "and values are in the cache already. No case apart is needed: attend to what `append` gives back."
)
def computed_twice_at_first(attention, states, cache, mask=None):
    key, value = (split_heads(layer(states), attention.heads) for layer in (attention.key, attention.value))
    first = cache.length == 0
    keys, values = cache.append(key, value)
    if first:
        return attention(states, mask=mask)
    output, weights = attention.attention(split_heads(attention.query(states), attention.heads), keys, values, mask)
    return attention.output(merge_heads(output)), weights


attend_with_cache.slip(
    "one_wide_head",
    _NOT_SPLIT,
    {
        _QUERY: "query = attention.query(states).unsqueeze(1)",
        _KEY: "key = attention.key(states).unsqueeze(1)",
        _VALUE: "value = attention.value(states).unsqueeze(1)",
    },
)
attend_with_cache.slip("heads_not_split", _NOT_SPLIT, {
    name: f"{what} = attention.{what}(states)" for name in (_QUERY, _KEY, _VALUE) for what in (name.split()[0],)
})  # fmt: skip
attend_with_cache.slip("output_before_merging", _OUTPUT_FIRST, {_BACK: (
    "return merge_heads(attention.output(output)), weights"
)})  # fmt: skip
attend_with_cache.slip("never_merged", _OUTPUT_FIRST, {_BACK: "return attention.output(output), weights"})
attend_with_cache.slip(
    "heads_by_view",
    "`view(batch, heads, tokens, d_head)` mixes tokens into the heads. Split the features first, then bring the heads "
    "forward: `split_heads` does both.",
    {
        name: f"{name.split()[0]} = attention.{name.split()[0]}(states).reshape(states.size(0), attention.heads, "
        "states.size(1), -1)"
        for name in (_QUERY, _KEY, _VALUE)
    },
)
attend_with_cache.slip(
    "heads_not_merged",
    "The heads are put together by `reshape` without bringing the tokens forward, so tokens and heads are mixed up: "
    "`merge_heads` does it right.",
    {_BACK: "return attention.output(output.reshape(states.shape)), weights"},
)
attend_with_cache.slip(
    "no_output_projection",
    "The output projection is missing: the heads lie side by side and were never mixed. `attention.output(…)`.",
    {_BACK: "return merge_heads(output), weights"},
)
attend_with_cache.slip(
    "weights_left_out",
    "Asked are two things: output, weights. The layer takes the first of two.",
    {_BACK: "return attention.output(merge_heads(output))"},
)
attend_with_cache.slip(
    "weights_averaged",
    "You average the weights over the heads. Return them as they come, (batch, heads, new, all).",
    {_BACK: "return attention.output(merge_heads(output)), None if weights is None else weights.mean(dim=1)"},
)
attend_with_cache.slip(
    "none_for_weights",
    "You return None for the weights, though `attention.attention` gave some: pass on what it gives.",
    {_BACK: "return attention.output(merge_heads(output)), None"},
)
attend_with_cache.slip(
    "swapped_results",
    "Output and weights are swapped: the output comes first.",
    {_BACK: "return weights, attention.output(merge_heads(output))"},
)
attend_with_cache.slip(
    "cache_returned",
    "You return keys and values. Asked are output and weights; the cache keeps the rest.",
    {_BACK: "return attention.output(merge_heads(output)), (keys, values)"},
)
attend_with_cache.slip(
    "residual_added",
    "You add the states to the output. The residual is the layer's affair; this is the attention alone.",
    {_BACK: "return states + attention.output(merge_heads(output)), weights"},
)
attend_with_cache.slip("masked_attention_called", _NOT_ITS_FUNCTION, {_ATTEND: _ATTEND.replace(
    "attention.attention(", "masked_attention("
)})  # fmt: skip


@attend_with_cache.mistake(_NOT_ITS_FUNCTION)
def fused_by_hand(attention, states, cache, mask=None):
    query, key, value = (
        split_heads(layer(states), attention.heads) for layer in (attention.query, attention.key, attention.value)
    )
    keys, values = cache.append(key, value)
    output = nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    return attention.output(merge_heads(output)), None


@attend_with_cache.mistake(
    "`is_causal=True` is aligned at the top left: with one new query it sees key 0 alone. And `mask` is not used, nor "
    "`attention.attention`, which takes it."
)
def is_causal(attention, states, cache, mask=None):
    query, key, value = (
        split_heads(layer(states), attention.heads) for layer in (attention.query, attention.key, attention.value)
    )
    keys, values = cache.append(key, value)
    output = nn.functional.scaled_dot_product_attention(query, keys, values, is_causal=True)
    return attention.output(merge_heads(output)), None


@attend_with_cache.mistake(_NOT_ITS_FUNCTION)
def scores_by_hand(attention, states, cache, mask=None):
    query, key, value = (
        split_heads(layer(states), attention.heads) for layer in (attention.query, attention.key, attention.value)
    )
    keys, values = cache.append(key, value)
    scores = query @ keys.transpose(-2, -1) / query.size(-1) ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights * mask
    return attention.output(merge_heads(weights @ values)), weights


@attend_with_cache.mistake(_KEPT_ON_THE_ATTENTION)
def kept_on_the_attention(attention, states, cache, mask=None):
    query, key, value = (
        split_heads(layer(states), attention.heads) for layer in (attention.query, attention.key, attention.value)
    )
    if not hasattr(attention, "cache"):
        attention.cache = cache
    keys, values = attention.cache.append(key, value)
    output, weights = attention.attention(query, keys, values, mask)
    return attention.output(merge_heads(output)), weights


@attend_with_cache.mistake(_NO_PAST)
def new_cache_each_call(attention, states, cache, mask=None):
    cache = KeyValueCache()
    query, key, value = (
        split_heads(layer(states), attention.heads) for layer in (attention.query, attention.key, attention.value)
    )
    keys, values = cache.append(key, value)
    output, weights = attention.attention(query, keys, values, mask)
    return attention.output(merge_heads(output)), weights


@attend_with_cache.mistake(
    "One cache serves all layers and all words: the one kept in a default argument. Use the `cache` that is handed in."
)
def one_cache_for_all(attention, states, cache, mask=None, mine=[]):  # noqa: B006
    query, key, value = (
        split_heads(layer(states), attention.heads) for layer in (attention.query, attention.key, attention.value)
    )
    mine += [KeyValueCache()] * (not mine)
    keys, values = mine[0].append(key, value)
    output, weights = attention.attention(query, keys, values, mask)
    return attention.output(merge_heads(output)), weights


attend_with_cache.slip(
    "squeezed",
    "You squeeze dimensions of size one away: where one token is new, its dimension is gone. Keep all three, (batch, "
    "new, d_model).",
    {_BACK: "return attention.output(merge_heads(output)).squeeze(1), weights"},
)


@attend_with_cache.mistake(
    "You change `states` in place. The layer still needs them, for the residual: work on a copy."
)
def changes_the_states(attention, states, cache, mask=None):
    query, key, value = (
        split_heads(layer(states), attention.heads) for layer in (attention.query, attention.key, attention.value)
    )
    output, weights = attention.attention(query, *cache.append(key, value), mask)
    states.copy_(attention.output(merge_heads(output)))
    return states, weights


attend_with_cache.also(
    "by_attributes", {_QUERY: "heads = attention.heads\n    query = split_heads(attention.query(states), heads)"}
)
attend_with_cache.also("mask_by_name", {_ATTEND: "attention.attention(query, keys, values, mask=mask)"})
attend_with_cache.also("a_tuple_passed_on", {_ATTEND: "attention.attention(query, *(keys, values), mask)"})


@attend_with_cache.also_right
def of_the_pieces_of_lesson_04(attention, states, cache, mask=None):
    keys, values = cache.append(*project_memory(attention, states))
    return cross_attention(attention, states, keys, values, mask)


@attend_with_cache.also_right
def by_functional_linear(attention, states, cache, mask=None):
    def projected(layer):
        flat = nn.functional.linear(states, layer.weight, layer.bias)
        return split_heads(flat, attention.heads)

    keys, values = cache.append(projected(attention.key), projected(attention.value))
    output, weights = attention.attention(projected(attention.query), keys, values, mask)
    return attention.output(merge_heads(output)), weights


@attend_with_cache.also_right
def split_by_hand(attention, states, cache, mask=None):
    batch, new, d_model = states.shape
    shape = (batch, new, attention.heads, d_model // attention.heads)
    q = attention.query(states).view(shape).transpose(1, 2)
    k = attention.key(states).view(shape).transpose(1, 2)
    v = attention.value(states).view(shape).transpose(1, 2)
    k, v = cache.append(k, v)
    o, w = attention.attention(q, k, v, mask)
    return attention.output(o.transpose(1, 2).reshape(batch, new, d_model)), w


@attend_with_cache.also_right
def one_product_for_three(attention, states, cache, mask=None):
    maps = (attention.query, attention.key, attention.value)
    weight = torch.cat([each.weight for each in maps])
    bias = torch.cat([each.bias for each in maps])
    query, key, value = (split_heads(part, attention.heads) for part in (states @ weight.T + bias).chunk(3, dim=-1))
    carried = attention.attention(query, *cache.append(key, value), mask)
    return attention.output(merge_heads(carried[0])), carried[1]


@attend_with_cache.also_right
def a_full_mask_for_none(attention, states, cache, mask=None):
    query, key, value = (
        split_heads(layer(states), attention.heads) for layer in (attention.query, attention.key, attention.value)
    )
    keys, values = cache.append(key, value)
    if mask is None:
        mask = torch.ones(states.size(1), cache.length, dtype=torch.bool)
    output, weights = attention.attention(query, keys, values, mask)
    return attention.output(merge_heads(output)), weights


@attend_with_cache.also_right
def without_gradients(attention, states, cache, mask=None):
    with torch.no_grad():
        query, key, value = (
            split_heads(layer(states), attention.heads) for layer in (attention.query, attention.key, attention.value)
        )
        keys, values = cache.append(key.contiguous(), value.contiguous())
        output, weights = attention.attention(query, keys, values, mask)
        return attention.output(merge_heads(output)), weights


attend_with_cache.hint(
    "It is the attention of lesson 02 with one line more. Between which two of its lines does the cache come?"
)
attend_with_cache.hint(
    "Query, key and value of the new tokens alone, heads split; then `keys, values = cache.append(key, value)`; then "
    "attend from the new queries to *all* keys."
)
attend_with_cache.hint(
    "`output, weights = attention.attention(query, keys, values, mask)`, then merge the heads and apply "
    "`attention.output`. No mask of your own."
)
