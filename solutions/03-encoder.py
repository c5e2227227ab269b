# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 The encoder
#
# **From letters to the memory H.** You have attention, heads and masks. Today they become an encoder: it reads a
# spelling and returns one vector for each letter, and each of these vectors knows the rest of the word. Together they
# are called the **memory**, H. The decoder of lesson 04 reads it while it speaks.
#
# At the end you will be able to
#
# - say why attention cannot tell *live* from *evil*, and mend it with sines and cosines;
# - turn tokens into vectors, at the right size and the right place;
# - write a layer norm, and say what it is taken over;
# - write an encoder layer, and say why its norms stand *before* the sub-layers;
# - stack layers into an encoder that gives the same H as PyTorch's, number for number.
#
# Time: about 120 minutes. Stop where you like: what has passed is kept. Before it:
# [02 Masking](../02-masking/masking.ipynb).
#
# Run this cell first. Your answers are judged with these imports and nothing else.

# %% setup=true
import math

import torch
from torch import nn
from torch.nn import functional as F

from autograder import check, hint, trace
from crosstalk.layers import FeedForward
from crosstalk.my_model import MultiHeadAttention

# %% [markdown]
# The next cell brings what this lesson shows things with. `my_model` is your own model so far, with stand-ins for what
# you have not written yet. The cells below use your pieces in this way, so they all run, whatever is missing.

# %%
import matplotlib.pyplot as plt

from crosstalk import my_model
from crosstalk.checkpoints import load_model
from crosstalk.data import cmudict
from crosstalk.map import model_map
from crosstalk.models import word_model
from crosstalk.torch_weights import encoder_weights
from crosstalk.widgets import Positions, Predict

torch.set_num_threads(1)  # small tensors: a second thread would only get in the way
torch.set_printoptions(precision=3, sci_mode=False)
model_map("03-encoder")

# %% [markdown]
# ## 1. What attention does not know
#
# This is the way from a word to its memory. The shapes stay the same from the first vectors to the last:
#
# ```
# tokens      (batch, source)            l i v e, as ids
#   TokenEmbedding                       which letter it is, and where it stands
# states      (batch, source, d_model)
#   EncoderLayer, N times                letters read each other, then each is worked on alone
#   LayerNorm                            brings the numbers back to one size
# memory H    (batch, source, d_model)
# ```
#
# One of these steps is easily overlooked: *where it stands*. Take *live* and *evil*. The same four letters, once
# forwards and once backwards; the dictionary has `L AY V` (or `L IH V`) for one and `IY V AH L` for the other.
#
# ### Predict
#
# Each letter gets a random vector, and *live* goes through multi-head attention, as you have built it in lesson 02.
# Then the same with *evil*.

# %%
Predict(
    "The word is reversed, and nothing tells attention where a letter stands. What happens to its output rows?",
    {
        "They have other numbers, unrelated to the old ones": "The scores are dot products of the same letters as "
        "before, so each letter gets the same weights for the same letters. Nothing new can come of that.",
        "The same rows, in the same places": "Row 0 belongs to the first letter. That was l, now it is e, and e asks "
        "with another query than l.",
        "The same rows, moved with their letters": "A row is a weighted mean over all letters, and a mean does not "
        "care about their order. So each letter gets the row that it had, wherever it stands now.",
    },
    right="The same rows, moved with their letters",
)

# %%
torch.manual_seed(0)
letters = nn.Embedding(len(cmudict.LETTERS), 16).requires_grad_(False)
attention = my_model.MultiHeadAttention(16, 4).requires_grad_(False)
from_live, _ = attention(letters(cmudict.batch(["live"])))  # (1, 4, 16)
from_evil, _ = attention(letters(cmudict.batch(["evil"])))  # (1, 4, 16)

print(f"row by row, the largest difference:       {(from_live - from_evil).abs().max():.3f}")
print(f"letter by letter, the largest difference: {(from_live - from_evil.flip(1)).abs().max():.1e}")

# %% [markdown]
# To attention a word is a bag of letters. So the order must be written *into* the vectors, before the first layer.
#
# ## 2. Positions
#
# What would you add to a letter's vector, to say that it stands at place t?
#
# - The number t itself? It grows without end, and soon drowns the letter.
# - A vector for each place, learned like that of a letter? It works, up to the longest word in training. After that
#   there is none.
# - **Hands of clocks.** A fast hand tells neighbours apart and soon comes round again. A slow one hardly moves, but
#   tells the beginning from the end. Together they give each place a pattern of its own.
#
# The paper of 2017 takes d_model / 2 hands. Hand i turns by $10000^{-2i/d_{model}}$ radians a place, and each is
# written down with two numbers, the sine and the cosine of its angle:
#
# $$p_{t,\,2i} = \sin\!\left(\frac{t}{10000^{2i/d_{model}}}\right), \qquad
# p_{t,\,2i+1} = \cos\!\left(\frac{t}{10000^{2i/d_{model}}}\right)$$
#
# | symbol | what it is | in the code |
# |---|---|---|
# | $t$ | the place, from 0 | `torch.arange(length)`, (length,) |
# | $i$ | which hand, from 0 to d_model/2 - 1 | |
# | $2i$ | its even column | `torch.arange(0, d_model, 2)`, (d_model / 2,) |
#
# How fast do they turn?

