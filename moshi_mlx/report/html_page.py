"""Web pages in one file, no script, font or request: style, tables, axes of SVG charts."""

from collections.abc import Sequence
from html import escape

import numpy as np

WIDTH, LEFT, BOTTOM = 900, 48, 22  # of every chart, in the units of its viewBox
STYLE = """
:root { color-scheme: light dark; --ink: #1c1f24; --soft: #66707c; --line: #dde2e8; --page: #fbfbfa;
  --card: #fff; --red: #d1372c; --encode: #2a9fb8; --temporal: #3763d0; --depth: #9b51c9;
  --decode: #3a9d5d; --host: #d9a013; --yes: #2f8f4e; --tight: #b67c00; --no: #d1372c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa4b0; --line: #333a43;
  --page: #15181c; --card: #1d2126; --red: #ff6b5e; --temporal: #6f95ff; --depth: #c084f0;
  --yes: #5cc982; --tight: #f0b840; --no: #ff6b5e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 960px; padding: 32px 20px 64px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
h1 { font-size: 26px; margin: 0; } h2 { font-size: 18px; margin: 0 0 4px; }
p { margin: 4px 0; } .soft, figcaption, th { color: var(--soft); font-weight: 400; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 20px; margin-top: 20px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: right; padding: 5px 0 5px 16px; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tbody tr { border-top: 1px solid var(--line); }
figure { margin: 18px 0 0; overflow-x: auto; } figcaption { font-size: 13px; margin-bottom: 4px; }
/* On a phone a chart is moved sideways, so that its text stays 12 px large. */
svg { display: block; width: 100%; min-width: 840px; height: auto; overflow: visible; }
svg text { fill: var(--soft); font: 13px system-ui, sans-serif; }
.axis { stroke: var(--line); } .limit { stroke: var(--red); stroke-dasharray: 4 3; }
svg text.limit-text { fill: var(--red); stroke: none; } .late { fill: var(--red); }
.yes { color: var(--yes); } .tight { color: var(--tight); } .no { color: var(--no); }
.verdict { font-size: 17px; font-weight: 600; }
.legend span { margin-right: 14px; font-size: 13px; white-space: nowrap; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px;
  margin-right: 5px; }
"""


def document(title: str, body: str) -> str:
    """A whole HTML document, light and dark; `body` is HTML already."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows
    )
    return (
        f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        "</div>"
    )


class Scale:
    """Values to pixels along one axis."""

    def __init__(self, low: float, high: float, first: float, last: float) -> None:
        self.low, self.high, self.first, self.last = low, high, first, last

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)

    def ticks(self, about: int = 8) -> list[float]:
        """Round values in range: steps of 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / about
        unit = 10.0 ** np.floor(np.log10(rough))
        step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= rough)
        first = np.ceil(self.low / step)
        return [float(n * step) for n in np.arange(first, self.high / step + 1e-9)]

    def axis(self, y: float) -> str:
        """A line at the bottom with its ticks."""
        ticks = "".join(
            f"<text x='{self(tick):.1f}' y='{y + 15}' text-anchor='middle'>{tick:.10g}</text>"
            for tick in self.ticks()
        )
        return f"<line class='axis' x1='{self.first}' x2='{self.last}' y1='{y}' y2='{y}'/>{ticks}"


def svg(height: float, content: str) -> str:
    return f"<svg viewBox='0 0 {WIDTH} {height:g}' role='img'>{content}</svg>"
