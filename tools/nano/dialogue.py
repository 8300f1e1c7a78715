"""Conversations: when who speaks, the user's sound track, Moshi's text tokens and spoken renditions frame by frame.

Frames are calls of `LMGen.step`: call s hears samples [1920 s, 1920 (s + 1)). Own frame t is decided at call t and
leaves the speaker one call later (acoustic delay).
"""

import math
from dataclasses import dataclass, field

import numpy as np
from augment import QUIET_DB, Scene, amplitude, noise, room
from engines import SAMPLE_RATE_HZ

FRAME_SAMPLES = 1920
FRAME_S = 0.08
PAD, EPAD = 3, 0
ANSWER_GAP_S = 0.18  # silence that is heard before the answer's first frame is decided
STOP_S = 0.32  # after the user's interruption Moshi goes on for this long
OWN_LEAD_S = 0.02  # the renditions begin with this much silence
ECHO_SHARE = 0.4  # of the conversations have Moshi's own voice in the microphone


@dataclass
class Turn:
    """A question and its answer; times in seconds of the conversation, frames of calls."""

    user: int  # index of the sentence in the corpus
    start_s: float
    end_s: float
    intent: int
    rendition: int
    answer_frame: int = 0
    answer_frames: int = 0  # spoken ones, less than the rendition has when interrupted


@dataclass
class Dialogue:
    """Turns over `frames` frames; the scene holds for all of it."""

    scene: Scene
    frames: int = 0
    turns: list[Turn] = field(default_factory=list)
    echo_db: float = QUIET_DB
    echo_delay_s: float = 0.0
    seed: int = 0


def plan(rng: np.random.Generator, users: list, corpus: tuple, own_frames: dict) -> Dialogue:
    """A conversation with the given sentences; the second of two, if any, may interrupt the first answer."""
    seconds, intents = corpus
    talk = Dialogue(Scene.draw(rng), seed=int(rng.integers(2**31)))
    if rng.random() < ECHO_SHARE:
        talk.echo_db, talk.echo_delay_s = float(rng.uniform(-26, -11)), float(rng.uniform(0.0, 0.3))
    clock = float(rng.uniform(0.3, 2.2))
    for position, user in enumerate(users):
        turn = Turn(user, clock, clock + seconds[user], intents[user], int(rng.integers(3)))
        turn.answer_frame = math.ceil((turn.end_s + ANSWER_GAP_S) / FRAME_S)
        turn.answer_frames = own_frames[turn.intent, turn.rendition]
        answer_end = (turn.answer_frame + turn.answer_frames) * FRAME_S
        last = position == len(users) - 1
        if last or rng.random() < 0.3:
            clock = answer_end + float(rng.uniform(0.3, 1.8))
        else:  # interrupted
            begin = (turn.answer_frame + 1) * FRAME_S
            clock = float(rng.uniform(begin + 0.3, max(begin + 0.4, answer_end - 0.35)))
            cut = int((clock + STOP_S) / FRAME_S) - turn.answer_frame
            turn.answer_frames = min(turn.answer_frames, max(2, cut))
        talk.turns.append(turn)
    talk.frames = math.ceil(clock / FRAME_S)
    return talk


def user_track(talk: Dialogue, waves: list[np.ndarray], own_sound: dict) -> np.ndarray:
    """float32 [frames * 1920]: what the microphone delivers. `own_sound` is what the decoder makes of Moshi's answers."""
    rng = np.random.default_rng(talk.seed)
    count = talk.frames * FRAME_SAMPLES
    voice, echo = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for turn in talk.turns:
        add(voice, waves[turn.user] / 32767.0, round(turn.start_s * SAMPLE_RATE_HZ))
        if talk.echo_db > QUIET_DB:
            sound = own_sound[turn.intent, turn.rendition, turn.answer_frames]
            plays_s = (turn.answer_frame + 2) * FRAME_S  # complete after the next call
            add(echo, sound, round((plays_s + talk.echo_delay_s) * SAMPLE_RATE_HZ))
    if talk.turns:
        voice = room(voice, talk.scene, rng) * amplitude(talk.scene.peak_db)
    if np.abs(echo).max() > 0:
        echo = room(echo, talk.scene, rng) * (0.5 * amplitude(talk.echo_db))
    return np.clip(
        voice + echo + noise(count, talk.scene.noise_kind, talk.scene.noise_db, rng), -1, 1
    ).astype(np.float32)


def add(track: np.ndarray, sound: np.ndarray, start: int) -> None:
    """Mixes sound into track, cut at its end."""
    stop = min(len(track), start + len(sound))
    if start < stop:
        track[start:stop] += sound[: stop - start]


def text_tokens(talk: Dialogue, words: dict, encode) -> tuple[np.ndarray, np.ndarray]:
    """-> text int64 [frames], and 1 where a token is the first of an answer.

    A word's tokens begin in the frame where it is spoken, EPAD stands before it where there is room.
    """
    text, first = np.full(talk.frames, PAD, np.int64), np.zeros(talk.frames, np.int64)
    for turn in talk.turns:
        end, free = min(talk.frames, turn.answer_frame + turn.answer_frames), turn.answer_frame
        for index, (word, seconds) in enumerate(words[turn.intent, turn.rendition]):
            tokens = encode(word)
            at = max(free, turn.answer_frame + int((seconds + OWN_LEAD_S) / FRAME_S))
            if at + (1 if index else 0) > end:
                break
            if at > 0 and text[at - 1] == PAD:
                text[at - 1] = EPAD
            tokens = tokens[: max(0, end - at)]
            text[at : at + len(tokens)] = tokens
            if index == 0:
                first[at : at + len(tokens)] = 1
            free = at + len(tokens)
    return text, first