# %%
for i in range(8):  # d_model = 16
    turn = 10_000 ** (-2 * i / 16)
    columns, round_in = f"columns {2 * i:2d} and {2 * i + 1:2d}", f"{2 * math.pi / turn:6,.0f}"
    print(f"hand {i}, {columns}: {turn:.4f} radians a place, once round in {round_in} places")

# %% [markdown]
# ### Exercise 1: `sinusoidal_positions`
#
# Difficulty ●●●○○ · importance ●●●○○ · about 15 minutes
#
# ```
# sinusoidal_positions(length, d_model) → positions
# length     how many places, from 0 on
# d_model    even
# positions  float32 (length, d_model): sines in the columns 0, 2, 4, …, cosines in 1, 3, 5, …
# ```
#
# ```python
# sinusoidal_positions(2, 4)
# # tensor([[0.0000, 1.0000, 0.0000, 1.0000],
# #         [0.8415, 0.5403, 0.0100, 0.9999]])
# ```


# %% answer="sinusoidal_positions"
def sinusoidal_positions(length, d_model):
    """(length, d_model): pair i of columns is a sine and a cosine that turn by 10000^(-2i/d_model) a place."""
    ### BEGIN SOLUTION
    places = torch.arange(length, dtype=torch.float32)[:, None]  # (length, 1)
    even = torch.arange(0, d_model, 2)  # (d_model / 2,), the 2i of the formula
    rates = 10_000.0 ** (-even / d_model)  # (d_model / 2,), in radians per place
    angles = places * rates  # (length, d_model / 2)
    positions = torch.zeros(length, d_model)
    positions[:, 0::2] = torch.sin(angles)
    positions[:, 1::2] = torch.cos(angles)
    return positions
    ### END SOLUTION


# %% check="sinusoidal_positions"
check("sinusoidal_positions")

# %%
hint("sinusoidal_positions")

# %% [markdown]
# ### What it looks like
#
# Left: the table itself. Each row is a place. The columns on the left are the fast hands, those on the right hardly
# move. Right: the dot product of one place with all others.

# %%
table = my_model.sinusoidal_positions(40, 32)  # (40, 32)
products = table @ table.T  # (40, 40)

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), facecolor="white", layout="constrained")
left.imshow(table, cmap="cividis", aspect="auto")
left.set(title="positions, (40, 32)", xlabel="column", ylabel="place")
for place, mark in ((10, "o"), (20, "s")):
    right.plot(range(40), products[place], marker=mark, markersize=3, label=f"place {place} with place t")
right.set(title="dot products of positions", xlabel="place t")
right.legend()
right.grid(alpha=0.3)
plt.show()

# %% [markdown]
# Both curves have the same shape: a peak at the place itself, and a fall to both sides, with waves. How alike two
# places are depends only on **how far apart** they are, not on where. That is no accident: for any two angles,
# $\sin a \sin b + \cos a \cos b = \cos(a - b)$, and so
#
# $$p_s \cdot p_t = \sum_i \cos\!\big((s - t)\, 10000^{-2i/d_{model}}\big).$$
#
# Attention works with dot products, so this is a useful thing to hand it: "the letter before me" looks the same all
# along the word. Let us see whether your table does it.

# %%
for s, t in ((3, 7), (10, 14), (30, 34), (3, 8)):
    print(f"places {s:2d} and {t:2d}, {t - s} apart: {products[s, t]:.4f}")

# %% [markdown]
# ### Play: positions
#
# The widget draws **your** `sinusoidal_positions`, the one in this notebook. Three things to try:
#
# 1. Point at one place in the map, then at another. The curve on the right stays where it is: only the offset counts.
# 2. Set `d_model` to 4, which leaves two hands. Which other offsets look almost like 0 now? With every hand more, there
#    are fewer of these doubles.
# 3. Drag the letters of *stressed*, or press *desserts*: once with the positions added, once without. How many of the
#    eight vectors are new?
#
# <details><summary>A still picture of it, with other words, for reading without a kernel</summary>
#
# ![The widget of positions: a heat map of the table, dot products against the offset, and a word whose letters were
# moved](attachment:positions.png)
#
# </details>

# %%
Positions(sinusoidal_positions, word="stressed", anagram="desserts")

# %% [markdown]
# ## 3. From tokens to vectors
#
# A letter becomes a vector by being looked up: `nn.Embedding` is a table with a row for each token. Then its position
# is added. Two sizes meet in this sum, and they must fit. How long are these vectors?

# %%
torch.manual_seed(0)
print("d_model   a position   a row of std 1   a row of std d^-½   the same times √d")
for width in (16, 64, 256):
    position = my_model.sinusoidal_positions(5, width)[4].norm()
    row = torch.randn(width)
    small = row * width**-0.5
    sizes = (position, row.norm(), small.norm(), (small * math.sqrt(width)).norm())
    print("{:7d}{:13.1f}{:17.1f}{:20.1f}{:20.1f}".format(width, *sizes))

# %% [markdown]
# Each pair of a position has length 1 (sin² + cos² = 1), so the whole has length √(d_model/2), always. A row whose
# numbers have standard deviation d_model^-½ is far shorter: added as it is, the letter would drown in its position. So
# it is multiplied by √d_model first.
#
# Then why not begin with standard deviation 1 and leave the factor out? Because a table can do two jobs. In many models
# the decoder's table reads tokens, and the very same table then *scores* which token comes next, by dot products. Try
# both for that second job, with our 42 target tokens. The loss is the surprise at the right token, -log P, on average.
# A model that knows nothing yet gives every token 1/42, so it should be near ln 42.

