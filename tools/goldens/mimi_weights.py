"""Random Mimi weights in Kyutai's names and layout, for any config: numpy alone, no model code.

Magnitudes keep every stage near unit size, so that codes vary from frame to frame and the
attention matters. Written from the list of names in PyTorch `moshi` 0.2.13's state dict.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

KYUTAI: dict[str, Any] = {
    "sample_rate": 24000,
    "channels": 1,
    "frame_rate": 12.5,
    "seanet": {
        "channels": 1,
        "dimension": 512,
        "causal": True,
        "n_filters": 64,
        "n_residual_layers": 1,
        "activation": "ELU",
        "compress": 2,
        "dilation_base": 2,
        "disable_norm_outer_blocks": 0,
        "kernel_size": 7,
        "residual_kernel_size": 3,
        "last_kernel_size": 3,
        "norm": "none",
        "pad_mode": "constant",
        "ratios": [8, 6, 5, 4],
        "true_skip": True,
    },
    "quantizer": {
        "dimension": 256,
        "n_q": 32,
        "bins": 2048,
        "input_dimension": 512,
        "output_dimension": 512,
    },
    "transformer": {
        "d_model": 512,
        "num_heads": 8,
        "num_layers": 8,
        "causal": True,
        "layer_scale": 0.01,
        "context": 250,
        "conv_layout": True,
        "max_period": 10000,
        "gating": "none",
        "norm": "layer_norm",
        "positional_embedding": "rope",
        "dim_feedforward": 2048,
        "input_dimension": 512,
        "output_dimensions": [512],
    },
}

Shape = tuple[int, ...]


def _conv(name: str, inputs: int, outputs: int, kernel: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (outputs, inputs, kernel)
    yield f"{name}.bias", (outputs,)


def _residual(seanet: Mapping[str, Any], name: str, width: int) -> Iterator[tuple[str, Shape]]:
    hidden = width // seanet["compress"]
    yield from _conv(f"{name}.block.1.conv.conv", width, hidden, seanet["residual_kernel_size"])
    yield from _conv(f"{name}.block.3.conv.conv", hidden, width, 1)
    if not seanet["true_skip"]:
        yield from _conv(f"{name}.shortcut.conv.conv", width, width, 1)


def _encoder(seanet: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    width, place = seanet["n_filters"], 1
    yield from _conv("encoder.model.0.conv.conv", 1, width, seanet["kernel_size"])
    for ratio in reversed(seanet["ratios"]):
        for _ in range(seanet["n_residual_layers"]):
            yield from _residual(seanet, f"encoder.model.{place}", width)
            place += 1
        yield from _conv(f"encoder.model.{place + 1}.conv.conv", width, 2 * width, 2 * ratio)
        width, place = 2 * width, place + 2
    last = seanet["last_kernel_size"]
    yield from _conv(f"encoder.model.{place + 1}.conv.conv", width, seanet["dimension"], last)


def _decoder(seanet: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    width, place = seanet["n_filters"] * 2 ** len(seanet["ratios"]), 1
    yield from _conv("decoder.model.0.conv.conv", seanet["dimension"], width, seanet["kernel_size"])
    for ratio in seanet["ratios"]:
        name = f"decoder.model.{place + 1}.convtr.convtr"
        yield f"{name}.weight", (width, width // 2, 2 * ratio)
        yield f"{name}.bias", (width // 2,)
        width, place = width // 2, place + 2
        for _ in range(seanet["n_residual_layers"]):
            yield from _residual(seanet, f"decoder.model.{place}", width)
            place += 1
    last = seanet["last_kernel_size"]
    yield from _conv(f"decoder.model.{place + 1}.conv.conv", width, 1, last)


def _transformer(config: Mapping[str, Any], part: str) -> Iterator[tuple[str, Shape]]:
    width, hidden, outer = config["d_model"], config["dim_feedforward"], config["input_dimension"]
    if width != outer:
        yield f"{part}.input_proj.weight", (width, outer)
        yield f"{part}.output_projs.0.weight", (outer, width)
    for index in range(config["num_layers"]):
        name = f"{part}.transformer.layers.{index}"
        for norm in ("norm1", "norm2"):
            yield f"{name}.{norm}.weight", (width,)
            yield f"{name}.{norm}.bias", (width,)
        yield f"{name}.self_attn.in_proj_weight", (3 * width, width)
        yield f"{name}.self_attn.out_proj.weight", (width, width)
        yield f"{name}.linear1.weight", (hidden, width)
        yield f"{name}.linear2.weight", (width, hidden)
        if config["layer_scale"] is not None:
            yield f"{name}.layer_scale_1.scale", (width,)
            yield f"{name}.layer_scale_2.scale", (width,)


def _quantizer(config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    width, outer = config["dimension"], config["input_dimension"]
    for part, books in (("rvq_first", 1), ("rvq_rest", config["n_q"] - 1)):
        yield f"quantizer.{part}.input_proj.weight", (width, outer, 1)
        yield f"quantizer.{part}.output_proj.weight", (outer, width, 1)
        for index in range(books):
            name = f"quantizer.{part}.vq.layers.{index}._codebook"
            yield f"{name}._initialized", (1,)
            yield f"{name}.cluster_usage", (config["bins"],)
            yield f"{name}.embedding_sum", (config["bins"], width)


def shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Name -> shape of every tensor of a Mimi with the sizes in `config`."""
    seanet, width = config["seanet"], config["seanet"]["dimension"]
    hop = int(np.prod(seanet["ratios"]))
    stride = int(config["sample_rate"] / config["frame_rate"]) // hop
    named = [*_encoder(seanet), *_decoder(seanet), *_quantizer(config["quantizer"])]
    for part in ("encoder_transformer", "decoder_transformer"):
        named += _transformer(config["transformer"], part)
    if stride > 1:
        named.append(("downsample.conv.conv.conv.weight", (width, width, 2 * stride)))
        named.append(("upsample.convtr.convtr.convtr.weight", (width, 1, 2 * stride)))
    return dict(named)


