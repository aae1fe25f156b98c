// The form: what is asked for. `job.js` shows what becomes of it.

import { ApiError, apiKey, createVideo, readiness, recentVideos } from "./api.js";
import { FPS, cameraBody, posesFile, presetPath, resample, turns } from "./camera.js";
import { element, tell } from "./dom.js";
import { readExample } from "./example.js";
import { picture, takeDropped, takePicture } from "./first_frame.js";
import { showJob } from "./job.js";
import { save } from "./snippets.js";
import { Steering } from "./steering.js";
import { draw } from "./wireframe.js";

const READY_EVERY_MS = 5000;
let steered = null; // samples of the last steered path
let steering = null;

const numFrames = () => Number(element("frames").value) || 33;

function path() {
  if (element("preset").value === "steered" && steered) return resample(steered, numFrames());
  const preset = element("preset").value === "steered" ? "still" : element("preset").value;
  return presetPath(preset, Number(element("amount").value) / 100, numFrames());
}

function redraw() {
  element("amount").disabled = !turns(element("preset").value);
  draw(element("wireframe"), path());
}

function steer() {
  if (steering) return steering.end();
  element("steer").setAttribute("aria-pressed", "true");
  const follow = (samples) => draw(element("wireframe"), samples.map((s) => s.camera), samples.at(-1).camera);
  steering = new Steering(element("wireframe"), numFrames() / FPS, follow, (samples) => {
    steering = null;
    steered = samples;
    element("steer").setAttribute("aria-pressed", "false");
    element("preset").value = "steered";
    redraw();
  });
}

async function makeExample() {
  tell("form-error");
  try {
    const { image, ...fields } = await readExample();
    await takePicture(image);
    const served = { size: "", steps: "", seed: "" };
    for (const [id, value] of Object.entries({ ...served, ...fields })) element(id).value = value;
    redraw();
    element("request").requestSubmit();
  } catch (error) {
    refuse(error);
  }
}

function requestBody() {
  const number = (id) => (element(id).value === "" ? undefined : Number(element(id).value));
  const body = {
    prompt: element("prompt").value,
    input_reference: picture() ? { image_url: picture() } : undefined,
    size: element("size").value || undefined,
    num_frames: numFrames(),
    num_inference_steps: number("steps"),
    seed: number("seed"),
    camera: element("preset").value === "still" ? undefined : cameraBody(path()),
  };
  return JSON.parse(JSON.stringify(body)); // without what is undefined
}

async function submit(event) {
  event.preventDefault();
  tell("form-error");
  element("submit").disabled = true;
  try {
    const body = requestBody();
    const video = await createVideo(body);
    showJob(video, body).finally(listRecent);
    listRecent();
  } catch (error) {
    refuse(error);
  } finally {
    element("submit").disabled = false;
  }
}

function refuse(error) {
  if (error instanceof ApiError && error.status === 401) element("key-box").open = true;
  tell("form-error", error.param ? `${error.param}: ${error.message}` : error.message);
}

async function listRecent() {
  let videos;
  try {
    videos = await recentVideos();
  } catch (error) {
    return refuse(error);
  }
  element("recent-none").hidden = videos.length > 0;
  element("recent").replaceChildren(
    ...videos.map((video) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${video.status}: ${video.prompt}`;
      button.onclick = () => showJob(video, null);
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
}

async function tellReadiness() {
  try {
    const { status, reasons } = await readiness();
    tell("server", status === "ready" ? "The server is ready." : `Not ready yet. ${reasons.join("; ")}`);
  } catch {
    tell("server", "The server does not answer.");
  }
  setTimeout(tellReadiness, READY_EVERY_MS);
}

function listen() {
  takeDropped();
  for (const id of ["preset", "amount", "frames"]) element(id).addEventListener("input", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  element("steer").onclick = steer;
  element("wireframe").addEventListener("keydown", (event) => event.key === "Enter" && !steering && steer());
  element("save-poses").onclick = () => save("poses.npy", posesFile(path()));
  element("request").onsubmit = submit;
  element("example").onclick = makeExample;
  element("key").value = apiKey.get();
  element("key").onchange = (event) => {
    apiKey.set(event.target.value);
    tell("form-error");
    listRecent();
  };
}

listen();
redraw();
tellReadiness();
listRecent();
