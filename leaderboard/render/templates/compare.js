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
  board.heads.forEach((column, k) => {
    if (k === 0 || column.dataset.column === "shapley_value_0") return;
    const line = make("tr", {}, make("th", { scope: "row" }, column.textContent));
    for (const row of chosen) line.append(make("td", {}, row.tr.cells[k].textContent.trim()));
    body.append(line);
  });
  for (const grid of board.grids.filter((one) => one.name !== "provenance")) {
    body.append(make("tr", { class: "group" }, make("th", { scope: "rowgroup", colspan: chosen.length + 1 }, grid.title)));
    grid.heads.forEach((title, k) => {
      const line = make("tr", {}, make("th", { scope: "row" }, title));
      for (const row of chosen) line.append(make("td", {}, gridCells(grid, row.k)[k]));
      body.append(line);
    });
  }
  panel.append(
    make("h3", {}, `Compared: ${chosen.map((row) => row.name).join(", ")}`), close,
    profileChart(chosen.map((row, m) => profileOf(board, row, m % 8))),
    make("p", { class: "note" }, "Each interval is of one model alone. On the same images a difference is known better than two intervals tell: use iaside_plugins.compare."),
    make("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Compared numbers" },
      make("table", { class: "numbers" }, make("thead", {}, head), body)),
  );
}
