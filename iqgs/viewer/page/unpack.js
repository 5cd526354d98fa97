// SPDX-License-Identifier: Apache-2.0
// The bytes of the page -> splats. The layout is that of iqgs/viewer/packed.py.

const TYPES = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array };
const COLOR_RANGE = 4; // colours are kept as 16-bit shares of this

async function inflate(base64) {
  const text = atob(base64.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

function columnsOf(header, buffer) {
  const found = {};
  for (const [name, column] of Object.entries(header.columns)) {
    const length = column.shape.reduce((a, b) => a * b, 1);
    found[name] = new TYPES[column.type](buffer, column.offset, length);
  }
  return found;
}

// Rotation matrix of a packed quaternion, row by row, into `out`.
function rotationOf(packed, out) {
  const greatest = packed >>> 30, q = [0, 0, 0, 0];
  let rest = 1;
  for (let step = 1; step < 4; step++) {
    const number = (packed >>> (10 * (3 - step))) & 1023;
    const value = (number / 1023 * 2 - 1) * Math.SQRT1_2;
    q[(greatest + step) % 4] = value;
    rest -= value * value;
  }
  q[greatest] = Math.sqrt(Math.max(rest, 0));
  const [w, x, y, z] = q;
  out[0] = 1 - 2 * (y * y + z * z); out[1] = 2 * (x * y - w * z); out[2] = 2 * (x * z + w * y);
  out[3] = 2 * (x * y + w * z); out[4] = 1 - 2 * (x * x + z * z); out[5] = 2 * (y * z - w * x);
  out[6] = 2 * (x * z - w * y); out[7] = 2 * (y * z + w * x); out[8] = 1 - 2 * (x * x + y * y);
}

// Splats as the texture holds them, `stride` texels of four words each:
// mean, (r, g) | first axis, (b, opacity) | second axis, object | third axis of ellipsoids.
// An axis is as long as the standard deviation along it.
function unpack(header, buffer) {
  const columns = columnsOf(header, buffer);
  const dims = header.columns.log_scales.shape[1];
  const stride = 1 + dims, width = 6 + dims;
  const words = new Uint32Array(header.count * stride * 4);
  const floats = new Float32Array(words.buffer);
  const matrix = new Float64Array(9);
  const color = [0, 0, 0];
  let row = 0, chunk = 0;
  header.objects.forEach((object, index) => {
    for (let left = object.count; left > 0; left -= header.chunk, chunk++) {
      const low = chunk * 2 * width, high = low + width;
      const value = (number, steps, at) =>
        columns.ranges[low + at] + number / steps * (columns.ranges[high + at] - columns.ranges[low + at]);
      for (const end = row + Math.min(left, header.chunk); row < end; row++) {
        const base = row * stride * 4;
        for (let k = 0; k < 3; k++) {
          floats[base + k] = value(columns.means[3 * row + k], 65535, k);
          const share = value(columns.colors[3 * row + k], 255, 3 + dims + k) / COLOR_RANGE;
          color[k] = Math.round(Math.min(Math.max(share, 0), 1) * 65535);
        }
        rotationOf(columns.quaternions[row], matrix);
        for (let axis = 0; axis < dims; axis++) {
          const scale = Math.exp(value(columns.log_scales[dims * row + axis], 255, 3 + axis));
          for (let k = 0; k < 3; k++) floats[base + 4 + 4 * axis + k] = matrix[3 * k + axis] * scale;
        }
        words[base + 3] = color[0] | (color[1] << 16);
        words[base + 7] = color[2] | ((columns.opacities[row] * 257) << 16);
        words[base + 11] = index;
      }
    }
  });
  return { words, stride, dims, count: header.count };
}
