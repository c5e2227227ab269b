# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 Attention
#
# A letter rarely says on its own how it is pronounced. It needs its neighbours, and not always the same ones.
# **Attention** is how a network lets each letter choose which other letters it reads. It is four lines of code,
# and in this lesson you write them.
#
# At the end you will be able to
#
# - say what queries, keys and values are, and compute each step of attention by hand;
# - write a softmax that survives scores of 1000;
# - write scaled dot-product attention for any number of batch and head dimensions;
# - say what √d is for, and show it;
# - split features into heads and merge them again, without mixing letters up.
#
# Time: about 90 minutes. Before it: [00 Start here](../00-start-here/start-here.ipynb).
#
# Run this cell first. Your answers are judged with these imports and nothing else.

# %% setup=true
import math

import torch
from torch import nn
from torch.nn import functional as F

from autograder import check, hint, trace

# %% [markdown]
# This is the whole model that you build in this course. Today's parts are lit.

# %%
from crosstalk.map import model_map

model_map("01-attention")

# %% [markdown]
# ## 1. Which letters does a sound need?
#
# Our data is the CMU Pronouncing Dictionary: 111,382 words to train on, each with its phonemes. A phoneme is one
# sound, written in capitals: `K` is the first sound of *cat*.

# %%
import matplotlib.pyplot as plt

from crosstalk.data import cmudict
from crosstalk.plots import heat_map
from crosstalk.widgets import AttentionStages, Predict

torch.set_num_threads(1)  # tiny tensors are fastest on one thread
torch.set_printoptions(precision=3, sci_mode=False)
dictionary = cmudict.load("train")
words = list(dictionary["word"])
sounds = [said[0].split() for said in dictionary["pronunciations"]]  # the first pronunciation of each
says = dict(zip(words, sounds))

print(f"{len(words):,} words")
for word in ["cat", "back", "choir", "cell", "chef"]:
    print(f"{word:6} {' '.join(says[word])}")

# %% [markdown]
# Look for the sound `K`. In *cat* it needs the *c*. In *back* it needs *ck*, and in *choir* it needs *ch*. But *ch*
# is `SH` in *chef*, and the *c* of *cell* is `S`. So what does a *c* at the start of a word say? Let us count, by
# the letter that follows it.

# %%
from collections import Counter

counted = Counter((word[1], said[0]) for word, said in zip(words, sounds) if word[0] == "c" and len(word) > 1)
following, first_sounds = "aeohilruy", ["K", "S", "CH", "SH"]
table = torch.tensor([[counted[letter, sound] for sound in first_sounds] for letter in following])  # (9, 4)
shares = table / table.sum(dim=1, keepdim=True)

heat_map(shares, [f"c{letter}…" for letter in following], first_sounds, "First sound of words that start with c")
# %% [markdown]
# Before *a* or *o* it is nearly always `K`. Before *e* or *i* it is mostly `S`. Before *h* it is `CH`, `K` or `SH`,
# and one neighbour is not enough to tell.
#
# And the letter that matters is not always the next one:

# %%
for short, long in [("mat", "mate"), ("hop", "hope"), ("cut", "cute")]:
    print(f"{short:4} {' '.join(says[short]):9}  {long:5} {' '.join(says[long])}")

# %% [markdown]
# The silent *e* changes a vowel two places before it. So for each letter we want to read the *other letters of the
# word*, and to decide for each word anew which ones matter.
#
# ## 2. Why not take the average?
#
# The easiest way to read all letters at once: give each letter a vector of numbers, and average the vectors.
# Before you see it, predict.

# %%
Predict(
    "We average the letter vectors of *act*, and those of *cat*. How do the two averages compare?",
    {
        "They are the same": "Right: a sum does not care about order, and both words have the same three letters. "
        "The average knows which letters are there and nothing more.",
        "They differ a little, since the order is different": "Order would have to change a sum, and a + c + t is "
        "c + a + t. The two averages are equal.",
        "They are unrelated": "Both averages are made of the same three vectors, each taken a third of the time. "
        "They are equal.",
    },
    right="They are the same",
)

