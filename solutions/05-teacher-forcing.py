# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 Teacher forcing
#
# **Your model learns to speak.** The encoder-decoder of lesson 04 is complete, and it knows nothing: its numbers are
# random. Today it is trained. That takes less than you may think: inputs moved by one place, a loss that leaves out
# the padding, and three calls that move the weights. And it takes care, because nearly every mistake here runs
# without an error.
#
# At the end you will be able to
#
# - say what the decoder reads in training and what it is asked for, place by place;
# - write a loss over padded batches, with and without label smoothing, and know its value before the first step;
# - write one step of training, and test it on a single batch before you trust it;
# - let a model speak a word, and say in one number how wrong it is;
# - train your own model on more than 100,000 words, and hear it say your name.
#
# Time: about 140 minutes. Stop where you like: what has passed is kept. Before it:
# [04 The decoder](../04-decoder/decoder.ipynb).
#
# Run this cell first. Your answers are judged with these imports and nothing else.

# %% setup=true
import math

import torch
from torch import nn
from torch.nn import functional as F

from autograder import check, hint, trace
from crosstalk.my_model import padding_mask

# %% [markdown]
# The next cell brings what this lesson shows things with. `my_model` is your own model so far: your pieces where they
# have passed, stand-ins where not yet.

# %%
import matplotlib.pyplot as plt

from crosstalk import my_model
from crosstalk.data import cmudict
from crosstalk.data.word_batches import WordBatches
from crosstalk.map import model_map
from crosstalk.models import Size, word_model
from crosstalk.plots import heat_map
from crosstalk.widgets import LabelSmoothing, Predict, TeacherForcing

torch.set_num_threads(1)  # small tensors: a second thread would only get in the way
torch.set_printoptions(precision=3, sci_mode=False)
PAD, START, END = cmudict.PAD, cmudict.START, cmudict.END
model_map("05-teacher-forcing")

# %% [markdown]
# ## 1. Read what is right, predict what comes next
#
# The model gives a word its probability token by token (lesson 00):
#
# $$P(y \mid x) = \prod_t P(y_t \mid y_{<t}, x)$$
#
# Each factor is a question: *given the spelling x and the tokens so far, what comes next?* When the model speaks, "the
# tokens so far" are its own. In training we know the right ones, so we hand it those, whatever it would have said
# itself. That is **teacher forcing** (Williams & Zipser 1989). It has a great advantage: no question has to wait for
# the answer to the one before. All of them go through the decoder at once, in one forward pass, and your causal mask
# sees to it that row t reads nothing later than its own input.
#
# Here are the questions for one word.

# %%
word, said = "planet", "P L AE N AH T"
target = cmudict.phonemes_to_ids(said)  # the end token is part of what has to be predicted
names = [cmudict.PHONEMES[i] for i in target]
for t, answer in enumerate(names):
    print(f"row {t}: has read {' '.join(['<start>', *names[:t]]):<26} is asked for {answer}")

# %% [markdown]
# Look at the last token that each row has read, and at what it is asked for: the same word twice, moved by one place.
#
# | | | | | | | | |
# |---|---|---|---|---|---|---|---|
# | the decoder reads | `<start>` | P | L | AE | N | AH | T |
# | it is asked for | P | L | AE | N | AH | T | `<end>` |
#
# So the inputs are made from the target: the start token in front, and the last column off. In a short word that
# column is padding, and then `<end>` stays among the inputs. That does no harm: the places after `<end>` do not count
# in the loss.

# %% [markdown]
# ### Exercise 1: `shift_right`
#
# Difficulty ●○○○○ · importance ●●●●● · about 8 minutes
#
# $$\text{inputs}_0 = \text{start}, \qquad \text{inputs}_t = \text{target}_{t-1}$$
#
# ```
# shift_right(target, start_id) → inputs
# target   int (batch, length)
# inputs   int (batch, length): the start token, then all but the last column
# ```
#
# `target` itself is still needed, for the loss: leave it as it is.
#
# ```python
# shift_right(torch.tensor([[5, 7, 2]]), start_id=1)  # tensor([[1, 5, 7]])
# ```


# %% answer="shift_right"
def shift_right(target, start_id):
    """(batch, length) → the decoder's inputs, the same shape: the start token, then all but the last token."""
    ### BEGIN SOLUTION
    start = torch.full_like(target[:, :1], start_id)  # (batch, 1)
    return torch.cat([start, target[:, :-1]], dim=1)  # (batch, length)
    ### END SOLUTION


# %% check="shift_right"
check("shift_right")

# %%
hint("shift_right")

# %% [markdown]
# Two words of a batch, what goes in and what is asked for (a dot stands for `<pad>`):

# %%
targets = nn.utils.rnn.pad_sequence(
    [torch.tensor(cmudict.phonemes_to_ids(p)) for p in ("P L AE N AH T", "K AE T")], batch_first=True
)  # (2, 7)


