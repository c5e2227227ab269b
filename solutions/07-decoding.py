# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 Decoding
#
# **Your model learns to speak quickly.** In lesson 05 it said one word at a time, and for each new phoneme it went
# through all the earlier ones again. Today a whole batch of words is said at once, each row stops at its own end, and
# nothing is computed twice. The words stay the same, token for token. A large language model that answers you works in
# just this way.
#
# At the end you will be able to
#
# - decode a batch of words, with rows that end at different steps;
# - say what in a decoder never changes once it is computed, and keep just that;
# - write attention with a cache, and prove that it gives the same numbers;
# - say what a step costs, with the cache and without, in operations, in milliseconds and in bytes.
#
# Time: about 120 minutes. Stop where you like: what has passed is kept. Before it:
# [05 Teacher forcing](../05-teacher-forcing/teacher-forcing.ipynb).
#
# Run this cell first. Your answers are judged with these imports and nothing else.

# %% setup=true
import torch
from torch import nn

from autograder import check, hint, trace
from crosstalk.my_model import merge_heads, split_heads

# %% [markdown]
# The next cell brings what this lesson shows things with. `my_model` is your own model so far: your pieces where they
# have passed, stand-ins where not yet. `trained` has the weights that you trained in lesson 05; where that training has
# not come to its end, it has those of the checkpoint.

# %%
import sys
import time

import matplotlib.pyplot as plt

from crosstalk import my_model
from crosstalk.checkpoints import own_model
from crosstalk.data import cmudict
from crosstalk.map import model_map
from crosstalk.models import word_model
from crosstalk.plots import heat_map
from crosstalk.widgets import DecodeSteps, Predict

torch.set_num_threads(1)  # small tensors: a second thread would only get in the way
torch.set_printoptions(precision=3, sci_mode=False)
PAD, START, END = cmudict.PAD, cmudict.START, cmudict.END
# Seconds of computing of this process alone: the clock on the wall counts what other programs do, too, and on a busy
# machine its curves are zigzags. (On Windows this clock ticks too rarely for single steps.)
clock = time.perf_counter if sys.platform == "win32" else time.process_time
trained = own_model()
model_map("07-decoding")

# %% [markdown]
# ## 1. From a distribution to a word
#
# A model that has been trained does not say words. It gives, for a spelling and a prefix, a **distribution over the
# next token**. The first prefix is the start token alone. To *decode* is to make a sequence out of such distributions:
# choose a token, append it to the prefix, ask again. Here are the distributions that your model gives while it says one
# word greedily, that is, always with the likeliest token. Only tokens that have 3 % somewhere are shown.


# %%
def name_of(token):
    return cmudict.PHONEMES[token]


word = "rough"
source = cmudict.batch([word])  # (1, letters)
with torch.no_grad():
    memory = trained.encode(source)  # (1, letters, d_model)
    ids, shares = [START], []
    while ids[-1] != END and len(ids) < 20:
        logits = trained.decode(torch.tensor([ids]), memory)  # (1, so far, V)
        shares.append(logits[0, -1].softmax(-1))  # (V,): what may come next
        ids.append(shares[-1].argmax().item())
shares = torch.stack(shares)  # (steps, V)
shown = (shares > 0.03).any(dim=0).nonzero().flatten().tolist()
rows = ["after " + " ".join(name_of(i) for i in ids[:t]) for t in range(1, len(ids))]
heat_map(shares[:, shown], rows, [name_of(i) for i in shown], f"What comes next in “{word}”?")
plt.show()

# %% [markdown]
# Read it line by line. At every step there is one choice, and the line below depends on it. So the steps cannot be done
# at once as in training, where the right tokens were known: **decoding is one step after the other**. What can be done
# at once are many words.
#
# What has to be done how often?
#
# | | how often | why |
# |---|---|---|
# | encode the source | once for the whole decode | the memory does not depend on what has been said |
# | run the decoder | once for each token | each prefix is another question |
# | look for the end | after each token, in each row | words have different lengths |
#
# ### Stopping
#
# A row has ended once it has said its end token. What if the model never says it? Then only a limit helps:
# `max_length`. An untrained model, for
# one, says the end token only by chance. With a limit of 24:

# %%
torch.manual_seed(1)
untrained = word_model().eval()
with torch.no_grad():
    said = my_model.greedy_word(untrained, source, START, END, max_length=24)
print(len(said), "tokens:", " ".join(map(name_of, said)))

# %% [markdown]
# ### Predict

# %%
Predict(
    "Three words are decoded as one batch. Alone, they would take 3, 5 and 9 steps, the end token included. How often "
    "does the decoder run?",
    {
        "17 times": "That is what three words take one after the other. In a batch each run gives one more token to "
        "all three rows.",
        "3 times": "After 3 steps one row has ended. The other two have not: if the loop stops here, they are cut off.",
        "9 times": "As often as the longest row needs. The others have ended before, and wait with padding.",
        "As often as max_length": "Only if some row never ends. When all have, nothing is left to be done.",
    },
    right="9 times",
)

