"""Stand-ins of lesson 08: beam search, and sampling from a filtered distribution."""

from __future__ import annotations

from collections.abc import Callable

import torch


def beam_step(
    log_probs: torch.Tensor, scores: torch.Tensor, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best expansions of all beams together.

    Args:
        log_probs: (beams, V), log-probabilities of the next token after each beam.
        scores: (beams,), the log-probability of each beam so far.
        width: how many to keep.

    Returns:
        scores, parents (which beam each came from) and tokens, each (min(width, beams·V),), best first.
    """
    total = (scores[:, None] + log_probs).flatten()  # (beams · V,)
    best, places = total.topk(min(width, len(total)))
    vocabulary = log_probs.size(1)
    return best, places // vocabulary, places % vocabulary


def beam_search(
    step: Callable[[torch.Tensor], torch.Tensor],
    start_id: int,
    end_id: int,
    width: int,
    max_length: int,
    alpha: float,
) -> tuple[list[int], float]:
    """Search for the sequence of the highest score, log P / length**alpha (Wu et al. 2016, section 7).

    At each step the ``width`` best expansions are taken in all; those that end leave the beam and are kept. It goes on
    until no beam is left, or ``max_length`` tokens are generated; the unfinished count only where none has finished.
    What has probability 0 is no expansion.

    Args:
        step: prefixes (beams, length), start token included → log-probabilities of the next token (beams, V).
        width: beams at most.
        max_length: generated tokens at most, the end token included.
        alpha: 0 takes the likeliest sequence, more prefers longer ones; length counts generated tokens.

    Returns:
        the generated tokens, with the end token if it came, and the score.
    """
    prefixes, scores = torch.tensor([[start_id]]), torch.zeros(1)
    finished: list[tuple[list[int], float]] = []
    for length in range(1, max_length + 1):
        scores, parents, tokens = beam_step(step(prefixes), scores, width)
        possible = scores > float("-inf")
        scores, parents, tokens = scores[possible], parents[possible], tokens[possible]
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)  # (beams, 1 + length)
        ended = tokens == end_id
        kept = zip(prefixes[ended, 1:].tolist(), (scores[ended] / length**alpha).tolist(), strict=True)
        finished += kept
        prefixes, scores = prefixes[~ended], scores[~ended]
        if not len(prefixes):
            break
    unfinished = zip(prefixes[:, 1:].tolist(), (scores / max_length**alpha).tolist(), strict=True)
    return max(finished or unfinished, key=lambda each: each[1])


def top_k_filter(logits: torch.Tensor, k: int) -> torch.Tensor:
    """The ``k`` highest logits of each row, -inf elsewhere (Fan et al. 2018).

    Args:
        logits: (…, V)
        k: at least 1; where it is more than V, all stay.
    """
    lowest = logits.topk(min(k, logits.size(-1)), dim=-1).values[..., -1:]  # (…, 1)
    return logits.masked_fill(logits < lowest, float("-inf"))


def top_p_filter(logits: torch.Tensor, p: float) -> torch.Tensor:
    """The likeliest tokens that together reach ``p``, the one that crosses it included (Holtzman et al. 2020).

    Args:
        logits: (…, V)
        p: more than 0, at most 1.

    Returns:
        (…, V), -inf elsewhere; at least one token stays.
    """
    probabilities, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)  # (…, V)
    before = probabilities.cumsum(dim=-1) - probabilities  # the mass of the likelier ones
    dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(dropped, float("-inf"))


def sampling_distribution(
    logits: torch.Tensor, temperature: float = 1.0, k: int | None = None, p: float | None = None
) -> torch.Tensor:
    """What is drawn from: temperature, then top-k, then top-p of what is left, renormalised.

    Args:
        logits: (…, V)
        temperature: more than 0.
        k, p: None leaves that filter out.

    Returns:
        probabilities (…, V)
    """
    logits = logits / temperature
    if k is not None:
        logits = top_k_filter(logits, k)
    if p is not None:
        logits = top_p_filter(logits, p)
    return logits.softmax(dim=-1)


def sample(
    logits: torch.Tensor,
    temperature: float = 1.0,
    k: int | None = None,
    p: float | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw one token a row from `sampling_distribution`.

    Args:
        logits: (batch, V)
        generator: of the random numbers.

    Returns:
        ids (batch,)
    """
    return torch.multinomial(sampling_distribution(logits, temperature, k, p), 1, generator=generator)[:, 0]