def tokens_of(ids):
    return " ".join("·" if i == PAD else cmudict.PHONEMES[i] for i in ids)


for inputs, labels in zip(my_model.shift_right(targets, START).tolist(), targets.tolist()):
    print(f"reads {tokens_of(inputs):<28} asked for {tokens_of(labels)}")

# %% [markdown]
# ### Predict
#
# Somebody trains such a model and sees, in less than 200 steps, a loss of 0.01. On words that it has never met the
# loss is as low.

# %%
Predict(
    "A loss of 0.01 after 200 steps, on new words too. What has happened?",
    {
        "A good learning rate": "No rate buys that. Spelling does not settle how an English word is said, so even a "
        "perfect model is unsure of some phonemes, and its loss stays well above 0.",
        "Overfitting": "Then the loss on *new* words would be high. It is low on those, too.",
        "The input holds the answer": "The target went in unshifted. Row t reads the very token that it is asked for, "
        "and all it has to learn is to copy it.",
    },
    right="The input holds the answer",
)

# %% [markdown]
# ### See it
#
# Three trainings, the same in everything but one: by how many places inputs and labels are moved against each other.
# The curves and samples come from really training them. The lane of the inputs is drawn by **your** `shift_right`. The
# picture counts places from 1, so its place 1 is row 0 of the questions above. PER, below its curves, is the number of
# wrong phonemes for every 100 when the model speaks alone; section 5 says how they are counted.
#
# Three things to try:
#
# 1. Shift 0. Which curve looks best? Now read what that model says when there is nobody to copy from.
# 2. Shift 2: inputs to the right and labels to the left, so each row is asked for the token *after* the next. It
#    trains, too. What is missing at the beginning of every word that it says?
# 3. Shift 1, and move through the steps. When do the first words become right?
#
# <details><summary>A still picture of it, for reading without a kernel</summary>
#
# ![Teacher forcing: inputs and labels of the decoder, three loss curves, and what each model
# says](attachment:teacher_forcing.png)
#
# </details>

# %%
TeacherForcing(shift_right)

# %% [markdown]
# Remember it: **the loss alone does not tell whether a training is sound. Let the model speak.** Lesson 06 is about
# nothing else.
#
# ## 2. What the loss says
#
# At each place the model gives V numbers, the logits; V = 42 here, 39 phonemes and three special tokens. A softmax
# makes probabilities of them, and the loss of that place is
#
# $$\ell_t = -\ln p_t(y_t),$$
#
# the negative logarithm of what the *right* token got. Whatever the others got matters only through the softmax.

# %%
V = len(cmudict.PHONEMES)
for p in (1.0, 0.9, 0.5, 0.1, 1 / V, 0.001):
    print(f"the right token gets {p:.3f}:  loss {math.log(1 / p):.2f}")
print(f"\nln V = ln {V} = {math.log(V):.2f}: the loss of someone who knows nothing and gives every token 1/V")

# %% [markdown]
# Over a batch one takes the mean. Over what? Over the **real tokens**, those of `target` that are not padding:
#
# $$L = \frac{1}{\#\{t : y_t \ne \text{pad}\}} \sum_{t:\ y_t \ne \text{pad}} -\ln p_t(y_t)$$
#
# | symbol | in the code | shape |
# |---|---|---|
# | $p_t$ | `logits.softmax(-1)` | (batch, length, V) |
# | $y_t$ | `target` | (batch, length) |
# | $y_t \ne \text{pad}$ | `target != pad_id` | (batch, length) |
#
# `F.cross_entropy` does softmax, logarithm and mean in one, and it is allowed here. It has two habits to know. It
# wants **logits**, not probabilities. And it wants the classes in dimension **1**, right after the batch, where
# PyTorch's image models have their channels; ours stand last.

# %% [markdown]
# ### Exercise 2: `token_cross_entropy`
#
# Difficulty ●●●○○ · importance ●●●●● · about 15 minutes · a main one
#
# ```
# token_cross_entropy(logits, target, pad_id) → loss
# logits  (batch, length, V)
# target  int (batch, length)
# loss    a scalar, in nats: the mean over the places where target is not pad_id
# ```
#
# - `pad_id` is one of the V classes, and may be any of them.
# - A row may be padding throughout; a whole batch never is.
# - Logits may be as large as ±10,000: no inf, no NaN.
# - `F.cross_entropy` and everything else is allowed.
#
# ```python
# logits = torch.zeros(1, 3, 42)  # every token gets 1/42
# token_cross_entropy(logits, torch.tensor([[5, 7, 0]]), pad_id=0)  # tensor(3.738) = ln 42
# ```


# %% answer="token_cross_entropy"
def token_cross_entropy(logits, target, pad_id):
    """(batch, length, V), (batch, length) → the mean of -ln p(right token) over real tokens."""
    ### BEGIN SOLUTION
    by_class = logits.transpose(1, 2)  # (batch, V, length): the classes in dimension 1
    return F.cross_entropy(by_class, target, ignore_index=pad_id)
    ### END SOLUTION


