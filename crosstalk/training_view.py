"""What a training shows while it runs: in a notebook a bar, the curve and what the model says; elsewhere lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from typing import Any

from crosstalk.metrics import pronounce
from crosstalk.training_log import TrainingLog

EVERY = 1.0  # seconds between two pictures
SAMPLES = 8  # times that the words are said in a whole training


class TrainingView:
    """The picture of a training.

    Args:
        log: what is drawn; what the model says is added to it.
        model: an EncoderDecoder.
        words: that it says.
    """

    def __init__(self, log: TrainingLog, model: Any, words: Sequence[str]) -> None:
        self.log, self.model, self.words = log, model, words
        self._begin, self._first = time.monotonic(), log.step
        self._drawn = 0.0
        self._handle = _notebook_display()

    def update(self) -> None:
        """After each step: let the model speak where it is time, and draw where the last picture is old."""
        step, stretch = self.log.step, max(1, self.log.steps // SAMPLES)
        if self.words and (step % stretch == 0 or step == self.log.steps):
            self._speak()
            if not self._handle:
                print(self._line())
        if self._handle and time.monotonic() - self._drawn > EVERY:
            self._draw(self._line())

    def end(self, stopped: bool) -> None:
        """The last picture, which stays in the notebook."""
        line = f"{self.log!r}. Stopped: run the cell again to go on." if stopped else f"{self.log!r}. Done."
        if self._handle:
            self._draw(line)
        elif stopped:
            print(line)

    def _speak(self) -> None:
        self.model.eval()
        said = pronounce(self.model, list(self.words))
        self.model.train()
        self.log.said[self.log.step] = dict(zip(self.words, map(" ".join, said), strict=True))

    def _line(self) -> str:
        seconds = time.monotonic() - self._begin
        rate = (self.log.step - self._first) / max(seconds, 1e-9)
        left = (self.log.steps - self.log.step) / max(rate, 1e-9)
        return f"{self.log!r} · {rate:.1f} steps/s · {left // 60:.0f} min {left % 60:.0f} s left"

    def _draw(self, line: str) -> None:
        from IPython.display import HTML

        bar = f'<progress value="{self.log.step}" max="{self.log.steps}" style="width:100%"></progress>'
        self._handle.update(HTML(f"<div>{bar}<div>{escape(line)}</div>{self.log._repr_html_()}</div>"))
        self._drawn = time.monotonic()


def _notebook_display() -> Any:
    """A display of a notebook that can be drawn anew, or None elsewhere."""
    try:
        from IPython import get_ipython
        from IPython.display import HTML, display
    except ImportError:
        return None
    if not hasattr(get_ipython(), "kernel"):
        return None
    return display(HTML(""), display_id=True)
