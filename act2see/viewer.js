// The viewer of traces, for a notebook (anywidget) and for a page without a kernel.
//
// `data` is what viewer.py writes: views of one trace or of two, which move in step, and the
// pictures and clips that they share. A stop is a frame, a refused call or the end of a trace.
// Text that a model wrote is set as text or as an attribute, never as markup.

const STEP_MS = 900; // a stop's time on screen while the trace plays
const AROUND_S = 1; // of the clip, before and after what a call asked for
const LONGEST_S = 20; // the clip plays faster where it would take longer than this
const BORDER_PX = 6; // of the thickest border of a frame
const NEAR_PX = 9; // a click this near to a frame's tick means the frame
const NAMES = {
  overview: "overview", think: "thinks", call: "call", evidence: "sees", refused: "is told",
  answer: "answers", failed: "failed",
};
const LEGEND = {
  overview: "overview", retrieved: "retrieved", made: "generated, edited", again: "again",
  refused: "refused", named: "names its time",
};
const BUTTONS = [
  ["first", "|‹", "First frame (Home)"],
  ["callBack", "«", "Previous call (↑)"],
  ["back", "‹", "Previous frame (←)"],
  ["play", "Play", "Play the trace (space)"],
  ["next", "›", "Next frame (→)"],
  ["callNext", "»", "Next call (↓)"],
  ["last", "›|", "The answer (End)"],
  ["clip", "Clip", "Play the clip around this call (C)"],
  ["zoom", "Zoom", "Show only this call's part of the time axis (Z)"],
];
const KEYS = {
  Home: "first", ArrowUp: "callBack", ArrowLeft: "back", " ": "play", ArrowRight: "next",
  ArrowDown: "callNext", End: "last", c: "clip", z: "zoom",
};

/** An element. Attributes that start with `on` are listeners; strings among children are text. */
function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

/** Seconds as people read them: `8.5 s`, and in a clip of minutes also `12:05`. */
function seconds(time, end) {
  return end < 100 ? `${time.toFixed(1)} s` : `${time.toFixed(1)} s (${clock(time)})`;
}

function clock(time) {
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  const hours = time >= 3600 ? `${Math.floor(time / 3600)}:` : "";
  return `${hours}${two((time / 60) % 60)}:${two(time % 60)}`;
}

/** Round moments between two ends, at most about `most` of them. */
function roundMoments([from, to], most) {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
  const step = steps.find((s) => (to - from) / s <= most) ?? (to - from) / most;
  const moments = [];
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to + 1e-9; i++) moments.push(i * step);
  return moments;
}

function kindOf(stop) {
  if (stop.end) return "end";
  if (stop.refused !== undefined) return "refused";
  if (stop.again) return "again";
  if (stop.made !== "real") return "made";
  return stop.part ? "retrieved" : "overview";
}

/** A frame in words: what stands below it, and what a screen reader says of it. */
function describe(stop, trace) {
  if (stop.end) return `End. ${trace.verdict}`.trim();
  const origin = stop.part ? `call ${stop.part}` : "overview";
  if (stop.refused !== undefined) return `${origin}, refused`;
  const what = stop.made === "real" ? "real frame" : `${stop.made} frame`;
  const again = stop.again ? ", shown again" : "";
  const prompt = stop.prompt ? `, after “${stop.prompt}”` : "";
  return `${seconds(stop.time_s, trace.end_s)}, ${what}, ${origin}${again}${prompt}`;
}

/** The stop of another trace that belongs to the stop `here`: the last one that is not later. */
function follow(stops, here) {
  if (here.end) return stops.length - 1;
  const earlier = (s) => s.part < here.part || (s.part === here.part && s.place <= here.place);
  return Math.max(0, stops.filter((stop) => !stop.end && earlier(stop)).length - 1);
}

