// SPDX-License-Identifier: Apache-2.0
// A splat is a rectangle round all pixels where it is at least one grey level; a pixel computes
// where its ray meets the disc (2DGS, Eq. 8-11), or its place in the ellipse on screen (3DGS, EWA).
// The same numbers as the rasterizer: constants.py, reference/surfels.py, reference/ellipsoids.py.

const SHARED = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
const float SUPPORT = 1.0 / 255.0;
const float MAX_ALPHA = 0.99;
const float LOW_PASS = 2.0;
const float PARALLEL = 1e-4;
const float EDGE_ON = 1e-5;
const float DILATION = 0.3;
const float MARGIN = 0.15;
uniform vec2 u_size;
uniform float u_near;
`;

const VERTEX_HEAD = `${SHARED}
uniform usampler2D u_splats;
uniform usampler2D u_objects;
uniform int u_per_row;
uniform int u_instances;
uniform mat3 u_rotation;
uniform vec3 u_translation;
uniform vec2 u_focal;
uniform vec2 u_center;
in uint a_splat;
flat out vec4 v_color;
flat out vec2 v_center;

uvec4 texel(int number, int stride) {
  int splat = int(a_splat);
  return texelFetch(u_splats, ivec2((splat % u_per_row) * stride + number, splat / u_per_row), 0);
}

vec3 turned(uvec4 words) { return u_rotation * uintBitsToFloat(words.xyz); }

void nothing() { gl_Position = vec4(0.0, 0.0, 2.0, 1.0); }

// Colour and opacity; x < 0 where the object is hidden.
vec4 paint(uint rg, uint bo, uint object) {
  uvec4 entry = texelFetch(u_objects, ivec2(int(object) % 1024, int(object) / 1024), 0);
  if ((entry.a & 1u) != 0u) return vec4(-1.0);
  vec2 last = unpackUnorm2x16(bo);
  vec3 color = 4.0 * vec3(unpackUnorm2x16(rg), last.x);
  float light = dot(color, vec3(0.299, 0.587, 0.114));
  if (u_instances != 0) color = vec3(entry.rgb) / 255.0 * (0.6 + 0.4 * clamp(light, 0.0, 1.0));
  if ((entry.a & 2u) != 0u) color = mix(color, vec3(1.0, 0.75, 0.1), 0.5);
  return vec4(color, last.y);
}

// A corner of the rectangle low .. high, in pixels.
void corner(vec2 low, vec2 high) {
  vec2 side = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  vec2 pixel = mix(max(low, vec2(0.0)), min(high, u_size), side);
  gl_Position = vec4(2.0 * pixel.x / u_size.x - 1.0, 1.0 - 2.0 * pixel.y / u_size.y, 0.0, 1.0);
}
`;

const FRAGMENT_HEAD = `${SHARED}
flat in vec4 v_color;
flat in vec2 v_center;
out vec4 f_color;

vec2 fromCenter() { return vec2(gl_FragCoord.x, u_size.y - gl_FragCoord.y) - v_center; }

void blend(float rho) {
  float alpha = min(MAX_ALPHA, v_color.a * exp(-0.5 * rho));
  if (alpha < SUPPORT) discard;
  f_color = vec4(v_color.rgb * alpha, alpha);
}
`;

const DISC_VERTEX = `${VERTEX_HEAD}
flat out vec3 v_x;
flat out vec3 v_y;
flat out vec3 v_w;

