"""How each training of the bug clinic differs from a healthy one. Spoils the lesson for those who read it first."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from crosstalk.data.cmudict import END, LETTERS, PAD, PHONEMES, START
from crosstalk.data.word_batches import WordBatches
from crosstalk.layers import fused_attention, use_attention
from crosstalk.models import Size
from crosstalk.stand_ins.lesson_02 import causal_mask, padding_mask
from crosstalk.stand_ins.lesson_03 import Encoder, TokenEmbedding
from crosstalk.stand_ins.lesson_04 import Decoder, EncoderDecoder
from crosstalk.stand_ins.lesson_05 import shift_right, token_cross_entropy


class Training:
    """A healthy training; each fault below overrides one thing."""

    batches: WordBatches
    size = Size(d_model=96, heads=4, d_ff=256, encoder_layers=2, decoder_layers=2)
    faster = 1.0  # the learning rate, times the healthy one
    clears = True  # the gradients, before each backward

    def build(self) -> EncoderDecoder:
        """The model, freshly initialised; from one seed all patients get the same weights."""
        size = self.size
        layer = {"d_model": size.d_model, "heads": size.heads, "d_ff": size.d_ff}
        target_embedding = TokenEmbedding(len(PHONEMES), size.d_model, PAD)
        # Drawn and dropped: the numbers that follow are those of the run whose figures are shipped.
        nn.Linear(size.d_model, len(PHONEMES), bias=False)
        model = EncoderDecoder(
            TokenEmbedding(len(LETTERS), size.d_model, PAD),
            Encoder(size.encoder_layers, **layer),
            target_embedding,
            Decoder(size.decoder_layers, **layer),
            nn.Linear(size.d_model, len(PHONEMES)),
        )
        use_attention(model, fused_attention)
        return model

    def trained(self, model: EncoderDecoder) -> Iterable[nn.Parameter]:
        """The parameters that the optimiser is given."""
        return model.parameters()

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Source (batch, source) and target (batch, length) of a step."""
        return self.batches[step]

    def inputs(self, target: Tensor) -> Tensor:
        """What the decoder reads, (batch, length)."""
        return shift_right(target, START)

    def labels(self, target: Tensor) -> Tensor:
        """What it has to predict, (batch, length), PAD where nothing counts."""
        return target

    def logits(self, model: EncoderDecoder, source: Tensor, inputs: Tensor) -> Tensor:
        """(batch, source), (batch, length) → (batch, length, vocabulary)."""
        return model(source, inputs, padding_mask(source, PAD))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over real tokens."""
        return token_cross_entropy(logits, labels, PAD)


class NotShifted(Training):
    """The decoder reads the very tokens that it has to predict."""

    def inputs(self, target: Tensor) -> Tensor:
        return target


class LabelsShifted(Training):
    """The inputs are shifted to the right and the labels to the left: it predicts two ahead."""

    def labels(self, target: Tensor) -> Tensor:
        return nn.functional.pad(target[:, 1:], (0, 1), value=PAD)


class SoftmaxTwice(Training):
    """Probabilities go into a loss that takes logits."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return token_cross_entropy(logits.softmax(-1), labels, PAD)


class NeverCleared(Training):
    """No zero_grad: each step goes along the sum of all gradients so far."""

    clears = False


class EndIgnored(Training):
    """The end token is used for padding, so the loss ignores both."""

    def labels(self, target: Tensor) -> Tensor:
        return target.masked_fill(target == END, PAD)


class EncoderUnseen(Training):
    """The encoder's layers are in a plain list, so the optimiser never gets their weights."""

    def trained(self, model: EncoderDecoder) -> Iterable[nn.Parameter]:
        return [weight for name, weight in model.named_parameters() if not name.startswith("encoder.layers")]


class TornPairs(Training):
    """Words and pronunciations are shuffled separately."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        if not hasattr(self, "others"):
            self.others = torch.randperm(self.batches.per_epoch, generator=torch.Generator().manual_seed(1))
        other = int(self.others[step % self.batches.per_epoch])
        return self.batches[step][0], self.batches[other][1]


class NotCausal(Training):
    """The causal mask and that of the padding are joined by "or": each real token is seen by all."""

    def logits(self, model: EncoderDecoder, source: Tensor, inputs: Tensor) -> Tensor:
        visible, length = padding_mask(source, PAD), inputs.size(1)
        mask = causal_mask(length, length) | padding_mask(inputs, PAD)  # (batch, 1, length, length)
        memory = model.encode(source, visible)
        return model.generator(model.decoder(model.target_embedding(inputs), memory, mask, visible))


class MaskInverted(Training):
    """The source mask has True where the padding is."""

    def logits(self, model: EncoderDecoder, source: Tensor, inputs: Tensor) -> Tensor:
        return model(source, inputs, ~padding_mask(source, PAD))


class TooFast(Training):
    """The learning rate is far too high."""

    faster = 30.0


class WithoutPositions(TokenEmbedding):
    """Token vectors alone."""

    def forward(self, tokens: Tensor, start: int = 0) -> Tensor:
        return self.table(tokens) * self.table.embedding_dim**0.5


class NoPositions(Training):
    """Nothing tells the encoder where a letter stands."""

    def build(self) -> EncoderDecoder:
        model = super().build()
        model.source_embedding.__class__ = WithoutPositions
        return model


class OneBatch(Training):
    """The loader is begun anew at each step, so it always gives its first batch."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        return self.batches[0]


#: The healthy training and all faults, by the names that the lesson gives them.
FAULTS: dict[str, type[Training]] = {
    "healthy": Training,
    "input not shifted": NotShifted,
    "mask not causal": NotCausal,
    "labels shifted too": LabelsShifted,
    "softmax twice": SoftmaxTwice,
    "gradients never cleared": NeverCleared,
    "learning rate too high": TooFast,
    "end token ignored": EndIgnored,
    "torn pairs": TornPairs,
    "same batch again": OneBatch,
    "source mask inverted": MaskInverted,
    "no source positions": NoPositions,
    "encoder not trained": EncoderUnseen,
}

#: Who has what. X is the one that the lesson diagnoses itself.
PATIENTS = {
    "healthy": "healthy",
    "X": "labels shifted too",
    "A": "end token ignored",
    "B": "mask not causal",
    "C": "softmax twice",
    "D": "torn pairs",
    "E": "no source positions",
    "F": "same batch again",
}
