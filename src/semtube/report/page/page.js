"use strict";
// Draws every figure from the JSON beside it. Expressions are interpreted, not compiled, so that
// the page's policy can forbid code made from text. Figures of a pair are set together: what is
// chosen in one is chosen in the others that have it.
(async () => {
  const plots = [...document.querySelectorAll("[data-figure]")];
  const options = {
    ast: true,
    renderer: "svg",
    mode: "vega-lite",
    actions: { export: true, source: false, compiled: false, editor: false },
  };
  let drawn = 0;
  const pairs = new Map();
  const link = (pair, figure, view) => {
    const members = pairs.get(pair) || [];
    pairs.set(pair, [...members, { figure, view }]);
    for (const select of figure.querySelectorAll(".controls select")) {
      view.addSignalListener(select.name, (name, value) => {
        for (const other of pairs.get(pair)) {
          const options = other.figure.querySelector(`select[name="${name}"]`)?.options || [];
          const has = [...options].some((option) => option.value === value);
          if (has && other.view.signal(name) !== value) other.view.signal(name, value).runAsync();
        }
      });
    }
  };
  for (const plot of plots) {
    const figure = plot.closest("figure");
    try {
      const spec = JSON.parse(document.getElementById("spec-" + plot.dataset.figure).textContent);
      const bind = figure.querySelector(".controls");
      const { view } = await vegaEmbed(plot, spec, { ...options, bind });
      const pair = plot.closest(".pair");
      if (pair) link(pair, figure, view);
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
