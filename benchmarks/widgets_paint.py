"""How fast the widgets paint, and how much is sent: ``python benchmarks/widgets_paint.py``.

For twelve heads, from the moment the new weights reach the model in the browser until they are painted (two
animation frames later), and the bytes sent; beside them the figures of other viewers, quoted. Then the way
of a slider: from its input event through Python (the reference attention on random vectors) to the painted
table. Then another: how much weight is forced onto a letter, through a decode of 20 steps by a model of d 256 with
3 + 3 layers. Then those of a beam search by the same model, up to 8 beams over 19 steps, drawn as a tree, and
the step of a decode; and those of the sampling table and of a wrong token in the lanes, with the large model that
ships. The median of several runs; headless, without Jupyter, so its kernel's messages are not counted.
"""

from __future__ import annotations

import statistics

import torch
from rich.console import Console
from rich.table import Table

from crosstalk.checkpoints import load_model
from crosstalk.models import Size, word_model
from crosstalk.stand_ins.lesson_04 import EncoderDecoder
from crosstalk.stand_ins.lesson_08 import beam_search
from crosstalk.widgets import (
    Alignment,
    AttentionStages,
    BeamTree,
    DecodeSteps,
    ExposureLanes,
    HeadViewer,
    SamplingTable,
)
from crosstalk.widgets.attention_stages import WIDTHS
from crosstalk.widgets.exhibits import WORD, letters, several_heads
from crosstalk.widgets.standalone import mount
from crosstalk.widgets.stills import browser_path

RUNS = 9
LENGTHS = (64, 128, 256)

# Megabytes and seconds to paint, 12 layers × 12 heads, measured for this project on two cores in
# November 2026. CircuitsVis was stopped at 200 s.
QUOTED = {
    "bertviz head view": ("26.5 / 2.8", "107 / 9.7", "432 / 29"),
    "bertviz model view": ("26.5 / 11", "107 / 63", "–"),
    "CircuitsVis": ("14.5 / 42", "55 / >200", "–"),
    "inspectus": ("3.5 / 1.1", "12.9 / 1.6", "51 / 4.6"),
}

# Other weights each time, so that nothing can be spared: the same bytes the other way round.
REPAINT = """() => new Promise((done, failed) => {
  const view = window.model.get("numbers");
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice().reverse();
  const canvas = document.querySelector(".ctk-head canvas");
  const look = () => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.join();
  const before = look();
  const start = performance.now();
  window.model.receive({numbers: new DataView(bytes.buffer)});
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const spent = performance.now() - start;
    if (look() === before) failed(new Error("nothing was painted"));
    else done(spent);
  }));
})"""

SLIDE = """step => new Promise(done => {
  const slider = document.querySelector(".ctk-slider");
  const wanted = String(window.model.get("widths")[step]);
  const start = performance.now();
  slider.value = String(step);
  slider.dispatchEvent(new Event("input"));
  const look = () => {
    if (document.querySelector(".ctk-why").dataset.width === wanted)
      requestAnimationFrame(() => done(performance.now() - start));
    else requestAnimationFrame(look);
  };
  look();
})"""

FORCE = """share => new Promise(done => {
  const slider = document.querySelector(".ctk-slider");
  const start = performance.now();
  slider.value = String(share);
  slider.dispatchEvent(new Event("input"));
  const look = () => {
    if (document.querySelector(".ctk").dataset.share === String(share))
      requestAnimationFrame(() => done(performance.now() - start));
    else requestAnimationFrame(look);
  };
  look();
})"""


SEARCH = """([name, value]) => new Promise(done => {
  const slider = document.querySelector(`.ctk-slider[data-ctk=${name}]`);
  const start = performance.now();
  slider.value = String(value);
  slider.dispatchEvent(new Event("input"));
  const look = () => {
    if (document.querySelector(".ctk").dataset[name] === String(value))
      requestAnimationFrame(() => done(performance.now() - start));
    else requestAnimationFrame(look);
  };
  look();
})"""


def untrained() -> EncoderDecoder:
    """A model that has learnt nothing, and never ends a word."""
    torch.manual_seed(0)
    return word_model(Size(d_model=256, d_ff=1024, encoder_layers=3, decoder_layers=3), own=False)


def forced_alignment() -> Alignment:
    """A decode has all its steps."""
    widget = Alignment(untrained(), "characterisation")
    widget.mode, widget.forced = "force", [1, 2, -1, -1]
    return widget


