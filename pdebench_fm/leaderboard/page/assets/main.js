// The views, and the way from the address to the page.

const SORTS = { ranking: "rank", cells: "" };
const PAGE = 100;

function RankingView({ state, change }) {
  const columns = columnsOf(state, "ranking");
  const rows = seenRanking(state);
  const groups = STUDIES.map((study) => {
    const peers = rows.filter((row) => row.study === study.study);
    const notes = [study.under_trained && "under-trained: at this scale models are not trained to the end", study.superseded && "superseded",
      study.awaits_newer && "the suite has a newer version, without results yet",
      !study.ranked && "no ranks, because the suite's plan is unknown"].filter(Boolean);
    return { name: study.study, rows: sorted(peers, DATA.columns.ranking, state.sort || "rank"),
      note: notes.length > 0 && html`<small>${notes.join("; ")}</small>` };
  }).filter((group) => group.rows.length);
  return html`<div class="bar"><p role="status">${rows.length} rows in ${groups.length} studies. Scores of different studies do not compare.</p>
      <span class="tools"><${ColumnMenu} ...${{ state, change, table: "ranking" }} />
      <button type="button" class="plain" onClick=${() => save("ranking.csv", csv([{ key: "study", form: "text" }, ...columns], groups.flatMap((g) => g.rows)), "text/csv")}>CSV</button></span></div>
    <${Table} label="Ranking of models" title ...${{ columns, groups, state: { ...state, sort: state.sort || "rank" }, change }} />`;
}

function CellsView({ state, change }) {
  const columns = columnsOf(state, "cells");
  const rows = sorted(seenCells(state), DATA.columns.cells, state.sort);
  const last = Math.max(1, Math.ceil(rows.length / PAGE));
  const page = Math.min(last, Math.max(1, +state.page || 1));
  const shown = rows.slice((page - 1) * PAGE, page * PAGE);
  const turn = (to, label, off) => html`<button type="button" class="plain" disabled=${off} onClick=${() => change({ page: String(to) })}>${label}</button>`;
  return html`<div class="bar"><p role="status">${rows.length.toLocaleString("en-US")} cells${last > 1 ? `, page ${page} of ${last}` : ""}</p>
      <span class="tools">${last > 1 && html`${turn(page - 1, "Previous", page === 1)} ${turn(page + 1, "Next", page === last)}`}
      <${ColumnMenu} ...${{ state, change, table: "cells" }} />
      <button type="button" class="plain" onClick=${() => save("cells.csv", csv(columns, rows), "text/csv")}>CSV</button></span></div>
    <${Table} label="Cells" ...${{ columns, state, change }} groups=${[{ name: "", rows: shown }]} />`;
}

function SolversView({ state, change }) {
  const columns = DATA.columns.solvers;
  const rows = SOLVERS.filter((row) => passes(state, row, ["suite", "profile"]));
  const groups = STUDIES.map(({ study }) => ({ name: study, rows: sorted(rows.filter((row) => row.study === study), columns, state.sort) })).filter((group) => group.rows.length);
  return html`<div class="bar"><p role="status">${rows.length} rows in ${groups.length} studies. Solvers use the equation, so they are not ranked with models.</p>
      <span class="tools"><button type="button" class="plain" onClick=${() => save("solvers.csv", csv([{ key: "study", form: "text" }, ...columns], rows), "text/csv")}>CSV</button></span></div>
    <${Table} label="Numerical solvers" title ...${{ columns: columns.filter(({ shown }) => shown), groups, state, change }} />`;
}

