# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 Exposure bias
#
# **In training your model reads what is right. When it speaks, it reads what it has said itself.** So far nobody has
# asked what that costs. It is called *exposure bias*: the model has never been exposed to its own mistakes. Many people
# will tell you how bad it is, and some that it hardly matters. Today you do not believe either. You measure.
#
# At the end you will be able to
#
# - say what exposure bias is, and what it is not;
# - measure where a model is wrong, place by place, with an interval about each number;
# - see through a comparison that makes a small error look like a large one;
# - put an error into a model's mouth and watch who finds back;
# - write scheduled sampling, and say honestly whether it helps here.
#
# Time: about 110 minutes. Stop where you like: what has passed is kept. Before it:
# [08 Search](../08-search/search.ipynb).
#
# Run this cell first. Your answers are judged with these imports and nothing else.

# %% setup=true
import math

import torch
from torch.nn import functional as F

from autograder import check, hint, trace

# %% [markdown]
# The next cell brings what this lesson shows things with, and your model: the one that you trained in lesson 05 where
# there is one, and else the checkpoint. With your own model your numbers differ a little from those of your neighbour.

# %%
import matplotlib.pyplot as plt

from crosstalk import my_model
from crosstalk.caching import caching
from crosstalk.checkpoints import own_model
from crosstalk.data import cmudict, exposure_bias
from crosstalk.data.exposure_bias_measure import with_one_pronunciation
from crosstalk.data.word_batches import WordBatches
from crosstalk.map import model_map
from crosstalk.models import Size, word_model
from crosstalk.widgets import ExposureLanes, Predict

torch.set_num_threads(1)  # small tensors: a second thread would only get in the way
torch.set_printoptions(precision=3, sci_mode=False)
PAD, START, END = cmudict.PAD, cmudict.START, cmudict.END
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # told apart by colour-blind eyes, too
mine = own_model()
model_map("09-exposure-bias")

# %% [markdown]
# ## 1. Two ways to read
#
# The model gives a probability to each next token, given those before it. *Which* those are is the whole difference:
#
# $$\text{training: } P(y_t \mid y_{<t},\, x) \qquad\qquad \text{speaking: } P(\hat y_t \mid \hat y_{<t},\, x)$$
#
# $y$ is what is right, $\hat y$ what the model has said. Both go through the same decoder. As long as the two prefixes
# are the same, so are the answers. They part at the first error.
#
# To measure, we take words of the test part: neither they nor their relatives were trained on. And only words with
# *one* listed pronunciation, so that at every place it is settled what is right.

# %%
words = with_one_pronunciation(cmudict.load("test").shuffle(seed=0).select(range(650)))
source, gold = words.source, words.gold  # (words, letters), (words, length), padded; gold ends with <end>
mask = my_model.padding_mask(source, PAD)  # (words, 1, 1, letters)
real = gold != PAD

with torch.no_grad():
    forced = mine(source, my_model.shift_right(gold, START), mask).argmax(-1)  # (words, length)
    with caching(mine):
        free = my_model.greedy_decode(mine, source, mask, START, END, PAD, 32)  # (words, longest)
print(f"{len(gold)} words, {real.sum()} tokens; forced {tuple(forced.shape)}, free {tuple(free.shape)}")


def spelt(ids):
    return " ".join("·" if i == PAD else cmudict.PHONEMES[i] for i in ids.tolist())


parted = ((free[:, : gold.size(1)] != gold[:, : free.size(1)]) & real[:, : free.size(1)]).any(1).nonzero()[:, 0]
for row in parted[real[parted].sum(1) >= 7][:3].tolist():
    length = real[row].sum()
    print(f"\n{cmudict.ids_to_letters(source[row].tolist())}")
    print("   gold  ", spelt(gold[row, :length]))
    print("   forced", spelt(forced[row, :length]))
    print("   free  ", spelt(free[row][free[row] != PAD]))

# %% [markdown]
# `forced` is what the model finds likeliest at each place when it reads gold up to there. It is *not* a word that
# anybody says: each of its tokens answers another prefix, and after an error it goes on as if nothing had happened.
# `free` is what it really says.
#
# How often is a token right? For `forced` one compares place by place. For `free` it is done in the same way, and it
# is the number that you find in many papers and blog posts. Write it first; doubt it later.

# %% [markdown]
# ### Exercise 1: `free_running_accuracy`
#
# Difficulty ●●○○○ · importance ●●●○○ · about 10 minutes
#
# $$\text{accuracy} = \frac{\#\{t : y_t \ne \text{pad},\ \hat y_t = y_t\}}{\#\{t : y_t \ne \text{pad}\}}$$
#
# ```
# free_running_accuracy(predicted, gold, pad_id) → accuracy
# predicted  int64 (batch, any width), padded: what the model said
# gold       int64 (batch, length), padded at the end
# accuracy   a Python float from 0 to 1, over the real tokens of all words together
# ```
#
# - The end token is a token like any other: it counts.
# - `predicted` may be narrower or wider than `gold`: the model stops when it likes. Gold tokens that were never reached
#   are wrong; what was said beyond gold's width counts nowhere.
# - `pad_id` may be any number. Neither argument is changed.
#
# ```python
# free_running_accuracy(torch.tensor([[5, 6, 2]]), torch.tensor([[5, 7, 2, 0]]), pad_id=0)  # 0.667
# ```


