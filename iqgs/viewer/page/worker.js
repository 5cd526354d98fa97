// SPDX-License-Identifier: Apache-2.0
// Sorts splats by depth, and finds what a pixel shows. Runs beside the page.
"use strict";

let floats, words, stride, dims, count, keys, order, spare;
let hidden = new Set();
const digits = new Uint32Array(65536);
const SUPPORT = 1 / 255, MAX_ALPHA = 0.99, PARALLEL = 1e-4, DILATION = 0.3, STOP = 1e-4;

// Farthest first: two passes over the halves of the depths' bits, which order as the depths do.
function sorted(view, near) {
  const bits = new Uint32Array(1), value = new Float32Array(bits.buffer);
  let shown = 0;
  for (let i = 0; i < count; i++) {
    const at = i * stride * 4;
    value[0] = view[8] * floats[at] + view[9] * floats[at + 1] + view[10] * floats[at + 2] + view[11];
    if (value[0] > near) { keys[i] = ~bits[0]; order[shown++] = i; }
  }
  for (const shift of [0, 16]) {
    const [from, to] = shift ? [spare, order] : [order, spare];
    digits.fill(0);
    for (let i = 0; i < shown; i++) digits[(keys[from[i]] >>> shift) & 65535]++;
    for (let d = 0, sum = 0; d < 65536; d++) { const here = digits[d]; digits[d] = sum; sum += here; }
    for (let i = 0; i < shown; i++) to[digits[(keys[from[i]] >>> shift) & 65535]++] = from[i];
  }
  return order.slice(0, shown);
}

function turned(view, at, point) {
  const x = floats[at], y = floats[at + 1], z = floats[at + 2];
  return [0, 4, 8].map((r) => view[r] * x + view[r + 1] * y + view[r + 2] * z + (point ? view[r + 3] : 0));
}

// Squared distance in standard deviations and depth where the ray of a pixel meets a disc (2DGS).
function meetDisc(axes, c, camera, dx, dy) {
  const [u, v] = axes, { fx, fy } = camera, rx = c[0] / c[2], ry = c[1] / c[2];
  const k = [dx * u[2] - fx * (u[0] - rx * u[2]), dx * v[2] - fx * (v[0] - rx * v[2]), dx * c[2]];
  const l = [dy * u[2] - fy * (u[1] - ry * u[2]), dy * v[2] - fy * (v[1] - ry * v[2]), dy * c[2]];
  const h = [k[1] * l[2] - k[2] * l[1], k[2] * l[0] - k[0] * l[2], k[0] * l[1] - k[1] * l[0]];
  const middle = fx * fy * ((u[0] - rx * u[2]) * (v[1] - ry * v[2]) - (v[0] - rx * v[2]) * (u[1] - ry * u[2]));
  if (!(h[2] * middle > PARALLEL * middle * middle)) return null;
  const a = h[0] / h[2], b = h[1] / h[2];
  return { rho: Math.min(a * a + b * b, 2 * (dx * dx + dy * dy)), depth: u[2] * a + v[2] * b + c[2] };
}

// The same of an ellipsoid, on screen (3DGS).
function meetEllipsoid(axes, c, camera, dx, dy) {
  const { fx, fy, cx, cy, width, height } = camera;
  const bend = (ratio, f, middle, size) =>
    Math.min(Math.max(ratio, (-middle - 0.15 * size) / f), (size - middle + 0.15 * size) / f);
  const rx = bend(c[0] / c[2], fx, cx, width), ry = bend(c[1] / c[2], fy, cy, height);
  let xx = DILATION, xy = 0, yy = DILATION;
  for (const axis of axes) {
    const x = fx / c[2] * (axis[0] - rx * axis[2]), y = fy / c[2] * (axis[1] - ry * axis[2]);
    xx += x * x; xy += x * y; yy += y * y;
  }
  const rho = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / (xx * yy - xy * xy);
  return { rho, depth: c[2] };
}

// Which object has most of pixel (x, y), and at which depth: the weights of blending, summed.
function picked({ camera, x, y }) {
  const { view, fx, fy, cx, cy, near } = camera, hits = [];
  const ray = [(x - cx) / fx, (y - cy) / fy, 1], length = Math.hypot(...ray);
  for (let i = 0; i < count; i++) {
    const at = i * stride * 4;
    if (hidden.has(words[at + 11])) continue;
    const c = turned(view, at, true);
    const opacity = (words[at + 7] >>> 16) / 65535;
    if (c[2] <= near || opacity < SUPPORT) continue;
    const axes = [];
    for (let axis = 0; axis < dims; axis++) axes.push(turned(view, at + 4 + 4 * axis, false));
    const reach = Math.sqrt(2 * Math.log(opacity / SUPPORT));
    const size = Math.max(...axes.map((axis) => Math.hypot(...axis)));
    const off = Math.hypot(ray[1] * c[2] - c[1], c[0] - ray[0] * c[2], ray[0] * c[1] - ray[1] * c[0]) / length;
    if (off > reach * size + c[2] * (reach + 1) / Math.min(fx, fy)) continue;
    const dx = x - (fx * c[0] / c[2] + cx), dy = y - (fy * c[1] / c[2] + cy);
    const met = (dims === 2 ? meetDisc : meetEllipsoid)(axes, c, camera, dx, dy);
    if (met === null || met.depth < near) continue;
    const alpha = Math.min(MAX_ALPHA, opacity * Math.exp(-met.rho / 2));
    if (alpha >= SUPPORT) hits.push({ z: c[2], alpha, depth: met.depth, object: words[at + 11] });
  }
  hits.sort((a, b) => a.z - b.z);
  const shares = new Map();
  let through = 1, depth = 0;
  for (const hit of hits) {
    if (through * (1 - hit.alpha) < STOP) break;
    shares.set(hit.object, (shares.get(hit.object) || 0) + hit.alpha * through);
    if (through > 0.5) depth = hit.depth;
    through *= 1 - hit.alpha;
  }
  let best = null;
  for (const [object, share] of shares)
    if (share > through && (best === null || share > shares.get(best))) best = object;
  return { object: best, depth: best === null ? null : depth, share: best === null ? 0 : shares.get(best) };
}

onmessage = ({ data }) => {
  if (data.type === "splats") {
    ({ words, stride, dims, count } = data);
    floats = new Float32Array(words.buffer);
    [keys, order, spare] = [0, 0, 0].map(() => new Uint32Array(count));
  } else if (data.type === "hidden") {
    hidden = new Set(data.objects);
  } else if (data.type === "sort") {
    const result = sorted(data.view, data.near);
    postMessage({ type: "sorted", token: data.token, order: result }, [result.buffer]);
  } else if (data.type === "pick") {
    postMessage({ type: "picked", token: data.token, ...picked(data) });
  }
};
