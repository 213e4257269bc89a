"""A trained language model as the start of another model.

Dai & Le (2015, "Semi-supervised Sequence Learning") and Howard & Ruder (2018, "Universal Language Model
Fine-tuning for Text Classification"). Vocabulary, embedding and recurrent layers come from the language
model; a backward direction and all that lies above the recurrent layers starts afresh.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from penstock.data.vocabulary import PAD_ID, Vocabulary
from penstock.errors import InputError
from penstock.tasks.lm import codec
from penstock.tasks.lm.codec import Codec, Words
from penstock.tasks.lm.config import Config
from penstock.tasks.lm.model import LanguageModel
from penstock.training.config import Options, RecurrentOptions
from penstock.training.saved import read_model

Chosen = TypeVar("Chosen", bound=Options)


class Pretrained:
    """A saved language model that another model starts from.

    Args:
        folder: what `penstock train lm` wrote.

    Attributes:
        config: of the language model.

    Raises:
        InputError: the folder holds no language model, or one whose last layer has another size than the
            others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._saved = read_model(folder, task="lm")
        self.config = self._saved.parse_config(Config)
        config = self.config
        if config.tie and config.layers > 1 and _sizes(config) != (config.embedding_size, 0):
            raise InputError(
                f"--init-from {folder}: expected recurrent layers of one size, got {config.hidden_size} "
                f"units and, tied to the embedding, {config.embedding_size} in the last"
            )

    @cached_property
    def codec(self) -> Codec:
        """Text to the tokens of the language model."""
        return codec.load(self.config.level, self._saved.assets, self.folder)

    @property
    def words(self) -> Vocabulary:
        """The vocabulary of a language model of words.

        Raises:
            InputError: it is of another level.
        """
        if not isinstance(self.codec, Words):
            raise InputError(
                f"--init-from {self.folder}: expected a language model of words (--level word), got one of "
                f"level {self.config.level}"
            )
        return self.codec.vocabulary

    def take_over(self, config: Chosen, **more: Any) -> Chosen:
        """The configuration with the cell and the sizes of the language model, and what is named besides.

        Raises:
            InputError: one of these options was given, and is another.
        """
        shared = {*RecurrentOptions.model_fields, "embedding_size"} - {"bidirectional", "dropout"}
        taken = {name: getattr(self.config, name) for name in sorted(shared)}
        if self.config.tie:
            taken |= {"hidden_size": self.config.embedding_size, "projection_size": 0}
        for name, value in {**taken, **more}.items():
            given = getattr(config, name)
            if name in config.model_fields_set and given != value:
                raise InputError(
                    f"--{name.replace('_', '-')} {given}: the language model {self.folder} has {value}; "
                    "leave the option out to take that over"
                )
        return config.model_copy(update={**taken, **more})

    def start(self, embedding: nn.Embedding, recurrent: nn.RNNBase) -> None:
        """Put the weights of the language model into an embedding and a recurrent stack of its sizes.

        Inputs of a layer that the language model did not have (numbers beside the embedding, a backward
        direction below) get zero weights, so that at first the stack computes what the language model does.
        """
        model = self._saved.build(LanguageModel, self.config)
        embedding.weight.data.copy_(model.embedding.weight)
        embedding.weight.data[PAD_ID] = 0.0
        for layer in range(recurrent.num_layers):
            for name, weight in model.get_submodule(f"recurrent{layer + 1}").named_parameters():
                target = recurrent.get_parameter(name.replace("_l0", f"_l{layer}")).data
                target.zero_()[..., : weight.shape[-1]] = weight.detach()


def _sizes(config: Config) -> tuple[int, int]:
    return config.hidden_size, config.projection_size
