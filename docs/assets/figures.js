// Draws the figures of a page in the theme of the page, and again when that changes.
function drawFigures() {
  const dark = document.body.getAttribute("data-md-color-scheme") === "slate";
  for (const place of document.querySelectorAll("div.figure[data-light]")) {
    const name = (dark && place.dataset.dark) || place.dataset.light;
    const figure = JSON.parse(document.getElementById(name).textContent);
    Plotly.react(place, figure.data, { ...figure.layout, autosize: true, width: null }, {
      responsive: true, displaylogo: false, displayModeBar: false,
    });
  }
}
document.addEventListener("DOMContentLoaded", () => {
  drawFigures();
  new MutationObserver(drawFigures).observe(document.body, { attributeFilter: ["data-md-color-scheme"] });
});
