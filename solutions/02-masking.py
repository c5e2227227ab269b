# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 Masking
#
# **Who may look at whom.** In lesson 01 every query read every key. That is too much in two ways. Words in a batch have
# different lengths, so the short ones are filled up with padding that nobody should read. And a model that is trained
# to predict the next token must not see that token.
#
# At the end you will be able to
#
# - say where padding comes from, and keep it from changing a single number;
# - write the causal mask, for a whole word and for one new token;
# - read the masks of other libraries, which mean the opposite of each other;
# - write attention that survives a row with nothing to attend to, forwards and backwards;
# - put your pieces together into multi-head attention, and compare it with PyTorch's.
#
# Time: about 120 minutes. Stop where you like: what has passed is kept. Before it:
# [01 Attention](../01-attention/attention.ipynb).
#
# Run this cell first. Your answers are judged with these imports and nothing else.

# %% setup=true
import math

import torch
from torch import nn
from torch.nn import functional as F

from autograder import check, hint, trace
from crosstalk.my_model import merge_heads, softmax, split_heads

# %% [markdown]
# The next cell brings what this lesson shows things with. `my_model` is your own model so far:
# `my_model.softmax` is the one you wrote in lesson 01, once it has passed, and a stand-in until then. The cells below
# use your pieces in this way, so they all run, whatever is still missing.

# %%
import matplotlib.pyplot as plt

from crosstalk import my_model
from crosstalk.data import cmudict
from crosstalk.map import model_map
from crosstalk.plots import heat_map
from crosstalk.widgets import HeadViewer, MaskPainter, Predict

torch.set_num_threads(1)  # small tensors: a second thread would only get in the way
torch.set_printoptions(precision=3, sci_mode=False)
model_map("02-masking")

# %% [markdown]
# ## 1. Where padding comes from
#
# A tensor is a rectangle and words are not. To put *cat* beside *mississippi*, the short word is filled up with a
# token of its own, `<pad>`, whose id is 0.

# %%
words = ["cat", "mississippi"]
tokens = cmudict.batch(words)
print(tokens)
print(tokens.shape, "# (batch, keys)")

# %% [markdown]
# Attention needs vectors, so each id gets a random one here. (Lesson 03 makes this table properly, and adds where in
# the word a letter stands.) Mind that `<pad>` gets a vector too: it is a token like any other.

# %%
torch.manual_seed(0)
table = nn.Embedding(len(cmudict.LETTERS), 16).requires_grad_(False)
states = table(tokens)
print(states.shape, "# (batch, length, d_model)")

# %% [markdown]
# ### Predict
#
# *cat* goes through your attention of lesson 01, once alone and once padded to 11 places. There is no mask yet. We
# look at the three output rows of c, a and t.

# %%
Predict(
    "Are the rows of c, a and t the same, padded or alone?",
    {
        "Yes: the letters are the same": "The letters are. But each row is a mean over *all* keys, and in the padded "
        "word eight of the eleven keys are padding.",
        "No: the padding takes a share": "The softmax spreads a weight of 1 over all eleven keys. What the padding "
        "gets, c, a and t lose.",
        "Yes, if the vector of the padding is all zeros": "A zero vector has score 0 with every query, and e⁰ = 1. "
        "Eight keys with e⁰ each still take a share. A cell below tries it.",
    },
    right="No: the padding takes a share",
)

# %%
alone = table(cmudict.batch(["cat"]))  # (1, 3, 16)
output_alone, _ = my_model.scaled_dot_product_attention(alone, alone, alone)  # (1, 3, 16)

padded = states[:1]  # (1, 11, 16)
output_padded, weights = my_model.scaled_dot_product_attention(padded, padded, padded)  # weights (1, 11, 11)

gap = (output_padded[:, :3] - output_alone).abs().max()
print(f"largest difference between the rows of c, a, t: {gap:.3f}")
print("share of the weight that padding takes from c, a, t:", weights[0, :3, 3:].sum(dim=-1))

# %%
shown = list("cat") + ["·"] * 8  # a dot stands for <pad>
heat_map(weights[0, :3], list("cat"), shown, "No mask: c, a and t read padding")
plt.show()

# %% [markdown]
# So the same word comes out differently, depending on its neighbours in the batch. Would a zero vector for the
# padding help? PyTorch's `nn.Embedding` offers just that, as `padding_idx`.

# %%
zeroed = padded.clone()
zeroed[:, 3:] = 0.0
output_zeroed, weights_zeroed = my_model.scaled_dot_product_attention(zeroed, zeroed, zeroed)
print("share of the padding now:", weights_zeroed[0, :3, 3:].sum(dim=-1))
print(f"largest difference: {(output_zeroed[:, :3] - output_alone).abs().max():.3f}")

