// Click a heading to sort by it; without JavaScript the tables keep their order.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, i) => row.cells[i].dataset.sort ?? row.cells[i].textContent.trim();
  const number = text => (text !== "" && isFinite(text) ? Number(text) : null);
  const order = (a, b) => {
    const [x, y] = [number(a), number(b)];
    return x !== null && y !== null ? x - y : String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const first = head.classList.contains("n") || i === 2 ? "descending" : "ascending";
      const other = first === "descending" ? "ascending" : "descending";
      const way = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach(h => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way);
      const rows = [...table.tBodies[0].rows].sort((a, b) => order(key(a, i), key(b, i)));
      table.tBodies[0].append(...(way === "ascending" ? rows : rows.reverse()));
    });
  });
}
