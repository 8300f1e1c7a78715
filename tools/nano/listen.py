"""Is the spoken answer understood, and does its melody survive? pocketsphinx and pyworld as judges."""

import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pyworld
import wordings
from engines import SAMPLE_RATE_HZ
from scipy.io import wavfile
from scipy.signal import resample_poly
from voices import OWN_RENDITIONS, Speakers

import moshi_mlx

MODEL = Path("/usr/share/pocketsphinx/model/en-us")  # Debian's pocketsphinx-en-us
SPHINX_RATE_HZ = 16_000


def plain(text: str) -> str:
    """Words in lower case, as the recognizer writes them."""
    return " ".join(re.findall("[a-z']+", text.lower()))


def recognize(waves: list[np.ndarray], sentences: list[str] | None) -> list[str]:
    """What pocketsphinx hears; `sentences` closes the set, None leaves it open."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, wave in enumerate(waves):
            pcm = resample_poly(wave, 2, 3)
            wavfile.write(
                folder / f"{index}.wav",
                SPHINX_RATE_HZ,
                (pcm * 32767).clip(-32768, 32767).astype(np.int16),
            )
        (folder / "ctl").write_text("".join(f"{i}\n" for i in range(len(waves))))
        language = ["-lm", MODEL / "en-us.lm.bin"]
        if sentences:
            choices = " | ".join(f"({plain(s)})" for s in sentences)
            (folder / "answers.jsgf").write_text(
                f"#JSGF V1.0;\ngrammar answers;\npublic <answer> = {choices};\n"
            )
            language = ["-jsgf", folder / "answers.jsgf"]
        dictionary = folder / "words.dict"
        known = (MODEL / "cmudict-en-us.dict").read_text()
        dictionary.write_text(
            known + "moshi M OW SH IY\nmeow M IY AW\nmimi M IY M IY\nwoof W UH F\n"
        )
        command = [
            "pocketsphinx_batch",
            "-hmm",
            MODEL / "en-us",
            "-dict",
            dictionary,
            *language,
            "-adcin",
            "yes",
            "-adchdr",
            "44",
        ]
        command += [
            "-cepdir",
            folder,
            "-cepext",
            ".wav",
            "-ctl",
            folder / "ctl",
            "-hyp",
            folder / "hyp",
            "-logfn",
            "/dev/null",
        ]
        subprocess.run([str(c) for c in command], check=True, capture_output=True)
        rows = (folder / "hyp").read_text().splitlines()
    return [re.sub(r"\([^()]*\)$", "", row).strip() for row in rows]


def word_errors(said: list[str], wanted: list[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(wanted) + 1))
    for i, a in enumerate(said, 1):
        row, last = [i], row
        for j, b in enumerate(wanted, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (a != b)))
    return row[-1]


def intelligibility(spoken: dict[str, np.ndarray], answers: list[str]) -> dict:
    """Answer -> its sound; the closed set is `answers`."""
    if not spoken:
        return {}
    texts, waves = list(spoken), list(spoken.values())
    closed = recognize(waves, answers)
    right = [c == plain(t) for c, t in zip(closed, texts, strict=True)]
    opened = recognize(waves, None)
    errors = sum(
        word_errors(o.split(), plain(t).split()) for o, t in zip(opened, texts, strict=True)
    )
    words = sum(len(plain(t).split()) for t in texts)
    return {
        "speech_closed_set": round(float(np.mean(right)), 4), "speech_open_wer": round(errors / words, 4),
        "speech_n": len(texts), "misheard": [(t, c) for t, c, r in zip(texts, closed, right, strict=True) if not r],
    }  # fmt: skip


def f0(pcm: np.ndarray) -> np.ndarray:
    x = pcm.astype(np.float64)
    track, times = pyworld.dio(x, SAMPLE_RATE_HZ, f0_floor=60, f0_ceil=300)
    return pyworld.stonemask(x, track, times, SAMPLE_RATE_HZ)


def pitch(moshi: moshi_mlx.Moshi, speakers: Speakers) -> dict:
    """Correlation of log F0 between the answers through the codec and their original, over voiced frames of both."""
    pairs, agree = [], []
    for index, answer in enumerate(wordings.all_answers()):
        pcm = speakers.own(answer, index % len(OWN_RENDITIONS)).pcm
        pcm = np.concatenate([np.zeros(9600, np.float32), pcm, np.zeros(9600, np.float32)])
        back = moshi.codec.decode(moshi.codec.encode(pcm))[: len(pcm)]
        a, b = f0(pcm[: len(back)]), f0(back)
        both = (a > 0) & (b > 0)
        agree.append(float(((a > 0) == (b > 0)).mean()))
        pairs.append(np.log(np.stack([a[both], b[both]])))
    joined = np.concatenate(pairs, 1)
    return {
        "pitch_correlation": round(float(np.corrcoef(joined)[0, 1]), 4),
        "voicing_agreement": round(float(np.mean(agree)), 4),
    }
