// Sends waiting images: several to a request, a few requests at a time, and again when the service asks to wait.

import { ServiceError } from "./service.js";

const IN_FLIGHT = 2;
const IMAGES = 8;
// A request must arrive within seconds; more than this is sent with fewer images.
const BYTES = 4 * 2 ** 20;
const ATTEMPTS = 8;
const LONGEST_WAIT = 30;

/** Works through what {@link Uploader#add} gives it. Nothing is lost: an item ends ready, or failed with a reason. */
export class Uploader {
  /**
   * @param {import("./service.js").Service} service
   * @param {import("./collection.js").Collection} collection
   * @param {{onLocked: () => void, onMoved: () => Promise<void>, onWait: (says: string) => void}} hooks
   *   onLocked: a key is needed; onMoved: the model serves another space; onWait: what is waited for, "" when nothing
   */
  constructor(service, collection, hooks) {
    Object.assign(this, { service, collection, hooks });
    this.waiting = [];
    this.flying = 0;
    this.held = true;
    this.most = IMAGES;
    this.maxBytes = Infinity;
    collection.addEventListener("remove", ({ detail }) => {
      this.waiting = this.waiting.filter((item) => item !== detail);
    });
  }

  /** Take images in, in their order. */
  add(items) {
    for (const item of items) this.collection.update(item, { state: "waiting", message: "", attempts: 0 });
    this.waiting.push(...items);
    this.#fill();
  }

  /** Send from now on, within the limits of the service. */
  start({ max_client_batch_size: images = IMAGES, max_image_bytes: bytes = Infinity } = {}) {
    this.most = Math.min(IMAGES, images);
    this.maxBytes = bytes;
    this.release();
  }

  release() {
    this.held = false;
    this.hooks.onWait("");
    this.#fill();
  }

  #fill() {
    while (!this.held && this.flying < IN_FLIGHT && this.waiting.length) {
      const batch = this.#next();
      if (batch.length) this.#send(batch);
    }
  }

  #next() {
    const batch = [];
    let bytes = 0;
    while (this.waiting.length && batch.length < this.most) {
      const { file } = this.waiting[0];
      if (batch.length && bytes + file.size > BYTES) break;
      const item = this.waiting.shift();
      if (file.size > this.maxBytes) {
        this.#fail(item, `the image has ${file.size.toLocaleString("en")} bytes; the limit is ${
          this.maxBytes.toLocaleString("en")} bytes`);
        continue;
      }
      bytes += file.size;
      batch.push(item);
    }
    return batch;
  }

  async #send(batch) {
    this.flying++;
    const space = this.service.model.embedding_space;
    for (const item of batch) this.collection.update(item, { state: "sending" });
    try {
      const { rows, timing } = await this.service.embed(batch.map(({ file }) => file));
      rows.forEach(({ vector, error }, i) => {
        if (error) return this.#fail(batch[i], error.message);
        batch[i].vectors.set(space, vector);
        this.collection.update(batch[i], { state: "ready", timing, together: batch.length });
      });
    } catch (error) {
      await this.#mend(batch, error);
    } finally {
      this.flying--;
    }
    // The model may have been changed while these were under way.
    const now = this.service.model.embedding_space;
    const stale = batch.filter((item) => item.state === "ready" && !item.vectors.has(now) && this.collection.has(item));
    if (stale.length) this.add(stale);
    this.#fill();
  }

  async #mend(batch, error) {
    if (!(error instanceof ServiceError)) {
      console.error(error);
      for (const item of batch) this.#fail(item, "The answer could not be read.");
    } else if (error.status === 401) {
      this.held = true;
      this.#putBack(batch);
      this.hooks.onLocked();
    } else if (error.code === "embedding_space_mismatch") {
      this.#putBack(this.#spared(batch, error));
      await this.hooks.onMoved();
    } else if (error.passing && !(error.status === 429 && error.retryAfter === null)) {
      this.#putBack(this.#spared(batch, error));
      await this.#wait(error);
    } else if (batch.length > 1) {
      // One of them may be to blame, or they are too many: ask in halves, down to one.
      this.most = Math.max(1, Math.min(this.most, Math.ceil(batch.length / 2)));
      this.#putBack(batch);
    } else {
      this.#fail(batch[0], error.message);
    }
  }

  /** Those of a batch that may be tried once more; the others fail. */
  #spared(batch, error) {
    return batch.filter((item) => {
      item.attempts++;
      if (item.attempts < ATTEMPTS) return true;
      this.#fail(item, error.message);
      return false;
    });
  }

  #putBack(batch) {
    const kept = batch.filter((item) => this.collection.has(item));
    for (const item of kept) this.collection.update(item, { state: "waiting" });
    this.waiting.unshift(...kept);
  }

  async #wait({ retryAfter, message }) {
    if (this.held || !this.waiting.length) return;
    this.held = true;
    const attempts = Math.max(...this.waiting.map((item) => item.attempts));
    const seconds = retryAfter ?? Math.min(LONGEST_WAIT, 2 ** (attempts - 1));
    this.hooks.onWait(`${sentence(message)} Trying again in ${seconds} s; nothing is lost.`);
    // A little later than asked and never together with other pages that were told the same.
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000 * (1 + Math.random() / 4)));
    this.release();
  }

  #fail(item, message) {
    this.collection.update(item, { state: "failed", message: sentence(message) });
  }
}

/** A message of the service, as a sentence. */
export function sentence(message) {
  const text = message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
