"""Lesson 06: six diagnoses, and three repairs."""

# ruff: noqa: F821 - mistakes and variants run in the lesson's set-up cell, as a student's answer does.
# mypy: ignore-errors

import torch

from autograder.exercise import Exercise, call
from autograder.exercises.training_steps import training_steps
from crosstalk.data.bug_clinic_faults import FAULTS, PATIENTS

# --- diagnoses -------------------------------------------------------------------------------------------------

diagnoses = Exercise("diagnoses", returns=["cause"])

_CAUSES = [name for name in FAULTS if name != "healthy"]


def _patient(letter):
    return lambda draw: {**call(letter), "names": _CAUSES}


for _letter in "ABCDEF":
    diagnoses.case(f"patient {_letter}", scenario="sealed")(_patient(_letter))

# For each patient and each wrong cause: which evidence speaks against it.
_AGAINST = {
    "A": {
        "input not shifted": "A's loss needs hundreds of steps and stops at 0.3. A decoder that reads its answer is "
        "done within a hundred, near 0.",
        "mask not causal": "A's loss stops at 0.3. A decoder that sees what comes would bring it to 0.",
        "labels shifted too": "A says *cat* and *thing* rightly, from the first phoneme on, before it runs on. Labels "
        "two ahead would leave out the first.",
        "softmax twice": "A's loss falls to 0.3. With a softmax too many it could not fall below 2.78.",
        "gradients never cleared": "A's curve lies on the healthy one. Gradients that pile up would make it jump.",
        "learning rate too high": "A's curve lies on the healthy one, and its weights went hardly further. Steps "
        "that are too long show in both.",
        "torn pairs": "A begins *cat* with K AE T and *thing* with TH IH NG, so it listens. With torn pairs a word "
        "would tell it nothing.",
        "same batch again": "A's loss on held-out words falls with the other. One batch learnt by heart would drive "
        "the two apart.",
        "source mask inverted": "A begins *cat* with K AE T and *thing* with TH IH NG, so it reads the letters. Behind "
        "an inverted mask it could not.",
        "no source positions": "A tells *cat* from *act*. Without positions the two would be the same to it.",
        "encoder not trained": "A's encoder moved as far as the healthy one's.",
    },
    "B": {
        "input not shifted": "Near: here too the answer is in the input. But B needs 200 to 300 steps to find it, "
        "and on its own it falls silent. One that only copies its input is done before step 100 and repeats one token "
        "for ever.",
        "labels shifted too": "Labels two ahead are still hard to guess, and such a loss stays above 0.4. B's goes "
        "to 0.",
        "softmax twice": "B's loss goes to 0. With a softmax too many it could not fall below 2.78.",
        "gradients never cleared": "B's loss falls to 0 and stays there. Gradients that pile up would throw it about.",
        "learning rate too high": "B's loss falls to 0 and its weights went no further than the healthy one's. Steps "
        "that are too long show in both.",
        "end token ignored": "B says the end token after every word, and says it far too early.",
        "torn pairs": "With torn pairs nothing tells which phoneme comes next, and the loss stays above 2. B's goes "
        "to 0, so it knows something that it should not.",
        "same batch again": "Near: the loss goes to 0. But B's loss on held-out words goes to 0 as well, so it has "
        "learnt nothing by heart.",
        "source mask inverted": "A model that cannot read its source has a loss above 2. B's goes to 0.",
        "no source positions": "Without positions in the source the loss would stay near 1. B's goes to 0, better "
        "than the healthy one's.",
        "encoder not trained": "B's encoder moved nearly as far as the healthy one's, and B's loss is too good to be "
        "true.",
    },
    "C": {
        "input not shifted": "C's loss never comes below 3. A decoder that reads its answer is near 0 within a "
        "hundred steps.",
        "mask not causal": "C's loss never comes below 3. A decoder that sees what comes would bring it to 0.",
        "labels shifted too": "C begins *cat* with K and *night* with N. Labels two ahead would leave out the first "
        "phoneme.",
        "gradients never cleared": "C's curve creeps down smoothly, and its weights went hardly further than the "
        "healthy one's. Gradients that pile up make it jump and throw the weights far away.",
        "learning rate too high": "C's curve creeps down smoothly, and its weights went hardly further than the "
        "healthy one's. Steps that are too long show in both.",
        "end token ignored": "C says the end token after every word.",
        "torn pairs": "Near: the loss stays high. But C says hundreds of different things, and two thirds of its "
        "tokens are right when it is fed the right prefix. It listens; it is the loss that cannot come down.",
        "same batch again": "C's loss on held-out words falls with the other. One batch learnt by heart would drive "
        "the two apart.",
        "source mask inverted": "C says hundreds of different things to 320 words, so it reads them.",
        "no source positions": "C tells *cat* from *act* at the end, and its loss is three times what a model without "
        "positions has.",
        "encoder not trained": "C's encoder moved as far as the healthy one's.",
    },
    "D": {
        "input not shifted": "D's loss stays above 2. A decoder that reads its answer is near 0 in a hundred steps.",
        "mask not causal": "D's loss stays above 2. A decoder that sees what comes would bring it to 0.",
        "labels shifted too": "D says two things to 320 words. With labels two ahead it would still listen to them.",
        "softmax twice": "D's loss is about 2.4. With a softmax too many it could not fall below 2.78.",
        "gradients never cleared": "D's curve is smooth, and its weights went hardly further than the healthy one's. "
        "Gradients that pile up show in both.",
        "learning rate too high": "D's curve is smooth, and its weights went hardly further than the healthy one's. "
        "Steps that are too long show in both.",
        "end token ignored": "D says the end token after every word.",
        "same batch again": "D's loss on held-out words is as high as the other, and does not rise. It has learnt "
        "nothing by heart.",
        "source mask inverted": "Near: behind an inverted mask nothing of the word would arrive, and D says nothing of "
        "its words either. But the source embedding would then get no gradient and stay where it was. D's moved as far "
        "as the healthy one's: it reads its words, and they do not help.",
        "no source positions": "Without positions *cat* and *act* would be the same to it, but *cat* and *island* "
        "would not. D says two things to 320 words.",
        "encoder not trained": "D's encoder moved as far as the healthy one's.",
    },
    "E": {
        "input not shifted": "E's loss stays near 1. A decoder that reads its answer is near 0 within a hundred steps.",
        "mask not causal": "E's loss stays near 1. A decoder that sees what comes would bring it to 0.",
        "labels shifted too": "E says *cat* rightly. Labels two ahead would leave out the first phoneme.",
        "softmax twice": "E's loss falls to about 1. With a softmax too many it could not fall below 2.78.",
        "gradients never cleared": "E's curve falls smoothly, and its weights went hardly further than the healthy "
        "one's. Gradients that pile up show in both.",
        "learning rate too high": "E's curve falls smoothly, and its weights went hardly further than the healthy "
        "one's. Steps that are too long show in both.",
        "end token ignored": "E says the end token after every word.",
        "torn pairs": "E says hundreds of different things, and uses the letters of the word, if in a wrong order. "
        "With torn pairs it would not listen at all.",
        "same batch again": "E's loss on held-out words falls with the other. One batch learnt by heart would drive "
        "the two apart.",
        "source mask inverted": "E uses the letters of each word, if in a wrong order. Behind an inverted mask it "
        "would not see them.",
        "encoder not trained": "Near: the encoder does too little. But E's moved as far as the healthy one's. Look at "
        "what E says to *cat* and to *act*.",
    },
    "F": {
        "input not shifted": "Near: the loss goes to 0. But a decoder that reads its answer does so on held-out words "
        "too, and F's loss there rises.",
        "mask not causal": "Near: the loss goes to 0. But a decoder that sees what comes has it at 0 on held-out words "
        "too, and F's loss there rises.",
        "labels shifted too": "Labels two ahead are still hard to guess, and such a loss stays above 0.4. F's training "
        "loss goes to 0.",
        "softmax twice": "F's training loss goes to 0. With a softmax too many it could not fall below 2.78.",
        "gradients never cleared": "F's training loss falls to 0 and stays there, and its weights moved less than the "
        "healthy one's. Gradients that pile up show in both.",
        "learning rate too high": "F's training loss falls to 0 and stays there, and its weights moved less than the "
        "healthy one's. Steps that are too long show in both.",
        "end token ignored": "F says the end token after every word.",
        "torn pairs": "With torn pairs the loss stays above 2. F's goes to 0 in training, and what it says to new "
        "words has something of their letters.",
        "source mask inverted": "F says 320 different things to 320 words, so it reads them. And its training loss "
        "goes to 0.",
        "no source positions": "Near: *cat* and *act* come out the same. But *night* and *thing* do not, and F's "
        "training loss goes to 0. Without positions it would stay near 1.",
        "encoder not trained": "F's encoder moved. Less than the healthy one's, but so did all of its parts.",
    },
}

