// Everything together: one table in view, its state in the address, every control connected.
function connect(section) {
  const board = { section, ...readRows(section), grids: readGrids(section), state: emptyState() };
  board.byKey = new Map(board.rows.map((row) => [row.key, row]));
  const $ = (selector) => section.querySelector(selector);
  const facets = [...section.querySelectorAll("select[data-facet]")];

  board.show = (announce = true) => {
    const { state } = board;
    const shown = matching(sorted(board.rows, state.sort), state);
    const parts = shown.flatMap((row) => {
      const open = state.open.includes(row.key);
      row.toggle.setAttribute("aria-expanded", String(open));
      row.tr.classList.toggle("chosen", open);
      row.box.checked = state.compare.includes(row.key);
      return open ? [row.tr, (row.detail ??= detailRow(board, row))] : [row.tr];
    });
    const active = document.activeElement;
    board.body.replaceChildren(...parts);
    if (active && board.body.contains(active)) active.focus({ preventScroll: true });
    markSorted(board.heads, state.sort);
    showCompared(board, state.compare.map((key) => board.byKey.get(key)).filter(Boolean), () => change({ compare: [] }));
    dimPoints(board, shown, state.open);
    board.shown = shown;
    const head = board.heads.find((one) => one.dataset.column === state.sort.replace(/^-/, ""));
    const order = head ? `, sorted by ${head.textContent}, ${state.sort.startsWith("-") ? "descending" : "ascending"}` : "";
    if (announce) $(".live").textContent = `${shown.length} of ${board.rows.length} models${order}`;
  };

  function change(part) {
    Object.assign(board.state, part);
    board.show();
    writeAddress(section.id, board.state);
  }

  function setControls() {
    $(".find").value = board.state.q;
    for (const select of facets) select.value = board.state.facets[select.dataset.facet] ?? "";
  }

  const toggled = (list, key) => list.includes(key) ? list.filter((one) => one !== key) : [...list, key];

  // A state of another page, or of nobody: what this table does not have is left out.
  function known(state) {
    const names = facets.map((select) => select.dataset.facet);
    const here = (keys) => keys.filter((key) => board.byKey.has(key));
    return {
      ...state,
      sort: board.heads.some((head) => head.dataset.column === state.sort.replace(/^-/, "")) ? state.sort : "",
      facets: Object.fromEntries(Object.entries(state.facets).filter(([name]) => names.includes(name))),
      open: here(state.open),
      compare: here(state.compare),
    };
  }

  board.apply = (state, row) => {
    board.state = known(state);
    setControls();
    board.show();
    if (row && board.byKey.has(row)) choose(row, false);
  };

  function choose(key, write = true) {
    if (!board.state.open.includes(key)) board.state.open = [...board.state.open, key];
    if (!board.shown.some((row) => row.key === key)) Object.assign(board.state, { q: "", facets: {} });
    setControls();
    board.show();
    if (write) writeAddress(section.id, board.state);
    const row = board.byKey.get(key);
    row.toggle.focus({ preventScroll: true });
    row.tr.scrollIntoView({ block: "center" });
  }

  for (const head of board.heads) {
    const button = make("button", { type: "button" }, head.textContent);
    if (head.dataset.column === "shapley_value_0") button.title = "sorts by the value of the lowest band";
    button.addEventListener("click", () => change({ sort: nextSort(head, board.state.sort) }));
    head.replaceChildren(button);
  }
  for (const row of board.rows) {
    const name = row.tr.cells[0].querySelector("span");
    row.toggle = make("button", { type: "button", "aria-expanded": "false", "aria-controls": `${row.tr.id}/details` }, row.name);
    row.toggle.addEventListener("click", () => change({ open: toggled(board.state.open, row.key) }));
    row.box = make("input", { type: "checkbox", "aria-label": `compare ${row.name}` });
    row.box.addEventListener("change", () => change({ compare: toggled(board.state.compare, row.key) }));
    name.replaceWith(row.toggle);
    row.tr.cells[0].prepend(row.box);
  }
  $(".find").addEventListener("input", (event) => change({ q: event.target.value }));
  for (const select of facets) {
    select.addEventListener("change", () => change({ facets: { ...board.state.facets, [select.dataset.facet]: select.value } }));
  }
  $(".reset").addEventListener("click", () => { board.apply(emptyState()); writeAddress(section.id, board.state); });
  const inView = () => [board.raw.names, board.shown.map((row) => board.raw.rows[row.k])];
  $(".save-csv").addEventListener("click", () => save(`${section.id}.csv`, "text/csv", toCsv(...inView())));
  $(".save-json").addEventListener("click", () => save(`${section.id}.json`, "application/json", toJson(...inView())));
  connectPlots(board, choose);
  $(".controls").hidden = false;
  board.shown = board.rows;
  board.show(false);
  return board;
}

const boards = new Map([...document.querySelectorAll("section.board")].map((section) => [section.id, connect(section)]));

// The table of the address, or the one with the most models.
function follow() {
  const { id, row, state } = readAddress();
  const largest = [...boards.values()].sort((a, b) => b.rows.length - a.rows.length)[0];
  const board = boards.get(id) ?? largest;
  if (!board) return;
  for (const other of boards.values()) other.section.hidden = other !== board;
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.getAttribute("href") === `#${board.section.id}`;
    if (here) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  board.apply(state, row);
}
addEventListener("hashchange", follow);
follow();
