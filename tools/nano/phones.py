"""One phone set (40 classes with silence) for espeak-ng's and flite's names, and labels on a time grid."""

import numpy as np

CLASSES = "sil aa ae ah ao aw ax ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z".split()  # fmt: skip
NUM_PHONES = len(CLASSES)
IGNORE = -100
_INDEX = {name: index for index, name in enumerate(CLASSES)} | {"zh": CLASSES.index("sh"), "pau": 0}
_ESPEAK = {
    "a": "ae", "aa": "ae", "0": "aa", "O": "ao", "O:": "ao", "O2": "ao", "I": "ih", "I2": "ih", "IR": "ih", "N": "ng",
    "i:": "iy", "i": "iy", "h": "hh", "aU": "aw", "tS": "ch", "w#": "w", "u:": "uw", "u": "uw", "a#": "ax", "eI": "ey",
    "E": "eh", "e": "eh", "j": "y", "aI": "ay", "aI2": "ay", "aI@": "ay", "O@": "ao", "i@3": "ih", "i@": "ih", "T": "th",
    "U": "uh", "U@": "uh", "3": "er", "3:": "er", "VR": "er", "OI": "oy", "o@": "ao", "oU": "ow", "dZ": "jh", "S": "sh",
    "Z": "sh", "D": "dh", "V": "ah", "@": "ax", "@2": "ax", "@5": "ax", "@-": "ax", "@L": "l", "e@": "eh", "A@": "aa",
    "A:": "aa", "A": "aa", "r-": "r", "t#": "t", "t[": "t", "t2": "t",
}  # fmt: skip


def phone_class(name: str) -> int:
    """Class of an engine's phone name; IGNORE when unknown."""
    for candidate in (name, _ESPEAK.get(name, ""), name.rstrip("#2[-:")):
        if candidate in _INDEX:
            return _INDEX[candidate]
    return IGNORE


def grid_labels(phones: np.ndarray, count: int, step_s: float, shift_s: float) -> np.ndarray:
    """phones [N, 3] (class, start s, end s) -> int64 [count]: the phone in the middle of each step, 0 is silence.

    Step i covers `i * step_s + shift_s` to one step later.
    """
    labels = np.zeros(count, np.int64)
    centers = (np.arange(count) + 0.5) * step_s + shift_s
    for phone, start, end in phones:
        labels[(centers >= start) & (centers < end)] = int(phone)
    return labels
