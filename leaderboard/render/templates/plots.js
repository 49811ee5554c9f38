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
  for (const plot of board.section.querySelectorAll(".plot svg")) {
    const points = [...plot.querySelectorAll(".points a")];
    const across = [...points].sort((a, b) =>
      a.querySelector("use").getAttribute("x") - b.querySelector("use").getAttribute("x"));
    across.forEach((point, place) => {
      point.dataset.key = point.getAttribute("href").split("/")[1];
      const row = board.byKey.get(point.dataset.key);
      point.querySelector("title").remove(); // the tip says it, and more
      point.setAttribute("aria-label", `${row.name}: ${board.heads[4]?.textContent ?? ""} ${row.tr.cells[4]?.textContent ?? ""}`.trim());
      point.setAttribute("tabindex", place === 0 ? "0" : "-1");
      point.addEventListener("mouseenter", () => show(point));
      point.addEventListener("mouseleave", hide);
      point.addEventListener("focus", () => show(point));
      point.addEventListener("blur", hide);
      point.addEventListener("click", (event) => { event.preventDefault(); hide(); choose(point.dataset.key); });
      point.addEventListener("keydown", (event) => {
        if (event.key === "Escape") hide();
        const move = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
        const next = move && across[place + move];
        if (!move) return;
        event.preventDefault();
        if (!next) return;
        point.setAttribute("tabindex", "-1");
        next.setAttribute("tabindex", "0");
        next.focus();
      });
    });
  }
}

function dimPoints(board, shown, open) {
  const keys = new Set(shown.map((row) => row.key));
  for (const point of board.section.querySelectorAll(".points a")) {
    point.classList.toggle("off", !keys.has(point.dataset.key));
    point.classList.toggle("chosen", open.includes(point.dataset.key));
  }
}
