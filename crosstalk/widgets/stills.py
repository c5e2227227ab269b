"""The still pictures of the widgets, for where there is no kernel: ``python -m crosstalk.widgets.stills``.

Each is a screenshot of the painted widget in a browser, light theme, in at most 80 kB; a page with
another width or theme can be looked at with ``--dark``, ``--width`` and ``--to``.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
from pathlib import Path

from crosstalk.places import write_atomically
from crosstalk.widgets.base import still_path
from crosstalk.widgets.exhibits import EXHIBITS
from crosstalk.widgets.standalone import mount

LARGEST = 80_000  # bytes
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge", "msedge")


def browser_path() -> str:
    """``CROSSTALK_BROWSER`` if it is set, else a Chromium, Chrome or Edge on PATH."""
    named = os.environ.get("CROSSTALK_BROWSER")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, _BROWSERS)), None)
    if not found:
        raise SystemExit("No Chromium, Chrome or Edge was found: set CROSSTALK_BROWSER to its path.")
    return found


def smaller(png: bytes) -> bytes:
    """The same picture with a palette of its own, which suits flat colours."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        palette = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    file = io.BytesIO()
    palette.save(file, "PNG", optimize=True)
    return file.getvalue()


def main() -> None:
    """Draw all widgets, or those named."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description="Draw the still pictures of the widgets.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(EXHIBITS)}; all if none is named")
    parser.add_argument("--dark", action="store_true", help="in the dark theme")
    parser.add_argument("--width", type=int, default=840, help="of the page, in pixels")
    parser.add_argument("--to", type=Path, help="folder to write to instead of assets/figures/stills")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(EXHIBITS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(EXHIBITS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        for name in chosen.names or EXHIBITS:
            page = browser.new_page(viewport={"width": chosen.width, "height": 600})
            mount(page, EXHIBITS[name](), dark=chosen.dark)
            png = smaller(page.locator(".ctk").screenshot())
            page.close()
            if len(png) > LARGEST:
                raise SystemExit(f"The still picture of {name} takes {len(png)} bytes, more than {LARGEST}.")
            path = chosen.to / f"{name}.png" if chosen.to else still_path(name)
            write_atomically(path, png)
            print(f"{name}.png: {len(png) / 1000:.0f} kB")
        browser.close()


if __name__ == "__main__":
    main()