# %% answer="free_running_accuracy"
def free_running_accuracy(predicted, gold, pad_id):
    """The share of gold's real tokens that were said in the same place, as a float."""
    ### BEGIN SOLUTION
    said = torch.full_like(gold, pad_id)  # (batch, length): what was said, in gold's width
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    real = gold != pad_id  # (batch, length)
    right = (said == gold) & real
    return (right.sum() / real.sum()).item()
    ### END SOLUTION


# %% check="free_running_accuracy"
check("free_running_accuracy")

# %%
hint("free_running_accuracy")

# %% [markdown]
# `trace("free_running_accuracy")` runs your answer on one case and shows the shape of every name, line by line.

# %%
trace("free_running_accuracy")

# %% [markdown]
# One number is not a measurement until you know how far chance could have moved it. So draw the words anew, with
# replacement, as if the test part had been another one; measure; and do it often. The middle 95 % of the results is an
# interval (a *bootstrap*, Efron 1979). Whole words are drawn, because the tokens of one word are not independent: one
# error brings others.


# %%
def interval(measure, draws=300):
    """`measure(rows)` for all words, and the middle 95 % of it for words drawn anew."""
    torch.manual_seed(0)
    drawn = torch.tensor([measure(torch.randint(len(gold), (len(gold),))) for _ in range(draws)])
    low, high = drawn.quantile(torch.tensor([0.025, 0.975])).tolist()
    return measure(torch.arange(len(gold))), low, high


def accuracy_of(said):
    return lambda rows: my_model.free_running_accuracy(said[rows], gold[rows], PAD)


for name, said in (("forced", forced), ("free", free)):
    share, low, high = interval(accuracy_of(said))
    print(f"{name:>6}: {share:.1%} of tokens right ({low:.1%} to {high:.1%})")

# %% [markdown]
# The two intervals are well apart. So this is exposure bias, and here is its size? Not so fast. First look where the
# errors are.
#
# ## 2. Where is it wrong?
#
# If errors pile up, late places should suffer most. That is easy to see: do not sum over everything, but over the words
# only, and keep the places.
#
# $$\text{error}_t = \frac{\#\{\text{words with } y_t \ne \text{pad},\ \hat y_t \ne y_t\}}
# {\#\{\text{words with } y_t \ne \text{pad}\}}$$

# %% [markdown]
# ### Exercise 2: `error_by_position`
#
# Difficulty ●●○○○ · importance ●●●●○ · about 15 minutes · a main one
#
# ```
# error_by_position(predicted, gold, pad_id) → errors
# predicted  int64 (batch, any width), padded
# gold       int64 (batch, length), padded at the end
# errors     float32 (length,): of the words that are that long, the share that is wrong there
# ```
#
# - Each place is asked on its own: a word may be wrong at place 2 and right again at place 3.
# - `gold` may be wider than its longest word. Where no word is that long, nothing was measured: NaN.
# - As before: what was never said is wrong, and what was said beyond gold counts nowhere.
#
# ```python
# gold = torch.tensor([[5, 6, 2], [7, 2, 0]])
# error_by_position(torch.tensor([[5, 9, 2], [8, 2, 0]]), gold, pad_id=0)  # tensor([0.5, 0.5, 0.0])
# ```


# %% answer="error_by_position"
def error_by_position(predicted, gold, pad_id):
    """The share of words that are wrong at each place, same place: (length,)."""
    ### BEGIN SOLUTION
    said = torch.full_like(gold, pad_id)  # (batch, length): what was said, in gold's width
    width = min(predicted.size(1), gold.size(1))
    said[:, :width] = predicted[:, :width]
    real = gold != pad_id  # (batch, length)
    wrong = (said != gold) & real
    return wrong.sum(dim=0) / real.sum(dim=0)  # (length,); 0 / 0 is NaN
    ### END SOLUTION


# %% check="error_by_position"
check("error_by_position")

# %%
hint("error_by_position")

# %% [markdown]
# At one place each word is one trial, right or wrong, so here the interval has a short formula:
# $p \pm 1.96 \sqrt{p\,(1-p)/n}$ for $n$ words. How many words does it take?

# %%
for n in (25, 50, 100, 600, 10_000):
    print(f"0.9 of {n:>6,} words: give or take {1.96 * math.sqrt(0.9 * 0.1 / n):.1%}")

# %% [markdown]
# Only places that at least 150 words reach are drawn. (Where every word is right, the formula says ±0. That is too
# good: it needs some errors to work with.)


# %%
count = real.sum(dim=0)  # (length,): words that are that long
shown = int((count >= 150).sum())
places = range(1, shown + 1)


def draw(ax, errors, name, colour, style="-o", move=0.0):
    """Accuracy by position with 95 % intervals."""
    share = 1 - errors[:shown]  # (shown,)
    reach = 1.96 * (share * (1 - share) / count[:shown]).sqrt()
    ax.errorbar([place + move for place in places], 100 * share, 100 * reach, fmt=style, color=colour, label=name,
                markersize=4, capsize=2)  # fmt: skip


def axes(width=7, number=1):
    _, all_axes = plt.subplots(1, number, figsize=(width, 3.3), facecolor="white", layout="constrained",
                                    sharey=True)  # fmt: skip
    for ax in [all_axes] if number == 1 else all_axes:
        ax.grid(alpha=0.3)
        ax.set_xlabel("place in the word")
    (all_axes if number == 1 else all_axes[0]).set_ylabel("tokens right (%)")
    return all_axes


