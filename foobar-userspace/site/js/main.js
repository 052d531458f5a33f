// The frame around the pages: the menu, and a router over the address's fragment.

import * as api from "./api.js";
import { element, notice } from "./dom.js";
import * as views from "./views.js";

const routes = [
  [/^\/?$/, views.home],
  [/^\/signup$/, views.signUp],
  [/^\/login$/, views.logIn],
  [/^\/new$/, views.write],
  [/^\/edit\/([^/]+)$/, views.edit],
  [/^\/article\/([^/]+)$/, views.read],
  [/^\/tag\/([^/]+)$/, views.byTag],
  [/^\/author\/([^/]+)$/, views.byAuthor],
];

const main = document.getElementById("main");
let visit = 0;

function find(hash) {
  const address = hash.replace(/^#/, "");
  for (const [pattern, view] of routes) {
    const match = pattern.exec(address);
    if (!match) continue;
    try {
      const parts = match.slice(1).map(decodeURIComponent);
      return () => view(...parts);
    } catch {
      return views.unknown;
    }
  }
  return views.unknown;
}

async function show() {
  // A page that comes late, after another was asked for, is not shown.
  const mine = ++visit;
  main.setAttribute("aria-busy", "true");
  let content;
  try {
    content = await find(location.hash)();
  } catch (error) {
    if (!(error instanceof api.Refusal)) console.error(error);
    content = views.failure(error);
  }
  if (mine !== visit) return;
  main.replaceChildren(...content.filter(Boolean));
  main.removeAttribute("aria-busy");
  const title = main.querySelector("h1")?.textContent;
  document.title = title ? `${title} · foobar` : "foobar";
  main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function menu() {
  const user = api.currentUser();
  const link = (id, href, text) => element("li", {}, element("a", { id, href }, text));
  const entries = user
    ? [
      link("new-article", "#/new", "Write"),
      element("li", {}, element("a", {
        id: "current-user", href: `#/author/${encodeURIComponent(user.username)}`, title: "Logged in",
      }, user.username)),
      element("li", {}, element("button", {
        id: "logout", type: "button", class: "quiet",
        onclick: () => {
          api.logOut();
          notice("Logged out.");
          if (/^#?\/?$/.test(location.hash)) show();
          else location.hash = "#/";
        },
      }, "Log out")),
    ]
    : [link("login", "#/login", "Log in"), link("signup", "#/signup", "Sign up")];
  document.getElementById("menu").replaceChildren(...entries);
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
let said = "";
window.addEventListener("hashchange", () => {
  // What was said just before this page stays for it; what is older goes.
  const now = document.getElementById("notice").textContent;
  if (now === said) notice("");
  said = document.getElementById("notice").textContent;
  show();
});
api.onUser(menu);

menu();
await api.resume();
show();
