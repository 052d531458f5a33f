// Forms: a label to each field, and what the API complains of beside the field that it is about.

import { element } from "./dom.js";
import { Refusal } from "./api.js";

/**
 * Makes a form. `prefix` begins every id: field `email` of `signup` is #signup-email, its error
 * #signup-email-error; the button is #signup-submit unless `submitId` says otherwise, and what belongs to no
 * field is said in #signup-error.
 */
export function form({ prefix, fields, submit, submitId, narrow = true, onSubmit }) {
  const general = element("p", { class: "error", id: `${prefix}-error`, role: "alert" });
  const button = element("button", { type: "submit", id: submitId ?? `${prefix}-submit` }, submit);
  const inputs = new Map();
  const made = element("form", { id: `${prefix}-form`, class: narrow ? "narrow" : undefined, novalidate: true });

  for (const { name, label, hint, rows, value, apiName = name, ...attributes } of fields) {
    const id = `${prefix}-${name}`;
    const described = [hint ? `${id}-hint` : null, `${id}-error`].filter(Boolean).join(" ");
    const input = rows
      ? element("textarea", { id, name, rows, "aria-describedby": described, ...attributes })
      : element("input", { id, name, type: "text", "aria-describedby": described, ...attributes });
    input.value = value ?? "";
    const error = element("p", { class: "error", id: `${id}-error` });
    inputs.set(apiName, { name, input, error });
    made.append(element("div", { class: "field" },
      element("label", { for: id }, label),
      hint ? element("span", { class: "hint", id: `${id}-hint` }, hint) : null,
      input,
      error));
  }
  made.append(general, button);

  const clear = () => {
    general.textContent = "";
    for (const { input, error } of inputs.values()) {
      input.removeAttribute("aria-invalid");
      error.textContent = "";
    }
  };
  const complain = (errors) => {
    const homeless = [];
    let first = null;
    for (const [field, messages] of Object.entries(errors)) {
      const place = inputs.get(field);
      if (!place) {
        homeless.push(`${field} ${messages.join(", ")}`);
        continue;
      }
      place.input.setAttribute("aria-invalid", "true");
      place.error.textContent = messages.join(", ");
      first ??= place.input;
    }
    general.textContent = homeless.join("; ");
    (first ?? button).focus();
  };

  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    clear();
    const missing = {};
    const values = {};
    for (const [apiName, { name, input }] of inputs) {
      values[name] = input.value;
      if (input.required && !input.value.trim()) missing[apiName] = ["can't be blank"];
    }
    if (Object.keys(missing).length) {
      complain(missing);
      return;
    }
    button.disabled = true;
    try {
      await onSubmit(values);
    } catch (error) {
      button.disabled = false;
      if (!(error instanceof Refusal)) throw error;
      complain(error.errors);
      return;
    }
    button.disabled = false;
  });
  return made;
}
