"use strict";
// Shows the value nearest to the pointer; without it the browser shows it on a point.
(() => {
  const tip = document.getElementById("tip");
  const reach = 40;
  let near = null;

  const leave = () => {
    if (near) near.classList.remove("near");
    near = null;
    tip.style.display = "none";
  };

  const show = (mark, event) => {
    if (near !== mark) {
      leave();
      near = mark;
      mark.classList.add("near");
      tip.textContent = mark.dataset.text;
    }
    tip.style.display = "block";
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, room)) + "px";
    const above = event.clientY - tip.offsetHeight - 10;
    tip.style.top = (above > 4 ? above : event.clientY + 18) + "px";
  };

  for (const svg of document.querySelectorAll(".chart svg")) {
    const marks = [...svg.querySelectorAll("circle, .bar path")];
    for (const mark of marks) {
      const title = mark.querySelector("title");
      mark.dataset.text = title.textContent;
      title.remove();
    }
    const dots = marks.filter((mark) => mark.tagName === "circle");
    const find = (event) => {
      const over = event.target;
      if (over.dataset && over.dataset.text) return over;
      const at = new DOMPoint(event.clientX, event.clientY)
        .matrixTransform(svg.getScreenCTM().inverse());
      let best = null;
      let least = reach;
      for (const dot of dots) {
        const far = Math.hypot(dot.cx.baseVal.value - at.x, dot.cy.baseVal.value - at.y);
        if (far < least) [least, best] = [far, dot];
      }
      return best;
    };
    const move = (event) => {
      const mark = find(event);
      if (mark) show(mark, event);
      else leave();
    };
    svg.addEventListener("pointermove", move);
    svg.addEventListener("pointerdown", move);
    svg.addEventListener("pointerleave", leave);
  }

  const open = () => document.querySelectorAll("details").forEach((one) => { one.open = true; });
  window.addEventListener("beforeprint", open);
  document.documentElement.dataset.ready = "yes";
})();
