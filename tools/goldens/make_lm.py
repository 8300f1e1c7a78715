"""Makes tests/golden/lm_*: tiny random language models and what Kyutai's PyTorch says of them.

A developer's tool, never a test dependency. It needs torch and Kyutai's `moshi` 0.2.13:

    python tools/goldens/make_lm.py tests/golden

Weights are random, every value exactly representable in bf16; files in Kyutai's PyTorch layout.
`tf.*`: teacher-forced forward on 5 x context random frames, 10 % of the inputs -1; `gen.*`: greedy
LMGen on `user_codes`; `forced.*`: greedy codes where every step's text is given (text to speech).
"""

import json
import sys
from pathlib import Path

import torch
from moshi.conditioners import ConditionAttributes, TensorCondition
from moshi.models.lm import LMGen
from moshi.models.loaders import get_moshi_lm
from safetensors.torch import save_file

CONTEXT = 10
FRAMES = 5 * CONTEXT
LOGIT_STD = 3.0
BASE = {
    **{"dim": 32, "text_card": 48, "existing_text_padding_id": 3, "card": 40, "num_heads": 2},
    **{"num_layers": 2, "hidden_scale": 4.125, "causal": True, "layer_scale": None},
    **{"context": CONTEXT, "max_period": 10000, "gating": "silu", "norm": "rms_norm_f32"},
    **{"positional_embedding": "rope", "depformer_dim": 16, "depformer_dim_feedforward": 66},
    **{"depformer_num_heads": 2, "depformer_num_layers": 2, "depformer_layer_scale": None},
    **{"depformer_multi_linear": True, "depformer_context": 8, "depformer_max_period": 10000},
    **{"depformer_gating": "silu", "depformer_pos_emb": "none"},
    **{"depformer_weights_per_step": True},
}
LUT = {"type": "lut", "lut": {"n_bins": 5, "dim": 8, "tokenizer": "noop"}}
MODELS: dict[str, dict] = {
    "lm_moshi": {
        **BASE,
        **{"n_q": 16, "dep_q": 8, "delays": [0, *([0, *[1] * 7] * 2)], "model_type": "moshi"},
    },
    "lm_stt": {
        **BASE,
        **{"n_q": 4, "dep_q": 0, "delays": [0] * 5, "model_type": "stt"},
        **{"extra_heads_num_heads": 3, "extra_heads_dim": 5},
    },
    # feed-forward exactly 4 x dim, weights shared by schedule, low rank, a second text stream,
    # conditions summed and attended to, sinusoidal depth positions (the key left out)
    "lm_tts": {
        **{k: v for k, v in BASE.items() if k != "depformer_pos_emb"},
        **{"n_q": 6, "dep_q": 6, "delays": [0, 0, 2, 2, 2, 2, 2], "hidden_scale": 4},
        **{"depformer_dim_feedforward": 64, "depformer_low_rank_embeddings": 4},
        **{"depformer_weights_per_step_schedule": [0, 1, 2, 2, 3, 3]},
        **{"demux_second_stream": True, "cross_attention": True, "model_type": "tts"},
        "conditioners": {
            "mood": {"type": "lut", "lut": {**LUT["lut"], "possible_values": ["calm", "glad"]}},
            "voice": {"type": "tensor", "tensor": {"dim": 6}},
        },
        "fuser": {"sum": ["mood"], "cross": ["voice"], "cross_attention_pos_emb": True},
    },
}


