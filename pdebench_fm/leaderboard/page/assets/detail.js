// One model, and one cell with its records, trials and the command that recomputes it.

const SEARCH = {
  closed: "closed: rates on both sides of the chosen one were tried",
  "open-low": "open ↓: the smallest rate tried was chosen, so that a better one may lie below",
  "open-high": "open ↑: the largest rate tried was chosen, so that a better one may lie above",
};

const Facts = ({ facts }) =>
  html`<dl class="facts">${facts.filter(([, value]) => value != null && value !== false && value !== "" && value !== "–").map(([name, value]) =>
    html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

function Plain({ label, header, rows }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}><table><caption class="hidden">${label}</caption>
    <thead><tr>${header.map((name) => html`<th scope="col" key=${name}>${name}</th>`)}</tr></thead>
    <tbody>${rows.map((row, i) => html`<tr key=${i}>${row.map((value, j) => html`<td key=${j}>${value}</td>`)}</tr>`)}</tbody></table></div>`;
}

const quoted = (file) => (/^[\w./,=+-]+$/.test(file) ? `leaderboard/${file}` : `'leaderboard/${file.replaceAll("'", "'\\''")}'`);

function Copied({ text }) {
  const [done, set] = useState(false);
  const copy = () => navigator.clipboard.writeText(text).then(() => (set(true), setTimeout(() => set(false), 1500)));
  return html`<div class="command"><pre><code>${text}</code></pre>
    <button type="button" class="plain" onClick=${copy}>${done ? "Copied" : "Copy"}</button></div>`;
}

function trialsPlot(row, width) {
  const seen = row.records.flatMap((record) => record.trials.map((trial) => ({ ...trial, seed: record.seed,
    rate: trial.hyperparameters.learning_rate, chosen: trial.hyperparameters.learning_rate === record.learning_rate }))).filter((t) => t.validation > 0 && t.rate > 0);
  const ink = colourOf(row.model);
  const errors = d3.extent(seen, (t) => t.validation);
  const heights = errors[1] / errors[0] > 8 ? ticksIn(d3.range(-6, 6).flatMap((power) => [10 ** power, 3 * 10 ** power]), errors) : d3.ticks(...errors, 4);
  return { models: [], strokes: [], svg: Plot.plot({ ...BASE, width: Math.min(width, 560), height: 260, marginLeft: 56, marginTop: 28, marginBottom: 44, inset: 14,
    x: { type: "log", axis: null },
    y: { type: "log", axis: null },
    marks: [Plot.frame({ strokeOpacity: 0.2 }), ...logAxis(unique(seen.map((t) => t.rate)), (v) => `${+v.toPrecision(3)}`, "Learning rate"),
      Plot.gridY(heights), Plot.axisY(heights, { text: (v) => `${+v.toPrecision(4)}`, label: "Validation error" }), Plot.line(seen, { x: "rate", y: "validation", z: "seed", stroke: ink, strokeOpacity: 0.5, sort: "rate" }),
      Plot.dot(seen, { x: "rate", y: "validation", stroke: ink, strokeWidth: 2, fill: (t) => (t.chosen ? ink : "var(--page)"), r: 5 }),
      Plot.tip(seen, Plot.pointer({ x: "rate", y: "validation", title: (t) =>
        `seed ${t.seed}, rate ${t.rate}\nvalidation ${digits(t.validation)}${t.chosen ? ", chosen" : ""}\nbest epoch ${t.best_epoch} of ${t.epochs}`, ...TIP }))] }) };
}

function RecordView({ record, row }) {
  const values = (trial) => Object.entries(trial.hyperparameters).map(([key, value]) => `${key.replace("_", " ")} ${value}`).join(", ") || "–";
  const chosen = (trial) => trial.status === "ok" && trial.validation === record.validation && trial.hyperparameters.learning_rate === (record.learning_rate ?? undefined);
  return html`<section class="card" aria-label=${`Record of seed ${record.seed}`}>
    <h3>Seed ${record.seed}: ${record.error == null ? record.status : digits(record.error)} <small>${interval(record)}</small></h3>
    ${record.reason && html`<p class="warn">${record.reason}</p>`}
    <${Facts} facts=${[
      ["Record", html`<a href=${`${encodeURI(record.file)}#L${record.line}`}>${record.file}</a>, line ${record.line}`],
      ["Job id", html`<code class="wrap">${record.job}</code>`],
      ["Search", record.search && html`<span class=${record.search === "closed" ? "" : "warn"}>${SEARCH[record.search]}</span>`],
      ["Examples", `${record.test_examples} test, ${record.validation_examples ?? "unknown"} validation`],
      ["Fit", record.steps ? `${record.steps.toLocaleString("en-US")} steps, ${record.epochs.toLocaleString("en-US")} epochs` : ""],
      ["Ran on", `${record.device}, ${record.precision}, threads: ${record.threads}`],
      ["Software", record.software],
      ["Commit", record.commit && html`<code>${record.commit.slice(0, 12)}</code>`],
      ...record.metrics.map(({ name, value }) => [name.replaceAll("_", " "), digits(value)]),
    ]} />
    ${record.trials.length > 0 && html`<${Plain} label=${`Trials of seed ${record.seed}`}
      header=${["Trial", "Validation error", "Status", "Best epoch", "Time", "Job"]}
      rows=${record.trials.map((trial) => [chosen(trial) ? html`<b>${values(trial)}, chosen</b>` : values(trial), digits(trial.validation),
        trial.reason || trial.status, `${trial.best_epoch} of ${trial.epochs}`, duration(trial.train_seconds), html`<code>${trial.job}</code>`])} />`}
    ${record.confirmations.length > 0 && html`<${Plain} label=${`Second measurements of seed ${record.seed}`}
      header=${["Second measurement", "Difference", "Device", "Software"]}
      rows=${record.confirmations.map((other) => [other.error == null ? other.status : digits(other.error),
        html`<span class=${other.apart ? "warn" : ""}>${other.difference == null ? "another outcome" : `${digits(100 * other.difference)} %`}${other.apart ? ", beyond the spread" : ""}</span>`,
        `${other.device}, threads: ${other.threads}`, other.software])} />`}
    <p>Recompute this record. The job id will be the same:</p><${Copied} text=${record.command} />
    ${row.superseded && html`<p class="note">This version of the suite is superseded. Use the software above.</p>`}
  </section>`;
}

