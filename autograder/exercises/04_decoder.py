"""Lesson 04: cross-attention, the decoder, and the whole model."""

# ruff: noqa: F821 - mistakes and variants run in the lesson's set-up cell, as a student's answer does.
# mypy: ignore-errors

import torch
from torch import nn

from autograder.exercise import Exercise, build, call
from autograder.scenarios.module import even_weights
from autograder.scenarios.parts import ATTENTION
from crosstalk.stand_ins.lesson_02 import causal_mask as causal

_RECORD = {"name": "masked_attention", "as": "attention.attention", "loosely": ["mask"]}


def _padding(lengths, keys):
    return (torch.arange(keys) < torch.tensor(lengths)[:, None])[:, None, None, :]  # (batch, 1, 1, keys)


def _weights(draw, shapes, dtype=torch.float32):
    """Weights by name; those of a norm's scale lie around 1."""
    drawn = draw.weights(**{name.replace(".", "__"): shape for name, shape in shapes.items()})
    return {name: (weight + (1.0 if name.endswith("scale") else 0.0)).to(dtype) for name, weight in drawn.items()}


def _attention_shapes(d_model):
    shapes = {}
    for name in ("query", "key", "value", "output"):
        shapes |= {f"{name}.weight": (d_model, d_model), f"{name}.bias": (d_model,)}
    return shapes


def _attending(draw, d_model, heads, *args, dtype=torch.float32, without_weights=False, again=None, **kwargs):
    """Inputs of the scenario ``attending``: the attention comes first, by position or by name."""
    arguments = call(*args, **kwargs) if kwargs else call(ATTENTION, *args)
    record = _RECORD | ({"without_weights": True} if without_weights else {})
    weights = dict(sorted(_weights(draw, _attention_shapes(d_model), dtype).items()))
    made = arguments | {"size": [d_model, heads], "attention": weights, "record": record}
    return made | {"again": call(ATTENTION, *again)} if again else made


# --- project_memory --------------------------------------------------------------------------------------------

project_memory = Exercise(
    "project_memory",
    returns=["keys (batch, heads, source, d_head)", "values (batch, heads, source, d_head)"],
)


@project_memory.case("two words of three letters, two heads", scenario="attending")
def _(draw):
    return _attending(draw, 4, 2, draw.normal(2, 3, 4))


@project_memory.case("three heads, a longer source", scenario="attending")
def _(draw):
    return _attending(draw, 6, 3, draw.normal(2, 5, 6))


@project_memory.case("batch, heads, source and d_head all four", scenario="attending")
def _(draw):
    return _attending(draw, 16, 4, draw.normal(4, 4, 16))


@project_memory.case("a batch of one, a source of length one", scenario="attending")
def _(draw):
    return _attending(draw, 4, 2, draw.normal(1, 1, 4))


@project_memory.case("float64, not contiguous, by name", scenario="attending")
def _(draw):
    memory = draw.normal(2, 6, 3, dtype=torch.float64).transpose(1, 2)
    return _attending(draw, 6, 2, attention=ATTENTION, memory=memory, dtype=torch.float64)


@project_memory.case("one head; called again with another memory of the same shape", scenario="attending")
def _(draw):
    return _attending(draw, 4, 1, draw.normal(3, 2, 4), again=[draw.normal(3, 2, 4)])


_KEYS = "keys = split_heads(attention.key(memory), attention.heads)"
_VALUES = "values = split_heads(attention.value(memory), attention.heads)"
_OWN_PROJECTIONS = (
    "Keys come from `attention.key`, values from `attention.value`. `attention.query` is for the decoder's states, "
    "which come later."
)
_ONE_PROJECTION = (
    "Keys and values come from one projection. Each has its own: where to look (key) is not what is carried (value)."
)

project_memory.slip("keys_by_query_layer", _OWN_PROJECTIONS, {_KEYS: _KEYS.replace("attention.key", "attention.query")})
project_memory.slip(
    "values_by_query_layer", _OWN_PROJECTIONS, {_VALUES: _VALUES.replace("attention.value", "attention.query")}
)
project_memory.slip(
    "both_by_key_layer", _ONE_PROJECTION, {_VALUES: _VALUES.replace("attention.value", "attention.key")}
)
project_memory.slip("both_by_value_layer", _ONE_PROJECTION, {_KEYS: _KEYS.replace("attention.key", "attention.value")})
project_memory.slip(
    "swapped",
    "Keys and values are swapped: return the keys first.",
    {"return keys, values": "return values, keys"},
)
project_memory.slip(
    "not_projected",
    "You split the memory itself: the layers `attention.key` and `attention.value` are never called. Project, then "
    "split into heads.",
    {_KEYS: "keys = split_heads(memory, attention.heads)", _VALUES: "values = split_heads(memory, attention.heads)"},
)
project_memory.slip(
    "values_not_projected",
    "The values are the memory itself, split: W_V is forgotten. Project first, `attention.value(memory)`, then split.",
    {"attention.value(memory)": "memory"},
)
project_memory.slip(
    "keys_not_projected",
    "The keys are the memory itself, split: W_K is forgotten. Project first, `attention.key(memory)`, then split.",
    {"attention.key(memory)": "memory"},
)
project_memory.slip(
    "heads_not_split",
    "The heads are not split: (batch, source, d_model) should become (batch, heads, source, d_head), by `split_heads`.",
    {_KEYS: "keys = attention.key(memory)", _VALUES: "values = attention.value(memory)"},
)
project_memory.slip(
    "only_keys_split",
    "Only the keys are split into heads. The values need it too: (batch, heads, source, d_head).",
    {_VALUES: "values = attention.value(memory)"},
)
project_memory.slip(
    "viewed_straight_into_heads",
    "A view straight to (batch, heads, source, d_head) mixes positions into heads. `split_heads` does it rightly.",
    {_KEYS: "keys = attention.key(memory).reshape(len(memory), attention.heads, memory.size(1), -1)",
     _VALUES: "values = attention.value(memory).reshape(len(memory), attention.heads, memory.size(1), -1)"},
)  # fmt: skip
project_memory.slip(
    "width_for_heads",
    "`split_heads` takes the number of heads, `attention.heads`; you give it the width of one.",
    {"attention.key(memory), attention.heads": "attention.key(memory), memory.size(-1) // attention.heads",
     "attention.value(memory), attention.heads": "attention.value(memory), memory.size(-1) // attention.heads"},
)  # fmt: skip
project_memory.slip(
    "keys_transposed",
    "You transposed the keys for the product. The attention inside does that: leave them (batch, heads, source, "
    "d_head).",
    {"return keys, values": "return keys.transpose(-2, -1), values"},
)
project_memory.slip(
    "output_layer_on_values",
    "`attention.output` comes last, after the heads are merged. The values are projected by `attention.value` alone.",
    {"attention.value(memory)": "attention.output(attention.value(memory))"},
)
project_memory.slip(
    "keys_scaled",
    "You scale the keys already. `attention.attention` divides by √d_head itself: hand the keys over as they are.",
    {"return keys, values": "return keys / keys.size(-1) ** 0.5, values"},
)
project_memory.slip(
    "memory_normed",
    "You normed the memory. The encoder ends with a norm, so the memory comes normed: project it as it is.",
    {"attention.key(memory)": "attention.key(F.layer_norm(memory, memory.shape[-1:]))",
     "attention.value(memory)": "attention.value(F.layer_norm(memory, memory.shape[-1:]))"},
)  # fmt: skip
project_memory.slip(
    "without_gradient",
    "No gradient can pass: something (`no_grad`, `.detach()`) cut it. Made once does not mean fixed: in training the "
    "encoder learns through keys and values.",
    {"return keys, values": "return keys.detach(), values.detach()"},
)
project_memory.slip(
    "only_values_pass_a_gradient",
    "The keys are cut off from the gradient (`.detach()`, `no_grad`). Where to look is learnt too: let it pass.",
    {"return keys, values": "return keys.detach(), values"},
)
project_memory.slip(
    "stacked",
    "You return one tensor. Asked are two, `return keys, values`: they are used in different places.",
    {"return keys, values": "return torch.stack([keys, values])"},
)
project_memory.slip(
    "keys_alone", "You return the keys alone: `return keys, values`.", {"return keys, values": "return keys"}
)


_KEPT_FOR_EVER = (
    "You keep what was made of the first memory (on the attention, or in a dict), and give it again when another one "
    "comes. Project the memory that is handed in, each time; whoever decodes keeps the result."
)
project_memory.slip(
    "kept_on_the_attention",
    _KEPT_FOR_EVER,
    {"    return keys, values": "    if not hasattr(attention, 'kept'):\n        attention.kept = keys, values\n"
     "    return attention.kept"},
)  # fmt: skip
project_memory.slip(
    "kept_by_its_shape",
    _KEPT_FOR_EVER,
    {"def project_memory(attention, memory):": "kept = {}\n\n\ndef project_memory(attention, memory):",
     "    return keys, values": "    return kept.setdefault((id(attention), memory.shape), (keys, values))"},
)  # fmt: skip


@project_memory.mistake(
    "You call the whole attention, so the memory attends to itself. Asked is only the first half of the work: keys "
    "and values, by `attention.key` and `attention.value`."
)
def attends_to_itself(attention, memory):
    attended, _ = attention(memory)
    return split_heads(attended, attention.heads), split_heads(attended, attention.heads)


@project_memory.mistake(
    "You project each head on its own after splitting. The layers map d_model to d_model: project first, then split."
)
def split_before_projecting(attention, memory):
    heads = split_heads(memory, attention.heads)
    return attention.key(heads), attention.value(heads)


@project_memory.also_right
def in_one_line(attention, memory):
    return tuple(split_heads(layer(memory), attention.heads) for layer in (attention.key, attention.value))


@project_memory.also_right
def as_a_list(attention, memory):
    return [split_heads(layer(memory), attention.heads) for layer in (attention.key, attention.value)]


@project_memory.also_right
def unflattened(attention, memory):
    keys = attention.key(memory).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
    values = attention.value(memory).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
    return keys, values


@project_memory.also_right
def one_wide_product(attention, memory):
    weight = torch.cat([attention.key.weight, attention.value.weight])  # (2 · d_model, d_model)
    bias = torch.cat([attention.key.bias, attention.value.bias])
    keys, values = F.linear(memory, weight, bias).chunk(2, dim=-1)
    return split_heads(keys, attention.heads), split_heads(values, attention.heads)


@project_memory.also_right
def with_einsum(attention, memory):
    def projected(layer):
        weight = layer.weight.unflatten(0, (attention.heads, -1))  # (heads, d_head, d_model)
        bias = layer.bias.unflatten(0, (attention.heads, -1))[:, None]  # (heads, 1, d_head)
        return torch.einsum("bsm,hdm->bhsd", memory, weight) + bias

    return projected(attention.key), projected(attention.value)


project_memory.hint("Which lines of your `MultiHeadAttention.forward` use the memory, and nothing else?")
project_memory.hint("`attention.key` is a Linear layer: `attention.key(memory)` has shape (batch, source, d_model).")
project_memory.hint("`split_heads(states, heads)` gives (batch, heads, source, d_head); heads is `attention.heads`.")

# --- cross_attention -------------------------------------------------------------------------------------------

cross = Exercise(
    "cross_attention",
    returns=["output (batch, target, d_model)", "weights (batch, heads, target, source)"],
)


def _parts(draw, batch, heads, target, source, d_model, dtype=torch.float32):
    """States, keys and values."""
    memory_shape = batch, heads, source, d_model // heads
    return (draw.normal(batch, target, d_model, dtype=dtype), draw.normal(*memory_shape, dtype=dtype),
            draw.normal(*memory_shape, dtype=dtype))  # fmt: skip


@cross.case("two queries, three source places, no mask", scenario="attending")
def _(draw):
    return _attending(draw, 4, 2, *_parts(draw, 2, 2, 2, 3, 4))


@cross.case("padding in the source", scenario="attending")
def _(draw):
    return _attending(draw, 6, 3, *_parts(draw, 2, 3, 3, 5, 6), _padding([5, 2], 5))


@cross.case("source and target of one length, padding in the source", scenario="attending")
def _(draw):
    return _attending(draw, 4, 2, *_parts(draw, 3, 2, 4, 4, 4), _padding([4, 1, 3], 4))


@cross.case("a target longer than the source", scenario="attending")
def _(draw):
    return _attending(draw, 4, 2, *_parts(draw, 2, 2, 5, 2, 4), _padding([1, 2], 2))


@cross.case("a mask for each head and query; called again with others of the same shape", scenario="attending")
def _(draw):
    given, following = _parts(draw, 2, 2, 3, 4, 4), _parts(draw, 2, 2, 3, 4, 4)
    return _attending(draw, 4, 2, *given, draw.mask(2, 2, 3, 4), again=[*following, draw.mask(2, 2, 3, 4)])


@cross.case("a batch of one, a target of length one", scenario="attending")
def _(draw):
    return _attending(draw, 6, 2, *_parts(draw, 1, 2, 1, 4, 6), _padding([3], 4))


@cross.case("batch, heads, both lengths and d_head all four", scenario="attending")
def _(draw):
    return _attending(draw, 16, 4, *_parts(draw, 4, 4, 4, 4, 16), _padding([4, 2, 1, 3], 4))


@cross.case("float64, not contiguous, by name", scenario="attending")
def _(draw):
    double = torch.float64
    states = draw.normal(2, 4, 3, dtype=double).transpose(1, 2)
    _, keys, values = _parts(draw, 2, 2, 3, 5, 4, double)
    mask = _padding([2, 5], 5)
    return _attending(draw, 4, 2, attention=ATTENTION, states=states, keys=keys, values=values, memory_mask=mask,
                      dtype=double)  # fmt: skip


@cross.case("a source of padding alone: nothing to attend to", scenario="attending")
def _(draw):
    return _attending(draw, 4, 2, *_parts(draw, 2, 2, 2, 3, 4), _padding([3, 0], 3))


@cross.case("one word, and its source is padding alone", scenario="attending")
def _(draw):
    return _attending(draw, 4, 2, *_parts(draw, 1, 2, 2, 3, 4), _padding([0], 3))


