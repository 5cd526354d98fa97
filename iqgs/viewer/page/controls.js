// SPDX-License-Identifier: Apache-2.0
// Mouse, fingers and keys. A press that does not move is a click.

const CLICK = 5; // pixels that a click may move
const KEYS = { w: [0, 0, 1], s: [0, 0, -1], a: [-1, 0, 0], d: [1, 0, 0], q: [0, 1, 0], e: [0, -1, 0] };

function listen(canvas, orbit, { changed, clicked, centred, keyed }) {
  const pressed = new Map();
  let travelled = 0;

  const place = (event) => [event.clientX, event.clientY];
  const pan = (dx, dy) => {
    const step = 2 * orbit.slope * orbit.distance / canvas.clientHeight;
    orbit.move(-dx * step, -dy * step, 0);
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus();
    try { canvas.setPointerCapture(event.pointerId); } catch { /* an event that a program made */ }
    if (pressed.size === 0) travelled = 0;
    pressed.set(event.pointerId, place(event));
  });

  canvas.addEventListener("pointermove", (event) => {
    const before = pressed.get(event.pointerId);
    if (before === undefined) return;
    const now = place(event), dx = now[0] - before[0], dy = now[1] - before[1];
    travelled += Math.hypot(dx, dy);
    pressed.set(event.pointerId, now);
    if (travelled <= CLICK) return;
    if (pressed.size === 2) {
      const other = [...pressed].find(([id]) => id !== event.pointerId)[1];
      const far = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      orbit.zoom(far(before) / Math.max(far(now), 1));
      pan(dx / 2, dy / 2);
    } else if (event.buttons & 6 || event.shiftKey || event.ctrlKey) pan(dx, dy);
    else orbit.turn(dx * 0.006, dy * 0.006);
    changed();
  });

  canvas.addEventListener("pointerup", (event) => {
    const known = pressed.delete(event.pointerId);
    if (known && travelled <= CLICK && event.button === 0 && pressed.size === 0) clicked(event.offsetX, event.offsetY);
  });
  canvas.addEventListener("pointercancel", (event) => pressed.delete(event.pointerId));
  canvas.addEventListener("dblclick", (event) => centred(event.offsetX, event.offsetY));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1; // Firefox counts lines
    orbit.zoom(Math.exp(Math.max(-300, Math.min(300, event.deltaY * lines)) * 0.0015));
    changed();
  }, { passive: false });

  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target instanceof Element && event.target.closest("input, select")) return; // typing
    const key = event.key.toLowerCase();
    if (keyed(key)) return;
    const direction = KEYS[key];
    if (direction === undefined) return;
    orbit.move(...direction.map((x) => x * 0.04 * Math.max(orbit.distance, 1e-3)));
    changed();
  });
}
