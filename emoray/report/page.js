"use strict";
// The page's only script: it shows what stands in #answers-data, always as text, and asks nothing of anybody.
(() => {
  const told = JSON.parse(document.getElementById("answers-data").textContent);
  const at = (id) => document.getElementById("b-" + id);
  const [MODEL, STATE, QUESTION, TEMPLATE, INTENSITY, REPETITION, FLAGS, TEXT, READ] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const MOST = 200; // lines drawn at a time
  const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f]/g;
  let found = [], chosen = 0, drawn = 0;

  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const drawing = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const number = (x, places = 2) => x === null || x === undefined ? "–" : (Math.round(x * 10 ** places) / 10 ** places + 0).toFixed(places).replace("-", "−");
  const visible = (text) => text.replace(CONTROLS, (c) => String.fromCharCode(c === "\u007f" ? 0x2421 : 0x2400 + c.charCodeAt(0)));
  const state = (one) => `${told.states[one[STATE]][0]}° ${told.states[one[STATE]][1]}`;
  const reader = () => Number(at("reader").value);
  const read = (one) => one[READ][reader()] || null;
  const label = (one) => { const r = read(one); return !r || (r[0] < 0 && !r[2]) ? "not read" : r[0] < 0 ? "placed" : told.readers[reader()].labels[r[0]][0]; };
  const cosine = (one) => { const r = read(one); return r ? r[1] : null; };
  const flags = (one) => told.flags.filter((_, bit) => one[FLAGS] >> bit & 1);

  const options = (id, names, first) => {
    const kept = at(id).value;
    at(id).replaceChildren(...[...(first ? [[ "", first ]] : []), ...names.map((name, i) => [String(i), name])].map(([value, name]) => {
      const made = element("option", name);
      made.value = value;
      return made;
    }));
    if (kept && [...at(id).options].some((one) => one.value === kept)) at(id).value = kept;
  };
  const labels = () => {
    const shown = at("label").selectedOptions[0], kept = shown && shown.value !== "" ? shown.textContent : null;
    const names = told.readers.length ? told.readers[reader()].labels.map((one) => one[0]) : [];
    options("label", names, "any");
    at("label").value = names.includes(kept) ? String(names.indexOf(kept)) : ""; // readers number their labels each in their own way
  };

  const SORTS = [
    ["as asked for", (a, b) => a[MODEL] - b[MODEL] || a[STATE] - b[STATE] || a[QUESTION] - b[QUESTION] || a[REPETITION] - b[REPETITION]],
    ["cosine, lowest first", (a, b) => (cosine(a) ?? 9) - (cosine(b) ?? 9)],
    ["cosine, highest first", (a, b) => (cosine(b) ?? -9) - (cosine(a) ?? -9)],
    ["shortest first", (a, b) => a[TEXT].length - b[TEXT].length],
    ["longest first", (a, b) => b[TEXT].length - a[TEXT].length],
  ];

  const wanted = () => {
    const is = (id, place) => at(id).value === "" ? () => true : (one) => one[place] === Number(at(id).value);
    const search = at("search").value.toLowerCase(), [from, to] = [at("from").value, at("to").value];
    const flag = at("flag").value, chosenLabel = at("label").value;
    const tests = [
      is("model", MODEL), is("state", STATE), is("question", QUESTION), is("template", TEMPLATE),
      (one) => search === "" || one[TEXT].toLowerCase().includes(search),
      (one) => flag === "" || (Number(flag) < told.flags.length ? one[FLAGS] >> Number(flag) & 1 : one[FLAGS] === 0),
      (one) => chosenLabel === "" || (read(one) || [-1])[0] === Number(chosenLabel),
      (one) => from === "" || (cosine(one) !== null && cosine(one) >= Number(from)),
      (one) => to === "" || (cosine(one) !== null && cosine(one) <= Number(to)),
    ];
    return told.answers.filter((one) => tests.every((test) => test(one))).sort(SORTS[Number(at("sort").value)][1]);
  };

  const line = (one, place) => {
    const made = element("div", undefined, "line");
    made.id = "b-line-" + place;
    made.setAttribute("role", "option");
    made.setAttribute("aria-selected", "false");
    const dot = element("span", undefined, "state");
    dot.style.background = told.states[one[STATE]][2];
    const head = element("span", undefined, "head");
    head.append(dot, `${state(one)} · ${told.models[one[MODEL]]}`);
    const said = element("span", visible([...one[TEXT].slice(0, 320)].slice(0, 160).join("")), "excerpt");
    said.dir = "auto";
    made.append(head, element("span", `${label(one)} ${number(cosine(one))}`, "score"), said);
    made.addEventListener("click", () => { choose(place); at("list").focus(); });
    return made;
  };
  const more = (until) => {
    for (; drawn < Math.min(found.length, until); drawn++) at("list").append(line(found[drawn], drawn));
  };

  const named = (text, x, y) => {
    const left = x > 210, made = drawing("text", { x: left ? x - 16 : x + 16, y: y + 4, "text-anchor": left ? "end" : "start", class: "name" });
    made.textContent = text;
    return made;
  };
  const circle = (one) => {
    const [x, y] = [(v) => 150 + 110 * v, (a) => 150 - 110 * a];
    const made = drawing("svg", { viewBox: "0 0 300 300", role: "img", "aria-label": "The probabilities of this answer's labels on the circumplex" });
    made.append(drawing("circle", { cx: 150, cy: 150, r: 110, class: "ring" }), drawing("path", { d: "M40 150H260M150 40V260", class: "ring" }));
    const turn = told.states[one[STATE]][0] * Math.PI / 180, r = read(one);
    made.append(drawing("path", { d: `M150 150L${x(Math.cos(turn))} ${y(Math.sin(turn))}`, class: "asked" }));
    made.append(drawing("circle", { cx: x(Math.cos(turn)), cy: y(Math.sin(turn)), r: 6, fill: told.states[one[STATE]][2] }));
    if (r && r[2]) made.append(drawing("circle", { cx: x(r[2][0]), cy: y(r[2][1]), r: 6, class: "read" }));
    for (const [place, share] of (r ? r[3] : []).entries()) {
      const [, valence, arousal] = told.readers[reader()].labels[place];
      if (share < 5 || valence === undefined) continue;
      const dot = drawing("circle", { cx: x(valence), cy: y(arousal), r: (Math.sqrt(share / 1000) * 18).toFixed(1), class: place === r[0] ? "read top" : "read" });
      dot.append(drawing("title", {}));
      dot.firstChild.textContent = `${told.readers[reader()].labels[place][0]} ${number(share / 10, 1)} %`;
      made.append(dot);
      if (share >= 100) made.append(named(told.readers[reader()].labels[place][0], x(valence), y(arousal)));
    }
    return made;
  };
  const shares = (one) => {
    const r = read(one), list = element("ol", undefined, "shares");
    const ordered = (r ? r[3] : []).map((share, place) => [share, place]).sort((a, b) => b[0] - a[0]).slice(0, 6);
    for (const [share, place] of ordered) {
      const item = element("li"), bar = element("i");
      bar.style.width = share / 10 + "%";
      item.append(element("span", told.readers[reader()].labels[place][0]), element("span", `${number(share / 10, 1)} %`), bar);
      list.append(item);
    }
    return list;
  };
  const show = (one) => {
    const said = element("blockquote", visible(one[TEXT]));
    said.dir = "auto";
    const parts = [
      `Asked: ${state(one)}`, told.models[one[MODEL]], told.questions[one[QUESTION]], told.templates[one[TEMPLATE]],
      `intensity ${one[INTENSITY]}`, `repetition ${one[REPETITION] + 1}`, ...flags(one),
    ];
    const reading = element("p", `${label(one) === "not read" ? "Not read" : `Read as ${label(one)}`}, cosine ${number(cosine(one))}`, "reading");
    at("one").replaceChildren(element("p", parts.join(" · "), "reading"), said, reading, circle(one), shares(one));
  };

  const choose = (place) => {
    if (!found.length) return;
    const before = at("line-" + chosen);
    if (before) before.setAttribute("aria-selected", "false");
    chosen = Math.max(0, Math.min(found.length - 1, place));
    more(chosen + 20);
    const now = at("line-" + chosen);
    now.setAttribute("aria-selected", "true");
    at("list").setAttribute("aria-activedescendant", now.id);
    const list = at("list");
    if (now.offsetTop < list.scrollTop) list.scrollTop = now.offsetTop;
    if (now.offsetTop + now.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = now.offsetTop + now.offsetHeight - list.clientHeight;
    show(found[chosen]);
  };
  const anew = () => {
    found = wanted();
    drawn = chosen = 0;
    at("list").replaceChildren();
    at("list").removeAttribute("aria-activedescendant");
    at("list").scrollTop = 0;
    at("count").textContent = `${found.length.toLocaleString("en-US")} of ${told.answers.length.toLocaleString("en-US")} shown.`;
    at("one").replaceChildren();
    more(MOST);
    choose(0);
  };
  const clear = () => {
    for (const id of ["search", "model", "state", "question", "template", "label", "flag", "from", "to"]) at(id).value = "";
    anew();
  };

  const STEPS = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity, j: 1, k: -1 };
  at("list").addEventListener("keydown", (event) => {
    if (!(event.key in STEPS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(chosen + STEPS[event.key]);
  });
  at("list").addEventListener("scroll", () => {
    if (at("list").scrollTop + 2 * at("list").clientHeight > at("list").scrollHeight) more(drawn + MOST);
  });
  document.addEventListener("keydown", (event) => {
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    if (event.key === "/" && !typing) { event.preventDefault(); at("search").focus(); }
    if (event.key === "Escape" && event.target === at("search")) { at("search").value = ""; anew(); at("list").focus(); }
  });

  options("model", told.models, "any");
  options("state", told.states.map((one) => `${one[0]}° ${one[1]}`), "any");
  options("question", told.questions, "any");
  options("template", told.templates, "any");
  options("reader", told.readers.length ? told.readers.map((one) => one.name) : ["nobody yet"]);
  options("flag", [...told.flags, "none"], "any");
  options("sort", SORTS.map(([name]) => name));
  for (const id of ["search", "from", "to"]) at(id).addEventListener("input", anew);
  for (const id of ["model", "state", "question", "template", "label", "flag", "sort"]) at(id).addEventListener("change", anew);
  at("reader").addEventListener("change", () => { labels(); anew(); });
  for (const [place, tab] of document.querySelectorAll(".tabs input").entries()) {
    const same = () => { at("reader").value = String(place); labels(); anew(); }; // as the tables above
    tab.addEventListener("change", same);
    if (tab.checked) at("reader").value = String(place);
  }
  labels();
  at("clear").addEventListener("click", clear);
  document.getElementById("browser").hidden = false;
  document.getElementById("examples").classList.add("browsing");
  anew();
})();