ax = axes()
draw(ax, my_model.error_by_position(forced, gold, PAD), "forced", BLUE)
draw(ax, my_model.error_by_position(free, gold, PAD), "free, same place", ORANGE, "-s", 0.08)
ax.legend(frameon=False)
plt.show()
print("words that are so long:", count[:shown].tolist())

# %% [markdown]
# At place 1 both are the same: nobody has said anything yet. Then they part, and the later the place, the wider the
# gap. It looks just like the story that is often told: an error leads to the next, and they snowball.
#
# (Why do both dip at place 2? Not because anything has gone wrong before: `forced` dips as much. Look what is asked for
# there.)

# %%
vowels = torch.tensor([name[0] in "AEIOU" for name in cmudict.PHONEMES])[gold]  # (words, length); AH, EY, IY, …
consonants = real & ~vowels & (gold != END)
for name, kind in (("vowels", vowels), ("consonants", consonants)):
    print(f"{name:>10}: forced is right in {(forced == gold)[kind].float().mean():.0%}; share at place 1, 2, 3, …:",
          *(f"{share:4.0%}" for share in (kind.sum(0) / count)[:shown].tolist()))  # fmt: skip

# %% [markdown]
# Vowels are what the spelling tells least about, and most words have their first one at place 2.
#
# ## 3. Break it: one token too many
#
# ### Predict
#
# Somebody says `K AE N D AH L` for *candle*, as it should be, but with a small hiccup: `K AH AE N D AH L`.

# %%
Predict(
    "Compared place by place, how many of the seven gold tokens `K AE N D AH L <end>` are right?",
    {
        "Seven": "All seven were said, in the right order. But the comparison does not look at the order, it looks at "
        "places, and after the hiccup every token stands one place late.",
        "Six": "One token too many was said, and nothing else is wrong. That is what a listener would count. The same "
        "place does not.",
        "One": "K, and then nothing: AE stands where N should be, N where D should be, and so on to the end. One slip "
        "is counted as six errors.",
    },
    right="One",
)

# %%
candle = torch.tensor([cmudict.phonemes_to_ids("K AE N D AH L")])
hiccup = torch.tensor([cmudict.phonemes_to_ids("K AH AE N D AH L")])
same = F.pad(candle, (0, 1), value=PAD) == hiccup  # (1, 8)
for name, tokens in (("gold", candle[0]), ("said", hiccup[0])):
    print(name, "".join(f"{token:>7}" for token in spelt(tokens).split()))
print("same", "".join(f"{'yes' if yes else '-':>7}" for yes in same[0].tolist()))
print("\nerror_by_position:", my_model.error_by_position(hiccup, candle, PAD).tolist())

# %% [markdown]
# So the curve above mixes two things: the model says something wrong, and the model says the right things at another
# place. `forced` cannot slip: it is asked at each place anew. The two lines were never measured in the same way.
#
# In how many words does the length differ at all?


# %%
def length_of(ids):
    return (ids != PAD).sum(dim=1)


differs = length_of(free) != length_of(gold)
print(f"another length than gold: {differs.float().mean():.1%} of the words")
right_words = sum(f[f != PAD].tolist() == g[g != PAD].tolist() for f, g in zip(free, gold))
print(f"right throughout:         {right_words / len(gold):.1%} of the words")
share = my_model.free_running_accuracy(free[differs], gold[differs], PAD)
print(f"same place, in the words of another length: {share:.1%} right")

# %% [markdown]
# Few words, but in them most tokens count as wrong, although most of them were said. What is the fair comparison?
#
# ## 4. Align, then compare
#
# You know the tool: the **fewest edits** (lesson 05). The table of `edit_distance` says how many edits there are. Its
# *walk back* says which. Start at the last corner, and ask at each: where did this number come from?
#
# | the number came from | it means | go to |
# |---|---|---|
# | `table[i-1][j-1]`, plus 1 if they differ | token i said is **paired** with token j of gold | (i-1, j-1) |
# | `table[i-1][j] + 1` | token i was said too much | (i-1, j) |
# | `table[i][j-1] + 1` | token j of gold is missing | (i, j-1) |
#
# A gold token is right if it is paired with its like. Paired with another, or missing: wrong. A token too many is no
# place of gold: it counts nowhere.
#
# Here is the table for *candle*, and the way back:

# %%
from crosstalk.plots import heat_map

one, other = hiccup[0].tolist(), candle[0].tolist()
table = torch.tensor([[my_model.edit_distance(one[:i], other[:j]) for j in range(8)] for i in range(9)])
way = {(0, 0), (1, 1)} | {(i, i - 1) for i in range(2, 9)}
cells = [[f"[{table[i, j]}]" if (i, j) in way else f"{table[i, j]}" for j in range(8)] for i in range(9)]
heat_map(table.float(), ["", *spelt(hiccup[0]).split()], ["", *spelt(candle[0]).split()],
         "Edits between beginnings; [ ] is the way back", cells=cells)  # fmt: skip
plt.show()

# %% [markdown]
# From the last corner it goes up the diagonal, at no cost, until one step leads straight up: there AH was too much.

