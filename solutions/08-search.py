# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 Search
#
# **Which sequence do you take?** Your model gives a probability to every sequence there is. So far you have taken the
# likeliest token at each step and hoped. Today you look further: first for the likeliest *sequence*, with a beam; then
# you give up looking for the best, and draw. And you measure what each of them costs, and what it brings. The answer
# is not the same for every task.
#
# At the end you will be able to
#
# - say why the likeliest tokens need not make the likeliest sequence, and show it on a model small enough to check;
# - write beam search, with a length penalty, for any model that says what comes next;
# - cut a distribution by top-k and top-p, sharpen or flatten it, and draw from it so that others can repeat it;
# - measure quality, time and variety, and say where more search stops helping.
#
# Time: about 130 minutes. Stop where you like: what has passed is kept. Before it:
# [07 Decoding](../07-decoding/decoding.ipynb).
#
# Run this cell first. Your answers are judged with these imports and the earlier exercises: your own where they have
# passed, stand-ins where not yet.

# %% setup=true
import math

import torch
from torch.nn import functional as F

from autograder import check, hint, trace

# %% [markdown]
# The next cell brings what this lesson shows things with, and your model: the one that you trained in lesson 05 where
# there is one, and else the checkpoint.

# %%
import time
from collections import Counter
from itertools import product

import matplotlib.pyplot as plt

from crosstalk import my_model
from crosstalk.caching import caching
from crosstalk.checkpoints import own_model
from crosstalk.data import cmudict
from crosstalk.data import search as recorded
from crosstalk.decoding import stepping
from crosstalk.map import model_map
from crosstalk.metrics import compare
from crosstalk.plots import heat_map
from crosstalk.widgets import BeamTree, Predict, SamplingTable

torch.set_num_threads(1)  # small tensors: a second thread would only get in the way
torch.set_printoptions(precision=3, sci_mode=False)
PAD, START, END = cmudict.PAD, cmudict.START, cmudict.END
mine = own_model()
model_map("08-search")

# %% [markdown]
# ## 1. The best step is not the best way
#
# Here is a model with two real tokens, A and B. It is small enough to write down: what comes next, and how likely it
# is, after every prefix.

# %%
NAMES = ["A", "B", "<end>", "<start>"]  # ids 0, 1, 2, 3
TINY = {  # after these tokens:  A     B     <end>
    "":   [0.60, 0.40, 0.00],
    "A":  [0.40, 0.35, 0.25],
    "B":  [0.07, 0.03, 0.90],
    "AA": [0.15, 0.35, 0.50],
    "AB": [0.10, 0.44, 0.46],
    "BA": [0.25, 0.15, 0.60],
    "BB": [0.20, 0.10, 0.70],
}  # fmt: skip


def tiny_step(prefixes):
    """Prefixes (beams, length), start token included → log-probabilities of the next token (beams, 3).

    It knows three tokens, no more: TINY has nothing for what comes after AAA. After the end comes the end.
    """
    spelt = ["".join(NAMES[token] for token in row[1:]) for row in prefixes.tolist()]
    rows = [[0.0, 0.0, 1.0] if "<end>" in each else TINY[each] for each in spelt]
    return torch.tensor(rows).log()  # log 0 is -inf: impossible


print(tiny_step(torch.tensor([[3, 0], [3, 1]])).exp())  # (2, 3): what follows A, what follows B

# %% [markdown]
# Greedy decoding starts with A, since 0.6 is more than 0.4. After A comes A, with 0.4, and then `<end>`, with 0.5.
# Its sequence has the probability 0.6 · 0.4 · 0.5.
#
# There are only six sequences that end within three tokens. So let us look at all of them: this is **brute force**,
# and its answer is right by definition.

# %%
every = []
for length in range(3):
    for tokens in product([0, 1], repeat=length):
        ids = [3, *tokens, 2]  # <start> … <end>
        steps = [tiny_step(torch.tensor([ids[:t]]))[0, ids[t]] for t in range(1, len(ids))]
        every.append((float(sum(steps)), ids[1:]))
for log_prob, ids in sorted(every, reverse=True):
    if log_prob > -math.inf:
        print(f"P = {math.exp(log_prob):.4f}   log P = {log_prob:6.2f}   {' '.join(NAMES[i] for i in ids)}")

# %% [markdown]
# Greedy's A A `<end>` is only the third. The best sequence begins with B, the *less* likely token, because A leads to
# nothing good: its mass is spread over many continuations. At the first step there is no way to know that.
#
# The remedy is not to decide yet. Keep the best **k** prefixes, not one: a **beam** of width k. At each step, let all
# of them go on by every token, and keep the best k of *all* these expansions.
#
# Why not brute force for real? With 39 phonemes to choose from, there are 39⁸ words of eight phonemes. (A beam has 42
# tokens to choose from: padding, start and end are among them.)

# %%
print(f"{39**8:,} sequences of eight phonemes; a beam of 4 looks at {4 * 42 * 8:,} expansions or fewer on the way")

# %% [markdown]
# ## 2. One expansion
#
# The score of a prefix is its log-probability, the sum over its tokens (lesson 00):
#
# $$s(y_{1..t}) = s(y_{1..t-1}) + \log P(y_t \mid y_{<t}, x)$$
#
# For all beams and all tokens at once that is a table, (beams, V). Here it is for the two beams A and B of the tiny
# model, as probabilities, since those are easier to read:

# %%
beams, so_far = torch.tensor([[3, 0], [3, 1]]), torch.tensor([0.6, 0.4]).log()  # (2, 2) and (2,)
table = so_far[:, None] + tiny_step(beams)  # (2, 3)
heat_map(table.exp(), ["A", "B"], NAMES[:3], "P(beam) · P(token | beam): all compete")
plt.show()

# %% [markdown]
# The two best cells are B `<end>` and A A: one from each row, as it happens. The two best might as well have come from
# the same row; then the other beam dies out. So the table is laid flat, row after row, and the best k places are
# taken. With V columns, place i lies in row `i // V`, the **parent**, and in column `i % V`, the **token**.

# %% [markdown]
# ### Exercise 1: `beam_step`
#
# Difficulty ●●●○○ · importance ●●●●○ · about 15 minutes
#
# ```
# beam_step(log_probs, scores, width) → scores, parents, tokens
# log_probs  (beams, V): log-probabilities of the next token after each beam
# scores     (beams,): the log-probability of each beam so far
# → scores   (kept,): of the best expansions, best first, in the dtype that came in;
#            kept = min(width, beams·V)
# → parents  int64 (kept,): from which beam each comes
# → tokens   int64 (kept,)
# ```
#
# - One beam may have many children, and another none.
# - Some log-probabilities may be -inf, and stay so: impossible expansions come last, if they are needed to fill up.
# - What comes in stays as it is.
# - `topk`, `sort` and everything else is allowed.
#
# ```python
# log_probs = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]).log()
# beam_step(log_probs, torch.tensor([0.6, 0.4]).log(), width=2)
# # (tensor([-1.139, -1.204]), tensor([1, 0]), tensor([1, 0]))
# # that is 0.32, token 1 after beam 1, and 0.30, token 0 after beam 0
# ```


# %% answer="beam_step"
def beam_step(log_probs, scores, width):
    """The best expansions of all beams together: (beams, V), (beams,) → scores, parents, tokens, best first."""
    ### BEGIN SOLUTION
    vocabulary = log_probs.size(1)
    total = (scores[:, None] + log_probs).flatten()  # (beams · V,): every beam with every token
    best, places = total.topk(min(width, len(total)))  # (kept,), best first
    return best, places // vocabulary, places % vocabulary
    ### END SOLUTION


# %% check="beam_step"
check("beam_step")

# %%
hint("beam_step")

# %% [markdown]
# Yours, on the table above:

# %%
scores, parents, tokens = my_model.beam_step(tiny_step(beams), so_far, 3)
for score, parent, token in zip(scores.tolist(), parents.tolist(), tokens.tolist()):
    print(f"{NAMES[beams[parent, 1]]} {NAMES[token]:<6} P = {math.exp(score):.2f}")

# %% [markdown]
# ## 3. The search
#
# Beam search repeats that step. Four questions are left, and each has more than one answer in the books. Here is
# ours:
#
# **What if an expansion ends?** It leaves the beam, and is put aside with its score. The others go on; in the next
# step the `width` best are taken anew.
#
# **What if an expansion is impossible?** Where fewer than `width` are possible, some with log P = -inf are among the
# best, perhaps with the end token. They are no results: leave them out. (Kept, an end of probability 0 would win where
# no other has come. A beam that stays at -inf does no harm: nothing it leads to is possible.)
#
# **When to stop?** When no beam is left, or after `max_length` tokens. Not when the first has ended: a longer one may
# still turn out better.
#
# **Which one wins?** Sequences of different lengths compete. Each further token can only lower log P, so the plain sum
# leans towards short ones. A **length penalty** makes up for it (Wu et al. 2016):
#
# $$\text{score}(y) = \frac{\log P(y \mid x)}{|y|^{\alpha}}$$
#
# | symbol | in the code | |
# |---|---|---|
# | $\lvert y\rvert$ | `length` | generated tokens, the end token included |
# | α | `alpha` | 0: the plain sum; 1: the mean per token; more: longer is better |
#
# (Wu et al. write $(5 + |y|)^\alpha / 6^\alpha$ for it; the plain power does the same work.)
# The penalty is applied once, when a sequence has ended. Within a step all expansions have the same length, so there it
# would change nothing.

# %% [markdown]
# ### Exercise 2: `beam_search`
#
# Difficulty ●●●●○ · importance ●●●●● · about 30 minutes · a main one
#
# ```
# beam_search(step, start_id, end_id, width, max_length, alpha) → ids, score
# step        step(prefixes) → log-probabilities of the next token, (beams, V)
#             prefixes: int64 (beams, length), start token included
# width       how many expansions are taken in each step
# max_length  how many tokens may be generated, the end token among them
# ids         a list of Python ints: no start token; the end token if it came
# score       a Python float: log P / length**alpha
# ```
#
# - Begin with *one* beam, the start token alone. With `width` equal ones you would search greedily.
# - In each step the `width` best expansions are taken in all, ended ones included. Those that end leave the beam and
#   are kept.
# - Ask `step` once for each length, with all prefixes that go on; never with none, and never for what would come after
#   `max_length` tokens.
# - The best score among those that ended wins. Only if none has ended, the best unfinished one, its score over
#   `max_length**alpha`.
# - The start token may be the end token as well. It is not generated, so it ends nothing.
# - Some log-probabilities may be -inf. What is impossible has not ended, whatever its last token.
# - Your `beam_step` is there to be used, if it has passed; else a stand-in.
#
# ```python
# beam_search(tiny_step, start_id=3, end_id=2, width=2, max_length=3, alpha=0.0)
# # ([1, 2], -1.0217): B <end>, probability 0.36
# ```