for _letter, _sentences in _AGAINST.items():
    _line = f'    causes["{_letter}"] = "{{}}"\n'
    for _cause, _sentence in _sentences.items():
        diagnoses.slip(
            f"{_letter}_{_cause.replace(' ', '_')}",
            _sentence,
            {_line.format(PATIENTS[_letter]): _line.format(_cause)},
        )


@diagnoses.also_right
def as_a_chain(patient):
    if patient == "A":
        return "End token ignored"
    if patient == "B":
        return "Mask not causal"
    if patient == "C":
        return "softmax  twice"
    if patient == "D":
        return "torn pairs"
    return "no source positions" if patient == "E" else "same batch again"


@diagnoses.also_right
def as_a_dictionary(patient):
    return {
        "A": "end token ignored",
        "B": "mask not causal",
        "C": "softmax twice",
        "D": "torn pairs",
        "E": "no source positions",
        "F": "same batch again",
    }[patient]


@diagnoses.also_right
def in_the_order_of_the_letters(patient):
    causes = ["end token ignored", "mask not causal", "softmax twice"]
    causes += ["torn pairs", "no source positions", "same batch again"]
    return causes["ABCDEF".index(patient)]


@diagnoses.also_right
def as_a_match(patient):
    match patient:
        case "A":
            return "end token ignored"
        case "B":
            return "mask not causal"
        case "C":
            return "softmax twice"
        case "D":
            return "torn pairs"
        case "E":
            return "no source positions"
        case "F":
            return "same batch again"


