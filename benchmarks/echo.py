"""The echo cancellers side by side in synthetic rooms: what they take, what is left of the user.

    python benchmarks/echo.py [--seconds 16] [--voices | --mark]

Speech as echo, as loud as the user, RT60 0.25 s; the user speaks from the tenth second on. ERLE is
the echo's loss in dB, ESTOI the user's intelligibility in double talk (1 = clean). Rooms and ESTOI
are the tests' own. The last line is JSON. --voices: the linear one with each of the tests' voices
as Moshi's and each other as the user's, pauses kept and cut out. --mark: what is played carries the
inaudible mark, as a talk's sound does.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from app.echo.choice import canceller  # noqa: E402
from moshi_mlx.errors import MoshiError  # noqa: E402
from moshi_mlx.hub import NANO  # noqa: E402
from moshi_mlx.provenance import mark  # noqa: E402
from tests.support import rooms  # noqa: E402
from tests.support.estoi import estoi  # noqa: E402

RATE, USER_S = 24_000, 10
DELAYS_MS = (20, 60, 120, 300)
MODES = ("off", "linear", "webrtc", "both")
VOICES = ("speech_10s", "questions", "voice_awb", "voice_rms", "voice_librivox")


class Off:
    def process(self, mic: np.ndarray, played: np.ndarray) -> np.ndarray:
        return mic


def measure(mode: str, delay_ms: float, played: np.ndarray, user: np.ndarray) -> dict[str, float]:
    make = Off if mode == "off" else lambda: canceller(mode)
    echo = rooms.echo_of(played, rooms.room(delay_ms, seed=1), rooms.rms(played))
    start = time.thread_time()  # without OpenBLAS threads that still spin
    left = make().process(echo, played)
    frame_ms = 1000 * (time.thread_time() - start) / (len(echo) / 1920)
    talk = slice(USER_S * RATE, None)
    heard = make().process(echo + user, played)
    return {
        "erle_2_3_s_db": rooms.erle_db(echo, left, 2, 3),
        "erle_after_5_s_db": rooms.erle_db(echo, left, 5, len(echo) / RATE),
        "estoi": estoi(user[talk], heard[talk], RATE),
        "cpu_ms_per_frame": frame_ms,
    }


def spoken(name: str, cut: bool) -> np.ndarray:
    return rooms.without_pauses(rooms.voice(name)) if cut else rooms.voice(name)


def clearness(echo: np.ndarray, played: np.ndarray, pcm: np.ndarray, start_s: int) -> float:
    """ESTOI from the tenth second on of a user who speaks from start_s on."""
    user = rooms.looped(pcm, len(echo) / RATE)
    user *= rooms.active_rms(played) / rooms.active_rms(user)
    user[: start_s * RATE] = 0.0
    heard = canceller("linear").process(echo + user, played)
    return estoi(user[USER_S * RATE :], heard[USER_S * RATE :], RATE)


def measure_voice(moshi: str, cut: bool, seconds: float) -> dict[str, list[float]]:
    """Over the delays and the users: [worst, best]."""
    played = rooms.looped(spoken(moshi, cut), seconds)
    row: dict[str, list[float]] = {}
    for delay_ms in (20, 300):
        echo = rooms.echo_of(played, rooms.room(delay_ms, seed=delay_ms), rooms.rms(played))
        left = canceller("linear").process(echo, played)
        row.setdefault("erle_3rd_s_db", []).append(rooms.erle_of_speech_db(echo, left, 2, 3))
        row.setdefault("erle_after_5_s_db", []).append(rooms.erle_db(echo, left, 5, seconds))
        for start_s in (USER_S, 1):
            for other in VOICES:
                if other != moshi:
                    clear = clearness(echo, played, spoken(other, cut), start_s)
                    row.setdefault(f"estoi_from_{start_s}_s", []).append(clear)
    return {name: [round(min(v), 3), round(max(v), 3)] for name, v in row.items()}


def voices(seconds: float) -> None:
    rows = {}
    for moshi in VOICES:
        for cut in (False, True):
            name = f"{moshi}, {'pauses cut' if cut else 'natural'}"
            rows[name] = measure_voice(moshi, cut, seconds)
            print(f"{name:28}", *(f"{k} {a:g} to {b:g};" for k, (a, b) in rows[name].items()))
    print(json.dumps(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=16.0)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--voices", action="store_true")
    which.add_argument("--mark", action="store_true")
    options = parser.parse_args()
    seconds = options.seconds
    if options.voices:
        return voices(seconds)
    played = rooms.looped(rooms.voice("speech_10s"), seconds)
    if options.mark:
        played = mark(played)
    parts = [soundfile.read(p, dtype="float32")[0] for p in sorted(NANO.glob("samples/*.wav"))]
    user = rooms.looped(np.concatenate(parts), seconds)
    user *= rooms.active_rms(played) / rooms.active_rms(user)
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
