"""Lesson 09: where a model is wrong, place by place and after alignment, and training on its own tokens."""

# ruff: noqa: F821, B905, B023 - mistakes and variants run in the lesson's set-up cell, as a student's answer does.
# mypy: ignore-errors

import torch

from autograder.exercise import Exercise, call

# --- cases as patterns -----------------------------------------------------------------------------------------

#: Stands for padding inside a pattern.
_PAD = "·"


def _words(draw, said, gold, pad_id=0, zero="", said_width=None, width=None):
    """Patterns such as ``["abc.", "de."]`` as two batches of ids: each letter becomes a random id of its own.

    So what is right, and which alignments are best, depends on the pattern alone.

    Args:
        zero: the letter that becomes 0, where 0 is not the padding.
        said_width, width: wider than the longest word, if given.
    """
    letters = sorted(set("".join([*said, *gold])) - {_PAD})
    ids = [number for number in torch.randperm(30, generator=draw.generator).tolist() if number not in (0, pad_id)]
    id_of = dict(zip(letters, ids, strict=False)) | {_PAD: pad_id}
    if zero:
        id_of[zero] = 0

    def batch(words, least):
        size = max(least or 0, max(map(len, words)))
        return torch.tensor([[id_of[letter] for letter in word.ljust(size, _PAD)] for word in words])

    return batch(said, said_width), batch(gold, width), pad_id


# --- free_running_accuracy -------------------------------------------------------------------------------------

free_running_accuracy = Exercise("free_running_accuracy", returns=["accuracy"])


@free_running_accuracy.case("two words, one wrong token")
def _(draw):
    return _words(draw, ["abx.", "de."], ["abc.", "de."])


@free_running_accuracy.case("too few tokens were said: `predicted` is narrower than `gold`")
def _(draw):
    return _words(draw, ["ab.", "e."], ["abcd.", "eb."])


@free_running_accuracy.case("too many tokens were said: `predicted` is wider than `gold`")
def _(draw):
    return _words(draw, ["abxxc.", "dy.", "ayyy."], ["ab.", "de.", "a."])


@free_running_accuracy.case("one token too many at the front: same place, so all is wrong but one")
def _(draw):
    return _words(draw, ["xabcd.", "efgh."], ["abcd.", "efgh."])


@free_running_accuracy.case("pad_id is 7, and 0 is a real token that comes after what was said")
def _(draw):
    return _words(draw, ["ab.", "zc."], ["abz.z", "zcz"], pad_id=7, zero="z")


@free_running_accuracy.case("pad_id is 7, and 0 is a real token that was said")
def _(draw):
    return _words(draw, ["zab.", "zz."], ["zac.", "zb."], pad_id=7, zero="z")


@free_running_accuracy.case("padding inside what was said")
def _(draw):
    return _words(draw, ["a·cd.", "··.", "ef."], ["abcd.", "ab.", "ef."])


@free_running_accuracy.case("all wrong")
def _(draw):
    return _words(draw, ["xyz", "yx."], ["abcd.", "cb"])


@free_running_accuracy.case("all right, padded further than gold")
def _(draw):
    return _words(draw, ["abc.", "d.", "ef."], ["abc.", "d.", "ef."], said_width=7)


@free_running_accuracy.case("short and long words, by name")
def _(draw):
    predicted, gold, pad_id = _words(draw, ["x.", "abcdefx.", "gh."], ["a.", "abcdefg.", "gh."])
    return call(predicted=predicted, gold=gold, pad_id=pad_id)


@free_running_accuracy.case("a row that is all padding")
def _(draw):
    return _words(draw, ["abx.", "x", "c."], ["abd.", "", "c."])


@free_running_accuracy.case("as many words as places, neither tensor contiguous")
def _(draw):
    predicted, gold, pad_id = _words(draw, ["ab.", "cx.", "xd."], ["ab.", "cd.", "dd."])
    return predicted.T.contiguous().T, gold.T.contiguous().T, pad_id


@free_running_accuracy.case("one word that never ended")
def _(draw):
    return _words(draw, ["abababa"], ["abacaba."])


_PADDING_RIGHT = (
    "The padding is counted as well, and nearly always as right: the accuracy looks better the more padding there is. "
    "Only places where `gold` is not `pad_id` count."
)
_PADDING_BELOW = (
    "You divide by all places, padding included, so even a perfect model cannot reach 1. Divide by the number of real "
    "gold tokens."
)
_MASK_INVERTED = (
    "Your mask is the wrong way round: it is True at padding, so padding is all you look at. Real tokens are where "
    "`gold != pad_id`."
)
_MASK_OF_SAID = (
    "You count the places where `predicted` is real. What was never said would then be no error, and what was said "
    "too much would be one: take the places where `gold` is real."
)
_BOTH_REAL = (
    "You only count places where both are real. A token that the model left out at the end is wrong, too: take all "
    "places where `gold` is real."
)
_CUT_TO_SHORTER = (
    "You cut both to the shorter width, so gold tokens beyond what was said are not counted. They are wrong: nobody "
    "said them. Pad `predicted` to gold's width."
)
_WIDER_COUNTS = (
    "You also count what was said beyond the end of a word. Asked is a share of gold's tokens: cut `predicted` to "
    "gold's width, and count places where `gold` is real."
)
_WIDTHS = (
    "`predicted` may be narrower or wider than `gold`: the model stops when it likes. Pad it with `pad_id`, or cut it, "
    "to gold's width first."
)
_WIDENED_WITH_ZERO = (
    "You fill `predicted` up with 0. Where 0 is a real token, that can be the right answer by chance: fill up with "
    "`pad_id`."
)
_PAD_IS_ZERO = "You take 0 for the padding. Its id is `pad_id`, which may be any number, and 0 may be a real token."
_END_LEFT_OUT = "You leave out the last token of each word. The end token is a token to be predicted, too: it counts."
_FIRST_LEFT_OUT = (
    "You leave out place 0, as if the start token stood there. `gold` has none: place 0 is the first token to be "
    "predicted."
)
_PER_WORD = (
    "You average within each word first, then over the words. Then a token of a short word counts more. Asked is one "
    "share over all real gold tokens."
)
_ALIGNED = (
    "You align the two words before you compare. Here the same place is compared with the same place; the aligned "
    "comparison is an exercise of its own."
)
_IN_PLACE = "You changed an argument in place. The caller still needs it: work on a copy."


free_running_accuracy.slip("padding_counts", _PADDING_RIGHT, {"real = gold != pad_id": "real = gold == gold"})
free_running_accuracy.slip(
    "padding_counts_as_right",
    "You count right places over the whole batch, and divide by the real ones: padding that was said where there is "
    "padding is counted as right, so more than 1 can come out. Take `& real` in the numerator as well.",
    {"(said == gold) & real": "said == gold"},
)
free_running_accuracy.slip("mask_inverted", _MASK_INVERTED, {"real = gold != pad_id": "real = gold == pad_id"})
free_running_accuracy.slip(
    "padding_dilutes", _PADDING_BELOW, {"right.sum() / real.sum()": "right.sum() / real.numel()"}
)
free_running_accuracy.slip("mask_of_what_was_said", _MASK_OF_SAID, {"real = gold != pad_id": "real = said != pad_id"})


@free_running_accuracy.mistake(_MASK_OF_SAID)
def mask_of_predicted_after_widening_gold(predicted, gold, pad_id):
    width = max(predicted.size(1), gold.size(1))
    predicted = F.pad(predicted, (0, width - predicted.size(1)), value=pad_id)
    gold = F.pad(gold, (0, width - gold.size(1)), value=pad_id)
    real = predicted != pad_id
    return (predicted == gold)[real].float().mean().item()


free_running_accuracy.slip(
    "both_must_be_real", _BOTH_REAL, {"real = gold != pad_id": "real = (gold != pad_id) & (said != pad_id)"}
)


@free_running_accuracy.mistake(_CUT_TO_SHORTER)
def cut_to_the_shorter(predicted, gold, pad_id):
    width = min(predicted.size(1), gold.size(1))
    predicted, gold = predicted[:, :width], gold[:, :width]
    return (predicted == gold)[gold != pad_id].float().mean().item()


@free_running_accuracy.mistake(_WIDER_COUNTS)
def either_is_real(predicted, gold, pad_id):
    width = max(predicted.size(1), gold.size(1))
    predicted = F.pad(predicted, (0, width - predicted.size(1)), value=pad_id)
    gold = F.pad(gold, (0, width - gold.size(1)), value=pad_id)
    real = (predicted != pad_id) | (gold != pad_id)
    return (predicted == gold)[real].float().mean().item()


@free_running_accuracy.mistake(_WIDTHS)
def widths_ignored(predicted, gold, pad_id):
    real = gold != pad_id
    return (predicted == gold)[real].float().mean().item()


@free_running_accuracy.mistake(_WIDTHS)
def only_cut(predicted, gold, pad_id):
    real = gold != pad_id
    return (predicted[:, : gold.size(1)] == gold)[real].float().mean().item()


@free_running_accuracy.mistake(_WIDTHS)
def only_widened(predicted, gold, pad_id):
    more = max(0, gold.size(1) - predicted.size(1))
    predicted = F.pad(predicted, (0, more), value=pad_id)
    return (predicted == gold)[gold != pad_id].float().mean().item()


free_running_accuracy.slip(
    "widened_with_zero", _WIDENED_WITH_ZERO, {"torch.full_like(gold, pad_id)": "torch.zeros_like(gold)"}
)
free_running_accuracy.slip("padding_is_zero", _PAD_IS_ZERO, {"real = gold != pad_id": "real = gold != 0"})
free_running_accuracy.slip(
    "padding_is_zero_everywhere",
    _PAD_IS_ZERO,
    {"torch.full_like(gold, pad_id)": "torch.zeros_like(gold)", "real = gold != pad_id": "real = gold != 0"},
)


@free_running_accuracy.mistake(_END_LEFT_OUT)
def end_token_left_out(predicted, gold, pad_id):
    said = torch.full_like(gold, pad_id)
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    real = gold != pad_id
    place = torch.arange(gold.size(1))
    real = real & (place < real.sum(dim=1, keepdim=True) - 1)
    return (said == gold)[real].float().mean().item()


free_running_accuracy.slip(
    "first_left_out", _FIRST_LEFT_OUT, {"real = gold != pad_id": "real = gold != pad_id\n    real[:, 0] = False"}
)


@free_running_accuracy.mistake(
    "You move one of the two by a place. Both begin with the first token after the start token, so they stand side by "
    "side as they are; inputs are shifted, answers are not."
)
def shifted(predicted, gold, pad_id):
    said = torch.full_like(gold, pad_id)
    width = min(predicted.size(1) - 1, gold.size(1))
    said[:, :width] = predicted[:, 1 : width + 1]
    real = gold != pad_id
    return (said == gold)[real].float().mean().item()


free_running_accuracy.slip(
    "mean_of_words", _PER_WORD, {"(right.sum() / real.sum()).item()": "(right.sum(1) / real.sum(1)).nanmean().item()"}
)


free_running_accuracy.slip(
    "mean_of_words_and_of_none",
    _PER_WORD,
    {"(right.sum() / real.sum()).item()": "(right.sum(1) / real.sum(1)).mean().item()"},
)


