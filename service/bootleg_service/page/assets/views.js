// What can be laid over a photograph: nothing, its features as colours, or masks; and how each is asked for and drawn.

import { colours } from "./pca.js";

// A mask of the photograph's own size has smooth borders; of larger ones the encoder's input is enough to look at.
const LARGE = 4e6;

const FEATURES =
  "Each square is one patch token; red, green and blue are the three directions in which this image’s tokens differ most.";
const LABEL_FREE = "Found without any label: tokens that look alike to the encoder. Numbers mean nothing across images.";
const FOREGROUND = "Found without any label: the tokens are cut in two, and the side taken for the object stays bright.";

/** @typedef {{id: string, name: string, options?: object, explanation: string}} View */

/** The views that a model offers. @returns {View[]} */
export function viewsOf(model) {
  return [
    { id: "photograph", name: "Photograph", explanation: "" },
    { id: "features", name: "Features", explanation: FEATURES },
    { id: "kmeans", name: "k-means", options: { method: "kmeans" }, explanation: LABEL_FREE },
    { id: "ncut", name: "Normalised cut", options: { method: "ncut" }, explanation: LABEL_FREE },
    { id: "foreground", name: "Foreground", options: { method: "foreground" }, explanation: FOREGROUND },
    ...Object.entries(model.heads).map(([head, classes]) => ({
      id: `head:${head}`,
      name: head,
      options: { head },
      explanation: `By the trained head ${head}, which knows ${classes.length} classes and names every pixel with one.`,
    })),
  ];
}

/**
 * Ask the service for a view of a file.
 *
 * @param {View} view
 * @param {import("./service.js").Service} service
 * @param {File} file
 * @param {{width: number, height: number}} size of the upright photograph
 * @param {AbortSignal} signal
 * @returns {Promise<object>} bitmap, where it lies (box in pixels of the photograph), legend, text, timing, request
 */
export async function fetchView(view, service, file, size, signal) {
  return view.id === "features"
    ? features(service, file, size, signal)
    : masks(view, service, file, size, signal);
}

async function features(service, file, size, signal) {
  const { tokens, height, width, dim, timing, request } = await service.patches(file, signal);
  const { pixels, explained } = colours(tokens, height * width, dim);
  const bitmap = await createImageBitmap(new ImageData(pixels, width, height));
  const share = `${Math.round(100 * explained)}%`;
  return {
    bitmap, timing, request, legend: [], crisp: true, box: centreBox(service.model, size),
    label: `Features: ${height} by ${width} patch tokens as colours`,
    text: `Of the variance of ${height} × ${width} tokens of ${dim} numbers, ${share} is shown.`,
  };
}

async function masks(view, service, file, size, signal) {
  const { width, height } = size;
  const options = { ...view.options, size: width * height > LARGE ? "input" : "original" };
  const { png, segments, box, size: drawn, image, timing, request } = await service.segment(file, options, signal);
  const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const whole = drawn.width === image.width && drawn.height === image.height;
  const seen = segments.reduce((sum, { area }) => sum + area, 0);
  return {
    bitmap, timing, request, box, whole, crisp: false, cutout: view.id === "foreground",
    label: `Masks: ${segments.map(({ name }) => name).join(", ")}`,
    legend: segments
      .map(({ name, color, area }) => ({ name, color, share: area / seen }))
      .sort((a, b) => b.share - a.share),
    text: "",
  };
}

/** The centre box that the encoder sees, as the bundle's preprocessing cuts it: left, top, right, bottom. */
export function centreBox({ image_size: input, crop_ratio: ratio }, { width, height }) {
  const scale = ratio * Math.min(height / input.height, width / input.width);
  const [w, h] = [Math.min(width, scale * input.width), Math.min(height, scale * input.height)];
  return [(width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2];
}
