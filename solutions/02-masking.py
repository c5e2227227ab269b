# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 Masking

# %% setup=true
import math

import torch
from torch import nn
from torch.nn import functional as F

from autograder import check, hint, trace
from crosstalk.my_model import merge_heads, softmax, split_heads


# %% answer="padding_mask"
def padding_mask(tokens, pad_id):
    """(batch, keys) → bool (batch, 1, 1, keys), True where a real token stands."""
    ### BEGIN SOLUTION
    real = tokens != pad_id  # (batch, keys)
    return real[:, None, None, :]  # (batch, 1, 1, keys): the same for all heads and all queries
    ### END SOLUTION


# %% check="padding_mask"
check("padding_mask")


# %% answer="causal_mask"
def causal_mask(queries, keys):
    """bool (queries, keys), True = may attend, aligned bottom right: the last query sees every key."""
    ### BEGIN SOLUTION
    earlier = keys - queries  # so many keys stand before the first query
    return torch.ones(queries, keys, dtype=torch.bool).tril(diagonal=earlier)
    ### END SOLUTION


# %% check="causal_mask"
check("causal_mask")


# %% answer="additive_mask"
def additive_mask(mask, dtype):
    """A boolean mask as numbers to add to the scores: 0 where allowed, -inf where not."""
    ### BEGIN SOLUTION
    zeros = torch.zeros(mask.shape, dtype=dtype)
    return zeros.masked_fill(~mask, -math.inf)
    ### END SOLUTION


# %% check="additive_mask"
check("additive_mask")


# %% answer="masked_attention"
def masked_attention(query, key, value, mask=None):
    """Attention over the keys that `mask` allows, and the weights; an empty row gives zeros."""
    ### BEGIN SOLUTION
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))  # (…, queries, keys)
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        # A finite number and not -inf: a row of -inf would be 0 / 0, backwards too.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = softmax(scores, dim=-1)
        weights = weights.masked_fill(~mask, 0.0)  # changes only the empty rows
    output = weights @ value  # (…, queries, d_v)
    return output, weights
    ### END SOLUTION


# %% check="masked_attention"
check("masked_attention")


# %% answer="MultiHeadAttention"
class MultiHeadAttention(nn.Module):
    """Several attentions side by side on blocks of features, mixed by an output projection."""

    def __init__(self, d_model, heads, attention=masked_attention):
        super().__init__()
        self.heads = heads
        self.attention = attention
        ### BEGIN SOLUTION
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.output = nn.Linear(d_model, d_model)
        ### END SOLUTION

    def forward(self, states, memory=None, mask=None):
        """(batch, queries, d_model) → output of the same shape, weights (batch, heads, queries, keys)."""
        ### BEGIN SOLUTION
        source = states if memory is None else memory  # (batch, keys, d_model)
        query = split_heads(self.query(states), self.heads)  # (batch, heads, queries, d_head)
        key = split_heads(self.key(source), self.heads)  # (batch, heads, keys, d_head)
        value = split_heads(self.value(source), self.heads)  # (batch, heads, keys, d_head)
        carried, weights = self.attention(query, key, value, mask)
        return self.output(merge_heads(carried)), weights
        ### END SOLUTION


# %% check="MultiHeadAttention"
check("MultiHeadAttention")
