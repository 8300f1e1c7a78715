"""Trains the LM on the shards of `lm_encode.py`, with heads for phones, words and intents that are dropped afterwards.

    python lm_train.py --data CODES --codec ckpt/codec.pt --out ckpt/lm --steps 3000 [--minutes 40] [--resume]

Saves OUT.pt every two minutes. `--minutes` shortens the schedule on a slow machine: the learning rate falls with the
steps or the time, whichever is further.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from batch import NOT_FOR_THE_MODEL
from codec_train import build
from lm_data import EPAD, PAD, LmData, Pack, blurred
from moshi.models.lm import LMModel
from moshi.models.lm_utils import _delay_sequence
from phones import IGNORE, NUM_PHONES
from safetensors.torch import load_file
from torch import nn

CONFIG_PATH = Path(__file__).parent / "lm_config.json"
PHONE_LAYER, WORD_LAYER = 3, 5  # outputs that the heads read (1: after the first layer)
FIRST_WEIGHT, PAD_WEIGHT = 5.0, 0.6
SILENT_SHARE = 0.06  # of the frames without own speech go through the depth transformer
INTENTS = 42


def new_lm() -> LMModel:
    """The PyTorch model of `lm_config.json`, as Kyutai's loader would make it."""
    config = json.loads(CONFIG_PATH.read_text())
    return LMModel(**{k: v for k, v in config.items() if k not in NOT_FOR_THE_MODEL})


class Heads(nn.Module):
    """What the hidden states must tell besides the next token."""

    def __init__(self, dim: int, words: int) -> None:
        super().__init__()
        self.phones = nn.Linear(dim, 2 * NUM_PHONES)
        self.words = nn.Linear(dim, words)
        self.intent = nn.Linear(dim, INTENTS)


@torch.no_grad()
def start_from_codebooks(lm: LMModel, codec: nn.Module) -> None:
    """Audio embeddings begin as the codec's own vectors, turned at random: similar codes start similar."""
    splits = (codec.quantizer.rvq_first, codec.quantizer.rvq_rest)
    books = [(s, layer) for s in splits for layer in s.vq.layers]
    turn = torch.linalg.qr(torch.randn(lm.dim, lm.dim))[0]
    other = torch.linalg.qr(torch.randn(lm.dim, lm.dim))[0]
    scale = None
    for index, (split, layer) in enumerate(books):
        vectors = split.output_proj(layer._codebook.embedding[..., None])[..., 0]
        if scale is None:
            scale = 0.8 / math.sqrt(float(vectors.var(0).sum()))
        for position, matrix in ((index, other), (8 + index, turn)):
            lm.emb[position].weight[:256] = (
                scale * (vectors - vectors.mean(0)) @ matrix[: vectors.shape[1]]
            )