# %% answer="beam_search"
def beam_search(step, start_id, end_id, width, max_length, alpha):
    """The best sequence that a beam finds, with its end token, and its score, log P / length**alpha."""
    ### BEGIN SOLUTION
    prefixes = torch.tensor([[start_id]])  # (1, 1): one beam, the start token alone
    scores = torch.zeros(1)  # log 1: nothing has been generated yet
    finished = []  # pairs of ids and score
    for length in range(1, max_length + 1):
        scores, parents, tokens = beam_step(step(prefixes), scores, width)
        possible = scores > float("-inf")  # fewer than width may be
        scores, parents, tokens = scores[possible], parents[possible], tokens[possible]
        prefixes = torch.cat([prefixes[parents], tokens[:, None]], dim=1)  # (beams, 1 + length)
        ended = tokens == end_id  # (beams,)
        for ids, score in zip(prefixes[ended, 1:].tolist(), scores[ended].tolist()):
            finished.append((ids, score / length**alpha))
        prefixes, scores = prefixes[~ended], scores[~ended]  # the others go on
        if len(prefixes) == 0:
            break
    # The unfinished count only where none has finished; the best of them comes first.
    if not finished:
        return prefixes[0, 1:].tolist(), scores[0].item() / max_length**alpha
    return max(finished, key=lambda pair: pair[1])
    ### END SOLUTION


# %% check="beam_search"
check("beam_search")

# %%
hint("beam_search")

# %% [markdown]
# `trace("beam_search")` runs your answer on one case and shows the shape of every name, line by line.

# %%
trace("beam_search")

# %% [markdown]
# On the tiny model, by width. A beam of 1 is the greedy search. From which width on is it as good as brute force?

# %%
for width in (1, 2, 3):
    ids, score = my_model.beam_search(tiny_step, 3, 2, width, 3, 0.0)
    print(f"width {width}: {' '.join(NAMES[i] for i in ids):<12} P = {math.exp(score):.2f}")

# %% [markdown]
# ## 4. On your model
#
# Your search asks a `step`, so it needs to know nothing about models. `stepping(model, source)` makes one from yours:
# it encodes the word once, and works with a cache, your own one from lesson 07. One thing needs care there. When a
# beam goes on from another *parent*, the rows of the cache have to move along (`KeyValueCache.select`): `stepping` sees
# to it.


# %%
def search(word, width, alpha=0.0, max_length=32):
    """What your beam search finds for a word: phonemes, score, and whether it came to an end."""
    with stepping(mine, cmudict.batch([word])) as step:
        ids, score = my_model.beam_search(step, START, END, width, max_length, alpha)
    return cmudict.ids_to_phonemes(ids), score, ids[-1] == END


for word in ("knight", "czar", "mechanics", "island"):
    for width in (1, 4):
        said, score, _ = search(word, width)
        print(f"{word:>9}, width {width}: {' '.join(said):<20} log P = {score:.3f}")

# %% [markdown]
# Compare log P: where the two differ, the beam has found a likelier word. *knight* is what most words are like, both
# widths say the same. The other three were chosen because there the beam of 4 helps the checkpoint; your own model may
# have others.
#
# ### See it
#
# The tree below is drawn from what **your** `beam_search` asks. A column is a step; what stands under the line has been
# dropped, for good.
#
# Three things to try:
#
# 1. *choir*, width 1, then wider. What the dictionary lists is marked. At which step is it dropped, and was it
#    dropped by bad luck, or would its score have lost in the end anyway?
# 2. A word whose first sound is unclear: *xylophone*, *czar*, *gnocchi*, your own name.
# 3. *czar*, width 1, then 4: what greedy said loses. Now the length penalty, slowly up to 2: with the checkpoint, from
#    about 1 on it is back. Its log P is as low as before, but it is divided by more: 6 tokens against 4, ends included.
#
# <details><summary>A still picture of it, for reading without a kernel</summary>
#
# ![A beam search as a tree: kept, dropped and finished sequences step by step, and the listed
# pronunciation](attachment:beam_tree.png)
#
# </details>

# %%
BeamTree(mine, word="choir")

# %% [markdown]
# ### Predict
#
# You are about to search for 200 words of the test part, with beams of 1, 2, 4, 8 and 16. More than one word in four
# is wrong with greedy decoding.

# %%
Predict(
    "A beam of 16 against greedy: what happens to the share of wrong words, the WER?",
    {
        "It falls by 10 points or more": "That would need many words whose right answer is likelier than what greedy "
        "finds, and yet missed by it. There are few: a word is short, and after the first vowels little is left open.",
        "It moves by less than about a point": "Greedy already finds the likeliest sequence for nearly all words. "
        "Where it does not, the likelier one is not always the right one.",
        "It collapses": "That happens, in translation, with wide beams: very short outputs win. Here the spelling says "
        "how long a word is, and a short one is no likelier.",
    },
    right="It moves by less than about a point",
)