# %% [markdown]
# While the longest row goes on, the decoder gives logits for the ended rows as well: a batch is a rectangle. Nobody
# asked for those tokens. So an ended row takes `pad_id`, whatever its logits say.
#
# ```
# step     1    2    3    4    5
# row 0    T    UW   end  ·    ·     ended: from now on padding
# row 1    K    AE   T    end  ·
# row 2    P    L    AE   N    end   the last one: stop
# ended    000  000  100  110  111   one boolean for each row
# ```

# %% [markdown]
# ### Exercise 1: `greedy_decode`
#
# Difficulty ●●●○○ · importance ●●●●● · about 25 minutes · a main one
#
# ```
# greedy_decode(model, source, source_mask, start_id, end_id, pad_id,
#               max_length) → ids
# model        model.encode(source, source_mask) → memory
#              model.decode(ids, memory, memory_mask=source_mask)
#                  ids (batch, so far) → logits (batch, so far, V)
# source       int64 (batch, letters), padded
# source_mask  bool (batch, 1, 1, letters), True = may attend; or None
# max_length   of generated tokens: the end token counts, the start not
# ids          int64 (batch, length of the longest): each row with its end
#              token, if it came, and padding behind it
# ```
#
# - The encoder runs once, for the whole batch.
# - The three ids may be any, and two of them may be the same token: start and padding (as in T5), end and padding,
#   start and end. So only a *generated* end token ends a row, and nothing else does.
# - Stop when all rows have ended, or after `max_length` tokens.
# - Hand `model.decode` the whole prefix at each step, and nothing behind it. What need not be computed again is the
#   cache's affair, later.
# - Read the newest logits at -1: with a cache, only those of the new places come back.
#
# ```python
# source = cmudict.batch(["two", "planet"])  # (2, 6)
# mask = my_model.padding_mask(source, PAD)  # (2, 1, 1, 6)
# greedy_decode(trained, source, mask, START, END, PAD, 32)  # (2, 7)
# ```


# %% answer="greedy_decode"
def greedy_decode(model, source, source_mask, start_id, end_id, pad_id, max_length):
    """(batch, source) → ids (batch, length of the longest), end tokens included and padding after them."""
    ### BEGIN SOLUTION
    memory = model.encode(source, source_mask)  # (batch, source, d_model), once
    ids = torch.full((source.size(0), 1), start_id, device=source.device)  # (batch, 1)
    ended = torch.zeros(source.size(0), dtype=torch.bool, device=source.device)  # (batch,)
    for _ in range(max_length):
        logits = model.decode(ids, memory, memory_mask=source_mask)  # (batch, so far, V)
        token = logits[:, -1].argmax(dim=-1)  # (batch,)
        token = token.masked_fill(ended, pad_id)  # an ended row takes padding from then on
        ids = torch.cat([ids, token[:, None]], dim=1)
        ended = ended | (token == end_id)
        if ended.all():
            break
    return ids[:, 1:]
    ### END SOLUTION


# %% check="greedy_decode"
check("greedy_decode")

# %%
hint("greedy_decode")

# %% [markdown]
# Your function on a batch, every token in its place. A dot is padding.

# %%
words = ["two", "knight", "planet", "banana", "a", "onion"]
source = cmudict.batch(words)  # (6, 6)
source_mask = my_model.padding_mask(source, PAD)  # (6, 1, 1, 6)
with torch.no_grad():
    ids = my_model.greedy_decode(trained, source, source_mask, START, END, PAD, max_length=32)  # (6, longest)
kind = torch.where(ids == PAD, 0.0, torch.where(ids == END, 0.6, 1.0))
texts = [["·" if i == PAD else "end" if i == END else name_of(i) for i in row] for row in ids.tolist()]
heat_map(kind, words, range(1, ids.size(1) + 1), "Tokens, ends and padding, step by step", cells=texts)
plt.show()

# %% [markdown]
# A row may be right as a decode and wrong as a word. The checkpoint says EY three times for *a*, where the dictionary
# has AH and EY. There the *model* is wrong: of its training words only 21 have a single letter. Your loop has done what
# it should: the likeliest token at each step, up to the end.
#
# ### Break it: ended rows go on
#
# What would the rows say if nobody kept them from it? The same loop without `ended`, for as many steps:

# %%
with torch.no_grad():
    memory = trained.encode(source, source_mask)
    going_on = torch.full((len(words), 1), START)
    for _ in range(ids.size(1) + 6):
        logits = trained.decode(going_on, memory, memory_mask=source_mask)
        going_on = torch.cat([going_on, logits[:, -1:].argmax(-1)], dim=1)
