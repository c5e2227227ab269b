"""The signs and colours that the map and the progress picture share, as pieces of SVG."""

from __future__ import annotations

# Told apart by people with any colour vision, on white and on black.
TODAY_COLOUR, OWN_COLOUR = "#d55e00", "#0072b2"


def own_sign(x: float, y: float) -> str:
    """A disc with a tick: the student's own."""
    return _disc(x, y, OWN_COLOUR, '<path d="M-4 0-1.5 3 4-3.5" fill="none" stroke="#fff" stroke-width="2"/>')


def today_sign(x: float, y: float) -> str:
    """A disc with a diamond: today's."""
    return _disc(x, y, TODAY_COLOUR, '<path d="M0-5 5 0 0 5-5 0z" fill="#fff" stroke="none"/>')


def _disc(x: float, y: float, colour: str, sign: str) -> str:
    disc = f'<circle r="8.5" fill="{colour}" stroke="none"/>{sign}'
    return f'<g transform="translate({x:g} {y:g})">{disc}</g>'