# %%
words = cmudict.load("test").shuffle(seed=0).select(range(200))
listed = [[one.split() for one in all_of_it] for all_of_it in words["pronunciations"]]


def search_all(spellings, width):
    """One word after the other: what is said, log P of each, and seconds of computing in all."""
    began = time.process_time()  # of computing, so that other programs do not count
    found = [search(word, width) for word in spellings]
    seconds = time.process_time() - began
    return [said for said, _, _ in found], [log_prob for _, log_prob, _ in found], seconds


search_all(words["word"][:10], width=2)  # the first run of anything is slow, and should not count
widths = (1, 2, 4, 8, 16)
runs = {width: search_all(words["word"], width) for width in widths}
rates = {width: compare(said, listed) for width, (said, _, _) in runs.items()}
milliseconds = {width: 1000 * seconds / len(words) for width, (_, _, seconds) in runs.items()}
print("width   PER    WER   mean log P   ms a word   words said otherwise than by greedy")
for width, (said, log_probs, _) in runs.items():
    changed = sum(now != then for now, then in zip(said, runs[1][0]))
    mean, per, wer = sum(log_probs) / len(words), rates[width].per, rates[width].wer
    print(f"{width:>5}  {per:4.1f}   {wer:4.1f}   {mean:10.4f}   {milliseconds[width]:9.1f}   {changed:>6}")

# %%
record = recorded.load()  # the same for 2,000 words, measured once; more about it below
figure, ax = plt.subplots(figsize=(7.5, 3.8), facecolor="white", layout="constrained")
ax.plot(widths, [row["wer"] for row in record["widths"]], ":", color="#0072b2")
ax.annotate(f"WER of {record['words']:,} words, recorded", (1, record["widths"][0]["wer"]), (4, 5),
            textcoords="offset points", color="#0072b2")  # fmt: skip
ax.plot(widths, [rates[width].wer for width in widths], "o-", color="#0072b2")
ax.plot(widths, [rates[width].per for width in widths], "s-", color="#009e73")
ax.annotate("WER", (2, rates[2].wer), (0, -14), textcoords="offset points", color="#0072b2")
ax.annotate("PER", (16, rates[16].per), (0, 6), textcoords="offset points", color="#009e73", ha="right")
ax.set_ylim(0, 1.4 * max(rate.wer for rate in rates.values()))
ax.set_xscale("log", base=2)
ax.set_xticks(widths, [str(width) for width in widths])
ax.set_xlabel("beam width")
ax.set_ylabel("errors in per cent")
last = max(width for then, width in zip((1, *widths), widths) if width == 1 or runs[width][0] != runs[then][0])
ax.axvline(last, color="grey", linestyle=":")
ax.annotate(f"wider than {last}: no word changes", (last, 0), (4, 8), textcoords="offset points", color="dimgrey")
right_side = ax.twinx()
right_side.plot(widths, [milliseconds[width] for width in widths], "^--", color="#d55e00")
right_side.annotate("ms a word", (8, milliseconds[8]), (-6, 4), textcoords="offset points", color="#d55e00", ha="right")
right_side.set_ylim(0, 1.4 * milliseconds[16])
right_side.set_ylabel("milliseconds a word", color="#d55e00")
ax.set_title(f"What a wider beam brings, and what it costs ({len(words)} words, one at a time)", fontsize=11)
plt.show()

# %% [markdown]
# The mean log P rises with the width: the search does find likelier sequences, and soon none that are likelier still
# (the grey line). The errors hardly move. And the time grows: each step computes as many rows as there are beams. It
# grows by less than their number, since small products take nearly as long as tiny ones.
#
# Where it says otherwise, does it say better?


# %%
def verdict(said, right):
    return "right" if said in right else "wrong"


greedy, wide = runs[1][0], runs[16][0]
differing = [at for at in range(len(words)) if greedy[at] != wide[at]]
outcomes = Counter((verdict(greedy[at], listed[at]), verdict(wide[at], listed[at])) for at in differing)
for (by_greedy, by_beam), count in outcomes.most_common():
    print(f"{count:>3} words: greedy {by_greedy}, beam of 16 {by_beam}")
for at in differing[:6]:
    print(f"\n{words[at]['word']}")
    print(f"   greedy   {' '.join(greedy[at]):<30} P = {math.exp(runs[1][1][at]):.3f}")
    print(f"   beam     {' '.join(wide[at]):<30} P = {math.exp(runs[16][1][at]):.3f}")
    print(f"   listed   {' | '.join(words[at]['pronunciations'])}")

# %% [markdown]
# Every one of these is likelier to your model, and some were right before. **A better search finds what the model
# prefers. Whether that is better is up to the model.**
#
# 200 words are few for such small differences: one word more or less is half a point. So here is the same for
# 2,000, recorded once with the course's checkpoint (`python -m crosstalk.data.search_build`; it took some minutes). The
# interval tells how far the choice of words alone could move the difference.