for word, row in zip(words, going_on[:, 1:].tolist()):
    print(f"{word:>8}: {' '.join(map(name_of, row))}")

# %% [markdown]
# Up to its end each row is the same as before. Behind it comes whatever the model happens to say: perhaps the end
# again, perhaps another phoneme. In training, what follows an end token was padding and left out of the loss, so
# nothing has ever told the model what belongs there. If it stays in the batch, it is read, scored, or shown to
# somebody.
#
# ### Why a batch
#
# How much does a batch buy? 256 words, in batches of different sizes, words of similar length together:

# %%
test = cmudict.load("test").shuffle(seed=0).select(range(256))
by_length = sorted(test["word"], key=len)


@torch.no_grad()
def seconds_for(model, words, size):
    """Seconds of computing to decode all words in batches of a size."""
    started = clock()
    for begin in range(0, len(words), size):
        source = cmudict.batch(words[begin : begin + size])
        my_model.greedy_decode(model, source, my_model.padding_mask(source, PAD), START, END, PAD, 32)
    return clock() - started


for size in (1, 4, 16, 64, 256):
    some = by_length if size > 1 else by_length[::8]  # one by one is slow: every eighth word is enough
    print(f"batches of {size:3d}: {len(some) / seconds_for(trained, some, size):7.0f} words per second")

# %% [markdown]
# Sixteen words at once take far less than sixteen times as long as one: a step starts a hundred or so small operations,
# and for a single word that takes longer than computing them. In large batches the computing wins, and the padding of
# the shorter words is computed as well.
#
# ## 2. The same thing again and again
#
# Now look at what happens *within* the steps. At step t the decoder is given t tokens, and computes t rows. It used the
# first t-1 of them in the step before, too. Have they changed? Here are the keys of the second decoder layer, for the
# prefix of each step.

# %%
source = cmudict.batch(["planet"])
target = torch.tensor([[START, *cmudict.phonemes_to_ids("P L AE N AH T")]])  # (1, 8)
key_map = trained.decoder.layers[1].self_attention.key  # a linear map: what it gives are the keys
keys = []
handle = key_map.register_forward_hook(lambda module, given, made: keys.append(made[0]))  # (t, d_model)
with torch.no_grad():
    memory = trained.encode(source)
    for t in range(1, 7):
        trained.decode(target[:, :t], memory)
handle.remove()
for before, after in zip(keys, keys[1:]):
    change = (after[: len(before)] - before).abs().max()
    print(f"step {len(after)}: {len(after)} keys computed, the first {len(before)} differ from before by {change:.0e}")
print(f"keys computed in all: {sum(map(len, keys))}, different ones among them: {len(keys[-1])}")

# %% [markdown]
# They are the same, up to rounding. The reason is your causal mask: row i reads rows 0 to i and nothing later, in every
# layer. So **what comes later changes nothing in what was computed before**. Whoever decodes without using that
# computes 1 + 2 + … + t rows where t would do.
#
# What of the old rows does a new token need? Write down its attention:
#
# $$\text{output}_t = \sum_{i \le t}
# \operatorname{softmax}_i\!\Bigl(\frac{q_t \cdot k_i}{\sqrt{d_\text{head}}}\Bigr)\,v_i$$
#
# | symbol | of which tokens | so |
# |---|---|---|
# | $q_t$ | the new one alone | earlier queries have done their work: nobody asks for them again |
# | $k_i$ | all so far | **keep** |
# | $v_i$ | all so far | **keep** |
# | output, norms, feed-forward | the new one alone | they work place by place |
#
# So one keeps two tensors per layer, the keys and the values, and lets them grow: a **key-value cache**.

# %% [markdown]
# ### Exercise 2: `KeyValueCache`
#
# Difficulty ●●○○○ · importance ●●●●○ · about 15 minutes
#
# ```
# KeyValueCache()
# .append(keys, values) → all keys, all values
#     keys, values  (batch, heads, new, d_head): of one or more new tokens
#     all           (batch, heads, length, d_head): in the order they came
# .select(rows)     int64 (new batch,): keep these rows, in this order
# .length           how many tokens a row has so far; 0 when empty
# ```
#
# - `length` is an attribute or a property, no method.
# - Any dtype, any batch, any number of tokens. What `append` has given back is not changed by later calls.
# - In `select` a row may come more than once, and others not at all. On an empty cache it does nothing. It is needed in
#   lesson 08, where prefixes overtake each other and their keys have to follow.
# - Each layer has a cache of its own. So what one holds must not show up in another.
#
# ```python
# cache = KeyValueCache()
# three, one = torch.randn(2, 4, 3, 32), torch.randn(2, 4, 1, 32)
# cache.append(three, three)
# keys, values = cache.append(one, one)
# keys.shape, cache.length  # (2, 4, 4, 32), 4
# ```


