# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 Start here
#
# In this course you build an **encoder-decoder** from its smallest parts, train it, and use it to pronounce words,
# translate, summarise, listen and look. You write each part yourself, and each is checked as soon as you like.
#
# At the end of this lesson you will be able to
#
# - say what an encoder-decoder is, and what it is used for;
# - say how such a model gives one probability to a whole word, although it writes token by token;
# - compute that probability, as a logarithm, with a function of your own;
# - read what a check tells you, and find your way back when you are stuck.
#
# Time: about 45 minutes. Before it: some Python, and a small network that you have trained once. No GPU, no internet.
#
# A notebook is made of cells. Click into the next one and press **Shift + Enter**: it runs, and the cell after it is
# selected. Run this cell first in every lesson. Your answers are judged with these imports and nothing else.

# %% setup=true
import math

import torch

from autograder import check, hint, trace

# %% [markdown]
# ## 1. What an encoder-decoder is
#
# It turns one sequence into another of a different length. Here is the whole model, in one picture. You will meet
# it again at the top of each lesson, with that day's parts lit and with the parts that are already yours.

# %%
from crosstalk.map import model_map

model_map("00-start-here")

# %% [markdown]
# Read it in two columns.
#
# - On the left the **encoder** reads the whole *source* x at once. It makes the *memory* H from it: one row of
#   numbers for each piece of the source.
# - On the right the **decoder** writes the *target* y, one *token* at a time. Each time it looks at the memory and at
#   the tokens that it has written so far, and gives a probability to every token that could come next.
# - The chosen token goes back in at the top (the long arrow on the right), until the model says: end.
#
# You need not understand the boxes yet. Each gets a lesson. Today's part is the little one at the lower left, and it
# is where all training begins: how good is a whole sequence, according to the model?
#
# Two sequences of different lengths: that fits many jobs.
#
# | job | source x | target y | where in the course |
# | --- | --- | --- | --- |
# | spelling to sound | letters | phonemes | from here to lesson 09 |
# | translation | English words | German words | lesson 10 |
# | summarisation | a long text | a short one | lesson 11 |
# | speech recognition | sound | words | lessons 12 and 14 |
# | captions | a picture | words | lesson 13 |
#
# From job to job only the entrance of the encoder changes. What you build for spelling works for the others.

# %% [markdown]
# ## 2. The running example: how is it said?
#
# Our data is the CMU Pronouncing Dictionary: how English words are spelt, and how they are said in North America. A
# sound is a **phoneme**, written in capitals: *cat* is `K AE T`.

# %%
import matplotlib.pyplot as plt

from crosstalk.data import cmudict, factorisation
from crosstalk.widgets import Factorisation, Predict

torch.set_num_threads(1)  # tiny tensors are fastest on one thread

dictionary = {}
for part in ["train", "validation", "test"]:
    data = cmudict.load(part)
    dictionary |= zip(data["word"], data["pronunciations"], strict=True)

print(f"{len(dictionary):,} words")
for word in ["cat", "knight", "queue", "colonel", "thoroughbred"]:
    said = dictionary[word][0]
    print(f"{word:>12} → {said:<24} {len(word):2} letters, {len(said.split())} phonemes")

# %% [markdown]
# Nobody can line the letters up with the sounds one by one. *knight* has six letters and three phonemes, and the
# first letter says nothing at all. That is why the encoder first reads the whole word.
#
# And there is not always one right answer:

# %%
for word in ["read", "tomato", "either", "wind"]:
    print(f"{word:>8} → {'   or   '.join(dictionary[word])}")

several = sum(len(said) > 1 for said in dictionary.values())
print(f"\n{several:,} of {len(dictionary):,} words ({several / len(dictionary):.1%}) have several pronunciations")

# %% [markdown]
# So a model must not only say what it thinks. It must say how sure it is. It answers with probabilities.
#
# A network knows numbers only. Each token has an **id**, its place in a list that is called the **vocabulary**.

