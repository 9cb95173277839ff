"use strict";
// Draws every figure from the JSON beside it. Expressions are interpreted, not compiled, so that
// the page's policy can forbid code made from text.
(async () => {
  const plots = [...document.querySelectorAll("[data-figure]")];
  const options = {
    ast: true,
    renderer: "svg",
    mode: "vega-lite",
    actions: { export: true, source: false, compiled: false, editor: false },
  };
  let drawn = 0;
  for (const plot of plots) {
    const figure = plot.closest("figure");
    try {
      const spec = JSON.parse(document.getElementById("spec-" + plot.dataset.figure).textContent);
      await vegaEmbed(plot, spec, { ...options, bind: figure.querySelector(".controls") });
      drawn += 1;
    } catch (error) {
      const told = document.createElement("p");
      told.className = "failed";
      told.textContent = "This figure could not be drawn: " + error.message;
      plot.replaceChildren(told);
      console.error(error);
    }
  }
  document.documentElement.dataset.drawn = drawn + "/" + plots.length;
})();