diagnoses.hint("First sort by where the loss ends: near 0, where the healthy one ends, near 1, or above 2.")
diagnoses.hint(
    "Two training losses go to 0. Show the loss on held-out words: does it go along? Of the two that stay above 2, ask "
    "which one listens to its word."
)
diagnoses.hint(
    "For what is left, read the samples aloud. Does it stop? Does it tell *cat* from *act*? And for every guess: which "
    "figure would be different if it were the neighbouring cause?"
)

# --- repaired_batch --------------------------------------------------------------------------------------------

repaired_batch = Exercise("repaired_batch", returns=["source (batch, source)", "target (batch, length)"])


def _ragged(draw, lengths, low=3, high=9):
    return [draw.integers(low, high, length).tolist() for length in lengths]


@repaired_batch.case("three pairs in a new order")
def _(draw):
    return [[3, 4, 5], [6], [7, 8]], [[9, 3], [4, 5, 6], [7]], [2, 0, 1], 0, 1


@repaired_batch.case("pad_id is 9, end_id is 0; the order leaves one pair out")
def _(draw):
    return _ragged(draw, [2, 4, 3, 1]), _ragged(draw, [3, 1, 4, 2]), [3, 1, 2], 9, 0


@repaired_batch.case("pairs that keep their order")
def _(draw):
    return _ragged(draw, [3, 5]), _ragged(draw, [4, 2]), [0, 1], 0, 2


@repaired_batch.case("one pair")
def _(draw):
    return _ragged(draw, [4]), _ragged(draw, [3]), [0], 0, 2


@repaired_batch.case("all of the same length, where nothing is padded")
def _(draw):
    return _ragged(draw, [3, 3, 3, 3]), _ragged(draw, [3, 3, 3, 3]), [1, 3, 2, 0], 0, 2


@repaired_batch.case("a word without phonemes: its target is the end token alone")
def _(draw):
    return _ragged(draw, [2, 3, 1]), [[5, 6, 7], [], [4]], [1, 2, 0], 0, 2


_TORN = (
    "The sources are in the new order and the targets are not, so words and pronunciations no longer belong together. "
    "Take both from the same place `i`."
)
_END_AS_PADDING = (
    "You pad the targets with the end token. A loss that ignores padding then ignores every end, and the model never "
    "learns to stop."
)

repaired_batch.slip(
    "as_it_was",
    "Both faults are still there: the targets are not in the new order, and they are padded with the end token.",
    {
        "torch.tensor([*targets[i], end_id]) for i in order]": "torch.tensor([*target, end_id]) for target in targets]",
        "(ended, batch_first=True, padding_value=pad_id)": "(ended, batch_first=True, padding_value=end_id)",
    },
)
repaired_batch.slip(
    "still_torn",
    _TORN,
    {"torch.tensor([*targets[i], end_id]) for i in order]": "torch.tensor([*target, end_id]) for target in targets]"},
)
repaired_batch.slip(
    "still_padded_with_the_end",
    _END_AS_PADDING,
    {"(ended, batch_first=True, padding_value=pad_id)": "(ended, batch_first=True, padding_value=end_id)"},
)
repaired_batch.slip(
    "both_padded_with_the_end",
    "You pad sources and targets with the end token. Padding is `pad_id`, on both sides.",
    {
        "(ended, batch_first=True, padding_value=pad_id)": "(ended, batch_first=True, padding_value=end_id)",
        "(chosen, batch_first=True, padding_value=pad_id)": "(chosen, batch_first=True, padding_value=end_id)",
    },
)
repaired_batch.slip(
    "no_order_at_all",
    "The pairs are whole, but in their old order: take the pairs in the order that `order` gives.",
    {
        "torch.tensor([*targets[i], end_id]) for i in order]": "torch.tensor([*target, end_id]) for target in targets]",
        "torch.tensor(sources[i]) for i in order]": "torch.tensor(source) for source in sources]",
    },
)


@repaired_batch.mistake(
    "Sources and targets are each sorted on their own, so words and pronunciations no longer belong together. Take "
    "both in the order that `order` gives."
)
def sorted_apart(sources, targets, order, pad_id, end_id):
    sources, targets = sorted(sources, key=len), sorted(targets, key=len)
    source = pad_sequence([torch.tensor(ids) for ids in sources], batch_first=True, padding_value=pad_id)
    ended = [torch.tensor([*ids, end_id]) for ids in targets]
    return source, pad_sequence(ended, batch_first=True, padding_value=pad_id)


