// What the page does beside htmx: it keeps the keyboard's place, says when nobody answers, and draws charts.
"use strict";

document.addEventListener("htmx:afterSettle", () => {
  // The form that was sent may have gone with its item: the next Tab then begins at the list, not at the top.
  const list = document.getElementById("list-title");
  if (list && (!document.activeElement || document.activeElement === document.body)) list.focus({ preventScroll: true });
});

for (const event of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(event, () => {
    const told = document.createElement("p");
    told.className = "fault";
    told.textContent = "The service does not answer.";
    document.getElementById("message").replaceChildren(told);
  });
}

// ---- charts: the numbers are in the attribute data-chart, and in a table beside ----

const colours = ["--bar", "--minus", "--field", "--good"];
const drawn = new Map();

function draw(node) {
  const of = JSON.parse(node.dataset.chart);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--rule"), width: 1 }, ticks: { stroke: colour("--rule") } };
  const short = (value) => Number(value.toPrecision(4)).toString();
  node.replaceChildren();
  drawn.set(node, new uPlot({
    width: node.clientWidth,
    height: 230,
    scales: { x: { time: false } },
    legend: { live: false },
    cursor: { drag: { x: false, y: false } },
    axes: [
      { ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] },
      { ...axis, size: 64, values: (plot, at) => at.map(short) },
    ],
    series: [
      { label: of.x_name },
      ...of.lines.map((line, n) => ({
        label: line.name,
        stroke: colour(colours[n % colours.length]),
        width: n ? 1.5 : 2.5,
        dash: n ? [5, 4] : undefined,
        points: { show: of.x.length < 30 },
        spanGaps: true,
      })),
    ],
  }, [of.x, ...of.lines.map((line) => line.values)], node));
}

function drawAll() {
  for (const node of drawn.keys()) if (!node.isConnected) drawn.delete(node);
  for (const node of document.querySelectorAll("[data-chart]")) if (!drawn.has(node)) draw(node);
}

if (typeof uPlot !== "undefined") {
  drawAll();
  document.addEventListener("htmx:afterSettle", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawn.clear(); drawAll(); });
  addEventListener("resize", () => {
    for (const [node, plot] of drawn) plot.setSize({ width: node.clientWidth, height: 230 });
  });
}
