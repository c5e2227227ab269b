"""A cell's source without magics, for sentences: IPython's own transformer, with a limit on its work."""

from __future__ import annotations

from typing import Any

MAX_LENGTH = 10_000  # characters
MAX_PASSES = 10  # each transforms one place and reads the whole cell again


def without_magics(source: str) -> str:
    """What IPython would run, or the source as it is where that cannot be told with little work."""
    if len(source) > MAX_LENGTH:
        return source
    try:
        return str(_transformer().transform_cell(source))
    except Exception:  # whatever the transformer meets in a text that is not Python
        return source


def _transformer() -> Any:
    from IPython.core.inputtransformer2 import TransformerManager

    class Limited(TransformerManager):
        def do_token_transforms(self, lines: list[str]) -> list[str]:
            for _ in range(MAX_PASSES):
                changed, lines = self.do_one_token_transform(lines)
                if not changed:
                    break
            return lines

    return Limited()
