"""Small random checkpoints in Kyutai's layouts, and nn.quantize on a tree of plain MLX modules."""

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

RAW_CONFIG = {
    **{"dim": 128, "num_heads": 4, "num_layers": 3, "hidden_scale": 3, "context": 16},
    **{"text_card": 60, "card": 40, "n_q": 4, "dep_q": 2, "delays": [0, 0, 1, 0, 1]},
    **{"gating": "silu", "norm": "rms_norm_f32", "positional_embedding": "rope"},
    **{"depformer_dim": 64, "depformer_num_heads": 2, "depformer_num_layers": 1},
    **{"depformer_dim_feedforward": 192, "depformer_pos_emb": "none"},
}


def shapes(raw: dict) -> dict[str, tuple[int, ...]]:
    """Kyutai's MLX layout, written down again from formats.md (hidden = 2 * feedforward / 3)."""
    dim, depth = raw["dim"], raw.get("depformer_dim", 0)

    def transformer(at: str, dim: int, hidden: int, layers: int):
        for layer in range(layers):
            p = f"{at}.layers.{layer}"
            yield from ((f"{p}.norm{n}.weight", (dim,)) for n in (1, 2))
            yield f"{p}.self_attn.in_proj.weight", (3 * dim, dim)
            yield f"{p}.self_attn.out_proj.weight", (dim, dim)
            yield f"{p}.gating.linear_in.weight", (2 * hidden, dim)
            yield f"{p}.gating.linear_out.weight", (dim, hidden)

    found = {"text_emb.weight": (raw["text_card"] + 1, dim), "out_norm.weight": (dim,)}
    found["text_linear.weight"] = (raw["text_card"], dim)
    found |= {f"audio_embs.{k}.weight": (raw["card"] + 1, dim) for k in range(raw["n_q"])}
    hidden = 2 * int(raw["hidden_scale"] * dim) // 3
    found |= dict(transformer("transformer", dim, hidden, raw["num_layers"]))
    for s in range(raw["dep_q"]):
        p, hidden = f"depformer.slices.{s}", 2 * raw["depformer_dim_feedforward"] // 3
        found[f"{p}.emb.weight"] = (raw["text_card" if s == 0 else "card"] + 1, depth)
        found[f"{p}.linear_in.weight"] = (depth, dim)
        found[f"{p}.linear_out.weight"] = (raw["card"], depth)
        layers = raw["depformer_num_layers"]
        found |= dict(transformer(f"{p}.transformer", depth, hidden, layers))
    return found


def random_weights(raw: dict, seed: int = 0) -> dict[str, mx.array]:
    """bf16, in Kyutai's MLX layout; norms of the depth transformer are shared by its slices."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in shapes(raw).items():
        twin = name.replace("slices.1.", "slices.0.") if "norm" in name else name
        values = rng.normal(size=shape).astype(np.float32) / shape[-1] ** 0.5
        found[name] = found.get(twin, mx.array(values).astype(mx.bfloat16))
    return found


def to_pytorch(weights: dict[str, mx.array], raw: dict) -> dict[str, mx.array]:
    """Kyutai's PyTorch layout of the same numbers: alphas, and slices fused along the rows."""
    found = {}
    for name, w in weights.items():
        words = name.split(".")
        if words[0] == "depformer":
            s, rest = int(words[2]), ".".join(words[3:])
            if rest.startswith("transformer.") and "self_attn" in rest:
                fused = "depformer." + rest.removeprefix("transformer.")
                fused = fused.replace("in_proj.weight", "in_proj_weight")
                found[fused] = mx.concatenate([found[fused], w]) if s else w
            elif "norm" in rest:
                layer = rest.removeprefix("transformer.").removesuffix(".weight")
                found[f"depformer.{layer}.alpha"] = w[None, None]
            elif rest.startswith("transformer."):
                layer, _, end = rest.removeprefix("transformer.").partition(".gating.")
                found[f"depformer.{layer}.gating.{s}.{end}"] = w
            elif rest == "emb.weight":
                found[
                    "depformer_text_emb.weight" if s == 0 else f"depformer_emb.{s - 1}.weight"
                ] = w
            else:
                kind = {"linear_in.weight": "depformer_in", "linear_out.weight": "linears"}[rest]
                found[f"{kind}.{s}.weight"] = w
        elif words[0] == "audio_embs":
            found[f"emb.{words[1]}.weight"] = w
        elif "norm" in name:
            found[name.replace(".weight", ".alpha")] = w[None, None]
        else:
            found[name.replace("in_proj.weight", "in_proj_weight")] = w
    return found


def write_model(folder: Path, raw: dict | None = None, layout: str = "pytorch") -> dict:
    """A folder with config.json, weights, and stand-ins for Mimi and tokenizer; MLX weights."""
    raw = dict(raw or RAW_CONFIG)
    raw |= {"mimi_name": "mimi.safetensors", "tokenizer_name": "tokenizer.model"}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "mimi.safetensors").write_bytes(b"mimi")
    (folder / "tokenizer.model").write_bytes(b"pieces")
    weights = random_weights(raw)
    stored = to_pytorch(weights, raw) if layout == "pytorch" else weights
    mx.save_safetensors(str(folder / "model.safetensors"), stored)
    return weights


def nn_quantized(weights: dict[str, mx.array], bits: int, group_size: int) -> dict[str, mx.array]:
    """The same weights in nn.Linear and nn.Embedding modules, after mlx.nn.quantize."""
    tree = nn.Module()
    for name, w in weights.items():
        *path, layer, kind = name.split(".")
        node = tree
        for word in path:
            node = node.setdefault(word, nn.Module())
        if w.ndim == 2:
            leaf = nn.Embedding(1, 1) if "emb" in name else nn.Linear(1, 1, bias=False)
        else:
            leaf = nn.RMSNorm(1)
        leaf[kind] = w
        node[layer] = leaf
    nn.quantize(tree, bits=bits, group_size=group_size)
    return dict(tree_flatten(tree.parameters()))
