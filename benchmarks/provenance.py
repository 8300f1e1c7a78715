"""What the mark in generated sound withstands, what it costs, and what is taken for it wrongly.

    python benchmarks/provenance.py [--speech FOLDER...] [--seconds 130] [--only NAME]

Needs ffmpeg and espeak-ng; PESQ needs `pip install pesq`, and is left out without. Voices: those of
tests/golden, ten of espeak-ng and four of flite (where ffmpeg has it), and the recordings of each
FOLDER, one voice each. None was used when the detector's constants were chosen; TUNED were. A row:
the attack, how many windows, how many of them are found with a bound on a false alarm of 1e-6, the
mean and the smallest z. The last line is JSON.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from attacks import RATE, Case, cases, opus  # noqa: E402

from app.provenance.index import PERHAPS, SURE, Index  # noqa: E402
from app.provenance.index_writer import add_sound  # noqa: E402
from moshi_mlx.audio.file import read_mono  # noqa: E402
from moshi_mlx.provenance import FALSE_ALARM, Marker, mark  # noqa: E402
from moshi_mlx.provenance.detect import Variant, best_fit, chance, variants  # noqa: E402
from tests.support.estoi import estoi  # noqa: E402

TUNED = ("en+m3", "en-us+f2", "de+klatt2")  # and two people reading prompts
GOLDEN = ("questions", "speech_10s", "voice_awb", "voice_librivox", "voice_rms")
ESPEAK = ("en-gb-scotland+m1", "en-us+f4", "de+f5", "fr-fr+m7", "es+klatt4")
ESPEAK += ("it+f1", "pl+m5", "pt-br+f3", "sv+m8", "en-029+m4")
FLITE = ("slt", "awb", "rms", "kal16")
UNMARKED = (
    "af+m2",
    "ca+f2",
    "cs+m6",
    "da+f4",
    "el+m5",
    "fi+f1",
    "hu+m7",
    "id+f3",
    "nl+m1",
    "ro+f5",
)
ON_TOP = "en-gb-x-rp+f1"
OTHER_WORDS = 20_000  # characters from which those read that aren't in the index
WINDOW = 10 * RATE


def text() -> str:
    """Enough to read aloud: this repository's own pages, their words alone."""
    pages = "".join(
        path.read_text() for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
    )
    return " ".join(word for word in pages.split() if word.strip(",.;:").isalpha())


def spoken(command: list[str]) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        subprocess.run([*command, str(path)], check=True, stdin=subprocess.DEVNULL)
        return read_mono(path)


def espeak(voice: str, seconds: float, skipped: int = 0) -> np.ndarray:
    """`skipped`: characters. The same words by two voices of one synthesizer share landmarks."""
    words = text()[skipped:][: round(seconds * 25)]
    return spoken(["espeak-ng", "-v", voice, words, "-w"])[: round(seconds * RATE)]


def flite(voice: str, seconds: float) -> np.ndarray:
    words = text()[2000:][: round(seconds * 20)]
    source = f"flite=text='{words.replace(':', ' ')}':voice={voice}"
    command = ["ffmpeg", "-loglevel", "error", "-y", "-f", "lavfi", "-i", source]
    return spoken(command)[: round(seconds * RATE)]


