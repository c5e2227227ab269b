"""The widgets of the lessons: anywidget, plain JavaScript, no network.

Importing this package loads none of them: each is loaded at first use, so that a lesson pays only for the
widgets it shows.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crosstalk.widgets.alignment import Alignment
    from crosstalk.widgets.attention_stages import AttentionStages
    from crosstalk.widgets.beam_tree import BeamTree
    from crosstalk.widgets.curve_doctor import CurveDoctor
    from crosstalk.widgets.decode_steps import DecodeSteps
    from crosstalk.widgets.exposure_lanes import ExposureLanes
    from crosstalk.widgets.factorisation import Factorisation
    from crosstalk.widgets.head_viewer import HeadViewer
    from crosstalk.widgets.label_smoothing import LabelSmoothing
    from crosstalk.widgets.mask_painter import MaskPainter
    from crosstalk.widgets.positions import Positions
    from crosstalk.widgets.predict import Predict
    from crosstalk.widgets.sampling_table import SamplingTable
    from crosstalk.widgets.teacher_forcing import TeacherForcing

__all__ = [
    "Alignment",
    "AttentionStages",
    "BeamTree",
    "CurveDoctor",
    "DecodeSteps",
    "ExposureLanes",
    "Factorisation",
    "HeadViewer",
    "LabelSmoothing",
    "MaskPainter",
    "Positions",
    "Predict",
    "SamplingTable",
    "TeacherForcing",
]

_MODULES = {
    "Alignment": "alignment",
    "AttentionStages": "attention_stages",
    "BeamTree": "beam_tree",
    "CurveDoctor": "curve_doctor",
    "DecodeSteps": "decode_steps",
    "ExposureLanes": "exposure_lanes",
    "Factorisation": "factorisation",
    "HeadViewer": "head_viewer",
    "LabelSmoothing": "label_smoothing",
    "MaskPainter": "mask_painter",
    "Positions": "positions",
    "Predict": "predict",
    "SamplingTable": "sampling_table",
    "TeacherForcing": "teacher_forcing",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"crosstalk.widgets has no {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f"crosstalk.widgets.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
