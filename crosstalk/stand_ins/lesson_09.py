"""Stand-ins of lesson 09: what goes wrong where, and training on the model's own tokens."""

from __future__ import annotations

import torch


def free_running_accuracy(predicted: torch.Tensor, gold: torch.Tensor, pad_id: int) -> float:
    """The share of real gold tokens that stand in the same place of what was predicted.

    Args:
        predicted: (batch, any length), padded or cut to gold's width.
        gold: (batch, length), padded at the end.
    """
    real = gold != pad_id  # (batch, length)
    return float((fitted(predicted, gold, pad_id) == gold)[real].float().mean())


def fitted(predicted: torch.Tensor, gold: torch.Tensor, pad_id: int) -> torch.Tensor:
    """``predicted``, padded or cut to the width of ``gold``: (batch, length)."""
    result = torch.full_like(gold, pad_id)
    width = min(predicted.size(1), gold.size(1))
    result[:, :width] = predicted[:, :width]
    return result


def error_by_position(predicted: torch.Tensor, gold: torch.Tensor, pad_id: int) -> torch.Tensor:
    """The share of words that are wrong at each place, same index; NaN where no word is that long.

    Args:
        predicted: (batch, any length)
        gold: (batch, length), padded at the end.

    Returns:
        (length,), float
    """
    real = gold != pad_id  # (batch, length)
    wrong = (fitted(predicted, gold, pad_id) != gold) & real
    return wrong.sum(dim=0) / real.sum(dim=0)


def aligned_error_by_position(predicted: torch.Tensor, gold: torch.Tensor, pad_id: int) -> torch.Tensor:
    """The share of words that are wrong at each gold place, after aligning each word with the fewest edits.

    A gold token is right where the alignment pairs it with the same token; an inserted token is no place of gold and
    counts nowhere.

    Args:
        predicted: (batch, any length), padding after the end.
        gold: (batch, length), padded at the end.

    Returns:
        (length,), float; NaN where no word is that long.
    """
    real = gold != pad_id  # (batch, length)
    wrong = torch.zeros_like(real)
    for row, (said, right) in enumerate(zip(predicted.tolist(), gold.tolist(), strict=True)):
        said, right = ([token for token in tokens if token != pad_id] for tokens in (said, right))
        wrong[row, : len(right)] = ~torch.tensor(matched(said, right), dtype=torch.bool)
    return wrong.sum(dim=0) / real.sum(dim=0)


def matched(said: list[int], right: list[int]) -> list[bool]:
    """For each token of ``right``: does an alignment with the fewest edits pair it with its like in ``said``?

    Where several alignments need as few edits, the one that is found from the end, pairs first.
    """
    table = [[i + j for j in range(len(right) + 1)] for i in range(len(said) + 1)]
    for i, one in enumerate(said, 1):
        for j, other in enumerate(right, 1):
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (one != other))
    found = [False] * len(right)
    i, j = len(said), len(right)
    while i and j:
        different = said[i - 1] != right[j - 1]
        if table[i][j] == table[i - 1][j - 1] + different:
            i, j = i - 1, j - 1
            found[j] = not different
        elif table[i][j] == table[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return found


def scheduled_sampling(
    gold_inputs: torch.Tensor, predictions: torch.Tensor, use_model: torch.Tensor, start_id: int, pad_id: int
) -> torch.Tensor:
    """The decoder's inputs with some gold tokens replaced by the model's own (Bengio et al. 2015; Mihaylova and
    Martins 2019 for the two passes).

    Args:
        gold_inputs: (batch, length), shifted right: the start token first.
        predictions: (batch, length); what stands at t is the model's answer at t, and so may be input t + 1.
        use_model: bool (batch, length): should this input be the model's?
        start_id, pad_id: tokens that stay as they are.

    Returns:
        (batch, length)
    """
    own = torch.cat([gold_inputs[:, :1], predictions[:, :-1]], dim=1)  # the answer at t is input t + 1
    stays = (gold_inputs == start_id) | (gold_inputs == pad_id)
    return torch.where(use_model & ~stays, own, gold_inputs)
