// Puts the page together: what is dropped goes to the collection, from there to the service, and comes back as vectors.

import { Collection } from "./collection.js";
import { Detail } from "./detail.js";
import { Gallery } from "./gallery.js";
import { listen, pick } from "./intake.js";
import { Service, ServiceError } from "./service.js";
import { enqueue } from "./thumbnails.js";
import { Uploader, sentence } from "./uploader.js";

const $ = (id) => document.getElementById(id);

const service = new Service();
const collection = new Collection();
const gallery = new Gallery(collection, open);
const detail = new Detail(service, collection, { open, onLocked: lock });
const uploader = new Uploader(service, collection, { onLocked: lock, onMoved: move, onWait: notice });

listen(take);
collection.addEventListener("add", ({ detail: items }) => {
  for (const item of items) enqueue(item, collection);
  schedule();
});
collection.addEventListener("update", schedule);
collection.addEventListener("remove", ({ detail: item }) => {
  if (item === detail.item) show(null);
  schedule();
});

const actions = {
  pick,
  example,
  again: () => uploader.add([...collection.items.values()].filter(({ state }) => state === "failed")),
  remove: () => collection.remove(detail.item),
  clear: () => [...collection.items.values()].forEach((item) => collection.remove(item)),
  copy,
};
document.addEventListener("click", ({ target }) => actions[target.closest("[data-action]")?.dataset.action]?.());

$("model").addEventListener("change", ({ target }) => {
  service.model = service.models.find(({ id }) => id === target.value);
  adopt();
});
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  service.key = $("key").value.trim();
  connect();
});

connect();

/** Learn what is served; until then images wait. */
async function connect(tried = 1) {
  try {
    await service.listModels();
    const info = await service.info();
    $("access").hidden = true;
    $("key").value = "";
    $("models").hidden = service.models.length < 2;
    $("model").replaceChildren(...service.models.map(({ id }) => new Option(id, id)));
    $("model").value = service.model.id;
    adopt(info);
    uploader.start(info);
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    if (error.status === 401) return lock();
    const seconds = error.retryAfter ?? Math.min(30, 2 ** tried);
    notice(`${sentence(error.message)} Trying again in ${seconds} s.`);
    setTimeout(() => connect(tried + 1), seconds * 1000);
  }
}

/** A model was chosen, or serves another space: embed for it what is not yet, and offer its views. */
function adopt(info) {
  const { id, dimensions, grid, image_size: size, precision } = service.model;
  const where = info?.device ? ` on ${info.device}` : "";
  $("served").textContent =
    `${id} · ${dimensions} numbers an image · ${grid.height} × ${grid.width} tokens ` +
    `of ${size.height} × ${size.width} pixels · ${precision}${where}`;
  detail.offer();
  const settled = [...collection.items.values()].filter(({ state }) => state === "ready" || state === "failed");
  uploader.add(settled.filter(({ vectors }) => !vectors.has(service.model.embedding_space)));
  schedule();
}

async function move() {
  try {
    await service.listModels();
    adopt();
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    notice(sentence(error.message));
  }
}

/** A key is needed, or the one given is wrong. */
function lock() {
  $("access").hidden = false;
  notice(service.key ? "This key is not valid here." : "");
  $("key").focus();
}

function take(files, passedOver) {
  notice(passedOver ? `${passedOver} files of the folder cannot be read or are not named as JPEG, PNG or WebP, and were left out.` : "");
  if (!files.length) return;
  const first = collection.items.size === 0;
  const items = collection.add(files);
  uploader.add(items);
  if (first) show(items[0]);
}

async function example() {
  const response = await fetch("page/example.jpg").catch(() => null);
  if (!response?.ok) return notice("The example photograph cannot be loaded.");
  take([new File([await response.blob()], "example.jpg", { type: "image/jpeg" })], 0);
}

/** An image was chosen: show it, and bring it into sight where the panel is above the gallery. */
function open(item) {
  show(item);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const { top } = $("detail").getBoundingClientRect();
  if (top < 0) $("detail").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
}

function show(item) {
  gallery.mark(item);
  detail.show(item);
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

let scheduled = 0;

/** Count again a little later, once for all that changes until then: hundreds of images change state in a second. */
function schedule() {
  scheduled ||= setTimeout(() => {
    scheduled = 0;
    recount();
  }, 100);
}

function recount() {
  const { waiting, sending, ready, failed } = collection.counts();
  const total = collection.items.size;
  $("empty").hidden = total > 0;
  $("gallery").hidden = total === 0;
  document.querySelector('[data-action="again"]').hidden = failed === 0;
  $("bar").hidden = waiting + sending === 0;
  Object.assign($("bar"), { max: Math.max(1, total), value: ready + failed });
  const said = waiting + sending ? `${ready} of ${total} embedded` : `${ready} embedded`;
  $("progress").textContent = failed ? `${said}, ${failed} failed` : said;
  // Read out when it begins and when it is over, not at each step.
  const announced = total && (waiting + sending ? `Embedding ${total} images` : $("progress").textContent);
  if ($("announcement").textContent !== (announced || "")) $("announcement").textContent = announced || "";
  detail.recount();
}

async function copy() {
  const button = document.querySelector('[data-action="copy"]');
  try {
    await navigator.clipboard.writeText($("curl").textContent);
    button.textContent = "Copied";
  } catch {
    // Browsers have no clipboard on plain HTTP: select it for the visitor's own keys.
    getSelection().selectAllChildren($("curl"));
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}
