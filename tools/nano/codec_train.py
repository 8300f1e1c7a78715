"""Trains the codec (the encoder and quantizer, then the decoder alone while the LM trains on fixed codes).

    python codec_train.py --data DIR --start mimi.safetensors --out ckpt/codec --steps 1000
    python codec_train.py --data DIR --start ckpt/codec.pt --out ckpt/decoder --steps 800 --decoder-only

Saves OUT.pt (weights, heads, optimizer, step) every five minutes; begins again from there with --resume.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.multiprocessing as mp
from codec_data import CodecData
from codec_losses import LatentHeads, PitchLoss, SpectralLoss
from moshi.models import loaders
from safetensors.torch import load_file
from torch import distributed, nn

CONFIG_PATH = Path(__file__).parent / "mimi_config.json"


def build(start: Path | None) -> tuple[torch.nn.Module, LatentHeads]:
    """The codec and its heads, from a checkpoint of ours or a Mimi file."""
    config = json.loads(CONFIG_PATH.read_text())
    codec = loaders.get_mimi(None, config, num_codebooks=8)
    heads = LatentHeads(config["quantizer"]["output_dimension"])
    if start is not None and start.suffix == ".pt":
        saved = torch.load(start)
        codec.load_state_dict(saved["codec"])
        heads.load_state_dict(saved["heads"])
    elif start is not None:
        codec.load_state_dict({k: v.float() for k, v in load_file(start).items()})
    return codec, heads


def quantize(codec: torch.nn.Module, latent: torch.Tensor) -> tuple:
    """Latent [B, D, frames] -> first codebook's part, the sum, the commitment penalty."""
    first = codec.quantizer.rvq_first(latent, codec.frame_rate)
    rest = codec.quantizer.rvq_rest(latent, codec.frame_rate)
    return first.x, first.x + rest.x, first.penalty + rest.penalty


def decode(codec: torch.nn.Module, quantized: torch.Tensor, samples: int) -> torch.Tensor:
    """[B, D, frames] -> [B, samples]."""
    up = codec._to_encoder_framerate(quantized)
    (up,) = codec.decoder_transformer(up)
    return codec.decoder(up)[:, 0, :samples]


def encode(codec: torch.nn.Module, pcm: torch.Tensor) -> torch.Tensor:
    """[B, samples] -> latent [B, D, frames]."""
    emb = codec.encoder(pcm[:, None])
    (emb,) = codec.encoder_transformer(emb)
    return codec._to_framerate(emb)


def decoded_part(size: int) -> int:
    """How many of a batch are decoded while the encoder learns: decoding costs as much as encoding."""
    return max(1, size * 3 // 10)


def average_gradients(params: list[torch.Tensor]) -> None:
    """All workers step with the same gradient."""
    for p in params:
        if p.grad is None:  # no own voice in this worker's batch
            p.grad = torch.zeros_like(p)
    flat = torch.cat([p.grad.flatten() for p in params])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for p, mean in zip(params, flat.split([p.numel() for p in params]), strict=True):
        p.grad.copy_(mean.view_as(p))


def losses(
    codec: torch.nn.Module, heads: LatentHeads, sounds: nn.ModuleList, batch, frozen: bool
) -> dict:
    """All terms of one batch; `total` is what is minimized."""
    heard = torch.from_numpy(batch.heard)
    half = len(heard) if frozen else decoded_part(len(heard))
    target, own = torch.from_numpy(batch.target[:half]), torch.from_numpy(batch.own[:half]).float()
    with torch.set_grad_enabled(not frozen):
        first, every, commit = quantize(codec, encode(codec, heard))
        terms = heads(first, every, torch.from_numpy(batch.phones), torch.from_numpy(batch.pitch))
    spectral, periodic = sounds
    out = decode(codec, every[:half], heard.shape[1])
    sound, melody = spectral(out, target), periodic(out, target)
    terms["own"] = (sound * own).sum() / own.sum().clamp(min=1)
    terms["user"] = (sound * (1 - own)).sum() / (1 - own).sum().clamp(min=1)
    terms["melody"] = (melody * own).sum() / own.sum().clamp(min=1)
    terms["commit"] = commit
    terms["total"] = 2 * terms["own"] + terms["user"] + MELODY_WEIGHT * terms["melody"]
    if not frozen:
        terms["total"] = (
            terms["total"] + 1.0 * terms["phone1"] + 1.0 * terms["phone8"] + terms["pitch"] + commit
        )
    return terms


MELODY_WEIGHT = 0.6
FROZEN_LAYERS = 4  # of SEANet's encoder, at 24 and 6 kHz: a third of the cost and good enough from the warm start


def train(rank: int, args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    if args.workers > 1:
        distributed.init_process_group(
            "gloo", f"file://{args.out}.rendezvous", rank=rank, world_size=args.workers
        )
    data = CodecData(args.data, args.seed * 100 + rank)
    codec, heads = build(args.start)
    sounds = nn.ModuleList([SpectralLoss(), PitchLoss()])
    codec.train(not args.decoder_only)
    if args.freeze_first:
        codec.encoder.model[:FROZEN_LAYERS].requires_grad_(False)
    decoder = [
        *codec.upsample.parameters(),
        *codec.decoder_transformer.parameters(),
        *codec.decoder.parameters(),
    ]
    params = decoder if args.decoder_only else [*codec.parameters(), *heads.parameters()]
    params = [p for p in params if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=args.rate, betas=(0.9, 0.98), weight_decay=1e-3)
    started, step, sums = time.time(), 0, {}
    saved = started
    while step < args.steps:
        spent = (time.time() - started) / 60
        rate = (
            args.rate
            * min(1, (step + 1) / 50)
            * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        terms = losses(
            codec, heads, sounds, data.batch(args.batch, args.frames, args.own), args.decoder_only
        )
        optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        if args.workers > 1:
            average_gradients(params)
        torch.nn.utils.clip_grad_norm_(params, 2.0)
        optimizer.step()
        step += 1
        for key, value in terms.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach()) / args.log_every
        if step % args.log_every == 0 and rank == 0:
            print(
                f"{spent:.1f} min step {step} " + " ".join(f"{k} {v:.3f}" for k, v in sums.items()),
                flush=True,
            )
        if step % args.log_every == 0:
            sums = {}
        if rank == 0 and time.time() - saved > 300:
            save(args.out, codec, heads)
            saved = time.time()
    if rank == 0:
        save(args.out, codec, heads)


def save(out: Path, codec: torch.nn.Module, heads: LatentHeads) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"codec": codec.state_dict(), "heads": heads.state_dict()}, out.with_suffix(".pt"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument(
        "--own", type=float, default=0.6, help="share of Moshi's own voice in the decoded part"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--decoder-only", action="store_true")
    parser.add_argument(
        "--freeze-first", action="store_true", help="keep the encoder's first layers as they are"
    )
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_name(args.out.name + ".rendezvous").unlink(missing_ok=True)
    if args.workers > 1:
        mp.spawn(train, (args,), nprocs=args.workers)
    else:
        train(0, args)


if __name__ == "__main__":
    main()
