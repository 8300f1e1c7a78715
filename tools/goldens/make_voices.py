"""Voices for the echo tests: tests/golden/voice_{awb,rms,librivox}.flac, 10 s each.

    apt-get install flite pocketsphinx-testdata
    python tools/goldens/make_voices.py

awb, rms: a Scottish and an American voice of flite (CMU, free like BSD). librivox: a woman who
reads "Sense and Sensibility" (LibriVox, public domain), as Debian's pocketsphinx-testdata ships it.
The echo canceller's constants weren't tuned on rms and on her.
"""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
LIBRIVOX = Path("/usr/share/pocketsphinx/test/data/librivox")
RATE_HZ, SECONDS, RMS = 24_000, 10, 0.07
TEXT = (
    "Well, it depends on what you would like to know. I think the weather is going to be fine this "
    "afternoon, so you could take a walk by the river. Yes. No, not really. Have you ever been to "
    "the mountains in the early spring?"
)


def at_24k(path: Path) -> np.ndarray:
    pcm, rate_hz = soundfile.read(path, dtype="float32")
    return soxr.resample(pcm, rate_hz, RATE_HZ)


def write(name: str, pcm: np.ndarray) -> None:
    pcm = pcm[: SECONDS * RATE_HZ]
    pcm = pcm * RMS / np.sqrt(np.mean(np.square(pcm, dtype=np.float64)))
    soundfile.write(GOLDEN / f"voice_{name}.flac", pcm, RATE_HZ, subtype="PCM_16")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("awb", "rms"):
            said = Path(folder) / f"{name}.wav"
            subprocess.run(["flite", "-voice", name, "-t", TEXT, "-o", said], check=True)
            write(name, at_24k(said))
    write("librivox", np.concatenate([at_24k(path) for path in sorted(LIBRIVOX.glob("*.wav"))]))


if __name__ == "__main__":
    main()
