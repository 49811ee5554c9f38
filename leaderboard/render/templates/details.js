// One row's details, gathered from the tables behind the rows.
function shade(cells) {
  for (const cell of cells) {
    const value = parseFloat(cell.textContent);
    if (value >= 0) cell.classList.add(`e${Math.round(value / 12.5)}`);
  }
}

function readGrids(section) {
  for (const table of section.querySelectorAll('table[data-grid="errors"]')) {
    table.closest("details").addEventListener("toggle", () => shade(table.querySelectorAll("td")), { once: true });
  }
  return [...section.querySelectorAll("table[data-grid]")].map((table) => ({
    name: table.dataset.grid,
    title: table.closest("details").querySelector("summary").textContent,
    note: table.caption.textContent,
    heads: [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent),
    rows: [...table.tBodies[0].rows],
  }));
}

function gridCells(grid, k) {
  return [...grid.rows[k].cells].slice(1).map((cell) => cell.textContent.trim());
}

function profileOf(board, row, mark) {
  const grid = board.grids.find((one) => one.name === "profiles");
  return { name: row.name, mark, bands: gridCells(grid, row.k).map(readBand) };
}

function detailRow(board, row) {
  const inside = make("div", { class: "inside" }, profileChart([profileOf(board, row, 0)]));
  for (const grid of board.grids) {
    const list = make("dl");
    gridCells(grid, row.k).forEach((text, k) => {
      list.append(make("div", {}, make("dt", {}, grid.heads[k]), make("dd", {}, text)));
    });
    inside.append(make("h4", {}, grid.title), make("p", { class: "note" }, grid.note), list);
  }
  return make("tr", { class: "detail", id: `${row.tr.id}/details` },
    make("td", { colspan: row.tr.cells.length }, inside));
}
