# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 Attention

# %% setup=true
import math

import torch
from torch import nn
from torch.nn import functional as F

from autograder import check, hint, trace


# %% answer="softmax"
def softmax(scores, dim=-1):
    """Probabilities along `dim`, of the same shape as `scores`."""
    ### BEGIN SOLUTION
    largest = scores.amax(dim=dim, keepdim=True)
    exponentials = torch.exp(scores - largest)
    return exponentials / exponentials.sum(dim=dim, keepdim=True)
    ### END SOLUTION


# %% check="softmax"
check("softmax")


# %% answer="scaled_dot_product_attention"
def scaled_dot_product_attention(query, key, value):
    """softmax(Q Kᵀ / √d_k) V, and the weights."""
    ### BEGIN SOLUTION
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))  # (…, queries, keys)
    weights = softmax(scores, dim=-1)
    output = weights @ value  # (…, queries, d_v)
    return output, weights
    ### END SOLUTION


# %% check="scaled_dot_product_attention"
check("scaled_dot_product_attention")


# %% answer="split_heads"
def split_heads(states, heads):
    """(batch, length, d_model) → (batch, heads, length, d_head)."""
    ### BEGIN SOLUTION
    batch, length, d_model = states.shape
    return states.reshape(batch, length, heads, d_model // heads).transpose(1, 2)
    ### END SOLUTION


# %% check="split_heads"
check("split_heads")


# %% answer="merge_heads"
def merge_heads(states):
    """(batch, heads, length, d_head) → (batch, length, d_model)."""
    ### BEGIN SOLUTION
    batch, heads, length, d_head = states.shape
    return states.transpose(1, 2).reshape(batch, length, heads * d_head)
    ### END SOLUTION


# %% check="merge_heads"
check("merge_heads")
