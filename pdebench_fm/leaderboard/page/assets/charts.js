// The plots. Each takes the rows that the filters leave, and draws one SVG, which can be saved as it is seen.

const COLOURS = ["#4269d0", "#e8890c", "#2f9e58", "#d6455d", "#8f5fc6", "#1a9bb0", "#9c6b4e", "#c4579a", "#6b7280", "#a3a013"];
const colourOf = (model) => COLOURS[MODELS.indexOf(model) % COLOURS.length];
const BASE = { style: { fontSize: "12px", fontFamily: "inherit", background: "transparent", overflow: "visible" } };
const TIP = { lineHeight: 1.4, textPadding: 10, pathFilter: "none", fill: "var(--page)", stroke: "var(--soft)" };
const colour = { domain: MODELS, range: MODELS.map(colourOf) };
const short = (value) => (value >= 1 ? d3.format("~s")(value) : digits(value).replace(/0+$/, ""));
const describe = (row) =>
  `${row.model}, ${row.arm}\n${row.task}, N = ${row.n}\nerror ${digits(row.error)} ${interval(row) && `(${interval(row)})`}` +
  (row.gain == null ? "" : `\ngain ${digits(row.gain)} ×, over best scratch ${FORMS.factor(row.gain_best_scratch)}`);

// D3 leaves out labels of a logarithmic axis; this one writes them all.
const logAxis = (ticks, text, label) => [Plot.gridX(ticks), Plot.axisX(ticks, { text, label })];
const TIMES = [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10, 60, 600, 3600, 36000, 360000, 3600000];
const COUNTS = d3.range(0, 12).map((power) => 10 ** power);
const ticksIn = (ticks, values) => {
  const [low, high] = d3.extent(values);
  const inside = ticks.filter((tick) => low / 1.5 <= tick && tick <= high * 1.5);
  return inside.length > 1 ? inside : [low, high];
};

// Models, and what the strokes mean, above the plot and within the SVG.
function addLegend(svg, models, strokes) {
  const box = d3.select(svg).insert("g", ":first-child").attr("class", "legend").attr("font-size", 12).attr("fill", "currentColor")
    .attr("text-anchor", "start");
  const width = +svg.getAttribute("width");
  let [x, y] = [4, 12];
  const entries = [...models.map((name) => ({ name, fill: colourOf(name) })), ...strokes];
  for (const { name, fill, dash } of entries) {
    const needed = 28 + 7 * name.length;
    if (x + needed > width && x > 4) [x, y] = [4, y + 18];
    if (fill) box.append("circle").attr("cx", x + 5).attr("cy", y - 4).attr("r", 5).attr("fill", fill);
    else box.append("line").attr("x1", x).attr("x2", x + 16).attr("y1", y - 4).attr("y2", y - 4).attr("stroke", "currentColor")
      .attr("stroke-width", 2).attr("stroke-dasharray", dash);
    box.append("text").attr("x", x + (fill ? 15 : 22)).attr("y", y).text(name);
    x += needed;
  }
  const grown = y + 8;
  svg.setAttribute("viewBox", `0 ${-grown} ${width} ${+svg.getAttribute("height") + grown}`);
  svg.setAttribute("height", +svg.getAttribute("height") + grown);
  box.attr("transform", `translate(0, ${-grown})`);
  return svg;
}

// Small multiples: each row gets the column and line of its panel.
function panels(rows, key, width, least, height) {
  const names = unique(rows.map((row) => row[key]));
  const across = Math.max(1, Math.min(names.length, Math.floor(width / least)));
  const place = new Map(names.map((name, i) => [name, { fx: i % across, fy: Math.floor(i / across) }]));
  const down = Math.ceil(names.length / across);
  const fx = (row) => place.get(row[key]).fx;
  const fy = (row) => place.get(row[key]).fy;
  const titles = Plot.text(names, { fx: (name) => place.get(name).fx, fy: (name) => place.get(name).fy, text: (name) => name,
    frameAnchor: "top-left", dy: -18, fontWeight: 600, fill: "currentColor" });
  return { options: { fx: { axis: null, padding: 0.14 }, fy: { axis: null, paddingInner: 0.26, paddingOuter: 0 }, height: 84 + down * height, marginTop: 44, marginBottom: 40 },
    fx, fy, titles };
}

