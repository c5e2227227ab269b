"""What a filter or a sampling distribution did to one row of logits, and what is plainly wrong with it, in words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_STRUCK = -1e8  # at or below it a logit counts as struck out: some write -1e9 for -inf
_CLOSE = 1e-5  # masses and shares nearer than this are the same: sums in another order differ by less


def kept_of(logits: Tensor) -> Tensor:
    """Which tokens a filter left: bool (V,)."""
    return logits > _STRUCK


def shares_of(logits: Tensor) -> Tensor:
    """The softmax in double precision, (V,)."""
    return logits.double().softmax(-1)


def bounds_of_k(logits: Tensor, k: float) -> tuple[Tensor, Tensor]:
    """Which tokens top-k must keep and which it may: they differ where logits tie with the k-th.

    Returns:
        two bool tensors (V,)
    """
    count = min(int(k), len(logits))
    lowest = logits.topk(count).values[-1]
    may = logits >= lowest
    return may if may.sum() == count else logits > lowest, may


def bounds_of_p(logits: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """Which tokens top-p must keep and which it may: they differ where the mass before a token is just p, and in ties.

    Returns:
        two bool tensors (V,)
    """
    shares = shares_of(logits)
    # (V, V): is the token of the column likelier than that of the row?
    likelier = shares[None] > shares[:, None]
    no_less = (shares[None] >= shares[:, None]) & ~torch.eye(len(shares), dtype=torch.bool)
    before = (shares * likelier).sum(-1)  # the mass of the likelier ones
    before_with_ties = (shares * no_less).sum(-1)
    there = kept_of(logits)
    return there & (before_with_ties < p - _CLOSE), there & (before < p + _CLOSE)


def wrong_with_filter(
    name: str, given: Tensor, filtered: Tensor, must: Tensor, may: Tensor, tokens: Sequence[str], wanted: str
) -> str:
    """One sentence on a filter that did something else than it should, or "".

    Args:
        name: of the function.
        given, filtered: logits before and after it, (V,).
        must, may: which tokens it has to keep and which it may, bool (V,).
        wanted: what decides, as in "k = 3".
    """
    kept = kept_of(filtered)
    if bool(filtered.isnan().any()):
        return f"`{name}` returned NaN for {_named(filtered.isnan(), tokens)}."
    if not bool(kept.any()):
        return f"`{name}` strikes out every token ({wanted}): at least the likeliest one has to stay."
    if bool((must & ~kept).any()):
        short = f"`{name}` strikes out {_named(must & ~kept, tokens)}, which {wanted} keeps"
        if wanted.startswith("p"):
            mass = float(shares_of(given)[kept].sum())
            short += f": what it keeps has {mass:.3f} together. The token that crosses p stays"
        return short + "."
    if bool((kept & ~may).any()):
        return f"`{name}` keeps {_named(kept & ~may, tokens)}, which {wanted} strikes out."
    moved = kept & ~torch.isclose(filtered, given, rtol=1e-4, atol=1e-4)
    if bool(moved.any()):
        return f"`{name}` changes the logit of {_named(moved, tokens)}: what is kept stays as it is."
    return ""


def wrong_with_distribution(
    name: str, shares: Tensor, logits: Tensor, must: Tensor, may: Tensor, tokens: Sequence[str]
) -> str:
    """One sentence on a distribution that is none, or another than the filters leave, or "".

    Args:
        shares: what the function returned, (V,).
        logits: after temperature, (V,).
        must, may: which tokens have to have a share and which may, bool (V,).
    """
    if bool(shares.isnan().any()):
        return f"`{name}` returned NaN for {_named(shares.isnan(), tokens)}."
    if bool((shares < 0).any()):
        return f"`{name}` gives {_named(shares < 0, tokens)} less than 0: probabilities are wanted, not logits."
    total = float(shares.double().sum())
    if abs(total - 1) > 1e-4:
        return f"`{name}` sums to {total:.4f}: what is left has to be renormalised to 1."
    if bool((must & (shares == 0)).any()):
        return f"`{name}` gives {_named(must & (shares == 0), tokens)} nothing, which the filters keep."
    if bool(((shares > 1e-12) & ~may).any()):
        return f"`{name}` gives {_named((shares > 1e-12) & ~may, tokens)} a share, which the filters strike out."
    wanted = shares_of(logits.masked_fill(shares == 0, float("-inf")))
    place = int((shares - wanted).abs().argmax())
    if abs(float(shares[place] - wanted[place])) > 1e-4:
        return (
            f"`{name}` gives {tokens[place]} {float(shares[place]):.4f}, where {float(wanted[place]):.4f} is wanted: "
            "the softmax of the logits after temperature, over what the filters keep."
        )
    return ""


def _named(chosen: Tensor, tokens: Sequence[str], most: int = 3) -> str:
    """The tokens chosen, in words: "K", "K and T", "K, T and 4 more"."""
    names = [tokens[place] for place in chosen.nonzero()[:, 0].tolist()]
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[:-1] else names)
