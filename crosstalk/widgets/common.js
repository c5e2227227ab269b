// Shared by all widgets of the course. Python puts this text in front of each widget's own module, so that
// no module imports another and nothing is fetched.

/**
 * The part of anywidget's model that the widgets use.
 * @typedef {{
 *   get(name: string): any,
 *   set(name: string, value: any): void,
 *   save_changes(): void,
 *   on(event: string, listener: () => void): void,
 * }} Model
 */

const SVG = "http://www.w3.org/2000/svg";
const FOCUSABLE = new Set(["button", "input", "select", "summary"]);

/**
 * Make an element. A function among the attributes is a listener; `false` and `null` are left out.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  put(element, attributes, children);
  // Notebook 7 and JupyterLab take arrow keys, Enter and letters for themselves unless this stands on the
  // focused element itself; on a parent it has no effect.
  if (FOCUSABLE.has(tag) || "tabindex" in attributes) element.setAttribute("data-lm-suppress-shortcuts", "true");
  return element;
}

/** The same for SVG. @returns {any} */
function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  put(element, attributes, children);
  return element;
}

function put(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children);
}

/** Text with `code` and *emphasis* as nodes; anything else stays as it is written. @param {string} text */
function inline(text) {
  return text.split(/(`[^`]+`|\*[^*\s](?:[^*]*[^*\s])?\*)/).map((part, i) => {
    if (i % 2 === 0) return part;
    return h(part[0] === "`" ? "code" : "em", {}, part.slice(1, -1));
  });
}

/** A number as people write it: a real minus, no needless digits, NaN and ∞ by name. */
function written(value, digits = 2) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const rounded = value.toFixed(digits);
  return (Number(rounded) === 0 ? (0).toFixed(digits) : rounded).replace("-", "−");
}

/** A number short enough for a small cell: .25, 1, 0, −1.3, 12. */
function brief(value, kind) {
  if (!Number.isFinite(value)) return written(value);
  if (kind === "weights") return value === 0 ? "0" : written(value).replace(/^0\./, ".").replace(/^1\.00$/, "1");
  return written(value, Math.abs(value) < 9.95 ? 1 : 0);
}

/** A probability with two significant digits, never rounded to 0 or 1. */
function probability(value) {
  if (Number.isNaN(value)) return "NaN";
  if (value >= 0.9995 || value === 0) return written(value, value === 1 || value === 0 ? 0 : 4);
  return value >= 0.01 ? written(value, 3) : value.toExponential(1).replace("e-", "·10⁻").replace(/⁻(\d+)$/, (_, n) => "⁻" + raised(n));
}

function raised(digits) {
  return digits.replace(/\d/g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(d)]);
}

// ---- what Python sent -------------------------------------------------------------------------------

/** @param {DataView | ArrayBuffer | Uint8Array} sent @returns {Uint8Array} */
function asBytes(sent) {
  if (!sent) return new Uint8Array();
  if (sent instanceof ArrayBuffer) return new Uint8Array(sent);
  return new Uint8Array(sent.buffer, sent.byteOffset, sent.byteLength);
}

/** @returns {Float32Array} all numbers sent; copied, because a buffer may start at any byte */
function asFloats(sent) {
  return new Float32Array(asBytes(sent).slice().buffer);
}

/**
 * The arrays laid out in `results.arrays`.
 * @param {Model} model
 * @returns {Record<string, {values: Float32Array, shape: number[]}>}
 */
function readArrays(model) {
  const all = asFloats(model.get("numbers"));
  const arrays = {};
  for (const [name, { start, shape }] of Object.entries(model.get("results").arrays ?? {})) {
    arrays[name] = { values: all.subarray(start, start + shape.reduce((a, b) => a * b, 1)), shape };
  }
  return arrays;
}

/** Call `draw` once in the next frame, however many of the traits change until then. */
function onChange(model, names, draw) {
  let waiting = false;
  const later = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  };
  for (const name of names) model.on(`change:${name}`, later);
  return later;
}