@cross.case("an attention that returns None for the weights, as fused ones do", scenario="attending")
def _(draw):
    return _attending(draw, 4, 2, *_parts(draw, 2, 2, 2, 3, 4), without_weights=True)


_QUERIES = "queries = split_heads(attention.query(states), attention.heads)"
_CARRIED = "attention.attention(queries, keys, values, memory_mask)"
_BACK = "return attention.output(merge_heads(carried)), weights"
_NEVER_READ = (
    "Keys and values are made from `states`, so the source is never read: that is self-attention, as "
    "`attention(states)` is. Use the `keys` and `values` that were handed in."
)
_SAME_TOKENS = (
    "One of keys and values comes from the memory, the other from `states`. Where to look and what to carry must be "
    "the same tokens: both from the memory."
)
_CAUSAL_CROSS = (
    "There is a causal mask on cross-attention. The whole source is known before the first token is written: every "
    "query may read all of it, but for the padding."
)

cross.slip(
    "mask_not_passed_on",
    "`memory_mask` is not passed on, so the padding of the source takes a share of the weight.",
    {_CARRIED: "attention.attention(queries, keys, values)"},
)
cross.slip(
    "keys_and_values_kept",
    "You keep keys and values of the first call. The next word brings others: use the ones that are handed in.",
    {_CARRIED: "attention.attention(queries, *attention.__dict__.setdefault('kept', (keys, values)), memory_mask)"},
)
cross.slip(
    "queries_not_projected",
    "The states are not projected: queries are `attention.query(states)`, split into heads.",
    {"attention.query(states)": "states"},
)
cross.slip(
    "queries_by_key_layer",
    "The queries are made by `attention.key`. What a token looks for has a projection of its own: `attention.query`.",
    {"attention.query(states)": "attention.key(states)"},
)
cross.slip(
    "queries_not_split",
    "The queries are not split into heads: keys have shape (batch, heads, source, d_head), queries must match.",
    {_QUERIES: "queries = attention.query(states)"},
)
cross.slip(
    "queries_from_the_memory",
    "The queries come from the memory, and the states give keys and values: `cross(memory, x, x)`. It is the decoder "
    "that asks and the source that answers.",
    {_CARRIED: "attention.attention(keys, queries, queries)"},
)
cross.slip(
    "keys_and_values_swapped",
    "Keys and values are swapped. The order is query, key, value, mask: keys decide where, values are what is carried.",
    {_CARRIED: "attention.attention(queries, values, keys, memory_mask)"},
)
cross.slip(
    "keys_for_values",
    "You carry keys instead of values: the third argument of the attention is `values`.",
    {_CARRIED: "attention.attention(queries, keys, keys, memory_mask)"},
)
cross.slip(
    "values_for_keys",
    "You compare the queries with the values: the second argument of the attention is `keys`.",
    {_CARRIED: "attention.attention(queries, values, values, memory_mask)"},
)
cross.slip(
    "reads_itself",
    _NEVER_READ,
    {_CARRIED: "attention.attention(queries, *project_memory(attention, states), memory_mask)"},
)
cross.slip(
    "reads_itself_unmasked",
    _NEVER_READ,
    {_CARRIED: "attention.attention(queries, *project_memory(attention, states))"},
)
cross.slip(
    "values_from_states",
    _SAME_TOKENS,
    {_CARRIED: "attention.attention(queries, keys, project_memory(attention, states)[1], memory_mask)"},
)
cross.slip(
    "keys_from_states",
    _SAME_TOKENS,
    {_CARRIED: "attention.attention(queries, project_memory(attention, states)[0], values, memory_mask)"},
)
cross.slip(
    "projected_twice",
    "Keys and values were projected by `project_memory` already, and you project them once more: use them as they are.",
    {_QUERIES: f"{_QUERIES}\n    keys, values = project_memory(attention, merge_heads(keys))[0], "
     "project_memory(attention, merge_heads(values))[1]"},
)  # fmt: skip
cross.slip(
    "causal",
    _CAUSAL_CROSS,
    {_QUERIES: f"{_QUERIES}\n    ahead = causal_mask(states.size(1), keys.size(2))\n"
     "    memory_mask = ahead if memory_mask is None else ahead & memory_mask"},
)  # fmt: skip
cross.slip(
    "causal_instead",
    _CAUSAL_CROSS,
    {_CARRIED: "attention.attention(queries, keys, values, causal_mask(states.size(1), keys.size(2)))"},
)
cross.slip(
    "mask_inverted",
    "The mask is turned round. True means may attend, and `attention.attention` reads it so: pass it on as it is.",
    {_CARRIED: "attention.attention(queries, keys, values, None if memory_mask is None else ~memory_mask)"},
)
cross.slip(
    "empty_mask_for_none",
    "You take a mask that allows nothing for no mask at all, so a source of padding is read after all. Pass it on as "
    "it is: your attention knows what to do where there is nothing to attend to.",
    {_CARRIED: "attention.attention(queries, keys, values, memory_mask if memory_mask is not None and "
     "memory_mask.any() else None)"},
)  # fmt: skip
cross.slip(
    "output_not_used",
    "The output projection is missing: the heads were put side by side but never mixed. Return "
    "`attention.output(...)` of the merged heads.",
    {_BACK: "return merge_heads(carried), weights"},
)
cross.slip(
    "heads_not_merged",
    "The heads are not merged before the output projection: `attention.output` maps d_model to d_model.",
    {_BACK: "return attention.output(carried), weights"},
)
cross.slip(
    "merged_without_transpose",
    "A plain reshape mixes heads and positions. `merge_heads` brings the length before the heads first.",
    {"merge_heads(carried)": "carried.reshape(states.shape)"},
)
cross.slip(
    "output_alone",
    "You return the output alone. The weights are asked for too: `return output, weights`.",
    {_BACK: "return attention.output(merge_heads(carried))"},
)
cross.slip(
    "weights_averaged",
    "You average the weights over the heads. Each head looks elsewhere: return (batch, heads, target, source).",
    {_BACK: _BACK.replace("weights", "weights if weights is None else weights.mean(dim=1)")},
)
cross.slip(
    "weights_transposed",
    "The weights are transposed: one row for each target token, one column for each source place.",
    {_BACK: _BACK.replace("weights", "weights if weights is None else weights.transpose(-2, -1)")},
)
cross.slip(
    "weights_touched",
    "You do something to the weights. A fused attention returns None in their place: pass on what you got.",
    {_BACK: _BACK.replace("weights", "weights.clone()")},
)
cross.slip(
    "residual_added",
    "You add the states to the output. The residual comes in `DecoderLayer`, around this function.",
    {"attention.output(merge_heads(carried))": "states + attention.output(merge_heads(carried))"},
)
cross.slip(
    "scaled_twice",
    "The scores are scaled twice: `attention.attention` divides by √d_head itself. Hand the queries over as they are.",
    {_QUERIES: f"{_QUERIES}\n    queries = queries / queries.size(-1) ** 0.5"},
)
cross.slip(
    "states_normed",
    "You normed the states. That is the work of `DecoderLayer`, before it calls this function.",
    {"attention.query(states)": "attention.query(F.layer_norm(states, states.shape[-1:]))"},
)
_BY_ITSELF = (
    "You compute the attention yourself, or call `masked_attention`. Call `attention.attention`: fast training puts "
    "another one in its place."
)
cross.slip("attention_inside_ignored", _BY_ITSELF, {_CARRIED: "masked_attention(queries, keys, values, memory_mask)"})
_SCORES = "scores = queries @ keys.transpose(-2, -1) / keys.size(-1) ** 0.5"
_UNSCALED = "scores = queries @ keys.transpose(-2, -1)"
_HIDE = "scores = scores if memory_mask is None else scores.masked_fill(~memory_mask, {0})"
_OWN = "carried, weights = scores.softmax(-1) @ values, scores.softmax(-1)"
_INFINITY, _LOW = "-float('inf')", "-1e9"
for _name, _low in (("infinity", _INFINITY), ("a_thousand_million", _LOW)):
    cross.slip(
        f"own_softmax_with_{_name}",
        _BY_ITSELF,
        {f"carried, weights = {_CARRIED}": "\n    ".join([_SCORES, _HIDE.format(_low), _OWN])},
    )
    cross.slip(
        f"own_softmax_unscaled_with_{_name}",
        f"{_BY_ITSELF} Yours also forgets to divide the scores by √d_head.",
        {f"carried, weights = {_CARRIED}": "\n    ".join([_UNSCALED, _HIDE.format(_low), _OWN])},
    )
cross.slip(
    "own_softmax_without_mask",
    f"{_BY_ITSELF} Yours also forgets the mask, so the padding of the source takes a share of the weight.",
    {f"carried, weights = {_CARRIED}": "\n    ".join([_SCORES, _OWN])},
)
cross.slip(
    "own_softmax_unscaled_without_mask",
    f"{_BY_ITSELF} Yours also forgets the mask, and to divide the scores by √d_head.",
    {f"carried, weights = {_CARRIED}": "\n    ".join([_UNSCALED, _OWN])},
)
cross.slip(
    "fused_attention_of_torch",
    f"{_BY_ITSELF} And it is from there that the weights come.",
    {f"carried, weights = {_CARRIED}":
     "carried, weights = F.scaled_dot_product_attention(queries, keys, values, memory_mask), None"},
)  # fmt: skip
cross.slip(
    "head_by_head",
    "You call the attention once for each head. It takes all heads at once: hand it (batch, heads, length, d_head).",
    {f"carried, weights = {_CARRIED}":
     "parts = [attention.attention(queries[:, h], keys[:, h], values[:, h], None if memory_mask is None else "
     "memory_mask.expand(-1, attention.heads, -1, -1)[:, h]) for h in range(attention.heads)]\n"
     "    carried = torch.stack([part[0] for part in parts], dim=1)\n"
     "    weights = None if parts[0][1] is None else torch.stack([part[1] for part in parts], dim=1)"},
)  # fmt: skip


@cross.mistake(_NEVER_READ)
def whole_attention_on_states(attention, states, keys, values, memory_mask=None):
    return attention(states, mask=memory_mask)


_WHOLE_MODULE = (
    "You call the module, `attention(states, keys, …)`, which projects what is projected already. Of its steps three "
    "are left: queries, `attention.attention`, and the output projection."
)


@cross.mistake(_WHOLE_MODULE)
def whole_attention_on_keys(attention, states, keys, values, memory_mask=None):
    return attention(states, merge_heads(keys), memory_mask)


for _module_call in (
    "attention(states, keys, values, memory_mask)", "attention(states, keys, memory_mask)", "attention(states, keys)",
    "attention(states, values, memory_mask)", "attention(states, keys, values)",
):  # fmt: skip
    cross.slip(
        f"the_module_as_{_module_call.replace('(', '_').replace(')', '').replace(', ', '_')}",
        _WHOLE_MODULE,
        {_QUERIES: "pass", f"carried, weights = {_CARRIED}": f"output, weights = {_module_call}",
         _BACK: "return output, weights"},
    )  # fmt: skip
cross.slip(
    "the_module_with_queries",
    _WHOLE_MODULE,
    {_CARRIED: "attention(queries, keys, values, memory_mask)"},
)


@cross.also_right
def step_by_step(attention, states, keys, values, memory_mask=None):
    batch, target, d_model = states.shape
    queries = attention.query(states).view(batch, target, attention.heads, -1).transpose(1, 2)
    output, weights = attention.attention(queries, keys, values, mask=memory_mask)
    output = output.transpose(1, 2).reshape(batch, target, d_model)
    return attention.output(output), weights


@cross.also_right
def with_einsum_here_too(attention, states, keys, values, memory_mask=None):
    weight = attention.query.weight.unflatten(0, (attention.heads, -1))
    bias = attention.query.bias.unflatten(0, (attention.heads, -1))[:, None]
    queries = torch.einsum("btm,hdm->bhtd", states, weight) + bias
    carried, weights = attention.attention(queries, keys, values, memory_mask)
    mixed = torch.einsum("bhtd,mhd->btm", carried, attention.output.weight.unflatten(1, (attention.heads, -1)))
    return mixed + attention.output.bias, weights


@cross.also_right
def mask_always_given(attention, states, keys, values, memory_mask=None):
    if memory_mask is None:
        memory_mask = torch.ones(1, 1, 1, keys.size(2), dtype=torch.bool)
    queries = split_heads(attention.query(states), attention.heads)
    result = attention.attention(query=queries, key=keys, value=values, mask=memory_mask)
    return attention.output(merge_heads(result[0])), result[1]


@cross.also_right
def contiguous_first(attention, states, keys, values, memory_mask=None):
    q = split_heads(F.linear(states.contiguous(), attention.query.weight, attention.query.bias), attention.heads)
    heads, weights = attention.attention(q, keys.contiguous(), values.contiguous(), memory_mask)
    return F.linear(merge_heads(heads), attention.output.weight, attention.output.bias), weights


cross.hint("Who asks? Which of the four layers of `attention` is for that?")
cross.hint("Write the shapes: queries (batch, heads, target, d_head), keys (batch, heads, source, d_head).")
cross.hint("`attention.attention(queries, keys, values, memory_mask)` gives what each head carried, and the weights.")
cross.hint("Two steps are left, as in `MultiHeadAttention`: `merge_heads`, then `attention.output`.")

# --- DecoderLayer ----------------------------------------------------------------------------------------------

layer = Exercise("DecoderLayer", returns=["states (batch, target, d_model)"], forbids=["multi_head_attention_forward"])


def _layer_shapes(d_model, d_ff, prefix=""):
    shapes = {}
    for name in ("self_attention", "cross_attention", "feed_forward"):
        shapes |= {f"{prefix}{name}_norm.scale": (d_model,), f"{prefix}{name}_norm.shift": (d_model,)}
    for name in ("self_attention", "cross_attention"):
        shapes |= {f"{prefix}{name}.{key}": shape for key, shape in _attention_shapes(d_model).items()}
    shapes |= {f"{prefix}feed_forward.expand.weight": (d_ff, d_model), f"{prefix}feed_forward.expand.bias": (d_ff,)}
    shapes |= {f"{prefix}feed_forward.contract.weight": (d_model, d_ff)}
    return shapes | {f"{prefix}feed_forward.contract.bias": (d_model,)}


