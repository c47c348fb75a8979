// One image looked at closely: a view laid over it, its neighbours, and the request behind what is shown.

import { curlLine } from "./curl.js";
import { showNeighbours } from "./neighbour-list.js";
import { ServiceError } from "./service.js";
import { sentence } from "./uploader.js";
import { fetchView, viewsOf } from "./views.js";

// Masks of large photographs are megabytes each; the service has them in its cache too.
const KEPT = 8;
const TRIES = 4;

const $ = (id) => document.getElementById(id);

/** The panel beside the gallery. */
export class Detail {
  /**
   * @param {import("./service.js").Service} service
   * @param {import("./collection.js").Collection} collection
   * @param {{open: (item: object) => void, onLocked: () => void}} hooks
   *   open: a neighbour was chosen; onLocked: a key is needed
   */
  constructor(service, collection, hooks) {
    Object.assign(this, { service, collection, hooks });
    this.item = null;
    this.view = "features";
    this.kept = new Map();
    this.photograph = null;
    this.turn = new AbortController();
    $("opacity").addEventListener("input", () => this.#fade());
    collection.addEventListener("update", ({ detail }) => detail === this.item && this.#changed());
    $("views").addEventListener("change", ({ target }) => {
      this.view = target.value;
      this.#look();
    });
    this.#fade();
  }

  /** The model was chosen, or is another: offer its views. */
  offer() {
    const views = viewsOf(this.service.model);
    if (!views.some(({ id }) => id === this.view)) this.view = "features";
    $("views").replaceChildren(
      ...views.map(({ id, name }) => {
        const choice = document.createElement("label");
        const radio = document.createElement("input");
        Object.assign(radio, { type: "radio", name: "view", value: id, checked: id === this.view });
        choice.append(radio, name);
        return choice;
      }),
    );
    if (this.item) this.refresh();
  }

  /** Show an image, or none. */
  show(item) {
    this.item = item;
    this.state = item?.state;
    $("detail").hidden = !item;
    const before = this.photograph;
    this.photograph = item && URL.createObjectURL(item.file);
    if (item) $("photograph").src = this.photograph;
    else $("photograph").removeAttribute("src");
    // Only now: a file that is still being loaded must not vanish.
    if (before) URL.revokeObjectURL(before);
    if (!item) return this.turn.abort();
    $("detail-name").textContent = item.name;
    $("photograph").alt = item.name;
    this.refresh();
  }

  /** Show the neighbours and the view anew, once it is known what is served. */
  refresh() {
    this.recount();
    if (this.service.model) this.#look();
  }

  /** The collection changed: only the neighbours depend on it. */
  recount() {
    const { item, collection, service, hooks } = this;
    if (item && service.model) {
      showNeighbours(item, collection.embedded(service.model.embedding_space), service.model.embedding_space, hooks.open);
    }
  }

  /** A view needs no embedding, but to an image that fails there is nothing to see, and then again there may be. */
  #changed() {
    const before = this.state;
    this.state = this.item.state;
    const failed = [before, this.state].filter((state) => state === "failed").length === 1;
    const told = this.view === "photograph" && this.state === "ready" && before !== "ready";
    if (failed || told) this.refresh();
  }

  async #look() {
    this.turn.abort();
    const { signal } = (this.turn = new AbortController());
    const { item } = this;
    const view = viewsOf(this.service.model).find(({ id }) => id === this.view);
    this.#clear(view);
    const size = await this.#size();
    if (signal.aborted) return;
    $("stage").hidden = !size;
    if (item.state === "failed") {
      $("explanation").textContent = "";
      $("opacity-row").hidden = true;
      return this.#refuse(item.message, false);
    }
    if (!size) return this.#say("This browser cannot show the image.");
    $("stage").style.setProperty("--ratio", size.width / size.height);
    if (view.id === "photograph") return this.#plain();
    $("stage").setAttribute("aria-busy", "true");
    try {
      const made = await this.#ask(view, item, size, signal);
      if (!signal.aborted) this.#draw(made, view, size);
    } catch (error) {
      if (!signal.aborted) this.#fault(error);
    } finally {
      if (!signal.aborted) $("stage").removeAttribute("aria-busy");
    }
  }

