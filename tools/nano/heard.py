"""What the model said in one test conversation, and when."""

import itertools

import numpy as np
import torch
import wordings
from augment import amplitude
from dialogue import EPAD, FRAME_S, FRAME_SAMPLES, PAD
from testset import Case

import moshi_mlx

SOUND_DB = -42.0  # frames louder than this (RMS) are Moshi speaking
ANSWER_PAUSE_S = 1.0  # longer than between two words of an answer


class Heard:
    """What the model did in one case: pieces of text with the time at which they were known, and its codes."""

    def __init__(
        self,
        moshi: moshi_mlx.Moshi,
        codec: torch.nn.Module,
        case: Case,
        texts: np.ndarray,
        own: np.ndarray,
    ) -> None:
        self.codec, self.case, self.texts, self.own = codec, case, texts, own
        stream = moshi.tokenizer.stream((PAD, EPAD))
        pushed = [
            ((call + 1) * FRAME_S, stream.push(int(token))) for call, token in enumerate(texts)
        ]
        self.pieces = [(at, piece) for at, piece in pushed if piece]

    @property
    def text(self) -> str:
        return "".join(p for _, p in self.pieces).strip()

    @property
    def right(self) -> bool:
        return self.text == self.case.expected

    @property
    def early(self) -> bool:
        """Began while the user spoke."""
        return bool(self.pieces) and self.pieces[0][0] <= self.case.end_s

    def sound(self) -> np.ndarray:
        """float32: Moshi's side on the user's clock: own frame t is complete after call t + 1, and plays then."""
        with torch.inference_mode():
            pcm = self.codec.decode(torch.from_numpy(self.own[None].astype(np.int64)))[0, 0].numpy()
        return np.concatenate([np.zeros(2 * FRAME_SAMPLES, np.float32), pcm])

    def loud(self) -> np.ndarray:
        """bool per 10 ms; never in the first 0.5 s, where the decoder settles."""
        pcm = self.sound()
        blocks = pcm[: len(pcm) // 240 * 240].reshape(-1, 240)
        loud = np.sqrt((blocks**2).mean(1)) > amplitude(SOUND_DB)
        loud[:50] = False
        return loud


def goes_on(pieces: list[tuple[float, str]]) -> bool:
    """Is there more than the one answer: after a whole one, or after a pause that no rendition has?"""
    said = "".join(piece for _, piece in pieces).strip()
    if said in wordings.all_answers():
        return False
    times = [at for at, _ in pieces]
    waits = any(b - a > ANSWER_PAUSE_S for a, b in itertools.pairwise(times))
    return waits or any(said.startswith(a) for a in wordings.all_answers())


def latency(heard: list[Heard]) -> dict:
    """Seconds from the end of the question to the first sound, of the right answers."""
    waits = []
    for h in heard:
        if h.right:
            at = np.flatnonzero(h.loud())
            waits.append(at[0] / 100 - h.case.end_s if len(at) else np.inf)
    return (
        {
            "latency_p50_s": round(float(np.quantile(waits, 0.5)), 3),
            "latency_p90_s": round(float(np.quantile(waits, 0.9)), 3),
        }
        if waits
        else {}
    )
