// The API: calls, the token that they carry, and errors as one kind of value.

const TOKEN = "foobar.token";
const PATIENCE_MS = 20000;

/** What the API refused: a status, and messages by field. */
export class Refusal extends Error {
  constructor(status, errors) {
    super(Object.entries(errors).map(([field, messages]) => `${field} ${messages.join(", ")}`).join("; "));
    this.status = status;
    this.errors = errors;
  }
}

let user = null;
const listeners = new Set();

/** Who is logged in, or null. */
export const currentUser = () => user;

/** Calls back whenever somebody logs in or out. */
export const onUser = (listener) => listeners.add(listener);

function setUser(next) {
  user = next;
  if (next) localStorage.setItem(TOKEN, next.token);
  else localStorage.removeItem(TOKEN);
  for (const listener of listeners) listener();
}

async function call(method, path, body) {
  const token = localStorage.getItem(TOKEN);
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Token ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json; charset=utf-8";
  let response;
  try {
    response = await fetch(`/api${path}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
  } catch {
    throw new Refusal(0, { server: ["cannot be reached; try again in a moment"] });
  }
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  const errors = answer?.errors ?? { server: [`answered ${response.status}; try again in a moment`] };
  if (response.status === 401 && errors.token && token) setUser(null);
  throw new Refusal(response.status, errors);
}

const query = (values) => {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null);
  return given.length ? `?${new URLSearchParams(given)}` : "";
};
const article = (slug) => `/articles/${encodeURIComponent(slug)}`;

export async function signUp(values) {
  setUser((await call("POST", "/users", { user: values })).user);
}
export async function logIn(values) {
  setUser((await call("POST", "/users/login", { user: values })).user);
}
export function logOut() {
  setUser(null);
}
/** Finds out who the kept token belongs to. A token that is no longer good is forgotten. */
export async function resume() {
  if (!localStorage.getItem(TOKEN)) return;
  const answer = await call("GET", "/user").catch(() => null);
  if (answer) setUser(answer.user);
}
export const listArticles = (filter) => call("GET", `/articles${query(filter)}`);
export const listTags = async () => (await call("GET", "/tags")).tags;
export const readArticle = async (slug) => (await call("GET", article(slug))).article;
export const publish = async (values) => (await call("POST", "/articles", { article: values })).article;
export const change = async (slug, values) => (await call("PUT", article(slug), { article: values })).article;
export const remove = (slug) => call("DELETE", article(slug));
