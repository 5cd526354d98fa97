// SPDX-License-Identifier: Apache-2.0
// WebGL 2: splats in a texture, one instance of a rectangle each, blended from the farthest on.

class Renderer {
  constructor(canvas, splats, header) {
    const gl = canvas.getContext("webgl2", { antialias: false, alpha: false, powerPreference: "high-performance" });
    if (gl === null) throw new Error("no WebGL 2");
    this.gl = gl;
    this.canvas = canvas;
    this.background = header.background;
    this.objects = new Uint8Array(1024 * Math.ceil(header.objects.length / 1024) * 4);
    const discs = header.kind === "2dgs";
    this.splatting = this.program(discs ? DISC_VERTEX : ELLIPSOID_VERTEX, discs ? DISC_FRAGMENT : ELLIPSOID_FRAGMENT);
    this.showing = this.program(SCREEN_VERTEX, SCREEN_FRAGMENT);
    // Eight bits a channel would round at every layer; half floats do not show it.
    this.half = gl.getExtension("EXT_color_buffer_float") !== null || gl.getExtension("EXT_color_buffer_half_float") !== null;
    this.uploadSplats(splats);
    this.order = gl.createBuffer();
    this.vertices = gl.createVertexArray();
    gl.bindVertexArray(this.vertices);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    const place = gl.getAttribLocation(this.splatting, "a_splat");
    gl.enableVertexAttribArray(place);
    gl.vertexAttribIPointer(place, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(place, 1);
    this.nothing = gl.createVertexArray();
    this.objectTexture = this.texture();
    this.image = null;
    this.shown = 0;
  }

  program(vertex, fragment) {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(`shader: ${gl.getShaderInfoLog(shader)}`);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(`shader: ${gl.getProgramInfoLog(program)}`);
    return program;
  }

  texture() {
    const gl = this.gl, texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    for (const [name, value] of [["MIN_FILTER", gl.NEAREST], ["MAG_FILTER", gl.NEAREST], ["WRAP_S", gl.CLAMP_TO_EDGE], ["WRAP_T", gl.CLAMP_TO_EDGE]])
      gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${name}`], value);
    return texture;
  }

  uploadSplats({ words, stride, count }) {
    const gl = this.gl, widest = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    this.perRow = Math.floor(Math.min(widest, 4096) / stride);
    const rows = Math.ceil(count / this.perRow);
    if (rows > widest) throw new Error(`${count} splats are more than this graphics card's textures hold`);
    const padded = new Uint32Array(rows * this.perRow * stride * 4);
    padded.set(words);
    this.splatTexture = this.texture();
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32UI, this.perRow * stride, rows, 0, gl.RGBA_INTEGER, gl.UNSIGNED_INT, padded);
  }

  setOrder(order) {
    const gl = this.gl;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    gl.bufferData(gl.ARRAY_BUFFER, order, gl.DYNAMIC_DRAW);
    this.shown = order.length;
  }

  setObject(index, { color, hidden, selected }) {
    this.objects.set([...color, (hidden ? 1 : 0) | (selected ? 2 : 0)], 4 * index);
  }

  target(width, height) {
    const gl = this.gl;
    if (this.image && this.image.width === width && this.image.height === height) return;
    if (this.image) { gl.deleteTexture(this.image.texture); gl.deleteFramebuffer(this.image.frame); }
    const texture = this.texture(), frame = gl.createFramebuffer();
    if (this.half) gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA16F, width, height, 0, gl.RGBA, gl.HALF_FLOAT, null);
    else gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    this.image = { texture, frame, width, height };
    if (this.half && gl.checkFramebufferStatus(gl.FRAMEBUFFER) !== gl.FRAMEBUFFER_COMPLETE) {
      this.half = false;
      this.target(-1, -1);
      this.target(width, height);
    }
  }

  // camera: {view: 12 numbers row by row, fx, fy, cx, cy, width, height, near}, sizes in pixels.
  draw(camera, instances) {
    const gl = this.gl, { view, width, height } = camera;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.target(width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.image.frame);
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const program = this.splatting, at = (name) => gl.getUniformLocation(program, name);
    gl.useProgram(program);
    gl.activeTexture(gl.TEXTURE1);
    gl.bindTexture(gl.TEXTURE_2D, this.objectTexture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8UI, 1024, this.objects.length / 4096, 0, gl.RGBA_INTEGER, gl.UNSIGNED_BYTE, this.objects);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.splatTexture);
    gl.uniform1i(at("u_splats"), 0);
    gl.uniform1i(at("u_objects"), 1);
    gl.uniform1i(at("u_per_row"), this.perRow);
    gl.uniform1i(at("u_instances"), instances ? 1 : 0);
    gl.uniformMatrix3fv(at("u_rotation"), true, [0, 4, 8].flatMap((r) => view.slice(r, r + 3)));
    gl.uniform3f(at("u_translation"), view[3], view[7], view[11]);
    gl.uniform2f(at("u_focal"), camera.fx, camera.fy);
    gl.uniform2f(at("u_center"), camera.cx, camera.cy);
    gl.uniform2f(at("u_size"), width, height);
    gl.uniform1f(at("u_near"), camera.near);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.bindVertexArray(this.vertices);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.shown);

    gl.disable(gl.BLEND);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.useProgram(this.showing);
    gl.bindVertexArray(this.nothing);
    gl.bindTexture(gl.TEXTURE_2D, this.image.texture);
    gl.uniform3f(gl.getUniformLocation(this.showing, "u_background"), ...this.background);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  // What `draw` just drew: RGBA bytes, first row at the top. Only right after it.
  pixels() {
    const gl = this.gl, { width, height } = this.canvas;
    const upsideDown = new Uint8Array(width * height * 4), found = new Uint8Array(width * height * 4);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, upsideDown);
    for (let y = 0; y < height; y++)
      found.set(upsideDown.subarray((height - 1 - y) * width * 4, (height - y) * width * 4), y * width * 4);
    return found;
  }
}