function errorsPlot(rows, width) {
  const seen = rows.filter((row) => row.error > 0 && row.arm !== "pretraining" && (row.n > 0 || row.arm !== "scratch"));
  const least = Math.min(...seen.filter(({ n }) => n > 0).map(({ n }) => n));
  const zero = least / 4;
  const x = ({ n }) => n || zero;
  const { options, fx, fy, titles } = panels(seen, "task", width, 300, 230);
  const sizes = unique(seen.map(({ n }) => n)).sort((a, b) => a - b);
  const kept = sizes.filter((n, i) => sizes.length < 6 || i % 2 === 0 || n === 0);
  const dash = (arm) => (SCORED.includes(arm) ? null : arm === "scratch" ? "5 4" : "1 4");
  const lines = unique(seen.map(({ arm }) => dash(arm))).map((each) =>
    Plot.line(seen.filter(({ arm }) => dash(arm) === each), { x, y: "error", fx, fy, stroke: "model", strokeWidth: 1.8, strokeDasharray: each,
      z: (row) => row.model + (SCORED.includes(row.arm) ? "" : row.arm), sort: "n" }));
  return { models: unique(seen.map(({ model }) => model)),
    strokes: [{ name: "zero-shot and fine-tune", dash: null }, { name: "scratch", dash: "5 4" }],
    svg: Plot.plot({ ...BASE, ...options, width, marginLeft: 48, color: colour,
      x: { type: "log", axis: null },
      y: { type: "log", label: "Error", tickFormat: short, ticks: 5, grid: true },
      marks: [Plot.frame({ strokeOpacity: 0.2 }), titles, ...logAxis(kept.map((n) => n || zero), (n) => (n === zero ? "0" : short(n)), "N"), ...lines,
        Plot.ruleX(seen.filter((row) => row.error_low > 0 && row.error_high), { x, y1: "error_low", y2: "error_high", fx, fy, stroke: "model" }),
        Plot.dot(seen, { x, y: "error", fx, fy, fill: "model", r: 2.6 }),
        Plot.tip(seen, Plot.pointer({ x, y: "error", fx, fy, title: describe, ...TIP }))] }) };
}

function shiftPlot(rows, width, state) {
  const key = state.over === "best" ? "gain_best_scratch" : "gain";
  const seen = rows.filter((row) => row[key] > 0 && row.arm === "fine-tune" && row.shift);
  const models = unique(seen.map(({ model }) => model)).sort(natural);
  const means = d3.rollups(seen, (group) => geometricMean(group.map((row) => row[key])), (row) => row.shift, (row) => row.model)
    .flatMap(([shift, found]) => found.map(([model, mean]) => ({ shift, model, mean })));
  const shifts = choices.shift.filter((shift) => seen.some((row) => row.shift === shift));
  const tip = (row) => `${describe(row)}\nshift ${row.shift}${row.overlap == null ? "" : `, overlap ${digits(row.overlap)}`}`;
  return { models, strokes: [], svg: Plot.plot({ ...BASE, width, height: Math.min(460, 260 + width / 5), marginTop: 24, marginLeft: 48, color: colour, grid: true,
    x: { domain: models, axis: null, padding: 0.3 }, fx: { domain: shifts, label: "Shift", padding: 0.12, axis: "bottom" },
    y: { type: "log", label: key === "gain" ? "Gain over own scratch" : "Gain over best scratch", tickFormat: (v) => `${short(v)} ×` },
    marks: [Plot.frame({ strokeOpacity: 0.2 }), Plot.ruleY([1], { strokeWidth: 1.5 }),
      Plot.dot(seen, { fx: "shift", x: "model", y: key, fill: "model", r: 3, fillOpacity: 0.45 }),
      Plot.tickY(means, { fx: "shift", x: "model", y: "mean", stroke: "model", strokeWidth: 3 }),
      width < 600 ? null : Plot.text(means, { fx: "shift", x: "model", y: "mean", text: (row) => digits(row.mean), dy: -9, fontWeight: 600, fontSize: 11,
        stroke: "var(--page)", fill: "currentColor", strokeWidth: 3 }),
      Plot.tip(seen, Plot.pointer({ fx: "shift", x: "model", y: key, title: tip, ...TIP }))] }) };
}

// The costs that error can be drawn against. Solvers have the time of a prediction only, and no training.
const COSTS = {
  train_seconds: { label: "Training time", form: duration },
  flops: { label: "Flops of a prediction", form: (value) => d3.format("~s")(value) },
  inference_seconds: { label: "Time of a prediction", form: duration },
};