/** The clip: the video where it is embedded and can be played, else the real frames of the trace. */
class Clip {
  constructor(trace, data, onmoment) {
    this.samples = trace.stops
      .filter((stop) => stop.made === "real")
      .sort((one, other) => one.time_s - other.time_s);
    this.end = trace.end_s;
    this.onmoment = onmoment;
    this.still = h("img", { alt: "the clip", hidden: "" });
    this.pictures = data.pictures;
    this.node = h("div", { class: "moving" }, this.still);
    if (data.clips[trace.clip]) {
      this.video = h("video", { playsinline: "", preload: "auto", "aria-label": "the clip" });
      this.video.muted = true;
      this.video.addEventListener("error", () => {
        this.video?.remove();
        this.video = null;
      });
      this.video.src = data.clips[trace.clip];
      this.node.append(this.video);
    }
  }

  /** The real frame nearest to a moment. */
  sample(time) {
    const distance = (stop) => Math.abs(stop.time_s - time);
    return this.samples.reduce((a, b) => (a && distance(a) <= distance(b) ? a : b), null);
  }

  seek(time) {
    this.stop();
    if (this.video) this.video.currentTime = time;
    this.draw(time);
  }

  draw(time) {
    const sample = this.sample(time);
    this.still.hidden = Boolean(this.video) || !sample;
    if (sample) this.still.src = this.pictures[sample.picture];
    this.time = time;
    this.onmoment(time);
  }

  play(from, to, onend) {
    this.seek(from);
    const rate = clamp((to - from) / LONGEST_S, 1, this.video ? 16 : Infinity);
    const began = performance.now();
    if (this.video) {
      this.video.playbackRate = rate;
      this.video.play().catch(() => {});
    }
    const tick = (now) => {
      const time = this.video ? this.video.currentTime : from + (rate * (now - began)) / 1000;
      this.draw(clamp(time, from, to));
      if (time < to && !this.video?.ended) this.request = requestAnimationFrame(tick);
      else {
        this.stop();
        onend();
      }
    };
    this.request = requestAnimationFrame(tick);
  }

  stop() {
    cancelAnimationFrame(this.request);
    this.video?.pause();
  }
}

/** One trace: its frame, its words, its time axis and the strip of all its frames. */
class Pane {
  constructor(trace, data, onpick) {
    Object.assign(this, { trace, data, onpick, stops: trace.stops });
    const counts = {};
    for (const stop of this.stops) stop.place = counts[stop.part] = (counts[stop.part] ?? 0) + 1;
    this.clip = new Clip(trace, data, (time) => this.moment(time));
    this.picture = h("img", { class: "picture", decoding: "async" });
    this.picture.addEventListener("load", () => this.enlarge());
    this.told = h("p", { class: "told" });
    this.caption = h("figcaption");
    this.stage = h("div", { class: "stage" }, this.picture, this.told, this.clip.node);
    this.screen = h("figure", { class: "screen" }, this.stage, this.caption);
    const words = { class: "words", tabindex: "0", role: "group", "aria-label": "words of the trace" };
    this.words = h("div", words, this.question(), ...trace.lines.map((line, i) => this.line(line, i)));
    this.axis = h("div", {
      class: "axis", role: "slider", tabindex: "0", "aria-label": "time in the clip, in seconds",
      "aria-valuemin": 0, "aria-valuemax": trace.end_s, onclick: (event) => this.pickMoment(event),
    });
    this.cards = this.stops.map((stop, i) => this.card(stop, i));
    this.strip = h("div", { class: "strip", role: "group", "aria-label": "frames in the order shown" },
      ...this.groups());
    const name = h("h3", {}, trace.name, " ", h("span", { class: "verdict" }, trace.verdict));
    this.node = h("article", { class: "pane", "aria-label": trace.name },
      name, this.screen, this.words, this.axis, this.strip);
  }

