// The table of pairs: only the rows in view exist, whatever the number of pairs.
"use strict";

(() => {
  const SPARE = 6; // rows above and below those in view

  function change(pair, before, after, digits) {
    if (pair[after] === null) return [];
    if (!before || pair[before] === null) return [Cohort.format(pair[after], digits)];
    return [
      Cohort.element("span", { class: "quiet" }, `${Cohort.format(pair[before], digits)} → `),
      Cohort.format(pair[after], digits),
    ];
  }

  function thumbnail(pair) {
    if (!pair.drawn) return [];
    const source = Cohort.address(pair, "page", "thumbnail.webp");
    return [Cohort.element("img", { src: source, alt: "", loading: "lazy", decoding: "async", class: "thumbnail" })];
  }

  function further(name, place, pairs) {
    const values = pairs.map((pair) => pair.further[place]).filter((text) => text !== "");
    const numbers = values.length > 0 && values.every((text) => Number.isFinite(Number(text)));
    const value = (pair) =>
      numbers && pair.further[place] !== "" ? Number(pair.further[place]) : pair.further[place];
    return {
      label: name,
      value,
      ascending: true,
      class: numbers ? "number" : "",
      content: (pair) => [pair.further[place]],
    };
  }

  Cohort.columnsOf = (pairs) => {
    const figure = (label, unit, before, after, digits, ascending) => ({
      label,
      unit,
      ascending,
      class: before ? "number change" : "number",
      given: pairs.some((pair) => pair[after] !== null),
      value: (pair) => pair[after],
      content: (pair) => change(pair, before, after, digits),
    });
    const columns = [
      { label: "Before | after", class: "picture", content: thumbnail, given: pairs.some((pair) => pair.drawn) },
      {
        label: "Pair",
        class: "name",
        ascending: true,
        value: (pair) => pair.name,
        content: (pair) => [
          Cohort.element("a", { href: Cohort.hashOf(pair), tabindex: -1, title: pair.name }, pair.name),
        ],
      },
      {
        label: "Verdict",
        ascending: true,
        value: (pair) => pair.rank,
        content: (pair) => [Cohort.statusLabel(pair.status)],
      },
      figure("Dice", "", "mean_dice_before", "mean_dice_after", 3, true),
      figure("TRE", "mm", "tre_mm_before", "tre_mm_after", 2, false),
      figure("Expected error", "mm", "", "expected_error_mm", 1, false),
      figure("Folded", "%", "", "folded_percent", 2, false),
      figure("Time", "min", "", "minutes", 1, false),
      {
        label: "Messages",
        class: "said",
        ascending: true,
        value: (pair) => pair.said,
        content: (pair) => [Cohort.element("div", { title: pair.said }, pair.said)],
      },
      ...CohortData.further.map(([name], place) => further(name, place, pairs)),
      {
        label: "Rating",
        class: "rating",
        ascending: true,
        value: (pair) => Cohort.ratings.get(pair.name).rating,
        content: (pair) => rating(Cohort.ratings.get(pair.name)),
      },
    ];
    return columns.filter((column) => column.given !== false);
  };

  function rating({ rating: word, note }) {
    const shown = word ? [Cohort.element("span", { class: `rated ${word}` }, word)] : [];
    return note ? [...shown, Cohort.element("span", { class: "quiet noted", title: note }, " note")] : shown;
  }

  Cohort.Table = class {
    constructor(root, scroller, columns, { open, sort, point }) {
      this.columns = columns;
      this.scroller = scroller;
      this.body = root.tBodies[0];
      this.root = root;
      this.open = open;
      this.pairs = [];
      this.rows = new Map();
      [this.above, this.below] = [spacer(), spacer()];
      this.body.append(this.above, this.below);
      this.active = 0;
      this.headers = columns.map((column) => this.header(column, sort));
      root.tHead.rows[0].append(...this.headers);
      scroller.addEventListener("scroll", () => this.draw(), { passive: true });
      addEventListener("resize", () => this.draw());
      addEventListener("beforeprint", () => this.draw(true));
      addEventListener("afterprint", () => this.draw());
      this.body.addEventListener("click", (event) => this.clicked(event));
      this.body.addEventListener("keydown", (event) => this.key(event));
      for (const name of ["mouseover", "focusin"]) {
        this.body.addEventListener(name, (event) => point(this.pairOf(event.target)));
      }
      this.body.addEventListener("mouseleave", () => point(null));
    }

    header(column, sort) {
      const unit = column.unit ? [Cohort.element("span", { class: "unit" }, ` ${column.unit}`)] : [];
      const content = column.value
        ? Cohort.element("button", { type: "button" }, column.label, ...unit)
        : column.label;
      const header = Cohort.element("th", { scope: "col", class: column.class }, content);
      if (column.value) content.addEventListener("click", () => sort(column));
      return header;
    }

    show(pairs, column, ascending, top) {
      this.pairs = pairs;
      this.forget();
      this.columns.forEach((each, place) => {
        if (each === column) this.headers[place].setAttribute("aria-sort", ascending ? "ascending" : "descending");
        else this.headers[place].removeAttribute("aria-sort");
      });
      this.root.setAttribute("aria-rowcount", pairs.length + 1);
      this.active = 0;
      if (top) this.scroller.scrollTop = 0;
      this.draw();
    }

    // Rows whose content may have changed, such as a rating.
    renew() {
      for (const [place, row] of this.rows) {
        const renewed = this.row(row.pair, place);
        renewed.tabIndex = row.tabIndex;
        row.replaceWith(renewed);
        this.rows.set(place, renewed);
      }
    }

    draw(all = false) {
      const height = parseFloat(getComputedStyle(this.root).getPropertyValue("--row")) || 76;
      const { scrollTop, clientHeight } = this.scroller;
      const first = all ? 0 : Math.max(0, Math.floor(scrollTop / height) - SPARE);
      const last = all
        ? this.pairs.length
        : Math.min(this.pairs.length, Math.ceil((scrollTop + clientHeight) / height) + SPARE);
      if (this.range === `${first} ${last}`) return;
      this.range = `${first} ${last}`;
      // The table is never shorter meanwhile than it will be, or it would be scrolled back. Rows that stay are not
      // touched, so that they keep the focus and their pictures.
      this.above.style.height = `${first * height}px`;
      this.below.style.height = `${(this.pairs.length - last) * height}px`;
      const old = [...this.rows.values()].filter(({ place }) => place < first || place >= last);
      let next = this.above.nextSibling;
      for (let place = first; place < last; place += 1) {
        while (old.includes(next)) next = next.nextSibling;
        const row = this.rows.get(place) || this.row(this.pairs[place], place);
        this.rows.set(place, row);
        if (row === next) next = next.nextSibling;
        else this.body.insertBefore(row, next);
      }
      for (const row of old) {
        row.remove();
        this.rows.delete(row.place);
      }
      this.reach(this.active >= first && this.active < last ? this.active : first);
    }

    // The row that the Tab key stops at.
    reach(place) {
      for (const [each, row] of this.rows) row.tabIndex = each === place ? 0 : -1;
    }

    forget() {
      for (const row of this.rows.values()) row.remove();
      this.rows.clear();
      this.range = "";
    }

    row(pair, place) {
      const cells = this.columns.map((column) =>
        Cohort.element("td", { class: column.class }, ...column.content(pair)),
      );
      const row = Cohort.element("tr", { "aria-rowindex": place + 2 }, ...cells);
      row.pair = pair;
      row.place = place;
      return row;
    }

    pairOf(target) {
      return target.closest("tr")?.pair || null;
    }

    clicked(event) {
      const row = event.target.closest("tr");
      if (!row?.pair || event.ctrlKey || event.metaKey || String(getSelection()) !== "") return;
      event.preventDefault();
      this.active = row.place;
      this.open(row.pair);
    }

    key(event) {
      const row = event.target.closest("tr");
      if (!row?.pair) return;
      if (event.key === "Enter") {
        event.preventDefault();
        this.active = row.place;
        this.open(row.pair);
        return;
      }
      const page = Math.max(1, Math.floor(this.scroller.clientHeight / row.offsetHeight) - 1);
      const steps = {
        ArrowDown: 1,
        ArrowUp: -1,
        PageDown: page,
        PageUp: -page,
        Home: -this.pairs.length,
        End: this.pairs.length,
      };
      const step = steps[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.focus(Math.min(Math.max(row.place + step, 0), this.pairs.length - 1));
    }

    // Bring a row into view and give it the focus.
    focus(place) {
      if (!this.pairs.length) return;
      this.active = place;
      const height = parseFloat(getComputedStyle(this.root).getPropertyValue("--row")) || 76;
      const head = this.root.tHead.offsetHeight;
      const { scrollTop, clientHeight } = this.scroller;
      if (place * height < scrollTop) this.scroller.scrollTop = place * height;
      else if ((place + 1) * height + head > scrollTop + clientHeight) {
        this.scroller.scrollTop = (place + 1) * height + head - clientHeight;
      }
      this.draw();
      this.reach(place);
      this.rows.get(place)?.focus({ preventScroll: true });
    }
  };

  // In place of the rows that are not in view.
  const spacer = () => Cohort.element("tr", { class: "spacer", "aria-hidden": "true" });
})();