# %% [markdown]
# It does not. A score of 0 is not "nothing": e⁰ = 1. What hides a key is a score of minus infinity, since
# e^(-∞) = 0. That is all that a mask does:
#
# $$A = \operatorname{softmax}\!\left(\frac{Q K^\top}{\sqrt{d_k}} + B\right) V, \qquad
# B_{qk} = \begin{cases} 0 & \text{query } q \text{ may attend to key } k \\ -\infty & \text{not}\end{cases}$$
#
# | symbol | in the code | shape |
# |---|---|---|
# | $QK^\top/\sqrt{d_k}$ | `scores` | (batch, heads, queries, keys) |
# | which $B_{qk}$ are 0 | `mask`, True = may attend | any shape that broadcasts to that of the scores |
#
# **The rule of this course: a mask is boolean, and True means "may attend".** Broadcasting does the rest. A dimension
# of size 1 means "the same for all of them".
#
# | mask | shape | the same for |
# |---|---|---|
# | padding | (batch, 1, 1, keys) | all heads, all queries |
# | causal | (queries, keys) | all words, all heads |
# | both | (batch, 1, queries, keys) | all heads |

# %% [markdown]
# ### Exercise 1: `padding_mask`
#
# Difficulty ●○○○○ · importance ●●●●○ · about 8 minutes
#
# Say which keys are real tokens. Padding is whatever equals `pad_id`, wherever it stands.
#
# ```
# padding_mask(tokens, pad_id) → mask
# tokens  int  (batch, keys)
# mask    bool (batch, 1, 1, keys), True = may be attended
# ```
#
# ```python
# padding_mask(torch.tensor([[8, 6, 0]]), pad_id=0)  # tensor([[[[True, True, False]]]])
# ```


# %% answer="padding_mask"
def padding_mask(tokens, pad_id):
    """(batch, keys) → bool (batch, 1, 1, keys), True where a real token stands."""
    ### BEGIN SOLUTION
    real = tokens != pad_id  # (batch, keys)
    return real[:, None, None, :]  # (batch, 1, 1, keys): the same for all heads and all queries
    ### END SOLUTION


# %% check="padding_mask"
check("padding_mask")

# %%
hint("padding_mask")

# %% [markdown]
# The mask of our two words. The dimension of the queries has size 1: padding is hidden from every query alike, padded
# queries included. Their output rows are never used, so nobody needs to hide *them*.

# %%
real = my_model.padding_mask(tokens, cmudict.PAD)
print(real.shape, "# (batch, 1, 1, keys)")
for word, row in zip(words, real[:, 0, 0].int().tolist()):
    print(f"{word:>12}", row)

# %% [markdown]
# ## 2. The answer must not be read
#
# Now the other side, where the model says the word: *cat* is `K AE T`. The decoder predicts each phoneme from those
# before it,
#
# $$P(y \mid x) = \prod_t P(y_t \mid y_{<t}, x),$$
#
# and in training it does so for all places at once, in one forward pass. It reads y moved one place on, with `<start>`
# in front and `<end>` left off. So row t has read `<start>` and `y_<t`, and predicts `y_t`. But `y_t` lies in the same
# tensor, one place further on. Without a mask, row t only needs to look it up.

# %%
said = cmudict.phonemes_to_ids("K AE T")  # with <end> after it
names = [cmudict.PHONEMES[i] for i in said]
inputs = ["<start>", *names[:-1]]  # the token of row t
for t, answer in enumerate(names):
    hidden = inputs[t + 1 :]
    print(f"row {t}: may read {' '.join(inputs[: t + 1]):<16} predicts {answer:<6} hidden: {' '.join(hidden)}")

# %% [markdown]
# In each row, the first hidden token is just what the row has to predict. A query may read its own token and what came
# before it. As the inputs are moved by one, that is just the **prefix** `y_<t`. As a table of queries × keys it is a
# triangle with its diagonal.
#
# ### Predict
#
# A model that is speaking writes one token at a time. In lesson 07 the keys of old tokens are kept, so there is **one**
# query, the newest token, and **five** keys: four old ones and its own.

# %%
Predict(
    "Which row is the causal mask of this one query? (1 = may attend)",
    {
        "1 0 0 0 0": "That is the first row of a square mask: aligned at the top left. The newest token would read the "
        "oldest only. PyTorch's `is_causal=True` does this, and it is a known trap.",
        "1 1 1 1 1": "The newest token comes last, so all five keys are its prefix. It is the *last* row of the "
        "square mask: align at the bottom right.",
        "0 0 0 0 1": "That way it would see itself alone, and nothing that was said before.",
    },
    right="1 1 1 1 1",
)

