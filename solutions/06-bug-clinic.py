# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 Bug clinic
#
# **Trainings that run, and are wrong.** A shape that does not fit stops your program. A mask that hides the wrong
# tokens does not. The loss is printed, the bar moves, an hour later the model says nonsense, and nothing has told you
# why. In this lesson you learn to find out.
#
# Six patients wait for you. All were really trained, for 1,500 steps, from the same seed on the same words. None of
# them raised an error. At the end you will be able to
#
# - say what a healthy loss curve looks like, and which numbers to expect before anything is trained;
# - examine a sick training in a fixed order, and say which evidence speaks for which cause;
# - tell causes apart whose curves look alike;
# - mend code in which more than one thing is wrong.
#
# Time: about 90 minutes. Stop where you like: what has passed is kept. Before it:
# [05 Teacher forcing](../05-teacher-forcing/teacher-forcing.ipynb).
#
# Run this cell first. Your answers are judged with these imports and nothing else.

# %% setup=true
import torch
from torch.nn.utils.rnn import pad_sequence

from autograder import check, hint, trace
from crosstalk.my_model import causal_mask, padding_mask, shift_right, token_cross_entropy

# %% [markdown]
# The next cell brings what this lesson shows things with. `patients` is what was written down while they were trained:
# losses, samples, and a few measurements. A healthy training is among them, to compare with.

# %%
import math

import matplotlib.pyplot as plt

from crosstalk import my_model
from crosstalk.data import bug_clinic, cmudict
from crosstalk.map import model_map
from crosstalk.models import Size, word_model
from crosstalk.training import train
from crosstalk.widgets import CurveDoctor, Predict

torch.set_num_threads(1)  # small tensors: a second thread would only get in the way
patients = bug_clinic.load()
letters = ["A", "B", "C", "D", "E", "F"]
model_map("06-bug-clinic")

# %% [markdown]
# ## 1. What health looks like
#
# Before you look for what is wrong, you need to know what is right. Three numbers can be had without any training.
#
# ### Predict
#
# The model chooses one of 42 tokens. It has learnt nothing yet.

# %%
Predict(
    "What should the loss of the very first batch be, about?",
    {
        "0": "That is the loss of one who is always sure and always right.",
        "3.74": "Who knows nothing gives each of 42 tokens the same probability, 1/42. The loss is -ln(1/42) = ln 42.",
        "42": "The loss is a logarithm. It grows with the number of tokens, but slowly: ln 42.",
        "Any number: the weights are random": "The weights are, but the logits begin small, so all tokens are about "
        "equally likely. A first loss far away from ln 42 is a sign by itself.",
    },
    right="3.74",
)

# %%
V = len(cmudict.PHONEMES)
print(f"knows nothing:                     ln V = ln {V} = {math.log(V):.2f}")

counts = torch.zeros(V)
for pronunciations in cmudict.load("validation")["pronunciations"]:
    counts += torch.bincount(torch.tensor(cmudict.phonemes_to_ids(pronunciations[0])), minlength=V)
shares = counts[counts > 0] / counts.sum()
print(f"knows which tokens are frequent:             {-(shares * shares.log()).sum():.2f}")
print(f"the healthy one after 1,500 steps:           {patients['healthy']['losses'][-1]:.2f}")

# %% [markdown]
# Above the first number, a model is sure of wrong things. Between the first and the second, it has learnt almost
# nothing. Below the second it knows something of what follows what. To get as low as the healthy one, it has to read
# the word. All of this holds if the loss is the loss that it claims to be.

# %%
healthy = patients["healthy"]
middle = [bug_clinic.EVERY * (i + 0.5) for i in range(len(healthy["losses"]))]  # the step in the middle of each mean
looks = [1, *range(bug_clinic.CHECKED, 1501, bug_clinic.CHECKED)]  # when the held-out words were looked at


def draw_patient(ax, name, held_out=True):
    seen = patients[name]
    ax.plot(middle, seen["losses"], color="#0072b2", label="training words")
    if held_out:
        ax.plot(looks, seen["validation"], color="#d55e00", linestyle="--", label="held-out words")
    ax.axhline(math.log(V), color="grey", linewidth=0.8, linestyle=":")
    ax.set_title(name if name == "healthy" else f"patient {name}", fontsize=10)
    ax.set_ylim(0, 7.2)
    ax.grid(alpha=0.3)