// Solvers in the studies of these rows: mean error and median time over the tasks.
function solverPoints(rows, state) {
  const seen = SOLVERS.filter((row) => rows.some(({ study }) => study === row.study) && (!row.superseded || state.old));
  return d3.rollups(seen, (group) => ({ score: group[0].mean_error, inference_seconds: d3.median(group, (row) => row.inference_seconds),
    inference_on: group[0].inference_on }), (row) => row.study, (row) => row.solver)
    .flatMap(([study, found]) => found.map(([solver, values]) => ({ study, solver, ...values }))).filter(({ score }) => score > 0);
}

const costPlot = (rows, width, state) => {
  const x = COSTS[state.by] ? state.by : "train_seconds";
  return scorePlot(x, COSTS[x].label, COSTS[x].form)(rows, width, state);
};

function scorePlot(x, label, form) {
  return (_, width, state) => {
    const all = seenRanking(state).filter((row) => row.score > 0);
    const seen = all.filter((row) => row[x] > 0);
    const solvers = x === "inference_seconds" ? solverPoints(all, state) : [];
    if (!seen.length && !solvers.length) {
      return { models: [], strokes: [], svg: Plot.plot({ ...BASE, width, height: 60, marks: [Plot.text(["No record here says this."], { frameAnchor: "middle" })] }) };
    }
    const { options, fx, fy, titles } = panels([...seen, ...solvers], "study", width, 300, 230);
    const solverTip = (row) => `${row.solver}, a solver\nerror ${digits(row.score)}\n${form(row[x])}\n${row.inference_on}`;
    const title = (row) => `${row.model}\nscore ${digits(row.score)}\n${label.toLowerCase()} ${form(row[x])}` +
      `\ngain ${FORMS.factor(row.gain)}, over best scratch ${FORMS.factor(row.gain_best_scratch)}`;
    return { models: unique(seen.map(({ model }) => model)).sort(natural), strokes: [], svg: Plot.plot({ ...BASE, ...options, width, marginLeft: solvers.length ? 58 : 48, color: colour,
      x: { type: "log", axis: null },
      y: { type: "log", label: "Score", tickFormat: short, ticks: 5, grid: true }, inset: 12, insetRight: solvers.length ? 62 : 12,
      marks: [Plot.frame({ strokeOpacity: 0.2 }), titles, ...logAxis(ticksIn(form === duration ? TIMES : COUNTS, [...seen, ...solvers].map((row) => row[x])), form, label),
        Plot.ruleX(seen.filter((row) => row.score_low > 0), { x, y1: "score_low", y2: "score_high", fx, fy, stroke: "model" }),
        Plot.dot(seen, { x, y: "score", fx, fy, fill: "model", r: 6 }),
        Plot.dot(solvers, { x, y: "score", fx, fy, stroke: "currentColor", strokeWidth: 1.5, symbol: "diamond", r: 5 }),
        Plot.text(solvers, { x, y: "score", fx, fy, text: "solver", dx: 9, textAnchor: "start", fontSize: 11, fill: "currentColor" }),
        Plot.tip(solvers, Plot.pointer({ x, y: "score", fx, fy, title: solverTip, ...TIP })),
        Plot.tip(seen, Plot.pointer({ x, y: "score", fx, fy, title, ...TIP }))] }) };
  };
}

// How probably the score of a model is below another's, from the draws of the bootstrap. It is for all cells of a study,
// so that it is left out if the filters choose some of them.
function wins(rows, state) {
  const scored = rows.filter((row) => row.error > 0 && SCORED.includes(row.arm));
  const whole = !CELL_FILTERS.some((key) => chosen(state, key).length);
  const groups = d3.group(scored, (row) => row.model);
  const models = [...groups.keys()].sort(natural);
  return models.flatMap((model) => models.filter((other) => other !== model).map((other) => {
    const pairs = groups.get(model).map((row) => [row, cellOf(row, { model: other })]).filter(([, theirs]) => theirs && theirs.error > 0);
    const won = pairs.filter(([ours, theirs]) => ours.error < theirs.error).length;
    const against = whole && pairs.length && STANDING.get(`${pairs[0][0].study}/${model}`).wins.find((each) => each.against === other);
    return { model, other, won, of: pairs.length, probability: against ? against.probability : null };
  })).filter((pair) => pair.of);
}

