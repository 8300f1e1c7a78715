"""The report of `moshi trace` as one page: the sentence, a timeline of each channel, tables."""

from collections.abc import Sequence
from html import escape

from moshi_mlx.report.html_page import BOTTOM, LEFT, WIDTH, Scale, document, svg, table

from .examine import Marks
from .verdict import MarkVerdict, channel_name, describe, describe_credentials

ROW, GAP = 42, 8  # height of a channel's timeline
LARGEST_Z = 25.0


def page(verdicts: Sequence[MarkVerdict]) -> str:
    return document("Where the sound came from", "".join(map(section, verdicts)))


def section(verdict: MarkVerdict) -> str:
    kind = "yes" if verdict.found else "soft"
    parts = [
        f"<h2>{escape(verdict.path.name)}</h2>",
        f"<p class='verdict {kind}'>{escape(verdict.sentence())}</p>",
        f"<p class='soft'>{verdict.marks.seconds:.1f} s, {verdict.marks.rate_hz} Hz, "
        f"{verdict.marks.channels} channels</p>",
        chart(verdict.marks),
        f"<p>Signature: {escape(describe_credentials(verdict.credentials))}</p>",
    ]
    if verdict.marks.comment:
        parts.append(f"<p>The file says: {escape(verdict.marks.comment)}</p>")
    parts += [f"<p>Index: {escape(match.line())}</p>" for match in verdict.matches]
    found = verdict.marks.found
    if found:
        rows = [
            [
                f"{s.start_s:.1f} s",
                channel_name(s.channel, verdict.marks.channels),
                f"{s.z:.1f}",
                describe(s),
            ]
            for s in found
        ]
        parts.append(table(["from", "channel", "z", "what"], rows))
    return f"<section>{''.join(parts)}</section>"


def chart(marks: Marks) -> str:
    """A bar for each window, as high as its z; windows with a mark in colour."""
    channels = sorted({window.channel for window in marks.windows})
    if not channels:
        return ""
    x = Scale(0.0, max(marks.seconds, 1e-3), LEFT + 60, WIDTH)
    drawn = []
    for row, channel in enumerate(channels):
        bottom = (row + 1) * ROW + row * GAP
        name = channel_name(channel, marks.channels)
        drawn.append(f"<text x='0' y='{bottom - ROW / 2:.0f}'>{name}</text>")
        for window in (w for w in marks.windows if w.channel == channel):
            height = ROW * min(max(window.z, 0.5), LARGEST_Z) / LARGEST_Z
            left, right = x(window.start_s), x(window.start_s + window.seconds)
            colour = "--yes" if window.found else "--line"
            title = f"{window.start_s:.0f} s: z {window.z:.1f}, {describe(window)}"
            drawn.append(
                f"<rect x='{left:.1f}' y='{bottom - height:.1f}' height='{height:.1f}' "
                f"width='{max(right - left - 1, 0.5):.1f}' fill='var({colour})'>"
                f"<title>{escape(title)}</title></rect>"
            )
    bottom = len(channels) * (ROW + GAP)
    return f"<figure>{svg(bottom + BOTTOM, ''.join(drawn) + x.axis(bottom))}</figure>"
