// The tables: a header to sort by, shaded cells, and the menu of columns.

// Shading: blue is better, orange worse. A factor is shaded by its distance from 1, other numbers by their place among
// their rivals. A difference below a factor of 1.5 does not fill the scale.
function shade(column, row) {
  const value = comparable(column, row);
  if (!column.better || value == null || column.form === "flag") return null;
  if (column.form === "factor") {
    const strength = Math.max(-1, Math.min(1, Math.log2(value) / 2));
    return `--heat: ${Math.round(38 * Math.abs(strength))}%; --hue: var(--${strength < 0 ? "bad" : "good"})`;
  }
  const scale = column.form === "share" ? (x) => x : (x) => Math.log(Math.max(x, 1e-12));
  const values = rivals(row).map((rival) => comparable(column, rival)).filter((x) => x != null).map(scale);
  if (values.length < 2) return null;
  const [low, high] = d3.extent(values);
  const share = (scale(value) - low) / Math.max(high - low, column.form === "share" ? 0.1 : Math.log(1.5));
  return `--heat: ${Math.round(38 * (column.better === "low" ? 1 - share : share))}%; --hue: var(--good)`;
}

function Content({ column, row, state }) {
  const text = written(column, row);
  if (column.key === "model") return html`<a href=${modelLink(state, row.model)}>${text}</a>`;
  const ends = interval(row, column.key, FORMS[column.form]);
  if (column.key === "rank" && row.rank != null) {
    return html`<span class=${`rank rank-${row.rank}`}>${text}</span>${ends && html` <small>${ends}</small>`}${row.preview && html` <small class="warn">preview</small>`}`;
  }
  if (column.key === "error" && row.id) {
    const shown = row.error == null ? row.status : text;
    return html`<a href=${cellLink(state, row)}>${shown}</a> <small>${ends}</small>`;
  }
  if (column.key === "verified") return html`<span class=${row.tier === "claimed" ? "claimed" : "verified"}>${text}</span>`;
  if (column.key === "confirmed") return html`<span class=${row.apart ? "warn" : ""}>${text}</span>`;
  if (column.key === "search" && row.search) {
    return html`<span class=${row.search.includes("open") ? "warn" : ""}>${row.search}${ARROWS[row.search] || ""}</span>`;
  }
  if (column.form === "flag") return row[column.key] ? html`<span class="warn">${text}</span>` : text;
  if (BEHIND[column.key] && !row.id && row[column.key] != null) {
    return html`<a class="number" href=${linkBehind(state, row, column.key)} title="The cells behind this number">${text}</a> ${ends && html`<small>${ends}</small>`}`;
  }
  return ends ? html`${text} <small>${ends}</small>` : text;
}

const NUMERIC = ["count", "large", "number", "factor", "percent", "share", "seconds"];

