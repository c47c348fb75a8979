// Talks to the service: the only module that sends requests. Addresses are relative, so that a proxy may add a prefix.

const RETRYABLE = new Set([408, 429, 502, 503, 504]);

/** What the service, or the way to it, said instead of an answer. */
export class ServiceError extends Error {
  /**
   * @param {string} message in words, for the visitor
   * @param {{status?: number, code?: string, retryAfter?: number|null}} about status 0: no answer at all
   */
  constructor(message, { status = 0, code = "unreachable", retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return this.status === 0 || RETRYABLE.has(this.status);
  }
}

/** Where a request's time went, from its answer's headers. */
export class Timing {
  constructor(headers, roundTrip) {
    this.roundTrip = roundTrip;
    this.cache = headers.get("X-Cache");
    this.stages = [...(headers.get("Server-Timing") ?? "").matchAll(/([\w-]+);dur=([\d.]+)/g)].map(
      ([, name, milliseconds]) => ({ name, milliseconds: Number(milliseconds) }),
    );
  }
}

/** The service, with a key and a model once they are known. Both live here and nowhere else. */
export class Service {
  constructor() {
    this.key = "";
    this.models = [];
    this.model = null;
  }

  /** Ask which models there are, keep the chosen one if it is still among them, and return the list. */
  async listModels() {
    const { data } = await (await this.#send("v1/models")).response.json();
    this.models = data;
    this.model = data.find(({ id }) => id === this.model?.id) ?? data[0];
    return data;
  }

  /** What runs here. */
  async info() {
    return (await this.#send("info")).response.json();
  }

  /** A request of a native route, as it is sent and as the curl line shows it. */
  request(route, options, accept) {
    const query = new URLSearchParams(options);
    // A service of one model has no such option.
    if (this.models.length > 1) query.set("model", this.model.id);
    const text = query.toString();
    return { path: text ? `${route}?${text}` : route, accept, space: this.model.embedding_space };
  }

  /**
   * Embed several files.
   * @returns {Promise<{rows: {vector?: Float32Array, error?: {code: string, message: string}}[], timing: Timing}>}
   */
  async embed(files, signal) {
    const request = this.request(
      "v1/images/embeddings", { encoding_format: "base64", on_error: "partial" }, "application/json");
    const form = new FormData();
    // Browsers take a file's type from its name, which may be wrong and says nothing to the service.
    files.forEach((file, i) => form.append("images", untyped(file), `image-${i}`));
    const { response, timing } = await this.#send(request.path, { request, body: form, signal });
    const { data } = await response.json();
    return { rows: data.map(({ embedding, error }) => (error ? { error } : { vector: numbers(embedding) })), timing };
  }

  /** One file's patch tokens, row by row. */
  async patches(file, signal) {
    const request = this.request("v1/images/patches", { dtype: "float32" }, "application/octet-stream");
    const { response, timing } = await this.#send(request.path, { request, body: untyped(file), signal });
    const [, height, width, dim] = response.headers.get("X-Shape").split(",").map(Number);
    return { tokens: new Float32Array(await response.arrayBuffer()), height, width, dim, timing, request };
  }

  /** One file's masks: a label map as PNG, its segments, and the box that it covers. */
  async segment(file, options, signal) {
    const request = this.request("v1/images/segment", { ...options, format: "png" }, "application/json");
    const { response, timing } = await this.#send(request.path, { request, body: untyped(file), signal });
    return { ...(await response.json()).data[0], timing, request };
  }

  async #send(path, { request, body, signal } = {}) {
    const headers = { Accept: request?.accept ?? "application/json" };
    if (request) headers["X-Embedding-Space"] = request.space;
    if (this.key) headers.Authorization = `Bearer ${this.key}`;
    const begun = performance.now();
    let response;
    try {
      response = await fetch(path, { method: body ? "POST" : "GET", headers, body, signal, credentials: "same-origin" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServiceError("The service cannot be reached.");
    }
    if (!response.ok) throw await refusal(response);
    return { response, timing: new Timing(response.headers, performance.now() - begun) };
  }
}

async function refusal(response) {
  const error = (await response.json().catch(() => null))?.error;
  const seconds = Number(response.headers.get("Retry-After"));
  return new ServiceError(error?.message ?? `The service answered ${response.status}.`, {
    status: response.status,
    code: error?.code ?? "unknown",
    retryAfter: seconds > 0 ? seconds : null,
  });
}

function untyped(file) {
  return file.slice(0, file.size, "application/octet-stream");
}

function numbers(base64) {
  return new Float32Array(Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer);
}
