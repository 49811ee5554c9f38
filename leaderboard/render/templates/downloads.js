// The rows in view, in their order, as files: raw numbers at full precision.
function csvCell(value) {
  if (value === null) return "";
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@＝＋－＠]/.test(text)) text = `'${text}`; // no formula
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const toCsv = (names, rows) =>
  [names, ...rows].map((row) => row.map(csvCell).join(",")).join("\n") + "\n";

const toJson = (names, rows) =>
  JSON.stringify(rows.map((row) => Object.fromEntries(names.map((name, k) => [name, row[k]]))), null, 1) + "\n";

function save(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