@repaired_batch.mistake(
    "You go through `order` the wrong way round: pair `order[n]` belongs at place n, yours puts pair n at place "
    "`order[n]`."
)
def wrong_way_round(sources, targets, order, pad_id, end_id):
    places = [list(order).index(n) for n in range(len(order))]
    source = pad_sequence([torch.tensor(sources[i]) for i in places], batch_first=True, padding_value=pad_id)
    ended = [torch.tensor([*targets[i], end_id]) for i in places]
    return source, pad_sequence(ended, batch_first=True, padding_value=pad_id)


@repaired_batch.mistake(
    "You take as many pairs as there are. `order` may leave some out: the batch has one row for each of its places."
)
def as_many_as_there_are(sources, targets, order, pad_id, end_id):
    chosen, ended = [], []
    for n in range(len(sources)):
        chosen.append(torch.tensor(sources[order[n]]))
        ended.append(torch.tensor([*targets[order[n]], end_id]))
    source = pad_sequence(chosen, batch_first=True, padding_value=pad_id)
    return source, pad_sequence(ended, batch_first=True, padding_value=pad_id)


@repaired_batch.mistake("The end tokens are gone: each target is followed by `end_id`, then by padding.")
def no_end(sources, targets, order, pad_id, end_id):
    source = pad_sequence([torch.tensor(sources[i]) for i in order], batch_first=True, padding_value=pad_id)
    ids = [torch.tensor(targets[i], dtype=torch.long) for i in order]
    return source, pad_sequence(ids, batch_first=True, padding_value=pad_id)


@repaired_batch.mistake(
    "The end token stands after the padding, at the end of the row. It belongs right after the last phoneme, and the "
    "padding after it."
)
def end_after_the_padding(sources, targets, order, pad_id, end_id):
    source = pad_sequence([torch.tensor(sources[i]) for i in order], batch_first=True, padding_value=pad_id)
    ids = [torch.tensor(targets[i], dtype=torch.long) for i in order]
    target = pad_sequence(ids, batch_first=True, padding_value=pad_id)
    return source, torch.nn.functional.pad(target, (0, 1), value=end_id)


@repaired_batch.mistake("The sources got an end token too. Only the targets have one.")
def end_on_both(sources, targets, order, pad_id, end_id):
    chosen = [torch.tensor([*sources[i], end_id]) for i in order]
    source = pad_sequence(chosen, batch_first=True, padding_value=pad_id)
    ended = [torch.tensor([*targets[i], end_id]) for i in order]
    return source, pad_sequence(ended, batch_first=True, padding_value=pad_id)


@repaired_batch.mistake("The tensors lie on their side, (length, batch): `batch_first=True`, for both.")
def not_batch_first(sources, targets, order, pad_id, end_id):
    source = pad_sequence([torch.tensor(sources[i]) for i in order], padding_value=pad_id)
    ended = [torch.tensor([*targets[i], end_id]) for i in order]
    return source, pad_sequence(ended, padding_value=pad_id)


@repaired_batch.mistake(
    "Your rows are padded with 0. The id of the padding is `pad_id`: any number, and 0 may be a real token."
)
def padded_with_zero(sources, targets, order, pad_id, end_id):
    source = pad_sequence([torch.tensor(sources[i]) for i in order], batch_first=True)
    ended = [torch.tensor([*targets[i], end_id]) for i in order]
    return source, pad_sequence(ended, batch_first=True)


@repaired_batch.also_right
def sorted_as_pairs(sources, targets, order, pad_id, end_id):
    pairs = list(zip(sources, targets, strict=True))
    chosen = [pairs[place] for place in order]
    columns = []
    for rows in ([source for source, _ in chosen], [[*target, end_id] for _, target in chosen]):
        width = max(len(row) for row in rows)
        columns.append(torch.tensor([list(row) + [pad_id] * (width - len(row)) for row in rows]))
    return tuple(columns)


@repaired_batch.also_right
def filled_in(sources, targets, order, pad_id, end_id):
    source = torch.full((len(order), max(map(len, sources))), pad_id)
    target = torch.full((len(order), max(map(len, targets)) + 1), pad_id)
    for row, i in enumerate(order):
        source[row, : len(sources[i])] = torch.tensor(sources[i])
        if targets[i]:
            target[row, : len(targets[i])] = torch.tensor(targets[i])
        target[row, len(targets[i])] = end_id
    return source, target