# %% check="token_cross_entropy"
check("token_cross_entropy")

# %%
hint("token_cross_entropy")

# %% [markdown]
# ### A number you know beforehand
#
# An untrained model should know nothing. So its first loss should be near ln V, and if it is not, something is wrong
# before training has begun. Yours, on 64 words:

# %%
dictionary = cmudict.load("train")
print(f"{len(dictionary):,} words to learn from; 8,000 of them are enough for small trainings")
batches = WordBatches(dictionary.shuffle(seed=0).select(range(8_000)), size=64)
source, target = batches[0]
print("source", tuple(source.shape), " target", tuple(target.shape))


@torch.no_grad()
def loss_of(model):
    logits = model(source, my_model.shift_right(target, START), my_model.padding_mask(source, PAD))
    return my_model.token_cross_entropy(logits, target, PAD).item()


torch.manual_seed(0)
untrained = word_model()
print(f"yours, untrained: {loss_of(untrained):.2f}    ln V = {math.log(V):.2f}")

# %% [markdown]
# Near, but not quite: random logits are not all equal, and being a little sure of wrong things costs a little.
#
# Two small decisions can spoil it. Many models have one table both for reading tokens and for scoring them (*tied*
# embeddings, Press & Wolf 2017). It saves weights. But the state at row t still holds the vector of the token that the
# row has read, so its product with that same vector is large: the untrained model is sure that every token comes
# twice. And if the table is drawn from N(0, 1), as `nn.Embedding` does when it is left alone, the logits get √d times
# as large again.


# %%
@torch.no_grad()
def tied(std):
    torch.manual_seed(0)
    model = word_model()
    model.target_embedding.table.weight.normal_(std=std)
    model.generator.weight.copy_(model.target_embedding.table.weight)
    return model


d_model = 128
inputs, real = my_model.shift_right(target, START), target != PAD
for name, std in (("tied, std d^-½", d_model**-0.5), ("tied, N(0, 1)", 1.0)):
    model = tied(std)
    said_again = model(source, inputs, my_model.padding_mask(source, PAD)).argmax(-1) == inputs  # (64, length)
    share = said_again[real].float().mean()
    print(f"{name:<16} first loss {loss_of(model):6.2f}, says the token it has read: {share:.0%}")

# %% [markdown]
# A training can recover from that, but its first steps go into unlearning. When your first loss is far above ln V,
# look there first.

# %% [markdown]
# ### Predict
#
# Someone writes `F.cross_entropy(logits.softmax(-1)…)`: probabilities where logits are wanted. The softmax is then
# taken twice. It trains, and the samples even become sensible.

# %%
Predict(
    "The softmax is taken twice. How low can the loss become, if the model is perfect?",
    {
        "0": "For that the right token would have to get everything. But what goes in are probabilities, and none is "
        "larger than 1: a lead of 1 over the others is not much for a softmax.",
        "ln V = 3.74": "That is the loss of knowing nothing. A lead of 1 does buy something.",
        "2.78": "The best that can go in is 1 for the right token and 0 for the 41 others. A softmax of that gives "
        "e / (e + 41), and minus its logarithm is ln(e + V - 1) - 1.",
    },
    right="2.78",
)

# %%
perfect = F.one_hot(targets, V).float()  # (2, 7, 42): probability 1 for each right token
print(f"softmax twice, a perfect model: {my_model.token_cross_entropy(perfect, targets, PAD):.2f}")
print(f"ln(e + V - 1) - 1 =             {math.log(math.e + V - 1) - 1:.2f}")

# %% [markdown]
# A loss that comes down and then rests at 2.78, while the words get better: now you know its name.
#
# ### The padding dilutes
#
# What if padded places are left out of the sum, but still counted in the mean (`.sum() / target.numel()`)? The same
# *cat*, once alone and once beside a long word, each token with the same logits:

# %%
torch.manual_seed(0)
cat = torch.tensor([cmudict.phonemes_to_ids("K AE T")])  # (1, 4)
logits = torch.randn(1, 4, V)
for width in (4, 12):
    wide = F.pad(cat, (0, width - 4), value=PAD)  # (1, width)
    wide_logits = F.pad(logits, (0, 0, 0, width - 4))  # (1, width, V)
    losses = F.cross_entropy(wide_logits.transpose(1, 2), wide, ignore_index=PAD, reduction="none")
    yours = my_model.token_cross_entropy(wide_logits, wide, PAD)
    print(f"{width:2d} places: over all places {losses.sum() / wide.numel():.3f}, over real tokens {yours:.3f}")

# %% [markdown]
# Over all places, *cat* is worth less the longer its neighbours are, and the number in your log depends on how the
# words were put into batches. Over real tokens it is the same both times.