# %%
one, five = torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 5, 4)  # equal scores, so the weights show the mask alone
values = torch.eye(5)[None, None]  # (1, 1, 5, 5): the output is then the weights themselves
print("PyTorch, is_causal=True, weights of the one query:")
print(F.scaled_dot_product_attention(one, five, values, is_causal=True)[0, 0])

# %% [markdown]
# All of its weight on key 0. So we count from the other end: the last query stands at the last key.
#
# ### Exercise 2: `causal_mask`
#
# Difficulty ●●○○○ · importance ●●●●● · about 10 minutes
#
# The queries are the *last* `queries` of `keys` tokens. Each may attend to itself and to what stands before it.
#
# ```
# causal_mask(queries, keys) → mask
# mask  bool (queries, keys), True = may attend, aligned bottom right
# ```
#
# ```python
# causal_mask(2, 3)  # tensor([[True, True, False], [True, True, True]])
# ```


# %% answer="causal_mask"
def causal_mask(queries, keys):
    """bool (queries, keys), True = may attend, aligned bottom right: the last query sees every key."""
    ### BEGIN SOLUTION
    earlier = keys - queries  # so many keys stand before the first query
    return torch.ones(queries, keys, dtype=torch.bool).tril(diagonal=earlier)
    ### END SOLUTION


# %% check="causal_mask"
check("causal_mask")

# %%
hint("causal_mask")

# %%
print("four queries, four keys:")
print(my_model.causal_mask(4, 4).int())
print("the last two of four:")
print(my_model.causal_mask(2, 4).int())
print("the newest of five:")
print(my_model.causal_mask(1, 5).int())

# %% [markdown]
# ### Both at once: `&` or `|`?
#
# The decoder's words have different lengths too. Its mask has to be causal *and* hide the padding. Broadcasting makes
# (queries, keys) and (batch, 1, 1, keys) into (batch, 1, queries, keys). But with which operator? Think about it before
# you run the cell: True means "may attend", and both masks have to allow it.

# %%
pronunciations = ["K AE T", "M IH S IH S IH P IY"]
moved = [torch.tensor([cmudict.START, *cmudict.phonemes_to_ids(p)[:-1]]) for p in pronunciations]
decoder_inputs = nn.utils.rnn.pad_sequence(moved, batch_first=True, padding_value=cmudict.PAD)  # (batch, 9)
length = decoder_inputs.size(1)
causal = my_model.causal_mask(length, length)  # (9, 9)
visible = my_model.padding_mask(decoder_inputs, cmudict.PAD)  # (2, 1, 1, 9)

future, padding = ~causal, ~visible
for sign, combined in (("&", causal & visible), ("|", causal | visible)):
    print(
        f"causal {sign} visible {tuple(combined.shape)}: allowed {int(combined.sum())} pairs,",
        f"{int((combined & future).sum())} of them in the future, {int((combined & padding).sum())} onto padding",
    )

# %% [markdown]
# With True = allowed it is `&`. In a library where True means *blocked*, the same thing is written `|`. Code copied
# from one to the other runs without an error.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), facecolor="white", layout="constrained")
letters = [cmudict.PHONEMES[i] if i else "·" for i in decoder_inputs[0].tolist()]
marks = {"causal & visible": causal & visible[0, 0], "causal | visible": causal | visible[0, 0]}
for ax, (title, allowed) in zip(axes, marks.items()):
    cells = [["yes" if cell else "" for cell in row] for row in allowed.tolist()]
    heat_map(allowed.float(), letters, letters, f"<start> K AE T, padded: {title}", ax=ax, cells=cells)
plt.show()

# %% [markdown]
# ## 3. Masks that are added, and what others mean by True
#
# Some functions want the mask as numbers: the $B$ of the formula, which is added to the scores. 0 changes nothing, -∞
# hides.
#
# ### Exercise 3: `additive_mask`
#
# Difficulty ●●○○○ · importance ●●○○○ · about 8 minutes
#
# ```
# additive_mask(mask, dtype) → numbers
# mask     bool, any shape, True = may attend
# numbers  of type dtype, the same shape: 0 where allowed, -inf where not
# ```
#
# The mask itself is used again by the next layer: leave it as it is.
#
# ```python
# additive_mask(torch.tensor([True, False]), torch.float32)  # tensor([0., -inf])
# ```


