"use strict";
const $ = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const resolve = (page, schema) => {
  const name = schema && schema.$ref && schema.$ref.split("/").pop();
  return name ? page.components.schemas[name] : schema;
};
const exampleOf = (page, content) => {
  const media = content["application/json"] || Object.values(content)[0] || {};
  if (media.example !== undefined) return media.example;
  const first = Object.values(media.examples || {})[0];
  if (first) return first.value;
  const schema = resolve(page, media.schema) || {};
  return schema.example !== undefined ? schema.example : (schema.examples || [""])[0];
};
const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

async function csrfToken() {
  const answer = await fetch("/api/csrf-token");
  return (await answer.json()).csrfToken;
}

async function attempt(operation, path, method, fields, body, output) {
  output.textContent = "…";
  const query = new URLSearchParams();
  let target = path;
  for (const [parameter, input] of fields) {
    if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    if (parameter.in === "query" && input.value) query.set(parameter.name, input.value);
  }
  const headers = {};
  for (const [parameter, input] of fields) {
    if (parameter.in === "header" && input.value) headers[parameter.name] = input.value;
  }
  const key = $("key").value.trim();
  if (key) headers.Authorization = `Bearer ${key}`;
  else if (method !== "get") headers["X-CSRF-Token"] = await csrfToken();
  if (body) headers["Content-Type"] = Object.keys(operation.requestBody.content)[0];
  const url = query.toString() ? `${target}?${query}` : target;
  try {
    const answer = await fetch(url, { method: method.toUpperCase(), headers, body: body ? body.value : undefined });
    output.textContent = `${answer.status} ${answer.statusText}\n`;
    const reader = answer.body ? answer.body.pipeThrough(new TextDecoderStream()).getReader() : null;
    let text = "";
    for (let part = reader ? await reader.read() : { done: true }; !part.done; part = await reader.read()) {
      text += part.value;
      output.textContent = `${answer.status} ${answer.statusText}\n${text}`;
    }
    try {
      output.textContent = `${answer.status} ${answer.statusText}\n${shown(JSON.parse(text))}`;
    } catch { /* not JSON: it stays as it came */ }
  } catch (error) {
    output.textContent = String(error);
  }
}

function operationView(page, path, method, operation) {
  const view = make("details", {}, make("summary", {},
    make("span", { className: "method", textContent: method.toUpperCase() }),
    make("code", { textContent: path }), ` ${operation.summary || ""}`));
  view.dataset.words = `${method} ${path} ${operation.summary || ""} ${operation.description || ""}`.toLowerCase();
  view.addEventListener("toggle", () => {
    if (view.dataset.filled || !view.open) return;
    view.dataset.filled = "yes";
    if (operation.description) view.append(make("p", { textContent: operation.description }));
    if (operation["x-roles"]) {
      view.append(make("p", { className: "note", textContent: `For: ${operation["x-roles"].join(", ")}` }));
    }
    const fields = (operation.parameters || []).map((given) => {
      const parameter = given.$ref ? page.components.parameters[given.$ref.split("/").pop()] : given;
      const input = make("input", { placeholder: parameter.description || "", autocomplete: "off" });
      view.append(make("label", { className: "field" }, `${parameter.name} `, input));
      return [parameter, input];
    });
    let body = null;
    if (operation.requestBody) {
      body = make("textarea", { spellcheck: false, value: shown(exampleOf(page, operation.requestBody.content)) || "" });
      view.append(make("label", { className: "field" }, "Body", body));
    }
    const output = make("pre", { textContent: "" });
    const button = make("button", { type: "button", textContent: "Try it" });
    button.addEventListener("click", () => attempt(operation, path, method, fields, body, output));
    const answers = Object.entries(operation.responses || {}).map(([status, answer]) => {
      const known = answer.$ref ? page.components.responses[answer.$ref.split("/").pop()] : answer;
      const example = known.content ? shown(exampleOf(page, known.content)) : "";
      return make("details", {}, make("summary", { textContent: `${status} ${known.description || ""}` }),
        make("pre", { textContent: example || "" }));
    });
    view.append(button, output, make("p", { className: "note", textContent: "Answers" }), ...answers);
  });
  return view;
}

async function show() {
  const page = await (await fetch("/api/openapi.json")).json();
  $("about").textContent = page.info.description || page.info.title;
  for (const [path, methods] of Object.entries(page.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      $("operations").append(operationView(page, path, method, operation));
    }
  }
  $("find").addEventListener("input", () => {
    const wanted = $("find").value.toLowerCase();
    for (const view of $("operations").children) view.hidden = !view.dataset.words.includes(wanted);
  });
}

show();
