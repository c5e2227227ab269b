"""What every widget shares: its JavaScript and CSS, and what is shown where there is no kernel."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets

from crosstalk.places import assets_folder

_FOLDER = Path(__file__).parent


def still_path(name: str) -> Path:
    """Where the still picture of the widget called ``name`` lies (it may not have been made yet)."""
    return assets_folder() / "figures" / "stills" / f"{name}.png"


def _shared_and_own(name: str, kind: str) -> str:
    return "\n".join((_FOLDER / f"{part}.{kind}").read_text("utf-8") for part in ("common", name))


class CourseWidget(anywidget.AnyWidget):
    """A widget made of ``common.js`` + ``NAME.js`` and ``common.css`` + ``NAME.css``.

    ``results`` is what Python found out, as JSON; ``numbers`` holds its arrays as raw bytes, laid out as
    ``results["arrays"]`` says (see packing.py). Both travel in one message.
    """

    name: ClassVar[str]

    results = traitlets.Dict().tag(sync=True)
    numbers = traitlets.Bytes(b"").tag(sync=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # anywidget makes a subclass of its own for each instance; only ours name a script.
        if "name" in cls.__dict__:
            # An import in a widget's module would have to be fetched from somewhere, so the shared part is
            # put in front of each widget's own text.
            cls._esm, cls._css = (_shared_and_own(cls.name, kind) for kind in ("js", "css"))
        super().__init_subclass__(**kwargs)

    def describe(self) -> str:
        """The widget in words, for where it cannot be drawn."""
        raise NotImplementedError

    def _send_results(self, results: dict[str, Any], numbers: bytes = b"") -> None:
        with self.hold_sync():
            self.results = results
            self.numbers = numbers

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        data["text/plain"] = self.describe()
        picture = still_path(self.name)
        if self._still_is_honest() and picture.is_file():
            data["image/png"] = base64.b64encode(picture.read_bytes()).decode("ascii")
        return data, metadata

    def _still_is_honest(self) -> bool:
        """Whether the still picture shows this widget and not only one like it (a question does not)."""
        return True