figure, ax = plt.subplots(figsize=(6, 3.2), facecolor="white", layout="constrained")
draw_patient(ax, "healthy")
ax.set_xlabel("steps")
ax.set_ylabel("loss, nats per token")
ax.legend(frameon=False)
plt.show()

# %%
for step, said in healthy["samples"].items():
    print(f"after {step:>4} steps:", "   ".join(f"{word}: {one}" for word, one in zip(bug_clinic.WORDS, said[:4])))

# %% [markdown]
# It begins near ln V, falls fast and then slowly, and the two curves go down together. What it says is at first nearly
# the same for all words, then more and more the word that it was given.
#
# ## 2. The order of an examination
#
# Guessing a cause from the curve alone is how hours are lost: different causes draw the same curve. Ask these
# questions, in this order. Each costs a minute.
#
# | | question | what it may tell |
# |---|---|---|
# | 1 | Is the **first loss** near ln V? | far above: logits too large; far below: the mean counts something else |
# | 2 | Where does the loss **end**? | near 0, like the healthy one, or stuck high up |
# | 3 | Does the loss on **held-out words** go along? | if not, it learns by heart |
# | 4 | Right when **forced**, and when **free**? | right only when forced: the answer may be in its input |
# | 5 | What does it **say**? | the same to all words? does it stop? what is missing? |
# | 6 | How far did each part's **weights move**? | hardly: nothing trains them; far too far: steps too long |
#
# *Forced* means teacher forcing: the model is fed the right prefix, as in training. *Free* means that it reads its own
# words, as in `greedy_word`.
#
# ## 3. One together: patient X
#
# Question 1 and 2, in numbers. Then 3 and 4.

# %%
x = patients["X"]
print(f"first loss            {x['first']:.2f}    (healthy {healthy['first']:.2f})")
print(f"last loss             {x['losses'][-1]:.2f}    (healthy {healthy['losses'][-1]:.2f})")
print(f"last held-out loss    {x['validation'][-1]:.2f}    (healthy {healthy['validation'][-1]:.2f})")
print(f"right when forced     {x['forced']:.0%}     (healthy {healthy['forced']:.0%})")
print(f"PER when free         {x['per']:.0f}      (healthy {healthy['per']:.0f})")

# %% [markdown]
# Nothing odd at the start. The end is a little high, and nobody would be alarmed. The held-out words go along, so it is
# not learning by heart. Fed the right prefix it is nearly as good as the healthy one: *at the task it was given*, it
# does well. But left alone it gets most phonemes wrong. (PER counts the edits for every 100 phonemes.) So perhaps the
# task it was given is not the one we meant. Question 5:

# %%
for word, said in zip(bug_clinic.WORDS, x["samples"]["1500"]):
    print(f"{word:>10}   right: {bug_clinic.WORDS[word]:<20} patient X: {said}")

# %% [markdown]
# ### Predict
#
# Look at what it makes of *cat*, *night* and *thing*. Where is the first phoneme?

# %%
Predict(
    "What did X learn to predict?",
    {
        "The next token, but badly": "Then the first phoneme would often be right, as the easiest to guess. It is "
        "missing every time.",
        "The token after the next": "After the start token it says what should come second. Inputs were shifted to "
        "the right, labels to the left as well: it was taught to be two ahead, and learnt it well.",
        "The token before": "Then after the start token it would have to say what came before the word, and there is "
        "nothing.",
        "The vowel of the word": "Tempting: *cat*, *night* and *thing* have their vowel in second place. *crosstalk* "
        "does not, and X begins it with its second phoneme, too.",
    },
    right="The token after the next",
)

