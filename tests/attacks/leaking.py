"""Answers that carry numbers of their inputs out, in every word that an answer can say.

Each has two versions: one that speaks as soon as it is asked, which shows that the way is open for visible inputs,
and one that waits for the hidden ones.
"""

from __future__ import annotations

from collections.abc import Callable

from attacks.scoring import FRAMES, WIRE

from autograder.packs import ExercisePack

_SECRET = (
    WIRE
    + FRAMES
    + """
sys.__dict__.setdefault("turns", []).append(1)
SPEAKS = len(sys.turns) > {visible_turns}
SECRET = sum(int(10_000 * abs(float(case["inputs"]["args"][0].flatten()[0]))) for case in sent()["cases"])

def softmax(scores, dim=-1):
    return scores * 0
"""
)


def secret_of(pack: ExercisePack) -> int:
    """The number that is carried out."""
    return sum(int(10_000 * abs(float(case.inputs["args"][0].flatten()[0]))) for case in pack.cases)


# How it is said, and what it then reads as.
_WAYS: dict[str, tuple[str, Callable[[int], str]]] = {
    "exit code": ("import os\nos._exit(SECRET % 200 + 3)", lambda secret: f"exit code {secret % 200 + 3}"),
    "a length that is announced": ("raw(b'', announced=2**40 + SECRET)", lambda secret: f"{2**40 + secret:,}"),
    "an error in the cell": ("raise ValueError(f'it is {SECRET}')", lambda secret: f"it is {secret}"),
    "an error in the syntax": ("raise SyntaxError(f'it is {SECRET}')", lambda secret: f"it is {secret}"),
    "an error in the call": (
        "def softmax(scores, dim=-1): raise ValueError(f'it is {SECRET}')", lambda secret: f"it is {secret}"),
    "the name of an error": (
        "def softmax(scores, dim=-1): raise type(f'It{SECRET}', (Exception,), {})", lambda secret: f"It{secret}"),
    "print": ("print(f'it is {SECRET}')", lambda secret: f"it is {secret}"),
    "a warning": ("import warnings\nwarnings.warn(f'it is {SECRET}')", lambda secret: f"it is {secret}"),
    "a signature": ("import inspect\n"
                    "told = inspect.Parameter(f'it{SECRET}', inspect.Parameter.POSITIONAL_ONLY)\n"
                    "softmax.__signature__ = inspect.Signature([told])", lambda secret: f"it{secret}"),
    "a type": ("softmax = type(f'It{SECRET}', (), {})()", lambda secret: f"It{secret}"),
    "the type of a result": (
        "def softmax(scores, dim=-1): return type(f'It{SECRET}', (), {})()", lambda secret: f"It{secret}"),
    "numbers": ("def softmax(scores, dim=-1): return scores * 0 + SECRET", lambda secret: f"{secret:8.4f}"),
    "a forged line": (
        "say({'what': 'definition', 'kind': 'function'})\n"
        "for index in range(8):\n"
        "    seen = nested({'forbidden': f'it is {SECRET}', 'line': SECRET})\n"
        "    say({'what': 'case', 'index': index, 'observation': seen})\n"
        "say({'what': 'end', 'stopped': None})\nos._exit(0)", lambda secret: f"it is {secret}"),
    "a forged definition": (
        "say({'what': 'definition', 'kind': 'library', 'type': f'it is {SECRET}'})\n"
        "say({'what': 'end', 'stopped': None})\nos._exit(0)", lambda secret: f"it is {secret}"),
    "a forged end": (
        "say({'what': 'definition', 'kind': 'function'})\n"
        "say({'what': 'end', 'stopped': {'line': SECRET, 'text': f'it is {SECRET}', 'time_up': True},"
        " 'warned': [f'it is {SECRET}'], 'printed': {'bytes': SECRET, 'lines': SECRET, 'text': f'it is {SECRET}'}})\n"
        "os._exit(0)", lambda secret: f"it is {secret}"),
    "a case of another number": (
        "say({'what': 'case', 'index': -SECRET, 'observation': nested({'it is': SECRET})})\n"
        "raise ValueError(f'it is {SECRET}')",
        lambda secret: f"it is {secret}"),
}  # fmt: skip
WAYS = list(_WAYS)


def leaking(way: str, visible: bool) -> str:
    """An answer that tells its secret in one way, for visible inputs or only once it has seen hidden ones."""
    told = "\n".join("    " + line for line in _WAYS[way][0].splitlines())
    return _SECRET.replace("{visible_turns}", "0" if visible else "1") + f"\nif SPEAKS:\n{told}\n"


def reads_as(way: str, secret: int) -> str:
    """The words in which it is told."""
    return _WAYS[way][1](secret)
