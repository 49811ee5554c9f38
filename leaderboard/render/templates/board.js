// Everything together: one table in view, its state in the address, every control connected.
const PAGE = 30; // rows that are laid out at first, and at each further step

function connect(section) {
  const board = { section, ...readRows(section), state: emptyState() };
  board.byKey = new Map(board.rows.map((row) => [row.key, row]));
  const $ = (selector) => section.querySelector(selector);
  const scroller = $(".models").parentElement;
  const columns = new CSSStyleSheet(); // which columns are hidden, one rule for all rows
  document.adoptedStyleSheets.push(columns);
  const own = board.heads.find((head) => head.hasAttribute("aria-sort"));
  const ownSort = own ? `-${own.dataset.column}` : "";
  let filled = 0; // rows of those shown that stand in the table
  let order = ""; // in words

  const say = () => { $(".live").textContent = `${board.shown.length} of ${board.rows.length} models${order}.`; };

  // A row as the state says.
  function dressed(row) {
    if (!row.box) {
      row.box = make("input", { type: "checkbox", "aria-label": `compare ${row.name}` });
      row.tr.cells[0].prepend(row.box);
      row.rank = row.tr.cells[0].querySelector("i");
    }
    row.box.checked = board.state.compare.includes(row.key);
    row.rank.textContent = board.ranks.get(row) ?? "";
    return row.tr;
  }

  function fillUpTo(end) {
    if (end <= filled) return;
    board.body.append(...board.shown.slice(filled, end).map(dressed));
    filled = end;
  }

  const threatened = new Set([...section.querySelectorAll(".threat option")].flatMap((option) => option.value.split(" ")));

  // The view's columns; of those that threats name the ones of the chosen threat, in the overview.
  function showColumns() {
    const { view, threat } = board.state;
    const chosen = threat.split(" ");
    const hidden = (head) => {
      if (view === "all") return false;
      if (view === "overview" && threat && threatened.has(head.dataset.column)) return !chosen.includes(head.dataset.column);
      return !head.dataset.views.split(" ").includes(view);
    };
    const places = board.heads.flatMap((head, k) => hidden(head) ? [`#${CSS.escape(section.id)} .models tr > :nth-child(${k + 1})`] : []);
    const rule = places.length ? `${places.join(",")} { display: none; }` : "";
    if (rule !== board.rule) columns.replaceSync(board.rule = rule);
  }

  // What is shown and in which order; the first rows stand in the table, the next when they are near.
  board.show = (announce = true) => {
    const { state } = board;
    const sort = state.sort || ownSort;
    const head = board.heads.find((one) => one.dataset.column === sort.replace(/^-/, ""));
    board.shown = matching(sorted(board.rows, sort), state);
    board.ranks = head ? rankRanges(board.rows, head) : new Map();
    const active = document.activeElement;
    board.body.replaceChildren();
    scroller.scrollTop = 0;
    filled = 0;
    fillUpTo(PAGE);
    if (!board.shown.length) board.body.append(make("tr", {}, make("td", { colspan: board.heads.length, class: "t" }, "No model matches. Reset shows all.")));
    if (active && board.body.contains(active)) active.focus({ preventScroll: true });
    markSorted(board.heads, sort);
    showColumns();
    order = head ? `, sorted by ${head.dataset.title}, ${sort.startsWith("-") ? "descending" : "ascending"}` : "";
    if (announce) say();
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
    showCompared(board, keys.map((key) => board.byKey.get(key)), () => { compare([]); keep(); $(".find").focus(); });
    $(".go").hidden = keys.length < 2;
    $(".go").textContent = `Compare ${keys.length} models`;
    $(".live").textContent = keys.length ? `${keys.length} chosen to compare${keys.length < 2 ? ": choose another" : ""}.` : "";
  }

  const bestFirst = (name) => lowFirst(board.heads.find((head) => head.dataset.column === name)) ? name : `-${name}`;
  const selects = [["threat", $(".threat")], ["training", $(".training")], ["view", $(".view")]].filter(([, select]) => select);

  function setControls() {
    $(".find").value = board.state.q;
    for (const [name, select] of selects) {
      select.value = board.state[name];
      if (select.selectedIndex < 0) select.selectedIndex = 0;
    }
  }

  // A state of another page, or of nobody: what this table does not have is left out.
  function known(state) {
    const has = (name) => selects.some(([one, select]) => one === name && [...select.options].some((option) => option.value === state[name]));
    return {
      ...state,
      sort: board.heads.some((head) => head.dataset.column === state.sort.replace(/^-/, "")) ? state.sort : "",
      threat: has("threat") ? state.threat : "",
      training: has("training") ? state.training : "",
      view: has("view") ? state.view : "overview",
      compare: state.compare.filter((key) => board.byKey.has(key)),
    };
  }

  board.apply = (state) => {
    board.state = known(state);
    setControls();
    const { sort, q, training } = board.state;
    board.show(false);
    compare(board.state.compare);
    if (sort || q || training) say();
  };

  for (const head of board.heads) {
    const [title, ...rest] = head.children;
    const button = make("button", { type: "button" }, title.textContent);
    head.dataset.title = [title, ...rest.filter((part) => part.localName === "small")].map((part) => part.textContent).join(", ");
    if (head.dataset.column === "shapley_value_0") button.title = "sorts by the value of the lowest band";
    if (head.dataset.column === "error_by_band_clean") button.title = "sorts by the clean error";
    button.addEventListener("click", () => change({ sort: nextSort(head, board.state.sort || ownSort) }));
    title.replaceWith(button);
  }
  board.body.addEventListener("change", (event) => {
    const row = board.byKey.get(event.target.closest("tr").id.split("/")[1]);
    const { compare: held } = board.state;
    compare(held.includes(row.key) ? held.filter((key) => key !== row.key) : [...held, row.key]);
    keep();
  });
  scroller.addEventListener("scroll", () => {
    if (scroller.scrollTop + 2 * scroller.clientHeight > scroller.scrollHeight) fillUpTo(filled + PAGE);
  });
  addEventListener("beforeprint", () => fillUpTo(board.rows.length));
  $(".find").addEventListener("input", (event) => change({ q: event.target.value }));
  for (const [name, select] of selects) {
    select.addEventListener("change", () => change({ [name]: select.value, ...(name === "threat" ? { sort: bestFirst(select.value.split(" ")[0]) } : {}) }));
  }
  $(".reset").addEventListener("click", () => { board.apply(emptyState()); keep(); });
  $(".go").addEventListener("click", () => $(".compare").focus());
  $(".link").addEventListener("click", async () => {
    keep();
    try {
      await navigator.clipboard.writeText(location.href);
      $(".live").textContent = "Link copied.";
    } catch { // a page from a disk may not be allowed to
      $(".live").textContent = "The address of this page is the link.";
    }
  });
  const inView = () => [board.raw.names, board.shown.map((row) => board.raw.rows[row.k])];
  $(".save-csv").addEventListener("click", () => save(`${section.id}.csv`, "text/csv", toCsv(...inView())));
  $(".save-json").addEventListener("click", () => save(`${section.id}.json`, "application/json", toJson(...inView())));
  for (const part of section.querySelectorAll(".scripted")) part.hidden = false;
  board.show(false);
  return board;
}

const boards = new Map([...document.querySelectorAll("section.board")].map((section) => [section.id, connect(section)]));

// The table of the address, or the first tab's; a link to another part of the page changes nothing.
function follow(event) {
  const { id, state } = readAddress();
  if (id && !boards.has(id) && document.getElementById(id)) return;
  const [first] = document.querySelectorAll(".tabs a");
  const board = boards.get(id) ?? boards.get(first?.getAttribute("href").slice(1));
  if (!board) return;
  for (const other of boards.values()) other.section.hidden = other !== board;
  for (const tab of document.querySelectorAll(".tabs a")) {
    if (tab.dataset.tables.split(" ").includes(board.section.id)) tab.setAttribute("aria-current", "true");
    else tab.removeAttribute("aria-current");
  }
  board.apply(state);
  if (event) board.section.focus({ preventScroll: true });
}
addEventListener("hashchange", follow);
follow();
