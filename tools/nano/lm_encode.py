"""Encodes planned conversations with the codec into shards of codes and labels for the LM.

    python lm_encode.py --data DIR --codec mimi.safetensors --out codes --dialogues 6000 --seed 7

A shard `codes/{seed}.{n}.npz` holds, joined over conversations: `user`, `own` uint8 [8, F], `text`, `first` uint8 [F],
`phones` int8 [F, 2], `word` int16 [F], `intent` int8 [F] (-1: no label) and `offsets` [N + 1].
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import corpus
import numpy as np
import sentencepiece
import torch
from augment import QUIET_DB, Scene
from codec_train import build
from dialogue import FRAME_S, FRAME_SAMPLES, OWN_LEAD_S, Dialogue, plan, text_tokens, user_track
from engines import SAMPLE_RATE_HZ
from phones import grid_labels

OWN_LEAD, OWN_TAIL = 14, 16  # frames of the codec's way out of silence and back
SHARD = 250


def load_codec(path: Path) -> torch.nn.Module:
    """The codec as it ships: weights rounded to half precision."""
    codec, _ = build(path)
    codec.load_state_dict({k: v.half().float() for k, v in codec.state_dict().items()})
    return codec.eval()


@torch.inference_mode()
def encode(codec: torch.nn.Module, tracks: list[np.ndarray]) -> list[np.ndarray]:
    """Tracks of whole frames -> uint8 [8, frames] each."""
    longest = max(len(t) for t in tracks)
    batch = torch.zeros(len(tracks), 1, longest)
    for row, track in enumerate(tracks):
        batch[row, 0, : len(track)] = torch.from_numpy(track)
    codes = codec.encode(batch).to(torch.uint8).numpy()
    return [c[:, : len(t) // FRAME_SAMPLES] for c, t in zip(codes, tracks, strict=True)]


def batched(codec: torch.nn.Module, tracks: list[np.ndarray], size: int = 8) -> list[np.ndarray]:
    """As `encode`, tracks of like length together."""
    order = sorted(range(len(tracks)), key=lambda i: len(tracks[i]))
    out: list = [None] * len(tracks)
    for start in range(0, len(order), size):
        chunk = order[start : start + size]
        for index, codes in zip(chunk, encode(codec, [tracks[i] for i in chunk]), strict=True):
            out[index] = codes
    return out


class OwnVoice:
    """Moshi's renditions, whole and cut at any frame: sound, codes and decoded sound (by `prepare`) and words."""

    def __init__(self, folder: Path, codec: torch.nn.Module) -> None:
        self.codec = codec
        waves, meta = corpus.load(folder / "own.npz")
        self.waves = {
            (m["intent"], m["rendition"]): w / np.float32(32767)
            for w, m in zip(waves, meta, strict=True)
        }
        self.words = {(m["intent"], m["rendition"]): m["words"] for m in meta}
        seconds = {k: OWN_LEAD_S + len(w) / SAMPLE_RATE_HZ for k, w in self.waves.items()}
        self.frames = {k: math.ceil(s / FRAME_S) for k, s in seconds.items()}
        self.codes: dict = {}
        self.decoded: dict = {}
        self.silence = encode(codec, [np.zeros(60 * FRAME_SAMPLES, np.float32)])[0][:, -1]

    def sound(self, key: tuple[int, int, int]) -> np.ndarray:
        """The first key[2] frames of rendition key[:2]."""
        intent, rendition, frames = key
        out = np.zeros(frames * FRAME_SAMPLES, np.float32)
        lead, wave = round(OWN_LEAD_S * SAMPLE_RATE_HZ), self.waves[intent, rendition]
        part = wave[: len(out) - lead].copy()
        if len(part) < len(wave):
            part[-480:] *= np.linspace(1, 0, 480, dtype=np.float32)
        out[lead : lead + len(part)] = part
        return out

    def prepare(self, talks: list[Dialogue]) -> None:
        """Makes the codes of every rendition the talks use, and its sound from the decoder where it is an echo."""
        keys = {(t.intent, t.rendition, t.answer_frames) for talk in talks for t in talk.turns}
        missing = sorted(keys - set(self.codes))
        before, after = (np.zeros(n * FRAME_SAMPLES, np.float32) for n in (OWN_LEAD, OWN_TAIL))
        codes = batched(
            self.codec, [np.concatenate([before, self.sound(k), after]) for k in missing]
        )
        self.codes |= {k: c[:, OWN_LEAD:] for k, c in zip(missing, codes, strict=True)}
        echoes = {
            (t.intent, t.rendition, t.answer_frames)
            for talk in talks if talk.echo_db > QUIET_DB for t in talk.turns
        }  # fmt: skip
        missing = sorted(echoes - set(self.decoded), key=lambda k: k[2])
        for start in range(0, len(missing), 8):
            self.decode(missing[start : start + 8])

    @torch.inference_mode()
    def decode(self, keys: list[tuple[int, int, int]]) -> None:
        """What a loudspeaker plays, and the microphone may hear: not the original voice."""
        longest = max(self.codes[k].shape[1] for k in keys)
        silence = np.repeat(self.silence[:, None], OWN_LEAD + longest, 1)
        batch = np.repeat(silence[None].astype(np.int64), len(keys), 0)
        for row, key in enumerate(keys):
            batch[row, :, OWN_LEAD : OWN_LEAD + self.codes[key].shape[1]] = self.codes[key]
        sounds = self.codec.decode(torch.from_numpy(batch))[:, 0].numpy()
        for row, key in enumerate(keys):
            frames = self.codes[key].shape[1]
            self.decoded[key] = sounds[row, OWN_LEAD * FRAME_SAMPLES :][: frames * FRAME_SAMPLES]

    def track(self, talk: Dialogue) -> np.ndarray:
        """uint8 [8, frames]: Moshi's side of the conversation."""
        out = np.repeat(self.silence[:, None], talk.frames, 1)
        for turn in talk.turns:
            codes = self.codes[turn.intent, turn.rendition, turn.answer_frames]
            end = min(talk.frames, turn.answer_frame + codes.shape[1])
            out[:, turn.answer_frame : end] = codes[:, : end - turn.answer_frame]
        return out


