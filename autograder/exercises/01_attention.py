"""Lesson 01: softmax, scaled dot-product attention, heads."""

# ruff: noqa: F821 - mistakes and variants run in the lesson's set-up cell, as a student's answer does.
# mypy: ignore-errors

import math

import torch

from autograder.exercise import Exercise, call

# --- softmax -------------------------------------------------------------------------------------------------

softmax = Exercise(
    "softmax",
    returns=["probabilities (the shape of scores)"],
    forbids=["softmax", "log_softmax", "softmin", "gumbel_softmax", "_softmax"],
)


@softmax.case("three rows of four scores")
def _(draw):
    return (draw.normal(3, 4),)


@softmax.case("four dimensions, batch and heads in front")
def _(draw):
    return (draw.normal(2, 3, 4, 5),)


@softmax.case("along the middle dimension, dim=1")
def _(draw):
    return call(draw.normal(2, 3, 4), dim=1)


@softmax.case("rows of very different size: one near 1000, one near -1000")
def _(draw):
    scores = draw.normal(3, 5)
    return (scores + torch.tensor([[1000.0], [0.0], [-1000.0]]),)


@softmax.case("all scores near -1000")
def _(draw):
    return (draw.normal(2, 4) - 1000.0,)


@softmax.case("one score far above the rest of its row, or far below")
def _(draw):
    scores = draw.normal(3, 4)
    scores[0, 1] += 300
    scores[1, 2] += 110
    scores[2, 3] -= 300
    return (scores,)


@softmax.case("along the first dimension, dim=0, float64, not contiguous")
def _(draw):
    return call(draw.normal(4, 3, 2, dtype=torch.float64).transpose(0, 2), dim=0)


@softmax.case("gradients", scenario="gradients")
def _(draw):
    return (draw.normal(2, 4),)


@softmax.mistake(
    "exp overflows: e¹⁰⁰⁰ is inf, and inf / inf is NaN. Subtract each row's maximum from it first; "
    "the probabilities stay the same."
)
def without_maximum(scores, dim=-1):
    exponentials = torch.exp(scores)
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


@softmax.mistake(
    "You subtract one maximum of the whole tensor. A row far below it underflows to 0 / 0: "
    "take the maximum of each row, with dim and keepdim=True."
)
def global_maximum(scores, dim=-1):
    exponentials = torch.exp(scores - scores.max())
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


@softmax.mistake("You always go along the last dimension. `dim` says which one should sum to one: use it.")
def ignores_dim(scores, dim=-1):
    exponentials = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


@softmax.mistake(
    "This is right for one row of small scores. Of several rows each needs a sum of its own, along `dim` with "
    "keepdim=True; and before the exponential, take away each row's maximum, else e¹⁰⁰⁰ overflows."
)
def as_for_one_row(scores, dim=-1):
    exponentials = torch.exp(scores)
    return exponentials / exponentials.sum()


@softmax.mistake("You divide by the sum of everything. Each row has a sum of its own: sum along `dim`, keepdim=True.")
def one_sum_for_all(scores, dim=-1):
    exponentials = torch.exp(scores - scores.amax(dim=dim, keepdim=True))
    return exponentials / exponentials.sum()


@softmax.mistake(
    "The sum lost its dimension, so broadcasting lines it up with the wrong one: keep it, with keepdim=True."
)
def sum_without_keepdim(scores, dim=-1):
    exponentials = torch.exp(scores - scores.amax(dim=dim, keepdim=True))
    return exponentials / exponentials.sum(dim=dim)


@softmax.mistake("You return the logarithm of the probabilities. Asked are the probabilities: they sum to one.")
def log_probabilities(scores, dim=-1):
    shifted = scores - scores.amax(dim=dim, keepdim=True)
    return shifted - shifted.exp().sum(dim=dim, keepdim=True).log()


@softmax.mistake("You return the exponentials. Divide them by their sum along `dim`, so that they sum to one.")
def not_divided(scores, dim=-1):
    return torch.exp(scores - scores.amax(dim=dim, keepdim=True))


@softmax.mistake("You divide the scores by their sum. The exponential is missing: it makes every share positive.")
def no_exponential(scores, dim=-1):
    return scores / scores.sum(dim=dim, keepdim=True)


