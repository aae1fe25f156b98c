// The picture that a video begins with: chosen, dropped, or that of the example.

import { element } from "./dom.js";

let taken = null;

// As a data URL; null before there is one.
export const picture = () => taken;

export async function takePicture(file) {
  if (!file) return;
  taken = await dataUrl(file);
  const preview = element("image-preview");
  preview.src = taken;
  preview.alt = `First frame: ${file.name}`;
  preview.hidden = false;
}

export function takeDropped() {
  const drop = element("drop");
  element("image").onchange = (event) => takePicture(event.target.files[0]);
  for (const [kind, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", over);
      if (kind === "drop") takePicture(event.dataTransfer.files[0]);
    });
  }
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