void main() {
  uvec4 first = texel(0, 3), second = texel(1, 3), third = texel(2, 3);
  v_color = paint(first.w, second.w, third.w);
  vec3 c = turned(first) + u_translation, tu = turned(second), tv = turned(third);
  float cut = 2.0 * log(max(v_color.a, 1e-30) / SUPPORT);
  vec3 normal = cross(tu, tv);
  bool edge_on = abs(dot(normal, c)) <= EDGE_ON * length(c) * length(normal);
  if (v_color.r < 0.0 || c.z <= u_near || cut < 0.0 || edge_on) { nothing(); return; }

  // The rows of the pixel transform relative to the projected centre.
  vec2 ratio = c.xy / c.z;
  v_center = u_focal * ratio + u_center;
  v_x = vec3(u_focal.x * (vec2(tu.x, tv.x) - ratio.x * vec2(tu.z, tv.z)), 0.0);
  v_y = vec3(u_focal.y * (vec2(tu.y, tv.y) - ratio.y * vec2(tu.z, tv.z)), 0.0);
  v_w = vec3(tu.z, tv.z, c.z);

  // The box of the disc's image; all of the screen for a disc that crosses the camera plane.
  float beyond = cut * dot(v_w.xy, v_w.xy) - v_w.z * v_w.z;
  if (beyond >= 0.0) { corner(vec2(0.0), u_size); return; }
  vec2 weights = vec2(cut, cut) / beyond;
  vec2 offset = vec2(dot(weights * v_x.xy, v_w.xy), dot(weights * v_y.xy, v_w.xy));
  vec2 squared = offset * offset - vec2(dot(weights, v_x.xy * v_x.xy), dot(weights, v_y.xy * v_y.xy));
  vec2 extent = sqrt(max(squared, 0.0)) * 1.001 + 0.05;
  vec2 disc = vec2(sqrt(cut / LOW_PASS) + 0.05);
  corner(v_center + min(offset - extent, -disc), v_center + max(offset + extent, disc));
}`;

const DISC_FRAGMENT = `${FRAGMENT_HEAD}
flat in vec3 v_x;
flat in vec3 v_y;
flat in vec3 v_w;

void main() {
  vec2 d = fromCenter();
  vec3 k = d.x * v_w - v_x, l = d.y * v_w - v_y;
  vec3 h = cross(k, l);
  float middle = v_x.x * v_y.y - v_x.y * v_y.x;
  if (!(h.z * middle > PARALLEL * middle * middle)) discard;
  vec2 uv = h.xy / h.z;
  if (dot(v_w, vec3(uv, 1.0)) < u_near) discard;
  blend(min(dot(uv, uv), LOW_PASS * dot(d, d)));
}`;

const ELLIPSOID_VERTEX = `${VERTEX_HEAD}
flat out vec3 v_precision;

void main() {
  uvec4 first = texel(0, 4), second = texel(1, 4), third = texel(2, 4);
  v_color = paint(first.w, second.w, third.w);
  vec3 c = turned(first) + u_translation;
  float cut = 2.0 * log(max(v_color.a, 1e-30) / SUPPORT);
  if (v_color.r < 0.0 || c.z <= u_near || cut < 0.0) { nothing(); return; }
  vec2 ratio = c.xy / c.z;
  v_center = u_focal * ratio + u_center;
  vec2 bent = clamp(ratio, (-u_center - MARGIN * u_size) / u_focal,
                    (u_size - u_center + MARGIN * u_size) / u_focal);
  vec3 covariance = vec3(DILATION, 0.0, DILATION);
  for (int i = 1; i < 4; i++) {
    vec3 axis = turned(texel(i, 4));
    vec2 p = u_focal / c.z * (axis.xy - bent * axis.z);
    covariance += vec3(p.x * p.x, p.x * p.y, p.y * p.y);
  }
  float lean = covariance.y / covariance.z;
  float within = max(covariance.x - lean * covariance.y, DILATION);
  v_precision = vec3(inversesqrt(within), -lean * inversesqrt(within), inversesqrt(covariance.z));
  vec2 extent = sqrt(cut * covariance.xz) * 1.001 + 0.05;
  corner(v_center - extent, v_center + extent);
}`;

const ELLIPSOID_FRAGMENT = `${FRAGMENT_HEAD}
flat in vec3 v_precision;

void main() {
  vec2 d = fromCenter();
  vec2 off = vec2(v_precision.x * d.x + v_precision.y * d.y, v_precision.z * d.y);
  blend(dot(off, off));
}`;

const SCREEN_VERTEX = `#version 300 es
void main() {
  gl_Position = vec4(4.0 * float(gl_VertexID & 1) - 1.0, 4.0 * float(gl_VertexID >> 1) - 1.0, 0.0, 1.0);
}`;

const SCREEN_FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D u_image;
uniform vec3 u_background;
out vec4 f_color;
void main() {
  vec4 seen = texelFetch(u_image, ivec2(gl_FragCoord.xy), 0);
  f_color = vec4(seen.rgb + (1.0 - seen.a) * u_background, 1.0);
}`;
