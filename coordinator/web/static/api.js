// The page is a client of the same API as the command line.

/** What the coordinator refused, in its own words. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `the coordinator answered HTTP ${status}`);
    this.status = status;
    this.code = problem.code ?? "";
  }
}

let signedOut = () => {};

/** Call this when a request is refused for want of a session. */
export function onSignedOut(handler) {
  signedOut = handler;
}

/** One request → { value, etag }. Raises Refusal, also when the coordinator cannot be reached (status 0). */
export async function request(method, path, { body, etag, fresh } = {}) {
  const headers = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (etag) headers["if-match"] = etag;
  if (method === "POST" && fresh !== false) headers["idempotency-key"] = crypto.randomUUID();
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin" });
  } catch {
    throw new Refusal(0, { detail: "the coordinator cannot be reached: is this computer online, and the coordinator running?" });
  }
  const isJson = (response.headers.get("content-type") ?? "").includes("json");
  const value = isJson ? await response.json() : await response.text();
  if (response.ok) return { value, etag: response.headers.get("etag") };
  const refusal = new Refusal(response.status, isJson ? value : {});
  if (refusal.status === 401) signedOut();
  throw refusal;
}

const path = (parts) => parts.map((part) => encodeURIComponent(part)).join("/");

/** GET /v1/admin/PARTS → the JSON. */
export async function get(...parts) {
  return (await request("GET", `/v1/admin/${path(parts)}`)).value;
}

/** Everything of a list that comes in pages, as one array. `key` names it in the answer; `onanswer` sees each page. */
export async function list(key, parts, query = {}, limit = 10_000, onanswer = () => {}) {
  const found = [];
  let cursor = null;
  do {
    const asked = new URLSearchParams({ ...query, ...(cursor ? { after: cursor } : {}) });
    const { value } = await request("GET", `/v1/admin/${path(parts)}${asked.size ? `?${asked}` : ""}`);
    found.push(...value[key]);
    onanswer(value);
    cursor = value.next ?? null;
  } while (cursor && found.length < limit);
  return found;
}

/** Change something: send("PATCH", ["networks", name], { body, etag }) → the JSON. */
export async function send(method, parts, options) {
  return (await request(method, `/v1/admin/${path(parts)}`, options)).value;
}

/** What `send` with the same arguments would change, without doing it → [{ text, nodes, count, warning }]. */
export async function tryOut(method, parts, options) {
  return (await request(method, `/v1/admin/${path(parts)}?dry_run=1`, { ...options, fresh: false })).value.changes;
}

/** GET with the ETag that an edit of it has to show. */
export function getTagged(...parts) {
  return request("GET", `/v1/admin/${path(parts)}`);
}