# %% [markdown]
# ## 3. Label smoothing: do not be too sure
#
# The cross-entropy is only content when the right token gets *everything*: to go from 0.99 to 0.999 always pays. Label
# smoothing (Szegedy et al. 2016) asks for a little less. A share ε of the target is spread evenly over all V classes:
#
# $$q_c = (1 - \varepsilon)\,[c = y_t] + \frac{\varepsilon}{V}, \qquad
# \ell_t = -\sum_c q_c \ln p_t(c)$$
#
# The right class is one of the V, so it gets its ε/V as well: 1 - ε + ε/V. This is how PyTorch does it. Two other
# forms are in use, and code that you meet may mean either:
#
# | form | the right class | each other class | the padding class |
# |---|---|---|---|
# | **ε/V**, here and in PyTorch | 1 - ε + ε/V | ε/V | ε/V |
# | ε/(V-1) | 1 - ε | ε/(V-1) | ε/(V-1) |
# | ε/(V-2), the padding class left out | 1 - ε | ε/(V-2) | 0 |
#
# Taking the sum apart shows that it is a mix of two losses, and that is how to write it:
#
# $$\ell_t = (1 - \varepsilon)\,\bigl(-\ln p_t(y_t)\bigr) \;+\; \varepsilon\,\Bigl(-\tfrac1V \sum_c \ln p_t(c)\Bigr)$$

# %% [markdown]
# ### Exercise 3: `label_smoothing_loss`
#
# Difficulty ●●●○○ · importance ●●○○○ · about 15 minutes
#
# ```
# label_smoothing_loss(logits, target, pad_id, smoothing) → loss
# logits     (batch, length, V)
# target     int (batch, length)
# smoothing  ε, from 0 to less than 1
# loss       a scalar: the mean over the places where target is not pad_id
# ```
#
# - Smoothing does not make padding count: padded *places* are left out, as before. The padding *class* is one of the V
#   and gets its ε/V.
# - `F.cross_entropy` has an argument `label_smoothing`, which is the exercise itself. So you cannot call
#   `F.cross_entropy` or `nn.CrossEntropyLoss` here at all, with that argument or without. Allowed are `log_softmax`,
#   `F.nll_loss`, and your own `token_cross_entropy`, whatever it calls.
#
# ```python
# logits = torch.tensor([[[2.0, 0.0, 0.0, 0.0]]])
# label_smoothing_loss(logits, torch.tensor([[0]]), pad_id=3, smoothing=0.1)  # 0.491
# ```


# %% answer="label_smoothing_loss"
def label_smoothing_loss(logits, target, pad_id, smoothing):
    """The cross-entropy against (1 - ε)·one-hot + ε/V, mean over real tokens."""
    ### BEGIN SOLUTION
    log_probs = logits.log_softmax(dim=-1)  # (batch, length, V)
    right = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)  # (batch, length): of the right token
    even = -log_probs.mean(dim=-1)  # (batch, length): every class with 1/V
    losses = (1 - smoothing) * right + smoothing * even
    return losses[target != pad_id].mean()
    ### END SOLUTION


# %% check="label_smoothing_loss"
check("label_smoothing_loss")

# %%
hint("label_smoothing_loss")

# %% [markdown]
# ### Play: what it wants, and what it does
#
# The widget draws with **your** `label_smoothing_loss`. At the top are the targets. Below is the loss against the
# *gap*, by how much the logit of the right class leads. At the bottom are two models that were really trained, one
# with ε = 0 and one with 0.1, and how well their probabilities fit what happens.
#
# Three things to try:
#
# 1. ε = 0: where is the loss lowest? Nowhere: it falls for ever, and the logits are pushed apart without end.
# 2. ε = 0.1: now there is a lowest point, and beyond it being surer *costs*.
# 3. Look at the calibration. A model is well calibrated if, of all tokens to which it gives 0.8, 80 % are right.
#    Which of the two is better, and by how much?
#
# <details><summary>A still picture of it, for reading without a kernel</summary>
#
# ![Label smoothing: target bars, loss against the gap, and the calibration of two trained
# models](attachment:label_smoothing.png)
#
# </details>

# %%
LabelSmoothing(label_smoothing_loss)

# %% [markdown]
# Here the smoothed model is less sure than it may be, so its probabilities fit worse, and it makes about as many
# errors. Müller et al. (2019) found that smoothing often improves calibration in larger networks, which are too sure
# without it, and that it harms a model as a teacher of others. So it is a choice, to be measured on the task at hand.
# This lesson trains without it.
#
# ## 4. One step of training
#
# Everything is there. A step makes four things, one line each: inputs, mask, logits, loss. Then come three calls:
#
# | call | what it does |
# |---|---|
# | `optimizer.zero_grad()` | forgets the gradients of earlier steps; `backward` *adds* to what is there |
# | `loss.backward()` | computes the gradient of the loss at every weight |
# | `optimizer.step()` | moves every weight a little against its gradient |
#
# Why no mask for the target? The decoder is causal, and padding comes last. So no real token can see any, and what
# padded places answer is left out of the loss. The source is read in both directions: its padding has to be hidden.

