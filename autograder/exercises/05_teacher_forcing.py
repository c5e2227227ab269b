"""Lesson 05: the shift, the losses, one training step, edit distance, and a first decoded word."""

# ruff: noqa: F821 - mistakes and variants run in the lesson's set-up cell, as a student's answer does.
# mypy: ignore-errors

import torch
from torch import nn

from autograder.exercise import Exercise, call
from autograder.exercises.training_steps import training_steps
from autograder.scenarios.table_model import table

# --- shift_right -----------------------------------------------------------------------------------------------

shift_right = Exercise("shift_right", returns=["inputs (batch, length)"])


@shift_right.case("two words, the shorter one padded")
def _(draw):
    return torch.tensor([[5, 7, 2], [6, 2, 0]]), 1


@shift_right.case("start_id is 9, and 1 is a real token")
def _(draw):
    target = draw.padded([4, 2, 5], 1, 8, pad_id=0)
    target[:, 0] = 1
    return target, 9


@shift_right.case("one word of one token")
def _(draw):
    return torch.tensor([[4]]), 1


@shift_right.case("start_id is also the padding, as in some libraries")
def _(draw):
    return draw.padded([3, 6], 1, 9, pad_id=0), 0


@shift_right.case("no padding at all, by name")
def _(draw):
    return call(target=draw.integers(2, 9, 3, 4), start_id=1)


@shift_right.case("as many words as places, not contiguous")
def _(draw):
    return draw.integers(2, 9, 4, 4).T, 1


_IN_PLACE = (
    "You changed `target` in place. It is still needed: it holds the right answers that the loss compares with. "
    "Make a new tensor."
)


@shift_right.mistake(
    "`torch.roll` wraps: the last token comes to the front, where the start token belongs. Of a word without padding "
    "that is the end token."
)
def rolled(target, start_id):
    return torch.roll(target, 1, dims=1)


@shift_right.mistake(
    "You shifted to the left: each input is then the token that comes *after* the one to be predicted. Take "
    "`target[:, :-1]`, and put the start token in front."
)
def shifted_left(target, start_id):
    start = torch.full_like(target[:, :1], start_id)
    return torch.cat([target[:, 1:], start], dim=1)


@shift_right.mistake(
    "You dropped the first token and put the start token in its place: nothing has moved, so each input still is its "
    "own answer. Drop the *last* column."
)
def start_over_the_first(target, start_id):
    inputs = target.clone()
    inputs[:, 0] = start_id
    return inputs


@shift_right.mistake(
    "`target[:, 1:]` is the future: each input would be the very next token. And it is one column short. "
    "Asked are the start token and then `target[:, :-1]`."
)
def the_future(target, start_id):
    return target[:, 1:]


@shift_right.mistake(
    "You only dropped the last column. The start token is missing in front, so row 0 has nothing to read, and the "
    "shape is not that of `target`."
)
def start_missing(target, start_id):
    return target[:, :-1]


@shift_right.mistake(
    "Your result is one column too long: when the start token comes in front, the last column has to go."
)
def one_too_long(target, start_id):
    start = torch.full_like(target[:, :1], start_id)
    return torch.cat([start, target], dim=1)


@shift_right.mistake("You put the start token at the end. It comes first: it is what the model reads before it speaks.")
def start_appended(target, start_id):
    start = torch.full_like(target[:, :1], start_id)
    return torch.cat([target[:, :-1], start], dim=1)


@shift_right.mistake(
    "Your start token is always 1. Its id is `start_id`, which may be any number, and 1 may be a real token."
)
def start_hard_coded(target, start_id):
    start = torch.ones_like(target[:, :1])
    return torch.cat([start, target[:, :-1]], dim=1)


_ONE_PER_ROW = (
    "Your start token is there only once, and the batch has many rows: one start token for each of them, a column of "
    "shape (batch, 1). `torch.cat` repeats nothing."
)


@shift_right.mistake(_ONE_PER_ROW)
def one_start_for_all(target, start_id):
    return torch.cat([torch.tensor([[start_id]]), target[:, :-1]], dim=1)


@shift_right.mistake(
    "Your start tokens have one dimension, the target has two: `torch.cat` along dimension 1 wants a column of shape "
    "(batch, 1), one start token for each row."
)
def starts_in_one_dimension(target, start_id):
    return torch.cat([torch.full((target.size(0),), start_id), target[:, :-1]], dim=1)


@shift_right.mistake("You put a 0 in front, as padding does when no value is given. There belongs `start_id`.")
def padded_with_zero(target, start_id):
    return F.pad(target[:, :-1], (1, 0))


@shift_right.mistake("You shifted the words and not the tokens: row 1 now reads word 0. The places are dimension 1.")
def batch_shifted(target, start_id):
    start = torch.full_like(target[:1], start_id)
    return torch.cat([start, target[:-1]], dim=0)


@shift_right.mistake("You shifted by two: each row has to read the token just before the one that it predicts.")
def shifted_by_two(target, start_id):
    start = torch.full((target.size(0), 2), start_id)
    return torch.cat([start, target], dim=1)[:, : target.size(1)]


@shift_right.mistake("Nothing has moved: each input is its own answer, and the model only has to copy it.")
def not_shifted(target, start_id):
    return target.clone()


@shift_right.mistake(_IN_PLACE)
def in_place_by_slices(target, start_id):
    target[:, 1:] = target[:, :-1].clone()
    target[:, 0] = start_id
    return target


@shift_right.mistake(
    "You copied to the right without `.clone()`: source and destination are the same memory, so what is read may have "
    "been overwritten before. And `target` is changed in place, though the loss still needs it."
)
def in_place_column_by_column(target, start_id):
    for place in range(1, target.size(1)):
        target[:, place] = target[:, place - 1]
    target[:, 0] = start_id
    return target


@shift_right.mistake(
    "You return floats. Token ids are whole numbers, and an embedding refuses anything else: `torch.full_like` keeps "
    "the dtype of `target`, `torch.ones(…)` and `torch.full(…, 1.0)` do not."
)
def as_floats(target, start_id):
    start = torch.ones(target.size(0), 1) * start_id
    return torch.cat([start, target[:, :-1]], dim=1)


@shift_right.mistake(
    "You take the last token of the whole row off, padding or not, only where there is none: the rows are moved by "
    "different amounts. Every row moves by one place, padding and all."
)
def padding_stays(target, start_id):
    rows = []
    for row in target:
        real = row[row != 0]
        moved = torch.cat([torch.tensor([start_id]), real[:-1]])
        rows.append(torch.cat([moved, torch.zeros(len(row) - len(moved), dtype=row.dtype)]))
    return torch.stack(rows)


@shift_right.also_right
def with_pad(target, start_id):
    return F.pad(target[:, :-1], (1, 0), value=start_id)


@shift_right.also_right
def with_new_full(target, start_id):
    return torch.hstack((target.new_full((len(target), 1), start_id), target[:, :-1]))


@shift_right.also_right
def filled_by_slices(target, start_id):
    inputs = torch.empty_like(target)
    inputs[:, 0] = start_id
    inputs[:, 1:] = target[:, :-1]
    return inputs


@shift_right.also_right
def rolled_then_mended(target, start_id):
    inputs = target.roll(1, dims=1)
    inputs[:, 0] = start_id
    return inputs


@shift_right.also_right
def with_lists(target, start_id):
    return torch.tensor([[start_id, *row[:-1]] for row in target.tolist()])


shift_right.hint("Write the inputs for `[[5, 7, 2]]` and start_id 1 on paper. Which token of the target is left out?")
shift_right.hint("`target[:, :-1]` is all but the last column. What shape has the piece that comes in front of it?")
shift_right.hint("`torch.full_like(target[:, :1], start_id)` is a column of start tokens; `torch.cat(…, dim=1)` joins.")

# --- token_cross_entropy ---------------------------------------------------------------------------------------

token_cross_entropy = Exercise("token_cross_entropy", returns=["loss ()"])


def _tokens(draw, lengths, vocabulary, pad_id, width=None):
    """Ragged targets of all tokens but the padding, which may be any.  # (batch, length)"""
    target = draw.padded(lengths, 0, vocabulary - 1, pad_id=-1, width=width)
    target = torch.where(target >= pad_id, target + 1, target)
    return torch.where(target < 0, pad_id, target)


def _scored(draw, lengths, vocabulary, pad_id, width=None, dtype=torch.float32):
    """Logits and targets."""
    target = _tokens(draw, lengths, vocabulary, pad_id, width)
    return draw.normal(*target.shape, vocabulary, scale=1.5, dtype=dtype), target


def _extreme(draw, lengths, vocabulary, pad_id, dtype=torch.float32):
    """Logits of ±10,000; the first target of each word has a low one, the others whatever comes.

    In the second place of each word all are about -10,000: far below the largest of the batch and of the word.
    """
    near, target = _scored(draw, lengths, vocabulary, pad_id, dtype=dtype)
    logits = torch.where(near > 0, 1e4, -1e4).to(dtype)
    logits[:, 0] = 1e4
    logits[torch.arange(len(target)), 0, target[:, 0]] = -1e4
    logits[:, 1] = near[:, 1].round() - 1e4
    return logits, target


@token_cross_entropy.case("two words, the shorter one padded")
def _(draw):
    return *_scored(draw, [3, 2], 4, 0), 0


@token_cross_entropy.case("pad_id is 2, and 0 is a real token")
def _(draw):
    logits, target = _scored(draw, [4, 2, 5], 6, 2)
    target[:, 0] = 0
    return logits, target, 2


@token_cross_entropy.case("as many places as classes (T = V), so that a wrong dimension raises nothing")
def _(draw):
    return *_scored(draw, [5, 3], 5, 0), 0


@token_cross_entropy.case("words, places and classes all four")
def _(draw):
    return *_scored(draw, [4, 1, 3, 2], 4, 3), 3


@token_cross_entropy.case("no padding, by name")
def _(draw):
    logits, target = _scored(draw, [3, 3], 5, 4)
    return call(logits=logits, target=target, pad_id=4)


@token_cross_entropy.case("one word of one token")
def _(draw):
    return *_scored(draw, [1], 6, 0), 0


@token_cross_entropy.case("a row that is all padding")
def _(draw):
    return *_scored(draw, [3, 0, 4], 5, 0), 0


@token_cross_entropy.case("padding on the left, as some libraries have it")
def _(draw):
    return draw.normal(2, 4, 5), draw.padded([2, 4], 1, 5, pad_id=0).flip(1), 0


@token_cross_entropy.case("float64, neither tensor contiguous")
def _(draw):
    logits, target = _scored(draw, [2, 4, 3], 6, 5, dtype=torch.float64)
    return logits.mT.contiguous().mT, target.T.contiguous().T, 5


@token_cross_entropy.case("logits of ±10,000, in one place all of them about -10,000")
def _(draw):
    return *_extreme(draw, [3, 4], 5, 0), 0


@token_cross_entropy.case("gradients", scenario="gradients")
def _(draw):
    return *_scored(draw, [4, 2], 5, 0), 0


@token_cross_entropy.case("gradients, logits of ±10,000, float64", scenario="gradients")
def _(draw):
    return *_extreme(draw, [2, 3], 4, 3, dtype=torch.float64), 3


