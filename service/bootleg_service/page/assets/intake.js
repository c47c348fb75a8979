// Ways in: files chosen, pasted or dropped, folders among them.

const IMAGE = /\.(jpe?g|png|webp)$/i;

/**
 * Listen for files from anywhere on the page.
 * @param {(files: File[], passedOver: number) => void} take passedOver: files of folders that are named as no image
 */
export function listen(take) {
  const input = document.getElementById("files");
  input.addEventListener("change", () => {
    if (input.files.length) take([...input.files], 0);
    input.value = "";
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData.files.length) take([...clipboardData.files], 0);
  });
  listenForDrops(take);
}

/** Open the browser's own dialogue. */
export function pick() {
  document.getElementById("files").click();
}

function listenForDrops(take) {
  const root = document.documentElement;
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    root.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) root.classList.remove("dragging");
  });
  document.addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    root.classList.remove("dragging");
    // What was dropped can only be asked for before the first wait.
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const files = [...event.dataTransfer.files];
    if (!entries.some(({ isDirectory }) => isDirectory)) return take(files, 0);
    const found = { files: [], passedOver: 0 };
    for (const entry of entries) await walk(entry, found, false).catch(() => found.passedOver++);
    take(found.files, found.passedOver);
  });
}

async function walk(entry, found, within) {
  if (entry.isFile) {
    if (within && !IMAGE.test(entry.name)) found.passedOver++;
    else found.files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    return;
  }
  const reader = entry.createReader();
  // A folder is read in portions; the last one is empty.
  for (;;) {
    const portion = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!portion.length) return;
    for (const child of portion) await walk(child, found, true);
  }
}
