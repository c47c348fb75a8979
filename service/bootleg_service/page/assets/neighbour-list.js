// The nearest images of one image, as buttons with their similarity.

import { nearest } from "./neighbours.js";

const SHOWN = 12;
const FEW = 10;

const list = document.getElementById("neighbours");
const note = document.getElementById("neighbours-note");

/**
 * Show them, or say why there are none.
 *
 * @param {object} item that is looked at
 * @param {object[]} embedded all that have a vector of the space
 * @param {string} space of the vectors
 * @param {(item: object) => void} open one was chosen
 */
export function showNeighbours(item, embedded, space, open) {
  if (!item.vectors.has(space)) {
    list.replaceChildren();
    note.textContent = item.state === "failed" ? "It has no vector, so it has no neighbours." : "Being embedded\u2026";
  } else if (embedded.length < 3) {
    list.replaceChildren();
    note.textContent = "Neighbours need at least three images: drop some more.";
  } else {
    // Other images may arrive while one of these has the focus: its place keeps it.
    const focused = [...list.querySelectorAll("button")].indexOf(document.activeElement);
    list.replaceChildren(...nearest(item, embedded, space).slice(0, SHOWN).map((one) => row(one, open)));
    if (focused >= 0) list.querySelectorAll("button")[focused]?.focus();
    note.textContent =
      `Cosine similarity after the mean of these ${embedded.length} vectors is subtracted: ` +
      "1 is the same direction, 0 unrelated, below 0 opposed." +
      (embedded.length < FEW ? " Of so few images the mean says little; drop more." : "");
  }
}

function row({ item, similarity }, open) {
  const line = document.createElement("li");
  const button = document.createElement("button");
  const picture = document.createElement("span");
  const measure = document.createElement("span");
  const value = document.createElement("span");
  Object.assign(button, { type: "button", className: "neighbour", title: item.name });
  button.setAttribute("aria-label", `${item.name}, similarity ${similarity.toFixed(2)}`);
  picture.className = "picture";
  if (item.thumbnail) {
    const image = document.createElement("img");
    Object.assign(image, { src: item.thumbnail, alt: "" });
    picture.append(image);
  }
  measure.className = "measure";
  measure.style.setProperty("--share", Math.max(0, similarity));
  Object.assign(value, { className: "value", textContent: similarity.toFixed(2).replace("-", "\u2212") });
  button.append(picture, measure, value);
  button.addEventListener("click", () => open(item));
  line.append(button);
  return line;
}