# %%
print(cmudict.letters_to_ids("cat"))
print(cmudict.phonemes_to_ids("K AE T"))
print(len(cmudict.PHONEMES), "tokens:", *cmudict.PHONEMES)

# %% [markdown]
# Three letters went in, and four target ids came out. The last one, 2, is `<end>`, the **end token**. A pronunciation
# is over when the end token has been said, and not earlier. `<start>` and `<pad>` get their turn in later lessons.
#
# ## 3. One step: a probability for each token
#
# You have no model of your own yet, so here is what another one said. It is a small encoder-decoder, trained on the
# dictionary for a few minutes. The words below and their relatives were kept out of its training: it has
# never seen them. (How it was made stands in its card, assets/data/factorisation/README.md.)

# %%
table = factorisation.load()
by_name = {(each["word"], each["label"]): each for each in table}

read = by_name["read", "dictionary, 1"]
print(read["tokens"])
print(read["log_probs"].shape)  # (target, vocabulary)
print(read["target"])  # (target,)

# %% [markdown]
# `log_probs` has one row for each target token and one column for each token of the vocabulary. Row t is the model's
# answer to one question: *the word is spelt r e a d, and so far you said y_<t. What comes next?* The sign y_<t means
# all tokens before place t; it is called the **prefix**.
#
# The entries are logarithms of probabilities. Section 5 says why. `exp` brings the probabilities back. These are
# the largest of each row:

# %%
from crosstalk.plots import heat_map

probabilities = read["log_probs"].exp()  # (4, 42), each row sums to one
likely = [read["vocabulary"].index(token) for token in ["R", "EH", "IY", "EY", "D", "<end>"]]
prefixes = [" ".join(["read:", *read["tokens"][:t], "?"]) for t in range(4)]

heat_map(probabilities[:, likely], prefixes, [read["vocabulary"][i] for i in likely], "P(next token | prefix, word)")
print("row sums:", probabilities.sum(dim=1))

# %% [markdown]
# Look at the second row. After R the model hesitates between EH, as in *I have read it*, and IY, as in *I like to
# read*. It has to: the spelling does not tell. All other steps are nearly certain.
#
# ## 4. All steps: multiply
#
# The probability of the whole pronunciation is the product over its steps. This is called the **factorisation**:
#
# $$P(y \mid x) = \prod_{t} P(y_t \mid y_{<t},\, x)$$
#
# | sign | what it is | here |
# | --- | --- | --- |
# | $x$ | the source | r e a d |
# | $y$ | the target, with its end token | R EH D end |
# | $y_t$ | the token at place t (counted from 1 in formulas, from 0 in code) | $y_2$ is EH |
# | $y_{<t}$ | the tokens before it | $y_{<2}$ is R |
# | $\prod_t$ | multiply over all places t | four factors |
#
# Nothing is approximated here. It is the chain rule of probability: to say *R EH D*, say R, *and then* EH, *and then*
# D, *and then* stop.
#
# Before you go on, a question. There are a few in each lesson. A wrong guess costs nothing, and each choice
# tells you why it is right or wrong.

# %%
Predict(
    "A word has seven tokens, and the model gives each of them probability 0.9. How probable is the whole word?",
    {
        "0.9": "That would be the average of the steps. But every step has to come out right, one after the other: "
        "the factors are multiplied, and each of them makes the product smaller.",
        "about 0.48": "Yes: 0.9 seven times by itself. Rather sure at each step, and the whole word is a coin toss.",
        "about 0.1": "That is the chance of a mistake at one step. The word is right if none of the seven steps "
        "goes wrong.",
    },
    right="about 0.48",
)

# %% [markdown]
# See for yourself:

# %%
for length in [1, 3, 7, 14, 28]:
    print(f"{length:2} tokens of 0.9: {0.9**length:.2f}")

# %% [markdown]
# Long words are hard: each step is one more chance to go wrong.
#
# ## 5. Logarithms: add
#
# Products of many small numbers are unpleasant, as you will see in section 9. So one takes logarithms, and the
# product becomes a sum:
#
# $$\log P(y \mid x) = \sum_{t} \log P(y_t \mid y_{<t},\, x)$$
#
# A probability of 1 has logarithm 0. Smaller ones are negative: the further below 0, the less likely.