# %% [markdown]
# ### Exercise 3: `aligned_error_by_position`
#
# Difficulty ●●●●○ · importance ●●●●○ · about 25 minutes
#
# ```
# aligned_error_by_position(predicted, gold, pad_id) → errors
# predicted  int64 (batch, any width), padded after the end
# gold       int64 (batch, length), padded at the end
# errors     float32 (length,): of the words that are that long, the share whose token there is wrong
# ```
#
# - You need the table itself, not `edit_distance`'s answer: that says how many edits there are, and not where. So begin
#   by filling one of your own.
# - Each word is aligned on its own, without its padding, with the fewest edits. A substitution is *one* edit.
# - The places are those of `gold`. NaN where no word is that long.
# - Sometimes several alignments need as few edits. In the checks they all agree on which gold tokens are wrong, so
#   take whichever you find.
# - Everything is allowed. (`difflib` looks for long common runs and not for the fewest edits.)
#
# ```python
# gold = torch.tensor([[5, 6, 7, 2]])
# aligned_error_by_position(torch.tensor([[9, 5, 6, 7, 2]]), gold, pad_id=0)  # tensor([0., 0., 0., 0.])
# aligned_error_by_position(torch.tensor([[5, 7, 2, 0, 0]]), gold, pad_id=0)  # tensor([0., 1., 0., 0.])
# ```


# %% answer="aligned_error_by_position"
def aligned_error_by_position(predicted, gold, pad_id):
    """The share of words that are wrong at each place of gold, after alignment with the fewest edits: (length,)."""
    ### BEGIN SOLUTION
    real = gold != pad_id  # (batch, length)
    wrong = real.clone()  # each token of gold, until it is paired with its like
    for row in range(len(gold)):
        said = [token for token in predicted[row].tolist() if token != pad_id]
        right = [token for token in gold[row].tolist() if token != pad_id]
        # table[i][j]: the fewest edits between the first i tokens said and the first j of gold
        table = [[0] * (len(right) + 1) for _ in range(len(said) + 1)]
        for i in range(len(said) + 1):
            for j in range(len(right) + 1):
                if i == 0 or j == 0:
                    table[i][j] = i + j
                else:
                    table[i][j] = min(
                        table[i - 1][j] + 1,
                        table[i][j - 1] + 1,
                        table[i - 1][j - 1] + (said[i - 1] != right[j - 1]),
                    )
        i, j = len(said), len(right)
        while i > 0 and j > 0:  # back to the first corner, always to where the number came from
            same = said[i - 1] == right[j - 1]
            if table[i][j] == table[i - 1][j - 1] + (not same):  # the two are paired
                i, j = i - 1, j - 1
                wrong[row, j] = not same
            elif table[i][j] == table[i - 1][j] + 1:  # said[i - 1] is too much
                i -= 1
            else:  # right[j - 1] is missing
                j -= 1
    return wrong.sum(dim=0) / real.sum(dim=0)  # (length,)
    ### END SOLUTION


# %% check="aligned_error_by_position"
check("aligned_error_by_position")

# %%
hint("aligned_error_by_position")

# %% [markdown]
# Now the same words, the same output, with the fair comparison beside the other.

# %%
aligned = my_model.aligned_error_by_position(free, gold, PAD)
ax = axes()
draw(ax, my_model.error_by_position(forced, gold, PAD), "forced", BLUE)
draw(ax, aligned, "free, aligned", GREEN, "-^", 0.08)
draw(ax, my_model.error_by_position(free, gold, PAD), "free, same place", ORANGE, "-s", 0.16)
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Most of the gap has gone. In numbers, with intervals: your functions on one word at a time give how many of its tokens
# are right, and then the words can be drawn anew.


# %%
def right_by_word(errors_of, said):
    """How many tokens of each word are right, by one of your functions: (words,)."""
    return torch.stack([(1 - errors_of(s, g, PAD)).nansum() for s, g in zip(said[:, None], gold[:, None])])


right = {
    "forced": right_by_word(my_model.error_by_position, forced),
    "free, same place": right_by_word(my_model.error_by_position, free),
    "free, aligned": right_by_word(my_model.aligned_error_by_position, free),
}
tokens = real.sum(dim=1)  # (words,)
torch.manual_seed(0)
drawn = torch.randint(len(gold), (300, len(gold)))  # which words, in each of 300 draws
for name, hits in right.items():
    shares = hits[drawn].sum(1) / tokens[drawn].sum(1)  # (300,)
    gaps = (right["forced"] - hits)[drawn].sum(1) / tokens[drawn].sum(1)
    ends = [f"{end:.1%}" for each in (shares, gaps) for end in each.quantile(torch.tensor([0.025, 0.975])).tolist()]
    share = (hits.sum() / tokens.sum()).item()
    less = "" if name == "forced" else f"; less than forced by {ends[2]} to {ends[3]}"
    print(f"{name:>17}: {share:.1%} ({ends[0]} to {ends[1]}){less}")

# %% [markdown]
# The last column is the interval of the *difference* in the same words, which is narrower than the two intervals would
# suggest: a hard word is hard for both.
#
# And the same for all words of the test part with one pronunciation, with the checkpoint, from the record that comes
# with the course:

# %%
record = exposure_bias.load()
whole = record["by_place"]
print(f"{whole['words']:,} words, {whole['tokens']:,} tokens, {record['checkpoint']}")
for mode, name in (("forced", "forced"), ("free", "free, same place"), ("aligned", "free, aligned")):
    print(f"{name:>17}: {whole['total'][mode]['value']:.1f} % ({whole['total'][mode]['low']:.1f} to "
          f"{whole['total'][mode]['high']:.1f})")  # fmt: skip