function Table({ label, columns, groups, state, change, title }) {
  const [key, down] = [(state.sort || "").replace(/^-/, ""), (state.sort || "").startsWith("-")];
  const header = columns.map((column) => {
    const direction = column.key === key ? (down ? "descending" : "ascending") : "none";
    const first = column.better === "high" ? "-" : ""; // the best first
    const next = column.key !== key ? first + column.key : state.sort === first + key ? (down ? "" : "-") + key : "";
    return html`<th scope="col" aria-sort=${direction} class=${`${NUMERIC.includes(column.form) ? "num" : ""} col-${column.key}`}>
      <button type="button" data-tip=${column.definition} onClick=${() => change({ sort: next, page: "" })}>
        ${column.label}<span aria-hidden="true">${{ none: "", ascending: " ▲", descending: " ▼" }[direction]}</span>
      </button></th>`;
  });
  const body = groups.map(({ name, rows, note }) => html`<tbody key=${name}>
    ${title && html`<tr class="group"><th colspan=${columns.length} scope="rowgroup"><span>${name} ${note}</span></th></tr>`}
    ${rows.map((row) => html`<tr key=${row.id || row.model}>${columns.map((column, at) => {
      const after = columns.findIndex(({ key }) => key === "model") + 1;
      if (row.reason && row.score == null && after && at >= after) {
        return at === after && html`<td class="reason" colspan=${columns.length - after}>Not ranked: ${row.reason}</td>`;
      }
      const style = shade(column, row);
      const kind = `${NUMERIC.includes(column.form) ? "num" : ""} ${style ? "heat" : ""} col-${column.key}`;
      return column.key === "model"
        ? html`<th scope="row" class="col-model"><${Content} ...${{ column, row, state }} /></th>`
        : html`<td class=${kind} style=${style}><${Content} ...${{ column, row, state }} /></td>`;
    })}</tr>`)}</tbody>`);
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}>
    <table><caption class="hidden">${label}</caption><thead><tr>${header}</tr></thead>${body}</table></div>`;
}

// A menu that opens below its button; Escape and a click elsewhere close it.
function Menu({ label, note, children }) {
  const box = useRef();
  useEffect(() => {
    const close = (event) => {
      const outside = event.type === "click" && !box.current.contains(event.target);
      if (!box.current.open || !(outside || event.key === "Escape")) return;
      box.current.open = false;
      if (event.key === "Escape") box.current.querySelector("summary").focus();
    };
    for (const kind of ["click", "keydown"]) document.addEventListener(kind, close);
    return () => ["click", "keydown"].forEach((kind) => document.removeEventListener(kind, close));
  }, []);
  const fit = () => {
    const list = box.current.querySelector("fieldset");
    list.style.left = `${Math.min(0, innerWidth - 8 - box.current.getBoundingClientRect().left - list.offsetWidth)}px`;
  };
  return html`<details class="menu" ref=${box} onToggle=${fit}>
    <summary>${label}${note ? html` <b>${note}</b>` : ""}</summary><fieldset><legend class="hidden">${label}</legend>${children}</fieldset>
  </details>`;
}

const FLAGS = { true: "yes", false: "no" };

function Filters({ state, change }) {
  const menus = FILTERS.filter(({ key }) => choices[key].length > 1).map(({ key, label }) => {
    const values = chosen(state, key);
    const set = (value, on) => {
      const next = choices[key].filter((each) => (each === value ? on : values.includes(each)));
      change({ filters: { ...state.filters, [key]: next }, page: "" });
    };
    return html`<${Menu} key=${key} label=${label} note=${values.length > 1 ? values.length : FLAGS[values[0]] || values[0]}>
      ${choices[key].map((value) => html`<label key=${value}><input type="checkbox" checked=${values.includes(value)}
        onChange=${(event) => set(value, event.target.checked)} /> ${FLAGS[value] || value}</label>`)}</${Menu}>`;
  });
  const any = state.q || state.old || Object.values(state.filters).some((values) => values.length);
  const search = (event) => change({ q: event.target.value, page: "" });
  return html`<form class="filters" role="search" aria-label="Filters" onSubmit=${(event) => event.preventDefault()}>
    <input type="search" placeholder="Search" aria-label="Search models, tasks and suites" value=${state.q || ""} onInput=${search} />
    ${menus}
    ${STUDIES.some((study) => study.superseded) && html`<label class="check"><input type="checkbox" checked=${!!state.old}
      onChange=${(event) => change({ old: event.target.checked ? "1" : "" })} /> older versions</label>`}
    ${any && html`<button type="button" class="plain" onClick=${() => change({ filters: {}, q: "", old: "", page: "" })}>Clear</button>`}
  </form>`;
}

function ColumnMenu({ state, change, table }) {
  const shown = columnsOf(state, table).map(({ key }) => key);
  const set = (key, on) => {
    const next = DATA.columns[table].map((column) => column.key).filter((each) => (each === key ? on : shown.includes(each)));
    change({ cols: next.join(".") });
  };
  return html`<${Menu} label="Columns">${DATA.columns[table].map(({ key, label, definition }) => html`<label key=${key} title=${definition}>
    <input type="checkbox" checked=${shown.includes(key)} disabled=${key === "model"}
      onChange=${(event) => set(key, event.target.checked)} /> ${label}</label>`)}
    ${state.cols && html`<button type="button" class="plain" onClick=${() => change({ cols: "" })}>Reset</button>`}</${Menu}>`;
}

function save(name, content, type) {
  const link = document.createElement("a");
  link.href = content instanceof Blob ? URL.createObjectURL(content) : URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// A spreadsheet must not take text for a formula.
function csv(columns, rows) {
  const quoted = (value) => {
    const text = value == null ? "" : String(value);
    const safe = typeof value === "string" && /^[=+\-@]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const keys = columns.flatMap(({ key, form }) =>
    form === "share" ? [key, `${key}_of`] : rows.some((row) => row[`${key}_low`] != null) ? [key, `${key}_low`, `${key}_high`] : [key]);
  return [keys, ...rows.map((row) => keys.map((key) => row[key]))].map((line) => line.map(quoted).join(",")).join("\n") + "\n";
}
