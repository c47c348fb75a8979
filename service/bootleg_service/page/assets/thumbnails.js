// Small pictures of large files, two at a time, so that hundreds of dropped photographs neither stall nor fill the page.

const SIDE = 240;
const AT_ONCE = 2;
const waiting = [];
let working = 0;

/** Make an item's thumbnail when its turn comes; a file that the browser cannot show gets none. */
export function enqueue(item, collection) {
  waiting.push({ item, collection });
  while (working < AT_ONCE && waiting.length) work();
}

async function work() {
  working++;
  while (waiting.length) {
    const { item, collection } = waiting.shift();
    if (!collection.has(item)) continue;
    const blob = await shrink(item.file).catch(() => null);
    if (blob && collection.has(item)) collection.update(item, { thumbnail: URL.createObjectURL(blob) });
  }
  working--;
}

async function shrink(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.max(SIDE / bitmap.width, SIDE / bitmap.height);
  const canvas = new OffscreenCanvas(SIDE, SIDE);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  context.drawImage(bitmap, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
  bitmap.close();
  return canvas.convertToBlob({ type: "image/webp", quality: 0.85 });
}