# %% [markdown]
# For that we need letter vectors. We take some that mean something although nothing has been trained: for each
# letter we **count** which letters stand right before and right after it in the dictionary. That gives 52 numbers a
# letter. A singular value decomposition (SVD) then keeps the 8 directions in which letters differ most.

# %%
alphabet = "abcdefghijklmnopqrstuvwxyz"
number = {letter: index for index, letter in enumerate(alphabet)}

pairs = Counter()
for word in words:
    pairs.update(zip(word, word[1:]))
after = torch.tensor([[pairs[one, other] for other in alphabet] for one in alphabet], dtype=torch.float)  # (26, 26)
counts = torch.cat([after, after.T], dim=1)  # (26, 52): who comes after me, who came before me

neighbours = (counts / counts.sum(dim=1, keepdim=True)).sqrt()  # the root keeps rare letters from vanishing
U, S, _ = torch.linalg.svd(neighbours - neighbours.mean(dim=0), full_matrices=False)
vectors = U[:, :8] * S[:8]  # (26, 8)
vectors = 2 * F.normalize(vectors, dim=-1)  # all of length 2: only the direction tells letters apart


def embed(word):
    """The letters of a word as vectors: (letters, 8)."""
    return vectors[[number[letter] for letter in word]]


print("x          ", tuple(embed("cat").shape), "for cat")
print("average act", embed("act").mean(dim=0)[:4])
print("average cat", embed("cat").mean(dim=0)[:4])

# %% [markdown]
# The same. Two more faults: every letter gets the same weight, so in a word of 28 letters each counts 1/28; and every
# *place* gets the same average, so *c* and *t* learn the same thing about *cat*.
#
# Attention mends the weights. It keeps the sum, but each letter chooses its own weights for it. (Order is mended in
# lesson 03, by giving each place a vector of its own.)
#
# ## 3. How alike are two vectors? The dot product
#
# The choice is made by comparing vectors. The **dot product** multiplies two vectors place by place and adds up:
# $q \cdot k = \sum_i q_i k_i$. It is large where both point the same way, and negative where they oppose.

# %%
a, e, c = (vectors[number[letter]] for letter in "aec")  # (8,) each

print(f"a · e = {(a * e).sum():5.2f}")
print(f"a · c = {a @ c:5.2f}      (@ does the same in one step)")

for letter in "aekt":
    likeness = F.cosine_similarity(vectors[number[letter]][None], vectors)  # (26,)
    nearest = [alphabet[i] for i in likeness.argsort(descending=True)[1:5]]
    print(f"nearest to {letter}:", " ".join(nearest))

# %% [markdown]
# Nobody told these vectors what a vowel is. Vowels are alike because they have the same neighbours.
#
# Now all pairs at once. With one letter a row, the matrix product of $X$ with its own transpose holds every dot
# product: row *i*, column *j* compares letter *i* with letter *j*. These numbers are the **scores**.

# %%
x = embed("choir")  # (letters, d) = (5, 8)
scores = x @ x.T  # (queries, keys) = (5, 5)
print(scores)

# %% [markdown]
# Two words for two roles. The letter that asks is the **query**: its row. A letter that is asked is a **key**: its
# column. Here the same vectors play both roles, so a letter looks for letters like itself. In a trained model queries
# and keys are made from $X$ by two learnt matrices, and a letter can look for anything that helps. You will see that
# at the end of this lesson.
#
# ## 4. From scores to shares: the softmax
#
# We want weights: none negative, and each row summing to one. Scores are neither. The **softmax** makes each score
# positive with the exponential, and divides by the sum:
#
# $$\text{softmax}(s)_j = \frac{e^{s_j}}{\sum_k e^{s_k}}$$

# %%
row = scores[0]  # what c sees: (5,)
exponentials = torch.exp(row)  # all positive, larger scores stay larger
weights = exponentials / exponentials.sum()

for letter, score, exponential, weight in zip("choir", row, exponentials, weights):
    print(f"{letter}   score {score:6.2f}   exp {exponential:8.2f}   share {weight:.3f}")