  question() {
    const { question, options, right, chosen } = this.trace;
    const item = (option, i) => h("li", { class: i === right ? "right" : "" },
      `${"ABCDEFGHIJ"[i]}) ${option}`,
      ...(i === right ? [h("span", { class: "tag" }, "✓ right")] : []),
      ...(i === chosen ? [h("span", { class: "tag" }, "◂ answered")] : []));
    return h("div", { class: "line question" }, h("b", {}, "asks"),
      h("span", {}, question), h("ul", {}, ...options.map(item)));
  }

  line(line, i) {
    const sentences = line.text.flatMap(({ text, spans }) => {
      const words = text.trimEnd();
      const node = h("span", { onclick: () => this.pickNamed(spans) }, words);
      node.spans = spans;
      return [node, text.slice(words.length)];
    });
    const frames = this.stops.flatMap((stop, at) => (stop.line === i && stop.made
      ? [h("button", { class: "chip", type: "button", tabindex: "-1", onclick: () => this.onpick(at) },
        `${stop.time_s.toFixed(1)} s`)]
      : []));
    const kind = line.kind === "evidence" && !frames.length ? "refused" : line.kind;
    const name = kind === "call" ? `call ${line.call}` : NAMES[kind];
    const node = h("div", { class: `line ${kind}` }, h("b", {}, name), ...sentences, ...frames);
    node.hidden = sentences.length + frames.length === 0;
    return node;
  }

  card(stop, at) {
    const kind = kindOf(stop);
    const short = { end: "end", refused: "✕ refused" }[kind] ?? `${stop.time_s.toFixed(1)} s`;
    const mark = { made: `◆ ${stop.made}`, again: "↺ again" }[kind];
    const picture = stop.picture === undefined
      ? h("span", { class: "blank" }, kind === "end" ? "⚑" : "✕")
      : h("img", { src: this.data.pictures[stop.picture], alt: "", decoding: "async" });
    const words = [describe(stop, this.trace), stop.refused].filter(Boolean).join(". ");
    const card = h("button", {
      class: `card ${kind}`, type: "button", tabindex: "-1", title: words, "aria-label": words,
      onclick: () => this.onpick(at),
    }, picture, h("span", {}, short), ...(mark ? [h("span", { class: "mark" }, mark)] : []));
    if (stop.colour) card.style.setProperty("--kind", stop.colour);
    return card;
  }

  /** The cards under the name of what brought them: the overview, each call, the answer. */
  groups() {
    const groups = [];
    this.stops.forEach((stop, i) => {
      const name = stop.end ? "answer" : stop.part ? `call ${stop.part}` : "overview";
      if (groups.at(-1)?.name !== name) groups.push({ name, cards: [] });
      groups.at(-1).cards.push(this.cards[i]);
    });
    return groups.map(({ name, cards }) =>
      h("div", { class: "group" }, h("span", {}, name), h("div", {}, ...cards)));
  }

  /** Show a stop: its frame, the words up to it, its place in time. */
  show(at, zoomed) {
    this.at = at;
    this.clip.stop();
    const stop = this.stops[at];
    const shown = stop.end ? this.stops.findLast((s) => s.picture !== undefined) : stop;
    const seen = shown?.picture !== undefined;
    this.screen.className = `screen ${kindOf(stop.end && seen ? shown : stop)}`;
    this.screen.style.setProperty("--kind", shown?.colour ?? "");
    this.picture.hidden = !seen;
    if (seen) {
      this.picture.src = this.data.pictures[shown.picture];
      this.picture.alt = describe(shown, this.trace);
    }
    this.told.textContent = seen ? "" : stop.refused ?? "No frame was shown.";
    this.caption.textContent = describe(stop, this.trace);
    this.cards.forEach((card, i) => {
      card.setAttribute("aria-current", i === at);
      card.tabIndex = i === at ? 0 : -1;
    });
    const focused = this.strip.contains(document.activeElement);
    if (focused) this.cards[at].focus({ preventScroll: true });
    centre(this.strip, this.cards[at], "Left", "Width");
    this.read(stop);
    this.range = this.rangeOf(stop, zoomed);
    this.drawAxis();
  }

