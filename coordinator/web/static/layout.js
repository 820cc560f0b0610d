// Where the nodes of the graph go: a spring between every two, as long as their round trip (Kamada–Kawai's
// model, solved by stress majorisation). Pure: the same nodes and lengths give the same picture.

const APART = 1.9;
const ROUNDS = 120;

/** How long the line of a tunnel wants to be: longer with the logarithm of the round trip in ms; `null` is not known. */
export function lengthOf(isUp, rtt) {
  if (!isUp) return APART;
  const length = rtt === null ? 1 : 0.5 + 0.55 * Math.log10(1 + rtt);
  return Math.round(Math.min(length, 1.8) * 8) / 8; // in steps, so that the picture rests while figures tremble
}

/** Places for `ids`, as Map id → { x, y }. `lengthBetween(i, j)` by index, null for two without a tunnel.
 *  Those in `before` start from where they were, so that the picture does not jump. */
export function arrange(ids, lengthBetween, before = new Map()) {
  const n = ids.length;
  const x = new Float64Array(n), y = new Float64Array(n);
  ids.forEach((id, i) => {
    const known = before.get(id), angle = (2 * Math.PI * i) / n;
    x[i] = known?.x ?? Math.cos(angle) * (1 + (i % 7) / 50);
    y[i] = known?.y ?? Math.sin(angle) * (1 + (i % 5) / 50);
  });
  const wanted = new Float64Array(n * n);
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) wanted[i * n + j] = wanted[j * n + i] = lengthBetween(i, j) ?? APART;
  for (let round = 0; round < ROUNDS; round++) {
    let moved = 0;
    for (let i = 0; i < n; i++) {
      let sx = 0, sy = 0, sum = 0;
      for (let j = 0; j < n; j++) {
        if (j === i) continue;
        const length = wanted[i * n + j], weight = 1 / (length * length);
        const dx = x[i] - x[j], dy = y[i] - y[j], distance = Math.hypot(dx, dy) || 1e-6;
        sx += weight * (x[j] + (length * dx) / distance);
        sy += weight * (y[j] + (length * dy) / distance);
        sum += weight;
      }
      if (!sum) continue;
      moved = Math.max(moved, Math.abs(sx / sum - x[i]), Math.abs(sy / sum - y[i]));
      x[i] = sx / sum; y[i] = sy / sum;
    }
    if (moved < 0.002) break;
  }
  if (!before.size) lieDown(x, y);
  return new Map(ids.map((id, i) => [id, { x: x[i], y: y[i] }]));
}

/** Turn the picture so that it is wider than high, as most screens are. */
function lieDown(x, y) {
  const n = x.length, mean = (values) => values.reduce((sum, value) => sum + value, 0) / (n || 1);
  const mx = mean(x), my = mean(y);
  let xx = 0, xy = 0, yy = 0;
  for (let i = 0; i < n; i++) { const dx = x[i] - mx, dy = y[i] - my; xx += dx * dx; xy += dx * dy; yy += dy * dy; }
  const angle = 0.5 * Math.atan2(2 * xy, xx - yy), cos = Math.cos(angle), sin = Math.sin(angle);
  for (let i = 0; i < n; i++) {
    const dx = x[i] - mx, dy = y[i] - my;
    x[i] = dx * cos + dy * sin; y[i] = dy * cos - dx * sin;
  }
}

/** Fit places into a box of pixels, at most `most` pixels a unit; one direction up to `stretch` times as wide as the other. */
export function fit(places, width, height, margin, { most = 230, stretch = 1 } = {}) {
  const all = [...places.values()];
  const span = (key) => { const values = all.map((place) => place[key]); return [Math.min(...values), Math.max(...values)]; };
  if (!all.length) return new Map();
  const [left, right] = span("x"), [top, bottom] = span("y");
  const wide = Math.min(most, (width - 2 * margin.x) / (right - left || 1e-6)), high = Math.min(most, (height - 2 * margin.y) / (bottom - top || 1e-6));
  const scale = { x: Math.min(wide, high * stretch), y: Math.min(high, wide * stretch) };
  const at = ({ x, y }) => ({ x: width / 2 + (x - (left + right) / 2) * scale.x, y: height / 2 + (y - (top + bottom) / 2) * scale.y });
  return new Map([...places].map(([id, place]) => [id, at(place)]));
}