_CALLERS_LISTS = (
    "You changed a list of the caller's (`append`, `sort`, `+=`): with the next batch it would come in changed. Make a "
    "new one, as `[*targets[i], end_id]` does."
)
repaired_batch.slip(
    "end_appended_in_place",
    _CALLERS_LISTS,
    {
        "    ended = [": "    for ids in targets:\n        ids.append(end_id)\n    ended = [",
        "torch.tensor([*targets[i], end_id])": "torch.tensor(targets[i])",
    },
)
repaired_batch.slip(
    "end_added_in_place",
    _CALLERS_LISTS,
    {
        "    ended = [": "    for ids in targets:\n        ids += [end_id]\n    ended = [",
        "torch.tensor([*targets[i], end_id])": "torch.tensor(targets[i])",
    },
)
repaired_batch.slip(
    "order_sorted",
    "You sort `order`, and so take the pairs in their old order, and change the caller's list besides.",
    {"    chosen = [": "    order.sort()\n    chosen = ["},
)
repaired_batch.also("as_a_list", {"    return source, target": "    return [source, target]"})
repaired_batch.also(
    "padded_first_then_ordered",
    {
        "torch.tensor([*targets[i], end_id]) for i in order]": "torch.tensor([*target, end_id]) for target in targets]",
        "    return source, target": "    return source, target[torch.tensor(order)]",
    },
)

repaired_batch.hint("Follow one pair by hand: where does source 2 end up, and where target 2?")
repaired_batch.hint("What does `padding_value` say in each of the two lines? Who ignores that token later on?")
repaired_batch.hint("`[torch.tensor([*targets[i], end_id]) for i in order]` takes the targets in the new order.")

# --- repaired_mask ---------------------------------------------------------------------------------------------

repaired_mask = Exercise("repaired_mask", returns=["mask (batch, 1, length, length)"])


@repaired_mask.case("two words, the shorter one padded")
def _(draw):
    return torch.tensor([[1, 5, 6, 7], [1, 4, 0, 0]]), 0


@repaired_mask.case("pad_id is 7, and 0 is a real token")
def _(draw):
    inputs = draw.padded([3, 5, 4], 0, 6, pad_id=7)
    inputs[:, 0] = 0
    return inputs, 7


@repaired_mask.case("nothing padded, 36 tokens")
def _(draw):
    return draw.integers(1, 9, 2, 36), 0


@repaired_mask.case("one word of one token")
def _(draw):
    return torch.tensor([[1]]), 0


@repaired_mask.case("padding on the left, as some libraries have it")
def _(draw):
    return draw.padded([2, 4, 3], 1, 9, pad_id=0).flip(1), 0


@repaired_mask.case("as many words as places")
def _(draw):
    return draw.padded([4, 1, 3, 2], 1, 9, pad_id=0), 0


_BOTH_AT_ONCE = (
    "It is as it was: `~(later & padding)`, or `~later | ~padding`, hides a key only where it is *both* later and "
    "padding. Where one of the two holds, it has to be hidden."
)
_FUTURE_ONLY = (
    "Your mask hides a token itself and what came before it, and shows the future. `later` should be the upper "
    "triangle (`triu`), and what is later should be hidden."
)

repaired_mask.slip("as_it_was", _BOTH_AT_ONCE, {"~(later | padding)": "~(later & padding)"})
repaired_mask.slip("signs_moved_in_wrongly", _BOTH_AT_ONCE, {"~(later | padding)": "~later | ~padding"})
repaired_mask.slip("later_and_visible", _FUTURE_ONLY, {"~(later | padding)": "later & ~padding"})
repaired_mask.slip(
    "inverted",
    "It is the wrong way round: your True marks what must not be seen. Here True means: may attend.",
    {"~(later | padding)": "later | padding"},
)
repaired_mask.slip(
    "exactly_one",
    "`^` is true where exactly one of the two is: what is later *and* padding becomes visible. You want one or the "
    "other or both.",
    {"~(later | padding)": "~(later ^ padding)"},
)


@repaired_mask.mistake("Later tokens are hidden now, padding is not: a key must be neither later nor padding.")
def only_causal(inputs, pad_id):
    length = inputs.size(1)
    return causal_mask(length, length).expand(len(inputs), 1, length, length)


@repaired_mask.mistake(
    "Your mask has the shape (length, length), the same for all words. Padding differs from word to word: "
    "(batch, 1, length, length)."
)
def only_causal_and_flat(inputs, pad_id):
    return causal_mask(inputs.size(1), inputs.size(1))


@repaired_mask.mistake("Padding is hidden now, later tokens are not: a key must be neither later nor padding.")
def only_padding(inputs, pad_id):
    return padding_mask(inputs, pad_id).expand(-1, -1, inputs.size(1), -1)


@repaired_mask.mistake(
    "A token may see itself. You hide the diagonal too, so the first row has nothing left to attend to."
)
def without_itself(inputs, pad_id):
    length = inputs.size(1)
    later = torch.ones(length, length, dtype=torch.bool).triu(diagonal=0)
    padding = (inputs == pad_id)[:, None, None, :]
    return ~(later | padding)


@repaired_mask.mistake(
    "You hid padded *queries*: the padding stands in the dimension of the queries. Nobody may read padded *keys*: "
    "(batch, 1, 1, keys)."
)
def queries_hidden(inputs, pad_id):
    length = inputs.size(1)
    later = torch.ones(length, length, dtype=torch.bool).triu(diagonal=1)
    padding = (inputs == pad_id)[:, None, :, None]
    return ~(later | padding)


