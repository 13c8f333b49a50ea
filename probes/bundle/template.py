"""The page around the figures of a report: its frame, its look, and the script that draws them."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; \
style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<header>
<button id="theme" type="button">Dark</button>
<p class="kind">abbie-lens report</p>
<h1>{heading}</h1>
<dl>{facts}</dl>
</header>
<noscript><p>The figures need JavaScript; the tables beside this file hold their numbers.</p></noscript>
<main>{sections}</main>
<footer>{versions}</footer>
<script type="application/json" id="figures">{figures}</script>
<script>{plotly}</script>
<script>{javascript}</script>
</body>
</html>
"""

CSS = """
:root { color-scheme: light; --paper: #ffffff; --ink: #1f2430; --muted: #6b7280; --line: #e1e4ea; --link: #0072b2; }
:root.dark { color-scheme: dark; --paper: #0e1117; --ink: #e6e9ef; --muted: #9aa3b2; --line: #2b3140; --link: #56b4e9; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1040px; padding: 32px 24px 64px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 Inter, system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 26px; font-weight: 600; margin: 0 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 19px; font-weight: 600; margin: 48px 0 8px; padding-top: 16px; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
.kind { margin: 0; color: var(--muted); font-size: 13px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0; font-size: 14px; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
q, code { font-family: "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace; font-size: 13px; }
q::before, q::after { content: none; }
table { border-collapse: collapse; font-size: 14px; margin: 8px 0 16px; }
th { font-weight: 500; text-align: left; color: var(--muted); white-space: nowrap; }
th, td { padding: 3px 16px 3px 0; vertical-align: top; }
td:nth-child(2), td:nth-child(3) { font-variant-numeric: tabular-nums; white-space: nowrap; }
.plot { margin: 16px 0 24px; }
.numbers, footer { color: var(--muted); font-size: 13px; overflow-wrap: anywhere; }
footer { margin-top: 48px; padding-top: 16px; border-top: 1px solid var(--line); }
a { color: var(--link); }
button { float: right; font: inherit; font-size: 13px; color: var(--ink); background: none; cursor: pointer;
  border: 1px solid var(--line); border-radius: 6px; padding: 3px 12px; }
@media print { button { display: none; } body { max-width: none; } .plot { break-inside: avoid; } }
"""

JAVASCRIPT = """
const figures = JSON.parse(document.getElementById("figures").textContent);
const button = document.getElementById("theme");
const preference = matchMedia("(prefers-color-scheme: dark)");
function draw(theme) {
  document.documentElement.classList.toggle("dark", theme === "dark");
  button.textContent = theme === "dark" ? "Light" : "Dark";
  button.onclick = () => draw(theme === "dark" ? "light" : "dark");
  for (const [id, themes] of Object.entries(figures)) {
    const {data, layout} = structuredClone(themes[theme]);
    Plotly.react(id, data, layout, {responsive: true, displaylogo: false});
  }
}
preference.addEventListener("change", () => draw(preference.matches ? "dark" : "light"));
draw(preference.matches ? "dark" : "light");
"""