# %% [markdown]
# That is a **diagnosis**: a cause that explains *all* the evidence. The loss is a little high, because two ahead is
# harder to guess than one. It does well when forced, because forcing asks for the same thing as training did. And every
# word lacks its first phoneme. No other cause on the list below gives all three.
#
# ## 4. What it can be
#
# Your six patients have six of these, no two the same. X had the third.
#
# | name | what happens |
# |---|---|
# | `input not shifted` | the decoder reads the very tokens that it has to predict |
# | `mask not causal` | the decoder's self-attention sees later tokens |
# | `labels shifted too` | inputs are shifted to the right, and labels to the left |
# | `softmax twice` | probabilities go into a cross-entropy that expects logits |
# | `gradients never cleared` | no `zero_grad`: every step goes along the sum of all gradients so far |
# | `learning rate too high` | steps thirty times too long |
# | `end token ignored` | the end token is also the padding, so the loss leaves it out |
# | `torn pairs` | words and pronunciations were shuffled separately |
# | `same batch again` | the data loader is begun anew at every step, so it always gives its first batch |
# | `source mask inverted` | the source mask has True where the padding is |
# | `no source positions` | nothing tells the encoder where in the word a letter stands |
# | `encoder not trained` | the encoder's layers are in a plain list, so the optimiser never gets their weights |
#
# For one of them the lowest loss that can be reached is known, and a model that is sure and right shows it. Its logits
# are enormous where the right token is. After a softmax they are just 1 there and 0 elsewhere, and for the
# cross-entropy, which takes them for logits, a difference of 1 is not much.

# %%
sure = torch.full((1, 1, V), -100.0)  # (batch, length, vocabulary)
sure[0, 0, 5] = 100.0
right = torch.tensor([[5]])
print(f"loss of one who is sure and right:  {token_cross_entropy(sure, right, cmudict.PAD):.2f}")
print(f"the same with a softmax before it:  {token_cross_entropy(sure.softmax(dim=-1), right, cmudict.PAD):.2f}")

# %% [markdown]
# Now your six. First their training losses alone.

# %%
figure, axes = plt.subplots(2, 3, figsize=(10, 5), sharex=True, sharey=True, facecolor="white", layout="constrained")
for ax, name in zip(axes.flat, letters):
    draw_patient(ax, name, held_out=False)
plt.show()

# %% [markdown]
# ### Play: the clinic
#
# Choose a patient. Make a guess from the curve alone. *Then* show the loss on held-out words, read the samples aloud,
# and ask for the measurements one by one. Three things to try:
#
# 1. Two of the training losses go to 0. What tells the two apart?
# 2. One patient has the curve of the healthy one. Does that make it healthy?
# 3. Move the slider below the curve: where does each patient leave the healthy curve?
#
# <details><summary>A still picture of it, for reading without a kernel</summary>
#
# ![The curve doctor: a patient's loss curve beside the healthy one, and what it says](attachment:curve_doctor.png)
#
# </details>

# %%
CurveDoctor(patients={name: patients[name] for name in ["healthy", *letters]})

# %% [markdown]
# The same as tables, if you prefer them: samples at the end, and all measurements. `first loss` is that of the very
# first batch. The points of the curves, here and in the widget, are means over ten steps, and the loss falls from the
# first step on, so most curves begin a little lower: the healthy one at 3.74, not at 3.86.

# %%
for word, *said in zip(bug_clinic.WORDS, *(patients[name]["samples"]["1500"] for name in letters)):
    print(f"{word}, right is {bug_clinic.WORDS[word]}")
    for name, one in zip(letters, said):
        print(f"    {name}: {one[:70] + ' …' if len(one) > 70 else one}")

# %%
questions = {
    "first loss": lambda p: f"{p['first']:.2f}",
    "last loss": lambda p: f"{p['losses'][-1]:.2f}",
    "last held-out loss": lambda p: f"{p['validation'][-1]:.2f}",
    "right when forced": lambda p: f"{p['forced']:.0%}",
    "PER when free": lambda p: f"{p['per']:.0f}",
    "phonemes said to a word": lambda p: f"{p['length']:.1f}",
    "says the end token": lambda p: f"{p['ended']:.0%}",
    "different answers to 320 words": lambda p: f"{p['different']}",
    **{f"moved: {part}": lambda p, part=part: f"{p['moved'][part]:.0%}" for part in healthy["moved"]},
}
print(f"{'':<32}{'healthy':>9}" + "".join(f"{name:>8}" for name in letters))
for question, answer in questions.items():
    print(f"{question:<32}{answer(healthy):>9}" + "".join(f"{answer(patients[name]):>8}" for name in letters))

