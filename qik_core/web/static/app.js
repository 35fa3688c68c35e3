// What HTML cannot do alone. Every page works without it.
"use strict";
const offline = (is) => { document.getElementById("offline").hidden = !is; };
// Parts of a page come anew, so what only scripts can do is shown whenever some came.
const ready = () => {
  for (const each of document.querySelectorAll("#all")) each.hidden = false;
  for (const each of document.querySelectorAll(".copy")) each.hidden = !navigator.clipboard;
};
document.addEventListener("htmx:error", () => offline(true));
document.addEventListener("htmx:before:response", () => offline(false));

// An error comes only when a deadline has passed. Who lets a page wait is named before that.
const LATE = 700;
const waits = new Map(), late = new Set();
const sayLate = () => {
  const said = document.getElementById("late");
  said.hidden = !late.size;
  said.textContent = late.size ? `No answer yet from ${[...late].join(", ")}.` : "";
};
const answered = (event) => {
  const name = event.detail?.ctx?.sourceElement?.dataset.asks;
  clearTimeout(waits.get(name));
  if (late.delete(name)) sayLate();
};
document.addEventListener("htmx:before:request", (event) => {
  const by = event.detail.ctx.sourceElement, name = by.dataset.asks;
  clearTimeout(waits.get(name));
  if (!name || by.querySelector("[role=alert]")) return;  // it tells of an error already
  waits.set(name, setTimeout(() => { late.add(name); sayLate(); }, LATE));
});
for (const each of ["htmx:error", "htmx:before:response"]) document.addEventListener(each, answered);

document.addEventListener("htmx:after:swap", ready);
document.addEventListener("change", (event) => {
  if (event.target.id !== "all") return;
  for (const each of document.querySelectorAll('input[name="job"]')) each.checked = event.target.checked;
});
document.addEventListener("click", async (event) => {
  const button = event.target.closest(".copy");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = "Copied";
});
document.addEventListener("keydown", (event) => {
  const box = document.getElementById("where");
  const writes = event.target.closest("input, textarea, select");
  if (event.key === "/" && box && !writes && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    box.focus();
  }
});
ready();

// Charts: drawn from the same page as JSON, again every 10 seconds. The page has their numbers as tables.
const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 16);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const took = (seconds) => seconds == null ? "nothing" : seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
const bars = (label, name) => ({ label, stroke: colour(name), fill: colour(name), paths: uPlot.paths.bars({ size: [0.8, 24] }), points: { show: false } });

const deploysOf = (deploys) => (chart) => {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colour("--warn");
  ctx.lineWidth = 2 * devicePixelRatio;
  ctx.textAlign = "right";
  for (const each of deploys) {
    const x = Math.round(chart.valToPos(Date.parse(each.at) / 1000, "x", true));
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    if (x - bbox.left > 60) ctx.fillText(each.label.slice(0, 20), x - 4, bbox.top + 12 * devicePixelRatio);
  }
  ctx.restore();
};

const kinds = {
  runs: (seen) => ({
    data: [seen.points.map((each) => Date.parse(each.at) / 1000), seen.points.map((each) => each.processed), seen.points.map((each) => each.failed)],
    series: [bars("Runs", "--link"), bars("Failed", "--bad")],
    read: (at) => `${clock(Date.parse(seen.points[at].at) / 1000)} UTC: ${seen.points[at].processed} runs, ${seen.points[at].failed} failed`,
    deploys: seen.deploys,
  }),
  mean: (seen) => ({
    data: [seen.points.map((each) => Date.parse(each.at) / 1000), seen.points.map((each) => each.mean)],
    series: [{ label: "Mean time", stroke: colour("--link"), width: 2 }],
    values: (_, ticks) => ticks.map(took),
    read: (at) => `${clock(Date.parse(seen.points[at].at) / 1000)} UTC: ${took(seen.points[at].mean)}`,
    deploys: seen.deploys,
  }),
  histogram: (seen) => ({
    data: [seen.histogram.map((_, at) => at), seen.histogram.map((each) => each.runs)],
    series: [bars("Runs", "--link")],
    labels: (_, ticks) => ticks.map((at) => seen.histogram[at]?.label ?? ""),
    read: (at) => `${seen.histogram[at].label}: ${seen.histogram[at].runs} runs`,
    deploys: [],
  }),
};

const plot = (place, given) => {
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  const half = (given.data[0][1] - given.data[0][0] || 60) / 2;  // a bar stands half before and half behind its place
  return new uPlot({
    width: place.clientWidth, height: 180, legend: { show: false }, series: [{}, ...given.series],
    cursor: { drag: { x: false, y: false } },
    scales: { x: { time: !given.labels, range: (_, low, high) => [low - half, high + half] }, y: { range: (_, low, high) => [0, (high || 1) * 1.1] } },
    axes: [{ ...axis, values: given.labels ?? ((_, ticks) => ticks.map(clock)) }, { ...axis, size: 60, values: given.values }],
    hooks: {
      draw: [deploysOf(given.deploys)],
      setCursor: [(chart) => { if (chart.cursor.idx != null) document.getElementById("reading").textContent = given.read(chart.cursor.idx); }],
    },
  }, given.data, place);
};

const charts = document.getElementById("charts");
if (charts) {
  let seen = null, plots = [];
  const draw = () => {
    if (!seen) return;
    for (const each of plots) each.destroy();
    charts.hidden = false;
    plots = [...charts.querySelectorAll(".chart")].map((place) => plot(place, kinds[place.dataset.chart](seen)));
  };
  const look = async () => {
    const answer = await fetch(charts.dataset.from, { signal: AbortSignal.timeout(2500) }).catch(() => null);
    if (!answer?.ok) return;  // the page itself says why
    seen = await answer.json();
    draw();
  };
  look();
  setInterval(look, 10000);
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
