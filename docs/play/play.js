// Draw rain, move the threshold, descend: see index.html. `window.play` is what the tests hold on to.
"use strict";

(() => {
  const { side, pixelSize, thresholds, outputs, units, examples } = GIVEN;
  const get = (id) => document.getElementById(id);
  const MOST = 40; // mm/h
  const STEPS = 150;

  let field = new Float32Array(side * side);
  let target = Float32Array.from(examples[0]);
  let threshold = 2;
  let found = null; // what the surrogate said last: {loss, gradient, curves, target_curves}
  let session = null;
  let descending = false;
  let cursor = [side >> 1, side >> 1];

  // The surrogate

  const bytesOf = async (name) => {
    if (location.protocol !== "file:") return new Uint8Array(await (await fetch(name)).arrayBuffer());
    return Uint8Array.from(atob(EMBEDDED[name]), (letter) => letter.charCodeAt(0));
  };
  const script = (name) => new Promise((done, failed) => {
    const element = Object.assign(document.createElement("script"), { src: name, onload: done, onerror: failed });
    document.head.append(element);
  });
  async function load() {
    if (location.protocol === "file:") await script("embedded.js"); // a page of a folder may fetch nothing
    const glue = new Blob([await bytesOf("ort-wasm-simd-threaded.mjs")], { type: "text/javascript" });
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(glue) };
    ort.env.wasm.wasmBinary = (await bytesOf("ort-wasm-simd-threaded.wasm")).buffer;
    ort.env.logLevel = "error";
    session = await ort.InferenceSession.create(await bytesOf("descent.onnx"), {
      executionProviders: ["wasm"],
      logSeverityLevel: 3, // it tells of what it does not fold
    });
  }
  async function ask() {
    const tensor = (values) => new ort.Tensor("float32", Float32Array.from(values), [1, side, side]);
    const said = await session.run({ field: tensor(field), target: tensor(target) });
    return Object.fromEntries(Object.entries(said).map(([name, each]) => [name, each.data]));
  }
  let asking = false, again = false;
  async function renew() { // one question at a time, and the last one is always asked
    if (!session || descending) return;
    if (asking) { again = true; return; }
    asking = true;
    do { again = false; found = await ask(); } while (again);
    asking = false;
    tell(`distance ${found.loss[0].toFixed(3)}`);
    draw();
  }

  // Pictures

  const shade = (rain) => {
    if (rain < 0.1) return [255, 255, 255];
    const t = Math.min(Math.log1p(rain) / Math.log1p(25), 1);
    return [225 - 217 * t, 238 - 170 * t, 250 - 120 * t * t];
  };
  function paint(canvas, values, marked) {
    const cell = 8;
    canvas.width = canvas.height = side * cell;
    const pen = canvas.getContext("2d");
    for (let k = 0; k < values.length; k++) {
      pen.fillStyle = `rgb(${shade(values[k]).map(Math.round)})`;
      pen.fillRect((k % side) * cell, Math.floor(k / side) * cell, cell, cell);
    }
    const wet = (i, j) => i >= 0 && j >= 0 && i < side && j < side && values[i * side + j] >= threshold;
    pen.beginPath();
    for (let i = 0; i <= side; i++) {
      for (let j = 0; j <= side; j++) {
        if (wet(i, j) !== wet(i - 1, j)) { pen.moveTo(j * cell, i * cell); pen.lineTo((j + 1) * cell, i * cell); }
        if (wet(i, j) !== wet(i, j - 1)) { pen.moveTo(j * cell, i * cell); pen.lineTo(j * cell, (i + 1) * cell); }
      }
    }
    pen.lineWidth = 2;
    pen.strokeStyle = "#d1495b";
    pen.stroke();
    if (marked) {
      pen.strokeStyle = "#f0a500";
      pen.strokeRect(marked[1] * cell - 1, marked[0] * cell - 1, cell + 2, cell + 2);
    }
  }
  const shown = (value, unit) => `${value.toFixed(unit === "1" || value >= 100 ? 0 : 1)}${unit === "1" ? "" : ` ${unit.replace("^2", "²")}`}`;
  const slog = (value) => Math.sign(value) * Math.log1p(Math.abs(value));
  function chart(name, row) {
    const curves = (data) => data && Array.from(data.slice(row * thresholds.length, (row + 1) * thresholds.length));
    const lines = [[curves(found && found.target_curves), "#9aa7b3"], [curves(found && found.curves), "#0b5c8f"]];
    const dots = thresholds.map((u) => exactValues(field, side, u, pixelSize)[name]);
    const all = [...dots, ...lines.flatMap(([curve]) => curve || []), 0].map(slog);
    const [low, high] = [Math.min(...all), Math.max(...all, 1)];
    const x = (u) => 6 + 148 * ((Math.log2(u) + 2) / 6);
    const y = (value) => 84 - 62 * ((slog(value) - low) / (high - low));
    const path = (curve) => curve.map((value, k) => `${k ? "L" : "M"}${x(thresholds[k]).toFixed(1)},${y(value).toFixed(1)}`).join("");
    return `<svg viewBox="0 0 160 100" role="img" aria-label="${name} over the threshold"><text x="6" y="12">${name}</text>` +
      `<line x1="6" x2="154" y1="${y(0)}" y2="${y(0)}" stroke="#d5dde5"/>` +
      `<line x1="${x(threshold)}" x2="${x(threshold)}" y1="18" y2="88" stroke="#d1495b"/>` +
      lines.map(([curve, colour]) => (curve ? `<path d="${path(curve)}" fill="none" stroke="${colour}" stroke-width="2"/>` : "")).join("") +
      dots.map((value, k) => `<circle cx="${x(thresholds[k])}" cy="${y(value)}" r="2.2" fill="#0b5c8f"/>`).join("") +
      `<text x="2" y="98">¼</text><text x="72" y="98">2</text><text x="146" y="98">16</text></svg>`;
  }
  function bar(name, share, text) {
    return `<dt><span>${name}</span><span>${text}</span></dt><dd><span style="width:${(100 * Math.min(share, 1)).toFixed(1)}%"></span></dd>`;
  }
  function draw() {
    paint(get("field"), field, document.activeElement === get("field") ? cursor : null);
    paint(get("target"), target, null);
    const [mine, theirs] = [field, target].map((each) => exactValues(each, side, threshold, pixelSize));
    get("threshold-value").textContent = `${threshold.toFixed(2)} mm/h`;
    get("intensity-value").textContent = `${get("intensity").value} mm/h`;
    get("values").innerHTML = outputs.map((name, k) =>
      `<tr><th scope="row">${name}</th><td data-mine="${name}">${shown(mine[name], units[k])}</td><td>${shown(theirs[name], units[k])}</td></tr>`).join("");
    const least = pixelSize * leastPerimeter(mine.pixels);
    const most = (2 * mine.perimeter) / (Math.PI * pixelSize);
    get("constraints").innerHTML =
      bar("least perimeter of that area, of yours", mine.perimeter ? least / mine.perimeter : 0, mine.pixels ? `${least.toFixed(0)} ≤ ${mine.perimeter.toFixed(0)} km` : "no pixel") +
      bar("components + holes, of 2P/π", most ? (mine.components + mine.holes) / most : 0, `${mine.components + mine.holes} ≤ ${most.toFixed(0)}`);
    get("charts").innerHTML = outputs.map(chart).join("");
    play.mine = mine;
  }
  const tell = (text) => { get("status").textContent = text; };
  let speaking = 0;
  function speak() { // once the hand rests
    clearTimeout(speaking);
    speaking = setTimeout(() => {
      const mine = play.mine;
      get("spoken").textContent = `Above ${threshold.toFixed(2)} millimetres an hour: area ${mine.area} square kilometres, ` +
        `perimeter ${mine.perimeter.toFixed(0)}, ${mine.components} components, ${mine.holes} holes.`;
    }, 700);
  }
  let due = 0;
  function changed() {
    cancelAnimationFrame(due);
    due = requestAnimationFrame(() => { draw(); renew(); speak(); });
  }

  // Hands

  function dab(row, column, dry) {
    const [size, most] = [Number(get("size").value), dry ? 0 : Number(get("intensity").value)];
    for (let i = Math.max(0, Math.ceil(row - size)); i <= Math.min(side - 1, row + size); i++) {
      for (let j = Math.max(0, Math.ceil(column - size)); j <= Math.min(side - 1, column + size); j++) {
        const distance = Math.hypot(i - row, j - column) / size;
        if (distance >= 1) continue;
        const k = i * side + j;
        field[k] = dry ? 0 : Math.min(MOST, Math.max(field[k], most * (1 - distance * distance)));
      }
    }
    changed();
  }
  const drying = () => document.querySelector("[name=tool]:checked").value === "dry";
  const canvas = get("field");
  function point(event) {
    const box = canvas.getBoundingClientRect();
    const place = (offset, length) => Math.min(side - 1, Math.max(0, Math.floor((offset / length) * side)));
    const [from, to] = [cursor, [place(event.clientY - box.top, box.height), place(event.clientX - box.left, box.width)]];
    const way = event.type === "pointermove" ? Math.max(1, Math.hypot(to[0] - from[0], to[1] - from[1])) : 1;
    for (let gone = 1; gone <= way; gone++) { // a quick hand leaves no gaps
      const share = way === 1 ? 1 : gone / Math.floor(way);
      dab(from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1]), drying() || event.buttons === 2);
    }
    cursor = to;
  }
  canvas.addEventListener("pointerdown", (event) => {
    stop();
    if (event.isTrusted) canvas.setPointerCapture(event.pointerId);
    point(event);
  });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    if (MOVES[event.key]) {
      cursor = cursor.map((each, axis) => Math.min(side - 1, Math.max(0, each + MOVES[event.key][axis])));
      get("where").textContent = `(${cursor[0]}, ${cursor[1]}): ${field[cursor[0] * side + cursor[1]].toFixed(1)} mm/h`;
      draw();
    } else if (event.key === " ") { stop(); dab(...cursor, drying()); }
    else if (event.key === "Backspace" || event.key === "Delete") { stop(); dab(...cursor, true); }
    else return;
    event.preventDefault();
  });
  for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => draw());
  get("threshold").addEventListener("input", (event) => { threshold = 2 ** Number(event.target.value); draw(); speak(); });
  get("intensity").addEventListener("input", () => draw());

  function blurred(values) {
    const reach = 3;
    return values.map((_, k) => {
      let [sum, count] = [0, 0];
      for (let i = Math.floor(k / side) - reach; i <= Math.floor(k / side) + reach; i++) {
        for (let j = (k % side) - reach; j <= (k % side) + reach; j++) {
          if (i >= 0 && j >= 0 && i < side && j < side) { sum += values[i * side + j]; count += 1; }
        }
      }
      return sum / count;
    });
  }
  get("examples").innerHTML = examples.map((_, k) => `<option value="${k}">rain ${k + 1}</option>`).join("");
  get("examples").addEventListener("change", (event) => { stop(); target = Float32Array.from(examples[event.target.value]); changed(); });
  get("blur").addEventListener("click", () => { stop(); field = blurred(target); changed(); });
  get("clear").addEventListener("click", () => { stop(); field.fill(0); changed(); });
  get("swap").addEventListener("click", () => { stop(); target = field.slice(); changed(); });

  // Descent: Adam with a short memory, as in the tutorials

  function stop() { descending = false; }
  async function descend() {
    if (descending) { stop(); return; }
    while (asking) await new Promise(requestAnimationFrame);
    descending = true;
    get("descend").textContent = "Stop";
    const [mean, square] = [new Float32Array(field.length), new Float32Array(field.length)];
    const first = (await ask()).loss[0];
    for (let step = 1; step <= STEPS && descending; step++) {
      found = await ask();
      if (!descending) break;
      const [rate, gone] = [0.1 * (1 - step / (STEPS + 1)), 1 - 0.5 ** step];
      for (let k = 0; k < field.length; k++) {
        const slope = found.gradient[k];
        mean[k] = 0.5 * mean[k] + 0.5 * slope;
        square[k] = 0.5 * square[k] + 0.5 * slope * slope;
        field[k] = Math.min(MOST, Math.max(0, field[k] - (rate * mean[k]) / gone / (Math.sqrt(square[k] / gone) + 1e-8)));
      }
      tell(`step ${step}: distance ${first.toFixed(3)} → ${found.loss[0].toFixed(3)}`);
      draw();
      await new Promise((done) => setTimeout(done));
    }
    descending = false;
    get("descend").textContent = "Descend";
    found = await ask();
    tell(`distance ${first.toFixed(3)} → ${found.loss[0].toFixed(3)}`);
    draw();
    speak();
  }
  get("descend").addEventListener("click", descend);

  window.play = {
    mine: null,
    state: () => ({ field: Array.from(field), target: Array.from(target), threshold, descending,
      exact: exactValues(field, side, threshold, pixelSize),
      found: found && Object.fromEntries(Object.entries(found).map(([name, each]) => [name, Array.from(each)])) }),
    ready: false,
  };
  field = blurred(target);
  draw();
  load().then(() => {
    get("descend").disabled = false;
    play.ready = true;
    return renew();
  }).catch((error) => tell(`The surrogate could not be loaded: ${error.message}`));
})();
