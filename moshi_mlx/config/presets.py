"""Kyutai's published models by name, in the keys of their `config.json`."""

from typing import Any

from ..errors import ConfigError


def _moshi(n_q: int, dep_q: int, delay: int, **sizes: Any) -> dict[str, Any]:
    """One speech model; `delay` frames for every codebook but the first of each speaker."""
    streams = [0] + [delay] * (dep_q - 1)
    return {
        "card": 2048,
        "n_q": n_q,
        "dep_q": dep_q,
        "delays": [0, *streams * (n_q // dep_q)],
        "causal": True,
        "layer_scale": None,
        "context": 3000,
        "gating": "silu",
        "norm": "rms_norm_f32",
        "positional_embedding": "rope",
        "hidden_scale": 4.125,
        "existing_text_padding_id": 3,
        "depformer_dim": 1024,
        "depformer_dim_feedforward": 4224,
        "depformer_num_heads": 16,
        "depformer_num_layers": 6,
        "depformer_layer_scale": None,
        "depformer_multi_linear": True,
        "depformer_pos_emb": "none",
        "depformer_weights_per_step": True,
        **sizes,
    }


_7B = {"dim": 4096, "num_heads": 32, "num_layers": 32, "max_period": 10_000, "text_card": 32_000}
_2B = {"dim": 2560, "num_heads": 20, "num_layers": 24, "max_period": 100_000, "text_card": 48_000}
_1B = {"dim": 2048, "num_heads": 16, "num_layers": 16, "max_period": 100_000, "text_card": 48_000}
_TEXT_ONLY = {"n_q": 0, "dep_q": 0, "card": 2048, "delays": [0], "hidden_scale": 4.125}
_COMMON = {"norm": "rms_norm_f32", "gating": "silu", "positional_embedding": "rope"}
_STT = {**_COMMON, "dep_q": 0, "n_q": 32, "card": 2048, "delays": [0] * 33, "hidden_scale": 4.125}

PRESETS: dict[str, dict[str, Any]] = {
    "moshi-7b": _moshi(16, 8, 1, **_7B),
    "personaplex-7b": _moshi(16, 8, 1, **_7B) | {"dep_q": 16, "model_type": "personaplex"},
    "hibiki-2b": _moshi(32, 16, 2, **_2B, model_type="hibiki"),
    "hibiki-1b": _moshi(16, 8, 2, **_1B, model_type="hibiki"),
    "stt-1b": {
        **_STT,
        **{"dim": 2048, "num_heads": 16, "num_layers": 16, "max_period": 100_000},
        **{"text_card": 8000, "context": 750, "model_type": "stt"},
        **{"extra_heads_num_heads": 4, "extra_heads_dim": 6},
    },
    "stt-2.6b": {
        **_STT,
        **{"dim": 2048, "num_heads": 32, "num_layers": 48, "max_period": 100_000},
        **{"text_card": 4000, "context": 375, "model_type": "stt"},
    },
    "helium-2b": {**_TEXT_ONLY, **_COMMON, **_2B, "context": 4096, "model_type": "helium"},
}


def raw_preset(name: str) -> dict[str, Any]:
    """A copy of a preset's `config.json`. Raises ConfigError that lists the known names."""
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; known: {', '.join(PRESETS)}")
    return dict(PRESETS[name])