_TWICE = (
    "The softmax is taken twice: `F.cross_entropy` wants logits and takes the softmax itself. From probabilities "
    "between 0 and 1 the loss cannot fall below ln(e + V - 1) - 1."
)
_CLASSES = (
    "Your classes stand in the wrong dimension: `F.cross_entropy` takes dimension 1 for the classes, and yours is the "
    "places. `logits.transpose(1, 2)`, or make the rows flat. (Where T = V it raises nothing.)"
)
_VIEW = (
    "`view` does not swap dimensions, it only counts the same numbers off anew, so classes and places are mixed up. "
    "To swap, `transpose(1, 2)`."
)
_ALL_PLACES = (
    "You divide by all places, padding included, so padding dilutes the mean: the same words get a smaller loss "
    "beside a long one. Divide by the number of real tokens."
)
_PER_WORD = (
    "You average within each word first, then over the words. Then each token of a short word counts more (and a row "
    "of padding is 0 / 0). Asked is one mean over all real tokens."
)
_PADDING_COUNTS = "The padding is counted as if it were to be predicted: leave out the places where target is `pad_id`."
_PAD_ZERO = "You leave out the token 0. The id of the padding is `pad_id`, and 0 may be a real token."
_SUMMED = "You return the sum. Asked is the mean over real tokens: a sum grows with the size of the batch."
_FLOAT = (
    "You return a Python float (`.item()` or `float`). No gradient flows through one, and `backward` needs it: return "
    "the tensor."
)
_CUT = "The number is right, but cut off from the gradient (`.detach()`, `no_grad`, `.data`): nothing could be learnt."
_LOG_OF_SOFTMAX = (
    "Softmax and logarithm in two steps: a tiny probability rounds to 0 (or e to a large logit to inf), and the loss "
    "becomes inf or NaN. Take `log_softmax`, which does both at once and stays finite."
)
_OVERFLOW = (
    "Your own exponentials overflow: e to a large logit is inf. `log_softmax` takes the row's maximum away first."
)
_TARGET_CHANGED = "You changed the caller's `target` in place: others still need it. `target.masked_fill(…)` is a copy."
_NEGATIVE = "The sign is turned: the loss is *minus* the log-probability, and never below 0."
_VIEW_ORDER = (
    "`view` stops where a tensor does not lie in memory in order, as after a slice or a transpose. `reshape` copies "
    "where it must."
)
_SHIFTED_AGAIN = (
    "You move logits against target by one place. The decoder's input is moved already, so row t of the logits "
    "belongs to target[t]: moved twice, the model learns to predict two ahead."
)


@token_cross_entropy.mistake(_TWICE)
def softmax_first(logits, target, pad_id):
    return F.cross_entropy(logits.softmax(-1).transpose(1, 2), target, ignore_index=pad_id)


@token_cross_entropy.mistake(
    "Your softmax runs over the places (dimension 1), so each row is no distribution over the classes; and "
    "`F.cross_entropy` takes a softmax of its own besides: hand it the logits."
)
def softmax_over_places(logits, target, pad_id):
    return F.cross_entropy(logits.softmax(1).transpose(1, 2), target, ignore_index=pad_id)


@token_cross_entropy.mistake(_CLASSES)
def classes_last(logits, target, pad_id):
    return F.cross_entropy(logits, target, ignore_index=pad_id)


@token_cross_entropy.mistake(_VIEW)
def viewed(logits, target, pad_id):
    batch, length, vocabulary = logits.shape
    return F.cross_entropy(logits.reshape(batch, vocabulary, length), target, ignore_index=pad_id)


@token_cross_entropy.mistake(
    "You made the logits flat after swapping dimensions, so a row of (tokens, classes) is no longer one token. "
    "Either `transpose(1, 2)`, or `reshape(-1, V)`: not both."
)
def transposed_and_flat(logits, target, pad_id):
    flat = logits.transpose(1, 2).reshape(-1, logits.size(-1))
    return F.cross_entropy(flat, target.reshape(-1), ignore_index=pad_id)


@token_cross_entropy.mistake(_ALL_PLACES)
def over_all_places(logits, target, pad_id):
    losses = F.cross_entropy(logits.transpose(1, 2), target, ignore_index=pad_id, reduction="none")
    return losses.sum() / target.numel()


@token_cross_entropy.mistake(_ALL_PLACES)
def mean_after_masking(logits, target, pad_id):
    losses = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    return (losses * (target != pad_id)).mean()


@token_cross_entropy.mistake(_PER_WORD)
def mean_of_means(logits, target, pad_id):
    real = target != pad_id
    losses = F.cross_entropy(logits.transpose(1, 2), target, reduction="none") * real
    return (losses.sum(dim=1) / real.sum(dim=1)).mean()


@token_cross_entropy.mistake(_PER_WORD)
def mean_of_means_with_a_floor(logits, target, pad_id):
    real = target != pad_id
    losses = F.cross_entropy(logits.transpose(1, 2), target, reduction="none") * real
    return (losses.sum(dim=1) / real.sum(dim=1).clamp_min(1)).mean()


@token_cross_entropy.mistake(
    "You divide by the number of words. That is the mean loss of a whole word: long words weigh more, and the number "
    "is no longer one per token. Divide by the number of real tokens."
)
def over_words(logits, target, pad_id):
    losses = F.cross_entropy(logits.transpose(1, 2), target, ignore_index=pad_id, reduction="sum")
    return losses / target.size(0)


@token_cross_entropy.mistake(_PADDING_COUNTS)
def padding_counted(logits, target, pad_id):
    return F.cross_entropy(logits.transpose(1, 2), target)


@token_cross_entropy.mistake(
    "You set the logits of padded places to 0, but still count them: each adds ln V. Leave those places out of sum "
    "and number."
)
def logits_zeroed(logits, target, pad_id):
    blank = logits.masked_fill((target == pad_id)[..., None], 0.0)
    return F.cross_entropy(blank.transpose(1, 2), target)


@token_cross_entropy.mistake(
    "You took the *class* `pad_id` out of the logits. It stays a class like the others; what is left out are the "
    "places where the target is padding."
)
def padding_class_removed(logits, target, pad_id):
    hidden = logits.clone()
    hidden[..., pad_id] = float("-inf")
    return F.cross_entropy(hidden.transpose(1, 2), target, ignore_index=pad_id)


@token_cross_entropy.mistake(_PAD_ZERO)
def ignores_zero(logits, target, pad_id):
    return F.cross_entropy(logits.transpose(1, 2), target, ignore_index=0)


@token_cross_entropy.mistake(
    "You keep tokens greater than `pad_id`. Real tokens may be smaller than it, too: ask for those that are not equal."
)
def keeps_the_greater(logits, target, pad_id):
    losses = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    return losses[target > pad_id].mean()


@token_cross_entropy.mistake(_SUMMED)
def summed(logits, target, pad_id):
    return F.cross_entropy(logits.transpose(1, 2), target, ignore_index=pad_id, reduction="sum")


@token_cross_entropy.mistake("The losses of the single tokens are right; now take their mean over the real ones.")
def not_averaged(logits, target, pad_id):
    return F.cross_entropy(logits.transpose(1, 2), target, ignore_index=pad_id, reduction="none")


@token_cross_entropy.mistake(_FLOAT)
def python_float(logits, target, pad_id):
    return F.cross_entropy(logits.transpose(1, 2), target, ignore_index=pad_id).item()


@token_cross_entropy.mistake(_CUT)
def detached(logits, target, pad_id):
    return F.cross_entropy(logits.detach().transpose(1, 2), target, ignore_index=pad_id)


@token_cross_entropy.mistake(
    "Your logarithm is to the base 2, so the loss is in bits. Asked are nats, the natural logarithm: `log_softmax`, "
    "or `torch.log`."
)
def in_bits(logits, target, pad_id):
    return F.cross_entropy(logits.transpose(1, 2), target, ignore_index=pad_id) / math.log(2)


@token_cross_entropy.mistake(
    "You return the perplexity, e to the power of the loss. It is good to read, but asked is the loss itself: leave "
    "out the exp."
)
def perplexity(logits, target, pad_id):
    return F.cross_entropy(logits.transpose(1, 2), target, ignore_index=pad_id).exp()


@token_cross_entropy.mistake(_LOG_OF_SOFTMAX)
def log_of_softmax(logits, target, pad_id):
    log_probs = torch.log(torch.softmax(logits, dim=-1))
    return F.nll_loss(log_probs.transpose(1, 2), target, ignore_index=pad_id)


@token_cross_entropy.mistake(_LOG_OF_SOFTMAX)
def log_of_the_right_probability(logits, target, pad_id):
    right = torch.softmax(logits, dim=-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return -right.log()[target != pad_id].mean()


@token_cross_entropy.mistake(_LOG_OF_SOFTMAX)
def log_of_softmax_of_real_rows(logits, target, pad_id):
    real = target != pad_id
    log_probs = logits[real].softmax(-1).log()
    return -log_probs[torch.arange(len(log_probs)), target[real]].mean()


@token_cross_entropy.mistake(_LOG_OF_SOFTMAX)
def one_hot_times_log_of_softmax(logits, target, pad_id):
    wanted = F.one_hot(target, logits.size(-1))
    losses = -(wanted * logits.softmax(-1).log()).sum(-1)
    return losses[target != pad_id].mean()


@token_cross_entropy.mistake(
    "The small number that you add inside the logarithm caps the loss (at about 20.7 for 1e-9), and beyond it there "
    "is no gradient. `log_softmax` needs no such number."
)
def log_with_a_floor(logits, target, pad_id):
    log_probs = torch.log(torch.softmax(logits, dim=-1) + 1e-9)
    return F.nll_loss(log_probs.transpose(1, 2), target, ignore_index=pad_id)


@token_cross_entropy.mistake(_OVERFLOW)
def exponentials_overflow(logits, target, pad_id):
    right = logits.gather(-1, target[..., None])[..., 0]
    losses = logits.exp().sum(dim=-1).log() - right
    return losses[target != pad_id].mean()


_ONE_MAXIMUM = (
    "You take one maximum away from all the rows. A row that lies far below it then rounds to zeros, and their "
    "logarithm is -inf. Each row has its own: `amax(dim=-1, keepdim=True)`, or `log_softmax`, which sees to it."
)


@token_cross_entropy.mistake(_ONE_MAXIMUM)
def one_maximum_for_the_batch(logits, target, pad_id):
    lowered = logits - logits.max()
    log_probs = lowered - lowered.exp().sum(dim=-1, keepdim=True).log()
    losses = -log_probs.gather(-1, target[..., None])[..., 0]
    return losses[target != pad_id].mean()


@token_cross_entropy.mistake(_ONE_MAXIMUM)
def one_maximum_for_each_word(logits, target, pad_id):
    lowered = logits - logits.amax(dim=(1, 2), keepdim=True)
    log_probs = lowered - lowered.exp().sum(dim=-1, keepdim=True).log()
    losses = -log_probs.gather(-1, target[..., None])[..., 0]
    return losses[target != pad_id].mean()


@token_cross_entropy.mistake(
    "`F.nll_loss` wants log-probabilities, and you hand it raw logits: they are not normalised, so the loss can be "
    "pushed down without end. `log_softmax` first."
)
def nll_of_logits(logits, target, pad_id):
    return F.nll_loss(logits.transpose(1, 2), target, ignore_index=pad_id)


@token_cross_entropy.mistake(
    "`F.nll_loss` wants log-probabilities, and you hand it probabilities: the logarithm is missing. `log_softmax`."
)
def nll_of_probabilities(logits, target, pad_id):
    return F.nll_loss(logits.softmax(-1).transpose(1, 2), target, ignore_index=pad_id)


@token_cross_entropy.mistake(_NEGATIVE)
def negative(logits, target, pad_id):
    log_probs = logits.log_softmax(-1).gather(-1, target[..., None])[..., 0]
    return log_probs[target != pad_id].mean()


@token_cross_entropy.mistake(
    "You take the entry that the model likes best, not that of the right token: such a loss is small whatever the "
    "model says."
)
def best_instead_of_right(logits, target, pad_id):
    losses = -logits.log_softmax(-1).amax(dim=-1)
    return losses[target != pad_id].mean()


@token_cross_entropy.mistake(
    "You ask of each class on its own, yes or no (a sigmoid for each). Here exactly one of the V tokens comes next: "
    "one softmax over all of them."
)
def each_class_on_its_own(logits, target, pad_id):
    wanted = F.one_hot(target, logits.size(-1)).to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(-1)
    return losses[target != pad_id].mean()


@token_cross_entropy.mistake(
    "You take the squared distance of probabilities. Asked is the cross-entropy, -ln p of the right token, which grows "
    "without bound as p goes to 0."
)
def squared_distance(logits, target, pad_id):
    wanted = F.one_hot(target, logits.size(-1)).to(logits.dtype)
    losses = (logits.softmax(-1) - wanted).square().sum(-1)
    return losses[target != pad_id].mean()


@token_cross_entropy.mistake(_SHIFTED_AGAIN)
def shifted_again(logits, target, pad_id):
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), target[:, 1:], ignore_index=pad_id)


