"""What a model sees in conversations: whole token sequences, for teacher forcing.

`read_material` makes them from a folder of recordings (the user's voice; the model itself answers)
or reads stored codes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from moshi_mlx.audio.file import read_mono
from moshi_mlx.clock import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE_HZ
from moshi_mlx.config.lm_config import NO_INPUT, LmConfig
from moshi_mlx.errors import MoshiError
from moshi_mlx.lm.model import check_codes
from moshi_mlx.lm.sampling import SamplingOptions
from moshi_mlx.moshi import Moshi
from moshi_mlx.tensor_files.reading import read_safetensors

from ..errors import QuantizeError

SOUND = (".wav", ".flac", ".mp3")
STORED = (".npz", ".npy", ".safetensors")
MIN_FRAMES = 8  # 0.64 s: below it there is nothing to learn from
TAIL_SECONDS = 3.0  # silence after a recording: the model's answer belongs to the material


@dataclass(frozen=True)
class Sequence:
    """One conversation. `codes`: int32 [1 + n_q, frames], what `Lm.forward` takes (with a batch
    axis before): the text tokens, the model's own codebooks, the user's; delays undone."""

    name: str
    codes: np.ndarray

    @property
    def frames(self) -> int:
        return self.codes.shape[1]


def read_material(
    folder: Path, config: LmConfig, talker: Callable[[], Moshi], seed: int = 0
) -> list[Sequence]:
    """All sequences of a folder, in the order of its file names.

    Recordings (wav, flac, mp3; any rate) are the user's side: the model that `talker` returns
    (called for recordings only) encodes them with its Mimi and answers, sampled with `seed` as its
    config says, for 3 s longer than the recording. Stored codes are integer arrays
    [1 + n_q, frames] as in `Sequence`: one in a .npy file, any number in .npz and .safetensors.
    Raises QuantizeError or AudioError, naming the file: for an empty folder, what can't be read,
    codes of another shape or range, less than MIN_FRAMES frames.
    """
    paths = _files(folder)
    found: list[Sequence] = []
    recordings = [path for path in paths if path.suffix.lower() in SOUND]
    sounds = {path: _heard(path) for path in recordings}  # what is bad is told before the work
    moshi = _talker(talker, config) if recordings else None
    for path in paths:
        if moshi is not None and path in sounds:
            found.append(Sequence(path.name, talk(moshi, sounds.pop(path), seed)))
        else:
            found += _stored(path, config)
    return found


def check_material(folder: Path, config: LmConfig) -> None:
    """Reads all of a folder as `read_material` would, and raises what it would, at once."""
    for path in _files(folder):
        if path.suffix.lower() in SOUND:
            _heard(path)
        else:
            _stored(path, config)


def talk(
    moshi: Moshi, pcm: np.ndarray, seed: int = 0, **sampling: Unpack[SamplingOptions]
) -> np.ndarray:
    """A user's recording, float32 [samples] -> both sides as codes, int32 [1 + n_q, frames].

    `sampling`: as in LmGenerator, where the config's shall not hold. Frame t of the user is heard
    in call t + 1; the own codes of frame t are sampled in call t + delay (`delay_line`).
    """
    config = moshi.config
    tail = np.zeros(round(TAIL_SECONDS * SAMPLE_RATE_HZ), np.float32)
    user = moshi.codec.encode(np.concatenate([pcm, tail]))[: config.user_q]
    frames, own = user.shape[1], 1 + config.dep_q
    codes = np.full((1 + config.n_q, frames), NO_INPUT, np.int32)
    codes[own:] = user
    silent = np.full(config.user_q, NO_INPUT, np.int32)
    generator = moshi.lm.generator(seed=seed, **sampling)
    for call in range(frames + config.max_delay):
        heard = user[:, call - 1] if 0 < call <= frames else silent
        step = generator.step(heard)
        for k, token in enumerate((step.text_token, *step.sampled)):
            if 0 <= (t := call - config.delays[k]) < frames:
                codes[k, t] = token
    return codes


def _files(folder: Path) -> list[Path]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SOUND + STORED)
    except OSError as error:
        raise QuantizeError(
            f"{folder} can't be read as a folder of recordings: {error.strerror}"
        ) from None
    if not paths:
        raise QuantizeError(
            f"{folder} holds no recordings ({', '.join(SOUND)}) and no stored codes "
            f"({', '.join(STORED)})"
        )
    return paths


def _talker(talker: Callable[[], Moshi], config: LmConfig) -> Moshi:
    moshi = talker()
    if not config.user_q:
        raise QuantizeError("this model hears nothing: give stored codes instead of recordings")
    asked = (config.n_q, config.dep_q, config.delays, config.card, config.text_card)
    there = moshi.config
    if asked != (there.n_q, there.dep_q, there.delays, there.card, there.text_card):
        raise QuantizeError(f"{moshi.folder} has other tokens than the model: it can't talk for it")
    return moshi


def _heard(path: Path) -> np.ndarray:
    pcm = read_mono(path)
    if len(pcm) < MIN_FRAMES * FRAME_SAMPLES:
        raise QuantizeError(
            f"{path} lasts {len(pcm) / SAMPLE_RATE_HZ:.2f} s: at least "
            f"{MIN_FRAMES * FRAME_SECONDS:.2f} s are needed"
        )
    return pcm


def _stored(path: Path, config: LmConfig) -> list[Sequence]:
    try:
        arrays = _arrays(path)
    except Exception as error:  # numpy, zipfile and MLX each have their own
        raise QuantizeError(
            f"{path} can't be read as stored codes: {' '.join(str(error).split())}"
        ) from error
    if not arrays:
        raise QuantizeError(f"{path} holds no codes")
    return [Sequence(name, _checked(name, codes, config)) for name, codes in arrays.items()]


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Name ("file" or "file: array") -> array."""
    if path.suffix == ".safetensors":
        arrays = {name: np.array(codes) for name, codes in read_safetensors(path).items()}
    else:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {str(path): loaded}
        arrays = dict(loaded)
    return {f"{path}: {name}": codes for name, codes in arrays.items()}


def _checked(name: str, codes: np.ndarray, config: LmConfig) -> np.ndarray:
    if codes.ndim != 2 or codes.shape[0] != 1 + config.n_q:
        raise QuantizeError(
            f"{name} has the shape {list(codes.shape)}; codes are [{1 + config.n_q}, frames]: "
            "text, own codebooks, the user's"
        )
    if codes.shape[1] < MIN_FRAMES:
        raise QuantizeError(f"{name} has {codes.shape[1]} frames; {MIN_FRAMES} are needed at least")
    try:
        return check_codes(codes[None], config)[0]
    except MoshiError as error:
        raise QuantizeError(f"{name}: {error}") from None
