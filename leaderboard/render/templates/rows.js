// The rows of one table: their order, which of them are shown, and what a header says of both.
// An interval stands below its number, and text at the left, once a row comes into view.
function layOut(cells, heads) {
  cells.forEach((cell, k) => {
    if (heads[k].classList.contains("t")) cell.classList.add("t");
    const [, value, interval] = cell.textContent.match(/^(.*?) (\[.*\])\s*$/s) ?? [];
    if (k && interval) cell.replaceChildren(`${value} `, make("i", {}, interval));
  });
}

function readRows(section) {
  const raw = JSON.parse(section.querySelector("script.raw").textContent);
  const family = (k) => raw.families[raw.family[k]];
  const index = new Map(raw.names.map((name, k) => [name, k]));
  const heads = [...section.querySelectorAll(".models thead th")];
  return {
    raw,
    heads,
    body: section.querySelector(".models tbody"),
    rows: [...section.querySelectorAll(".models tbody tr")].map((tr, k) => ({
      tr,
      k,
      key: tr.id.split("/")[1],
      name: tr.cells[0].textContent,
      text: `${tr.textContent} ${family(k)}`.toLowerCase(),
      value: (name) => raw.rows[k][index.get(name)],
      facet: (name) => name === "family" ? family(k) : tr.cells[heads.findIndex((h) => h.dataset.column === name)].textContent,
    })),
  };
}

// Numbers, and text as a person sorts it; what is missing stands last in either direction.
function sorted(rows, sort) {
  if (!sort) return rows;
  const down = sort.startsWith("-");
  const name = down ? sort.slice(1) : sort;
  const words = new Intl.Collator("en", { numeric: true });
  return [...rows].sort((one, two) => {
    const [a, b] = [one.value(name), two.value(name)];
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" ? a - b : words.compare(a, b);
    return down ? -order : order;
  });
}

function matching(rows, state) {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) => words.every((word) => row.text.includes(word))
    && Object.entries(state.facets).every(([name, value]) => !value || row.facet(name) === value));
}

// First what is better (or, for text, A), then the other way, then the table's own order.
function nextSort(head, sort) {
  const name = head.dataset.column;
  const text = head.textContent;
  const lowFirst = text.includes("↓") || ["model", "training", "status"].includes(name);
  const [first, second] = lowFirst ? [name, `-${name}`] : [`-${name}`, name];
  return sort === first ? second : sort === second ? "" : first;
}

function markSorted(heads, sort) {
  for (const head of heads) {
    if (sort.replace(/^-/, "") === head.dataset.column) {
      head.setAttribute("aria-sort", sort.startsWith("-") ? "descending" : "ascending");
    } else head.removeAttribute("aria-sort");
  }
}
