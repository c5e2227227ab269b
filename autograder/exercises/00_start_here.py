"""Lesson 00: the log-probability of a whole sequence."""

# mypy: ignore-errors

import torch

from autograder.exercise import Exercise

sequence_log_prob = Exercise("sequence_log_prob", returns=["log-probability ()"])


def _log_probs(draw, target, vocabulary, dtype=torch.float32):
    """Rows of log-probabilities: the exponentials of each sum to 1, so they are not rounded.  # (target, vocabulary)"""
    return _scores(draw, target, vocabulary).log_softmax(dim=-1).to(dtype)


def _scores(draw, target, vocabulary):
    return draw.normal(target, vocabulary, scale=1.5, dtype=torch.float64)


@sequence_log_prob.case("three tokens of a vocabulary of four")
def _(draw):
    return _log_probs(draw, 3, 4), torch.tensor([3, 0, 2])


@sequence_log_prob.case("one token: only the end")
def _(draw):
    return _log_probs(draw, 1, 4), torch.tensor([2])


@sequence_log_prob.case("as many tokens as the vocabulary has, one of them twice")
def _(draw):
    return _log_probs(draw, 6, 6), torch.tensor([4, 1, 5, 1, 0, 2])


@sequence_log_prob.case("a token of probability near 0: log P = -200")
def _(draw):
    scores = _scores(draw, 4, 5)
    scores[1, 3] = -200.0
    return scores.log_softmax(dim=-1).float(), torch.tensor([0, 3, 1, 2])


@sequence_log_prob.case("more tokens than the vocabulary has, float64, not contiguous")
def _(draw):
    return _log_probs(draw, 7, 5, torch.float64).T.contiguous().T, torch.tensor([4, 2, 0, 3, 1, 2, 4])


@sequence_log_prob.case("gradients", scenario="gradients")
def _(draw):
    return _log_probs(draw, 3, 4), torch.tensor([1, 3, 2])


@sequence_log_prob.mistake(
    "You take the mean. The log-probability of the whole sequence is the sum over its tokens: a mean would not "
    "notice how long it is."
)
def averaged(log_probs, target):
    return log_probs.gather(-1, target.unsqueeze(-1)).mean()


@sequence_log_prob.mistake(
    "You return the probability itself, e to the power of the sum. Asked is its logarithm: leave out the exp."
)
def probability(log_probs, target):
    return log_probs.gather(-1, target.unsqueeze(-1)).sum().exp()


@sequence_log_prob.mistake(
    "You multiply the probabilities and take the logarithm at the end. The product underflows to 0, and log 0 is "
    "-inf: add the logarithms instead."
)
def product_then_log(log_probs, target):
    return log_probs.exp().gather(-1, target.unsqueeze(-1)).prod().log()


@sequence_log_prob.mistake(
    "You multiply the log-probabilities. The probabilities are multiplied; their logarithms are added."
)
def logs_multiplied(log_probs, target):
    return log_probs.gather(-1, target.unsqueeze(-1)).prod()


@sequence_log_prob.mistake(
    "You leave out the last token. It is the end token, and counts like every other: without it a beginning of a "
    "word always scores at least as well as the word."
)
def end_token_dropped(log_probs, target):
    return log_probs[:-1].gather(-1, target[:-1].unsqueeze(-1)).sum()


@sequence_log_prob.mistake(
    "You leave out the first token. There is no start token in `target`: row 0 predicts target[0], and counts."
)
def first_token_dropped(log_probs, target):
    return log_probs[1:].gather(-1, target[1:].unsqueeze(-1)).sum()


@sequence_log_prob.mistake(
    "You are off by one: row t of `log_probs` belongs to target[t], the token it predicts, and not to target[t + 1]."
)
def rows_one_too_early(log_probs, target):
    return log_probs[:-1].gather(-1, target[1:].unsqueeze(-1)).sum()


@sequence_log_prob.mistake(
    "You are off by one: row t of `log_probs` belongs to target[t], the token it predicts, and not to target[t - 1]."
)
def rows_one_too_late(log_probs, target):
    return log_probs[1:].gather(-1, target[:-1].unsqueeze(-1)).sum()


@sequence_log_prob.mistake(
    "You take the largest entry of each row: that is the token the model likes best. Asked is the one that stands "
    "in `target`."
)
def argmax_taken(log_probs, target):
    return log_probs.max(dim=-1).values.sum()


@sequence_log_prob.mistake(
    "You sum the whole table. From each row only one entry counts: that of the token in `target`."
)
def all_summed(log_probs, target):
    return log_probs.sum()


@sequence_log_prob.mistake(
    "`log_probs[:, target]` takes every target token from every row, a (target, target) table. Wanted is one entry "
    "from each row: index the rows too, with torch.arange, or use gather."
)
def every_token_from_every_row(log_probs, target):
    return log_probs[:, target].sum()


