// The pages. Each is a function that returns the elements of the main part; it may ask the API first.

import * as api from "./api.js";
import { element, notice, time } from "./dom.js";
import { form } from "./form.js";

const PAGE = 10;
const go = (hash) => { location.hash = hash; };
const path = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;
const heading = (text) => element("h1", { id: "page-heading" }, text);

const tagLinks = (tags, current) => element("ul", { class: "tags", "aria-label": "Tags" },
  ...tags.map((tag) => element("li", {},
    element("a", { href: path("tag", tag), "aria-current": tag === current ? "page" : undefined }, tag))));

const meta = (article) => element("p", { class: "meta" },
  "by ", element("a", { href: path("author", article.author.username), rel: "author" }, article.author.username),
  ", ", time(article.createdAt));

const card = (article) => element("article", { class: "card" },
  element("h2", {}, element("a", { href: path("article", article.slug) }, article.title)),
  meta(article),
  element("p", {}, article.description),
  article.tagList.length ? tagLinks(article.tagList) : null);

/** A list of articles, a page at a time. `filter` is a tag or an author. */
async function list(title, filter, tag) {
  const shown = element("div", { id: "article-list" });
  const more = element("button", { type: "button", id: "more-articles", hidden: true }, "More");
  const error = element("p", { class: "error", role: "alert" });
  let offset = 0;
  const load = async () => {
    const page = await api.listArticles({ ...filter, limit: PAGE, offset });
    offset += page.articles.length;
    shown.append(...page.articles.map(card));
    more.hidden = page.articles.length === 0 || offset >= page.articlesCount;
    if (offset === 0) shown.append(element("p", { id: "no-articles" }, "There are no articles here yet."));
  };
  more.addEventListener("click", async () => {
    more.disabled = true;
    error.textContent = "";
    await load().catch((refusal) => { error.textContent = refusal.message; });
    more.disabled = false;
  });
  const [tags] = await Promise.all([api.listTags(), load()]);
  const all = tags.length
    ? element("section", { "aria-labelledby": "tags-heading" },
      element("h2", { id: "tags-heading", class: "meta" }, "Tags"),
      element("div", { id: "tag-list" }, tagLinks(tags, tag)))
    : null;
  return [heading(title), all, shown, error, more];
}

export const home = () => list("Articles", {});
export const byTag = (tag) => list(`Articles on ${tag}`, { tag }, tag);
export const byAuthor = (author) => list(`Articles by ${author}`, { author });

export function signUp() {
  return [
    heading("Sign up"),
    form({
      prefix: "signup",
      submit: "Sign up",
      fields: [
        { name: "username", label: "User name", required: true, autocomplete: "username" },
        { name: "email", label: "E-mail", type: "email", required: true, autocomplete: "email" },
        { name: "password", label: "Password", type: "password", required: true, autocomplete: "new-password" },
      ],
      onSubmit: async (values) => {
        await api.signUp({ username: values.username.trim(), email: values.email.trim(), password: values.password });
        notice(`Welcome, ${api.currentUser().username}.`);
        go("#/");
      },
    }),
    element("p", {}, "You have an account? ", element("a", { href: "#/login" }, "Log in"), "."),
  ];
}

export function logIn() {
  return [
    heading("Log in"),
    form({
      prefix: "login",
      submit: "Log in",
      fields: [
        { name: "email", label: "E-mail", type: "email", required: true, autocomplete: "email" },
        { name: "password", label: "Password", type: "password", required: true, autocomplete: "current-password" },
      ],
      onSubmit: async (values) => {
        try {
          await api.logIn({ email: values.email.trim(), password: values.password });
        } catch (error) {
          if (error.errors?.credentials) error.errors = { "E-mail or password": ["is wrong"] };
          throw error;
        }
        notice(`Welcome back, ${api.currentUser().username}.`);
        go("#/");
      },
    }),
    element("p", {}, "No account yet? ", element("a", { href: "#/signup" }, "Sign up"), "."),
  ];
}

const tagList = (text) => [...new Set(text.split(/[,\s]+/).filter(Boolean))];

function editor(title, submit, article, save) {
  return [
    heading(title),
    form({
      prefix: "article",
      submit,
      submitId: "article-publish",
      narrow: false,
      fields: [
        { name: "title", label: "Title", required: true, value: article?.title },
        { name: "description", label: "What is it about?", required: true, value: article?.description },
        { name: "body", label: "Text", rows: 14, required: true, value: article?.body },
        {
          name: "tags", apiName: "tagList", label: "Tags", hint: "Separated by commas or spaces",
          value: article?.tagList.join(", "),
        },
      ],
      onSubmit: async ({ title: name, description, body, tags }) => {
        const saved = await save({ title: name.trim(), description: description.trim(), body, tagList: tagList(tags) });
        go(path("article", saved.slug));
      },
    }),
  ];
}

export function write() {
  if (!api.currentUser()) return logIn();
  return editor("Write an article", "Publish", null, async (values) => {
    const saved = await api.publish(values);
    notice("Published.");
    return saved;
  });
}

export async function edit(slug) {
  if (!api.currentUser()) return logIn();
  const article = await api.readArticle(slug);
  return editor("Edit the article", "Save", article, async (values) => {
    const saved = await api.change(slug, values);
    notice("Saved.");
    return saved;
  });
}

export async function read(slug) {
  const article = await api.readArticle(slug);
  const own = api.currentUser()?.username === article.author.username;
  const error = element("p", { class: "error", id: "article-delete-error", role: "alert" });
  return [
    element("article", {},
      element("h1", { id: "article-heading" }, article.title),
      meta(article),
      element("p", { class: "lead", id: "article-lead" }, article.description),
      element("div", { class: "text", id: "article-text" }, article.body),
      article.tagList.length ? tagLinks(article.tagList) : null),
    own ? element("div", { class: "row" },
      element("a", { class: "button", id: "article-edit", href: path("edit", slug) }, "Edit"),
      remover(slug, error)) : null,
    error,
  ];
}

/** The first click asks, the second deletes. */
function remover(slug, error) {
  let asked = false;
  const button = element("button", { type: "button", class: "danger", id: "article-delete" }, "Delete");
  button.addEventListener("blur", () => {
    asked = false;
    button.textContent = "Delete";
  });
  button.addEventListener("click", async () => {
    if (!asked) {
      asked = true;
      button.textContent = "Really delete?";
      return;
    }
    button.disabled = true;
    try {
      await api.remove(slug);
      notice("Deleted.");
      go("#/");
    } catch (refusal) {
      error.textContent = refusal.message;
      button.disabled = false;
    }
  });
  return button;
}

export const unknown = () => [heading("Not found"), element("p", {}, "There is nothing at this address.")];

export const failure = (refusal) => [
  heading(refusal.status === 404 ? "Not found" : "That did not work"),
  element("p", { class: "error", id: "page-error", role: "alert" }, refusal.message),
  element("p", {}, element("a", { href: "#/" }, "To the front page")),
];
