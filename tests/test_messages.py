"""What runner and judge say to each other comes through whole, and nothing else does."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autograder.compare import same
from autograder.messages import MAGIC, MAX_DEPTH, MessageError, Tree, decode, encode

plain = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=20)
dtypes = st.sampled_from([torch.bool, torch.int64, torch.float32, torch.float64, torch.bfloat16])
tensors = st.builds(
    lambda shape, dtype, seed: (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 5).to(dtype),
    st.lists(st.integers(0, 4), max_size=4), dtypes, st.integers(0, 99),
)  # fmt: skip
trees = st.recursive(
    plain | tensors | dtypes,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=6).filter(lambda key: not key.startswith("$")), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(trees)
def test_comes_back_the_same(tree: Tree) -> None:
    assert same(tree, decode(encode(tree)))


def test_layout_comes_back() -> None:
    tensor = torch.arange(12.0).reshape(3, 4).T
    back = decode(encode(tensor))
    assert torch.equal(back, tensor) and back.stride() == tensor.stride() and not back.is_contiguous()


def test_an_expanded_tensor_comes_back_by_value() -> None:
    tensor = torch.arange(3.0).expand(4, 3)
    assert torch.equal(decode(encode(tensor)), tensor)


def test_changing_what_came_does_not_change_what_was_sent() -> None:
    tensor = torch.zeros(2)
    decode(encode(tensor)).add_(1)
    assert torch.equal(tensor, torch.zeros(2))


@given(st.data(), trees)
def test_a_message_cut_short_is_refused(data: st.DataObject, tree: Tree) -> None:
    content = encode(tree)
    with pytest.raises(MessageError):
        decode(content[: data.draw(st.integers(0, len(content) - 1))])


def header(tree: object, notes: object = (), body: bytes = b"") -> bytes:
    content = json.dumps({"tree": tree, "tensors": notes}).encode()
    return MAGIC + len(content).to_bytes(4, "big") + content + body


DEEP: list = []
for _ in range(MAX_DEPTH + 2):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"pickle",
        MAGIC + (2**31).to_bytes(4, "big"),
        header({"$tensor": 0}),
        header({"$tensor": True}),
        header({"$dtype": "object"}),
        header(DEEP),
        header(None, [{"dtype": "float32", "shape": [2]}], b"\0" * 4),
        header(None, [{"dtype": "float32", "shape": [-1]}]),
        header(None, [{"dtype": "float32", "shape": [2], "stride": [2**40]}], b"\0" * 8),
        header(None, [{"dtype": "complex64", "shape": [1]}], b"\0" * 8),
        header(None, 3),
        header(None) + b"left over",
        MAGIC + (1).to_bytes(4, "big") + b"[",
        MAGIC + (2).to_bytes(4, "big") + b"[]",
    ],
)
def test_what_is_not_ours_is_refused(content: bytes) -> None:
    with pytest.raises(MessageError):
        decode(content)


@pytest.mark.parametrize("thing", [object(), {1, 2}, lambda: 0, DEEP])
def test_what_cannot_be_sent_is_refused(thing: object) -> None:
    with pytest.raises(MessageError):
        encode(thing)
