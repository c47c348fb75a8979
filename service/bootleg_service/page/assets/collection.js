// The images dropped so far, in this page's memory only.

/** One image: its file, and for each embedding space the vector that the service gave it. */
export class Item {
  static #count = 0;

  constructor(file) {
    this.id = ++Item.#count;
    this.file = file;
    // A name is text and only ever shown as text.
    this.name = file.name || `pasted image ${this.id}`;
    this.thumbnail = null;
    this.vectors = new Map();
    this.timing = null;
    this.together = 0;
    this.attempts = 0;
    /** @type {"waiting"|"sending"|"ready"|"failed"} */
    this.state = "waiting";
    this.message = "";
  }
}

/** All of them, in the order they came; tells listeners what changed. */
export class Collection extends EventTarget {
  constructor() {
    super();
    this.items = new Map();
  }

  add(files) {
    const added = files.map((file) => new Item(file));
    for (const item of added) this.items.set(item.id, item);
    this.dispatchEvent(new CustomEvent("add", { detail: added }));
    return added;
  }

  /** Say that an item is another than it was; what is set is copied to it. */
  update(item, values) {
    Object.assign(item, values);
    if (this.items.has(item.id)) this.dispatchEvent(new CustomEvent("update", { detail: item }));
  }

  remove(item) {
    if (!this.items.delete(item.id)) return;
    this.dispatchEvent(new CustomEvent("remove", { detail: item }));
    if (item.thumbnail) URL.revokeObjectURL(item.thumbnail);
  }

  has(item) {
    return this.items.has(item.id);
  }

  /** How many are in each state. */
  counts() {
    const counts = { waiting: 0, sending: 0, ready: 0, failed: 0 };
    for (const { state } of this.items.values()) counts[state]++;
    return counts;
  }

  /** The items that have a vector of this space. */
  embedded(space) {
    return [...this.items.values()].filter(({ vectors }) => vectors.has(space));
  }
}
