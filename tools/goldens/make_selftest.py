"""Makes app/selftest/golden.safetensors: what Kyutai's PyTorch says of the self-test's models.

A developer's tool, never a test dependency. It needs torch, Kyutai's `moshi` 0.2.13 and MLX-free
parts of this checkout:

    python tools/goldens/make_selftest.py app/selftest/golden.safetensors

Only what was computed is stored, the rest follows from names (app/selftest/probe.py) or lies in the
package (nano). `*.text` [rows, columns] and `*.audio` [S, rows, columns]: logits at some steps and
columns (see app/selftest/goldens.py); `*.greedy` [1 + S, T]: the likeliest token of each step, -1
where a second one is as good as that.
"""

import json
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from safetensors.numpy import save_file

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from moshi.conditioners import ConditionAttributes, TensorCondition  # noqa: E402  # pyright: ignore
from moshi.models.lm import LMGen  # noqa: E402  # pyright: ignore
from moshi.models.loaders import get_mimi, get_moshi_lm  # noqa: E402  # pyright: ignore

from app.selftest import goldens, probe  # noqa: E402
from moshi_mlx.config.reading import parse_config  # noqa: E402
from moshi_mlx.weights.tensor_names import source_of  # noqa: E402

NANO = ROOT / "moshi_mlx" / "nano"
MARGIN = 0.02  # between the two likeliest tokens, in logits


def pytorch_state(tensors: probe.Numbers, config: Any, wanted: dict) -> dict[str, torch.Tensor]:
    """Kyutai's MLX layout -> the names and shapes of their PyTorch module."""
    found: dict[str, np.ndarray] = {n: np.zeros(t.shape, np.float32) for n, t in wanted.items()}
    filled = set()
    for name, tensor in tensors.items():
        for source, parts, part in source_of(name, config).names:
            if source in found:
                whole = found[source]
                rows = len(whole) // parts
                whole[part * rows : (part + 1) * rows] = tensor.reshape((rows, *whole.shape[1:]))
                filled.add(source)
                break
        else:
            raise SystemExit(f"no site for {name}")
    if left := set(found) - filled:
        raise SystemExit(f"not filled: {sorted(left)}")
    return {name: torch.from_numpy(array) for name, array in found.items()}


def build(raw: dict, tensors: probe.Numbers | None = None, file: Path | None = None) -> Any:
    named = {k: v for k, v in raw.items() if not k.endswith("_name") and k != "model_type"}
    named.pop("lm_gen_config", None)
    model = get_moshi_lm(file, json.loads(json.dumps(named)), dtype=torch.float32, device="cpu")
    if tensors is not None:
        state = pytorch_state(tensors, parse_config(raw, "probe"), model.state_dict())
        model.load_state_dict(state)
    return model.eval()


def likeliest(logits: np.ndarray) -> np.ndarray:
    """[..., V] -> [...], -1 where two are within MARGIN of each other."""
    best = np.sort(logits, axis=-1)[..., -2:]
    return np.where(best[..., 1] - best[..., 0] > MARGIN, logits.argmax(-1), -1).astype(np.int16)


def kept(logits: np.ndarray) -> np.ndarray:
    return logits[..., goldens.columns_of(logits.shape[-1])]


def of_model(
    model: Any, config: Any, inputs: np.ndarray, known: np.ndarray, given: Any = None
) -> dict[str, np.ndarray]:
    """Logits of text and codes, teacher forced: inputs [1 + K, T], known [1 + S, T]."""
    total, cross = None, None
    if given is not None:
        total, cross = (model.fuser.get_sum(given), model.fuser.get_cross(given))
    sequence = torch.from_numpy(inputs.astype(np.int64))[None]
    out, text = model.forward_text(sequence, total, cross)
    told = np.full((model.num_codebooks, known.shape[1]), 0)
    told[: len(known)] = known
    audio = model.forward_depformer_training(torch.from_numpy(told)[None], out)
    text, audio = text[0, 0].numpy(), audio[0].numpy()
    rows = goldens.rows_of(known.shape[1])
    return {
        "text": kept(text[rows]),
        "audio": kept(audio[:, rows]),
        "greedy": np.concatenate([likeliest(text)[None], likeliest(audio)]),
    }


