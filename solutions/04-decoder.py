# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 The decoder
#
# **How what is written reads what was given.** Your encoder turns letters into the memory H, one row for each letter.
# The decoder writes phonemes, one after the other. Before each it looks back at what it has written so far, and
# across at the letters. This *looking across* is cross-attention. It is what makes an encoder-decoder out of two
# halves.
#
# At the end you will be able to
#
# - say of each attention in the model where its queries, keys and values come from, and which mask it needs;
# - compute the keys and values of a memory once, and use them for every token that is written;
# - build a decoder layer, stack it, and show that it equals PyTorch's, number by number;
# - put the whole model together and run it on real words;
# - look at the cross-attention weights of a trained model, and say what they tell and what they do not.
#
# Time: about 130 minutes. Stop where you like: what has passed is kept. Before it:
# [03 The encoder](../03-encoder/encoder.ipynb).
#
# Run this cell first. Your answers are judged with these imports and nothing else.

# %% setup=true
import torch
from torch import nn
from torch.nn import functional as F

from autograder import check, hint, trace
from crosstalk.layers import FeedForward
from crosstalk.my_model import LayerNorm, MultiHeadAttention, causal_mask, merge_heads, split_heads

# %% [markdown]
# The next cell brings what this lesson shows things with. `FeedForward` is the block that lesson 03 gave you. All else
# that you build on is your own, where it has passed, and a stand-in until then.

# %%
import matplotlib.pyplot as plt

from crosstalk import my_model
from crosstalk.data import cmudict
from crosstalk.map import model_map
from crosstalk.plots import heat_map
from crosstalk.widgets import Alignment, Predict

torch.set_num_threads(1)  # small tensors: a second thread would only get in the way
torch.set_printoptions(precision=3, sci_mode=False)
model_map("04-decoder")

# %% [markdown]
# ## 1. Who asks, and who answers
#
# The word of this lesson is *thoughts*: eight letters, said `TH AO T S`. Two letters make one sound at its beginning,
# four at its middle: nothing lines up by place. So the decoder has to find out, at each step, which letters matter
# now.
#
# We need two things. The **memory**: the letters, gone through an encoder. And the **decoder's states**: one row for
# each token that the decoder has read. As in lesson 02, it reads y moved one place on: `<start>` first, `<end>` left
# off. The encoder below is yours, with random weights. Nothing in this lesson is trained until section 7.

# %%
word, said = "thoughts", "TH AO T S"
source = cmudict.batch([word])  # (1, 8)
target = torch.tensor([[cmudict.START, *cmudict.phonemes_to_ids(said, end=False)]])  # (1, 5)
letters = list(word)
inputs = [cmudict.PHONEMES[i] for i in target[0].tolist()]  # what each row has read last
print(letters)
print(inputs)

# %%
torch.manual_seed(0)
d_model, heads = 48, 4
letter_embedding = my_model.TokenEmbedding(len(cmudict.LETTERS), d_model, cmudict.PAD)
phoneme_embedding = my_model.TokenEmbedding(len(cmudict.PHONEMES), d_model, cmudict.PAD)
encoder = my_model.Encoder(2, d_model, heads, 96)

with torch.no_grad():
    memory = encoder(letter_embedding(source))  # (1, 8, 48)
    states = phoneme_embedding(target)  # (1, 5, 48)
print("memory", tuple(memory.shape), "# (batch, source, d_model)")
print("states", tuple(states.shape), "# (batch, target, d_model)")

# %% [markdown]
# ### Predict
#
# Eight letters, five tokens, four heads. In cross-attention each token of the decoder spreads a weight of 1 over what
# it reads.

# %%
Predict(
    "What shape do the weights of cross-attention have, for a batch of B?",
    {
        "(B, 4, 8, 5)": "That has a row for each letter: the letters would ask and the tokens answer. It is the "
        "decoder that wants to know something, so its tokens are the rows.",
        "(B, 4, 5, 5)": "That is self-attention: tokens reading tokens. Nothing of the eight letters would be in it.",
        "(B, 4, 5, 8)": "Queries are rows, keys are columns: five tokens ask, eight letters are asked, in each of "
        "four heads.",
        "(B, 5, 8)": "That would be one table. Each head has its own, and this course never averages them.",
    },
    right="(B, 4, 5, 8)",
)

# %%
torch.manual_seed(1)
attention = my_model.MultiHeadAttention(d_model, heads)
with torch.no_grad():
    output, weights = attention(states, memory)  # queries from states; keys and values from memory
print("output ", tuple(output.shape), "# (batch, target, d_model)")
print("weights", tuple(weights.shape), "# (batch, heads, target, source)")

