"""Who speaks: the pools of user voices (trained and held out) and Moshi's own voice in three renditions."""

import random
from fractions import Fraction

import numpy as np
from engines import SAMPLE_RATE_HZ, Espeak, Flite, Utterance, festival, pico, warped_phones
from rhvoice import RhVoice
from scipy.signal import resample_poly

ACCENTS = ("en-us", "en-us", "en-us", "en", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc")  # fmt: skip
VARIANTS = (
    "adam Alex Alicia Andy Annie antonio aunty benjamin boris caleb david Denis Diogo ed edward edward2 Gene gustave "
    "announcer Henrique Hugo iven iven2 iven4 Jacky john kaukovalta Lee marcelo Marco Mario max Michael michel miguel Mr "
    "Nguyen pablo pedro quincy RicishayMax RicishayMax2 RicishayMax3 robert robosoft robosoft3 robosoft5 robosoft7 steph "
    "steph3 Storm Tweaky zac anika f2 f3 f5 f1 grandpa klatt klatt2 klatt3 klatt5 klatt6 m1 m2 m4 m5 m7 m8 norbert sandro "
    "shelby travis grandma"
).split()
HELD_VARIANTS = (
    "f4 m3 m6 klatt4 linda steph2 Gene2 paul victor belinda Mike rob iven3 Andrea".split()
)
USER_FLITE = ("kal", "kal16", "awb")
USER_RHVOICE = ("bdl", "clb", "alan", "evgeniy-eng", "lyubov")
USER_PICO = ("en-US", "en-GB")
HESITANT = 0.3  # of the training sentences have a pause
PAUSE_S = (0.06, 0.5)  # other engines make some of 0.4 s inside a sentence
HELD_ENGINE = (  # the other engine, and the speaker that no training sentence has
    ("festival", "voice_ked_diphone"),
    ("festival", "voice_cmu_us_slt_arctic_hts"),
    ("flite", "slt"),
)
OWN_FLITE = "rms"
OWN_RENDITIONS = (
    (0.86, 0.0),
    (0.93, 0.0),
    (1.0, 0.0),
)  # duration stretch, F0 mean (0: the voice's own)


def resampled(utterance: Utterance, factor: float) -> Utterance:
    """Another speaker: pitch, formants and tempo times `factor`."""
    ratio = Fraction(1 / factor).limit_denominator(24)
    scale = float(ratio)
    pcm = resample_poly(utterance.pcm, ratio.numerator, ratio.denominator).astype(np.float32)
    phones = [(p, a * scale, b * scale) for p, a, b in utterance.phones]
    return Utterance(pcm, phones, [(w, t * scale) for w, t in utterance.words])


def hesitant(utterance: Utterance, rng: random.Random) -> Utterance:
    """Some users pause before one of the words: who waits for silence alone would answer too early."""
    if rng.random() > HESITANT or len(utterance.words) < 3:
        return utterance
    at, pause_s = rng.choice(utterance.words[1:])[1], rng.uniform(*PAUSE_S)
    later = lambda t: t + pause_s if t >= at else t  # noqa: E731
    cut = round(at * SAMPLE_RATE_HZ)
    fade = np.ones(len(utterance.pcm), np.float32)
    edge = fade[max(0, cut - 120) : cut + 120]
    edge *= np.abs(np.linspace(-1, 1, len(edge), dtype=np.float32))
    pcm = utterance.pcm * fade
    silence = np.zeros(round(pause_s * SAMPLE_RATE_HZ), np.float32)
    phones = [(p, later(a), b if b <= at else b + pause_s) for p, a, b in utterance.phones]
    words = [(w, later(t)) for w, t in utterance.words]
    return Utterance(np.concatenate([pcm[:cut], silence, pcm[cut:]]), phones, words)


class Speakers:
    """All engines of one process."""

    def __init__(self) -> None:
        self.espeak, self.flite, self.rhvoice = Espeak(), Flite(), RhVoice()

    def _espeak(self, text: str, rng: random.Random, variants: list[str]) -> tuple[Utterance, str]:
        voice = rng.choice(ACCENTS) + ("" if rng.random() < 0.12 else "+" + rng.choice(variants))
        gap = 0 if rng.random() < 0.8 else rng.randint(1, 10)
        utterance = self.espeak.speak(
            text, voice, rng.randint(115, 205), rng.randint(10, 95), rng.randint(20, 90), gap
        )
        return utterance, voice

    def user(self, text: str, rng: random.Random) -> tuple[Utterance, str]:
        """A training user: two thirds espeak-ng, one third flite, often resampled into another speaker."""
        if rng.random() < 0.66:
            utterance, voice = self._espeak(text, rng, VARIANTS)
            spread = 0.07
        else:
            voice = rng.choice(USER_FLITE)
            f0_hz = 0.0 if voice == "awb" or rng.random() < 0.4 else rng.uniform(80, 180)
            utterance = self.flite.speak(text, voice, rng.uniform(0.85, 1.35), f0_hz)
            spread = 0.2
        if rng.random() < 0.6:
            utterance = resampled(utterance, 1 + rng.uniform(-spread, 1.2 * spread))
        return hesitant(utterance, rng), voice

    def wide_user(self, text: str, rng: random.Random) -> tuple[Utterance, str]:
        """A training user of flite's far from the voice's own size: women and children out of men."""
        voice = rng.choice((*USER_FLITE, OWN_FLITE))
        f0_hz = 0.0 if voice == "awb" or rng.random() < 0.3 else rng.uniform(85, 200)
        f0_std = 0.0 if rng.random() < 0.5 else rng.uniform(5, 35)
        factor = (
            rng.uniform(1.1, 1.5)
            if voice == OWN_FLITE or rng.random() < 0.7
            else rng.uniform(0.85, 1.1)
        )
        utterance = self.flite.speak(text, voice, factor * rng.uniform(0.8, 1.3), f0_hz, f0_std)
        return hesitant(resampled(utterance, factor), rng), f"{voice} wide"

    def other_user(self, text: str, rng: random.Random) -> tuple[Utterance, str]:
        """A training user of further engines, men and women: five of RHVoice, Pico's two."""
        if rng.random() < 0.68:
            voice = rng.choice(USER_RHVOICE)
            utterance = self.rhvoice.speak(
                text, voice, rng.uniform(0.75, 1.25), rng.uniform(0.8, 1.25)
            )
            flite = self.flite.speak(text, rng.choice(USER_FLITE))
            utterance.phones = warped_phones(flite, utterance)
        else:
            voice = rng.choice(USER_PICO)
            utterance = pico(text, voice)
        if rng.random() < 0.75:
            utterance = resampled(utterance, 1 + rng.uniform(-0.2, 0.2))
        return hesitant(utterance, rng), voice  # Pico has no word times, and no pause

    def unseen_espeak(self, text: str, rng: random.Random) -> tuple[Utterance, str]:
        """A test user whose espeak-ng variant was never trained."""
        voice = rng.choice(ACCENTS) + "+" + rng.choice(HELD_VARIANTS)
        return self.espeak.speak(text, voice, rng.randint(130, 190), rng.randint(25, 80)), voice

    def unseen_engine(self, text: str, rng: random.Random) -> tuple[Utterance, str]:
        """A test user of another engine or an unheard speaker."""
        engine, voice = rng.choice(HELD_ENGINE)
        if engine == "festival":
            return festival(text, voice), voice
        return self.flite.speak(text, voice, rng.uniform(0.9, 1.2)), f"flite {voice}"

    def own(self, text: str, rendition: int) -> Utterance:
        """Moshi's voice."""
        stretch, f0_hz = OWN_RENDITIONS[rendition]
        return self.flite.speak(text, OWN_FLITE, stretch, f0_hz)