function winsPlot(rows, width, state) {
  const pairs = wins(rows, state);
  const models = unique(pairs.map(({ model }) => model));
  const side = Math.min(width, 150 + 130 * models.length);
  const text = (pair) => `${pair.probability == null ? "" : `${Math.round(100 * pair.probability)}%\n`}${pair.won} of ${pair.of}`;
  const share = (pair) => pair.probability ?? pair.won / pair.of;
  return { models: [], strokes: [], svg: Plot.plot({ ...BASE, width: side, height: 70 + 62 * models.length, marginLeft: 130, marginTop: 44, padding: 0.04,
    x: { domain: models, axis: "top", label: "against", tickSize: 0 }, y: { domain: models, label: "model", tickSize: 0 },
    color: { type: "identity" }, opacity: { type: "identity" },
    marks: [Plot.cell(pairs, { x: "other", y: "model", rx: 4, fill: (pair) => (share(pair) < 0.5 ? "#e8890c" : "#4269d0"),
      fillOpacity: (pair) => 0.06 + Math.abs(share(pair) - 0.5) }),
      Plot.text(pairs, { x: "other", y: "model", text, fontSize: 12.5, lineHeight: 1.35, fill: "currentColor" })] }) };
}

const PLOTS = {
  errors: { label: "Error against N", draw: errorsPlot, oneStudy: true,
    about: "Mean relative L2 error on the test set with its 95% interval. N = 0 is zero-shot. An untrained network, scratch at N = 0, is not drawn. Click a point for its trials and record." },
  shift: { label: "Gain against shift", draw: shiftPlot, over: true,
    about: "Each dot is a task and N; bars are geometric means. Above 1, the pre-training pays." },
  cost: { label: "Error against cost", draw: costPlot, by: true,
    about: "Score against the training time behind it (pre-training and the scored arms, all trials and seeds), or against what the prediction of one example costs. Diamonds are numerical solvers, with their mean error; they use the equation and are not ranked." },
  size: { label: "Error against size", draw: scorePlot("parameters", "Parameters", short), about: "Score against fitted parameters." },
  wins: { label: "Pairwise wins", draw: winsPlot, oneStudy: true, table: wins,
    about: "Probability that the model of the row has the lower score, by the bootstrap of the intervals, and the number of cells of zero-shot and fine-tune won. A filter of cells leaves the numbers only." },
};

function styled(svg) {
  const copy = svg.cloneNode(true);
  const { color, backgroundColor, fontFamily } = getComputedStyle(document.body);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  Object.assign(copy.style, { color, background: backgroundColor, fontFamily, overflow: "visible" });
  copy.style.setProperty("--page", backgroundColor);
  return new XMLSerializer().serializeToString(copy);
}

function savePng(svg, name) {
  const image = new Image();
  const [width, height] = [+svg.getAttribute("width"), +svg.getAttribute("height")];
  image.onload = () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 2 * width, height: 2 * height });
    canvas.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
    canvas.toBlob((blob) => save(name, blob));
  };
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(styled(svg))}`;
}

function Chart({ draw, label, name, onPick }) {
  const box = useRef();
  useEffect(() => {
    const paint = () => {
      const { svg, models, strokes } = draw(Math.max(280, box.current.clientWidth));
      const drawn = svg.tagName === "svg" ? svg : svg.querySelector("svg:last-of-type");
      if (models.length || strokes.length) addLegend(drawn, models, strokes);
      drawn.setAttribute("role", "img");
      drawn.setAttribute("aria-label", label);
      if (onPick) drawn.addEventListener("click", () => svg.value && onPick(svg.value));
      box.current.replaceChildren(drawn);
    };
    let width = box.current.clientWidth;
    paint();
    const watch = new ResizeObserver(() => box.current && box.current.clientWidth !== width && ((width = box.current.clientWidth), paint()));
    watch.observe(box.current);
    return () => watch.disconnect();
  });
  const svg = () => box.current.querySelector("svg");
  return html`<figure class="chart"><div ref=${box} class="canvas"></div>
    <p class="tools"><button type="button" class="plain" onClick=${() => save(`${name}.svg`, styled(svg()), "image/svg+xml")}>SVG</button>
    <button type="button" class="plain" onClick=${() => savePng(svg(), `${name}.png`)}>PNG</button></p></figure>`;
}
