// What is shown, kept in the address after "#", so that a link restores it.

const VIEWS = { ranking: "Ranking", cells: "Cells", ...(SOLVERS.length ? { solvers: "Solvers" } : {}), plots: "Plots", about: "Definitions" };
const FILTERS = DATA.filters.map(([key, label]) => ({ key, label }));
const CELL_FILTERS = ["shift", "system", "n", "arm", "search", "hurts"]; // they choose cells, not models
const ORDERS = { shift: SHIFTS, size: SIZES };

const KEYS = ["id", "plot", "study", "over", "by", "q", "sort", "cols", "page", "old"];

function readAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  const state = { view: found.get("view") || "ranking", filters: {} };
  for (const key of KEYS) if (found.get(key)) state[key] = found.get(key);
  for (const { key } of FILTERS) if (found.has(key)) state.filters[key] = found.getAll(key);
  return state;
}

function address(state) {
  const words = new URLSearchParams();
  if (state.view !== "ranking") words.append("view", state.view);
  for (const key of KEYS) if (state[key]) words.append(key, state[key]);
  for (const { key } of FILTERS) for (const value of state.filters[key] || []) words.append(key, value);
  return `#${words}`;
}

// A view keeps the filters, and drops what belongs to another view.
const linkTo = (state, view, changes = {}) =>
  address({ view, filters: state.filters, q: state.q, old: state.old, ...changes });
const cellLink = (state, row) => linkTo(state, "cell", { id: row.id });
const modelLink = (state, model) => linkTo(state, "model", { id: model });

// The cells behind a number of the ranking.
const BEHIND = { score: { arm: SCORED }, coefficients: { arm: SCORED }, hurts: { hurts: ["true"] }, open: { search: ["open-low", "open-high"] } };
for (const key of ["gain", "gain_best_scratch", "gain_baseline", "saving"]) BEHIND[key] = { arm: ["fine-tune"] };
const linkBehind = (state, row, key) =>
  linkTo(state, "cells", { q: "", filters: { suite: [row.suite], profile: [row.profile], model: [row.model], ...BEHIND[key] } });

const chosen = (state, key) => state.filters[key] || [];

function passes(state, row, keys) {
  if (row.superseded && !state.old) return false;
  for (const { key } of FILTERS) {
    const values = chosen(state, key);
    if (values.length && keys.includes(key) && !values.includes(String(row[key]))) return false;
  }
  const text = [row.model, row.solver, row.study, row.task, row.arm, row.system, row.shift].join(" ").toLowerCase();
  return (state.q || "").toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

const seenCells = (state) => CELLS.filter((row) => passes(state, row, FILTERS.map(({ key }) => key)));

// The cells that a score of the selection is the mean of, by study and model.
function selectedScores(state) {
  const keys = ["suite", "profile", ...CELL_FILTERS];
  const arms = chosen(state, "arm").length ? chosen(state, "arm") : SCORED;
  const found = {};
  for (const row of CELLS) {
    if (row.seeds_of > 0 && arms.includes(row.arm) && passes({ ...state, q: "" }, row, keys)) {
      ((found[row.study] ||= {})[row.model] ||= []).push(row.error);
    }
  }
  return found;
}

function seenRanking(state) {
  const models = FILTERS.map(({ key }) => key).filter((key) => !CELL_FILTERS.includes(key));
  const scores = selectedScores(state);
  const rows = RANKING.filter((row) => passes(state, row, models)).map((row) => {
    const cells = scores[row.study] || {};
    const most = Math.max(...Object.values(cells).map((errors) => errors.length));
    const mine = cells[row.model] || [];
    return { ...row, selected: mine.length === most ? geometricMean(mine) : null };
  });
  return CELL_FILTERS.some((key) => chosen(state, key).length) ? rows.filter((row) => scores[row.study]) : rows;
}

const choices = {};
for (const { key } of FILTERS) {
  const rows = CELL_FILTERS.includes(key) ? CELLS : [...RANKING, ...CELLS];
  const values = unique(rows.map((row) => row[key]).filter((value) => value != null && value !== ""));
  const place = (value) => (ORDERS[key] || []).indexOf(value);
  choices[key] = values.sort((a, b) => place(a) - place(b) || natural(String(a), String(b))).map(String);
}

function sorted(rows, columns, sort) {
  const column = columns.find(({ key }) => key === (sort || "").replace(/^-/, ""));
  if (!column) return rows;
  const sign = sort.startsWith("-") ? -1 : 1;
  const compare = (a, b) => (typeof a === "string" ? natural(a, b) : a - b);
  return [...rows].sort((one, other) => {
    const [a, b] = [comparable(column, one), comparable(column, other)];
    const [none, missing] = [a == null || a === "", b == null || b === ""];
    return none || missing ? none - missing : sign * compare(a, b); // what has no value is last either way
  });
}

function columnsOf(state, table) {
  const all = DATA.columns[table];
  if (state.cols) return all.filter(({ key }) => state.cols.split(".").includes(key));
  const selecting = CELL_FILTERS.some((key) => chosen(state, key).length);
  return all.filter(({ key, shown }) => (key === "selected" ? selecting : shown));
}
