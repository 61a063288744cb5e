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
