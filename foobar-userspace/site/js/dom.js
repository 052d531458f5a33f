// Elements without markup in strings: text is always text, so nothing a person wrote can become code.

/** Makes an element. `properties` are attributes; functions become listeners ("onclick"). */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

const days = new Intl.DateTimeFormat(undefined, { dateStyle: "long" });

/** A time of the API as people read it. */
export function time(text) {
  const when = new Date(text);
  const readable = Number.isNaN(when.getTime()) ? text : days.format(when);
  return element("time", { datetime: text, title: text }, readable);
}

/** Says something to everyone, also to those who listen to the page; gone with the next page but one. */
export function notice(text) {
  document.getElementById("notice").textContent = text;
}