@sequence_log_prob.mistake(
    "You take the logarithm once more. `log_probs` holds logarithms already, all of them negative: log of a "
    "negative number is NaN."
)
def log_of_log(log_probs, target):
    return log_probs.log().gather(-1, target.unsqueeze(-1)).sum()


@sequence_log_prob.mistake(
    "You add up the probabilities. Probabilities of steps that follow each other are multiplied, so their "
    "logarithms are added: leave out the exp."
)
def probabilities_summed(log_probs, target):
    return log_probs.exp().gather(-1, target.unsqueeze(-1)).sum()


@sequence_log_prob.mistake("The sign is turned. That is the loss, -log P; asked is log P, which is never above 0.")
def negated(log_probs, target):
    return -log_probs.gather(-1, target.unsqueeze(-1)).sum()


@sequence_log_prob.mistake("The log-probabilities of the tokens are right; now add them up to one number.")
def not_summed(log_probs, target):
    return log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)


@sequence_log_prob.mistake(
    "The sum is right, but you return it with shape (1,). Asked is a scalar, shape (): sum over everything."
)
def shape_one(log_probs, target):
    return log_probs.gather(-1, target.unsqueeze(-1)).sum(dim=0)


@sequence_log_prob.mistake(
    "You return a Python float (`.item()` or `float`). No gradient flows through one, and a model that learns needs "
    "it: return the tensor."
)
def python_float(log_probs, target):
    return log_probs.gather(-1, target.unsqueeze(-1)).sum().item()


@sequence_log_prob.mistake(
    "The number is right, but cut off from the gradient (`.detach()`, `no_grad` or a new tensor): a model could "
    "not learn from it."
)
def detached(log_probs, target):
    return log_probs.gather(-1, target.unsqueeze(-1)).sum().detach()


@sequence_log_prob.mistake(
    "You pair the tokens with `range(log_probs.size(1))`, which counts the vocabulary, so tokens beyond it are lost. "
    "The rows are counted by `len(target)`."
)
def as_many_as_the_vocabulary(log_probs, target):
    return sum(log_probs[row, token] for row, token in zip(range(log_probs.size(1)), target, strict=False))


@sequence_log_prob.mistake(
    "You leave out the tokens with the id 0, as if they were padding. There is no padding in `target`: 0 is a token "
    "like every other, and counts."
)
def zero_left_out(log_probs, target):
    return log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)[target != 0].sum()


@sequence_log_prob.mistake(
    "You stop at the first token with the id 2. The end of the sequence is the end of `target`, whatever ids stand in "
    "it: add up all of them."
)
def stopped_at_two(log_probs, target):
    total = log_probs.new_zeros(())
    for row, token in enumerate(target):
        total = total + log_probs[row, token]
        if token == 2:
            break
    return total


_SOFTMAX_AGAIN = (
    "You take a softmax once more (`log_softmax`, or the one inside `F.cross_entropy`). `log_probs` holds "
    "log-probabilities already: the number stays the same, but its gradient at `log_probs` changes. Leave it out."
)


@sequence_log_prob.mistake(_SOFTMAX_AGAIN)
def with_cross_entropy(log_probs, target):
    return -torch.nn.functional.cross_entropy(log_probs, target, reduction="sum")


@sequence_log_prob.mistake(_SOFTMAX_AGAIN)
def log_softmax_again(log_probs, target):
    return log_probs.log_softmax(dim=-1).gather(-1, target.unsqueeze(-1)).sum()


@sequence_log_prob.also_right
def with_arange(log_probs, target):
    return log_probs[torch.arange(len(target)), target].sum()


@sequence_log_prob.also_right
def with_a_loop(log_probs, target):
    total = 0.0
    for row, token in zip(log_probs, target, strict=True):
        total = total + row[token]
    return total


@sequence_log_prob.also_right
def with_nll_loss(log_probs, target):
    return -torch.nn.functional.nll_loss(log_probs, target, reduction="sum")


@sequence_log_prob.also_right
def with_one_hot(log_probs, target):
    chosen = torch.nn.functional.one_hot(target, log_probs.size(-1)).to(log_probs.dtype)
    return torch.einsum("tv,tv->", log_probs, chosen)


@sequence_log_prob.also_right
def with_the_diagonal(log_probs, target):
    return log_probs[:, target].diagonal().sum()


sequence_log_prob.hint(
    "Print `log_probs.shape` and `target.shape`. Row t has one number for each token there is; which one of them "
    "belongs to `target[t]`?"
)
sequence_log_prob.hint(
    "In a loop it would be `log_probs[t, target[t]]` for each t. `log_probs[torch.arange(len(target)), target]` does "
    "all t at once."
)
sequence_log_prob.hint("Steps multiply their probabilities, so their logarithms add: end with `.sum()`.")