print(f"sum of the shares: {weights.sum():.3f}")

# %%
Predict(
    "We add 5 to every score of one row, and take the softmax again. What becomes of the row of weights?",
    {
        "All weights grow": "They cannot all grow: they sum to one. Each exponential is multiplied by e⁵, and so is "
        "their sum. It cancels.",
        "It becomes sharper": "Sharper would mean larger *differences* between scores. Adding 5 to all leaves every "
        "difference as it was.",
        "Nothing changes": "Right: e^(s + 5) = e⁵ · e^s, above and below the line, and it cancels. Only differences "
        "of scores count.",
    },
    right="Nothing changes",
)

# %% [markdown]
# That is not only a curiosity. It saves the softmax on a computer. Here is why it needs saving:

# %%
print("e¹⁰⁰⁰     =", torch.exp(torch.tensor(1000.0)))
large = torch.tensor([1000.0, 999.0])
print("softmax   =", torch.exp(large) / torch.exp(large).sum())

# %% [markdown]
# $e^{1000}$ does not fit into a float: it is `inf`, and `inf / inf` is `nan`, not a number. One `nan` spoils a whole
# training run. But you may add any number to a row. So add one that makes the largest score 0.
#
# ### Exercise 1: `softmax`
#
# Difficulty ●●○○○ · importance ●●●○○ · about 10 minutes
#
# $$\text{softmax}(s)_j = \frac{e^{s_j - \max_k s_k}}{\sum_k e^{s_k - \max_k s_k}}$$
#
# - `scores`: any shape, float32 or float64. `dim`: along which the shares sum to one.
# - Returns probabilities of the same shape.
# - Exact for rows near 1000 and for rows near −1000, each alone and both in the same tensor.
# - Torch's own softmax is not allowed in this one; all else is.
#
# ```python
# softmax(torch.tensor([[1000.0, 999.0], [0.0, 0.0]]))  # tensor([[0.7311, 0.2689], [0.5000, 0.5000]])
# ```


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

# %% [markdown]
# Stuck? Each run of the next cell gives one more hint.
#
# The cells after it use your answer. If you would rather come back later, put `from crosstalk.my_model import softmax`
# into a new cell and run it: that gives you a stand-in. It works for every exercise.

# %%
hint("softmax")

# %% [markdown]
# Your softmax on the scores of *choir*, all rows at once:

# %%
weights = softmax(scores)  # (queries, keys) = (5, 5)
print("rows sum to   ", weights.sum(dim=-1))
print("columns sum to", weights.sum(dim=-2))
heat_map(weights, list("choir"), list("choir"), "Each row is a query, each column a key")
# %% [markdown]
# Read it by rows. The row of *o* says how *o* spreads its attention: most on itself and on the other vowel, *i*. The
# rows sum to one; the columns need not, a column can be popular. (Here they nearly do, since the same vectors ask and
# answer, and so the scores are symmetric.)
#
# ## 5. What is carried: the values
#
# The weights say *where* to read. What is read there is the **value**. The output of a query is the weighted sum of
# all values:
#
# $$\text{output}_i = \sum_j w_{ij}\, v_j \qquad\text{or, for all queries at once,}\qquad WV$$

# %%
weights = softmax(scores)  # (queries, keys) = (5, 5)
by_hand = sum(weights[2, j] * x[j] for j in range(5))  # the output of query 2, o: (8,)
at_once = weights @ x  # (5, 5) @ (5, 8) = (5, 8)
print(by_hand[:4])
print(at_once[2, :4])