# %%
print(f"{record['words']:,} words. width   PER    WER   against greedy, 95 % interval   words changed")
for row in record["widths"]:
    change = row["difference"]
    print(f"{row['width']:>18}  {row['per']:5.2f}  {row['wer']:5.2f}   {change['value']:+.2f}  "
          f"({change['low']:+.2f} to {change['high']:+.2f})          {100 * row['changed']:4.1f} %")  # fmt: skip

# %% [markdown]
# Look where the columns stop changing: there more beam stops helping, on words as short as these. What there is to
# gain is gained by the first few beams.
#
# On longer outputs the story is another one. In translation small beams help and wide ones *hurt* (Koehn & Knowles
# 2017; Yang et al. 2018), and the likeliest sequence of all can be the empty one (Stahlberg & Byrne 2019). So a narrow
# beam is saved from the model's true preference by its own search errors; Meister et al. (2020) ask what beam search is
# good at, if not at finding the most probable. For tasks at the level of single words the effect is barely there
# (Forster et al. 2021), and that is what you see. Lesson 10 measures it again, on sentences.

# %% [markdown]
# ## 5. What the length penalty changes
#
# ### Predict
#
# Your model is not quite sure about *choir*. Somebody sets α = 3, "to be on the safe side".

# %%
Predict(
    "`choir`, a beam of 8, alpha = 3. What comes out?",
    {
        "The same as with alpha = 0": "Only where the model is so sure that everything longer has nearly no "
        "probability at all. *knight* is such a word.",
        "A phoneme or two more": "It does not stop at two. With alpha = 3, a sequence of twice the length may have "
        "eight times the negative log P and still score as well.",
        "It goes on until it may not any more": "Dividing by length³ pays so well that improbable babble of full "
        "length beats the word.",
    },
    right="It goes on until it may not any more",
)

# %%
for word in ("knight", "choir"):
    for alpha in (0.0, 1.0, 3.0):
        said, score, ended = search(word, 8, alpha)
        shown = " ".join(said[:18]) + (" …" if len(said) > 18 or not ended else "")
        print(f"{word:>7}, alpha {alpha:g}: {len(said):>2} phonemes  {shown}")

# %% [markdown]
# That is one word. Over 2,000, with a beam of 8 (recorded, as above):

# %%
print(f"alpha   PER    WER    phonemes   against alpha 0, 95 % interval   (beam of {record['penalised_width']})")
for row in record["penalties"]:
    change = row["difference"]
    print(f"{row['alpha']:>5g}  {row['per']:5.1f}  {row['wer']:5.1f}   {row['length']:8.2f}   {change['value']:+.2f}  "
          f"({change['low']:+.2f} to {change['high']:+.2f})")  # fmt: skip

# %% [markdown]
# A penalty is a remedy for outputs that come out too short. Here nothing is too short, so there is nothing to heal;
# small values change little, and large ones make the model babble. Measure before you set one.
#
# ## 6. Break it
#
# Your search is right. But it is only as good as what it is told. Three mistakes, each in the `step` and not in the
# search, and none raises an error. A hundred words, a beam of 4.


# %%
def logits_step(word):
    """The logits as they are, no log_softmax."""
    source = cmudict.batch([word])
    memory = mine.encode(source)  # (1, letters, d_model)
    return lambda prefixes: mine.decode(prefixes, memory)[:, -1]  # (beams, V)


def careless_step(word, memories):
    """A cache whose rows stay where they are, whichever parents the prefixes have."""
    memory, rows = mine.encode(cmudict.batch([word])), 0

    def step(prefixes):
        nonlocal rows
        if memories.length:
            memories.select(torch.arange(len(prefixes)).clamp(max=rows - 1))  # right in number, wrong in order
        rows = len(prefixes)
        return mine.decode(prefixes, memory)[:, -1].log_softmax(dim=-1)  # (beams, V)

    return step


@torch.inference_mode()
def broken(kind, word):
    ask = (START, END, 4, 32, 0.0)
    if kind == "logits":
        ids, _ = my_model.beam_search(logits_step(word), *ask)
    elif kind == "careless":
        with caching(mine) as memories:
            ids, _ = my_model.beam_search(careless_step(word, memories), *ask)
    else:
        with stepping(mine, cmudict.batch([word])) as step:
            told = (lambda prefixes: step(prefixes).exp()) if kind == "added" else step
            ids, _ = my_model.beam_search(told, *ask)
    return cmudict.ids_to_phonemes(ids)


kinds = {
    "sound": "as it should be",
    "added": "probabilities added, not their logarithms",
    "logits": "logits added, not log-probabilities",
    "careless": "the cache left behind",
}
for kind, what in kinds.items():
    said = [broken(kind, word) for word in words["word"][:100]]
    rate = compare(said, listed[:100])
    print(f"{what:<42} PER {rate.per:5.1f}  WER {rate.wer:5.1f}   choir: {' '.join(broken(kind, 'choir')[:9])}")

