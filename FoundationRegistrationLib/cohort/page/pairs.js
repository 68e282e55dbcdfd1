// The pairs of the cohort: state in a word, figures, text to search in, order.
"use strict";

const Cohort = {};
let CohortData = null;

// Called by data.js.
function COHORT(data) {
  CohortData = data;
}

(() => {
  // Worst first.
  Cohort.STATUSES = [
    { word: "error", title: "The registration ended with an error" },
    { word: "failed", title: "Registered, but the verdict is: failed" },
    { word: "check", title: "Registered; the verdict is: check" },
    { word: "good", title: "Registered; the verdict is: good" },
    { word: "done", title: "Registered, without a verdict" },
    { word: "waiting", title: "Not registered yet" },
  ];
  const RANKS = new Map(Cohort.STATUSES.map((status, rank) => [status.word, rank]));

  // Each figure after, and before where there is one; `worst` is the sign of the bad direction.
  Cohort.FIGURES = [
    { label: "Expected error", unit: "mm", after: "expected_error_mm", digits: 1, worst: 1 },
    { label: "Dice", unit: "", before: "mean_dice_before", after: "mean_dice_after", digits: 3, worst: -1 },
    { label: "TRE", unit: "mm", before: "tre_mm_before", after: "tre_mm_after", digits: 2, worst: 1 },
    { label: "HD95", unit: "mm", before: "mean_hd95_mm_before", after: "mean_hd95_mm_after", digits: 1, worst: 1 },
    { label: "Folded", unit: "%", after: "folded_percent", digits: 2, worst: 1 },
    { label: "Inverse error", unit: "mm", after: "inverse_error_mm", digits: 3, worst: 1 },
    { label: "Time", unit: "min", after: "minutes", digits: 1, worst: 1 },
  ];

  Cohort.format = (value, digits) => {
    if (value === null || value === undefined) return "";
    const smallest = 0.5 * 10 ** -digits;
    if (value !== 0 && Math.abs(value) < smallest)
      return `${value < 0 ? ">−" : "<"}${(10 ** -digits).toFixed(digits)}`;
    return value.toFixed(digits).replace("-", "−");
  };

  Cohort.read = () => {
    const { words, figures, further, made, drawn } = CohortData;
    const pairs = words.name.map((name, index) => {
      const pair = { name, index, made: made[index], drawn: drawn[index] };
      for (const key of ["state", "error", "verdict", "reasons", "messages", "folder"]) pair[key] = words[key][index];
      for (const key of Object.keys(figures)) pair[key] = figures[key][index];
      pair.minutes = pair.seconds === null ? null : pair.seconds / 60;
      pair.further = further.map(([, values]) => values[index]);
      pair.status = statusOf(pair);
      pair.rank = RANKS.get(pair.status);
      pair.said = [pair.error, pair.reasons, pair.messages].filter((text) => text).join(" ");
      pair.text = [name, pair.status, pair.said, ...pair.further].join("\n").toLowerCase();
      return pair;
    });
    return pairs;
  };

  function statusOf(pair) {
    if (pair.state === "failed") return "error";
    if (pair.state !== "done") return "waiting";
    return RANKS.has(pair.verdict) ? pair.verdict : "done";
  }

  // Address of a file of a pair; the hash of its records keeps browsers from showing that of an earlier run.
  Cohort.address = (pair, ...names) => {
    const parts = [...pair.folder.split("/"), ...names].map(Cohort.encodePart).join("/");
    return pair.made ? `${parts}?${pair.made}` : parts;
  };

  // Part of an address; halves of characters, as in file names that are not Unicode, cannot be in one.
  Cohort.encodePart = (text) => encodeURIComponent(text.replace(/[\ud800-\udfff]/gu, "\ufffd"));

  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  // A sorted copy: pairs without a value last in both directions, equal ones in the order of the table.
  Cohort.sorted = (pairs, value, ascending) => {
    const sign = ascending ? 1 : -1;
    const keyed = pairs.map((pair) => ({ pair, key: value(pair) }));
    const absent = (key) => key === null || key === undefined || key === "";
    keyed.sort((one, other) => {
      const without = absent(one.key) - absent(other.key);
      if (without) return without;
      let order = 0;
      if (!absent(one.key)) {
        order = typeof one.key === "number" ? one.key - other.key : collator.compare(one.key, other.key);
      }
      return sign * order || one.pair.index - other.pair.index;
    });
    return keyed.map(({ pair }) => pair);
  };

  // An element with text and attributes; text is never read as HTML.
  Cohort.element = (tag, attributes = {}, ...content) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined && value !== false)
        element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...content);
    return element;
  };

  Cohort.statusLabel = (word) => Cohort.element("span", { class: `status ${word}` }, word);
})();