def _layer(draw, *args, d_model=4, heads=2, d_ff=6, dtype=torch.float32, forward, **kwargs):
    """Inputs of the scenario ``module`` for a DecoderLayer."""
    weights = _weights(draw, _layer_shapes(d_model, d_ff), dtype)
    return build(d_model, heads, d_ff, *args, weights=weights, forward=forward, **kwargs)


def _prefix(lengths, target):
    """Causal, and the padding of the target hidden."""
    return causal(target, target) & _padding(lengths, target)


def _own(draw, target):
    """Masks of the target for two words and two heads: causal, each token sees itself, the rest is drawn."""
    allowed = draw.mask(2, 2, target, target) | torch.eye(target, dtype=torch.bool)
    allowed[:, :, -1, 0] = torch.tensor([True, False])  # heads differ, however it is drawn
    return causal(target, target) & allowed


@layer.case("a source longer than the target, no masks", scenario="module")
def _(draw):
    return _layer(draw, forward=call(draw.normal(2, 3, 4), draw.normal(2, 5, 4)))


@layer.case("causal; padding in the source only", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 6), draw.normal(2, 4, 6), causal(3, 3), _padding([4, 2], 4))
    return _layer(draw, d_model=6, heads=3, forward=forward)


@layer.case("causal; padding in the target only", scenario="module")
def _(draw):
    return _layer(draw, forward=call(draw.normal(2, 4, 4), draw.normal(2, 3, 4), _prefix([2, 4], 4)))


@layer.case("padding in both, source and target of one length", scenario="module")
def _(draw):
    forward = call(draw.normal(3, 4, 4), draw.normal(3, 4, 4), _prefix([4, 1, 3], 4), _padding([2, 4, 1], 4))
    return _layer(draw, forward=forward)


@layer.case("source and target of one length, no masks", scenario="module")
def _(draw):
    return _layer(draw, forward=call(draw.normal(2, 3, 4), draw.normal(2, 3, 4)))


@layer.case("a batch of one, a target of length one", scenario="module")
def _(draw):
    forward = call(draw.normal(1, 1, 4), draw.normal(1, 3, 4), causal(1, 1), _padding([2], 3))
    return _layer(draw, forward=forward)


@layer.case("float64, not contiguous, by name", scenario="module")
def _(draw):
    double = torch.float64
    forward = call(states=draw.normal(2, 4, 3, dtype=double).transpose(1, 2), memory=draw.normal(2, 5, 4, dtype=double),
                   memory_mask=_padding([3, 5], 5), target_mask=_prefix([3, 2], 3))  # fmt: skip
    return _layer(draw, dtype=double, forward=forward)


@layer.case("dropout of 1 in training: what is left is x", scenario="module")
def _(draw):
    return _layer(draw, 1.0, forward=call(draw.normal(2, 3, 4), draw.normal(2, 4, 4)), train=True)


@layer.case("dropout of a half, by name, in evaluation: nothing is dropped", scenario="module")
def _(draw):
    return _layer(draw, dropout=0.5, forward=call(draw.normal(2, 2, 4), draw.normal(2, 3, 4)))


@layer.case("no dropout, in training", scenario="module")
def _(draw):
    return _layer(draw, forward=call(draw.normal(2, 2, 4), draw.normal(2, 3, 4)), train=True)


@layer.case("a fused attention inside, which returns None for the weights", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 4), draw.normal(2, 4, 4), causal(3, 3), _padding([4, 2], 4))
    return _layer(draw, forward=forward, fused=True)


@layer.case("causal, called again with another last token", scenario="module")
def _(draw):
    states, memory = draw.normal(2, 3, 4), draw.normal(2, 2, 4)
    changed = torch.cat([states[:, :2], draw.normal(2, 1, 4)], dim=1)
    return _layer(draw, forward=call(states, memory, causal(3, 3)), again=call(changed, memory, causal(3, 3)))


@layer.case("masks for each head and query; called again with another memory", scenario="module")
def _(draw):
    states = draw.normal(2, 3, 4)
    own, read = _own(draw, 3), draw.mask(2, 2, 3, 4)
    forward = call(states, draw.normal(2, 4, 4), memory_mask=read, target_mask=own)
    return _layer(draw, forward=forward, again=call(states, draw.normal(2, 4, 4)))


@layer.case("source and target of one length, a causal mask and no memory mask", scenario="module")
def _(draw):
    return _layer(draw, forward=call(draw.normal(2, 3, 4), draw.normal(2, 3, 4), causal(3, 3)))


_EVEN, _CALLS = 16, 20  # width and number of calls of the cases that look at dropout
_SUBLAYERS = ("self_attention", "cross_attention", "feed_forward")


def _dropping(shapes, *args, memory, silent=(), calls=_CALLS, letters=24):
    """Inputs of the scenario ``module`` that look at dropout alone; the memory has rows of these numbers."""
    words, source = 2, torch.tensor(memory)[:, None].expand(2, -1, _EVEN)  # (words, source, d_model)
    states = torch.zeros(words, letters, _EVEN)
    states[..., 1] = 1.0
    return build(*args, weights=even_weights(shapes, silent), forward=call(states, source.clone()), train=True,
                 dropped=calls)  # fmt: skip


def _adding(name):
    """Of a DecoderLayer with dropout 0.4: only one of its sub-layers adds anything.

    The memory differs from row to row, so that what is read of it shows a change of the queries.
    """
    silent = [other for other in _SUBLAYERS if other != name]
    return _dropping(_layer_shapes(_EVEN, 3), _EVEN, 2, 3, 0.4, memory=[0.0, 0.5], silent=silent)


@layer.case("training, dropout 0.4: what self-attention adds", scenario="module")
def _(draw):
    return _adding("self_attention")


@layer.case("training, dropout 0.4: what cross-attention adds", scenario="module")
def _(draw):
    return _adding("cross_attention")


@layer.case("training, dropout 0.4: what feed-forward adds", scenario="module")
def _(draw):
    return _adding("feed_forward")


_SELF = "attended, _ = self.self_attention(self.self_attention_norm(states), mask=target_mask)"
_SELF_SUM = "states = states + self.dropout(attended)"
_ASKING = "asking = self.cross_attention_norm(states)  # the memory comes normed: the encoder ends with a norm"
_PROJECT = "keys, values = project_memory(self.cross_attention, memory)"
_READ = "read, _ = cross_attention(self.cross_attention, asking, keys, values, memory_mask)"
_READ_SUM = "states = states + self.dropout(read)"
_PROCESS = "processed = self.feed_forward(self.feed_forward_norm(states))"
_LAST = "return states + self.dropout(processed)"
_FROM_NORMED = (
    "The residual carries the normed states. It must carry the raw ones: x + f(norm(x)), with the same x outside and "
    "inside."
)
_NO_RESIDUAL = (
    "A residual is missing: each of the three sub-layers *adds* to the states, x + f(norm(x)), and replaces nothing."
)
_POST_NORM = (
    "You norm after adding, norm(x + f(x)): that is post-LN. Asked is pre-LN, x + f(norm(x)): norm what goes into each "
    "sub-layer."
)
_RAW_INTO = "What goes into a sub-layer is not normed: each of the three has its own norm, x + f(norm(x))."
_DROPOUT = "Dropout belongs on each sub-layer's output, before it is added: x + dropout(f(norm(x))), all three times."
_ONE_ATTENTION = (
    "Self-attention and cross-attention are one module with the same weights. They learn different things: make two, "
    "`self_attention` and `cross_attention`."
)
_LAYER_NAMES = (
    "Weights are loaded by name: the parts are `self_attention_norm`, `self_attention`, `cross_attention_norm`, "
    "`cross_attention`, `feed_forward_norm` and `feed_forward`."
)
_ONE_MASK_FOR_THE_OTHER = (
    "The mask of the target is used for the memory. The memory has the source's length and the source's padding: "
    "cross-attention takes `memory_mask`. Where both lengths are equal, nothing raises."
)

layer.slip(
    "queries_from_the_memory",
    "The memory asks and the decoder answers: `cross(memory, x, x)`. Queries come from the decoder's states, keys and "
    "values from the memory.",
    {_PROJECT: "keys, values = project_memory(self.cross_attention, asking)",
     _READ: "read, _ = cross_attention(self.cross_attention, memory, keys, values)"},
)  # fmt: skip
layer.slip(
    "cross_attends_to_itself",
    "Your cross-attention reads the decoder's own states, `cross(x, x, x)`: the source never arrives. Keys and values "
    "come from `memory`.",
    {_PROJECT: "keys, values = project_memory(self.cross_attention, asking)",
     _READ: "read, _ = cross_attention(self.cross_attention, asking, keys, values)"},
)  # fmt: skip
layer.slip(
    "cross_attends_to_itself_causally",
    "Your cross-attention reads the decoder's own states, `cross(x, x, x)`: the source never arrives. Keys and values "
    "come from `memory`.",
    {_PROJECT: "keys, values = project_memory(self.cross_attention, asking)",
     _READ: "read, _ = cross_attention(self.cross_attention, asking, keys, values, target_mask)"},
)  # fmt: skip
layer.slip(
    "values_from_states",
    "Keys come from the memory and values from the decoder. Where to look and what to carry must be the same tokens: "
    "both from the memory.",
    {_PROJECT: "keys, _ = project_memory(self.cross_attention, memory)\n"
     "        _, values = project_memory(self.cross_attention, asking)"},
)  # fmt: skip
layer.slip(
    "keys_from_states",
    "Values come from the memory and keys from the decoder. Where to look and what to carry must be the same tokens: "
    "both from the memory.",
    {_PROJECT: "_, values = project_memory(self.cross_attention, memory)\n"
     "        keys, _ = project_memory(self.cross_attention, asking)"},
)  # fmt: skip
layer.slip("target_mask_on_the_memory", _ONE_MASK_FOR_THE_OTHER, {_READ: _READ.replace("memory_mask", "target_mask")})
layer.slip(
    "masks_swapped",
    "The masks are swapped: `target_mask` is for self-attention, `memory_mask` for cross-attention.",
    {_SELF: _SELF.replace("target_mask", "memory_mask"), _READ: _READ.replace("memory_mask", "target_mask")},
)
layer.slip(
    "memory_mask_on_the_target",
    "`memory_mask` is used for self-attention too. There the keys are the target's own tokens: `target_mask`.",
    {_SELF: _SELF.replace("target_mask", "memory_mask")},
)
layer.slip(
    "target_mask_forgotten",
    "Self-attention gets no mask, so each token reads those after it, its own answer among them: pass `target_mask`.",
    {_SELF: "attended, _ = self.self_attention(self.self_attention_norm(states))"},
)
layer.slip(
    "memory_mask_forgotten",
    "Cross-attention gets no mask, so it reads the padding of the source: pass `memory_mask`.",
    {_READ: "read, _ = cross_attention(self.cross_attention, asking, keys, values)"},
)
layer.slip(
    "causal_cross_attention",
    _CAUSAL_CROSS,
    {_READ: "ahead = causal_mask(states.size(1), memory.size(1))\n"
     "        read_mask = ahead if memory_mask is None else ahead & memory_mask\n"
     "        read, _ = cross_attention(self.cross_attention, asking, keys, values, read_mask)"},
)  # fmt: skip
layer.slip(
    "causal_by_itself",
    "The layer makes itself causal. It should use the masks that it is given and no other: `EncoderDecoder.decode` "
    "makes the causal one, once, for all layers.",
    {_SELF: "ahead = causal_mask(states.size(1), states.size(1))\n"
     "        own_mask = ahead if target_mask is None else ahead & target_mask\n"
     "        attended, _ = self.self_attention(self.self_attention_norm(states), mask=own_mask)"},
)  # fmt: skip
layer.slip(
    "mask_as_memory",
    "The second argument of `self.self_attention` is the memory, so your mask is taken for states. Give it by name: "
    "`mask=target_mask`.",
    {_SELF: _SELF.replace("mask=target_mask", "target_mask")},
)
layer.slip(
    "masks_inverted",
    "The masks are turned round. True means may attend, here and in your attention: pass them on as they are.",
    {_SELF: _SELF.replace("mask=target_mask", "mask=None if target_mask is None else ~target_mask"),
     _READ: _READ.replace("memory_mask", "None if memory_mask is None else ~memory_mask")},
)  # fmt: skip
layer.slip(
    "one_module_twice",
    _ONE_ATTENTION,
    {"self.cross_attention = MultiHeadAttention(d_model, heads)": "self.cross_attention = self.self_attention"},
)
layer.slip(
    "self_attention_reads_the_memory",
    "Cross-attention is done by the module `self_attention`, and `cross_attention` is never called. They learn "
    "different things: use each for its own.",
    {_PROJECT: "keys, values = project_memory(self.self_attention, memory)",
     _READ: _READ.replace("self.cross_attention", "self.self_attention")},
)  # fmt: skip
layer.slip(
    "half_of_the_other_attention",
    "Keys and values are projected by `self_attention`, the queries by `cross_attention`. All that reads the memory "
    "belongs to `cross_attention`.",
    {_PROJECT: "keys, values = project_memory(self.self_attention, memory)"},
)
layer.slip(
    "memory_normed",
    "You norm the memory in the layer. The encoder has normed it once, at its end: each layer takes it as it is.",
    {_PROJECT: "keys, values = project_memory(self.cross_attention, self.cross_attention_norm(memory))"},
)
layer.slip(
    "only_the_memory_normed",
    "You norm the memory, and not the states that ask. It is the other way round: the memory comes normed from the "
    "encoder, the states need their norm.",
    {_ASKING: "asking = states",
     _PROJECT: "keys, values = project_memory(self.cross_attention, self.cross_attention_norm(memory))"},
)  # fmt: skip
layer.slip(
    "residual_from_the_memory",
    "What was read is added to the memory. The residual carries the decoder's states: the memory has other tokens, "
    "and usually another length.",
    {_READ_SUM: "states = memory + self.dropout(read)"},
)
layer.slip(
    "residual_from_normed_self", _FROM_NORMED,
    {_SELF: "normed = self.self_attention_norm(states)\n"
     "        attended, _ = self.self_attention(normed, mask=target_mask)",
     _SELF_SUM: "states = normed + self.dropout(attended)"},
)  # fmt: skip
layer.slip("residual_from_normed_cross", _FROM_NORMED, {_READ_SUM: "states = asking + self.dropout(read)"})
layer.slip(
    "residual_from_normed_feed_forward", _FROM_NORMED,
    {_PROCESS: "states = self.feed_forward_norm(states)\n        processed = self.feed_forward(states)"},
)  # fmt: skip
layer.slip(
    "residual_from_normed_everywhere", _FROM_NORMED,
    {_SELF: "states = self.self_attention_norm(states)\n"
     "        attended, _ = self.self_attention(states, mask=target_mask)",
     _ASKING: "asking = states = self.cross_attention_norm(states)",
     _PROCESS: "states = self.feed_forward_norm(states)\n        processed = self.feed_forward(states)"},
)  # fmt: skip
layer.slip("no_residual_self", _NO_RESIDUAL, {_SELF_SUM: "states = self.dropout(attended)"})
layer.slip("no_residual_cross", _NO_RESIDUAL, {_READ_SUM: "states = self.dropout(read)"})
layer.slip("no_residual_feed_forward", _NO_RESIDUAL, {_LAST: "return self.dropout(processed)"})
layer.slip(
    "no_residuals", _NO_RESIDUAL,
    {_SELF_SUM: "states = self.dropout(attended)", _READ_SUM: "states = self.dropout(read)",
     _LAST: "return self.dropout(processed)"},
)  # fmt: skip
layer.slip(
    "cross_before_self",
    "Cross-attention comes before self-attention. The order is self-attention, cross-attention, feed-forward: first "
    "the token looks at what was said, then at the source.",
    {f"        {_SELF}\n        {_SELF_SUM}\n\n": "",
     _READ_SUM: f"{_READ_SUM}\n        {_SELF}\n        {_SELF_SUM}"},
)  # fmt: skip
layer.slip(
    "feed_forward_in_between",
    "The feed-forward block stands between the two attentions. The order is self-attention, cross-attention, "
    "feed-forward.",
    {_SELF_SUM: f"{_SELF_SUM}\n        {_PROCESS}\n        states = states + self.dropout(processed)",
     f"        {_READ_SUM}\n\n        {_PROCESS}\n        {_LAST}": "        return states + self.dropout(read)"},
)  # fmt: skip
layer.slip(
    "all_on_the_same_input",
    "All three sub-layers read the layer's input. They follow each other: each takes the sum that the one before it "
    "made.",
    {_SELF_SUM: "total = states + self.dropout(attended)", _READ_SUM: "total = total + self.dropout(read)",
     _LAST: "return total + self.dropout(processed)"},
)  # fmt: skip
_ASKS_WITH_ATTENDED = {_SELF_SUM: "attended = self.dropout(attended)",
                       _ASKING: "asking = self.cross_attention_norm(attended)"}  # fmt: skip
