// Exact values of one excursion set, as `emuloss.metric("minkowski")` has them: closed boundary, 4-connected.
"use strict";

const PIXEL_PERIMETER = (Math.PI / 8) * (4 + 4 / Math.SQRT2);

// The least Crofton perimeter, in pixels, of a set of n pixels: `emuloss.metrics.minkowski.isoperimetric_bound`.
function leastPerimeter(n) {
  const phi = (Math.PI / 8) * (1 + Math.SQRT2);
  const wulff = 8 * (1 + Math.SQRT2) * (Math.PI / 4) ** 2;
  const beyond = Math.max(n, 1) - 1;
  const octagon = (wulff / 2) * (Math.sqrt(1 / (4 * phi * phi) + (4 / wulff) * beyond) - 1 / (2 * phi));
  return PIXEL_PERIMETER * Math.min(Math.max(n, 0), 1) + octagon;
}

// {area, perimeter, euler, components, holes, pixels} of {field >= threshold}; a: edge of a pixel.
function exactValues(field, side, threshold, a) {
  const wet = (i, j) => i >= 0 && j >= 0 && i < side && j < side && field[i * side + j] >= threshold;
  let pixels = 0, axial = 0, diagonal = 0, blocks = 0;
  const parent = new Int32Array(side * side).map((_, k) => k);
  const root = (k) => {
    while (parent[k] !== k) k = parent[k] = parent[parent[k]];
    return k;
  };
  let components = 0;
  const join = (k, l) => {
    const [one, other] = [root(k), root(l)];
    if (one !== other) { parent[one] = other; components -= 1; }
  };
  for (let i = 0; i < side; i++) {
    for (let j = 0; j < side; j++) {
      if (!wet(i, j)) continue;
      pixels += 1;
      components += 1;
      const [up, left, corner] = [wet(i - 1, j), wet(i, j - 1), wet(i - 1, j - 1)];
      axial += up + left;
      diagonal += corner + wet(i - 1, j + 1);
      blocks += up && left && corner;
      if (up) join(i * side + j, (i - 1) * side + j);
      if (left) join(i * side + j, i * side + j - 1);
    }
  }
  const transitions = 4 * pixels - 2 * axial + (4 * pixels - 2 * diagonal) / Math.SQRT2;
  const euler = pixels - axial + blocks;
  return {
    area: a * a * pixels, perimeter: ((a * Math.PI) / 8) * transitions, euler, components,
    holes: components - euler, pixels,
  };
}
