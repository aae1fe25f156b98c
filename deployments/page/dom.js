// The page's elements by their ids.

export function element(id) {
  return document.getElementById(id);
}

// Shows a text, or hides its place when there is none.
export function tell(id, text = "") {
  element(id).textContent = text;
  element(id).hidden = text === "";
}