def hidden_states(lm: LMModel, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Inputs [B, 17, T] -> states for phones, words, and the normed output, each [B, T, C]."""
    x = lm.text_emb(inputs[:, 0])
    for book in range(lm.n_q):
        x = x + lm.emb[book](inputs[:, book + 1])
    kept = {}
    for number, layer in enumerate(lm.transformer.layers, 1):
        x = layer(x)
        kept[number] = x
    return kept[PHONE_LAYER], kept[WORD_LAYER], lm.out_norm(x)


def text_loss(logits: torch.Tensor, target: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    weight = torch.where(target == PAD, PAD_WEIGHT, 1.0) + (FIRST_WEIGHT - 1) * first
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    return (loss * weight.flatten()).sum() / target.numel()


def losses(lm: LMModel, heads: Heads, pack: Pack, rng: torch.Generator, aux: float) -> dict:
    """All terms of one batch; `total` is what is minimized."""
    initial = lm._get_initial_token().expand(len(pack.codes), -1, -1)
    delayed = torch.cat([initial, _delay_sequence(lm.delays, pack.codes, initial)], 2)
    early, middle, out = hidden_states(lm, blurred(delayed[:, :, :-1], rng))
    target = delayed[:, :, 1:]
    logits = lm.text_linear(out)
    terms = {"text": text_loss(logits, target[:, 0], pack.first)}
    speaks = pack.intent >= 0
    chosen = speaks | (torch.rand(speaks.shape, generator=rng) < SILENT_SHARE)
    picked = target.transpose(1, 2)[chosen]  # [N, 17]
    audio = lm.forward_depformer_training(picked.T[None], out[chosen][None])[0]  # [8, N, card]
    goal = picked[:, 1:9].T
    known = goal < lm.card
    each = (
        F.cross_entropy(audio.transpose(1, 2), goal.clamp(max=lm.card - 1), reduction="none")
        * known
    )
    terms["audio"] = (each[0].mean() * 2 + each[1:].mean() * 7) / 9
    phones = heads.phones(early).unflatten(-1, (2, NUM_PHONES))
    terms["phone"] = F.cross_entropy(
        phones.flatten(0, 2), pack.phones.flatten(), ignore_index=IGNORE
    )
    terms["word"] = F.cross_entropy(
        heads.words(middle).flatten(0, 1), pack.word.flatten(), ignore_index=-1
    )
    intents = heads.intent(out)
    terms["intent"] = F.cross_entropy(intents.flatten(0, 1), pack.intent.flatten(), ignore_index=-1)
    terms["total"] = (
        2 * terms["text"] + 0.5 * terms["audio"]
        + aux * (terms["phone"] + 0.6 * terms["word"]) + 0.3 * terms["intent"]
    )  # fmt: skip
    with torch.no_grad():
        guess = logits.argmax(-1)
        terms["first_right"] = (guess == target[:, 0])[pack.first > 0].float().mean()
        quiet = ~speaks
        terms["babble"] = ((guess != PAD) & (guess != EPAD))[quiet].float().mean()
        begins = speaks & ~torch.roll(speaks, 1, 1)
        begins[:, 0] = False
        terms["intent_right"] = (
            (intents.argmax(-1) == pack.intent)[torch.roll(begins, 1, 1)].float().mean()
        )
        terms["code_right"] = (audio.argmax(-1) == goal)[0].float().mean()
    return terms


def rate_at(progress: float, step: int, peak: float) -> float:
    return (
        peak
        * min(1.0, (step + 1) / 60)
        * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
    )


def save(
    path: Path, lm: LMModel, heads: Heads, optimizer: torch.optim.Optimizer, facts: dict
) -> None:
    part = path.with_suffix(".part")
    torch.save(
        {
            "lm": lm.state_dict(),
            "heads": heads.state_dict(),
            "optimizer": optimizer.state_dict(),
            **facts,
        },
        part,
    )
    part.rename(path.with_suffix(".pt"))


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    rng = torch.Generator().manual_seed(args.seed)
    data = LmData(args.data, args.seed)
    words = json.loads((args.data / "words.json").read_text())
    lm, step, spent_before = new_lm(), 0, 0.0
    heads = Heads(lm.dim, len(words))
    start_from_codebooks(lm, build(args.codec)[0])
    decay = [p for n, p in lm.named_parameters() if p.ndim > 1 and "emb" not in n]
    ids = {id(p) for p in decay}
    rest = [p for p in [*lm.parameters(), *heads.parameters()] if id(p) not in ids]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.97))
    if args.start:
        lm.load_state_dict({k: v.float() for k, v in load_file(args.start).items()})
    if args.resume:
        saved = torch.load(args.out.with_suffix(".pt"))
        lm.load_state_dict(saved["lm"])
        heads.load_state_dict(saved["heads"])
        optimizer.load_state_dict(saved["optimizer"])
        step, spent_before = saved["step"], saved["minutes"]
    started = saved_at = time.time()
    sums: dict = {}
    while True:
        spent = spent_before + (time.time() - started) / 60
        progress = max(step / args.steps, spent / args.minutes if args.minutes else 0.0)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate_at(progress, step, args.rate)
        terms = losses(
            lm, heads, data.pack(args.rows, args.frames), rng, 0.6 * (1 - progress) + 0.15
        )
        optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        torch.nn.utils.clip_grad_norm_([*lm.parameters(), *heads.parameters()], 1.0)
        optimizer.step()
        step += 1
        for key, value in terms.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach()) / args.log_every
        if step % args.log_every == 0:
            figures = " ".join(f"{k} {v:.3f}" for k, v in sums.items())
            print(
                f"{spent:.1f} min step {step} of {data.counts} talks: {figures}",
                flush=True,
            )
            sums = {}
            data.scan()
        if time.time() - saved_at > 120:
            save(args.out, lm, heads, optimizer, {"step": step, "minutes": spent})
            saved_at = time.time()
    save(args.out, lm, heads, optimizer, {"step": step, "minutes": spent})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument(
        "--start", type=Path, help="exported weights to begin with, the schedule from its start"
    )
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    train(args)


if __name__ == "__main__":
    main()
