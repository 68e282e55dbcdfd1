// The page: what is shown, in which order, and which pair is open.
"use strict";

(() => {
  const find = (name) => document.getElementById(name);
  const PREFIX = "#pair=";

  Cohort.hashOf = (pair) => PREFIX + Cohort.encodePart(pair.name);

  const pairs = Cohort.read();
  const byHash = new Map(pairs.map((pair) => [Cohort.hashOf(pair), pair]));
  Cohort.ratings.start();
  const columns = Cohort.columnsOf(pairs);
  const order = { column: columns.find(({ label }) => label === "Verdict"), ascending: true };
  const wanted = { terms: [], statuses: new Set(), rating: "" };
  let shown = [];

  const go = (pair) => {
    location.hash = Cohort.hashOf(pair);
  };
  const plots = new Cohort.Plots(find("plots"), pairs, go);
  const table = new Cohort.Table(find("pairs"), find("scroller"), columns, {
    open: go,
    sort: (column) => {
      order.ascending = order.column === column ? !order.ascending : column.ascending;
      order.column = column;
      show(true);
    },
    point: (pair) => plots.pointOut(pair),
  });
  const opened = new Cohort.Opened({
    neighbours: (pair) => ({ place: shown.indexOf(pair), pairs: shown }),
    closed: (pair) => {
      if (location.hash.startsWith(PREFIX)) location.hash = "#";
      const place = shown.indexOf(pair);
      if (place >= 0) table.focus(place);
    },
  });

  function matches(pair) {
    const { rating, note } = Cohort.ratings.get(pair.name);
    if (wanted.statuses.size && !wanted.statuses.has(pair.status)) return false;
    if (wanted.rating && wanted.rating !== (rating || "none")) return false;
    return wanted.terms.every((term) => pair.text.includes(term) || note.toLowerCase().includes(term));
  }

  // Show the pairs that are wanted, in order; the plots only if these are others than before.
  function show(sortedOnly) {
    const matching = sortedOnly ? shown : pairs.filter(matches);
    shown = Cohort.sorted(matching, order.column.value, order.ascending);
    table.show(shown, order.column, order.ascending, true);
    if (!sortedOnly) plots.show(shown);
    find("nothing").hidden = shown.length > 0;
    find("shown").textContent = shown.length === pairs.length ? "" : `${shown.length} of ${pairs.length} shown`;
  }

  function showRated() {
    const count = Cohort.ratings.count(pairs);
    const kept = Cohort.ratings.kept() ? "" : " – this browser does not keep them: save them before you leave";
    find("rated").textContent = count || kept ? `${count} rated${kept}` : "";
  }

  function summary() {
    const registered = pairs.filter(({ state }) => state === "done").length;
    const minutes = pairs.reduce((sum, pair) => sum + (pair.minutes || 0), 0);
    const time =
      minutes >= 120 ? `${(minutes / 60).toFixed(1)} hours` : `${minutes.toFixed(minutes < 10 ? 1 : 0)} minutes`;
    const parts = [`${pairs.length} ${pairs.length === 1 ? "pair" : "pairs"}`, `${registered} registered`];
    if (minutes > 0) parts.push(`${time} of computing`);
    find("summary").textContent = parts.join(" · ");
  }

  function statusButtons() {
    for (const { word, title } of Cohort.STATUSES) {
      const count = pairs.filter(({ status }) => status === word).length;
      if (!count) continue;
      const number = Cohort.element("span", { class: "count" }, String(count));
      const button = Cohort.element(
        "button",
        { type: "button", "aria-pressed": "false", title },
        Cohort.statusLabel(word),
        number,
      );
      button.addEventListener("click", () => {
        const pressed = !wanted.statuses.delete(word);
        if (pressed) wanted.statuses.add(word);
        button.setAttribute("aria-pressed", pressed);
        show();
      });
      find("statuses").append(button);
    }
  }

  function followAddress() {
    const pair = byHash.get(location.hash);
    if (pair) opened.show(pair);
    else if (opened.dialog.open) opened.dialog.close();
  }

  find("text").addEventListener("input", (event) => {
    wanted.terms = event.target.value
      .toLowerCase()
      .split(/\s+/)
      .filter((term) => term);
    show();
  });
  find("rating").addEventListener("change", (event) => {
    wanted.rating = event.target.value;
    show();
  });
  find("filter").addEventListener("submit", (event) => event.preventDefault());
  find("save").addEventListener("click", () => Cohort.ratings.save(pairs));
  Cohort.ratings.changed(() => {
    table.renew();
    showRated();
  });
  addEventListener("hashchange", followAddress);

  summary();
  statusButtons();
  showRated();
  show();
  followAddress();
  performance.mark("cohort shown");
})();
