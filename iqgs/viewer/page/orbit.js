// SPDX-License-Identifier: Apache-2.0
// A camera that turns round a point and stays upright. Views are COLMAP's: x right, y down, z ahead.

const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const plus = (a, b, factor) => [0, 1, 2].map((k) => a[k] + factor * b[k]);
const unit = (a) => { const n = Math.hypot(...a) || 1; return a.map((x) => x / n); };
const STEEPEST = 1.55; // radians from level

class Orbit {
  constructor(up) {
    this.up = unit(up);
    const least = this.up.map(Math.abs).indexOf(Math.min(...this.up.map(Math.abs)));
    this.east = unit(cross(this.up, [0, 1, 2].map((k) => (k === least ? 1 : 0))));
    this.north = cross(this.up, this.east);
    this.pivot = [0, 0, 0];
    this.distance = 1;
    this.yaw = this.pitch = 0;
    this.slope = 0.5; // tangent of half the vertical field of view
  }

  get forward() {
    const level = plus(this.east.map((x) => x * Math.cos(this.yaw)), this.north, Math.sin(this.yaw));
    return plus(level.map((x) => x * Math.cos(this.pitch)), this.up, Math.sin(this.pitch));
  }

  get right() { return unit(cross(this.forward, this.up)); }
  get eye() { return plus(this.pivot, this.forward, -this.distance); }

  // The view of a photograph without its roll; `depth` away is what it turns round.
  take(view, depth, slope) {
    const ahead = view.slice(8, 11);
    const eye = [0, 1, 2].map((k) => -(view[k] * view[3] + view[4 + k] * view[7] + view[8 + k] * view[11]));
    this.pitch = Math.asin(Math.max(-0.999, Math.min(0.999, dot(ahead, this.up))));
    this.yaw = Math.atan2(dot(ahead, this.north), dot(ahead, this.east));
    this.distance = depth;
    this.pivot = plus(eye, this.forward, depth);
    this.slope = slope;
  }

  turn(dx, dy) { // radians
    this.yaw -= dx;
    this.pitch = Math.max(-STEEPEST, Math.min(STEEPEST, this.pitch - dy));
  }

  move(right, down, ahead) { // world units
    const down3 = cross(this.forward, this.right);
    this.pivot = plus(plus(plus(this.pivot, this.right, right), down3, down), this.forward, ahead);
  }

  zoom(factor) { this.distance = Math.min(Math.max(this.distance * factor, 1e-4), 1e6); }

  camera(width, height, near) {
    const right = this.right, ahead = this.forward, down = cross(ahead, right), eye = this.eye;
    const view = [right, down, ahead].flatMap((axis) => [...axis, -dot(axis, eye)]);
    const focal = height / (2 * this.slope);
    return { view, fx: focal, fy: focal, cx: width / 2, cy: height / 2, width, height, near };
  }
}
