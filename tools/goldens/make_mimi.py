"""Golden numbers for Mimi from Kyutai's PyTorch package (a developer's tool, no test needs it).

    python tools/goldens/make_mimi.py tests/golden/tiny_mimi

in an environment with `moshi` 0.2.13 and `safetensors`. Writes `model.safetensors` (random
weights), `mimi_config.json` and `golden.safetensors`: `pcm` int16 (divide by 32768), `codes` int32
[n_q, frames],
`decoded` float32 of those codes, `codes_few` with the first `few` codebooks only, `decoded_few`,
`codes_odd` of the first `odd` samples; all computed offline, without streaming.
"""

import argparse
import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from moshi.models.loaders import get_mimi
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parent))
from mimi_weights import KYUTAI, random_mimi, save

TINY: dict[str, Any] = {
    "seanet": {"dimension": 16, "n_filters": 2},
    "quantizer": {"dimension": 8, "n_q": 6, "bins": 32},
    "transformer": {
        "d_model": 16,
        "num_heads": 2,
        "num_layers": 2,
        "context": 12,
        "dim_feedforward": 32,
    },
}


def sizes(overrides: dict[str, Any]) -> dict[str, Any]:
    """Kyutai's config with `overrides`; the widths that must agree are set to SEANet's."""
    config = copy.deepcopy(KYUTAI)
    for key, value in overrides.items():
        if isinstance(value, dict):
            config[key].update(value)
        else:
            config[key] = value
    width = config["seanet"]["dimension"]
    config["quantizer"].update(input_dimension=width, output_dimension=width)
    config["transformer"].update(input_dimension=width, output_dimensions=[width])
    return config


def sound(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise and a chirp whose loudness changes from frame to frame, int16."""
    loudness = np.repeat(rng.uniform(0.02, 0.3, samples // 1920 + 1), 1920)[:samples]
    chirp = np.sin(np.cumsum(rng.uniform(0.01, 0.2, samples)))
    return np.round(loudness * (chirp + rng.standard_normal(samples)) * 8000).astype(np.int16)


@torch.no_grad()
def golden(folder: Path, config: dict[str, Any], frames: int, seed: int) -> dict[str, np.ndarray]:
    """What PyTorch makes of random sound with the weights in `folder`."""
    total = config["quantizer"]["n_q"]
    few = max(1, total // 2)
    samples = int(config["sample_rate"] / config["frame_rate"]) * frames
    odd = samples // 3 + 7
    pcm = sound(samples, np.random.default_rng(seed))
    wave = torch.from_numpy(pcm.astype(np.float32) / 32768)[None, None]
    mimi = get_mimi(folder / "model.safetensors", config, num_codebooks=total)
    codes = mimi.encode(wave)
    out = {
        "pcm": pcm,
        "codes": codes[0].int().numpy(),
        "decoded": mimi.decode(codes)[0, 0].numpy(),
        "decoded_few": mimi.decode(codes[:, :few])[0, 0].numpy(),
        "codes_odd": mimi.encode(wave[..., :odd])[0].int().numpy(),
        "odd": np.array([odd], np.int32),
    }
    mimi.set_num_codebooks(few)
    out["codes_few"] = mimi.encode(wave)[0].int().numpy()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config", type=json.loads, default=TINY, help="JSON over Kyutai's sizes")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    config = sizes(args.config)
    (args.folder / "mimi_config.json").write_text(json.dumps(config, indent=1) + "\n")
    save(args.folder / "model.safetensors", random_mimi(config, args.seed))
    arrays = golden(args.folder, config, args.frames, args.seed)
    save_file(arrays, args.folder / "golden.safetensors")
    print({name: list(array.shape) for name, array in arrays.items()})
    print("different codes per codebook:", [len(set(row.tolist())) for row in arrays["codes"]])


if __name__ == "__main__":
    main()
