"""Helium's tokenizer as mlx-lm's tools want one: the methods of transformers' tokenizers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config.model_files import part_path
from ..config.reading import read_config
from ..errors import MoshiError
from ..text.tokenizer import Tokenizer, load_tokenizer
from .config import HeliumConfig


class HeliumTokenizer:
    """Text to ids, the start token first, and back; there is no chat template."""

    chat_template = None

    def __init__(self, tokenizer: Tokenizer, config: HeliumConfig) -> None:
        self._tokenizer = tokenizer
        self.bos_token_id = config.bos_token_id
        self.eos_token_ids = config.eos_token_ids
        self.eos_token_id = config.eos_token_ids[0] if config.eos_token_ids else None
        self.bos_token = tokenizer.piece(self.bos_token_id)

    def __len__(self) -> int:
        return len(self._tokenizer)

    def __repr__(self) -> str:
        return f"<HeliumTokenizer of {len(self)} pieces>"

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text, behind the start token."""
        start = [self.bos_token_id] if add_special_tokens else []
        return [*start, *self._tokenizer.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without control tokens and ids that have no piece."""
        return self._tokenizer.decode([int(one) for one in ids if 0 <= one < len(self)])

    def get_vocab(self) -> dict[str, int]:
        """Every piece and its id."""
        return {self._tokenizer.piece(one): one for one in range(len(self))}

    def convert_tokens_to_ids(self, piece: str) -> int | None:
        """The id of a piece, None for one that there isn't."""
        return self.get_vocab().get(piece)

    def apply_chat_template(self, *_: Any, **__: Any) -> str:
        """Raises MoshiError: Helium goes on with a text, it was trained for no dialogue."""
        raise MoshiError("Helium has no chat template: give it a text to go on with")


def tokenizer_of(folder: Path, config: HeliumConfig) -> Any:
    """The tokenizer in a model's folder, wrapped for mlx-lm. Raises WeightsError without one."""
    from mlx_lm.tokenizer_utils import TokenizerWrapper

    raw = read_config(folder) if (folder / "config.json").exists() else {}
    plain = HeliumTokenizer(load_tokenizer(part_path(folder, raw, "tokenizer")), config)
    return TokenizerWrapper(plain, eos_token_ids=config.eos_token_ids)
