"""What a Textual screen shows, as plain lines: read off the SVG that Textual exports."""

import html
import re

from textual.app import App

CELL = re.compile(r'<text class="[^"]*" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>')
CELL_WIDTH = 12.2


def lines(app: App) -> list[str]:
    """The screen's rows without trailing blanks."""
    rows: dict[float, list[tuple[int, str]]] = {}
    svg = app.export_screenshot(title="")
    for x, y, text in CELL.findall(svg.partition('clip-path="url(#')[2]):
        found = html.unescape(text).replace("\xa0", " ")
        rows.setdefault(float(y), []).append((round(float(x) / CELL_WIDTH), found))
    out, first, pitch = [], 20.0, 24.4
    for y in sorted(rows):
        number = round((y - first) / pitch)
        out += [""] * (number - len(out))
        line = ""
        for column, text in sorted(rows[y]):
            line = line.ljust(column) + text
        out.append(line.rstrip())
    return out
