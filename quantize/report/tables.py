"""A report's tables, the same on the terminal, on the page and in a model card."""

from collections.abc import Sequence

from moshi_mlx.errors import printable

from .repetition import Repetition
from .report import Report
from .talk_error import TalkError

Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # heads, rows


def size_line(report: Report) -> str:
    return (
        f"{printable(report.recipe)}: {report.quantized_bytes / 1e9:.3f} GB of "
        f"{report.original_bytes / 1e9:.3f}, {report.bits_per_weight:.2f} bits per weight, "
        f"weights off by {report.mean_error:.2%} on average"
    )


# share of text tokens chosen alike, largest first -> what that means for a listener
JUDGEMENTS = (
    (0.99, "as good as the original on this material"),
    (0.95, "close to the original on this material"),
    (0.85, "not the same as the original on this material: listen before you publish it"),
    (0.0, "another model than the original on this material: take more bits, or --calibrate"),
)


def judgement(report: Report) -> str:
    """One sentence: is it good enough. Of equal choices in teacher-forced talk."""
    if (talk := report.talk) is None:
        return "how it talks wasn't measured: give --audio, a folder of recordings"
    text, *codebooks = talk.streams
    verdict = next(said for least, said in JUDGEMENTS if text.top1_agreement >= least)
    told = f"{verdict}: {text.top1_agreement:.1%} of the text tokens are chosen alike"
    if codebooks:
        alike = sum(s.top1_agreement for s in codebooks) / len(codebooks)
        told += f", and {alike:.1%} of the codes"
    return told


def short(report: Report) -> str:
    """After each run: two lines."""
    worst = ", ".join(f"{printable(x.name)} {x.relative_error:.1%}" for x in report.worst(3))
    return f"{size_line(report)}\nmost: {worst}"


def layers(report: Report, count: int | None = None) -> Table:
    """All tensors in the file's order, or the `count` that are furthest off."""
    chosen = report.layers if count is None else report.worst(count)
    rows = [
        (printable(x.name), x.format, f"{x.num_bytes / 1e6:.3f} MB", f"{x.relative_error:.2%}")
        for x in chosen
    ]
    return ("tensor", "format", "size", "error"), rows


def streams(talk: TalkError) -> Table:
    heads = ("stream", "predictions", "KL (nats)", "same top-1", "entropy before", "after (nats)")
    rows = [
        (
            *(s.name, str(s.positions), f"{s.kl_nats:.4f}", f"{s.top1_agreement:.1%}"),
            *(f"{value:.3f}" for value in s.entropy_nats),
        )
        for s in talk.streams
    ]
    return heads, rows


def texts(talk: TalkError) -> Table:
    """Both texts of the free run."""
    heads = ("text of the free run", "tokens", "entropy", "different 1-, 2-, 3-grams", "loop")
    names = ("original", "quantized")
    rows = [
        (
            *(name, str(r.tokens), f"{r.entropy_bits:.2f} bits"),
            " ".join(f"{share:.0%}" for share in r.distinct),
            loop(r),
        )
        for name, r in zip(names, talk.free_run.repetition, strict=True)
    ]
    return heads, rows


def loop(r: Repetition) -> str:
    if not r.loop_tokens:
        return "none"
    return f"{r.loop_period} tokens, {r.loop_repeats:.1f} times"


def free_line(talk: TalkError) -> str:
    run = talk.free_run
    first = "never" if run.first_difference is None else f"at frame {run.first_difference}"
    return (
        f"{run.frames} frames of greedy talk: {run.equal_text:.1%} of the text tokens and "
        f"{run.equal_audio:.1%} of the codes are the same; they part {first}"
    )


def material_line(talk: TalkError) -> str:
    return f"{talk.conversations} conversations, {talk.frames} frames, teacher-forced"


def plain(table: Table) -> str:
    """Columns, the first to the left."""
    heads, rows = table
    lines = [heads, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]

    def one(line: Sequence[str]) -> str:
        others = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        return "  ".join([line[0].ljust(widths[0]), *others])

    return "\n".join(map(one, lines))


def markdown(table: Table) -> str:
    heads, rows = table
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = (heads, ["---"] * len(heads), *cells)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