layer.slip(
    "first_sum_left_out",
    "Cross-attention reads only what self-attention gave, and the states are added once, after both: the first sum is "
    "missing. Each of the three sub-layers adds to the states, and the next reads the sum.",
    _ASKS_WITH_ATTENDED,
)
layer.slip(
    "asks_without_the_states",
    "Cross-attention reads only what self-attention gave, without the states. It reads the sum of both: add first, "
    "then norm the new states.",
    _ASKS_WITH_ATTENDED | {_READ_SUM: "states = states + attended + self.dropout(read)"},
)
layer.slip(
    "one_sum_at_the_end",
    "There is one sum, at the very end, and in between each sub-layer reads only what the one before it gave. There "
    "are three: each sub-layer adds to the states, and the next reads the sum.",
    _ASKS_WITH_ATTENDED
    | {_READ_SUM: "read = self.dropout(read)", "self.feed_forward_norm(states)": "self.feed_forward_norm(read)"},
)
layer.slip(
    "added_up_at_the_end",
    "Each sub-layer reads only what the one before it gave, and everything is added up at the end. Add after each, and "
    "let the next read the sum.",
    _ASKS_WITH_ATTENDED
    | {_READ_SUM: "read = self.dropout(read)", "self.feed_forward_norm(states)": "self.feed_forward_norm(read)",
       _LAST: "return states + attended + read + self.dropout(processed)"},
)  # fmt: skip
layer.slip(
    "feed_forward_on_the_old",
    "The feed-forward block reads the states from before cross-attention. Give it the new sum, with what was read.",
    {_READ_SUM: "before, states = states, states + self.dropout(read)",
     _PROCESS: "processed = self.feed_forward(self.feed_forward_norm(before))"},
)  # fmt: skip
layer.slip(
    "post_norm", _POST_NORM,
    {_SELF: "attended, _ = self.self_attention(states, mask=target_mask)",
     _SELF_SUM: "states = self.self_attention_norm(states + self.dropout(attended))",
     _ASKING: "asking = states",
     _READ_SUM: "states = self.cross_attention_norm(states + self.dropout(read))",
     _PROCESS: "processed = self.feed_forward(states)",
     _LAST: "return self.feed_forward_norm(states + self.dropout(processed))"},
)  # fmt: skip
layer.slip(
    "norm_on_the_outputs",
    "You norm what comes out of each sub-layer, x + norm(f(x)). Norm what goes in: x + f(norm(x)).",
    {_SELF: "attended, _ = self.self_attention(states, mask=target_mask)",
     _SELF_SUM: "states = states + self.dropout(self.self_attention_norm(attended))",
     _ASKING: "asking = states",
     _READ_SUM: "states = states + self.dropout(self.cross_attention_norm(read))",
     _PROCESS: "processed = self.feed_forward(states)",
     _LAST: "return states + self.dropout(self.feed_forward_norm(processed))"},
)  # fmt: skip
layer.slip("raw_into_self", _RAW_INTO, {"self.self_attention_norm(states), mask": "states, mask"})
layer.slip("raw_into_cross", _RAW_INTO, {_ASKING: "asking = states"})
layer.slip("raw_into_feed_forward", _RAW_INTO, {"self.feed_forward_norm(states)": "states"})
layer.slip(
    "one_norm_for_both_attentions",
    "Cross-attention uses the norm of self-attention. Each sub-layer has a norm of its own, which learns its own scale "
    "and shift.",
    {"asking = self.cross_attention_norm(states)": "asking = self.self_attention_norm(states)"},
)
layer.slip(
    "one_norm_under_three_names",
    "The three norms are one and the same. Each sub-layer has a norm of its own, which learns its own scale and shift.",
    {"self.cross_attention_norm = LayerNorm(d_model)": "self.cross_attention_norm = self.self_attention_norm",
     "self.feed_forward_norm = LayerNorm(d_model)": "self.feed_forward_norm = self.self_attention_norm"},
)  # fmt: skip
layer.slip(
    "norms_of_torch",
    "The parameters of `nn.LayerNorm` are called `weight` and `bias`. Use your own `LayerNorm`, with `scale` and "
    "`shift`.",
    {f"self.{name}_norm = LayerNorm(d_model)": f"self.{name}_norm = nn.LayerNorm(d_model)"
     for name in ("self_attention", "cross_attention", "feed_forward")},
)  # fmt: skip
layer.slip(
    "normed_at_the_end",
    "You norm the result once more. The last norm stands at the end of the whole decoder, not in each layer.",
    {_LAST: "states = states + self.dropout(processed)\n        return F.layer_norm(states, states.shape[-1:])"},
)
layer.slip("no_dropout_self", _DROPOUT, {_SELF_SUM: "states = states + attended"})
layer.slip("no_dropout_cross", _DROPOUT, {_READ_SUM: "states = states + read"})
layer.slip("no_dropout_feed_forward", _DROPOUT, {_LAST: "return states + processed"})
layer.slip(
    "no_dropout", "There is no dropout: in training, each sub-layer's output passes `self.dropout` before it is added.",
    {_SELF_SUM: "states = states + attended", _READ_SUM: "states = states + read", _LAST: "return states + processed"},
)  # fmt: skip
layer.slip(
    "dropout_on_the_sum",
    "Dropout falls on the sum, so it drops the states too, and the residual no longer carries them. Drop from each "
    "sub-layer's output alone.",
    {_SELF_SUM: "states = self.dropout(states + attended)", _READ_SUM: "states = self.dropout(states + read)",
     _LAST: "return self.dropout(states + processed)"},
)  # fmt: skip
_TWICE = (
    "One output goes through dropout twice, so more is dropped than asked, and what is kept is stretched twice. Once "
    "for each sub-layer."
)
layer.slip("dropout_twice_self", _TWICE, {_SELF_SUM: "states = states + self.dropout(self.dropout(attended))"})
layer.slip("dropout_twice_cross", _TWICE, {_READ_SUM: "states = states + self.dropout(self.dropout(read))"})
layer.slip("dropout_twice_feed_forward", _TWICE, {_LAST: "return states + self.dropout(self.dropout(processed))"})
layer.slip(
    "dropout_twice_everywhere", _TWICE,
    {_SELF_SUM: "states = states + self.dropout(self.dropout(attended))",
     _READ_SUM: "states = states + self.dropout(self.dropout(read))",
     _LAST: "return states + self.dropout(self.dropout(processed))"},
)  # fmt: skip
_DROPPED_BEFORE_TOO = (
    "Dropout stands in more places than on the sub-layers' outputs: also on what goes into one, or inside it. Asked is "
    "x + dropout(f(norm(x))), and no more."
)
layer.slip(
    "dropout_before_self_too", _DROPPED_BEFORE_TOO,
    {"self.self_attention_norm(states), mask": "self.dropout(self.self_attention_norm(states)), mask"},
)  # fmt: skip
layer.slip(
    "dropout_before_cross_too", _DROPPED_BEFORE_TOO,
    {"asking = self.cross_attention_norm(states)": "asking = self.dropout(self.cross_attention_norm(states))"},
)  # fmt: skip
layer.slip(
    "dropout_before_feed_forward_too", _DROPPED_BEFORE_TOO,
    {"self.feed_forward_norm(states)": "self.dropout(self.feed_forward_norm(states))"},
)  # fmt: skip
layer.slip(
    "dropout_before_all_too", _DROPPED_BEFORE_TOO,
    {"self.self_attention_norm(states), mask": "self.dropout(self.self_attention_norm(states)), mask",
     "asking = self.cross_attention_norm(states)": "asking = self.dropout(self.cross_attention_norm(states))",
     "self.feed_forward_norm(states)": "self.dropout(self.feed_forward_norm(states))"},
)  # fmt: skip
layer.slip(
    "dropout_inside_the_feed_forward_too", _DROPPED_BEFORE_TOO,
    {_PROCESS: "inner = F.relu(self.feed_forward.expand(self.feed_forward_norm(states)))\n"
     "        processed = self.feed_forward.contract(self.dropout(inner))"},
)  # fmt: skip
layer.slip(
    "dropout_on_the_memory",
    "You drop numbers of the memory. Dropout sits on each sub-layer's output only; the memory is read as it is.",
    {_PROJECT: "keys, values = project_memory(self.cross_attention, self.dropout(memory))"},
)
_NOT_STRETCHED = (
    "What is kept stays as it was. Dropout divides it by 1 - p, so that the mean is the same in training and in "
    "evaluation: `nn.Dropout` does both."
)
_BY_HAND = "({0} if not self.training else {0} * (torch.rand_like({0}) >= self.dropout.p))"
_STRETCHED_BY_HAND = _BY_HAND[:-1] + " / (1 - self.dropout.p))"
layer.slip(
    "dropout_not_stretched", _NOT_STRETCHED,
    {_SELF_SUM: f"states = states + {_BY_HAND.format('attended')}",
     _READ_SUM: f"states = states + {_BY_HAND.format('read')}",
     _LAST: f"return states + {_BY_HAND.format('processed')}"},
)  # fmt: skip
layer.slip(
    "dropout_by_hand_divided_by_zero",
    "`dropout` may be 1. Then 1 - p is 0, and 0 / 0 is NaN: drop with `nn.Dropout`, or divide only where p is below 1.",
    {_SELF_SUM: f"states = states + {_STRETCHED_BY_HAND.format('attended')}",
     _READ_SUM: f"states = states + {_STRETCHED_BY_HAND.format('read')}",
     _LAST: f"return states + {_STRETCHED_BY_HAND.format('processed')}"},
)  # fmt: skip
layer.slip(
    "dropout1d",
    "Numbers are dropped together: whole letters, features or words, or one coin for all. Each number has a coin of "
    "its own: `nn.Dropout`.",
    {"nn.Dropout(dropout)": "nn.Dropout1d(dropout)"},
)
layer.slip(
    "alpha_dropout",
    "`nn.AlphaDropout` does not drop to 0: it puts another number there, and shifts and stretches the rest. It is made "
    "for SELU networks. Here it is `nn.Dropout`.",
    {"nn.Dropout(dropout)": "nn.AlphaDropout(dropout)"},
)
layer.slip(
    "dropout_squared",
    "You drop another share than asked: hand `dropout` on as it is.",
    {"nn.Dropout(dropout)": "nn.Dropout(dropout**2)"},
)
layer.slip(
    "dropout_rounded",
    "You round `dropout`, so that a share between 0 and 1 becomes 0 or 1: hand it on as it is.",
    {"nn.Dropout(dropout)": "nn.Dropout(int(dropout))"},
)
layer.slip(
    "norms_with_another_eps",
    "Your norms have another eps than `LayerNorm` has by itself. None is asked for here: `LayerNorm(d_model)`.",
    {f"self.{name}_norm = LayerNorm(d_model)": f"self.{name}_norm = LayerNorm(d_model, eps=1e-6)"
     for name in ("self_attention", "cross_attention", "feed_forward")},
)  # fmt: skip
layer.slip(
    "dropout_in_evaluation",
    "`F.dropout` drops in evaluation too unless it is told: make `self.dropout = nn.Dropout(dropout)`, which knows.",
    {"self.dropout = nn.Dropout(dropout)": "self.share = dropout",
     _SELF_SUM: "states = states + F.dropout(attended, self.share)",
     _READ_SUM: "states = states + F.dropout(read, self.share)",
     _LAST: "return states + F.dropout(processed, self.share)"},
)  # fmt: skip
layer.slip(
    "dropout_of_its_own",
    "The share that is dropped is fixed. It is the argument: `nn.Dropout(dropout)`.",
    {"nn.Dropout(dropout)": "nn.Dropout(0.1)"},
)
layer.slip(
    "states_and_weights",
    "You return the weights too. Layers return the states alone, so that they can be put on top of each other.",
    {"read, _ =": "read, weights =", _LAST: "return states + self.dropout(processed), weights"},
)
layer.slip(
    "weights_kept",
    "You do something to the weights. A fused attention returns None in their place: leave them alone here.",
    {"read, _ =": "read, weights =", _READ_SUM: f"self.weights = weights.detach()\n        {_READ_SUM}"},
)
layer.slip(
    "tuple_added",
    "Your attention returns two things, output and weights, and you add both: `output, _ = self.self_attention(...)`.",
    {_SELF: _SELF.replace("attended, _ =", "attended =")},
)
layer.slip(
    "no_cross_attention",
    "The memory is never read: cross-attention is missing between self-attention and feed-forward.",
    {f"        {_ASKING}\n        {_PROJECT}\n        {_READ}\n        {_READ_SUM}\n\n": ""},
)
layer.slip(
    "no_feed_forward",
    "The feed-forward block is made but never called: it is the third sub-layer.",
    {f"        {_PROCESS}\n        {_LAST}": "        return states"},
)
layer.slip(
    "no_self_attention",
    "Self-attention is made but never called: without it a token does not know what was said before.",
    {f"        {_SELF}\n        {_SELF_SUM}\n\n": ""},
)
layer.slip(
    "widths_swapped",
    "The widths of the feed-forward block are swapped: `FeedForward(d_model, d_ff)`.",
    {"FeedForward(d_model, d_ff)": "FeedForward(d_ff, d_model)"},
)
layer.slip(
    "names_of_torch",
    _LAYER_NAMES,
    {f"self.{old} = LayerNorm": f"self.{new} = LayerNorm"
     for old, new in (("self_attention_norm", "norm1"), ("cross_attention_norm", "norm2"),
                      ("feed_forward_norm", "norm3"))}
    | {"self.self_attention_norm(states), mask": "self.norm1(states), mask",
       "asking = self.cross_attention_norm(states)": "asking = self.norm2(states)",
       "self.feed_forward_norm(states)": "self.norm3(states)"},
)  # fmt: skip
layer.slip(
    "attention_under_the_encoder_s_name",
    _LAYER_NAMES,
    {"self.self_attention = MultiHead": "self.attention = MultiHead",
     "self.self_attention(self.self_attention_norm": "self.attention(self.self_attention_norm"},
)  # fmt: skip
layer.slip(
    "memory_kept",
    "You keep the memory of the first call. Another word brings another memory: project the one that is handed in.",
    {_PROJECT: "if not hasattr(self, 'kept'):\n"
     "            self.kept = project_memory(self.cross_attention, memory)\n"
     "        keys, values = self.kept"},
)  # fmt: skip
layer.slip(
    "memory_cut_off",
    "No gradient reaches the memory: something (`.detach()`, `no_grad`) cut it, and the encoder would never learn.",
    {_PROJECT: "keys, values = project_memory(self.cross_attention, memory.detach())"},
)