# %% answer="KeyValueCache"
class KeyValueCache:
    """Keys and values of all tokens so far, of one attention; `length` counts them."""

    def __init__(self):
        ### BEGIN SOLUTION
        self.keys = self.values = None  # later (batch, heads, length, d_head)
        self.length = 0
        ### END SOLUTION

    def append(self, keys, values):
        """(batch, heads, new, d_head) → all keys and all values, (batch, heads, length, d_head)."""
        ### BEGIN SOLUTION
        if self.length == 0:
            self.keys, self.values = keys, values
        else:
            self.keys = torch.cat([self.keys, keys], dim=2)
            self.values = torch.cat([self.values, values], dim=2)
        self.length = self.keys.size(2)
        return self.keys, self.values
        ### END SOLUTION

    def select(self, rows):
        """Keep these rows (new batch,) of the batch, in this order."""
        ### BEGIN SOLUTION
        if self.length:
            self.keys, self.values = self.keys[rows], self.values[rows]
        ### END SOLUTION


# %% check="KeyValueCache"
check("KeyValueCache")

# %%
hint("KeyValueCache")

# %% [markdown]
# `torch.cat` makes a new tensor each time and copies all that is there. For the lengths of this course that is cheap
# enough. Libraries get room for many tokens at once, and write into it.
#
# ### What it holds
#
# Two tensors in each layer, d_model numbers for each token in each row:
#
# $$\text{bytes} = 2 \cdot \text{layers} \cdot \text{batch} \cdot t \cdot d_\text{model} \cdot \text{bytes per number}$$
#
# Yours, filled as in a decode of 64 rows and 20 tokens, counted:

# %%
layers, first = len(trained.decoder.layers), trained.decoder.layers[0].self_attention
heads, d_head = first.heads, first.key.weight.size(0) // first.heads
batch, t = 64, 20
caches, counted = [my_model.KeyValueCache() for _ in range(layers)], 0
for cache in caches:
    for _ in range(t):
        all_keys, all_values = cache.append(torch.zeros(batch, heads, 1, d_head), torch.zeros(batch, heads, 1, d_head))
    counted += all_keys.numel() * all_keys.element_size() + all_values.numel() * all_values.element_size()
print(f"counted {counted:,} bytes, by the formula {2 * layers * batch * t * heads * d_head * 4:,}")


def gigabytes(layers, d_model, batch, t, size):
    return 2 * layers * batch * t * d_model * size / 2**30


large = gigabytes(layers=24, d_model=1024, batch=16, t=2000, size=2)
print(f"24 layers, d_model 1,024, 16 rows of 2,000 tokens, 2 bytes a number: {large:.1f} GiB")

# %% [markdown]
# Little for us. In a large model with long texts, the cache is what fills the memory, and how many people it can
# answer at once depends on it. That is why heads are made to share keys and values (Shazeer 2019), and why the cache is
# kept in pages (Kwon et al. 2023).
#
# ## 3. Attention that remembers
#
# Now put it to use. The attention of a layer gets the states of the **new** tokens alone:
#
# ```
#              lesson 02                  with a cache
# query        of all tokens              of the new ones
# key, value   of all tokens              of the new ones → cache → of all
# scores       (batch, heads, all, all)   (batch, heads, new, all)
# output       (batch, all, d_model)      (batch, new, d_model)
# ```
#
# What about the causal mask? One new token may see everything that is there: it is the last. Its row of the mask is
# full of True. If several come at once (a prefix), the mask is `causal_mask(new, all)`, which you aligned at the
# **bottom right** in lesson 02 for just this day:

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), facecolor="white", layout="constrained",
                            width_ratios=[4, 5, 6])  # fmt: skip
for ax, (new, everything) in zip(axes, [(4, 4), (1, 5), (2, 7)]):
    mask = my_model.causal_mask(new, everything)
    heat_map(mask.float(), [f"new {i + 1}" for i in range(new)], range(1, everything + 1), f"{new} new of {everything}",
             ax, [["may" if cell else "" for cell in row] for row in mask.tolist()])  # fmt: skip
plt.show()

# %% [markdown]
# Aligned at the top left (as `tril()`, or `is_causal=True` in PyTorch's function, where there are fewer queries than
# keys) a single new token would see key 1 and nothing else.