def randomise(model: torch.nn.Module) -> None:
    """Random weights with outputs of a size that keeps logits well apart."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and not name.endswith("alpha"):
            std = parameter.shape[-1] ** -0.5
            if name.startswith(("text_linear", "linears", "extra_heads")):
                std *= LOGIT_STD
            if "emb" in name:
                std = 1.0
            parameter.data = torch.randn(parameter.shape) * std
        elif name.endswith("bias"):
            parameter.data = 0.1 * torch.randn(parameter.shape)
        else:
            parameter.data = 1 + 0.2 * torch.randn(parameter.shape)
        parameter.data = parameter.data.bfloat16().float()


def conditions(model, voice: torch.Tensor):
    if model.condition_provider is None:
        return None
    given = ConditionAttributes(
        text={"mood": "glad"},
        tensor={"voice": TensorCondition(voice[None], torch.tensor([[True] * 3 + [False]]))},
    )
    return model.condition_provider.prepare_and_provide([given])


def make(name: str, config: dict, folder: Path) -> None:
    torch.manual_seed(len(name))
    named = {k: v for k, v in config.items() if k != "model_type"}
    model = get_moshi_lm(None, json.loads(json.dumps(named)), dtype=torch.float32).eval()
    randomise(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    state = {k: v.detach().bfloat16().contiguous() for k, v in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    with torch.no_grad():
        golden = teacher_forced(model, config) | greedy(model, config)
        if config["n_q"] == config["dep_q"]:
            golden |= forced(model, config)
    save_file({k: v.contiguous() for k, v in golden.items()}, folder / "golden.safetensors")
    print(name, {k: tuple(v.shape) for k, v in golden.items()})


def random_codes(config: dict, frames: int) -> torch.Tensor:
    text = torch.randint(0, config["text_card"], (1, 1, frames))
    audio = torch.randint(0, config["card"], (1, config["n_q"], frames))
    codes = torch.cat([text, audio], 1)
    return torch.where(torch.rand(codes.shape) < 0.1, -1, codes)


def teacher_forced(model, config: dict) -> dict[str, torch.Tensor]:
    codes, voice = random_codes(config, FRAMES), torch.randn(4, 6)
    found = {"tf.codes": codes.int(), "voice": voice}
    given = conditions(model, voice)
    if config["dep_q"]:
        out = model(codes, given)
        return found | {"tf.text_logits": out.text_logits[:, 0], "tf.logits": out.logits}
    initial = model._get_initial_token()
    delayed = torch.cat([initial, codes], 2)[:, :, :-1]  # all delays are 0 here
    return found | {"tf.text_logits": model.forward_text(delayed)[1][:, 0]}


def greedy(model, config: dict) -> dict[str, torch.Tensor]:
    user = torch.randint(0, config["card"], (1, config["n_q"] - config["dep_q"], FRAMES + 14))
    rows: dict[str, list] = {"text_tokens": [], "audio_tokens": [], "out": [], "extra": []}
    torch.manual_seed(1)
    voice = torch.randn(4, 6)
    gen = LMGen(
        model,
        use_sampling=False,
        condition_tensors=conditions(model, voice),
        on_text_hook=lambda token: rows["text_tokens"].append(token.clone()),
        on_audio_hook=lambda codes: rows["audio_tokens"].append(codes.clone()),
    )
    with gen.streaming(1):
        for t in range(user.shape[-1]):
            out = gen.step_with_extra_heads(user[:, :, t : t + 1])
            if out is not None:
                rows["out"].append(out[0][0, :, 0])
                rows["extra"].extend([torch.cat(out[1], 1)[0]] if out[1] else [])
    found = {"user_codes": user[0].int(), "gen.voice": voice}
    found["gen.text_tokens"] = torch.cat(rows["text_tokens"]).int()
    found["gen.out_tokens"] = torch.stack(rows["out"], 1).int()
    if rows["audio_tokens"]:
        found["gen.audio_tokens"] = torch.cat(rows["audio_tokens"]).int()
    if rows["extra"]:
        found["gen.extra_heads"] = torch.stack(rows["extra"])
    return found


def forced(model, config: dict) -> dict[str, torch.Tensor]:
    """Greedy codes of a model that is told its text: `forced.text` [T] -> `forced.codes` [T, S]."""
    text, codes, voice = torch.randint(0, config["text_card"], (FRAMES,)), [], torch.randn(4, 6)

    def tell(token: torch.Tensor) -> None:
        token.fill_(int(text[len(codes)]))

    gen = LMGen(
        model,
        use_sampling=False,
        condition_tensors=conditions(model, voice),
        on_text_hook=tell,
        on_audio_hook=lambda sampled: codes.append(sampled.clone()),
    )
    with gen.streaming(1):
        for _ in range(FRAMES):
            gen.step(torch.zeros(1, config["n_q"] - config["dep_q"], 1, dtype=torch.long))
    found = {"forced.text": text.int(), "forced.codes": torch.cat(codes).int()}
    return found | {"forced.voice": voice}


if __name__ == "__main__":
    for name, config in MODELS.items():
        make(name, config, Path(sys.argv[1]) / name)
