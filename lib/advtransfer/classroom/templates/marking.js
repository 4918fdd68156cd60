"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const told = document.getElementById("told");
  const number = /^(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)$/;
  const column = name => data.header.indexOf(name);
  const nameOf = (student, exercise) => JSON.stringify([student, exercise]);
  const rows = new Map(data.rows.map(row => [nameOf(row[column("student")].trim().normalize("NFC"),
    row[column("exercise")].trim()), row]));
  const fields = [...document.querySelectorAll("article input:not([type=checkbox]), article textarea")];
  const points = fields.filter(field => field.name === "points");
  let unsaved = false;

  // What was typed is also kept by the browser, where it allows that, in case it is closed by mistake.
  const drafts = {
    read() { try { return JSON.parse(localStorage.getItem(data.key) || "{}"); } catch { return {}; } },
    write(kept) { try { localStorage.setItem(data.key, JSON.stringify(kept)); } catch { /* not allowed here */ } },
  };
  const article = field => field.closest("article");
  const nameIn = field => nameOf(article(field).dataset.student, article(field).dataset.exercise);
  const draftOf = field => `${nameIn(field)} ${field.name}`;
  const stored = new Map();  // the value of each field in marks.csv, as this page was written

  function rowOf(field) {
    const name = nameIn(field);
    if (!rows.has(name)) {
      const row = data.header.map(() => "");
      row[column("student")] = article(field).dataset.student;
      row[column("exercise")] = article(field).dataset.exercise;
      data.rows.push(row);
      rows.set(name, row);
    }
    return rows.get(name);
  }

  function check(field) {
    const text = field.value.trim();
    const most = field.name === "points" ? Number(article(field).dataset.most) : Infinity;
    const wrong = field.name !== "comment" && text !== ""
      && !(number.test(text) && Number(text.replace(",", ".")) <= most);
    field.setAttribute("aria-invalid", String(wrong));
    field.title = wrong ? `expected a number${most < Infinity ? ` from 0 to ${most} (more is a bonus)` : ""}` : "";
    return !wrong;
  }

  function take(field) {
    const row = rowOf(field);
    row[column(field.name)] = field.value;
    if (field.name === "points") row[column("answer")] = article(field).dataset.version;
    check(field);
  }

  const marked = field => field.value.trim() !== "" && check(field);

  function show() {
    const open = points.filter(field => !marked(field)).length;
    document.getElementById("progress").textContent = `${points.length - open} of ${points.length} answers marked`;
  }

  function edited(field) {
    take(field);
    unsaved = true;
    told.textContent = "";
    const draft = [field.value, stored.get(field), article(field).dataset.version];
    drafts.write({ ...drafts.read(), [draftOf(field)]: draft });
    show();
  }

  const restored = drafts.read();
  for (const field of fields) {
    const row = rows.get(nameIn(field));
    field.value = row ? row[column(field.name)] : "";
    stored.set(field, field.value);
    const [typed, before, version] = restored[draftOf(field)] || [];
    if (before !== field.value || version !== article(field).dataset.version) {
      delete restored[draftOf(field)];  // of another mark or another answer
    } else if (typed !== before) {
      field.value = typed;
      take(field);
      unsaved = true;
    }
    check(field);
    field.addEventListener("input", () => edited(field));
  }
  drafts.write(restored);
  if (unsaved) told.textContent = "What you had typed, and marks.csv does not hold yet, is here again.";
  for (const box of document.querySelectorAll("[name=stands]")) {
    box.addEventListener("change", () => {
      const field = article(box).querySelector("[name=points]");
      const row = rowOf(field);
      if (!("before" in box.dataset)) box.dataset.before = row[column("answer")];
      row[column("answer")] = box.checked ? article(box).dataset.version : box.dataset.before;
      unsaved = true;
    });
  }

  function text() {
    const cell = value => /[",;\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
    return "\ufeff" + [data.header, ...data.rows].map(row => row.map(cell).join(",") + "\r\n").join("");
  }

  function save() {
    const wrong = fields.find(field => !check(field));
    if (wrong) {
      told.textContent = "Not saved: a box in red holds no number, or too many points.";
      wrong.focus();
      return;
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text()], { type: "text/csv" }));
    link.download = "marks.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    unsaved = false;  // the drafts stay until marks.csv holds them: a download may be cancelled
    told.textContent = "Saved among your downloads.";
  }

  function go(field) {
    if (!field) return;
    field.focus();
    if (field.select) field.select();
    article(field).scrollIntoView({ block: "nearest" });
  }

  function nextOpen(from) {
    const start = from ? points.findIndex(field => article(field) === from) + 1 : 0;
    const order = [...points.slice(start), ...points.slice(0, start)];
    go(order.find(field => !marked(field)) || points[start]);
  }

  document.getElementById("save").addEventListener("click", save);
  document.getElementById("next").addEventListener("click", () => nextOpen(null));
  document.addEventListener("keydown", event => {
    const here = event.target.closest("article");
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") {
      event.preventDefault();
      save();
    } else if (here && event.key === "Enter" && !event.isComposing
        && (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      nextOpen(here);
    } else if (here && event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      const all = [...document.querySelectorAll("article")];
      const other = all[all.indexOf(here) + (event.key === "ArrowDown" ? 1 : -1)];
      if (other) go(other.querySelector("input:not([type=checkbox]), textarea"));
    }
  });
  window.addEventListener("beforeunload", event => { if (unsaved) event.preventDefault(); });
  show();
})();