  #clear(view) {
    $("stage").hidden = false;
    $("frame").hidden = true;
    $("explanation").textContent = view.explanation;
    $("legend").replaceChildren();
    $("opacity-row").hidden = view.id === "photograph";
    $("timing").textContent = "";
    $("curl").textContent = "";
    $("stages").replaceChildren();
    this.#say("");
  }

  async #size() {
    const image = $("photograph");
    const whole = await image.decode().then(() => true, () => false);
    return whole ? { width: image.naturalWidth, height: image.naturalHeight } : null;
  }

  /** A view from what is kept, or from the service, waited for when it is busy. */
  async #ask(view, item, size, signal) {
    const name = `${item.id} ${this.service.model.embedding_space} ${view.id}`;
    const known = this.kept.get(name);
    if (known) return known;
    for (let tried = 1; ; tried++) {
      try {
        const made = await fetchView(view, this.service, item.file, size, signal);
        this.kept.set(name, made);
        if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
        return made;
      } catch (error) {
        if (!(error instanceof ServiceError && error.passing) || tried === TRIES) throw error;
        const seconds = error.retryAfter ?? 2 ** (tried - 1);
        this.#say(`${sentence(error.message)} Trying again in ${seconds} s.`);
        await pause(seconds, signal);
        this.#say("");
      }
    }
  }

  #draw({ bitmap, box, whole, crisp, cutout = false, label, legend, text, timing, request }, view, { width, height }) {
    const overlay = $("overlay");
    Object.assign(overlay, { width: bitmap.width, height: bitmap.height });
    overlay.getContext("2d").drawImage(bitmap, 0, 0);
    overlay.setAttribute("aria-label", label);
    overlay.classList.toggle("crisp", crisp);
    overlay.classList.toggle("cutout", cutout);
    place($("frame"), box, width, height);
    // A mask of the photograph's size lies over all of it, around the frame.
    place(overlay, whole ? [-box[0], -box[1], width - box[0], height - box[1]] : [0, 0, box[2] - box[0], box[3] - box[1]],
      box[2] - box[0], box[3] - box[1]);
    $("frame").hidden = false;
    $("explanation").textContent = [view.explanation, text].filter(Boolean).join(" ");
    $("legend").replaceChildren(...legend.map(legendRow));
    this.#account(timing, request, "");
  }

  /** The photograph alone: what is told is how it was embedded. */
  #plain() {
    const { timing, together } = this.item;
    if (!timing) return;
    const request = this.service.request("v1/images/embeddings", {}, "application/json");
    this.#account(timing, request, together > 1 ? `Sent with ${together - 1} other images; the slowest counts.` : "");
  }

  #account({ stages, cache, roundTrip }, request, more) {
    const said = stages.filter(({ milliseconds }) => milliseconds >= 0.005);
    $("stages").replaceChildren(
      ...said.map(({ name, milliseconds }) => {
        const bar = document.createElement("span");
        bar.className = `stage-${name}`;
        bar.style.flexGrow = milliseconds;
        return bar;
      }),
    );
    const parts = said.map(({ name, milliseconds }) => `${name} ${milliseconds.toFixed(1)} ms`);
    parts.push(`round trip ${roundTrip.toFixed(0)} ms`, `cache ${cache}`);
    $("timing").textContent = [`${parts.join(" · ")}.`, more].filter(Boolean).join(" ");
    $("curl").textContent = curlLine(request, this.item.name, Boolean(this.service.key));
  }

  #fault(error) {
    if (!(error instanceof ServiceError)) throw error;
    if (error.status === 401) this.hooks.onLocked();
    this.#refuse(error.message, true);
  }

  #refuse(message, again) {
    this.#say(sentence(message), "error");
    if (!again) return;
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "quiet", textContent: "Try again" });
    button.addEventListener("click", () => this.#look());
    $("verdict").append(" ", button);
  }

  #say(text, kind = "") {
    $("verdict").textContent = text;
    $("verdict").dataset.kind = kind;
  }

  #fade() {
    const share = `${$("opacity").value}%`;
    $("opacity-value").textContent = share;
    $("overlay").style.opacity = share;
  }
}

function legendRow({ name, color, share }) {
  const row = document.createElement("li");
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.backgroundColor = `rgb(${color.join(" ")})`;
  const said = document.createElement("span");
  said.className = "share";
  said.textContent = share < 0.01 ? "under 1%" : `${Math.round(100 * share)}%`;
  row.append(swatch, name, " ", said);
  return row;
}

function place(element, [left, top, right, bottom], width, height) {
  element.style.left = `${(100 * left) / width}%`;
  element.style.top = `${(100 * top) / height}%`;
  element.style.width = `${(100 * (right - left)) / width}%`;
  element.style.height = `${(100 * (bottom - top)) / height}%`;
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("another view was chosen", "AbortError"));
    });
  });
}