# %% [markdown]
# - **Probabilities added**: every token adds something above 0, so the longest sequence wins.
# - **Logits added**: a logit says how a token compares with the others *of its own row*. Rows differ in their level,
#   so sums over rows mean nothing until each row is normalised.
# - **The cache left behind**: the prefixes follow their parents, the keys and values do not. Each beam then reads the
#   past of another. Compare its WER with the sound one: would you have noticed? Most words still come out right, since
#   the best beam usually stays in row 0 throughout. This is why caches are tested by comparing logits, as in lesson 07.
#
# When beams give strange results, test with width 1 first (it must equal greedy decoding), then against brute force
# on a tiny model, as you did.
#
# ## 7. Draw, not search
#
# Sometimes the best is not what you want. A story told by beam search repeats itself (Holtzman et al. 2020); a name may
# be said in several ways, and you want to hear them; and lesson 09 needs the model's own typical mistakes. Then the
# next token is **drawn**, with the probability that the model gives it.
#
# Plain drawing has a flaw. Each of the unlikely tokens has little, but there are many of them, and one slip spoils a
# word. Three knobs help:
#
# | knob | what it does |
# |---|---|
# | temperature τ | divides the logits: below 1 the distribution gets sharper, above 1 flatter |
# | top-k | only the k likeliest tokens stay (Fan et al. 2018) |
# | top-p, "nucleus" | only the likeliest tokens that together reach the probability p stay (Holtzman et al. 2020) |
#
# Here is the first sound of *xylophone* at three temperatures, the five likeliest tokens:

# %%
with torch.inference_mode():
    x_logits = mine(cmudict.batch(["xylophone"]), torch.tensor([[START]]))[0, -1]  # (42,)
likeliest = x_logits.topk(5).indices.tolist()
print("tau   " + "  ".join(f"{cmudict.PHONEMES[token]:>6}" for token in likeliest))
for tau in (0.5, 1.0, 2.0):
    chances = F.softmax(x_logits / tau, dim=-1)  # (42,)
    print(f"{tau:3}   " + "  ".join(f"{chances[token]:6.3f}" for token in likeliest))

# %% [markdown]
# Both filters take logits and give logits: what is dropped becomes -inf, and a softmax makes exactly 0 of that. What
# stays keeps its logit, so the ratios between those that stay remain as they were.

# %% [markdown]
# ### Exercise 3: `top_k_filter`
#
# Difficulty ●●○○○ · importance ●●●○○ · about 8 minutes
#
# ```
# top_k_filter(logits, k) → logits
# logits  (…, V): any number of dimensions before V
# k       1 or more; where it is more than V, all stay
# result  the same shape: the k highest logits of each row as they are, -inf elsewhere
# ```
#
# - Some logits may be -inf already. There are no ties.
# - The logits that come in stay as they are. `topk` and all else is allowed.
#
# ```python
# top_k_filter(torch.tensor([2.0, 0.5, 1.0, -1.0]), k=2)  # tensor([2., -inf, 1., -inf])
# ```


# %% answer="top_k_filter"
def top_k_filter(logits, k):
    """(…, V) → the same, with -inf for all but the k highest of each row."""
    ### BEGIN SOLUTION
    lowest = logits.topk(min(k, logits.size(-1)), dim=-1).values[..., -1:]  # (…, 1): the last that stays
    return logits.masked_fill(logits < lowest, float("-inf"))
    ### END SOLUTION


# %% check="top_k_filter"
check("top_k_filter")

# %%
hint("top_k_filter")

# %% [markdown]
# ### Predict
#
# Top-k always keeps the same number. Where the model is sure, that is too many, and where it is not, too few. Top-p
# looks at the mass instead. Four tokens have 0.5, 0.3, 0.15 and 0.05.

# %%
Predict(
    "Top-p with p = 0.7. How many of 0.5, 0.3, 0.15, 0.05 stay?",
    {
        "One": "0.5 alone is less than 0.7: what stays has to *reach* p. The token with which the sum crosses p stays, "
        "too.",
        "Two": "0.5 is not enough, 0.5 + 0.3 = 0.8 is. The rest is dropped, and 0.5 and 0.3 become 0.625 and 0.375.",
        "Three": "0.5 + 0.3 has reached 0.7 already: nothing more is needed.",
    },
    right="Two",
)

# %% [markdown]
# The rule that is easy to program right: a token stays if the mass of all that are *likelier than it* is still below
# p. Before the best token that mass is 0, so the best always stays, however small p is.

# %% [markdown]
# ### Exercise 4: `top_p_filter`
#
# Difficulty ●●●○○ · importance ●●●○○ · about 15 minutes
#
# $$\text{token } i \text{ stays} \iff \sum_{j:\ p_j > p_i} p_j < p$$
#
# ```
# top_p_filter(logits, p) → logits
# logits  (…, V)
# p       more than 0, at most 1
# result  the same shape: the likeliest tokens that together reach p, -inf elsewhere
# ```
#
# - The token that crosses p stays, so there is always one. With p = 1 all stay, but for those so unlikely that the
#   others add up to 1 in rounding.
# - There are no ties.
# - Each row is a distribution of its own. The logits that come in stay as they are.
# - Sorting is the usual way. Mind the way back: what stands first in the sorted row stands somewhere else in the
#   logits.
#
# ```python
# logits = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()
# top_p_filter(logits, p=0.7).softmax(-1)  # tensor([0.000, 0.625, 0.000, 0.375])
# ```