def voices(seconds: float, folders: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
    for name in GOLDEN:
        yield name, read_mono(ROOT / "tests" / "golden" / f"{name}.flac")
    for name in ESPEAK:
        yield f"espeak {name}", espeak(name, seconds)
    for name in FLITE:
        try:
            yield f"flite {name}", flite(name, seconds)
        except subprocess.CalledProcessError:
            print(f"no flite voice {name} in this ffmpeg", file=sys.stderr)
    for folder in folders:
        for path in sorted(folder.iterdir()):
            yield path.stem, read_mono(path)[: round(seconds * RATE)]


def cut(pcm: np.ndarray, window_s: float) -> list[np.ndarray]:
    """Windows of 10 s one after the other, of 30 s from each 5 s on; one where there is no more."""
    size, hop = round(window_s * RATE), RATE * (10 if window_s == 10 else 5)
    first = min(3_217, max(0, len(pcm) - size))  # not at the frames of the mark
    return [pcm[at : at + size] for at in range(first, len(pcm) - size + 1, hop)]


def withstood(case: Case, speech: dict[str, np.ndarray]) -> dict[str, float]:
    """Marked speech of each voice through the attack, found or not in each window."""
    zs, found = [], []
    for pcm in speech.values():
        for window in cut(np.asarray(case.attack(mark(pcm)), np.float32), case.window_s):
            fit = best_fit(variants(window, RATE))
            zs.append(fit.z)
            found.append(chance(fit, 1) <= FALSE_ALARM)
    row = {"windows": len(zs), "found": sum(found), "mean_z": np.mean(zs), "least_z": min(zs)}
    share = sum(found) / len(found)
    print(f"| {case.name} | {case.window_s} s | {sum(found)} of {len(found)} | {share:.1%} "
          f"| {case.least:.0%} | {np.mean(zs):.1f} | {min(zs):.1f} |", flush=True)  # fmt: skip
    return {name: round(float(value), 2) for name, value in row.items()}


def remembered(case: Case, speech: dict[str, np.ndarray]) -> list[int]:
    """[found for sure in the right talk, windows of 10 s] by the index of this sound."""
    right = windows = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.sqlite"
        talks = {name: add_sound(path, mark(pcm)) for name, pcm in speech.items()}
        with Index(path) as index:
            for name, pcm in speech.items():
                for window in cut(np.asarray(case.attack(mark(pcm)), np.float32), 10):
                    match = index.search(window)
                    right += match is not None and match.sure and match.talk == talks[name]
                    windows += 1
    print(f"index after {case.name}: {right} of {windows}", flush=True)
    return [int(right), windows]


def strange(speech: dict[str, np.ndarray], windows: int) -> dict[str, dict[str, int]]:
    """What the index of this sound takes for its own: windows of 10 s of other voices of a
    synthesizer that is in it, and of the very voices with other words."""
    seconds = 10.5 * windows / (len(UNMARKED) + len(ESPEAK))
    kinds = {"other voices": UNMARKED, "same voices, other words": ESPEAK}
    rows: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.sqlite"
        for pcm in speech.values():
            add_sound(path, mark(pcm))
        with Index(path) as index:
            for kind, names in kinds.items():
                row = rows[kind] = {"windows": 0, "perhaps": 0, "sure": 0, "most": 0}
                for name in names:
                    for window in cut(espeak(name, seconds, OTHER_WORDS), 10):
                        _, aligned = index.best(window)
                        row["windows"] += 1
                        row["perhaps"] += PERHAPS <= aligned < SURE
                        row["sure"] += aligned >= SURE
                        row["most"] = max(row["most"], aligned)
    print("index, strange windows:", rows, flush=True)
    return rows


def payloads(speech: dict[str, np.ndarray]) -> dict[str, list[int]]:
    """[right, windows] in 10 s, untouched and behind Opus 24k; another payload for each voice."""
    rng, right = np.random.default_rng(5), {"nothing": [0, 0], "Opus 24k": [0, 0]}
    for pcm in speech.values():
        payload = int(rng.integers(4096))
        marked = mark(pcm, payload=payload)
        for name, sound in (("nothing", marked), ("Opus 24k", opus(24)(marked))):
            for window in cut(sound, 10):
                right[name][0] += best_fit(variants(window, RATE)).payload == payload
                right[name][1] += 1
    print("payload right:", right, flush=True)
    return right


def quality(speech: dict[str, np.ndarray], most: int) -> dict[str, float]:
    """PESQ-WB (where it is installed) and ESTOI of marked against plain speech."""
    pesq = importlib.import_module("pesq").pesq if importlib.util.find_spec("pesq") else None
    heard, clear = [], []
    for pcm in speech.values():
        for plain, marked in list(zip(cut(pcm, 10), cut(mark(pcm), 10), strict=True))[:most]:
            clear.append(estoi(plain, marked, RATE))
            if pesq is not None:
                wide = [soxr.resample(part, RATE, 16_000) for part in (plain, marked)]
                heard.append(pesq(16_000, *wide, "wb"))
    row = {"windows": len(clear), "estoi_mean": np.mean(clear), "estoi_least": min(clear)}
    if heard:
        row |= {"pesq_mean": np.mean(heard), "pesq_least": min(heard)}
    print("quality:", {name: round(float(value), 4) for name, value in row.items()}, flush=True)
    return {name: round(float(value), 4) for name, value in row.items()}


def unmarked(speech: dict[str, np.ndarray], seconds: float) -> Iterator[tuple[str, np.ndarray]]:
    """Kind and 10 s windows of what carries no mark, or that of a key that isn't asked for."""
    for pcm in speech.values():
        yield from (("speech", window) for window in cut(pcm, 10))
        yield from (("another key's mark", window) for window in cut(mark(pcm, key=b"other"), 10))
    for name in UNMARKED:
        yield from (
            ("speech", window) for window in cut(espeak(name, 7 * seconds, OTHER_WORDS), 10)
        )
    rng = np.random.default_rng(6)
    for slope in np.repeat([0.0, 0.5, 1.0], 20):
        shape = np.maximum(np.fft.rfftfreq(WINDOW, 1 / RATE), 20) ** -slope
        yield "noise", np.fft.irfft(np.fft.rfft(rng.standard_normal(WINDOW)) * shape, WINDOW)
    for _ in range(60):
        yield "music", music(rng)


def music(rng: np.random.Generator) -> np.ndarray:
    """Chords of decaying tones on a beat, and drums of noise: 10 s."""
    sound, time_s = np.zeros(WINDOW), np.arange(RATE) / RATE
    beat = int(RATE * 60 / rng.uniform(70, 160))
    for at in range(0, WINDOW, beat):
        root = 110 * 2 ** (rng.integers(24) / 12)
        decay = np.exp(-time_s * rng.uniform(2, 8))
        tones = [root * ratio * n for ratio in (1, 1.26, 1.5) for n in range(1, 9)]
        note = (
            sum(np.sin(2 * np.pi * hz * time_s) * 200 / hz for hz in tones if hz < 11_000) * decay
        )
        note = note + rng.standard_normal(RATE) * np.exp(-time_s * 40) * rng.uniform(0, 3)
        sound[at : at + RATE] += note[: WINDOW - at]
    return sound / abs(sound).max()


def false_alarms(speech: dict[str, np.ndarray], seconds: float, tests: int) -> dict[str, dict]:
    """Every window with the public key and with as many random ones as make up the tests."""
    searched: list[tuple[str, list[Variant]]] = [
        (kind, variants(window, RATE)) for kind, window in unmarked(speech, seconds)
    ]
    keys = [
        None,
        *(np.random.default_rng(9).bytes(32) for _ in range(-(-tests // len(searched)) - 1)),
    ]
    rows: dict[str, dict] = {}
    for kind, parts in searched:
        row = rows.setdefault(kind, {"windows": 0, "tests": 0, "found": 0, "largest_z": 0.0})
        row["windows"] += 1
        for key in keys:
            fit = best_fit(parts, key)
            row["tests"] += 1
            row["found"] += chance(fit, 1) <= FALSE_ALARM
            if fit.payload is None:
                row["largest_z"] = max(row["largest_z"], round(fit.z, 2))
    print("false alarms:", rows, flush=True)
    return rows


def costs(pcm: np.ndarray) -> dict[str, float]:
    """CPU time in ms: a frame to mark, 10 s to search."""
    marker, frames = Marker(), pcm[: 100 * 1920].reshape(-1, 1920)
    took = {"mark_ms_per_frame": [], "search_ms_per_10_s": []}
    for _ in range(7):
        start = time.thread_time()
        for frame in frames:
            marker.frame(frame)
        took["mark_ms_per_frame"].append(10 * (time.thread_time() - start))
        start = time.thread_time()
        best_fit(variants(pcm[:WINDOW], RATE))
        took["search_ms_per_10_s"].append(1000 * (time.thread_time() - start))
    row = {name: round(float(np.median(values)), 3) for name, values in took.items()}
    print("cost:", row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, nargs="*", default=[], metavar="FOLDER")
    parser.add_argument("--seconds", type=float, default=130, help="of each synthetic voice")
    parser.add_argument("--tests", type=int, default=20_000, help="for false alarms")
    parser.add_argument("--strange", type=int, default=2_000, help="windows, for the index")
    parser.add_argument("--only", help="attacks with this in their name")
    parser.add_argument("--index", action="store_true", help="the landmarks after each as well")
    parser.add_argument("--no-attacks", action="store_true", help="quality, false alarms and cost")
    args = parser.parse_args()
    speech = dict(voices(args.seconds, args.speech))
    minutes = sum(map(len, speech.values())) / RATE / 60
    print(f"{len(speech)} voices, {minutes:.0f} minutes: {', '.join(speech)}", flush=True)
    result: dict = {"voices": list(speech), "attacks": {}, "index": {}}
    if not args.no_attacks:
        print("| after | window | found | | goal | mean z | least z |\n|" + " --- |" * 7)
    on_top = espeak(ON_TOP, args.seconds, OTHER_WORDS)
    for case in [] if args.no_attacks else cases(on_top):
        if args.only is None or args.only in case.name:
            result["attacks"][case.name] = withstood(case, speech)
            if args.index and case.index_too:
                result["index"][case.name] = remembered(case, speech)
    if args.index:
        result["index_strange"] = strange(speech, args.strange)
    if args.only is None:
        result["payload_right"] = payloads(speech)
        result["quality"] = quality(speech, 4)
        result["false_alarms"] = false_alarms(speech, args.seconds, args.tests)
        result["cost"] = costs(next(iter(speech.values())))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