# %% [markdown]
# ### Exercise 3: `attend_with_cache`
#
# Difficulty ●●●○○ · importance ●●●●● · about 20 minutes · a main one
#
# ```
# attend_with_cache(attention, states, cache, mask=None) → output, weights
# attention  a MultiHeadAttention, the self-attention of one layer: its
#            linear maps query, key, value, output; heads; and
#            attention.attention(query, key, value, mask) → output, weights
# states     (batch, new, d_model): of the new tokens alone
# cache      a KeyValueCache of this layer
# mask       bool, broadcasts to (batch, heads, new, all), or None
# output     (batch, new, d_model)
# weights    (batch, heads, new, all), or None if that is what
#            attention.attention gives
# ```
#
# - Only the new tokens are projected, each once, and `attention.attention` is called once in each call.
# - The cache grows by one `append` in each call, with the heads split: (batch, heads, new, d_head). Use `append` and
#   nothing else of it: what it keeps inside is its own affair.
# - No causal mask of your own: the caller hands one over where one is needed.
# - No gradients are needed: nobody trains with a cache.
#
# ```python
# attention, cache = my_model.MultiHeadAttention(8, 2), KeyValueCache()
# prefix, one = torch.randn(1, 3, 8), torch.randn(1, 1, 8)
# attend_with_cache(attention, prefix, cache, my_model.causal_mask(3, 3))
# output, weights = attend_with_cache(attention, one, cache)
# output.shape, weights.shape, cache.length  # (1, 1, 8), (1, 2, 1, 4), 4
# ```


# %% answer="attend_with_cache"
def attend_with_cache(attention, states, cache, mask=None):
    """New tokens (batch, new, d_model) attend to themselves and to all in the cache → output, weights."""
    ### BEGIN SOLUTION
    query = split_heads(attention.query(states), attention.heads)  # (batch, heads, new, d_head)
    key = split_heads(attention.key(states), attention.heads)
    value = split_heads(attention.value(states), attention.heads)
    keys, values = cache.append(key, value)  # (batch, heads, all, d_head)
    output, weights = attention.attention(query, keys, values, mask)
    return attention.output(merge_heads(output)), weights
    ### END SOLUTION


# %% check="attend_with_cache"
check("attend_with_cache")

# %%
hint("attend_with_cache")

# %% [markdown]
# `trace("attend_with_cache")` runs your answer on one case and shows the shape of every name, line by line. The case
# has three tokens in the cache, and one comes.

# %%
trace("attend_with_cache")

# %% [markdown]
# If it reminds you of lesson 04: cross-attention takes its keys and values from elsewhere, too. Its "cache" is what
# `project_memory` made, once. The two differ in one thing: the source is complete, and the target grows.
#
# ### The same numbers
#
# Seven tokens through one attention: all at once with a causal mask, then one at a time through your cache.

# %%
torch.manual_seed(0)
attention = my_model.MultiHeadAttention(16, 4)
states = torch.randn(2, 7, 16)  # (batch, tokens, d_model)
with torch.no_grad():
    whole, _ = attention(states, mask=my_model.causal_mask(7, 7))  # (2, 7, 16)
    cache = my_model.KeyValueCache()
    parts = [my_model.attend_with_cache(attention, states[:, t : t + 1], cache)[0] for t in range(7)]  # 7 × (2, 1, 16)
    difference = (torch.cat(parts, dim=1) - whole).abs().max()
print(f"largest difference: {difference:.0e}")

# %% [markdown]
# ## 4. The whole model with a cache
#
# A decoder has more than one attention, so somebody has to hand each its own cache, tell the embedding at which
# position the new token stands (`start`), and make the mask. `caching` does that
# (`crosstalk/caching.py`, if you want to read it). Within it, `model.decode` takes the prefix as ever,
# and computes only what it has not seen yet, with **your** `KeyValueCache` and **your** `attend_with_cache`. So your
# `greedy_decode` needs no change at all:

# %%
from crosstalk.caching import caching

source = cmudict.batch(words)  # (6, 6)
source_mask = my_model.padding_mask(source, PAD)
with torch.no_grad():
    plain = my_model.greedy_decode(trained, source, source_mask, START, END, PAD, 32)
    with caching(trained) as memories:
        cached = my_model.greedy_decode(trained, source, source_mask, START, END, PAD, 32)
print("the same tokens:", torch.equal(plain, cached))
print("tokens computed in each step, without the cache:", [t + 1 for t in range(plain.size(1))])
print("                              with the cache:   ", memories.taken)

# %% [markdown]
# One token a step. And not the tokens only: the logits behind them agree as well, up to rounding.

# %%
with torch.no_grad():
    target = nn.functional.pad(plain[:, :-1], (1, 0), value=START)  # (6, 7): what the decoder reads
    whole = trained.decode(target, trained.encode(source, source_mask), memory_mask=source_mask)  # (6, 7, V)
    with caching(trained):
        memory = trained.encode(source, source_mask)
        parts = [trained.decode(target[:, : t + 1], memory, memory_mask=source_mask) for t in range(target.size(1))]
