"""Train models with teacher forcing and with scheduled sampling, to be compared: the trainings alone.

Each finished training stands at once in ``work/training/exposure_bias``, so that a run that is stopped loses one
training at most.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from crosstalk.data import cmudict
from crosstalk.data.exposure_bias_steps import SampledStep
from crosstalk.data.word_batches import WordBatches
from crosstalk.models import word_model
from crosstalk.places import work_folder, write_atomically
from crosstalk.stand_ins.lesson_04 import EncoderDecoder
from crosstalk.stand_ins.lesson_05 import train_step
from crosstalk.training import train

STEPS, BATCH, SEEDS = 1200, 128, (0, 1, 2)


@dataclass(frozen=True)
class Way:
    """A way to train.

    Attributes:
        name: how it is called in the record.
        steps: of `BATCH` words each.
        share: of the decoder's inputs that are the model's own in the last steps; 0 is teacher forcing.
    """

    name: str
    steps: int
    share: float


#: The second teacher forcing has about the seconds that two passes take; the others have the same number of steps.
WAYS = (
    Way("teacher forcing", STEPS, 0.0),
    Way("scheduled sampling to 0.25", STEPS, 0.25),
    Way("scheduled sampling to 0.5", STEPS, 0.5),
    Way("teacher forcing, as many seconds", STEPS * 5 // 4, 0.0),
)


@dataclass(frozen=True)
class Trained:
    """What came of one training.

    Attributes:
        model: in evaluation mode.
        seconds: of this process on its core, so that other work on the machine counts little.
        loss: mean of the last 50 steps, in nats per token, on the inputs that were trained on.
    """

    model: EncoderDecoder
    seconds: float
    loss: float


def trained(way: Way, seed: int, batches: WordBatches) -> Trained:
    """Train, or take what an earlier run has left."""
    file = model_file(way, seed)
    torch.manual_seed(seed)
    model = word_model(own=False)
    if not file.is_file():
        step = SampledStep(way.steps, way.share, seed) if way.share else train_step
        begun = time.process_time()
        log = train(model, batches, way.steps, step, words=(), device=torch.device("cpu"))
        left = {"seconds": time.process_time() - begun, "loss": sum(log.losses[-50:]) / 50}
        write_atomically(file, save(model.state_dict(), {"left": json.dumps(left)}))
    with safe_open(file, framework="pt") as opened:
        left = json.loads(opened.metadata()["left"])
        model.load_state_dict({key: opened.get_tensor(key) for key in opened.keys()})  # noqa: SIM118 - no mapping
    return Trained(model.eval(), **left)


def model_file(way: Way, seed: int) -> Path:
    """Where a trained model is kept."""
    return work_folder() / "training" / "exposure_bias" / f"{way.name.replace(' ', '-')}-{seed}.safetensors"


def batches_of(seed: int) -> WordBatches:
    """The batches of one seed, the same for each way to train: the train part of the split by family."""
    return WordBatches(cmudict.load("train"), BATCH, seed)