# %%
for p in [1.0, 0.9, 0.5, 0.1, 0.001]:
    print(f"P = {p:<6} log P = {math.log(p):6.2f}")

print(f"\nseven times log 0.9 = {7 * math.log(0.9):.3f}, and exp of that = {math.exp(7 * math.log(0.9)):.3f}")

# %% [markdown]
# Now walk through some pronunciations yourself. The stairs on the right go down by log P at each token.
#
# Things to try:
#
# 1. *read*: step through both pronunciations (arrow keys or space bar). Where is the deep step? Then look at the
#    wrong one, *as in ride*.
# 2. *knight*: does the model know the silent *k*? Then *colonel*: on which token does it stop believing the
#    dictionary?
# 3. *catalog*, pronunciation *cut short*: that is a *catalog* that ends like a *cat*. Which step costs most?
#
# <details><summary>A still picture of it, with another word and made-up numbers, for reading without a kernel</summary>
#
# ![The factorisation widget: for each token the likeliest candidates as bars,
# and stairs going down by log P](attachment:factorisation.png)
#
# </details>

# %%
Factorisation(table)

# %% [markdown]
# ## 6. The end token counts
#
# The last step of every pronunciation is the end token, and it has a probability like every other. Does it matter?

# %%
Predict(
    "Leave the end token out of the product. Which then gets the higher score for *cat*: the right `K AE T`, or its "
    "beginning `K AE`?",
    {
        "`K AE T`, it is the right one": "The model knows that, but it says so at the end token, which you left out. "
        "`K AE T` has all the factors of `K AE` and one more, and no factor is above 1.",
        "`K AE`, and so for every word": "Yes. The beginning has fewer factors and none of them is above 1: it never "
        "scores lower than the whole. Only the end token tells a finished word from a beginning.",
        "it depends on the model": "Not here. Whatever the model, `K AE T` has the factors of `K AE` and one more, "
        "and no probability is above 1.",
    },
    right="`K AE`, and so for every word",
)

# %% [markdown]
# Go back to the widget and try it: choose *cat*, then switch off *count the end token* and compare the two lines of
# the small table. Then *catalog* against its `K AE T`.
#
# With the end token, all finished pronunciations of a word share one whole: their probabilities together never come to
# more than 1. That is what makes them comparable. Without it the same share is counted again and again, as you will
# see in section 9.
#
# ## 7. Your turn, and how a check works
#
# ### Exercise 1: `sequence_log_prob`
#
# Difficulty ●○○○○ · importance ●●●●○ · about 10 minutes
#
# $$\log P(y \mid x) = \sum_{t} \log P(y_t \mid y_{<t},\, x)$$
#
# - `log_probs` (target, vocabulary): row t holds $\log P(\cdot \mid y_{<t}, x)$ for each token of the vocabulary.
# - `target` (target,): the ids of the tokens $y_t$, the end token included.
# - Returns one number, a tensor of shape `()` and of the type of `log_probs`: from each row the entry that belongs to
#   the target token, all added up. A gradient must be able to flow through it, so no `.item()`.
#
# ```python
# log_probs = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1]]))
# sequence_log_prob(log_probs, torch.tensor([0, 2]))  # log 0.7 + log 0.1 = tensor(-2.6593)
# ```
#
# Do not solve it yet. First make friends with the check:
#
# 1. Run the next two cells as they are. The first defines a function that does nothing yet, and the check says so.
# 2. Now write something wrong on purpose. Put `return log_probs.sum()` in place of `raise NotImplementedError`, and
#    run both cells again.
# 3. Read the report from the top. How many cases are right: a case is one input that your function is tried on. Then
#    **what is wrong, in words**: the check knows what people often write here, and compares your results with theirs.
#    Where it does not recognise the mistake, it says what differs: the shape, the type, where the numbers part.
# 4. Under the first wrong case stand two lines to **see it again**, and your result beside the expected one. Copy the
#    two lines into a new cell (press Esc, then B) and run them.
#
# Then solve it.


