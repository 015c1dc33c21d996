"use strict";
// The rows of the page, as Python's `pack` wrote them, and how values are written.

const { html, render, useEffect, useRef, useState } = htmPreact;

function unpack({ count, columns }) {
  const rows = Array.from({ length: count }, () => ({}));
  for (const [key, column] of Object.entries(columns)) {
    if (Array.isArray(column)) rows.forEach((row, i) => (row[key] = column[i]));
    else if (column.at) rows.forEach((row, i) => (row[key] = column.values[column.at[i]]));
    else {
      const inner = unpack(column.rows);
      let from = 0;
      rows.forEach((row, i) => (row[key] = inner.slice(from, (from += column.counts[i]))));
    }
  }
  return rows;
}

const DATA = JSON.parse(document.getElementById("data").textContent);
const STUDIES = unpack(DATA.tables.studies);
const RANKING = unpack(DATA.tables.ranking);
const CELLS = unpack(DATA.tables.cells);
const SOLVERS = unpack(DATA.tables.solvers);
const CARDS = new Map(unpack(DATA.tables.cards).map((card) => [card.model, card]));
const SCORED = ["zero-shot", "fine-tune"];
const SHIFTS = ["none", "mild", "med", "large"];

const natural = new Intl.Collator("en", { numeric: true }).compare;
const unique = (values) => [...new Set(values)];
const byName = Object.fromEntries(STUDIES.map((study) => [study.study, study]));
const sizeClass = (count) =>
  count == null ? "unknown" : count < 1e5 ? "below 100,000" : count < 1e6 ? "100,000 to 1 million" : "1 million and more";
const SIZES = ["below 100,000", "100,000 to 1 million", "1 million and more", "unknown"];

for (const row of [...RANKING, ...CELLS, ...SOLVERS]) {
  const { suite, profile, version, superseded } = byName[row.study];
  Object.assign(row, { suite, profile, version, superseded, size: sizeClass(row.parameters) });
}
const VERIFIES = DATA.columns.ranking.some(({ key }) => key === "verified");
const STANDING = new Map(RANKING.map((row) => [`${row.study}/${row.model}`, row]));
for (const row of [...RANKING, ...CELLS]) {
  const { verified = "claimed" } = STANDING.get(`${row.study}/${row.model}`);
  Object.assign(row, { verified, tier: verified.split(":")[0] });
}
for (const row of CELLS) {
  row.id = [row.suite, `v${row.version}`, row.profile, row.model, row.task, row.arm, row.n].join("/");
}
const CELL = new Map(CELLS.map((row) => [row.id, row]));
const MODELS = unique(RANKING.map((row) => row.model)).sort(natural);

// What a row's shading compares it with, whatever the filters leave.
const RIVALS = d3.group([...RANKING, ...CELLS, ...SOLVERS], (row) => `${row.study}/${row.task || ""}/${row.n ?? ""}`);
const rivals = (row) => RIVALS.get(`${row.study}/${row.task || ""}/${row.n ?? ""}`);

const cellOf = (row, changes) => {
  const { suite, version, profile, model, task, arm, n } = { ...row, ...changes };
  return CELL.get([suite, `v${version}`, profile, model, task, arm, n].join("/"));
};

function geometricMean(values) {
  if (!values.length || values.some((value) => !(value > 0))) return null;
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

function digits(value) {
  if (value == null) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
  return size < 1e-4 ? value.toExponential(2) : value.toPrecision(3);
}

function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds > 0 && seconds < 0.95) return seconds < 0.95e-3 ? `${+(1e6 * seconds).toPrecision(2)} µs` : `${+(1e3 * seconds).toPrecision(2)} ms`;
  for (const [unit, size, below] of [["s", 1, 60], ["min", 60, 60], ["h", 3600, 48]]) {
    const amount = seconds / size;
    if (Math.round(amount) < below) return `${amount < 10 ? +amount.toFixed(1) : Math.round(amount)} ${unit}`;
  }
  return `${Math.round(seconds / 86400)} days`;
}

const FORMS = {
  text: (value) => value || "–",
  count: (value) => (value == null ? "–" : value.toLocaleString("en-US")),
  large: (value) => (value == null ? "–" : d3.format(".3~s")(value)),
  number: digits,
  factor: (value, row, key) => (value == null ? "–" : `${row?.[`${key}_bound`] ? `${row[`${key}_bound`]} ` : ""}${digits(value)} ×`),
  percent: (value) => (value == null ? "–" : `${value > 0 ? "+" : ""}${Math.round(100 * value).toLocaleString("en-US")}%`),
  share: (value, row, key) => (value == null ? "–" : `${value} of ${row[`${key}_of`]}`),
  seconds: duration,
  flag: (value) => (value == null ? "–" : value ? "yes" : "no"),
};
const ARROWS = { "open-low": " ↓", "open-high": " ↑" };

const written = (column, row) => FORMS[column.form](row[column.key], row, column.key);
const comparable = (column, row) => {
  const value = row[column.key];
  return column.form === "share" && value != null ? value / row[`${column.key}_of`] : value;
};
const interval = (row, key = "error", write = digits) =>
  row[`${key}_low`] == null || row[`${key}_low`] === row[`${key}_high`]
    ? ""
    : `${write(row[`${key}_low`])}–${row[`${key}_high`] == null ? "diverged" : write(row[`${key}_high`])}`;