/** Set traits and tell Python. */
function tell(model, changes) {
  for (const [name, value] of Object.entries(changes)) model.set(name, value);
  model.save_changes();
}

// ---- colours ----------------------------------------------------------------------------------------

/** OKLCH (lightness 0…1, chroma, hue in degrees) to sRGB bytes. Björn Ottosson, "A perceptual color space", 2020. */
function oklch(lightness, chroma, hue) {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const n = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * n,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * n,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * n,
  ].map((x) => {
    const clipped = Math.min(1, Math.max(0, x));
    return Math.round(255 * (clipped <= 0.0031308 ? 12.92 * clipped : 1.055 * clipped ** (1 / 2.4) - 0.055));
  });
}

const between = (from, to, t) => from + (to - from) * t;

/**
 * 256 colours. Lightness alone carries the order, so they stay apart for every kind of colour vision and in
 * grey; hue runs from yellow to blue, never through red against green.
 * `weights`: from the paper's colour (0) to the ink's (1). `signed`: orange (negative), paper (0), blue.
 */
function computeColours(kind, dark) {
  return Array.from({ length: 256 }, (_, i) => {
    const t = i / 255;
    if (kind === "weights") {
      const lightness = dark ? between(0.24, 0.95, t) : between(0.985, 0.3, t);
      const hue = dark ? between(265, 100, t) : between(100, 265, t);
      return oklch(lightness, 0.02 + 0.1 * Math.sin(Math.PI * Math.min(1, t * 0.85 + 0.06)), hue);
    }
    const far = Math.abs(2 * t - 1);
    return oklch(dark ? between(0.24, 0.8, far) : between(0.985, 0.5, far), 0.13 * far, t < 0.5 ? 60 : 255);
  });
}

const tables = new Map();

/** @param {"weights" | "signed"} kind @param {boolean} dark @returns {number[][]} */
function colours(kind, dark) {
  const key = `${kind} ${dark}`;
  if (!tables.has(key)) tables.set(key, computeColours(kind, dark));
  return tables.get(key);
}