  /** Mark the sentences that name the frame's time, dim what comes later, scroll there. */
  read(stop) {
    let target = null;
    [...this.words.children].slice(1).forEach((node, i) => {
      const line = this.trace.lines[i];
      const last = line.kind === "answer" || line.kind === "failed";
      node.classList.toggle("later", !stop.end && (last || line.part > stop.part));
      node.classList.toggle("here", i === stop.line);
      for (const span of node.querySelectorAll(":scope > span")) {
        const named = stop.made && span.spans.some((s) => within(stop.time_s, s));
        span.classList.toggle("named", Boolean(named));
        if (named && i >= stop.line) target ??= span;
      }
    });
    const line = this.words.children[stop.line + 1];
    centre(this.words, target ?? (line.hidden ? this.words.firstChild : line), "Top", "Height");
    // The question stays in sight for as long as it can.
    if (this.at === 0 || this.words.scrollTop < this.words.clientHeight / 3) this.words.scrollTop = 0;
  }

  rangeOf(stop, zoomed) {
    const [from, to] = this.trace.windows[stop.part] ?? [];
    if (!zoomed || from === undefined) return [0, this.trace.end_s];
    const around = Math.max(AROUND_S, (to - from) / 2);
    return [clamp(from - around, 0, from), clamp(to + around, to, Math.max(to, this.trace.end_s))];
  }

  place(time) {
    const [from, to] = this.range;
    return (100 * (time - from)) / (to - from);
  }

  drawAxis() {
    const inside = (time) => time >= this.range[0] && time <= this.range[1];
    const [from, to] = this.range;
    const slots = clamp(Math.floor((this.node.clientWidth || 600) / 56), 3, 24);
    const thumbs = h("div", { class: "thumbs" }, ...Array.from({ length: slots }, (_, i) => {
      const sample = this.clip.sample(from + ((i + 0.5) * (to - from)) / slots);
      return sample ? h("img", { src: this.data.pictures[sample.picture], alt: "" }) : "";
    }));
    const band = h("i", { class: "band" });
    const stop = this.stops[this.at];
    const [start, end] = this.trace.windows[stop.part] ?? [];
    band.hidden = start === undefined;
    band.style.left = `${clamp(this.place(start), 0, 100)}%`;
    band.style.right = `${clamp(100 - this.place(end), 0, 100)}%`;
    const ticks = this.stops.flatMap((one, i) => {
      if (one.time_s === undefined || !inside(one.time_s)) return [];
      const tick = h("i", { class: `tick ${kindOf(one)}${i === this.at ? " now" : ""}` });
      tick.style.left = `${this.place(one.time_s)}%`;
      tick.style.setProperty("--kind", one.colour);
      return [tick];
    });
    const long = this.trace.end_s >= 100;
    const numbers = roundMoments(this.range, slots / 1.5).map((time) => {
      const node = h("span", { class: "number" }, long ? clock(time) : `${+time.toFixed(1)} s`);
      const place = this.place(time);
      node.style.left = `${place}%`;
      node.style.translate = `${place < 3 ? 0 : place > 97 ? -100 : -50}%`;
      return node;
    });
    this.head = h("i", { class: "head", hidden: "" });
    this.axis.replaceChildren(thumbs, band, ...ticks, this.head, ...numbers);
    this.axis.setAttribute("aria-valuenow", stop.time_s ?? this.trace.end_s);
    this.axis.setAttribute("aria-valuetext", describe(stop, this.trace));
  }

  /** A click on the axis: the frame whose tick is there, else the clip at that moment. */
  pickMoment(event) {
    const box = this.axis.getBoundingClientRect();
    const [from, to] = this.range;
    const time = clamp(from + ((event.clientX - box.left) / box.width) * (to - from), from, to);
    const near = this.stops
      .map((stop, i) => ({ i, away: Math.abs(stop.time_s - time) * (box.width / (to - from)) }))
      .filter(({ away }) => away <= NEAR_PX)
      .sort((one, other) => one.away - other.away);
    if (near.length) this.onpick(near[0].i);
    else this.clip.seek(time);
  }