# %% [markdown]
# ### Exercise 4: `train_step`
#
# Difficulty ●●○○○ · importance ●●●●● · about 15 minutes · a main one
#
# ```
# train_step(model, source, target, optimizer, pad_id, start_id) → loss
# model      called as model(source, inputs, source_mask) → logits (batch, length, V)
# source     int (batch, source)
# target     int (batch, length), each row with its end token, then padding; no start token
# optimizer  over the parameters of the model
# loss       a Python float: the loss of this batch before the step
# ```
#
# - The plain loss, `token_cross_entropy`; no smoothing, no clipping.
# - Gradients may be left over from before: the checks begin with some.
# - Call neither `model.train()` nor `model.eval()`: leave the mode as you find it. It is for the caller to choose.
#
# Use your own pieces: `shift_right`, `padding_mask` (lesson 02), `token_cross_entropy`.
#
# ```python
# optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
# train_step(model, source, target, optimizer, pad_id=0, start_id=1)  # 3.8 or so at first
# ```


# %% answer="train_step"
def train_step(model, source, target, optimizer, pad_id, start_id):
    """One step of teacher forcing; returns the loss before the step, as a float."""
    ### BEGIN SOLUTION
    inputs = shift_right(target, start_id)  # (batch, length)
    source_mask = padding_mask(source, pad_id)  # (batch, 1, 1, source)
    logits = model(source, inputs, source_mask)  # (batch, length, V)
    loss = token_cross_entropy(logits, target, pad_id)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
    ### END SOLUTION


# %% check="train_step"
check("train_step")

# %%
hint("train_step")

# %% [markdown]
# `trace("train_step")` runs your answer on one case and shows the shape of every name, line by line.

# %%
trace("train_step")

# %% [markdown]
# ### First of all: overfit one batch
#
# Before any long training, take eight words and train on them, and on nothing else. A model with a hundred thousand
# weights must be able to learn eight words by heart, so the loss has to go to nearly 0. If it does not, there is a
# bug, and you have found it within seconds and not after a night.

# %%
eight = {
    "cat": "K AE T",
    "planet": "P L AE N AH T",
    "music": "M Y UW Z IH K",
    "onion": "AH N Y AH N",
    "knight": "N AY T",
    "queue": "K Y UW",
    "rhythm": "R IH DH AH M",
    "mississippi": "M IH S IH S IH P IY",
}
eight_source = cmudict.batch(list(eight))  # (8, 11)
eight_target = nn.utils.rnn.pad_sequence(
    [torch.tensor(cmudict.phonemes_to_ids(said)) for said in eight.values()], batch_first=True
)  # (8, 9)

SMALL = Size(d_model=64, heads=4, d_ff=128, encoder_layers=1, decoder_layers=1)
torch.manual_seed(0)
parrot = word_model(SMALL)
optimizer = torch.optim.AdamW(parrot.parameters(), lr=3e-3)
losses = []
for _ in range(80):
    losses.append(my_model.train_step(parrot, eight_source, eight_target, optimizer, PAD, START))
print(f"{sum(p.numel() for p in parrot.parameters()):,} weights, 8 words")
print(f"first loss {losses[0]:.2f} (ln V = {math.log(V):.2f}), after 80 steps {losses[-1]:.3f}")

# %%
figure, ax = plt.subplots(figsize=(7, 3), facecolor="white", layout="constrained")
ax.plot(losses, color="#0072b2")
ax.axhline(math.log(V), color="grey", linestyle="--")
ax.text(80, math.log(V), "ln V", va="bottom", ha="right", color="dimgrey")
ax.set_xlabel("step")
ax.set_ylabel("loss (nats per token)")
ax.set_title("Eight words, learnt by heart", fontsize=11)
ax.grid(alpha=0.3)
plt.show()

# %% [markdown]
# ## 5. How wrong is it?
#
# The loss is what is trained, but not what one wants to know. If a model says T AH M EY T OW and the dictionary has
# T AH M AA T OW, how wrong is that? One phoneme of six. And if it leaves one out, all that follow stand one place
# early, and yet only one is missing. So count **edits**: the fewest insertions, deletions and substitutions that turn
# one sequence into the other (Levenshtein 1966).
#
# Let $d_{ij}$ be the distance between the first i tokens of a and the first j of b. Then
#
# $$d_{i0} = i, \qquad d_{0j} = j, \qquad
# d_{ij} = \min\bigl(\underbrace{d_{i-1,j} + 1}_{\text{delete } a_i},\;
# \underbrace{d_{i,j-1} + 1}_{\text{insert } b_j},\;
# \underbrace{d_{i-1,j-1} + [a_i \ne b_j]}_{\text{substitute, or keep}}\bigr)$$
#
# and the answer stands in the last corner of the table. Written as a plain recursion it asks for the same corners
# again and again, and the number of calls grows exponentially with the length. As a table, each corner is computed
# once.