@free_running_accuracy.mistake(_PER_WORD)
def mean_of_words_with_nan(predicted, gold, pad_id):
    shares = []
    for said, right in zip(predicted.tolist(), gold.tolist()):
        right = [token for token in right if token != pad_id]
        said = (said + [pad_id] * len(right))[: len(right)]
        shares.append(sum(a == b for a, b in zip(said, right)) / max(1, len(right)))
    return sum(shares) / len(shares)


@free_running_accuracy.mistake(
    "You average over the places. Few words reach the late ones, and each of their tokens would count more. Asked is "
    "one share over all real gold tokens."
)
def mean_of_places(predicted, gold, pad_id):
    said = torch.full_like(gold, pad_id)
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    real = gold != pad_id
    return (((said == gold) & real).sum(0) / real.sum(0)).nanmean().item()


@free_running_accuracy.mistake(
    "You give the share of words that are right throughout. Asked is the share of tokens: a word with one wrong token "
    "still has right ones."
)
def whole_words(predicted, gold, pad_id):
    said = torch.full_like(gold, pad_id)
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    return ((said == gold) | (gold == pad_id)).all(dim=1).float().mean().item()


@free_running_accuracy.mistake(
    "You count a word's tokens only up to its first error. Asked is the share of all real gold tokens that are right."
)
def up_to_the_first_error(predicted, gold, pad_id):
    said = torch.full_like(gold, pad_id)
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    real = gold != pad_id
    right = (said == gold).int().cumprod(dim=1).bool() & real
    return (right.sum() / real.sum()).item()


free_running_accuracy.slip(
    "share_of_errors",
    "This is the share of *wrong* tokens. The accuracy is that of the right ones.",
    {"said == gold": "said != gold"},
)
free_running_accuracy.slip(
    "percent",
    "You return percent. Asked is a share, from 0 to 1.",
    {"(right.sum() / real.sum()).item()": "(100 * right.sum() / real.sum()).item()"},
)
free_running_accuracy.slip(
    "number_of_tokens",
    "You return how many tokens are right. Asked is their share: divide by the number of real gold tokens.",
    {"(right.sum() / real.sum()).item()": "float(right.sum())"},
)
free_running_accuracy.slip(
    "whole_division",
    "`//` throws away what comes after the point, so only 0 or 1 is left. A share needs `/`.",
    {"(right.sum() / real.sum()).item()": "float(right.sum() // real.sum())"},
)
free_running_accuracy.slip(
    "tensor_returned",
    "The number is right, but a tensor. Asked is a Python float: `.item()` or `float(…)`.",
    {".item()": ""},
)