# %% [markdown]
# You have had it since lesson 02: `MultiHeadAttention` takes a second tensor. All of cross-attention is in where
# things come from:
#
# $$\operatorname{cross}(S, H) = \operatorname{softmax}\!\left(\frac{Q K^\top}{\sqrt{d_k}} + B\right) V,
# \qquad Q = S\,W_Q,\quad K = H\,W_K,\quad V = H\,W_V$$
#
# | symbol | in the code | shape here |
# |---|---|---|
# | $S$ | `states`, normed, of the decoder | (1, 5, 48) |
# | $H$ | `memory` | (1, 8, 48) |
# | $Q$ | `attention.query(states)`, split | (1, 4, 5, 12) |
# | $K$, $V$ | `attention.key(memory)`, `attention.value(memory)`, split | (1, 4, 8, 12) |
# | $B$ | 0 where the mask allows, -∞ where not | (1, 4, 5, 8), or what broadcasts to it |
#
# (Each Linear layer also adds its bias, and the heads are merged and mixed at the end, as ever.) Mind that the output
# has the *target's* length: a row for each question, made of values that come from the letters.
#
# | attention | queries | keys and values |
# |---|---|---|
# | of the encoder | letters | letters |
# | of the decoder, on itself | tokens so far | tokens so far |
# | **across** | **tokens so far** | **letters** |

# %% [markdown]
# ## 2. Keys and values, once
#
# When the model speaks, it writes one token, reads it, and writes the next. With each token the states change, and so
# do the queries. But the memory is the same all the time: **the source does not change while it is being read**. So
# $K$ and $V$ need to be made only once for a word, and every step uses them again. What would it cost not to?

# %%
steps = len(inputs)  # four phonemes and <end>
width = 128  # of the model that lesson 05 trains
once = 2 * len(letters) * width * width  # two Linear layers, each row times a (width, width) matrix
print(f"K and V of {word!r} in one layer, made once: {once:>9,} multiplications")
print(f"made anew at each of the {steps} steps:          {steps * once:>9,}")

# %% [markdown]
# So cross-attention falls into two halves: one that happens once a word, and one that happens at each step. You write
# them one by one. (In training all steps go through at once, and each half runs once. Lesson 07 makes use of the
# difference.)
#
# ### Exercise 1: `project_memory`
#
# Difficulty ●●○○○ · importance ●●●○○ · about 10 minutes
#
# The first half. `attention` is a `MultiHeadAttention`: it has the Linear layers `query`, `key`, `value` and `output`,
# and the number `heads`.
#
# ```
# project_memory(attention, memory) → keys, values
# memory  (batch, source, d_model)
# keys    (batch, heads, source, d_head)
# values  (batch, heads, source, d_head)
# ```
#
# ```python
# keys, values = project_memory(attention, memory)  # for our word, each (1, 4, 8, 12)
# ```


# %% answer="project_memory"
def project_memory(attention, memory):
    """(batch, source, d_model) → keys and values, each (batch, heads, source, d_head)."""
    ### BEGIN SOLUTION
    keys = split_heads(attention.key(memory), attention.heads)  # (batch, heads, source, d_head)
    values = split_heads(attention.value(memory), attention.heads)  # (batch, heads, source, d_head)
    return keys, values
    ### END SOLUTION


# %% check="project_memory"
check("project_memory")

# %%
hint("project_memory")

# %% [markdown]
# ### Exercise 2: `cross_attention`
#
# Difficulty ●●●○○ · importance ●●●●● · about 20 minutes · a main one
#
# The second half: ask, with keys and values that are there already.
#
# ```
# cross_attention(attention, states, keys, values, memory_mask=None) → output, weights
# states         (batch, target, d_model)
# keys, values   (batch, heads, source, d_head), from project_memory
# memory_mask    bool, broadcasts to (batch, heads, target, source), None hides nothing
# output         (batch, target, d_model)
# weights        (batch, heads, target, source), just as `attention.attention` gives them
# ```
#
# What each head does is `attention.attention`, called once as `(queries, keys, values, mask)`. By default that is your
# `masked_attention`. For training, a fused one is put in its place: it gives None for the weights, so pass on what you
# get.
#
# ```python
# output, weights = cross_attention(attention, states, keys, values)  # (1, 5, 48) and (1, 4, 5, 8)
# ```


# %% answer="cross_attention"
def cross_attention(attention, states, keys, values, memory_mask=None):
    """Attend from the decoder's states to the memory's keys and values: output and weights."""
    ### BEGIN SOLUTION
    queries = split_heads(attention.query(states), attention.heads)  # (batch, heads, target, d_head)
    carried, weights = attention.attention(queries, keys, values, memory_mask)  # weights (batch, heads, target, source)
    return attention.output(merge_heads(carried)), weights
    ### END SOLUTION


# %% check="cross_attention"
check("cross_attention")

# %%
hint("cross_attention")

# %% [markdown]
# `trace` runs your answer on its first case and shows, line by line, what each line made. Give each step a name, and
# `trace` shows it:

# %%
trace("cross_attention")

# %% [markdown]
# Put together, the two halves must give what `MultiHeadAttention` gives in one go.

# %%
with torch.no_grad():
    keys, values = my_model.project_memory(attention, memory)  # (1, 4, 8, 12) each
    in_two_halves, half_weights = my_model.cross_attention(attention, states, keys, values)
print(f"largest difference in the output:  {(in_two_halves - output).abs().max():.1e}")
print(f"largest difference in the weights: {(half_weights - weights).abs().max():.1e}")

# %% [markdown]
# And this is what they look like before any training. Rows are the tokens that the decoder has read, columns the
# letters. Every row sums to 1.

# %%
heat_map(weights[0, 0], inputs, letters, "Cross-attention weight, head 0, untrained")
plt.show()

