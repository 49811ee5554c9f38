// How much the others differ from the first on the same images; nothing where entries do not say.
function pairedTable(board, [first, ...others]) {
  const body = make("tbody");
  for (const { label, differences } of board.raw.pairs) {
    const cells = others.map((other) => {
      const turned = other.k < first.k;
      const found = differences[turned ? `${other.k},${first.k}` : `${first.k},${other.k}`];
      if (!found) return "–";
      const points = (turned ? [-found[0], -found[2], -found[1]] : found).map((value) => `${value < 0 ? "" : "+"}${(100 * value).toFixed(1)}`);
      return `${points[0]} [${points[1]}, ${points[2]}]`;
    });
    body.append(make("tr", {}, make("th", { scope: "row" }, label), ...cells.map((text) => make("td", {}, text))));
  }
  const head = make("tr", {}, make("th", { scope: "col" }, "points"), ...others.map((other) => make("th", { scope: "col" }, `${other.name} less ${first.name}`)));
  return make("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Paired differences" },
    make("table", { class: "numbers" }, make("caption", {}, "Differences on the same images with 95 % intervals: where one excludes 0, the two models differ."), make("thead", {}, head), body));
}

// Two or more chosen models side by side: profiles in one chart, numbers in one table.
function showCompared(board, chosen, clear) {
  const panel = board.section.querySelector(".compare");
  panel.replaceChildren();
  panel.hidden = chosen.length < 2;
  if (panel.hidden) return;
  const close = make("button", { type: "button" }, "Compare no more");
  close.addEventListener("click", clear);
  const head = make("tr", {}, make("th", { scope: "col" }, "number"));
  chosen.forEach((row, m) => head.append(make("th", { scope: "col" },
    draw("svg", { class: `mark f${m % 8}`, "aria-hidden": "true" }, draw("use", { href: "#s1", x: 7, y: 7 })), row.name)));
  const body = make("tbody");
  const line = (title, cells) => body.append(make("tr", {}, make("th", { scope: "row" }, title), ...cells.map((text) => make("td", {}, text))));
  board.heads.forEach((column, k) => {
    if (k === 0 || column.dataset.column === "shapley_value_0") return;
    line(column.dataset.title, chosen.map((row) => row.tr.cells[k].textContent.trim()));
  });
  const { corruptions, errors, bands } = board.raw;
  if (corruptions.length) {
    body.append(make("tr", { class: "group" }, make("th", { scope: "rowgroup", colspan: chosen.length + 1 }, "Error by corruption, mean over severities 1 to 5")));
    corruptions.forEach((name, c) => {
      const of = (row) => errors[row.k][c];
      line(name.replaceAll("_", " "), chosen.map((row) => of(row) === null ? "–" : `${(100 * of(row)).toFixed(1)} %`));
    });
  }
  panel.append(
    make("h2", {}, `Compared: ${chosen.map((row) => row.name).join(", ")}`), close,
    profileChart(chosen.map((row, m) => ({ name: row.name, mark: m % 8, bands: bands[row.k] }))),
    board.raw.pairs.length ? pairedTable(board, chosen)
      : make("p", { class: "note" }, "Each interval below is of one model alone. On the same images a difference is known better than two intervals tell: use iaside_plugins.compare."),
    make("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Compared numbers" },
      make("table", { class: "numbers" }, make("thead", {}, head), body)),
  );
}
