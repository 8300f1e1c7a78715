"""A small shape for the bench: wide enough for groups of 64, small enough for a second on a CPU."""

import json
from pathlib import Path

SMALL = {
    "dim": 128,
    "text_card": 64,
    "existing_text_padding_id": 3,
    "n_q": 8,
    "dep_q": 4,
    "card": 2048,
    "num_heads": 2,
    "num_layers": 2,
    "hidden_scale": 4.5,
    "causal": True,
    "context": 256,
    "max_period": 10000,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "depformer_dim": 64,
    "depformer_dim_feedforward": 288,
    "depformer_num_heads": 2,
    "depformer_num_layers": 1,
    "depformer_multi_linear": True,
    "depformer_pos_emb": "none",
    "depformer_weights_per_step": True,
    "delays": [0, 0, 1, 1, 1, 0, 1, 1, 1],
    "mimi_config_name": "mimi_config.json",
}


def small_shape(folder: Path, **changes) -> Path:
    """A `config.json` with nano's codec beside it, as a person would hand it in."""
    nano = Path(__file__).parents[3] / "moshi_mlx" / "nano"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mimi_config.json").write_bytes((nano / "mimi_config.json").read_bytes())
    path = folder / "config.json"
    path.write_text(json.dumps({**SMALL, "card": 256, **changes}))
    return path
