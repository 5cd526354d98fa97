// SPDX-License-Identifier: Apache-2.0
// The list of objects beside the picture, and its buttons.

const byId = (id) => document.getElementById(id);

class Panel {
  constructor(header, actions) {
    this.header = header;
    this.actions = actions;
    byId("title").textContent = header.title;
    this.rows = [];
    for (const id of ["mode", "isolate", "hide", "show"]) byId(id).addEventListener("click", () => actions[id]());
    byId("filter").addEventListener("input", () => this.filter());
    byId("level").addEventListener("input", () => actions.level(Number(byId("level").value)));
    this.fillViews();
    byId("panel").hidden = false;
  }

  // The list of one level of `levels`, which are {level, name, entries}, coarsest first.
  showLevel(levels, at) {
    this.entries = levels[at].entries;
    const things = this.entries.filter((entry) => entry.id !== 0).length;
    byId("facts").textContent = `${this.header.count.toLocaleString("en")} splats, ${things} ${levels[at].name}`;
    byId("levels").hidden = levels.length < 2;
    Object.assign(byId("level"), { min: 0, max: levels.length - 1, value: at });
    byId("levelname").textContent = `${levels[at].level}: ${levels[at].name}`;
    this.rows = this.entries.map((entry, index) => this.row(entry, index));
    byId("objects").replaceChildren(...this.rows);
    this.filter();
  }

  row(object, index) {
    const make = (tag, name, text) => {
      const element = document.createElement(tag);
      element.className = name;
      element.textContent = text;
      return element;
    };
    const row = make("li", "", ""), swatch = make("span", "swatch", ""), eye = make("button", "eye", "●");
    row.dataset.id = object.id;
    swatch.style.background = `rgb(${object.color.join()})`;
    eye.setAttribute("aria-label", `show or hide ${object.name}`);
    eye.addEventListener("click", (event) => { event.stopPropagation(); this.actions.toggle(index); });
    row.append(swatch, make("span", "name", object.name), make("span", "count", object.count.toLocaleString("en")), eye);
    row.title = `${object.name} (${object.id})`;
    row.addEventListener("click", () => this.actions.select(index));
    row.addEventListener("dblclick", () => { this.actions.select(index); this.actions.isolate(); });
    return row;
  }

  fillViews() {
    const select = byId("views");
    select.append(new Option("go to a view …", ""));
    this.header.views.forEach((view, i) => select.append(new Option(view.name, i)));
    select.hidden = this.header.views.length === 0;
    select.addEventListener("change", () => { if (select.value !== "") this.actions.go(Number(select.value)); });
  }

  filter() {
    const wanted = byId("filter").value.trim().toLowerCase();
    this.rows.forEach((row, i) => {
      const { id, name } = this.entries[i];
      row.hidden = !(name.toLowerCase().includes(wanted) || String(id) === wanted);
    });
  }

  update({ selected, hidden, instances }) {
    this.rows.forEach((row, i) => {
      row.classList.toggle("selected", i === selected);
      row.classList.toggle("off", hidden.has(i));
      row.lastChild.textContent = hidden.has(i) ? "○" : "●";
    });
    if (selected !== null) this.rows[selected].scrollIntoView({ block: "nearest" });
    byId("mode").classList.toggle("on", instances);
    byId("isolate").disabled = byId("hide").disabled = selected === null;
    byId("show").disabled = hidden.size === 0;
  }
}
