// Values as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function size(bytes) {
  let unit = 0;
  while (bytes >= 1023.5 && unit < UNITS.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${bytes.toFixed(unit === 0 || bytes >= 99.95 ? 0 : 1)} ${UNITS[unit]}`;
}

export function rate(bytes, seconds) {
  return seconds > 0 ? `${size(Math.max(0, bytes) / seconds)}/s` : "–";
}

export function span(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function percent(part, whole) {
  if (!whole) return "–";
  if (part >= whole) return "100%";
  return `${Math.min(99, Math.floor((part * 100) / whole))}%`;
}

export function short(digest) {
  const hex = digest.slice(digest.indexOf(":") + 1);
  return hex.slice(0, 12);
}

export function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

export function clock(seconds) {
  const two = (number) => String(number).padStart(2, "0");
  const moment = new Date(seconds * 1000);
  return `${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}`;
}

// The name of an image without what nobody needs to read.
export function brief(reference) {
  return reference.replace(/^docker\.io\/(library\/)?/, "");
}
