"""Evaluates a model folder through moshi_mlx, frame by frame, and writes the figures as JSON.

PYTHONPATH=../.. python evaluate.py --model ../../moshi_mlx/nano --out figures.json --seed 90210 [--count 200] [--only known,quiet]
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import listen
import numpy as np
import torch
import wordings
from augment import NOISE_KINDS, amplitude
from batch import converse, torch_codec, torch_lm
from dialogue import FRAME_S, FRAME_SAMPLES
from heard import Heard, goes_on, latency
from lm_encode import batched
from testset import Case, TestSet

import moshi_mlx

BATCH = 48
ECHO_DELAY_SAMPLES = 2880  # 120 ms
GREEDY = {"text_temperature": 0.0, "audio_temperature": 0.0}


def share(values: Iterable[bool]) -> float:
    return round(float(np.mean(list(values))), 4)


class Evaluation:
    def __init__(self, model: Path, seed: int, count: int) -> None:
        torch.set_num_threads(1)
        self.moshi = moshi_mlx.load(model, codec="mlx")
        self.codec, self.lm = torch_codec(model), torch_lm(model)
        self.tests, self.count, self.seed = TestSet(seed), count, seed
        self.started: list[bool] = []  # early, of every spoken case
        self.misses: list[dict] = []

    def hold(self, cases: list[Case], sampling: dict | None = None) -> list[Heard]:
        """All cases, cases of like length together."""
        order = sorted(range(len(cases)), key=lambda i: len(cases[i].track))
        out: dict[int, Heard] = {}
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            codes = batched(
                self.codec, [cases[i].track[FRAME_SAMPLES:] for i in chosen]
            )  # call 0 is never encoded
            talks = converse(self.lm, codes, sampling, self.seed + start)
            out |= {
                i: Heard(self.moshi, self.codec, cases[i], *talk)
                for i, talk in zip(chosen, talks, strict=True)
            }
        return [out[i] for i in range(len(cases))]

    def run(self, cases: list[Case], what: str, sampling: dict | None = None) -> list[Heard]:
        out = self.hold(cases, sampling)
        self.misses += [
            {"what": what, "question": h.case.question, "voice": h.case.voice, "said": h.text, "expected": h.case.expected}
            for h in out if not h.right
        ]  # fmt: skip
        if cases[0].voice:
            self.started += [h.early for h in out]
        return out

    def same(self, heard: list[Heard]) -> int:
        """How many of the conversations moshi_mlx holds word for word like PyTorch, from the sound on."""
        count = 0
        for h in heard:
            codes = self.moshi.codec.encode(h.case.track[FRAME_SAMPLES:])
            generator = self.moshi.lm.generator(seed=0, **GREEDY)
            user = np.concatenate([np.zeros((8, 1), np.int32), codes], 1)
            texts = [generator.step(user[:, call]).text_token for call in range(user.shape[1])]
            count += texts == h.texts.tolist()
        return count

    def known(self) -> dict:
        cases = self.tests.known(self.count, "espeak")
        heard = self.run(cases, "unseen espeak")
        settings = self.moshi.config.sampling
        options = {"temp": settings.audio_temperature, "temp_text": settings.text_temperature}
        options |= {"top_k": settings.audio_top_k, "top_k_text": settings.text_top_k}
        sampled = self.run(cases, "sampled", options)
        checked = heard[: min(20, len(heard))]
        return {
            "unseen_espeak": share(h.right for h in heard),
            "sampled": share(h.right for h in sampled),
            "mlx_same_words": self.same(checked),
            "mlx_compared": len(checked),
        } | latency(heard)

    def engine(self) -> dict:
        return {
            "unseen_engine": share(
                h.right for h in self.run(self.tests.known(self.count, "other"), "unseen engine")
            )
        }

    def wording(self) -> dict:
        return {
            "held_wordings": share(
                h.right for h in self.run(self.tests.known(self.count, "espeak", True), "wording")
            )
        }

    def quiet(self) -> dict:
        return {"quiet": share(h.right for h in self.run(self.tests.quiet(self.count), "quiet"))}

    def unknown(self) -> dict:
        return {
            "unknown": share(h.right for h in self.run(self.tests.unknown(self.count), "unknown"))
        }

    def silence(self) -> dict:
        kinds = [(-120.0, "white")] + [(-40.0, k) for k in NOISE_KINDS]
        heard = self.run([self.tests.nothing(60, db, kind) for db, kind in kinds], "nothing")
        return {"words_in_silence_and_noise": sum(len(h.text.split()) for h in heard)}

    def barge(self) -> dict:
        answer_s = {a["answer"]: 0.36 * len(a["answer"].split()) for a in wordings.load_answers()}
        cases = self.tests.barge_in(max(20, self.count // 2), answer_s)
        heard = self.run(cases, "barge-in")
        stopped, second = [], []
        for h in heard:
            loud = h.loud()
            at = round(h.case.again_s * 100)
            if loud[max(0, at - 30) : at + 5].any():  # it was speaking
                stopped.append(not loud[at + 60 : at + 80].any())
                later = "".join(p for t, p in h.pieces if t > h.case.again_s + 0.6).strip()
                second.append(later == h.case.then)
        return {
            "barge_in_stops": share(stopped),
            "barge_in_n": len(stopped),
            "barge_in_then_right": share(second),
        }

    def echo(self) -> dict:
        """Its own voice at -14 dB, 120 ms late, through a session: nothing but the answer may be said."""
        whole, itself = [], []
        for case in self.tests.known(max(4, self.count // 2), "espeak"):
            pieces = self.with_echo(np.append(case.track, np.zeros(25 * FRAME_SAMPLES, np.float32)))
            said = "".join(piece for _, piece in pieces).strip()
            whole.append(said in wordings.all_answers())
            itself.append(goes_on(pieces))
            if not whole[-1]:
                self.misses.append(
                    {"what": "echo", "question": case.question, "voice": case.voice, "said": said, "expected": case.expected}
                )  # fmt: skip
        figures = {"echo_one_answer": share(whole), "echo_answers_itself": int(sum(itself))}
        return figures | {"echo_n": len(whole)}

    def with_echo(self, track: np.ndarray) -> list[tuple[float, str]]:
        """What is said, with the time when it was known."""
        own, pieces = np.zeros(len(track) + 2 * FRAME_SAMPLES, np.float32), []
        with self.moshi.session(seed=0, **GREEDY) as session:
            for call in range(len(track) // FRAME_SAMPLES):
                a = call * FRAME_SAMPLES
                late = max(0, a - ECHO_DELAY_SAMPLES)
                echo = own[late : late + FRAME_SAMPLES] if a >= ECHO_DELAY_SAMPLES else 0.0
                reply = session.step(track[a : a + FRAME_SAMPLES] + amplitude(-14) * echo)
                if reply.text:
                    pieces.append(((call + 1) * FRAME_S, reply.text))
                if reply.pcm is not None:
                    own[a + FRAME_SAMPLES : a + 2 * FRAME_SAMPLES] = reply.pcm
        return pieces

    def speech(self) -> dict:
        """What a recognizer hears in the spoken answers, and the pitch against the original voice."""
        entries = [
            *wordings.load_answers(),
            {"answer": wordings.fallback(), "questions": ["the soup tastes salty"]},
        ]
        asked = [(q, e["answer"]) for e in entries for q in (e["questions"] * 3)[:3]]
        cases = [self.tests.case(q, a, "espeak", self.tests.normal_scene()) for q, a in asked]
        heard = self.hold(cases)
        spoken = {
            h.case.expected: h.sound()[round(h.case.end_s * 24_000) :] for h in heard if h.right
        }
        return listen.intelligibility(spoken, wordings.all_answers()) | listen.pitch(
            self.moshi, self.tests.speakers
        )


PARTS: dict[str, Callable[[Evaluation], dict]] = {
    name: getattr(Evaluation, name)
    for name in (
        "known",
        "engine",
        "wording",
        "quiet",
        "unknown",
        "silence",
        "barge",
        "echo",
        "speech",
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--only", default=",".join(PARTS))
    args = parser.parse_args()
    evaluation, figures = Evaluation(args.model, args.seed, args.count), {}
    for name in args.only.split(","):
        started = time.time()
        figures |= PARTS[name](evaluation)
        figures |= {
            "early_starts": int(sum(evaluation.started)),
            "spoken_cases": len(evaluation.started),
        }
        print(f"{name}: {time.time() - started:.0f} s {json.dumps(figures)}", flush=True)
        size = sum(p.stat().st_size for p in args.model.rglob("*") if p.is_file())
        figures |= {"size_bytes": size, "seed": args.seed, "count": args.count}
        args.out.write_text(json.dumps(figures | {"misses": evaluation.misses}, indent=1))


if __name__ == "__main__":
    main()