# %% answer="additive_mask"
def additive_mask(mask, dtype):
    """A boolean mask as numbers to add to the scores: 0 where allowed, -inf where not."""
    ### BEGIN SOLUTION
    zeros = torch.zeros(mask.shape, dtype=dtype)
    return zeros.masked_fill(~mask, -math.inf)
    ### END SOLUTION


# %% check="additive_mask"
check("additive_mask")

# %%
hint("additive_mask")

# %% [markdown]
# ### The table to come back to
#
# | where | a boolean or 0/1 mask | a float mask | batch first? |
# |---|---|---|---|
# | this course | True = may attend | | yes |
# | `F.scaled_dot_product_attention` | True = may attend | is added | yes |
# | `nn.MultiheadAttention`, `nn.Transformer` | True = **blocked** | is added | only with `batch_first=True` |
# | Hugging Face, `attention_mask` | 1 = keep, 0 = padding | | yes |
#
# Two lines of one library contradict each other. So before you trust a mask, ask. Here *cat* with one pad goes to
# PyTorch in five ways, and we look at how much weight c puts on the pad.

# %%
four = table(torch.tensor([[*cmudict.letters_to_ids("cat"), cmudict.PAD]]))[:, None]  # (1, 1, 4, 16)
keep = torch.tensor([[True, True, True, False]])  # (1, 4)
reader = torch.eye(4)[None, None]  # values that make the output show the weights
flat = four[0]  # (1, 4, 16), without heads
identity = nn.MultiheadAttention(16, 1, batch_first=True).requires_grad_(False)
identity.in_proj_weight.copy_(torch.eye(16).repeat(3, 1))  # queries, keys and values are the states themselves


def on_padding(weights):
    return f"{weights.reshape(4, 4)[0, 3].item():.3f}"


fused = F.scaled_dot_product_attention
for way, weights in {
    "no mask": fused(four, four, reader),
    "scaled_dot_product_attention, attn_mask=keep": fused(four, four, reader, attn_mask=keep),
    "scaled_dot_product_attention, attn_mask=keep.float()": fused(four, four, reader, attn_mask=keep.float()),
    "MultiheadAttention, key_padding_mask=keep": identity(flat, flat, flat, key_padding_mask=keep)[1],
    "MultiheadAttention, key_padding_mask=~keep": identity(flat, flat, flat, key_padding_mask=~keep)[1],
}.items():
    print(f"{way:<54}{on_padding(weights)}")

# %% [markdown]
# Three of the five leave weight on the padding. Two of these were given a mask, and neither complains.
#
# - `keep.float()` is taken for numbers to add. It adds 1 to the allowed scores, which is far from hiding anything.
# - `nn.MultiheadAttention` takes `keep` for "blocked": c may then read the padding and nothing else.
#
# With your `additive_mask` the float form comes out right:

# %%
numbers = my_model.additive_mask(keep, torch.float32)
print(numbers)
print("scaled_dot_product_attention, attn_mask=numbers", on_padding(fused(four, four, reader, attn_mask=numbers)))

# %% [markdown]
# ## 4. Masked attention
#
# ### Predict
#
# There seem to be two places for a mask. Somebody writes `weights = softmax(scores) * mask`: the hidden weights become
# exactly 0, after the softmax. Nothing is renormalised.

# %%
Predict(
    "You mask *after* the softmax. Is padded *cat* equal to *cat* alone?",
    {
        "Yes: pads weigh 0": "They weigh 0 in the end. But their scores stood under the fraction bar of the softmax, "
        "so every real key lost a share to them first.",
        "No": "The pads took their share before they were hidden. The rows sum to less than 1, and by how much depends "
        "on tokens that nobody was to read.",
        "Only with several heads": "Each head has a softmax of its own, and each loses its share. One head or many, it "
        "is the same.",
    },
    right="No",
)

# %%
scores = padded @ padded.transpose(-2, -1) / math.sqrt(padded.size(-1))  # (1, 11, 11)
after = my_model.softmax(scores) * real[0, 0]  # real[0, 0] is (1, 11)
print("sums of the rows of c, a, t:", after[0, :3].sum(dim=-1))
print(f"largest difference from cat alone: {((after @ padded)[:, :3] - output_alone).abs().max():.3f}")

# %% [markdown]
# So the mask belongs before the softmax, on the scores. The hidden ones are set very low, and the softmax itself shares
# out the 1 among the rest.
#
# ### A row with nothing to attend to
#
# One question is left. What if a query may attend to *no* key? It happens: a batch is filled up to its size with an
# empty word, or padding stands on the left and the mask is causal, so that the first query sees padding only. Then
# all scores of the row are -∞, and the softmax divides 0 by 0.

