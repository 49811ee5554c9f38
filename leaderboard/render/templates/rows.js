// The rows of one table: their order, which of them are shown, and what a header says of both.
function readRows(section) {
  const raw = JSON.parse(section.querySelector("script.raw").textContent);
  const index = new Map(raw.names.map((name, k) => [name, k]));
  const heads = [...section.querySelectorAll(".models thead th")];
  const training = heads.findIndex((head) => head.dataset.column === "training");
  return {
    raw,
    heads,
    body: section.querySelector(".models tbody"),
    rows: [...section.querySelectorAll(".models tbody tr")].map((tr) => {
      const k = Number(tr.dataset.k);
      return {
        tr,
        k,
        key: tr.id.split("/")[1],
        name: tr.querySelector("a").textContent,
        text: `${tr.textContent} ${raw.families[k]}`.toLowerCase(),
        training: training < 0 ? "" : tr.cells[training].textContent,
        value: (name) => raw.rows[k][index.get(name)] ?? null,
      };
    }),
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
    && (!state.training || row.training === state.training));
}

const lowFirst = (head) => head.textContent.includes("↓") || ["model", "training", "status"].includes(head.dataset.column);

// First what is better (or, for text, A), then the other way, then the table's own order.
function nextSort(head, sort) {
  const name = head.dataset.column;
  const [first, second] = lowFirst(head) ? [name, `-${name}`] : [`-${name}`, name];
  return sort === first ? second : sort === second ? "" : first;
}

function markSorted(heads, sort) {
  for (const head of heads) {
    if (sort.replace(/^-/, "") === head.dataset.column) {
      head.setAttribute("aria-sort", sort.startsWith("-") ? "descending" : "ascending");
    } else head.removeAttribute("aria-sort");
  }
}

// From 1 + how many are surely better to n - how many are surely worse, as the statistics have it.
function rankRanges(rows, head) {
  const name = head.dataset.column;
  const sign = lowFirst(head) ? -1 : 1;
  const spans = rows.map((row) => [row, row.value(`${name}_low`), row.value(`${name}_high`)])
    .filter(([, low, high]) => low !== null && high !== null)
    .map(([row, low, high]) => [row, ...[sign * low, sign * high].sort((a, b) => a - b)]);
  const lows = spans.map(([, low]) => low).sort((a, b) => a - b);
  const highs = spans.map(([, , high]) => high).sort((a, b) => a - b);
  const countWhile = (values, holds) => {
    let [start, end] = [0, values.length];
    while (start < end) {
      const middle = (start + end) >> 1;
      if (holds(values[middle])) start = middle + 1;
      else end = middle;
    }
    return start;
  };
  return new Map(spans.map(([row, low, high]) => {
    const best = 1 + lows.length - countWhile(lows, (other) => other <= high);
    const worst = spans.length - countWhile(highs, (other) => other < low);
    return [row, best === worst ? `rank ${best}` : `rank ${best}–${worst}`];
  }));
}