for mode, name in (("free", "same place"), ("aligned", "aligned")):
    print(f"gap, {name:>10}: {whole['gaps'][mode]['value']:.1f} ({whole['gaps'][mode]['low']:.1f} to "
          f"{whole['gaps'][mode]['high']:.1f})")  # fmt: skip
edits = whole["edits"]
forced_errors = 100 - whole["total"]["forced"]["value"]
print(f"edits in 100 gold tokens, tokens too many included: {edits['value']:.1f}; "
      f"forced has {forced_errors:.1f} errors; gap: {edits['value'] - forced_errors:.1f}")  # fmt: skip

# %% [markdown]
# Read it with care, in both directions.
#
# - Nearly all of what looked like exposure bias was **misalignment**.
# - Something is left. It is small, but its interval does not hold 0.
# - The aligned measure is a *kind* one: a token too many costs nothing. In the last line it counts as an edit, and
#   there the gap is twice as large: 1.3 and not 0.6.
#
# ## 5. Put an error into its mouth
#
# So far errors came where the word was hard, and a hard place is often followed by another. To see what an error
# *causes*, make one. Take words with at least seven phonemes, replace the third phoneme by a random wrong one, and let
# both go on: `forced` reads gold again after it, `free` reads what it says.
#
# ### Predict

# %%
Predict(
    "The third phoneme is wrong. How often is the model right at places 4, 5, 6 and 7?",
    {
        "It stays down": "A model that had lost its way would. But it still reads the whole spelling, and finds its "
        "place in it again. (Measured at the same place, left alone, it will *look* as if it stayed down.)",
        "It gets worse and worse": "That is the snowball. Each further error would have to make the next one likelier. "
        "Look at the second place after the error.",
        "It dips, then recovers": "The very next token suffers: it has read a lie. After that the spelling helps it "
        "back, in both modes, if one aligns.",
    },
    right="It dips, then recovers",
)


# %%
def go_on(model, source, prefix, length=32):
    """Greedy decoding that begins with `prefix` (batch, given): → (batch, longest), without the start token."""
    mask = my_model.padding_mask(source, PAD)
    ids, ended = prefix, torch.zeros(len(prefix), dtype=torch.bool)
    with torch.no_grad(), caching(model):
        memory = model.encode(source, mask)
        while ids.size(1) <= length and not ended.all():
            chosen = model.decode(ids, memory, memory_mask=mask)[:, -1].argmax(-1).masked_fill(ended, PAD)
            ids = torch.cat([ids, chosen[:, None]], dim=1)
            ended = ended | (chosen == END)
    return ids[:, 1:]


long = length_of(gold) >= 8  # seven phonemes and the end
long_source, long_gold = source[long], gold[long]
torch.manual_seed(0)
wrong = torch.randint(3, len(cmudict.PHONEMES) - 1, (len(long_gold),))
wrong = wrong + (wrong >= long_gold[:, 2])  # any phoneme but the right one

inputs = my_model.shift_right(long_gold, START)  # (words, length)
spoilt = inputs.clone()
spoilt[:, 3] = wrong  # input 3 is what is read after the third phoneme
long_mask = my_model.padding_mask(long_source, PAD)
with torch.no_grad():
    forced_after = mine(long_source, spoilt, long_mask).argmax(-1)
free_after = go_on(mine, long_source, spoilt[:, :4])
forced_without = forced[long]  # the same two, without the error
free_without = go_on(mine, long_source, inputs[:, :4])
print(f"{len(long_gold)} words. One of them:")
print("   gold  ", spelt(long_gold[0][long_gold[0] != PAD]))
print("   free  ", spelt(free_after[0][free_after[0] != PAD]), "  with", cmudict.PHONEMES[wrong[0]], "as the third")

# %%
after = slice(3, 7)  # places 4 to 7
table = {
    "forced, same place": my_model.error_by_position(forced_after, long_gold, PAD),
    "free, same place": my_model.error_by_position(free_after, long_gold, PAD),
    "free, aligned": my_model.aligned_error_by_position(free_after, long_gold, PAD),
    "forced, same place, without the error": my_model.error_by_position(forced_without, long_gold, PAD),
    "free, same place, without the error": my_model.error_by_position(free_without, long_gold, PAD),
    "free, aligned, without the error": my_model.aligned_error_by_position(free_without, long_gold, PAD),
}
print(f"right at place{'':24}    4    5    6    7")
for name, errors in table.items():
    print(f"{name:<37}", *(f"{100 * (1 - error):4.0f}%" for error in errors[after].tolist()))


# %%
def draw_after(ax, name, colour, style):
    """After the error, with 95 % intervals; dashed the same without it."""
    share = 1 - table[name][after]
    reach = 1.96 * (share * (1 - share) / len(long_gold)).sqrt()
    ax.errorbar(range(4, 8), 100 * share, 100 * reach, fmt=style, color=colour, label=name, markersize=4, capsize=2)
    without = 100 * (1 - table[f"{name}, without the error"][after])
    ax.plot(range(4, 8), without, "--", color=colour, label=f"{name.split(',')[0]}, without the error")