_MASK_CUT = (
    "You take one head's or one query's part of a mask for all of them. A mask broadcasts to (batch, heads, queries, "
    "keys), and each head and query may have a row of its own: pass it on as it is."
)
_MASKS = {"memory": (_READ, "keys, values, memory_mask)"), "target": (_SELF, "mask=target_mask)")}
for _name, (_line, _end) in _MASKS.items():
    for _word, _cut in (("query", "[..., :1, :]"), ("head", "[:, :1]"), ("head_and_query", "[:, :1, :1]")):
        layer.slip(
            f"{_name}_mask_of_the_first_{_word}",
            _MASK_CUT,
            {_line: f"cut = None if {_name}_mask is None else {_name}_mask.expand("
             f"*{_name}_mask.shape){'[None, None]' if _name == 'target' else ''}{_cut}\n        "
             + _line.replace(_end, _end.replace(f"{_name}_mask)", "cut)"))},
        )  # fmt: skip
_IN_PLACE = (
    "`states += …` changes the states of the caller in place, who still needs them. Make a new sum: "
    "`states = states + …`."
)
layer.slip("in_place_after_self", _IN_PLACE, {_SELF_SUM: "states += self.dropout(attended)"})
layer.slip(
    "in_place_everywhere",
    _IN_PLACE,
    {
        _SELF_SUM: "states += self.dropout(attended)",
        _READ_SUM: "states += self.dropout(read)",
        _LAST: "states += self.dropout(processed)\n        return states",
    },
)
layer.also(
    "sums_of_its_own_in_place",
    {_READ_SUM: "states += self.dropout(read)", _LAST: "states += self.dropout(processed)\n        return states"},
)


@layer.mistake(
    "The parts stand in a Python list or dict, so PyTorch does not see their parameters and no optimiser would train "
    "them. Make each an attribute: `self.self_attention = …`."
)
class InADict(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.parts = {
            "self": MultiHeadAttention(d_model, heads),
            "cross": MultiHeadAttention(d_model, heads),
            "norms": [LayerNorm(d_model) for _ in range(3)],
            "feed_forward": FeedForward(d_model, d_ff),
        }
        self.dropout = nn.Dropout(dropout)

    def forward(self, states, memory, target_mask=None, memory_mask=None):
        norms = self.parts["norms"]
        states = states + self.dropout(self.parts["self"](norms[0](states), mask=target_mask)[0])
        states = states + self.dropout(self.parts["cross"](norms[1](states), memory, memory_mask)[0])
        return states + self.dropout(self.parts["feed_forward"](norms[2](states)))


@layer.also_right
class ThroughTheModule(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, heads)
        self.cross_attention = MultiHeadAttention(d_model, heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.self_attention_norm, self.cross_attention_norm = LayerNorm(d_model), LayerNorm(d_model)
        self.feed_forward_norm = LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states, memory, target_mask=None, memory_mask=None):
        x = states
        x = x + self.dropout(self.self_attention(self.self_attention_norm(x), mask=target_mask)[0])
        x = x + self.dropout(self.cross_attention(self.cross_attention_norm(x), memory, memory_mask)[0])
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


@layer.also_right
class ThreeDropouts(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        for name in ("self_attention", "cross_attention"):
            setattr(self, name, MultiHeadAttention(d_model, heads))
        self.feed_forward = FeedForward(d_model, d_ff)
        for name in ("self_attention", "cross_attention", "feed_forward"):
            setattr(self, f"{name}_norm", LayerNorm(d_model))
            setattr(self, f"{name}_dropout", nn.Dropout(dropout))

    def forward(self, states, memory, target_mask=None, memory_mask=None):
        normed = self.self_attention_norm(states)
        output, _ = self.self_attention(normed, normed, target_mask)
        states = states + self.self_attention_dropout(output)
        output, _ = self.cross_attention(self.cross_attention_norm(states), memory=memory, mask=memory_mask)
        states = states + self.cross_attention_dropout(output)
        output = self.feed_forward(self.feed_forward_norm(states))
        return states + self.feed_forward_dropout(output)


@layer.also_right
class FunctionalDropout(nn.Module):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.share = dropout
        self.self_attention_norm, self.self_attention = LayerNorm(d_model), MultiHeadAttention(d_model, heads)
        self.cross_attention_norm, self.cross_attention = LayerNorm(d_model), MultiHeadAttention(d_model, heads)
        self.feed_forward_norm, self.feed_forward = LayerNorm(d_model), FeedForward(d_model, d_ff)

    def _add(self, states, output):
        return states + F.dropout(output, self.share, training=self.training)

    def forward(self, states, memory, target_mask=None, memory_mask=None):
        attention = self.cross_attention
        keys, values = (split_heads(part(memory), attention.heads) for part in (attention.key, attention.value))
        states = self._add(states, self.self_attention(self.self_attention_norm(states), mask=target_mask)[0])
        queries = split_heads(attention.query(self.cross_attention_norm(states)), attention.heads)
        carried, _ = attention.attention(queries, keys, values, memory_mask)
        states = self._add(states, attention.output(merge_heads(carried)))
        return self._add(states, self.feed_forward(self.feed_forward_norm(states)))


layer.also("dropped_in_place", {"nn.Dropout(dropout)": "nn.Dropout(dropout, inplace=True)"})
layer.also(
    "dropout_by_hand",
    {_LAST: "if self.training and self.dropout.p > 0:\n"
     "            kept = torch.rand_like(processed) >= self.dropout.p\n"
     "            processed = torch.where(kept, processed / max(1 - self.dropout.p, 1e-9), 0.0)\n"
     "        return processed + states"},
)  # fmt: skip
layer.also(
    "masks_always_given",
    {_SELF: "if target_mask is None:\n"
     "            target_mask = torch.ones(states.size(1), states.size(1), dtype=torch.bool)\n        " + _SELF},
)  # fmt: skip

layer.slip(
    "kept_keys",
    "You keep the memory of the first call. Another word brings another memory: project the one that is handed in.",
    {
        "        keys, values = project_memory(self.cross_attention, memory)\n": """
        if getattr(self, "shape", None) != memory.shape:
            self.shape = memory.shape
            self.kept = project_memory(self.cross_attention, memory)
        keys, values = self.kept
"""
    },
)
layer.slip(
    "target_mask_where_it_fits",
    "Where no memory mask is given, you take the target's. No mask means that nothing is hidden: the whole source may "
    "be read.",
    {
        "        asking = ": """
        if memory_mask is None and target_mask is not None and memory.size(1) == states.size(1):
            memory_mask = target_mask
        asking = """
    },
)
layer.hint("Take your `EncoderLayer`: a second attention, with a norm of its own, comes between its two sub-layers.")
layer.hint("`self.self_attention(..., mask=target_mask)` returns two things; layers need the first alone.")
layer.hint(
    "Only the states are normed before cross-attention. Then `project_memory`, then `cross_attention`, or "
    "`self.cross_attention(normed, memory, memory_mask)`, which does both."
)
layer.hint("Three times `states = states + self.dropout(...)`, and each time the new states go on.")

# --- Decoder ---------------------------------------------------------------------------------------------------

decoder = Exercise("Decoder", returns=["states (batch, target, d_model)"], forbids=["multi_head_attention_forward"])


def _decoder_shapes(layers, d_model, d_ff):
    shapes = {"norm.scale": (d_model,), "norm.shift": (d_model,)}
    for index in range(layers):
        shapes |= _layer_shapes(d_model, d_ff, f"layers.{index}.")
    return shapes


def _decoder(draw, layers, *args, d_model=4, heads=2, d_ff=6, dtype=torch.float32, forward, **kwargs):
    """Inputs of the scenario ``module`` for a Decoder."""
    weights = _weights(draw, _decoder_shapes(layers, d_model, d_ff), dtype)
    return build(layers, d_model, heads, d_ff, *args, weights=weights, forward=forward, **kwargs)


@decoder.case("two layers, a source longer than the target", scenario="module")
def _(draw):
    return _decoder(draw, 2, forward=call(draw.normal(2, 2, 4), draw.normal(2, 3, 4)))


@decoder.case("three layers, causal, padding in the source", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 4), draw.normal(2, 4, 4), causal(3, 3), _padding([4, 2], 4))
    return _decoder(draw, 3, forward=forward)


@decoder.case("padding in both, source and target of one length", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 4), draw.normal(2, 3, 4), _prefix([3, 1], 3), _padding([1, 2], 3))
    return _decoder(draw, 2, forward=forward)


@decoder.case("one layer, a batch of one, a target of length one", scenario="module")
def _(draw):
    return _decoder(draw, 1, forward=call(draw.normal(1, 1, 4), draw.normal(1, 3, 4), causal(1, 1)))


@decoder.case("float64, masks by name", scenario="module")
def _(draw):
    double = torch.float64
    forward = call(draw.normal(2, 3, 4, dtype=double), draw.normal(2, 2, 4, dtype=double),
                   memory_mask=_padding([1, 2], 2), target_mask=_prefix([2, 3], 3))  # fmt: skip
    return _decoder(draw, 2, dtype=double, forward=forward)


@decoder.case("dropout of 1 in training: only the last norm is left", scenario="module")
def _(draw):
    return _decoder(draw, 2, 1.0, forward=call(draw.normal(2, 2, 4), draw.normal(2, 3, 4)), train=True)


@decoder.case("a fused attention inside, which returns None for the weights", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 2, 4), draw.normal(2, 3, 4), causal(2, 2), _padding([3, 1], 3))
    return _decoder(draw, 2, forward=forward, fused=True)


@decoder.case("a target mask for each head and query; called again with another memory", scenario="module")
def _(draw):
    states = draw.normal(2, 3, 4)
    forward, again = call(states, draw.normal(2, 4, 4), _own(draw, 3)), call(states, draw.normal(2, 4, 4))
    return _decoder(draw, 2, forward=forward, again=again)


@decoder.case("a memory mask alone, for each head and query", scenario="module")
def _(draw):
    forward = call(draw.normal(2, 3, 4), draw.normal(2, 3, 4), memory_mask=draw.mask(2, 2, 3, 3))
    return _decoder(draw, 1, forward=forward)


@decoder.case("training, dropout 0.4, two layers", scenario="module")
def _(draw):
    return _dropping(_decoder_shapes(2, _EVEN, 3), 2, _EVEN, 2, 3, 0.4, memory=[1.0, 1.0])


@decoder.case("training, dropout 0, seven layers: none is ever left out", scenario="module")
def _(draw):
    return _dropping(_decoder_shapes(7, _EVEN, 3), 7, _EVEN, 2, 3, memory=[1.0], calls=12, letters=1)


