// A text as a QR code, drawn by the coordinator.

import { h } from "./dom.js";
import { request } from "./api.js";

/** An element with the code; its text never is in an address. */
export async function qr(text) {
  const { value } = await request("POST", "/v1/admin/qr", { body: { text }, fresh: false });
  const image = new Image();
  image.alt = "The same as a QR code";
  image.width = 256;
  image.src = URL.createObjectURL(new Blob([value], { type: "image/svg+xml" }));
  return h("div", { class: "qr" }, image);
}
