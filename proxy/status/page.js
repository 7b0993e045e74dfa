"use strict";
// Every two seconds the page is asked for again, and its figures replace those shown. What comes is made safe where it is made:
// nothing is put together here.
(() => {
  const lost = document.getElementById("lost");
  const again = async () => {
    try {
      // Not under somebody's selection, nor for nobody.
      if (!document.hidden && getSelection().isCollapsed) {
        const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(5000) });
        if (!answer.ok) throw new Error(answer.status);
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        const main = fresh.querySelector("main");
        if (!main) throw new Error("no page");
        const was = [...document.querySelectorAll(".scroll")].map((e) => e.scrollLeft);
        document.querySelector("main").replaceWith(main);
        document.querySelectorAll(".scroll").forEach((e, i) => { e.scrollLeft = was[i] || 0; });
        document.title = fresh.title;
        document.documentElement.dataset.live = String(Number(document.documentElement.dataset.live || 0) + 1);
        lost.hidden = true;
      }
    } catch {
      if (lost.hidden) lost.querySelector("span").textContent = new Date().toLocaleTimeString();
      lost.hidden = false;
      document.title = "No answer · questdb-ilp-proxy";
    }
    setTimeout(again, 2000);
  };
  setTimeout(again, 2000);
})();