left, right_side = axes(9, 2)
draw_after(left, "forced, same place", BLUE, "-o")
draw_after(left, "free, same place", ORANGE, "-s")
draw_after(right_side, "free, aligned", GREEN, "-^")
for ax, way in ((left, "same place"), (right_side, "aligned")):
    ax.set(xticks=range(4, 8), ylim=(0, 102))
    ax.set_title(way, fontsize=11)
    ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# Three things are to be seen. (A dashed line is what the one of its colour is without the error.)
#
# - **Forced dips and recovers.** One wrong token in what it reads hurts the next answer badly, and the ones after it
#   hardly.
# - **Free, at the same place, stays down.** If you stop here, you publish the snowball.
# - **Free, aligned, dips and recovers.** It is on its way again after a place or two.
#
# How can both be? Look at the very next token that the model says after the wrong one:

# %%
next_said = free_after[:, 3]
print(f"says the phoneme that the wrong one replaced: {(next_said == long_gold[:, 2]).float().mean():.0%}")
print(f"goes on with the one after it:                {(next_said == long_gold[:, 3]).float().mean():.0%}")
print(
    f"and the word gets longer than gold:           {(length_of(free_after) > length_of(long_gold)).float().mean():.0%}"
)

# %% [markdown]
# In a good part of the words the model *repairs*: it says the phoneme that is still missing, after all, and goes on
# from there. The rest of the word is right, and one place late. Same-place counting calls all of it wrong.
#
# This is a model that reads a spelling. It can look up where it is. A model that continues a text from nothing but that
# text has less to hold on to, so do not carry this result over to it unmeasured.
#
# ### Play
#
# Three lanes: gold, teacher-forced, free-running. Choose a step and put a wrong token there. Below, the mean over many
# words, by the distance from the error, drawn with **your** functions.
#
# Three things to try:
#
# 1. *psychology*, a wrong token at step 4. Which lane is right again first? Now switch on *edit-aligned*.
# 2. The last step before the end. Does the model still know when to stop?
# 3. The same step with other seeds. Some wrong tokens are repaired, some are taken up as if they had been right.
#
# <details><summary>A still picture of it, for reading without a kernel</summary>
#
# ![Three lanes, gold, teacher-forced and free-running, with a wrong token put in, and the mean over many
# words](attachment:exposure_lanes.png)
#
# </details>

# %%
ExposureLanes(mine, word="psychology")

# %% [markdown]
# ## 6. Scheduled sampling: practise with your own words
#
# The cure that suggests itself: let the model read some of its own tokens in training already. Bengio et al. (2015)
# throw a coin at each step: with probability ε the decoder reads gold, else what it has just predicted. ε begins at 1
# and falls, on a *schedule*. (Mind the direction: there ε is the share of **gold**.)
#
# A transformer does all places at once, so there is no "just predicted". Mihaylova & Martins (2019) make **two
# passes**:
#
# 1. the decoder reads gold, without gradient; its likeliest tokens are the *predictions*;
# 2. some inputs are replaced by predictions, the decoder reads the mixture, and the loss is taken, against gold, as
#    ever.
#
# Which prediction can replace which input? Write it down for *candle*:
#
# | place | 0 | 1 | 2 | 3 | 4 | 5 | 6 |
# |---|---|---|---|---|---|---|---|
# | gold inputs | `<start>` | K | AE | N | D | AH | L |
# | asked for | K | AE | N | D | AH | L | `<end>` |
# | predictions | K | **AH** | N | D | AH | L | `<end>` |
#
# The prediction at place 1 is an answer to "what comes after K?". It stands where AE was asked for, and AE is *read* at
# place 2. So it can only replace input 2: `predictions[:, t]` goes into input t + 1.

# %% [markdown]
# ### Exercise 4: `scheduled_sampling`
#
# Difficulty ●●●○○ · importance ●●●●○ · about 20 minutes
#
# $$\text{inputs}_{t+1} = \begin{cases} \hat y_t & \text{where use\_model}_{t+1}
# \text{ and gold\_inputs}_{t+1} \notin \{\text{start}, \text{pad}\} \\
# \text{gold\_inputs}_{t+1} & \text{else}\end{cases}$$
#
# ```
# scheduled_sampling(gold_inputs, predictions, use_model, start_id, pad_id) → inputs
# gold_inputs  int64 (batch, length), shifted right: the start token first
# predictions  int64 (batch, length): the model's answer at each place, *not* shifted
# use_model    bool (batch, length): is this input to be the model's? One coin for each token, already thrown
# inputs       (batch, length), a new tensor
# ```
#
# - The start token and padding stay, whatever the coin says.
# - A prediction is taken as it is, even if the model has predicted padding or a start token.
# - `gold_inputs` and `predictions` have one dtype, and the result has it, too: int64 here, int32 in some libraries.
# - Targets are none of this function's business: what is *asked for* stays gold.
#
# ```python
# gold_inputs = torch.tensor([[1, 5, 6, 7]])
# predictions = torch.tensor([[5, 9, 7, 2]])
# scheduled_sampling(gold_inputs, predictions, torch.tensor([[False, False, True, False]]), 1, 0)
# # tensor([[1, 5, 9, 7]])
# ```


# %% answer="scheduled_sampling"
def scheduled_sampling(gold_inputs, predictions, use_model, start_id, pad_id):
    """The decoder's inputs, some of them the model's own: (batch, length)."""
    ### BEGIN SOLUTION
    own = gold_inputs.clone()  # (batch, length)
    own[:, 1:] = predictions[:, :-1]  # the answer at t can only be input t + 1
    may_change = (gold_inputs != start_id) & (gold_inputs != pad_id)
    return torch.where(use_model & may_change, own, gold_inputs)
    ### END SOLUTION