# %% [markdown]
# Queries and keys must be equally wide, since they are multiplied: that width is $d_k$. There must be as many
# values as keys, since each value belongs to a key. But values may have a width of their own, $d_v$, and there may
# be more or fewer queries than keys.
#
# | symbol | what it is | shape |
# |---|---|---|
# | $Q$ | queries: who asks | (…, queries, $d_k$) |
# | $K$ | keys: who is compared | (…, keys, $d_k$) |
# | $V$ | values: what is carried | (…, keys, $d_v$) |
# | $QK^\top$ | scores | (…, queries, keys) |
# | weights | softmax of the scores, along the keys | (…, queries, keys) |
# | output | weights times values | (…, queries, $d_v$) |
#
# The dots stand for any dimensions in front, such as batch and heads. `@` leaves them alone. `X.transpose(-2, -1)`
# swaps only the last two; `X.T` would swap all.
#
# ## 6. Why √d?
#
# One thing is missing. Watch what happens to dot products when vectors get wider. The entries are random, with mean 0
# and standard deviation 1:

# %%
generator = torch.Generator().manual_seed(0)
for d in [4, 16, 64, 256]:
    q, k = torch.randn(2, 2000, d, generator=generator)
    print(f"d = {d:3}   spread of q · k: {(q * k).sum(dim=-1).std():5.2f}   √d = {math.sqrt(d):5.2f}")

# %% [markdown]
# A dot product adds up $d$ independent terms, each of variance 1. Variances add, so its variance is $d$ and its
# standard deviation $\sqrt d$. Wide vectors give large scores, only because they are wide. What do large scores do to
# a softmax?

# %%
Predict(
    "We double the queries, so that every score of a row doubles. What becomes of the row of weights?",
    {
        "It doubles": "The softmax divides by the sum of the row, so the row still sums to one. It cannot double.",
        "Nothing: it is normalised": "Adding a number cancels, multiplying does not: the *differences* between scores "
        "double too, and the differences are what counts.",
        "It becomes sharper": "Right: the differences double, so the ratio of two weights is squared. The largest "
        "takes more, the small ones next to nothing.",
    },
    right="It becomes sharper",
)

# %%
for factor in [1, 2, 4]:
    print(f"scores × {factor}:", softmax(factor * scores[2]))
print("scores + 5:", softmax(scores[2] + 5))

# %% [markdown]
# So without care, a wide head starts with weights that are nearly all 0 or 1, for no reason but its width. Dividing
# the scores by $\sqrt{d_k}$ brings their spread back to 1, whatever the width:
#
# $$\text{Attention}(Q, K, V) = \text{softmax}\!\left(\frac{QK^\top}{\sqrt{d_k}}\right) V$$
#
# ### Exercise 2: `scaled_dot_product_attention`
#
# Difficulty ●●●○○ · importance ●●●●● · about 20 minutes · a main one
#
# This is the one that matters: everything later in the course calls it.
#
# - `query` (…, queries, $d_k$), `key` (…, keys, $d_k$), `value` (…, keys, $d_v$). There may be no dimension in front,
#   or batch, or batch and heads: write it so that it works for all.
# - Returns `output` (…, queries, $d_v$) and `weights` (…, queries, keys), in this order.
# - Use your `softmax`. Torch's `F.scaled_dot_product_attention` is not allowed in this one.
#
# ```python
# x = embed("choir")
# output, weights = scaled_dot_product_attention(x, x, x)  # (5, 8) and (5, 5)
# ```


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

# %%
hint("scaled_dot_product_attention")

# %% [markdown]
# If shapes confuse you, let your code tell you: `trace` runs your answer on one case and shows what each line made.

# %%
trace("scaled_dot_product_attention")

# %% [markdown]
# ### Look inside
#
# The widget shows every stage for the letters of *education*, and puts the weights that **your function** gives
# beside its own. The vectors are the counted ones from above. Nothing is trained: letters attend to letters that
# have the same neighbours.
#
# Try this:
#
# 1. Go to the row of *u*. Which letters get most of its weight? And the row of *c*?
# 2. The word has no letter twice. What would two equal letters do? Change the word in the cell to *banana* and look
#    at the three rows of *a*.
# 3. Switch √d off. The rows get sharper. Then move the slider below to 512 and compare the two tables.
#
# <details><summary>A still picture of it, with another word, for reading without a kernel</summary>
#
# ![Scores, weights and output for the letters of a word; curves with and without √d](attachment:attention_stages.png)
#
# </details>

