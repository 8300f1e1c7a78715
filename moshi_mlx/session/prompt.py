"""What talks begin with: a persona's text and voice, or tokens, heard in one pass."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..codec.interface import Codec
from ..config.lm_config import LmConfig
from ..config.model_files import model_name
from ..errors import MoshiError
from ..lm.state.prompting import PromptTokens, persona_inputs
from ..persona.choice import chosen_voice
from ..persona.prompt import tagged
from ..text.tokenizer import TextTokenizer

PERSONAPLEX = "personaplex"  # the model_type of its configs


def persona_heard(
    text: str,
    voice: str | Path | np.ndarray | None,
    constants: tuple[Sequence[int] | np.ndarray, Sequence[int] | np.ndarray],
    *,
    config: LmConfig,
    tokenizer: TextTokenizer,
    codec: Codec,
    folder: Path,
) -> PromptTokens:
    """A persona as `Moshi.prompt` takes it -> what its model is to hear.

    constants: codes [dep_q] of its own silence and of the user's sine. Raises MoshiError, for a
    model that takes no persona too.
    """
    check_persona(config, folder)
    ids = tokenizer.encode(tagged(text))
    with chosen_voice(voice, folder, codec, config.dep_q, model_name(folder)) as chosen:
        return persona_inputs(ids, chosen, *constants, config)


def given_tokens(tokens: np.ndarray, text: str, voice: object) -> PromptTokens:
    """Tokens int [T, 1 + n_q]. Raises MoshiError where there is a text or a voice, too."""
    if text or voice is not None:
        raise MoshiError("a prompt is tokens, or a text and a voice; give one of both")
    return PromptTokens(np.asarray(tokens))


def title_of(text: str, voice: object) -> str:
    """What a prompt says, for people: one line."""
    title = " ".join(text.split())[:200]
    return f"{Path(voice).stem}: {title}" if isinstance(voice, str | Path) else title


def check_persona(config: LmConfig, folder: Path) -> None:
    """MoshiError for a model that wasn't trained to be told who it is."""
    if config.model_type != PERSONAPLEX:
        raise MoshiError(
            f"{model_name(folder)} takes no persona: it wasn't trained with one; load PersonaPlex, "
            "or give a prompt as tokens"
        )
