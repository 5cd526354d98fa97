// SPDX-License-Identifier: Apache-2.0
// The page: what is shown, and what the rest of the world may ask for (`window.iqgs`).

function fail(text) {
  const message = byId("message");
  message.textContent = text;
  message.classList.add("fault");
}

class Viewer {
  constructor(header, splats) {
    this.header = header;
    this.canvas = byId("view");
    this.renderer = new Renderer(this.canvas, splats, header);
    this.worker = new Worker(URL.createObjectURL(new Blob([byId("worker").textContent], { type: "text/javascript" })));
    this.worker.onmessage = ({ data }) => this.answered(data);
    this.worker.onerror = (event) => fail(`The page's worker stopped: ${event.message}`);
    this.worker.postMessage({ type: "splats", ...splats }, [splats.words.buffer]);
    this.levels = levelsOf(header);
    this.at = Math.max(0, this.levels.findIndex((level) => level.level === (header.level || 0)));
    this.hiddenUnits = new Set(); // rows of header.objects; what the lists show are sets of them
    this.selected = null;
    this.instances = false;
    this.fixed = null; // a camera that somebody set, instead of the orbit
    this.sorted = this.sorting = null; // the cameras that the order is, and will be, of
    this.questions = new Map();
    this.waiting = [];
    this.token = 0;
    this.orbit = new Orbit(header.up);
    this.panel = new Panel(header, this.actions());
    this.panel.showLevel(this.levels, this.at);
    listen(this.canvas, this.orbit, {
      changed: () => { this.fixed = null; this.refresh(); },
      clicked: async (x, y) => this.select((await this.pickAt(x, y)).index),
      centred: (x, y) => this.centre(x, y),
      keyed: (key) => this.keyed(key),
    });
    new ResizeObserver(() => this.refresh()).observe(this.canvas);
    this.canvas.addEventListener("webglcontextlost", () => fail("The browser lost the graphics context: reload the page."));
  }

  actions() {
    return {
      select: (index) => this.select(index === this.selected ? null : index),
      toggle: (index) => this.setHidden(this.hidden.has(index) ? [...this.hidden].filter((i) => i !== index) : [...this.hidden, index]),
      isolate: () => { if (this.selected !== null) this.setHidden(this.entries.map((_, i) => i).filter((i) => i !== this.selected)); },
      hide: () => { if (this.selected !== null) this.setHidden([...this.hidden, this.selected]); },
      show: () => this.setHidden([]),
      mode: () => { this.instances = !this.instances; this.changed(); },
      go: (index) => this.go(index),
      level: (at) => this.setLevel(at),
      coarser: () => this.setLevel(this.at - 1),
      finer: () => this.setLevel(this.at + 1),
    };
  }

  keyed(key) {
    const names = { c: "mode", h: "hide", i: "isolate", x: "show", g: "coarser", p: "finer" };
    if (key === "escape") this.select(null);
    else if (names[key]) this.actions()[names[key]]();
    else return false;
    return true;
  }

  select(index) { this.selected = index; this.changed(); }

  get entries() { return this.levels[this.at].entries; }

  get of() { return this.levels[this.at].of; }

  // The entries of this level of which nothing is shown.
  get hidden() {
    const shown = new Set(this.of.filter((_, unit) => !this.hiddenUnits.has(unit)));
    return new Set(this.entries.map((_, i) => i).filter((i) => !shown.has(i)));
  }

  setHidden(indices) {
    const hidden = new Set(indices), before = this.hidden;
    this.of.forEach((entry, unit) => {
      if (hidden.has(entry)) this.hiddenUnits.add(unit);
      else if (before.has(entry) || indices.length === 0) this.hiddenUnits.delete(unit);
    });
    this.worker.postMessage({ type: "hidden", objects: [...this.hiddenUnits] });
    this.changed();
  }

  // Another level; what is hidden stays so, what is picked becomes what holds its first piece.
  setLevel(at) {
    if (!(at >= 0 && at < this.levels.length) || at === this.at) return;
    const unit = this.selected === null ? -1 : this.of.indexOf(this.selected);
    this.at = at;
    this.selected = unit < 0 ? null : this.of[unit];
    this.panel.showLevel(this.levels, at);
    this.changed();
  }

  changed() {
    this.of.forEach((entry, unit) => this.renderer.setObject(unit, {
      color: this.entries[entry].color, hidden: this.hiddenUnits.has(unit), selected: entry === this.selected,
    }));
    this.panel.update(this);
    this.refresh();
  }

  // The view of a photograph, upright, turning round what its middle shows.
  async go(index) {
    const view = this.header.views[index];
    const near = this.header.near;
    const seen = await this.ask({ type: "pick", camera: { ...view, near }, x: view.width / 2, y: view.height / 2 });
    this.orbit.take(view.view, seen.depth || this.header.size / 2, view.height / (2 * view.fy));
    this.fixed = null;
    this.refresh();
  }

  camera() {
    if (this.fixed !== null) return this.fixed;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const size = (length) => Math.max(1, Math.round(length * ratio));
    return this.orbit.camera(size(this.canvas.clientWidth), size(this.canvas.clientHeight), this.header.near);
  }

  ask(question) {
    const token = ++this.token;
    return new Promise((resolve) => {
      this.questions.set(token, resolve);
      this.worker.postMessage({ ...question, token });
    });
  }