@token_cross_entropy.mistake(
    "You leave out the last place. There is the end token of the longest word, and without it the model never learns "
    "to stop."
)
def last_place_dropped(logits, target, pad_id):
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), target[:, :-1], ignore_index=pad_id)


@token_cross_entropy.mistake(_TARGET_CHANGED)
def target_changed(logits, target, pad_id):
    target[target == pad_id] = -100
    return F.cross_entropy(logits.transpose(1, 2), target)


@token_cross_entropy.mistake(_VIEW_ORDER)
def view_of_what_is_not_in_order(logits, target, pad_id):
    return F.cross_entropy(logits.view(-1, logits.size(-1)), target.view(-1), ignore_index=pad_id)


@token_cross_entropy.also_right
def flat(logits, target, pad_id):
    return F.cross_entropy(logits.reshape(-1, logits.size(-1)), target.reshape(-1), ignore_index=pad_id)


@token_cross_entropy.also_right
def log_softmax_first(logits, target, pad_id):
    return F.cross_entropy(logits.log_softmax(-1).transpose(1, 2), target, ignore_index=pad_id)


@token_cross_entropy.also_right
def with_gather(logits, target, pad_id):
    losses = -logits.log_softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return losses[target != pad_id].mean()


@token_cross_entropy.also_right
def with_one_hot_and_einsum(logits, target, pad_id):
    wanted = F.one_hot(target, logits.size(-1)).to(logits.dtype)
    losses = -torch.einsum("btv,btv->bt", F.log_softmax(logits, dim=-1), wanted)
    real = (target != pad_id).to(logits.dtype)
    return (losses * real).sum() / real.sum()


@token_cross_entropy.also_right
def with_logsumexp(logits, target, pad_id):
    rows, tokens = logits[target != pad_id], target[target != pad_id]
    return (rows.logsumexp(-1) - rows[torch.arange(len(tokens)), tokens]).mean()


@token_cross_entropy.also_right
def in_a_loop(logits, target, pad_id):
    losses = []
    for word, scores in zip(target, logits, strict=True):
        for token, row in zip(word, scores, strict=True):
            if token != pad_id:
                losses.append(-torch.log_softmax(row, 0)[token])
    return torch.stack(losses).mean()


@token_cross_entropy.also_right
def ignoring_minus_hundred_in_a_copy(logits, target, pad_id):
    labels = torch.where(target == pad_id, -100, target)
    return nn.CrossEntropyLoss()(logits.permute(0, 2, 1), labels)


_UP_TO_THE_FIRST = (
    "You count tokens up to the first padding of a row, or as many from its beginning as are real. That holds only "
    "where padding comes last: look at each token instead, `target != pad_id`."
)


@token_cross_entropy.mistake(_UP_TO_THE_FIRST)
def as_many_as_are_real(logits, target, pad_id):
    losses = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    lengths = (target != pad_id).sum(dim=1, keepdim=True)
    return losses[torch.arange(target.size(1)) < lengths].mean()


@token_cross_entropy.mistake(_UP_TO_THE_FIRST)
def up_to_the_first_padding(logits, target, pad_id):
    losses = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    real = (target != pad_id).long().cumprod(dim=1).bool()
    return losses[real].mean()


token_cross_entropy.hint(
    "`F.cross_entropy` takes logits (batch, classes, length), the classes in dimension 1. Where do yours stand?"
)
token_cross_entropy.hint("It has an argument for a target that does not count. Which value does it get here?")
token_cross_entropy.hint(
    "By hand: `logits.log_softmax(-1)`, `gather` the entry of each target, keep the real ones, minus, mean."
)

# --- label_smoothing_loss --------------------------------------------------------------------------------------

label_smoothing_loss = Exercise("label_smoothing_loss", returns=["loss ()"], forbids=["cross_entropy"])


@label_smoothing_loss.case("two words, the shorter one padded")
def _(draw):
    return *_scored(draw, [3, 2], 4, 0), 0, 0.1


@label_smoothing_loss.case("pad_id is 2, and 0 is a real token; a lot of smoothing")
def _(draw):
    logits, target = _scored(draw, [4, 2, 5], 6, 2)
    target[:, 0] = 0
    return logits, target, 2, 0.3


@label_smoothing_loss.case("no smoothing is plain cross-entropy; padding on the left")
def _(draw):
    return draw.normal(2, 4, 5), draw.padded([2, 4], 1, 5, pad_id=0).flip(1), 0, 0.0


@label_smoothing_loss.case("as many places as classes (T = V), by name")
def _(draw):
    logits, target = _scored(draw, [4, 3], 4, 3)
    return call(logits, target, pad_id=3, smoothing=0.2)


@label_smoothing_loss.case("one word of one token")
def _(draw):
    return *_scored(draw, [1], 6, 0), 0, 0.1


@label_smoothing_loss.case("a row that is all padding, float64, not contiguous")
def _(draw):
    logits, target = _scored(draw, [3, 0, 4], 6, 5, dtype=torch.float64)
    return logits.mT.contiguous().mT, target.T.contiguous().T, 5, 0.1


@label_smoothing_loss.case("logits of ±10,000, in one place all of them about -10,000")
def _(draw):
    return *_extreme(draw, [3, 4], 5, 0), 0, 0.1


@label_smoothing_loss.case("gradients", scenario="gradients")
def _(draw):
    return *_scored(draw, [4, 2], 5, 0), 0, 0.1


@label_smoothing_loss.mistake(
    "The smoothing has no effect: this is the plain cross-entropy. Mix ε of the even spread in."
)
def no_smoothing(logits, target, pad_id, smoothing):
    return token_cross_entropy(logits, target, pad_id)


