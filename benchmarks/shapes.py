"""The models that both sides of a benchmark build: the 7B's layers and vocabularies, other widths.

Imported in both environments, so it may only use the standard library.
"""

from typing import Any

TEXT = (0.7, 25)  # temperature and top-k of both sides' samplers (PyTorch's defaults)
AUDIO = (0.8, 250)


def raw_config(width: int, heads: int) -> dict[str, Any]:
    """`config.json` of a Moshi with 32 + 8 x 6 layers, both transformers `width` wide."""
    delays = [0] + [1] * 7
    return {
        "dim": width,
        "num_heads": heads,
        "num_layers": 32,
        "max_period": 10_000,
        "text_card": 32_000,
        "card": 2048,
        "n_q": 16,
        "dep_q": 8,
        "delays": [0, *delays, *delays],
        "causal": True,
        "layer_scale": None,
        "context": 3000,
        "gating": "silu",
        "norm": "rms_norm_f32",
        "positional_embedding": "rope",
        "hidden_scale": 4.125,
        "existing_text_padding_id": 3,
        "depformer_dim": width,
        "depformer_dim_feedforward": width * 4224 // 1024,
        "depformer_num_heads": heads,
        "depformer_num_layers": 6,
        "depformer_layer_scale": None,
        "depformer_multi_linear": True,
        "depformer_pos_emb": "none",
        "depformer_weights_per_step": True,
    }


def listening_config(width: int, heads: int) -> dict[str, Any]:
    """stt-1b's layers, codebooks and vocabularies."""
    return {
        **raw_config(width, heads),
        **{"num_layers": 16, "max_period": 100_000, "context": 750, "text_card": 8000},
        **{"n_q": 32, "dep_q": 0, "delays": [0] * 33},
        **{"extra_heads_num_heads": 4, "extra_heads_dim": 6},
    }


def speaking_config(width: int, heads: int) -> dict[str, Any]:
    """tts-1.6b's: 32 codebooks, 11 sets of weights, five slots for voices, a second text stream."""
    words = {"tokenizer": "noop", "dim": 16}
    strengths = [f"{half / 2:.1f}" for half in range(2, 9)]
    return {
        **raw_config(width, heads),
        **{"num_layers": 16, "context": 500, "text_card": 8000, "n_q": 32, "dep_q": 32},
        **{"delays": [0, 0, *[2] * 31], "demux_second_stream": True},
        **{"depformer_num_layers": 4, "depformer_dim_feedforward": 3 * width},
        **{"depformer_low_rank_embeddings": 128},
        "depformer_weights_per_step_schedule": [*range(8), *[8] * 8, *[9] * 8, *[10] * 8],
        "cross_attention": True,
        "conditioners": {
            "speaker_wavs": {"type": "tensor", "tensor": {"dim": 512}},
            "control": {"type": "lut", "lut": {**words, "n_bins": 1, "possible_values": ["ok"]}},
            "cfg": {"type": "lut", "lut": {**words, "n_bins": 7, "possible_values": strengths}},
        },
        "fuser": {
            **{"cross_attention_pos_emb": True, "cross_attention_pos_emb_scale": 1},
            **{"sum": ["control", "cfg"], "prepend": [], "cross": ["speaker_wavs"]},
        },
    }


VOICE_STEPS, VOICE_WIDTH = 625, 512  # five speakers of ten seconds
MODELS = {  # name -> width, heads, recipe
    "width-64-fp32": (64, 4, "fp32"),
    "width-512-q4": (512, 8, "q4"),
    "width-128-q4": (128, 4, "q4"),  # the narrowest whose MLP groups of 32 divide
}
