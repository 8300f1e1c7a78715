"""Charts of the bench's page as SVG text: stacked bars, a histogram, a timeline."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from moshi_mlx.clock import FRAME_MS
from moshi_mlx.report.html_page import BOTTOM, LEFT, WIDTH, Scale, svg

from .stats import FrameTime

HEIGHT = 190
BINS = 60
MOST_DOTS = 3000  # a longer run is thinned out: the slowest frame of every stretch is kept
BAR_HEIGHT, BAR_GAP = 26, 14


def stacked(rows: Sequence[tuple[str, Mapping[str, float], float]]) -> str:
    """(name, milliseconds by part, floor) -> a bar each on one scale that holds 80 ms."""
    longest = max([FRAME_MS, *(sum(parts.values()) for _, parts, _ in rows)]) * 1.08
    height = len(rows) * (BAR_HEIGHT + BAR_GAP)
    x = Scale(0, longest, LEFT, WIDTH)
    drawn = []
    for i, (name, parts, floor_ms) in enumerate(rows):
        top, end = i * (BAR_HEIGHT + BAR_GAP), 0.0
        drawn.append(f"<text x='0' y='{top + 17}'>{escape(name)}</text>")
        for part, ms in parts.items():
            begin, end = end, end + ms
            drawn.append(
                f"<rect x='{x(begin):.1f}' y='{top}' width='{x(end) - x(begin):.1f}' "
                f"height='{BAR_HEIGHT}' fill='var(--{part})'>"
                f"<title>{part} {ms:.2f} ms</title></rect>"
            )
        drawn.append(f"<text x='{x(end) + 6:.1f}' y='{top + 17}'>{end:.1f} ms</text>")
        drawn.append(
            f"<rect x='{x(floor_ms) - 1.5:.1f}' y='{top - 3}' width='3' "
            f"height='{BAR_HEIGHT + 6}' fill='var(--ink)'>"
            f"<title>floor {floor_ms:.2f} ms</title></rect>"
        )
    return svg(height + BOTTOM, "".join(drawn) + x.axis(height) + limit(x, height))


def histogram(times_ms: Sequence[float]) -> str:
    """How many frames took how long; the slowest 1 in 1000 are gathered in the last bar."""
    times = np.asarray(times_ms)
    low, high = float(times.min()), float(max(np.percentile(times, 99.9), times.min() + 0.1))
    counts, edges = np.histogram(np.minimum(times, high), bins=BINS, range=(low, high))
    x, bottom = Scale(low, high, LEFT, WIDTH), HEIGHT - BOTTOM
    top = int(counts.max())
    drawn = [f"<text x='{LEFT - 6}' y='10' text-anchor='end'>{top}</text>"]
    for count, left, right in zip(counts, edges, edges[1:], strict=False):
        size = (bottom - 6) * count / top
        kind = "class='late'" if left >= FRAME_MS else "fill='var(--temporal)'"
        drawn.append(
            f"<rect x='{x(left):.1f}' y='{bottom - size:.1f}' height='{size:.1f}' {kind} "
            f"width='{max(1.0, x(right) - x(left) - 1):.1f}'>"
            f"<title>{left:.2f} to {right:.2f} ms: {count} frames</title></rect>"
        )
    mark = limit(x, bottom) if low < FRAME_MS < high else ""
    return svg(HEIGHT, "".join(drawn) + x.axis(bottom) + mark)


def timeline(frames: Sequence[FrameTime]) -> str:
    """A dot a frame; those over 80 ms in red."""
    kept = _thinned(frames)
    most = max(frame.ms for frame in kept)
    top_ms = max(most * 1.05, FRAME_MS * 1.05 if most > FRAME_MS / 2 else 0.0)
    bottom = HEIGHT - BOTTOM
    x = Scale(0.0, max(frames[-1].started_s, 0.1), LEFT, WIDTH)
    y = Scale(0.0, top_ms, bottom, 4)
    drawn = [
        f"<line class='axis' x1='{LEFT}' x2='{WIDTH}' y1='{y(tick):.1f}' y2='{y(tick):.1f}'/>"
        f"<text x='{LEFT - 6}' y='{y(tick) + 4:.1f}' text-anchor='end'>{tick:g}</text>"
        for tick in y.ticks(4)
    ]
    drawn += [
        f"<circle cx='{x(f.started_s):.1f}' cy='{y(f.ms):.1f}' r='2' "
        + ("class='late'" if f.ms > FRAME_MS else "fill='var(--temporal)' fill-opacity='.6'")
        + f"><title>{f.started_s:.2f} s: {f.ms:.2f} ms</title></circle>"
        for f in kept
    ]
    if top_ms > FRAME_MS:
        at = f"{y(FRAME_MS):.1f}"
        drawn.append(f"<line class='limit' x1='{LEFT}' x2='{WIDTH}' y1='{at}' y2='{at}'/>")
    return svg(HEIGHT, "".join(drawn) + x.axis(bottom))


def _thinned(frames: Sequence[FrameTime]) -> list[FrameTime]:
    step = -(-len(frames) // MOST_DOTS)
    return [max(frames[i : i + step], key=lambda f: f.ms) for i in range(0, len(frames), step)]


def limit(x: Scale, bottom: float) -> str:
    """The 80 ms that a frame lasts, as a line down."""
    at = f"{x(FRAME_MS):.1f}"
    return f"<line class='limit' x1='{at}' x2='{at}' y1='-4' y2='{bottom}'/>"