def main() -> None:
    """Measure and print."""
    from playwright.sync_api import sync_playwright

    torch.set_num_threads(1)
    console = Console()
    painted = Table(title="12 heads of one layer, sent as one byte a weight")
    for heading in ("tokens", "a layer, MB", "12 layers, MB", "first paint, ms", "median, ms", "worst, ms"):
        painted.add_column(heading, justify="right")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox", "--disable-gpu"])
        for length in LENGTHS:
            page = browser.new_page(viewport={"width": 960, "height": 900})
            widget = HeadViewer(several_heads(length))
            mount(page, widget)
            first = float(page.evaluate("performance.now() - window.mountedAt"))
            times = [float(page.evaluate(REPAINT)) for _ in range(RUNS)]
            page.close()
            sent = (len(widget.numbers) + len(widget.missing)) / 1e6
            painted.add_row(
                str(length),
                f"{sent:.2f}",
                f"{12 * sent:.2f}",
                f"{first:.0f}",
                f"{statistics.median(times):.0f}",
                f"{max(times):.0f}",
            )
        page = browser.new_page(viewport={"width": 960, "height": 900})
        mount(page, AttentionStages(*letters(WORD), tokens_q=WORD))
        slides = [float(page.evaluate(SLIDE, step)) for step in range(len(WIDTHS) - 1)]
        page = browser.new_page(viewport={"width": 960, "height": 900})
        alignment = forced_alignment()
        mount(page, alignment)
        forces = [float(page.evaluate(FORCE, share)) for share in range(0, 100, 5)]
        page = browser.new_page(viewport={"width": 960, "height": 900})
        tree = BeamTree(untrained(), "characterisation", width=1, search=beam_search)
        mount(page, tree)
        widths = [float(page.evaluate(SEARCH, ["width", width])) for width in (*range(2, 9), *range(7, 0, -1), 8)]
        penalties = [float(page.evaluate(SEARCH, ["alpha", tenths / 10])) for tenths in range(1, 21)]
        page = browser.new_page(viewport={"width": 960, "height": 900})
        steps = DecodeSteps(untrained(), "characterisation")
        mount(page, steps)
        stepped = [float(page.evaluate(SEARCH, ["step", step])) for step in range(1, 21)]
        page = browser.new_page(viewport={"width": 960, "height": 900})
        table = SamplingTable(large := load_model("cmudict", own=False), "rough")
        table.draws = 100
        mount(page, table)
        moves = [("temperature", tenths / 10) for tenths in range(2, 30, 2)]
        moves += [("k", k) for k in range(2, 40, 3)] + [("p", tenths / 10) for tenths in range(1, 10)]
        sampled = [float(page.evaluate(SEARCH, list(move))) for move in moves]
        page = browser.new_page(viewport={"width": 960, "height": 900})
        lanes = ExposureLanes(large, "characterization")
        mount(page, lanes)
        put = [float(page.evaluate(SEARCH, ["step", step])) for step in range(1, lanes.results["steps"] + 1)]
        browser.close()
    quoted = Table(title="Quoted for comparison: 12 layers × 12 heads, MB sent / seconds to paint")
    for heading in ("viewer", *map(str, LENGTHS)):
        quoted.add_column(heading, justify="left" if heading == "viewer" else "right")
    for viewer, figures in QUOTED.items():
        quoted.add_row(viewer, *figures)
    console.print(painted)
    console.print(
        "First paint: the module loaded, the widget built and painted. "
        "Median and worst: other weights reach the model and are painted."
    )
    console.print(quoted)
    console.print(
        f"Slider → Python → painted: median {statistics.median(slides):.0f} ms, worst {max(slides):.0f} ms, "
        f"{len(slides)} moves of the d slider."
    )
    console.print(
        f"Slider → Python → {len(alignment.results['after'])} steps decoded again → painted: "
        f"median {statistics.median(forces):.0f} ms, worst {max(forces):.0f} ms, {len(forces)} moves of the share."
    )
    for what, times in (("beam width, 1 to 8", widths), ("length penalty, at width 8", penalties)):
        console.print(
            f"Slider → Python → tree of {len(tree.results['levels'])} steps painted, {what}: "
            f"median {statistics.median(times):.0f} ms, worst {max(times):.0f} ms, {len(times)} moves."
        )
    console.print(
        f"Slider → step of a decode painted: median {statistics.median(stepped):.0f} ms, worst {max(stepped):.0f} ms, "
        f"{len(stepped)} moves; nothing is computed anew."
    )
    console.print(
        f"Slider → Python → {len(table.tokens)} tokens, filtered (temperature, k, p) and drawn anew → painted: median "
        f"{statistics.median(sampled):.0f} ms, worst {max(sampled):.0f} ms, {len(sampled)} moves."
    )
    console.print(
        f"Slider → Python → {len(lanes.results['gold'])} steps forced and decoded anew → painted: median "
        f"{statistics.median(put):.0f} ms, worst {max(put):.0f} ms, {len(put)} moves of the wrong token."
    )


if __name__ == "__main__":
    main()
