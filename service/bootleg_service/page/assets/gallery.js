// The tiles: one button for each image, moved through with the arrow keys.

const STATES = { waiting: "waiting", sending: "being embedded", ready: "", failed: "failed" };

/** Shows a collection. */
export class Gallery {
  /**
   * @param {import("./collection.js").Collection} collection
   * @param {(item: object) => void} open an image was chosen
   */
  constructor(collection, open) {
    Object.assign(this, { collection, open });
    this.list = document.getElementById("tiles");
    this.tiles = new Map();
    this.current = null;
    collection.addEventListener("add", ({ detail }) => this.#add(detail));
    collection.addEventListener("update", ({ detail }) => this.#show(detail));
    collection.addEventListener("remove", ({ detail }) => this.#remove(detail));
    this.list.addEventListener("keydown", (event) => this.#move(event));
    this.list.addEventListener("focusin", ({ target }) => this.#reach(target.closest("button")));
  }

  /** Mark the image that is looked at. */
  mark(item) {
    this.tiles.get(this.current)?.removeAttribute("aria-current");
    this.current = item;
    const tile = this.tiles.get(item);
    if (!tile) return;
    tile.setAttribute("aria-current", "true");
    this.#reach(tile);
  }

  #add(items) {
    const fragment = document.createDocumentFragment();
    for (const item of items) {
      const tile = document.createElement("button");
      tile.type = "button";
      tile.className = "tile";
      tile.tabIndex = -1;
      tile.append(part("span", "picture"), part("span", "name", item.name), part("span", "state"));
      tile.addEventListener("click", () => this.open(item));
      const row = document.createElement("li");
      row.append(tile);
      fragment.append(row);
      this.tiles.set(item, tile);
      this.#show(item);
    }
    this.list.append(fragment);
    if (!this.list.querySelector('[tabindex="0"]')) this.#reach(this.list.querySelector("button"));
  }

  #show(item) {
    const tile = this.tiles.get(item);
    if (!tile) return;
    tile.dataset.state = item.state;
    tile.querySelector(".state").textContent = item.message || STATES[item.state];
    tile.title = item.message ? `${item.name}: ${item.message}` : item.name;
    const picture = tile.querySelector(".picture");
    if (item.thumbnail && !picture.firstChild) {
      const image = document.createElement("img");
      image.src = item.thumbnail;
      image.alt = "";
      picture.append(image);
    }
  }

  #remove(item) {
    const tile = this.tiles.get(item);
    const focused = tile === document.activeElement;
    const next = tile.parentElement.nextElementSibling ?? tile.parentElement.previousElementSibling;
    this.tiles.delete(item);
    tile.parentElement.remove();
    const heir = next?.querySelector("button");
    if (heir && (focused || tile.tabIndex === 0)) this.#reach(heir);
    if (heir && focused) heir.focus();
  }

  /** One tile is in the tab order: the one that was reached last. */
  #reach(tile) {
    if (!tile) return;
    this.list.querySelectorAll('[tabindex="0"]').forEach((other) => (other.tabIndex = -1));
    tile.tabIndex = 0;
  }

  #move(event) {
    const tiles = [...this.tiles.values()];
    const at = tiles.indexOf(event.target.closest("button"));
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Delete" || event.key === "Backspace") {
      this.collection.remove([...this.tiles.keys()][at]);
    } else {
      const row = tiles.filter((tile) => tile.offsetTop === tiles[0].offsetTop).length;
      const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row, Home: -at, End: tiles.length - 1 - at };
      if (!(event.key in steps)) return;
      tiles[at + steps[event.key]]?.focus();
    }
    event.preventDefault();
  }
}

function part(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}