# %%
states = F.layer_norm(torch.randn(2000, 128), (128,))  # as they come out of a model that is not trained
answers = torch.randint(42, (2000,))
for name, std in (("1", 1.0), ("d^-½", 128**-0.5)):
    scores = states @ (torch.randn(42, 128) * std).T  # (2000, 42)
    print(f"std {name:4}  loss at the start: {F.cross_entropy(scores, answers):5.2f}")
print(f"ln 42 =                     {math.log(42):5.2f}")

# %% [markdown]
# With standard deviation 1 the untrained model is very sure of itself, and wrong. With d_model^-½ it starts close to
# knowing nothing, which is where it is. (Using one table for both was proposed by Press & Wolf in 2017.) Mind that
# the states here are random. Those of a real model still hold the vector of the token that was read, and a shared
# table scores that very token high. Lesson 05 tries it with a whole model: there even d_model^-½ starts at about 9.
#
# ### Exercise 2: `TokenEmbedding`
#
# Difficulty ●●○○○ · importance ●●●●○ · about 15 minutes
#
# ```
# TokenEmbedding(vocabulary, d_model, pad_id)
#     table    nn.Embedding(vocabulary, d_model), its numbers with standard deviation d_model^-½ at the start
# forward(tokens, start=0) → states
#     tokens   int   (batch, length)
#     states   float (batch, length, d_model): the vectors times √d_model, plus the positions
# ```
#
# - The row of the padding is zero and stays zero: `nn.Embedding` has `padding_idx` for that. But `nn.init` fills
#   this row too.
# - The first token stands at place `start`, the next at `start + 1`. (In lesson 07 a decoder brings one new token at a
#   time, and says with `start` where it stands.)
# - Positions are added at every place, padding included: nobody reads padding, the mask sees to that.
# - Any length works, place 20,000 too.
# - If you keep a table of positions in the module, it must move to the GPU with it and not be trained or saved:
#   `self.register_buffer("positions", …, persistent=False)` does all three.
#
# Your `sinusoidal_positions` can be used in your answer.
#
# ```python
# TokenEmbedding(29, 16, pad_id=0)(torch.tensor([[8, 6, 25]])).shape  # (1, 3, 16)
# ```


# %% answer="TokenEmbedding"
class TokenEmbedding(nn.Module):
    """Token ids as vectors times √d_model, plus the positions."""

    def __init__(self, vocabulary, d_model, pad_id):
        super().__init__()
        ### BEGIN SOLUTION
        self.d_model = d_model
        self.table = nn.Embedding(vocabulary, d_model, padding_idx=pad_id)
        nn.init.normal_(self.table.weight, std=d_model**-0.5)
        with torch.no_grad():
            self.table.weight[pad_id] = 0.0  # the line above filled this row too
        self.register_buffer("positions", sinusoidal_positions(64, d_model), persistent=False)
        ### END SOLUTION

    def forward(self, tokens, start=0):
        """(batch, length) → (batch, length, d_model); the first token stands at position `start`."""
        ### BEGIN SOLUTION
        end = start + tokens.size(1)
        if end > self.positions.size(0):  # longer than ever before: make more than is needed now
            self.positions = sinusoidal_positions(2 * end, self.d_model).to(self.positions)
        vectors = self.table(tokens) * math.sqrt(self.d_model)  # (batch, length, d_model)
        return vectors + self.positions[start:end]  # (length, d_model), the same for each word
        ### END SOLUTION


# %% check="TokenEmbedding"
check("TokenEmbedding")

# %%
hint("TokenEmbedding")

# %% [markdown]
# Now *live* and *evil* are no longer the same vectors in another order. And `start` says where a part of a word stands:

# %%
torch.manual_seed(0)
embed = my_model.TokenEmbedding(len(cmudict.LETTERS), 16, cmudict.PAD).requires_grad_(False)
live, evil = embed(cmudict.batch(["live"])), embed(cmudict.batch(["evil"]))  # (1, 4, 16) each
for place, letter in enumerate("live"):
    apart = (live[0, place] - evil[0, 3 - place]).norm()
    print(f"{letter} at place {place} and at place {3 - place}: {apart:.2f} apart")

last = embed(cmudict.batch(["e"]), start=3)  # (1, 1, 16)
gap = (last[0, 0] - live[0, 3]).abs().max()
print(f"the e of live, alone but with start=3: {gap:.2f} from the one in the word")

# %% [markdown]
# ## 4. Layer norm
#
# A deep stack of layers adds to its states again and again, and the numbers drift. A **layer norm** brings each vector
# back: mean 0, variance 1. Then it multiplies each feature by a learned `scale` and adds a learned `shift`, so that
# nothing is lost for good:
#
# $$y = \text{scale} \odot \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \text{shift}, \qquad
# \mu = \frac1d \sum_j x_j, \qquad \sigma^2 = \frac1d \sum_j (x_j - \mu)^2$$
#
# | symbol | what it is | shape |
# |---|---|---|
# | $x$ | the vector of *one letter* | (d_model,), one of (batch, length, d_model) |
# | $\mu$, $\sigma^2$ | its mean and variance | a number for each letter: (batch, length, 1) |
# | $\odot$ | number by number | |
# | $\varepsilon$ | 0.00001, so that nothing is divided by 0 | |
#
# Three things that go wrong quietly: $\sigma^2$ divides by d, not by d - 1 as `x.var()` does; ε stands *inside* the
# root; and both are taken over the features of one letter, nothing else. What if it were more?
#
# ### Predict

