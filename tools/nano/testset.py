"""The test conversations: sound tracks of questions that nobody trained on, made with a seed that tuning never used."""

import random
from dataclasses import dataclass, field

import numpy as np
import wordings
from augment import QUIET_DB, Scene, amplitude, noise, room
from dialogue import FRAME_SAMPLES, add
from engines import SAMPLE_RATE_HZ
from voices import Speakers

LEAD_S, TAIL_S = 0.8, 4.2
SPEECH_DB = -40.0  # relative to the peak: where a question ends


@dataclass
class Case:
    """One track [frames * 1920] and what Moshi should say to it."""

    track: np.ndarray
    expected: str
    question: str
    voice: str
    end_s: float
    again_s: float = 0.0  # when the user speaks over the answer
    then: str = ""  # what is to be said after that
    facts: dict = field(default_factory=dict)


def speech_end_s(pcm: np.ndarray) -> float:
    loud = np.flatnonzero(np.abs(pcm) > amplitude(SPEECH_DB) * np.abs(pcm).max())
    return (loud[-1] + 1) / SAMPLE_RATE_HZ


class TestSet:
    """Draws cases; `seed` is 1 while tuning and another for the figures that are published."""

    __test__ = False  # no pytest class

    def __init__(self, seed: int) -> None:
        self.rng, self.numpy = random.Random(seed), np.random.default_rng(seed)
        self.speakers = Speakers()
        self.answers = wordings.load_answers()

    def question(self, held_wording: bool = False) -> tuple[str, str]:
        entry = self.rng.choice(self.answers)
        return self.rng.choice(entry["held" if held_wording else "questions"]), entry["answer"]

    def case(self, text: str, answer: str, engine: str, scene: Scene) -> Case:
        speak = {"espeak": self.speakers.unseen_espeak, "other": self.speakers.unseen_engine}[
            engine
        ]
        utterance, voice = speak(text, self.rng)
        start = round((LEAD_S + self.rng.random() * 0.6) * SAMPLE_RATE_HZ)
        end_s = start / SAMPLE_RATE_HZ + speech_end_s(utterance.pcm)
        frames = int((end_s + TAIL_S) * SAMPLE_RATE_HZ) // FRAME_SAMPLES
        voice_track = np.zeros(frames * FRAME_SAMPLES, np.float32)
        add(voice_track, utterance.pcm, start)
        track = room(voice_track, scene, self.numpy) * amplitude(scene.peak_db)
        track += noise(len(track), scene.noise_kind, scene.noise_db, self.numpy)
        return Case(track.astype(np.float32), answer, text, voice, end_s)

    def normal_scene(self) -> Scene:
        return Scene(self.rng.uniform(-9, -3), self.rng.uniform(-75, -60), "pink")

    def known(self, count: int, engine: str, held_wording: bool = False) -> list[Case]:
        drawn = [self.question(held_wording) for _ in range(count)]
        return [self.case(q, a, engine, self.normal_scene()) for q, a in drawn]

    def quiet(self, count: int) -> list[Case]:
        drawn = [self.question() for _ in range(count)]
        scenes = [Scene(self.rng.uniform(-30, -18), -75, "pink") for _ in drawn]
        return [self.case(q, a, "espeak", s) for (q, a), s in zip(drawn, scenes, strict=True)]

    def unknown(self, count: int) -> list[Case]:
        texts = [wordings.TEST_UNKNOWN[i % len(wordings.TEST_UNKNOWN)] for i in range(count)]
        return [self.case(t, wordings.fallback(), "espeak", self.normal_scene()) for t in texts]

    def barge_in(self, count: int, answer_s: dict[str, float]) -> list[Case]:
        """A long answer is interrupted 0.9 s after it began by another question."""
        cases = []
        long = [a for a in self.answers if answer_s[a["answer"]] > 1.9]
        for _ in range(count):
            entry = self.rng.choice(long)
            first = self.case(
                self.rng.choice(entry["questions"]), entry["answer"], "espeak", self.normal_scene()
            )
            text, answer = self.question()
            again_s = first.end_s + 0.45 + 0.9
            second = self.case(text, answer, "espeak", self.normal_scene())
            begin = round(again_s * SAMPLE_RATE_HZ)
            onset = np.flatnonzero(np.abs(second.track) > 0.05)[0]
            part = second.track[onset:]
            length = (begin + len(part)) // FRAME_SAMPLES * FRAME_SAMPLES
            track = np.zeros(length, np.float32)
            track[:begin] = first.track[:begin]
            add(track, part, begin)
            end_s = second.end_s - onset / SAMPLE_RATE_HZ + again_s
            cases.append(
                Case(
                    track,
                    first.expected,
                    first.question,
                    first.voice,
                    first.end_s,
                    again_s,
                    answer,
                    {"end_s": end_s},
                )
            )
        return cases

    def nothing(self, seconds: float, noise_db: float = QUIET_DB, kind: str = "white") -> Case:
        """Silence or noise; nothing is to be said."""
        count = round(seconds / 0.08) * FRAME_SAMPLES
        track = noise(count, kind, noise_db, self.numpy)
        return Case(
            track, "", f"{kind} {noise_db:g} dB" if noise_db > QUIET_DB else "silence", "", seconds
        )
