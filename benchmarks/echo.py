"""The echo cancellers side by side in synthetic rooms: what they take, what is left of the user.

    python benchmarks/echo.py [--seconds 16]

Speech as echo, as loud as the user, RT60 0.25 s; the user speaks from the tenth second on. ERLE is
the echo's loss in dB, ESTOI the user's intelligibility in double talk (1 = clean). Rooms and ESTOI
are the tests' own. The last line is JSON.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from estoi import estoi  # noqa: E402
from rooms import active_rms, echo_of, erle_db, looped, rms, room  # noqa: E402

from app.echo_choice import canceller  # noqa: E402
from moshi_mlx.errors import MoshiError  # noqa: E402
from moshi_mlx.hub import NANO  # noqa: E402

RATE, USER_S = 24_000, 10
DELAYS_MS = (20, 60, 120, 300)
MODES = ("off", "linear", "webrtc", "both")


class Off:
    def process(self, mic: np.ndarray, played: np.ndarray) -> np.ndarray:
        return mic


def measure(mode: str, delay_ms: float, played: np.ndarray, user: np.ndarray) -> dict[str, float]:
    make = Off if mode == "off" else lambda: canceller(mode)
    echo = echo_of(played, room(delay_ms, seed=1), rms(played))
    start = time.process_time()
    left = make().process(echo, played)
    frame_ms = 1000 * (time.process_time() - start) / (len(echo) / 1920)
    talk = slice(USER_S * RATE, None)
    heard = make().process(echo + user, played)
    return {
        "erle_2_3_s_db": erle_db(echo, left, 2, 3),
        "erle_after_5_s_db": erle_db(echo, left, 5, len(echo) / RATE),
        "estoi": estoi(user[talk], heard[talk], RATE),
        "cpu_ms_per_frame": frame_ms,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=16.0)
    seconds = parser.parse_args().seconds
    speech, _ = soundfile.read(ROOT / "tests/golden/speech_10s.flac", dtype="float32")
    played = looped(speech, seconds)
    parts = [soundfile.read(p, dtype="float32")[0] for p in sorted(NANO.glob("samples/*.wav"))]
    user = looped(np.concatenate(parts), seconds)
    user *= active_rms(played) / active_rms(user)
    user[: USER_S * RATE] = 0.0
    rows: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'':8}{'delay':>7}{'ERLE 2-3 s':>12}{'after 5 s':>11}{'ESTOI':>8}{'CPU ms/frame':>14}")
    for mode in MODES:
        for delay_ms in DELAYS_MS:
            try:
                row = measure(mode, delay_ms, played, user)
            except MoshiError as error:
                print(f"{mode:8}{error}")
                break
            rows.setdefault(mode, {})[str(delay_ms)] = {k: round(v, 3) for k, v in row.items()}
            early, late, clear, cost = row.values()
            print(f"{mode:8}{delay_ms:>7}{early:>12.1f}{late:>11.1f}{clear:>8.3f}{cost:>14.2f}")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