# %%
Predict(
    "Somebody takes mean and variance over letters *and* features of a word. Is *cat* padded to 11 places the same as "
    "*cat* alone?",
    {
        "Yes: attention masks the padding": "Attention does. But this norm has no mask: the padded places are in its "
        "mean and in its variance.",
        "Yes: the padding's vector is zero": "Zeros count in a mean and in a variance too. And positions were added to "
        "them, so they are not zero any more.",
        "No": "The padded places are part of mean and variance, so c, a and t depend on how long the *longest* word in "
        "the batch is.",
    },
    right="No",
)

# %%
alone = embed(cmudict.batch(["cat"]))  # (1, 3, 16)
padded = embed(cmudict.batch(["cat", "mississippi"]))[:1]  # (1, 11, 16)
for name, dims in (("letters and features", (1, 2)), ("features of a letter", 2)):
    one, other = ((x - x.mean(dims, keepdim=True)) / x.std(dims, keepdim=True) for x in (alone, padded))
    print(f"over the {name}: c, a, t change by {(one - other[:, :3]).abs().max():.3f}")

# %% [markdown]
# ### Exercise 3: `LayerNorm`
#
# Difficulty ●●○○○ · importance ●●●○○ · about 15 minutes
#
# ```
# LayerNorm(d_model, eps=1e-5)
#     scale    nn.Parameter (d_model,), starts at 1
#     shift    nn.Parameter (d_model,), starts at 0
# forward(states) → states, the same shape (batch, length, d_model)
# ```
#
# `F.layer_norm` and `nn.LayerNorm` are the exercise itself, so they are not allowed here. Take the variance from
# `states - mean`: the mean of the squares less the square of the mean, E[x²] − E[x]², loses its digits where the mean
# is large.
#
# ```python
# LayerNorm(4)(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]))  # tensor([[[-1.342, -0.447, 0.447, 1.342]]])
# ```


# %% answer="LayerNorm"
class LayerNorm(nn.Module):
    """Each vector to mean 0 and variance 1, then scaled and shifted, number by number."""

    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        ### BEGIN SOLUTION
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(d_model))
        self.shift = nn.Parameter(torch.zeros(d_model))
        ### END SOLUTION

    def forward(self, states):
        """(batch, length, d_model) → the same shape."""
        ### BEGIN SOLUTION
        mean = states.mean(dim=-1, keepdim=True)  # (batch, length, 1)
        centred = states - mean
        variance = centred.square().mean(dim=-1, keepdim=True)  # (batch, length, 1), divided by d_model
        return self.scale * centred / torch.sqrt(variance + self.eps) + self.shift
        ### END SOLUTION


# %% check="LayerNorm"
check("LayerNorm")

# %%
hint("LayerNorm")

# %%
norm = my_model.LayerNorm(16)
normed = norm(live)  # (1, 4, 16)
print("letter     mean      std     mean      std, normed")
for letter, before, after in zip("live", live[0], normed[0]):
    sizes = [number for x in (before, after) for number in (x.mean().item(), x.std(correction=0).item())]
    print(f"{letter:6}" + "".join(f"{number:9.3f}" for number in sizes))
print(f"largest difference from PyTorch's: {(normed - F.layer_norm(live, (16,))).abs().max():.1e}")

# %% [markdown]
# ## 5. The feed-forward block: a worked example
#
# Attention moves things from letter to letter. What a letter then makes of them is worked out by a small network of two
# linear maps with a ReLU between, the same at each place:
#
# $$f(x) = W_2 \max(0,\; W_1 x + b_1) + b_2$$
#
# This one is given. Read it line by line; for your answers, the set-up cell brings the same from `crosstalk.layers`,
# with its backward pass written out so that training needs less memory.


# %%
class FeedForward(nn.Module):
    """Two linear maps with a ReLU between, at each place on its own."""

    def __init__(self, d_model, d_ff):
        super().__init__()
        self.expand = nn.Linear(d_model, d_ff)  # W1, b1: more room, usually four times as wide
        self.contract = nn.Linear(d_ff, d_model)  # W2, b2: back to the width of the states

    def forward(self, states):
        wide = F.relu(self.expand(states))  # (batch, length, d_ff)
        return self.contract(wide)  # (batch, length, d_model)


# %% [markdown]
# Three claims about it, each with the line that shows it: no letter sees another; without the ReLU it would be one
# linear map and no more; and most of a layer's numbers are in here.

# %%
torch.manual_seed(0)
block = FeedForward(16, 64).requires_grad_(False)

whole, single = block(live), block(live[:, 2:3])  # (1, 4, 16) and (1, 1, 16)
print(f"v alone or in its word:        difference {(whole[:, 2:3] - single).abs().max():.1e}")

no_relu = block.contract(block.expand(live))  # (1, 4, 16)
matrix = block.contract.weight @ block.expand.weight  # (16, 16)
offset = block.contract.weight @ block.expand.bias + block.contract.bias  # (16,)
print(f"without ReLU, or one matrix:   difference {(no_relu - F.linear(live, matrix, offset)).abs().max():.1e}")

