// One pair, opened: slices, figures, what was said, how to repeat it, and its rating.
"use strict";

let CohortReceived = null;

// Called by the pair.js of each pair.
function COHORT_PAIR(details) {
  CohortReceived = details;
}

(() => {
  const find = (name) => document.getElementById(name);

  // What is known of a pair beyond its row. Scripts are loaded one after the other, each once.
  const known = new Map();
  let queue = Promise.resolve();

  function detailsOf(pair) {
    if (!pair.made) return Promise.resolve({});
    if (!known.has(pair)) {
      queue = queue.then(() => load(Cohort.address(pair, "page", "pair.js")));
      known.set(pair, queue);
    }
    return known.get(pair);
  }

  function load(address) {
    return new Promise((resolve) => {
      CohortReceived = null;
      const script = Cohort.element("script", { src: address });
      const done = (details) => {
        script.remove();
        resolve(details);
      };
      const gone = { missing: "The folder “page” of this pair is missing; write the page of the cohort anew." };
      script.addEventListener("load", () => done(CohortReceived || {}));
      script.addEventListener("error", () => done(gone));
      document.head.append(script);
    });
  }

  Cohort.Opened = class {
    constructor({ neighbours, closed }) {
      this.dialog = find("pair");
      this.slices = new Cohort.Slices();
      this.neighbours = neighbours;
      this.pair = null;
      find("close").addEventListener("click", () => this.dialog.close());
      find("previous").addEventListener("click", () => this.step(-1));
      find("next").addEventListener("click", () => this.step(1));
      find("copy").addEventListener("click", () => this.copy());
      find("note").addEventListener("input", (event) =>
        Cohort.ratings.set(this.pair.name, { note: event.target.value }),
      );
      this.rated = [...find("rate").querySelectorAll("button")];
      this.rated.forEach((button) => button.addEventListener("click", () => this.rate(button.dataset.rating)));
      document.addEventListener("keydown", (event) => this.pair && this.key(event));
      this.dialog.addEventListener("close", () => {
        const pair = this.pair;
        this.pair = null;
        closed(pair);
      });
      Cohort.ratings.changed(() => this.pair && this.showRating());
    }

    async show(pair) {
      if (this.pair === pair) return;
      this.pair = pair;
      find("pair-name").textContent = pair.name;
      find("pair-status").replaceWith(Object.assign(Cohort.statusLabel(pair.status), { id: "pair-status" }));
      const { place, pairs } = this.neighbours(pair);
      find("pair-place").textContent = place < 0 ? "" : `${place + 1} of ${pairs.length}`;
      find("previous").disabled = place <= 0;
      find("next").disabled = place < 0 || place >= pairs.length - 1;
      this.showRating();
      this.showFigures(pair);
      if (!this.dialog.open) this.dialog.showModal();
      const details = await detailsOf(pair);
      if (this.pair !== pair) return;
      this.slices.show(pair, details.slices || null);
      this.showDetails(pair, details);
      this.dialog.scrollTop = 0;
      if (details.slices) find("stage").focus({ preventScroll: true });
    }

    showRating() {
      const { rating, note } = Cohort.ratings.get(this.pair.name);
      this.rated.forEach((button) => button.setAttribute("aria-pressed", button.dataset.rating === rating));
      if (find("note").value !== note) find("note").value = note;
    }

    showFigures(pair) {
      const rows = Cohort.FIGURES.filter(
        ({ before, after }) => pair[after] !== null || (before && pair[before] !== null),
      );
      find("figures").hidden = rows.length === 0;
      find("figures").tHead.hidden = !rows.some(({ before }) => before);
      find("figures").tBodies[0].replaceChildren(
        ...rows.map(({ label, unit, before, after, digits }) =>
          Cohort.element(
            "tr",
            {},
            Cohort.element(
              "th",
              { scope: "row" },
              label,
              Cohort.element("span", { class: "quiet" }, unit ? ` ${unit}` : ""),
            ),
            Cohort.element("td", { class: "number quiet" }, before ? Cohort.format(pair[before], digits) : ""),
            Cohort.element("td", { class: "number" }, Cohort.format(pair[after], digits)),
          ),
        ),
      );
    }

    showDetails(pair, details) {
      find("missing").textContent = details.missing || "";
      const reasons = details.reasons?.length ? details.reasons : [pair.reasons];
      const messages = details.messages?.length ? details.messages : [pair.messages];
      const said = [
        ...[pair.error].map((text) => [text, "error"]),
        ...reasons.map((text) => [text, pair.status]),
        ...messages.map((text) => [text, "message"]),
      ].filter(([text]) => text);
      find("reasons").replaceChildren(...said.map(([text, kind]) => Cohort.element("li", { class: kind }, text)));
      this.showStructures(details.labels || []);
      const chosen = details.settings || {};
      const facts = [
        ...CohortData.further.map(([name], place) => [name, pair.further[place]]),
        ["fixed", details.fixed],
        ["moving", details.moving],
        ["landmarks", details.landmarks],
        ["preset", chosen.preset],
        ["encoder", chosen.encoder],
        ["device", details.device],
        ["made", details.made?.replace("T", " ")],
        ["line of the table", details.line],
      ];
      find("facts").replaceChildren(...terms(facts));
      if (details.files?.length) {
        const links = details.files.flatMap((name) => [
          Cohort.element("a", { href: Cohort.address(pair, name) }, name),
          " ",
        ]);
        find("facts").append(Cohort.element("dt", {}, "files"), Cohort.element("dd", {}, ...links));
      }
      find("repeat").hidden = !details.command;
      find("command").textContent = details.command || "";
      find("copy").textContent = "Copy";
      find("log").hidden = !details.log;
      find("log").querySelector("pre").textContent = details.log || "";
      this.showOverview(pair, details.files?.includes("overview.png"));
      find("settings").hidden = Object.keys(chosen).length === 0;
      find("settings")
        .querySelector("dl")
        .replaceChildren(...terms([...Object.entries(chosen), ...Object.entries(details.versions || {})], true));
    }

    showStructures(labels) {
      const number = (value, digits) => Cohort.element("td", { class: "number" }, Cohort.format(value, digits));
      const heads = ["Structure", "Dice before", "after", "HD95 before", "after"];
      find("structures").replaceChildren(
        ...(labels.length === 0
          ? []
          : [
              Cohort.element(
                "table",
                {},
                Cohort.element(
                  "thead",
                  {},
                  Cohort.element("tr", {}, ...heads.map((head) => Cohort.element("th", { scope: "col" }, head))),
                ),
                Cohort.element(
                  "tbody",
                  {},
                  ...labels.map((row) =>
                    Cohort.element(
                      "tr",
                      {},
                      Cohort.element("th", { scope: "row" }, row.name),
                      number(row.dice_before, 3),
                      number(row.dice_after, 3),
                      number(row.hausdorff95_mm_before, 1),
                      number(row.hausdorff95_mm_after, 1),
                    ),
                  ),
                ),
              ),
            ]),
      );
    }

    showOverview(pair, there) {
      find("overview").hidden = !there;
      const [link, picture] = find("overview").querySelectorAll("a, img");
      if (there)
        [link.href, picture.src] = [Cohort.address(pair, "overview.png"), Cohort.address(pair, "overview.png")];
      else picture.removeAttribute("src");
    }

    rate(rating) {
      const same = Cohort.ratings.get(this.pair.name).rating === rating;
      Cohort.ratings.set(this.pair.name, { rating: same ? "" : rating });
    }

    step(by) {
      const { place, pairs } = this.neighbours(this.pair);
      const pair = place < 0 ? null : pairs[place + by];
      if (!pair) return;
      location.replace(Cohort.hashOf(pair));
      this.show(pair); // the address is followed later, perhaps after the next step
    }

    async copy() {
      const code = find("command");
      try {
        await navigator.clipboard.writeText(code.textContent);
        find("copy").textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code); // pages from a folder may not always copy
      }
    }

    key(event) {
      const { target, key } = event;
      if (event.ctrlKey || event.metaKey || event.altKey || target.matches("textarea")) return;
      const button = target.matches("button, a, summary") && (key === " " || key === "Enter");
      if (button || (target.matches("input") && key.startsWith("Arrow"))) return;
      const uses = {
        n: () => this.step(1),
        p: () => this.step(-1),
        a: () => this.rate("accept"),
        r: () => this.rate("redo"),
      };
      if (this.slices.key(key)) event.preventDefault();
      else uses[key]?.();
    }
  };

  // Terms and what they are, without those that are not known.
  function terms(entries, evenEmpty = false) {
    return entries.flatMap(([name, value]) => {
      if (value === undefined || value === null || (value === "" && !evenEmpty)) return [];
      return [Cohort.element("dt", {}, name), Cohort.element("dd", {}, value === "" ? "–" : String(value))];
    });
  }
})();
