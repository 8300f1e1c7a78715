"""Writes the model folder that the package ships, in Kyutai's formats: LM in bfloat16, codec in float16.

python export.py --lm ckpt/lm.pt --codec ckpt/codec.pt --out ../../moshi_mlx/nano
"""

import argparse
import re
import shutil
from pathlib import Path

import torch
from codec_train import build
from lm_train import CONFIG_PATH
from safetensors.torch import save_file

HERE, PACKAGE = Path(__file__).parent, Path(__file__).parents[2] / "moshi_mlx" / "nano"
PROJECTION = re.compile(r"(in|out)_projs\.(\d+)\.weight$")


def packed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Attention projections of all depth steps in one tensor, as in Kyutai's files."""
    out: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[int, torch.Tensor]] = {}
    for name, tensor in state.items():
        if match := PROJECTION.search(name):
            kind = "in_proj_weight" if match[1] == "in" else "out_proj.weight"
            parts.setdefault(name[: match.start()] + kind, {})[int(match[2])] = tensor
        else:
            out[name] = tensor
    return out | {name: torch.cat([t for _, t in sorted(p.items())]) for name, p in parts.items()}


def write(lm: dict[str, torch.Tensor], codec: dict[str, torch.Tensor], out: Path) -> None:
    """A whole folder; samples, questions and tokenizer are those of the package."""
    out.mkdir(parents=True, exist_ok=True)
    lm = {k: v.to(torch.bfloat16).contiguous() for k, v in packed(lm).items()}
    save_file(lm, out / "model.safetensors")
    save_file({k: v.half().contiguous() for k, v in codec.items()}, out / "mimi.safetensors")
    shutil.copyfile(CONFIG_PATH, out / "config.json")
    shutil.copyfile(HERE / "mimi_config.json", out / "mimi_config.json")
    if out.resolve() != PACKAGE:
        for name in ("questions.json", "tokenizer.model"):
            shutil.copyfile(PACKAGE / name, out / name)
        shutil.copytree(PACKAGE / "samples", out / "samples", dirs_exist_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lm", type=Path, required=True)
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    write(torch.load(args.lm)["lm"], build(args.codec)[0].state_dict(), args.out)
    size = sum(p.stat().st_size for p in args.out.rglob("*") if p.is_file())
    print(f"{args.out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