function CellView({ state }) {
  const row = CELL.get(state.id);
  if (!row) return html`<p>There is no cell ${state.id}. <a href=${linkTo(state, "cells")}>All cells</a></p>`;
  const best = row.best_scratch && row.best_scratch.split(", ").map((model) => cellOf(row, { model, arm: "scratch" })).filter(Boolean);
  const own = cellOf(row, { arm: "scratch" });
  const before = row.pretraining && CELLS.find((cell) => cell.study === row.study && cell.model === row.model && cell.arm === "pretraining" && cell.task === row.pretraining);
  const others = CELLS.filter((cell) => cell.study === row.study && cell.task === row.task && cell.n === row.n && (cell.arm === "pretraining") === (row.arm === "pretraining"));
  const link = (cell) => html`<a href=${cellLink(state, cell)}>${digits(cell.error)}</a>`;
  const rated = row.records.some((record) => record.trials.some((trial) => trial.hyperparameters.learning_rate));
  return html`<article><p class="trail"><a href=${linkTo(state, "cells")}>Cells</a> / <a href=${modelLink(state, row.model)}>${row.model}</a></p>
    <h2>${row.model} on ${row.task}, ${row.arm}${row.arm === "zero-shot" ? "" : `, N = ${row.n.toLocaleString("en-US")}`}</h2>
    <p class="headline"><b>${row.error == null ? row.status : digits(row.error)}</b> ${interval(row)} <span>mean relative L2 error${interval(row) && ", 95% interval"}</span></p>
    <${Facts} facts=${[
      ["Study", row.study], ["Shift", row.shift && `${row.shift}${row.overlap == null ? "" : `, overlap ${digits(row.overlap)}`}`], ["System", row.system],
      ["Pre-training", before && html`${row.pretraining}, error ${link(before)}`],
      ["Gain over own scratch", row.gain != null && html`${FORMS.factor(row.gain)}${own && html`, scratch ${link(own)}`}${row.hurts ? html`, <span class="warn">pre-training hurts</span>` : ""}`],
      ["Gain over best scratch", row.gain_best_scratch != null && html`${FORMS.factor(row.gain_best_scratch)}, ${best.map((cell) => html`${cell.model} ${link(cell)} `)}`],
      ["Data saving", row.saving != null && FORMS.factor(row.saving, row, "saving")],
      ["Verified", VERIFIES && row.verified], ["Confirmed by", row.apart ? html`<span class="warn">${row.confirmed}</span>` : row.confirmed],
      ["Seeds", `${row.seeds} of ${row.seeds_of} planned`], ["Parameters", FORMS.count(row.parameters)], ["Training, all trials", duration(row.train_seconds)],
      ["Prediction of one example", row.inference_seconds != null && `${duration(row.inference_seconds)} (${row.inference_on})`],
      ["Flops of a prediction", FORMS.large(row.flops)], ["Memory", row.memory != null && `${FORMS.large(row.memory)}B`],
      ["Rise when coefficients are exchanged", row.coefficients != null && FORMS.percent(row.coefficients)],
    ]} />
    ${rated && html`<h3>Search for the learning rate</h3><${Chart} label=${`Validation error of each trial of ${row.model} on ${row.task}, ${row.arm}, N = ${row.n}`}
      name="trials" draw=${(width) => trialsPlot(row, width)} />`}
    ${row.records.map((record) => html`<${RecordView} key=${record.job} ...${{ record, row }} />`)}
    <h3>All models and arms here</h3>
    <${Table} label="All models and arms here" state=${{ ...state, sort: state.sort || "error" }} change=${(changes) => go({ ...state, ...changes })}
      columns=${DATA.columns.cells.filter(({ key }) => ["model", "arm", "error", "gain", "gain_best_scratch", "search", "parameters"].includes(key))}
      groups=${[{ name: "", rows: sorted(others, DATA.columns.cells, state.sort || "error") }]} />
  </article>`;
}