counts = [sum(p.numel() for p in part.parameters()) for part in (block, my_model.MultiHeadAttention(16, 4))]
print(f"numbers in it: {counts[0]:,}; in an attention of the same width: {counts[1]:,}")

# %% [markdown]
# ## 6. The encoder layer
#
# Attention, then feed-forward. Around each of them stand three small things, and together they decide whether a deep
# stack can be trained:
#
# $$x \leftarrow x + \operatorname{dropout}(\operatorname{attention}(\operatorname{norm}_1(x)))$$
# $$x \leftarrow x + \operatorname{dropout}(\operatorname{feedforward}(\operatorname{norm}_2(x)))$$
#
# - **The residual** `x + …`. A sub-layer does not replace the states; it adds something to them. If it has nothing to
#   say, x passes untouched, and on the way back so does the gradient.
# - **The norm** stands *before* the sub-layer, on what it reads. This is called **pre-LN**. The paper of 2017 has it
#   behind the sum, norm(x + f(x)): **post-LN**. There every layer lays a norm across the path of x; in pre-LN the path
#   is free from end to end. This course uses pre-LN throughout. Section 8 shows the difference.
# - **Dropout** sets a random share of a sub-layer's output to zero in training, so that nothing is relied on too much.
#   It sits on each sub-layer's output, and nowhere else.
#
# ```
# x ─┬──────────────────────────────(+)─┬─────────────────────────────────(+)─ x
#    └─ norm ── attention ── dropout ─┘ └─ norm ── feed-forward ── dropout ─┘
# ```
#
# ### Predict

# %%
Predict(
    "An encoder layer is in training mode with dropout 1.0: everything that goes through dropout becomes 0. "
    "What comes out of the layer?",
    {
        "Zeros": "That would be so if dropout stood on the sum. It stands on the sub-layers' outputs, and x is added "
        "after it.",
        "The states that went in, unchanged": "Both sub-layers add 0, and x goes straight through. The check uses just "
        "this: it shows where your dropout stands, without any chance.",
        "The states, normed": "The norms stand inside, before the sub-layers. Nothing is normed on the way of x.",
    },
    right="The states that went in, unchanged",
)

# %% [markdown]
# ### Exercise 4: `EncoderLayer`
#
# Difficulty ●●●○○ · importance ●●●●● · about 20 minutes · a main one
#
# ```
# EncoderLayer(d_model, heads, d_ff, dropout=0.0)
#     attention_norm, feed_forward_norm    your LayerNorm, one each
#     attention                            your MultiHeadAttention
#     feed_forward                         FeedForward
# forward(states, mask=None) → states, the same shape (batch, length, d_model)
#     mask    bool, True = may attend, broadcasts to (batch, heads, queries, keys);
#             None hides nothing
# ```
#
# These four names are fixed: later lessons load weights by them. The layer returns the states alone, without the
# attention weights. In evaluation mode nothing may be dropped (`nn.Dropout` knows the mode by itself).
#
# ```python
# EncoderLayer(16, 4, 64)(live).shape  # (1, 4, 16)
# ```


