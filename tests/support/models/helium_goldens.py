"""The tiny Heliums of tests/golden, in transformers' layout and under Kyutai's names; one tied."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np

KYUTAI_CONFIG = {
    **{"dim": 32, "num_heads": 4, "num_layers": 2, "text_card": 96, "hidden_scale": 4.125},
    **{"n_q": 0, "dep_q": 0, "card": 2048, "delays": [0], "context": 4096, "max_period": 100_000},
    **{"norm": "rms_norm_f32", "gating": "silu", "positional_embedding": "rope"},
}

# As a transformers of 2025 saves one whose head is its embedding; some exporters write both.
TIED_CONFIG = {
    **{"architectures": ["HeliumForCausalLM"], "model_type": "helium", "vocab_size": 256},
    **{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 32},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128},
    **{"attention_bias": False, "mlp_bias": False, "hidden_act": "silu", "rms_norm_eps": 1e-08},
    **{"rope_theta": 100000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16"},
}


def write_tied(folder: Path, head: float | None) -> Path:
    """A folder with weights by chance, in bf16; `head`: None, or how far lm_head.weight is from
    the embedding."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TIED_CONFIG))
    draw = np.random.default_rng(0).normal
    square = {"self_attn.q_proj": (64, 64), "self_attn.o_proj": (64, 64)}
    narrow = {"self_attn.k_proj": (32, 64), "self_attn.v_proj": (32, 64)}
    mlp = {"mlp.gate_proj": (96, 64), "mlp.up_proj": (96, 64), "mlp.down_proj": (64, 96)}
    norms = {"input_layernorm": (64,), "post_attention_layernorm": (64,)}
    shapes = {"model.embed_tokens": (256, 64), "model.norm": (64,)}
    for i in range(2):
        for name, shape in (square | narrow | mlp | norms).items():
            shapes[f"model.layers.{i}.{name}"] = shape
    tensors = {
        f"{name}.weight": mx.array(draw(len(shape) == 1, 0.1, shape)).astype(mx.bfloat16)
        for name, shape in shapes.items()
    }
    if head is not None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + head
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    return folder
