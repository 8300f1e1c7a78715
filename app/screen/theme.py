"""Colours of the screen, the same as the web page's: green is Moshi, terracotta is you."""

from textual.theme import Theme

DARK = Theme(
    name="moshi-dark",
    dark=True,
    primary="#62c9b5",
    secondary="#f09a6e",
    accent="#62c9b5",
    foreground="#e9e6e0",
    background="#121417",
    surface="#191c20",
    panel="#23272c",
    success="#62c9b5",
    warning="#f09a6e",
    error="#ff8f84",
    variables={
        "dim": "#9aa0a8",
        "trough": "#2a2e34",
        "footer-key-foreground": "#62c9b5",
        "footer-background": "#191c20",
        "footer-description-foreground": "#9aa0a8",
        "block-cursor-background": "#62c9b5",
        "block-cursor-foreground": "#10211e",
    },
)
LIGHT = Theme(
    name="moshi-light",
    dark=False,
    primary="#1f7a6c",
    secondary="#b9572f",
    accent="#1f7a6c",
    foreground="#24272c",
    background="#f6f4ef",
    surface="#fffdf9",
    panel="#ece7dd",
    success="#1f7a6c",
    warning="#b9572f",
    error="#a8322a",
    variables={
        "dim": "#656a72",
        "trough": "#e3ded4",
        "footer-key-foreground": "#1f7a6c",
        "footer-background": "#fffdf9",
        "footer-description-foreground": "#656a72",
        "block-cursor-background": "#1f7a6c",
        "block-cursor-foreground": "#ffffff",
    },
)