# %% [markdown]
# ### Exercise 1: `diagnoses`
#
# Difficulty ●●●○○ · importance ●●●●● · about 30 minutes · a main one
#
# Write down what each patient has: one line for each, with a name from the table in section 4.
#
# ```
# diagnoses(patient) → cause
# patient  "A" to "F"
# cause    a name from the table, such as "labels shifted too"
# ```
#
# ```python
# causes["X"] = "labels shifted too"   # a line in the place of `raise NotImplementedError`
# ```
#
# Each patient counts on its own, so check as soon as you have one: those without an answer are listed as not yet. A
# wrong diagnosis is told what speaks against it.
# Six wild guesses teach nothing: for each one, first say to yourself which evidence you rest on.


# %% answer="diagnoses"
def diagnoses(patient):
    """The letter of a patient, "A" to "F" → the name of its cause, None for one not examined yet."""
    causes = {}
    ### BEGIN SOLUTION
    causes["A"] = "end token ignored"
    causes["B"] = "mask not causal"
    causes["C"] = "softmax twice"
    causes["D"] = "torn pairs"
    causes["E"] = "no source positions"
    causes["F"] = "same batch again"
    ### END SOLUTION
    return causes.get(patient)


# %% check="diagnoses"
check("diagnoses")

# %%
hint("diagnoses")

# %% [markdown]
# ### Neighbours
#
# Once your six have passed, open this. It names the pairs that are easily confused, and what tells them apart.
#
# <details><summary>Which causes look alike, and what tells them apart (gives the answers away)</summary>
#
# - **The loss goes to 0**: *mask not causal* (B) and *same batch again* (F). On held-out words B's loss goes to 0 as
#   well, F's rises. *Input not shifted* has B's curves too, but falls faster: copying from its own place is learnt
#   within a hundred steps. Left alone it repeats one token for ever; B falls silent.
# - **The loss stays high**: *torn pairs* (D) and *softmax twice* (C). C answers each word in another way, and is often
#   right. Its loss cannot fall below 2.78, D's did.
# - **The same to nearly all words**: *torn pairs* (D) and *source mask inverted*. With the mask inverted, hardly any
#   gradient reaches the letters, and the source embedding stays about where it was. D's moved.
# - **The healthy curve**: *end token ignored* (A) and *encoder not trained*. A never stops. An encoder that is not
#   trained shows in its weights alone: a random encoder mixes letters well enough for the rest of the model to learn
#   from it. So look at the weights once in every training.
# - **The right sounds in the wrong order**: *no source positions* (E). *cat* and *act* are the same to it, and so are
#   *night* and *thing*.
#
# </details>
#
# ## 5. Three repairs
#
# Naming a fault is half of it. Now you get the code. In each of the three, copy the faulty function into the answer
# cell, rename it, and mend it. There can be more than one fault in a function, and not all of them draw a curve.
#
# The first one loads data. It gets words and pronunciations as lists of ids, and an order. It should put the **pairs**
# into that order, pad them, and give each pronunciation its end token.


# %%
def faulty_batch(sources, targets, order, pad_id, end_id):
    chosen = [torch.tensor(sources[i]) for i in order]
    ended = [torch.tensor([*target, end_id]) for target in targets]
    source = pad_sequence(chosen, batch_first=True, padding_value=pad_id)
    target = pad_sequence(ended, batch_first=True, padding_value=end_id)
    return source, target


some = {"cat": "K AE T", "night": "N AY T", "attention": "AH T EH N SH AH N"}
word_ids = [cmudict.letters_to_ids(word) for word in some]
phoneme_ids = [cmudict.phonemes_to_ids(said, end=False) for said in some.values()]


def show_pairs(make_batch):
    for word, said in zip(*make_batch(word_ids, phoneme_ids, [2, 0, 1], cmudict.PAD, cmudict.END)):
        print(f"{cmudict.ids_to_letters(word):<10}", " ".join(cmudict.PHONEMES[i] for i in said))