# %% [markdown]
# ### Exercise 5: `edit_distance`
#
# Difficulty ●●●○○ · importance ●●●○○ · about 15 minutes
#
# ```
# edit_distance(a, b) → int
# a, b   sequences (lists, tuples, strings) of any tokens that can be compared; either may be empty
# ```
#
# You may use a library that computes it, but ten lines of your own are enough. Tokens of any kind are compared by
# `==`. The checks have two sequences of forty tokens: make a table, or give a recursion a memory.
#
# ```python
# edit_distance("kitten", "sitting")  # 3: k→s, e→i, and a g at the end
# ```


# %% answer="edit_distance"
def edit_distance(a, b):
    """The fewest insertions, deletions and substitutions that turn sequence a into sequence b."""
    ### BEGIN SOLUTION
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]  # table[i][j]: from the first i of a to the first j of b
    for i in range(len(a) + 1):
        for j in range(len(b) + 1):
            if i == 0 or j == 0:
                table[i][j] = i + j  # one side is empty: insert all, or delete all
            else:
                table[i][j] = min(
                    table[i - 1][j] + 1,  # delete a[i - 1]
                    table[i][j - 1] + 1,  # insert b[j - 1]
                    table[i - 1][j - 1] + (a[i - 1] != b[j - 1]),  # substitute, or keep at no cost
                )
    return table[-1][-1]
    ### END SOLUTION


# %% check="edit_distance"
check("edit_distance")

# %%
hint("edit_distance")

# %% [markdown]
# The whole table is made of distances between beginnings, so your function can draw it. The answer is in the last
# corner:

# %%
one, other = ["T", "AH", "M", "EY", "T", "OW"], ["T", "AH", "M", "AA", "T", "OW", "Z"]
cells = torch.tensor([[my_model.edit_distance(one[:i], other[:j]) for j in range(8)] for i in range(7)])
heat_map(cells.float(), ["", *one], ["", *other], "Edits between beginnings",
         cells=[[str(cell) for cell in row] for row in cells.tolist()])  # fmt: skip
plt.show()

# %% [markdown]
# Two rates are made from it. **PER**, the phoneme error rate, is edits per 100 phonemes of the right pronunciations,
# over all words together; it can exceed 100, since a model may insert as many phonemes as it likes. **WER**, the word
# error rate, is the share of words that are not entirely right. A word with several listed pronunciations is compared
# with the closest of them, and whoever reports a rate should say so: some compare with the first one listed.
#
# ## 6. Let it speak
#
# When the model speaks, nobody hands it the right tokens. It reads the start token, gives a distribution for the next
# one, and something has to be chosen; then it reads that too, and so on. The plainest choice is the likeliest token,
# every time: **greedy decoding**. It ends with the end token, or when it has gone on for too long.
#
# ```
# reads <start>            likeliest: P
# reads <start> P          likeliest: L
# reads <start> P L        likeliest: AE     …
# ```
#
# The spelling is encoded once. Only the decoder runs again, each time over one token more; of its logits only the last
# row counts, for it has read everything so far.

# %% [markdown]
# ### Exercise 6: `greedy_word`
#
# Difficulty ●●●○○ · importance ●●●●● · about 15 minutes
#
# ```
# greedy_word(model, source, start_id, end_id, max_length) → ids
# model       model.encode(source) → memory; model.decode(ids (1, so far), memory) → logits (1, so far, V)
# source      int (1, letters): one word, no padding
# max_length  how many tokens may be generated, the end token included, the start token not
# ids         a list of Python ints: what was generated, with the end token if it came, without the start token
# ```
#
# - The encoder runs once.
# - No cache yet: each step decodes the whole prefix again. Lesson 07 does better.
# - The start token may be the end token as well, as in some libraries. It is not generated, so it ends nothing.
#
# ```python
# ids = greedy_word(model, cmudict.batch(["cat"]), start_id=1, end_id=2, max_length=32)
ids  # [22, 4, 33, 2] if it says K AE T
# ```


# %% answer="greedy_word"
def greedy_word(model, source, start_id, end_id, max_length):
    """One word, (1, letters) → the list of generated ids, with the end token if it came."""
    ### BEGIN SOLUTION
    memory = model.encode(source)  # (1, letters, d_model), once
    ids = [start_id]
    for _ in range(max_length):
        logits = model.decode(torch.tensor([ids], device=source.device), memory)  # (1, len(ids), V)
        token = logits[0, -1].argmax().item()
        ids.append(token)
        if token == end_id:
            break
    return ids[1:]
    ### END SOLUTION


