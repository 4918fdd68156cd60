// On paper pages are light, whatever the screen shows.
(() => {
  const page = document.documentElement;
  let shown;
  addEventListener("beforeprint", () => { shown = page.dataset.theme; page.dataset.theme = "light"; });
  addEventListener("afterprint", () => { page.dataset.theme = shown; });
})();

// What is wider than the page scrolls in a box of its own: a keyboard can reach the boxes that do.
(() => {
  const boxes = () => document.querySelectorAll(".pst-scrollable-table-container, div.math > mjx-container");
  const update = () => {
    for (const box of boxes()) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  addEventListener("load", update);
  addEventListener("resize", update);
})();
