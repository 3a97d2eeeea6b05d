"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const requirements = [...document.querySelectorAll(".requirement")];
  const profiles = [...document.querySelectorAll(".profile")];
  const chosen = { status: byId("status"), profile: byId("profile"), level: byId("level") };
  const search = byId("search");
  const texts = new Map();

  const textOf = (each) => {
    if (!texts.has(each)) texts.set(each, each.textContent.toLowerCase());
    return texts.get(each);
  };

  const matches = (each, words) =>
    Object.entries(chosen).every(([of, { value }]) => !value || value.split(" ").includes(each.dataset[of])) &&
    words.every((word) => textOf(each).includes(word));

  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const each of requirements) each.hidden = !matches(each, words);
    for (const each of profiles) each.hidden = !each.querySelector(".requirement:not([hidden])");
    const left = requirements.filter((each) => !each.hidden).length;
    const note = words.length ? " The search sees what is on this page; report.json names every subject." : "";
    byId("found").textContent =
      left === requirements.length ? "" : `The filter shows ${left} of ${requirements.length} requirements.${note}`;
  };

  const setAll = (open) => {
    for (const each of requirements) if (!each.hidden) each.open = open;
  };

  // Where a link inside the page leads to a requirement, it is shown and opened, whatever the filter says.
  const reveal = () => {
    const target = location.hash.length > 1 && byId(decodeURIComponent(location.hash.slice(1)));
    const requirement = target && target.closest(".requirement");
    if (!requirement) return;
    if (requirement.hidden) {
      byId("filter").reset();
      apply();
    }
    requirement.open = true;
    requirement.scrollIntoView();
    requirement.querySelector("summary").focus({ preventScroll: true });
  };

  const copyOf = async (code) => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      return true;
    } catch {
      getSelection().selectAllChildren(code);
      return document.execCommand("copy");
    }
  };

  const addCopyButton = (command) => {
    const code = command.querySelector("code");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy the command ${code.textContent}`);
    button.addEventListener("click", async () => {
      const said = (await copyOf(code)) ? "Copied" : "Selected: press Ctrl+C";
      button.textContent = said;
      byId("said").textContent = said;
      setTimeout(() => { button.textContent = "Copy"; byId("said").textContent = ""; }, 2000);
    });
    command.append(button);
  };

  for (const command of document.querySelectorAll(".command")) addCopyButton(command);
  byId("filter").hidden = false;
  byId("filter").addEventListener("input", apply);
  byId("filter").addEventListener("submit", (event) => event.preventDefault());
  byId("open").addEventListener("click", () => setAll(true));
  byId("close").addEventListener("click", () => setAll(false));
  addEventListener("hashchange", reveal);
  reveal();

  // A print shows all that was judged, of long lists of names the ends, and steps of scenarios that passed where they were
  // opened; what was closed before is closed again.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open]):not(.brief)")];
    for (const each of opened) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of opened) each.open = false;
  });
})();