@repaired_mask.mistake(
    "The dimension of the heads is missing: masks are (batch, 1, queries, keys), so that they fit every head."
)
def no_heads(inputs, pad_id):
    length = inputs.size(1)
    later = torch.ones(length, length, dtype=torch.bool).triu(diagonal=1)
    return ~(later | (inputs == pad_id)[:, None, :])


@repaired_mask.mistake("You return numbers. A mask is boolean here: `|` and `~` on booleans keep it so.")
def as_numbers(inputs, pad_id):
    length = inputs.size(1)
    later = torch.ones(length, length).triu(diagonal=1)
    padding = (inputs == pad_id).float()[:, None, None, :]
    return (1 - later) * (1 - padding)


@repaired_mask.mistake(
    "You compare with 0. The id of the padding is `pad_id`, which may be any number, and 0 may be a real token."
)
def zero_hard_coded(inputs, pad_id):
    length = inputs.size(1)
    later = torch.ones(length, length, dtype=torch.bool).triu(diagonal=1)
    return ~(later | (inputs == 0)[:, None, None, :])


@repaired_mask.mistake(_FUTURE_ONLY)
def hides_the_past(inputs, pad_id):
    length = inputs.size(1)
    later = torch.ones(length, length, dtype=torch.bool).tril()
    padding = (inputs == pad_id)[:, None, None, :]
    return ~(later | padding)


for _size in (5, 6, 8, 16, 32):
    repaired_mask.slip(
        f"for_{_size}_tokens",
        "Your mask was made for a fixed number of tokens. There is no longest word: the length is `inputs.size(1)`.",
        {"~(later | padding)": f"causal_mask({_size}, {_size})[:length, :length] & ~padding"},
    )


@repaired_mask.also_right
def with_earlier_pieces(inputs, pad_id):
    return causal_mask(inputs.size(1), inputs.size(1)) & padding_mask(inputs, pad_id)


@repaired_mask.also_right
def with_signs_moved_in(inputs, pad_id):
    length = inputs.size(1)
    later = torch.ones(length, length, dtype=torch.bool).triu(diagonal=1)
    padding = (inputs == pad_id)[:, None, None, :]
    return ~later & ~padding


@repaired_mask.also_right
def in_loops(inputs, pad_id):
    batch, length = inputs.shape
    mask = torch.zeros(batch, 1, length, length, dtype=torch.bool)
    for b in range(batch):
        for query in range(length):
            for key in range(query + 1):
                mask[b, 0, query, key] = inputs[b, key] != pad_id
    return mask


@repaired_mask.also_right
def by_positions(inputs, pad_id):
    places = torch.arange(inputs.size(1), device=inputs.device)
    return (places[None, :] <= places[:, None]) & (inputs != pad_id)[:, None, None, :]


repaired_mask.hint("Say aloud which keys the first query of an unpadded word may read. Now print the first row.")
repaired_mask.hint('"Hide what is later and what is padding": does that mean `later & padding`?')
repaired_mask.hint("A key is hidden if it is later *or* if it is padding. One sign changes.")

# --- repaired_train_step ---------------------------------------------------------------------------------------

repaired_train_step = Exercise("repaired_train_step", returns=["loss", "accuracy"])

_WATCHED = ["generator.weight", "encoder.layers.0.feed_forward.expand.weight", "source_embedding.table.weight"]


def _steps(draw, *lengths, **options):
    """Inputs of the scenario ``training``. Some of the right tokens are made what the model guesses at first."""
    inputs = training_steps(draw, *lengths, watch=_WATCHED, **options)
    for (_, target), (_, of_targets) in zip(inputs["batches"], lengths, strict=True):
        for row, length in zip(target, of_targets, strict=True):
            row[: length - 1 : 2] = 4
    # The model leans towards 4 and 2, so that some of what it says is right, in real places and in padded ones.
    bias = inputs["weights"]["generator.bias"]
    bias[[2, 4, inputs["pad_id"]]] += torch.tensor([0.4, 1.2, 0.8]).to(bias.dtype)
    return inputs


@repaired_train_step.case("one step of SGD; old gradients are left from before", scenario="training")
def _(draw):
    return _steps(draw, ([4, 2, 5], [3, 4, 2]))


@repaired_train_step.case("three steps of SGD", scenario="training")
def _(draw):
    return _steps(draw, ([4, 2], [3, 5]), ([3, 5], [4, 2]), ([2, 3], [3, 3]))


@repaired_train_step.case("two steps of Adam, float64", scenario="training")
def _(draw):
    return _steps(draw, ([3, 5], [4, 2]), ([4, 2], [3, 5]), optimizer="Adam", lr=0.05, dtype=torch.float64)


