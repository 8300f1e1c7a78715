"""Makes tests/golden/helium*: tiny random Heliums and what transformers says of them.

A developer's tool, never a test dependency. It needs torch and transformers 5:

    python tools/goldens/make_helium.py tests/golden

Files in transformers' layout, every weight exactly representable in bf16. `helium` has as many
key heads as query heads, as Kyutai's own files must (`kyutai.safetensors`: the same weights under
the names of their MLX code); `helium_grouped` has fewer, and the embedding is its head.
`ids` [T], `logits` [T, V] in float32, `greedy`: what greedy decoding goes on with after `ids`.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import HeliumConfig, HeliumForCausalLM

TOKENS, NEW_TOKENS = 24, 40
SIZES = {
    **{"vocab_size": 96, "hidden_size": 32, "intermediate_size": 88, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "head_dim": 8, "max_position_embeddings": 4096},
    **{"rms_norm_eps": 1e-8, "rope_theta": 100_000.0, "pad_token_id": 3},
}
MODELS = {
    "helium": {"num_key_value_heads": 4, "tie_word_embeddings": False},
    "helium_grouped": {"num_key_value_heads": 2, "tie_word_embeddings": True},
}


def randomise(model: torch.nn.Module) -> None:
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape)
        if parameter.dim() == 1:
            parameter.data = 1 + 0.2 * noise
        else:
            parameter.data = noise * (1.0 if "emb" in name else parameter.shape[-1] ** -0.5)
        parameter.data = parameter.data.bfloat16().float()


def kyutai_names(state: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """transformers' tensors under the names that Kyutai's MLX code gives them."""
    found = {
        "text_emb.weight": state["model.embed_tokens.weight"],
        "out_norm.weight": state["model.norm.weight"],
        "text_linear.weight": state["lm_head.weight"],
    }
    for i in range(layers):
        ours, theirs = f"transformer.layers.{i}", f"model.layers.{i}"
        found[f"{ours}.norm1.weight"] = state[f"{theirs}.input_layernorm.weight"]
        found[f"{ours}.norm2.weight"] = state[f"{theirs}.post_attention_layernorm.weight"]
        qkv = [state[f"{theirs}.self_attn.{p}_proj.weight"] for p in "qkv"]
        found[f"{ours}.self_attn.in_proj.weight"] = torch.cat(qkv)
        found[f"{ours}.self_attn.out_proj.weight"] = state[f"{theirs}.self_attn.o_proj.weight"]
        gate_up = [state[f"{theirs}.mlp.{p}_proj.weight"] for p in ("gate", "up")]
        found[f"{ours}.gating.linear_in.weight"] = torch.cat(gate_up)
        found[f"{ours}.gating.linear_out.weight"] = state[f"{theirs}.mlp.down_proj.weight"]
    return found


@torch.no_grad()
def make(name: str, sizes: dict, folder: Path) -> None:
    torch.manual_seed(len(name))
    config = HeliumConfig(**SIZES, **sizes)
    model = HeliumForCausalLM(config).float().eval()
    randomise(model)
    model.tie_weights()
    folder.mkdir(parents=True, exist_ok=True)
    config.architectures = ["HeliumForCausalLM"]
    config.to_json_file(folder / "config.json", use_diff=False)
    state = {k: v.detach().bfloat16().contiguous() for k, v in model.state_dict().items()}
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    else:
        kyutai = kyutai_names(state, config.num_hidden_layers)
        save_file({k: v.contiguous() for k, v in kyutai.items()}, folder / "kyutai.safetensors")
    save_file(state, folder / "model.safetensors")
    ids = torch.randint(4, config.vocab_size, (1, TOKENS))
    greedy = ids
    for _ in range(NEW_TOKENS):
        greedy = torch.cat([greedy, model(greedy).logits[:, -1:].argmax(-1)], 1)
    golden = {
        "ids": ids[0].int(),
        "logits": model(ids).logits[0],
        "greedy": greedy[0, TOKENS:].int(),
    }
    save_file({k: v.contiguous() for k, v in golden.items()}, folder / "golden.safetensors")
    print(name, {k: tuple(v.shape) for k, v in golden.items()}, golden["greedy"].tolist())


if __name__ == "__main__":
    for name, sizes in MODELS.items():
        make(name, sizes, Path(sys.argv[1]) / name)
