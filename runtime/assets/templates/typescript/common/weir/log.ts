/** Lines for the operator. A batch may write 64 KiB; the rest is dropped. */

type Level = "debug" | "info" | "warn" | "error";
type Sink = (level: Level, message: string) => void;

// In Weir the guest attaches the host's; in a test outside of it nobody listens.
let sink: Sink = () => {};

export const log = {
  debug: (...message: unknown[]) => sink("debug", line(message)),
  info: (...message: unknown[]) => sink("info", line(message)),
  warn: (...message: unknown[]) => sink("warn", line(message)),
  error: (...message: unknown[]) => sink("error", line(message)),
};

/** From now on lines go there. */
export function attach(to: Sink): void {
  sink = to;
}

function line(parts: unknown[]): string {
  return parts.map((part) => (typeof part === "object" && part !== null ? shown(part) : String(part))).join(" ");
}

function shown(part: object): string {
  if (part instanceof Error) return String(part);
  try {
    return JSON.stringify(part, (_, value) => (typeof value === "bigint" ? String(value) : value));
  } catch {
    return String(part);
  }
}