# %% check="greedy_word"
check("greedy_word")

# %%
hint("greedy_word")

# %% [markdown]
# Now the parrot of section 4 may speak: two of the eight words that it knows by heart, and two that it has never met.
# `model.eval()` comes first, always: where a model is trained with dropout, it would otherwise speak with a part of
# its numbers missing.


# %%
@torch.no_grad()
def say(model, word, max_length=32):
    """What a model says for a word, as phonemes; '…' where it did not come to an end."""
    model.eval()
    source = cmudict.batch([word]).to(next(model.parameters()).device)
    ids = my_model.greedy_word(model, source, START, END, max_length)
    return [*cmudict.ids_to_phonemes(ids), *([] if END in ids else ["…"])]


for word in ("knight", "mississippi", "planets", "banana"):
    print(f"{word:>12}: {' '.join(say(parrot, word))}")

# %% [markdown]
# It has learnt its eight words, and no more. That was the aim: the machinery works. What is missing is data.
#
# ## 7. Break it
#
# First a small training that is sound, to compare with: 200 steps on 64 words each. Then two that are not. The same
# model, the same batches; each takes a few seconds.


# %%
def short_training(read, labels=lambda target: target, pad_id=PAD, steps=200):
    """Train a small model; `read` makes the decoder's inputs from the target, `labels` what it is asked for."""
    torch.manual_seed(0)
    model = word_model(SMALL)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    curve = []
    for step in range(steps):
        source, target = batches[step]
        logits = model(source, read(target), my_model.padding_mask(source, PAD))
        loss = my_model.token_cross_entropy(logits, labels(target), pad_id)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return model, curve


unseen = cmudict.load("validation").shuffle(seed=0).select(range(50))


def tell(name, model, curve):
    """Last loss, PER, how many words came to an end, and two samples."""
    edits = phonemes = ended = 0
    for row in unseen:
        heard = say(model, row["word"])
        ended += heard[-1:] != ["…"]
        edits += min(my_model.edit_distance(heard, listed.split()) for listed in row["pronunciations"])
        phonemes += len(row["pronunciations"][0].split())
    loss, per = sum(curve[-10:]) / 10, 100 * edits / phonemes
    print(f"{name}: loss {loss:.3f}, PER {per:.0f}, {ended} of {len(unseen)} words ended")
    for word in ("planet", "button"):
        print(f"    {word}: {' '.join(say(model, word)[:16])}")


sound, sound_curve = short_training(read=lambda target: my_model.shift_right(target, START))
tell("sound", sound, sound_curve)

# %% [markdown]
# Not good yet after 200 steps, but on its way: the sounds are those of the letters, more or less.
#
# ### The input not shifted
#
# One word is changed: the decoder reads `target` itself.

# %%
copying, copying_curve = short_training(read=lambda target: target)
tell("not shifted", copying, copying_curve)

# %%
figure, ax = plt.subplots(figsize=(7, 3.2), facecolor="white", layout="constrained")
for curve, name, colour in ((sound_curve, "shifted: learns to say words", "#0072b2"),
                            (copying_curve, "not shifted: learns to copy", "#d55e00")):  # fmt: skip
    ax.plot(curve, color=colour)
    ax.annotate(name, (90, max(curve[80:])), (0, 4), textcoords="offset points")
ax.set_xlabel("step")
ax.set_ylabel("loss (nats per token)")
ax.set_ylim(bottom=0)
ax.grid(alpha=0.3)
plt.show()

# %% [markdown]
# A loss near 0, a PER of several hundred, and not one word that ends: on its own it repeats one token for ever.
#
# ### The padding is the end token
#
# Some tokenisers come without a padding token, and it is common to take the end token for it. Then the loss is told to
# leave the padding out, and with it every end.

# %%
no_end, no_end_curve = short_training(
    read=lambda target: my_model.shift_right(target, START),
    labels=lambda target: target.masked_fill(target == PAD, END),
    pad_id=END,
)
tell("pad = end", no_end, no_end_curve)

# %% [markdown]
# The loss has nothing to complain of: it is about as low as the sound one's. But no word comes to an end. The end
# token has never been asked for, so the model never says it. If the two must share an id, go by the *lengths* of the
# words and not by the id.
#
# ## 8. Train your own model
#
# Now the real thing: your pieces, your `train_step`, all the words. `word_model()` puts your encoder-decoder together
# (3 + 2 layers, d_model 128), and `train` is a loop of one screen that calls your `train_step` for each batch
# (`crosstalk/training.py`, if you want to read it). It shows the loss as it goes and lets the model speak now and
# then. First a small one, so that you see what you will see:

# %%
from crosstalk.training import train

torch.manual_seed(0)
first = word_model(SMALL)
small_log = train(first, batches, 150, my_model.train_step, words=["planet", "button", "rhyme"])