# %% [markdown]
# Random layers give random weights. Even ones would be 1/8 = 0.125; here they go from 0.05 to 0.26. The column of the s
# is the brightest in three of the five rows, so even a random head has its likings. They come from the numbers that
# were drawn, not from how the word is said. Which letter to read when is what training has to find.
#
# ## 3. Three attentions, three masks
#
# ### Predict
#
# The encoder hides the padding of the source. The decoder's self-attention hides the future. Now the third one, with
# tokens as queries and letters as keys.

# %%
Predict(
    "What does the mask of cross-attention hide?",
    {
        "The future: a causal mask": "The letters are all known before the first token is written. *thoughts* needs "
        "its last letters to know what to do with `o`. Only what is being *written* has a future.",
        "The padding of the source": "Columns are letters, so what can be hidden is letters: those that are padding.",
        "The padding of the target": "Its columns would be tokens, and here the columns are letters. Padded tokens are "
        "*rows* here; what comes out of them is never used.",
        "Nothing": "In a batch the short words are padded, and a padded place of the memory holds numbers like any "
        "other. Without a mask it takes its share.",
    },
    right="The padding of the source",
)

# %% [markdown]
# The whole table, for a batch of two words:

# %%
pair = ["thoughts", "cat"]
pair_said = ["TH AO T S", "K AE T"]


def decoder_inputs(pronunciations):
    """<start> and all phonemes but no <end>, padded: (batch, length)."""
    rows = [torch.tensor([cmudict.START, *cmudict.phonemes_to_ids(said, end=False)]) for said in pronunciations]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=cmudict.PAD)


pair_source, pair_target = cmudict.batch(pair), decoder_inputs(pair_said)  # (2, 8), (2, 5)
source_mask = my_model.padding_mask(pair_source, cmudict.PAD)  # (2, 1, 1, 8)
visible = my_model.padding_mask(pair_target, cmudict.PAD)  # (2, 1, 1, 5)
prefix = my_model.causal_mask(5, 5) & visible  # (2, 1, 5, 5)
print("encoder, on itself", tuple(source_mask.shape), "the padding of the source")
print("decoder, on itself", tuple(prefix.shape), "the future, and the padding of the target")
print("across            ", tuple(source_mask.shape), "the padding of the source again")

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), facecolor="white", layout="constrained")
cat_inputs = [cmudict.PHONEMES[i] if i else "·" for i in pair_target[1].tolist()]  # a dot stands for <pad>
across = source_mask[1, 0].expand(5, 8)  # (target, source)
for ax, mask, columns, title in (
    (axes[0], prefix[1, 0], cat_inputs, "“cat”: the decoder on itself"),
    (axes[1], across, ["c", "a", "t", *"·" * 5], "“cat”: across"),
):
    cells = [["yes" if cell else "" for cell in row] for row in mask.tolist()]
    heat_map(mask.float(), cat_inputs, columns, title, ax=ax, cells=cells)
plt.show()

# %% [markdown]
# One remark on the left picture. The padding of the target stands at the end, so the causal mask hides it already from
# every *real* token: for those, the target's padding mask changes nothing. It matters where padding comes first or in
# between. It never hurts, so we leave it in.

# %% [markdown]
# ## 4. The decoder layer
#
# Your encoder layer had two sub-layers, each as x + dropout(f(norm(x))). The decoder layer has three:
#
# ```
# x ──┬──────────────────(+)──┬───────────────────(+)──┬──────────────────(+)──▶
#     └ norm ▸ self-attn ─┘   └ norm ▸ cross-attn ─┘   └ norm ▸ feed-fwd ─┘
#                ▲                       ▲
#           target_mask          memory, memory_mask
# ```
#
# $$x \leftarrow x + \operatorname{self}(\operatorname{norm}_1(x)),\qquad
# x \leftarrow x + \operatorname{cross}(\operatorname{norm}_2(x), H),\qquad
# x \leftarrow x + \operatorname{ff}(\operatorname{norm}_3(x))$$
#
# Four things that are easy to get wrong:
#
# - **Two attentions, two sets of weights.** Looking back and looking across are learnt apart.
# - **The memory is not normed here.** The encoder ends with a norm. Every layer of the decoder takes H as it comes.
# - **The residual carries the decoder's states**, never the memory. Only what was *read* is added.
# - **The layer makes no mask.** It uses the two that it is given. Who makes them comes in section 6.
#
# ### Exercise 3: `DecoderLayer`
#
# Difficulty ●●●○○ · importance ●●●●● · about 25 minutes · a main one
#
# ```
# DecoderLayer(d_model, heads, d_ff, dropout=0.0)
#     self_attention_norm, self_attention      LayerNorm, MultiHeadAttention
#     cross_attention_norm, cross_attention    LayerNorm, MultiHeadAttention
#     feed_forward_norm, feed_forward          LayerNorm, FeedForward(d_model, d_ff)
# forward(states, memory, target_mask=None, memory_mask=None) → states
#     states       (batch, target, d_model)
#     memory       (batch, source, d_model)
#     target_mask  bool, broadcasts to (batch, heads, target, target)
#     memory_mask  bool, broadcasts to (batch, heads, target, source)
# ```
#
# The names of the six parts are fixed: weights are loaded by name. Dropout falls on each sub-layer's output, before
# it is added; `dropout` may be anything from 0 to 1, both included, as in `nn.Dropout`. Use what you have:
# `project_memory` and `cross_attention`, or `self.cross_attention(..., memory, memory_mask)`, which does both.
#
# ```python
# DecoderLayer(48, 4, 96)(states, memory)  # (1, 5, 48)
# ```