difference = (torch.cat(parts, dim=1) - whole).abs().max()
print(f"the largest logit is {whole.abs().max():.0f}, the largest difference {difference:.0e}")

# %% [markdown]
# And the memory? Keys and values of cross-attention are the same in every step. How often are they made anew?

# %%
made = []
cross_key = trained.decoder.layers[0].cross_attention.key
# The hook sees what each call of the linear map answers. Within `caching` the first answer is kept and given again: the
# same object (the same id) means that nothing was computed anew.
handle = cross_key.register_forward_hook(lambda module, given, keys: made.append(keys))  # (6, 6, d_model) each
with torch.no_grad():
    my_model.greedy_decode(trained, source, source_mask, START, END, PAD, 32)
    without = len({id(keys) for keys in made})
    made.clear()
    with caching(trained):
        my_model.greedy_decode(trained, source, source_mask, START, END, PAD, 32)
    within = len({id(keys) for keys in made})
handle.remove()
print(f"keys of the memory in {len(made)} steps: made {without} times without the cache, {within} time with it")

# %% [markdown]
# ### See it
#
# Step through a decode of **your** model, with the cache on and off. A cell is one token in one layer. Cells that are
# computed in this step flash; those that were known already, and are computed again, are marked.
#
# Three things to try:
#
# 1. Cache off, and step to the end. How many cells are computed again in the last step? Which belong to the source?
# 2. Cache on. What is read in each step, and how does the number of bytes grow?
# 3. Compare the FLOPs with the milliseconds. For such short words one is saved much more than the other. Why?
#
# <details><summary>A still picture of it, for reading without a kernel</summary>
#
# ![A decode step by step: which cells are computed, which are computed again, and the work of each
# step](attachment:decode_steps.png)
#
# </details>

# %%
DecodeSteps(trained, word="knight")

# %% [markdown]
# ## 5. What a step costs
#
# ### Predict
#
# A cached step computes one token. It multiplies it with the weight matrices (projections, feed-forward, generator),
# and it attends to all t tokens in the cache.

# %%
Predict(
    "With the cache, one step at t = 100 and one at t = 200. How do the costs compare?",
    {
        "The same: a cached step is constant": "One token goes through the matrices, that part is constant. But its "
        "query is multiplied with every key there is, and there are twice as many.",
        "Projections the same, attention doubles": "One token through the matrices costs about d² wherever it stands; "
        "t keys and t values of width d cost t·d.",
        "Everything quadruples": "Four times as much is what attention over the *whole* prefix costs when it doubles, "
        "t² of t. Here there is one query: t.",
    },
    right="Projections the same, attention doubles",
)

# %% [markdown]
# Count it. PyTorch can count the operations of matrix products while they run (one multiplication with its addition
# counts as two). The products of attention are `bmm`, or one fused operation; all others are products with weights.

# %%
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def counted_step(t, cached):
    """(weights, attention): the FLOPs of step t, with t - 1 tokens before the new one, for one word of 6 letters."""
    source, ids = cmudict.batch(["planet"]), torch.full((1, t), START)
    with FlopCounterMode(display=False) as counter, caching(trained):
        memory = trained.encode(source)
        if cached and t > 1:
            trained.decode(ids[:, :-1], memory)
        before = counter.get_flop_counts()["Global"].copy()
        trained.decode(ids, memory)
        of_step = {str(op): count - before.get(op, 0) for op, count in counter.get_flop_counts()["Global"].items()}
    of_attention = sum(count for op, count in of_step.items() if "bmm" in op or "attention" in op)
    return sum(of_step.values()) - of_attention, of_attention