@label_smoothing_loss.mistake("You use a smoothing of 0.1 always. It is an argument: `smoothing`.")
def tenth_hard_coded(logits, target, pad_id, smoothing):
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = 0.9 * right - 0.1 * log_probs.mean(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(
    "This is the variant ε/(V-1): 1 - ε for the right token, the rest shared among the others. It is in use, but asked "
    "is PyTorch's: ε/V for every class, the right one included."
)
def shared_among_the_others(logits, target, pad_id, smoothing):
    log_probs, vocabulary = logits.log_softmax(dim=-1), logits.size(-1)
    wanted = torch.full_like(logits, smoothing / (vocabulary - 1))
    wanted = wanted.scatter(-1, target.unsqueeze(-1), 1 - smoothing)
    losses = -(wanted * log_probs).sum(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(
    "This is the variant ε/(V-2): 1 - ε for the right token, nothing for the padding, the rest shared. "
    "It is in use, but asked is PyTorch's: ε/V for every class."
)
def shared_without_padding(logits, target, pad_id, smoothing):
    log_probs, vocabulary = logits.log_softmax(dim=-1), logits.size(-1)
    wanted = torch.full_like(logits, smoothing / (vocabulary - 2))
    wanted[..., pad_id] = 0.0
    wanted = wanted.scatter(-1, target.unsqueeze(-1), 1 - smoothing)
    losses = -(wanted * log_probs).sum(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(
    "This is the label smoothing of The Annotated Transformer: ε/(V-2) for every class but the right one and the "
    "padding, and the Kullback-Leibler divergence. Asked is PyTorch's: ε/V for every class, and the cross-entropy."
)
def as_in_the_annotated_transformer(logits, target, pad_id, smoothing):
    log_probs, vocabulary = logits.log_softmax(dim=-1), logits.size(-1)
    wanted = torch.full_like(logits, smoothing / (vocabulary - 2))
    wanted = wanted.scatter(-1, target.unsqueeze(-1), 1 - smoothing)
    wanted[..., pad_id] = 0.0
    wanted[target == pad_id] = 0.0
    return F.kl_div(log_probs, wanted, reduction="sum") / (target != pad_id).sum()


@label_smoothing_loss.mistake(
    "You spread ε over all classes but the padding, ε/(V-1) each. That variant is in use, but asked is PyTorch's: the "
    "padding is a class like the others here, and gets ε/V too."
)
def even_without_padding(logits, target, pad_id, smoothing):
    log_probs, vocabulary = logits.log_softmax(dim=-1), logits.size(-1)
    even = -(log_probs.sum(dim=-1) - log_probs[..., pad_id]) / (vocabulary - 1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right + smoothing * even
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(
    "Your target does not sum to one: the right token has 1 - ε, and the others ε/V each. The right one gets its ε/V "
    "too: 1 - ε + ε/V."
)
def right_without_its_share(logits, target, pad_id, smoothing):
    log_probs, vocabulary = logits.log_softmax(dim=-1), logits.size(-1)
    wanted = torch.full_like(logits, smoothing / vocabulary)
    wanted = wanted.scatter(-1, target.unsqueeze(-1), 1 - smoothing)
    losses = -(wanted * log_probs).sum(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(
    "The factor 1 - ε is missing at the right token, so the weights sum to 1 + ε. What the even spread gets has to be "
    "taken from it."
)
def factor_missing(logits, target, pad_id, smoothing):
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = right - smoothing * log_probs.mean(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(
    "The two parts have changed places: 1 - ε belongs to the right token, ε to the even spread."
)
def parts_swapped(logits, target, pad_id, smoothing):
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = smoothing * right - (1 - smoothing) * log_probs.mean(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(
    "The even part is a sum over the classes, so each gets the whole ε. Each gets ε/V: take the mean over the classes."
)
def even_part_summed(logits, target, pad_id, smoothing):
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * log_probs.sum(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake("The sign of the even part is turned: both parts are -log p.")
def even_part_turned(logits, target, pad_id, smoothing):
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right + smoothing * log_probs.mean(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(
    "The even part is taken over padded places too. Smoothing does not make padding count: leave its places out of "
    "both parts."
)
def even_part_over_padding(logits, target, pad_id, smoothing):
    even = -logits.log_softmax(dim=-1).mean()
    return (1 - smoothing) * token_cross_entropy(logits, target, pad_id) + smoothing * even


@label_smoothing_loss.mistake(_PADDING_COUNTS)
def all_places_counted(logits, target, pad_id, smoothing):
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return ((1 - smoothing) * right - smoothing * log_probs.mean(dim=-1)).mean()


@label_smoothing_loss.mistake(_ALL_PLACES)
def divided_by_all_places(logits, target, pad_id, smoothing):
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * log_probs.mean(dim=-1)
    return (losses * (target != pad_id)).mean()


@label_smoothing_loss.mistake(_PER_WORD)
def words_averaged_first(logits, target, pad_id, smoothing):
    log_probs, real = logits.log_softmax(dim=-1), target != pad_id
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = ((1 - smoothing) * right - smoothing * log_probs.mean(dim=-1)) * real
    return (losses.sum(dim=1) / real.sum(dim=1)).mean()


@label_smoothing_loss.mistake(_PAD_ZERO)
def zero_left_out(logits, target, pad_id, smoothing):
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * log_probs.mean(dim=-1)
    return losses[target != 0].mean()


@label_smoothing_loss.mistake(_UP_TO_THE_FIRST)
def counted_up_to_the_first_padding(logits, target, pad_id, smoothing):
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * log_probs.mean(dim=-1)
    return losses[(target == pad_id).cumsum(dim=1) == 0].mean()


@label_smoothing_loss.mistake(_UP_TO_THE_FIRST)
def as_many_from_the_left(logits, target, pad_id, smoothing):
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * log_probs.mean(dim=-1)
    lengths = (target != pad_id).sum(dim=1, keepdim=True)
    return losses[torch.arange(target.size(1)) < lengths].mean()


@label_smoothing_loss.mistake(_ONE_MAXIMUM)
def one_maximum_for_all(logits, target, pad_id, smoothing):
    lowered = logits - logits.max()
    log_probs = lowered - lowered.exp().sum(dim=-1, keepdim=True).log()
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * log_probs.mean(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(_ONE_MAXIMUM)
def one_maximum_a_word(logits, target, pad_id, smoothing):
    lowered = logits - logits.amax(dim=(1, 2), keepdim=True)
    log_probs = lowered - lowered.exp().sum(dim=-1, keepdim=True).log()
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * log_probs.mean(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(_SUMMED)
def summed_up(logits, target, pad_id, smoothing):
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * log_probs.mean(dim=-1)
    return losses[target != pad_id].sum()


@label_smoothing_loss.mistake(
    "This is the Kullback-Leibler divergence: the cross-entropy minus the entropy of the smoothed target, which is a "
    "constant. Its gradient is the same; asked is the cross-entropy itself, Σ q · -log p."
)
def divergence(logits, target, pad_id, smoothing):
    vocabulary = logits.size(-1)
    wanted = (1 - smoothing) * F.one_hot(target, vocabulary).to(logits.dtype) + smoothing / vocabulary
    losses = F.kl_div(logits.log_softmax(dim=-1), wanted, reduction="none").sum(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(
    "You divide by the number of words. Divide by the number of real tokens, as the plain loss does."
)
def divided_by_words(logits, target, pad_id, smoothing):
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * log_probs.mean(dim=-1)
    return losses[target != pad_id].sum() / len(target)


@label_smoothing_loss.mistake(
    "No gradient goes through the even part (`.detach()`, `no_grad`). The loss is right, but it is the even part that "
    "keeps the model from growing too sure."
)
def even_part_cut_off(logits, target, pad_id, smoothing):
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * log_probs.mean(dim=-1).detach()
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(
    "You smooth what the model says, mixing ε into its probabilities. It is the *target* that is smoothed; the model's "
    "probabilities stay as they are."
)
def prediction_smoothed(logits, target, pad_id, smoothing):
    said = (1 - smoothing) * logits.softmax(dim=-1) + smoothing / logits.size(-1)
    losses = -said.log().gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(_LOG_OF_SOFTMAX)
def log_of_a_softmax(logits, target, pad_id, smoothing):
    log_probs = logits.softmax(dim=-1).log()
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * log_probs.mean(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(
    "The softmax is taken twice: you hand probabilities to something that takes the softmax itself. Hand it the logits."
)
def two_softmaxes(logits, target, pad_id, smoothing):
    log_probs = logits.softmax(dim=-1).log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * log_probs.mean(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(
    "The even part averages the raw logits. It is the mean of -log p over the classes: take `log_softmax` first."
)
def even_part_of_logits(logits, target, pad_id, smoothing):
    right = -logits.log_softmax(dim=-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * logits.mean(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.mistake(_FLOAT)
def as_python_float(logits, target, pad_id, smoothing):
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * log_probs.mean(dim=-1)
    return losses[target != pad_id].mean().item()


@label_smoothing_loss.mistake(_CUT)
def cut_off(logits, target, pad_id, smoothing):
    log_probs = logits.detach().log_softmax(dim=-1)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    losses = (1 - smoothing) * right - smoothing * log_probs.mean(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.also_right
def as_a_distribution(logits, target, pad_id, smoothing):
    vocabulary = logits.size(-1)
    wanted = (1 - smoothing) * F.one_hot(target, vocabulary) + smoothing / vocabulary
    losses = -(wanted * F.log_softmax(logits, dim=-1)).sum(dim=-1)
    return losses[target != pad_id].mean()


@label_smoothing_loss.also_right
def from_the_plain_loss(logits, target, pad_id, smoothing):
    even = -logits.log_softmax(dim=-1).mean(dim=-1)[target != pad_id].mean()
    return (1 - smoothing) * token_cross_entropy(logits, target, pad_id) + smoothing * even


@label_smoothing_loss.also_right
def with_nll_loss(logits, target, pad_id, smoothing):
    log_probs, real = logits.log_softmax(dim=-1), target != pad_id
    plain = F.nll_loss(log_probs[real], target[real])
    return torch.lerp(plain, -log_probs[real].mean(), smoothing)


@label_smoothing_loss.also_right
def divergence_and_entropy(logits, target, pad_id, smoothing):
    vocabulary = logits.size(-1)
    wanted = torch.full_like(logits, smoothing / vocabulary)
    wanted.scatter_add_(-1, target.unsqueeze(-1), torch.full_like(logits[..., :1], 1 - smoothing))
    losses = F.kl_div(logits.log_softmax(-1), wanted, reduction="none") - torch.special.xlogy(wanted, wanted)
    return losses.sum(-1)[target != pad_id].mean()


@label_smoothing_loss.also_right
def scattered(logits, target, pad_id, smoothing):
    vocabulary = logits.size(-1)
    wanted = torch.full_like(logits, smoothing / vocabulary)
    wanted = wanted.scatter(-1, target.unsqueeze(-1), 1 - smoothing + smoothing / vocabulary)
    real = (target != pad_id).to(logits.dtype)
    return -((wanted * logits.log_softmax(-1)).sum(-1) * real).sum() / real.sum()


label_smoothing_loss.hint("Write the smoothed target for V = 4, ε = 0.1 and right token 2. Does it sum to one?")
label_smoothing_loss.hint(
    "The loss of one token has two parts: 1 - ε times -log p of the right token, and ε times the mean of -log p over "
    "all classes."
)
label_smoothing_loss.hint(
    "`log_probs = logits.log_softmax(-1)`; the first part is a `gather`, the second `-log_probs.mean(-1)`. Then keep "
    "the real places and take the mean."
)
# --- train_step ------------------------------------------------------------------------------------------------

train_step = Exercise("train_step", returns=["loss"])

_WATCHED = [
    "generator.weight",
    "encoder.layers.0.feed_forward.expand.weight",
    "decoder.layers.0.self_attention.query.weight",
    "source_embedding.table.weight",
]


def _steps(draw, *lengths, **options):
    return training_steps(draw, *lengths, watch=_WATCHED, **options)


@train_step.case("one step of SGD; old gradients are left from before", scenario="training")
def _(draw):
    return _steps(draw, ([4, 2, 5], [3, 4, 2]))


@train_step.case("three steps of SGD", scenario="training")
def _(draw):
    return _steps(draw, ([4, 2], [3, 5]), ([3, 5], [4, 2]), ([2, 3], [3, 3]))


@train_step.case("three steps of Adam, float64", scenario="training")
def _(draw):
    batches = ([3, 5], [4, 2]), ([4, 2], [3, 5]), ([5, 5], [2, 4])
    return _steps(draw, *batches, optimizer="Adam", lr=0.05, dtype=torch.float64)


@train_step.case("pad_id is 7, start_id is 0", scenario="training")
def _(draw):
    return _steps(draw, ([2, 4], [4, 3]), ([4, 3], [3, 5]), pad_id=7, start_id=0)


@train_step.case("padding in the source only", scenario="training")
def _(draw):
    return _steps(draw, ([2, 5, 3], [4, 4, 4]))


@train_step.case("every source is padded, by different amounts", scenario="training")
def _(draw):
    return _steps(draw, ([3, 2, 4], [3, 3, 3]), ([4, 1], [2, 2]), width=5)


@train_step.case("steep: the gradients are long, and stay so", scenario="training")
def _(draw):
    inputs = _steps(draw, ([3, 3], [4, 4]), lr=1e-4)
    inputs["weights"]["generator.weight"] *= 300.0
    return inputs


@train_step.case("padding in the target only", scenario="training")
def _(draw):
    return _steps(draw, ([4, 4, 4], [2, 5, 3]))


@train_step.case("sources and targets equally wide, so that mixed-up masks raise nothing", scenario="training")
def _(draw):
    return _steps(draw, ([4, 2, 3], [2, 4, 4]), ([2, 4], [4, 3]))


@train_step.case("one word, a target of one token: the end", scenario="training")
def _(draw):
    return _steps(draw, ([3], [1]), ([2], [1]))


_NO_STEP = (
    "Nothing moves the weights: `optimizer.step()` is missing. `backward` only fills in the gradients; the optimiser "
    "takes the step."
)
_NO_GRADIENTS = (
    "At `optimizer.step()` there are no gradients: you cleared them after `backward`, or stepped before it. "
    "The order: `zero_grad`, `backward`, `step`."
)
_ADRIFT = (
    "`backward()` ran, but its loss no longer hangs on the model: `torch.tensor(…)`, `.detach()`, `.item()` or "
    "`no_grad` cut it off, and `requires_grad` does not bring it back. Go backward from the loss as it was computed."
)
_MASK_OF_THE_SOURCE = (
    "The mask belongs to the source: it says which letters may be read. You made it from the target or the decoder's "
    "inputs, whose length and padding are others: `padding_mask(source, pad_id)`."
)
_SHIFTED_LABELS = (
    "You compare the logits with the shifted tokens, too. Only the *inputs* move; the right answers stay in `target`."
)

train_step.slip(
    "no_zero_grad",
    "The gradients of earlier steps are still there, and `backward` adds to them: `optimizer.zero_grad()` before it.",
    {"    optimizer.zero_grad()\n": ""},
)
train_step.slip(
    "zero_grad_before_step",
    _NO_GRADIENTS,
    {"    optimizer.zero_grad()\n    loss.backward()\n": "    loss.backward()\n    optimizer.zero_grad()\n"},
)
train_step.slip(
    "zero_grad_only_at_the_end",
    "You clear the gradients after the step only. What was there before your first step is added to it: clear them "
    "before `backward`.",
    {"    optimizer.zero_grad()\n": "", "    optimizer.step()\n": "    optimizer.step()\n    optimizer.zero_grad()\n"},
)
train_step.slip("no_step", _NO_STEP, {"    optimizer.step()\n": ""})
train_step.slip(
    "no_backward",
    "`loss.backward()` is missing: without gradients `optimizer.step()` has nothing to step along.",
    {"    loss.backward()\n": ""},
)
train_step.slip(
    "tensor_made_of_the_loss",
    _ADRIFT,
    {"    loss.backward()\n": "    torch.tensor(loss.item(), requires_grad=True).backward()\n"},
)
train_step.slip(
    "logits_detached_and_gradient_asked_for",
    _ADRIFT,
    {"token_cross_entropy(logits, target, pad_id)": "token_cross_entropy(logits.detach().requires_grad_(), target, "
     "pad_id)"},
)  # fmt: skip
train_step.slip(
    "no_grad_and_gradient_asked_for",
    _ADRIFT,
    {
        "    logits = model(source, inputs, source_mask)": "    with torch.no_grad():\n"
        "        logits = model(source, inputs, source_mask)",
        "token_cross_entropy(logits, target, pad_id)": "token_cross_entropy(logits, target, pad_id).requires_grad_()",
    },
)
train_step.slip(
    "two_steps",
    "You call `optimizer.step()` twice, and go the same way twice over: once for each `backward`.",
    {"    optimizer.step()\n": "    optimizer.step()\n    optimizer.step()\n"},
)
train_step.slip(
    "two_backwards",
    "You go backward twice (`retain_graph=True` allows it), so every gradient is added up twice. Once is right.",
    {"    loss.backward()\n": "    loss.backward(retain_graph=True)\n    loss.backward()\n"},
)
train_step.slip(
    "step_before_backward",
    _NO_GRADIENTS,
    {"    loss.backward()\n    optimizer.step()\n": "    optimizer.step()\n    loss.backward()\n"},
)
train_step.slip(
    "returns_the_tensor",
    "You return a tensor. Whoever keeps the losses of 1,000 steps would keep 1,000 graphs with them: `loss.item()` is "
    "the bare number.",
    {"return loss.item()": "return loss"},
)
train_step.slip(
    "returns_a_detached_tensor",
    "You return a tensor. Asked is a Python float: `loss.item()`.",
    {"return loss.item()": "return loss.detach()[None]"},
)
train_step.slip(
    "returns_nothing",
    "The step is right, but nothing comes back: return the loss as a float, `return loss.item()`.",
    {"    return loss.item()\n": ""},
)
train_step.slip(
    "loss_after_the_step",
    "You return the loss after the step, from a second run of the model: that costs a forward more. Asked is the loss "
    "you went backward from.",
    {"return loss.item()": "return token_cross_entropy(model(source, inputs, source_mask), target, pad_id).item()"},
)
train_step.slip(
    "loss_of_the_sum",
    "You return the mean times the number of words. Asked is the loss itself, the mean over real tokens.",
    {"return loss.item()": "return loss.item() * target.size(0)"},
)
train_step.slip(
    "losses_added_up",
    "You add the losses of all steps up. Each step returns its own: whoever calls may add them.",
    {
        "    return loss.item()": "    train_step.total = getattr(train_step, 'total', 0.0) + loss.item()\n"
        "    return train_step.total"
    },
)
train_step.slip(
    "not_shifted_input",
    "The decoder reads `target` unshifted: its input holds the answer, and it learns to copy. The loss falls at once, "
    "and what it says is nonsense. `shift_right` first.",
    {"inputs = shift_right(target, start_id)": "inputs = target"},
)
train_step.slip(
    "labels_shifted_too",
    _SHIFTED_LABELS,
    {"token_cross_entropy(logits, target, pad_id)": "token_cross_entropy(logits, inputs, pad_id)"},
)
train_step.slip(
    "input_and_label_swapped",
    "Inputs and answers have changed places: the decoder reads the shifted tokens, and the loss compares with "
    "`target`.",
    {
        "inputs = shift_right(target, start_id)": "inputs = target",
        "token_cross_entropy(logits, target, pad_id)": "token_cross_entropy("
        "logits, shift_right(target, start_id), pad_id)",
    },
)
train_step.slip(
    "target_cut_on_both_sides",
    "You cut `target` into `[:, :-1]` and `[:, 1:]`. That is for targets that begin with a start token. These do not, "
    "so the first phoneme would never be learnt: `shift_right`.",
    {
        "inputs = shift_right(target, start_id)": "inputs, target = target[:, :-1], target[:, 1:]",
    },
)
train_step.slip(
    "shifted_by_roll",
    "You moved the target by `roll`: the last token wraps to the front. `shift_right` puts the start token there.",
    {"shift_right(target, start_id)": "target.roll(1, dims=1)"},
)
train_step.slip(
    "start_is_one",
    "Your start token is always 1. Its id is `start_id`, which may be any number.",
    {"shift_right(target, start_id)": "shift_right(target, 1)"},
)
train_step.slip(
    "start_is_the_padding",
    "You begin with the padding in place of the start token: `shift_right(target, start_id)`.",
    {"shift_right(target, start_id)": "shift_right(target, pad_id)"},
)
train_step.slip(
    "reads_its_own_answers",
    "The decoder reads what it said itself in a first run. In teacher forcing it reads the right tokens, whatever it "
    "would have said.",
    {
        "    logits = model(source, inputs, source_mask)": "    said = model(source, inputs, source_mask).argmax(-1)\n"
        "    logits = model(source, shift_right(said, start_id), source_mask)"
    },
)
train_step.slip(
    "no_source_mask",
    "The model was called without a source mask, so it reads the padding of shorter words. Hand it "
    "`padding_mask(source, pad_id)` as the third argument.",
    {"model(source, inputs, source_mask)": "model(source, inputs)"},
)
train_step.slip(
    "mask_as_target_mask",
    "The mask of the source was handed over as `target_mask`, and the source has none. It is the third argument, "
    "`source_mask`.",
    {"model(source, inputs, source_mask)": "model(source, inputs, None, source_mask)"},
)
train_step.slip(
    "source_mask_for_both",
    "The mask of the source also went in as `target_mask`. The target has a length and a padding of its own, and no "
    "mask is needed for it: the loss skips its padding, and nothing real comes after it.",
    {"model(source, inputs, source_mask)": "model(source, inputs, source_mask, source_mask)"},
)
train_step.slip(
    "mask_from_the_target",
    _MASK_OF_THE_SOURCE,
    {"padding_mask(source, pad_id)": "padding_mask(target, pad_id)"},
)
train_step.slip(
    "mask_from_the_inputs",
    _MASK_OF_THE_SOURCE,
    {"padding_mask(source, pad_id)": "padding_mask(inputs, pad_id)"},
)
train_step.slip(
    "mask_the_wrong_way_round",
    "Your source mask is True at the padding: the model reads the padding alone. True means: may be attended.",
    {"padding_mask(source, pad_id)": "~padding_mask(source, pad_id)"},
)
train_step.slip(
    "mask_of_zero",
    "You mask the token 0 in the source. The id of the padding is `pad_id`, which may be any number.",
    {"padding_mask(source, pad_id)": "padding_mask(source, 0)"},
)
train_step.slip(
    "one_mask_for_all_words",
    "All words get one mask, joined over the batch (`any(0)`, `all(0)`). Each has a padding of its own: "
    "`padding_mask(source, pad_id)`, (batch, 1, 1, source).",
    {"padding_mask(source, pad_id)": "padding_mask(source, pad_id).any(0, keepdim=True)"},
)
train_step.slip(
    "shortest_word_s_mask",
    "All words get one mask, joined over the batch (`any(0)`, `all(0)`). Each has a padding of its own: "
    "`padding_mask(source, pad_id)`, (batch, 1, 1, source).",
    {"padding_mask(source, pad_id)": "padding_mask(source, pad_id).all(0, keepdim=True)"},
)
train_step.slip(
    "source_and_target_swapped",
    "Source and inputs have changed places: the model takes the source first, `model(source, inputs, source_mask)`.",
    {
        "model(source, inputs, source_mask)": "model(inputs, source, padding_mask(inputs, pad_id))",
        "token_cross_entropy(logits, target, pad_id)": "token_cross_entropy("
        "logits[:, : target.size(1)], target[:, : logits.size(1)], pad_id)",
    },
)
train_step.slip(
    "padding_in_the_loss",
    "The padding of the target counts in your loss. `token_cross_entropy(logits, target, pad_id)` leaves it out.",
    {"token_cross_entropy(logits, target, pad_id)": "F.cross_entropy(logits.transpose(1, 2), target)"},
)
train_step.slip(
    "probabilities_to_the_loss",
    "You take the softmax before the loss, and the loss takes it again. Hand it the logits.",
    {"token_cross_entropy(logits, target, pad_id)": "token_cross_entropy(logits.softmax(-1), target, pad_id)"},
)
train_step.slip(
    "smoothed_loss",
    "You train on the smoothed loss. Asked is the plain one: `token_cross_entropy(logits, target, pad_id)`.",
    {"token_cross_entropy(logits, target, pad_id)": "label_smoothing_loss(logits, target, pad_id, 0.1)"},
)
train_step.slip(
    "left_in_evaluation_mode",
    "You leave the model in evaluation mode. Then dropout is off in the next step, and nobody notices: a training step "
    "leaves the mode as it is.",
    {"    return loss.item()": "    model.eval()\n    return loss.item()"},
)
train_step.slip(
    "evaluates_for_the_forward",
    "You switch to evaluation mode for the forward, so dropout never works in training. A training step leaves the "
    "mode as it is.",
    {
        "    logits = model(": "    model.eval()\n    logits = model(",
        "    return loss.item()": "    model.train()\n    return loss.item()",
    },
)
train_step.slip(
    "evaluates_the_encoder",
    "You switch to evaluation mode for the forward, so dropout never works in training. A training step leaves the "
    "mode as it is.",
    {
        "    logits = model(": "    model.encoder.eval()\n    logits = model(",
        "    return loss.item()": "    model.train()\n    return loss.item()",
    },
)
for _norm in ("0.5", "1.0", "5.0", "100.0"):
    train_step.slip(
        f"gradients_clipped_to_{_norm.replace('.', '_')}",
        "You clip the gradients. It is often done, but was not asked for here, and it changes the step.",
        {"    optimizer.step()": f"    nn.utils.clip_grad_norm_(model.parameters(), {_norm})\n    optimizer.step()"},
    )
train_step.slip(
    "without_gradients",
    "The model runs under `torch.no_grad()`, so nothing is recorded to go backward through. That is for evaluating.",
    {
        "    logits = model(source, inputs, source_mask)": "    with torch.no_grad():\n"
        "        logits = model(source, inputs, source_mask)"
    },
)
train_step.slip(
    "through_a_number",
    "You made a number of the loss before `backward` (`.item()`, `float`). Numbers have no gradient: make one of it "
    "only for the return.",
    {
        "token_cross_entropy(logits, target, pad_id)": "token_cross_entropy(logits, target, pad_id).item()",
        "loss.item()": "loss",
    },
)

train_step.also("gradients_to_zero", {"optimizer.zero_grad()": "optimizer.zero_grad(set_to_none=False)"})
train_step.also("cleared_by_the_model", {"optimizer.zero_grad()": "model.zero_grad()"})
train_step.also("cleared_first", {
    "    inputs = shift_right": "    optimizer.zero_grad()\n    inputs = shift_right",
    "    optimizer.zero_grad()\n    loss": "    loss",
})  # fmt: skip
train_step.also("cleared_afterwards_too", {"    return loss": "    optimizer.zero_grad()\n    return loss"})
train_step.also(
    "asked_beforehand_in_evaluation_mode",
    {
        "    logits = model(": "    with torch.no_grad():\n        model.eval()(source, inputs, source_mask)\n"
        "    model.train()\n    logits = model("
    },
)
train_step.also("graph_kept", {"loss.backward()": "loss.backward(retain_graph=True)"})
train_step.also("training_mode_first", {"    inputs = shift_right": "    model.train()\n    inputs = shift_right"})
train_step.also("target_mask_too", {
    "model(source, inputs, source_mask)": "model(source, inputs, source_mask, padding_mask(inputs, pad_id))"
})  # fmt: skip
train_step.also("by_name", {
    "model(source, inputs, source_mask)": "model(source=source, target=inputs, source_mask=source_mask)"
})  # fmt: skip


@train_step.also_right
def encode_and_decode(model, source, target, optimizer, pad_id, start_id):
    real = (source != pad_id)[:, None, None]
    inputs = F.pad(target[:, :-1], (1, 0), value=start_id)
    logits = model.decode(inputs, model.encode(source, real), memory_mask=real)
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=pad_id)
    for parameter in model.parameters():
        parameter.grad = None
    loss.backward()
    optimizer.step()
    return float(loss)


@train_step.also_right
def with_a_closure(model, source, target, optimizer, pad_id, start_id):
    def closure():
        optimizer.zero_grad()
        logits = model(source, shift_right(target, start_id), padding_mask(source, pad_id))
        loss = token_cross_entropy(logits, target, pad_id)
        loss.backward()
        return loss

    return optimizer.step(closure).item()


train_step.hint(
    "Seven lines and a `return`: inputs, source mask, logits, loss, and then three calls that move the weights. Which "
    "of these pieces have you written already?"
)
train_step.hint(
    "The model is called as `model(source, inputs, source_mask)`. What does the decoder read, what may it see?"
)
train_step.hint(
    "`optimizer.zero_grad()` clears what earlier steps left, `loss.backward()` fills in new gradients, "
    "`optimizer.step()` moves the weights. And `loss.item()` is the number."
)

# --- edit_distance ---------------------------------------------------------------------------------------------

edit_distance = Exercise("edit_distance", returns=["distance"])


@edit_distance.case("kitten and sitting")
def _(draw):
    return "kitten", "sitting"


@edit_distance.case("two pronunciations, lists of phonemes")
def _(draw):
    return ["T", "AH", "M", "EY", "T", "OW"], ["T", "AH", "M", "AA", "T", "OW"]


@edit_distance.case("phonemes whose letters overlap: DH AH and D HH")
def _(draw):
    return ["DH", "AH"], ["D", "HH", "AA"]


@edit_distance.case("lists of ids, the first is longer")
def _(draw):
    return draw.integers(3, 7, 9).tolist(), draw.integers(3, 7, 6).tolist()


@edit_distance.case("equal, but one a tuple")
def _(draw):
    return (7, 4, 4, 9), [7, 4, 4, 9]


@edit_distance.case("one token missing at the front")
def _(draw):
    return [5, 6, 7, 8, 9], [6, 7, 8, 9]


@edit_distance.case("one token too many in the middle")
def _(draw):
    return [5, 6, 8, 9], [5, 6, 7, 8, 9]


@edit_distance.case("two neighbours in the other order")
def _(draw):
    return [5, 6, 7, 8], [5, 7, 6, 8]


@edit_distance.case('nothing in common, different lengths: 1 is not "1", "a" is not "A"')
def _(draw):
    return [1, "a", 2, "B"], ["1", "A"]


@edit_distance.case("the first is empty")
def _(draw):
    return [], [4, 5, 6]


@edit_distance.case("the second is empty")
def _(draw):
    return "ab", ""


@edit_distance.case("capitals and small letters are different letters")
def _(draw):
    return "Polish", "polishes"


@edit_distance.case("both are empty")
def _(draw):
    return [], []


@edit_distance.case("the same tokens, in another order and number")
def _(draw):
    return [1, 2, 3, 1, 2, 3], [3, 3, 2, 2, 1]


@edit_distance.case("forty tokens: work that is done again and again would take for ever")
def _(draw):
    return draw.integers(3, 7, 40).tolist(), draw.integers(3, 7, 38).tolist()


@edit_distance.case("forty tokens, moved along by twelve: the way leads far off the diagonal")
def _(draw):
    return list(range(40)), list(range(12, 52))


_SUBSTITUTION_TWO = (
    "A substitution costs 2 with you, as if it were a deletion and an insertion (so do distances by the longest common "
    "subsequence). Here all three cost 1."
)
_ROW_OF_ZEROS = (
    "Your first row (or column) is 0. To make j tokens out of nothing takes j insertions: 0, 1, 2, … in both."
)
_SAME_PLACES = (
    "You compare place by place. After one missing token all that follows counts as wrong: insertions and deletions "
    "have to be among the choices."
)

edit_distance.slip(
    "substitution_costs_two", _SUBSTITUTION_TWO, {"(a[i - 1] != b[j - 1])": "2 * (a[i - 1] != b[j - 1])"}
)
edit_distance.slip(
    "no_deletion",
    "One of the three choices is missing: coming from above, `table[i - 1][j] + 1` (a token of `a` is deleted).",
    {"table[i - 1][j] + 1": "len(a) + len(b)"},
)
edit_distance.slip(
    "no_insertion",
    "One of the three choices is missing: coming from the left, `table[i][j - 1] + 1` (a token of `b` is inserted).",
    {"table[i][j - 1] + 1": "len(a) + len(b)"},
)
edit_distance.slip(
    "no_diagonal",
    "The diagonal is missing: where two tokens are equal it costs nothing, where they differ it is a substitution.",
    {"table[i - 1][j - 1] + (a[i - 1] != b[j - 1])": "len(a) + len(b)"},
)
edit_distance.slip(
    "equal_costs_one",
    "It is the wrong way round: with you equal tokens cost 1 and different ones nothing.",
    {"(a[i - 1] != b[j - 1])": "(a[i - 1] == b[j - 1])"},
)
edit_distance.slip(
    "diagonal_always_costs",
    "Going along the diagonal always costs 1 with you. Where the two tokens are equal it costs nothing.",
    {"(a[i - 1] != b[j - 1])": "1"},
)
edit_distance.slip("borders_of_zeros", _ROW_OF_ZEROS, {"= i + j": "= 0"})
edit_distance.slip("first_row_of_zeros", _ROW_OF_ZEROS, {"= i + j": "= i"})
edit_distance.slip("first_column_of_zeros", _ROW_OF_ZEROS, {"= i + j": "= j"})
_EQUAL_AS_THEY_ARE = (
    "You change the tokens before you compare them (`str(…)`, `.lower()`). Two tokens are equal if `==` says so, and "
    "whether capitals matter the caller decides."
)
edit_distance.slip(
    "compared_as_text", _EQUAL_AS_THEY_ARE, {"(a[i - 1] != b[j - 1])": "(str(a[i - 1]) != str(b[j - 1]))"}
)
edit_distance.slip(
    "compared_as_small_text",
    _EQUAL_AS_THEY_ARE,
    {"(a[i - 1] != b[j - 1])": "(str(a[i - 1]).lower() != str(b[j - 1]).lower())"},
)
edit_distance.slip(
    "small_letters",
    _EQUAL_AS_THEY_ARE,
    {
        "    table = ": "    if isinstance(a, str) and isinstance(b, str):\n"
        "        a, b = a.lower(), b.lower()\n    table = "
    },
)
edit_distance.slip(
    "compared_by_order",
    "You ask which token is less. Tokens may be of kinds that have no order among them: ask whether they are equal, "
    "`==`.",
    {"(a[i - 1] != b[j - 1])": "(a[i - 1] < b[j - 1] or a[i - 1] > b[j - 1])"},
)
_MEMO_STAYS = (
    "Your memory outlives the call (a dict outside the function, or a default `memo={}`): the next pair finds the "
    "numbers of an earlier one. Make it anew in each call."
)


@edit_distance.mistake(_MEMO_STAYS)
def memo_by_places_to_come(a, b, i=0, j=0, memo={}):  # noqa: B006
    if i == len(a) or j == len(b):
        return len(a) - i + len(b) - j
    if (i, j) not in memo:
        change = edit_distance(a, b, i + 1, j + 1) + (a[i] != b[j])
        memo[i, j] = min(edit_distance(a, b, i + 1, j) + 1, edit_distance(a, b, i, j + 1) + 1, change)
    return memo[i, j]


@edit_distance.mistake(_MEMO_STAYS)
def memo_by_lengths(a, b, memo={}):  # noqa: B006
    if not a or not b:
        return len(a) + len(b)
    if (len(a), len(b)) not in memo:
        change = edit_distance(a[:-1], b[:-1]) + (a[-1] != b[-1])
        memo[len(a), len(b)] = min(edit_distance(a[:-1], b) + 1, edit_distance(a, b[:-1]) + 1, change)
    return memo[len(a), len(b)]


@edit_distance.mistake(_MEMO_STAYS)
def memo_that_checks_the_borders_too(a, b, memo={}):  # noqa: B006
    def distance(i, j):
        if (i, j) not in memo:
            if i == 0 or j == 0:
                memo[i, j] = i + j
            else:
                change = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
                memo[i, j] = min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, change)
        return memo[i, j]

    return distance(len(a), len(b))


edit_distance.slip(
    "tokens_off_by_one",
    "You compare the wrong tokens: cell (i, j) is about the first i and the first j tokens, so the last ones of them "
    "are a[i - 1] and b[j - 1].",
    {"(a[i - 1] != b[j - 1])": "(a[i % len(a)] != b[j % len(b)])"},
)
edit_distance.slip(
    "last_but_one",
    "You return a cell too early, so the last tokens are not compared. The table has one row and one column more than "
    "there are tokens: the answer is `table[-1][-1]`.",
    {"table[-1][-1]": "table[len(a) - 1][len(b) - 1]"},
)
edit_distance.slip(
    "whole_row",
    "You return a whole row of the table. The answer is its last number.",
    {"table[-1][-1]": "table[-1]"},
)
edit_distance.slip(
    "normalised",
    "You divide by the length. That is an error rate; asked is the number of edits, an int.",
    {"table[-1][-1]": "table[-1][-1] / max(len(a), len(b), 1)"},
)
edit_distance.slip(
    "neighbours_swapped_at_once",
    "You count two neighbours that change places as one edit (Damerau). Here there are insertions, deletions and "
    "substitutions only, so it is two.",
    {
        "    return table[-1][-1]": """    for i in range(2, len(a) + 1):
        for j in range(2, len(b) + 1):
            if a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1] and a[i - 1] != b[j - 1]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
            table[i][j] = min(
                table[i][j],
                table[i - 1][j] + 1,
                table[i][j - 1] + 1,
                table[i - 1][j - 1] + (a[i - 1] != b[j - 1]),
            )
    return table[-1][-1]"""
    },
)


@edit_distance.mistake(_SUBSTITUTION_TWO)
def by_longest_common_subsequence(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a)):
        for j in range(len(b)):
            table[i + 1][j + 1] = table[i][j] + 1 if a[i] == b[j] else max(table[i][j + 1], table[i + 1][j])
    return len(a) + len(b) - 2 * table[-1][-1]


@edit_distance.mistake(
    "You return the length of the longest common subsequence: how much is alike. Asked is how many edits it takes."
)
def longest_common_subsequence(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a)):
        for j in range(len(b)):
            table[i + 1][j + 1] = table[i][j] + 1 if a[i] == b[j] else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@edit_distance.mistake(
    "The longer length minus the longest common subsequence is often the edit distance, but not always: which tokens "
    "can be substituted for each other depends on where they stand."
)
def longest_minus_common(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a)):
        for j in range(len(b)):
            table[i + 1][j + 1] = table[i][j] + 1 if a[i] == b[j] else max(table[i][j + 1], table[i + 1][j])
    return max(len(a), len(b)) - table[-1][-1]


@edit_distance.mistake(_SAME_PLACES)
def place_by_place(a, b):
    return sum(x != y for x, y in zip(a, b, strict=False))


@edit_distance.mistake(_SAME_PLACES)
def place_by_place_and_the_rest(a, b):
    return sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))


@edit_distance.mistake("You compare sets: which tokens occur. Where they stand, and how often, counts too.")
def sets_compared(a, b):
    return len(set(a) ^ set(b))


@edit_distance.mistake(
    "You count how often each token occurs, and not where it stands: the same tokens in another order are not at "
    "distance 0."
)
def counts_compared(a, b):
    from collections import Counter

    missing, extra = Counter(a) - Counter(b), Counter(b) - Counter(a)
    return max(missing.total(), extra.total())


@edit_distance.mistake(
    "You join the tokens into one string and compare letters. A phoneme such as DH is one token, and one edit: compare "
    "the items of the sequences."
)
def letters_compared(a, b):
    a, b = "".join(map(str, a)), "".join(map(str, b))
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (one != other))
    return row[-1]


@edit_distance.mistake(
    "Both rows are one and the same list, so the row above is overwritten while you still read it. Make a new list for "
    "each row."
)
def one_list_for_two_rows(a, b):
    above = row = list(range(len(b) + 1))
    for i in range(1, len(a) + 1):
        row[0] = i
        for j in range(1, len(b) + 1):
            row[j] = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1]))
        above = row
    return row[-1]


@edit_distance.mistake(
    "Your rows are one list several times (`[[0] * n] * m`): writing into one writes into all. Make each row anew: "
    "`[[0] * n for _ in range(m)]`."
)
def one_row_many_times(a, b):
    table = [[0] * (len(b) + 1)] * (len(a) + 1)
    for i in range(len(a) + 1):
        table[i][0] = i
    for j in range(len(b) + 1):
        table[0][j] = j
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
    return table[-1][-1]


@edit_distance.mistake(
    "You always take the first edit that fits, and never come back to it. The cheapest way may begin with one that "
    "looks worse: keep the best of all three for every pair of beginnings."
)
def first_that_fits(a, b):
    i = j = edits = 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            i, j = i + 1, j + 1
        elif len(a) - i > len(b) - j:
            i, edits = i + 1, edits + 1
        elif len(a) - i < len(b) - j:
            j, edits = j + 1, edits + 1
        else:
            i, j, edits = i + 1, j + 1, edits + 1
    return edits + len(a) - i + len(b) - j


for _band in (2, 3, 5, 10):
    edit_distance.slip(
        f"band_of_{_band}",
        "You look at a band along the diagonal only. That is fast, and wrong where the cheapest way leads out of it: "
        "fill the whole table.",
        {
            "    return table[-1][-1]": f"""    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            if abs(i - j) > max({_band}, abs(len(a) - len(b))):
                table[i][j] = len(a) + len(b)
            else:
                change = table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, change)
    return table[-1][-1]"""
        },
    )
edit_distance.slip(
    "compared_by_is",
    "`is not` asks whether two tokens are one and the same object in memory, which equal strings often are not. "
    "Compare with `!=`.",
    {"(a[i - 1] != b[j - 1])": "(a[i - 1] is not b[j - 1])"},
)


@edit_distance.mistake(
    "You changed a list of the caller's (`pop`, `remove`, `insert`, `reverse`): there it is needed again. Work on a "
    "copy, or by index."
)
def common_end_taken_off(a, b):
    while isinstance(a, list) and isinstance(b, list) and a and b and a[-1] == b[-1]:
        a.pop()
        b.pop()
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (one != other))
    return row[-1]


@edit_distance.mistake(
    "Taking off what the two have in common at the beginning and the end is allowed. But the rest then still has to be "
    "compared: its longer length is only right where nothing in it is alike."
)
def common_ends_then_the_longer(a, b):
    a, b = list(a), list(b)
    while a and b and a[0] == b[0]:
        a, b = a[1:], b[1:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return max(len(a), len(b))


@edit_distance.mistake(
    "`difflib` looks for the longest common blocks, which is not the cheapest way. The table looks at all ways."
)
def with_difflib(a, b):
    import difflib

    blocks = difflib.SequenceMatcher(None, list(a), list(b), autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in blocks if tag != "equal")


@edit_distance.mistake("The number is right, but a tensor or a numpy number. Asked is a Python int: `int(…)`.")
def as_a_tensor(a, b):
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (one != other))
    return torch.tensor(row[-1])


@edit_distance.mistake("You return a float. Edits are counted: return an int.")
def as_a_float(a, b):
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1.0, row[j - 1] + 1.0, diagonal + float(one != other))
    return float(row[-1])


@edit_distance.also_right
def in_one_row(a, b):
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (one != other))
    return row[-1]


@edit_distance.also_right
def in_two_rows(a, b):
    above = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        row = [i]
        for j, other in enumerate(b):
            row.append(above[j] if one == other else 1 + min(above[j], above[j + 1], row[j]))
        above = row
    return above[-1]


@edit_distance.also_right
def recursive_with_a_memory(a, b):
    from functools import lru_cache

    @lru_cache(maxsize=1_000_000)
    def distance(i, j):
        if i == 0 or j == 0:
            return i + j
        change = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, change)

    return distance(len(a), len(b))


@edit_distance.also_right
def with_numpy(a, b):
    import numpy as np

    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    table[:, 0], table[0, :] = np.arange(len(a) + 1), np.arange(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            change = table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, change)
    return int(table[-1, -1])


@edit_distance.also_right
def shortest_path(a, b):
    edges, seen = {(0, 0)}, set()
    for cost in range(len(a) + len(b) + 1):
        reached = set()
        while edges:
            i, j = edges.pop()
            if (i, j) in seen:
                continue
            seen.add((i, j))
            if (i, j) == (len(a), len(b)):
                return cost
            if i < len(a) and j < len(b) and a[i] == b[j]:
                edges.add((i + 1, j + 1))
            steps = {(i + 1, j), (i, j + 1), (i + 1, j + 1)}
            reached |= {(x, y) for x, y in steps if x <= len(a) and y <= len(b)}
        edges = reached


edit_distance.hint(
    "How many edits turn nothing into 3 tokens? And 4 tokens into nothing? These are the borders of a table."
)
edit_distance.hint(
    "Let table[i][j] be the distance between the first i tokens of `a` and the first j of `b`. From which three "
    "neighbours can it be reached, and at what cost?"
)
edit_distance.hint(
    "The least of: table[i-1][j] + 1 (delete), table[i][j-1] + 1 (insert), table[i-1][j-1] + (1 if the two tokens "
    "differ else 0)."
)

# --- greedy_word -----------------------------------------------------------------------------------------------

greedy_word = Exercise("greedy_word", returns=["ids"])


def _speaker(draw, source, spoken, start_id=1, end_id=2, max_length=6, vocabulary=8):
    """Inputs of the scenario ``table_model``: for one word the model says ``spoken``, all else is chance.

    At each place the likeliest token is the right one by a margin of 1, and away from the right prefix the end
    never is. Two wrong prefixes have answers of their own: the start token twice, and the right one in reverse.
    """
    word, prefix, rows = tuple(source), (start_id,), {}
    for token in spoken:
        row = draw.normal(vocabulary)
        row[token] = row.max() + 1.0
        rows[word, prefix] = row
        prefix = (*prefix, token)
    otherwise = draw.normal(max_length + 2, vocabulary)
    otherwise[:, end_id] = -4.0
    others = [token for token in range(vocabulary) if token not in (end_id, int(otherwise[1].argmax()))]
    for wrong, token in zip([(start_id, start_id), (spoken[0], start_id)], others, strict=False):
        row = otherwise[1].clone()
        row[token] = row.max() + 1.0
        rows.setdefault((word, wrong), row)
    return {
        "model": table(rows, otherwise, patience=max_length + 40),
        "args": [None, torch.tensor([source]), start_id, end_id, max_length],
        "kwargs": {},
        "counts": ["encoded"],
    }


@greedy_word.case("three tokens and the end", scenario="table_model")
def _(draw):
    return _speaker(draw, [3, 5, 4], [6, 4, 7, 2])


@greedy_word.case("the end comes at once", scenario="table_model")
def _(draw):
    return _speaker(draw, [4, 3], [2])


@greedy_word.case("the end never comes", scenario="table_model")
def _(draw):
    return _speaker(draw, [5, 3, 3, 6], [4, 6, 4, 4, 7], max_length=5)


@greedy_word.case("the end is the last token allowed", scenario="table_model")
def _(draw):
    return _speaker(draw, [6, 4], [3, 7, 5, 2], max_length=4)


@greedy_word.case("the end would be one token too late", scenario="table_model")
def _(draw):
    return _speaker(draw, [4, 6], [7, 3, 5, 2], max_length=3)


@greedy_word.case("one token is all that is allowed", scenario="table_model")
def _(draw):
    return _speaker(draw, [3], [5, 2], max_length=1)


@greedy_word.case("0 and 2 are real tokens; start_id is 5, end_id is 3", scenario="table_model")
def _(draw):
    return _speaker(draw, [7, 4, 4], [0, 2, 1, 0, 6, 3], start_id=5, end_id=3, max_length=8)


@greedy_word.case("the same token again and again", scenario="table_model")
def _(draw):
    return _speaker(draw, [3, 4, 5, 6], [4, 4, 4, 2], max_length=9)


@greedy_word.case("the start token is said again, 0 is a real token, the end never comes", scenario="table_model")
def _(draw):
    return _speaker(draw, [5, 0, 3], [6, 1, 0, 4], max_length=4)


@greedy_word.case("a long word: 36 tokens", scenario="table_model")
def _(draw):
    return _speaker(draw, [6, 4], [*draw.integers(3, 8, 36).tolist(), 2], max_length=50)


@greedy_word.case("start and end are one token, as in some libraries", scenario="table_model")
def _(draw):
    return _speaker(draw, [6, 3, 4], [5, 7, 2], start_id=2, end_id=2)


_START_KEPT = "The start token is in what you return. It is only what the model reads first: leave it out, `ids[1:]`."
_END_LOST = (
    "The end token is missing. It was generated too: it counts, and whoever calls wants to know whether it came."
)
_ENCODED_AGAIN = (
    "The result is right, but the encoder runs again for each token, and the memory never changes. Call `model.encode` "
    "once, then `model.decode` in the loop."
)
_ONE_TOO_FEW = "You stop one token too early: `max_length` counts generated tokens, without the start token."
_SAME_AGAIN = (
    "The same token comes again and again: you read the logits of the first place (the newest is -1), or what was "
    "generated is not fed back to the decoder."
)
_START_IS_END = (
    "Your loop also looks at the start token. Where it is the end token, too, nothing is ever said: look at generated "
    "tokens only."
)

greedy_word.slip("start_kept", _START_KEPT, {"return ids[1:]": "return ids"})
greedy_word.slip(
    "end_dropped",
    _END_LOST,
    {
        "        ids.append(token)\n        if token == end_id:\n            break\n": "        if token == end_id:\n"
        "            break\n        ids.append(token)\n"
    },
)
greedy_word.slip(
    "last_always_dropped",
    "You always cut off the last token. Where the end never came, that is one of the word.",
    {"return ids[1:]": "return ids[1:-1]"},
)
greedy_word.slip(
    "end_ignored",
    "You never look for the end token, and go on to `max_length`. Once it has been generated, stop.",
    {"        if token == end_id:\n            break\n": ""},
)


@greedy_word.mistake(
    "Your loop ends at the end token only. A model may never say it (an untrained one hardly ever does): stop after "
    "`max_length` tokens, too."
)
def never_gives_up(model, source, start_id, end_id, max_length):
    memory = model.encode(source)
    ids = [start_id]
    while True:
        logits = model.decode(torch.tensor([ids]), memory)
        ids.append(int(logits[0, -1].argmax()))
        if ids[-1] == end_id:
            return ids[1:]


greedy_word.slip("one_too_few", _ONE_TOO_FEW, {"range(max_length)": "range(max_length - 1)"})


@greedy_word.mistake(_ONE_TOO_FEW)
def start_counted(model, source, start_id, end_id, max_length):
    memory = model.encode(source)
    ids = [start_id]
    while len(ids) < max_length:
        token = int(model.decode(torch.tensor([ids]), memory)[0, -1].argmax())
        ids.append(token)
        if token == end_id:
            break
    return ids[1:]


greedy_word.slip(
    "one_too_many",
    "You generate one token too many: `max_length` is the largest number of generated tokens.",
    {"range(max_length)": "range(max_length + 1)"},
)
greedy_word.slip(
    "first_place_read",
    _SAME_AGAIN,
    {"logits[0, -1]": "logits[0, 0]"},
)
greedy_word.slip(
    "start_token_alone",
    _SAME_AGAIN,
    {"torch.tensor([ids], device=source.device)": "torch.tensor([[start_id]], device=source.device)"},
)
greedy_word.slip(
    "argmax_over_all_places",
    "Your argmax runs over all places at once. Only the last place says what comes next: `logits[0, -1]`.",
    {"logits[0, -1].argmax()": "logits.argmax()"},
)
greedy_word.slip(
    "least_likely",
    "You take the least likely token. Asked is the likeliest: `argmax`.",
    {"argmax": "argmin"},
)
greedy_word.slip(
    "sampled",
    "You draw the token at random, by its probability. Greedy means: the likeliest one, always. Sampling comes in "
    "lesson 08.",
    {"logits[0, -1].argmax().item()": "torch.multinomial(logits[0, -1].softmax(-1), 1).item()"},
)
greedy_word.slip(
    "last_token_only",
    "The decoder gets the newest token alone, and does not know what came before. Without a cache (lesson 07) it needs "
    "the whole prefix.",
    {"torch.tensor([ids], device=source.device)": "torch.tensor([ids[-1:]], device=source.device)"},
)
greedy_word.slip(
    "last_token_at_its_place",
    "The decoder gets the newest token alone. `start` tells it the position, but not what came before: without a cache "
    "(lesson 07) it needs the whole prefix.",
    {
        "model.decode(torch.tensor([ids], device=source.device), memory)": "model.decode("
        "torch.tensor([ids[-1:]], device=source.device), memory, start=len(ids) - 1)"
    },
)
for _length in (4, 8, 16, 32):
    greedy_word.slip(
        f"last_{_length}_tokens",
        "The decoder gets the last few tokens only. It needs the whole prefix from the start token on, however long "
        "the word has become.",
        {"torch.tensor([ids], device=source.device)": f"torch.tensor([ids[-{_length}:]], device=source.device)"},
    )
for _name, _limit in (("10", "10"), ("20", "20"), ("32", "32"), ("twice_the_source", "2 * source.size(1)")):
    greedy_word.slip(
        f"stops_after_{_name}",
        "You stop at a length of your own. Only the end token and `max_length` end a word.",
        {"range(max_length)": f"range(min(max_length, {_limit}))"},
    )
_NOT_FED_BACK = (
    "What was generated is not fed back: the decoder reads start tokens and nothing else, all at once or one after the "
    "other. Append each token to the prefix, and hand the whole prefix to the next `decode`."
)
greedy_word.slip(
    "start_tokens_alone",
    _NOT_FED_BACK,
    {"torch.tensor([ids], device=source.device)": "torch.tensor([[start_id] * len(ids)], device=source.device)"},
)


@greedy_word.mistake(_NOT_FED_BACK)
def all_places_at_once(model, source, start_id, end_id, max_length):
    logits = model.decode(torch.full((1, max_length), start_id), model.encode(source))
    ids = logits[0].argmax(dim=-1).tolist()
    return ids[: ids.index(end_id) + 1] if end_id in ids else ids


greedy_word.slip(
    "in_reverse",
    "You hand the prefix over in reverse. The decoder reads from left to right: the start token first, the newest "
    "last.",
    {"torch.tensor([ids], device=source.device)": "torch.tensor([ids[::-1]], device=source.device)"},
)
greedy_word.slip(
    "start_missing_in_the_prefix",
    "From the second token on, the decoder no longer reads the start token. The prefix always begins with it.",
    {"torch.tensor([ids], device=source.device)": "torch.tensor([ids[1:] or ids], device=source.device)"},
)
greedy_word.slip(
    "start_is_always_one",
    "Your start token is always 1. Its id is `start_id`, which may be any number.",
    {"ids = [start_id]": "ids = [1]"},
)
greedy_word.slip(
    "end_is_always_two",
    "Your end token is always 2. Its id is `end_id`, which may be any number.",
    {"if token == end_id": "if token == 2"},
)
greedy_word.slip(
    "stops_at_zero",
    "You also stop at the token 0. One word has no padding, and 0 may be a real token: only `end_id` ends it.",
    {"if token == end_id": "if token in (0, end_id)"},
)
greedy_word.slip(
    "stops_when_repeated",
    "You stop where a token comes a second time. Words may repeat a phoneme: only `end_id` ends one.",
    {"if token == end_id": "if token == end_id or token in ids[1:-1]"},
)
greedy_word.slip(
    "reads_the_source",
    "You hand `source` to `decode`. The decoder reads what it has said so far; the source reaches it through the "
    "memory.",
    {"torch.tensor([ids], device=source.device)": "source"},
)
greedy_word.slip(
    "no_batch",
    "The model takes (batch, length), and you hand it a row of ids without a batch: `torch.tensor([ids])`.",
    {"torch.tensor([ids], device=source.device)": "torch.tensor(ids, device=source.device)"},
)


@greedy_word.mistake(_ENCODED_AGAIN)
def encoder_in_the_loop(model, source, start_id, end_id, max_length):
    ids = [start_id]
    for _ in range(max_length):
        memory = model.encode(source)
        ids.append(int(model.decode(torch.tensor([ids]), memory)[0, -1].argmax()))
        if ids[-1] == end_id:
            break
    return ids[1:]


@greedy_word.mistake(_ENCODED_AGAIN)
def whole_model_in_the_loop(model, source, start_id, end_id, max_length):
    ids = torch.tensor([[start_id]])
    for _ in range(max_length):
        token = model(source, ids)[:, -1:].argmax(dim=-1)
        ids = torch.cat([ids, token], dim=1)
        if token.item() == end_id:
            break
    return ids[0, 1:].tolist()


@greedy_word.mistake("You feed the logits back. The decoder reads token ids: take the argmax first, and append that.")
def logits_fed_back(model, source, start_id, end_id, max_length):
    memory, target, ids = model.encode(source), torch.tensor([[start_id]]), []
    for _ in range(max_length):
        logits = model.decode(target, memory)[:, -1]
        ids.append(int(logits[0].argmax()))
        target = torch.cat([target, logits], dim=1)
        if ids[-1] == end_id:
            break
    return ids


@greedy_word.mistake("The result is right, but a tensor. Asked is a list of Python ints: `.tolist()`.")
def tensor_returned(model, source, start_id, end_id, max_length):
    memory, ids = model.encode(source), torch.tensor([[start_id]])
    for _ in range(max_length):
        token = model.decode(ids, memory)[:, -1:].argmax(dim=-1)
        ids = torch.cat([ids, token], dim=1)
        if token.item() == end_id:
            break
    return ids[0, 1:]


greedy_word.slip(
    "list_of_tensors",
    "You return a list of tensors. Asked are Python ints: `.item()` or `int(…)` for each token.",
    {".argmax().item()": ".argmax()"},
)


@greedy_word.mistake(
    "The ids are right, but numpy numbers. Asked are Python ints: `int(…)` or `.item()` for each token."
)
def list_of_numpy_numbers(model, source, start_id, end_id, max_length):
    memory, ids = model.encode(source), [start_id]
    for _ in range(max_length):
        ids.append(model.decode(torch.tensor([ids]), memory).detach().numpy()[0, -1].argmax())
        if ids[-1] == end_id:
            break
    return ids[1:]


@greedy_word.mistake("The ids are right, but a tuple. Asked is a list: `list(…)`, or append to one from the beginning.")
def as_a_tuple(model, source, start_id, end_id, max_length):
    memory, ids = model.encode(source), [start_id]
    for _ in range(max_length):
        ids.append(int(model.decode(torch.tensor([ids]), memory)[0, -1].argmax()))
        if ids[-1] == end_id:
            break
    return tuple(ids[1:])


greedy_word.slip(
    "training_mode",
    "You switch the model to training mode, so that dropout makes the word another one each time. Leave `train()` and "
    "`eval()` to the caller.",
    {"    memory = model.encode(source)": "    model.train()\n    memory = model.encode(source)"},
)
greedy_word.slip(
    "zero_as_padding",
    "You mask the token 0 in the source. One word alone has no padding, and 0 may be a real token: no mask is needed.",
    {
        "model.encode(source)": "model.encode(source, (source != 0)[:, None, None])",
        "model.decode(torch.tensor([ids], device=source.device), memory)": "model.decode(torch.tensor([ids]), memory, "
        "memory_mask=(source != 0)[:, None, None])",
    },
)


@greedy_word.mistake(_START_IS_END)
def start_looked_at(model, source, start_id, end_id, max_length):
    memory = model.encode(source)
    ids = [start_id]
    while ids[-1] != end_id and len(ids) <= max_length:
        ids.append(int(model.decode(torch.tensor([ids]), memory)[0, -1].argmax()))
    return ids[1:]


@greedy_word.mistake(_START_IS_END)
def end_looked_for_anywhere(model, source, start_id, end_id, max_length):
    memory = model.encode(source)
    ids = [start_id]
    for _ in range(max_length):
        ids.append(int(model.decode(torch.tensor([ids]), memory)[0, -1].argmax()))
        if end_id in ids:
            break
    return ids[1:]


greedy_word.also("without_gradients", {
    "        logits = model": "        with torch.no_grad():\n            logits = model"
})  # fmt: skip
greedy_word.also("softmax_before_argmax", {"logits[0, -1].argmax()": "logits.softmax(-1)[0, -1].argmax()"})
greedy_word.also("argmax_everywhere", {"logits[0, -1].argmax()": "logits.argmax(dim=-1)[0, -1]"})
greedy_word.also("source_mask_of_ones", {
    "model.encode(source)": "model.encode(source, torch.ones(1, 1, 1, source.size(1), dtype=torch.bool))"
})  # fmt: skip


@greedy_word.also_right
def grows_a_tensor(model, source, start_id, end_id, max_length):
    memory, ids = model.encode(source), torch.full((1, 1), start_id)
    while ids.size(1) <= max_length:
        token = model.decode(ids, memory)[:, -1].topk(1).indices
        ids = torch.hstack([ids, token])
        if (token == end_id).all():
            break
    return ids[0, 1:].tolist()


@greedy_word.also_right
def runs_on_and_cuts(model, source, start_id, end_id, max_length):
    memory, said = model.encode(source), []
    for _ in range(max_length):
        scores = model.decode(torch.tensor([[start_id, *said]]), memory)[0, -1].tolist()
        said.append(max(range(len(scores)), key=scores.__getitem__))
    return said[: said.index(end_id) + 1] if end_id in said else said


@greedy_word.also_right
def recursive(model, source, start_id, end_id, max_length):
    memory = model.encode(source)

    def go_on(said):
        if len(said) == max_length or (said and said[-1] == end_id):
            return said
        logits = model.decode(torch.tensor([[start_id, *said]]), memory)
        return go_on([*said, int(logits[0, -1].argmax())])

    return go_on([])


@greedy_word.mistake(
    "You leave out the start token wherever it stands. Only the one that you begin with is not part of the answer: a "
    "model may also say it."
)
def start_taken_out_everywhere(model, source, start_id, end_id, max_length):
    memory = model.encode(source)
    ids = [start_id]
    while len(ids) <= max_length and (len(ids) == 1 or ids[-1] != end_id):
        logits = model.decode(torch.tensor([ids]), memory)
        ids.append(int(logits[0, -1].argmax()))
    return ids[1:] if start_id == end_id else [token for token in ids if token != start_id]


greedy_word.hint("Before the loop: encode once, and begin a list with the start token.")
greedy_word.hint(
    "In the loop: `model.decode(torch.tensor([ids]), memory)` gives (1, len(ids), vocabulary). Which place says what "
    "comes next?"
)
greedy_word.hint(
    "Append the argmax; break after the end token. How often may the loop run, and what is left out at the end?"
)
