// Contrast of two colours after WCAG 2.2, and what it allows.

const RULES = [
  ["AA, normal text", 4.5],
  ["AA, large text", 3],
  ["AAA, normal text", 7],
  ["AAA, large text", 4.5],
  ["AA, icons and borders", 3],
];

function luminance(colour) {
  const channels = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255);
  const [r, g, b] = channels.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

const text = document.getElementById("text");
const background = document.getElementById("background");

function show() {
  const ratio = contrast(text.value, background.value);
  const preview = document.getElementById("preview");
  preview.style.color = text.value;
  preview.style.background = background.value;
  document.getElementById("ratio").textContent = (Math.floor(ratio * 100) / 100).toFixed(2);
  document.getElementById("results").replaceChildren(...RULES.map(([name, least]) => {
    const item = document.createElement("li");
    const word = document.createElement("span");
    word.className = ratio >= least ? "pass" : "fail";
    word.textContent = ratio >= least ? "passes" : "fails";
    item.append(name, word);
    return item;
  }));
}

function changed() {
  history.replaceState(null, "", `#${text.value.slice(1)}-${background.value.slice(1)}`);
  show();
}

function fromAddress() {
  const match = /^#([0-9a-f]{6})-([0-9a-f]{6})$/i.exec(location.hash);
  if (match) [text.value, background.value] = [`#${match[1]}`, `#${match[2]}`];
  show();
}

text.addEventListener("input", changed);
background.addEventListener("input", changed);
document.getElementById("swap").addEventListener("click", () => {
  [text.value, background.value] = [background.value, text.value];
  changed();
});
addEventListener("hashchange", fromAddress);
fromAddress();