function PlotsView({ state, change }) {
  const name = PLOTS[state.plot] ? state.plot : "errors";
  const { label, about, draw, oneStudy, over, by, table } = PLOTS[name];
  const seen = seenCells(state);
  const studies = unique(seen.map((row) => row.study));
  const study = studies.includes(state.study) ? state.study : studies.find((each) => byName[each].profile !== "smoke") || studies[0];
  const rows = oneStudy ? seen.filter((row) => row.study === study) : seen;
  const csvRows = table ? table(rows, state) : rows;
  const csvColumns = table ? Object.keys(csvRows[0] || {}).map((key) => ({ key, form: "text" })) : DATA.columns.cells;
  return html`<div class="bar"><div class="tabs" role="group" aria-label="Plot">${Object.entries(PLOTS).map(([key, plot]) =>
      html`<button type="button" key=${key} aria-pressed=${key === name} onClick=${() => change({ plot: key })}>${plot.label}</button>`)}</div>
      <span class="tools">${oneStudy && html`<label>Study <select value=${study} onChange=${(event) => change({ study: event.target.value })}>
        ${studies.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>`}
      ${over && html`<label>Over <select value=${state.over || "own"} onChange=${(event) => change({ over: event.target.value })}>
        <option value="own">own scratch</option><option value="best">best scratch of any model</option></select></label>`}
      ${by && html`<label>Cost <select value=${state.by || "train_seconds"} onChange=${(event) => change({ by: event.target.value })}>
        ${Object.entries(COSTS).map(([key, cost]) => html`<option key=${key} value=${key}>${cost.label}</option>`)}</select></label>`}
      <button type="button" class="plain" onClick=${() => save(`${name}.csv`, csv(csvColumns, csvRows), "text/csv")}>CSV</button></span></div>
    <h2>${label}${oneStudy ? html` <small>${study}</small>` : ""}</h2><p class="note">${about}</p>
    ${rows.length ? html`<${Chart} key=${name} label=${`${label}${oneStudy ? `, ${study}` : ""}. ${about} The view Cells has the same rows as a table.`} name=${name}
      draw=${(width) => draw(rows, width, state)} onPick=${(row) => row.id ? go({ view: "cell", id: row.id, filters: state.filters }) : row.model && go({ view: "model", id: row.model, filters: state.filters })} />`
      : html`<p>No cell passes the filters.</p>`}`;
}

function AboutView() {
  const list = (columns) => html`<dl class="definitions">${columns.map(({ key, label, definition }) => html`<div key=${key}><dt>${label}</dt><dd>${definition}</dd></div>`)}</dl>`;
  return html`<article><h2>Definitions</h2>
    <p>A study is a suite, version and profile. A cell is a model, task, arm and number of downstream examples N. Every cell ends at its records: file, line and job id,
      all trials, and the command that computes them again. <code>pdefm leaderboard check</code> compares this page with the records, byte by byte.</p>
    <h3>Ranking</h3>${list(DATA.columns.ranking)}<h3>Cells</h3>${list(DATA.columns.cells)}
    ${SOLVERS.length > 0 && html`<h3>Solvers</h3>${list(DATA.columns.solvers)}`}
    <p class="note">Drawn with Observable Plot and D3 (ISC), Preact (MIT) and htm (Apache 2.0). The source of this page has their licences.</p></article>`;
}

const PAGES = { ranking: RankingView, cells: CellsView, solvers: SolversView, plots: PlotsView, about: AboutView, model: ModelView, cell: CellView };

// Hold a definition beside what the pointer or the keyboard is on.
function Hint() {
  const [hint, set] = useState(null);
  useEffect(() => {
    const show = (event) => {
      const from = event.target.closest && event.target.closest("[data-tip]");
      document.querySelectorAll("[aria-describedby=hint]").forEach((each) => each.removeAttribute("aria-describedby"));
      if (!from) return set(null);
      from.setAttribute("aria-describedby", "hint");
      const { left, bottom } = from.getBoundingClientRect();
      set({ text: from.dataset.tip, left: Math.max(8, Math.min(left, innerWidth - 330)), top: bottom + 6 });
    };
    const hide = (event) => event.key === "Escape" && set(null);
    for (const kind of ["mouseover", "focusin"]) document.addEventListener(kind, show);
    document.addEventListener("keydown", hide);
  }, []);
  return html`<div id="hint" role="tooltip" hidden=${!hint} style=${hint && `left: ${hint.left}px; top: ${hint.top}px`}>${hint && hint.text}</div>`;
}

let refresh;
function go(state) {
  history.pushState(null, "", address(state));
  refresh();
  scrollTo(0, 0);
}

function App() {
  const [, count] = useState(0);
  refresh = () => count((n) => n + 1);
  const state = readAddress();
  useEffect(() => {
    for (const kind of ["hashchange", "popstate"]) addEventListener(kind, () => refresh());
  }, []);
  const View = Object.hasOwn(PAGES, state.view) ? PAGES[state.view] : RankingView;
  useEffect(() => {
    document.title = `${state.id || VIEWS[state.view] || "Ranking"} · pdebench_fm leaderboard`;
  }, [state.view, state.id]);
  const change = (changes) => {
    history.replaceState(null, "", address({ ...state, ...changes }));
    refresh();
  };
  return html`<header><div><h1><a href="#">pdebench_fm <span>leaderboard</span></a></h1><p>Is a PDE foundation model worth its pre-training?</p></div>
      <nav aria-label="Views">${Object.entries(VIEWS).map(([view, label]) => html`<a key=${view} href=${linkTo(state, view)}
        aria-current=${View === PAGES[view] ? "page" : null}>${label}</a>`)}</nav></header>
    <main id="main" tabindex="-1">${["ranking", "cells", "solvers", "plots"].includes(state.view) && html`<${Filters} ...${{ state, change }} />`}
      <${View} key=${state.view + (state.id || "")} ...${{ state, change }} /></main>
    <footer>Generated by <code>pdefm leaderboard build</code>. For programs: <a href="leaderboard.json">leaderboard.json</a>, <a href="leaderboard.csv">leaderboard.csv</a>.</footer>
    <${Hint} />`;
}

render(html`<${App} />`, document.getElementById("app"));
