"""Lesson 03: what holds for positions, embeddings, norms and the encoder, and what the lesson's text claims.

Each property is tried on the stand-ins and on the solution that students may see. That the encoder equals
PyTorch's is in test_parity.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import ways
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from autograder.build.freeze import wrong_source
from autograder.exercise import exercises_of
from autograder.judging import judge_source
from autograder.packs import cases_hash, visible_pack
from autograder.solutions import answer_source, read_source
from crosstalk import my_model
from crosstalk.course import course

each_way = ways.each_way(until=3)
quick = settings(max_examples=25, deadline=None)


def _normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _layer(way: SimpleNamespace, seed: int, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(seed)
    return way.EncoderLayer(8, 2, 12, dropout).double()


def _encoder(way: SimpleNamespace, seed: int, layers: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return way.Encoder(layers, 8, 2, 12).double()


# --- positions -------------------------------------------------------------------------------------------------


@each_way
@quick
@given(length=st.integers(1, 60), pairs=st.integers(1, 20))
def test_positions_follow_the_formula(way: SimpleNamespace, length: int, pairs: int) -> None:
    positions, d_model = way.sinusoidal_positions(length, 2 * pairs), 2 * pairs
    assert positions.shape == (length, d_model)
    assert positions.dtype == torch.float32
    for place in (0, length // 2, length - 1):
        for pair in range(pairs):
            angle = place / 10_000 ** (2 * pair / d_model)
            wanted = torch.tensor([math.sin(angle), math.cos(angle)])
            torch.testing.assert_close(positions[place, 2 * pair : 2 * pair + 2], wanted, rtol=1e-4, atol=2e-5)


@each_way
@quick
@given(s=st.integers(0, 40), t=st.integers(0, 40), both=st.integers(0, 50))
def test_a_dot_product_of_positions_depends_on_the_offset_alone(
    way: SimpleNamespace, s: int, t: int, both: int
) -> None:
    positions = way.sinusoidal_positions(91, 32)
    torch.testing.assert_close(
        positions[s] @ positions[t], positions[s + both] @ positions[t + both], rtol=0, atol=1e-3
    )


@each_way
def test_every_position_has_the_same_length(way: SimpleNamespace) -> None:
    for d_model in (2, 16, 64):
        norms = way.sinusoidal_positions(100, d_model).norm(dim=-1)
        torch.testing.assert_close(norms, torch.full((100,), math.sqrt(d_model / 2)))


# --- embeddings ------------------------------------------------------------------------------------------------


@each_way
@quick
@given(seed=ways.seeds, start=st.integers(0, 300), length=st.integers(1, 12), cut=st.integers(0, 11))
def test_a_part_of_a_word_is_embedded_as_in_the_whole(
    way: SimpleNamespace, seed: int, start: int, length: int, cut: int
) -> None:
    torch.manual_seed(seed)
    embedding, tokens = way.TokenEmbedding(9, 6, 0), torch.randint(9, (2, length))
    first = min(cut, length - 1)
    whole = embedding(tokens, start)  # (2, length, 6)
    torch.testing.assert_close(embedding(tokens[:, first:], start + first), whole[:, first:])


@each_way
def test_the_padding_stays_zero_in_training(way: SimpleNamespace) -> None:
    embedding = way.TokenEmbedding(5, 4, pad_id=3)
    optimizer = torch.optim.AdamW(embedding.parameters(), lr=0.1)
    before = embedding.table.weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        embedding(torch.tensor([[0, 1, 3], [2, 3, 3]])).square().sum().backward()
        optimizer.step()
    assert bool((embedding.table.weight[3] == 0).all())
    assert not torch.equal(embedding.table.weight, before)


@each_way
def test_positions_are_a_buffer_that_moves_and_is_not_saved(way: SimpleNamespace) -> None:
    embedding = way.TokenEmbedding(5, 4, 0)
    assert list(embedding.state_dict()) == ["table.weight"]
    assert [name for name, _ in embedding.named_buffers()] == ["positions"]
    tokens = torch.zeros(1, 200, dtype=torch.long)
    assert embedding.double()(tokens).dtype == torch.float64  # longer than any table so far, and still of its kind
    assert embedding.positions.dtype == torch.float64


@each_way
def test_the_table_begins_with_the_spread_that_is_asked(way: SimpleNamespace) -> None:
    weight = way.TokenEmbedding(2000, 64, 7).table.weight
    assert weight.std().item() == pytest.approx(64**-0.5, rel=0.02)  # its own error is 0.2 %
    assert weight[7].eq(0).all()


# --- layer norm ------------------------------------------------------------------------------------------------


@each_way
@quick
@given(seed=ways.seeds, d_model=st.integers(2, 17), size=st.sampled_from([1e-4, 1.0, 1e4]))
def test_the_norm_agrees_with_torch(way: SimpleNamespace, seed: int, d_model: int, size: float) -> None:
    norm = way.LayerNorm(d_model).double()
    with torch.no_grad():
        norm.scale.copy_(_normal(seed, d_model))
        norm.shift.copy_(_normal(seed + 1, d_model))
    states = size * _normal(seed + 2, 2, 3, d_model)
    mine, theirs = states.clone().requires_grad_(), states.clone().requires_grad_()
    output, expected = norm(mine), F.layer_norm(theirs, (d_model,), norm.scale, norm.shift)
    torch.testing.assert_close(output, expected)
    weight = _normal(seed + 3, 2, 3, d_model)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y, x in ((output, mine), (expected, theirs))]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


# --- the encoder -----------------------------------------------------------------------------------------------


@each_way
@quick
@given(seed=ways.seeds, length=st.integers(1, 7))
def test_without_positions_a_moved_letter_keeps_its_row(way: SimpleNamespace, seed: int, length: int) -> None:
    encoder, states = _encoder(way, seed), _normal(seed, 2, length, 8)
    order = torch.randperm(length, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(encoder(states[:, order]), encoder(states)[:, order])


@each_way
def test_with_positions_it_does_not(way: SimpleNamespace) -> None:
    torch.manual_seed(0)
    encoder, embedding = way.Encoder(2, 8, 2, 12), way.TokenEmbedding(9, 8, 0)
    live = torch.tensor([[1, 2, 3, 4]])
    assert (encoder(embedding(live)) - encoder(embedding(live.flip(1))).flip(1)).abs().max() > 0.1


@each_way
@quick
@given(seed=ways.seeds, real=st.integers(1, 5), padding=st.integers(0, 4))
def test_padding_changes_no_letter(way: SimpleNamespace, seed: int, real: int, padding: int) -> None:
    encoder, states = _encoder(way, seed), _normal(seed, 1, real + padding, 8)
    mask = (torch.arange(real + padding) < real)[None, None, None]  # (1, 1, 1, keys)
    torch.testing.assert_close(encoder(states, mask)[:, :real], encoder(states[:, :real]))


@each_way
@quick
@given(seed=ways.seeds)
def test_with_dropout_one_a_layer_passes_its_states_on(way: SimpleNamespace, seed: int) -> None:
    layer, states = _layer(way, seed, dropout=1.0), _normal(seed, 2, 3, 8)
    assert torch.equal(layer.train()(states), states)
    assert not torch.equal(layer.eval()(states), states)


@each_way
def test_layers_have_weights_of_their_own_and_all_learn(way: SimpleNamespace) -> None:
    encoder = _encoder(way, 0)
    encoder(_normal(0, 2, 3, 8)).square().mul(_normal(1, 2, 3, 8)).sum().backward()
    parameters = list(encoder.parameters())
    assert len(parameters) == len(encoder.state_dict()) == 3 * 16 + 2
    dead = [name for name, weight in encoder.named_parameters() if weight.grad is None or not weight.grad.any()]
    # The bias of the keys moves all scores of a row alike, so the softmax takes no notice.
    assert [name for name in dead if not name.endswith("attention.key.bias")] == []


# --- what the lesson's text claims -----------------------------------------------------------------------------


class _PostLayer(my_model.stand_in("EncoderLayer")):  # type: ignore[misc]
    def forward(self, states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        states = self.attention_norm(states + self.attention(states, mask=mask)[0])
        return self.feed_forward_norm(states + self.feed_forward(states))


def _share_at_the_bottom(kind: type[nn.Module], layers: int) -> float:
    torch.manual_seed(0)
    stack = [kind(64, 4, 256) for _ in range(layers)]
    kept = [torch.randn(8, 9, 64).requires_grad_()]
    for layer in stack:
        kept.append(layer(kept[-1]))
    scores = F.layer_norm(kept[-1], (64,)) @ torch.randn(64, 42) / 8
    loss = F.cross_entropy(scores.flatten(0, 1), torch.randint(42, (72,)))
    bottom, top = torch.autograd.grad(loss, [kept[0], kept[-1]])
    return float(bottom.norm() / top.norm())


def test_in_post_ln_the_gradient_fades_with_depth_and_in_pre_ln_it_does_not() -> None:
    pre, post = ([_share_at_the_bottom(kind, layers) for layers in (2, 24)]
                 for kind in (my_model.stand_in("EncoderLayer"), _PostLayer))  # fmt: skip
    assert 1 <= pre[0] <= pre[1]
    assert post[1] < 0.8 * post[0]


def test_states_grow_from_layer_to_layer_without_a_norm_at_the_end() -> None:
    torch.manual_seed(0)
    states = torch.randn(1, 11, 64)
    sizes = [states.std().item()]
    for _ in range(24):
        states = my_model.stand_in("EncoderLayer")(64, 4, 256)(states)
        sizes.append(states.std().item())
    assert sizes[0] < sizes[6] < sizes[12] < sizes[18] < sizes[24]


def test_a_table_of_spread_one_makes_an_untrained_model_sure_and_wrong() -> None:
    torch.manual_seed(0)
    states, answers = F.layer_norm(torch.randn(2000, 128), (128,)), torch.randint(42, (2000,))
    wide, right = (F.cross_entropy(states @ (torch.randn(42, 128) * std).T, answers) for std in (1, 128**-0.5))
    assert abs(right - math.log(42)) < 1
    assert wide > 4 * math.log(42)


# --- names of mistakes -----------------------------------------------------------------------------------------

_OTHER_FORMS = {
    "softmax": "with_logsumexp",
    "masked_attention": "a_thousand_million_taken_away",
    "split_heads": "with_unflatten",
    "merge_heads": "with_cat",
    "LayerNorm": "WithVarMean",
    "MultiHeadAttention": "WithEinsum",
    "EncoderLayer": "DropoutByHand",
}


@pytest.mark.parametrize(("name", "mistake"), [("Encoder", "layers_shared"), ("EncoderLayer", "norm_on_the_output")])
def test_a_mistake_is_named_whatever_the_own_pieces_look_like(
    name: str, mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mistakes may enlarge rounding, and the student's own pieces round in another way than the stand-ins."""
    monkeypatch.setenv("CROSSTALK_WORK", str(tmp_path))
    for other in course().earlier_exercises(name):
        if form := _OTHER_FORMS.get(other):
            lesson, _ = course().find(other)
            right = next(right for right in exercises_of(lesson)[other].right if right.name == form)
            my_model.keep(other, right.source, visible_pack(lesson).setup, cases_hash(other))
    lesson, _ = course().find(name)
    exercise, solution = exercises_of(lesson)[name], answer_source(read_source(lesson), name)
    index = next(index for index, wrong in enumerate(exercise.wrong) if wrong.name == mistake)
    verdict = judge_source(name, wrong_source(exercise, index, solution), own_pieces=True)
    assert verdict.mistake == mistake
