"""PyTorch against MLX, greedy, for 30 s: Kyutai's packages and moshi_mlx must give the same tokens.

The codec's codes are compared with PyTorch's of the whole track: its own streaming form differs from that in one frame
of seven, where float64 and moshi_mlx agree with the whole track.

PYTHONPATH=../.. python parity.py --model ../../moshi_mlx/nano --out parity.json
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from batch import torch_codec, torch_lm
from dialogue import FRAME_SAMPLES
from moshi.models.lm import LMGen
from scipy.io import wavfile

import moshi_mlx

SECONDS = 30.0


def track(folder: Path) -> np.ndarray:
    """float32 [30 s]: bundled questions, 5 s apart, with a little noise."""
    out = (
        np.random.default_rng(3).standard_normal(round(SECONDS * 24_000)).astype(np.float32) * 1e-3
    )
    for index, path in enumerate(sorted((folder / "samples").glob("*.wav"))[:6]):
        rate, pcm = wavfile.read(path)
        assert rate == 24_000
        begin = (5 * index) * 24_000
        out[begin : begin + len(pcm)] += (pcm / 32768.0)[: len(out) - begin]
    return out


@torch.inference_mode()
def run(folder: Path) -> dict:
    pcm = track(folder)
    ours = moshi_mlx.load(folder, codec="mlx")
    codec = torch_codec(folder)
    generator = ours.lm.generator(seed=0, text_temperature=0.0, audio_temperature=0.0)
    stream = ours.codec.stream()
    lm_gen = LMGen(torch_lm(folder), use_sampling=False)
    same_codes = same_tokens = frames = 0
    whole = codec.encode(
        torch.from_numpy(pcm[: len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES])[None, None]
    )[0].numpy()
    with lm_gen.streaming(1):
        for call in range(len(pcm) // FRAME_SAMPLES):
            frame = pcm[call * FRAME_SAMPLES : (call + 1) * FRAME_SAMPLES]
            mine = stream.encode(frame)
            same_codes += int((whole[:, call] == mine).all())
            step = generator.step(mine)
            out = lm_gen.step(torch.from_numpy(mine.astype(np.int64))[None, :, None])
            if out is not None and step.codes is not None:
                frames += 1
                same_tokens += int((out[0, 1:, 0].numpy() == step.codes).all())
    return {
        "calls": len(pcm) // FRAME_SAMPLES,
        "codec_frames_same": same_codes,
        "lm_frames": frames,
        "lm_frames_same": same_tokens,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    figures = run(args.model)
    print(json.dumps(figures))
    args.out.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