_STACK = "self.layers = nn.ModuleList(DecoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers))"
_STEP = "states = layer(states, memory, target_mask, memory_mask)"
_LOOP = f"        for layer in self.layers:\n            {_STEP}\n"
_FINAL = "return self.norm(states)"
_SHARED = "All layers are one and the same object, `[layer] * n`: they share their weights. Make a new one for each."
_FIRST_ONLY = "The masks reach the first layer only. Every layer reads padding and future unless it is given both."
_FIRST_ONLY_OF_ONE = "`{}` reaches the first layer only. Every layer needs it: pass both masks to each."
_CONSTANT = (
    "The memory changes from layer to layer. It is the encoder's result, and the same for all: only `states` moves."
)

decoder.slip("no_final_norm", "The norm at the end is missing: pre-LN leaves the sum of all layers unnormed.",
             {_FINAL: "return states"})  # fmt: skip
decoder.slip(
    "norm_in_every_layer",
    "You norm after every layer. The layers norm what they read themselves; `norm` comes once, at the end.",
    {_STEP: "states = self.norm(layer(states, memory, target_mask, memory_mask))", _FINAL: "return states"},
)
decoder.slip(
    "normed_first",
    "You norm before the first layer. The layers norm what they read themselves; `norm` comes once, at the end.",
    {_LOOP: f"        states = self.norm(states)\n{_LOOP}", _FINAL: "return states"},
)
decoder.slip(
    "shared_layers", _SHARED,
    {_STACK: "self.layers = nn.ModuleList([DecoderLayer(d_model, heads, d_ff, dropout)] * layers)"},
)  # fmt: skip
decoder.slip(
    "shared_layers_without_dropout", f"{_SHARED} And hand on `dropout`.",
    {_STACK: "self.layers = nn.ModuleList([DecoderLayer(d_model, heads, d_ff)] * layers)"},
)  # fmt: skip
decoder.slip(
    "always_the_first_layer",
    "You run the first layer again and again. Each layer of `self.layers` has its turn.",
    {_STEP: _STEP.replace("layer(", "self.layers[0](")},
)
decoder.slip(
    "python_list",
    "The layers stand in a Python list, so PyTorch does not see their parameters and no optimiser would train them: "
    "`nn.ModuleList`.",
    {_STACK: "self.layers = [DecoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers)]"},
)
decoder.slip(
    "masks_to_the_first_only", _FIRST_ONLY,
    {_LOOP: f"{_LOOP}            target_mask = memory_mask = None\n"},
)  # fmt: skip
decoder.slip(
    "target_mask_to_the_first_only",
    _FIRST_ONLY_OF_ONE.format("target_mask"),
    {_LOOP: f"{_LOOP}            target_mask = None\n"},
)
decoder.slip(
    "memory_mask_to_the_first_only",
    _FIRST_ONLY_OF_ONE.format("memory_mask"),
    {_LOOP: f"{_LOOP}            memory_mask = None\n"},
)
decoder.slip(
    "no_masks", "No layer gets a mask: pass `target_mask` and `memory_mask` to each.",
    {_STEP: "states = layer(states, memory)"},
)  # fmt: skip
decoder.slip(
    "no_target_mask",
    "`target_mask` is not passed on, so every token reads those after it.",
    {_STEP: "states = layer(states, memory, memory_mask=memory_mask)"},
)
decoder.slip(
    "no_memory_mask",
    "`memory_mask` is not passed on, so every layer reads the padding of the source.",
    {_STEP: "states = layer(states, memory, target_mask)"},
)
decoder.slip(
    "masks_swapped",
    "The masks are swapped: a layer takes `target_mask`, then `memory_mask`.",
    {_STEP: "states = layer(states, memory, memory_mask, target_mask)"},
)
decoder.slip(
    "one_mask_for_both",
    "The mask of the target is used for the memory too. The memory has the source's length and padding: `memory_mask`.",
    {_STEP: "states = layer(states, memory, target_mask, target_mask)"},
)
for _name in ("memory", "target"):
    for _word, _cut in (("query", "[..., :1, :]"), ("head", "[:, :1]")):
        decoder.slip(
            f"{_name}_mask_of_the_first_{_word}",
            _MASK_CUT,
            {_LOOP: f"        if {_name}_mask is not None and {_name}_mask.dim() == 4:\n"
             f"            {_name}_mask = {_name}_mask{_cut}\n{_LOOP}"},
        )  # fmt: skip
decoder.slip("memory_replaced", _CONSTANT, {_STEP: f"{_STEP}\n            memory = states"})
_MEMORY_MOVES = (
    "The layers change the memory, and `states` stays what it was. It is the other way round: the memory is the same "
    "for all layers, and `states` goes from one to the next."
)
_INTO_MEMORY = "memory = layer(states, memory, target_mask, memory_mask)"
decoder.slip("result_into_the_memory", _MEMORY_MOVES, {_STEP: _INTO_MEMORY, _FINAL: "return self.norm(memory)"})
decoder.slip("result_into_the_memory_and_lost", _MEMORY_MOVES, {_STEP: _INTO_MEMORY})
decoder.slip(
    "result_into_the_memory_without_masks",
    f"{_MEMORY_MOVES} And pass on both masks.",
    {_STEP: "memory = layer(states, memory)", _FINAL: "return self.norm(memory)"},
)
decoder.slip(
    "memory_moves_alone",
    _MEMORY_MOVES,
    {_STEP: "memory = layer(memory, states, memory_mask, target_mask)", _FINAL: "return self.norm(memory)"},
)
decoder.slip(
    "memory_normed",
    "You norm the memory. The encoder did that at its end: pass it on as it is.",
    {_STEP: _STEP.replace("memory,", "self.norm(memory),")},
)
decoder.slip(
    "states_and_memory_swapped",
    "States and memory are swapped: a layer takes the decoder's states first, then the memory.",
    {_STEP: "states = layer(memory, states, target_mask, memory_mask)"},
)
decoder.slip(
    "states_for_memory",
    "The layers get the states as memory too, so the source is never read.",
    {_STEP: "states = layer(states, states, target_mask)"},
)
decoder.slip(
    "results_lost",
    "What a layer returns is thrown away: each layer reads what the one before it made, `states = layer(states, …)`.",
    {_STEP: "result = layer(states, memory, target_mask, memory_mask)", _FINAL: "return self.norm(result)"},
)
decoder.slip(
    "residual_around_layers",
    "You add the states to what each layer returns. The residuals are inside the layers already.",
    {_STEP: "states = states + layer(states, memory, target_mask, memory_mask)"},
)
decoder.slip(
    "residual_around_all",
    "You add the input to the result of the whole stack. The residuals are inside the layers already.",
    {_LOOP: f"        first = states\n{_LOOP}", _FINAL: "return self.norm(states + first)"},
)
decoder.slip(
    "last_layer_forgotten",
    "One layer is missing: `layers` says how many.",
    {"range(layers))": "range(layers - 1))"},
)
decoder.slip(
    "one_layer_too_many",
    "There is a layer too many: `layers` says how many.",
    {"range(layers))": "range(layers + 1))"},
)
decoder.slip(
    "in_reverse",
    "The layers run from the last to the first: the first one reads the embedded tokens.",
    {"in self.layers:": "in reversed(self.layers):"},
)
decoder.slip(
    "dropout_not_passed_on",
    "`dropout` is not passed on to the layers, so nothing is ever dropped.",
    {"DecoderLayer(d_model, heads, d_ff, dropout)": "DecoderLayer(d_model, heads, d_ff)"},
)
decoder.slip(
    "dropout_squared",
    "The layers get another share than asked: hand `dropout` on as it is.",
    {"DecoderLayer(d_model, heads, d_ff, dropout)": "DecoderLayer(d_model, heads, d_ff, dropout**2)"},
)
decoder.slip(
    "dropout_rounded",
    "You round `dropout`, so that a share between 0 and 1 becomes 0 or 1: hand it on as it is.",
    {"DecoderLayer(d_model, heads, d_ff, dropout)": "DecoderLayer(d_model, heads, d_ff, int(dropout))"},
)
decoder.slip(
    "dropout_on_the_memory",
    "You drop numbers of the memory. Dropout sits on each sub-layer's output only; the memory is read as it is.",
    {_STACK: f"{_STACK}\n        self.dropout = nn.Dropout(dropout)",
     _LOOP: f"        memory = self.dropout(memory)\n{_LOOP}"},
)  # fmt: skip
_LEFT_OUT = (
    "In training, layers are left out at random (LayerDrop). That is done, but was not asked for: each state goes "
    "through every layer."
)
for _share in ("0.05", "0.1", "0.5"):
    decoder.slip(
        f"layers_left_out_{_share.replace('.', '_')}",
        _LEFT_OUT,
        {_STEP: f"if not self.training or torch.rand(()) >= {_share}:\n                {_STEP}"},
    )
decoder.slip(
    "six_at_the_most",
    "You make six layers at the most. The paper has six; here there are `layers`, however many.",
    {"range(layers))": "range(min(layers, 6)))"},
)
decoder.slip(
    "norm_with_another_eps",
    "The last norm has another eps than `LayerNorm` has by itself. None is asked for here: `LayerNorm(d_model)`.",
    {"self.norm = LayerNorm(d_model)": "self.norm = LayerNorm(d_model, eps=1e-6)"},
)
decoder.slip(
    "dropout_at_the_end",
    "There is dropout around the layers. It is inside them already, on each sub-layer's output.",
    {_STACK: f"{_STACK}\n        self.dropout = nn.Dropout(dropout)", _FINAL: "return self.dropout(self.norm(states))"},
)
decoder.slip(
    "encoder_layers",
    "The stack is made of `EncoderLayer`, which has no cross-attention: use your `DecoderLayer`.",
    {_STACK: "self.layers = nn.ModuleList(EncoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers))",
     _STEP: "states = layer(states, target_mask)"},
)  # fmt: skip
decoder.slip(
    "norm_of_torch",
    "The parameters of `nn.LayerNorm` are called `weight` and `bias`. Use your own `LayerNorm`, with `scale` and "
    "`shift`.",
    {"self.norm = LayerNorm(d_model)": "self.norm = nn.LayerNorm(d_model)"},
)
decoder.slip(
    "all_layers_kept",
    "You return what every layer made. Asked is the last, normed.",
    {_LOOP: f"        made = []\n{_LOOP}            made.append(states)\n", _FINAL: "return torch.stack(made)"},
)
decoder.slip(
    "causal_by_itself",
    "The decoder makes itself causal. It should use the masks that it is given and no other: `EncoderDecoder.decode` "
    "makes the causal one.",
    {_LOOP: "        ahead = causal_mask(states.size(1), states.size(1))\n"
     f"        target_mask = ahead if target_mask is None else ahead & target_mask\n{_LOOP}"},
)  # fmt: skip
decoder.slip(
    "other_names",
    "Weights are loaded by name: call the stack `layers` and the last norm `norm`.",
    {"self.layers = ": "self.blocks = ", "in self.layers:": "in self.blocks:"},
)


decoder.also(
    "a_list_first", {_STACK: _STACK.replace("(DecoderLayer", "([DecoderLayer").replace("layers))", "layers)])")}
)
decoder.also(
    "appended",
    {_STACK: "self.layers = nn.ModuleList()\n        while len(self.layers) < layers:\n"
     "            self.layers.append(DecoderLayer(d_model, heads, d_ff, dropout=dropout))"},
)  # fmt: skip
decoder.also(
    "masks_by_name",
    {_STEP: "states = layer(states=states, memory=memory, memory_mask=memory_mask, target_mask=target_mask)"},
)


@decoder.also_right
class ByIndexWithASequential(nn.Module):
    def __init__(self, layers, d_model, heads, d_ff, dropout=0.0):
        super().__init__()
        self.norm = LayerNorm(d_model)
        self.layers = nn.Sequential(*(DecoderLayer(d_model, heads, d_ff, dropout) for _ in range(layers)))

    def forward(self, states, memory, target_mask=None, memory_mask=None):
        for index in range(len(self.layers)):
            states = self.layers[index](states, memory, target_mask, memory_mask)
        return self.norm(states)


decoder.slip(
    "kept_memory",
    "You keep what you made of the first memory, and go on with it when another one of the same shape comes. "
    "Make it anew in each call.",
    {
        "        for layer in self.layers:\n": """
        if getattr(self, "kept", None) is None or self.kept.shape != memory.shape:
            self.kept = memory
        memory = self.kept
        for layer in self.layers:
"""
    },
)
decoder.hint("It is your `Encoder`, with layers that take more: what goes from layer to layer, and what stays?")
decoder.hint("`nn.ModuleList(DecoderLayer(...) for _ in range(layers))` makes a new layer each time.")
decoder.hint("Every layer gets the same memory and both masks; after the last comes `self.norm`.")

# --- EncoderDecoder --------------------------------------------------------------------------------------------

model = Exercise("EncoderDecoder", returns=["result"])

_LETTERS, _SOUNDS, _WIDTH = 7, 6, 4


def _toys(draw, method, *args, start=0, tied=False, features=0, again=None, evaluating=False, dtype=torch.float32,
          **kwargs):  # fmt: skip
    """Inputs of the scenario ``assembled``: the toys' weights, and a call of one of the model's methods."""
    shapes = {
        "source_embedding.weight": (features or _LETTERS, _WIDTH),
        "encoder.weight": (_WIDTH, _WIDTH),
        "target_embedding.weight": (_SOUNDS, _WIDTH),
        "decoder.weight": (_WIDTH, _WIDTH),
        "generator.weight": (_SOUNDS, _WIDTH),
    }
    weights = _weights(draw, shapes, dtype)
    if tied:
        weights["generator.weight"] = weights["target_embedding.weight"]
    made = {"method": method, "forward": call(*args, **kwargs), "start": start, "tied": tied,
            "features": bool(features), "again": again, "weights": dict(sorted(weights.items()))}  # fmt: skip
    return made | ({"evaluating": True} if evaluating else {})


def _source(draw, *lengths):
    return draw.padded(list(lengths), 1, _LETTERS, pad_id=0)


def _target(draw, *lengths):
    return draw.padded(list(lengths), 1, _SOUNDS, pad_id=0)