# %%
empty_row = torch.full((1, 3), -math.inf)
print("three scores of -inf: ", torch.softmax(empty_row, dim=-1))
print("three scores of -1e9: ", torch.softmax(torch.full((1, 3), -1e9), dim=-1))

# %% [markdown]
# With -inf there is NaN, and NaN spreads: one such row and the loss is NaN, and after one step so is every weight that
# the gradient reaches. With a very low but finite number there is no NaN. But all scores are equally low, so the row
# attends evenly to what is hidden.
#
# There is no mathematically right answer to "the mean of no values". A convention is needed. Ours: **an empty row gives
# zeros, in the weights and in the output.** `F.scaled_dot_product_attention` has done the same since 2024; before,
# it usually gave NaN. And `nn.MultiheadAttention`? Ask it.

# %%
nobody = torch.tensor([[True, True, True, True], [False] * 4])[:, None, None]  # (2, 1, 1, 4): the second word is empty
pair = four.repeat(2, 1, 1, 1)  # (2, 1, 4, 16)
blocked = ~nobody[:, 0, 0]  # (2, 4), for the module, where True = blocked
print("torch " + torch.__version__.split("+")[0] + ", first numbers of the output of the empty word:")
print("scaled_dot_product_attention:            ", fused(pair, pair, pair, attn_mask=nobody)[1, 0, 0, :3])
for asked in (True, False):
    answer, _ = identity(pair[:, 0], pair[:, 0], pair[:, 0], key_padding_mask=blocked, need_weights=asked)
    print(f"MultiheadAttention, need_weights={asked!s:<5}:  ", answer[1, 0, :3])

# %% [markdown]
# One module, one input, and whether there is NaN depends on whether you ask for the weights (which is the default).
# Yours will not do that.
#
# ### Exercise 4: `masked_attention`
#
# Difficulty ●●●●○ · importance ●●●●● · about 25 minutes · a main one
#
# Attention as in lesson 01, over the keys that the mask allows.
#
# ```
# masked_attention(query, key, value, mask=None) → output, weights
# query   (…, queries, d_k)
# key     (…, keys, d_k)
# value   (…, keys, d_v)
# mask    bool, True = may attend, broadcasts to (…, queries, keys); None hides nothing
# output  (…, queries, d_v)
# weights (…, queries, keys)
# ```
#
# - Hidden keys weigh exactly 0, and each row that may attend to something sums to 1.
# - A row that may attend to nothing gives zeros in `weights` and in `output`.
# - Gradients are free of NaN, in empty rows too.
# - Right for scores of any size, allowed ones near -1,000,000 and hidden ones near 40,000 included.
#
# `F.scaled_dot_product_attention` is the exercise itself, so it is not allowed here. All else is.
#
# ```python
# q, k = torch.ones(2, 1), torch.ones(3, 1)
# mask = torch.tensor([[True, False, True], [False, False, False]])
# masked_attention(q, k, k, mask)[1]  # tensor([[0.5, 0.0, 0.5], [0.0, 0.0, 0.0]])
# ```


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

# %%
hint("masked_attention")

# %% [markdown]
# Lost among the shapes? `trace("masked_attention")` runs your answer on one case and shows, line by line, which names
# have which shapes.

# %%
trace("masked_attention")

# %% [markdown]
# ### What it does to *cat*

# %%
output_masked, weights_masked = my_model.masked_attention(padded, padded, padded, real[0])  # mask (1, 1, 11)
print(f"largest difference from cat alone: {(output_masked[:, :3] - output_alone).abs().max():.1e}")
heat_map(weights_masked[0, :3], list("cat"), shown, "Masked: c, a and t read c, a and t")
plt.show()

# %% [markdown]
# Up to rounding, the rows of c, a and t are what they are without any padding. It no longer matters which words stand
# beside *cat* in the batch.
#
# ### Play: paint a mask
#
# The widget below computes with **your** `masked_attention`, the one in this notebook. Left is the mask, a row for each
# query; click or drag to paint. Right are the weights that come of it. Below, one token is replaced by another, and you
# see which output rows notice.
#
# Three things to try:
#
# 1. Choose **causal**, then **after the softmax**. The upper triangle is 0 both times. Which rows move now, though they
#    must not?
# 2. Choose **before the softmax** again, hide the last 2 keys, which are padding, and replace one of them. No letter of
#    the word should notice.
# 3. Choose **none**: every row is empty. Then allow one cell of one row.
#
# <details><summary>A still picture of it, with another word, for reading without a kernel</summary>
#
# ![The mask painter: a causal mask applied after the softmax; rows that must not move do](attachment:mask_painter.png)
#
# </details>

