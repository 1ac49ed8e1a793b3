"""The colours of pictures, by the names that a figure uses (`Ink` in the monitor).

The curves have the colours of Okabe and Ito (2008), which people with any colour vision can tell
apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: The names of the colours of curves beyond the training and the validation loss.
CURVE_INKS = tuple(f"curve-{i}" for i in range(1, 9))

#: For a white background.
LIGHT: Mapping[str, str] = MappingProxyType(
    {
        "background": "#ffffff",
        "foreground": "#222222",
        "muted": "#5a5a5a",
        "grid": "#e2e2e2",
        "train": "#0072b2",
        "val": "#e69f00",
        "curve-1": "#0072b2",
        "curve-2": "#e69f00",
        "curve-3": "#009e73",
        "curve-4": "#cc79a7",
        "curve-5": "#56b4e9",
        "curve-6": "#7a5195",
        "curve-7": "#8c6d1f",
        "curve-8": "#444444",
        "nonfinite": "#d01c3c",
        "outside": "#d55e00",
        "primary": "#0b62c4",
        "success": "#0f7b43",
        "warning": "#b45309",
        "error": "#b3122e",
        "phase-warmup": "#b45309",
        "phase-full": "#1d5fd1",
        "phase-predict": "#0f7b43",
        "phase-correct": "#a62c86",
        "phase-1": "#6d3fd1",
        "phase-2": "#0d7a6f",
        "phase-3": "#be2b6b",
        "phase-4": "#8f6400",
    }
)


def colour_of(ink: str) -> str:
    """The colour named `ink`, as `#rrggbb`; that of text for an unknown name."""
    return LIGHT.get(ink, LIGHT["foreground"])