@model.case("forward: a source longer than the target, no masks, 0 is a token like the others", scenario="assembled")
def _(draw):
    source, target = _source(draw, 5, 5), _target(draw, 3, 3)
    source[0, 2] = source[1, 4] = target[0, 1] = target[1, 0] = 0
    return _toys(draw, "forward", source, target)


@model.case("forward: padding in the source only", scenario="assembled")
def _(draw):
    return _toys(draw, "forward", _source(draw, 4, 2), _target(draw, 3, 3), _padding([4, 2], 4))


@model.case("forward: padding in the target only, its mask by name", scenario="assembled")
def _(draw):
    return _toys(draw, "forward", _source(draw, 3, 3), _target(draw, 2, 4), target_mask=_padding([2, 4], 4))


@model.case("forward: padding in both, source and target of one length", scenario="assembled")
def _(draw):
    source, target = _source(draw, 2, 4, 3), _target(draw, 4, 1, 3)
    return _toys(draw, "forward", source, target, _padding([2, 4, 3], 4), _padding([4, 1, 3], 4))


@model.case("forward: a target padded on its left", scenario="assembled")
def _(draw):
    source, target = _source(draw, 4, 3), _target(draw, 2, 3).flip(1)
    return _toys(draw, "forward", source, target, _padding([4, 3], 4), _padding([2, 3], 3).flip(-1))


@model.case("forward: a batch of one, a target of length one, float64", scenario="assembled")
def _(draw):
    return _toys(draw, "forward", _source(draw, 4), _target(draw, 1), _padding([3], 4), dtype=torch.float64)


@model.case("forward: the generator shares the table of the target; a source mask alone", scenario="assembled")
def _(draw):
    return _toys(draw, "forward", _source(draw, 4, 2), _target(draw, 4, 4), _padding([4, 2], 4), tied=True)


@model.case("forward: in evaluation, with both masks", scenario="assembled")
def _(draw):
    masks = _padding([4, 2], 4), _padding([2, 3], 3)
    return _toys(draw, "forward", _source(draw, 4, 2), _target(draw, 2, 3), *masks, evaluating=True)


@model.case("forward: called again with another source of the same shape", scenario="assembled")
def _(draw):
    source, target = _source(draw, 3, 3), _target(draw, 2, 2)
    again = {"method": "forward", "start": 0} | call(source % (_LETTERS - 1) + 1, target)
    return _toys(draw, "forward", source, target, again=again)


@model.case("forward: called again with another last token", scenario="assembled")
def _(draw):
    source, target = _source(draw, 4, 4), _target(draw, 3, 3)
    changed = torch.cat([target[:, :2], target[:, 2:] % (_SOUNDS - 1) + 1], dim=1)
    again = {"method": "forward", "start": 0} | call(source, changed)
    return _toys(draw, "forward", source, target, again=again)


@model.case("forward: targets of one token, one of them hidden", scenario="assembled")
def _(draw):
    return _toys(draw, "forward", _source(draw, 3, 3), _target(draw, 1, 1), target_mask=_padding([1, 0], 1))


@model.case("forward: a source mask for each head, a target mask for each head and query", scenario="assembled")
def _(draw):
    by_head = torch.tensor([[[True, True, False, False]], [[True, False, True, True]]])  # (heads, 1, source)
    masks = by_head.expand(2, -1, -1, -1).clone(), draw.mask(2, 2, 3, 3)
    return _toys(draw, "forward", _source(draw, 4, 4), _target(draw, 3, 3), *masks)


@model.case("encode: padding in the source", scenario="assembled")
def _(draw):
    return _toys(draw, "encode", _source(draw, 5, 3), _padding([5, 3], 5))


@model.case("encode: a source of features, not of tokens", scenario="assembled")
def _(draw):
    return _toys(draw, "encode", draw.normal(2, 4, 3), features=3)


@model.case("decode: a memory from elsewhere, both masks by name", scenario="assembled")
def _(draw):
    memory = draw.normal(2, 5, _WIDTH)
    return _toys(draw, "decode", _target(draw, 3, 2), memory, memory_mask=_padding([3, 5], 5),
                 target_mask=_padding([3, 2], 3))  # fmt: skip


@model.case("decode: two new tokens after three, with a mask over all five", scenario="assembled")
def _(draw):
    visible = torch.tensor([[False, True, True, True, True], [True] * 5])[:, None, None]  # (batch, 1, 1, 5)
    return _toys(draw, "decode", _target(draw, 2, 2), draw.normal(2, 3, _WIDTH), visible, start=3) | {
        "forward": call(_target(draw, 2, 2), draw.normal(2, 3, _WIDTH), visible, start=3)
    }


@model.case("decode: one new token after four, then one of other words", scenario="assembled")
def _(draw):
    memory, mask = draw.normal(2, 3, _WIDTH), _padding([3, 2], 3)
    made = _toys(draw, "decode", _target(draw, 1, 1), memory, None, mask, 4, start=4)
    other = draw.normal(2, 4, _WIDTH)
    following = {"method": "decode", "start": 2} | call(_target(draw, 1, 1), other, start=2)
    return made | {"again": following}


@model.case("decode: 35 tokens at once, then one after 34", scenario="assembled")
def _(draw):
    memory = draw.normal(1, 2, _WIDTH)
    following = {"method": "decode", "start": 34} | call(_target(draw, 1), memory, None, None, 34)
    return _toys(draw, "decode", _target(draw, 35), memory, again=following)


_ENCODE = "return self.encoder(self.source_embedding(source), source_mask)"
_CAUSAL = "mask = causal_mask(length, start + length).to(target.device)  # (length, start + length)"
_BOTH = "        if target_mask is not None:\n            mask = mask & target_mask\n"
_EMBED = "states = self.target_embedding(target, start)  # (batch, length, d_model)"
_DECODE = "states = self.decoder(states, memory, mask, memory_mask)"
_LOGITS = "return self.generator(states)  # (batch, length, vocabulary)"
_MEMORY = "memory = self.encode(source, source_mask)  # (batch, source, d_model)"
_FORWARD = "return self.decode(target, memory, target_mask, memory_mask=source_mask)"
_NOT_CAUSAL = (
    "Nothing makes it causal: token t reads the tokens after it, and with them its own answer. `decode` always uses "
    "`causal_mask`."
)
_REPLACED = (
    "`target_mask` takes the place of the causal mask. Both must allow a pair: `causal & target_mask`. With padding in "
    "the target your model looks into the future."
)
_START_IN_POSITIONS = (
    "`start` does not reach the target embedding, so every decoding step stands at position 0 again: "
    "`self.target_embedding(target, start)`."
)
_START_IN_MASK = (
    "The causal mask has the wrong number of keys. `start` tokens are there already: `causal_mask(length, start + "
    "length)`, new tokens × all tokens."
)
_NOT_LOGITS = (
    "You return probabilities. Asked are logits, the generator's plain numbers: the loss applies the softmax itself, "
    "and twice is wrong."
)

model.slip("not_causal", _NOT_CAUSAL, {_CAUSAL: "mask = target_mask", _BOTH: ""})
model.slip(
    "causal_in_forward_only",
    "Only `forward` is causal, `decode` alone is not. Decoding and training must see the same: make the mask in "
    "`decode`.",
    {_CAUSAL: "mask = target_mask", _BOTH: "",
     _FORWARD: "ahead = causal_mask(target.size(1), target.size(1))\n"
     "        target_mask = ahead if target_mask is None else ahead & target_mask\n        " + _FORWARD},
)  # fmt: skip
model.slip("target_mask_replaces_the_causal", _REPLACED, {_BOTH: _BOTH.replace("mask & target_mask", "target_mask")})
model.slip(
    "either_allows",
    "You join the masks with `|`. With True = allowed, both must allow: `causal & target_mask`.",
    {_BOTH: _BOTH.replace("&", "|")},
)
model.slip(
    "target_mask_ignored",
    "`target_mask` is not used: the causal mask alone lets later tokens read padding. Join them: "
    "`causal & target_mask`.",
    {_BOTH: ""},
)
model.slip(
    "no_mask_for_one_token",
    "Where there is a single token, `target_mask` is not used. Join the two masks whatever the length.",
    {_CAUSAL: "mask = None if length == 1 and start == 0 else causal_mask(length, start + length)",
     _BOTH: "        if mask is not None and target_mask is not None:\n            mask = mask & target_mask\n"},
)  # fmt: skip
_TARGET_MASK_CUT = (
    "You take one head's or one query's part of `target_mask` for all of them. It broadcasts to (batch, heads, length, "
    "start + length), and each head and query may have a row of its own: join it as it is, `causal & target_mask`."
)
for _word, _cut in (
    ("query", "[..., :1, :]"),
    ("head", "[:, :1]"),
    ("head_and_query", "[:, :1, :1]"),
    ("head_and_query_by_number", "[:, None, None, 0, 0]"),
    ("query_by_view", ".view(target.size(0), 1, 1, start + length)"),
):
    model.slip(
        f"target_mask_of_the_first_{_word}",
        _TARGET_MASK_CUT,
        {_BOTH: _BOTH.replace("mask & target_mask", f"mask & target_mask{_cut}")},
    )
_ZERO_HIDDEN = (
    "You hide the token 0, and nobody asked for it. Which tokens are padding the caller knows: where no mask is given, "
    "nothing is hidden but what comes later."
)
_HIDES_ZERO_IN_TARGET = {
    _CAUSAL: f"{_CAUSAL}\n        if target_mask is None and start == 0:\n"
    "            target_mask = (target != 0)[:, None, None, :]"
}
_HIDES_ZERO_IN_SOURCE = {
    _MEMORY: "if source_mask is None:\n            source_mask = (source != 0)[:, None, None, :]\n        " + _MEMORY
}
model.slip("zero_hidden_in_the_target", _ZERO_HIDDEN, _HIDES_ZERO_IN_TARGET)
model.slip("zero_hidden_in_the_source", _ZERO_HIDDEN, _HIDES_ZERO_IN_SOURCE)
model.slip("zero_hidden_in_both", _ZERO_HIDDEN, _HIDES_ZERO_IN_TARGET | _HIDES_ZERO_IN_SOURCE)
model.slip(
    "zero_hidden_by_encode",
    _ZERO_HIDDEN,
    {_ENCODE: "if source_mask is None:\n            source_mask = (source != 0)[:, None, None, :]\n        " + _ENCODE},
)
model.slip(
    "source_mask_where_it_fits",
    "Where no target mask is given, you take the source's. The target has a padding of its own: None hides nothing but "
    "what comes later.",
    {_FORWARD: "if target_mask is None and source_mask is not None and source.size(1) == target.size(1):\n"
     "            target_mask = source_mask\n        " + _FORWARD},
)  # fmt: skip
_OTHER_IN_EVALUATION = (
    "In evaluation your model does something else than in training. `eval()` switches dropout off and nothing more: "
    "the same masks, and logits at every place."
)
model.slip(
    "causal_in_training_only",
    _OTHER_IN_EVALUATION,
    {_CAUSAL: _CAUSAL.replace("mask =", "mask = torch.ones(1, 1, dtype=torch.bool) if not self.training else")},
)
model.slip("last_place_in_evaluation", _OTHER_IN_EVALUATION,
           {_LOGITS: "return self.generator(states if self.training else states[:, -1:])"})  # fmt: skip
model.slip("last_row_in_evaluation", _OTHER_IN_EVALUATION,
           {_LOGITS: "return self.generator(states if self.training else states[:, -1])"})  # fmt: skip
for _function in ("softmax(dim=-1)", "log_softmax(dim=-1)", "argmax(dim=-1)", "detach()"):
    model.slip(
        f"{_function.partition('(')[0]}_in_evaluation",
        _OTHER_IN_EVALUATION + (
            " Whether gradients are needed the caller says, by `torch.no_grad()`." if "detach" in _function else ""),
        {_LOGITS: f"logits = self.generator(states)\n        return logits if self.training else logits.{_function}"},
    )  # fmt: skip
model.slip(
    "target_mask_in_training_only",
    _OTHER_IN_EVALUATION,
    {_BOTH: _BOTH.replace("is not None:", "is not None and self.training:")},
)
_SIZE = (
    "Your causal mask was made once for a fixed number of tokens. There is no longest word: make it in each call, for "
    "`length` queries and `start + length` keys."
)
for _size in (5, 6, 8, 16, 32):
    model.slip(
        f"mask_for_{_size}_tokens",
        _SIZE,
        {"causal_mask(length, start + length)": f"causal_mask({_size}, {_size})"
         "[start : start + length, : start + length]"},
    )  # fmt: skip
model.slip(
    "mask_kept_by_its_keys",
    "You keep the causal mask, and make a new one only where the number of keys changes. The number of queries changes "
    "too, as when one token follows four: make it in each call.",
    {_CAUSAL: "if not hasattr(self, 'causal') or self.causal.size(1) != start + length:\n"
     "            self.causal = causal_mask(length, start + length)\n        mask = self.causal"},
)  # fmt: skip
model.slip(
    "start_not_in_positions",
    _START_IN_POSITIONS,
    {"self.target_embedding(target, start)": "self.target_embedding(target)"},
)
model.slip(
    "start_not_in_the_mask", _START_IN_MASK, {"causal_mask(length, start + length)": "causal_mask(length, length)"}
)
model.slip(
    "mask_of_all_by_all",
    _START_IN_MASK,
    {"causal_mask(length, start + length)": "causal_mask(start + length, start + length)"},
)
model.slip(
    "start_nowhere",
    "`start` is not used. It tells where the new tokens stand, to the embedding and to the causal mask: "
    "`causal_mask(length, start + length)`.",
    {"self.target_embedding(target, start)": "self.target_embedding(target)",
     "causal_mask(length, start + length)": "causal_mask(length, length)"},
)  # fmt: skip
model.slip(
    "aligned_at_the_left",
    "The causal mask is aligned at the top left: the new tokens see the oldest ones only. They come last: your "
    "`causal_mask(length, start + length)` aligns at the bottom right.",
    {"causal_mask(length, start + length)": "torch.ones(length, start + length, dtype=torch.bool).tril()"},
)
model.slip(
    "future_is_true",
    "The causal mask is turned round: True means may attend, so pass `causal_mask(...)` on as it is.",
    {"causal_mask(length, start + length)": "(~causal_mask(length, start + length))"},
)
model.slip(
    "no_generator",
    "The generator is never called: you return the decoder's states, not scores of the vocabulary.",
    {_LOGITS: "return states"},
)
model.slip("probabilities", _NOT_LOGITS, {_LOGITS: "return self.generator(states).softmax(dim=-1)"})
model.slip("log_probabilities",
           "You return log-probabilities. Asked are logits, the generator's plain numbers: the loss normalises itself.",
           {_LOGITS: "return self.generator(states).log_softmax(dim=-1)"})  # fmt: skip