show_pairs(faulty_batch)

# %% [markdown]
# ### Exercise 2: `repaired_batch`
#
# Difficulty ●●○○○ · importance ●●●●○ · about 8 minutes
#
# ```
# repaired_batch(sources, targets, order, pad_id, end_id) → source, target
# sources, targets  lists of lists of ids, the n-th target belongs to the n-th source
# order             a list of places: which pair comes first, second, …; it may leave pairs out, and repeats none
# source            int (batch, source), padded with pad_id at the end
# target            int (batch, length), each with its end token, then padding
# ```
#
# ```python
# repaired_batch([[3], [4, 5]], [[8], [9]], [1, 0], pad_id=0, end_id=2)
# # tensor([[4, 5], [3, 0]]), tensor([[9, 2], [8, 2]])
# ```


# %% answer="repaired_batch"
def repaired_batch(sources, targets, order, pad_id, end_id):
    """Pairs in a new order, padded: source (batch, source), target (batch, length) with end tokens."""
    ### BEGIN SOLUTION
    chosen = [torch.tensor(sources[i]) for i in order]
    ended = [torch.tensor([*targets[i], end_id]) for i in order]  # the same i: pairs stay together
    source = pad_sequence(chosen, batch_first=True, padding_value=pad_id)
    target = pad_sequence(ended, batch_first=True, padding_value=pad_id)  # not end_id: the loss ignores padding
    return source, target
    ### END SOLUTION


# %% check="repaired_batch"
check("repaired_batch")

# %%
hint("repaired_batch")

# %%
show_pairs(my_model.repaired_batch)

# %% [markdown]
# You have met both faults in patients. One of them makes the whole training worthless. The other leaves the curve as it
# should be, and only who listens will notice.
#
# ### A mask in plain English
#
# The second one makes the mask of the decoder's self-attention. Its author wrote down what it should do: "hide what is
# later **and** hide the padding."


# %%
def faulty_mask(inputs, pad_id):
    length = inputs.size(1)
    later = torch.ones(length, length, dtype=torch.bool).triu(diagonal=1)  # (queries, keys), True = comes later
    padding = (inputs == pad_id)[:, None, None, :]  # (batch, 1, 1, keys), True = is padding
    return ~(later & padding)  # (batch, 1, queries, keys), True = may attend


# %% [markdown]
# ### Predict
#
# Take a word without padding.

# %%
Predict(
    "Which keys may its first token read?",
    {
        "Only itself": "So it should be. But nothing of this word is padding, so `later & padding` is False "
        "everywhere, and `~` makes that True everywhere.",
        "All of them": "`later & padding` needs both, and nothing of this word is padding: nothing is hidden.",
        "None": "`later & padding` is False everywhere, and `~` makes that True: allowed.",
    },
    right="All of them",
)

# %%
unpadded = torch.tensor([[1, 22, 4, 33]])  # <start> K AE T
print(faulty_mask(unpadded, cmudict.PAD)[0, 0].int())
print("it should be")
print(causal_mask(4, 4).int())

# %% [markdown]
# No shape is wrong, padding is in the code, a triangle is in the code. A review would let it pass. The training does
# not complain either: its loss is better than any honest one.
#
# ### Exercise 3: `repaired_mask`
#
# Difficulty ●●○○○ · importance ●●●●○ · about 8 minutes
#
# ```
# repaired_mask(inputs, pad_id) → mask
# inputs  int  (batch, length), the decoder's inputs
# mask    bool (batch, 1, length, length), True = may attend: not later than the query, and not padding
# ```
#
# ```python
# repaired_mask(torch.tensor([[1, 5, 0]]), pad_id=0)
# # tensor([[[[True, False, False], [True, True, False], [True, True, False]]]])
# ```


# %% answer="repaired_mask"
def repaired_mask(inputs, pad_id):
    """(batch, length) → bool (batch, 1, length, length), True = may attend: neither later tokens nor padding."""
    ### BEGIN SOLUTION
    length = inputs.size(1)
    later = torch.ones(length, length, dtype=torch.bool, device=inputs.device).triu(diagonal=1)  # (queries, keys)
    padding = (inputs == pad_id)[:, None, None, :]  # (batch, 1, 1, keys)
    return ~(later | padding)  # hidden as soon as one of the two holds
    ### END SOLUTION


