"""Makes tests/golden/kyutai_mlx: files as Kyutai's `moshi_mlx` writes them, and its own logits.

A developer's tool, never a test dependency. It needs Kyutai's `moshi_mlx` 0.3.0 (no torch):

    python tools/goldens/make_kyutai_mlx.py tests/golden

One random model each for bf16, q8 (group 64) and q4 (group 32), of the least width that these
groups allow, under Kyutai's file names. `golden.safetensors`: `codes` [1, 1 + n_q, T] and logits
in float32 arithmetic, delayed as the model computes them: `text` [T, V], `audio` [T, dep_q, card];
`zero.*` the same with -1 among the inputs, for bf16 only: once quantized, `moshi_mlx` embeds it
wrongly. No more steps than the context, where its attention window is one too long.
"""

import json
import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_map_with_path
from moshi_mlx.models.lm import Lm, LmConfig

BASE = {
    **{"text_card": 48, "existing_text_padding_id": 3, "card": 40, "num_heads": 4},
    **{"n_q": 4, "dep_q": 2, "delays": [0, 0, 1, 0, 1], "num_layers": 1, "hidden_scale": 4.125},
    **{"causal": True, "layer_scale": None, "context": 12, "max_period": 10000},
    **{"gating": "silu", "norm": "rms_norm_f32", "positional_embedding": "rope"},
    **{"depformer_dim": 64, "depformer_dim_feedforward": 288, "depformer_num_heads": 2},
    **{"depformer_num_layers": 1, "depformer_layer_scale": None, "depformer_multi_linear": True},
    **{"depformer_context": 2, "depformer_max_period": 10000, "depformer_gating": "silu"},
    **{"depformer_pos_emb": "none", "depformer_weights_per_step": True},
}
# folder -> (width, file, (bits, group))
FILES: dict[str, tuple[int, str, tuple[int, int] | None]] = {
    "kyutai_bf16": (64, "model.safetensors", None),
    "kyutai_q4": (128, "model.q4.safetensors", (4, 32)),
    "kyutai_q8": (256, "model.q8.safetensors", (8, 64)),
}
STEPS = 12


def random_model(config: dict) -> Lm:
    model = Lm(LmConfig.from_config_dict(config))
    rng = np.random.default_rng(0)

    def draw(path: str, old: mx.array) -> mx.array:
        values = rng.standard_normal(old.shape)
        if old.ndim == 1:
            values = 1 + 0.2 * values
        elif "emb" not in path:
            values = values * old.shape[-1] ** -0.5 * (3 if "text_linear" in path else 1)
        return mx.array(values.astype(np.float32)).astype(mx.bfloat16)

    model.update(tree_map_with_path(draw, model.parameters()))
    return model


def logits(model: Lm, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Teacher forced, one step after the other; delays as in the config."""
    for cache in model.transformer_cache:
        cache.reset()
    initial = [BASE["text_card"]] + [BASE["card"]] * BASE["n_q"]
    delayed = np.broadcast_to(np.array(initial)[:, None], (len(initial), STEPS + 1)).copy()
    for k, frames in enumerate(BASE["delays"]):
        delayed[k, 1 + frames :] = codes[k, : STEPS - frames]
    text, audio = [], []
    for t in range(STEPS):
        x = model.text_emb(token(delayed[0, t]))
        for k, table in enumerate(model.audio_embs):
            x = x + table(token(delayed[1 + k, t]))
        out = model.out_norm(model.transformer(x, cache=model.transformer_cache))
        text.append(np.array(model.text_linear(out))[0, 0])
        for cache in model.depformer_cache:
            cache.reset()
        rows = []
        for s, part in enumerate(model.depformer.slices):
            x = part.linear_in(out) + part.emb(token(delayed[s, t + 1]))
            x = part.transformer(x, cache=model.depformer_cache)
            rows.append(np.array(part.linear_out(x))[0, 0])
        audio.append(rows)
    return np.array(text, np.float32), np.array(audio, np.float32)


def token(code: int) -> mx.array:
    return mx.array([[int(code)]])


def make(folder: Path, width: int, file: str, quantized: tuple[int, int] | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = BASE | {"dim": width}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    rng = np.random.default_rng(width)
    codes = rng.integers(0, BASE["card"], (1 + BASE["n_q"], STEPS)).astype(np.int32)
    inputs = {"": codes}
    if not quantized:
        inputs["zero."] = np.where(rng.random(codes.shape) < 0.2, -1, codes)
    model = random_model(config)
    if quantized:
        nn.quantize(model, bits=quantized[0], group_size=quantized[1])
    model.save_weights(str(folder / file))
    model.set_dtype(mx.float32)
    golden = {}
    for name, tokens in inputs.items():
        text, audio = logits(model, tokens)
        golden |= {f"{name}codes": tokens[None], f"{name}text": text, f"{name}audio": audio}
        print(folder.name, name, text.std(), audio.std())
    arrays = {name: mx.array(array) for name, array in golden.items()}
    mx.save_safetensors(str(folder / "golden.safetensors"), arrays)


if __name__ == "__main__":
    for name, (width, file, quantized) in FILES.items():
        make(Path(sys.argv[1]) / name, width, file, quantized)