def labels(
    talk: Dialogue, meta: list[dict], vocabulary: dict[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the auxiliary heads learn: phones int8 [F, 2], word int16 [F] (in the frame where it ends), intent int8 [F]."""
    phones = np.zeros(talk.frames * 2, np.int64)
    word, intent = np.full(talk.frames, -1, np.int16), np.full(talk.frames, -1, np.int8)
    for turn in talk.turns:
        facts = meta[turn.user]
        shifted = facts["phones"] + np.float32([0, 1, 1]) * np.float32(turn.start_s)
        spoken = grid_labels(shifted, talk.frames * 2, 0.04, -0.04)
        phones = np.where(spoken != 0, spoken, phones)
        starts = [t + turn.start_s for _, t in facts["words"]] + [turn.end_s]
        for index, (name, _) in enumerate(facts["words"]):
            frame = int(starts[index + 1] / FRAME_S)
            if frame < talk.frames:
                word[frame] = vocabulary.get(name.lower(), -1)
        begin = turn.answer_frame - 1
        intent[begin : min(talk.frames, turn.answer_frame + turn.answer_frames)] = turn.intent
    return phones.reshape(-1, 2).astype(np.int8), word, intent


def groups(count: int, users: int, rng: np.random.Generator) -> list[list[int]]:
    """Who speaks in each conversation: one sentence mostly, two in a third, nobody in a twentieth."""
    order, out = rng.permutation(users).tolist(), []
    while len(out) < count:
        roll = rng.random()
        size = 0 if roll < 0.05 else 1 if roll < 0.68 else 2
        if len(order) < size:
            order = rng.permutation(users).tolist()
        out.append([order.pop() for _ in range(size)])
    return out


def as_heard(track: np.ndarray) -> np.ndarray:
    """Entry t of the user's codes is what call t + 1 hears; call 0 is never encoded (as in a session)."""
    return np.concatenate([track[FRAME_SAMPLES:], np.zeros(FRAME_SAMPLES, np.float32)])


def quiet_talk(rng: np.random.Generator) -> Dialogue:
    """Nobody speaks: silence or noise alone."""
    scene = Scene(noise_db=float(rng.uniform(-90, -33)), noise_kind=Scene.draw(rng).noise_kind)
    return Dialogue(scene, frames=int(rng.integers(50, 110)), seed=int(rng.integers(2**31)))


def make_shards(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(args.seed)
    parts = [corpus.load(p) for p in sorted(args.data.glob("users.*.npz"))]
    waves, meta = [u for p in parts for u in p[0]], [m for p in parts for m in p[1]]
    args.out.mkdir(parents=True, exist_ok=True)
    listing = args.out / "words.json"
    if not listing.exists():  # a second corpus keeps the first one's list
        listing.write_text(json.dumps(sorted({w.lower() for m in meta for w, _ in m["words"]})))
    words = json.loads(listing.read_text())
    vocabulary = {w: i for i, w in enumerate(words)}
    facts = ([len(w) / SAMPLE_RATE_HZ for w in waves], [m["intent"] for m in meta])
    codec = load_codec(args.codec)
    own = OwnVoice(args.data, codec)
    np.save(args.out / "silence.npy", own.silence)
    tokenizer = sentencepiece.SentencePieceProcessor(str(args.tokenizer))
    everyone, started = groups(args.dialogues, len(waves), rng), time.time()
    for number, start in enumerate(range(0, args.dialogues, SHARD)):
        talks = [
            plan(rng, g, facts, own.frames) if g else quiet_talk(rng)
            for g in everyone[start : start + SHARD]
        ]
        own.prepare(talks)
        user = batched(codec, [as_heard(user_track(t, waves, own.decoded)) for t in talks])
        text = [text_tokens(t, own.words, tokenizer.encode) for t in talks]
        marks = [labels(t, meta, vocabulary) for t in talks]
        np.savez(
            args.out / f"{args.seed}.{number:03}.npz",
            user=np.concatenate(user, 1), own=np.concatenate([own.track(t) for t in talks], 1),
            text=np.concatenate([t for t, _ in text]).astype(np.uint8),
            first=np.concatenate([f for _, f in text]).astype(np.uint8),
            phones=np.concatenate([m[0] for m in marks]), word=np.concatenate([m[1] for m in marks]),
            intent=np.concatenate([m[2] for m in marks]), offsets=np.cumsum([0] + [t.frames for t in talks]),
        )  # fmt: skip
        seconds = sum(t.frames for t in talks) * FRAME_S
        print(
            f"shard {number}: {seconds:.0f} s of sound, {time.time() - started:.0f} s so far",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument(
        "--tokenizer",
        type=Path,
        default=Path(__file__).parents[2] / "moshi_mlx/nano/tokenizer.model",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dialogues", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    random.seed(args.seed)
    make_shards(args)


if __name__ == "__main__":
    main()