model.slip(
    "last_place_alone",
    "You return the last place only. In training every place predicts: (batch, length, vocabulary).",
    {_LOGITS: "return self.generator(states)[:, -1]"},
)
model.slip(
    "most_likely_tokens",
    "You choose the likeliest tokens already. Asked are the logits of all: choosing comes later, and has no gradient.",
    {_LOGITS: "return self.generator(states).argmax(dim=-1)"},
)
model.slip(
    "source_mask_not_to_the_decoder",
    "The padding of the source is hidden from the encoder, but cross-attention still reads it: `source_mask` is also "
    "the memory mask.",
    {_FORWARD: "return self.decode(target, memory, target_mask)"},
)
model.slip(
    "source_mask_not_to_the_encoder",
    "`forward` does not pass `source_mask` to `encode`, so real letters read padding.",
    {_MEMORY: "memory = self.encode(source)"},
)
model.slip(
    "mask_not_passed_by_encode",
    "`encode` does not pass `source_mask` on to the encoder, so real letters read padding.",
    {_ENCODE: "return self.encoder(self.source_embedding(source))"},
)
model.slip(
    "source_mask_nowhere",
    "`source_mask` is used neither by the encoder nor by cross-attention: both must not read padding.",
    {_MEMORY: "memory = self.encode(source)", _FORWARD: "return self.decode(target, memory, target_mask)"},
)
model.slip(
    "memory_mask_not_passed_by_decode",
    "`decode` does not pass `memory_mask` on to the decoder, so cross-attention reads padding.",
    {_DECODE: "states = self.decoder(states, memory, mask)"},
)
model.slip(
    "masks_swapped_in_the_decoder",
    "The decoder gets its masks swapped: it takes the target's, then the memory's.",
    {_DECODE: "states = self.decoder(states, memory, memory_mask, mask)"},
)
model.slip(
    "masks_swapped_in_forward",
    "`forward` calls `decode` with the masks swapped: it takes the target's, then the memory's.",
    {_FORWARD: "return self.decode(target, memory, source_mask, target_mask)"},
)
model.slip(
    "target_mask_on_the_memory",
    "The target's padding is used as memory mask. The memory has the source's length and padding: pass `source_mask`. "
    "Where both lengths are equal, nothing raises.",
    {_FORWARD: "return self.decode(target, memory, target_mask, memory_mask=target_mask)"},
)
model.slip(
    "one_mask_in_the_decoder",
    "The decoder gets the target's mask, causal and all, for the memory too. The whole source is already known, and "
    "has its own padding: pass `memory_mask`.",
    {_DECODE: "states = self.decoder(states, memory, mask, mask)"},
)
model.slip(
    "causal_on_the_memory",
    _CAUSAL_CROSS,
    {_DECODE: "ahead = causal_mask(length, memory.size(1))\n"
     "        memory_mask = ahead if memory_mask is None else ahead & memory_mask\n        " + _DECODE},
)  # fmt: skip
model.slip(
    "first_head_for_all",
    "The decoder gets the first head's part of `source_mask` for all heads. Pass the mask on as it is.",
    {_FORWARD: "read = None if source_mask is None else source_mask[:, :1]\n        " + _FORWARD.replace(
        "memory_mask=source_mask", "memory_mask=read")},
)  # fmt: skip
_MODE = "The model is no longer in the mode it was in: you call `eval()` or `train()` inside. Leave both to the caller."
model.slip("evaluates_when_decoding", _MODE, {_EMBED: f"self.eval()\n        {_EMBED}"})
model.slip("evaluates_with_a_start", _MODE, {_EMBED: f"self.train(start == 0 and self.training)\n        {_EMBED}"})
model.slip(
    "target_mask_not_passed_by_forward",
    "`forward` does not pass `target_mask` to `decode`.",
    {_FORWARD: "return self.decode(target, memory, memory_mask=source_mask)"},
)
model.slip(
    "target_embedding_on_the_source",
    "The source is embedded by the target's table: letters and phonemes are different tokens with the same ids. Use "
    "`source_embedding`.",
    {"self.source_embedding(source)": "self.target_embedding(source)"},
)
model.slip(
    "source_embedding_on_the_target",
    "The target is embedded by the source's table: letters and phonemes are different tokens with the same ids. Use "
    "`target_embedding`.",
    {"self.target_embedding(target, start)": "self.source_embedding(target)"},
)
model.slip(
    "embeddings_swapped",
    "The two embeddings are swapped: `source_embedding` for the source, `target_embedding` for the target.",
    {"self.source_embedding(source)": "self.target_embedding(source)",
     "self.target_embedding(target, start)": "self.source_embedding(target)"},
)  # fmt: skip
model.slip(
    "no_encoder",
    "The encoder is never called: the memory is only the embedded source.",
    {_ENCODE: "return self.source_embedding(source)"},
)
model.slip(
    "memory_and_states_swapped",
    "The decoder gets states and memory swapped: the target's states come first.",
    {_DECODE: "states = self.decoder(memory, states, mask, memory_mask)"},
)
model.slip(
    "memory_never_read",
    "The decoder gets its own states for a memory, so the source is never read.",
    {_DECODE: "states = self.decoder(states, states, mask)"},
)
model.slip(
    "encoded_again",
    "`decode` runs the encoder once more on the memory. It is encoded already: that is why it is handed over.",
    {_DECODE: "memory = self.encoder(memory, memory_mask)\n        " + _DECODE},
)
model.slip(
    "encoded_twice",
    "`forward` encodes the source twice. Once is enough: keep the memory in a variable.",
    {_MEMORY: "memory = self.encode(source, source_mask)\n        memory = self.encode(source, source_mask)"},
)
model.slip(
    "decoded_token_by_token",
    "`forward` decodes one prefix after the other. The causal mask lets all places be computed at once: call the "
    "decoder once.",
    {_FORWARD: "return torch.cat([self.decode(target[:, :t], memory, None if target_mask is None else "
     "target_mask[..., :t], source_mask)[:, -1:] for t in range(1, target.size(1) + 1)], dim=1)"},
)  # fmt: skip
model.slip(
    "encoder_cut_off",
    "No gradient reaches the encoder: something (`no_grad`, `.detach()`) cut it. Encoding once does not mean freezing.",
    {_ENCODE: "return self.encoder(self.source_embedding(source), source_mask).detach()"},
)
model.slip(
    "encoder_cut_off_in_forward",
    "In `forward` no gradient reaches the encoder: something (`no_grad`, `.detach()`) cut it, so it would never learn.",
    {_FORWARD: _FORWARD.replace("memory,", "memory.detach(),")},
)
model.slip(
    "shifted_inside",
    "You drop the target's last token inside the model. Inputs are shifted outside, in lesson 05: use `target` as it "
    "comes.",
    {_FORWARD: "return self.decode(target[:, :-1], memory, target_mask, memory_mask=source_mask)"},
)
model.slip(
    "logits_and_memory",
    "`forward` returns the memory too. Asked are the logits alone.",
    {_FORWARD: f"{_FORWARD}, memory"},
)
model.slip(
    "memory_kept",
    "You keep the memory of the first call. Another word brings another memory: encode what is handed in, and keep "
    "nothing.",
    {_DECODE: "self.kept = getattr(self, 'kept', memory)\n        states = self.decoder(states, self.kept, mask, "
     "memory_mask)"},
)  # fmt: skip
model.slip(
    "copies_kept",
    "You keep copies of the modules. The ones handed in must be used: a generator that shares its table with the "
    "target would no longer share it.",
    {f"self.{name} = {name}": f"self.{name} = __import__('copy').deepcopy({name})"
     for name in ("source_embedding", "encoder", "target_embedding", "decoder", "generator")},
)  # fmt: skip
model.slip(
    "other_names",
    "Weights are loaded by name: keep the five modules under the names of the arguments, `source_embedding`, "
    "`encoder`, `target_embedding`, `decoder` and `generator`.",
    {"self.source_embedding = source_embedding": "self.source = source_embedding",
     "self.target_embedding = target_embedding": "self.target = target_embedding",
     "self.source_embedding(source)": "self.source(source)",
     "self.target_embedding(target, start)": "self.target(target, start)"},
)  # fmt: skip
model.slip(
    "one_embedding_for_both",
    "The source's embedding is kept under both names, and the target's is lost. Letters and phonemes each have their "
    "own table.",
    {"self.target_embedding = target_embedding": "self.target_embedding = source_embedding",
     "self.target_embedding(target, start)": "self.target_embedding(target)"},
)  # fmt: skip


@model.mistake(
    "The modules stand in a list or dict of Python, so PyTorch does not see their parameters and no optimiser would "
    "train them. Make each an attribute: `self.encoder = encoder`."
)
class InAList(nn.Module):
    def __init__(self, source_embedding, encoder, target_embedding, decoder, generator):
        super().__init__()
        self.parts = [source_embedding, encoder, target_embedding, decoder, generator]

    def encode(self, source, source_mask=None):
        return self.parts[1](self.parts[0](source), source_mask)

    def decode(self, target, memory, target_mask=None, memory_mask=None, start=0):
        mask = causal_mask(target.size(1), start + target.size(1))
        if target_mask is not None:
            mask = mask & target_mask
        return self.parts[4](self.parts[3](self.parts[2](target, start), memory, mask, memory_mask))

    def forward(self, source, target, source_mask=None, target_mask=None):
        return self.decode(target, self.encode(source, source_mask), target_mask, source_mask)


@model.also_right
class InOneLineEach(nn.Module):
    def __init__(self, source_embedding, encoder, target_embedding, decoder, generator):
        super().__init__()
        self.generator, self.decoder, self.target_embedding = generator, decoder, target_embedding
        self.encoder, self.source_embedding = encoder, source_embedding

    def encode(self, source, source_mask=None):
        return self.encoder(self.source_embedding(source), mask=source_mask)

    def decode(self, target, memory, target_mask=None, memory_mask=None, start=0):
        causal = causal_mask(target.shape[1], start + target.shape[1])
        mask = causal if target_mask is None else torch.logical_and(causal, target_mask)
        hidden = self.decoder(
            self.target_embedding(target, start=start), memory, target_mask=mask, memory_mask=memory_mask
        )
        return self.generator(hidden)

    def forward(self, source, target, source_mask=None, target_mask=None):
        return self.decode(target, self.encode(source, source_mask), target_mask, source_mask)


@model.also_right
class WithFullMasks(nn.Module):
    def __init__(self, source_embedding, encoder, target_embedding, decoder, generator):
        super().__init__()
        self.source_embedding, self.encoder = source_embedding, encoder
        self.target_embedding, self.decoder, self.generator = target_embedding, decoder, generator

    def encode(self, source, source_mask=None):
        if source_mask is None:
            source_mask = torch.ones(source.size(0), 1, 1, source.size(1), dtype=torch.bool)
        states = self.source_embedding(source)
        return self.encoder(states, source_mask)

    def decode(self, target, memory, target_mask=None, memory_mask=None, start=0):
        batch, length = target.shape
        keys = torch.arange(start + length)
        places = torch.arange(start, start + length)
        mask = (keys[None, :] <= places[:, None])[None, None].expand(batch, 1, -1, -1)
        if target_mask is not None:
            mask = mask * target_mask
        if memory_mask is None:
            memory_mask = torch.ones(1, 1, 1, memory.size(1), dtype=torch.bool)
        return self.generator(self.decoder(self.target_embedding(target, start), memory, mask, memory_mask))

    def forward(self, source, target, source_mask=None, target_mask=None):
        memory = self.encode(source, source_mask)
        return self.decode(target, memory, target_mask=target_mask, memory_mask=source_mask)


@model.also_right
class ForwardWrittenOut(nn.Module):
    def __init__(self, source_embedding, encoder, target_embedding, decoder, generator):
        super().__init__()
        modules = {"source_embedding": source_embedding, "encoder": encoder, "target_embedding": target_embedding,
                   "decoder": decoder, "generator": generator}  # fmt: skip
        for name, module in modules.items():
            self.add_module(name, module)

    def encode(self, source, source_mask=None):
        return self.encoder(self.source_embedding(source), source_mask)

    def _prefix(self, length, start, target_mask):
        allowed = causal_mask(length, start + length)
        return allowed if target_mask is None else target_mask & allowed

    def decode(self, target, memory, target_mask=None, memory_mask=None, start=0):
        mask = self._prefix(target.size(1), start, target_mask)
        return self.generator(self.decoder(self.target_embedding(target, start), memory, mask, memory_mask))

    def forward(self, source, target, source_mask=None, target_mask=None):
        states, memory = self.target_embedding(target), self.encoder(self.source_embedding(source), source_mask)
        mask = self._prefix(target.size(1), 0, target_mask)
        return self.generator(self.decoder(states, memory, mask, source_mask))


model.slip(
    "kept_memory",
    "You keep the memory of the first source, and go on with it when another one of the same shape comes. "
    "`forward` encodes each time.",
    {
        "        memory = self.encode(source, source_mask)": """
        if getattr(self, "kept", None) is None or self.kept.shape[:2] != source.shape:
            self.kept = self.encode(source, source_mask)
        memory = self.kept"""
    },
)
model.hint("`__init__` keeps the five modules under their own names. `encode` calls two of them, `decode` three.")
model.hint(
    "In `decode` there are `target.size(1)` queries and `start + target.size(1)` keys. Your `causal_mask` wants just "
    "these two."
)
model.hint("Two masks of True = may attend are joined by `&`; where `target_mask` is None, the causal one is enough.")
model.hint("`forward` is `encode`, then `decode`. Which mask says where the memory is padding?")
