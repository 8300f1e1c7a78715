"""The tiny Heliums of tests/golden: in transformers' layout, and under Kyutai's names."""

KYUTAI_CONFIG = {
    **{"dim": 32, "num_heads": 4, "num_layers": 2, "text_card": 96, "hidden_scale": 4.125},
    **{"n_q": 0, "dep_q": 0, "card": 2048, "delays": [0], "context": 4096, "max_period": 100_000},
    **{"norm": "rms_norm_f32", "gating": "silu", "positional_embedding": "rope"},
}
