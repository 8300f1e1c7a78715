"""Cuts the bundled questions to their speech: 0.2 s before it, 0.1 s after it. Every byte counts in a package.

python samples.py ../../moshi_mlx/nano/samples
"""

import sys
from pathlib import Path

import numpy as np
from scipy.io import wavfile

LEAD_S, TAIL_S, EDGE = 0.2, 0.1, 0.01  # the edge relative to the peak


def cut(path: Path) -> None:
    rate, pcm = wavfile.read(path)
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > EDGE * np.abs(pcm.astype(np.int32)).max())
    first = max(0, loud[0] - round(LEAD_S * rate))
    wavfile.write(path, rate, pcm[first : loud[-1] + round(TAIL_S * rate)])


for wav in sorted(Path(sys.argv[1]).glob("*.wav")):
    cut(wav)