@softmax.mistake(
    "You subtract the mean of the row. One score far above it still overflows: subtract the row's maximum, "
    "then no exponent is above 0."
)
def mean_subtracted(scores, dim=-1):
    exponentials = torch.exp(scores - scores.mean(dim=dim, keepdim=True))
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


@softmax.mistake("You subtract the minimum of the row: exponents only grow by that. Subtract the maximum.")
def minimum_subtracted(scores, dim=-1):
    exponentials = torch.exp(scores - scores.amin(dim=dim, keepdim=True))
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


_NOT_THE_MAXIMUM = (
    "What you subtract is not the row's maximum, so some exponent is still above 0, and e to a large one is inf. "
    "Subtract the largest score of the row."
)


@softmax.mistake(_NOT_THE_MAXIMUM)
def median_subtracted(scores, dim=-1):
    exponentials = torch.exp(scores - scores.median(dim=dim, keepdim=True).values)
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


@softmax.mistake(_NOT_THE_MAXIMUM)
def first_subtracted(scores, dim=-1):
    exponentials = torch.exp(scores - scores.narrow(dim, 0, 1))
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


_WHERE_LARGE = (
    "You subtract the maximum only where scores are large. In a row of scores near -1000 every exponential is 0, and "
    "0 / 0 is NaN: subtract it always."
)


@softmax.mistake(_WHERE_LARGE)
def maximum_only_where_large(scores, dim=-1):
    if scores.max() > 80:
        scores = scores - scores.amax(dim=dim, keepdim=True)
    exponentials = torch.exp(scores)
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


@softmax.mistake(
    "`dim or -1` takes 0 for no dimension at all, and goes along the last. The default stands in the signature: use "
    "`dim` as it is."
)
def dim_or_last(scores, dim=-1):
    dim = dim or -1
    exponentials = torch.exp(scores - scores.amax(dim=dim, keepdim=True))
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


@softmax.mistake(
    "You move `dim` to the end and back in the same direction: `movedim(dim, -1)` twice mixes the dimensions up. The "
    "way back is `movedim(-1, dim)`."
)
def moved_twice_the_same_way(scores, dim=-1):
    moved = scores.movedim(dim, -1)
    exponentials = torch.exp(moved - moved.amax(dim=-1, keepdim=True))
    return (exponentials / exponentials.sum(dim=-1, keepdim=True)).movedim(dim, -1)


@softmax.mistake(
    "You divide by the maximum: that changes the differences between scores, and so the shares. Subtract it."
)
def divided_by_maximum(scores, dim=-1):
    exponentials = torch.exp(scores / scores.amax(dim=dim, keepdim=True))
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


@softmax.mistake(
    "The maximum lost its dimension, so broadcasting lines it up with the wrong one: keep it, with keepdim=True."
)
def maximum_without_keepdim(scores, dim=-1):
    exponentials = torch.exp(scores - scores.amax(dim=dim))
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


@softmax.mistake(
    "`scores.max(dim=…)` gives two things, the values and where they are: take `.values`, or use `scores.amax(…)`."
)
def maximum_with_its_places(scores, dim=-1):
    exponentials = torch.exp(scores - scores.max(dim=dim, keepdim=True))
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


@softmax.mistake(
    "You clamp the scores. That avoids inf, but scores above the limit become equal: subtract the row's maximum."
)
def clamped(scores, dim=-1):
    exponentials = torch.exp(scores.clamp(min=-80, max=80))
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


@softmax.mistake(
    "You turn NaN into 0 afterwards: the row sums to 0 and its gradient is lost. Subtract the row's maximum first."
)
def nan_hidden(scores, dim=-1):
    exponentials = torch.exp(scores)
    return torch.nan_to_num(exponentials / exponentials.sum(dim=dim, keepdim=True))


@softmax.mistake(
    "That is the sigmoid of each score by itself. Shares depend on the whole row: divide by the sum along `dim`."
)
def sigmoid(scores, dim=-1):
    return torch.sigmoid(scores)


@softmax.mistake(
    "You change `scores` itself (`-=`, `exp_`): whoever called you still needs them. Work on a new tensor."
)
def changes_its_input(scores, dim=-1):
    scores -= scores.detach().amax(dim=dim, keepdim=True)
    exponentials = torch.exp(scores)
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