# %% check="scheduled_sampling"
check("scheduled_sampling")

# %%
hint("scheduled_sampling")

# %% [markdown]
# ### A step of training with it
#
# The encoder runs once, the decoder twice. One coin for each token; one for the whole batch would be all or nothing.


# %%
def sampled_step(model, source, target, optimizer, share):
    """One step that reads `share` of the model's own tokens → loss, share of the inputs that are really others."""
    mask = my_model.padding_mask(source, PAD)
    gold_inputs = my_model.shift_right(target, START)  # (batch, length)
    memory = model.encode(source, mask)
    with torch.no_grad():  # the first pass only says what the model would have said
        predictions = model.decode(gold_inputs, memory, memory_mask=mask).argmax(-1)  # (batch, length)
    use_model = torch.rand(gold_inputs.shape) < share  # one coin for each token
    inputs = my_model.scheduled_sampling(gold_inputs, predictions, use_model, START, PAD)
    loss = my_model.token_cross_entropy(model.decode(inputs, memory, memory_mask=mask), target, PAD)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    others = (inputs != gold_inputs).sum() / (gold_inputs != PAD).sum()
    return loss.item(), others.item()


dictionary = cmudict.load("train")
batches = WordBatches(dictionary.shuffle(seed=0).select(range(8_000)), size=64)
torch.manual_seed(0)
small = word_model(Size(d_model=64, heads=4, d_ff=128, encoder_layers=1, decoder_layers=1))
optimizer = torch.optim.AdamW(small.parameters(), lr=5e-3)
for step in range(101):
    share = 0.25 * step / 100  # rises from 0, in a straight line
    loss, others = sampled_step(small, *batches[step], optimizer, share)
    if step % 50 == 0:
        print(f"step {step:3d}: coin {share:.0%}, inputs that are not gold {others:.0%}, loss {loss:.2f}")

# %% [markdown]
# It runs. Whether it *helps*, 100 steps of a small model cannot tell. For that the course trained models of your size,
# twelve of them. How much do you expect?
#
# ### Predict

# %%
Predict(
    "The same number of steps, a quarter of the inputs the model's own at the end. What becomes of the phoneme error "
    "rate, about 10 with teacher forcing? (All have had 1,200 steps only. The checkpoint of the lessons has had 3,000, "
    "and is at about 9.)",
    {
        "It falls by a third": "For that, exposure bias would have to cause a third of the errors. You have measured "
        "how little is left of it after aligning.",
        "It hardly moves": "What there was to gain is small here, so the seeds of the training move the number as much "
        "as the method does.",
        "It doubles": "A wrong token that is read now and then does not harm the training that much: the target stays "
        "gold.",
    },
    right="It hardly moves",
)

# %%
from IPython.display import Markdown, display

NAMES = {"per": "PER", "wer": "WER", "aligned": "aligned", "next_forced": "next, forced", "repairs": "repairs"}