# %% answer="sequence_log_prob"
def sequence_log_prob(log_probs, target):
    """log P(y|x): log_probs (target, vocabulary), target (target,) → scalar."""
    ### BEGIN SOLUTION
    places = torch.arange(len(target))  # (target,): 0, 1, 2, …
    of_tokens = log_probs[places, target]  # (target,): row t, column target[t]
    return of_tokens.sum()  # ()
    ### END SOLUTION


# %% check="sequence_log_prob"
check("sequence_log_prob")

# %% [markdown]
# Two helpers, in this lesson and in all others. `hint` gives one hint at a time, from gentle to nearly everything.
# `trace` runs your function on its first case, and shows after each line what it made, with shapes. Most mistakes in
# this course are a shape that is not what you thought.

# %%
hint("sequence_log_prob")

# %%
trace("sequence_log_prob")

# %% [markdown]
# Your function is judged on its own, with the imports of the first cell and with what you wrote in earlier exercises.
# If it needs a helper function, put the helper into the same cell.
#
# Once it passes, the check shows you a good solution or two to compare with, and keeps yours as a **piece** of your
# own model. Run the map at the top again: one part of it is yours.
#
# ## 8. Your function at work
#
# Is it the same sum as the widget's? Here the widget calls *your* function on what is chosen, with and
# without the end token, and compares.
#
# Things to try: choose *tomato*. Which of its two right pronunciations does the model prefer, and what would it say
# itself? Then switch the end token off and on, and watch both sums.

# %%
Factorisation(table, score=sequence_log_prob)

# %% [markdown]
# ## 9. Break it
#
# ### Multiply instead of adding
#
# You could multiply the probabilities and take one logarithm at the end. In mathematics that is the same.

# %%
Predict(
    "You multiply 300 probabilities of 0.1 in float32, the usual type of a tensor. What comes out?",
    {
        "1e-300": "That is the right product. But the smallest number above 0 that float32 can hold is about 1.4e-45.",
        "0": "Yes. The smallest number above 0 in float32 is about 1.4e-45. Below it comes 0, and log 0 is -inf: a "
        "score that tells nothing and teaches nothing.",
        "NaN": "No rule is broken, so nothing becomes NaN yet. The product gets too small to be held, and that is 0. "
        "(A gradient through log 0 is where NaN comes in.)",
    },
    right="0",
)

# %% [markdown]
# To see it on real numbers, take a hundred words that the model has never seen, and read their pronunciations one
# after the other as one very long sequence.

# %%
held_out = factorisation.load_held_out()
long_log_probs = torch.cat([each["log_probs"] for each in held_out])  # (all tokens, 42)
long_target = torch.cat([each["target"] for each in held_out])  # (all tokens,)
print(long_log_probs.shape, long_target.shape)

print("sum of logs:", sequence_log_prob(long_log_probs, long_target))

steps = zip(long_log_probs, long_target, strict=True)
of_tokens = torch.stack([sequence_log_prob(row[None], token[None]) for row, token in steps]).exp()  # (all tokens,)
for dtype in [torch.float16, torch.float32, torch.float64]:
    product, count = torch.tensor(1.0, dtype=dtype), 0
    for p in of_tokens.to(dtype):
        if product > 0:
            product, count = product * p, count + 1
    lowest = math.log(torch.finfo(dtype).tiny * torch.finfo(dtype).eps)  # of the smallest number above 0
    print(f"{dtype}: {product.log().item():8.2f} after {count} tokens; the type reaches down to {lowest:.1f}")

# %% [markdown]
# In float16 and float32 the product became 0 on the way, and its logarithm -inf. In float16 a dozen words were enough.
# In float64 it survived the hundred words, but a few pages of text would be too much for it as well. The sum of
# logarithms has no such trouble.
#
# ### Drop the end token
#
# Now with your function, for each word that has a pronunciation cut short:

# %%
print("                        with the end token      without it")
for (word, label), short in by_name.items():
    if label == "cut short":
        right = by_name.get((word, "dictionary")) or by_name[word, "dictionary, 1"]
        for each in (right, short):
            log_p = sequence_log_prob(each["log_probs"], each["target"])
            without = sequence_log_prob(each["log_probs"][:-1], each["target"][:-1])
            said = " ".join(each["tokens"][:-1])
            print(f"{word:>9} {said:<18}{log_p:10.3f}{without:18.3f}")

# %% [markdown]
# With the end token the whole word wins each time, and by far. Without it the beginning wins each time, as
# section 6 said. Best of all would then be to say nothing: the product of no factors is 1.
#
# And this is the share that is counted again and again:

# %%
cat = by_name["cat", "dictionary"]
total = 0.0
for end in range(1, 5):
    p = sequence_log_prob(cat["log_probs"][:end], cat["target"][:end]).exp().item()
    total += p
    print(f"P of {' '.join(cat['tokens'][:end]):<14} = {p:.3f}    all so far: {total:.3f}")

# %% [markdown]
# The first three are no finished words, and with the fourth they come to far more than 1. Only the last is the
# probability of a pronunciation.
#
# ## 10. On real data
#
# How sure is the model of the hundred words, and does it depend on their length?

# %%
lengths = torch.tensor([len(each["target"]) for each in held_out])  # (100,)
scores = torch.stack([sequence_log_prob(each["log_probs"], each["target"]) for each in held_out])  # (100,)

figure, ax = plt.subplots(figsize=(7, 4), facecolor="white", layout="constrained")
aside = torch.linspace(-0.25, 0.25, len(lengths))  # so that points do not hide each other
ax.scatter(lengths + aside, scores, s=22, color="#0072b2", alpha=0.7, label="one word")
often = [length for length in range(3, 17) if (lengths == length).sum() >= 4]
means = [scores[lengths == length].mean() for length in often]
ax.plot(often, means, color="#d55e00", marker="D", label="mean, where there are four words or more")
for i in scores.argsort()[:4].tolist():
    ax.annotate(held_out[i]["word"], (lengths[i] + aside[i] - 0.15, scores[i]), ha="right", va="center")
ax.set(xlabel="tokens of the pronunciation, with the end token", ylabel="log P (nats)")
ax.set_title("log P of the dictionary's pronunciation")
ax.legend(loc="lower left")
plt.show()

for name, some in [("up to 6 tokens", lengths <= 6), ("7 or more", lengths > 6)]:
    per_token = scores[some].sum() / lengths[some].sum()
    print(f"{name:>15}: {int(some.sum()):3} words, mean log P {scores[some].mean():6.2f}, per token {per_token:6.2f}")

# %% [markdown]
# Longer words get lower scores on the whole: they have more factors, and here each factor is also a little lower, as
# the last column says. But within one length the differences are
# far larger. Where do they come from? Take one of the four that have their name in the picture:

# %%
finagler = next(each for each in held_out if each["word"] == "finagler")
for t, token in enumerate(finagler["tokens"]):
    log_p = sequence_log_prob(finagler["log_probs"][t : t + 1], finagler["target"][t : t + 1])
    favourite = finagler["vocabulary"][finagler["log_probs"][t].argmax()]
    print(f"{token:>6}   log P = {log_p:6.2f}   the model's favourite: {favourite}")

# %% [markdown]
# Two vowels cost nearly all of it: AH and EY, where the model would rather have said AY and AE. One surprising phoneme
# costs more than many easy ones.
#
# Last, right against wrong. For each word of the table the bar shows how much of the probability goes to what the
# dictionary allows, and how much to the likeliest of the wrong ones.

# %%
shares = {}
for each in table:
    p = sequence_log_prob(each["log_probs"], each["target"]).exp().item()
    right, wrong = shares.get(each["word"], (0.0, 0.0))
    shares[each["word"]] = (right + p, wrong) if each["right"] else (right, max(wrong, p))

