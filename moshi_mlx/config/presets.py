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
_DELAYED = [0, 0, *[2] * 31]  # text, the semantic codebook, the others
_TTS = {
    **_COMMON,
    **{
        "card": 2048,
        "text_card": 8000,
        "hidden_scale": 4.125,
        "context": 500,
        "max_period": 10_000,
    },
    **{"depformer_dim": 1024, "depformer_num_heads": 16, "depformer_num_layers": 4},
    **{"depformer_dim_feedforward": 3072, "depformer_pos_emb": "none"},
    **{"depformer_low_rank_embeddings": 128, "demux_second_stream": True, "model_type": "tts"},
}
_CONDITIONS = {  # of tts-1.6b
    "speaker_wavs": {"type": "tensor", "tensor": {"dim": 512}},
    "control": {
        "type": "lut",
        "lut": {"dim": 2048, "n_bins": 1, "tokenizer": "noop", "possible_values": ["ok"]},
    },
    "cfg": {
        "type": "lut",
        "lut": {
            "n_bins": 7,
            "dim": 16,
            "tokenizer": "noop",
            "possible_values": [f"{half / 2:.1f}" for half in range(2, 9)],
        },
    },
}
_STT = {**_COMMON, "dep_q": 0, "n_q": 32, "card": 2048, "delays": [0] * 33, "hidden_scale": 4.125}

PRESETS: dict[str, dict[str, Any]] = {
    "moshi-7b": _moshi(16, 8, 1, **_7B),
    "personaplex-7b": _moshi(16, 8, 1, **_7B) | {"dep_q": 16, "model_type": "personaplex"},
    "hibiki-2b": _moshi(32, 16, 2, **_2B, model_type="hibiki"),
    "hibiki-1b": _moshi(16, 8, 2, **_1B, model_type="hibiki"),
    "hibiki-zero": {
        **_moshi(32, 16, 2, **_2B, model_type="hibiki"),
        **{"dim": 2048, "num_heads": 16, "num_layers": 28, "max_period": 20_000},
        **{"hidden_scale": 6, "kv_repeat": 2, "positional_embedding": "rope_concat"},
        **{"depformer_dim_feedforward": None, "depformer_norm": "layer_norm"},
        "depformer_weights_per_step_schedule": [*range(8), *[8] * 8],
    },
    "tts-1.6b": {
        **_TTS,
        **{"dim": 2048, "num_heads": 16, "num_layers": 16, "n_q": 32, "dep_q": 32},
        **{"delays": _DELAYED, "cross_attention": True, "conditioners": _CONDITIONS},
        "depformer_weights_per_step_schedule": [*range(8), *[8] * 8, *[9] * 8, *[10] * 8],
        "fuser": {
            **{"cross_attention_pos_emb": True, "cross_attention_pos_emb_scale": 1},
            **{"sum": ["control", "cfg"], "prepend": [], "cross": ["speaker_wavs"]},
        },
    },
    "tts-0.75b": {
        **_TTS,
        **{"dim": 1024, "num_heads": 16, "num_layers": 24, "n_q": 16, "dep_q": 16},
        **{"delays": _DELAYED[:17], "text_card_out": 5},
        # Not published; nine sets add up to its size.
        "depformer_weights_per_step_schedule": [*range(8), *[8] * 8],
    },
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
