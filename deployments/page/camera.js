// Camera paths as the API takes them: camera-to-world matrices, x right, y down, z forward.

export const FPS = 16;
// Pixels of an 832x480 image, the convention of the model family.
export const INTRINSICS = [500, 500, 416, 240];
// As a person walks and looks around, no faster than examples/nano was trained on; the presets below stay
// within that too.
const WALK_M_PER_S = 1.0;
const TURN_PER_S = (6 * Math.PI) / 180;
const TILT_PER_S = (5 * Math.PI) / 180;
const LOWEST_M = 1.2; // below where the camera starts; the ground is at 1.6

// A camera that is level but for its pitch.
export const START = { x: 0, y: 0, z: 0, yaw: 0, pitch: 0 };

// Rates in the camera's own frame; speeds are shares of walking and turning.
export function move(camera, rates, seconds) {
  const { right, down, forward, yaw, pitch } = limited(rates);
  const metres = WALK_M_PER_S * seconds;
  const [sin, cos] = [Math.sin(camera.yaw), Math.cos(camera.yaw)];
  return {
    x: camera.x + (right * cos + forward * sin) * metres,
    y: Math.min(LOWEST_M, camera.y + down * metres),
    z: camera.z + (forward * cos - right * sin) * metres,
    yaw: camera.yaw + yaw * TURN_PER_S * seconds,
    pitch: Math.max(-1.2, Math.min(1.2, camera.pitch + pitch * TILT_PER_S * seconds)),
  };
}

// Two keys at once walk no faster, nor does a wide sweep of the mouse turn faster.
function limited({ right = 0, down = 0, forward = 0, yaw = 0, pitch = 0 }) {
  const walk = Math.max(1, Math.hypot(right, down, forward));
  const turn = (rate) => Math.max(-1, Math.min(1, rate));
  return { right: right / walk, down: down / walk, forward: forward / walk, yaw: turn(yaw), pitch: turn(pitch) };
}

// `amount` from -1 to 1: how far it turns, and to which side.
const TURNING = {
  walk: (amount) => ({ forward: Math.sign(amount) || 1, yaw: amount }),
  orbit: (amount) => ({ right: -Math.sign(amount) || -1, yaw: amount }),
  pan: (amount) => ({ yaw: amount }),
};
const STRAIGHT = {
  dolly: () => ({ forward: -1 }),
  rise: () => ({ down: -1 }),
  still: () => ({}),
};
const PRESETS = { ...TURNING, ...STRAIGHT };

export const turns = (name) => name in TURNING;

export function presetPath(name, amount, frames) {
  const rates = PRESETS[name](amount);
  const path = [START];
  while (path.length < frames) path.push(move(path.at(-1), rates, 1 / FPS));
  return path;
}

// The steered path, at the clip's rate and as long as the clip; who stops early stands still.
export function resample(steered, frames) {
  return Array.from({ length: frames }, (_, frame) => {
    const time = frame / FPS;
    const next = steered.findIndex((sample) => sample.time >= time);
    if (next < 0) return steered.at(-1).camera;
    if (next === 0) return steered[0].camera;
    const [a, b] = [steered[next - 1], steered[next]];
    const share = (time - a.time) / (b.time - a.time);
    return blend(a.camera, b.camera, share);
  });
}

function blend(a, b, share) {
  return Object.fromEntries(Object.keys(a).map((name) => [name, a[name] + (b[name] - a[name]) * share]));
}

export function matrix({ x, y, z, yaw, pitch }) {
  const [sy, cy, sp, cp] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
  return [
    [cy, sy * sp, sy * cp, x],
    [0, cp, -sp, y],
    [-sy, cy * sp, cy * cp, z],
    [0, 0, 0, 1],
  ];
}

// The request's `camera`.
export function cameraBody(path) {
  return { poses: path.map(matrix), intrinsics: [INTRINSICS] };
}

// A .npy file of float64 [N, 4, 4], as `numpy.save` writes it.
export function posesFile(path) {
  const values = new Float64Array(path.flatMap((camera) => matrix(camera).flat()));
  const text = `{'descr': '<f8', 'fortran_order': False, 'shape': (${path.length}, 4, 4), }`;
  const padded = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + "\n";
  const head = new Uint8Array([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, padded.length & 255, padded.length >> 8]);
  return new Blob([head, padded, values], { type: "application/octet-stream" });
}
