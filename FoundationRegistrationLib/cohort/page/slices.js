// The slices of a pair: scrolled, and faded between the fixed and the moving volume.
"use strict";

(() => {
  const WHEEL = 50; // pixels of a wheel or touchpad for one slice

  Cohort.Slices = class {
    constructor() {
      const find = (name) => document.getElementById(name);
      this.viewer = find("viewer");
      this.stage = find("stage");
      this.canvas = find("slices");
      this.position = find("position");
      this.slice = find("slice");
      this.fade = find("fade");
      this.end = find("fade-end");
      this.buttons = [...find("layers").querySelectorAll("button")];
      this.turned = 0;
      this.slice.addEventListener("input", () => this.draw());
      this.fade.addEventListener("input", () => this.draw());
      this.buttons.forEach((button) => button.addEventListener("click", () => this.choose(button.dataset.layer)));
      this.stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      new ResizeObserver(() => this.draw()).observe(this.stage);
    }

    // Show a pair, or nothing if it has no slices.
    show(pair, slices) {
      this.slices = slices;
      this.images = {};
      this.viewer.hidden = !slices;
      if (!slices) return;
      for (const name of slices.layers) {
        const image = new Image();
        image.addEventListener("load", () => this.images[name] === image && this.draw());
        image.src = Cohort.address(pair, "page", `${name}.webp`);
        this.images[name] = image;
      }
      this.slice.max = slices.positions.length - 1;
      this.slice.value = slices.middle;
      this.stage.style.aspectRatio = `${slices.width} / ${slices.height}`;
      this.stage.style.setProperty("--shape", slices.width / slices.height);
      this.buttons.forEach((button) => {
        button.disabled = !slices.layers.includes(button.dataset.layer);
      });
      this.choose("registered");
    }

    choose(layer) {
      if (!this.slices?.layers.includes(layer)) return;
      this.layer = layer;
      this.buttons.forEach((button) => button.setAttribute("aria-pressed", button.dataset.layer === layer));
      this.end.textContent = layer;
      this.draw();
    }

    move(steps) {
      this.slice.value = Number(this.slice.value) + steps;
      this.draw();
    }

    blend(percent) {
      this.fade.value = percent;
      this.draw();
    }

    wheel(event) {
      event.preventDefault();
      this.turned += event.deltaMode === 0 ? event.deltaY : event.deltaY * WHEEL;
      const steps = Math.trunc(this.turned / WHEEL);
      this.turned -= steps * WHEEL;
      if (steps) this.move(-steps);
    }

    // Keys of the viewer; says whether one was used.
    key(key) {
      if (!this.slices) return false;
      const uses = {
        ArrowUp: () => this.move(1),
        ArrowDown: () => this.move(-1),
        ArrowLeft: () => this.blend(Number(this.fade.value) - 10),
        ArrowRight: () => this.blend(Number(this.fade.value) + 10),
        " ": () => this.blend(Number(this.fade.value) >= 50 ? 0 : 100),
        b: () => this.choose(this.layer === "before" ? "registered" : "before"),
      };
      uses[key]?.();
      return key in uses;
    }

    draw() {
      if (!this.slices || this.viewer.hidden) return;
      const { width, height, columns, positions } = this.slices;
      const index = Number(this.slice.value);
      const share = Number(this.fade.value) / 100;
      const side = positions[index] >= 0 ? "S" : "I";
      const place = `${side} ${Math.abs(positions[index]).toFixed(0)} mm`;
      this.position.textContent = `${place}  ·  ${index + 1} / ${positions.length}`;
      this.slice.setAttribute("aria-valuetext", place);
      this.fade.setAttribute("aria-valuetext", `${Math.round(100 * share)} % ${this.layer}`);
      this.stage.setAttribute("aria-label", `Axial slice, ${place}, ${Math.round(100 * share)} % ${this.layer}`);
      const dense = devicePixelRatio || 1;
      const wide = Math.max(1, Math.round(this.stage.clientWidth * dense));
      const high = Math.max(1, Math.round(this.stage.clientHeight * dense));
      if (this.canvas.width !== wide || this.canvas.height !== high)
        [this.canvas.width, this.canvas.height] = [wide, high];
      const context = this.canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.clearRect(0, 0, wide, high);
      const [left, top] = [(index % columns) * width, Math.floor(index / columns) * height];
      for (const [name, opaque] of [
        ["fixed", 1],
        [this.layer, share],
      ]) {
        const image = this.images[name];
        if (!image?.complete || !image.naturalWidth || opaque === 0) continue;
        context.globalAlpha = opaque;
        // Half a pixel inside its borders, so that the smoothing takes nothing from the slices beside it.
        context.drawImage(image, left + 0.5, top + 0.5, width - 1, height - 1, 0, 0, wide, high);
      }
      context.globalAlpha = 1;
      const loaded = Object.values(this.images).every(({ complete, naturalWidth }) => complete && naturalWidth);
      this.stage.classList.toggle("complete", loaded);
    }
  };
})();