# %%
cat_beside_onion = table(cmudict.batch(["cat", "onion"]))  # (2, 5, 16)
two_heads = my_model.split_heads(cat_beside_onion, 2)[0]  # (2, 5, 8): two heads of padded "cat"
MaskPainter(two_heads, two_heads, two_heads, tokens=[*"cat", "·", "·"], attention=masked_attention)

# %% [markdown]
# ## 5. Break it
#
# ### The mask after the softmax: illegal influence
#
# With a causal mask, c must not know which letter comes third. So we change it: *cat* becomes *car*, and we measure how
# far each output row moves.


# %%
def attention_masked_after(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    weights = my_model.softmax(scores) * mask  # too late
    return weights @ value, weights


cat, car = table(cmudict.batch(["cat"])), table(cmudict.batch(["car"]))  # (1, 3, 16) each
triangle = my_model.causal_mask(3, 3)
for name, attend in (("before", my_model.masked_attention), ("after ", attention_masked_after)):
    moved = (attend(cat, cat, cat, triangle)[0] - attend(car, car, car, triangle)[0]).norm(dim=-1)[0]  # (3,)
    print(f"mask {name} the softmax: " + ", ".join(f"{letter} moves by {m:.4f}" for letter, m in zip("ca?", moved)))

# %% [markdown]
# The last row may move: it is the letter that changed. The first two must stand still, and with the mask after the
# softmax they do not. It is not much, and that is what makes it a bad mistake: training goes on, and can learn to use
# what leaks from the future. When the model has to speak for itself, there is no future to leak.
#
# ### `nan_to_num`: a clean forward, a broken backward
#
# A row of -inf gives NaN, so why not wipe it away afterwards? Many do. Here the second query may attend to nothing.


# %%
def attention_wiped(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1)) + my_model.additive_mask(mask, query.dtype)
    weights = torch.nan_to_num(torch.softmax(scores, dim=-1))
    return weights @ value, weights


second_empty = torch.tensor([[True, True, False], [False, False, False], [True, True, True]])
for name, attend in (("nan_to_num", attention_wiped), ("yours     ", my_model.masked_attention)):
    query = cat.clone().requires_grad_()
    output, _ = attend(query, cat, cat, second_empty)
    output.square().sum().backward()
    forward, backward = bool(output.isnan().any()), bool(query.grad.isnan().any())
    print(f"{name}  NaN in the output: {forward!s:<5}  NaN in the gradient: {backward}")

# %% [markdown]
# The output looks fine. The gradient is NaN, and one optimiser step later so is every weight that it reaches. Going
# backward, the softmax multiplies by its own output, and that is still NaN inside; what was wiped afterwards does not
# matter to it.
#
# (If the scores are *filled* with -inf by `masked_fill`, instead of added to, the way back is cut at the filled places,
# and the NaN stops there. That is right too, but only by good luck. A finite number never makes a NaN at all.)

# %% [markdown]
# ## 6. Multi-head attention, from your own pieces
#
# All parts are there. Multi-head attention (Vaswani et al. 2017) lets several attentions look at the same tokens side
# by side, each at its own features:
#
# $$\text{head}_h = \operatorname{attention}(Q_h, K_h, V_h), \qquad
# \text{output} = [\text{head}_1; \dots; \text{head}_n]\, W_O + b_O$$
#
# where $Q$, $K$ and $V$ are three Linear layers of the states, and $Q_h$ is the h-th block of their features. The
# square brackets put the heads side by side (`merge_heads`); $W_O$ and $b_O$ are weight and bias of the Linear layer
# `output`. Shape by shape, for 2 words of 5 letters, d_model 16 and 4 heads:
#
# ```
# states                        (2, 5, 16)
#   query, key, value: Linear   (2, 5, 16)      three different ones
#   split_heads                 (2, 4, 5, 4)    lesson 01
#   masked_attention            (2, 4, 5, 4)    and weights (2, 4, 5, 5)
#   merge_heads                 (2, 5, 16)      lesson 01
#   output: Linear              (2, 5, 16)      mixes the heads
# ```
#
# Three things that are easy to miss:
#
# - **The output projection.** Until then each head sits in its own block of features and knows nothing of the others.
# - **The memory.** In lesson 04 the decoder asks and the encoder's states answer. So `forward` takes a second tensor:
#   queries come from `states`, keys *and* values from `memory`. Where it is None, from `states` too: self-attention.
# - **The `attention` argument.** Each forward calls what is handed in once, for all heads together, as
#   `attention(query, key, value, mask)`. It is your function by default. Later a faster one is put
#   in its place, and nothing else changes.