# %% answer="EncoderLayer"
class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each as x + dropout(f(norm(x)))."""

    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        ### BEGIN SOLUTION
        self.attention_norm = LayerNorm(d_model)
        self.attention = MultiHeadAttention(d_model, heads)
        self.feed_forward_norm = LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.dropout = nn.Dropout(dropout)
        ### END SOLUTION

    def forward(self, states, mask=None):
        """(batch, length, d_model) → the same shape; `mask` broadcasts to (batch, heads, queries, keys)."""
        ### BEGIN SOLUTION
        attended, _ = self.attention(self.attention_norm(states), mask=mask)
        states = states + self.dropout(attended)
        processed = self.feed_forward(self.feed_forward_norm(states))
        return states + self.dropout(processed)
        ### END SOLUTION


# %% check="EncoderLayer"
check("EncoderLayer")

# %%
hint("EncoderLayer")

# %% [markdown]
# Lost among the shapes? `trace("EncoderLayer")` runs your answer on its first case and shows, line by line, which
# names have which shapes. Give each step a name, and `trace` shows it.

# %%
trace("EncoderLayer")

# %% [markdown]
# Here is the prediction, tried out, in both modes:

# %%
torch.manual_seed(0)
layer = my_model.EncoderLayer(16, 4, 64, dropout=1.0).requires_grad_(False)
print(f"training:   the states move by {(layer.train()(live) - live).abs().max():.3f}")
print(f"evaluation: the states move by {(layer.eval()(live) - live).abs().max():.3f}")

# %% [markdown]
# ## 7. The encoder
#
# Layers on top of each other: each reads what the one before it returned. They have the same shape, and each has
# weights of its own. One question is left. In pre-LN nothing norms the sum itself. What becomes of it?

# %%
torch.manual_seed(0)
embed64 = my_model.TokenEmbedding(len(cmudict.LETTERS), 64, cmudict.PAD)
with torch.no_grad():
    stream = embed64(cmudict.batch(["mississippi"]))  # (1, 11, 64)
    sizes = [stream.std().item()]
    for _ in range(24):
        stream = my_model.EncoderLayer(64, 4, 256)(stream)
        sizes.append(stream.std().item())
for layers in (0, 6, 12, 18, 24):
    print(f"standard deviation after {layers:2d} layers: {sizes[layers]:.2f}")

# %% [markdown]
# It grows with each layer. So the encoder has one norm of its own, after the last layer. What comes out of it is the
# memory:
#
# $$H = \operatorname{norm}\big(\text{layer}_N(\dots \text{layer}_2(\text{layer}_1(x)))\big)$$
#
# ### Exercise 5: `Encoder`
#
# Difficulty ●●○○○ · importance ●●●●○ · about 10 minutes
#
# ```
# Encoder(layers, d_model, heads, d_ff, dropout=0.0)
#     layers    so many of your EncoderLayer, in an nn.ModuleList
#     norm      your LayerNorm, after the last of them
# forward(states, mask=None) → memory
#     states    (batch, source, d_model), embedded already
#     mask      as in the layer; every layer gets it
#     memory    (batch, source, d_model)
# ```
#
# ```python
# Encoder(2, 16, 4, 64)(live).shape  # (1, 4, 16)
# ```


# %% answer="Encoder"
class Encoder(nn.Module):
    """Encoder layers on top of each other, and a norm at the end."""

    def __init__(self, layers, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        ### BEGIN SOLUTION
        self.layers = nn.ModuleList(EncoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers))
        self.norm = LayerNorm(d_model)
        ### END SOLUTION

    def forward(self, states, mask=None):
        """(batch, source, d_model) → memory of the same shape; every layer gets the mask."""
        ### BEGIN SOLUTION
        for layer in self.layers:
            states = layer(states, mask)
        return self.norm(states)
        ### END SOLUTION


# %% check="Encoder"
check("Encoder")

# %%
hint("Encoder")

# %% [markdown]
# ### Yours beside PyTorch's
#
# `torch.nn.TransformerEncoder` can be asked for the same thing: `norm_first=True` is its name for pre-LN. Its weights
# go into your encoder, under your names (`encoder_weights` renames them), and both read the same three words.
# Mind its mask: True = blocked.

# %%
torch.manual_seed(1)
names = ["cat", "onion", "mississippi"]
tokens = cmudict.batch(names)  # (3, 11)
visible = my_model.padding_mask(tokens, cmudict.PAD)  # (3, 1, 1, 11)
states = embed64(tokens).detach()  # (3, 11, 64)

their_layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True, norm_first=True)
theirs = nn.TransformerEncoder(their_layer, 3, norm=nn.LayerNorm(64), enable_nested_tensor=False)
with torch.no_grad():
    for parameter in theirs.parameters():  # their layers are copies of one: shake them apart
        parameter.add_(0.1 * torch.randn_like(parameter))

mine = my_model.Encoder(3, 64, 4, 256)
mine.load_state_dict(encoder_weights(theirs))

real = visible[:, 0, 0]  # (3, 11), True at letters
for precision in (torch.float32, torch.float64):
    mine.to(precision), theirs.to(precision)
    with torch.no_grad():
        memory = mine(states.to(precision), visible)  # (3, 11, 64)
        their_memory = theirs(states.to(precision), src_key_padding_mask=~real)  # (3, 11, 64)
    gap = (memory - their_memory)[real].abs().max()
    print(f"{precision}: largest difference at {int(real.sum())} letters: {gap:.1e}")

# %% [markdown]
# Number for number, up to rounding. What you have written *is* the encoder of the library.
#
# ## 8. Break it
#
# ### No positions
#
# The whole encoder now, three layers deep, once without positions and once with. Does depth help it to find out the
# order?

# %%
torch.manual_seed(0)
encoder = my_model.Encoder(3, 64, 4, 256).requires_grad_(False)


def without_positions(tokens):
    return embed64.table(tokens) * math.sqrt(64)


for name, embedding in (("without positions", without_positions), ("with positions   ", embed64)):
    with torch.no_grad():
        of_live = encoder(embedding(cmudict.batch(["live"])))  # (1, 4, 64)
        of_evil = encoder(embedding(cmudict.batch(["evil"])))  # (1, 4, 64)
    gap = (of_live - of_evil.flip(1)).abs().max()
    print(f"{name}: rows of the same letters differ by {gap:.1g}")

# %% [markdown]
# Without positions, every layer keeps the rows as they are and only moves them. That is exact, whatever the weights, so
# no training can mend it: a decoder that reads H finds the same rows for *live* and for *evil*.
#
# ### The mask for the first layer only
#
# *cat* beside *mississippi* again. This time the mask is forgotten from the second layer on.

# %%
cat = cmudict.batch(["cat"])
beside = cmudict.batch(["cat", "mississippi"])
hidden = my_model.padding_mask(beside, cmudict.PAD)  # (2, 1, 1, 11)


def memory_of(words, masks):
    """The memory, with a mask of its own for each layer."""
    states = embed64(words)
    for layer, mask in zip(encoder.layers, masks):
        states = layer(states, mask)
    return encoder.norm(states)


with torch.no_grad():
    by_itself = memory_of(cat, [None, None, None])  # (1, 3, 64)
    for name, masks in (("every layer     ", [hidden] * 3), ("first layer only", [hidden, None, None])):
        gap = (memory_of(beside, masks)[0, :3] - by_itself[0]).abs().max()
        print(f"mask for {name}: c, a, t change by {gap:.1g}")

# %% [markdown]
# ### Post-LN
#
# Now the other order, norm(x + f(x)). In a small model like ours both learn equally well: in our trials no difference
# could be seen after training, so no training run is shown here. The difference is in *depth*, and it shows before the
# first step. We build stacks of 2 to 24 layers, freshly made, send 32 words through and one loss back, and ask: how
# much of the gradient that enters at the top arrives at the bottom? (The next cell took 5 seconds on one core. On a
# slow or busy machine it may take up to a minute.)


# %%
class PostLayer(my_model.EncoderLayer):
    """The same parts, in the order of 2017."""

    def forward(self, states, mask=None):
        states = self.attention_norm(states + self.attention(states, mask=mask)[0])
        return self.feed_forward_norm(states + self.feed_forward(states))


words = cmudict.load("train")["word"]
chosen = torch.randperm(len(words), generator=torch.Generator().manual_seed(0))[:96].tolist()
batch = cmudict.batch([words[i] for i in chosen[:32]])  # (32, the longest)
mask = my_model.padding_mask(batch, cmudict.PAD)


def gradients_by_depth(kind, layers, seed):
    """The size of the gradient at the states before the first layer, after it, …, after the last: (layers + 1,)."""
    torch.manual_seed(seed)
    stack = [kind(64, 4, 256) for _ in range(layers)]
    to_phonemes = nn.Linear(64, 42)  # scores for the 42 target tokens, so that there is a loss
    kept = [embed64(batch).detach().requires_grad_()]  # the states between the layers
    for layer in stack:
        kept.append(layer(kept[-1], mask))
    top = kept[-1] if kind is PostLayer else my_model.LayerNorm(64)(kept[-1])  # pre-LN has its norm at the end
    scores = to_phonemes(top)[mask[:, 0, 0]]  # (letters, 42)
    answers = torch.randint(42, (len(scores),))  # random ones: nothing has been learned yet
    loss = F.cross_entropy(scores, answers)
    return torch.stack([gradient.norm() for gradient in torch.autograd.grad(loss, kept)])


kinds = {"pre-LN": my_model.EncoderLayer, "post-LN": PostLayer}
depths = [2, 4, 8, 16, 24]
arrives = {}
for name, kind in kinds.items():
    arrives[name] = []
    for n in depths:
        sizes = sum(gradients_by_depth(kind, n, seed) for seed in range(3))  # (n + 1,), of three stacks
        arrives[name].append(100 * (sizes[0] / sizes[-1]).item())
    print(f"{name:8}", ", ".join(f"{n} layers: {share:.0f} %" for n, share in zip(depths, arrives[name])))

# %%
figure, ax = plt.subplots(figsize=(7, 3.4), facecolor="white", layout="constrained")
for (name, shares), colour, mark in zip(arrives.items(), ("#0072b2", "#d55e00"), "os"):
    ax.plot(depths, shares, marker=mark, color=colour)
    ax.annotate(name, (depths[-1], shares[-1]), (8, -3), textcoords="offset points", color=colour)
ax.axhline(100, color="grey", linewidth=0.8)
ax.set_xticks(depths)
ax.set_xlim(1, 28)
ax.set_ylim(bottom=0)
ax.set_xlabel("layers")
ax.set_ylabel("gradient at the bottom,\n% of that at the top")
ax.grid(alpha=0.3)
plt.show()

# %% [markdown]
# In pre-LN the way back is as free as the way forth: the lowest layer gets at least as much as the highest. More than
# 100 % is no harm: x goes back unchanged through every sum, and each sub-layer on the way adds its own part. That grows
# slowly, to 161 % with 24 layers, and does not multiply from layer to layer. In post-LN each norm takes a little away,
# and with depth that adds up: the bottom layers get less and less of it. 62 % at 24 layers is not a gradient that has
# vanished. What the curves show is the direction: up with depth in one order, down in the other.
#
# Xiong et al. (2020) worked out the gradients of both orders at the start of training. In post-LN they are large near
# the output and uneven, which is why it needed a learning rate that warms up slowly. In pre-LN they are even, and
# training can do without.
#
# ## 9. On real data: the memory of a word
#
# *mississippi* has four i, four s and two p. Which rows of H are alike? Cosine similarity says it: 1 means the same
# direction, 0 no relation. The encoder is untrained; what you see comes from its build alone.

# %%
mississippi = cmudict.batch(["mississippi"])  # (1, 11)
with torch.no_grad():
    memories = {
        "H without positions": encoder(without_positions(mississippi))[0],  # (11, 64)
        "H with positions": encoder(embed64(mississippi))[0],  # (11, 64)
    }

figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.3), facecolor="white", layout="constrained")
for ax, (title, rows) in zip(axes, memories.items()):
    alike = F.cosine_similarity(rows[:, None], rows[None], dim=-1)  # (11, 11)
    picture = ax.imshow(alike, cmap="cividis", vmin=-0.2, vmax=1)
    ax.set_xticks(range(11), list("mississippi"))
    ax.set_yticks(range(11), list("mississippi"))
    ax.set_title(title)
figure.colorbar(picture, ax=axes, label="cosine similarity")
plt.show()

# %%
for title, rows in memories.items():
    alike = F.cosine_similarity(rows[:, None], rows[None], dim=-1)
    print(f"{title:20}", "i at place 1 with those at 4, 7 and 10:", alike[1, [4, 7, 10]])

# %% [markdown]
# Without positions, the four i are one and the same row: whoever reads H cannot say which i is meant. With positions
# they are still alike, being the same letter, but each is its own.
#
# Last test: 64 real words in one batch against each of them alone. If the mask holds in every layer and no norm looks
# beyond its letter, nothing may change.

# %%
many = [words[i] for i in chosen[32:]]  # 64 others
together = cmudict.batch(many)  # (64, the longest)
with torch.no_grad():
    H = encoder(embed64(together), my_model.padding_mask(together, cmudict.PAD))  # (64, the longest, 64)
    gaps = []
    for row, word in zip(H, many):
        by_itself = encoder(embed64(cmudict.batch([word])))[0]  # (letters, 64)
        gaps.append((row[: len(word)] - by_itself).abs().max().item())
print(tuple(H.shape), "# the memory of 64 words; the first:", *many[:4])
print(f"largest difference between a word in the batch and the same word alone: {max(gaps):.1e}")
print(f"numbers in this encoder: {sum(p.numel() for p in encoder.parameters()):,}")

# %% [markdown]
# ### What H holds after training
#
# Lesson 01 began with the letter c: `K` in *cat*, `S` in *cell*, `CH` in *chat*, `SH` in *chef*. The vector of the
# letter is the same in all of them. But its row of H has read the rest of the word. Does it know which c it is?
#
# In lesson 05 you train a model of your own pieces. Here we borrow weights that were trained in this way, and put them
# into your encoder. (The cell makes a whole model, so stand-ins are named for what comes in lesson 04.) It reads test
# words that begin with c, which it has never seen. We take row 0 of each memory, the row of this c, and draw it in the
# two directions in which these rows differ most.

# %%
trained, untrained = load_model("cmudict-lesson"), word_model()

test = cmudict.load("test")
kinds_of_c = {"K": [], "S": [], "CH": [], "SH": []}  # words that begin with c, by their first sound
for word, said in zip(test["word"], test["pronunciations"]):
    sound = said[0].split()[0]
    if word[0] == "c" and sound in kinds_of_c:
        kinds_of_c[sound].append(word)
print("test words:", {sound: len(found) for sound, found in kinds_of_c.items()})


def rows_of_c(model):
    """Row 0 of the memory of up to 100 words for each sound, in two dimensions: {sound: (words, 2)}."""
    groups = [found[:100] for found in kinds_of_c.values()]
    tokens = cmudict.batch([word for group in groups for word in group])
    with torch.no_grad():
        H = model.encode(tokens, my_model.padding_mask(tokens, cmudict.PAD))  # (words, the longest, 128)
    rows = H[:, 0] - H[:, 0].mean(dim=0)  # (words, 128)
    directions = torch.linalg.svd(rows, full_matrices=False).Vh[:2]  # (2, 128)
    return dict(zip(kinds_of_c, (rows @ directions.T).split([len(group) for group in groups])))


looks = [{"color": c, "marker": m} for c, m in zip(("#0072b2", "#d55e00", "#009e73", "#000000"), "os^x")]
figure, axes = plt.subplots(1, 2, figsize=(9.5, 4), facecolor="white", layout="constrained")
for ax, (title, model) in zip(axes, {"before training": untrained, "after training": trained}.items()):
    for (sound, points), look in zip(rows_of_c(model).items(), looks):
        ax.scatter(*points.T, s=14, alpha=0.7, label=sound, **look)
    ax.set(title=f"row 0 of H, words with c…, {title}", xticks=[], yticks=[])
axes[1].legend(title="first sound")
plt.show()

# %% [markdown]
# Before training it is one cloud. After it, the c that says `K`, the c that says `S`, and the c before an h stand
# apart: nobody told the encoder about these three, it needed them to be of use to the decoder. The five `CH` points
# among the `S` have no h after the c: they are names such as *cecere* and *cerullo*, and in English spelling c before
# e says `S`. `CH` and `SH` still lie together in these two directions; there are 126 more.
#
# ## 10. What you built
#
# An encoder. `TokenEmbedding` says which letter stands where, with your `sinusoidal_positions`. Each `EncoderLayer`
# lets the letters read each other and then works on each alone, always adding to what is there; `Encoder` stacks the
# layers and norms once at the end. What comes out is the memory H, one row for each letter, the same as PyTorch's.
#
# $$x \leftarrow x + \operatorname{dropout}(f(\operatorname{norm}(x))), \qquad
# f = \text{attention, then feed-forward}; \qquad H = \operatorname{norm}(x)$$
#
# **Next**, lesson 04: somebody to read it. The decoder asks the memory while it speaks.
#
# **Sources**
#
# - Vaswani et al. (2017), *Attention Is All You Need*: the encoder in section 3.1, the feed-forward block in 3.3,
#   √d_model and the sines in 3.4 and 3.5.
# - Ba, Kiros & Hinton (2016), *Layer Normalization*.
# - Xiong et al. (2020), *On Layer Normalization in the Transformer Architecture*: pre-LN against post-LN.
# - Press, Smith & Lewis (2022), *Train Short, Test Long*: that sines carry over to longer texts than those of training
#   was a hope. They tried it.
#
# To see that all of it holds from a fresh start: **Kernel → Restart Kernel and Run All Cells**. It is safe to close;
# your pieces are in `work/my_model/`.
