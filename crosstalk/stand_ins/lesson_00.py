"""Stand-ins of lesson 00."""

from __future__ import annotations

import torch


def sequence_log_prob(log_probs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """log P(y|x) of one target sequence: the sum of the log-probabilities of its tokens.

    Args:
        log_probs: log P(· | y_<t, x) for each step.  # (target, vocabulary)
        target: token ids, the end token included.  # (target,)
    """
    return log_probs.gather(-1, target.unsqueeze(-1)).sum()