@free_running_accuracy.mistake(_ALIGNED)
def aligned(predicted, gold, pad_id):
    found = count = 0
    for said, right in zip(predicted.tolist(), gold.tolist()):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        table = [[i + j for j in range(len(right) + 1)] for i in range(len(said) + 1)]
        for i in range(1, len(said) + 1):
            for j in range(1, len(right) + 1):
                change = table[i - 1][j - 1] + (said[i - 1] != right[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, change)
        i, j = len(said), len(right)
        while i and j:
            if table[i][j] == table[i - 1][j - 1] + (said[i - 1] != right[j - 1]):
                i, j = i - 1, j - 1
                found += said[i] == right[j]
            elif table[i][j] == table[i - 1][j] + 1:
                i -= 1
            else:
                j -= 1
        count += len(right)
    return found / count


@free_running_accuracy.mistake(
    "You only ask whether a gold token was said anywhere in the word. It has to stand in the same place."
)
def anywhere_in_the_word(predicted, gold, pad_id):
    found = count = 0
    for said, right in zip(predicted.tolist(), gold.tolist()):
        right = [token for token in right if token != pad_id]
        found += sum(token in said for token in right)
        count += len(right)
    return found / count


@free_running_accuracy.mistake(
    "You take the padding out of `predicted` first. What stands after it then moves forward: each token has to be "
    "compared in the place where it was said."
)
def padding_taken_out_of_what_was_said(predicted, gold, pad_id):
    found = count = 0
    for said, right in zip(predicted.tolist(), gold.tolist()):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        found += sum(a == b for a, b in zip(said, right))
        count += len(right)
    return found / count


@free_running_accuracy.mistake(_IN_PLACE)
def gold_changed(predicted, gold, pad_id):
    said = torch.full_like(gold, pad_id)
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    gold[gold == pad_id] = -1
    return ((said == gold).sum() / (gold != -1).sum()).item()


@free_running_accuracy.mistake(_WIDER_COUNTS)
def divided_by_the_longer_word(predicted, gold, pad_id):
    right = count = 0
    for said, wanted in zip(predicted.tolist(), gold.tolist()):
        length = sum(token != pad_id for token in wanted)
        right += sum(a == b for a, b in zip(said, wanted[:length]))
        count += max(length, sum(token != pad_id for token in said))
    return right / count


@free_running_accuracy.mistake(
    "You take all tokens of the batch as one long row. Where a word is too short or too long, all words after it move: "
    "compare row by row."
)
def one_long_row(predicted, gold, pad_id):
    said, right = predicted[predicted != pad_id], gold[gold != pad_id]
    length = min(len(said), len(right))
    return (said[:length] == right[:length]).sum().item() / len(right)


@free_running_accuracy.mistake(
    "You round the result. Whoever averages or compares needs all of it: return it as it is."
)
def rounded(predicted, gold, pad_id):
    said = F.pad(predicted, (0, gold.size(1) - predicted.size(1)), value=pad_id)
    return round((said == gold)[gold != pad_id].float().mean().item(), 2)


@free_running_accuracy.mistake(_IN_PLACE)
def predicted_changed(predicted, gold, pad_id):
    predicted[predicted == pad_id] = -1
    said = F.pad(predicted, (0, gold.size(1) - predicted.size(1)), value=-1)
    return (said == gold)[gold != pad_id].float().mean().item()


@free_running_accuracy.also_right
def over_the_common_width(predicted, gold, pad_id):
    width = min(predicted.size(1), gold.size(1))
    same = (predicted[:, :width] == gold[:, :width]) & (gold[:, :width] != pad_id)
    return float(same.sum()) / float((gold != pad_id).sum())


@free_running_accuracy.also_right
def with_pad(predicted, gold, pad_id):
    said = F.pad(predicted, (0, max(0, gold.size(1) - predicted.size(1))), value=pad_id)[:, : gold.size(1)]
    return float((said == gold)[gold != pad_id].double().mean())


@free_running_accuracy.also_right
def with_negative_pad(predicted, gold, pad_id):
    said = F.pad(predicted, (0, gold.size(1) - predicted.size(1)), value=pad_id)
    return said[gold != pad_id].eq(gold[gold != pad_id]).float().mean().item()


@free_running_accuracy.also_right
def with_loops(predicted, gold, pad_id):
    right = real = 0
    for said, wanted in zip(predicted.tolist(), gold.tolist()):
        for place, token in enumerate(wanted):
            if token != pad_id:
                real += 1
                right += place < len(said) and said[place] == token
    return right / real


@free_running_accuracy.also_right
def gold_widened(predicted, gold, pad_id):
    width = max(predicted.size(1), gold.size(1))
    predicted = F.pad(predicted, (0, width - predicted.size(1)), value=pad_id)
    gold = F.pad(gold, (0, width - gold.size(1)), value=pad_id)
    real = gold != pad_id
    return torch.masked_select(predicted == gold, real).float().mean().item()


@free_running_accuracy.also_right
def filled_with_minus_one(predicted, gold, pad_id):
    said = gold.new_full(gold.shape, -1)
    for place in range(min(predicted.shape[1], gold.shape[1])):
        said[:, place] = predicted[:, place]
    return 1 - ((said != gold) & (gold != pad_id)).sum().item() / (gold != pad_id).sum().item()


@free_running_accuracy.also_right
def with_zip_longest(predicted, gold, pad_id):
    from itertools import zip_longest

    pairs = [
        pair
        for said, right in zip(predicted.tolist(), gold.tolist())
        for pair in zip_longest(said, right, fillvalue=pad_id)
        if pair[1] != pad_id
    ]
    return sum(a == b for a, b in pairs) / len(pairs)


free_running_accuracy.hint("Which of the two tensors says how many tokens there are to get right?")
free_running_accuracy.hint(
    "Bring `predicted` to gold's width first: a tensor of `pad_id` like `gold`, into which you copy as many columns as "
    "both have."
)
free_running_accuracy.hint("`real = gold != pad_id`. How many places are both right and real, and how many are real?")

# --- error_by_position -----------------------------------------------------------------------------------------

error_by_position = Exercise("error_by_position", returns=["errors (length,)"])


@error_by_position.case("three words, two wrong tokens")
def _(draw):
    return _words(draw, ["abx.", "de.", "xe."], ["abc.", "de.", "fe."])


@error_by_position.case("too few tokens were said: `predicted` is narrower than `gold`")
def _(draw):
    return _words(draw, ["ab.", "e.", "f"], ["abcd.", "eb.", "fe."])


@error_by_position.case("too many tokens were said: `predicted` is wider than `gold`")
def _(draw):
    return _words(draw, ["abxxc.", "dy.", "ayyy."], ["ab.", "de.", "a."])


@error_by_position.case("one token too many: from there on all is wrong, same place")
def _(draw):
    return _words(draw, ["axbcde.", "fghij."], ["abcde.", "fghij."])


@error_by_position.case("wrong in the middle and right again after it")
def _(draw):
    return _words(draw, ["axcd.", "exxh.", "ij."], ["abcd.", "efgh.", "ij."])


@error_by_position.case("pad_id is 7, and 0 is a real token that comes after what was said")
def _(draw):
    return _words(draw, ["ab.", "zc."], ["abz.z", "zcz"], pad_id=7, zero="z")


@error_by_position.case("pad_id is 7, and 0 is a real token that was said")
def _(draw):
    return _words(draw, ["zab.", "zz."], ["zac.", "zb."], pad_id=7, zero="z")


@error_by_position.case("no word is as long as `gold` is wide: NaN there")
def _(draw):
    return _words(draw, ["ax.", "c."], ["ab.", "c."], width=5)


@error_by_position.case("padding inside what was said")
def _(draw):
    return _words(draw, ["a·cd.", "··.", "ef."], ["abcd.", "ab.", "ef."])


@error_by_position.case("a row that is all padding")
def _(draw):
    return _words(draw, ["abx.", "x", "xc."], ["abd.", "", "ac."])


@error_by_position.case("all wrong, by name")
def _(draw):
    predicted, gold, pad_id = _words(draw, ["xyz", "yx."], ["abcd.", "cb"])
    return call(predicted=predicted, gold=gold, pad_id=pad_id)


@error_by_position.case("as many words as places, neither tensor contiguous")
def _(draw):
    predicted, gold, pad_id = _words(draw, ["xb.", "xx.", "de."], ["ab.", "cd.", "d."])
    return predicted.T.contiguous().T, gold.T.contiguous().T, pad_id


@error_by_position.case("one word that never ended")
def _(draw):
    return _words(draw, ["abababa"], ["abacaba."])


@error_by_position.case("seven words of every length")
def _(draw):
    gold = ["abcdef.", "bcdef.", "cdef.", "def.", "ef.", "f.", "."]
    return _words(draw, ["abxdef.", "bxdefx.", "cdxx.", "xef.", "ef.", ".", "x."], gold)


_DILUTED_BY_BATCH = (
    "You divide by all words, those that have ended long before included. So late places look easy. Divide by the "
    "number of words that are that long: `real.sum(dim=0)`."
)
_BY_WORD = (
    "You average over the places of each word: one number for each word. Asked is one for each place, over the words: "
    "`dim=0`."
)
_NOT_NAN = (
    "Where no word is that long, nothing was measured: that is NaN, not a number. 0 would say that all were right. "
    "0 / 0 gives NaN by itself."
)
_ENDS_WITH_PREDICTED = (
    "Your result ends where `predicted` does. Asked is one number for each place of `gold`: what was not said is wrong."
)
_FROM_FIRST_ERROR = (
    "From its first error on, you count a word as wrong throughout. Each place is asked on its own: a word may be "
    "right again after an error."
)

error_by_position.slip(
    "accuracy_by_position",
    "This is how often each place is *right*. Asked is the share of errors.",
    {"said != gold": "said == gold"},
)
error_by_position.slip("divided_by_the_batch", _DILUTED_BY_BATCH, {"/ real.sum(dim=0)": "/ len(gold)"})


@error_by_position.mistake(_DILUTED_BY_BATCH)
def mean_over_the_batch(predicted, gold, pad_id):
    said = torch.full_like(gold, pad_id)
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    return ((said != gold) & (gold != pad_id)).float().mean(dim=0)


error_by_position.slip(
    "padding_counts",
    "The padding is compared, too. What a model says after the end of a short word is no place of that word: count "
    "only where `gold` is not `pad_id`.",
    {"real = gold != pad_id": "real = gold == gold"},
)
error_by_position.slip(
    "padding_counts_as_wrong",
    "You count wrong places over the whole batch, and divide by the real ones: padding cannot be wrong. Take `& real` "
    "in the numerator as well.",
    {"(said != gold) & real": "said != gold"},
)
error_by_position.slip(
    "by_word", _BY_WORD, {"wrong.sum(dim=0) / real.sum(dim=0)": "wrong.sum(dim=1) / real.sum(dim=1)"}
)
error_by_position.slip("zero_where_no_word_is", _NOT_NAN, {"/ real.sum(dim=0)": "/ real.sum(dim=0).clamp(min=1)"})
error_by_position.slip(
    "one_where_no_word_is",
    "Where no word is that long, nothing was measured: that is NaN. 1 would say that all were wrong.",
    {
        "wrong.sum(dim=0) / real.sum(dim=0)": "torch.where(real.any(dim=0), wrong.sum(dim=0) / "
        "real.sum(dim=0), torch.ones(()))"
    },
)
error_by_position.slip(
    "empty_places_left_out",
    "You leave out the places that no word reaches. Asked is one number for each place of `gold`, NaN there.",
    {"return wrong.sum(dim=0) / real.sum(dim=0)": "return (wrong.sum(dim=0) / real.sum(dim=0))[real.any(dim=0)]"},
)
error_by_position.slip("mask_inverted", _MASK_INVERTED, {"real = gold != pad_id": "real = gold == pad_id"})
error_by_position.slip("mask_of_what_was_said", _MASK_OF_SAID, {"real = gold != pad_id": "real = said != pad_id"})
error_by_position.slip(
    "both_must_be_real", _BOTH_REAL, {"real = gold != pad_id": "real = (gold != pad_id) & (said != pad_id)"}
)
error_by_position.slip(
    "either_is_real", _WIDER_COUNTS, {"real = gold != pad_id": "real = (gold != pad_id) | (said != pad_id)"}
)


@error_by_position.mistake(_ENDS_WITH_PREDICTED)
def cut_to_the_shorter_by_place(predicted, gold, pad_id):
    width = min(predicted.size(1), gold.size(1))
    predicted, gold = predicted[:, :width], gold[:, :width]
    real = gold != pad_id
    return ((predicted != gold) & real).sum(dim=0) / real.sum(dim=0)


@error_by_position.mistake(
    "Your result is as wide as `predicted`. Asked is one number for each place of `gold`: what was said beyond it is "
    "no place of any word."
)
def as_wide_as_the_wider(predicted, gold, pad_id):
    width = max(predicted.size(1), gold.size(1))
    predicted = F.pad(predicted, (0, width - predicted.size(1)), value=pad_id)
    gold = F.pad(gold, (0, width - gold.size(1)), value=pad_id)
    real = gold != pad_id
    return ((predicted != gold) & real).sum(dim=0) / real.sum(dim=0)


@error_by_position.mistake(_WIDTHS)
def widths_ignored_by_place(predicted, gold, pad_id):
    real = gold != pad_id
    return ((predicted != gold) & real).sum(dim=0) / real.sum(dim=0)


@error_by_position.mistake(_WIDTHS)
def only_cut_by_place(predicted, gold, pad_id):
    real = gold != pad_id
    return ((predicted[:, : gold.size(1)] != gold) & real).sum(dim=0) / real.sum(dim=0)


@error_by_position.mistake(_WIDTHS)
def only_widened_by_place(predicted, gold, pad_id):
    predicted = F.pad(predicted, (0, max(0, gold.size(1) - predicted.size(1))), value=pad_id)
    real = gold != pad_id
    return ((predicted != gold) & real).sum(dim=0) / real.sum(dim=0)


error_by_position.slip(
    "widened_with_zero", _WIDENED_WITH_ZERO, {"torch.full_like(gold, pad_id)": "torch.zeros_like(gold)"}
)
error_by_position.slip("padding_is_zero", _PAD_IS_ZERO, {"real = gold != pad_id": "real = gold != 0"})
error_by_position.slip(
    "padding_is_zero_everywhere",
    _PAD_IS_ZERO,
    {"torch.full_like(gold, pad_id)": "torch.zeros_like(gold)", "real = gold != pad_id": "real = gold != 0"},
)


@error_by_position.mistake(_END_LEFT_OUT)
def end_token_left_out_by_place(predicted, gold, pad_id):
    said = torch.full_like(gold, pad_id)
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    real = gold != pad_id
    real = real & (torch.arange(gold.size(1)) < real.sum(dim=1, keepdim=True) - 1)
    return ((said != gold) & real).sum(dim=0) / real.sum(dim=0)


@error_by_position.mistake(_FIRST_LEFT_OUT)
def first_left_out(predicted, gold, pad_id):
    said = torch.full_like(gold, pad_id)
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    real = gold != pad_id
    wrong = (said != gold) & real
    return (wrong.sum(dim=0) / real.sum(dim=0))[1:]


@error_by_position.mistake(_FROM_FIRST_ERROR)
def wrong_from_the_first_error_on(predicted, gold, pad_id):
    said = torch.full_like(gold, pad_id)
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    real = gold != pad_id
    wrong = ((said != gold) & real).cumsum(dim=1).bool() & real
    return wrong.sum(dim=0) / real.sum(dim=0)


@error_by_position.mistake(
    "You only count the first error of each word. Each place is asked on its own: all errors count."
)
def first_error_only(predicted, gold, pad_id):
    said = torch.full_like(gold, pad_id)
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    real = gold != pad_id
    wrong = (said != gold) & real
    first = wrong & (wrong.cumsum(dim=1) == 1)
    return first.sum(dim=0) / real.sum(dim=0)


error_by_position.slip(
    "share_of_all_errors",
    "You divide by the number of all errors: that says where the errors are, not how likely one is at a place. Divide "
    "by the number of words that are that long.",
    {"wrong.sum(dim=0) / real.sum(dim=0)": "wrong.sum(dim=0) / wrong.sum()"},
)
error_by_position.slip(
    "divided_by_all_tokens",
    "You divide by the real tokens of all places together. Each place has its own number of words: `real.sum(dim=0)`.",
    {"/ real.sum(dim=0)": "/ real.sum()"},
)
error_by_position.slip(
    "number_of_errors",
    "You return how many words are wrong at each place. Fewer words reach the late places: divide by "
    "`real.sum(dim=0)`.",
    {" / real.sum(dim=0)": ""},
)
error_by_position.slip(
    "percent", "You return percent. Asked are shares, from 0 to 1.", {"return wrong": "return 100 * wrong"}
)
error_by_position.slip(
    "list_returned",
    "The numbers are right, but a list. Asked is a tensor (length,): without `.tolist()`.",
    {"real.sum(dim=0)": "real.sum(dim=0)).tolist()", "return wrong": "return (wrong"},
)
error_by_position.slip(
    "kept_dimension",
    "Your result has a dimension too many: asked is (length,), so no `keepdim=True`.",
    {"wrong.sum(dim=0) / real.sum(dim=0)": "wrong.sum(dim=0, keepdim=True) / real.sum(dim=0, keepdim=True)"},
)


@error_by_position.mistake(
    "You give one number over all places. Asked is one for each place: sum over the words only, `dim=0`."
)
def one_number(predicted, gold, pad_id):
    said = torch.full_like(gold, pad_id)
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    real = gold != pad_id
    return ((said != gold) & real).sum() / real.sum()


@error_by_position.mistake(_ALIGNED)
def aligned_by_place(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        table = [[i + j for j in range(len(right) + 1)] for i in range(len(said) + 1)]
        for i in range(1, len(said) + 1):
            for j in range(1, len(right) + 1):
                change = table[i - 1][j - 1] + (said[i - 1] != right[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, change)
        i, j = len(said), len(right)
        while i and j:
            if table[i][j] == table[i - 1][j - 1] + (said[i - 1] != right[j - 1]):
                i, j = i - 1, j - 1
                wrong[row, j] = said[i] != right[j]
            elif table[i][j] == table[i - 1][j] + 1:
                i -= 1
            else:
                j -= 1
    return wrong.sum(dim=0) / real.sum(dim=0)


@error_by_position.mistake(_IN_PLACE)
def gold_changed_by_place(predicted, gold, pad_id):
    said = torch.full_like(gold, pad_id)
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    real = gold != pad_id
    gold[~real] = -1
    said[~real] = -1
    return (said != gold).sum(dim=0) / real.sum(dim=0)


@error_by_position.mistake(
    "You add up the places on the way: that is the share of errors *up to* each place. Each place is asked on its own."
)
def up_to_each_place(predicted, gold, pad_id):
    said = F.pad(predicted, (0, gold.size(1) - predicted.size(1)), value=pad_id)
    real = gold != pad_id
    return ((said != gold) & real).sum(dim=0).cumsum(dim=0) / real.sum(dim=0).cumsum(dim=0)


@error_by_position.mistake(
    "You only ask words that are right so far. That is a question of its own (how likely is the *first* error here?). "
    "Asked is the share of all words that are that long."
)
def right_so_far_only(predicted, gold, pad_id):
    said = F.pad(predicted, (0, gold.size(1) - predicted.size(1)), value=pad_id)
    real = gold != pad_id
    wrong = (said != gold) & real
    before = wrong.cumsum(dim=1) - wrong.long() == 0
    return (wrong & before).sum(dim=0) / (real & before).sum(dim=0)


@error_by_position.mistake(
    "A token that was never said is no error in your count. It is missing, so it is wrong: take all places where "
    "`gold` is real."
)
def missing_tokens_right_by_place(predicted, gold, pad_id):
    said = F.pad(predicted, (0, gold.size(1) - predicted.size(1)), value=pad_id)
    real = gold != pad_id
    return ((said != gold) & real & (said != pad_id)).sum(dim=0) / real.sum(dim=0)


error_by_position.slip(
    "float64",
    "The numbers are right, but float64. Shares are float32 here, as PyTorch makes them from whole numbers: no "
    "`.double()`.",
    {"wrong.sum(dim=0) / real.sum(dim=0)": "wrong.double().sum(dim=0) / real.double().sum(dim=0)"},
)


error_by_position.also("means_of_floats", {
    "wrong.sum(dim=0) / real.sum(dim=0)": "wrong.float().sum(0) / real.float().sum(0)"
})  # fmt: skip


@error_by_position.also_right
def with_nanmean(predicted, gold, pad_id):
    said = F.pad(predicted, (0, gold.size(1) - predicted.size(1)), value=pad_id)
    wrong = (said != gold).float().masked_fill(gold == pad_id, float("nan"))
    return wrong.nanmean(dim=0)


@error_by_position.also_right
def place_by_place(predicted, gold, pad_id):
    shares = []
    for place in range(gold.size(1)):
        real = gold[:, place] != pad_id
        if not real.any():
            shares.append(float("nan"))
        elif place >= predicted.size(1):
            shares.append(1.0)
        else:
            shares.append((predicted[real, place] != gold[real, place]).float().mean().item())
    return torch.tensor(shares)


@error_by_position.also_right
def with_loops_by_place(predicted, gold, pad_id):
    wrong, real = [0] * gold.size(1), [0] * gold.size(1)
    for said, right in zip(predicted.tolist(), gold.tolist()):
        for place, token in enumerate(right):
            if token != pad_id:
                real[place] += 1
                wrong[place] += place >= len(said) or said[place] != token
    return torch.tensor([w / r if r else math.nan for w, r in zip(wrong, real)])


@error_by_position.also_right
def one_less_what_is_right(predicted, gold, pad_id):
    width = min(predicted.size(1), gold.size(1))
    right = torch.zeros_like(gold, dtype=torch.bool)
    right[:, :width] = predicted[:, :width] == gold[:, :width]
    real = gold != pad_id
    return 1 - (right & real).sum(dim=0) / real.sum(dim=0)


@error_by_position.also_right
def with_where(predicted, gold, pad_id):
    said = F.pad(predicted, (0, max(0, gold.shape[1] - predicted.shape[1])), value=pad_id)[:, : gold.shape[1]]
    count = (gold != pad_id).sum(dim=0)
    wrong = ((said != gold) * (gold != pad_id)).sum(dim=0)
    return torch.where(count > 0, wrong / count.clamp(min=1), torch.tensor(float("nan")))


@error_by_position.also_right
def with_einsum(predicted, gold, pad_id):
    said = gold.new_full(gold.shape, pad_id)
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    real = gold.ne(pad_id).float()
    return torch.einsum("bt,bt->t", said.ne(gold).float(), real) / real.sum(0)


error_by_position.hint(
    "It is `free_running_accuracy` again, with errors for right tokens, and summed over the words only."
)
error_by_position.hint(
    "How many words have a token at place t? `real = gold != pad_id` is (batch, length): which `dim`?"
)
error_by_position.hint(
    "`wrong = (said != gold) & real`, then two sums over dim 0, one divided by the other. What is 0 / 0 in torch?"
)

# --- aligned_error_by_position ---------------------------------------------------------------------------------

aligned_error_by_position = Exercise("aligned_error_by_position", returns=["errors (length,)"])

# In every pattern all alignments with the fewest edits agree on which gold tokens are wrong: tests/test_lesson_09.py
# goes through all of them.


@aligned_error_by_position.case("one token too many at the front: nothing of gold is wrong")
def _(draw):
    return _words(draw, ["xabcd.", "ef."], ["abcd.", "ef."])


@aligned_error_by_position.case("one token missing in the middle")
def _(draw):
    return _words(draw, ["abdef.", "gh."], ["abcdef.", "gh."])


@aligned_error_by_position.case("one wrong token, then one too many; and two too many")
def _(draw):
    return _words(draw, ["axcydef.", "axbcdyef.", "gh."], ["abcdef.", "abcdef.", "gh."])


@aligned_error_by_position.case("as long as it should be, but moved: one too many, one missing")
def _(draw):
    return _words(draw, ["xabcd.", "efg."], ["abcde.", "efg."])


@aligned_error_by_position.case("the first tokens are missing, and `predicted` is narrower than `gold`")
def _(draw):
    return _words(draw, ["cdef.", "fd."], ["abcdef.", "efd."])


@aligned_error_by_position.case("the last tokens are missing")
def _(draw):
    return _words(draw, ["abc", "d"], ["abcde.", "def."])


@aligned_error_by_position.case("only the end token was said")
def _(draw):
    return _words(draw, [".", "ab."], ["cd.", "ab."])


@aligned_error_by_position.case("all wrong, and too long")
def _(draw):
    return _words(draw, ["xyzxyz", "yxz"], ["abcd.", "cb"])


@aligned_error_by_position.case("far away the same token: to bring it there would cost more than it saves")
def _(draw):
    return _words(draw, ["wxyza", "bc."], ["abcde", "bc."])


@aligned_error_by_position.case("the longest common run is not part of the best alignment")
def _(draw):
    return _words(draw, ["dcab.", "ecda."], ["ccdaa.", "ccaca."])


@aligned_error_by_position.case("repeated tokens")
def _(draw):
    return _words(draw, ["abacada.", "bb."], ["abaada.", "bab."])


@aligned_error_by_position.case("pad_id is 7, and 0 is a real token")
def _(draw):
    return _words(draw, ["xazbc.", "zzd."], ["azbc.", "zd."], pad_id=7, zero="z")


@aligned_error_by_position.case("too wide, and NaN where no word is that long")
def _(draw):
    return _words(draw, ["xyzab.", "c."], ["ab.", "cd."], width=5, said_width=8)


@aligned_error_by_position.case("a row that is all padding, by name")
def _(draw):
    predicted, gold, pad_id = _words(draw, ["xab.", "x", "de."], ["ab.", "", "dfe."])
    return call(predicted=predicted, gold=gold, pad_id=pad_id)


@aligned_error_by_position.case("as many words as places, neither tensor contiguous")
def _(draw):
    predicted, gold, pad_id = _words(draw, ["xabc", "bc.", "efx.", "gh"], ["abc.", "abc.", "ef.", "ghi."])
    return predicted.T.contiguous().T, gold.T.contiguous().T, pad_id


@aligned_error_by_position.case("a token too many behind, and errors of other words in the same place")
def _(draw):
    return _words(draw, ["abyc.", "dxc.", "ggc.", "eaf."], ["abc.", "dec.", "gg.", "afb."])


@aligned_error_by_position.case("errors at both ends and in the middle")
def _(draw):
    return _words(draw, ["xbcdefghi", "jk."], ["abcdxefghy", "jkl."])


_SAME_PLACE = (
    "You compare the same place with the same place, so one token too many makes all that follow wrong. Align the two "
    "words first: which gold tokens does the alignment with the fewest edits pair with their like?"
)
_NOT_FEWEST = "This is not an alignment with the fewest edits."
_LONGEST_COMMON = (
    f"{_NOT_FEWEST} You look for as many equal pairs as possible and forget what the detour costs: a wrong token is "
    "one edit, not a deletion and an insertion."
)
_DIFFLIB = (
    f"{_NOT_FEWEST} `difflib` looks for the longest common run first and keeps it, whatever that costs elsewhere."
)
_TWO_POINTERS = (
    f"{_NOT_FEWEST} You go through both words once and decide at each place what to do. Whether a token is too much or "
    "wrong only shows later: make the table of lesson 05 and walk back through it."
)
_PLACE_OF_SAID = (
    "You mark the error at the place where it stands in `predicted`. Asked are the places of `gold`: its index is `j`."
)
_INSERTION_CHARGED = (
    "You count a token that was said too much as an error of the gold token beside it. It is no place of gold: it "
    "counts nowhere."
)
_LEADING_LOST = (
    "Where your walk reaches the start of `predicted`, gold tokens before that are missing, and you count them as "
    "right. Nobody said them: they are wrong."
)
_PADDING_ALIGNED = (
    "You align the padding, too, and edits are spent on it. Take `pad_id` out of both words before you align them."
)

_TABLE_CHOICE = "            if table[i][j] == table[i - 1][j - 1] + (not same):"


@aligned_error_by_position.mistake(_SAME_PLACE)
def same_place(predicted, gold, pad_id):
    said = torch.full_like(gold, pad_id)
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    real = gold != pad_id
    return ((said != gold) & real).sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.mistake(
    "You align only words of different lengths. One token too many and one missing give the same length, and all in "
    "between has moved: align every word."
)
def only_where_lengths_differ(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        if len(said) == len(right):
            for j in range(len(right)):
                wrong[row, j] = said[j] != right[j]
            continue
        table = [[i + j for j in range(len(right) + 1)] for i in range(len(said) + 1)]
        for i in range(1, len(said) + 1):
            for j in range(1, len(right) + 1):
                change = table[i - 1][j - 1] + (said[i - 1] != right[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, change)
        i, j = len(said), len(right)
        while i and j:
            if table[i][j] == table[i - 1][j - 1] + (said[i - 1] != right[j - 1]):
                i, j = i - 1, j - 1
                wrong[row, j] = said[i] != right[j]
            elif table[i][j] == table[i - 1][j] + 1:
                i -= 1
            else:
                j -= 1
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.mistake(
    "On the way back you have insertion and deletion the wrong way round: a token said too much (`i` goes down alone) "
    "is no error of gold, and a gold token that is missing (`j` goes down alone) is one."
)
def insertion_and_deletion_swapped(predicted, gold, pad_id):
    wrong, words = torch.zeros(gold.size(1)), (gold != pad_id).sum(dim=0)
    for said, right in zip(predicted.tolist(), gold.tolist()):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        table = [[i + j for j in range(len(right) + 1)] for i in range(len(said) + 1)]
        for i in range(1, len(said) + 1):
            for j in range(1, len(right) + 1):
                change = table[i - 1][j - 1] + (said[i - 1] != right[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, change)
        i, j = len(said), len(right)
        while j:
            if i and table[i][j] == table[i - 1][j - 1] + (said[i - 1] != right[j - 1]):
                i, j = i - 1, j - 1
                wrong[j] += said[i] != right[j]
            elif i and table[i][j] == table[i - 1][j] + 1:
                i -= 1
                wrong[j - 1] += 1
            else:
                j -= 1
    return wrong / words


@aligned_error_by_position.mistake(_LONGEST_COMMON)
def longest_common_subsequence(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        table = [[0] * (len(right) + 1) for _ in range(len(said) + 1)]
        for i in range(1, len(said) + 1):
            for j in range(1, len(right) + 1):
                if said[i - 1] == right[j - 1]:
                    table[i][j] = table[i - 1][j - 1] + 1
                else:
                    table[i][j] = max(table[i - 1][j], table[i][j - 1])
        i, j = len(said), len(right)
        while i and j:
            if said[i - 1] == right[j - 1]:
                i, j = i - 1, j - 1
                wrong[row, j] = False
            elif table[i - 1][j] >= table[i][j - 1]:
                i -= 1
            else:
                j -= 1
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.mistake(_LONGEST_COMMON)
def substitution_costs_two(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        table = [[i + j for j in range(len(right) + 1)] for i in range(len(said) + 1)]
        for i in range(1, len(said) + 1):
            for j in range(1, len(right) + 1):
                change = table[i - 1][j - 1] + 2 * (said[i - 1] != right[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, change)
        i, j = len(said), len(right)
        while i and j:
            if table[i][j] == table[i - 1][j - 1] + 2 * (said[i - 1] != right[j - 1]):
                i, j = i - 1, j - 1
                wrong[row, j] = said[i] != right[j]
            elif table[i][j] == table[i - 1][j] + 1:
                i -= 1
            else:
                j -= 1
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.mistake(_DIFFLIB)
def with_difflib(predicted, gold, pad_id):
    from difflib import SequenceMatcher

    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        for block in SequenceMatcher(None, said, right, autojunk=False).get_matching_blocks():
            wrong[row, block.b : block.b + block.size] = False
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.mistake(_TWO_POINTERS)
def next_match_from_the_left(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        i = 0
        for j, token in enumerate(right):
            if token in said[i:]:
                i = said.index(token, i) + 1
                wrong[row, j] = False
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.mistake(_TWO_POINTERS)
def two_pointers(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        i = j = 0
        while i < len(said) and j < len(right):
            if said[i] == right[j]:
                wrong[row, j] = False
                i, j = i + 1, j + 1
            elif i + 1 < len(said) and said[i + 1] == right[j]:
                i += 1
            elif j + 1 < len(right) and said[i] == right[j + 1]:
                j += 1
            else:
                i, j = i + 1, j + 1
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.mistake(
    "You only take the tokens that both words begin and end with. Between two errors there may be right ones, too: "
    "align the whole word."
)
def common_ends(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        front = 0
        while front < min(len(said), len(right)) and said[front] == right[front]:
            wrong[row, front] = False
            front += 1
        back = 1
        while back <= min(len(said), len(right)) - front and said[-back] == right[-back]:
            wrong[row, len(right) - back] = False
            back += 1
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.mistake(
    "You only ask whether a gold token was said anywhere in the word. The order matters: in an alignment, pairs never "
    "cross."
)
def anywhere_in_the_word_in_alignment(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        for j, token in enumerate(right):
            if token != pad_id:
                wrong[row, j] = token not in said
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.mistake(
    "You allow each token to be one place off. Two tokens too many move a word by two, and a neighbour that happens to "
    "be the same is not the same place: align the whole word."
)
def neighbours_allowed(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        for j, token in enumerate(right):
            wrong[row, j] = token not in said[max(0, j - 1) : j + 2]
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.mistake(
    "You move each word as a whole to where most of it fits. After an error in the middle the two halves need "
    "different moves: align with the table of lesson 05."
)
def best_offset(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        tries = []
        for offset in range(-len(right), len(said) + 1):
            fits = [0 <= j + offset < len(said) and said[j + offset] == token for j, token in enumerate(right)]
            tries.append((sum(fits), -abs(offset), fits))
        for j, fit in enumerate(max(tries)[2]):
            wrong[row, j] = not fit
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.mistake(
    "You spread the number of edits evenly over the places. Which gold tokens are wrong is settled by the alignment: "
    "walk back through the table."
)
def spread_evenly(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = torch.zeros(gold.shape)
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        table = [[i + j for j in range(len(right) + 1)] for i in range(len(said) + 1)]
        for i in range(1, len(said) + 1):
            for j in range(1, len(right) + 1):
                change = table[i - 1][j - 1] + (said[i - 1] != right[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, change)
        wrong[row, : len(right)] = table[-1][-1] / max(1, len(right))
    return wrong.sum(dim=0) / real.sum(dim=0)


aligned_error_by_position.slip(
    "place_of_what_was_said",
    _PLACE_OF_SAID,
    {"wrong[row, j] = not same": "wrong[row, min(i, gold.size(1) - 1)] = not same"},
)
aligned_error_by_position.slip(
    "insertion_charged_to_the_token_after",
    _INSERTION_CHARGED,
    {"                i -= 1\n": "                i -= 1\n                wrong[row, j] = True\n"},
)


aligned_error_by_position.slip(
    "leading_tokens_right",
    _LEADING_LOST,
    {
        "wrong = real.clone()": "wrong = torch.zeros_like(real)",
        "                j -= 1\n": "                j -= 1\n                wrong[row, j] = True\n",
    },
)
aligned_error_by_position.slip(
    "missing_tokens_right",
    "You count a gold token that is missing as right: only pairs can be wrong in your code. Nobody said it: it is "
    "wrong.",
    {"wrong = real.clone()": "wrong = torch.zeros_like(real)"},
)
aligned_error_by_position.slip(
    "wrong_tokens_right",
    "You count every gold token that has a partner as right. The partner may be another token: then it is wrong.",
    {"wrong[row, j] = not same": "wrong[row, j] = False"},
)
aligned_error_by_position.slip(
    "padding_aligned",
    _PADDING_ALIGNED,
    {
        "[token for token in predicted[row].tolist() if token != pad_id]": "predicted[row].tolist()",
        "[token for token in gold[row].tolist() if token != pad_id]": "gold[row].tolist()",
        "return wrong.sum(dim=0)": "return (wrong & real).sum(dim=0)",
    },
)
aligned_error_by_position.slip(
    "padding_of_predicted_aligned",
    _PADDING_ALIGNED,
    {"[token for token in predicted[row].tolist() if token != pad_id]": "predicted[row].tolist()"},
)
aligned_error_by_position.slip(
    "padding_is_zero",
    _PAD_IS_ZERO,
    {
        "real = gold != pad_id": "real = gold != 0",
        "predicted[row].tolist() if token != pad_id]": "predicted[row].tolist() if token != 0]",
        "gold[row].tolist() if token != pad_id]": "gold[row].tolist() if token != 0]",
    },
)
aligned_error_by_position.slip(
    "borders_of_zeros",
    "The borders of your table are 0. To get from nothing to j tokens takes j edits.",
    {"table[i][j] = i + j": "table[i][j] = 0"},
)
aligned_error_by_position.slip(
    "insertion_free",
    "A token that was said too much costs nothing in your table, so the alignment takes as many of them as it likes. "
    "It is one edit.",
    {
        "table[i - 1][j] + 1,": "table[i - 1][j],",
        "elif table[i][j] == table[i - 1][j] + 1:": "elif table[i][j] == table[i - 1][j]:",
    },
)
aligned_error_by_position.slip(
    "diagonal_always",
    f"{_SAME_PLACE} (Your walk back goes along the diagonal only, from the ends of both words.)",
    {_TABLE_CHOICE: "            if True:"},
)
aligned_error_by_position.slip(
    "gap_without_its_cost",
    f"{_NOT_FEWEST} In your walk back a token that is too much costs nothing, though it costs 1 in the table: compare "
    "with `table[i - 1][j] + 1`.",
    {"elif table[i][j] == table[i - 1][j] + 1:": "elif table[i][j] == table[i - 1][j]:"},
)
aligned_error_by_position.slip(
    "gaps_swapped",
    "Your walk back has swapped the two gaps. `table[i - 1][j]` leaves out a token that was *said*, so `i` goes down; "
    "`table[i][j - 1]` leaves out one of gold, so `j` does.",
    {"elif table[i][j] == table[i - 1][j] + 1:": "elif table[i][j] == table[i][j - 1] + 1:"},
)
aligned_error_by_position.slip(
    "accuracy_by_position",
    "This is how often each place is *right*. Asked is the share of errors.",
    {"return wrong.sum(dim=0)": "return (real & ~wrong).sum(dim=0)"},
)
aligned_error_by_position.slip("divided_by_the_batch", _DILUTED_BY_BATCH, {"/ real.sum(dim=0)": "/ len(gold)"})
aligned_error_by_position.slip(
    "by_word", _BY_WORD, {"wrong.sum(dim=0) / real.sum(dim=0)": "wrong.sum(dim=1) / real.sum(dim=1)"}
)
aligned_error_by_position.slip(
    "zero_where_no_word_is", _NOT_NAN, {"/ real.sum(dim=0)": "/ real.sum(dim=0).clamp(min=1)"}
)
aligned_error_by_position.slip(
    "percent", "You return percent. Asked are shares, from 0 to 1.", {"return wrong": "return 100 * wrong"}
)


@aligned_error_by_position.mistake(
    "You align all words of the batch as one long one. Each word has an alignment of its own: go row by row."
)
def one_long_word(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    places = real.nonzero().tolist()
    said, right = predicted[predicted != pad_id].tolist(), gold[real].tolist()
    table = [[i + j for j in range(len(right) + 1)] for i in range(len(said) + 1)]
    for i in range(1, len(said) + 1):
        for j in range(1, len(right) + 1):
            change = table[i - 1][j - 1] + (said[i - 1] != right[j - 1])
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, change)
    i, j = len(said), len(right)
    while i and j:
        if table[i][j] == table[i - 1][j - 1] + (said[i - 1] != right[j - 1]):
            i, j = i - 1, j - 1
            row, place = places[j]
            wrong[row, place] = said[i] != right[j]
        elif table[i][j] == table[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.mistake(_INSERTION_CHARGED)
def edits_by_prefix(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = torch.zeros(gold.shape)
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        table = [[i + j for j in range(len(right) + 1)] for i in range(len(said) + 1)]
        for i in range(1, len(said) + 1):
            for j in range(1, len(right) + 1):
                change = table[i - 1][j - 1] + (said[i - 1] != right[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, change)
        i, j = len(said), len(right)
        while i or j:
            if i and j and table[i][j] == table[i - 1][j - 1] + (said[i - 1] != right[j - 1]):
                i, j = i - 1, j - 1
                wrong[row, j] += said[i] != right[j]
            elif i and table[i][j] == table[i - 1][j] + 1:
                i -= 1
                wrong[row, max(0, min(j, len(right)) - 1)] += 1
            else:
                j -= 1
                wrong[row, j] += 1
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.mistake(
    "You count a gold token as wrong where the smallest number in its column is larger than in the one before. These "
    "smallest numbers need not lie on one way through the table: walk back from the last corner."
)
def smallest_of_each_column(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = torch.zeros(gold.shape)
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        table = [[i + j for j in range(len(right) + 1)] for i in range(len(said) + 1)]
        for i in range(1, len(said) + 1):
            for j in range(1, len(right) + 1):
                change = table[i - 1][j - 1] + (said[i - 1] != right[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, change)
        smallest = [min(line[j] for line in table) for j in range(len(right) + 1)]
        for j in range(len(right)):
            wrong[row, j] = float(smallest[j + 1] > smallest[j])
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.mistake(
    f"{_NOT_FEWEST} Yours may pair one token with several (dynamic time warping does that). Here each token has one "
    "partner or none, and a gap costs 1."
)
def time_warping(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        table = [[math.inf] * (len(right) + 1) for _ in range(len(said) + 1)]
        table[0][0] = 0
        for i in range(1, len(said) + 1):
            for j in range(1, len(right) + 1):
                least = min(table[i - 1][j], table[i][j - 1], table[i - 1][j - 1])
                table[i][j] = least + (said[i - 1] != right[j - 1])
        i, j = len(said), len(right)
        while i and j:
            if said[i - 1] == right[j - 1]:
                wrong[row, j - 1] = False
            least = min(table[i - 1][j], table[i][j - 1], table[i - 1][j - 1])
            if table[i - 1][j - 1] == least:
                i, j = i - 1, j - 1
            elif table[i - 1][j] == least:
                i -= 1
            else:
                j -= 1
    return wrong.sum(dim=0) / real.sum(dim=0)


aligned_error_by_position.slip(
    "missing_token_costs_two",
    f"{_NOT_FEWEST} In your table a missing token costs 2. Every edit costs 1: one too many, one missing, one wrong.",
    {
        "table[i][j] = i + j": "table[i][j] = i + 2 * j",
        "table[i][j - 1] + 1,": "table[i][j - 1] + 2,",
    },
)


@aligned_error_by_position.mistake(
    "You count how often your walk comes to each gold token, and divide by that. Where a token is too much it stays at "
    "the same gold token for a step: divide by the number of words that are that long."
)
def divided_by_visits(predicted, gold, pad_id):
    wrong, visits = torch.zeros(gold.size(1)), torch.zeros(gold.size(1))
    for said, right in zip(predicted.tolist(), gold.tolist()):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        table = [[i + j for j in range(len(right) + 1)] for i in range(len(said) + 1)]
        for i in range(1, len(said) + 1):
            for j in range(1, len(right) + 1):
                change = table[i - 1][j - 1] + (said[i - 1] != right[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, change)
        i, j = len(said), len(right)
        while j:
            visits[j - 1] += 1
            if i and table[i][j] == table[i - 1][j - 1] + (said[i - 1] != right[j - 1]):
                i, j = i - 1, j - 1
                wrong[j] += said[i] != right[j]
            elif i and table[i][j] == table[i - 1][j] + 1:
                i -= 1
            else:
                j -= 1
                wrong[j] += 1
    return wrong / visits


aligned_error_by_position.slip(
    "walk_over_the_edge",
    "Your walk goes on where one of the two words is used up, and index -1 is the *last* one in Python. Stop where "
    "`i` or `j` is 0; what is left of gold then is missing.",
    {"while i > 0 and j > 0:": "while j > 0:"},
)
aligned_error_by_position.slip(
    "last_token_dropped",
    "You drop the last token of what was said, as if it were the end token. The end token counts, and a word that "
    "never ended has none: only padding is taken out.",
    {
        "[token for token in predicted[row].tolist() if token != pad_id]": "[token for token in "
        "predicted[row].tolist() if token != pad_id][:-1]"
    },
)


@aligned_error_by_position.mistake(
    "You compare from the front and from the back, and take whichever fits. That can pair a token twice, and misses "
    "what lies between two errors: align the whole word."
)
def from_both_ends(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        moved = len(said) - len(right)
        for j, token in enumerate(right):
            front = j < len(said) and said[j] == token
            back = 0 <= j + moved < len(said) and said[j + moved] == token
            wrong[row, j] = not (front or back)
    return wrong.sum(dim=0) / real.sum(dim=0)


# The smallest of the three neighbours is always on a best way, where the diagonal goes first among equals.
aligned_error_by_position.also("smallest_neighbour", {
    _TABLE_CHOICE: "            if table[i - 1][j - 1] <= min(table[i - 1][j], table[i][j - 1]):",
    "elif table[i][j] == table[i - 1][j] + 1:": "elif table[i - 1][j] <= table[i][j - 1]:",
})  # fmt: skip
aligned_error_by_position.also("diagonal_where_the_tokens_are_the_same", {
    _TABLE_CHOICE: "            if same or table[i][j] == table[i - 1][j - 1] + 1:",
})  # fmt: skip


@aligned_error_by_position.also_right
def asks_the_distance(predicted, gold, pad_id):
    def distance(a, b):
        line = list(range(len(b) + 1))
        for i, one in enumerate(a, 1):
            corner, line[0] = line[0], i
            for j, other in enumerate(b, 1):
                corner, line[j] = line[j], min(line[j] + 1, line[j - 1] + 1, corner + (one != other))
        return line[-1]

    real = gold != pad_id
    wrong = torch.zeros(gold.shape)
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        for j in range(len(right)):  # a token that is wrong anyway can be spoilt at no cost
            spoilt = [*right[:j], None, *right[j + 1 :]]
            wrong[row, j] = distance(said, spoilt) == distance(said, right)
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.also_right
def gaps_before_pairs(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        table = [[i + j for j in range(len(right) + 1)] for i in range(len(said) + 1)]
        for i in range(1, len(said) + 1):
            for j in range(1, len(right) + 1):
                change = table[i - 1][j - 1] + (said[i - 1] != right[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, change)
        i, j = len(said), len(right)
        while i and j:
            if table[i][j] == table[i][j - 1] + 1:
                j -= 1
            elif table[i][j] == table[i - 1][j] + 1:
                i -= 1
            else:
                i, j = i - 1, j - 1
                wrong[row, j] = said[i] != right[j]
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.also_right
def from_the_front(predicted, gold, pad_id):
    from functools import lru_cache

    real = gold != pad_id
    wrong = torch.zeros_like(gold, dtype=torch.bool)
    for row in range(len(gold)):
        said = predicted[row][predicted[row] != pad_id].tolist()
        right = gold[row][real[row]].tolist()

        @lru_cache(None)
        def best(i, j):
            """The fewest edits from here on, and which gold tokens are wrong then."""
            if j == len(right):
                return len(said) - i, ()
            if i == len(said):
                return len(right) - j, tuple(range(j, len(right)))
            edits, marks = best(i + 1, j + 1)
            differs = said[i] != right[j]
            ways = [(edits + differs, ((j,) if differs else ()) + marks)]
            edits, marks = best(i + 1, j)
            ways.append((edits + 1, marks))
            edits, marks = best(i, j + 1)
            ways.append((edits + 1, (j, *marks)))
            return min(ways, key=lambda way: way[0])

        wrong[row, list(best(0, 0)[1])] = True
    return wrong.sum(dim=0) / real.sum(dim=0)


@aligned_error_by_position.also_right
def paths_kept_with_the_table(predicted, gold, pad_id):
    hits, counts = torch.zeros(gold.size(1)), (gold != pad_id).sum(dim=0)
    for said, right in zip(predicted.tolist(), gold.tolist()):
        said, right = [t for t in said if t != pad_id], [t for t in right if t != pad_id]
        row = [(j, frozenset()) for j in range(len(right) + 1)]
        for i, token in enumerate(said, 1):
            new = [(i, frozenset())]
            for j, wanted in enumerate(right, 1):
                edits, paired = row[j - 1]
                pair = (edits + 1, paired) if token != wanted else (edits, paired | {j - 1})
                new.append(min(pair, (row[j][0] + 1, row[j][1]), (new[-1][0] + 1, new[-1][1]), key=lambda way: way[0]))
            row = new
        for place in row[-1][1]:
            hits[place] += 1
    return 1 - hits / counts


@aligned_error_by_position.also_right
def reversed_words(predicted, gold, pad_id):
    real = gold != pad_id
    wrong = real.clone()
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist())):
        said = [t for t in said if t != pad_id][::-1]
        right = [t for t in right if t != pad_id][::-1]
        n, m = len(said), len(right)
        table = torch.zeros(n + 1, m + 1, dtype=torch.long)
        table[:, 0], table[0] = torch.arange(n + 1), torch.arange(m + 1)
        for i in range(1, n + 1):
            for j in range(1, m + 1):
                table[i, j] = min(
                    int(table[i - 1, j]) + 1,
                    int(table[i, j - 1]) + 1,
                    int(table[i - 1, j - 1]) + int(said[i - 1] != right[j - 1]),
                )
        while n and m:
            if said[n - 1] == right[m - 1] and table[n, m] == table[n - 1, m - 1]:
                wrong[row, len(right) - m] = False
                n, m = n - 1, m - 1
            elif table[n, m] == table[n - 1, m - 1] + 1:
                n, m = n - 1, m - 1
            elif table[n, m] == table[n - 1, m] + 1:
                n -= 1
            else:
                m -= 1
    return wrong.sum(0) / real.sum(0)


@aligned_error_by_position.also_right
def as_a_list(predicted, gold, pad_id):
    def pairs(said, right):
        if not said or not right:
            return len(said) + len(right), []
        key = (len(said), len(right))
        if key not in memory:
            edits, found = pairs(said[:-1], right[:-1])
            same = said[-1] == right[-1]
            ways = [(edits + (not same), found + [len(right) - 1] * same)]
            for one, other in ((said[:-1], right), (said, right[:-1])):
                edits, found = pairs(one, other)
                ways.append((edits + 1, found))
            memory[key] = min(ways, key=lambda way: way[0])
        return memory[key]

    real = gold != pad_id
    right_ones = torch.zeros(gold.size(1))
    for said, right in zip(predicted.tolist(), gold.tolist()):
        memory = {}
        for place in pairs([t for t in said if t != pad_id], [t for t in right if t != pad_id])[1]:
            right_ones[place] += 1
    return (real.sum(0) - right_ones) / real.sum(0)


aligned_error_by_position.hint(
    "Take one word, without its padding, and make the table of `edit_distance` between what was said and gold. It "
    "tells how many edits; now ask which."
)
aligned_error_by_position.hint(
    "Start at the last corner. Its number came from one of three neighbours, plus 0 or 1: from which? Go there, again "
    "and again. Only the diagonal step pairs two tokens."
)
aligned_error_by_position.hint(
    "Begin with every real gold token wrong, and mark it right where a diagonal step pairs it with its like. Then "
    "tokens that are missing need no care, nor do those that are too many."
)

# --- scheduled_sampling ----------------------------------------------------------------------------------------

scheduled_sampling = Exercise("scheduled_sampling", returns=["inputs (batch, length)"])


def _mixed(draw, lengths, start_id=1, pad_id=0, vocabulary=12, width=None, share=0.5):
    """Shifted gold tokens with the start token first, predictions that differ from all inputs, and coins.

    Predictions may be any token, the padding and the start token too, but are never the gold token of the place that
    they can be put into, nor of that where they stand.
    """
    real = [number for number in range(vocabulary) if number not in (start_id, pad_id)]
    gold = torch.full((len(lengths), width or max(lengths)), pad_id)
    predictions = torch.empty_like(gold)
    for row, length in zip(gold, lengths, strict=True):
        row[0] = start_id
        for place in range(1, length):
            row[place] = real[int(draw.integers(0, len(real)))]
    for row, own in zip(gold.tolist(), predictions, strict=True):
        for place in range(len(row)):
            near = {*row[max(0, place - 1) : place + 2]}
            others = [number for number in range(vocabulary) if number not in near]
            own[place] = others[int(draw.integers(0, len(others)))]
    return gold, predictions, torch.rand(gold.shape, generator=draw.generator) < share, start_id, pad_id


@scheduled_sampling.case("one word, the third input is the model's")
def _(draw):
    gold, predictions, use_model, start_id, pad_id = _mixed(draw, [5])
    use_model[:] = False
    use_model[0, 2] = True
    return gold, predictions, use_model, start_id, pad_id


@scheduled_sampling.case("every input may be the model's: start and padding stay")
def _(draw):
    gold, predictions, use_model, start_id, pad_id = _mixed(draw, [5, 3, 2], width=6)
    return gold, predictions, use_model | True, start_id, pad_id


@scheduled_sampling.case("none may")
def _(draw):
    gold, predictions, use_model, start_id, pad_id = _mixed(draw, [4, 2])
    return gold, predictions, use_model & False, start_id, pad_id


@scheduled_sampling.case("three words, half of the tokens, use_model[:, 0] too")
def _(draw):
    gold, predictions, use_model, start_id, pad_id = _mixed(draw, [6, 4, 5])
    use_model[:, 0] = True
    use_model[0, 1:5] = torch.tensor([True, False, False, True])
    use_model[1, 1:4] = torch.tensor([False, True, True])
    return gold, predictions, use_model, start_id, pad_id


@scheduled_sampling.case("start_id is 9, pad_id is 7, and 0, 1 and 2 are real tokens")
def _(draw):
    gold, predictions, use_model, start_id, pad_id = _mixed(draw, [6, 4], start_id=9, pad_id=7)
    gold[0, 1:4] = torch.tensor([0, 1, 2])
    gold[1, 1:4] = torch.tensor([2, 0, 1])
    predictions[:, :4] = torch.tensor([[4, 5, 6, 8], [8, 6, 5, 4]])
    use_model[:] = True
    return gold, predictions, use_model, start_id, pad_id


@scheduled_sampling.case("the model has predicted padding and the start token")
def _(draw):
    gold, predictions, use_model, start_id, pad_id = _mixed(draw, [5, 4, 5])
    predictions[:, 1], predictions[:, 2] = pad_id, start_id
    use_model[:, 1:4] = True
    return gold, predictions, use_model, start_id, pad_id


@scheduled_sampling.case("start and padding are one token, as in some libraries")
def _(draw):
    gold, predictions, use_model, start_id, pad_id = _mixed(draw, [5, 3], start_id=0, pad_id=0, width=6)
    return gold, predictions, use_model | True, start_id, pad_id


@scheduled_sampling.case("one whole word is the model's, the other gold")
def _(draw):
    gold, predictions, use_model, start_id, pad_id = _mixed(draw, [5, 5])
    use_model[0], use_model[1] = False, True
    return gold, predictions, use_model, start_id, pad_id


@scheduled_sampling.case("one token only, by name")
def _(draw):
    gold, predictions, use_model, start_id, pad_id = _mixed(draw, [1, 1])
    use_model[:] = True
    return call(gold_inputs=gold, predictions=predictions, use_model=use_model, start_id=start_id, pad_id=pad_id)


@scheduled_sampling.case("as many words as places, not contiguous")
def _(draw):
    gold, predictions, use_model, start_id, pad_id = _mixed(draw, [4, 4, 3, 4])
    use_model[:, 1], use_model[:, 2] = torch.tensor([True, False, True, False]), torch.tensor([False, True, True, True])
    return gold.T.contiguous().T, predictions.T.contiguous().T, use_model.T.contiguous().T, start_id, pad_id


@scheduled_sampling.case("a start token within a row stays, too: two words stand there one after the other")
def _(draw):
    gold, predictions, use_model, start_id, pad_id = _mixed(draw, [6, 7], width=8)
    gold[0, 3] = gold[1, 4] = start_id
    return gold, predictions, use_model | True, start_id, pad_id


@scheduled_sampling.case("ids of 32 bits")
def _(draw):
    gold, predictions, use_model, start_id, pad_id = _mixed(draw, [5, 4])
    use_model[:, 1:3] = torch.tensor([[True, False], [False, True]])
    return gold.int(), predictions.int(), use_model, start_id, pad_id


_NOT_SHIFTED = (
    "You put the model's answer at t into input t. That answer is what comes *after* input t: it can only be input "
    "t + 1, `predictions[:, :-1]` one place to the right."
)
_TO_THE_LEFT = (
    "You moved the predictions to the left: input t becomes the answer at t + 1, which the model gives only after "
    "reading inputs t and t + 1. Move them to the right: the answer at t belongs into input t + 1."
)
_INVERTED = (
    "You have it the other way round: True means that the input is the *model's*. (In Bengio et al. 2015 ε is the "
    "share of *gold* tokens, which is a source of this very mistake.)"
)
_OWN = "    own[:, 1:] = predictions[:, :-1]"

scheduled_sampling.slip("not_shifted", _NOT_SHIFTED, {_OWN: "    own[:, 1:] = predictions[:, 1:]"})
scheduled_sampling.slip(
    "not_shifted_and_nothing_stays",
    _NOT_SHIFTED,
    {"use_model & may_change, own, gold_inputs": "use_model, predictions, gold_inputs"},
)
scheduled_sampling.slip(
    "shifted_to_the_left",
    _TO_THE_LEFT,
    {_OWN: "    own[:, :-1] = predictions[:, 1:]"},
)
for _name, _last in (
    ("rolled_to_the_left", "predictions[:, :1]"),
    ("to_the_left_with_padding", "torch.full_like(gold_inputs[:, :1], pad_id)"),
    ("to_the_left_with_start", "gold_inputs[:, :1]"),
    ("to_the_left_with_the_last_twice", "predictions[:, -1:]"),
):
    scheduled_sampling.slip(_name, _TO_THE_LEFT, {_OWN: f"    own = torch.cat([predictions[:, 1:], {_last}], dim=1)"})
scheduled_sampling.slip(
    "shifted_by_two",
    "You moved the predictions by two places. The answer at t is what comes right after input t: it belongs into "
    "input t + 1.",
    {_OWN: "    own[:, 2:] = predictions[:, :-2]"},
)
scheduled_sampling.slip(
    "coins_shifted",
    "You moved the coins along with the predictions. `use_model[:, t]` is about *input* t: it stays where it is.",
    {"use_model &": "F.pad(use_model[:, :-1], (1, 0)) &"},
)
scheduled_sampling.slip(
    "coin_of_the_answer",
    "You read `use_model` at the place of the answer. It is about *inputs*: `use_model[:, t + 1]` decides whether the "
    "answer at t is put into input t + 1.",
    {"use_model &": "F.pad(use_model[:, 1:], (0, 1)) &"},
)
scheduled_sampling.slip(
    "one_coin_for_the_batch",
    "You throw one coin for the whole batch. `use_model` holds one for each token: use it place by place.",
    {"use_model &": "use_model[0, -1] &"},
)
scheduled_sampling.slip(
    "any_of_the_batch",
    "Where one coin of the batch says so, you take the model's token everywhere. `use_model` holds one coin for each "
    "token: use it place by place.",
    {"use_model &": "use_model.any() &"},
)
scheduled_sampling.slip(
    "one_coin_for_a_word",
    "You throw one coin for each word. `use_model` holds one for each token: use it place by place.",
    {"use_model &": "use_model[:, :1] &"},
)
scheduled_sampling.slip(
    "one_coin_for_a_place",
    "You use the coins of the first word for all words. `use_model` holds one for each token: use it place by place.",
    {"use_model &": "use_model[:1] &"},
)
scheduled_sampling.slip(
    "throws_its_own",
    "You throw coins of your own. They are thrown already, `use_model`: True means that this input is the model's.",
    {"use_model &": "(torch.rand(gold_inputs.shape) < 0.5) &"},
)
scheduled_sampling.slip(
    "coins_ignored",
    "You replace every token, whatever its coin says. Only where `use_model` is True is the input the model's.",
    {"use_model & may_change": "may_change"},
)
scheduled_sampling.slip(
    "inverted",
    _INVERTED,
    {"use_model &": "~use_model &"},
)
scheduled_sampling.slip(
    "results_exchanged", _INVERTED, {"may_change, own, gold_inputs)": "may_change, gold_inputs, own)"}
)
scheduled_sampling.slip(
    "results_exchanged_and_nothing_stays", _INVERTED, {"use_model & may_change, own, gold_inputs": "use_model, "
                                                       "gold_inputs, own"}
)  # fmt: skip
scheduled_sampling.slip(
    "what_stays_inverted",
    "Your mask is the wrong way round: you replace the start token and padding, which stay, and leave all others as "
    "they are.",
    {"use_model & may_change": "use_model & ~may_change"},
)
scheduled_sampling.slip(
    "start_replaced",
    "You replaced the start token. No answer comes before it, and the decoder always begins with it: it stays.",
    {
        _OWN: "    own = torch.roll(predictions, 1, dims=1)",
        "(gold_inputs != start_id) & (gold_inputs != pad_id)": "gold_inputs != pad_id",
    },
)
scheduled_sampling.slip(
    "start_replaced_by_answer_at_start",
    "You replaced the start token by the first answer, and left that where it stands. No answer comes before the start "
    "token: it stays.",
    {
        _OWN: "    own[:, 1:] = predictions[:, :-1]\n    own[:, 0] = predictions[:, 0]",
        "(gold_inputs != start_id) & (gold_inputs != pad_id)": "gold_inputs != pad_id",
    },
)
scheduled_sampling.slip(
    "start_replaced_by_padding",
    "Where `use_model[:, 0]` is True, a 0 takes the place of the start token: what `F.pad` puts in front. The start "
    "token stays.",
    {
        _OWN: "    own = F.pad(predictions[:, :-1], (1, 0))",
        "(gold_inputs != start_id) & (gold_inputs != pad_id)": "gold_inputs != pad_id",
    },
)
scheduled_sampling.slip(
    "padding_replaced",
    "You replaced padding. Nothing is asked for there, and a padded place that looks like a token can mislead masks: "
    "it stays.",
    {"(gold_inputs != start_id) & (gold_inputs != pad_id)": "gold_inputs != start_id"},
)
scheduled_sampling.slip(
    "nothing_stays_but_place_0",
    "The start token in front stays with you, since no answer comes before it; but nothing keeps padding. The coin may "
    "say True there, too: where `gold_inputs` is `pad_id` or `start_id`, it stays.",
    {"use_model & may_change": "use_model"},
)
scheduled_sampling.slip(
    "only_place_0_stays",
    "You keep place 0 and padding. The start token stays wherever it stands in `gold_inputs`, and may stand further "
    "back, too: ask for `gold_inputs != start_id`.",
    {"(gold_inputs != start_id) & (gold_inputs != pad_id)": "gold_inputs != pad_id"},
)
scheduled_sampling.slip(
    "padding_and_start_replaced",
    "You replaced the start token and padding. Both stay, whatever the coin says.",
    {_OWN: "    own = torch.roll(predictions, 1, dims=1)", "use_model & may_change": "use_model"},
)
scheduled_sampling.slip(
    "padding_is_zero",
    "You take 0 for the padding. Its id is `pad_id`, which may be any number, and 0 may be a real token.",
    {"gold_inputs != pad_id": "gold_inputs != 0"},
)
scheduled_sampling.slip(
    "start_is_one",
    "You take 1 for the start token. Its id is `start_id`, which may be any number, and 1 may be a real token.",
    {"gold_inputs != start_id": "gold_inputs != 1"},
)
scheduled_sampling.slip(
    "end_stays",
    "You also keep the token 2, as if it were the end token. Only the start token and padding stay.",
    {"(gold_inputs != pad_id)": "(gold_inputs != pad_id) & (gold_inputs != 2)"},
)
scheduled_sampling.slip(
    "special_predictions_left_out",
    "Where the model has predicted padding or the start token, you keep gold. Its answers are taken as they are, wrong "
    "ones too: that is what it has to learn to live with. What stays is told by `gold_inputs`.",
    {"(gold_inputs != pad_id)": "(gold_inputs != pad_id) & (own != pad_id) & (own != start_id)"},
)


@scheduled_sampling.mistake(
    "You look for start and padding in `predictions`. What stays is told by `gold_inputs`: a model may predict "
    "anything."
)
def looks_at_the_predictions(gold_inputs, predictions, use_model, start_id, pad_id):
    own = gold_inputs.clone()
    own[:, 1:] = predictions[:, :-1]
    may_change = (own != start_id) & (own != pad_id)
    return torch.where(use_model & may_change, own, gold_inputs)


@scheduled_sampling.mistake(
    "You made targets of it: gold moved to the left, with samples in between. Sampled tokens are only ever *read*. "
    "What the model is asked for stays gold, and is no business of this function."
)
def samples_replace_targets(gold_inputs, predictions, use_model, start_id, pad_id):
    targets = torch.cat([gold_inputs[:, 1:], torch.full_like(gold_inputs[:, :1], pad_id)], dim=1)
    return torch.where(use_model & (targets != pad_id), predictions, targets)


@scheduled_sampling.mistake(
    "You leave the start token out, so your result is one place short. It stays in front: the shape is that of "
    "`gold_inputs`."
)
def start_left_out(gold_inputs, predictions, use_model, start_id, pad_id):
    gold, own = gold_inputs[:, 1:], predictions[:, :-1]
    return torch.where(use_model[:, 1:] & (gold != pad_id), own, gold)


@scheduled_sampling.mistake(
    "You put the start token in front of inputs that have it already, so everything moves by one place too many. "
    "`gold_inputs` are shifted, only `predictions` are not."
)
def shifted_again(gold_inputs, predictions, use_model, start_id, pad_id):
    mixed = torch.where(use_model & (gold_inputs != pad_id), predictions, gold_inputs)
    return torch.cat([torch.full_like(mixed[:, :1], start_id), mixed[:, :-1]], dim=1)


@scheduled_sampling.mistake(
    "You throw the coins away once the model has been taken: from the first such token on, all are the model's. Each "
    "place has its own coin."
)
def from_the_first_on(gold_inputs, predictions, use_model, start_id, pad_id):
    own = gold_inputs.clone()
    own[:, 1:] = predictions[:, :-1]
    stays = (gold_inputs == start_id) | (gold_inputs == pad_id)
    ever = (use_model & ~stays).cumsum(dim=1) > 0
    return torch.where(ever & ~stays, own, gold_inputs)


@scheduled_sampling.mistake(
    "You return floats. Token ids are whole numbers, and an embedding refuses anything else: choose with "
    "`torch.where`, not with products of floats."
)
def as_floats(gold_inputs, predictions, use_model, start_id, pad_id):
    own = torch.cat([gold_inputs[:, :1], predictions[:, :-1]], dim=1)
    stays = (gold_inputs == start_id) | (gold_inputs == pad_id)
    share = (use_model & ~stays).float()
    return share * own + (1 - share) * gold_inputs


@scheduled_sampling.mistake(
    "You changed `gold_inputs` in place. The caller may still need them, for the first pass or the next coins: make a "
    "new tensor."
)
def gold_changed_in_mixing(gold_inputs, predictions, use_model, start_id, pad_id):
    own = torch.cat([gold_inputs[:, :1], predictions[:, :-1]], dim=1)
    chosen = use_model & (gold_inputs != start_id) & (gold_inputs != pad_id)
    gold_inputs[chosen] = own[chosen]
    return gold_inputs


@scheduled_sampling.mistake(
    "You changed `use_model` in place, to keep the start token. The coins are the caller's: combine them with a mask "
    "of your own."
)
def coins_changed(gold_inputs, predictions, use_model, start_id, pad_id):
    use_model[:, 0] = False
    own = torch.cat([gold_inputs[:, :1], predictions[:, :-1]], dim=1)
    return torch.where(use_model & (gold_inputs != pad_id), own, gold_inputs)


@scheduled_sampling.mistake(
    "Your loop reads what it has already written: `predictions` are those of the first pass, and the answer at t goes "
    "into input t + 1 from there. Do not carry a token on from place to place."
)
def carried_on(gold_inputs, predictions, use_model, start_id, pad_id):
    inputs = gold_inputs.clone()
    last = predictions[:, 0].clone()
    for place in range(1, inputs.size(1)):
        chosen = use_model[:, place] & (gold_inputs[:, place] != pad_id) & (gold_inputs[:, place] != start_id)
        inputs[chosen, place] = last[chosen]
        last[~chosen] = predictions[~chosen, place]
    return inputs


scheduled_sampling.slip(
    "always_int64",
    "Your ids are int64 whatever came in. Keep the dtype of `gold_inputs`: `torch.where` does, `.long()` does not.",
    {"own, gold_inputs)": "own, gold_inputs).long()"},
)
scheduled_sampling.slip(
    "padding_looked_for_one_place_early",
    "You look for padding at the place of the answer. It is about the *input* that would be replaced: the first padded "
    "place comes right after a real token.",
    {"(gold_inputs != pad_id)": "(F.pad(gold_inputs[:, :-1], (1, 0), value=start_id) != pad_id)"},
)


@scheduled_sampling.mistake(
    "Your loop leaves out the last place. It is an input like the others, and the answer before it can replace it."
)
def last_place_left_out(gold_inputs, predictions, use_model, start_id, pad_id):
    inputs = gold_inputs.clone()
    for place in range(1, inputs.size(1) - 1):
        gold = gold_inputs[:, place]
        chosen = use_model[:, place] & (gold != pad_id) & (gold != start_id)
        inputs[chosen, place] = predictions[chosen, place - 1]
    return inputs


@scheduled_sampling.mistake(
    "You leave out the first token after the start. The answer at place 0 comes before it and can replace it, like all "
    "others."
)
def first_token_left_out(gold_inputs, predictions, use_model, start_id, pad_id):
    inputs = gold_inputs.clone()
    for place in range(2, inputs.size(1)):
        gold = gold_inputs[:, place]
        chosen = use_model[:, place] & (gold != pad_id) & (gold != start_id)
        inputs[chosen, place] = predictions[chosen, place - 1]
    return inputs


@scheduled_sampling.mistake(
    "`masked_scatter` takes the values one after the other, from the beginning, not from the places of the mask: "
    "`torch.where` takes those of the same place."
)
def scattered(gold_inputs, predictions, use_model, start_id, pad_id):
    chosen = use_model & (gold_inputs != start_id) & (gold_inputs != pad_id)
    own = torch.cat([gold_inputs[:, :1], predictions[:, :-1]], dim=1)
    return gold_inputs.masked_scatter(chosen, own)


@scheduled_sampling.mistake(
    "You changed `predictions` in place. They are the caller's: make a new tensor of the moved ones."
)
def predictions_changed(gold_inputs, predictions, use_model, start_id, pad_id):
    predictions[:, 1:] = predictions[:, :-1].clone()
    predictions[:, 0] = start_id
    chosen = use_model & (gold_inputs != start_id) & (gold_inputs != pad_id)
    return torch.where(chosen, predictions, gold_inputs)


@scheduled_sampling.mistake(
    "Once the model has predicted padding you stop replacing. A first pass answers every place on its own: each answer "
    "is taken where its coin says so."
)
def stops_at_predicted_padding(gold_inputs, predictions, use_model, start_id, pad_id):
    own = torch.cat([gold_inputs[:, :1], predictions[:, :-1]], dim=1)
    chosen = use_model & (gold_inputs != start_id) & (gold_inputs != pad_id)
    seen = (own == pad_id).cumsum(dim=1) > 0
    return torch.where(chosen & ~seen, own, gold_inputs)


scheduled_sampling.also("with_cat", {_OWN: "    own = torch.cat([gold_inputs[:, :1], predictions[:, :-1]], dim=1)"})
scheduled_sampling.also("rolled", {_OWN: "    own = predictions.roll(1, dims=1)"})
scheduled_sampling.also("own_starts_with_padding", {_OWN: "    own = F.pad(predictions[:, :-1], (1, 0), value=pad_id)"})


@scheduled_sampling.also_right
def put_back_afterwards(gold_inputs, predictions, use_model, start_id, pad_id):
    inputs = torch.where(use_model, predictions.roll(1, dims=1), gold_inputs)
    inputs[gold_inputs == pad_id] = pad_id
    inputs[gold_inputs == start_id] = start_id
    return inputs


@scheduled_sampling.also_right
def first_column_apart(gold_inputs, predictions, use_model, start_id, pad_id):
    inputs = gold_inputs.clone()
    later = gold_inputs[:, 1:]
    may_change = (later != pad_id) & (later != start_id)
    inputs[:, 1:] = torch.where(use_model[:, 1:] & may_change, predictions[:, :-1], later)
    return inputs


@scheduled_sampling.also_right
def with_loops_in_mixing(gold_inputs, predictions, use_model, start_id, pad_id):
    inputs = gold_inputs.clone()
    for row in range(inputs.size(0)):
        for place in range(1, inputs.size(1)):
            if use_model[row, place] and gold_inputs[row, place] not in (start_id, pad_id):
                inputs[row, place] = predictions[row, place - 1]
    return inputs


@scheduled_sampling.also_right
def column_by_column(gold_inputs, predictions, use_model, start_id, pad_id):
    columns = [gold_inputs[:, 0]]
    for place in range(1, gold_inputs.size(1)):
        gold = gold_inputs[:, place]
        chosen = use_model[:, place] & (gold != pad_id) & (gold != start_id)
        columns.append(torch.where(chosen, predictions[:, place - 1], gold))
    return torch.stack(columns, dim=1)


@scheduled_sampling.also_right
def with_whole_products(gold_inputs, predictions, use_model, start_id, pad_id):
    own = torch.cat([gold_inputs[:, :1], predictions[:, :-1]], dim=1)
    chosen = (use_model & (gold_inputs != start_id) & (gold_inputs != pad_id)).to(gold_inputs.dtype)
    return chosen * own + (1 - chosen) * gold_inputs


@scheduled_sampling.also_right
def with_nonzero(gold_inputs, predictions, use_model, start_id, pad_id):
    inputs = gold_inputs.clone()
    rows, places = (use_model & (gold_inputs != pad_id) & (gold_inputs != start_id)).nonzero(as_tuple=True)
    inputs[rows, places] = predictions[rows, places - 1]
    return inputs


scheduled_sampling.hint(
    "Write a word with its start token on paper, and below each input what the model answers there. Into which input "
    "can each answer go?"
)
scheduled_sampling.hint(
    "Make a tensor `own` like `gold_inputs` whose place t + 1 holds `predictions[:, t]`. Two slices do it."
)
scheduled_sampling.hint(
    "`torch.where(mask, own, gold_inputs)`: where must the mask be False, whatever `use_model` says?"
)
