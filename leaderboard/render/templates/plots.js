// Points: one stop of the Tab key a plot, arrows from point to point, a tip with all numbers.
function connectPlots(board, choose) {
  const tip = document.getElementById("tip");
  const hide = () => { tip.hidden = true; };
  const show = (point) => {
    const row = board.byKey.get(point.dataset.key);
    const lines = board.heads.flatMap((head, k) =>
      k === 0 || head.dataset.column === "shapley_value_0" ? [] : [make("span", {}, `${head.textContent}: ${row.tr.cells[k].textContent.trim()}`)]);
    tip.replaceChildren(make("b", {}, row.name), ...lines);
    tip.hidden = false;
    const [at, size] = [point.querySelector("use").getBoundingClientRect(), tip.getBoundingClientRect()];
    tip.style.left = `${Math.max(4, Math.min(at.right + 10, innerWidth - size.width - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(at.top, innerHeight - size.height - 4))}px`;
  };
  board.points = new Map(board.rows.map((row) => [row.key, []]));
  for (const plot of board.section.querySelectorAll(".plot svg")) {
    const across = [...plot.querySelectorAll(".points a")]
      .map((point) => [point, Number(point.querySelector("use").getAttribute("x"))])
      .sort((a, b) => a[1] - b[1]).map(([point]) => point);
    const at = new Map(across.map((point, place) => [point, place]));
    for (const point of across) {
      point.dataset.key = point.getAttribute("href").split("/")[1];
      const row = board.byKey.get(point.dataset.key);
      board.points.get(row.key).push(point);
      point.querySelector("title").remove(); // the tip says it, and more
      point.setAttribute("aria-label", `${row.name}: ${board.heads[4]?.textContent ?? ""} ${row.tr.cells[4]?.textContent ?? ""}`.trim());
      point.setAttribute("tabindex", at.get(point) === 0 ? "0" : "-1");
    }
    const on = (kind, act) => plot.addEventListener(kind, (event) => {
      const point = event.target.closest(".points a");
      if (point) act(point, event);
    });
    on("mouseover", show);
    on("mouseout", hide);
    on("focusin", show);
    on("focusout", hide);
    on("click", (point, event) => { event.preventDefault(); hide(); choose(point.dataset.key); });
    on("keydown", (point, event) => {
      if (event.key === "Escape") hide();
      const move = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (!move) return;
      event.preventDefault();
      const next = across[at.get(point) + move];
      if (!next) return;
      point.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  }
}

// A row's points, faint where the row is filtered away, and bold where it is open.
function markPoints(board, row, shown) {
  const open = board.state.open.includes(row.key);
  if (row.faint === !shown && row.bold === open) return;
  [row.faint, row.bold] = [!shown, open];
  for (const point of board.points.get(row.key)) {
    point.classList.toggle("off", row.faint);
    point.classList.toggle("chosen", row.bold);
  }
}