# %% [markdown]
# ### Exercise 5: `MultiHeadAttention`
#
# Difficulty ●●●●○ · importance ●●●●● · about 30 minutes · a main one
#
# ```
# MultiHeadAttention(d_model, heads, attention=masked_attention)
#     query, key, value, output   nn.Linear(d_model, d_model), with bias: the names are fixed
# forward(states, memory=None, mask=None) → output, weights
#     states   (batch, queries, d_model)
#     memory   (batch, keys, d_model), None means states
#     mask     bool, broadcasts to (batch, heads, queries, keys), None hides nothing
#     output   (batch, queries, d_model)
#     weights  (batch, heads, queries, keys): one table for each head, not averaged
# ```
#
# `self.heads` and `self.attention` are there already; later lessons read them.
#
# ```python
# output, weights = MultiHeadAttention(16, 4)(states)  # (2, 11, 16) and (2, 4, 11, 11) for our two words
# ```


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

# %%
hint("MultiHeadAttention")

# %% [markdown]
# ### Yours beside PyTorch's
#
# `torch.nn.MultiheadAttention` gets the weights of yours. It keeps the three input projections stacked in one matrix,
# and its mask means the opposite. The rest should be the same.

# %%
torch.manual_seed(1)
mine = my_model.MultiHeadAttention(16, 4)
theirs = nn.MultiheadAttention(16, 4, batch_first=True)
with torch.no_grad():
    theirs.in_proj_weight.copy_(torch.cat([mine.query.weight, mine.key.weight, mine.value.weight]))
    theirs.in_proj_bias.copy_(torch.cat([mine.query.bias, mine.key.bias, mine.value.bias]))
    theirs.out_proj.load_state_dict(mine.output.state_dict())

    output, weights = mine(states, mask=real)  # (2, 11, 16), (2, 4, 11, 11)
    their_output, their_weights = theirs(
        states, states, states, key_padding_mask=~real[:, 0, 0], average_attn_weights=False
    )
print(output.shape, weights.shape)
print(f"largest difference in the output:  {(output - their_output).abs().max():.1e}")
print(f"largest difference in the weights: {(weights - their_weights).abs().max():.1e}")
print("parameters:", sum(p.numel() for p in mine.parameters()), "= 4 · (16 · 16 + 16)")

# %% [markdown]
# You have written what the library has. What is left is rounding.
#
# And the `attention` argument: PyTorch's `F.scaled_dot_product_attention` computes the same. It can be *fused*: one
# step that never stores the table of weights, so it has none to return. Here None stands for them.


# %%
def fused_attention(query, key, value, mask=None):
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask), None


fast = my_model.MultiHeadAttention(16, 4, attention=fused_attention)
fast.load_state_dict(mine.state_dict())
with torch.no_grad():
    fast_output, no_weights = fast(states, mask=real)
print(f"largest difference: {(fast_output - output).abs().max():.1e}, weights: {no_weights}")

# %% [markdown]
# ### Play: look into the heads
#
# *onion* beside *correspondence*, through four heads of your multi-head attention. **The Linear layers are random:
# nothing has been trained.** The matrices of `query` and `key` are made four times larger than usual, so that the heads
# differ enough to be seen; at the usual size an untrained head attends almost evenly.
#
# Three things to notice:
#
# 1. The columns of the padding (·) are 0 in every head.
# 2. The heads differ, though they look at the same letters: each has its own projections.
# 3. The two rows of "o" are the same, and so are those of "n". Nothing tells attention *where* a letter stands. That is
#    what lesson 03 mends.
#
# <details><summary>A still picture of it, with another word and made-up weights, for reading without a kernel</summary>
#
# ![The head viewer: small tables of weights, one for each head, and one of them large](attachment:head_viewer.png)
#
# </details>

# %%
two_words = ["correspondence", "onion"]
ragged = cmudict.batch(two_words)  # (2, 14)
torch.manual_seed(2)
four_heads = my_model.MultiHeadAttention(16, 4)
with torch.no_grad():
    four_heads.query.weight.mul_(4)
    four_heads.key.weight.mul_(4)
    _, head_weights = four_heads(table(ragged), mask=my_model.padding_mask(ragged, cmudict.PAD))  # (2, 4, 14, 14)
HeadViewer(head_weights[1], [*"onion", *"·" * 9], caption='Four untrained heads over a padded "onion"')

