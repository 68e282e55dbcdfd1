// A strip of points and a box for each figure; outliers stand out and open their pair.
"use strict";

(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const MOST_REACHED = 30; // outliers of a strip that the Tab key stops at
  const FEWEST = 5; // values that make a box
  const STRIP = 42;
  const NAMES = 46; // width of "before" and "after"
  const AXIS = 18;
  const MARGIN = 9;

  function draw(tag, attributes, ...content) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...content);
    return element;
  }

  // Quartiles and fences after Tukey; with equal quartiles, a fence is a twentieth of the range away.
  Cohort.boxOf = (values) => {
    const ordered = Float64Array.from(values).sort();
    const at = (share) => {
      const place = share * (ordered.length - 1);
      const low = Math.floor(place);
      return ordered[low] + (place - low) * (ordered[Math.min(low + 1, ordered.length - 1)] - ordered[low]);
    };
    const [low, middle, high] = [at(0.25), at(0.5), at(0.75)];
    const range = ordered[ordered.length - 1] - ordered[0];
    const reach = Math.max(1.5 * (high - low), range / 20);
    const fences = ordered.length < FEWEST ? [-Infinity, Infinity] : [low - reach, high + reach];
    const inside = ordered.filter((value) => value >= fences[0] && value <= fences[1]);
    return { low, middle, high, fences, ends: [inside[0], inside[inside.length - 1]], count: ordered.length };
  };

  // Two to five round numbers in a range.
  function ticks(first, last) {
    const power = 10 ** Math.floor(Math.log10((last - first) / 4));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => (last - first) / size <= 4);
    const digits = Math.min(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), 6);
    const found = [];
    for (let tick = Math.ceil(first / step - 1e-9); tick * step <= last + 1e-9 * step; tick += 1) {
      found.push({ value: tick * step, text: (tick * step).toFixed(digits).replace("-", "−") });
    }
    return found;
  }

  // The same height in a strip for the same pair, whatever is shown.
  const jitter = (index) => (((index + 1) * 0.618033988749895) % 1) - 0.5;

  class Plot {
    constructor(figure, open) {
      this.figure = figure;
      this.open = open;
      this.rows = figure.before
        ? [
            ["before", figure.before],
            ["after", figure.after],
          ]
        : [["", figure.after]];
      const unit = figure.unit ? Cohort.element("span", { class: "quiet" }, ` ${figure.unit}`) : "";
      this.said = Cohort.element("span", { class: "said" });
      this.card = Cohort.element(
        "figure",
        { "aria-label": figure.label },
        Cohort.element("figcaption", {}, Cohort.element("b", {}, figure.label), unit, this.said),
      );
      this.card.addEventListener("mousemove", (event) => this.point(event));
      this.card.addEventListener("mouseleave", () => this.say(null));
      this.card.addEventListener("click", (event) => {
        const near = this.near(event);
        if (near) this.open(near.pair);
      });
    }

    // The strips of each plot take the height of `strips` strips together.
    show(pairs, width, strips) {
      const all = this.rows.map(([, key]) => pairs.filter((pair) => pair[key] !== null));
      const values = this.rows.flatMap(([, key], row) => all[row].map((pair) => pair[key]));
      this.card.hidden = values.length === 0;
      if (this.card.hidden) return;
      let [first, last] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
      if (first === last) [first, last] = [first - 0.5 * Math.abs(first), last + 0.5 * Math.abs(last || 2)];
      const left = this.figure.before ? NAMES : MARGIN;
      this.across = (value) => left + ((value - first) / (last - first)) * (width - left - MARGIN);
      this.strip = (strips * STRIP) / this.rows.length;
      this.height = strips * STRIP + AXIS;
      this.points = [];
      const svg = draw("svg", { width, height: this.height, viewBox: `0 0 ${width} ${this.height}` });
      this.rows.forEach(([name, key], row) => svg.append(...this.drawn(name, key, all[row], row)));
      for (const { value, text } of ticks(first, last)) {
        const x = this.across(value);
        const anchor = x < 20 ? "start" : x > width - 20 ? "end" : "middle";
        svg.append(
          draw("path", { class: "tick", d: `M${x} ${this.height - AXIS}v4` }),
          draw(
            "text",
            {
              x: anchor === "start" ? x - 4 : anchor === "end" ? x + 4 : x,
              y: this.height - 3,
              "text-anchor": anchor,
            },
            text,
          ),
        );
      }
      this.mark = draw("circle", { class: "mark", r: 5, visibility: "hidden" });
      svg.append(this.mark);
      this.svg?.remove();
      this.svg = svg;
      this.card.append(svg);
      this.say(null);
    }

    drawn(name, key, pairs, row) {
      if (!pairs.length) return [];
      const box = Cohort.boxOf(pairs.map((pair) => pair[key]));
      const middle = (row + 0.5) * this.strip;
      const half = this.strip * 0.24;
      const drawn = [];
      if (name) drawn.push(draw("text", { x: 0, y: middle + 4 }, name));
      if (box.count >= FEWEST) {
        const [low, median, high, least, most] = [box.low, box.middle, box.high, ...box.ends].map(this.across);
        drawn.push(
          draw("path", { class: "whisker", d: `M${least} ${middle}H${low}M${high} ${middle}H${most}` }),
          draw("rect", {
            class: "box",
            x: low,
            y: middle - half,
            width: Math.max(high - low, 1),
            height: 2 * half,
            rx: 2,
          }),
        );
        drawn.push(draw("path", { class: "median", d: `M${median} ${middle - half}v${2 * half}` }));
      }
      this.median = box.middle;
      let usual = "";
      const outliers = [];
      for (const pair of pairs) {
        const x = this.across(pair[key]);
        const y = middle + (pairs.length > 1 ? jitter(pair.index) * this.strip * 0.55 : 0);
        const outlier = pair[key] < box.fences[0] || pair[key] > box.fences[1];
        this.points.push({ pair, key, x, y });
        if (outlier) outliers.push({ pair, x, y, far: Math.abs(pair[key] - box.middle) });
        else usual += `M${x.toFixed(1)} ${y.toFixed(1)}h0`;
      }
      drawn.push(draw("path", { class: `points ${pairs.length > 300 ? "many" : ""}`, d: usual || "M0 0" }));
      outliers.sort((one, other) => other.far - one.far);
      outliers.forEach(({ pair, x, y }, place) => {
        const words = `${pair.name}: ${Cohort.format(pair[key], this.figure.digits)} ${this.figure.unit}`.trim();
        const bad = name !== "before" && (pair[key] - box.middle) * this.figure.worst > 0;
        const circle = draw("circle", {
          class: `outlier ${bad ? "bad" : ""}`,
          cx: x,
          cy: y,
          r: outliers.length > 30 ? 3 : 4,
          role: "button",
          "aria-label": `${words}, outlier`,
        });
        circle.setAttribute("tabindex", place < MOST_REACHED ? 0 : -1);
        circle.addEventListener("keydown", (event) => {
          if (event.key === "Enter" || event.key === " ") {
            event.preventDefault();
            this.open(pair);
          }
        });
        circle.addEventListener("focus", () => this.say({ pair, key, x, y }));
        drawn.push(circle);
      });
      return drawn;
    }

    near(event) {
      const frame = this.svg.getBoundingClientRect();
      const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
      let best = null;
      let least = 14 ** 2;
      for (const point of this.points) {
        const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
        if (distance < least) [best, least] = [point, distance];
      }
      return best;
    }

    point(event) {
      const near = this.near(event);
      this.card.classList.toggle("near", near !== null);
      this.say(near);
    }

    say(point) {
      const { digits } = this.figure;
      if (!point) {
        this.said.textContent = `median${this.figure.before ? " after" : ""} ${Cohort.format(this.median, digits)}`;
        this.mark?.setAttribute("visibility", "hidden");
        return;
      }
      this.said.textContent = `${point.pair.name}: ${Cohort.format(point.pair[point.key], digits)}`;
      this.place(point);
    }

    place(point) {
      for (const [name, value] of Object.entries({ cx: point.x, cy: point.y, visibility: "visible" })) {
        this.mark.setAttribute(name, value);
      }
    }

    // Show where a pair of the table lies.
    pointOut(pair) {
      const point = pair && this.points?.findLast((candidate) => candidate.pair === pair);
      if (point) this.place(point);
      else this.mark?.setAttribute("visibility", "hidden");
    }
  }

  Cohort.Plots = class {
    constructor(root, pairs, open) {
      this.root = root;
      const known = ({ after, before }) =>
        pairs.some((pair) => pair[after] !== null || (before && pair[before] !== null));
      this.plots = Cohort.FIGURES.filter(known).map((figure) => new Plot(figure, open));
      root.append(...this.plots.map(({ card }) => card));
      root.hidden = this.plots.length === 0;
      addEventListener("resize", () => this.show(this.pairs));
    }

    show(pairs) {
      this.pairs = pairs;
      if (this.root.hidden) return;
      const { width, gap } = this.room();
      this.root.style.setProperty(
        "--columns",
        Math.max(1, Math.min(this.plots.length, Math.floor((width + gap) / (175 + gap)))),
      );
      const columns = Number(this.root.style.getPropertyValue("--columns"));
      const inner = Math.floor((width - (columns - 1) * gap) / columns) - 24; // padding and border of a card
      const strips = Math.max(...this.plots.map(({ rows }) => rows.length));
      for (const plot of this.plots) plot.show(pairs, Math.max(inner, 60), strips);
    }

    room() {
      return { width: this.root.clientWidth, gap: parseFloat(getComputedStyle(this.root).columnGap) || 0 };
    }

    pointOut(pair) {
      for (const plot of this.plots) plot.pointOut(pair);
    }
  };
})();