  /** A click on a sentence: the last frame before it that it names. */
  pickNamed(spans) {
    const named = (stop) => stop.made && spans.some((span) => within(stop.time_s, span));
    const at = this.stops.findLastIndex(named);
    if (at >= 0) this.onpick(at);
  }

  /** The clip is at a moment: it covers the frame, and says so below. */
  moment(time) {
    this.screen.className = "screen clip";
    this.told.textContent = "";
    const kept = this.clip.video || !this.clip.sample(time) ? "" : ", nearest frame kept";
    this.caption.textContent = `The clip at ${seconds(time, this.trace.end_s)}${kept}`;
    if (!this.head) return;
    this.head.hidden = false;
    this.head.style.left = `${clamp(this.place(time), 0, 100)}%`;
  }

  /** A small picture grows by halves of its size and keeps its pixels' edges. */
  enlarge() {
    const { naturalWidth: width, naturalHeight: height } = this.picture;
    const below = this.caption.offsetHeight + 2 * BORDER_PX;
    const room = Math.min((this.screen.clientWidth - 2 * BORDER_PX) / width,
      (this.screen.clientHeight - below) / height);
    const factor = room >= 2 ? Math.floor(2 * room) / 2 : room;
    this.picture.classList.toggle("crisp", room >= 2);
    this.picture.style.width = `${Math.max(1, Math.round(width * factor))}px`;
    this.picture.style.height = `${Math.max(1, Math.round(height * factor))}px`;
  }
}

function within(time, [low, high]) {
  return time >= low - 0.0501 && time <= high + 0.0501;
}

/** Scroll a box so that a thing in it is in its middle, without moving the page. */
function centre(box, thing, side, size) {
  const edge = side.toLowerCase();
  const away = thing.getBoundingClientRect()[edge] - box.getBoundingClientRect()[edge];
  const room = box[`client${size}`] - Math.min(thing[`offset${size}`], box[`client${size}`]);
  box[`scroll${side}`] += away - room / (size === "Width" ? 2 : 3);
}