ordered = sorted(shares, key=lambda word: shares[word][0])
right, wrong = zip(*(shares[word] for word in ordered), strict=True)
figure, ax = plt.subplots(figsize=(7, 6), facecolor="white", layout="constrained")
ax.barh(ordered, right, color="#0072b2", label="the dictionary's, all together")
ax.barh(ordered, wrong, left=right, color="white", edgecolor="#d55e00", hatch="///", label="the likeliest wrong one")
ax.set(xlabel="probability", xlim=(0, 1), title="Who gets the probability?")
ax.legend(loc="lower right")
plt.show()

for each in table:
    if each["word"] in ("read", "colonel") and each["label"] != "letter by letter":
        log_p = sequence_log_prob(each["log_probs"], each["target"])
        print(f"{each['word']:>8} {' '.join(each['tokens']):<24} log P = {log_p:6.2f}   {each['label']}")

# %% [markdown]
# For *read*, nearly all of the probability goes to the two right pronunciations. The model does not know which one
# you mean, and says so. For *colonel* it believes in the spelling, as anyone would who has never heard the word. A
# log-probability does not say what is right. It says what *this model* expects, given what it has seen.
#
# Training, in lesson 05, is nothing but pushing exactly this sum up, for the right pronunciation of one word after the
# other.
#
# ## 11. Finding your way
#
# ### The course
#
# Every topic, and where it lives. The lessons marked as planned cannot be opened yet.

# %%
from crosstalk.syllabus import syllabus

syllabus()

# %% [markdown]
# ### What you have done so far
#
# One bar for each lesson, one box for each exercise, as wide as it has points. In a terminal of
# JupyterLab (File → New → Terminal), `crosstalk progress` prints the same as a table.

# %%
from crosstalk.progress_table import progress_picture

progress_picture()

# %% [markdown]
# ### Words and signs
#
# Each term has one exact sentence, and each sign of a formula too. Ask for one from any lesson, or look at them all.

# %%
from crosstalk.glossary import glossary

glossary("memory")

# %%
glossary()

# %% [markdown]
# ### How to work here
#
# - **Safe to close.** What you write is saved in this notebook, in the folder `work`. A passed answer is also kept in
#   `work/my_model`, as a piece of your own model: later lessons use it. Close the browser whenever you like.
# - **Stuck?** After three tries the check offers you a *stand-in*: a ready-made function that later lessons use until
#   yours passes. Take it, go on, and come back. In a terminal of JupyterLab, `crosstalk report sequence_log_prob`
#   prints a text that you can send to a teacher: your answer, the verdict, versions, nothing private.
# - **Before you stop: restart and check.** Choose *Kernel → Restart Kernel and Run All Cells*. Everything then runs
#   from an empty memory, top to bottom. If your check still passes, it passes everywhere; if not, your
#   answer leaned on a cell that is no longer there.
# - **Points.** Each exercise has points, and partly right answers get a part of them. If you are in a class, your
#   teacher collects this same notebook and grades it with nbgrader: the same checks, the same points, and perhaps
#   some further cases of the same kind. Graded lessons use stand-ins for all earlier exercises, so one mistake
#   never costs you twice.

# %% [markdown]
# ## 12. What you built
#
# A model that writes token by token gives a probability to every next token. The probability of a whole sequence is
# their product, end token included. You compute it as a sum of logarithms, because products of many small numbers
# vanish.
#
# $$\log P(y \mid x) = \sum_{t} \log P(y_t \mid y_{<t},\, x)$$
#
# **Next:** [01 Attention](../01-attention/attention.ipynb). How does the model know which letters matter for the next
# sound? You write the four lines that let it choose.
#
# **Sources**
#
# - Sutskever, Vinyals & Le (2014), *Sequence to Sequence Learning with Neural Networks*: the factorisation, the end
#   token, and translation with them.
# - Cho et al. (2014), *Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
#   Translation*: where the name comes from.
# - Vaswani et al. (2017), *Attention Is All You Need*: the model on the map.