@repaired_train_step.case("pad_id is 7, start_id is 0", scenario="training")
def _(draw):
    return _steps(draw, ([2, 4], [4, 3]), ([4, 3], [3, 5]), pad_id=7, start_id=0)


@repaired_train_step.case("padding in the source only", scenario="training")
def _(draw):
    return _steps(draw, ([2, 5, 3], [4, 4, 4]))


@repaired_train_step.case("padding in the target only", scenario="training")
def _(draw):
    return _steps(draw, ([4, 4, 4], [2, 5, 3]))


@repaired_train_step.case("one word", scenario="training")
def _(draw):
    return _steps(draw, ([3], [2]), ([2], [4]))


_LOSS = "    loss = token_cross_entropy(logits, target, pad_id)\n"
_FAULTY = {
    "softmax": {_LOSS: "    loss = token_cross_entropy(torch.softmax(logits, dim=-1), target, pad_id)\n"},
    "gradients": {"    optimizer.zero_grad()\n": ""},
    "padding": {"[real].float().mean()": ".float().mean()"},
}
_SOFTMAX = "The loss still gets probabilities: `token_cross_entropy` takes logits, and a softmax is inside it already."
_GRADIENTS = (
    "The gradients of earlier steps are still there, and `backward` adds to them: `optimizer.zero_grad()` first."
)
_PADDING = (
    "The accuracy still counts padding: the mean goes over all places, and there is nothing to be right about where "
    "the target is padding."
)
_FOUND = "One of three is mended. "
_LEFT = {
    ("softmax", "gradients", "padding"): "It is as it was. Three faults are in it: one in what the loss is given, one "
    "in what `backward` adds to, one in what the accuracy counts.",
    ("softmax", "gradients"): _FOUND + "Left: what the loss is given, and the gradients that nobody clears.",
    ("softmax", "padding"): _FOUND + "Left: what the loss is given, and the padding that the accuracy counts.",
    ("gradients", "padding"): _FOUND
    + "Left: the gradients that nobody clears, and the padding that the accuracy counts.",
    ("softmax",): _SOFTMAX,
    ("gradients",): _GRADIENTS,
    ("padding",): _PADDING,
}

for _faults, _sentence in _LEFT.items():
    _edits = {old: new for fault in _faults for old, new in _FAULTY[fault].items()}
    repaired_train_step.slip("still_" + "_".join(_faults), _sentence, _edits)

_MEAN = "    right = (guesses == target)[real].float().mean()\n"