/** Black or white, whichever stands out more from `rgb` (relative luminance as in WCAG 2). */
function inkOn(rgb) {
  const [r, g, b] = rgb.map((x) => (x / 255 <= 0.04045 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

// ---- the card ---------------------------------------------------------------------------------------

let cards = 0;

/** An id that no other element of the page has. */
function freshId(what) {
  cards += 1;
  return `ctk-${what}-${cards}-${Math.random().toString(36).slice(2, 8)}`;
}

/** JupyterLab and Notebook say it on the body; elsewhere pages are light. */
function pageIsDark() {
  return document.body.dataset.jpThemeLight === "false";
}

/**
 * The frame of a widget: title, body, a line for problems, a live region for screen readers.
 * @param {HTMLElement} el
 * @param {AbortSignal | undefined} signal aborted when the view goes away
 * @param {{title: string, about?: string, kind: string}} texts
 */
function card(el, signal, { title, about, kind }) {
  const id = freshId("title");
  const live = h("div", { class: "ctk-unseen", "aria-live": "polite", role: "status" });
  const problem = h("p", { class: "ctk-problem", hidden: true });
  const body = h("div", { class: "ctk-body" });
  const head = h("p", { class: "ctk-title", id }, ...inline(title));
  const root = h("div", { class: `ctk ctk-is-${kind}`, role: "group", "aria-labelledby": id }, head);
  if (about) root.append(h("p", { class: "ctk-about" }, ...inline(about)));
  root.append(problem, body, live);
  const listeners = [];
  const follow = () => {
    const dark = pageIsDark();
    if (root.dataset.ctkTheme === (dark ? "dark" : "light")) return;
    root.dataset.ctkTheme = dark ? "dark" : "light";
    for (const listener of listeners) listener(dark);
  };
  follow();
  const watcher = new MutationObserver(follow);
  watcher.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  signal?.addEventListener("abort", () => watcher.disconnect());
  el.replaceChildren(root);
  // Until someone has touched the widget it keeps quiet: a notebook opens with many.
  let awake = false;
  for (const touch of ["pointerdown", "keydown", "focusin", "change"]) {
    root.addEventListener(touch, () => (awake = true), { capture: true, once: true });
  }
  const waiting = new Map();
  let speaking = 0;
  return {
    root,
    body,
    isDark: () => root.dataset.ctkTheme === "dark",
    onTheme: (listener) => listeners.push(listener),
    /** Read `text` out, the last of each topic, once the user has stopped moving for a moment. */
    say(text, topic = "") {
      if (!awake) return;
      waiting.set(topic, text);
      clearTimeout(speaking);
      speaking = setTimeout(() => {
        live.textContent = [...waiting.values()].join(" ");
        waiting.clear();
      }, 250);
    },
    /** One sentence on what is wrong, or "" for nothing. */
    showProblem(text) {
      problem.hidden = !text;
      problem.replaceChildren(...inline(text));
    },
  };
}

// ---- controls ---------------------------------------------------------------------------------------

/** A labelled choice. @param {string[]} options */
function chooser(label, options, value, onChoose) {
  const id = freshId("select");
  const select = h(
    "select",
    { id, class: "ctk-select", change: () => onChoose(select.selectedIndex) },
    ...options.map((text, i) => h("option", { value: i, selected: i === value }, text)),
  );
  return h("span", { class: "ctk-control" }, h("label", { for: id }, label), select);
}

/** An on-off switch. */
function toggle(label, value, onToggle) {
  const box = h("input", { type: "checkbox", role: "switch", class: "ctk-switch", change: () => onToggle(box.checked) });
  box.checked = value;
  return h("label", { class: "ctk-control" }, box, h("span", {}, ...inline(label)));
}

/** One of a few, as radio buttons in a row. */
function radios(label, options, value, onChoose) {
  const name = freshId("radio");
  return h(
    "fieldset",
    { class: "ctk-radios" },
    h("legend", {}, label),
    ...options.map((text, i) => {
      const radio = h("input", { type: "radio", name, value: i, change: () => onChoose(i) });
      radio.checked = i === value;
      return h("label", { class: "ctk-control" }, radio, h("span", {}, ...inline(text)));
    }),
  );
}

function button(label, onPress, attributes = {}) {
  return h("button", { type: "button", class: "ctk-button", click: onPress, ...attributes }, ...[label].flat());
}

/**
 * One tab stop for many elements: arrow keys move within, Home and End to the ends of a row.
 * @param {HTMLElement} container
 * @param {() => HTMLElement[]} items in reading order
 * @param {() => number} columns how many stand in a row
 * @returns {{focus(index: number): void, select(index: number): void}}
 */
function rove(container, items, columns) {
  const select = (index) => items().forEach((item, i) => (item.tabIndex = i === index ? 0 : -1));
  const focus = (index) => {
    select(index);
    items()[index]?.focus();
  };
  container.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(/** @type {HTMLElement} */ (event.target));
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const wide = Math.max(1, columns());
    const rowStart = at - (at % wide);
    const moves = {
      ArrowRight: wide === 1 ? null : at + 1,
      ArrowLeft: wide === 1 ? null : at - 1,
      ArrowDown: at + wide,
      ArrowUp: at - wide,
      Home: rowStart,
      End: Math.min(rowStart + wide, all.length) - 1,
    };
    const to = moves[event.key];
    if (to === undefined || to === null) return;
    event.preventDefault();
    event.stopPropagation();
    if (to >= 0 && to < all.length) focus(to);
  });
  container.addEventListener("focusin", (event) => {
    const at = items().indexOf(/** @type {HTMLElement} */ (event.target));
    if (at >= 0) select(at);
  });
  return { focus, select };
}

// ---- matrices ---------------------------------------------------------------------------------------

// Columns up to which numbers are printed in the cells: always, and where the card is wide.
const NUMBERS_FIT = 12;
const NUMBERS_FIT_WIDE = 20;

/**
 * A matrix as a real table with coloured cells; rows take the focus, one tab stop in all.
 * @param {{
 *   caption: string, rows: string[], columns: string[], kind: "weights" | "signed",
 *   corner?: string, extra?: string, onRow?: (row: number | null) => void,
 * }} spec `extra` heads a last column of plain text
 */
function matrixTable({ caption, rows, columns, kind, corner = "q \\ k", extra, onRow }) {
  const density = columns.length <= NUMBERS_FIT ? "" : columns.length <= NUMBERS_FIT_WIDE ? "ctk-dense-narrow" : "ctk-dense";
  const cells = [];
  const extras = [];
  const lines = rows.map((name) => {
    const line = h("tr", { role: "row", tabindex: -1 }, h("th", { role: "rowheader", scope: "row", title: name }, name));
    columns.forEach(() => {
      const cell = h("td", { role: "gridcell", class: "ctk-cell" });
      cells.push(cell);
      line.append(cell);
    });
    if (extra) {
      const cell = h("td", { role: "gridcell", class: "ctk-extra" });
      extras.push(cell);
      line.append(cell);
    }
    return line;
  });
  const top = h("tr", { role: "row" }, h("th", { role: "columnheader", scope: "col", class: "ctk-corner" }, corner));
  for (const name of columns) top.append(h("th", { role: "columnheader", scope: "col", title: name }, name));
  if (extra) top.append(h("th", { role: "columnheader", scope: "col", class: "ctk-extra" }, extra));
  const body = h("tbody", { role: "rowgroup" }, ...lines);
  const text = h("caption", {}, caption);
  const table = h(
    "table",
    { role: "grid", class: `ctk-matrix ${density}` },
    text,
    h("thead", { role: "rowgroup" }, top),
    body,
  );
  const roving = rove(body, () => lines, () => 1);
  roving.select(0);
  if (onRow) {
    lines.forEach((line, i) => {
      line.addEventListener("pointerenter", () => onRow(i));
      line.addEventListener("focus", () => onRow(i));
    });
  }
  return {
    element: h("div", { class: "ctk-scroll" }, table),
    lines,
    setCaption(words) {
      text.replaceChildren(...inline(words));
    },
    /** Colour one row everywhere it is drawn. */
    mark(row) {
      lines.forEach((line, i) => line.classList.toggle("ctk-marked", i === row));
    },
    /** @param {ArrayLike<number>} values @param {boolean} dark @param {string[]} [last] texts of the extra column */
    paint(values, dark, last) {
      let largest = 1e-9;
      for (const value of values) if (Number.isFinite(value)) largest = Math.max(largest, Math.abs(value));
      const map = colours(kind, dark);
      cells.forEach((cell, i) => {
        const value = values[i];
        const t = kind === "weights" ? Math.sqrt(Math.max(0, value)) : 0.5 + (0.5 * value) / largest;
        cell.classList.toggle("ctk-nan", Number.isNaN(value));
        if (Number.isNaN(value)) {
          cell.style.background = cell.style.color = "";
        } else {
          const rgb = map[Math.round(255 * Math.min(1, Math.max(0, t)))];
          cell.style.background = `rgb(${rgb})`;
          cell.style.color = inkOn(rgb);
        }
        const words = brief(value, kind);
        if (cell.textContent !== words) cell.textContent = words;
      });
      extras.forEach((cell, i) => (cell.textContent = last?.[i] ?? ""));
    },
  };
}

/** A strip that says which colour means what. */
function legend(kind, from, to, isDark) {
  const strip = h("span", { class: "ctk-strip" });
  const paint = () => {
    const map = colours(kind, isDark());
    const stops = Array.from({ length: 9 }, (_, i) => `rgb(${map[Math.round((255 * i) / 8)]})`);
    strip.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  };
  paint();
  return { element: h("span", { class: "ctk-legend", "aria-hidden": "true" }, from, strip, to), paint };
}
