"""What runner and judge say to each other comes through whole, and nothing else does."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.compare import same
from autograder.judging import judge_source
from autograder.messages import (
    MAGIC,
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_DIMENSIONS,
    MAX_HEADER_BYTES,
    MAX_PARTS,
    MAX_SPREAD,
    MAX_TENSORS,
    MessageError,
    Tree,
    decode,
    encode,
)

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


@pytest.mark.parametrize(
    "does",
    [
        "return {'$tensor': 0}",
        "return 10 ** 5000",
        "return torch.zeros(1).expand(2**40)",
        "return [target.new_zeros(0)] * 9_999, [target.new_zeros(0)] * 9_999, [target.new_zeros(0)] * 9_999",
        "raise SyntaxError('x', (1, object(), 3, 4))",
        "raise NameError(name=target)",
        "raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})",
        "raise ValueError('\\ud800' * 10**6)",
        "import warnings; warnings.warn(type('Odd', (Warning,), {'__str__': lambda self: 1 / 0})())",
    ],
)
def test_whatever_an_answer_does_there_is_a_verdict(does: str) -> None:
    verdict = judge_source("shift_right", f"def shift_right(target, start_id):\n    {does}\n")
    assert verdict.points == 0
    assert verdict.cases or verdict.problem


# --- hostile messages ------------------------------------------------------------------------------------------


def raw(text: str | bytes, body: bytes = b"") -> bytes:
    content = text.encode() if isinstance(text, str) else text
    return MAGIC + len(content).to_bytes(4, "big") + content + body


def note(dtype: object, shape: object, **more: object) -> list[object]:
    return [{"dtype": dtype, "shape": shape, **more}]


@pytest.mark.parametrize(
    "content",
    [
        # shapes that cost much to multiply, or whose product is 0
        header(None, note("bool", [2**62] * 1000)),
        header(None, note("bool", [10**300, 10**300])),
        header(None, note("bool", [0, 2**62, 2**62])),
        header(None, note("bool", [1] * (MAX_DIMENSIONS + 1)), b"\0"),
        header(None, note("bool", [True]), b"\0"),
        header(None, note("bool", [1.0]), b"\0"),
        header(None, note("bool", ["1"]), b"\0"),
        header(None, note("bool", "1"), b"\0"),
        header(None, note("bool", [-1, -1]), b"\0"),
        header(None, note(["bool"], [1]), b"\0"),
        header(None, note("bool", [1]), b"\2"),
        header(None, note("float32", [2**40, 0])),
        # storage far larger than what stands in it, elements on each other
        header(None, note("bool", [2, 2], stride=[2**24, 1]), b"\0" * 4),
        header(None, note("bool", [4], stride=[2**20]), b"\0" * 4),
        header(None, note("bool", [2, 2], stride=[1, 1]), b"\0" * 4),
        header(None, note("bool", [2, 2], stride=[2, 0]), b"\0" * 4),
        header(None, note("bool", [2, 2], stride=[-2, 1]), b"\0" * 4),
        header(None, note("bool", [2, 2], stride=[True, True]), b"\0" * 4),
        header(None, note("bool", [2, 2], stride=[2.0, 1]), b"\0" * 4),
        header(None, note("bool", [2, 2], stride=[2]), b"\0" * 4),
        header(None, note("bool", [2, 2], stride="21"), b"\0" * 4),
        header(None, note("bool", [2, 2], stride=None), b"\0" * 4),
        # very many of something
        header(None, note("bool", [0]) * (MAX_TENSORS + 1)),
        header([[]] * MAX_PARTS),
        header([0] * MAX_PARTS),
        header([{}] * (MAX_PARTS // 2)),
        raw(b"[" * 4_000_000),
        raw(b'{"tensors":[],"tree":' + b'{"a":' * 50_000),
        raw(b'{"tensors":[],"tree":' + b"9" * 4_000_000 + b"}"),
        raw(b'{"tensors":[],"tree":-' + b"9" * (MAX_DIGITS + 1) + b"}"),
        raw(b'{"tensors":[],"tree":"' + b'\\"' * 2_000_000),
        raw(b'{"tensors":[],"tree":[' + b'"",' * 1_000_000 + b"0]}"),
        # JSON that is not ours
        raw('{"tensors":[],"tree":NaN}'),
        raw('{"tensors":[],"tree":-Infinity}'),
        raw('{"tensors":[],"tree":{"a":1,"a":2}}'),
        raw('{"tensors":[],"tensors":[],"tree":1}'),
        raw('{"tensors":[],"tree":1,"more":1}'),
        raw('{"tensors":{},"tree":1}'),
        raw('{"tree":1}'),
        raw('{"tensors":[],"tree":{1:1}}'),
        raw('{"tensors":[],"tree":"\\ud800"}'),
        raw('{"tensors":[],"tree":{"\\udfff":1}}'),
        raw(b'{"tensors":[],"tree":"\xff"}'),
        raw('{"tensors":[],"tree":1}'.encode("utf-16")),
        # marks
        header({"$tensor": 0, "more": 1}, note("bool", [1]), b"\0"),
        header({"$tensor": False}, note("bool", [1]), b"\0"),
        header({"$tensor": -1}, note("bool", [1]), b"\0"),
        header({"$tensor": 0.0}, note("bool", [1]), b"\0"),
        header({"$float": "9" * 1000}),
        header({"$float": "1e3"}),
        header({"$float": ["nan"]}),
        header({"$tuple": "text"}),
        header({"$tuple": {"a": 1}}),
        header({"$dtype": ["bool"]}),
        header({"$dtype": {}}),
    ],
    ids=lambda thing: f"{type(thing).__name__}",
)
def test_what_is_hostile_is_refused(content: bytes) -> None:
    with pytest.raises(MessageError):
        decode(content)


def test_shapes_that_are_ours_are_not_refused() -> None:
    for tensor in (torch.zeros(0, 3, 7), torch.zeros(()), torch.zeros([1] * MAX_DIMENSIONS), torch.zeros(5, 0).T):
        assert torch.equal(decode(encode(tensor)), tensor)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(10**6).reshape(1000, 1000)[:3, 0],  # few elements of a large storage
        torch.arange(6).as_strided((4, 3), (1, 1)),  # elements on each other
        torch.arange(12).reshape(3, 4)[:, ::2],
        torch.arange(6).expand(2, 6)[:, 1:],
        torch.arange(6).reshape(2, 3).T[None],
        torch._neg_view(torch.arange(4.0)),
    ],
)
def test_every_layout_comes_back_by_value_in_little_room(tensor: torch.Tensor) -> None:
    back = decode(encode(tensor))
    assert torch.equal(back, tensor)
    assert back.untyped_storage().nbytes() <= MAX_SPREAD * tensor.numel() * tensor.itemsize


def _twice(levels: int) -> list:
    tree: list = []
    for _ in range(levels):
        tree = [tree, tree]
    return tree


@pytest.mark.parametrize(
    "thing",
    [
        torch.zeros(1).expand(2**20, 2**20),  # 4 TB, were it copied
        [torch.zeros(1).expand(2**24) for _ in range(5)],  # 80 million elements, 320 MB
        [torch.zeros(0)] * (MAX_TENSORS + 1),
        torch.zeros([1] * (MAX_DIMENSIONS + 1)),
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2, device="meta"),
        torch.eye(2).to_sparse(),
        "x" * (MAX_HEADER_BYTES + 1),
        [0] * (MAX_PARTS + 1),
        _twice(MAX_DEPTH - 1),
        10**5000,
        -(10**MAX_DIGITS),
        {1: 2},
        {"$tensor": 0},
        {"$float": "nan"},
        torch.complex64,
        b"bytes",
        1j,
    ],
    ids=lambda thing: f"{type(thing).__name__}",
)
def test_what_would_be_refused_is_not_sent(thing: object) -> None:
    with pytest.raises(MessageError):
        encode(thing)


def test_long_texts_may_hold_anything() -> None:
    for text in ("[{,]" * MAX_PARTS, "\N{GRINNING FACE}\0\u2028", '\\"'):
        assert decode(encode({"source": text, text[:9]: 1})) == {"source": text, text[:9]: 1}
    assert decode(encode("half a \ud83d pair")) == "half a ? pair"


jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-1, 3) | st.floats() | st.text(max_size=4)
    | st.sampled_from(["bool", "int64", "float32", "bfloat16", "nan", "inf", 2**31, 2**63, 10**30]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["$tensor", "$tuple", "$dtype", "$float", "$kind", "tree", "shape"]) | st.text(max_size=3),
        inner, max_size=3),
    max_leaves=10,
)  # fmt: skip
sizes = st.lists(st.integers(-1, 5) | st.sampled_from([2**20, 2**31, 2**63]), max_size=4)
notes = st.fixed_dictionaries(
    {"dtype": st.sampled_from(["bool", "uint8", "int64", "float32", "bfloat16", "complex64"]), "shape": sizes | jsons},
    optional={"stride": sizes | jsons},
)


def _taken(tree: Tree) -> int:
    """The bytes that its tensors take."""
    if isinstance(tree, torch.Tensor):
        return tree.untyped_storage().nbytes()
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    return sum(map(_taken, inner))


def _is_bounded(content: bytes) -> None:
    """It is refused, or gives a tree whose tensors take little room and that can be sent again."""
    try:
        tree = decode(content)
    except MessageError:
        return
    again = decode(encode(tree))
    assert same(tree, again)
    assert _taken(again) <= MAX_SPREAD * len(encode(tree))


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_noise_is_refused_or_harmless(content: bytes, body: bytes) -> None:
    _is_bounded(content)
    _is_bounded(MAGIC + content)
    _is_bounded(raw(content, body))


@settings(max_examples=300)
@given(jsons, st.lists(notes, max_size=2) | jsons, st.integers(0, 80))
def test_headers_of_any_content_are_refused_or_harmless(tree: object, notes: object, body: int) -> None:
    _is_bounded(header(tree, notes, bytes(body)))


@settings(max_examples=300)
@given(st.data(), trees)
def test_a_message_that_was_tampered_with_is_refused_or_harmless(data: st.DataObject, tree: Tree) -> None:
    content = bytearray(encode(tree))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["change", "remove", "insert", "repeat"])):
            case "change":
                content[at] = data.draw(st.integers(0, 255))
            case "remove":
                del content[at : at + data.draw(st.integers(1, 3))]
            case "insert":
                content[at:at] = data.draw(st.binary(min_size=1, max_size=3))
            case "repeat":
                content[at:at] = content[at : at + data.draw(st.integers(1, 40))]
        if not content:
            break
    _is_bounded(bytes(content))


def test_a_right_size_announced_for_a_changed_header_is_no_help() -> None:
    """The header of a valid message with one number changed at a time, its length set right."""
    content = encode({"a": torch.arange(6.0).reshape(2, 3).T, "b": (1, float("nan"), torch.float32)})
    length = int.from_bytes(content[4:8], "big")
    text, body = content[8 : 8 + length].decode(), content[8 + length :]
    for at, letter in enumerate(text):
        for other in ("-1", "true", "[]", "999999999999") if letter.isdigit() else ("",):
            _is_bounded(raw(text[:at] + other + text[at + 1 :], body))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64])
def test_one_element_of_a_column_comes_through(dtype: torch.dtype) -> None:
    """Its stride is not 1, and yet it counts as contiguous."""
    tensor = torch.arange(6).reshape(3, 2).to(dtype)[1:2, 0]
    assert torch.equal(decode(encode(tensor)), tensor)