@softmax.mistake(
    "The result is cut off from the gradient (`.detach()`, `.data` or `no_grad`): nothing before it could learn."
)
def softmax_detached(scores, dim=-1):
    exponentials = torch.exp(scores.detach() - scores.detach().amax(dim=dim, keepdim=True))
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


@softmax.also_right
def with_logsumexp(scores, dim=-1):
    return torch.exp(scores - scores.logsumexp(dim=dim, keepdim=True))


@softmax.also_right
def with_max_values(scores, dim=-1):
    largest = scores.max(dim=dim, keepdim=True).values
    exponentials = (scores - largest).exp()
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


@softmax.also_right
def in_place_on_its_own(scores, dim=-1):
    result = scores - scores.detach().amax(dim=dim, keepdim=True)
    result = result.exp_()
    return result / result.sum(dim, True)


@softmax.also_right
def last_dimension_moved(scores, dim=-1):
    moved = scores.movedim(dim, -1)
    rows = [torch.exp(row - row.max()) / torch.exp(row - row.max()).sum() for row in moved.reshape(-1, moved.shape[-1])]
    return torch.stack(rows).reshape(moved.shape).movedim(-1, dim)


softmax.hint("What is torch.exp(torch.tensor(1000.0))? Which number can you take away from a whole row first?")
softmax.hint("Adding the same number to every score of a row changes no share. Take away the row's largest.")
softmax.hint("`scores.amax(dim=dim, keepdim=True)` keeps the dimension, so it lines up again. The sum needs it too.")

# --- scaled_dot_product_attention ------------------------------------------------------------------------------

attention = Exercise(
    "scaled_dot_product_attention",
    returns=["output (…, queries, d_v)", "weights (…, queries, keys)"],
    forbids=["scaled_dot_product_attention", "multi_head_attention_forward"],
)


@attention.case("one sequence: three queries, five keys")
def _(draw):
    return draw.normal(3, 4), draw.normal(5, 4), draw.normal(5, 2)


@attention.case("a batch of two, two heads, more keys than queries")
def _(draw):
    return draw.normal(2, 2, 3, 8), draw.normal(2, 2, 5, 8), draw.normal(2, 2, 5, 6)


@attention.case("as many heads as keys, so that mixing them up raises nothing")
def _(draw):
    return draw.normal(2, 4, 4, 4), draw.normal(2, 4, 4, 4), draw.normal(2, 4, 4, 4)


@attention.case("fewer keys than queries, float64, keys not contiguous")
def _(draw):
    double = torch.float64
    return (draw.normal(2, 6, 3, dtype=double), draw.normal(2, 3, 4, dtype=double).transpose(-2, -1),
            draw.normal(2, 4, 3, dtype=double))  # fmt: skip


@attention.case("wide heads, d_k = 64; a batch of one, one query")
def _(draw):
    return draw.normal(1, 2, 1, 64), draw.normal(1, 2, 4, 64), draw.normal(1, 2, 4, 5)


@attention.case("one row of scores near 2,000, one near -2,000, float64")
def _(draw):
    query, key = draw.normal(2, 4, dtype=torch.float64), draw.normal(3, 4, dtype=torch.float64)
    query[:, 0] = torch.tensor([100.0, -100.0])
    key[:, 0] = 40.0  # 100 × 40 / √4 = 2,000
    return query, key, draw.normal(3, 2, dtype=torch.float64)


@attention.case("gradients", scenario="gradients")
def _(draw):
    return draw.normal(2, 3, 4), draw.normal(2, 5, 4), draw.normal(2, 5, 3)


_SCALED = "scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))"