# %%
word = "education"
letters = embed(word)[None]  # (heads, letters, d) = (1, 9, 8)
AttentionStages(letters, letters, letters, tokens_q=list(word), attention=scaled_dot_product_attention)

# %% [markdown]
# ### A thousand words at once
#
# Nothing in your function knows about batches, and yet it takes them. Here are 1,000 words of eight letters. (Words
# of different lengths need padding and a mask: that is lesson 02.)

# %%
eight = [word for word in words if len(word) == 8 and word.isalpha()][::10][:1000]
batch = torch.stack([embed(word) for word in eight])  # (batch, letters, d) = (1000, 8, 8)
output, batch_weights = scaled_dot_product_attention(batch, batch, batch)
print("batch", tuple(batch.shape), " output", tuple(output.shape), " weights", tuple(batch_weights.shape))

is_vowel = torch.tensor([[letter in "aeiou" for letter in word] for word in eight])  # (1000, 8)
to_vowels = (batch_weights * is_vowel[:, None, :]).sum(dim=-1)  # (1000, 8): the weight each letter gives to vowels
print(f"letters that are vowels:           {is_vowel.float().mean():.0%}")
print(f"weight that vowels give to vowels: {to_vowels[is_vowel].mean():.0%}")
print(f"weight that others give to vowels: {to_vowels[~is_vowel].mean():.0%}")

# %% [markdown]
# ## 7. Break it: no √d
#
# What goes wrong without √d? Let us measure two things on random queries and keys, for widths from 4 to 512.
#
# - The **entropy** of a row, $-\sum_j w_j \ln w_j$: 0 if one key has all the weight, $\ln 16 = 2.77$ if 16 keys share
#   it equally.
# - The **gradient**: how much a row of weights moves when its scores move. For the softmax that is the matrix
#   $\text{diag}(w) - w w^\top$, and we take its norm. Where it is exactly 0, queries and
#   keys cannot learn.
#
# To switch off the division in your function we multiply the queries by √d first. That undoes it.


# %%
def entropy_and_gradient(d, divided):
    """Means over 64 × 16 rows of 16 keys, with standard normal queries and keys of width d."""
    generator = torch.Generator().manual_seed(d)
    query, key = torch.randn(2, 64, 16, d, generator=generator)  # (batch, 16, d) each
    if not divided:
        query = query * math.sqrt(d)
    _, w = scaled_dot_product_attention(query, key, key)  # (64, 16, 16)
    entropy = -torch.xlogy(w, w).sum(dim=-1)
    jacobian = torch.diag_embed(w) - w[..., :, None] * w[..., None, :]  # (64, 16, 16, 16)
    return entropy.mean().item(), jacobian.flatten(-2).norm(dim=-1).mean().item()


widths = [4, 8, 16, 32, 64, 128, 256, 512]
figure, axes = plt.subplots(1, 2, figsize=(9, 3), facecolor="white", layout="constrained")
for divided, style, label in [(True, "o-", "divided by √d"), (False, "s--", "not divided")]:
    measured = torch.tensor([entropy_and_gradient(d, divided) for d in widths])  # (widths, 2)
    print(f"{label:14} at d = 512: entropy {measured[-1, 0]:.2f}, gradient {measured[-1, 1]:.3f}")
    for ax, values in zip(axes, measured.T):
        ax.plot(widths, values, style, label=label)
for ax, title in zip(axes, ["entropy of a row (nats)", "gradient through the softmax"]):
    ax.set(xscale="log", xticks=widths, xticklabels=widths, xlabel="d", title=title, ylim=0)
    ax.minorticks_off()
    ax.legend()