// Who made a model, from what, and how to load it.
function CardView({ card }) {
  const link = (url, text) => (url ? html`<a href=${url}>${text}</a>` : text);
  const { code, weights, paper_url, training_data, hardware } = card;
  return html`<section class="card" aria-label="Model card"><h3>Model card</h3><${Facts} facts=${[
      ["Authors", card.authors], ["Code", link(code.url, code.licence)], ["Weights", weights ? link(weights.url, weights.licence) : "none released"],
      ["SHA-256 of weights", weights?.sha256 && html`<code class="wrap">${weights.sha256}</code>`],
      ["Paper", paper_url && link(paper_url, paper_url.replace(/^https:\/\/(doi\.org|arxiv\.org\/abs)\//, ""))],
      ["Trained before on", training_data.map((data, i) => html`${i ? "; " : ""}${link(data.url, data.name)}${data.licence ? ` (${data.licence})` : ""}${
        data.tasks && html`, <span class="warn">with ${data.tasks}</span>`}`)],
      ["Hardware", `${hardware.device}, ${hardware.hours} h`], ["Card", html`<a href=${encodeURI(card.file)}>${card.file}</a>`],
    ]} /><p>Load it:</p><${Copied} text=${card.load} />${card.notes && html`<p class="note">${card.notes}</p>`}</section>`;
}

function ModelView({ state }) {
  const rows = RANKING.filter((row) => row.model === state.id && (!row.superseded || state.old));
  if (!rows.length) return html`<p>There is no model ${state.id}. <a href=${linkTo(state, "ranking")}>All models</a></p>`;
  const cells = CELLS.filter((row) => row.model === state.id && (!row.superseded || state.old));
  const hurt = cells.filter((row) => row.hurts);
  const open = cells.filter((row) => row.search && row.search.includes("open"));
  const columns = DATA.columns.ranking.filter(({ key, shown }) => shown && key !== "selected" && key !== "model");
  const list = (found) => html`<ul class="cells">${found.map((row) => html`<li key=${row.id}><a href=${cellLink(state, row)}>${row.task}, ${row.arm}, N = ${row.n}</a>
    <small> ${row.study}, ${digits(row.error)}${row.gain == null ? "" : `, gain ${digits(row.gain)} ×`}</small></li>`)}</ul>`;
  const files = unique(cells.map((row) => row.records[0].file));
  const given = unique(cells.flatMap(({ records }) => records[0].command.match(/--set '\w+=…'|--pretrained \S+/g) || [])); // no record has these
  const verify = ["pdefm leaderboard verify", ...files.map(quoted), "--cells 5 --retrain", ...given].join(" ");
  return html`<article><p class="trail"><a href=${linkTo(state, "ranking")}>Ranking</a></p><h2>${state.id}</h2>
    <${Facts} facts=${[["Kind", rows[0].kind], ["Parameters", unique(d3.extent(rows, (row) => row.parameters).map(FORMS.count)).join(" to ")],
      ["Devices", unique(rows.map((row) => row.device)).join(", ")], ["Records", files.map((file, i) => html`${i ? "; " : ""}<a key=${file} href=${encodeURI(file)}>${file.split("/").slice(1, 3).join(", ")}</a>`)]]} />
    ${(CARDS.get(state.id) || CARDS.get(state.id.split(",")[0])) && html`<${CardView} card=${CARDS.get(state.id) || CARDS.get(state.id.split(",")[0])} />`}
    <${Table} label=${`Standing of ${state.id}`} state=${state} change=${(changes) => go({ ...state, ...changes })}
      columns=${[{ key: "study", label: "Study", definition: "Suite, version and profile.", form: "text" }, ...columns]}
      groups=${[{ name: "", rows: sorted(rows, columns, state.sort) }]} />
    <h3>Gain against shift</h3><${Chart} label=${`Gain of ${state.id} over its own scratch arm, against shift`} name=${`${state.id}-shift`}
      draw=${(width) => shiftPlot(cells, Math.min(width, 900), {})} onPick=${(row) => go({ ...readAddress(), view: "cell", id: row.id, sort: "" })} />
    <h3>Pre-training hurts (${hurt.length} cells)</h3>${hurt.length ? list(hurt) : html`<p>In no cell.</p>`}
    <details><summary>Open searches (${open.length} of ${cells.filter((row) => row.search).length} cells)</summary>${list(open)}</details>
    ${VERIFIES && html`<h3>Verify</h3><p>Train five records of each suite again, drawn at random:</p><${Copied} text=${verify} />`}
    <p><a href=${linkTo({ ...state, filters: { model: [state.id] } }, "cells")}>All cells of ${state.id}</a></p></article>`;
}