attention.slip(
    "softmax_over_queries",
    "Your softmax runs over the queries (dim=-2): the columns sum to one. Each query spreads its weight "
    "over the keys, so the rows must: dim=-1.",
    {"dim=-1": "dim=-2"},
)
attention.slip(
    "softmax_over_dim_1",
    "Your softmax runs over dim=1. With (batch, heads, queries, keys) that is the heads: each query "
    "spreads its weight over the keys, dim=-1.",
    {"dim=-1": "dim=1"},
)
attention.slip(
    "not_scaled",
    "The scores are not scaled: divide them by √d_k before the softmax, else wide heads saturate it.",
    {" / math.sqrt(query.size(-1))": ""},
)
attention.slip(
    "scaled_by_d_k",
    "You divide by d_k, all at once or by its root twice. The variance of a dot product grows with d_k, "
    "its standard deviation with √d_k: divide by the root, once.",
    {"math.sqrt(query.size(-1))": "query.size(-1)"},
)
attention.slip(
    "scaled_by_d_model",
    "You scale by √d_model, the width of all heads together. The dot product runs over one head: "
    "scale by the root of its width, `query.size(-1)`.",
    {"query.size(-1)": "query.size(-1) * (query.size(1) if query.dim() == 4 else 1)"},
)
attention.slip(
    "scaled_by_a_constant",
    "You divide by √8 whatever the width: take it from the query, `query.size(-1)`.",
    {"query.size(-1)": "8"},
)
attention.slip(
    "multiplied_by_root",
    "You multiply by √d_k: that makes wide heads sharper still. Divide by it.",
    {"/ math.sqrt": "* math.sqrt"},
)
attention.slip(
    "scaled_after_softmax",
    "You scale after the softmax: the rows of `weights` no longer sum to one. Scale the scores, before it.",
    {
        " / math.sqrt(query.size(-1))": "",
        "softmax(scores, dim=-1)": "softmax(scores, dim=-1) / math.sqrt(query.size(-1))",
    },
)
attention.slip(
    "scaled_by_number_of_keys",
    "You scale by the number of keys. What makes dot products large is their width: use d_k, `query.size(-1)`.",
    {"query.size(-1)": "key.size(-2)"},
)
attention.slip(
    "scaled_by_dimension_1",
    "You take d_k from dimension 1. With (batch, heads, queries, d_k) that is the heads: the width is always the last, "
    "`query.size(-1)`.",
    {"query.size(-1)": "query.size(1)"},
)
attention.slip(
    "scaled_by_dimension_0",
    "You scale by the first dimension of the queries, a length or a batch. What makes dot products large is their "
    "width: use `query.size(-1)`.",
    {"query.size(-1)": "len(query)"},
)
attention.slip(
    "scaled_by_d_v",
    "You scale by the width of the values. The dot product runs over d_k: use `query.size(-1)`.",
    {"query.size(-1)": "value.size(-1)"},
)
attention.slip(
    "keys_carried",
    "You multiply the weights with the keys. Keys decide where to look; the values are what is carried.",
    {"weights @ value": "weights @ key"},
)
attention.slip(
    "transpose_1_2",
    "You transposed dimensions 1 and 2. With (batch, heads, keys, d_k) that swaps heads and keys: "
    "use transpose(-2, -1), the last two, whatever stands in front.",
    {"transpose(-2, -1)": "transpose(1, 2)"},
)
attention.slip(
    "keys_reversed",
    "`.T` turns round *all* dimensions, batch and heads too: use `transpose(-2, -1)` or `.mT`, only the last two.",
    {"key.transpose(-2, -1)": "key.T"},
)
attention.slip(
    "not_transposed_keys",
    "The keys are not transposed: `query @ key` multiplies features with positions. Use key.transpose(-2, -1).",
    {"key.transpose(-2, -1)": "key"},
)
attention.slip(
    "query_and_key_swapped",
    "Queries and keys are swapped: rows of the scores belong to queries, so write query @ keyᵀ.",
    {"query @ key.transpose(-2, -1)": "key @ query.transpose(-2, -1)"},
)
attention.slip(
    "weights_transposed",
    "You transposed the weights before carrying the values: they are (queries, keys), and keys meet values.",
    {"weights @ value": "weights.transpose(-2, -1) @ value"},
)
attention.slip(
    "elementwise_values",
    "`*` multiplies place by place. The weighted sum over the keys is a matrix product: weights @ value.",
    {"weights @ value": "weights * value"},
)
attention.slip(
    "cosine",
    "You made queries and keys length 1: that is cosine similarity. Asked is the dot product, over √d_k.",
    {"query @ key.transpose(-2, -1)": "F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)"},
)
attention.slip(
    "softmax_over_everything",
    "One softmax over all scores of a head: all rows together sum to one. Each row must, by itself: dim=-1.",
    {"softmax(scores, dim=-1)": "softmax(scores.flatten(-2), dim=-1).reshape(scores.shape)"},
)
attention.slip(
    "softmax_twice",
    "Two softmaxes, one after the other: the second makes the shares nearly equal. One is enough.",
    {"softmax(scores, dim=-1)": "softmax(softmax(scores, dim=-1), dim=-1)"},
)
attention.slip(
    "heads_averaged",
    "You average the weights over the heads. Each head keeps its own: (…, queries, keys).",
    {"return output, weights": "return output, weights.mean(dim=1) if weights.dim() == 4 else weights"},
)
attention.slip(
    "residual_added",
    "You add the query to the output. The residual connection comes later, around the whole sub-layer: "
    "return weights @ value alone.",
    {"output = weights @ value": "output = weights @ value + (query if query.shape[-1] == value.shape[-1] else 0)"},
)
_SIZE_LOST = (
    "`squeeze()` drops every dimension of size 1, and a batch of one or a single query has one. Leave the dimensions "
    "as they are."
)
attention.slip("scores_squeezed", _SIZE_LOST, {"softmax(scores, dim=-1)": "softmax(scores.squeeze(), dim=-1)"})
attention.slip("output_squeezed", _SIZE_LOST, {"return output, weights": "return output.squeeze(), weights"})
_OWN_EXPONENTIALS = (
    "Your own exponentials are not safe: e to a large score is inf, of a row far below nothing is left, and clamped "
    "scores become equal. Use your `softmax`."
)
attention.slip(
    "exponentials_without_maximum",
    _OWN_EXPONENTIALS,
    {"softmax(scores, dim=-1)": "scores.exp() / scores.exp().sum(dim=-1, keepdim=True)"},
)
attention.slip(
    "exponentials_with_one_maximum",
    _OWN_EXPONENTIALS,
    {"softmax(scores, dim=-1)": "(e := (scores - scores.max()).exp()) / e.sum(dim=-1, keepdim=True)"},
)
attention.slip(
    "exponentials_clamped",
    _OWN_EXPONENTIALS,
    {"softmax(scores, dim=-1)": "(e := scores.clamp(-50, 50).exp()) / e.sum(dim=-1, keepdim=True)"},
)
attention.also("results_in_a_list", {"return output, weights": "return [output, weights]"})
attention.slip(
    "scores_returned",
    "You return the scores in place of the weights: the rows must sum to one, so return what the softmax gave.",
    {"output, weights": "output, scores"},
)
attention.slip(
    "swapped_results",
    "The two results are swapped: return the output first, then the weights.",
    {"output, weights": "weights, output"},
)
attention.slip(
    "output_only",
    "You return the output alone. The weights are asked for too: `return output, weights`.",
    {"return output, weights": "return output"},
)
attention.slip(
    "detached",
    "The weights are cut off from the gradient (`.detach()` or `no_grad`): queries and keys could never learn.",
    {"softmax(scores, dim=-1)": "softmax(scores, dim=-1).detach()"},
)
attention.slip(
    "no_softmax",
    "There is no softmax: the scores themselves weigh the values. Turn each row into shares that sum to one first.",
    {"softmax(scores, dim=-1)": "scores"},
)