# %% [markdown]
# Divided, nothing depends on the width. Not divided, a wide head points at one key before it has learnt anything,
# and its weights hardly react when the scores change a little. (This is the gradient through the softmax alone.
# Vaswani et al. write that they *suspect* it to be what hurts.)
#
# Does it then train worse? That depends on how wide one head is. Remember the question: we answer it in section 9, by
# training.
#
# ## 8. Several heads
#
# One attention gives one row of weights per letter. But the *c* of *chef* may need two things: to know that it is
# itself a *c*, and which letter follows. One row that looks at both mixes them into one sum. So we let several
# **heads** attend side by side, each with its own queries, keys and values.
#
# No features are added for that. The $d_{\text{model}}$ features are *divided*: with 4 features and 2 heads,
# head 0 gets the first two, head 1 the last two. Then $d_k = d_{\text{model}} / \text{heads}$, and every head runs
# through your function at once, as a dimension in front:
#
# ```text
# (batch, length, d_model)         states
#      │ split
# (batch, heads, length, d_head)   each head's queries, keys and values: your attention runs on these
#      │ merge
# (batch, length, d_model)         the heads' outputs, side by side
# ```
#
# Two tools do it. `reshape` cuts the same row of numbers anew, in the same order; `transpose(i, j)` swaps two
# dimensions. You need both.
#
# To see where each number goes, here is a word of three letters with four features. 20 is letter 2, feature 0.

# %%
states = torch.tensor([[[10, 11, 12, 13], [20, 21, 22, 23], [30, 31, 32, 33]]])  # (batch, length, d_model) = (1, 3, 4)
print("head 0 should hold\n", states[0, :, :2])
print("head 1 should hold\n", states[0, :, 2:])

# %% [markdown]
# ### Exercise 3: `split_heads`
#
# Difficulty ●●○○○ · importance ●●●●○ · about 10 minutes
#
# - `states` (batch, length, d_model) and the number of `heads`, which divides d_model.
# - Returns (batch, heads, length, d_head), with d_head = d_model // heads. Head *h* holds the *h*-th block of
#   neighbouring features.
#
# ```python
# split_heads(states, heads=2)[0, 0]  # tensor([[10, 11], [20, 21], [30, 31]])
# ```