# %% answer="top_p_filter"
def top_p_filter(logits, p):
    """(…, V) → the same, with -inf for all but the likeliest tokens that together reach p."""
    ### BEGIN SOLUTION
    ranked, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)  # (…, V), likeliest first
    before = ranked.cumsum(dim=-1) - ranked  # the mass of all that are likelier
    dropped = before >= p
    dropped = torch.zeros_like(dropped).scatter(-1, order, dropped)  # back in the order of the ids
    return logits.masked_fill(dropped, float("-inf"))
    ### END SOLUTION


# %% check="top_p_filter"
check("top_p_filter")

# %%
hint("top_p_filter")

# %% [markdown]
# ### The order of the knobs
#
# Temperature first, then top-k, then top-p on what top-k has left. Top-k only looks at the order of the logits, which
# the temperature does not change, so these two can be swapped. Top-p looks at probabilities, and these the temperature
# does change: p = 0.9 of a flat distribution is another set than p = 0.9 of a sharp one.

# %% [markdown]
# ### Exercise 5: `sampling_distribution`
#
# Difficulty ●●○○○ · importance ●●●●○ · about 8 minutes
#
# ```
# sampling_distribution(logits, temperature=1.0, k=None, p=None) → probabilities
# logits       (…, V)
# temperature  more than 0
# k, p         None leaves that filter out
# result       (…, V): what is drawn from; each row sums to 1
# ```
#
# - The logits that come in stay as they are.
# - Your `top_k_filter` and `top_p_filter` are there to be used, if they have passed; else stand-ins.
#
# ```python
# sampling_distribution(torch.tensor([2.0, 1.0, 0.0]), temperature=0.5, k=2)
# # tensor([0.881, 0.119, 0.000])
# ```


# %% answer="sampling_distribution"
def sampling_distribution(logits, temperature=1.0, k=None, p=None):
    """(…, V) → probabilities: temperature, then top-k, then top-p on what is left."""
    ### BEGIN SOLUTION
    logits = logits / temperature
    if k is not None:
        logits = top_k_filter(logits, k)
    if p is not None:
        logits = top_p_filter(logits, p)
    return logits.softmax(dim=-1)
    ### END SOLUTION


# %% check="sampling_distribution"
check("sampling_distribution")

# %%
hint("sampling_distribution")

# %% [markdown]
# ### Exercise 6: `sample`
#
# Difficulty ●●○○○ · importance ●●●○○ · about 8 minutes
#
# ```
# sample(logits, temperature=1.0, k=None, p=None, generator=None) → ids
# logits     (batch, V)
# generator  a torch.Generator to draw with; None means torch's own
# ids        int64 (batch,): one token for each row, each row drawn on its own
# ```
#
# - Your `sampling_distribution` is there to be used, if it has passed; else a stand-in.
# - `torch.multinomial` is allowed. Set no seed: whoever wants the same draws again hands over a generator.
# - Draws differ from machine to machine, so the checks draw 2,000 times and look at the shares.
#
# ```python
# sample(torch.tensor([[2.0, 1.0, 0.0]] * 5), generator=torch.Generator().manual_seed(0))
# # five ids, each 0, 1 or 2
# ```


# %% answer="sample"
def sample(logits, temperature=1.0, k=None, p=None, generator=None):
    """One token for each row, drawn from sampling_distribution: (batch, V) → ids (batch,)."""
    ### BEGIN SOLUTION
    probabilities = sampling_distribution(logits, temperature, k, p)  # (batch, V)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]  # (batch, 1) → (batch,)
    ### END SOLUTION


# %% check="sample"
check("sample")

# %%
hint("sample")

# %% [markdown]
# ### Play: what is drawn from
#
# The table runs on **your** functions. Choose a token to go on with it.
#
# Three things to try:
#
# 1. *rough*, after R: which vowels compete? Draw 100 times.
# 2. Top-p at 0.9, and walk along the word. How many tokens stay where the model is sure, and where it is not? With
#    top-k that number would be the same everywhere.
# 3. Temperature 3 without a filter, then with p = 0.9. What does the filter save you from?
#
# <details><summary>A still picture of it, for reading without a kernel</summary>
#
# ![A table of all next tokens: logit, after temperature, filters with struck-out tokens, what is drawn from, and counts
# of draws](attachment:sampling_table.png)
#
# </details>

# %%
SamplingTable(mine, word="rough")

# %% [markdown]
# ## 8. Diversity against quality
#
# Whole words now: many copies of each word in one batch, your `sample` at each step, and the cache of lesson 07.


# %%
@torch.inference_mode()
def draw_words(words, times, seed=0, **options):
    """Say each word `times` times: a list of lists of phonemes, the draws of a word next to each other."""
    source = cmudict.batch([word for word in words for _ in range(times)])  # (words · times, letters)
    mask = my_model.padding_mask(source, PAD)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((len(source), 1), START)
    ended = torch.zeros(len(source), dtype=torch.bool)
    with caching(mine):
        memory = mine.encode(source, mask)
        while ids.size(1) <= 32 and not ended.all():
            logits = mine.decode(ids, memory, memory_mask=mask)[:, -1]  # (words · times, V)
            token = my_model.sample(logits, generator=generator, **options).masked_fill(ended, PAD)
            ids = torch.cat([ids, token[:, None]], dim=1)
            ended = ended | (token == END)
    return [cmudict.ids_to_phonemes([token for token in row if token != PAD]) for row in ids[:, 1:].tolist()]