@attention.also_right
def with_einsum(query, key, value):
    scores = torch.einsum("...qd,...kd->...qk", query, key) * query.shape[-1] ** -0.5
    weights = torch.softmax(scores, dim=-1)
    return torch.einsum("...qk,...kv->...qv", weights, value), weights


@attention.also_right
def queries_scaled_first(query, key, value):
    weights = F.softmax((query / math.sqrt(query.shape[-1])) @ key.mT, dim=-1)
    return weights.matmul(value), weights


@attention.also_right
def one_query_at_a_time(query, key, value):
    rows = []
    for index in range(query.shape[-2]):
        one = query[..., index, :].unsqueeze(-1)  # (…, d_k, 1)
        rows.append(softmax((key @ one).squeeze(-1) / key.shape[-1] ** 0.5))
    weights = torch.stack(rows, dim=-2)
    return weights @ value, weights


@attention.also_right
def with_helper_and_in_place(query, key, value):
    def shares(scores):
        scores -= scores.detach().amax(-1, keepdim=True)
        exponentials = scores.exp()
        return exponentials / exponentials.sum(-1, keepdim=True)

    weights = shares(query @ key.swapaxes(-1, -2) / torch.tensor(query.size(-1), dtype=query.dtype).sqrt())
    return weights @ value, weights