def markdown(head, rows):
    return Markdown("\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)))


rows = []
for way in record["ways"]:
    row = [way["name"], f"{way['steps']:,}"]
    for figure, digits in (("seconds", 0), *((figure, 2) for figure in NAMES)):
        numbers = [training[figure] for training in way["trainings"]]
        low, high = min(numbers), max(numbers)
        row.append(f"{sum(numbers) / len(numbers):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})")
    rows.append(row)
display(markdown(["mean of three seeds (lowest to highest)", "steps", "seconds", *NAMES.values()], rows))

rows = [[name, *(", ".join(f"{one:+.2f}" for one in found[figure]) for figure in NAMES)]
        for name, found in record["differences"].items()]  # fmt: skip
display(markdown(["more than teacher forcing with 1,200 steps, seed by seed", *NAMES.values()], rows))

# %%
_, panels = plt.subplots(1, 2, figsize=(9, 2.6), facecolor="white", layout="constrained", sharey=True)
titles = {"per": "PER (lower is better)", "next_forced": "next, forced (%, higher is better)"}
for ax, measure in zip(panels, titles):
    for height, way in enumerate(record["ways"]):
        numbers = [training[measure] for training in way["trainings"]]
        ax.plot(numbers, [height] * 3, "o", color=ORANGE if way["share"] else BLUE, alpha=0.8)
        ax.plot([sum(numbers) / 3], [height], "|", color="black", markersize=18)
    ax.set_title(titles[measure], fontsize=10)
    ax.grid(alpha=0.3)
    ax.margins(y=0.2)
panels[0].set_yticks(range(4), [f"{way['name']}, {way['steps']:,} steps" for way in record["ways"]])
plt.show()

# %% [markdown]
# Measured on 4,000 words of the test part. `aligned` is the accuracy left alone, aligned; `next, forced` is how often
# the model is right at place 4 after a random wrong third phoneme, and `repairs` how often it says the third phoneme
# there, after all. What can be said?
#
# - **With as many steps**, sampling up to a quarter has a lower PER with each seed, by about as much as its own seeds
#   differ among themselves; its WER is lower with two seeds and higher with one. Up to a half, both go up with some
#   seeds and down with others.
# - **With about as many seconds**, plain teacher forcing can make a quarter more steps, and that brings more than
#   sampling does: its mean PER and WER are the lowest of all.
# - **One thing does change.** After a wrong phoneme, models that were trained with samples give the right next token,
#   at the same place, more often with every seed, and they *repair* less: they say the third phoneme after all less
#   often. It is just what they have practised. A sampled token is followed by the gold target of the next place, so
#   they learn to go on *as if* the wrong token had been the right one.
#
# So here it does not help in what counts, what the model says. That is no proof about other tasks, nor about words that
# are unlike those of the training; and three seeds show how large chance is, no more. How all of this was made, and the
# other figures, stand in the card, `assets/data/exposure_bias/README.md`.
#
# ### Train one yourself?
#
# Not needed. If you like, `TRAIN = True` trains a model of your size with **your** `scheduled_sampling`, 1,200 steps,
# some minutes. It is one seed: compare it with the spread above, not with a single number.

# %%
import os

from crosstalk.data.exposure_bias_steps import SampledStep
from crosstalk.metrics import error_rates
from crosstalk.training import train

TRAIN = False

if TRAIN and "NBGRADER_EXECUTION" not in os.environ:  # while it is graded, a notebook does not train
    torch.manual_seed(0)
    sampled = word_model()
    step = SampledStep(1_200, 0.25, mix=my_model.scheduled_sampling)
    log = train(sampled, WordBatches(dictionary, size=128), 1_200, step)
    print(error_rates(sampled, cmudict.load("test").shuffle(seed=0).select(range(1_000))))
else:
    print("not trained: the record above stands for it")

# %% [markdown]
# ### What goes wrong without a sound
#
# Nothing raises here, so the mistakes are quiet ones. Those that your checks cannot see are worth a second look:
#
# - **The first pass with gradient.** It costs memory and time, and changes nothing: an argmax passes no gradient on.
#   Write `torch.no_grad()` all the same, so that nobody has to know that.
# - **Dropout on while measuring.** Then `forced` and `free` are two random models. `model.eval()` first. (Yours was
#   trained without dropout, so here it would not show. That is why one forgets it.)
# - **"Free-running" that is fed gold.** Whoever hands gold to the decoder and takes the argmax has measured `forced`
#   twice. A free run never sees gold: it can be of another length.
# - **Samples as targets.** Then the model is taught its own mistakes.

# %% [markdown]
# ## 7. What may be said
#
# Exposure bias was named by Ranzato et al. (2016). That errors can spread is not disputed. How much of what goes wrong
# is due to it, is:
#
# | who | says |
# |---|---|
# | Wu et al. 2018 | in translation, the role of error propagation in the drop of accuracy to the right is overstated |
# | Schmidt 2019 | generalisation is the property that lies beneath it, and the one to work on |
# | Wang & Sennrich 2020 | it is partly to blame for hallucinations under domain shift; remedies help there |
# | He et al. 2021 | language models recover by themselves; the effect is limited |
# | Arora et al. 2022 | errors do accumulate in open-ended generation, and perplexity does not show it |
#
# And of scheduled sampling: Huszár (2015) shows that its objective is improper, so even with endless data it need not
# lead to the right distribution. (You have seen why: after a sampled token, the target is still the gold one of that
# place, right or not.) For transformers, Mihaylova & Martins (2019) came out close to the teacher-forcing baseline. So
# do the models above.
#
# What you can say of *your* model is what you have measured: pronunciation, short words, a spelling to hold on to. On
# longer outputs (lesson 10) you will ask again.
#
# ## 8. What you built
#
# You measured a model that reads its own words against one that reads the right ones: over all tokens, place by place,
# and after an alignment that does not punish a slip six times. You put an error in and saw the model find back. You
# wrote scheduled sampling, and compared it over several seeds before believing anything.
#
# $$P(y_t \mid y_{<t}, x) \quad\text{against}\quad P(\hat y_t \mid \hat y_{<t}, x)$$
#
# **Next** come the electives: translation (10), long inputs (11), speech (12), pictures (13), and a capstone (14).
#
# **Sources**
#
# - Ranzato, Chopra, Auli & Zaremba (2016), *Sequence Level Training with Recurrent Neural Networks*: the name.
# - Bengio, Vinyals, Jaitly & Shazeer (2015), *Scheduled Sampling for Sequence Prediction with Recurrent Neural
#   Networks*.
# - Huszár (2015), *How (not) to Train your Generative Model: Scheduled Sampling, Likelihood, Adversary?*
# - Mihaylova & Martins (2019), *Scheduled Sampling for Transformers*: two passes.
# - Wu et al. (2018), *Beyond Error Propagation in Neural Machine Translation: Characteristics of Language Also Matter*.
# - Schmidt (2019), *Generalization in Generation: A Closer Look at Exposure Bias*.
# - Wang & Sennrich (2020), *On Exposure Bias, Hallucination and Domain Shift in Neural Machine Translation*.
# - He et al. (2021), *Exposure Bias versus Self-Recovery: Are Distortions Really Incremental for Autoregressive Text
#   Generation?*
# - Arora et al. (2022), *Why Exposure Bias Matters: An Imitation Learning Perspective of Error Accumulation in Language
#   Generation*.
#
# To see that all of it holds from a fresh start: **Kernel → Restart Kernel and Run All Cells**. It is safe to close;
# your pieces are in `work/my_model/`.
