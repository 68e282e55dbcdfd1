// Ratings and notes: kept by the browser for this page, saved as a file by the reader.
"use strict";

(() => {
  const KEY = `FoundationRegistration ratings ${location.pathname}`;
  const listeners = [];
  let ratings = new Map();
  let kept = true;

  function load() {
    // Those in the folder first; what this reader has changed since overrides them.
    ratings = new Map(CohortData.ratings.map(([name, rating, note]) => [name, { rating, note }]));
    try {
      for (const [name, rating, note] of JSON.parse(localStorage.getItem(KEY) || "[]")) {
        ratings.set(String(name), { rating: String(rating), note: String(note) });
      }
    } catch {
      kept = false;
    }
  }

  Cohort.ratings = {
    start() {
      load();
      addEventListener("storage", (event) => {
        if (event.key === KEY) {
          load();
          listeners.forEach((listener) => listener());
        }
      });
    },
    get: (name) => ratings.get(name) || { rating: "", note: "" },
    set(name, change) {
      ratings.set(name, { ...this.get(name), ...change });
      try {
        localStorage.setItem(KEY, JSON.stringify([...ratings].map(([key, { rating, note }]) => [key, rating, note])));
      } catch {
        kept = false;
      }
      listeners.forEach((listener) => listener());
    },
    changed: (listener) => listeners.push(listener),
    kept: () => kept,
    count: (pairs) => pairs.filter(({ name }) => Cohort.ratings.get(name).rating).length,
    csv(pairs) {
      const lines = [["name", "rating", "note"]];
      for (const { name } of pairs) {
        const { rating, note } = this.get(name);
        if (rating || note) lines.push([name, rating, note]);
      }
      return lines.map((cells) => cells.map(quoted).join(",") + "\r\n").join("");
    },
    save(pairs) {
      const address = URL.createObjectURL(new Blob(["\ufeff", this.csv(pairs)], { type: "text/csv" }));
      const link = Cohort.element("a", { href: address, download: "ratings.csv" });
      link.click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
    },
  };

  function quoted(text) {
    return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }
})();