# %% answer="split_heads"
def split_heads(states, heads):
    """(batch, length, d_model) → (batch, heads, length, d_head)."""
    ### BEGIN SOLUTION
    batch, length, d_model = states.shape
    separate = states.reshape(batch, length, heads, d_model // heads)  # each letter's features, cut into blocks
    return separate.transpose(1, 2)  # (batch, heads, length, d_head)
    ### END SOLUTION


# %% check="split_heads"
check("split_heads")

# %%
hint("split_heads")

# %% [markdown]
# ### Exercise 4: `merge_heads`
#
# Difficulty ●●○○○ · importance ●●●●○ · about 10 minutes
#
# The way back: the heads' features side by side again, for each letter.
#
# - `states` (batch, heads, length, d_head).
# - Returns (batch, length, d_model), with d_model = heads × d_head.
#
# ```python
# merge_heads(split_heads(states, heads=2))  # states again
# ```


# %% answer="merge_heads"
def merge_heads(states):
    """(batch, heads, length, d_head) → (batch, length, d_model)."""
    ### BEGIN SOLUTION
    batch, heads, length, d_head = states.shape
    separate = states.transpose(1, 2)  # (batch, length, heads, d_head)
    return separate.reshape(batch, length, heads * d_head)
    ### END SOLUTION


# %% check="merge_heads"
check("merge_heads")

# %%
hint("merge_heads")

# %% [markdown]
# ### Break it: a test that passes
#
# Here is a shorter way to split and merge, with one `view` or `reshape` each and no transpose. The shapes are right.
# Somebody tests it: does merging undo splitting?


# %%
def wrong_split(states, heads):
    batch, length, d_model = states.shape
    return states.view(batch, heads, length, d_model // heads)


def wrong_merge(states):
    batch, heads, length, d_head = states.shape
    return states.reshape(batch, length, heads * d_head)


# %%
Predict(
    "Is `wrong_merge(wrong_split(states, 2))` equal to `states`?",
    {
        "Yes": "Right: one view undoes the other, whatever they mix up on the way. The test passes and proves nothing.",
        "No, the features are mixed up": "They are mixed up in between. But the second view undoes the first exactly, "
        "so what comes out is what went in.",
        "Only if there are as many heads as letters": "The shapes play no part: a view never moves a number in memory, "
        "so two views that end in the first shape always give back the first tensor.",
    },
    right="Yes",
)

# %%
print("merge(split(x)) == x:", torch.equal(wrong_merge(wrong_split(states, 2)), states))
print("head 0, wrong\n", wrong_split(states, 2)[0, 0])
print("head 0, yours\n", split_heads(states, 2)[0, 0])

# %% [markdown]
# The round trip passes. But the rows of the wrong head 0 are letter 1, letter 1 again, and half of letter 2. Attention
# over them would compare a letter with itself. The model would still train, and perhaps score nearly as well, so nobody
# would notice. That is why the check looks at the heads themselves.
#
# ## 9. On real data
#
# Now the question of section 2, with training. The task: read the first six letters of a word, and say its **first
# sound**. For many words the first letter is enough; for *knight*, *phoned* and *cellar* it is not.
#
# The model is as small as it can be. Each letter's vector is learnt, and so is a vector for each of the six places,
# so that order counts. The first letter asks, all six answer. Three learnt matrices make queries, keys and
# values from the vectors. The rest in between is yours: `split_heads`, attention, `merge_heads`.

# %%
LETTERS = 6  # all words cut to the same length, so that no padding is needed


def letters_and_sound(split):
    """Ids of the first six letters (words, 6), and of the first phoneme (words,)."""
    rows = cmudict.load(split)
    chosen = [(w, said[0].split()[0]) for w, said in zip(rows["word"], rows["pronunciations"])
              if len(w) >= LETTERS and w.isalpha()]  # fmt: skip
    letters = torch.tensor([cmudict.letters_to_ids(w[:LETTERS]) for w, _ in chosen])
    return letters, torch.tensor([cmudict.PHONEMES.index(sound) for _, sound in chosen])


train_letters, train_sounds = letters_and_sound("train")
test_letters, test_sounds = letters_and_sound("test")
print(f"{len(train_letters):,} words to train on, {len(test_letters):,} to test on, none of them related")

most_common = torch.zeros(len(cmudict.LETTERS), dtype=torch.long)
for letter in train_letters[:, 0].unique():
    most_common[letter] = train_sounds[train_letters[:, 0] == letter].mode().values
known_by_first = (most_common[test_letters[:, 0]] == test_sounds).float().mean()
print(f"the first letter's most common sound is right for {known_by_first:.1%}")


# %%
class FirstSound(nn.Module):
    """Says the first sound of a word: its first letter attends to the first six."""

    def __init__(self, heads, attention, d_model=64):
        super().__init__()
        self.letter = nn.Embedding(len(cmudict.LETTERS), d_model)
        self.place = nn.Parameter(torch.randn(LETTERS, d_model))
        self.query, self.key, self.value = (nn.Linear(d_model, d_model, bias=False) for _ in range(3))
        self.sound = nn.Linear(d_model, len(cmudict.PHONEMES))
        self.heads, self.attention = heads, attention

    def forward(self, letters):
        x = self.letter(letters) + self.place  # (batch, 6, d_model)
        query = split_heads(self.query(x[:, :1]), self.heads)  # (batch, heads, 1, d_head): only the first letter asks
        key = split_heads(self.key(x), self.heads)  # (batch, heads, 6, d_head)
        value = split_heads(self.value(x), self.heads)  # (batch, heads, 6, d_head)
        output, weights = self.attention(query, key, value)
        return self.sound(merge_heads(output)[:, 0]), weights  # (batch, 42), (batch, heads, 1, 6)


def average(query, key, value):
    """No choice: every letter has the same weight."""
    weights = torch.full((*query.shape[:-1], key.size(-2)), 1 / key.size(-2))
    return weights @ value, weights


def not_divided(query, key, value):
    return scaled_dot_product_attention(query * math.sqrt(query.size(-1)), key, value)


def trained(heads, attention, seed=0, steps=300):
    """A model after 300 steps of 256 words, and its share of right sounds on the test words."""
    torch.manual_seed(seed)
    model = FirstSound(heads, attention)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        chosen = torch.randint(len(train_letters), (256,))
        loss = F.cross_entropy(model(train_letters[chosen])[0], train_sounds[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right = (model(test_letters)[0].argmax(dim=-1) == test_sounds).float().mean().item()
    return model, right


# %% [markdown]
# A few seconds each:

# %%
_, by_average = trained(heads=1, attention=average)
_, one_head = trained(heads=1, attention=scaled_dot_product_attention)

print(f"first letter alone  {known_by_first:.1%}")
print(f"average             {by_average:.1%}")
print(f"attention, 1 head   {one_head:.1%}")

# %% [markdown]
# The average does not even know which letter comes first (the vectors of the places are averaged too, to the same sum
# for every word), and falls far below the first letter alone. One head does
# about as well as that letter: one row of weights has to serve both the first letter and its neighbours.
#
# Now four heads, with the same number of parameters to train. Where do they look? In each picture a row is a word,
# and the colour of a letter is the weight that the *first* letter gives it.

# %%
model, four_heads = trained(heads=4, attention=scaled_dot_product_attention)
print(f"attention, 4 heads  {four_heads:.1%}")

shown = ["chrome", "cellar", "cotton", "knight", "phoned", "gentle", "garlic", "shadow", "scheme", "writer"]
with torch.no_grad():
    _, head_weights = model(cmudict.batch(shown))  # (10, heads, 1, 6)

figure, axes = plt.subplots(1, 4, figsize=(11, 3.6), facecolor="white", layout="constrained")
for head, ax in enumerate(axes):
    heat_map(head_weights[:, head, 0], shown, range(1, 7), f"head {head}", ax=ax, cells=[list(word) for word in shown])
    if head:
        ax.set_yticks([])

# %% [markdown]
# Four heads beat both the first letter and the single head. Look for a head that reads the first letter of nearly every
# word, and for one that reads the *h* of *chrome* and *shadow* but the *c* of *cotton*. The weights depend on the word:
# that is what an average could not do.
#
# Beware of reading more into them than there is. Weights show where a head reads, not why the model answers as it does.
# How far they explain anything is disputed (Jain & Wallace 2019; Wiegreffe & Pinter 2019).
#
# And the promise of section 7: does leaving out √d hurt training? One head of width 64, and four of width 16, two
# seeds each.

# %%
for heads in [1, 4]:
    for label, attention in [("divided", scaled_dot_product_attention), ("not divided", not_divided)]:
        rights = [trained(heads, attention, seed)[1] for seed in (1, 2)]
        print(f"heads = {heads}, d_k = {64 // heads:2}, {label:12}", "  ".join(f"{right:.1%}" for right in rights))

# %% [markdown]
# With four narrow heads there is hardly a difference: training finds its way without √d. With one wide head it costs
# a lot. The curves of section 7 point the same way: at 16 less of the gradient is lost than at 64. They do not prove
# that this is the cause. (And two seeds and one learning rate show a direction, not a law.) The models of this course
# have narrow heads and would train without √d too. The heads of large models are often 64 to 128 wide.
#
# ## 10. What you built
#
# Each query compares itself with all keys; a softmax turns the scores into shares; the shares weigh the values.
# Dividing by √d keeps the shares soft, whatever the width. Heads are several such attentions side by side, each on
# its own block of features, after learnt matrices have mixed them.
#
# $$\text{Attention}(Q, K, V) = \text{softmax}\!\left(\frac{QK^\top}{\sqrt{d_k}}\right) V$$
#
# **Next:** in lesson 02 words of different lengths meet in one batch, and some letters must not be read. You write
# the masks, and put today's pieces together to a `MultiHeadAttention`.
#
# **Sources**
#
# - Vaswani et al. (2017), *Attention Is All You Need*: the formula, √d and heads, in section 3.2.
# - Bahdanau, Cho & Bengio (2015), *Neural Machine Translation by Jointly Learning to Align and Translate*: the
#   first attention of this kind, from a decoder to an encoder.
# - Jain & Wallace (2019), *Attention is not Explanation*, and Wiegreffe & Pinter (2019), *Attention is not not
#   Explanation*.