# %% [markdown]
# ## 7. On real data: how much of a batch is padding?
#
# The dictionary has words of very different lengths. A batch is as wide as its longest word, so the larger the batch,
# the more of it is padding. Before you run the cell: what would you guess for 64 words taken at random?

# %%
dictionary = cmudict.load("train")["word"]
lengths = torch.tensor([len(word) for word in dictionary])
print(f"{len(lengths):,} words, {lengths.min()} to {lengths.max()} letters, {lengths.float().mean():.1f} on average")


def padding_share(lengths, size):
    """Share of all places that is padding, when words are put into batches in this order."""
    places = sum(len(part) * int(part.max()) for part in lengths.split(size))
    return 1 - int(lengths.sum()) / places


shuffled = lengths[torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0))]
by_length = lengths.sort().values
sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
at_random = [100 * padding_share(shuffled, size) for size in sizes]
in_order = [100 * padding_share(by_length, size) for size in sizes]
print(f"64 words at random: {at_random[6]:.1f} % padding; 64 of like length: {in_order[6]:.2f} %")

# %%
figure, ax = plt.subplots(figsize=(7, 3.6), facecolor="white", layout="constrained")
ax.plot(sizes, at_random, marker="o", color="#0072b2")
ax.plot(sizes, in_order, marker="s", color="#d55e00")
ax.annotate("words at random", (sizes[5], at_random[5]), (6, -16), textcoords="offset points")
ax.annotate("words of like length together", (sizes[-1], in_order[-1]), (-8, 8), textcoords="offset points", ha="right")
ax.set_xscale("log", base=2)
ax.set_xticks(sizes, [str(size) for size in sizes])
ax.set_xlabel("words in a batch")
ax.set_ylabel("padding, % of all places")
ax.set_ylim(bottom=0)
ax.grid(alpha=0.3)
plt.show()

# %% [markdown]
# With words at random, a large part of the work goes into places that nobody reads. Putting words of like length
# together (*bucketing*, lesson 10) saves nearly all of it. Either way the mask must hold, and now we can test that on
# real words: 64 of them in one batch, against each of them alone.

# %%
some = [
    dictionary[i] for i in torch.randperm(len(dictionary), generator=torch.Generator().manual_seed(3))[:64].tolist()
]
batch = cmudict.batch(some)  # (64, the longest)
visible_letters = my_model.padding_mask(batch, cmudict.PAD)  # (64, 1, 1, the longest)
print(batch.shape, f"{100 * (1 - visible_letters.float().mean()):.0f} % padding; the first:", *some[:6])


@torch.no_grad()
def largest_gap(mask):
    """Largest difference between a word in the batch and the same word alone."""
    together, _ = mine(table(batch), mask=mask)  # (64, the longest, 16)
    gaps = []
    for row, word in zip(together, some):
        by_itself, _ = mine(table(cmudict.batch([word])))  # (1, letters, 16)
        gaps.append((row[: len(word)] - by_itself[0]).abs().max().item())
    return max(gaps)


print(f"with the mask:    {largest_gap(visible_letters):.1e}")
print(f"without the mask: {largest_gap(None):.1e}")

# %% [markdown]
# With the mask, what is left is rounding. Without it, each word's output depends on who happened to sit beside it.
#
# ## 8. What you built
#
# A mask says who may attend to whom: `padding_mask` hides the padding, `causal_mask` hides the future, and `&`
# joins them. Your `masked_attention` hides scores *before* the softmax and gives zeros where there is nothing
# to attend to, with clean gradients. `MultiHeadAttention` runs it in several heads and mixes them, and it agrees with
# PyTorch's.
#
# $$\operatorname{softmax}\!\left(\frac{Q K^\top}{\sqrt{d_k}} + B\right) V, \qquad B_{qk} \in \{0, -\infty\}$$
#
# **Next**, lesson 03: letters get vectors and places of their own, and your multi-head attention becomes the heart of
# an encoder.
#
# **Sources**
#
# - Vaswani et al. (2017), *Attention Is All You Need*: section 3.2 has multi-head attention and, in 3.2.3, the
#   causal mask. Of padding it says nothing.
# - Paszke et al. (2019), *PyTorch: An Imperative Style, High-Performance Deep Learning Library*: the library whose
#   conventions you have met.
# - Wolf et al. (2020), *Transformers: State-of-the-Art Natural Language Processing*: the one with `attention_mask`.
#
# To see that all of it holds from a fresh start: **Kernel → Restart Kernel and Run All Cells**. It is safe to close;
# your pieces are in `work/my_model/`.