# %% check="repaired_mask"
check("repaired_mask")

# %%
hint("repaired_mask")

# %% [markdown]
# ### Three at once
#
# The last one is a training step with an accuracy beside the loss. Its author reports: "The loss does not come down
# properly, but the accuracy is fine." There are **three** faults in it. Mend one, and the other two are still there:
# that is what makes such code hard, for after each repair the curve is still wrong, and one begins to doubt the repair.


# %%
def faulty_train_step(model, source, target, optimizer, pad_id, start_id):
    inputs = shift_right(target, start_id)  # (batch, length)
    logits = model(source, inputs, padding_mask(source, pad_id))  # (batch, length, vocabulary)
    probabilities = torch.softmax(logits, dim=-1)
    loss = token_cross_entropy(probabilities, target, pad_id)
    loss.backward()
    optimizer.step()
    guesses = probabilities.argmax(dim=-1)  # (batch, length)
    right = (guesses == target).float().mean()
    return loss.item(), right.item()


# %% [markdown]
# ### Exercise 4: `repaired_train_step`
#
# Difficulty ●●●○○ · importance ●●●●● · about 15 minutes
#
# ```
# repaired_train_step(model, source, target, optimizer, pad_id, start_id) → loss, accuracy
# source    int (batch, source)
# target    int (batch, length), each row ends with the end token, then padding
# loss      float: mean over real tokens, before the step
# accuracy  float: share of the real tokens that the model got right, before the step
# ```
#
# ```python
# loss, accuracy = repaired_train_step(model, source, target, optimizer, pad_id=0, start_id=1)
# ```
#
# Lost among the shapes? `trace("repaired_train_step")` runs your answer on one case and shows, line by line, which
# names it binds to which shapes.


# %% answer="repaired_train_step"
def repaired_train_step(model, source, target, optimizer, pad_id, start_id):
    """One step of teacher forcing; returns loss and share of right tokens, over real tokens, before the step."""
    ### BEGIN SOLUTION
    inputs = shift_right(target, start_id)  # (batch, length)
    logits = model(source, inputs, padding_mask(source, pad_id))  # (batch, length, vocabulary)
    loss = token_cross_entropy(logits, target, pad_id)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    guesses = logits.argmax(dim=-1)  # (batch, length)
    real = target != pad_id  # (batch, length)
    right = (guesses == target)[real].float().mean()
    return loss.item(), right.item()
    ### END SOLUTION


# %% check="repaired_train_step"
check("repaired_train_step")

# %%
hint("repaired_train_step")

# %%
trace("repaired_train_step")

# %% [markdown]
# ## 6. Break it, and heal it
#
# Now train with what you mended: your loader, your mask and your step, in one small model, on the real dictionary. And
# beside it the same model from the same seed with **one** thing broken again, the mask. Both trainings together take
# less than a minute on a computer that has nothing else to do, and some minutes on a busy one.


# %%
class ClinicModel(my_model.EncoderDecoder):
    """Your encoder-decoder, with a mask for the decoder that can be exchanged."""

    def decode(self, target, memory, target_mask=None, memory_mask=None, start=0):
        mask = self.make_mask(target, cmudict.PAD)
        states = self.decoder(self.target_embedding(target, start), memory, mask, memory_mask)
        return self.generator(states)


def small_model(make_mask):
    torch.manual_seed(0)
    size = Size(d_model=64, heads=4, d_ff=128, encoder_layers=2, decoder_layers=2)
    parts = word_model(size)
    model = ClinicModel(parts.source_embedding, parts.encoder, parts.target_embedding, parts.decoder, parts.generator)
    model.make_mask = make_mask
    return model