/** Draw the viewer into `root`; returns what ends it. */
export function mount(root, data) {
  let panes = [];
  let lead = 0; // the pane with the most stops: the buttons move it, the other follows
  let timer = 0;
  let zoomed = false;
  let clipPlays = false;

  const options = data.views.map((view, i) => {
    const { verdict, question } = view.at(-1);
    return h("option", { value: i }, `${i + 1}. ${verdict.slice(0, 1)} ${question}`);
  });
  const choice = h("select", { "aria-label": "trace", onchange: () => open(+choice.value) }, ...options);
  const buttons = {};
  for (const [name, text, title] of BUTTONS) {
    const press = { type: "button", title, "aria-label": title, onclick: () => act(name) };
    buttons[name] = h("button", press, text);
  }
  const status = h("span", { class: "status", role: "status" });
  const bar = h("div", { class: "bar", role: "toolbar", "aria-label": "player" },
    ...Object.values(buttons), status);
  const body = h("div", { class: "panes" });
  const legend = h("ul", { class: "legend", "aria-label": "legend" }, ...Object.entries(LEGEND).map(
    ([kind, text]) => h("li", {}, h("i", { class: `swatch ${kind}` }), text)));
  root.replaceChildren(...(data.views.length > 1 ? [choice] : []), bar, body, legend);
  root.classList.add("act2see");
  const names = { tabindex: "0", role: "group", "aria-label": "viewer of traces" };
  // JupyterLab would take the arrow keys to go to another cell.
  names["data-lm-suppress-shortcuts"] = "true";
  for (const [name, value] of Object.entries(names)) root.setAttribute(name, value);
  root.addEventListener("keydown", onkey);
  const resized = new ResizeObserver(() => panes.forEach((pane) => (pane.enlarge(), pane.drawAxis())));

  function open(view) {
    halt();
    panes = data.views[view].map((trace, which) => new Pane(trace, data, (at) => (halt(), go(which, at))));
    body.classList.toggle("pair", panes.length > 1);
    body.replaceChildren(...panes.map((pane) => pane.node));
    lead = panes.reduce((best, pane, i) => (pane.stops.length > panes[best].stops.length ? i : best), 0);
    go(lead, 0);
    resized.disconnect();
    resized.observe(body);
  }

  function go(which, at) {
    const here = panes[which].stops[at];
    panes.forEach((pane, i) => pane.show(i === which ? at : follow(pane.stops, here), zoomed));
    const calls = Math.max(0, ...panes[lead].stops.map((stop) => stop.part));
    const place = here.end ? "answer" : here.part ? `call ${here.part} of ${calls}` : "overview";
    status.textContent = `${place} · ${panes[lead].at + 1} / ${panes[lead].stops.length}`;
  }

  function halt() {
    clearInterval(timer);
    timer = 0;
    clipPlays = false;
    panes.forEach((pane) => pane.clip.stop());
    label();
  }

  function label() {
    buttons.play.textContent = timer ? "Pause" : "Play";
    buttons.clip.textContent = clipPlays ? "Stop" : "Clip";
    buttons.zoom.setAttribute("aria-pressed", zoomed);
  }

  /** The first stop of the call before or after the one on screen. */
  function jump(direction) {
    const { stops, at } = panes[lead];
    const first = stops.map((stop, i) => i).filter((i) =>
      i === 0 || stops[i].end || stops[i].part !== stops[i - 1].part);
    if (direction > 0) return first.find((i) => i > at) ?? at;
    return first.findLast((i) => i < at) ?? 0;
  }

  function playTrace() {
    const last = panes[lead].stops.length - 1;
    if (panes[lead].at === last) go(lead, 0);
    timer = setInterval(() => {
      go(lead, panes[lead].at + 1);
      if (panes[lead].at === last) halt();
    }, STEP_MS);
    label();
  }

  /** Play what the call on screen asked for and a little around it, the whole clip without one. */
  function playClip() {
    const stop = panes[lead].stops[panes[lead].at];
    const end = panes[lead].trace.end_s;
    const span = (!stop.end && panes[lead].trace.windows[stop.part]) || [];
    const [from, to] = span.length ? [span[0] - AROUND_S, span[1] + AROUND_S] : [0, end];
    clipPlays = true;
    label();
    panes.forEach((pane) => pane.clip.play(clamp(from, 0, end), clamp(to, 0, end), () => {
      clipPlays = false;
      label();
    }));
  }

  function act(name) {
    const played = timer;
    const moved = clipPlays;
    const { at, stops } = panes[lead];
    const target = {
      first: 0, back: at - 1, next: at + 1, last: stops.length - 1,
      callBack: jump(-1), callNext: jump(1),
    }[name];
    halt();
    if (target !== undefined) go(lead, clamp(target, 0, stops.length - 1));
    if (name === "play" && !played) playTrace();
    if (name === "clip" && !moved) playClip();
    if (name === "zoom") {
      zoomed = !zoomed;
      label();
      go(lead, at);
    }
  }

  function onkey(event) {
    const name = KEYS[event.key.length > 1 ? event.key : event.key.toLowerCase()];
    const inChoice = event.target === choice;
    const presses = event.key === " " && event.target.closest?.("button, select");
    if (!name || inChoice || presses || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    act(name);
  }

  open(0);
  return () => {
    halt();
    resized.disconnect();
    root.removeEventListener("keydown", onkey);
  };
}

export default {
  render({ model, el }) {
    const root = document.createElement("div");
    el.append(root);
    return mount(root, JSON.parse(model.get("data")));
  },
};
