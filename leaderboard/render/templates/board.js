// Everything together: one table in view, its state in the address, every control connected.
const PAGE = 50; // rows that are laid out at first, and at each further step

function connect(section) {
  const board = { section, ...readRows(section), grids: readGrids(section), state: emptyState() };
  board.byKey = new Map(board.rows.map((row) => [row.key, row]));
  const $ = (selector) => section.querySelector(selector);
  const facets = [...section.querySelectorAll("select[data-facet]")];

  const scroller = $(".models").parentElement;
  let filled = 0; // rows of those shown that stand in the table

  // A row as the state says, its details below it where it is open.
  function dressed(row) {
    if (!row.toggle) {
      layOut([...row.tr.cells], board.heads);
      row.toggle = make("button", { type: "button", "aria-controls": `${row.tr.id}/details` }, row.name);
      row.box = make("input", { type: "checkbox", "aria-label": `compare ${row.name}` });
      row.tr.cells[0].querySelector("span").replaceWith(row.toggle);
      row.tr.cells[0].prepend(row.box);
    }
    const open = board.state.open.includes(row.key);
    row.toggle.setAttribute("aria-expanded", String(open));
    row.tr.classList.toggle("chosen", open);
    row.box.checked = board.state.compare.includes(row.key);
    return open ? [row.tr, (row.detail ??= detailRow(board, row))] : [row.tr];
  }

  // Only this row changes.
  function redraw(row) {
    const [, detail] = dressed(row);
    if (detail) row.tr.after(detail);
    else row.detail?.remove();
    markPoints(board, row, true);
  }

  function fillUpTo(end) {
    if (end <= filled) return;
    board.body.append(...board.shown.slice(filled, end).flatMap(dressed));
    filled = end;
  }

  // What is shown and in which order; the first rows stand in the table, the next when they are near.
  board.show = (announce = true) => {
    const { state } = board;
    board.shown = matching(sorted(board.rows, state.sort), state);
    const active = document.activeElement;
    board.body.replaceChildren();
    filled = 0;
    fillUpTo(PAGE);
    if (active && board.body.contains(active)) active.focus({ preventScroll: true });
    markSorted(board.heads, state.sort);
    const keys = new Set(board.shown.map((row) => row.key));
    for (const row of board.rows) markPoints(board, row, keys.has(row.key));
    const head = board.heads.find((one) => one.dataset.column === state.sort.replace(/^-/, ""));
    const order = head ? `, sorted by ${head.textContent}, ${state.sort.startsWith("-") ? "descending" : "ascending"}` : "";
    if (announce) $(".live").textContent = `${board.shown.length} of ${board.rows.length} models${order}`;
  };

  const keep = () => writeAddress(section.id, board.state);

  function change(part) {
    Object.assign(board.state, part);
    board.show();
    keep();
  }

  function compare(keys) {
    const others = [...board.state.compare, ...keys].map((key) => board.byKey.get(key));
    board.state.compare = keys;
    for (const row of others) if (row.box) row.box.checked = keys.includes(row.key);
    showCompared(board, keys.map((key) => board.byKey.get(key)), () => { compare([]); keep(); });
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
    compare(board.state.compare);
    if (row && board.byKey.has(row)) choose(row, false);
  };

  function choose(key, write = true) {
    const row = board.byKey.get(key);
    if (!board.state.open.includes(key)) board.state.open = [...board.state.open, key];
    if (!board.shown.includes(row)) {
      Object.assign(board.state, { q: "", facets: {} });
      setControls();
      board.show();
    }
    fillUpTo(board.shown.indexOf(row) + 1);
    redraw(row);
    if (write) keep();
    row.toggle.focus({ preventScroll: true });
    row.tr.scrollIntoView({ block: "center" });
  }

  for (const head of board.heads) {
    const button = make("button", { type: "button" }, head.textContent);
    if (head.dataset.column === "shapley_value_0") button.title = "sorts by the value of the lowest band";
    button.addEventListener("click", () => change({ sort: nextSort(head, board.state.sort) }));
    head.replaceChildren(button);
  }
  const rowOf = (event, part) => event.target.matches(part)
    && board.byKey.get(event.target.closest("tr").id.split("/")[1]);
  board.body.addEventListener("click", (event) => {
    const row = rowOf(event, "th > button");
    if (!row) return;
    board.state.open = toggled(board.state.open, row.key);
    redraw(row);
    keep();
  });
  board.body.addEventListener("change", (event) => {
    const row = rowOf(event, "th > input");
    if (!row) return;
    compare(toggled(board.state.compare, row.key));
    keep();
  });
  scroller.addEventListener("scroll", () => {
    if (scroller.scrollTop + 2 * scroller.clientHeight > scroller.scrollHeight) fillUpTo(filled + PAGE);
  });
  addEventListener("beforeprint", () => fillUpTo(board.rows.length));
  $(".find").addEventListener("input", (event) => change({ q: event.target.value }));
  for (const select of facets) {
    select.addEventListener("change", () => change({ facets: { ...board.state.facets, [select.dataset.facet]: select.value } }));
  }
  $(".reset").addEventListener("click", () => { board.apply(emptyState()); keep(); });
  const inView = () => [board.raw.names, board.shown.map((row) => board.raw.rows[row.k])];
  $(".save-csv").addEventListener("click", () => save(`${section.id}.csv`, "text/csv", toCsv(...inView())));
  $(".save-json").addEventListener("click", () => save(`${section.id}.json`, "application/json", toJson(...inView())));
  connectPlots(board, choose);
  $(".controls").hidden = false;
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