_NO_GRADIENTS = (
    "At `optimizer.step()` there are no gradients: you cleared them after `backward`, or stepped before it. "
    "The order: `zero_grad`, `backward`, `step`."
)
repaired_train_step.slip(
    "step_before_backward",
    _NO_GRADIENTS,
    {"    loss.backward()\n    optimizer.step()\n": "    optimizer.step()\n    loss.backward()\n"},
)
repaired_train_step.slip(
    "loss_cut_off",
    "`backward()` ran, but its loss no longer hangs on the model: `torch.tensor(…)`, `.detach()`, `.item()` or "
    "`no_grad` cut it off, and `requires_grad` does not bring it back. Go backward from the loss as it was computed.",
    {_LOSS: "    loss = token_cross_entropy(logits.detach().requires_grad_(), target, pad_id)\n"},
)
repaired_train_step.slip(
    "no_backward",
    "`loss.backward()` is missing: without gradients `optimizer.step()` has nothing to step along.",
    {"    loss.backward()\n": ""},
)
repaired_train_step.slip(
    "no_step",
    "`optimizer.step()` is missing: `backward` only fills in the gradients, and nothing moves the weights.",
    {"    optimizer.step()\n": ""},
)
repaired_train_step.slip(
    "cleared_before_the_step",
    _NO_GRADIENTS,
    {"    optimizer.zero_grad()\n    loss.backward()\n": "    loss.backward()\n    optimizer.zero_grad()\n"},
)
repaired_train_step.slip(
    "cleared_only_at_the_end",
    "You clear the gradients after the step only. What was there before your first step is added to it: clear them "
    "before `backward`.",
    {"    optimizer.zero_grad()\n": "", "    optimizer.step()\n": "    optimizer.step()\n    optimizer.zero_grad()\n"},
)
repaired_train_step.slip(
    "argmax_over_places",
    "`argmax(dim=1)` asks for the best *place* of each token. The tokens to choose from stand in the last dimension.",
    {
        "    guesses = logits.argmax(dim=-1)  # (batch, length)\n": "    guesses = logits.argmax(dim=1)\n",
        _MEAN: "    width = min(guesses.size(1), target.size(1))\n"
        "    same = guesses[:, :width] == target[:, :width]\n"
        "    right = same[real[:, :width]].float().mean()\n",
    },
)
repaired_train_step.slip(
    "padding_as_right",
    "You count padded places as right, and divide by all places. They are not to be counted at all: choose the real "
    "places, then take the mean.",
    {_MEAN: "    right = ((guesses == target) | ~real).float().mean()\n"},
)
repaired_train_step.slip(
    "divided_by_all_places",
    "You count what is right in real places, but divide by all places, padding included: divide by the real ones.",
    {_MEAN: "    right = ((guesses == target) & real).float().mean()\n"},
)
repaired_train_step.slip(
    "mean_of_means",
    "You take the share of each word first, then their mean: tokens of short words count more. Take one mean over all "
    "real tokens.",
    {_MEAN: "    right = (((guesses == target) & real).sum(dim=1) / real.sum(dim=1)).mean()\n"},
)
repaired_train_step.slip(
    "real_guesses_only",
    "You leave out the places where the model *guesses* padding. What counts is whether the target is padding there.",
    {_MEAN: "    right = (guesses == target)[guesses != pad_id].float().nan_to_num().mean().nan_to_num()\n"},
)
repaired_train_step.slip(
    "accuracy_in_per_cent",
    "Your accuracy is in per cent. Asked is a share, from 0 to 1.",
    {"return loss.item(), right.item()": "return loss.item(), 100 * right.item()"},
)
repaired_train_step.slip(
    "count_of_right_tokens",
    "Your second result is the *number* of right tokens. Asked is their share: divide by the number of real tokens.",
    {"[real].float().mean()": "[real].float().sum()"},
)
repaired_train_step.slip(
    "labels_shifted_too",
    "You compare the logits with the shifted tokens, too. Only the *inputs* move; the right answers stay in `target`.",
    {_LOSS: "    loss = token_cross_entropy(logits, shift_right(target, start_id), pad_id)\n"},
)
repaired_train_step.slip(
    "not_shifted",
    "The decoder reads the target itself: the answer is in its input. That was right before; keep `shift_right`.",
    {"shift_right(target, start_id)": "target"},
)
repaired_train_step.slip(
    "source_mask_lost",
    "The mask of the source is gone, so padding is read. That was right before; keep it.",
    {", padding_mask(source, pad_id))": ")"},
)
repaired_train_step.slip(
    "evaluates_for_the_forward",
    "You switch to evaluation mode for the forward, so dropout never works in training. A training step leaves the "
    "mode as it is.",
    {
        "    logits = model(": "    model.eval()\n    logits = model(",
        "    optimizer.step()": "    model.train()\n    optimizer.step()",
    },
)
repaired_train_step.slip(
    "accuracy_after_the_step",
    "You ask the model again after the step. Loss and accuracy should belong together: use the logits that you have.",
    {
        "    guesses = logits.argmax": "    logits = model(source, shift_right(target, start_id), "
        "padding_mask(source, pad_id))\n    guesses = logits.argmax"
    },
)
repaired_train_step.slip(
    "tensors_returned",
    "You return tensors. Asked are two floats: `.item()` gives the number alone, without the graph behind it.",
    {"return loss.item(), right.item()": "return loss, right"},
)
repaired_train_step.slip(
    "loss_alone",
    "You return the loss alone. Asked are two numbers, the loss and the share of right tokens.",
    {"return loss.item(), right.item()": "return loss.item()"},
)
repaired_train_step.slip(
    "other_way_round",
    "The two results are the other way round: the loss first, then the share of right tokens.",
    {"return loss.item(), right.item()": "return right.item(), loss.item()"},
)

repaired_train_step.also(
    "with_log_softmax",
    {_LOSS: "    loss = token_cross_entropy(torch.log_softmax(logits, dim=-1), target, pad_id)\n"},
)
repaired_train_step.also(
    "guesses_from_probabilities", {"logits.argmax(dim=-1)": "torch.softmax(logits, dim=-1).argmax(dim=-1)"}
)
repaired_train_step.also(
    "cleared_first_of_all",
    {
        "    optimizer.zero_grad()\n    loss": "    loss",
        "    logits = model(": "    optimizer.zero_grad(set_to_none=True)\n    logits = model(",
    },
)
repaired_train_step.also("as_a_list", {"return loss.item(), right.item()": "return [loss.item(), right.item()]"})
repaired_train_step.also(
    "counted_by_hand",
    {_MEAN: "    right = ((guesses == target) & real).sum() / real.sum()\n"},
)


@repaired_train_step.also_right
def with_the_earlier_step(model, source, target, optimizer, pad_id, start_id):
    inputs, mask = shift_right(target, start_id), padding_mask(source, pad_id)
    with torch.no_grad():
        guesses = model(source, inputs, mask).argmax(-1)
    right = (guesses == target)[target != pad_id].double().mean()
    return train_step(model, source, target, optimizer, pad_id, start_id), float(right)


repaired_train_step.hint("Read it from top to bottom with one question for each line: what comes in, what goes out?")
repaired_train_step.hint(
    "`token_cross_entropy` takes logits. What is it given? And what is in `.grad` when the second step begins?"
)
repaired_train_step.hint(
    "The accuracy is a mean over places. Which places count? `(guesses == target)[target != pad_id]` holds those alone."
)
