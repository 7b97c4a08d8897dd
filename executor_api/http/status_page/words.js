// Figures as people say them.

export function duration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return "–";
  const seconds = milliseconds / 1000;
  if (seconds < 1) return `${rounded(milliseconds)} ms`;
  if (seconds < 600) return `${rounded(seconds)} s`;
  if (seconds < 36000) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

const rounded = (number) => String(number >= 100 ? Math.round(number) : Number(number.toPrecision(2)));

export const count = (number) => number.toLocaleString("en");

export const share = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} %` : "–");

export function bytes(number) {
  if (number < 1024) return `${number} B`;
  const power = Math.min(4, Math.floor(Math.log2(number) / 10));
  return `${(number / 1024 ** power).toFixed(1)} ${["", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

const two = (number) => String(number).padStart(2, "0");

// The minute of the day here.
export const minuteOf = (at) => `${two(at.getHours())}:${two(at.getMinutes())}`;

// The time of day here, with the date if it is another.
export function clock(instant, withSeconds = true) {
  const at = new Date(instant);
  const time = `${minuteOf(at)}${withSeconds ? `:${two(at.getSeconds())}` : ""}`;
  const date = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-");
  return at.toDateString() === new Date().toDateString() ? time : `${date} ${time}`;
}

export const plural = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;
