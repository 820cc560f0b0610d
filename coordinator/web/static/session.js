// Who is signed in. The cookie is the browser's secret; this page only asks whom it stands for.

import { request } from "./api.js";
import { go } from "./router.js";

let known = null;

/** The one signed in: { name, is_admin, … }. Raises Refusal 401. */
export async function who() {
  known ??= request("GET", "/v1/me").then(({ value }) => ({ ...value, is_admin: value.everywhere === "admin" }), (error) => { known = null; throw error; });
  return known;
}

const RIGHTS = ["read", "own", "enrol", "admin"];

/** Whether the one signed in may do so much on a network: the page leaves out what would be refused. */
export async function may(right, network) {
  const me = await who();
  return RIGHTS.indexOf(me.everywhere ?? me.networks[network.id]) >= RIGHTS.indexOf(right);
}

/** Ask again: somebody signed in or changed. */
export function forget() {
  known = null;
}

export async function signOut() {
  await request("POST", "/v1/sign-out", { fresh: false });
  forget();
  go("/sign-in", { replace: true });
}
