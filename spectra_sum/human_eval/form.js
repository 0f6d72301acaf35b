"use strict";
const form = document.getElementById("answers");
const worker = document.getElementById("worker");
const message = document.getElementById("message");
const progress = document.getElementById("progress");
const questions = [...form.querySelectorAll("fieldset")];
let unsaved = false;

function chosen(question) {
  const radio = question.querySelector("input:checked");
  return radio ? radio.value : null;
}

function showProgress() {
  const answered = questions.filter(chosen).length;
  progress.textContent = answered + " of " + questions.length + " questions answered.";
}

function say(text, isProblem) {
  message.textContent = text;
  message.classList.toggle("problem", isProblem);
}

// The columns stand in the page; a cell is an id or a digit and needs no quoting.
function table() {
  const columns = form.dataset.columns.split(",");
  const rows = [...form.querySelectorAll(".item")].map((item) => {
    const row = { item_id: item.dataset.item, worker_id: worker.value.trim() };
    for (const question of item.querySelectorAll("fieldset")) row[question.dataset.question] = chosen(question);
    return columns.map((column) => row[column]).join(",");
  });
  return [columns.join(","), ...rows, ""].join("\r\n");
}

function save() {
  const address = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = "answers-" + form.dataset.batch + "-" + worker.value.trim() + ".csv";
  document.body.append(link);
  link.click();
  link.remove();
  // The browser reads the address after this event; a minute is ample.
  setTimeout(() => URL.revokeObjectURL(address), 60000);
  unsaved = false;
  say("Saved as " + link.download + ". Please send us this file.", false);
}

form.addEventListener("change", (event) => {
  unsaved = true;
  const holder = event.target.closest("fieldset") || event.target;
  holder.removeAttribute("aria-invalid");
  showProgress();
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  worker.value = worker.value.trim();
  const open = questions.filter((question) => !chosen(question));
  for (const question of open) question.setAttribute("aria-invalid", "true");
  if (!worker.checkValidity()) worker.setAttribute("aria-invalid", "true");
  const problems = [];
  if (!worker.checkValidity()) problems.push("Please enter your worker id.");
  if (open.length) {
    const items = [...new Set(open.map((question) => question.closest(".item").querySelector("h2").textContent))];
    const shown = items.slice(0, 5).join(", ") + (items.length > 5 ? " and others" : "");
    problems.push("Nothing is saved yet: " + open.length + (open.length === 1 ? " question has" : " questions have") + " no answer (" + shown + ").");
  }
  if (problems.length) {
    say(problems.join(" "), true);
    (worker.checkValidity() ? open[0].querySelector("input") : worker).focus();
    return;
  }
  save();
});

window.addEventListener("beforeunload", (event) => {
  if (unsaved) event.preventDefault();
});

showProgress();
