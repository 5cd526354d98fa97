// SPDX-License-Identifier: Apache-2.0
// The list of objects beside the picture, and its buttons.

const byId = (id) => document.getElementById(id);

class Panel {
  constructor(header, actions) {
    this.header = header;
    this.actions = actions;
    const objects = header.objects.filter((object) => object.id !== 0).length;
    byId("title").textContent = header.title;
    byId("facts").textContent = `${header.count.toLocaleString("en")} splats, ${objects} objects`;
    this.rows = header.objects.map((object, index) => this.row(object, index));
    byId("objects").append(...this.rows);
    for (const id of ["mode", "isolate", "hide", "show"]) byId(id).addEventListener("click", () => actions[id]());
    byId("filter").addEventListener("input", () => this.filter());
    this.fillViews();
    byId("panel").hidden = false;
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
      const { id, name } = this.header.objects[i];
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