def random_mimi(config: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 tensors for `config`, each value exact in bf16."""
    rng = np.random.default_rng(seed)
    tensors = {name: _draw(name, shape, rng) for name, shape in sorted(shapes(config).items())}
    return {name: _bf16_exact(array) for name, array in tensors.items()}


def _draw(name: str, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """One tensor: centred on what the name asks for, spread by its fan-in."""
    normal = rng.standard_normal(shape, dtype=np.float32)
    if name.endswith("_initialized"):
        return np.ones(shape, np.float32)
    if name.endswith("cluster_usage"):
        return np.exp(0.5 * normal)
    if name.endswith("embedding_sum"):
        return normal * _book_spread(name)
    if ".norm" in name:
        return (1.0 if name.endswith("weight") else 0.0) + 0.1 * normal
    if name.endswith(".scale"):
        return 0.3 + 0.05 * normal
    if name.endswith(".bias"):
        return 0.02 * normal
    if name == "encoder.model.0.conv.conv.weight":
        return 8 * normal  # speech is quiet
    if name.startswith("upsample"):
        return 0.5 * normal
    if ".convtr." in name:
        normal -= normal.mean(axis=0, keepdims=True)
        normal *= np.float32(1.2 / np.sqrt(2 * shape[0]))
        return normal
    axes = tuple(range(1, len(shape)))  # what ELU adds to every channel must not pile up
    normal -= normal.mean(axis=axes, keepdims=True)
    normal *= np.float32(1.4 / np.sqrt(np.prod(shape[1:])))
    return normal


def _book_spread(name: str) -> float:
    """Later acoustic codebooks are finer."""
    index = int(name.split(".")[4])
    return 0.5 * 0.8**index


def _bf16_exact(array: np.ndarray) -> np.ndarray:
    """The array itself: a model's copies would take as long as its drawing."""
    bits = array.view(np.uint32)
    bits &= np.uint32(0xFFFF0000)
    return array


def save(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write `tensors` as a float32 safetensors file."""
    header, offset = {}, 0
    for name, array in tensors.items():
        end = offset + array.nbytes
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).data)