  // What pixel (x, y) of the picture shows: {index, id, name, depth, share}; index null: nothing.
  async pick(x, y) {
    const { object, depth, share } = await this.ask({ type: "pick", camera: this.camera(), x, y });
    const index = object === null ? null : this.of[object];
    const { id = null, name = null } = index === null ? {} : this.entries[index];
    return { index, id, name, depth, share };
  }

  pickAt(x, y) { // in the page's pixels
    const ratio = this.camera().width / this.canvas.clientWidth;
    return this.pick(x * ratio, y * ratio);
  }

  async centre(x, y) {
    const camera = this.camera(), ratio = camera.width / this.canvas.clientWidth;
    const { depth } = await this.pickAt(x, y);
    if (depth === null || this.fixed !== null) return;
    const side = [(x * ratio - camera.cx) / camera.fx, (y * ratio - camera.cy) / camera.fy, 1].map((v) => v * depth);
    const eye = this.orbit.eye, axes = [0, 4, 8].map((r) => camera.view.slice(r, r + 3));
    this.orbit.distance = depth;
    this.orbit.pivot = axes.reduce((sum, axis, k) => plus(sum, axis, side[k]), eye);
    this.refresh();
  }

  refresh() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const camera = this.camera();
      this.order(camera);
      this.renderer.draw(camera, this.instances);
      this.settle();
    });
  }

  order(camera) {
    const key = [...camera.view.slice(8, 12), camera.near].join();
    this.wanted = key;
    if (this.sorting !== null || this.sorted === key) return;
    this.sorting = key;
    this.worker.postMessage({ type: "sort", view: camera.view, near: camera.near, token: 0 });
  }

  answered(data) {
    if (data.type === "picked") {
      this.questions.get(data.token)(data);
      this.questions.delete(data.token);
      return;
    }
    this.renderer.setOrder(data.order);
    this.sorted = this.sorting;
    this.sorting = null;
    this.refresh();
  }

  settle() {
    if (this.sorted !== this.wanted) return;
    byId("message").textContent = "";
    this.waiting.splice(0).forEach((resolve) => resolve());
  }

  settled() {
    return new Promise((resolve) => { this.waiting.push(resolve); this.refresh(); });
  }
}

// The levels of a page, coarsest first: what the list shows, and in which entry each unit is.
function levelsOf(header) {
  const alone = [{ level: 0, name: "objects", entries: header.objects, of: header.objects.map((_, i) => i) }];
  return header.levels && header.levels.length ? header.levels : alone;
}

async function start() {
  const header = JSON.parse(byId("header").textContent);
  if (!document.createElement("canvas").getContext("webgl2")) {
    fail("This page needs WebGL 2, which this browser does not offer: use a current Chrome, Edge, Firefox or Safari, and switch graphics acceleration on in its settings.");
    return null;
  }
  if (typeof DecompressionStream === "undefined") {
    fail("This browser is too old to unpack the splats (no DecompressionStream): use Chrome or Edge 80, Firefox 113, Safari 16.4 or newer.");
    return null;
  }
  const splats = unpack(header, await inflate(byId("data").textContent));
  byId("data").remove();
  const viewer = new Viewer(header, splats);
  viewer.changed();
  if (header.views.length) await viewer.go(header.start);
  else viewer.orbit.take([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, header.size], header.size, 0.5);
  await viewer.settled();
  return viewer;
}

window.iqgs = (() => {
  const ready = start().catch((error) => { fail(`The splats cannot be shown: ${error.message}`); return null; });
  const indexOf = (viewer, id) => viewer.entries.findIndex((entry) => entry.id === id);
  const idsOf = (viewer, set) => [...set].map((i) => viewer.entries[i].id).sort((a, b) => a - b);
  return {
    ready: ready.then((viewer) => viewer !== null),
    settled: async () => (await ready).settled(),
    // {view: 12 numbers, fx, fy, cx, cy, width, height, near}: as the photographs' cameras; null: back.
    setCamera: async (camera) => { const viewer = await ready; viewer.fixed = camera; return viewer.settled(); },
    camera: async () => (await ready).camera(),
    pick: async (x, y) => (await ready).pick(x, y),
    select: async (id) => { const viewer = await ready; viewer.select(id === null ? null : indexOf(viewer, id)); return viewer.settled(); },
    hide: async (ids) => { const viewer = await ready; viewer.setHidden(ids.map((id) => indexOf(viewer, id))); return viewer.settled(); },
    setLevel: async (level) => { const viewer = await ready; viewer.setLevel(viewer.levels.findIndex((l) => l.level === level)); return viewer.settled(); },
    showInstances: async (on) => { const viewer = await ready; viewer.instances = on; viewer.changed(); return viewer.settled(); },
    state: async () => {
      const viewer = await ready, { header, entries, selected, hidden, instances, renderer } = viewer;
      return {
        count: header.count, kind: header.kind, objects: entries, instances, half: renderer.half,
        selected: selected === null ? null : entries[selected].id, hidden: idsOf(viewer, hidden),
        level: viewer.levels[viewer.at].level, levels: viewer.levels.map((l) => l.level),
      };
    },
    // RGBA bytes of the picture in base64, first row at the top.
    pixels: async () => {
      const viewer = await ready;
      viewer.renderer.draw(viewer.camera(), viewer.instances);
      let text = "";
      for (const byte of viewer.renderer.pixels()) text += String.fromCharCode(byte);
      return btoa(text);
    },
  };
})();