class Loader:
    """`loader[step]` is a batch of 64 words, made by your `repaired_batch`."""

    def __init__(self):
        rows = cmudict.load("train").shuffle(seed=0).select(range(20_000))
        self.sources = [cmudict.letters_to_ids(word) for word in rows["word"]]
        self.targets = [cmudict.phonemes_to_ids(said[0], end=False) for said in rows["pronunciations"]]

    def __getitem__(self, step):
        chosen = torch.randint(len(self.sources), (64,), generator=torch.Generator().manual_seed(step)).tolist()
        pairs = [self.sources[i] for i in chosen], [self.targets[i] for i in chosen]
        return my_model.repaired_batch(*pairs, list(range(64)), cmudict.PAD, cmudict.END)


loader = Loader()
accuracies = []


def loss_of_step(*arguments):
    loss, accuracy = my_model.repaired_train_step(*arguments)
    accuracies.append(accuracy)
    return loss


# %%
steps = 200
broken = train(small_model(faulty_mask), loader, steps, loss_of_step, words=["cat", "night", "island"])
broken_accuracy = accuracies[-1]

# %%
mended = train(small_model(my_model.repaired_mask), loader, steps, loss_of_step, words=["cat", "night", "island"])

# %%
figure, ax = plt.subplots(figsize=(6, 3.2), facecolor="white", layout="constrained")
for log, colour, name in ((broken, "#d55e00", "mask not causal"), (mended, "#0072b2", "mended")):
    curve = torch.tensor(log.losses).reshape(-1, 5).mean(dim=1)  # means of 5 steps
    ax.plot(range(5, steps + 1, 5), curve, color=colour, label=name)
    last = {word: said[:29] + " …" if len(said) > 30 else said for word, said in log.said[max(log.said)].items()}
    print(f"{name:<16} last loss {curve[-1]:.2f}, says {last}")
ax.axhline(math.log(V), color="grey", linewidth=0.8, linestyle=":")
ax.set_xlabel("steps")
ax.set_ylabel("loss, nats per token")
ax.set_ylim(bottom=0)
ax.legend(frameon=False)
plt.show()
print(f"share of right tokens in the last batch: broken {broken_accuracy:.0%}, mended {accuracies[-1]:.0%}")

# %% [markdown]
# By the numbers the broken one is ahead, in loss and in accuracy. It is the one that cannot speak. If you had
# tuned for the lowest loss, you would have kept it.
#
# ## 7. Your own curves: the curve doctor
#
# `CurveDoctor` also reads a curve of yours. It knows the signs from above and says what is *likely*: rules of thumb,
# not a verdict. Give it the losses of any training, and the number of tokens to choose from.

# %%
CurveDoctor(broken.losses, vocabulary=V)

# %%
CurveDoctor(mended.losses, vocabulary=V)

# %% [markdown]
# To the broken one it says what you have found out yourself: such a loss is too good, and a look at held-out words
# would tell why. It cannot see more than the curve, and it says so. When you measure the loss on held-out data too,
# hand that in as `validation=...`, and it can say more.
#
# <details><summary>A still picture of such a reading, for reading without a kernel</summary>
#
# ![The curve doctor reads a loss curve: what is seen, what is likely, how to find out](attachment:curve_reading.png)
#
# </details>
#
# Keep it at hand: for the trainings of the lessons to come it is `CurveDoctor(log.losses, vocabulary=...)`.
#
# ## 8. What you built
#
# You have an order of examination: first loss, last loss, held-out words, forced and free, samples, weights. You named
# six causes from what they leave behind, and found the faults in three pieces of code, one of which had three. And you
# have seen that the lowest loss can belong to the worst model.
#
# The two numbers worth knowing by heart, for V tokens:
#
# $$\text{knows nothing: } \ln V \qquad\qquad \text{softmax twice: never below } \ln(e + V - 1) - 1$$
#
# **Next**, lesson 07: your model speaks faster. A whole batch at once, each word stopping at its own end, and nothing
# computed twice.
#
# **Sources**
#
# - Goodfellow, Bengio and Courville (2016), *Deep Learning*: section 11.5, *Debugging Strategies*.
# - Karpathy (2019), *A Recipe for Training Neural Networks*: on networks that fail silently, and on checking the first
#   loss.
#
# To see that all of it holds from a fresh start: **Kernel → Restart Kernel and Run All Cells**. It is safe to close;
# your pieces are in `work/my_model/`.