for word in ("route", "data", "rough"):
    counts = Counter(" ".join(said) for said in draw_words([word], 100))
    print(f"{word:>6}: " + ", ".join(f"{said} ({count})" for said, count in counts.most_common(4)))

# %% [markdown]
# Of 100 draws each, the four that came most often. Where a word has two pronunciations, the model's probability is
# shared between them: greedy decoding and beams show one, drawing shows both.
#
# Now measure. 60 words, 8 draws of each. **Quality** is PER, over all draws. **Diversity** is how many *different*
# pronunciations there are among the draws, as a share: 1/8 if all are the same, 1 if all differ.

# %%
few, right_ones = words["word"][:60], listed[:60]
DRAWS = 8
knobs = {
    "temperature": [{"temperature": tau} for tau in (0.3, 0.6, 1.0, 1.3)],
    "k": [{"k": k} for k in (1, 2, 3, 10)],
    "p": [{"p": p} for p in (0.5, 0.8, 0.9, 0.99)],
}
points = {}
print("                     PER   different   a right one among the 8")
for knob, settings in knobs.items():
    points[knob] = []
    for options in settings:
        said = draw_words(few, DRAWS, **options)
        per = compare(said, [right for right in right_ones for _ in range(DRAWS)]).per
        by_word = [said[at : at + DRAWS] for at in range(0, len(said), DRAWS)]
        different = sum(len(set(map(tuple, each))) for each in by_word) / len(said)
        some_right = sum(any(one in right for one in each) for each, right in zip(by_word, right_ones)) / len(few)
        points[knob].append((different, per, options[knob]))
        print(f"{knob:>12} = {options[knob]:<4g}  {per:5.1f}   {different:8.0%}   {some_right:10.0%}")

# %%
figure, ax = plt.subplots(figsize=(7.5, 3.8), facecolor="white", layout="constrained")
styles = {
    "temperature": ("#d55e00", "o-", (2, -16)),
    "k": ("#0072b2", "s-", (-4, 7)),
    "p": ("#009e73", "^-", (-4, -15)),
}
for knob, (colour, style, aside) in styles.items():
    x, y, values = zip(*points[knob])
    ax.plot(x, y, style, color=colour, label=knob)
    for left, up, value in points[knob]:
        place = (-4, 7) if knob == "p" and value == 0.8 else aside  # below it is a point of the temperature
        ax.annotate(f"{value:g}", (left, up), place, textcoords="offset points", fontsize=8, color=colour)
ax.set_xlabel(f"different pronunciations among {DRAWS} draws, as a share")
ax.set_ylabel("PER, over all draws")
ax.set_ylim(bottom=0)
ax.legend(title="knob", frameon=False)
ax.grid(alpha=0.3)
ax.set_title("More variety costs quality, whichever knob you turn", fontsize=11)
plt.show()

# %% [markdown]
# k = 1 is greedy decoding, at the lower left: always the same, and the fewest errors. From there every knob leads up
# and to the right. Compare the curves at the same diversity: where they lie close together, the knobs buy variety at
# much the same price here. In long texts they do not, since there a single wild token can derail everything that
# follows; this is what top-p was made for.
#
# And look at the last column. With some variety, one of the eight draws is right more often than greedy decoding is.
# The model *knows* more than its first choice shows. Whoever can recognise the right one among several (a listener, a
# dictionary, a test that runs) wants draws, not a beam.

# %% [markdown]
# ## 9. What you built
#
# Beam search keeps the `width` best prefixes and finds likelier sequences than greedy decoding does; on single words
# that changes few of them, at several times the cost. The length penalty moves the choice towards longer ones, and
# helps only where outputs are too short. Sampling draws from the distribution, sharpened by the temperature and cut by
# top-k and top-p, and buys variety with errors.
#
# $$\text{score}(y) = \frac{\log P(y \mid x)}{|y|^{\alpha}} \qquad\qquad
# P_\tau(i) \propto e^{z_i / \tau}, \ \text{cut to the } k \text{ best, then to the mass } p$$
#
# **Next**, lesson 09: while it was trained, your model read the right tokens; now it reads its own. What happens after
# a mistake?
#
# **Sources**
#
# - Wu et al. (2016), *Google's Neural Machine Translation System*: the length penalty, section 7.
# - Koehn & Knowles (2017), *Six Challenges for Neural Machine Translation*: wide beams make translations worse.
# - Yang, Huang & Ma (2018), *Breaking the Beam Search Curse*: why, and other length rewards.
# - Stahlberg & Byrne (2019), *On NMT Search Errors and Model Errors: Cat Got Your Tongue?*: the likeliest translation
#   is often empty.
# - Meister, Cotterell & Vieira (2020), *If Beam Search is the Answer, What was the Question?*
# - Forster, Meister & Cotterell (2021), *Searching for Search Errors in Neural Morphological Inflection*: word-level
#   tasks, where the beam barely matters.
# - Fan, Lewis & Dauphin (2018), *Hierarchical Neural Story Generation*: top-k sampling.
# - Holtzman et al. (2020), *The Curious Case of Neural Text Degeneration*: top-p sampling.
#
# To see that all of it holds from a fresh start: **Kernel → Restart Kernel and Run All Cells**. It is safe to close;
# your pieces are in `work/my_model/`.
