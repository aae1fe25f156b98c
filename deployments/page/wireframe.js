// A live wireframe of a camera path: from outside while it is looked at, from within while steered.

import { matrix } from "./camera.js";

const EYE_HEIGHT_M = 1.6;
const NEAR_M = 0.05;
const GRID_M = 12;

export function draw(canvas, path, eye = null) {
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.lineWidth = 1;
  const view = viewer(canvas, eye ?? overview(path));
  const ground = style.getPropertyValue("--grid"), accent = style.getPropertyValue("--accent");
  for (let at = -GRID_M; at <= GRID_M; at += 2) {
    line(context, view, [at, EYE_HEIGHT_M, -GRID_M], [at, EYE_HEIGHT_M, GRID_M], ground);
    line(context, view, [-GRID_M, EYE_HEIGHT_M, at], [GRID_M, EYE_HEIGHT_M, at], ground);
  }
  for (let index = 1; index < path.length; index++) {
    line(context, view, place(path[index - 1]), place(path[index]), accent, 3);
  }
  const shown = path.filter((_, index) => index % 8 === 0 || index === path.length - 1);
  for (const camera of shown) frustum(context, view, camera, style.color);
}

const place = ({ x, y, z }) => [x, y, z];

// Above and behind, far enough for all of the path.
function overview(path) {
  const xs = path.map((camera) => camera.x), zs = path.map((camera) => camera.z);
  const [x, z] = [(Math.min(...xs) + Math.max(...xs)) / 2, (Math.min(...zs) + Math.max(...zs)) / 2];
  const extent = Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...zs) - Math.min(...zs), 2);
  return { x, y: -1.1 * extent - 0.6, z: z - 1.7 * extent - 1.2, yaw: 0, pitch: -0.55 };
}

// From world to pixels by way of the eye's axes; null behind the eye.
function viewer(canvas, eye) {
  const pose = matrix(eye);
  const focal = canvas.width * 0.6;
  const local = (point) => {
    const offset = point.map((value, axis) => value - pose[axis][3]);
    return [0, 1, 2].map((column) => offset.reduce((sum, value, row) => sum + value * pose[row][column], 0));
  };
  const project = ([x, y, z]) => [canvas.width / 2 + (focal * x) / z, canvas.height / 2 + (focal * y) / z];
  return { local, project };
}

function line(context, { local, project }, from, to, colour, width = 1) {
  let [a, b] = [local(from), local(to)];
  if (a[2] < NEAR_M && b[2] < NEAR_M) return;
  if (a[2] < NEAR_M) a = clip(b, a);
  if (b[2] < NEAR_M) b = clip(a, b);
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(...project(a));
  context.lineTo(...project(b));
  context.stroke();
}

function clip(front, behind) {
  const share = (front[2] - NEAR_M) / (front[2] - behind[2]);
  return front.map((value, axis) => value + (behind[axis] - value) * share);
}

function frustum(context, view, camera, colour) {
  const pose = matrix(camera);
  const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([x, y]) => world(pose, [0.3 * x, 0.17 * y, 0.36]));
  corners.forEach((corner, index) => {
    line(context, view, place(camera), corner, colour);
    line(context, view, corner, corners[(index + 1) % 4], colour);
  });
}

const world = (pose, point) =>
  [0, 1, 2].map((row) => pose[row][3] + point.reduce((sum, value, column) => sum + pose[row][column] * value, 0));