# %% answer="DecoderLayer"
class DecoderLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward, each as x + dropout(f(norm(x)))."""

    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        ### BEGIN SOLUTION
        self.self_attention_norm = LayerNorm(d_model)
        self.self_attention = MultiHeadAttention(d_model, heads)
        self.cross_attention_norm = LayerNorm(d_model)
        self.cross_attention = MultiHeadAttention(d_model, heads)
        self.feed_forward_norm = LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.dropout = nn.Dropout(dropout)
        ### END SOLUTION

    def forward(self, states, memory, target_mask=None, memory_mask=None):
        """(batch, target, d_model) and (batch, source, d_model) → (batch, target, d_model)."""
        ### BEGIN SOLUTION
        attended, _ = self.self_attention(self.self_attention_norm(states), mask=target_mask)
        states = states + self.dropout(attended)

        asking = self.cross_attention_norm(states)  # the memory comes normed: the encoder ends with a norm
        keys, values = project_memory(self.cross_attention, memory)
        read, _ = cross_attention(self.cross_attention, asking, keys, values, memory_mask)
        states = states + self.dropout(read)

        processed = self.feed_forward(self.feed_forward_norm(states))
        return states + self.dropout(processed)
        ### END SOLUTION


# %% check="DecoderLayer"
check("DecoderLayer")

# %%
hint("DecoderLayer")

# %% [markdown]
# ### Break it: no causal mask
#
# A layer with a causal mask and the same layer without. We exchange the last token, `S` for `Z`, and look at which
# rows move. A row that stands *before* the change has no business moving.

# %%
torch.manual_seed(2)
layer = my_model.DecoderLayer(d_model, heads, 96)
other_end = target.clone()
other_end[0, -1] = cmudict.phonemes_to_ids("Z", end=False)[0]
for name, mask in (("with the causal mask", my_model.causal_mask(5, 5)), ("without", None)):
    with torch.no_grad():
        before = layer(phoneme_embedding(target), memory, mask)  # (1, 5, 48)
        after = layer(phoneme_embedding(other_end), memory, mask)
    moved = (after - before).abs().amax(dim=-1)[0]  # (5,)
    print(f"{name:>20}:", "  ".join(f"{token} {m:.3f}" for token, m in zip(inputs, moved)))

# %% [markdown]
# Without the mask every row knows about the last token. In training the row of `T` has to predict `S`. If it may read
# `S`, the loss falls quickly and the model learns nothing that helps it speak. Lesson 06 has the curve.
#
# ### Break it: the memory mask forgotten
#
# *cat* alone, and *cat* beside *thoughts*, with five padded places. What comes out for `K AE T`?

# %%
with torch.no_grad():
    cat_states = phoneme_embedding(pair_target[1:, :4])  # (1, 4, 48)
    cat_alone = encoder(letter_embedding(cmudict.batch(["cat"])))  # (1, 3, 48)
    cat_padded = encoder(letter_embedding(pair_source[1:]), source_mask[1:])  # (1, 8, 48)
    causal = my_model.causal_mask(4, 4)
    expected = layer(cat_states, cat_alone, causal)
    for name, mask in (("with the memory mask", source_mask[1:]), ("without", None)):
        gap = (layer(cat_states, cat_padded, causal, mask) - expected).abs().max()
        print(f"{name:>20}: largest difference {gap:.1e}")

# %% [markdown]
# The encoder was told about the padding, and did right by it. But a padded place has a row in the memory too, and
# cross-attention reads that row unless it is told again.
#
# ### Break it: the wrong mask, in silence
#
# A frequent slip is to hand the *target's* padding mask to cross-attention. Mostly the shapes do not fit, and an error
# tells you. Take *photo* and *cat*: five letters at most, and five tokens at most.

# %%
silent_source, silent_target = cmudict.batch(["photo", "cat"]), decoder_inputs(["F OW T OW", "K AE T"])
right_mask = my_model.padding_mask(silent_source, cmudict.PAD)  # (2, 1, 1, 5)
wrong_mask = my_model.padding_mask(silent_target, cmudict.PAD)  # (2, 1, 1, 5)
print("letters of “cat” that may be read:", right_mask[1, 0, 0].int().tolist(), "and with the wrong mask:",
      wrong_mask[1, 0, 0].int().tolist())  # fmt: skip
with torch.no_grad():
    H = encoder(letter_embedding(silent_source), right_mask)
    x, causal = phoneme_embedding(silent_target), my_model.causal_mask(5, 5)
    gap = (layer(x, H, causal, right_mask) - layer(x, H, causal, wrong_mask)).abs().amax(dim=(1, 2))
print("no error; the outputs move by", [f"{g:.3f}" for g in gap.tolist()], "for photo and cat")

# %% [markdown]
# Nothing is raised, and *cat* reads a padded place. This is why the check tries source and target of *one* length, and
# of different ones.
#
# ## 5. The stack
#
# ### Exercise 4: `Decoder`
#
# Difficulty ●○○○○ · importance ●●●○○ · about 8 minutes
#
# Layers on top of each other, and one norm at the end, as in your encoder. The states go from layer to layer. The
# memory does not: **H is the same for every layer**, and so are both masks.
#
# ```
# Decoder(layers, d_model, heads, d_ff, dropout=0.0)
#     layers   nn.ModuleList of DecoderLayer
#     norm     LayerNorm
# forward(states, memory, target_mask=None, memory_mask=None) → states (batch, target, d_model)
# ```
#
# ```python
# Decoder(2, 48, 4, 96)(states, memory)  # (1, 5, 48)
# ```


# %% answer="Decoder"
class Decoder(nn.Module):
    """Decoder layers on top of each other, and a norm at the end."""

    def __init__(self, layers, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        ### BEGIN SOLUTION
        self.layers = nn.ModuleList(DecoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers))
        self.norm = LayerNorm(d_model)
        ### END SOLUTION

    def forward(self, states, memory, target_mask=None, memory_mask=None):
        """(batch, target, d_model) → the same shape; every layer reads the same memory."""
        ### BEGIN SOLUTION
        for layer in self.layers:
            states = layer(states, memory, target_mask, memory_mask)
        return self.norm(states)
        ### END SOLUTION


# %% check="Decoder"
check("Decoder")

# %%
hint("Decoder")

# %% [markdown]
# ### Yours beside PyTorch's
#
# `torch.nn.Transformer` is an encoder and a decoder, the same two stacks. We give yours its weights and compare the
# numbers. Its three input projections are stacked in one matrix, its parts have other names, and its masks mean the
# opposite (True = blocked, the table in lesson 02). `crosstalk.torch_weights` translates the names; the rest is up to
# your code.

# %%
from crosstalk.torch_weights import decoder_weights, encoder_weights, pre_ln_transformer

torch.manual_seed(3)
theirs = pre_ln_transformer(layers=2, d_model=d_model, heads=heads, d_ff=96)  # nn.Transformer with norm_first=True
my_encoder = my_model.Encoder(2, d_model, heads, 96)
my_decoder = my_model.Decoder(2, d_model, heads, 96)
print(my_encoder.load_state_dict(encoder_weights(theirs.encoder)))
print(my_decoder.load_state_dict(decoder_weights(theirs.decoder)))

# %%
x_source, x_target = letter_embedding(pair_source).detach(), phoneme_embedding(pair_target).detach()
blocked_source, blocked_target = ~source_mask[:, 0, 0], ~visible[:, 0, 0]  # (2, 8), (2, 5)


def both(dtype):
    """Memory and states of yours and of theirs."""
    for module in (theirs, my_encoder, my_decoder):
        module.to(dtype)
    my_memory = my_encoder(x_source.to(dtype), source_mask)  # (2, 8, 48)
    my_states = my_decoder(x_target.to(dtype), my_memory, prefix, source_mask)  # (2, 5, 48)
    their_memory = theirs.encoder(x_source.to(dtype), src_key_padding_mask=blocked_source)
    their_states = theirs.decoder(
        x_target.to(dtype), their_memory, tgt_mask=~my_model.causal_mask(5, 5),
        tgt_key_padding_mask=blocked_target, memory_key_padding_mask=blocked_source,
    )  # fmt: skip
    return (my_memory, their_memory, ~blocked_source), (my_states, their_states, ~blocked_target)


for dtype in (torch.float32, torch.float64):
    gaps = [(mine - other)[real].abs().max().item() for mine, other, real in both(dtype)]
    print(f"{dtype}: largest difference in the memory {gaps[0]:.1e}, in the states {gaps[1]:.1e}")

# %% [markdown]
# What is left is rounding, and with twice the digits there is far less of it. The gradients agree too:

# %%
theirs.zero_grad()
my_encoder.zero_grad()
my_decoder.zero_grad()
(_, _, _), (my_states, their_states, real) = both(torch.float64)
my_states[real].pow(3).sum().backward()  # any function of the states will do
their_states[real].pow(3).sum().backward()
mine = my_encoder.layers[0].attention.value.weight.grad  # as far from the end as can be
other = theirs.encoder.layers[0].self_attn.in_proj_weight.grad.chunk(3)[2]  # queries, keys, values
print(f"largest gradient {other.abs().max():.2f}, largest difference {(mine - other).abs().max():.1e}")

# %% [markdown]
# The gradient of the decoder's loss has gone through cross-attention, through H, down to the first layer of the
# encoder: **this is the only way in which the encoder learns**.
#
# ## 6. The whole model
#
# Five modules make the model: an embedding for each side, the two stacks, and a *generator*, the Linear layer that
# turns the decoder's states into a score for each phoneme. These scores are called **logits**. They become
# probabilities only in the loss.
#
# ```
# letters ─▶ source_embedding ─▶ encoder ─▶ memory H ─┐
#                                                     ▼
# tokens  ─▶ target_embedding ─▶ ─ ─ ─ ─ ─ ─ ─ ─▶ decoder ─▶ generator ─▶ logits
# ```
#
# They are handed in ready-made. Later lessons put an ear or an eye in the place of `source_embedding`, and nothing
# else changes.
#
# **Here the causal mask is made**, in `decode`, once for all layers: never in a layer, so that nobody forgets it in
# one of them. It is joined with the target's padding mask, if there is one.
#
# And `start`: in lesson 07 old tokens are remembered and only the new ones are passed in. `start` says how many are
# there already. It matters twice. The first new token stands at *position* `start`. And the new tokens may read all
# old ones: `causal_mask` has `length` queries, but `start + length` keys. A `target_mask` then is about all `start +
# length` keys as well.

# %% [markdown]
# ### Exercise 5: `EncoderDecoder`
#
# Difficulty ●●●○○ · importance ●●●●● · about 25 minutes
#
# ```
# EncoderDecoder(source_embedding, encoder, target_embedding, decoder, generator)
#     keeps the five modules under these names
# encode(source, source_mask=None) → memory
#     calls  source_embedding(source)            and  encoder(states, mask)
# decode(target, memory, target_mask=None, memory_mask=None, start=0) → logits, always causal
#     calls  target_embedding(target, start),    decoder(states, memory, target_mask, memory_mask)
#     and    generator(states)
# forward(source, target, source_mask=None, target_mask=None) → logits
#     encodes once, decodes once; the source's mask is also the memory's
#
# source       int (batch, source), for the text models of this course
# target       int (batch, length)
# target_mask  bool, broadcasts to (batch, heads, length, start + length)
# logits       (batch, length, vocabulary)
# ```
#
# ```python
# logits = model(source, target)  # (1, 5, 42) for our word: a score for each of 42 tokens at each place
# ```


# %% answer="EncoderDecoder"
class EncoderDecoder(nn.Module):
    """The whole model, made of five modules that are handed in."""

    def __init__(self, source_embedding, encoder, target_embedding, decoder, generator):
        super().__init__()
        ### BEGIN SOLUTION
        self.source_embedding = source_embedding
        self.encoder = encoder
        self.target_embedding = target_embedding
        self.decoder = decoder
        self.generator = generator
        ### END SOLUTION

    def encode(self, source, source_mask=None):
        """(batch, source) → memory (batch, source, d_model)."""
        ### BEGIN SOLUTION
        return self.encoder(self.source_embedding(source), source_mask)
        ### END SOLUTION

    def decode(self, target, memory, target_mask=None, memory_mask=None, start=0):
        """(batch, length) → logits (batch, length, vocabulary); always causal."""
        ### BEGIN SOLUTION
        length = target.size(1)
        mask = causal_mask(length, start + length).to(target.device)  # (length, start + length)
        if target_mask is not None:
            mask = mask & target_mask
        states = self.target_embedding(target, start)  # (batch, length, d_model)
        states = self.decoder(states, memory, mask, memory_mask)
        return self.generator(states)  # (batch, length, vocabulary)
        ### END SOLUTION

    def forward(self, source, target, source_mask=None, target_mask=None):
        """(batch, source), (batch, target) → logits (batch, target, vocabulary)."""
        ### BEGIN SOLUTION
        memory = self.encode(source, source_mask)  # (batch, source, d_model)
        return self.decode(target, memory, target_mask, memory_mask=source_mask)
        ### END SOLUTION


# %% check="EncoderDecoder"
check("EncoderDecoder")

# %%
hint("EncoderDecoder")

# %% [markdown]
# ### Put together, on a real batch
#
# 64 words of the dictionary, and a model of the size that lesson 05 trains, but for one thing. Here the generator
# shares the table of the target embedding: one vector for each phoneme, to read it and to score it (Press & Wolf 2017).
# In lesson 05 it has weights and biases of its own, 42 · 128 + 42 = 5,418 more: 1,139,370 in all. There you see why.

# %%
rows = cmudict.load("train").shuffle(seed=0).select(range(64))
batch_source = cmudict.batch(rows["word"])  # (64, source)
batch_target = decoder_inputs([several[0] for several in rows["pronunciations"]])  # (64, target)
batch_mask = my_model.padding_mask(batch_source, cmudict.PAD)  # (64, 1, 1, source)
print("source", tuple(batch_source.shape), " target", tuple(batch_target.shape), " words:", *rows["word"][:5])

# %%
torch.manual_seed(4)
target_embedding = my_model.TokenEmbedding(len(cmudict.PHONEMES), 128, cmudict.PAD)
generator = nn.Linear(128, len(cmudict.PHONEMES), bias=False)
generator.weight = target_embedding.table.weight  # one and the same
model = my_model.EncoderDecoder(
    my_model.TokenEmbedding(len(cmudict.LETTERS), 128, cmudict.PAD),
    my_model.Encoder(3, 128, 4, 512),
    target_embedding,
    my_model.Decoder(2, 128, 4, 512),
    generator,
)
logits = model(batch_source, batch_target, batch_mask)  # (64, target, 42)
print("logits", tuple(logits.shape), "# (batch, target, vocabulary)")
for name, part in model.named_children():
    print(f"{name:>17}: {sum(p.numel() for p in part.parameters()):>9,} parameters")
print(f"{'all':>17}: {sum(p.numel() for p in model.parameters()):>9,} (the shared table counts once)")

# %% [markdown]
# A decoder layer has twice the attention of an encoder layer, so two of them weigh nearly as much as three.
#
# Now four quick trials tell whether the whole thing is wired rightly. They are worth remembering: they catch most of
# the mistakes that raise no error.

# %%
with torch.no_grad():
    logits = model(batch_source, batch_target, batch_mask)
    later = batch_target.clone()
    later[:, 3] = cmudict.phonemes_to_ids("ZH", end=False)[0]  # another fourth token, for every word
    change = (model(batch_source, later, batch_mask) - logits).abs().amax(dim=(0, 2))  # (target,)
    print(f"1. another token at place 3: places 0 to 2 move by {change[:3].max():.1e}, place 3 by {change[3]:.2f}")

    other_words = batch_source.roll(1, dims=0)
    other_mask = my_model.padding_mask(other_words, cmudict.PAD)
    change = (model(other_words, batch_target, other_mask) - logits).abs().amax()
    print(f"2. the letters of another word: the logits move by {change:.2f}")

    short = min(range(64), key=lambda i: len(rows["word"][i]))
    n, m = len(rows["word"][short]), int(batch_target[short].ne(cmudict.PAD).sum())
    alone = model(batch_source[short : short + 1, :n], batch_target[short : short + 1, :m])
    gap = (alone[0] - logits[short, :m]).abs().max()
    print(f"3. {rows['word'][short]!r} alone and in the batch: largest difference {gap:.1e}")

    memory = model.encode(batch_source, batch_mask)  # once
    prefix_logits = model.decode(batch_target[:, :4], memory, memory_mask=batch_mask)  # the first four tokens alone
    gap = (prefix_logits - logits[:, :4]).abs().max()
    print(f"4. the first four tokens alone and among the others: largest difference {gap:.1e}")

# %% [markdown]
# In the fourth trial the memory was made once and handed over. That is how the model will speak: encode once, decode
# token by token.

# %% [markdown]
# ## 7. On real data: a trained model
#
# Training comes in the next lesson. Here is what it leads to: your code, with weights that this course ships,
# trained on the dictionary. We ask it about *thoughts*.
#
# To see weights we have to catch them: the layers throw them away. So each cross-attention gets a `masked_attention`
# that also writes down what it returns.

# %%
from crosstalk.checkpoints import load_model

trained = load_model("cmudict")
caught = {}  # layer → weights (batch, heads, target, source)


def catching(number):
    def attend(query, key, value, mask=None):
        output, weights = my_model.masked_attention(query, key, value, mask)
        caught[number] = weights
        return output, weights

    return attend


for number, part in enumerate(trained.decoder.layers):
    part.cross_attention.attention = catching(number)

with torch.no_grad():
    probabilities = F.softmax(trained(source, target), dim=-1)[0]  # (5, 42)
predicted = [cmudict.PHONEMES[i] for i in probabilities.argmax(dim=-1).tolist()]
print("reads   ", inputs)
print("predicts", predicted)

# %%
last = max(caught)
rows_named = [f"{read} → {says}" for read, says in zip(inputs, predicted)]
figure, axes = plt.subplots(2, 2, figsize=(11, 6), facecolor="white", layout="constrained")
for head, ax in enumerate(axes.flat):
    heat_map(caught[last][0, head], rows_named, letters, f"Cross-attention weight, layer {last}, head {head}", ax=ax)
plt.show()

# %% [markdown]
# How to read it, and how not to:
#
# - Each row is labelled `what it has read → what it predicts`. In translation models, Chen et al. (2020) found weights
#   to line up better with the token that is *read*. Which of the two do the letters with most weight go with here?
#   (Below is an answer.)
# - The pictures differ from head to head and from layer to layer. Showing one of them, or their mean, is a choice. So
#   we name each as what it is: **cross-attention weight, layer l, head h**. Layers are counted from 0, so layer 1 is
#   the second one, the last of this model.
# - A weight says how much of that place's *value* was carried. A place of the memory is not a letter: the encoder has
#   mixed its neighbours into it. Whether weights *explain* what a model says is disputed: Jain & Wallace (2019) and
#   Wiegreffe & Pinter (2019) are the two sides of it.
#
# <details><summary>Which of the two?</summary>
#
# Here, with the token that is predicted. Head 0 has 1.00 on the h where `<start>` was read and `TH` is predicted, 0.90
# on the o for `AO`, 1.00 on the second t for `T`, 0.97 on the s for `S`. Where `T` was *read*, no head looks back at
# that t. Only the last row is unclear: `<end>` has no letter of its own, and the heads disagree. (This is one word, in
# one layer of one model with pre-LN.)
#
# </details>
#
# To learn what a model *uses*, change something and look: an intervention.
#
# ### Predict
#
# We hide one letter from cross-attention, and from nothing else: its column gets False in the memory mask. The encoder
# still reads all eight letters.

# %%
Predict(
    "How much can the decoder still know about that letter?",
    {
        "Nothing: it cannot be read any more": "Its *place* cannot be read. But in the encoder the neighbours have "
        "read the letter, and what they took from it is still there.",
        "Something: the encoder has told its neighbours": "Every row of H is made from all letters. To take a letter "
        "away altogether, hide it from the encoder too.",
        "Everything: masks change nothing in a trained model": "The weight that went to the hidden place is now "
        "spread over the others, so other values are carried.",
    },
    right="Something: the encoder has told its neighbours",
)


# %%
@torch.no_grad()
def probability_of_right(hide=None, from_encoder=False):
    """The probability of the right token at each place (5,), with one letter hidden from cross-attention."""
    visible = torch.ones(1, 1, 1, len(letters), dtype=torch.bool)  # (1, 1, 1, source)
    if hide is not None:
        visible[..., hide] = False
    memory = trained.encode(source, visible if from_encoder else None)
    logits = trained.decode(target, memory, memory_mask=visible)  # (1, 5, 42)
    right = torch.tensor(cmudict.phonemes_to_ids(said))  # with <end>: (5,)
    return F.softmax(logits, dim=-1)[0].gather(-1, right[:, None])[:, 0]


as_it_is = probability_of_right()
answers = [cmudict.PHONEMES[i] for i in cmudict.phonemes_to_ids(said)]
print("nothing hidden:", "  ".join(f"{a} {p:.2f}" for a, p in zip(answers, as_it_is)))

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), facecolor="white", layout="constrained")
hidden_from = {"cross-attention only": False, "cross-attention and encoder": True}
for ax, (where, from_encoder) in zip(axes, hidden_from.items()):
    left = torch.stack([probability_of_right(i, from_encoder) for i in range(len(letters))], dim=1)  # (5, 8)
    heat_map(left, answers, letters, f"Probability of the right token,\none letter hidden from {where}", ax=ax)
plt.show()

# %% [markdown]
# Compare the two pictures, and compare them with the weights above. A dark cell means: without that letter, the right
# token is no longer likely. Where a letter has much weight and hiding it changes little, the weight alone would have
# misled you.
#
# <details><summary>What we see</summary>
#
# - Head 0 puts a weight of 1.00 on the first h for `TH`. Yet hiding that h from cross-attention moves `TH` from 0.95 to
#   0.91 only, while hiding the t takes it to 0.00.
# - Hide the h from the encoder too, and `TH` falls to 0.00. So the h is needed after all: the encoder has told the t
#   about it, and the row of the t says `TH` alone.
# - In the same way the g matters for `AO`: 0.93 without its row, 0.08 without the letter. For the s and `S`, both
#   pictures say 0.00: that sound comes from its own letter.
#
# </details>
#
# ### Play: change where it looks
#
# Here the model speaks by itself: it reads what it has said, and not the right answer. Choose a step and see where it
# reads. Then intervene, and it says the word again from the beginning.
#
# Three things to try:
#
# 1. Click one letter after another to knock it out of the memory. Which can you take away, and the word stays? The
#    encoder has still read all of them.
# 2. Set *A click on a letter* to *forces the weight of a step onto it*, choose a step, and click a letter that it does
#    not care for. Does its token change? Do the later ones, which look where they like?
# 3. Type your own name.
#
# <details><summary>A still picture of it, with another word, for reading without a kernel</summary>
#
# ![The alignment widget: the steps of the decoder, and the weight of each letter of the word](attachment:alignment.png)
#
# </details>

# %%
Alignment(trained, word="thoughts")

# %% [markdown]
# An intervention is an experiment on *this* model and *this* word. If nothing changes, that letter was not needed
# here, or another row of the memory carries the same. It does not say that the letter means nothing to the model.

# %% [markdown]
# ## 8. What you built
#
# In cross-attention the decoder's states ask and the memory answers: queries from one side, keys and values from the
# other, made once for a word. A decoder layer looks back, looks across, and then works on each place by itself; all
# layers of a stack read one and the same memory. `EncoderDecoder` puts it together and makes it causal, and the two
# stacks equal those of PyTorch's `nn.Transformer`.
#
# $$P(y_t \mid y_{<t}, x) = \operatorname{softmax}\big(\text{generator}(\text{decoder}(y_{<t}, H))_t\big),
# \qquad H = \text{encoder}(x)$$
#
# **Next**, lesson 05: what the decoder reads in training and what it is asked, a loss that ignores padding, and then
# your own model learns to say words.
#
# **Sources**
#
# - Bahdanau, Cho & Bengio (2015), *Neural Machine Translation by Jointly Learning to Align and Translate*: attention
#   from a decoder to the encoder's states, before transformers.
# - Vaswani et al. (2017), *Attention Is All You Need*: sections 3.1 and 3.2.3 have the decoder and its three
#   attentions. It norms after each sub-layer.
# - Xiong et al. (2020), *On Layer Normalization in the Transformer Architecture*: why to norm before.
# - Press & Wolf (2017), *Using the Output Embedding to Improve Language Models*: one table for reading and scoring.
# - On attention weights: Jain & Wallace (2019), *Attention is not Explanation*; Wiegreffe & Pinter (2019), *Attention
#   is not not Explanation*; Chen et al. (2020), *Accurate Word Alignment Induction from Neural Machine Translation*.
#
# To see that all of it holds from a fresh start: **Kernel → Restart Kernel and Run All Cells**. It is safe to close;
# your pieces are in `work/my_model/`.
