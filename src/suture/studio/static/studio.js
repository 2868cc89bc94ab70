"use strict";
// Everything works without this file; with it, looks follow the controls and runs report by themselves.

function liveLook(form) {
  const target = document.getElementById("looked"), heard = document.getElementById("heard");
  let wanted = null, busy = false, timer = 0;

  async function ask() {
    if (busy || wanted === null) return;
    const query = wanted;
    wanted = null;
    busy = true;
    target.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(`${form.action}?${query}&part=1`);
      target.innerHTML = await answer.text();
      heard.textContent = target.querySelector(".said, .mistake")?.textContent.trim() ?? "";
      history.replaceState(null, "", `${form.action}?${query}`);
    } catch {
      target.textContent = "The studio does not answer: it has ended, or the machine is busy.";
    }
    busy = false;
    target.setAttribute("aria-busy", wanted === null ? "false" : "true");
    ask(); // of several changes meanwhile only the last
  }

  function changed() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      wanted = new URLSearchParams(new FormData(form)).toString();
      ask();
    }, 350);
  }

  form.addEventListener("change", changed);
  form.addEventListener("submit", (event) => { event.preventDefault(); changed(); });
  radius(form, changed);
}

function radius(form, changed) {
  const [eps, slider, norm, attack] = ["eps", "slider", "norm", "attack"].map((name) => form.querySelector(`[data-${name}]`));
  const value = (text) => {
    const [over, under = "1"] = text.split("/");
    return Number(over) / Number(under);
  };
  const follow = () => {
    slider.max = norm.selectedOptions[0].dataset.most;
    slider.step = norm.value === "l0" ? 1 : slider.max / 200;
    slider.value = value(eps.value) || 0;
  };
  const norms = () => {
    const known = attack.selectedOptions[0].dataset.norms.split(" ").filter(Boolean);
    for (const option of norm.options) option.disabled = known.length > 0 && !known.includes(option.value);
    if (norm.selectedOptions[0].disabled) norm.value = known[0];
    follow();
  };
  slider.addEventListener("input", () => { eps.value = Number(Number(slider.value).toPrecision(3)); changed(); });
  eps.addEventListener("input", follow);
  norm.addEventListener("change", follow);
  attack.addEventListener("change", norms);
  norms();
}

function watched(section) {
  const part = (name) => section.querySelector(`[data-${name}]`);
  const look = async () => {
    const answer = await fetch(section.dataset.watch);
    if (!answer.ok) throw new Error(answer.statusText);
    const told = await answer.json();
    if (part("status").textContent !== told.status) part("status").textContent = told.status;
    part("words").textContent = told.words;
    part("bar").max = told.total || 1;
    part("bar").value = told.total ? told.done : told.status === "finished" ? 1 : 0;
    if (part("log") && part("log").textContent !== told.log) {
      part("log").textContent = told.log;
      part("log").scrollTop = part("log").scrollHeight;
    }
    if (told.live) setTimeout(again, 1000);
    else location.reload(); // its buttons and its report are others now
  };
  const again = () => look().catch(() => { part("words").textContent = "The studio does not answer any more."; });
  again();
}

function needsTwo(button) {
  const form = button.closest("form");
  const count = () => { button.disabled = form.querySelectorAll("input[name=run]:checked").length < 2; };
  form.addEventListener("change", count);
  count();
}

function timedMethods(select) {
  const minutes = select.form.querySelector("[data-minutes]");
  const count = () => {
    minutes.disabled = select.selectedOptions[0].dataset.timed !== "yes";
    if (minutes.disabled) minutes.value = "";
  };
  select.addEventListener("change", count);
  count();
}

document.querySelectorAll("[data-look]").forEach(liveLook);
document.querySelectorAll("[data-watch][data-live=yes]").forEach(watched);
document.querySelectorAll("[data-needs-two]").forEach(needsTwo);
document.querySelectorAll("[data-method]").forEach(timedMethods);
