// Walking with the keyboard and the mouse; what was walked is kept with its times.

import { FPS, START, move } from "./camera.js";

const KEYS = {
  KeyW: { forward: 1 }, KeyS: { forward: -1 }, KeyA: { right: -1 }, KeyD: { right: 1 },
  KeyQ: { down: 1 }, KeyE: { down: -1 },
  ArrowLeft: { yaw: -1 }, ArrowRight: { yaw: 1 }, ArrowUp: { pitch: 1 }, ArrowDown: { pitch: -1 },
};
const MOUSE_TURNS_PER_PIXEL = 0.4;

// Calls `onStep(samples)` at each frame and `onEnd(samples)` once; starts with the first key.
export class Steering {
  constructor(canvas, seconds, onStep, onEnd) {
    Object.assign(this, { canvas, seconds, onStep, onEnd });
    this.samples = [{ time: 0, camera: START }];
    this.held = new Set();
    this.look = { yaw: 0, pitch: 0 };
    this.over = new AbortController();
    const options = { signal: this.over.signal };
    canvas.addEventListener("keydown", (event) => this.#key(event, true), options);
    canvas.addEventListener("keyup", (event) => this.#key(event, false), options);
    canvas.addEventListener("pointermove", (event) => this.#pointer(event), options);
    canvas.addEventListener("blur", () => this.end(), options); // or held keys would never be let go
    canvas.focus();
  }

  end() {
    if (this.over.signal.aborted) return;
    this.over.abort();
    this.onEnd(this.samples);
  }

  #key(event, down) {
    if (event.code === "Escape") return this.end();
    if (!(event.code in KEYS)) return;
    event.preventDefault();
    this.held[down ? "add" : "delete"](event.code);
    if (down) this.#begin();
  }

  #pointer(event) {
    if (event.buttons === 0) return;
    this.look.yaw += event.movementX * MOUSE_TURNS_PER_PIXEL;
    this.look.pitch -= event.movementY * MOUSE_TURNS_PER_PIXEL;
    this.#begin();
  }

  #begin() {
    if (this.started !== undefined) return;
    this.started = performance.now();
    requestAnimationFrame(() => this.#step());
  }

  #step() {
    if (this.over.signal.aborted) return;
    const { time: before, camera } = this.samples.at(-1);
    const time = (performance.now() - this.started) / 1000;
    const rates = { ...this.look };
    for (const key of this.held) {
      for (const [name, value] of Object.entries(KEYS[key])) rates[name] = (rates[name] ?? 0) + value;
    }
    this.look = { yaw: 0, pitch: 0 };
    this.samples.push({ time, camera: move(camera, rates, time - before) });
    this.onStep(this.samples);
    if (time >= this.seconds + 1 / FPS) this.end();
    else requestAnimationFrame(() => this.#step());
  }
}