print("   t   weights  attention  (FLOPs, with the cache)")
for t in (10, 100, 200, 1000):
    of_weights, of_attention = counted_step(t, True)
    print(f"{t:4d} {of_weights:9,} {of_attention:10,}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), facecolor="white", layout="constrained")
for ax, cached, title in zip(axes, (True, False), ("one step with the cache", "one step without it")):
    bars = [counted_step(t, cached) for t in (10, 100, 1000)]
    weights, of_attention = ([bar[part] / 1e6 for bar in bars] for part in (0, 1))
    ax.bar(["10", "100", "1,000"], weights, color="#0072b2", label="products with weights")
    ax.bar(["10", "100", "1,000"], of_attention, bottom=weights, color="#d55e00", label="attention")
    for place, bar in enumerate(bars):
        ax.annotate(f"{sum(bar) / 1e6:,.1f}", (place, sum(bar) / 1e6), (0, 3), textcoords="offset points", ha="center")
    ax.set_xlabel("t")
    ax.set_ylabel("million FLOPs")
    ax.set_title(title, fontsize=11)
    ax.margins(y=0.12)
axes[0].legend(fontsize=9)
plt.show()

# %% [markdown]
# Mind the two scales. And read from the left picture what the cache does *not* do: it does not make a step constant. In
# units of multiplications, for each decoder layer and one new token,
#
# $$\underbrace{14\,d^2}_{\text{weights, with } d_\text{ff} = 4d} \;+\;
# \underbrace{2\,(t + n)\,d}_{\text{attention to } t \text{ tokens and } n \text{ letters}}$$
#
# The 14 are 4 for self-attention (query, key, value, output), 2 for cross-attention (query and output: the memory's
# keys and values are kept), and 8 for the feed-forward layer (from d to 4d, and back). The first part wins while t is
# below 7d or so, in this model about 900. Over a whole decode of T tokens:
#
# | | products with weights | attention |
# |---|---|---|
# | without the cache | about T² d² | about T³ d |
# | with the cache | about T d² | about T² d |
#
# **The cache takes one power of T away from each. The total stays quadratic in attention.**
#
# ### In milliseconds
#
# A decode of two words on and on: no end token has the id -1, so none ever ends, and `max_length` is what stops it.
# What the model says there is nonsense, and costs as much as sense.


# %%
@torch.no_grad()
def seconds_per_step(source, length, cached):
    """Seconds of computing, for each call of `model.decode` in a greedy decode that never ends."""
    took, decode = [], trained.decode

    def timed(*given, **named):
        started = clock()
        logits = decode(*given, **named)
        took.append(clock() - started)
        return logits

    trained.decode = timed
    try:
        mask = my_model.padding_mask(source, PAD)
        if cached:
            with caching(trained):
                my_model.greedy_decode(trained, source, mask, START, -1, PAD, length)
        else:
            my_model.greedy_decode(trained, source, mask, START, -1, PAD, length)
    finally:
        del trained.decode
    return took


def best_of_two(source, length, cached):
    """ms per step: of two decodes the faster step, then medians over a moving window, since others use the machine."""
    runs = [seconds_per_step(source, length, cached) for _ in range(2)]
    best = [1e3 * min(both) for both in zip(*runs)]
    around = [best[max(0, t - 7) : t + 8] for t in range(length)]
    return [sorted(each)[len(each) // 2] for each in around]


two = cmudict.batch(["planet", "knight"])
with_cache = best_of_two(two, 240, True)
without = best_of_two(two, 240, False)
print("   t   with the cache   without   (ms per step)")
for t in (5, 10, 50, 100, 200, 240):
    print(f"{t:4d} {with_cache[t - 1]:15.2f} {without[t - 1]:10.2f}")

# %%
figure, ax = plt.subplots(figsize=(7, 3.2), facecolor="white", layout="constrained")
for curve, name, colour in ((without, "without the cache", "#d55e00"), (with_cache, "with the cache", "#0072b2")):
    ax.plot(range(1, 241), curve, color=colour, label=name)
ax.set_xlabel("t, the tokens of the prefix")
ax.set_ylabel("ms per step")
ax.set_title("A step of two words", fontsize=11)
ax.set_ylim(bottom=0)
ax.grid(alpha=0.3)
ax.legend()
plt.show()

# %% [markdown]
# With the cache the line is flat. Attention does grow, but up to this length it is a small part of a small number, and
# most of the time goes into starting operations. Without the cache a step takes longer and longer. Look at the left end
# as well: **where our words end, after ten tokens or so, the two are a fraction of a millisecond apart.** The cache is
# for long outputs.
#
# ## 6. Break it
#
# Two mistakes that raise no error. The 256 test words of above are decoded; PER counts the wrong phonemes, as in
# lesson 05.
#
# 1. **Every token at position 0.** In each cached step the embedding gets one token, and forgets that it stands at
#    place t (`start` is not passed on).
# 2. **One cache for all layers.** The second layer appends to the keys of the first, and attends to both.

# %%
from crosstalk.metrics import compare

listed = [[said.split() for said in row] for row in test["pronunciations"]]
source = cmudict.batch(test["word"])  # (256, longest)
source_mask = my_model.padding_mask(source, PAD)


@torch.no_grad()
def decoded():
    ids = my_model.greedy_decode(trained, source, source_mask, START, END, PAD, 32)
    return [cmudict.ids_to_phonemes(row) for row in ids.tolist()]


with caching(trained):
    sound = decoded()

embed = trained.target_embedding.forward
with caching(trained):
    trained.target_embedding.forward = lambda tokens, start=0: embed(tokens)  # always from position 0
    at_zero = decoded()
del trained.target_embedding.forward

with caching(trained) as memories:

    def one_for_all():
        memories.length, memories.caches = 0, [my_model.KeyValueCache()] * len(memories.layers)

    memories.forget = one_for_all  # called at the beginning of each decode
    one_cache = decoded()

for name, said in (("sound", sound), ("position 0", at_zero), ("one cache", one_cache)):
    print(f"{name:>10}: {compare(said, listed)}")
print()
others = [index for index in range(len(test)) if one_cache[index] != sound[index]]
for index in [0, *others[:3]]:
    print(f"{test['word'][index]}: {' '.join(sound[index])}")
    print(f"    position 0: {' '.join(at_zero[index])[:70]}")
    print(f"    one cache:  {' '.join(one_cache[index])[:70]}")

# %% [markdown]
# The first is easy to see: a model that does not know how far it has come repeats itself. The second is the nasty one.
# Most of its words look all right, many of them *are* right, and only the error rate tells that more of them are wrong
# than should be. If you ever write a cache for somebody's model, do not trust samples: compare the logits with those
# without a cache, as above.
#
# ## 7. On real data
#
# All in one: your model, your `greedy_decode`, your cache, words it was not trained on. The same tokens with and
# without, and the time of both.

# %%
with torch.no_grad():
    started = clock()
    plain = decoded()
    between = clock()
    with caching(trained) as memories:
        cached = decoded()
    ended = clock()
print("the same words, phoneme for phoneme:", plain == cached)
print(f"{len(cached)} words in {len(memories.taken)} steps: {between - started:.2f} s without the cache, "
      f"{ended - between:.2f} s with it")  # fmt: skip
print(compare(cached, listed))

# %% [markdown]
# A whole batch has enough rows that the work itself counts, and not only the starting of operations: so here the cache
# pays even for short words. How does it depend on the length of the words? Batches of 32 words, each of one length:

# %%
everything = cmudict.load("test")["word"]
lengths, times = list(range(3, 15)), {True: [], False: []}
for letters in lengths:
    some = [word for word in everything if len(word) == letters][:32]
    source = cmudict.batch(some)
    for cached in (True, False):
        runs = []
        for _ in range(3):
            with torch.no_grad():
                started = clock()
                if cached:
                    with caching(trained):
                        ids = my_model.greedy_decode(trained, source, None, START, END, PAD, 32)
                else:
                    ids = my_model.greedy_decode(trained, source, None, START, END, PAD, 32)
                runs.append(1e3 * (clock() - started) / ids.size(1))
        times[cached].append(min(runs))

# %%
figure, ax = plt.subplots(figsize=(7, 3.2), facecolor="white", layout="constrained")
for cached, name, colour in ((False, "without the cache", "#d55e00"), (True, "with the cache", "#0072b2")):
    ax.plot(lengths, times[cached], "o-", color=colour, label=name)
ax.set_xlabel("letters of the words")
ax.set_ylabel("ms per step, encoder included")
ax.set_title("32 words of CMUdict at once", fontsize=11)
ax.set_ylim(bottom=0)
ax.grid(alpha=0.3)
ax.legend()
plt.show()

# %% [markdown]
# Without the cache a step costs the more, the longer the words: their prefixes are longer, and each step computes all
# of its prefix. With it, a step computes one token for each word and costs about the same at any length, so what the
# cache saves grows with the words.
#
# And your model says what you like, with all of today's pieces. Put in your own words:

# %%
my_words = ["crosstalk", "siobhan", "supercalifragilistic", "blorf"]
source = cmudict.batch(my_words)
with torch.no_grad(), caching(trained):
    ids = my_model.greedy_decode(trained, source, my_model.padding_mask(source, PAD), START, END, PAD, 32)
for word, row in zip(my_words, ids.tolist()):
    print(f"{word:>22}: {' '.join(cmudict.ids_to_phonemes(row))}")

# %% [markdown]
# ## 8. What you built
#
# The encoder runs once, and the decoder once for each token; every row of a batch stops at its own end, or at
# `max_length`. Keys and values of earlier tokens never change, because the decoder is causal: so you keep them, and
# each step computes one token. The words are the same, and a step costs
#
# $$d^2 + t\,d$$
#
# instead of t times as much, at the price of 2 · layers · batch · t · d numbers in memory.
#
# **Next**, lesson 08: the likeliest token at every step is not the likeliest word. You search among several prefixes,
# or draw one at random, and measure what that buys.
#
# **Sources**
#
# - Vaswani et al. (2017), *Attention Is All You Need*: the causal decoder, whose earlier rows never change.
# - Shazeer (2019), *Fast Transformer Decoding: One Write-Head is All You Need*: what incremental decoding costs, and
#   keys and values shared by all heads.
# - Kwon et al. (2023), *Efficient Memory Management for Large Language Model Serving with PagedAttention*: the cache
#   where it is large.
#
# To see that all of it holds from a fresh start: **Kernel → Restart Kernel and Run All Cells**. It is safe to close;
# your pieces are in `work/my_model/`.