attention.hint(
    "Write down the shapes of Q and K. Which two dimensions must their product leave, and which of them should sum to "
    "one?"
)
attention.hint("Four lines: scores, their scale, weights, output. Only the second has a number in it: √d_k.")
attention.hint(f"`{_SCALED}`, then a softmax over the keys, then the weights times the values.")

# --- split_heads -----------------------------------------------------------------------------------------------

split_heads = Exercise("split_heads", returns=["result (batch, heads, length, d_head)"])


@split_heads.case("two heads of two features")
def _(draw):
    return draw.normal(1, 3, 4), 2


@split_heads.case("a batch of three, four heads")
def _(draw):
    return draw.normal(3, 5, 8), 4


@split_heads.case("as many heads as positions")
def _(draw):
    return draw.normal(2, 3, 6), 3


@split_heads.case("one head")
def _(draw):
    return draw.normal(2, 4, 3), 1


@split_heads.case("not contiguous, float64")
def _(draw):
    return draw.normal(2, 6, 4, dtype=torch.float64).transpose(1, 2), 2


@split_heads.case("gradients", scenario="gradients")
def _(draw):
    return draw.normal(2, 3, 4), 2


@split_heads.mistake(
    "A view straight to (batch, heads, length, d_head) mixes positions into heads: the numbers are only "
    "regrouped in memory order. View as (batch, length, heads, d_head), then transpose."
)
def view_straight(states, heads):
    batch, length, d_model = states.shape
    return states.reshape(batch, heads, length, d_model // heads)


@split_heads.mistake("The heads stand behind the length. Bring them before it: transpose(1, 2).")
def not_transposed(states, heads):
    batch, length, d_model = states.shape
    return states.reshape(batch, length, heads, d_model // heads)


@split_heads.mistake(
    "Your heads take every n-th feature. Head h has a block of neighbours: "
    "view the last dimension as (heads, d_head), in this order."
)
def interleaved(states, heads):
    batch, length, d_model = states.shape
    return states.reshape(batch, length, d_model // heads, heads).permute(0, 3, 1, 2)


@split_heads.mistake("`heads` is the number of heads, not their width: d_head = d_model // heads.")
def heads_taken_for_width(states, heads):
    batch, length, d_model = states.shape
    return states.reshape(batch, length, d_model // heads, heads).transpose(1, 2)


@split_heads.mistake("Length and d_head are swapped: the last dimension holds the features of one head.")
def features_before_length(states, heads):
    batch, length, d_model = states.shape
    return states.reshape(batch, length, heads, d_model // heads).permute(0, 2, 3, 1)


@split_heads.mistake("`/` gives a float, and a size is a whole number: use `//` for d_model // heads.")
def divided_with_one_slash(states, heads):
    batch, length, d_model = states.shape
    return states.reshape(batch, length, heads, d_model / heads).transpose(1, 2)


@split_heads.mistake(
    "You swapped dimensions 1 and 3, the length and the last. What must change places are length and heads: view as "
    "(batch, length, heads, d_head), then transpose(1, 2)."
)
def first_and_last_swapped(states, heads):
    batch, length, d_model = states.shape
    return states.reshape(batch, length, heads, d_model // heads).transpose(1, 3)


@split_heads.mistake(
    "The view has (d_head, heads), and transpose(1, 3) leaves the length behind the features. View as (batch, length, "
    "heads, d_head), then transpose(1, 2)."
)
def first_and_last_swapped_for_width(states, heads):
    batch, length, d_model = states.shape
    return states.reshape(batch, length, d_model // heads, heads).transpose(1, 3)


@split_heads.mistake("The heads stand in front of the batch. Asked is (batch, heads, length, d_head).")
def heads_first(states, heads):
    return torch.stack(states.chunk(heads, dim=-1))


@split_heads.mistake(
    "You put batch and heads into one dimension. Some libraries do; here they stay two: (batch, heads, length, d_head)."
)
def batch_and_heads_in_one(states, heads):
    batch, length, d_model = states.shape
    return states.reshape(batch, length, heads, d_model // heads).transpose(1, 2).flatten(0, 1)


@split_heads.mistake("You return the heads as separate tensors. Stack them into one: torch.stack(…, dim=1).")
def tuple_of_heads(states, heads):
    return states.chunk(heads, dim=-1)


@split_heads.mistake("Every head gets all the features. The heads share them out: each has d_head = d_model // heads.")
def copies(states, heads):
    return states.unsqueeze(1).repeat(1, heads, 1, 1)


@split_heads.also_right
def with_view(states, heads):
    batch, length, d_model = states.shape
    return states.contiguous().view(batch, length, heads, d_model // heads).permute(0, 2, 1, 3)


@split_heads.also_right
def with_plain_view(states, heads):
    batch, length, d_model = states.shape
    return states.view(batch, length, heads, d_model // heads).transpose(1, 2)


@split_heads.also_right
def with_chunks(states, heads):
    return torch.stack(states.chunk(heads, dim=-1), dim=1)


@split_heads.also_right
def with_unflatten(states, heads):
    return states.unflatten(-1, (heads, states.size(-1) // heads)).movedim(2, 1).contiguous()


split_heads.hint("First give the heads a dimension of their own beside the features; only then move it.")
split_heads.hint("(batch, length, d_model) → (batch, length, heads, d_head) → transpose(1, 2).")

# --- merge_heads -----------------------------------------------------------------------------------------------

merge_heads = Exercise("merge_heads", returns=["result (batch, length, d_model)"])


@merge_heads.case("two heads of two features")
def _(draw):
    return (draw.normal(1, 2, 3, 2),)


@merge_heads.case("a batch of three, four heads, five positions")
def _(draw):
    return (draw.normal(3, 4, 5, 2),)


@merge_heads.case("as many heads as positions")
def _(draw):
    return (draw.normal(2, 3, 3, 2),)


@merge_heads.case("not contiguous, float64")
def _(draw):
    return (draw.normal(2, 4, 3, 2, dtype=torch.float64).transpose(1, 2),)


@merge_heads.case("gradients", scenario="gradients")
def _(draw):
    return (draw.normal(2, 2, 3, 2),)


@merge_heads.mistake(
    "You reshape without bringing the length back before the heads: positions and heads are mixed. "
    "transpose(1, 2) first."
)
def reshape_straight(states):
    batch, heads, length, d_head = states.shape
    return states.reshape(batch, length, heads * d_head)


@merge_heads.mistake(
    "The features of the heads are interleaved. Keep each head's block together: (length, heads, d_head)."
)
def interleaved_back(states):
    batch, heads, length, d_head = states.shape
    return states.permute(0, 2, 3, 1).reshape(batch, length, heads * d_head)


@merge_heads.mistake("You flattened heads and length together. What is merged are heads and d_head, for each position.")
def positions_merged(states):
    return states.flatten(1, 2)


@merge_heads.mistake("You average the heads. They are put side by side: (batch, length, heads × d_head).")
def averaged(states):
    return states.mean(dim=1)


@merge_heads.mistake("The transpose is there, the last two dimensions are not merged yet: flatten them into d_model.")
def not_flattened(states):
    return states.transpose(1, 2)


@merge_heads.mistake(
    "After a transpose the numbers are no longer in order in memory, and `.view` refuses: use `.reshape`, "
    "or `.contiguous()` before it."
)
def view_after_transpose(states):
    batch, heads, length, d_head = states.shape
    return states.transpose(1, 2).view(batch, length, heads * d_head)


@merge_heads.mistake("You add the heads up. They are put side by side: (batch, length, heads × d_head).")
def summed(states):
    return states.sum(dim=1)


@merge_heads.mistake("Only the first head is left: all of them go side by side into d_model.")
def first_head_only(states):
    return states[:, 0]


@merge_heads.mistake(
    "You swapped the length with d_head (dimensions 2 and 3). What must change places are heads and length: "
    "transpose(1, 2)."
)
def wrong_pair_transposed(states):
    batch, heads, length, d_head = states.shape
    return states.transpose(2, 3).reshape(batch, length, heads * d_head)


@merge_heads.also_right
def with_contiguous_view(states):
    batch, heads, length, d_head = states.shape
    return states.transpose(1, 2).contiguous().view(batch, length, heads * d_head)


@merge_heads.also_right
def with_cat(states):
    return torch.cat(list(states.unbind(dim=1)), dim=-1)


@merge_heads.also_right
def with_flatten(states):
    return states.permute(0, 2, 1, 3).flatten(start_dim=2)


merge_heads.hint("It is `split_heads` backwards: which step came last there?")
merge_heads.hint("transpose(1, 2) gives (batch, length, heads, d_head); then the last two become one.")