def of_depth(model: Any, config: Any, steps: int) -> np.ndarray:
    """The depth transformer by itself, given `temporal_outputs` -> [S, rows, columns]."""
    out = torch.from_numpy(probe.temporal_outputs(config, steps))[None]
    told = np.zeros((model.num_codebooks, steps), np.int64)
    told[: 1 + config.dep_q] = probe.known(config, steps, "depth")
    audio = model.forward_depformer_training(torch.from_numpy(told)[None], out)[0].numpy()
    return kept(audio)


def talker() -> dict[str, np.ndarray]:
    raw = dict(probe.TALKER)
    config = parse_config(raw, "probe")
    model = build(raw, probe.tensors(config))
    inputs = probe.tokens(config, probe.STEPS, "talker")
    found = of_model(model, config, inputs, probe.known(config, probe.STEPS, "talker known"))
    found["depth"] = of_depth(model, config, probe.SHORT_STEPS)
    ids = torch.from_numpy(goldens.helium_ids(config).astype(np.int64))
    text = model.text_linear(model.out_norm(model.transformer(model.text_emb(ids))))
    found["helium"] = kept(text[0].numpy()[goldens.rows_of(ids.shape[1])])
    return {f"talker.{name}": array for name, array in found.items()}


def reader() -> dict[str, np.ndarray]:
    raw = dict(probe.READER)
    config = parse_config(raw, "probe")
    model = build(raw, probe.tensors(config))
    mask = torch.tensor([[True] * (probe.VOICE_STEPS - 1) + [False]])
    given = ConditionAttributes(
        text={"mood": "glad"},
        tensor={"voice": TensorCondition(torch.from_numpy(probe.voice(config))[None], mask)},
    )
    conditions = model.condition_provider.prepare_and_provide([given])
    inputs = probe.tokens(config, probe.SHORT_STEPS, "reader")
    known = probe.known(config, probe.SHORT_STEPS, "reader known")
    found = of_model(model, config, inputs, known, conditions)
    return {f"reader.{name}": array for name, array in found.items()}


def nano() -> dict[str, np.ndarray]:
    """The embedded model: teacher forced, and a greedy talk."""
    raw = json.loads((NANO / "config.json").read_text())
    config = parse_config(raw, "nano")
    model = build(raw, file=NANO / "model.safetensors")
    inputs = probe.tokens(config, probe.STEPS, "nano")
    found = of_model(model, config, inputs, probe.known(config, probe.STEPS, "nano known"))
    user = goldens.user_codes(config)
    gen = LMGen(model, use_sampling=False)
    heard, said = [], []
    with gen.streaming(1):
        for codes in user.T:
            out = gen.step(torch.from_numpy(codes.astype(np.int64))[None, :, None])
            if out is not None:
                said.append(out[0, :, 0].numpy())
                heard.append(codes)
    found["talk"] = np.stack(said, 1).astype(np.int16)
    return {f"nano.{name}": array for name, array in found.items()}


def mimi() -> dict[str, np.ndarray]:
    raw = json.loads((NANO / "mimi_config.json").read_text())
    codec = get_mimi(NANO / "mimi.safetensors", raw, num_codebooks=8)
    with wave.open(str(NANO / goldens.SAMPLE)) as file:
        samples = np.frombuffer(file.readframes(goldens.CODEC_FRAMES * 1920), np.int16)
    pcm = samples.astype(np.float32) / 32768
    codes = codec.encode(torch.from_numpy(pcm)[None, None])
    decoded = codec.decode(codes)[0, 0].numpy()
    return {
        "mimi.codes": codes[0].numpy().astype(np.int16),
        "mimi.pcm": decoded[:: goldens.PCM_STRIDE],
    }


@torch.no_grad()
def main() -> None:
    found = talker() | reader() | nano() | mimi()
    for name, array in found.items():
        print(name, array.shape, array.dtype, float(np.abs(array).max()))
        if name.endswith("greedy"):
            print("   not told:", float((array < 0).mean()))
    save_file({k: np.ascontiguousarray(v) for k, v in found.items()}, sys.argv[1])
    print(Path(sys.argv[1]).stat().st_size, "bytes")


if __name__ == "__main__":
    main()
