// The command that sends what the page sent.

// Names with line ends, escapes or invisible direction marks do not belong in a terminal.
const UNFIT = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/u;

/**
 * One request as a curl line for a POSIX shell. The key is left to a variable of the reader's shell.
 *
 * @param {{path: string, accept: string}} request
 * @param {string} name of the image's file
 * @param {boolean} locked whether the service needs a key
 */
export function curlLine({ path, accept }, name, locked) {
  // To curl a lone "-" is its input.
  const file = UNFIT.test(name) ? "IMAGE" : name.replace(/^-/, "./-");
  const parts = ["curl -s", `--data-binary ${quoted(`@${file}`)}`];
  if (accept !== "application/json") parts.push(`-H ${quoted(`Accept: ${accept}`)} -o patches.f32`);
  else if (path.includes("format=png")) parts.push(`-H ${quoted(`Accept: ${accept}`)}`);
  if (locked) parts.push('-H "Authorization: Bearer $BOOTLEG_KEY"');
  parts.push(quoted(new URL(path, document.baseURI).href));
  return parts.join(" ");
}

function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
