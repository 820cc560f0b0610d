// Figures as a person reads them. Instants are Unix time in seconds.

const STEPS = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "d"]];

/** Seconds, in the largest unit that fits. */
function duration(seconds) {
  const [, size, unit] = STEPS.find(([limit]) => Math.abs(seconds) < limit);
  return `${Math.round(seconds / size)} ${unit}`;
}

/** A length of time, whole: "5 min", "2 d". */
export const lasting = (seconds) => duration(seconds);

/** How long ago, or in how long. */
export function ago(at, now = Date.now() / 1000) {
  if (at === null || at === undefined) return "never";
  const age = now - at;
  if (Math.abs(age) < 2) return "now";
  return age > 0 ? `${duration(age)} ago` : `in ${duration(-age)}`;
}

/** Date and time as the reader's place writes them. */
export function instant(at) {
  return at === null || at === undefined ? "" : new Date(at * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** "1 node", "3 nodes". */
export function counted(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

/** Words with commas or blanks between, as they are entered; empty: none. */
export function split(text) {
  return (text ?? "").split(/[\s,]+/).filter(Boolean);
}

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Octets: "980 B", "1.4 MB". */
export function size(octets) {
  let value = octets, unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) { value /= 1000; unit += 1; }
  return `${unit && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** Octets a second. */
export function speed(octets) {
  return `${size(octets)}/s`;
}

const BROWSERS = [[/Edg\//, "Edge"], [/OPR\//, "Opera"], [/Firefox\//, "Firefox"], [/Chrome\//, "Chrome"], [/Safari\//, "Safari"], [/^curl\//, "curl"]];
const SYSTEMS = [[/Android/, "Android"], [/iPhone|iPad/, "iOS"], [/Windows/, "Windows"], [/Mac OS X/, "macOS"], [/CrOS/, "ChromeOS"], [/Linux/, "Linux"]];

/** "Firefox on Linux", of what a browser says it is; all of that when none is known by it. */
export function browserOf(agent) {
  const name = (kinds) => kinds.find(([sign]) => sign.test(agent))?.[1];
  const browser = name(BROWSERS), system = name(SYSTEMS);
  return browser ? (system ? `${browser} on ${system}` : browser) : agent || "not told";
}
