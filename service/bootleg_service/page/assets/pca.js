// Patch tokens as colours: their three strongest principal components become red, green and blue.

const COMPONENTS = 3;
const ITERATIONS = 60;
const STEADY = 1e-7;
// Shares of the tokens that saturate at either end, so that one odd token does not grey all others.
const CLIPPED = 0.02;
// A component that spans less than this share of the first is the rounding of half-precision tokens: it stays grey.
const FAINT = 0.01;

/**
 * Colour each token by where it lies along the three directions in which the tokens of this image differ most.
 *
 * @param {Float32Array} tokens row by row, `count * dim` numbers
 * @param {number} count of tokens
 * @param {number} dim numbers of a token
 * @returns {{pixels: Uint8ClampedArray, explained: number}} RGBA for each token; the share of variance that is shown
 */
export function colours(tokens, count, dim) {
  const centred = centre(tokens, count, dim);
  const { scores, explained } = principal(centred, count, dim);
  const pixels = new Uint8ClampedArray(4 * count).fill(255);
  const ranges = scores.map(range);
  const least = FAINT * Math.max(...ranges.map(({ span }) => span));
  scores.forEach((score, c) => {
    const { low, span } = ranges[c];
    for (let n = 0; n < count; n++) pixels[4 * n + c] = span > least ? (255 * (score[n] - low)) / span : 128;
  });
  return { pixels, explained };
}

function range(score) {
  const sorted = score.slice().sort();
  const last = sorted.length - 1;
  const low = sorted[Math.floor(CLIPPED * last)];
  return { low, span: sorted[Math.ceil((1 - CLIPPED) * last)] - low };
}

function centre(tokens, count, dim) {
  const mean = new Float64Array(dim);
  for (let i = 0; i < tokens.length; i++) mean[i % dim] += tokens[i] / count;
  return Float64Array.from(tokens, (value, i) => value - mean[i % dim]);
}

/** Subspace iteration: a basis of three directions is multiplied by the covariance until it no longer turns. */
function principal(centred, count, dim) {
  let basis = start(dim);
  let scores = [];
  let strength = 0;
  for (let k = 0; k < ITERATIONS; k++) {
    scores = basis.map((direction) => project(centred, direction, count, dim));
    basis = orthonormal(scores.map((score) => combine(centred, score, count, dim)));
    const before = strength;
    strength = total(scores);
    if (Math.abs(strength - before) <= STEADY * strength) break;
  }
  scores = basis.map((direction) => project(centred, direction, count, dim));
  // A direction has two ends: the one with the longer tail is bright, each time the same.
  for (const score of scores) if (score.reduce((sum, s) => sum + s ** 3, 0) < 0) score.forEach((s, n) => (score[n] = -s));
  const all = centred.reduce((sum, value) => sum + value * value, 0);
  return { scores, explained: all > 0 ? total(scores) / all : 0 };
}

/** Directions that no chance chooses, so that the same image has the same colours. */
function start(dim) {
  let state = 1;
  const draw = () => (state = (state * 48271) % 2147483647) / 2147483647 - 0.5;
  return orthonormal(Array.from({ length: COMPONENTS }, () => Float64Array.from({ length: dim }, draw)));
}

function project(centred, direction, count, dim) {
  const score = new Float64Array(count);
  for (let n = 0; n < count; n++) for (let i = 0; i < dim; i++) score[n] += centred[n * dim + i] * direction[i];
  return score;
}

function combine(centred, score, count, dim) {
  const direction = new Float64Array(dim);
  for (let n = 0; n < count; n++) for (let i = 0; i < dim; i++) direction[i] += centred[n * dim + i] * score[n];
  return direction;
}

/** Gram-Schmidt; a direction that the others already span becomes zero. */
function orthonormal(directions) {
  const made = [];
  for (const direction of directions) {
    const length = Math.hypot(...direction);
    for (const other of made) {
      const along = direction.reduce((sum, value, i) => sum + value * other[i], 0);
      direction.forEach((value, i) => (direction[i] = value - along * other[i]));
    }
    const left = Math.hypot(...direction);
    made.push(direction.map((value) => (left > 1e-9 * length ? value / left : 0)));
  }
  return made;
}

function total(scores) {
  return scores.reduce((sum, score) => sum + score.reduce((own, value) => own + value * value, 0), 0);
}
