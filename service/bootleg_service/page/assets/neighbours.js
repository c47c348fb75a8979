// Who is near whom: cosine similarity after the collection's mean is taken off every vector.

/**
 * The neighbours of one item among others, nearest first.
 *
 * Vectors of one encoder share a large common part, which makes every cosine near 1; without the mean of the images
 * at hand it is their differences that are compared.
 *
 * @param {object} item one of `items`
 * @param {object[]} items with `vectors`
 * @param {string} space of the vectors
 * @returns {{item: object, similarity: number}[]} similarity from -1 to 1
 */
export function nearest(item, items, space) {
  const mean = meanOf(items.map(({ vectors }) => vectors.get(space)));
  const query = item.vectors.get(space);
  return items
    .filter((other) => other !== item)
    .map((other) => ({ item: other, similarity: cosine(query, other.vectors.get(space), mean) }))
    .sort((a, b) => b.similarity - a.similarity);
}

function meanOf(vectors) {
  const mean = new Float64Array(vectors[0].length);
  for (const vector of vectors) for (let i = 0; i < mean.length; i++) mean[i] += vector[i] / vectors.length;
  return mean;
}

function cosine(a, b, mean) {
  let dot = 0;
  let aa = 0;
  let bb = 0;
  for (let i = 0; i < mean.length; i++) {
    const x = a[i] - mean[i];
    const y = b[i] - mean[i];
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  // The very mean has no direction.
  return aa && bb ? dot / Math.sqrt(aa * bb) : 0;
}
