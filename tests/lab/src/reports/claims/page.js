"use strict";
const text = document.getElementById("text");
const boxes = [...document.querySelectorAll(".filters input[type=checkbox]")];
function show() {
  const words = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  const wanted = text.value.toLowerCase();
  let shown = 0;
  for (const section of document.querySelectorAll("section")) {
    let any = false;
    for (const row of section.querySelectorAll("tbody tr")) {
      const fits = row.dataset.name.toLowerCase().includes(wanted)
        && row.dataset.words.split(" ").some((word) => words.has(word));
      row.hidden = !fits;
      any ||= fits;
      shown += fits;
    }
    section.hidden = !any;
  }
  document.getElementById("shown").textContent = shown + " lines";
}
text.addEventListener("input", show);
for (const box of boxes) box.addEventListener("change", show);
show();