# %% [markdown]
# The learning rate rises at first and then falls to 0, and the optimiser is a quicker one than AdamW (Muon, for the
# matrices of the layers; Jordan et al. 2024). So these 150 steps go about as far as the 200 above. What is learnt, and
# from what, is the same: your step.
#
# ### Yours
#
# The training itself takes some minutes; the line under the bar says how many are left. **You can stop it at any
# time** (■ in the tool bar) **and run the cell again: it goes on where it was.** Closing the lid is fine, too. After a
# restart of the kernel it needs the two cells at the top of this lesson, and no others. If you press ■ while it is
# still loading words, you see a `KeyboardInterrupt`: nothing is lost.
#
# Set `TRAIN = True` to train. With `False` the cell loads what came of just this training, 3,000 steps with the same
# loop, and puts those weights into *your* pieces; the curve is then that of the training they come from.

# %%
import os

from IPython.display import display

from crosstalk.checkpoints import load_into
from crosstalk.training import train

TRAIN = False

torch.manual_seed(0)
mine = word_model()
if TRAIN and "NBGRADER_EXECUTION" not in os.environ:  # while it is graded, a notebook does not train
    everything = WordBatches(cmudict.load("train"), size=128)
    log = train(mine, everything, 3_000, my_model.train_step, name="my-model")
else:
    log = load_into(mine, "cmudict-lesson")
    display(log)
mine.eval()
print(f"{sum(p.numel() for p in mine.parameters()):,} weights")

# %% [markdown]
# ### My model says my name
#
# Put in your own name, or any word of the letters a to z. None of the names below is promised to be right.

# %%
for name in ("ada", "kofi", "mei", "siobhan", "crosstalk"):
    print(f"{name:>12}: {' '.join(say(mine, name))}")

# %% [markdown]
# ### How good is it?
#
# `error_rates` decodes a whole batch at once (you write that in lesson 07) and counts with the same edit distance. The
# words are of the test part: neither they nor their relatives (*walk*, *walked*) were trained on.

# %%
from crosstalk.metrics import error_rates, pronounce

test = cmudict.load("test").shuffle(seed=0).select(range(400))
print(error_rates(mine, test))

# %% [markdown]
# What kind of errors? With your `edit_distance`, by the number of edits:

# %%
heard = pronounce(mine, test["word"])
edits = [
    min(my_model.edit_distance(said, listed.split()) for listed in pronunciations)
    for said, pronunciations in zip(heard, test["pronunciations"])
]
counts = [sum(e == n for e in edits) for n in range(4)] + [sum(e >= 4 for e in edits)]
figure, ax = plt.subplots(figsize=(7, 3), facecolor="white", layout="constrained")
bars = ax.bar(["0", "1", "2", "3", "4 or more"], counts, color="#0072b2")
ax.bar_label(bars)
ax.margins(y=0.12)
ax.set_xlabel("edits to the closest listed pronunciation")
ax.set_ylabel("words")
ax.set_title("400 words of the test part", fontsize=11)
plt.show()

# %%
wrong = [index for index, count in enumerate(edits) if count]
for index in wrong[:8]:
    row = test[index]
    print(f"{row['word']:>16}: says {' '.join(heard[index]):<34} listed {' | '.join(row['pronunciations'])}")

# %% [markdown]
# Read them aloud. Many of the errors are a vowel that could as well have been right: names from other languages, a
# schwa (AH) for another weak vowel. The dictionary is made by people, and so some of its own entries are doubtful.
#
# Things to try: a word that does not exist, such as *blorf*; a word with a silent letter; a very long one.

# %% [markdown]
# ## 9. What you built
#
# The decoder reads the right tokens moved by one place and is asked for the next one, at all places at once. Your loss
# is the mean of -ln p over real tokens, and starts near ln V. Your step has trained a model that says words it has
# never seen, and edits per phoneme tell how well.
#
# $$L = \frac{1}{\#\{t : y_t \ne \text{pad}\}} \sum_{t:\ y_t \ne \text{pad}} -\ln P(y_t \mid y_{<t}, x)$$
#
# **Next**, lesson 06: six trainings that run without an error and are wrong. You find out why, from their curves and
# from what the models say.
#
# **Sources**
#
# - Williams & Zipser (1989), *A Learning Algorithm for Continually Running Fully Recurrent Neural Networks*: teacher
#   forcing, and its name.
# - Szegedy et al. (2016), *Rethinking the Inception Architecture for Computer Vision*: label smoothing, section 7.
# - Müller, Kornblith & Hinton (2019), *When Does Label Smoothing Help?*: calibration and distillation.
# - Press & Wolf (2017), *Using the Output Embedding to Improve Language Models*: tied embeddings.
#
# To see that all of it holds from a fresh start: **Kernel → Restart Kernel and Run All Cells**. It is safe to close;
# your pieces are in `work/my_model/`, your training in `work/training/`.
