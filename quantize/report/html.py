"""A report as a web page in one file, with a bar for every tensor."""

from html import escape

from moshi_mlx.report.html_page import BOTTOM, LEFT, WIDTH, Scale, document, svg, table

from . import tables
from .report import Report
from .weight_error import LayerError

HEIGHT = 260
COLOURS = ("temporal", "depth", "encode", "decode", "host")  # of the page's style
KINDS = ("temporal transformer", "depth transformer", "embeddings", "heads", "other")


def page(report: Report) -> str:
    """A whole HTML document."""
    title = f"{report.quantized}: what quantization cost"
    legend = "".join(
        f"<span><i style='background:var(--{c})'></i>{k}</span>"
        for c, k in zip(COLOURS, KINDS, strict=True)
    )
    caption = "Relative error of every quantized tensor, in percent, in the order of the file"
    talk = report.talk
    said = ""
    if talk is not None:
        said = (
            f"<section><h2>What it says</h2><p class='soft'>{tables.material_line(talk)}</p>"
            f"{table(*tables.streams(talk))}<p>{tables.free_line(talk)}</p>"
            f"{table(*tables.texts(talk))}</section>"
        )
    return document(
        title,
        f"<h1>{escape(report.quantized)}</h1><p>{escape(tables.size_line(report))}</p>"
        f"<p class='soft'>from {escape(report.original)}, {escape(report.tool)}</p>{said}"
        f"<section><h2>Layers</h2><figure><figcaption>{caption}</figcaption>{bars(report.layers)}"
        f"</figure><p class='legend'>{legend}</p></section>"
        f"<section>{table(*tables.layers(report))}</section>",
    )


def kind_of(name: str) -> int:
    """Index into KINDS."""
    if name.startswith("transformer."):
        return 0
    if name.startswith("depformer."):
        return 1
    if name.startswith(("text_emb", "audio_embs")):
        return 2
    return 3 if name.startswith(("text_linear", "extra_heads")) else 4


def bars(layers: list[LayerError]) -> str:
    """One bar a tensor that isn't kept; its name shows under the pointer."""
    shown = [layer for layer in layers if layer.relative_error > 0]
    if not shown:
        return "<p>Nothing differs.</p>"
    bottom = HEIGHT - BOTTOM
    y = Scale(0.0, 105 * max(layer.relative_error for layer in shown), bottom, 4)
    x = Scale(0, len(shown), LEFT, WIDTH)
    drawn = [
        f"<line class='axis' x1='{LEFT}' x2='{WIDTH}' y1='{y(tick):.1f}' y2='{y(tick):.1f}'/>"
        f"<text x='{LEFT - 6}' y='{y(tick) + 4:.1f}' text-anchor='end'>{tick:g}</text>"
        for tick in y.ticks(5)
    ]
    width = max(0.6, (x(1) - x(0)) * 0.8)
    for number, layer in enumerate(shown):
        top = y(100 * layer.relative_error)
        drawn.append(
            f"<rect x='{x(number):.2f}' y='{top:.1f}' width='{width:.2f}' "
            f"height='{bottom - top:.1f}' fill='var(--{COLOURS[kind_of(layer.name)]})'>"
            f"<title>{escape(layer.name)}: {layer.relative_error:.2%}, {layer.format}</title>"
            "</rect>"
        )
    return svg(HEIGHT, "".join(drawn))
